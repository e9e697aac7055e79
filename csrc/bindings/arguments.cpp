#include "bindings/arguments.h"

#include <ATen/ExpandUtils.h>

#include <algorithm>

namespace vae_fast::bindings {
namespace {

Dtype dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return Dtype::kFloat32;
    case at::kDouble:
      return Dtype::kFloat64;
    case at::kBFloat16:
      return Dtype::kBFloat16;
    case at::kHalf:
      return Dtype::kFloat16;
    case at::kByte:
      return Dtype::kUInt8;
    case at::kBool:
      return Dtype::kBool;
    case at::kInt:
      return Dtype::kInt32;
    case at::kLong:
      return Dtype::kInt64;
    default:
      TORCH_INTERNAL_ASSERT(false, "dtype ", type, " passed the checks");
  }
}

bool is_supported_float(at::ScalarType type) {
  return type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf;
}

std::string python_dtype(at::ScalarType type) {
  return std::string(c10::getDtypeNames(type).first);
}

std::string python_shape(at::IntArrayRef sizes) {
  std::string text = "(";
  for (size_t i = 0; i < sizes.size(); ++i) {
    text += std::to_string(sizes[i]);
    if (i + 1 < sizes.size()) text += ", ";
  }
  return text + (sizes.size() == 1 ? ",)" : ")");
}

bool is_target(const LossInfo& info, size_t k) {
  return info.target != Target::kNone && k + 1 == static_cast<size_t>(info.operand_count);
}

// Of an operand that is such a target, or none.
void check_dtype(const char* op, const char* name, at::ScalarType type, Target target) {
  const bool is_byte = type == at::kByte || type == at::kBool;
  const bool is_integer = is_byte || type == at::kInt || type == at::kLong;
  const bool right = is_supported_float(type) || (target == Target::kNumber && is_integer) ||
                     (target == Target::kUnitInterval && is_byte);
  TORCH_CHECK_TYPE(right, op, ": ", name, " has dtype torch.", python_dtype(type),
                   ", expected float32, float64, bfloat16",
                   target == Target::kNumber         ? ", float16, uint8, bool, int32 or int64"
                   : target == Target::kUnitInterval ? ", float16, uint8 or bool"
                                                     : " or float16");
}

void check_device(const char* op, const char* name, const Tensor& tensor, const char* first_name,
                  const Tensor& first) {
  TORCH_CHECK_VALUE(tensor.device() == first.device(), op, ": ", name, " is on ", tensor.device(),
                    ", expected ", first.device(), " like ", first_name);
}

bool broadcasts(at::IntArrayRef shape, at::IntArrayRef sizes) {
  for (size_t i = 1; i <= std::min(shape.size(), sizes.size()); ++i) {
    const int64_t a = shape[shape.size() - i], b = sizes[sizes.size() - i];
    if (a != b && a != 1 && b != 1) return false;
  }
  return true;
}

void broadcast_into(at::DimVector& shape, at::IntArrayRef sizes) {
  if (sizes.size() > shape.size()) {
    shape.insert(shape.begin(), sizes.begin(), sizes.end() - shape.size());
  }
  const size_t offset = shape.size() - sizes.size();
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (shape[offset + i] == 1) shape[offset + i] = sizes[i];
  }
}

void check_shape(const char* op, const char* name, const Tensor& tensor, const char* first_name,
                 at::DimVector& shape) {
  TORCH_CHECK_VALUE(broadcasts(shape, tensor.sizes()), op, ": ", name, " has shape ",
                    python_shape(tensor.sizes()), ", expected a shape that broadcasts with ",
                    first_name, " ", python_shape(shape));
  TORCH_CHECK_VALUE(tensor.dim() <= kMaxDims, op, ": ", name, " has ", tensor.dim(),
                    " dimensions, expected at most ", kMaxDims);
  broadcast_into(shape, tensor.sizes());
}

bool fits_into(at::IntArrayRef sizes, at::IntArrayRef whole) {
  if (sizes.size() > whole.size()) return false;
  const at::IntArrayRef own = whole.slice(whole.size() - sizes.size());
  return std::equal(sizes.begin(), sizes.end(), own.begin(),
                    [](int64_t size, int64_t of) { return size == of || size == 1; });
}

at::ScalarType gradient_dtype(const Tensor& operand) {
  return operand.is_floating_point() ? operand.scalar_type() : at::kFloat;
}

void set_output(Output& output, const Tensor& tensor) {
  output.data = tensor.mutable_data_ptr();
  output.dtype = dtype_of(tensor.scalar_type());
  output.numel = tensor.numel();
}

}  // namespace

at::DimVector check_operands(const LossInfo& info, const char* op, at::TensorList operands,
                             const OptionalTensor& mask) {
  const Tensor& first = operands[0];
  const char* first_name = info.operands[0];
  at::DimVector shape;
  for (size_t k = 0; k < operands.size(); ++k) {
    check_dtype(op, info.operands[k], operands[k].scalar_type(),
                is_target(info, k) ? info.target : Target::kNone);
    check_device(op, info.operands[k], operands[k], first_name, first);
    check_shape(op, info.operands[k], operands[k], first_name, shape);
  }
  if (mask) {
    TORCH_CHECK_TYPE(mask->scalar_type() == at::kBool, op, ": mask has dtype torch.",
                     python_dtype(mask->scalar_type()), ", expected bool");
    check_device(op, "mask", *mask, first_name, first);
    check_shape(op, "mask", *mask, first_name, shape);
  }
  return shape;
}

void check_public_shapes(const LossInfo& info, at::TensorList operands, const OptionalTensor& mask,
                         int64_t batch_dims) {
  const auto is_symbolic = [](const Tensor& x) {
    return x.unsafeGetTensorImpl()->has_symbolic_sizes_strides();
  };
  if (std::any_of(operands.begin(), operands.end(), is_symbolic)) return;
  const at::IntArrayRef whole = operands[0].sizes();
  const int64_t dims = static_cast<int64_t>(whole.size());
  // The default of one is nothing said where a number is summed.
  bool fits = 0 <= batch_dims && batch_dims <= std::max<int64_t>(dims, 1);
  for (size_t k = 1; fits && k < operands.size(); ++k) {
    const at::IntArrayRef sizes = operands[k].sizes();
    if (sizes == whole) continue;
    const int64_t leading = dims - operands[k].dim();
    fits = is_target(info, k)
               ? 0 <= leading && leading <= batch_dims && whole.slice(leading) == sizes
               : fits_into(sizes, whole);
  }
  fits = fits && (!mask || fits_into(mask->sizes(), whole));
  TORCH_CHECK_VALUE(fits, info.name, ": the shapes or batch_dims do not fit ", whole);
}

void check_reduction(const char* op, int64_t keep, int64_t mean_dims, int64_t dims) {
  TORCH_CHECK_VALUE(0 <= keep && 0 <= mean_dims && keep + mean_dims <= dims, op, ": keep = ", keep,
                    " and mean_dims = ", mean_dims, " do not fit ", dims, " dimensions");
}

void check_gradient(const char* op, const char* name, const Tensor& gradient, at::IntArrayRef shape,
                    at::Device device) {
  check_dtype(op, name, gradient.scalar_type(), Target::kNone);
  TORCH_CHECK_VALUE(gradient.device() == device, op, ": ", name, " is on ", gradient.device(),
                    ", expected ", device);
  TORCH_CHECK_VALUE(gradient.sizes() == shape, op, ": ", name, " has shape ",
                    python_shape(gradient.sizes()), ", expected ", python_shape(shape));
}

bool is_float64(at::TensorList operands) {
  return std::any_of(operands.begin(), operands.end(),
                     [](const Tensor& x) { return x.scalar_type() == at::kDouble; });
}

Tensor in_arithmetic(const Tensor& x, bool is_float64) {
  return x.scalar_type() == at::kDouble && !is_float64 ? x.to(at::kFloat) : x;
}

double mean_factor(at::IntArrayRef shape, Reduction reduction) {
  return 1.0 / static_cast<double>(product(shape.slice(reduction.keep, reduction.mean)));
}

at::ScalarType promoted_dtype(at::TensorList operands) {
  at::ScalarType dimensioned = at::ScalarType::Undefined, single = at::ScalarType::Undefined;
  for (const Tensor& operand : operands) {
    if (!operand.is_floating_point()) continue;
    at::ScalarType& type = operand.dim() > 0 ? dimensioned : single;
    type = type == at::ScalarType::Undefined ? operand.scalar_type()
                                             : c10::promoteTypes(type, operand.scalar_type());
  }
  return dimensioned == at::ScalarType::Undefined ? single : dimensioned;
}

at::ScalarType sum_dtype(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

int64_t product(at::IntArrayRef sizes) {
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return 0;
  int64_t result = 1;
  for (const int64_t size : sizes) {
    TORCH_CHECK_VALUE(!__builtin_mul_overflow(result, size, &result), "the operands broadcast to ",
                      python_shape(sizes), ", more elements than 64 bits can count");
  }
  return result;
}

at::DimVector gradient_shape(at::IntArrayRef shape, at::IntArrayRef sizes, int64_t keep) {
  at::DimVector result(shape.begin(), shape.end());
  const int64_t missing = static_cast<int64_t>(shape.size() - sizes.size());
  for (int64_t d = keep; d < static_cast<int64_t>(shape.size()); ++d) {
    result[d] = d < missing ? 1 : sizes[d - missing];
  }
  return result;
}

Tensor empty_laid_out_like(const Device& device, const Tensor& operand, at::IntArrayRef shape,
                           at::ScalarType dtype) {
  Tensor result = device.empty(shape, dtype);
  if (operand.sizes() != shape || operand.is_contiguous()) return result;
  const bool is_dense = operand.is_non_overlapping_and_dense();
  result.unsafeGetTensorImpl()->set_sizes_and_strides(
      shape,
      is_dense ? operand.strides().vec() : at::infer_dense_strides(shape, operand.strides()));
  return result;
}

TensorVector allocate_gradients(const Device& device, at::TensorList operands,
                                at::IntArrayRef shape, int64_t keep, int64_t want) {
  TensorVector gradients;
  for (size_t k = 0; k < operands.size(); ++k) {
    gradients.push_back(is_wanted(want, k)
                            ? empty_laid_out_like(device, operands[k],
                                                  gradient_shape(shape, operands[k].sizes(), keep),
                                                  operands[k].scalar_type())
                            : device.empty({0}, gradient_dtype(operands[k])));
  }
  return gradients;
}

IndexSpace::IndexSpace(at::IntArrayRef shape) : shape_(shape.begin(), shape.end()) {}

void IndexSpace::add(Input& input, const Tensor& tensor) {
  input.data = tensor.const_data_ptr();
  input.dtype = dtype_of(tensor.scalar_type());
  add_strides(input.strides, tensor);
}

void IndexSpace::add(Output& output, const Tensor& tensor) {
  set_output(output, tensor);
  output.is_summed = output.numel < product(shape_);
  add_strides(output.strides, tensor);
}

void IndexSpace::add_value(Output& output, const Tensor& tensor) {
  set_output(output, tensor);
  if (output.numel == product(shape_)) add_strides(output.strides, tensor.view(shape_));
}

void IndexSpace::add_strides(int64_t* strides, const Tensor& tensor) {
  const int64_t missing = static_cast<int64_t>(shape_.size()) - tensor.dim();
  for (int64_t d = 0; d < static_cast<int64_t>(shape_.size()); ++d) {
    const bool broadcasts = d < missing || (tensor.size(d - missing) == 1 && shape_[d] != 1);
    strides[d] = broadcasts ? 0 : tensor.stride(d - missing);
  }
  strides_.push_back(strides);
}

void IndexSpace::drop_dimension(int64_t d) {
  for (int64_t* strides : strides_)
    std::copy(strides + d + 1, strides + shape_.size(), strides + d);
  shape_.erase(shape_.begin() + d);
}

// Channels-last tensors, say: their memory order gives the long runs.
void IndexSpace::follow_memory(int64_t first_movable) {
  const int64_t* leader = strides_[0];
  const int64_t dims = static_cast<int64_t>(shape_.size());
  for (int64_t d = first_movable; d < dims; ++d) {
    if (leader[d] == 0) return;
  }
  for (int64_t end = first_movable + 1; end < dims; ++end) {
    for (int64_t d = end; d > first_movable && leader[d - 1] < leader[d]; --d) {
      for (int64_t* strides : strides_) std::swap(strides[d - 1], strides[d]);
      std::swap(shape_[d - 1], shape_[d]);
    }
  }
}

bool IndexSpace::can_merge(int64_t d) const {
  return std::all_of(strides_.begin(), strides_.end(), [&](const int64_t* strides) {
    return strides[d] == shape_[d + 1] * strides[d + 1];
  });
}

void IndexSpace::simplify(Shape& result, int64_t first_movable) {
  for (int64_t d = static_cast<int64_t>(shape_.size()) - 1; d >= 0; --d) {
    if (shape_[d] != 1) continue;
    drop_dimension(d);
    if (d < first_movable) --first_movable;
  }
  if (!strides_.empty()) follow_memory(first_movable);
  for (int64_t d = static_cast<int64_t>(shape_.size()) - 2; d >= 0; --d) {
    if (!can_merge(d)) continue;
    shape_[d + 1] *= shape_[d];
    drop_dimension(d);
  }
  if (shape_.empty()) {
    shape_.push_back(1);
    for (int64_t* strides : strides_) strides[0] = 1;
  }
  result.dims = static_cast<int>(shape_.size());
  std::copy(shape_.begin(), shape_.end(), result.sizes);
  result.numel = product(shape_);
}

}  // namespace vae_fast::bindings
