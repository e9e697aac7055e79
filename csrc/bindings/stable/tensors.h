// From tensors of LibTorch's stable ABI to calls (calls/view.h), and back. The files of this folder
// use nothing else of torch: what they are compiled to runs on every release from 2.10 on, and what
// the other files of bindings/ do in C++ (autograd, autocast, the entries from Python) is Python's
// there (vae_fast/stable).
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <utility>
#include <vector>

#include "calls/checks.h"
#include "calls/gpu.h"
#include "calls/results.h"

namespace vae_fast::stable {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

calls::View view_of(const Tensor& x);
inline std::optional<calls::View> view_of(const OptionalTensor& x) {
  return x ? std::optional(view_of(*x)) : std::nullopt;
}
std::vector<calls::View> views_of(const std::vector<Tensor>& tensors);

template <class T>
const T* pointer_to(const std::optional<T>& x) {
  return x ? &*x : nullptr;
}

// An upstream gradient as the kernels take it: float64 only where the arithmetic is.
Tensor in_arithmetic(const Tensor& x, calls::Views operands);

// The tensors that a call makes, where another tensor is.
class StableResults final : public calls::Results {
 public:
  StableResults(const Tensor& beside, size_t count) : place_(view_of(beside).place) {
    tensors.reserve(count);
    for (size_t k = 0; k < count; ++k) tensors.push_back(beside);
  }

  calls::View make(size_t result, calls::Span sizes, calls::Span strides, Dtype dtype) override;
  using calls::Results::make;
  void fill(size_t result, double value) override;
  void reduce(size_t result, int64_t keep, double factor) override;
  void sum_to(size_t result, calls::Span sizes) override;

  std::vector<Tensor> tensors;  // those that were not made are `beside`

 private:
  calls::Place place_;
};

// Where a call runs: the current device for as long as this lives, and its kernels.
class OnDevice {
 public:
  explicit OnDevice(const Tensor& operand);

  const calls::Kernels& kernels;

 private:
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
};

// The GPU's kernels; null before vae_fast_use_gpu() (gpu.cpp).
const calls::Gpu* gpu();

// torch's threads, for the CPU's kernels.
void cpu_parallel_for(int64_t n, int64_t grain,
                      void (*body)(void* context, int64_t begin, int64_t end), void* context);

// The ops on a device that has kernels.
using Library = torch::stable::detail::StableLibrary;
void implement_losses(Library& library);
void implement_rows(Library& library);
void implement_pairs(Library& library);
void implement_sampling(Library& library);

// A boxed call's arguments, taken one after the other, and the place of its results.
class Stack {
 public:
  explicit Stack(StableIValue* values) : values_(values) {}

  template <class T>
  T take() {
    return torch::stable::detail::to<T>(values_[next_++]);
  }
  std::vector<Tensor> take_tensors(size_t count) {
    std::vector<Tensor> tensors;
    tensors.reserve(count);
    while (tensors.size() < count) tensors.push_back(take<Tensor>());
    return tensors;
  }

  // Once all arguments are taken.
  void give(const std::vector<Tensor>& results) {
    for (size_t k = 0; k < results.size(); ++k) {
      values_[k] = torch::stable::detail::from(results[k]);
    }
  }

 private:
  StableIValue* values_;
  size_t next_ = 0;
};

}  // namespace vae_fast::stable
