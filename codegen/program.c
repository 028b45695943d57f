/* The graph as a program: a list of steps over places. Each op, or fused op, is a call of a kernel;
   kernels that are equal but for their names are one. A value that only gives another shape to the elements of another
   is a view: it has the same place and takes no step. A result of the graph is written in its output by the kernel that
   makes it; what no kernel makes (an operand, a constant, a result that is given twice) is copied at the end. */
#include "codegen/codegen.h"

#include <assert.h>

enum { WEIGHT_ALIGN = 64 };

typedef struct building {
  nn_program *p;
  nn_module *m;
  const nn_target *target;
  nn_map *places;  /* nn_value that is no view -> nn_place */
  nn_map *kernels; /* key -> nn_kernel */
  nn_map *names;   /* of kernels, to keep them apart */
  nn_arena *scratch;
} building;

/* ---- views --------------------------------------------------------------------------------------- */

/* The dimensions that are not 1 are the same, in the same order. */
static bool keeps_order(nn_type a, nn_type b) {
  int i = 0, j = 0;
  for (;;) {
    while (i < a.rank && nn_dim_is(a.dims[i], 1)) i++;
    while (j < b.rank && nn_dim_is(b.dims[j], 1)) j++;
    if (i == a.rank || j == b.rank) return i == a.rank && j == b.rank;
    if (a.dims[i++] != b.dims[j++]) return false;
  }
}

static bool transposes_ones(const nn_op *op) {
  const int64_t *perm = nn_attr_ints(op, "perm", NULL);
  int64_t last = -1;
  for (int i = 0; i < op->out[0]->type.rank; i++) {
    if (nn_dim_is(op->out[0]->type.dims[i], 1)) continue;
    if (perm[i] < last) return false;
    last = perm[i];
  }
  return true;
}

/* The result is the operand's bytes. */
static bool is_view(const nn_op *op) {
  switch (op->code) {
  case NN_OP_COPY:
  case NN_OP_RESHAPE:
  case NN_OP_BITCAST: return true;
  case NN_OP_TRANSPOSE: return transposes_ones(op);
  case NN_OP_BROADCAST: return keeps_order(op->in[0]->type, op->out[0]->type);
  default: return false;
  }
}

static nn_value *root_of(nn_value *v) {
  while (v->kind == NN_RESULT && is_view(v->def)) v = v->def->in[0];
  return v;
}

/* ---- places -------------------------------------------------------------------------------------- */

static nn_dim bytes_of(nn_module *m, nn_dtype dtype, nn_dim count) {
  nn_dim bits = nn_dim_const(m, nn_dtype_bits(dtype)), eight = nn_dim_const(m, 8);
  return nn_dim_ceildiv(m, nn_dim_mul(m, count, bits), eight);
}

static nn_place *new_place(building *b, nn_place_kind kind, int index, nn_dim bytes) {
  nn_place *place = NN_NEW(b->m->arena, nn_place);
  place->kind = kind;
  place->index = index;
  place->bytes = bytes;
  place->first = place->last = -1;
  place->slot = -1;
  NN_PUSH(b->m->arena, b->p->places, b->p->nplaces, b->p->places_cap, place);
  return place;
}

static nn_place *value_place(building *b, nn_place_kind kind, int index, const nn_value *v) {
  return new_place(b, kind, index, bytes_of(b->m, v->type.dtype, nn_type_count(b->m, v->type)));
}

static const nn_place *find_weight(const nn_program *p, const nn_value *v) {
  for (int i = 0; p && i < p->nplaces; i++)
    if (p->places[i]->kind == NN_PLACE_WEIGHT && p->places[i]->value == v) return p->places[i];
  return NULL;
}

/* Variants share their weights. What was made while compiling stays where it is; the others lie between and behind. */
static int64_t weight_offset(building *b, const nn_value *v) {
  const nn_tensor *t = v->tensor;
  const nn_place *shared = find_weight(b->p->widest, v);
  if (shared) return shared->offset;
  nn_spill *spill = nn_spill_is_open(b->m->spill) ? b->m->spill : NULL;
  int64_t offset;
  if (nn_spill_find(spill, t->data, &offset) && offset % WEIGHT_ALIGN == 0) return offset;
  return spill ? nn_spill_reserve(spill, t->size_bytes) : b->p->weights_bytes;
}

static nn_place *weight_place(building *b, nn_value *v) {
  nn_place *place = value_place(b, NN_PLACE_WEIGHT, 0, v);
  place->value = v;
  place->offset = weight_offset(b, v);
  int64_t end = place->offset + (int64_t)v->tensor->size_bytes;
  end = (end + WEIGHT_ALIGN - 1) / WEIGHT_ALIGN * WEIGHT_ALIGN;
  if (end > b->p->weights_bytes) b->p->weights_bytes = end;
  return place;
}

/* NULL after an error. */
static nn_place *place_of(building *b, nn_op *op, nn_value *v) {
  v = root_of(v);
  nn_place *place = nn_map_get_ptr(b->places, v);
  if (place) return place;
  bool is_static_tensor = v->kind == NN_CONST || v->kind == NN_STATE;
  if (is_static_tensor && !v->tensor) {
    nn_fail(op, "tensor '%s' has no contents", v->name ? v->name : "");
    return NULL;
  }
  place = is_static_tensor ? weight_place(b, v) : value_place(b, NN_PLACE_WORKSPACE, 0, v);
  nn_map_put_ptr(b->places, v, place);
  return place;
}

static void make_inputs(building *b) {
  nn_graph *g = b->p->graph;
  b->p->ninputs = g->nparams;
  b->p->inputs = NN_NEW_ARRAY(b->m->arena, nn_place *, g->nparams + 1);
  for (int i = 0; i < g->nparams; i++) {
    b->p->inputs[i] = value_place(b, NN_PLACE_INPUT, i, g->params[i]);
    nn_map_put_ptr(b->places, g->params[i], b->p->inputs[i]);
  }
}

static void make_outputs(building *b, const nn_op *ret) {
  b->p->noutputs = ret->nin;
  b->p->outputs = NN_NEW_ARRAY(b->m->arena, nn_place *, ret->nin + 1);
  for (int i = 0; i < ret->nin; i++) {
    b->p->outputs[i] = value_place(b, NN_PLACE_OUTPUT, i, ret->in[i]);
    nn_value *root = root_of(ret->in[i]);
    if (root->kind == NN_RESULT && !nn_map_get_ptr(b->places, root)) nn_map_put_ptr(b->places, root, b->p->outputs[i]);
  }
}

/* ---- steps --------------------------------------------------------------------------------------- */

static void touch(nn_place *place, int step) {
  if (place->first < 0) place->first = step;
  place->last = step;
}

static void add_step(building *b, nn_step step) {
  for (int i = 0; i < step.nargs; i++) touch(step.args[i], b->p->nsteps);
  NN_PUSH(b->m->arena, b->p->steps, b->p->nsteps, b->p->steps_cap, step);
}

static void name_kernel(building *b, nn_kernel *k) {
  const char *wanted = k->name;
  for (int n = 2; nn_map_get(b->names, k->name); n++) k->name = nn_sprintf(b->m->arena, "%s_%d", wanted, n);
  nn_map_put(b->names, k->name, k);
}

static nn_dim worker_bytes_of(nn_module *m, const nn_kernel *k) {
  nn_dim sum = nn_dim_const(m, 0), align = nn_dim_const(m, 64);
  for (int i = 0; i < k->nbufs; i++) {
    if (k->bufs[i]->space != NN_BUF_WORKER) continue;
    nn_dim lines = nn_dim_ceildiv(m, bytes_of(m, k->bufs[i]->dtype, k->bufs[i]->count), align);
    sum = nn_dim_add(m, sum, nn_dim_mul(m, lines, align));
  }
  return sum;
}

/* The kernel itself, or the equal one that was there before. */
static nn_kernel *intern_kernel(building *b, nn_kernel *k) {
  char *key = nn_kernel_key(b->scratch, k);
  nn_kernel *known = nn_map_get(b->kernels, key);
  if (known) return known;
  nn_map_put(b->kernels, key, k);
  name_kernel(b, k);
  NN_PUSH(b->m->arena, b->p->kernels, b->p->nkernels, b->p->kernels_cap, k);
  b->p->worker_bytes = nn_dim_max(b->m, b->p->worker_bytes, worker_bytes_of(b->m, k));
  return k;
}

static int count_temps(const nn_kernel *k) {
  int count = 0;
  for (int i = 0; i < k->nbufs; i++) count += k->bufs[i]->space == NN_BUF_WORKSPACE;
  return count;
}

/* ---- results in the place of operands ------------------------------------------------------------ */

/* Scatters copy their data, element by element, before they do anything else. */
static bool is_moved_by(const nn_op *op, int i) {
  if (op->code == NN_OP_SCATTER_ELEMENTS || op->code == NN_OP_SCATTER_ND) return i > 0;
  return !(nn_op_infos[op->code].flags & NN_POINTWISE);
}

/* moved[i]: operand i is read at other indices than those of the element that is computed, or may be. */
static void find_moved(building *b, nn_op *op, bool *moved) {
  if (op->code != NN_OP_FUSED) {
    for (int i = 0; i < op->nin; i++) moved[i] = is_moved_by(op, i);
    return;
  }
  nn_graph *body = nn_attr_graph(op, "body");
  nn_map *is_moved = nn_map_new(b->scratch);
  for (nn_op *o = body->last; o; o = o->prev) {
    if (o->code == NN_OP_RETURN) continue;
    bool moves = nn_map_get_ptr(is_moved, o->out[0]);
    for (int i = 0; i < o->nin; i++)
      if (o->in[i] && (moves || is_moved_by(o, i))) nn_map_put_ptr(is_moved, o->in[i], o);
  }
  for (int i = 0; i < op->nin; i++) moved[i] = nn_map_get_ptr(is_moved, body->params[i]) != NULL;
}

/* Arg `a` of the step is read only at the element's own index, by operands as large as result. */
static bool may_take(building *b, const nn_step *step, nn_op *op, const bool *moved, int a, const nn_value *result) {
  bool is_found = false;
  for (int i = 0; i < op->nin; i++) {
    nn_value *v = op->in[i];
    if (!v || nn_map_get_ptr(b->places, root_of(v)) != step->args[a]) continue;
    is_found = true;
    if (moved[i] || !nn_type_same_shape(v->type, result->type)) return false;
    if (nn_dtype_bits(v->type.dtype) != nn_dtype_bits(result->type.dtype)) return false;
  }
  return is_found;
}

static const int *find_in_place(building *b, const nn_step *step, nn_op *op, nn_value *const *values, int nvalues) {
  int *in_place = NN_NEW_ARRAY(b->m->arena, int, step->nargs + 1);
  bool *moved = NN_NEW_ARRAY(b->scratch, bool, op->nin + 1), is_any = false;
  find_moved(b, op, moved);
  for (int r = 0; r < step->nargs; r++) {
    in_place[r] = -1;
    if (r >= nvalues || values[r]->def != op) continue;
    const nn_place *wanted = nn_aliased_input(b->p, step->args[r]);
    for (int a = 0; a < r; a++) {
      if (in_place[r] >= 0 && step->args[a] != wanted) continue;
      if (values[a]->def != op && may_take(b, step, op, moved, a, values[r])) in_place[r] = a, is_any = true;
    }
  }
  return is_any ? in_place : NULL;
}

static nn_status add_call(building *b, nn_op *op) {
  nn_value **values = NULL;
  int nvalues = 0;
  nn_kernel *k = nn_lower_op(b->m, b->target, op, &values, &nvalues);
  if (!k) return NN_FAIL;
  NN_TRY(nn_kernel_verify(k, &b->m->diags));
  nn_step step = {.kind = NN_STEP_CALL, .op = op, .kernel = intern_kernel(b, k)};
  step.args = NN_NEW_ARRAY(b->m->arena, nn_place *, nvalues + count_temps(k) + 1);
  for (int i = 0; i < nvalues; i++) {
    nn_place *place = place_of(b, op, values[i]);
    if (!place) return NN_FAIL;
    step.args[step.nargs++] = place;
  }
  for (int i = 0; i < k->nbufs; i++)
    if (k->bufs[i]->space == NN_BUF_WORKSPACE)
      step.args[step.nargs++] =
          new_place(b, NN_PLACE_WORKSPACE, 0, bytes_of(b->m, k->bufs[i]->dtype, k->bufs[i]->count));
  step.in_place = find_in_place(b, &step, op, values, nvalues);
  add_step(b, step);
  return NN_OK;
}

/* ---- concat ----------------------------------------------------------------------------------------- */

enum {
  NEAR = 16
}; /* an operand made so many steps before lies in the result from the start; older ones are copied:
      they would keep memory for the whole result all that time */

static bool is_data_dependent(const building *b, nn_dim d) {
  bool *used = NN_NEW_ARRAY(b->scratch, bool, b->m->nsymbols + 1);
  nn_dim_symbols(d, used);
  for (int i = 0; i < b->m->nsymbols; i++)
    if (used[i] && b->m->symbols[i]->data_dependent) return true;
  return false;
}

/* The operands lie one behind the other in the result. */
static bool is_contiguous(const building *b, const nn_op *concat) {
  nn_type type = concat->out[0]->type;
  int axis = (int)nn_attr_int(concat, "axis");
  for (int i = 0; i < axis; i++)
    if (!nn_dim_is(type.dims[i], 1)) return false;
  if (nn_dtype_bits(type.dtype) < 8 || is_data_dependent(b, nn_type_count(b->m, type))) return false;
  for (int i = 0; i < concat->nin; i++)
    if (is_data_dependent(b, nn_type_count(b->m, concat->in[i]->type))) return false;
  return true;
}

/* v is made by a kernel not long ago, and nothing says yet where. */
static bool may_lie_within(building *b, const nn_value *v) {
  const nn_place *place = nn_map_get_ptr(b->places, v);
  return v->kind == NN_RESULT && place && place->kind == NN_PLACE_WORKSPACE && !place->within &&
         place->first >= b->p->nsteps - NEAR;
}

static bool has_part_to_place(building *b, const nn_op *concat) {
  for (int i = 0; i < concat->nin; i++)
    if (may_lie_within(b, root_of(concat->in[i]))) return true;
  return false;
}

static void add_copy(building *b, nn_op *op, nn_place *from, nn_place *to) {
  nn_step step = {.kind = NN_STEP_COPY, .op = op, .nargs = 2};
  step.args = NN_NEW_ARRAY(b->m->arena, nn_place *, 2);
  step.args[0] = from;
  step.args[1] = to;
  add_step(b, step);
}

/* A concat without a kernel: its operands are parts of its place. */
static nn_status add_concat(building *b, nn_op *op) {
  nn_place *whole = place_of(b, op, op->out[0]);
  if (whole->kind != NN_PLACE_WORKSPACE || !is_contiguous(b, op) || !has_part_to_place(b, op)) return add_call(b, op);
  nn_dim delta = nn_dim_const(b->m, 0);
  for (int i = 0; i < op->nin; i++) {
    nn_value *v = root_of(op->in[i]);
    bool lies_within = may_lie_within(b, v);
    nn_place *from = place_of(b, op, v), *part = from;
    if (!from) return NN_FAIL;
    if (!lies_within) part = value_place(b, NN_PLACE_WORKSPACE, 0, v);
    part->within = whole;
    part->delta = delta;
    if (!lies_within) add_copy(b, op, from, part);
    delta = nn_dim_add(b->m, delta, part->bytes);
  }
  return NN_OK;
}

/* ---- other steps ------------------------------------------------------------------------------------ */

static nn_status add_bind(building *b, nn_op *op) {
  nn_step step = {.kind = NN_STEP_BIND, .op = op, .min = nn_attr_int(op, "min"), .nargs = 1};
  step.dims = nn_attr_dims(op, "dims", &step.ndims);
  step.args = NN_NEW_ARRAY(b->m->arena, nn_place *, 1);
  step.args[0] = place_of(b, op, op->in[0]);
  if (!step.args[0]) return NN_FAIL;
  add_step(b, step);
  return NN_OK;
}

static nn_status add_checks(building *b, nn_op *op) {
  int count = 0;
  const nn_dim *found = nn_attr_dims(op, "found", &count), *expected = nn_attr_dims(op, "expected", NULL);
  for (int i = 0; i < count; i++) {
    nn_step step = {.kind = NN_STEP_CHECK, .op = op, .check = nn_attr_str(op, "kind"), .found = found[i]};
    step.expected = expected[i];
    step.what = nn_attr_str(op, "what");
    add_step(b, step);
  }
  return NN_OK;
}

static nn_status add_copies(building *b, nn_op *ret) {
  for (int i = 0; i < ret->nin; i++) {
    nn_place *from = place_of(b, ret, ret->in[i]);
    if (!from) return NN_FAIL;
    if (from != b->p->outputs[i]) add_copy(b, ret, from, b->p->outputs[i]);
  }
  return NN_OK;
}

static bool is_needed(const nn_op *op) {
  if (nn_op_infos[op->code].flags & NN_EFFECT) return true;
  for (int i = 0; i < op->nout; i++)
    if (op->out[i]->uses) return true;
  return false;
}

static nn_status add_op(building *b, nn_op *op) {
  switch (op->code) {
  case NN_OP_RETURN: return add_copies(b, op);
  case NN_OP_BIND_DIMS: return add_bind(b, op);
  case NN_OP_CHECK: return add_checks(b, op);
  case NN_OP_CONCAT: return is_needed(op) ? add_concat(b, op) : NN_OK;
  default: return is_view(op) || !is_needed(op) ? NN_OK : add_call(b, op);
  }
}

nn_program *nn_program_build_aliased(nn_module *m, const nn_target *t, const char *const *aliases) {
  return nn_program_build_variant(m, t, aliases, NULL);
}

nn_program *nn_program_build_variant(nn_module *m, const nn_target *t, const char *const *aliases, nn_program *widest) {
  nn_program *p = NN_NEW(m->arena, nn_program);
  p->widest = widest;
  building b = {.p = p, .m = m, .target = t, .places = nn_map_new(m->arena), .scratch = nn_arena_new()};
  if (!b.scratch || !m->main || !nn_graph_return(m->main)) {
    nn_report(&m->diags, NN_ERROR, NULL, NULL, NULL, "the model has no complete main graph");
    nn_arena_free(b.scratch);
    return NULL;
  }
  b.kernels = nn_map_new(b.scratch);
  b.names = nn_map_new(b.scratch);
  p->module = m;
  p->graph = m->main;
  p->worker_bytes = p->workspace_bytes = nn_dim_const(m, 0);
  nn_spill_compact(m->spill);
  make_inputs(&b);
  make_outputs(&b, nn_graph_return(m->main));
  nn_status status = nn_aliases_find(p, aliases);
  for (nn_op *op = m->main->first; op; op = op->next)
    if (add_op(&b, op) != NN_OK) status = NN_FAIL; /* and go on, to report all problems at once */
  nn_arena_free(b.scratch);
  if (status != NN_OK) return NULL;
  nn_aliases_order(p);
  nn_plan_ahead(p, t);
  return p;
}

nn_program *nn_program_build(nn_module *m, const nn_target *t) { return nn_program_build_aliased(m, t, NULL); }
