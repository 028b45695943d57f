/* Tensors in files: .npy (numpy format 1 and 2), .npz (a zip of them), .pb (ONNX TensorProto). */
#include "frontend/onnx.h"
#include "tools/tools.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

typedef struct npy_type {
  const char *descr; /* without byte order */
  nn_dtype dtype;
} npy_type;

/* bf16 and f8 have no numpy type: written as their bits. */
static const npy_type npy_types[] = {{"f4", NN_F32}, {"f2", NN_F16}, {"f8", NN_F64}, {"i1", NN_I8}, {"i2", NN_I16}, {"i4", NN_I32},
                                     {"i8", NN_I64}, {"u1", NN_U8}, {"u2", NN_U16}, {"u4", NN_U32}, {"u8", NN_U64}, {"b1", NN_BOOL},
                                     {"c8", NN_C64}, {"c16", NN_C128}, {"u2", NN_BF16}, {"u1", NN_F8E4M3FN}, {"u1", NN_F8E4M3FNUZ},
                                     {"u1", NN_F8E5M2}, {"u1", NN_F8E5M2FNUZ}, {"u1", NN_F8E8M0}};
enum { NPY_TYPES = sizeof npy_types / sizeof *npy_types, NPY_MAGIC = 8 };

static bool complain(const char *path, const char *what) {
  fprintf(stderr, "nncc: %s: %s\n", path, what);
  return false;
}

/* ---- reading .npy ------------------------------------------------------------------------------------- */

static const char *find_key(const char *header, const char *key) {
  const char *at = strstr(header, key);
  at = at ? strchr(at, ':') : NULL;
  while (at && (*++at == ' ')) {}
  return at;
}

static bool parse_descr(const char *at, nn_dtype *dtype) {
  if (!at || *at++ != '\'' || (*at != '<' && *at != '|' && *at != '=')) return false;
  at++;
  for (int i = 0; i < NPY_TYPES; i++) {
    size_t n = strlen(npy_types[i].descr);
    if (strncmp(at, npy_types[i].descr, n) != 0 || at[n] != '\'') continue;
    *dtype = npy_types[i].dtype;
    return true;
  }
  return false;
}

static bool parse_shape(const char *at, int32_t *rank, int64_t *dims) {
  if (!at || *at++ != '(') return false;
  for (*rank = 0;;) {
    while (*at == ' ' || *at == ',') at++;
    if (*at == ')') return true;
    if (!isdigit((unsigned char)*at) || *rank == NN_MAX_RANK) return false;
    char *end;
    errno = 0;
    long long d = strtoll(at, &end, 10);
    if (errno) return false;
    dims[(*rank)++] = d;
    at = end;
  }
}

/* The header's text, NUL-terminated (malloc), and where the data begin; NULL if this is no .npy. */
static char *npy_header(const unsigned char *bytes, size_t size, size_t *data_at) {
  if (size < 12 || memcmp(bytes, "\x93NUMPY", 6) != 0) return NULL;
  size_t length = bytes[8] | (size_t)bytes[9] << 8, start = 10;
  if (bytes[6] >= 2) {
    length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    start = 12;
  }
  if (length > size - start) return NULL;
  *data_at = start + length;
  return strndup((const char *)bytes + start, length);
}

static bool parse_npy(const char *path, const unsigned char *bytes, size_t size, host_tensor *t) {
  size_t data_at;
  char *header = npy_header(bytes, size, &data_at);
  if (!header) return complain(path, "not a .npy file");
  nn_dtype dtype = NN_F32;
  int32_t rank = 0;
  int64_t dims[NN_MAX_RANK];
  const char *fortran = find_key(header, "'fortran_order'");
  const char *problem = NULL;
  if (!parse_descr(find_key(header, "'descr'"), &dtype)) problem = "element type is not one of f2 f4 f8 i1..i8 u1..u8 b1, little-endian";
  else if (!fortran || strncmp(fortran, "False", 5) != 0) problem = "array is in Fortran order, expected C order";
  else if (!parse_shape(find_key(header, "'shape'"), &rank, dims)) problem = "shape is not a tuple of up to 12 sizes";
  free(header);
  if (problem) return complain(path, problem);
  if (!host_tensor_alloc(t, nn_dtype_onnx(dtype), rank, dims)) return complain(path, "array is too large");
  size_t need = nn_dtype_bytes(dtype, host_tensor_count(&t->t));
  if (size - data_at < need) {
    host_tensor_free(t);
    return complain(path, "file is shorter than its shape says");
  }
  memcpy(t->t.data, bytes + data_at, need);
  return true;
}

static unsigned char *read_all(const char *path, size_t *size) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  unsigned char *bytes = NULL;
  size_t cap = 0, n = 0;
  for (size_t got = 1; got > 0; n += got) {
    if (n == cap) {
      cap = cap ? 2 * cap : 1 << 16;
      unsigned char *grown = realloc(bytes, cap);
      if (!grown) break;
      bytes = grown;
    }
    got = fread(bytes + n, 1, cap - n, f);
  }
  fclose(f);
  *size = n;
  return bytes;
}

static bool read_npy(const char *path, host_tensor *t) {
  size_t size;
  unsigned char *bytes = read_all(path, &size);
  if (!bytes) return complain(path, strerror(errno));
  bool ok = parse_npy(path, bytes, size, t);
  free(bytes);
  return ok;
}

static bool read_pb(const char *path, host_tensor *t) {
  nn_module *m = nn_module_new(path);
  const char *name = NULL;
  nn_tensor *tensor = nn_onnx_load_tensor(m, path, &name);
  bool ok = tensor && host_tensor_alloc(t, nn_dtype_onnx(tensor->dtype), tensor->rank, tensor->dims);
  if (ok) {
    memcpy(t->t.data, tensor->data, tensor->size_bytes);
    t->name = name ? strdup(name) : NULL;
  }
  for (int i = 0; !ok && i < m->diags.count; i++) nn_diag_print(stderr, &m->diags.items[i]);
  nn_module_free(m);
  return ok;
}

static bool has_suffix(const char *path, const char *suffix) {
  size_t n = strlen(path), k = strlen(suffix);
  return n >= k && strcmp(path + n - k, suffix) == 0;
}

bool host_tensor_read(const char *path, host_tensor *t) {
  memset(t, 0, sizeof *t);
  if (has_suffix(path, ".npy")) return read_npy(path, t);
  if (has_suffix(path, ".pb")) return read_pb(path, t);
  return complain(path, "not a .npy or .pb file by its name");
}

/* One entry of an archive. */
static bool read_entry(const char *path, zip_t *archive, zip_uint64_t i, host_tensor *t) {
  zip_stat_t st;
  if (zip_stat_index(archive, i, 0, &st) != 0 || !(st.valid & ZIP_STAT_SIZE)) return complain(path, "damaged archive");
  unsigned char *bytes = malloc(st.size ? st.size : 1);
  zip_file_t *f = bytes ? zip_fopen_index(archive, i, 0) : NULL;
  bool ok = f && zip_fread(f, bytes, st.size) == (zip_int64_t)st.size;
  if (f) zip_fclose(f);
  ok = ok ? parse_npy(path, bytes, st.size, t) : complain(path, "damaged archive");
  free(bytes);
  if (!ok) return false;
  t->name = strndup(st.name, has_suffix(st.name, ".npy") ? strlen(st.name) - 4 : strlen(st.name));
  return true;
}

int host_tensors_read_npz(const char *path, host_tensor **tensors) {
  int error;
  zip_t *archive = zip_open(path, ZIP_RDONLY, &error);
  if (!archive) return complain(path, "cannot be opened as a .npz archive") - 1;
  zip_int64_t n = zip_get_num_entries(archive, 0);
  *tensors = calloc((size_t)n + 1, sizeof **tensors);
  int count = 0;
  for (zip_int64_t i = 0; *tensors && i < n; i++, count++)
    if (!read_entry(path, archive, (zip_uint64_t)i, &(*tensors)[count])) break;
  zip_close(archive);
  if (count == n) return count;
  while (count > 0) host_tensor_free(&(*tensors)[--count]);
  free(*tensors);
  return -1;
}

/* ---- writing -------------------------------------------------------------------------------------------- */

static void write_npy_header(FILE *f, const char *descr, const nncc_rt_tensor *t) {
  char text[1024];
  int n = snprintf(text, sizeof text, "{'descr': '%s%s', 'fortran_order': False, 'shape': (", descr[1] == '1' && !descr[2] ? "|" : "<", descr);
  for (int i = 0; i < t->rank; i++) n += snprintf(text + n, sizeof text - (size_t)n, "%" PRId64 ",%s", t->dims[i], i + 1 < t->rank ? " " : "");
  n += snprintf(text + n, sizeof text - (size_t)n, "), }");
  while ((10 + n + 1) % 64) text[n++] = ' ';
  text[n++] = '\n';
  fwrite("\x93NUMPY\x01\x00", 1, NPY_MAGIC, f);
  fputc(n & 255, f);
  fputc(n >> 8, f);
  fwrite(text, 1, (size_t)n, f);
}

static const char *npy_descr(nn_dtype dtype) {
  for (int i = 0; i < NPY_TYPES; i++)
    if (npy_types[i].dtype == dtype) return npy_types[i].descr;
  return NULL;
}

static bool write_npy(FILE *f, const nncc_rt_tensor *t, nn_dtype dtype) {
  write_npy_header(f, npy_descr(dtype), t);
  size_t bytes = nn_dtype_bytes(dtype, host_tensor_count(t));
  return fwrite(t->data, 1, bytes, f) == bytes;
}

static void put_varint(FILE *f, uint64_t v) {
  for (; v >= 128; v >>= 7) fputc((int)(v & 127) | 128, f);
  fputc((int)v, f);
}

static void put_key(FILE *f, unsigned field, unsigned wire) { put_varint(f, field << 3 | wire); }

/* TensorProto: dims 1, data_type 2, name 8, raw_data 9. */
static bool write_pb(FILE *f, const char *name, const nncc_rt_tensor *t, nn_dtype dtype) {
  for (int i = 0; i < t->rank; i++) {
    put_key(f, 1, 0);
    put_varint(f, (uint64_t)t->dims[i]);
  }
  put_key(f, 2, 0);
  put_varint(f, (uint64_t)t->dtype);
  put_key(f, 8, 2);
  put_varint(f, strlen(name));
  fputs(name, f);
  size_t bytes = nn_dtype_bytes(dtype, host_tensor_count(t));
  put_key(f, 9, 2);
  put_varint(f, bytes);
  return fwrite(t->data, 1, bytes, f) == bytes;
}

static bool write_file(FILE *f, bool is_pb, const char *name, const nncc_rt_tensor *t, nn_dtype dtype) {
  bool ok = is_pb ? write_pb(f, name, t, dtype) : write_npy(f, t, dtype);
  return ok && fflush(f) == 0 && !ferror(f);
}

bool host_tensor_write(const char *path, const char *name, const nncc_rt_tensor *t) {
  nn_dtype dtype;
  bool is_pb = has_suffix(path, ".pb");
  if (!host_tensor_dtype(t, &dtype) || dtype == NN_STRING) return complain(path, "this element type cannot be written");
  if (!is_pb && !npy_descr(dtype)) return complain(path, "a .npy file cannot hold this element type (--format pb can)");
  size_t n = strlen(path);
  char *temporary = malloc(n + 8);
  if (!temporary) return complain(path, "out of memory");
  snprintf(temporary, n + 8, "%s.part", path);
  FILE *f = fopen(temporary, "wb");
  bool ok = f && write_file(f, is_pb, name, t, dtype);
  int error = errno;
  if (f && fclose(f) != 0 && ok) ok = false, error = errno;
  if (ok && rename(temporary, path) != 0) ok = false, error = errno;
  if (!ok) {
    complain(path, strerror(error));
    remove(temporary);
  }
  free(temporary);
  return ok;
}
