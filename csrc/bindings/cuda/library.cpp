// The CUDA kernels for the bindings (calls/gpu.h), on torch's current stream and in its memory. Of
// torch there are functions of C alone, which every release from 2.10 on has. Compiled where
// setup.py finds a CUDA toolkit.
#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>

#include <string>

#include "calls/gpu.h"

namespace vae_fast::bindings {
namespace {

using torch::stable::Tensor;

void check(int error) {
  if (error != 0) throw std::runtime_error(std::string("CUDA error: ") + cuda::error_string(error));
}

cudaStream_t stream() {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(/*device_index=*/-1, &stream));
  return static_cast<cudaStream_t>(stream);
}

uint64_t recording() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  check(cudaStreamGetCaptureInfo(stream(), &status, &id));
  return status == cudaStreamCaptureStatusNone ? 0 : id;
}

Tensor bytes_on_device(size_t bytes) {
  const auto size = static_cast<int64_t>(bytes);
  const int64_t stride = 1;
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      /*ndim=*/1, &size, &stride, calls::torch_dtype(Dtype::kUInt8), aoti_torch_device_type_cuda(),
      /*device_index=*/-1, &handle));
  return Tensor(handle);
}

// The workspace lives until the launches are queued: the allocator gives it to later work of the
// same stream only. Where there is no sum that blocks share there is none.
void launch(cuda::Prepared call) {
  const size_t bytes = call.workspace_bytes();
  if (bytes == 0) return check(call.launch(stream(), nullptr));
  const Tensor workspace = bytes_on_device(bytes);
  check(call.launch(stream(), workspace.mutable_data_ptr()));
}

void loss(const LossArgs& args) { launch(cuda::loss(args)); }

void sample(SampleArgs& args, const calls::View& seeds) {
  const Seed* rows = static_cast<const Seed*>(seeds.data);
  const bool is_on_host = calls::is_cpu(seeds.place);
  args.seeds = is_on_host ? nullptr : rows;
  launch(cuda::sample(args, is_on_host ? *rows : Seed{}));
}

void sample_backward(const SampleBackwardArgs& args) { launch(cuda::sample_backward(args)); }

void multinomial(const MultinomialArgs& args) { launch(cuda::multinomial(args)); }

void counts(const CountArgs& args) { launch(cuda::counts(args)); }

void mixture(const MixtureArgs& args) { launch(cuda::mixture(args)); }

void pairs(const PairsArgs& args) { launch(cuda::pairs(args)); }

void scale(const cuda::ScaleArgs& args) { launch(cuda::scale_by_upstream(args)); }

}  // namespace
}  // namespace vae_fast::bindings

extern "C" __attribute__((visibility("default"))) const vae_fast::calls::Gpu* vae_fast_gpu() {
  namespace bindings = vae_fast::bindings;
  static const vae_fast::calls::Gpu gpu = {
      .version = VAE_FAST_VERSION,
      .release = VAE_FAST_CUDA_RELEASE,
      .architectures = VAE_FAST_CUDA_ARCHITECTURES,
      .kernels =
          {
              .loss = bindings::loss,
              .sample = bindings::sample,
              .sample_backward = bindings::sample_backward,
              .multinomial = bindings::multinomial,
              .counts = bindings::counts,
              .counts_by_element = true,
              .mixture = bindings::mixture,
              .pairs = bindings::pairs,
          },
      .scale = bindings::scale,
      .recording = bindings::recording,
  };
  return &gpu;
}
