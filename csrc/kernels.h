// The contract between the kernels and whatever calls them: plain structs of pointers, sizes,
// strides and dtypes, one launch function per loop shape. No torch.
//
// All tensors of a call are seen through one row-major index space, `Shape`. An input's stride is
// 0 along the dimensions over which it broadcasts, an output's along those over which it is summed.
#pragma once

#include <cstdint>

#include "formulas/philox.h"

namespace vae_fast {

enum class Dtype : uint8_t { kFloat32, kFloat64, kBFloat16, kFloat16, kUInt8, kBool };

inline constexpr int kMaxDims = 16;
inline constexpr int kMaxOperands = 4;

struct Shape {
  int dims = 0;
  int64_t sizes[kMaxDims] = {};
  int64_t numel = 1;
};

struct Input {
  const void* data = nullptr;  // null: not given
  Dtype dtype = Dtype::kFloat32;
  int64_t strides[kMaxDims] = {};  // in elements
};

struct Output {
  void* data = nullptr;  // null: not wanted
  Dtype dtype = Dtype::kFloat32;
  int64_t strides[kMaxDims] = {};
  int64_t numel = 0;       // of the output itself
  bool is_summed = false;  // has a zero stride along a dimension of more than one element
};

// value[g] = scale * (sum over the g-th of `groups` equal runs of the index space of the loss), and
// its gradients in the operands. With groups == numel nothing is summed.
struct LossArgs {
  int loss = 0;          // index into formulas/list.h
  bool float64 = false;  // the arithmetic; float otherwise
  Shape shape;
  Input operands[kMaxOperands];
  Input mask;  // bool; where false neither value nor gradient
  int64_t groups = 1;
  double scale = 1;
  Output value;  // dense, (groups,)
  Output gradients[kMaxOperands];
};

// z = mu + exp(logvar / 2) * eps, with mu and logvar the divergence's first two operands; its
// noise = dz/dlogvar = exp(logvar / 2) * eps / 2; and, where divergence.value is wanted, the
// divergence in the same pass. Row q of the seeds drives the q-th equal share of the index space.
struct SampleArgs {
  LossArgs divergence;
  const Seed* seeds = nullptr;
  int64_t seed_rows = 1;
  Output z;
  Output noise;
};

// The gradients of sum(z * grad_z) + sum(value * grad_value): into divergence.gradients.
struct SampleBackwardArgs {
  LossArgs divergence;
  Input grad_z;
  Input grad_value;
  Input noise;
};

namespace cpu {

// Calls body(context, begin, end) on parts of [0, n), each of at least `grain`, in any order and on
// any threads; returns when all are done.
using ParallelFor = void (*)(int64_t n, int64_t grain,
                             void (*body)(void* context, int64_t begin, int64_t end),
                             void* context);

void loss(const LossArgs& args, ParallelFor parallel_for);
void sample(const SampleArgs& args, ParallelFor parallel_for);
void sample_backward(const SampleBackwardArgs& args, ParallelFor parallel_for);

// The instruction sets that this machine can run, best last, and the one in use: the best, or
// what VAE_FAST_CPU_CAPABILITY names. Choosing one that is not there throws std::invalid_argument.
const char* const* capabilities();  // null-terminated
const char* capability();
void set_capability(const char* name);

}  // namespace cpu
}  // namespace vae_fast
