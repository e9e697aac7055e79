// A multilayer perceptron, ReLU between its linear layers, forward and backward without a graph.
#pragma once

#include <vector>

#include "bindings/products.h"

namespace vae_fast::bindings {

// Everywhere: weight (out, in) and bias (out,) of each layer, in their order.
using Parameters = std::vector<Tensor>;

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
