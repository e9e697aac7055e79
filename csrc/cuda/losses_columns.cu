// The gradients of losses in operands that broadcast along rows of memory: sums over columns.
#include "cuda/rows.cuh"

namespace vae_fast::cuda {
namespace {

template <class... Formula>
StartPass find_columns(int loss, FormulaList<Formula...>) {
  static constexpr StartPass kColumns[] = {start_columns<LossElement<Formula, true>>...};
  return kColumns[loss];
}

}  // namespace

int start_loss_columns(int loss, const Pass& pass, void* stream) {
  return find_columns(loss, Losses{})(pass, stream);
}

}  // namespace vae_fast::cuda
