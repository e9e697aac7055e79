#include "cuda/path.h"

namespace vae_fast::cuda {

int vector_of(Path path) {
  switch (path) {
    case Path::kFlatBFloat16:
    case Path::kFlatFloat16:
      return 8;
    case Path::kFlatFloat32:
    case Path::kFourFloat32:
    case Path::kFour:
      return 4;
    case Path::kFlatFloat64:
      return 2;
    case Path::kOne:
    case Path::kDouble:
      return 1;
  }
  return 1;
}

namespace {

std::optional<Path> flat_path_for(const Call& call) {
  const Dtype dtype = call.inputs[0].dtype;
  if (call.float64 != (dtype == Dtype::kFloat64)) return std::nullopt;
  switch (dtype) {
    case Dtype::kFloat32:
      return Path::kFlatFloat32;
    case Dtype::kBFloat16:
      return Path::kFlatBFloat16;
    case Dtype::kFloat16:
      return Path::kFlatFloat16;
    case Dtype::kFloat64:
      return Path::kFlatFloat64;
    default:
      return std::nullopt;
  }
}

bool is_target(const Call& call, const Tensor& tensor) {
  return call.has_target && &tensor == &call.inputs[call.input_count - 1];
}

}  // namespace

std::optional<Path> flat_path_of(Call& call, int64_t group_elements) {
  const std::optional<Path> path = flat_path_for(call);
  if (!path || call.mask.data != nullptr) return std::nullopt;
  const int64_t vector = vector_of(*path);
  bool fits = group_elements == call.numel || group_elements % vector == 0;
  call.for_each([&](Tensor& tensor, bool follows_elements) {
    if (!follows_elements) {  // a sum is stored by its group
      fits &= &tensor == &call.value || call.output_count > kOutputsWithoutFlatSums;
      return;
    }
    const bool is_input =
        &tensor == &call.upstream || (&tensor >= call.inputs && &tensor < call.inputs + kMaxInputs);
    const bool has_dtype = tensor.dtype == call.inputs[0].dtype || is_target(call, tensor);
    const bool may_be_dense = has_dtype && &tensor != &call.upstream;
    fits &= (is_input && is_one_element(call, tensor)) ||
            (may_be_dense && is_dense(call, tensor) && is_aligned(tensor, vector));
  });
  return fits ? path : std::nullopt;
}

bool fits(Call& call, int64_t vector, int64_t groups) {
  const int inner = call.dims - 1;
  bool fits = call.sizes[inner] % vector == 0 || (call.dims == 1 && groups == 1);
  call.for_each([&](Tensor& tensor, bool follows_elements) {
    if (!follows_elements || tensor.strides[inner] == 0) return;
    fits &= tensor.strides[inner] == 1 && is_aligned(tensor, vector);
    for (int d = 0; d < inner; ++d) {
      fits &= call.sizes[d] == 1 || tensor.strides[d] % vector == 0;
    }
  });
  return fits;
}

Path strided_path_of(Call& call, int64_t groups) {
  if (call.float64) return Path::kDouble;
  if (!fits(call, vector_of(Path::kFour), groups)) return Path::kOne;
  bool is_float32 = true;
  call.for_each([&](Tensor& tensor, bool follows_elements) {
    const bool is_of_its_own = &tensor == &call.mask || is_target(call, tensor);
    is_float32 &= !follows_elements || is_of_its_own || tensor.dtype == Dtype::kFloat32;
  });
  return is_float32 ? Path::kFourFloat32 : Path::kFour;
}

Path path_of(Call& call, int64_t groups) {
  const std::optional<Path> flat = flat_path_of(call, call.numel / groups);
  return flat ? *flat : strided_path_of(call, groups);
}

Path path_of_classes(Call& call) {
  const std::optional<Path> flat = flat_path_for(call);
  const Tensor &logits = call.inputs[0], &gradient = call.outputs[0];
  bool is_flat = flat && (gradient.data == nullptr || gradient.dtype == logits.dtype);
  const int64_t vector = is_flat ? vector_of(*flat) : 1;
  const int inner = call.dims - 1;
  call.for_each([&](const Tensor& tensor, bool follows_elements) {
    if (!follows_elements || &tensor == &call.upstream) return;
    is_flat &= tensor.strides[inner] == 1 && is_aligned(tensor, vector);
    for (int d = 0; d < inner; ++d) {
      is_flat &= call.sizes[d] == 1 || (tensor.strides[d] - logits.strides[d]) % vector == 0;
    }
  });
  return is_flat ? *flat : call.float64 ? Path::kDouble : Path::kOne;
}

}  // namespace vae_fast::cuda
