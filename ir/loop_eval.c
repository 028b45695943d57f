/* The interpreter of the loop IR: what kernels mean, and the oracle of the tests.

   A kernel is first flattened to a list of instructions over numbered slots, one slot for each expression
   node and each variable. A node is computed where it is first needed: a pure one stays valid for the rest
   of the block (its variables do not change there), one that reads memory for the rest of the statement.
   All loop kinds run in order; the lanes of a vector loop one after another, whole bodies. Both arms of a
   select are computed. Temporaries of workers start as 0xff bytes (NaN, -1), so that reading what was
   never written shows. */
#include "ir/loop.h"
#include "runtime/nncc_rt.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

/* What an instruction does. The common operations have codes of their own, all others go through
   nn_scalar_op. */
typedef enum code {
  C_SCALAR, C_MOVE, C_LOAD, C_STORE, C_LOOKUP, C_INDEX, C_LANES, C_TRANSPOSE,
  C_ADD_I, C_SUB_I, C_MUL_I, C_LT_I, C_LE_I, C_EQ_I,
  C_ADD_S, C_SUB_S, C_MUL_S, C_DIV_S, C_FMA_S, C_LT_S, C_LE_S,
  C_ADD_D, C_SUB_D, C_MUL_D, C_DIV_D, C_FMA_D,
  C_AND, C_OR, C_SELECT,
  C_LOOP,      /* slot d = a; if not d < b jump */
  C_NEXT,      /* d += 1; if d < b jump back */
  C_JUMP, C_JUMP_IF_NOT, C_FAIL, C_DONE
} code;

typedef struct instr {
  code code;
  nn_dtype t, from;
  nn_xop op;
  int d, a, b, c;   /* slots; -1 none */
  int target;       /* jumps: instruction; loads and stores: buffer */
  int count;        /* lanes; side of a square; number of a table */
} instr;

typedef struct compiler {
  nn_arena *arena;
  const nn_kernel *k;
  instr *code;
  int ncode, cap;
  bool *have;       /* node: its slot holds the value here */
  int *undo;        /* nodes to forget, latest last */
  int nundo, undo_cap;
  int *impure;      /* nodes to forget at the end of the statement */
  int nimpure, impure_cap;
  nn_scalar *slots;
} compiler;

typedef struct memory { char *data; int64_t count; nn_dtype dtype; const char *name; } memory;

/* ---- flattening: expressions --------------------------------------------------------------------------- */

static int emit(compiler *c, instr in) {
  NN_PUSH(c->arena, c->code, c->ncode, c->cap, in);
  return c->ncode - 1;
}

static int var_slot(const compiler *c, const nn_var *v) { return c->k->nxs + v->id; }

static code i64_code(nn_xop op) {
  switch (op) {
    case NN_X_ADD: return C_ADD_I;
    case NN_X_SUB: return C_SUB_I;
    case NN_X_MUL: return C_MUL_I;
    default: return C_SCALAR;
  }
}

static code f32_code(nn_xop op) {
  switch (op) {
    case NN_X_ADD: return C_ADD_S;
    case NN_X_SUB: return C_SUB_S;
    case NN_X_MUL: return C_MUL_S;
    case NN_X_DIV: return C_DIV_S;
    case NN_X_FMA: return C_FMA_S;
    default: return C_SCALAR;
  }
}

static code f64_code(nn_xop op) {
  switch (op) {
    case NN_X_ADD: return C_ADD_D;
    case NN_X_SUB: return C_SUB_D;
    case NN_X_MUL: return C_MUL_D;
    case NN_X_DIV: return C_DIV_D;
    case NN_X_FMA: return C_FMA_D;
    default: return C_SCALAR;
  }
}

static code compare_code(nn_xop op, nn_dtype from) {
  bool i = from != NN_U64 && !nn_dtype_is_float(from), s = from == NN_F32;
  if (op == NN_X_LT) return i ? C_LT_I : s ? C_LT_S : C_SCALAR;
  if (op == NN_X_LE) return i ? C_LE_I : s ? C_LE_S : C_SCALAR;
  return op == NN_X_EQ && i ? C_EQ_I : C_SCALAR;
}

static code code_of(const nn_x *x) {
  switch (x->op) {
    case NN_X_LOAD: return C_LOAD;
    case NN_X_LOOKUP: return C_LOOKUP;
    case NN_X_INDEX: return C_INDEX;
    case NN_X_SELECT: return C_SELECT;
    case NN_X_LANES_SUM: case NN_X_LANES_PROD: case NN_X_LANES_MAX: case NN_X_LANES_MIN: return C_LANES;
    case NN_X_EQ: case NN_X_NE: case NN_X_LT: case NN_X_LE: return compare_code(x->op, x->a[0]->dtype);
    default: break;
  }
  if (x->dtype == NN_I64) return i64_code(x->op);
  if (x->dtype == NN_F32) return f32_code(x->op);
  if (x->dtype == NN_F64) return f64_code(x->op);
  if (x->dtype == NN_BOOL && x->op == NN_X_AND) return C_AND;
  return x->dtype == NN_BOOL && x->op == NN_X_OR ? C_OR : C_SCALAR;
}

static void remember(compiler *c, const nn_x *x) {
  c->have[x->id] = true;
  if (nn_xinfo_of(x)->has_load) NN_PUSH(c->arena, c->impure, c->nimpure, c->impure_cap, x->id);
  else NN_PUSH(c->arena, c->undo, c->nundo, c->undo_cap, x->id);
}

/* The slot that holds x, computing it here if it is not there yet. Deep expressions are chains of a few
   thousand nodes at most: lowerings bind intermediate values. */
static int slot_of(compiler *c, const nn_x *x) {
  if (!x) return -1;
  if (x->op == NN_X_VAR) return var_slot(c, x->var);
  if (x->op == NN_X_CONST || x->op == NN_X_SYMBOL || c->have[x->id]) return x->id;
  instr in = {.code = code_of(x), .t = x->dtype, .op = x->op, .d = x->id};
  in.a = slot_of(c, x->a[0]);
  in.b = slot_of(c, x->a[1]);
  in.c = slot_of(c, x->a[2]);
  in.from = x->op == NN_X_SELECT ? x->dtype : x->a[0]->dtype;
  if (x->buf) in.target = x->buf->id;
  in.count = (int)x->i;
  emit(c, in);
  remember(c, x);
  return x->id;
}

static void end_statement(compiler *c) {
  while (c->nimpure) c->have[c->impure[--c->nimpure]] = false;
}

static void forget_to(compiler *c, int mark) {
  while (c->nundo > mark) c->have[c->undo[--c->nundo]] = false;
}

/* ---- flattening: statements ------------------------------------------------------------------------------ */

static void compile_block(compiler *c, const nn_block *block);

static void compile_scope(compiler *c, const nn_block *block) {
  int mark = c->nundo;
  compile_block(c, block);
  forget_to(c, mark);
}

static void compile_loop(compiler *c, const nn_stmt *s) {
  instr in = {.code = C_LOOP, .d = var_slot(c, s->var)};
  in.a = slot_of(c, s->lo);
  in.b = slot_of(c, s->hi);
  end_statement(c);
  int limit = in.b;
  if (s->hi->op != NN_X_CONST && nn_xinfo_of(s->hi)->has_load) { /* the slot may be computed anew inside */
    limit = c->k->nxs + c->k->nvars + s->var->id;
    emit(c, (instr){.code = C_MOVE, .d = limit, .a = in.b});
  }
  in.b = limit;
  int head = emit(c, in);
  compile_scope(c, &s->body);
  emit(c, (instr){.code = C_NEXT, .d = in.d, .b = limit, .target = head + 1});
  c->code[head].target = c->ncode;
}

static void compile_if(compiler *c, const nn_stmt *s) {
  int test = emit(c, (instr){.code = C_JUMP_IF_NOT, .a = slot_of(c, s->value)});
  end_statement(c);
  compile_scope(c, &s->body);
  int skip = s->other.first ? emit(c, (instr){.code = C_JUMP}) : -1;
  c->code[test].target = c->ncode;
  compile_scope(c, &s->other);
  if (skip >= 0) c->code[skip].target = c->ncode;
}

static void compile_while(compiler *c, const nn_stmt *s) {
  int mark = c->nundo, head = c->ncode;
  int test = emit(c, (instr){.code = C_JUMP_IF_NOT, .a = slot_of(c, s->value)});
  end_statement(c);
  compile_block(c, &s->body);
  emit(c, (instr){.code = C_JUMP, .target = head});
  c->code[test].target = c->ncode;
  forget_to(c, mark);
}

static void compile_store(compiler *c, const nn_stmt *s) {
  instr in = {.code = C_STORE, .t = s->buf->dtype, .target = s->buf->id};
  in.a = slot_of(c, s->index);
  in.b = slot_of(c, s->mask);
  in.c = slot_of(c, s->value);
  emit(c, in);
  end_statement(c);
}

static void compile_stmt(compiler *c, const nn_stmt *s) {
  switch (s->kind) {
    case NN_S_LOOP: compile_loop(c, s); break;
    case NN_S_IF: compile_if(c, s); break;
    case NN_S_WHILE: compile_while(c, s); break;
    case NN_S_KEEP: compile_scope(c, &s->body); break;
    case NN_S_STORE: compile_store(c, s); break;
    case NN_S_LET:
      emit(c, (instr){.code = C_MOVE, .d = var_slot(c, s->var), .a = slot_of(c, s->value)});
      end_statement(c);
      break;
    case NN_S_PREFETCH: case NN_S_AHEAD: break;
    case NN_S_TRANSPOSE:
      emit(c, (instr){.code = C_TRANSPOSE, .target = s->buf->id, .count = (int)nn_square_side(s->buf)});
      break;
    case NN_S_FAIL: emit(c, (instr){.code = C_FAIL, .target = (int)s->value->i}); break;
  }
}

static void compile_block(compiler *c, const nn_block *block) {
  for (const nn_stmt *s = block->first; s; s = s->next) compile_stmt(c, s);
}

/* ---- constants and symbols: slots that are filled once ------------------------------------------------------ */

static void fill_leaves(compiler *c, const nn_x *x, const int64_t *symbols, bool *seen) {
  if (!x || seen[x->id]) return;
  seen[x->id] = true;
  nn_scalar *slot = &c->slots[x->id];
  if (x->op == NN_X_SYMBOL) slot->i = symbols[x->i];
  if (x->op == NN_X_CONST) {
    if (!nn_dtype_is_float(x->dtype)) slot->i = x->i;
    else if (x->dtype == NN_F64) slot->f = x->f;
    else slot->s = (float)x->f;
  }
  for (int i = 0; i < 3; i++) fill_leaves(c, x->a[i], symbols, seen);
}

static void fill_block(compiler *c, const nn_block *block, const int64_t *symbols, bool *seen) {
  for (const nn_stmt *s = block->first; s; s = s->next) {
    const nn_x *all[] = {s->lo, s->hi, s->value, s->index, s->mask};
    for (int i = 0; i < 5; i++) fill_leaves(c, all[i], symbols, seen);
    fill_block(c, &s->body, symbols, seen);
    fill_block(c, &s->other, symbols, seen);
  }
}

static void compile_kernel(compiler *c, const nn_kernel *k, const int64_t *symbols) {
  int nslots = k->nxs + 2 * k->nvars + 1; /* nodes, variables, limits of loops */
  c->k = k;
  c->have = NN_NEW_ARRAY(c->arena, bool, k->nxs + 1);
  c->slots = NN_NEW_ARRAY(c->arena, nn_scalar, nslots);
  fill_block(c, &k->body, symbols, NN_NEW_ARRAY(c->arena, bool, k->nxs + 1));
  compile_block(c, &k->body);
  emit(c, (instr){.code = C_DONE});
}

/* ---- memory -------------------------------------------------------------------------------------------------- */

static bool is_private(const nn_buf *buf) { return buf->space == NN_BUF_WORKER || buf->space == NN_BUF_REG; }

static char *allocate_private(const nn_buf *buf, int64_t count) {
  size_t size = nn_dtype_bytes(buf->dtype, (uint64_t)count);
  char *data = size > SIZE_MAX - 16 ? NULL : malloc(size + 16);
  if (data) memset(data, 0xff, size + 16);
  return data;
}

static int attach_memory(const nn_kernel *k, memory *mem, void *const *args, const int64_t *symbols) {
  int narg = 0;
  for (int i = 0; i < k->nbufs; i++) {
    const nn_buf *buf = k->bufs[i];
    mem[i] = (memory){.dtype = buf->dtype, .name = buf->name};
    if (!nn_dim_eval(buf->count, symbols, &mem[i].count) || mem[i].count < 0) return NNCC_RT_ESHAPE;
    mem[i].data = is_private(buf) ? allocate_private(buf, mem[i].count) : args[narg++];
    if (is_private(buf) && !mem[i].data) return NNCC_RT_EMEMORY;
  }
  return 0;
}

static void release_memory(const nn_kernel *k, memory *mem) {
  for (int i = 0; i < k->nbufs; i++)
    if (is_private(k->bufs[i])) free(mem[i].data);
}

/* ---- running --------------------------------------------------------------------------------------------------- */

static int outside(const nn_kernel *k, const memory *m, int64_t index) {
  fprintf(stderr, "nncc: kernel %s: index %" PRId64 " of buffer %s, which has %" PRId64 " elements\n", k->name, index, m->name, m->count);
  return NNCC_RT_EINTERNAL;
}

static bool is_inside(const memory *m, int64_t index) { return (uint64_t)index < (uint64_t)m->count; }

static nn_scalar load(const memory *m, int64_t index) {
  nn_scalar r = {0};
  if (m->dtype == NN_F32) memcpy(&r.s, m->data + index * 4, 4);
  else if (m->dtype == NN_I64) memcpy(&r.i, m->data + index * 8, 8);
  else return nn_scalar_load(m->dtype, m->data, (size_t)index);
  return r;
}

static void store(const memory *m, int64_t index, nn_scalar value) {
  if (m->dtype == NN_F32) memcpy(m->data + index * 4, &value.s, 4);
  else nn_scalar_store(m->dtype, m->data, (size_t)index, value);
}

static void transpose(const memory *m, int64_t side) {
  for (int64_t i = 0; i < side; i++)
    for (int64_t j = 0; j < i; j++) {
      nn_scalar low = load(m, i * side + j), high = load(m, j * side + i);
      store(m, i * side + j, high);
      store(m, j * side + i, low);
    }
}

static nn_xop combiner(nn_xop op) {
  switch (op) {
    case NN_X_LANES_SUM: return NN_X_ADD;
    case NN_X_LANES_PROD: return NN_X_MUL;
    case NN_X_LANES_MAX: return NN_X_MAX;
    default: return NN_X_MIN;
  }
}

/* The tree: j with j + n/2, until one is left. */
static nn_scalar reduce_lanes(const instr *in, const memory *m, int64_t first) {
  enum { FEW = 64 };
  nn_scalar few[FEW], *v = in->count <= FEW ? few : malloc((size_t)in->count * sizeof *v);
  nn_scalar zero = {0};
  if (!v) return zero;
  for (int j = 0; j < in->count; j++) v[j] = load(m, first + j);
  for (int half = in->count / 2; half > 0; half /= 2)
    for (int j = 0; j < half; j++) v[j] = nn_scalar_op(combiner(in->op), in->t, in->t, v[j], v[j + half], zero);
  nn_scalar result = v[0];
  if (v != few) free(v);
  return result;
}

static int64_t wrap_add(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
static int64_t wrap_sub(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }
static int64_t wrap_mul(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }

/* An index out of range where it is not masked off; then the run fails. */
static bool check_index(nn_scalar *v, const instr *in, nn_eval_error *at) {
  int64_t index = v[in->a].i, limit = v[in->b].i;
  bool ok = index >= 0 && index < limit;
  v[in->d].i = ok ? index : 0;
  if (ok || (in->c >= 0 && !v[in->c].i)) return true;
  *at = (nn_eval_error){index, limit};
  return false;
}

static int64_t look_up(const nn_table *table, int64_t index) { return table->values[index & (table->count - 1)]; }

static nn_scalar operand(const nn_scalar *v, int slot) { return slot >= 0 ? v[slot] : (nn_scalar){0}; }

static int run(const compiler *c, const memory *mem, nn_eval_error *at) {
  nn_scalar *v = c->slots;
  for (const instr *in = c->code;; in++) {
    const memory *m;
    nn_scalar *d = &v[in->d];
    switch (in->code) {
      case C_SCALAR: *d = nn_scalar_op(in->op, in->t, in->from, v[in->a], operand(v, in->b), operand(v, in->c)); break;
      case C_MOVE: *d = v[in->a]; break;
      case C_LOAD:
        m = &mem[in->target];
        if (in->b >= 0 && !v[in->b].i) *d = (nn_scalar){0};
        else if (is_inside(m, v[in->a].i)) *d = load(m, v[in->a].i);
        else return outside(c->k, m, v[in->a].i);
        break;
      case C_STORE:
        m = &mem[in->target];
        if (in->b >= 0 && !v[in->b].i) break;
        if (!is_inside(m, v[in->a].i)) return outside(c->k, m, v[in->a].i);
        store(m, v[in->a].i, v[in->c]);
        break;
      case C_LOOKUP: d->i = look_up(&c->k->tables[in->count], v[in->a].i); break;
      case C_INDEX:
        if (!check_index(v, in, at)) return NNCC_RT_EINDEX;
        break;
      case C_LANES:
        m = &mem[in->target];
        if (!is_inside(m, v[in->a].i) || !is_inside(m, v[in->a].i + in->count - 1)) return outside(c->k, m, v[in->a].i);
        *d = reduce_lanes(in, m, v[in->a].i);
        break;
      case C_TRANSPOSE: transpose(&mem[in->target], in->count); break;
      case C_ADD_I: d->i = wrap_add(v[in->a].i, v[in->b].i); break;
      case C_SUB_I: d->i = wrap_sub(v[in->a].i, v[in->b].i); break;
      case C_MUL_I: d->i = wrap_mul(v[in->a].i, v[in->b].i); break;
      case C_LT_I: d->i = v[in->a].i < v[in->b].i; break;
      case C_LE_I: d->i = v[in->a].i <= v[in->b].i; break;
      case C_EQ_I: d->i = v[in->a].i == v[in->b].i; break;
      case C_ADD_S: d->s = v[in->a].s + v[in->b].s; break;
      case C_SUB_S: d->s = v[in->a].s - v[in->b].s; break;
      case C_MUL_S: d->s = v[in->a].s * v[in->b].s; break;
      case C_DIV_S: d->s = v[in->a].s / v[in->b].s; break;
      case C_FMA_S: d->s = fmaf(v[in->a].s, v[in->b].s, v[in->c].s); break;
      case C_LT_S: d->i = v[in->a].s < v[in->b].s; break;
      case C_LE_S: d->i = v[in->a].s <= v[in->b].s; break;
      case C_ADD_D: d->f = v[in->a].f + v[in->b].f; break;
      case C_SUB_D: d->f = v[in->a].f - v[in->b].f; break;
      case C_MUL_D: d->f = v[in->a].f * v[in->b].f; break;
      case C_DIV_D: d->f = v[in->a].f / v[in->b].f; break;
      case C_FMA_D: d->f = fma(v[in->a].f, v[in->b].f, v[in->c].f); break;
      case C_AND: d->i = v[in->a].i & v[in->b].i; break;
      case C_OR: d->i = v[in->a].i | v[in->b].i; break;
      case C_SELECT: *d = v[in->a].i ? v[in->b] : v[in->c]; break;
      case C_LOOP:
        d->i = v[in->a].i;
        if (d->i >= v[in->b].i) in = c->code + in->target - 1;
        break;
      case C_NEXT:
        if (++d->i < v[in->b].i) in = c->code + in->target - 1;
        break;
      case C_JUMP: in = c->code + in->target - 1; break;
      case C_JUMP_IF_NOT:
        if (!v[in->a].i) in = c->code + in->target - 1;
        break;
      case C_FAIL: return in->target;
      case C_DONE: return 0;
    }
  }
}

int nn_kernel_eval(const nn_kernel *k, void *const *args, const int64_t *symbols, nn_eval_error *at) {
  nn_eval_error nowhere = {0};
  compiler c = {.arena = nn_arena_new()};
  if (!c.arena) return NNCC_RT_EMEMORY;
  memory *mem = NN_NEW_ARRAY(c.arena, memory, k->nbufs + 1);
  compile_kernel(&c, k, symbols);
  int error = attach_memory(k, mem, args, symbols);
  if (!error) error = run(&c, mem, at ? at : &nowhere);
  release_memory(k, mem);
  nn_arena_free(c.arena);
  return error;
}
