// A multilayer perceptron, ReLU between its linear layers, forward and backward without a graph.
#pragma once

#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "bindings/autograd.h"
#include "bindings/products.h"

namespace vae_fast::bindings {

// Everywhere: weight (out, in) and bias (out,) of each layer, in their order.
using Parameters = std::vector<Tensor>;

// A plain, strided tensor of the CPU: no subclass, no tangent, nothing of torch.func.
bool is_plain(const Tensor& x, at::ScalarType dtype);

// Whether somebody wants to see torch's own ops go by, or to change them: a dispatch mode, a
// transform of torch.func, a tracer.
bool is_watched();

// How many numbers the last layer gives for each row where the products can take the tensors as
// they are; 0 where the modules have to be called. x is (rows, ...); the first layer reads
// `inputs`.
int64_t mlp_outputs(const Tensor& x, int64_t inputs, const Parameters& parameters);

// The same in torch's own ops, which every transform and subclass knows.
Tensor plain_mlp(const Tensor& x, const Parameters& parameters);

// The gradients in the operands, undefined where they are not wanted, by way of a graph: for
// derivatives of any order, and for upstream gradients that only torch's own ops can read.
//   upstream      one for each output, undefined where there is none
//   wanted(k)     of operand k
//   outputs(own)  of operands
template <class Wanted, class Outputs>
variable_list gradients_through_graph(const std::vector<Tensor>& operands,
                                      const variable_list& upstream, const Wanted& wanted,
                                      const Outputs& outputs) {
  const bool create_graph = at::GradMode::is_enabled();
  const at::AutoGradMode with_graph(true);
  // An operand may be there twice, or another one be made of it: an alias has only its own part.
  std::vector<Tensor> own;
  for (const Tensor& operand : operands) own.push_back(at::alias(operand));
  const variable_list made = outputs(own);
  variable_list roots, of_roots, inputs;
  for (size_t k = 0; k < made.size(); ++k) {
    if (!upstream[k].defined()) continue;
    roots.push_back(made[k]);
    of_roots.push_back(upstream[k]);
  }
  for (size_t k = 0; k < own.size(); ++k) {
    if (wanted(k)) inputs.push_back(own[k]);
  }
  const variable_list found =
      torch::autograd::grad(roots, inputs, of_roots, /*retain_graph=*/std::nullopt, create_graph,
                            /*allow_unused=*/true);
  variable_list result(own.size());
  for (size_t k = 0, next = 0; k < own.size(); ++k) {
    if (wanted(k)) result[k] = found[next++];
  }
  return result;
}

// What each layer reads, x first, and then the output; or the output alone, if it is not to keep
// what a backward will need.
inline std::vector<Tensor> mlp_activations(const Tensor& x, const Parameters& parameters,
                                           bool keep) {
  std::vector<Tensor> activations = {x};
  for (size_t k = 0; k < parameters.size(); k += 2) {
    // oneDNN has a ReLU of its own, which makes NaN a zero.
    if (k > 0) at::relu_(activations.back());
    activations.push_back(layer_output(activations.back(), parameters[k], parameters[k + 1]));
    if (!keep) activations.erase(activations.begin());
  }
  return activations;
}

// The gradients in x and in each of the parameters, undefined where they are not wanted, from the
// one in the output.
//   activation(layer)  what a layer has read
//   weight(layer)
//   wanted(k)          of x (k = 0), or of the parameter k - 1
template <class Activation, class Weight, class Wanted>
std::vector<Tensor> mlp_gradients(size_t layers, Tensor gradient, const Activation& activation,
                                  const Weight& weight, const Wanted& wanted) {
  std::vector<Tensor> result(1 + 2 * layers);
  for (size_t layer = layers; layer-- > 0;) {
    const size_t of_weight = 1 + 2 * layer, of_bias = of_weight + 1;
    const Tensor read = activation(layer);
    if (wanted(of_weight)) result[of_weight] = weight_gradient(gradient, read);
    if (wanted(of_bias)) result[of_bias] = gradient.sum(0);
    if (layer == 0 && !wanted(0)) return result;
    gradient = input_gradient(gradient, weight(layer));
    if (layer > 0) at::threshold_backward_out(gradient, gradient, read, 0);
  }
  result[0] = gradient;
  return result;
}

}  // namespace vae_fast::bindings
