/* What importers ask about their node: reports, checks, inputs that hold shapes, windows. */
#include "frontend/onnx_import.h"

#include <stdlib.h>
#include <string.h>

/* ---- reports and results ------------------------------------------------------------------------------- */

static nn_status report(onnx_node *n, const char *prefix, const char *format, va_list args) {
  ((onnx_site *)n)->failed = true;
  const char *whole = nn_sprintf(n->import->scratch, "%s%s", prefix, format);
  return nn_vreport(&n->m->diags, NN_ERROR, n->name, n->op, NULL, whole, args);
}

nn_status onnx_fail(onnx_node *n, const char *format, ...) {
  va_list args;
  va_start(args, format);
  report(n, "", format, args);
  va_end(args);
  return NN_FAIL;
}

nn_status onnx_unsupported(onnx_node *n, const char *format, ...) {
  va_list args;
  va_start(args, format);
  report(n, "unsupported: ", format, args);
  va_end(args);
  return NN_FAIL;
}

bool onnx_failed(onnx_node *n) { return ((onnx_site *)n)->failed; }

bool onnx_wants(onnx_node *n, int i) { return i < n->nout && *((onnx_site *)n)->proto->output[i]; }

nn_status onnx_give(onnx_node *n, int i, nn_value *v) {
  if (!v) return NN_FAIL;
  if (i < n->nout) n->out[i] = v;
  return NN_OK;
}

static const char *input_name(onnx_node *n, int i) { return ((onnx_site *)n)->proto->input[i]; }

/* ---- checks -------------------------------------------------------------------------------------------- */

nn_status onnx_need(onnx_node *n, int nin_min, int nin_max, int nout_max) {
  if (nin_max >= 0 && n->nin > nin_max) return onnx_fail(n, "has %d inputs, expected at most %d", n->nin, nin_max);
  if (nout_max >= 0 && n->nout > nout_max)
    return onnx_fail(n, "has %d outputs, expected at most %d", n->nout, nout_max);
  for (int i = 0; i < nin_min; i++)
    if (i >= n->nin || !n->in[i])
      return onnx_fail(n, "input %d is missing, expected %s%d inputs", i, nin_min == nin_max ? "" : "at least ",
                       nin_min);
  return NN_OK;
}

nn_status onnx_axis(onnx_node *n, int64_t axis, int rank, int *out) {
  if (axis < -rank || axis >= rank)
    return onnx_fail(n, "axis is %lld, expected %d to %d", (long long)axis, -rank, rank - 1);
  *out = (int)(axis < 0 ? axis + rank : axis);
  return NN_OK;
}

static int compare_int64(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

nn_status onnx_axes(onnx_node *n, const int64_t *axes, int count, int rank, int64_t *out) {
  if (count > rank) return onnx_fail(n, "axes has %d entries, the tensor has rank %d", count, rank);
  for (int i = 0; i < count; i++) {
    int axis = 0;
    NN_TRY(onnx_axis(n, axes[i], rank, &axis));
    out[i] = axis;
  }
  if (count) qsort(out, (size_t)count, sizeof *out, compare_int64);
  for (int i = 1; i < count; i++)
    if (out[i] == out[i - 1]) return onnx_fail(n, "axes names axis %lld twice", (long long)out[i]);
  return NN_OK;
}

nn_status onnx_same_dtype(onnx_node *n, int first, int last) {
  nn_value *like = NULL;
  for (int i = first; i <= last && i < n->nin; i++) {
    if (!n->in[i]) continue;
    if (like && like->type.dtype != n->in[i]->type.dtype)
      return onnx_fail(n, "input %d is %s, expected %s as the inputs before it", i, nn_dtype_name(n->in[i]->type.dtype),
                       nn_dtype_name(like->type.dtype));
    like = n->in[i];
  }
  return NN_OK;
}

nn_status onnx_need_float(onnx_node *n, int i) {
  if (nn_dtype_is_float(n->in[i]->type.dtype)) return NN_OK;
  return onnx_fail(n, "input %d is %s, expected a float type", i, nn_dtype_name(n->in[i]->type.dtype));
}

/* ---- inputs that hold shapes, axes, counts --------------------------------------------------------------- */

static bool is_int_like(nn_dtype t) { return nn_dtype_is_int(t) || t == NN_BOOL; }

/* Number of elements, or -1 if it is symbolic. */
static int64_t static_count(nn_value *v) {
  int64_t count;
  return nn_type_static_count(v->type, &count) ? count : -1;
}

bool onnx_is_const(onnx_node *n, int i) {
  nn_value *v = i < n->nin ? n->in[i] : NULL;
  if (!v) return false;
  if (nn_const_behind(v)) return true;
  int64_t count = static_count(v);
  for (int64_t k = 0; v->elems && k < count; k++)
    if (!nn_dim_is_const(v->elems[k], NULL)) return false;
  return v->elems && count >= 0;
}

static nn_status need_const(onnx_node *n, int i, int64_t *count) {
  nn_value *v = n->in[i];
  *count = static_count(v);
  if (onnx_is_const(n, i) && *count <= INT32_MAX) return NN_OK;
  return onnx_unsupported(n, "input %d ('%s') must be known while compiling, it is %s", i, input_name(n, i),
                          v->kind == NN_PARAM ? "an input of the graph" : "computed while running");
}

nn_status onnx_const_ints(onnx_node *n, int i, const int64_t **values, int *count) {
  nn_value *v = n->in[i];
  int64_t number;
  if (!is_int_like(v->type.dtype))
    return onnx_fail(n, "input %d ('%s') is %s, expected integers", i, input_name(n, i), nn_dtype_name(v->type.dtype));
  NN_TRY(need_const(n, i, &number));
  int64_t *list = NN_NEW_ARRAY(n->m->arena, int64_t, number + 1);
  for (int64_t k = 0; k < number; k++)
    list[k] = v->kind == NN_CONST ? nn_load_i64(v->type.dtype, v->tensor->data, (size_t)k) : nn_dim_value(v->elems[k]);
  *values = list;
  *count = (int)number;
  return NN_OK;
}

nn_status onnx_const_floats(onnx_node *n, int i, const double **values, int *count) {
  nn_value *v = n->in[i];
  int64_t number;
  if (!nn_dtype_is_float(v->type.dtype) && !is_int_like(v->type.dtype))
    return onnx_fail(n, "input %d ('%s') is %s, expected numbers", i, input_name(n, i), nn_dtype_name(v->type.dtype));
  NN_TRY(need_const(n, i, &number));
  const nn_value *constant = nn_const_behind(v);
  double *list = NN_NEW_ARRAY(n->m->arena, double, number + 1);
  for (int64_t k = 0; k < number; k++)
    list[k] = constant ? nn_load_f64(constant->type.dtype, constant->tensor->data, (size_t)k)
                       : (double)nn_dim_value(v->elems[k]);
  *values = list;
  *count = (int)number;
  return NN_OK;
}

int onnx_hint(onnx_node *n, int i, const nn_dim **dims) {
  onnx_site *site = (onnx_site *)n;
  *dims = NULL;
  if (!onnx_wants(n, i)) return -1;
  return onnx_declared_dims(n->import, nn_map_get(site->scope->declared, site->proto->output[i]), dims);
}

nn_value *onnx_to_i64(onnx_node *n, nn_value *x) {
  return !x || x->type.dtype == NN_I64 ? x : nn_b_cast(n->b, x, NN_I64);
}

nn_value *onnx_cast_like(onnx_node *n, nn_value *x, nn_value *like) {
  return !x || !like || x->type.dtype == like->type.dtype ? x : nn_b_cast(n->b, x, like->type.dtype);
}

nn_status onnx_dims(onnx_node *n, int i, int64_t min, bool use_hints, const nn_dim **dims, int *count) {
  nn_value *v = n->in[i];
  const nn_dim *hints = NULL;
  if (!nn_dtype_is_int(v->type.dtype))
    return onnx_fail(n, "input %d ('%s') is %s, expected integers", i, input_name(n, i), nn_dtype_name(v->type.dtype));
  if (v->type.rank > 1 || static_count(v) < 0)
    return onnx_unsupported(n, "input %d ('%s') is %s, expected a vector whose length is known", i, input_name(n, i),
                            nn_type_text(n->m->arena, v->type));
  if (use_hints && onnx_hint(n, 0, &hints) != static_count(v)) hints = NULL;
  if (nn_b_elems(n->b, v, min, hints, dims, count) != NN_OK) {
    ((onnx_site *)n)->failed = true;
    return NN_FAIL;
  }
  return NN_OK;
}

bool onnx_is_open(onnx_node *n, nn_dim d) {
  nn_module *m = n->m;
  bool *used = NN_NEW_ARRAY(n->import->scratch, bool, m->nsymbols + 1);
  bool is_open = false;
  nn_dim_symbols(d, used);
  for (int i = 0; i < m->nsymbols; i++) is_open |= used[i] && m->symbols[i]->data_dependent;
  return is_open;
}

nn_status onnx_check_open_axis(onnx_node *n, nn_dim axis, int rank) {
  NN_TRY(nn_b_check(n->b, "le", axis, nn_dim_const(n->m, rank - 1), "an axis"));
  return nn_b_check(n->b, "le", nn_dim_const(n->m, -rank), axis, "the least axis there is, against an axis,");
}

nn_dim onnx_settle(onnx_node *n, nn_dim found, nn_dim hint, const char *what) {
  if (!hint || found == hint || !onnx_is_open(n, found)) return found;
  return nn_b_check(n->b, "eq", found, hint, what) == NN_OK ? hint : NULL;
}

const nn_dim *onnx_hints(onnx_node *n, int i, int rank) {
  const nn_dim *dims;
  return onnx_hint(n, i, &dims) == rank ? dims : NN_NEW_ARRAY(n->m->arena, nn_dim, rank + 1);
}

nn_value *onnx_named_const(onnx_node *n, int i, nn_tensor *t) {
  if (!t) return NULL;
  const char *name =
      nn_sprintf(n->m->arena, "%s%s", ((onnx_site *)n)->scope->prefix, ((onnx_site *)n)->proto->output[i]);
  return nn_module_const(n->m, onnx_unique_const_name(n->m, name), t);
}

/* ---- windows of convolutions and pools --------------------------------------------------------------------- */

/* An attribute with one entry per spatial dim, or ones. */
static nn_status get_spatial(onnx_node *n, const char *name, int nsp, int64_t *out) {
  int count;
  const int64_t *given = onnx_ints(n, name, &count);
  if (given && count != nsp) return onnx_fail(n, "%s has %d entries, expected %d", name, count, nsp);
  for (int i = 0; i < nsp; i++) {
    out[i] = given ? given[i] : 1;
    if (out[i] < 1 || out[i] > INT32_MAX)
      return onnx_fail(n, "%s has an entry of %lld, expected at least 1", name, (long long)out[i]);
  }
  return NN_OK;
}

static nn_status get_kernel(onnx_node *n, int nsp, const nn_dim *kernel_from, int64_t *kernel) {
  bool is_given = onnx_has(n, "kernel_shape");
  if (!is_given && !kernel_from) return onnx_fail(n, "attribute 'kernel_shape' is missing");
  if (is_given) NN_TRY(get_spatial(n, "kernel_shape", nsp, kernel));
  for (int i = 0; i < nsp && kernel_from; i++) {
    int64_t size;
    if (!nn_dim_is_const(kernel_from[i], &size)) {
      if (!is_given) return onnx_unsupported(n, "the size of the weight's kernel is not known while compiling");
      continue;
    }
    if (is_given && size != kernel[i])
      return onnx_fail(n, "kernel_shape says %lld for spatial dimension %d, the weight has %lld", (long long)kernel[i],
                       i, (long long)size);
    if (size < 1 || size > INT32_MAX)
      return onnx_fail(n, "the weight has %lld as spatial dimension %d", (long long)size, i);
    kernel[i] = size;
  }
  return NN_OK;
}

static nn_status get_pads(onnx_node *n, int nsp, nn_dim *pads) {
  int count;
  const int64_t *given = onnx_ints(n, "pads", &count);
  if (given && count != 2 * nsp) return onnx_fail(n, "pads has %d entries, expected %d", count, 2 * nsp);
  for (int i = 0; i < 2 * nsp; i++) {
    int64_t pad = given ? given[i] : 0;
    if (pad < 0 || pad > INT32_MAX)
      return onnx_fail(n, "pads has an entry of %lld, expected 0 or more", (long long)pad);
    pads[i] = nn_dim_const(n->m, pad);
  }
  return NN_OK;
}

/* SAME: as many results as the stride's share of the input; the padding for that, its odd one at one end. */
void onnx_same_pads(nn_module *m, nn_dim size, int64_t kernel, int64_t stride, int64_t dilation, bool upper,
                    nn_dim *before, nn_dim *after) {
  nn_dim one = nn_dim_const(m, 1), step = nn_dim_const(m, stride);
  nn_dim last = nn_dim_sub(m, nn_dim_ceildiv(m, size, step), one); /* index of the last result */
  nn_dim reach = nn_dim_add(m, nn_dim_mul(m, last, step), nn_dim_const(m, (kernel - 1) * dilation + 1));
  nn_dim total = nn_dim_max(m, nn_dim_sub(m, reach, size), nn_dim_const(m, 0));
  nn_dim less = nn_dim_floordiv(m, total, nn_dim_const(m, 2)), more = nn_dim_sub(m, total, less);
  *before = upper ? less : more;
  *after = upper ? more : less;
}

nn_status onnx_window(onnx_node *n, nn_type x, int nsp, const nn_dim *kernel_from, int64_t *kernel, int64_t *strides,
                      int64_t *dilations, nn_dim *pads) {
  const char *mode = onnx_str(n, "auto_pad", "NOTSET");
  if (nsp < 1 || x.rank != nsp + 2)
    return onnx_fail(n, "the input has rank %d, expected batch, channels and spatial dimensions", x.rank);
  NN_TRY(get_kernel(n, nsp, kernel_from, kernel));
  NN_TRY(get_spatial(n, "strides", nsp, strides));
  NN_TRY(get_spatial(n, "dilations", nsp, dilations));
  bool upper = strcmp(mode, "SAME_UPPER") == 0, lower = strcmp(mode, "SAME_LOWER") == 0,
       valid = strcmp(mode, "VALID") == 0;
  if (!upper && !lower && !valid && *mode && strcmp(mode, "NOTSET") != 0)
    return onnx_fail(n, "auto_pad is '%s', expected NOTSET, VALID, SAME_UPPER or SAME_LOWER", mode);
  if (!upper && !lower && !valid) return onnx_failed(n) ? NN_FAIL : get_pads(n, nsp, pads);
  for (int i = 0; i < nsp; i++) {
    pads[i] = pads[nsp + i] = nn_dim_const(n->m, 0);
    if (!valid)
      onnx_same_pads(n->m, x.dims[2 + i], kernel[i], strides[i], dilations[i], upper, &pads[i], &pads[nsp + i]);
  }
  return onnx_failed(n) ? NN_FAIL : NN_OK;
}
