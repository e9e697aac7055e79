// Pairs of rows and components.
#include "cuda/pairs.cuh"

#include "cuda/start.h"

namespace vae_fast::cuda {
namespace {

template <class T, PairScale kScale>
int start_pairs_of(const Pass& pass, const PairsLoop& loop, void* stream) {
  return loop.step == PairsStep::kMarginal
             ? start(marginal_pairs<T, kScale>, pass.blocks, stream, loop)
             : start(joint_pairs<T, kScale>, pass.blocks, stream, loop);
}

template <class T>
int start_step(const Pass& pass, const PairsLoop& loop, void* stream) {
  switch (loop.step) {
    case PairsStep::kNormalise:
      return start(pair_normalisers<T>, pass.blocks, stream, loop);
    case PairsStep::kSumWeights:
      return start(pair_weights, pass.blocks, stream, loop);
    case PairsStep::kJoint:
    case PairsStep::kMarginal:
      break;
  }
  if (loop.reduction != PairsReduction::kLogSumExp) {
    return start_pairs_of<T, PairScale::kNone>(pass, loop, stream);
  }
  return loop.rows_own ? start_pairs_of<T, PairScale::kOfOther>(pass, loop, stream)
                       : start_pairs_of<T, PairScale::kOfOwner>(pass, loop, stream);
}

}  // namespace

int start_pairs(const Pass& pass, void* stream) {
  PairsLoop loop = *pass.pairs;
  const bool has_density = loop.reduction == PairsReduction::kLogSumExp;
  const int64_t components = loop.rows_own ? loop.others : loop.owners;
  loop.normalisers = pass.args.partials;
  loop.position_sums = loop.normalisers + (has_density ? components * loop.windows : 0);
  loop.square_sums = loop.position_sums + loop.owners * loop.dims;
  return is_double(pass.path) ? start_step<double>(pass, loop, stream)
                              : start_step<float>(pass, loop, stream);
}

}  // namespace vae_fast::cuda
