/* What shape rules share: checks that report what was found and what was expected, and the setting of
   result types, where every dimension of every result is checked once.

   Two dims that are different expressions may still be equal while running: shape rules refuse only what
   is provably different, and note the rest (nn_need_check) for those who make run-time checks of it. */
#include "ir/ir.h"

#include <string.h>

static const char *dim_text(nn_op *op, nn_dim d) { return nn_dim_text(op->graph->module->arena, d); }
static const char *type_text(nn_op *op, int i) { return nn_type_text(op->graph->module->arena, op->in[i]->type); }

/* ---- facts about dims ----------------------------------------------------------------------------- */

static bool is_never_equal(nn_module *m, nn_dim a, nn_dim b) {
  return nn_dim_known_lt(m, a, b) || nn_dim_known_lt(m, b, a);
}

int nn_check_known(nn_module *m, const char *kind, nn_dim found, nn_dim expected) {
  if (found == expected) return 1;
  if (kind[0] == 'l') {
    if (nn_dim_known_lt(m, found, nn_dim_add(m, expected, nn_dim_const(m, 1)))) return 1;
    return nn_dim_known_lt(m, expected, found) ? -1 : 0;
  }
  bool may_be_one = kind[0] == 'b';
  if (may_be_one && nn_dim_is(found, 1)) return 1;
  if (!is_never_equal(m, found, expected)) return 0;
  return may_be_one && !is_never_equal(m, found, nn_dim_const(m, 1)) ? 0 : -1;
}

static void note_open_check(nn_module *m, nn_open_check check) {
  nn_open_checks *open = m->open_checks;
  if (!open) return;
  check.what = nn_strdup(m->arena, check.what);
  NN_PUSH(m->arena, open->items, open->count, open->cap, check);
}

static const char *operands_text(nn_op *op) {
  const char *text = "";
  for (int i = 0; i < op->nin; i++) {
    const char *type = op->in[i] ? type_text(op, i) : "_";
    text = nn_sprintf(op->graph->module->arena, "%s%s%s", text, i ? ", " : "", type);
  }
  return text;
}

static nn_status fail_check(nn_op *op, const char *kind, nn_dim found, nn_dim expected, const char *what) {
  const char *relation = kind[0] == 'l' ? "at most " : kind[0] == 'b' ? "1 or " : "";
  if (nn_dim_is_overflow(found) || nn_dim_is_overflow(expected)) return nn_fail(op, "%s overflows 64 bits", what);
  return nn_fail(op, "%s is %s, expected %s%s (operands: %s)", what, dim_text(op, found), relation,
                 dim_text(op, expected), operands_text(op));
}

nn_status nn_need_check(nn_op *op, const char *kind, nn_dim found, nn_dim expected, const char *what, ...) {
  nn_module *m = op->graph->module;
  char text[256];
  bool overflows = nn_dim_is_overflow(found) || nn_dim_is_overflow(expected);
  int known = overflows ? -1 : nn_check_known(m, kind, found, expected);
  if (known > 0) return NN_OK;
  va_list args;
  va_start(args, what);
  vsnprintf(text, sizeof text, what, args);
  va_end(args);
  if (known < 0) return fail_check(op, kind, found, expected, text);
  note_open_check(m, (nn_open_check){kind, found, expected, text});
  return NN_OK;
}

/* Does d hang on a symbol that is only bound while running? */
static bool is_data_dependent(nn_module *m, nn_dim d) {
  bool *used = NN_NEW_ARRAY(m->arena, bool, m->nsymbols);
  nn_dim_symbols(d, used);
  for (int i = 0; i < m->nsymbols; i++) {
    if (used[i] && m->symbols[i]->data_dependent) return true;
  }
  return false;
}

nn_dim nn_dim_prefer(nn_module *m, nn_dim a, nn_dim b) {
  if (a == b || nn_dim_is_const(a, NULL)) return a;
  if (nn_dim_is_const(b, NULL)) return b;
  return is_data_dependent(m, a) && !is_data_dependent(m, b) ? b : a;
}

/* ---- operands ------------------------------------------------------------------------------------- */

static const char *kinds_text(nn_arena *arena, unsigned set) {
  static const char *const names[] = {
      [NN_KIND_FLOAT] = "float", [NN_KIND_INT] = "signed integer", [NN_KIND_UINT] = "unsigned integer",
      [NN_KIND_BOOL] = "bool",   [NN_KIND_COMPLEX] = "complex",    [NN_KIND_STRING] = "string"};
  const char *text = NULL;
  for (unsigned kind = 0; kind < sizeof names / sizeof *names; kind++) {
    if (!(set >> kind & 1)) continue;
    text = text ? nn_sprintf(arena, "%s or %s", text, names[kind]) : names[kind];
  }
  return text ? text : "nothing";
}

nn_status nn_need_kind(nn_op *op, int i, unsigned set) {
  nn_dtype dtype = op->in[i]->type.dtype;
  if (set >> nn_dtype_kind_of(dtype) & 1) return NN_OK;
  return nn_fail(op, "operand %d is %s, expected %s", i, type_text(op, i), kinds_text(op->graph->module->arena, set));
}

nn_status nn_need_dtype(nn_op *op, int i, nn_dtype dtype) {
  if (op->in[i]->type.dtype == dtype) return NN_OK;
  return nn_fail(op, "operand %d is %s, expected element type %s", i, type_text(op, i), nn_dtype_name(dtype));
}

nn_status nn_need_same_dtype(nn_op *op, int i, int j) {
  if (op->in[i]->type.dtype == op->in[j]->type.dtype) return NN_OK;
  return nn_fail(op, "operand %d is %s, expected element type %s as of operand %d", j, type_text(op, j),
                 nn_dtype_name(op->in[i]->type.dtype), i);
}

nn_status nn_need_rank(nn_op *op, int i, int min, int max) {
  int rank = op->in[i]->type.rank;
  if (rank >= min && rank <= max) return NN_OK;
  if (min == max) return nn_fail(op, "operand %d is %s of rank %d, expected rank %d", i, type_text(op, i), rank, min);
  return nn_fail(op, "operand %d is %s of rank %d, expected rank %d to %d", i, type_text(op, i), rank, min, max);
}

nn_status nn_need_dim(nn_op *op, int i, int axis, nn_dim expected) {
  return nn_need_check(op, "eq", op->in[i]->type.dims[axis], expected, "dimension %d of operand %d", axis, i);
}

/* ---- attributes ----------------------------------------------------------------------------------- */

nn_status nn_need_axis(nn_op *op, const char *attr, int rank, int *axis) {
  int64_t value = nn_attr_int(op, attr);
  if (rank == 0) return nn_fail(op, "%s is %lld, but the operand has rank 0", attr, (long long)value);
  if (value < -rank || value >= rank) {
    return nn_fail(op, "%s is %lld, expected %d to %d", attr, (long long)value, -rank, rank - 1);
  }
  *axis = (int)(value < 0 ? value + rank : value);
  if (value < 0) nn_set_int(op, attr, *axis); /* whoever reads the attribute later need not count from the end */
  return NN_OK;
}

nn_status nn_need_count(nn_op *op, const char *attr, int expected) {
  int count = nn_op_attr(op, attr)->count;
  if (count == expected) return NN_OK;
  return nn_fail(op, "%s has %d entries, expected %d", attr, count, expected);
}

nn_status nn_need_range(nn_op *op, const char *attr, int64_t min, int64_t max) {
  int64_t value = nn_attr_int(op, attr);
  if (value >= min && value <= max) return NN_OK;
  return nn_fail(op, "%s is %lld, expected %lld to %lld", attr, (long long)value, (long long)min, (long long)max);
}

nn_status nn_need_ints_min(nn_op *op, const char *attr, int64_t min) {
  int count;
  const int64_t *values = nn_attr_ints(op, attr, &count);
  for (int i = 0; i < count; i++) {
    if (values[i] >= min) continue;
    return nn_fail(op, "%s[%d] is %lld, expected at least %lld", attr, i, (long long)values[i], (long long)min);
  }
  return NN_OK;
}

static bool is_listed(const char *value, const char *const *names) {
  for (; *names; names++) {
    if (strcmp(value, *names) == 0) return true;
  }
  return false;
}

static nn_status fail_choice(nn_op *op, const char *attr, const char *value, const char *const *names) {
  nn_arena *arena = op->graph->module->arena;
  const char *list = *names;
  while (*++names) list = nn_sprintf(arena, "%s, %s", list, *names);
  return nn_fail(op, "%s is '%s', expected one of %s", attr, value, list);
}

nn_status nn_need_one_of(nn_op *op, const char *attr, const char *const *names) {
  const nn_attr *a = nn_op_attr(op, attr);
  if (a->kind == NN_ATTR_STR) return is_listed(a->s, names) ? NN_OK : fail_choice(op, attr, a->s, names);
  for (int i = 0; i < a->count; i++) {
    if (!is_listed(a->strs[i], names)) return fail_choice(op, attr, a->strs[i], names);
  }
  return NN_OK;
}

/* ---- results -------------------------------------------------------------------------------------- */

/* Whether dim is a dimension of an operand: then someone has made sure that it is not negative. */
static bool is_operand_dim(const nn_op *op, nn_dim dim) {
  for (int i = 0; i < op->nin; i++) {
    for (int d = 0; op->in[i] && d < op->in[i]->type.rank; d++) {
      if (op->in[i]->type.dims[d] == dim) return true;
    }
  }
  return false;
}

static nn_status check_result_dim(nn_op *op, int result, int axis, nn_dim dim) {
  int64_t min, max;
  nn_module *m = op->graph->module;
  if (nn_dim_is_overflow(dim)) return nn_fail(op, "dimension %d of result %d overflows 64 bits", axis, result);
  nn_dim_range(dim, &min, &max);
  if (min >= 0 || is_operand_dim(op, dim)) return NN_OK;
  if (max >= 0) {
    return nn_need_check(op, "le", nn_dim_const(m, 0), dim, "the least size of dimension %d of result %d", axis,
                         result);
  }
  return nn_fail(op, "dimension %d of result %d is %s, expected 0 or more", axis, result, dim_text(op, dim));
}

nn_status nn_give(nn_op *op, int result, nn_dtype dtype, int rank, const nn_dim *dims) {
  if (rank > NN_MAX_RANK) return nn_fail(op, "result %d has rank %d, expected at most %d", result, rank, NN_MAX_RANK);
  for (int d = 0; d < rank; d++) NN_TRY(check_result_dim(op, result, d, dims[d]));
  nn_module *m = op->graph->module;
  op->out[result]->type = nn_type_make(m, dtype, rank, dims);
  if (nn_type_fits(op->out[result]->type)) return NN_OK;
  return nn_fail(op, "result %d is %s: its size in bytes overflows 64 bits", result,
                 nn_type_text(m->arena, op->out[result]->type));
}
