/* A canonical text of a kernel, by which identical ones are found: everything that code generation may
   look at, nothing else. Nodes, variables and buffers are numbered in the order of first appearance, so a
   shared node is written once and the text is as long as the kernel. Not meant for people: see loop_print.c. */
#include "ir/loop.h"

#include <inttypes.h>
#include <string.h>

typedef struct writer {
  nn_arena *scratch;
  char *text;
  size_t count, size;
  int *node, *var;  /* id -> number, 0 not seen yet */
  int nnodes, nvars;
} writer;

static void put(writer *w, const char *text, size_t length) {
  if (w->count + length + 1 > w->size) {
    size_t size = (w->count + length + 1) * 2;
    char *larger = nn_alloc(w->scratch, size);
    if (w->count) memcpy(larger, w->text, w->count);
    w->text = larger;
    w->size = size;
  }
  memcpy(w->text + w->count, text, length);
  w->count += length;
}

static void put_text(writer *w, const char *text) { put(w, text, strlen(text)); }

static void put_int(writer *w, char tag, int64_t value) {
  char digits[32];
  put(w, digits, (size_t)snprintf(digits, sizeof digits, "%c%" PRIx64, tag, (uint64_t)value));
}

static void put_node(writer *w, const nn_x *x) {
  if (w->node[x->id]) return;
  for (int i = 0; i < 3; i++)
    if (x->a[i]) put_node(w, x->a[i]);
  uint64_t bits;
  memcpy(&bits, &x->f, sizeof bits);
  w->node[x->id] = ++w->nnodes;
  put_int(w, '(', x->op);
  put_int(w, ':', x->dtype);
  if (x->i) put_int(w, 'i', x->i);
  if (bits) put_int(w, 'f', (int64_t)bits);
  if (x->buf) put_int(w, 'b', x->buf->id);
  if (x->var) put_int(w, 'v', w->var[x->var->id]);
  for (int i = 0; i < 3; i++)
    if (x->a[i]) put_int(w, "abc"[i], w->node[x->a[i]->id]);
  put_text(w, ")");
}

static void put_operand(writer *w, char tag, const nn_x *x) {
  if (!x) return;
  put_node(w, x);
  put_int(w, tag, w->node[x->id]);
}

static void put_block(writer *w, const nn_block *block);

static void put_stmt(writer *w, const nn_stmt *s) {
  put_int(w, '\n', s->kind);
  put_operand(w, 'l', s->lo);
  put_operand(w, 'h', s->hi);
  put_operand(w, 'n', s->index);
  put_operand(w, 'e', s->value);
  put_operand(w, 'm', s->mask);
  if (s->buf) put_int(w, 'b', s->buf->id);
  if (s->var) {
    put_int(w, 'v', w->var[s->var->id] = ++w->nvars);
    put_int(w, 'k', s->loop);
    put_int(w, 'u', s->unroll_by);
  }
  put_block(w, &s->body);
  put_block(w, &s->other);
}

static void put_block(writer *w, const nn_block *block) {
  if (!block->first) return;
  put_text(w, "{");
  for (const nn_stmt *s = block->first; s; s = s->next) put_stmt(w, s);
  put_text(w, "}");
}

static void put_interface(writer *w, const nn_kernel *k) {
  for (int i = 0; i < k->nsymbols; i++) {
    const nn_symbol *symbol = k->module->symbols[k->symbols[i]];
    put_int(w, 's', symbol->index);
    put_text(w, nn_text_quote(w->scratch, symbol->name));
    put_int(w, '-', symbol->min);
    put_int(w, '-', symbol->max);
  }
  for (int i = 0; i < k->nbufs; i++) {
    const nn_buf *buf = k->bufs[i];
    put_int(w, 'b', buf->space * 2 + buf->is_output);
    put_int(w, ':', buf->dtype);
    put_text(w, nn_dim_text(w->scratch, buf->count));
  }
  for (int i = 0; i < k->ntables; i++) {
    put_int(w, 't', k->tables[i].count);
    for (int j = 0; j < k->tables[i].count; j++) put_int(w, ',', k->tables[i].values[j]);
  }
}

char *nn_kernel_key(nn_arena *arena, const nn_kernel *k) {
  writer w = {.scratch = nn_arena_new()};
  if (!w.scratch) w.scratch = arena;
  w.node = NN_NEW_ARRAY(w.scratch, int, k->nxs + 1);
  w.var = NN_NEW_ARRAY(w.scratch, int, k->nvars + 1);
  put_interface(&w, k);
  put_block(&w, &k->body);
  char *key = nn_strndup(arena, w.text ? w.text : "", w.count);
  if (w.scratch != arena) nn_arena_free(w.scratch);
  return key;
}
