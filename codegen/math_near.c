/* Functions of --fp fast, f32 only: fewer operations than those of math_exp.c and math_erf.c, errors of about 1e-6 (docs/math.md). NaN
   stays NaN, infinities give the limits. Polynomials: tools/fit_math.py. */
#include "codegen/math.h"

/* (exp(r) - 1) / r */
static const double near_exp_f32[] = {0.999966562, 0.500030339, 0.167879581, 0.0415137224};
/* erf(x) / x in u = 2 (x / erf_end)^2 - 1 */
static const double near_erf_f32[] = {0.434639901, -0.214465871, 0.15329352, -0.114079602, 0.0821412653, -0.0572533607,
                                      0.03582412, -0.0161906201, 0.00836052466, -0.00835315045, 0.00377573119};

static const double erf_end = 3.25;                     /* erf is 1 beyond, but for 4e-6 */
static const double exp_lowest = -87.33, exp_highest = 89; /* results are normal above, infinite at the highest */

/* exp(scale x) where that is a normal number or infinite. ln2 is one number: n has 8 bits. */
static nn_x *exp_of(const nn_mx *m, nn_x *x, double scale) {
  double magic = m->magic + m->bias; /* the low bits are the exponent of 2^n */
  nn_x *n_magic = nn_mx_let(m, nn_mx_fmac(m, x, scale * 1.44269504088896340736, nn_mx_c(m, magic)));
  nn_x *n = nn_mx_let(m, nn_mx_addc(m, n_magic, -magic));
  nn_x *scaled = scale == 1 ? x : scale == -1 ? nn_mx_neg(m, x) : nn_mx_mulc(m, x, scale);
  nn_x *r = nn_mx_let(m, nn_mx_fmac(m, n, -0.69314718055994530942, scaled));
  nn_x *p = nn_mx_let(m, nn_mx_fma(m, NN_MX_POLY(m, r, near_exp_f32), r, nn_mx_c(m, 1)));
  return nn_mx_mul(m, p, nn_mx_float(m, nn_mx_iop(m, NN_X_SHL, nn_mx_bits(m, n_magic), m->mantissa)));
}

nn_x *nn_mx_near_exp(const nn_mx *m, nn_x *x) {
  nn_x *in = nn_mx_let(m, nn_mx_select(m, nn_mx_gtc(m, x, exp_highest), nn_mx_c(m, exp_highest), x));
  return nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, x, exp_lowest), nn_mx_c(m, 0), exp_of(m, in, 1)));
}

static nn_x *one_plus_exp(const nn_mx *m, nn_x *x, double scale) {
  double size = scale < 0 ? -scale : scale, lowest = exp_lowest / size, highest = exp_highest / size;
  nn_x *in = nn_mx_let(m, scale < 0 ? nn_mx_clamp(m, x, -highest, -lowest) : nn_mx_clamp(m, x, lowest, highest));
  return nn_mx_let(m, nn_mx_addc(m, exp_of(m, in, scale), 1));
}

/* With lookups the better one is also the shorter one. */
nn_x *nn_mx_near_gate(const nn_mx *m, nn_x *y, nn_x *x) {
  return m->has_lookup ? nn_mx_gate(m, y, x) : nn_mx_let(m, nn_mx_div(m, y, one_plus_exp(m, x, -1)));
}

nn_x *nn_mx_near_sigmoid(const nn_mx *m, nn_x *x) { return nn_mx_near_gate(m, nn_mx_c(m, 1), x); }

/* 1 - 2 / (1 + exp(2x)) */
nn_x *nn_mx_near_tanh(const nn_mx *m, nn_x *x) {
  return nn_mx_let(m, nn_mx_addc(m, nn_mx_div(m, nn_mx_c(m, -2), one_plus_exp(m, x, 2)), 1));
}

nn_x *nn_mx_near_erf(const nn_mx *m, nn_x *x) {
  nn_x *in = nn_mx_let(m, nn_mx_clamp(m, x, -erf_end, erf_end));
  nn_x *u = nn_mx_let(m, nn_mx_fmac(m, nn_mx_mul(m, in, in), 2 / (erf_end * erf_end), nn_mx_c(m, -1)));
  return nn_mx_let(m, nn_mx_mul(m, in, NN_MX_POLY(m, u, near_erf_f32)));
}
