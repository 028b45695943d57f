/* A generator of graphs that use every family of ops, with values that stay moderate. */
#include "tests/engine/random_graph.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_POOL = 64, MAX_INPUT = 500, MAX_ELEMENTS = 3000, SYMBOL_SAMPLE = 3 };

typedef struct generator {
  random_source random;
  nn_module *m;
  nn_builder b;
  nn_value *pool[MAX_POOL]; /* f32 values to choose operands from */
  int npool;
} generator;

static int below(generator *g, int n) { return random_below(&g->random, n); }
static bool chance(generator *g, int percent) { return below(g, 100) < percent; }
static nn_value *pick(generator *g) {
  return g->pool[chance(g, 80) ? g->npool - 1 - below(g, g->npool < 4 ? g->npool : 4) : below(g, g->npool)];
}

/* Elements, symbols counted as SYMBOL_SAMPLE. */
static int64_t size_of(generator *g, nn_type t) {
  int64_t symbols[64], count = 0;
  for (int i = 0; i < 64; i++) symbols[i] = SYMBOL_SAMPLE;
  return nn_dim_eval(nn_type_count(g->m, t), symbols, &count) ? count : INT64_MAX;
}

static void keep(generator *g, nn_value *v) {
  if (!v || size_of(g, v->type) > MAX_ELEMENTS) return;
  if (g->npool < MAX_POOL)
    g->pool[g->npool++] = v;
  else
    g->pool[below(g, MAX_POOL)] = v;
}

static nn_dim number(generator *g, int64_t value) { return nn_dim_const(g->m, value); }

/* Multiples of 1 / parts. */
static nn_value *random_fractions(generator *g, int rank, const int64_t *dims, double parts) {
  nn_tensor *t = nn_tensor_new(g->m, nn_type_static(g->m, NN_F32, rank, dims));
  int64_t count = 1;
  for (int i = 0; i < rank; i++) count *= dims[i];
  for (int64_t i = 0; i < count; i++)
    nn_store_f64(NN_F32, (void *)(uintptr_t)t->data, (size_t)i, (below(g, 41) - 20) / parts);
  return nn_b_const(&g->b, t);
}

static nn_value *random_const(generator *g, int rank, const int64_t *dims) { return random_fractions(g, rank, dims, 16); }

static nn_value *squash(generator *g, nn_value *v) { return nn_b_unary(&g->b, NN_OP_TANH, v); }

/* ---- pointwise ----------------------------------------------------------------------------------- */

static nn_value *make_unary(generator *g) {
  static const nn_opcode codes[] = {NN_OP_NEG, NN_OP_ABS,   NN_OP_RELU,     NN_OP_TANH, NN_OP_SIGMOID, NN_OP_SIN, NN_OP_COPY,
                                    NN_OP_ERF, NN_OP_SILU2, NN_OP_SOFTPLUS, NN_OP_ATAN, NN_OP_SIGN,    NN_OP_COS};
  return nn_b_unary(&g->b, codes[below(g, sizeof codes / sizeof *codes)], pick(g));
}

/* A constant that broadcasts to v: some dimensions of its own, ones elsewhere, leading ones dropped. */
static nn_value *make_partner(generator *g, nn_value *v) {
  int64_t dims[NN_MAX_RANK];
  int drop = below(g, v->type.rank + 1);
  for (int i = drop; i < v->type.rank; i++) {
    int64_t d = 1;
    if (chance(g, 60)) nn_dim_is_const(v->type.dims[i], &d);
    dims[i - drop] = d;
  }
  return random_const(g, v->type.rank - drop, dims);
}

static nn_value *other_of_shape(generator *g, const nn_value *v) {
  for (int tries = 0; tries < 8; tries++) {
    nn_value *w = pick(g);
    if (nn_type_same_shape(w->type, v->type)) return w;
  }
  return NULL;
}

static nn_value *make_binary(generator *g) {
  static const nn_opcode codes[] = {NN_OP_ADD, NN_OP_SUB, NN_OP_MUL, NN_OP_MIN, NN_OP_MAX};
  nn_value *v = pick(g), *w = other_of_shape(g, v);
  if (!w || chance(g, 40)) w = make_partner(g, v);
  nn_opcode code = codes[below(g, sizeof codes / sizeof *codes)];
  return chance(g, 50) ? nn_b_binary(&g->b, code, v, w) : nn_b_binary(&g->b, code, w, v);
}

static nn_value *make_select(generator *g) {
  nn_value *v = pick(g), *w = other_of_shape(g, v);
  if (!w) w = make_partner(g, v);
  nn_value *cond = nn_b_binary(&g->b, chance(g, 50) ? NN_OP_LT : NN_OP_LE, v, nn_b_scalar(&g->b, NN_F32, 0.25));
  return nn_b_select(&g->b, cond, v, w);
}

static nn_value *make_cast(generator *g) {
  static const nn_dtype types[] = {NN_I32, NN_I64, NN_F16, NN_BF16, NN_F64, NN_I8, NN_BOOL};
  nn_dtype t = types[below(g, sizeof types / sizeof *types)];
  nn_value *v = pick(g);
  if (!nn_dtype_is_float(t)) v = nn_b_scalar_op(&g->b, NN_OP_MUL, squash(g, v), 100.0);
  return nn_b_cast(&g->b, nn_b_cast(&g->b, v, t), NN_F32);
}

/* ---- movement ------------------------------------------------------------------------------------ */

static nn_value *make_reshape(generator *g) {
  nn_value *v = pick(g);
  nn_dim dims[NN_MAX_RANK];
  int rank = 0;
  for (int i = 0; i < v->type.rank; i++) {
    int64_t d = 0;
    bool splits =
        nn_dim_is_const(v->type.dims[i], &d) && d % 2 == 0 && d > 0 && chance(g, 40) && rank + v->type.rank - i < 6;
    if (splits) {
      dims[rank++] = number(g, 2);
      dims[rank++] = number(g, d / 2);
    } else if (rank > 0 && chance(g, 40)) {
      dims[rank - 1] = nn_dim_mul(g->m, dims[rank - 1], v->type.dims[i]);
    } else {
      dims[rank++] = v->type.dims[i];
    }
  }
  return nn_b_reshape(&g->b, v, rank, dims);
}

static nn_value *make_transpose(generator *g) {
  nn_value *v = pick(g);
  int64_t perm[NN_MAX_RANK];
  for (int i = 0; i < v->type.rank; i++) perm[i] = i;
  for (int i = v->type.rank - 1; i > 0; i--) {
    int j = below(g, i + 1);
    int64_t t = perm[i];
    perm[i] = perm[j];
    perm[j] = t;
  }
  return nn_b_transpose(&g->b, v, perm);
}

/* A dimension of v that is a number greater than 0; -1 if there is none. */
static int static_axis(generator *g, const nn_value *v) {
  for (int tries = 0; tries < 6 && v->type.rank > 0; tries++) {
    int axis = below(g, v->type.rank);
    int64_t d = 0;
    if (nn_dim_is_const(v->type.dims[axis], &d) && d > 0) return axis;
  }
  return -1;
}

static nn_value *make_slice(generator *g) {
  nn_value *v = pick(g);
  int axis = static_axis(g, v);
  if (axis < 0) return NULL;
  int d = (int)nn_dim_value(v->type.dims[axis]), start = below(g, d), step = chance(g, 60) ? 1 : chance(g, 50) ? 2 : -1;
  int count = step > 0 ? (d - start + step - 1) / step : start + 1;
  if (count > 1 && chance(g, 50)) count = 1 + below(g, count);
  return nn_b_slice(&g->b, v, axis, number(g, start), number(g, count), number(g, step));
}

static nn_value *make_concat(generator *g) {
  nn_value *v = pick(g), *parts[3] = {v};
  if (v->type.rank == 0) return NULL;
  int axis = below(g, v->type.rank), count = 2 + below(g, 2);
  for (int i = 1; i < count; i++) {
    parts[i] = other_of_shape(g, v);
    if (!parts[i]) parts[i] = chance(g, 50) ? v : squash(g, v);
  }
  return nn_b_concat(&g->b, parts, count, axis);
}

static nn_value *make_pad(generator *g) {
  static const char *const modes[] = {"constant", "constant", "edge", "reflect", "wrap"};
  nn_value *v = pick(g), *in[2] = {v, nn_b_scalar(&g->b, NN_F32, 0.5)};
  nn_dim before[NN_MAX_RANK], after[NN_MAX_RANK];
  if (v->type.rank == 0) return NULL;
  for (int i = 0; i < v->type.rank; i++) {
    int64_t d = 0;
    bool pads = nn_dim_is_const(v->type.dims[i], &d) && d > 1 && chance(g, 40);
    before[i] = number(g, pads ? below(g, 3) - (d > 3 ? 1 : 0) : 0);
    after[i] = number(g, pads ? below(g, 3) : 0);
  }
  nn_op *op = nn_b_begin(&g->b, NN_OP_PAD, in, 2, 1);
  if (!op) return NULL;
  nn_set_dims(op, "before", before, v->type.rank);
  nn_set_dims(op, "after", after, v->type.rank);
  nn_set_str(op, "mode", modes[below(g, 5)]);
  return nn_b_end(&g->b, op);
}

static nn_value *make_tile(generator *g) {
  nn_value *v = pick(g);
  nn_dim repeats[NN_MAX_RANK];
  if (v->type.rank == 0) return NULL;
  for (int i = 0; i < v->type.rank; i++) repeats[i] = number(g, chance(g, 30) ? 2 : 1);
  nn_op *op = nn_b_begin(&g->b, NN_OP_TILE, &v, 1, 1);
  if (!op) return NULL;
  nn_set_dims(op, "repeats", repeats, v->type.rank);
  return nn_b_end(&g->b, op);
}

static nn_value *make_ramp(generator *g) {
  nn_value *v = pick(g);
  if (v->type.rank == 0) return NULL;
  nn_value *ramp = nn_b_iota(&g->b, NN_F32, v->type.rank, v->type.dims, below(g, v->type.rank));
  return nn_b_binary(&g->b, NN_OP_ADD, v, nn_b_scalar_op(&g->b, NN_OP_MUL, ramp, 0.125));
}

static nn_value *make_gather(generator *g) {
  nn_value *v = pick(g);
  int axis = static_axis(g, v), count = 1 + below(g, 4);
  int64_t at[4];
  if (axis < 0) return NULL;
  int d = (int)nn_dim_value(v->type.dims[axis]);
  for (int i = 0; i < count; i++) at[i] = below(g, 2 * d) - d;
  nn_value *in[2] = {v, nn_b_ints(&g->b, NN_I64, at, count)};
  nn_op *op = nn_b_begin(&g->b, NN_OP_GATHER, in, 2, 1);
  if (!op) return NULL;
  nn_set_int(op, "axis", axis);
  return nn_b_end(&g->b, op);
}

static nn_value *make_resize(generator *g) {
  static const char *const modes[] = {"nearest", "linear", "cubic"};
  nn_value *v = pick(g);
  int axis = static_axis(g, v);
  nn_dim dims[NN_MAX_RANK];
  if (axis < 0) return NULL;
  memcpy(dims, v->type.dims, (size_t)v->type.rank * sizeof *dims);
  dims[axis] = number(g, 1 + below(g, 2 * (int)nn_dim_value(dims[axis])));
  nn_op *op = nn_b_begin(&g->b, NN_OP_RESIZE, &v, 1, 1);
  if (!op) return NULL;
  nn_set_dims(op, "dims", dims, v->type.rank);
  nn_set_str(op, "mode", modes[below(g, 3)]);
  nn_set_int(op, "antialias", chance(g, 20));
  return nn_b_end(&g->b, op);
}

static nn_value *make_dilate(generator *g) {
  nn_value *v = pick(g);
  int64_t steps[NN_MAX_RANK];
  if (v->type.rank == 0) return NULL;
  for (int i = 0; i < v->type.rank; i++) steps[i] = chance(g, 30) ? 2 : 1;
  nn_op *op = nn_b_begin(&g->b, NN_OP_DILATE, &v, 1, 1);
  if (!op) return NULL;
  nn_set_ints(op, "steps", steps, v->type.rank);
  return nn_b_end(&g->b, op);
}

/* ---- nests --------------------------------------------------------------------------------------- */

static nn_value *make_reduce(generator *g) {
  static const nn_opcode codes[] = {NN_OP_REDUCE_SUM, NN_OP_REDUCE_MAX, NN_OP_REDUCE_MIN};
  nn_value *v = pick(g);
  int64_t axes[NN_MAX_RANK];
  int n = 0;
  for (int i = 0; i < v->type.rank; i++)
    if (chance(g, 40)) axes[n++] = i;
  if (n == 0) return NULL;
  nn_value *sum = nn_b_reduce(&g->b, codes[below(g, 3)], v, axes, n, chance(g, 60));
  return nn_b_scalar_op(&g->b, NN_OP_MUL, sum, 0.125);
}

static nn_value *make_row_op(generator *g) {
  static const nn_opcode codes[] = {NN_OP_SOFTMAX, NN_OP_LOG_SOFTMAX, NN_OP_NORMALIZE};
  nn_value *v = pick(g);
  if (v->type.rank == 0) return NULL;
  nn_op *op = nn_b_begin(&g->b, codes[below(g, 3)], &v, 1, -1);
  if (!op) return NULL;
  nn_set_int(op, "axis", op->code == NN_OP_NORMALIZE ? v->type.rank - 1 : below(g, v->type.rank));
  return nn_b_end(&g->b, op);
}

static nn_value *make_scan(generator *g) {
  nn_value *v = pick(g);
  if (v->type.rank == 0) return NULL;
  nn_op *op = nn_b_begin(&g->b, NN_OP_CUM_SUM, &v, 1, 1);
  if (!op) return NULL;
  nn_set_int(op, "axis", below(g, v->type.rank));
  nn_set_int(op, "exclusive", chance(g, 50));
  nn_set_int(op, "reverse", chance(g, 50));
  return nn_b_scalar_op(&g->b, NN_OP_MUL, nn_b_end(&g->b, op), 0.25);
}

static nn_value *make_arg(generator *g) {
  nn_value *v = pick(g);
  int axis = static_axis(g, v);
  if (axis < 0) return NULL;
  nn_op *op = nn_b_begin(&g->b, chance(g, 50) ? NN_OP_ARG_MAX : NN_OP_ARG_MIN, &v, 1, 1);
  if (!op) return NULL;
  nn_set_int(op, "axis", axis);
  return nn_b_scalar_op(&g->b, NN_OP_MUL, nn_b_cast(&g->b, nn_b_end(&g->b, op), NN_F32), 0.0625);
}

static nn_value *make_matmul(generator *g) {
  nn_value *v = pick(g);
  int64_t dims[2] = {0, 1 + below(g, 20)};
  if (v->type.rank < 2 || !nn_dim_is_const(v->type.dims[v->type.rank - 1], &dims[0])) return NULL;
  nn_value *product = nn_b_matmul(&g->b, v, random_const(g, 2, dims));
  return chance(g, 50) ? nn_b_unary(&g->b, NN_OP_RELU, product) : product;
}

/* Along a line, or of an image. */
static nn_value *make_conv(generator *g) {
  nn_value *v = pick(g);
  int64_t w[4] = {1 + below(g, 9), 0, 1 + below(g, 3), 1 + below(g, 3)}, size, strides[2] = {1 + below(g, 2), 1 + below(g, 2)};
  int nsp = v->type.rank - 2;
  if (nsp < 1 || nsp > 2 || !nn_dim_is_const(v->type.dims[1], &w[1]) || w[1] == 0) return NULL;
  for (int d = 0; d < nsp; d++)
    if (!nn_dim_is_const(v->type.dims[2 + d], &size) || size < w[2 + d]) return NULL;
  nn_value *in[2] = {v, random_const(g, v->type.rank, w)};
  nn_op *op = nn_b_begin(&g->b, NN_OP_CONV, in, 2, 1);
  if (!op) return NULL;
  nn_dim pads[4];
  for (int i = 0; i < 2 * nsp; i++) pads[i] = number(g, below(g, 2));
  nn_set_ints(op, "strides", strides, nsp);
  nn_set_dims(op, "pads", pads, 2 * nsp);
  return nn_b_end(&g->b, op);
}

/* Weights are small, as there are many: errors do not grow from one to the next. */
static nn_value *wide_conv(generator *g, nn_value *v, int64_t outputs, int64_t kernel) {
  enum { PARTS = 256 };
  int64_t w[4] = {outputs, 0, kernel, kernel};
  if (!v || !nn_dim_is_const(v->type.dims[1], &w[1])) return NULL;
  nn_value *in[2] = {v, random_fractions(g, 4, w, PARTS)};
  nn_op *op = nn_b_begin(&g->b, NN_OP_CONV, in, 2, 1);
  nn_dim pad = number(g, kernel / 2);
  if (!op) return NULL;
  nn_set_dims(op, "pads", (const nn_dim[]){pad, pad, pad, pad}, 4);
  nn_set_ints(op, "strides", (const int64_t[]){1, kernel > 1 ? 2 : 1}, 2);
  return squash(g, nn_b_end(&g->b, op));
}

/* Convolutions of channels enough for the forms that need some: channels in blocks, products in pairs. */
static nn_value *make_wide(generator *g) {
  nn_value *v = pick(g);
  int64_t channels = 0, size;
  if (v->type.rank != 4 || !nn_dim_is_const(v->type.dims[1], &channels) || channels == 0) return NULL;
  for (int d = 2; d < 4; d++)
    if (!nn_dim_is_const(v->type.dims[d], &size) || size == 0) return NULL;
  v = wide_conv(g, squash(g, v), 48 + below(g, 17), 1);
  v = wide_conv(g, v, 48 + below(g, 40), chance(g, 70) ? 1 : 3);
  return chance(g, 50) ? wide_conv(g, v, 1 + below(g, 20), 1) : v;
}

/* x sigmoid(x) of a product by constants, with a bias or without (pass silu). */
static nn_value *make_gated(generator *g) {
  nn_value *v = chance(g, 50) ? make_matmul(g) : make_conv(g);
  if (!v) return NULL;
  if (chance(g, 70)) v = nn_b_binary(&g->b, NN_OP_ADD, v, make_partner(g, v));
  return nn_b_binary(&g->b, NN_OP_MUL, v, nn_b_unary(&g->b, NN_OP_SIGMOID, v));
}

static nn_value *make_pool(generator *g) {
  nn_value *v = pick(g);
  int64_t h = 0, x = 0, kernel[2] = {1 + below(g, 3), 1 + below(g, 3)}, strides[2] = {1 + below(g, 2), 1 + below(g, 2)};
  if (v->type.rank != 4) return NULL;
  if (!nn_dim_is_const(v->type.dims[2], &h) || !nn_dim_is_const(v->type.dims[3], &x) || h < kernel[0] || x < kernel[1])
    return NULL;
  nn_op *op = nn_b_begin(&g->b, chance(g, 50) ? NN_OP_MAX_POOL : NN_OP_AVG_POOL, &v, 1, -1);
  if (!op) return NULL;
  nn_set_ints(op, "kernel", kernel, 2);
  nn_set_ints(op, "strides", strides, 2);
  return nn_b_end(&g->b, op);
}

/* ---- graphs -------------------------------------------------------------------------------------- */

static void make_inputs(generator *g, const random_options *o) {
  static const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17};
  int count = 1 + below(g, 3);
  nn_dim dims[NN_MAX_RANK];
  for (int i = 0; i < count; i++) {
    int rank = o->images ? 4 : 1 + below(g, 4);
    bool repeats = i > 0 && chance(g, 40);
    int64_t elements = 1;
    for (int d = 0; d < rank; d++) {
      int64_t size = chance(g, 2) ? 0 : sizes[below(g, sizeof sizes / sizeof *sizes)];
      if (elements * size > MAX_INPUT) size = 2;
      elements *= size;
      dims[d] = number(g, size);
    }
    if (o->symbolic) dims[0] = nn_dim_symbol(g->m, "N");
    nn_type t = repeats ? g->pool[0]->type : nn_type_make(g->m, NN_F32, rank, dims);
    char name[8] = {'x', (char)('0' + i), 0};
    g->pool[g->npool++] = nn_graph_param(g->b.graph, nn_strdup(g->m->arena, name), t);
  }
}

typedef nn_value *maker(generator *g);

static nn_value *make_any(generator *g) {
  static maker *const makers[] = {make_unary,  make_unary,  make_unary, make_binary,  make_binary,  make_binary,
                                  make_binary, make_select, make_cast,  make_reshape, make_reshape, make_transpose,
                                  make_slice,  make_concat, make_pad,   make_tile,    make_ramp,    make_gather,
                                  make_resize, make_dilate, make_scan,  make_arg,     make_reduce,  make_row_op,
                                  make_matmul, make_conv,   make_gated, make_pool,    make_wide};
  return makers[below(g, sizeof makers / sizeof *makers)](g);
}

nn_module *random_graph(uint64_t seed, const random_options *o) {
  generator g = {.random = {seed * 2654435769u + 12345}};
  g.m = nn_module_new("random");
  g.b = (nn_builder){.graph = nn_graph_new(g.m, "main"), .loc = "node", .loc_op = "Random"};
  g.m->main = g.b.graph;
  make_inputs(&g, o);
  for (int i = 0; i < o->nops && g.m->diags.nerrors == 0; i++) keep(&g, o->images && chance(&g, 30) ? make_wide(&g) : make_any(&g));
  nn_value *results[4];
  int count = 1 + below(&g, 3);
  for (int i = 0; i < count; i++) results[i] = i == 0 ? g.pool[g.npool - 1] : pick(&g);
  if (chance(&g, 30)) results[count++] = results[0];
  nn_graph_set_return(g.b.graph, results, count);
  return g.m;
}
