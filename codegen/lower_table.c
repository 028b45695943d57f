/* Which functions lower which op: from ops.def, so that a missing one is a link error. */
#include "codegen/codegen.h"

const nn_lower_row nn_lower_rows[NN_OP_COUNT] = {
#define OP(code, text, nin_min, nin_max, nout, flags, family)                                                          \
  [NN_OP_##code] = {((flags)&NN_ELEMENT) ? elem_##text : (nn_elem_fn *)0,                                              \
                    ((flags)&NN_NEST) ? lower_##text : (nn_nest_fn *)0},
#define ATTR(code, name, kind, fallback)
#include "ir/ops.def"
#undef OP
#undef ATTR
};
