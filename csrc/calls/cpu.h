// The CPU as a device, on the threads that a binding has.
#pragma once

#include "calls/results.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

template <cpu::ParallelFor parallel_for>
inline constexpr Kernels kCpuKernels = {
    .loss = [](const LossArgs& args) { cpu::loss(args, parallel_for); },
    .sample =
        [](SampleArgs& args, const View& seeds) {
          args.seeds = static_cast<const Seed*>(seeds.data);
          cpu::sample(args, parallel_for);
        },
    .sample_backward =
        [](const SampleBackwardArgs& args) { cpu::sample_backward(args, parallel_for); },
    .multinomial = [](const MultinomialArgs& args) { cpu::multinomial(args, parallel_for); },
    .counts = [](const CountArgs& args) { cpu::counts(args, parallel_for); },
    .counts_by_element = false,
    .mixture = [](const MixtureArgs& args) { cpu::mixture(args, parallel_for); },
    .pairs = [](const PairsArgs& args) { cpu::pairs(args, parallel_for); },
};

#pragma GCC visibility pop
}  // namespace vae_fast::calls
