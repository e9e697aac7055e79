// The likelihoods of counts whose means are shares of a row's total.
#include "cuda/counts.cuh"
#include "cuda/start.h"

namespace vae_fast::cuda {
namespace {

template <class Loss>
int start_rows_of_counts(const Pass& pass, void* stream) {
  return is_double(pass.path) ? start(count_rows<Loss, double>, pass.blocks, stream, pass.args)
                              : start(count_rows<Loss, float>, pass.blocks, stream, pass.args);
}

template <class Formula, bool kGradients>
constexpr StartPass start_of() {
  if constexpr (kIsOfMean<Formula>) return start_rows_of_counts<LossElement<Formula, kGradients>>;
  return start_nothing;
}

template <class... Formula>
StartPass find(int loss, bool with_gradients, FormulaList<Formula...>) {
  static constexpr StartPass kValues[] = {start_of<Formula, false>()...};
  static constexpr StartPass kGradients[] = {start_of<Formula, true>()...};
  return (with_gradients ? kGradients : kValues)[loss];
}

}  // namespace

int start_counts(int loss, bool with_gradients, const Pass& pass, void* stream) {
  return find(loss, with_gradients, Losses{})(pass, stream);
}

}  // namespace vae_fast::cuda
