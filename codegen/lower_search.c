/* top_k and non_zero.

   top_k with a small constant k keeps the best k of a row in order and inserts what is better than the last of
   them: for most elements one comparison. Otherwise the row's indices are sorted by merging runs of 1, 2, 4, ..
   elements, which is stable. NaN counts as larger than any number. */
#include "codegen/codegen.h"

enum { INSERT_MOST = 64 };

typedef struct top {
  nn_op *op;
  nn_value *x, *values, *places;   /* results, NULL if unused */
  int axis, rank;
  nn_dim k;
  bool is_largest;
  nn_dtype acc;
  nn_x *n, *k_x;
  nn_buf *keys, *order;            /* insertion: the best so far; sorting: the row, and two halves of indices */
  nn_buf *count;                   /* a number in memory */
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

static nn_x *key_of(nn_lower *L, top *t, nn_x *at) {
  t->index[t->axis] = at;
  return nn_let(L->kernel, nn_x_cast(L->kernel, nn_read(L, t->x, t->index), t->acc));
}

static void write_place(nn_lower *L, top *t, nn_x *rank, nn_x *key, nn_x *place) {
  t->index[t->axis] = rank;
  if (t->values) nn_write(L, t->values, t->index, nn_x_cast(L->kernel, key, t->values->type.dtype));
  if (t->places) nn_write(L, t->places, t->index, place);
}

/* ---- few: insertion ---------------------------------------------------------------------------------------------------- */

/* Makes room among the first `used` by moving all that the key precedes, from the end; puts it there. */
static void insert(nn_lower *L, top *t, nn_x *used, nn_x *key, nn_x *place) {
  nn_kernel *k = L->kernel;
  nn_x *zero = nn_x_int(k, 0), *last = nn_let(k, nn_xi_addc(k, t->k_x, -1));
  set(L, t->count, zero, nn_xi_min(k, used, last));
  nn_x *now = nn_x_load(k, t->count, zero, NULL);
  nn_x *before = nn_xi_max(k, nn_xi_addc(k, now, -1), zero);
  nn_x *more = nn_x_binary(k, NN_X_LT, zero, now);
  nn_while_begin(k, nn_x_binary(k, NN_X_AND, more, precedes(L, t, key, nn_x_load(k, t->keys, before, NULL))));
  nn_x *at = load(L, t->count, zero), *from = nn_let(k, nn_xi_addc(k, at, -1));
  set(L, t->keys, at, load(L, t->keys, from));
  set(L, t->order, at, load(L, t->order, from));
  set(L, t->count, zero, from);
  nn_end(k);
  nn_x *free_place = load(L, t->count, zero);
  set(L, t->keys, free_place, key);
  set(L, t->order, free_place, place);
}

static void insert_row(nn_lower *L, top *t) {
  nn_kernel *k = L->kernel;
  nn_x *last = nn_let(k, nn_xi_addc(k, t->k_x, -1));
  nn_x *at = nn_loop_begin(k, NN_FOR, "at", nn_x_int(k, 0), t->n);
  nn_x *key = key_of(L, t, at), *used = nn_let(k, nn_xi_min(k, at, t->k_x));
  nn_x *has_room = nn_x_binary(k, NN_X_LT, used, t->k_x), *worst = nn_x_load(k, t->keys, last, NULL);
  nn_if_begin(k, nn_x_binary(k, NN_X_OR, has_room, precedes(L, t, key, worst)));
  insert(L, t, used, key, at);
  nn_end(k);
  nn_end(k);
  nn_x *i = nn_loop_begin(k, NN_FOR, "i", nn_x_int(k, 0), t->k_x);
  write_place(L, t, i, load(L, t->keys, i), load(L, t->order, i));
  nn_end(k);
}

/* ---- many: merge sort ------------------------------------------------------------------------------------------------------ */

/* count[0]: width of the runs; [1]: which half of `order` holds them, 0 or n; [2], [3]: heads of the two runs. */
enum { WIDTH, SOURCE, LEFT, RIGHT, NCOUNTS };

static nn_x *number(nn_lower *L, const top *t, int which) { return load(L, t->count, nn_x_int(L->kernel, which)); }

static void set_number(nn_lower *L, const top *t, int which, nn_x *value) { set(L, t->count, nn_x_int(L->kernel, which), value); }

/* The run that starts at lo and the one after it, from one half of `order` to the other. */
static void merge_runs(nn_lower *L, top *t, nn_x *lo, nn_x *width, nn_x *source) {
  nn_kernel *k = L->kernel;
  nn_x *middle = nn_let(k, nn_xi_min(k, nn_xi_add(k, lo, width), t->n));
  nn_x *end = nn_let(k, nn_xi_min(k, nn_xi_add(k, middle, width), t->n));
  nn_x *target = nn_let(k, nn_xi_sub(k, t->n, source)), *least = nn_let(k, nn_xi_addc(k, t->n, -1));
  set_number(L, t, LEFT, lo);
  set_number(L, t, RIGHT, middle);
  nn_x *to = nn_loop_begin(k, NN_FOR, "to", lo, end);
  nn_x *left = number(L, t, LEFT), *right = number(L, t, RIGHT);
  nn_x *a = load(L, t->order, nn_xi_add(k, source, nn_xi_min(k, left, least)));
  nn_x *b = load(L, t->order, nn_xi_add(k, source, nn_xi_min(k, right, least)));
  nn_x *right_first = precedes(L, t, load(L, t->keys, b), load(L, t->keys, a));
  nn_x *has_right = nn_x_binary(k, NN_X_LT, right, end), *no_left = nn_x_binary(k, NN_X_LE, middle, left);
  nn_x *takes_right = nn_x_binary(k, NN_X_AND, has_right, nn_x_binary(k, NN_X_OR, no_left, right_first));
  takes_right = nn_let(k, takes_right);
  set(L, t->order, nn_xi_add(k, target, to), nn_x_select(k, takes_right, b, a));
  set_number(L, t, LEFT, nn_x_select(k, takes_right, left, nn_xi_addc(k, left, 1)));
  set_number(L, t, RIGHT, nn_x_select(k, takes_right, nn_xi_addc(k, right, 1), right));
  nn_end(k);
}

static void sort_row(nn_lower *L, top *t) {
  nn_kernel *k = L->kernel;
  nn_x *at = nn_loop_begin(k, NN_FOR, "at", nn_x_int(k, 0), t->n);
  set(L, t->keys, at, key_of(L, t, at));
  set(L, t->order, at, at);
  nn_end(k);
  set_number(L, t, WIDTH, nn_x_int(k, 1));
  set_number(L, t, SOURCE, nn_x_int(k, 0));
  nn_while_begin(k, nn_x_binary(k, NN_X_LT, nn_x_load(k, t->count, nn_x_int(k, WIDTH), NULL), t->n));
  nn_x *width = number(L, t, WIDTH), *source = number(L, t, SOURCE), *both = nn_let(k, nn_xi_mulc(k, width, 2));
  nn_x *pairs = nn_xi_floordiv(k, nn_xi_addc(k, nn_xi_add(k, t->n, both), -1), both);
  nn_x *pair = nn_loop_begin(k, NN_FOR, "pair", nn_x_int(k, 0), nn_let(k, pairs));
  merge_runs(L, t, nn_let(k, nn_xi_mul(k, pair, both)), width, source);
  nn_end(k);
  set_number(L, t, WIDTH, both);
  set_number(L, t, SOURCE, nn_xi_sub(k, t->n, source));
  nn_end(k);
  nn_x *sorted = number(L, t, SOURCE);
  nn_x *i = nn_loop_begin(k, NN_FOR, "i", nn_x_int(k, 0), t->k_x);
  nn_x *place = load(L, t->order, nn_xi_add(k, sorted, i));
  write_place(L, t, i, load(L, t->keys, place), place);
  nn_end(k);
}

/* ---- top_k --------------------------------------------------------------------------------------------------------------------- */

static bool is_few(const top *t) {
  int64_t k;
  return nn_dim_is_const(t->k, &k) && k <= INSERT_MOST;
}

static void top_row(nn_lower *L, nn_x *const *outer, void *data) {
  top *t = data;
  for (int d = 0, n = 0; d < t->rank; d++)
    if (d != t->axis) t->index[d] = outer[n++];
  if (is_few(t)) insert_row(L, t);
  else sort_row(L, t);
}

nn_status lower_top_k(nn_lower *L, nn_op *op) {
  nn_module *m = L->module;
  top t = {.op = op, .x = op->in[0], .rank = op->in[0]->type.rank, .is_largest = nn_attr_int(op, "largest") != 0};
  if (nn_value_nuses(op->out[0])) t.values = op->out[0];
  if (nn_value_nuses(op->out[1])) t.places = op->out[1];
  t.axis = (int)nn_attr_int(op, "axis");
  if (t.axis < 0) t.axis += t.rank;
  t.acc = nn_acc_dtype(t.x->type.dtype);
  t.k = nn_attr_dims(op, "k", NULL)[0];
  if (nn_dim_is(t.k, 0)) return NN_OK;
  nn_dim n = t.x->type.dims[t.axis], outer[NN_MAX_RANK];
  t.n = nn_let(L->kernel, nn_dim_x(L, n));
  t.k_x = nn_let(L->kernel, nn_dim_x(L, t.k));
  t.keys = nn_temp(L, NN_BUF_WORKER, t.acc, is_few(&t) ? t.k : n);
  t.order = nn_temp(L, NN_BUF_WORKER, NN_I64, is_few(&t) ? t.k : nn_dim_mul(m, n, nn_dim_const(m, 2)));
  t.count = nn_temp(L, NN_BUF_WORKER, NN_I64, nn_dim_const(m, NCOUNTS));
  int nouter = 0;
  for (int d = 0; d < t.rank; d++)
    if (d != t.axis) outer[nouter++] = t.x->type.dims[d];
  if (nouter == 0) top_row(L, NULL, &t);
  else nn_parallel_rows(L, outer, nouter, nn_dim_guess(n, 1024) * 8 + 1, top_row, &t);
  return NN_OK;
}

/* ---- non_zero ------------------------------------------------------------------------------------------------------------------ */

typedef struct found { nn_value *places; nn_buf *out; } found;

static void clear_place(nn_lower *L, nn_x *const *index, void *data) {
  const found *f = data;
  nn_store(L->kernel, f->out, nn_flat_index(L, f->places->type, index), nn_x_int(L->kernel, 0), nn_guard(L));
}

static void give_place(nn_lower *L, nn_x *const *index, void *data) {
  const found *f = data;
  nn_kernel *k = L->kernel;
  nn_write(L, f->places, index, nn_let(k, nn_x_load(k, f->out, nn_flat_index(L, f->places->type, index), nn_guard(L))));
}

static void find_all(nn_lower *L, nn_value *x, const found *f, nn_buf *count) {
  nn_kernel *k = L->kernel;
  nn_x *index[NN_MAX_RANK], *zero = nn_x_int(k, 0), *total = nn_let(k, nn_dim_x(L, nn_type_count(L->module, x->type)));
  int rank = x->type.rank;
  set(L, count, zero, zero);
  for (int d = 0; d < rank; d++) index[d] = nn_loop_begin(k, NN_FOR, "i", zero, nn_dim_x(L, x->type.dims[d]));
  nn_if_begin(k, nn_x_cast(k, nn_read(L, x, index), NN_BOOL));
  nn_x *n = load(L, count, zero);
  for (int d = 0; d < rank && f->out; d++) set(L, f->out, nn_xi_add(k, nn_xi_mulc(k, total, d), n), index[d]);
  set(L, count, zero, nn_xi_addc(k, n, 1));
  nn_end(k);
  for (int d = 0; d < rank; d++) nn_end(k);
}

nn_status lower_non_zero(nn_lower *L, nn_op *op) {
  nn_module *m = L->module;
  found f = {.places = op->out[0]};
  nn_type type = f.places->type;
  bool wanted = nn_value_nuses(op->out[0]) > 0, plain = wanted && nn_write_is_plain(L, f.places, &f.out);
  if (wanted && !plain) f.out = nn_temp(L, NN_BUF_WORKSPACE, NN_I64, nn_type_count(m, type));
  nn_buf *count = nn_temp(L, NN_BUF_WORKSPACE, NN_I64, nn_dim_const(m, 1));
  int lanes = nn_target_lanes(L->target, NN_I64);
  if (wanted) nn_box_loops(L, type.dims, type.rank, lanes, 1, clear_place, &f);
  else f.out = NULL;
  find_all(L, op->in[0], &f, count);
  if (wanted && !plain) nn_box_loops(L, type.dims, type.rank, lanes, 4, give_place, &f);
  if (nn_value_nuses(op->out[1])) nn_write(L, op->out[1], NULL, load(L, count, nn_x_int(L->kernel, 0)));
  return NN_OK;
}
