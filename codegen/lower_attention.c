/* Attention: matmul, pointwise ops, softmax over the last dimension, matmul, in one kernel (passes/pass_fuse.c finds
   them). The scores never go to memory as a whole: a task has a matrix of the batch and some of its rows (all of them
   where there are matrices enough), and of these a block at a time:

     pack k and v in panels for the register tiles
     for each block of rows: scores = ops(q k) into the worker's memory, row by row softmax in place, scores v ->
   results

   The pointwise ops between the two products (scale, mask, bias, casts) are evaluated on each score as it leaves its
   tile. The division by a row's sum waits for the result, unless ops stand behind the softmax.

   Where keys and values are too many, or their number is a symbol, they come in blocks that L2 holds. Then

     for each block of keys: pack it
       for each block of rows: scores, the largest so far, exp; result = result * exp(largest before - largest) + scores v

   and the worker's memory does not depend on the number of keys. With one such block the results never leave the tile. */
#include "codegen/codegen.h"

enum {
  MOST_ROWS = 48,
  ROW_GAP = 16,
  ROW_VECTORS = 4,
  TASKS_WANTED = 16,
  KEYS_LEAST = 128,     /* of a block: whole panels; blocks are multiples of it */
  KEYS_MOST = 1024,
  SPILLED_PARTS = 4,    /* of L2 */
  MOST_BLOCKS = 16       /* of rows in a task, where keys come in blocks: so often a packed block is used */
};

typedef struct attention {
  nn_op *scores, *softmax, *product;
  nn_dtype acc;
  int rank;
  nn_dim m, n, d, e;           /* rows, keys, depth of the scores, columns of the result */
  bool is_blocked;             /* keys come in blocks */
  int64_t key_block;           /* then: keys of a block, at most */
  nn_dim room;                 /* the same as a dimension; else all keys */
  nn_x *key0, *keys;           /* the block at hand: its first key, their number */
  nn_x *is_first, *is_last;    /* block of keys */
  int64_t rows;                /* of a block, at most */
  nn_x *rows_now;              /* of the block at hand; a number if m is one */
  bool has_surplus;            /* then the last block may have rows beyond m: copies of the last row, not stored */
  nn_tile tile[2];             /* of the two products */
  nn_x *batch[NN_MAX_RANK];    /* the matrix at hand */
  nn_x *row;                   /* first one of the block */
  nn_buf *q, *k, *v, *s, *sum; /* [row][pitch], panels, panels, [row][pitch], 1 / sum of each row */
  nn_buf *factor;              /* by which the result so far is multiplied, of each row */
  nn_buf *largests, *sums, *results; /* so far: of all rows of the task */
  nn_x *row0;                  /* the block's first row in the task */
  nn_x *q_pitch, *s_pitch;
  nn_x *line, *largest; /* softmax: the row of s */
  nn_buf *slots;
} attention;

static int width_of(const nn_tile *t) { return t->nv * t->lanes; }

static nn_x *less(nn_lower *L, nn_x *a, nn_x *b) { return nn_x_binary(L->kernel, NN_X_LT, a, b); }

/* The matrix row; where blocks of one size have one beyond the last, the last again. */
static nn_x *row_at(nn_lower *L, const attention *t, nn_x *i) {
  nn_kernel *k = L->kernel;
  nn_x *m = nn_xi_add(k, t->row, i);
  return t->has_surplus ? nn_xi_min(k, m, nn_xi_addc(k, nn_dim_x(L, t->m), -1)) : m;
}

/* Opens the loop over the rows of the block. */
static nn_x *begin_rows(nn_lower *L, const attention *t) {
  return nn_loop_begin(L->kernel, NN_FOR, "r", nn_x_int(L->kernel, 0), t->rows_now);
}

/* ---- operands --------------------------------------------------------------------------------------------- */

typedef struct packing {
  attention *t;
  int which;
  nn_x *room, *depth, *columns; /* of panels; what there is of it now */
  nn_buf *to;
} packing;

static nn_x *operand_at(nn_lower *L, const packing *p, nn_x *depth, nn_x *column) {
  const attention *t = p->t;
  if (p->which) return nn_matmul_b(L, t->product, t->batch, nn_xi_add(L->kernel, t->key0, depth), column);
  return nn_matmul_b(L, t->scores, t->batch, depth, nn_xi_add(L->kernel, t->key0, column));
}

typedef enum part { WHOLE, TAIL, BEYOND } part; /* of a vector is there: all, some columns, none */

/* Vector c of the panel that begins with column n0. */
static void pack_vector(nn_lower *L, const packing *p, nn_x *n0, nn_x *c, nn_x *depth, part how) {
  nn_kernel *k = L->kernel;
  const nn_tile *tile = &p->t->tile[p->which];
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, c, tile->lanes), nn_lanes_begin(L, tile->lanes)), *n = nn_xi_add(k, n0, j);
  if (how == TAIL) nn_guard_push(L, less(L, n, p->columns));
  nn_x *value = how == BEYOND ? nn_zero(L, p->t->acc) : operand_at(L, p, depth, n);
  if (how == TAIL) nn_guard_pop(L);
  nn_x *line = nn_xi_add(k, nn_xi_mul(k, n0, p->room), nn_xi_mulc(k, depth, width_of(tile)));
  nn_store(k, p->to, nn_xi_add(k, line, j), value, NULL);
  nn_lanes_end(L, tile->lanes);
}

static void pack_line(nn_lower *L, const packing *p, nn_x *n0, nn_x *depth, bool is_tail) {
  nn_kernel *k = L->kernel;
  const nn_tile *tile = &p->t->tile[p->which];
  nn_x *c = nn_loop_range(k, NN_UNROLL, "c", tile->nv);
  if (is_tail) {
    nn_if_begin(k, less(L, nn_xi_add(k, n0, nn_xi_mulc(k, c, tile->lanes)), p->columns));
    pack_vector(L, p, n0, c, depth, TAIL);
    nn_else(k);
  }
  pack_vector(L, p, n0, c, depth, is_tail ? BEYOND : WHOLE);
  if (is_tail) nn_end(k);
  nn_end(k);
}

/* Panels [panel][depth][width] for depths and columns up to these. */
static nn_buf *make_panels(nn_lower *L, const attention *t, int which, nn_dim depth, nn_dim columns) {
  nn_module *m = L->module;
  nn_dim width = nn_dim_const(m, width_of(&t->tile[which])), panels = nn_dim_ceildiv(m, columns, width);
  return nn_temp(L, NN_BUF_WORKER, t->acc, nn_dim_mul(m, nn_dim_mul(m, panels, width), depth));
}

/* Zeros beyond the last column. */
static void pack(nn_lower *L, const packing *p) {
  nn_kernel *k = L->kernel;
  int width = width_of(&p->t->tile[p->which]);
  nn_x *panel = nn_loop_begin(k, NN_FOR, "panel", nn_x_int(k, 0), nn_ceildiv_x(L, p->columns, width));
  nn_x *n0 = nn_let(k, nn_xi_mulc(k, panel, width));
  nn_if_begin(k, nn_x_binary(k, NN_X_LE, nn_xi_addc(k, n0, width), p->columns));
  for (int is_tail = 0; is_tail < 2; is_tail++) {
    if (is_tail) nn_else(k);
    nn_x *i = nn_loop_begin(k, NN_FOR, "k", nn_x_int(k, 0), p->depth);
    pack_line(L, p, n0, i, is_tail);
    nn_end(k);
  }
  nn_end(k);
  nn_end(k);
}

static void pack_keys(nn_lower *L, attention *t) {
  nn_x *d = nn_dim_x(L, t->d);
  pack(L, &(packing){t, 0, d, d, t->keys, t->k});
  pack(L, &(packing){t, 1, nn_dim_x(L, t->room), t->keys, nn_dim_x(L, t->e), t->v});
}

static void copy_q_block(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const attention *t = data;
  nn_kernel *k = L->kernel;
  nn_x *d = nn_xi_add(k, i, nn_lanes_begin(L, lanes));
  if (is_tail) nn_guard_push(L, less(L, d, nn_dim_x(L, t->d)));
  nn_x *value = nn_matmul_a(L, t->scores, t->batch, row_at(L, t, t->line), d);
  nn_store(k, t->q, nn_xi_add(k, nn_xi_mul(k, t->line, t->q_pitch), d), value, nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static void copy_q(nn_lower *L, attention *t) {
  nn_kernel *k = L->kernel;
  t->line = begin_rows(L, t);
  nn_block_loops(L, nn_dim_x(L, t->d), nn_target_lanes(L->target, t->acc), copy_q_block, t);
  nn_end(k);
}

/* ---- products --------------------------------------------------------------------------------------------- */

static nn_x *tile_q(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) {
  const attention *t = data;
  return nn_x_load(L->kernel, t->q, nn_xi_add(L->kernel, nn_xi_mul(L->kernel, m, t->q_pitch), ks[0]), NULL);
}

static nn_x *tile_s(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) {
  const attention *t = data;
  return nn_x_load(L->kernel, t->s, nn_xi_add(L->kernel, nn_xi_mul(L->kernel, m, t->s_pitch), ks[0]), NULL);
}

static nn_x *panel_element(nn_lower *L, nn_buf *b, nn_dim depth, int width, nn_x *ki, nn_x *n0, nn_x *j) {
  nn_kernel *k = L->kernel;
  nn_x *line = nn_xi_add(k, nn_xi_mul(k, n0, nn_dim_x(L, depth)), nn_xi_mulc(k, ki, width));
  return nn_x_load(k, b, nn_xi_add(k, line, j), NULL);
}

static nn_x *tile_k(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const attention *t = data;
  return panel_element(L, t->k, t->d, width_of(&t->tile[0]), ks[0], n0, j);
}

static nn_x *tile_v(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  const attention *t = data;
  return panel_element(L, t->v, t->room, width_of(&t->tile[1]), ks[0], n0, j);
}

/* index of element (m, n) of a matrix of the batch. */
static void index_of(const attention *t, nn_x *m, nn_x *n, nn_x **index) {
  for (int i = 0; i < t->rank - 2; i++) index[i] = t->batch[i];
  index[t->rank - 2] = m;
  index[t->rank - 1] = n;
}

static void store_score(nn_lower *L, void *data, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src, nn_x *at) {
  const attention *t = data;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes), *column = nn_xi_add(k, n, l), *index[NN_MAX_RANK];
  if (is_tail) nn_guard_push(L, less(L, column, t->keys));
  index_of(t, nn_let(k, row_at(L, t, m)), nn_xi_add(k, t->key0, column), index);
  nn_x *sum = nn_let(k, nn_x_load(k, src, nn_xi_add(k, at, l), NULL));
  nn_value *given = t->scores->out[0], *wanted = t->softmax->in[0];
  nn_given(L, given, index, nn_x_cast(k, sum, given->type.dtype));
  nn_x *score = nn_x_cast(k, nn_read(L, wanted, index), t->acc);
  nn_store(k, t->s, nn_xi_add(k, nn_xi_mul(k, m, t->s_pitch), column), score, nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

static bool is_scaled_late(const attention *t) { return t->product->in[0] == t->softmax->out[0]; }

static void give_result(nn_lower *L, const attention *t, nn_x *m, nn_x *column, nn_x *value) {
  nn_kernel *k = L->kernel;
  nn_x *index[NN_MAX_RANK];
  if (is_scaled_late(t)) value = nn_x_binary(k, NN_X_MUL, value, nn_x_load(k, t->sum, m, NULL));
  index_of(t, nn_xi_add(k, t->row, m), column, index);
  nn_write(L, t->product->out[0], index, nn_x_cast(k, nn_let(k, value), t->product->out[0]->type.dtype));
}

/* A vector of results of which the present block of keys gives src[at]. */
typedef struct piece {
  nn_x *m, *n, *place; /* place: in t->results */
  int lanes;
  bool is_tail;
  nn_buf *src;
  nn_x *at;
} piece;

/* Opens the vector loop where the results are. */
static nn_x *begin_piece(nn_lower *L, const attention *t, const piece *p) {
  nn_kernel *k = L->kernel;
  if (t->has_surplus) nn_guard_push(L, less(L, nn_let(k, nn_xi_add(k, t->row, p->m)), nn_dim_x(L, t->m)));
  nn_x *l = nn_lanes_begin(L, p->lanes);
  if (p->is_tail) nn_guard_push(L, less(L, nn_xi_add(k, p->n, l), nn_dim_x(L, t->e)));
  return l;
}

static void end_piece(nn_lower *L, const attention *t, const piece *p) {
  if (p->is_tail) nn_guard_pop(L);
  nn_lanes_end(L, p->lanes);
  if (t->has_surplus) nn_guard_pop(L);
}

/* What the blocks of keys before this one gave, and this one: in registers. */
static void add_before(nn_lower *L, const attention *t, piece *p) {
  nn_kernel *k = L->kernel;
  nn_buf *sums = nn_regs(L, t->acc, p->lanes);
  nn_x *l = nn_lanes_begin(L, p->lanes);
  nn_store(k, sums, l, nn_x_load(k, p->src, nn_xi_add(k, p->at, l), NULL), NULL);
  nn_lanes_end(L, p->lanes);
  nn_if_begin(k, nn_x_unary(k, NN_X_NOT, t->is_first));
  l = begin_piece(L, t, p);
  nn_x *before = nn_let(k, nn_x_load(k, t->results, nn_xi_add(k, p->place, l), nn_guard(L)));
  nn_store(k, sums, l, nn_mul_add(L, before, nn_x_load(k, t->factor, p->m, NULL), nn_x_load(k, sums, l, NULL)), NULL);
  end_piece(L, t, p);
  nn_end(k);
  p->src = sums;
  p->at = nn_x_int(k, 0);
}

static void store_result(nn_lower *L, void *data, nn_x *m, nn_x *n, int lanes, bool is_tail, nn_buf *src, nn_x *at) {
  const attention *t = data;
  nn_kernel *k = L->kernel;
  piece p = {.m = m, .n = n, .lanes = lanes, .is_tail = is_tail, .src = src, .at = at};
  nn_x *l;
  if (t->is_blocked) {
    p.place = nn_xi_add(k, nn_xi_mul(k, nn_xi_add(k, t->row0, m), nn_dim_x(L, t->e)), n);
    add_before(L, t, &p);
    nn_if_begin(k, nn_x_unary(k, NN_X_NOT, t->is_last));
    l = begin_piece(L, t, &p);
    nn_store(k, t->results, nn_xi_add(k, p.place, l), nn_x_load(k, p.src, l, NULL), nn_guard(L));
    end_piece(L, t, &p);
    nn_else(k);
  }
  l = begin_piece(L, t, &p);
  give_result(L, t, m, nn_xi_add(k, n, l), nn_x_load(k, p.src, nn_xi_add(k, p.at, l), NULL));
  end_piece(L, t, &p);
  if (t->is_blocked) nn_end(k);
}

static void multiply(nn_lower *L, attention *t, int which) {
  nn_tiles tiles = {.tile = t->tile[which],
                    .m = nn_dim_const(L->module, t->rows),
                    .m_now = nn_x_is_const(t->rows_now, NULL) ? NULL : t->rows_now,
                    .n = which ? t->e : t->room,
                    .n_now = which || !t->is_blocked ? NULL : t->keys,
                    .acc = t->acc,
                    .nk = 1,
                    .kcount = {which ? t->room : t->d},
                    .k_now = which && t->is_blocked ? t->keys : NULL,
                    .a = which ? tile_s : tile_q,
                    .b = which ? tile_v : tile_k,
                    .b_padded = true,
                    .store = which ? store_result : store_score,
                    .data = t,
                    .in_parallel = true};
  nn_tiles_emit(L, &tiles);
}

/* ---- softmax of a row of the block ------------------------------------------------------------------------ */

static int lanes_of(nn_lower *L, const attention *t) { return nn_target_lanes(L->target, t->acc); }

/* The vector at i of the row, where it is; *mask: of a tail. */
static nn_x *place_of(nn_lower *L, const attention *t, nn_x *i, nn_x *l, bool is_tail, nn_x **mask) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_xi_add(k, i, l);
  *mask = is_tail ? less(L, at, t->keys) : NULL;
  return nn_xi_add(k, nn_xi_mul(k, t->line, t->s_pitch), at);
}

static void combine(nn_lower *L, const attention *t, nn_xop op, nn_x *slot, int lanes, nn_x *l, nn_x *value) {
  nn_kernel *k = L->kernel;
  (void)lanes;
  nn_x *reg = nn_xi_add(k, nn_xi_mulc(k, slot, lanes_of(L, t)), l);
  nn_store(k, t->slots, reg, nn_x_binary(k, op, nn_x_load(k, t->slots, reg, NULL), value), NULL);
}

static void largest_block(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data) {
  const attention *t = data;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes), *mask, *at = place_of(L, t, i, l, is_tail, &mask);
  nn_x *value = nn_let(k, nn_x_load(k, t->s, at, mask));
  if (mask) value = nn_x_select(k, mask, value, nn_lowest(L, t->acc));
  combine(L, t, NN_X_MAX, slot, lanes, l, value);
  nn_lanes_end(L, lanes);
}

static void exp_block(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data) {
  const attention *t = data;
  nn_kernel *k = L->kernel;
  nn_x *l = nn_lanes_begin(L, lanes), *mask, *at = place_of(L, t, i, l, is_tail, &mask);
  nn_x *value = nn_let(k, nn_x_binary(k, NN_X_SUB, nn_x_load(k, t->s, at, mask), t->largest));
  value = nn_let(k, nn_math(L, NN_OP_EXP, value));
  nn_store(k, t->s, at, value, mask);
  if (mask) value = nn_x_select(k, mask, value, nn_zero(L, t->acc));
  combine(L, t, NN_X_ADD, slot, lanes, l, value);
  nn_lanes_end(L, lanes);
}

/* What the second product reads, where ops stand between it and the softmax. */
static void weight_block(nn_lower *L, nn_x *i, nn_x *slot, int lanes, bool is_tail, void *data) {
  const attention *t = data;
  nn_kernel *k = L->kernel;
  (void)slot;
  nn_x *l = nn_lanes_begin(L, lanes), *mask, *at = place_of(L, t, i, l, is_tail, &mask), *index[NN_MAX_RANK];
  if (mask) nn_guard_push(L, mask);
  nn_value *given = t->softmax->out[0];
  index_of(t, nn_let(k, row_at(L, t, t->line)), nn_xi_add(k, i, l), index);
  nn_x *value = nn_x_binary(k, NN_X_MUL, nn_x_load(k, t->s, at, mask), t->largest);
  nn_given(L, given, index, nn_let(k, nn_x_cast(k, value, given->type.dtype)));
  nn_store(k, t->s, at, nn_x_cast(k, nn_read(L, t->product->in[0], index), t->acc), nn_guard(L));
  if (mask) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

/* Between if (there are more blocks of keys than this one) and its end: `reg` holds a number that may be replaced. */
static nn_buf *begin_more(nn_lower *L, const attention *t, nn_x *value) {
  nn_kernel *k = L->kernel;
  nn_buf *reg = nn_regs(L, t->acc, 1);
  nn_store(k, reg, nn_x_int(k, 0), value, NULL);
  nn_if_begin(k, nn_x_unary(k, NN_X_NOT, nn_x_binary(k, NN_X_AND, t->is_first, t->is_last)));
  return reg;
}

static nn_x *end_more(nn_lower *L, nn_buf *reg, nn_x *value) {
  nn_kernel *k = L->kernel;
  nn_store(k, reg, nn_x_int(k, 0), value, NULL);
  nn_end(k);
  return nn_let(k, nn_x_load(k, reg, nn_x_int(k, 0), NULL));
}

/* 0 for a row without scores. */
static nn_x *or_zero(nn_lower *L, const attention *t, nn_x *largest) {
  nn_x *has_none = nn_x_binary(L->kernel, NN_X_EQ, largest, nn_lowest(L, t->acc));
  return nn_let(L->kernel, nn_x_select(L->kernel, has_none, nn_zero(L, t->acc), largest));
}

/* The largest score of the row so far; what is to be done with the result so far. */
static nn_x *take_largest(nn_lower *L, const attention *t, nn_x *largest) {
  nn_kernel *k = L->kernel;
  nn_x *lowest = nn_lowest(L, t->acc), *at = nn_xi_add(k, t->row0, t->line);
  nn_buf *reg = begin_more(L, t, largest);
  nn_x *before = nn_let(k, nn_x_select(k, t->is_first, lowest, nn_x_load(k, t->largests, at, NULL)));
  largest = nn_let(k, nn_x_binary(k, NN_X_MAX, before, largest));
  nn_store(k, t->largests, at, largest, NULL);
  nn_x *factor = nn_math(L, NN_OP_EXP, nn_let(k, nn_x_binary(k, NN_X_SUB, before, or_zero(L, t, largest))));
  nn_store(k, t->factor, t->line, factor, NULL);
  return end_more(L, reg, largest);
}

static nn_x *take_sum(nn_lower *L, const attention *t, nn_x *sum) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_xi_add(k, t->row0, t->line);
  nn_buf *reg = begin_more(L, t, sum);
  nn_x *before = nn_let(k, nn_x_select(k, t->is_first, nn_zero(L, t->acc), nn_x_load(k, t->sums, at, NULL)));
  sum = nn_let(k, nn_mul_add(L, before, nn_x_load(k, t->factor, t->line, NULL), sum));
  nn_store(k, t->sums, at, sum, NULL);
  return end_more(L, reg, sum);
}

static void softmax_rows(nn_lower *L, attention *t) {
  nn_kernel *k = L->kernel;
  nn_x *zero = nn_x_int(k, 0);
  int lanes = lanes_of(L, t);
  t->line = begin_rows(L, t);
  t->slots = nn_row_regs(L, nn_lowest(L, t->acc), ROW_VECTORS, lanes);
  nn_row_loops(L, zero, t->keys, lanes, ROW_VECTORS, largest_block, t);
  t->largest = nn_row_fold(L, NN_X_MAX, t->slots, ROW_VECTORS, lanes);
  if (t->is_blocked) t->largest = or_zero(L, t, take_largest(L, t, t->largest));
  t->slots = nn_row_regs(L, nn_zero(L, t->acc), ROW_VECTORS, lanes);
  nn_row_loops(L, zero, t->keys, lanes, ROW_VECTORS, exp_block, t);
  nn_x *sum = nn_row_fold(L, NN_X_ADD, t->slots, ROW_VECTORS, lanes);
  if (t->is_blocked) sum = take_sum(L, t, sum);
  nn_x *scale = nn_x_binary(k, NN_X_DIV, nn_x_const(k, t->acc, 1), sum); /* without keys the result is 0 */
  scale = nn_let(k, nn_x_select(k, less(L, zero, nn_dim_x(L, t->n)), scale, nn_zero(L, t->acc)));
  if (is_scaled_late(t)) {
    nn_store(k, t->sum, t->line, scale, NULL);
  } else {
    t->largest = scale;
    nn_row_loops(L, zero, t->keys, lanes, ROW_VECTORS, weight_block, t);
  }
  nn_end(k);
}

/* ---- tasks ------------------------------------------------------------------------------------------------ */

static int64_t clamp64(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

/* In blocks: where panels and scores would take several times L2, and where there may be any number of keys. Ops behind the softmax need whole
   rows. */
static void choose_keys(nn_lower *L, attention *t) {
  int64_t n, bytes = nn_dtype_bits(t->acc) / 8, key = (nn_dim_guess(t->d, 64) + nn_dim_guess(t->e, 64)) * bytes + 1;
  int64_t l2 = L->target->l2_bytes, fit = l2 / 8 * 3 / key / KEYS_LEAST * KEYS_LEAST;
  t->room = t->n;
  if (!is_scaled_late(t)) return;
  if (nn_dim_is_const(t->n, &n) && (n <= KEYS_MOST || n < SPILLED_PARTS * l2 / (key + MOST_ROWS * bytes))) return;
  t->is_blocked = true;
  t->key_block = clamp64(fit, KEYS_LEAST, KEYS_MOST);
  t->room = nn_dim_const(L->module, t->key_block);
}

/* Rows of a block: their scores stay in L2, and blocks are even, or made of whole tiles if m is a symbol. */
static void choose_rows(const nn_lower *L, attention *t) {
  int64_t m, mr = nn_tile_choose(L->target, t->acc, t->m, t->room).mr;
  int64_t fit = L->target->l2_bytes / 4 / (nn_dim_guess(t->room, 256) * nn_dtype_bits(t->acc) / 8 + 1);
  int64_t most = clamp64(fit, mr, MOST_ROWS);
  t->rows = most / mr * mr;
  if (!nn_dim_is_const(t->m, &m)) return;
  int64_t blocks = (m + most - 1) / most;
  t->rows = (m + blocks - 1) / (blocks > 0 ? blocks : 1);
  t->has_surplus = t->rows > 0 && m % t->rows != 0;
}

static void make_buffers(nn_lower *L, attention *t) {
  nn_module *m = L->module;
  nn_dim gap = nn_dim_const(m, ROW_GAP), rows = nn_dim_const(m, t->rows);
  nn_dim q = nn_dim_add(m, t->d, gap), s = nn_dim_add(m, t->room, gap);
  t->q_pitch = nn_dim_x(L, q);
  t->s_pitch = nn_dim_x(L, s);
  t->q = nn_temp(L, NN_BUF_WORKER, t->acc, nn_dim_mul(m, q, rows));
  t->s = nn_temp(L, NN_BUF_WORKER, t->acc, nn_dim_mul(m, s, rows));
  if (is_scaled_late(t)) t->sum = nn_temp(L, NN_BUF_WORKER, t->acc, rows);
  t->k = make_panels(L, t, 0, t->d, t->room);
  t->v = make_panels(L, t, 1, t->room, t->e);
  if (!t->is_blocked) return;
  nn_dim all = nn_dim_const(m, t->rows * MOST_BLOCKS);
  t->factor = nn_temp(L, NN_BUF_WORKER, t->acc, rows);
  t->largests = nn_temp(L, NN_BUF_WORKER, t->acc, all);
  t->sums = nn_temp(L, NN_BUF_WORKER, t->acc, all);
  t->results = nn_temp(L, NN_BUF_WORKER, t->acc, nn_dim_mul(m, all, t->e));
}

/* The rows of a task, on the keys at hand. */
static void emit_rows(nn_lower *L, attention *t, nn_x *first, nn_x *end) {
  nn_kernel *k = L->kernel;
  pack_keys(L, t);
  nn_x *block = nn_loop_begin(k, NN_FOR, "block", first, end);
  t->row = nn_let(k, nn_xi_mulc(k, block, t->rows));
  t->row0 = nn_xi_mulc(k, nn_xi_sub(k, block, first), t->rows);
  t->rows_now = nn_x_int(k, t->rows);
  if (!nn_dim_is_const(t->m, NULL))
    t->rows_now = nn_let(k, nn_xi_min(k, t->rows_now, nn_xi_sub(k, nn_dim_x(L, t->m), t->row)));
  copy_q(L, t);
  multiply(L, t, 0);
  softmax_rows(L, t);
  multiply(L, t, 1);
  nn_end(k);
}

/* Blocks of keys are even, of whole panels. There is at least one: it makes the results of no keys. */
static void emit_blocks(nn_lower *L, attention *t, nn_x *first, nn_x *end) {
  nn_kernel *k = L->kernel;
  nn_x *n = nn_dim_x(L, t->n), *one = nn_x_int(k, 1);
  t->key0 = nn_x_int(k, 0);
  t->keys = n;
  if (!t->is_blocked) {
    emit_rows(L, t, first, end);
    return;
  }
  int width = width_of(&t->tile[0]);
  nn_x *blocks = nn_let(k, nn_xi_max(k, one, nn_ceildiv_x(L, n, t->key_block)));
  nn_x *size = nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, n, blocks), -1), blocks);
  size = nn_xi_mulc(k, nn_ceildiv_x(L, size, width), width);
  size = nn_let(k, nn_xi_min(k, size, nn_x_int(k, t->key_block)));
  nn_x *i = nn_loop_begin(k, NN_FOR, "keys", nn_x_int(k, 0), blocks);
  t->key0 = nn_let(k, nn_xi_mul(k, i, size));
  t->keys = nn_let(k, nn_xi_max(k, nn_x_int(k, 0), nn_xi_min(k, size, nn_xi_sub(k, n, t->key0))));
  t->is_first = nn_let(k, nn_x_binary(k, NN_X_LT, i, one));
  t->is_last = nn_let(k, nn_x_binary(k, NN_X_LE, blocks, nn_xi_add(k, i, one)));
  emit_rows(L, t, first, end);
  nn_end(k);
}

nn_status nn_lower_attention(nn_lower *L, nn_op *scores, nn_op *softmax, nn_op *product) {
  nn_kernel *k = L->kernel;
  nn_module *m = L->module;
  nn_type type = scores->out[0]->type;
  attention t = {.scores = scores, .softmax = softmax, .product = product, .rank = type.rank};
  t.acc = nn_acc_dtype(type.dtype);
  t.m = type.dims[t.rank - 2];
  t.n = type.dims[t.rank - 1];
  t.d = scores->in[0]->type.dims[t.rank - (nn_attr_int(scores, "trans_a") ? 2 : 1)];
  t.e = product->out[0]->type.dims[t.rank - 1];
  choose_keys(L, &t);
  choose_rows(L, &t);
  if (t.rows < 1) return NN_OK;
  nn_dim rows = nn_dim_const(m, t.rows);
  t.tile[0] = nn_tile_choose(L->target, t.acc, rows, t.room);
  t.tile[1] = nn_tile_choose(L->target, t.acc, rows, t.e);
  make_buffers(L, &t);
  nn_type batch = nn_type_make(m, NN_I64, t.rank - 2, type.dims);
  nn_dim count = nn_type_count(m, batch);
  int64_t items = clamp64(nn_dim_guess(count, TASKS_WANTED), 1, TASKS_WANTED),
          parts = (TASKS_WANTED + items - 1) / items;
  nn_x *blocks = nn_let(k, nn_ceildiv_x(L, nn_dim_x(L, t.m), t.rows)),
       *per_task = nn_let(k, nn_ceildiv_x(L, blocks, parts));
  per_task = nn_xi_max(k, per_task, nn_x_int(k, 1));
  if (t.is_blocked) per_task = nn_xi_min(k, per_task, nn_x_int(k, MOST_BLOCKS));
  per_task = nn_let(k, per_task);
  nn_x *chunks = nn_let(k, nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, blocks, per_task), -1), per_task));
  nn_x *task = nn_task_loop(L, false, "task", nn_let(k, nn_xi_mul(k, nn_dim_x(L, count), chunks)));
  nn_unflatten(L, batch, nn_let(k, nn_xi_floordiv(k, task, chunks)), t.batch);
  nn_x *first = nn_let(k, nn_xi_mul(k, nn_xi_mod(k, task, chunks), per_task));
  emit_blocks(L, &t, first, nn_let(k, nn_xi_min(k, nn_xi_add(k, first, per_task), blocks)));
  nn_end(k);
  return NN_OK;
}
