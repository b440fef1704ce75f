// What an act is refused with; fails the test if nothing is refused.
#pragma once

#include <gtest/gtest.h>

#include "models/error.h"

namespace steploom {

template <class Act>
Error::Where refusal(Act act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), ExitStatus::refused);
    return error.where();
  }
  ADD_FAILURE() << "nothing was refused";
  return {};
}

}  // namespace steploom
