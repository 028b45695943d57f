/* Tensors in memory: making, filling, summing up, comparing. */
#include "tools/tools.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void host_tensor_free(host_tensor *t) {
  free(t->name);
  free(t->t.data);
  free(t->t.dims);
  memset(t, 0, sizeof *t);
}

size_t host_tensor_count(const nncc_rt_tensor *t) {
  size_t n = 1;
  for (int i = 0; i < t->rank; i++)
    if (t->dims[i] < 0 || __builtin_mul_overflow(n, (size_t)t->dims[i], &n)) return SIZE_MAX;
  return n;
}

bool host_tensor_alloc(host_tensor *t, int32_t dtype, int32_t rank, const int64_t *dims) {
  t->t = (nncc_rt_tensor){NULL, calloc((size_t)rank + 1, sizeof *dims), dtype, rank};
  if (!t->t.dims) return false;
  for (int i = 0; i < rank; i++) t->t.dims[i] = dims[i];
  size_t count = host_tensor_count(&t->t), bytes = nncc_rt_dtype_bytes(dtype, count);
  if (count == SIZE_MAX || bytes == SIZE_MAX) return false;
  t->t.data = calloc(bytes ? bytes : 1, 1);
  return t->t.data != NULL;
}

bool host_tensor_dtype(const nncc_rt_tensor *t, nn_dtype *dtype) { return nn_dtype_from_onnx(t->dtype, dtype); }

static uint64_t next_random(uint64_t *state) { /* splitmix64, Steele, Lea and Flood 2014 */
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void host_tensor_random(nncc_rt_tensor *t, uint64_t seed) {
  nn_dtype dtype;
  size_t n = host_tensor_count(t);
  if (!host_tensor_dtype(t, &dtype) || dtype == NN_STRING) return;
  for (size_t i = 0; i < n; i++) {
    uint64_t r = next_random(&seed);
    if (nn_dtype_is_float(dtype)) nn_store_f64(dtype, t->data, i, (double)(r >> 40) * 0x1p-23 - 1);
    else nn_store_i64(dtype, t->data, i, dtype == NN_BOOL ? (int64_t)(r >> 63) : (int64_t)(r >> 61));
  }
}

static void print_type(FILE *out, const nncc_rt_tensor *t) {
  nn_dtype dtype;
  fprintf(out, "%s[", host_tensor_dtype(t, &dtype) ? nn_dtype_name(dtype) : "?");
  for (int i = 0; i < t->rank; i++) fprintf(out, "%s%" PRId64, i ? "," : "", t->dims[i]);
  fprintf(out, "]");
}

static void print_element(FILE *out, nn_dtype dtype, const void *data, size_t i) {
  if (nn_dtype_is_float(dtype)) fprintf(out, "%.6g", nn_load_f64(dtype, data, i));
  else fprintf(out, "%" PRId64, nn_load_i64(dtype, data, i));
}

void host_tensor_summary(FILE *out, const char *name, const nncc_rt_tensor *t) {
  enum { SHOWN = 6 };
  nn_dtype dtype;
  size_t n = host_tensor_count(t);
  fprintf(out, "%s ", name);
  print_type(out, t);
  if (!host_tensor_dtype(t, &dtype) || n == 0 || n == SIZE_MAX || dtype == NN_STRING) {
    fprintf(out, "\n");
    return;
  }
  double min = INFINITY, max = -INFINITY, sum = 0;
  size_t nans = 0;
  for (size_t i = 0; i < n; i++) {
    double v = nn_load_f64(dtype, t->data, i);
    if (isnan(v)) {
      nans++;
      continue;
    }
    min = v < min ? v : min;
    max = v > max ? v : max;
    sum += v;
  }
  fprintf(out, " min %.6g max %.6g mean %.6g", min, max, n > nans ? sum / (double)(n - nans) : NAN);
  if (nans) fprintf(out, " nan %zu", nans);
  fprintf(out, ": ");
  for (size_t i = 0; i < n && i < SHOWN; i++) {
    if (i) fprintf(out, ", ");
    print_element(out, dtype, t->data, i);
  }
  fprintf(out, "%s\n", n > SHOWN ? ", ..." : "");
}

static bool same_type(const nncc_rt_tensor *a, const nncc_rt_tensor *b) {
  if (a->dtype != b->dtype || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->dims[i] != b->dims[i]) return false;
  return true;
}

static void type_text(char *text, size_t size, const nncc_rt_tensor *t) {
  FILE *f = fmemopen(text, size, "w");
  if (!f) return;
  print_type(f, t);
  fclose(f);
}

/* |a - b| in units of the allowed difference; 0 for equal values, NaNs and infinities included. */
static double excess(double a, double b, double rtol, double atol, double *abs_error) {
  *abs_error = 0;
  if (a == b || (isnan(a) && isnan(b))) return 0;
  *abs_error = isfinite(a) && isfinite(b) ? fabs(a - b) : INFINITY;
  double allowed = atol + rtol * fabs(b);
  return allowed > 0 && isfinite(allowed) ? *abs_error / allowed : INFINITY;
}

difference host_tensor_compare(const nncc_rt_tensor *a, const nncc_rt_tensor *b, double rtol, double atol) {
  difference d = {.same = true};
  nn_dtype dtype;
  if (!same_type(a, b) || !host_tensor_dtype(a, &dtype)) {
    char found[64] = "", expected[64] = "";
    type_text(found, sizeof found, a);
    type_text(expected, sizeof expected, b);
    snprintf(d.text, sizeof d.text, "type %s, expected %s", found, expected);
    d.same = false;
    d.worst = d.max_abs = INFINITY;
    return d;
  }
  bool is_float = nn_dtype_is_float(dtype);
  size_t n = host_tensor_count(a), where = 0;
  for (size_t i = 0; i < n; i++) {
    double e;
    double x = is_float ? nn_load_f64(dtype, a->data, i) : (double)nn_load_i64(dtype, a->data, i);
    double y = is_float ? nn_load_f64(dtype, b->data, i) : (double)nn_load_i64(dtype, b->data, i);
    double w = excess(x, y, is_float ? rtol : 0, is_float ? atol : 0, &e);
    if (e > d.max_abs) d.max_abs = e;
    if (w <= d.worst) continue;
    d.worst = w;
    where = i;
  }
  d.same = d.worst <= 1;
  if (!d.same)
    snprintf(d.text, sizeof d.text, "element %zu is %.9g, expected %.9g", where,
             is_float ? nn_load_f64(dtype, a->data, where) : (double)nn_load_i64(dtype, a->data, where),
             is_float ? nn_load_f64(dtype, b->data, where) : (double)nn_load_i64(dtype, b->data, where));
  return d;
}
