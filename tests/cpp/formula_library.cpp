// Formulas, and functions of several arguments in the shape of formulas, as loops that
// test_formulas.py calls: of each the value and the gradient in every operand.
#include <cstring>

#include "cpu/standard_headers.h"
#include "formulas/beta.h"
#include "formulas/beta_binomial.h"
#include "formulas/binomial.h"
#include "formulas/continuous_bernoulli.h"
#include "formulas/discretized_logistic.h"
#include "formulas/gamma.h"
#include "formulas/laplace.h"
#include "formulas/log_normal.h"
#include "formulas/ordinal.h"
#include "formulas/student_t.h"
#include "formulas/von_mises.h"
#include "formulas/zero_inflated.h"

namespace {

using namespace vae_fast;

struct LgammaDifferenceLoop {
  static constexpr const char* kName = "lgamma_difference";
  static constexpr const char* kOperands[] = {"x", "t"};
  static constexpr Target kTarget = Target::kNone;

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate(T x, T t) {
    const LgammaDifference<T> difference = lgamma_difference(x, t);
    return {difference.value, {difference.to_x, difference.to_t}};
  }
};

// What a formula has for a target of 0 alone, in the shape of a formula: its gradient in the
// target is none.
template <class Formula>
struct AtZero {
  static constexpr int kParameters = kParameterCount<Formula>;

  template <class T, class... X>
  VAE_FAST_FN static auto evaluate(X... x) {
    const T operands[] = {x...};
    return of(operands, std::make_index_sequence<kParameters>{});
  }

 private:
  template <class T, size_t... P>
  VAE_FAST_FN static Loss<T, kParameters + 1> of(const T* x, std::index_sequence<P...>) {
    const Loss<T, kParameters> loss = Formula::template evaluate_zero<T>(x[P]...);
    return {loss.value, {loss.gradient[P]..., kNan<T>}};
  }
};

template <class Formula, class T, size_t... K>
void loop(const T* const* operands, T* const* outputs, int64_t n, std::index_sequence<K...>) {
  const T* const in[] = {operands[K]...};
  T* const value = outputs[0];
  T* const gradient[] = {outputs[K + 1]...};
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const auto loss = Formula::template evaluate<T>(in[K][i]...);
    value[i] = loss.value;
    ((gradient[K][i] = loss.gradient[K]), ...);
  }
}

template <class T, class... Formula>
bool evaluate(const char* name, bool at_zero, const T* const* operands, T* const* outputs,
              int64_t n) {
  const auto is = [&]<class F>() {
    if (std::strcmp(name, F::kName) != 0) return false;
    constexpr auto kAll = std::make_index_sequence<kOperandCount<F>>{};
    if (!at_zero) {
      loop<F>(operands, outputs, n, kAll);
      return true;
    }
    if constexpr (kHasZero<F>) loop<AtZero<F>>(operands, outputs, n, kAll);
    return kHasZero<F>;
  };
  return (is.template operator()<Formula>() || ...);
}

template <class T>
bool evaluate_listed(const char* name, bool at_zero, const T* const* operands, T* const* outputs,
                     int64_t n) {
  return evaluate<T, LgammaDifferenceLoop, NegativeBinomialNll, PoissonNll, ZeroInflatedPoissonNll,
                  ZeroInflatedNegativeBinomialNll, GammaNll, LaplaceNll, StudentTNll, LogNormalNll,
                  ContinuousBernoulliNll, DiscretizedLogisticNll, BinomialNll, BetaNll,
                  BetaBinomialNll, VonMisesNll, OrdinalNll>(name, at_zero, operands, outputs, n);
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Whether the name is known; with at_zero, whether the formula has one of its own for that.
EXPORTED bool evaluate_float(const char* name, bool at_zero, const float* const* operands,
                             float* const* outputs, int64_t n) {
  return evaluate_listed(name, at_zero, operands, outputs, n);
}
EXPORTED bool evaluate_double(const char* name, bool at_zero, const double* const* operands,
                              double* const* outputs, int64_t n) {
  return evaluate_listed(name, at_zero, operands, outputs, n);
}
