// What operands must be, and what follows from them: shapes and dtypes of results.
#pragma once

#include <string_view>

#include "calls/view.h"
#include "formulas/list.h"

namespace vae_fast::calls {
#pragma GCC visibility push(default)

using Views = std::span<const View>;

// How a loss is reduced: summed over the dimensions from `keep` on, and divided by the number of
// entries of the first `mean` of those.
struct Reduction {
  int64_t keep;
  int64_t mean;
};

struct LossInfo {
  const char* name;
  const char* const* operands;
  int operand_count;
  Target target;
};

// Whether operand k is its target.
inline bool is_target(const LossInfo& info, size_t k) {
  return info.target != Target::kNone && k + 1 == static_cast<size_t>(info.operand_count);
}

inline constexpr int kLossCount = Losses::size;
const LossInfo& loss_info(int loss);
int loss_named(std::string_view name);  // BadValue where there is none

// Checks the operands' dtypes, devices and shapes; returns the shape they broadcast to. The mask
// may be null. Errors name the operand, what was expected and what came.
Sizes check_operands(const LossInfo& info, const char* op, Views operands, const View* mask);

// An op's `keep` and `mean_dims`, against so many dimensions.
void check_reduction(const char* op, Reduction reduction, int64_t dims);

// What a gradient that comes to a backward, or was kept for one, must be.
void check_gradient(const char* op, const char* name, const View& gradient, Span shape,
                    const Place& place);

// Whether the arithmetic is float64's: where any operand is.
bool is_float64(Views operands);

// The factor that makes a mean of a sum.
double mean_factor(Span shape, Reduction reduction);

// The floating dtype that the operands promote to, by torch's rule: one without dimensions does not
// raise that of others.
Dtype promoted_dtype(Views operands);

// `dtype` for elementwise results; at least float32 for sums.
Dtype sum_dtype(Dtype dtype);

// Of an operand that may be a target of whole numbers.
Dtype gradient_dtype(const View& operand);

inline bool is_wanted(int64_t want, size_t operand) { return (want >> operand & 1) != 0; }

// `sizes`, aligned to the right of `shape`, without its leading `keep` dimensions, of which
// `shape` has the sizes: the shape of a gradient that is summed where the operand broadcasts.
Sizes gradient_shape(Span shape, Span sizes, int64_t keep);

#pragma GCC visibility pop
}  // namespace vae_fast::calls
