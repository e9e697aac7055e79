// The tensors of one call in one index space, as the kernels walk through them.
#pragma once

#include "calls/view.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

// Collects the tensors of one call in the index space `shape`, then makes that space as simple as
// their strides allow: fewer dimensions, longer runs.
class IndexSpace {
 public:
  explicit IndexSpace(Span shape) : shape_(shape) {}

  void add(Input& input, const View& tensor);
  void add(Output& output, const View& tensor);

  // A value: in the index space only where it has one entry per element, else dense by itself.
  void add_value(Output& output, const View& tensor);

  // From here on the dimensions from `first_movable` on may be reordered, to follow the memory of
  // the input added first.
  void simplify(Shape& result, int64_t first_movable);

 private:
  void add_strides(int64_t* strides, const View& tensor);
  void follow_memory(int64_t first_movable);
  void drop_dimension(int64_t d);
  bool can_merge(int64_t d) const;
  std::span<int64_t* const> tensors() const { return {strides_, count_}; }

  Sizes shape_;
  int64_t* strides_[2 * kMaxMixtureOperands + 1];  // of a mixture's elements: the most
  size_t count_ = 0;
};

#pragma GCC visibility pop
}  // namespace vae_fast::calls
