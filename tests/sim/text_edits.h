// For tests of readers: a text with one part changed, and what a refusal says.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "models/error.h"

namespace steploom {

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

inline std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "not refused";
}

}  // namespace steploom
