/* Classifies a 224x224 PPM image with the compiled network: links model.o, and nothing else but libc. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static unsigned char pixels[224 * 224 * 3];
static float image[3 * 224 * 224], probabilities[1000];

int main(int argc, char **argv) {
  FILE *f = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (!f || fscanf(f, "P6 224 224 255%*c") != 0 || fread(pixels, 1, sizeof pixels, f) != sizeof pixels) return fprintf(stderr, "usage: classify IMAGE.ppm (224x224)\n"), 2;
  static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};
  for (int c = 0; c < 3; c++)
    for (int i = 0; i < 224 * 224; i++) image[c * 224 * 224 + i] = ((float)pixels[3 * i + c] / 255 - mean[c]) / deviation[c];
  void *workspace = aligned_alloc(model_ALIGN, (model_WORKSPACE + model_WORKER_WORKSPACE + model_ALIGN - 1) / model_ALIGN * model_ALIGN);
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  int error = model_infer(image, probabilities, workspace);
  clock_gettime(CLOCK_MONOTONIC, &b);
  if (error) return fprintf(stderr, "error %d\n", error), 1;
  for (int rank = 0; rank < 5; rank++) {
    int best = 0;
    for (int i = 1; i < 1000; i++) best = probabilities[i] > probabilities[best] ? i : best;
    printf("class %3d  %.4f\n", best, (double)probabilities[best]);
    probabilities[best] = -1;
  }
  printf("%.2f ms, %zu bytes of workspace\n", (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6, (size_t)model_WORKSPACE + model_WORKER_WORKSPACE);
  return 0;
}
