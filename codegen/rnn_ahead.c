/* The projection of a recurrent layer's input, x W^T, in the shadow of the recurrent product. That one uses each weight
   once in a step: a load from the second cache for each multiply-add, so the vector units have every other cycle to
   spare. x is known in advance; its product uses each weight for all steps of a block, so it asks little of that cache.
   While a block of steps runs, the next block is projected, in one loop with the recurrent product:

     for k in 0..H, some values at a time:
       sums of the panel += h[k] * r[panel, k, :]                      columns of the panel: registers
       tile += x[row, k'] * w[column, k', :]                           rows of the next block: registers

   A step does a part of one column for each panel, so that after `rows` steps all columns are there. What is projected
   stays with the panel's task, in its cache. The first block takes the steps that are left when the others are whole. It
   is projected beforehand, and each of its steps does some parts. */
#include "codegen/rnn.h"

enum { MOST_K = 8, FEW_ROWS = 8, K_UNROLL = 4, LINE_BYTES = 64 };

/* One part of a column for the steps of one block. */
typedef struct part {
  const nn_rnn *rec;
  int lanes;            /* of a register */
  nn_x *panel, *column; /* of the panel */
  nn_x *half, *first;   /* of the block: where its inputs lie, its first step */
  int64_t tile_rows, ntiles;
  nn_x *row0;      /* of the tile */
  nn_x *k0, *k1;   /* values of k */
  nn_x *is_begun;  /* earlier parts of the column are done */
  nn_buf *acc, *b; /* [tile_rows][a column], a column */
} part;

static int64_t value(nn_dim d) { return nn_dim_value(d); }

/* ---- the tile -------------------------------------------------------------------------------------------- */

static nn_x *lane_of(nn_lower *L, const part *p, nn_x *v, nn_x *l) {
  return nn_xi_add(L->kernel, nn_xi_mulc(L->kernel, v, p->lanes), l);
}

static nn_x *tile_at(nn_lower *L, const part *p, nn_x *row, nn_x *j) {
  return nn_xi_add(L->kernel, nn_xi_mulc(L->kernel, row, p->rec->ahead.lanes), j);
}

/* Index of the inputs of a row of a block for a panel. */
static nn_x *inputs_at(nn_lower *L, const nn_rnn *rec, nn_x *half, nn_x *panel, nn_x *row) {
  nn_kernel *k = L->kernel;
  const nn_rnn_ahead *a = &rec->ahead;
  nn_x *at = nn_xi_add(k, nn_xi_mulc(k, half, value(rec->hidden) / rec->width), panel);
  return nn_xi_mulc(k, nn_xi_add(k, nn_xi_mulc(k, at, a->rows), row), a->columns * a->lanes);
}

static nn_x *place_of(nn_lower *L, const part *p, nn_x *row, nn_x *j) {
  nn_kernel *k = L->kernel;
  nn_x *at = inputs_at(L, p->rec, p->half, p->panel, nn_xi_add(k, p->row0, row));
  return nn_xi_add(k, nn_xi_add(k, at, nn_xi_mulc(k, p->column, p->rec->ahead.lanes)), j);
}

/* Panels and columns count through units; the bias has all units of a gate together. */
static nn_x *bias_of(nn_lower *L, const part *p, nn_x *j) {
  nn_kernel *k = L->kernel;
  const nn_rnn *rec = p->rec;
  if (!rec->ahead.bias) return nn_zero(L, rec->acc);
  nn_x *of_gate = nn_x_int(k, rec->width / rec->ahead.lanes), *gate = nn_xi_floordiv(k, p->column, of_gate);
  nn_x *unit = nn_xi_add(k, nn_xi_mulc(k, p->panel, rec->width),
                         nn_xi_mulc(k, nn_xi_mod(k, p->column, of_gate), rec->ahead.lanes));
  nn_x *index = nn_xi_add(k, nn_xi_mulc(k, gate, value(rec->hidden)), nn_xi_add(k, unit, j));
  return nn_read(L, rec->ahead.bias, &index);
}

/* Fills the tile: with the bias, or with what earlier parts left (is_begun). */
static void load_tile(nn_lower *L, const part *p, bool is_begun) {
  nn_kernel *k = L->kernel;
  const nn_rnn_ahead *a = &p->rec->ahead;
  nn_x *v = nn_loop_range(k, NN_UNROLL, "c", a->lanes / p->lanes);
  nn_x *row = nn_loop_range(k, NN_UNROLL, "r", p->tile_rows);
  nn_x *j = lane_of(L, p, v, nn_lanes_begin(L, p->lanes));
  nn_x *start = is_begun ? nn_x_load(k, a->inputs, place_of(L, p, row, j), NULL) : bias_of(L, p, j);
  nn_store(k, p->acc, tile_at(L, p, row, j), start, NULL);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
  nn_end(k);
}

static void store_tile(nn_lower *L, const part *p) {
  nn_kernel *k = L->kernel;
  const nn_rnn_ahead *a = &p->rec->ahead;
  nn_x *row = nn_loop_range(k, NN_UNROLL, "r", p->tile_rows);
  nn_x *v = nn_loop_range(k, NN_UNROLL, "c", a->lanes / p->lanes);
  nn_x *j = lane_of(L, p, v, nn_lanes_begin(L, p->lanes));
  nn_store(k, a->inputs, place_of(L, p, row, j), nn_x_load(k, p->acc, tile_at(L, p, row, j), NULL), NULL);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
  nn_end(k);
}

static nn_x *read_x(nn_lower *L, const nn_rnn *rec, nn_x *step, nn_x *ki) {
  nn_kernel *k = L->kernel;
  nn_x *t = rec->is_reversed ? nn_xi_sub(k, nn_x_int(k, value(rec->time) - 1), step) : step;
  return nn_read(L, rec->xw, (nn_x *[]){t, nn_x_int(k, 0), ki});
}

static nn_x *x_at(nn_lower *L, const nn_rnn_ahead *a, nn_x *row, nn_x *ki) {
  return nn_xi_add(L->kernel, nn_xi_mulc(L->kernel, row, a->pitch), ki);
}

static nn_x *x_of(nn_lower *L, const part *p, nn_x *row, nn_x *ki) {
  nn_kernel *k = L->kernel;
  const nn_rnn_ahead *a = &p->rec->ahead;
  row = nn_xi_add(k, p->row0, row);
  return nn_let(k, a->x ? nn_x_load(k, a->x, x_at(L, a, row, ki), NULL)
                        : read_x(L, p->rec, nn_xi_add(k, p->first, row), ki));
}

static void add_to_tile(nn_lower *L, const part *p, nn_x *ki) {
  nn_kernel *k = L->kernel;
  const nn_rnn_ahead *a = &p->rec->ahead;
  int64_t vectors = a->lanes / p->lanes;
  nn_x *v = nn_loop_range(k, NN_UNROLL, "c", vectors);
  nn_x *j = lane_of(L, p, v, nn_lanes_begin(L, p->lanes));
  nn_x *index[3] = {nn_xi_add(k, nn_xi_mulc(k, p->panel, a->columns), p->column), ki, j};
  nn_store(k, p->b, j, nn_read(L, a->w, index), NULL);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
  nn_x *row = nn_loop_range(k, NN_UNROLL, "r", p->tile_rows);
  nn_x *x = x_of(L, p, row, ki);
  v = nn_loop_range(k, NN_UNROLL, "c", vectors);
  j = lane_of(L, p, v, nn_lanes_begin(L, p->lanes));
  nn_x *at = tile_at(L, p, row, j);
  nn_store(k, p->acc, at, nn_mul_add(L, x, nn_x_load(k, p->b, j, NULL), nn_x_load(k, p->acc, at, NULL)), NULL);
  nn_lanes_end(L, p->lanes);
  nn_end(k);
  nn_end(k);
}

static void add_range(nn_lower *L, const part *p, nn_x *from, nn_x *to) {
  nn_x *ki = nn_loop_begin(L->kernel, NN_FOR, "k", from, to);
  add_to_tile(L, p, ki);
  nn_end(L->kernel);
}

static void new_tile(nn_lower *L, part *p) {
  const nn_rnn_ahead *a = &p->rec->ahead;
  p->acc = nn_regs(L, p->rec->acc, p->tile_rows * a->lanes);
  p->b = nn_regs(L, p->rec->acc, a->lanes);
}

/* The part by itself, tile by tile. */
static void emit_part(nn_lower *L, part p, bool is_begun) {
  nn_kernel *k = L->kernel;
  p.row0 = nn_xi_mulc(k, nn_loop_range(k, NN_FOR, "tile", p.ntiles), p.tile_rows);
  new_tile(L, &p);
  load_tile(L, &p, is_begun);
  add_range(L, &p, p.k0, p.k1);
  store_tile(L, &p);
  nn_end(k);
}

/* ---- the recurrent product --------------------------------------------------------------------------------- */

typedef struct panel_sums {
  const nn_rnn_step *s;
  nn_x *panel;
  nn_x *first, *by; /* of the step's k */
  nn_buf *acc;
} panel_sums;

static void clear_sums(nn_lower *L, const panel_sums *q) {
  nn_kernel *k = L->kernel;
  nn_tile tile = q->s->p->tile;
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", tile.nv), *l = nn_lanes_begin(L, tile.lanes);
  nn_store(k, q->acc, nn_xi_add(k, nn_xi_mulc(k, v, tile.lanes), l), nn_zero(L, q->acc->dtype), NULL);
  nn_lanes_end(L, tile.lanes);
  nn_end(k);
}

/* Every other step goes through k backwards, too: it begins with what the last one left in the first cache. */
static nn_x *k_of_step(nn_lower *L, const panel_sums *q, nn_x *ki) {
  return nn_xi_add(L->kernel, q->first, nn_xi_mul(L->kernel, q->by, ki));
}

static void add_to_sums(nn_lower *L, const panel_sums *q, nn_x *ki) {
  nn_kernel *k = L->kernel;
  nn_tile tile = q->s->p->tile;
  ki = k_of_step(L, q, ki);
  nn_x *h = nn_let(k, nn_rnn_h(L, q->s, nn_x_int(k, 0), ki));
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", tile.nv), *l = nn_lanes_begin(L, tile.lanes);
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, v, tile.lanes), l);
  nn_x *r = nn_rnn_weight(L, q->s, q->panel, ki, j);
  nn_store(k, q->acc, j, nn_mul_add(L, h, r, nn_x_load(k, q->acc, j, NULL)), NULL);
  nn_lanes_end(L, tile.lanes);
  nn_end(k);
}

static void add_range_to_sums(nn_lower *L, const panel_sums *q, nn_x *from, nn_x *to) {
  nn_x *ki = nn_loop_begin(L->kernel, NN_FOR, "k", from, to);
  nn_loop_unroll_by(L->kernel, K_UNROLL);
  add_to_sums(L, q, ki);
  nn_end(L->kernel);
}

static void store_sums(nn_lower *L, const panel_sums *q, nn_buf *to) {
  nn_kernel *k = L->kernel;
  nn_tile tile = q->s->p->tile;
  nn_x *v = nn_loop_range(k, NN_UNROLL, "v", tile.nv), *l = nn_lanes_begin(L, tile.lanes);
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, v, tile.lanes), l);
  nn_store(k, to, j, nn_x_load(k, q->acc, j, NULL), NULL);
  nn_lanes_end(L, tile.lanes);
  nn_end(k);
}

/* ---- both ------------------------------------------------------------------------------------------------- */

/* Values of k of the one, `count` from `from` on, and the other in a round, so that both end at about the same time. */
static void emit_both(nn_lower *L, const panel_sums *q, const part *p, nn_x *from, int64_t count) {
  nn_kernel *k = L->kernel;
  int64_t part_depth = q->s->rec->ahead.part, own = (count + part_depth / 2) / part_depth;
  own = own < 1 ? 1 : own > MOST_K ? MOST_K : own;
  int64_t others = own > 1 ? 1 : (part_depth + count - 1) / count;
  nn_x *ends = nn_xi_floordiv(k, nn_xi_sub(k, p->k1, p->k0), nn_x_int(k, others));
  nn_x *rounds = nn_let(k, nn_xi_min(k, nn_x_int(k, count / own), ends));
  nn_x *round = nn_loop_begin(k, NN_FOR, "round", nn_x_int(k, 0), rounds);
  nn_x *ki = nn_xi_add(k, from, nn_xi_mulc(k, round, own));
  add_to_sums(L, q, nn_xi_add(k, ki, nn_loop_range(k, NN_UNROLL, "k", own)));
  nn_end(k);
  nn_x *first = nn_xi_add(k, p->k0, nn_xi_mulc(k, round, others));
  add_to_tile(L, p, nn_xi_add(k, first, nn_loop_range(k, NN_UNROLL, "k", others)));
  nn_end(k);
  nn_end(k);
  add_range_to_sums(L, q, nn_xi_add(k, from, nn_xi_mulc(k, rounds, own)), nn_xi_addc(k, from, count));
  add_range(L, p, nn_xi_add(k, p->k0, nn_xi_mulc(k, rounds, others)), p->k1);
}

/* Other workers have just written most of h: asked for at once, its lines come together. */
static void prefetch_h(nn_lower *L, const nn_rnn *rec) {
  nn_kernel *k = L->kernel;
  int64_t line = LINE_BYTES / (nn_dtype_bits(rec->acc) / 8);
  nn_x *i = nn_loop_range(k, NN_FOR, "line", (value(rec->hidden) + line - 1) / line);
  nn_prefetch(k, rec->state[0], nn_xi_add(k, rec->h_from, nn_xi_mulc(k, i, line)));
  nn_end(k);
}

static void load_either(nn_lower *L, const part *p) {
  nn_if_begin(L->kernel, p->is_begun);
  load_tile(L, p, true);
  nn_else(L->kernel);
  load_tile(L, p, false);
  nn_end(L->kernel);
}

static void emit_part_alone(nn_lower *L, part p) {
  nn_if_begin(L->kernel, p.is_begun);
  emit_part(L, p, true);
  nn_else(L->kernel);
  emit_part(L, p, false);
  nn_end(L->kernel);
}

static void multiply_beside(nn_lower *L, const panel_sums *q, part p, nn_x *from, int64_t count) {
  if (p.ntiles > 1 || count == 0) {
    emit_part_alone(L, p);
    add_range_to_sums(L, q, from, nn_xi_addc(L->kernel, from, count));
    return;
  }
  p.row0 = nn_x_int(L->kernel, 0);
  new_tile(L, &p);
  load_either(L, &p);
  emit_both(L, q, &p, from, count);
  store_tile(L, &p);
}

/* Part number n of the block's. The last ones of a column may have no values of k. */
static part part_of_block(nn_lower *L, part p, nn_x *n) {
  nn_kernel *k = L->kernel;
  const nn_rnn_ahead *a = &p.rec->ahead;
  nn_x *parts = nn_x_int(k, a->parts), *depth = nn_x_int(k, a->depth), *number = nn_let(k, nn_xi_mod(k, n, parts));
  p.column = nn_let(k, nn_xi_floordiv(k, n, parts));
  p.k0 = nn_let(k, nn_xi_min(k, nn_xi_mulc(k, number, a->part), depth));
  p.k1 = nn_let(k, nn_xi_min(k, nn_xi_addc(k, p.k0, a->part), depth));
  p.is_begun = nn_let(k, nn_x_binary(k, NN_X_LT, nn_x_int(k, 0), number));
  return p;
}

/* In a step of the first block: its share of the parts, each beside as much of the product. */
static void multiply_beside_some(nn_lower *L, const panel_sums *q, part p) {
  nn_kernel *k = L->kernel;
  const nn_rnn *rec = p.rec;
  const nn_rnn_ahead *a = &rec->ahead;
  int64_t nparts = (a->rows + a->lead - 1) / a->lead, count = value(rec->hidden) / nparts;
  nn_x *first = nn_let(k, nn_xi_mulc(k, rec->step, nparts)), *most = nn_x_int(k, nparts);
  nn_x *left = nn_xi_max(k, nn_xi_sub(k, nn_x_int(k, a->rows), first), nn_x_int(k, 0));
  nn_x *own = nn_let(k, nn_xi_min(k, most, left));
  nn_x *i = nn_loop_begin(k, NN_FOR, "part", nn_x_int(k, 0), own);
  multiply_beside(L, q, part_of_block(L, p, nn_xi_add(k, first, i)), nn_let(k, nn_xi_mulc(k, i, count)), count);
  nn_end(k);
  add_range_to_sums(L, q, nn_let(k, nn_xi_mulc(k, own, count)), nn_dim_x(L, rec->hidden));
}

/* ---- blocks ------------------------------------------------------------------------------------------------ */

typedef struct block_rows {
  const nn_rnn *rec;
  nn_x *first; /* step */
} block_rows;

static void copy_x(nn_lower *L, nn_x *const *index, void *data) {
  const block_rows *b = data;
  nn_x *x = read_x(L, b->rec, nn_xi_add(L->kernel, b->first, index[0]), index[1]);
  nn_store(L->kernel, b->rec->ahead.x, x_at(L, &b->rec->ahead, index[0], index[1]), x, NULL);
}

static void pack_x(nn_lower *L, const nn_rnn *rec, nn_x *first) {
  nn_module *m = L->module;
  nn_dim dims[2] = {nn_dim_const(m, rec->ahead.rows), nn_dim_const(m, rec->ahead.depth)};
  block_rows rows = {rec, first};
  nn_box_loops(L, dims, 2, nn_target_lanes(L->target, rec->acc), 1, copy_x, &rows);
}

/* Steps before the first that blocks of one size would begin with. */
static int64_t steps_missing(const nn_rnn *rec) { return rec->ahead.rows - rec->ahead.lead; }

static nn_x *first_step(nn_lower *L, const nn_rnn *rec, nn_x *block) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_xi_addc(k, nn_xi_mulc(k, block, rec->ahead.rows), -steps_missing(rec));
  return nn_let(k, nn_xi_max(k, at, nn_x_int(k, 0)));
}

static int register_lanes(const nn_rnn *rec, const nn_rnn_product *p) {
  int lanes = p->tile.lanes;
  while (rec->ahead.lanes % lanes) lanes /= 2;
  return lanes;
}

/* The product of a panel, and what the step does of the next block. */
static void multiply(nn_lower *L, const panel_sums *q, const part *p, nn_x *block, nn_x *phase) {
  nn_kernel *k = L->kernel;
  const nn_rnn *rec = p->rec;
  nn_x *zero = nn_x_int(k, 0), *end = nn_dim_x(L, rec->time);
  clear_sums(L, q);
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, p->first, end));
  if (rec->ahead.lead < rec->ahead.rows) {
    nn_if_begin(k, nn_x_binary(k, NN_X_EQ, block, zero));
    multiply_beside_some(L, q, *p);
    nn_else(k);
  }
  multiply_beside(L, q, part_of_block(L, *p, phase), zero, value(rec->hidden));
  if (rec->ahead.lead < rec->ahead.rows) nn_end(k);
  nn_else(k);
  add_range_to_sums(L, q, zero, nn_dim_x(L, rec->hidden));
  nn_end(k);
}

void nn_rnn_ahead_step(nn_lower *L, const nn_rnn_step *s) {
  nn_kernel *k = L->kernel;
  nn_rnn *rec = s->rec;
  const nn_rnn_ahead *a = &rec->ahead;
  nn_x *rows = nn_x_int(k, a->rows), *two = nn_x_int(k, 2), *at = nn_let(k, nn_xi_addc(k, rec->step, steps_missing(rec)));
  nn_x *block = nn_let(k, nn_xi_floordiv(k, at, rows)), *phase = nn_let(k, nn_xi_mod(k, at, rows));
  nn_x *first = first_step(L, rec, block), *next = nn_xi_addc(k, block, 1);
  part p = {.rec = rec, .lanes = register_lanes(rec, s->p), .tile_rows = a->tile_rows, .ntiles = a->rows / a->tile_rows};
  p.half = nn_let(k, nn_xi_mod(k, next, two));
  p.first = first_step(L, rec, next);
  if (a->x) {
    nn_x *is_first = nn_x_binary(k, NN_X_EQ, rec->step, first), *end = nn_dim_x(L, rec->time);
    nn_if_begin(k, nn_x_binary(k, NN_X_AND, is_first, nn_x_binary(k, NN_X_LT, p.first, end)));
    pack_x(L, rec, p.first);
    nn_end(k);
  }
  int64_t npanels = value(rec->hidden) / rec->width;
  nn_buf *sums = nn_temp(L, NN_BUF_WORKER, rec->acc, nn_dim_const(L->module, a->columns * a->lanes));
  nn_x *task = nn_task_loop(L, false, "task", nn_x_int(k, npanels / s->panels));
  prefetch_h(L, rec);
  nn_x *i = nn_loop_range(k, NN_FOR, "i", s->panels);
  nn_x *to_mirror = nn_xi_mul(k, s->back, nn_xi_sub(k, nn_x_int(k, s->panels - 1), nn_xi_mulc(k, i, 2)));
  p.panel = nn_let(k, nn_xi_add(k, nn_xi_mulc(k, task, s->panels), nn_xi_add(k, i, to_mirror)));
  panel_sums q = {.s = s, .panel = p.panel, .acc = nn_regs(L, rec->acc, a->columns * a->lanes)};
  q.first = nn_let(k, nn_xi_mulc(k, s->back, value(rec->hidden) - 1));
  q.by = nn_let(k, nn_xi_sub(k, nn_x_int(k, 1), nn_xi_mulc(k, s->back, 2)));
  multiply(L, &q, &p, block, phase);
  store_sums(L, &q, sums);
  nn_x *inputs = inputs_at(L, rec, nn_xi_mod(k, block, two), p.panel, nn_xi_sub(k, rec->step, first));
  nn_rnn_cells(L, s, p.panel, nn_x_int(k, 0), sums, nn_x_int(k, 0), nn_let(k, inputs));
  nn_end(k);
  nn_end(k);
}

/* The tile reads all rows of the block at once. A copy has them an odd number of cache lines apart; it is for x that is
   computed, and for rows that would crowd into a few sets of the first cache, which the weights go through at the same
   time. */
static void choose_x(nn_lower *L, nn_rnn *rec) {
  enum { WAYS = 8 };
  nn_rnn_ahead *a = &rec->ahead;
  nn_buf *plain;
  int64_t line = LINE_BYTES / (nn_dtype_bits(rec->acc) / 8), apart = a->depth / line;
  int64_t sets = L->target->l1_bytes / LINE_BYTES / WAYS; /* that rows begin in */
  for (; sets > 1 && apart % 2 == 0; apart /= 2) sets /= 2;
  if (nn_read_is_plain(L, rec->xw, &plain) && a->rows < WAYS * sets) return;
  a->pitch = ((a->depth + line - 1) / line | 1) * line;
  a->x = nn_temp(L, NN_BUF_WORKSPACE, rec->acc, nn_dim_const(L->module, a->rows * a->pitch));
}

/* As many steps as the registers hold sums for, beside those of a panel. */
static void choose_block(nn_lower *L, nn_rnn *rec, const nn_rnn_product *p) {
  nn_rnn_ahead *a = &rec->ahead;
  int64_t registers = L->target->vector_registers, vectors = a->lanes / register_lanes(rec, p);
  a->columns = rec->ngates * rec->width / a->lanes;
  a->rows = a->tile_rows = nn_projected_rows(registers, a->columns, vectors);
  if (a->rows == 0) {
    a->rows = a->tile_rows = (FEW_ROWS + a->columns - 1) / a->columns * a->columns;
    while (a->tile_rows > 1 && (a->rows % a->tile_rows || (a->tile_rows + 1) * vectors + 1 > registers)) a->tile_rows--;
  }
  a->lead = value(rec->time) % a->rows;
  if (a->lead == 0) a->lead = a->rows;
  a->parts = a->rows / a->columns;
  a->part = (a->depth + a->parts - 1) / a->parts;
}

void nn_rnn_ahead_start(nn_lower *L, nn_rnn *rec, const nn_rnn_product *product) {
  nn_kernel *k = L->kernel;
  nn_rnn_ahead *a = &rec->ahead;
  choose_block(L, rec, product);
  choose_x(L, rec);
  int64_t npanels = value(rec->hidden) / rec->width;
  a->inputs =
      nn_temp(L, NN_BUF_WORKSPACE, rec->acc, nn_dim_const(L->module, 2 * npanels * a->rows * a->columns * a->lanes));
  nn_x *zero = nn_x_int(k, 0);
  if (a->x) pack_x(L, rec, zero);
  part p = {.rec = rec,
            .lanes = register_lanes(rec, product),
            .tile_rows = a->lead < a->tile_rows ? a->lead : a->tile_rows,
            .half = zero,
            .first = zero,
            .k0 = zero,
            .k1 = nn_x_int(k, a->depth)};
  p.ntiles = (a->lead + p.tile_rows - 1) / p.tile_rows;
  p.panel = nn_task_loop(L, false, "panel", nn_x_int(k, npanels));
  p.column = nn_loop_range(k, NN_FOR, "column", a->columns);
  emit_part(L, p, false);
  nn_end(k);
  nn_end(k);
}

void nn_rnn_ahead_find(nn_rnn *rec) {
  const nn_op *op = rec->op;
  int at = nn_projected_operand(op->code);
  if (at >= op->nin || !op->in[at]) return;
  rec->ahead.w = op->in[at];
  rec->ahead.bias = at + 1 < op->nin ? op->in[at + 1] : NULL;
  rec->ahead.depth = value(rec->ahead.w->type.dims[1]);
  rec->ahead.lanes = value(rec->ahead.w->type.dims[2]);
}
