#include "cuda/call.h"

namespace vae_fast::cuda {
namespace {

Tensor make_tensor(const void* data, Dtype dtype, const int64_t* strides, int dims) {
  Tensor tensor;
  tensor.data = const_cast<void*>(data);
  tensor.dtype = dtype;
  if (data != nullptr) std::copy(strides, strides + dims, tensor.strides);
  return tensor;
}

}  // namespace

Tensor tensor_of(const Input& input, int dims) {
  return make_tensor(input.data, input.dtype, input.strides, dims);
}

Tensor tensor_of(const Output& output, int dims) {
  return make_tensor(output.data, output.dtype, output.strides, dims);
}

void Call::add_input(const Input& input) { inputs[input_count++] = tensor_of(input, dims); }

void Call::add_output(const Output& output) {
  output_is_summed[output_count] = output.data != nullptr && output.is_summed;
  outputs[output_count++] = tensor_of(output, dims);
}

std::optional<int> Call::split_at(int64_t count) {
  int64_t before = 1;
  for (int d = 0; d <= dims; ++d) {
    if (before == count) return d;
    if (d == dims || count % before != 0) return std::nullopt;
    if (before * sizes[d] > count) {
      const int64_t outer = count / before;
      if (sizes[d] % outer != 0 || dims == kLoopDims) return std::nullopt;
      cut(d, outer);
      return d + 1;
    }
    before *= sizes[d];
  }
  return std::nullopt;
}

void Call::permute(const int* order) {
  const auto reorder = [&](int64_t* x) {
    int64_t old[kLoopDims];
    std::copy(x, x + kLoopDims, old);
    for (int d = 0; d < dims; ++d) x[d] = old[order[d]];
  };
  reorder(sizes);
  for_each([&](Tensor& tensor, bool) { reorder(tensor.strides); });
}

void Call::cut(int d, int64_t outer) {
  const int64_t rest = sizes[d] / outer;
  const auto insert = [&](int64_t* x, int64_t first, int64_t second) {
    for (int i = dims; i > d + 1; --i) x[i] = x[i - 1];
    x[d] = first;
    x[d + 1] = second;
  };
  for_each([&](Tensor& tensor, bool) {
    const int64_t stride = tensor.strides[d];
    insert(tensor.strides, stride * rest, stride);
  });
  insert(sizes, outer, rest);
  ++dims;
}

bool is_valid(Call& call) {
  bool valid = call.dims >= 1 && call.dims <= kMaxDims &&
               (!call.value_is_summed || call.numel == 0 || call.groups >= 1);
  call.for_each([&](Tensor& tensor, bool) {
    valid &= call.float64 || tensor.dtype != Dtype::kFloat64;
    valid &= is_aligned(tensor, 1);
  });
  return valid;
}

bool is_aligned(const Tensor& tensor, int64_t elements) {
  const int64_t access = std::min<int64_t>(16, elements * bytes_of(tensor.dtype));
  return reinterpret_cast<uintptr_t>(tensor.data) % access == 0;
}

bool is_one_element(const Call& call, const Tensor& tensor) {
  return std::all_of(tensor.strides, tensor.strides + call.dims, [](int64_t s) { return s == 0; });
}

bool is_dense(const Call& call, const Tensor& tensor) {
  int64_t next = 1;
  for (int d = call.dims - 1; d >= 0; --d) {
    if (call.sizes[d] != 1 && tensor.strides[d] != next) return false;
    next *= call.sizes[d];
  }
  return true;
}

}  // namespace vae_fast::cuda
