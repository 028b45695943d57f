/* ONNX Attention (since 23) and RotaryEmbedding: on queries, keys and values that other nodes have made. The operator
   of com.microsoft, which projects them itself, is in onnx_attention.c. */
#include "frontend/onnx.h"

#include <math.h>

typedef struct sdpa {
  nn_value *q, *k, *v;               /* [B, heads, S or T, size of a head], keys with the past ones */
  nn_dim batch, queries, keys, past; /* S, T, and how many of T are past */
  nn_dim q_heads, kv_heads, group;   /* group: queries' heads that share one of the keys */
} sdpa;

enum { Q, K, V, MASK, PAST_KEY, PAST_VALUE, LENGTHS }; /* inputs */
enum { SCALED, SOFTCAPPED, BIASED, PROBABILITIES };    /* qk_matmul_output_mode */

static nn_value *input(onnx_node *n, int i) { return i < n->nin ? n->in[i] : NULL; }
static nn_dim number(onnx_node *n, int64_t value) { return nn_dim_const(n->m, value); }
static nn_value *binary(onnx_node *n, nn_opcode code, nn_value *x, nn_value *y) {
  return nn_b_binary(n->b, code, x, y);
}

/* ---- heads ---------------------------------------------------------------------------------------------- */

/* [B, S, heads * size] -> [B, S, heads, size]. NULL + report. */
static nn_value *split_heads(onnx_node *n, nn_value *x, const char *attr) {
  int64_t heads = onnx_int(n, attr, 0);
  nn_dim size, all = x->type.dims[2];
  if (heads < 1 || !nn_dim_divides(n->m, all, number(n, heads), &size)) {
    onnx_fail(n, "%s is %lld, expected a divisor of %s", attr, (long long)heads, nn_dim_text(n->m->arena, all));
    return NULL;
  }
  return nn_b_reshape(n->b, x, 4, (nn_dim[]){x->type.dims[0], x->type.dims[1], number(n, heads), size});
}

static nn_value *swap_heads(onnx_node *n, nn_value *x) {
  return x ? nn_b_transpose(n->b, x, (int64_t[]){0, 2, 1, 3}) : NULL;
}

/* Input i as [B, heads, S, size], behind its past. */
static nn_value *read_heads(onnx_node *n, int i, const char *attr, int past) {
  nn_value *x = n->in[i], *before = past ? input(n, past) : NULL;
  if (x->type.rank == 3) x = swap_heads(n, split_heads(n, x, attr));
  return x && before ? nn_b_concat(n->b, (nn_value *[]){before, x}, 2, 2) : x;
}

static nn_status check_inputs(onnx_node *n) {
  NN_TRY(onnx_need(n, 3, 7, 4));
  for (int i = Q; i <= V; i++) {
    NN_TRY(onnx_need_float(n, i));
    NN_TRY(onnx_need_rank(n, i, 3, 4));
    if (n->in[i]->type.rank != n->in[Q]->type.rank)
      return onnx_fail(n, "input %d has rank %d, expected %d as input 0", i, n->in[i]->type.rank, n->in[Q]->type.rank);
  }
  if (!input(n, PAST_KEY) != !input(n, PAST_VALUE)) return onnx_fail(n, "one of past_key and past_value is missing");
  if (input(n, PAST_KEY)) NN_TRY(onnx_need_rank(n, PAST_KEY, 4, 4));
  if (input(n, PAST_VALUE)) NN_TRY(onnx_need_rank(n, PAST_VALUE, 4, 4));
  if (input(n, PAST_KEY) && input(n, LENGTHS)) return onnx_fail(n, "past_key goes not with nonpad_kv_seqlen");
  if (input(n, MASK)) NN_TRY(onnx_need_kind(n, MASK, ONNX_FLOAT | ONNX_BOOL));
  if (input(n, MASK)) NN_TRY(onnx_need_rank(n, MASK, 1, 4));
  if (input(n, LENGTHS)) NN_TRY(onnx_need_kind(n, LENGTHS, ONNX_INT));
  if (input(n, LENGTHS)) NN_TRY(onnx_need_size(n, LENGTHS, n->in[Q]->type.dims[0]));
  return NN_OK;
}

static nn_status read_operands(onnx_node *n, sdpa *a) {
  a->q = read_heads(n, Q, "q_num_heads", 0);
  a->k = read_heads(n, K, "kv_num_heads", PAST_KEY);
  a->v = read_heads(n, V, "kv_num_heads", PAST_VALUE);
  if (!a->q || !a->k || !a->v) return NN_FAIL;
  a->batch = a->q->type.dims[0];
  a->q_heads = a->q->type.dims[1];
  a->queries = a->q->type.dims[2];
  a->kv_heads = a->k->type.dims[1];
  a->keys = a->k->type.dims[2];
  a->past = input(n, PAST_KEY) ? n->in[PAST_KEY]->type.dims[2] : number(n, 0);
  if (!nn_dim_divides(n->m, a->q_heads, a->kv_heads, &a->group))
    return onnx_fail(n, "%s heads of queries are no multiple of %s heads of keys", nn_dim_text(n->m->arena, a->q_heads),
                     nn_dim_text(n->m->arena, a->kv_heads));
  if (onnx_wants(n, 1)) NN_TRY(onnx_give(n, 1, a->k));
  return onnx_wants(n, 2) ? onnx_give(n, 2, a->v) : NN_OK;
}

/* x [B, q_heads, S, .] times y of fewer heads: a group's rows are one matrix. */
static nn_value *group_matmul(onnx_node *n, const sdpa *a, nn_value *x, nn_value *y, bool trans_y) {
  if (!x) return NULL;
  nn_dim rows = nn_dim_mul(n->m, a->group, a->queries);
  nn_value *grouped = nn_b_reshape(n->b, x, 4, (nn_dim[]){a->batch, a->kv_heads, rows, x->type.dims[3]});
  nn_value *product = onnx_matmul_trans(n, grouped, y, false, trans_y);
  return product ? nn_b_reshape(n->b, product, 4, (nn_dim[]){a->batch, a->q_heads, a->queries, product->type.dims[3]})
                 : NULL;
}

/* ---- what is added to the scores -------------------------------------------------------------------------- */

/* 0 where keep holds, else -inf. */
static nn_value *bias_of(onnx_node *n, nn_value *keep, nn_dtype t) {
  return nn_b_select(n->b, keep, nn_b_scalar(n->b, t, 0), nn_b_scalar(n->b, t, -INFINITY));
}

static nn_value *add(onnx_node *n, nn_value *bias, nn_value *more) {
  return bias ? binary(n, NN_OP_ADD, bias, more) : more;
}

static nn_value *key_positions(onnx_node *n, const sdpa *a) {
  nn_dim one = number(n, 1);
  return nn_b_iota(n->b, NN_I64, 4, (nn_dim[]){one, one, one, a->keys}, 3);
}

/* Numbers, one for each sample, as i64[B,1,1,1]. */
static nn_value *lengths(onnx_node *n, const sdpa *a) {
  nn_dim one = number(n, 1);
  return nn_b_reshape(n->b, onnx_to_i64(n, n->in[LENGTHS]), 4, (nn_dim[]){a->batch, one, one, one});
}

/* A query sees no key behind itself; the last query sees the last key that counts. */
static nn_value *causal_bias(onnx_node *n, const sdpa *a, nn_dtype t) {
  nn_dim one = number(n, 1);
  nn_value *last = nn_b_iota(n->b, NN_I64, 4, (nn_dim[]){one, one, a->queries, one}, 2);
  nn_value *offset = onnx_as_scalar(n, nn_b_dims(n->b, &a->past, 1));
  if (input(n, LENGTHS))
    offset = binary(n, NN_OP_SUB, lengths(n, a), onnx_as_scalar(n, nn_b_dims(n->b, &a->queries, 1)));
  return bias_of(n, binary(n, NN_OP_LE, key_positions(n, a), binary(n, NN_OP_ADD, last, offset)), t);
}

/* The mask as numbers to add; keys beyond its end do not count. */
static nn_value *mask_bias(onnx_node *n, const sdpa *a, nn_dtype t) {
  nn_value *mask = n->in[MASK];
  int last = mask->type.rank - 1;
  mask = mask->type.dtype == NN_BOOL ? bias_of(n, mask, t) : nn_b_cast(n->b, mask, t);
  nn_dim missing = nn_dim_sub(n->m, a->keys, n->in[MASK]->type.dims[last]), pads[NN_MAX_RANK];
  if (!mask || nn_dim_is(missing, 0)) return mask;
  if (nn_b_check(n->b, "le", number(n, 0), missing, "keys without a mask") != NN_OK) return NULL;
  nn_op *op = nn_b_begin(n->b, NN_OP_PAD, (nn_value *[]){mask, nn_b_scalar(n->b, t, -INFINITY)}, 2, -1);
  for (int i = 0; i <= last; i++) pads[i] = number(n, 0);
  nn_set_dims(op, "before", pads, last + 1);
  pads[last] = missing;
  nn_set_dims(op, "after", pads, last + 1);
  return nn_b_end(n->b, op);
}

/* NULL where nothing is added; false after a report. */
static bool make_bias(onnx_node *n, const sdpa *a, nn_dtype t, nn_value **bias) {
  *bias = NULL;
  if (input(n, MASK) && !(*bias = mask_bias(n, a, t))) return false;
  if (onnx_int(n, "is_causal", 0) && !(*bias = add(n, *bias, causal_bias(n, a, t)))) return false;
  if (!input(n, LENGTHS)) return true;
  nn_value *counts = binary(n, NN_OP_LT, key_positions(n, a), lengths(n, a));
  return (*bias = add(n, *bias, bias_of(n, counts, t))) != NULL;
}

/* ---- the whole ------------------------------------------------------------------------------------------ */

static nn_value *scaled_scores(onnx_node *n, const sdpa *a) {
  int64_t size = 0;
  nn_dim_is_const(a->q->type.dims[3], &size);
  if (!onnx_has(n, "scale") && size < 1) {
    onnx_unsupported(n, "the size of a head is not known while compiling, and attribute scale is missing");
    return NULL;
  }
  nn_value *scores = onnx_wide(n, group_matmul(n, a, a->q, a->k, true));
  return onnx_scale(n, scores, onnx_float(n, "scale", size > 0 ? 1 / sqrt((double)size) : 1));
}

static nn_value *soften(onnx_node *n, nn_value *scores) {
  double cap = onnx_float(n, "softcap", 0);
  if (cap == 0 || !scores) return scores;
  return onnx_scale(n, nn_b_unary(n->b, NN_OP_TANH, nn_b_scalar_op(n->b, NN_OP_DIV, scores, cap)), cap);
}

/* Rows in which no key counts are 0. */
static nn_value *probabilities(onnx_node *n, nn_value *scores, nn_value *bias) {
  nn_op *op = nn_b_begin(n->b, NN_OP_SOFTMAX, &scores, 1, -1);
  if (!op) return NULL;
  nn_set_int(op, "axis", 3);
  nn_value *p = nn_b_end(n->b, op);
  if (!p || !bias) return p;
  nn_dtype t = p->type.dtype;
  nn_value *most = nn_b_reduce(n->b, NN_OP_REDUCE_MAX, bias, (int64_t[]){bias->type.rank - 1}, 1, true);
  nn_value *is_empty = binary(n, NN_OP_EQ, most, nn_b_scalar(n->b, t, -INFINITY));
  return nn_b_select(n->b, is_empty, nn_b_scalar(n->b, t, 0), p);
}

static nn_status give_stage(onnx_node *n, int stage, nn_value *v) {
  if (!onnx_wants(n, 3) || onnx_int(n, "qk_matmul_output_mode", SCALED) != stage) return NN_OK;
  return onnx_give(n, 3, nn_b_cast(n->b, v, n->in[Q]->type.dtype));
}

/* onnx_Attention, for the domain of ONNX. */
nn_status onnx_attend(onnx_node *n) {
  sdpa a;
  nn_value *bias;
  NN_TRY(check_inputs(n));
  NN_TRY(read_operands(n, &a));
  nn_value *scores = scaled_scores(n, &a);
  if (!scores || !make_bias(n, &a, scores->type.dtype, &bias)) return NN_FAIL;
  NN_TRY(give_stage(n, SCALED, scores));
  scores = soften(n, scores);
  NN_TRY(give_stage(n, SOFTCAPPED, scores));
  if (bias) scores = binary(n, NN_OP_ADD, scores, bias);
  NN_TRY(give_stage(n, BIASED, scores));
  nn_value *p = probabilities(n, scores, bias);
  NN_TRY(give_stage(n, PROBABILITIES, p));
  p = p ? nn_b_cast(n->b, p, n->in[V]->type.dtype) : NULL;
  nn_value *y = group_matmul(n, &a, p, a.v, false);
  if (!y || n->in[Q]->type.rank == 4) return onnx_give(n, 0, y);
  nn_dim all = nn_dim_mul(n->m, a.q_heads, y->type.dims[3]);
  ONNX_GIVE(n, nn_b_reshape(n->b, swap_heads(n, y), 3, (nn_dim[]){a.batch, a.queries, all}));
}

/* ---- RotaryEmbedding ------------------------------------------------------------------------------------- */

/* The angles' cosines or sines, input i, as [B, S, 1, half]. */
static nn_value *angles(onnx_node *n, int i) {
  nn_value *cache = onnx_wide(n, n->in[i]);
  if (input(n, 3)) {
    nn_op *op = nn_b_begin(n->b, NN_OP_GATHER, (nn_value *[]){cache, onnx_to_i64(n, n->in[3])}, 2, -1);
    if (!op) return NULL;
    nn_set_int(op, "axis", 0);
    cache = nn_b_end(n->b, op);
  }
  return cache ? nn_b_unsqueeze(n->b, cache, 2) : NULL;
}

/* Half `which` of the pairs of x[B, S, heads, 2 * half]: neighbours when interleaved. */
static nn_value *half_of(onnx_node *n, nn_value *x, nn_dim half, bool interleaved, int which) {
  nn_dim start = interleaved ? number(n, which) : nn_dim_mul(n->m, half, number(n, which));
  return nn_b_slice(n->b, x, 3, start, half, number(n, interleaved ? 2 : 1));
}

static nn_value *join_halves(onnx_node *n, nn_value *first, nn_value *second, bool interleaved) {
  if (!first || !second) return NULL;
  if (!interleaved) return nn_b_concat(n->b, (nn_value *[]){first, second}, 2, 3);
  const nn_dim *d = first->type.dims;
  nn_value *pairs =
      nn_b_concat(n->b, (nn_value *[]){nn_b_unsqueeze(n->b, first, 4), nn_b_unsqueeze(n->b, second, 4)}, 2, 4);
  return nn_b_reshape(n->b, pairs, 4, (nn_dim[]){d[0], d[1], d[2], nn_dim_mul(n->m, d[3], number(n, 2))});
}

static nn_value *rotate(onnx_node *n, nn_value *x, nn_dim half) {
  bool interleaved = onnx_int(n, "interleaved", 0) != 0;
  nn_value *c = angles(n, 1), *s = angles(n, 2);
  nn_value *a = half_of(n, x, half, interleaved, 0), *b = half_of(n, x, half, interleaved, 1);
  nn_value *real = binary(n, NN_OP_SUB, binary(n, NN_OP_MUL, c, a), binary(n, NN_OP_MUL, s, b));
  nn_value *imaginary = binary(n, NN_OP_ADD, binary(n, NN_OP_MUL, s, a), binary(n, NN_OP_MUL, c, b));
  return join_halves(n, real, imaginary, interleaved);
}

static nn_status check_rotary(onnx_node *n) {
  NN_TRY(onnx_need(n, 3, 4, 1));
  for (int i = 0; i < 3; i++) NN_TRY(onnx_need_float(n, i));
  NN_TRY(onnx_need_rank(n, 0, 3, 4));
  if (input(n, 3)) NN_TRY(onnx_need_kind(n, 3, ONNX_INT));
  if (input(n, 3)) NN_TRY(onnx_need_rank(n, 3, 2, 2));
  for (int i = 1; i < 3; i++) NN_TRY(onnx_need_rank(n, i, input(n, 3) ? 2 : 3, input(n, 3) ? 2 : 3));
  return NN_OK;
}

/* The first rotary_embedding_dim numbers of each head are rotated, the others stay. */
nn_status onnx_RotaryEmbedding(onnx_node *n) {
  NN_TRY(check_rotary(n));
  nn_value *x = onnx_wide(n, n->in[0]);
  bool is_flat = n->in[0]->type.rank == 3;
  x = is_flat ? split_heads(n, x, "num_heads") : swap_heads(n, x);
  if (!x) return NN_FAIL;
  nn_dim size = x->type.dims[3], turned = size, half, zero = number(n, 0), one = number(n, 1);
  int64_t asked = onnx_int(n, "rotary_embedding_dim", 0);
  if (asked) turned = number(n, asked);
  if (asked < 0 || !nn_dim_divides(n->m, turned, number(n, 2), &half))
    return onnx_fail(n, "%s numbers of a head are to be rotated, expected an even count",
                     nn_dim_text(n->m->arena, turned));
  NN_TRY(nn_b_check(n->b, "le", turned, size, "rotary_embedding_dim against the size of a head"));
  nn_value *y = rotate(n, nn_b_slice(n->b, x, 3, zero, turned, one), half);
  if (turned != size)
    y = y ? nn_b_concat(n->b, (nn_value *[]){y, nn_b_slice(n->b, x, 3, turned, nn_dim_sub(n->m, size, turned), one)}, 2,
                        3)
          : NULL;
  y = y && is_flat ? nn_b_reshape(n->b, y, 3, n->in[0]->type.dims) : swap_heads(n, y);
  ONNX_GIVE(n, nn_b_cast(n->b, y, n->in[0]->type.dtype));
}
