#!/usr/bin/env python3
"""Fits the polynomials of codegen/math_*.c: minimax (Remez) in 60 digits, coefficients rounded to the
element type one after the other, lowest order first, the rest fitted again each time (on one-sided intervals).

Needs mpmath. Prints C initialisers and the error each fit reaches, as log2 of the weighted maximum."""
import struct
import sys

from mpmath import (asin, atan, cos, erf, erfc, exp, expm1, log, log1p, lu_solve, matrix, mp, mpf, pi, sin, sqrt, tanh)

mp.dps = 60


def round_to(kind, x):
    if kind == "f32":
        return mpf(struct.unpack("f", struct.pack("f", float(x)))[0])
    return mpf(float(x))


def cheb_points(a, b, n):
    return [(a + b) / 2 - (b - a) / 2 * cos(pi * (2 * i + 1) / (2 * n)) for i in range(n)]


def extrema(err, a, b, n):
    """One extremum for each of n sign-alternating regions, from a grid refined by parabolas."""
    grid = cheb_points(a, b, 24 * n)
    grid[0], grid[-1] = a, b
    vals = [err(x) for x in grid]
    out = []
    for x, v in zip(grid, vals):
        if out and (v > 0) == (out[-1][1] > 0):
            if abs(v) > abs(out[-1][1]):
                out[-1] = (x, v)
        else:
            out.append((x, v))
    while len(out) > n:
        out.pop(0 if abs(out[0][1]) < abs(out[-1][1]) else -1)
    return out


def remez(g, w, a, b, powers, rounds=12):
    """Coefficients c of sum c_j x^powers_j nearest to g in the maximum of w*|error|."""
    n = len(powers) + 1
    pts = cheb_points(a, b, n)
    for _ in range(rounds):
        m, rhs = matrix(n, n), matrix(n, 1)
        for i, x in enumerate(pts):
            for j, p in enumerate(powers):
                m[i, j] = x ** p
            m[i, n - 1] = (-1) ** i / w(x)
            rhs[i] = g(x)
        c = lu_solve(m, rhs)
        coeffs = [c[j] for j in range(n - 1)]
        ext = extrema(lambda x: w(x) * (sum(k * x ** p for k, p in zip(coeffs, powers)) - g(x)), a, b, n)
        if len(ext) < n:
            break
        new = [x for x, _ in ext]
        if max(abs(x - y) for x, y in zip(new, pts)) < (b - a) * mpf(10) ** -6:
            break
        pts = new
    return coeffs


def fit(name, kind, g, w, a, b, degree):
    a, b = mpf(a), mpf(b)
    done = []
    if a < 0:  # no fits of high powers alone around 0: round all at once
        done = [round_to(kind, c) for c in remez(g, w, a, b, list(range(degree + 1)))]
    for first in range(len(done), degree + 1):
        rest = lambda x: g(x) - sum(c * x ** i for i, c in enumerate(done))
        coeffs = remez(rest, w, a, b, list(range(first, degree + 1)))
        done.append(round_to(kind, coeffs[0]))
    worst = max(abs(w(x) * (sum(c * x ** i for i, c in enumerate(done)) - g(x))) for x in cheb_points(a, b, 400))
    print("/* %s: 2^%.1f */" % (name, float(log(worst) / log(2))))
    print("static const double %s[] = {%s};" % (name, ", ".join(float(c).hex() if kind == "f64" else "%.9g" % float(c) for c in done)))
    sys.stdout.flush()


def series(f, terms):
    """f given by a power series near 0, where the direct formula cancels."""
    return lambda x: sum(c * x ** i for i, c in enumerate(terms)) if abs(x) < mpf(10) ** -8 else f(x)


q_exp = series(lambda r: (exp(r) - 1 - r) / r ** 2, [mpf(1) / 2, mpf(1) / 6, mpf(1) / 24])
q_exp1 = series(lambda r: (exp(r) - 1) / r, [mpf(1), mpf(1) / 2, mpf(1) / 6])
q_log = series(lambda f: (log1p(f) - f + f * f / 2) / f ** 3, [mpf(1) / 3, -mpf(1) / 4, mpf(1) / 5])
q_sin = series(lambda t: (sin(sqrt(t)) - sqrt(t)) / sqrt(t) ** 3, [-mpf(1) / 6, mpf(1) / 120])
q_cos = series(lambda t: (cos(sqrt(t)) - 1 + t / 2) / t ** 2, [mpf(1) / 24, -mpf(1) / 720])
q_atan = series(lambda t: (atan(sqrt(t)) - sqrt(t)) / sqrt(t) ** 3, [-mpf(1) / 3, mpf(1) / 5])
q_asin = series(lambda t: (asin(sqrt(t)) - sqrt(t)) / sqrt(t) ** 3, [mpf(1) / 6, mpf(3) / 40])
q_erf = series(lambda t: erf(sqrt(t)) / sqrt(t) - 1, [2 / sqrt(pi) - 1, -2 / sqrt(pi) / 3])
# log((1+s)/(1-s)) = 2s + s^3 P(s^2)
q_ratio = series(lambda t: (log((1 + sqrt(t)) / (1 - sqrt(t))) - 2 * sqrt(t)) / sqrt(t) ** 3, [mpf(2) / 3, mpf(2) / 5])
# tail of the same after 2s + 2/3 s^3: s^5 P(s^2)
q_ratio5 = series(lambda t: (log((1 + sqrt(t)) / (1 - sqrt(t))) - 2 * sqrt(t) - sqrt(t) ** 3 * 2 / 3) / sqrt(t) ** 5, [mpf(2) / 5, mpf(2) / 7])
# r / tanh(r/2): an error of e here is one of 2 r e / (this^2 - r^2) in exp(r)
half_angle = series(lambda t: sqrt(t) / tanh(sqrt(t) / 2), [mpf(2), mpf(1) / 6, -mpf(1) / 360])
half_ln2 = log(mpf(2)) / 2 * mpf("1.002")
tiny, tinier = mpf(10) ** -4, mpf(10) ** -12  # weights must not vanish inside the interval
root = sqrt(mpf(2))
t_max = ((root - 1) / (root + 1)) ** 2 * mpf("1.001")
quarter = (pi / 4) ** 2 * mpf("1.001")
eighth = (root - 1) ** 2 * mpf("1.001")


def erfc_scaled(t, center):
    """exp(x*x) * erfc(x) * (x + center) at x = center * (1 + t) / (1 - t)."""
    x = center * (1 + t) / (1 - t)
    return exp(x * x) * erfc(x) * (x + center)


def near_erf(u):
    """erf(x) / x at x^2 = (u + 1) / 2 * 3.25^2."""
    x = sqrt((u + 1) / 2) * mpf("3.25")
    return erf(x) / x if x > tiny else 2 / sqrt(pi)


def fit_table(part, table, first):
    """exp(r) = scale * polynomial of degree 2 for |r| <= ln2/64, and the bits of scale * 2^(j/32), less j/32 of an exponent's unit.
    first: the polynomial's first coefficient, which sets the scale: 1 / (ln2/32 as f32 - ln2/32) to within 1 %, and of those that make the table's roundings small
    the one with the least errors of sigmoid, all f32 tried."""
    a = log(mpf(2)) / 64 * mpf("1.0005")
    c = remez(exp, lambda r: exp(-r), -a, a, [0, 1, 2])
    scale = float(c[0]) / first
    bits = [struct.unpack("i", struct.pack("f", scale * 2.0 ** (j / 32)))[0] - (j << 18) for j in range(32)]
    print("static const double %s[] = {%.9g, %.9g, %.9g};" % (part, first, float(c[1]) / scale, float(c[2]) / scale))
    print("static const int32_t %s[TABLE] = {%s};" % (table, ", ".join(map(str, bits))))


def fit_half_octaves(part, table, first):
    """2^(-s/2) = scale * polynomial of degree 2 for |s| <= 1/32, and the bits of 2/ln2 * scale * 2^(j/32), less j/32 of an exponent's unit.
    first: sets the scale. Just below 2 both it and the table's numbers are finite where they must be; of those that make the table's
    roundings small the one with the least errors of silu2."""
    a, half = mpf(1) / 32 * mpf("1.0005"), log(mpf(2)) / 2
    c = remez(lambda s: exp(-s * half), lambda s: exp(s * half), -a, a, [0, 1, 2])
    scale = float(c[0]) / first
    bits = [struct.unpack("i", struct.pack("f", 2 / float(log(mpf(2))) * scale * 2.0 ** (j / 32)))[0] - (j << 18) for j in range(32)]
    print("static const double %s[] = {%.9g, %.9g, %.9g};" % (part, first, float(c[1]) / scale, float(c[2]) / scale))
    print("static const int32_t %s[TABLE] = {%s};" % (table, ", ".join(map(str, bits))))


FITS = {
    "table2_f32": lambda: fit_half_octaves("part2_f32", "table2_f32", 1.95205975),
    "table_f32": lambda: fit_table("part_f32", "table_f32", 1.68835052e10),
    "exp_f32": lambda: fit("exp_f32", "f32", q_exp, lambda r: r * r + tiny, -half_ln2, half_ln2, 4),
    "half_angle_f32": lambda: fit("half_angle_f32", "f32", half_angle, lambda t: 2 * sqrt(t) / (half_angle(t) ** 2 - t) + tinier, 0, half_ln2 ** 2, 2),
    "near_exp_f32": lambda: fit("near_exp_f32", "f32", q_exp1, lambda r: abs(r) / exp(r) + tiny, -half_ln2, half_ln2, 3),
    "near_erf_f32": lambda: fit("near_erf_f32", "f32", near_erf, lambda u: mpf(1), -1, 1, 10),
    "erf_far_f32": lambda: fit("erf_far_f32", "f32", lambda t: -erfc(t + mpf("2.5")), lambda t: mpf(1), mpf("-1.5"), mpf("1.43"), 14),
    "exp_f64": lambda: fit("exp_f64", "f64", q_exp, lambda r: r * r + tiny, -half_ln2, half_ln2, 10),
    "exp_mid": lambda: fit("exp_mid", "f64", q_exp, lambda r: r * r + tiny, -half_ln2, half_ln2, 5),
    "log_f32": lambda: fit("log_f32", "f32", q_log, lambda f: f * f + tiny, root / 2 - 1, root - 1, 8),
    "log_f64": lambda: fit("log_f64", "f64", q_ratio, lambda t: t + tinier, 0, t_max, 7),
    "log_mid": lambda: fit("log_mid", "f64", q_ratio, lambda t: t + tinier, 0, t_max, 5),
    "log_tail": lambda: fit("log_tail", "f64", q_ratio5, lambda t: t * t + tinier, 0, t_max, 7),
    "log_tail_f32": lambda: fit("log_tail_f32", "f32", q_ratio5, lambda t: t * t + tinier, 0, t_max, 2),
    "sin_f32": lambda: fit("sin_f32", "f32", q_sin, lambda t: t + tinier, 0, quarter, 2),
    "cos_f32": lambda: fit("cos_f32", "f32", q_cos, lambda t: t * t + tinier, 0, quarter, 2),
    "sin_mid": lambda: fit("sin_mid", "f64", q_sin, lambda t: t + tinier, 0, quarter, 3),
    "cos_mid": lambda: fit("cos_mid", "f64", q_cos, lambda t: t * t + tinier, 0, quarter, 3),
    "sin_f64": lambda: fit("sin_f64", "f64", q_sin, lambda t: t + tinier, 0, quarter, 6),
    "cos_f64": lambda: fit("cos_f64", "f64", q_cos, lambda t: t * t + tinier, 0, quarter, 6),
    "atan_f32": lambda: fit("atan_f32", "f32", q_atan, lambda t: t + tiny, 0, eighth, 3),
    "atan_f64": lambda: fit("atan_f64", "f64", q_atan, lambda t: t + tiny, 0, eighth, 10),
    "asin_f32": lambda: fit("asin_f32", "f32", q_asin, lambda t: t + tinier, 0, mpf("0.2505"), 5),
    "asin_f64": lambda: fit("asin_f64", "f64", q_asin, lambda t: t + tinier, 0, mpf("0.2505"), 12),
    "erf_near_f32": lambda: fit("erf_near_f32", "f32", q_erf, lambda t: mpf(1), 0, mpf("1.0"), 6),
    "erf_near_f64": lambda: fit("erf_near_f64", "f64", q_erf, lambda t: mpf(1), 0, mpf("1.0"), 13),
    "erfcx_f64": lambda: fit("erfcx_f64", "f64", lambda t: erfc_scaled(t, mpf(2)), lambda t: mpf(1), mpf(-1) / 3, mpf("0.51"), 16),
}

for wanted in sys.argv[1:] or FITS:
    FITS[wanted]()
