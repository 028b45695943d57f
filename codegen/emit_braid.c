/* Copies of a loop's body, statement by statement: the first statement of each, then the second of each. Long chains of
   dependent operations, such as an elementary function and the division at its end, then run beside each other even in a
   processor whose schedulers hold few of them (Zen 4: sigmoid 9.6 -> 9.0 cycles for 16 elements).

   Only for bodies with a division, in which no statement loads or stores what another one stores: then it does not show. */
#include "codegen/llvm.h"

enum { MOST_LETS = 128, FEW_LETS = 32, LEAST_REGISTERS = 32 };

/* What the lets of one copy are. */
typedef struct strand {
  nn_v value[MOST_LETS];
  nn_lane0 lane0[MOST_LETS];
} strand;

typedef struct braid {
  nn_emit *s;
  const nn_stmt *loop;
  const nn_v *values; /* of the loop's variable */
  int count;
  strand *strands;
  const nn_var *vars[MOST_LETS];
  int nlets;
} braid;

static bool loads_from(const nn_x *x, const nn_buf *buf) {
  if (!x) return false;
  if (x->buf == buf) return true;
  for (int i = 0; i < 3; i++)
    if (loads_from(x->a[i], buf)) return true;
  return false;
}

static bool divides(const nn_x *x) {
  if (!x) return false;
  if (x->op == NN_X_DIV && nn_dtype_is_float(x->dtype)) return true;
  return divides(x->a[0]) || divides(x->a[1]) || divides(x->a[2]);
}

/* Loaded or stored by another statement than this one. */
static bool is_touched(const nn_block *block, const nn_stmt *store) {
  const nn_buf *buf = store->buf;
  for (const nn_stmt *st = block->first; st; st = st->next) {
    if (st == store) continue;
    if (st->kind == NN_S_LOOP && is_touched(&st->body, store)) return true;
    if (st->buf == buf || loads_from(st->value, buf) || loads_from(st->index, buf) || loads_from(st->mask, buf)) return true;
  }
  return false;
}

typedef struct facts {
  bool has_vectors, has_division;
  int nlets;
} facts;

/* Lets and stores, and a vector loop of such at the end. */
static bool is_straight(const nn_block *block, const nn_block *all, facts *f) {
  for (const nn_stmt *st = block->first; st; st = st->next) {
    switch (st->kind) {
    case NN_S_LET: f->nlets++; break;
    case NN_S_STORE:
      if (is_touched(all, st)) return false;
      break;
    case NN_S_LOOP:
      if (block != all || st->next || st->loop != NN_VECTOR || st->hi->i < 2) return false;
      f->has_vectors = true;
      return is_straight(&st->body, all, f);
    default: return false;
    }
    f->has_division |= divides(st->value);
  }
  return true;
}

/* An unrolled loop is about registers, which hold its other copies' values. */
int nn_emit_strands(nn_emit *s, const nn_stmt *st) {
  facts f = {0};
  if (s->vvar || s->e->target->vector_registers < LEAST_REGISTERS) return 1;
  if (!is_straight(&st->body, &st->body, &f) || !f.has_vectors || !f.has_division || f.nlets > MOST_LETS) return 1;
  return st->loop == NN_UNROLL || f.nlets > FEW_LETS ? 2 : 4;
}

static void use_strand(const braid *b, int j) {
  nn_emit *s = b->s;
  s->frame->cells[s->cell_vars + b->loop->var->id] = b->values[j];
  for (int i = 0; i < b->nlets; i++) {
    s->frame->cells[s->cell_vars + b->vars[i]->id] = b->strands[j].value[i];
    s->lane0[b->vars[i]->id] = b->strands[j].lane0[i];
  }
}

static void emit_each(braid *b, const nn_stmt *st) {
  nn_emit *s = b->s;
  for (int j = 0; j < b->count; j++) {
    int mark = nn_scope_open(s);
    use_strand(b, j);
    s->stamp++;
    if (st->kind == NN_S_LET) {
      nn_emit_let(s, st);
      b->strands[j].value[b->nlets] = s->frame->cells[s->cell_vars + st->var->id];
      b->strands[j].lane0[b->nlets] = s->lane0[st->var->id];
    } else {
      nn_emit_store(s, st);
    }
    nn_scope_close(s, mark);
  }
  if (st->kind == NN_S_LET) b->vars[b->nlets++] = st->var;
}

static void emit_block(braid *b, const nn_block *block) {
  nn_emit *s = b->s;
  for (const nn_stmt *st = block->first; st && !s->e->failed; st = st->next) {
    if (st->kind != NN_S_LOOP) {
      emit_each(b, st);
      continue;
    }
    s->vvar = st->var;
    s->lanes = (int)st->hi->i;
    s->mask = NULL;
    emit_block(b, &st->body);
    s->vvar = NULL;
  }
}

void nn_emit_braid(nn_emit *s, const nn_stmt *st, const nn_v *values, int count) {
  braid b = {.s = s, .loop = st, .values = values, .count = count};
  b.strands = NN_NEW_ARRAY(s->arena, strand, count);
  emit_block(&b, &st->body);
}
