// Tables in CSR, as they come from Python: three tensors.
#pragma once

#include "bindings/common.h"

namespace vae_fast::bindings {

// Whether they are dense and fit together: the starts of the rows, and a column for each value.
bool is_plain_csr(const Tensor& starts, const Tensor& columns, const Tensor& values);

// ValueError where an index lies outside of the table of so many columns: torch looks at the
// indices only when it is asked to.
void check_csr(const char* op, const char* name, const Tensor& starts, const Tensor& columns,
               int64_t width);

// The table, (rows, width), as torch makes it dense. Not checked: to look at the indices would be
// to wait for their device.
Tensor dense_of_csr(const Tensor& starts, const Tensor& columns, const Tensor& values,
                    int64_t width);

}  // namespace vae_fast::bindings
