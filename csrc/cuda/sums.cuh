// Sums that come out the same in every run: fixed trees, no floating-point atomics. Threads and
// blocks hand on doubles, so that the number of terms costs no digits.
#pragma once

#include "cuda/platform.cuh"

namespace vae_fast::cuda {

inline constexpr uint32_t kAllLanes = 0xffffffffu;
inline constexpr int kWarps = kBlockThreads / kWarp;

// Each x[k] of each team of `team` neighbouring threads combined, in all of them; team is a power
// of two up to a warp. All threads of the warp call it.
template <int kCount, class T, class Combine>
__device__ __forceinline__ void warp_combine(T* x, int team, const Combine& combine) {
  for (int distance = team / 2; distance > 0; distance /= 2) {
    VAE_FAST_UNROLL
    for (int k = 0; k < kCount; ++k) {
      x[k] = combine(x[k], __shfl_xor_sync(kAllLanes, x[k], distance));
    }
  }
}

// The same for teams up to the block. All threads of the block call it, and once.
template <int kCount, class T, class Combine>
__device__ __forceinline__ void team_combine(T* x, int team, const Combine& combine) {
  VAE_FAST_SHARED(T, of_warps, kCount * kWarps);
  const int warp = threadIdx.x / kWarp;
  warp_combine<kCount>(x, team < kWarp ? team : kWarp, combine);
  if (team <= kWarp) return;
  if (threadIdx.x % kWarp == 0) {
    VAE_FAST_UNROLL
    for (int k = 0; k < kCount; ++k) of_warps[k * kWarps + warp] = x[k];
  }
  __syncthreads();
  const int warps = team / kWarp, first = warp & ~(warps - 1);
  VAE_FAST_UNROLL
  for (int k = 0; k < kCount; ++k) x[k] = of_warps[k * kWarps + first];
  VAE_FAST_NO_UNROLL
  for (int i = 1; i < warps; ++i) {
    VAE_FAST_UNROLL
    for (int k = 0; k < kCount; ++k) x[k] = combine(x[k], of_warps[k * kWarps + first + i]);
  }
}

// The sum over each team of a warp, likewise.
__device__ __forceinline__ double warp_sum(double x, int team) {
  warp_combine<1>(&x, team, [](double a, double b) { return a + b; });
  return x;
}

// The sum over the block, in thread 0. All threads of the block call it.
__device__ __forceinline__ double block_sum(double x) {
  VAE_FAST_SHARED(double, warp_sums, kWarps);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  x = warp_sum(x, kWarp);
  if (lane == 0) warp_sums[warp] = x;
  __syncthreads();
  if (warp == 0) x = warp_sum(lane < kWarps ? warp_sums[lane] : 0, kWarps);
  __syncthreads();  // the array may be used again
  return x;
}

// True in all threads of the last of `blocks` blocks to come here with this ticket; what the
// blocks' threads wrote before is then visible to them: one thread's fences serve its block, since
// they also order what the barriers have shown it. All threads of the block call it. The
// ticket wraps around to zero, ready for the next launch.
__device__ __forceinline__ bool is_last_block(uint32_t* ticket, uint32_t blocks) {
  VAE_FAST_SHARED(uint32_t, is_last, 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    is_last[0] = atomicInc(ticket, blocks - 1) == blocks - 1;
    __threadfence();
  }
  __syncthreads();
  return is_last[0] != 0;
}

}  // namespace vae_fast::cuda
