// What launch scripts are made of, word by word.
#include "models/shell_words.h"

#include <gmock/gmock.h>

#include "models/error.h"

namespace steploom {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> last_command(std::string_view text) {
  const ShellScript script = read_shell(text, "run.sh");
  std::vector<std::string> words;
  if (!script.commands.empty())
    for (const ShellWord& w : script.commands.back()) words.push_back(w.text);
  return words;
}

TEST(ShellWords, ContinuedLinesCommentsAndQuotes) {
  EXPECT_THAT(last_command("run a \\\n  'b c'  # not this\n"), ElementsAre("run", "a", "b c"));
  EXPECT_THAT(last_command("run \"a b\"c d#e"), ElementsAre("run", "a bc", "d#e"));
  EXPECT_THAT(last_command("run '' a\\ b"), ElementsAre("run", "", "a b"));
}

TEST(ShellWords, UnquotedVariablesAreSplitAndQuotedOnesAreNot) {
  EXPECT_THAT(last_command("A='x y'\nrun $A \"$A\" p$A"),
              ElementsAre("run", "x", "y", "x y", "px", "y"));
}

TEST(ShellWords, ListsKeepTheirWords) {
  EXPECT_THAT(last_command("A=(\n 'x y' # one\n z\n)\nA+=(w)\nrun \"${A[@]}\" e"),
              ElementsAre("run", "x y", "z", "w", "e"));
  EXPECT_THAT(last_command("A=()\nrun \"${A[@]}\" e"), ElementsAre("run", "", "e"));
}

TEST(ShellWords, DefaultsAndArithmetic) {
  EXPECT_THAT(last_command("A=${B:-8}\nrun ${A} $((A * 4 / (1 + 1))) $(( $A % 3 ))"),
              ElementsAre("run", "8", "16", "2"));
}

TEST(ShellWords, WhatTheScriptDoesNotSayStaysAsWritten) {
  EXPECT_THAT(last_command("run $1 ${HOME} \"$(hostname)\" $((8 / 0))"),
              ElementsAre("run", "$1", "${HOME}", "$(hostname)", "$((8 / 0))"));
}

TEST(ShellWords, ExportsPrefixesAndConditions) {
  const ShellScript s =
      read_shell("export A=1 B=2\nif [ -n \"$D\" ]; then\n  E=3 run x\nfi\n", "f");
  ASSERT_EQ(s.exported.size(), 3U);
  EXPECT_EQ(s.exported[2], (std::pair<std::string, std::string>("E", "3")));
  EXPECT_THAT(s.conditions, ElementsAre(2));
}

TEST(ShellWords, WhatDoesNotEndIsRefusedWhereItBegan) {
  for (const char* text :
       {"run a\nrun 'b", "run a\nrun \"b", "run a\nA=(b", "run a\nrun ${b", "run a\nrun $((1"}) {
    try {
      (void)read_shell(text, "run.sh");
      FAIL() << text;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), testing::AllOf(HasSubstr("run.sh"), HasSubstr("line 2"))) << text;
    }
  }
}

}  // namespace
}  // namespace steploom
