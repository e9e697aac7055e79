// The loop of mixtures on every instruction set: against the textbook, over numbers of components,
// positions and elements that fill tiles, cross them and fall short of them. Its tensors end where
// their memory does, for the sanitizers.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "formulas/discretized_logistic_pixel.h"
#include "formulas/list.h"
#include "kernels.h"

namespace {

using namespace vae_fast;

std::mt19937 generator(5);

std::vector<float> drawn(int64_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& number : x) number = normal(generator);
  return x;
}

Shape dense(int64_t rows, int64_t columns) {
  return {.dims = 2, .sizes = {rows, columns}, .numel = rows * columns};
}

// (rows, parts, columns), one part of it at a time.
template <class Tensor>
OfComponents<Tensor> of_components(auto* data, int64_t parts, int64_t columns) {
  return {.first = {.data = data, .strides = {parts * columns, 1}}, .stride = columns};
}

void call(const MixtureArgs& args) {
  cpu::mixture(args, [](int64_t n, int64_t, void (*body)(void*, int64_t, int64_t), void* context) {
    body(context, 0, n / 2);
    body(context, n / 2, n);
  });
}

// Bernoulli components: of (rows, columns) positions of `run` elements.
void check_components(int64_t rows, int64_t columns, int64_t run, int64_t components) {
  const int64_t positions = rows * columns, width = columns * run;
  const std::vector<float> logits = drawn(positions * components),
                           of_each = drawn(positions * components * run),
                           noise = drawn(positions * run), upstream = drawn(positions);
  std::vector<float> target(noise.size());
  std::vector<uint8_t> mask(noise.size());
  for (size_t i = 0; i < noise.size(); ++i) {
    target[i] = noise[i] > 0;
    mask[i] = std::abs(noise[i]) > 0.3f;
  }
  std::vector<float> value(positions), in_logits(logits.size()), in_each(of_each.size());
  MixtureArgs args;
  args.loss = kLossIndex<BernoulliNll>;
  args.components = components;
  args.run = run;
  args.positions = dense(rows, columns);
  args.elements = dense(rows, width);
  args.scale = 0.5;
  args.logits = of_components<Input>(logits.data(), components, columns);
  args.operands[0] = of_components<Input>(of_each.data(), components, width);
  args.operands[1] = of_components<Input>(target.data(), 1, width);
  args.mask = {.data = mask.data(), .dtype = Dtype::kBool, .strides = {width, 1}};
  args.upstream = {.data = upstream.data(), .strides = {columns, 1}};
  args.value = {.data = value.data(), .strides = {columns, 1}, .numel = positions};
  args.grad_logits = of_components<Output>(in_logits.data(), components, columns);
  args.gradients[0] = of_components<Output>(in_each.data(), components, width);
  call(args);

  for (int64_t p = 0; p < positions; ++p) {
    const int64_t row = p / columns, column = p % columns;
    std::vector<double> scores(components), costs(components);
    double prior = 0, total = 0;
    for (int64_t k = 0; k < components; ++k) {
      const double logit = logits[(row * components + k) * columns + column];
      for (int64_t i = 0; i < run; ++i) {
        const double l = of_each[(row * components + k) * width + column * run + i];
        const int64_t at = p * run + i;
        if (mask[at] != 0) costs[k] += std::log1p(std::exp(l)) - target[at] * l;
      }
      prior += std::exp(logit);
      scores[k] = logit - costs[k];
    }
    const double best = *std::max_element(scores.begin(), scores.end());
    for (double& score : scores) total += score = std::exp(score - best);
    const double right = std::log(prior) - std::log(total) - best, factor = 0.5 * upstream[p];
    CHECK(std::abs(value[p] - right) < 1e-5 * (1 + std::abs(right)), "%g, not %g", value[p], right);
    for (int64_t k = 0; k < components; ++k) {
      const int64_t of_position = (row * components + k) * columns + column;
      const double share = scores[k] / total;
      const double slope = factor * (std::exp(logits[of_position]) / prior - share);
      CHECK(std::abs(in_logits[of_position] - slope) < 1e-4, "%g, not %g", in_logits[of_position],
            slope);
      for (int64_t i = 0; i < run; ++i) {
        const int64_t at = of_position * run + i;
        const double l = of_each[at], x = target[p * run + i];
        const double own = mask[p * run + i] * factor * share * (1 / (1 + std::exp(-l)) - x);
        CHECK(std::abs(in_each[at] - own) < 1e-4, "%g, not %g", in_each[at], own);
      }
    }
  }
}

// Pixels of three channels: what is added to all logits changes nothing, and neither is anything
// not a number.
void check_pixels(int64_t rows, int64_t columns, int64_t components) {
  constexpr int kParts = pixel_parameter_count(kMaxPixelChannels) - 1;
  const int64_t parts = components * (1 + kParts), positions = rows * columns;
  std::vector<float> params = drawn(positions * parts), gradient(params.size()), value(positions);
  std::vector<uint8_t> target(kMaxPixelChannels * positions);
  for (uint8_t& level : target) level = static_cast<uint8_t>(generator());
  const float levels = 256;
  MixtureArgs args;
  args.pixel_channels = kMaxPixelChannels;
  args.components = components;
  args.positions = args.elements = dense(rows, columns);
  args.logits = of_components<Input>(params.data(), parts, columns);
  args.grad_logits = of_components<Output>(gradient.data(), parts, columns);
  for (int k = 0; k < kParts; ++k) {
    const int64_t offset = (1 + k) * components * columns;
    args.operands[k] = of_components<Input>(params.data() + offset, parts, columns);
    args.gradients[k] = of_components<Output>(gradient.data() + offset, parts, columns);
  }
  args.operands[kParts].first = {.data = &levels};
  for (int c = 0; c < kMaxPixelChannels; ++c) {
    args.operands[kParts + 1 + c].first = {.data = target.data() + c * columns,
                                           .dtype = Dtype::kUInt8,
                                           .strides = {kMaxPixelChannels * columns, 1}};
  }
  args.value = {.data = value.data(), .strides = {columns, 1}, .numel = positions};
  call(args);
  for (const float number : gradient) CHECK(std::isfinite(number), "%g", number);
  for (int64_t p = 0; p < positions; ++p) {
    CHECK(value[p] > 0 && std::isfinite(value[p]), "%g", value[p]);
    double sum = 0;
    for (int64_t k = 0; k < components; ++k) {
      sum += gradient[(p / columns * parts + k) * columns + p % columns];
    }
    CHECK(std::abs(sum) < 1e-5, "%g", sum);
  }
}

}  // namespace

int main() {
  for (const char* const* name = cpu::capabilities(); *name != nullptr; ++name) {
    cpu::set_capability(*name);
    for (const int64_t components : {1, 3, 10}) {
      for (const int64_t columns : {1, 7, 100, 2500}) {
        check_components(3, columns, 1, components);
        check_components(2, columns, 5, components);
        check_pixels(3, columns, components);
      }
      check_components(3, 1, 3000, components);
    }
  }
  return testing::report();
}
