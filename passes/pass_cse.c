/* needs: canonical operand order (canon) to find the most. gives: no two equal ops, no two equal small
   constants. breaks: nothing.

     %0 = exp %x : f32[4]
     %1 = exp %x : f32[4]         ->   %0 = exp %x : f32[4]
     %2 = add %0, %1 : f32[4]          %2 = add %0, %0 : f32[4]
*/
#include "passes/passes.h"

#include <string.h>

enum { SMALL_BYTES = 1024 };

/* An open hash table of pointers; it never shrinks and holds at most `limit` entries. */
typedef struct table {
  void **slots;
  size_t mask;
} table;

static table table_new(nn_arena *arena, size_t limit) {
  size_t size = 16;
  while (size < 2 * limit) size *= 2;
  return (table){NN_NEW_ARRAY(arena, void *, size), size - 1};
}

static uint64_t mix(uint64_t h, uint64_t x) {
  h = (h ^ x) * 0x9E3779B97F4A7C15u;
  return h ^ (h >> 29);
}

static uint64_t hash_op(const nn_op *op) {
  uint64_t h = mix((uint64_t)op->code, (uint64_t)op->nin);
  for (int i = 0; i < op->nin; i++) h = mix(h, (uint64_t)(uintptr_t)op->in[i]);
  return mix(h, (uint64_t)op->out[0]->type.rank);
}

static bool ops_equal(const nn_op *a, const nn_op *b) {
  if (a->code != b->code || a->nin != b->nin || a->nout != b->nout) return false;
  for (int i = 0; i < a->nin; i++)
    if (a->in[i] != b->in[i]) return false;
  for (int i = 0; i < a->nout; i++)
    if (!nn_type_equal(a->out[i]->type, b->out[i]->type)) return false;
  return nn_attrs_equal(a, b);
}

/* The equal op seen before, or NULL after op was entered. */
static nn_op *find_or_enter(table *t, nn_op *op) {
  size_t i = hash_op(op) & t->mask;
  for (; t->slots[i]; i = (i + 1) & t->mask)
    if (ops_equal(t->slots[i], op)) return t->slots[i];
  t->slots[i] = op;
  return NULL;
}

static uint64_t hash_tensor(const nn_tensor *t) {
  uint64_t h = mix((uint64_t)t->dtype, t->size_bytes);
  const unsigned char *bytes = t->data;
  for (size_t i = 0; i < t->size_bytes; i++) h = mix(h, bytes[i]);
  return h;
}

static bool tensors_equal(const nn_tensor *a, const nn_tensor *b) {
  if (a->dtype != b->dtype || a->rank != b->rank || a->size_bytes != b->size_bytes) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->dims[i] != b->dims[i]) return false;
  return a->size_bytes == 0 || memcmp(a->data, b->data, a->size_bytes) == 0;
}

static void merge_consts(nn_module *m, nn_arena *scratch, bool *changed) {
  table t = table_new(scratch, (size_t)m->nconsts);
  for (int k = 0; k < m->nconsts; k++) {
    nn_value *v = m->consts[k];
    if (v->kind != NN_CONST || v->tensor->size_bytes > SMALL_BYTES || !v->uses) continue;
    size_t i = hash_tensor(v->tensor) & t.mask;
    while (t.slots[i] && !tensors_equal(((nn_value *)t.slots[i])->tensor, v->tensor)) i = (i + 1) & t.mask;
    if (!t.slots[i]) {
      t.slots[i] = v;
      continue;
    }
    nn_value_replace(v, t.slots[i]);
    *changed = true;
  }
}

static void merge_ops(nn_graph *g, nn_arena *scratch, bool *changed) {
  size_t nops = 0;
  for (nn_op *op = g->first; op; op = op->next) nops++;
  table t = table_new(scratch, nops);
  for (nn_op *op = g->first, *next; op; op = next) {
    next = op->next;
    if ((nn_op_infos[op->code].flags & (NN_EFFECT | NN_STRUCTURE)) || op->nout == 0) continue;
    nn_op *same = find_or_enter(&t, op);
    if (!same) continue;
    for (int i = 0; i < op->nout; i++) nn_value_replace(op->out[i], same->out[i]);
    nn_op_remove(op);
    *changed = true;
  }
}

nn_status pass_cse(nn_module *m, bool *changed) {
  nn_arena *scratch = nn_arena_new();
  if (!scratch) return NN_OK;
  merge_consts(m, scratch, changed);
  for (nn_graph *g = m->graphs; g; g = g->next) merge_ops(g, scratch, changed);
  nn_arena_free(scratch);
  return NN_OK;
}
