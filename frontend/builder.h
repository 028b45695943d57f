/* What model.c, builder.c and layers.c share: the graph under construction behind an nncc_model. */
#ifndef NN_BUILDER_H
#define NN_BUILDER_H
#include "ir/model.h"

typedef struct nn_model_builder {
  nn_builder b;        /* folds nothing: weights may still be set */
  nn_map *layer_names; /* taken */
  nn_map *input_names; /* of graph inputs */
  nn_value **outputs;
  const char **output_names;
  int noutputs, outputs_cap, names_cap;
  uint64_t seed; /* of weights that are made from here on */
} nn_model_builder;

/* builder.c */
void nn_builder_init(nncc_model *model);
/* The builder, if the model takes more ops; else NULL, reported. op: for the report. */
nn_model_builder *nn_builder_of(nncc_model *model, const char *op);
/* Ops that follow come from this layer. A NULL name is made from op. NULL: the name is taken (reported). */
const char *nn_builder_layer(nncc_model *model, const char *name, const char *op);
/* LAYER/part, f32. fan_in > 0: He-uniform; 0: every element is `fill`. NULL after a report. */
nn_value *nn_builder_weight(nncc_model *model, const char *layer, const char *part, int rank, const int64_t *dims,
                            int64_t fan_in, double fill);
nn_status nn_builder_fail(nncc_model *model, const char *format, ...) NN_PRINTF(2, 3);

static inline nn_value *nn_value_of(nncc_tensor *t) { return (nn_value *)t; }
static inline nncc_tensor *nn_handle_of(nn_value *v) { return (nncc_tensor *)v; }

#endif
