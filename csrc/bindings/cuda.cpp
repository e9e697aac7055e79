// CUDA as a device: torch's caching allocator, the current stream, and its generator. Compiled
// where setup.py finds a CUDA toolkit. Nothing here waits for the device.
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/EmptyTensor.h>
#include <c10/cuda/CUDAStream.h>

#include <mutex>

#include "bindings/arguments.h"
#include "calls/index_space.h"

namespace vae_fast::bindings {
namespace {

static_assert(sizeof(Seed) == 2 * sizeof(int64_t));

Tensor empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::detail::empty_cuda(sizes, dtype, c10::Device(kGpu, c10::cuda::current_device()),
                                /*memory_format_opt=*/std::nullopt);
}

void check(int error) { C10_CUDA_CHECK(static_cast<cudaError_t>(error)); }

cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

uint64_t recording() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  C10_CUDA_CHECK(cudaStreamGetCaptureInfo(stream(), &status, &id));
  return status == cudaStreamCaptureStatusNone ? 0 : id;
}

// The workspace lives until the launches are queued: the allocator gives it to later work of the
// same stream only. Where there is no sum that blocks share there is none.
void launch(cuda::Prepared call) {
  const size_t bytes = call.workspace_bytes();
  const Tensor workspace = bytes == 0 ? Tensor() : empty({static_cast<int64_t>(bytes)}, at::kByte);
  check(call.launch(stream(), bytes == 0 ? nullptr : workspace.mutable_data_ptr()));
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

void scale(const Tensor& gradient, const Tensor& factor) {
  if (gradient.numel() == 0) return;
  cuda::ScaleArgs args;
  // The value's dtype, which the upstream gradient has, may be wider than the operand's.
  args.float64 = gradient.scalar_type() == at::kDouble || factor.scalar_type() == at::kDouble;
  calls::IndexSpace space(span_of(gradient.sizes()));
  space.add(args.gradient, view_of(gradient));
  space.add(args.upstream, view_of(factor));
  space.simplify(args.shape, 0);
  launch(cuda::scale_by_upstream(args));
}

void draw_seeds(const Tensor& seeds, const OptionalGenerator& generator) {
  auto* drawn_from = at::get_generator_or_default<at::CUDAGeneratorImpl>(
      generator, at::cuda::detail::getDefaultCUDAGenerator());
  const int64_t rows = seeds.numel() / 2;
  at::PhiloxCudaState drawn;
  {
    std::lock_guard<std::mutex> lock(drawn_from->mutex_);
    drawn = drawn_from->philox_cuda_state(kSeedStride * rows);
  }
  cuda::GeneratorState state;
  if (drawn.captured_) {
    state.captured_seed = drawn.seed_.ptr;
    state.captured_offset = drawn.offset_.ptr;
    state.offset = drawn.offset_intragraph_;
  } else {
    state.seed = drawn.seed_.val;
    state.offset = drawn.offset_.val;
  }
  check(cuda::draw_seeds(state, rows, static_cast<Seed*>(seeds.mutable_data_ptr()), stream()));
}

}  // namespace

const Device kCuda = {
    .empty = empty,
    .kernels =
        {
            .loss = loss,
            .sample = sample,
            .sample_backward = sample_backward,
            .multinomial = multinomial,
            .counts = counts,
            .counts_by_element = true,
            .mixture = mixture,
        },
    .scale = scale,
    .draw_seeds = draw_seeds,
    .recording = recording,
};

}  // namespace vae_fast::bindings
