// The rows of the multinomial likelihood (multinomial_case.h), on every instruction set.
#include "multinomial_case.h"

namespace {

using namespace vae_fast;

constexpr int kTrials = 100;

struct Cpu {
  static constexpr int kSettings = 1;
  static constexpr int64_t kMaxElements = 60000;

  static const char* name() { return cpu::capability(); }
  void multinomial(const MultinomialArgs& args, int) {
    cpu::multinomial(args, [](int64_t n, int64_t, void (*body)(void*, int64_t, int64_t),
                              void* context) { body(context, 0, n); });
  }
};

}  // namespace

int main() {
  for (const char* const* name = cpu::capabilities(); *name != nullptr; ++name) {
    cpu::set_capability(*name);
    Cpu device;
    testing::Random random;
    testing::check_multinomial(random, device, kTrials);
  }
  return testing::report();
}
