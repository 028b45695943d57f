/* The loops of a group of element ops: over the elements of its results, which all have one shape. Two
   things that ops do call for other loops than the plain ones:

   concat      each part gets loops of its own, in which no element asks to which part it belongs;
   transpose   loops in the result's order read the operand across its rows. So the dimension in which the
               operand is contiguous is cut into blocks, which run innermost: the lines of memory that
               one step touches are still in the cache when the next step wants their neighbours.

     for %block in 0..128 { for %v in 0..128 { vector %l in 0..8 { unroll %j in 0..8 {
       %out[(%block*8 + %j)*1024 + %v*8 + %l] = %in[(%v*8 + %l)*1024 + %block*8 + %j] } } } } */
#include "codegen/codegen.h"

#include <string.h>

enum {
  BLOCK = 8,          /* elements of a row of the operand that are taken at once */
  MIN_BLOCKED = 2048, /* elements from which blocks pay */
  MAX_UNROLLED = 6    /* ops of a group of which BLOCK copies are made */
};

/* ---- costs ------------------------------------------------------------------------------------------ */

/* Rough operations for one element of the result, for the size of tasks. */
static int64_t op_cost(const nn_op *op) {
  switch (op->code) {
  case NN_OP_EXP:
  case NN_OP_LOG:
  case NN_OP_EXPM1:
  case NN_OP_LOG1P:
  case NN_OP_SIGMOID:
  case NN_OP_SILU2:
  case NN_OP_TANH:
  case NN_OP_SOFTPLUS: return 12;
  case NN_OP_SIN:
  case NN_OP_COS:
  case NN_OP_TAN:
  case NN_OP_ASIN:
  case NN_OP_ACOS:
  case NN_OP_ATAN:
  case NN_OP_SINH:
  case NN_OP_COSH:
  case NN_OP_ASINH:
  case NN_OP_ACOSH:
  case NN_OP_ATANH:
  case NN_OP_ERF:
  case NN_OP_POW:
  case NN_OP_FMOD:
  case NN_OP_MOD: return 24;
  case NN_OP_DIV:
  case NN_OP_RECIP:
  case NN_OP_SQRT: return 4;
  case NN_OP_RESIZE: return 32;
  default: return 1;
  }
}

static int64_t group_cost(const nn_group *g) {
  int64_t cost = g->ninputs + g->nresults;
  for (int i = 0; i < g->nops; i++) cost += op_cost(g->ops[i]);
  return cost;
}

static int smallest(int a, int b) { return a < b ? a : b; }

static int group_lanes(const nn_lower *L, const nn_group *g) {
  int lanes = 64;
  for (int i = 0; i < g->ninputs; i++)
    if (g->inner[i]->type.rank > 0) lanes = smallest(lanes, nn_target_lanes(L->target, g->inner[i]->type.dtype));
  for (int i = 0; i < g->nops; i++) lanes = smallest(lanes, nn_target_lanes(L->target, g->ops[i]->out[0]->type.dtype));
  return lanes;
}

/* ---- elements --------------------------------------------------------------------------------------- */

/* All values first, as in nn_write. */
static void write_elements(nn_lower *L, nn_x *const *index, void *data) {
  (void)data;
  const nn_group *g = nn_group_of(L);
  nn_x **values = NN_NEW_ARRAY(L->module->arena, nn_x *, g->nresults);
  for (int r = 0; r < g->nresults; r++) values[r] = nn_read(L, g->results[r], index);
  for (int r = 0; r < g->nresults; r++) nn_store_result(L, r, index, values[r]);
}

/* The last op with this code that is read at the results' own indices, or NULL. */
static nn_op *find_op(const nn_lower *L, nn_opcode code) {
  const nn_group *g = nn_group_of(L);
  nn_map *is_own = nn_map_new(L->module->arena);
  for (int r = 0; r < g->nresults; r++) nn_map_put_ptr(is_own, g->results[r], g->results[r]);
  for (int i = g->nops - 1; i >= 0; i--) {
    nn_op *op = g->ops[i];
    if (!nn_map_get_ptr(is_own, op->out[0])) continue;
    if (op->code == code) return op;
    if (!(nn_op_infos[op->code].flags & NN_POINTWISE)) continue;
    for (int k = 0; k < op->nin; k++) nn_map_put_ptr(is_own, op->in[k], op);
  }
  return NULL;
}

/* ---- concat ----------------------------------------------------------------------------------------- */

typedef struct part_loops {
  nn_part part;
  int axis, halved;  /* dimension that is cut in halves, or -1 */
  nn_dim offset, half_size;
  nn_x *const *half; /* the present one */
} part_loops;

static void write_part(nn_lower *L, nn_x *const *index, void *data) {
  part_loops *p = data;
  nn_kernel *k = L->kernel;
  nn_x *shifted[NN_MAX_RANK];
  memcpy(shifted, index, (size_t)nn_group_of(L)->results[0]->type.rank * sizeof *index);
  if (p->halved >= 0) shifted[p->halved] = nn_xi_add(k, index[p->halved], nn_xi_mul(k, *p->half, nn_dim_x(L, p->half_size)));
  p->part.index = shifted[p->axis] = nn_xi_add(k, index[p->axis], nn_dim_x(L, p->offset));
  nn_part_set(L, p->part);
  write_elements(L, shifted, NULL);
}

/* Halves of an image, in all parts, come one after the other (nn_split_task has the reason): of the largest dimension that is even. */
static int halved_dim(nn_type type, int axis) {
  int found = -1;
  int64_t largest = 2, size;
  for (int i = 0; i < type.rank - 1; i++)
    if (i != axis && nn_dim_is_const(type.dims[i], &size) && size % 2 == 0 && size > largest) {
      largest = size;
      found = i;
    }
  return found;
}

static void loop_parts(nn_lower *L, const nn_op *concat, nn_type type, int lanes, int64_t cost) {
  nn_arena *arena = L->module->arena;
  part_loops *parts = NN_NEW_ARRAY(arena, part_loops, concat->nin);
  nn_box *boxes = NN_NEW_ARRAY(arena, nn_box, concat->nin);
  nn_dim offset = nn_dim_const(L->module, 0);
  int axis = (int)nn_attr_int(concat, "axis"), halved = halved_dim(type, axis);
  nn_x *half = NULL;
  nn_dim half_size = halved < 0 ? offset : nn_dim_ceildiv(L->module, type.dims[halved], nn_dim_const(L->module, 2));
  for (int i = 0; i < concat->nin; i++) {
    nn_dim *dims = nn_memdup(arena, type.dims, (size_t)type.rank * sizeof *dims);
    dims[axis] = concat->in[i]->type.dims[axis];
    if (halved >= 0) dims[halved] = half_size;
    parts[i] = (part_loops){{.concat = concat, .number = i}, axis, halved, offset, half_size, &half};
    boxes[i] = (nn_box){dims, &parts[i]};
    offset = nn_dim_add(L->module, offset, concat->in[i]->type.dims[axis]);
  }
  nn_boxes_loops(L, &(nn_boxes){boxes, concat->nin, type.rank, lanes, cost, halved < 0 ? 1 : 2, write_part}, &half);
  nn_part_set(L, (nn_part){0});
}

/* ---- transpose -------------------------------------------------------------------------------------- */

typedef struct block_loops {
  int dim; /* of the results: the operand's last */
  nn_dim size;
  int64_t block;
} block_loops;

/* The result's dimension along which the operand of op is contiguous, or -1 if it is the last anyway. */
static int contiguous_dim(const nn_op *op) {
  const int64_t *perm = nn_attr_ints(op, "perm", NULL);
  int last = op->out[0]->type.rank - 1;
  for (int i = 0; i < last; i++)
    if (perm[i] == last) return i;
  return -1;
}

static void write_block(nn_lower *L, nn_x *const *index, void *data) {
  const block_loops *b = data;
  nn_kernel *k = L->kernel;
  nn_x *inner[NN_MAX_RANK];
  memcpy(inner, index, (size_t)nn_group_of(L)->results[0]->type.rank * sizeof *index);
  nn_x *first = nn_xi_mulc(k, index[b->dim], b->block), *count = nn_x_int(k, b->block);
  int64_t size = 0;
  bool is_whole = nn_dim_is_const(b->size, &size) && size % b->block == 0;
  if (!is_whole) count = nn_bind(L, nn_xi_min(k, count, nn_xi_sub(k, nn_dim_x(L, b->size), first)));
  bool unrolls = is_whole && nn_group_of(L)->nops <= MAX_UNROLLED;
  nn_x *j = nn_loop_begin(k, unrolls ? NN_UNROLL : NN_FOR, "j", nn_x_int(k, 0), count);
  inner[b->dim] = nn_xi_add(k, first, j);
  write_elements(L, inner, NULL);
  nn_end(k);
}

static void loop_blocks(nn_lower *L, int dim, nn_type type, int lanes, int64_t cost) {
  nn_dim dims[NN_MAX_RANK];
  int64_t size = 0;
  memcpy(dims, type.dims, (size_t)type.rank * sizeof *dims);
  block_loops b = {.dim = dim, .size = dims[dim], .block = BLOCK};
  if (nn_dim_is_const(b.size, &size) && size < BLOCK) b.block = size;
  dims[dim] = nn_dim_ceildiv(L->module, b.size, nn_dim_const(L->module, b.block));
  nn_box_loops(L, dims, type.rank, lanes, cost * b.block, write_block, &b);
}

static int find_block_dim(const nn_lower *L, nn_type type, int lanes) {
  int64_t count = 0, last = 0;
  const nn_op *transpose = find_op(L, NN_OP_TRANSPOSE);
  if (!transpose || (nn_type_static_count(type, &count) && count < MIN_BLOCKED)) return -1;
  if (nn_dim_is_const(type.dims[type.rank - 1], &last) && last < lanes) return -1; /* no vectors to be filled */
  return contiguous_dim(transpose);
}

/* ---- the group -------------------------------------------------------------------------------------- */

nn_status nn_lower_elements(nn_lower *L) {
  const nn_group *g = nn_group_of(L);
  if (g->nresults == 0) return NN_OK;
  nn_type type = g->results[0]->type;
  for (int r = 1; r < g->nresults; r++)
    if (!nn_type_same_shape(g->results[r]->type, type))
      return nn_fail(L->op, "internal error: a fused group has results of different shapes");
  int lanes = group_lanes(L, g), block_dim = find_block_dim(L, type, lanes);
  int64_t cost = group_cost(g);
  nn_op *concat = find_op(L, NN_OP_CONCAT);
  if (concat)
    loop_parts(L, concat, type, lanes, cost);
  else if (block_dim >= 0)
    loop_blocks(L, block_dim, type, lanes, cost);
  else
    nn_box_loops(L, type.dims, type.rank, lanes, cost, write_elements, NULL);
  return NN_OK;
}
