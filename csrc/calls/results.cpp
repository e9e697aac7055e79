#include "calls/results.h"

namespace vae_fast::calls {

View Results::make_like(size_t result, const View& operand, Span sizes, Dtype dtype) {
  if (!std::ranges::equal(operand.sizes, sizes) || operand.is_contiguous()) {
    return make(result, sizes, dtype);
  }
  const Sizes strides =
      operand.is_dense() ? operand.strides : dense_strides(sizes, operand.strides);
  return make(result, sizes, strides, dtype);
}

}  // namespace vae_fast::calls
