/* top_k and non_zero.

   A row keeps its candidates in temporary memory. With few (k a small constant) these are the best k so far, in
   order, and a better element is inserted. Otherwise elements are collected until there is no room, sorted, and
   cut to k. In both cases, once k are known only elements that precede the worst of them matter: where rows are
   contiguous, whole blocks are passed over by one comparison with their best element.

   Sorting merges runs of 1, 2, 4, .. elements, which keeps equal elements in order: lower indices first. NaN
   counts as larger than any number. */
#include "codegen/codegen.h"

enum {
  INSERT_MOST = 64, /* largest k of insertion */
  SPARE = 128,      /* room for candidates besides 2 * k */
  BLOCK_VECTORS = 4 /* vectors of a block */
};

/* Numbers in registers: candidates; 1 if k are known; width of the sorted runs; the half of the memory that holds
   the candidates (0 or room); heads of the two runs that are merged; 1 if a block must be looked at. */
enum { COUNT, FULL, WIDTH, SOURCE, LEFT, RIGHT, LOOK, NNUMBERS };

typedef struct top {
  nn_value *x, *values, *places; /* results, NULL if unused */
  int axis, rank;
  bool is_largest, is_few, may_cut;
  nn_dtype acc;
  nn_x *n, *k, *room;      /* elements of a row; candidates that fit */
  nn_buf *keys, *order;    /* candidates: elements and their indices; two halves if they are sorted */
  nn_buf *numbers, *worst; /* registers; the last of the best k */
  nn_x *index[NN_MAX_RANK];
} top;

/* Does a come strictly before b? */
static nn_x *precedes(nn_lower *L, const top *t, nn_x *a, nn_x *b) {
  nn_kernel *k = L->kernel;
  nn_x *cond = nn_x_binary(k, NN_X_LT, t->is_largest ? b : a, t->is_largest ? a : b);
  if (!nn_dtype_is_float(t->acc)) return cond;
  nn_x *large = t->is_largest ? a : b, *other = t->is_largest ? b : a;
  nn_x *nan = nn_x_binary(k, NN_X_AND, nn_x_binary(k, NN_X_NE, large, large), nn_x_binary(k, NN_X_EQ, other, other));
  return nn_x_binary(k, NN_X_OR, cond, nan);
}

static nn_x *load(nn_lower *L, nn_buf *buf, nn_x *at) { return nn_let(L->kernel, nn_x_load(L->kernel, buf, at, NULL)); }

static void set(nn_lower *L, nn_buf *buf, nn_x *at, nn_x *value) { nn_store(L->kernel, buf, at, value, NULL); }

static nn_x *number(nn_lower *L, const top *t, int which) { return load(L, t->numbers, nn_x_int(L->kernel, which)); }

static void set_number(nn_lower *L, const top *t, int which, nn_x *value) {
  set(L, t->numbers, nn_x_int(L->kernel, which), value);
}

static nn_x *worst(nn_lower *L, const top *t) { return load(L, t->worst, nn_x_int(L->kernel, 0)); }

static nn_x *last_of_k(nn_lower *L, const top *t) {
  return nn_xi_max(L->kernel, nn_xi_addc(L->kernel, t->k, -1), nn_x_int(L->kernel, 0));
}

static nn_x *key_of(nn_lower *L, top *t, nn_x *at) {
  t->index[t->axis] = at;
  return nn_let(L->kernel, nn_x_cast(L->kernel, nn_read(L, t->x, t->index), t->acc));
}

/* ---- few: insertion -------------------------------------------------------------------------------------------- */

/* Moves all candidates that the key precedes, from the end, and puts it there. Of k candidates the last is lost. */
static void insert(nn_lower *L, top *t, nn_x *key, nn_x *place) {
  nn_kernel *k = L->kernel;
  nn_x *left = nn_x_int(k, LEFT), *count = number(L, t, COUNT);
  set(L, t->numbers, left, nn_xi_min(k, count, last_of_k(L, t)));
  nn_x *now = nn_x_load(k, t->numbers, left, NULL);
  nn_x *before = nn_xi_max(k, nn_xi_addc(k, now, -1), nn_x_int(k, 0)),
       *more = nn_x_binary(k, NN_X_LT, nn_x_int(k, 0), now);
  nn_while_begin(k, nn_x_binary(k, NN_X_AND, more, precedes(L, t, key, nn_x_load(k, t->keys, before, NULL))));
  nn_x *at = load(L, t->numbers, left), *from = nn_let(k, nn_xi_addc(k, at, -1));
  set(L, t->keys, at, load(L, t->keys, from));
  set(L, t->order, at, load(L, t->order, from));
  set(L, t->numbers, left, from);
  nn_end(k);
  nn_x *to = load(L, t->numbers, left);
  set(L, t->keys, to, key);
  set(L, t->order, to, place);
  count = nn_let(k, nn_xi_min(k, nn_xi_addc(k, count, 1), t->k));
  set_number(L, t, COUNT, count);
  nn_if_begin(k, nn_x_binary(k, NN_X_EQ, count, t->k));
  set_number(L, t, FULL, nn_x_int(k, 1));
  set(L, t->worst, nn_x_int(k, 0), load(L, t->keys, last_of_k(L, t)));
  nn_end(k);
}

/* ---- many: collecting and sorting -------------------------------------------------------------------------------- */

/* The run that starts at lo and the one behind it, from one half of the memory to the other. */
static void merge_runs(nn_lower *L, const top *t, nn_x *lo, nn_x *width, nn_x *source, nn_x *count) {
  nn_kernel *k = L->kernel;
  nn_x *middle = nn_let(k, nn_xi_min(k, nn_xi_add(k, lo, width), count));
  nn_x *end = nn_let(k, nn_xi_min(k, nn_xi_add(k, middle, width), count));
  nn_x *target = nn_let(k, nn_xi_sub(k, t->room, source)), *last = nn_let(k, nn_xi_addc(k, count, -1));
  set_number(L, t, LEFT, lo);
  set_number(L, t, RIGHT, middle);
  nn_x *to = nn_loop_begin(k, NN_FOR, "to", lo, end);
  nn_x *left = number(L, t, LEFT), *right = number(L, t, RIGHT);
  nn_x *a = load(L, t->keys, nn_xi_add(k, source, nn_xi_min(k, left, last)));
  nn_x *b = load(L, t->keys, nn_xi_add(k, source, nn_xi_min(k, right, last)));
  nn_x *has_right = nn_x_binary(k, NN_X_LT, right, end), *no_left = nn_x_binary(k, NN_X_LE, middle, left);
  nn_x *takes_right = nn_x_binary(k, NN_X_AND, has_right, nn_x_binary(k, NN_X_OR, no_left, precedes(L, t, b, a)));
  takes_right = nn_let(k, takes_right);
  nn_x *from = nn_let(k, nn_xi_add(k, source, nn_x_select(k, takes_right, right, left)));
  nn_x *place = nn_let(k, nn_xi_add(k, target, to));
  set(L, t->keys, place, nn_x_select(k, takes_right, b, a));
  set(L, t->order, place, load(L, t->order, from));
  set_number(L, t, LEFT, nn_x_select(k, takes_right, left, nn_xi_addc(k, left, 1)));
  set_number(L, t, RIGHT, nn_x_select(k, takes_right, nn_xi_addc(k, right, 1), right));
  nn_end(k);
}

static void sort_candidates(nn_lower *L, const top *t) {
  nn_kernel *k = L->kernel;
  nn_x *count = number(L, t, COUNT);
  set_number(L, t, WIDTH, nn_x_int(k, 1));
  nn_while_begin(k, nn_x_binary(k, NN_X_LT, nn_x_load(k, t->numbers, nn_x_int(k, WIDTH), NULL), count));
  nn_x *width = number(L, t, WIDTH), *source = number(L, t, SOURCE), *both = nn_let(k, nn_xi_mulc(k, width, 2));
  nn_x *pairs = nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, count, both), -1), both);
  nn_x *pair = nn_loop_begin(k, NN_FOR, "pair", nn_x_int(k, 0), nn_let(k, pairs));
  merge_runs(L, t, nn_let(k, nn_xi_mul(k, pair, both)), width, source, count);
  nn_end(k);
  set_number(L, t, WIDTH, both);
  set_number(L, t, SOURCE, nn_xi_sub(k, t->room, source));
  nn_end(k);
}

static void cut_candidates(nn_lower *L, const top *t) {
  nn_kernel *k = L->kernel;
  nn_if_begin(k, nn_x_binary(k, NN_X_EQ, number(L, t, COUNT), t->room));
  sort_candidates(L, t);
  set_number(L, t, COUNT, t->k);
  set_number(L, t, FULL, nn_x_int(k, 1));
  set(L, t->worst, nn_x_int(k, 0), load(L, t->keys, nn_xi_add(k, number(L, t, SOURCE), last_of_k(L, t))));
  nn_end(k);
}

static void collect(nn_lower *L, const top *t, nn_x *key, nn_x *place) {
  nn_kernel *k = L->kernel;
  if (t->may_cut) cut_candidates(L, t);
  nn_x *count = number(L, t, COUNT), *to = nn_let(k, nn_xi_add(k, number(L, t, SOURCE), count));
  set(L, t->keys, to, key);
  set(L, t->order, to, place);
  set_number(L, t, COUNT, nn_xi_addc(k, count, 1));
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static nn_x *is_wanted(nn_lower *L, const top *t, nn_x *key) {
  nn_kernel *k = L->kernel;
  nn_x *has_room = nn_x_binary(k, NN_X_EQ, number(L, t, FULL), nn_x_int(k, 0));
  return nn_x_binary(k, NN_X_OR, has_room, precedes(L, t, key, worst(L, t)));
}

static void take_between(nn_lower *L, top *t, nn_x *lo, nn_x *hi) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_loop_begin(k, NN_FOR, "at", lo, hi), *key = key_of(L, t, at);
  nn_if_begin(k, is_wanted(L, t, key));
  if (t->is_few)
    insert(L, t, key, at);
  else
    collect(L, t, key, at);
  nn_end(k);
  nn_end(k);
}

/* The element of a block that precedes the others, or NaN if there is one among them. */
static nn_x *best_between(nn_lower *L, top *t, nn_x *lo, int lanes) {
  nn_kernel *k = L->kernel;
  nn_buf *best = nn_regs(L, t->acc, (int64_t)BLOCK_VECTORS * lanes);
  nn_x *u = nn_loop_range(k, NN_UNROLL, "u", BLOCK_VECTORS), *l = nn_lanes_begin(L, lanes);
  nn_x *offset = nn_xi_add(k, nn_xi_mulc(k, u, lanes), l);
  set(L, best, offset, key_of(L, t, nn_xi_add(k, lo, offset)));
  nn_lanes_end(L, lanes);
  nn_end(k);
  return nn_row_fold(L, t->is_largest ? NN_X_MAX : NN_X_MIN, best, BLOCK_VECTORS, lanes);
}

static void take_blocks(nn_lower *L, top *t, int lanes) {
  nn_kernel *k = L->kernel;
  int size = BLOCK_VECTORS * lanes;
  nn_x *b = nn_loop_begin(k, NN_FOR, "b", nn_x_int(k, 0), nn_let(k, nn_ceildiv_x(L, t->n, size)));
  nn_x *lo = nn_let(k, nn_xi_mulc(k, b, size)), *end = nn_let(k, nn_xi_addc(k, lo, size));
  set_number(L, t, LOOK, nn_x_int(k, 1));
  nn_x *is_full = nn_x_binary(k, NN_X_EQ, number(L, t, FULL), nn_x_int(k, 1));
  nn_if_begin(k, nn_x_binary(k, NN_X_AND, is_full, nn_x_binary(k, NN_X_LE, end, t->n)));
  nn_x *best = best_between(L, t, lo, lanes), *looks = precedes(L, t, best, worst(L, t));
  if (nn_dtype_is_float(t->acc) && !t->is_largest)
    looks = nn_x_binary(k, NN_X_OR, looks, nn_x_binary(k, NN_X_NE, best, best));
  set_number(L, t, LOOK, nn_x_cast(k, looks, NN_I64));
  nn_end(k);
  nn_if_begin(k, nn_x_binary(k, NN_X_EQ, number(L, t, LOOK), nn_x_int(k, 1)));
  take_between(L, t, lo, nn_xi_min(k, end, t->n));
  nn_end(k);
  nn_end(k);
}

static void write_row(nn_lower *L, top *t) {
  nn_kernel *k = L->kernel;
  nn_x *first = t->is_few ? nn_x_int(k, 0) : number(L, t, SOURCE);
  nn_x *i = nn_loop_begin(k, NN_FOR, "i", nn_x_int(k, 0), t->k), *from = nn_let(k, nn_xi_add(k, first, i));
  t->index[t->axis] = i;
  if (t->values) nn_write(L, t->values, t->index, nn_x_cast(k, load(L, t->keys, from), t->values->type.dtype));
  if (t->places) nn_write(L, t->places, t->index, load(L, t->order, from));
  nn_end(k);
}

/* Passing over blocks pays where there are many of them that vector loads can read. */
static bool has_blocks(nn_lower *L, const top *t, int lanes) {
  int64_t n = 0;
  if (!t->may_cut || lanes < 2 || nn_has_packed_output(L) || !nn_read_is_unit(L, t->x, t->axis)) return false;
  return !nn_x_is_const(t->n, &n) || n >= 4 * BLOCK_VECTORS * lanes;
}

static void top_row(nn_lower *L, nn_x *const *outer, void *data) {
  top *t = data;
  int lanes = nn_target_lanes(L->target, t->acc);
  for (int d = 0, n = 0; d < t->rank; d++)
    if (d != t->axis) t->index[d] = outer[n++];
  set_number(L, t, COUNT, nn_x_int(L->kernel, 0));
  set_number(L, t, FULL, nn_x_int(L->kernel, 0));
  set_number(L, t, SOURCE, nn_x_int(L->kernel, 0));
  set(L, t->worst, nn_x_int(L->kernel, 0), nn_zero(L, t->acc));
  if (has_blocks(L, t, lanes))
    take_blocks(L, t, lanes);
  else
    take_between(L, t, nn_x_int(L->kernel, 0), t->n);
  if (!t->is_few) sort_candidates(L, t);
  write_row(L, t);
}

/* ---- top_k ------------------------------------------------------------------------------------------------------- */

static void set_memory(nn_lower *L, top *t, nn_dim n, nn_dim k) {
  nn_module *m = L->module;
  int64_t known = 0;
  t->is_few = nn_dim_is_const(k, &known) && known <= INSERT_MOST;
  nn_dim two = nn_dim_const(m, 2), wanted = nn_dim_add(m, nn_dim_mul(m, k, two), nn_dim_const(m, SPARE));
  nn_dim room = t->is_few ? k : nn_dim_min(m, n, wanted);
  t->may_cut = room != n; /* else all elements are candidates */
  t->room = nn_let(L->kernel, nn_dim_x(L, room));
  nn_dim count = t->is_few ? room : nn_dim_mul(m, room, two);
  t->keys = nn_temp(L, NN_BUF_WORKER, t->acc, count);
  t->order = nn_temp(L, NN_BUF_WORKER, NN_I64, count);
  t->numbers = nn_regs(L, NN_I64, NNUMBERS);
  t->worst = nn_regs(L, t->acc, 1);
}

nn_status lower_top_k(nn_lower *L, nn_op *op) {
  top t = {.x = op->in[0], .rank = op->in[0]->type.rank, .is_largest = nn_attr_int(op, "largest") != 0};
  if (nn_value_nuses(op->out[0])) t.values = op->out[0];
  if (nn_value_nuses(op->out[1])) t.places = op->out[1];
  t.axis = (int)nn_attr_int(op, "axis");
  if (t.axis < 0) t.axis += t.rank;
  t.acc = nn_acc_dtype(t.x->type.dtype);
  nn_dim n = t.x->type.dims[t.axis], k = nn_attr_dims(op, "k", NULL)[0], outer[NN_MAX_RANK];
  if (nn_dim_is(k, 0)) return NN_OK;
  t.n = nn_let(L->kernel, nn_dim_x(L, n));
  t.k = nn_let(L->kernel, nn_dim_x(L, k));
  set_memory(L, &t, n, k);
  int nouter = 0;
  for (int d = 0; d < t.rank; d++)
    if (d != t.axis) outer[nouter++] = t.x->type.dims[d];
  if (nouter == 0)
    top_row(L, NULL, &t);
  else
    nn_parallel_rows(L, outer, nouter, nn_dim_guess(n, 1024) * (t.is_few ? 2 : 16) + 1, top_row, &t);
  return NN_OK;
}

/* ---- non_zero ---------------------------------------------------------------------------------------------------- */

typedef struct found {
  nn_value *x, *places;
  nn_buf *out, *count;
  nn_x *total;
} found;

static void give_place(nn_lower *L, nn_x *const *index, void *data) {
  const found *f = data;
  nn_write(L, f->places, index, load(L, f->out, nn_flat_index(L, f->places->type, index)));
}

/* Every element's indices go to the next free column, which only non-zero ones keep: no branch to predict. */
static void find_all(nn_lower *L, const found *f) {
  nn_kernel *k = L->kernel;
  nn_type type = f->x->type;
  nn_x *index[NN_MAX_RANK], *zero = nn_x_int(k, 0);
  set(L, f->count, zero, zero);
  for (int d = 0; d < type.rank; d++) index[d] = nn_loop_begin(k, NN_FOR, "i", zero, nn_dim_x(L, type.dims[d]));
  nn_x *is_found = nn_x_cast(k, nn_read(L, f->x, index), NN_BOOL), *n = load(L, f->count, zero);
  for (int d = 0; d < type.rank && f->out; d++) set(L, f->out, nn_xi_add(k, nn_xi_mulc(k, f->total, d), n), index[d]);
  set(L, f->count, zero, nn_xi_add(k, n, nn_x_cast(k, is_found, NN_I64)));
  for (int d = 0; d < type.rank; d++) nn_end(k);
}

/* Zeros behind what was found, so that the result is the same in every run. */
static void clear_rest(nn_lower *L, const found *f, nn_x *count) {
  nn_kernel *k = L->kernel;
  for (int d = 0; d < f->x->type.rank; d++) {
    nn_x *i = nn_loop_begin(k, NN_FOR, "i", count, f->total);
    set(L, f->out, nn_xi_add(k, nn_xi_mulc(k, f->total, d), i), nn_x_int(k, 0));
    nn_end(k);
  }
}

nn_status lower_non_zero(nn_lower *L, nn_op *op) {
  nn_module *m = L->module;
  found f = {.x = op->in[0], .places = op->out[0], .count = nn_regs(L, NN_I64, 1)};
  nn_type type = f.places->type;
  bool is_used = nn_value_nuses(op->out[0]) > 0, is_plain = is_used && nn_write_is_plain(L, f.places, &f.out);
  if (is_used && !is_plain) f.out = nn_temp(L, NN_BUF_WORKSPACE, NN_I64, nn_type_count(m, type));
  f.total = nn_let(L->kernel, nn_dim_x(L, nn_type_count(m, f.x->type)));
  find_all(L, &f);
  nn_x *count = load(L, f.count, nn_x_int(L->kernel, 0));
  if (is_used) clear_rest(L, &f, count);
  if (is_used && !is_plain)
    nn_box_loops(L, type.dims, type.rank, nn_target_lanes(L->target, NN_I64), 4, give_place, &f);
  if (nn_value_nuses(op->out[1])) nn_write(L, op->out[1], NULL, count);
  return NN_OK;
}
