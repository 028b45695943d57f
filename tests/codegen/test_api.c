/* nncc.h from outside: text in, machine code out, several times from one model, and errors that name their cause. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/nncc.h"

static const char *const text = "nncc 1\nconst $w : f32[3] = [1, 2, 3]\ngraph @main(%x: f32[2,3]) -> (f32[2,3]) {\n  "
                                "%0 = broadcast $w {dims=[2,3]} : f32[2,3]\n"
                                "  %1 = mul %x, %0 : f32[2,3]\n  %2 = relu %1 : f32[2,3]\n  return %2\n}\n";

static char folder[64];

static const char *path_of(const char *name) {
  static char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static void make_folder(void) {
  snprintf(folder, sizeof folder, "/tmp/nncc_api_XXXXXX");
  cr_assert(mkdtemp(folder));
}

static void remove_folder(void) {
  static const char *const names[] = {"m.nn", "m.o",       "m.h",       "m.s",      "m.ll",
                                      "m.a",  "2 net-x.o", "2 net-x.h", "m.weights"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(path_of(names[i]));
  cr_assert_eq(rmdir(folder), 0, "something was left behind in %s", folder);
}

static nncc_model *parse(const char *contents) {
  FILE *f = fopen(path_of("m.nn"), "w");
  cr_assert(f);
  fputs(contents, f);
  fclose(f);
  nncc_model *model = NULL;
  cr_assert_eq(nncc_model_parse(path_of("m.nn"), &model), NNCC_OK);
  return model;
}

static void check_jit(nncc_model *model) {
  const nncc_rt_model *m = NULL;
  cr_assert_eq(nncc_model_jit(model, NULL, &m), NNCC_OK);
  float x[6] = {1, -1, 2, 0, 3, -3}, y[6] = {0};
  int64_t in_dims[2] = {2, 3}, out_dims[2] = {0};
  nncc_rt_tensor in = {x, in_dims, NNCC_RT_F32, 2}, out = {y, out_dims, NNCC_RT_F32, 2};
  nncc_rt_ctx ctx = {.workspace = aligned_alloc(64, 64 * 1024), .workspace_bytes = 64 * 1024};
  cr_assert_eq(m->run(&ctx, &in, &out), 0);
  for (int i = 0; i < 6; i++) {
    float wanted = x[i] * (float)(i % 3 + 1);
    cr_assert_eq(y[i], wanted > 0 ? wanted : 0);
  }
  free(ctx.workspace);
}

static bool contains(const char *path, const char *what) {
  static char contents[1 << 16];
  FILE *f = fopen(path, "r");
  if (!f) return false;
  contents[fread(contents, 1, sizeof contents - 1, f)] = 0;
  fclose(f);
  return strstr(contents, what) != NULL;
}

Test(api, one_model_many_outputs, .init = make_folder, .fini = remove_folder) {
  nncc_model *model = parse(text);
  check_jit(model);
  cr_assert_eq(nncc_model_compile(model, path_of("m.o"), NULL), NNCC_OK);
  cr_assert(contains(path_of("m.h"), "nncc_rt_model m;"));
  nncc_compile_options options = {.level = -1, .header = ""};
  cr_assert_eq(nncc_model_compile(model, path_of("m.s"), &options), NNCC_OK);
  cr_assert_eq(nncc_model_compile(model, path_of("m.ll"), &options), NNCC_OK);
  check_jit(model);
  nncc_model_free(model);
}

Test(api, names_become_identifiers, .init = make_folder, .fini = remove_folder) {
  nncc_model *model = parse(text);
  cr_assert_eq(nncc_model_compile(model, path_of("2 net-x.o"), NULL), NNCC_OK);
  cr_assert(contains(path_of("2 net-x.h"), "nncc_rt_model m_2_net_x;"));
  nncc_model_free(model);
}

Test(api, other_targets, .init = make_folder, .fini = remove_folder) {
  nncc_model *model = parse(text);
  nncc_compile_options options = {.level = 2, .target = "thumbv7em-none-eabihf", .cpu = "cortex-m4"};
  cr_assert_eq(nncc_model_compile(model, path_of("m.o"), &options), NNCC_OK);
  check_jit(model);
  nncc_model_free(model);
}

static void expect_error(nncc_model *model, const char *what) {
  int severity = -1, n = nncc_model_diagnostics(model);
  cr_assert(n > 0);
  const char *message = nncc_model_diagnostic(model, n - 1, &severity);
  cr_assert_eq(severity, 0);
  cr_assert(strstr(message, what), "%s", message);
}

Test(api, unknown_suffix, .init = make_folder, .fini = remove_folder) {
  nncc_model *model = parse(text);
  cr_assert_eq(nncc_model_compile(model, path_of("m.exe"), NULL), NNCC_ERROR);
  expect_error(model, ".so");
  nncc_model_free(model);
}

Test(api, unknown_target, .init = make_folder, .fini = remove_folder) {
  nncc_model *model = parse(text);
  nncc_compile_options options = {.level = -1, .target = "pdp11-dec-unix"};
  cr_assert_eq(nncc_model_compile(model, path_of("m.o"), &options), NNCC_ERROR);
  expect_error(model, "pdp11");
  nncc_model_free(model);
}

Test(api, folder_that_is_not_there, .init = make_folder, .fini = remove_folder) {
  nncc_model *model = parse(text);
  cr_assert_eq(nncc_model_compile(model, path_of("nowhere/m.o"), NULL), NNCC_ERROR);
  expect_error(model, "nowhere");
  nncc_model_free(model);
}

Test(api, bad_constant_index_is_a_diagnosis, .init = make_folder, .fini = remove_folder) {
  nncc_model *model =
      parse("nncc 1\nconst $x : f32[3] = [1, 2, 3]\nconst $i : i64[2] = [0, 3]\ngraph @main() -> (f32[2]) {\n"
            "  %0 = gather $x, $i {axis=0} : f32[2]  loc \"g\" \"Gather\"\n  return %0\n}\n");
  const nncc_rt_model *m = NULL;
  cr_assert_eq(nncc_model_jit(model, NULL, &m), NNCC_ERROR);
  expect_error(model, "index 3");
  nncc_model_free(model);
}
