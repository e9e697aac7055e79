#include "calls/gpu.h"

#include "calls/index_space.h"

namespace vae_fast::calls {

void scale(const Gpu& gpu, const View& gradient, const View& factor) {
  if (gradient.numel() == 0) return;
  cuda::ScaleArgs args;
  // The value's dtype, which the upstream gradient has, may be wider than the operand's.
  args.float64 = gradient.dtype() == Dtype::kFloat64 || factor.dtype() == Dtype::kFloat64;
  IndexSpace space(gradient.sizes);
  space.add(args.gradient, gradient);
  space.add(args.upstream, factor);
  space.simplify(args.shape, 0);
  gpu.scale(args);
}

}  // namespace vae_fast::calls
