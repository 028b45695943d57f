/* Compiled programs: run checks before it works, binds symbols, allocates only what depends on data and gives
   it back, and agrees with the interpreter in results and in errors. */
#include "tests/codegen/run_case.h"

typedef struct compiled {
  run_case c;
  nn_target target;
  nn_jit *jit;
  const nncc_rt_model *model;
  void *workspace;
  nncc_rt_ctx ctx;
} compiled;

static int allocated, released;

static void *give(nncc_rt_ctx *ctx, size_t size_bytes) {
  (void)ctx;
  allocated++;
  return malloc(size_bytes);
}

static void take_back(nncc_rt_ctx *ctx, void *memory) {
  (void)ctx;
  released++;
  free(memory);
}

static compiled compile(const char *text, int64_t n) {
  compiled r = {.c = case_open(text, false, n)};
  nn_emit_options options = {.name = "m", .level = 2, .weights_in_object = true};
  cr_assert_eq(nn_target_init(&r.target, NULL, NULL, &r.c.m->diags), NN_OK);
  r.jit = nn_jit_new(&r.c.m->diags);
  cr_assert(r.jit);
  nn_status status = nn_jit_program(r.jit, &r.target, r.c.p, &options, &r.model);
  for (int i = 0; i < r.c.m->diags.count; i++) nn_diag_print(stderr, &r.c.m->diags.items[i]);
  cr_assert_eq(status, NN_OK);
  allocated = released = 0;
  return r;
}

static int run(compiled *r, int nworkers) {
  size_t bytes = r->model->workspace_size(r->c.in, nworkers);
  if (bytes == SIZE_MAX) bytes = 0;
  free(r->workspace);
  r->workspace = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  r->ctx.workspace = r->workspace;
  r->ctx.workspace_bytes = bytes;
  r->ctx.nworkers = nworkers;
  r->ctx.allocate = give;
  r->ctx.release = take_back;
  return r->model->run(&r->ctx, r->c.in, r->c.out);
}

static void close_compiled(compiled *r) {
  free(r->workspace);
  nn_jit_free(r->jit);
  nn_target_free(&r->target);
  case_close(&r->c);
}

/* The interpreter on the same tensors: same code, and the same numbers in the error. */
static void expect_same_error(compiled *r) {
  int code = run(r, 1);
  case_run(&r->c);
  cr_assert_eq(code, r->c.code, "code %d, interpreter %d", code, r->c.code);
  cr_assert_neq(code, 0);
  cr_assert_eq(r->ctx.error, code);
  cr_assert(r->ctx.found == r->c.ctx.found && r->ctx.expected == r->c.ctx.expected,
            "found %lld expected %lld, interpreter %lld %lld", (long long)r->ctx.found, (long long)r->ctx.expected,
            (long long)r->c.ctx.found, (long long)r->c.ctx.expected);
  cr_assert_str_eq(r->ctx.error_node, r->c.ctx.error_node);
  cr_assert(r->ctx.error_what && *r->ctx.error_what);
}

static const char *const chain_text =
    "nncc 1\nconst $c : f32[8] = [1, 2, 3, 4, 5, 6, 7, 8]\ngraph @main(%x: f32[N,8]) -> (f32[N,8], f32[8,N]) {\n"
    "  %0 = broadcast $c {dims=[N,8]} : f32[N,8]\n  %1 = mul %x, %0 : f32[N,8]\n  %2 = exp %1 : f32[N,8]\n"
    "  %3 = transpose %2 {perm=[1,0]} : f32[8,N]\n  return %2, %3\n}\n";

Test(emit_program, symbolic_sizes) {
  for (int64_t n = 0; n < 9; n += 4) {
    compiled r = compile(chain_text, n);
    cr_assert_eq(r.model->flags, NNCC_RT_MODEL_SYMBOLIC);
    cr_assert_eq(run(&r, 1), 0);
    cr_assert(r.c.out[0].dims[0] == n && r.c.out[1].dims[1] == n && r.c.out[1].dims[0] == 8);
    float *got = r.c.out[1].data, *first = malloc(sizeof(float) * (size_t)(8 * n + 1));
    memcpy(first, got, sizeof(float) * (size_t)(8 * n));
    case_run(&r.c);
    for (int64_t i = 0; i < 8 * n; i++)
      cr_assert(fabsf(first[i] - got[i]) <= 1e-6f * fabsf(got[i]) || first[i] == got[i]);
    free(first);
    cr_assert_eq(allocated, 0);
    close_compiled(&r);
  }
}

Test(emit_program, descriptor) {
  compiled r = compile(chain_text, 3);
  const nncc_rt_model *m = r.model;
  cr_assert(m->abi == NNCC_RT_ABI && m->ninputs == 1 && m->noutputs == 2);
  cr_assert_str_eq(m->name, "m");
  cr_assert_str_eq(m->inputs[0].name, "x");
  cr_assert(m->inputs[0].dtype == NNCC_RT_F32 && m->inputs[0].rank == 2 && m->inputs[0].dims[0] == -1 &&
            m->inputs[0].dims[1] == 8);
  cr_assert_str_eq(m->inputs[0].dim_texts[0], "N");
  close_compiled(&r);
}

Test(emit_program, output_dims_before_run) {
  compiled r = compile(chain_text, 3);
  void *data = r.c.in[0].data;
  r.c.in[0].data = NULL;
  cr_assert_eq(r.model->output_dims(&r.ctx, r.c.in, r.c.out), 0);
  cr_assert(r.c.out[0].dims[0] == 3 && r.c.out[1].dims[0] == 8);
  cr_assert_neq(r.model->workspace_size(r.c.in, 4), SIZE_MAX);
  r.c.in[0].dims[1] = 9;
  cr_assert_eq(r.model->workspace_size(r.c.in, 4), SIZE_MAX);
  cr_assert_eq(r.model->output_dims(&r.ctx, r.c.in, r.c.out), NNCC_RT_ESHAPE);
  r.c.in[0].dims[1] = 8;
  r.c.in[0].dims[0] = INT64_MAX / 2;
  cr_assert_eq(r.model->workspace_size(r.c.in, 4), SIZE_MAX);
  r.c.in[0].data = data;
  close_compiled(&r);
}

Test(emit_program, arguments_are_checked) {
  compiled r = compile(chain_text, 3);
  cr_assert_eq(r.model->run(NULL, r.c.in, r.c.out), NNCC_RT_EINVAL);
  cr_assert_eq(r.model->run(&r.ctx, NULL, r.c.out), NNCC_RT_EINVAL);
  cr_assert_eq(r.model->run(&r.ctx, r.c.in, NULL), NNCC_RT_EINVAL);
  r.c.out[0].rank = 1;
  cr_assert_eq(run(&r, 1), NNCC_RT_EINVAL);
  cr_assert(r.ctx.found == 1 && r.ctx.expected == 2);
  cr_assert_str_eq(r.ctx.error_what, "rank");
  r.c.out[0].rank = 2;
  void *data = r.c.out[0].data;
  r.c.out[0].data = NULL;
  cr_assert_eq(run(&r, 1), NNCC_RT_EINVAL);
  r.c.out[0].data = data;
  r.c.in[0].dims[1] = 7;
  cr_assert_eq(run(&r, 1), NNCC_RT_ESHAPE);
  cr_assert_str_eq(r.ctx.error_node, "x");
  cr_assert_str_eq(r.ctx.error_what, "dimension 1");
  r.c.in[0].dims[1] = 8;
  r.c.in[0].dims[0] = -1;
  cr_assert_eq(run(&r, 1), NNCC_RT_ESHAPE);
  r.c.in[0].dims[0] = 3;
  cr_assert_eq(run(&r, 1), 0);
  int64_t *dims = r.c.in[0].dims;
  r.c.in[0].dims = NULL;
  cr_assert_eq(run(&r, 1), NNCC_RT_EINVAL);
  r.c.in[0].dims = dims;
  close_compiled(&r);
}

static const char *const temp_text = "nncc 1\ngraph @main(%x: f32[N,64]) -> (f32[N,64]) {\n  %0 = softmax %x {axis=0} "
                                     ": f32[N,64]\n  %1 = softmax %0 : f32[N,64]\n"
                                     "  %2 = softmax %1 {axis=0} : f32[N,64]\n  return %2\n}\n";

Test(emit_program, workspace_is_checked) {
  compiled r = compile(temp_text, 5);
  cr_assert_eq(run(&r, 1), 0);
  size_t bytes = r.ctx.workspace_bytes;
  cr_assert_gt(bytes, 0);
  r.ctx.workspace_bytes = bytes - 1;
  cr_assert_eq(r.model->run(&r.ctx, r.c.in, r.c.out), NNCC_RT_EWORKSPACE);
  cr_assert(r.ctx.found == (int64_t)bytes - 1 && r.ctx.expected == (int64_t)bytes);
  r.ctx.workspace_bytes = bytes;
  r.ctx.workspace = (char *)r.workspace + 8;
  cr_assert_eq(r.model->run(&r.ctx, r.c.in, r.c.out), NNCC_RT_EWORKSPACE);
  r.ctx.workspace = NULL;
  cr_assert_eq(r.model->run(&r.ctx, r.c.in, r.c.out), NNCC_RT_EWORKSPACE);
  close_compiled(&r);
}

/* ---- sizes that depend on data --------------------------------------------------------------------------- */

static const char *const bind_text =
    "nncc 1\nsymbol K data\ngraph @main(%x: f32[N], %n: i64[1]) -> (f32[K]) {\n  bind_dims %n {dims=[K]}\n"
    "  %0 = slice %x {starts=[0], steps=[1], dims=[K]} : f32[K]\n  %1 = softmax %0 : f32[K]\n  %2 = softmax %1 : "
    "f32[K]\n  return %2\n}\n";

static compiled compile_open_output(int64_t k) {
  compiled r = compile(bind_text, 6);
  *(int64_t *)r.c.in[1].data = k;
  free(r.c.out[0].data);
  r.c.out[0].data = NULL;
  return r;
}

Test(emit_program, data_dependent_sizes_are_allocated) {
  compiled r = compile_open_output(4);
  cr_assert(r.model->flags & NNCC_RT_MODEL_DATA_DEPENDENT);
  cr_assert(r.model->flags & NNCC_RT_MODEL_ALLOCATES);
  cr_assert_eq(run(&r, 1), 0);
  cr_assert_eq(r.c.out[0].dims[0], 4);
  cr_assert_eq(allocated, released + 1, "%d blocks taken, %d given back", allocated, released);
  double sum = 0;
  for (int k = 0; k < 4; k++) sum += case_out(&r.c, 0, k);
  cr_assert(fabs(sum - 1) < 1e-6);
  cr_assert_eq(r.model->output_dims(&r.ctx, r.c.in, r.c.out), 0);
  cr_assert_eq(r.c.out[0].dims[0], -1);
  close_compiled(&r);
}

static void *give_once(nncc_rt_ctx *ctx, size_t size_bytes) { return allocated >= 1 ? NULL : give(ctx, size_bytes); }

Test(emit_program, no_memory_gives_back_what_was_taken) {
  compiled r = compile_open_output(4);
  cr_assert_eq(run(&r, 1), 0); /* makes the workspace */
  free(r.c.out[0].data);
  r.c.out[0].data = NULL;
  allocated = released = 0;
  r.ctx.allocate = give_once;
  cr_assert_eq(r.model->run(&r.ctx, r.c.in, r.c.out), NNCC_RT_EMEMORY);
  cr_assert_eq(allocated, released + (r.c.out[0].data != NULL));
  r.ctx.allocate = NULL;
  cr_assert_eq(r.model->run(&r.ctx, r.c.in, r.c.out), NNCC_RT_EMEMORY);
  close_compiled(&r);
}

Test(emit_program, data_dependent_errors) {
  compiled r = compile_open_output(-3);
  expect_same_error(&r);
  close_compiled(&r);
  r = compile_open_output(INT64_MAX / 2);
  cr_assert_neq(run(&r, 1), 0);
  close_compiled(&r);
}

/* ---- errors of the data ----------------------------------------------------------------------------------- */

static const char *const gather_text = "nncc 1\ngraph @main(%x: f32[M,4], %i: i64[N]) -> (f32[N,4]) {\n  %0 = gather "
                                       "%x, %i : f32[N,4]  loc \"Gather_7\"\n  return %0\n}\n";

static void backwards(nncc_rt_ctx *self, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  for (int64_t t = ntasks - 1; t >= 0; t--) fn(arg, t, (int32_t)(t % self->nworkers));
}

Test(emit_program, first_bad_index_in_order) {
  compiled r = compile(gather_text, 4000);
  int64_t *index = r.c.in[1].data;
  for (int i = 0; i < 4000; i++) index[i] = i % 7;
  cr_assert_eq(run(&r, 2), 0);
  index[3999] = 70000;
  index[2500] = -4001;
  index[2499] = 4000;
  r.ctx.parallel_for = backwards;
  expect_same_error(&r);
  cr_assert_eq(r.ctx.error, NNCC_RT_EINDEX);
  cr_assert_str_eq(r.ctx.error_node, "Gather_7");
  cr_assert_str_eq(r.ctx.error_what, "index");
  cr_assert_eq(r.ctx.error_step, 0);
  run(&r, 3);
  cr_assert(r.ctx.expected == r.c.ctx.expected && r.ctx.found == r.c.ctx.found);
  close_compiled(&r);
}

Test(emit_program, index_into_nothing) {
  compiled r = compile(gather_text, 4);
  free(r.c.in[0].data);
  r.c.in[0].data = NULL;
  r.c.in[0].dims[0] = 0;
  memset(r.c.in[1].data, 0, 32);
  expect_same_error(&r);
  close_compiled(&r);
}

Test(emit_program, checks_fail_as_interpreted) {
  compiled r = compile("nncc 1\ngraph @main(%x: f32[N], %y: f32[M]) -> (f32[N]) {\n  check {kind=\"le\", found=[N], "
                       "expected=[M], what=\"size\"}  loc \"Check_1\"\n"
                       "  %0 = neg %x : f32[N]\n  return %0\n}\n",
                       3);
  cr_assert_eq(run(&r, 1), 0);
  r.c.in[1].dims[0] = 2;
  expect_same_error(&r);
  cr_assert_str_eq(r.ctx.error_node, "Check_1");
  cr_assert_str_eq(r.ctx.error_what, "size");
  close_compiled(&r);
}

Test(emit_program, symbols_bound_twice) {
  compiled r = compile(
      "nncc 1\ngraph @main(%x: f32[N,2*M], %y: f32[N,M]) -> (f32[N,M]) {\n  %0 = neg %y : f32[N,M]\n  return %0\n}\n",
      3);
  cr_assert_eq(run(&r, 1), 0);
  r.c.in[1].dims[0] = 4;
  expect_same_error(&r);
  r.c.in[1].dims[0] = 3;
  r.c.in[0].dims[1] = 7;
  expect_same_error(&r);
  cr_assert_str_eq(r.ctx.error_what, "dimension 1");
  close_compiled(&r);
}
