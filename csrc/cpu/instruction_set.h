// What one instruction set offers: the loops over a range of tiles. One table per stub file.
#pragma once

#include "cpu/pairs_pass.h"
#include "cpu/tiling.h"
#include "kernels.h"

namespace vae_fast::cpu {

// Where the sums of a range of tiles go. `values` has a slot for every partial sum of the call;
// `gradients[k]` is this range's own copy of a summed gradient, zero at first, or null; in float64
// with `lost[k]`, what its roundings have lost (compensated_sum.h).
struct Sums {
  double* values;
  double* gradients[kMaxOperands];
  double* lost[kMaxOperands];
};

struct InstructionSet {
  const char* name;
  void (*loss)(const LossArgs&, const Tiling&, int64_t begin, int64_t end, const Sums&);
  void (*sample)(const SampleArgs&, const Tiling&, int64_t begin, int64_t end, const Sums&);
  void (*sample_backward)(const SampleBackwardArgs&, const Tiling&, int64_t begin, int64_t end,
                          const Sums&);
  void (*multinomial)(const MultinomialArgs&, int64_t begin, int64_t end, double* values);
  // `to_library`: a number for each row of all. `room`: three rows of the arithmetic's type.
  void (*counts)(const CountArgs&, const Tiling&, int64_t begin, int64_t end, const Sums&,
                 double* to_library, void* room);
  // Of rows of y, or of the transposed weight's gradient.
  void (*sparse_linear)(const SparseLinearArgs&, int64_t begin, int64_t end);
  // The workspace is a thread's own.
  void (*mixture)(const MixtureArgs&, const MixtureTiling&, int64_t begin, int64_t end,
                  void* workspace);
  // Of blocks of others; of blocks of owners. The room is a thread's own.
  void (*pack_pairs)(const PairsArgs&, const PairsPass&, int64_t begin, int64_t end, void* room);
  void (*run_pairs)(const PairsArgs&, const PairsPass&, int64_t begin, int64_t end, void* room);
  void (*store)(const double* sums, double scale, const Output& out);  // dense
};

extern const InstructionSet kBase;
#if defined(__x86_64__)
extern const InstructionSet kAvx2;
extern const InstructionSet kAvx512;
#endif

const InstructionSet& instruction_set();

}  // namespace vae_fast::cpu
