/* nncc.h: graphs built with C calls. A tensor handle is a value of the graph; layers are in layers.c.

   Weights are constants with memory of their own, drawn He-uniform when a layer is made and replaced by
   nncc_weight_set. Nothing is folded while building, so that a weight may be set at any time before the
   model is compiled. */
#include "frontend/builder.h"

#include <math.h>
#include <string.h>

nn_status nn_builder_fail(nncc_model *model, const char *format, ...) {
  nn_model_builder *s = model->builder;
  va_list args;
  va_start(args, format);
  nn_vreport(&model->module->diags, NN_ERROR, s ? s->b.loc : NULL, s ? s->b.loc_op : NULL, NULL, format, args);
  va_end(args);
  return NN_FAIL;
}

/* Before compiling: every problem has been reported where it arose. */
static nn_status finish(nncc_model *model) {
  nn_model_builder *s = model->builder;
  s->b.loc = "";
  s->b.loc_op = NULL;
  if (s->noutputs == 0) return nn_builder_fail(model, "the model has no outputs");
  return model->module->diags.nerrors ? NN_FAIL : NN_OK;
}

void nn_builder_init(nncc_model *model) {
  nn_module *m = model->module;
  nn_model_builder *s = NN_NEW(m->arena, nn_model_builder);
  m->main = nn_graph_new(m, "main");
  s->b = (nn_builder){.graph = m->main, .loc = ""};
  s->layer_names = nn_map_new(m->arena);
  s->input_names = nn_map_new(m->arena);
  model->builder = s;
  model->finish = finish;
}

nn_model_builder *nn_builder_of(nncc_model *model, const char *op) {
  if (!model) return NULL;
  nn_model_builder *s = model->builder;
  if (s && !model->is_optimised) {
    s->b.loc = "";
    s->b.loc_op = op;
    return s;
  }
  nn_report(&model->module->diags, NN_ERROR, NULL, op, NULL, "%s",
            s ? "the model has been compiled: nothing can be added or set any more"
              : "the model was loaded: only one of nncc_model_new can be built on");
  return NULL;
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static uint64_t hash_name(const char *name) { /* FNV-1a */
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (; *name; name++) hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
  return hash;
}

static uint64_t next_random(uint64_t *state) { /* splitmix64, Steele, Lea and Flood 2014 */
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

/* He-uniform: from -limit to limit, limit = sqrt(6 / fan_in). Each weight has a stream of its own, from the seed
   and its name, so a weight does not change when layers before it do; 24 bits of each number are used. */
static void fill_he_uniform(nn_tensor *t, int64_t count, uint64_t seed, const char *name, int64_t fan_in) {
  uint64_t state = seed ^ hash_name(name);
  double limit = sqrt(6.0 / (double)fan_in);
  for (int64_t i = 0; i < count; i++) {
    double unit = (double)(next_random(&state) >> 40) * 0x1p-24;
    nn_store_f64(t->dtype, t->owned, (size_t)i, (2 * unit - 1) * limit);
  }
}

nn_value *nn_builder_weight(nncc_model *model, const char *layer, const char *part, int rank, const int64_t *dims,
                            int64_t fan_in, double fill) {
  nn_module *m = model->module;
  nn_model_builder *s = model->builder;
  const char *name = nn_sprintf(m->arena, "%s/%s", layer, part);
  int64_t count;
  if (nn_map_get(m->names, name)) {
    nn_builder_fail(model, "the name '%s' is taken", name);
    return NULL;
  }
  nn_type type = nn_type_static(m, NN_F32, rank, dims);
  nn_tensor *t = nn_tensor_new(m, type);
  if (!t || !nn_type_static_count(type, &count)) return NULL;
  if (fan_in > 0) fill_he_uniform(t, count, s->seed, name, fan_in);
  for (int64_t i = 0; i < count && fan_in <= 0 && fill != 0; i++) nn_store_f64(NN_F32, t->owned, (size_t)i, fill);
  return nn_module_const(m, name, t);
}

const char *nn_builder_layer(nncc_model *model, const char *name, const char *op) {
  nn_module *m = model->module;
  nn_model_builder *s = model->builder;
  if (!name || !*name) {
    name = op;
    for (int k = 2; nn_map_get(s->layer_names, name); k++) name = nn_sprintf(m->arena, "%s_%d", op, k);
  }
  name = nn_strdup(m->arena, name);
  s->b.loc = name;
  s->b.loc_op = op;
  if (nn_map_get(s->layer_names, name)) {
    nn_builder_fail(model, "the name '%s' is taken by another layer", name);
    return NULL;
  }
  nn_map_put(s->layer_names, name, s);
  return name;
}

void nncc_model_seed(nncc_model *model, uint64_t seed) {
  nn_model_builder *s = nn_builder_of(model, "seed");
  if (s) s->seed = seed;
}

nncc_status nncc_weight_set(nncc_model *model, const char *name, const void *data, size_t size_bytes) {
  nn_model_builder *s = nn_builder_of(model, "weight_set");
  if (!s || !name || !data) return NNCC_ERROR;
  nn_value *v = nn_map_get(model->module->names, name);
  if (!v || !v->tensor || !v->tensor->owned) {
    nn_builder_fail(model, "there is no weight '%s'", name);
    return NNCC_ERROR;
  }
  if (v->tensor->size_bytes != size_bytes) {
    nn_builder_fail(model, "weight '%s' given as %zu bytes, expected %zu: %s", name, size_bytes, v->tensor->size_bytes,
                    nn_type_text(model->module->arena, v->type));
    return NNCC_ERROR;
  }
  if (nn_dtype_is_int(v->type.dtype) && v->elems) {
    nn_builder_fail(model, "weight '%s' is a small integer constant, whose value shapes may depend on", name);
    return NNCC_ERROR;
  }
  memcpy(v->tensor->owned, data, size_bytes);
  return NNCC_OK;
}

/* ---- inputs, constants, outputs ------------------------------------------------------------------------ */

static nn_status check_tensor(nncc_model *model, int32_t dtype, int rank, const int64_t *dims, nn_dtype *out) {
  if (!nn_dtype_from_onnx(dtype, out) || *out == NN_STRING)
    return nn_builder_fail(model, "element type %d is not one of NNCC_RT_F32 ..", dtype);
  if (rank < 0 || rank > NN_MAX_RANK) return nn_builder_fail(model, "rank %d, expected 0 to %d", rank, NN_MAX_RANK);
  if (rank && !dims) return nn_builder_fail(model, "dims is NULL");
  return NN_OK;
}

nncc_tensor *nncc_input(nncc_model *model, const char *name, int32_t dtype, int rank, const int64_t *dims) {
  nn_model_builder *s = nn_builder_of(model, "input");
  nn_dtype t;
  nn_dim list[NN_MAX_RANK];
  if (!s || check_tensor(model, dtype, rank, dims, &t) != NN_OK) return NULL;
  nn_module *m = model->module;
  if (!name || !*name || nn_map_get(s->input_names, name)) {
    nn_builder_fail(model, "an input needs a name of its own, not '%s'", name ? name : "");
    return NULL;
  }
  for (int d = 0; d < rank; d++) {
    if (dims[d] < -1) {
      nn_builder_fail(model, "input '%s': dimension %d is %lld", name, d, (long long)dims[d]);
      return NULL;
    }
    list[d] = dims[d] == -1 ? nn_dim_symbol(m, "N") : nn_dim_const(m, dims[d]);
  }
  nn_map_put(s->input_names, name, s);
  return nn_handle_of(nn_graph_param(m->main, nn_strdup(m->arena, name), nn_type_make(m, t, rank, list)));
}

nncc_tensor *nncc_constant(nncc_model *model, const char *name, int32_t dtype, int rank, const int64_t *dims,
                           const void *data) {
  nn_model_builder *s = nn_builder_of(model, "constant");
  nn_dtype t;
  if (!s || check_tensor(model, dtype, rank, dims, &t) != NN_OK) return NULL;
  nn_module *m = model->module;
  for (int d = 0; d < rank; d++)
    if (dims[d] < 0) {
      nn_builder_fail(model, "dimension %d is %lld, expected 0 or more", d, (long long)dims[d]);
      return NULL;
    }
  if (!data || (name && nn_map_get(m->names, name))) {
    nn_builder_fail(model, data ? "the name '%s' is taken" : "constant '%s' without data", name ? name : "");
    return NULL;
  }
  nn_tensor *tensor = nn_tensor_new(m, nn_type_static(m, t, rank, dims));
  if (!tensor) return NULL;
  if (tensor->size_bytes) memcpy(tensor->owned, data, tensor->size_bytes);
  return nn_handle_of(nn_module_const(m, name ? nn_strdup(m->arena, name) : NULL, tensor));
}

/* The graph is complete after each output, so it can be printed or compiled at any time from the first on. */
nncc_status nncc_output(nncc_model *model, const char *name, nncc_tensor *t) {
  nn_model_builder *s = nn_builder_of(model, "output");
  if (!s || !t) return NNCC_ERROR;
  nn_module *m = model->module;
  bool is_free = name && *name;
  for (int i = 0; i < s->noutputs && is_free; i++) is_free = strcmp(s->output_names[i], name) != 0;
  if (!is_free) {
    nn_builder_fail(model, "an output needs a name of its own, not '%s'", name ? name : "");
    return NNCC_ERROR;
  }
  int count = s->noutputs;
  NN_PUSH(m->arena, s->output_names, count, s->names_cap, nn_strdup(m->arena, name));
  NN_PUSH(m->arena, s->outputs, s->noutputs, s->outputs_cap, nn_value_of(t));
  nn_op *op = nn_graph_set_return(m->main, s->outputs, s->noutputs);
  nn_set_strs(op, "names", s->output_names, s->noutputs);
  return NNCC_OK;
}

/* ---- any core op --------------------------------------------------------------------------------------- */

static nn_status check_operands(nncc_model *model, nn_opcode code, nncc_tensor *const *in, int nin) {
  const nn_op_info *info = &nn_op_infos[code];
  if (info->flags & NN_STRUCTURE) return nn_builder_fail(model, "op '%s' is not for models", info->text);
  if (nin < info->nin_min || (info->nin_max >= 0 && nin > info->nin_max))
    return nn_builder_fail(model, "op '%s' with %d operands, expected %d to %d", info->text, nin, info->nin_min,
                           info->nin_max);
  return nin == 0 || in ? NN_OK : nn_builder_fail(model, "op '%s' without operands", info->text);
}

nncc_tensor *nncc_op(nncc_model *model, const char *op, nncc_tensor *const *in, int nin, const char *attributes) {
  nn_model_builder *s = nn_builder_of(model, "op");
  nn_opcode code;
  if (!s || !op) return NULL;
  if (!nn_opcode_find(op, strlen(op), &code)) {
    nn_builder_fail(model, "there is no op '%s'", op);
    return NULL;
  }
  if (check_operands(model, code, in, nin) != NN_OK) return NULL;
  s->b.loc_op = nn_op_infos[code].text;
  nn_value **operands = NN_NEW_ARRAY(model->module->arena, nn_value *, nin + 1);
  for (int i = 0; i < nin; i++) operands[i] = nn_value_of(in[i]);
  nn_op *made = nn_b_begin(&s->b, code, operands, nin, -1);
  if (!made) return NULL;
  if (attributes && *attributes && nn_text_parse_attrs(made, attributes) != NN_OK) {
    nn_op_remove(made);
    return NULL;
  }
  return nn_handle_of(nn_b_end(&s->b, made));
}
