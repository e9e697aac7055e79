// CUDA's execution model on the CPU, for kernel source compiled by g++: every CUDA thread is a
// fiber, and blocks run one after another. What CUDA provides, under its own names; nothing here
// orders memory between threads but what does on a GPU.
#pragma once

#include <vector_functions.h>
#include <vector_types.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <type_traits>

#undef __global__
#undef __device__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__ [[maybe_unused]]
#define __device__ [[maybe_unused]]
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

#define VAE_FAST_UNROLL
#define VAE_FAST_NO_UNROLL
#define VAE_FAST_SHARED(T, name, n) \
  static const char name##_key = 0; \
  T* const name = static_cast<T*>(simt::shared_array(&name##_key, sizeof(T) * (n)))

namespace simt {

// ---- launches

// In which order blocks, and the threads of a block, get their turns: forward, backward, or
// shuffled by this number.
enum Schedule : unsigned { kForward = 0, kBackward = 1, kFirstShuffle = 2 };
void set_schedule(unsigned schedule);

// Calls body(context) once per thread; returns 0. A fault of the program under test (a divergent
// barrier, say) is reported and ends the process.
int run(unsigned blocks, unsigned threads, void (*body)(void*), void* context);

// What was launched last, for those who want to do the same elsewhere.
struct Launched {
  const void* kernel = nullptr;
  unsigned blocks = 0;
  const void* args = nullptr;  // the kernel's first argument, until the launch's caller returns
  size_t args_bytes = 0;
};
extern Launched launched;
extern void (*after_launch)();  // called, if it is set, while `launched` is valid

// The machine is one, whatever host threads launch: they take turns.
extern std::mutex turn;

template <class First, class... Args>
int launch(void (*kernel)(First, Args...), unsigned blocks, unsigned threads, const First& first,
           const Args&... args) {
  const std::lock_guard<std::mutex> lock(turn);
  launched = {reinterpret_cast<const void*>(kernel), blocks, &first, sizeof first};
  auto body = [&] { kernel(first, args...); };
  const int error = run(
      blocks, threads, [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
  if (after_launch != nullptr) after_launch();
  return error;
}

// Threads that ran so far, over all launches.
int64_t threads_run();

// ---- what a thread sees

struct Place {
  uint3 thread, block;
};
extern Place* place;  // of the thread whose turn it is
extern dim3 block_size, grid_size;

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The block's array of that key, filled with NaN, with a guard zone on both sides.
void* shared_array(const void* key, size_t bytes);

enum class Collective { kShuffle, kBallot, kSyncWarp };
// Waits for the lanes of the mask that call from the same line; a shuffle gives the value of lane
// `source`, a ballot the lanes whose value is not 0.
uint64_t collective(Collective kind, unsigned mask, uint64_t value, int source, int line);
void block_barrier(int line);
void fence();
void before_atomic(const void* address);
void after_atomic(const void* address);

inline int lane() { return static_cast<int>(place->thread.x % 32); }

template <class T>
T shuffle(unsigned mask, T value, int source, int line) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = collective(Collective::kShuffle, mask, bits, source, line);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T, class Update>
T atomic_update(T* address, const Update& update) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(T) != 0) fail("misaligned atomic");
  before_atomic(address);
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &old, update(old), false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED)) {
  }
  after_atomic(address);
  return old;
}

}  // namespace simt

// ---- CUDA's names

#define threadIdx (simt::place->thread)
#define blockIdx (simt::place->block)
#define blockDim (simt::block_size)
#define gridDim (simt::grid_size)

#define __syncthreads() simt::block_barrier(__LINE__)
#define __threadfence() simt::fence()
#define __syncwarp() ((void)simt::collective(simt::Collective::kSyncWarp, ~0u, 0, 0, __LINE__))
#define __shfl_xor_sync(mask, value, distance) \
  simt::shuffle(mask, value, simt::lane() ^ (distance), __LINE__)

inline unsigned atomicAdd(unsigned* address, unsigned value) {
  return simt::atomic_update(address, [=](unsigned old) { return old + value; });
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return simt::atomic_update(address, [=](unsigned old) { return old >= limit ? 0 : old + 1; });
}

template <class T>
void __stwb(T* address, const T& value) {
  *address = value;
}

inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
