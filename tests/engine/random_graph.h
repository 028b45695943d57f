/* Random graphs for tests in which engines must agree: the same seed gives the same graph. */
#ifndef TEST_RANDOM_GRAPH_H
#define TEST_RANDOM_GRAPH_H

#include "ir/ir.h"

typedef struct random_source {
  uint64_t state;
} random_source;

static inline uint32_t random_next(random_source *r) { /* PCG, 64 -> 32 bits */
  uint64_t old = r->state;
  r->state = old * 6364136223846793005u + 1442695040888963407u;
  uint32_t x = (uint32_t)((old >> 18 ^ old) >> 27), rot = (uint32_t)(old >> 59);
  return x >> rot | x << (-rot & 31);
}
static inline int random_below(random_source *r, int n) { return n > 0 ? (int)(random_next(r) % (uint32_t)n) : 0; }

typedef struct random_options {
  int nops;
  bool symbolic; /* the first dimension of inputs is the symbol N */
  bool images;   /* inputs are images, and many ops are convolutions of many channels */
} random_options;

/* A module with a complete main graph. NULL never; errors are in its diagnostics (and are failures). */
nn_module *random_graph(uint64_t seed, const random_options *options);

#endif
