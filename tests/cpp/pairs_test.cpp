// Pairs of rows and components (pairs_case.h), on every instruction set.
#include "pairs_case.h"

namespace {

using namespace vae_fast;

constexpr int kTrials = 60;

struct Cpu {
  static constexpr int kSettings = 2;

  static const char* name() { return cpu::capability(); }
  // All at once, or a part after the other, the last one first.
  void pairs(const PairsArgs& args, int setting) {
    cpu::pairs(args, setting == 0 ? at_once : in_parts);
  }
  static void at_once(int64_t n, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
    body(context, 0, n);
  }
  static void in_parts(int64_t n, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
    for (int64_t i = n; i > 0; --i) body(context, i - 1, i);
  }
};

}  // namespace

int main() {
  for (const char* const* name = cpu::capabilities(); *name != nullptr; ++name) {
    cpu::set_capability(*name);
    Cpu device;
    testing::Random random;
    testing::check_pairs(random, device, kTrials);
    // More others than meet an owner at a time.
    testing::PairsCase(random, PairsReduction::kLogSumExp, false, false, 5, 1200, 3)
        .run_and_check(device);
    testing::PairsCase(random, PairsReduction::kNearest, false, false, 5, 1200, 3)
        .run_and_check(device);
  }
  return testing::report();
}
