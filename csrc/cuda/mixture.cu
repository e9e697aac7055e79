// Mixtures of the likelihoods, and of pixels.
#include "cuda/mixture.cuh"

#include "cuda/start.h"

namespace vae_fast::cuda {
namespace {

using StartMixture = int (*)(const Pass& pass, const MixtureLoop& loop, void* stream);

template <class Component>
int start_of(const Pass& pass, const MixtureLoop& loop, void* stream) {
  return is_double(pass.path) ? start(mixture<Component, double>, pass.blocks, stream, loop)
                              : start(mixture<Component, float>, pass.blocks, stream, loop);
}

template <class Formula>
constexpr StartMixture of_likelihood() {
  if constexpr (Formula::kTarget == Target::kNone) {
    return nullptr;
  } else {
    return start_of<LikelihoodComponent<Formula>>;
  }
}

template <class... Formula>
StartMixture find(int loss, FormulaList<Formula...>) {
  static constexpr StartMixture kMixtures[] = {of_likelihood<Formula>()...};
  return kMixtures[loss];
}

}  // namespace

int start_mixture(int loss, const Pass& pass, void* stream) {
  MixtureLoop loop = *pass.mixture;
  loop.scores = pass.args.partials;
  if (loop.pixel_channels == 0) return find(loss, Losses{})(pass, loop, stream);
  return loop.pixel_channels == 1 ? start_of<PixelComponent<1>>(pass, loop, stream)
                                  : start_of<PixelComponent<kMaxPixelChannels>>(pass, loop, stream);
}

}  // namespace vae_fast::cuda
