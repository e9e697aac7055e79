#include "calls/checks.h"

#include <optional>

namespace vae_fast::calls {
namespace {

// Of an operand that is such a target, or none.
void check_dtype(const char* op, const char* name, int torch_dtype, Target target) {
  const std::optional<Dtype> dtype = known_dtype(torch_dtype);
  const bool is_byte = dtype == Dtype::kUInt8 || dtype == Dtype::kBool;
  const bool fits = dtype && (is_floating(*dtype) || target == Target::kNumber ||
                              (target == Target::kUnitInterval && is_byte));
  VAE_FAST_REQUIRE(fits, BadType, op, ": ", name, " has dtype ", shown_dtype(torch_dtype),
                   ", expected float32, float64, bfloat16",
                   target == Target::kNumber         ? ", float16, uint8, bool, int32 or int64"
                   : target == Target::kUnitInterval ? ", float16, uint8 or bool"
                                                     : " or float16");
}

void check_place(const char* op, const char* name, const View& tensor, const char* first_name,
                 const View& first) {
  VAE_FAST_REQUIRE(tensor.place == first.place, BadValue, op, ": ", name, " is on ",
                   shown(tensor.place), ", expected ", shown(first.place), " like ", first_name);
}

bool broadcasts(Span shape, Span sizes) {
  for (size_t i = 1; i <= std::min(shape.size(), sizes.size()); ++i) {
    const int64_t a = shape[shape.size() - i], b = sizes[sizes.size() - i];
    if (a != b && a != 1 && b != 1) return false;
  }
  return true;
}

void broadcast_into(Sizes& shape, Span sizes) {
  while (shape.size() < sizes.size()) shape.insert(0, 1);
  const size_t offset = shape.size() - sizes.size();
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (shape[offset + i] == 1) shape[offset + i] = sizes[i];
  }
}

void check_shape(const char* op, const char* name, const View& tensor, const char* first_name,
                 Sizes& shape) {
  VAE_FAST_REQUIRE(broadcasts(shape, tensor.sizes), BadValue, op, ": ", name, " has shape ",
                   shown(tensor.sizes), ", expected a shape that broadcasts with ", first_name, " ",
                   shown(shape));
  broadcast_into(shape, tensor.sizes);
}

template <class... Formula>
const LossInfo& info_in_list(int loss, FormulaList<Formula...>) {
  static constexpr LossInfo kInfos[] = {
      {Formula::kName, Formula::kOperands, kOperandCount<Formula>, Formula::kTarget}...};
  return kInfos[loss];
}

Dtype promote(Dtype a, Dtype b) {
  if (a == b) return a;
  return a == Dtype::kFloat64 || b == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
}

}  // namespace

const LossInfo& loss_info(int loss) { return info_in_list(loss, Losses{}); }

int loss_named(std::string_view name) {
  for (int loss = 0; loss < kLossCount; ++loss) {
    if (loss_info(loss).name == name) return loss;
  }
  throw BadValue(text("no loss is called ", name));
}

Sizes check_operands(const LossInfo& info, const char* op, Views operands, const View* mask) {
  const View& first = operands[0];
  const char* first_name = info.operands[0];
  Sizes shape;
  for (size_t k = 0; k < operands.size(); ++k) {
    check_dtype(op, info.operands[k], operands[k].torch_dtype,
                is_target(info, k) ? info.target : Target::kNone);
    check_place(op, info.operands[k], operands[k], first_name, first);
    check_shape(op, info.operands[k], operands[k], first_name, shape);
  }
  if (mask != nullptr) {
    VAE_FAST_REQUIRE(mask->torch_dtype == torch_dtype(Dtype::kBool), BadType, op,
                     ": mask has dtype ", shown_dtype(mask->torch_dtype), ", expected bool");
    check_place(op, "mask", *mask, first_name, first);
    check_shape(op, "mask", *mask, first_name, shape);
  }
  return shape;
}

void check_reduction(const char* op, Reduction reduction, int64_t dims) {
  const auto [keep, mean] = reduction;
  VAE_FAST_REQUIRE(0 <= keep && 0 <= mean && keep + mean <= dims, BadValue, op, ": keep = ", keep,
                   " and mean_dims = ", mean, " do not fit ", dims, " dimensions");
}

void check_gradient(const char* op, const char* name, const View& gradient, Span shape,
                    const Place& place) {
  check_dtype(op, name, gradient.torch_dtype, Target::kNone);
  VAE_FAST_REQUIRE(gradient.place == place, BadValue, op, ": ", name, " is on ",
                   shown(gradient.place), ", expected ", shown(place));
  VAE_FAST_REQUIRE(std::ranges::equal(gradient.sizes, shape), BadValue, op, ": ", name,
                   " has shape ", shown(gradient.sizes), ", expected ", shown(shape));
}

bool is_float64(Views operands) {
  return std::ranges::any_of(
      operands, [](const View& x) { return x.torch_dtype == torch_dtype(Dtype::kFloat64); });
}

double mean_factor(Span shape, Reduction reduction) {
  return 1.0 / static_cast<double>(product(shape.subspan(reduction.keep, reduction.mean)));
}

Dtype promoted_dtype(Views operands) {
  std::optional<Dtype> dimensioned, single;
  for (const View& operand : operands) {
    const Dtype dtype = operand.dtype();
    if (!is_floating(dtype)) continue;
    std::optional<Dtype>& promoted = operand.dims() > 0 ? dimensioned : single;
    promoted = promoted ? promote(*promoted, dtype) : dtype;
  }
  return dimensioned ? *dimensioned : single.value();
}

Dtype sum_dtype(Dtype dtype) {
  return dtype == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
}

Dtype gradient_dtype(const View& operand) {
  const Dtype dtype = operand.dtype();
  return is_floating(dtype) ? dtype : Dtype::kFloat32;
}

Sizes gradient_shape(Span shape, Span sizes, int64_t keep) {
  Sizes result(shape);
  const size_t missing = shape.size() - sizes.size();
  for (size_t d = keep; d < shape.size(); ++d) {
    result[d] = d < missing ? 1 : sizes[d - missing];
  }
  return result;
}

}  // namespace vae_fast::calls
