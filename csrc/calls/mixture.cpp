#include "calls/mixture.h"

#include <vector>

#include "calls/index_space.h"
#include "formulas/discretized_logistic_pixel.h"

namespace vae_fast::calls {
namespace {

// The index spaces of a call, and its tensors in them.
struct Layout {
  const MixtureCall& call;
  const MixtureTensors& tensors;

  // Without the components, which lie behind the batch.
  Sizes positions() const {
    Sizes shape = tensors.operands[0].sizes;
    shape.erase(call.batch_dims);
    return shape;
  }

  Sizes elements() const {
    Sizes shape = positions();
    shape.append(Span(tensors.target.sizes).last(call.event_dims));
    return shape;
  }

  Sizes with_components(Sizes shape) const {
    shape.insert(call.batch_dims, call.components);
    return shape;
  }

  // Whether operand k broadcasts to the elements of all components.
  bool is_summed(size_t k, const Sizes& whole) const {
    return k > 0 && tensors.operands[k].sizes != whole;
  }

  // Of operands, or of gradients laid out like them: the logits, then the parameters.
  std::vector<View> parts(Views views) const {
    if (call.channels == 0) return {views.begin(), views.end()};
    const int64_t numbers = call.channels == 1 ? 2 : 3;
    const auto part = [&](int64_t channel, int64_t number) {
      const int64_t first = (1 + channel * numbers + number) * call.components;
      return views[0].narrow(call.batch_dims, first, call.components);
    };
    std::vector<View> result = {views[0].narrow(call.batch_dims, 0, call.components)};
    for (int64_t number = 0; number < numbers; ++number) {
      for (int64_t c = 0; c < call.channels; ++c) result.push_back(part(c, number));
    }
    return result;
  }

  std::vector<View> targets(const Sizes& elements) const {
    if (call.channels == 0) return {tensors.target.expand(elements)};
    std::vector<View> result;
    const int64_t dim = call.batch_dims - (tensors.operands[0].dims() - tensors.target.dims());
    for (int64_t c = 0; c < call.channels; ++c) {
      result.push_back(tensors.target.select(dim, c).expand(elements));
    }
    return result;
  }
};

// Written for every element, and summed where the operand broadcasts.
void make_gradients(Results& results, const Layout& layout, int64_t want, Gradients& gradients) {
  const Sizes whole = layout.with_components(layout.elements());
  for (size_t k = 0; k < layout.tensors.operands.size(); ++k) {
    const View& operand = layout.tensors.operands[k];
    const Dtype dtype = operand.dtype();
    if (!is_wanted(want, k)) {
      results.make_nothing(1 + k, dtype);
    } else if (layout.is_summed(k, whole)) {
      gradients[k] = results.make(1 + k, whole, sum_dtype(dtype));
    } else {
      gradients[k] = results.make_like(1 + k, operand, operand.sizes, dtype);
    }
  }
}

// The part of the first component, and how far apart these are.
template <class Place>
void add_components(IndexSpace& space, OfComponents<Place>& place, const View& x, int64_t dim) {
  place.stride = x.strides[dim];
  space.add(place.first, x.select(dim, 0));
}

void launch(const Kernels& kernels, const Layout& layout, double scale, const View& value,
            const Gradients& gradients, int64_t want) {
  const auto& [call, tensors] = layout;
  const Sizes positions = layout.positions(), elements = layout.elements();
  VAE_FAST_REQUIRE(elements.size() < kMaxDims, BadValue, "a mixture of ", elements.size(),
                   " dimensions and one of components, expected at most ", kMaxDims);
  MixtureArgs args;
  args.loss = call.loss;
  args.pixel_channels = static_cast<int>(call.channels);
  args.float64 = value.dtype() == Dtype::kFloat64;
  args.components = call.components;
  args.run = product(elements) / product(positions);
  args.scale = scale;

  const int64_t dim = call.batch_dims;
  const std::vector<View> parts = layout.parts(tensors.operands);
  // A pixel's numbers are one operand: all of its gradient is wanted, or nothing.
  const auto is_part_wanted = [&](size_t k) { return is_wanted(want, call.channels > 0 ? 0 : k); };
  const bool has_gradients = call.channels == 0 || is_part_wanted(0);
  const std::vector<View> outputs =
      has_gradients ? layout.parts(Views(gradients, tensors.operands.size())) : std::vector<View>();
  IndexSpace of_positions(positions), of_elements(elements);
  add_components(of_positions, args.logits, parts[0], dim);
  of_positions.add(args.value, value);
  if (tensors.upstream != nullptr) {
    const int64_t dims = static_cast<int64_t>(positions.size());
    of_positions.add(args.upstream, tensors.upstream->with_trailing(dims).expand(positions));
  }
  if (is_part_wanted(0)) add_components(of_positions, args.grad_logits, outputs[0], dim);
  size_t next = 0;
  for (size_t k = 1; k < parts.size(); ++k, ++next) {
    const View part = parts[k].expand(layout.with_components(elements));
    add_components(of_elements, args.operands[next], part, dim);
    if (is_part_wanted(k)) add_components(of_elements, args.gradients[next], outputs[k], dim);
  }
  if (call.channels > 0) of_elements.add(args.operands[next++].first, *tensors.levels);
  for (const View& target : layout.targets(elements)) {
    of_elements.add(args.operands[next++].first, target);
  }
  if (tensors.mask != nullptr) of_elements.add(args.mask, tensors.mask->expand(elements));
  // The elements of a position stay together.
  of_positions.simplify(args.positions, static_cast<int64_t>(positions.size()));
  of_elements.simplify(args.elements, static_cast<int64_t>(elements.size()));
  kernels.mixture(args);
}

}  // namespace

bool in_forward(const MixtureCall& call, const MixtureTensors& tensors) {
  const Layout layout{call, tensors};
  if (call.reduction.keep > call.batch_dims) return false;
  const Sizes whole = layout.with_components(layout.elements());
  for (size_t k = 0; k < tensors.operands.size(); ++k) {
    if (tensors.operands[k].dtype() == Dtype::kFloat16) return false;
    if (call.reduction.keep > 0 && layout.is_summed(k, whole)) return false;
  }
  return true;
}

void mixture(const Kernels& kernels, const MixtureCall& call, const MixtureTensors& tensors,
             int64_t want, Results& results) {
  const Layout layout{call, tensors};
  const Sizes positions = layout.positions();
  std::vector<View> floating(tensors.operands.begin(), tensors.operands.end());
  floating.push_back(tensors.target);
  const View value =
      results.make(0, positions, is_float64(floating) ? Dtype::kFloat64 : Dtype::kFloat32);
  Gradients gradients;
  make_gradients(results, layout, want, gradients);
  const double scale = mean_factor(positions, call.reduction);
  if (product(layout.elements()) > 0) {
    launch(kernels, layout, scale, value, gradients, want);
  } else {
    results.fill(0, 0);
    fill_gradients(results, 1, tensors.operands.size(), want);
  }
  results.reduce(0, call.reduction.keep, scale);
  for (size_t k = 0; k < tensors.operands.size(); ++k) {
    if (is_wanted(want, k)) results.sum_to(1 + k, tensors.operands[k].sizes);
  }
}

}  // namespace vae_fast::calls
