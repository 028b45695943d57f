/* ONNX pools and MaxUnpool. */
#include "frontend/onnx.h"

enum { MAX_SPATIAL = 3 };

static nn_status check_pool(onnx_node *n, int nout, unsigned kinds, int *nsp) {
  NN_TRY(onnx_need(n, 1, 1, nout));
  NN_TRY(onnx_need_kind(n, 0, kinds));
  int rank = n->in[0]->type.rank;
  if (rank < 3) return onnx_fail(n, "input has rank %d, expected at least 3: batch, channels, space", rank);
  if (rank > 2 + MAX_SPATIAL)
    return onnx_unsupported(n, "input has %d spatial dimensions, at most %d are supported", rank - 2, MAX_SPATIAL);
  *nsp = rank - 2;
  return NN_OK;
}

nn_status onnx_pool_begin(onnx_node *n, nn_opcode code, nn_value *x, int nsp, nn_op **op) {
  int64_t kernel[MAX_SPATIAL], strides[MAX_SPATIAL], dilations[MAX_SPATIAL];
  nn_dim pads[2 * MAX_SPATIAL];
  if (!x) return NN_FAIL;
  NN_TRY(onnx_window(n, x->type, nsp, NULL, kernel, strides, dilations, pads));
  *op = nn_b_begin(n->b, code, &x, 1, -1);
  if (!*op) return NN_FAIL;
  nn_set_ints(*op, "kernel", kernel, nsp);
  nn_set_ints(*op, "strides", strides, nsp);
  nn_set_ints(*op, "dilations", dilations, nsp);
  nn_set_dims(*op, "pads", pads, 2 * nsp);
  nn_set_int(*op, "ceil", onnx_int(n, "ceil_mode", 0) != 0);
  return NN_OK;
}

nn_status onnx_MaxPool(onnx_node *n) {
  int nsp = 0;
  nn_op *op;
  nn_value *results[2];
  NN_TRY(check_pool(n, 2, ONNX_NUMBER, &nsp));
  NN_TRY(onnx_pool_begin(n, NN_OP_MAX_POOL, n->in[0], nsp, &op));
  nn_set_int(op, "storage_order", onnx_int(n, "storage_order", 0) != 0);
  NN_TRY(nn_b_end_all(n->b, op, results));
  if (onnx_wants(n, 1)) NN_TRY(onnx_give(n, 1, results[1]));
  ONNX_GIVE(n, results[0]);
}

nn_status onnx_AveragePool(onnx_node *n) {
  int nsp = 0;
  nn_op *op;
  NN_TRY(check_pool(n, 1, ONNX_FLOAT, &nsp));
  NN_TRY(onnx_pool_begin(n, NN_OP_AVG_POOL, n->in[0], nsp, &op));
  nn_set_int(op, "count_include_pad", onnx_int(n, "count_include_pad", 0) != 0);
  ONNX_GIVE(n, nn_b_end(n->b, op));
}

/* ---- LpPool: (sum |x|^p)^(1/p) ---------------------------------------------------------------- */

/* Opset 1 had p as a float, with 2 as the default too. */
static nn_status read_p(onnx_node *n, double *p) {
  *p = n->since < 2 ? onnx_float(n, "p", 2) : (double)onnx_int(n, "p", 2);
  return *p > 0 ? NN_OK : onnx_fail(n, "attribute p is %g, expected more than 0", *p);
}

static nn_value *raise(onnx_node *n, nn_value *x, double p) {
  if (p == 2) return onnx_square(n, x);
  nn_value *size = nn_b_unary(n->b, NN_OP_ABS, x);
  return p == 1 ? size : nn_b_scalar_op(n->b, NN_OP_POW, size, p);
}

static nn_value *take_root(onnx_node *n, nn_value *sum, double p) {
  if (p == 1) return sum;
  return p == 2 ? nn_b_unary(n->b, NN_OP_SQRT, sum) : nn_b_scalar_op(n->b, NN_OP_POW, sum, 1 / p);
}

nn_status onnx_LpPool(onnx_node *n) {
  int nsp = 0;
  nn_op *op;
  double p;
  NN_TRY(check_pool(n, 1, ONNX_FLOAT, &nsp));
  NN_TRY(read_p(n, &p));
  NN_TRY(onnx_pool_begin(n, NN_OP_AVG_POOL, raise(n, onnx_wide(n, n->in[0]), p), nsp, &op));
  nn_set_int(op, "sum", 1);
  ONNX_GIVE(n, nn_b_cast(n->b, take_root(n, nn_b_end(n->b, op), p), n->in[0]->type.dtype));
}

/* ---- global pools ----------------------------------------------------------------------------- */

typedef struct space {
  int64_t axes[NN_MAX_RANK];
  int naxes;
} space;

static nn_status find_space(onnx_node *n, space *s) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_need_rank(n, 0, 2, -1));
  s->naxes = 0;
  for (int i = 2; i < n->in[0]->type.rank; i++) s->axes[s->naxes++] = i;
  return NN_OK;
}

nn_status onnx_GlobalAveragePool(onnx_node *n) {
  space s;
  NN_TRY(find_space(n, &s));
  ONNX_GIVE(n, onnx_mean(n, n->in[0], s.axes, s.naxes, true));
}

nn_status onnx_GlobalMaxPool(onnx_node *n) {
  space s;
  NN_TRY(find_space(n, &s));
  ONNX_GIVE(n, nn_b_reduce(n->b, NN_OP_REDUCE_MAX, n->in[0], s.axes, s.naxes, true));
}

nn_status onnx_GlobalLpPool(onnx_node *n) {
  space s;
  double p;
  NN_TRY(find_space(n, &s));
  NN_TRY(read_p(n, &p));
  nn_value *sum = nn_b_reduce(n->b, NN_OP_REDUCE_SUM, raise(n, onnx_wide(n, n->in[0]), p), s.axes, s.naxes, true);
  ONNX_GIVE(n, nn_b_cast(n->b, take_root(n, sum, p), n->in[0]->type.dtype));
}

/* ---- MaxUnpool -------------------------------------------------------------------------------- */

/* The shape that MaxPool would have pooled: the indices count in it. */
static nn_status find_pooled_shape(onnx_node *n, int nsp, nn_dim *dims) {
  nn_module *m = n->m;
  nn_type x = n->in[0]->type;
  int64_t kernel[MAX_SPATIAL], strides[MAX_SPATIAL], dilations[MAX_SPATIAL];
  nn_dim pads[2 * MAX_SPATIAL];
  NN_TRY(onnx_window(n, x, nsp, NULL, kernel, strides, dilations, pads));
  dims[0] = x.dims[0];
  dims[1] = x.dims[1];
  for (int i = 0; i < nsp; i++) {
    nn_dim steps = nn_dim_mul(m, nn_dim_sub(m, x.dims[i + 2], nn_dim_const(m, 1)), nn_dim_const(m, strides[i]));
    nn_dim full = nn_dim_add(m, steps, nn_dim_const(m, kernel[i]));
    dims[i + 2] = nn_dim_sub(m, full, nn_dim_add(m, pads[i], pads[nsp + i]));
    if (nn_dim_is_const(dims[i + 2], NULL) && nn_dim_value(dims[i + 2]) < 0)
      return onnx_fail(n, "attribute pads leaves %lld elements in dimension %d", (long long)nn_dim_value(dims[i + 2]),
                       i + 2);
  }
  return NN_OK;
}

/* Input 2 asks for another shape: the elements stay where they are, the end of each dim is filled or cut. */
static nn_status stretch_to_output_shape(onnx_node *n, nn_value **y) {
  if (n->nin < 3 || !n->in[2]) return NN_OK;
  nn_type t = (*y)->type;
  const nn_dim *want;
  nn_dim zeros[NN_MAX_RANK], after[NN_MAX_RANK];
  int count;
  NN_TRY(onnx_dims(n, 2, 0, true, &want, &count));
  if (count != t.rank) return onnx_fail(n, "output_shape has %d values, expected %d", count, t.rank);
  for (int i = 0; i < t.rank; i++) {
    zeros[i] = nn_dim_const(n->m, 0);
    after[i] = nn_dim_sub(n->m, want[i], t.dims[i]);
  }
  nn_op *op = nn_b_begin(n->b, NN_OP_PAD, (nn_value *[]){*y, nn_b_scalar(n->b, t.dtype, 0)}, 2, -1);
  if (!op) return NN_FAIL;
  nn_set_dims(op, "before", zeros, t.rank);
  nn_set_dims(op, "after", after, t.rank);
  *y = nn_b_end(n->b, op);
  return *y ? NN_OK : NN_FAIL;
}

nn_status onnx_MaxUnpool(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 3, 1));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_need_kind(n, 1, ONNX_INT));
  NN_TRY(onnx_need_rank(n, 0, 3, 2 + MAX_SPATIAL));
  nn_value *x = n->in[0];
  nn_type t = x->type;
  if (n->in[1]->type.rank != t.rank)
    return onnx_fail(n, "indices have rank %d, expected %d as the input", n->in[1]->type.rank, t.rank);
  nn_dim dims[NN_MAX_RANK];
  NN_TRY(find_pooled_shape(n, t.rank - 2, dims));
  nn_dim total = nn_dim_product(n->m, dims, t.rank), count = nn_type_count(n->m, t);
  nn_value *empty = nn_b_fill(n->b, t.dtype, 0, 1, &total);
  nn_value *indices = nn_b_reshape(n->b, onnx_to_i64(n, n->in[1]), 1, &count);
  nn_op *op =
      nn_b_begin(n->b, NN_OP_SCATTER_ELEMENTS, (nn_value *[]){empty, indices, nn_b_reshape(n->b, x, 1, &count)}, 3, -1);
  if (!op) return NN_FAIL;
  nn_value *y = nn_b_reshape(n->b, nn_b_end(n->b, op), t.rank, dims);
  if (!y) return NN_FAIL;
  NN_TRY(stretch_to_output_shape(n, &y));
  ONNX_GIVE(n, y);
}
