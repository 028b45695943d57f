/* com.microsoft Attention: self-attention with the packed projection of queries, keys and values. */
#include "frontend/onnx.h"

#include <math.h>

typedef struct attention {
  nn_dim batch, length, past, total; /* total = past + length keys */
  int64_t heads;
  nn_dim sizes[3];     /* of q, k, v over all heads */
  nn_value *q, *k, *v; /* [B, heads, S or T, size / heads] */
} attention;

static nn_value *input(onnx_node *n, int i) { return i < n->nin ? n->in[i] : NULL; }
static nn_dim number(onnx_node *n, int64_t value) { return nn_dim_const(n->m, value); }

/* ---- checks ----------------------------------------------------------------------------------- */

/* Attribute qkv_hidden_sizes, or a third of the projection each. */
static nn_status read_sizes(onnx_node *n, attention *a) {
  int count = 0;
  const int64_t *given = onnx_ints(n, "qkv_hidden_sizes", &count);
  nn_dim all = n->in[1]->type.dims[1], sum = number(n, 0);
  if (count != 0 && count != 3) return onnx_fail(n, "attribute qkv_hidden_sizes has %d values, expected 3", count);
  for (int i = 0; i < 3; i++) {
    if (count)
      a->sizes[i] = number(n, given[i]);
    else if (!nn_dim_divides(n->m, all, number(n, 3), &a->sizes[i]))
      return onnx_fail(n, "weight has %s columns, expected a multiple of 3", nn_dim_text(n->m->arena, all));
    nn_dim rest = nn_dim_mod(n->m, a->sizes[i], number(n, a->heads));
    if ((count && given[i] < 0) || !nn_dim_is(rest, 0))
      return onnx_fail(n, "hidden size %s is no multiple of num_heads, %lld", nn_dim_text(n->m->arena, a->sizes[i]),
                       (long long)a->heads);
    sum = nn_dim_add(n->m, sum, a->sizes[i]);
  }
  if (a->sizes[0] != a->sizes[1])
    return onnx_fail(n, "queries have size %s, keys %s, expected the same", nn_dim_text(n->m->arena, a->sizes[0]),
                     nn_dim_text(n->m->arena, a->sizes[1]));
  return nn_b_check(n->b, "eq", all, sum, "columns of the weight");
}

static nn_status check_past(onnx_node *n, attention *a) {
  a->past = number(n, 0);
  if (input(n, 4)) {
    NN_TRY(onnx_need_rank(n, 4, 5, 5));
    const nn_dim *d = n->in[4]->type.dims;
    nn_dim head = nn_dim_floordiv(n->m, a->sizes[1], number(n, a->heads));
    nn_dim want[5] = {number(n, 2), a->batch, number(n, a->heads), d[3], head};
    for (int i = 0; i < 5; i++)
      NN_TRY(nn_b_check(n->b, "eq", d[i], want[i], nn_sprintf(n->m->arena, "dimension %d of past", i)));
    a->past = d[3];
  }
  a->total = nn_dim_add(n->m, a->past, a->length);
  if ((input(n, 4) || onnx_wants(n, 1)) && a->sizes[1] != a->sizes[2])
    return onnx_fail(n, "past and present need keys and values of one size, found %s and %s",
                     nn_dim_text(n->m->arena, a->sizes[1]), nn_dim_text(n->m->arena, a->sizes[2]));
  return NN_OK;
}

static nn_status check_attention(onnx_node *n, attention *a) {
  NN_TRY(onnx_need(n, 2, 7, 2));
  NN_TRY(onnx_need_float(n, 0));
  NN_TRY(onnx_need_rank(n, 0, 3, 3));
  NN_TRY(onnx_need_rank(n, 1, 2, 2));
  NN_TRY(onnx_same_dtype(n, 0, 1));
  static const int floats[] = {2, 4, 5};
  for (int i = 0; i < 3; i++)
    if (input(n, floats[i]) && n->in[floats[i]]->type.dtype != n->in[0]->type.dtype)
      return onnx_fail(n, "input %d has element type %s, expected %s as input 0", floats[i],
                       nn_dtype_name(n->in[floats[i]]->type.dtype), nn_dtype_name(n->in[0]->type.dtype));
  if (input(n, 3)) NN_TRY(onnx_need_kind(n, 3, ONNX_INT));
  if (input(n, 6)) return onnx_unsupported(n, "input past_sequence_length (a shared past and present buffer)");
  if (onnx_int(n, "do_rotary", 0)) return onnx_unsupported(n, "attribute do_rotary");
  a->heads = onnx_int(n, "num_heads", 0);
  if (a->heads < 1) return onnx_fail(n, "attribute num_heads is %lld, expected at least 1", (long long)a->heads);
  a->batch = n->in[0]->type.dims[0];
  a->length = n->in[0]->type.dims[1];
  NN_TRY(nn_b_check(n->b, "eq", n->in[0]->type.dims[2], n->in[1]->type.dims[0], "input size against the weight"));
  NN_TRY(read_sizes(n, a));
  if (input(n, 2)) NN_TRY(onnx_need_size(n, 2, n->in[1]->type.dims[1]));
  return check_past(n, a);
}

/* ---- queries, keys, values -------------------------------------------------------------------- */

static nn_value *split_heads(onnx_node *n, const attention *a, nn_value *projected, nn_dim start, nn_dim size) {
  nn_dim head = nn_dim_floordiv(n->m, size, number(n, a->heads));
  nn_value *part = nn_b_slice(n->b, projected, 1, start, size, number(n, 1));
  part = nn_b_reshape(n->b, part, 4, (nn_dim[]){a->batch, a->length, number(n, a->heads), head});
  return nn_b_transpose(n->b, part, (int64_t[]){0, 2, 1, 3});
}

/* past[which] before the new keys or values. */
static nn_value *join_past(onnx_node *n, nn_value *fresh, int which) {
  nn_value *past = input(n, 4);
  if (!past || !fresh) return fresh;
  past = nn_b_slice(n->b, past, 0, number(n, which), number(n, 1), number(n, 1));
  past = past ? nn_b_reshape(n->b, past, 4, past->type.dims + 1) : NULL;
  return past ? nn_b_concat(n->b, (nn_value *[]){past, fresh}, 2, 2) : NULL;
}

static nn_status project(onnx_node *n, attention *a) {
  nn_dim rows = nn_dim_mul(n->m, a->batch, a->length);
  nn_value *flat = nn_b_reshape(n->b, n->in[0], 2, (nn_dim[]){rows, n->in[0]->type.dims[2]});
  nn_value *all = nn_b_matmul(n->b, flat, n->in[1]);
  if (input(n, 2)) all = nn_b_binary(n->b, NN_OP_ADD, all, n->in[2]);
  if (!all) return NN_FAIL;
  nn_dim second = a->sizes[0], third = nn_dim_add(n->m, a->sizes[0], a->sizes[1]);
  a->q = split_heads(n, a, all, number(n, 0), a->sizes[0]);
  a->k = join_past(n, split_heads(n, a, all, second, a->sizes[1]), 0);
  a->v = join_past(n, split_heads(n, a, all, third, a->sizes[2]), 1);
  return a->q && a->k && a->v ? NN_OK : NN_FAIL;
}

static nn_status give_present(onnx_node *n, const attention *a) {
  if (!onnx_wants(n, 1)) return NN_OK;
  nn_value *parts[2] = {nn_b_unsqueeze(n->b, a->k, 0), nn_b_unsqueeze(n->b, a->v, 0)};
  return onnx_give(n, 1, nn_b_concat(n->b, parts, 2, 0));
}

/* ---- mask ------------------------------------------------------------------------------------- */

/* Key positions 0..T-1 as i64[1,1,1,T]; query positions as [1,1,S,1]. */
static nn_value *key_positions(onnx_node *n, const attention *a) {
  nn_dim one = number(n, 1);
  return nn_b_iota(n->b, NN_I64, 4, (nn_dim[]){one, one, one, a->total}, 3);
}

/* mask[B], the ends of the keys that count; with mask[2B] their starts follow. */
static nn_status mask_from_ends(onnx_node *n, const attention *a, nn_value *mask, nn_value **keep) {
  nn_module *m = n->m;
  nn_dim size = mask->type.dims[0], one = number(n, 1);
  nn_dim twice = nn_dim_mul(m, a->batch, number(n, 2)),
         packed = nn_dim_add(m, nn_dim_mul(m, a->batch, number(n, 3)), number(n, 2));
  bool has_starts = size == twice && size != a->batch;
  if (size == packed && size != a->batch) return onnx_unsupported(n, "mask_index of 3 * batch + 2 values");
  if (!has_starts) NN_TRY(nn_b_check(n->b, "eq", size, a->batch, "size of mask_index"));
  nn_value *positions = key_positions(n, a), *wide = onnx_to_i64(n, mask);
  nn_dim column[4] = {a->batch, one, one, one};
  nn_value *ends = nn_b_slice(n->b, wide, 0, number(n, 0), a->batch, one);
  *keep = nn_b_binary(n->b, NN_OP_LT, positions, nn_b_reshape(n->b, ends, 4, column));
  if (has_starts) {
    nn_value *starts = nn_b_slice(n->b, wide, 0, a->batch, a->batch, one);
    nn_value *is_started = nn_b_binary(n->b, NN_OP_LE, nn_b_reshape(n->b, starts, 4, column), positions);
    *keep = nn_b_binary(n->b, NN_OP_AND, *keep, is_started);
  }
  return *keep ? NN_OK : NN_FAIL;
}

/* mask_index as "this key counts", to broadcast to [B, heads, S, T]; NULL where all do. Its forms are ends,
   [B,T], [B,S,T] and [B,1,M,M], of which the rows of the new queries are taken; [.,1] is a dummy. */
static nn_status read_mask(onnx_node *n, const attention *a, nn_value **keep) {
  nn_value *mask = input(n, 3);
  *keep = NULL;
  if (!mask) return NN_OK;
  nn_dim one = number(n, 1);
  const nn_dim *d = mask->type.dims;
  if (mask->type.rank == 1) return mask_from_ends(n, a, mask, keep);
  if (mask->type.rank == 2) {
    if (nn_dim_is(d[1], 1) && !nn_dim_is(a->total, 1)) return NN_OK;
    mask = nn_b_reshape(n->b, mask, 4, (nn_dim[]){d[0], one, one, d[1]});
  } else if (mask->type.rank == 3) {
    mask = nn_b_unsqueeze(n->b, mask, 1);
  } else if (mask->type.rank == 4) {
    NN_TRY(nn_b_check(n->b, "le", a->total, d[2], "keys against the rows of mask_index"));
    NN_TRY(nn_b_check(n->b, "le", a->total, d[3], "keys against the columns of mask_index"));
    mask = nn_b_slice(n->b, nn_b_slice(n->b, mask, 2, a->past, a->length, one), 3, number(n, 0), a->total, one);
  } else {
    return onnx_fail(n, "mask_index has rank %d, expected 1 to 4", mask->type.rank);
  }
  if (!mask) return NN_FAIL;
  *keep = nn_b_binary(n->b, NN_OP_LT, nn_b_scalar(n->b, mask->type.dtype, 0), mask);
  return *keep ? NN_OK : NN_FAIL;
}

/* Masked scores get mask_filter_value added; with unidirectional a query sees no key after itself. */
static nn_status mask_scores(onnx_node *n, const attention *a, nn_value **scores) {
  nn_builder *b = n->b;
  nn_value *keep;
  NN_TRY(read_mask(n, a, &keep));
  if (!*scores) return NN_FAIL;
  nn_dtype t = (*scores)->type.dtype;
  if (keep) {
    nn_value *bias =
        nn_b_select(b, keep, nn_b_scalar(b, t, 0), nn_b_scalar(b, t, onnx_float(n, "mask_filter_value", -10000)));
    *scores = nn_b_binary(b, NN_OP_ADD, *scores, bias);
  }
  if (onnx_int(n, "unidirectional", 0)) {
    nn_dim one = number(n, 1);
    nn_value *queries = nn_b_iota(b, NN_I64, 4, (nn_dim[]){one, one, a->length, one}, 2);
    nn_value *last = nn_b_binary(b, NN_OP_ADD, queries, onnx_as_scalar(n, nn_b_dims(b, &a->past, 1)));
    nn_value *is_seen = nn_b_binary(b, NN_OP_LE, key_positions(n, a), last);
    *scores = nn_b_select(b, is_seen, *scores, nn_b_scalar(b, t, -3.4028234663852886e38));
  }
  return *scores ? NN_OK : NN_FAIL;
}

/* ---- the whole -------------------------------------------------------------------------------- */

/* q k^T * scale in f32, with the relative position bias (input 5). */
static nn_value *make_scores(onnx_node *n, const attention *a) {
  int64_t head = 0;
  nn_dim_is_const(nn_dim_floordiv(n->m, a->sizes[0], number(n, a->heads)), &head);
  double scale = onnx_float(n, "scale", 0);
  if (scale == 0) scale = 1 / sqrt(head > 0 ? (double)head : 1);
  nn_value *scores = onnx_scale(n, onnx_wide(n, onnx_matmul_trans(n, a->q, a->k, false, true)), scale);
  return input(n, 5) ? nn_b_binary(n->b, NN_OP_ADD, scores, onnx_wide(n, n->in[5])) : scores;
}

nn_status onnx_Attention(onnx_node *n) {
  if (!*n->domain) return onnx_attend(n);
  attention a;
  NN_TRY(check_attention(n, &a));
  NN_TRY(project(n, &a));
  NN_TRY(give_present(n, &a));
  nn_value *scores = make_scores(n, &a);
  NN_TRY(mask_scores(n, &a, &scores));
  nn_op *op = nn_b_begin(n->b, NN_OP_SOFTMAX, &scores, 1, -1);
  if (!op) return NN_FAIL;
  nn_set_int(op, "axis", 3);
  nn_value *weights = nn_b_cast(n->b, nn_b_end(n->b, op), n->in[0]->type.dtype);
  nn_value *heads = nn_b_transpose(n->b, onnx_matmul_trans(n, weights, a.v, false, false), (int64_t[]){0, 2, 1, 3});
  ONNX_GIVE(n, nn_b_reshape(n->b, heads, 3, (nn_dim[]){a.batch, a.length, a.sizes[2]}));
}
