/* Command lines, through popt. */
#include "tools/tools.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void strings_add(strings *s, const char *item) {
  if (s->count + 2 > s->cap) {
    s->cap = s->cap ? 2 * s->cap : 8;
    char **items = realloc(s->items, (size_t)s->cap * sizeof *items);
    if (!items) exit(70);
    s->items = items;
  }
  char *copy = strdup(item);
  if (!copy) exit(70);
  s->items[s->count++] = copy;
  s->items[s->count] = NULL;
}

const char *const *strings_list(const strings *s) { return (const char *const *)s->items; }

void strings_free(strings *s) {
  for (int i = 0; i < s->count; i++) free(s->items[i]);
  free(s->items);
  *s = (strings){0};
}

bool parse_args(int argc, const char **argv, const struct poptOption *options, const char *usage, strings *rest,
                option_fn *on_option, void *data) {
  struct poptOption table[] = {{NULL, '\0', POPT_ARG_INCLUDE_TABLE, (void *)options, 0, "Options:", NULL},
                               {"help", 'h', POPT_ARG_NONE, NULL, -1000, "this text", NULL},
                               POPT_TABLEEND};
  poptContext context = poptGetContext(NULL, argc, argv, table, 0);
  poptSetOtherOptionHelp(context, usage);
  int option;
  while ((option = poptGetNextOpt(context)) > 0 || option == -1000) {
    if (option == -1000) {
      poptPrintHelp(context, stdout, 0);
      exit(finish_output(EXIT_OK));
    }
    char *value = poptGetOptArg(context);
    if (on_option) on_option(data, option, value);
    free(value);
  }
  if (option < -1)
    fprintf(stderr, "nncc: %s: %s (nncc %s --help tells what there is)\n", poptBadOption(context, 0),
            poptStrerror(option), argv[0]);
  for (const char *arg; option == -1 && (arg = poptGetArg(context));) strings_add(rest, arg);
  poptFreeContext(context);
  return option == -1;
}

void free_option_texts(const struct poptOption *options) {
  for (; options->longName || options->shortName; options++)
    if ((options->argInfo & POPT_ARG_MASK) == POPT_ARG_STRING && options->arg) free(*(char **)options->arg);
}

int run_on_model(const char *verb, int argc, const char **argv, const struct poptOption *options, option_fn *on_option, model_fn *act, void *data) {
  strings rest = {0};
  int code = EXIT_USAGE;
  bool ok = parse_args(argc, argv, options, "MODEL [options]", &rest, on_option, data);
  if (ok && rest.count != 1)
    fprintf(stderr, "nncc %s: expected one model; usage: nncc %s MODEL\n", verb, verb);
  else if (ok)
    code = act(rest.items[0], data);
  free_option_texts(options);
  strings_free(&rest);
  return code;
}

bool pins_take(pins *p, int option, const char *value) {
  if (option != OPT_DIM && option != OPT_SHAPE) return false;
  strings_add(option == OPT_DIM ? &p->dims : &p->shapes, value);
  return true;
}

bool code_take(code_args *c, const char *verb, int option, const char *value) {
  if (option == OPT_TUNING) {
    free(c->tuning);
    c->tuning = strdup(value);
    if (!c->tuning) exit(70);
    return true;
  }
  if (option != OPT_FP) return false;
  if (!nn_fp_from_name(value, &c->fp)) {
    fprintf(stderr, "nncc %s: --fp %s: expected strict, exact or fast\n", verb, value);
    c->bad = true;
  }
  return true;
}

void code_free(code_args *c) { free(c->tuning); }

void pins_free(pins *p) {
  strings_free(&p->dims);
  strings_free(&p->shapes);
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

int finish_output(int code) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return code;
  fprintf(stderr, "nncc: cannot write the output: %s\n", strerror(errno));
  return code == EXIT_OK ? EXIT_RUN : code;
}
