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
#include "formulas/student_t.h"
#include "formulas/von_mises.h"
#include "formulas/zero_inflated.h"

namespace {

using namespace vae_fast;

struct LgammaDifferenceLoop {
  static constexpr const char* kName = "lgamma_difference";
  static constexpr const char* kOperands[] = {"x", "t"};

  template <class T>
  VAE_FAST_FN static Loss<T, 2> evaluate(T x, T t) {
    const LgammaDifference<T> difference = lgamma_difference(x, t);
    return {difference.value, {difference.to_x, difference.to_t}};
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
bool evaluate(const char* name, const T* const* operands, T* const* outputs, int64_t n) {
  const auto is = [&]<class F>() {
    if (std::strcmp(name, F::kName) != 0) return false;
    loop<F>(operands, outputs, n, std::make_index_sequence<kOperandCount<F>>{});
    return true;
  };
  return (is.template operator()<Formula>() || ...);
}

template <class T>
bool evaluate_listed(const char* name, const T* const* operands, T* const* outputs, int64_t n) {
  return evaluate<T, LgammaDifferenceLoop, NegativeBinomialNll, PoissonNll, ZeroInflatedPoissonNll,
                  ZeroInflatedNegativeBinomialNll, GammaNll, LaplaceNll, StudentTNll, LogNormalNll,
                  ContinuousBernoulliNll, DiscretizedLogisticNll, BinomialNll, BetaNll,
                  BetaBinomialNll, VonMisesNll>(name, operands, outputs, n);
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Whether the name is known.
EXPORTED bool evaluate_float(const char* name, const float* const* operands, float* const* outputs,
                             int64_t n) {
  return evaluate_listed(name, operands, outputs, n);
}
EXPORTED bool evaluate_double(const char* name, const double* const* operands,
                              double* const* outputs, int64_t n) {
  return evaluate_listed(name, operands, outputs, n);
}
