/* Command lines, through popt. */
#include "tools/tools.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void strings_add(strings *s, const char *item) {
  if (s->count + 2 > s->cap) {
    s->cap = s->cap ? 2 * s->cap : 8;
    const char **items = realloc(s->items, (size_t)s->cap * sizeof *items);
    if (!items) exit(70);
    s->items = items;
  }
  s->items[s->count++] = item;
  s->items[s->count] = NULL;
}

void strings_free(strings *s) {
  for (int i = 0; i < s->count; i++) free((void *)(uintptr_t)s->items[i]);
  free(s->items);
  *s = (strings){0};
}

bool parse_args(int argc, const char **argv, const struct poptOption *options, const char *usage, strings *rest, option_fn *on_option, void *data) {
  struct poptOption table[] = {
      {NULL, '\0', POPT_ARG_INCLUDE_TABLE, (void *)options, 0, "Options:", NULL},
      {"help", 'h', POPT_ARG_NONE, NULL, -1000, "this text", NULL},
      POPT_TABLEEND};
  poptContext context = poptGetContext(NULL, argc, argv, table, 0);
  poptSetOtherOptionHelp(context, usage);
  int option;
  while ((option = poptGetNextOpt(context)) > 0 || option == -1000) {
    if (option == -1000) {
      poptPrintHelp(context, stdout, 0);
      exit(EXIT_OK);
    }
    if (on_option) on_option(data, option, poptGetOptArg(context)); /* kept: the program is short-lived */
  }
  if (option < -1) {
    fprintf(stderr, "nncc: %s: %s (nncc %s --help tells what there is)\n", poptBadOption(context, 0), poptStrerror(option), argv[0]);
    poptFreeContext(context);
    return false;
  }
  for (const char *arg; (arg = poptGetArg(context));) strings_add(rest, strdup(arg));
  poptFreeContext(context);
  return true;
}

int parse_int(const char *text, long min, long max, long *value) {
  char *end;
  errno = 0;
  long v = strtol(text, &end, 10);
  if (errno || end == text || *end || v < min || v > max) return 1;
  *value = v;
  return 0;
}

bool is_terminal(FILE *f) { return isatty(fileno(f)) && !getenv("NO_COLOR"); }
