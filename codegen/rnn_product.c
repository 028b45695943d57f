/* The product of one step of a recurrent layer, h R^T, and the cell on what it gives.

   R stands in panels of `width` units: all gates of a unit in one panel, so that a register tile, which is as wide as
   a panel, ends with all that the cell needs for its units and rows. The sums go through a few lines of L1, the cell
   runs over them at once, and a step is one parallel loop over panels: whoever worked on a panel in the last step
   finds it in its cache. h is there twice, since other tasks still read it. Steps go through the panels forwards
   and backwards in turn, as the pool goes through the tasks, so that one begins with what the last one left in a cache
   that does not hold all.

   Weights may come so (pass recurrent), else R is packed before the first step; for a few steps it is read as it is, in
   a product of its own, and the cell runs over all units afterwards.

     panels: [ceil(H / W), gates * H, W], rows in the order of use: k, gate; a gru with two products has k, {z, r} and
     then k of h. Units beyond H hold anything. */
#include "codegen/rnn.h"

enum { FEW_STEPS = 16, FEW_ROWS = 4, CELL_COST = 16, MOST_TILE_ROWS = 12, TASK_LEAST_WORK = 1 << 17, MOST_TASKS = 16 };

typedef nn_rnn_step step;

static nn_rnn_unit unit_at(nn_lower *L, const step *s, nn_x *b, nn_x *j) {
  nn_kernel *k = L->kernel;
  nn_rnn *rec = s->rec;
  nn_rnn_unit u = {.rec = rec, .product = s->p, .b = b, .j = j, .t = rec->step};
  nn_x *end = nn_dim_x(L, rec->time);
  if (rec->steps) {
    end = nn_let(k, nn_x_load(k, rec->steps, b, NULL));
    u.is_live = nn_let(k, nn_x_binary(k, NN_X_LT, rec->step, end));
  }
  if (!rec->is_reversed) return u;
  u.t = nn_let(k, nn_xi_addc(k, nn_xi_sub(k, end, rec->step), -1));
  if (u.is_live) u.t = nn_let(k, nn_x_select(k, u.is_live, u.t, rec->step));
  return u;
}

/* ---- packing --------------------------------------------------------------------------------------------- */

/* Element k of gate g (of the product's) of unit w of a panel. */
static nn_x *panel_row(nn_lower *L, const nn_rnn *rec, const nn_rnn_product *p, nn_x *ki, nn_x *g) {
  nn_kernel *k = L->kernel;
  nn_x *first = nn_xi_mulc(k, nn_dim_x(L, rec->hidden), p->first);
  return nn_xi_add(k, first, nn_xi_add(k, nn_xi_mulc(k, ki, p->ngates), g));
}

static nn_x *panel_index(nn_lower *L, const nn_rnn *rec, nn_x *panel, nn_x *row, nn_x *w) {
  nn_kernel *k = L->kernel;
  nn_x *rows = nn_xi_mulc(k, nn_dim_x(L, rec->hidden), rec->ngates);
  return nn_xi_add(k, nn_xi_mulc(k, nn_xi_add(k, nn_xi_mul(k, panel, rows), row), rec->width), w);
}

typedef struct square {
  const nn_rnn *rec;
  const nn_rnn_product *p;
  nn_x *panel, *gate, *w0;
} square;

/* Rows of r are read along k, as they lie in memory, and stored across a square of one vector by one vector. */
static void pack_square(nn_lower *L, nn_x *k0, int lanes, bool is_tail, void *data) {
  const square *at = data;
  const nn_rnn_product *p = at->p;
  nn_kernel *k = L->kernel;
  nn_x *hidden = nn_dim_x(L, at->rec->hidden);
  nn_x *w = nn_xi_add(k, at->w0, nn_loop_range(k, NN_UNROLL, "u", p->tile.lanes));
  nn_x *j = nn_xi_add(k, nn_xi_mulc(k, at->panel, at->rec->width), w);
  nn_x *ki = nn_xi_add(k, k0, nn_lanes_begin(L, lanes));
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, ki, hidden));
  nn_guard_push(L, nn_x_binary(k, NN_X_LT, j, hidden));
  nn_x *gate = nn_xi_addc(k, at->gate, p->first);
  nn_x *index[2] = {nn_xi_add(k, nn_xi_mul(k, gate, hidden), j), ki};
  nn_x *value = nn_let(k, nn_x_cast(k, nn_read(L, at->rec->r, index), at->rec->acc));
  nn_guard_pop(L);
  nn_x *to = panel_index(L, at->rec, at->panel, panel_row(L, at->rec, p, ki, at->gate), w);
  nn_store(k, at->rec->panels, to, value, nn_guard(L));
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
  nn_end(k);
}

static nn_dim panel_count(nn_lower *L, const nn_rnn *rec) {
  return nn_dim_ceildiv(L->module, rec->hidden, nn_dim_const(L->module, rec->width));
}

static void pack(nn_lower *L, const nn_rnn *rec, const nn_rnn_product *p) {
  nn_kernel *k = L->kernel;
  int lanes = p->tile.lanes;
  square at = {.rec = rec, .p = p, .panel = nn_task_loop(L, false, "panel", nn_dim_x(L, panel_count(L, rec)))};
  at.gate = nn_loop_begin(k, NN_FOR, "gate", nn_x_int(k, 0), nn_x_int(k, p->ngates));
  nn_x *c = nn_loop_begin(k, NN_FOR, "c", nn_x_int(k, 0), nn_x_int(k, rec->width / lanes));
  at.w0 = nn_let(k, nn_xi_mulc(k, c, lanes));
  nn_block_loops(L, nn_let(k, nn_dim_x(L, rec->hidden)), lanes, pack_square, &at);
  nn_end(k);
  nn_end(k);
  nn_end(k);
}

/* Packing costs as much as a few steps. Products of few rows read R well as it is; others would pack it for
   each step, so only a single step is better off that way. */
static bool is_worth_packing(const nn_rnn *rec) {
  int64_t time, batch;
  if (!nn_dim_is_const(rec->time, &time)) return true;
  return time > (nn_dim_is_const(rec->batch, &batch) && batch <= FEW_ROWS ? FEW_STEPS : 1);
}

/* As wide as the panel, and as many rows as the registers hold sums for. */
static nn_tile tile_of(const nn_lower *L, const nn_rnn *rec, const nn_rnn_product *p) {
  nn_tile tile = {.lanes = nn_target_lanes(L->target, rec->acc)};
  while (rec->width % tile.lanes) tile.lanes /= 2;
  int64_t vectors = p->ngates * rec->width / tile.lanes, spare = L->target->vector_registers - 1 - vectors, rows;
  int64_t most = nn_dim_is_const(rec->batch, &rows) && rows > 0 && rows < MOST_TILE_ROWS ? rows : MOST_TILE_ROWS;
  tile.nv = (int)vectors;
  tile.mr = (int)(spare < vectors ? 1 : spare / vectors > most ? most : spare / vectors);
  return tile;
}

void nn_rnn_choose_panels(nn_lower *L, nn_rnn *rec, int most) {
  nn_module *m = L->module;
  if (rec->r->type.rank == 3) {
    rec->width = nn_dim_value(rec->r->type.dims[2]);
    if (!nn_read_is_plain(L, rec->r, &rec->panels)) rec->panels = NULL;
  } else if (is_worth_packing(rec)) {
    rec->width = nn_recurrent_width(nn_target_lanes(L->target, rec->acc), rec->batch, rec->hidden, most);
    nn_dim units = nn_dim_mul(m, panel_count(L, rec), nn_dim_const(m, rec->width * rec->ngates));
    rec->panels = nn_temp(L, NN_BUF_WORKSPACE, rec->acc, nn_dim_mul(m, units, rec->hidden));
  }
}

nn_rnn_product nn_rnn_product_new(nn_lower *L, const nn_rnn *rec, nn_buf *a, int first, int ngates) {
  nn_module *m = L->module;
  nn_rnn_product p = {.first = first, .ngates = ngates, .a = a};
  nn_dim columns = nn_dim_mul(m, rec->hidden, nn_dim_const(m, ngates));
  if (rec->width)
    p.tile = tile_of(L, rec, &p);
  else
    p.sums = nn_temp(L, NN_BUF_WORKSPACE, rec->acc, nn_dim_mul(m, rec->batch, columns));
  if (rec->width && rec->r->type.rank == 2) pack(L, rec, &p);
  return p;
}

/* ---- in panels ------------------------------------------------------------------------------------------- */

nn_x *nn_rnn_h(nn_lower *L, const step *s, nn_x *m, nn_x *ki) {
  nn_x *base = s->p->a == s->rec->state[0] ? s->rec->h_from : NULL;
  return nn_x_load(L->kernel, s->p->a, nn_rnn_state_index(L, s->rec, base, m, ki), NULL);
}

static nn_x *tile_a(nn_lower *L, void *data, nn_x *m, nn_x *const *ks) { return nn_rnn_h(L, data, m, ks[0]); }

/* Number of the panel whose first column would be n0 in forward order: a task goes through its own backwards, too. */
static nn_x *panel_at(nn_lower *L, const step *s, nn_x *n0) {
  nn_kernel *k = L->kernel;
  nn_x *panel = nn_xi_floordiv(k, n0, nn_x_int(k, s->rec->width * s->p->ngates));
  nn_x *i = nn_xi_mod(k, panel, nn_x_int(k, s->panels));
  nn_x *to_mirror = nn_xi_sub(k, nn_x_int(k, s->panels - 1), nn_xi_mulc(k, i, 2));
  return nn_xi_add(k, panel, nn_xi_mul(k, s->back, to_mirror));
}

/* The rows of the other gates are behind that of the first. */
nn_x *nn_rnn_weight(nn_lower *L, const step *s, nn_x *panel, nn_x *ki, nn_x *j) {
  const nn_rnn *rec = s->rec;
  nn_kernel *k = L->kernel;
  nn_x *width = nn_x_int(k, rec->width), *row = panel_row(L, rec, s->p, ki, nn_x_int(k, 0));
  if (rec->panels) return nn_x_load(k, rec->panels, panel_index(L, rec, panel, row, j), NULL);
  nn_x *index[3] = {panel, nn_xi_add(k, row, nn_xi_floordiv(k, j, width)), nn_xi_mod(k, j, width)};
  return nn_read(L, rec->r, index);
}

static nn_x *tile_b(nn_lower *L, void *data, nn_x *const *ks, nn_x *n0, nn_x *j) {
  return nn_rnn_weight(L, data, panel_at(L, data, n0), ks[0], j);
}

typedef struct tile_row {
  const step *s;
  nn_x *m, *j0, *count, *at, *input;
  nn_buf *sums;
} tile_row;

static void emit_cells(nn_lower *L, nn_x *i, int lanes, bool is_tail, void *data) {
  const tile_row *row = data;
  nn_kernel *k = L->kernel;
  i = nn_xi_add(k, i, nn_lanes_begin(L, lanes));
  if (is_tail) nn_guard_push(L, nn_x_binary(k, NN_X_LT, i, row->count));
  nn_rnn_unit u = unit_at(L, row->s, row->m, nn_xi_add(k, row->j0, i));
  u.sums = row->sums;
  u.sum = nn_xi_add(k, row->at, i);
  u.input = row->input ? nn_xi_add(k, row->input, i) : NULL;
  u.gate_stride = nn_x_int(k, row->s->rec->width);
  row->s->cell(L, &u);
  if (is_tail) nn_guard_pop(L);
  nn_lanes_end(L, lanes);
}

void nn_rnn_cells(nn_lower *L, const step *s, nn_x *panel, nn_x *m, nn_buf *sums, nn_x *at, nn_x *input) {
  nn_kernel *k = L->kernel;
  tile_row row = {.s = s, .m = m, .at = at, .sums = sums, .input = input};
  int64_t hidden, width = s->rec->width;
  row.j0 = nn_let(k, nn_xi_mulc(k, panel, width));
  row.count = nn_x_int(k, width);
  if (!nn_dim_is_const(s->rec->hidden, &hidden) || hidden % width)
    row.count = nn_let(k, nn_xi_min(k, row.count, nn_xi_sub(k, nn_dim_x(L, s->rec->hidden), row.j0)));
  nn_block_loops(L, row.count, s->p->tile.lanes, emit_cells, &row);
}

static void store_row(nn_lower *L, void *data, nn_x *m, nn_x *n0, nn_buf *sums, nn_x *at) {
  nn_rnn_cells(L, data, panel_at(L, data, n0), m, sums, at, NULL);
}

/* Tasks of one size where that is possible, by the work of a step: each reads its panels, and multiplies them with
   each row. A step of TASK_LEAST_WORK, some two microseconds, is just worth two tasks. */
static int64_t panels_of_task(nn_lower *L, const step *s) {
  const nn_rnn *rec = s->rec;
  int64_t npanels = nn_dim_guess(panel_count(L, rec), 8), rows = nn_dim_guess(rec->batch, 8);
  int64_t panel = nn_dim_guess(rec->hidden, 128) * s->p->ngates * rec->width * (rows + 1);
  int64_t tasks = npanels * panel / TASK_LEAST_WORK + 1;
  if (tasks > MOST_TASKS) tasks = MOST_TASKS;
  int64_t panels = tasks >= npanels ? 1 : (npanels + tasks - 1) / tasks;
  while (npanels % panels) panels--;
  return panels;
}

static void choose_tasks(nn_lower *L, step *s) {
  nn_kernel *k = L->kernel;
  int64_t hidden;
  s->panels = panels_of_task(L, s);
  bool is_even = s->panels == 1 || nn_dim_is_const(s->rec->hidden, &hidden); /* no task has fewer panels than others */
  s->back = is_even ? nn_let(k, nn_xi_mod(k, s->rec->step, nn_x_int(k, 2))) : nn_x_int(k, 0);
}

static void multiply_panels(nn_lower *L, step *s) {
  nn_module *m = L->module;
  const nn_rnn *rec = s->rec;
  nn_dim columns = nn_dim_mul(m, panel_count(L, rec), nn_dim_const(m, s->p->ngates * rec->width));
  nn_tiles t = {.tile = s->p->tile,
                .m = rec->batch,
                .n = columns,
                .acc = rec->acc,
                .nk = 1,
                .kcount = {rec->hidden},
                .a = tile_a,
                .b = tile_b,
                .b_padded = true,
                .store_row = store_row,
                .data = s};
  t.panels = s->panels;
  nn_tiles_emit(L, &t);
}

/* ---- in place -------------------------------------------------------------------------------------------- */

static nn_x *read_a(nn_lower *L, void *data, nn_x *m, nn_x *ki) { return nn_rnn_h(L, data, m, ki); }

static nn_x *read_r(nn_lower *L, void *data, nn_x *ki, nn_x *n) {
  const step *s = data;
  nn_kernel *k = L->kernel;
  nn_x *index[2] = {nn_xi_add(k, nn_xi_mulc(k, nn_dim_x(L, s->rec->hidden), s->p->first), n), ki};
  return nn_x_cast(k, nn_read(L, s->rec->r, index), s->rec->acc);
}

static nn_x *sum_index(nn_lower *L, const step *s, nn_x *b, nn_x *n) {
  nn_kernel *k = L->kernel;
  return nn_xi_add(k, nn_xi_mul(k, b, nn_xi_mulc(k, nn_dim_x(L, s->rec->hidden), s->p->ngates)), n);
}

static void store_sum(nn_lower *L, void *data, nn_x *m, nn_x *n, nn_x *value) {
  const step *s = data;
  nn_store(L->kernel, s->p->sums, sum_index(L, s, m, n), value, nn_guard(L));
}

static void emit_unit(nn_lower *L, nn_x *const *index, void *data) {
  const step *s = data;
  nn_rnn_unit u = unit_at(L, s, index[0], index[1]);
  u.sums = s->p->sums;
  u.sum = sum_index(L, s, u.b, u.j);
  u.gate_stride = nn_dim_x(L, s->rec->hidden);
  s->cell(L, &u);
}

static void multiply_in_place(nn_lower *L, step *s) {
  nn_kernel *k = L->kernel;
  const nn_rnn *rec = s->rec;
  nn_x *one = nn_x_int(k, 1), *hidden = nn_dim_x(L, rec->hidden);
  nn_dim columns = nn_dim_mul(L->module, rec->hidden, nn_dim_const(L->module, s->p->ngates));
  nn_gemm g = {.m = rec->batch,
               .n = columns,
               .k = rec->hidden,
               .acc = rec->acc,
               .a = read_a,
               .b = read_r,
               .store = store_sum,
               .store_direct = true,
               .data = s,
               .a_unit_k = true};
  g.a_plain = s->p->a;
  g.a_base = rec->h_from && s->p->a == rec->state[0] ? rec->h_from : nn_x_int(k, 0);
  g.a_stride_m = nn_dim_x(L, rec->pitch);
  g.a_stride_k = one;
  g.b_unit_k = nn_read_is_unit(L, rec->r, 1);
  if (nn_read_is_plain(L, rec->r, &g.b_plain)) {
    g.b_base = nn_xi_mul(k, nn_xi_mulc(k, hidden, s->p->first), hidden);
    g.b_stride_k = one;
    g.b_stride_n = hidden;
  }
  nn_gemm_emit(L, &g);
  nn_dim units[2] = {rec->batch, rec->hidden};
  nn_box_loops(L, units, 2, nn_target_lanes(L->target, rec->acc), (int64_t)CELL_COST * s->p->ngates, emit_unit, s);
}

void nn_rnn_product_emit(nn_lower *L, nn_rnn *rec, const nn_rnn_product *p, nn_rnn_cell *cell) {
  step s = {.rec = rec, .p = p, .cell = cell};
  if (rec->width) choose_tasks(L, &s);
  if (rec->ahead.w)
    nn_rnn_ahead_step(L, &s);
  else if (rec->width)
    multiply_panels(L, &s);
  else
    multiply_in_place(L, &s);
}
