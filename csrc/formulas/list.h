// The list of losses: everything else picks a formula up from here.
#pragma once

#include <type_traits>

#include "bernoulli.h"
#include "beta.h"
#include "beta_binomial.h"
#include "binomial.h"
#include "continuous_bernoulli.h"
#include "discretized_logistic.h"
#include "gamma.h"
#include "gaussian.h"
#include "kl.h"
#include "laplace.h"
#include "log_normal.h"
#include "negative_binomial.h"
#include "ordinal.h"
#include "poisson.h"
#include "student_t.h"
#include "von_mises.h"
#include "zero_inflated.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

template <class... Formula>
struct FormulaList {
  static constexpr int size = sizeof...(Formula);
};

#ifdef VAE_FAST_LOSSES  // a test has a few of them, and is built sooner
using Losses = FormulaList<VAE_FAST_LOSSES>;
#else
using Losses = FormulaList<           //
    BernoulliNll,                     //
    BernoulliProbsNll,                //
    BetaBinomialNll,                  //
    BetaNll,                          //
    BinomialNll,                      //
    ContinuousBernoulliNll,           //
    DiscretizedLogisticNll,           //
    GammaNll,                         //
    GaussianNll,                      //
    LaplaceNll,                       //
    LogNormalNll,                     //
    NegativeBinomialNll,              //
    OrdinalNll,                       //
    PoissonNll,                       //
    StudentTNll,                      //
    VonMisesNll,                      //
    ZeroInflatedNegativeBinomialNll,  //
    ZeroInflatedPoissonNll,           //
    StandardNormalKl,                 //
    GaussianKl>;
#endif

template <class Wanted, class... Formula>
constexpr int index_in(FormulaList<Formula...>) {
  static_assert((std::is_same_v<Wanted, Formula> || ...), "no loss of this build");
  int index = 0;
  bool found = false;
  ((found = found || std::is_same_v<Wanted, Formula>, index += !found), ...);
  return index;
}

template <class Formula>
constexpr int kLossIndex = index_in<Formula>(Losses{});

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
