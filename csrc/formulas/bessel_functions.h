// What the von Mises distribution needs of the modified Bessel functions I0 and I1, in pieces that
// do not cancel: log I0(k) = k - log(2 pi k) / 2 + a rest, and I1(k) / I0(k) = 1 - a rest / k.
#pragma once

#include "gamma_functions.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// From here on the rests are polynomials in 1 / k; below, I0 and I1 are sums of so many positive
// terms, in which a double loses four bits at most.
template <class T>
constexpr T kBesselFrom = sizeof(T) == 8 ? 16 : 6;
template <class T>
constexpr int kBesselTerms = sizeof(T) == 8 ? 42 : 14;

// log I0(k) - k + log(2 pi k) / 2 in kBesselFrom / k, less 1/2. Fitted by
// tests/cpp/fit_bessel_functions.py.
VAE_FAST_FN float log_bessel_polynomial(At<float> at) {
  return at(-9.596461195e-05f, 5.567548018e-05f, 2.188189111e-04f, 2.796231455e-04f,
            5.797665919e-04f, 2.355965147e-03f, 2.284627819e-02f, 1.089436505e-02f);
}
VAE_FAST_FN double log_bessel_polynomial(At<double> at) {
  return at(-4.18842630219915689e-10, -5.17187094473101598e-10, 1.14759326801060806e-10,
            4.64371489351394281e-10, 2.98615873561310793e-10, 1.85782496890362345e-10,
            2.66382126858721024e-10, 4.51272544009012137e-10, 8.53649856396931988e-10,
            1.93104435493977592e-09, 5.23545682269701901e-09, 1.71087924267429291e-08,
            6.83348038550382386e-08, 3.41060901983159557e-07, 2.20366806927595684e-06,
            1.95898872879515318e-05, 2.70591581951645983e-04, 8.06940563283201941e-03,
            3.96937563432584340e-03);
}

// k (1 - I1(k) / I0(k)), likewise.
VAE_FAST_FN float bessel_ratio_polynomial(At<float> at) {
  return at(4.480158918e-05f, -2.087166087e-03f, -1.747361638e-03f, 7.673477577e-04f,
            1.658576870e-03f, 1.588821160e-03f, 2.257511813e-03f, 5.583189908e-03f,
            2.520325730e-02f, 5.114231448e-01f);
}
VAE_FAST_FN double bessel_ratio_polynomial(At<double> at) {
  return at(1.14261726639557964e-08, -2.87663026659791614e-09, -2.47035035695645094e-08,
            -7.43726811334733106e-09, 1.32433895342433616e-08, 9.77691126575668502e-09,
            3.23359759662041355e-09, 3.91366163702491110e-09, 6.73766143281893520e-09,
            1.10843042119801589e-08, 2.16334794241548946e-08, 5.05682194196550757e-08,
            1.40704017027575948e-07, 4.69889818923077827e-07, 1.91030890678875079e-06,
            9.66732452731609607e-06, 6.31769980025398956e-05, 5.70567994835257481e-04,
            8.33999721478366485e-03, 5.04034702816416047e-01);
}

template <class T>
struct BesselRests {
  T log;    // log I0(k) - k, which is never positive
  T ratio;  // k (1 - I1(k) / I0(k)), which grows from 0 to 1/2
};

// For k >= 0 and its logarithm: k may have overflowed.
template <class T>
VAE_FAST_FN BesselRests<T> bessel_rests(T k, T log_k) {
  constexpr T kFrom = kBesselFrom<T>;
  const At<T> at{divide_by_normal(kFrom, max_(kFrom, k)) - T(0.5)};
  const T near = min_(kFrom, k), quarter = T(0.25) * near * near;
  // I0(k) = 1 + q (1 + q / 4 (1 + q / 9 ...)) and I1(k) = k / 2 (1 + q / 2 (1 + q / 6 ...)) for
  // q = k^2 / 4: of the first all but the leading 1.
  T above = 1, half = 1;
#ifdef __CUDACC__
#pragma unroll
#else
#pragma GCC unroll 42
#endif
  for (int n = kBesselTerms<T>; n > 0; --n) {
    if (n > 1) above = above * (quarter * T(1. / (n * n))) + T(1);
    half = half * (quarter * T(1. / (n * (n + 1)))) + T(1);
  }
  above *= quarter;
  const T ratio = T(0.5) * near * half / (above + T(1));
  const bool is_far = k > kFrom;
  return {select(is_far, log_bessel_polynomial(at) - (T(0.5) * log_k + kHalfLogTwoPi<T>),
                 log1p_above(above) - near),
          select(is_far, bessel_ratio_polynomial(at), near - near * ratio)};
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
