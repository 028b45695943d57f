/* Object files: they link, run and hold their weights in every form; the headers are C99 and C++. The C
   compiler of this machine is used; without one these tests pass unseen. */
#include <dlfcn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/codegen/run_case.h"

static const char *const text =
    "nncc 1\nconst $w : f32[3,4] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]\nconst $b : f16[5] = [1, 2, 3, 4, 5]\n"
    "graph @main(%x: f32[2,3], %h: f16[5]) -> (f32[2,4], f16[5]) {\n"
    "  %0 = matmul %x, $w : f32[2,4]\n  %1 = add %h, $b : f16[5]\n  return %0, %1\n}\n";

typedef struct folder {
  char path[64];
  run_case c;
  nn_target target;
} folder;

static folder open_folder(const char *source) {
  folder f = {.path = "/tmp/nncc-test-XXXXXX", .c = case_open(source, false, 2)};
  cr_assert(mkdtemp(f.path));
  cr_assert_eq(nn_target_init(&f.target, NULL, NULL, &f.c.m->diags), NN_OK);
  return f;
}

static void close_folder(folder *f) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", f->path);
  cr_assert_eq(system(command), 0);
  nn_target_free(&f->target);
  case_close(&f->c);
}

static const char *in_folder(const folder *f, const char *name) {
  static char paths[4][128];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, 128, "%s/%s", f->path, name);
  return path;
}

static nn_status write_model(folder *f, nn_output_kind kind, const char *name, const char *weights) {
  nn_emit_options options = {.name = "model", .level = 2, .weights_in_object = weights == NULL};
  const char *weights_path = weights ? in_folder(f, weights) : NULL;
  NN_TRY(nn_object_write(f->c.p, &f->target, &options, kind, in_folder(f, name), weights_path));
  return nn_header_write(f->c.p, &f->target, &options, in_folder(f, "model.h"), weights_path);
}

static void put(const folder *f, const char *name, const char *content) {
  FILE *file = fopen(in_folder(f, name), "w");
  cr_assert(file);
  fputs(content, file);
  fclose(file);
}

/* Runs a command in the folder; gives its exit code. */
static int shell(const folder *f, const char *command) {
  char line[1024];
  snprintf(line, sizeof line, "cd %s && INC=%s/runtime && %s", f->path, NNCC_SOURCE_DIR, command);
  int status = system(line);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool has_compiler(const folder *f) { return shell(f, "cc --version >/dev/null 2>&1") == 0; }

static const char *const plain_main = "#include \"model.h\"\n#include <string.h>\n"
                                      "static unsigned char workspace[model_WORKSPACE + model_WORKER_WORKSPACE + 64];\n"
                                      "int main(void) {\n  float x[model_x_COUNT] = {1, 0, 0, 0, 1, 1}, y[2][4];\n  "
                                      "uint16_t h[5] = {0x3c00, 0, 0, 0, 0}, z[5];\n"
                                      "  void *w = workspace + (64 - (size_t)workspace % 64) % 64;\n"
                                      "  if (model_infer(x, h, &y[0][0], z, w) != 0) return 1;\n"
                                      "  return y[0][0] == 1 && y[0][3] == 4 && y[1][0] == 14 && y[1][3] == 20 && z[0] "
                                      "== 0x4000 && z[4] == 0x4500 ? 0 : 2;\n}\n";

Test(object, links_and_infers) {
  folder f = open_folder(text);
  cr_assert_eq(write_model(&f, NN_OUT_OBJECT, "model.o", NULL), NN_OK);
  put(&f, "main.c", plain_main);
  if (has_compiler(&f))
    cr_assert_eq(shell(&f, "cc -std=c99 -Wall -Wextra -Wpedantic -Werror main.c model.o -o main && ./main"), 0);
  close_folder(&f);
}

Test(object, archive_links) {
  folder f = open_folder(text);
  cr_assert_eq(write_model(&f, NN_OUT_ARCHIVE, "libmodel.a", NULL), NN_OK);
  put(&f, "main.c", plain_main);
  if (has_compiler(&f)) cr_assert_eq(shell(&f, "cc main.c -L. -lmodel -o main && ./main"), 0);
  close_folder(&f);
}

Test(object, assembly_assembles) {
  folder f = open_folder(text);
  cr_assert_eq(write_model(&f, NN_OUT_ASM, "model.s", NULL), NN_OK);
  put(&f, "main.c", plain_main);
  if (has_compiler(&f)) cr_assert_eq(shell(&f, "cc main.c model.s -o main && ./main"), 0);
  cr_assert_eq(write_model(&f, NN_OUT_LLVM, "model.ll", NULL), NN_OK);
  close_folder(&f);
}

Test(object, header_is_c_and_cpp) {
  folder f = open_folder(text);
  cr_assert_eq(write_model(&f, NN_OUT_OBJECT, "model.o", NULL), NN_OK);
  put(&f, "a.c", "#include \"model.h\"\nint main(void) { return 0; }\n");
  put(&f, "b.cpp",
      "#include \"nncc_rt.h\"\n#include \"model.h\"\nint main() { return model.ninputs == 2 && model.weights_bytes == "
      "model_WEIGHTS_BYTES ? 0 : 1; }\n");
  if (has_compiler(&f)) cr_assert_eq(shell(&f, "cc -std=c99 -Wall -Wextra -Wpedantic -Werror -c a.c"), 0);
  if (shell(&f, "c++ --version >/dev/null 2>&1") == 0)
    cr_assert_eq(shell(&f, "c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -I$INC b.cpp model.o -o b && ./b"), 0);
  close_folder(&f);
}

static float first_result(const nncc_rt_model *m, const void *weights, int *code) {
  float x[6] = {1, 0, 0, 0, 1, 1}, y[8] = {0};
  uint16_t h[5] = {0}, z[5];
  int64_t xd[] = {2, 3}, hd[] = {5}, yd[2], zd[1];
  nncc_rt_tensor in[] = {{x, xd, NNCC_RT_F32, 2}, {h, hd, NNCC_RT_F16, 1}},
                 out[] = {{y, yd, NNCC_RT_F32, 2}, {z, zd, NNCC_RT_F16, 1}};
  nncc_rt_ctx ctx = {.weights = weights};
  ctx.workspace_bytes = m->workspace_size(in, 1);
  ctx.workspace = aligned_alloc(64, (ctx.workspace_bytes + 127) / 64 * 64);
  *code = m->run(&ctx, in, out);
  free(ctx.workspace);
  return y[3];
}

Test(object, shared_object_with_weights_inside) {
  folder f = open_folder(text);
  if (has_compiler(&f)) {
    cr_assert_eq(write_model(&f, NN_OUT_SHARED, "libmodel.so", NULL), NN_OK);
    nncc_rt_library *library;
    const nncc_rt_model *m;
    int code;
    cr_assert_eq(nncc_rt_library_open(in_folder(&f, "libmodel.so"), "model", &library, &m), NNCC_RT_OK);
    cr_assert(m->weights && m->weights_bytes > 0);
    cr_assert_eq(first_result(m, NULL, &code), 4);
    cr_assert_eq(code, 0);
    nncc_rt_library_close(library);
  }
  close_folder(&f);
}

Test(object, weights_in_a_file) {
  folder f = open_folder(text);
  if (has_compiler(&f)) {
    cr_assert_eq(write_model(&f, NN_OUT_SHARED, "libmodel.so", "model.weights"), NN_OK);
    nncc_rt_library *library;
    const nncc_rt_model *m;
    nncc_rt_file *file;
    const void *weights;
    int code;
    cr_assert_eq(nncc_rt_library_open(in_folder(&f, "libmodel.so"), "model", &library, &m), NNCC_RT_OK);
    cr_assert(!m->weights && m->weights_bytes > 0 && m->weights_hash != 0);
    cr_assert_eq(nncc_rt_load_weights(m, in_folder(&f, "model.weights"), &file, &weights), NNCC_RT_OK);
    cr_assert_eq(first_result(m, weights, &code), 4);
    cr_assert_eq(code, 0);
    first_result(m, NULL, &code);
    cr_assert_eq(code, NNCC_RT_EWEIGHTS);
    first_result(m, (const char *)weights + 4, &code);
    cr_assert_eq(code, NNCC_RT_EWEIGHTS);
    nncc_rt_file_close(file);
    nncc_rt_library_close(library);
  }
  close_folder(&f);
}

/* ---- other machines ---------------------------------------------------------------------------------------- */

Test(object, every_target_has_objects) {
  static const char *const targets[] = {"aarch64", "cortex-m4", "riscv64", "wasm32", "x86-64"};
  static const nn_output_kind kinds[] = {NN_OUT_OBJECT, NN_OUT_ASM, NN_OUT_LLVM, NN_OUT_ARCHIVE};
  for (size_t t = 0; t < sizeof targets / sizeof targets[0]; t++) {
    folder f = open_folder(text);
    nn_target_free(&f.target);
    cr_assert_eq(nn_target_init(&f.target, targets[t], NULL, &f.c.m->diags), NN_OK);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
      nn_status status = write_model(&f, kinds[k], "model.out", NULL);
      for (int i = 0; i < f.c.m->diags.count; i++) nn_diag_print(stderr, &f.c.m->diags.items[i]);
      cr_assert_eq(status, NN_OK, "%s", targets[t]);
    }
    close_folder(&f);
  }
}

/* RISC-V traps or emulates misaligned loads: the sizes of a caller's tensors were read as if aligned. */
Test(object, sizes_need_no_alignment) {
  folder f = open_folder("nncc 1\ngraph @main(%x: f32[N,2], %y: f32[2*N]) -> (f32[N,2]) {\n"
                         "  %0 = neg %x : f32[N,2]\n  return %0\n}\n");
  nn_target_free(&f.target);
  cr_assert_eq(nn_target_init(&f.target, "riscv64", NULL, &f.c.m->diags), NN_OK);
  cr_assert_eq(write_model(&f, NN_OUT_LLVM, "model.ll", NULL), NN_OK);
  static char text_of[1 << 20];
  FILE *file = fopen(in_folder(&f, "model.ll"), "r");
  text_of[fread(text_of, 1, sizeof text_of - 1, file)] = 0;
  fclose(file);
  const char *bind = strstr(text_of, "@model_bind("), *end = bind ? strstr(bind, "\n}") : NULL;
  cr_assert(end);
  int nloads = 0;
  for (const char *at = bind; (at = strstr(at, "load i64, ")) && at < end; at++, nloads++) {
    const char *rest = at + strcspn(at, "\n");
    cr_expect(strncmp(rest - strlen(", align 1"), ", align 1", strlen(", align 1")) == 0, "%.*s", (int)(rest - at), at);
  }
  cr_expect(nloads >= 2, "%d", nloads);
  close_folder(&f);
}

/* ---- failures ------------------------------------------------------------------------------------------------ */

Test(object, nothing_is_left_behind) {
  folder f = open_folder(text);
  nn_emit_options options = {.name = "model", .level = 2};
  cr_assert_eq(nn_object_write(f.c.p, &f.target, &options, NN_OUT_OBJECT, in_folder(&f, "none/model.o"), NULL),
               NN_FAIL);
  options.name = "no identifier\n";
  cr_assert_eq(nn_object_write(f.c.p, &f.target, &options, NN_OUT_OBJECT, in_folder(&f, "model.o"), NULL), NN_FAIL);
  cr_assert_eq(f.c.m->diags.nerrors, 2);
  cr_assert_eq(rmdir(f.path), 0, "files are left");
  cr_assert_eq(mkdir(f.path, 0700), 0);
  close_folder(&f);
}

Test(object, unknown_targets_are_diagnostics) {
  nn_module *m = nn_module_new("test");
  nn_target t;
  cr_assert_eq(nn_target_init(&t, "vax-dec-ultrix", NULL, &m->diags), NN_FAIL);
  cr_assert_eq(nn_target_init(&t, "x86_64-linux-gnu", "cortex-m4", &m->diags), NN_FAIL);
  cr_assert_eq(nn_target_init(&t, NULL, "pentium", &m->diags), NN_FAIL);
  cr_assert_eq(m->diags.nerrors, 3);
  nn_module_free(m);
}
