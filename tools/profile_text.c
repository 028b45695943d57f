/* A profile as a table, as JSON, and as a trace that chrome://tracing and Perfetto show. */
#include "tools/tools.h"

#include <cjson/cJSON.h>

/* ---- table ------------------------------------------------------------------------------------------------ */

static void print_machine(FILE *out, const machine *m) {
  fprintf(out, "machine    %10.1f GFLOP/s on %d thread%s; reads", m->gflops, m->threads, m->threads > 1 ? "s" : "");
  for (int i = 0; i < MACHINE_LEVELS; i++)
    if (m->levels[i].gb_per_s > 0) fprintf(out, " %s %.0f", m->levels[i].name, m->levels[i].gb_per_s);
  fputs(" GB/s\n", out);
}

static void print_step(FILE *out, const profile *p, const step_profile *s) {
  fprintf(out, "%4d %10.2f %6.2f %8.2f %8.2f %6.0f %5.0f  %s ", (int)(s - p->steps), s->us, 100 * step_share(p, s),
          step_gflops(s), step_gb_per_s(s), 100 * step_roof(s), 100 * s->busy, s->kernel);
  for (int i = 0; i < s->nodes.count; i++) fprintf(out, " %s", s->nodes.items[i].node);
  fputc('\n', out);
}

void profile_print(FILE *out, const profile *p) {
  double limit_us = 0;
  print_machine(out, &p->machine);
  fprintf(out, "%4s %10s %6s %8s %8s %6s %5s  %s\n", "step", "us", "%", "GFLOP/s", "GB/s", "roof %", "busy",
          "kernel  ONNX nodes");
  for (int i = 0; i < p->nsteps; i++) {
    print_step(out, p, p->order[i]);
    limit_us += p->steps[i].limit_us;
  }
  fprintf(out, "%4s %10.2f; the least for this machine: %.2f\n", "sum", p->us, limit_us);
}

/* ---- JSON ------------------------------------------------------------------------------------------------- */

static cJSON *nodes_json(const step_profile *s) {
  cJSON *array = cJSON_CreateArray();
  for (int i = 0; i < s->nodes.count; i++) cJSON_AddItemToArray(array, cJSON_CreateString(s->nodes.items[i].node));
  return array;
}

static cJSON *step_json(const profile *p, const step_profile *s) {
  cJSON *o = cJSON_CreateObject();
  cJSON_AddNumberToObject(o, "step", (double)(s - p->steps));
  cJSON_AddStringToObject(o, "kernel", s->kernel);
  cJSON_AddItemToObject(o, "nodes", nodes_json(s));
  cJSON_AddNumberToObject(o, "us", s->us);
  cJSON_AddNumberToObject(o, "share", step_share(p, s));
  cJSON_AddNumberToObject(o, "busy", s->busy);
  cJSON_AddNumberToObject(o, "flop", s->flops);
  cJSON_AddNumberToObject(o, "weight_bytes", s->weight_bytes);
  cJSON_AddNumberToObject(o, "value_bytes", s->value_bytes);
  cJSON_AddNumberToObject(o, "gflop_per_s", step_gflops(s));
  cJSON_AddNumberToObject(o, "gb_per_s", step_gb_per_s(s));
  cJSON_AddNumberToObject(o, "limit_us", s->limit_us);
  cJSON_AddNumberToObject(o, "roof", step_roof(s));
  return o;
}

static cJSON *machine_json(const machine *m) {
  cJSON *o = cJSON_CreateObject(), *levels = cJSON_AddArrayToObject(o, "reads");
  cJSON_AddNumberToObject(o, "gflop_per_s", m->gflops);
  for (int i = 0; i < MACHINE_LEVELS; i++) {
    if (m->levels[i].gb_per_s <= 0) continue;
    cJSON *level = cJSON_CreateObject();
    cJSON_AddStringToObject(level, "name", m->levels[i].name);
    cJSON_AddNumberToObject(level, "bytes", m->levels[i].bytes);
    cJSON_AddNumberToObject(level, "gb_per_s", m->levels[i].gb_per_s);
    cJSON_AddItemToArray(levels, level);
  }
  return o;
}

void profile_add_json(cJSON *root, const profile *p) {
  cJSON_AddItemToObject(root, "machine", machine_json(&p->machine));
  cJSON *steps = cJSON_AddArrayToObject(root, "steps");
  for (int i = 0; i < p->nsteps; i++) cJSON_AddItemToArray(steps, step_json(p, &p->steps[i]));
}

/* ---- trace ------------------------------------------------------------------------------------------------ */

static void add_event(cJSON *events, const profile *p, const step_profile *s, int thread, span when) {
  cJSON *event = cJSON_CreateObject(), *args;
  cJSON_AddStringToObject(event, "name", s->kernel);
  cJSON_AddStringToObject(event, "ph", "X");
  cJSON_AddNumberToObject(event, "ts", (double)(when.first - p->best.ends[0]) * 1e-3);
  cJSON_AddNumberToObject(event, "dur", (double)(when.last - when.first) * 1e-3);
  cJSON_AddNumberToObject(event, "pid", 1);
  cJSON_AddNumberToObject(event, "tid", thread);
  args = cJSON_AddObjectToObject(event, "args");
  cJSON_AddNumberToObject(args, "step", (double)(s - p->steps));
  cJSON_AddItemToObject(args, "nodes", nodes_json(s));
  cJSON_AddNumberToObject(args, "MFLOP", s->flops * 1e-6);
  cJSON_AddNumberToObject(args, "MB", (s->weight_bytes + s->value_bytes) * 1e-6);
  cJSON_AddItemToArray(events, event);
}

static void name_thread(cJSON *events, int thread, const char *name) {
  cJSON *event = cJSON_CreateObject();
  cJSON_AddStringToObject(event, "name", "thread_name");
  cJSON_AddStringToObject(event, "ph", "M");
  cJSON_AddNumberToObject(event, "pid", 1);
  cJSON_AddNumberToObject(event, "tid", thread);
  cJSON_AddStringToObject(cJSON_AddObjectToObject(event, "args"), "name", name);
  cJSON_AddItemToArray(events, event);
}

/* Track 0 has the steps, track w + 1 what worker w did of them. */
char *profile_trace(const profile *p) {
  cJSON *root = cJSON_CreateObject(), *events = cJSON_AddArrayToObject(root, "traceEvents");
  cJSON_AddStringToObject(root, "displayTimeUnit", "ns");
  name_thread(events, 0, "steps");
  for (int w = 0; w < p->threads && p->threads > 1; w++) {
    char name[32];
    snprintf(name, sizeof name, "worker %d", w);
    name_thread(events, w + 1, name);
  }
  for (int i = 0; i < p->nsteps; i++) {
    add_event(events, p, &p->steps[i], 0, (span){p->best.ends[i], p->best.ends[i + 1]});
    for (int w = 0; w < p->threads; w++) {
      span done = p->best.workers[i * p->threads + w];
      if (done.last > 0) add_event(events, p, &p->steps[i], w + 1, done);
    }
  }
  char *text = cJSON_Print(root);
  cJSON_Delete(root);
  return text;
}
