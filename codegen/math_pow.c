/* pow. x^y = 2^(y * log2|x|): the product may be 1000 and its fraction must still be right, so the logarithm
   needs more bits than the type has. f32 takes them from f64 if there is one. Otherwise the logarithm, and the
   product, is a sum of two numbers, of which the first has half the bits so that products of two are exact.
   Special values as C's pow. Polynomials: tools/fit_math.py. */
#include "codegen/math.h"

#include <math.h>

static const double log_mid[] = {
  0x1.5555555553933p-1, 0x1.999999a2a1266p-2, 0x1.2492416e2642bp-2, 0x1.c7227dcf2bb7ap-3, 0x1.732b613c4ccb1p-3,
  0x1.58812ce4e7bffp-3};
static const double exp_mid[] = {
  0x1.000000438476ep-1, 0x1.5555559820bf9p-3, 0x1.55547ef55520bp-5, 0x1.11107c8a1b800p-7, 0x1.6d97d05c1bcedp-10,
  0x1.a1b8c2b3dd836p-13};
static const double log_tail_f64[] = {
  0x1.9999999999996p-2, 0x1.2492492492f56p-2, 0x1.c71c71c59592cp-3, 0x1.745d1829f1d0ep-3, 0x1.3b13649929647p-3,
  0x1.112077311868dp-3, 0x1.de3c123eb157fp-4, 0x1.ead1ccaac5000p-4};
static const double log_tail_f32[] = {0.400001526, 0.285470873, 0.234197646};

static const double ln2 = 0.69314718055994530942;

/* ---- f32 through f64 -------------------------------------------------------------------------------------- */

/* |x|^y for positive finite x, in f64. */
static nn_x *power_mid(const nn_mx *m, nn_x *x, nn_x *y) {
  nn_x *e, *z;
  nn_mx_split(m, x, &e, &z);
  nn_x *s = nn_mx_let(m, nn_mx_div(m, nn_mx_addc(m, z, -1), nn_mx_addc(m, z, 1)));
  nn_x *t = nn_mx_let(m, nn_mx_mul(m, s, s));
  nn_x *log_z = nn_mx_fma(m, nn_mx_mul(m, s, t), NN_MX_POLY(m, t, log_mid), nn_mx_add(m, s, s));
  nn_x *log2 = nn_mx_fmac(m, log_z, 1 / ln2, nn_mx_from_int(m, e));
  nn_x *w = nn_mx_let(m, nn_mx_clamp(m, nn_mx_mul(m, y, log2), -200, 200));
  nn_x *n_magic = nn_mx_let(m, nn_mx_addc(m, w, m->magic));
  nn_x *r = nn_mx_let(m, nn_mx_mulc(m, nn_mx_sub(m, w, nn_mx_addc(m, n_magic, -m->magic)), ln2));
  nn_x *part = nn_mx_fma(m, nn_mx_mul(m, r, r), NN_MX_POLY(m, r, exp_mid), r);
  nn_x *n = nn_mx_iop(m, NN_X_SUB, nn_mx_bits(m, n_magic), m->magic_bits);
  return nn_mx_mul(m, nn_mx_addc(m, part, 1), nn_mx_pow2(m, n));
}

/* ---- in two parts --------------------------------------------------------------------------------------- */

/* What differs between the types: 2/(3 ln2), the same as a number of half the bits and the rest, and where
   powers are 0 or infinite for certain. */
typedef struct limits { double c, c_high, c_low, most; } limits;

static const limits limits_f32 = {0x1.ec709ep-1, 0x1.ec6p-1, 0x1.09dc3ap-13, 200};
static const limits limits_f64 = {2 / (3 * 0.69314718055994530942), 0x1.ec709d8000000p-1, 0x1.0e80ff5d27f05p-27, 1100};

static const limits *limits_of(const nn_mx *m) { return nn_mx_is_f64(m) ? &limits_f64 : &limits_f32; }

typedef struct pair { nn_x *high, *low; } pair;

/* The upper half: 12 of 24 bits, 26 of 53. */
static nn_x *upper(const nn_mx *m, nn_x *x) {
  int64_t dropped = (INT64_C(1) << (m->mantissa + 2) / 2) - 1;
  return nn_mx_let(m, nn_mx_float(m, nn_mx_iop(m, NN_X_AND, nn_mx_bits(m, x), ~dropped)));
}

/* a + b of which the first part is short; |a| is the larger, b = what a's rounding lost and more. */
static pair shorten(const nn_mx *m, nn_x *a, nn_x *b) {
  nn_x *high = upper(m, nn_mx_let(m, nn_mx_add(m, a, b)));
  return (pair){high, nn_mx_let(m, nn_mx_sub(m, b, nn_mx_sub(m, high, a)))};
}

/* (z - 1) / (z + 1), the first part short. */
static pair ratio(const nn_mx *m, nn_x *z) {
  nn_x *f = nn_mx_let(m, nn_mx_addc(m, z, -1)), *d = nn_mx_let(m, nn_mx_addc(m, z, 1));
  nn_x *s = upper(m, nn_mx_let(m, nn_mx_div(m, f, d)));
  nn_x *d_high = upper(m, d);
  nn_x *d_low = nn_mx_let(m, nn_mx_sub(m, z, nn_mx_addc(m, d_high, -1)));
  nn_x *left = nn_mx_sub(m, nn_mx_sub(m, f, nn_mx_mul(m, s, d_high)), nn_mx_mul(m, s, d_low));
  return (pair){s, nn_mx_let(m, nn_mx_div(m, left, d))};
}

/* log2(x) = e + 2/(3 ln2) * s * (3 + s^2 + 3/2 s^4 p(s^2)) */
static pair log2_of(const nn_mx *m, nn_x *x) {
  const limits *l = limits_of(m);
  int up = m->mantissa + 2; /* subnormal numbers become normal ones */
  nn_x *e, *z;
  nn_x *small = nn_mx_let(m, nn_mx_ltc(m, x, ldexp(1, 1 - m->bias)));
  nn_mx_split(m, nn_mx_select(m, small, nn_mx_mulc(m, x, ldexp(1, up)), x), &e, &z);
  pair s = ratio(m, z);
  nn_x *whole = nn_mx_let(m, nn_mx_add(m, s.high, s.low));
  nn_x *t = nn_mx_let(m, nn_mx_mul(m, whole, whole)), *square = nn_mx_let(m, nn_mx_mul(m, s.high, s.high));
  nn_x *poly = nn_mx_is_f64(m) ? NN_MX_POLY(m, t, log_tail_f64) : NN_MX_POLY(m, t, log_tail_f32);
  nn_x *tail = nn_mx_mul(m, nn_mx_mulc(m, nn_mx_mul(m, t, t), 1.5), poly);
  tail = nn_mx_let(m, nn_mx_fma(m, s.low, nn_mx_add(m, s.high, whole), tail));
  nn_x *v_high = upper(m, nn_mx_let(m, nn_mx_addc(m, nn_mx_add(m, square, tail), 3)));
  nn_x *v_low = nn_mx_sub(m, tail, nn_mx_sub(m, nn_mx_addc(m, v_high, -3), square));
  nn_x *u = nn_mx_let(m, nn_mx_mul(m, s.high, v_high));
  pair p = shorten(m, u, nn_mx_let(m, nn_mx_fma(m, v_low, whole, nn_mx_mul(m, s.low, v_high))));
  nn_x *high = nn_mx_let(m, nn_mx_mulc(m, p.high, l->c_high));
  nn_x *low = nn_mx_let(m, nn_mx_fmac(m, p.low, l->c, nn_mx_mulc(m, p.high, l->c_low)));
  nn_x *offset = nn_mx_select(m, small, nn_mx_c(m, -up), nn_mx_c(m, 0));
  nn_x *power = nn_mx_let(m, nn_mx_add(m, nn_mx_from_int(m, e), offset));
  nn_x *top = upper(m, nn_mx_let(m, nn_mx_add(m, nn_mx_add(m, high, low), power)));
  return (pair){top, nn_mx_let(m, nn_mx_sub(m, low, nn_mx_sub(m, nn_mx_sub(m, top, power), high)))};
}

/* |x|^y for positive finite x. */
static nn_x *power_pair(const nn_mx *m, nn_x *x, nn_x *y) {
  double most = limits_of(m)->most;
  pair l = log2_of(m, x);
  nn_x *y_high = upper(m, y);
  nn_x *low = nn_mx_let(m, nn_mx_fma(m, nn_mx_sub(m, y, y_high), l.high, nn_mx_mul(m, y, l.low)));
  nn_x *high = nn_mx_let(m, nn_mx_mul(m, y_high, l.high));
  nn_x *w = nn_mx_let(m, nn_mx_add(m, high, low));
  nn_x *n_magic = nn_mx_let(m, nn_mx_addc(m, nn_mx_clamp(m, w, -most, most), m->magic));
  nn_x *n = nn_mx_let(m, nn_mx_addc(m, n_magic, -m->magic));
  nn_x *r = nn_mx_clamp(m, nn_mx_add(m, nn_mx_sub(m, high, n), low), -1, 1);
  r = nn_mx_let(m, nn_mx_mulc(m, r, ln2));
  nn_x *part = nn_mx_exp_part(m, r);
  nn_x *ni = nn_mx_let(m, nn_mx_iop(m, NN_X_SUB, nn_mx_bits(m, n_magic), m->magic_bits));
  nn_x *half = nn_mx_let(m, nn_mx_iop(m, NN_X_SHR, ni, 1));
  nn_x *scaled = nn_mx_mul(m, nn_mx_addc(m, part, 1), nn_mx_pow2(m, half));
  return nn_mx_mul(m, scaled, nn_mx_pow2(m, nn_x_binary(m->k, NN_X_SUB, ni, half)));
}

/* ---- special values ------------------------------------------------------------------------------------------- */

static nn_x *both(const nn_mx *m, nn_xop op, nn_x *a, nn_x *b) { return nn_mx_let(m, nn_x_binary(m->k, op, a, b)); }

static nn_x *is_whole(const nn_mx *m, nn_x *y) { return both(m, NN_X_EQ, nn_mx_round(m, y), y); }

static nn_x *is_nan(const nn_mx *m, nn_x *x) { return nn_x_binary(m->k, NN_X_NE, x, x); }

/* |x| is 0 or infinite. */
static nn_x *with_edges(const nn_mx *m, nn_x *a, nn_x *y, nn_x *power) {
  nn_x *down = nn_mx_let(m, nn_mx_ltc(m, y, 0));
  nn_x *zero = nn_mx_c(m, 0), *infinity = nn_mx_c(m, INFINITY);
  nn_x *of_infinity = nn_mx_select(m, down, zero, infinity), *of_zero = nn_mx_select(m, down, infinity, zero);
  nn_x *finite = nn_mx_select(m, nn_mx_ltc(m, a, INFINITY), power, of_infinity);
  return nn_mx_let(m, nn_mx_select(m, nn_mx_eqc(m, a, 0), of_zero, finite));
}

/* Negative bases: odd whole powers are negative, others NaN unless infinite. */
static nn_x *with_sign(const nn_mx *m, nn_x *x, nn_x *y, nn_x *size) {
  nn_x *whole = is_whole(m, y);
  nn_x *half_whole = is_whole(m, nn_mx_let(m, nn_mx_mulc(m, y, 0.5)));
  nn_x *odd = both(m, NN_X_AND, whole, nn_x_unary(m->k, NN_X_NOT, half_whole));
  nn_x *minus = nn_x_binary(m->k, NN_X_LT, nn_mx_bits(m, x), nn_mx_int(m, 0));
  nn_x *value = nn_mx_select(m, both(m, NN_X_AND, odd, minus), nn_mx_neg(m, size), size);
  nn_x *negative = both(m, NN_X_AND, nn_mx_ltc(m, x, 0), nn_mx_gtc(m, x, -INFINITY));
  nn_x *undefined = both(m, NN_X_AND, negative, nn_x_unary(m->k, NN_X_NOT, whole));
  return nn_mx_let(m, nn_mx_select(m, undefined, nn_mx_c(m, NAN), value));
}

static nn_x *size_of(const nn_mx *m, nn_x *a, nn_x *y) {
  nn_x *capped = nn_mx_let(m, nn_mx_clamp(m, y, -0x1p70, 0x1p70)); /* an infinite power would give 0 * infinity */
  if (nn_mx_is_f64(m) || !m->has_f64) return nn_mx_let(m, power_pair(m, a, capped));
  nn_mx wide = nn_mx_of(m->k, NN_F64);
  nn_x *x64 = nn_mx_let(m, nn_x_cast(m->k, a, NN_F64)), *y64 = nn_mx_let(m, nn_x_cast(m->k, capped, NN_F64));
  return nn_mx_let(m, nn_x_cast(m->k, power_mid(&wide, x64, y64), m->t));
}

static bool is_number(const nn_x *y, double value) { return y->op == NN_X_CONST && y->f == value; }

/* Powers that models write often. */
static nn_x *special_power(const nn_mx *m, nn_x *x, nn_x *y) {
  if (is_number(y, 0)) return nn_mx_c(m, 1);
  if (is_number(y, 1)) return x;
  if (is_number(y, 2)) return nn_mx_mul(m, x, x);
  if (is_number(y, 3)) return nn_mx_mul(m, nn_mx_mul(m, x, x), x);
  if (is_number(y, -1)) return nn_mx_div(m, nn_mx_c(m, 1), x);
  if (!is_number(y, 0.5)) return NULL;
  nn_x *root = nn_mx_sqrt(m, nn_mx_addc(m, x, 0)); /* -0 becomes 0 */
  return nn_mx_select(m, nn_mx_eqc(m, x, -INFINITY), nn_mx_c(m, INFINITY), root);
}

nn_x *nn_mx_pow(const nn_mx *m, nn_x *x, nn_x *y) {
  nn_x *special = special_power(m, x, y);
  if (special) return nn_mx_let(m, special);
  nn_x *a = nn_mx_let(m, nn_mx_abs(m, x));
  nn_x *value = with_sign(m, x, y, with_edges(m, a, y, size_of(m, a, y)));
  nn_x *any_nan = both(m, NN_X_OR, is_nan(m, x), is_nan(m, y));
  value = nn_mx_select(m, any_nan, nn_mx_add(m, x, y), value);
  nn_x *is_one = both(m, NN_X_OR, nn_mx_eqc(m, x, 1), nn_mx_eqc(m, y, 0));
  return nn_mx_let(m, nn_mx_select(m, is_one, nn_mx_c(m, 1), value));
}
