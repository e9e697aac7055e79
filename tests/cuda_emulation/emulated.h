// The launch functions as a device of the test cases (launch_case.h), on memory that ends to the
// byte where a call's does.
#pragma once

#include <cstdlib>
#include <memory>

#include "launch_case.h"
#include "simt.h"

namespace vae_fast::testing {

template <class T>
struct Free {
  void operator()(T* memory) const { std::free(memory); }
};

// Exactly so many elements, to the byte, at an aligned address.
template <class T>
std::unique_ptr<T[], Free<T>> allocate(size_t n) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, std::max<size_t>(1, n * sizeof(T))) != 0) std::abort();
  std::memset(memory, 0xff, n * sizeof(T));
  return std::unique_ptr<T[], Free<T>>(static_cast<T*>(memory));
}

#if defined(VAE_FAST_TSAN) || defined(VAE_FAST_ASAN)
inline constexpr bool kIsSlow = true;
#else
inline constexpr bool kIsSlow = false;
#endif

struct Emulated {
  // Settings are schedules of threads and blocks. ThreadSanitizer has room for 7000 threads, and is
  // slow to make one.
#ifdef VAE_FAST_TSAN
  static constexpr int kSettings = 2, kFirstSchedule = simt::kBackward;
  static constexpr int64_t kMaxElements = 3000;
#else
  static constexpr int kSettings = 3, kFirstSchedule = simt::kForward;
  static constexpr int64_t kMaxElements = 20000;
#endif

  static constexpr bool kCountsByElement = true;

  static const char* name() { return "emulated CUDA"; }

  // With a workspace of exactly the size asked for; before(workspace) comes first.
  template <class Before>
  void run(cuda::Prepared call, int setting, const Before& before) {
    const auto workspace = allocate<unsigned char>(call.workspace_bytes());
    simt::set_schedule(static_cast<unsigned>(kFirstSchedule + setting));
    before(workspace.get());
    const int error = call.launch(nullptr, workspace.get());
    CHECK(error == 0, "%s", cuda::error_string(error));
    for (size_t i = 0; i < call.ticket_bytes(); ++i) {
      if (workspace[i] != 0) simt::fail("a ticket is not zero after the launch");
    }
  }
  void run(cuda::Prepared call, int setting) {
    run(std::move(call), setting, [](const void*) {});
  }

  void loss(const LossArgs& args, int setting) { run(cuda::loss(args), setting); }
  void sample(const SampleArgs& args, int setting) { run(cuda::sample(args, Seed{}), setting); }
  void sample_backward(const SampleBackwardArgs& args, int setting) {
    run(cuda::sample_backward(args), setting);
  }
  void multinomial(const MultinomialArgs& args, int setting) {
    run(cuda::multinomial(args), setting);
  }
  void counts(const CountArgs& args, int setting) { run(cuda::counts(args), setting); }
  void mixture(const MixtureArgs& args, int setting) { run(cuda::mixture(args), setting); }
  void pairs(const PairsArgs& args, int setting) { run(cuda::pairs(args), setting); }
};

inline Shape shape_of(std::initializer_list<int64_t> sizes) {
  Shape shape;
  for (const int64_t size : sizes) {
    shape.sizes[shape.dims++] = size;
    shape.numel *= size;
  }
  return shape;
}

}  // namespace vae_fast::testing
