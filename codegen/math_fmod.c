/* C's fmod, exact. With |x| = a*2^ex and |y| = b*2^ey, a and b integers of 53 bits, the result is
   (a * 2^(ex-ey) mod b) * 2^ey. The power of two is raised modulo b by squaring; a product modulo b is the
   wrapped 64-bit product minus b times a quotient estimated in f64, corrected twice. f32 goes through f64. */
#include "codegen/math.h"

#include <math.h>

/* |v| = mantissa * 2^(power - 1075); mantissa in 2^52..2^53. */
typedef struct parts { nn_x *mantissa, *power; } parts;

static parts split(const nn_mx *m, nn_x *a) {
  nn_x *small = nn_mx_let(m, nn_mx_ltc(m, a, 0x1p-1022));
  nn_x *bits = nn_mx_let(m, nn_mx_bits(m, nn_mx_select(m, small, nn_mx_mulc(m, a, 0x1p54), a)));
  nn_x *fraction = nn_mx_iop(m, NN_X_AND, bits, (INT64_C(1) << 52) - 1);
  nn_x *offset = nn_x_select(m->k, small, nn_mx_int(m, -54), nn_mx_int(m, 0));
  nn_x *power = nn_x_binary(m->k, NN_X_ADD, nn_mx_iop(m, NN_X_SHR, bits, 52), offset);
  return (parts){nn_mx_let(m, nn_mx_iop(m, NN_X_OR, fraction, INT64_C(1) << 52)), nn_mx_let(m, power)};
}

static nn_x *op(const nn_mx *m, nn_xop code, nn_x *a, nn_x *b) { return nn_x_binary(m->k, code, a, b); }

static nn_x *to_float(const nn_mx *m, nn_x *i) { return nn_x_cast(m->k, i, NN_F64); }

/* r - b * trunc(r/b), up to an error of the quotient. */
static nn_x *subtract_multiple(const nn_mx *m, nn_x *r, nn_x *quotient, nn_x *b) {
  nn_x *q = nn_x_cast(m->k, quotient, NN_I64);
  return nn_mx_let(m, op(m, NN_X_SUB, r, op(m, NN_X_MUL, q, b)));
}

/* p*q mod b for p, q < b. The first quotient is off by a few, the second by one. */
static nn_x *multiply_mod(const nn_mx *m, nn_x *p, nn_x *q, nn_x *b, nn_x *inverse) {
  nn_x *estimate = nn_mx_mul(m, nn_mx_mul(m, to_float(m, p), to_float(m, q)), inverse);
  nn_x *r = subtract_multiple(m, op(m, NN_X_MUL, p, q), estimate, b);
  r = subtract_multiple(m, r, nn_mx_mul(m, to_float(m, r), inverse), b);
  nn_x *zero = nn_mx_int(m, 0);
  r = nn_mx_let(m, op(m, NN_X_ADD, r, nn_x_select(m->k, op(m, NN_X_LT, r, zero), b, zero)));
  return nn_mx_let(m, op(m, NN_X_SUB, r, nn_x_select(m->k, op(m, NN_X_LE, b, r), b, zero)));
}

/* 2^d mod b for 0 <= d < 32 * 2^squarings. */
static nn_x *power_mod(const nn_mx *m, nn_x *d, int squarings, nn_x *b, nn_x *inverse) {
  nn_x *one = nn_mx_int(m, 1), *zero = nn_mx_int(m, 0);
  nn_x *r = nn_mx_let(m, op(m, NN_X_SHL, one, nn_mx_iop(m, NN_X_SHR, d, squarings)));
  for (int i = squarings - 1; i >= 0; i--) {
    r = multiply_mod(m, r, r, b, inverse);
    nn_x *bit = nn_mx_iop(m, NN_X_AND, nn_mx_iop(m, NN_X_SHR, d, i), 1);
    r = nn_mx_let(m, op(m, NN_X_SHL, r, bit));
    r = nn_mx_let(m, op(m, NN_X_SUB, r, nn_x_select(m->k, op(m, NN_X_LE, b, r), b, zero)));
  }
  return r;
}

/* i * 2^(power - 1075), exact: in two steps, since the first factor alone may not be normal. */
static nn_x *join(const nn_mx *m, nn_x *i, nn_x *power) {
  nn_x *n = nn_mx_let(m, nn_mx_iop(m, NN_X_SUB, power, 1075));
  nn_x *half = nn_mx_let(m, nn_mx_iop(m, NN_X_SHR, n, 1));
  nn_x *scaled = nn_mx_mul(m, to_float(m, i), nn_mx_pow2(m, half));
  return nn_mx_mul(m, scaled, nn_mx_pow2(m, op(m, NN_X_SUB, n, half)));
}

static nn_x *remainder_of(const nn_mx *m, nn_x *a, nn_x *b, int squarings) {
  parts x = split(m, a), y = split(m, b);
  nn_x *distance = nn_mx_let(m, op(m, NN_X_SUB, x.power, y.power));
  nn_x *d = nn_mx_let(m, nn_x_select(m->k, op(m, NN_X_LT, distance, nn_mx_int(m, 0)), nn_mx_int(m, 0), distance));
  nn_x *inverse = nn_mx_let(m, nn_mx_div(m, nn_mx_c(m, 1), to_float(m, y.mantissa)));
  nn_x *power = power_mod(m, d, squarings, y.mantissa, inverse);
  nn_x *start = op(m, NN_X_SUB, x.mantissa, nn_x_select(m->k, op(m, NN_X_LE, y.mantissa, x.mantissa), y.mantissa, nn_mx_int(m, 0)));
  nn_x *r = multiply_mod(m, nn_mx_let(m, start), power, y.mantissa, inverse);
  return nn_mx_select(m, nn_mx_lt(m, a, b), a, join(m, r, y.power));
}

nn_x *nn_mx_fmod(const nn_mx *m, nn_x *x, nn_x *y) {
  nn_mx wide = nn_mx_of(m->k, NN_F64);
  nn_x *x64 = nn_mx_let(m, nn_x_cast(m->k, x, NN_F64)), *y64 = nn_mx_let(m, nn_x_cast(m->k, y, NN_F64));
  nn_x *a = nn_mx_let(m, nn_mx_abs(&wide, x64)), *b = nn_mx_let(m, nn_mx_abs(&wide, y64));
  nn_x *r = remainder_of(&wide, a, b, nn_mx_is_f64(m) ? 7 : 4);
  nn_x *value = nn_mx_copysign(&wide, r, x64);
  nn_x *zero = nn_mx_select(&wide, nn_mx_eqc(&wide, a, 0), x64, value);
  nn_x *finite = nn_x_binary(m->k, NN_X_AND, nn_mx_ltc(&wide, a, INFINITY), nn_mx_gtc(&wide, b, 0));
  nn_x *defined = nn_x_binary(m->k, NN_X_AND, finite, nn_x_binary(m->k, NN_X_LE, b, nn_mx_c(&wide, INFINITY)));
  return nn_mx_let(m, nn_x_cast(m->k, nn_mx_select(&wide, nn_mx_let(m, defined), zero, nn_mx_c(&wide, NAN)), m->t));
}
