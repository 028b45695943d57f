/* One kernel as one LLVM function: its arguments become cells, its buffers get addresses. */
#include <assert.h>
#include <limits.h>
#include <string.h>

#include "codegen/llvm.h"

int nn_kernel_nargs(const nn_kernel *k) {
  int n = 0;
  for (int i = 0; i < k->nbufs; i++) n += k->bufs[i]->space == NN_BUF_PARAM || k->bufs[i]->space == NN_BUF_WORKSPACE;
  return n;
}

const int *nn_kernel_symbols(nn_emod *e, const nn_kernel *k, int *count) {
  int total = k->module->nsymbols, n = 0;
  int *symbols = NN_NEW_ARRAY(e->arena, int, total + 1);
  bool *used = NN_NEW_ARRAY(e->arena, bool, total + 1), *sizes = NN_NEW_ARRAY(e->arena, bool, total + 1);
  for (int i = 0; i < k->nsymbols; i++) used[symbols[n++] = k->symbols[i]] = true;
  for (int i = 0; i < k->nbufs; i++)
    if (k->bufs[i]->space == NN_BUF_WORKER) nn_dim_symbols(k->bufs[i]->count, sizes);
  for (int i = 0; i < total; i++)
    if (sizes[i] && !used[i]) symbols[n++] = i;
  *count = n;
  return symbols;
}

LLVMTypeRef nn_kernel_type(nn_emod *e, const nn_kernel *k) {
  int nsymbols, n = 0, nargs = nn_kernel_nargs(k);
  nn_kernel_symbols(e, k, &nsymbols);
  LLVMTypeRef *types = NN_NEW_ARRAY(e->arena, LLVMTypeRef, NN_CELL_TASKS + nargs + nsymbols);
  types[n++] = e->ptr;
  types[n++] = e->ptr;
  types[n++] = e->i64;
  if (k->looks_ahead) types[n++] = e->ptr, types[n++] = e->i64;
  for (int i = 0; i < nargs; i++) types[n++] = e->ptr;
  for (int i = 0; i < nsymbols; i++) types[n++] = e->i64;
  return LLVMFunctionType(e->i32, types, (unsigned)n, false);
}

LLVMBasicBlockRef nn_emit_block(nn_emit *s, const char *name) {
  return LLVMAppendBasicBlockInContext(s->e->c, s->frame->fn, name);
}

bool nn_emit_is_open(nn_emit *s) { return LLVMGetBasicBlockTerminator(LLVMGetInsertBlock(s->b)) == NULL; }

/* Runs code at the end of the frame's entry block, which every other block of the function comes after. */
#define AT_ENTRY(s, code)                                                                                              \
  do {                                                                                                                 \
    LLVMBasicBlockRef here_ = LLVMGetInsertBlock((s)->b);                                                              \
    LLVMPositionBuilderAtEnd((s)->b, (s)->frame->entry);                                                               \
    code;                                                                                                              \
    LLVMPositionBuilderAtEnd((s)->b, here_);                                                                           \
  } while (0)

/* Value number n of the captured ones, loaded in the parallel body's entry: each has an 8-byte slot. */
static nn_v capture(nn_emit *s, nn_v outer) {
  nn_frame *f = s->frame;
  nn_v value = NULL, slot_index = LLVMConstInt(s->e->i32, (unsigned long long)f->ncaptured, false);
  NN_PUSH(s->arena, f->captured, f->ncaptured, f->captured_cap, outer);
  AT_ENTRY(s, {
    nn_v slot = LLVMBuildInBoundsGEP2(s->b, s->e->i64, f->arg, &slot_index, 1, "");
    value = LLVMBuildLoad2(s->b, LLVMTypeOf(outer), slot, "");
    LLVMSetAlignment(value, 8);
  });
  return value;
}

static nn_v fetch(nn_emit *s, int cell) {
  nn_v outer = s->frame->outer->cells[cell];
  assert(outer);
  return LLVMIsConstant(outer) ? outer : capture(s, outer);
}

/* Worker w's memory begins at base + w * bytes; outside parallel loops w is 0. */
static nn_v fetch_worker(nn_emit *s) {
  nn_v base = fetch(s, NN_CELL_WORKER), bytes = nn_emit_cell(s, NN_CELL_WORKER_BYTES), result = NULL;
  AT_ENTRY(s, {
    nn_v worker = LLVMBuildSExt(s->b, LLVMGetParam(s->frame->fn, 2), s->e->i64, "");
    nn_v offset = LLVMBuildMul(s->b, worker, bytes, "");
    result = LLVMBuildGEP2(s->b, s->e->i8, base, &offset, 1, "worker");
  });
  return result;
}

nn_v nn_emit_cell(nn_emit *s, int cell) {
  nn_v *v = &s->frame->cells[cell];
  if (!*v) *v = cell == NN_CELL_WORKER ? fetch_worker(s) : fetch(s, cell);
  return *v;
}

nn_v nn_emit_alloca(nn_emit *s, LLVMTypeRef type, int align) {
  nn_v place = NULL;
  AT_ENTRY(s, place = LLVMBuildAlloca(s->b, type, ""));
  LLVMSetAlignment(place, (unsigned)align);
  return place;
}

static LLVMTypeRef reg_memory_type(nn_emod *e, nn_dtype t) { return t == NN_BOOL ? e->i8 : nn_reg_type(e, t); }

/* Registers that are set before a parallel loop and used in it: each task gets a copy. */
static nn_v make_registers(nn_emit *s, const nn_buf *buf, int cell) {
  int64_t count = 1;
  nn_dim_is_const(buf->count, &count);
  LLVMTypeRef type = LLVMArrayType2(reg_memory_type(s->e, buf->dtype), (uint64_t)(count < 1 ? 1 : count));
  nn_v place = nn_emit_alloca(s, type, 64);
  if (s->frame->outer && s->frame->outer->cells[cell]) {
    nn_v from = fetch(s, cell);
    AT_ENTRY(s, LLVMBuildMemCpy(s->b, place, 64, from, 64, LLVMSizeOf(type)));
  }
  return place;
}

static nn_v worker_offset(nn_emit *s, const nn_buf *buf) {
  nn_dims d = nn_dims_new(s->e, s->k->module);
  for (int i = 0; i < s->nsymbols; i++) d.symbols[s->symbols[i]] = s->frame->cells[s->cell_symbols + i];
  nn_v offset = nn_const_i64(s->e, 0);
  for (int i = 0; i < buf->id; i++) {
    const nn_buf *b = s->k->bufs[i];
    if (b->space != NN_BUF_WORKER) continue;
    nn_v bits = LLVMBuildMul(s->b, nn_emit_dim(&d, b->count), nn_const_i64(s->e, nn_dtype_bits(b->dtype)), "");
    nn_v bytes = LLVMBuildAdd(
        s->b, LLVMBuildLShr(s->b, LLVMBuildAdd(s->b, bits, nn_const_i64(s->e, 7), ""), nn_const_i64(s->e, 3), ""),
        nn_const_i64(s->e, 63), "");
    offset = LLVMBuildAdd(s->b, offset, LLVMBuildAnd(s->b, bytes, nn_const_i64(s->e, -64), ""), "");
  }
  return offset;
}

static nn_v place_in_worker(nn_emit *s, const nn_buf *buf) {
  nn_v base = nn_emit_cell(s, NN_CELL_WORKER), result = NULL;
  for (int i = 0; i < s->nsymbols; i++) nn_emit_cell(s, s->cell_symbols + i);
  AT_ENTRY(s, {
    nn_v offset = worker_offset(s, buf);
    result = LLVMBuildGEP2(s->b, s->e->i8, base, &offset, 1, buf->name);
  });
  return result;
}

nn_v nn_emit_buffer(nn_emit *s, const nn_buf *buf) {
  int cell = NN_CELL_BUFS + buf->id;
  nn_v *v = &s->frame->cells[cell];
  if (*v) return *v;
  nn_v place = buf->space == NN_BUF_REG      ? make_registers(s, buf, cell)
               : buf->space == NN_BUF_WORKER ? place_in_worker(s, buf)
                                             : fetch(s, cell);
  return *v = place;
}

nn_dim nn_kernel_worker_bytes(const nn_kernel *k) {
  nn_module *m = k->module;
  nn_dim sum = nn_dim_const(m, 0), line = nn_dim_const(m, 64);
  for (int i = 0; i < k->nbufs; i++) {
    if (k->bufs[i]->space != NN_BUF_WORKER) continue;
    nn_dim bits = nn_dim_mul(m, k->bufs[i]->count, nn_dim_const(m, nn_dtype_bits(k->bufs[i]->dtype)));
    nn_dim bytes = nn_dim_ceildiv(m, bits, nn_dim_const(m, 8));
    sum = nn_dim_add(m, sum, nn_dim_mul(m, nn_dim_ceildiv(m, bytes, line), line));
  }
  return sum;
}

int nn_target_worker_bytes(const nn_kernel *k) {
  uint64_t total = 0;
  for (int i = 0; i < k->nbufs; i++) {
    int64_t count;
    if (k->bufs[i]->space != NN_BUF_WORKER) continue;
    if (!nn_dim_is_const(k->bufs[i]->count, &count) || count < 0) return -1;
    size_t bytes = nn_dtype_bytes(k->bufs[i]->dtype, (uint64_t)count);
    if (bytes > INT_MAX - 63) return -1;
    total += (bytes + 63) / 64 * 64;
    if (total > INT_MAX) return -1;
  }
  return (int)total;
}

/* ---- one kernel --------------------------------------------------------------------------------------- */

static void bind_arguments(nn_emit *s) {
  nn_frame *f = s->frame;
  unsigned n = 0;
  for (int cell = 0; cell < (s->k->looks_ahead ? NN_CELL_TASKS : NN_CELL_AHEAD); cell++) f->cells[cell] = LLVMGetParam(f->fn, n++);
  for (int i = 0; i < s->k->nbufs; i++) {
    nn_buf_space space = s->k->bufs[i]->space;
    if (space != NN_BUF_PARAM && space != NN_BUF_WORKSPACE) continue;
    nn_v value = LLVMGetParam(f->fn, n++);
    LLVMSetValueName2(value, s->k->bufs[i]->name, strlen(s->k->bufs[i]->name));
    f->cells[NN_CELL_BUFS + s->k->bufs[i]->id] = value;
  }
  for (int i = 0; i < s->nsymbols; i++) f->cells[s->cell_symbols + i] = LLVMGetParam(f->fn, n++);
}

static void init_emit(nn_emit *s, nn_emod *e, const nn_kernel *k, nn_frame *frame) {
  memset(s, 0, sizeof *s);
  s->e = e;
  s->b = e->b;
  s->k = k;
  s->arena = nn_arena_new();
  s->symbols = nn_kernel_symbols(e, k, &s->nsymbols);
  s->cell_symbols = NN_CELL_BUFS + k->nbufs;
  s->cell_vars = s->cell_symbols + s->nsymbols;
  s->ncells = s->cell_vars + k->nvars;
  s->memo = NN_NEW_ARRAY(s->arena, nn_memo, 2 * (size_t)k->nxs);
  s->impure = NN_NEW_ARRAY(s->arena, unsigned char, k->nxs + 1);
  s->linear = NN_NEW_ARRAY(s->arena, nn_linear, k->nxs + 1);
  s->lane0 = NN_NEW_ARRAY(s->arena, nn_lane0, k->nvars + 1);
  s->frame = frame;
  frame->cells = NN_NEW_ARRAY(s->arena, nn_v, s->ncells);
}

static void emit_function(nn_emit *s) {
  nn_emod *e = s->e;
  nn_frame *f = s->frame;
  f->entry = nn_emit_block(s, "entry");
  LLVMBasicBlockRef body = nn_emit_block(s, "body");
  LLVMPositionBuilderAtEnd(s->b, body);
  bind_arguments(s);
  nn_emit_body(s, &s->k->body);
  if (s->k->can_fail)
    nn_emit_leave(s);
  else
    LLVMBuildRet(s->b, LLVMConstInt(e->i32, 0, false));
  LLVMPositionBuilderAtEnd(s->b, f->entry);
  LLVMBuildBr(s->b, body);
}

static bool is_double_op(const nn_x *x) {
  if (x->op == NN_X_CONST || x->op == NN_X_VAR || x->op == NN_X_LOAD || x->op == NN_X_SELECT) return false;
  return x->dtype == NN_F64 || (x->a[0] && x->a[0]->dtype == NN_F64);
}

static bool computes_doubles_x(const nn_x *x, unsigned char *seen) {
  if (!x || seen[x->id]) return false;
  seen[x->id] = 1;
  if (is_double_op(x)) return true;
  for (int i = 0; i < 3; i++)
    if (computes_doubles_x(x->a[i], seen)) return true;
  return false;
}

static bool computes_doubles(const nn_block *block, unsigned char *seen) {
  for (const nn_stmt *st = block->first; st; st = st->next)
    if (computes_doubles_x(st->value, seen) || computes_doubles_x(st->index, seen) ||
        computes_doubles_x(st->mask, seen) || computes_doubles(&st->body, seen) || computes_doubles(&st->other, seen))
      return true;
  return false;
}

static bool target_can(nn_emod *e, const nn_kernel *k) {
  if (e->target->has_sqrt_f64) return true;
  nn_arena *arena = nn_arena_new();
  bool doubles = computes_doubles(&k->body, NN_NEW_ARRAY(arena, unsigned char, k->nxs + 1));
  nn_arena_free(arena);
  if (!doubles) return true;
  nn_report(e->diags, NN_ERROR, k->loc, NULL, "use float32 in this part of the model",
            "target %s has no f64 arithmetic, and kernel %s needs it", e->target->name, k->name);
  return false;
}

nn_v nn_emit_kernel(nn_emod *e, const nn_kernel *k) {
  nn_v fn = nn_map_get_ptr(e->functions, k);
  if (fn) return fn;
  if (!target_can(e, k)) {
    e->failed = true;
    return NULL;
  }
  fn = LLVMAddFunction(e->m, k->name, nn_kernel_type(e, k));
  LLVMSetLinkage(fn, LLVMInternalLinkage);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
  nn_frame frame = {.fn = fn};
  nn_emit s;
  init_emit(&s, e, k, &frame);
  emit_function(&s);
  nn_arena_free(s.arena);
  if (here) LLVMPositionBuilderAtEnd(e->b, here);
  nn_map_put_ptr(e->functions, k, fn);
  return e->failed ? NULL : fn;
}
