// What the kernels need of CUDA. The emulation (tests/cuda_emulation) supplies the same under g++.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// An array shared by the block's threads; the emulation puts guard zones around it.
#define VAE_FAST_SHARED(T, name, n) __shared__ T name[n]
#define VAE_FAST_UNROLL _Pragma("unroll")
#define VAE_FAST_NO_UNROLL _Pragma("unroll 1")
#else
#include "simt.h"
#endif

#include "cuda/loop_args.h"

namespace vae_fast::cuda {

// Starts a kernel of blocks of kBlockThreads; the result is a cudaError_t.
template <class... Args>
int start(void (*kernel)(Args...), uint32_t blocks, [[maybe_unused]] void* stream,
          const Args&... args) {
#ifdef __CUDACC__
  kernel<<<blocks, kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(args...);
  return cudaGetLastError();
#else
  return simt::launch(kernel, blocks, kBlockThreads, args...);
#endif
}

}  // namespace vae_fast::cuda
