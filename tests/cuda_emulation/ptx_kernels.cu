// A kernel of each loop shape and path, for nvcc to compile and ptx_test.py to interpret.
#include "cuda/loops.cuh"

namespace vae_fast::cuda {

using Bernoulli = LossElement<BernoulliNll, true>;
using Sample = SampleElement<StandardNormalKl>;
using SampleBackward = SampleBackwardElement<StandardNormalKl>;

#define VAE_FAST_KERNEL(...) template __global__ void __VA_ARGS__(const __grid_constant__ LoopArgs)

VAE_FAST_KERNEL(rows<Bernoulli, float, 4, true>);
VAE_FAST_KERNEL(rows<Bernoulli, float, 4, false>);
VAE_FAST_KERNEL(rows<Bernoulli, float, 8, false>);
VAE_FAST_KERNEL(rows<Bernoulli, float, 1, false>);
VAE_FAST_KERNEL(rows<Bernoulli, double, 1, false>);
VAE_FAST_KERNEL(rows<Sample, float, 1, false>);
VAE_FAST_KERNEL(rows<SampleBackward, float, 4, true>);
VAE_FAST_KERNEL(rows<ScaleElement, float, 4, true>);
VAE_FAST_KERNEL(columns<Bernoulli, float, 4>);
VAE_FAST_KERNEL(noise<Sample>);

}  // namespace vae_fast::cuda
