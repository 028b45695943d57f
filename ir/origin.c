/* Where an op came from: the nodes of the model that it, or the group that it fuses, does the work of. For profiles
   and maps, which are read by other programs: names are made clean. */
#include "ir/ir.h"

#include <string.h>

/* Length of the UTF-8 character at s; 0 if it is none, or one that JSON or XML would not take. */
static int character_length(const unsigned char *s) {
  int n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
  if (s[0] < 0x20 || s[0] == 0x7F || s[0] == 0xC0 || s[0] == 0xC1 || s[0] > 0xF4) return 0;
  for (int i = 1; i < n; i++)
    if (s[i] >> 6 != 2) return 0;
  bool is_surrogate = s[0] == 0xED && s[1] >= 0xA0,
       is_overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
  bool is_beyond = (s[0] == 0xF4 && s[1] >= 0x90) || (s[0] == 0xEF && s[1] == 0xBF && s[2] >= 0xBE);
  return is_surrogate || is_overlong || is_beyond ? 0 : n;
}

char *nn_text_clean(nn_arena *arena, const char *text) {
  char *copy = nn_sprintf(arena, "%s", text);
  for (char *s = copy; *s;) {
    int n = character_length((const unsigned char *)s);
    if (n == 0) *s = '?';
    s += n > 0 ? n : 1;
  }
  return copy;
}

static void add_origin(nn_origins *all, nn_arena *arena, const nn_op *op) {
  if (!op->loc || !*op->loc) return;
  const char *name = nn_text_clean(arena, op->loc);
  for (int i = 0; i < all->count; i++)
    if (strcmp(all->items[i].node, name) == 0) return;
  nn_origin origin = {name, op->loc_op ? nn_text_clean(arena, op->loc_op) : ""};
  NN_PUSH(arena, all->items, all->count, all->cap, origin);
}

/* A broadcast does no work, and one of a constant may be shared by many nodes. */
nn_origins nn_op_origins(const nn_op *op, nn_arena *arena) {
  nn_origins all = {NULL, 0, 0};
  const nn_graph *body = op->code == NN_OP_FUSED ? nn_attr_graph(op, "body") : NULL;
  for (const nn_op *inner = body ? body->first : NULL; inner; inner = inner->next)
    if (inner->code != NN_OP_BROADCAST) add_origin(&all, arena, inner);
  add_origin(&all, arena, op);
  return all;
}
