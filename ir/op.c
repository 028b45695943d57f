/* The table of core operations, expanded from ops.def, and what ops carry: attributes by name, and the
   place in the model that errors name. */
#include "ir/ir.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ------------------------------------------------------------------------------------ */

#define OP(code, text, nin_min, nin_max, nout, flags, family) nn_status shape_##text(nn_op *op);
#define ATTR(code, name, kind, fallback)
#include "ir/ops.def"
#undef OP
#undef ATTR

/* One array of attributes per op, attrs_CODE. Each OP row closes the array of the row before it and opens
   its own with an empty entry, since C has no empty arrays: the attributes start at 1. The enum is there
   for the first OP row to close. */
/* clang-format off */
enum { ATTRS_FOLLOW
#define OP(code, text, nin_min, nin_max, nout, flags, family) }; static const nn_attr_info attrs_##code[] = {{"", NN_ATTR_INT, ""}
#define ATTR(code, name, kind, fallback) , {name, NN_ATTR_##kind, fallback}
#include "ir/ops.def"
#undef OP
#undef ATTR
};
/* clang-format on */

const nn_op_info nn_op_infos[NN_OP_COUNT] = {
#define OP(code, text, nin_min, nin_max, nout, flags, family)                                                          \
  {#text,       nin_min, nin_max, nout, flags, attrs_##code + 1, sizeof attrs_##code / sizeof *attrs_##code - 1,       \
   shape_##text},
#define ATTR(code, name, kind, fallback)
#include "ir/ops.def"
#undef OP
#undef ATTR
};

bool nn_opcode_find(const char *text, size_t length, nn_opcode *out) {
  for (int code = 0; code < NN_OP_COUNT; code++) {
    const char *name = nn_op_infos[code].text;
    if (strlen(name) != length || memcmp(name, text, length) != 0) continue;
    *out = (nn_opcode)code;
    return true;
  }
  return false;
}

/* ---- attributes ----------------------------------------------------------------------------------- */

/* "-0.75", "1e-05": the defaults in ops.def, whatever the host program's locale makes of a point. Exact,
   because digits below 2^53 and a power of ten up to 10^22 are exact doubles, and one operation rounds. */
static double parse_default(const char *text) {
  bool is_negative = *text == '-', has_point = false;
  double digits = 0, power = 1;
  int exponent = 0;
  for (text += is_negative; *text && *text != 'e'; text++) {
    if (*text == '.') {
      has_point = true;
      continue;
    }
    digits = digits * 10 + (*text - '0');
    exponent -= has_point;
  }
  if (*text == 'e') exponent += (int)strtol(text + 1, NULL, 10);
  assert(digits < 9007199254740992.0 && exponent >= -22 && exponent <= 22);
  for (int i = exponent < 0 ? -exponent : exponent; i > 0; i--) power *= 10;
  double value = exponent < 0 ? digits / power : digits * power;
  return is_negative ? -value : value;
}

static nn_attr default_of(const nn_attr_info *info) {
  nn_attr attr = {.kind = info->kind};
  if (info->kind == NN_ATTR_INT) attr.i = strtoll(info->fallback, NULL, 10);
  if (info->kind == NN_ATTR_FLOAT) attr.f = parse_default(info->fallback);
  if (info->kind == NN_ATTR_STR) attr.s = info->fallback;
  return attr;
}

nn_attr *nn_attrs_default(nn_arena *arena, nn_opcode code) {
  const nn_op_info *info = &nn_op_infos[code];
  nn_attr *attrs = NN_NEW_ARRAY(arena, nn_attr, info->nattrs);
  for (int i = 0; i < info->nattrs; i++) attrs[i] = default_of(&info->attrs[i]);
  return attrs;
}

static nn_attr *find_attr(const nn_op *op, const char *name) {
  const nn_op_info *info = &nn_op_infos[op->code];
  for (int i = 0; i < info->nattrs; i++) {
    if (strcmp(info->attrs[i].name, name) == 0) return &op->attrs[i];
  }
  assert(!"an attribute that ops.def does not have");
  return NULL;
}

static nn_attr *find_attr_of(const nn_op *op, const char *name, nn_attr_kind kind) {
  nn_attr *attr = find_attr(op, name);
  assert(attr->kind == kind || (kind == NN_ATTR_INT && attr->kind == NN_ATTR_DTYPE));
  (void)kind;
  return attr;
}

nn_attr *nn_op_attr(nn_op *op, const char *name) { return find_attr(op, name); }

int64_t nn_attr_int(const nn_op *op, const char *name) { return find_attr_of(op, name, NN_ATTR_INT)->i; }

double nn_attr_float(const nn_op *op, const char *name) { return find_attr_of(op, name, NN_ATTR_FLOAT)->f; }

const char *nn_attr_str(const nn_op *op, const char *name) { return find_attr_of(op, name, NN_ATTR_STR)->s; }

const int64_t *nn_attr_ints(const nn_op *op, const char *name, int *count) {
  const nn_attr *attr = find_attr_of(op, name, NN_ATTR_INTS);
  if (count) *count = attr->count;
  return attr->ints;
}

const double *nn_attr_floats(const nn_op *op, const char *name, int *count) {
  const nn_attr *attr = find_attr_of(op, name, NN_ATTR_FLOATS);
  if (count) *count = attr->count;
  return attr->floats;
}

const nn_dim *nn_attr_dims(const nn_op *op, const char *name, int *count) {
  const nn_attr *attr = find_attr_of(op, name, NN_ATTR_DIMS);
  if (count) *count = attr->count;
  return attr->dims;
}

nn_graph *nn_attr_graph(const nn_op *op, const char *name) { return find_attr_of(op, name, NN_ATTR_GRAPH)->graph; }

static nn_attr *set_attr(nn_op *op, const char *name, nn_attr_kind kind, int count) {
  nn_attr *attr = find_attr_of(op, name, kind);
  attr->is_set = true;
  attr->count = count;
  return attr;
}

/* A copy of a list, so that callers may pass arrays of their own. */
static void *copy_list(nn_op *op, const void *items, int count, size_t size_bytes) {
  return nn_memdup(op->graph->module->arena, items, (size_t)count * size_bytes);
}

void nn_set_int(nn_op *op, const char *name, int64_t value) { set_attr(op, name, NN_ATTR_INT, 0)->i = value; }

void nn_set_float(nn_op *op, const char *name, double value) { set_attr(op, name, NN_ATTR_FLOAT, 0)->f = value; }

void nn_set_str(nn_op *op, const char *name, const char *value) {
  set_attr(op, name, NN_ATTR_STR, 0)->s = nn_strdup(op->graph->module->arena, value);
}

void nn_set_ints(nn_op *op, const char *name, const int64_t *values, int count) {
  set_attr(op, name, NN_ATTR_INTS, count)->ints = copy_list(op, values, count, sizeof *values);
}

void nn_set_floats(nn_op *op, const char *name, const double *values, int count) {
  set_attr(op, name, NN_ATTR_FLOATS, count)->floats = copy_list(op, values, count, sizeof *values);
}

void nn_set_strs(nn_op *op, const char *name, const char *const *values, int count) {
  nn_arena *arena = op->graph->module->arena;
  const char **copy = NN_NEW_ARRAY(arena, const char *, count);
  for (int i = 0; i < count; i++) copy[i] = nn_strdup(arena, values[i]);
  set_attr(op, name, NN_ATTR_STRS, count)->strs = copy;
}

void nn_set_dims(nn_op *op, const char *name, const nn_dim *values, int count) {
  set_attr(op, name, NN_ATTR_DIMS, count)->dims = copy_list(op, values, count, sizeof *values);
}

void nn_set_graph(nn_op *op, const char *name, nn_graph *graph) { set_attr(op, name, NN_ATTR_GRAPH, 0)->graph = graph; }

static bool lists_equal(const void *a, const void *b, int count, size_t size_bytes) {
  return count == 0 || memcmp(a, b, (size_t)count * size_bytes) == 0;
}

static bool strs_equal(const nn_attr *a, const nn_attr *b) {
  for (int i = 0; i < a->count; i++) {
    if (strcmp(a->strs[i], b->strs[i]) != 0) return false;
  }
  return true;
}

/* By value: an attribute set to its default equals one that was never set. Floats by their bits, so that
   NaN equals itself and -0 is not 0. */
static bool attr_equal(const nn_attr *a, const nn_attr *b) {
  if (a->count != b->count) return false;
  switch (a->kind) {
  case NN_ATTR_INT:
  case NN_ATTR_DTYPE: return a->i == b->i;
  case NN_ATTR_FLOAT: return memcmp(&a->f, &b->f, sizeof a->f) == 0;
  case NN_ATTR_STR: return strcmp(a->s, b->s) == 0;
  case NN_ATTR_INTS: return lists_equal(a->ints, b->ints, a->count, sizeof *a->ints);
  case NN_ATTR_FLOATS: return lists_equal(a->floats, b->floats, a->count, sizeof *a->floats);
  case NN_ATTR_STRS: return strs_equal(a, b);
  case NN_ATTR_DIMS: return lists_equal(a->dims, b->dims, a->count, sizeof *a->dims);
  case NN_ATTR_GRAPH: return a->graph == b->graph;
  }
  return false;
}

bool nn_attrs_are_numbers(const nn_op *op) {
  for (int i = 0; i < nn_op_infos[op->code].nattrs; i++)
    for (int k = 0; op->attrs[i].kind == NN_ATTR_DIMS && k < op->attrs[i].count; k++)
      if (!nn_dim_is_const(op->attrs[i].dims[k], NULL)) return false;
  return true;
}

bool nn_attrs_equal(const nn_op *a, const nn_op *b) {
  if (a->code != b->code) return false;
  for (int i = 0; i < nn_op_infos[a->code].nattrs; i++) {
    if (!attr_equal(&a->attrs[i], &b->attrs[i])) return false;
  }
  return true;
}

/* ---- errors and inference ------------------------------------------------------------------------- */

nn_status nn_fail(nn_op *op, const char *format, ...) {
  va_list args;
  va_start(args, format);
  const char *node = op->loc && op->loc[0] ? op->loc : NULL;
  const char *type = op->loc_op ? op->loc_op : nn_op_infos[op->code].text;
  nn_status status = nn_vreport(&op->graph->module->diags, NN_ERROR, node, type, NULL, format, args);
  va_end(args);
  return status;
}

/* What the table says: counts of operands and results, which operands must be there. */
static nn_status check_arity(nn_op *op) {
  const nn_op_info *info = &nn_op_infos[op->code];
  if (op->nin < info->nin_min) {
    return nn_fail(op, "%s has %d operands, expected at least %d", info->text, op->nin, info->nin_min);
  }
  if (info->nin_max >= 0 && op->nin > info->nin_max) {
    return nn_fail(op, "%s has %d operands, expected at most %d", info->text, op->nin, info->nin_max);
  }
  if (info->nout >= 0 && op->nout != info->nout) {
    return nn_fail(op, "%s has %d results, expected %d", info->text, op->nout, info->nout);
  }
  for (int i = 0; i < op->nin; i++) {
    bool is_optional = info->nin_max >= 0 && i >= info->nin_min;
    if (!op->in[i] && !is_optional) return nn_fail(op, "operand %d of %s is missing", i, info->text);
  }
  return NN_OK;
}

/* Attributes without a default that no op can do without; lists may be empty, their rules check counts. */
static nn_status check_required_attrs(nn_op *op) {
  const nn_op_info *info = &nn_op_infos[op->code];
  for (int i = 0; i < info->nattrs; i++) {
    nn_attr_kind kind = info->attrs[i].kind;
    bool is_single = kind == NN_ATTR_INT || kind == NN_ATTR_DTYPE || kind == NN_ATTR_GRAPH;
    if (!is_single || info->attrs[i].fallback[0] || op->attrs[i].is_set) continue;
    return nn_fail(op, "attribute '%s' of %s is not given", info->attrs[i].name, info->text);
  }
  return NN_OK;
}

nn_status nn_op_check_row(nn_op *op) {
  NN_TRY(check_arity(op));
  return check_required_attrs(op);
}

/* Shape rules know logical types only; a layout that a pass chose stays. */
nn_status nn_op_infer(nn_op *op) {
  NN_TRY(nn_op_check_row(op));
  nn_arena *arena = op->graph->module->arena;
  const char **layouts = NULL;
  for (int i = 0; i < op->nout; i++) {
    if (!op->out[i]->type.layout) continue;
    if (!layouts) layouts = NN_NEW_ARRAY(arena, const char *, op->nout);
    layouts[i] = op->out[i]->type.layout;
  }
  NN_TRY(nn_op_infos[op->code].shape(op));
  for (int i = 0; layouts && i < op->nout; i++) op->out[i]->type.layout = layouts[i];
  nn_op_known_elems(op);
  return NN_OK;
}
