/* Recurrent layers with constant weights: the pass recurrent puts these into another order, and the results stay. */
#include "codegen/codegen.h"
#include "passes/passes.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIME = 5, MOST = 4096, TEXT_BYTES = 1 << 17 };

typedef struct layer {
  const char *op, *attributes;
  int ngates, nstates, hidden, batch;
} layer;

static double number(unsigned *seed) {
  *seed = *seed * 1664525u + 1013904223u;
  return (double)(int)(*seed >> 24) / 128 - 1;
}

static nn_module *module_of(const layer *l, unsigned seed) {
  char *text = malloc(TEXT_BYTES), *end = text;
  int columns = l->ngates * l->hidden;
  end += sprintf(end, "nncc 1\nconst $r : f32[%d,%d] = [", columns, l->hidden);
  for (int i = 0; i < columns * l->hidden; i++) end += sprintf(end, "%s%g", i ? ", " : "", number(&seed) / 4);
  const char *c = l->nstates > 1 ? ", %h" : "", *more = l->nstates > 1 ? ", %2" : "";
  end += sprintf(end, "]\ngraph @main(%%x: f32[%d,%d,%d], %%h: f32[%d,%d]) -> (f32[%d,%d,%d]) {\n", TIME, l->batch,
                 columns, l->batch, l->hidden, TIME, l->batch, l->hidden);
  end += sprintf(end, "  %%0, %%1%s = %s %%x, $r, %%h%s {%s} : f32[%d,%d,%d], f32[%d,%d]", more, l->op, c,
                 l->attributes, TIME, l->batch, l->hidden, l->batch, l->hidden);
  if (l->nstates > 1) end += sprintf(end, ", f32[%d,%d]", l->batch, l->hidden);
  end += sprintf(end, "\n  return %%0\n}\n");
  nn_module *m = nn_text_parse("recurrent.nn", text, (size_t)(end - text));
  free(text);
  cr_assert(m && m->diags.nerrors == 0);
  return m;
}

static void run(nn_module *m, const nn_target *t, const layer *l, float *y) {
  static float x[MOST], h[MOST];
  unsigned seed = 7;
  for (int i = 0; i < MOST; i++) x[i] = (float)number(&seed), h[i] = (float)number(&seed);
  nncc_rt_tensor in[] = {
      {.data = x, .dims = (int64_t[]){TIME, l->batch, l->ngates * l->hidden}, .dtype = NNCC_RT_F32, .rank = 3},
      {.data = h, .dims = (int64_t[]){l->batch, l->hidden}, .dtype = NNCC_RT_F32, .rank = 2}};
  int64_t dims[3];
  nncc_rt_tensor out = {.data = y, .dims = dims, .dtype = NNCC_RT_F32, .rank = 3};
  nncc_rt_ctx ctx = {0};
  nn_program *p = nn_program_build(m, t);
  cr_assert(p && nn_plan_memory(p, t) == NN_OK);
  cr_assert_eq(nn_program_eval(p, in, &out, &ctx), 0);
}

static bool is_in_panels(const nn_module *m) {
  for (const nn_op *op = m->main->first; op; op = op->next)
    if (op->code == NN_OP_LSTM || op->code == NN_OP_GRU || op->code == NN_OP_RNN)
      return op->in[1]->kind == NN_CONST && op->in[1]->type.rank == 3;
  return false;
}

static void try_layer(const layer *l, const nn_target *t) {
  static float expected[MOST], found[MOST];
  nn_module *plain = module_of(l, 3), *changed = module_of(l, 3);
  run(plain, t, l, expected);
  nn_env_init(&changed->env, t, &changed->diags);
  nn_pass_options options = {.verify_each = true};
  cr_assert_eq(nn_pipeline_infer(changed, &options), NN_OK);
  nn_env_free(&changed->env);
  cr_expect(is_in_panels(changed), "%s of %d units: weights as they were", l->op, l->hidden);
  run(changed, t, l, found);
  for (int i = 0; i < TIME * l->batch * l->hidden; i++)
    cr_assert(fabs(expected[i] - found[i]) <= 1e-5, "%s of %d units: element %d is %g, expected %g", l->op, l->hidden,
              i, (double)found[i], (double)expected[i]);
  nn_module_free(plain);
  nn_module_free(changed);
}

Test(recurrent, constant_weights) {
  static const layer layers[] = {{"lstm", "", 4, 2, 16, 1},
                                 {"lstm", "reverse=1", 4, 2, 21, 3},
                                 {"gru", "", 3, 1, 16, 2},
                                 {"gru", "", 3, 1, 19, 1},
                                 {"gru", "linear_before_reset=1", 3, 1, 19, 1},
                                 {"rnn", "", 1, 1, 35, 1},
                                 {"rnn", "", 1, 1, 3, 5}};
  nn_diags diags = {.arena = nn_arena_new()};
  nn_target t = {0};
  cr_assert_eq(nn_target_init(&t, NULL, NULL, &diags), NN_OK);
  for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) try_layer(&layers[i], &t);
  nn_target_free(&t);
  nn_arena_free(diags.arena);
}

/* ---- layers that project their input themselves ------------------------------------------------------------ */

enum { STEPS = 70, DEPTH = 24 };

static char *write_numbers(char *end, const char *name, int rows, int columns, unsigned *seed) {
  end += sprintf(end, "const $%s : f32[%d,%d] = [", name, rows, columns);
  for (int i = 0; i < rows * columns; i++) end += sprintf(end, "%s%g", i ? "," : "", number(seed) / 16);
  return end + sprintf(end, "]\n");
}

/* As an exporter writes it: product, bias, layer. */
static nn_module *projected_module(const layer *l) {
  enum { BYTES = 1 << 21 };
  char *text = malloc(BYTES), *end = text + sprintf(text, "nncc 1\n");
  unsigned seed = 3;
  int n = l->hidden, columns = l->ngates * n;
  end = write_numbers(end, "w", columns, DEPTH, &seed);
  end = write_numbers(end, "r", columns, n, &seed);
  end = write_numbers(end, "b1", 1, columns, &seed);
  const char *c = l->nstates > 1 ? ", %h" : "", *more = l->nstates > 1 ? ", %8" : "";
  end += sprintf(end, "graph @main(%%x: f32[%d,1,%d], %%h: f32[1,%d]) -> (f32[%d,1,%d], f32[1,%d]) {\n", STEPS, DEPTH,
                 n, STEPS, n, n);
  end += sprintf(end, "  %%0 = reshape %%x {dims=[%d,%d]} : f32[%d,%d]\n", STEPS, DEPTH, STEPS, DEPTH);
  end += sprintf(end, "  %%1 = matmul %%0, $w {trans_b=1} : f32[%d,%d]\n", STEPS, columns);
  end += sprintf(end, "  %%2 = reshape $b1 {dims=[%d]} : f32[%d]\n", columns, columns);
  end += sprintf(end, "  %%3 = broadcast %%2 {dims=[%d,%d]} : f32[%d,%d]\n", STEPS, columns, STEPS, columns);
  end += sprintf(end, "  %%4 = add %%1, %%3 : f32[%d,%d]\n", STEPS, columns);
  end += sprintf(end, "  %%5 = reshape %%4 {dims=[%d,1,%d]} : f32[%d,1,%d]\n", STEPS, columns, STEPS, columns);
  end += sprintf(end, "  %%6, %%7%s = %s %%5, $r, %%h%s {%s} : f32[%d,1,%d], f32[1,%d]", more, l->op, c, l->attributes,
                 STEPS, n, n);
  if (l->nstates > 1) end += sprintf(end, ", f32[1,%d]", n);
  end += sprintf(end, "\n  return %%6, %%7\n}\n");
  nn_module *m = nn_text_parse("projected.nn", text, (size_t)(end - text));
  free(text);
  cr_assert(m && m->diags.nerrors == 0);
  return m;
}

static void run_projected(nn_module *m, const nn_target *t, const layer *l, float *y, float *last) {
  static float x[STEPS * DEPTH], h[MOST];
  unsigned seed = 7;
  for (int i = 0; i < STEPS * DEPTH; i++) x[i] = (float)number(&seed);
  for (int i = 0; i < l->hidden; i++) h[i] = (float)number(&seed);
  nncc_rt_tensor in[] = {{.data = x, .dims = (int64_t[]){STEPS, 1, DEPTH}, .dtype = NNCC_RT_F32, .rank = 3},
                         {.data = h, .dims = (int64_t[]){1, l->hidden}, .dtype = NNCC_RT_F32, .rank = 2}};
  int64_t dims[2][3];
  nncc_rt_tensor out[] = {{.data = y, .dims = dims[0], .dtype = NNCC_RT_F32, .rank = 3},
                          {.data = last, .dims = dims[1], .dtype = NNCC_RT_F32, .rank = 2}};
  nncc_rt_ctx ctx = {0};
  nn_program *p = nn_program_build(m, t);
  cr_assert(p && nn_plan_memory(p, t) == NN_OK);
  cr_assert_eq(nn_program_eval(p, in, out, &ctx), 0);
}

static int count_ops(const nn_module *m, nn_opcode code) {
  int count = 0;
  for (const nn_op *op = m->main->first; op; op = op->next) count += op->code == code || op->code == NN_OP_FUSED;
  return count;
}

/* wide: what the weights are laid out for; narrow: another target, which reads the same columns. */
static void try_projected(const layer *l, const nn_target *wide, const nn_target *narrow) {
  static float expected[STEPS * 256 + 256], found[STEPS * 256 + 256];
  int count = STEPS * l->hidden;
  nn_module *plain = projected_module(l), *changed = projected_module(l);
  run_projected(plain, wide, l, expected, expected + count);
  nn_env_init(&changed->env, wide, &changed->diags);
  nn_pass_options options = {.verify_each = true};
  cr_assert_eq(nn_pipeline_infer(changed, &options), NN_OK);
  nn_env_free(&changed->env);
  cr_expect_eq(count_ops(changed, NN_OP_MATMUL_PANELS), 0, "%s of %d units: a product of its own", l->op, l->hidden);
  for (int i = 0; i < 2; i++) {
    run_projected(changed, i ? narrow : wide, l, found, found + count);
    for (int j = 0; j < count + l->hidden; j++)
      cr_assert(fabs(expected[j] - found[j]) <= 2e-5, "%s of %d units: element %d is %g, expected %g", l->op, l->hidden,
                j, (double)found[j], (double)expected[j]);
  }
  nn_module_free(plain);
  nn_module_free(changed);
}

Test(recurrent, input_is_projected) {
  static const layer layers[] = {{"lstm", "", 4, 2, 128, 1},
                                 {"lstm", "reverse=1", 4, 2, 128, 1},
                                 {"gru", "linear_before_reset=1", 3, 1, 160, 1},
                                 {"rnn", "", 1, 1, 256, 1}};
  nn_diags diags = {.arena = nn_arena_new()};
  nn_target wide = {0}, narrow = {0};
  cr_assert_eq(nn_target_init(&wide, "x86_64-pc-linux-gnu", "x86-64-v4", &diags), NN_OK);
  cr_assert_eq(nn_target_init(&narrow, "x86_64-pc-linux-gnu", "x86-64-v2", &diags), NN_OK);
  for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) try_projected(&layers[i], &wide, &narrow);
  nn_target_free(&wide);
  nn_target_free(&narrow);
  nn_arena_free(diags.arena);
}
