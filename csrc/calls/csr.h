// Tables in CSR, as they come from Python: three tensors.
#pragma once

#include "calls/view.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

struct CsrViews {
  const View& starts;
  const View& columns;
  const View& values;
};

// Whether they are dense and fit together: the starts of the rows, and a column for each value.
bool is_plain_csr(const CsrViews& table);

// BadValue where an index lies outside of the table of so many columns: torch looks at the indices
// only when it is asked to. On the CPU.
void check_csr(const char* op, const char* name, const CsrViews& table, int64_t width);

#pragma GCC visibility pop
}  // namespace vae_fast::calls
