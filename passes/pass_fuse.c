/* needs: nothing. gives: each op stands alone as a kernel or is in the body of a `fused` op. breaks: passes
   that look for ops, since they do not look into bodies; run last.

     %0 = conv %x, $w : f32[1,8,9,9]
     %1 = broadcast $b {dims=[1,8,9,9]} : f32[1,8,9,9]
     %2 = add %0, %1 : f32[1,8,9,9]      ->   %2 = fused %x, $w, $b {body=@k0} : f32[1,8,9,9]
     %3 = relu %2 : f32[1,8,9,9]

   A group is one anchor (a nest, or the first element op), the pointwise ops that consume it, and the
   producers that its reads inline:

   1. grow: in program order, each op that has no group yet starts one and takes in consumers that are pointwise over the
      anchor's result shape, as long as no value goes out of the group and comes back in.
      Attention (matmul, softmax, matmul, with pointwise ops between them) is one group: it has three nests. So is a
      convolution and the sum over its pixels.
   2. absorb: an element group whose only users are in one later group becomes its producer, if that group
      reads each of its elements once or computing it again costs next to nothing.
   3. write: free ops (broadcasts, index ramps, reshapes by ones) are copied into every group that reads
      them; each group of several ops becomes a fused op. */
#include "passes/passes.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MEMBERS = 48, MAX_OPERANDS = 40 };

typedef struct group {
  nn_op *anchor;
  nn_op **members; /* in program order of joining */
  int nmembers, cap;
  nn_op *at;       /* the fused op stands where this member stands */
  int position;    /* at's number in program order */
  struct group *into; /* absorbed by, or NULL */
  bool has_sums;
} group;

typedef struct fuse {
  nn_module *module;
  nn_graph *graph;
  nn_arena *scratch;
  int nbodies;
  bool *changed;
} fuse;

static unsigned flags_of(const nn_op *op) { return nn_op_infos[op->code].flags; }

static group *group_of(const nn_op *op) {
  group *g = op->mark;
  while (g && g->into) g = g->into;
  return g;
}

/* ---- what ops cost and how they read ------------------------------------------------------------- */

/* Costs nothing where it is inlined, so that every reader gets a copy. */
static bool is_free(const nn_op *op) {
  return op->code == NN_OP_BROADCAST || op->code == NN_OP_IOTA || nn_is_unit_reshape(op);
}

/* A reshape of a buffer is a view: it takes no kernel as long as it stays outside of groups. */
static bool is_view(const nn_op *op) { return op->code == NN_OP_RESHAPE; }

/* An op that repeats its operand's elements. */
static bool repeats(const nn_op *op) {
  switch (op->code) {
    case NN_OP_BROADCAST: case NN_OP_TILE: case NN_OP_RESIZE: case NN_OP_GATHER:
    case NN_OP_GATHER_ELEMENTS: case NN_OP_GATHER_ND: case NN_OP_PAD: return true;
    default: return false;
  }
}

/* Computing the element again is about as cheap as loading it. */
static bool is_cheap(const nn_op *op) {
  switch (op->code) {
    case NN_OP_COPY: case NN_OP_NEG: case NN_OP_ABS: case NN_OP_RELU: case NN_OP_NOT: case NN_OP_CAST:
    case NN_OP_ADD: case NN_OP_SUB: case NN_OP_MUL: case NN_OP_MIN: case NN_OP_MAX: case NN_OP_BITCAST:
    case NN_OP_EQ: case NN_OP_NE: case NN_OP_LT: case NN_OP_LE: case NN_OP_SELECT: case NN_OP_AND: case NN_OP_OR:
    case NN_OP_TRANSPOSE: case NN_OP_SLICE: case NN_OP_PAD: case NN_OP_DILATE: return true;
    default: return is_free(op);
  }
}

typedef enum reading { READS_PLAIN, READS_OFTEN, READS_ONCE } reading;

/* Each task makes its panels of weights that are computed. That pays where these are many beside the pixels: tasks then are few. */
static bool makes_panels(const nn_op *op) {
  enum { WEIGHTS_PER_PIXEL = 64 };
  nn_type y = op->out[0]->type;
  int64_t weights, height, width;
  if (!nn_type_static_count(op->in[1]->type, &weights) || !nn_dim_is(y.dims[0], 1)) return false;
  if (!nn_dim_is_const(y.dims[2], &height) || !nn_dim_is_const(y.dims[3], &width)) return false;
  return width == 0 || height <= weights / WEIGHTS_PER_PIXEL / width;
}

/* How a nest reads operand i: only buffers; elements several times; each element once. */
static reading nest_reading(const nn_op *op, int i) {
  switch (op->code) {
    case NN_OP_REDUCE_SUM: case NN_OP_REDUCE_PROD: case NN_OP_REDUCE_MAX: case NN_OP_REDUCE_MIN:
    case NN_OP_ARG_MAX: case NN_OP_ARG_MIN: case NN_OP_CUM_SUM: return READS_ONCE;
    case NN_OP_SOFTMAX: case NN_OP_LOG_SOFTMAX: case NN_OP_NORMALIZE: return READS_ONCE;
    case NN_OP_MATMUL: return READS_OFTEN;
    case NN_OP_CONV: case NN_OP_CONV_PAIRED: case NN_OP_CONV_WINOGRAD: case NN_OP_CONV_DEPTHWISE: return i == 0 ? READS_OFTEN : READS_PLAIN;
    case NN_OP_CONV_BLOCKED: return i == 0 || makes_panels(op) ? READS_OFTEN : READS_PLAIN;
    case NN_OP_MAX_POOL: case NN_OP_AVG_POOL: return READS_OFTEN;
    default: return READS_PLAIN;
  }
}

/* ---- 1. grow ------------------------------------------------------------------------------------- */

/* v can be computed before program position `position`, looking through free ops. */
static bool is_available(const nn_value *v, int position) {
  if (v->kind != NN_RESULT) return true;
  if (v->def->id < position) return true;
  if (!is_free(v->def)) return false;
  for (int i = 0; i < v->def->nin; i++)
    if (!is_available(v->def->in[i], position)) return false;
  return true;
}

/* Every use of every result of the group is in the group or by op. */
static bool only_feeds(const group *g, const nn_op *op) {
  for (int k = 0; k < g->nmembers; k++)
    for (int r = 0; r < g->members[k]->nout; r++)
      for (const nn_use *u = g->members[k]->out[r]->uses; u; u = u->next)
        if (u->user != op && u->user->mark != g) return false;
  return true;
}

/* Reads result 1 and up of the anchor (other shapes, not known when an element of result 0 is written). */
static bool reads_side_result(const group *g, const nn_value *v) {
  if (v->kind != NN_RESULT) return false;
  if (v->def == g->anchor) return v->index > 0;
  if (!is_free(v->def)) return false;
  for (int i = 0; i < v->def->nin; i++)
    if (v->def->in[i]->kind == NN_RESULT && v->def->in[i]->def->mark == g) return true; /* other indices than its own */
  return false;
}

static bool may_join(const group *g, const nn_op *op) {
  if (op->mark || !(flags_of(op) & NN_POINTWISE)) return false;
  if (!nn_type_same_shape(op->out[0]->type, g->anchor->out[0]->type)) return false;
  bool outside_late = false;
  for (int i = 0; i < op->nin; i++) {
    const nn_value *v = op->in[i];
    if (reads_side_result(g, v)) return false;
    if (v->kind == NN_RESULT && v->def->mark == g) continue;
    if (!is_available(v, g->position)) outside_late = true;
  }
  return !outside_late || only_feeds(g, op);
}

static void join(fuse *f, group *g, nn_op *op) {
  bool late = false;
  for (int i = 0; i < op->nin; i++) {
    const nn_value *v = op->in[i];
    if (!(v->kind == NN_RESULT && v->def->mark == g) && !is_available(v, g->position)) late = true;
  }
  NN_PUSH(f->scratch, g->members, g->nmembers, g->cap, op);
  op->mark = g;
  if (late) {
    g->at = op;
    g->position = op->id;
  }
}

static int count_operands(const group *g) {
  int n = 0;
  for (int k = 0; k < g->nmembers; k++) n += g->members[k]->nin;
  return n;
}

/* Takes in consumers, members first to last, so that the work list is the member list itself. */
static void grow(fuse *f, group *g) {
  bool joined = true;
  while (joined) { /* an op refused once may join when its other operand has joined: at most a few rounds */
    joined = false;
    for (int k = 0; k < g->nmembers; k++)
      for (int r = 0; r < g->members[k]->nout; r++)
        for (const nn_use *u = g->members[k]->out[r]->uses; u; u = u->next) {
          if (g->nmembers >= MAX_MEMBERS || count_operands(g) >= MAX_OPERANDS) return;
          if (!may_join(g, u->user)) continue;
          join(f, g, u->user);
          joined = true;
        }
  }
}

/* Nests that give each element once, with its final value, in result 0. */
static bool takes_epilogue(const nn_op *op) {
  switch (op->code) {
    case NN_OP_SCATTER_ELEMENTS: case NN_OP_SCATTER_ND: case NN_OP_TOP_K: case NN_OP_NON_ZERO:
    case NN_OP_LSTM: case NN_OP_GRU: case NN_OP_RNN: case NN_OP_SHAPE_OF: return false;
    default: return true;
  }
}

static void start_group(fuse *f, nn_op *op) {
  group *g = NN_NEW(f->scratch, group);
  g->anchor = g->at = op;
  g->position = op->id;
  NN_PUSH(f->scratch, g->members, g->nmembers, g->cap, op);
  op->mark = g;
  if (takes_epilogue(op)) grow(f, g);
}

static void grow_all(fuse *f) {
  int id = 0;
  for (nn_op *op = f->graph->first; op; op = op->next) {
    op->mark = NULL;
    op->id = ++id;
  }
  for (nn_op *op = f->graph->first; op; op = op->next) {
    if (op->mark || is_free(op) || is_view(op)) continue;
    if (flags_of(op) & (NN_ELEMENT | NN_NEST)) start_group(f, op);
  }
}

static void absorb(group *p, group *g, nn_arena *scratch) {
  for (int k = 0; k < p->nmembers; k++) NN_PUSH(scratch, g->members, g->nmembers, g->cap, p->members[k]);
  p->into = g;
}

/* ---- attention ------------------------------------------------------------------------------------ */

enum { FEWEST_QUERIES = 5 }; /* fewer rows have products of their own, which read each operand once, as it lies */

/* The only result of a group that others read is `result`, and only op reads it. */
static bool feeds_only(const group *g, const nn_value *result, const nn_op *op) {
  if (result->kind != NN_RESULT || group_of(result->def) != g) return false;
  for (int k = 0; k < g->nmembers; k++)
    for (int r = 0; r < g->members[k]->nout; r++)
      for (const nn_use *u = g->members[k]->out[r]->uses; u; u = u->next)
        if (group_of(u->user) != g && (u->user != op || g->members[k]->out[r] != result)) return false;
  return true;
}

static bool is_anchor(const nn_op *op, nn_opcode code) {
  const group *g = op->mark;
  return op->code == code && g && !g->into && g->anchor == op;
}

/* The scores' dimensions, but the last one, are those of the product. */
static bool have_same_rows(nn_type scores, nn_type product) {
  if (scores.rank != product.rank) return false;
  for (int i = 0; i < scores.rank - 1; i++)
    if (scores.dims[i] != product.dims[i]) return false;
  return true;
}

/* product: its left operand comes from a softmax over the last dimension of what another product gives, both through pointwise ops
   alone, and no one else reads any of it. Then *softmax and *scores are their groups. */
static bool is_attention(const nn_op *product, group **softmax, group **scores) {
  int64_t queries;
  const nn_value *weights = product->in[0];
  if (!is_anchor(product, NN_OP_MATMUL) || nn_attr_int(product, "trans_a") || weights->kind != NN_RESULT) return false;
  if (!nn_dtype_is_float(product->out[0]->type.dtype)) return false;
  *softmax = group_of(weights->def);
  if (!*softmax || (*softmax)->anchor->code != NN_OP_SOFTMAX || !feeds_only(*softmax, weights, product)) return false;
  const nn_op *op = (*softmax)->anchor;
  int64_t axis = nn_attr_int(op, "axis");
  if (axis != -1 && axis != op->out[0]->type.rank - 1) return false;
  const nn_value *masked = op->in[0];
  *scores = masked->kind == NN_RESULT ? group_of(masked->def) : NULL;
  if (!*scores || (*scores)->anchor->code != NN_OP_MATMUL || !feeds_only(*scores, masked, op)) return false;
  nn_type t = (*scores)->anchor->out[0]->type;
  if (nn_dim_is_const(t.dims[t.rank - 2], &queries) && queries < FEWEST_QUERIES) return false;
  return have_same_rows(t, product->out[0]->type);
}

/* Both groups become part of the product's. */
static void join_attention(fuse *f) {
  group *softmax, *scores;
  for (nn_op *op = f->graph->first; op; op = op->next) {
    if (!is_attention(op, &softmax, &scores)) continue;
    group *g = op->mark;
    if (g->nmembers + softmax->nmembers + scores->nmembers > MAX_MEMBERS) continue;
    if (count_operands(g) + count_operands(softmax) + count_operands(scores) > 2 * MAX_OPERANDS) continue;
    absorb(softmax, g, f->scratch);
    absorb(scores, g, f->scratch);
  }
}

/* ---- sums over pixels ------------------------------------------------------------------------------ */

/* A nest that gives an image in blocks line by line (codegen/pixel_sums.c). */
static bool gives_lines(const nn_op *op) { return op->code == NN_OP_CONV_DEPTHWISE; }

/* Over rows and columns of channels in blocks; where these are single pixels, the sum may be in the place of what it adds up. */
static bool sums_pixels(const nn_op *op) {
  int naxes;
  const int64_t *axes = nn_attr_ints(op, "axes", &naxes);
  if (op->in[0]->type.rank != 5 || naxes != 2 || axes[0] != 2 || axes[1] != 3) return false;
  return !nn_type_same_shape(op->in[0]->type, op->out[0]->type);
}

/* v is a result of p, or of free ops on one. */
static bool comes_from(const nn_value *v, const group *p) {
  if (!v || v->kind != NN_RESULT) return false;
  if (group_of(v->def) == p) return true;
  for (int i = 0; is_free(v->def) && i < v->def->nin; i++)
    if (comes_from(v->def->in[i], p)) return true;
  return false;
}

/* What the sum's group reads is there when the nest runs, and of the nest's results only the sum reads one. */
static bool may_sum_with(const group *g, const nn_op *sum, const group *p) {
  for (int k = 0; k < g->nmembers; k++)
    for (int i = 0; i < g->members[k]->nin; i++) {
      const nn_value *v = g->members[k]->in[i];
      if (g->members[k] == sum || !v || (v->kind == NN_RESULT && group_of(v->def) == g)) continue;
      if (!is_available(v, p->position) || comes_from(v, p)) return false;
    }
  return true;
}

/* A sum over the pixels that a nest gives joins its group, with what is computed from the sum. */
static void join_sums(fuse *f) {
  for (nn_op *op = f->graph->first; op; op = op->next) {
    if (!is_anchor(op, NN_OP_REDUCE_SUM) || !sums_pixels(op) || op->in[0]->kind != NN_RESULT) continue;
    group *g = op->mark, *p = group_of(op->in[0]->def);
    if (!p || p->has_sums || !gives_lines(p->anchor) || p->position > op->id) continue;
    if (!nn_type_same_shape(op->in[0]->type, p->anchor->out[0]->type) || !may_sum_with(g, op, p)) continue;
    if (g->nmembers + p->nmembers > MAX_MEMBERS || count_operands(g) + count_operands(p) > MAX_OPERANDS) continue;
    absorb(g, p, f->scratch);
    p->has_sums = true;
  }
}

/* ---- 2. absorb ----------------------------------------------------------------------------------- */

/* Adds v's readers outside p to *reader; false if they are in several groups or in none. Free ops are looked through. */
static bool find_reader(const group *p, const nn_value *v, group **reader) {
  for (const nn_use *u = v->uses; u; u = u->next) {
    group *g = group_of(u->user);
    if (g == p) continue;
    if (!g && is_free(u->user)) {
      if (!find_reader(p, u->user->out[0], reader)) return false;
    } else if (!g || (*reader && *reader != g)) {
      return false;
    } else {
      *reader = g;
    }
  }
  return true;
}

static bool is_cheap_group(const group *p) {
  int work = 0;
  for (int k = 0; k < p->nmembers; k++) {
    if (!is_cheap(p->members[k])) return false;
    work += (flags_of(p->members[k]) & NN_POINTWISE) != 0;
  }
  return work <= 3;
}

/* Whether user may inline value v (a result of p, or of a free op on it) wherever it reads it. */
static bool may_inline(const group *p, const nn_op *user, int operand) {
  bool cheap = is_cheap_group(p);
  if (flags_of(user) & NN_NEST) {
    reading how = nest_reading(user, operand);
    return how == READS_ONCE || (how == READS_OFTEN && cheap);
  }
  if (!(flags_of(user) & NN_ELEMENT)) return false;
  if (user->code == NN_OP_CONCAT && !cheap) return false; /* lanes that straddle parts compute them all */
  return cheap || !repeats(user);
}

static bool all_uses_inline(const group *p, const nn_value *v) {
  for (const nn_use *u = v->uses; u; u = u->next) {
    if (group_of(u->user) == p) continue;
    if (!may_inline(p, u->user, u->index)) return false;
    if (!group_of(u->user) && !all_uses_inline(p, u->user->out[0])) return false;
  }
  return true;
}

static bool is_element_group(const group *g) { return !(flags_of(g->anchor) & NN_NEST); }

static bool may_absorb(const group *p, group **reader) {
  for (int k = 0; k < p->nmembers; k++)
    if (!find_reader(p, p->members[k]->out[0], reader)) return false;
  const group *g = *reader;
  if (!g || p->position > g->position) return false;
  if (g->nmembers + p->nmembers > MAX_MEMBERS || count_operands(g) + count_operands(p) > 2 * MAX_OPERANDS) return false;
  for (int k = 0; k < p->nmembers; k++)
    if (!all_uses_inline(p, p->members[k]->out[0])) return false;
  return true;
}

/* Backwards, so that chains end up in their last reader. */
static void absorb_all(fuse *f) {
  for (nn_op *op = f->graph->last; op; op = op->prev) {
    group *p = op->mark, *reader = NULL;
    if (!p || p->into || p->anchor != op || !is_element_group(p)) continue;
    if (may_absorb(p, &reader)) absorb(p, reader, f->scratch);
  }
}

/* ---- 3. write ------------------------------------------------------------------------------------ */

typedef struct writer {
  fuse *fuse;
  group *group;
  nn_graph *body;
  nn_map *inner;        /* outer value -> body value */
  nn_value **operands;  /* of the fused op */
  int noperands, operands_cap;
} writer;

static nn_value *write_value(writer *w, nn_value *v);

static bool is_inside(const writer *w, const nn_op *op) { return group_of(op) == w->group; }

static nn_value *operand_value(writer *w, nn_value *v) {
  nn_value *param = nn_map_get_ptr(w->inner, v);
  if (param) return param;
  NN_PUSH(w->fuse->scratch, w->operands, w->noperands, w->operands_cap, v);
  param = nn_graph_param(w->body, NULL, v->type);
  nn_map_put_ptr(w->inner, v, param);
  return param;
}

static nn_value *copy_op(writer *w, nn_op *op, int result) {
  nn_value **in = NN_NEW_ARRAY(w->fuse->scratch, nn_value *, op->nin);
  for (int i = 0; i < op->nin; i++) {
    bool reads_buffer = (flags_of(op) & NN_NEST) && nest_reading(op, i) == READS_PLAIN;
    in[i] = !op->in[i] ? NULL : reads_buffer ? operand_value(w, op->in[i]) : write_value(w, op->in[i]);
  }
  nn_op *copy = nn_op_new(w->body, NULL, op->code, in, op->nin, op->nout);
  memcpy(copy->attrs, op->attrs, (size_t)nn_op_infos[op->code].nattrs * sizeof *op->attrs);
  copy->loc = op->loc;
  copy->loc_op = op->loc_op;
  for (int i = 0; i < op->nout; i++) {
    copy->out[i]->type = op->out[i]->type;
    copy->out[i]->elems = op->out[i]->elems;
    copy->out[i]->name = op->out[i]->name;
    nn_map_put_ptr(w->inner, op->out[i], copy->out[i]);
  }
  return copy->out[result];
}

/* The value inside the body: copied with its op if it is a member or free, else a parameter. Recursion is as deep as
   a group, which is bounded. */
static nn_value *write_value(writer *w, nn_value *v) {
  nn_value *done = nn_map_get_ptr(w->inner, v);
  if (done) return done;
  if (v->kind == NN_RESULT && (is_inside(w, v->def) || is_free(v->def))) return copy_op(w, v->def, v->index);
  return operand_value(w, v);
}

/* Somebody other than the group (and the copies of free ops inside it) reads v. */
static bool is_used_outside(const writer *w, const nn_value *v) {
  for (const nn_use *u = v->uses; u; u = u->next) {
    if (is_inside(w, u->user)) continue;
    if (!is_free(u->user) || is_used_outside(w, u->user->out[0])) return true;
  }
  return false;
}

static void replace_members(writer *w, nn_value **results, int nresults) {
  fuse *f = w->fuse;
  group *g = w->group;
  nn_op *fused = nn_op_new(f->graph, g->at, NN_OP_FUSED, w->operands, w->noperands, nresults);
  nn_set_graph(fused, "body", w->body);
  fused->loc = g->anchor->loc;
  fused->loc_op = g->anchor->loc_op;
  fused->id = g->at->id;
  for (int i = 0; i < nresults; i++) {
    fused->out[i]->type = results[i]->type;
    fused->out[i]->elems = results[i]->elems;
    fused->out[i]->name = results[i]->name;
    nn_value_replace(results[i], fused->out[i]);
  }
  *f->changed = true;
}

/* Free ops that nobody reads any more, now that their copies stand in the body. */
static void remove_unused_free(nn_value *v) {
  for (nn_use *u = v->uses, *next; u; u = next) {
    next = u->next;
    if (!is_free(u->user)) continue;
    remove_unused_free(u->user->out[0]);
    if (!u->user->out[0]->uses) nn_op_remove(u->user);
  }
}

static int by_program_order(const void *a, const void *b) {
  const nn_op *x = *(nn_op *const *)a, *y = *(nn_op *const *)b;
  return (x->id > y->id) - (x->id < y->id);
}

static void remove_members(group *g) {
  qsort(g->members, (size_t)g->nmembers, sizeof *g->members, by_program_order);
  for (int k = g->nmembers - 1; k >= 0; k--) {
    for (int r = 0; r < g->members[k]->nout; r++) remove_unused_free(g->members[k]->out[r]);
    nn_op_remove(g->members[k]);
  }
}

static void write_group(fuse *f, group *g) {
  bool reads_free = false;
  for (int i = 0; i < g->anchor->nin; i++) {
    const nn_value *v = g->anchor->in[i];
    reads_free |= v && v->kind == NN_RESULT && is_free(v->def) && !((flags_of(g->anchor) & NN_NEST) && nest_reading(g->anchor, i) == READS_PLAIN);
  }
  if (g->nmembers == 1 && !reads_free) return;
  writer w = {f, g, nn_graph_new(f->module, nn_sprintf(f->module->arena, "k%d", f->nbodies++)), nn_map_new(f->scratch), NULL, 0, 0};
  nn_value **outer = NULL, **inner = NULL;
  int nouter = 0, ninner = 0, outer_cap = 0, inner_cap = 0;
  for (int k = 0; k < g->nmembers; k++)
    for (int r = 0; r < g->members[k]->nout; r++) {
      nn_value *v = g->members[k]->out[r];
      nn_value *copy = write_value(&w, v);
      if (!is_used_outside(&w, v)) continue;
      NN_PUSH(f->scratch, outer, nouter, outer_cap, v);
      NN_PUSH(f->scratch, inner, ninner, inner_cap, copy);
    }
  nn_graph_set_return(w.body, inner, ninner);
  replace_members(&w, outer, nouter);
  remove_members(g);
}

static void write_all(fuse *f) {
  nn_op **anchors = NULL;
  int nanchors = 0, cap = 0;
  for (nn_op *op = f->graph->first; op; op = op->next) {
    group *g = op->mark;
    if (g && !g->into && g->anchor == op) NN_PUSH(f->scratch, anchors, nanchors, cap, op);
  }
  for (int i = 0; i < nanchors; i++) write_group(f, anchors[i]->mark);
}

nn_status pass_fuse(nn_module *m, bool *changed) {
  fuse f = {m, m->main, nn_arena_new(), 0, changed};
  if (!f.scratch) return NN_OK;
  grow_all(&f);
  join_attention(&f);
  join_sums(&f);
  absorb_all(&f);
  write_all(&f);
  for (nn_op *op = f.graph->first; op; op = op->next) op->mark = NULL;
  nn_arena_free(f.scratch);
  bool swept = false;
  return pass_dce(m, &swept);
}
