/* Loops over boxes of indices: which part of them is cut into tasks, how large tasks are, and how the
   innermost dimension becomes vector code.

   The cut depends on the shape and the cost alone, never on the number of threads, so the result has the
   same bits for any number of them. With constant dimensions all of it folds to numbers; with symbolic ones
   the same formulas are computed while running:

     ntasks = clamp(elements * cost / TASK_COST, 1, MAX_TASKS)
     rows   = product of the outer dimensions;  n = the last dimension
     pieces = ceil(ntasks / rows)           pieces of a row, when there are fewer rows than tasks
     piece  = n cut by pieces, rounded up to whole vectors
     block  = ceil(rows / ntasks)           rows of a task, when there are more

     parallel %t in 0..ceil(rows / block) * npieces {
       for %row in %t / npieces * block .. { for the dims that are left { vector code over a piece } } } */
#include "codegen/codegen.h"

enum { TASK_COST = 16384, MAX_TASKS = 64 };

/* ---- one dimension as vector code ---------------------------------------------------------------- */

typedef void line_body(nn_lower *L, nn_x *i, void *data);

static void emit_vector(nn_lower *L, nn_x *first, int lanes, line_body *body, void *data) {
  nn_x *lane = nn_loop_range(L->kernel, NN_VECTOR, "l", lanes);
  body(L, nn_xi_add(L->kernel, first, lane), data);
  nn_end(L->kernel);
}

static void emit_scalar(nn_lower *L, nn_x *lo, nn_x *hi, line_body *body, void *data) {
  nn_x *i = nn_loop_begin(L->kernel, NN_FOR, "i", lo, hi);
  body(L, i, data);
  nn_end(L->kernel);
}

static int floor_power_of_2(int n) {
  int p = 1;
  while (2 * p <= n) p *= 2;
  return p;
}

/* What whole vectors leave, a number of elements: one narrower vector and scalars. */
static void emit_known_rest(nn_lower *L, nn_x *lo, int count, line_body *body, void *data) {
  int lanes = floor_power_of_2(count > 0 ? count : 1);
  if (count >= 2) {
    emit_vector(L, lo, lanes, body, data);
    lo = nn_xi_addc(L->kernel, lo, lanes);
    count -= lanes;
  }
  if (count > 1)
    emit_scalar(L, lo, nn_xi_addc(L->kernel, lo, count), body, data);
  else if (count == 1)
    body(L, lo, data);
}

static void emit_whole_vectors(nn_lower *L, nn_x *lo, nn_x *nvectors, int lanes, line_body *body, void *data) {
  int64_t count = 0;
  if (nn_x_is_const(nvectors, &count) && count <= 1) {
    if (count == 1) emit_vector(L, lo, lanes, body, data);
    return;
  }
  nn_x *v = nn_loop_begin(L->kernel, NN_FOR, "v", nn_x_int(L->kernel, 0), nvectors);
  emit_vector(L, nn_xi_add(L->kernel, lo, nn_xi_mulc(L->kernel, v, lanes)), lanes, body, data);
  nn_end(L->kernel);
}

/* i in lo..lo+n. is_whole: n is known to be a multiple of lanes. */
static void emit_line(nn_lower *L, nn_x *lo, nn_x *n, int lanes, bool is_whole, line_body *body, void *data) {
  nn_kernel *k = L->kernel;
  int64_t count = 0;
  bool is_known = nn_x_is_const(n, &count);
  if (is_known && count == 1) {
    body(L, lo, data);
    return;
  }
  if (lanes <= 1 || nn_current_vector_var(k)) {
    emit_scalar(L, lo, nn_xi_add(k, lo, n), body, data);
    return;
  }
  nn_x *nvectors = nn_xi_floordiv(k, n, nn_x_int(k, lanes));
  if (!is_known) nvectors = nn_bind(L, nvectors);
  emit_whole_vectors(L, lo, nvectors, lanes, body, data);
  if (is_whole) return;
  nn_x *rest = nn_xi_add(k, lo, nn_xi_mulc(k, nvectors, lanes));
  if (is_known)
    emit_known_rest(L, rest, (int)(count % lanes), body, data);
  else
    emit_scalar(L, nn_bind(L, rest), nn_bind(L, nn_xi_add(k, lo, n)), body, data);
}

void nn_vector_loops(nn_lower *L, nn_x *n, int lanes, line_body *body, void *data) {
  if (nn_has_packed_output(L)) lanes = 1;
  emit_line(L, nn_x_int(L->kernel, 0), n, lanes, false, body, data);
}

/* ---- how work is cut ----------------------------------------------------------------------------- */

typedef struct cut {
  nn_x *rows, *block, *nblocks; /* rows, rows of a task, tasks along the rows */
  nn_x *n, *piece, *npieces;    /* the line, elements of a piece of it, pieces */
  bool is_whole;                /* every piece is a multiple of lanes */
} cut;

static nn_x *ceil_div(nn_lower *L, nn_x *a, nn_x *b) {
  return nn_xi_floordiv(L->kernel, nn_xi_addc(L->kernel, nn_xi_add(L->kernel, a, b), -1), b);
}

static nn_x *at_least(nn_lower *L, nn_x *a, int64_t least) {
  return nn_xi_max(L->kernel, a, nn_x_int(L->kernel, least));
}

static nn_x *product_x(nn_lower *L, const nn_dim *dims, int nd) {
  return nn_dim_x(L, nn_dim_product(L->module, dims, nd));
}

static bool static_product(const nn_dim *dims, int nd, int64_t *product) {
  *product = 1;
  for (int i = 0; i < nd; i++) {
    int64_t d = 0;
    if (!nn_dim_is_const(dims[i], &d)) return false;
    *product = d > 0 && *product > INT64_MAX / d ? INT64_MAX : *product * d;
  }
  return true;
}

static int64_t static_tasks(int64_t elements, int64_t cost) {
  int64_t work = elements > INT64_MAX / cost ? INT64_MAX : elements * cost;
  int64_t tasks = work / TASK_COST;
  return tasks < 1 ? 1 : tasks > MAX_TASKS ? MAX_TASKS : tasks;
}

static nn_x *count_tasks(nn_lower *L, const nn_dim *dims, int nd, int64_t cost) {
  int64_t elements = 0;
  if (nn_has_packed_output(L)) return nn_x_int(L->kernel, 1);
  if (static_product(dims, nd, &elements)) return nn_x_int(L->kernel, static_tasks(elements, cost));
  /* elements * cost could overflow where elements alone does not */
  int64_t enough = TASK_COST / cost > 0 ? TASK_COST / cost : 1;
  nn_x *tasks = nn_xi_floordiv(L->kernel, product_x(L, dims, nd), nn_x_int(L->kernel, enough));
  tasks = nn_xi_min(L->kernel, at_least(L, tasks, 1), nn_x_int(L->kernel, MAX_TASKS));
  return nn_bind(L, tasks);
}

static void cut_rows(nn_lower *L, cut *c, nn_x *ntasks) {
  c->block = nn_bind(L, at_least(L, ceil_div(L, c->rows, ntasks), 1));
  c->nblocks = nn_bind(L, ceil_div(L, c->rows, c->block));
}

static void cut_line(nn_lower *L, cut *c, nn_x *ntasks, int lanes) {
  nn_x *pieces = nn_bind(L, ceil_div(L, ntasks, at_least(L, c->rows, 1)));
  nn_x *vectors = ceil_div(L, ceil_div(L, c->n, pieces), nn_x_int(L->kernel, lanes));
  c->piece = nn_bind(L, at_least(L, nn_xi_mulc(L->kernel, vectors, lanes), lanes));
  c->npieces = nn_bind(L, ceil_div(L, c->n, c->piece));
  int64_t n = 0;
  c->is_whole = nn_x_is_const(c->n, &n) && n % lanes == 0;
}

/* How many leading dimensions are enough to make ntasks tasks: the others stay loops without division. */
static int parallel_prefix(const nn_dim *dims, int nd, const nn_x *ntasks) {
  int64_t want = MAX_TASKS, have = 1;
  nn_x_is_const(ntasks, &want);
  for (int p = 0; p < nd; p++) {
    int64_t d = 0, most = 0;
    if (have >= want) return p;
    nn_dim_range(dims[p], &d, &most);
    if (d < 1) return nd;
    have = have > INT64_MAX / d ? INT64_MAX : have * d;
  }
  return nd;
}

/* ---- the loops ----------------------------------------------------------------------------------- */

typedef struct box {
  const nn_dim *dims;
  int nd;
  int lanes;
  int prefix; /* dimensions that the tasks' rows cover */
  int last;   /* the dimension of the line, -1: none */
  nn_x **index;
  cut cut;
  nn_x *piece_lo, *piece_n;
  nn_body *body;
  void *data;
} box;

static void emit_point(nn_lower *L, nn_x *i, void *data) {
  box *b = data;
  b->index[b->last] = i;
  b->body(L, b->index, b->data);
}

static void emit_inner(nn_lower *L, box *b, int dim) {
  if (dim == b->last) {
    emit_line(L, b->piece_lo, b->piece_n, b->lanes, b->cut.is_whole, emit_point, b);
    return;
  }
  if (dim == b->nd) {
    b->body(L, b->index, b->data);
    return;
  }
  if (nn_dim_is(b->dims[dim], 1)) {
    b->index[dim] = nn_x_int(L->kernel, 0);
    emit_inner(L, b, dim + 1);
    return;
  }
  b->index[dim] = nn_loop_begin(L->kernel, NN_FOR, "i", nn_x_int(L->kernel, 0), nn_dim_x(L, b->dims[dim]));
  emit_inner(L, b, dim + 1);
  nn_end(L->kernel);
}

static void emit_row(nn_lower *L, box *b, nn_x *row) {
  nn_type outer = {.dtype = NN_I64, .rank = b->prefix, .dims = b->dims};
  nn_unflatten(L, outer, row, b->index);
  for (int i = 0; i < b->prefix; i++) b->index[i] = nn_bind(L, b->index[i]);
  emit_inner(L, b, b->prefix);
}

/* The rows of block number `at`. */
static void emit_block(nn_lower *L, box *b, nn_x *at) {
  nn_kernel *k = L->kernel;
  const cut *c = &b->cut;
  int64_t one = 0, rows = 0, block = 0;
  if (nn_x_is_const(c->block, &one) && one == 1) {
    emit_row(L, b, at);
    return;
  }
  nn_x *lo = nn_bind(L, nn_xi_mul(k, at, c->block));
  nn_x *hi = nn_xi_add(k, lo, c->block);
  bool is_even = nn_x_is_const(c->rows, &rows) && nn_x_is_const(c->block, &block) && rows % block == 0;
  if (!is_even) hi = nn_xi_min(k, hi, c->rows);
  nn_x *row = nn_loop_begin(k, NN_FOR, "row", lo, hi);
  emit_row(L, b, row);
  nn_end(k);
}

static void set_piece(nn_lower *L, box *b, nn_x *at) {
  nn_kernel *k = L->kernel;
  const cut *c = &b->cut;
  int64_t n = 0, piece = 0;
  b->piece_lo = nn_bind(L, nn_xi_mul(k, at, c->piece));
  b->piece_n = c->piece;
  if (!nn_x_is_const(c->n, &n) || !nn_x_is_const(c->piece, &piece) || n % piece != 0)
    b->piece_n = nn_bind(L, nn_xi_min(k, c->piece, nn_xi_sub(k, c->n, b->piece_lo)));
}

static bool is_one(const nn_x *x) {
  int64_t value = 0;
  return nn_x_is_const(x, &value) && value == 1;
}

static nn_x *box_tasks(nn_lower *L, const box *b) {
  return nn_bind(L, nn_xi_mul(L->kernel, b->cut.nblocks, b->cut.npieces));
}

static void emit_task(nn_lower *L, box *b, nn_x *t) {
  nn_kernel *k = L->kernel;
  cut *c = &b->cut;
  nn_x *at = t;
  if (b->last >= 0 && is_one(c->npieces)) {
    b->piece_lo = nn_x_int(k, 0);
    b->piece_n = c->n;
  } else if (b->last >= 0) {
    set_piece(L, b, nn_xi_mod(k, t, c->npieces));
    at = nn_xi_floordiv(k, t, c->npieces);
  }
  emit_block(L, b, nn_bind(L, at));
}

static void emit_tasks(nn_lower *L, box *b) {
  emit_task(L, b, nn_loop_begin(L->kernel, NN_PARALLEL, "t", nn_x_int(L->kernel, 0), box_tasks(L, b)));
  nn_end(L->kernel);
}

static void emit_serial(nn_lower *L, box *b) {
  b->prefix = 0;
  b->piece_lo = nn_x_int(L->kernel, 0);
  b->piece_n = b->cut.n;
  emit_inner(L, b, 0);
}

static int last_varying(const nn_dim *dims, int nd) {
  for (int i = nd - 1; i >= 0; i--)
    if (!nn_dim_is(dims[i], 1)) return i;
  return nd - 1;
}

static bool is_empty(const nn_dim *dims, int nd) {
  for (int i = 0; i < nd; i++)
    if (nn_dim_is(dims[i], 0)) return true;
  return false;
}

/* Cuts the box; false: it is too small for several tasks. */
static bool cut_box(nn_lower *L, box *b, int64_t cost) {
  nn_x *ntasks = count_tasks(L, b->dims, b->nd, cost > 0 ? cost : 1);
  b->cut.n = nn_dim_x(L, b->dims[b->last]);
  if (is_one(ntasks)) return false;
  b->prefix = parallel_prefix(b->dims, b->last, ntasks);
  b->cut.rows = nn_bind(L, product_x(L, b->dims, b->prefix));
  cut_rows(L, &b->cut, ntasks);
  int64_t rows = 0, tasks = 0;
  bool enough_rows = nn_x_is_const(b->cut.rows, &rows) && nn_x_is_const(ntasks, &tasks) && rows >= tasks;
  if (enough_rows)
    b->cut.npieces = nn_x_int(L->kernel, 1), b->cut.piece = b->cut.n;
  else
    cut_line(L, &b->cut, ntasks, b->lanes);
  return true;
}

static box make_box(nn_lower *L, const nn_dim *dims, int nd, int lanes, nn_body *body, void *data) {
  box b = {.dims = dims, .nd = nd, .body = body, .data = data};
  b.lanes = lanes > 1 && !nn_has_packed_output(L) && !nn_current_vector_var(L->kernel) ? lanes : 1;
  b.index = NN_NEW_ARRAY(L->module->arena, nn_x *, nd + 1);
  b.last = last_varying(dims, nd);
  for (int i = b.last + 1; i < nd; i++) b.index[i] = nn_x_int(L->kernel, 0);
  return b;
}

void nn_box_loops(nn_lower *L, const nn_dim *dims, int nd, int lanes, int64_t cost, nn_body *body, void *data) {
  if (is_empty(dims, nd)) return;
  box b = make_box(L, dims, nd, lanes, body, data);
  if (b.last < 0)
    body(L, b.index, data);
  else if (cut_box(L, &b, cost))
    emit_tasks(L, &b);
  else
    emit_serial(L, &b);
}

/* ---- several boxes --------------------------------------------------------------------------------- */

/* One box in several tasks, or a few small boxes in one. */
typedef struct unit {
  box *boxes;
  int count;
  bool is_cut;
  int64_t work;        /* of small boxes */
  nn_x *first;         /* number of its first task */
} unit;

static void emit_unit(nn_lower *L, const unit *u, nn_x *task) {
  if (u->is_cut) {
    emit_task(L, u->boxes, nn_bind(L, nn_xi_sub(L->kernel, task, u->first)));
    return;
  }
  for (int i = 0; i < u->count; i++) emit_serial(L, &u->boxes[i]);
}

/* The one of the units that the task belongs to. */
static void choose_unit(nn_lower *L, const unit *units, int count, nn_x *task) {
  nn_kernel *k = L->kernel;
  if (count == 1) {
    emit_unit(L, units, task);
    return;
  }
  nn_if_begin(k, nn_x_binary(k, NN_X_LT, task, units[count / 2].first));
  choose_unit(L, units, count / 2, task);
  nn_else(k);
  choose_unit(L, units + count / 2, count - count / 2, task);
  nn_end(k);
}

/* Boxes in order become units. */
static int make_units(nn_lower *L, box *boxes, int nboxes, int64_t cost, unit *units) {
  int count = 0;
  for (int i = 0; i < nboxes; i++) {
    box *b = &boxes[i];
    unit *last = count ? &units[count - 1] : NULL;
    int64_t elements = 0;
    bool is_cut = cut_box(L, b, cost), joins = last && !is_cut && !last->is_cut && last->work < TASK_COST;
    if (!joins) units[count++] = (unit){.boxes = b, .is_cut = is_cut};
    static_product(b->dims, b->nd, &elements);
    last = &units[count - 1];
    last->count++;
    last->work += elements > TASK_COST ? TASK_COST : elements * cost; /* it is small, or cut */
  }
  return count;
}

void nn_boxes_loops(nn_lower *L, const nn_boxes *all, nn_x **repetition) {
  nn_kernel *k = L->kernel;
  nn_arena *arena = L->module->arena;
  box *boxes = NN_NEW_ARRAY(arena, box, all->count + 1);
  int nboxes = 0;
  for (int i = 0; i < all->count; i++)
    if (!is_empty(all->boxes[i].dims, all->nd)) boxes[nboxes++] = make_box(L, all->boxes[i].dims, all->nd, all->lanes, all->body, all->boxes[i].data);
  if (!nboxes) return;
  unit *units = NN_NEW_ARRAY(arena, unit, nboxes);
  int count = make_units(L, boxes, nboxes, all->cost > 0 ? all->cost : 1, units);
  nn_x *tasks = nn_x_int(k, 0), *repetitions = nn_x_int(k, all->repetitions);
  for (int i = 0; i < count; i++) {
    units[i].first = tasks;
    tasks = nn_bind(L, nn_xi_add(k, tasks, units[i].is_cut ? box_tasks(L, units[i].boxes) : nn_x_int(k, 1)));
  }
  if (nn_has_packed_output(L) || (count == 1 && !units->is_cut)) {
    *repetition = nn_loop_begin(k, NN_FOR, "again", nn_x_int(k, 0), repetitions);
    for (int i = 0; i < nboxes; i++) emit_serial(L, &boxes[i]);
  } else {
    nn_x *t = nn_loop_begin(k, NN_PARALLEL, "t", nn_x_int(k, 0), nn_bind(L, nn_xi_mul(k, tasks, repetitions)));
    *repetition = nn_bind(L, nn_xi_floordiv(k, t, nn_xi_max(k, tasks, nn_x_int(k, 1))));
    choose_unit(L, units, count, nn_bind(L, nn_xi_mod(k, t, nn_xi_max(k, tasks, nn_x_int(k, 1)))));
  }
  nn_end(k);
}

void nn_parallel_rows(nn_lower *L, const nn_dim *dims, int nd, int64_t cost, nn_body *body, void *data) {
  if (is_empty(dims, nd)) return;
  box b = {.dims = dims, .nd = nd, .last = -1, .lanes = 1, .body = body, .data = data};
  b.index = NN_NEW_ARRAY(L->module->arena, nn_x *, nd + 1);
  nn_x *ntasks = count_tasks(L, dims, nd, cost > 0 ? cost : 1);
  if (is_one(ntasks) || nd == 0) {
    emit_inner(L, &b, 0);
    return;
  }
  b.prefix = parallel_prefix(dims, nd, ntasks);
  b.cut.rows = nn_bind(L, product_x(L, dims, b.prefix));
  b.cut.npieces = nn_x_int(L->kernel, 1);
  cut_rows(L, &b.cut, ntasks);
  emit_tasks(L, &b);
}
