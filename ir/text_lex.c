/* Text of the graph IR: the cursor. One statement a line; '#' starts a comment; strings end in their line. */
#include "ir/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ERRORS = 50, SHOWN_WIDTH = 100, MAX_NUMBER_LENGTH = 400 };

nn_c_locale nn_enter_c_locale(void) {
  nn_c_locale saved = {.own = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0)};
  if (saved.own) saved.before = uselocale(saved.own);
  return saved;
}

void nn_leave_c_locale(nn_c_locale saved) {
  if (!saved.own) return;
  uselocale(saved.before);
  freelocale(saved.own);
}

/* ---- errors ------------------------------------------------------------------------------------- */

typedef struct place {
  int line, column;
  const char *line_start, *line_end;
} place;

static place find_place(const nn_lexer *lex, const char *at) {
  place p = {.line = 1, .line_start = lex->text};
  for (const char *c = lex->text; c < at; c++)
    if (*c == '\n') {
      p.line++;
      p.line_start = c + 1;
    }
  p.column = (int)(at - p.line_start) + 1;
  p.line_end = at;
  while (*p.line_end && *p.line_end != '\n') p.line_end++;
  return p;
}

/* The line, or the part of a long one around the place, and a caret below. */
static const char *show_place(const nn_lexer *lex, place p, const char *at) {
  const char *start = at - p.line_start > SHOWN_WIDTH * 2 / 3 ? at - SHOWN_WIDTH * 2 / 3 : p.line_start;
  const char *end = p.line_end - start > SHOWN_WIDTH ? start + SHOWN_WIDTH : p.line_end;
  char *shown = nn_strndup(lex->m->arena, start, (size_t)(end - start));
  for (char *c = shown; *c; c++)
    if ((unsigned char)*c < ' ') *c = ' ';
  return nn_sprintf(lex->m->arena, "\n  %s\n  %*s", shown, (int)(at - start) + 1, "^");
}

void nn_lex_locate(nn_lexer *lex, int first, const char *at) {
  nn_diags *diags = &lex->m->diags;
  place p = find_place(lex, at);
  const char *file = lex->file ? lex->file : "text";
  for (int i = first; i < diags->count; i++) {
    nn_diag *item = &diags->items[i];
    item->file = nn_sprintf(diags->arena, "%s:%d:%d", file, p.line, p.column);
    item->message = nn_sprintf(diags->arena, "%s%s", item->message, show_place(lex, p, at));
  }
}

nn_status nn_lex_fail(nn_lexer *lex, const char *at, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int first = lex->m->diags.count;
  nn_vreport(&lex->m->diags, NN_ERROR, NULL, NULL, NULL, format, args);
  va_end(args);
  nn_lex_locate(lex, first, at);
  return NN_FAIL;
}

bool nn_lex_too_many_errors(const nn_lexer *lex) { return lex->m->diags.nerrors >= MAX_ERRORS; }

/* What stands at the cursor, which is past blanks, for "found ..". */
static const char *describe(nn_lexer *lex) {
  if (lex->at >= lex->end) return "the end of the text";
  if (*lex->at == '\n') return "the end of the line";
  if (!*lex->at) return "a NUL byte";
  size_t length = 1;
  while (length < 24 && (isalnum((unsigned char)lex->at[length]) || lex->at[length] == '_') &&
         (isalnum((unsigned char)*lex->at) || *lex->at == '_'))
    length++;
  return nn_sprintf(lex->m->arena, "'%.*s'", (int)length, lex->at);
}

/* ---- cursor ------------------------------------------------------------------------------------- */

void nn_lex_skip(nn_lexer *lex) {
  while (*lex->at == ' ' || *lex->at == '\t' || *lex->at == '\r') lex->at++;
  if (*lex->at != '#') return;
  while (*lex->at && *lex->at != '\n') lex->at++;
}

bool nn_lex_at_end(nn_lexer *lex) {
  nn_lex_skip(lex);
  return *lex->at == '\n' || lex->at >= lex->end;
}

void nn_lex_next_line(nn_lexer *lex) {
  while (lex->at < lex->end && *lex->at != '\n') lex->at++;
  if (lex->at < lex->end) lex->at++;
}

bool nn_lex_take(nn_lexer *lex, char c) {
  nn_lex_skip(lex);
  if (*lex->at != c || lex->at >= lex->end) return false;
  lex->at++;
  return true;
}

static size_t name_length(const char *at) {
  size_t length = 0;
  while (isalnum((unsigned char)at[length]) || at[length] == '_' || at[length] == '.') length++;
  return length;
}

bool nn_lex_take_word(nn_lexer *lex, const char *word) {
  nn_lex_skip(lex);
  size_t length = name_length(lex->at);
  if (length != strlen(word) || memcmp(lex->at, word, length) != 0) return false;
  lex->at += length;
  return true;
}

nn_status nn_lex_expect(nn_lexer *lex, char c, const char *after) {
  if (nn_lex_take(lex, c)) return NN_OK;
  return nn_lex_fail(lex, lex->at, "found %s, expected '%c' after %s", describe(lex), c, after);
}

nn_status nn_lex_end_line(nn_lexer *lex) {
  if (nn_lex_at_end(lex)) return NN_OK;
  return nn_lex_fail(lex, lex->at, "found %s, expected the end of the line", describe(lex));
}

/* ---- tokens ------------------------------------------------------------------------------------- */

nn_status nn_lex_string(nn_lexer *lex, const char *what, char **value) {
  nn_lex_skip(lex);
  if (*lex->at != '"') return nn_lex_fail(lex, lex->at, "found %s, expected %s in quotes", describe(lex), what);
  const char *start = lex->at;
  *value = nn_text_unquote(lex->m->arena, &lex->at);
  return *value ? NN_OK : nn_lex_fail(lex, start, "a quote that does not end in this line or has a bad escape");
}

nn_status nn_lex_name(nn_lexer *lex, const char *what, char **name, bool *is_quoted) {
  nn_lex_skip(lex);
  if (is_quoted) *is_quoted = *lex->at == '"';
  if (*lex->at == '"') return nn_lex_string(lex, what, name);
  size_t length = name_length(lex->at);
  if (!length) return nn_lex_fail(lex, lex->at, "found %s, expected %s", describe(lex), what);
  *name = nn_strndup(lex->m->arena, lex->at, length);
  lex->at += length;
  return NN_OK;
}

nn_status nn_lex_number(nn_lexer *lex, bool *is_negative, uint64_t *magnitude) {
  nn_lex_skip(lex);
  const char *start = lex->at;
  *is_negative = nn_lex_take(lex, '-');
  *magnitude = 0;
  if (!isdigit((unsigned char)*lex->at)) return nn_lex_fail(lex, start, "found %s, expected an integer", describe(lex));
  bool overflows = false;
  for (; isdigit((unsigned char)*lex->at); lex->at++) {
    overflows |= __builtin_mul_overflow(*magnitude, 10u, magnitude);
    overflows |= __builtin_add_overflow(*magnitude, (unsigned)(*lex->at - '0'), magnitude);
  }
  return overflows ? nn_lex_fail(lex, start, "an integer beyond 64 bits") : NN_OK;
}

nn_status nn_lex_int(nn_lexer *lex, int64_t *value) {
  nn_lex_skip(lex);
  const char *start = lex->at;
  bool is_negative;
  uint64_t magnitude;
  NN_TRY(nn_lex_number(lex, &is_negative, &magnitude));
  if (magnitude > (uint64_t)INT64_MAX + is_negative) return nn_lex_fail(lex, start, "an integer beyond int64");
  *value = is_negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
  return NN_OK;
}

nn_status nn_lex_float(nn_lexer *lex, double *value) {
  nn_lex_skip(lex);
  const char *start = lex->at, *end = start;
  while (isalnum((unsigned char)*end) || *end == '.' || *end == '+' || *end == '-') end++;
  char number[MAX_NUMBER_LENGTH + 1], *stop = number;
  size_t length = (size_t)(end - start);
  if (length == 0 || length > MAX_NUMBER_LENGTH)
    return nn_lex_fail(lex, start, "found %s, expected a number", describe(lex));
  memcpy(number, start, length);
  number[length] = 0;
  *value = strtod(number, &stop);
  if (*stop) return nn_lex_fail(lex, start, "found %s, expected a number", describe(lex));
  lex->at = end;
  return NN_OK;
}

nn_status nn_lex_dim(nn_lexer *lex, nn_dim *dim) {
  nn_lex_skip(lex);
  const char *at = lex->at;
  *dim = nn_dim_parse(lex->m, &lex->at);
  return *dim ? NN_OK
              : nn_lex_fail(lex, at, "found %s, expected a dimension: a number or an expression of symbols",
                            describe(lex));
}

nn_status nn_lex_dtype(nn_lexer *lex, nn_dtype *dtype) {
  nn_lex_skip(lex);
  size_t length = name_length(lex->at);
  if (!nn_dtype_from_name(lex->at, length, dtype))
    return nn_lex_fail(lex, lex->at, "found %s, expected an element type such as f32", describe(lex));
  lex->at += length;
  return NN_OK;
}

nn_status nn_lex_type(nn_lexer *lex, nn_type *type) {
  nn_dim dims[NN_MAX_RANK];
  nn_dtype dtype;
  int rank = 0;
  NN_TRY(nn_lex_dtype(lex, &dtype));
  NN_TRY(nn_lex_expect(lex, '[', "the element type"));
  while (!nn_lex_take(lex, ']')) {
    if (rank) NN_TRY(nn_lex_expect(lex, ',', "a dimension"));
    if (rank == NN_MAX_RANK) return nn_lex_fail(lex, lex->at, "more than %d dimensions", NN_MAX_RANK);
    NN_TRY(nn_lex_dim(lex, &dims[rank]));
    rank++;
  }
  *type = nn_type_make(lex->m, dtype, rank, dims);
  if (!nn_lex_take(lex, '/')) return NN_OK;
  char *layout;
  NN_TRY(nn_lex_name(lex, "a layout", &layout, NULL));
  type->layout = layout;
  return NN_OK;
}
