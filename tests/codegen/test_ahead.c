/* Weights that are fetched ahead of time: by which steps, what, and that results do not depend on it. */
#include "tests/codegen/run_case.h"

enum { ROWS = 256 };

/* A convolution with much work for its weights, then a product of one row whose weights have `columns` columns. */
static char *make_text(nn_arena *arena, int columns, const char *order) {
  int64_t count = (int64_t)ROWS * columns;
  char *numbers = nn_alloc(arena, (size_t)count * 3 + 1);
  for (int64_t i = 0; i < count; i++) memcpy(numbers + 3 * i, (const char *[]){"1, ", "2, ", "0, "}[i % 3], 3);
  numbers[3 * count - 2] = '\0';
  const char *conv = "  %0 = conv_blocked %x, %w {channels=64, outputs=64, block=16} : f32[1,4,14,14,16]\n";
  char *product = nn_sprintf(arena, "  %%1 = matmul %%v, $b : f32[1,%d]\n", columns);
  bool is_first = strcmp(order, "conv first") == 0;
  return nn_sprintf(arena, "nncc 1\nconst $b : f32[%d,%d] = [%s]\ngraph @main(%%x: f32[1,4,14,14,16], %%w: f32[2,4,1,1,16,32], %%v: f32[1,%d])"
                           " -> (f32[1,4,14,14,16], f32[1,%d]) {\n%s%s  return %%0, %%1\n}\n",
                    ROWS, columns, numbers, ROWS, columns, is_first ? conv : product, is_first ? product : conv);
}

typedef struct opened {
  nn_arena *arena;
  run_case c;
  const nn_step *conv, *product;
} opened;

static opened open_case(int columns, const char *order) {
  opened o = {.arena = nn_arena_new()};
  o.c = case_open(make_text(o.arena, columns, order), false, 1);
  cr_assert_eq(o.c.p->nsteps, 2);
  bool is_first = strcmp(order, "conv first") == 0;
  o.conv = &o.c.p->steps[!is_first];
  o.product = &o.c.p->steps[is_first];
  return o;
}

static void close_case(opened *o) {
  case_close(&o->c);
  nn_arena_free(o->arena);
}

/* As much as the convolution has time for, of the weights' end. */
Test(ahead, products_fetch_what_later_steps_wait_for) {
  opened o = open_case(600, "conv first");
  int64_t bytes = (int64_t)ROWS * 600 * 4;
  cr_assert(o.conv->kernel->looks_ahead);
  cr_assert(o.conv->ahead && o.conv->ahead->kind == NN_PLACE_WEIGHT);
  cr_assert(o.conv->ahead_bytes > 0 && o.conv->ahead_bytes < bytes);
  cr_assert_eq(o.conv->ahead_from + o.conv->ahead_bytes, bytes);
  cr_assert_null(o.product->ahead);
  close_case(&o);
}

Test(ahead, nothing_is_fetched_for_earlier_steps) {
  opened o = open_case(600, "product first");
  cr_assert_null(o.conv->ahead);
  cr_assert_null(o.product->ahead);
  close_case(&o);
}

Test(ahead, weights_that_fit_a_core_s_cache_stay_there) {
  opened o = open_case(500, "conv first");
  cr_assert_leq(o.c.p->weights_bytes, case_target().l2_bytes);
  cr_assert_null(o.conv->ahead);
  close_case(&o);
}

static void serial_for(nncc_rt_ctx *self, int64_t ntasks, nncc_rt_task *fn, void *arg) {
  for (int64_t i = ntasks - 1; i >= 0; i--) fn(arg, i, (int32_t)(i % self->nworkers));
}

/* Compiled code gives what the interpreter gives, with and without a pool. */
Test(ahead, results_are_those_of_the_interpreter) {
  opened o = open_case(600, "conv first");
  nn_target host;
  nn_emit_options options = {.name = "m", .level = 2, .weights_in_object = true};
  const nncc_rt_model *model;
  cr_assert_eq(nn_target_init(&host, NULL, NULL, &o.c.m->diags), NN_OK);
  nn_jit *jit = nn_jit_new(&o.c.m->diags);
  cr_assert(jit);
  cr_assert_eq(nn_jit_program(jit, &host, o.c.p, &options, &model), NN_OK);
  case_run(&o.c);
  cr_assert_eq(o.c.code, 0);
  for (int nworkers = 1; nworkers <= 2; nworkers++) {
    nncc_rt_tensor out[CASE_IO];
    for (int i = 0; i < o.c.nout; i++) {
      out[i] = o.c.out[i];
      out[i].data = calloc((size_t)case_count(&out[i]), sizeof(float));
    }
    size_t bytes = (model->workspace_size(o.c.in, nworkers) + 63) / 64 * 64 + 64;
    nncc_rt_ctx ctx = {.workspace = aligned_alloc(64, bytes), .workspace_bytes = bytes, .nworkers = nworkers};
    if (nworkers > 1) ctx.parallel_for = serial_for;
    cr_assert_eq(model->run(&ctx, o.c.in, out), 0);
    for (int i = 0; i < o.c.nout; i++) {
      cr_assert_eq(memcmp(out[i].data, o.c.out[i].data, (size_t)case_count(&out[i]) * sizeof(float)), 0, "output %d, %d workers", i, nworkers);
      free(out[i].data);
    }
    free(ctx.workspace);
  }
  nn_jit_free(jit);
  nn_target_free(&host);
  close_case(&o);
}
