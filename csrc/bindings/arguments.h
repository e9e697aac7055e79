// From tensors to calls (calls/view.h), and back.
#pragma once

#include <span>

#include "bindings/autograd.h"
#include "bindings/device.h"

namespace vae_fast::bindings {

inline calls::Span span_of(at::IntArrayRef sizes) { return {sizes.data(), sizes.size()}; }

// What a call reads, or writes in place.
calls::View view_of(const Tensor& x);

// Of one that may not be given.
inline std::optional<calls::View> view_of(const OptionalTensor& x) {
  return x ? std::optional(view_of(*x)) : std::nullopt;
}

template <class T>
const T* pointer_to(const std::optional<T>& x) {
  return x ? &*x : nullptr;
}

using ViewVector = c10::SmallVector<calls::View, kMaxOperands>;
ViewVector views_of(at::TensorList tensors);
inline calls::Views all_of(const ViewVector& views) { return {views.data(), views.size()}; }

// The tensors that a call makes, on one device.
class TensorResults final : public calls::Results {
 public:
  TensorResults(const Device& device, size_t count) : tensors(count), device_(device) {}

  calls::View make(size_t result, calls::Span sizes, calls::Span strides, Dtype dtype) override;
  using calls::Results::make;
  void fill(size_t result, double value) override;
  void reduce(size_t result, int64_t keep, double factor) override;
  void sum_to(size_t result, calls::Span sizes) override;

  TensorVector tensors;

 private:
  const Device& device_;
};

// The function's result; what calls throws becomes the ValueError or TypeError of Python.
template <class Function>
auto raising(Function&& function) {
  try {
    return function();
  } catch (const calls::BadType& error) {
    TORCH_CHECK_TYPE(false, error.what());
  } catch (const calls::BadValue& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
}

// calls::is_plain_csr and calls::check_csr.
bool is_plain_csr(const Tensor& starts, const Tensor& columns, const Tensor& values);
void check_csr(const char* op, const char* name, const Tensor& starts, const Tensor& columns,
               const Tensor& values, int64_t width);

// The public functions' rule, for their own entries (checks.check_shapes has it in words): a target
// has the first operand's shape but for leading batch dimensions, all else broadcasts to that
// shape.
void check_public_shapes(const LossInfo& info, at::TensorList operands, const OptionalTensor& mask,
                         int64_t batch_dims);

// Whether the arithmetic is float64's: where any operand is.
bool is_float64(at::TensorList operands);

// An upstream gradient as the kernels take it: float64 only where the arithmetic is.
Tensor in_arithmetic(const Tensor& x, bool is_float64);

// At least float32 for sums.
at::ScalarType sum_dtype(at::ScalarType dtype);

int64_t product(at::IntArrayRef sizes);

}  // namespace vae_fast::bindings
