// The ops of reparameterized sampling:
//
//   draw_seed          two words from torch's generator; the only op here that is random
//   reparameterize     z = mu + exp(logvar / 2) * eps, deterministic in the seed
//   reparameterize_kl  the same with the divergence, in one pass
//   reparameterize_kl_backward
//
// Bit k of `want` asks for the gradient in operand k (mu, logvar, the prior's), as with the losses.
// Where the one in logvar will be wanted the forward leaves `noise` = dz/dlogvar = exp(logvar / 2)
// * eps / 2: to store and read it costs less than to draw it again, and z - mu would have lost its
// digits. What is not wanted is an empty tensor.
#include <ATen/autocast_mode.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/library.h>

#include "bindings/arguments.h"
#include "bindings/entry.h"
#include "bindings/sampling.h"

namespace vae_fast::bindings {
namespace {

// ---- the ops, as typed calls through the dispatcher --------------------------------------------

// Where a seed for noise on mu's device is drawn. Always right is on that device: what a graph
// records draws anew whenever it runs, and a fake tensor's device need not exist. On the host it
// costs no launch, and the kernel takes the seed by value.
at::Device place_of_seed(const Tensor& mu, const OptionalGenerator& generator) {
  const Device* kernels = kernels_for(mu.device());
  if (kernels == nullptr || mu.is_cpu()) return at::kCPU;
  if (at::isTensorSubclassLike(mu)) {
    return generator && generator->device().is_cpu() ? at::Device(at::kCPU) : mu.device();
  }
  const c10::DeviceGuard guard(mu.device());
  return kernels->recording() != 0 ? mu.device() : at::Device(at::kCPU);
}

}  // namespace

Sample call_sample(const Tensor& mu, const Tensor& logvar, const Tensor& seed, int64_t want) {
  static const auto op = op_handle<Sample(const Tensor&, const Tensor&, const Tensor&, int64_t)>(
      "vae_fast::reparameterize");
  return op.call(mu, logvar, seed, want);
}

Tensor call_draw_seed(const Tensor& mu, OptionalGenerator generator) {
  static const auto op = op_handle<Tensor(const Tensor&, OptionalGenerator)>("vae_fast::draw_seed");
  TORCH_CHECK_VALUE(!generator || generator->device().is_cpu() ||
                        generator->device().type() == mu.device().type(),
                    "generator is on ", generator->device(), ", expected ", mu.device().type());
  // A trace cannot name a generator: it draws where mu is, from the default one there.
  const bool is_traced = torch::jit::tracer::isTracing() && kernels_for(mu.device()) != nullptr;
  const at::Device place = is_traced && !generator ? mu.device() : place_of_seed(mu, generator);
  if (!generator && place.is_cpu() && mu.device().type() == kGpu) {
    generator = at::globalContext().defaultGenerator(mu.device());
  }
  // A fresh tensor makes every call distinct: the compiler merges equal calls of custom random ops.
  // torch.jit.trace folds what depends on no input into a constant, and merges equal calls too, but
  // neither where a tensor is written in place.
  Tensor like = at::empty({1, 2}, at::TensorOptions(at::kLong).device(place));
  if (is_traced) like.zero_();
  return op.call(like, generator);
}

SampleKl call_sample_kl(const Tensor& mu, const Tensor& logvar, const OptionalTensor& prior_mu,
                        const OptionalTensor& prior_logvar, const Tensor& seed, Reduction reduction,
                        int64_t want) {
  static const auto op =
      op_handle<SampleKl(const Tensor&, const Tensor&, const OptionalTensor&, const OptionalTensor&,
                         const Tensor&, int64_t, int64_t, int64_t)>("vae_fast::reparameterize_kl");
  return op.call(mu, logvar, prior_mu, prior_logvar, seed, reduction.keep, reduction.mean, want);
}

SampleKlGradients call_sample_kl_backward(const OptionalTensor& grad_z,
                                          const OptionalTensor& grad_kl, const Tensor& mu,
                                          const Tensor& logvar, const OptionalTensor& prior_mu,
                                          const OptionalTensor& prior_logvar,
                                          const OptionalTensor& noise, Reduction reduction,
                                          int64_t want) {
  static const auto op =
      op_handle<SampleKlGradients(const OptionalTensor&, const OptionalTensor&, const Tensor&,
                                  const Tensor&, const OptionalTensor&, const OptionalTensor&,
                                  const OptionalTensor&, int64_t, int64_t, int64_t)>(
          "vae_fast::reparameterize_kl_backward");
  return op.call(grad_z, grad_kl, mu, logvar, prior_mu, prior_logvar, noise, reduction.keep,
                 reduction.mean, want);
}

TensorVector divergence_operands(const char* op, const Tensor& mu, const Tensor& logvar,
                                 const OptionalTensor& prior_mu,
                                 const OptionalTensor& prior_logvar) {
  TORCH_CHECK_VALUE(prior_mu.has_value() == prior_logvar.has_value(), op, ": ",
                    prior_mu ? "prior_logvar" : "prior_mu",
                    " is missing, expected both or neither");
  TensorVector operands = {mu, logvar};
  if (prior_mu) {
    operands.push_back(*prior_mu);
    operands.push_back(*prior_logvar);
  }
  return operands;
}

int divergence_of(const TensorVector& operands) {
  static const int standard_normal = loss_named("standard_normal_kl");
  static const int gaussian = loss_named("gaussian_kl");
  return operands.size() == 2 ? standard_normal : gaussian;
}

namespace {

// ---- the kernels, on any device ----------------------------------------------------------------

// Two 64-bit words, the key and the offset of the noise, for each row of `like`, and where that is:
// the dispatcher chooses by the generator's device too.
Tensor draw_seed_kernel(const Tensor& like, OptionalGenerator generator) {
  const Device& device = *kernels_for(like.device());
  const c10::DeviceGuard guard(like.device());
  const Tensor seeds = device.empty(like.sizes(), at::kLong);
  device.draw_seeds(seeds, generator);
  return seeds;
}

void check_seed(const char* op, const Tensor& seed, at::IntArrayRef shape, at::Device device) {
  TORCH_CHECK_TYPE(seed.scalar_type() == at::kLong, op, ": seed has dtype ", seed.dtype(),
                   ", expected int64 as draw_seed() gives it");
  TORCH_CHECK_VALUE(
      seed.dim() == 2 && seed.size(1) == 2 && seed.size(0) > 0 &&
          product(shape) % seed.size(0) == 0,
      op, ": seed has shape ", seed.sizes(),
      ", expected (1, 2), or (R, 2): one row for each of R equal parts of z of shape ", shape,
      ", in order");
  TORCH_CHECK_VALUE(seed.is_cpu() || seed.device() == device, op, ": seed is on ", seed.device(),
                    ", expected cpu", device.is_cpu() ? "" : " or " + device.str());
}

LossArgs divergence_args(const TensorVector& operands, at::IntArrayRef shape) {
  LossArgs args;
  args.loss = divergence_of(operands);
  args.float64 = is_float64(operands);
  args.shape.numel = product(shape);
  return args;
}

// `reduction` is given where the divergence is wanted.
SampleKl sample(const Device& device, const char* op, const TensorVector& operands,
                const Tensor& seed, const std::optional<Reduction>& reduction, int64_t want) {
  const int divergence = divergence_of(operands);
  const at::DimVector shape = check_operands(loss_info(divergence), op, operands, std::nullopt);
  check_seed(op, seed, shape, operands[0].device());
  const c10::DeviceGuard guard(operands[0].device());
  // One row goes to a kernel by value, wherever it runs.
  const Tensor seeds = (seed.size(0) == 1 ? seed : seed.to(operands[0].device())).contiguous();
  const at::ScalarType dtype = promoted_dtype(operands);
  const Tensor z = empty_laid_out_like(device, operands[kMu], shape, dtype);
  const bool has_noise = is_wanted(want, kLogvar);
  const Tensor noise = has_noise ? empty_laid_out_like(device, operands[kMu], shape, dtype)
                                 : device.empty({0}, dtype);
  Tensor kl;

  SampleArgs args;
  args.divergence = divergence_args(operands, shape);
  IndexSpace space(shape);
  for (size_t k = 0; k < operands.size(); ++k) space.add(args.divergence.operands[k], operands[k]);
  space.add(args.z, z);
  if (has_noise) space.add(args.noise, noise);
  if (reduction) {
    check_reduction(op, reduction->keep, reduction->mean, static_cast<int64_t>(shape.size()));
    const bool is_summed = reduction->keep < static_cast<int64_t>(shape.size());
    kl = device.empty(at::IntArrayRef(shape).slice(0, reduction->keep),
                      is_summed ? sum_dtype(dtype) : dtype);
    args.divergence.groups = kl.numel();
    args.divergence.scale = mean_factor(shape, *reduction);
    space.add_value(args.divergence.value, kl);
  }
  if (product(shape) == 0) {
    if (kl.defined()) kl.fill_(0 * args.divergence.scale);
    return {z, kl, noise};
  }
  // The order of the elements is the order of their noise: no dimension moves.
  space.simplify(args.divergence.shape, static_cast<int64_t>(shape.size()));
  args.seed_rows = seeds.size(0);
  device.sample(args, seeds);
  return {z, kl, noise};
}

template <const Device& device>
Sample reparameterize_kernel(const Tensor& mu, const Tensor& logvar, const Tensor& seed,
                             int64_t want) {
  auto [z, kl, noise] = sample(device, "reparameterize", {mu, logvar}, seed, std::nullopt, want);
  return {z, noise};
}

template <const Device& device>
SampleKl reparameterize_kl_kernel(const Tensor& mu, const Tensor& logvar,
                                  const OptionalTensor& prior_mu,
                                  const OptionalTensor& prior_logvar, const Tensor& seed,
                                  int64_t keep, int64_t mean, int64_t want) {
  const char* op = "reparameterize_kl";
  return sample(device, op, divergence_operands(op, mu, logvar, prior_mu, prior_logvar), seed,
                Reduction{keep, mean}, want);
}

template <const Device& device>
SampleKlGradients reparameterize_kl_backward_kernel(
    const OptionalTensor& grad_z, const OptionalTensor& grad_kl, const Tensor& mu,
    const Tensor& logvar, const OptionalTensor& prior_mu, const OptionalTensor& prior_logvar,
    const OptionalTensor& noise, int64_t keep, int64_t mean, int64_t want) {
  const char* op = "reparameterize_kl_backward";
  const TensorVector operands = divergence_operands(op, mu, logvar, prior_mu, prior_logvar);
  const at::DimVector shape =
      check_operands(loss_info(divergence_of(operands)), op, operands, std::nullopt);
  const int64_t dims = static_cast<int64_t>(shape.size());
  check_reduction(op, keep, mean, dims);
  const bool takes_noise = grad_z && is_wanted(want, kLogvar);
  TORCH_CHECK_VALUE(noise || !takes_noise, op,
                    ": noise is missing, expected where grad_z is given and the gradient in logvar "
                    "is wanted");
  if (noise) check_gradient(op, "noise", *noise, shape, mu.device());
  if (grad_z) check_gradient(op, "grad_z", *grad_z, shape, mu.device());
  if (grad_kl) {
    check_gradient(op, "grad_kl", *grad_kl, at::IntArrayRef(shape).slice(0, keep), mu.device());
  }
  const c10::DeviceGuard guard(mu.device());
  TensorVector gradients = allocate_gradients(device, operands, shape, 0, want);
  while (gradients.size() < kMaxOperands) gradients.push_back(device.empty({0}, mu.scalar_type()));

  if (product(shape) == 0) {
    for (Tensor& gradient : gradients) gradient.zero_();
  } else {
    SampleBackwardArgs args;
    args.divergence = divergence_args(operands, shape);
    args.divergence.scale = mean_factor(shape, {keep, mean});
    IndexSpace space(shape);
    for (size_t k = 0; k < operands.size(); ++k) {
      space.add(args.divergence.operands[k], operands[k]);
      if (is_wanted(want, k)) space.add(args.divergence.gradients[k], gradients[k]);
    }
    if (takes_noise) space.add(args.noise, *noise);
    if (grad_z) space.add(args.grad_z, *grad_z);
    if (grad_kl) space.add(args.grad_value, Reduction::align(*grad_kl, dims));
    space.simplify(args.divergence.shape, 0);
    device.sample_backward(args);
  }
  for (size_t k = 0; k < operands.size(); ++k) {
    if (is_wanted(want, k)) gradients[k] = gradients[k].view(operands[k].sizes());
  }
  return {gradients[0], gradients[1], gradients[2], gradients[3]};
}

// ---- Autocast: z in float32, as torch's own expression of it gives -----------------------------

template <c10::DeviceType device>
struct Autocast {
  static Tensor to_float(const Tensor& x) {
    return at::autocast::cached_cast(at::kFloat, x, device);
  }
  static OptionalTensor to_float(const OptionalTensor& x) {
    return x ? OptionalTensor(to_float(*x)) : x;
  }

  static Sample reparameterize(const Tensor& mu, const Tensor& logvar, const Tensor& seed,
                               int64_t want) {
    c10::impl::ExcludeDispatchKeyGuard guard(
        at::autocast::get_autocast_dispatch_key_from_device_type(device));
    return call_sample(to_float(mu), to_float(logvar), seed, want);
  }

  static SampleKl reparameterize_kl(const Tensor& mu, const Tensor& logvar,
                                    const OptionalTensor& prior_mu,
                                    const OptionalTensor& prior_logvar, const Tensor& seed,
                                    int64_t keep, int64_t mean, int64_t want) {
    c10::impl::ExcludeDispatchKeyGuard guard(
        at::autocast::get_autocast_dispatch_key_from_device_type(device));
    return call_sample_kl(to_float(mu), to_float(logvar), to_float(prior_mu),
                          to_float(prior_logvar), seed, {keep, mean}, want);
  }
};

template <c10::DeviceType device>
void register_autocast(torch::Library& library) {
  library.impl("reparameterize", &Autocast<device>::reparameterize);
  library.impl("reparameterize_kl", &Autocast<device>::reparameterize_kl);
}

// ---- Python -------------------------------------------------------------------------------------

Tensor reparameterize(const Tensor& mu, const Tensor& logvar, const OptionalGenerator& generator) {
  const Tensor seed = call_draw_seed(mu, generator);
  return std::get<0>(call_sample(mu, logvar, seed, 0));
}

std::tuple<Tensor, Tensor> reparameterize_kl(const Tensor& mu, const Tensor& logvar,
                                             const OptionalTensor& prior_mu,
                                             const OptionalTensor& prior_logvar,
                                             const OptionalGenerator& generator, int64_t keep,
                                             int64_t mean, int64_t batch_dims) {
  const TensorVector operands =
      divergence_operands("reparameterize_kl", mu, logvar, prior_mu, prior_logvar);
  check_public_shapes(loss_info(divergence_of(operands)), operands, std::nullopt, batch_dims);
  const Tensor seed = call_draw_seed(mu, generator);
  auto [z, kl, noise] = call_sample_kl(mu, logvar, prior_mu, prior_logvar, seed, {keep, mean}, 0);
  return {z, kl};
}

}  // namespace

void register_sampling(pybind11::module_& module) {
  module.def("reparameterize", entry<&reparameterize>());
  module.def("reparameterize_kl", entry<&reparameterize_kl>());
}

TORCH_LIBRARY_FRAGMENT(vae_fast, library) {
  library.set_python_module("vae_fast.latent.rules");
  const std::vector<at::Tag> compliant = {at::Tag::pt2_compliant_tag};
  library.def("draw_seed(Tensor like, Generator? generator=None) -> Tensor",
              {at::Tag::pt2_compliant_tag, at::Tag::nondeterministic_seeded});
  library.def(
      "reparameterize(Tensor mu, Tensor logvar, Tensor seed, int want=0)"
      " -> (Tensor z, Tensor noise)",
      compliant);
  library.def(
      "reparameterize_kl(Tensor mu, Tensor logvar, Tensor? prior_mu, Tensor? prior_logvar,"
      " Tensor seed, int keep, int mean_dims, int want=0)"
      " -> (Tensor z, Tensor kl, Tensor noise)",
      compliant);
  library.def(
      "reparameterize_kl_backward(Tensor? grad_z, Tensor? grad_kl, Tensor mu, Tensor logvar,"
      " Tensor? prior_mu, Tensor? prior_logvar, Tensor? noise, int keep, int mean_dims, int want)"
      " -> (Tensor grad_mu, Tensor grad_logvar, Tensor grad_prior_mu, Tensor grad_prior_logvar)",
      compliant);
}

template <const Device& device>
void register_kernels(torch::Library& library) {
  library.impl("draw_seed", draw_seed_kernel);
  library.impl("reparameterize", reparameterize_kernel<device>);
  library.impl("reparameterize_kl", reparameterize_kl_kernel<device>);
  library.impl("reparameterize_kl_backward", reparameterize_kl_backward_kernel<device>);
}

TORCH_LIBRARY_IMPL(vae_fast, CPU, library) { register_kernels<kCpu>(library); }

#ifdef VAE_FAST_CUDA_RELEASE
TORCH_LIBRARY_IMPL(vae_fast, VAE_FAST_GPU, library) { register_kernels<kCuda>(library); }
#endif

TORCH_LIBRARY_IMPL(vae_fast, AutocastCPU, library) { register_autocast<at::kCPU>(library); }
TORCH_LIBRARY_IMPL(vae_fast, VAE_FAST_AUTOCAST_GPU, library) { register_autocast<kGpu>(library); }

}  // namespace vae_fast::bindings
