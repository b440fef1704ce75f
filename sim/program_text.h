// A small language for Programs, written by hand in tests and examples.
//
//     device gpu0 sms=132 connections=1        # streams are numbered as operators name them
//     device gpu1
//     comm   ep gpu0 gpu1 link nvlink:0.5      # uses half of a link at full speed
//     class  gemm
//     class  nccl
//     share  gemm 8:0.5 16:1                   # g: rate at 8/16 and 16/16 of the SMs it wants
//     beside gemm nccl 8:0.9 16:0.75           # h: gemm's rate beside an nccl kernel of 8, 16 CTAs
//     op gemm on gpu0 compute 10us sms=132 wave=1us launch=2us class=gemm
//     op a2a  on gpu0 comm 5us comm=ep ctas=16 after=gemm class=nccl
//     op a2a  on gpu1 comm 5us comm=ep ctas=16 class=nccl
//
// One statement a line, in any order that names things before their use; '#' begins a comment.
//
//     device NAME [sms=N] [connections=N] [static=BYTES]      defaults 132, 32, 0
//     comm NAME DEVICE... [link LINK:SHARE ...]
//     class NAME [wave=TIME]                                  a row of the contention tables; wave:
//                                                             of its kernels, for higher priority
//     share CLASS SIXTEENTHS:RATE ...                         linear between, constant beyond
//     beside CLASS OTHER CTAS:RATE ...                        likewise
//     beside CLASS/OWN OTHER CTAS:RATE ...                    where CLASS itself has OWN CTAs: one
//                                                             statement an OWN, all of equal CTAS
//     tensor DEVICE NAME BYTES [step]                         scope step instead of micro-batch
//     slice DEVICE NAME WHOLE BYTES                           the next slice of a tensor, stated
//                                                             right behind it
//     slot DEVICE NAME [MICRO_BATCH]                          what follows on DEVICE is a new slot
//     op NAME on DEVICE STREAM TIME [KEY=VALUE | FLAG ...]
//
//     op keys:  sms least ctas launch gap latency wave comm after class prio alloc free link
//               writes reads frees (tensors); lists are separated by commas
//     op flags: persistent wait (host_waits) eager send
//
// `after` names operators of the same device; of an earlier slot, it becomes a slot edge. Times
// are decimal with ps, ns, us or ms; BYTES may end in K, M or G (binary); SHARE and RATE are
// decimals, 1 = 65536. `gap` is OpTemplate::stream_gap and `latency` its event_latency. `ctas` is
// another word for `sms`. An operator with `comm` draws all of its
// communicator's share of the links unless `link` gives a part.
#pragma once

#include <optional>
#include <string_view>

#include "sim/contention.h"
#include "sim/program.h"

namespace steploom {

struct ProgramText {
  Program program;                       // finalized
  std::optional<Contention> contention;  // if any class is declared
};

// Throws Error that names `reading` and the line.
ProgramText parse_program(std::string_view text, std::string_view reading = "program");

// The id of the first operator of that name on that device; throws Error if there is none.
std::uint32_t operator_named(const Program& program, std::string_view device, std::string_view op);

}  // namespace steploom
