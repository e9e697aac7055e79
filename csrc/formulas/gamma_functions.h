// Functions of the gamma function, in pieces that do not cancel: Stirling's formula is
//
//   lgamma(z) = (z - 1/2) log z - z + log(2 pi) / 2 + s(1 / z),
//   digamma(z) = log z - 1 / (2 z) - d(1 / z) / z^2,
//
// and what a likelihood is made of is the small rest, once the large terms have met those of the
// likelihood. s and d are polynomials on [0, 1], for z >= 1; below 1 all is shifted by one,
// lgamma(z) = lgamma(z + 1) - log z. Fitted by tests/cpp/fit_gamma_functions.py.
#pragma once

#include "logarithms.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// ---- The polynomials, each to be asked for its value at one point or for its chord between two.
// In double they are in x - 1/2, where their coefficients are small.

template <class T>
struct At {
  T x;

  VAE_FAST_FN At from(T origin) const { return {x - origin}; }

  template <class... C>
  VAE_FAST_FN T operator()(T first, C... rest) const {
    T value = first;
    ((value = value * x + rest), ...);
    return value;
  }
};

template <class T>
struct Chord {
  T at_a;
  T slope;  // (p(a) - p(b)) / (a - b), where a - b may be 0
};

template <class T>
struct Between {
  T a, b;

  VAE_FAST_FN Between from(T origin) const { return {a - origin, b - origin}; }

  template <class... C>
  VAE_FAST_FN Chord<T> operator()(T first, T second, C... rest) const {
    Chord<T> p{first * a + second, first};
    ((p.slope = p.slope * b + p.at_a, p.at_a = p.at_a * a + rest), ...);
    return p;
  }
};

// s(r) / r.
template <class Where>
VAE_FAST_FN auto stirling_polynomial(const Where& at, float) {
  return at(-4.704615438e-05f, 3.160758144e-04f, -9.033788173e-04f, 1.259088268e-03f,
            -1.409422839e-04f, -2.753925510e-03f, -1.705299686e-06f, 8.333329111e-02f);
}
template <class Where>
VAE_FAST_FN auto stirling_polynomial(const Where& at, double) {
  return at.from(0.5)(4.27830523612223975e-04, -8.62207261234078999e-04, 1.10943660381870496e-04,
                      8.91592850611302502e-04, -6.00554553216864676e-04, -1.52803907356591575e-04,
                      2.21938647653358489e-04, 1.65652747660824131e-06, -7.57813178548681092e-06,
                      -7.04487390860783226e-05, 7.31870729719001991e-05, -3.57928960001320455e-05,
                      1.43309213557511509e-06, 2.62398953497622205e-05, -4.50537152041178367e-05,
                      4.87502566641300392e-05, -3.45198431561775191e-05, 5.01274392331030678e-06,
                      3.15296193015800389e-05, -6.13218588401800898e-05, 6.65510652713547073e-05,
                      -2.99962881894063451e-05, -5.47081362546037017e-05, 1.63031438404169607e-04,
                      -2.04929354989395263e-04, -2.01946288562884539e-05, 8.06146394973898520e-04,
                      -1.94041755240410602e-03, -2.46002012981181607e-03, 8.26813919108185941e-02);
}

// d(r).
template <class Where>
VAE_FAST_FN auto digamma_polynomial(const Where& at, float) {
  return at(-3.763692350e-04f, 2.212530700e-03f, -5.420272904e-03f, 6.295441339e-03f,
            -5.637691356e-04f, -8.261776529e-03f, -3.410599372e-06f, 8.333329111e-02f);
}
template <class Where>
VAE_FAST_FN auto digamma_polynomial(const Where& at, double) {
  return at.from(0.5)(7.87478192557726497e-02, -3.70927668295493382e-02, -1.55602978250777013e-01,
                      8.73978122734383189e-02, 1.20283842133451516e-01, -7.66634197462565808e-02,
                      -4.87724069611988401e-02, 3.26750758396473703e-02, 1.51405960142114819e-02,
                      -9.73511048849171577e-03, -4.02556993733266082e-03, 3.19299211744659278e-03,
                      -3.66516333092085326e-04, 1.51842868064155402e-04, -1.41473075370514685e-04,
                      -2.16033874852912549e-04, 4.73255805223606117e-04, -5.18653569466724965e-04,
                      3.92317395633022428e-04, -1.41494222630776455e-04, -1.59163182520048155e-04,
                      4.08406202808640425e-04, -5.01129187516396730e-04, 3.58902194439034399e-04,
                      2.95132344833185789e-05, -5.57650259981320355e-04, 9.49741591521542400e-04,
                      -7.40481814522910139e-04, -6.13296531752493537e-04, 3.18419632218191681e-03,
                      -4.61203306475147477e-03, -6.86045781202773621e-03, 8.14513818459126765e-02);
}

// lgamma(1 + y) / (y (y - 1)), y in [0, 1].
template <class Where>
VAE_FAST_FN auto lgamma1p_polynomial(const Where& at, float) {
  return at(2.573221223e-03f, -1.429576147e-02f, 3.729016334e-02f, -6.409543753e-02f,
            8.850299567e-02f, -1.145440713e-01f, 1.553878784e-01f, -2.452503145e-01f,
            5.772156715e-01f);
}
template <class Where>
VAE_FAST_FN auto lgamma1p_polynomial(const Where& at, double) {
  return at.from(0.5)(1.18209694454671454e-05, -1.85278039970329622e-05, 1.35842754591309425e-05,
                      -2.14877025206257616e-05, 4.28164286279477895e-05, -6.79373302739704686e-05,
                      1.05417152221859043e-04, -1.68571794503517212e-04, 2.71302735451140050e-04,
                      -4.38035161325805338e-04, 7.11520275205129835e-04, -1.16441137721960491e-03,
                      1.92291623212279233e-03, -3.21207422060729077e-03, 5.44645784221955281e-03,
                      -9.42562244482964863e-03, 1.67970986312139491e-02, -3.13084875010532712e-02,
                      6.29114010745648461e-02, -1.45959895914305943e-01, 4.83128950540980873e-01);
}

// digamma(1 + y) / (1 + y - its root), y in [0, 1].
template <class Where>
VAE_FAST_FN auto digamma1p_polynomial(const Where& at, float) {
  return at(-1.678483747e-02f, 9.954465926e-02f, -2.726893723e-01f, 4.731718302e-01f,
            -6.146222353e-01f, 6.808794737e-01f, -7.121941447e-01f, 7.523120046e-01f,
            -8.546900153e-01f, 1.250380158e+00f);
}
template <class Where>
VAE_FAST_FN auto digamma1p_polynomial(const Where& at, double) {
  return at.from(0.5)(2.52259050696488523e-04, -3.78390789724885788e-04, 2.36501717193398139e-04,
                      -3.54763520533719770e-04, 7.18410796904637820e-04, -1.07768639672342257e-03,
                      1.55807491372137613e-03, -2.33755264710311817e-03, 3.51875043619501345e-03,
                      -5.28090306609060520e-03, 7.92697273564635894e-03, -1.19081465139767376e-02,
                      1.79072505636197754e-02, -2.69758000292536666e-02, 4.07608338843387027e-02,
                      -6.19221331907270703e-02, 9.49887244535418257e-02, -1.48404923054858084e-01,
                      2.40542484240784782e-01, -4.23627421281457306e-01, 9.51055876031832836e-01);
}

// s(r) and (digamma(z) - log z) at r = 1 / z.
template <class T>
VAE_FAST_FN T stirling_rest(T r) {
  return r * stirling_polynomial(At<T>{r}, T());
}
template <class T>
VAE_FAST_FN T digamma_rest(T r) {
  return -r * (r * digamma_polynomial(At<T>{r}, T()) + T(0.5));
}

// For y in [0, 1]: exactly 0 where it is, and relatively exact near there.
template <class T>
VAE_FAST_FN T lgamma1p_unit(T y) {
  return y * (y - 1) * lgamma1p_polynomial(At<T>{y}, T());
}
template <class T>
VAE_FAST_FN T digamma1p_unit(T y) {
  constexpr double kRootHigh = 0.46163214496836236, kRootLow = -1.5522348162858677e-17;
  constexpr T kRoot = T(kRootHigh), kRest = T((kRootHigh - kRoot) + kRootLow);
  return ((y - kRoot) - kRest) * digamma1p_polynomial(At<T>{y}, T());
}

// ---- One argument

// For x >= 0; NaN below.
template <class T>
VAE_FAST_FN T lgamma_(T x) {
  const bool below_1 = x < T(1), below_2 = x < T(2), below_3 = x < T(3);
  const T floor = select(below_1, T(0), select(below_2, T(1), T(2)));
  const T argument = select(below_1, x, select(below_2, T(1), select(below_3, x - T(1), x)));
  const T log = log_any(argument);
  const T small = lgamma1p_unit(x - floor) + select(below_1, -log, log);
  constexpr T kConstant = T(0.9189385332046727418 - 0.5);
  const T large = (x - T(0.5)) * (log - T(1)) + (stirling_rest(T(1) / x) + kConstant);
  return select(below_3, small, large);
}

template <class T>
VAE_FAST_FN T digamma(T x) {
  const bool below_1 = x < T(1), below_2 = x < T(2);
  const T r = T(1) / x;
  const T small = digamma1p_unit(select(below_1, x, x - T(1))) - select(below_1, r, T(0));
  const T result = select(below_2, small, log_any(x) + digamma_rest(r));
  return select(x >= T(0), result, kNan<T>);
}

// ---- lgamma(x + 1) without the terms that a mean near x takes away

template <class T>
struct CountTerm {
  T value;  // lgamma(x + 1) - (x + 1/2) log(X) + x for X = max(1, x): exactly 0 at 0
  T slope;  // digamma(x + 1) - log(X)
};

template <class T>
VAE_FAST_FN CountTerm<T> count_term(T x) {
  // In two parts: what the rounding of a constant leaves, a sum of many values shows.
  constexpr T kRest = T(0.9189385332046727418 - double(kHalfLogTwoPi<T>) - 3.878294158067242e-17);
  const bool small = x < T(1);
  const T r = T(1) / max_(T(1), x);
  return {select(small, lgamma1p_unit(x) + x, (stirling_rest(r) + kRest) + kHalfLogTwoPi<T>),
          select(small, digamma1p_unit(x), r + digamma_rest(r))};
}

template <class T>
struct CountDeviance {
  T value;  // x log(X / mean) + (mean - x) for X = max(1, x), from 1 on never negative
  T log;    // log(mean / X)
};

// What a mean makes of the terms that count_term leaves out. `excess` is mean - x, as exact as it
// is to be; `far` is kFar mean / X. A mean of 0 gives a finite number.
template <class T>
VAE_FAST_FN CountDeviance<T> count_deviance(T x, T mean, T excess, T far) {
  const bool small = x < T(1);
  const T above = select(small, mean - T(1), excess * (T(1) / max_(T(1), x)));
  const MinusLog<T> of_share = minus_log(above, far);
  return {x * of_share.value + select(small, excess - x * above, T(0)), of_share.log};
}

// ---- lgamma(x + t) - lgamma(t)

// Without the terms that a mean takes away: of z log z - z at z = x + t less that at t. For x >= 0
// and 1e-20 <= t <= 1e20; exactly 0 at x = 0. `top` is 1, or of an x above 1 any number whose
// logarithm's half is wanted too, for nothing.
template <class T>
struct RatioTerm {
  T value;    // lgamma(z) - lgamma(t) - (z log(z) - t log(t) - x) - log(top) / 2
  T to_x;     // digamma(z) - log(z)
  T to_t;     // the same less digamma(t) - log(t)
  T log_top;  // log(top z / t)
};

// A t below 1 is shifted, and z with it if x is below 1 too. The logarithms that tell
// z + 1 from z are those of t: log(1 + 1/z) = log(1 + 1/t) - log(z / t) + log((z + 1) / (t + 1)).
template <class T>
VAE_FAST_FN RatioTerm<T> ratio_term(T x, T t, T top) {
  const T z = x + t;
  const bool shift_t = t < T(1);
  const T by_t = select(shift_t, T(1), T(0)), by_z = select(x < T(1), by_t, T(0));
  const bool shift_z = by_z > T(0);
  const T a = T(1) / (t + by_t), b = T(1) / (z + by_z);
  const T gap = (x - (by_t - by_z)) * a * b;  // a - b
  const Chord<T> s = stirling_polynomial(Between<T>{a, b}, T());
  const Chord<T> d = digamma_polynomial(Between<T>{a, b}, T());
  const T s_gap = gap * (b * s.slope + s.at_a);
  const T d_gap = gap * ((b * b) * d.slope + ((a + b) * d.at_a + T(0.5)));
  const T d_at_b = -b * (b * (d.at_a - gap * d.slope) + T(0.5));

  const T inverse = T(1) / t, ratio = x * inverse;
  const T log_top = log1p_above(top * ratio + (top - T(1)));
  const T log_t = log1p_above(select(shift_t, inverse, T(0)));        // of 1 + 1/t
  const T both = log_top - log1p_unit(select(shift_z, x * a, T(0)));  // of (1 + 1/t) / (1 + 1/z)
  const T value = select(shift_z, (z + T(0.5)) * both - x * log_t, (t + T(0.5)) * log_t - by_t);
  const T to_t = select(shift_z, ratio / z - both, select(shift_t, inverse - log_t, T(0)));
  return {-(value + (T(0.5) * log_top + s_gap)),
          d_at_b + select(shift_z, (log_t - both) - T(1) / z, T(0)), d_gap + to_t, log_top};
}

template <class T>
struct LgammaDifference {
  T value;  // lgamma(x + t) - lgamma(t)
  T to_x;   // digamma(x + t)
  T to_t;   // digamma(x + t) - digamma(t)
};

// As exact as the terms of x digamma(x + t) are: near the zeros that lgamma(x + t) - lgamma(t) has
// for a t below 1.46, its error is that of an x that is rounded. Domain of ratio_term.
template <class T>
VAE_FAST_FN LgammaDifference<T> lgamma_difference(T x, T t) {
  const RatioTerm<T> rest = ratio_term(x, t, T(1));
  const T log_z = log_positive_normal(x + t);
  return {(t * rest.log_top + x * (log_z - T(1))) + rest.value, log_z + rest.to_x,
          rest.log_top + rest.to_t};
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
