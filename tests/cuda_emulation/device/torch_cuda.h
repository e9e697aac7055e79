// What csrc/bindings/cuda.cpp uses of torch's CUDA, under torch's names, for the emulated device:
// the headers of include/ stand before torch's own of the same names, and all are this one.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/Generator.h>
#include <ATen/cuda/PhiloxCudaState.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/core/Stream.h>
#include <cuda_runtime_api.h>

#define C10_CUDA_CHECK(expression) c10::cuda::check(expression)

namespace c10::cuda {

inline void check(cudaError_t error) {
  TORCH_CHECK(error == cudaSuccess, "CUDA error: ", cudaGetErrorString(error));
}

DeviceIndex current_device();

class CUDAStream {
 public:
  explicit CUDAStream(Stream stream) : stream_(stream) {}
  DeviceIndex device_index() const { return stream_.device_index(); }
  StreamId id() const { return stream_.id(); }
  // No address, but no two streams' are the same.
  cudaStream_t stream() const { return reinterpret_cast<cudaStream_t>(id()); }

 private:
  Stream stream_;
};

CUDAStream getCurrentCUDAStream();

}  // namespace c10::cuda

namespace at {

namespace detail {
TensorBase empty_cuda(IntArrayRef sizes, ScalarType dtype, std::optional<Device> device,
                      std::optional<MemoryFormat> memory_format);
}

// Two numbers, as torch's; while a graph is recorded they lie in the device's memory.
class CUDAGeneratorImpl : public c10::GeneratorImpl {
 public:
  explicit CUDAGeneratorImpl(DeviceIndex device);

  static DeviceType device_type() { return kPrivateUse1; }
  PhiloxCudaState philox_cuda_state(uint64_t increment);

  void set_current_seed(uint64_t seed) override;
  uint64_t current_seed() const override { return seed_; }
  uint64_t seed() override;
  void set_offset(uint64_t offset) override { offset_ = offset; }
  uint64_t get_offset() const override { return offset_; }
  void set_state(const c10::TensorImpl& state) override;
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override;

 private:
  CUDAGeneratorImpl* clone_impl() const override;

  uint64_t seed_ = c10::default_rng_seed_val;
  uint64_t offset_ = 0;
  Tensor captured_;  // seed and offset
};

namespace cuda::detail {
const Generator& getDefaultCUDAGenerator(DeviceIndex device = -1);
}

}  // namespace at
