// The matrix products of linear layers in float32, each by whichever of torch's two libraries is
// the faster one for it on this machine.
#pragma once

#include "bindings/common.h"

namespace vae_fast::bindings {

// Whether oneDNN takes the products that are large enough for it: where it is the faster one, or as
// it was set, unless torch does without it (torch.backends.mkldnn).
bool uses_onednn();
void set_uses_onednn(bool wanted);

// x^T of a matrix of the CPU, dense. torch's copy does it on one thread, and takes as long as a
// tenth of the product.
Tensor transposed(const Tensor& x);

// Of two dimensions and one dtype, without a graph.
//
// x (rows, in), weight (out, in), bias (out,): x weight^T + bias.
Tensor layer_output(const Tensor& x, const Tensor& weight, const OptionalTensor& bias);
// gradient (rows, out): gradient weight, the gradient in x.
Tensor input_gradient(const Tensor& gradient, const Tensor& weight);
// gradient^T x, the gradient in the weight.
Tensor weight_gradient(const Tensor& gradient, const Tensor& x);
// The same into `out`, or added to what is there.
void write_weight_gradient(Tensor out, const Tensor& gradient, const Tensor& x, bool add);

}  // namespace vae_fast::bindings
