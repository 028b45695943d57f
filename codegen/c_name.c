/* Names for C: what a model and its tensors are called in headers and symbol tables. */
#include "codegen/codegen.h"

#include <string.h>

static const char *const keywords[] = {
    "alignas",     "alignof",      "and",       "and_eq",   "asm",       "auto",         "bitand",   "bitor",
    "bool",        "break",        "case",      "catch",    "char",      "char8_t",      "char16_t", "char32_t",
    "class",       "co_await",     "co_return", "co_yield", "compl",     "concept",      "const",    "const_cast",
    "consteval",   "constexpr",    "constinit", "continue", "decltype",  "default",      "delete",   "do",
    "double",      "dynamic_cast", "else",      "enum",     "explicit",  "export",       "extern",   "false",
    "float",       "for",          "friend",    "goto",     "if",        "inline",       "int",      "long",
    "main",        "mutable",      "namespace", "new",      "noexcept",  "not",          "not_eq",   "nullptr",
    "operator",    "or",           "or_eq",     "private",  "protected", "public",       "register", "reinterpret_cast",
    "requires",    "restrict",     "return",    "short",    "signed",    "sizeof",       "static",   "static_assert",
    "static_cast", "struct",       "switch",    "template", "this",      "thread_local", "throw",    "true",
    "try",         "typedef",      "typeid",    "typename", "typeof",    "union",        "unsigned", "using",
    "virtual",     "void",         "volatile",  "wchar_t",  "while",     "xor",          "xor_eq"};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

static bool is_keyword(const char *name) {
  for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
    if (strcmp(name, keywords[i]) == 0) return true;
  return false;
}

char *nn_c_name(nn_arena *arena, const char *text, size_t length) {
  char *name = nn_strndup(arena, text, length);
  for (char *c = name; *c; c++)
    if (!is_letter(*c) && !is_digit(*c)) *c = '_';
  bool is_bad = !*name || is_digit(*name) || is_keyword(name);
  return is_bad ? nn_sprintf(arena, "m_%s", name) : name;
}
