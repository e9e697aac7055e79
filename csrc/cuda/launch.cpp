// The launch functions: plan a call, start the kernel of each of its passes.
#include <algorithm>

#include "cuda/plan.h"
#include "cuda/start.h"

namespace vae_fast::cuda {
namespace {

// start(pass) for each pass, up to the first error.
template <class Start>
int run(Plan plan, const Launch& launch, const Start& start) {
  if (plan.error != 0) return plan.error;
  for (Pass& pass : plan.passes) {
    pass.args.partials = static_cast<double*>(launch.workspace);
    pass.args.tickets = launch.tickets;
    if (const int error = start(pass); error != 0) return error;
  }
  return 0;
}

bool wants_gradients(const Pass& pass) {
  return std::any_of(pass.args.outputs, pass.args.outputs + kMaxOutputs,
                     [](const Tensor& output) { return output.data != nullptr; });
}

}  // namespace

size_t workspace_bytes(const LossArgs& args) { return plan_loss(args).workspace_bytes(); }
size_t workspace_bytes(const SampleArgs& args) { return plan_sample(args, {}).workspace_bytes(); }
size_t workspace_bytes(const SampleBackwardArgs& args) {
  return plan_sample_backward(args).workspace_bytes();
}

int loss(const LossArgs& args, const Launch& launch) {
  return run(plan_loss(args), launch, [&](const Pass& pass) {
    if (pass.loop == Loop::kColumns) return start_loss_columns(args.loss, pass, launch.stream);
    return (is_double(pass.path) ? start_loss_double : start_loss_float)(
        args.loss, wants_gradients(pass), pass, launch.stream);
  });
}

int sample(const SampleArgs& args, const Seed& seed, const Launch& launch) {
  return run(plan_sample(args, seed), launch, [&](const Pass& pass) {
    return start_sample(args.divergence.loss, pass, launch.stream);
  });
}

int sample_backward(const SampleBackwardArgs& args, const Launch& launch) {
  return run(plan_sample_backward(args), launch, [&](const Pass& pass) {
    return start_sample_backward(args.divergence.loss, pass, launch.stream);
  });
}

int multinomial(const MultinomialArgs& args, const Launch& launch) {
  return run(plan_multinomial(args), launch,
             [&](const Pass& pass) { return start_multinomial(pass, launch.stream); });
}

int scale_by_upstream(const ScaleArgs& args, const Launch& launch) {
  return run(plan_scale(args), launch,
             [&](const Pass& pass) { return start_scale(pass, launch.stream); });
}

int draw_seeds(const GeneratorState& state, int64_t rows, Seed* seeds, const Launch& launch) {
  return rows == 0 ? 0 : start_draw_seeds(state, rows, seeds, launch.stream);
}

}  // namespace vae_fast::cuda
