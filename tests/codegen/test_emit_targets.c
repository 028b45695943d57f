/* For every target: no operation of the loop IR becomes a call of a library function. The interpreter cannot
   run other machines' code, so this looks at the assembly. */
#include "tests/codegen/emit_case.h"

enum { COUNT = 32 };

typedef struct target_row {
  const char *triple, *cpu;
} target_row;
static const target_row targets[] = {{"x86_64-unknown-linux-gnu", "x86-64"},
                                     {"x86_64-unknown-linux-gnu", "x86-64-v2"},
                                     {"x86_64-unknown-linux-gnu", "x86-64-v3"},
                                     {"x86_64-unknown-linux-gnu", "x86-64-v4"},
                                     {"aarch64", NULL},
                                     {"thumbv7em-none-eabihf", "cortex-m4"},
                                     {"cortex-m7", NULL},
                                     {"cortex-m33", NULL},
                                     {"riscv64", NULL},
                                     {"wasm32", NULL}};
enum { NTARGETS = (int)(sizeof targets / sizeof targets[0]) };

static const nn_dtype dtypes[] = {NN_F32,    NN_F16,      NN_BF16,       NN_F64,    NN_I8,         NN_I16,
                                  NN_I32,    NN_I64,      NN_U8,         NN_U16,    NN_U32,        NN_U64,
                                  NN_BOOL,   NN_F8E4M3FN, NN_F8E4M3FNUZ, NN_F8E5M2, NN_F8E5M2FNUZ, NN_F8E8M0,
                                  NN_F4E2M1, NN_U4,       NN_I4,         NN_U2,     NN_I2};
enum { NDTYPES = (int)(sizeof dtypes / sizeof dtypes[0]) };

static bool is_allowed(const char *name) {
  static const char *const allowed[] = {"nn_", "nnk_", "memcpy", "memmove", "memset", "memcmp"};
  for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
    if (strncmp(name, allowed[i], strlen(allowed[i])) == 0) return true;
  return *name == '*' || *name == '%' || *name == '$' || *name == '.'; /* through a register; a local label */
}

/* The first function that the assembly calls and that is not the module's own, or NULL. */
static const char *foreign_call(const char *text) {
  static char name[64];
  static const char *const calls[] = {"\tcallq\t", "\tcall\t", "\tbl\t", "\tjal\t",
                                      "\ttail\t",  "\tjmp\t",  "\tb\t",  "\tb.w\t"};
  for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
    for (const char *at = text; (at = strstr(at, calls[i])) != NULL;) {
      at += strlen(calls[i]);
      if (is_allowed(at)) continue;
      snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "\n@ "), at);
      return name;
    }
  return NULL;
}

static emit_case begin_for(const target_row *row) {
  emit_case c = {.m = nn_module_new("test"), .random = 1};
  cr_assert_eq(nn_target_init(&c.target, row->triple, row->cpu, &c.m->diags), NN_OK);
  c.k = nn_kernel_new(c.m, "nnk_test");
  return c;
}

static void check_assembly(emit_case *c, const char *what) {
  char *text = NULL;
  nn_status status = nn_kernel_assembly(&c->target, c->k, c->m->arena, &text);
  if (status != NN_OK) emit_print_diags(c->m);
  cr_assert_eq(status, NN_OK, "%s for %s", what, c->target.name);
  const char *call = foreign_call(text);
  cr_assert(!call, "%s for %s calls %s", what, c->target.name, call);
  nn_target_free(&c->target);
  nn_module_free(c->m);
}

static nn_x *open_loop(emit_case *c, int lanes) {
  nn_x *i = nn_loop_range(c->k, NN_FOR, "i", COUNT / lanes);
  return lanes > 1 ? nn_xi_add(c->k, nn_xi_mulc(c->k, i, lanes), nn_loop_range(c->k, NN_VECTOR, "l", lanes)) : i;
}

static void close_loop(emit_case *c, int lanes) {
  nn_end(c->k);
  if (lanes > 1) nn_end(c->k);
}

static void check_ops(const target_row *row, nn_dtype d, int lanes) {
  static const nn_xop ops[] = {NN_X_ADD,  NN_X_SUB,   NN_X_MUL,   NN_X_DIV, NN_X_REM, NN_X_FLOORDIV, NN_X_FLOORMOD,
                               NN_X_MIN,  NN_X_MAX,   NN_X_FMA,   NN_X_NEG, NN_X_ABS, NN_X_SQRT,     NN_X_FLOOR,
                               NN_X_CEIL, NN_X_TRUNC, NN_X_ROUND, NN_X_SHL, NN_X_SHR};
  emit_case c = begin_for(row);
  nn_kernel *k = c.k;
  bool is_float = nn_dtype_is_float(d);
  nn_buf *x = emit_param(&c, d, COUNT, false), *z = emit_param(&c, d, COUNT, false),
         *y = emit_param(&c, d, COUNT, true);
  for (size_t n = 0; n < sizeof ops / sizeof ops[0]; n++) {
    nn_xop op = ops[n];
    bool is_float_only = op == NN_X_FMA || (op >= NN_X_SQRT && op <= NN_X_ROUND),
         is_int_only = op == NN_X_REM || op == NN_X_FLOORDIV || op == NN_X_FLOORMOD || op == NN_X_SHL || op == NN_X_SHR;
    if ((is_float_only && !is_float) || (is_int_only && (is_float || d == NN_BOOL))) continue;
    nn_x *i = open_loop(&c, lanes), *a = nn_let(k, nn_x_load(k, x, i, NULL)), *b = nn_let(k, nn_x_load(k, z, i, NULL));
    bool is_unary = nn_xop_arity(op) == 1;
    nn_store(k, y, i,
             op == NN_X_FMA ? nn_x_fma(k, a, b, a)
             : is_unary     ? nn_x_unary(k, op, a)
                            : nn_x_binary(k, op, a, b),
             NULL);
    close_loop(&c, lanes);
  }
  check_assembly(&c, nn_dtype_name(d));
}

static void check_casts(const target_row *row, nn_dtype from, nn_dtype to, int lanes) {
  emit_case c = begin_for(row);
  nn_buf *x = emit_param(&c, from, COUNT, false), *y = emit_param(&c, to, COUNT, true);
  nn_x *i = open_loop(&c, lanes);
  nn_store(c.k, y, i, nn_x_cast(c.k, nn_x_load(c.k, x, i, NULL), to), NULL);
  close_loop(&c, lanes);
  char what[64];
  snprintf(what, sizeof what, "%s to %s", nn_dtype_name(from), nn_dtype_name(to));
  check_assembly(&c, what);
}

static bool has_type(const target_row *row, nn_dtype d) {
  nn_diags none = {0};
  nn_target t;
  none.arena = nn_arena_new();
  cr_assert_eq(nn_target_init(&t, row->triple, row->cpu, &none), NN_OK);
  bool has = d != NN_F64 || t.has_sqrt_f64;
  nn_target_free(&t);
  nn_arena_free(none.arena);
  return has;
}

Test(emit_targets, operations_call_nothing) {
  for (int t = 0; t < NTARGETS; t++)
    for (int d = 0; d < NDTYPES; d++) {
      if (!has_type(&targets[t], dtypes[d])) continue;
      check_ops(&targets[t], dtypes[d], 1);
      if (nn_dtype_bits(dtypes[d]) >= 8) check_ops(&targets[t], dtypes[d], 4);
    }
}

Test(emit_targets, casts_call_nothing) {
  static const nn_dtype some[] = {NN_F32, NN_F16, NN_BF16, NN_F64, NN_I8, NN_I64, NN_U64, NN_U32, NN_F8E5M2};
  enum { NSOME = (int)(sizeof some / sizeof some[0]) };
  for (int t = 0; t < NTARGETS; t++)
    for (int from = 0; from < NSOME; from++)
      for (int to = 0; to < NSOME; to++) {
        if (from == to || !has_type(&targets[t], some[from]) || !has_type(&targets[t], some[to])) continue;
        check_casts(&targets[t], some[from], some[to], 1);
        if (some[to] != NN_F4E2M1) check_casts(&targets[t], some[from], some[to], 4);
      }
}

Test(emit_targets, f64_without_hardware_is_a_diagnostic) {
  emit_case c = begin_for(&(target_row){"cortex-m4", NULL});
  nn_buf *x = emit_param(&c, NN_F64, 1, false), *y = emit_param(&c, NN_F64, 1, true);
  nn_x *v = nn_let(c.k, nn_x_load(c.k, x, nn_x_int(c.k, 0), NULL));
  nn_store(c.k, y, nn_x_int(c.k, 0), nn_x_binary(c.k, NN_X_ADD, v, v), NULL);
  char *text = NULL;
  cr_assert_eq(nn_kernel_assembly(&c.target, c.k, c.m->arena, &text), NN_FAIL);
  cr_assert_eq(c.m->diags.count, 1);
  cr_assert(strstr(c.m->diags.items[0].message, "cortex-m4 has no f64 arithmetic"), "%s", c.m->diags.items[0].message);
  nn_target_free(&c.target);
  nn_module_free(c.m);
}

/* A matrix product's accumulators stay in registers: no stack beyond what is saved for the caller. */
Test(emit_targets, accumulators_are_registers) {
  emit_case c = begin_for(&(target_row){"x86_64-unknown-linux-gnu", "x86-64-v3"});
  nn_kernel *k = c.k;
  nn_buf *x = emit_param(&c, NN_F32, 600, false), *z = emit_param(&c, NN_F32, 1600, false),
         *y = emit_param(&c, NN_F32, 96, true);
  nn_buf *acc = nn_kernel_buf(k, "acc", NN_BUF_REG, NN_F32, emit_dim(&c, 96), false);
  for (int part = 0; part < 3; part++) {
    nn_x *i = part == 1 ? nn_loop_range(k, NN_FOR, "k", 100) : NULL;
    if (i) nn_loop_unroll_by(k, 4);
    nn_x *r = nn_loop_range(k, NN_UNROLL, "r", 6), *col = nn_loop_range(k, NN_UNROLL, "c", 2),
         *l = nn_loop_range(k, NN_VECTOR, "l", 8);
    nn_x *in_row = nn_xi_add(k, nn_xi_mulc(k, col, 8), l), *at = nn_xi_add(k, nn_xi_mulc(k, r, 16), in_row);
    if (part == 0) nn_store(k, acc, at, nn_x_const(k, NN_F32, 0), NULL);
    if (part == 1) {
      nn_x *a = nn_x_load(k, x, nn_xi_add(k, nn_xi_mulc(k, i, 6), r), NULL),
           *b = nn_x_load(k, z, nn_xi_add(k, nn_xi_mulc(k, i, 16), in_row), NULL);
      nn_store(k, acc, at, nn_x_fma(k, a, b, nn_x_load(k, acc, at, NULL)), NULL);
    }
    if (part == 2) nn_store(k, y, at, nn_x_load(k, acc, at, NULL), NULL);
    for (int n = part == 1 ? 4 : 3; n > 0; n--) nn_end(k);
  }
  char *text = NULL;
  cr_assert_eq(nn_kernel_assembly(&c.target, k, c.m->arena, &text), NN_OK);
  int fmas = 0;
  for (const char *at = text; (at = strstr(at, "vfmadd")) != NULL; at++) fmas++;
  cr_assert_eq(fmas, 48, "%d fused multiply-adds in four rounds of 12", fmas);
  cr_assert(!strstr(text, "(%rsp)") && !strstr(text, "(%rbp)"), "values go through memory");
  nn_target_free(&c.target);
  nn_module_free(c.m);
}
