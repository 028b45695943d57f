/* com.microsoft operators that exporters emit for ONNX Runtime: GELUs, fused norms, FusedMatMul and the
   quantised element-wise ones. Attention is in onnx_attention.c. */
#include "frontend/onnx.h"

static nn_value *input(onnx_node *n, int i) { return i < n->nin ? n->in[i] : NULL; }
static nn_value *binary(onnx_node *n, nn_opcode code, nn_value *x, nn_value *y) {
  return nn_b_binary(n->b, code, x, y);
}
static nn_value *add_wide(onnx_node *n, nn_value *x, nn_value *y) {
  return y ? binary(n, NN_OP_ADD, x, onnx_wide(n, y)) : x;
}

/* For operators whose optional inputs are not the last ones: these have to be there. */
static nn_status need_inputs(onnx_node *n, const int *which, int count) {
  for (int i = 0; i < count; i++)
    if (!input(n, which[i])) return onnx_fail(n, "input %d is missing", which[i]);
  return NN_OK;
}

/* ---- activations ------------------------------------------------------------------------------ */

/* The definitions of FastGelu and QuickGelu have their constants in the type of x. */
static double in_type_of_x(onnx_node *n, double constant) { return nn_round_to(n->in[0]->type.dtype, constant); }

/* x (+ bias), in f32. */
static nn_status biased(onnx_node *n, int nin_min, nn_value **x) {
  NN_TRY(onnx_need(n, nin_min, 2, 1));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_same_dtype(n, 0, n->nin - 1));
  *x = add_wide(n, onnx_wide(n, n->in[0]), input(n, 1));
  return *x ? NN_OK : NN_FAIL;
}

nn_status onnx_FastGelu(onnx_node *n) {
  nn_value *x;
  NN_TRY(biased(n, 1, &x));
  nn_value *cubic = nn_b_scalar_op(n->b, NN_OP_MUL, onnx_square(n, x), in_type_of_x(n, 0.035677408136300125));
  nn_value *inner = nn_b_scalar_op(n->b, NN_OP_ADD, cubic, in_type_of_x(n, 0.79788456080286536)); /* sqrt(2/pi) */
  nn_value *gate = nn_b_unary(n->b, NN_OP_TANH, binary(n, NN_OP_MUL, x, inner));
  nn_value *half = onnx_scale(n, x, 0.5), *y = binary(n, NN_OP_MUL, half, nn_b_scalar_op(n->b, NN_OP_ADD, gate, 1));
  ONNX_GIVE(n, nn_b_cast(n->b, y, n->in[0]->type.dtype));
}

nn_status onnx_BiasGelu(onnx_node *n) {
  nn_value *x;
  NN_TRY(biased(n, 2, &x));
  ONNX_GIVE(n, nn_b_cast(n->b, onnx_gelu(n, x, false), n->in[0]->type.dtype));
}

nn_status onnx_QuickGelu(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_float(n, 0));
  nn_value *x = onnx_wide(n, n->in[0]);
  nn_value *gate = nn_b_unary(n->b, NN_OP_SIGMOID, onnx_scale(n, x, in_type_of_x(n, onnx_float(n, "alpha", 1.702))));
  ONNX_GIVE(n, nn_b_cast(n->b, binary(n, NN_OP_MUL, x, gate), n->in[0]->type.dtype));
}

/* ---- norms ------------------------------------------------------------------------------------ */

/* The last axis of sum (in f32), normalised, scaled by input gamma and shifted by input beta (if any). */
static nn_status normalize_last(onnx_node *n, nn_value *sum, int gamma, int beta, nn_value **results) {
  if (!sum) return NN_FAIL;
  NN_TRY(onnx_need_size(n, gamma, sum->type.dims[sum->type.rank - 1]));
  if (input(n, beta)) NN_TRY(onnx_need_size(n, beta, sum->type.dims[sum->type.rank - 1]));
  NN_TRY(onnx_normalize(n, sum, sum->type.rank - 1, onnx_float(n, "epsilon", 1e-12), results));
  results[0] = add_wide(n, binary(n, NN_OP_MUL, results[0], onnx_wide(n, n->in[gamma])), input(n, beta));
  return results[0] ? NN_OK : NN_FAIL;
}

/* layer norm of input + skip + bias. Outputs: y, mean, inverse deviation, the sum. */
nn_status onnx_SkipLayerNormalization(onnx_node *n) {
  NN_TRY(onnx_need(n, 3, 5, 4));
  for (int i = 0; i < n->nin; i++)
    if (n->in[i]) NN_TRY(onnx_need_float(n, i));
  NN_TRY(onnx_need_rank(n, 0, 2, -1));
  nn_dtype t = n->in[0]->type.dtype;
  nn_value *sum = add_wide(n, onnx_wide(n, n->in[0]), n->in[1]), *results[3];
  if (input(n, 4)) NN_TRY(onnx_need_size(n, 4, n->in[0]->type.dims[n->in[0]->type.rank - 1]));
  sum = add_wide(n, sum, input(n, 4));
  NN_TRY(normalize_last(n, sum, 2, 3, results));
  for (int i = 1; i < 3; i++)
    if (onnx_wants(n, i)) NN_TRY(onnx_give(n, i, results[i]));
  if (onnx_wants(n, 3)) NN_TRY(onnx_give(n, 3, nn_b_cast(n->b, sum, t)));
  ONNX_GIVE(n, nn_b_cast(n->b, results[0], t));
}

static nn_value *gather_rows(onnx_node *n, nn_value *table, nn_value *ids) {
  nn_op *op = table && ids ? nn_b_begin(n->b, NN_OP_GATHER, (nn_value *[]){table, onnx_to_i64(n, ids)}, 2, -1) : NULL;
  if (!op) return NULL;
  nn_set_int(op, "axis", 0);
  return nn_b_end(n->b, op);
}

/* Rows of the position table: of given ids, or the first ones. */
static nn_status embed_positions(onnx_node *n, nn_value *table, nn_value *ids, nn_dim length, nn_value **rows) {
  if (ids) {
    *rows = gather_rows(n, table, ids);
  } else {
    NN_TRY(nn_b_check(n->b, "le", length, table->type.dims[0], "sequence length against the position embeddings"));
    *rows = nn_b_slice(n->b, table, 0, nn_dim_const(n->m, 0), length, nn_dim_const(n->m, 1));
  }
  return *rows ? NN_OK : NN_FAIL;
}

/* Output 1: how many entries of the mask are 1 in each row; 0 without a mask. */
static nn_status give_mask_index(onnx_node *n, nn_value *mask, nn_dim batch) {
  if (!onnx_wants(n, 1)) return NN_OK;
  nn_value *count = nn_b_fill(n->b, NN_I32, 0, 1, &batch);
  if (mask) {
    nn_value *is_one = nn_b_cast(n->b, nn_b_scalar_op(n->b, NN_OP_EQ, mask, 1), NN_I32);
    count = nn_b_reduce(n->b, NN_OP_REDUCE_SUM, is_one, (int64_t[]){1}, 1, false);
  }
  return onnx_give(n, 1, count);
}

static nn_status check_embedding(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 9, 3));
  NN_TRY(need_inputs(n, (int[]){0, 2, 3, 5, 6}, 5));
  static const int ids[] = {0, 1, 7, 8}, tables[] = {2, 3, 4};
  for (int i = 0; i < 4; i++) {
    if (!input(n, ids[i])) continue;
    NN_TRY(onnx_need_kind(n, ids[i], ONNX_INT));
    NN_TRY(onnx_need_rank(n, ids[i], 2, 2));
  }
  for (int i = 0; i < 3; i++) {
    if (!input(n, tables[i])) continue;
    NN_TRY(onnx_need_float(n, tables[i]));
    NN_TRY(onnx_need_rank(n, tables[i], 2, 2));
  }
  NN_TRY(onnx_need_float(n, 5));
  return onnx_need_float(n, 6);
}

/* Inputs: ids, segment ids?, word, position and segment? tables, gamma, beta, mask?, position ids?. Outputs:
   the layer norm of the sum, mask index, the sum. */
nn_status onnx_EmbedLayerNormalization(onnx_node *n) {
  NN_TRY(check_embedding(n));
  nn_type ids = n->in[0]->type;
  nn_dtype t = n->in[2]->type.dtype;
  nn_value *positions, *results[3];
  NN_TRY(embed_positions(n, n->in[3], input(n, 8), ids.dims[1], &positions));
  nn_value *sum = add_wide(n, onnx_wide(n, gather_rows(n, n->in[2], n->in[0])), positions);
  if (input(n, 1) && input(n, 4)) sum = add_wide(n, sum, gather_rows(n, n->in[4], n->in[1]));
  NN_TRY(normalize_last(n, sum, 5, 6, results));
  NN_TRY(give_mask_index(n, input(n, 7), ids.dims[0]));
  if (onnx_wants(n, 2)) NN_TRY(onnx_give(n, 2, nn_b_cast(n->b, sum, t)));
  ONNX_GIVE(n, nn_b_cast(n->b, results[0], t));
}

/* ---- FusedMatMul ------------------------------------------------------------------------------ */

/* With trans_batch the batch dims come between the matrix dims: [M, batch.., K]. */
static nn_value *order_matrix(onnx_node *n, nn_value *x, bool trans, bool trans_batch) {
  int64_t perm[NN_MAX_RANK];
  int rank = x->type.rank;
  if (rank < 2) return x;
  for (int i = 0; i < rank; i++) perm[i] = trans_batch && i < rank - 2 ? i + 1 : i;
  if (trans_batch) perm[rank - 2] = 0;
  if (trans) {
    int64_t last = perm[rank - 1];
    perm[rank - 1] = perm[rank - 2];
    perm[rank - 2] = last;
  }
  return trans || trans_batch ? nn_b_transpose(n->b, x, perm) : x;
}

nn_status onnx_FusedMatMul(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_same_dtype(n, 0, 1));
  NN_TRY(onnx_need_rank(n, 0, 1, -1));
  NN_TRY(onnx_need_rank(n, 1, 1, -1));
  nn_value *x = order_matrix(n, n->in[0], onnx_int(n, "transA", 0) != 0, onnx_int(n, "transBatchA", 0) != 0);
  nn_value *y = order_matrix(n, n->in[1], onnx_int(n, "transB", 0) != 0, onnx_int(n, "transBatchB", 0) != 0);
  ONNX_GIVE(n, onnx_scale(n, nn_b_matmul(n->b, x, y), onnx_float(n, "alpha", 1)));
}

/* ---- quantised -------------------------------------------------------------------------------- */

/* Inputs scale and scale + 1, a zero point that may be missing: one for the whole tensor. */
static nn_status check_params(onnx_node *n, int scale) {
  for (int i = scale; i < scale + 2; i++)
    if (input(n, i) && !nn_dim_is(nn_type_count(n->m, n->in[i]->type), 1))
      return onnx_unsupported(n, "input %d is %s, expected one value for the whole tensor", i,
                              nn_type_text(n->m->arena, n->in[i]->type));
  return onnx_need_float(n, scale);
}

/* y + zero, rounded and saturated. ONNX Runtime adds the zero point before it rounds, so halves go to the
   even result. zero: an input that may be missing; the type is its, or input 0's. */
static nn_status give_rounded(onnx_node *n, nn_value *y, int zero) {
  nn_dtype to = n->in[0]->type.dtype;
  if (input(n, zero)) {
    to = n->in[zero]->type.dtype;
    y = binary(n, NN_OP_ADD, y, nn_b_cast(n->b, onnx_as_scalar(n, n->in[zero]), NN_F32));
  }
  return onnx_give(n, 0, onnx_quantize(n, y, NULL, NULL, to));
}

/* The scale in input i, in f32. */
static nn_value *scale_of(onnx_node *n, int i) { return nn_b_cast(n->b, onnx_as_scalar(n, n->in[i]), NN_F32); }

/* Both operands without their zero points, still to be scaled. */
static nn_status read_pair(onnx_node *n, nn_value **x, nn_value **y) {
  NN_TRY(onnx_need(n, 1, 8, 1));
  NN_TRY(need_inputs(n, (int[]){0, 1, 3, 4, 6}, 5));
  for (int i = 0; i < 6; i += 3) {
    NN_TRY(onnx_need_kind(n, i, ONNX_INT));
    NN_TRY(check_params(n, i + 1));
  }
  NN_TRY(check_params(n, 6));
  *x = onnx_dequantize(n, n->in[0], NULL, onnx_as_scalar(n, input(n, 2)));
  *y = onnx_dequantize(n, n->in[3], NULL, onnx_as_scalar(n, input(n, 5)));
  return NN_OK;
}

/* x * (x_scale / scale) + y * (y_scale / scale): quotients of scales first, as ONNX Runtime does, so that
   halves, which are common, are met by both. */
nn_status onnx_QLinearAdd(onnx_node *n) {
  nn_value *x, *y;
  NN_TRY(read_pair(n, &x, &y));
  nn_value *scale = scale_of(n, 6);
  x = binary(n, NN_OP_MUL, x, binary(n, NN_OP_DIV, scale_of(n, 1), scale));
  y = binary(n, NN_OP_MUL, y, binary(n, NN_OP_DIV, scale_of(n, 4), scale));
  return give_rounded(n, binary(n, NN_OP_ADD, x, y), 7);
}

nn_status onnx_QLinearMul(onnx_node *n) {
  nn_value *x, *y;
  NN_TRY(read_pair(n, &x, &y));
  nn_value *scale = binary(n, NN_OP_DIV, binary(n, NN_OP_MUL, scale_of(n, 1), scale_of(n, 4)), scale_of(n, 6));
  return give_rounded(n, binary(n, NN_OP_MUL, binary(n, NN_OP_MUL, x, y), scale), 7);
}

/* Moves the channel axis: last to second, or back. */
static nn_value *move_channels(onnx_node *n, nn_value *x, bool to_second) {
  if (!x) return NULL;
  int64_t perm[NN_MAX_RANK];
  int rank = x->type.rank;
  perm[0] = 0;
  for (int i = 1; i < rank; i++) perm[i] = to_second ? (i == 1 ? rank - 1 : i - 1) : (i == rank - 1 ? 1 : i + 1);
  return nn_b_transpose(n->b, x, perm);
}

nn_status onnx_QLinearAveragePool(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 5, 1));
  NN_TRY(need_inputs(n, (int[]){0, 1, 3}, 3));
  NN_TRY(onnx_need_rank(n, 0, 3, 5));
  NN_TRY(onnx_need_kind(n, 0, ONNX_INT));
  nn_op *op;
  NN_TRY(check_params(n, 1));
  NN_TRY(check_params(n, 3));
  nn_value *x = onnx_dequantize(n, n->in[0], NULL, onnx_as_scalar(n, input(n, 2)));
  bool channels_last = onnx_int(n, "channels_last", 0) != 0;
  if (channels_last) x = move_channels(n, x, true);
  if (!x) return NN_FAIL;
  NN_TRY(onnx_pool_begin(n, NN_OP_AVG_POOL, x, x->type.rank - 2, &op));
  nn_set_int(op, "count_include_pad", onnx_int(n, "count_include_pad", 0) != 0);
  nn_value *y = binary(n, NN_OP_MUL, nn_b_end(n->b, op), binary(n, NN_OP_DIV, scale_of(n, 1), scale_of(n, 3)));
  return give_rounded(n, channels_last ? move_channels(n, y, false) : y, 4);
}

/* Attribute opset says whose Softmax it is: before 13 the dims from axis on are one. */
nn_status onnx_QLinearSoftmax(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 5, 1));
  NN_TRY(need_inputs(n, (int[]){0, 1, 3}, 3));
  int axis = 0;
  NN_TRY(check_params(n, 1));
  NN_TRY(check_params(n, 3));
  NN_TRY(onnx_need_kind(n, 0, ONNX_INT));
  nn_value *x = onnx_dequantize(n, n->in[0], scale_of(n, 1), onnx_as_scalar(n, input(n, 2))), *flat;
  if (!x) return NN_FAIL;
  bool flattens = onnx_int(n, "opset", 13) < 13;
  NN_TRY(onnx_axis(n, onnx_int(n, "axis", flattens ? 1 : -1), x->type.rank, &axis));
  flat = flattens ? onnx_as_matrix(n, x, axis) : x;
  nn_op *op = flat ? nn_b_begin(n->b, NN_OP_SOFTMAX, &flat, 1, -1) : NULL;
  if (!op) return NN_FAIL;
  nn_set_int(op, "axis", axis);
  nn_value *y = nn_b_reshape(n->b, nn_b_end(n->b, op), x->type.rank, x->type.dims);
  return give_rounded(n, binary(n, NN_OP_DIV, y, scale_of(n, 3)), 4);
}
