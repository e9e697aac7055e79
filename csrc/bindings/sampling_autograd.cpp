// The autograd of the samplers' ops (sampling.cpp): nodes and tangents.
#include <torch/library.h>

#include <string>

#include "bindings/sampling.h"

namespace vae_fast::bindings {
namespace {

OptionalTensor if_defined(const Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

// dz/dlogvar, drawn again from the seed: a differentiable expression of logvar.
Tensor differentiable_noise(const Tensor& z_like, const Tensor& logvar, const Tensor& seed) {
  return 0.5 * std::get<0>(call_sample(at::zeros_like(z_like), logvar, seed, 0));
}

class ReparameterizeBackward : public torch::autograd::Node {
 public:
  // For the gradient in logvar; the one in mu takes nothing.
  void save(const Tensor& logvar, const Tensor& seed, const Tensor& noise) {
    logvar_ = SavedVariable(logvar, false);
    seed_ = SavedVariable(seed, false);
    noise_ = SavedVariable(noise, false);
    is_summed_ = broadcasts(logvar, noise.sym_sizes(), noise.dim());
  }

  std::string name() const override { return "VaeFastBackward[reparameterize]"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariable* saved : {&logvar_, &seed_, &noise_}) saved->reset_data();
  }

  // Where an operand broadcasts, the engine sums its gradient to its shape, and rounds it to its
  // dtype behind that.
  variable_list apply(variable_list&& upstream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const Tensor& grad_z = upstream[0];
    if (!grad_z.defined() || !task_should_compute_output(kLogvar)) return {grad_z, Tensor()};
    const Tensor noise = at::GradMode::is_enabled()
                             ? differentiable_noise(grad_z, logvar_.unpack(), seed_.unpack())
                             : noise_.unpack();
    const bool is_half = at::isReducedFloatingType(grad_z.scalar_type());
    return {grad_z, (is_summed_ && is_half ? grad_z.to(at::kFloat) : grad_z) * noise};
  }

 private:
  SavedVariable logvar_, seed_, noise_;
  bool is_summed_ = false;
};

class ReparameterizeKlBackward : public torch::autograd::Node {
 public:
  ReparameterizeKlBackward(const TensorVector& operands, const Tensor& seed, Reduction reduction)
      : seed_(seed, false), reduction_(reduction) {
    for (const Tensor& operand : operands) operands_.emplace_back(operand, false);
  }

  void save_noise(const Tensor& noise) { noise_ = SavedVariable(noise, false); }

  std::string name() const override { return "VaeFastBackward[reparameterize_kl]"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariable& operand : operands_) operand.reset_data();
    seed_.reset_data();
    noise_.reset_data();
  }

  variable_list apply(variable_list&& upstream) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!upstream[0].defined() && !upstream[1].defined()) return variable_list(operands_.size());
    TensorVector operands;
    for (const SavedVariable& operand : operands_) operands.push_back(operand.unpack());
    return at::GradMode::is_enabled() ? differentiable(upstream[0], upstream[1], operands)
                                      : from_kernel(upstream[0], upstream[1], operands);
  }

 private:
  variable_list from_kernel(const Tensor& grad_z, const Tensor& grad_kl,
                            const TensorVector& operands) {
    const bool has_prior = operands.size() == 4;
    const int64_t want = wanted_of(*this);
    const bool takes_noise = grad_z.defined() && is_wanted(want, kLogvar);
    const auto [mu, logvar, prior_mu, prior_logvar] = call_sample_kl_backward(
        if_defined(grad_z), if_defined(grad_kl), operands[0], operands[1],
        has_prior ? OptionalTensor(operands[2]) : std::nullopt,
        has_prior ? OptionalTensor(operands[3]) : std::nullopt,
        takes_noise ? OptionalTensor(noise_.unpack()) : std::nullopt, reduction_, want);
    variable_list result = {mu, logvar, prior_mu, prior_logvar};
    result.resize(operands.size());
    for (size_t k = 0; k < result.size(); ++k) {
      if (!is_wanted(want, k)) result[k].reset();
    }
    return result;
  }

  variable_list differentiable(const Tensor& grad_z, const Tensor& grad_kl,
                               const TensorVector& operands) {
    variable_list result(operands.size());
    if (grad_kl.defined()) {
      const Tensor each = reduction_.spread(grad_kl, broadcast_shape(operands));
      const TensorVector gradients =
          gradient_formula(loss_info(calls::divergence_of(operands.size())).name, operands);
      for (size_t k = 0; k < operands.size(); ++k) {
        if (task_should_compute_output(k)) result[k] = each * gradients[k];
      }
    }
    const auto add = [&](size_t k, const Tensor& through_z) {
      result[k] = result[k].defined() ? result[k] + through_z : through_z;
    };
    if (grad_z.defined() && task_should_compute_output(kMu)) add(kMu, grad_z);
    if (grad_z.defined() && task_should_compute_output(kLogvar)) {
      add(kLogvar, grad_z * differentiable_noise(grad_z, operands[kLogvar], seed_.unpack()));
    }
    return result;
  }

  c10::SmallVector<SavedVariable, kMaxOperands> operands_;
  SavedVariable seed_, noise_;
  Reduction reduction_;
};

void set_tangent_of_z(const Tensor& z, const Tensor& mu, const Tensor& logvar, const Tensor& seed) {
  const Tensor primal = primal_of(z);
  Tensor tangent = has_tangent(mu) ? mu._fw_grad(/*level=*/0) : at::zeros_like(primal);
  if (has_tangent(logvar)) {
    const Tensor noise = differentiable_noise(primal, primal_of(logvar), seed);
    tangent = tangent + noise * logvar._fw_grad(/*level=*/0);
  }
  z._set_fw_grad(tangent.to(primal.scalar_type()).expand_symint(primal.sym_sizes()), /*level=*/0,
                 /*is_inplace_op=*/false);
}

Sample reparameterize_autograd(const Tensor& mu, const Tensor& logvar, const Tensor& seed,
                               int64_t want) {
  const TensorVector operands = {mu, logvar};
  const int64_t needed = requiring_gradient(operands);
  c10::intrusive_ptr<ReparameterizeBackward> node;
  if (needed != 0) {
    node = c10::make_intrusive<ReparameterizeBackward>();
    connect(*node, operands);
  }
  Sample result;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    result = call_sample(mu, logvar, seed, want | needed);
  }
  auto& [z, noise] = result;
  if (node) {
    torch::autograd::set_history(z, node);
    if (is_wanted(needed, kLogvar)) node->save(logvar, seed, noise);
    announce(node);
  }
  if (any_tangent(operands)) set_tangent_of_z(z, mu, logvar, seed);
  return result;
}

SampleKl reparameterize_kl_autograd(const Tensor& mu, const Tensor& logvar,
                                    const OptionalTensor& prior_mu,
                                    const OptionalTensor& prior_logvar, const Tensor& seed,
                                    int64_t keep, int64_t mean, int64_t want) {
  const TensorVector operands =
      divergence_operands("reparameterize_kl", mu, logvar, prior_mu, prior_logvar);
  const Reduction reduction{keep, mean};
  const int64_t needed = requiring_gradient(operands);
  c10::intrusive_ptr<ReparameterizeKlBackward> node;
  if (needed != 0) {
    node = c10::make_intrusive<ReparameterizeKlBackward>(operands, seed, reduction);
    connect(*node, operands);
  }
  SampleKl result;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    result = call_sample_kl(mu, logvar, prior_mu, prior_logvar, seed, reduction, want | needed);
  }
  auto& [z, kl, noise] = result;
  if (node) {
    torch::autograd::set_history(z, node);
    torch::autograd::set_history(kl, node);
    if (is_wanted(needed, kLogvar)) node->save_noise(noise);
    announce(node);
  }
  if (any_tangent(operands)) {
    set_tangent_of_z(z, mu, logvar, seed);
    kl._set_fw_grad(
        loss_tangent(calls::divergence_of(operands.size()), operands, std::nullopt, reduction),
        /*level=*/0, /*is_inplace_op=*/false);
  }
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(vae_fast, Autograd, library) {
  library.impl("reparameterize", reparameterize_autograd);
  library.impl("reparameterize_kl", reparameterize_kl_autograd);
}

}  // namespace vae_fast::bindings
