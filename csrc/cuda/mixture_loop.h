// What the kernel of mixtures is launched with: kernels.h, MixtureArgs, prepared on the host.
#pragma once

#include "cuda/loop_args.h"

namespace vae_fast::cuda {

// A run of dimensions of an index space, whose entries are counted along the last one first.
struct Dimensions {
  int first = 0, last = 0;  // behind the last
};

// A tensor of parts, which lie alike: those of the components `step` elements apart.
struct PartsTensor {
  Tensor first;
  int64_t step = 0;
};

// Tensors of the elements that do not lie alike: parameters and target, or a pixel's parameters,
// levels and targets.
inline constexpr int kMaxPartsTensors = 4;
inline constexpr int kMaxMixtureGradients = 9;

struct MixtureLoop {
  int pixel_channels = 0;  // 0: of a likelihood
  int64_t count = 0;       // positions, each of a team of threads
  int components = 1;
  int64_t run = 1;
  double scale = 1;
  uint32_t team_shift = 0;  // where a run is longer than a team, that is a block

  // Two index spaces: the elements' dimensions are the positions', then the run's.
  Dimensions position_dims, outer_dims, run_dims;
  Divisor position_sizes[kLoopDims];
  Divisor element_sizes[kLoopDims];

  PartsTensor logits, grad_logits;
  Tensor upstream, value;

  PartsTensor inputs[kMaxPartsTensors];
  PartsTensor gradients[kMaxPartsTensors - 1];
  Tensor mask;
  // The component's own, the first component's part.
  void* input_parts[kMaxMixtureOperands] = {};
  void* gradient_parts[kMaxMixtureGradients] = {};

  bool wants_gradients = false;
  void* scores = nullptr;  // of all components of all positions, where runs are longer than teams
};

// What a kernel's arguments may take, on every driver.
static_assert(sizeof(MixtureLoop) <= 4096);

}  // namespace vae_fast::cuda
