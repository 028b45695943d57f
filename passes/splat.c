/* Constants that are one number, however they are written: as one element that is spread, or as many equal ones. */
#include "passes/passes.h"

#include <string.h>

enum { MOST_ELEMENTS = 4096 }; /* of a constant that is looked through */

static bool all_equal(const nn_tensor *t, int64_t count) {
  size_t bits = (size_t)nn_dtype_bits(t->dtype), bytes = bits / 8;
  if (count == 1) return true;
  if (count < 1 || count > MOST_ELEMENTS || bits % 8 != 0) return false;
  return memcmp(t->data, (const char *)t->data + bytes, (size_t)(count - 1) * bytes) == 0;
}

bool nn_splat_of(const nn_value *v, double *value) {
  while (v->kind == NN_RESULT && (v->def->code == NN_OP_BROADCAST || v->def->code == NN_OP_RESHAPE)) v = v->def->in[0];
  int64_t count;
  if (v->kind != NN_CONST || !v->tensor || !nn_type_static_count(v->type, &count)) return false;
  if (!nn_dtype_is_float(v->type.dtype) && !nn_dtype_is_int(v->type.dtype)) return false;
  if (!all_equal(v->tensor, count)) return false;
  *value = nn_load_f64(v->type.dtype, v->tensor->data, 0);
  return true;
}
