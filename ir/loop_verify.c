/* What every kernel must keep: variables are used where they are defined, operand types agree, register
   arrays have constant indices after unrolling, loops nest as their kinds allow, buffers belong to the
   kernel. nncc's own lowerings are checked with it in debug builds and tests, parsed kernels always. */
#include "ir/loop.h"

#include <inttypes.h>

typedef struct verifier {
  const nn_kernel *k;
  nn_diags *diags;
  nn_arena *arena;
  const nn_stmt **loop_of; /* variable id -> its loop, or the let itself, while in scope */
  bool *checked;           /* nodes that are right here */
  int *undo;               /* nodes to forget at the end of the block */
  int nundo, undo_cap;
  const nn_stmt *vector;   /* the open vector loop */
  int nparallel;           /* open parallel loops */
  bool is_keeping;         /* in the body of a keep */
  bool failed;
} verifier;

static void fail(verifier *v, const char *format, ...) NN_PRINTF(2, 3);

static void fail(verifier *v, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int first = v->diags->count;
  nn_vreport(v->diags, NN_ERROR, v->k->loc && *v->k->loc ? v->k->loc : NULL, NULL, NULL, format, args);
  va_end(args);
  v->failed = true;
  for (int i = first; i < v->diags->count; i++)
    v->diags->items[i].message = nn_sprintf(v->diags->arena, "kernel @%s: %s", v->k->name, v->diags->items[i].message);
}

/* ---- expressions ------------------------------------------------------------------------------------------ */

static const char *type_name(const nn_x *x) { return nn_dtype_name(x->dtype); }

static void expect_type(verifier *v, const nn_x *x, nn_dtype t, const char *what) {
  if (x->dtype != t) fail(v, "%s is %s, expected %s", what, type_name(x), nn_dtype_name(t));
}

static void check_buffer(verifier *v, const nn_buf *buf) {
  if (buf->id < 0 || buf->id >= v->k->nbufs || v->k->bufs[buf->id] != buf) fail(v, "buffer %%%s is not one of the kernel", buf->name);
}

static bool unrolls(const verifier *v, int var) {
  const nn_stmt *loop = v->loop_of[var];
  return loop && (loop->loop == NN_UNROLL || loop->loop == NN_VECTOR);
}

/* Register arrays become values: their index must be a number once loops are unrolled. */
static void check_register_index(verifier *v, const nn_buf *buf, const nn_x *index) {
  const nn_varset *deps = nn_xinfo_of(index)->deps;
  if (buf->space != NN_BUF_REG) return;
  if (!nn_dim_is_const(buf->count, NULL)) fail(v, "register array %%%s has no constant size", buf->name);
  if (nn_xinfo_of(index)->has_load) fail(v, "an index of register array %%%s comes from memory", buf->name);
  for (int i = 0; deps && i < deps->count; i++)
    if (!unrolls(v, deps->ids[i])) fail(v, "an index of register array %%%s depends on a loop that is neither unrolled nor vectorised", buf->name);
}

static void check_var(verifier *v, const nn_x *x) {
  if (!v->loop_of[x->var->id]) fail(v, "variable %%%s is used outside of its block", x->var->name);
  if (x->dtype != x->var->dtype) fail(v, "variable %%%s is %s, used as %s", x->var->name, nn_dtype_name(x->var->dtype), type_name(x));
}

static void check_load(verifier *v, const nn_x *x) {
  check_buffer(v, x->buf);
  check_register_index(v, x->buf, x->a[0]);
  expect_type(v, x->a[0], NN_I64, "the index of a load");
  if (x->a[1]) expect_type(v, x->a[1], NN_BOOL, "the mask of a load");
  if (x->dtype != x->buf->dtype) fail(v, "a load of %%%s is %s, the buffer is %s", x->buf->name, type_name(x), nn_dtype_name(x->buf->dtype));
}

static void check_lanes(verifier *v, const nn_x *x) {
  int64_t first = 0, count = 0;
  check_buffer(v, x->buf);
  if (v->vector) fail(v, "%s inside the vector loop over %%%s", nn_xop_name(x->op), v->vector->var->name);
  check_register_index(v, x->buf, x->a[0]);
  if (x->i <= 0 || (x->i & (x->i - 1)) != 0) fail(v, "%s over %" PRId64 " elements, expected a power of two", nn_xop_name(x->op), x->i);
  if (x->buf->space != NN_BUF_REG) fail(v, "%s of %%%s, which is no register array", nn_xop_name(x->op), x->buf->name);
  if (nn_x_is_const(x->a[0], &first) && nn_dim_is_const(x->buf->count, &count) && (first < 0 || first > count - x->i))
    fail(v, "%s reads elements %" PRId64 "..%" PRId64 " of %%%s, which has %" PRId64, nn_xop_name(x->op), first, first + x->i, x->buf->name, count);
}

static void check_operands_agree(verifier *v, const nn_x *x) {
  for (int i = 1; i < nn_xop_arity(x->op); i++)
    if (x->a[i]->dtype != x->a[0]->dtype) fail(v, "%s of %s and %s", nn_xop_name(x->op), type_name(x->a[0]), type_name(x->a[i]));
}

static void check_index(verifier *v, const nn_x *x) {
  expect_type(v, x->a[0], NN_I64, "a checked index");
  expect_type(v, x->a[1], NN_I64, "the limit of an index");
  if (x->a[2]) expect_type(v, x->a[2], NN_BOOL, "the mask of an index");
}

static void check_select(verifier *v, const nn_x *x) {
  expect_type(v, x->a[0], NN_BOOL, "the condition of a select");
  if (x->a[1]->dtype != x->a[2]->dtype) fail(v, "select of %s and %s", type_name(x->a[1]), type_name(x->a[2]));
}

static void check_lookup(verifier *v, const nn_x *x) {
  expect_type(v, x->a[0], NN_I32, "the index of a lookup");
  if (x->dtype != NN_I32) fail(v, "a lookup gives %s, expected i32", type_name(x));
  if (x->i < 0 || x->i >= v->k->ntables) fail(v, "lookup in table %" PRId64 " of %d", x->i, v->k->ntables);
}

static void check_limit(verifier *v, const nn_x *x) {
  check_operands_agree(v, x);
  if (!nn_dtype_is_float(x->dtype)) fail(v, "limit of %s, expected a float", type_name(x));
  if (x->a[1]->op != NN_X_CONST || !(x->a[1]->f >= 0)) fail(v, "the second operand of limit is no constant, or negative");
}

static bool is_arithmetic(nn_xop op) { return op >= NN_X_ADD && op <= NN_X_SHR; }

static void check_op(verifier *v, const nn_x *x) {
  switch (x->op) {
    case NN_X_CONST: case NN_X_SYMBOL: case NN_X_CAST: case NN_X_CAST_SAT: break;
    case NN_X_VAR: check_var(v, x); break;
    case NN_X_LOAD: check_load(v, x); break;
    case NN_X_SELECT: check_select(v, x); break;
    case NN_X_INDEX: check_index(v, x); break;
    case NN_X_LOOKUP: check_lookup(v, x); break;
    case NN_X_LIMIT: check_limit(v, x); break;
    case NN_X_LANES_SUM: case NN_X_LANES_PROD: case NN_X_LANES_MAX: case NN_X_LANES_MIN: check_lanes(v, x); break;
    case NN_X_BITCAST:
      if (nn_dtype_bits(x->dtype) != nn_dtype_bits(x->a[0]->dtype)) fail(v, "bitcast of %s to %s", type_name(x->a[0]), type_name(x));
      break;
    default:
      check_operands_agree(v, x);
      if (is_arithmetic(x->op) && x->dtype != x->a[0]->dtype) fail(v, "%s of %s gives %s", nn_xop_name(x->op), type_name(x->a[0]), type_name(x));
  }
}

static void check_x(verifier *v, const nn_x *x) {
  if (!x || v->checked[x->id]) return;
  v->checked[x->id] = true;
  NN_PUSH(v->arena, v->undo, v->nundo, v->undo_cap, x->id);
  nn_dtype_kind kind = nn_dtype_kind_of(x->dtype);
  if (kind == NN_KIND_COMPLEX || kind == NN_KIND_STRING) fail(v, "%s has type %s, which loop IR does not compute with", nn_xop_name(x->op), type_name(x));
  for (int i = 0; i < nn_xop_arity(x->op); i++)
    if (!x->a[i]) {
      fail(v, "%s lacks an operand", nn_xop_name(x->op));
      return;
    }
  for (int i = 0; i < 3; i++) check_x(v, x->a[i]);
  check_op(v, x);
}

/* ---- statements ---------------------------------------------------------------------------------------------- */

static void check_block(verifier *v, const nn_block *block);

static void check_extent(verifier *v, const nn_stmt *s) {
  int64_t lo, hi;
  if (s->loop != NN_UNROLL && s->loop != NN_VECTOR) return;
  if (!nn_x_is_const(s->lo, &lo) || lo != 0 || !nn_x_is_const(s->hi, &hi)) fail(v, "the bounds of %%%s are not 0 and a number", s->var->name);
  else if (s->loop == NN_VECTOR && (hi < 1 || hi > 1024)) fail(v, "vector loop over %%%s has %" PRId64 " lanes", s->var->name, hi);
}

static void check_loop(verifier *v, const nn_stmt *s) {
  const nn_stmt *outer = v->vector;
  expect_type(v, s->lo, NN_I64, "a loop's bound");
  expect_type(v, s->hi, NN_I64, "a loop's bound");
  check_extent(v, s);
  if (outer && (s->loop == NN_VECTOR || s->loop == NN_PARALLEL)) fail(v, "the loop over %%%s is inside the vector loop over %%%s", s->var->name, outer->var->name);
  if (s->loop == NN_PARALLEL && v->is_keeping) fail(v, "the parallel loop over %%%s is inside a keep", s->var->name);
  if (s->loop == NN_VECTOR) v->vector = s;
  v->nparallel += s->loop == NN_PARALLEL;
  v->loop_of[s->var->id] = s;
  check_block(v, &s->body);
  v->nparallel -= s->loop == NN_PARALLEL;
  v->loop_of[s->var->id] = NULL;
  v->vector = outer;
}

static void check_store(verifier *v, const nn_stmt *s) {
  check_buffer(v, s->buf);
  expect_type(v, s->index, NN_I64, "the index of a store");
  if (s->mask) expect_type(v, s->mask, NN_BOOL, "the mask of a store");
  if (s->value->dtype != s->buf->dtype) fail(v, "%s is stored into %%%s, which is %s", type_name(s->value), s->buf->name, nn_dtype_name(s->buf->dtype));
  if (s->buf->space == NN_BUF_PARAM && !s->buf->is_output) fail(v, "a store into %%%s, which is only read", s->buf->name);
  if (v->vector && s->buf->space != NN_BUF_REG && nn_dtype_bits(s->buf->dtype) < 8) fail(v, "a store of %s elements in a vector loop", nn_dtype_name(s->buf->dtype));
  check_register_index(v, s->buf, s->index);
}

static void check_keep(verifier *v, const nn_stmt *s) {
  bool outer = v->is_keeping;
  check_buffer(v, s->buf);
  expect_type(v, s->value, NN_I64, "a key");
  if (s->buf->space != NN_BUF_WORKER || s->buf->dtype != NN_I64 || !nn_dim_is(s->buf->count, 1))
    fail(v, "a keep with %%%s, which is not one i64 of the worker", s->buf->name);
  if (v->vector || v->nparallel > 1) fail(v, "a keep inside a vector loop, or in two parallel loops");
  v->is_keeping = true;
  check_block(v, &s->body);
  v->is_keeping = outer;
}

static void check_prefetch(verifier *v, const nn_stmt *s) {
  check_buffer(v, s->buf);
  expect_type(v, s->index, NN_I64, "the index of a prefetch");
  if (s->buf->space == NN_BUF_REG) fail(v, "a prefetch of %%%s, which is a register array", s->buf->name);
}

static void check_transpose(verifier *v, const nn_stmt *s) {
  check_buffer(v, s->buf);
  if (v->vector) fail(v, "a transpose inside the vector loop over %%%s", v->vector->var->name);
  if (nn_square_side(s->buf) == 0) fail(v, "a transpose of %%%s, which is no square in registers whose side is a power of two", s->buf->name);
}

static void check_stmt(verifier *v, const nn_stmt *s) {
  const nn_x *all[] = {s->lo, s->hi, s->index, s->value, s->mask};
  for (int i = 0; i < 5; i++) check_x(v, all[i]);
  switch (s->kind) {
    case NN_S_LOOP: check_loop(v, s); break;
    case NN_S_KEEP: check_keep(v, s); break;
    case NN_S_STORE: check_store(v, s); break;
    case NN_S_PREFETCH: check_prefetch(v, s); break;
    case NN_S_AHEAD:
      if (v->vector) fail(v, "a fetch ahead inside the vector loop over %%%s", v->vector->var->name);
      break;
    case NN_S_TRANSPOSE: check_transpose(v, s); break;
    case NN_S_IF: case NN_S_WHILE:
      expect_type(v, s->value, NN_BOOL, "a condition");
      check_block(v, &s->body);
      check_block(v, &s->other);
      break;
    case NN_S_LET:
      if (s->value->dtype != s->var->dtype) fail(v, "variable %%%s is %s, its value %s", s->var->name, nn_dtype_name(s->var->dtype), type_name(s->value));
      v->loop_of[s->var->id] = s;
      break;
    case NN_S_FAIL: break;
  }
}

static void check_block(verifier *v, const nn_block *block) {
  int mark = v->nundo;
  for (const nn_stmt *s = block->first; s; s = s->next) check_stmt(v, s);
  for (const nn_stmt *s = block->first; s; s = s->next)
    if (s->kind == NN_S_LET) v->loop_of[s->var->id] = NULL;
  while (v->nundo > mark) v->checked[v->undo[--v->nundo]] = false;
}

nn_status nn_kernel_verify(const nn_kernel *k, nn_diags *diags) {
  verifier v = {.k = k, .diags = diags, .arena = nn_arena_new()};
  if (!v.arena) return NN_OK;
  v.loop_of = NN_NEW_ARRAY(v.arena, const nn_stmt *, k->nvars + 1);
  v.checked = NN_NEW_ARRAY(v.arena, bool, k->nxs + 1);
  check_block(&v, &k->body);
  nn_arena_free(v.arena);
  return v.failed ? NN_FAIL : NN_OK;
}
