/* Schedules: whoever lowers an op (or chooses its form) asks nn_schedule for the numbers that are a matter of speed. It gives what the cost
   model says, unless the module has a tuning with an entry for this op. nncc tune makes one (tools/verb_tune.c): it measures
   alternatives through the same question. */
#ifndef NN_TUNING_H
#define NN_TUNING_H

#include "ir/ir.h"

typedef enum nn_knob {
#define KNOB(code, name, is_percent, ...) NN_KNOB_##code,
#include "ir/knobs.def"
#undef KNOB
  NN_KNOB_COUNT
} nn_knob;

enum { NN_KNOB_VALUES = 8 };
typedef struct nn_knob_info {
  const char *name;
  bool is_percent;
  int64_t values[NN_KNOB_VALUES]; /* up to `count` */
  int count;
} nn_knob_info;
extern const nn_knob_info nn_knob_infos[NN_KNOB_COUNT];

/* One choice that was made: several ops of one description share it. */
typedef struct nn_choice {
  nn_knob knob;
  const char *key;                       /* op, types, attributes */
  int64_t fallback;                      /* by the cost model */
  int64_t candidates[NN_KNOB_VALUES];    /* other than the fallback */
  int ncandidates;
  const char **locs;                     /* nodes of the model */
  int nlocs, locs_cap;
} nn_choice;

typedef struct nn_tuning {
  nn_arena *arena;
  nn_map *entries;                       /* "knob key" -> nn_tuning_entry */
  struct nn_tuning_entry **list;         /* in order of the file */
  int count, cap;
  nn_choice **choices;                   /* asked so far */
  int nchoices, choices_cap;
  nn_map *asked;                         /* "knob key" -> nn_choice */
  int trial_knob, trial;                 /* this candidate of this knob everywhere; trial_knob -1: none */
} nn_tuning;

typedef struct nn_tuning_entry {
  nn_knob knob;
  const char *key;
  int64_t value;
  const char *note;                      /* for people, or NULL */
  bool is_used;
} nn_tuning_entry;

/* min, max: what is possible here. op is one of module m's, or a copy of one. */
int64_t nn_schedule(nn_module *m, const nn_op *op, nn_knob knob, int64_t fallback, int64_t min, int64_t max);

nn_tuning *nn_tuning_new(nn_arena *arena);            /* everything is in the arena */
void nn_tuning_set(nn_tuning *t, nn_knob knob, const char *key, int64_t value, const char *note);
int nn_tuning_used(const nn_tuning *t);               /* entries that an op had use for */
/* Text; `cpu` says for what machine. A file that is none, or for another machine: NULL and an error. */
nn_tuning *nn_tuning_read(const char *path, const char *cpu, nn_arena *arena, nn_diags *diags);
bool nn_tuning_write(const nn_tuning *t, const char *path, const char *cpu, const char *comment); /* errno tells */

#endif
