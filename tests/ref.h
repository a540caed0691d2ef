/* ref.h - the reference: what ltx.h promises, in double precision and plain loops
   SPDX-License-Identifier: MIT

   Written from the formulas in the manual of ltx.h, shares nothing with its implementation but the public structs. One token
   after another, no batches, no tricks; a list of entries per cache. Slow and meant to be read.

     formats      decode and encode a row of each weight format
     products     matrix times vector, with or without quantized inputs
     parts        norm, rope, activations, softmax
     model        ref_model_load: an ltx_model with all weights as doubles
     state        ref_open, ref_close, ref_rewind: caches as growable lists
     branches     attention and ffn of one step
     gates        the rules that let a row leave
     rows         ref_row_run: one token through a plan */
#ifndef REF_H
#define REF_H

#include "ltx.h"
#include "test.h"

/* ==== formats =========================================================================================== */

enum { REF_BLOCK = 32, REF_SUPER = 256 }; /* elements of a Q8_0 or Q4_0 block, of a super-block of a K format */

static inline unsigned ref_u16(const unsigned char *p)
{
    return (unsigned)p[0] | (unsigned)p[1] << 8;
}

static inline double ref_from_half(unsigned h)
{
    int sign = (h >> 15) & 1, exponent = (h >> 10) & 31, fraction = h & 1023;
    double x;
    if (exponent == 31) x = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0) x = ldexp(fraction, -24);
    else x = ldexp(1024 + fraction, exponent - 25);
    return sign ? -x : x;
}

static inline double ref_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return (double)f;
}

static inline uint32_t ref_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline double ref_from_bfloat(unsigned b)
{
    return ref_from_bits((uint32_t)b << 16);
}

/* Nearest even; what is 65520 or more becomes infinite. */
static inline unsigned ref_to_half(double x)
{
    unsigned sign = signbit(x) ? 0x8000u : 0u;
    double a = fabs(x);
    if (isnan(x)) return sign | 0x7e00u;
    if (a == 0.0) return sign;
    if (a >= 65520.0) return sign | 0x7c00u;
    int e = 0;
    frexp(a, &e);          /* a = m 2^e with m in [1/2, 1) */
    if (e < -13) e = -13;  /* denormals keep the exponent of the smallest normal */
    double units = rint(ldexp(a, 11 - e)); /* in units of the last place, at most 2048 */
    /* A denormal is its number of units; each exponent above the smallest adds 1024, of which a normal number has one in `units`. */
    return sign | (unsigned)((int)units + 1024 * (e + 13));
}

static inline unsigned ref_to_bfloat(float x)
{
    uint32_t u = ref_bits(x);
    if (isnan(x)) return (u >> 16) | 0x40u;
    uint32_t low = u & 0xffffu, high = u >> 16;
    if (low > 0x8000u || (low == 0x8000u && (high & 1u))) high++;
    return high;
}

static inline double ref_round_half(double x)
{
    return ref_from_half(ref_to_half(x));
}

static inline int ref_is_k(int type)
{
    return type == LTX_Q4_K || type == LTX_Q5_K || type == LTX_Q6_K;
}

/* Sixteen rows together; those of which a row has one scale. */
static inline int ref_is_grouped(int type)
{
    return type == LTX_Q8_X || type == LTX_Q4_X || type == LTX_R8 || type == LTX_R4;
}

static inline int ref_is_row_scaled(int type)
{
    return type == LTX_R8 || type == LTX_R4;
}

static inline int ref_is_quantized(int type)
{
    return type == LTX_Q8_0 || type == LTX_Q4_0 || ref_is_k(type) || ref_is_grouped(type);
}

/* Elements of a block of weights, and of a block of inputs that are quantized for a product with them. */
static inline int ref_block_of(int type)
{
    return ref_is_k(type) ? REF_SUPER : ref_is_quantized(type) ? REF_BLOCK : 1;
}

static inline size_t ref_super_bytes(int type)
{
    return type == LTX_Q4_K ? 144 : type == LTX_Q5_K ? 176 : 210;
}

static inline size_t ref_row_bytes(int type, int cols)
{
    size_t n = (size_t)cols;
    switch (type) {
    case LTX_F32: return 4 * n;
    case LTX_F16:
    case LTX_BF16: return 2 * n;
    case LTX_Q8_0: return n / REF_BLOCK * 34;
    case LTX_Q4_0: return n / REF_BLOCK * 18;
    case LTX_Q4_K:
    case LTX_Q5_K:
    case LTX_Q6_K: return n / REF_SUPER * ref_super_bytes(type);
    default: return 0;
    }
}

static inline void ref_decode_q8(const unsigned char *block, double *y)
{
    double d = ref_from_half(ref_u16(block));
    for (int i = 0; i < REF_BLOCK; i++) {
        int q = block[2 + i];
        y[i] = d * (q < 128 ? q : q - 256);
    }
}

static inline void ref_decode_q4(const unsigned char *block, double *y)
{
    double d = ref_from_half(ref_u16(block));
    for (int i = 0; i < REF_BLOCK / 2; i++) {
        y[i] = d * ((block[2 + i] & 15) - 8);
        y[i + REF_BLOCK / 2] = d * ((block[2 + i] >> 4) - 8);
    }
}

/* ---- K formats: a super-block as numbers, and as bytes. All bits of q and of the scales are put in their places one by one, from the
   table of places below; the same table reads and writes. */

typedef struct ref_super {
    double d, dmin;   /* dmin 0 in Q6_K                                          */
    int scale[16];    /* of each 32 elements (eight of them), in Q6_K of each 16 */
    int min[8];
    int q[REF_SUPER]; /* 0..15, 0..31, in Q6_K -32..31                           */
} ref_super;

/* Byte and bit where bit `bit` of element e lies. */
static inline void ref_place_q(int type, int e, int bit, int *byte, int *at)
{
    if (type == LTX_Q6_K) {
        int half = e / 128, f = e % 128;
        *byte = bit < 4 ? half * 64 + f % 64 : 128 + half * 32 + f % 32;
        *at = bit < 4 ? f / 64 * 4 + bit : f / 32 * 2 + bit - 4;
    } else {
        int pair = e / 64, f = e % 64, nibbles = type == LTX_Q4_K ? 16 : 48;
        *byte = bit < 4 ? nibbles + pair * 32 + f % 32 : 16 + f % 32;
        *at = bit < 4 ? f / 32 * 4 + bit : pair * 2 + f / 32;
    }
}

/* The same of the scale (which = 0) or min (1) of sub-block j; in Q6_K a scale is a byte. */
static inline void ref_place_scale(int type, int which, int j, int bit, int *byte, int *at)
{
    if (type == LTX_Q6_K) *byte = 192 + j, *at = bit;
    else if (j < 4) *byte = 4 + which * 4 + j, *at = bit;
    else if (bit < 4) *byte = 4 + 8 + j - 4, *at = which * 4 + bit;
    else *byte = 4 + which * 4 + j - 4, *at = 6 + bit - 4;
}

/* Copies `value` to bytes, or bytes to it, in the bits that a place function names. */
static inline void ref_bit(int write, unsigned char *bytes, int byte, int at, int bit, int *value)
{
    if (write) bytes[byte] = (unsigned char)(bytes[byte] | ((*value >> bit) & 1) << at);
    else *value |= ((bytes[byte] >> at) & 1) << bit;
}

static inline void ref_super_bits(int write, int type, unsigned char *bytes, ref_super *s)
{
    int byte, at, q_bits = type == LTX_Q4_K ? 4 : type == LTX_Q5_K ? 5 : 6, six = type == LTX_Q6_K;
    for (int e = 0; e < REF_SUPER; e++)
        for (int bit = 0; bit < q_bits; bit++) {
            ref_place_q(type, e, bit, &byte, &at);
            ref_bit(write, bytes, byte, at, bit, &s->q[e]);
        }
    for (int j = 0; j < (six ? 16 : 8); j++)
        for (int bit = 0; bit < (six ? 8 : 6); bit++) {
            ref_place_scale(type, 0, j, bit, &byte, &at);
            ref_bit(write, bytes, byte, at, bit, &s->scale[j]);
            if (six) continue;
            ref_place_scale(type, 1, j, bit, &byte, &at);
            ref_bit(write, bytes, byte, at, bit, &s->min[j]);
        }
}

static inline ref_super ref_super_read(int type, const unsigned char *block)
{
    ref_super s;
    unsigned char bytes[210];
    memset(&s, 0, sizeof s);
    memcpy(bytes, block, ref_super_bytes(type));
    ref_super_bits(0, type, bytes, &s);
    s.d = ref_from_half(ref_u16(bytes + (type == LTX_Q6_K ? 208 : 0)));
    if (type != LTX_Q6_K) s.dmin = ref_from_half(ref_u16(bytes + 2));
    for (int e = 0; e < REF_SUPER && type == LTX_Q6_K; e++) s.q[e] -= 32;
    for (int j = 0; j < 16 && type == LTX_Q6_K; j++) s.scale[j] -= s.scale[j] > 127 ? 256 : 0;
    return s;
}

static inline void ref_super_write(int type, const ref_super *super, unsigned char *block)
{
    ref_super s = *super;
    unsigned half = ref_to_half(s.d), half_min = ref_to_half(s.dmin), at = type == LTX_Q6_K ? 208u : 0u;
    for (int e = 0; e < REF_SUPER && type == LTX_Q6_K; e++) s.q[e] += 32;
    memset(block, 0, ref_super_bytes(type));
    ref_super_bits(1, type, block, &s);
    block[at] = (unsigned char)(half & 255u), block[at + 1] = (unsigned char)(half >> 8);
    if (type != LTX_Q6_K) block[2] = (unsigned char)(half_min & 255u), block[3] = (unsigned char)(half_min >> 8);
}

static inline double ref_super_value(int type, const ref_super *s, int e)
{
    if (type == LTX_Q6_K) return s->d * s->scale[e / 16] * s->q[e];
    return s->d * s->scale[e / 32] * s->q[e] - s->dmin * s->min[e / 32];
}

static inline void ref_decode_super(int type, const unsigned char *block, double *y)
{
    ref_super s = ref_super_read(type, block);
    for (int e = 0; e < REF_SUPER; e++) y[e] = ref_super_value(type, &s, e);
}

static inline void ref_decode_row(int type, const void *data, int n, double *y)
{
    const unsigned char *p = (const unsigned char *)data;
    for (int i = 0; i < n; i++) {
        if (type == LTX_F32) y[i] = ref_from_bits((uint32_t)ref_u16(p + 4 * i) | (uint32_t)ref_u16(p + 4 * i + 2) << 16);
        if (type == LTX_F16) y[i] = ref_from_half(ref_u16(p + 2 * i));
        if (type == LTX_BF16) y[i] = ref_from_bfloat(ref_u16(p + 2 * i));
        if (type == LTX_Q8_0 && i % REF_BLOCK == 0) ref_decode_q8(p + i / REF_BLOCK * 34, y + i);
        if (type == LTX_Q4_0 && i % REF_BLOCK == 0) ref_decode_q4(p + i / REF_BLOCK * 18, y + i);
        if (ref_is_k(type) && i % REF_SUPER == 0) ref_decode_super(type, p + ref_row_bytes(type, i), y + i);
    }
}

/* ---- formats of ltx.h's own: where things of a row lie, each found by itself. A matrix is a sequence of groups of sixteen rows. ---- */

enum { REF_GROUP = 16 };

static inline int ref_is_4bit(int type)
{
    return type == LTX_Q4_X || type == LTX_R4;
}

static inline size_t ref_group_bytes(int type, int cols)
{
    size_t numbers = (size_t)(ref_is_4bit(type) ? cols / 2 : cols), blocks = (size_t)cols / REF_BLOCK;
    size_t per_row = type == LTX_R8 ? 4 : type == LTX_R4 ? blocks + 4 : 2 * blocks;
    return REF_GROUP * (numbers + per_row);
}

static inline size_t ref_mat_bytes(int type, int rows, int cols)
{
    if (!ref_is_grouped(type)) return ref_row_bytes(type, cols) * (size_t)rows;
    return ref_group_bytes(type, cols) * ((size_t)(rows + REF_GROUP - 1) / REF_GROUP);
}

/* Byte k of the numbers of a row: four bytes of each of the sixteen rows, then the next four of each. */
static inline size_t ref_place_number(int type, int cols, int row, int k)
{
    return ref_group_bytes(type, cols) * (size_t)(row / REF_GROUP) + (size_t)(64 * (k / 4) + 4 * (row % REF_GROUP) + k % 4);
}

/* After those the scales: of a block a half (Q8_X, Q4_X) or a byte (R4), for all sixteen rows before the next block. */
static inline size_t ref_place_block(int type, int cols, int row, int block)
{
    int size = type == LTX_R4 ? 1 : 2, numbers = ref_is_4bit(type) ? cols / 2 : cols;
    return ref_group_bytes(type, cols) * (size_t)(row / REF_GROUP) + (size_t)(REF_GROUP * numbers + (block * REF_GROUP + row % REF_GROUP) * size);
}

/* Last a float per row (R8, R4). */
static inline size_t ref_place_scale_of_row(int type, int cols, int row)
{
    return ref_group_bytes(type, cols) * (size_t)(row / REF_GROUP + 1) - (size_t)(4 * (REF_GROUP - row % REF_GROUP));
}

static inline int ref_signed(unsigned char b)
{
    return b < 128 ? b : b - 256;
}

/* Element c of a row as an integer: times g in R4. */
static inline int ref_integer(int type, const unsigned char *data, int cols, int row, int c)
{
    int block = c / REF_BLOCK, i = c % REF_BLOCK;
    if (!ref_is_4bit(type)) return ref_signed(data[ref_place_number(type, cols, row, c)]);
    int b = data[ref_place_number(type, cols, row, block * 16 + i % 16)], q = (i < 16 ? b % 16 : b / 16) - 8;
    int g = data[ref_place_block(type, cols, row, block)];
    return type == LTX_R4 ? (g & 16 ? -(g % 16) : g % 16) * q : q;
}

static inline double ref_scale(int type, const unsigned char *data, int cols, int row, int c)
{
    const unsigned char *p = data + (ref_is_row_scaled(type) ? ref_place_scale_of_row(type, cols, row) : ref_place_block(type, cols, row, c / REF_BLOCK));
    return ref_is_row_scaled(type) ? ref_from_bits((uint32_t)ref_u16(p) | (uint32_t)ref_u16(p + 2) << 16) : ref_from_half(ref_u16(p));
}

/* Row of a matrix of any type. */
static inline void ref_mat_row(int type, const void *data, int cols, int row, double *y)
{
    const unsigned char *p = (const unsigned char *)data;
    if (!ref_is_grouped(type)) ref_decode_row(type, p + ref_row_bytes(type, cols) * (size_t)row, cols, y);
    else for (int c = 0; c < cols; c++) y[c] = ref_scale(type, p, cols, row, c) * ref_integer(type, p, cols, row, c);
}

static inline void ref_put16(unsigned char *p, unsigned v)
{
    p[0] = (unsigned char)(v & 255u);
    p[1] = (unsigned char)(v >> 8 & 255u);
}

static inline double ref_largest(const double *x, int n)
{
    double most = 0.0; /* signed value of the element of largest size */
    for (int i = 0; i < n; i++)
        if (fabs(x[i]) > fabs(most)) most = x[i];
    return most;
}

/* Any good encoding serves the tests: only decoding has to agree with ltx.h bit for bit. */
static inline void ref_encode_block(int type, const double *x, unsigned char *out)
{
    double most = ref_largest(x, REF_BLOCK);
    unsigned half = ref_to_half(type == LTX_Q8_0 ? fabs(most) / 127.0 : most / -8.0);
    double d = ref_from_half(half);
    ref_put16(out, half);
    for (int i = 0; i < REF_BLOCK; i++) {
        double q = d != 0.0 ? rint(x[i] / d) : 0.0;
        if (type == LTX_Q8_0) {
            int v = (int)fmin(fmax(q, -127.0), 127.0);
            out[2 + i] = (unsigned char)(v & 255);
        } else {
            int v = (int)fmin(fmax(q + 8.0, 0.0), 15.0);
            unsigned char *at = &out[2 + i % 16];
            *at = (unsigned char)(i < 16 ? v : *at | v << 4);
        }
    }
}

/* Steps as wide as the range of each sub-block asks for, in units that the largest of them gives. */
static inline void ref_encode_super(int type, const double *x, unsigned char *out)
{
    int six = type == LTX_Q6_K, n = six ? 16 : 32, top = type == LTX_Q4_K ? 15 : 31, most = six ? 127 : 63;
    double step[16] = {0}, low[16] = {0}, d = 0.0, dmin = 0.0;
    ref_super s;
    memset(&s, 0, sizeof s);
    for (int j = 0; j < REF_SUPER / n; j++) {
        double high = 0.0;
        for (int i = j * n; i < j * n + n; i++) low[j] = fmin(low[j], x[i]), high = fmax(high, x[i]);
        step[j] = (six ? fmax(high, -low[j]) : high - low[j]) / top;
        d = fmax(d, step[j]), dmin = fmax(dmin, -low[j]);
    }
    s.d = ref_round_half(d / most);
    if (!six) s.dmin = ref_round_half(dmin / most);
    for (int j = 0; j < REF_SUPER / n; j++) {
        s.scale[j] = s.d > 0.0 ? (int)fmin(ceil(step[j] / s.d), most) : 0;
        if (!six) s.min[j] = s.dmin > 0.0 ? (int)fmin(rint(-low[j] / s.dmin), most) : 0;
        for (int e = j * n; e < j * n + n; e++) {
            double unit = s.d * s.scale[j], q = unit > 0.0 ? rint((x[e] + (six ? 0.0 : s.dmin * s.min[j])) / unit) : 0.0;
            s.q[e] = (int)fmin(fmax(q, six ? -32.0 : 0.0), top);
        }
    }
    ref_super_write(type, &s, out);
}

static inline void ref_encode_row(int type, const double *x, int n, unsigned char *out)
{
    for (int i = 0; i < n; i++) {
        uint32_t u = ref_bits((float)x[i]);
        if (type == LTX_F32) ref_put16(out + 4 * i, u & 0xffffu), ref_put16(out + 4 * i + 2, u >> 16);
        if (type == LTX_F16) ref_put16(out + 2 * i, ref_to_half(x[i]));
        if (type == LTX_BF16) ref_put16(out + 2 * i, ref_to_bfloat((float)x[i]));
        if (type == LTX_Q8_0 && i % REF_BLOCK == 0) ref_encode_block(type, x + i, out + i / REF_BLOCK * 34);
        if (type == LTX_Q4_0 && i % REF_BLOCK == 0) ref_encode_block(type, x + i, out + i / REF_BLOCK * 18);
        if (ref_is_k(type) && i % REF_SUPER == 0) ref_encode_super(type, x + i, out + ref_row_bytes(type, i));
    }
}

/* ==== products ========================================================================================== */

typedef struct ref_mat {
    int rows, cols, type; /* type: where the weights came from */
    double *w;            /* [rows][cols]; NULL = absent       */
} ref_mat;

static inline double *ref_new(int n)
{
    double *p = (double *)test_malloc(sizeof(double) * (size_t)(n > 0 ? n : 1));
    for (int i = 0; i < n; i++) p[i] = 0.0;
    return p;
}

/* What a quantized product sees of a block of n inputs (32, for K formats 256, for R8 and R4 all): a float scale d = max|x| / 127 and integers
   round(x * (127 / max|x|)), half to even; `top` is 127, or 32512 = 127 * 255 + 127 for 16 bits. 127 / max|x| is rounded to float, its product with x is not rounded before it becomes an
   integer (a product of two floats is exact in double). A maximum so small that 127 / max overflows counts as 0. Returns d. */
static inline double ref_quantize_top(const double *x, int n, float top, int *q)
{
    float most = 0.0f;
    for (int i = 0; i < n; i++) most = fmaxf(most, fabsf((float)x[i]));
    float inverse = most > 0.0f ? top / most : 0.0f;
    if (isinf(inverse)) inverse = 0.0f;
    for (int i = 0; i < n; i++) q[i] = (int)rint((double)(float)x[i] * (double)inverse);
    return (double)(most / top);
}

static inline double ref_quantize_block(const double *x, int n, int *q)
{
    return ref_quantize_top(x, n, 127.0f, q);
}

/* y[i] = integer * d, in blocks as a matrix of this type wants them. bits: 16 for 16-bit inputs of R8 and R4, else 8. */
static inline void ref_quantize_inputs(int type, const double *x, int n, int bits, double *y)
{
    int block = ref_block_of(type), q[REF_SUPER];
    if (ref_is_row_scaled(type)) {
        int *all = (int *)test_malloc(sizeof(int) * (size_t)n);
        double d = ref_quantize_top(x, n, bits == 16 ? 32512.0f : 127.0f, all);
        for (int i = 0; i < n; i++) y[i] = all[i] * d;
        free(all);
        return;
    }
    for (int b = 0; b < n; b += block) {
        double d = ref_quantize_block(x + b, block, q);
        for (int i = 0; i < block; i++) y[b + i] = q[i] * d;
    }
}

/* A row of a K format times inputs, as ltx.h promises it but in double: per super-block the exact sums of scale * q * x and of min * x
   (x the integers), times d * dx and dmin * dx. *sizes = the sum of the sizes of these terms, which float roundings are relative to. */
static inline double ref_k_product(int type, const unsigned char *row, int cols, const double *x, double *sizes)
{
    double sum = 0.0;
    int q[REF_SUPER], n = type == LTX_Q6_K ? 16 : 32;
    *sizes = 0.0;
    for (int b = 0; b < cols; b += REF_SUPER) {
        ref_super s = ref_super_read(type, row + ref_row_bytes(type, b));
        double dx = ref_quantize_block(x + b, REF_SUPER, q);
        int64_t isum = 0, msum = 0;
        for (int e = 0; e < REF_SUPER; e++) {
            isum += (int64_t)s.scale[e / n] * s.q[e] * q[e];
            if (type != LTX_Q6_K) msum += (int64_t)s.min[e / n] * q[e];
        }
        double a = (double)isum * (s.d * dx), c = (double)msum * (s.dmin * dx);
        sum += a - c;
        *sizes += fabs(a) + fabs(c);
    }
    return sum;
}

/* A row of R8 or R4 times inputs of 8 or 16 bits: the exact sum of integers, times both scales. */
static inline double ref_row_product(int type, const unsigned char *data, int cols, int row, const double *x, int bits)
{
    int *q = (int *)test_malloc(sizeof(int) * (size_t)cols);
    int64_t sum = 0;
    double d = ref_quantize_top(x, cols, bits == 16 ? 32512.0f : 127.0f, q);
    for (int c = 0; c < cols; c++) sum += (int64_t)ref_integer(type, data, cols, row, c) * q[c];
    free(q);
    return (double)sum * ref_scale(type, data, cols, row, 0) * d;
}

/* y = w x + bias. The sum over blocks of isum * dw * d is the plain sum of decoded weights times decoded inputs; so is that of a K format. */
static inline void ref_product(const ref_mat *w, const ref_mat *bias, const double *x, int quantize, double *y)
{
    double *inputs = ref_new(w->cols);
    if (quantize && ref_is_quantized(w->type)) ref_quantize_inputs(w->type, x, w->cols, quantize, inputs);
    else memcpy(inputs, x, sizeof(double) * (size_t)w->cols);
    for (int r = 0; r < w->rows; r++) {
        const double *row = w->w + (size_t)r * (size_t)w->cols;
        double sum = 0.0;
        for (int c = 0; c < w->cols; c++) sum += row[c] * inputs[c];
        y[r] = sum + (bias && bias->w ? bias->w[r] : 0.0);
    }
    free(inputs);
}

/* ==== parts ============================================================================================= */

static inline void ref_rmsnorm(const double *x, const double *w, int n, double eps, double *y)
{
    double squares = 0.0;
    for (int i = 0; i < n; i++) squares += x[i] * x[i];
    double factor = 1.0 / sqrt(squares / n + eps);
    for (int i = 0; i < n; i++) y[i] = x[i] * factor * (w ? w[i] : 1.0);
}

static inline void ref_layernorm(const double *x, const double *w, const double *bias, int n, double eps, double *y)
{
    double mean = 0.0, squares = 0.0;
    for (int i = 0; i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    double r = 1.0 / sqrt(squares / n + eps);
    for (int i = 0; i < n; i++) y[i] = (x[i] - mean) * r * w[i] + (bias ? bias[i] : 0.0);
}

static inline double ref_silu(double x)
{
    return x / (1.0 + exp(-x));
}

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), which keeps its digits for negative x. */
static inline double ref_gelu(double x)
{
    const double sqrt_2_over_pi = 0.79788456080286535588;
    double u = sqrt_2_over_pi * (x + 0.044715 * x * x * x);
    return x / (1.0 + exp(-2.0 * u));
}

static inline double ref_act(int act, double x)
{
    if (act == LTX_ACT_SILU) return ref_silu(x);
    if (act == LTX_ACT_GELU) return ref_gelu(x);
    return x > 0.0 ? x : 0.0;
}

static inline void ref_softmax(double *x, int n)
{
    double most = x[0], sum = 0.0;
    for (int i = 1; i < n; i++) most = fmax(most, x[i]);
    for (int i = 0; i < n; i++) sum += x[i] = exp(x[i] - most);
    for (int i = 0; i < n; i++) x[i] /= sum;
}

/* ==== model ============================================================================================= */

typedef struct ref_layer {
    ref_mat attn_norm, attn_norm_bias, ffn_norm_bias, wq, wk, wv, wo, bq, bk, bv, bo, q_norm, k_norm;
    ref_mat ffn_norm, w_gate, w_up, w_down, b_gate, b_up, b_down, router, router_bias, router_norm;
} ref_layer;

/* Low-rank additions: pairs a, b for q, k, v, o, gate, up, down. */
typedef struct ref_adapter { ref_mat m[14]; double scale; } ref_adapter;

typedef struct ref_model {
    int dim, n_layers, n_heads, n_kv_heads, head_dim, vocab, rope_pairs, rope_dims, act, norm, norm_after;
    double norm_eps, rope_theta, rope_scale, attn_scale;
    ref_mat rope_factors, embed, out_norm, out_norm_bias, head, head_bias, probes, probe_bias;
    ref_layer *layers;
    ref_adapter *adapters;
    int n_adapters;
} ref_model;

static inline ref_mat ref_mat_load(const ltx_mat *m)
{
    ref_mat r = {m->rows, m->cols, m->type, NULL};
    if (!m->data) return r;
    r.w = (double *)test_malloc(sizeof(double) * (size_t)m->rows * (size_t)m->cols);
    for (int i = 0; i < m->rows; i++) ref_mat_row(m->type, m->data, m->cols, i, r.w + (size_t)i * (size_t)m->cols);
    return r;
}

static inline ref_layer ref_layer_load(const ltx_layer *l)
{
    ref_layer r;
    r.attn_norm = ref_mat_load(&l->attn_norm);
    r.attn_norm_bias = ref_mat_load(&l->attn_norm_bias);
    r.ffn_norm_bias = ref_mat_load(&l->ffn_norm_bias);
    r.wq = ref_mat_load(&l->wq);
    r.wk = ref_mat_load(&l->wk);
    r.wv = ref_mat_load(&l->wv);
    r.wo = ref_mat_load(&l->wo);
    r.bq = ref_mat_load(&l->bq);
    r.bk = ref_mat_load(&l->bk);
    r.bv = ref_mat_load(&l->bv);
    r.bo = ref_mat_load(&l->bo);
    r.q_norm = ref_mat_load(&l->q_norm);
    r.k_norm = ref_mat_load(&l->k_norm);
    r.ffn_norm = ref_mat_load(&l->ffn_norm);
    r.w_gate = ref_mat_load(&l->w_gate);
    r.w_up = ref_mat_load(&l->w_up);
    r.w_down = ref_mat_load(&l->w_down);
    r.b_gate = ref_mat_load(&l->b_gate);
    r.b_up = ref_mat_load(&l->b_up);
    r.b_down = ref_mat_load(&l->b_down);
    r.router = ref_mat_load(&l->router);
    r.router_bias = ref_mat_load(&l->router_bias);
    r.router_norm = ref_mat_load(&l->router_norm);
    return r;
}

static inline double ref_default(float value, double otherwise)
{
    return value != 0.0f ? (double)value : otherwise;
}

static inline void ref_model_load(const ltx_model *m, ref_model *r)
{
    r->dim = m->dim;
    r->n_layers = m->n_layers;
    r->n_heads = m->n_heads;
    r->n_kv_heads = m->n_kv_heads ? m->n_kv_heads : m->n_heads;
    r->head_dim = m->head_dim ? m->head_dim : m->dim / m->n_heads;
    r->vocab = m->vocab;
    r->rope_pairs = m->rope_pairs;
    r->rope_dims = m->rope_dims ? m->rope_dims : r->head_dim;
    r->act = m->act;
    r->norm = m->norm;
    r->norm_after = m->norm_after;
    r->norm_eps = ref_default(m->norm_eps, 1e-5);
    r->rope_theta = ref_default(m->rope_theta, 10000.0);
    r->rope_scale = ref_default(m->rope_scale, 1.0);
    r->attn_scale = ref_default(m->attn_scale, 1.0 / sqrt((double)r->head_dim));
    r->rope_factors = ref_mat_load(&m->rope_factors);
    r->embed = ref_mat_load(&m->embed);
    r->out_norm = ref_mat_load(&m->out_norm);
    r->out_norm_bias = ref_mat_load(&m->out_norm_bias);
    r->head_bias = ref_mat_load(&m->head_bias);
    r->head = ref_mat_load(m->head.data ? &m->head : &m->embed);
    r->probes = ref_mat_load(&m->probes);
    r->probe_bias = ref_mat_load(&m->probe_bias);
    r->layers = (ref_layer *)test_malloc(sizeof(ref_layer) * (size_t)m->n_layers);
    for (int i = 0; i < m->n_layers; i++) r->layers[i] = ref_layer_load(&m->layers[i]);
    r->n_adapters = m->n_adapters;
    r->adapters = (ref_adapter *)test_malloc(sizeof(ref_adapter) * (size_t)(m->n_adapters + 1));
    for (int i = 0; i < m->n_adapters; i++) {
        const ltx_adapter *a = &m->adapters[i];
        const ltx_lora *all[] = {&a->q, &a->k, &a->v, &a->o, &a->gate, &a->up, &a->down};
        for (int j = 0; j < 7; j++) r->adapters[i].m[2 * j] = ref_mat_load(&all[j]->a), r->adapters[i].m[2 * j + 1] = ref_mat_load(&all[j]->b);
        r->adapters[i].scale = ref_default(a->scale, 1.0);
    }
}

static inline void ref_layer_free(ref_layer *l)
{
    ref_mat *all[] = {&l->attn_norm, &l->attn_norm_bias, &l->ffn_norm_bias, &l->wq, &l->wk, &l->wv, &l->wo, &l->bq, &l->bk, &l->bv, &l->bo, &l->q_norm, &l->k_norm,
                      &l->ffn_norm, &l->w_gate, &l->w_up, &l->w_down, &l->b_gate, &l->b_up, &l->b_down, &l->router, &l->router_bias, &l->router_norm};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]->w);
}

static inline void ref_model_free(ref_model *r)
{
    for (int i = 0; i < r->n_layers; i++) ref_layer_free(&r->layers[i]);
    free(r->layers);
    for (int i = 0; i < r->n_adapters; i++) for (int j = 0; j < 14; j++) free(r->adapters[i].m[j].w);
    free(r->adapters);
    free(r->rope_factors.w);
    free(r->embed.w);
    free(r->out_norm.w);
    free(r->out_norm_bias.w);
    free(r->head_bias.w);
    free(r->head.w);
    free(r->probes.w);
    free(r->probe_bias.w);
    memset(r, 0, sizeof *r);
}

/* The plan that a NULL plan means: every layer once, no gates. `steps` holds n_layers. */
static inline ltx_plan ref_plan_full(const ref_model *m, ltx_step *steps)
{
    ltx_plan plan = {steps, m->n_layers, LTX_FILL_PROJECT};
    memset(steps, 0, sizeof *steps * (size_t)m->n_layers);
    for (int i = 0; i < m->n_layers; i++) {
        int run = (m->layers[i].wq.w ? LTX_ATTN : 0) | (m->layers[i].w_up.w ? LTX_FFN : 0);
        steps[i].layer = (int16_t)i;
        steps[i].run = (uint8_t)run;
    }
    return plan;
}

/* Rotate one head in place: pair i turns by position * theta^(-2i / rope_dims) / rope_scale / factor i. */
static inline void ref_rope(const ref_model *m, double *x, int position)
{
    if (m->rope_pairs == LTX_ROPE_NONE) return;
    for (int i = 0; i < m->rope_dims / 2; i++) {
        int a = m->rope_pairs == LTX_ROPE_INTERLEAVED ? 2 * i : i;
        int b = m->rope_pairs == LTX_ROPE_INTERLEAVED ? 2 * i + 1 : i + m->rope_dims / 2;
        double frequency = pow(m->rope_theta, -2.0 * i / m->rope_dims) / m->rope_scale;
        if (m->rope_factors.w) frequency /= m->rope_factors.w[i];
        double c = cos(position * frequency), s = sin(position * frequency);
        double xa = x[a], xb = x[b];
        x[a] = xa * c - xb * s;
        x[b] = xa * s + xb * c;
    }
}

/* ==== state ============================================================================================= */

enum { REF_KV_EXACT = -1 }; /* for ref_options.kv: not rounded at all */

typedef struct ref_options {
    int quantize;      /* inputs of quantized products: 0 = as they are, 1 = quantized as ltx.h does, 16 = with act_bits 16 */
    int kv;            /* ltx_kv or REF_KV_EXACT: how stored keys and values are rounded  */
    int window, sinks; /* 0 = attend to all                                               */
} ref_options;

/* What one attention step remembers, in the order in which it was stored. */
static inline void ref_norm(const ref_model *m, const double *x, const ref_mat *w, const ref_mat *bias, double *y)
{
    if (!w->w) memmove(y, x, sizeof(double) * (size_t)m->dim);
    else if (m->norm == LTX_NORM_RMS) ref_rmsnorm(x, w->w, m->dim, m->norm_eps, y);
    else ref_layernorm(x, w->w, bias->w, m->dim, m->norm_eps, y);
}

/* What a branch reads, and what the hidden vector is after it. */
static inline void ref_norm_before(const ref_model *m, const double *x, const ref_mat *w, const ref_mat *bias, double *y)
{
    static const ref_mat none = {0, 0, 0, NULL};
    ref_norm(m, x, m->norm_after ? &none : w, bias, y);
}
static inline void ref_norm_after(const ref_model *m, double *h, const ref_mat *w, const ref_mat *bias)
{
    double *y = ref_new(m->dim);
    ref_norm(m, h, w, bias, y);
    if (m->norm_after) memcpy(h, y, sizeof(double) * (size_t)m->dim);
    free(y);
}

typedef struct ref_cache {
    int     count, cap;
    int    *position; /* [cap]    */
    double *k, *v;    /* [cap][K] */
} ref_cache;

typedef struct ref_state {
    const ref_model *m;
    ref_options opt;
    int position; /* of the next token */
    long attn_rows, ffn_rows, fill_rows, attended; /* as in ltx_stats */
    ref_cache caches[LTX_MAX_STEPS];
    double weight; /* what the router of the step said of the row           */
    double nearest; /* smallest distance of that to its threshold            */
} ref_state;

static inline ref_state *ref_open(const ref_model *m, const ref_options *opt)
{
    ref_state *s = (ref_state *)test_malloc(sizeof *s);
    memset(s, 0, sizeof *s);
    s->m = m;
    s->opt = *opt;
    return s;
}

static inline void ref_close(ref_state *s)
{
    for (int i = 0; i < LTX_MAX_STEPS; i++) {
        free(s->caches[i].position);
        free(s->caches[i].k);
        free(s->caches[i].v);
    }
    free(s);
}

static inline void ref_rewind(ref_state *s, int position)
{
    for (int i = 0; i < LTX_MAX_STEPS; i++) {
        ref_cache *c = &s->caches[i];
        while (c->count > 0 && c->position[c->count - 1] >= position) c->count--;
    }
    s->position = position;
}

static inline void *ref_grow(void *old, size_t old_size, size_t size)
{
    void *p = test_malloc(size);
    if (old_size) memcpy(p, old, old_size);
    free(old);
    return p;
}

/* Stored form of one head's key or value vector. */
static inline void ref_round_kv(int kv, double *x, int n)
{
    float scale = (float)fabs(ref_largest(x, n)) / 127.0f;
    if (kv == REF_KV_EXACT) return;
    for (int i = 0; i < n; i++) {
        float f = (float)x[i];
        if (kv == LTX_KV_F32) x[i] = (double)f;
        else if (kv == LTX_KV_I8) x[i] = scale > 0.0f ? rint((double)(f / scale)) * (double)scale : 0.0;
        else x[i] = ref_round_half((double)f);
    }
}

static inline void ref_append(ref_state *s, int cache, int position, double *k, double *v)
{
    ref_cache *c = &s->caches[cache];
    int width = s->m->n_kv_heads * s->m->head_dim;
    for (int h = 0; h < s->m->n_kv_heads; h++) {
        ref_round_kv(s->opt.kv, k + h * s->m->head_dim, s->m->head_dim);
        ref_round_kv(s->opt.kv, v + h * s->m->head_dim, s->m->head_dim);
    }
    size_t row = sizeof(double) * (size_t)width;
    if (c->count == c->cap) {
        size_t old = (size_t)c->cap, cap = 2 * old + 16;
        c->position = (int *)ref_grow(c->position, sizeof(int) * old, sizeof(int) * cap);
        c->k = (double *)ref_grow(c->k, row * old, row * cap);
        c->v = (double *)ref_grow(c->v, row * old, row * cap);
        c->cap = (int)cap;
    }
    c->position[c->count] = position;
    memcpy(c->k + (size_t)c->count * (size_t)width, k, row);
    memcpy(c->v + (size_t)c->count * (size_t)width, v, row);
    c->count++;
}

/* ==== branches ========================================================================================== */

static inline int ref_cache_of(const ltx_step *step)
{
    return step->cache > 0 ? step->cache - 1 : step->layer;
}

/* Norm (if the layer has one) and rotation of each head. */
static inline void ref_heads(const ref_model *m, double *x, int heads, const ref_mat *norm, int position)
{
    for (int h = 0; h < heads; h++) {
        double *head = x + h * m->head_dim;
        if (norm->w) ref_rmsnorm(head, norm->w, m->head_dim, m->norm_eps, head);
        ref_rope(m, head, position);
    }
}

enum { REF_Q, REF_K, REF_V, REF_O, REF_GATE, REF_UP, REF_DOWN };
/* y += scale B (A x), if the step has such an addition */
static inline void ref_adapt(const ref_state *s, const ltx_step *step, int which, const double *x, double *y)
{
    if (step->adapter == 0) return;
    const ref_adapter *ad = &s->m->adapters[step->adapter - 1];
    const ref_mat *a = &ad->m[2 * which], *b = a + 1;
    if (!a->w) return;
    double *t = ref_new(a->rows), *out = ref_new(b->rows);
    ref_product(a, NULL, x, s->opt.quantize, t);
    ref_product(b, NULL, t, s->opt.quantize, out);
    for (int i = 0; i < b->rows; i++) y[i] += ad->scale * out[i];
    free(t);
    free(out);
}

/* The position that rotates: the token's, or the number of the slot that comes next, or that the token has in the cache of another step. */
static inline int ref_number(const ref_state *s, const ltx_step *step, int position)
{
    const ref_cache *c = &s->caches[ref_cache_of(step)];
    int own = c->count;
    if (!(step->run & LTX_RENUMBER)) return position;
    if (step->run & LTX_SHARE) for (own = 0; own + 1 < c->count && c->position[own + 1] <= position; own++) { }
    return own;
}

/* Key and value of the step from the hidden vector h, appended to the step's cache. */
static inline void ref_project(ref_state *s, const ltx_step *step, int position, const double *h)
{
    const ref_model *m = s->m;
    const ref_layer *l = &m->layers[step->layer];
    int width = m->n_kv_heads * m->head_dim;
    double *a = ref_new(m->dim), *k = ref_new(width), *v = ref_new(width);
    ref_norm_before(m, h, &l->attn_norm, &l->attn_norm_bias, a);
    ref_product(&l->wk, &l->bk, a, s->opt.quantize, k);
    ref_product(&l->wv, &l->bv, a, s->opt.quantize, v);
    ref_adapt(s, step, REF_K, a, k);
    ref_adapt(s, step, REF_V, a, v);
    ref_heads(m, k, m->n_kv_heads, &l->k_norm, ref_number(s, step, position));
    ref_append(s, ref_cache_of(step), position, k, v);
    free(a);
    free(k);
    free(v);
}

static inline int ref_is_sink(const ref_state *s, int index)
{
    return s->opt.window > 0 && index < s->opt.sinks;
}

static inline int ref_is_visible(const ref_state *s, const ref_cache *c, int index, int position)
{
    if (c->position[index] > position) return 0; /* only steps that share a cache find such an entry */
    if (s->opt.window <= 0 || ref_is_sink(s, index)) return 1;
    return c->position[index] > position - s->opt.window;
}

/* One query head over the visible entries; q for entries of the window, q_sink for sinks. */
static inline void ref_attend(const ref_state *s, const ref_cache *c, int kv_head, int position, const double *q,
                              const double *q_sink, double *out)
{
    int n = s->m->head_dim, width = s->m->n_kv_heads * n, seen = 0;
    double *score = ref_new(c->count);
    int *index = (int *)test_malloc(sizeof(int) * (size_t)(c->count + 1));
    for (int e = 0; e < c->count; e++) {
        if (!ref_is_visible(s, c, e, position)) continue;
        const double *k = c->k + (size_t)e * (size_t)width + kv_head * n, *query = ref_is_sink(s, e) ? q_sink : q;
        double dot = 0.0;
        for (int i = 0; i < n; i++) dot += query[i] * k[i];
        score[seen] = dot * s->m->attn_scale;
        index[seen++] = e;
    }
    ref_softmax(score, seen);
    for (int i = 0; i < n; i++) out[i] = 0.0;
    for (int e = 0; e < seen; e++) {
        const double *v = c->v + (size_t)index[e] * (size_t)width + kv_head * n;
        for (int i = 0; i < n; i++) out[i] += score[e] * v[i];
    }
    free(score);
    free(index);
}

/* h += scale * attention(x) */
static inline void ref_attention(ref_state *s, const ltx_step *step, int position, const double *x, double *h)
{
    const ref_model *m = s->m;
    const ref_layer *l = &m->layers[step->layer];
    int width = m->n_heads * m->head_dim, far = s->opt.sinks + s->opt.window - 1;
    double *a = ref_new(m->dim), *q = ref_new(width), *q_sink = ref_new(width), *mixed = ref_new(width), *out = ref_new(m->dim);

    int number = ref_number(s, step, position);
    double scale = ref_default(step->attn_scale, 1.0) * (step->run & LTX_WEIGH ? s->weight : 1.0);
    if (!(step->run & LTX_SHARE)) ref_project(s, step, position, x);
    ref_norm_before(m, x, &l->attn_norm, &l->attn_norm_bias, a);
    ref_product(&l->wq, &l->bq, a, s->opt.quantize, q);
    ref_adapt(s, step, REF_Q, a, q);
    memcpy(q_sink, q, sizeof(double) * (size_t)width);
    ref_heads(m, q, m->n_heads, &l->q_norm, number);
    ref_heads(m, q_sink, m->n_heads, &l->q_norm, number < far ? number : far);
    for (int i = 0; i < m->n_heads; i++) {
        int at = i * m->head_dim, kv_head = i / (m->n_heads / m->n_kv_heads);
        ref_attend(s, &s->caches[ref_cache_of(step)], kv_head, position, q + at, q_sink + at, mixed + at);
    }
    ref_product(&l->wo, &l->bo, mixed, s->opt.quantize, out);
    ref_adapt(s, step, REF_O, mixed, out);
    for (int i = 0; i < m->dim; i++) h[i] += scale * out[i];
    ref_norm_after(m, h, &l->attn_norm, &l->attn_norm_bias);
    const ref_cache *c = &s->caches[ref_cache_of(step)];
    for (int e = 0; e < c->count; e++) s->attended += ref_is_visible(s, c, e, position);
    s->attn_rows++;
    free(a);
    free(q);
    free(q_sink);
    free(mixed);
    free(out);
}

/* h += scale * ffn(x) */
static inline void ref_ffn(ref_state *s, const ltx_step *step, const double *x, double *h)
{
    const ref_model *m = s->m;
    const ref_layer *l = &m->layers[step->layer];
    int width = l->w_up.rows;
    double *f = ref_new(m->dim), *up = ref_new(width), *gate = ref_new(width), *out = ref_new(m->dim);
    ref_norm_before(m, x, &l->ffn_norm, &l->ffn_norm_bias, f);
    ref_product(&l->w_up, &l->b_up, f, s->opt.quantize, up);
    ref_adapt(s, step, REF_UP, f, up);
    if (l->w_gate.w) ref_product(&l->w_gate, &l->b_gate, f, s->opt.quantize, gate), ref_adapt(s, step, REF_GATE, f, gate);
    for (int i = 0; i < width; i++) up[i] = l->w_gate.w ? ref_act(m->act, gate[i]) * up[i] : ref_act(m->act, up[i]);
    ref_product(&l->w_down, &l->b_down, up, s->opt.quantize, out);
    ref_adapt(s, step, REF_DOWN, up, out);
    for (int i = 0; i < m->dim; i++) h[i] += ref_default(step->ffn_scale, 1.0) * (step->run & (LTX_WEIGH | LTX_WEIGH_FFN) ? s->weight : 1.0) * out[i];
    ref_norm_after(m, h, &l->ffn_norm, &l->ffn_norm_bias);
    s->ffn_rows++;
    free(f);
    free(up);
    free(gate);
    free(out);
}

static inline void ref_head(const ref_state *s, const double *h, double *logits)
{
    double *a = ref_new(s->m->dim);
    ref_norm(s->m, h, &s->m->out_norm, &s->m->out_norm_bias, a);
    ref_product(&s->m->head, &s->m->head_bias, a, s->opt.quantize, logits);
    free(a);
}

/* ==== gates ============================================================================================= */

enum { REF_MAX_GATES = 64 };

/* What happened to one row. */
typedef struct ref_outcome {
    int depth;      /* steps of the plan that lay behind the row when its logits were read     */
    int left;       /* 1 = it left at a gate                                                   */
    int asked;      /* gates at which a rule with a threshold was evaluated                    */
    double nearest; /* smallest distance of a measure to the threshold: small = decided by rounding */
    double measure[REF_MAX_GATES];
    int answers;    /* gates that were asked, with any rule                                    */
    int best, same; /* patience: the last best token, how often in a row                       */
    double least, most; /* range of the changes of length so far                               */
    int skipped;    /* steps that a gate skipped                                               */
    int around;     /* steps around which a router led it                                      */
} ref_outcome;

static inline double ref_dot(const double *a, const double *b, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* The number that the rule compares with its threshold. For the change of length: its size over the range of the changes so far, 0 among them, so that
   below the threshold means yes. */
static inline double ref_measure(const ref_state *s, int rule, int layer, const double *before, const double *h, ref_outcome *out)
{
    const ref_model *m = s->m;
    int first_gate = out->answers++ == 0;
    if (rule == LTX_EXIT_COSINE) return ref_dot(before, h, m->dim) / sqrt(ref_dot(before, before, m->dim) * ref_dot(h, h, m->dim));
    if (rule == LTX_EXIT_CHANGE) {
        double change = sqrt(ref_dot(h, h, m->dim)) - sqrt(ref_dot(before, before, m->dim));
        out->least = fmin(out->least, change);
        out->most = fmax(out->most, change);
        return out->most > out->least ? fabs(change) / (out->most - out->least) : 1e30;
    }
    if (rule == LTX_EXIT_PROBE) {
        double *a = ref_new(m->dim), z;
        ref_norm(m, h, &m->out_norm, &m->out_norm_bias, a);
        z = ref_dot(a, m->probes.w + (size_t)layer * (size_t)m->dim, m->dim) + m->probe_bias.w[layer];
        free(a);
        return 1.0 / (1.0 + exp(-z));
    }
    double *p = ref_new(m->vocab), first = 0.0, second = 0.0, entropy = 0.0;
    int best = 0;
    ref_head(s, h, p);
    ref_softmax(p, m->vocab);
    for (int i = 0; i < m->vocab; i++) {
        if (p[i] > p[best]) best = i;
        if (p[i] > first) second = first, first = p[i];
        else if (p[i] > second) second = p[i];
        if (p[i] > 0.0) entropy -= p[i] * log(p[i]);
    }
    free(p);
    if (rule == LTX_EXIT_PATIENCE) {
        out->nearest = fmin(out->nearest, first - second); /* rounding may choose another */
        out->same = !first_gate && best == out->best ? out->same + 1 : 1;
        out->best = best;
        return out->same;
    }
    if (rule == LTX_EXIT_PROB) return first;
    return rule == LTX_EXIT_MARGIN ? first - second : entropy;
}

/* A callback sees floats. Elements that it changed come back. */
static inline int32_t ref_call(const ref_state *s, ltx_gate_fn *fn, const ltx_policy *policy, ltx_view *view, const double *before,
                               double *h)
{
    int dim = s->m->dim, vocab = s->m->vocab;
    float *hidden = (float *)test_malloc(sizeof(float) * (size_t)(2 * dim + vocab)), *earlier = hidden + dim, *scores = earlier + dim;
    for (int i = 0; i < dim; i++) hidden[i] = (float)h[i], earlier[i] = before ? (float)before[i] : 0.0f;
    view->dim = dim;
    view->vocab = vocab;
    view->hidden = hidden;
    view->before = before ? earlier : NULL;
    view->logits = NULL;
    if (before && policy->want_logits) {
        double *logits = ref_new(vocab);
        ref_head(s, h, logits);
        for (int i = 0; i < vocab; i++) scores[i] = (float)logits[i];
        view->logits = scores;
        free(logits);
    }
    int32_t answer = fn(policy->user, view);
    for (int i = 0; i < dim; i++) {
        float unchanged = (float)h[i];
        if (memcmp(&hidden[i], &unchanged, sizeof unchanged) != 0) h[i] = (double)hidden[i];
    }
    free(hidden);
    return answer;
}

/* The answer of a gate: LTX_GO, LTX_LEAVE or how many steps to skip. */
static inline int32_t ref_ask(const ref_state *s, const ltx_policy *policy, ltx_view *view, const double *before, double *h,
                              ref_outcome *out)
{
    if (policy->rule == LTX_EXIT_NEVER) return LTX_GO;
    int32_t yes = policy->yes ? policy->yes : LTX_LEAVE;
    if (policy->rule == LTX_EXIT_ALWAYS) return yes;
    if (policy->rule == LTX_EXIT_ASK) return ref_call(s, policy->gate, policy, view, before, h);
    double threshold = (double)policy->threshold, measure = ref_measure(s, policy->rule, view->layer, before, h, out);
    if (policy->rule != LTX_EXIT_PATIENCE) out->nearest = fmin(out->nearest, fabs(measure - threshold));
    if (out->asked < REF_MAX_GATES) out->measure[out->asked++] = measure;
    if (policy->rule == LTX_EXIT_ENTROPY) return measure <= threshold ? yes : LTX_GO;
    if (policy->rule == LTX_EXIT_CHANGE) return measure < threshold ? yes : LTX_GO;
    return measure >= threshold ? yes : LTX_GO;
}

/* ==== rows ============================================================================================== */

typedef struct ref_input {
    int token;           /* -1: start from `embed` instead */
    const double *embed; /* [dim]                          */
    int wanted;          /* 1 = logits are wanted, so gates are asked */
} ref_input;

/* `base` is what steps beside others read: kept from before the step that they stand beside. */
static inline const double *ref_step_input(const ref_state *s, const ltx_plan *plan, int i, const double *h, double *base)
{
    if (plan->steps[i].run & LTX_BESIDE) return base;
    if (i + 1 < plan->count && plan->steps[i + 1].run & LTX_BESIDE) memcpy(base, h, sizeof(double) * (size_t)s->m->dim);
    return h;
}

static inline int ref_routed(ref_state *s, const ltx_step *step, const double *x, int wanted);
static inline int ref_run_step(ref_state *s, const ltx_plan *plan, int i, double *h, double *base, int wanted)
{
    const double *x = ref_step_input(s, plan, i, h, base);
    if (!ref_routed(s, &plan->steps[i], x, wanted)) return 0;
    if (plan->steps[i].run & LTX_ATTN) ref_attention(s, &plan->steps[i], s->position, x, h);
    if (plan->steps[i].run & LTX_FFN) ref_ffn(s, &plan->steps[i], x, h);
    return 1;
}

static inline void ref_tap(const ref_state *s, const ltx_policy *policy, ltx_view *view, double *h)
{
    if (policy->tap) ref_call(s, policy->tap, policy, view, NULL, h);
}

/* Does the router let the row run? Most of it is the model's affair: 1 without a router. */
static inline int ref_routed(ref_state *s, const ltx_step *step, const double *x, int wanted)
{
    const ref_layer *l = &s->m->layers[step->layer];
    double *a = ref_new(s->m->dim), z = l->router_bias.w ? l->router_bias.w[0] : 0.0;
    if (step->route > 0.0f || step->run & (LTX_WEIGH | LTX_WEIGH_FFN)) {
        memcpy(a, x, sizeof(double) * (size_t)s->m->dim);
        if (l->router_norm.w) { ref_mat none = {0, 0, 0, NULL}; ref_norm(s->m, x, &l->router_norm, &none, a); }
        for (int i = 0; i < s->m->dim; i++) z += a[i] * l->router.w[i];
        s->weight = 1.0 / (1.0 + exp(-z));
        if (step->route > 0.0f) s->nearest = fmin(s->nearest, fabs(s->weight - (double)step->route));
    }
    free(a);
    return step->route == 0.0f || s->weight > (double)step->route || (step->run & LTX_PROMPT && wanted);
}

/* Keys and values of steps first..last-1 from the state h. */
static inline void ref_fill(ref_state *s, const ltx_plan *plan, int first, int last, const double *h, double *base, int wanted)
{
    for (int i = first; i < last; i++) {
        const double *x = ref_step_input(s, plan, i, h, base);
        if ((plan->steps[i].run & (LTX_ATTN | LTX_SHARE)) != LTX_ATTN || plan->fill == LTX_FILL_NONE || !ref_routed(s, &plan->steps[i], x, wanted)) continue;
        ref_project(s, &plan->steps[i], s->position, x);
        s->fill_rows++;
    }
}

/* The steps of one row. A row that leaves under LTX_FILL_DEFER keeps its logits, then goes on to the end so that its keys and
   values are those of full depth. */
static inline void ref_run_steps(ref_state *s, const ltx_plan *plan, const ltx_policy *policy, const ref_input *in, double *h,
                                 double *logits, ref_outcome *out)
{
    double *before = ref_new(s->m->dim), *base = ref_new(s->m->dim);
    for (int i = 0; i < plan->count;) {
        const ltx_step *step = &plan->steps[i];
        ltx_view view = {.step = i, .layer = step->layer, .position = s->position, .token = in->token};
        memcpy(before, h, sizeof(double) * (size_t)s->m->dim);
        int ran = ref_run_step(s, plan, i, h, base, in->wanted);
        i++;
        if (!ran) { out->around++; continue; }
        ref_tap(s, policy, &view, h);
        if (!(in->wanted || policy->all_rows) || out->left || !step->gate || i == plan->count) continue;
        int32_t answer = ref_ask(s, policy, &view, before, h, out);
        if (answer == LTX_LEAVE) {
            out->left = 1;
            out->depth = i;
            if (in->wanted) ref_head(s, h, logits);
            if (plan->fill == LTX_FILL_DEFER) continue;
            ref_fill(s, plan, i, plan->count, h, base, in->wanted);
            break;
        }
        if (answer == LTX_UNDO) { memcpy(h, before, sizeof(double) * (size_t)s->m->dim); continue; }
        int next = answer < plan->count - i ? i + answer : plan->count;
        ref_fill(s, plan, i, next, h, base, in->wanted);
        out->skipped += next - i;
        i = next;
    }
    if (in->wanted && !out->left) {
        out->depth = plan->count;
        ref_head(s, h, logits);
    }
    free(before);
    free(base);
}

/* One token (or embedding) through the plan. logits [vocab] and the depth are written if they are wanted. policy may be NULL. */
static inline void ref_row_run(ref_state *s, const ltx_plan *plan, const ltx_policy *policy, const ref_input *in, double *logits,
                               ref_outcome *out)
{
    const ref_model *m = s->m;
    ltx_policy none;
    ltx_step *steps = (ltx_step *)test_malloc(sizeof(ltx_step) * (size_t)m->n_layers);
    ltx_plan full = ref_plan_full(m, steps);
    double *h = ref_new(m->dim);
    memset(&none, 0, sizeof none);
    memset(out, 0, sizeof *out);
    out->nearest = s->nearest = 1e30;
    if (!plan || !plan->steps) plan = &full;
    if (!policy) policy = &none;
    const double *start = in->token >= 0 ? m->embed.w + (size_t)in->token * (size_t)m->dim : in->embed;
    memcpy(h, start, sizeof(double) * (size_t)m->dim);
    ltx_view view = {.step = -1, .layer = -1, .position = s->position, .token = in->token};
    ref_tap(s, policy, &view, h);
    ref_run_steps(s, plan, policy, in, h, logits, out);
    s->position++;
    out->nearest = fmin(out->nearest, s->nearest);
    free(h);
    free(steps);
}

#endif /* REF_H */
