// The losses with their gradients, in float arithmetic.
#include "cuda/rows.cuh"

namespace vae_fast::cuda {
namespace {

template <class... Formula>
StartPass find_gradients(int loss, FormulaList<Formula...>) {
  static constexpr StartPass kGradients[] = {start_rows_float<LossElement<Formula, true>>...};
  return kGradients[loss];
}

}  // namespace

int start_loss_gradients(int loss, const Pass& pass, void* stream) {
  return find_gradients(loss, Losses{})(pass, stream);
}

}  // namespace vae_fast::cuda
