#include "onnx_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the wire format --------------------------------------------------------------------------- */

void pb_raw(pb *p, const void *bytes, size_t size) {
  if (p->size + size > p->cap) {
    p->cap = 2 * (p->size + size) + 64;
    p->data = realloc(p->data, p->cap);
    if (!p->data) abort();
  }
  if (size) memcpy(p->data + p->size, bytes, size);
  p->size += size;
}

void pb_varint(pb *p, uint64_t value) {
  do {
    uint8_t byte = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    pb_raw(p, &byte, 1);
  } while (value >>= 7);
}

static void tag(pb *p, int field, int wire) { pb_varint(p, (uint64_t)field << 3 | (unsigned)wire); }

void pb_int(pb *p, int field, int64_t value) {
  tag(p, field, 0);
  pb_varint(p, (uint64_t)value);
}

void pb_float(pb *p, int field, float value) {
  tag(p, field, 5);
  pb_raw(p, &value, sizeof value);
}

void pb_bytes(pb *p, int field, const void *bytes, size_t size) {
  tag(p, field, 2);
  pb_varint(p, size);
  pb_raw(p, bytes, size);
}

void pb_str(pb *p, int field, const char *text) { pb_bytes(p, field, text, strlen(text)); }

void pb_free(pb *p) {
  free(p->data);
  *p = (pb){0};
}

void pb_message(pb *p, int field, pb message) {
  pb_bytes(p, field, message.data, message.size);
  pb_free(&message);
}

/* ---- messages ---------------------------------------------------------------------------------- */

/* The next part of a list up to a separator, copied; false at the end. "-" is the empty list. */
static int next_part(const char **list, char separator, char *part, size_t cap) {
  if (!*list || !**list || strcmp(*list, "-") == 0) return 0;
  size_t length = 0;
  while ((*list)[length] && (*list)[length] != separator) length++;
  snprintf(part, cap, "%.*s", (int)length, *list);
  *list += length + ((*list)[length] == separator);
  return 1;
}

pb write_info(const char *name, int type, const char *dims) {
  pb shape = {0}, tensor = {0}, t = {0}, info = {0};
  char part[100];
  pb_int(&tensor, 1, type);
  for (const char *list = dims; next_part(&list, ',', part, sizeof part);) {
    pb dim = {0};
    char *end;
    long long value = strtoll(part, &end, 10);
    if (!*end)
      pb_int(&dim, 1, value);
    else if (strcmp(part, "?") != 0)
      pb_str(&dim, 2, part);
    pb_message(&shape, 1, dim);
  }
  if (dims) pb_message(&tensor, 2, shape);
  pb_message(&t, 1, tensor);
  pb_str(&info, 1, name);
  pb_message(&info, 2, t);
  return info;
}

pb write_tensor(const char *name, int type, const char *dims, const char *values) {
  pb t = {0};
  char part[100];
  for (const char *list = dims; next_part(&list, ',', part, sizeof part);) pb_int(&t, 1, strtoll(part, NULL, 10));
  pb_int(&t, 2, type);
  for (const char *list = values; next_part(&list, ' ', part, sizeof part);) {
    if (type == 1)
      pb_float(&t, 4, strtof(part, NULL));
    else
      pb_int(&t, type == 7 ? 7 : 5, strtoll(part, NULL, 10));
  }
  if (name) pb_str(&t, 8, name);
  return t;
}

static void write_entry(pb *tensor, const char *key, const char *value) {
  pb e = {0};
  pb_str(&e, 1, key);
  pb_str(&e, 2, value);
  pb_message(tensor, 13, e);
}

pb write_external(const char *name, int type, const char *dims, const char *location, const char *offset,
                  const char *length) {
  pb t = write_tensor(name, type, dims, NULL);
  write_entry(&t, "location", location);
  if (offset) write_entry(&t, "offset", offset);
  if (length) write_entry(&t, "length", length);
  pb_int(&t, 14, 1);
  return t;
}

pb write_attr(const char *text) {
  pb a = {0};
  char name[100], kind[10], part[100];
  const char *rest = text;
  next_part(&rest, '=', name, sizeof name);
  next_part(&rest, ':', kind, sizeof kind);
  pb_str(&a, 1, name);
  if (strcmp(kind, "i") == 0) pb_int(&a, 3, strtoll(rest, NULL, 10)), pb_int(&a, 20, 2);
  if (strcmp(kind, "f") == 0) pb_float(&a, 2, strtof(rest, NULL)), pb_int(&a, 20, 1);
  if (strcmp(kind, "s") == 0) pb_str(&a, 4, rest), pb_int(&a, 20, 3);
  if (strcmp(kind, "ref") == 0) pb_str(&a, 21, rest), pb_int(&a, 20, 2);
  if (strcmp(kind, "is") == 0) {
    while (next_part(&rest, ',', part, sizeof part)) pb_int(&a, 8, strtoll(part, NULL, 10));
    pb_int(&a, 20, 7);
  }
  if (strcmp(kind, "fs") == 0) {
    while (next_part(&rest, ',', part, sizeof part)) pb_float(&a, 7, strtof(part, NULL));
    pb_int(&a, 20, 6);
  }
  return a;
}

pb write_node(const char *op, const char *name, const char *in, const char *out, const char *attrs) {
  pb n = {0};
  char part[200];
  while (next_part(&in, ',', part, sizeof part)) pb_str(&n, 1, part);
  while (next_part(&out, ',', part, sizeof part)) pb_str(&n, 2, part);
  if (name && strcmp(name, "-") != 0) pb_str(&n, 3, name);
  const char *slash = strrchr(op, '/'); /* domain/Op */
  pb_str(&n, 4, slash ? slash + 1 : op);
  if (slash) pb_bytes(&n, 7, op, (size_t)(slash - op));
  while (next_part(&attrs, ' ', part, sizeof part)) pb_message(&n, 5, write_attr(part));
  return n;
}

/* ---- models from text -------------------------------------------------------------------------- */

static void write_line(pb *graph, const char *line) {
  char what[20], word[4][200];
  const char *rest = line;
  int type;
  if (!next_part(&rest, ' ', what, sizeof what)) return;
  for (int i = 0; i < 3; i++)
    if (!next_part(&rest, ' ', word[i], sizeof word[i])) strcpy(word[i], "-");
  type = (int)strtol(word[1], NULL, 10);
  if (strcmp(what, "in") == 0) pb_message(graph, 11, write_info(word[0], type, word[2]));
  if (strcmp(what, "out") == 0) pb_message(graph, 12, write_info(word[0], type, word[2]));
  if (strcmp(what, "info") == 0) pb_message(graph, 13, write_info(word[0], type, word[2]));
  if (strcmp(what, "init") == 0) pb_message(graph, 5, write_tensor(word[0], type, word[2], rest));
  if (strcmp(what, "external") == 0) pb_message(graph, 5, write_external(word[0], type, word[2], rest, NULL, NULL));
  if (strcmp(what, "node") == 0) {
    if (!next_part(&rest, ' ', word[3], sizeof word[3])) strcpy(word[3], "-");
    pb_message(graph, 1, write_node(word[0], word[1], word[2], word[3], rest));
  }
}

pb write_graph(const char *text) {
  pb graph = {0};
  char line[1000];
  pb_str(&graph, 2, "g");
  while (next_part(&text, '\n', line, sizeof line)) write_line(&graph, line);
  return graph;
}

pb write_model_of(pb graph, int opset) {
  pb model = {0}, import = {0};
  pb_int(&model, 1, 8);
  pb_message(&model, 7, graph);
  pb_str(&import, 1, "");
  pb_int(&import, 2, opset);
  pb_message(&model, 8, import);
  return model;
}

pb write_model(const char *text) {
  int opset = 13;
  if (sscanf(text, "opset %d", &opset) == 1) text = strchr(text, '\n') ? strchr(text, '\n') + 1 : "";
  return write_model_of(write_graph(text), opset);
}
