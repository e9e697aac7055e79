// The loop of mixtures (mixture_case.h), on every instruction set.
#include "mixture_case.h"

namespace {

using namespace vae_fast;

constexpr int kTrials = 20;

struct Cpu {
  static constexpr int kSettings = 2;
  static constexpr int64_t kMaxElements = 200000;

  static const char* name() { return cpu::capability(); }
  void mixture(const MixtureArgs& args, int setting) {
    using Body = void (*)(void*, int64_t, int64_t);
    const auto whole = [](int64_t n, int64_t, Body body, void* context) { body(context, 0, n); };
    const auto halves = [](int64_t n, int64_t, Body body, void* context) {
      body(context, 0, n / 2);
      body(context, n / 2, n);
    };
    cpu::mixture(args, setting == 0 ? cpu::ParallelFor(whole) : halves);
  }
};

}  // namespace

int main() {
  for (const char* const* name = cpu::capabilities(); *name != nullptr; ++name) {
    cpu::set_capability(*name);
    Cpu device;
    testing::Random random;
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat64}) {
      testing::check_mixture_runs<BernoulliNll>(random, device, dtype);
      testing::check_pixels(random, device, dtype);
    }
    testing::check_mixtures(random, device, kTrials, Losses{});
  }
  return testing::report();
}
