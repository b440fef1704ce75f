// Fabrics as JSON text: what read_fabrics reads back.
#include <fmt/format.h>

#include "sim/json_text.h"
#include "sim/profile_fabric.h"

namespace steploom {
namespace {

template <class Items, class Text>
std::string array_of(const Items& items, const Text& text) {
  std::string all;
  for (const auto& item : items) all += (all.empty() ? "\n" : ",\n") + text(item);
  return "[" + all + "]";
}

std::string to_json(const CtaCurve& c) {
  return fmt::format(
      "{{\"collective\": {}, \"ranks\": {}, \"ctas\": {},\n\"bytes\": {},\n\"grids\": {},\n\"ns\": "
      "{}}}",
      json_string(name_of(c.collective)), c.ranks, c.ctas, json_list(c.bytes), json_list(c.grids),
      json_list(c.ns));
}

std::string to_json(const CommunicatorMemory& m) {
  const auto part = [](const CommunicatorMemory::Part& p) {
    return fmt::format("{{\"once\": {}, \"each\": {}, \"per_cta\": {}}}", p.once, p.each,
                       p.per_cta);
  };
  return fmt::format(
      "{{\"made\": {}, \"rings\": {}, \"messages\": {}, \"idle\": {},\n\"source\": {}}}",
      part(m.made), part(m.rings), part(m.messages), m.idle, json_string(m.source));
}

std::string to_json(const ProfiledFabric& f) {
  return fmt::format(
      "{{\"version\": 1,\n\"name\": {},\n\"date\": {},\n\"measured\": {},\n\"made\": {},\n"
      "\"attribution\": {},\n\"software\": {},\n\"curves\": {},\n\"link_weights\": {},\n"
      "\"shares\": {},\n\"beside\": {},\n\"assumed\": {}{}}}",
      json_string(f.name), json_string(f.date), json_string(f.measured), json_string(f.made),
      json_string(f.attribution),
      array_of(f.software, [](const std::string& s) { return json_string(s); }),
      array_of(f.curves, [](const CtaCurve& c) { return to_json(c); }),
      array_of(f.link_weights,
               [](const auto& w) {
                 return fmt::format("{{\"collective\": {}, \"weight\": {}}}",
                                    json_string(name_of(w.collective)), w.weight);
               }),
      array_of(f.shares,
               [](const auto& s) {
                 return fmt::format("{{\"class\": {}, \"priority_wave_ns\": {}, \"rates\": {}}}",
                                    json_string(name_of(s.of)), s.priority_wave_ns,
                                    json_list(s.rates));
               }),
      array_of(f.besides,
               [](const auto& b) {
                 return fmt::format(
                     "{{\"class\": {}, \"beside\": {}, \"own_ctas\": {}, \"other_ctas\": {}, "
                     "\"rates\": {}}}",
                     json_string(name_of(b.own)), json_string(name_of(b.other)),
                     json_list(b.rates.own), json_list(b.rates.other), json_list(b.rates.rates));
               }),
      array_of(f.assumed,
               [](const auto& a) {
                 return fmt::format("{{\"class\": {}, \"as\": {}}}", json_string(name_of(a.of)),
                                    json_string(name_of(a.as)));
               }),
      f.memory ? ",\n\"memory\": " + to_json(*f.memory) : "");
}

}  // namespace

std::string to_json(const std::vector<ProfiledFabric>& fabrics) {
  return array_of(fabrics, [](const ProfiledFabric& f) { return to_json(f); });
}

}  // namespace steploom
