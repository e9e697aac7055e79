#include "calls/index_space.h"

#include <utility>

namespace vae_fast::calls {
namespace {

void set_output(Output& output, const View& tensor) {
  output.data = tensor.data;
  output.dtype = tensor.dtype();
  output.numel = tensor.numel();
}

}  // namespace

void IndexSpace::add(Input& input, const View& tensor) {
  input.data = tensor.data;
  input.dtype = tensor.dtype();
  add_strides(input.strides, tensor);
}

void IndexSpace::add(Output& output, const View& tensor) {
  set_output(output, tensor);
  output.is_summed = output.numel < product(shape_);
  add_strides(output.strides, tensor);
}

void IndexSpace::add_value(Output& output, const View& tensor) {
  set_output(output, tensor);
  if (output.numel != product(shape_)) return;
  View each = tensor;
  each.sizes = shape_;
  each.strides = contiguous_strides(shape_);
  add_strides(output.strides, each);
}

void IndexSpace::add_strides(int64_t* strides, const View& tensor) {
  const size_t missing = shape_.size() - tensor.sizes.size();
  for (size_t d = 0; d < shape_.size(); ++d) {
    const bool broadcasts = d < missing || (tensor.sizes[d - missing] == 1 && shape_[d] != 1);
    strides[d] = broadcasts ? 0 : tensor.strides[d - missing];
  }
  strides_[count_++] = strides;
}

void IndexSpace::drop_dimension(int64_t d) {
  for (int64_t* strides : tensors())
    std::copy(strides + d + 1, strides + shape_.size(), strides + d);
  shape_.erase(d);
}

// Channels-last tensors, say: their memory order gives the long runs.
void IndexSpace::follow_memory(int64_t first_movable) {
  const int64_t* leader = strides_[0];
  const int64_t dims = static_cast<int64_t>(shape_.size());
  for (int64_t d = first_movable; d < dims; ++d) {
    if (leader[d] == 0) return;
  }
  for (int64_t end = first_movable + 1; end < dims; ++end) {
    for (int64_t d = end; d > first_movable && leader[d - 1] < leader[d]; --d) {
      for (int64_t* strides : tensors()) std::swap(strides[d - 1], strides[d]);
      std::swap(shape_[d - 1], shape_[d]);
    }
  }
}

bool IndexSpace::can_merge(int64_t d) const {
  return std::ranges::all_of(tensors(), [&](const int64_t* strides) {
    return strides[d] == shape_[d + 1] * strides[d + 1];
  });
}

void IndexSpace::simplify(Shape& result, int64_t first_movable) {
  for (int64_t d = static_cast<int64_t>(shape_.size()) - 1; d >= 0; --d) {
    if (shape_[d] != 1) continue;
    drop_dimension(d);
    if (d < first_movable) --first_movable;
  }
  if (count_ > 0) follow_memory(first_movable);
  for (int64_t d = static_cast<int64_t>(shape_.size()) - 2; d >= 0; --d) {
    if (!can_merge(d)) continue;
    shape_[d + 1] *= shape_[d];
    drop_dimension(d);
  }
  if (shape_.empty()) {
    shape_.push_back(1);
    for (int64_t* strides : tensors()) strides[0] = 1;
  }
  result.dims = static_cast<int>(shape_.size());
  std::ranges::copy(shape_, result.sizes);
  result.numel = product(shape_);
}

}  // namespace vae_fast::calls
