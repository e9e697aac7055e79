#include "calls/multinomial.h"

#include "calls/index_space.h"

namespace vae_fast::calls {
namespace {

constexpr const char* kName = "multinomial_nll";
constexpr const char* kOperands[] = {"logits", "target"};
constexpr LossInfo kInfo{kName, kOperands, 2, Target::kNumber};

Sizes check_rows(Views operands) {
  const Sizes shape = check_operands(kInfo, kName, operands, nullptr);
  VAE_FAST_REQUIRE(!shape.empty(), BadValue, kName, ": logits have no dimension of classes");
  VAE_FAST_REQUIRE(operands[0].sizes == operands[1].sizes, BadValue, kName, ": target has shape ",
                   shown(operands[1].sizes), ", expected that of logits ",
                   shown(operands[0].sizes));
  return shape;
}

Sizes check_call(Views operands, Reduction reduction) {
  const Sizes shape = check_rows(operands);
  const int64_t dims = static_cast<int64_t>(shape.size());
  check_reduction(kName, reduction, dims);
  VAE_FAST_REQUIRE(reduction.keep < dims, BadValue, kName, ": keep is ", reduction.keep,
                   ", expected less than ", dims, ": the last dimension are the classes");
  return shape;
}

// The value of each row, as result `value`. `gradient`: times `scale`; null where it is not wanted.
// `upstream`: times this too, which broadcasts with the rows and a dimension of one.
void evaluate_rows(const Kernels& kernels, Views operands, double scale, const View* gradient,
                   const View* upstream, Results& results, size_t value) {
  const Sizes& shape = operands[0].sizes;
  const Dtype dtype = sum_dtype(promoted_dtype(operands));
  const View rows = results.make(value, Span(shape).first(shape.size() - 1), dtype);
  if (product(shape) == 0) {
    results.fill(value, 0);
    return;
  }
  MultinomialArgs args;
  args.float64 = dtype == Dtype::kFloat64;
  args.classes = shape.back();
  args.scale = scale;
  IndexSpace space(shape);
  space.add(args.logits, operands[0]);
  space.add(args.target, operands[1]);
  if (upstream != nullptr) space.add(args.upstream, *upstream);
  if (gradient != nullptr) space.add(args.gradient, *gradient);
  space.add_value(args.value, rows);
  space.simplify(args.shape, static_cast<int64_t>(shape.size()));
  kernels.multinomial(args);
}

// Over nothing the mean is not a number, but for nothing there is no gradient either.
double gradient_scale(Span shape, Reduction reduction) {
  const int64_t entries = product(shape.subspan(reduction.keep, reduction.mean));
  return 1.0 / static_cast<double>(std::max<int64_t>(1, entries));
}

}  // namespace

void multinomial(const Kernels& kernels, const View& logits, const View& target,
                 Reduction reduction, bool wants_gradient, Results& results) {
  const View operands[] = {logits, target};
  const Sizes shape = check_call(operands, reduction);
  View gradient;
  if (wants_gradient) {
    gradient = results.make_like(1, logits, shape, logits.dtype());
  } else {
    results.make_nothing(1, logits.dtype());
  }
  evaluate_rows(kernels, operands, gradient_scale(shape, reduction),
                wants_gradient ? &gradient : nullptr, nullptr, results, 0);
  results.reduce(0, reduction.keep, mean_factor(shape, reduction));
}

void multinomial_backward(const Kernels& kernels, const View& upstream, const View& logits,
                          const View& target, Reduction reduction, Results& results) {
  const View operands[] = {logits, target};
  const Sizes shape = check_call(operands, reduction);
  check_gradient(kName, "upstream", upstream, Span(shape).first(reduction.keep), logits.place);
  const View gradient = results.make_like(0, logits, shape, logits.dtype());
  const View factor = upstream.with_trailing(logits.dims());
  evaluate_rows(kernels, operands, gradient_scale(shape, reduction), &gradient, &factor, results,
                1);
}

void multinomial_rows(const Kernels& kernels, const View& logits, const View& target, double scale,
                      bool in_place, const View* upstream, Results& results) {
  const View operands[] = {logits, target};
  check_rows(operands);
  evaluate_rows(kernels, operands, scale, in_place ? &logits : nullptr, upstream, results, 0);
}

}  // namespace vae_fast::calls
