/* The wire format of an ONNX file, walked before protobuf-c sees it.

   protobuf-c trusts nesting (its recursion overflows the stack on a file made for that) and copies every
   byte of every tensor. So the mapped file is walked first: varints, lengths and nesting depth are checked,
   and a small copy is made in which the bytes of each TensorProto.raw_data are replaced by their index in
   a table of {pointer, size}. Documentation strings and training graphs, which nothing reads, are left
   out. What the walk does not recurse into, protobuf-c does not either, or only to a fixed depth.

   Two walks: the first counts bytes and blobs, the second writes. In the copy the length of a message that
   may have shrunk is a varint padded to five bytes, so that it can be filled in afterwards. */
#include "frontend/onnx_import.h"

#include <string.h>

/* What to do with a length-delimited field: the kind of message to recurse into, or one of the last three. */
typedef enum rule {
  COPY = 0,
  MODEL,
  GRAPH,
  NODE,
  ATTRIBUTE,
  TENSOR,
  SPARSE,
  FUNCTION,
  VALUE_INFO,
  TYPE,
  TYPE_INSIDE,
  TYPE_MAP,
  NRULES,
  DROP = NRULES,
  BLOB
} rule;

enum { MAX_FIELD = 32 };

/* rules[message][field number], from onnx.proto; 11 and 12 of FUNCTION are newer than the installed schema. */
static const uint8_t rules[NRULES][MAX_FIELD] = {
    [MODEL] = {[6] = DROP, [7] = GRAPH, [20] = DROP, [25] = FUNCTION},
    [GRAPH] =
        {[1] = NODE, [5] = TENSOR, [10] = DROP, [11] = VALUE_INFO, [12] = VALUE_INFO, [13] = VALUE_INFO, [15] = SPARSE},
    [NODE] = {[5] = ATTRIBUTE, [6] = DROP},
    [ATTRIBUTE] = {[5] = TENSOR,
                   [6] = GRAPH,
                   [10] = TENSOR,
                   [11] = GRAPH,
                   [13] = DROP,
                   [14] = TYPE,
                   [15] = TYPE,
                   [22] = SPARSE,
                   [23] = SPARSE},
    [TENSOR] = {[9] = BLOB, [12] = DROP},
    [SPARSE] = {[1] = TENSOR, [2] = TENSOR},
    [FUNCTION] = {[7] = NODE, [8] = DROP, [11] = ATTRIBUTE, [12] = VALUE_INFO},
    [VALUE_INFO] = {[2] = TYPE, [3] = DROP},
    [TYPE] = {[4] = TYPE_INSIDE, [5] = TYPE_MAP, [9] = TYPE_INSIDE},
    [TYPE_INSIDE] = {[1] = TYPE},
    [TYPE_MAP] = {[2] = TYPE},
};

enum { LENGTH_BYTES = 5, MARK_BYTES = 8 };
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

typedef struct walker {
  nn_diags *diags;
  const uint8_t *start;
  uint8_t *out; /* NULL while counting */
  size_t nout;
  onnx_blob *blobs; /* NULL while counting */
  size_t nblobs;
} walker;

static nn_status fail_at(walker *w, const uint8_t *at, const char *what) {
  return nn_report(w->diags, NN_ERROR, NULL, NULL, "is the file complete, and an ONNX model?",
                   "not a valid ONNX (protobuf) file: at byte %zu %s", (size_t)(at - w->start), what);
}

/* Moves *at behind the varint. */
static nn_status read_varint(walker *w, const uint8_t **at, const uint8_t *end, uint64_t *value) {
  const uint8_t *p = *at;
  uint64_t v = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (p == end) return fail_at(w, *at, "a number runs past the end of its message");
    uint8_t byte = *p++;
    if (shift < 64) v |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) {
      *at = p;
      *value = v;
      return NN_OK;
    }
  }
  return fail_at(w, *at, "a number has more than 10 bytes");
}

static void put(walker *w, const uint8_t *bytes, size_t size_bytes) {
  if (w->out) memcpy(w->out + w->nout, bytes, size_bytes);
  w->nout += size_bytes;
}

/* The padded varint of a message length, and the 8 bytes of a mark, at a given place. */
static void set_length(walker *w, size_t place, size_t length) {
  if (!w->out) return;
  for (int i = 0; i < LENGTH_BYTES; i++)
    w->out[place + (size_t)i] = (uint8_t)((length >> (7 * i) & 0x7f) | (i < LENGTH_BYTES - 1 ? 0x80 : 0));
}

static void put_blob(walker *w, const uint8_t *data, size_t size_bytes) {
  uint8_t field[1 + MARK_BYTES] = {MARK_BYTES};
  for (int i = 0; i < MARK_BYTES; i++) field[1 + i] = (uint8_t)((uint64_t)w->nblobs >> (8 * i));
  put(w, field, sizeof field);
  if (w->blobs) w->blobs[w->nblobs] = (onnx_blob){data, size_bytes};
  w->nblobs++;
}

static nn_status walk(walker *w, rule message, const uint8_t *at, const uint8_t *end, int depth);

/* A length-delimited field; tag .. at is its tag, which is copied if the field is kept. */
static nn_status walk_bytes(walker *w, rule what, const uint8_t *tag, const uint8_t **at, const uint8_t *end,
                            int depth) {
  const uint8_t *length_at = *at;
  uint64_t length;
  NN_TRY(read_varint(w, at, end, &length));
  if (length > (uint64_t)(end - *at))
    return fail_at(w, length_at, "a field is longer than what is left of its message");
  const uint8_t *data = *at;
  *at += length;
  if (what == DROP) return NN_OK;
  put(w, tag, (size_t)(length_at - tag));
  if (what == BLOB) {
    put_blob(w, data, (size_t)length);
    return NN_OK;
  }
  if (what == COPY) {
    put(w, length_at, (size_t)(*at - length_at));
    return NN_OK;
  }
  if (depth >= ONNX_MAX_NESTING) return fail_at(w, tag, "messages are nested deeper than 64");
  size_t place = w->nout;
  w->nout += LENGTH_BYTES;
  NN_TRY(walk(w, what, data, data + length, depth + 1));
  set_length(w, place, w->nout - place - LENGTH_BYTES);
  return NN_OK;
}

static nn_status skip_fixed(walker *w, const uint8_t **at, const uint8_t *end, size_t size_bytes) {
  if ((size_t)(end - *at) < size_bytes) return fail_at(w, *at, "a number runs past the end of its message");
  *at += size_bytes;
  return NN_OK;
}

static nn_status walk_field(walker *w, rule message, const uint8_t **at, const uint8_t *end, int depth) {
  const uint8_t *tag_at = *at;
  uint64_t tag, value;
  NN_TRY(read_varint(w, at, end, &tag));
  uint64_t field = tag >> 3;
  if (field == 0 || field >= 1u << 29) return fail_at(w, tag_at, "a field has an impossible number");
  switch (tag & 7) {
  case WIRE_BYTES: return walk_bytes(w, field < MAX_FIELD ? (rule)rules[message][field] : COPY, tag_at, at, end, depth);
  case WIRE_VARINT: NN_TRY(read_varint(w, at, end, &value)); break;
  case WIRE_FIXED64: NN_TRY(skip_fixed(w, at, end, 8)); break;
  case WIRE_FIXED32: NN_TRY(skip_fixed(w, at, end, 4)); break;
  default: return fail_at(w, tag_at, "a field has an impossible type");
  }
  put(w, tag_at, (size_t)(*at - tag_at));
  return NN_OK;
}

static nn_status walk(walker *w, rule message, const uint8_t *at, const uint8_t *end, int depth) {
  while (at < end) NN_TRY(walk_field(w, message, &at, end, depth));
  return NN_OK;
}

nn_status onnx_skim_bytes(nn_arena *arena, nn_diags *diags, onnx_root root, const uint8_t *bytes, size_t size_bytes,
                          onnx_skim *out) {
  rule message = root == ONNX_ROOT_MODEL ? MODEL : TENSOR;
  walker w = {.diags = diags, .start = bytes};
  NN_TRY(walk(&w, message, bytes, bytes + size_bytes, 1));
  if (w.nout > UINT32_MAX) /* what protobuf-c and a 5-byte length can hold */
    return nn_report(diags, NN_ERROR, NULL, NULL, "move weights to raw_data or external data",
                     "the model has %zu bytes besides raw tensor data, at most 4 GiB are possible", w.nout);
  w.out = nn_alloc(arena, w.nout + 1);
  w.blobs = NN_NEW_ARRAY(arena, onnx_blob, w.nblobs + 1);
  *out = (onnx_skim){.bytes = w.out, .blobs = w.blobs};
  w.nout = w.nblobs = 0;
  NN_TRY(walk(&w, message, bytes, bytes + size_bytes, 1));
  out->size_bytes = w.nout;
  out->nblobs = w.nblobs;
  return NN_OK;
}

/* protobuf-c's memory is the scratch arena, with a limit: a two-byte empty message becomes a struct of 100
   bytes, so a hostile file could otherwise ask for far more memory than its own size suggests. */
typedef struct budget {
  nn_arena *arena;
  size_t left_bytes;
} budget;

static void *take(void *data, size_t size_bytes) {
  budget *b = data;
  if (size_bytes > b->left_bytes) return NULL;
  b->left_bytes -= size_bytes;
  return nn_alloc(b->arena, size_bytes);
}

static void give_nothing_back(void *data, void *memory) {
  (void)data;
  (void)memory;
}

ProtobufCMessage *onnx_unpack(nn_arena *arena, nn_diags *diags, const ProtobufCMessageDescriptor *type,
                              const uint8_t *bytes, size_t size_bytes) {
  budget b = {arena, ((size_t)64 << 20) + 32 * size_bytes};
  ProtobufCAllocator allocator = {take, give_nothing_back, &b};
  ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, size_bytes, bytes);
  if (!message)
    nn_report(diags, NN_ERROR, NULL, NULL, "is the file complete, and an ONNX model?",
              "not a valid ONNX file: its fields do not fit the schema of %s", type->short_name);
  return message;
}

const uint8_t *onnx_unknown_field(const ProtobufCMessage *message, unsigned tag, int k, size_t *size_bytes) {
  for (size_t i = 0; i < message->n_unknown_fields; i++) {
    const ProtobufCMessageUnknownField *f = &message->unknown_fields[i];
    if (f->tag != tag || f->wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED || k-- > 0) continue;
    size_t prefix = 0; /* the data starts with the length's varint */
    while (prefix < f->len && f->data[prefix] & 0x80) prefix++;
    prefix++;
    if (prefix > f->len) return NULL;
    *size_bytes = f->len - prefix;
    return f->data + prefix;
  }
  return NULL;
}
