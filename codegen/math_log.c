/* log and what is made of it: log1p, softplus, asinh, acosh, atanh.

   x = 2^e * z with z in [sqrt(1/2), sqrt(2)), log(x) = e*ln2 + log(1 + f), f = z - 1. For f32
   log(1 + f) = f - f^2/2 + f^3 p(f), without a division; for f64 the series in s = f / (2 + f), which needs
   half as many terms. Polynomials: tools/fit_math.py. */
#include "codegen/math.h"

#include <math.h>

static const double log_f32[] = {
  0.333333105, -0.249999866, 0.200022191, -0.166692466, 0.142187864, -0.123844691, 0.118722484, -0.117889427,
  0.0691587999};
static const double log_f64[] = {
  0x1.5555555555555p-1, 0x1.9999999999d13p-2, 0x1.24924924393ffp-2, 0x1.c71c724bc45dfp-3, 0x1.745ce1a74e046p-3,
  0x1.3b202a822c41dp-3, 0x1.0f66c02b48729p-3, 0x1.0f124b0d197bdp-3};

static double ln2_high(const nn_mx *m) { return nn_mx_is_f64(m) ? 0x1.62e42feep-1 : 0x1.62e4p-1; }
static double ln2_low(const nn_mx *m) { return nn_mx_is_f64(m) ? 1.90821492927058770002e-10 : 1.428606765330187045e-06; }
static double smallest_normal(const nn_mx *m) { return ldexp(1, 1 - m->bias); }

void nn_mx_split(const nn_mx *m, nn_x *x, nn_x **e, nn_x **z) {
  int64_t root_bits = nn_mx_is_f64(m) ? INT64_C(0x3fe6a09e667f3bcd) : INT64_C(0x3f3504f3);
  nn_x *bits = nn_mx_let(m, nn_mx_bits(m, x));
  *e = nn_mx_let(m, nn_mx_iop(m, NN_X_SHR, nn_mx_iop(m, NN_X_SUB, bits, root_bits), m->mantissa));
  *z = nn_mx_let(m, nn_mx_float(m, nn_x_binary(m->k, NN_X_SUB, bits, nn_mx_iop(m, NN_X_SHL, *e, m->mantissa))));
}

/* e*ln2 + log(1 + f); e is a float. */
static nn_x *sum_log(const nn_mx *m, nn_x *e, nn_x *f) {
  nn_x *low, *square = nn_mx_let(m, nn_mx_mul(m, f, f));
  if (nn_mx_is_f64(m)) {
    nn_x *s = nn_mx_let(m, nn_mx_div(m, f, nn_mx_addc(m, f, 2)));
    nn_x *t = nn_mx_let(m, nn_mx_mul(m, s, s));
    nn_x *half = nn_mx_let(m, nn_mx_mulc(m, square, 0.5));
    nn_x *tail = nn_mx_fma(m, t, NN_MX_POLY(m, t, log_f64), half);
    low = nn_mx_sub(m, nn_mx_fmac(m, e, ln2_low(m), nn_mx_mul(m, s, tail)), half);
  } else {
    nn_x *tail = nn_mx_mul(m, nn_mx_mul(m, f, square), NN_MX_POLY(m, f, log_f32));
    low = nn_mx_fmac(m, square, -0.5, nn_mx_fmac(m, e, ln2_low(m), tail));
  }
  return nn_mx_let(m, nn_mx_fmac(m, e, ln2_high(m), nn_mx_add(m, f, low)));
}

nn_x *nn_mx_log_positive(const nn_mx *m, nn_x *x) {
  nn_x *e, *z;
  nn_mx_split(m, x, &e, &z);
  nn_x *f = nn_mx_let(m, nn_mx_addc(m, z, -1));
  return sum_log(m, nn_mx_let(m, nn_mx_from_int(m, e)), f);
}

/* f(x) for positive finite x; infinity stays, at `pole` -infinity, NaN below and for NaN. */
static nn_x *with_log_specials(const nn_mx *m, nn_x *x, double pole, nn_x *finite) {
  nn_x *above = nn_mx_select(m, nn_mx_ltc(m, x, INFINITY), finite, x);
  nn_x *below = nn_mx_select(m, nn_mx_eqc(m, x, pole), nn_mx_c(m, -INFINITY), nn_mx_c(m, NAN));
  return nn_mx_let(m, nn_mx_select(m, nn_mx_gtc(m, x, pole), above, below));
}

nn_x *nn_mx_log(const nn_mx *m, nn_x *x) {
  int up = m->mantissa + 2; /* subnormal numbers become normal ones */
  nn_x *e, *z;
  nn_x *small = nn_mx_let(m, nn_mx_ltc(m, x, smallest_normal(m)));
  nn_mx_split(m, nn_mx_select(m, small, nn_mx_mulc(m, x, ldexp(1, up)), x), &e, &z);
  nn_x *f = nn_mx_let(m, nn_mx_addc(m, z, -1));
  nn_x *offset = nn_mx_select(m, small, nn_mx_c(m, -up), nn_mx_c(m, 0));
  nn_x *power = nn_mx_let(m, nn_mx_add(m, nn_mx_from_int(m, e), offset));
  return with_log_specials(m, x, 0, sum_log(m, power, f));
}

/* 1 + x = 2^e * z loses the low bits of x; f = x*2^-e + (2^-e - 1) does not. For x beyond 2^(mantissa+2) they
   do not matter, and 2^-e might not be normal. */
nn_x *nn_mx_log1p_core(const nn_mx *m, nn_x *x) {
  nn_x *e, *z;
  nn_mx_split(m, nn_mx_addc(m, x, 1), &e, &z);
  nn_x *scale = nn_mx_let(m, nn_mx_pow2(m, nn_x_unary(m->k, NN_X_NEG, e)));
  nn_x *exact = nn_mx_fma(m, x, scale, nn_mx_addc(m, scale, -1));
  nn_x *f = nn_mx_select(m, nn_mx_gtc(m, x, ldexp(1, m->mantissa + 2)), nn_mx_addc(m, z, -1), exact);
  return sum_log(m, nn_mx_let(m, nn_mx_from_int(m, e)), nn_mx_let(m, f));
}

/* f(x) = x below half an ulp of 1, which also keeps -0 and subnormal numbers. */
static nn_x *unless_tiny(const nn_mx *m, nn_x *x, double limit, nn_x *otherwise) {
  return nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, nn_mx_abs(m, x), limit), x, otherwise));
}

nn_x *nn_mx_log1p(const nn_mx *m, nn_x *x) {
  nn_x *finite = nn_mx_log1p_core(m, x);
  return unless_tiny(m, x, ldexp(1, -m->mantissa - 2), with_log_specials(m, x, -1, finite));
}

nn_x *nn_mx_softplus(const nn_mx *m, nn_x *x) {
  nn_x *z = nn_mx_exp(m, nn_mx_neg(m, nn_mx_abs(m, x)));
  nn_x *positive = nn_mx_select(m, nn_mx_ltc(m, x, 0), nn_mx_c(m, 0), x);
  return nn_mx_let(m, nn_mx_add(m, positive, nn_mx_log1p_core(m, z)));
}

/* log1p(x), or log(x) + ln2 where x is so large that the argument would have been 2x. */
static nn_x *log1p_or_doubled(const nn_mx *m, nn_x *x, nn_x *argument) {
  nn_x *large = nn_mx_let(m, nn_mx_gtc(m, x, ldexp(1, m->mantissa + 7)));
  nn_x *value = nn_mx_log1p_core(m, nn_mx_let(m, nn_mx_select(m, large, x, argument)));
  nn_x *more = nn_mx_select(m, large, nn_mx_c(m, 0.69314718055994530942), nn_mx_c(m, 0));
  return nn_mx_let(m, nn_mx_add(m, value, more));
}

/* asinh(a) = log1p(a + a^2 / (1 + sqrt(a^2 + 1))) */
nn_x *nn_mx_asinh(const nn_mx *m, nn_x *x) {
  nn_x *a = nn_mx_let(m, nn_mx_abs(m, x));
  nn_x *square = nn_mx_let(m, nn_mx_mul(m, a, a));
  nn_x *root = nn_mx_sqrt(m, nn_mx_addc(m, square, 1));
  nn_x *argument = nn_mx_add(m, a, nn_mx_div(m, square, nn_mx_addc(m, root, 1)));
  nn_x *value = log1p_or_doubled(m, a, argument);
  nn_x *finite = nn_mx_select(m, nn_mx_ltc(m, a, INFINITY), value, a);
  return unless_tiny(m, x, ldexp(1, -m->mantissa / 2 - 2), nn_mx_copysign(m, finite, x));
}

/* acosh(x) = log1p(d + sqrt(2d + d^2)), d = x - 1 */
nn_x *nn_mx_acosh(const nn_mx *m, nn_x *x) {
  nn_x *d = nn_mx_let(m, nn_mx_addc(m, x, -1));
  nn_x *root = nn_mx_sqrt(m, nn_mx_fma(m, d, d, nn_mx_add(m, d, d)));
  nn_x *value = log1p_or_doubled(m, x, nn_mx_add(m, d, root));
  nn_x *finite = nn_mx_select(m, nn_mx_ltc(m, x, INFINITY), value, x);
  return nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, x, 1), nn_mx_c(m, NAN), finite));
}

/* atanh(a) = log1p(2a / (1 - a)) / 2 */
nn_x *nn_mx_atanh(const nn_mx *m, nn_x *x) {
  nn_x *a = nn_mx_let(m, nn_mx_abs(m, x));
  nn_x *argument = nn_mx_let(m, nn_mx_div(m, nn_mx_add(m, a, a), nn_mx_sub(m, nn_mx_c(m, 1), a)));
  nn_x *value = nn_mx_mulc(m, nn_mx_log1p_core(m, argument), 0.5);
  nn_x *edge = nn_mx_select(m, nn_mx_eqc(m, a, 1), nn_mx_c(m, INFINITY), nn_mx_c(m, NAN));
  nn_x *size = nn_mx_select(m, nn_mx_ltc(m, a, 1), value, edge);
  return unless_tiny(m, x, ldexp(1, -m->mantissa / 2 - 2), nn_mx_copysign(m, size, x));
}
