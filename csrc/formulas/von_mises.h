// Negative log-likelihood of the von Mises distribution, in nats.
#pragma once

#include "bessel_functions.h"
#include "loss.h"

namespace vae_fast {
inline namespace VAE_FAST_ISA {

// Of half the difference of two angles in radians, less its whole quarter turns: pi / 2 in three
// parts, of which the first two times a few thousand quarters are exact. NaN where a float no
// longer tells one quarter from the next.
template <class T>
VAE_FAST_FN SineCosine<T> half_difference(T a, T b) {
  constexpr bool kWide = sizeof(T) == 8;
  constexpr T kRound = kWide ? 0x1.8p52 : 0x1.8p23;  // added, it rounds to whole numbers
  constexpr T kTurn = T(0.63661977236758134308);
  constexpr T kHigh = kWide ? 1.57079632673412561417 : 1.5703125;
  constexpr T kMiddle = kWide ? 6.07710050630396597660e-11 : 4.837512969970703125e-4;
  constexpr T kLow = kWide ? 2.02226624871116645580e-21 : 7.549789948768648e-8;
  // a - b is the difference and what its rounding has lost (Knuth's two-sum).
  const T difference = a - b, of_b = a - difference;
  const T lost = (a - (difference + of_b)) + (of_b - b);
  const T x = T(0.5) * difference;
  const T quarters = (x * kTurn + kRound) - kRound;
  const T high = (x - quarters * kHigh) + T(0.5) * lost;
  const T rest = (high - quarters * kMiddle) - quarters * kLow;
  const SineCosine<T> of_rest = sine_cosine_quarter(rest * kTurn);
  // Of four quarters, how many: -2 or 2, -1, 0, 1.
  const T turn = quarters - T(4) * ((quarters * T(0.25) + kRound) - kRound);
  const bool is_odd = abs_(turn) == T(1), is_told = abs_(x) <= T(0x1p20);
  const T sign = select(abs_(turn) == T(2), T(-1), T(1));
  const T sine = select(is_odd, of_rest.cosine * turn, of_rest.sine * sign);
  const T cosine = select(is_odd, -of_rest.sine * turn, of_rest.cosine * sign);
  return {select(is_told, sine, kNan<T>), select(is_told, cosine, kNan<T>)};
}

// log(2 pi I0(k)) - k cos(d) for k = exp(log_concentration) and the difference d of angles, as
//   log(2 pi) + (log I0(k) - k) + 2 k sin(d / 2)^2,
// half of k's logarithm at a time as in standardized.h: a difference of zero is none at any k.
struct VonMisesNll {
  static constexpr const char* kName = "von_mises_nll";
  static constexpr const char* kOperands[] = {"mean", "log_concentration", "target"};
  static constexpr Target kTarget = Target::kNumber;

  template <class T>
  VAE_FAST_FN static Loss<T, 3> evaluate(T mean, T log_concentration, T x) {
    const T root = exp_(T(0.5) * log_concentration);
    const BesselRests<T> rests = bessel_rests(root * root, log_concentration);
    const SineCosine<T> half = half_difference(x, mean);
    const T distance = select(half.sine == T(0), T(0), half.sine * root);
    const T excess = T(2) * distance * distance;
    const T slope = select(half.sine == T(0), T(0), T(2) * distance * (half.cosine * root));
    return {(T(2) * kHalfLogTwoPi<T> + rests.log) + excess, {-slope, excess - rests.ratio, slope}};
  }
};

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
