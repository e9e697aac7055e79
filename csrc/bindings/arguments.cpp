#include "bindings/arguments.h"

#include <ATen/ExpandUtils.h>

#include <algorithm>

#include "calls/csr.h"

namespace vae_fast::bindings {
namespace {

at::IntArrayRef array_of(calls::Span sizes) { return {sizes.data(), sizes.size()}; }

bool fits_into(at::IntArrayRef sizes, at::IntArrayRef whole) {
  if (sizes.size() > whole.size()) return false;
  const at::IntArrayRef own = whole.slice(whole.size() - sizes.size());
  return std::equal(sizes.begin(), sizes.end(), own.begin(),
                    [](int64_t size, int64_t of) { return size == of || size == 1; });
}

}  // namespace

calls::View view_of(const Tensor& x) {
  return {.data = const_cast<void*>(x.const_data_ptr()),
          .torch_dtype = static_cast<int>(x.scalar_type()),
          .place = {static_cast<int>(x.device().type()), x.device().index()},
          .sizes = span_of(x.sizes()),
          .strides = span_of(x.strides())};
}

ViewVector views_of(at::TensorList tensors) {
  ViewVector views;
  for (const Tensor& tensor : tensors) views.push_back(view_of(tensor));
  return views;
}

calls::View TensorResults::make(size_t result, calls::Span sizes, calls::Span strides,
                                Dtype dtype) {
  Tensor& tensor = tensors[result];
  tensor = device_.empty(array_of(sizes), static_cast<at::ScalarType>(calls::torch_dtype(dtype)));
  if (tensor.strides() != array_of(strides)) {
    tensor.unsafeGetTensorImpl()->set_sizes_and_strides(array_of(sizes), array_of(strides));
  }
  calls::View view = view_of(tensor);
  view.data = tensor.mutable_data_ptr();
  return view;
}

void TensorResults::fill(size_t result, double value) { tensors[result].fill_(value); }

void TensorResults::reduce(size_t result, int64_t keep, double factor) {
  Tensor& tensor = tensors[result];
  at::DimVector dims;
  for (int64_t d = keep; d < tensor.dim(); ++d) dims.push_back(d);
  if (!dims.empty()) tensor = tensor.sum(dims);
  if (factor != 1) tensor.mul_(factor);
}

void TensorResults::sum_to(size_t result, calls::Span sizes) {
  tensors[result] = at::sum_to(tensors[result], array_of(sizes));
}

bool is_plain_csr(const Tensor& starts, const Tensor& columns, const Tensor& values) {
  return calls::is_plain_csr({view_of(starts), view_of(columns), view_of(values)});
}

void check_csr(const char* op, const char* name, const Tensor& starts, const Tensor& columns,
               const Tensor& values, int64_t width) {
  raising([&] {
    calls::check_csr(op, name, {view_of(starts), view_of(columns), view_of(values)}, width);
  });
}

void check_public_shapes(const LossInfo& info, at::TensorList operands, const OptionalTensor& mask,
                         int64_t batch_dims) {
  const auto is_symbolic = [](const Tensor& x) {
    return x.unsafeGetTensorImpl()->has_symbolic_sizes_strides();
  };
  if (std::any_of(operands.begin(), operands.end(), is_symbolic)) return;
  const at::IntArrayRef whole = operands[0].sizes();
  const int64_t dims = static_cast<int64_t>(whole.size());
  // The default of one is nothing said where a number is summed.
  bool fits = 0 <= batch_dims && batch_dims <= std::max<int64_t>(dims, 1);
  for (size_t k = 1; fits && k < operands.size(); ++k) {
    const at::IntArrayRef sizes = operands[k].sizes();
    if (sizes == whole) continue;
    const int64_t leading = dims - operands[k].dim();
    fits = calls::is_target(info, k)
               ? 0 <= leading && leading <= batch_dims && whole.slice(leading) == sizes
               : fits_into(sizes, whole);
  }
  fits = fits && (!mask || fits_into(mask->sizes(), whole));
  TORCH_CHECK_VALUE(fits, info.name, ": the shapes or batch_dims do not fit ", whole);
}

bool is_float64(at::TensorList operands) {
  return std::any_of(operands.begin(), operands.end(),
                     [](const Tensor& x) { return x.scalar_type() == at::kDouble; });
}

Tensor in_arithmetic(const Tensor& x, bool is_float64) {
  return x.scalar_type() == at::kDouble && !is_float64 ? x.to(at::kFloat) : x;
}

at::ScalarType sum_dtype(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

int64_t product(at::IntArrayRef sizes) {
  return raising([&] { return calls::product(span_of(sizes)); });
}

}  // namespace vae_fast::bindings
