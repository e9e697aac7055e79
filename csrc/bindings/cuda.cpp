// CUDA as a device: torch's caching allocator, the current stream, and its generator. Compiled
// where setup.py finds a CUDA toolkit. Nothing here waits for the device.
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/EmptyTensor.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <mutex>
#include <utility>

#include "bindings/arguments.h"

namespace vae_fast::bindings {
namespace {

static_assert(sizeof(Seed) == 2 * sizeof(int64_t));

Tensor empty(at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::detail::empty_cuda(sizes, dtype, c10::Device(kGpu, c10::cuda::current_device()),
                                /*memory_format_opt=*/std::nullopt);
}

Tensor zero_tickets() {
  return empty({cuda::kTickets * static_cast<int64_t>(sizeof(uint32_t))}, at::kByte).zero_();
}

bool is_capturing() {
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}

// A launch leaves its tickets zero, so a stream has its own, once and for all. A graph may run on
// any stream, beside it: what is captured brings its own, in the graph's memory, and zeroes them.
Tensor tickets(const c10::cuda::CUDAStream& stream) {
  if (is_capturing()) return zero_tickets();
  static std::mutex mutex;
  // Not destroyed: at the process's end CUDA may be gone before.
  static auto& of_stream = *new std::map<std::pair<c10::DeviceIndex, c10::StreamId>, Tensor>();
  std::lock_guard<std::mutex> lock(mutex);
  Tensor& found = of_stream[{stream.device_index(), stream.id()}];
  if (!found.defined()) found = zero_tickets();
  return found;
}

// The stream, and memory that lives until its launches are queued: the allocator gives it to later
// work of the same stream only.
class Queue {
 public:
  explicit Queue(size_t workspace_bytes = 0)
      : stream_(c10::cuda::getCurrentCUDAStream()),
        workspace_(empty({static_cast<int64_t>(workspace_bytes)}, at::kByte)),
        tickets_(tickets(stream_)) {}

  cuda::Launch launch() const {
    return {stream_.stream(), workspace_.mutable_data_ptr(),
            static_cast<uint32_t*>(tickets_.mutable_data_ptr())};
  }

 private:
  c10::cuda::CUDAStream stream_;
  Tensor workspace_;
  Tensor tickets_;
};

void check(int error) { C10_CUDA_CHECK(static_cast<cudaError_t>(error)); }

void loss(const LossArgs& args) {
  const Queue queue(cuda::workspace_bytes(args));
  check(cuda::loss(args, queue.launch()));
}

void sample(SampleArgs& args, const Tensor& seeds) {
  const Seed* rows = static_cast<const Seed*>(seeds.const_data_ptr());
  args.seeds = seeds.is_cpu() ? nullptr : rows;
  const Queue queue(cuda::workspace_bytes(args));
  check(cuda::sample(args, seeds.is_cpu() ? *rows : Seed{}, queue.launch()));
}

void sample_backward(const SampleBackwardArgs& args) {
  const Queue queue(cuda::workspace_bytes(args));
  check(cuda::sample_backward(args, queue.launch()));
}

void multinomial(const MultinomialArgs& args) { check(cuda::multinomial(args, Queue().launch())); }

void scale(const Tensor& gradient, const Tensor& factor) {
  if (gradient.numel() == 0) return;
  cuda::ScaleArgs args;
  // The value's dtype, which the upstream gradient has, may be wider than the operand's.
  args.float64 = gradient.scalar_type() == at::kDouble || factor.scalar_type() == at::kDouble;
  IndexSpace space(gradient.sizes());
  space.add(args.gradient, gradient);
  space.add(args.upstream, factor);
  space.simplify(args.shape, 0);
  check(cuda::scale_by_upstream(args, Queue().launch()));
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
  check(cuda::draw_seeds(state, rows, static_cast<Seed*>(seeds.mutable_data_ptr()),
                         Queue().launch()));
}

}  // namespace

const Device kCuda = {
    .empty = empty,
    .loss = loss,
    .sample = sample,
    .sample_backward = sample_backward,
    .multinomial = multinomial,
    .scale = scale,
    .draw_seeds = draw_seeds,
    .is_capturing = is_capturing,
};

}  // namespace vae_fast::bindings
