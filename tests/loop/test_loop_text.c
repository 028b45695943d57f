/* Kernels as text: what is printed reads back as the same kernel; errors name the place. */
#include "ir/loop.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

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

static nn_kernel *parse(nn_module *m, const char *text) {
  nn_kernel *k = nn_kernel_parse(m, "t.loop", text, strlen(text));
  for (int i = 0; !k && i < m->diags.count; i++) nn_diag_print(stderr, &m->diags.items[i]);
  return k;
}

/* Text that is already as the printer writes it. */
static const char *const canonical[] = {
  "kernel @nnk_gemm loc \"Gemm_0\" {\n"
  "  symbols K\n"
  "  param %A : f32[6*K]\n"
  "  param %B : f32[16*K]\n"
  "  out %C : f32[96]\n"
  "  reg %acc : f32[96]\n"
  "  unroll %r in 0..6 {\n"
  "    unroll %c in 0..2 {\n"
  "      vector %l in 0..8 {\n"
  "        %acc[%r*16 + %c*8 + %l] = 0.0\n"
  "      }\n"
  "    }\n"
  "  }\n"
  "  for %k in 0..K unroll_by 4 {\n"
  "    unroll %r_2 in 0..6 {\n"
  "      unroll %c_2 in 0..2 {\n"
  "        vector %l_2 in 0..8 {\n"
  "          %acc[%r_2*16 + %c_2*8 + %l_2] = fma(%A[%k*6 + %r_2], %B[%k*16 + %c_2*8 + %l_2], %acc[%r_2*16 + %c_2*8 + %l_2])\n"
  "        }\n"
  "      }\n"
  "    }\n"
  "  }\n"
  "  %sum = lanes_sum(%acc[0], 8)\n"
  "  %C[0] = %sum / 2.0\n"
  "}\n",

  "kernel @statements {\n"
  "  symbols N, \"batch size\"\n"
  "  param %x : i64[N]\n"
  "  out %y : f64[N]\n"
  "  out %z : f16[4]\n"
  "  workspace %w : u8[2*N + 1]\n"
  "  worker %t : i4[8]\n"
  "  worker %last : i64[1]\n"
  "  table %u = 7, -8\n"
  "  table %u_2 = 7, -8, 9, 2147483647\n"
  "  parallel %p in 0..N {\n"
  "    %v = %x[%p]\n"
  "    if %v < 0 | %v == 7 {\n"
  "      fail 5\n"
  "    } else {\n"
  "      %y[%p] = cast(%v, f64)*1e-300:f64 - nan:f64 if %v != 3\n"
  "    }\n"
  "    %i = index(%v, N, 1 <= %v)\n"
  "    prefetch %x[%i + 64]\n"
  "    prefetch near %x[%i + 16]\n"
  "    ahead 4\n"
  "    %z[1] = cast(lookup(%u_2, cast(%x[%p], i32) - lookup(%u, cast(%v, i32))), f16)\n"
  "    %w[%i] = cast(select(%v < 3, -inf, limit(cast(%v, f32), 1.5)), u8)\n"
  "    keep %last for %p mod 4 {\n"
  "      %t[0] = -8:i4\n"
  "    }\n"
  "  }\n"
  "  while cast(%w[0], i64) < \"batch size\" {\n"
  "    %w[0] = shl(%w[0], 1:u8) ^ 255:u8 & %w[1 if true ^ 0:u8 < %w[0]]\n"
  "  }\n"
  "  %z[0] = bitcast(15360:i16, f16) - cast_sat(0.5:f64, f16)\n"
  "}\n",
};

Test(loop_text, canonical_text_prints_as_itself) {
  nn_module *m = nn_module_new("t");
  nn_kernel *k = parse(m, canonical[0]);
  cr_assert(k);
  cr_assert_str_eq(print(m->arena, k), canonical[0]);
  nn_module_free(m);
}

Test(loop_text, what_is_printed_reads_back) {
  for (size_t i = 0; i < sizeof canonical / sizeof *canonical; i++) {
    nn_module *m = nn_module_new("t");
    nn_kernel *k = parse(m, canonical[i]);
    cr_assert(k);
    char *once = print(m->arena, k);
    nn_kernel *again = parse(m, once);
    cr_assert(again);
    cr_assert_str_eq(print(m->arena, again), once);
    cr_assert_str_eq(nn_kernel_key(m->arena, again), nn_kernel_key(m->arena, k));
    nn_module_free(m);
  }
}

/* x = x*x + x, 60 times: 2^60 nodes as a tree. */
Test(loop_text, shared_nodes_do_not_explode) {
  nn_module *m = nn_module_new("t");
  nn_kernel *k = nn_kernel_new(m, "k");
  nn_buf *b = nn_kernel_buf(k, "b", NN_BUF_PARAM, NN_F32, nn_dim_const(m, 1), true);
  nn_x *x = nn_x_load(k, b, nn_x_int(k, 0), NULL);
  for (int i = 0; i < 60; i++) x = nn_x_binary(k, NN_X_ADD, nn_x_binary(k, NN_X_MUL, x, x), x);
  nn_store(k, b, nn_x_int(k, 0), x, NULL);
  char *once = print(m->arena, k);
  cr_assert(strlen(once) < 20000 && strlen(nn_kernel_key(m->arena, k)) < 20000);
  nn_kernel *again = parse(m, once);
  cr_assert(again);
  cr_assert_str_eq(print(m->arena, again), once);
  cr_assert_eq(nn_kernel_verify(k, &m->diags), NN_OK);
  float value = 0.25f, same = 0.25f;
  void *args[] = {&value}, *args2[] = {&same};
  cr_assert_eq(nn_kernel_eval(k, args, NULL, NULL), 0);
  cr_assert_eq(nn_kernel_eval(again, args2, NULL, NULL), 0);
  cr_assert_eq(memcmp(&value, &same, 4), 0);
  nn_module_free(m);
}

static const struct { const char *text, *place, *message; } wrong[] = {
  {"", "t.loop:1:1", "expected 'kernel'"},
  {"kernel @k {\n", "t.loop:2:1", "expected '}'"},
  {"kernel @k {\n  %x = %y\n}\n", "t.loop:2:8", "unknown name %y"},
  {"kernel @k {\n  param %a : f32[4]\n  %a[0] = 1.0\n}\n", NULL, "only read"},
  {"kernel @k {\n  out %a : f32[4]\n  %a[0] = 1\n}\n", "t.loop:3:11", "i64, expected f32"},
  {"kernel @k {\n  out %a : f32[4]\n  %a[1.0] = 1.0\n}\n", "t.loop:3:6", "an index is f32, expected i64"},
  {"kernel @k {\n  out %a : f32[4]\n  %a[0] = 1.0 + 2.0:f64\n}\n", "t.loop:3:15", "add of f32 and f64"},
  {"kernel @k {\n  out %a : f32[4]\n  %a[0] = rem(1.0, 2.0)\n}\n", "t.loop:3:11", "expected integers"},
  {"kernel @k {\n  out %a : f32[4]\n  %a[0] = fma(1.0, 2.0)\n}\n", "t.loop:3:11", "fma with 2 operands, expected 3"},
  {"kernel @k {\n  out %a : f32[4]\n  %a[0] = sine(1.0)\n}\n", "t.loop:3:11", "unknown function"},
  {"kernel @k {\n  out %a : f32[4]\n  out %a : f32[4]\n}\n", "t.loop:3:8", "defined twice"},
  {"kernel @k {\n  vector %l in 1..8 {\n  }\n}\n", "t.loop:2:12", "from 0 to a number"},
  {"kernel @k {\n  out %a : f32[4]\n  vector %l in 0..8 {\n    vector %i in 0..8 {\n    %a[0] = 1.0\n    }\n  }\n}\n", NULL, "inside the vector loop"},
  {"kernel @k {\n  symbols N\n  reg %r : f32[4]\n  for %i in 0..N {\n    %r[%i] = 1.0\n  }\n}\n", NULL, "neither unrolled nor vectorised"},
  {"kernel @k {\n  out %a : f32[4]\n  for %i in 0..4 {\n    %t = %a[%i]\n  }\n  %a[0] = %t\n}\n", NULL, "outside of its block"},
  {"kernel @k {\n  out %a : c64[4]\n  %a[0] = %a[1]\n}\n", NULL, "does not compute with"},
  {"kernel @k {\n  reg %r : f32[4]\n  %x = lanes_sum(%r[0], 3)\n}\n", "t.loop:3:8", "power of two"},
  {"kernel @k {\n  reg %r : f32[4]\n  %x = lanes_sum(%r[2], 4)\n}\n", NULL, "reads elements 2..6 of %r, which has 4"},
  {"kernel @k {\n  prefetch %x[0]\n}\n", "t.loop:2:13", "expected a buffer"},
  {"kernel @k {\n  reg %r : f32[4]\n  prefetch %r[0]\n}\n", NULL, "a prefetch of %r"},
  {"kernel @k {\n  ahead 0\n}\n", "t.loop:2:8", "expected a number of lines from 1 to 64"},
  {"kernel @k {\n  ahead 65\n}\n", "t.loop:2:8", "expected a number of lines from 1 to 64"},
  {"kernel @k {\n  vector %l in 0..8 {\n    ahead 1\n  }\n}\n", "t.loop:3:10", "a vector loop fetches nothing ahead"},
  {"kernel @k {\n  reg %r : f32[8]\n  transpose %r\n}\n", "t.loop:3:14", "expected a register array"},
  {"kernel @k {\n  worker %r : i32[1]\n  keep %r for 0 {\n  }\n}\n", "t.loop:3:9", "expected a buffer of one i64"},
  {"kernel @k {\n  worker %r : i64[1]\n  keep %r for 1.0 {\n  }\n}\n", "t.loop:3:15", "a key is f32, expected i64"},
  {"kernel @k {\n  worker %r : i64[1]\n  keep %r 0 {\n  }\n}\n", "t.loop:3:10", "expected 'for'"},
  {"kernel @k {\n  out %r : i64[1]\n  keep %r for 0 {\n  }\n}\n", NULL, "which is not one i64 of the worker"},
  {"kernel @k {\n  worker %r : i64[2]\n  keep %r for 0 {\n  }\n}\n", NULL, "which is not one i64 of the worker"},
  {"kernel @k {\n  worker %r : i64[1]\n  vector %l in 0..8 {\n    keep %r for 0 {\n    }\n  }\n}\n", NULL, "a keep inside a vector loop"},
  {"kernel @k {\n  worker %r : i64[1]\n  parallel %i in 0..8 {\n    parallel %j in 0..8 {\n      keep %r for 0 {\n      }\n    }\n  }\n}\n", NULL, "in two parallel loops"},
  {"kernel @k {\n  worker %r : i64[1]\n  keep %r for 0 {\n    parallel %i in 0..8 {\n    }\n  }\n}\n", NULL, "inside a keep"},
  {"kernel @k {\n  table %t = 1, 2, 3\n}\n", "t.loop:2:21", "a table of 3 elements, expected a power of two"},
  {"kernel @k {\n  table %t = 2147483648\n}\n", "t.loop:2:24", "2147483648 in a table"},
  {"kernel @k {\n  table %t = 1\n  table %t = 2\n}\n", "t.loop:3:10", "defined twice"},
  {"kernel @k {\n  table %t = 1\n  %x = lookup(%t, 0)\n}\n", "t.loop:3:19", "the index is i64, expected i32"},
  {"kernel @k {\n  reg %r : i32[4]\n  %x = lookup(%r, 0:i32)\n}\n", "t.loop:3:8", "expected a table"},
  {"kernel @k {\n  %x = limit(1, 2)\n}\n", "t.loop:2:8", "limit takes a float"},
  {"kernel @k {\n  %x = limit(1.5, -2.5)\n}\n", "t.loop:2:8", "limit takes a float"},
  {"kernel @k {\n  fail 0\n}\n", "t.loop:2:7", "error code"},
  {"kernel @k {\n  %x = 99999999999999999999\n}\n", "t.loop:2:8", "beyond 64 bits"},
  {"kernel @k {\n} x\n", "t.loop:2:3", "expected nothing after the kernel"},
};

Test(loop_text, errors_name_the_place_and_the_reason) {
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    nn_module *m = nn_module_new("t");
    cr_assert_null(nn_kernel_parse(m, "t.loop", wrong[i].text, strlen(wrong[i].text)), "%s", wrong[i].text);
    cr_assert(m->diags.count >= 1, "%s", wrong[i].text);
    cr_assert(strstr(m->diags.items[0].message, wrong[i].message), "%s: %s", wrong[i].text, m->diags.items[0].message);
    if (wrong[i].place) cr_assert_str_eq(m->diags.items[0].file, wrong[i].place, "%s: %s", wrong[i].text, m->diags.items[0].file);
    nn_module_free(m);
  }
}

Test(loop_text, deep_nesting_is_an_error) {
  enum { DEEP = 100000 };
  char *text = malloc(DEEP + 64);
  strcpy(text, "kernel @k {\n  %x = ");
  size_t length = strlen(text);
  memset(text + length, '(', DEEP);
  nn_module *m = nn_module_new("t");
  cr_assert_null(nn_kernel_parse(m, "t.loop", text, length + DEEP));
  cr_assert(strstr(m->diags.items[0].message, "nested too deeply"));
  nn_module_free(m);
  free(text);
}

/* Any prefix and any changed byte of a kernel: a kernel or a diagnosis, never a crash. */
Test(loop_text, damaged_text_is_diagnosed) {
  for (size_t i = 0; i < sizeof canonical / sizeof *canonical; i++) {
    size_t length = strlen(canonical[i]);
    char *text = malloc(length + 1);
    for (size_t at = 0; at < length; at++) {
      nn_module *m = nn_module_new("t");
      memcpy(text, canonical[i], length + 1);
      text[at] = "%()[]{}-0.:\"\n"[at % 13];
      nn_kernel *k = nn_kernel_parse(m, "t.loop", text, length);
      cr_assert(k || m->diags.nerrors > 0);
      cr_assert(nn_kernel_parse(m, "t.loop", canonical[i], at) || m->diags.nerrors > 0);
      nn_module_free(m);
    }
    free(text);
  }
}

Test(loop_text, keys_tell_kernels_apart_but_not_by_name) {
  nn_module *m = nn_module_new("t");
  nn_kernel *a = parse(m, "kernel @a loc \"A\" {\n  out %x : f32[4]\n  for %i in 0..4 {\n    %x[%i] = 1.0\n  }\n}\n");
  nn_kernel *b = parse(m, "kernel @b loc \"B\" {\n  out %y : f32[4]\n  for %j in 0..4 {\n    %y[%j] = 1.0\n  }\n}\n");
  nn_kernel *c = parse(m, "kernel @a {\n  out %x : f32[4]\n  for %i in 0..4 {\n    %x[%i] = 2.0\n  }\n}\n");
  nn_kernel *d = parse(m, "kernel @a {\n  out %x : f32[5]\n  for %i in 0..4 {\n    %x[%i] = 1.0\n  }\n}\n");
  cr_assert(a && b && c && d);
  cr_assert_str_eq(nn_kernel_key(m->arena, a), nn_kernel_key(m->arena, b));
  cr_assert(strcmp(nn_kernel_key(m->arena, a), nn_kernel_key(m->arena, c)) != 0);
  cr_assert(strcmp(nn_kernel_key(m->arena, a), nn_kernel_key(m->arena, d)) != 0);
  nn_module_free(m);
}
