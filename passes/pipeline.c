/* The orders in which passes run: the one list to read. */
#include "passes/passes.h"

/* widen first of what rewrites, since it goes by the nodes of the model; canon before cse, so that equal things look equal, and both
   before norm, which looks for one difference x - mean that is used twice; fold_bn, and silu when its multiplications are gone, make weight arithmetic that the second fold
   evaluates; layout, recurrent, project and panels see the final weights, and a fold transforms them; project before panels, which
   takes the products that are left; scale sees what layout made; sink makes chains of reshapes, and canon again, for them and since
   folded operands open identities; fuse last: nothing looks into a body. */
nn_status nn_pipeline_infer(nn_module *m, const nn_pass_options *options) {
  static const char *const order[] = {"dce",    "widen",     "fold",    "canon",  "cse",  "norm",  "fold_bn", "silu", "fold", "layout",
                                      "fold", "recurrent", "project", "panels", "fold", "scale", "sink", "canon",   "cse",  "dce",    "fuse"};
  return nn_passes_run(m, order, (int)(sizeof order / sizeof *order), options);
}
