/* ONNX operators that rearrange elements: Transpose, Tile, DepthToSpace, SpaceToDepth, ReverseSequence, Trilu.
   Those about shapes are in onnx_shape.c, cutting and joining in onnx_slice.c, Resize in onnx_resize.c. */
#include "frontend/onnx.h"

#include <string.h>

nn_status onnx_Transpose(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  int count, rank = n->in[0]->type.rank;
  int64_t perm[NN_MAX_RANK], sorted[NN_MAX_RANK];
  const int64_t *given = onnx_ints(n, "perm", &count);
  if (given && count != rank) return onnx_fail(n, "perm has %d entries, the tensor has rank %d", count, rank);
  for (int d = 0; d < rank; d++) perm[d] = given ? given[d] : rank - 1 - d;
  NN_TRY(onnx_axes(n, perm, rank, rank, sorted)); /* each axis once */
  for (int d = 0; d < rank; d++) perm[d] += perm[d] < 0 ? rank : 0;
  ONNX_GIVE(n, nn_b_transpose(n->b, n->in[0], perm));
}

/* ---- Tile ---------------------------------------------------------------------------------------------- */

/* How often along each axis. Version 1 repeats along one axis, which inputs 1 and 2 say. */
static nn_status get_repeats(onnx_node *n, int rank, nn_dim *repeats) {
  const nn_dim *given;
  const int64_t *axis;
  int count, naxes, at;
  NN_TRY(onnx_need(n, n->since == 1 ? 3 : 2, n->since == 1 ? 3 : 2, 1));
  NN_TRY(onnx_dims(n, 1, 0, false, &given, &count));
  for (int d = 0; d < rank; d++) repeats[d] = nn_dim_const(n->m, 1);
  if (n->since == 1) {
    NN_TRY(onnx_const_ints(n, 2, &axis, &naxes));
    if (count != 1 || naxes != 1)
      return onnx_fail(n, "tiles has %d entries and axis %d, expected one each", count, naxes);
    NN_TRY(onnx_axis(n, axis[0], rank, &at));
    repeats[at] = given[0];
    return NN_OK;
  }
  if (count != rank) return onnx_fail(n, "repeats has %d entries, the tensor has rank %d", count, rank);
  for (int d = 0; d < rank; d++) repeats[d] = given[d];
  return NN_OK;
}

nn_status onnx_Tile(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, -1, 1));
  nn_type x = n->in[0]->type;
  nn_dim repeats[NN_MAX_RANK];
  NN_TRY(get_repeats(n, x.rank, repeats));
  const nn_dim *hints = onnx_hints(n, 0, x.rank);
  for (int d = 0; d < x.rank; d++) {
    nn_dim declared = NULL;
    if (hints[d] && !nn_dim_is(x.dims[d], 0)) nn_dim_divides(n->m, hints[d], x.dims[d], &declared);
    repeats[d] = onnx_settle(n, repeats[d], declared, "number of repeats");
    if (!repeats[d]) return NN_FAIL;
  }
  nn_op *op = nn_b_begin(n->b, NN_OP_TILE, n->in, 1, -1);
  nn_set_dims(op, "repeats", repeats, x.rank);
  ONNX_GIVE(n, nn_b_end(n->b, op));
}

/* ---- blocks of channels to blocks of space, and back ------------------------------------------------------ */

static nn_status get_block(onnx_node *n, int64_t *block) {
  NN_TRY(onnx_need(n, 1, 1, 1));
  NN_TRY(onnx_need_rank(n, 0, 4, 4));
  *block = onnx_int(n, "blocksize", 0);
  if (*block >= 1 && *block <= INT32_MAX) return NN_OK;
  return onnx_failed(n) ? NN_FAIL : onnx_fail(n, "blocksize is %lld, expected at least 1", (long long)*block);
}

/* size / by, which must be exact. */
static nn_status divide(onnx_node *n, nn_dim size, nn_dim by, const char *what, nn_dim *out) {
  if (!nn_dim_divides(n->m, size, by, out)) *out = nn_dim_floordiv(n->m, size, by);
  return nn_b_check(n->b, "eq", nn_dim_mul(n->m, *out, by), size, what);
}

nn_status onnx_DepthToSpace(onnx_node *n) {
  static const int64_t depth_first[] = {0, 3, 4, 1, 5, 2}, column_first[] = {0, 1, 4, 2, 5, 3};
  int64_t block;
  NN_TRY(get_block(n, &block));
  nn_module *m = n->m;
  const nn_dim *x = n->in[0]->type.dims;
  const char *mode = onnx_str(n, "mode", "DCR");
  bool is_crd = strcmp(mode, "CRD") == 0;
  if (!is_crd && strcmp(mode, "DCR") != 0) return onnx_fail(n, "mode is '%s', expected DCR or CRD", mode);
  nn_dim b = nn_dim_const(m, block), depth;
  NN_TRY(divide(n, x[1], nn_dim_mul(m, b, b), "channels in whole blocks", &depth));
  nn_dim dcr[6] = {x[0], b, b, depth, x[2], x[3]}, crd[6] = {x[0], depth, b, b, x[2], x[3]};
  nn_dim result[4] = {x[0], depth, nn_dim_mul(m, x[2], b), nn_dim_mul(m, x[3], b)};
  nn_value *blocks = nn_b_reshape(n->b, n->in[0], 6, is_crd ? crd : dcr);
  ONNX_GIVE(n, nn_b_reshape(n->b, nn_b_transpose(n->b, blocks, is_crd ? column_first : depth_first), 4, result));
}

nn_status onnx_SpaceToDepth(onnx_node *n) {
  static const int64_t perm[] = {0, 3, 5, 1, 2, 4};
  int64_t block;
  NN_TRY(get_block(n, &block));
  nn_module *m = n->m;
  const nn_dim *x = n->in[0]->type.dims;
  nn_dim b = nn_dim_const(m, block), height, width;
  NN_TRY(divide(n, x[2], b, "height in whole blocks", &height));
  NN_TRY(divide(n, x[3], b, "width in whole blocks", &width));
  nn_dim split[6] = {x[0], x[1], height, b, width, b};
  nn_dim result[4] = {x[0], nn_dim_mul(m, x[1], nn_dim_mul(m, b, b)), height, width};
  ONNX_GIVE(n, nn_b_reshape(n->b, nn_b_transpose(n->b, nn_b_reshape(n->b, n->in[0], 6, split), perm), 4, result));
}

/* ---- the rest ------------------------------------------------------------------------------------------ */

nn_status onnx_ReverseSequence(onnx_node *n) {
  NN_TRY(onnx_need(n, 2, 2, 1));
  NN_TRY(onnx_need_rank(n, 0, 2, -1));
  NN_TRY(onnx_need_kind(n, 1, ONNX_INT));
  int batch_axis, time_axis, rank = n->in[0]->type.rank;
  NN_TRY(onnx_axis(n, onnx_int(n, "batch_axis", 1), rank, &batch_axis));
  NN_TRY(onnx_axis(n, onnx_int(n, "time_axis", 0), rank, &time_axis));
  nn_value *in[2] = {n->in[0], onnx_to_i64(n, n->in[1])};
  nn_op *op = nn_b_begin(n->b, NN_OP_REVERSE_SEQUENCE, in, 2, -1);
  if (!op) return NN_FAIL;
  nn_set_int(op, "batch_axis", batch_axis);
  nn_set_int(op, "time_axis", time_axis);
  ONNX_GIVE(n, nn_b_end(n->b, op));
}

/* Where column - row is on the kept side of k. */
nn_status onnx_Trilu(onnx_node *n) {
  NN_TRY(onnx_need(n, 1, 2, 1));
  NN_TRY(onnx_need_rank(n, 0, 2, -1));
  nn_type x = n->in[0]->type;
  const nn_dim *matrix = x.dims + x.rank - 2;
  nn_value *row = nn_b_iota(n->b, NN_I64, 2, matrix, 0), *column = nn_b_iota(n->b, NN_I64, 2, matrix, 1);
  if (n->nin > 1 && n->in[1]) {
    NN_TRY(onnx_need_kind(n, 1, ONNX_INT));
    row = nn_b_binary(n->b, NN_OP_ADD, row, onnx_as_scalar(n, onnx_to_i64(n, n->in[1])));
  }
  bool upper = onnx_int(n, "upper", 1) != 0;
  nn_value *kept = nn_b_binary(n->b, NN_OP_LE, upper ? row : column, upper ? column : row);
  ONNX_GIVE(n, nn_b_select(n->b, kept, n->in[0], nn_b_scalar(n->b, x.dtype, 0)));
}
