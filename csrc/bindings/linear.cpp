// A linear layer with its likelihood as one node of the graph: its output is never all there. Each
// chunk makes its share of the output, uses it up and forgets it.
//
// Elementwise likelihoods go by features: parts of neighbouring ones, which stay in the cache with
// their gradient. The multinomial goes by rows, because its softmax needs them whole; its gradient
// takes the place of the output.
#include <ATen/TensorUtils.h>

#include <array>
#include <atomic>
#include <string>

#include "bindings/arguments.h"
#include "bindings/calls.h"
#include "bindings/composed.h"
#include "bindings/entry.h"
#include "bindings/products.h"

namespace vae_fast::bindings {
namespace {

// ---- how much is a chunk -----------------------------------------------------------------------

// Outputs of less than `divided_from` bytes are made whole. By features: `feature_bytes` of the
// output at a time. By rows: `row_bytes`. Where there are fewer features or rows than the least,
// matrix products are slow.
struct Sizes {
  int64_t divided_from, feature_bytes, row_bytes;
};
// Parts that stay in the caches.
constexpr Sizes kCpuSizes{0, 3 << 19, 10 << 20};
// Parts that fill the device, and are worth their launches.
constexpr Sizes kGpuSizes{256 << 20, 64 << 20, 64 << 20};
constexpr int64_t kLeastFeatures = 256, kLeastRows = 32;
// Of the weight's gradient by rows: a part that a product may make apart before it is added.
constexpr int64_t kBlockFeatures = 1024;

// What tests set in place of the sizes, on every device: features and rows of a chunk, or 0.
std::atomic<int64_t> set_features = 0, set_rows = 0;

void set_linear_chunks(int64_t features, int64_t rows) {
  set_features = features;
  set_rows = rows;
}

// ---- what the loss is of -----------------------------------------------------------------------

// What may require a gradient, in the order of the node's edges.
enum Operand { kH, kWeight, kBias, kLogvar, kOperands };
using Operands = std::array<Tensor, kOperands>;
using Wanted = std::array<bool, kOperands>;

constexpr int kMultinomial = -1;  // in place of the index of an elementwise loss

// Sums over chunks and products of half precision are float32's.
Tensor widened(const Tensor& x) { return x.defined() ? x.to(sum_dtype(x.scalar_type())) : x; }

struct Problem {
  Operands operands;    // (*batch, in), (out, in), (out,) or undefined, () or (out,) or undefined
  Tensor target;        // (*batch, out)
  OptionalTensor mask;  // broadcasts with it
  int loss;

  const Tensor& h() const { return operands[kH]; }
  const Tensor& weight() const { return operands[kWeight]; }
  int64_t batch_dims() const { return h().dim() - 1; }
  int64_t features() const { return weight().size(0); }
  int64_t rows() const { return product(h().sizes().slice(0, batch_dims())); }
  int64_t row_bytes(int64_t size) const {
    return size * static_cast<int64_t>(c10::elementSize(sum_dtype(h().scalar_type())));
  }

  const Sizes& sizes() const { return h().is_cpu() ? kCpuSizes : kGpuSizes; }

  int64_t features_of_chunk() const {
    if (set_features > 0) return set_features;
    return std::max(kLeastFeatures, sizes().feature_bytes / row_bytes(rows()) / 64 * 64);
  }

  int64_t rows_of_chunk() const {
    if (set_rows > 0) return set_rows;
    return std::max(kLeastRows, sizes().row_bytes / row_bytes(features()));
  }

  // Whether the chunks can take the tensors as they are, and there is more than one. A GPU's units
  // for half precision are too fast to do without: there it is made whole.
  bool is_divided() const {
    if (rows() == 0 || features() == 0 || h().size(-1) == 0) return false;
    const bool is_half = h().element_size() < 4, is_set = set_rows > 0;
    if (!h().is_cpu() && !is_set &&
        (is_half || row_bytes(rows() * features()) < sizes().divided_from)) {
      return false;
    }
    if (loss == kMultinomial) return rows() > rows_of_chunk();
    return features() > features_of_chunk();
  }

  // The likelihood's op on the layer's output.
  TensorVector likelihood(const Tensor& output) const {
    TensorVector result = {output};
    if (operands[kLogvar].defined()) result.push_back(operands[kLogvar]);
    result.push_back(target);
    return result;
  }

  // All of the layer's output, in torch's own ops and this package's, through their nodes.
  Tensor in_two_steps(Reduction reduction) const {
    const Tensor output = at::linear(h(), weight(), given(operands[kBias]));
    if (loss == kMultinomial) return std::get<0>(call_multinomial(output, target, reduction, 0));
    return call_loss(loss, likelihood(output), mask, reduction, 0)[0];
  }

  // Of `count` features from `first` on.
  Problem part(int64_t first, int64_t count) const {
    const auto of = [&](const Tensor& x, int64_t d) {
      const bool has_features = x.defined() && x.dim() > 0 && x.size(d) > 1;
      return has_features ? x.narrow(d, first, count) : x;
    };
    Problem result = *this;
    for (const Operand k : {kWeight, kBias, kLogvar}) result.operands[k] = of(operands[k], 0);
    result.target = of(target, -1);
    if (mask) result.mask = of(*mask, -1);
    return result;
  }

  // `count` rows of the target from `first` on: as they lie, if the batch can be seen as one
  // dimension, else a copy of them. Samples that share a target do not each have one.
  Tensor target_rows(int64_t first, int64_t count) const {
    const at::DimVector flat{rows(), features()};
    const auto strides = at::detail::computeStride(target.sizes(), target.strides(), flat);
    if (strides) return target.view(flat).narrow(0, first, count);
    c10::List<OptionalTensor> indices;
    indices.resize(batch_dims());
    Tensor index = at::arange(first, first + count, target.options().dtype(at::kLong));
    for (int64_t d = batch_dims() - 1; d >= 0; --d) {
      indices[d] = index.remainder(target.size(d));
      index = index.div(target.size(d), "floor");
    }
    return target.index(indices);
  }
};

// ---- the passes over the chunks ----------------------------------------------------------------

// The value, unless an upstream gradient came, and the gradients that are wanted, times it. Not
// rounded to the operands' dtypes yet.
struct Sums {
  Tensor value;
  Operands gradients;
};

void add(Tensor& sum, const Tensor& term) {
  if (sum.defined()) {
    sum.add_(term);
  } else {
    sum = term;
  }
}

Sums start(const Problem& problem, const Wanted& wanted) {
  const Device& device = *kernels_for(problem.h().device());
  Sums sums;
  for (const Operand k : {kWeight, kBias}) {
    const Tensor& x = problem.operands[k];
    if (wanted[k]) sums.gradients[k] = device.empty(x.sizes(), sum_dtype(x.scalar_type()));
  }
  return sums;
}

Sums by_features(const Problem& problem, Reduction reduction, const Wanted& wanted,
                 const Tensor& upstream) {
  const Tensor h = widened(problem.h().reshape({problem.rows(), -1}));
  const bool in_layer = wanted[kH] || wanted[kWeight] || wanted[kBias];
  const int64_t want = int64_t{in_layer} | int64_t{wanted[kLogvar]} << 1;
  Sums sums = start(problem, wanted);
  auto& [in_h, in_weight, in_bias, in_logvar] = sums.gradients;
  std::vector<Tensor> of_logvar;
  const int64_t features = problem.features(), width = problem.features_of_chunk();
  for (int64_t first = 0; first < features; first += width) {
    const int64_t count = std::min(width, features - first);
    Problem part = problem.part(first, count);
    part.operands[kLogvar] = widened(part.operands[kLogvar]);
    const Tensor weight = widened(part.weight());
    const Tensor output = layer_output(h, weight, given(widened(part.operands[kBias])));
    const TensorVector operands = part.likelihood(output.view(part.target.sizes()));
    TensorVector gradients;
    if (upstream.defined()) {
      gradients = call_loss_backward(problem.loss, upstream, operands, part.mask, reduction, want);
    } else {
      gradients = call_loss(problem.loss, operands, part.mask, reduction, want);
      add(sums.value, gradients[0]);
      gradients.erase(gradients.begin());
    }
    if (wanted[kLogvar]) {
      const Tensor own = gradients[1].view(part.operands[kLogvar].sizes());
      own.dim() > 0 ? of_logvar.push_back(own) : add(in_logvar, own);
    }
    if (!in_layer) continue;
    const Tensor in_output = gradients[0].view({-1, count});
    if (wanted[kH]) add(in_h, input_gradient(in_output, weight));
    if (wanted[kWeight]) {
      write_weight_gradient(in_weight.narrow(0, first, count), in_output, h, /*add=*/false);
    }
    if (wanted[kBias]) {
      Tensor own = in_bias.narrow(0, first, count);
      at::sum_out(own, in_output, 0);
    }
  }
  if (!of_logvar.empty()) in_logvar = at::cat(of_logvar);
  return sums;
}

Sums by_rows(const Problem& problem, Reduction reduction, const Wanted& wanted,
             const Tensor& upstream) {
  const int64_t rows = problem.rows(), height = problem.rows_of_chunk();
  const int64_t features = problem.features();
  const Tensor h = widened(problem.h().reshape({rows, -1})), weight = widened(problem.weight());
  const OptionalTensor bias = given(widened(problem.operands[kBias]));
  const bool in_layer = wanted[kH] || wanted[kWeight] || wanted[kBias];
  const double scale = reduction.mean > 0 ? 1.0 / static_cast<double>(rows) : 1.0;
  Sums sums = start(problem, wanted);
  auto& [in_h, in_weight, in_bias, _] = sums.gradients;
  std::vector<Tensor> values, of_h;
  for (int64_t first = 0; first < rows; first += height) {
    const int64_t count = std::min(height, rows - first);
    const Tensor own_h = h.narrow(0, first, count);
    const Tensor output = layer_output(own_h, weight, bias);
    const Tensor of_rows = upstream.defined() ? upstream.narrow(0, first, count) : upstream;
    const Tensor value = multinomial_rows(output, problem.target_rows(first, count), scale,
                                          /*in_place=*/in_layer, of_rows);
    reduction.keep > 0 ? values.push_back(value) : add(sums.value, value.sum());
    if (wanted[kH]) of_h.push_back(input_gradient(output, weight));
    if (wanted[kWeight]) {
      for (int64_t begin = 0; begin < features; begin += kBlockFeatures) {
        const int64_t size = std::min(kBlockFeatures, features - begin);
        write_weight_gradient(in_weight.narrow(0, begin, size), output.narrow(1, begin, size),
                              own_h, /*add=*/first > 0);
      }
    }
    if (wanted[kBias] && first == 0) at::sum_out(in_bias, output, 0);
    if (wanted[kBias] && first > 0) in_bias.add_(output.sum(0));
  }
  if (wanted[kH]) in_h = at::cat(of_h);
  if (reduction.keep > 0)
    sums.value = at::cat(values).view(problem.h().sizes().slice(0, reduction.keep));
  if (reduction.mean > 0) sums.value.mul_(scale);
  return sums;
}

// ---- as a fused function -----------------------------------------------------------------------

// Behind the operands.
constexpr size_t kTarget = kOperands, kMask = kTarget + 1;

Composed::Tensors tensors_of(const Problem& problem) {
  Composed::Tensors tensors(problem.operands.begin(), problem.operands.end());
  tensors.insert(tensors.end(), {problem.target, problem.mask.value_or(Tensor())});
  return tensors;
}

Problem problem_of(const Composed::Tensors& tensors, int loss) {
  Problem problem{{}, tensors[kTarget], given(tensors[kMask]), loss};
  std::copy_n(tensors.begin(), kOperands, problem.operands.begin());
  return problem;
}

Composed::Tensors evaluate(const Problem& problem, Reduction reduction, const Tensor& upstream,
                           int64_t want) {
  Wanted wanted;
  for (size_t k = 0; k < kOperands; ++k) wanted[k] = is_wanted(want, k);
  Sums sums;
  if (problem.loss == kMultinomial) {
    const Tensor of_rows = upstream.defined() ? upstream.reshape({problem.rows(), 1}) : upstream;
    sums = by_rows(problem, reduction, wanted, of_rows);
  } else {
    sums = by_features(problem, reduction, wanted, upstream);
  }
  if (wanted[kH]) sums.gradients[kH] = sums.gradients[kH].view(problem.h().sizes());
  Composed::Tensors results = {sums.value};
  results.insert(results.end(), sums.gradients.begin(), sums.gradients.end());
  return results;
}

// The sum over everything makes its gradients in the forward. The sums of rows have an upstream
// gradient each, which cannot be applied to what was summed over rows: their backward makes the
// chunks again.
Composed composed(int loss, Reduction reduction) {
  return {"linear_nll", kOperands,
          [=](const Composed::Tensors& tensors, const Tensor& upstream, int64_t want) {
            return evaluate(problem_of(tensors, loss), reduction, upstream, want);
          },
          [=](const Composed::Tensors& tensors) {
            return problem_of(tensors, loss).in_two_steps(reduction);
          }};
}

// ---- Python ------------------------------------------------------------------------------------

// The caller finds out what is wrong, and says it.
void check(const Problem& problem) {
  const Tensor &h = problem.h(), &weight = problem.weight();
  bool fits = h.dim() >= 1 && weight.dim() == 2 && h.is_floating_point();
  if (fits) {
    c10::SymDimVector shape(h.sym_sizes().begin(), h.sym_sizes().end());
    fits = shape.back() == weight.sym_size(1);
    shape.back() = weight.sym_size(0);
    fits = fits && problem.target.sym_sizes() == c10::SymIntArrayRef(shape);
    if (problem.mask) {
      fits = fits && broadcast_shape(std::array{*problem.mask, problem.target}) == shape;
    }
  }
  for (const Operand k : {kBias, kLogvar}) {
    const Tensor& x = problem.operands[k];
    if (!fits || !x.defined()) continue;
    const bool is_number = k == kLogvar && x.dim() == 0;
    fits = is_number || (x.dim() == 1 && x.sym_size(0) == weight.sym_size(0));
  }
  for (const Operand k : {kWeight, kBias}) {
    const Tensor& x = problem.operands[k];
    fits =
        fits && (!x.defined() || (x.scalar_type() == h.scalar_type() && x.device() == h.device()));
  }
  fits = fits && problem.target.device() == h.device();
  for (const Tensor& x : {h, weight, problem.operands[kBias], problem.target}) {
    fits = fits && (!x.defined() || x.layout() == at::kStrided);
  }
  if (problem.mask && problem.loss == kMultinomial) fits = false;
  TORCH_CHECK_VALUE(fits, "linear_nll: the arguments do not fit together");
}

Tensor linear_nll(const Tensor& h, const Tensor& weight, const OptionalTensor& bias,
                  const Tensor& target, const OptionalTensor& logvar, const OptionalTensor& mask,
                  const std::string& op, int64_t keep, int64_t mean) {
  const int loss = op == "multinomial_nll" ? kMultinomial : loss_named(op);
  const Problem problem{
      {h, weight, bias.value_or(Tensor()), logvar.value_or(Tensor())}, target, mask, loss};
  check(problem);
  const int64_t batch_dims = problem.batch_dims();
  const Composed function = composed(loss, {keep, std::min(mean, batch_dims)});
  const Composed::Tensors tensors = tensors_of(problem);
  if (!is_plain(function, tensors) || !problem.is_divided()) {
    return problem.in_two_steps({keep, mean});
  }
  const Tensor value = call_fused(function, tensors, /*in_forward=*/keep == 0);
  return mean > batch_dims ? value / problem.features() : value;
}

}  // namespace

void register_linear(pybind11::module_& module) {
  module.def("linear_nll", entry<&linear_nll>());
  module.def("set_linear_chunks", &set_linear_chunks);
}

}  // namespace vae_fast::bindings
