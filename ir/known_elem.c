/* Known contents, one element: a pointwise op on integers or bools that are numbers or expressions of
   symbols. Numbers are computed exactly as the element type does, wrapping included. Expressions do not
   wrap: a result is only known where it cannot leave the type, except that 32- and 64-bit integers are
   taken to hold every size that a model works with. */
#include "ir/ir.h"

/* ---- numbers -------------------------------------------------------------------------------------- */

/* The value that type t keeps of v; false for u64 values beyond int64, which have no expression. */
static bool wrap_to(nn_dtype t, int64_t v, int64_t *out) {
  int bits = nn_dtype_bits(t);
  bool is_signed = nn_dtype_kind_of(t) == NN_KIND_INT;
  *out = v;
  if (t == NN_BOOL) {
    *out = v != 0;
  } else if (bits < 64) {
    uint64_t mask = ((uint64_t)1 << bits) - 1, low = (uint64_t)v & mask;
    bool is_negative = is_signed && low >> (bits - 1);
    *out = is_negative ? (int64_t)(low | ~mask) : (int64_t)low;
  }
  return is_signed || *out >= 0;
}

static int64_t wrapping_add(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
static int64_t wrapping_sub(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }
static int64_t wrapping_mul(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }

static int64_t divide(int64_t a, int64_t b) {
  if (b == 0) return 0;
  return b == -1 ? wrapping_sub(0, a) : a / b;
}

/* Sign of the dividend; b is not 0. */
static int64_t remainder_of(int64_t a, int64_t b) { return b == -1 ? 0 : a % b; }

/* Sign of the divisor. */
static int64_t floor_remainder(int64_t a, int64_t b) {
  int64_t r = remainder_of(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static bool compute(nn_opcode code, const int64_t *in, int64_t *out) {
  int64_t a = in[0], b = in[1];
  switch (code) {
  case NN_OP_COPY:
  case NN_OP_CAST: *out = a; return true;
  case NN_OP_NEG: *out = wrapping_sub(0, a); return true;
  case NN_OP_ABS: *out = a < 0 ? wrapping_sub(0, a) : a; return true;
  case NN_OP_SIGN: *out = (a > 0) - (a < 0); return true;
  case NN_OP_RELU: *out = a > 0 ? a : 0; return true;
  case NN_OP_NOT: *out = !a; return true;
  case NN_OP_ADD: *out = wrapping_add(a, b); return true;
  case NN_OP_SUB: *out = wrapping_sub(a, b); return true;
  case NN_OP_MUL: *out = wrapping_mul(a, b); return true;
  case NN_OP_DIV: *out = divide(a, b); return true;
  case NN_OP_MOD: *out = b ? floor_remainder(a, b) : 0; return b != 0;
  case NN_OP_FMOD: *out = b ? remainder_of(a, b) : 0; return b != 0;
  case NN_OP_MIN: *out = a < b ? a : b; return true;
  case NN_OP_MAX: *out = a > b ? a : b; return true;
  case NN_OP_AND: *out = a && b; return true;
  case NN_OP_OR: *out = a || b; return true;
  case NN_OP_NE:
  case NN_OP_XOR: *out = a != b; return true;
  case NN_OP_EQ: *out = a == b; return true;
  case NN_OP_LT: *out = a < b; return true;
  case NN_OP_LE: *out = a <= b; return true;
  case NN_OP_SELECT: *out = a ? b : in[2]; return true;
  default: return false;
  }
}

/* ---- expressions ---------------------------------------------------------------------------------- */

static int64_t least(nn_dim d) {
  int64_t min, max;
  nn_dim_range(d, &min, &max);
  return min;
}

static nn_dim negation(nn_module *m, nn_dim cond01) { return nn_dim_sub(m, nn_dim_const(m, 1), cond01); }
static nn_dim difference(nn_module *m, nn_dim a, nn_dim b) { return negation(m, nn_dim_is_eq(m, a, b)); }

/* Truncation is rounding down only where nothing is negative; x / 0 is 0 in both. */
static nn_dim quotient(nn_module *m, nn_dim a, nn_dim b) {
  return least(a) >= 0 && least(b) >= 0 ? nn_dim_floordiv(m, a, b) : NULL;
}

static nn_dim modulus(nn_module *m, nn_opcode code, nn_dim a, nn_dim b) {
  bool signs_agree = code == NN_OP_MOD || least(a) >= 0;
  return least(b) > 0 && signs_agree ? nn_dim_mod(m, a, b) : NULL;
}

static nn_dim sign_of(nn_module *m, nn_dim a) {
  nn_dim zero = nn_dim_const(m, 0);
  return nn_dim_sub(m, nn_dim_is_lt(m, zero, a), nn_dim_is_lt(m, a, zero));
}

static nn_dim express(nn_module *m, nn_opcode code, const nn_dim *in) {
  nn_dim a = in[0], b = in[1], zero = nn_dim_const(m, 0);
  switch (code) {
  case NN_OP_COPY:
  case NN_OP_CAST: return a;
  case NN_OP_NEG: return nn_dim_sub(m, zero, a);
  case NN_OP_ABS: return nn_dim_max(m, a, nn_dim_sub(m, zero, a));
  case NN_OP_SIGN: return sign_of(m, a);
  case NN_OP_RELU: return nn_dim_max(m, a, zero);
  case NN_OP_NOT: return negation(m, a);
  case NN_OP_ADD: return nn_dim_add(m, a, b);
  case NN_OP_SUB: return nn_dim_sub(m, a, b);
  case NN_OP_AND:
  case NN_OP_MUL: return nn_dim_mul(m, a, b);
  case NN_OP_DIV: return quotient(m, a, b);
  case NN_OP_MOD:
  case NN_OP_FMOD: return modulus(m, code, a, b);
  case NN_OP_MIN: return nn_dim_min(m, a, b);
  case NN_OP_OR:
  case NN_OP_MAX: return nn_dim_max(m, a, b);
  case NN_OP_XOR:
  case NN_OP_NE: return difference(m, a, b);
  case NN_OP_EQ: return nn_dim_is_eq(m, a, b);
  case NN_OP_LT: return nn_dim_is_lt(m, a, b);
  case NN_OP_LE: return negation(m, nn_dim_is_lt(m, b, a));
  case NN_OP_SELECT: return nn_dim_select(m, a, b, in[2]);
  default: return NULL;
  }
}

/* Whether values of type t can be trusted to be d, without wrapping. */
static bool fits(nn_dtype t, nn_dim d) {
  int64_t min, max;
  int bits = nn_dtype_bits(t);
  nn_dim_range(d, &min, &max);
  bool is_signed = nn_dtype_kind_of(t) == NN_KIND_INT;
  if (!is_signed && min < 0) return false;
  if (t == NN_BOOL) return max <= 1;
  if (bits >= 32) return true;
  int64_t limit = (int64_t)1 << (is_signed ? bits - 1 : bits);
  return max < limit && (!is_signed || min >= -limit);
}

nn_dim nn_known_elem(nn_module *m, nn_opcode code, nn_dtype result, const nn_dim *in, int nin) {
  int64_t values[3] = {0}, value;
  nn_dim operands[3] = {nn_dim_const(m, 0), nn_dim_const(m, 0), nn_dim_const(m, 0)};
  bool is_const = true;
  if (nin > 3) return NULL;
  for (int i = 0; i < nin; i++) {
    operands[i] = in[i];
    is_const = nn_dim_is_const(in[i], &values[i]) && is_const;
  }
  if (is_const) {
    return compute(code, values, &value) && wrap_to(result, value, &value) ? nn_dim_const(m, value) : NULL;
  }
  bool is_test = code == NN_OP_CAST && result == NN_BOOL;
  nn_dim d = is_test ? difference(m, in[0], nn_dim_const(m, 0)) : express(m, code, operands);
  return d && !nn_dim_is_overflow(d) && fits(result, d) ? d : NULL;
}
