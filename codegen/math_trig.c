/* sin, cos, tan.

   f32: everything in f64. x times 2/pi, the latter cut into numbers of 28 bits so that each product is exact;
   from each product the multiple of 4 is removed, what is left adds up to the angle in quarter turns with
   more than enough bits, for every f32: no table, no branch, no special case for large arguments.

   f32 without f64: reduced in integers (math_turns.c) to a sum of two f32.

   f64: x - n*pi/2 with pi/2 in parts of 22 bits, exact products for |n| < 2^31. Larger arguments lose
   precision and end in values between -1 and 1 that mean nothing. Polynomials: tools/fit_math.py. */
#include "codegen/math.h"

#include <math.h>

static const double two_over_pi[] = {0x1.45f306cp-1, 0x1.c9c882ap-29, 0x1.4fe13a8p-59, 0x1.f47d4dp-86,
                                     0x1.bb81b6cp-113, 0x1.4acc9ep-143, 0x1.0e4107cp-170};
static const double half_pi[] = {0x1.921fb00000000p+0, 0x1.5110b00000000p-22, 0x1.1846980000000p-44,
                                 0x1.3198800000000p-69, 0x1.1701b80000000p-88};
enum { CHUNKS = 7 };

static const double sin_mid[] = {
  -0x1.5555554cb1642p-3, 0x1.1111088fe13e5p-7, -0x1.a00f9865f3a8cp-13, 0x1.6cd713c270a58p-19};
static const double cos_mid[] = {
  0x1.5555554f492a5p-5, -0x1.6c16b89313634p-10, 0x1.a0111c441a61bp-16, -0x1.242a037cc11f9p-22};
static const double sin_f32[] = {-0.166666552, 0.00833219104, -0.000195185989};
static const double cos_f32[] = {0.0416666456, -0.00138873013, 2.44306702e-05};
static const double sin_f64[] = {
  -0x1.5555555555555p-3, 0x1.1111111111067p-7, -0x1.a01a019ffdba1p-13, 0x1.71de3a32a8c64p-19,
  -0x1.ae642ad48fe59p-26, 0x1.6108b2543a590p-33, -0x1.9f6f6b683566fp-41};
static const double cos_f64[] = {
  0x1.5555555555555p-5, -0x1.6c16c16c16b2bp-10, 0x1.a01a019ffb91cp-16, -0x1.27e4fb588e865p-22,
  0x1.1eed6d7a44915p-29, -0x1.9371d4b85f3c3p-37, 0x1.9c7f71b98d7c0p-45};

static nn_x *quarter_of(const nn_mx *m, nn_x *n) { return nn_mx_let(m, nn_mx_bits(m, nn_mx_addc(m, n, m->magic))); }

/* For the values of f32, held as f64. */
static nn_angle reduce_f32(const nn_mx *m, nn_x *x) {
  nn_x *part[CHUNKS], *sum = NULL;
  for (int i = 0; i < CHUNKS; i++) {
    nn_x *product = nn_mx_let(m, nn_mx_mulc(m, x, two_over_pi[i]));
    nn_x *turns = nn_mx_round(m, nn_mx_mulc(m, product, 0.25));
    part[i] = nn_mx_let(m, nn_mx_fmac(m, turns, -4, product));
    sum = sum ? nn_mx_add(m, sum, part[i]) : part[i];
  }
  nn_x *n = nn_mx_let(m, nn_mx_round(m, sum));
  nn_x *rest = nn_mx_sub(m, part[0], n);
  for (int i = 1; i < CHUNKS; i++) rest = nn_mx_add(m, rest, part[i]);
  return (nn_angle){quarter_of(m, n), nn_mx_let(m, nn_mx_mulc(m, rest, 1.57079632679489661923)), NULL};
}

static nn_angle reduce_f64(const nn_mx *m, nn_x *x) {
  nn_x *n = nn_mx_let(m, nn_mx_round(m, nn_mx_mulc(m, x, 0.63661977236758134308)));
  nn_x *r = x;
  for (int i = 0; i < 2; i++) r = nn_mx_let(m, nn_mx_fmac(m, n, -half_pi[i], r));
  nn_x *w = nn_mx_let(m, nn_mx_mulc(m, n, half_pi[2]));
  nn_x *top = nn_mx_let(m, nn_mx_sub(m, r, w));
  nn_x *back = nn_mx_let(m, nn_mx_sub(m, top, r)); /* what the subtraction lost, whichever operand is larger */
  nn_x *lost = nn_mx_sub(m, nn_mx_sub(m, r, nn_mx_sub(m, top, back)), nn_mx_add(m, w, back));
  nn_x *small = nn_mx_fmac(m, n, -half_pi[4], nn_mx_fmac(m, n, -half_pi[3], lost));
  small = nn_mx_let(m, small);
  nn_x *high = nn_mx_let(m, nn_mx_clamp(m, nn_mx_add(m, top, small), -0.8, 0.8));
  nn_x *low = nn_mx_let(m, nn_mx_add(m, nn_mx_sub(m, top, high), small));
  return (nn_angle){quarter_of(m, n), high, nn_mx_clamp(m, low, -0x1p-50, 0x1p-50)};
}

/* The polynomials of sin and cos: an angle without a low part is an f32's, held as f64. */
static void tails(const nn_mx *m, const nn_angle *a, nn_x *z, nn_x **s, nn_x **c) {
  bool is_f64 = nn_mx_is_f64(m), is_mid = is_f64 && !a->low;
  *s = is_mid ? NN_MX_POLY(m, z, sin_mid) : is_f64 ? NN_MX_POLY(m, z, sin_f64) : NN_MX_POLY(m, z, sin_f32);
  *c = is_mid ? NN_MX_POLY(m, z, cos_mid) : is_f64 ? NN_MX_POLY(m, z, cos_f64) : NN_MX_POLY(m, z, cos_f32);
}

/* sin and cos of the reduced angle. */
static void both(const nn_mx *m, const nn_angle *a, nn_x **sine, nn_x **cosine) {
  nn_x *z = nn_mx_let(m, nn_mx_mul(m, a->r, a->r));
  nn_x *half = nn_mx_let(m, nn_mx_mulc(m, z, 0.5));
  nn_x *one_less = nn_mx_let(m, nn_mx_sub(m, nn_mx_c(m, 1), half));
  nn_x *s, *c;
  tails(m, a, z, &s, &c);
  nn_x *s_tail = nn_mx_mul(m, nn_mx_mul(m, a->r, z), s), *c_tail = nn_mx_mul(m, nn_mx_mul(m, z, z), c);
  if (a->low) {
    nn_x *lost = nn_mx_sub(m, nn_mx_sub(m, nn_mx_c(m, 1), one_less), half);
    s_tail = nn_mx_fma(m, a->low, one_less, s_tail);
    c_tail = nn_mx_add(m, nn_mx_sub(m, lost, nn_mx_mul(m, a->r, a->low)), c_tail);
  }
  *sine = nn_mx_let(m, nn_mx_add(m, a->r, s_tail));
  *cosine = nn_mx_let(m, nn_mx_add(m, one_less, c_tail));
}

static nn_x *bit_set(const nn_mx *m, nn_x *quarter, int64_t bit) {
  return nn_x_binary(m->k, NN_X_NE, nn_mx_iop(m, NN_X_AND, quarter, bit), nn_mx_int(m, 0));
}

static nn_x *negate_if(const nn_mx *m, nn_x *cond, nn_x *x) { return nn_mx_select(m, cond, nn_mx_neg(m, x), x); }

typedef enum wanted { SIN, COS, TAN } wanted;

static nn_x *of_angle(const nn_mx *m, const nn_angle *a, wanted what) {
  nn_x *s, *c;
  both(m, a, &s, &c);
  nn_x *odd = nn_mx_let(m, bit_set(m, a->quarter, 1));
  if (what == TAN) {
    nn_x *over = nn_mx_select(m, odd, nn_mx_neg(m, c), s), *under = nn_mx_select(m, odd, s, c);
    return nn_mx_div(m, over, under);
  }
  nn_x *turn = what == SIN ? a->quarter : nn_mx_iop(m, NN_X_ADD, a->quarter, 1);
  nn_x *value = what == SIN ? nn_mx_select(m, odd, c, s) : nn_mx_select(m, odd, s, c);
  return negate_if(m, bit_set(m, turn, 2), nn_mx_let(m, value));
}

/* The reduction takes no sign, infinity, NaN. */
static nn_x *trig_in_f32(const nn_mx *m, nn_x *x, wanted what) {
  nn_x *size = nn_mx_let(m, nn_mx_abs(m, x));
  nn_angle a = nn_mx_turns(m, size);
  nn_x *value = nn_mx_let(m, of_angle(m, &a, what));
  nn_x *minus = nn_x_binary(m->k, NN_X_LT, nn_mx_bits(m, x), nn_mx_int(m, 0));
  if (what != COS) value = nn_mx_let(m, negate_if(m, minus, value));
  return nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, size, INFINITY), value, nn_mx_c(m, NAN)));
}

static nn_x *trig_in_f64(const nn_mx *m, nn_x *x, wanted what) {
  nn_mx wide = nn_mx_of(m->k, NN_F64);
  nn_x *x64 = nn_mx_let(m, nn_x_cast(m->k, x, NN_F64));
  nn_angle a = nn_mx_is_f64(m) ? reduce_f64(&wide, x64) : reduce_f32(&wide, x64);
  return nn_mx_let(m, nn_x_cast(m->k, of_angle(&wide, &a, what), m->t));
}

static nn_x *trig(const nn_mx *m, nn_x *x, wanted what) {
  bool in_f64 = nn_mx_is_f64(m) || m->has_f64;
  nn_x *value = in_f64 ? trig_in_f64(m, x, what) : trig_in_f32(m, x, what);
  if (what == COS) return value;
  double tiny = nn_mx_is_f64(m) ? 0x1p-27 : 0x1p-13; /* also keeps -0 */
  return nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, nn_mx_abs(m, x), tiny), x, value));
}

nn_x *nn_mx_sin(const nn_mx *m, nn_x *x) { return trig(m, x, SIN); }
nn_x *nn_mx_cos(const nn_mx *m, nn_x *x) { return trig(m, x, COS); }
nn_x *nn_mx_tan(const nn_mx *m, nn_x *x) { return trig(m, x, TAN); }
