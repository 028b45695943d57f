/* struct nncc_model: what stands behind the handle of nncc.h. The frontend makes, fills and frees models;
   codegen compiles them. What each keeps for itself hangs on a pointer with the function that frees it. */
#ifndef NN_MODEL_H
#define NN_MODEL_H

#include "ir/ir.h"
#include "ir/nncc.h"

struct nncc_model {
  nn_module *module; /* owned; never NULL; holds the diagnostics */
  void *builder;     /* frontend/builder.c: a graph under construction, or NULL; in the module's arena */
  nn_status (*finish)(struct nncc_model *model); /* completes the builder's graph before compiling, or NULL */
  bool is_optimised;                             /* the passes have run: the graph takes no more ops */
  void *compiled;                                /* codegen/api.c: the code in memory, or NULL */
  void (*free_compiled)(void *compiled);         /* called by nncc_model_free when compiled is not NULL */
};

/* codegen/host_env.c: evaluates constants while a model is read. The environment outlives nothing: who fills a
   module's env clears it again. */
void nn_host_env_init(nn_pass_env *env);
void nn_host_env_free(nn_pass_env *env);

#endif
