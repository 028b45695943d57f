/* Diagnostics: every problem of a model is collected before anything stops, so that a user sees all of
   them at once, each with the node it is about. */
#include "ir/ir.h"

#include <string.h>

static const char *copy_or_null(nn_arena *arena, const char *text) {
  return text && *text ? nn_strdup(arena, text) : NULL;
}

static const char *format_message(nn_arena *arena, const char *format, va_list args) {
  va_list again;
  va_copy(again, args);
  int length = vsnprintf(NULL, 0, format, args);
  char *text = nn_alloc(arena, length < 0 ? 1 : (size_t)length + 1);
  if (length >= 0) vsnprintf(text, (size_t)length + 1, format, again);
  va_end(again);
  return text;
}

nn_status nn_vreport(nn_diags *diags, nn_severity severity, const char *node, const char *op, const char *hint,
                     const char *format, va_list args) {
  nn_diag item = {.severity = severity};
  item.file = diags->file;
  item.node = copy_or_null(diags->arena, node);
  item.op = copy_or_null(diags->arena, op);
  item.hint = copy_or_null(diags->arena, hint);
  item.message = format_message(diags->arena, format, args);
  NN_PUSH(diags->arena, diags->items, diags->count, diags->cap, item);
  if (severity != NN_ERROR) return NN_OK;
  diags->nerrors++;
  return NN_FAIL;
}

nn_status nn_report(nn_diags *diags, nn_severity severity, const char *node, const char *op, const char *hint,
                    const char *format, ...) {
  va_list args;
  va_start(args, format);
  nn_status status = nn_vreport(diags, severity, node, op, hint, format, args);
  va_end(args);
  return status;
}

void nn_diag_print(FILE *out, const nn_diag *item) {
  if (item->file) fprintf(out, "%s: ", item->file);
  if (item->node) fprintf(out, "node '%s'", item->node);
  if (item->op) fprintf(out, item->node ? " (%s)" : "%s", item->op);
  if (item->node || item->op) fputs(": ", out);
  fputs(item->message, out);
  if (item->hint) fprintf(out, "\n  hint: %s", item->hint);
  fputc('\n', out);
}
