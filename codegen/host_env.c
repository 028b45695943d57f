/* The evaluator of constants for those who make models: an importer folds while it reads, and cannot see
   codegen, so it gets this through ir/model.h. */
#include "codegen/codegen.h"
#include "ir/model.h"

#include <string.h>

void nn_host_env_init(nn_pass_env *env) {
  nn_target host = {0};
  nn_diags silent = {.arena = nn_arena_new()}; /* no description of this machine: no folding, which is no error */
  memset(env, 0, sizeof *env);
  if (!silent.arena) return;
  if (nn_target_init(&host, NULL, NULL, &silent) == NN_OK) {
    host.fp = NNCC_FP_EXACT; /* a model is read in the same way everywhere */
    nn_env_init(env, &host, &silent);
    nn_target_free(&host);
  }
  nn_arena_free(silent.arena);
}

void nn_host_env_free(nn_pass_env *env) { nn_env_free(env); }
