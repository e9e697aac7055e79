#include "cuda/plan.h"

#include <algorithm>

#include "cuda/grid.h"
#include "formulas/list.h"
#include "formulas/philox.h"

namespace vae_fast::cuda {
namespace {

// A thread of a block-sized team takes about this many vectors at most; fewer, where a device would
// be left idle with less than so many blocks.
constexpr int64_t kVectorsPerThread = 4;
constexpr int64_t kBusyBlocks = 128;
// Blocks that share the work on sums; enough for a device, few enough to be added up by one block,
// where a thread of it adds what is left of a column, by itself.
constexpr int64_t kMaxSumBlocks = 2048;
constexpr int64_t kMaxColumnBlocks = 512;

bool sums_output(const Call& call) {
  return std::any_of(call.output_is_summed, call.output_is_summed + kMaxOutputs,
                     [](bool is_summed) { return is_summed; });
}

// The index space and the tensors as the loops see them.
Pass lay_out(Call& call, Loop loop, Path path) {
  const int vector = vector_of(path);
  Pass pass;
  pass.loop = loop;
  pass.path = path;
  Space& space = pass.args.space;
  space.row_length = call.sizes[call.dims - 1];
  space.outer_dims = call.dims - 1;
  space.row_vectors = make_divisor(std::max<int64_t>(1, divide_up(space.row_length, vector)));
  space.row_elements = make_divisor(std::max<int64_t>(1, space.row_length));
  for (int d = 0; d + 1 < call.dims; ++d) {
    space.sizes[d] = make_divisor(std::max<int64_t>(1, call.sizes[d]));
  }
  call.for_each([&](Tensor& tensor, bool) {
    tensor.is_same =
        is_flat(path) ? is_one_element(call, tensor) : tensor.strides[call.dims - 1] == 0;
  });
  std::copy(call.inputs, call.inputs + kMaxInputs, pass.args.inputs);
  std::copy(call.outputs, call.outputs + kMaxOutputs, pass.args.outputs);
  std::copy(call.output_is_summed, call.output_is_summed + kMaxOutputs, pass.args.output_is_summed);
  pass.args.mask = call.mask;
  pass.args.upstream = call.upstream;
  pass.args.upstream_is_number =
      call.upstream.data != nullptr && is_one_element(call, call.upstream);
  pass.args.value = call.value;
  pass.args.value_is_summed = call.value_is_summed;
  pass.args.any_sum = call.value_is_summed || sums_output(call);
  pass.args.scale = call.scale;
  return pass;
}

// Deals `groups` runs of `group_vectors` vectors out to teams.
int deal_out(Pass& pass, int64_t groups, int64_t group_vectors, int64_t group_elements) {
  Parts& parts = pass.args.parts;
  const int64_t per_thread = std::clamp<int64_t>(
      groups * group_vectors / (kBlockThreads * kBusyBlocks), 1, kVectorsPerThread);
  const bool fits_warps = pass.args.any_sum && group_vectors <= kWarp * 2 * per_thread;
  int64_t splits = 1;
  if (fits_warps) {
    parts.team_shift = std::clamp(log2_up(group_vectors), kMinTeamShift, kWarpShift);
  } else {
    parts.team_shift = kBlockShift;
    splits = std::max<int64_t>(1, divide_up(group_vectors, kBlockThreads * per_thread));
    if (pass.args.any_sum) {
      splits = std::min(splits, std::max<int64_t>(1, kMaxSumBlocks / groups));
    }
  }
  parts.group_vectors = group_vectors;
  parts.group_elements = group_elements;
  parts.split_vectors = divide_up(group_vectors, splits);
  parts.splits = make_divisor(splits);
  parts.count = groups * splits;
  parts.group_rows = pass.args.space.row_length == 0
                         ? 0
                         : group_elements / std::max<int64_t>(1, pass.args.space.row_length);
  const int64_t blocks = divide_up(parts.count << parts.team_shift, kBlockThreads);
  if (blocks > kMaxBlocks) return kInvalidArguments;
  pass.blocks = static_cast<uint32_t>(blocks);
  if (pass.args.any_sum && splits > 1) {
    pass.partials = (1 + kMaxOutputs) * parts.count;
    pass.tickets = groups;
  }
  return 0;
}

// ---- passes ------------------------------------------------------------------------------------

void forget(Tensor& tensor) { tensor = Tensor(); }

bool has_work(const Call& call) {
  return call.value.data != nullptr ||
         std::any_of(call.outputs, call.outputs + call.output_count,
                     [](const Tensor& output) { return output.data != nullptr; });
}

void add_pass(Plan& plan, Pass pass, int error) {
  if (error != 0) plan.error = error;
  if (pass.blocks > 0) plan.passes.push_back(std::move(pass));
}

// Everything but the sums that need another order of the dimensions.
void add_rows(Plan& plan, Call call, int64_t groups, Path path) {
  const int64_t group_elements = call.numel / groups;
  Pass pass = lay_out(call, Loop::kRows, path);
  const int64_t vector = vector_of(path);
  const int64_t row_length = pass.args.space.row_length;
  const int64_t group_vectors = is_flat(path)
                                    ? divide_up(group_elements, vector)
                                    : group_elements / row_length * divide_up(row_length, vector);
  const int error = deal_out(pass, groups, group_vectors, group_elements);
  add_pass(plan, std::move(pass), error);
}

void add_rows(Plan& plan, Call call, int64_t groups) {
  add_rows(plan, call, groups, path_of(call, groups));
}

// One summed output, along columns: its last dimension is not summed over. With it goes what else
// the call wants: outputs by element, and values, by element or the sum of all.
void add_columns(Plan& plan, Call call, int output, int kept_dims) {
  // The columns' last dimension is the row; the summed ones come between.
  int order[kLoopDims];
  for (int d = 0; d < call.dims; ++d) order[d] = d;
  std::rotate(order + kept_dims - 1, order + kept_dims, order + call.dims);
  call.permute(order);
  const Path path = call.float64 ? Path::kDouble : fits(call, 4, 2) ? Path::kFour : Path::kOne;
  Pass pass = lay_out(call, Loop::kColumns, path);
  Columns& columns = pass.args.columns;
  columns.output = output;
  columns.kept_dims = kept_dims - 1;
  columns.rows = 1;
  columns.count = pass.args.space.row_vectors.divisor;
  for (int d = 0; d + 1 < call.dims; ++d) {
    (d < columns.kept_dims ? columns.count : columns.rows) *= call.sizes[d];
  }
  const int64_t tiles = divide_up(columns.count, kTileColumns);
  const int64_t by_rows = divide_up(columns.rows, kTileRows * kVectorsPerThread);
  const int64_t splits = std::max<int64_t>(1, std::min(by_rows, kMaxColumnBlocks / tiles));
  columns.split_rows = divide_up(columns.rows, splits);
  columns.splits = make_divisor(splits);
  const int64_t blocks = tiles * splits;
  pass.blocks = static_cast<uint32_t>(std::min(blocks, kMaxBlocks));
  if (splits > 1 || call.value_is_summed) {
    pass.partials = blocks * (kTileColumns * vector_of(path) + 1);
    pass.tickets = tiles + 1;
  }
  add_pass(plan, std::move(pass), blocks > kMaxBlocks ? kInvalidArguments : 0);
}

// How an output is summed: over the dimensions along which its stride is zero.
bool is_kept(const Call& call, const Tensor& output, int d) {
  return output.strides[d] != 0 || call.sizes[d] == 1;
}

// The first dimension of those, all at the end, that the output is summed over; -1 where they are
// not at the end.
int kept_prefix(const Call& call, const Tensor& output) {
  int kept = 0;
  while (kept < call.dims && is_kept(call, output, kept)) ++kept;
  for (int d = kept; d < call.dims; ++d) {
    if (is_kept(call, output, d) && call.sizes[d] != 1) return -1;
  }
  return kept;
}

int64_t entries(const Call& call, int dims) {
  int64_t result = 1;
  for (int d = 0; d < dims; ++d) result *= call.sizes[d];
  return result;
}

// Of all that the call wants, one output.
Call with_only(Call call, int output) {
  for (int k = 0; k < kMaxOutputs; ++k) {
    if (k == output) continue;
    forget(call.outputs[k]);
    call.output_is_summed[k] = false;
  }
  forget(call.value);
  call.value_is_summed = false;
  return call;
}

// A pass for a summed output whose order of the dimensions is another.
void add_sum(Plan& plan, Call call, int output) {
  const Tensor summed = call.outputs[output];
  const bool is_along_rows = !is_kept(call, summed, call.dims - 1);
  bool kept[kLoopDims];
  for (int d = 0; d < call.dims; ++d) kept[d] = is_kept(call, summed, d);
  const int kept_dims = call.move_to_front([&](int d) { return kept[d]; });
  if (is_along_rows) {
    add_rows(plan, call, entries(call, kept_dims));
  } else {
    add_columns(plan, call, output, kept_dims);
  }
}

// Nothing to read: sums of nothing.
void add_empty(Plan& plan, const Call& call, const Tensor& dense, int64_t numel, double scale) {
  if (dense.data == nullptr || numel == 0) return;
  Call zeros = call;
  zeros.dims = 1;
  zeros.sizes[0] = 0;
  zeros.mask = {};
  zeros.value = dense;
  zeros.value_is_summed = true;
  zeros.scale = scale;
  for (int k = 0; k < call.output_count; ++k) {
    forget(zeros.outputs[k]);
    zeros.output_is_summed[k] = false;
  }
  Pass pass = lay_out(zeros, Loop::kRows, call.float64 ? Path::kDouble : Path::kOne);
  const int error = deal_out(pass, numel, 0, 0);
  add_pass(plan, std::move(pass), error);
}

void add_passes(Plan& plan, Call call) {
  if (call.value_is_summed && !call.split_at(call.groups)) {
    plan.error = kInvalidArguments;
    return;
  }
  // The main pass sums over the value's groups; an output that is summed over the same goes with
  // it.
  int64_t groups = call.value_is_summed ? call.groups : 0;
  bool is_extra[kMaxOutputs] = {};
  for (int k = 0; k < call.output_count; ++k) {
    if (!call.output_is_summed[k]) continue;
    const int kept = kept_prefix(call, call.outputs[k]);
    const bool is_group = kept >= 0 && kept < call.dims;
    if (is_group && groups == 0) groups = entries(call, kept);
    is_extra[k] = !is_group || entries(call, kept) != groups;
  }
  Call main = call;
  for (int k = 0; k < call.output_count; ++k) {
    if (!is_extra[k]) continue;
    forget(main.outputs[k]);
    main.output_is_summed[k] = false;
  }
  // A sum along columns takes the main pass with it, unless that sums over groups, or rows.
  const bool sums_groups = groups > 1 || sums_output(main);
  bool is_made = sums_groups || !has_work(main);
  if (sums_groups) add_rows(plan, main, groups);
  for (int k = 0; k < call.output_count; ++k) {
    if (!is_extra[k]) continue;
    const bool goes_along = !is_made && is_kept(call, call.outputs[k], call.dims - 1);
    Call pass = goes_along ? main : with_only(call, k);
    pass.outputs[k] = call.outputs[k];
    pass.output_is_summed[k] = true;
    is_made |= goes_along;
    add_sum(plan, pass, k);
  }
  if (!is_made) add_rows(plan, main, 1);
}

Call call_of(const LossArgs& args, int operand_count) {
  Call call(args.shape, args.float64);
  call.scale = args.scale;
  call.groups = args.groups;
  for (int k = 0; k < operand_count; ++k) call.add_input(args.operands[k]);
  call.mask = tensor_of(args.mask, call.dims);
  call.upstream = tensor_of(args.upstream, call.dims);
  call.value = tensor_of(args.value, call.dims);
  call.value_is_summed = args.value.data != nullptr && args.groups != args.shape.numel;
  return call;
}

struct Operands {
  int count = -1;
  bool has_target = false;
};

template <class... Formula>
Operands operands_of(int loss, FormulaList<Formula...>) {
  static constexpr Operands kOperands[] = {
      {kOperandCount<Formula>, Formula::kTarget != Target::kNone}...};
  return kOperands[loss];
}

Operands operands_of(const LossArgs& args) {
  if (args.loss < 0 || args.loss >= Losses::size) return {};
  return operands_of(args.loss, Losses{});
}

// What the kernel of counts takes (kernels.h).
bool is_valid(const CountArgs& args, int parameters) {
  const Dtype of_arithmetic = args.loss.float64 ? Dtype::kFloat64 : Dtype::kFloat32;
  const Output* const gradients = args.loss.gradients;
  bool valid = args.target.starts == nullptr && args.library.data != nullptr && args.classes > 0;
  valid &= gradients[0].data == nullptr || gradients[0].dtype == of_arithmetic;
  for (int k = 0; k < parameters; ++k) valid &= !gradients[k].is_summed;
  return valid;
}

// Cuts the dimensions into those of the rows, call.groups of them, and one of a row's classes.
bool split_rows(Call& call, int64_t classes) {
  if (!call.split_at(call.groups)) return false;
  const int last = call.dims - 1;
  if (classes == 1 && call.sizes[last] != 1) call.cut(last, call.sizes[last]);
  return call.sizes[call.dims - 1] == classes;
}

// A team of about so many threads for each row.
Plan teams_of_rows(Pass pass, int64_t rows, int64_t classes, int64_t threads) {
  Parts& parts = pass.args.parts;
  parts.team_shift = std::clamp(log2_up(threads), kMinTeamShift, kBlockShift);
  parts.group_elements = classes;
  parts.count = rows;
  const int64_t blocks = divide_up(rows << parts.team_shift, kBlockThreads);
  pass.blocks = static_cast<uint32_t>(std::min(blocks, kMaxBlocks));
  Plan plan;
  add_pass(plan, std::move(pass), blocks > kMaxBlocks ? kInvalidArguments : 0);
  return plan;
}

}  // namespace

size_t Plan::ticket_bytes() const {
  size_t tickets = 0;
  for (const Pass& pass : passes) tickets = std::max(tickets, pass.tickets);
  return divide_up(tickets * sizeof(uint32_t), 16) * 16;
}

size_t Plan::workspace_bytes() const {
  size_t doubles = 0;
  for (const Pass& pass : passes) doubles = std::max(doubles, pass.partials);
  return ticket_bytes() + doubles * sizeof(double);
}

Plan plan_loss(const LossArgs& args) {
  const auto [operands, has_target] = operands_of(args);
  if (operands < 0) return invalid();
  Call call = call_of(args, operands);
  call.has_target = has_target;
  for (int k = 0; k < operands; ++k) call.add_output(args.gradients[k]);
  if (!is_valid(call)) return invalid();
  Plan plan;
  if (call.numel == 0) {
    add_empty(plan, call, call.value, args.groups, args.scale);
    for (int k = 0; k < operands; ++k) {
      add_empty(plan, call, call.outputs[k], args.gradients[k].numel, 0);
    }
    return plan;
  }
  add_passes(plan, call);
  return plan;
}

Plan plan_sample_backward(const SampleBackwardArgs& args) {
  const int operands = operands_of(args.divergence).count;
  if (operands < 0) return invalid();
  Call call = call_of(args.divergence, operands);
  forget(call.mask);
  forget(call.value);
  call.value_is_summed = false;
  call.add_input(args.grad_value);
  call.add_input(args.grad_z);
  call.add_input(args.noise);
  for (int k = 0; k < operands; ++k) call.add_output(args.divergence.gradients[k]);
  if (!is_valid(call)) return invalid();
  Plan plan;
  if (call.numel == 0) {
    for (int k = 0; k < operands; ++k) {
      add_empty(plan, call, call.outputs[k], args.divergence.gradients[k].numel, 0);
    }
    return plan;
  }
  add_passes(plan, call);
  return plan;
}

Plan plan_sample(const SampleArgs& args, const Seed& seed) {
  const int operands = operands_of(args.divergence).count;
  if (operands < 0 || args.seed_rows < 1) return invalid();
  Call call = call_of(args.divergence, operands);
  forget(call.mask);
  if (call.value.data == nullptr) call.input_count = 2;
  call.add_output(args.z);
  call.add_output(args.noise);
  if (!is_valid(call)) return invalid();
  Plan plan;
  if (call.numel == 0) {
    add_empty(plan, call, call.value, args.divergence.groups, args.divergence.scale);
    return plan;
  }
  if (call.numel % args.seed_rows != 0 || (args.seed_rows > 1 && args.seeds == nullptr)) {
    return invalid();
  }
  const bool is_summed = call.value_is_summed;
  const int64_t groups = is_summed ? call.groups : 1;
  const int64_t group_elements = call.numel / groups;
  const bool in_blocks = !call.float64 && args.seed_rows == 1 &&
                         (groups == 1 || group_elements % kNoiseBlock == 0) &&
                         fits(call, vector_of(Path::kFour), 1);
  const auto with_seeds = [&](Pass& pass) {
    pass.args.seeds = args.seeds;
    pass.args.seed = seed;
    pass.args.seed_share = make_divisor(call.numel / args.seed_rows);
  };
  if (in_blocks) {
    const Path path = flat_path_of(call, group_elements).value_or(Path::kFour);
    Pass pass = lay_out(call, Loop::kNoise, path);
    const int64_t threads = divide_up(group_elements, kNoiseBlock) * kNoiseThreads;
    const int error = deal_out(pass, groups, threads, group_elements);
    with_seeds(pass);
    add_pass(plan, std::move(pass), error);
    return plan;
  }
  if (is_summed && !call.split_at(groups)) return invalid();
  add_rows(plan, call, groups, call.float64 ? Path::kDouble : Path::kOne);
  for (Pass& pass : plan.passes) with_seeds(pass);
  return plan;
}

Plan plan_multinomial(const MultinomialArgs& args) {
  Call call(args.shape, args.float64);
  call.add_input(args.logits);
  call.add_input(args.target);
  call.add_output(args.gradient);
  call.upstream = tensor_of(args.upstream, call.dims);
  call.value = tensor_of(args.value, call.dims);
  call.value_is_summed = true;
  call.scale = args.scale;
  const int64_t rows = call.groups = args.value.numel;
  if (!is_valid(call) || !split_rows(call, args.classes)) return invalid();

  const Path path = path_of_classes(call);
  Pass pass = lay_out(call, Loop::kClasses, path);
  // Threads that hold the row, or as many as there are elements before and behind its vectors.
  const int64_t threads =
      std::max<int64_t>(divide_up(args.classes, args.float64 ? kHeldDoubles : kHeldFloats),
                        2 * (vector_of(path) - 1));
  return teams_of_rows(std::move(pass), rows, args.classes, threads);
}

Plan plan_counts(const CountArgs& args) {
  const int operands = operands_of(args.loss).count, parameters = operands - 1;
  if (operands < 1 || !is_valid(args, parameters)) return invalid();
  Call call = call_of(args.loss, operands);
  call.add_input(args.library);
  for (int k = 0; k < parameters; ++k) call.add_output(args.loss.gradients[k]);
  call.add_output(args.library_gradient);
  call.value_is_summed = true;
  const int64_t rows = call.groups = args.loss.value.numel;
  if (!is_valid(call) || !split_rows(call, args.classes)) return invalid();
  Pass pass = lay_out(call, Loop::kClasses, args.loss.float64 ? Path::kDouble : Path::kOne);
  pass.args.is_log = args.is_log;
  const int64_t per_thread =
      std::clamp<int64_t>(call.numel / (kBlockThreads * kBusyBlocks), 1, kCountsPerThread);
  return teams_of_rows(std::move(pass), rows, args.classes, divide_up(args.classes, per_thread));
}

Plan plan_scale(const ScaleArgs& args) {
  Call call(args.shape, args.float64);
  Input gradient;
  gradient.data = args.gradient.data;
  gradient.dtype = args.gradient.dtype;
  std::copy(args.gradient.strides, args.gradient.strides + kMaxDims, gradient.strides);
  call.add_input(gradient);
  call.add_input(args.upstream);
  Output output = args.gradient;
  output.is_summed = false;
  call.add_output(output);
  if (!is_valid(call)) return invalid();
  Plan plan;
  if (call.numel == 0) return plan;
  add_rows(plan, call, 1);
  return plan;
}

}  // namespace vae_fast::cuda
