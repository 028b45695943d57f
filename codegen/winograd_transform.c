/* The transforms of Winograd's convolution F(m x m, 3 x 3), m = 2 or 4, on named values.

     u = G w G^T     v = B^T d B     Y = A^T (sum over channels of u * v) A

   The matrices come from interpolation (Toom and Cook, transposed) at 0, pairs +-p, and infinity. With
   R(x^2) = product of (x^2 - p^2), and R_p without the factor of p, their rows are the coefficients of
     B^T:  0: R(x^2)       +-p: (x^2 +- p x) R_p(x^2)        infinity: x R(x^2)
     G:    0: (1,0,0)/R(0) +-p: (1,+-p,p^2)/(2 p^2 R_p(p^2)) infinity: (0,0,1)
     A:    powers 0..m-1 of the point; infinity: the last one only.
   Rows of +p and -p share their even and their odd part. {3/4, 3/2} has a third of the rounding error of the usual {1, 2}. */
#include "codegen/codegen.h"

enum { MOST_TERMS = 3 /* of R */ };

typedef struct points {
  int m, npairs;
  double pair[2];
} points;

static const points points_2 = {2, 1, {1}}, points_4 = {4, 2, {0.75, 1.5}};

static const points *points_of(int64_t m) { return m == 2 ? &points_2 : &points_4; }

/* ---- one dimension of the transforms ---------------------------------------------------------------------- */

/* Coefficients of R in x^2, without the factor of pair `skip`; the degree. The first coefficient is R(0), the last one 1. */
static int polynomial(const points *f, int skip, double *r) {
  int degree = 0;
  r[0] = 1;
  for (int i = 0; i < f->npairs; i++) {
    double square = f->pair[i] * f->pair[i];
    if (i == skip) continue;
    r[degree + 1] = r[degree];
    for (int j = degree; j > 0; j--) r[j] = r[j - 1] - square * r[j];
    r[0] *= -square;
    degree++;
  }
  return degree;
}

static nn_x *scaled_sum(nn_lower *L, double factor, nn_x *x, nn_x *sum) {
  nn_kernel *k = L->kernel;
  if (factor == 1) return nn_let(k, nn_x_binary(k, NN_X_ADD, sum, x));
  if (factor == -1) return nn_let(k, nn_x_binary(k, NN_X_SUB, sum, x));
  return nn_let(k, nn_x_fma(k, nn_x_const(k, x->dtype, factor), x, sum));
}

static nn_x *scaled(nn_lower *L, double factor, nn_x *x) {
  if (factor == 1) return x;
  return nn_let(L->kernel, nn_x_binary(L->kernel, NN_X_MUL, nn_x_const(L->kernel, x->dtype, factor), x));
}

/* R (without pair `skip`) applied to d[first], d[first + 2], ... */
static nn_x *apply(nn_lower *L, const points *f, int skip, nn_x *const *d, int first) {
  double r[MOST_TERMS];
  int degree = polynomial(f, skip, r);
  nn_x *sum = d[first + 2 * degree];
  for (int i = degree - 1; i >= 0; i--) sum = scaled_sum(L, r[i], d[first + 2 * i], sum);
  return sum;
}

/* B^T d */
static void input_line(nn_lower *L, const points *f, nn_x *const *d, nn_x **out) {
  out[0] = apply(L, f, -1, d, 0);
  for (int i = 0; i < f->npairs; i++) {
    nn_x *even = apply(L, f, i, d, 2), *odd = apply(L, f, i, d, 1);
    out[1 + 2 * i] = scaled_sum(L, f->pair[i], odd, even);
    out[2 + 2 * i] = scaled_sum(L, -f->pair[i], odd, even);
  }
  out[f->m + 1] = apply(L, f, -1, d, 1);
}

/* G g */
static void weight_line(nn_lower *L, const points *f, nn_x *const *g, nn_x **out) {
  double r[MOST_TERMS];
  polynomial(f, -1, r);
  out[0] = scaled(L, 1 / r[0], g[0]);
  for (int i = 0; i < f->npairs; i++) {
    double p = f->pair[i], square = p * p, value = 0;
    for (int j = polynomial(f, i, r); j >= 0; j--) value = value * square + r[j];
    double factor = 1 / (2 * square * value);
    nn_x *even = scaled_sum(L, square * factor, g[2], scaled(L, factor, g[0]));
    out[1 + 2 * i] = scaled_sum(L, p * factor, g[1], even);
    out[2 + 2 * i] = scaled_sum(L, -p * factor, g[1], even);
  }
  out[f->m + 1] = g[2];
}

/* A^T s */
static void output_line(nn_lower *L, const points *f, nn_x *const *s, nn_x **out) {
  nn_kernel *k = L->kernel;
  nn_x *part[2][2];
  double power[2] = {1, 1};
  for (int i = 0; i < f->npairs; i++) {
    part[0][i] = nn_let(k, nn_x_binary(k, NN_X_ADD, s[1 + 2 * i], s[2 + 2 * i]));
    part[1][i] = nn_let(k, nn_x_binary(k, NN_X_SUB, s[1 + 2 * i], s[2 + 2 * i]));
  }
  for (int j = 0; j < f->m; j++) {
    nn_x *sum = j == 0 ? s[0] : j == f->m - 1 ? s[f->m + 1] : NULL;
    for (int i = 0; i < f->npairs; i++) {
      nn_x *x = part[j % 2][i];
      sum = sum ? scaled_sum(L, power[i], x, sum) : scaled(L, power[i], x);
      power[i] *= f->pair[i];
    }
    out[j] = sum;
  }
}

typedef void line_fn(nn_lower *L, const points *f, nn_x *const *in, nn_x **out);

/* T x T^T for the matrix T of `line`, from n x n values to k x k, row-major. */
static void transform(nn_lower *L, const points *f, line_fn *line, int n, int k, nn_x *const *in, nn_x **out) {
  nn_x *half[NN_WINOGRAD_AREA], *column[NN_WINOGRAD_SIDE], *result[NN_WINOGRAD_SIDE];
  for (int j = 0; j < n; j++) {
    for (int i = 0; i < n; i++) column[i] = in[i * n + j];
    line(L, f, column, result);
    for (int i = 0; i < k; i++) half[i * n + j] = result[i];
  }
  for (int i = 0; i < k; i++) line(L, f, half + i * n, out + i * k);
}

void nn_winograd_weights(nn_lower *L, int64_t m, nn_x *const *w, nn_x **u) {
  transform(L, points_of(m), weight_line, 3, (int)m + 2, w, u);
}

void nn_winograd_input(nn_lower *L, int64_t m, nn_x *const *d, nn_x **v) {
  transform(L, points_of(m), input_line, (int)m + 2, (int)m + 2, d, v);
}

void nn_winograd_output(nn_lower *L, int64_t m, nn_x *const *s, nn_x **y) {
  transform(L, points_of(m), output_line, (int)m + 2, (int)m, s, y);
}
