// Measured points: the file that steploom-measure writes, read back strictly.
//
// JSON lines, in UTF-8. The first line is the header ("steploom_measurements": 1): when, on what,
// with which versions, by which command, and how. Every other line is one point, in the order of
// measuring: a kernel ("kind", ...; attention with heads and widths in place of k, groups and
// spread) or something else ("what": a launch, a copy). A point that was not measured has no
// samples and a note that says why. Each line ends in a newline, so a file cut short is a refusal
// or, cut between lines, simply has fewer points. Times in microseconds a shot.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/asks.h"

namespace steploom {

// Of the samples that counted. A sample is the mean over the shots of one replay.
struct MeasuredStats {
  double median_us = 0;
  double q1_us = 0;
  double q3_us = 0;
  std::int64_t samples = 0;  // 0: not measured
  double sm_mhz = 0;         // SM clock under load, 0: unknown
  double watts = 0;          // drawn by the card under load, 0: unknown
};

struct MeasuredPoint {
  Ask ask;
  MeasuredStats stats;
  std::string note;  // why it was skipped, or what is odd; may be empty
};

// What is no operator: "launch_kernel", "copy_device_to_device" of `bytes`.
struct MeasuredOther {
  std::string what;
  Bytes bytes = 0;
  MeasuredStats stats;
  std::string note;
};

struct MeasuredOn {
  std::string date;     // ISO 8601
  std::string command;  // as it was run
  std::string gpu;      // as the driver names it
  std::string driver;
  std::string cuda_runtime;  // "13.0"
  std::string cublas;        // "13.1.0"
  std::string cudnn;         // "9.19.0"; empty: not in the program that measured
  int sms = 0;               // streaming multiprocessors
  Bytes memory = 0;          // of the device
  Bytes l2 = 0;              // L2 cache
  double memory_mhz = 0;     // memory clock under load
  double most_sm_mhz = 0;    // greatest SM clock that the card allows
  std::string method;        // how a point is measured, in words
};

struct Measurements {
  std::string reading;  // the file's name
  MeasuredOn on;
  std::vector<MeasuredPoint> points;
  std::vector<MeasuredOther> others;
};

// One line each, without its newline.
std::string to_line(const MeasuredOn& on);
std::string to_line(const MeasuredPoint& point);
std::string to_line(const MeasuredOther& other);

// Throw Error naming the line.
Measurements parse_points(std::string_view text, const std::string& reading);
Measurements read_points(const std::filesystem::path& file);

}  // namespace steploom
