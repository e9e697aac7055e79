"""The formulas in 120 digits, as one would write them down.

An oracle gives for the value and the gradient in each operand the exact number and its size: that
of what it is the difference of, or how much an operand's own rounding moves it. Errors are counted
in units of the last place of the larger one of the two.
"""

import mpmath as mp


def lgamma_difference(x, t):
    to_x, to_t = mp.digamma(x + t), mp.digamma(x + t) - mp.digamma(t)
    return [(mp.loggamma(x + t) - mp.loggamma(t), x), (to_x, max(1, -mp.log(t))), (to_t, 0)]


def negative_binomial(mu, theta, x):
    if mu == 0 < x:
        return [(mp.inf, 0), (-mp.inf, 0), *negative_binomial(mp.mpf("1e-99"), theta, x)[2:3], None]
    n, m = x + theta, mu + theta
    value = mp.loggamma(theta) - mp.loggamma(n) + mp.loggamma(x + 1) + theta * mp.log1p(mu / theta)
    if x:
        value += x * mp.log1p(theta / mu)
    of_mean = (mu - x) * theta / (mu * m) if x else theta / m
    of_theta = mp.log(m / n) + (n - m) / m
    rest = mp.log(n / theta) - mp.digamma(n) + mp.digamma(theta)
    of_x = mp.digamma(x + 1) - mp.digamma(n) + mp.log1p(theta / mu) if mu else None
    return [
        (value, 0),
        (of_mean, 0),
        (of_theta + rest, of_theta),
        of_x and (of_x, max(1, -mp.log(theta))),
    ]


def poisson(log_rate, x):
    rate = mp.exp(log_rate)
    value = rate - x * log_rate + mp.loggamma(x + 1)
    return [(value, abs(rate - x)), (rate - x, x), (mp.digamma(x + 1) - log_rate, 1)]


def zero_inflated(count, zero_logit, x):
    """From the results for the counts; the gradient in the logit goes before the target's."""
    (nll, size), *gradients = count
    inflated = 1 / (1 + mp.exp(-zero_logit))
    if x > 0:
        value, to_nll, to_logit = nll + mp.log1p(mp.exp(zero_logit)), 1, inflated
    else:
        counted = (1 - inflated) * mp.exp(-nll)
        value, to_nll = -mp.log(inflated + counted), counted / (inflated + counted)
        to_logit = inflated * (1 - inflated) * mp.expm1(-nll) / (inflated + counted)
    power = 0 if x > 0 else abs(nll) + abs(zero_logit)  # of the exponentials among the factors
    scaled = [g and (to_nll * g[0], to_nll * max(g[1], power * abs(g[0]))) for g in gradients]
    own = (to_logit, power * abs(to_logit))
    return [(value, to_nll * size), *scaled[:-1], own, scaled[-1]]


def zero_inflated_poisson(log_rate, zero_logit, x):
    return zero_inflated(poisson(log_rate, x), zero_logit, x)


def zero_inflated_negative_binomial(mu, theta, zero_logit, x):
    return zero_inflated(negative_binomial(mu, theta, x), zero_logit, x)


def gamma(concentration, rate, x):
    mean = rate * x
    if x == 0:
        value = -mp.log(rate) if concentration == 1 else (concentration - 1) * mp.inf
        return [(value, 0), None, (-concentration / rate, 0), None]
    log_mean = mp.log(mean)
    value = mp.loggamma(concentration) - concentration * log_mean + mp.log(x) + mean
    distance = abs(mean - concentration)
    return [
        (value, max(1, distance, abs(mp.log(x)), abs(mp.log(concentration)))),
        (mp.digamma(concentration) - log_mean, max(1, abs(log_mean), 1 / concentration)),
        (x - concentration / rate, x),
        (rate - (concentration - 1) / x, rate),
    ]


def laplace(mean, log_scale, x):
    precision, difference = mp.exp(-log_scale), mean - x
    scaled, slope = abs(difference) * precision, mp.sign(difference) * precision
    size = max(1, scaled, abs(log_scale))
    return [(mp.log(2) + log_scale + scaled, size), (slope, 0), (1 - scaled, size), (-slope, 0)]


def von_mises(mean, log_concentration, x):
    k, d = mp.exp(log_concentration), x - mean
    excess = 2 * k * mp.sin(d / 2) ** 2
    log_i0 = mp.log(mp.besseli(0, k)) if k < 1e6 else k - mp.log(2 * mp.pi * k) / 2 + 1 / (8 * k)
    ratio = mp.besseli(1, k) / mp.besseli(0, k) if k < 1e6 else 1 - 1 / (2 * k) - 1 / (8 * k * k)
    rest = k * (1 - ratio)
    slope = k * mp.sin(d)
    value = mp.log(2 * mp.pi) + log_i0 - k + excess
    size = max(1, excess, abs(log_concentration))
    return [
        (value, size),
        (-slope, 0),
        (excess - rest, max(excess, rest)),
        (slope, 0),
    ]


def student_t(mean, log_scale, df, x):
    scale = mp.exp(log_scale)
    z = (x - mean) / scale
    w = z * z / df
    half = (df + 1) / 2
    constant = mp.log(df * mp.pi) / 2 + mp.loggamma(df / 2) - mp.loggamma(half)
    slope = (df + 1) * z / (df + z * z) / scale
    terms = [
        (1 / df + mp.digamma(df / 2) - mp.digamma(half)) / 2,
        (mp.log1p(w) - w / (1 + w)) / 2,
        -w / (1 + w) / df / 2,
    ]
    power = abs(slope) * max(1, abs(log_scale))
    return [
        (log_scale + constant + half * mp.log1p(w), max(1, abs(log_scale * z * slope * scale))),
        (-slope, power),
        (1 - z * slope * scale, max(1, abs(log_scale * z * slope * scale))),
        (sum(terms), max(map(abs, terms)) * max(1, abs(log_scale))),
        (slope, power),
    ]


def log_normal(mean, logvar, x):
    if x == 0:
        return [(mp.inf, 0), None, None, None]
    distance, precision = mean - mp.log(x), mp.exp(-logvar)
    square, slope = distance**2 * precision / 2, distance * precision
    power = max(1, abs(logvar), abs(mean))
    value = square + logvar / 2 + mp.log(2 * mp.pi) / 2 + mp.log(x)
    return [
        (value, power * max(1, square, abs(slope), abs(mp.log(x)))),
        (slope, power * max(precision, abs(slope))),
        (mp.mpf(0.5) - square, power * max(1, square, abs(slope))),
        ((1 - slope) / x, power * max(1, precision, abs(slope)) / x),
    ]


def continuous_bernoulli(logit, x):
    if logit == 0:
        return [(mp.mpf(0), 0), (mp.mpf(0.5) - x, 0.5), (mp.mpf(0), 0)]
    size, against = abs(logit), 1 - x if logit > 0 else x
    value = against * size + mp.log(-mp.expm1(-size) / size)
    to_size = against + 1 / mp.expm1(size) - 1 / size
    return [(value, against * size), (mp.sign(logit) * to_size, max(against, 0.5)), (-logit, 0)]


def discretized_logistic(mean, log_scale, levels, x):
    half_width = 1 / (levels - 1) / 2

    def value(m, s, n):
        h = 1 / (n - 1) / 2
        a, b = (x + h - m) * mp.exp(-s), (x - h - m) * mp.exp(-s)
        if x < half_width:
            return mp.log1p(mp.exp(-a))
        if x > 1 - half_width:
            return mp.log1p(mp.exp(b))
        return mp.log1p(mp.exp(-a)) + mp.log1p(mp.exp(b)) - mp.log(-mp.expm1(b - a))

    arguments = (mean, log_scale, levels)
    slopes = [mp.diff(value, arguments, order) for order in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    power = max(1, abs(log_scale))
    size, far = mp.exp(-log_scale), (abs(x - mean) + half_width) * mp.exp(-log_scale)
    return [
        (value(*arguments), power * max(1, far)),
        (slopes[0], power * size),
        (slopes[1], power * max(1, far)),
        (slopes[2], power * half_width * max(1, half_width * size)),
        (-slopes[0], power * size),
    ]


def ordinal(location, lower, upper):
    a, b, width = upper - location, lower - location, upper - lower
    to_a, to_b = 1 / (1 + mp.exp(a)), 1 / (1 + mp.exp(-b))
    mass = 1 / mp.expm1(width)
    value = mp.log1p(mp.exp(-a)) + mp.log1p(mp.exp(b)) - mp.log(-mp.expm1(-width))
    far_a, far_b = (0 if mp.isinf(x) else abs(x) for x in (a, b))
    # Where a is far above 0, what it is wrong by is seen in a tiny sigmoid(-a).
    in_a, in_b = to_a * max(1, far_a), to_b * max(1, far_b)
    return [
        (value, max(value, in_a + in_b, mp.mpf(1) if 0 < width < 1 else 0)),
        (to_a - to_b, in_a + in_b),
        (to_b + mass, in_b + mass * max(1, 0 if mp.isinf(width) else width)),
        (-(to_a + mass), in_a + mass * max(1, 0 if mp.isinf(width) else width)),
    ]


def log_choose(n, k):
    return mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)


def binomial(logit, n, k):
    p, q = 1 / (1 + mp.exp(-logit)), 1 / (1 + mp.exp(logit))
    value, slope = -log_choose(n, k) - k * mp.log(p) - (n - k) * mp.log(q), (n - k) * p - k * q
    of_n = mp.digamma(n - k + 1) - mp.digamma(n + 1) - mp.log(q)
    of_k = mp.digamma(k + 1) - mp.digamma(n - k + 1) - logit
    return [(value, abs(slope)), (slope, n * min(p, q)), (of_n, 1), (of_k, 1)]


def beta(a, b, x):
    if x == 0 or x == 1:
        shape = a if x == 0 else b
        value = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
        return [((shape - 1) * mp.inf if shape != 1 else value, 100), None, None, None]
    log_x, log_rest = mp.log(x), mp.log(1 - x)
    value = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
    value -= (a - 1) * log_x + (b - 1) * log_rest
    n, distance = mp.digamma(a + b), abs(b * x - a * (1 - x))
    return [
        (value, max(1, distance, *(abs(mp.log(v)) for v in (a, b, x, 1 - x)))),
        (mp.digamma(a) - n - log_x, max(1, 1 / a, abs(log_x), abs(mp.log(a + b)))),
        (mp.digamma(b) - n - log_rest, max(1, 1 / b, abs(log_rest), abs(mp.log(a + b)))),
        ((b - 1) / (1 - x) - (a - 1) / x, max(1, b) / (1 - x) + max(1, a) / x),
    ]


def beta_binomial(a, b, n, k):
    m, s = n - k, a + b
    parts = [mp.loggamma(x + t) - mp.loggamma(t) for x, t in ((k, a), (m, b), (n, s))]
    value = -log_choose(n, k) - parts[0] - parts[1] + parts[2]
    rise = [mp.digamma(x + t) for x, t in ((k, a), (m, b), (n, s))]
    all_s = rise[2] - mp.digamma(s)
    slopes = [
        (all_s - (rise[0] - mp.digamma(a)), all_s),
        (all_s - (rise[1] - mp.digamma(b)), all_s),
        (mp.digamma(m + 1) - mp.digamma(n + 1) - rise[1] + rise[2], max(1, -mp.log(b))),
        (mp.digamma(k + 1) - mp.digamma(m + 1) - rise[0] + rise[1], max(1, -mp.log(a), -mp.log(b))),
    ]
    size = max(1, abs(m * a - k * b) / (n + s), -mp.log(a), -mp.log(b))
    return [(value, size), *((slope, max(abs(slope), part)) for slope, part in slopes)]
