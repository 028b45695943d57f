/* needs: nothing. gives: every op without effect has a used result; every constant is used. breaks: nothing.

     %0 = relu %x : f32[4]        ->   return %x
     return %x
*/
#include "passes/passes.h"

#include <stdlib.h>

static bool is_dead(const nn_op *op) {
  if (nn_op_infos[op->code].flags & NN_EFFECT) return false;
  for (int i = 0; i < op->nout; i++)
    if (op->out[i]->uses) return false;
  return true;
}

static void sweep_graph(nn_graph *g, bool *changed) {
  for (nn_op *op = g->last, *prev; op; op = prev) {
    prev = op->prev;
    if (!is_dead(op)) continue;
    nn_op_remove(op);
    *changed = true;
  }
}

static void sweep_consts(nn_module *m, bool *changed) {
  int kept = 0;
  for (int i = 0; i < m->nconsts; i++) {
    nn_value *v = m->consts[i];
    if (v->uses || v->kind == NN_STATE) m->consts[kept++] = v;
  }
  if (kept != m->nconsts) *changed = true;
  m->nconsts = kept;
}

static int by_address(const void *a, const void *b) {
  const char *x = *(char *const *)a, *y = *(char *const *)b;
  return (x > y) - (x < y);
}

/* Some constant's bytes begin in this block. addresses: sorted. */
static bool is_in_use(const nn_tensor *t, char *const *addresses, int count) {
  const char *first = t->owned, *end = first + t->size_bytes;
  int low = 0, high = count;
  while (low < high) {
    int middle = low + (high - low) / 2;
    if (addresses[middle] < first) low = middle + 1;
    else high = middle;
  }
  return low < count && (addresses[low] < end || addresses[low] == first);
}

/* Weights that were folded into others are as large as those: a model must not hold both. */
static void release_tensors(nn_module *m) {
  nn_arena *scratch = nn_arena_new();
  if (!scratch) return;
  char **addresses = NN_NEW_ARRAY(scratch, char *, m->nconsts + 1);
  int count = 0;
  for (int i = 0; i < m->nconsts; i++)
    if (m->consts[i]->tensor) addresses[count++] = (char *)(uintptr_t)m->consts[i]->tensor->data;
  qsort(addresses, (size_t)count, sizeof *addresses, by_address);
  for (nn_tensor **link = &m->owned_tensors; *link;) {
    nn_tensor *t = *link;
    if (is_in_use(t, addresses, count)) {
      link = &t->next_owned;
      continue;
    }
    *link = t->next_owned;
    nn_tensor_release(m, t);
  }
  nn_arena_free(scratch);
}

void nn_consts_sweep(nn_module *m, bool *changed) {
  sweep_consts(m, changed);
  release_tensors(m);
}

nn_status pass_dce(nn_module *m, bool *changed) {
  for (nn_graph *g = m->graphs; g; g = g->next) sweep_graph(g, changed);
  nn_consts_sweep(m, changed);
  return NN_OK;
}
