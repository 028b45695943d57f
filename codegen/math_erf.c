/* erf. f32: an odd polynomial below 1, and 1 - erfc as a polynomial around 2.5 up to 3.93, where the result
   is 1. f64: an odd polynomial below 1, above erfc(x) = exp(-x^2) p(t) / (x + 2) with t = (x - 2)/(x + 2).
   Polynomials: tools/fit_math.py. */
#include "codegen/math.h"

static const double erf_near_f32[] = {
  0.128379166, -0.376126289, 0.112836182, -0.026855126, 0.00519073335, -0.000803075091, 7.92030842e-05};
static const double erf_far_f32[] = {
  -0.000406954496, 0.00217821752, -0.0054455772, 0.00835128687, -0.00862354413, 0.0061111073, -0.00279461173,
  0.000556848536, 0.000254382816, -0.000267640949, 8.43709495e-05, 1.65563761e-05, -1.69312461e-05,
  6.84799318e-07, 1.06560151e-06};
static const double erf_near_f64[] = {
  0x1.06eba8214db69p-3, -0x1.812746b037a32p-2, 0x1.ce2f21a046d55p-4, -0x1.b82ce313ee8d5p-6, 0x1.565bcd4df1e09p-8,
  -0x1.c02dc169638a4p-11, 0x1.f9a4f78412e93p-14, -0x1.f4fc6bad3379ep-17, 0x1.bc812c4b586c1p-20,
  -0x1.7bbb8f20aade0p-23, 0x1.cd8e87d41fe34p-26, -0x1.1ebe272556296p-27, 0x1.5ca27ee8d20e4p-29,
  -0x1.9dd36f8965c21p-32};
static const double erfcx_f64[] = {
  0x1.058671b52c776p+0, -0x1.5fd386754effbp-1, 0x1.1e2deea6b1124p-2, -0x1.2a88e6107a920p-5, -0x1.606e415501582p-6,
  0x1.a89eaff0e2010p-8, 0x1.9517bb37ab229p-9, -0x1.b6fbf03ddb64ep-11, -0x1.5ba427ed3f2d8p-11,
  0x1.2047d6ead372dp-15, 0x1.2ef8d971248fbp-13, 0x1.1f01a2729e9c1p-15, -0x1.6c89a5546df9ep-16,
  -0x1.14d644768d7edp-16, -0x1.6c92123491926p-21, 0x1.302e002171e92p-18, 0x1.a5d9cead481d6p-22};

static nn_x *capped(const nn_mx *m, nn_x *a, double top) {
  return nn_mx_let(m, nn_mx_select(m, nn_mx_gtc(m, a, top), nn_mx_c(m, top), a));
}

static nn_x *far_f32(const nn_mx *m, nn_x *a) {
  nn_x *t = nn_mx_let(m, nn_mx_addc(m, capped(m, a, 3.93), -2.5));
  return nn_mx_addc(m, NN_MX_POLY(m, t, erf_far_f32), 1);
}

static nn_x *far_f64(const nn_mx *m, nn_x *a) {
  nn_x *x = capped(m, a, 6);
  nn_x *sum = nn_mx_let(m, nn_mx_addc(m, x, 2));
  nn_x *t = nn_mx_let(m, nn_mx_div(m, nn_mx_addc(m, x, -2), sum));
  nn_x *e = nn_mx_exp_fast(m, nn_mx_neg(m, nn_mx_mul(m, x, x)));
  nn_x *erfc = nn_mx_div(m, nn_mx_mul(m, e, NN_MX_POLY(m, t, erfcx_f64)), sum);
  return nn_mx_sub(m, nn_mx_c(m, 1), erfc);
}

nn_x *nn_mx_erf(const nn_mx *m, nn_x *x) {
  nn_x *a = nn_mx_let(m, nn_mx_abs(m, x));
  nn_x *square = nn_mx_let(m, nn_mx_mul(m, x, x));
  nn_x *p = nn_mx_is_f64(m) ? NN_MX_POLY(m, square, erf_near_f64) : NN_MX_POLY(m, square, erf_near_f32);
  nn_x *far = nn_mx_is_f64(m) ? far_f64(m, a) : far_f32(m, a);
  return nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, a, 1), nn_mx_fma(m, x, p, x), nn_mx_copysign(m, far, x)));
}
