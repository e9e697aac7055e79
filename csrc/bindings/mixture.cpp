// Mixtures of K components in one pass (kernels.h: MixtureArgs): of any elementwise likelihood, and
// of a pixel's discretized logistics, whose channels hang together. Composed functions: where torch
// wants to see its own ops the composition computes.
#include <string>

#include "bindings/arguments.h"
#include "bindings/composed.h"
#include "bindings/entry.h"
#include "calls/mixture.h"

namespace vae_fast::bindings {
namespace {

using Tensors = Composed::Tensors;

// The operands (calls::MixtureTensors), then the target, the mask, and a pixel's levels.
struct Mixture {
  std::string name;  // of the composition
  calls::MixtureCall call;
  size_t operands;
};

// The tensors of a call as views, which live as long as this.
struct Given {
  Given(const Mixture& mixture, const Tensors& tensors, const Tensor& factor)
      : operands(views_of({tensors.data(), mixture.operands})),
        target(view_of(tensors[mixture.operands])),
        mask(view_of(given(tensors[mixture.operands + 1]))),
        upstream(view_of(given(factor))) {
    if (mixture.call.channels > 0) levels = view_of(tensors.back());
  }

  calls::MixtureTensors views() const {
    return {all_of(operands), target, pointer_to(mask), pointer_to(levels), pointer_to(upstream)};
  }

  ViewVector operands;
  calls::View target;
  std::optional<calls::View> mask, levels, upstream;
};

Tensors evaluate(const Mixture& mixture, const Tensors& given, const Tensor& upstream,
                 int64_t want) {
  Tensors tensors;
  for (const Tensor& x : given) tensors.push_back(x.defined() ? in_memory(x) : x);
  const at::TensorList floating(tensors.data(), mixture.operands + 1);
  const Tensor factor =
      upstream.defined() ? in_memory(in_arithmetic(upstream, is_float64(floating))) : upstream;
  const Device& device = *kernels_for(tensors[0].device());
  TensorResults results(device, 1 + mixture.operands);
  raising([&] {
    calls::mixture(device.kernels, mixture.call, Given(mixture, tensors, factor).views(), want,
                   results);
  });
  for (size_t k = 0; k < mixture.operands; ++k) {
    if (!is_wanted(want, k)) results.tensors[1 + k].reset();
  }
  return {results.tensors.begin(), results.tensors.end()};
}

Composed composed(const Mixture& mixture) {
  const calls::MixtureCall& call = mixture.call;
  const std::vector<int64_t> numbers = {call.components, call.batch_dims, call.event_dims,
                                        call.reduction.keep, call.reduction.mean};
  return {mixture.name, mixture.operands,
          [=](const Tensors& tensors, const Tensor& upstream, int64_t want) {
            return evaluate(mixture, tensors, upstream, want);
          },
          [=](const Tensors& tensors) { return composition(mixture.name, tensors, numbers); }};
}

Tensor call(const Mixture& mixture, const Tensors& tensors) {
  const Composed function = composed(mixture);
  if (!is_plain(function, tensors)) return function.compose(tensors);
  const bool in_forward =
      calls::in_forward(mixture.call, Given(mixture, tensors, Tensor()).views());
  return call_fused(function, tensors, in_forward);
}

// ---- Python, which has checked the arguments ---------------------------------------------------

Tensor mixture_nll(const std::string& op, const Tensor& logits, const Tensor& target,
                   const std::vector<Tensor>& parameters, const OptionalTensor& mask,
                   int64_t batch_dims, int64_t event_dims, int64_t keep, int64_t mean) {
  Tensors tensors = {logits};
  tensors.insert(tensors.end(), parameters.begin(), parameters.end());
  tensors.insert(tensors.end(), {target, mask.value_or(Tensor())});
  return call({.name = "mixture_nll of " + op,
               .call = {.loss = loss_named(op),
                        .channels = 0,
                        .components = logits.size(batch_dims),
                        .batch_dims = batch_dims,
                        .event_dims = event_dims,
                        .reduction = {keep, mean}},
               .operands = 1 + parameters.size()},
              tensors);
}

Tensor pixel_mixture_nll(const Tensor& params, const Tensor& target, const OptionalTensor& mask,
                         const Tensor& levels, int64_t components, int64_t channels,
                         int64_t batch_dims, int64_t keep, int64_t mean) {
  return call({.name = "discretized_logistic_mixture_nll",
               .call = {.loss = 0,
                        .channels = channels,
                        .components = components,
                        .batch_dims = batch_dims,
                        .event_dims = 0,
                        .reduction = {keep, mean}},
               .operands = 1},
              {params, target, mask.value_or(Tensor()), levels});
}

}  // namespace

void register_mixture(pybind11::module_& module) {
  module.def("mixture_nll", entry<&mixture_nll>());
  module.def("discretized_logistic_mixture_nll", entry<&pixel_mixture_nll>());
}

}  // namespace vae_fast::bindings
