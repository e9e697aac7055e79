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

  std::unique_ptr<uint32_t[], Free<uint32_t>> tickets = allocate<uint32_t>(cuda::kTickets);

  Emulated() { std::fill_n(tickets.get(), cuda::kTickets, 0u); }

  static const char* name() { return "emulated CUDA"; }

  // launch(Launch) with a workspace of exactly the size asked for.
  template <class Run>
  void run(size_t workspace_bytes, int setting, const Run& run) {
    const auto workspace = allocate<char>(workspace_bytes);
    simt::set_schedule(static_cast<unsigned>(kFirstSchedule + setting));
    const int error = run(cuda::Launch{nullptr, workspace.get(), tickets.get()});
    CHECK(error == 0, "%s", cuda::error_string(error));
    for (int i = 0; i < cuda::kTickets; ++i) {
      if (tickets[i] != 0) simt::fail("ticket %d is %u after the launch", i, tickets[i]);
    }
  }

  void loss(const LossArgs& args, int setting) {
    run(cuda::workspace_bytes(args), setting,
        [&](const cuda::Launch& launch) { return cuda::loss(args, launch); });
  }
  void sample(const SampleArgs& args, int setting) {
    run(cuda::workspace_bytes(args), setting,
        [&](const cuda::Launch& launch) { return cuda::sample(args, Seed{}, launch); });
  }
  void sample_backward(const SampleBackwardArgs& args, int setting) {
    run(cuda::workspace_bytes(args), setting,
        [&](const cuda::Launch& launch) { return cuda::sample_backward(args, launch); });
  }
  void multinomial(const MultinomialArgs& args, int setting) {
    run(0, setting, [&](const cuda::Launch& launch) { return cuda::multinomial(args, launch); });
  }
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
