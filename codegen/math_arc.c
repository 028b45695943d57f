/* asin, acos, atan.

   asin(x) = x + x^3 p(x^2) up to 1/2; above, asin(x) = pi/2 - 2 asin(sqrt((1-x)/2)). atan is reduced to
   |x| <= tan(pi/8) by atan(x) = pi/4 + atan((x-1)/(x+1)) or pi/2 - atan(1/x), with one division. Constants
   like pi/2 come in two parts. Polynomials: tools/fit_math.py. */
#include "codegen/math.h"

static const double asin_f32[] = {
  0.166666597, 0.0750052109, 0.0445136353, 0.0318360627, 0.0143291028, 0.0376733653};
static const double asin_f64[] = {
  0x1.5555555555579p-3, 0x1.333333332dcdcp-4, 0x1.6db6db7247282p-5, 0x1.f1c71a80aee6dp-6, 0x1.6e8be129c4d0cp-6,
  0x1.1c49c6a3a7b7ep-6, 0x1.ca237567f7ad9p-7, 0x1.756627eecec1fp-7, 0x1.61e636c7332b3p-7, 0x1.dc7636b7a00dep-9,
  0x1.664ebb461d439p-6, -0x1.5b7fb36046e8dp-6, 0x1.0c453086cdf42p-5};
static const double atan_f32[] = {
  -0.333329558, 0.199779227, -0.138796329, 0.0805919468};
static const double atan_f64[] = {
  -0x1.555555555553ep-2, 0x1.9999999995a36p-3, -0x1.24924922b6d2cp-3, 0x1.c71c70e93a2e7p-4, -0x1.745cf92bb2378p-4,
  0x1.3b111df20563ep-4, -0x1.10ebe8d69f29dp-4, 0x1.df11c0a57036fp-5, -0x1.9cdcb594568e4p-5, 0x1.37ecbef691eadp-5,
  -0x1.2599331c63d7ap-6};

static double half_pi(const nn_mx *m) { return nn_mx_is_f64(m) ? 0x1.921fb54442d18p+0 : 0x1.921fb6p+0; }
static double half_pi_low(const nn_mx *m) { return nn_mx_is_f64(m) ? 0x1.1a62633145c07p-54 : -0x1.777a5cf72cecep-25; }

/* What asin and acos share: in the large case |x| > 1/2, s = sqrt((1-|x|)/2), else s = |x|; tail = asin(s) - s. */
typedef struct arc { nn_x *large, *s, *tail; } arc;

static arc reduce(const nn_mx *m, nn_x *a) {
  arc r;
  r.large = nn_mx_let(m, nn_mx_gtc(m, a, 0.5));
  nn_x *half = nn_mx_fmac(m, a, -0.5, nn_mx_c(m, 0.5)); /* exact for a >= 1/2 */
  nn_x *z = nn_mx_let(m, nn_mx_select(m, r.large, half, nn_mx_mul(m, a, a)));
  nn_x *root = nn_mx_let(m, nn_mx_sqrt(m, z));
  r.s = nn_mx_let(m, nn_mx_select(m, r.large, root, a));
  nn_x *p = nn_mx_is_f64(m) ? NN_MX_POLY(m, z, asin_f64) : NN_MX_POLY(m, z, asin_f32);
  r.tail = nn_mx_let(m, nn_mx_mul(m, nn_mx_mul(m, r.s, z), p));
  return r;
}

nn_x *nn_mx_asin(const nn_mx *m, nn_x *x) {
  arc r = reduce(m, nn_mx_let(m, nn_mx_abs(m, x)));
  nn_x *small = nn_mx_let(m, nn_mx_add(m, r.s, r.tail));
  nn_x *twice = nn_mx_fmac(m, r.s, -2, nn_mx_c(m, half_pi(m)));
  nn_x *rest = nn_mx_fmac(m, r.tail, -2, nn_mx_c(m, half_pi_low(m)));
  nn_x *size = nn_mx_select(m, r.large, nn_mx_add(m, twice, rest), small);
  return nn_mx_let(m, nn_mx_copysign(m, size, x));
}

/* acos: pi/2 - asin(x) in the middle, 2 asin(s) near 1, pi - 2 asin(s) near -1. */
nn_x *nn_mx_acos(const nn_mx *m, nn_x *x) {
  arc r = reduce(m, nn_mx_let(m, nn_mx_abs(m, x)));
  nn_x *near = nn_mx_let(m, nn_mx_add(m, r.s, r.tail));
  nn_x *right = nn_mx_add(m, near, near);
  nn_x *left_rest = nn_mx_fmac(m, r.tail, -2, nn_mx_c(m, 2 * half_pi_low(m)));
  nn_x *left = nn_mx_add(m, nn_mx_fmac(m, r.s, -2, nn_mx_c(m, 2 * half_pi(m))), left_rest);
  nn_x *tail = nn_mx_copysign(m, nn_mx_abs(m, r.tail), x);
  nn_x *middle = nn_mx_sub(m, nn_mx_c(m, half_pi(m)), nn_mx_add(m, x, nn_mx_addc(m, tail, -half_pi_low(m))));
  nn_x *outer = nn_mx_select(m, nn_mx_ltc(m, x, 0), left, right);
  return nn_mx_let(m, nn_mx_select(m, r.large, outer, middle));
}

nn_x *nn_mx_atan(const nn_mx *m, nn_x *x) {
  nn_x *a = nn_mx_let(m, nn_mx_abs(m, x));
  nn_x *middle = nn_mx_let(m, nn_mx_gtc(m, a, 0x1.a827999fcef32p-2)); /* tan(pi/8) */
  nn_x *large = nn_mx_let(m, nn_mx_gtc(m, a, 0x1.3504f333f9de6p+1));  /* tan(3 pi/8) */
  nn_x *one = nn_mx_c(m, 1), *zero = nn_mx_c(m, 0);
  nn_x *over = nn_mx_select(m, large, nn_mx_c(m, -1), nn_mx_select(m, middle, nn_mx_addc(m, a, -1), a));
  nn_x *under = nn_mx_select(m, large, a, nn_mx_select(m, middle, nn_mx_addc(m, a, 1), one));
  nn_x *s = nn_mx_let(m, nn_mx_div(m, over, under));
  nn_x *z = nn_mx_let(m, nn_mx_mul(m, s, s));
  nn_x *p = nn_mx_is_f64(m) ? NN_MX_POLY(m, z, atan_f64) : NN_MX_POLY(m, z, atan_f32);
  double high = half_pi(m), low = half_pi_low(m);
  nn_x *base = nn_mx_select(m, large, nn_mx_c(m, high), nn_mx_select(m, middle, nn_mx_c(m, high / 2), zero));
  nn_x *rest = nn_mx_select(m, large, nn_mx_c(m, low), nn_mx_select(m, middle, nn_mx_c(m, low / 2), zero));
  nn_x *tail = nn_mx_fma(m, nn_mx_mul(m, s, z), p, rest);
  return nn_mx_let(m, nn_mx_copysign(m, nn_mx_add(m, base, nn_mx_add(m, s, tail)), x));
}
