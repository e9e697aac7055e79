#include "calls/pairs.h"

namespace vae_fast::calls {
namespace {

constexpr const char* kDensities = "pairs_log_sum_exp";
constexpr const char* kKernelSum = "pairs_kernel_sum";
constexpr const char* kNearest = "pairs_nearest";

void check_matrix(const char* op, const char* name, const View& x, const Place& place) {
  VAE_FAST_REQUIRE(is_floating(x.dtype()), BadType, op, ": ", name, " has dtype ",
                   shown_dtype(x.torch_dtype), ", expected a floating one");
  VAE_FAST_REQUIRE(x.place == place, BadValue, op, ": ", name, " is on ", shown(x.place),
                   ", expected ", shown(place), " like x");
  VAE_FAST_REQUIRE(x.dims() == 2, BadValue, op, ": ", name, " has shape ", shown(x.sizes),
                   ", expected two dimensions");
}

void check_shape(const char* op, const char* name, const View& x, Span expected) {
  VAE_FAST_REQUIRE(std::ranges::equal(Span(x.sizes), expected), BadValue, op, ": ", name,
                   " has shape ", shown(x.sizes), ", expected ", shown(expected));
}

Input input_of(const View& x) {
  Input input;
  input.data = x.data;
  input.dtype = x.dtype();
  std::ranges::copy(Span(x.strides), input.strides);
  return input;
}

Output output_of(const View& x) {
  Output output;
  output.data = x.data;
  output.dtype = x.dtype();
  std::ranges::copy(Span(x.strides), output.strides);
  output.numel = x.numel();
  return output;
}

// Rows against others, of two dimensions and as many numbers.
PairsArgs args_of(const char* op, const char* of_others, const View& x, const View& others) {
  check_matrix(op, "x", x, x.place);
  check_matrix(op, of_others, others, x.place);
  const Sizes expected = {others.sizes[0], x.sizes[1]};
  check_shape(op, of_others, others, expected);
  VAE_FAST_REQUIRE(others.numel() > 0, BadValue, op, ": ", of_others, " has shape ",
                   shown(others.sizes), ", expected at least one row of at least one number");
  PairsArgs args;
  const View both[] = {x, others};
  args.float64 = is_float64(both);
  args.rows = x.sizes[0];
  args.components = others.sizes[0];
  args.dims = x.sizes[1];
  args.x = input_of(x);
  args.mean = input_of(others);
  return args;
}

PairsArgs args_of(const DensityTensors& tensors) {
  const View &x = tensors.x, &weights = tensors.log_weights;
  PairsArgs args = args_of(kDensities, "mean", x, tensors.mean);
  check_matrix(kDensities, "logvar", tensors.logvar, x.place);
  check_shape(kDensities, "logvar", tensors.logvar, tensors.mean.sizes);
  check_matrix(kDensities, "log_weights", weights, x.place);
  const Sizes expected = {weights.sizes[0] == 1 ? 1 : args.rows, args.components};
  check_shape(kDensities, "log_weights", weights, expected);
  args.marginal = tensors.marginal;
  const View all[] = {x, tensors.mean, tensors.logvar, weights};
  args.float64 = is_float64(all);
  args.logvar = input_of(tensors.logvar);
  args.log_weights = input_of(weights);
  if (weights.sizes[0] == 1) args.log_weights.strides[0] = 0;
  return args;
}

PairsArgs args_of(const KernelTensors& tensors) {
  PairsArgs args = args_of(kKernelSum, "y", tensors.x, tensors.y);
  VAE_FAST_REQUIRE(tensors.kernel == 0 || tensors.kernel == 1, BadValue, kKernelSum, ": kernel is ",
                   tensors.kernel, ", expected 0 or 1");
  VAE_FAST_REQUIRE(!tensors.widths.empty() && tensors.widths.size() <= kMaxWidths, BadValue,
                   kKernelSum, ": ", tensors.widths.size(), " widths, expected 1 to ", kMaxWidths);
  args.reduction =
      tensors.kernel == 0 ? PairsReduction::kGaussian : PairsReduction::kMultiquadratic;
  args.widths = static_cast<int>(tensors.widths.size());
  for (size_t k = 0; k < tensors.widths.size(); ++k) {
    VAE_FAST_REQUIRE(tensors.widths[k] > 0, BadValue, kKernelSum, ": a width is ",
                     tensors.widths[k], ", expected more than 0");
    args.width[k] = tensors.widths[k];
  }
  return args;
}

Sizes value_sizes(const PairsArgs& args) {
  return args.marginal ? Sizes{args.rows, args.dims} : Sizes{args.rows};
}

// The kernels read values and upstream gradients as they lie, one after the other.
Input dense(const char* op, const char* name, const View& x, Span shape, const Place& place) {
  check_gradient(op, name, x, shape, place);
  VAE_FAST_REQUIRE(x.is_contiguous(), BadValue, op, ": ", name, " is not contiguous");
  return input_of(x);
}

void want_gradient(Results& results, size_t result, const View& operand, int64_t want,
                   Output& gradient) {
  if (!is_wanted(want, result)) return results.make_nothing(result, operand.dtype());
  gradient = output_of(results.make(result, operand.sizes, operand.dtype()));
}

// From no row nothing comes.
void run_backward(const Kernels& kernels, const PairsArgs& args, size_t count, int64_t want,
                  Results& results) {
  if (args.rows > 0) return kernels.pairs(args);
  for (size_t result = 0; result < count; ++result) {
    if (is_wanted(want, result)) results.fill(result, 0);
  }
}

}  // namespace

void log_sum_exp(const Kernels& kernels, const DensityTensors& tensors, Results& results) {
  PairsArgs args = args_of(tensors);
  const View all[] = {tensors.x, tensors.mean, tensors.logvar, tensors.log_weights};
  args.value = output_of(results.make(0, value_sizes(args), sum_dtype(promoted_dtype(all))));
  if (args.rows > 0) kernels.pairs(args);
}

void log_sum_exp_backward(const Kernels& kernels, const View& upstream, const View& computed,
                          const DensityTensors& tensors, int64_t want, Results& results) {
  PairsArgs args = args_of(tensors);
  const Sizes shape = value_sizes(args);
  args.upstream = dense(kDensities, "upstream", upstream, shape, tensors.x.place);
  args.computed = dense(kDensities, "computed", computed, shape, tensors.x.place);
  const View& weights = tensors.log_weights;
  VAE_FAST_REQUIRE(!is_wanted(want, 3) || weights.sizes[0] == 1, BadValue, kDensities,
                   ": log_weights has shape ", shown(weights.sizes),
                   ", and a gradient is wanted: expected (1, K), weights that all rows share");
  want_gradient(results, 0, tensors.x, want, args.grad_x);
  want_gradient(results, 1, tensors.mean, want, args.grad_mean);
  want_gradient(results, 2, tensors.logvar, want, args.grad_logvar);
  want_gradient(results, 3, weights, want, args.grad_log_weights);
  args.grad_log_weights.strides[0] = 1;  // of (1, K)
  run_backward(kernels, args, 4, want, results);
}

void kernel_sum(const Kernels& kernels, const KernelTensors& tensors, Results& results) {
  PairsArgs args = args_of(tensors);
  args.value = output_of(results.make(0, value_sizes(args), Dtype::kFloat64));
  if (args.rows > 0) kernels.pairs(args);
}

void kernel_sum_backward(const Kernels& kernels, const View& upstream, const KernelTensors& tensors,
                         int64_t want, Results& results) {
  PairsArgs args = args_of(tensors);
  args.upstream = dense(kKernelSum, "upstream", upstream, value_sizes(args), tensors.x.place);
  want_gradient(results, 0, tensors.x, want, args.grad_x);
  want_gradient(results, 1, tensors.y, want, args.grad_mean);
  run_backward(kernels, args, 2, want, results);
}

void nearest(const Kernels& kernels, const View& x, const View& codes, Results& results) {
  PairsArgs args = args_of(kNearest, "codes", x, codes);
  args.reduction = PairsReduction::kNearest;
  const View indices = results.make(0, value_sizes(args), Dtype::kInt64);
  args.nearest = static_cast<int64_t*>(indices.data);
  if (args.rows > 0) kernels.pairs(args);
}

}  // namespace vae_fast::calls
