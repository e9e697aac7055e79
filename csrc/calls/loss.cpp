#include "calls/loss.h"

#include "calls/index_space.h"

namespace vae_fast::calls {
namespace {

LossArgs loss_args(const LossCall& call, Views operands, Span shape) {
  LossArgs args;
  args.loss = call.loss;
  args.float64 = is_float64(operands);
  args.scale = mean_factor(shape, call.reduction);
  return args;
}

void add_operands(IndexSpace& space, LossArgs& args, Views operands, const View* mask,
                  const Gradients& gradients, int64_t want) {
  for (size_t k = 0; k < operands.size(); ++k) space.add(args.operands[k], operands[k]);
  if (mask != nullptr) space.add(args.mask, *mask);
  for (size_t k = 0; k < operands.size(); ++k) {
    if (is_wanted(want, k)) space.add(args.gradients[k], gradients[k]);
  }
}

void make_gradient(Results& results, size_t result, const View& operand, Span sizes, bool is_wanted,
                   View& gradient) {
  if (is_wanted) {
    gradient = results.make_like(result, operand, sizes, operand.dtype());
  } else {
    results.make_nothing(result, gradient_dtype(operand));
  }
}

Sizes check_call(const LossCall& call, Views operands, const View* mask) {
  const LossInfo& info = loss_info(call.loss);
  const Sizes shape = check_operands(info, info.name, operands, mask);
  check_reduction(info.name, call.reduction, static_cast<int64_t>(shape.size()));
  return shape;
}

}  // namespace

void make_gradients(Results& results, size_t first, Views operands, int64_t want,
                    Gradients& gradients) {
  for (size_t k = 0; k < operands.size(); ++k) {
    make_gradient(results, first + k, operands[k], operands[k].sizes, is_wanted(want, k),
                  gradients[k]);
  }
}

void fill_gradients(Results& results, size_t first, size_t operands, int64_t want) {
  for (size_t k = 0; k < operands; ++k) {
    if (is_wanted(want, k)) results.fill(first + k, 0);
  }
}

void loss(const Kernels& kernels, const LossCall& call, Views operands, const View* mask,
          Results& results) {
  const Sizes shape = check_call(call, operands, mask);
  const size_t keep = call.reduction.keep;
  const Dtype dtype = promoted_dtype(operands);
  const View value =
      results.make(0, Span(shape).first(keep), keep < shape.size() ? sum_dtype(dtype) : dtype);
  Gradients gradients;
  for (size_t k = 0; k < operands.size(); ++k) {
    make_gradient(results, 1 + k, operands[k], gradient_shape(shape, operands[k].sizes, keep),
                  is_wanted(call.want, k), gradients[k]);
  }
  LossArgs args = loss_args(call, operands, shape);
  args.groups = value.numel();
  if (product(shape) == 0) {
    results.fill(0, 0 * args.scale);
    fill_gradients(results, 1, operands.size(), call.want);
    return;
  }
  IndexSpace space(shape);
  add_operands(space, args, operands, mask, gradients, call.want);
  space.add_value(args.value, value);
  space.simplify(args.shape, call.reduction.keep);
  kernels.loss(args);
}

void loss_backward(const Kernels& kernels, const LossCall& call, const View& upstream,
                   Views operands, const View* mask, Results& results) {
  const Sizes shape = check_call(call, operands, mask);
  check_gradient(loss_info(call.loss).name, "upstream", upstream,
                 Span(shape).first(call.reduction.keep), operands[0].place);
  Gradients gradients;
  make_gradients(results, 0, operands, call.want, gradients);
  LossArgs args = loss_args(call, operands, shape);
  if (product(shape) == 0) {
    fill_gradients(results, 0, operands.size(), call.want);
    return;
  }
  IndexSpace space(shape);
  add_operands(space, args, operands, mask, gradients, call.want);
  space.add(args.upstream, upstream.with_trailing(static_cast<int64_t>(shape.size())));
  space.simplify(args.shape, 0);
  kernels.loss(args);
}

}  // namespace vae_fast::calls
