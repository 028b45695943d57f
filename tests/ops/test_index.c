/* Gathers, scatters and searches against plain C, interpreted and as machine code with three workers. Shapes are
   random; a dimension may be the symbol N, operands may be computed in the same kernel. */
#include "tests/codegen/run_case.h"

enum { MANY = 60, TEXT = 2048 };

static uint64_t random_state = 0x1234567; /* each test runs in a process of its own: the same numbers every time */

static int below(int n) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return n > 0 ? (int)((random_state >> 33) % (uint64_t)n) : 0;
}

/* ---- shapes and types as text ----------------------------------------------------------------------------------- */

enum { SYMBOL = -1 };
typedef struct shape {
  int rank;
  int64_t dims[NN_MAX_RANK];
} shape; /* SYMBOL: N */
typedef struct type_text {
  char text[128];
} type_text;

static int64_t symbol_value; /* of N in the case that is being made */

static int64_t size_of(const shape *s, int d) { return s->dims[d] == SYMBOL ? symbol_value : s->dims[d]; }

static int64_t count_of(const shape *s) {
  int64_t count = 1;
  for (int d = 0; d < s->rank; d++) count *= size_of(s, d);
  return count;
}

static type_text type_of(const char *dtype, const shape *s) {
  type_text t = {{0}};
  int n = snprintf(t.text, sizeof t.text, "%s[", dtype);
  for (int d = 0; d < s->rank; d++) {
    if (d) t.text[n++] = ',';
    if (s->dims[d] == SYMBOL)
      t.text[n++] = 'N';
    else
      n += snprintf(t.text + n, sizeof t.text - (size_t)n, "%lld", (long long)s->dims[d]);
  }
  t.text[n] = ']';
  return t;
}

static void push(shape *s, int64_t dim) { s->dims[s->rank++] = dim; }

static void push_all(shape *s, const shape *from, int begin, int end) {
  for (int d = begin; d < end; d++) push(s, from->dims[d]);
}

/* Sizes around vector widths in the last dimension; sometimes one is empty, sometimes one is N. */
static shape random_shape(int rank, bool may_be_empty) {
  static const int64_t last[] = {1, 3, 4, 7, 8, 9, 16, 33};
  shape s = {.rank = rank};
  for (int d = 0; d < rank; d++) s.dims[d] = d == rank - 1 ? last[below(8)] : 1 + below(5);
  if (may_be_empty && below(8) == 0) s.dims[below(rank)] = 0;
  symbol_value = 3;
  if (rank && below(3) == 0) {
    int d = below(rank);
    symbol_value = s.dims[d];
    s.dims[d] = SYMBOL;
  }
  return s;
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

static void fill_small(run_case *c, int i) {
  for (int64_t k = 0; k < case_count(&c->in[i]); k++)
    nn_store_f64(c->in_dtype[i], c->in[i].data, (size_t)k, below(7) - (c->in_dtype[i] == NN_U8 ? 0 : 3));
}

/* Indices into a dimension of this size, some counted from the end. */
static void fill_indices(run_case *c, int i, int64_t size) {
  int64_t *to = c->in[i].data;
  for (int64_t k = 0; k < case_count(&c->in[i]); k++) to[k] = below((int)(2 * size)) - size;
}

static double in_at(const run_case *c, int i, int64_t k) {
  return nn_load_f64(c->in_dtype[i], c->in[i].data, (size_t)k);
}

static int64_t place_at(const run_case *c, int i, int64_t k, int64_t size) {
  int64_t at = ((const int64_t *)c->in[i].data)[k];
  return at < 0 ? at + size : at;
}

static void spoil_outputs(run_case *c) {
  for (int i = 0; i < c->nout; i++)
    memset(c->out[i].data, 0x7f, nn_dtype_bytes(c->out_dtype[i], (uint64_t)case_count(&c->out[i])));
}

static void run_compiled(run_case *c) {
  nn_target host = {0};
  cr_assert_eq(nn_target_init(&host, NULL, NULL, &c->m->diags), NN_OK);
  nn_jit *jit = nn_jit_new(&c->m->diags);
  nn_emit_options options = {.name = "model", .level = 2, .weights_in_object = true};
  const nncc_rt_model *model = NULL;
  cr_assert(jit && nn_jit_program(jit, &host, c->p, &options, &model) == NN_OK);
  nncc_rt_pool *pool = nncc_rt_pool_create(3);
  size_t bytes = model->workspace_size(c->in, 3);
  c->ctx = (nncc_rt_ctx){
      .workspace = aligned_alloc(64, (bytes + 127) / 64 * 64), .workspace_bytes = bytes, .weights = model->weights};
  nncc_rt_ctx_use_pool(&c->ctx, pool);
  c->code = model->run(&c->ctx, c->in, c->out);
  free(c->ctx.workspace);
  nncc_rt_pool_destroy(pool);
  nn_jit_free(jit);
  nn_target_free(&host);
}

/* expected[i] has the elements of output i (NULL: not compared), code what the run should give. */
static void expect(run_case *c, double *const *expected, int code, const char *text) {
  for (int engine = 0; engine < 2; engine++) {
    const char *name = engine ? "machine code" : "interpreter";
    spoil_outputs(c);
    if (engine)
      run_compiled(c);
    else
      case_run(c);
    cr_assert_eq(c->code, code, "%s gave code %d, expected %d:\n%s", name, c->code, code, text);
    if (code) continue;
    for (int i = 0; i < c->nout; i++) {
      if (!expected[i]) continue;
      for (int64_t k = 0; k < case_count(&c->out[i]); k++) {
        double got = case_out(c, i, k), want = expected[i][k];
        cr_assert(got == want || (isnan(got) && isnan(want)), "%s: output %d, element %lld is %g, expected %g:\n%s",
                  name, i, (long long)k, got, want, text);
      }
    }
  }
}

static double *new_numbers(int64_t count) { return calloc((size_t)count + 1, sizeof(double)); }

/* ---- gathers ---------------------------------------------------------------------------------------------------- */

typedef struct gather {
  const char *op;
  char attrs[32];
  int axis, batch, depth;
  shape data, at, out;
} gather;

static void want_gathered(const run_case *c, const gather *g, double *want) {
  int64_t index[NN_MAX_RANK] = {0}, inner[NN_MAX_RANK] = {0}, size;
  for (int64_t k = 0; k < case_count(&c->out[0]); k++) {
    case_unflatten(&c->out[0], k, index);
    if (strcmp(g->op, "gather") == 0) {
      size = size_of(&g->data, g->axis);
      for (int d = 0; d < g->data.rank; d++)
        if (d != g->axis) inner[d] = index[d < g->axis ? d : d - 1 + g->at.rank];
      inner[g->axis] = place_at(c, 1, case_flatten(&c->in[1], index + g->axis), size);
    } else if (strcmp(g->op, "gather_elements") == 0) {
      memcpy(inner, index, sizeof inner);
      inner[g->axis] = place_at(c, 1, k, size_of(&g->data, g->axis));
    } else {
      int64_t row = 0;
      for (int d = 0; d < g->at.rank - 1; d++) row = row * size_of(&g->at, d) + index[d];
      memcpy(inner, index, (size_t)g->batch * sizeof *inner);
      for (int j = 0; j < g->depth; j++)
        inner[g->batch + j] = place_at(c, 1, row * g->depth + j, size_of(&g->data, g->batch + j));
      for (int d = g->batch + g->depth; d < g->data.rank; d++)
        inner[d] = index[g->at.rank - 1 + d - g->batch - g->depth];
    }
    want[k] = in_at(c, 0, case_flatten(&c->in[0], inner));
  }
}

static int64_t least_gathered(const gather *g) {
  int64_t least = size_of(&g->data, g->axis);
  if (strcmp(g->op, "gather_nd") != 0) return least;
  least = size_of(&g->data, g->batch);
  for (int j = 1; j < g->depth; j++)
    if (size_of(&g->data, g->batch + j) < least) least = size_of(&g->data, g->batch + j);
  return least;
}

static void try_gather(const gather *g, const char *dtype, bool fuses) {
  char text[TEXT];
  type_text data = type_of(dtype, &g->data), at = type_of("i64", &g->at), out = type_of(dtype, &g->out);
  const char *twice = strcmp(dtype, "bool") == 0 ? "not" : "neg";
  case_text(text, sizeof text,
            "nncc 1\ngraph @main(%%x: %s, %%i: %s) -> (%s) {\n  %%0 = %s %%x : %s\n  %%1 = %s %%0, %%i {%s} : %s\n  "
            "%%2 = %s %%1 : %s\n  return %%2\n}\n",
            data.text, at.text, out.text, twice, data.text, g->op, g->attrs, out.text, twice, out.text);
  run_case c = case_open(text, fuses, symbol_value);
  fill_small(&c, 0);
  int64_t size = least_gathered(g);
  fill_indices(&c, 1, size);
  double *want = new_numbers(case_count(&c.out[0]));
  if (size > 0 || count_of(&g->out) == 0) want_gathered(&c, g, want);
  expect(&c, &want, size > 0 || count_of(&g->out) == 0 ? 0 : NNCC_RT_EINDEX, text);
  free(want);
  case_close(&c);
}

static const char *const gathered[] = {"f32", "f16", "f64", "i8", "i64", "bool", "bf16", "i4"};

Test(index, gather) {
  for (int n = 0; n < MANY; n++) {
    gather g = {.op = "gather", .data = random_shape(1 + below(4), true)};
    g.axis = below(g.data.rank);
    for (int d = below(4); d > 0; d--) push(&g.at, d == 1 && below(6) == 0 ? 0 : 1 + below(9));
    snprintf(g.attrs, sizeof g.attrs, "axis=%d", g.axis);
    push_all(&g.out, &g.data, 0, g.axis);
    push_all(&g.out, &g.at, 0, g.at.rank);
    push_all(&g.out, &g.data, g.axis + 1, g.data.rank);
    try_gather(&g, gathered[below(8)], below(2));
  }
}

Test(index, gather_elements) {
  for (int n = 0; n < MANY; n++) {
    gather g = {.op = "gather_elements", .data = random_shape(1 + below(4), true)};
    g.axis = below(g.data.rank);
    snprintf(g.attrs, sizeof g.attrs, "axis=%d", below(2) ? g.axis : g.axis - g.data.rank);
    g.at = g.data;
    g.at.dims[g.axis] = 1 + below(12);
    g.out = g.at;
    try_gather(&g, gathered[below(8)], below(2));
  }
}

Test(index, gather_nd) {
  for (int n = 0; n < MANY; n++) {
    gather g = {.op = "gather_nd", .data = random_shape(1 + below(4), true)};
    g.batch = below(g.data.rank);
    g.depth = 1 + below(g.data.rank - g.batch);
    snprintf(g.attrs, sizeof g.attrs, "batch_dims=%d", g.batch);
    push_all(&g.at, &g.data, 0, g.batch);
    for (int d = below(3); d > 0; d--) push(&g.at, 1 + below(6));
    g.out = g.at;
    push(&g.at, g.depth);
    push_all(&g.out, &g.data, g.batch + g.depth, g.data.rank);
    try_gather(&g, gathered[below(8)], below(2));
  }
}

/* ---- scatters --------------------------------------------------------------------------------------------------- */

static const char *const reductions[] = {"none", "add", "mul", "max", "min"};

static double reduced(int reduction, double old, double update) {
  switch (reduction) {
  case 1: return old + update;
  case 2: return old * update;
  case 3: return old > update ? old : update;
  case 4: return old < update ? old : update;
  default: return update;
  }
}

typedef struct scatter {
  const char *op;
  char attrs[64];
  int axis, depth, reduction;
  shape data, at, updates;
} scatter;

static void want_scattered(const run_case *c, const scatter *s, double *want) {
  int64_t index[NN_MAX_RANK] = {0}, inner[NN_MAX_RANK] = {0};
  for (int64_t k = 0; k < case_count(&c->in[0]); k++) want[k] = in_at(c, 0, k);
  for (int64_t k = 0; k < case_count(&c->in[2]); k++) {
    case_unflatten(&c->in[2], k, index);
    if (s->depth == 0) {
      memcpy(inner, index, sizeof inner);
      inner[s->axis] = place_at(c, 1, k, size_of(&s->data, s->axis));
    } else {
      int64_t row = 0;
      for (int d = 0; d < s->at.rank - 1; d++) row = row * size_of(&s->at, d) + index[d];
      for (int j = 0; j < s->depth; j++) inner[j] = place_at(c, 1, row * s->depth + j, size_of(&s->data, j));
      for (int d = s->depth; d < s->data.rank; d++) inner[d] = index[s->at.rank - 1 + d - s->depth];
    }
    int64_t to = case_flatten(&c->in[0], inner);
    want[to] = reduced(s->reduction, want[to], in_at(c, 2, k));
  }
}

static void try_scatter(const scatter *s, const char *dtype, bool fuses) {
  char text[TEXT];
  type_text data = type_of(dtype, &s->data), at = type_of("i64", &s->at), updates = type_of(dtype, &s->updates);
  const char *twice = strcmp(dtype, "bool") == 0 ? "not" : "neg";
  case_text(text, sizeof text,
            "nncc 1\ngraph @main(%%x: %s, %%i: %s, %%u: %s) -> (%s) {\n  %%0 = %s %%x : %s\n  %%1 = %s %%0 : %s\n  %%2 "
            "= %s %%u : %s\n  %%3 = %s %%2 : %s\n"
            "  %%4 = %s %s, %%i, %s {%s} : %s\n  return %%4\n}\n",
            data.text, at.text, updates.text, data.text, twice, data.text, twice, data.text, twice, updates.text, twice,
            updates.text, s->op, below(2) ? "%1" : "%x", below(2) ? "%3" : "%u", s->attrs, data.text);
  run_case c = case_open(text, fuses, symbol_value);
  fill_small(&c, 0);
  fill_small(&c, 2);
  int64_t size = s->depth ? INT64_MAX : size_of(&s->data, s->axis);
  for (int j = 0; j < s->depth; j++)
    if (size_of(&s->data, j) < size) size = size_of(&s->data, j);
  fill_indices(&c, 1, size);
  double *want = new_numbers(count_of(&s->data));
  want_scattered(&c, s, want);
  expect(&c, &want, 0, text);
  free(want);
  case_close(&c);
}

static const char *const scattered[] = {"f32", "f64", "i64", "i32", "i8", "i4", "bool"};
enum { REPLACED_ONLY = 4 }; /* from here on, sums would wrap */

Test(index, scatter_elements) {
  for (int n = 0; n < MANY; n++) {
    scatter s = {.op = "scatter_elements", .data = random_shape(1 + below(4), false), .reduction = below(5)};
    int dtype = below(7);
    if (dtype >= REPLACED_ONLY) s.reduction = 0;
    s.axis = below(s.data.rank);
    snprintf(s.attrs, sizeof s.attrs, "axis=%d, reduction=\"%s\"", below(2) ? s.axis : s.axis - s.data.rank,
             reductions[s.reduction]);
    s.at = s.data;
    s.at.dims[s.axis] = below(6);
    s.updates = s.at;
    try_scatter(&s, scattered[dtype], below(2));
  }
}

Test(index, scatter_nd) {
  for (int n = 0; n < MANY; n++) {
    scatter s = {.op = "scatter_nd", .data = random_shape(1 + below(4), false), .reduction = below(5)};
    int dtype = below(7);
    if (dtype >= REPLACED_ONLY) s.reduction = 0;
    s.depth = 1 + below(s.data.rank);
    snprintf(s.attrs, sizeof s.attrs, "reduction=\"%s\"", reductions[s.reduction]);
    for (int d = below(3); d > 0; d--) push(&s.at, below(5));
    s.updates = s.at;
    push(&s.at, s.depth);
    push_all(&s.updates, &s.data, s.depth, s.data.rank);
    try_scatter(&s, scattered[dtype], below(2));
  }
}

/* ---- indices that are out of range ------------------------------------------------------------------------------- */

static void expect_out_of_range(const char *line, const char *out_type, int64_t index, int64_t found, int64_t size) {
  char text[TEXT];
  case_text(text, sizeof text,
            "nncc 1\ngraph @main(%%x: f32[3,9], %%i: i64[1,1], %%u: f32[1,1], %%v: f32[1,9]) -> (%s) {\n  %%0 = %s : "
            "%s\n  return %%0\n}\n",
            out_type, line, out_type);
  run_case c = case_open(text, false, 1);
  *(int64_t *)c.in[1].data = index;
  case_run(&c);
  cr_expect_eq(c.code, NNCC_RT_EINDEX, "%s with %lld: code %d", line, (long long)index, c.code);
  cr_expect_eq(c.ctx.found, found);
  cr_expect_eq(c.ctx.expected, size);
  run_compiled(&c);
  cr_expect_eq(c.code, NNCC_RT_EINDEX, "%s with %lld: code %d", line, (long long)index, c.code);
  cr_expect_eq(c.ctx.found, found);
  cr_expect_eq(c.ctx.expected, size);
  case_close(&c);
}

Test(index, out_of_range_is_an_error) {
  static const int64_t bad[][2] = {{3, 3}, {-4, -1}, {INT64_MAX, INT64_MAX}, {INT64_MIN, INT64_MIN + 3}};
  for (int i = 0; i < 4; i++) {
    expect_out_of_range("gather %x, %i", "f32[1,1,9]", bad[i][0], bad[i][1], 3);
    expect_out_of_range("gather_elements %x, %i", "f32[1,1]", bad[i][0], bad[i][1], 3);
    expect_out_of_range("gather_nd %x, %i", "f32[1,9]", bad[i][0], bad[i][1], 3);
    expect_out_of_range("scatter_elements %x, %i, %u", "f32[3,9]", bad[i][0], bad[i][1], 3);
    expect_out_of_range("scatter_nd %x, %i, %v", "f32[3,9]", bad[i][0], bad[i][1], 3);
  }
}

/* ---- top_k ------------------------------------------------------------------------------------------------------ */

static bool comes_before(double a, double b, bool is_largest) {
  if (isnan(a) || isnan(b)) return is_largest ? isnan(a) && !isnan(b) : isnan(b) && !isnan(a);
  return is_largest ? a > b : a < b;
}

/* The places of a row in order, by insertion: equal elements stay in order. */
static void order_row(const double *row, int64_t n, bool is_largest, int64_t *order) {
  for (int64_t i = 0; i < n; i++) {
    int64_t j = i;
    for (; j > 0 && comes_before(row[i], row[order[j - 1]], is_largest); j--) order[j] = order[j - 1];
    order[j] = i;
  }
}

static void want_top(const run_case *c, int axis, int64_t n, int64_t k, bool is_largest, double **want) {
  int64_t inner = 1, outer = 1, *order = calloc((size_t)n + 1, sizeof *order);
  double *row = new_numbers(n);
  for (int d = 0; d < c->in[0].rank; d++) *(d < axis ? &outer : &inner) *= d == axis ? 1 : c->in[0].dims[d];
  for (int64_t o = 0; o < outer; o++)
    for (int64_t i = 0; i < inner; i++) {
      for (int64_t a = 0; a < n; a++) row[a] = in_at(c, 0, (o * n + a) * inner + i);
      order_row(row, n, is_largest, order);
      for (int64_t a = 0; a < k; a++) {
        want[0][(o * k + a) * inner + i] = row[order[a]];
        want[1][(o * k + a) * inner + i] = (double)order[a];
      }
    }
  free(order);
  free(row);
}

static void try_top(shape data, int axis, const char *k_text, int64_t k, const char *dtype, int outputs) {
  static const char *const returned[] = {"%1", "%2", "%1, %2"};
  char text[TEXT], types[TEXT], in[TEXT], out[TEXT] = "[", places[TEXT];
  bool is_largest = below(2);
  for (int d = 0; d < data.rank; d++) {
    char dim[64] = "N";
    if (d == axis)
      snprintf(dim, sizeof dim, "%s", k_text);
    else if (data.dims[d] != SYMBOL)
      snprintf(dim, sizeof dim, "%lld", (long long)data.dims[d]);
    snprintf(out + strlen(out), sizeof out - strlen(out), "%s%s", d ? "," : "", dim);
  }
  strcat(out, "]");
  case_text(places, sizeof places, "i64%.1000s", out);
  case_text(in, sizeof in, "%s", type_of(dtype, &data).text);
  char values[TEXT];
  case_text(values, sizeof values, "%s%.1000s", dtype, out);
  case_text(types, sizeof types, outputs == 2 ? "%.900s, %.900s" : "%.900s", outputs == 1 ? places : values, places);
  case_text(text, sizeof text,
            "nncc 1\ngraph @main(%%x: %.200s) -> (%.600s) {\n  %%0 = abs %%x : %.200s\n  %%1, %%2 = top_k %%x {k=[%s], "
            "axis=%d, largest=%d} : %.200s, %.200s\n  return %s\n}\n",
            in, types, in, k_text, axis, is_largest, values, places, returned[outputs]);
  run_case c = case_open(text, below(2), symbol_value);
  fill_small(&c, 0);
  if (strcmp(dtype, "f32") == 0)
    for (int64_t i = 0; i < case_count(&c.in[0]); i++)
      if (below(10) == 0) ((float *)c.in[0].data)[i] = below(3) ? NAN : below(2) ? INFINITY : -INFINITY;
  double *want[2] = {new_numbers(count_of(&data)), new_numbers(count_of(&data))};
  want_top(&c, axis, size_of(&data, axis), k, is_largest, want);
  double *given[2] = {want[outputs == 1], want[1]};
  expect(&c, given, 0, text);
  free(want[0]);
  free(want[1]);
  case_close(&c);
}

static const char *const sorted[] = {"f32", "f32", "f16", "i32", "u8", "f64", "i64"};

Test(index, top_k) {
  for (int n = 0; n < MANY; n++) {
    shape data = random_shape(1 + below(3), false);
    int axis = below(data.rank);
    if (below(3) == 0) data.dims[axis] = 60 + below(100);
    int64_t size = size_of(&data, axis), k = below(3) ? below((int)size + 1) : size;
    bool is_symbol = data.dims[axis] == SYMBOL;
    char k_text[32];
    case_text(k_text, sizeof k_text, "%lld", (long long)k);
    if (is_symbol) {
      bool all = below(2);
      case_text(k_text, sizeof k_text, all ? "N" : "N ceildiv 2");
      k = all ? size : (size + 1) / 2;
    }
    try_top(data, axis, k_text, k, sorted[below(7)], below(3));
  }
}

Test(index, top_k_of_nothing) {
  shape empty = {.rank = 2, .dims = {3, 0}}, no_rows = {.rank = 2, .dims = {0, 5}},
        symbol = {.rank = 2, .dims = {3, SYMBOL}};
  symbol_value = 0;
  try_top(empty, 1, "0", 0, "f32", 2);
  try_top(no_rows, 1, "2", 2, "f32", 2);
  try_top(symbol, 1, "N", 0, "f32", 2);
}

/* ---- non_zero ---------------------------------------------------------------------------------------------------- */

static void try_non_zero(shape data, const char *dtype, int outputs) {
  static const char *const returned[] = {"%1", "%2", "%1, %2"};
  char text[TEXT], columns[TEXT] = "", places[TEXT], types[TEXT];
  type_text in = type_of(dtype, &data);
  int64_t known = 1, count = count_of(&data), found = 0;
  bool has_symbol = false;
  for (int d = 0; d < data.rank; d++)
    if (data.dims[d] == SYMBOL)
      has_symbol = true;
    else
      known *= data.dims[d];
  case_text(columns, sizeof columns, has_symbol && known ? (known == 1 ? "N" : "N*%lld") : "%lld", (long long)known);
  case_text(places, sizeof places, "i64[%d,%.100s]", data.rank, columns);
  case_text(types, sizeof types, outputs == 2 ? "%.200s, i64[]" : "%.200s", outputs == 1 ? "i64[]" : places);
  case_text(text, sizeof text,
            "nncc 1\ngraph @main(%%x: %s) -> (%.300s) {\n  %%1, %%2 = non_zero %%x : %.200s, i64[]\n  return %s\n}\n",
            in.text, types, places, returned[outputs]);
  run_case c = case_open(text, below(2), symbol_value);
  for (int64_t k = 0; k < count; k++) nn_store_f64(c.in_dtype[0], c.in[0].data, (size_t)k, below(2) ? 0 : 1 + below(2));
  double *want[2] = {new_numbers(count * data.rank), new_numbers(1)};
  for (int64_t k = 0; k < count; k++) {
    int64_t index[NN_MAX_RANK] = {0};
    if (in_at(&c, 0, k) == 0) continue;
    case_unflatten(&c.in[0], k, index);
    for (int d = 0; d < data.rank; d++) want[0][d * count + found] = (double)index[d];
    found++;
  }
  want[1][0] = (double)found;
  double *given[2] = {want[outputs == 1], want[1]};
  expect(&c, given, 0, text);
  free(want[0]);
  free(want[1]);
  case_close(&c);
}

Test(index, non_zero) {
  static const char *const dtypes[] = {"f32", "bool", "i64", "u8", "f16"};
  for (int n = 0; n < MANY / 2; n++) try_non_zero(random_shape(below(5), true), dtypes[below(5)], below(3));
}

/* ---- more than one task -------------------------------------------------------------------------------------------
 */

Test(index, gathers_in_parallel) {
  gather rows = {
      .op = "gather", .attrs = "axis=0", .data = {2, {300, 67}}, .at = {2, {90, 11}}, .out = {3, {90, 11, 67}}};
  gather columns = {
      .op = "gather", .attrs = "axis=1", .axis = 1, .data = {2, {300, 67}}, .at = {1, {250}}, .out = {2, {300, 250}}};
  gather each = {.op = "gather_elements",
                 .attrs = "axis=0",
                 .data = {2, {20, 1000}},
                 .at = {2, {50, 1000}},
                 .out = {2, {50, 1000}}};
  gather slices = {.op = "gather_nd",
                   .attrs = "batch_dims=1",
                   .batch = 1,
                   .depth = 1,
                   .data = {3, {8, 20, 65}},
                   .at = {3, {8, 100, 1}},
                   .out = {3, {8, 100, 65}}};
  const gather *all[] = {&rows, &columns, &each, &slices};
  for (int i = 0; i < 4; i++)
    for (int fuses = 0; fuses < 2; fuses++) try_gather(all[i], "f32", fuses), try_gather(all[i], "i4", fuses);
}

Test(index, scatters_in_parallel) {
  shape cube = {3, {70, 40, 33}}, at = {3, {70, 21, 33}}, updates = {3, {2000, 40, 33}}, vectors = {2, {2000, 1}};
  scatter each = {.op = "scatter_elements",
                  .attrs = "axis=1, reduction=\"add\"",
                  .axis = 1,
                  .reduction = 1,
                  .data = cube,
                  .at = at,
                  .updates = at};
  scatter slices = {.op = "scatter_nd",
                    .attrs = "reduction=\"max\"",
                    .depth = 1,
                    .reduction = 3,
                    .data = cube,
                    .at = vectors,
                    .updates = updates};
  try_scatter(&each, "f32", false);
  try_scatter(&each, "f64", true);
  try_scatter(&slices, "f32", true);
}

Test(index, searches_in_parallel) {
  shape rows = {2, {400, 80}}, columns = {3, {20, 120, 30}}, long_rows = {2, {5, 3000}};
  try_top(rows, 1, "7", 7, "f32", 2);
  try_top(rows, 1, "80", 80, "f32", 2);
  try_top(columns, 1, "64", 64, "i32", 0);
  try_top(columns, 1, "65", 65, "f16", 1);
  try_top(long_rows, 1, "2999", 2999, "f32", 2);
  try_non_zero((shape){3, {30, 40, 50}}, "f32", 2);
}
