#include "calls/csr.h"

namespace vae_fast::calls {
namespace {

template <class Index>
std::span<const Index> elements(const View& x) {
  return {static_cast<const Index*>(x.data), static_cast<size_t>(x.numel())};
}

template <class Index>
bool are_inside(const CsrViews& table, int64_t width) {
  const auto starts = elements<Index>(table.starts), columns = elements<Index>(table.columns);
  const bool has_columns =
      std::ranges::all_of(columns, [=](Index column) { return column >= 0 && column < width; });
  return has_columns && starts.front() >= 0 &&
         starts.back() <= static_cast<int64_t>(columns.size()) && std::ranges::is_sorted(starts);
}

bool is_index(const View& x) {
  return x.torch_dtype == torch_dtype(Dtype::kInt32) || x.torch_dtype == torch_dtype(Dtype::kInt64);
}

}  // namespace

bool is_plain_csr(const CsrViews& table) {
  const auto& [starts, columns, values] = table;
  const auto is_line = [](const View& x) { return x.dims() == 1 && x.is_contiguous(); };
  return is_line(starts) && is_line(columns) && is_line(values) && starts.numel() > 0 &&
         columns.numel() == values.numel() && starts.torch_dtype == columns.torch_dtype &&
         is_index(starts);
}

void check_csr(const char* op, const char* name, const CsrViews& table, int64_t width) {
  const bool is_wide = table.columns.dtype() == Dtype::kInt64;
  VAE_FAST_REQUIRE((is_wide ? are_inside<int64_t> : are_inside<int32_t>)(table, width), BadValue,
                   op, ": ", name, "'s crow_indices or col_indices lie outside of it");
}

}  // namespace vae_fast::calls
