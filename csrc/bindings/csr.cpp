#include "bindings/csr.h"

#include <algorithm>

namespace vae_fast::bindings {
namespace {

template <class Index>
bool are_inside(const Tensor& starts, const Tensor& columns, int64_t width) {
  const Index* const begin = columns.const_data_ptr<Index>();
  const bool has_columns = std::all_of(begin, begin + columns.numel(),
                                       [=](Index column) { return column >= 0 && column < width; });
  const Index* const first = starts.const_data_ptr<Index>();
  const Index* const end = first + starts.numel();
  return has_columns && *first >= 0 && *(end - 1) <= columns.numel() && std::is_sorted(first, end);
}

}  // namespace

bool is_plain_csr(const Tensor& starts, const Tensor& columns, const Tensor& values) {
  const auto is_line = [](const Tensor& x) { return x.dim() == 1 && x.is_contiguous(); };
  return is_line(starts) && is_line(columns) && is_line(values) && starts.numel() > 0 &&
         columns.numel() == values.numel() && starts.scalar_type() == columns.scalar_type() &&
         (starts.scalar_type() == at::kInt || starts.scalar_type() == at::kLong);
}

void check_csr(const char* op, const char* name, const Tensor& starts, const Tensor& columns,
               int64_t width) {
  const bool is_wide = columns.scalar_type() == at::kLong;
  TORCH_CHECK_VALUE((is_wide ? are_inside<int64_t> : are_inside<int32_t>)(starts, columns, width),
                    op, ": ", name, "'s crow_indices or col_indices lie outside of it");
}

Tensor dense_of_csr(const Tensor& starts, const Tensor& columns, const Tensor& values,
                    int64_t width) {
  return at::_sparse_csr_tensor_unsafe(starts, columns, values, {starts.numel() - 1, width},
                                       values.scalar_type(), at::kSparseCsr, values.device(),
                                       /*pin_memory=*/false)
      .to_dense();
}

}  // namespace vae_fast::bindings
