// A kernel of each loop shape and path, for nvcc to compile and ptx_test.py to interpret.
#include "cuda/counts.cuh"
#include "cuda/loops.cuh"
#include "cuda/mixture.cuh"
#include "cuda/multinomial.cuh"
#include "cuda/noise.cuh"

namespace vae_fast::cuda {

using Bernoulli = LossElement<BernoulliNll, true>;
using Sample = SampleElement<StandardNormalKl>;
using SampleBackward = SampleBackwardElement<StandardNormalKl>;

#define VAE_FAST_KERNEL(...) template __global__ void __VA_ARGS__(const __grid_constant__ LoopArgs)

VAE_FAST_KERNEL(rows<Bernoulli, float, 4, float>);
VAE_FAST_KERNEL(rows<Bernoulli, float, 8, BFloat16>);
VAE_FAST_KERNEL(rows<Bernoulli, float, 8, Float16>);
VAE_FAST_KERNEL(rows<Bernoulli, float, 4, AnyDtype>);
VAE_FAST_KERNEL(rows<Bernoulli, float, 1, AnyDtype>);
VAE_FAST_KERNEL(rows<Bernoulli, double, 2, double>);
VAE_FAST_KERNEL(rows<Bernoulli, double, 1, AnyDtype>);
VAE_FAST_KERNEL(rows<LossElement<GaussianNll, true>, float, 4, float>);
VAE_FAST_KERNEL(rows<LossElement<BernoulliProbsNll, true>, float, 4, float>);
VAE_FAST_KERNEL(rows<Sample, float, 1, AnyDtype>);
VAE_FAST_KERNEL(rows<Sample, double, 1, AnyDtype>);
VAE_FAST_KERNEL(rows<SampleBackward, float, 4, float>);
VAE_FAST_KERNEL(columns<Bernoulli, float, 4>);
VAE_FAST_KERNEL(noise<Sample, float>);
VAE_FAST_KERNEL(noise<Sample, BFloat16>);
VAE_FAST_KERNEL(noise<Sample, AnyDtype>);
VAE_FAST_KERNEL(multinomial_rows<float, 4, float>);
VAE_FAST_KERNEL(multinomial_rows<float, 8, BFloat16>);
VAE_FAST_KERNEL(multinomial_rows<float, 1, AnyDtype>);
VAE_FAST_KERNEL(multinomial_rows<double, 2, double>);
VAE_FAST_KERNEL(count_rows<LossElement<NegativeBinomialNll, true>, float>);
VAE_FAST_KERNEL(count_rows<LossElement<PoissonNll, false>, float>);
VAE_FAST_KERNEL(count_rows<LossElement<PoissonNll, true>, double>);

template __global__ void mixture<LikelihoodComponent<GaussianNll>, float>(
    const __grid_constant__ MixtureLoop);
template __global__ void mixture<PixelComponent<kMaxPixelChannels>, float>(
    const __grid_constant__ MixtureLoop);

}  // namespace vae_fast::cuda
