// The plan of pairs: plan.h. Where there are densities, first what they have in common is added up;
// then each side that wants something has a pass.
#include <algorithm>
#include <utility>

#include "cuda/call.h"
#include "cuda/grid.h"
#include "cuda/plan.h"

namespace vae_fast::cuda {
namespace {

struct Sides {
  Tensor x, mean, logvar, log_weights;
};

PairsLoop loop_of(const PairsArgs& args, const Sides& sides, PairsStep step, bool rows_own) {
  PairsLoop loop;
  loop.step = step;
  loop.reduction = args.reduction;
  loop.rows_own = rows_own;
  loop.for_gradients = args.upstream.data != nullptr;
  loop.shares_weights = args.log_weights.strides[0] == 0;
  loop.owners = rows_own ? args.rows : args.components;
  loop.others = rows_own ? args.components : args.rows;
  loop.dims = args.dims;
  loop.windows = args.marginal ? args.dims : 1;
  loop.owner = rows_own ? sides.x : sides.mean;
  loop.other = rows_own ? sides.mean : sides.x;
  (rows_own ? loop.other_logvar : loop.owner_logvar) = sides.logvar;
  loop.log_weights = sides.log_weights;
  if (!rows_own) std::swap(loop.log_weights.strides[0], loop.log_weights.strides[1]);
  loop.value = tensor_of(args.value, 1);
  loop.computed = tensor_of(args.computed, 1);
  loop.upstream = tensor_of(args.upstream, 1);
  loop.nearest = args.nearest;
  loop.grad_position = tensor_of(rows_own ? args.grad_x : args.grad_mean, 2);
  if (!rows_own) {
    loop.grad_logvar = tensor_of(args.grad_logvar, 2);
    loop.grad_log_weights = tensor_of(args.grad_log_weights, 1);
  }
  loop.widths = args.widths;
  std::copy(args.width, args.width + kMaxWidths, loop.width);
  return loop;
}

bool is_wanted(const Output& output) { return output.data != nullptr; }

}  // namespace

Plan plan_pairs(const PairsArgs& args) {
  if (args.rows < 1 || args.components < 1 || args.dims < 1 || args.widths > kMaxWidths) {
    return invalid();
  }
  const Sides sides = {tensor_of(args.x, 2), tensor_of(args.mean, 2), tensor_of(args.logvar, 2),
                       tensor_of(args.log_weights, 2)};
  const bool has_density = args.reduction == PairsReduction::kLogSumExp;
  const size_t normalisers = has_density ? args.components * (args.marginal ? args.dims : 1) : 0;
  Plan plan;
  const auto add = [&](PairsStep step, bool rows_own) {
    auto loop = std::make_unique<PairsLoop>(loop_of(args, sides, step, rows_own));
    const int64_t along = step == PairsStep::kMarginal ? divide_up(args.dims, kPairNumbers) : 1;
    const bool by_thread = step == PairsStep::kNormalise || step == PairsStep::kSumWeights;
    const int64_t together = by_thread ? kBlockThreads : kPairOwners;
    const int64_t blocks = divide_up(loop->owners, together) * along;
    Pass pass;
    pass.loop = Loop::kPairs;
    pass.path = args.float64 ? Path::kDouble : Path::kOne;
    pass.blocks = blocks > kMaxBlocks ? 0 : static_cast<uint32_t>(blocks);
    pass.partials = normalisers + (loop->for_gradients ? 2 * loop->owners * args.dims : 0);
    pass.pairs = std::move(loop);
    if (pass.blocks == 0) plan.error = kInvalidArguments;
    plan.passes.push_back(std::move(pass));
  };
  if (has_density) add(PairsStep::kNormalise, /*rows_own=*/false);
  const PairsStep step = args.marginal ? PairsStep::kMarginal : PairsStep::kJoint;
  if (args.upstream.data == nullptr || is_wanted(args.grad_x)) add(step, /*rows_own=*/true);
  if (is_wanted(args.grad_mean) || is_wanted(args.grad_logvar) ||
      is_wanted(args.grad_log_weights)) {
    add(step, /*rows_own=*/false);
    if (args.marginal && is_wanted(args.grad_log_weights)) {
      add(PairsStep::kSumWeights, /*rows_own=*/false);
    }
  }
  return plan;
}

}  // namespace vae_fast::cuda
