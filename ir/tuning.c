/* Schedule choices by op (ir/tuning.h), and their file:

     nncc tuning 1
     cpu znver4 x86_64-pc-linux-gnu
     # 1.23 ms, by default (4) 1.50 ms
     conv.tile 2 conv f32[1,64,56,56], f32[64,64,3,3] {pads=[1,1,1,1]} -> f32[1,64,56,56]

   Lines that begin with # are for people. The key is the op as text without names, so a file serves every model that has such ops. */
#include "ir/tuning.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VERSION = 1, LONGEST_LINE = 4096, KEY_ROOM = 64 /* of a line, for knob and number */ };

#define COUNT_OF(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
const nn_knob_info nn_knob_infos[NN_KNOB_COUNT] = {
#define KNOB(code, name, is_percent, ...) {name, is_percent, {__VA_ARGS__}, COUNT_OF(__VA_ARGS__)},
#include "ir/knobs.def"
#undef KNOB
};

/* ---- keys ----------------------------------------------------------------------------------------- */

static const char *attr_text(nn_arena *arena, const nn_attr *a) {
  const char *text = "";
  if (a->kind == NN_ATTR_INT || a->kind == NN_ATTR_DTYPE) return nn_sprintf(arena, "%" PRId64, a->i);
  if (a->kind == NN_ATTR_STR) return a->s;
  if (a->kind != NN_ATTR_INTS && a->kind != NN_ATTR_DIMS) return NULL; /* of no op that has a schedule */
  for (int i = 0; i < a->count; i++) {
    const char *item = a->kind == NN_ATTR_INTS ? nn_sprintf(arena, "%" PRId64, a->ints[i]) : nn_dim_text(arena, a->dims[i]);
    text = nn_sprintf(arena, "%s%s%s", text, i ? "," : "", item);
  }
  return nn_sprintf(arena, "[%s]", text);
}

static const char *key_of(nn_arena *arena, const nn_op *op) {
  const nn_op_info *info = &nn_op_infos[op->code];
  const char *text = info->text, *open = " {";
  for (int i = 0; i < op->nin; i++)
    text = nn_sprintf(arena, "%s%s %s", text, i ? "," : "", op->in[i] ? nn_type_text(arena, op->in[i]->type) : "_");
  for (int i = 0; i < info->nattrs; i++) {
    const char *value = op->attrs[i].is_set ? attr_text(arena, &op->attrs[i]) : NULL;
    if (!value) continue;
    text = nn_sprintf(arena, "%s%s%s=%s", text, open, info->attrs[i].name, value);
    open = ", ";
  }
  return nn_sprintf(arena, "%s%s -> %s", text, *open == ',' ? "}" : "", nn_type_text(arena, op->out[0]->type));
}

static const char *name_of(nn_arena *arena, nn_knob knob, const char *key) {
  return nn_sprintf(arena, "%s %s", nn_knob_infos[knob].name, key);
}

/* ---- choices ------------------------------------------------------------------------------------------ */

static void add_candidates(nn_choice *c, int64_t min, int64_t max) {
  const nn_knob_info *info = &nn_knob_infos[c->knob];
  for (int i = 0; i < info->count; i++) {
    int64_t value = info->is_percent ? c->fallback * info->values[i] / 100 : info->values[i];
    bool is_new = value != c->fallback && value >= min && value <= max;
    for (int j = 0; j < c->ncandidates; j++) is_new &= c->candidates[j] != value;
    if (is_new) c->candidates[c->ncandidates++] = value;
  }
}

static void add_loc(nn_tuning *t, nn_choice *c, const char *loc) {
  for (int i = 0; i < c->nlocs; i++)
    if (strcmp(c->locs[i], loc) == 0) return;
  const char *copy = nn_sprintf(t->arena, "%s", loc);
  NN_PUSH(t->arena, c->locs, c->nlocs, c->locs_cap, copy);
}

static nn_choice *choice_of(nn_tuning *t, const nn_choice *asked, const char *name, int64_t min, int64_t max) {
  nn_choice *c = nn_map_get(t->asked, name);
  if (c) return c;
  c = NN_NEW(t->arena, nn_choice);
  *c = *asked;
  add_candidates(c, min, max);
  nn_map_put(t->asked, name, c);
  NN_PUSH(t->arena, t->choices, t->nchoices, t->choices_cap, c);
  return c;
}

int64_t nn_schedule(nn_module *m, const nn_op *op, nn_knob knob, int64_t fallback, int64_t min, int64_t max) {
  nn_tuning *t = m->tuning;
  if (!t) return fallback;
  const char *key = key_of(t->arena, op), *name = name_of(t->arena, knob, key);
  nn_choice *c = choice_of(t, &(nn_choice){.knob = knob, .key = key, .fallback = fallback}, name, min, max);
  if (op->loc) add_loc(t, c, op->loc);
  nn_tuning_entry *e = nn_map_get(t->entries, name);
  if (t->trial_knob == (int)knob && t->trial < c->ncandidates) return c->candidates[t->trial];
  if (!e || e->value < min || e->value > max) return fallback;
  e->is_used = true;
  return e->value;
}

/* ---- entries -------------------------------------------------------------------------------------------- */

nn_tuning *nn_tuning_new(nn_arena *arena) {
  nn_tuning *t = NN_NEW(arena, nn_tuning);
  t->arena = arena;
  t->entries = nn_map_new(arena);
  t->asked = nn_map_new(arena);
  t->trial_knob = -1;
  return t;
}

void nn_tuning_set(nn_tuning *t, nn_knob knob, const char *key, int64_t value, const char *note) {
  const char *name = name_of(t->arena, knob, key);
  nn_tuning_entry *e = nn_map_get(t->entries, name);
  if (!e) {
    e = NN_NEW(t->arena, nn_tuning_entry);
    nn_map_put(t->entries, name, e);
    NN_PUSH(t->arena, t->list, t->count, t->cap, e);
  }
  *e = (nn_tuning_entry){knob, nn_sprintf(t->arena, "%s", key), value, note ? nn_sprintf(t->arena, "%s", note) : NULL, false};
}

int nn_tuning_used(const nn_tuning *t) {
  int used = 0;
  for (int i = 0; i < t->count; i++) used += t->list[i]->is_used;
  return used;
}

/* ---- the file ---------------------------------------------------------------------------------------------- */

static void put_entries(FILE *f, const nn_tuning *t) {
  for (int i = 0; i < t->count; i++) {
    const nn_tuning_entry *e = t->list[i];
    if (strlen(e->key) + KEY_ROOM > LONGEST_LINE) continue; /* a reader would refuse it */
    if (e->note) fprintf(f, "# %s\n", e->note);
    fprintf(f, "%s %" PRId64 " %s\n", nn_knob_infos[e->knob].name, e->value, e->key);
  }
}

/* Through a temporary file: where writing fails, what was there stays. */
bool nn_tuning_write(const nn_tuning *t, const char *path, const char *cpu, const char *comment) {
  const char *temporary = nn_sprintf(t->arena, "%s.%ld.tmp", path, (long)getpid());
  FILE *f = fopen(temporary, "w");
  if (!f) return false;
  fprintf(f, "nncc tuning %d\ncpu %s\n# %s\n", VERSION, cpu, comment);
  put_entries(f, t);
  bool ok = !ferror(f);
  if (fclose(f) == 0 && ok && rename(temporary, path) == 0) return true;
  int reason = errno;
  remove(temporary);
  errno = reason;
  return false;
}

static nn_status fail_line(const char *path, int line, nn_diags *diags, const char *what) {
  return nn_report(diags, NN_ERROR, NULL, NULL, "nncc tune makes such files", "%s:%d: %s", path, line, what);
}

static bool find_knob(const char *name, size_t length, nn_knob *knob) {
  for (int i = 0; i < NN_KNOB_COUNT; i++)
    if (strlen(nn_knob_infos[i].name) == length && strncmp(nn_knob_infos[i].name, name, length) == 0) {
      *knob = (nn_knob)i;
      return true;
    }
  return false;
}

static nn_status read_entry(nn_tuning *t, char *text, const char *path, int line, nn_diags *diags) {
  nn_knob knob;
  size_t length = strcspn(text, " ");
  char *end = text;
  errno = 0;
  int64_t value = text[length] ? strtoll(text + length + 1, &end, 10) : 0;
  if (errno || end == text || *end != ' ' || !end[1]) return fail_line(path, line, diags, "expected: KNOB NUMBER OP");
  if (!find_knob(text, length, &knob)) return fail_line(path, line, diags, "no such knob");
  nn_tuning_set(t, knob, end + 1, value, NULL);
  return NN_OK;
}

static nn_status read_line(nn_tuning *t, char *text, const char *path, int line, const char *cpu, nn_diags *diags) {
  int version = 0;
  if (line == 1) {
    if (sscanf(text, "nncc tuning %d", &version) != 1) return fail_line(path, line, diags, "this is no tuning file: it does not begin with 'nncc tuning'");
    if (version != VERSION) return fail_line(path, line, diags, nn_sprintf(t->arena, "a tuning file of version %d, expected %d", version, VERSION));
    return NN_OK;
  }
  if (line == 2) {
    if (strncmp(text, "cpu ", 4) != 0) return fail_line(path, line, diags, "expected: cpu NAME TRIPLE");
    if (strcmp(text + 4, cpu) == 0) return NN_OK;
    return nn_report(diags, NN_ERROR, NULL, NULL, "measure on that machine, with nncc tune", "%s: measured on '%s', the code is for '%s'", path, text + 4, cpu);
  }
  return *text == 0 || *text == '#' ? NN_OK : read_entry(t, text, path, line, diags);
}

nn_tuning *nn_tuning_read(const char *path, const char *cpu, nn_arena *arena, nn_diags *diags) {
  nn_tuning *t = nn_tuning_new(arena);
  char text[LONGEST_LINE];
  FILE *f = fopen(path, "r");
  if (!f) {
    nn_report(diags, NN_ERROR, NULL, NULL, NULL, "cannot read the tuning file '%s': %s", path, strerror(errno));
    return NULL;
  }
  nn_status status = NN_OK;
  int line = 0;
  while (status == NN_OK && fgets(text, sizeof text, f)) {
    size_t length = strcspn(text, "\n");
    line++;
    if (!text[length] && !feof(f)) {
      status = fail_line(path, line, diags, "the line is too long");
      break;
    }
    text[length] = 0;
    status = read_line(t, text, path, line, cpu, diags);
  }
  if (status == NN_OK && line < 2) status = fail_line(path, line, diags, "the file ends too early");
  fclose(f);
  return status == NN_OK ? t : NULL;
}
