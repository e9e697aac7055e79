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
#include "calls/schemas.h"

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
  if (!generator && place.is_cpu() && mu.device().type() == kGpu.type) {
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

// One row goes to a kernel by value, wherever it runs. What is no seed the call says.
Tensor placed(const Tensor& seed, at::Device device) {
  const bool has_rows = seed.dim() == 2 && seed.size(0) > 1;
  return (has_rows && seed.is_cpu() ? seed.to(device) : seed).contiguous();
}

// `reduction` is given where the divergence is wanted.
TensorResults sample(const char* op, at::TensorList operands, const Tensor& seed,
                     const std::optional<calls::Reduction>& reduction, int64_t want) {
  const Device& device = *kernels_for(operands[0].device());
  const c10::DeviceGuard guard(operands[0].device());
  const Tensor seeds = placed(seed, operands[0].device());
  TensorResults results(device, 3);
  raising([&] {
    calls::sample(device.kernels, op, all_of(views_of(operands)), view_of(seeds), reduction, want,
                  results);
  });
  return results;
}

Sample reparameterize_kernel(const Tensor& mu, const Tensor& logvar, const Tensor& seed,
                             int64_t want) {
  const auto made = sample("reparameterize", {mu, logvar}, seed, std::nullopt, want);
  return {made.tensors[calls::kZ], made.tensors[calls::kNoise]};
}

SampleKl reparameterize_kl_kernel(const Tensor& mu, const Tensor& logvar,
                                  const OptionalTensor& prior_mu,
                                  const OptionalTensor& prior_logvar, const Tensor& seed,
                                  int64_t keep, int64_t mean, int64_t want) {
  const char* op = "reparameterize_kl";
  const auto made = sample(op, divergence_operands(op, mu, logvar, prior_mu, prior_logvar), seed,
                           calls::Reduction{keep, mean}, want);
  return {made.tensors[calls::kZ], made.tensors[calls::kDivergence], made.tensors[calls::kNoise]};
}

SampleKlGradients reparameterize_kl_backward_kernel(
    const OptionalTensor& grad_z, const OptionalTensor& grad_kl, const Tensor& mu,
    const Tensor& logvar, const OptionalTensor& prior_mu, const OptionalTensor& prior_logvar,
    const OptionalTensor& noise, int64_t keep, int64_t mean, int64_t want) {
  const TensorVector operands =
      divergence_operands("reparameterize_kl_backward", mu, logvar, prior_mu, prior_logvar);
  const Device& device = *kernels_for(mu.device());
  const c10::DeviceGuard guard(mu.device());
  TensorResults results(device, kMaxOperands);
  raising([&] {
    const auto own_z = view_of(grad_z), own_kl = view_of(grad_kl), own_noise = view_of(noise);
    calls::sample_backward(device.kernels, pointer_to(own_z), pointer_to(own_kl),
                           all_of(views_of(operands)), pointer_to(own_noise), {keep, mean}, want,
                           results);
  });
  const TensorVector& gradients = results.tensors;
  return {gradients[0], gradients[1], gradients[2], gradients[3]};
}

// ---- Autocast: z in float32, as torch's own expression of it gives -----------------------------

// Of the device of mu.
class Autocast {
 public:
  explicit Autocast(const Tensor& mu)
      : device_(mu.device().type()),
        guard_(at::autocast::get_autocast_dispatch_key_from_device_type(device_)) {}

  Tensor to_float(const Tensor& x) const {
    return at::autocast::cached_cast(at::kFloat, x, device_);
  }
  OptionalTensor to_float(const OptionalTensor& x) const {
    return x ? OptionalTensor(to_float(*x)) : x;
  }

 private:
  at::DeviceType device_;
  c10::impl::ExcludeDispatchKeyGuard guard_;
};

Sample reparameterize_autocast(const Tensor& mu, const Tensor& logvar, const Tensor& seed,
                               int64_t want) {
  const Autocast autocast(mu);
  return call_sample(autocast.to_float(mu), autocast.to_float(logvar), seed, want);
}

SampleKl reparameterize_kl_autocast(const Tensor& mu, const Tensor& logvar,
                                    const OptionalTensor& prior_mu,
                                    const OptionalTensor& prior_logvar, const Tensor& seed,
                                    int64_t keep, int64_t mean, int64_t want) {
  const Autocast autocast(mu);
  return call_sample_kl(autocast.to_float(mu), autocast.to_float(logvar),
                        autocast.to_float(prior_mu), autocast.to_float(prior_logvar), seed,
                        {keep, mean}, want);
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
  check_public_shapes(loss_info(calls::divergence_of(operands.size())), operands, std::nullopt,
                      batch_dims);
  const Tensor seed = call_draw_seed(mu, generator);
  auto [z, kl, noise] = call_sample_kl(mu, logvar, prior_mu, prior_logvar, seed, {keep, mean}, 0);
  return {z, kl};
}

}  // namespace

void implement_sampling(torch::Library& library) {
  library.impl("draw_seed", draw_seed_kernel);
  library.impl("reparameterize", reparameterize_kernel);
  library.impl("reparameterize_kl", reparameterize_kl_kernel);
  library.impl("reparameterize_kl_backward", reparameterize_kl_backward_kernel);
}

void implement_sampling_in_autocast(torch::Library& library) {
  library.impl("reparameterize", reparameterize_autocast);
  library.impl("reparameterize_kl", reparameterize_kl_autocast);
}

void register_sampling(pybind11::module_& module) {
  module.def("reparameterize", entry<&reparameterize>());
  module.def("reparameterize_kl", entry<&reparameterize_kl>());
}

TORCH_LIBRARY_FRAGMENT(vae_fast, library) {
  library.set_python_module("vae_fast.latent.rules");
  library.def("draw_seed(Tensor like, Generator? generator=None) -> Tensor",
              {at::Tag::pt2_compliant_tag, at::Tag::nondeterministic_seeded});
  for (const char* schema : calls::kSamplingSchemas) {
    library.def(schema, {at::Tag::pt2_compliant_tag});
  }
}

TORCH_LIBRARY_IMPL(vae_fast, CPU, library) { implement_sampling(library); }
TORCH_LIBRARY_IMPL(vae_fast, AutocastCPU, library) { implement_sampling_in_autocast(library); }

}  // namespace vae_fast::bindings
