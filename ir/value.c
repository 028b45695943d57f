/* Single elements of every element type, as double or int64.

   All small float formats are one table: exponent and mantissa bits, bias, the code of the largest finite
   value, and what stands above it. Sources: IEEE 754 (f16), OCP "8-bit Floating Point Specification" 1.0
   (e4m3fn, e5m2) and "Microscaling Formats" 1.0 (e2m1, e8m0), ONNX "float8" page (the fnuz kinds, and the
   saturating conversion that is the default of Cast).
   Storage may be unaligned: constants are mapped from files. */
#include "ir/ir.h"

#include <assert.h>
#include <math.h>
#include <string.h>

typedef struct float_format {
  int exponent_bits, mantissa_bits, bias;
  uint32_t largest;  /* code of the largest finite value, without sign */
  uint32_t overflow; /* what values beyond it become: infinity, or largest for saturating types */
  uint32_t nan;      /* code of NaN */
  bool has_negative_zero;
} float_format;

/* The code of e8m0 has no sign and no mantissa: it is handled apart. */
static const float_format *format_of(nn_dtype t) {
  static const float_format f16 = {5, 10, 15, 0x7bff, 0x7c00, 0x7e00, true};
  static const float_format bf16 = {8, 7, 127, 0x7f7f, 0x7f80, 0x7fc0, true};
  static const float_format f8e4m3fn = {4, 3, 7, 0x7e, 0x7e, 0x7f, true};
  static const float_format f8e4m3fnuz = {4, 3, 8, 0x7f, 0x7f, 0x80, false};
  static const float_format f8e5m2 = {5, 2, 15, 0x7b, 0x7b, 0x7f, true};
  static const float_format f8e5m2fnuz = {5, 2, 16, 0x7f, 0x7f, 0x80, false};
  static const float_format f4e2m1 = {2, 1, 1, 0x7, 0x7, 0x7, true}; /* no NaN: ONNX converts it to the largest */
  switch (t) {
  case NN_F16: return &f16;
  case NN_BF16: return &bf16;
  case NN_F8E4M3FN: return &f8e4m3fn;
  case NN_F8E4M3FNUZ: return &f8e4m3fnuz;
  case NN_F8E5M2: return &f8e5m2;
  case NN_F8E5M2FNUZ: return &f8e5m2fnuz;
  case NN_F4E2M1: return &f4e2m1;
  default: return NULL;
  }
}

static uint32_t sign_bit(const float_format *f) { return 1u << (f->exponent_bits + f->mantissa_bits); }

static bool is_nan_code(const float_format *f, uint32_t code) {
  uint32_t magnitude = code & (sign_bit(f) - 1);
  if (!f->has_negative_zero) return code == f->nan;
  if (f->exponent_bits == 2) return false;
  return magnitude > f->largest && !(f->exponent_bits >= 5 && magnitude == f->largest + 1);
}

static double decode(const float_format *f, uint32_t code) {
  if (is_nan_code(f, code)) return NAN;
  uint32_t magnitude = code & (sign_bit(f) - 1);
  double sign = code & sign_bit(f) ? -1.0 : 1.0;
  if (magnitude > f->largest) return sign * INFINITY;
  int exponent = (int)(magnitude >> f->mantissa_bits);
  uint32_t mantissa = magnitude & ((1u << f->mantissa_bits) - 1);
  if (exponent)
    mantissa |= 1u << f->mantissa_bits;
  else
    exponent = 1; /* subnormal */
  return sign * ldexp(mantissa, exponent - f->bias - f->mantissa_bits);
}

/* Rounds once, from the double: counts quanta of the value's binade, and lets a carry run into the
   exponent field. */
static uint32_t encode(const float_format *f, double value) {
  if (isnan(value)) return f->nan;
  uint32_t sign = signbit(value) ? sign_bit(f) : 0;
  double magnitude = fabs(value);
  if (isinf(magnitude)) return sign | f->overflow;
  int exponent, least = 1 - f->bias;
  frexp(magnitude, &exponent);
  exponent--;
  if (exponent < least || magnitude == 0) exponent = least;
  int64_t quanta = (int64_t)nearbyint(ldexp(magnitude, f->mantissa_bits - exponent));
  int64_t code = quanta + ((int64_t)(exponent - least) << f->mantissa_bits);
  if (code > (int64_t)f->largest) return sign | f->overflow;
  if (code == 0 && !f->has_negative_zero) return 0;
  return sign | (uint32_t)code;
}

/* e8m0 holds powers of two, 2^(code-127); 255 is NaN. Zero and what is too small become the least one,
   what is too large the largest; halfway values go up; what has no power of two near it is NaN. */
static uint32_t encode_e8m0(double value) {
  if (isnan(value) || isinf(value) || value < 0) return 0xff;
  if (value == 0) return 0;
  int exponent;
  double fraction = frexp(value, &exponent); /* in [0.5, 1) */
  if (fraction < 0.75) exponent--;
  int code = exponent + 127;
  return code < 0 ? 0 : code > 0xfe ? 0xfe : (uint32_t)code;
}

static double decode_e8m0(uint32_t code) { return code == 0xff ? NAN : ldexp(1.0, (int)code - 127); }

/* ---- storage ----------------------------------------------------------------------------------- */

/* The element's bits in the low bits of the result; types of at most 64 bits. */
static uint64_t load_bits(nn_dtype t, const void *data, size_t index) {
  int bits = nn_dtype_bits(t);
  if (bits < 8) {
    unsigned per_byte = 8u / (unsigned)bits;
    unsigned shift = (unsigned)(index % per_byte) * (unsigned)bits;
    return ((const unsigned char *)data)[index / per_byte] >> shift & ((1u << bits) - 1);
  }
  size_t size = (size_t)bits / 8;
  const char *at = (const char *)data + index * size;
  uint8_t b8;
  uint16_t b16;
  uint32_t b32;
  uint64_t b64;
  switch (size) {
  case 1: return memcpy(&b8, at, 1), b8;
  case 2: return memcpy(&b16, at, 2), b16;
  case 4: return memcpy(&b32, at, 4), b32;
  default: return memcpy(&b64, at, 8), b64;
  }
}

static void store_bits(nn_dtype t, void *data, size_t index, uint64_t value) {
  int bits = nn_dtype_bits(t);
  if (bits < 8) {
    unsigned per_byte = 8u / (unsigned)bits;
    unsigned shift = (unsigned)(index % per_byte) * (unsigned)bits;
    unsigned mask = ((1u << bits) - 1) << shift;
    unsigned char *byte = (unsigned char *)data + index / per_byte;
    *byte = (unsigned char)((*byte & ~mask) | ((unsigned)value << shift & mask));
    return;
  }
  size_t size = (size_t)bits / 8;
  char *at = (char *)data + index * size;
  uint8_t b8 = (uint8_t)value;
  uint16_t b16 = (uint16_t)value;
  uint32_t b32 = (uint32_t)value;
  switch (size) {
  case 1: memcpy(at, &b8, 1); break;
  case 2: memcpy(at, &b16, 2); break;
  case 4: memcpy(at, &b32, 4); break;
  default: memcpy(at, &value, 8); break;
  }
}

static int64_t sign_extend(uint64_t bits, int width) {
  if (width == 64) return (int64_t)bits;
  uint64_t sign = UINT64_C(1) << (width - 1);
  return (int64_t)((bits ^ sign) - sign);
}

/* Towards zero, then modulo 2^64; NaN and infinities give 0: C leaves all of these undefined. */
static uint64_t wrap_to_u64(double value) {
  if (isnan(value) || isinf(value)) return 0;
  double whole = trunc(value);
  if (whole >= -0x1p63 && whole < 0x1p63) return (uint64_t)(int64_t)whole;
  whole = fmod(whole, 0x1p64);
  return whole < 0 ? 0 - (uint64_t)-whole : (uint64_t)whole;
}

static double f64_of_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static uint64_t bits_of_f64(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static double f32_of_bits(uint64_t bits) {
  uint32_t low = (uint32_t)bits;
  float value;
  memcpy(&value, &low, sizeof value);
  return value;
}

/* Double to float beyond the largest float is undefined in C only without IEEE 754 arithmetic (annex F). */
static uint64_t bits_of_f32(double value) {
  float narrow = (float)value;
  uint32_t bits;
  memcpy(&bits, &narrow, sizeof bits);
  return bits;
}

static double decode_float(nn_dtype t, uint64_t bits) {
  if (t == NN_F64) return f64_of_bits(bits);
  if (t == NN_F32) return f32_of_bits(bits);
  if (t == NN_F8E8M0) return decode_e8m0((uint32_t)bits);
  return decode(format_of(t), (uint32_t)bits);
}

static uint64_t encode_float(nn_dtype t, double value) {
  if (t == NN_F64) return bits_of_f64(value);
  if (t == NN_F32) return bits_of_f32(value);
  if (t == NN_F8E8M0) return encode_e8m0(value);
  return encode(format_of(t), value);
}

/* ---- interface --------------------------------------------------------------------------------- */

double nn_load_f64(nn_dtype t, const void *data, size_t index) {
  switch (nn_dtype_kind_of(t)) {
  case NN_KIND_FLOAT: return decode_float(t, load_bits(t, data, index));
  case NN_KIND_INT: return (double)sign_extend(load_bits(t, data, index), nn_dtype_bits(t));
  case NN_KIND_UINT: return (double)load_bits(t, data, index);
  case NN_KIND_BOOL: return load_bits(t, data, index) != 0;
  case NN_KIND_COMPLEX: return nn_load_f64(t == NN_C64 ? NN_F32 : NN_F64, data, 2 * index); /* the real part */
  case NN_KIND_STRING: return 0;
  }
  return 0;
}

int64_t nn_load_i64(nn_dtype t, const void *data, size_t index) {
  switch (nn_dtype_kind_of(t)) {
  case NN_KIND_INT: return sign_extend(load_bits(t, data, index), nn_dtype_bits(t));
  case NN_KIND_UINT: return (int64_t)load_bits(t, data, index);
  case NN_KIND_BOOL: return load_bits(t, data, index) != 0;
  case NN_KIND_FLOAT:
  case NN_KIND_COMPLEX: return (int64_t)wrap_to_u64(nn_load_f64(t, data, index));
  case NN_KIND_STRING: return 0;
  }
  return 0;
}

void nn_store_f64(nn_dtype t, void *data, size_t index, double value) {
  nn_dtype part;
  switch (nn_dtype_kind_of(t)) {
  case NN_KIND_FLOAT: store_bits(t, data, index, encode_float(t, value)); break;
  case NN_KIND_INT:
  case NN_KIND_UINT: store_bits(t, data, index, wrap_to_u64(value)); break;
  case NN_KIND_BOOL: store_bits(t, data, index, value != 0); break;
  case NN_KIND_COMPLEX:
    part = t == NN_C64 ? NN_F32 : NN_F64;
    nn_store_f64(part, data, 2 * index, value);
    nn_store_f64(part, data, 2 * index + 1, 0);
    break;
  case NN_KIND_STRING: break;
  }
}

/* An int64 goes to f32 and smaller through double: that rounds twice only beyond 2^53, where the first
   rounding must not create a tie. Rounding to odd keeps the second one right. */
static double to_odd(int64_t value) {
  if (value >= -(INT64_C(1) << 53) && value <= INT64_C(1) << 53) return (double)value;
  uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
  int drop = 11 - __builtin_clzll(magnitude);
  uint64_t kept = magnitude >> drop;
  if (kept << drop != magnitude) kept |= 1;
  double result = ldexp((double)kept, drop);
  return value < 0 ? -result : result;
}

void nn_store_i64(nn_dtype t, void *data, size_t index, int64_t value) {
  switch (nn_dtype_kind_of(t)) {
  case NN_KIND_INT:
  case NN_KIND_UINT: store_bits(t, data, index, (uint64_t)value); break;
  case NN_KIND_BOOL: store_bits(t, data, index, value != 0); break;
  case NN_KIND_FLOAT:
  case NN_KIND_COMPLEX:
    nn_store_f64(t, data, index, t == NN_F64 || t == NN_C128 ? (double)value : to_odd(value));
    break;
  case NN_KIND_STRING: break;
  }
}

double nn_round_to(nn_dtype t, double value) {
  assert(nn_dtype_is_float(t));
  return decode_float(t, encode_float(t, value));
}
