/* TensorProto and SparseTensorProto to nn_tensor.

   Raw and external data is borrowed where it lies in the mapped file, at any alignment (whoever reads it
   uses memcpy or nn_load_*); data in typed fields is repacked. Both are little-endian in the file and in
   memory: nncc runs on little-endian hosts only. The size of the data must be what type and shape need, so
   nothing is ever allocated that the file does not back, but for sparse tensors, which have a limit. */
#include "frontend/onnx_import.h"

#include <assert.h>
#include <string.h>

enum { MAX_SPARSE_BYTES = 1 << 30 };

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensor data is used as it lies in the file: little-endian"
#endif

/* Where a tensor is, for reports. */
typedef struct place {
  onnx_import *I;
  const char *role, *node, *op;
} place;

#define FAIL(p, hint, format, ...)                                                                                     \
  nn_report(&(p)->I->m->diags, NN_ERROR, (p)->node, (p)->op, (hint), "%s: " format, (p)->role, __VA_ARGS__)

/* Rank, dims and their product. */
static nn_status check_dims(const place *p, size_t rank, const int64_t *dims, uint64_t *count) {
  if (rank > NN_MAX_RANK) return FAIL(p, NULL, "has rank %zu, at most %d is possible", rank, NN_MAX_RANK);
  *count = 1;
  bool is_empty = false;
  for (size_t i = 0; i < rank; i++) {
    if (dims[i] < 0) return FAIL(p, NULL, "dimension %zu is %lld", i, (long long)dims[i]);
    is_empty |= dims[i] == 0;
  }
  for (size_t i = 0; i < rank && !is_empty; i++)
    if (__builtin_mul_overflow(*count, (uint64_t)dims[i], count) || *count > INT64_MAX)
      return FAIL(p, NULL, "its dimensions, %zu of them, have a product that overflows", rank);
  if (is_empty) *count = 0;
  return NN_OK;
}

static nn_status check_dtype(const place *p, int onnx_type, nn_dtype *dtype) {
  if (!nn_dtype_from_onnx(onnx_type, dtype))
    return FAIL(p, NULL, "element type %d is not one of ONNX's that nncc knows", onnx_type);
  if (nn_dtype_kind_of(*dtype) == NN_KIND_STRING)
    return nn_report(&p->I->m->diags, NN_ERROR, p->node, p->op, NULL, "unsupported: %s holds strings", p->role);
  return NN_OK;
}

/* A bool is 0 or 1 in nncc; other bytes in a file become 1, in a copy. */
static nn_tensor *borrow(const place *p, nn_type type, const uint8_t *data, size_t size_bytes, const onnx_file *file) {
  nn_module *m = p->I->m;
  bool is_clean = true;
  if (type.dtype == NN_BOOL)
    for (size_t i = 0; i < size_bytes; i++) is_clean &= data[i] <= 1;
  if (is_clean)
    return nn_tensor_borrow(m, type, data, file ? file->path : NULL, file ? (uint64_t)(data - file->bytes) : 0);
  nn_tensor *t = nn_tensor_new(m, type);
  if (t)
    for (size_t i = 0; i < size_bytes; i++) ((uint8_t *)(uintptr_t)t->data)[i] = data[i] != 0;
  return t;
}

static nn_tensor *decode_raw(const place *p, const Onnx__TensorProto *t, nn_type type, size_t need_bytes) {
  onnx_import *I = p->I;
  uint64_t index = 0;
  assert(t->raw_data.len == sizeof index); /* skim.c wrote it */
  memcpy(&index, t->raw_data.data, sizeof index);
  assert(index < I->skim.nblobs);
  onnx_blob blob = I->skim.blobs[index];
  if (blob.size_bytes == need_bytes) return borrow(p, type, blob.data, need_bytes, I->file);
  FAIL(p, NULL, "its data has %zu bytes, %s needs %zu", blob.size_bytes, nn_type_text(I->m->arena, type), need_bytes);
  return NULL;
}

static nn_tensor *decode_external(const place *p, const Onnx__TensorProto *t, nn_type type, size_t need_bytes) {
  const uint8_t *data;
  const onnx_file *file;
  if (need_bytes == 0) return nn_tensor_new(p->I->m, type);
  if (onnx_external_bytes(p->I, t, p->role, p->node, p->op, need_bytes, &data, &file) != NN_OK) return NULL;
  return borrow(p, type, data, need_bytes, file);
}

/* The typed field that holds elements of a dtype, and how wide its entries are. */
typedef struct typed_field {
  const void *entries;
  size_t nentries;
  size_t entry_bytes;   /* in memory */
  size_t element_bytes; /* of the low bytes of an entry, what goes to storage */
} typed_field;

static typed_field find_field(const Onnx__TensorProto *t, nn_dtype dtype) {
  switch (dtype) {
  case NN_F32:
  case NN_C64: return (typed_field){t->float_data, t->n_float_data, 4, 4};
  case NN_F64:
  case NN_C128: return (typed_field){t->double_data, t->n_double_data, 8, 8};
  case NN_I64: return (typed_field){t->int64_data, t->n_int64_data, 8, 8};
  case NN_U64: return (typed_field){t->uint64_data, t->n_uint64_data, 8, 8};
  case NN_U32: return (typed_field){t->uint64_data, t->n_uint64_data, 8, 4};
  default: { /* int32_data: all else; one byte of packed elements an entry for the 4- and 2-bit types */
    size_t bits = (size_t)nn_dtype_bits(dtype);
    return (typed_field){t->int32_data, t->n_int32_data, 4, bits < 8 ? 1 : bits / 8};
  }
  }
}

static nn_tensor *decode_typed(const place *p, const Onnx__TensorProto *t, nn_type type, size_t need_bytes) {
  nn_module *m = p->I->m;
  typed_field f = find_field(t, type.dtype);
  if (f.nentries != need_bytes / f.element_bytes) {
    FAIL(p, NULL, "has %zu entries of data, %s needs %zu", f.nentries, nn_type_text(m->arena, type),
         need_bytes / f.element_bytes);
    return NULL;
  }
  nn_tensor *out = nn_tensor_new(m, type);
  if (!out) return NULL;
  uint8_t *to = (uint8_t *)(uintptr_t)out->data;
  for (size_t i = 0; i < f.nentries; i++)
    memcpy(to + i * f.element_bytes, (const uint8_t *)f.entries + i * f.entry_bytes, f.element_bytes);
  if (type.dtype == NN_BOOL)
    for (size_t i = 0; i < f.nentries; i++) to[i] = t->int32_data[i] != 0;
  return out;
}

nn_tensor *onnx_decode_tensor(onnx_import *I, const Onnx__TensorProto *t, const char *role, const char *node,
                              const char *op) {
  place p = {I, role, node, op};
  nn_dtype dtype;
  uint64_t count;
  if (check_dtype(&p, t->data_type, &dtype) != NN_OK || check_dims(&p, t->n_dims, t->dims, &count) != NN_OK)
    return NULL;
  size_t need_bytes = nn_dtype_bytes(dtype, count);
  if (need_bytes == SIZE_MAX || t->segment) {
    FAIL(&p, NULL, "%s", t->segment ? "is stored in segments, which nobody defines" : "its size overflows");
    return NULL;
  }
  nn_type type = nn_type_static(I->m, dtype, (int)t->n_dims, t->dims);
  if (t->has_data_location && t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
    return decode_external(&p, t, type, need_bytes);
  if (t->has_raw_data) return decode_raw(&p, t, type, need_bytes);
  return decode_typed(&p, t, type, need_bytes);
}

/* ---- sparse: values[n], indices [n] (flat) or [n, rank] ------------------------------------------------ */

/* The flat place of entry i; false when it is outside of the tensor. */
static bool find_place(const nn_tensor *indices, size_t rank, const int64_t *dims, uint64_t count, size_t i,
                       uint64_t *flat) {
  if (indices->rank == 1) {
    int64_t v = nn_load_i64(NN_I64, indices->data, i);
    *flat = (uint64_t)v;
    return v >= 0 && *flat < count;
  }
  *flat = 0;
  for (size_t d = 0; d < rank; d++) {
    int64_t v = nn_load_i64(NN_I64, indices->data, i * rank + d);
    if (v < 0 || v >= dims[d]) return false;
    *flat = *flat * (uint64_t)dims[d] + (uint64_t)v;
  }
  return true;
}

static nn_status check_sparse(const place *p, const Onnx__SparseTensorProto *t, const nn_tensor *values,
                              const nn_tensor *indices) {
  if (values->rank != 1 || indices->dtype != NN_I64 || indices->rank < 1 || indices->rank > 2 ||
      indices->dims[0] != values->dims[0] || (indices->rank == 2 && (size_t)indices->dims[1] != t->n_dims))
    return FAIL(p, NULL, "%s", "a sparse tensor needs values[n] and i64 indices [n] or [n, rank]");
  return NN_OK;
}

static nn_tensor *scatter(const place *p, const Onnx__SparseTensorProto *t, const nn_tensor *values,
                          const nn_tensor *indices) {
  uint64_t count, flat;
  if (check_sparse(p, t, values, indices) != NN_OK || check_dims(p, t->n_dims, t->dims, &count) != NN_OK) return NULL;
  size_t size_bytes = nn_dtype_bytes(values->dtype, count);
  int bits = nn_dtype_bits(values->dtype);
  if (size_bytes > MAX_SPARSE_BYTES || bits < 8) {
    FAIL(p, NULL, "unsupported: dense it has %zu bytes of %s, at most %d and whole bytes are possible", size_bytes,
         nn_dtype_name(values->dtype), MAX_SPARSE_BYTES);
    return NULL;
  }
  nn_tensor *out = nn_tensor_new(p->I->m, nn_type_static(p->I->m, values->dtype, (int)t->n_dims, t->dims));
  size_t width = (size_t)bits / 8;
  for (size_t i = 0; out && i < (size_t)values->dims[0]; i++) {
    if (!find_place(indices, t->n_dims, t->dims, count, i, &flat)) {
      FAIL(p, NULL, "index %zu lies outside of the tensor", i);
      return NULL;
    }
    memcpy((uint8_t *)(uintptr_t)out->data + flat * width, (const uint8_t *)values->data + i * width, width);
  }
  return out;
}

nn_tensor *onnx_decode_sparse(onnx_import *I, const Onnx__SparseTensorProto *t, const char *role, const char *node,
                              const char *op) {
  place p = {I, role, node, op};
  if (!t->values || !t->indices) {
    FAIL(&p, NULL, "%s", "a sparse tensor needs values and indices");
    return NULL;
  }
  nn_tensor *values = onnx_decode_tensor(I, t->values, role, node, op);
  nn_tensor *indices = onnx_decode_tensor(I, t->indices, role, node, op);
  return values && indices ? scatter(&p, t, values, indices) : NULL;
}
