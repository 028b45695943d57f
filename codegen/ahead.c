/* What is fetched from memory ahead of time. Weights that are used once for each byte, or a few times (a product of one row, the small layers of
   a squeeze and excite block), are waited for, while memory idles in the products before, which are limited by multiplications. So those products
   fetch the weights of such steps into the caches, some lines in every few steps of their innermost loops (`ahead` in loop IR).

   A step fetches one range of the weights, as much as its work leaves time for. Weights lie in the order of their first use, more or less: ranges
   may go over several of them. What comes last is fetched by the nearest step, the rest by those before it. */
#include "codegen/codegen.h"

enum {
  FLOPS_PER_BYTE = 24,  /* of a step that fetches: a quarter of what memory gives */
  STREAMED_FLOPS = 8,   /* for each byte of weights: steps with fewer wait for them */
  GAP = 4096,           /* bytes between what is fetched as one range, at most */
  MOST_BACK = 256,      /* steps before the one that waits: what is fetched earlier does not stay, and the plan is linear in the graph */
  SAMPLE_DIM = 64       /* what symbols count as */
};

typedef struct plan {
  nn_program *p;
  const int64_t *symbols;
  int64_t *room;        /* by step: bytes that it has time to fetch */
} plan;

static int64_t weight_bytes(const nn_place *place) { return (int64_t)place->value->tensor->size_bytes; }

/* Step s fetches the last part of the weights [first, end) too, if it has time; gives the end of what is left. */
static int64_t fetch(nn_step *s, int64_t *room, const nn_place *w, int64_t first, int64_t end) {
  if (!s->ahead) {
    int64_t bytes = end - first < *room ? end - first : *room;
    s->ahead = w;
    s->ahead_from = end - bytes - w->offset;
    s->ahead_bytes = bytes;
    *room -= bytes;
    return end - bytes;
  }
  int64_t last = s->ahead->offset + s->ahead_from + s->ahead_bytes;
  if (first < last || first - last > GAP || end - last > *room) return end;
  s->ahead_bytes += end - last;
  *room -= end - last;
  return first;
}

static bool is_streamed(const plan *pl, const nn_step *s) {
  int64_t bytes = 0;
  for (int i = 0; i < s->nargs; i++)
    if (s->args[i]->kind == NN_PLACE_WEIGHT) bytes += weight_bytes(s->args[i]);
  return nn_op_flops(s->op, pl->symbols) < (double)STREAMED_FLOPS * (double)bytes;
}

/* Weights that step number n is the first to use, `most` bytes of them. */
static void fetch_weights(const plan *pl, int n, int64_t most) {
  const nn_step *s = &pl->p->steps[n];
  for (int i = 0; i < s->nargs && most > 0; i++) {
    const nn_place *w = s->args[i];
    if (w->kind != NN_PLACE_WEIGHT || w->first != n) continue;
    int64_t bytes = weight_bytes(w) < most ? weight_bytes(w) : most, end = w->offset + bytes;
    for (int from = n - 1; from >= 0 && n - from <= MOST_BACK && end > w->offset; from--)
      if (pl->room[from] > 0) end = fetch(&pl->p->steps[from], &pl->room[from], w, w->offset, end);
    most -= bytes;
  }
}

/* Weights that all fit L2 stay there from run to run. */
void nn_plan_ahead(nn_program *p, const nn_target *t) {
  if (p->weights_bytes <= t->l2_bytes) return;
  nn_arena *scratch = nn_arena_new();
  if (!scratch) return;
  int64_t *symbols = NN_NEW_ARRAY(scratch, int64_t, p->module->nsymbols + 1);
  for (int i = 0; i < p->module->nsymbols; i++) symbols[i] = SAMPLE_DIM;
  plan pl = {.p = p, .symbols = symbols, .room = NN_NEW_ARRAY(scratch, int64_t, p->nsteps + 1)};
  for (int i = 0; i < p->nsteps; i++) {
    const nn_step *s = &p->steps[i];
    if (s->kind != NN_STEP_CALL) continue;
    if (is_streamed(&pl, s)) fetch_weights(&pl, i, t->l3_bytes / 2);
    else if (s->kernel->looks_ahead) pl.room[i] = (int64_t)(nn_op_flops(s->op, symbols) / FLOPS_PER_BYTE);
  }
  nn_arena_free(scratch);
}
