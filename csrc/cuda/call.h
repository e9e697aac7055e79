// A call of an op, as its plan is made: the index space and the tensors, before they are laid out
// for a loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "cuda/loop_args.h"
#include "kernels.h"

namespace vae_fast::cuda {

Tensor tensor_of(const Input& input, int dims);
Tensor tensor_of(const Output& output, int dims);

struct Call {
  int dims = 0;
  int64_t sizes[kLoopDims] = {};
  int64_t numel = 1;
  bool float64 = false;
  bool has_target = false;  // the last input, which may have a dtype of its own
  int input_count = 0, output_count = 0;
  Tensor inputs[kMaxInputs], mask, upstream, value, outputs[kMaxOutputs];
  bool output_is_summed[kMaxOutputs] = {};
  bool value_is_summed = false;
  int64_t groups = 1;
  double scale = 1;

  explicit Call(const Shape& shape, bool is_float64)
      : dims(shape.dims), numel(shape.numel), float64(is_float64) {
    std::copy(shape.sizes, shape.sizes + shape.dims, sizes);
  }

  void add_input(const Input& input);
  void add_output(const Output& output);

  // f for every tensor that is given.
  template <class F>
  void for_each(const F& f) {
    const auto given = [&](Tensor& tensor, bool follows_elements) {
      if (tensor.data != nullptr) f(tensor, follows_elements);
    };
    for (int k = 0; k < input_count; ++k) given(inputs[k], true);
    given(mask, true);
    given(upstream, true);
    given(value, !value_is_summed);
    for (int k = 0; k < output_count; ++k) given(outputs[k], !output_is_summed[k]);
  }

  // Cuts the dimensions so that the first `result` of them have `count` entries. Nothing, where
  // `count` is no boundary.
  std::optional<int> split_at(int64_t count);

  // Brings the dimensions for which keep(d) holds to the front, otherwise in order.
  template <class Keep>
  int move_to_front(const Keep& keep) {
    int order[kLoopDims], kept = 0, n = 0;
    for (int d = 0; d < dims; ++d) {
      if (keep(d)) order[n++] = d;
    }
    kept = n;
    for (int d = 0; d < dims; ++d) {
      if (!keep(d)) order[n++] = d;
    }
    permute(order);
    return kept;
  }

  void permute(const int* order);

  // Dimension d becomes (outer, rest).
  void cut(int d, int64_t outer);
};

// float64 tensors come with float64 arithmetic only; a space has a dimension.
bool is_valid(Call& call);
// For the accesses that so many elements take.
bool is_aligned(const Tensor& tensor, int64_t elements);
// Whether every element is the same.
bool is_one_element(const Call& call, const Tensor& tensor);
bool is_dense(const Call& call, const Tensor& tensor);

}  // namespace vae_fast::cuda
