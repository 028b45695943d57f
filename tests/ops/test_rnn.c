/* lstm, gru, rnn against plain loops that follow the formulas of the ONNX operator descriptions. */
#include "tests/ops/op_case.h"

enum { MOST_ACTIVATIONS = 3, ONE_EMPTY_ROW = 1 };

typedef enum cell_kind { LSTM, GRU, RNN } cell_kind;

static const struct { const char *op; int ngates, nactivations, nstates, first_w; const char *defaults[MOST_ACTIVATIONS]; } cells[] = {
  [LSTM] = {"lstm", 4, 3, 2, 6, {"Sigmoid", "Tanh", "Tanh"}},
  [GRU] = {"gru", 3, 2, 1, 5, {"Sigmoid", "Tanh"}},
  [RNN] = {"rnn", 1, 1, 1, 4, {"Tanh"}},
};

/* One case; zero is a plain forward layer. */
typedef struct setup {
  cell_kind cell;
  int64_t time, batch, hidden;
  const char *time_text, *batch_text, *hidden_text; /* symbols; NULL: the numbers */
  const char *dtype;                                /* NULL: f32 */
  bool reverse, lengths, extra;                     /* extra: peephole, recurrent bias */
  bool input_forget, linear_before_reset;
  double clip;
  const char *activations[MOST_ACTIVATIONS];        /* NULL: defaults */
  double alpha[MOST_ACTIVATIONS], beta[MOST_ACTIVATIONS];
  bool has_parameters;                              /* alpha and beta are given */
  int64_t width;                                    /* of r's panels; 0: a matrix */
  int64_t depth, lanes;                             /* of x, which the layer projects, and of the columns of its weights; 0: xw is given */
  bool has_input_bias;
  int64_t bad_length;                               /* of the last row, if not 0 */
  double tolerance;
} setup;

/* ---- the reference ---------------------------------------------------------------------------------------- */

static double apply(const char *name, double x, double alpha, double beta) {
  if (!strcmp(name, "Sigmoid")) return 1 / (1 + exp(-x));
  if (!strcmp(name, "Tanh")) return tanh(x);
  if (!strcmp(name, "Relu")) return x < 0 ? 0 : x;
  if (!strcmp(name, "Affine")) return alpha * x + beta;
  if (!strcmp(name, "LeakyRelu")) return x >= 0 ? x : alpha * x;
  if (!strcmp(name, "ThresholdedRelu")) return x >= alpha ? x : 0;
  if (!strcmp(name, "ScaledTanh")) return alpha * tanh(beta * x);
  if (!strcmp(name, "HardSigmoid")) return fmin(fmax(alpha * x + beta, 0), 1);
  if (!strcmp(name, "Elu")) return x >= 0 ? x : alpha * (exp(x) - 1);
  if (!strcmp(name, "Softsign")) return x / (1 + fabs(x));
  cr_assert(!strcmp(name, "Softplus"), "%s", name);
  return log(1 + exp(x));
}

/* What ONNX gives where the model does not. */
static double default_alpha(const char *name) {
  if (!strcmp(name, "LeakyRelu")) return 0.01;
  return !strcmp(name, "HardSigmoid") ? 0.2 : 1;
}

static double default_beta(const char *name) {
  if (!strcmp(name, "HardSigmoid")) return 0.5;
  return !strcmp(name, "ScaledTanh") ? 1 : 0;
}

static double activate(const setup *s, int which, double x) {
  const char *name = s->activations[0] ? s->activations[which] : cells[s->cell].defaults[which];
  double alpha = s->has_parameters ? s->alpha[which] : default_alpha(name);
  return apply(name, x, alpha, s->has_parameters ? s->beta[which] : default_beta(name));
}

static double clipped(const setup *s, int which, double x) {
  return activate(s, which, s->clip > 0 ? fmin(fmax(x, -s->clip), s->clip) : x);
}

/* Where element k of gate g of unit j stands in panels: rows k, gate; k of the last gate of a gru with two products
   come after those of the other two. */
static int64_t in_panels(const setup *s, int gate, int64_t j, int64_t k) {
  int64_t n = s->hidden, ngates = cells[s->cell].ngates, row = k * ngates + gate;
  if (s->cell == GRU && !s->linear_before_reset) row = gate < 2 ? k * 2 + gate : 2 * n + k;
  return (j / s->width * ngates * n + row) * s->width + j % s->width;
}

/* One row of the batch at one step. */
typedef struct row {
  const setup *s;
  const double *xw, *r, *extra;
  double *h, *c;
} row;

static double product(const row *w, int gate, const double *h, int64_t j) {
  int64_t n = w->s->hidden;
  double sum = 0;
  for (int64_t k = 0; k < n; k++)
    sum += h[k] * w->r[w->s->width ? in_panels(w->s, gate, j, k) : (gate * n + j) * n + k];
  return sum;
}

static double gate_input(const row *w, int gate, int64_t j) {
  return w->xw[gate * w->s->hidden + j] + product(w, gate, w->h, j);
}

static double extra_at(const row *w, int part, int64_t j) { return w->extra ? w->extra[part * w->s->hidden + j] : 0; }

static void step_lstm(const row *w, double *h, double *c) {
  for (int64_t j = 0; j < w->s->hidden; j++) {
    double i = clipped(w->s, 0, gate_input(w, 0, j) + extra_at(w, 0, j) * w->c[j]);
    double f = clipped(w->s, 0, gate_input(w, 2, j) + extra_at(w, 2, j) * w->c[j]);
    if (w->s->input_forget) f = 1 - i;
    c[j] = f * w->c[j] + i * clipped(w->s, 1, gate_input(w, 3, j));
    h[j] = clipped(w->s, 0, gate_input(w, 1, j) + extra_at(w, 1, j) * c[j]) * activate(w->s, 2, c[j]);
  }
}

static void step_gru(const row *w, double *h, double *reset_h) {
  int64_t n = w->s->hidden;
  for (int64_t j = 0; j < n; j++) reset_h[j] = w->h[j] * clipped(w->s, 0, gate_input(w, 1, j) + extra_at(w, 1, j));
  for (int64_t j = 0; j < n; j++) {
    double z = clipped(w->s, 0, gate_input(w, 0, j) + extra_at(w, 0, j));
    double r = clipped(w->s, 0, gate_input(w, 1, j) + extra_at(w, 1, j));
    double after = r * (product(w, 2, w->h, j) + extra_at(w, 2, j)), before = product(w, 2, reset_h, j) + extra_at(w, 2, j);
    double candidate = clipped(w->s, 1, w->xw[2 * n + j] + (w->s->linear_before_reset ? after : before));
    h[j] = (1 - z) * candidate + z * w->h[j];
  }
}

static void step_rnn(const row *w, double *h) {
  for (int64_t j = 0; j < w->s->hidden; j++) h[j] = clipped(w->s, 0, gate_input(w, 0, j));
}

/* Among the operands that are given. */
static int w_operand(const setup *s) { return 2 + cells[s->cell].nstates + s->lengths + s->extra; }

/* x W^T of one step, from columns [gates * H / V, I, V]: panels, of each its gates, of each its units. */
static void project(const setup *s, const tensor *in, int64_t t, double *xw) {
  int64_t ngates = cells[s->cell].ngates;
  const double *x = &in[0].v[t * s->depth], *w = in[w_operand(s)].v, *bias = s->has_input_bias ? in[w_operand(s) + 1].v : NULL;
  for (int64_t gate = 0; gate < ngates; gate++)
    for (int64_t j = 0; j < s->hidden; j++) {
      int64_t column = (j / s->width * ngates + gate) * (s->width / s->lanes) + j % s->width / s->lanes;
      double *sum = &xw[gate * s->hidden + j];
      *sum = bias ? bias[gate * s->hidden + j] : 0;
      for (int64_t k = 0; k < s->depth; k++) *sum += x[k] * w[(column * s->depth + k) * s->lanes + j % s->lanes];
    }
}

static void run_row(const setup *s, const tensor *in, tensor *out, int64_t b) {
  int64_t n = s->hidden, columns = n * cells[s->cell].ngates, end = s->time;
  int nstates = cells[s->cell].nstates, at = 2 + nstates;
  if (s->lengths) end = (int64_t)in[at++].v[b];
  double *h = calloc((size_t)n + 1, sizeof *h), *c = calloc((size_t)n + 1, sizeof *c), *xw = calloc((size_t)columns + 1, sizeof *xw);
  row w = {.s = s, .r = in[1].v, .extra = s->extra ? in[at].v : NULL, .h = &out[1].v[b * n], .c = nstates > 1 ? &out[2].v[b * n] : NULL};
  for (int i = 0; i < nstates; i++) memcpy(&out[1 + i].v[b * n], &in[2 + i].v[b * n], (size_t)n * sizeof *h);
  for (int64_t step = 0; step < end; step++) {
    int64_t t = s->reverse ? end - 1 - step : step;
    w.xw = s->depth ? xw : &in[0].v[(t * s->batch + b) * columns];
    if (s->depth) project(s, in, t, xw);
    if (s->cell == LSTM) step_lstm(&w, h, c);
    else if (s->cell == GRU) step_gru(&w, h, c);
    else step_rnn(&w, h);
    memcpy(w.h, h, (size_t)n * sizeof *h);
    if (w.c) memcpy(w.c, c, (size_t)n * sizeof *c);
    memcpy(&out[0].v[(t * s->batch + b) * n], h, (size_t)n * sizeof *h);
  }
  free(h);
  free(c);
  free(xw);
}

static void expect_layer(const op_case *c, const tensor *in, tensor *out) {
  const setup *s = c->how;
  for (int64_t b = 0; b < s->batch; b++) run_row(s, in, out, b);
}

/* ---- cases -------------------------------------------------------------------------------------------------- */

static bool is_lengths(const setup *s, int which) { return s->lengths && which == 2 + cells[s->cell].nstates; }

static void fill_operand(const op_case *c, int which, tensor *t) {
  const setup *s = c->how;
  double size = which == 1 && s->hidden ? 1.5 / sqrt((double)s->hidden) : 1.5;
  if (s->depth && which == w_operand(s)) size /= sqrt((double)s->depth);
  for (int64_t i = 0; i < t->count; i++) {
    if (!is_lengths(s, which)) t->v[i] = nn_round_to(t->dtype, random_number(-size, size));
    else t->v[i] = (double)(i == ONE_EMPTY_ROW ? 0 : random_int(s->time > 0, s->time));
  }
  if (is_lengths(s, which) && s->bad_length && t->count) t->v[t->count - 1] = (double)s->bad_length;
}

static const char *attributes(const setup *s) {
  const char *a = text("reverse=%d, clip=%.17g", s->reverse, s->clip);
  int n = cells[s->cell].nactivations;
  if (s->cell == LSTM) a = text("%s, input_forget=%d", a, s->input_forget);
  if (s->cell == GRU) a = text("%s, linear_before_reset=%d", a, s->linear_before_reset);
  if (s->activations[0]) a = text("%s, activations=[", a);
  for (int i = 0; i < n && s->activations[0]; i++) a = text("%s%s\"%s\"", a, i ? ", " : "", s->activations[i]);
  if (s->activations[0]) a = text("%s]", a);
  for (int p = 0; p < 2 && s->has_parameters; p++) {
    a = text("%s, %s=[", a, p ? "beta" : "alpha");
    for (int i = 0; i < n; i++) a = text("%s%s%.17g", a, i ? ", " : "", (p ? s->beta : s->alpha)[i]);
    a = text("%s]", a);
  }
  return a;
}

static const char *dim_text(const char *symbol, int64_t value) { return symbol ? symbol : text("%lld", (long long)value); }

static double tolerance_for(const char *dtype) {
  if (!strcmp(dtype, "f64")) return 1e-11;
  return !strcmp(dtype, "f32") ? 2e-5 : !strcmp(dtype, "f16") ? 4e-3 : 3e-2;
}

static void run_setup(const setup *s) {
  const char *dtype = s->dtype ? s->dtype : "f32";
  const char *t = dim_text(s->time_text, s->time), *b = dim_text(s->batch_text, s->batch), *h = dim_text(s->hidden_text, s->hidden);
  int nstates = cells[s->cell].nstates, nin = 0;
  op_case c = {.how = s, .fill = fill_operand, .expect = expect_layer, .error = s->bad_length ? NNCC_RT_EINDEX : 0};
  c.tolerance = s->tolerance > 0 ? s->tolerance : tolerance_for(dtype);
  c.n = s->time_text ? s->time : s->batch_text ? s->batch : s->hidden;
  const char *columns = s->hidden_text ? text("%d*%s", cells[s->cell].ngates, h) : text("%lld", (long long)(cells[s->cell].ngates * s->hidden));
  c.in[nin++] = text("%s[%s,%s,%s]", dtype, t, b, s->depth ? text("%lld", (long long)s->depth) : columns);
  c.in[nin++] = s->width ? text("%s[%lld,%s,%lld]", dtype, (long long)((s->hidden + s->width - 1) / s->width), columns, (long long)s->width)
                         : text("%s[%s,%s]", dtype, columns, h);
  const char *line = text("%s %%0, %%1", cells[s->cell].op);
  c.out[0] = text("%s[%s,%s,%s]", dtype, t, b, h);
  for (int i = 0; i < nstates; i++) {
    line = text("%s, %%%d", line, nin);
    c.in[nin++] = c.out[1 + i] = text("%s[%s,%s]", dtype, b, h);
  }
  if (s->lengths) line = text("%s, %%%d", line, nin), c.in[nin++] = text("i64[%s]", b);
  else if (s->extra) line = text("%s, _", line);
  if (s->extra) line = text("%s, %%%d", line, nin), c.in[nin++] = s->hidden_text ? text("%s[3*%s]", dtype, h) : text("%s[%lld]", dtype, (long long)(3 * s->hidden));
  if (s->depth) {
    int absent = cells[s->cell].first_w - 2 - nstates - (s->extra ? 2 : 0);
    for (int i = 0; i < absent; i++) line = text("%s, _", line);
    line = text("%s, %%%d", line, nin);
    c.in[nin++] = text("%s[%lld,%lld,%lld]", dtype, (long long)(cells[s->cell].ngates * s->hidden / s->lanes), (long long)s->depth, (long long)s->lanes);
  }
  if (s->has_input_bias) line = text("%s, %%%d", line, nin), c.in[nin++] = text("%s[%s]", dtype, columns);
  c.line = text("%s {%s}", line, attributes(s));
  op_case_run(&c);
}

static int64_t pick(const int64_t *values, int count) { return values[random_int(0, count - 1)]; }

static setup random_sizes(cell_kind cell) {
  static const int64_t times[] = {1, 2, 5, 18}, batches[] = {1, 2, 3, 5, 13}, hiddens[] = {1, 3, 8, 16, 17, 24, 33};
  return (setup){.cell = cell, .time = pick(times, 4), .batch = pick(batches, 5), .hidden = pick(hiddens, 7)};
}

static void try_random(cell_kind cell, int count) {
  for (int i = 0; i < count; i++) {
    setup s = random_sizes(cell);
    s.reverse = random_int(0, 1);
    s.lengths = random_int(0, 1);
    s.extra = cell != RNN && random_int(0, 1);
    s.input_forget = cell == LSTM && random_int(0, 3) == 0;
    s.linear_before_reset = cell == GRU && random_int(0, 1);
    s.clip = random_int(0, 3) == 0 ? 0.4 : 0;
    run_setup(&s);
  }
}

Test(rnn, lstm_sizes) { try_random(LSTM, 14); }
Test(rnn, gru_sizes) { try_random(GRU, 14); }
Test(rnn, rnn_sizes) { try_random(RNN, 8); }

Test(rnn, types) {
  static const char *const dtypes[] = {"f16", "bf16", "f64"};
  for (int cell = LSTM; cell <= RNN; cell++)
    for (int i = 0; i < 3; i++) run_setup(&(setup){.cell = (cell_kind)cell, .time = 4, .batch = 5, .hidden = 17, .dtype = dtypes[i], .lengths = i & 1});
}

Test(rnn, empty) {
  for (int cell = LSTM; cell <= RNN; cell++)
    for (int empty = 0; empty < 3; empty++) {
      setup s = {.cell = (cell_kind)cell, .time = empty == 0 ? 0 : 3, .batch = empty == 1 ? 0 : 2, .hidden = empty == 2 ? 0 : 5};
      run_setup(&s);
      s.reverse = s.lengths = true;
      run_setup(&s);
    }
}

Test(rnn, symbolic) {
  for (int cell = LSTM; cell <= RNN; cell++)
    for (int which = 0; which < 3; which++)
      for (int64_t n = 0; n < 30; n += n == 0 ? 1 : n == 1 ? 3 : 13) {
        setup s = {.cell = (cell_kind)cell, .time = 5, .batch = 3, .hidden = 9, .lengths = n & 1, .reverse = n & 1};
        if (which == 0) s.time = n, s.time_text = "N";
        if (which == 1) s.batch = n, s.batch_text = "N";
        if (which == 2) s.hidden = n, s.hidden_text = "N";
        run_setup(&s);
      }
}

/* Widths of no target's tiles, too; what lies beyond the last unit is random. */
Test(rnn, panels) {
  static const int64_t sizes[][2] = {{5, 8}, {16, 16}, {17, 4}, {24, 32}, {33, 16}, {9, 5}}; /* units, width */
  for (int cell = LSTM; cell <= RNN; cell++)
    for (int i = 0; i < 6; i++) {
      setup s = {.cell = (cell_kind)cell, .time = 1 + i, .batch = i < 3 ? 1 : 4 + i, .hidden = sizes[i][0], .width = sizes[i][1]};
      s.linear_before_reset = cell == GRU && i % 2;
      s.lengths = s.reverse = i == 4;
      s.dtype = i == 5 ? "f64" : NULL;
      run_setup(&s);
    }
  run_setup(&(setup){.cell = LSTM, .time = 3, .batch = 3, .batch_text = "N", .hidden = 17, .width = 16});
}

/* Layers that project their input themselves: first blocks of all steps, of some, of one; columns of vectors, of several, of a
   part of one; a part of no value at all (depth 2); more parts in a step than values of k. */
Test(rnn, projected) {
  static const struct { int64_t time, hidden, width, depth, lanes; } sizes[] = {
      {64, 16, 16, 5, 16}, {65, 32, 16, 8, 8}, {70, 64, 32, 33, 16}, {80, 8, 8, 2, 8}, {67, 6, 3, 7, 3}, {96, 64, 64, 20, 32},
      {71, 32, 16, 8, 8}, {81, 8, 8, 5, 8}};
  for (int cell = LSTM; cell <= RNN; cell++)
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      setup s = {.cell = (cell_kind)cell, .time = sizes[i].time, .batch = 1, .hidden = sizes[i].hidden, .width = sizes[i].width};
      s.depth = sizes[i].depth;
      s.lanes = sizes[i].lanes;
      s.linear_before_reset = cell == GRU;
      s.extra = cell != RNN && i % 2;
      s.reverse = i % 3 == 1;
      s.has_input_bias = i % 2 == 0;
      s.dtype = i == 2 ? "f64" : NULL;
      s.tolerance = 4e-5;
      run_setup(&s);
    }
}

/* The last row tile of a symbolic batch has code for each number of rows. */
Test(rnn, symbolic_rows) {
  for (int64_t n = 2; n < 9; n++)
    run_setup(&(setup){.cell = n % 2 ? LSTM : GRU, .time = 2, .batch = n, .batch_text = "N", .hidden = 9});
}

/* Several tasks, of several panels, and the last one has fewer. */
Test(rnn, symbolic_panels) {
  run_setup(&(setup){.cell = LSTM, .time = 3, .batch = 2, .hidden = 140, .hidden_text = "N", .tolerance = 4e-5});
}

Test(rnn, activations) {
  static const char *const names[] = {"Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus", "Sigmoid", "Tanh"};
  for (int i = 0; i < 11; i++) {
    setup one = {.cell = RNN, .time = 3, .batch = 2, .hidden = 9, .activations = {names[i]}, .has_parameters = i & 1, .alpha = {0.7}, .beta = {0.3}};
    run_setup(&one);
    setup lstm = {.cell = LSTM, .time = 3, .batch = 2, .hidden = 9, .activations = {"HardSigmoid", names[i], names[10 - i]},
                  .has_parameters = !(i & 1), .alpha = {0.3, 0.6, 0.9}, .beta = {0.4, 0.2, 0.5}};
    run_setup(&lstm);
  }
}

Test(rnn, length_out_of_range) {
  for (int cell = LSTM; cell <= RNN; cell++) {
    run_setup(&(setup){.cell = (cell_kind)cell, .time = 4, .batch = 3, .hidden = 5, .lengths = true, .bad_length = 5});
    run_setup(&(setup){.cell = (cell_kind)cell, .time = 4, .batch = 3, .hidden = 5, .lengths = true, .reverse = true, .bad_length = -1});
  }
}

/* Large enough for several tasks in the product and in the cell. */
Test(rnn, parallel) {
  for (int cell = LSTM; cell <= RNN; cell++)
    for (int64_t batch = 1; batch < 20; batch += 18) {
      setup s = {.cell = (cell_kind)cell, .time = 3, .batch = batch, .hidden = 190, .linear_before_reset = batch == 1 && cell == GRU, .tolerance = 4e-5};
      run_setup(&s);
      s.time = 18;
      if (batch == 1) run_setup(&s);
    }
}
