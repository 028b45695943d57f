/* Expressions of the loop IR from text, see loop_print.c:

     expression := operands joined by | ^ & (== != < <=) (+ -) (* / floordiv mod), loosest first, left to right
     operand    := number [":" type] | "true" | "false" | "-" operand | symbol | "%"variable | "(" expression ")"
                 | "%"buffer "[" expression ["if" mask] "]" | function "(" expression, .. ")"
   Operands are built with the nn_x_ functions, so what can be simplified is. Everything that those assert is
   checked here first. */
#include "ir/loop.h"
#include "ir/text.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

enum { MAX_DEPTH = 200, MAX_OPERATORS = 20000, LOOSEST = 1, TIGHTEST = 6 };

/* ---- tokens --------------------------------------------------------------------------------------------- */

/* A symbol, keyword or function name; names of kernels' symbols hold no dots, so that `0..N` reads. */
static size_t word_length(nn_lexer *lex) {
  size_t length = 0;
  nn_lex_skip(lex);
  if (isdigit((unsigned char)*lex->at)) return 0;
  while (isalnum((unsigned char)lex->at[length]) || lex->at[length] == '_') length++;
  return length;
}

static bool take_word(nn_lexer *lex, const char *word) {
  size_t length = word_length(lex);
  if (length != strlen(word) || memcmp(lex->at, word, length) != 0) return false;
  lex->at += length;
  return true;
}

static bool take_text(nn_lexer *lex, const char *text) {
  nn_lex_skip(lex);
  if (strncmp(lex->at, text, strlen(text)) != 0) return false;
  lex->at += strlen(text);
  return true;
}

nn_status nn_loop_parse_name(nn_loop_parser *p, char **name) {
  size_t length = 0;
  const char *at = p->lex->at;
  while (isalnum((unsigned char)at[length]) || at[length] == '_') length++;
  if (!length) return nn_lex_fail(p->lex, at, "expected a name after '%%'");
  *name = nn_strndup(p->lex->m->arena, at, length);
  p->lex->at += length;
  return NN_OK;
}

static nn_x *fail(nn_loop_parser *p, const char *at, const char *message) {
  nn_lex_fail(p->lex, at, "%s", message);
  return NULL;
}

/* ---- numbers ---------------------------------------------------------------------------------------------- */

/* The length of a number that stops before the `..` of a range. */
static size_t number_length(const char *at, bool *is_whole) {
  size_t length = 0;
  *is_whole = true;
  while (isdigit((unsigned char)at[length])) length++;
  if (at[length] == '.' && at[length + 1] != '.') {
    *is_whole = false;
    length++;
    while (isdigit((unsigned char)at[length])) length++;
  }
  size_t sign = at[length] && strchr("+-", at[length + 1]) && at[length + 1] ? 2 : 1;
  if ((at[length] != 'e' && at[length] != 'E') || !isdigit((unsigned char)at[length + sign])) return length;
  *is_whole = false;
  length += sign;
  while (isdigit((unsigned char)at[length])) length++;
  return length;
}

static bool parse_suffix(nn_loop_parser *p, nn_dtype *t) { return !nn_lex_take(p->lex, ':') || nn_lex_dtype(p->lex, t) == NN_OK; }

static bool is_computable(nn_dtype t) { return nn_dtype_kind_of(t) != NN_KIND_COMPLEX && nn_dtype_kind_of(t) != NN_KIND_STRING; }

static nn_x *make_float(nn_loop_parser *p, const char *at, double value) {
  nn_dtype t = NN_F32;
  if (!parse_suffix(p, &t)) return NULL;
  if (!nn_dtype_is_float(t)) return fail(p, at, "a number with a fraction needs a float type");
  return nn_x_const(p->k, t, value);
}

static nn_x *parse_whole(nn_loop_parser *p, const char *at, bool minus) {
  nn_dtype t = NN_I64;
  bool unused;
  uint64_t magnitude;
  if (nn_lex_number(p->lex, &unused, &magnitude) != NN_OK || !parse_suffix(p, &t)) return NULL;
  if (!is_computable(t)) return fail(p, at, "loop IR does not compute with this type");
  if (nn_dtype_is_float(t)) return nn_x_const(p->k, t, minus ? -(double)magnitude : (double)magnitude);
  if (t != NN_U64 && magnitude > (uint64_t)INT64_MAX + minus) return fail(p, at, "an integer beyond int64");
  return nn_x_iconst(p->k, t, (int64_t)(minus ? 0 - magnitude : magnitude));
}

static nn_x *parse_number(nn_loop_parser *p, bool minus) {
  nn_lexer *lex = p->lex;
  const char *at = lex->at;
  bool is_whole;
  size_t length = number_length(at, &is_whole);
  if (is_whole) return parse_whole(p, at, minus);
  double value;
  nn_lexer part = *lex; /* nn_lex_float would read on into a range's dots */
  char *text = nn_strndup(lex->m->arena, at, length);
  part.text = part.at = text;
  part.end = text + length;
  if (nn_lex_float(&part, &value) != NN_OK) return NULL;
  lex->at += length;
  return make_float(p, at, minus ? -value : value);
}

/* ---- functions ----------------------------------------------------------------------------------------------- */

static const nn_xop functions[] = {
  NN_X_REM, NN_X_MIN, NN_X_MAX, NN_X_LIMIT, NN_X_FMA, NN_X_NEG, NN_X_ABS, NN_X_SQRT, NN_X_FLOOR, NN_X_CEIL, NN_X_TRUNC, NN_X_ROUND,
  NN_X_NOT, NN_X_SHL, NN_X_SHR, NN_X_SELECT, NN_X_CAST, NN_X_CAST_SAT, NN_X_BITCAST, NN_X_LOOKUP, NN_X_INDEX,
  NN_X_LANES_SUM, NN_X_LANES_PROD, NN_X_LANES_MAX, NN_X_LANES_MIN,
};

static bool find_function(const char *name, size_t length, nn_xop *op) {
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    *op = functions[i];
    if (strlen(nn_xop_name(*op)) == length && memcmp(nn_xop_name(*op), name, length) == 0) return true;
  }
  return false;
}

static bool ints_only(nn_xop op) {
  return op == NN_X_REM || op == NN_X_FLOORDIV || op == NN_X_FLOORMOD || (op >= NN_X_AND && op <= NN_X_SHR);
}

static nn_x *binary(nn_loop_parser *p, const char *at, nn_xop op, nn_x *a, nn_x *b) {
  if (a->dtype != b->dtype) {
    nn_lex_fail(p->lex, at, "%s of %s and %s, expected one type", nn_xop_name(op), nn_dtype_name(a->dtype), nn_dtype_name(b->dtype));
    return NULL;
  }
  if (ints_only(op) && nn_dtype_is_float(a->dtype)) {
    nn_lex_fail(p->lex, at, "%s of %s, expected integers", nn_xop_name(op), nn_dtype_name(a->dtype));
    return NULL;
  }
  if (op == NN_X_LIMIT && !(nn_dtype_is_float(a->dtype) && b->op == NN_X_CONST && b->f >= 0)) {
    nn_lex_fail(p->lex, at, "limit takes a float and a constant that is not negative");
    return NULL;
  }
  return nn_x_binary(p->k, op, a, b);
}

static nn_x *cast(nn_loop_parser *p, const char *at, nn_xop op) {
  nn_dtype t;
  nn_x *a = nn_loop_parse_x(p);
  if (!a || nn_lex_expect(p->lex, ',', "the operand") != NN_OK || nn_lex_dtype(p->lex, &t) != NN_OK) return NULL;
  if (!is_computable(t)) return fail(p, at, "loop IR does not compute with this type");
  if (op == NN_X_CAST) return nn_x_cast(p->k, a, t);
  if (op == NN_X_CAST_SAT) return nn_x_cast_sat(p->k, a, t);
  if (nn_dtype_bits(t) != nn_dtype_bits(a->dtype)) return fail(p, at, "bitcast between types of different width");
  return nn_x_bitcast(p->k, a, t);
}

static nn_x *lookup(nn_loop_parser *p, const char *at) {
  char *name;
  if (nn_lex_expect(p->lex, '%', "'('") != NN_OK || nn_loop_parse_name(p, &name) != NN_OK) return NULL;
  uintptr_t table = (uintptr_t)nn_map_get(p->tables, name);
  if (!table) return fail(p, at, "expected a table");
  if (nn_lex_expect(p->lex, ',', "the table") != NN_OK) return NULL;
  nn_x *index = nn_loop_parse_typed(p, NN_I32, "the index");
  return index ? nn_x_lookup(p->k, (int)table - 1, index) : NULL;
}

static nn_x *lanes(nn_loop_parser *p, const char *at, nn_xop op) {
  char *name;
  nn_x *first;
  int64_t count;
  if (nn_lex_expect(p->lex, '%', "'('") != NN_OK || nn_loop_parse_name(p, &name) != NN_OK) return NULL;
  nn_buf *buf = nn_map_get(p->bufs, name);
  if (!buf || buf->space != NN_BUF_REG) return fail(p, at, "expected a register array");
  if (nn_loop_parse_place(p, &first, NULL) != NN_OK || nn_lex_expect(p->lex, ',', "the place") != NN_OK) return NULL;
  if (nn_lex_int(p->lex, &count) != NN_OK) return NULL;
  if (count < 1 || count > 65536 || (count & (count - 1)) != 0) return fail(p, at, "the number of lanes must be a power of two up to 65536");
  return nn_x_lanes(p->k, op, buf, first, (int)count);
}

static nn_x *apply(nn_loop_parser *p, const char *at, nn_xop op, nn_x **a, int n) {
  if (n != nn_xop_arity(op) && !(op == NN_X_INDEX && n == 3)) {
    nn_lex_fail(p->lex, at, "%s with %d operands, expected %d", nn_xop_name(op), n, nn_xop_arity(op));
    return NULL;
  }
  if (op == NN_X_FMA) {
    if (a[0]->dtype != a[1]->dtype || a[0]->dtype != a[2]->dtype) return fail(p, at, "fma of different types");
    return nn_x_fma(p->k, a[0], a[1], a[2]);
  }
  if (op == NN_X_SELECT) {
    if (a[0]->dtype != NN_BOOL || a[1]->dtype != a[2]->dtype) return fail(p, at, "select takes a bool and two values of one type");
    return nn_x_select(p->k, a[0], a[1], a[2]);
  }
  if (op == NN_X_INDEX) {
    bool ok = a[0]->dtype == NN_I64 && a[1]->dtype == NN_I64 && (n == 2 || a[2]->dtype == NN_BOOL);
    return ok ? nn_x_index(p->k, a[0], a[1], n == 3 ? a[2] : NULL) : fail(p, at, "index takes two i64 and a bool");
  }
  if (n == 2) return binary(p, at, op, a[0], a[1]);
  if (ints_only(op) && nn_dtype_is_float(a[0]->dtype)) return fail(p, at, "not of a float");
  return nn_x_unary(p->k, op, a[0]);
}

static nn_x *plain_call(nn_loop_parser *p, const char *at, nn_xop op) {
  nn_x *a[3];
  int n = 0;
  while (n < 3) {
    if (!(a[n++] = nn_loop_parse_x(p))) return NULL;
    if (!nn_lex_take(p->lex, ',')) break;
  }
  return apply(p, at, op, a, n);
}

static nn_x *call(nn_loop_parser *p, const char *at, nn_xop op) {
  nn_x *value;
  if (op == NN_X_CAST || op == NN_X_CAST_SAT || op == NN_X_BITCAST) value = cast(p, at, op);
  else if (op >= NN_X_LANES_SUM) value = lanes(p, at, op);
  else if (op == NN_X_LOOKUP) value = lookup(p, at);
  else value = plain_call(p, at, op);
  return value && nn_lex_expect(p->lex, ')', "the operands") == NN_OK ? value : NULL;
}

/* ---- operands --------------------------------------------------------------------------------------------------- */

nn_status nn_loop_parse_place(nn_loop_parser *p, nn_x **index, nn_x **mask) {
  NN_TRY(nn_lex_expect(p->lex, '[', "the buffer"));
  *index = nn_loop_parse_typed(p, NN_I64, "an index");
  if (!*index) return NN_FAIL;
  if (mask) {
    *mask = NULL;
    if (take_word(p->lex, "if") && !(*mask = nn_loop_parse_typed(p, NN_BOOL, "a mask"))) return NN_FAIL;
  }
  return nn_lex_expect(p->lex, ']', "the index");
}

static nn_x *named(nn_loop_parser *p, const char *at) {
  char *name;
  nn_x *index, *mask;
  if (nn_loop_parse_name(p, &name) != NN_OK) return NULL;
  nn_buf *buf = nn_map_get(p->bufs, name);
  nn_x *var = nn_map_get(p->vars, name);
  if (buf) return nn_loop_parse_place(p, &index, &mask) == NN_OK ? nn_x_load(p->k, buf, index, mask) : NULL;
  if (!var) nn_lex_fail(p->lex, at, "unknown name %%%s", name);
  return var;
}

static nn_x *symbol(nn_loop_parser *p, const char *name) {
  return nn_x_dim(p->k, nn_dim_symbol(p->k->module, name));
}

static nn_x *word(nn_loop_parser *p, const char *at, size_t length, bool minus) {
  nn_lexer *lex = p->lex;
  nn_xop op;
  if (take_word(lex, "inf")) return make_float(p, at, minus ? -INFINITY : INFINITY);
  if (take_word(lex, "nan")) return make_float(p, at, NAN);
  if (minus) return fail(p, at, "expected a number after '-'");
  if (take_word(lex, "true")) return nn_x_iconst(p->k, NN_BOOL, 1);
  if (take_word(lex, "false")) return nn_x_iconst(p->k, NN_BOOL, 0);
  char *name = nn_strndup(lex->m->arena, at, length);
  lex->at += length;
  if (nn_lex_take(lex, '(')) return find_function(name, length, &op) ? call(p, at, op) : fail(p, at, "unknown function");
  return nn_loop_is_word(name) ? fail(p, at, "expected an operand") : symbol(p, name);
}

static nn_x *parse_level(nn_loop_parser *p, int level);

static nn_x *parenthesised(nn_loop_parser *p) {
  nn_x *inner = nn_loop_parse_x(p);
  return inner && nn_lex_expect(p->lex, ')', "the expression") == NN_OK ? inner : NULL;
}

static nn_x *operand(nn_loop_parser *p) {
  nn_lexer *lex = p->lex;
  bool minus = nn_lex_take(lex, '-');
  nn_lex_skip(lex);
  const char *at = lex->at;
  char *quoted;
  if (isdigit((unsigned char)*at)) return parse_number(p, minus);
  size_t length = word_length(lex);
  if (length) return word(p, at, length, minus);
  if (minus) return fail(p, at, "expected a number after '-'");
  if (nn_lex_take(lex, '%')) return named(p, at);
  if (nn_lex_take(lex, '(')) return parenthesised(p);
  if (*at == '"') return nn_lex_string(lex, "a symbol", &quoted) == NN_OK ? symbol(p, quoted) : NULL;
  return fail(p, at, "expected an operand");
}

/* ---- operators ----------------------------------------------------------------------------------------------------- */

static const struct { const char *text; nn_xop op; int level; } operators[] = {
  {"|", NN_X_OR, 1}, {"^", NN_X_XOR, 2}, {"&", NN_X_AND, 3}, {"==", NN_X_EQ, 4}, {"!=", NN_X_NE, 4}, {"<=", NN_X_LE, 4},
  {"<", NN_X_LT, 4}, {"+", NN_X_ADD, 5}, {"-", NN_X_SUB, 5}, {"*", NN_X_MUL, 6}, {"/", NN_X_DIV, 6},
  {"floordiv", NN_X_FLOORDIV, 6}, {"mod", NN_X_FLOORMOD, 6},
};

static bool take_operator(nn_lexer *lex, int level, nn_xop *op) {
  for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
    if (operators[i].level != level) continue;
    *op = operators[i].op;
    bool is_word = isalpha((unsigned char)*operators[i].text);
    if (is_word ? take_word(lex, operators[i].text) : take_text(lex, operators[i].text)) return true;
  }
  return false;
}

static nn_x *parse_level(nn_loop_parser *p, int level) {
  if (level > TIGHTEST) return operand(p);
  nn_x *left = parse_level(p, level + 1);
  nn_xop op;
  for (const char *at = p->lex->at; left && take_operator(p->lex, level, &op); at = p->lex->at) {
    if (++p->noperators > MAX_OPERATORS) return fail(p, at, "an expression with too many operators");
    nn_x *right = parse_level(p, level + 1);
    left = right ? binary(p, at, op, left, right) : NULL;
  }
  return left;
}

nn_x *nn_loop_parse_x(nn_loop_parser *p) {
  if (p->depth >= MAX_DEPTH) return fail(p, p->lex->at, "nested too deeply");
  p->depth++;
  nn_x *x = parse_level(p, LOOSEST);
  p->depth--;
  return x;
}

nn_x *nn_loop_parse_typed(nn_loop_parser *p, nn_dtype t, const char *what) {
  nn_lex_skip(p->lex);
  const char *at = p->lex->at;
  nn_x *x = nn_loop_parse_x(p);
  if (!x || x->dtype == t) return x;
  nn_lex_fail(p->lex, at, "%s is %s, expected %s", what, nn_dtype_name(x->dtype), nn_dtype_name(t));
  return NULL;
}
