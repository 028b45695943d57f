/* Element types and tensor types. What an element type is comes from dtype.def; its values: value.c. */
#include "ir/ir.h"

#include <assert.h>
#include <string.h>

typedef struct dtype_info {
  const char *name;
  int bits;
  nn_dtype_kind kind;
  int onnx;
} dtype_info;

static const dtype_info infos[NN_DTYPE_COUNT] = {
#define DTYPE(name, text, bits, kind, onnx) {text, bits, NN_KIND_##kind, onnx},
#include "ir/dtype.def"
#undef DTYPE
};

const char *nn_dtype_name(nn_dtype t) { return infos[t].name; }
int nn_dtype_bits(nn_dtype t) { return infos[t].bits; }
nn_dtype_kind nn_dtype_kind_of(nn_dtype t) { return infos[t].kind; }
int nn_dtype_onnx(nn_dtype t) { return infos[t].onnx; }
bool nn_dtype_is_float(nn_dtype t) { return infos[t].kind == NN_KIND_FLOAT; }
bool nn_dtype_is_int(nn_dtype t) { return infos[t].kind == NN_KIND_INT || infos[t].kind == NN_KIND_UINT; }
bool nn_dtype_is_narrow(nn_dtype t) { return t == NN_F16 || t == NN_BF16; }

bool nn_dtype_from_onnx(int onnx, nn_dtype *out) {
  for (int t = 0; t < NN_DTYPE_COUNT; t++)
    if (infos[t].onnx == onnx) {
      *out = (nn_dtype)t;
      return true;
    }
  return false;
}

bool nn_dtype_from_name(const char *name, size_t length, nn_dtype *out) {
  for (int t = 0; t < NN_DTYPE_COUNT; t++)
    if (strlen(infos[t].name) == length && memcmp(infos[t].name, name, length) == 0) {
      *out = (nn_dtype)t;
      return true;
    }
  return false;
}

size_t nn_dtype_bytes(nn_dtype t, uint64_t n) {
  unsigned bits = (unsigned)infos[t].bits;
  uint64_t bytes;
  if (bits < 8) {
    unsigned per_byte = 8 / bits;
    bytes = n / per_byte + (n % per_byte != 0);
  } else if (__builtin_mul_overflow(n, (uint64_t)(bits / 8), &bytes)) {
    return SIZE_MAX;
  }
  return bytes >= SIZE_MAX ? SIZE_MAX : (size_t)bytes;
}

/* ---- tensor types ------------------------------------------------------------------------------ */

nn_type nn_type_make(nn_module *m, nn_dtype dtype, int rank, const nn_dim *dims) {
  assert(rank >= 0);
  nn_type t = {.dtype = dtype, .rank = rank};
  if (rank) t.dims = nn_memdup(m->arena, dims, (size_t)rank * sizeof *dims);
  return t;
}

nn_type nn_type_static(nn_module *m, nn_dtype dtype, int rank, const int64_t *dims) {
  nn_dim *as_dims = NN_NEW_ARRAY(m->arena, nn_dim, rank);
  for (int i = 0; i < rank; i++) as_dims[i] = nn_dim_const(m, dims[i]);
  return (nn_type){.dtype = dtype, .rank = rank, .dims = rank ? as_dims : NULL};
}

bool nn_type_same_shape(nn_type a, nn_type b) {
  if (a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; i++)
    if (a.dims[i] != b.dims[i]) return false;
  return true;
}

bool nn_type_equal(nn_type a, nn_type b) {
  if (a.dtype != b.dtype || !nn_type_same_shape(a, b)) return false;
  if (!a.layout || !b.layout) return a.layout == b.layout;
  return strcmp(a.layout, b.layout) == 0;
}

bool nn_type_is_static(nn_type t) {
  for (int i = 0; i < t.rank; i++)
    if (!nn_dim_is_const(t.dims[i], NULL)) return false;
  return true;
}

nn_dim nn_type_count(nn_module *m, nn_type t) { return nn_dim_product(m, t.dims, t.rank); }

/* A zero anywhere makes the count 0, even where the other dims' product overflows. */
bool nn_type_static_count(nn_type t, int64_t *count) {
  int64_t product = 1;
  bool overflows = false, has_zero = false;
  for (int i = 0; i < t.rank; i++) {
    int64_t d;
    if (!nn_dim_is_const(t.dims[i], &d) || d < 0) return false;
    if (d == 0)
      has_zero = true;
    else if (__builtin_mul_overflow(product, d, &product))
      overflows = true;
  }
  if (overflows && !has_zero) return false;
  *count = has_zero ? 0 : product;
  return true;
}

bool nn_type_fits(nn_type t) {
  int64_t count;
  if (!nn_type_is_static(t)) return true;
  return nn_type_static_count(t, &count) && nn_dtype_bytes(t.dtype, (uint64_t)count) <= INT64_MAX;
}

char *nn_type_text(nn_arena *arena, nn_type t) {
  const char *parts[NN_MAX_RANK + 1];
  size_t length = strlen(nn_dtype_name(t.dtype)) + 3 + (t.layout ? strlen(t.layout) + 1 : 0);
  int rank = t.rank < NN_MAX_RANK ? t.rank : NN_MAX_RANK;
  for (int i = 0; i < rank; i++) {
    parts[i] = nn_dim_text(arena, t.dims[i]);
    length += strlen(parts[i]) + 1;
  }
  char *text = nn_alloc(arena, length);
  char *end = text + sprintf(text, "%s[", nn_dtype_name(t.dtype));
  for (int i = 0; i < rank; i++) end += sprintf(end, "%s%s", i ? "," : "", parts[i]);
  end += sprintf(end, "]");
  if (t.layout) sprintf(end, "/%s", t.layout);
  return text;
}
