/* Engines must agree on random graphs: the interpreter without passes is the reference; with passes, and as
   machine code, the results are the same but for rounding. */
#include "codegen/codegen.h"
#include "passes/passes.h"
#include "tests/engine/random_graph.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_IO = 8, GRAPHS = 150 };

typedef struct run_data {
  nncc_rt_tensor in[MAX_IO], out[MAX_IO];
  int nin, nout;
  nn_dtype out_dtype[MAX_IO];
} run_data;

static int64_t dim_at(nn_dim d, int64_t n) {
  int64_t symbols[64], value = 0;
  for (int i = 0; i < 64; i++) symbols[i] = n;
  cr_assert(nn_dim_eval(d, symbols, &value));
  return value;
}

/* At odd addresses: tensors need no alignment. */
static nncc_rt_tensor new_tensor(nn_type t, int64_t n) {
  nncc_rt_tensor r = {.dtype = nn_dtype_onnx(t.dtype), .rank = t.rank, .dims = calloc(NN_MAX_RANK, sizeof(int64_t))};
  int64_t count = 1;
  for (int i = 0; i < t.rank; i++) count *= r.dims[i] = dim_at(t.dims[i], n);
  r.data = (char *)calloc(nn_dtype_bytes(t.dtype, (uint64_t)count) + 1, 1) + 1;
  return r;
}

static int64_t count_of(const nncc_rt_tensor *t) {
  int64_t count = 1;
  for (int i = 0; i < t->rank; i++) count *= t->dims[i];
  return count;
}

static run_data new_data(const nn_module *m, uint64_t seed, int64_t n) {
  run_data d = {.nin = m->main->nparams};
  random_source r = {seed ^ 0x5555};
  for (int i = 0; i < d.nin; i++) {
    nn_type t = m->main->params[i]->type;
    d.in[i] = new_tensor(t, n);
    for (int64_t k = 0; k < count_of(&d.in[i]); k++)
      nn_store_f64(t.dtype, d.in[i].data, (size_t)k, (random_below(&r, 257) - 128) / 64.0);
  }
  const nn_op *ret = nn_graph_return(m->main);
  d.nout = ret->nin;
  for (int i = 0; i < d.nout; i++) {
    d.out[i] = new_tensor(ret->in[i]->type, n);
    d.out_dtype[i] = ret->in[i]->type.dtype;
  }
  return d;
}

static void free_tensor(nncc_rt_tensor *t) {
  free((char *)t->data - 1);
  free(t->dims);
}

static void free_data(run_data *d) {
  for (int i = 0; i < d->nin; i++) free_tensor(&d->in[i]);
  for (int i = 0; i < d->nout; i++) free_tensor(&d->out[i]);
}

static void print_diags(const nn_module *m) {
  for (int i = 0; i < m->diags.count; i++) nn_diag_print(stderr, &m->diags.items[i]);
}

static nn_program *program_of(nn_module *m, const nn_target *t, uint64_t seed) {
  nn_program *p = nn_program_build(m, t);
  if (!p || nn_plan_memory(p, t) != NN_OK) print_diags(m);
  cr_assert(p, "seed %llu: no program", (unsigned long long)seed);
  return p;
}

static void run_interpreter(const nn_program *p, run_data *d, uint64_t seed) {
  nncc_rt_ctx ctx = {0};
  int code = nn_program_eval(p, d->in, d->out, &ctx);
  char text[256];
  cr_assert_eq(code, 0, "seed %llu: %s", (unsigned long long)seed, nncc_rt_ctx_message(&ctx, text, sizeof text));
}

static void run_model(const nncc_rt_model *model, run_data *d, uint64_t seed) {
  size_t bytes = model->workspace_size(d->in, 1);
  nncc_rt_ctx ctx = {
      .workspace = aligned_alloc(64, (bytes + 127) / 64 * 64), .workspace_bytes = bytes, .weights = model->weights};
  int code = model->run(&ctx, d->in, d->out);
  char text[256];
  cr_assert_eq(code, 0, "seed %llu: %s", (unsigned long long)seed, nncc_rt_ctx_message(&ctx, text, sizeof text));
  free(ctx.workspace);
}

static void run_jit(nn_program *p, const nn_target *t, run_data *d, uint64_t seed) {
  nn_jit *jit = nn_jit_new(&p->module->diags);
  nn_emit_options options = {.name = "model", .level = 2, .weights_in_object = true};
  const nncc_rt_model *model = NULL;
  cr_assert(jit && nn_jit_program(jit, t, p, &options, &model) == NN_OK, "seed %llu: no code",
            (unsigned long long)seed);
  run_model(model, d, seed);
  nn_jit_free(jit);
}

/* Through an object, the linker and dlopen. */
static void run_object(nn_program *p, const nn_target *t, run_data *d, uint64_t seed) {
  nn_emit_options options = {.name = "model", .level = 2, .weights_in_object = true};
  char folder[] = "/tmp/nncc-test-XXXXXX", path[64];
  cr_assert(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/model.so", folder);
  nn_status status = nn_object_write(p, t, &options, NN_OUT_SHARED, path, NULL);
  if (status != NN_OK) print_diags(p->module);
  nncc_rt_library *library = NULL;
  const nncc_rt_model *model = NULL;
  int32_t error = status == NN_OK ? nncc_rt_library_open(path, "model", &library, &model) : NNCC_RT_EIO;
  remove(path);
  rmdir(folder);
  cr_assert_eq(error, NNCC_RT_OK, "seed %llu: no object", (unsigned long long)seed);
  run_model(model, d, seed);
  nncc_rt_library_close(library);
}

typedef void run_fn(nn_program *p, const nn_target *t, run_data *d, uint64_t seed);

static void compare(const run_data *a, const run_data *b, uint64_t seed, const char *what) {
  for (int i = 0; i < a->nout; i++) {
    for (int d = 0; d < a->out[i].rank; d++) cr_assert_eq(a->out[i].dims[d], b->out[i].dims[d]);
    for (int64_t k = 0; k < count_of(&a->out[i]); k++) {
      double x = nn_load_f64(a->out_dtype[i], a->out[i].data, (size_t)k),
             y = nn_load_f64(b->out_dtype[i], b->out[i].data, (size_t)k);
      bool same = x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= 1e-4 * (1 + fabs(x));
      cr_assert(same, "seed %llu, %s: output %d, element %lld: %.9g, expected %.9g", (unsigned long long)seed, what, i,
                (long long)k, y, x);
    }
  }
}

/* Without passes, but for the one that says where f16 is rounded. */
static nn_module *plain_graph(uint64_t seed, const random_options *o) {
  static const char *const meaning[] = {"widen"};
  nn_module *m = random_graph(seed, o);
  nn_status status = nn_passes_run(m, meaning, 1, &(nn_pass_options){.verify_each = true});
  if (status != NN_OK) print_diags(m);
  cr_assert_eq(status, NN_OK, "seed %llu: graph", (unsigned long long)seed);
  return m;
}

static nn_module *graph_with_passes(uint64_t seed, const random_options *o, const nn_target *t) {
  nn_module *m = random_graph(seed, o);
  nn_pass_options options = {.verify_each = true};
  nn_env_init(&m->env, t, &m->diags);
  nn_status status = nn_pipeline_infer(m, &options);
  nn_env_free(&m->env);
  if (status != NN_OK) print_diags(m);
  cr_assert_eq(status, NN_OK, "seed %llu: passes", (unsigned long long)seed);
  return m;
}

/* Outputs that a run leaves alone must not pass for results. */
static void spoil_outputs(run_data *d) {
  for (int i = 0; i < d->nout; i++)
    memset(d->out[i].data, 0x7f, nn_dtype_bytes(d->out_dtype[i], (uint64_t)count_of(&d->out[i])));
}

static int count_kernels(const nn_program *p, const char *op) {
  int count = 0;
  for (int i = 0; i < p->nkernels; i++) count += strstr(p->kernels[i]->name, op) != NULL;
  return count;
}

/* Gives the number of kernels with products in pairs. */
static int try_graph(uint64_t seed, const random_options *o, int64_t n, const nn_target *t, bool compiles) {
  nn_module *plain = plain_graph(seed, o), *fused = graph_with_passes(seed, o, t);
  run_data reference = new_data(plain, seed, n), other = new_data(plain, seed, n);
  run_interpreter(program_of(plain, t, seed), &reference, seed);
  nn_program *p = program_of(fused, t, seed);
  int pairs = count_kernels(p, "conv_paired");
  run_interpreter(p, &other, seed);
  compare(&reference, &other, seed, "passes");
  static run_fn *const engines[] = {run_jit, run_object};
  static const char *const names[] = {"machine code in memory", "object"};
  for (int k = 0; compiles && k < 2; k++) {
    spoil_outputs(&other);
    engines[k](p, t, &other, seed);
    compare(&reference, &other, seed, names[k]);
  }
  free_data(&reference);
  free_data(&other);
  nn_module_free(plain);
  nn_module_free(fused);
  return pairs;
}

/* Without a triple: for this machine. Gives the number of kernels with products in pairs. */
static int try_graphs_for(const char *triple, const char *cpu, uint64_t first, int count, const random_options *o, bool compiles) {
  static const int64_t sizes[] = {1, 2, 5, 8};
  nn_diags diags = {.arena = nn_arena_new()};
  nn_target t = {0};
  cr_assert_eq(nn_target_init(&t, triple, cpu, &diags), NN_OK);
  const char *only = getenv("NNCC_SEED"); /* one graph again */
  if (only) first = strtoull(only, NULL, 10), count = 1;
  int pairs = 0;
  for (int i = 0; i < count; i++) pairs += try_graph(first + (uint64_t)i, o, sizes[i % 4], &t, compiles);
  nn_target_free(&t);
  nn_arena_free(diags.arena);
  return pairs;
}

static void try_graphs(uint64_t first, int count, const random_options *o, bool compiles) { try_graphs_for(NULL, NULL, first, count, o, compiles); }

Test(random, small_graphs) { try_graphs(1000, GRAPHS, &(random_options){.nops = 6}, false); }
Test(random, graphs) { try_graphs(2000, GRAPHS, &(random_options){.nops = 25}, false); }
Test(random, symbolic_graphs) { try_graphs(3000, GRAPHS, &(random_options){.nops = 12, .symbolic = true}, false); }
/* Products in pairs, whatever this machine is. */
static void try_pairs(uint64_t first, const random_options *o) {
  int pairs = try_graphs_for("x86_64-pc-linux-gnu", "znver4", first, GRAPHS / 5, o, false);
  cr_expect(pairs > 0 || getenv("NNCC_SEED"), "no graph has products in pairs: the test tests nothing");
}
Test(random, pairs) { try_pairs(8000, &(random_options){.nops = 12, .images = true}); }
Test(random, symbolic_pairs) { try_pairs(9000, &(random_options){.nops = 12, .images = true, .symbolic = true}); }
/* A thousand graphs in all three engines, in four parts that run side by side. */
enum { COMPILED = 250 };
Test(random, engines_agree_1) { try_graphs(4000, COMPILED, &(random_options){.nops = 6}, true); }
Test(random, engines_agree_2) { try_graphs(5000, COMPILED, &(random_options){.nops = 10}, true); }
Test(random, engines_agree_3) { try_graphs(6000, COMPILED, &(random_options){.nops = 5, .symbolic = true}, true); }
Test(random, engines_agree_on_images) { try_graphs(10000, COMPILED / 5, &(random_options){.nops = 6, .images = true}, true); }
Test(random, engines_agree_4) { try_graphs(7000, COMPILED, &(random_options){.nops = 9, .symbolic = true}, true); }
