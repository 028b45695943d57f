/* C's fmod, exact. With |x| = a*2^ex and |y| = b*2^ey, a and b integers of 24 (f64: 53) bits, the result is
   (a * 2^(ex-ey) mod b) * 2^ey. The power of two is raised modulo b by squaring. A product modulo b is the
   product minus b times an estimated quotient, corrected: f32 has all 48 bits of the product in a u64 and
   multiplies by the reciprocal; f64 wraps the product and estimates the quotient in f64. */
#include "codegen/math.h"

#include <math.h>

/* |v| = mantissa * 2^(power - bias - m->mantissa); the mantissa is normalised. */
typedef struct parts { nn_x *mantissa, *power; } parts;

static parts split(const nn_mx *m, nn_x *a) {
  int up = m->mantissa + 2; /* subnormal numbers become normal ones */
  int64_t hidden = INT64_C(1) << m->mantissa;
  nn_x *small = nn_mx_let(m, nn_mx_ltc(m, a, ldexp(1, 1 - m->bias)));
  nn_x *bits = nn_mx_let(m, nn_mx_bits(m, nn_mx_select(m, small, nn_mx_mulc(m, a, ldexp(1, up)), a)));
  nn_x *offset = nn_x_select(m->k, small, nn_mx_int(m, -up), nn_mx_int(m, 0));
  nn_x *power = nn_x_binary(m->k, NN_X_ADD, nn_mx_iop(m, NN_X_SHR, bits, m->mantissa), offset);
  nn_x *fraction = nn_mx_iop(m, NN_X_AND, bits, hidden - 1);
  return (parts){nn_mx_let(m, nn_mx_iop(m, NN_X_OR, fraction, hidden)), nn_mx_let(m, power)};
}

static nn_x *op(const nn_mx *m, nn_xop code, nn_x *a, nn_x *b) { return nn_x_binary(m->k, code, a, b); }

static nn_x *to_float(const nn_mx *m, nn_x *i) { return nn_x_cast(m->k, i, m->t); }

/* r - limit if that is not negative. */
static nn_x *subtract_once(const nn_mx *m, nn_x *r, nn_x *limit) {
  return nn_mx_let(m, op(m, NN_X_SUB, r, nn_x_select(m->k, op(m, NN_X_LE, limit, r), limit, nn_mx_int(m, 0))));
}

/* ---- products modulo b ------------------------------------------------------------------------------------- */

/* The divisor and its reciprocal: 1/b, or for f32 the integer 2^48/b or up to 2 less. */
typedef struct divisor { nn_x *b, *inverse; } divisor;

static divisor divisor_of(const nn_mx *m, nn_x *b) {
  nn_x *inverse = nn_mx_let(m, nn_mx_div(m, nn_mx_c(m, nn_mx_is_f64(m) ? 1 : 0x1p48), to_float(m, b)));
  if (!nn_mx_is_f64(m)) inverse = nn_mx_wide(m, nn_mx_iop(m, NN_X_SUB, nn_x_cast(m->k, inverse, NN_I32), 1));
  return (divisor){b, nn_mx_let(m, inverse)};
}

/* r - b * trunc(r/b), up to an error of the quotient. */
static nn_x *subtract_multiple(const nn_mx *m, nn_x *r, nn_x *quotient, nn_x *b) {
  nn_x *q = nn_x_cast(m->k, quotient, NN_I64);
  return nn_mx_let(m, op(m, NN_X_SUB, r, op(m, NN_X_MUL, q, b)));
}

/* The first quotient is off by a few, the second by one. */
static nn_x *multiply_f64(const nn_mx *m, nn_x *p, nn_x *q, divisor d) {
  nn_x *estimate = nn_mx_mul(m, nn_mx_mul(m, to_float(m, p), to_float(m, q)), d.inverse);
  nn_x *r = subtract_multiple(m, op(m, NN_X_MUL, p, q), estimate, d.b);
  r = subtract_multiple(m, r, nn_mx_mul(m, to_float(m, r), d.inverse), d.b);
  nn_x *zero = nn_mx_int(m, 0);
  r = nn_mx_let(m, op(m, NN_X_ADD, r, nn_x_select(m->k, op(m, NN_X_LT, r, zero), d.b, zero)));
  return subtract_once(m, r, d.b);
}

/* The quotient is at most 4 too small: 1 from the bits of the product that are left out, 2 from the
   reciprocal, 1 from cutting off. What is left has 27 bits, so the low halves are enough for it. */
static nn_x *multiply_f32(const nn_mx *m, nn_x *p, nn_x *q, divisor d) {
  nn_kernel *k = m->k;
  nn_x *product = nn_mx_let(m, op(m, NN_X_MUL, nn_mx_wide(m, p), nn_mx_wide(m, q)));
  nn_x *top = nn_x_cast(k, op(m, NN_X_SHR, product, nn_x_iconst(k, NN_U64, 23)), NN_I32);
  nn_x *quotient = op(m, NN_X_SHR, op(m, NN_X_MUL, nn_mx_wide(m, top), d.inverse), nn_x_iconst(k, NN_U64, 25));
  nn_x *multiple = op(m, NN_X_MUL, nn_x_cast(k, quotient, NN_I32), d.b);
  nn_x *r = nn_mx_let(m, op(m, NN_X_SUB, nn_x_cast(k, product, NN_I32), multiple));
  for (int shift = 2; shift >= 0; shift--) r = subtract_once(m, r, nn_mx_let(m, nn_mx_iop(m, NN_X_SHL, d.b, shift)));
  return r;
}

/* p*q mod b for p, q < b. */
static nn_x *multiply_mod(const nn_mx *m, nn_x *p, nn_x *q, divisor d) {
  return nn_mx_is_f64(m) ? multiply_f64(m, p, q, d) : multiply_f32(m, p, q, d);
}

/* ---- the remainder ------------------------------------------------------------------------------------------- */

/* 2^n mod b for 0 <= n < 2^squarings * m->mantissa. */
static nn_x *power_mod(const nn_mx *m, nn_x *n, int squarings, divisor d) {
  nn_x *r = nn_mx_let(m, op(m, NN_X_SHL, nn_mx_int(m, 1), nn_mx_iop(m, NN_X_SHR, n, squarings)));
  for (int i = squarings - 1; i >= 0; i--) {
    r = multiply_mod(m, r, r, d);
    nn_x *bit = nn_mx_iop(m, NN_X_AND, nn_mx_iop(m, NN_X_SHR, n, i), 1);
    r = subtract_once(m, nn_mx_let(m, op(m, NN_X_SHL, r, bit)), d.b);
  }
  return r;
}

/* i * 2^(power - bias - m->mantissa), exact: in two steps, since the first factor alone may not be normal. */
static nn_x *join(const nn_mx *m, nn_x *i, nn_x *power) {
  nn_x *n = nn_mx_let(m, nn_mx_iop(m, NN_X_SUB, power, m->bias + m->mantissa));
  nn_x *half = nn_mx_let(m, nn_mx_iop(m, NN_X_SHR, n, 1));
  nn_x *scaled = nn_mx_mul(m, to_float(m, i), nn_mx_pow2(m, half));
  return nn_mx_mul(m, scaled, nn_mx_pow2(m, op(m, NN_X_SUB, n, half)));
}

static nn_x *remainder_of(const nn_mx *m, nn_x *a, nn_x *b) {
  parts x = split(m, a), y = split(m, b);
  nn_x *distance = nn_mx_let(m, op(m, NN_X_SUB, x.power, y.power)); /* up to 276, f64: 2098 */
  nn_x *n = nn_mx_let(m, nn_x_select(m->k, op(m, NN_X_LT, distance, nn_mx_int(m, 0)), nn_mx_int(m, 0), distance));
  divisor d = divisor_of(m, y.mantissa);
  nn_x *power = power_mod(m, n, nn_mx_is_f64(m) ? 6 : 4, d);
  nn_x *r = multiply_mod(m, subtract_once(m, x.mantissa, d.b), power, d);
  return nn_mx_select(m, nn_mx_lt(m, a, b), a, join(m, r, y.power));
}

nn_x *nn_mx_fmod(const nn_mx *m, nn_x *x, nn_x *y) {
  nn_x *a = nn_mx_let(m, nn_mx_abs(m, x)), *b = nn_mx_let(m, nn_mx_abs(m, y));
  nn_x *value = nn_mx_copysign(m, remainder_of(m, a, b), x);
  nn_x *zero = nn_mx_select(m, nn_mx_eqc(m, a, 0), x, value);
  nn_x *finite = op(m, NN_X_AND, nn_mx_ltc(m, a, INFINITY), nn_mx_gtc(m, b, 0));
  nn_x *defined = op(m, NN_X_AND, finite, op(m, NN_X_LE, b, nn_mx_c(m, INFINITY)));
  return nn_mx_let(m, nn_mx_select(m, nn_mx_let(m, defined), zero, nn_mx_c(m, NAN)));
}
