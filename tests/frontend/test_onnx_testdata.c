/* Every model of libonnx-testdata loads or fails with a message, and never crashes; what loads verifies. */
#include <criterion/criterion.h>
#include <glob.h>

#include "frontend/onnx.h"

Test(onnx_testdata, every_model, .timeout = 300) {
  glob_t found;
  int nloaded = 0;
  if (glob("/usr/share/libonnx-testdata/data/*/*/model.onnx", 0, NULL, &found) != 0)
    cr_skip("libonnx-testdata is not installed");
  for (size_t i = 0; i < found.gl_pathc; i++) {
    nn_module *m = nn_onnx_load(found.gl_pathv[i], NULL, NULL, NULL);
    cr_assert(m != NULL);
    if (!m->diags.nerrors) {
      cr_expect(nn_verify(m) == NN_OK, "%s", found.gl_pathv[i]);
      nloaded++;
    } else {
      cr_expect(m->diags.items[0].message[0] != '\0');
    }
    nn_module_free(m);
  }
  cr_expect(nloaded > 900, "only %d of %zu models are imported", nloaded, found.gl_pathc);
  globfree(&found);
}
