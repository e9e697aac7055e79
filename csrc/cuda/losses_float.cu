// The losses and their gradients in float arithmetic.
#include "cuda/rows.cuh"

namespace vae_fast::cuda {
namespace {

template <class... Formula>
StartPass find(int loss, bool with_gradients, FormulaList<Formula...>) {
  static constexpr StartPass kValue[] = {start_rows_float<LossElement<Formula, false>>...};
  static constexpr StartPass kGradients[] = {start_rows_float<LossElement<Formula, true>>...};
  return (with_gradients ? kGradients : kValue)[loss];
}

}  // namespace

int start_loss_float(int loss, bool with_gradients, const Pass& pass, void* stream) {
  return find(loss, with_gradients, Losses{})(pass, stream);
}

}  // namespace vae_fast::cuda
