/* Elements of every type: known codes, exhaustive round trips, and rounding against a search for the
   nearest value. */
#include <criterion/criterion.h>

#include <math.h>
#include <string.h>

#include "ir/ir.h"

static const nn_dtype small_floats[] = {NN_F16,    NN_BF16,       NN_F8E4M3FN, NN_F8E4M3FNUZ,
                                        NN_F8E5M2, NN_F8E5M2FNUZ, NN_F8E8M0,   NN_F4E2M1};
enum { NSMALL = sizeof small_floats / sizeof *small_floats };

static double value_of_code(nn_dtype t, unsigned code) {
  uint16_t bits = (uint16_t)code;
  unsigned char byte = (unsigned char)code;
  return nn_dtype_bits(t) == 16 ? nn_load_f64(t, &bits, 0) : nn_load_f64(t, &byte, 0);
}

static unsigned code_of_value(nn_dtype t, double value) {
  uint16_t bits = 0;
  nn_store_f64(t, &bits, 0, value);
  return bits;
}

Test(value, known_codes) {
  cr_assert_eq(value_of_code(NN_F16, 0x3c00), 1.0);
  cr_assert_eq(value_of_code(NN_F16, 0x0001), 0x1p-24);
  cr_assert_eq(value_of_code(NN_F16, 0x7bff), 65504.0);
  cr_assert(isinf(value_of_code(NN_F16, 0xfc00)) && isnan(value_of_code(NN_F16, 0x7c01)));
  cr_assert_eq(value_of_code(NN_BF16, 0x4049), 3.140625);
  cr_assert_eq(value_of_code(NN_F8E4M3FN, 0x7e), 448.0);
  cr_assert_eq(value_of_code(NN_F8E4M3FN, 0x01), 0x1p-9);
  cr_assert(isnan(value_of_code(NN_F8E4M3FN, 0x7f)) && isnan(value_of_code(NN_F8E4M3FN, 0xff)));
  cr_assert_eq(value_of_code(NN_F8E4M3FNUZ, 0x7f), 240.0);
  cr_assert(isnan(value_of_code(NN_F8E4M3FNUZ, 0x80)));
  cr_assert_eq(value_of_code(NN_F8E5M2, 0x7b), 57344.0);
  cr_assert(isinf(value_of_code(NN_F8E5M2, 0x7c)) && isnan(value_of_code(NN_F8E5M2, 0x7d)));
  cr_assert_eq(value_of_code(NN_F8E5M2FNUZ, 0x7f), 57344.0);
  cr_assert_eq(value_of_code(NN_F8E8M0, 0x00), 0x1p-127);
  cr_assert_eq(value_of_code(NN_F8E8M0, 0xfe), 0x1p127);
  cr_assert(isnan(value_of_code(NN_F8E8M0, 0xff)));
  const double fp4[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (unsigned i = 0; i < 8; i++)
    cr_assert(value_of_code(NN_F4E2M1, i) == fp4[i] && value_of_code(NN_F4E2M1, i + 8) == -fp4[i]);
}

Test(value, every_code_of_small_floats_round_trips) {
  for (int i = 0; i < NSMALL; i++) {
    nn_dtype t = small_floats[i];
    for (unsigned code = 0; code < 1u << nn_dtype_bits(t); code++) {
      double value = value_of_code(t, code);
      if (isnan(value) || (isinf(value) && t == NN_F8E5M2)) continue; /* storing infinity saturates */
      cr_assert_eq(code_of_value(t, value), code, "%s code %x", nn_dtype_name(t), code);
      cr_assert_eq(nn_round_to(t, value), value);
    }
  }
}

/* Halfway between neighbours the even code wins; a hair off it, the nearer one. */
Test(value, halfway_goes_to_even) {
  for (int i = 0; i < NSMALL; i++) {
    nn_dtype t = small_floats[i];
    if (t == NN_F8E8M0) continue;
    for (unsigned code = 0; code + 1 < 1u << (nn_dtype_bits(t) - 1); code++) {
      double low = value_of_code(t, code), high = value_of_code(t, code + 1), middle = (low + high) / 2;
      if (!isfinite(low) || !isfinite(high)) continue;
      cr_assert_eq(code_of_value(t, middle), code % 2 ? code + 1 : code, "%s %x", nn_dtype_name(t), code);
      cr_assert_eq(code_of_value(t, nextafter(middle, INFINITY)), code + 1);
      cr_assert_eq(code_of_value(t, nextafter(middle, 0)), code);
    }
  }
}

Test(value, overflow_saturates_in_f8_and_f4_only) {
  cr_assert(isinf(nn_round_to(NN_F16, 65520.0)) && nn_round_to(NN_F16, 65519.99) == 65504.0);
  cr_assert(isinf(nn_round_to(NN_BF16, -3.4e38)) && isinf(nn_round_to(NN_F32, 1e39)));
  cr_assert_eq(nn_round_to(NN_F8E4M3FN, 1e30), 448.0);
  cr_assert_eq(nn_round_to(NN_F8E4M3FN, -INFINITY), -448.0);
  cr_assert_eq(nn_round_to(NN_F8E4M3FNUZ, 1e30), 240.0);
  cr_assert_eq(nn_round_to(NN_F8E5M2, INFINITY), 57344.0);
  cr_assert_eq(nn_round_to(NN_F8E5M2FNUZ, -1e30), -57344.0);
  cr_assert_eq(nn_round_to(NN_F4E2M1, 7.0), 6.0);
  cr_assert_eq(nn_round_to(NN_F8E8M0, 1e300), 0x1p127);
  cr_assert_eq(nn_round_to(NN_F8E8M0, 0), 0x1p-127);
  cr_assert_eq(nn_round_to(NN_F8E8M0, 1.5), 2.0);
  cr_assert_eq(nn_round_to(NN_F8E8M0, 1.49), 1.0);
  cr_assert(isnan(nn_round_to(NN_F8E8M0, -1)));
}

Test(value, nan_and_signed_zero) {
  for (int i = 0; i < NSMALL; i++)
    if (small_floats[i] != NN_F4E2M1)
      cr_assert(isnan(nn_round_to(small_floats[i], NAN)), "%s", nn_dtype_name(small_floats[i]));
  cr_assert(signbit(nn_round_to(NN_F16, -0.0)) && signbit(nn_round_to(NN_F8E4M3FN, -1e-30)));
  cr_assert_not(signbit(nn_round_to(NN_F8E4M3FNUZ, -0.0)));
  cr_assert_not(signbit(nn_round_to(NN_F8E5M2FNUZ, -1e-30)));
}

/* 0x1p-24 * (1 + 2^-40) is above half of the least f16: rounding through float first would lose that. */
Test(value, f16_rounds_once) {
  cr_assert_eq(code_of_value(NN_F16, 0x1p-25 * (1 + 0x1p-40)), 1u);
  cr_assert_eq(code_of_value(NN_F16, 0x1p-25), 0u);
  cr_assert_eq(code_of_value(NN_F16, 5e-324), 0u);
}

Test(value, sub_byte_elements_do_not_touch_their_neighbours) {
  unsigned char bytes[2] = {0xff, 0xff};
  nn_store_i64(NN_U4, bytes, 1, 5);
  cr_assert(bytes[0] == 0x5f && bytes[1] == 0xff);
  cr_assert_eq(nn_load_i64(NN_U4, bytes, 1), 5);
  nn_store_i64(NN_I2, bytes, 5, 1);
  cr_assert_eq(bytes[1], 0xf7);
  cr_assert_eq(nn_load_i64(NN_I2, bytes, 4), -1);
  cr_assert_eq(nn_load_i64(NN_U2, bytes, 4), 3);
  nn_store_i64(NN_I4, bytes, 2, -8);
  cr_assert_eq(nn_load_i64(NN_I4, bytes, 2), -8);
  cr_assert_eq(nn_load_f64(NN_I4, bytes, 2), -8.0);
}

Test(value, integers_wrap) {
  int8_t i8;
  uint64_t u64;
  nn_store_i64(NN_I8, &i8, 0, 300);
  cr_assert_eq(i8, 44);
  nn_store_f64(NN_I8, &i8, 0, -129.7);
  cr_assert_eq(i8, 127);
  nn_store_f64(NN_U64, &u64, 0, 0x1p63);
  cr_assert_eq(u64, UINT64_C(1) << 63);
  cr_assert_eq(nn_load_f64(NN_U64, &u64, 0), 0x1p63);
  nn_store_f64(NN_U64, &u64, 0, -1);
  cr_assert_eq(u64, UINT64_MAX);
  nn_store_f64(NN_I8, &i8, 0, NAN);
  cr_assert_eq(i8, 0);
  nn_store_f64(NN_I8, &i8, 0, 1e300);
}

Test(value, int64_to_float_rounds_once) {
  float f;
  int64_t tricky = (INT64_C(1) << 54) + (INT64_C(1) << 30) + 1; /* just above a float's halfway point */
  nn_store_i64(NN_F32, &f, 0, tricky);
  cr_assert_eq(f, (float)tricky);
  nn_store_i64(NN_F32, &f, 0, -tricky);
  cr_assert_eq(f, (float)-tricky);
  nn_store_i64(NN_F32, &f, 0, INT64_MIN);
  cr_assert_eq(f, -0x1p63f);
}

Test(value, bool_and_complex) {
  unsigned char b = 7;
  cr_assert_eq(nn_load_i64(NN_BOOL, &b, 0), 1);
  nn_store_f64(NN_BOOL, &b, 0, 0.25);
  cr_assert_eq(b, 1);
  float c[2] = {9, 9};
  nn_store_f64(NN_C64, c, 0, 2.5);
  cr_assert(c[0] == 2.5f && c[1] == 0 && nn_load_f64(NN_C64, c, 0) == 2.5);
}

Test(value, storage_may_be_unaligned) {
  unsigned char bytes[17];
  for (int t = 0; t < NN_DTYPE_COUNT; t++) {
    if (nn_dtype_kind_of((nn_dtype)t) == NN_KIND_STRING || (nn_dtype)t == NN_C128) continue;
    nn_store_i64((nn_dtype)t, bytes + 1, 0, 1);
    cr_assert_eq(nn_load_i64((nn_dtype)t, bytes + 1, 0), 1, "%s", nn_dtype_name((nn_dtype)t));
  }
}
