/* Where the temporaries of a program lie in its workspace.

   A block is one place, or several of which each takes over the one before it (a pointwise op's result in
   the place of an operand that dies there), or a place with those that are parts of it. Blocks that are never in use at
   the same step may overlap.

   All sizes known: largest block first, each at the best fitting offset that is free while it lives. Sizes
   that depend on symbols: blocks share slots, whose size is the maximum of their users'; slots lie one after
   another. A block whose size is known only while the program runs, and has no upper bound, gets no slot
   (-1): the program takes its memory from the context's allocator. */
#include "codegen/codegen.h"

#include <stdlib.h>

enum {
  ALIGN = 64,
  STAGGER_FROM = 4096, /* blocks this large ... */
  STAGGER = 5 * ALIGN, /* ... get this much more, so that equal large ones do not begin in the same cache set */
  SAMPLE_DIM = 64      /* what symbols count as when sizes are compared */
};

typedef struct block {
  nn_place **members;
  int nmembers, cap;
  nn_dim bytes;
  int first, last;
  int order;            /* by first use: the order of creation */
  int64_t size, offset; /* static plans */
  bool is_shared;       /* of a place and its parts: nothing takes it over */
  int slot;
} block;

typedef struct slot {
  nn_dim size;
  int64_t sample; /* size where symbols are SAMPLE_DIM */
  int busy_until;
} slot;

typedef struct plan {
  nn_program *p;
  nn_module *m;
  nn_arena *scratch;
  block **blocks;
  int nblocks, blocks_cap;
  nn_map *block_of; /* nn_place -> block */
  slot *slots;
  int nslots, slots_cap;
  int64_t *sample; /* by symbol */
  nn_map *relaxed; /* nn_dim -> nn_dim */
} plan;

/* ---- blocks -------------------------------------------------------------------------------------- */

static void add_member(plan *pl, block *b, nn_place *place) {
  NN_PUSH(pl->scratch, b->members, b->nmembers, b->cap, place);
  nn_map_put_ptr(pl->block_of, place, b);
  if (place->last > b->last) b->last = place->last;
}

static void add_block(plan *pl, nn_place *place) {
  block *b = NN_NEW(pl->scratch, block);
  b->bytes = place->bytes;
  b->first = place->first;
  b->last = -1;
  b->order = pl->nblocks;
  b->slot = -1;
  add_member(pl, b, place);
  NN_PUSH(pl->scratch, pl->blocks, pl->nblocks, pl->blocks_cap, b);
}

/* The block that the place may continue: of the operand that step `at` allows, if that dies there. */
static block *continued(const plan *pl, const nn_step *step, int at, int arg) {
  if (!step->in_place || step->in_place[arg] < 0) return NULL;
  nn_place *operand = step->args[step->in_place[arg]];
  if (operand->kind != NN_PLACE_WORKSPACE) return NULL;
  block *b = nn_map_get_ptr(pl->block_of, operand);
  if (!b || b->is_shared || b->last != at || b->first == at || b->bytes != step->args[arg]->bytes) return NULL;
  return b->members[b->nmembers - 1] == operand ? b : NULL;
}

/* The block of the place that holds all places of which this one is a part. */
static block *shared_block(plan *pl, nn_place *place, int step) {
  nn_place *whole = place;
  while (whole->within) whole = whole->within;
  block *b = nn_map_get_ptr(pl->block_of, whole);
  if (!b) {
    add_block(pl, whole);
    b = pl->blocks[pl->nblocks - 1];
    b->first = step;
  }
  b->is_shared = true;
  return b;
}

static void make_blocks(plan *pl) {
  for (int s = 0; s < pl->p->nsteps; s++) {
    const nn_step *step = &pl->p->steps[s];
    for (int a = 0; a < step->nargs; a++) {
      nn_place *place = step->args[a];
      if (place->kind != NN_PLACE_WORKSPACE || place->first != s || nn_map_get_ptr(pl->block_of, place)) continue;
      block *b = place->within ? shared_block(pl, place, s) : continued(pl, step, s, a);
      if (b)
        add_member(pl, b, place);
      else
        add_block(pl, place);
    }
  }
}

/* Where the place begins in its block. */
static nn_dim delta_of(const plan *pl, const nn_place *place) {
  nn_dim delta = nn_dim_const(pl->m, 0);
  for (; place->within; place = place->within) delta = nn_dim_add(pl->m, delta, place->delta);
  return delta;
}

/* ---- all sizes known ----------------------------------------------------------------------------- */

static bool is_static(const plan *pl) {
  for (int i = 0; i < pl->nblocks; i++)
    if (!nn_dim_is_const(pl->blocks[i]->bytes, NULL)) return false;
  return true;
}

/* With room to the next block; false if there is no such number. */
static bool set_size(block *b) {
  int64_t bytes = nn_dim_value(b->bytes);
  if (bytes < 0 || bytes > INT64_MAX / 4) return false;
  b->size = (bytes + ALIGN - 1) / ALIGN * ALIGN + (bytes >= STAGGER_FROM ? STAGGER : 0);
  if (b->size == 0) b->size = ALIGN;
  return true;
}

static int by_size(const void *left, const void *right) {
  const block *a = *(block *const *)left, *b = *(block *const *)right;
  if (a->size != b->size) return a->size > b->size ? -1 : 1;
  return a->order - b->order;
}

static bool meet(const block *a, const block *b) { return a->first <= b->last && b->first <= a->last; }

/* The smallest gap that holds b among the placed blocks, which are in order of offset. */
static int64_t best_offset(const block *b, block *const *placed, int nplaced) {
  int64_t end = 0, best = -1, best_gap = INT64_MAX;
  for (int i = 0; i < nplaced; i++) {
    if (!meet(b, placed[i])) continue;
    int64_t gap = placed[i]->offset - end;
    if (gap >= b->size && gap < best_gap) best = end, best_gap = gap;
    int64_t behind = placed[i]->offset + placed[i]->size;
    if (behind > end) end = behind;
  }
  return best >= 0 ? best : end;
}

static void insert_placed(block **placed, int nplaced, block *b) {
  int i = nplaced;
  for (; i > 0 && placed[i - 1]->offset > b->offset; i--) placed[i] = placed[i - 1];
  placed[i] = b;
}

static nn_status too_large(plan *pl) {
  return nn_report(&pl->m->diags, NN_ERROR, NULL, NULL, NULL,
                   "the temporaries of the model need more memory than 64-bit sizes can say");
}

static nn_status place_blocks(plan *pl) {
  block **placed = NN_NEW_ARRAY(pl->scratch, block *, pl->nblocks + 1);
  int64_t total = 0;
  for (int i = 0; i < pl->nblocks; i++)
    if (!set_size(pl->blocks[i])) return too_large(pl);
  if (pl->nblocks > 1) qsort(pl->blocks, (size_t)pl->nblocks, sizeof *pl->blocks, by_size);
  for (int i = 0; i < pl->nblocks; i++) {
    block *b = pl->blocks[i];
    b->offset = best_offset(b, placed, i);
    b->slot = i;
    if (b->offset > INT64_MAX - b->size) return too_large(pl);
    insert_placed(placed, i, b);
    if (b->offset + b->size > total) total = b->offset + b->size;
  }
  pl->p->workspace_bytes = nn_dim_const(pl->m, total);
  return NN_OK;
}

/* For reports: the sum of all temporaries, and the most that is in use at one step: less cannot do. */
static void measure(plan *pl) {
  int64_t *change = NN_NEW_ARRAY(pl->scratch, int64_t, pl->p->nsteps + 2), live = 0;
  for (int i = 0; i < pl->nblocks; i++) {
    const block *b = pl->blocks[i];
    int64_t bytes = nn_dim_value(b->bytes);
    for (int k = 0; k < b->nmembers; k++)
      if (!b->members[k]->within) pl->p->planned_sum += nn_dim_value(b->members[k]->bytes);
    change[b->first] += bytes;
    change[b->last + 1] -= bytes;
  }
  for (int s = 0; s < pl->p->nsteps; s++) {
    live += change[s];
    if (live > pl->p->planned_peak) pl->p->planned_peak = live;
  }
}

/* ---- sizes of symbols ---------------------------------------------------------------------------- */

static bool is_data_dependent(const plan *pl, nn_dim d) {
  bool *used = NN_NEW_ARRAY(pl->scratch, bool, pl->m->nsymbols + 1);
  nn_dim_symbols(d, used);
  for (int i = 0; i < pl->m->nsymbols; i++)
    if (used[i] && pl->m->symbols[i]->data_dependent) return true;
  return false;
}

static bool grows(const plan *pl, nn_dim d);

/* The atom never falls when a data-dependent symbol grows. */
static bool atom_grows(const plan *pl, const nn_atom *atom) {
  switch (atom->kind) {
  case NN_ATOM_SYMBOL: return true;
  case NN_ATOM_MIN:
  case NN_ATOM_MAX: return grows(pl, atom->a) && grows(pl, atom->b);
  case NN_ATOM_FLOORDIV: return grows(pl, atom->a) && nn_dim_is_const(atom->b, NULL) && nn_dim_value(atom->b) > 0;
  default: return !is_data_dependent(pl, atom->a) && !is_data_dependent(pl, atom->b);
  }
}

static bool term_is_data_dependent(const plan *pl, const nn_term *term) {
  for (int i = 0; i < term->natoms; i++) {
    const nn_atom *atom = term->atoms[i];
    if (atom->kind == NN_ATOM_SYMBOL ? pl->m->symbols[atom->symbol]->data_dependent
                                     : is_data_dependent(pl, atom->a) || is_data_dependent(pl, atom->b))
      return true;
  }
  return false;
}

static bool grows(const plan *pl, nn_dim d) {
  for (int t = 0; t < d->nterms; t++) {
    if (!term_is_data_dependent(pl, &d->terms[t])) continue;
    if (d->terms[t].coefficient < 0) return false;
    for (int i = 0; i < d->terms[t].natoms; i++)
      if (!atom_grows(pl, d->terms[t].atoms[i])) return false;
  }
  return true;
}

/* The size that is enough whatever the data say, from input symbols; NULL if there is none. */
static nn_dim bound(plan *pl, nn_dim bytes) {
  if (!is_data_dependent(pl, bytes)) return bytes;
  if (!grows(pl, bytes)) return NULL;
  nn_dim *by_symbol = NN_NEW_ARRAY(pl->scratch, nn_dim, pl->m->nsymbols + 1);
  for (int i = 0; i < pl->m->nsymbols; i++) {
    const nn_symbol *s = pl->m->symbols[i];
    if (s->data_dependent && s->max != INT64_MAX) by_symbol[i] = nn_dim_const(pl->m, s->max);
  }
  nn_dim limit = nn_dim_substitute(pl->m, bytes, by_symbol);
  return is_data_dependent(pl, limit) || nn_dim_is_overflow(limit) ? NULL : limit;
}

static nn_dim relax(plan *pl, nn_dim d);

/* a and b of min(max(a, b), a * b), the extent of a broadcast; false if the operands are something else. */
static bool is_broadcast(nn_module *m, nn_dim max, nn_dim product, nn_dim *a, nn_dim *b) {
  if (max->nterms != 1 || max->terms[0].coefficient != 1 || max->terms[0].natoms != 1) return false;
  const nn_atom *atom = max->terms[0].atoms[0];
  if (atom->kind != NN_ATOM_MAX || nn_dim_mul(m, atom->a, atom->b) != product) return false;
  *a = atom->a;
  *b = atom->b;
  return true;
}

static nn_dim relax_atom(plan *pl, const nn_atom *atom) {
  nn_module *m = pl->m;
  nn_dim a = NULL, b = NULL;
  switch (atom->kind) {
  case NN_ATOM_SYMBOL: return nn_dim_symbol(m, m->symbols[atom->symbol]->name);
  case NN_ATOM_MIN:
    if (is_broadcast(m, atom->a, atom->b, &a, &b) || is_broadcast(m, atom->b, atom->a, &a, &b))
      return nn_dim_max(m, relax(pl, a), relax(pl, b));
    return nn_dim_min(m, relax(pl, atom->a), relax(pl, atom->b));
  case NN_ATOM_MAX: return nn_dim_max(m, relax(pl, atom->a), relax(pl, atom->b));
  case NN_ATOM_FLOORDIV:
    if (nn_dim_is_const(atom->b, NULL)) return nn_dim_floordiv(m, relax(pl, atom->a), atom->b);
    return nn_dim_floordiv(m, atom->a, atom->b);
  default: return nn_dim_mod(m, atom->a, atom->b);
  }
}

/* An upper bound that is simpler and, for the extents of valid broadcasts, the same: max(a, b) in place of
   min(max(a, b), a * b). Residual additions of symbolic sizes nest these until nobody can add them up. */
static nn_dim relax(plan *pl, nn_dim d) {
  nn_dim sum = nn_map_get_ptr(pl->relaxed, d);
  if (sum) return sum;
  sum = nn_dim_const(pl->m, 0);
  for (int t = 0; t < d->nterms; t++) {
    const nn_term *term = &d->terms[t];
    if (term->coefficient < 0) return d;
    nn_dim product = nn_dim_const(pl->m, term->coefficient);
    for (int i = 0; i < term->natoms; i++) product = nn_dim_mul(pl->m, product, relax_atom(pl, term->atoms[i]));
    sum = nn_dim_add(pl->m, sum, product);
  }
  nn_map_put_ptr(pl->relaxed, d, (void *)(uintptr_t)sum);
  return sum;
}

static int64_t sample_of(const plan *pl, nn_dim d) {
  int64_t value = 0;
  return nn_dim_eval(d, pl->sample, &value) ? value : INT64_MAX;
}

static void make_sample(plan *pl) {
  pl->sample = NN_NEW_ARRAY(pl->scratch, int64_t, pl->m->nsymbols + 1);
  for (int i = 0; i < pl->m->nsymbols; i++) {
    const nn_symbol *s = pl->m->symbols[i];
    pl->sample[i] = s->min > SAMPLE_DIM ? s->min : s->max < SAMPLE_DIM ? s->max : SAMPLE_DIM;
  }
}

/* A free slot of the same size; else the one that grows or wastes least, if one size is certainly the larger. */
static int find_slot(plan *pl, const block *b, nn_dim bytes) {
  int64_t sample = sample_of(pl, bytes), least = INT64_MAX;
  int best = -1;
  for (int i = 0; i < pl->nslots; i++) {
    slot *s = &pl->slots[i];
    if (s->busy_until >= b->first) continue;
    if (s->size == bytes) return i;
    int64_t change = s->sample > sample ? s->sample - sample : sample - s->sample;
    if (change >= least) continue;
    nn_dim both = nn_dim_max(pl->m, s->size, bytes);
    if (both == s->size || both == bytes) best = i, least = change;
  }
  return best;
}

static void take_slot(plan *pl, block *b) {
  nn_dim bytes = bound(pl, b->bytes);
  if (!bytes) return;
  bytes = relax(pl, bytes);
  int i = find_slot(pl, b, bytes);
  if (i < 0) {
    slot fresh = {.size = bytes, .sample = sample_of(pl, bytes)};
    NN_PUSH(pl->scratch, pl->slots, pl->nslots, pl->slots_cap, fresh);
    i = pl->nslots - 1;
  }
  slot *s = &pl->slots[i];
  s->size = nn_dim_max(pl->m, s->size, bytes);
  s->sample = sample_of(pl, s->size);
  s->busy_until = b->last;
  b->slot = i;
}

static nn_status place_slots(plan *pl) {
  nn_module *m = pl->m;
  make_sample(pl);
  for (int i = 0; i < pl->nblocks; i++) take_slot(pl, pl->blocks[i]);
  nn_dim align = nn_dim_const(m, ALIGN), offset = nn_dim_const(m, 0);
  nn_dim *offsets = NN_NEW_ARRAY(pl->scratch, nn_dim, pl->nslots + 1);
  for (int i = 0; i < pl->nslots; i++) {
    offsets[i] = offset;
    nn_dim size = nn_dim_mul(m, nn_dim_ceildiv(m, pl->slots[i].size, align), align);
    offset = nn_dim_add(m, offset, nn_dim_add(m, size, nn_dim_const(m, STAGGER)));
  }
  if (nn_dim_is_overflow(offset)) return too_large(pl);
  pl->p->workspace_bytes = offset;
  for (int i = 0; i < pl->nblocks; i++) {
    const block *b = pl->blocks[i];
    for (int k = 0; k < b->nmembers && b->slot >= 0; k++)
      b->members[k]->offset_dim = nn_dim_add(m, offsets[b->slot], delta_of(pl, b->members[k]));
  }
  return NN_OK;
}

/* ---- the plan ------------------------------------------------------------------------------------ */

static void tell_places(plan *pl, bool all_static) {
  for (int i = 0; i < pl->nblocks; i++)
    for (int k = 0; k < pl->blocks[i]->nmembers; k++) {
      nn_place *place = pl->blocks[i]->members[k];
      place->slot = pl->blocks[i]->slot;
      if (!all_static) continue;
      place->offset = pl->blocks[i]->offset + nn_dim_value(delta_of(pl, place));
      place->offset_dim = nn_dim_const(pl->m, place->offset);
    }
}

/* A static plan that the target's pointers cannot reach. */
static nn_status check_reach(const nn_program *p, const nn_target *t) {
  int64_t bytes = nn_dim_value(p->workspace_bytes);
  if (t->pointer_bits > 32 || bytes <= INT32_MAX) return NN_OK;
  return nn_report(&p->module->diags, NN_ERROR, NULL, NULL, NULL,
                   "the temporaries of the model need %lld bytes, a 32-bit target has at most %lld", (long long)bytes,
                   (long long)INT32_MAX);
}

nn_status nn_plan_memory(nn_program *p, const nn_target *t) {
  plan pl = {.p = p, .m = p->module, .scratch = nn_arena_new()};
  if (!pl.scratch) return too_large(&pl);
  pl.block_of = nn_map_new(pl.scratch);
  pl.relaxed = nn_map_new(pl.scratch);
  make_blocks(&pl);
  bool all_static = is_static(&pl);
  nn_status status = all_static ? place_blocks(&pl) : place_slots(&pl);
  if (status == NN_OK && all_static) status = check_reach(p, t);
  if (status == NN_OK) {
    tell_places(&pl, all_static);
    if (all_static) measure(&pl);
  }
  nn_arena_free(pl.scratch);
  return status;
}
