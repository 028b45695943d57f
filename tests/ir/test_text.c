/* Text of the graph IR: what is printed is read back, errors say where, and no text crashes the parser. */
#include <criterion/criterion.h>

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/ir.h"

/* In the form that printing gives. */
static const char plain[] =
    "nncc 1\n"
    "symbol N min 1 max 8\n"
    "symbol d0 data\n"
    "symbol \"a b\" max 7\n"
    "const $w : f32[2,3,1,1] = [1, 2, 3, 0.1, -0.25, 1e-10]\n"
    "const $\"x/y:0\" : i64[2] = [-9223372036854775808, 9223372036854775807]\n"
    "const $0 : f4e2m1[3] = [0.5, -6, 1.5]\n"
    "const $\"0\" : f32[] = [-0]\n"
    "const $h : bf16[2,2] = [inf, -inf, nan, 0.3]\n"
    "const $b : bool[3] = [1, 0, 1]\n"
    "const $u : u64[1] = [18446744073709551615]\n"
    "const $u4 : u4[3] = [15, 0, 7]\n"
    "const $i2 : i2[5] = [-2, 1, 0, -1, 1]\n"
    "const $payload : f32[1] = hex \"0100c07f\"\n"
    "const $c : c64[1] = hex \"0000803f00000040\"\n"
    "const $e : f32[0,3] = []\n"
    "state $s : f32[N]\n"
    "state $t : f32[2] = [1, 2]\n"
    "\n"
    "graph @main(%x: f32[N,3,8,8], %\"7\": f16[], %0: i64[\"a b\"]) -> (f32[N,2,4,4], f32[N,2,8,4]) {\n"
    "  %y = conv %x, $w {strides=[2, 2]} : f32[N,2,4,4] loc \"Conv_0\" \"Conv\"\n"
    "  %1 = relu %y : f32[N,2,4,4] loc \"Relu \\\"1\\\"\"\n"
    "  %f = fused %1 {body=@\"main body\"} : f32[N,2,4,4]\n"
    "  %c = concat %f, %y {axis=2} : f32[N,2,8,4]\n"
    "  %values, %i = top_k %c {k=[4], axis=3} : f32[N,2,8,4], i64[N,2,8,4]\n"
    "  %r = resize %1, _ {dims=[N, 2, 4, 4], scales=[1, 1, 1, 1], mode=\"cubic\", cubic_a=-0.1} : f32[N,2,4,4]\n"
    "  %q = reshape %1 {dims=[8*N, 4]} : f32[8*N,4]\n"
    "  %2 = shape_of {dims=[d0]} : i64[1]\n"
    "  bind_dims %2 {dims=[d0]}\n"
    "  %3 = cast %\"7\" {to=f8e4m3fn} : f8e4m3fn[] loc \"\" \"Cast\"\n"
    "  return %1, %c {names=[\"a\", \"b\"]}\n"
    "}\n"
    "\n"
    "graph @\"main body\"(%a: f32[N,2,4,4]) -> (f32[N,2,4,4]) {\n"
    "  %0 = exp %a : f32[N,2,4,4]\n"
    "  return %0\n"
    "}\n";

static nn_module *parse(const char *text) { return nn_text_parse("net.nn", text, strlen(text)); }

static void print_errors(const nn_module *m) {
  for (int i = 0; i < m->diags.count; i++) nn_diag_print(stderr, &m->diags.items[i]);
}

static void expect_round_trip(const char *text) {
  nn_module *m = parse(text);
  print_errors(m);
  cr_assert_eq(m->diags.nerrors, 0);
  cr_assert_eq(nn_verify(m), NN_OK);
  cr_assert_str_eq(nn_text_string(m->arena, m), text);
  nn_module_free(m);
}

Test(text, what_is_printed_is_read_back) { expect_round_trip(plain); }

Test(text, an_empty_graph_is_a_module) { expect_round_trip("nncc 1\n\ngraph @g() -> () {\n  return\n}\n"); }

Test(text, spacing_comments_and_order_are_free) {
  nn_module *m = parse("\n# first\n  nncc   1 # one\r\ngraph @main( %x :f32 [ 2 ] )->(f32[2]){\n\n # c\n%y=add "
                       "%x,$c:f32[2]\n return %y # r\n}\n"
                       "const $c:f32[2]=[1,2]\n");
  print_errors(m);
  cr_assert_eq(m->diags.nerrors, 0);
  cr_assert_str_eq(nn_text_string(m->arena, m),
                   "nncc 1\nconst $c : f32[2] = [1, 2]\n\ngraph @main(%x: f32[2]) -> (f32[2]) {\n"
                   "  %y = add %x, $c : f32[2]\n  return %y\n}\n");
  nn_module_free(m);
}

Test(text, clashing_names_are_told_apart) {
  nn_module *m = parse(
      "nncc 1\ngraph @g(%x: f32[2]) -> (f32[2]) {\n  %y = exp %x : f32[2]\n  %z = exp %y : f32[2]\n  return %z\n}\n");
  m->main->first->out[0]->name = "x";
  m->main->first->next->out[0]->name = "x";
  char *text = nn_text_string(m->arena, m);
  cr_assert(strstr(text, "%x.1 = exp %x :") && strstr(text, "%x.2 = exp %x.1 :"), "%s", text);
  expect_round_trip(text);
  nn_module_free(m);
}

Test(text, numbers_do_not_depend_on_the_locale) {
  setlocale(LC_ALL, "de_DE.UTF-8"); /* where there is none, this tests nothing */
  expect_round_trip(plain);
  setlocale(LC_ALL, "C");
}

/* ---- errors ----------------------------------------------------------------------------------------- */

static void expect_error(const char *text, const char *place, const char *message) {
  nn_module *m = parse(text);
  bool found = false;
  for (int i = 0; i < m->diags.count; i++) {
    const nn_diag *item = &m->diags.items[i];
    found |= item->file && strcmp(item->file, place) == 0 && strstr(item->message, message);
  }
  if (!found) print_errors(m);
  cr_expect(found, "expected %s: %s for\n%s", place, message, text);
  nn_module_free(m);
}

#define IN_GRAPH(line) "nncc 1\ngraph @g(%x: f32[2,3]) -> (f32[2,3]) {\n" line "\n  return %x\n}\n"

Test(text, errors_say_where_and_what) {
  expect_error("", "net.nn:1:1", "expected 'nncc 1'");
  expect_error("nncc 2\n", "net.nn:1:7", "found version 2, expected 1");
  expect_error("nncc 1\n", "net.nn:2:1", "there is no graph");
  expect_error("nncc 1\nfoo\n", "net.nn:2:1", "expected 'symbol', 'const', 'state' or 'graph'");
  expect_error("nncc 1\nsymbol N min 3 max 2\n", "net.nn:2:8", "min 3 is above max 2");
  expect_error(IN_GRAPH("  %y = foo %x : f32[2,3]"), "net.nn:3:8", "there is no operation 'foo'");
  expect_error(IN_GRAPH("  %y = exp %z : f32[2,3]"), "net.nn:3:12", "%z is not defined before its use");
  expect_error(IN_GRAPH("  %y = exp $z : f32[2,3]"), "net.nn:3:12", "$z is not defined before its use");
  expect_error(IN_GRAPH("  %y = exp %x : f32[2,4]"), "net.nn:3:15",
               "declared f32[2,4], expected f32[2,3] by the rule of exp");
  expect_error(IN_GRAPH("  %y = exp %x : f16[2,3]"), "net.nn:3:15", "declared f16[2,3], expected f32[2,3]");
  expect_error(IN_GRAPH("  %y = exp %x, %x : f32[2,3]"), "net.nn:3:8", "2 operands");
  expect_error(IN_GRAPH("  %y, %z = exp %x : f32[2,3], f32[2,3]"), "net.nn:3:12", "2 results of exp, expected 1");
  expect_error(IN_GRAPH("  %y = exp %x"), "net.nn:3:14", "found the end of the line, expected ':'");
  expect_error(IN_GRAPH("  %y = exp _ : f32[2,3]"), "net.nn:3:8", "operand 0");
  expect_error(IN_GRAPH("  %x = exp %x : f32[2,3]"), "net.nn:3:3", "%x is defined twice");
  expect_error(IN_GRAPH("  %y = softmax %x {axes=1} : f32[2,3]"), "net.nn:3:20",
               "softmax has no attribute 'axes', expected one of: axis");
  expect_error(IN_GRAPH("  %y = softmax %x {axis=1, axis=1} : f32[2,3]"), "net.nn:3:28",
               "attribute 'axis' is given twice");
  expect_error(IN_GRAPH("  %y = softmax %x {axis=x} : f32[2,3]"), "net.nn:3:25", "found 'x', expected an integer");
  expect_error(IN_GRAPH("  %y = softmax %x {axis=99999999999999999999} : f32[2,3]"), "net.nn:3:25", "beyond 64 bits");
  expect_error(IN_GRAPH("  %y = softmax %x {axis=7} : f32[2,3]"), "net.nn:3:8", "axis is 7");
  expect_error(IN_GRAPH("  %y = cast %x {to=f33} : f32[2,3]"), "net.nn:3:20", "found 'f33', expected an element type");
  expect_error(IN_GRAPH("  %y = exp %x : f32[2,"), "net.nn:3:23", "expected a dimension");
  expect_error(IN_GRAPH("  %y = exp %x : f32[2,3] f"), "net.nn:3:26", "found 'f', expected the end of the line");
  expect_error(IN_GRAPH("  %y = exp %x : f32[2,3] loc \"abc"), "net.nn:3:30", "quote that does not end");
  expect_error("nncc 1\ngraph @g() -> () {\n", "net.nn:2:1", "the text ends before the '}'");
  expect_error("nncc 1\ngraph @g() -> () {\n}\n", "net.nn:2:9", "does not end with a return");
  expect_error("nncc 1\ngraph @g(%x: f32[2]) -> (f16[2]) {\n  return %x\n}\n", "net.nn:2:9",
               "declared f16[2], found f32[2]");
  expect_error("nncc 1\ngraph @g(%x: f32[2]) -> () {\n  return %x\n}\n", "net.nn:2:9",
               "returns 1 values, its header declares 0");
  expect_error("nncc 1\ngraph @g() -> () {\n  return\n}\ngraph @g() -> () {\n  return\n}\n", "net.nn:5:8",
               "@g is defined twice");
  expect_error("nncc 1\ngraph @g() -> () {\n  return\n  return\n}\n", "net.nn:4:3", "after the return");
}

Test(text, errors_of_constants) {
  expect_error("nncc 1\nconst $a : f32[2]\n", "net.nn:2:18", "a constant without contents");
  expect_error("nncc 1\nconst $a : f32[2] = [1]\n", "net.nn:2:23", "expected ','");
  expect_error("nncc 1\nconst $a : f32[2] = [1,2,3]\n", "net.nn:2:25", "expected ']' after 2 elements");
  expect_error("nncc 1\nconst $a : f32[N] = [1]\n", "net.nn:2:21", "static dims");
  expect_error("nncc 1\nconst $a : f32[1000000000000] = [1]\n", "net.nn:2:33",
               "the text ends before the 1000000000000 elements");
  expect_error("nncc 1\nconst $a : f32[9223372036854775807,3] = hex \"\"\n", "net.nn:2:41", "static dims");
  expect_error("nncc 1\nconst $a : i8[1] = [128]\n", "net.nn:2:21", "128 is no value of i8");
  expect_error("nncc 1\nconst $a : u8[1] = [-1]\n", "net.nn:2:21", "-1 is no value of u8");
  expect_error("nncc 1\nconst $a : i4[1] = [-9]\n", "net.nn:2:21", "-9 is no value of i4");
  expect_error("nncc 1\nconst $a : bool[1] = [2]\n", "net.nn:2:23", "2 is no value of bool");
  expect_error("nncc 1\nconst $a : f16[1] = [70000]\n", "net.nn:2:22", "70000 is no value of f16");
  expect_error("nncc 1\nconst $a : i8[2] = hex \"00\"\n# a longer text\n", "net.nn:2:27", "expected 2 bytes");
  expect_error("nncc 1\nconst $a : i8[1] = hex \"0000\"\n", "net.nn:2:27", "expected '\"'");
  expect_error("nncc 1\nconst $a : string[1] = [1]\n", "net.nn:2:24", "string");
  expect_error("nncc 1\nconst $a : c64[1] = [1]\n", "net.nn:2:21", "expected hex");
  expect_error("nncc 1\nconst $a : f32[] = [1]\nstate $a : f32[]\n", "net.nn:3:8", "$a is defined twice");
  expect_error("nncc 1\nconst $a : f32[1] = file \"/etc/passwd\" 0\n", "net.nn:2:26", "relative path");
  expect_error("nncc 1\nconst $a : f32[1] = file \"a/../../b\" 0\n", "net.nn:2:26", "relative path");
  expect_error("nncc 1\nconst $a : f32[1] = file \"no such file\" 0\n", "net.nn:2:26", "is not there");
}

Test(text, errors_of_graphs_that_name_graphs) {
  expect_error("nncc 1\ngraph @g() -> () {\n  fused {body=@h}\n  return\n}\n", "net.nn:3:17", "@h is not defined");
  expect_error("nncc 1\ngraph @g() -> () {\n  fused {body=@g}\n  return\n}\n", "net.nn:3:17", "@g contains itself");
  expect_error("nncc 1\ngraph @g() -> () {\n  fused {body=@h}\n  return\n}\ngraph @h() -> () {\n  fused {body=@g}\n  "
               "return\n}\n",
               "net.nn:7:17", "@g contains itself");
}

Test(text, a_value_with_an_error_is_reported_once) {
  nn_module *m = parse(
      "nncc 1\ngraph @g(%x: f32[2]) -> (f32[2]) {\n  %y = foo %x : f32[2]\n  %z = exp %y : f32[2]\n  return %z\n}\n");
  cr_assert_eq(m->diags.nerrors, 1);
  nn_module_free(m);
}

Test(text, the_line_and_a_caret_are_shown) {
  nn_module *m = parse(IN_GRAPH("  %y = foo %x : f32[2,3]"));
  cr_assert_str_eq(m->diags.items[0].message, "there is no operation 'foo'\n    %y = foo %x : f32[2,3]\n         ^");
  nn_module_free(m);
}

Test(text, errors_are_collected_but_not_without_end) {
  size_t length = 0, cap = 200000;
  char *text = malloc(cap);
  length += (size_t)sprintf(text, "nncc 1\n");
  while (length < cap - 100) length += (size_t)sprintf(text + length, "nonsense\n");
  nn_module *m = parse(text);
  cr_assert(m->diags.nerrors > 10 && m->diags.nerrors < 100);
  nn_module_free(m);
  free(text);
}

/* ---- constants in files ------------------------------------------------------------------------------ */

static char folder[] = "/tmp/nncc_text_XXXXXX";

static char *path_of(nn_arena *arena, const char *name) { return nn_sprintf(arena, "%s/%s", folder, name); }

static void write_file(const char *path, const void *bytes, size_t size) {
  FILE *f = fopen(path, "wb");
  cr_assert(f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
}

Test(text, large_constants_stay_in_their_file) {
  nn_arena *arena = nn_arena_new();
  cr_assert(mkdtemp(folder));
  float values[102];
  for (int i = 0; i < 102; i++) values[i] = (float)i;
  char *data = path_of(arena, "net.bin"), *link = path_of(arena, "link.bin"), *net = path_of(arena, "net.nn");
  write_file(data, values, sizeof values);
  cr_assert_eq(symlink("/etc/hostname", link), 0);
  const char text[] = "nncc 1\nconst $w : f32[100] = file \"net.bin\" 8\n\ngraph @g() -> () {\n  return\n}\n";
  nn_module *m = nn_text_parse(net, text, strlen(text));
  print_errors(m);
  cr_assert_eq(m->diags.nerrors, 0);
  cr_assert_eq(nn_load_f64(NN_F32, m->consts[0]->tensor->data, 99), 101.0);
  cr_assert_str_eq(nn_text_string(arena, m), text);
  nn_module_free(m);

  const char *bad[] = {"nncc 1\nconst $w : f32[101] = file \"net.bin\" 8\n",
                       "nncc 1\nconst $w : u8[1] = file \"net.bin\" 18446744073709551615\n",
                       "nncc 1\nconst $w : u8[1] = file \"link.bin\" 0\n", "nncc 1\nconst $w : u8[1] = file \".\" 0\n"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    m = nn_text_parse(net, bad[i], strlen(bad[i]));
    cr_expect_eq(m->diags.nerrors, 1, "%s", bad[i]);
    nn_module_free(m);
  }
  unlink(data);
  unlink(link);
  rmdir(folder);
  nn_arena_free(arena);
}

Test(text, large_constants_without_a_file_are_hex) {
  nn_module *m = parse("nncc 1\n\ngraph @g() -> () {\n  return\n}\n");
  int64_t dims[] = {65};
  nn_tensor *t = nn_tensor_new(m, nn_type_static(m, NN_F32, 1, dims));
  nn_store_f64(NN_F32, t->owned, 0, 1.0);
  nn_module_const(m, "w", t);
  char *text = nn_text_string(m->arena, m);
  cr_assert(strstr(text, "const $w : f32[65] = hex \"0000803f00000000"));
  expect_round_trip(text);
  nn_module_free(m);
}

/* ---- hostile text ------------------------------------------------------------------------------------ */

static uint64_t seed = 1;

static size_t draw(size_t n) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (size_t)(seed >> 33) % n;
}

static void mutate(char *text, size_t *length) {
  static const char bytes[] = "%$@\"\\{}[](),:=-+*_#\n 019aNx.\0\377";
  size_t at = draw(*length);
  switch (draw(4)) {
  case 0: text[at] = bytes[draw(sizeof bytes)]; break;
  case 1: /* drop a piece */ {
    size_t n = draw(*length - at < 20 ? *length - at : 20);
    memmove(text + at, text + at + n, *length - at - n);
    *length -= n;
    break;
  }
  case 2: /* repeat a piece elsewhere */ {
    size_t from = draw(*length), n = draw(40);
    if (from + n <= *length && at + n <= *length) memmove(text + at, text + from, n);
    break;
  }
  default: /* swap digits for large numbers */
    for (; at < *length && (text[at] < '0' || text[at] > '9'); at++) {
    }
    for (; at < *length && draw(20); at++) text[at] = '9';
  }
}

Test(text, no_text_crashes_the_parser, .timeout = 120) {
  char text[sizeof plain];
  for (int round = 0; round < 4000; round++) {
    size_t length = sizeof plain - 1;
    memcpy(text, plain, sizeof plain);
    for (size_t n = 1 + draw(4); n; n--) mutate(text, &length);
    nn_module *m = nn_text_parse("net.nn", text, length);
    if (!m->diags.nerrors && nn_verify(m) == NN_OK) {
      char *once = nn_text_string(m->arena, m);
      nn_module *again = parse(once);
      cr_assert(!again->diags.nerrors && strcmp(nn_text_string(again->arena, again), once) == 0, "%s", once);
      nn_module_free(again);
    }
    nn_module_free(m);
  }
}

Test(text, every_prefix_is_an_error_not_a_crash) {
  for (size_t length = 0; length + 2 < sizeof plain; length++) {
    nn_module *m = nn_text_parse(NULL, plain, length);
    cr_assert_gt(m->diags.nerrors, 0);
    nn_module_free(m);
  }
}
