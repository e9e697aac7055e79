#include "calls/sampling.h"

#include "calls/index_space.h"

namespace vae_fast::calls {
namespace {

void check_seed(const char* op, const View& seed, Span shape, const Place& place) {
  VAE_FAST_REQUIRE(seed.torch_dtype == torch_dtype(Dtype::kInt64), BadType, op, ": seed has dtype ",
                   shown_dtype(seed.torch_dtype), ", expected int64 as draw_seed() gives it");
  VAE_FAST_REQUIRE(seed.dims() == 2 && seed.sizes[1] == 2 && seed.sizes[0] > 0 &&
                       product(shape) % seed.sizes[0] == 0,
                   BadValue, op, ": seed has shape ", shown(seed.sizes),
                   ", expected (1, 2), or (R, 2): one row for each of R equal parts of z of shape ",
                   shown(shape), ", in order");
  VAE_FAST_REQUIRE(is_cpu(seed.place) || seed.place == place, BadValue, op, ": seed is on ",
                   shown(seed.place), ", expected cpu", is_cpu(place) ? "" : " or " + shown(place));
}

LossArgs divergence_args(Views operands, Span shape) {
  LossArgs args;
  args.loss = divergence_of(operands.size());
  args.float64 = is_float64(operands);
  args.shape.numel = product(shape);
  return args;
}

}  // namespace

uint64_t draw_from_counter(uint64_t seed, uint64_t offset, int64_t rows, Seed* seeds) {
  for (int64_t row = 0; row < rows; ++row, offset += kSeedStride) {
    seeds[row] = seed_of_generator(seed, offset);
  }
  return offset;
}

int divergence_of(size_t operands) {
  static const int standard_normal = loss_named("standard_normal_kl");
  static const int gaussian = loss_named("gaussian_kl");
  return operands == 2 ? standard_normal : gaussian;
}

void sample(const Kernels& kernels, const char* op, Views operands, const View& seed,
            const std::optional<Reduction>& reduction, int64_t want, Results& results) {
  const LossInfo& info = loss_info(divergence_of(operands.size()));
  const Sizes shape = check_operands(info, op, operands, nullptr);
  const View& mu = operands[kMu];
  check_seed(op, seed, shape, mu.place);
  const int64_t dims = static_cast<int64_t>(shape.size());
  const Dtype dtype = promoted_dtype(operands);
  const View z = results.make_like(kZ, mu, shape, dtype);

  SampleArgs args;
  args.divergence = divergence_args(operands, shape);
  IndexSpace space(shape);
  for (size_t k = 0; k < operands.size(); ++k) space.add(args.divergence.operands[k], operands[k]);
  space.add(args.z, z);
  if (is_wanted(want, kLogvar)) {
    space.add(args.noise, results.make_like(kNoise, mu, shape, dtype));
  } else {
    results.make_nothing(kNoise, dtype);
  }
  if (reduction) {
    check_reduction(op, *reduction, dims);
    const View value = results.make(kDivergence, Span(shape).first(reduction->keep),
                                    reduction->keep < dims ? sum_dtype(dtype) : dtype);
    args.divergence.groups = value.numel();
    args.divergence.scale = mean_factor(shape, *reduction);
    space.add_value(args.divergence.value, value);
  }
  if (product(shape) == 0) {
    if (reduction) results.fill(kDivergence, 0 * args.divergence.scale);
    return;
  }
  // The order of the elements is the order of their noise: no dimension moves.
  space.simplify(args.divergence.shape, dims);
  args.seed_rows = seed.sizes[0];
  kernels.sample(args, seed);
}

void sample_backward(const Kernels& kernels, const View* grad_z, const View* grad_divergence,
                     Views operands, const View* noise, Reduction reduction, int64_t want,
                     Results& results) {
  const char* op = "reparameterize_kl_backward";
  const Sizes shape =
      check_operands(loss_info(divergence_of(operands.size())), op, operands, nullptr);
  const int64_t dims = static_cast<int64_t>(shape.size());
  const View& mu = operands[kMu];
  check_reduction(op, reduction, dims);
  const bool takes_noise = grad_z != nullptr && is_wanted(want, kLogvar);
  VAE_FAST_REQUIRE(noise != nullptr || !takes_noise, BadValue, op,
                   ": noise is missing, expected where grad_z is given and the gradient in logvar "
                   "is wanted");
  if (noise != nullptr) check_gradient(op, "noise", *noise, shape, mu.place);
  if (grad_z != nullptr) check_gradient(op, "grad_z", *grad_z, shape, mu.place);
  if (grad_divergence != nullptr) {
    check_gradient(op, "grad_kl", *grad_divergence, Span(shape).first(reduction.keep), mu.place);
  }
  Gradients gradients;
  make_gradients(results, 0, operands, want, gradients);
  for (size_t k = operands.size(); k < kMaxOperands; ++k) results.make_nothing(k, mu.dtype());
  if (product(shape) == 0) {
    fill_gradients(results, 0, operands.size(), want);
    return;
  }
  SampleBackwardArgs args;
  args.divergence = divergence_args(operands, shape);
  args.divergence.scale = mean_factor(shape, reduction);
  IndexSpace space(shape);
  for (size_t k = 0; k < operands.size(); ++k) {
    space.add(args.divergence.operands[k], operands[k]);
    if (is_wanted(want, k)) space.add(args.divergence.gradients[k], gradients[k]);
  }
  if (takes_noise) space.add(args.noise, *noise);
  if (grad_z != nullptr) space.add(args.grad_z, *grad_z);
  if (grad_divergence != nullptr) {
    space.add(args.grad_value, grad_divergence->with_trailing(dims));
  }
  space.simplify(args.divergence.shape, 0);
  kernels.sample_backward(args);
}

}  // namespace vae_fast::calls
