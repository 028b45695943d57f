/* Operations and bytes of ops. */
#include "ir/ir.h"
#include <criterion/criterion.h>
#include <string.h>

typedef struct work_case {
  const char *rest;        /* of the module: constants, bodies */
  const char *params, *op; /* N is 3 */
  const char *types;       /* of the results; all are used */
  double flops, weights, read, written;
} work_case;

static nn_module *parse_case(nn_arena *arena, const work_case *c) {
  static const char *const names[] = {"%y0", "%y0, %y1", "%y0, %y1, %y2"};
  int commas = 0, depth = 0;
  for (const char *s = c->types; *s; s++) {
    depth += *s == '[' ? 1 : *s == ']' ? -1 : 0;
    commas += *s == ',' && depth == 0;
  }
  bool is_body = strncmp(c->rest, "graph", 5) == 0; /* main comes first */
  char *text = nn_sprintf(arena, "nncc 1\nsymbol N\n%s\ngraph @main(%s) -> (%s) {\n  %s = %s : %s\n  return %s\n}\n%s",
                          is_body ? "" : c->rest, c->params, c->types, names[commas], c->op, c->types, names[commas],
                          is_body ? c->rest : "");
  return nn_text_parse("case.nn", text, strlen(text));
}

static void check_work(const work_case *c) {
  const int64_t symbols[] = {3};
  nn_arena *arena = nn_arena_new();
  nn_module *m = parse_case(arena, c);
  cr_assert_eq(m->diags.nerrors, 0, "%s: %s", c->op, m->diags.count ? m->diags.items[0].message : "");
  nn_traffic t = nn_op_traffic(m->main->first, symbols);
  double flops = nn_op_flops(m->main->first, symbols);
  cr_expect_eq(flops, c->flops, "%s: %g operations, expected %g", c->op, flops, c->flops);
  cr_expect_eq(t.weights, c->weights, "%s: %g bytes of weights, expected %g", c->op, t.weights, c->weights);
  cr_expect_eq(t.read, c->read, "%s: %g bytes read, expected %g", c->op, t.read, c->read);
  cr_expect_eq(t.written, c->written, "%s: %g bytes written, expected %g", c->op, t.written, c->written);
  nn_module_free(m);
  nn_arena_free(arena);
}

#define CHECK(cases)                                                                                                   \
  for (size_t i = 0; i < sizeof(cases) / sizeof *(cases); i++) check_work(&(cases)[i])

Test(work, every_nest_has_a_count) {
  for (int code = 0; code < NN_OP_COUNT; code++)
    if (nn_op_infos[code].flags & NN_NEST)
      cr_expect(nn_op_has_work_row((nn_opcode)code), "op %s: no row in ir/work.c", nn_op_infos[code].text);
}

Test(work, products) {
  static const work_case cases[] = {
      {"", "%x: f32[N,4], %w: f32[4,5]", "matmul %x, %w", "f32[N,5]", 2 * 3 * 4 * 5, 0, 4 * (12 + 20), 4 * 15},
      {"const $w : f32[2,1] = [1, 2]", "%x: f32[N,2]", "matmul %x, $w", "f32[N,1]", 2 * 3 * 2, 8, 24, 12},
      {"", "%x: f32[4,N], %w: f32[5,4]", "matmul %x, %w {trans_a=1, trans_b=1}", "f32[N,5]", 120, 0, 128, 60},
      {"", "%x: f16[2,8,5,6], %w: f16[4,8,3,3]", "conv %x, %w", "f16[2,4,3,4]", 2 * 2 * 4 * 12 * 8 * 9, 0,
       2 * (480 + 288), 2 * 96},
      {"", "%x: f32[1,8,4,4], %w: f32[8,1,3,3]", "conv %x, %w {groups=8, pads=[1,1,1,1]}", "f32[1,8,4,4]", 2 * 128 * 9,
       0, 4 * (128 + 72), 4 * 128},
      {"", "%x: f32[1,2,8,8,4], %u: f32[2,36,7,8]", "conv_winograd %x, %u {tile=4, outputs=15, pads=[1,1,1,1]}",
       "f32[1,4,8,8,4]", 2 * 15 * 64 * 7 * 9, 0, 4 * (512 + 2 * 36 * 56), 4 * 1024},
      {"", "%x: f32[1,2,8,8,4], %w: f32[2,2,3,3,4,8]", "conv_blocked %x, %w {channels=7, outputs=15, block=4, strides=[2,2]}",
       "f32[1,4,3,3,4]", 2 * 15 * 9 * 7 * 9, 0, 4 * (512 + 1152), 4 * 144},
      {"", "%x: f32[1,2,8,8,4], %w: f32[2,9,4]", "conv_paired %x, %w {channels=7, outputs=6}", "f32[1,2,8,8,4]", 2 * 6 * 64 * 7, 0, 4 * (512 + 72), 4 * 512},
      {"", "%x: f32[N,7], %w: f32[2,9,4]", "matmul_paired %x, %w {columns=6}", "f32[N,6]", 2 * 3 * 7 * 6, 0, 4 * (21 + 72), 4 * 18},
      {"", "%w: f32[2,7,4]", "paired_weights %w", "f32[2,9,4]", 4 * 56, 0, 4 * 56, 4 * 72},
      {"", "%x: f32[1,2,8,8,4], %w: f32[2,3,3,4]", "conv_depthwise %x, %w {pads=[1,1,1,1]}", "f32[1,2,8,8,4]", 2 * 512 * 9,
       0, 4 * (512 + 72), 4 * 512},
  };
  CHECK(cases);
}

Test(work, windows_and_reductions) {
  static const work_case cases[] = {
      {"", "%x: f32[1,2,6,6]", "avg_pool %x {kernel=[3,2], strides=[3,2]}", "f32[1,2,2,3]", 6 * 12, 0, 288, 48},
      {"", "%x: f32[4,N]", "reduce_sum %x {axes=[1]}", "f32[4,1]", 12, 0, 48, 16},
      {"", "%x: f32[4,N]", "softmax %x", "f32[4,N]", 5 * 12, 0, 48, 48},
      {"", "%x: f32[4,N]", "normalize %x {axis=1}", "f32[4,N], f32[4,1], f32[4,1]", 5 * 12, 0, 48, 48 + 32},
      {"", "%x: f32[2,3,8], %r: f32[8,2], %h: f32[3,2], %c: f32[3,2]", "lstm %x, %r, %h, %c",
       "f32[2,3,2], f32[3,2], f32[3,2]", 2 * 3 * (2 * 16 + 13 * 2), 0, 4 * (48 + 16 + 6 + 6), 4 * (12 + 6 + 6)},
  };
  CHECK(cases);
}

Test(work, moves) {
  static const work_case cases[] = {
      {"", "%x: f32[8]", "copy %x", "f32[8]", 0, 0, 32, 32},
      {"", "%x: f32[1,8]", "broadcast %x {dims=[N,8]}", "f32[N,8]", 0, 0, 32, 96},
      {"", "%x: f32[100]", "slice %x {starts=[7], steps=[1], dims=[N]}", "f32[N]", 0, 0, 12, 12},
      {"", "%x: f32[1000,8], %i: i64[N]", "gather %x, %i", "f32[N,8]", 0, 0, 96 + 24, 96},
      {"", "%x: f32[4,5]", "transpose %x {perm=[1,0]}", "f32[5,4]", 0, 0, 80, 80},
      {"", "%x: f32[1,1,4,4]", "resize %x {dims=[1,1,8,8], mode=\"linear\"}", "f32[1,1,8,8]", 2 * 4 * 64, 0, 64, 256},
      {"", "%x: f32[1,1,4,4]", "resize %x {dims=[1,1,8,4], mode=\"linear\"}", "f32[1,1,8,4]", 2 * 2 * 32, 0, 64, 128},
      {"", "%x: f32[1,1,4,4]", "resize %x {dims=[1,1,8,8]}", "f32[1,1,8,8]", 0, 0, 64, 256},
  };
  CHECK(cases);
}

/* Sums over the body; a table that is only gathered from is not read as a whole; an operand that comes twice is
   read once. */
Test(work, fused_groups) {
  static const char body[] = "graph @k(%a: f32[1000,8], %i: i64[N], %b: f32[1,8], %c: f32[1,8]) -> (f32[N,8]) {\n"
                             "  %0 = gather %a, %i : f32[N,8]\n  %1 = broadcast %b {dims=[N,8]} : f32[N,8]\n"
                             "  %2 = add %0, %1 : f32[N,8]\n  %3 = broadcast %c {dims=[N,8]} : f32[N,8]\n"
                             "  %4 = mul %2, %3 : f32[N,8]\n  return %4\n}\n";
  static const char twice[] = "graph @k(%a: f32[N,8]) -> (f32[N,8]) {\n  %0 = mul %a, %a : f32[N,8]\n"
                              "  %1 = exp %0 : f32[N,8]\n  return %1\n}\n";
  static const work_case cases[] = {
      {body, "%x: f32[1000,8], %i: i64[N], %b: f32[1,8]", "fused %x, %i, %b, %b {body=@k}", "f32[N,8]", 48, 0,
       96 + 24 + 32, 96},
      {twice, "%x: f32[N,8]", "fused %x {body=@k}", "f32[N,8]", 48, 0, 96, 96},
  };
  CHECK(cases);
}
