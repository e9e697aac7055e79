// The ops of reparameterized sampling, as bindings/sampling.cpp has them.
#include "calls/sampling.h"

#include <torch/csrc/stable/ops.h>

#include "bindings/stable/tensors.h"

namespace vae_fast::stable {
namespace {

// mu and logvar, and the prior's where it is not the standard normal.
std::vector<Tensor> divergence_operands(const char* op, std::vector<Tensor> posterior,
                                        const OptionalTensor& prior_mu,
                                        const OptionalTensor& prior_logvar) {
  VAE_FAST_REQUIRE(prior_mu.has_value() == prior_logvar.has_value(), BadValue, op, ": ",
                   prior_mu ? "prior_logvar" : "prior_mu", " is missing, expected both or neither");
  if (prior_mu) posterior.insert(posterior.end(), {*prior_mu, *prior_logvar});
  return posterior;
}

// One row goes to a kernel by value, wherever it runs. What is no seed the call says.
Tensor placed(const Tensor& seed, const Tensor& beside) {
  const bool has_rows = seed.dim() == 2 && seed.size(0) > 1;
  const bool moves = has_rows && seed.is_cpu() && !beside.is_cpu();
  return torch::stable::contiguous(moves ? torch::stable::to(seed, beside.device()) : seed);
}

void reparameterize(StableIValue* values, uint64_t, uint64_t) {
  Stack stack(values);
  const std::vector<Tensor> operands = stack.take_tensors(2);
  const Tensor seed = stack.take<Tensor>();
  const int64_t want = stack.take<int64_t>();
  const OnDevice device(operands[0]);
  const Tensor seeds = placed(seed, operands[0]);
  StableResults results(operands[0], 2);
  calls::sample(device.kernels, "reparameterize", views_of(operands), view_of(seeds), std::nullopt,
                want, results);
  stack.give({results.tensors[calls::kZ], results.tensors[calls::kNoise]});
}

void reparameterize_kl(StableIValue* values, uint64_t, uint64_t) {
  const char* op = "reparameterize_kl";
  Stack stack(values);
  const std::vector<Tensor> posterior = stack.take_tensors(2);
  const OptionalTensor prior_mu = stack.take<OptionalTensor>();
  const OptionalTensor prior_logvar = stack.take<OptionalTensor>();
  const Tensor seed = stack.take<Tensor>();
  const int64_t keep = stack.take<int64_t>(), mean = stack.take<int64_t>();
  const int64_t want = stack.take<int64_t>();
  const OnDevice device(posterior[0]);
  const Tensor seeds = placed(seed, posterior[0]);
  StableResults results(posterior[0], 3);
  calls::sample(device.kernels, op,
                views_of(divergence_operands(op, posterior, prior_mu, prior_logvar)),
                view_of(seeds), calls::Reduction{keep, mean}, want, results);
  stack.give({results.tensors[calls::kZ], results.tensors[calls::kDivergence],
              results.tensors[calls::kNoise]});
}

void reparameterize_kl_backward(StableIValue* values, uint64_t, uint64_t) {
  Stack stack(values);
  const OptionalTensor grad_z = stack.take<OptionalTensor>();
  const OptionalTensor grad_kl = stack.take<OptionalTensor>();
  const std::vector<Tensor> posterior = stack.take_tensors(2);
  const OptionalTensor prior_mu = stack.take<OptionalTensor>();
  const OptionalTensor prior_logvar = stack.take<OptionalTensor>();
  const OptionalTensor noise = stack.take<OptionalTensor>();
  const int64_t keep = stack.take<int64_t>(), mean = stack.take<int64_t>();
  const int64_t want = stack.take<int64_t>();
  const OnDevice device(posterior[0]);
  StableResults results(posterior[0], kMaxOperands);
  const auto own_z = view_of(grad_z), own_kl = view_of(grad_kl), own_noise = view_of(noise);
  calls::sample_backward(device.kernels, pointer_to(own_z), pointer_to(own_kl),
                         views_of(divergence_operands("reparameterize_kl_backward", posterior,
                                                      prior_mu, prior_logvar)),
                         pointer_to(own_noise), {keep, mean}, want, results);
  stack.give(results.tensors);
}

}  // namespace

void implement_sampling(Library& library) {
  library.impl("reparameterize", &reparameterize);
  library.impl("reparameterize_kl", &reparameterize_kl);
  library.impl("reparameterize_kl_backward", &reparameterize_kl_backward);
}

STABLE_TORCH_LIBRARY_IMPL(vae_fast, CPU, library) { implement_sampling(library); }

}  // namespace vae_fast::stable
