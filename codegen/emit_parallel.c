/* Parallel loops. The body becomes a function of (captured values, task, worker), as the context's
   parallel_for wants it; without one, or for a single task, a plain loop calls it with worker 0. Loops
   inside another parallel loop run serially.

   A serial loop around one parallel loop, with nothing between them but values of the loop's variables, is one job of
   many steps: each task computes those values for itself.

   What tasks keep (NN_S_KEEP) is known by the last key, which is in the worker's memory. The loop begins with none.

   Two workers may fail at once, and which of them reports first is chance. So after a failure the loop is
   run again in order by one worker: the error that the caller sees is the first in program order. */
#include "codegen/llvm.h"

typedef struct outlined {
  nn_v fn;
  LLVMTypeRef type;
  nn_frame frame; /* of the body, with what it captured */
} outlined;

static LLVMTypeRef task_type(nn_emod *e) {
  LLVMTypeRef types[] = {e->ptr, e->i64, e->i32};
  return LLVMFunctionType(e->none, types, 3, false);
}

/* The variable's value in iteration i of a loop from lo. */
static void set_iteration(nn_emit *s, const nn_var *var, nn_v lo, nn_v i) {
  nn_frame *f = s->frame;
  int64_t zero;
  if (!nn_const_of(lo, &zero) || zero != 0) {
    if (!LLVMIsConstant(lo)) { /* captured through the loop variable's own cell */
      f->outer->cells[s->cell_vars + var->id] = lo;
      lo = nn_emit_cell(s, s->cell_vars + var->id);
    }
    i = LLVMBuildAdd(s->b, lo, i, var->name);
  }
  f->cells[s->cell_vars + var->id] = i;
}

/* ---- what workers keep between tasks -------------------------------------------------------------------------- */

typedef void keep_fn(nn_emit *s, const nn_stmt *keep);

static void for_keeps(nn_emit *s, const nn_block *block, keep_fn *fn) {
  for (const nn_stmt *st = block->first; st; st = st->next) {
    if (st->kind == NN_S_KEEP) fn(s, st);
    for_keeps(s, &st->body, fn);
    for_keeps(s, &st->other, fn);
  }
}

static bool keeps(const nn_block *block) {
  for (const nn_stmt *st = block->first; st; st = st->next)
    if (st->kind == NN_S_KEEP || keeps(&st->body) || keeps(&st->other)) return true;
  return false;
}

static nn_v no_key(nn_emit *s) { return nn_const_i64(s->e, -1); }

static void forget(nn_emit *s, const nn_stmt *keep) { LLVMBuildStore(s->b, no_key(s), nn_emit_buffer(s, keep->buf)); }

static void forget_all(nn_emit *s, const nn_stmt *keep) {
  nn_emod *e = s->e;
  nn_v nworkers = nn_emit_field(e, e->ctx_type, nn_emit_cell(s, NN_CELL_CTX), NN_CTX_NWORKERS, e->i32);
  nn_v first = nn_emit_buffer(s, keep->buf), bytes = nn_emit_cell(s, NN_CELL_WORKER_BYTES), zero = nn_const_i64(e, 0);
  nworkers = LLVMBuildSExt(s->b, nworkers, e->i64, "");
  LLVMBasicBlockRef before = LLVMGetInsertBlock(s->b), loop = nn_emit_block(s, "forget"), end = nn_emit_block(s, "forgotten");
  LLVMBuildBr(s->b, loop);
  LLVMPositionBuilderAtEnd(s->b, loop);
  nn_v worker = LLVMBuildPhi(s->b, e->i64, "worker"), offset = LLVMBuildMul(s->b, worker, bytes, "");
  LLVMBuildStore(s->b, no_key(s), LLVMBuildGEP2(s->b, e->i8, first, &offset, 1, ""));
  nn_v next = LLVMBuildAdd(s->b, worker, nn_const_i64(e, 1), "");
  LLVMAddIncoming(worker, &zero, &before, 1);
  LLVMAddIncoming(worker, &next, &loop, 1);
  LLVMBuildCondBr(s->b, LLVMBuildICmp(s->b, LLVMIntSLT, next, nworkers, ""), loop, end);
  LLVMPositionBuilderAtEnd(s->b, end);
}

void nn_emit_keep(nn_emit *s, const nn_stmt *st) {
  if (!s->in_parallel) { /* no task before this one */
    nn_emit_scope(s, &st->body);
    return;
  }
  nn_v key = nn_emit_x(s, st->value), last = nn_emit_buffer(s, st->buf);
  nn_v is_kept = LLVMBuildICmp(s->b, LLVMIntEQ, LLVMBuildLoad2(s->b, s->e->i64, last, ""), key, "");
  LLVMBasicBlockRef make = nn_emit_block(s, "make"), kept = nn_emit_block(s, "kept");
  LLVMBuildCondBr(s->b, is_kept, kept, make);
  LLVMPositionBuilderAtEnd(s->b, make);
  nn_emit_scope(s, &st->body);
  LLVMBuildStore(s->b, key, last);
  LLVMBuildBr(s->b, kept);
  LLVMPositionBuilderAtEnd(s->b, kept);
}

/* ---- the loops -------------------------------------------------------------------------------------------------- */

/* The parallel loop that a serial one consists of, or NULL. Its number of tasks is known. */
static const nn_stmt *inner_loop(nn_emit *s, const nn_stmt *st) {
  const nn_stmt *last = st->body.first;
  int64_t lo, hi;
  while (last && last->kind == NN_S_LET && !nn_emit_reads_memory(s, last->value)) last = last->next;
  bool is_parallel = last && last->kind == NN_S_LOOP && last->loop == NN_PARALLEL && !last->next && !keeps(&last->body);
  return is_parallel && nn_x_is_const(last->lo, &lo) && lo == 0 && nn_x_is_const(last->hi, &hi) && hi > 1 ? last : NULL;
}

/* Task number t of all steps belongs to step t / count. */
static void emit_step(nn_emit *s, const nn_stmt *st, nn_v lo, nn_v t) {
  const nn_stmt *inner = inner_loop(s, st);
  nn_v count = nn_const_i64(s->e, inner->hi->i);
  set_iteration(s, st->var, lo, LLVMBuildSDiv(s->b, t, count, ""));
  nn_emit_lets(s, &st->body);
  set_iteration(s, inner->var, nn_const_i64(s->e, 0), LLVMBuildSRem(s->b, t, count, inner->var->name));
  nn_emit_body(s, &inner->body);
}

static void emit_task(nn_emit *s, const nn_stmt *st, nn_v lo) {
  nn_frame *f = s->frame;
  f->entry = nn_emit_block(s, "entry");
  LLVMBasicBlockRef body = nn_emit_block(s, "body");
  LLVMPositionBuilderAtEnd(s->b, body);
  f->arg = LLVMGetParam(f->fn, 0);
  nn_v t = LLVMGetParam(f->fn, 1);
  if (st->loop == NN_FOR) {
    emit_step(s, st, lo, t);
  } else {
    set_iteration(s, st->var, lo, t);
    nn_emit_body(s, &st->body);
  }
  LLVMBuildRetVoid(s->b);
  LLVMPositionBuilderAtEnd(s->b, f->entry);
  LLVMBuildBr(s->b, body);
}

static void outline(nn_emit *s, const nn_stmt *st, nn_v lo, outlined *o) {
  nn_emod *e = s->e;
  LLVMBasicBlockRef here = LLVMGetInsertBlock(s->b);
  o->type = task_type(e);
  o->fn = LLVMAddFunction(e->m, nn_sprintf(s->arena, "%s__task_%s", s->k->name, st->var->name), o->type);
  LLVMSetLinkage(o->fn, LLVMInternalLinkage);
  o->frame = (nn_frame){.outer = s->frame, .fn = o->fn, .cells = NN_NEW_ARRAY(s->arena, nn_v, s->ncells)};
  int serial = s->frame_serial, mark = nn_scope_open(s);
  s->frame = &o->frame;
  s->frame_serial = ++s->nframes;
  s->in_parallel = true;
  emit_task(s, st, lo);
  s->in_parallel = false;
  s->frame = o->frame.outer;
  s->frame_serial = serial;
  nn_scope_close(s, mark);
  LLVMPositionBuilderAtEnd(s->b, here);
}

/* The captured values in an array of 8-byte slots on the stack. */
static nn_v emit_captured(nn_emit *s, const nn_frame *f) {
  nn_emod *e = s->e;
  if (f->ncaptured == 0) return LLVMConstNull(e->ptr);
  nn_v array = nn_emit_alloca(s, LLVMArrayType2(e->i64, (uint64_t)f->ncaptured), 8);
  for (int i = 0; i < f->ncaptured; i++) {
    nn_v index = LLVMConstInt(e->i32, (unsigned long long)i, false);
    nn_v store = LLVMBuildStore(s->b, f->captured[i], LLVMBuildInBoundsGEP2(s->b, e->i64, array, &index, 1, ""));
    LLVMSetAlignment(store, 8);
  }
  return array;
}

static void emit_serial_calls(nn_emit *s, const outlined *o, nn_v arg, nn_v trip) {
  nn_emod *e = s->e;
  LLVMBasicBlockRef before = LLVMGetInsertBlock(s->b), loop = nn_emit_block(s, "serial"),
                    exit = nn_emit_block(s, "serialend");
  nn_v zero = nn_const_i64(e, 0);
  LLVMBuildCondBr(s->b, LLVMBuildICmp(s->b, LLVMIntSGT, trip, zero, ""), loop, exit);
  LLVMPositionBuilderAtEnd(s->b, loop);
  nn_v task = LLVMBuildPhi(s->b, e->i64, "task");
  nn_v args[] = {arg, task, LLVMConstInt(e->i32, 0, false)};
  LLVMBuildCall2(s->b, o->type, o->fn, args, 3, "");
  nn_v next = LLVMBuildAdd(s->b, task, nn_const_i64(e, 1), "");
  LLVMAddIncoming(task, &zero, &before, 1);
  LLVMAddIncoming(task, &next, &loop, 1);
  LLVMBuildCondBr(s->b, LLVMBuildICmp(s->b, LLVMIntSLT, next, trip, ""), loop, exit);
  LLVMPositionBuilderAtEnd(s->b, exit);
}

static void emit_pool_call(nn_emit *s, const outlined *o, nn_v parallel_for, nn_v arg, nn_v trip) {
  nn_emod *e = s->e;
  LLVMTypeRef types[] = {e->ptr, e->i64, e->ptr, e->ptr};
  nn_v args[] = {nn_emit_cell(s, NN_CELL_CTX), trip, o->fn, arg};
  LLVMBuildCall2(s->b, LLVMFunctionType(e->none, types, 4, false), parallel_for, args, 4, "");
}

static nn_v load_error(nn_emit *s) {
  return nn_emit_field(s->e, s->e->ctx_type, nn_emit_cell(s, NN_CELL_CTX), NN_CTX_ERROR, s->e->i32);
}

static void set_error(nn_emit *s, nn_v code) {
  nn_emit_set_field(s->e, s->e->ctx_type, nn_emit_cell(s, NN_CELL_CTX), NN_CTX_ERROR, code);
}

/* After the pool: an error goes to the serial loop, which finds it again in order. */
static nn_v emit_retry(nn_emit *s, LLVMBasicBlockRef serial, LLVMBasicBlockRef done) {
  nn_v error = load_error(s);
  LLVMBasicBlockRef again = nn_emit_block(s, "again");
  nn_v failed = LLVMBuildICmp(s->b, LLVMIntNE, error, LLVMConstInt(s->e->i32, 0, false), "");
  LLVMBuildCondBr(s->b, failed, again, done);
  LLVMPositionBuilderAtEnd(s->b, again);
  set_error(s, LLVMConstInt(s->e->i32, 0, false));
  LLVMBuildBr(s->b, serial);
  return error;
}

/* A kernel in place may have overwritten what made the loop fail: the error stands. */
static void keep_error(nn_emit *s, nn_v earlier) {
  nn_v now = load_error(s), none = LLVMBuildICmp(s->b, LLVMIntEQ, now, LLVMConstInt(s->e->i32, 0, false), "");
  set_error(s, LLVMBuildSelect(s->b, none, earlier, now, ""));
}

static void leave_on_error(nn_emit *s) {
  LLVMBasicBlockRef bad = nn_emit_block(s, "failed"), good = nn_emit_block(s, "ok");
  LLVMBuildCondBr(s->b, LLVMBuildICmp(s->b, LLVMIntNE, load_error(s), LLVMConstInt(s->e->i32, 0, false), ""), bad,
                  good);
  LLVMPositionBuilderAtEnd(s->b, bad);
  nn_emit_leave(s);
  LLVMPositionBuilderAtEnd(s->b, good);
}

bool nn_emit_is_steps(nn_emit *s, const nn_stmt *st) {
  return st->loop == NN_FOR && !s->in_parallel && !s->vvar && !s->k->can_fail && inner_loop(s, st);
}

void nn_emit_steps(nn_emit *s, const nn_stmt *st, nn_v lo, nn_v hi) {
  nn_emod *e = s->e;
  outlined o;
  nn_v steps = LLVMBuildSub(s->b, hi, lo, "steps"), ntasks = nn_const_i64(e, inner_loop(s, st)->hi->i);
  s->frame->cells[NN_CELL_TASKS] = LLVMBuildMul(s->b, steps, ntasks, "");
  outline(s, st, lo, &o);
  nn_v run = nn_emod_function(e, "nn_run_steps"), arg = emit_captured(s, &o.frame);
  nn_v args[] = {nn_emit_cell(s, NN_CELL_CTX), steps, ntasks, o.fn, arg};
  LLVMBuildCall2(s->b, LLVMGlobalGetValueType(run), run, args, 5, "");
}

void nn_emit_parallel(nn_emit *s, const nn_stmt *st, nn_v lo, nn_v hi) {
  nn_emod *e = s->e;
  outlined o;
  nn_v trip = LLVMBuildSub(s->b, hi, lo, "tasks");
  s->frame->cells[NN_CELL_TASKS] = trip;
  outline(s, st, lo, &o);
  nn_v arg = emit_captured(s, &o.frame);
  nn_v parallel_for = nn_emit_field(e, e->ctx_type, nn_emit_cell(s, NN_CELL_CTX), NN_CTX_PARALLEL_FOR, e->ptr);
  LLVMBasicBlockRef before = LLVMGetInsertBlock(s->b), pool = nn_emit_block(s, "pool"),
                    serial = nn_emit_block(s, "one"), done = nn_emit_block(s, "done");
  nn_v has_pool = LLVMBuildICmp(s->b, LLVMIntNE, parallel_for, LLVMConstNull(e->ptr), "");
  nn_v many = LLVMBuildICmp(s->b, LLVMIntSGT, trip, nn_const_i64(e, 1), "");
  LLVMBuildCondBr(s->b, LLVMBuildAnd(s->b, has_pool, many, ""), pool, serial);
  LLVMPositionBuilderAtEnd(s->b, pool);
  for_keeps(s, &st->body, forget_all);
  emit_pool_call(s, &o, parallel_for, arg, trip);
  nn_v error = NULL, none = LLVMConstInt(e->i32, 0, false);
  if (s->k->can_fail)
    error = emit_retry(s, serial, done);
  else
    LLVMBuildBr(s->b, done);
  LLVMBasicBlockRef again = LLVMGetInsertBlock(s->b);
  LLVMPositionBuilderAtEnd(s->b, serial);
  nn_v earlier = NULL;
  if (error) {
    earlier = LLVMBuildPhi(s->b, e->i32, "earlier");
    LLVMAddIncoming(earlier, &none, &before, 1);
    LLVMAddIncoming(earlier, &error, &again, 1);
  }
  for_keeps(s, &st->body, forget);
  emit_serial_calls(s, &o, arg, trip);
  if (error) keep_error(s, earlier);
  LLVMBuildBr(s->b, done);
  LLVMPositionBuilderAtEnd(s->b, done);
  if (error) leave_on_error(s);
}
