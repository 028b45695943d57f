/* Building expressions: index algebra, ranges, strides, guards that disappear. */
#include "ir/loop.h"

#include <criterion/criterion.h>

typedef struct fixture {
  nn_module *m;
  nn_kernel *k;
} fixture;

static fixture f;

static void set_up(void) {
  f.m = nn_module_new("test");
  f.k = nn_kernel_new(f.m, "k");
}

static void tear_down(void) { nn_module_free(f.m); }

TestSuite(loop_build, .init = set_up, .fini = tear_down);

static nn_x *num(int64_t v) { return nn_x_int(f.k, v); }
static nn_x *range(const char *name, int64_t n) { return nn_loop_range(f.k, NN_FOR, name, n); }
static nn_x *symbol(const char *name) { return nn_x_dim(f.k, nn_dim_symbol(f.m, name)); }
static bool is_true(nn_x *x) { return x->op == NN_X_CONST && x->dtype == NN_BOOL && x->i == 1; }
static bool is_false(nn_x *x) { return x->op == NN_X_CONST && x->dtype == NN_BOOL && x->i == 0; }
static nn_x *lt(nn_x *a, nn_x *b) { return nn_x_binary(f.k, NN_X_LT, a, b); }
static nn_x *le(nn_x *a, nn_x *b) { return nn_x_binary(f.k, NN_X_LE, a, b); }

Test(loop_build, equal_expressions_are_one_node) {
  nn_x *i = range("i", 10), *j = range("j", 10);
  cr_assert(nn_xi_add(f.k, i, j) == nn_xi_add(f.k, j, i));
  cr_assert(nn_xi_mul(f.k, i, j) == nn_xi_mul(f.k, j, i));
  cr_assert(nn_xi_addc(f.k, nn_xi_addc(f.k, i, 3), 4) == nn_xi_addc(f.k, i, 7));
  cr_assert(nn_xi_mulc(f.k, nn_xi_mulc(f.k, i, 3), 4) == nn_xi_mulc(f.k, i, 12));
  cr_assert(nn_xi_sub(f.k, nn_xi_add(f.k, i, j), i) == j);
  cr_assert(nn_xi_mulc(f.k, i, 0) == num(0));
  cr_assert(nn_xi_mulc(f.k, i, 1) == i);
}

Test(loop_build, loads_are_never_merged) {
  nn_buf *a = nn_kernel_buf(f.k, "a", NN_BUF_PARAM, NN_F32, nn_dim_const(f.m, 4), false);
  cr_assert(nn_x_load(f.k, a, num(0), NULL) != nn_x_load(f.k, a, num(0), NULL));
}

Test(loop_build, division_splits_by_range) {
  nn_x *i = range("i", 100), *l = range("l", 8);
  nn_x *index = nn_xi_add(f.k, nn_xi_mulc(f.k, i, 8), l);
  cr_assert(nn_xi_floordiv(f.k, index, num(8)) == i);
  cr_assert(nn_xi_mod(f.k, index, num(8)) == l);
  cr_assert(nn_xi_floordiv(f.k, index, num(16)) == nn_xi_floordiv(f.k, i, num(2)));
  nn_x *mod16 = nn_xi_add(f.k, nn_xi_mulc(f.k, nn_xi_mod(f.k, i, num(2)), 8), l);
  cr_assert(nn_xi_mod(f.k, index, num(16)) == mod16);
  cr_assert(nn_xi_mod(f.k, index, num(4)) == nn_xi_mod(f.k, l, num(4)));
}

Test(loop_build, a_reshape_that_changes_nothing_disappears) {
  nn_x *i = range("i", 1000), *w = num(7), *h = num(5);
  nn_x *row = nn_xi_floordiv(f.k, i, w);
  nn_x *flat = nn_xi_add(f.k, nn_xi_mul(f.k, nn_xi_floordiv(f.k, row, h), h), nn_xi_mod(f.k, row, h));
  flat = nn_xi_add(f.k, nn_xi_mul(f.k, flat, w), nn_xi_mod(f.k, i, w));
  cr_assert(flat == i);
}

Test(loop_build, a_symbolic_reshape_disappears_too) {
  nn_x *n = symbol("N"), *i = nn_loop_begin(f.k, NN_FOR, "i", num(0), nn_xi_mul(f.k, n, num(3)));
  nn_x *back = nn_xi_add(f.k, nn_xi_mul(f.k, nn_xi_floordiv(f.k, i, n), n), nn_xi_mod(f.k, i, n));
  cr_assert(back == i);
}

Test(loop_build, symbolic_rows_and_columns_divide) {
  nn_x *m = symbol("M"), *n = symbol("N");
  nn_x *r = nn_loop_begin(f.k, NN_FOR, "r", num(0), m), *c = nn_loop_begin(f.k, NN_FOR, "c", num(0), n);
  nn_x *flat = nn_xi_add(f.k, nn_xi_mul(f.k, r, n), c);
  cr_assert(nn_xi_floordiv(f.k, flat, n) == r);
  cr_assert(nn_xi_mod(f.k, flat, n) == c);
}

Test(loop_build, guards_that_hold_disappear) {
  nn_x *n = symbol("N"), *blocks = nn_xi_floordiv(f.k, n, num(8));
  nn_x *i = nn_loop_begin(f.k, NN_FOR, "i", num(0), blocks), *l = nn_loop_range(f.k, NN_VECTOR, "l", 8);
  nn_x *index = nn_xi_add(f.k, nn_xi_mulc(f.k, i, 8), l);
  cr_assert(is_true(lt(index, n)));
  cr_assert(is_true(le(num(0), index)));
  cr_assert(is_false(lt(n, index)));
  cr_assert(nn_x_index(f.k, index, n, NULL) == index);
  cr_assert(!f.k->can_fail);
}

Test(loop_build, guards_of_tiles_disappear) {
  nn_x *n = symbol("N"), *blocks = nn_xi_floordiv(f.k, nn_xi_addc(f.k, n, 7), num(8));
  nn_x *b = nn_loop_begin(f.k, NN_FOR, "b", num(0), blocks), *lo = nn_xi_mulc(f.k, b, 8);
  nn_x *i = nn_loop_begin(f.k, NN_FOR, "i", lo, nn_xi_min(f.k, nn_xi_addc(f.k, lo, 8), n));
  cr_assert(is_true(lt(i, n)));
  nn_x *l = range("l", 8);
  cr_assert(!is_true(lt(nn_xi_add(f.k, lo, l), n)), "the last tile may be shorter");
}

Test(loop_build, guards_that_may_fail_stay) {
  nn_x *n = symbol("N"), *i = nn_loop_begin(f.k, NN_FOR, "i", num(0), n);
  cr_assert(!is_true(lt(nn_xi_addc(f.k, i, 1), n)) && !is_false(lt(nn_xi_addc(f.k, i, 1), n)));
  cr_assert(nn_x_index(f.k, nn_xi_addc(f.k, i, 1), n, NULL)->op == NN_X_INDEX);
  cr_assert(f.k->can_fail);
}

Test(loop_build, a_decided_if_keeps_its_live_side_only) {
  nn_buf *a = nn_kernel_buf(f.k, "a", NN_BUF_PARAM, NN_F32, nn_dim_const(f.m, 4), true);
  nn_if_begin(f.k, nn_x_iconst(f.k, NN_BOOL, 0));
  nn_fail_stmt(f.k, 5);
  nn_else(f.k);
  nn_store(f.k, a, num(1), nn_x_const(f.k, NN_F32, 2), NULL);
  nn_end(f.k);
  cr_assert(f.k->body.first->kind == NN_S_STORE && !f.k->body.first->next);
}

Test(loop_build, strides_see_through_lets) {
  nn_x *i = range("i", 10), *l = nn_loop_range(f.k, NN_VECTOR, "l", 8);
  nn_x *base = nn_let(f.k, nn_xi_mul(f.k, i, num(100)));
  nn_x *index = nn_let(f.k, nn_xi_add(f.k, base, nn_xi_mulc(f.k, l, 3)));
  int64_t stride;
  cr_assert(nn_x_stride(index, l->var, &stride) && stride == 3);
  cr_assert(nn_x_stride(index, i->var, &stride) && stride == 100);
  cr_assert(nn_x_stride(base, l->var, &stride) && stride == 0);
  cr_assert(nn_x_uses_var(index, l->var) && !nn_x_uses_var(base, l->var) && nn_x_uses_var(index, base->var));
  cr_assert(!nn_x_stride(nn_xi_floordiv(f.k, index, num(7)), l->var, &stride));
}

Test(loop_build, data_may_wrap_so_its_algebra_is_careful) {
  nn_buf *a = nn_kernel_buf(f.k, "a", NN_BUF_PARAM, NN_I64, nn_dim_const(f.m, 4), false);
  nn_x *x = nn_let(f.k, nn_x_load(f.k, a, num(0), NULL));
  nn_x *eight = nn_xi_mulc(f.k, x, 8);
  cr_assert(nn_xi_floordiv(f.k, eight, num(8)) != x);
  cr_assert(!is_true(lt(x, nn_xi_addc(f.k, x, 1))));
}

Test(loop_build, floats_keep_signed_zeros_and_nan) {
  nn_buf *a = nn_kernel_buf(f.k, "a", NN_BUF_PARAM, NN_F32, nn_dim_const(f.m, 4), false);
  nn_x *x = nn_let(f.k, nn_x_load(f.k, a, num(0), NULL));
  nn_x *zero = nn_x_const(f.k, NN_F32, 0), *one = nn_x_const(f.k, NN_F32, 1);
  cr_assert(nn_x_binary(f.k, NN_X_ADD, x, zero) != x, "-0 + 0 is 0");
  cr_assert(nn_x_binary(f.k, NN_X_MUL, x, zero) != zero);
  cr_assert(nn_x_binary(f.k, NN_X_SUB, x, zero) == x);
  cr_assert(nn_x_binary(f.k, NN_X_MUL, x, one) == x);
  cr_assert(!is_true(nn_x_binary(f.k, NN_X_EQ, x, x)), "NaN differs from itself");
}

Test(loop_build, names_are_unique_and_clean) {
  nn_x *a = range("i", 2), *b = range("i", 2), *c = range("a/b:0", 2);
  cr_assert_str_eq(a->var->name, "i");
  cr_assert_str_eq(b->var->name, "i_2");
  cr_assert_str_eq(c->var->name, "a_b_0");
}

/* ---- random index expressions against plain arithmetic -------------------------------------------------- */

typedef struct tree { nn_x *x; int64_t value[36]; bool ok; } tree; /* value at each (i, j) of a 6 x 6 box */

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint64_t next_random(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static int64_t floor_div(int64_t a, int64_t b) { return b == 0 ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0)); }
static int64_t floor_mod(int64_t a, int64_t b) { return b == 0 ? 0 : a - b * floor_div(a, b); }

static int64_t apply(nn_xop op, int64_t a, int64_t b) {
  switch (op) {
    case NN_X_ADD: return a + b;
    case NN_X_SUB: return a - b;
    case NN_X_MUL: return a * b;
    case NN_X_FLOORDIV: return floor_div(a, b);
    case NN_X_FLOORMOD: return floor_mod(a, b);
    case NN_X_DIV: return b == 0 ? 0 : a / b;
    case NN_X_REM: return b == 0 ? 0 : a % b;
    case NN_X_MIN: return a < b ? a : b;
    case NN_X_MAX: return a > b ? a : b;
    case NN_X_LT: return a < b;
    case NN_X_LE: return a <= b;
    case NN_X_EQ: return a == b;
    default: return a != b;
  }
}

static tree combine(nn_xop op, const tree *a, const tree *b) {
  tree r = {.x = nn_x_binary(f.k, op, a->x, b->x), .ok = true};
  for (int i = 0; i < 36; i++) {
    r.value[i] = apply(op, a->value[i], b->value[i]);
    r.ok &= r.value[i] < (1 << 20) && r.value[i] > -(1 << 20);
  }
  return r;
}

static tree constant(int64_t v) {
  tree r = {.x = num(v), .ok = true};
  for (int i = 0; i < 36; i++) r.value[i] = v;
  return r;
}

enum { KEPT = 24, COMPARED = 6 };

/* One kernel of random expressions in i in 0..6, j in 0..N (N is 6): what it stores must be what plain
   arithmetic gives, whatever was simplified. */
static void check_random_kernel(void) {
  static const nn_xop ops[] = {NN_X_ADD, NN_X_SUB, NN_X_MUL, NN_X_FLOORDIV, NN_X_FLOORMOD, NN_X_MIN, NN_X_MAX, NN_X_ADD, NN_X_MUL, NN_X_DIV, NN_X_REM,
                              NN_X_FLOORDIV, NN_X_FLOORMOD};
  tree pool[KEPT] = {{0}};
  nn_buf *out = nn_kernel_buf(f.k, "out", NN_BUF_PARAM, NN_I64, nn_dim_const(f.m, 36 * (KEPT + COMPARED)), true);
  nn_x *n = symbol("N"), *i = range("i", 6), *j = nn_loop_begin(f.k, NN_FOR, "j", num(0), n);
  pool[0] = (tree){.x = i, .ok = true};
  pool[1] = (tree){.x = j, .ok = true};
  pool[2] = constant(6);
  pool[2].x = n;
  for (int at = 0; at < 36; at++) {
    pool[0].value[at] = at / 6;
    pool[1].value[at] = at % 6;
  }
  for (int t = 3; t < KEPT; t++) {
    tree right = next_random() % 2 ? constant((int64_t)(next_random() % 9) + (next_random() % 8 ? 1 : -5)) : pool[next_random() % (uint64_t)t];
    do pool[t] = combine(ops[next_random() % (sizeof ops / sizeof *ops)], &pool[next_random() % (uint64_t)t], &right);
    while (!pool[t].ok);
  }
  nn_x *at = nn_xi_add(f.k, nn_xi_mulc(f.k, i, 6), j);
  for (int t = 0; t < KEPT; t++) nn_store(f.k, out, nn_xi_addc(f.k, at, 36 * t), pool[t].x, NULL);
  static const nn_xop compares[] = {NN_X_LT, NN_X_LE, NN_X_EQ, NN_X_NE};
  tree compared[COMPARED];
  for (int t = 0; t < COMPARED; t++) {
    compared[t] = combine(compares[next_random() % 4], &pool[next_random() % KEPT], &pool[next_random() % KEPT]);
    nn_store(f.k, out, nn_xi_addc(f.k, at, 36 * (KEPT + t)), nn_x_cast(f.k, compared[t].x, NN_I64), NULL);
  }
  nn_end(f.k);
  nn_end(f.k);
  int64_t result[36 * (KEPT + COMPARED)];
  void *args[] = {result};
  int64_t symbols[] = {6};
  cr_assert_eq(nn_kernel_eval(f.k, args, symbols, NULL), 0);
  for (int t = 0; t < KEPT + COMPARED; t++)
    for (int e = 0; e < 36; e++) {
      int64_t want = t < KEPT ? pool[t].value[e] : compared[t - KEPT].value[e];
      cr_assert_eq(result[36 * t + e], want, "expression %d at %d", t, e);
    }
}

Test(loop_build, random_index_expressions) {
  for (int round = 0; round < 300; round++) {
    tear_down();
    set_up();
    check_random_kernel();
  }
}
