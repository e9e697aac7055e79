// The plan of a mixture: plan.h.
#include <algorithm>
#include <utility>

#include "cuda/call.h"
#include "cuda/grid.h"
#include "cuda/plan.h"
#include "formulas/discretized_logistic_pixel.h"
#include "formulas/list.h"

namespace vae_fast::cuda {
namespace {

constexpr int64_t kMaxComponents = int64_t{1} << 30;  // twice as many steps are an int

// How the operands of kernels.h lie in the kernel's tensors (mixture.cuh: tensor_of): `own` parts
// that every component has, `shared` ones, in so many tensors each.
struct MixtureOperands {
  int own = -1, shared = 0;
  int own_tensors = 0;
  // The first part of each tensor.
  int first[kMaxPartsTensors] = {};
  int tensors = 0;
};

template <class... Formula>
MixtureOperands operands_of_likelihood(int loss, FormulaList<Formula...>) {
  static constexpr int kOwn[] = {Formula::kTarget == Target::kNone ? -1
                                                                   : kParameterCount<Formula>...};
  const int own = kOwn[loss];
  return {.own = own, .shared = 1, .own_tensors = own, .first = {0, 1, 2, 3}, .tensors = own + 1};
}

MixtureOperands operands_of(const MixtureArgs& args) {
  const int channels = args.pixel_channels;
  if (channels == 1 || channels == kMaxPixelChannels) {
    const int own = pixel_parameter_count(channels) - 1;
    return {.own = own,
            .shared = 1 + channels,
            .own_tensors = 1,
            .first = {0, own, own + 1},
            .tensors = 3};
  }
  if (channels != 0 || args.loss < 0 || args.loss >= Losses::size) return {};
  return operands_of_likelihood(args.loss, Losses{});
}

// Whether parts [first, last) lie as the first of them does.
template <class Tensor>
bool lie_alike(const OfComponents<Tensor>* parts, int first, int last) {
  const OfComponents<Tensor>& one = parts[first];
  return std::all_of(parts + first, parts + last, [&](const OfComponents<Tensor>& part) {
    return (part.first.data == nullptr) == (one.first.data == nullptr) &&
           part.first.dtype == one.first.dtype && part.stride == one.stride &&
           std::equal(one.first.strides, one.first.strides + kMaxDims, part.first.strides);
  });
}

void set_sizes(const Call& call, Divisor* sizes) {
  for (int d = 0; d < call.dims; ++d) sizes[d] = make_divisor(std::max<int64_t>(1, call.sizes[d]));
}

}  // namespace

Plan plan_mixture(const MixtureArgs& args) {
  const MixtureOperands operands = operands_of(args);
  if (operands.own < 0 || args.components < 1 || args.components > kMaxComponents || args.run < 1) {
    return invalid();
  }
  const auto end_of = [&](int t) {
    return t + 1 < operands.tensors ? operands.first[t + 1] : operands.own + operands.shared;
  };

  Call positions(args.positions, args.float64), elements(args.elements, args.float64);
  positions.add_input(args.logits.first);
  positions.upstream = tensor_of(args.upstream, positions.dims);
  positions.value = tensor_of(args.value, positions.dims);
  positions.add_output(args.grad_logits.first);
  for (int t = 0; t < operands.tensors; ++t) {
    const int first = operands.first[t];
    if (!lie_alike(args.operands, first, end_of(t))) return invalid();
    elements.add_input(args.operands[first].first);
  }
  elements.mask = tensor_of(args.mask, elements.dims);
  for (int t = 0; t < operands.own_tensors; ++t) {
    const int first = operands.first[t];
    if (!lie_alike(args.gradients, first, std::min(end_of(t), operands.own))) return invalid();
    elements.add_output(args.gradients[first].first);
  }
  if (!is_valid(positions) || !is_valid(elements)) return invalid();
  if (positions.numel == 0) return {};
  const std::optional<int> run_dim = elements.split_at(positions.numel);
  if (!run_dim || elements.numel != positions.numel * args.run) return invalid();

  auto loop = std::make_unique<MixtureLoop>();
  loop->pixel_channels = args.pixel_channels;
  loop->count = positions.numel;
  loop->components = static_cast<int>(args.components);
  loop->run = args.run;
  loop->scale = args.scale;
  loop->team_shift = std::min(log2_up(args.run), kBlockShift);
  loop->position_dims = {0, positions.dims};
  loop->outer_dims = {0, *run_dim};
  loop->run_dims = {*run_dim, elements.dims};
  set_sizes(positions, loop->position_sizes);
  set_sizes(elements, loop->element_sizes);
  loop->logits = {positions.inputs[0], args.logits.stride};
  loop->grad_logits = {positions.outputs[0], args.grad_logits.stride};
  loop->upstream = positions.upstream;
  loop->value = positions.value;
  for (int t = 0; t < operands.tensors; ++t) {
    loop->inputs[t] = {elements.inputs[t], args.operands[operands.first[t]].stride};
  }
  for (int t = 0; t < operands.own_tensors; ++t) {
    loop->gradients[t] = {elements.outputs[t], args.gradients[operands.first[t]].stride};
  }
  loop->mask = elements.mask;
  for (int part = 0; part < operands.own + operands.shared; ++part) {
    loop->input_parts[part] = const_cast<void*>(args.operands[part].first.data);
  }
  loop->wants_gradients = args.grad_logits.first.data != nullptr;
  for (int part = 0; part < operands.own; ++part) {
    loop->gradient_parts[part] = args.gradients[part].first.data;
    loop->wants_gradients |= loop->gradient_parts[part] != nullptr;
  }

  Pass pass;
  pass.loop = Loop::kMixture;
  pass.path = args.float64 ? Path::kDouble : Path::kOne;
  const bool is_long = args.run > kBlockThreads;
  if (is_long && loop->wants_gradients) pass.partials = positions.numel * args.components;
  const int64_t blocks = divide_up(positions.numel << loop->team_shift, kBlockThreads);
  if (blocks > kMaxBlocks) return invalid();
  pass.blocks = static_cast<uint32_t>(blocks);
  pass.mixture = std::move(loop);
  Plan plan;
  plan.passes.push_back(std::move(pass));
  return plan;
}

}  // namespace vae_fast::cuda
