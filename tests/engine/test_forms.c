/* What is asked of a compile decides whether products are in pairs: the level, --fp, --no-winograd, the CPU. */
#include "codegen/codegen.h"
#include "passes/passes.h"

#include <criterion/criterion.h>
#include <string.h>

static const char source[] = "nncc 1\nconst $w : f32[128,64,1,1] = file \"zeros.bin\" 0\n"
                             "graph @main(%x: f32[2,64,16,16]) -> (f32[2,128,16,16]) {\n"
                             "  %0 = relu %x : f32[2,64,16,16]\n  %1 = conv %0, $w : f32[2,128,16,16]\n  return %1\n}\n";

typedef struct request {
  const char *cpu;
  int level;
  nncc_fp fp;
  bool no_winograd, is_paired;
} request;

static bool has_kernel(const nn_program *p, const char *op) {
  for (int i = 0; i < p->nkernels; i++)
    if (strstr(p->kernels[i]->name, op)) return true;
  return false;
}

static void try_request(const request *r) {
  nn_target t;
  nn_module *m = nn_text_parse(NNCC_SOURCE_DIR "/tests/golden/layout/forms.nn", source, strlen(source));
  cr_assert_eq(m->diags.nerrors, 0);
  cr_assert_eq(nn_target_init(&t, "x86_64-pc-linux-gnu", r->cpu, &m->diags), NN_OK);
  t.fp = r->fp;
  nn_program *p = nn_compile(m, &t, r->level, NULL, &(nn_pass_options){.no_winograd = r->no_winograd});
  cr_assert(p, "%s: no program", r->cpu);
  cr_expect_eq(has_kernel(p, "conv_paired"), r->is_paired, "%s, level %d, fp %d%s: conv_paired is %sexpected", r->cpu, r->level, (int)r->fp,
               r->no_winograd ? ", no Winograd" : "", r->is_paired ? "" : "not ");
  nn_target_free(&t);
  nn_module_free(m);
}

Test(forms, pairs) {
  static const request requests[] = {
      {"znver4", 2, NNCC_FP_STRICT, false, true},      {"znver4", 3, NNCC_FP_STRICT, false, true},  {"znver4", 2, NNCC_FP_FAST, false, true},
      {"znver5", 2, NNCC_FP_STRICT, false, true},      {"znver4", 1, NNCC_FP_STRICT, false, false}, {"znver4", 0, NNCC_FP_STRICT, false, false},
      {"znver4", 2, NNCC_FP_EXACT, false, false},      {"znver4", 2, NNCC_FP_STRICT, true, false},  {"znver3", 2, NNCC_FP_STRICT, false, false},
      {"x86-64-v4", 2, NNCC_FP_STRICT, false, false},  {"x86-64-v3", 2, NNCC_FP_STRICT, false, false},
      {"sapphirerapids", 2, NNCC_FP_STRICT, false, false}};
  for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) try_request(&requests[i]);
}
