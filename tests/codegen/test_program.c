/* Programs: which ops become steps, which kernels are shared, where values live, and how runs fail. */
#include "tests/codegen/run_case.h"

static run_case open_and_run(const char *text, int64_t n) {
  run_case c = case_open(text, false, n);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  return c;
}

static int count_steps(const nn_program *p, nn_step_kind kind) {
  int count = 0;
  for (int i = 0; i < p->nsteps; i++) count += p->steps[i].kind == kind;
  return count;
}

Test(program, equal_kernels_are_one) {
  run_case c = open_and_run("nncc 1\ngraph @main(%x: f32[9]) -> (f32[9]) {\n  %0 = exp %x : f32[9]\n  %1 = neg %0 : "
                            "f32[9]\n  %2 = exp %1 : f32[9]\n  return %2\n}\n",
                            1);
  cr_assert_eq(count_steps(c.p, NN_STEP_CALL), 3);
  cr_assert_eq(c.p->nkernels, 2);
  case_close(&c);
}

Test(program, kernels_have_different_names) {
  run_case c = open_and_run("nncc 1\ngraph @main(%x: f32[9], %y: f32[5]) -> (f32[9], f32[5]) {\n  %0 = exp %x : "
                            "f32[9]\n  %1 = exp %y : f32[5]\n  return %0, %1\n}\n",
                            1);
  cr_assert_eq(c.p->nkernels, 2);
  cr_assert(strcmp(c.p->kernels[0]->name, c.p->kernels[1]->name) != 0);
  case_close(&c);
}

Test(program, views_take_no_step) {
  run_case c = open_and_run(
      "nncc 1\ngraph @main(%x: f32[4,6]) -> (f32[6,4]) {\n  %0 = neg %x : f32[4,6]\n  %1 = reshape %0 {dims=[1,24]} : "
      "f32[1,24]\n"
      "  %2 = transpose %1 {perm=[1,0]} : f32[24,1]\n  %3 = reshape %2 {dims=[6,4]} : f32[6,4]\n  return %3\n}\n",
      1);
  cr_assert_eq(c.p->nsteps, 1);
  cr_assert_eq(c.p->steps[0].args[1], c.p->outputs[0]);
  for (int k = 0; k < 24; k++) cr_assert_eq(case_out(&c, 0, k), -k);
  case_close(&c);
}

Test(program, results_that_no_kernel_makes_are_copied) {
  run_case c = open_and_run("nncc 1\nconst $c : f32[2] = [3, 4]\ngraph @main(%x: f32[4]) -> (f32[4], f32[2], f32[4], "
                            "f32[4], f32[2,2]) {\n  %0 = neg %x : f32[4]\n"
                            "  %1 = reshape %0 {dims=[2,2]} : f32[2,2]\n  return %x, $c, %0, %0, %1\n}\n",
                            1);
  cr_assert_eq(count_steps(c.p, NN_STEP_CALL), 1);
  cr_assert_eq(count_steps(c.p, NN_STEP_COPY), 4);
  for (int k = 0; k < 4; k++) {
    cr_assert_eq(case_out(&c, 0, k), k);
    for (int i = 2; i < 5; i++) cr_assert_eq(case_out(&c, i, k), -k);
  }
  cr_assert_eq(case_out(&c, 1, 1), 4);
  case_close(&c);
}

Test(program, numbers_need_no_weight) {
  run_case c = open_and_run("nncc 1\nconst $c : f32[] = [3]\nconst $d : f32[3] = [1, 2, 4]\nconst $unused : f32[2] = "
                            "[0, 0]\ngraph @main(%x: f32[3]) -> (f32[3]) {\n"
                            "  %0 = broadcast $c {dims=[3]} : f32[3]\n  %1 = mul %x, %0 : f32[3]\n  %2 = add %1, $d : "
                            "f32[3]\n  return %2\n}\n",
                            1);
  cr_assert_eq(c.p->weights_bytes, 64);
  cr_assert_eq(case_out(&c, 0, 2), 10);
  case_close(&c);
}

/* ---- symbols ------------------------------------------------------------------------------------- */

static const char *const bind_text = "nncc 1\ngraph @main(%x: f32[N], %n: i64[1]) -> (f32[K]) {\n  bind_dims %n "
                                     "{dims=[K]}\n  %0 = slice %x {starts=[0], steps=[1], dims=[K]} : f32[K]\n"
                                     "  %1 = neg %0 : f32[K]\n  return %1\n}\n";

static void *give(nncc_rt_ctx *ctx, size_t size_bytes) {
  (void)ctx;
  return malloc(size_bytes);
}

/* Under the undefined behaviour sanitizer this failed: tensors need no alignment. */
Test(program, size_at_an_odd_address) {
  run_case c = case_open(bind_text, false, 6);
  int64_t size = 4;
  c.in[1].data = memcpy((char *)c.in[1].data + 1, &size, sizeof size);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  cr_assert_eq(c.out[0].dims[0], 4);
  c.in[1].data = (char *)c.in[1].data - 1;
  case_close(&c);
}

Test(program, data_dependent_size) {
  run_case c = case_open(bind_text, false, 6);
  *(int64_t *)c.in[1].data = 4;
  free(c.out[0].data);
  c.out[0].data = NULL;
  c.ctx.allocate = give;
  case_run(&c);
  cr_assert_eq(c.code, 0);
  cr_assert_eq(c.out[0].dims[0], 4);
  for (int k = 0; k < 4; k++) cr_assert_eq(case_out(&c, 0, k), -k);
  case_close(&c);
}

Test(program, no_allocator_is_an_error) {
  run_case c = case_open(bind_text, false, 6);
  *(int64_t *)c.in[1].data = 4;
  free(c.out[0].data);
  c.out[0].data = NULL;
  case_run(&c);
  cr_assert_eq(c.code, NNCC_RT_EMEMORY);
  case_close(&c);
}

Test(program, negative_size_is_an_error) {
  run_case c = case_open(bind_text, false, 6);
  *(int64_t *)c.in[1].data = -2;
  case_run(&c);
  cr_assert_eq(c.code, NNCC_RT_EVALUE);
  cr_assert_eq(c.ctx.found, -2);
  case_close(&c);
}

static const char *const add_text =
    "nncc 1\ngraph @main(%x: f32[N,2*M], %y: f32[N,M]) -> (f32[N,M]) {\n  %0 = neg %y : f32[N,M]\n  return %0\n}\n";

Test(program, inputs_are_checked) {
  run_case c = case_open(add_text, false, 3);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  c.in[1].dims[0] = 4;
  case_run(&c);
  cr_assert_eq(c.code, NNCC_RT_ESHAPE);
  cr_assert(c.ctx.found == 4 && c.ctx.expected == 3);
  c.in[1].dims[0] = 3;
  c.in[0].dims[1] = 7;
  case_run(&c);
  cr_assert_eq(c.code, NNCC_RT_ESHAPE);
  c.in[0].dims[1] = 6;
  c.in[0].dtype = NNCC_RT_I32;
  case_run(&c);
  cr_assert_eq(c.code, NNCC_RT_EINVAL);
  case_close(&c);
}

Test(program, checks_run) {
  run_case c = case_open("nncc 1\ngraph @main(%x: f32[N], %y: f32[M]) -> (f32[N]) {\n  check {kind=\"le\", found=[N], "
                         "expected=[M], what=\"size\"}\n"
                         "  %0 = neg %x : f32[N]\n  return %0\n}\n",
                         false, 3);
  case_run(&c);
  cr_assert_eq(c.code, 0);
  c.in[1].dims[0] = 2;
  case_run(&c);
  cr_assert_eq(c.code, NNCC_RT_ESHAPE);
  cr_assert_str_eq(c.ctx.error_what, "size");
  case_close(&c);
}

Test(program, types_without_code_are_reported) {
  static const char text[] = "nncc 1\ngraph @main(%x: c64[3,2]) -> (c64[2,3]) {\n  %0 = transpose %x {perm=[1,0]} : "
                             "c64[2,3]\n  return %0\n}\n";
  nn_module *m = nn_text_parse("test.nn", text, strlen(text));
  nn_target t = case_target();
  cr_assert_eq(m->diags.nerrors, 0);
  cr_assert(!nn_program_build(m, &t));
  cr_assert(strstr(m->diags.items[0].message, "c64"));
  nn_module_free(m);
}
