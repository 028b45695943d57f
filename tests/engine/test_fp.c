/* --fp exact: all targets run the same loops, and none of them has a fused multiply-add. */
#include "codegen/codegen.h"
#include "ir/model.h"

#include <criterion/criterion.h>
#include <string.h>

typedef struct cpu {
  const char *triple, *name;
} cpu;

static const cpu cpus[] = {{"x86_64", "x86-64"},    {"x86_64", "x86-64-v2"},  {"x86_64", "x86-64-v3"}, {"x86_64", "x86-64-v4"},
                           {"aarch64", "generic"},  {"thumbv7em", "cortex-m4"}, {"riscv64", NULL},     {"wasm32", NULL}};
enum { NCPUS = (int)(sizeof cpus / sizeof *cpus) };

/* Of all kernels, one behind the other; malloced by nn_arena, freed with *arena. */
static char *loops_of(const char *path, const cpu *c, nncc_fp fp, nn_arena *arena) {
  nncc_model *model = NULL;
  nn_target t;
  cr_assert_eq(nncc_model_parse(path, &model), NNCC_OK);
  nn_module *m = model->module;
  cr_assert_eq(nn_target_init(&t, c->triple, c->name, &m->diags), NN_OK);
  t.fp = fp;
  nn_program *p = nn_compile(m, &t, 2, NULL, NULL);
  cr_assert(p);
  char *text = nn_sprintf(arena, "%d kernels\n", p->nkernels);
  for (int i = 0; i < p->nkernels; i++) text = nn_sprintf(arena, "%s%s\n", text, nn_kernel_key(arena, p->kernels[i]));
  nn_target_free(&t);
  nncc_model_free(model);
  return text;
}

static void try_model(const char *name) {
  nn_arena *arena = nn_arena_new();
  const char *path = nn_sprintf(arena, "%s/tests/engine/models/%s.nn", NNCC_SOURCE_DIR, name);
  char *first = loops_of(path, &cpus[0], NNCC_FP_EXACT, arena);
  cr_expect_null(strstr(first, "fma("), "%s has a fused multiply-add", name);
  for (int i = 1; i < NCPUS; i++)
    cr_expect_str_eq(loops_of(path, &cpus[i], NNCC_FP_EXACT, arena), first, "%s: other loops for %s %s", name, cpus[i].triple,
                     cpus[i].name ? cpus[i].name : "");
  cr_expect_str_neq(loops_of(path, &cpus[0], NNCC_FP_STRICT, arena), first, "strict is exact: the test tests nothing");
  nn_arena_free(arena);
}

Test(fp, exact_is_the_same_loops_everywhere) {
  try_model("f32");
  try_model("f16");
  try_model("i8");
}
