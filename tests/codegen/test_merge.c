/* Objects that are merged may come from a file: damaged ones are refused, never believed. */
#include <unistd.h>

#include "tests/codegen/run_case.h"

#include "codegen/elf.h"

static const char *const text =
    "nncc 1\nconst $w : f32[8,8] = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2,"
    " 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4,"
    " 5, 6, 7, 8]\ngraph @main(%x: f32[3,8]) -> (f32[3,8]) {\n  %0 = matmul %x, $w : f32[3,8]\n"
    "  %1 = exp %0 : f32[3,8]\n  return %1\n}\n";

static nn_object make_object(run_case *c) {
  char path[64], weights[64]; /* tests run side by side */
  snprintf(path, sizeof path, "/tmp/nncc-test-merge-%ld.o", (long)getpid());
  snprintf(weights, sizeof weights, "/tmp/nncc-test-merge-%ld.weights", (long)getpid());
  nn_emit_options options = {.name = "model", .level = 1, .threads = 1};
  nn_target t;
  cr_assert_eq(nn_target_init(&t, "x86_64-pc-linux-gnu", "x86-64", &c->m->diags), NN_OK);
  cr_assert_eq(nn_object_write(c->p, &t, &options, NN_OUT_OBJECT, path, weights), NN_OK);
  nn_target_free(&t);
  FILE *f = fopen(path, "rb");
  cr_assert(f);
  nn_object object = {.bytes = malloc(1 << 20)};
  object.size = fread(object.bytes, 1, 1 << 20, f);
  fclose(f);
  unlink(path);
  unlink(weights);
  return object;
}

Test(merge, one_object_stays_what_it_is) {
  run_case c = case_open(text, false, 1);
  nn_object object = make_object(&c), again = {0};
  cr_assert_eq(nn_objects_merge(&object, 1, &again, &c.m->diags), NN_OK);
  nn_object third = {0};
  cr_assert_eq(nn_objects_merge(&again, 1, &third, &c.m->diags), NN_OK);
  cr_assert_eq(again.size, third.size);
  cr_expect_arr_eq(again.bytes, third.bytes, third.size);
  nn_object both[] = {object, again}, result = {0};
  cr_expect_neq(nn_objects_merge(both, 2, &result, &c.m->diags), NN_OK, "symbols defined twice");
  nn_object_free(&object), nn_object_free(&again), nn_object_free(&third);
  case_close(&c);
}

/* Each byte of headers and tables changed, and the end cut off: refused or merged, but within its bounds
   (the sanitizers' build tells). */
Test(merge, damaged_objects_do_no_harm) {
  run_case c = case_open(text, false, 1);
  nn_object object = make_object(&c);
  uint64_t state = 1;
  for (int i = 0; i < 3000; i++) {
    nn_object damaged = {.bytes = malloc(object.size), .size = object.size}, result = {0};
    memcpy(damaged.bytes, object.bytes, object.size);
    for (int k = 0; k < 1 + i % 3; k++) {
      state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
      size_t tail = object.size < 3000 ? object.size : 3000, at = (size_t)(state >> 33) % (tail + 64);
      damaged.bytes[at < 64 ? at : object.size - (at - 63)] = (unsigned char)(state >> 24);
    }
    if (i % 5 == 0) damaged.size = (size_t)(state >> 33) % object.size;
    nn_status status = NN_OK;
    if (nn_objects_merge(&damaged, 1, &result, &c.m->diags) == NN_OK)
      nn_shared_write(c.p, &result, false, (nn_out_file){"/dev/null", "/dev/null"}, &c.m->diags, &status);
    nn_object_free(&result);
    nn_object_free(&damaged);
  }
  nn_object_free(&object);
  case_close(&c);
}
