/* Nodes that an op does the work of, and their names. */
#include "ir/ir.h"
#include <criterion/criterion.h>
#include <string.h>

Test(origin, names_are_made_clean) {
  static const char *const cases[][2] = {
      {"Conv_0", "Conv_0"},
      {"", ""},
      {"gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80", "gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80"},
      {"a\nb\x7F", "a?b?"},
      {"\xFF\xC3", "??"},                /* no UTF-8; a character that is cut off */
      {"\xC0\xAF\xE0\x80\xAF", "?????"}, /* overlong */
      {"\xED\xA0\x80", "???"},           /* half of a surrogate pair */
      {"\xEF\xBF\xBF", "???"},           /* no character in XML */
      {"\xF4\x90\x80\x80", "????"},      /* beyond Unicode */
  };
  nn_arena *arena = nn_arena_new();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    cr_expect_str_eq(nn_text_clean(arena, cases[i][0]), cases[i][1], "case %zu", i);
  nn_arena_free(arena);
}

Test(origin, of_a_group) {
  static const char text[] =
      "nncc 1\nconst $c : f32[1] = [2]\ngraph @main(%x: f32[4]) -> (f32[4]) {\n"
      "  %0 = fused %x, $c {body=@k} : f32[4] loc \"last\" \"Relu\"\n  return %0\n}\n"
      "graph @k(%a: f32[4], %b: f32[1]) -> (f32[4]) {\n  %0 = broadcast %b {dims=[4]} : f32[4] loc \"elsewhere\"\n"
      "  %1 = mul %a, %0 : f32[4] loc \"scale\" \"Mul\"\n  %2 = neg %1 : f32[4] loc \"scale\" \"Mul\"\n"
      "  %3 = relu %2 : f32[4] loc \"last\" \"Relu\"\n  return %3\n}\n";
  nn_module *m = nn_text_parse("case.nn", text, strlen(text));
  cr_assert_eq(m->diags.nerrors, 0, "%s", m->diags.count ? m->diags.items[0].message : "");
  nn_origins all = nn_op_origins(m->main->first, m->arena);
  cr_assert_eq(all.count, 2);
  cr_expect_str_eq(all.items[0].node, "scale");
  cr_expect_str_eq(all.items[0].op, "Mul");
  cr_expect_str_eq(all.items[1].node, "last");
  nn_module_free(m);
}
