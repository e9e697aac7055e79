// The training step of a VAE (or auto-encoder) whose networks are multilayer perceptrons, forward
// and backward in one call: the ops and products that autograd would call, without autograd.
#include <ATen/autocast_mode.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <string>
#include <utility>

#include "bindings/calls.h"
#include "bindings/mlp.h"

namespace vae_fast::bindings {
namespace {

constexpr Reduction kBatchMean{0, 1};

struct Network {
  const Parameters& parameters;
  std::vector<Tensor> activations;

  Network(const Tensor& x, const Parameters& parameters)
      : parameters(parameters), activations(mlp_activations(x, parameters, /*keep=*/true)) {}

  const Tensor& output() const { return activations.back(); }

  // Appends the parameters' gradients; returns the one in x, if it is wanted.
  Tensor backward(const Tensor& gradient, bool wants_x, std::vector<Tensor>& gradients) const {
    const std::vector<Tensor> result = mlp_gradients(
        parameters.size() / 2, gradient, [&](size_t layer) { return activations[layer]; },
        [&](size_t layer) { return parameters[2 * layer]; },
        [&](size_t k) { return k > 0 || wants_x; });
    gradients.insert(gradients.end(), result.begin() + 1, result.end());
    return result[0];
  }
};

// The code: the heads' own, or a draw from the Gaussian whose mean and log-variance they are.
class Code {
 public:
  Code(const Tensor& heads, bool is_drawn) : is_drawn_(is_drawn) {
    if (!is_drawn) {
      z = heads;
      kl = at::zeros({}, heads.options());
      return;
    }
    const std::vector<Tensor> halves = heads.chunk(2, 1);
    mu_ = halves[0];
    logvar_ = halves[1];
    const Tensor seed = call_draw_seed(mu_, std::nullopt);
    std::tie(z, kl, noise_) =
        call_sample_kl(mu_, logvar_, std::nullopt, std::nullopt, seed, kBatchMean, true);
  }

  // The gradient in the heads of the loss with `beta` times the divergence.
  Tensor backward(const Tensor& grad_z, double beta) const {
    if (!is_drawn_) return grad_z;
    const auto [grad_mu, grad_logvar, _, none] =
        call_sample_kl_backward(grad_z, at::full({}, beta, kl.options()), mu_, logvar_,
                                std::nullopt, std::nullopt, noise_, kBatchMean);
    return at::cat({grad_mu, grad_logvar}, 1);
  }

  Tensor z, kl;

 private:
  Tensor mu_, logvar_, noise_;
  bool is_drawn_;
};

struct Step {
  Tensor loss, nll, kl;
  // The encoder's, the decoder's, and those of what of `shared` requires one.
  std::vector<Tensor> gradients;
};

// x (B, features) and the target (B, out), and all parameters, are plain float32 tensors of the
// CPU; the target may be of another dtype. `shared`: the likelihood's parameters that all elements
// share.
Step elbo_gradients(const Tensor& x, const Tensor& target, const Parameters& encoder,
                    const Parameters& decoder, const std::string& likelihood,
                    const std::vector<Tensor>& shared, bool is_variational, double beta) {
  const at::AutoDispatchBelowADInplaceOrView no_graph;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const Network encoded(x, encoder);
  const Code code(encoded.output(), is_variational);
  const Network decoded(code.z, decoder);

  TensorVector operands = {decoded.output()};
  operands.append(shared.begin(), shared.end());
  operands.push_back(target);
  const int64_t want = 1 | requiring_gradient(shared) << 1;
  const TensorVector result =
      call_loss(loss_named(likelihood), operands, std::nullopt, kBatchMean, want);

  std::vector<Tensor> of_encoder, of_decoder;
  const Tensor grad_z = decoded.backward(result[1], true, of_decoder);
  encoded.backward(code.backward(grad_z, beta), false, of_encoder);
  Step step = {result[0] + beta * code.kl, result[0], code.kl, std::move(of_encoder)};
  step.gradients.insert(step.gradients.end(), of_decoder.begin(), of_decoder.end());
  for (size_t k = 0; k < shared.size(); ++k) {
    if (shared[k].requires_grad()) {
      step.gradients.push_back(result[2 + k].view(shared[k].sizes()));
    }
  }
  return step;
}

}  // namespace

void register_elbo(pybind11::module_& module) {
  module.def("elbo_gradients",
             torch::wrap_pybind_function_no_gil(
                 [](const Tensor& x, const Tensor& target, const Parameters& encoder,
                    const Parameters& decoder, const std::string& likelihood,
                    const std::vector<Tensor>& shared, bool is_variational, double beta) {
                   Step step = elbo_gradients(x, target, encoder, decoder, likelihood, shared,
                                              is_variational, beta);
                   return std::make_tuple(step.loss, step.nll, step.kl, std::move(step.gradients));
                 }));
}

}  // namespace vae_fast::bindings
