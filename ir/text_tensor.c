/* Text of the graph IR: what constants and states hold.

     [1, -2, 3]             values in row-major order, exact
     hex "00ff.."           storage bytes (little-endian)
     file "net.onnx" 1728   a file beside the text, and the offset of the bytes

   Few values are written out; what values cannot say (complex numbers, NaN payloads) is hex. */
#include "ir/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INLINE = 64, MAX_INLINE_BYTES = MAX_INLINE * 8 };

/* ---- printing ----------------------------------------------------------------------------------- */

void nn_print_float(FILE *out, nn_dtype t, double value) {
  if (isnan(value)) {
    fputs("nan", out);
    return;
  }
  if (isinf(value)) {
    fputs(value < 0 ? "-inf" : "inf", out);
    return;
  }
  char text[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (nn_round_to(t, strtod(text, NULL)) == value) break;
  }
  fputs(text, out);
}

static int64_t count_elements(const nn_tensor *t) {
  int64_t count = 1;
  for (int i = 0; i < t->rank; i++) count *= t->dims[i]; /* the tensor exists, so this fits */
  return count;
}

/* As its text would: that says "nan" for every NaN. */
static void copy_element(nn_dtype t, void *to, const void *from, size_t i) {
  double value = nn_load_f64(t, from, i);
  if (nn_dtype_is_float(t))
    nn_store_f64(t, to, i, isnan(value) ? NAN : value);
  else
    nn_store_i64(t, to, i, nn_load_i64(t, from, i));
}

/* Whether values give back the same bytes. */
static bool is_exact_by_value(const nn_tensor *t, int64_t count) {
  unsigned char copy[MAX_INLINE_BYTES] = {0};
  if (nn_dtype_kind_of(t->dtype) == NN_KIND_COMPLEX || t->size_bytes > sizeof copy) return false;
  for (int64_t i = 0; i < count; i++) copy_element(t->dtype, copy, t->data, (size_t)i);
  return t->size_bytes == 0 || memcmp(copy, t->data, t->size_bytes) == 0;
}

static void print_values(nn_printer *p, const nn_tensor *t, int64_t count) {
  fputc('[', p->out);
  for (int64_t i = 0; i < count; i++) {
    if (i) fputs(", ", p->out);
    if (nn_dtype_is_float(t->dtype))
      nn_print_float(p->out, t->dtype, nn_load_f64(t->dtype, t->data, (size_t)i));
    else if (t->dtype == NN_U64)
      fprintf(p->out, "%" PRIu64, (uint64_t)nn_load_i64(t->dtype, t->data, (size_t)i));
    else
      fprintf(p->out, "%" PRId64, nn_load_i64(t->dtype, t->data, (size_t)i));
  }
  fputc(']', p->out);
}

static void print_hex(nn_printer *p, const nn_tensor *t) {
  static const char digits[] = "0123456789abcdef";
  const unsigned char *bytes = t->data;
  fputs("hex \"", p->out);
  for (size_t i = 0; i < t->size_bytes; i++) {
    fputc(digits[bytes[i] >> 4], p->out);
    fputc(digits[bytes[i] & 15], p->out);
  }
  fputc('"', p->out);
}

/* Files are named as seen from the folder of the model, where the text finds them again. */
static const char *relative_name(const nn_module *m, const char *file) {
  const char *slash = m->diags.file ? strrchr(m->diags.file, '/') : NULL;
  size_t length = slash ? (size_t)(slash - m->diags.file) + 1 : 0;
  return length && strncmp(file, m->diags.file, length) == 0 ? file + length : file;
}

void nn_print_contents(nn_printer *p, const nn_tensor *t) {
  int64_t count = count_elements(t);
  if (nn_dtype_kind_of(t->dtype) == NN_KIND_STRING || !t->data) return; /* pointers mean nothing in text */
  fputs(" = ", p->out);
  if (count <= MAX_INLINE && is_exact_by_value(t, count))
    print_values(p, t, count);
  else if (t->file)
    fprintf(p->out, "file %s %" PRIu64, nn_text_quote(p->scratch, relative_name(p->m, t->file)), t->offset);
  else
    print_hex(p, t);
}

/* ---- parsing ------------------------------------------------------------------------------------ */

static nn_status parse_integer_element(nn_lexer *lex, nn_tensor *t, size_t i) {
  nn_lex_skip(lex);
  const char *at = lex->at;
  bool is_negative, is_signed = nn_dtype_kind_of(t->dtype) == NN_KIND_INT;
  uint64_t magnitude;
  NN_TRY(nn_lex_number(lex, &is_negative, &magnitude));
  int bits = t->dtype == NN_BOOL ? 1 : nn_dtype_bits(t->dtype) - is_signed;
  uint64_t largest = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
  if (is_negative ? magnitude > (is_signed ? largest + 1 : 0) : magnitude > largest)
    return nn_lex_fail(lex, at, "%s%" PRIu64 " is no value of %s", is_negative ? "-" : "", magnitude,
                       nn_dtype_name(t->dtype));
  nn_store_i64(t->dtype, t->owned, i, (int64_t)(is_negative ? 0 - magnitude : magnitude));
  return NN_OK;
}

/* The nearest value is taken, so that 0.1 may be written; a finite number must stay finite. */
static nn_status parse_float_element(nn_lexer *lex, nn_tensor *t, size_t i) {
  nn_lex_skip(lex);
  const char *at = lex->at;
  double value;
  NN_TRY(nn_lex_float(lex, &value));
  nn_store_f64(t->dtype, t->owned, i, value);
  double stored = nn_load_f64(t->dtype, t->owned, i);
  if (isfinite(value) != isfinite(stored) || isnan(value) != isnan(stored))
    return nn_lex_fail(lex, at, "%g is no value of %s", value, nn_dtype_name(t->dtype));
  return NN_OK;
}

static nn_status parse_values(nn_lexer *lex, nn_tensor *t, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (i) NN_TRY(nn_lex_expect(lex, ',', "an element"));
    NN_TRY(nn_dtype_is_float(t->dtype) ? parse_float_element(lex, t, (size_t)i)
                                       : parse_integer_element(lex, t, (size_t)i));
  }
  if (nn_lex_take(lex, ']')) return NN_OK;
  return nn_lex_fail(lex, lex->at, "expected ']' after %" PRId64 " elements, as many as the type has", count);
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static nn_status parse_hex(nn_lexer *lex, nn_tensor *t) {
  NN_TRY(nn_lex_expect(lex, '"', "'hex'"));
  unsigned char *bytes = t->owned;
  for (size_t i = 0; i < t->size_bytes; i++, lex->at += 2) {
    int high = hex_digit(lex->at[0]), low = high < 0 ? -1 : hex_digit(lex->at[1]);
    if (low < 0)
      return nn_lex_fail(lex, lex->at, "found the end of the hex digits, expected %zu bytes, two digits each",
                         t->size_bytes);
    bytes[i] = (unsigned char)(high * 16 + low);
  }
  return nn_lex_expect(lex, '"', "as many bytes as the type has");
}

static nn_status parse_file(nn_lexer *lex, nn_type type, size_t size_bytes, nn_tensor **tensor) {
  nn_lex_skip(lex);
  const char *at = lex->at;
  char *name;
  bool is_negative;
  uint64_t offset;
  NN_TRY(nn_lex_string(lex, "a file name", &name));
  NN_TRY(nn_lex_number(lex, &is_negative, &offset));
  if (is_negative) return nn_lex_fail(lex, at, "a negative offset");
  const void *bytes = nn_text_map_file(lex, at, name, offset, size_bytes);
  if (!bytes) return NN_FAIL;
  const char *folder_end = lex->file ? strrchr(lex->file, '/') : NULL;
  int folder_length = folder_end ? (int)(folder_end - lex->file) + 1 : 0;
  const char *path = nn_sprintf(lex->m->arena, "%.*s%s", folder_length, folder_length ? lex->file : "", name);
  *tensor = nn_tensor_borrow(lex->m, type, bytes, path, offset);
  return *tensor ? NN_OK : NN_FAIL;
}

nn_status nn_parse_contents(nn_lexer *lex, nn_type type, nn_tensor **tensor) {
  nn_lex_skip(lex);
  const char *at = lex->at;
  int64_t count;
  nn_dtype_kind kind = nn_dtype_kind_of(type.dtype);
  if (!nn_type_static_count(type, &count))
    return nn_lex_fail(lex, at, "contents for %s, expected a type with static dims", nn_type_text(lex->m->arena, type));
  if (kind == NN_KIND_STRING) return nn_lex_fail(lex, at, "contents of string tensors have no text form");
  size_t size_bytes = nn_dtype_bytes(type.dtype, (uint64_t)count);
  if (nn_lex_take_word(lex, "file")) return parse_file(lex, type, size_bytes, tensor);
  bool is_hex = nn_lex_take_word(lex, "hex");
  if (!is_hex && !nn_lex_take(lex, '[')) return nn_lex_fail(lex, at, "expected '[', 'hex' or 'file'");
  /* an element takes a character, a byte two: so no more memory is asked for than the text is long */
  size_t left = (size_t)(lex->end - lex->at);
  if (is_hex ? size_bytes > left / 2 : (uint64_t)count > left)
    return nn_lex_fail(lex, at, "the text ends before the %" PRId64 " elements of %s", count,
                       nn_type_text(lex->m->arena, type));
  if (!is_hex && kind == NN_KIND_COMPLEX)
    return nn_lex_fail(lex, at, "values of %s, expected hex", nn_dtype_name(type.dtype));
  *tensor = nn_tensor_new(lex->m, type);
  if (!*tensor) return NN_FAIL;
  return is_hex ? parse_hex(lex, *tensor) : parse_values(lex, *tensor, count);
}
