/* Types as the model declares them: graph inputs become parameters, whose unknown dimensions become symbols;
   every other declaration is a hint, or a claim to check.

   A dimension of an input is unknown when it is missing, negative, or 0 (what several exporters write for
   "any"). It gets a symbol: of the name in dim_param, else NAME_d0. Symbols may be pinned by the caller
   (--dim N=4, --shape x=1,3). A dim_param such as "past + seq", of names that other inputs bind, is read as
   the expression that it is. An input of one integer may be pinned like a dimension (--dim sr=16000): then its
   value is known while compiling, and checked when the model runs. */
#include "frontend/onnx_import.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef Onnx__TensorShapeProto__Dimension dim_proto;

static nn_status fail(onnx_import *I, const char *hint, const char *format, ...) NN_PRINTF(3, 4);
static nn_status fail(onnx_import *I, const char *hint, const char *format, ...) {
  va_list args;
  va_start(args, format);
  nn_vreport(&I->m->diags, NN_ERROR, NULL, NULL, hint, format, args);
  va_end(args);
  return NN_FAIL;
}

/* ---- pins: "NAME=VALUE" -------------------------------------------------------------------------------- */

/* The text behind '=' of the pin for this name, or NULL; marks it used. */
static const char *find_pin(const char *const *pins, bool *used, const char *name) {
  for (int i = 0; pins && pins[i]; i++) {
    const char *equals = strrchr(pins[i], '=');
    if (!equals || (size_t)(equals - pins[i]) != strlen(name) || strncmp(pins[i], name, strlen(name)) != 0) continue;
    used[i] = true;
    return equals + 1;
  }
  return NULL;
}

/* A non-negative number up to `,` or the end; false if there is none. */
static bool parse_number(const char **text, int64_t *value) {
  char *end;
  if (!isdigit((unsigned char)**text)) return false;
  errno = 0;
  *value = strtoll(*text, &end, 10);
  if (errno || (*end && *end != ',')) return false;
  *text = end;
  return true;
}

static nn_status parse_shape(onnx_import *I, const char *name, const char *text, int *rank, int64_t *dims) {
  for (*rank = 0; *text;) {
    if (*rank == NN_MAX_RANK)
      return fail(I, NULL, "the shape given for input '%s' has more than %d dimensions", name, NN_MAX_RANK);
    if (!parse_number(&text, &dims[(*rank)++]))
      return fail(I, "write numbers, as in x=1,3,224,224", "the shape given for input '%s' is malformed at '%s'", name,
                  text);
    if (*text == ',') text++;
  }
  return NN_OK;
}

static void check_list(onnx_import *I, const char *const *pins, const bool *used, const char *what, const char *known) {
  for (int i = 0; pins && pins[i]; i++)
    if (!strchr(pins[i], '='))
      fail(I, NULL, "'%s' pins no %s: expected NAME=VALUE", pins[i], what);
    else if (!used[i])
      fail(I, known, "'%s' pins a %s that the model does not have", pins[i], what);
}

/* "it has: a, b" for the hint. */
static const char *list_inputs(onnx_import *I) {
  const char *text = "its inputs are:";
  for (int i = 0; i < I->m->main->nparams; i++)
    text = nn_sprintf(I->m->arena, "%s%s %s", text, i ? "," : "", I->m->main->params[i]->name);
  return text;
}

static const char *list_symbols(onnx_import *I) {
  const char *text = I->m->nsymbols ? "what is left are:" : "it has none that are not pinned";
  for (int i = 0; i < I->m->nsymbols; i++)
    text = nn_sprintf(I->m->arena, "%s%s %s", text, i ? "," : "", I->m->symbols[i]->name);
  return text;
}

void onnx_check_pins(onnx_import *I) {
  if (I->dim_pins) check_list(I, I->dim_pins, I->dim_pin_used, "dimension", list_symbols(I));
  if (I->shape_pins) check_list(I, I->shape_pins, I->shape_pin_used, "input", list_inputs(I));
}

/* ---- symbols ------------------------------------------------------------------------------------------- */

/* Spelled as an identifier of IR text, unlike all other symbols. */
static const char *name_symbol(onnx_import *I, const char *name) {
  static const char *const reserved[] = {"floordiv", "mod", "min", "max"};
  char *text = nn_sprintf(I->m->arena, "%s%s", isdigit((unsigned char)*name) ? "d" : "", name);
  for (char *c = text; *c; c++)
    if (!isalnum((unsigned char)*c)) *c = '_';
  for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
    if (strcmp(text, reserved[i]) == 0) text = nn_sprintf(I->m->arena, "%s_", text);
  const char *unique = text;
  for (int k = 2; nn_map_get(I->symbol_names, unique); k++) unique = nn_sprintf(I->m->arena, "%s_%d", text, k);
  nn_map_put(I->symbol_names, unique, (void *)(uintptr_t)unique);
  return unique;
}

/* The dimension that a dim_param, or a made-up name, stands for: a pinned number or a symbol. */
static nn_dim find_symbol(onnx_import *I, const char *param) {
  nn_expr *known = nn_map_get(I->dim_params, param);
  if (known) return known;
  const char *pin = find_pin(I->dim_pins, I->dim_pin_used, param);
  nn_dim d = NULL;
  int64_t value;
  if (pin) {
    const char *rest = pin;
    if (parse_number(&rest, &value) && !*rest)
      d = nn_dim_const(I->m, value);
    else
      fail(I, "write a number, as in N=4", "dimension '%s' is pinned to '%s'", param, pin);
  }
  if (!d) d = nn_dim_symbol(I->m, name_symbol(I, param));
  nn_map_put(I->dim_params, param, (void *)(uintptr_t)d);
  return d;
}

static bool is_identifier(const char *text) {
  if (isdigit((unsigned char)*text) || !*text) return false;
  while (isalnum((unsigned char)*text) || *text == '_') text++;
  return *text == '\0';
}

/* True if some input has this dim_param on its own: then the symbol is bound whatever expressions say. */
static bool is_bound(const onnx_import *I, const char *name, size_t length) {
  const Onnx__GraphProto *g = I->model->graph;
  for (size_t i = 0; i < g->n_input; i++) {
    const Onnx__TypeProto *t = g->input[i]->type;
    if (!t || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !t->tensor_type->shape) continue;
    for (size_t k = 0; k < t->tensor_type->shape->n_dim; k++) {
      const dim_proto *d = t->tensor_type->shape->dim[k];
      if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && d->dim_param &&
          strlen(d->dim_param) == length && strncmp(d->dim_param, name, length) == 0)
        return true;
    }
  }
  return false;
}

/* "past + seq" with each name replaced by what it stands for; NULL unless all names are bound elsewhere. */
static const char *expand_names(onnx_import *I, const char *param) {
  const char *text = "";
  for (const char *at = param; *at;) {
    size_t length = 1;
    if (isalpha((unsigned char)*at) || *at == '_') {
      while (isalnum((unsigned char)at[length]) || at[length] == '_') length++;
      if (!is_bound(I, at, length)) return NULL;
      nn_dim d = find_symbol(I, nn_strndup(I->scratch, at, length));
      text = nn_sprintf(I->scratch, "%s(%s)", text, nn_dim_text(I->scratch, d));
    } else if (isdigit((unsigned char)*at) || strchr(" +-*()", *at)) {
      text = nn_sprintf(I->scratch, "%s%c", text, *at);
    } else {
      return NULL;
    }
    at += length;
  }
  return text;
}

/* dim_param as an expression, or NULL if it is a name only. */
static nn_dim parse_expression(onnx_import *I, const char *param) {
  if (is_identifier(param) || strlen(param) > 200) return NULL;
  const char *text = expand_names(I, param);
  if (!text) return NULL;
  nn_dim d = nn_dim_parse(I->m, &text);
  while (d && *text == ' ') text++;
  return d && !*text ? d : NULL;
}

/* ---- inputs -------------------------------------------------------------------------------------------- */

static nn_dim import_dim(onnx_import *I, const dim_proto *d, const char *input, int i) {
  if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value > 0)
    return nn_dim_const(I->m, d->dim_value);
  if (d->value_case != ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM || !d->dim_param || !*d->dim_param)
    return find_symbol(I, nn_sprintf(I->scratch, "%s_d%d", input, i));
  nn_dim known = nn_map_get(I->dim_params, d->dim_param);
  if (known) return known;
  nn_dim expression = parse_expression(I, d->dim_param);
  if (!expression) return find_symbol(I, d->dim_param);
  nn_map_put(I->dim_params, d->dim_param, (void *)(uintptr_t)expression);
  return expression;
}

static const char *case_text(const Onnx__TypeProto *t) {
  switch (t->value_case) {
  case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE: return "a sequence";
  case ONNX__TYPE_PROTO__VALUE_MAP_TYPE: return "a map";
  case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE: return "an optional";
  case ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE: return "a sparse tensor";
  default: return "of an unknown kind";
  }
}

/* The element type of a graph input, when it is one that a model can have. */
static nn_status import_dtype(onnx_import *I, const char *name, const Onnx__TypeProto *t, nn_dtype *dtype) {
  if (!t) return fail(I, NULL, "input '%s' has no type", name);
  if (t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
    return fail(I, NULL, "unsupported: input '%s' is %s, expected a tensor", name, case_text(t));
  if (!nn_dtype_from_onnx(t->tensor_type->elem_type, dtype))
    return fail(I, NULL, "input '%s' has element type %d, which is not one of ONNX's that nncc knows", name,
                t->tensor_type->elem_type);
  if (*dtype == NN_STRING) return fail(I, NULL, "unsupported: input '%s' is a tensor of strings", name);
  return NN_OK;
}

static nn_status import_shape(onnx_import *I, const char *name, const Onnx__TensorShapeProto *shape, nn_dim *dims,
                              int *rank) {
  int64_t pinned[NN_MAX_RANK];
  const char *pin = find_pin(I->shape_pins, I->shape_pin_used, name);
  if (pin) {
    NN_TRY(parse_shape(I, name, pin, rank, pinned));
    for (int i = 0; i < *rank; i++) dims[i] = nn_dim_const(I->m, pinned[i]);
    if (shape && shape->n_dim != (size_t)*rank)
      return fail(I, NULL, "the shape given for input '%s' has %d dimensions, the model expects %zu", name, *rank,
                  shape->n_dim);
    for (int i = 0; i < *rank; i++) {
      const dim_proto *d = shape ? shape->dim[i] : NULL;
      bool is_fixed = d && d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value > 0;
      if (is_fixed && d->dim_value != pinned[i])
        return fail(I, NULL, "the shape given for input '%s' has %lld as dimension %d, the model has %lld", name,
                    (long long)pinned[i], i, (long long)d->dim_value);
      /* a symbol of a pinned shape is pinned wherever it stands */
      if (d && d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && d->dim_param &&
          is_identifier(d->dim_param) && !nn_map_get(I->dim_params, d->dim_param))
        nn_map_put(I->dim_params, d->dim_param, (void *)(uintptr_t)dims[i]);
    }
    return NN_OK;
  }
  if (!shape) return fail(I, "give it: --shape NAME=1,3,224,224", "input '%s' has no shape, not even a rank", name);
  if (shape->n_dim > NN_MAX_RANK)
    return fail(I, NULL, "input '%s' has rank %zu, at most %d is possible", name, shape->n_dim, NN_MAX_RANK);
  *rank = (int)shape->n_dim;
  for (int i = 0; i < *rank; i++) dims[i] = import_dim(I, shape->dim[i], name, i);
  return NN_OK;
}

nn_value *onnx_import_input(onnx_import *I, const Onnx__ValueInfoProto *info) {
  nn_dtype dtype;
  nn_dim dims[NN_MAX_RANK];
  int rank = 0;
  if (import_dtype(I, info->name, info->type, &dtype) != NN_OK ||
      import_shape(I, info->name, info->type->tensor_type->shape, dims, &rank) != NN_OK)
    return NULL;
  nn_type type = nn_type_make(I->m, dtype, rank, dims);
  if (!nn_type_fits(type)) {
    fail(I, NULL, "input '%s' is %s: its size in bytes overflows 64 bits", info->name, nn_type_text(I->scratch, type));
    return NULL;
  }
  return nn_graph_param(I->m->main, onnx_unique_name(I, "", info->name), type);
}

void onnx_pin_value(onnx_import *I, nn_value *input) {
  const char *pin = NULL;
  const nn_dim *dims;
  int64_t count, value;
  int k;
  if (nn_dtype_is_int(input->type.dtype) && input->type.rank <= 1 && nn_type_static_count(input->type, &count) &&
      count == 1)
    pin = find_pin(I->dim_pins, I->dim_pin_used, input->name);
  if (!pin) return;
  const char *rest = pin;
  if (!parse_number(&rest, &value) || *rest) {
    fail(I, "write a number, as in N=4", "input '%s' is pinned to '%s'", input->name, pin);
    return;
  }
  nn_dim hint = nn_dim_const(I->m, value);
  nn_b_elems(&I->builder, input, 0, &hint, &dims, &k);
}

/* ---- declarations of other values ---------------------------------------------------------------------- */

static const Onnx__TypeProto__Tensor *tensor_type(const Onnx__ValueInfoProto *info) {
  const Onnx__TypeProto *t = info ? info->type : NULL;
  return t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ? t->tensor_type : NULL;
}

int onnx_declared_dims(onnx_import *I, const Onnx__ValueInfoProto *info, const nn_dim **dims) {
  const Onnx__TypeProto__Tensor *t = tensor_type(info);
  *dims = NULL;
  if (!t || !t->shape || t->shape->n_dim > NN_MAX_RANK) return -1;
  nn_dim *list = NN_NEW_ARRAY(I->m->arena, nn_dim, t->shape->n_dim + 1);
  for (size_t i = 0; i < t->shape->n_dim; i++) {
    const dim_proto *d = t->shape->dim[i];
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value > 0)
      list[i] = nn_dim_const(I->m, d->dim_value);
    else if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && d->dim_param)
      list[i] = nn_map_get(I->dim_params, d->dim_param);
  }
  *dims = list;
  return (int)t->shape->n_dim;
}

/* True if two dimensions are numbers, and different ones. */
static bool contradict(nn_dim a, nn_dim b) {
  int64_t x, y;
  return a && b && nn_dim_is_const(a, &x) && nn_dim_is_const(b, &y) && x != y;
}

/* "[N,?,4]", as a file declares it. */
static const char *declared_text(onnx_import *I, int rank, const nn_dim *dims) {
  const char *text = "[";
  for (int i = 0; i < rank; i++)
    text = nn_sprintf(I->scratch, "%s%s%s", text, i ? "," : "", dims[i] ? nn_dim_text(I->scratch, dims[i]) : "?");
  return nn_sprintf(I->scratch, "%s]", text);
}

nn_status onnx_check_declared(onnx_import *I, const Onnx__ValueInfoProto *info, const nn_value *v, const char *node,
                              const char *op) {
  const Onnx__TypeProto__Tensor *t = tensor_type(info);
  const nn_dim *dims;
  nn_dtype dtype;
  nn_diags *d = &I->m->diags;
  if (!t || !v) return NN_OK;
  if (t->elem_type && nn_dtype_from_onnx(t->elem_type, &dtype) && dtype != v->type.dtype)
    return nn_report(d, NN_ERROR, node, op, NULL, "output '%s' is declared as %s, but is %s", info->name,
                     nn_dtype_name(dtype), nn_dtype_name(v->type.dtype));
  int rank = onnx_declared_dims(I, info, &dims);
  if (rank < 0) return NN_OK;
  bool differs = rank != v->type.rank;
  for (int i = 0; i < rank && !differs; i++) differs = contradict(dims[i], v->type.dims[i]);
  if (differs)
    nn_report(d, NN_WARNING, node, op, "the declaration is ignored", "output '%s' is declared with shape %s, but is %s",
              info->name, declared_text(I, rank, dims), nn_type_text(I->scratch, v->type));
  return NN_OK;
}
