// The mixtures' kernels under the emulation: mixture_case.h, each formula and dtype, and what is no
// number beside the CPU's kernels.
#pragma once

#include "beside_cpu.h"
#include "mixture_case.h"

namespace vae_fast::testing {

// What is no number, or none that is finite, is the same as on the CPU.
inline void check_mixture_edges(Random& random, Emulated& device) {
  const double inf = INFINITY, nan = std::nan("");
  const std::vector<double> rows[] = {{0, -inf, 1},    {-inf, -inf, 0}, {-inf, -inf, -inf},
                                      {1e4, -1e4, 0},  {0, nan, 1},     {nan, nan, nan},
                                      {3e38, 0, -3e38}};
  for (const int64_t run : {1, 5, 300}) {
    for (const std::vector<double>& logits : rows) {
      for (const std::vector<double>& means : rows) {
        MixtureCase<StudentTNll> mixture(random, Shape{1, {2}, 2}, run, 3, Dtype::kFloat32);
        for (int64_t i = 0; i < 3 * 2; ++i) mixture.logits.set(i, logits[i / 2]);
        for (int64_t i = 0; i < 3 * 2 * run; ++i) {
          mixture.operands[0].set(i, means[i / (2 * run)]);
        }
        mixture.connect();
        cpu::mixture(mixture.args, on_one_thread);
        const MixtureTensors on_cpu = mixture;
        mixture.connect();
        device.mixture(mixture.args, 0);
        check_same("value", mixture.value, on_cpu.value);
        check_same("gradient in logits", mixture.grad_logits, on_cpu.grad_logits);
        check_same("gradient in means", mixture.gradients[0], on_cpu.gradients[0]);
      }
    }
  }
}

inline void check_pixels_against_cpu(Random& random, Emulated& device, int channels, Dtype dtype) {
  PixelCase pixels(random, 2, 40, 5, channels, dtype);
  cpu::mixture(pixels.args, on_one_thread);
  const PixelCase on_cpu = pixels;
  pixels.connect();
  device.mixture(pixels.args, 1);
  check_same("value of pixels", pixels.value, on_cpu.value);
  check_same("gradient of pixels", pixels.gradient, on_cpu.gradient);
}

template <class... Formula>
void check_all_mixtures(Random& random, Emulated& device, int trials,
                        FormulaList<Formula...> losses) {
  for (const Dtype dtype : kDtypes) {
    const auto check = [&](auto formula) {
      using Of = typename decltype(formula)::type;
      if constexpr (Of::kTarget != Target::kNone) {
        MixtureCase<Of>(random, Shape{1, {5}, 5}, 3, 4, dtype).run_and_check(device);
      }
    };
    (check(std::type_identity<Formula>{}), ...);
    if (dtype == Dtype::kBFloat16 || dtype == Dtype::kFloat16) continue;
    check_mixture_runs<BernoulliNll>(random, device, dtype);
    check_pixels(random, device, dtype);
  }
  for (const int channels : {1, kMaxPixelChannels}) {
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kFloat64}) {
      check_pixels_against_cpu(random, device, channels, dtype);
    }
  }
  check_mixture_edges(random, device);
  check_mixtures(random, device, trials, losses);
}

}  // namespace vae_fast::testing
