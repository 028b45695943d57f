/* Kernels from text, as loop_print.c writes them. One statement a line; '#' starts a comment. The first
   error ends the kernel: what follows would mostly be its echo. A parsed kernel is verified. */
#include "ir/loop.h"
#include "ir/text.h"

#include <inttypes.h>
#include <string.h>

enum { MAX_BLOCKS = 64 };

typedef nn_loop_parser parser;

static nn_status parse_block(parser *p);

/* ---- declarations ----------------------------------------------------------------------------------------- */

static nn_status parse_symbols(parser *p) {
  do {
    char *name;
    NN_TRY(nn_lex_name(p->lex, "a symbol", &name, NULL));
    nn_x_dim(p->k, nn_dim_symbol(p->k->module, name));
  } while (nn_lex_take(p->lex, ','));
  return nn_lex_end_line(p->lex);
}

static nn_status parse_buffer(parser *p, nn_buf_space space, bool is_output) {
  char *name;
  nn_dtype t;
  nn_dim count;
  NN_TRY(nn_lex_expect(p->lex, '%', "the kind of buffer"));
  const char *at = p->lex->at;
  NN_TRY(nn_loop_parse_name(p, &name));
  NN_TRY(nn_lex_expect(p->lex, ':', "the name"));
  NN_TRY(nn_lex_dtype(p->lex, &t));
  NN_TRY(nn_lex_expect(p->lex, '[', "the element type"));
  NN_TRY(nn_lex_dim(p->lex, &count));
  NN_TRY(nn_lex_expect(p->lex, ']', "the number of elements"));
  if (nn_kernel_has_name(p->k, name)) return nn_lex_fail(p->lex, at, "%%%s is defined twice", name);
  if (space == NN_BUF_PARAM && p->k->nbufs > p->k->nparams) return nn_lex_fail(p->lex, at, "parameters come before other buffers");
  if (nn_dim_is_overflow(count)) return nn_lex_fail(p->lex, at, "the number of elements overflows");
  nn_map_put(p->bufs, name, nn_kernel_buf(p->k, name, space, t, count, is_output));
  return nn_lex_end_line(p->lex);
}

static nn_status parse_table(parser *p) {
  char *name;
  int count = 0;
  int32_t *values = NN_NEW_ARRAY(p->k->module->arena, int32_t, NN_TABLE_MOST);
  NN_TRY(nn_lex_expect(p->lex, '%', "'table'"));
  const char *at = p->lex->at;
  NN_TRY(nn_loop_parse_name(p, &name));
  NN_TRY(nn_lex_expect(p->lex, '=', "the name"));
  do {
    int64_t value;
    NN_TRY(nn_lex_int(p->lex, &value));
    if (value < INT32_MIN || value > INT32_MAX) return nn_lex_fail(p->lex, p->lex->at, "%" PRId64 " in a table, whose elements are i32", value);
    if (count == NN_TABLE_MOST) return nn_lex_fail(p->lex, p->lex->at, "a table of more than %d elements", NN_TABLE_MOST);
    values[count++] = (int32_t)value;
  } while (nn_lex_take(p->lex, ','));
  if ((count & (count - 1)) != 0) return nn_lex_fail(p->lex, p->lex->at, "a table of %d elements, expected a power of two", count);
  if (nn_kernel_has_name(p->k, name)) return nn_lex_fail(p->lex, at, "%%%s is defined twice", name);
  nn_map_put(p->tables, name, (void *)(uintptr_t)(nn_kernel_table(p->k, name, values, count) + 1));
  return nn_lex_end_line(p->lex);
}

static bool take_buffer_word(parser *p, nn_buf_space *space, bool *is_output) {
  static const struct { const char *word; nn_buf_space space; } kinds[] = {
    {"param", NN_BUF_PARAM}, {"out", NN_BUF_PARAM}, {"workspace", NN_BUF_WORKSPACE}, {"worker", NN_BUF_WORKER}, {"reg", NN_BUF_REG}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (nn_lex_take_word(p->lex, kinds[i].word)) {
      *space = kinds[i].space;
      *is_output = i == 1;
      return true;
    }
  return false;
}

/* ---- statements --------------------------------------------------------------------------------------------- */

static nn_status open_line(parser *p) {
  NN_TRY(nn_lex_expect(p->lex, '{', "the statement"));
  return nn_lex_end_line(p->lex);
}

/* The block, its "}", and what else stands in that line when there is an `else`. */
static nn_status parse_body(parser *p) {
  if (p->depth >= MAX_BLOCKS) return nn_lex_fail(p->lex, p->lex->at, "blocks nested more than %d deep", MAX_BLOCKS);
  p->depth++;
  NN_TRY(open_line(p));
  nn_status status = parse_block(p);
  p->depth--;
  return status;
}

static nn_status check_bounds(parser *p, const char *at, nn_loop_kind kind, nn_x *lo, nn_x *hi) {
  int64_t first, last;
  if (kind == NN_FOR || kind == NN_PARALLEL) return NN_OK;
  if (nn_x_is_const(lo, &first) && first == 0 && nn_x_is_const(hi, &last) && last >= 0 && last <= 65536) return NN_OK;
  return nn_lex_fail(p->lex, at, "unroll and vector loops go from 0 to a number up to 65536");
}

static nn_status parse_loop(parser *p, nn_loop_kind kind) {
  char *name;
  int64_t unroll_by = 0;
  NN_TRY(nn_lex_expect(p->lex, '%', "the kind of loop"));
  NN_TRY(nn_loop_parse_name(p, &name));
  const char *at = p->lex->at;
  if (!nn_lex_take_word(p->lex, "in")) return nn_lex_fail(p->lex, at, "expected 'in' after the loop variable");
  nn_x *lo = nn_loop_parse_typed(p, NN_I64, "a loop's bound");
  if (!lo) return NN_FAIL;
  NN_TRY(nn_lex_expect(p->lex, '.', "the lower bound"));
  NN_TRY(nn_lex_expect(p->lex, '.', "the lower bound"));
  nn_x *hi = nn_loop_parse_typed(p, NN_I64, "a loop's bound");
  if (!hi) return NN_FAIL;
  NN_TRY(check_bounds(p, at, kind, lo, hi));
  if (nn_lex_take_word(p->lex, "unroll_by")) NN_TRY(nn_lex_int(p->lex, &unroll_by));
  if (unroll_by < 0 || unroll_by > 64) return nn_lex_fail(p->lex, at, "unroll_by must be between 1 and 64");
  nn_map_put(p->vars, name, nn_loop_begin(p->k, kind, name, lo, hi));
  if (unroll_by) nn_loop_unroll_by(p->k, (int)unroll_by);
  NN_TRY(parse_body(p));
  nn_end(p->k);
  return nn_lex_end_line(p->lex);
}

static nn_status parse_if(parser *p) {
  nn_x *cond = nn_loop_parse_typed(p, NN_BOOL, "a condition");
  if (!cond) return NN_FAIL;
  nn_if_begin(p->k, cond);
  NN_TRY(parse_body(p));
  if (nn_lex_take_word(p->lex, "else")) {
    nn_else(p->k);
    NN_TRY(parse_body(p));
  }
  nn_end(p->k);
  return nn_lex_end_line(p->lex);
}

static nn_status parse_while(parser *p) {
  nn_x *cond = nn_loop_parse_typed(p, NN_BOOL, "a condition");
  if (!cond) return NN_FAIL;
  nn_while_begin(p->k, cond);
  NN_TRY(parse_body(p));
  nn_end(p->k);
  return nn_lex_end_line(p->lex);
}

static nn_status parse_keep(parser *p) {
  char *name;
  NN_TRY(nn_lex_expect(p->lex, '%', "'keep'"));
  const char *at = p->lex->at;
  NN_TRY(nn_loop_parse_name(p, &name));
  nn_buf *last = nn_map_get(p->bufs, name);
  if (!last || last->dtype != NN_I64) return nn_lex_fail(p->lex, at, "expected a buffer of one i64 of the worker");
  at = p->lex->at;
  if (!nn_lex_take_word(p->lex, "for")) return nn_lex_fail(p->lex, at, "expected 'for' after the buffer");
  nn_x *key = nn_loop_parse_typed(p, NN_I64, "a key");
  if (!key) return NN_FAIL;
  nn_keep_begin(p->k, last, key);
  NN_TRY(parse_body(p));
  nn_end(p->k);
  return nn_lex_end_line(p->lex);
}

static nn_status parse_fail(parser *p) {
  int64_t code;
  const char *at = p->lex->at;
  NN_TRY(nn_lex_int(p->lex, &code));
  if (code < 1 || code > 1000) return nn_lex_fail(p->lex, at, "an error code is between 1 and 1000");
  nn_fail_stmt(p->k, (int)code);
  return nn_lex_end_line(p->lex);
}

static nn_status parse_prefetch(parser *p) {
  char *name;
  nn_x *index;
  bool is_near = nn_lex_take_word(p->lex, "near");
  NN_TRY(nn_lex_expect(p->lex, '%', is_near ? "'near'" : "'prefetch'"));
  const char *at = p->lex->at;
  NN_TRY(nn_loop_parse_name(p, &name));
  nn_buf *buf = nn_map_get(p->bufs, name);
  if (!buf) return nn_lex_fail(p->lex, at, "expected a buffer");
  NN_TRY(nn_loop_parse_place(p, &index, NULL));
  (is_near ? nn_prefetch_near : nn_prefetch)(p->k, buf, index);
  return nn_lex_end_line(p->lex);
}

static nn_status parse_ahead(parser *p) {
  int64_t lines;
  const char *at = p->lex->at;
  NN_TRY(nn_lex_int(p->lex, &lines));
  if (lines < 1 || lines > NN_AHEAD_MOST) return nn_lex_fail(p->lex, at, "expected a number of lines from 1 to %d", NN_AHEAD_MOST);
  if (nn_current_vector_var(p->k)) return nn_lex_fail(p->lex, at, "a vector loop fetches nothing ahead");
  nn_ahead(p->k, (int)lines);
  return nn_lex_end_line(p->lex);
}

static nn_status parse_transpose(parser *p) {
  char *name;
  NN_TRY(nn_lex_expect(p->lex, '%', "'transpose'"));
  const char *at = p->lex->at;
  NN_TRY(nn_loop_parse_name(p, &name));
  nn_buf *buf = nn_map_get(p->bufs, name);
  if (!buf || nn_square_side(buf) == 0)
    return nn_lex_fail(p->lex, at, "expected a register array of as many elements as a square whose side is a power of two");
  nn_transpose(p->k, buf);
  return nn_lex_end_line(p->lex);
}

static nn_status parse_store(parser *p, nn_buf *buf) {
  nn_x *index, *mask = NULL;
  NN_TRY(nn_loop_parse_place(p, &index, NULL));
  NN_TRY(nn_lex_expect(p->lex, '=', "the place"));
  nn_x *value = nn_loop_parse_typed(p, buf->dtype, "the value");
  if (!value) return NN_FAIL;
  if (nn_lex_take_word(p->lex, "if") && !(mask = nn_loop_parse_typed(p, NN_BOOL, "a mask"))) return NN_FAIL;
  nn_store(p->k, buf, index, value, mask);
  return nn_lex_end_line(p->lex);
}

static nn_status parse_assignment(parser *p) {
  char *name;
  NN_TRY(nn_loop_parse_name(p, &name));
  nn_buf *buf = nn_map_get(p->bufs, name);
  if (buf) return parse_store(p, buf);
  NN_TRY(nn_lex_expect(p->lex, '=', "the name"));
  nn_x *value = nn_loop_parse_x(p);
  if (!value) return NN_FAIL;
  bool is_leaf = value->op == NN_X_CONST || value->op == NN_X_VAR || value->op == NN_X_SYMBOL;
  nn_map_put(p->vars, name, is_leaf ? value : nn_let_named(p->k, name, value));
  return nn_lex_end_line(p->lex);
}

static nn_status parse_stmt(parser *p) {
  static const struct { const char *word; nn_loop_kind kind; } loops[] = {
    {"for", NN_FOR}, {"parallel", NN_PARALLEL}, {"unroll", NN_UNROLL}, {"vector", NN_VECTOR}};
  p->noperators = 0;
  if (nn_lex_take(p->lex, '%')) return parse_assignment(p);
  for (size_t i = 0; i < sizeof loops / sizeof *loops; i++)
    if (nn_lex_take_word(p->lex, loops[i].word)) return parse_loop(p, loops[i].kind);
  if (nn_lex_take_word(p->lex, "if")) return parse_if(p);
  if (nn_lex_take_word(p->lex, "while")) return parse_while(p);
  if (nn_lex_take_word(p->lex, "keep")) return parse_keep(p);
  if (nn_lex_take_word(p->lex, "prefetch")) return parse_prefetch(p);
  if (nn_lex_take_word(p->lex, "ahead")) return parse_ahead(p);
  if (nn_lex_take_word(p->lex, "transpose")) return parse_transpose(p);
  if (nn_lex_take_word(p->lex, "fail")) return parse_fail(p);
  return nn_lex_fail(p->lex, p->lex->at, "expected a statement or '}'");
}

/* Statements up to and with the closing brace. */
static nn_status parse_block(parser *p) {
  for (;;) {
    while (nn_lex_at_end(p->lex)) {
      if (p->lex->at >= p->lex->end) return nn_lex_fail(p->lex, p->lex->at, "expected '}'");
      nn_lex_next_line(p->lex);
    }
    if (nn_lex_take(p->lex, '}')) return NN_OK;
    NN_TRY(parse_stmt(p));
  }
}

static nn_status parse_declarations(parser *p) {
  nn_buf_space space;
  bool is_output;
  for (;;) {
    while (nn_lex_at_end(p->lex) && p->lex->at < p->lex->end) nn_lex_next_line(p->lex);
    if (nn_lex_take_word(p->lex, "symbols")) NN_TRY(parse_symbols(p));
    else if (nn_lex_take_word(p->lex, "table")) NN_TRY(parse_table(p));
    else if (take_buffer_word(p, &space, &is_output)) NN_TRY(parse_buffer(p, space, is_output));
    else return NN_OK;
  }
}

/* ---- kernels ---------------------------------------------------------------------------------------------------- */

static nn_status parse_kernel(parser *p, nn_module *m) {
  char *name, *loc = "";
  while (nn_lex_at_end(p->lex) && p->lex->at < p->lex->end) nn_lex_next_line(p->lex);
  if (!nn_lex_take_word(p->lex, "kernel")) return nn_lex_fail(p->lex, p->lex->at, "expected 'kernel'");
  NN_TRY(nn_lex_expect(p->lex, '@', "'kernel'"));
  NN_TRY(nn_lex_name(p->lex, "a kernel's name", &name, NULL));
  if (nn_lex_take_word(p->lex, "loc")) NN_TRY(nn_lex_string(p->lex, "an ONNX node's name", &loc));
  p->k = nn_kernel_new(m, name);
  p->k->loc = loc;
  NN_TRY(open_line(p));
  NN_TRY(parse_declarations(p));
  NN_TRY(parse_block(p));
  while (nn_lex_at_end(p->lex) && p->lex->at < p->lex->end) nn_lex_next_line(p->lex);
  if (p->lex->at < p->lex->end) return nn_lex_fail(p->lex, p->lex->at, "expected nothing after the kernel");
  return nn_kernel_verify(p->k, &m->diags);
}

nn_kernel *nn_kernel_parse(nn_module *m, const char *file, const char *text, size_t length) {
  nn_lexer lex = {.m = m, .file = file};
  lex.text = lex.at = nn_strndup(m->arena, text, length);
  lex.end = lex.text + length;
  parser p = {.lex = &lex, .bufs = nn_map_new(m->arena), .vars = nn_map_new(m->arena), .tables = nn_map_new(m->arena)};
  nn_c_locale saved = nn_enter_c_locale();
  nn_status status = parse_kernel(&p, m);
  nn_leave_c_locale(saved);
  return status == NN_OK ? p.k : NULL;
}
