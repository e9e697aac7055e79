// Mixtures of K components in one pass (kernels.h: MixtureArgs): of any elementwise likelihood, and
// of a pixel's discretized logistics, whose channels hang together. Composed functions: where torch
// wants to see its own ops the composition computes.
#include <algorithm>
#include <string>

#include "bindings/arguments.h"
#include "bindings/composed.h"
#include "bindings/entry.h"
#include "formulas/discretized_logistic_pixel.h"

namespace vae_fast::bindings {
namespace {

using Tensors = Composed::Tensors;

// Tensors of a mixture of an elementwise likelihood: the operands are the logits (*batch, K, *rest)
// and the parameters, which broadcast to (*batch, K, *rest, *event); then the target and the mask.
// Of pixels: what the decoder gave, (*batch, N, *rest); then the target, the mask and the levels.
struct Mixture {
  std::string name;  // of the composition
  int loss;
  int64_t channels;  // of pixels; 0: elementwise
  int64_t components;
  int64_t batch_dims, event_dims;
  Reduction reduction;
  size_t operands;

  const Tensor& target(const Tensors& tensors) const { return tensors[operands]; }
  const Tensor& mask(const Tensors& tensors) const { return tensors[operands + 1]; }

  // Without the components, which lie behind the batch.
  at::DimVector positions(const Tensors& tensors) const {
    at::DimVector shape(tensors[0].sizes().begin(), tensors[0].sizes().end());
    shape.erase(shape.begin() + batch_dims);
    return shape;
  }

  at::DimVector elements(const Tensors& tensors) const {
    at::DimVector shape = positions(tensors);
    const at::IntArrayRef sizes = target(tensors).sizes();
    const at::IntArrayRef event = sizes.slice(sizes.size() - event_dims);
    shape.insert(shape.end(), event.begin(), event.end());
    return shape;
  }

  at::DimVector with_components(at::DimVector shape) const {
    shape.insert(shape.begin() + batch_dims, components);
    return shape;
  }

  // Whether operand k broadcasts to the elements of all components.
  bool is_summed(const Tensor& operand, size_t k, at::IntArrayRef whole) const {
    return k > 0 && operand.sizes() != whole;
  }

  // Of operands, or of gradients laid out like them: the logits, then the parameters.
  Tensors parts(const Tensors& tensors) const {
    if (channels == 0) return Tensors(tensors.begin(), tensors.begin() + operands);
    if (!tensors[0].defined()) return Tensors(1 + 2 * channels + pixel_coefficients(channels));
    const int64_t numbers = channels == 1 ? 2 : 3;
    const auto part = [&](int64_t channel, int64_t number) {
      const int64_t first = (1 + channel * numbers + number) * components;
      return tensors[0].narrow(batch_dims, first, components);
    };
    Tensors result = {tensors[0].narrow(batch_dims, 0, components)};
    for (int64_t number = 0; number < numbers; ++number) {
      for (int64_t c = 0; c < channels; ++c) result.push_back(part(c, number));
    }
    return result;
  }

  Tensors targets(const Tensors& tensors, at::IntArrayRef elements) const {
    const Tensor& all = target(tensors);
    if (channels == 0) return {all.expand(elements)};
    Tensors result;
    const int64_t dim = batch_dims - (tensors[0].dim() - all.dim());
    for (int64_t c = 0; c < channels; ++c) result.push_back(all.select(dim, c).expand(elements));
    return result;
  }
};

// Written for every element, and summed where the operand broadcasts.
Tensors allocate(const Device& device, const Mixture& mixture, const Tensors& tensors,
                 int64_t want) {
  const at::DimVector whole = mixture.with_components(mixture.elements(tensors));
  Tensors gradients(mixture.operands);
  for (size_t k = 0; k < mixture.operands; ++k) {
    if (!is_wanted(want, k)) continue;
    const Tensor& operand = tensors[k];
    const at::ScalarType dtype = operand.scalar_type();
    gradients[k] = mixture.is_summed(operand, k, whole)
                       ? device.empty(whole, sum_dtype(dtype))
                       : empty_laid_out_like(device, operand, operand.sizes(), dtype);
  }
  return gradients;
}

// The part of the first component, and how far apart these are.
template <class Place>
void add_components(IndexSpace& space, OfComponents<Place>& place, const Tensor& x, int64_t dim) {
  place.stride = x.stride(dim);
  space.add(place.first, x.select(dim, 0));
}

void launch(const Device& device, const Mixture& mixture, const Tensors& tensors,
            const Tensor& upstream, double scale, const Tensor& value, const Tensors& gradients) {
  const at::DimVector positions = mixture.positions(tensors), elements = mixture.elements(tensors);
  TORCH_CHECK_VALUE(static_cast<int>(elements.size()) < kMaxDims, mixture.name, ": ",
                    elements.size(), " dimensions and one of components, expected at most ",
                    kMaxDims);
  MixtureArgs args;
  args.loss = mixture.loss;
  args.pixel_channels = static_cast<int>(mixture.channels);
  args.float64 = value.scalar_type() == at::kDouble;
  args.components = mixture.components;
  args.run = product(elements) / product(positions);
  args.scale = scale;

  const int64_t dim = mixture.batch_dims;
  const Tensors parts = mixture.parts(tensors), outputs = mixture.parts(gradients);
  IndexSpace of_positions(positions), of_elements(elements);
  add_components(of_positions, args.logits, parts[0], dim);
  of_positions.add(args.value, value);
  Tensor factor;
  if (upstream.defined()) {
    factor = Reduction::align(in_memory(in_arithmetic(upstream, args.float64)),
                              static_cast<int64_t>(positions.size()));
    of_positions.add(args.upstream, factor.expand(positions));
  }
  if (outputs[0].defined()) add_components(of_positions, args.grad_logits, outputs[0], dim);
  size_t next = 0;
  for (size_t k = 1; k < parts.size(); ++k, ++next) {
    const Tensor part = parts[k].expand(mixture.with_components(elements));
    add_components(of_elements, args.operands[next], part, dim);
    if (outputs[k].defined()) add_components(of_elements, args.gradients[next], outputs[k], dim);
  }
  if (mixture.channels > 0) of_elements.add(args.operands[next++].first, tensors.back());
  for (const Tensor& target : mixture.targets(tensors, elements)) {
    of_elements.add(args.operands[next++].first, target);
  }
  const Tensor& mask = mixture.mask(tensors);
  if (mask.defined()) of_elements.add(args.mask, mask.expand(elements));
  // The elements of a position stay together.
  of_positions.simplify(args.positions, static_cast<int64_t>(positions.size()));
  of_elements.simplify(args.elements, static_cast<int64_t>(elements.size()));
  device.mixture(args);
}

Tensors evaluate(const Mixture& mixture, const Tensors& given, const Tensor& upstream,
                 int64_t want) {
  Tensors tensors;
  for (const Tensor& x : given) tensors.push_back(x.defined() ? in_memory(x) : x);
  const at::DimVector positions = mixture.positions(tensors);
  const Reduction reduction = mixture.reduction;
  const int64_t entries = product(at::IntArrayRef(positions).slice(reduction.keep, reduction.mean));
  const at::TensorList floating(tensors.data(), mixture.operands + 1);
  const Device& device = *kernels_for(tensors[0].device());
  Tensors gradients = allocate(device, mixture, tensors, want);
  Tensor value = device.empty(positions, is_float64(floating) ? at::kDouble : at::kFloat);
  if (product(mixture.elements(tensors)) > 0) {
    launch(device, mixture, tensors, upstream, 1.0 / static_cast<double>(entries), value,
           gradients);
  } else {
    value.zero_();
    for (const Tensor& gradient : gradients) {
      if (gradient.defined()) gradient.zero_();
    }
  }

  c10::SmallVector<int64_t, kMaxDims> summed;
  for (int64_t d = reduction.keep; d < value.dim(); ++d) summed.push_back(d);
  if (!summed.empty()) value = value.sum(summed);
  if (reduction.mean > 0) value.div_(entries);
  Tensors results = {value};
  for (size_t k = 0; k < mixture.operands; ++k) {
    const Tensor& gradient = gradients[k];
    const bool is_whole = !gradient.defined() || gradient.sizes() == tensors[k].sizes();
    results.push_back(is_whole ? gradient : at::sum_to(gradient, tensors[k].sizes()));
  }
  return results;
}

Composed composed(const Mixture& mixture) {
  const std::vector<int64_t> numbers = {mixture.components, mixture.batch_dims, mixture.event_dims,
                                        mixture.reduction.keep, mixture.reduction.mean};
  return {mixture.name, mixture.operands,
          [=](const Tensors& tensors, const Tensor& upstream, int64_t want) {
            return evaluate(mixture, tensors, upstream, want);
          },
          [=](const Tensors& tensors) { return composition(mixture.name, tensors, numbers); }};
}

// Gradients that are made in the forward are scaled by an upstream one for each batch entry at
// most, and before that are rounded: not for float16, and not after they were summed over a batch.
bool in_forward(const Mixture& mixture, const Tensors& tensors) {
  const Reduction reduction = mixture.reduction;
  if (reduction.keep > mixture.batch_dims) return false;
  const at::DimVector whole = mixture.with_components(mixture.elements(tensors));
  for (size_t k = 0; k < mixture.operands; ++k) {
    if (tensors[k].scalar_type() == at::kHalf) return false;
    if (reduction.keep > 0 && mixture.is_summed(tensors[k], k, whole)) return false;
  }
  return true;
}

Tensor call(const Mixture& mixture, const Tensors& tensors) {
  const Composed function = composed(mixture);
  if (!is_plain(function, tensors)) return function.compose(tensors);
  return call_fused(function, tensors, in_forward(mixture, tensors));
}

// ---- Python, which has checked the arguments ---------------------------------------------------

Tensor mixture_nll(const std::string& op, const Tensor& logits, const Tensor& target,
                   const std::vector<Tensor>& parameters, const OptionalTensor& mask,
                   int64_t batch_dims, int64_t event_dims, int64_t keep, int64_t mean) {
  Tensors tensors = {logits};
  tensors.insert(tensors.end(), parameters.begin(), parameters.end());
  tensors.insert(tensors.end(), {target, mask.value_or(Tensor())});
  return call({.name = "mixture_nll of " + op,
               .loss = loss_named(op),
               .channels = 0,
               .components = logits.size(batch_dims),
               .batch_dims = batch_dims,
               .event_dims = event_dims,
               .reduction = {keep, mean},
               .operands = 1 + parameters.size()},
              tensors);
}

Tensor pixel_mixture_nll(const Tensor& params, const Tensor& target, const OptionalTensor& mask,
                         const Tensor& levels, int64_t components, int64_t channels,
                         int64_t batch_dims, int64_t keep, int64_t mean) {
  return call({.name = "discretized_logistic_mixture_nll",
               .loss = 0,
               .channels = channels,
               .components = components,
               .batch_dims = batch_dims,
               .event_dims = 0,
               .reduction = {keep, mean},
               .operands = 1},
              {params, target, mask.value_or(Tensor()), levels});
}

}  // namespace

void register_mixture(pybind11::module_& module) {
  module.def("mixture_nll", entry<&mixture_nll>());
  module.def("discretized_logistic_mixture_nll", entry<&pixel_mixture_nll>());
}

}  // namespace vae_fast::bindings
