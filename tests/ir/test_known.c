/* Known contents: single elements against the arithmetic of their types, and how they move. */
#include "ir/ir.h"
#include <criterion/criterion.h>
#include <string.h>

typedef struct known_case {
  const char *params, *lines, *elems;
} known_case;

/* The elems of %y as text, "?" if unknown. */
static char *elems_text(nn_arena *arena, const nn_value *y) {
  int64_t count;
  if (!y->elems) return nn_sprintf(arena, "?");
  cr_assert(nn_type_static_count(y->type, &count));
  char *text = nn_sprintf(arena, "%s", "");
  for (int64_t i = 0; i < count; i++)
    text = nn_sprintf(arena, "%s%s%s", text, i ? ", " : "", nn_dim_text(arena, y->elems[i]));
  return text;
}

static void check_known(const known_case *c) {
  nn_arena *arena = nn_arena_new();
  char *text = nn_sprintf(arena,
                          "nncc 1\nsymbol N\nsymbol S min -5 max 5\nsymbol B max 200\n%s"
                          "graph @main(%%p: f32[]) -> () {\n%s\n  return\n}\n",
                          c->params, c->lines);
  nn_module *m = nn_text_parse("case.nn", text, strlen(text));
  cr_assert_eq(m->diags.nerrors, 0, "%s: %s", c->lines, m->diags.count ? m->diags.items[0].message : "");
  const char *found = elems_text(arena, m->main->last->prev->out[0]);
  cr_expect_str_eq(found, c->elems, "%s: found %s, expected %s", c->lines, found, c->elems);
  nn_module_free(m);
  nn_arena_free(arena);
}

#define CHECK(cases)                                                                                                   \
  for (size_t i = 0; i < sizeof(cases) / sizeof *(cases); i++) check_known(&(cases)[i])

#define AB(t, a, b) "const $a : " t "[3] = [" a "]\nconst $b : " t "[3] = [" b "]\n"

Test(known, numbers_wrap_as_their_type) {
  static const known_case cases[] = {
      {AB("u8", "200, 255, 0", "100, 1, 1"), "%y = add $a, $b : u8[3]", "44, 0, 1"},
      {AB("u8", "0, 3, 5", "1, 3, 6"), "%y = sub $a, $b : u8[3]", "255, 0, 255"},
      {AB("i8", "127, -128, 100", "1, -1, 2"), "%y = add $a, $b : i8[3]", "-128, 127, 102"},
      {AB("i8", "-128, 7, -7", "-1, 0, 2"), "%y = div $a, $b : i8[3]", "-128, 0, -3"},
      {AB("i32", "2147483647, -7, 7", "2, 2, -2"), "%y = mul $a, $b : i32[3]", "-2, -14, -14"},
      {AB("i64", "-7, 7, -7", "2, -2, -2"), "%y = mod $a, $b : i64[3]", "1, -1, -1"},
      {AB("i64", "-7, 7, -7", "2, -2, -2"), "%y = fmod $a, $b : i64[3]", "-1, 1, -1"},
      {AB("i64", "1, 1, 1", "1, 0, 1"), "%y = mod $a, $b : i64[3]", "?"},
      {AB("u64", "0, 1, 2", "1, 1, 1"), "%y = sub $a, $b : u64[3]", "?"},
      {AB("i64", "-9223372036854775808, 1, 2", "-1, 1, 1"), "%y = div $a, $b : i64[3]", "-9223372036854775808, 1, 2"},
      {AB("i64", "1, 2, 3", "3, 2, 1"), "%y = lt $a, $b : bool[3]", "1, 0, 0"},
      {AB("i64", "1, 2, 3", "3, 2, 1"), "%y = le $a, $b : bool[3]", "1, 1, 0"},
      {AB("i64", "300, -1, 0", "0, 0, 0"), "%y = cast $a {to=u8} : u8[3]", "44, 255, 0"},
      {AB("i64", "300, -1, 0", "0, 0, 0"), "%y = cast $a {to=bool} : bool[3]", "1, 1, 0"},
      {AB("i64", "300, -1, 0", "0, 0, 0"), "%y = cast $a {to=f32} : f32[3]", "?"},
      {AB("i64", "3, -1, 0", "0, 0, 0"), "%y = sign $a : i64[3]", "1, -1, 0"},
  };
  CHECK(cases);
}

#define SHAPE(dims) "  %a = shape_of {dims=[" dims "]} : i64[3]\n"
#define TWO "const $b : i64[3] = [2, 2, 2]\n"

Test(known, expressions) {
  static const known_case cases[] = {
      {"", "  %y = shape_of {dims=[N, 3, 2*N]} : i64[3]", "N, 3, 2*N"},
      {TWO, SHAPE("N, 3, 2*N") "  %y = add %a, $b : i64[3]", "N + 2, 5, 2*N + 2"},
      {TWO, SHAPE("N, 3, 2*N") "  %y = div %a, $b : i64[3]", "N floordiv 2, 1, N"},
      {TWO, SHAPE("S, 3, 4") "  %y = div %a, $b : i64[3]", "?"},
      {TWO, SHAPE("S, 3, 4") "  %y = mod %a, $b : i64[3]", "S mod 2, 1, 0"},
      {TWO, SHAPE("S, 3, 4") "  %y = fmod %a, $b : i64[3]", "?"},
      {TWO, SHAPE("N, N + 3, 0") "  %c = lt %a, $b : bool[3]\n  %y = select %c, %a, $b : i64[3]",
       "N*min(max(0, -N + 2), 1) - 2*min(max(0, -N + 2), 1) + 2, 2, 0"},
      {TWO, SHAPE("B, 3, 4") "  %c = cast %a {to=u8} : u8[3]\n  %y = copy %c : u8[3]", "B, 3, 4"},
      {TWO, SHAPE("N, 3, 4") "  %y = cast %a {to=u8} : u8[3]", "?"},
      {TWO, SHAPE("B, 3, 4") "  %y = cast %a {to=i8} : i8[3]", "?"},
      {TWO, SHAPE("N, 3, 4") "  %y = cast %a {to=i32} : i32[3]", "N, 3, 4"},
      {TWO, SHAPE("N, 3, 4") "  %y = cast %a {to=u64} : u64[3]", "N, 3, 4"},
      {TWO, SHAPE("N - 1, 3, 4") "  %y = cast %a {to=u64} : u64[3]", "?"},
      {TWO, SHAPE("N + 1, 0, 4") "  %y = cast %a {to=bool} : bool[3]", "1, 0, 1"},
  };
  CHECK(cases);
}

Test(known, movement) {
  static const known_case cases[] = {
      {"const $i : i64[] = [1]\n", SHAPE("N, 3, 2*N") "  %y = gather %a, $i : i64[]", "3"},
      {"const $i : i64[2] = [-1, 0]\n", SHAPE("N, 3, 2*N") "  %y = gather %a, $i : i64[2]", "2*N, N"},
      {"const $i : i64[1] = [3]\n", SHAPE("N, 3, 2*N") "  %y = gather %a, $i : i64[1]", "?"},
      {"const $i : i64[2] = [-1, 0]\n", SHAPE("N, 3, 4") "  %y = gather_elements %a, $i : i64[2]", "4, N"},
      {"const $i : i64[1] = [7]\n", SHAPE("N, 3, 4") "  %y = concat $i, %a {axis=0} : i64[4]", "7, N, 3, 4"},
      {"", SHAPE("N, 3, 4") "  %y = slice %a {starts=[2], steps=[-2], dims=[2]} : i64[2]", "4, N"},
      {"", SHAPE("N, 3, 4") "  %r = reshape %a {dims=[3,1]} : i64[3,1]\n  %y = transpose %r {perm=[1,0]} : i64[1,3]",
       "N, 3, 4"},
      {"", SHAPE("N, 3, 4") "  %y = broadcast %a {dims=[2,3]} : i64[2,3]", "N, 3, 4, N, 3, 4"},
      {"", SHAPE("N, 3, 4") "  %y = tile %a {repeats=[2]} : i64[6]", "N, 3, 4, N, 3, 4"},
      {"const $v : i64[] = [9]\n", SHAPE("N, 3, 4") "  %y = pad %a, $v {before=[1], after=[-1]} : i64[3]", "9, N, 3"},
      {"", "  %y = iota {dtype=i32, dims=[2,3], axis=1} : i32[2,3]", "0, 1, 2, 0, 1, 2"},
      {"const $m : i64[2,3] = [1, 2, 3, 4, 5, 6]\n", "  %y = transpose $m {perm=[1,0]} : i64[3,2]", "1, 4, 2, 5, 3, 6"},
      {"const $m : i64[2,3] = [1, 2, 3, 4, 5, 6]\n", "  %y = concat $m, $m {axis=1} : i64[2,6]",
       "1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6"},
      {"const $e : i64[0] = []\n", "  %y = concat $e, $e {axis=0} : i64[0]", ""},
      {"", "  %y = slice %p {} : f32[]", "?"},
  };
  CHECK(cases);
}

Test(known, sums) {
  static const known_case cases[] = {
      {"", SHAPE("N, 3, 4") "  %y = reduce_prod %a {axes=[0], keepdims=0} : i64[]", "12*N"},
      {"", SHAPE("N, 3, 4") "  %y = reduce_sum %a {axes=[0]} : i64[1]", "N + 7"},
      {"", SHAPE("N, N + 1, 4") "  %y = reduce_max %a {axes=[0]} : i64[1]", "max(N + 1, 4)"},
      {"const $m : i64[2,3] = [1, 2, 3, 4, 5, 6]\n", "  %y = reduce_sum $m {axes=[0]} : i64[1,3]", "5, 7, 9"},
      {"const $m : i64[2,3] = [1, 2, 3, 4, 5, 6]\n", "  %y = reduce_min $m {axes=[1], keepdims=0} : i64[2]", "1, 4"},
      {"const $e : i64[0] = []\n", "  %y = reduce_prod $e {axes=[0], keepdims=0} : i64[]", "1"},
      {"const $e : i64[0] = []\n", "  %y = reduce_max $e {axes=[0], keepdims=0} : i64[]", "?"},
      {"", SHAPE("N, 3, 4") "  %y = cum_sum %a {axis=0} : i64[3]", "N, N + 3, N + 7"},
      {"", SHAPE("N, 3, 4") "  %y = cum_sum %a {axis=0, exclusive=1, reverse=1} : i64[3]", "7, 4, 0"},
  };
  CHECK(cases);
}

/* ---- expressions agree with numbers ---------------------------------------------------------------- */

/* The same random integer graph on shape_of {N, M, K - 2, 3} and on its numbers: what the expressions
   evaluate to must be what the numbers give. */

enum { POOL = 24, NSYMBOLS = 3 };
static const int64_t symbol_values[NSYMBOLS] = {7, 0, 2};

static uint64_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}

static nn_value *random_op(nn_builder *b, nn_value **pool, int count, uint64_t *state) {
  static const nn_opcode binary[] = {NN_OP_ADD, NN_OP_SUB,  NN_OP_MUL, NN_OP_DIV,
                                     NN_OP_MOD, NN_OP_FMOD, NN_OP_MIN, NN_OP_MAX};
  static const nn_opcode unary[] = {NN_OP_NEG, NN_OP_ABS, NN_OP_SIGN, NN_OP_RELU};
  static const nn_opcode compare[] = {NN_OP_EQ, NN_OP_NE, NN_OP_LT, NN_OP_LE};
  static const nn_dtype types[] = {NN_I64, NN_I32, NN_U8, NN_I8, NN_BOOL, NN_U64};
  nn_module *m = b->graph->module;
  nn_value *x = pool[next_random(state) % (unsigned)count], *y = pool[next_random(state) % (unsigned)count];
  uint64_t pick = next_random(state);
  const int64_t axis = 0;
  switch (next_random(state) % 8) {
  case 0: return nn_b_unary(b, unary[pick % 4], x);
  case 1: return nn_b_select(b, nn_b_binary(b, compare[pick % 4], x, y), x, y);
  case 2: return nn_b_cast(b, nn_b_cast(b, x, types[pick % 6]), NN_I64);
  case 3: {
    nn_value *total = nn_b_reduce(b, pick % 2 ? NN_OP_REDUCE_SUM : NN_OP_REDUCE_MAX, x, &axis, 1, true);
    return nn_b_broadcast(b, total, 1, x->type.dims);
  }
  case 4: return nn_b_slice(b, x, 0, nn_dim_const(m, 3), nn_dim_const(m, 4), nn_dim_const(m, -1));
  default: return nn_b_binary(b, binary[pick % 8], x, y);
  }
}

static nn_module *random_graph(uint64_t seed, bool is_symbolic, nn_value **pool) {
  static const char *const names[NSYMBOLS] = {"N", "M", "K"};
  nn_module *m = nn_module_new(NULL);
  nn_builder b = {.graph = nn_graph_new(m, "main"), .fold = false};
  nn_dim dims[4];
  for (int i = 0; i < NSYMBOLS; i++) {
    nn_dim symbol = nn_dim_symbol(m, names[i]);
    dims[i] = is_symbolic ? symbol : nn_dim_const(m, symbol_values[i]);
  }
  m->symbols[0]->max = 100;
  dims[2] = nn_dim_sub(m, dims[2], nn_dim_const(m, 2));
  dims[3] = nn_dim_const(m, 3);
  const int64_t numbers[4] = {-2, 0, 1, 5};
  pool[0] = nn_b_dims(&b, dims, 4);
  pool[1] = nn_b_ints(&b, NN_I64, numbers, 4);
  for (int i = 2; i < POOL; i++) {
    pool[i] = random_op(&b, pool, i, &seed);
    cr_assert(pool[i], "%s", m->diags.count ? m->diags.items[0].message : "");
  }
  return m;
}

static int compare_elems(const nn_value *symbolic, const nn_value *number, uint64_t seed) {
  int compared = 0;
  for (int i = 0; symbolic->elems && number->elems && i < 4; i++) {
    int64_t found;
    if (!nn_dim_eval(symbolic->elems[i], symbol_values, &found)) continue;
    cr_expect_eq(found, nn_dim_value(number->elems[i]), "seed %llu, element %d: %lld, expected %lld",
                 (unsigned long long)seed, i, (long long)found, (long long)nn_dim_value(number->elems[i]));
    compared++;
  }
  return compared;
}

Test(known, expressions_agree_with_numbers) {
  int compared = 0;
  for (uint64_t seed = 1; seed <= 60; seed++) {
    nn_value *symbolic[POOL], *numbers[POOL];
    nn_module *a = random_graph(seed, true, symbolic), *b = random_graph(seed, false, numbers);
    for (int i = 0; i < POOL; i++) compared += compare_elems(symbolic[i], numbers[i], seed);
    nn_module_free(a);
    nn_module_free(b);
  }
  cr_expect_gt(compared, 60 * 10, "only %d elements were known in both", compared);
}
