/* Resize against the definition in the ONNX specification, one output element at a time, in double. */
#include "tests/codegen/run_case.h"

typedef struct resize_case {
  const char *mode, *coords, *nearest;
  bool exclude_outside, antialias;
  int h, w, oh, ow;
  double sh, sw; /* scales; 0: the ratio of sizes */
  double roi[4]; /* starts, ends */
} resize_case;

/* ---- the definition ------------------------------------------------------------------------------ */

static double coordinate_of(const resize_case *c, int x, int in, int out, double scale, double start, double end) {
  double length = scale * in;
  if (strcmp(c->coords, "align_corners") == 0) return length == 1 ? 0 : x * (in - 1) / (length - 1);
  if (strcmp(c->coords, "asymmetric") == 0) return x / scale;
  if (strcmp(c->coords, "tf_half_pixel_for_nn") == 0) return (x + 0.5) / scale;
  if (strcmp(c->coords, "pytorch_half_pixel") == 0) return out > 1 ? (x + 0.5) / scale - 0.5 : 0;
  if (strcmp(c->coords, "half_pixel_symmetric") == 0) return in / 2.0 * (1 - out / length) + (x + 0.5) / scale - 0.5;
  if (strcmp(c->coords, "tf_crop_and_resize") == 0)
    return start * (in - 1) +
           (length == 1 ? (end - start) * (in - 1) / 2 : x * (end - start) * (in - 1) / (length - 1));
  return (x + 0.5) / scale - 0.5;
}

static double cubic_at(double d) {
  double a = -0.75;
  d = fabs(d);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

static double nearest_index(const char *rounding, double x) {
  if (strcmp(rounding, "floor") == 0) return floor(x);
  if (strcmp(rounding, "ceil") == 0) return ceil(x);
  return strcmp(rounding, "round_prefer_ceil") == 0 ? floor(x + 0.5) : ceil(x - 0.5);
}

/* weights[i] of operand element i along one dimension. */
static void weights_of(const resize_case *c, double x, int in, double scale, double *weights) {
  double s = c->antialias && scale < 1 ? scale : 1, sum = 0;
  bool is_linear = c->mode[0] == 'l';
  for (int i = 0; i < in; i++) weights[i] = 0;
  if (c->mode[0] == 'n') {
    double i = nearest_index(c->nearest, x);
    weights[i < 0 ? 0 : i > in - 1 ? in - 1 : (int)i] = 1;
    return;
  }
  for (int i = (int)floor(x) - 40; i < (int)floor(x) + 40; i++) {
    double d = (i - x) * s, w = is_linear ? (fabs(d) < 1 ? 1 - fabs(d) : 0) : cubic_at(d);
    bool outside = i < 0 || i >= in;
    if (outside && c->exclude_outside) continue;
    weights[i < 0 ? 0 : i >= in ? in - 1 : i] += w;
    sum += w;
  }
  for (int i = 0; i < in; i++) weights[i] /= sum;
}

static double element_of(const resize_case *c, const float *x, int oy, int ox) {
  double wy[64], wx[64], sum = 0, sh = c->sh > 0 ? c->sh : (double)c->oh / c->h,
                         sw = c->sw > 0 ? c->sw : (double)c->ow / c->w;
  double y = coordinate_of(c, oy, c->h, c->oh, (float)sh, c->roi[0], c->roi[2]),
         z = coordinate_of(c, ox, c->w, c->ow, (float)sw, c->roi[1], c->roi[3]);
  bool crops = strcmp(c->coords, "tf_crop_and_resize") == 0;
  if (crops && (y < 0 || y > c->h - 1 || z < 0 || z > c->w - 1)) return 10;
  weights_of(c, y, c->h, sh, wy);
  weights_of(c, z, c->w, sw, wx);
  for (int i = 0; i < c->h; i++)
    for (int k = 0; k < c->w; k++) sum += wy[i] * wx[k] * x[i * c->w + k];
  return sum;
}

/* ---- cases --------------------------------------------------------------------------------------- */

static void try_resize(const resize_case *r) {
  char text[1024], scales[64] = "", roi[96] = "";
  if (r->sh > 0) case_text(scales, sizeof scales, ", scales=[1.0, %.9g, %.9g]", r->sh, r->sw);
  if (r->roi[2] > 0)
    case_text(roi, sizeof roi, ", roi=[0.0, %g, %g, 1.0, %g, %g]", r->roi[0], r->roi[1], r->roi[2], r->roi[3]);
  case_text(text, sizeof text,
            "nncc 1\ngraph @main(%%x: f32[2,%d,%d]) -> (f32[2,%d,%d]) {\n  %%0 = resize %%x {dims=[2,%d,%d]%s%s, "
            "mode=\"%s\", coords=\"%s\", nearest=\"%s\", "
            "exclude_outside=%d, antialias=%d, extrapolation=10.0} : f32[2,%d,%d]\n  return %%0\n}\n",
            r->h, r->w, r->oh, r->ow, r->oh, r->ow, scales, roi, r->mode, r->coords,
            r->nearest ? r->nearest : "round_prefer_floor", r->exclude_outside, r->antialias, r->oh, r->ow);
  run_case c = case_open(text, false, 1);
  float *x = c.in[0].data;
  int size = r->h * r->w;
  for (int i = 0; i < 2 * size; i++) x[i] = (float)((i * 37 + i * i % 11) % 29) / 4;
  case_run(&c);
  cr_assert_eq(c.code, 0);
  resize_case named = *r;
  if (!named.nearest) named.nearest = "round_prefer_floor";
  for (int k = 0; k < 2 * r->oh * r->ow; k++) {
    int n = k / (r->oh * r->ow), y = k / r->ow % r->oh, z = k % r->ow;
    double wanted = element_of(&named, x + n * size, y, z), got = case_out(&c, 0, k);
    cr_assert(fabs(wanted - got) <= 1e-3 * (1 + fabs(wanted)), "%s %s %dx%d -> %dx%d at %d,%d: %g, expected %g",
              r->mode, r->coords, r->h, r->w, r->oh, r->ow, y, z, got, wanted);
  }
  case_close(&c);
}

static void try_sizes(resize_case r) {
  static const int sizes[][4] = {{4, 4, 8, 8}, {5, 7, 3, 9}, {6, 10, 4, 5}, {3, 3, 3, 12}, {8, 8, 5, 3}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    r.h = sizes[i][0], r.w = sizes[i][1], r.oh = sizes[i][2], r.ow = sizes[i][3];
    try_resize(&r);
  }
}

/* Sizes at which no coordinate falls on a tie in double that f32 may round to the other side. */
Test(lower_resize, nearest) {
  static const char *const coords[] = {"half_pixel", "asymmetric", "tf_half_pixel_for_nn", "pytorch_half_pixel"};
  static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 4; k++) {
      resize_case r = {
          .mode = "nearest", .coords = coords[i], .nearest = roundings[k], .h = 4, .w = 2, .oh = 8, .ow = 8};
      try_resize(&r);
      r.h = 8, r.w = 4, r.oh = 4, r.ow = 2;
      try_resize(&r);
    }
}

Test(lower_resize, linear) {
  static const char *const coords[] = {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel",
                                       "half_pixel_symmetric"};
  for (int i = 0; i < 5; i++) try_sizes((resize_case){.mode = "linear", .coords = coords[i]});
}

Test(lower_resize, cubic) {
  static const char *const coords[] = {"half_pixel", "asymmetric", "align_corners"};
  for (int i = 0; i < 3; i++)
    for (int excludes = 0; excludes < 2; excludes++)
      try_sizes((resize_case){.mode = "cubic", .coords = coords[i], .exclude_outside = excludes != 0});
}

Test(lower_resize, antialias) {
  try_sizes((resize_case){.mode = "linear", .coords = "half_pixel", .antialias = true});
  try_sizes((resize_case){.mode = "cubic", .coords = "half_pixel", .antialias = true});
  try_sizes((resize_case){.mode = "cubic", .coords = "align_corners", .antialias = true, .exclude_outside = true});
}

Test(lower_resize, scales_that_are_no_ratio_of_sizes) {
  resize_case r = {
      .mode = "linear", .coords = "half_pixel_symmetric", .h = 4, .w = 5, .oh = 2, .ow = 7, .sh = 0.6, .sw = 1.43};
  try_resize(&r);
  r.coords = "align_corners";
  try_resize(&r);
}

Test(lower_resize, crop_and_resize) {
  resize_case r = {
      .mode = "linear", .coords = "tf_crop_and_resize", .h = 4, .w = 4, .oh = 3, .ow = 3, .roi = {0.4, 0.6, 0.6, 0.8}};
  try_resize(&r);
  resize_case outside = {
      .mode = "linear", .coords = "tf_crop_and_resize", .h = 4, .w = 4, .oh = 3, .ow = 3, .roi = {0.4, 0.6, 1.2, 1.7}};
  try_resize(&outside);
}

/* Scales that are known only at run time. */
Test(lower_resize, scales_operand) {
  run_case c = case_open("nncc 1\ngraph @main(%x: f32[2,3], %s: f32[2]) -> (f32[4,6]) {\n"
                         "  %0 = resize %x, %s {dims=[4,6], mode=\"nearest\", coords=\"asymmetric\", "
                         "nearest=\"floor\"} : f32[4,6]\n  return %0\n}\n",
                         false, 1);
  float *s = c.in[1].data;
  s[0] = s[1] = 2;
  case_run(&c);
  cr_assert_eq(c.code, 0);
  for (int k = 0; k < 24; k++) cr_assert_eq(case_out(&c, 0, k), k / 6 / 2 * 3 + k % 6 / 2);
  case_close(&c);
}
