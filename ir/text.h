/* What the files of the graph IR's text form share: text_print.c and text_parse.c hold the statements,
   text_attr.c attributes, text_tensor.c contents of constants, text_file.c the files these may lie in,
   text_lex.c the cursor. Nobody else includes this. */
#ifndef NN_TEXT_H
#define NN_TEXT_H

#include "ir/ir.h"
#include <locale.h>

/* ---- printing ---------------------------------------------------------------------------------- */

typedef struct nn_printer {
  FILE *out;
  nn_module *m;
  nn_arena *scratch;   /* freed when the text is complete */
  nn_map *graph_names; /* nn_graph -> unique name */
  nn_map *value_names; /* nn_value -> text with its sigil */
  nn_map *taken;       /* names in use in the scope that is being named */
} nn_printer;

const char *nn_print_name(nn_printer *p, char sigil, const char *name); /* quoted if need be */
void nn_print_dim(nn_printer *p, nn_dim d);                             /* in the form that parsing it back gives */
void nn_print_float(FILE *out, nn_dtype t, double value);  /* shortest text that reads back as the same t */
void nn_print_attrs(nn_printer *p, const nn_op *op);       /* " {..}" or nothing */
void nn_print_contents(nn_printer *p, const nn_tensor *t); /* " = .." */

/* ---- parsing ----------------------------------------------------------------------------------- */

typedef struct nn_lexer {
  nn_module *m;
  const char *file;       /* for messages and for the folder of constants' files, may be NULL */
  const char *text, *end; /* NUL-terminated copy */
  const char *at;
  void *self;                                                      /* of find_graph */
  nn_graph *(*find_graph)(struct nn_lexer *lex, const char *name); /* NULL after a report */
  nn_map *files;                                                   /* text_file.c: name -> mapping */
} nn_lexer;

/* An error at a place in the text: "file:line:column: message", the line and a caret. */
nn_status nn_lex_fail(nn_lexer *lex, const char *at, const char *format, ...) NN_PRINTF(3, 4);
/* Gives the diagnostics from number `first` on the place `at`: for what other modules reported. */
void nn_lex_locate(nn_lexer *lex, int first, const char *at);
bool nn_lex_too_many_errors(const nn_lexer *lex);
void nn_lex_skip(nn_lexer *lex);   /* blanks and a comment, not the end of the line */
bool nn_lex_at_end(nn_lexer *lex); /* of the line */
void nn_lex_next_line(nn_lexer *lex);
bool nn_lex_take(nn_lexer *lex, char c);
bool nn_lex_take_word(nn_lexer *lex, const char *word);
nn_status nn_lex_expect(nn_lexer *lex, char c, const char *after);
nn_status nn_lex_end_line(nn_lexer *lex);
nn_status nn_lex_name(nn_lexer *lex, const char *what, char **name, bool *is_quoted); /* is_quoted may be NULL */
nn_status nn_lex_string(nn_lexer *lex, const char *what, char **value);
nn_status nn_lex_int(nn_lexer *lex, int64_t *value);
nn_status nn_lex_number(nn_lexer *lex, bool *is_negative, uint64_t *magnitude);
nn_status nn_lex_float(nn_lexer *lex, double *value);
nn_status nn_lex_dim(nn_lexer *lex, nn_dim *dim);
nn_status nn_lex_dtype(nn_lexer *lex, nn_dtype *dtype);
nn_status nn_lex_type(nn_lexer *lex, nn_type *type);

nn_status nn_parse_attrs(nn_lexer *lex, nn_op *op);                           /* at "{", or nothing */
nn_status nn_parse_contents(nn_lexer *lex, nn_type type, nn_tensor **tensor); /* after "=" */
/* size_bytes at offset of a file beside the text; NULL after a report at `at`. */
const void *nn_text_map_file(nn_lexer *lex, const char *at, const char *name, uint64_t offset, size_t size_bytes);

/* Numbers are spelled as in the C locale whatever the host program has set. */
typedef struct nn_c_locale {
  locale_t own, before;
} nn_c_locale;
nn_c_locale nn_enter_c_locale(void);
void nn_leave_c_locale(nn_c_locale saved);

#endif
