// The losses without gradients, in float arithmetic.
#include "cuda/rows.cuh"

namespace vae_fast::cuda {
namespace {

template <class... Formula>
StartPass find_values(int loss, FormulaList<Formula...>) {
  static constexpr StartPass kValues[] = {start_rows_float<LossElement<Formula, false>>...};
  return kValues[loss];
}

}  // namespace

int start_loss_values(int loss, const Pass& pass, void* stream) {
  return find_values(loss, Losses{})(pass, stream);
}

}  // namespace vae_fast::cuda
