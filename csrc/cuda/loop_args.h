// What a kernel is launched with: the call's index space and tensors, prepared on the host (plan.h)
// so that a thread finds its elements with few instructions. Neither torch nor CUDA.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace vae_fast::cuda {

inline constexpr int kBlockThreads = 256;
inline constexpr int kWarp = 32;
// A call's dimensions and one more: the one that a group's boundary cuts becomes two.
inline constexpr int kLoopDims = kMaxDims + 1;
inline constexpr int kMaxInputs = kMaxOperands + 3;  // and the two upstream gradients, the noise
inline constexpr int kMaxOutputs = kMaxOperands;

// The smallest team of threads that adds up a group, as a power of two.
inline constexpr uint32_t kMinTeamShift = 2;
// Elements of a row of classes that a thread holds, as its registers allow.
inline constexpr int kHeldFloats = 16;
inline constexpr int kHeldDoubles = 4;
// Bytes of a row of counts that it has under way where little is computed of them; the elements
// that it takes at least, where the device is busy all the same.
inline constexpr int kCountBytesUnderWay = 32;
inline constexpr int64_t kCountsPerThread = 8;
// Threads that share a block of noise.
inline constexpr int64_t kNoiseThreads = 4;

// Columns of vectors and rows of a block that adds up columns.
inline constexpr int kTileColumns = 32;
inline constexpr int kTileRows = kBlockThreads / kTileColumns;

// A divisor, and what to multiply with instead: n / divisor = (high half of n * multiplier + n) >>
// shift (Granlund and Montgomery 1994), in 32 bits for n < 2^31, in 64 bits for n < 2^63.
struct Divisor {
  int64_t divisor = 1;
  uint64_t wide_multiplier = 1;
  uint32_t multiplier = 1;
  uint8_t shift = 0;
  uint8_t wide_shift = 0;
};

struct Tensor {
  void* data = nullptr;  // null: not given, not wanted
  int64_t strides[kLoopDims] = {};
  Dtype dtype = Dtype::kFloat32;
  bool is_same = false;  // one element serves the whole row
};

// The index space, a row being a run along the last dimension. Threads take vectors of a row: where
// they have more than one element, all tensors are consecutive along it, or the same, and aligned;
// and if rows are no multiple of them, there is but one row, and its tail goes by single elements.
struct Space {
  int64_t row_length = 1;
  int outer_dims = 0;  // all but the last
  Divisor row_vectors;
  Divisor row_elements;  // row_length again
  Divisor sizes[kLoopDims];
};

// How the vectors are dealt out: `groups` equal runs of vectors, each summed into one value, each
// cut into `splits` parts. A team of threads takes a part.
struct Parts {
  int64_t count = 1;  // groups * splits
  int64_t group_vectors = 0;
  int64_t group_elements = 0;
  int64_t group_rows = 0;
  int64_t split_vectors = 0;
  Divisor splits;
  uint32_t team_shift = 8;  // the team's size is 2^team_shift: 4 to 32 threads, or a block
};

// For the sum over rows of each column: the dimensions of Space are the columns' first, then
// `summed_dims` that are summed, then the row.
struct Columns {
  int64_t count = 0;  // vectors of columns
  int64_t rows = 0;   // summed elements of a column
  int64_t split_rows = 0;
  Divisor splits;
  int kept_dims = 0;
  int output = 0;  // which of the outputs is summed
};

// With more outputs than these a loop over dense tensors can also sum one: then there is a
// parameter that elements may share. A sum costs registers even where it is not asked for: a loss
// of logits and data, 7% in bfloat16 on an H200.
inline constexpr int kOutputsWithoutFlatSums = 2;

struct LoopArgs {
  Space space;
  Parts parts;
  Columns columns;
  Tensor inputs[kMaxInputs];
  Tensor mask;
  Tensor upstream;                  // what a loss's gradients are multiplied with
  bool upstream_is_number = false;  // one for all elements
  Tensor value;
  Tensor outputs[kMaxOutputs];
  bool value_is_summed = false;
  bool output_is_summed[kMaxOutputs] = {};
  bool any_sum = false;
  bool is_log = false;  // as in CountArgs
  double scale = 1;
  double* partials = nullptr;
  uint32_t* tickets = nullptr;
  const Seed* seeds = nullptr;  // null: `seed` drives them all
  Seed seed = {};
  Divisor seed_share;  // elements that one of the seeds drives
};

}  // namespace vae_fast::cuda
