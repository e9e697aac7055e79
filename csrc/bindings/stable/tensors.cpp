#include "bindings/stable/tensors.h"

#include <torch/csrc/stable/ops.h>

#include <array>

#include "calls/cpu.h"

namespace vae_fast::stable {
namespace {

template <class T>
T ask(AOTITorchError (*get)(AtenTensorHandle, T*), const Tensor& x) {
  T value{};
  STABLE_TORCH_ERROR_CODE_CHECK(get(x.get(), &value));
  return value;
}

torch::headeronly::IntHeaderOnlyArrayRef array_of(calls::Span sizes) {
  return {sizes.data(), sizes.size()};
}

Tensor scaled(const Tensor& x, double factor) {
  const Tensor scalar = torch::stable::full({}, factor, x.scalar_type());
  std::array<StableIValue, 2> stack{torch::stable::detail::from(x),
                                    torch::stable::detail::from(scalar)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::mul", "Tensor", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

constexpr calls::Kernels kCpuKernels = calls::kCpuKernels<cpu_parallel_for>;

}  // namespace

calls::View view_of(const Tensor& x) {
  const size_t dims = x.dim();
  return {.data = const_cast<void*>(ask<const void*>(torch_get_const_data_ptr, x)),
          .torch_dtype = ask<int32_t>(aoti_torch_get_dtype, x),
          .place = {ask<int32_t>(aoti_torch_get_device_type, x),
                    ask<int32_t>(aoti_torch_get_device_index, x)},
          .sizes = calls::Span(ask<int64_t*>(aoti_torch_get_sizes, x), dims),
          .strides = calls::Span(ask<int64_t*>(aoti_torch_get_strides, x), dims)};
}

std::vector<calls::View> views_of(const std::vector<Tensor>& tensors) {
  std::vector<calls::View> views;
  views.reserve(tensors.size());
  for (const Tensor& tensor : tensors) views.push_back(view_of(tensor));
  return views;
}

Tensor in_arithmetic(const Tensor& x, calls::Views operands) {
  const bool is_double = view_of(x).torch_dtype == calls::torch_dtype(Dtype::kFloat64);
  return is_double && !calls::is_float64(operands)
             ? torch::stable::to(x, torch::headeronly::ScalarType::Float)
             : x;
}

calls::View StableResults::make(size_t result, calls::Span sizes, calls::Span strides,
                                Dtype dtype) {
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                               calls::torch_dtype(dtype), place_.type, place_.index, &handle));
  tensors[result] = Tensor(handle);
  calls::View view = view_of(tensors[result]);
  view.data = ask<void*>(torch_get_mutable_data_ptr, tensors[result]);
  return view;
}

void StableResults::fill(size_t result, double value) {
  torch::stable::fill_(tensors[result], value);
}

void StableResults::reduce(size_t result, int64_t keep, double factor) {
  Tensor& tensor = tensors[result];
  calls::Sizes dims;
  for (int64_t d = keep; d < tensor.dim(); ++d) dims.push_back(d);
  if (!dims.empty()) tensor = torch::stable::sum(tensor, array_of(dims));
  if (factor != 1) tensor = scaled(tensor, factor);
}

void StableResults::sum_to(size_t result, calls::Span sizes) {
  Tensor& tensor = tensors[result];
  const calls::View view = view_of(tensor);
  const size_t missing = view.sizes.size() - sizes.size();
  calls::Sizes dims;
  for (size_t d = 0; d < view.sizes.size(); ++d) {
    const bool is_own = d >= missing && sizes[d - missing] == view.sizes[d];
    if (!is_own) dims.push_back(static_cast<int64_t>(d));
  }
  if (dims.empty()) return;
  tensor = torch::stable::sum(tensor, array_of(dims), /*keepdim=*/true);
  tensor = torch::stable::view(tensor, array_of(sizes));
}

void cpu_parallel_for(int64_t n, int64_t grain,
                      void (*body)(void* context, int64_t begin, int64_t end), void* context) {
  torch::stable::parallel_for(0, n, grain,
                              [&](int64_t begin, int64_t end) { body(context, begin, end); });
}

OnDevice::OnDevice(const Tensor& operand)
    : kernels(operand.is_cpu() ? kCpuKernels : gpu()->kernels) {
  if (!operand.is_cpu()) guard_.emplace(operand.get_device_index());
}

}  // namespace vae_fast::stable
