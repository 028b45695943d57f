/* Symbolic dimensions: text.

     expression := ["-"] product { ("+" | "-") product }
     product    := factor { ("*" | "floordiv" | "ceildiv" | "mod") factor }     left to right
     factor     := "-" factor | number | symbol | "overflow" | "(" expression ")"
                 | ("min" | "max") "(" expression { "," expression } ")"
   A symbol that is not [A-Za-z_][A-Za-z0-9_.]* or is one of the words above stands in quotes. */
#include "ir/ir.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

/* ---- names ------------------------------------------------------------------------------------- */

static bool is_name_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.'; }

bool nn_text_is_name(const char *text) {
  if (!*text) return false;
  for (; *text; text++)
    if (!is_name_char(*text)) return false;
  return true;
}

typedef struct buffer {
  nn_arena *arena;
  char *text;
  size_t count;
  int cap;
} buffer;

static void put_char(buffer *b, char c) {
  if (b->count == (size_t)b->cap) b->text = nn_grow(b->arena, b->text, b->count, &b->cap, 1);
  b->text[b->count++] = c;
}

static void put_text(buffer *b, const char *text) {
  for (; *text; text++) put_char(b, *text);
}

static char *finish(buffer *b) {
  put_char(b, 0);
  return b->text;
}

char *nn_text_quote(nn_arena *arena, const char *text) {
  buffer b = {.arena = arena};
  put_char(&b, '"');
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    char escaped[5];
    if (c == '"' || c == '\\')
      snprintf(escaped, sizeof escaped, "\\%c", c);
    else if (c == '\n')
      strcpy(escaped, "\\n");
    else if (c == '\t')
      strcpy(escaped, "\\t");
    else if (c < ' ' || c == 0x7f)
      snprintf(escaped, sizeof escaped, "\\x%02x", c);
    else
      snprintf(escaped, sizeof escaped, "%c", c);
    put_text(&b, escaped);
  }
  put_char(&b, '"');
  return finish(&b);
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* After the backslash; 0 if it is no escape (a NUL cannot be in a name). */
static char unescape(const char **at) {
  char c = *(*at)++;
  if (c == 'n') return '\n';
  if (c == 't') return '\t';
  if (c == '"' || c == '\\') return c;
  if (c != 'x') return 0;
  int high = hex_digit((*at)[0]), low = high < 0 ? -1 : hex_digit((*at)[1]);
  if (low < 0) return 0;
  *at += 2;
  return (char)(high * 16 + low);
}

char *nn_text_unquote(nn_arena *arena, const char **cursor) {
  buffer b = {.arena = arena};
  const char *at = *cursor + 1;
  while (*at && *at != '"' && *at != '\n') {
    char c = *at++;
    if (c == '\\') c = *at ? unescape(&at) : 0;
    if (!c) return NULL;
    put_char(&b, c);
  }
  if (*at != '"') return NULL;
  *cursor = at + 1;
  return finish(&b);
}

static const char *const reserved[] = {"min", "max", "floordiv", "ceildiv", "mod", "overflow"};

static bool is_reserved(const char *text) {
  for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
    if (strcmp(text, reserved[i]) == 0) return true;
  return false;
}

static bool is_plain_symbol(const char *name) {
  return nn_text_is_name(name) && !isdigit((unsigned char)*name) && *name != '.' && !is_reserved(name);
}

/* ---- printing ---------------------------------------------------------------------------------- */

static void put_expr(buffer *b, nn_dim d);

static bool is_infix(const nn_atom *atom) { return atom->kind == NN_ATOM_FLOORDIV || atom->kind == NN_ATOM_MOD; }

static void put_wrapped(buffer *b, nn_dim d) {
  put_char(b, '(');
  put_expr(b, d);
  put_char(b, ')');
}

/* An operand of floordiv or mod. */
static void put_operand(buffer *b, nn_dim d) {
  int64_t value;
  bool is_number = nn_dim_is_const(d, &value) && value >= 0;
  bool is_atom =
      d->nterms == 1 && d->terms[0].coefficient == 1 && d->terms[0].natoms == 1 && !is_infix(d->terms[0].atoms[0]);
  if (is_number || is_atom || d->overflow)
    put_expr(b, d);
  else
    put_wrapped(b, d);
}

static void put_call(buffer *b, const nn_atom *atom) {
  put_text(b, atom->kind == NN_ATOM_MIN ? "min(" : "max(");
  put_expr(b, atom->a);
  put_text(b, ", ");
  put_expr(b, atom->b);
  put_char(b, ')');
}

static void put_atom(buffer *b, const nn_atom *atom, bool is_alone) {
  if (atom->kind == NN_ATOM_SYMBOL) {
    const char *name = nn_atom_symbol(atom)->name;
    put_text(b, is_plain_symbol(name) ? name : nn_text_quote(b->arena, name));
  } else if (is_infix(atom)) {
    if (!is_alone) put_char(b, '(');
    put_operand(b, atom->a);
    put_text(b, atom->kind == NN_ATOM_MOD ? " mod " : " floordiv ");
    put_operand(b, atom->b);
    if (!is_alone) put_char(b, ')');
  } else {
    put_call(b, atom);
  }
}

/* The magnitude of a term; the sign is the caller's. */
static void put_term(buffer *b, const nn_term *t) {
  uint64_t magnitude = t->coefficient < 0 ? 0 - (uint64_t)t->coefficient : (uint64_t)t->coefficient;
  bool has_number = magnitude != 1 || !t->natoms;
  char number[24];
  if (has_number) {
    snprintf(number, sizeof number, "%" PRIu64, magnitude);
    put_text(b, number);
  }
  for (int i = 0; i < t->natoms; i++) {
    if (has_number || i) put_char(b, '*');
    put_atom(b, t->atoms[i], t->natoms == 1 && !has_number && t->coefficient > 0);
  }
}

static void put_expr(buffer *b, nn_dim d) {
  if (d->overflow)
    put_text(b, "overflow");
  else if (!d->nterms)
    put_char(b, '0');
  for (int i = 0; i < d->nterms; i++) {
    bool is_negative = d->terms[i].coefficient < 0;
    if (i)
      put_text(b, is_negative ? " - " : " + ");
    else if (is_negative)
      put_char(b, '-');
    put_term(b, &d->terms[i]);
  }
}

char *nn_dim_text(nn_arena *arena, nn_dim d) {
  buffer b = {.arena = arena};
  put_expr(&b, d);
  return finish(&b);
}

/* ---- parsing ----------------------------------------------------------------------------------- */

enum { MAX_NESTING = 100 };

typedef struct parser {
  nn_module *m;
  const char *at;
  int nesting;
} parser;

static nn_dim parse_expr(parser *p);
static nn_dim parse_factor(parser *p);

static void skip_blanks(parser *p) {
  while (*p->at == ' ' || *p->at == '\t') p->at++;
}

static bool take(parser *p, char c) {
  skip_blanks(p);
  if (*p->at != c) return false;
  p->at++;
  return true;
}

static size_t word_length(const char *at) {
  size_t length = 0;
  if (isdigit((unsigned char)*at) || *at == '.') return 0;
  while (is_name_char(at[length])) length++;
  return length;
}

static bool take_word(parser *p, const char *word) {
  skip_blanks(p);
  size_t length = word_length(p->at);
  if (length != strlen(word) || memcmp(p->at, word, length) != 0) return false;
  p->at += length;
  return true;
}

/* A number beyond int64 is the overflow dimension. */
static nn_dim parse_number(parser *p, bool is_negative) {
  int64_t value = 0;
  bool overflows = false;
  for (; isdigit((unsigned char)*p->at); p->at++) {
    int digit = *p->at - '0';
    overflows |= __builtin_mul_overflow(value, 10, &value);
    overflows |= __builtin_add_overflow(value, is_negative ? -digit : digit, &value);
  }
  return overflows ? nn_dim_overflow(p->m) : nn_dim_const(p->m, value);
}

static nn_dim parse_call(parser *p, bool is_min) {
  if (!take(p, '(')) return NULL;
  nn_dim result = parse_expr(p);
  while (result && take(p, ',')) {
    nn_dim next = parse_expr(p);
    if (!next) return NULL;
    result = is_min ? nn_dim_min(p->m, result, next) : nn_dim_max(p->m, result, next);
  }
  return result && take(p, ')') ? result : NULL;
}

static nn_dim parse_negated(parser *p) {
  skip_blanks(p);
  if (isdigit((unsigned char)*p->at)) return parse_number(p, true);
  nn_dim d = parse_factor(p);
  return d ? nn_dim_mul(p->m, d, nn_dim_const(p->m, -1)) : NULL;
}

static nn_dim parse_symbol(parser *p) {
  size_t length = word_length(p->at);
  if (!length) return NULL;
  char *name = nn_strndup(p->m->arena, p->at, length);
  if (is_reserved(name)) return NULL;
  p->at += length;
  return nn_dim_symbol(p->m, name);
}

static nn_dim parse_primary(parser *p) {
  skip_blanks(p);
  if (take(p, '-')) return parse_negated(p);
  if (isdigit((unsigned char)*p->at)) return parse_number(p, false);
  if (take(p, '(')) {
    nn_dim d = parse_expr(p);
    return d && take(p, ')') ? d : NULL;
  }
  if (*p->at == '"') {
    char *name = nn_text_unquote(p->m->arena, &p->at);
    return name ? nn_dim_symbol(p->m, name) : NULL;
  }
  if (take_word(p, "min")) return parse_call(p, true);
  if (take_word(p, "max")) return parse_call(p, false);
  if (take_word(p, "overflow")) return nn_dim_overflow(p->m);
  return parse_symbol(p);
}

static nn_dim parse_factor(parser *p) {
  if (++p->nesting > MAX_NESTING) return NULL; /* stays over: the whole parse fails */
  nn_dim d = parse_primary(p);
  p->nesting--;
  return d;
}

typedef nn_dim operation(nn_module *m, nn_dim a, nn_dim b);

static operation *take_operator(parser *p) {
  if (take(p, '*')) return nn_dim_mul;
  if (take_word(p, "floordiv")) return nn_dim_floordiv;
  if (take_word(p, "ceildiv")) return nn_dim_ceildiv;
  return take_word(p, "mod") ? nn_dim_mod : NULL;
}

static nn_dim parse_product(parser *p) {
  nn_dim product = parse_factor(p);
  operation *apply;
  while (product && (apply = take_operator(p))) {
    nn_dim factor = parse_factor(p);
    product = factor ? apply(p->m, product, factor) : NULL;
  }
  return product;
}

static nn_dim parse_expr(parser *p) {
  nn_dim sum = parse_product(p);
  while (sum) {
    bool is_plus = take(p, '+');
    if (!is_plus && !take(p, '-')) break;
    nn_dim next = parse_product(p);
    if (!next) return NULL;
    sum = is_plus ? nn_dim_add(p->m, sum, next) : nn_dim_sub(p->m, sum, next);
  }
  return sum;
}

nn_dim nn_dim_parse(nn_module *m, const char **cursor) {
  parser p = {.m = m, .at = *cursor};
  nn_dim d = parse_expr(&p);
  if (d) *cursor = p.at;
  return d;
}
