/* Outputs in the memory of inputs: the same results for shared memory as for separate, whichever engine runs,
   however late the input is needed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "ir/nncc.h"
#include "passes/passes.h"
#include "tests/engine/random_graph.h"

enum { MAX_IO = 8, WORKSPACE = 1 << 20 };

/* ---- models of f32[4,6] ---------------------------------------------------------------------------- */

enum { ELEMENTS = 24 };

#define HEAD "nncc 1\ngraph @main(%x: f32[4,6], %u: f32[4,6], %i: i64[4]) -> "

/* The output is written where each element has just been read. */
static const char *const sum_text = HEAD "(f32[4,6]) {\n  %0 = add %u, %x : f32[4,6]\n  return %0 {names=[\"y\"]}\n}\n";

/* Rows turned round: written in place, the second half would come out wrong. */
static const char *const roll_text =
    HEAD "(f32[4,6]) {\n  %0 = slice %x {starts=[3,0], steps=[-1,1], dims=[4,6]} : f32[4,6]\n"
         "  %1 = add %0, %u : f32[4,6]\n  return %1 {names=[\"y\"]}\n}\n";

/* The new state is there before the old one has been read for the last time. */
static const char *const late_text =
    HEAD "(f32[4,6], f32[4,4]) {\n  %0 = exp %u : f32[4,6]\n  %1 = matmul %0, %x {trans_b=1} : f32[4,4]\n"
         "  %2 = reduce_sum %1 {axes=[0,1], keepdims=1} : f32[1,1]\n  %3 = broadcast %2 {dims=[4,6]} : f32[4,6]\n"
         "  %4 = add %u, %3 : f32[4,6]\n  %5 = matmul %4, %x {trans_b=1} : f32[4,4]\n  return %4, %5 "
         "{names=[\"y\", \"z\"]}\n}\n";

/* A cache in which rows are replaced. */
static const char *const scatter_text =
    HEAD "(f32[4,6]) {\n  %0 = reshape %i {dims=[4,1]} : i64[4,1]\n  %1 = scatter_nd %x, %0, %u : f32[4,6]\n"
         "  return %1 {names=[\"y\"]}\n}\n";

/* The rows come out of the cache itself. */
static const char *const scatter_self_text =
    HEAD "(f32[4,6]) {\n  %0 = reshape %i {dims=[4,1]} : i64[4,1]\n  %1 = scatter_nd %x, %0, %x : f32[4,6]\n"
         "  %2 = add %1, %u : f32[4,6]\n  return %2 {names=[\"y\"]}\n}\n";

/* What no kernel makes is copied; here each output is the other's input. */
static const char *const swap_text = HEAD "(f32[4,6], f32[4,6]) {\n  return %u, %x {names=[\"y\", \"z\"]}\n}\n";

static const char *const symbolic_text =
    "nncc 1\ngraph @main(%x: f32[N,6], %u: f32[N,6], %i: i64[4]) -> (f32[N,6]) {\n"
    "  %0 = slice %x {starts=[N - 1, 0], steps=[-1, 1], dims=[N,6]} : f32[N,6]\n  %1 = exp %u : f32[N,6]\n"
    "  %2 = add %0, %1 : f32[N,6]\n  return %2 {names=[\"y\"]}\n}\n";

typedef struct memory {
  float x[ELEMENTS], u[ELEMENTS], y[ELEMENTS], z[ELEMENTS];
  int64_t i[4];
} memory;

static void fill(memory *d) {
  static const int64_t order[4] = {2, 0, 3, 1};
  memset(d, 0, sizeof *d);
  for (int k = 0; k < ELEMENTS; k++) d->x[k] = (float)k, d->u[k] = (float)(k * k % 7) / 8;
  memcpy(d->i, order, sizeof order);
}

/* Two outputs at most; shared: y lies in x, and z in u if there are two pairs. */
static void run_on(const nncc_rt_model *m, memory *d, int nshared) {
  static char workspace[WORKSPACE] __attribute__((aligned(64)));
  int64_t dims[2] = {4, 6}, idims[1] = {4}, odims[2][2];
  nncc_rt_tensor in[] = {{d->x, dims, NNCC_RT_F32, 2}, {d->u, dims, NNCC_RT_F32, 2}, {d->i, idims, NNCC_RT_I64, 1}};
  nncc_rt_tensor out[] = {{nshared > 0 ? d->x : d->y, odims[0], NNCC_RT_F32, 2},
                          {nshared > 1 ? d->u : d->z, odims[1], NNCC_RT_F32, 2}};
  nncc_rt_ctx ctx = {.workspace = workspace, .workspace_bytes = sizeof workspace};
  cr_assert_eq(m->run(&ctx, in, out), 0);
  if (nshared > 0) memcpy(d->y, d->x, sizeof d->y);
  if (nshared > 1) memcpy(d->z, d->u, sizeof d->z);
}

static void check_model(const nncc_rt_model *m, int npairs) {
  memory apart, shared;
  fill(&apart);
  fill(&shared);
  run_on(m, &apart, 0);
  run_on(m, &shared, npairs);
  cr_assert(memcmp(apart.y, shared.y, sizeof apart.y) == 0 && memcmp(apart.z, shared.z, sizeof apart.z) == 0);
}

static nncc_model *parse(const char *text) {
  char path[] = "/tmp/nncc_alias_XXXXXX";
  int fd = mkstemp(path);
  cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
  nncc_model *model = NULL;
  cr_assert_eq(nncc_model_parse(path, &model), NNCC_OK, "%s", text);
  unlink(path);
  return model;
}

static void check_jit(const char *text, const char *const *aliases, int npairs) {
  nncc_model *model = parse(text);
  const nncc_rt_model *m = NULL;
  nncc_compile_options options = {.level = -1, .aliases = aliases};
  cr_assert_eq(nncc_model_jit(model, &options, &m), NNCC_OK);
  check_model(m, npairs);
  nncc_model_free(model);
}

static void check_library(const char *text, const char *const *aliases, int npairs) {
  char dir[] = "/tmp/nncc_alias_XXXXXX", path[64];
  cr_assert(mkdtemp(dir));
  snprintf(path, sizeof path, "%s/model.so", dir);
  nncc_model *model = parse(text);
  nncc_compile_options options = {.level = -1, .header = "", .name = "model", .aliases = aliases};
  cr_assert_eq(nncc_model_compile(model, path, &options), NNCC_OK);
  nncc_rt_library *library;
  const nncc_rt_model *m;
  cr_assert_eq(nncc_rt_library_open(path, "model", &library, &m), NNCC_RT_OK);
  check_model(m, npairs);
  nncc_rt_library_close(library);
  nncc_model_free(model);
  unlink(path);
  rmdir(dir);
}

static void check_text(const char *text) {
  static const char *const aliases[] = {"x=y", NULL};
  check_jit(text, aliases, 1);
  check_library(text, aliases, 1);
}

Test(alias, pointwise) { check_text(sum_text); }
Test(alias, read_at_other_indices) { check_text(roll_text); }
Test(alias, read_later) { check_text(late_text); }
Test(alias, rows_of_a_cache) { check_text(scatter_text); }
Test(alias, rows_of_a_cache_to_itself) { check_text(scatter_self_text); }
Test(alias, symbolic) { check_text(symbolic_text); }

Test(alias, swapped) {
  static const char *const aliases[] = {"x=y", "u=z", NULL};
  check_jit(swap_text, aliases, 2);
  check_library(swap_text, aliases, 2);
}

/* ---- the program ----------------------------------------------------------------------------------- */

static nn_program *build(const char *text, const nn_target *t) {
  static const char *const aliases[] = {"x=y", NULL}, *const passes[] = {"fuse"};
  nn_module *m = nn_text_parse("test.nn", text, strlen(text));
  cr_assert_eq(m->diags.nerrors, 0);
  cr_assert_eq(nn_passes_run(m, passes, 1, &(nn_pass_options){0}), NN_OK);
  nn_program *p = nn_program_build_aliased(m, t, aliases);
  cr_assert(p && nn_plan_memory(p, t) == NN_OK);
  return p;
}

static int copies_of(const char *text) {
  nn_target t = {0};
  nn_diags diags = {.arena = nn_arena_new()};
  cr_assert_eq(nn_target_init(&t, NULL, NULL, &diags), NN_OK);
  nn_program *p = build(text, &t);
  int count = 0;
  for (int i = 0; i < p->nsteps; i++) count += p->steps[i].kind == NN_STEP_COPY;
  nn_module_free(p->module);
  nn_target_free(&t);
  nn_arena_free(diags.arena);
  return count;
}

Test(alias, copies_only_where_needed) {
  cr_assert_eq(copies_of(sum_text), 0);
  cr_assert_eq(copies_of(scatter_text), 0);
  cr_assert_eq(copies_of(roll_text), 1);
  cr_assert_eq(copies_of(late_text), 1);
}

/* ---- random graphs --------------------------------------------------------------------------------- */

/* Inputs and outputs of equal type in pairs, as texts. */
static int find_pairs(nn_module *m, int output_of[MAX_IO], const char **texts) {
  nn_op *ret = nn_graph_return(m->main);
  bool is_used[MAX_IO] = {false};
  int count = 0;
  for (int i = 0; i < m->main->nparams; i++) {
    output_of[i] = -1;
    for (int o = 0; o < ret->nin && output_of[i] < 0; o++)
      if (!is_used[o] && nn_type_equal(m->main->params[i]->type, ret->in[o]->type)) output_of[i] = o;
    if (output_of[i] < 0) continue;
    is_used[output_of[i]] = true;
    texts[count++] = nn_sprintf(m->arena, "%s=%s", m->main->params[i]->name, nn_graph_output_name(m->main, output_of[i]));
  }
  return count;
}

static nncc_rt_tensor new_tensor(nn_type t, uint64_t seed) {
  nncc_rt_tensor r = {.dtype = nn_dtype_onnx(t.dtype), .rank = t.rank, .dims = calloc(NN_MAX_RANK, sizeof(int64_t))};
  int64_t count = 1;
  random_source source = {seed};
  for (int i = 0; i < t.rank; i++) count *= r.dims[i] = nn_dim_value(t.dims[i]);
  r.data = calloc(nn_dtype_bytes(t.dtype, (uint64_t)count) + 1, 1);
  for (int64_t k = 0; k < count; k++)
    nn_store_f64(t.dtype, r.data, (size_t)k, (random_below(&source, 257) - 128) / 64.0);
  return r;
}

static size_t bytes_of(nn_module *m, nn_type t) {
  return nn_dtype_bytes(t.dtype, (uint64_t)nn_dim_value(nn_type_count(m, t)));
}

/* Results of a run, with outputs in the memory of their inputs or not. */
static void eval(const nn_program *p, const int *output_of, bool is_shared, uint64_t seed, nncc_rt_tensor *out) {
  nncc_rt_tensor in[MAX_IO];
  nncc_rt_ctx ctx = {0};
  for (int i = 0; i < p->noutputs; i++) out[i] = new_tensor(nn_graph_return(p->graph)->in[i]->type, 1);
  for (int i = 0; i < p->ninputs; i++) {
    in[i] = new_tensor(p->graph->params[i]->type, seed + (uint64_t)i);
    if (!is_shared || output_of[i] < 0) continue;
    memcpy(out[output_of[i]].data, in[i].data, bytes_of(p->module, p->graph->params[i]->type));
    free(in[i].data);
    in[i].data = out[output_of[i]].data;
  }
  cr_assert_eq(nn_program_eval(p, in, out, &ctx), 0, "seed %llu", (unsigned long long)seed);
  for (int i = 0; i < p->ninputs; i++) {
    if (!is_shared || output_of[i] < 0) free(in[i].data);
    free(in[i].dims);
  }
}

static int try_graph(uint64_t seed, const nn_target *t) {
  static const char *const passes[] = {"canon", "cse", "fuse"};
  const char *texts[MAX_IO + 1] = {NULL};
  int output_of[MAX_IO];
  nn_module *m = random_graph(seed, &(random_options){.nops = 12});
  cr_assert_eq(nn_passes_run(m, passes, 3, &(nn_pass_options){0}), NN_OK);
  int count = find_pairs(m, output_of, texts);
  nn_program *p = nn_program_build_aliased(m, t, texts);
  cr_assert(p && nn_plan_memory(p, t) == NN_OK, "seed %llu", (unsigned long long)seed);
  nncc_rt_tensor apart[MAX_IO], shared[MAX_IO];
  eval(p, output_of, false, seed, apart);
  eval(p, output_of, true, seed, shared);
  for (int i = 0; i < p->noutputs; i++) {
    nn_type type = nn_graph_return(m->main)->in[i]->type;
    cr_assert(memcmp(apart[i].data, shared[i].data, bytes_of(m, type)) == 0, "seed %llu: output %d", (unsigned long long)seed, i);
    free(apart[i].data), free(apart[i].dims), free(shared[i].data), free(shared[i].dims);
  }
  nn_module_free(m);
  return count;
}

Test(alias, random_graphs) {
  nn_target t = {0};
  nn_diags diags = {.arena = nn_arena_new()};
  int count = 0;
  cr_assert_eq(nn_target_init(&t, NULL, NULL, &diags), NN_OK);
  for (uint64_t seed = 20000; seed < 20400; seed++) count += try_graph(seed, &t);
  cr_assert_gt(count, 40);
  nn_target_free(&t);
  nn_arena_free(diags.arena);
}

/* ---- errors ---------------------------------------------------------------------------------------- */

static void expect_error(const char *text, const char *const *aliases, const char *what) {
  nncc_model *model = parse(text);
  const nncc_rt_model *m = NULL;
  nncc_compile_options options = {.level = -1, .aliases = aliases};
  cr_assert_eq(nncc_model_jit(model, &options, &m), NNCC_ERROR);
  int severity = -1, n = nncc_model_diagnostics(model);
  cr_assert_gt(n, 0);
  cr_assert(strstr(nncc_model_diagnostic(model, n - 1, &severity), what), "%s", nncc_model_diagnostic(model, n - 1, &severity));
  nncc_model_free(model);
}

#define ALIASES(...) ((const char *const[]){__VA_ARGS__, NULL})

Test(alias, errors) {
  expect_error(sum_text, ALIASES("xy"), "expected INPUT=OUTPUT");
  expect_error(sum_text, ALIASES("q=y"), "no such input; expected one of 'x', 'u', 'i'");
  expect_error(sum_text, ALIASES("x=q"), "no such output; expected one of 'y'");
  expect_error(sum_text, ALIASES("="), "no such input");
  expect_error(sum_text, ALIASES("i=y"), "the input is i64[4], the output f32[4,6]");
  expect_error(late_text, ALIASES("x=z"), "the input is f32[4,6], the output f32[4,4]");
  expect_error(swap_text, ALIASES("x=y", "x=z"), "the input is in another alias");
  expect_error(swap_text, ALIASES("x=y", "u=y"), "the output is in another alias");
}
