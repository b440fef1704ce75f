// The one exception of steploom: input that was refused, or an ask that cannot be met.
//
// An Error names what was being read (a file, a flag, a rule), where in it (a JSON pointer, a
// line, an option), what was expected and what was found. It is made where the fault is best known
// and printed once, by the command line, as one message. Faults of our own are asserts, never
// Errors.
#pragma once

#include <stdexcept>
#include <string>

namespace steploom {

// How the program ends when an Error reaches the top (documented exit statuses).
enum class ExitStatus : int {
  done = 0,      // everything asked for was done
  negative = 1,  // it ran, and the answer is no: no layout fits, a check failed
  refused = 2,   // the input was refused or the ask is impossible
};

class Error : public std::runtime_error {
 public:
  struct Where {
    std::string
        reading;        // what was being read: "mixtral.json", "--layout", "rule tp-divides-heads"
    std::string place;  // where in it: "/hidden_size", "line 3"; may be empty
    std::string expected;  // what would have been accepted; may be empty
    std::string found;     // what was there instead; may be empty
    std::string hint;      // what to do about it: "did you mean 'mixtral-8x7b'?"; may be empty
  };

  explicit Error(Where where, ExitStatus status = ExitStatus::refused);

  const Where& where() const { return where_; }
  ExitStatus status() const { return status_; }

 private:
  Where where_;
  ExitStatus status_;
};

}  // namespace steploom
