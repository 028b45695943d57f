/* What the math_*.c files share: short names for expressions of one float type (f32 or f64), and the
   building blocks that several functions use. Elementary functions are branch-free, so that they
   vectorise: special cases are selects. A clamp is written select(x < lo, lo, x), which keeps NaN and is
   one instruction on most machines.

   Bounds hold whether nn_x_fma is fused or not: products that must be exact have few enough bits. */
#ifndef NN_CODEGEN_MATH_H
#define NN_CODEGEN_MATH_H

#include "codegen/codegen.h"

/* One float type: where expressions go and what the type is like. */
typedef struct nn_mx {
  nn_kernel *k;
  nn_dtype t, ti;        /* the float type and the integer of its width */
  bool is_near;          /* approximations will do: --fp fast, f32 */
  bool is_fused;         /* the target has a fused multiply-add, and nn_x_fma is it */
  bool has_lookup;       /* the target has lookups in tables of 32 */
  bool has_f64;          /* f64 is hardware arithmetic: f32 functions may use it */
  int mantissa, bias;    /* stored bits, exponent offset */
  double magic;          /* 1.5 * 2^mantissa: adding it leaves the nearest integer in the low bits */
  int64_t magic_bits;
} nn_mx;

nn_mx nn_mx_of(nn_kernel *k, nn_dtype t); /* f32 or f64; has_f64 */
bool nn_mx_is_f64(const nn_mx *m);

nn_x *nn_mx_c(const nn_mx *m, double value);
nn_x *nn_mx_let(const nn_mx *m, nn_x *x);
nn_x *nn_mx_add(const nn_mx *m, nn_x *a, nn_x *b);
nn_x *nn_mx_sub(const nn_mx *m, nn_x *a, nn_x *b);
nn_x *nn_mx_mul(const nn_mx *m, nn_x *a, nn_x *b);
nn_x *nn_mx_div(const nn_mx *m, nn_x *a, nn_x *b);
nn_x *nn_mx_mulc(const nn_mx *m, nn_x *a, double b);
nn_x *nn_mx_addc(const nn_mx *m, nn_x *a, double b);
nn_x *nn_mx_fma(const nn_mx *m, nn_x *a, nn_x *b, nn_x *c);
nn_x *nn_mx_fmac(const nn_mx *m, nn_x *a, double b, nn_x *c); /* a*b + c, b a number */
nn_x *nn_mx_neg(const nn_mx *m, nn_x *a);
nn_x *nn_mx_abs(const nn_mx *m, nn_x *a);
nn_x *nn_mx_sqrt(const nn_mx *m, nn_x *a);
nn_x *nn_mx_round(const nn_mx *m, nn_x *a);
nn_x *nn_mx_lt(const nn_mx *m, nn_x *a, nn_x *b);
nn_x *nn_mx_ltc(const nn_mx *m, nn_x *a, double b);           /* a < b */
nn_x *nn_mx_gtc(const nn_mx *m, nn_x *a, double b);           /* b < a */
nn_x *nn_mx_eqc(const nn_mx *m, nn_x *a, double b);
nn_x *nn_mx_select(const nn_mx *m, nn_x *cond, nn_x *yes, nn_x *no);
nn_x *nn_mx_clamp(const nn_mx *m, nn_x *x, double lo, double hi); /* NaN stays */
nn_x *nn_mx_copysign(const nn_mx *m, nn_x *size, nn_x *sign);     /* size >= 0 or NaN */
/* c[0] + c[1]*x + ...; x is bound. */
nn_x *nn_mx_poly(const nn_mx *m, nn_x *x, const double *c, int count);
#define NN_MX_POLY(m, x, table) nn_mx_poly((m), (x), (table), (int)(sizeof(table) / sizeof *(table)))
nn_x *nn_mx_bits(const nn_mx *m, nn_x *a);                     /* as integer */
nn_x *nn_mx_float(const nn_mx *m, nn_x *bits);
nn_x *nn_mx_int(const nn_mx *m, int64_t value);
nn_x *nn_mx_iop(const nn_mx *m, nn_xop op, nn_x *a, int64_t b); /* integer operation with a number */
nn_x *nn_mx_lookup(const nn_mx *m, const char *name, const int32_t *values, int count, nn_x *index); /* an i32 of a table, by i32 */
nn_x *nn_mx_wide(const nn_mx *m, nn_x *a);                     /* i32, taken without sign, as u64: products of two are exact and cheap */
nn_x *nn_mx_pow2(const nn_mx *m, nn_x *n);                     /* 2^n, n an integer expression in the normal range */
nn_x *nn_mx_from_int(const nn_mx *m, nn_x *n);                 /* a small integer as float, without a conversion */

/* math_exp.c */
nn_x *nn_mx_exp(const nn_mx *m, nn_x *x);                      /* all values, subnormal results too */
nn_x *nn_mx_exp_fast(const nn_mx *m, nn_x *x);                 /* x >= -87 (f64: -708): scaled in one step; above, infinity a little early */
nn_x *nn_mx_exp_part(const nn_mx *m, nn_x *r);                 /* exp(r) - 1 for |r| <= ln2/2; r bound */
nn_x *nn_mx_expm1_scaled(const nn_mx *m, nn_x *x, int shift);  /* expm1(x) * 2^-shift; x bound and not above its overflow */
nn_x *nn_mx_expm1(const nn_mx *m, nn_x *x);
nn_x *nn_mx_sinh(const nn_mx *m, nn_x *x);
nn_x *nn_mx_cosh(const nn_mx *m, nn_x *x);
nn_x *nn_mx_tanh(const nn_mx *m, nn_x *x);
nn_x *nn_mx_sigmoid(const nn_mx *m, nn_x *x);
nn_x *nn_mx_gate(const nn_mx *m, nn_x *y, nn_x *x);            /* y * sigmoid(x) */
nn_x *nn_mx_silu2(const nn_mx *m, nn_x *x);                    /* z * sigmoid(z), z = x ln2/2 */

/* math_log.c */
nn_x *nn_mx_log(const nn_mx *m, nn_x *x);
nn_x *nn_mx_log_positive(const nn_mx *m, nn_x *x);             /* x > 0 and normal; NaN and infinity not treated */
nn_x *nn_mx_log1p(const nn_mx *m, nn_x *x);
nn_x *nn_mx_log1p_core(const nn_mx *m, nn_x *x);               /* x > -1, finite */
nn_x *nn_mx_softplus(const nn_mx *m, nn_x *x);
nn_x *nn_mx_asinh(const nn_mx *m, nn_x *x);
nn_x *nn_mx_acosh(const nn_mx *m, nn_x *x);
nn_x *nn_mx_atanh(const nn_mx *m, nn_x *x);
/* x = 2^e * z with z in [sqrt(1/2), sqrt(2)), for x > 0 and normal. */
void nn_mx_split(const nn_mx *m, nn_x *x, nn_x **e, nn_x **z);

/* math_turns.c: x = n * pi/2 + r + low; quarter holds n in its low bits. x: finite f32 >= 0. */
typedef struct nn_angle { nn_x *quarter, *r, *low; } nn_angle;
nn_angle nn_mx_turns(const nn_mx *m, nn_x *x);

/* math_erf.c, math_trig.c, math_arc.c */
nn_x *nn_mx_erf(const nn_mx *m, nn_x *x);
nn_x *nn_mx_sin(const nn_mx *m, nn_x *x);
nn_x *nn_mx_cos(const nn_mx *m, nn_x *x);
nn_x *nn_mx_tan(const nn_mx *m, nn_x *x);
nn_x *nn_mx_asin(const nn_mx *m, nn_x *x);
nn_x *nn_mx_acos(const nn_mx *m, nn_x *x);
nn_x *nn_mx_atan(const nn_mx *m, nn_x *x);

/* math_near.c: f32, for --fp fast */
nn_x *nn_mx_near_exp(const nn_mx *m, nn_x *x);
nn_x *nn_mx_near_sigmoid(const nn_mx *m, nn_x *x);
nn_x *nn_mx_near_gate(const nn_mx *m, nn_x *y, nn_x *x);
nn_x *nn_mx_near_tanh(const nn_mx *m, nn_x *x);
nn_x *nn_mx_near_erf(const nn_mx *m, nn_x *x);

/* math_pow.c, math_fmod.c */
nn_x *nn_mx_pow(const nn_mx *m, nn_x *x, nn_x *y);
nn_x *nn_mx_fmod(const nn_mx *m, nn_x *x, nn_x *y);

#endif
