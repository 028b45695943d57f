#include "tests/ops/op_case.h"

enum { TEXTS = 64, SYMBOLS = 64, WORKERS = 3 };

static uint64_t random_state = 88172645463325252u;

double random_number(double low, double high) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return low + (high - low) * (double)(random_state >> 11) / 9007199254740992.0;
}

int64_t random_int(int64_t low, int64_t high) {
  int64_t x = (int64_t)floor(random_number((double)low, (double)high + 1));
  return x > high ? high : x;
}

const char *text(const char *format, ...) {
  static char texts[TEXTS][1024];
  static int next;
  char *t = texts[next++ % TEXTS];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(t, sizeof texts[0], format, args);
  va_end(args);
  cr_assert(length >= 0 && length < (int)sizeof texts[0]);
  return t;
}

/* ---- targets --------------------------------------------------------------------------------------------- */

/* A small second-level cache brings out the schedules of large tensors. */
static nn_target make_target(const char *name, int bytes, int registers, bool fma, bool masks, int l2_bytes) {
  return (nn_target){.name = name,
                     .triple = "",
                     .cpu = "",
                     .features = "",
                     .pointer_bits = 64,
                     .vector_bytes = bytes,
                     .vector_registers = registers,
                     .has_fma = fma,
                     .has_masked_memory = masks,
                     .has_round = true,
                     .has_sqrt_f64 = true,
                     .unaligned_ok = true,
                     .is_little_endian = true,
                     .l1_bytes = 32768,
                     .l2_bytes = l2_bytes,
                     .l3_bytes = 4 << 20};
}

enum { NTARGETS = 4 };
static nn_target target_at(int i) {
  switch (i) {
  case 0: return make_target("avx2", 32, 16, true, true, 1 << 19);
  case 1: return make_target("avx512", 64, 32, true, true, 1 << 15);
  case 2: return make_target("sse2", 16, 16, false, false, 1 << 14);
  default: return make_target("scalar", 4, 16, false, false, 1 << 19);
  }
}

/* ---- programs --------------------------------------------------------------------------------------------- */

static int count_types(const char *const *types) {
  int n = 0;
  while (n < OP_IO && types[n]) n++;
  return n;
}

/* The op between copies of its operands and results, which the fuse pass may pull into the kernel. */
static char *module_text(const op_case *c, bool wrapped) {
  size_t size = 0;
  char *buffer = NULL;
  FILE *f = open_memstream(&buffer, &size);
  int nin = count_types(c->in), nout = count_types(c->out);
  fprintf(f, "nncc 1\ngraph @main(");
  for (int i = 0; i < nin; i++) fprintf(f, "%s%%%s%d: %s", i ? ", " : "", wrapped ? "p" : "", i, c->in[i]);
  fprintf(f, ") -> (");
  for (int i = 0; i < nout; i++) fprintf(f, "%s%s", i ? ", " : "", c->out[i]);
  fprintf(f, ") {\n");
  for (int i = 0; i < nin && wrapped; i++) fprintf(f, "  %%%d = copy %%p%d : %s\n", i, i, c->in[i]);
  fprintf(f, "%s  ", c->before ? c->before : "");
  for (int i = 0; i < nout; i++) fprintf(f, "%s%%%s%d", i ? ", " : "", wrapped ? "q" : "r", i);
  fprintf(f, " = %s : ", c->line);
  for (int i = 0; i < nout; i++) fprintf(f, "%s%s", i ? ", " : "", c->out[i]);
  fprintf(f, "\n");
  for (int i = 0; i < nout && wrapped; i++) fprintf(f, "  %%r%d = copy %%q%d : %s\n", i, i, c->out[i]);
  fprintf(f, "  return ");
  for (int i = 0; i < nout; i++) fprintf(f, "%s%%r%d", i ? ", " : "", i);
  fprintf(f, "\n}\n");
  fclose(f);
  return buffer;
}

static void print_diags(const nn_module *m) {
  for (int i = 0; i < m->diags.count; i++) nn_diag_print(stderr, &m->diags.items[i]), fputc('\n', stderr);
}

static nn_module *parse(const char *source, bool wrapped) {
  nn_module *m = nn_text_parse("case.nn", source, strlen(source));
  const char *const fuse[] = {"fuse"};
  nn_pass_options options = {.verify_each = true};
  if (!m->diags.nerrors && wrapped) nn_passes_run(m, fuse, 1, &options);
  if (m->diags.nerrors) print_diags(m);
  cr_assert_eq(m->diags.nerrors, 0, "cannot build\n%s", source);
  return m;
}

static nn_program *build(nn_module *m, const nn_target *t, const char *source) {
  nn_program *p = nn_program_build(m, t);
  if (!p || nn_plan_memory(p, t) != NN_OK) print_diags(m);
  cr_assert(p && m->diags.nerrors == 0, "no program on %s for\n%s", t->name, source);
  return p;
}

/* ---- tensors ---------------------------------------------------------------------------------------------- */

static int64_t symbol_value(const op_case *c, const char *name) {
  static const char *const sizes[] = {"H", "W"};
  for (int i = 0; i < 2; i++)
    if (c->size[i] && strcmp(name, sizes[i]) == 0) return c->size[i];
  return c->n;
}

static tensor new_tensor(const op_case *c, const nn_module *m, nn_type type) {
  tensor t = {.dtype = type.dtype, .rank = type.rank, .count = 1};
  int64_t symbols[SYMBOLS];
  cr_assert(m->nsymbols <= SYMBOLS);
  for (int i = 0; i < m->nsymbols; i++) symbols[i] = symbol_value(c, m->symbols[i]->name);
  for (int i = 0; i < t.rank; i++) {
    cr_assert(nn_dim_eval(type.dims[i], symbols, &t.dims[i]));
    t.count *= t.dims[i];
  }
  t.v = calloc((size_t)t.count + 1, sizeof *t.v);
  return t;
}

static void fill_random(tensor *t) {
  for (int64_t i = 0; i < t->count; i++) {
    if (nn_dtype_is_float(t->dtype))
      t->v[i] = nn_round_to(t->dtype, random_number(-2, 2));
    else if (nn_dtype_kind_of(t->dtype) == NN_KIND_UINT)
      t->v[i] = (double)random_int(0, 100);
    else if (t->dtype == NN_BOOL)
      t->v[i] = (double)random_int(0, 1);
    else
      t->v[i] = (double)random_int(-100, 100);
  }
}

static nncc_rt_tensor to_run(tensor *t) {
  nncc_rt_tensor r = {.dtype = nn_dtype_onnx(t->dtype), .rank = t->rank, .dims = t->dims};
  r.data = calloc(nn_dtype_bytes(t->dtype, (uint64_t)t->count) + 1, 1);
  for (int64_t i = 0; i < t->count; i++) {
    if (nn_dtype_is_float(t->dtype))
      nn_store_f64(t->dtype, r.data, (size_t)i, t->v[i]);
    else
      nn_store_i64(t->dtype, r.data, (size_t)i, (int64_t)t->v[i]);
  }
  return r;
}

/* ---- comparison --------------------------------------------------------------------------------------------- */

static double tolerance_of(const op_case *c, nn_dtype t) {
  if (!nn_dtype_is_float(t)) return 0;
  if (c->tolerance > 0) return c->tolerance;
  return t == NN_F64 ? 1e-12 : t == NN_F32 ? 3e-6 : t == NN_F16 ? 2e-3 : 1.6e-2;
}

static void compare(const op_case *c, const tensor *expected, const nncc_rt_tensor *got, int which, const char *engine,
                    const char *source) {
  double largest = 0;
  for (int64_t i = 0; i < expected->count; i++)
    if (isfinite(expected->v[i]) && fabs(expected->v[i]) > largest) largest = fabs(expected->v[i]);
  double limit = tolerance_of(c, expected->dtype) * (largest + (nn_dtype_is_float(expected->dtype) ? 1e-30 : 0));
  for (int d = 0; d < expected->rank; d++)
    cr_assert_eq(got->dims[d], expected->dims[d], "%s: dimension %d of result %d\n%s", engine, d, which, source);
  for (int64_t i = 0; i < expected->count; i++) {
    double e = expected->v[i], g = nn_load_f64(expected->dtype, got->data, (size_t)i);
    bool same = e == g || (isnan(e) && isnan(g)) || fabs(e - g) <= limit;
    cr_assert(same, "%s: result %d, element %lld is %.9g, expected %.9g\n%s", engine, which, (long long)i, g, e,
              source);
  }
}

/* ---- running ------------------------------------------------------------------------------------------------- */

typedef struct data {
  tensor in[OP_IO], out[OP_IO];
  nncc_rt_tensor rin[OP_IO], rout[OP_IO];
  int64_t out_dims[OP_IO][NN_MAX_RANK];
  int nin, nout;
} data;

/* d must stay where it is: the run-time tensors point into it. */
static void make_data(const op_case *c, const nn_module *m, data *d) {
  *d = (data){.nin = m->main->nparams};
  for (int i = 0; i < d->nin; i++) {
    d->in[i] = new_tensor(c, m, m->main->params[i]->type);
    fill_random(&d->in[i]);
    if (c->fill) c->fill(c, i, &d->in[i]);
    d->rin[i] = to_run(&d->in[i]);
  }
  const nn_op *ret = nn_graph_return(m->main);
  for (d->nout = 0; d->nout < ret->nin; d->nout++) {
    d->out[d->nout] = new_tensor(c, m, ret->in[d->nout]->type);
    d->rout[d->nout] = to_run(&d->out[d->nout]);
    d->rout[d->nout].dims = d->out_dims[d->nout];
  }
  if (!c->error && c->expect) c->expect(c, d->in, d->out);
}

static void free_data(data *d) {
  for (int i = 0; i < d->nin; i++) free(d->in[i].v), free(d->rin[i].data);
  for (int i = 0; i < d->nout; i++) free(d->out[i].v), free(d->rout[i].data);
}

static void spoil(data *d) {
  for (int i = 0; i < d->nout; i++)
    memset(d->rout[i].data, 0x5a, nn_dtype_bytes(d->out[i].dtype, (uint64_t)d->out[i].count));
}

static void judge(const op_case *c, data *d, const char *engine) {
  for (int i = 0; i < d->nout; i++)
    for (int64_t k = 0; k < d->out[i].count; k++) d->out[i].v[k] = nn_load_f64(d->out[i].dtype, d->rout[i].data, (size_t)k);
  c->judge(c, d->in, d->out, engine);
}

static void check(const op_case *c, data *d, int code, const nncc_rt_ctx *ctx, const char *engine, const char *source) {
  char message[256];
  cr_assert_eq(code, c->error, "%s: code %d, expected %d: %s\n%s", engine, code, c->error,
               nncc_rt_ctx_message(ctx, message, sizeof message), source);
  if (c->judge) judge(c, d, engine);
  for (int i = 0; i < d->nout && c->expect && !c->error; i++) compare(c, &d->out[i], &d->rout[i], i, engine, source);
}

static void run_interpreter(const op_case *c, data *d, const char *source, bool wrapped, int which) {
  nn_target t = target_at(which);
  nn_module *m = parse(source, wrapped);
  nn_program *p = build(m, &t, source);
  nncc_rt_ctx ctx = {0};
  spoil(d);
  int code = nn_program_eval(p, d->rin, d->rout, &ctx);
  check(c, d, code, &ctx, text("interpreter, %s%s", t.name, wrapped ? ", fused" : ""), source);
  nn_module_free(m);
}

static void run_machine_code(const op_case *c, data *d, const char *source, bool wrapped) {
  nn_target t;
  nn_module *m = parse(source, wrapped);
  cr_assert_eq(nn_target_init(&t, NULL, NULL, &m->diags), NN_OK);
  nn_program *p = build(m, &t, source);
  nn_jit *jit = nn_jit_new(&m->diags);
  const nncc_rt_model *model = NULL;
  nn_emit_options options = {.name = "case", .level = 2, .weights_in_object = true};
  if (!jit || nn_jit_program(jit, &t, p, &options, &model) != NN_OK) print_diags(m);
  cr_assert(model, "no machine code for\n%s", source);
  nncc_rt_pool *pool = nncc_rt_pool_create(WORKERS);
  size_t bytes = model->workspace_size(d->rin, WORKERS);
  void *workspace = aligned_alloc(64, (bytes + 127) / 64 * 64);
  nncc_rt_ctx ctx = {.workspace = workspace, .workspace_bytes = bytes};
  nncc_rt_ctx_use_pool(&ctx, pool);
  spoil(d);
  int code = model->run(&ctx, d->rin, d->rout);
  check(c, d, code, &ctx, text("machine code%s", wrapped ? ", fused" : ""), source);
  free(workspace);
  nncc_rt_pool_destroy(pool);
  nn_jit_free(jit);
  nn_target_free(&t);
  nn_module_free(m);
}

void op_case_run(const op_case *c) {
  for (int wrapped = 0; wrapped < 2; wrapped++) {
    char *source = module_text(c, wrapped);
    nn_module *m = parse(source, false);
    data d;
    make_data(c, m, &d);
    for (int i = 0; i < NTARGETS; i++) run_interpreter(c, &d, source, wrapped, i);
    run_machine_code(c, &d, source, wrapped);
    free_data(&d);
    nn_module_free(m);
    free(source);
  }
}
