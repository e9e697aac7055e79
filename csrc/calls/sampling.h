// The calls of reparameterized sampling, with the divergence that comes in the same pass.
#pragma once

#include <optional>

#include "calls/loss.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

// Places among the operands, and in `want`.
inline constexpr size_t kMu = 0, kLogvar = 1;

// Which loss the operands are of: mu and logvar, and the prior's where it is not the standard
// normal.
int divergence_of(size_t operands);

// The seeds of so many rows from a counter-based generator, the GPU's, whose seed and offset these
// are; returns its next offset.
uint64_t draw_from_counter(uint64_t seed, uint64_t offset, int64_t rows, Seed* seeds);

// Results of a sampler. The noise = dz/dlogvar is empty where the gradient in logvar is not wanted.
enum : size_t { kZ, kNoise, kDivergence };

// `seed`: (R, 2) int64, dense; one row on any place, more of them on the device. `reduction` is
// given where the divergence is wanted.
void sample(const Kernels& kernels, const char* op, Views operands, const View& seed,
            const std::optional<Reduction>& reduction, int64_t want, Results& results);

// Of the gradients in z and the divergence, and the noise, any may be null. Result k: the gradient
// in operand k, in its shape; empty where it is not wanted or there is no such operand.
void sample_backward(const Kernels& kernels, const View* grad_z, const View* grad_divergence,
                     Views operands, const View* noise, Reduction reduction, int64_t want,
                     Results& results);

#pragma GCC visibility pop
}  // namespace vae_fast::calls
