#include "traces/dot.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

#include "models/error.h"
#include "sim/program_text.h"

namespace steploom {
namespace {

using testing::HasSubstr;
using testing::Not;

// Two passes; the second one waits for the first one's product.
Program sample() {
  return parse_program(R"(
device d
slot d F 0
op norm on d compute 1us
op fc   on d other   4us after=norm
slot d B 0
op fc_grad on d compute 8us after=fc
slot d F 1
op norm2 on d compute 1us
op fc2   on d other   4us after=norm2
)")
      .program;
}

std::string drawn(const Program& p, const DotOptions& options) {
  check_dot(p, options);
  std::ostringstream out;
  write_dot(out, p, options);
  return out.str();
}

int count(const std::string& text, const std::string& what) {
  int n = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != text.npos; ++at) ++n;
  return n;
}

TEST(Dot, APassIsAClusterAndAnOperatorANode) {
  const Program p = sample();
  DotOptions options;
  options.title = "a \"title\"";
  const std::string all = drawn(p, options);
  EXPECT_THAT(all, HasSubstr("digraph \"a \\\"title\\\"\" {"));
  EXPECT_EQ(count(all, "subgraph "), static_cast<int>(block_names(p, 0).size()));
  EXPECT_THAT(all, HasSubstr("fc_grad\\n"));
  EXPECT_THAT(all, HasSubstr("4 us"));
  EXPECT_EQ(count(all, " -> "), 3);  // a product after a norm twice, and across passes
  EXPECT_EQ(count(all, "style=dashed"), 1);
  EXPECT_EQ(count(all, "{"), count(all, "}"));
  options.blocks = {"B"};
  const std::string alone = drawn(p, options);
  EXPECT_EQ(count(alone, "subgraph "), 1);
  EXPECT_THAT(alone, Not(HasSubstr("norm")));
}

std::string refusal_of(const Program& p, const DotOptions& options) {
  try {
    check_dot(p, options);
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

TEST(Dot, UnknownPassesAndTooManyOperatorsAreRefused) {
  Program p = sample();
  DotOptions options;
  options.blocks = {"X"};
  EXPECT_THAT(refusal_of(p, options), HasSubstr("'X'"));
  BlockTemplate& block = p.blocks[0];
  block.ops.resize(kMostDotNodes + 1, block.ops[0]);
  EXPECT_THAT(refusal_of(p, {}), testing::AllOf(HasSubstr("2000"), HasSubstr("2001")));
}

}  // namespace
}  // namespace steploom
