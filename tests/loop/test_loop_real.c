/* Kernels that lowerings really make: they verify, and their text reads back as the same kernel. */
#include "codegen/codegen.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char *const graphs[] = {
  "nncc 1\ngraph @main(%x: f32[N,37]) -> (f32[N,37]) {\n  %0 = tanh %x : f32[N,37]\n  %1 = mul %0, %x : f32[N,37]\n  %2 = erf %1 : f32[N,37]\n  return %2\n}\n",
  "nncc 1\ngraph @main(%x: f32[5,7,9]) -> (f32[9,35]) {\n  %0 = transpose %x {perm=[2,0,1]} : f32[9,5,7]\n  %1 = reshape %0 {dims=[9,35]} : f32[9,35]\n  return %1\n}\n",
  "nncc 1\ngraph @main(%a: f32[M,K], %b: f32[K,33]) -> (f32[M,33]) {\n  %0 = matmul %a, %b : f32[M,33]\n  return %0\n}\n",
  "nncc 1\ngraph @main(%a: f32[64,128], %b: f32[128,96]) -> (f32[64,96]) {\n  %0 = matmul %a, %b : f32[64,96]\n  return %0\n}\n",
  "nncc 1\ngraph @main(%x: f32[2,3,9,9], %w: f32[8,3,3,3]) -> (f32[2,8,9,9]) {\n  %0 = conv %x, %w {pads=[1,1,1,1]} : f32[2,8,9,9]\n  return %0\n}\n",
  "nncc 1\ngraph @main(%x: f64[3,50]) -> (f64[3,50]) {\n  %0 = sin %x : f64[3,50]\n  %1 = softplus %0 : f64[3,50]\n  return %1\n}\n",
  "nncc 1\ngraph @main(%x: f32[3,50], %y: f32[3,50]) -> (f32[3,50]) {\n  %0 = pow %x, %y : f32[3,50]\n  %1 = fmod %0, %y : f32[3,50]\n  return %1\n}\n",
  "nncc 1\ngraph @main(%x: f32[A,B], %i: i64[C]) -> (f32[C,B]) {\n  %0 = gather %x, %i {axis=0} : f32[C,B]\n  return %0\n}\n",
};

static char *print(nn_arena *arena, const nn_kernel *k) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  nn_kernel_print(out, k);
  fclose(out);
  char *copy = nn_strdup(arena, text);
  free(text);
  return copy;
}

static void check_kernel(nn_module *m, const nn_kernel *k) {
  cr_assert_eq(nn_kernel_verify(k, &m->diags), NN_OK, "%s", m->diags.items[m->diags.count - 1].message);
  char *once = print(m->arena, k);
  nn_kernel *again = nn_kernel_parse(m, "text", once, strlen(once));
  cr_assert(again, "%s: %s\n%s", m->diags.items[m->diags.count - 1].file, m->diags.items[m->diags.count - 1].message, once);
  cr_assert_str_eq(print(m->arena, again), once);
  cr_assert_str_eq(nn_kernel_key(m->arena, again), nn_kernel_key(m->arena, k));
}

static void check_graph(const char *text, const nn_target *target) {
  nn_module *m = nn_text_parse("t.nn", text, strlen(text));
  cr_assert_eq(m->diags.nerrors, 0, "%s", m->diags.nerrors ? m->diags.items[0].message : "");
  nn_program *p = nn_program_build(m, target);
  cr_assert(p, "%s", m->diags.count ? m->diags.items[0].message : "");
  for (int i = 0; i < p->nkernels; i++) check_kernel(m, p->kernels[i]);
  nn_module_free(m);
}

Test(loop_real, lowered_kernels_verify_and_read_back) {
  nn_module *m = nn_module_new("t");
  nn_target target;
  cr_assert_eq(nn_target_init(&target, NULL, NULL, &m->diags), NN_OK);
  for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++) check_graph(graphs[i], &target);
  nn_target_free(&target);
  nn_module_free(m);
}
