/* Merges neighbouring dimensions of a group of element ops: loops over fewer and longer dimensions, and
   indices that need no division.

     add f32[8,16,56,56], (broadcast f32[16,1,1])   ->   add f32[8,16,3136], (broadcast f32[16,1])

   The boundary between dimensions i and i+1 of a value may go if it may go in every value that it meets: so
   boundaries are united along the ops (a pointwise op unites all of its operands' with its result's), and
   marked as kept where an op treats the two dimensions differently. Then ops and values are copied with the
   merged types and attributes; the copies stand in no graph. Buffers are dense, so nothing else changes. */
#include "codegen/codegen.h"

#include <string.h>

typedef struct boundaries {
  nn_module *module;
  nn_map *first; /* nn_value -> its first boundary's number + 1 */
  int *parent;   /* union-find */
  bool *is_kept; /* of a root */
  int count;
} boundaries;

/* ---- boundaries ---------------------------------------------------------------------------------- */

static int find_root(boundaries *b, int i) {
  while (b->parent[i] != i) i = b->parent[i] = b->parent[b->parent[i]];
  return i;
}

static int boundary_of(const boundaries *b, const nn_value *v, int i) {
  return (int)(intptr_t)nn_map_get_ptr(b->first, v) - 1 + i;
}

static bool is_merged(boundaries *b, const nn_value *v, int i) {
  return !b->is_kept[find_root(b, boundary_of(b, v, i))];
}

/* Boundaries that a value does not have are ignored by the next two. */
static bool has_boundary(const nn_value *v, int i) { return i >= 0 && i + 1 < v->type.rank; }

static void keep(boundaries *b, const nn_value *v, int i) {
  if (has_boundary(v, i)) b->is_kept[find_root(b, boundary_of(b, v, i))] = true;
}

static void unite(boundaries *b, const nn_value *v, int i, const nn_value *w, int j) {
  if (!has_boundary(v, i) || !has_boundary(w, j)) return;
  int p = find_root(b, boundary_of(b, v, i)), q = find_root(b, boundary_of(b, w, j));
  b->parent[p] = q;
  b->is_kept[q] = b->is_kept[q] || b->is_kept[p];
}

static void keep_all(boundaries *b, const nn_value *v) {
  for (int i = 0; i + 1 < v->type.rank; i++) keep(b, v, i);
}

static void add_value(boundaries *b, const nn_value *v) {
  nn_map_put_ptr(b->first, v, (void *)(intptr_t)(b->count + 1));
  if (v->type.rank > 1) b->count += v->type.rank - 1;
}

static void number_boundaries(boundaries *b, const nn_group *g) {
  for (int i = 0; i < g->ninputs; i++) add_value(b, g->inner[i]);
  for (int i = 0; i < g->nops; i++) add_value(b, g->ops[i]->out[0]);
  b->parent = NN_NEW_ARRAY(b->module->arena, int, b->count + 1);
  b->is_kept = NN_NEW_ARRAY(b->module->arena, bool, b->count + 1);
  for (int i = 0; i < b->count; i++) b->parent[i] = i;
}

/* ---- what each op asks for ----------------------------------------------------------------------- */

typedef enum repetition { ABSENT, ONE, FULL, OPEN } repetition; /* of the operand's dimension j in a broadcast */

static repetition repetition_of(const nn_op *op, int j, nn_dim to) {
  if (j < 0) return ABSENT;
  nn_dim from = op->in[0]->type.dims[j];
  if (from == to) return FULL;
  if (nn_dim_is(from, 1)) return ONE;
  return nn_dim_is_const(from, NULL) ? FULL : OPEN;
}

static void ask_broadcast(boundaries *b, const nn_op *op) {
  const nn_value *out = op->out[0], *in = op->in[0];
  int shift = out->type.rank - in->type.rank;
  for (int i = 0; i + 1 < out->type.rank; i++) {
    repetition p = repetition_of(op, i - shift, out->type.dims[i]),
               q = repetition_of(op, i + 1 - shift, out->type.dims[i + 1]);
    bool is_alike = p != OPEN && q != OPEN && (p == FULL) == (q == FULL);
    if (is_alike) {
      unite(b, out, i, in, i - shift);
      continue;
    }
    keep(b, out, i);
    keep(b, in, i - shift);
  }
}

static void ask_transpose(boundaries *b, const nn_op *op) {
  const int64_t *perm = nn_attr_ints(op, "perm", NULL);
  const nn_value *out = op->out[0], *in = op->in[0];
  bool is_followed[NN_MAX_RANK] = {false};
  for (int i = 0; i + 1 < out->type.rank; i++) {
    is_followed[perm[i]] = perm[i + 1] == perm[i] + 1;
    if (is_followed[perm[i]])
      unite(b, out, i, in, (int)perm[i]);
    else
      keep(b, out, i);
  }
  for (int j = 0; j + 1 < in->type.rank; j++)
    if (!is_followed[j]) keep(b, in, j);
}

/* A reshape stays one whatever is merged. Within a run of dimensions that together become others, all
   boundaries go or none, so that loops over the result fit the operand's. */
static void ask_reshape(boundaries *b, const nn_op *op) {
  const nn_value *out = op->out[0], *in = op->in[0];
  int i = 0, j = 0;
  while (i < in->type.rank || j < out->type.rank) {
    int i0 = i, j0 = j;
    nn_reshape_run(b->module, in->type, out->type, &i, &j);
    const nn_value *v = i - i0 > 1 ? in : out;
    int first = i - i0 > 1 ? i0 : j0;
    for (int p = i0; p + 1 < i; p++) unite(b, in, p, v, first);
    for (int p = j0; p + 1 < j; p++) unite(b, out, p, v, first);
    unite(b, in, i - 1, out, j - 1);
  }
}

/* Ops that work on dimensions one by one: bits say which dimensions they change at all, and which of these
   may be the first of several merged ones. */
static void ask_each(boundaries *b, const nn_op *op, unsigned changed, unsigned may_lead) {
  const nn_value *out = op->out[0];
  for (int i = 0; i + 1 < out->type.rank; i++) {
    bool leads = !(changed >> i & 1) || (may_lead >> i & 1), follows = !(changed >> (i + 1) & 1);
    for (int k = 0; k < op->nin; k++) {
      if (!op->in[k] || op->in[k]->type.rank != out->type.rank) continue;
      unite(b, out, i, op->in[k], i);
    }
    if (!leads || !follows) keep(b, out, i);
  }
}

static unsigned bits_where_not(const nn_dim *dims, int rank, int64_t value) {
  unsigned bits = 0;
  for (int i = 0; i < rank; i++)
    if (!nn_dim_is(dims[i], value)) bits |= 1u << i;
  return bits;
}

static unsigned resized_dims(const nn_op *op) {
  int nscales = 0, nroi = 0, rank = op->out[0]->type.rank;
  const double *scales = nn_attr_floats(op, "scales", &nscales);
  nn_attr_floats(op, "roi", &nroi);
  bool is_simple = op->nin < 2 || (!op->in[1] && (op->nin < 3 || !op->in[2]));
  unsigned bits = 0;
  for (int i = 0; i < rank; i++) {
    bool is_same = op->in[0]->type.dims[i] == op->out[0]->type.dims[i] && (i >= nscales || scales[i] == 1);
    if (!is_simple || nroi > 0 || strcmp(nn_attr_str(op, "coords"), "tf_crop_and_resize") == 0 || !is_same)
      bits |= 1u << i;
  }
  return bits;
}

static void ask_gather(boundaries *b, const nn_op *op) {
  const nn_value *out = op->out[0], *data = op->in[0], *at = op->in[1];
  int axis = (int)nn_attr_int(op, "axis"), behind = axis + at->type.rank;
  for (int i = 0; i + 1 < out->type.rank; i++) {
    if (i + 1 < axis)
      unite(b, out, i, data, i);
    else if (i >= axis && i + 1 < behind)
      unite(b, out, i, at, i - axis);
    else if (i >= behind)
      unite(b, out, i, data, i - at->type.rank + 1);
    else
      keep(b, out, i);
  }
  keep(b, data, axis - 1);
  keep(b, data, axis);
}

static void ask(boundaries *b, const nn_op *op) {
  int rank = op->out[0]->type.rank, axis = 0;
  unsigned all = ~0u, bits = 0;
  if (nn_op_infos[op->code].flags & NN_POINTWISE) {
    ask_each(b, op, 0, 0);
    return;
  }
  switch (op->code) {
  case NN_OP_BROADCAST: ask_broadcast(b, op); return;
  case NN_OP_TRANSPOSE: ask_transpose(b, op); return;
  case NN_OP_RESHAPE: ask_reshape(b, op); return;
  case NN_OP_GATHER: ask_gather(b, op); return;
  case NN_OP_SLICE:
    bits = bits_where_not(nn_attr_dims(op, "steps", NULL), rank, 1);
    for (int i = 0; i < rank; i++)
      if (op->in[0]->type.dims[i] != op->out[0]->type.dims[i]) axis |= 1 << i;
    ask_each(b, op, bits | (unsigned)axis | bits_where_not(nn_attr_dims(op, "starts", NULL), rank, 0), ~bits);
    return;
  case NN_OP_PAD:
    bits = bits_where_not(nn_attr_dims(op, "before", NULL), rank, 0) |
           bits_where_not(nn_attr_dims(op, "after", NULL), rank, 0);
    ask_each(b, op, bits, strcmp(nn_attr_str(op, "mode"), "constant") == 0 ? all : 0);
    return;
  case NN_OP_TILE: ask_each(b, op, bits_where_not(nn_attr_dims(op, "repeats", NULL), rank, 1), all); return;
  case NN_OP_CONCAT: ask_each(b, op, 1u << nn_attr_int(op, "axis"), all); return;
  case NN_OP_IOTA: ask_each(b, op, 1u << nn_attr_int(op, "axis"), 0); return;
  case NN_OP_RESIZE: ask_each(b, op, resized_dims(op), 0); return;
  default: break;
  }
  keep_all(b, op->out[0]);
  for (int i = 0; i < op->nin; i++)
    if (op->in[i]) keep_all(b, op->in[i]);
}

/* ---- copies with merged dimensions --------------------------------------------------------------- */

/* begin[r]: the first dimension of v's merged dimension r; returns their number. */
static int runs_of(boundaries *b, const nn_value *v, int *begin) {
  int n = 0;
  for (int i = 0; i < v->type.rank; i++)
    if (i == 0 || !is_merged(b, v, i - 1)) begin[n++] = i;
  begin[n] = v->type.rank;
  return n;
}

static int run_with(const int *begin, int dim) {
  int r = 0;
  while (begin[r + 1] <= dim) r++;
  return r;
}

static nn_value *copy_value(boundaries *b, nn_map *copies, const nn_value *v) {
  nn_value *copy = nn_memdup(b->module->arena, v, sizeof *v);
  int begin[NN_MAX_RANK + 1];
  int rank = runs_of(b, v, begin);
  nn_dim dims[NN_MAX_RANK];
  for (int r = 0; r < rank; r++) dims[r] = nn_dim_product(b->module, v->type.dims + begin[r], begin[r + 1] - begin[r]);
  copy->type = nn_type_make(b->module, v->type.dtype, rank, dims);
  nn_map_put_ptr(copies, v, copy);
  return copy;
}

/* One entry for each merged dimension: the leading one's, times the dimensions that follow it if scaled. */
static void merge_dims(boundaries *b, const nn_op *from, nn_op *to, const char *name, const nn_value *shape,
                       bool is_scaled) {
  const nn_dim *dims = nn_attr_dims(from, name, NULL);
  nn_dim merged[NN_MAX_RANK];
  int begin[NN_MAX_RANK + 1];
  int rank = runs_of(b, shape, begin);
  for (int r = 0; r < rank; r++) {
    merged[r] = dims[begin[r]];
    if (!is_scaled) continue;
    nn_dim inner = nn_dim_product(b->module, shape->type.dims + begin[r] + 1, begin[r + 1] - begin[r] - 1);
    merged[r] = nn_dim_mul(b->module, merged[r], inner);
  }
  nn_set_dims(to, name, merged, rank);
}

static void merge_axis(boundaries *b, const nn_op *from, nn_op *to, const nn_value *shape) {
  int begin[NN_MAX_RANK + 1];
  runs_of(b, shape, begin);
  nn_set_int(to, "axis", run_with(begin, (int)nn_attr_int(from, "axis")));
}

static void merge_perm(boundaries *b, const nn_op *from, nn_op *to) {
  const int64_t *perm = nn_attr_ints(from, "perm", NULL);
  int out[NN_MAX_RANK + 1], in[NN_MAX_RANK + 1];
  int64_t merged[NN_MAX_RANK];
  int rank = runs_of(b, from->out[0], out);
  runs_of(b, from->in[0], in);
  for (int r = 0; r < rank; r++) merged[r] = run_with(in, (int)perm[out[r]]);
  nn_set_ints(to, "perm", merged, rank);
}

static void merge_scales(boundaries *b, const nn_op *from, nn_op *to) {
  int count = 0, begin[NN_MAX_RANK + 1];
  const double *scales = nn_attr_floats(from, "scales", &count);
  double merged[NN_MAX_RANK];
  int rank = runs_of(b, from->out[0], begin);
  if (count == 0) return;
  for (int r = 0; r < rank; r++) merged[r] = scales[begin[r]];
  nn_set_floats(to, "scales", merged, rank);
}

static void merge_attributes(boundaries *b, const nn_op *from, nn_op *to) {
  const nn_value *out = from->out[0];
  switch (from->code) {
  case NN_OP_TRANSPOSE: merge_perm(b, from, to); break;
  case NN_OP_SLICE:
    merge_dims(b, from, to, "starts", from->in[0], true);
    merge_dims(b, from, to, "steps", out, false);
    break;
  case NN_OP_PAD:
    merge_dims(b, from, to, "before", out, true);
    merge_dims(b, from, to, "after", out, true);
    break;
  case NN_OP_TILE: merge_dims(b, from, to, "repeats", out, false); break;
  case NN_OP_RESIZE: merge_scales(b, from, to); break;
  case NN_OP_CONCAT:
  case NN_OP_IOTA: merge_axis(b, from, to, out); break;
  case NN_OP_GATHER: merge_axis(b, from, to, from->in[0]); break;
  default: break; /* others keep no shape in attributes that their lowering reads: types say it */
  }
}

static nn_op *copy_op(boundaries *b, nn_map *copies, const nn_op *op) {
  nn_arena *arena = b->module->arena;
  nn_op *copy = nn_memdup(arena, op, sizeof *op);
  copy->in = NN_NEW_ARRAY(arena, nn_value *, op->nin + 1);
  copy->out = NN_NEW_ARRAY(arena, nn_value *, 1);
  copy->attrs = nn_memdup(arena, op->attrs, (size_t)nn_op_infos[op->code].nattrs * sizeof *op->attrs);
  for (int i = 0; i < op->nin; i++) copy->in[i] = op->in[i] ? nn_map_get_ptr(copies, op->in[i]) : NULL;
  copy->out[0] = copy_value(b, copies, op->out[0]);
  copy->out[0]->def = copy;
  merge_attributes(b, op, copy);
  return copy;
}

static void copy_group(boundaries *b, nn_group *g) {
  nn_arena *arena = b->module->arena;
  nn_map *copies = nn_map_new(arena);
  nn_op **ops = NN_NEW_ARRAY(arena, nn_op *, g->nops);
  for (int i = 0; i < g->ninputs; i++) g->inner[i] = copy_value(b, copies, g->inner[i]);
  for (int i = 0; i < g->nops; i++) ops[i] = copy_op(b, copies, g->ops[i]);
  for (int i = 0; i < g->nresults; i++) g->results[i] = nn_map_get_ptr(copies, g->results[i]);
  g->ops = ops;
}

static bool merges_any(boundaries *b) {
  for (int i = 0; i < b->count; i++)
    if (!b->is_kept[find_root(b, i)]) return true;
  return false;
}

void nn_group_collapse(nn_module *m, nn_group *group) {
  boundaries b = {.module = m, .first = nn_map_new(m->arena)};
  number_boundaries(&b, group);
  for (int i = 0; i < group->nops; i++) ask(&b, group->ops[i]);
  if (merges_any(&b)) copy_group(&b, group);
}
