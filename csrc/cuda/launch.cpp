// Prepares the calls: plans each, and starts the kernel of each of its passes.
#include <algorithm>
#include <utility>

#include "cuda/plan.h"
#include "cuda/start.h"

namespace vae_fast::cuda {

struct Prepared::Call {
  Plan plan;
  int (*start)(int loss, const Pass& pass, void* stream);
  int loss = 0;
};

Prepared::Prepared(Call call) : call_(std::make_unique<Call>(std::move(call))) {}
Prepared::Prepared(Prepared&&) noexcept = default;
Prepared::~Prepared() = default;

size_t Prepared::workspace_bytes() const { return call_->plan.workspace_bytes(); }
size_t Prepared::ticket_bytes() const { return call_->plan.ticket_bytes(); }

int Prepared::launch(void* stream, void* workspace) {
  Plan& plan = call_->plan;
  if (plan.error != 0) return plan.error;
  const size_t ticket_bytes = plan.ticket_bytes();
  if (ticket_bytes > 0) {
    if (const int error = start_clearing(workspace, ticket_bytes, stream); error != 0) return error;
  }
  for (Pass& pass : plan.passes) {
    pass.args.tickets = static_cast<uint32_t*>(workspace);
    pass.args.partials =
        reinterpret_cast<double*>(static_cast<unsigned char*>(workspace) + ticket_bytes);
    if (const int error = call_->start(call_->loss, pass, stream); error != 0) return error;
  }
  return 0;
}

namespace {

bool wants_gradients(const Pass& pass) {
  return std::any_of(pass.args.outputs, pass.args.outputs + kMaxOutputs,
                     [](const Tensor& output) { return output.data != nullptr; });
}

int start_loss(int loss, const Pass& pass, void* stream) {
  if (pass.loop == Loop::kColumns) return start_loss_columns(loss, pass, stream);
  const bool with_gradients = wants_gradients(pass);
  if (is_double(pass.path)) return start_loss_double(loss, with_gradients, pass, stream);
  return (with_gradients ? start_loss_gradients : start_loss_values)(loss, pass, stream);
}

}  // namespace

Prepared loss(const LossArgs& args) { return Prepared({plan_loss(args), start_loss, args.loss}); }

Prepared sample(const SampleArgs& args, const Seed& seed) {
  return Prepared({plan_sample(args, seed), start_sample, args.divergence.loss});
}

Prepared sample_backward(const SampleBackwardArgs& args) {
  return Prepared({plan_sample_backward(args), start_sample_backward, args.divergence.loss});
}

Prepared multinomial(const MultinomialArgs& args) {
  return Prepared({plan_multinomial(args), [](int, const Pass& pass, void* stream) {
                     return start_multinomial(pass, stream);
                   }});
}

Prepared counts(const CountArgs& args) {
  return Prepared({plan_counts(args),
                   [](int loss, const Pass& pass, void* stream) {
                     return start_counts(loss, wants_gradients(pass), pass, stream);
                   },
                   args.loss.loss});
}

Prepared mixture(const MixtureArgs& args) {
  return Prepared({plan_mixture(args), start_mixture, args.loss});
}

Prepared pairs(const PairsArgs& args) {
  return Prepared({plan_pairs(args),
                   [](int, const Pass& pass, void* stream) { return start_pairs(pass, stream); }});
}

Prepared scale_by_upstream(const ScaleArgs& args) {
  return Prepared({plan_scale(args),
                   [](int, const Pass& pass, void* stream) { return start_scale(pass, stream); }});
}

}  // namespace vae_fast::cuda
