// The ops of the elementwise losses, as bindings/losses.cpp has them.
#include "calls/loss.h"

#include <string>

#include "bindings/stable/tensors.h"

namespace vae_fast::stable {
namespace {

struct Arguments {
  Arguments(int loss, Stack& stack)
      : operands(stack.take_tensors(calls::loss_info(loss).operand_count)),
        mask(stack.take<OptionalTensor>()),
        keep(stack.take<int64_t>()),
        mean(stack.take<int64_t>()),
        want(stack.take<int64_t>()) {}

  std::vector<Tensor> operands;
  OptionalTensor mask;
  int64_t keep, mean, want;
};

template <int kLoss>
void loss(StableIValue* values, uint64_t, uint64_t) {
  Stack stack(values);
  const Arguments given(kLoss, stack);
  const OnDevice device(given.operands[0]);
  StableResults results(given.operands[0], 1 + given.operands.size());
  const auto mask = view_of(given.mask);
  calls::loss(device.kernels, {kLoss, {given.keep, given.mean}, given.want},
              views_of(given.operands), pointer_to(mask), results);
  stack.give(results.tensors);
}

template <int kLoss>
void loss_backward(StableIValue* values, uint64_t, uint64_t) {
  Stack stack(values);
  const Tensor upstream = stack.take<Tensor>();
  const Arguments given(kLoss, stack);
  const std::vector<calls::View> operands = views_of(given.operands);
  const OnDevice device(given.operands[0]);
  const Tensor factor = in_arithmetic(upstream, operands);
  StableResults results(given.operands[0], operands.size());
  const auto mask = view_of(given.mask);
  calls::loss_backward(device.kernels, {kLoss, {given.keep, given.mean}, given.want},
                       view_of(factor), operands, pointer_to(mask), results);
  stack.give(results.tensors);
}

template <int... kLoss>
void implement_all(Library& library, std::integer_sequence<int, kLoss...>) {
  const auto name = [](int loss) { return std::string(calls::loss_info(loss).name); };
  (library.impl(name(kLoss).c_str(), &loss<kLoss>), ...);
  (library.impl((name(kLoss) + "_backward").c_str(), &loss_backward<kLoss>), ...);
}

}  // namespace

void implement_losses(Library& library) {
  implement_all(library, std::make_integer_sequence<int, calls::kLossCount>());
}

STABLE_TORCH_LIBRARY_IMPL(vae_fast, CPU, library) { implement_losses(library); }

}  // namespace vae_fast::stable
