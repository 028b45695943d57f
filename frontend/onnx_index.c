/* ONNX operators that index: Gather*, Scatter*, Compress, NonZero, OneHot, TopK. Core ops take i64 indices. */
#include "frontend/onnx.h"

#include <string.h>

static nn_status need_indices(onnx_node *n, int i) {
  nn_dtype t = n->in[i]->type.dtype;
  if (t == NN_I32 || t == NN_I64) return NN_OK;
  return onnx_fail(n, "input %d is %s, expected indices of i32 or i64", i, nn_dtype_name(t));
}

/* ---- Gather, Scatter ----------------------------------------------------------------------------------- */

static nn_value *gather(onnx_node *n, nn_opcode code, nn_value *x, nn_value *indices, const char *attr, int64_t value) {
  nn_value *in[2] = {x, onnx_to_i64(n, indices)};
  nn_op *op = nn_b_begin(n->b, code, in, 2, -1);
  if (!op) return NULL;
  nn_set_int(op, attr, value);
  return nn_b_end(n->b, op);
}

static nn_status give_gather(onnx_node *n, nn_opcode code) {
  int axis = 0;
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(need_indices(n, 1));
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", 0), n->in[0]->type.rank, &axis));
  ONNX_GIVE(n, gather(n, code, n->in[0], n->in[1], "axis", axis));
}

nn_status onnx_Gather(onnx_node *n) { return give_gather(n, NN_OP_GATHER); }
nn_status onnx_GatherElements(onnx_node *n) { return give_gather(n, NN_OP_GATHER_ELEMENTS); }

nn_status onnx_GatherND(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(need_indices(n, 1));
  ONNX_GIVE(n, gather(n, NN_OP_GATHER_ND, n->in[0], n->in[1], "batch_dims", onnx_int(n, "batch_dims", 0)));
}

static nn_status give_scatter(onnx_node *n, nn_opcode code) {
  NN_TRY(onnx_need(n, 3, 3, 1));
  NN_TRY(need_indices(n, 1));
  const char *reduction = onnx_str(n, "reduction", "none");
  int axis = 0;
  if (code == NN_OP_SCATTER_ELEMENTS) NN_TRY(onnx_axis(n, onnx_int(n, "axis", 0), n->in[0]->type.rank, &axis));
  nn_value *in[3] = {n->in[0], onnx_to_i64(n, n->in[1]), n->in[2]};
  nn_op *op = nn_b_begin(n->b, code, in, 3, -1);
  if (!op) return NN_FAIL;
  if (code == NN_OP_SCATTER_ELEMENTS) nn_set_int(op, "axis", axis);
  nn_set_str(op, "reduction", reduction);
  ONNX_GIVE(n, nn_b_end(n->b, op));
}

nn_status onnx_ScatterElements(onnx_node *n) { return give_scatter(n, NN_OP_SCATTER_ELEMENTS); }
nn_status onnx_ScatterND(onnx_node *n) { return give_scatter(n, NN_OP_SCATTER_ND); }
nn_status onnx_Scatter(onnx_node *n) {
  return give_scatter(n, NN_OP_SCATTER_ELEMENTS);
} /* its name before version 11 */

/* ---- NonZero, Compress: results whose size depends on data ------------------------------------------------- */

/* The columns of non_zero that hold something: i64[rank, count]. */
static nn_value *non_zero(onnx_node *n, nn_value *x, nn_dim hint) {
  nn_value *results[2];
  const nn_dim *count;
  int k;
  nn_op *op = nn_b_begin(n->b, NN_OP_NON_ZERO, &x, 1, -1);
  if (!op || nn_b_end_all(n->b, op, results) != NN_OK) return NULL;
  if (nn_b_elems(n->b, results[1], 0, &hint, &count, &k) != NN_OK) return NULL;
  return nn_b_slice(n->b, results[0], 1, nn_dim_const(n->m, 0), count[0], nn_dim_const(n->m, 1));
}

nn_status onnx_NonZero(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  nn_value *x = n->in[0]->type.rank ? n->in[0] : nn_b_unsqueeze(n->b, n->in[0], 0); /* a scalar counts as a vector */
  ONNX_GIVE(n, non_zero(n, x, onnx_hints(n, 0, 2)[1]));
}

nn_status onnx_Compress(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_kind(n, 1, ONNX_BOOL));
  NN_TRY(onnx_need_rank(n, 1, 1, 1));
  nn_value *x = n->in[0];
  int axis = 0;
  if (onnx_has(n, "axis")) {
    NN_TRY(onnx_axis(n, onnx_int(n, "axis", 0), x->type.rank, &axis));
  } else {
    nn_dim count = nn_type_count(n->m, x->type);
    x = nn_b_reshape(n->b, x, 1, &count);
    if (!x) return NN_FAIL;
  }
  nn_value *places = non_zero(n, n->in[1], onnx_hints(n, 0, x->type.rank)[axis]);
  nn_value *indices = places ? nn_b_reshape(n->b, places, 1, &places->type.dims[1]) : NULL;
  ONNX_GIVE(n, gather(n, NN_OP_GATHER, x, indices, "axis", axis));
}

/* ---- OneHot -------------------------------------------------------------------------------------------- */

/* depth: one number, of any type; the declared dimension helps when it is only known while running. */
static nn_status get_depth(onnx_node *n, nn_dim hint, nn_dim *depth) {
  const nn_dim *dims;
  int count;
  nn_value *v = onnx_as_scalar(n, n->in[1]);
  if (v && nn_dtype_is_float(v->type.dtype)) v = nn_b_cast(n->b, v, NN_I64);
  NN_TRY(nn_b_elems(n->b, v, 0, &hint, &dims, &count));
  *depth = dims[0];
  return NN_OK;
}

nn_status onnx_OneHot(onnx_node *n) {
  NN_TRY(onnx_need(n, 3, 3, 1));
  NN_TRY(onnx_need_kind(n, 0, ONNX_NUMBER));
  NN_TRY(onnx_need_kind(n, 1, ONNX_NUMBER));
  NN_TRY(onnx_need_size(n, 2, nn_dim_const(n->m, 2)));
  nn_builder *b = n->b;
  nn_module *m = n->m;
  nn_type x = n->in[0]->type;
  nn_dim depth, one = nn_dim_const(m, 1), dims[NN_MAX_RANK];
  int axis, rank = x.rank + 1;
  if (rank > NN_MAX_RANK) return onnx_fail(n, "the result has rank %d, at most %d is possible", rank, NN_MAX_RANK);
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", -1), rank, &axis));
  NN_TRY(get_depth(n, onnx_hints(n, 0, rank)[axis], &depth));
  for (int d = 0; d < rank; d++) dims[d] = d == axis ? depth : one;
  nn_value *indices = nn_b_unsqueeze(b, onnx_to_i64(n, n->in[0]), axis);
  nn_value *number = nn_b_dims(b, &depth, 1);
  /* -depth .. -1 count from the end; what is out of range is off everywhere */
  nn_value *from_front = nn_b_binary(b, NN_OP_ADD, indices, onnx_as_scalar(n, number));
  indices = nn_b_select(b, nn_b_scalar_op(b, NN_OP_LT, indices, 0), from_front, indices);
  nn_value *is_on = nn_b_binary(b, NN_OP_EQ, indices, nn_b_iota(b, NN_I64, rank, dims, axis));
  nn_value *off = onnx_as_scalar(n, nn_b_slice(b, n->in[2], 0, nn_dim_const(m, 0), one, one));
  nn_value *on = onnx_as_scalar(n, nn_b_slice(b, n->in[2], 0, one, one, one));
  ONNX_GIVE(n, nn_b_select(b, is_on, on, off));
}

/* ---- TopK ---------------------------------------------------------------------------------------------- */

static nn_status get_k(onnx_node *n, nn_dim hint, nn_dim *k) {
  const nn_dim *dims;
  int count;
  if (n->since < 10) {
    NN_TRY(onnx_need(n, 1, 1, 2));
    *k = nn_dim_const(n->m, onnx_int(n, "k", 0));
    return onnx_has(n, "k") ? NN_OK : onnx_fail(n, "attribute 'k' is missing");
  }
  NN_TRY(onnx_need(n, 2, 2, 2));
  NN_TRY(onnx_dims(n, 1, 0, false, &dims, &count));
  if (count != 1) return onnx_fail(n, "k has %d elements, expected 1", count);
  *k = onnx_settle(n, dims[0], hint, "k");
  return *k ? NN_OK : NN_FAIL;
}

nn_status onnx_TopK(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 2, 2));
  int axis, rank = n->in[0]->type.rank;
  nn_dim k;
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", -1), rank, &axis));
  NN_TRY(get_k(n, onnx_hints(n, 0, rank)[axis], &k));
  nn_op *op = nn_b_begin(n->b, NN_OP_TOP_K, n->in, 1, -1);
  if (!op) return NN_FAIL;
  nn_set_dims(op, "k", &k, 1);
  nn_set_int(op, "axis", axis);
  nn_set_int(op, "largest", onnx_int(n, "largest", 1) != 0);
  nn_set_int(op, "sorted", onnx_int(n, "sorted", 1) != 0);
  nn_value *results[2];
  NN_TRY(nn_b_end_all(n->b, op, results));
  NN_TRY(onnx_give(n, 0, results[0]));
  return onnx_give(n, 1, results[1]);
}
