// The launch functions on random index spaces (launch_case.h), on every instruction set, from one
// thread and from three.
#include <thread>
#include <vector>

#include "launch_case.h"

namespace {

using namespace vae_fast;

constexpr int kTrials = 150;

void one_thread(int64_t n, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
  body(context, 0, n);
}

void three_threads(int64_t n, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
  std::vector<std::thread> threads;
  for (int64_t part = 0; part < 3; ++part) {
    threads.emplace_back(body, context, n * part / 3, n * (part + 1) / 3);
  }
  for (std::thread& thread : threads) thread.join();
}

struct Cpu {
  static constexpr int kSettings = 2;
  static constexpr int64_t kMaxElements = 60000;

  static const char* name() { return cpu::capability(); }
  static cpu::ParallelFor threads(int setting) { return setting == 0 ? one_thread : three_threads; }
  void loss(const LossArgs& args, int setting) { cpu::loss(args, threads(setting)); }
  void sample(const SampleArgs& args, int setting) { cpu::sample(args, threads(setting)); }
  void sample_backward(const SampleBackwardArgs& args, int setting) {
    cpu::sample_backward(args, threads(setting));
  }
};

}  // namespace

int main() {
  for (const char* const* name = cpu::capabilities(); *name != nullptr; ++name) {
    cpu::set_capability(*name);
    Cpu device;
    testing::Random random;
    testing::check_losses(random, device, kTrials, Losses{});
    testing::check_sampling<StandardNormalKl>(random, device, kTrials);
    testing::check_sampling<GaussianKl>(random, device, kTrials);
  }
  return testing::report();
}
