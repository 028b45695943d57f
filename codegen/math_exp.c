/* exp and what is made of it: expm1, sinh, cosh, tanh, sigmoid.

   x = n*ln2 + r with |r| <= ln2/2, exp(x) = 2^n * (1 + r + r^2 q(r)). The integer n stays in the low bits
   of x/ln2 + magic; with the exponent's offset in magic, 2^n is these bits, shifted. ln2 is two numbers, the first short enough that its
   product with n is exact. Polynomials: tools/fit_math.py. */
#include "codegen/math.h"

#include <math.h>

static const double ln2 = 0.69314718055994530942;


static const double exp_f32[] = {
  0.5, 0.166665182, 0.041666206, 0.00836901926, 0.00139505207};
/* r / tanh(r/2) in r^2, for |r| <= ln2/2. */
static const double half_angle_f32[] = {2, 0.16666618, -0.00276600057};
/* exp(r) = scale * this in r, for |r| <= ln2/64. The scale's inverse is what ln2/32 as f32 is too large by (one_plus_exp), and makes the
   roundings of the table small. */
static const double part_f32[] = {1.68835052e+10, 1.6883753e+10, 8.44169064e+09};
/* The bits of scale * 2^(j/32), less j/32 of an exponent's unit: with the bits of n + magic, shifted, added they are those of scale * 2^(n/32). */
enum { TABLE = 32, TABLE_SHIFT = 23 - 5 };
static const int32_t table_f32[TABLE] = {
  780287793, 780212560, 780141420, 780074462, 780011778, 779953462, 779899609, 779850317,
  779805686, 779765818, 779730817, 779700790, 779675845, 779656095, 779641652, 779632633,
  779629157, 779631345, 779639321, 779653212, 779673147, 779699259, 779731683, 779770558,
  779816023, 779868225, 779927310, 779993428, 780066735, 780147387, 780235546, 780331375};
/* exp(-x) is nothing beside 1 from here on, and scale * 2^(n/32) a normal number up to 63. */
static const double sigmoid_one = 20;
/* The same for 2^(-s/2), |s| <= 1/32, and 2/ln2 * 2^(j/32) / part2_f32[0]. */
static const double part2_f32[] = {1.95205975, -0.676542286, 0.117233263};
static const int32_t table2_f32[TABLE] = {
  1069364027, 1069373395, 1069388708, 1069410097, 1069437694, 1069471636, 1069512061, 1069559112,
  1069612933, 1069673673, 1069741483, 1069816518, 1069898937, 1069988900, 1070079191, 1070000895,
  1069926625, 1069856469, 1069790517, 1069728861, 1069671595, 1069618815, 1069570620, 1069527110,
  1069488387, 1069454556, 1069425725, 1069402003, 1069383501, 1069370335, 1069362620, 1069360477};
/* The limits in half octaves: 2^127 times the table's numbers is finite, but not times 1.9 more; 2^-127 is nearly nothing. */
static const double silu2_limit = 254;
static const double exp_f64[] = {
  0x1.0000000000000p-1, 0x1.555555555555cp-3, 0x1.555555555555ep-5, 0x1.111111110eb35p-7, 0x1.6c16c16c134bcp-10,
  0x1.a01a01b3ee231p-13, 0x1.a01a01b48b291p-16, 0x1.71ddef0fd4987p-19, 0x1.27e4bec9890aap-22,
  0x1.af6db9613ada7p-26, 0x1.1f9e83bbddaebp-29};

/* What differs between the types. */
typedef struct limits {
  double ln2_high, ln2_low;
  double lowest, highest;   /* exp is 0 below, infinite above */
  double fast_lowest, fast_highest; /* 2^n is a normal number between these */
  double sinh_highest;      /* sinh and cosh are infinite from here on, exp/4 is not */
  double minus_one;         /* expm1 is -1 below */
  double tanh_one;          /* tanh is 1 above */
  double tanh_tiny;         /* tanh(x) = sinh(x) = x below */
  double half_ulp;          /* expm1(x) = x below */
} limits;

static const limits limits_f32 = {0x1.62e4p-1, 1.428606765330187045e-06, -104, 89, -87, 88.37, 89.5, -20, 9.02, 0x1p-13, 0x1p-25};
static const limits limits_f64 = {0x1.62e42feep-1, 1.90821492927058770002e-10, -746, 710, -708, 709.43, 710.6, -45, 20, 0x1p-28, 0x1p-54};

static const limits *limits_of(const nn_mx *m) { return nn_mx_is_f64(m) ? &limits_f64 : &limits_f32; }

nn_x *nn_mx_exp_part(const nn_mx *m, nn_x *r) {
  nn_x *q = nn_mx_is_f64(m) ? NN_MX_POLY(m, r, exp_f64) : NN_MX_POLY(m, r, exp_f32);
  return nn_mx_let(m, nn_mx_fma(m, nn_mx_mul(m, r, r), q, r));
}

/* x = n*ln2 + r; *part = exp(r) - 1, *n_magic = n + magic as a float. */
static void reduce(const nn_mx *m, nn_x *x, double magic, nn_x **n_magic, nn_x **part) {
  const limits *l = limits_of(m);
  *n_magic = nn_mx_let(m, nn_mx_fmac(m, x, 1.44269504088896340736, nn_mx_c(m, magic)));
  nn_x *n = nn_mx_let(m, nn_mx_addc(m, *n_magic, -magic));
  nn_x *r = nn_mx_let(m, nn_mx_fmac(m, n, -l->ln2_low, nn_mx_fmac(m, n, -l->ln2_high, x)));
  *part = nn_mx_exp_part(m, r);
}

/* The magic number for 2^(n - shift), and that. Its own bits leave by the shift. */
static double scale_magic(const nn_mx *m, int shift) { return m->magic + m->bias - shift; }

static nn_x *scale_of(const nn_mx *m, nn_x *n_magic) {
  return nn_mx_let(m, nn_mx_float(m, nn_mx_iop(m, NN_X_SHL, nn_mx_bits(m, n_magic), m->mantissa)));
}

nn_x *nn_mx_exp(const nn_mx *m, nn_x *x) {
  const limits *l = limits_of(m);
  nn_x *n_magic, *part;
  reduce(m, nn_mx_let(m, nn_mx_clamp(m, x, l->lowest, l->highest)), m->magic, &n_magic, &part);
  nn_x *n = nn_mx_let(m, nn_mx_iop(m, NN_X_SUB, nn_mx_bits(m, n_magic), m->magic_bits));
  nn_x *half = nn_mx_let(m, nn_mx_iop(m, NN_X_SHR, n, 1)); /* in two steps: 2^n itself may be subnormal or too large */
  nn_x *rest = nn_x_binary(m->k, NN_X_SUB, n, half);
  nn_x *scaled = nn_mx_mul(m, nn_mx_addc(m, part, 1), nn_mx_pow2(m, half));
  return nn_mx_let(m, nn_mx_mul(m, scaled, nn_mx_pow2(m, rest)));
}

static nn_x *exp_in_limits(const nn_mx *m, nn_x *x) {
  nn_x *n_magic, *part;
  reduce(m, x, scale_magic(m, 0), &n_magic, &part);
  nn_x *scale = scale_of(m, n_magic);
  return nn_mx_let(m, nn_mx_fma(m, scale, part, scale));
}

/* Beyond fast_highest 2^n is infinite, and so must be the sum: at `highest` both of its terms are. */
nn_x *nn_mx_exp_fast(const nn_mx *m, nn_x *x) {
  const limits *l = limits_of(m);
  nn_x *high = nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, x, l->fast_lowest), nn_mx_c(m, l->fast_lowest), x));
  nn_x *in = nn_mx_let(m, nn_mx_select(m, nn_mx_gtc(m, high, l->fast_highest), nn_mx_c(m, l->highest), high));
  return exp_in_limits(m, in);
}

nn_x *nn_mx_expm1_scaled(const nn_mx *m, nn_x *x, int shift) {
  const limits *l = limits_of(m);
  nn_x *n_magic, *part;
  nn_x *low = nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, x, l->minus_one), nn_mx_c(m, l->minus_one), x));
  reduce(m, low, scale_magic(m, shift), &n_magic, &part);
  nn_x *scale = scale_of(m, n_magic);
  return nn_mx_let(m, nn_mx_fma(m, scale, part, nn_mx_addc(m, scale, shift == 0 ? -1 : shift == 1 ? -0.5 : -0.25)));
}

/* f(x) = x near 0, which also keeps -0 and subnormal numbers. */
static nn_x *unless_tiny(const nn_mx *m, nn_x *x, double limit, nn_x *otherwise) {
  return nn_mx_let(m, nn_mx_select(m, nn_mx_ltc(m, nn_mx_abs(m, x), limit), x, otherwise));
}

nn_x *nn_mx_expm1(const nn_mx *m, nn_x *x) {
  const limits *l = limits_of(m);
  nn_x *low = nn_mx_let(m, nn_mx_select(m, nn_mx_gtc(m, x, l->highest), nn_mx_c(m, l->highest), x));
  nn_x *half = nn_mx_expm1_scaled(m, low, 1);
  return unless_tiny(m, x, l->half_ulp, nn_mx_add(m, half, half));
}

/* With q = expm1(|x|)/4: sinh = 2 (q + q / (4q + 1)), cosh = 2 (q + 1/4 + 1/16 / (q + 1/4)). 4q may overflow, the
   result only where it should. */
static nn_x *quarter_expm1(const nn_mx *m, nn_x *size) {
  double highest = limits_of(m)->sinh_highest;
  nn_x *low = nn_mx_let(m, nn_mx_select(m, nn_mx_gtc(m, size, highest), nn_mx_c(m, highest), size));
  return nn_mx_expm1_scaled(m, low, 2);
}

nn_x *nn_mx_sinh(const nn_mx *m, nn_x *x) {
  nn_x *q = quarter_expm1(m, nn_mx_let(m, nn_mx_abs(m, x)));
  nn_x *half = nn_mx_let(m, nn_mx_add(m, q, nn_mx_div(m, q, nn_mx_fmac(m, q, 4, nn_mx_c(m, 1)))));
  return unless_tiny(m, x, limits_of(m)->tanh_tiny, nn_mx_copysign(m, nn_mx_add(m, half, half), x));
}

nn_x *nn_mx_cosh(const nn_mx *m, nn_x *x) {
  nn_x *e = nn_mx_let(m, nn_mx_addc(m, quarter_expm1(m, nn_mx_let(m, nn_mx_abs(m, x))), 0.25));
  nn_x *half = nn_mx_let(m, nn_mx_add(m, e, nn_mx_div(m, nn_mx_c(m, 0.0625), e)));
  return nn_mx_let(m, nn_mx_add(m, half, half));
}

/* Where one step of reduction is enough, and short formulas are near enough: with a fused multiply-add n*ln2 is exact, and ln2 as f32
   is off by 2^-29 only. */
static bool is_short(const nn_mx *m) { return m->is_fused && !nn_mx_is_f64(m); }

static bool uses_table(const nn_mx *m) { return m->has_lookup && is_short(m); }

/* x = -2n + s, -s ln2/2 = r; *scale = 2^n. */
static nn_x *reduce_half_octaves(const nn_mx *m, nn_x *x, nn_x **scale) {
  double magic = scale_magic(m, 0);
  nn_x *n_magic = nn_mx_let(m, nn_mx_fmac(m, x, -0.5, nn_mx_c(m, magic)));
  nn_x *n = nn_mx_let(m, nn_mx_addc(m, n_magic, -magic));
  *scale = scale_of(m, n_magic);
  return nn_mx_let(m, nn_mx_mulc(m, nn_mx_fmac(m, n, 2, x), -ln2 / 2));
}

/* x*sign = n*ln2 + r; *scale = 2^n. */
static nn_x *reduce_to_scale(const nn_mx *m, nn_x *x, int sign, nn_x **scale) {
  const limits *l = limits_of(m);
  double magic = scale_magic(m, 0), step = is_short(m) ? (float)0.693147180559945309417 : l->ln2_high;
  nn_x *n_magic = nn_mx_let(m, nn_mx_fmac(m, x, sign * 1.44269504088896340736, nn_mx_c(m, magic)));
  nn_x *n = nn_mx_let(m, nn_mx_addc(m, n_magic, -magic));
  nn_x *r = nn_mx_let(m, nn_mx_fmac(m, n, -step, sign < 0 ? nn_mx_neg(m, x) : x));
  *scale = scale_of(m, n_magic);
  return is_short(m) ? r : nn_mx_let(m, nn_mx_fmac(m, n, -l->ln2_low, r));
}

/* e of exp(r) = (e + r) / (e - r): r / tanh(r/2), which is even, so short in r^2. Sum and difference are no work for the multipliers. */
static nn_x *half_angle(const nn_mx *m, nn_x *r) {
  return nn_mx_let(m, NN_MX_POLY(m, nn_mx_let(m, nn_mx_mul(m, r, r)), half_angle_f32));
}

/* With h = expm1(2|x|)/2: tanh = h / (h + 1), which is well conditioned for positive h only. */
static nn_x *tanh_of_expm1(const nn_mx *m, nn_x *x) {
  const limits *l = limits_of(m);
  nn_x *size = nn_mx_let(m, nn_mx_abs(m, x));
  nn_x *low = nn_mx_let(m, nn_mx_select(m, nn_mx_gtc(m, size, l->tanh_one), nn_mx_c(m, l->tanh_one), size));
  nn_x *h = nn_mx_expm1_scaled(m, nn_mx_let(m, nn_mx_add(m, low, low)), 1);
  return unless_tiny(m, x, l->tanh_tiny, nn_mx_copysign(m, nn_mx_div(m, h, nn_mx_addc(m, h, 1)), x));
}

/* With exp(2x) = 2^n (e + r) / (e - r): tanh = ((2^n - 1) e + (2^n + 1) r) / ((2^n + 1) e + (2^n - 1) r), which is r / e near 0. The signs keep -0. */
nn_x *nn_mx_tanh(const nn_mx *m, nn_x *x) {
  if (!is_short(m)) return tanh_of_expm1(m, x);
  double most = limits_of(m)->tanh_one;
  nn_x *in = nn_mx_let(m, nn_mx_clamp(m, x, -most, most)), *scale;
  nn_x *r = reduce_to_scale(m, nn_mx_let(m, nn_mx_add(m, in, in)), 1, &scale), *e = half_angle(m, r);
  nn_x *below = nn_mx_let(m, nn_mx_sub(m, nn_mx_c(m, 1), scale)), *above = nn_mx_let(m, nn_mx_addc(m, scale, 1));
  nn_x *over = nn_mx_fma(m, nn_mx_neg(m, below), e, nn_mx_mul(m, above, r));
  nn_x *under = nn_mx_fma(m, above, e, nn_mx_neg(m, nn_mx_mul(m, below, r)));
  return nn_mx_let(m, nn_mx_div(m, over, under));
}

/* 1 + exp(-x) in few operations: -x = n * ln2/32 + r in one step, exp(r) is a short polynomial, and 2^(n/32) comes from a table. What ln2/32 as
   f32 is too large by, d, makes exp too small by a factor of 1 - n d: so n d belongs to the polynomial's first coefficient, and since that is
   1/d, to within 1 %, n itself is added: additions are no work for the multipliers. At the lower limit 2^(n/32) times the scale is finite, but not exp. */
static nn_x *one_plus_exp(const nn_mx *m, nn_x *x) {
  nn_x *in = nn_mx_let(m, nn_mx_clamp(m, x, -limits_f32.highest, sigmoid_one));
  nn_x *n_magic = nn_mx_let(m, nn_mx_fmac(m, in, -TABLE * 1.44269504088896340736, nn_mx_c(m, m->magic)));
  nn_x *bits = nn_mx_let(m, nn_mx_bits(m, n_magic));
  nn_x *entry = nn_mx_let(m, nn_mx_lookup(m, "exp2", table_f32, TABLE, bits));
  nn_x *exponent = nn_mx_let(m, nn_mx_iop(m, NN_X_SHL, bits, TABLE_SHIFT));
  nn_x *n = nn_mx_let(m, nn_mx_addc(m, n_magic, -m->magic)), *first = nn_mx_let(m, nn_mx_addc(m, n, part_f32[0]));
  nn_x *scale = nn_mx_let(m, nn_mx_float(m, nn_x_binary(m->k, NN_X_ADD, entry, exponent)));
  nn_x *minus_r = nn_mx_let(m, nn_mx_fmac(m, n, 0.693147180559945309417 / TABLE, in));
  nn_x *slope = nn_mx_fmac(m, minus_r, part_f32[2], nn_mx_c(m, -part_f32[1]));
  return nn_mx_let(m, nn_mx_fma(m, scale, nn_mx_fma(m, minus_r, slope, first), nn_mx_c(m, 1)));
}

/* 2/ln2 (1 + 2^(-x/2)), the same in half octaves: n is -x rounded to 16ths, s = x + n is exact, and 2^(n/2) is of the table. Fewer operations,
   and all of them but the polynomial's are additions. */
static nn_x *one_plus_exp2(const nn_mx *m, nn_x *x) {
  double magic = ldexp(m->magic, -4);
  nn_x *in = nn_mx_let(m, nn_x_binary(m->k, NN_X_LIMIT, x, nn_mx_c(m, silu2_limit)));
  nn_x *n_magic = nn_mx_let(m, nn_mx_sub(m, nn_mx_c(m, magic), in));
  nn_x *bits = nn_mx_let(m, nn_mx_bits(m, n_magic));
  nn_x *entry = nn_mx_let(m, nn_mx_lookup(m, "exp2_half", table2_f32, TABLE, bits));
  nn_x *exponent = nn_mx_let(m, nn_mx_iop(m, NN_X_SHL, bits, TABLE_SHIFT));
  nn_x *n = nn_mx_let(m, nn_mx_addc(m, n_magic, -magic));
  nn_x *scale = nn_mx_let(m, nn_mx_float(m, nn_x_binary(m->k, NN_X_ADD, entry, exponent)));
  nn_x *s = nn_mx_let(m, nn_mx_add(m, n, in));
  return nn_mx_let(m, nn_mx_fma(m, scale, NN_MX_POLY(m, s, part2_f32), nn_mx_c(m, 2 / ln2)));
}

/* 1 / (1 + scale exp(r)) as *over / *under. */
static void divide_parts(const nn_mx *m, nn_x *r, nn_x *scale, nn_x **over, nn_x **under) {
  nn_x *numerator;
  if (nn_mx_is_f64(m)) {
    numerator = nn_mx_let(m, nn_mx_addc(m, nn_mx_exp_part(m, r), 1));
    *over = nn_mx_c(m, 1);
  } else {
    nn_x *e = half_angle(m, r);
    numerator = nn_mx_add(m, e, r);
    *over = nn_mx_let(m, nn_mx_sub(m, e, r));
  }
  *under = nn_mx_let(m, nn_mx_fma(m, numerator, scale, *over));
}

/* sigmoid(x) so. Beyond -highest exp(-x) is infinite; below -lowest 2^n is 0 or tiny, and so is exp. */
static void sigmoid_parts(const nn_mx *m, nn_x *x, nn_x **over, nn_x **under) {
  const limits *l = limits_of(m);
  nn_x *in = nn_mx_let(m, nn_mx_clamp(m, x, -l->highest, -l->fast_lowest)), *scale;
  nn_x *r = reduce_to_scale(m, in, -1, &scale);
  divide_parts(m, r, scale, over, under);
}

/* Results below the normal numbers may be 0. */
nn_x *nn_mx_sigmoid(const nn_mx *m, nn_x *x) {
  nn_x *over, *under;
  if (uses_table(m)) return nn_mx_let(m, nn_mx_div(m, nn_mx_c(m, 1), one_plus_exp(m, x)));
  sigmoid_parts(m, x, &over, &under);
  return nn_mx_let(m, nn_mx_div(m, over, under));
}

/* y * sigmoid(x). The quotient first: y times a number above 1 might be infinite. */
nn_x *nn_mx_gate(const nn_mx *m, nn_x *y, nn_x *x) {
  nn_x *over, *under;
  if (uses_table(m)) return nn_mx_let(m, nn_mx_div(m, y, one_plus_exp(m, x)));
  sigmoid_parts(m, x, &over, &under);
  if (nn_mx_is_f64(m)) return nn_mx_let(m, nn_mx_div(m, y, under));
  return nn_mx_let(m, nn_mx_mul(m, y, nn_mx_div(m, over, under)));
}

nn_x *nn_mx_silu2(const nn_mx *m, nn_x *x) {
  const limits *l = limits_of(m);
  nn_x *scale, *over, *under;
  if (uses_table(m)) return nn_mx_let(m, nn_mx_div(m, x, one_plus_exp2(m, x)));
  nn_x *in = nn_mx_let(m, nn_mx_clamp(m, x, -l->highest * 2 / ln2, -l->fast_lowest * 2 / ln2));
  nn_x *r = reduce_half_octaves(m, in, &scale), *z = nn_mx_mulc(m, x, ln2 / 2);
  divide_parts(m, r, scale, &over, &under);
  if (nn_mx_is_f64(m)) return nn_mx_let(m, nn_mx_div(m, z, under));
  return nn_mx_let(m, nn_mx_mul(m, z, nn_mx_div(m, over, under)));
}
