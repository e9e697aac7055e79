// Elementary functions of one float or double, written so that one text serves everywhere: scalar
// and branch-free, which gcc vectorises in `#pragma omp simd` loops and nvcc compiles as it is.
//
// float: polynomials of this file, fitted by tests/cpp/fit_polynomials.py. double: the C library,
// where it has the function.
// "Error a (b) ULP" is the largest over all 2^32 floats, in units in the last place of the exact
// result, with FMA (and without it), as measured by tests/cpp/exhaustive.cpp; docs/accuracy.md has
// the arguments too. Every NaN gives NaN; the sign of a zero result is not kept.
// Needs -ffp-contract=fast (a * b + c is one FMA) and must not be built with -ffinite-math-only or
// -fassociative-math.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#ifdef __CUDACC__
#define VAE_FAST_FN __host__ __device__ __forceinline__
#else
#define VAE_FAST_FN inline __attribute__((always_inline))
#endif

// Each file that is compiled for an instruction set of its own names it here, so that the linker
// cannot merge its functions with those of another.
#ifndef VAE_FAST_ISA
#define VAE_FAST_ISA portable
#endif

namespace vae_fast {
inline namespace VAE_FAST_ISA {

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T kNan = std::numeric_limits<T>::quiet_NaN();

template <class T>
constexpr T kHalfLogTwoPi = T(0.9189385332046727418);
template <class T>
constexpr T kSmallestNormal = std::numeric_limits<T>::min();

// ---- Primitives

// Where either argument is NaN, the second: max_(limit, x) keeps a NaN in x. One instruction.
template <class T>
VAE_FAST_FN T max_(T a, T b) {
  return a > b ? a : b;
}

// Where either argument is NaN, the second: min_(limit, x) keeps a NaN in x. One instruction.
template <class T>
VAE_FAST_FN T min_(T a, T b) {
  return a < b ? a : b;
}

template <class T>
VAE_FAST_FN T abs_(T x) {
  return std::fabs(x);
}

// On a GPU one approximate instruction, of at most 1 ULP, for the x that are 0 or normal.
VAE_FAST_FN float sqrt_(float x) {
#ifdef __CUDA_ARCH__
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
#else
  return std::sqrt(x);
#endif
}
VAE_FAST_FN double sqrt_(double x) { return std::sqrt(x); }

// a / b for a normal b. On a GPU by the approximate reciprocal, of at most 1 ULP: a division that
// is correctly rounded takes ten times the instructions and a slow path.
VAE_FAST_FN float divide_by_normal(float a, float b) {
#ifdef __CUDA_ARCH__
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(b));
  return a * reciprocal;
#else
  return a / b;
#endif
}
VAE_FAST_FN double divide_by_normal(double a, double b) { return a / b; }

VAE_FAST_FN int32_t as_int(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

VAE_FAST_FN float as_float(int32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// condition ? a : b, in bits. Of several `?:` in a row gcc first makes branches, then threads one
// through the other, and the vectoriser pays for it with two to four times as many blends.
VAE_FAST_FN int32_t select(bool condition, int32_t a, int32_t b) {
#if defined(__CUDA_ARCH__)
  return condition ? a : b;
#else
  const int32_t mask = -static_cast<int32_t>(condition);
  return (a & mask) | (b & ~mask);
#endif
}
VAE_FAST_FN float select(bool condition, float a, float b) {
#if defined(__CUDA_ARCH__)
  return condition ? a : b;
#else
  return as_float(select(condition, as_int(a), as_int(b)));
#endif
}
VAE_FAST_FN double select(bool condition, double a, double b) { return condition ? a : b; }

// a - b modulo 2^32: the bits of a float that a special case will replace may be anything.
VAE_FAST_FN int32_t subtract_wrapping(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
}

// 2^(k - 127) from the low nine bits, 0 < k < 255; infinity for k = 255.
VAE_FAST_FN float exp2_of_biased(uint32_t k) { return as_float(static_cast<int32_t>(k << 23)); }

// Added to a float below 2^21 it rounds to the nearest integer k and leaves k + 127, the biased
// exponent of 2^k, in the low bits of the sum.
constexpr float kExponentMagic = 12582912.f + 127.f;
VAE_FAST_FN float exp2_of_magic(float t) {
  return exp2_of_biased(static_cast<uint32_t>(as_int(t)));
}

constexpr float kLog2E = 1.44269504088896341f;
// ln 2 in two parts; k * kLn2High is exact for |k| < 2^9.
constexpr float kLn2High = 0.693145752f;
constexpr float kLn2Low = 1.42860677e-06f;

// ---- exp

// exp(r) - 1 for |r| <= ln(2) / 2.
VAE_FAST_FN float expm1_reduced(float r) {
  const float r2 = r * r;
  const float a = 4.166890681e-02f * r + 1.666652113e-01f;
  const float b = 1.378813642e-03f * r + 8.368694223e-03f;
  return ((b * r2 + a) * r + 4.999999106e-01f) * r2 + r;
}

// exp(x), all of it: subnormal results, 0 and infinity too. 2^k does not fit a float for every k
// that is wanted, so it is taken as 2^(k / 2) and what is left. Error 1.01 (0.99) ULP.
VAE_FAST_FN float exp_(float x) {
#ifdef __CUDA_ARCH__
  return expf(x);
#else
  constexpr float kMagic = kExponentMagic + 127;  // for the two biases
  const float in_range = max_(-176.f, min_(89.f, x));
  const float t = in_range * kLog2E + kMagic;
  const float k = t - kMagic;
  const float r = (in_range - k * kLn2High) - k * kLn2Low;
  const uint32_t both = static_cast<uint32_t>(as_int(t)), half = both >> 1;
  const float scale = exp2_of_biased(half), rest = exp2_of_biased(both - half);
  return (expm1_reduced(r) * scale + scale) * rest;
#endif
}
VAE_FAST_FN double exp_(double x) { return std::exp(x); }

// exp(x) for x <= 0: a quarter cheaper than exp_ and as exact. Error 1.01 (0.99) ULP.
VAE_FAST_FN float exp_nonpositive(float x) {
#ifdef __CUDA_ARCH__
  return expf(x);
#else
  const float in_range = max_(-132.4f, x);
  const float t = in_range * kLog2E + (kExponentMagic + 64);
  const float k = t - (kExponentMagic + 64);
  const float r = (in_range - k * kLn2High) - k * kLn2Low;
  const float scale = exp2_of_magic(t);
  return (expm1_reduced(r) * scale + scale) * 0x1p-64f;
#endif
}
VAE_FAST_FN double exp_nonpositive(double x) { return std::exp(x); }

// ---- expm1

// Both from one polynomial, and halved: exp(x) / 2 is finite a little longer than exp(x), and so
// are the divergences that are made of it.
template <class T>
struct HalfExpm1 {
  T expm1;        // (exp(x) - 1) / 2; error 1.36 (1.38) ULP
  T expm1_minus;  // (exp(x) - 1 - x) / 2: never negative, accurate near 0; error 1.89 (2.11) ULP
};

// h(r) = (exp(r) - 1 - r) / r, a minimax polynomial on [-1, 1]; then with x = k ln 2 + r,
// 0 <= r < ln 2 (or k = 0 and r = x for |x| <= 1) and s = 2^k / 2
//   (exp(x) - 1) / 2 = s (r + r h) + (s - 1/2),
//   (exp(x) - 1 - x) / 2 = s r h + (s r + (s - 1/2 - x / 2)),
// where the last bracket is exactly 0 for k = 0. The floor in k keeps it below 129.
VAE_FAST_FN HalfExpm1<float> half_expm1(float x) {
  constexpr float kMagic = kExponentMagic - 1;  // for 2^(k - 1)
  const float below = min_(90.f, x);
  const float in_range = max_(-87.f, below);
  const float floor = (in_range * kLog2E - 0.5f) + kMagic;
  const float t = select(abs_(x) <= 1, kMagic, floor);
  const float k = t - kMagic;
  const float r = (in_range - k * kLn2High) - k * kLn2Low;
  const float s = exp2_of_magic(t);
  const float r2 = r * r;
  const float a = 4.166670516e-02f * r + 1.666666716e-01f;
  const float b = 1.388618373e-03f * r + 8.333305828e-03f;
  const float c = 2.530789425e-05f * r + 1.984473492e-04f;
  const float g = ((2.767709248e-06f * r2 + c) * r2 + b) * r2 + a;
  const float h = g * r2 + 0.5f * r;
  const float p = h * r + r;
  return {p * s + (s - 0.5f), (s * r) * h + (s * r + ((s - 0.5f) - 0.5f * below))};
}

// For |x| <= 1 the Taylor series; beyond, nothing cancels. Of a large x, exp(x - 1) e: x - 1 is
// exact.
VAE_FAST_FN HalfExpm1<double> half_expm1(double x) {
  const double r = max_(-1., min_(1., x));
  double q = 0, factorial = 2432902008176640000.;  // of 20, exactly; constants once unrolled
#ifdef __CUDACC__
#pragma unroll
#else
#pragma GCC unroll 18
#endif
  for (int i = 20; i > 2; --i) {
    q = q * r + 1 / factorial;
    factorial /= i;
  }
  constexpr double kLarge = 700, kHalfE = 1.3591409142295226177;
  const double e = std::expm1(x > kLarge ? x - 1 : x) * (x > kLarge ? kHalfE : 0.5);
  return {e, select(abs_(x) <= 1, (q * r + 0.5) * r * r * 0.5, e - 0.5 * min_(1e3, x))};
}

template <class T>
VAE_FAST_FN T expm1_(T x) {
  return 2 * half_expm1(x).expm1;
}

// exp(x) - 1 for x <= 0, a third cheaper on the host. Error 0.95 (0.92) ULP.
VAE_FAST_FN float expm1_nonpositive(float x) {
#ifdef __CUDA_ARCH__
  return expm1_(x);
#else
  const float in_range = max_(-87.f, x);
  const float t = in_range * kLog2E + kExponentMagic;
  const float k = t - kExponentMagic;
  const float r = (in_range - k * kLn2High) - k * kLn2Low;
  const float scale = exp2_of_magic(t);
  return expm1_reduced(r) * scale + (scale - 1);
#endif
}
VAE_FAST_FN double expm1_nonpositive(double x) { return std::expm1(x); }

template <class T>
struct Exps {
  T exp;    // error as exp_nonpositive's
  T expm1;  // error as expm1_nonpositive's
};

// Both for x <= 0, from one polynomial: each is relatively exact where the other is not.
VAE_FAST_FN Exps<float> exps_nonpositive(float x) {
  const float in_range = max_(-132.4f, x);
  const float t = in_range * kLog2E + (kExponentMagic + 64);
  const float k = t - (kExponentMagic + 64);
  const float r = (in_range - k * kLn2High) - k * kLn2Low;
  const float far = exp2_of_magic(t), scale = far * 0x1p-64f, p = expm1_reduced(r);
  return {(p * far + far) * 0x1p-64f, p * scale + (scale - 1)};
}
VAE_FAST_FN Exps<double> exps_nonpositive(double x) { return {std::exp(x), std::expm1(x)}; }

template <class T>
VAE_FAST_FN T expm1_minus(T x) {
  return 2 * half_expm1(x).expm1_minus;
}

// ---- log

// log(1 + m) for m in [sqrt(1/2) - 1, 1], as 2 atanh(m / (2 + m)): fewer instructions than the
// polynomials of log_reduced and log1p_unit where a reciprocal is cheap, on a GPU. Error 1.97
// (1.97) ULP, the division rounded correctly.
VAE_FAST_FN float log1p_by_division(float m) {
  const float z = divide_by_normal(m, 0.5f * m + 1);
  const float v = z * z;
  const float p = ((5.457088118e-04f * v + 2.188923303e-03f) * v + 1.250637788e-02f) * v;
  return (p + 8.333304524e-02f) * v * z + z;
}

// k ln 2 + log(1 + m) for m in [sqrt(1/2) - 1, sqrt(2) - 1].
VAE_FAST_FN float log_reduced(float k, float m) {
#ifdef __CUDA_ARCH__
  return k * kLn2High + (k * kLn2Low + log1p_by_division(m));
#else
  const float m2 = m * m, m4 = m2 * m2;
  const float a = -2.500071824e-01f * m + 3.333332837e-01f;
  const float b = -1.662706286e-01f * m + 2.000140846e-01f;
  const float c = -1.312529147e-01f * m + 1.420088261e-01f;
  const float d = -7.703895867e-02f * m + 1.274930090e-01f;
  const float g = (d * m2 + c) * m4 + (b * m2 + a);
  const float low = -0.5f * m2 + (k * kLn2Low + g * m * m2);
  return k * kLn2High + (low + m);
#endif
}

constexpr int32_t kRootHalfBits = 0x3f3504f3;  // sqrt(1/2)
constexpr int32_t kMantissaMask = 0x007fffff;

// log(x) for x > 0, normal and finite: no special cases. Error 0.89 (0.89) ULP.
VAE_FAST_FN float log_positive_normal(float x) {
  const int32_t bits = subtract_wrapping(as_int(x), kRootHalfBits);
  const float m = as_float((bits & kMantissaMask) + kRootHalfBits) - 1;
  return log_reduced(static_cast<float>(bits >> 23), m);
}
VAE_FAST_FN double log_positive_normal(double x) { return std::log(x); }

VAE_FAST_FN double log_(double x) { return std::log(x); }

// ---- log1p

// Below, log(1 + x) is x to the last bit. The polynomials are given 0 instead: the powers of a tiny
// x would be subnormal, and cost some processors a hundred cycles each.
constexpr float kTiny = 0x1p-28f;

// log(1 + e) for e in [0, 1]: e - e^2 / 2 + e^3 G(e). Error 1.15 (1.60) ULP.
VAE_FAST_FN float log1p_unit(float e) {
#ifdef __CUDA_ARCH__
  return log1p_by_division(e);
#else
  const float p = select(e > kTiny, e, 0.f);
  const float p2 = p * p, p4 = p2 * p2;
  const float a = -2.497667223e-01f * p + 3.333235681e-01f;
  const float b = -1.560015976e-01f * p + 1.978386790e-01f;
  const float c = -6.151350960e-02f * p + 1.108134463e-01f;
  const float d = -3.754565725e-03f * p + 2.220787667e-02f;
  const float g = (d * p2 + c) * p4 + (b * p2 + a);
  return (g * p - 0.5f) * p2 + e;
#endif
}
VAE_FAST_FN double log1p_unit(double e) { return std::log1p(e); }

// ---- The logarithms of a probability

// Of the smaller one of two that add up to 1.
template <class T>
struct Logs {
  T smaller;  // log(s), clamped at -100; NaN below 0
  T larger;   // log(1 - s)
};

// For s up to 1/2. The smaller one is scaled, for its subnormals, and 0 comes out below the clamp;
// 1 - s is never rounded. Errors 0.79 (0.80) and 0.88 (0.89) ULP.
VAE_FAST_FN Logs<float> logs_of_smaller(float s) {
  const int32_t bits = subtract_wrapping(as_int(abs_(s) * 0x1p23f), kRootHalfBits + (23 << 23));
  const float m = as_float((bits & kMantissaMask) + kRootHalfBits) - 1;
  const float log_s = max_(-100.f, log_reduced(static_cast<float>(bits >> 23), m));
  const bool is_half = s > 1 - 0.707106781f;  // 1 - s is below sqrt(1/2)
  const float n = select(is_half, 1 - 2 * s, -s), k = select(is_half, -1.f, 0.f);
#ifdef __CUDA_ARCH__
  const float log_rest = log_reduced(k, n);
#else
  const bool tiny = s < kTiny;
  const float log_rest = select(tiny, -s, log_reduced(k, select(tiny, 0.f, n)));
#endif
  return {select(s >= 0, log_s, kNan<float>), log_rest};
}
VAE_FAST_FN Logs<double> logs_of_smaller(double s) {
  return {max_(-100., std::log(s)), std::log1p(-s)};
}

// ---- The logistic functions

// What a Bernoulli formula needs of a logit, from one exponential and one division.
template <class T>
struct Logistic {
  T exp_neg_abs;       // exp(-|x|)
  T sigmoid;           // 1 / (1 + exp(-x)); error 2.40 (2.40) ULP
  T softplus_neg_abs;  // log(1 + exp(-|x|)) = softplus(x) - max(0, x)
};

template <class T>
VAE_FAST_FN Logistic<T> logistic(T x) {
  const T e = exp_nonpositive(-abs_(x));
  return {e, divide_by_normal(select(x >= 0, T(1), e), 1 + e), log1p_unit(e)};
}

template <class T>
VAE_FAST_FN T sigmoid(T x) {
  return logistic(x).sigmoid;
}

// log(1 + exp(x)). Error 1.81 (2.33) ULP.
template <class T>
VAE_FAST_FN T softplus(T x) {
  return max_(T(0), x) + logistic(x).softplus_neg_abs;
}

// ---- Sine and cosine

template <class T>
struct SineCosine {
  T sine;
  T cosine;
};

// Of f quarter turns, f in [-1/2, 1/2]. Error of the sine 1.60 (1.60) ULP, of the cosine 0.87
// (1.13).
VAE_FAST_FN SineCosine<float> sine_cosine_quarter(float f) {
  const float t = f * f;
  const float s = ((-4.711734597e-03f * t + 7.972113043e-02f) * t + -6.459672451e-01f) * t;
  const float c = ((8.935576770e-04f * t + -2.085525170e-02f) * t + 2.536685169e-01f) * t;
  return {f * (s + 1.570796371f), (c + -1.233700514f) * t + 1};
}
VAE_FAST_FN SineCosine<double> sine_cosine_quarter(double f) {
#ifdef __CUDA_ARCH__
  SineCosine<double> turn;  // without the local memory that a large angle's reduction needs
  sincospi(0.5 * f, &turn.sine, &turn.cosine);
  return turn;
#else
  const double angle = f * 1.57079632679489661923;
  return {std::sin(angle), std::cos(angle)};
#endif
}

}  // namespace VAE_FAST_ISA
}  // namespace vae_fast
