/* Angles of f32 in quarter turns, for every f32, with integers and f32 alone (Payne and Hanek).

   x = M * 2^E with M of 24 bits. Of 2/pi, the first bits give whole turns with M * 2^E and are left out;
   the 96 bits from there on, times M, are the angle as a fixed-point number of 2 bits before the point
   and 62 behind it. No f32 but 0 is nearer than 2^-30 quarter turns to a multiple of pi/2, so 32 bits are good even
   there. The bits of 2/pi are chosen by selects among constants, so that no table is read. */
#include "codegen/math.h"

#include <math.h>

/* The bits of 2/pi behind 32 zeros. */
static const uint32_t two_over_pi[] = {0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};
enum { WINDOWS = 5, WORDS = 3 }; /* places where a window may begin, words of a window */

/* pi/2 in two parts, and the first of them in two of half the bits. */
static const double half_pi = 0x1.921fb6p+0, half_pi_low = -0x1.777a5cp-25, half_pi_first = 0x1.92p+0, half_pi_second = 0x1.fb6p-12;

static nn_x *op(const nn_mx *m, nn_xop code, nn_x *a, nn_x *b) { return nn_x_binary(m->k, code, a, b); }

/* With a number, in a's type. */
static nn_x *op_c(const nn_mx *m, nn_xop code, nn_x *a, uint64_t b) {
  return nn_x_binary(m->k, code, a, nn_x_iconst(m->k, a->dtype, (int64_t)b));
}

/* Word i from the word where bit `start` is. */
static nn_x *word_at(const nn_mx *m, nn_x *start, int i) {
  nn_x *word = nn_x_iconst(m->k, NN_U32, two_over_pi[i + WINDOWS - 1]);
  for (int w = WINDOWS - 2; w >= 0; w--) {
    nn_x *is_before = nn_mx_let(m, op_c(m, NN_X_LT, start, 32 * (uint64_t)(w + 1)));
    word = nn_x_select(m->k, is_before, nn_x_iconst(m->k, NN_U32, two_over_pi[i + w]), word);
  }
  return nn_mx_let(m, word);
}

/* The 96 bits from bit `start` on, as u64 of 32 bits each. The lower word of two moves in two steps, because
   a shift by 32 is none. */
static void window_at(const nn_mx *m, nn_x *start, nn_x **window) {
  nn_x *up = nn_mx_let(m, nn_x_cast(m->k, op_c(m, NN_X_AND, start, 31), NN_U32));
  nn_x *down = nn_mx_let(m, op_c(m, NN_X_XOR, up, 31));
  nn_x *high = word_at(m, start, 0);
  for (int i = 0; i < WORDS; i++) {
    nn_x *low = word_at(m, start, i + 1);
    nn_x *moved = op(m, NN_X_SHR, op_c(m, NN_X_SHR, low, 1), down);
    window[i] = nn_mx_let(m, nn_mx_wide(m, op(m, NN_X_OR, op(m, NN_X_SHL, high, up), moved)));
    high = low;
  }
}

/* x in quarter turns modulo 4, times 2^62: for x >= 1/2. */
static nn_x *fixed_point(const nn_mx *m, nn_x *x) {
  nn_x *bits = nn_mx_let(m, nn_mx_bits(m, x));
  nn_x *start = nn_mx_let(m, nn_mx_iop(m, NN_X_SUB, nn_mx_iop(m, NN_X_SHR, bits, 23), 120));
  nn_x *integer = nn_mx_iop(m, NN_X_OR, nn_mx_iop(m, NN_X_AND, bits, 0x7fffff), 0x800000);
  nn_x *window[WORDS], *part[WORDS];
  window_at(m, start, window);
  for (int i = 0; i < WORDS; i++) part[i] = op(m, NN_X_MUL, nn_mx_wide(m, integer), window[i]);
  nn_x *outer = op(m, NN_X_ADD, op_c(m, NN_X_SHL, part[0], 32), op_c(m, NN_X_SHR, part[2], 32));
  return nn_mx_let(m, op(m, NN_X_ADD, outer, part[1]));
}

/* `count` bits of f from bit `from` on, times 2^(from - 62). */
static nn_x *piece(const nn_mx *m, nn_x *f, int from, int count) {
  nn_x *bits = nn_x_cast(m->k, from > 0 ? op_c(m, NN_X_SHR, f, (uint64_t)from) : f, NN_I32);
  nn_x *integer = nn_mx_iop(m, NN_X_AND, bits, (INT64_C(1) << count) - 1);
  return nn_mx_let(m, nn_mx_mulc(m, nn_x_cast(m->k, integer, NN_F32), ldexp(1, from - 62)));
}

typedef struct pair { nn_x *high, *low; } pair;

/* The signed fraction f * 2^-62 as two numbers. The first piece is 0 or the largest of the three: what its sum
   with the second loses is exact. */
static pair fraction(const nn_mx *m, nn_x *f) {
  nn_x *top = nn_mx_iop(m, NN_X_SHR, nn_x_cast(m->k, op_c(m, NN_X_SHR, f, 32), NN_I32), 8);
  nn_x *first = nn_mx_let(m, nn_mx_mulc(m, nn_x_cast(m->k, top, NN_F32), 0x1p-22));
  nn_x *second = piece(m, f, 18, 22), *third = piece(m, f, 0, 18);
  nn_x *high = nn_mx_let(m, nn_mx_add(m, first, second));
  nn_x *lost = nn_mx_sub(m, second, nn_mx_sub(m, high, first));
  return (pair){high, nn_mx_let(m, nn_mx_add(m, lost, third))};
}

/* Times pi/2. Products of halves are exact, so the sum of what the product of the high parts lost is, too. */
static pair times_half_pi(const nn_mx *m, pair f) {
  nn_x *upper = nn_mx_let(m, nn_mx_float(m, nn_mx_iop(m, NN_X_AND, nn_mx_bits(m, f.high), -4096)));
  nn_x *lower = nn_mx_let(m, nn_mx_sub(m, f.high, upper));
  nn_x *product = nn_mx_let(m, nn_mx_mulc(m, f.high, half_pi));
  nn_x *lost = nn_mx_sub(m, nn_mx_mulc(m, upper, half_pi_first), product);
  lost = nn_mx_fmac(m, lower, half_pi_first, nn_mx_fmac(m, upper, half_pi_second, lost));
  lost = nn_mx_fmac(m, lower, half_pi_second, lost);
  nn_x *rest = nn_mx_fmac(m, f.high, half_pi_low, nn_mx_mulc(m, f.low, half_pi));
  return (pair){product, nn_mx_let(m, nn_mx_add(m, lost, rest))};
}

nn_angle nn_mx_turns(const nn_mx *m, nn_x *x) {
  nn_x *turns = fixed_point(m, x);
  nn_x *n = nn_mx_let(m, op_c(m, NN_X_SHR, op_c(m, NN_X_ADD, turns, UINT64_C(1) << 61), 62));
  nn_x *f = nn_mx_let(m, op(m, NN_X_SUB, turns, op_c(m, NN_X_SHL, n, 62)));
  pair r = times_half_pi(m, fraction(m, f));
  nn_x *is_reduced = nn_mx_let(m, nn_mx_ltc(m, x, half_pi / 2)); /* these do not lie in the windows */
  return (nn_angle){nn_mx_let(m, nn_x_select(m->k, is_reduced, nn_mx_int(m, 0), nn_x_cast(m->k, n, NN_I32))),
                    nn_mx_let(m, nn_mx_select(m, is_reduced, x, r.high)), nn_mx_let(m, nn_mx_select(m, is_reduced, nn_mx_c(m, 0), r.low))};
}
