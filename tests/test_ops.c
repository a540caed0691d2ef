/* test_ops.c - every tensor operation of ltx.h against the reference, on every instruction set of this machine
   SPDX-License-Identifier: MIT

   Two questions each time: is the result right (against double precision), and is it the same bits on every instruction
   set, length, alignment and batch size. */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "k_blocks.h"
#include "ref.h"
#include "test.h"

#include <float.h>

/* Sixteen float chains and a tree over at most 1000 terms: about 70 roundings of 2^-24 each in the worst order, relative to
   the sum of the sizes of the terms. */
#define FLOAT_SUM_TOL 4e-6
/* One chain over blocks of 32: as above with fewer terms, the promise of the contract is 1e-5. */
#define QUANT_SUM_TOL 1e-5
/* Two links of a chain per super-block of 256, relative to the sizes of what they add: at most eight roundings here. */
#define K_SUM_TOL 1e-6
/* exp, a division and a sum: a few roundings relative to the largest probability. */
#define SOFTMAX_TOL 1e-6
/* Norms: a sum of squares, a root, two products. */
#define NORM_TOL 2e-6
/* Two products of numbers of size 1 with a sine that is good to 1e-7. */
#define ROPE_TOL 1e-6
/* Probabilities after renormalising. */
#define PROBS_TOL 2e-6
/* A cumulated probability closer than this to top_p, or a probability to min_p, may fall on either side. */
#define PROBS_TIE 1e-5

static const int lengths[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 64, 255, 256, 257};
enum { N_LENGTHS = sizeof lengths / sizeof lengths[0] };

static const int formats[] = {LTX_F32, LTX_F16, LTX_BF16, LTX_Q8_0, LTX_Q4_0};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };
static const int k_formats[] = {LTX_Q4_K, LTX_Q5_K, LTX_Q6_K};

static int has_isa(int isa)
{
    return (ltx_isa_mask() >> isa & 1u) != 0;
}

static void fill_gauss(test_rng *r, float *x, int n, double scale)
{
    for (int i = 0; i < n; i++) x[i] = (float)(scale * test_gauss(r));
}

/* Bits equal, where any NaN equals any NaN. */
static int same_floats(const float *a, const float *b, int n)
{
    for (int i = 0; i < n; i++)
        if (ref_bits(a[i]) != ref_bits(b[i]) && !(isnan(a[i]) && isnan(b[i]))) return 0;
    return 1;
}

static float *new_floats(int n)
{
    return (float *)test_malloc(sizeof(float) * (size_t)n);
}

/* Doubles of floats. */
static double *widen(const float *x, int n)
{
    double *d = ref_new(n);
    for (int i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}

/* ==== formats =========================================================================================== */

static void isa_mask(void)
{
    CHECK(has_isa(LTX_ISA_SCALAR));
    printf("instruction sets:");
    for (int isa = 1; isa < LTX_ISA_COUNT; isa++)
        if (has_isa(isa)) printf(" %s", ltx_isa_name(isa));
    printf("\n");
}

static void row_bytes(void)
{
    CHECK_EQ(ltx_row_bytes(LTX_F32, 7), 28);
    CHECK_EQ(ltx_row_bytes(LTX_F16, 7), 14);
    CHECK_EQ(ltx_row_bytes(LTX_BF16, 7), 14);
    CHECK_EQ(ltx_row_bytes(LTX_Q8_0, 64), 68);
    CHECK_EQ(ltx_row_bytes(LTX_Q4_0, 64), 36);
    CHECK_EQ(ltx_row_bytes(LTX_Q8_0, 33), 0);
    CHECK_EQ(ltx_row_bytes(LTX_Q4_0, 31), 0);
    CHECK_EQ(ltx_row_bytes(LTX_Q4_K, 512), 288);
    CHECK_EQ(ltx_row_bytes(LTX_Q5_K, 512), 352);
    CHECK_EQ(ltx_row_bytes(LTX_Q6_K, 512), 420);
    for (int f = 0; f < 3; f++) {
        CHECK_EQ(ltx_row_bytes(k_formats[f], 0), 0);
        CHECK_EQ(ltx_row_bytes(k_formats[f], 32), 0);
        CHECK_EQ(ltx_row_bytes(k_formats[f], 255), 0);
        CHECK_EQ(ltx_row_bytes(k_formats[f], -256), 0);
    }
    CHECK_EQ(ltx_row_bytes(5, 32), 0);
    CHECK_EQ(ltx_row_bytes(11, 256), 0);
    CHECK_EQ(ltx_row_bytes(15, 256), 0);
    CHECK(strcmp(ltx_type_name(LTX_Q8_0), "Q8_0") == 0);
    CHECK(strcmp(ltx_type_name(LTX_Q4_K), "Q4_K") == 0 && strcmp(ltx_type_name(LTX_Q5_K), "Q5_K") == 0 && strcmp(ltx_type_name(LTX_Q6_K), "Q6_K") == 0);
    CHECK(strcmp(ltx_type_name(77), "?") == 0);
}

/* All 65536 codes of a 16-bit format: decoded exactly, and encoded back. */
static void all_codes(int type, double (*decode)(unsigned))
{
    enum { N = 65536 };
    unsigned char *codes = (unsigned char *)test_malloc(2 * N), *back = (unsigned char *)test_malloc(2 * N);
    float *x = new_floats(N);
    for (unsigned h = 0; h < N; h++) ref_put16(codes + 2 * h, h);
    CHECK_EQ(ltx_dequantize(type, codes, N, x), LTX_OK);
    CHECK_EQ(ltx_quantize(type, x, N, back), LTX_OK);
    for (unsigned h = 0; h < N; h++) {
        double want = decode(h);
        if (isnan(want)) {
            CHECK(isnan(x[h]));
            CHECK(isnan(decode(ref_u16(back + 2 * h))));
        } else {
            CHECK_EQ(ref_bits(x[h]), ref_bits((float)want));
            CHECK_EQ(ref_u16(back + 2 * h), h);
        }
    }
    free(codes);
    free(back);
    free(x);
}

static void half_codes(void)
{
    all_codes(LTX_F16, ref_from_half);
}

static void bfloat_codes(void)
{
    all_codes(LTX_BF16, ref_from_bfloat);
}

static unsigned encode16(int type, float x)
{
    unsigned char out[2] = {0, 0};
    CHECK_EQ(ltx_quantize(type, &x, 1, out), LTX_OK);
    return ref_u16(out);
}

/* Floats in the middle of two neighbours and just beside it. */
static void half_rounding(void)
{
    for (unsigned h = 0; h < 0x7bffu; h++) {
        float middle = (float)((ref_from_half(h) + ref_from_half(h + 1)) / 2.0);
        CHECK_EQ(encode16(LTX_F16, middle), h + (h & 1u));
        CHECK_EQ(encode16(LTX_F16, nextafterf(middle, 0.0f)), h);
        CHECK_EQ(encode16(LTX_F16, nextafterf(middle, 1e9f)), h + 1);
        CHECK_EQ(encode16(LTX_F16, -middle), (h + (h & 1u)) | 0x8000u);
    }
    CHECK_EQ(encode16(LTX_F16, nextafterf(65520.0f, 0.0f)), 0x7bff);
    CHECK_EQ(encode16(LTX_F16, 65520.0f), 0x7c00);
    CHECK_EQ(encode16(LTX_F16, 3e38f), 0x7c00);
    CHECK_EQ(encode16(LTX_F16, -INFINITY), 0xfc00);
    CHECK_EQ(encode16(LTX_F16, 1e-45f), 0);
}

/* Float bit patterns everywhere against the reference encoders; NaNs with only low bits set must stay NaNs. */
static void encode_patterns(void)
{
    for (uint32_t u = 0; u < 0xffff0000u; u += 65521u / 3u) {
        float x = (float)ref_from_bits(u);
        if (isnan(x)) continue;
        CHECK_EQ(encode16(LTX_F16, x), ref_to_half((double)x));
        CHECK_EQ(encode16(LTX_BF16, x), ref_to_bfloat(x));
    }
    const uint32_t nans[] = {0x7f800001u, 0xff800001u, 0x7fc00000u, 0x7fffffffu, 0x7f801000u};
    for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++) {
        float x;
        memcpy(&x, &nans[i], sizeof x);
        CHECK(isnan(ref_from_half(encode16(LTX_F16, x))));
        CHECK(isnan(ref_from_bfloat(encode16(LTX_BF16, x))));
    }
    const uint32_t ties[][2] = {{0x3f808000u, 0x3f80u}, {0x3f818000u, 0x3f82u}, {0x3f808001u, 0x3f81u}, {0x7f7fffffu, 0x7f80u}, {0x00008000u, 0}};
    for (size_t i = 0; i < sizeof ties / sizeof ties[0]; i++)
        CHECK_EQ(encode16(LTX_BF16, (float)ref_from_bits(ties[i][0])), ties[i][1]);
}

/* One block of random numbers: the scale is the promised half, no value is off by more than half a step. */
static void check_block(int type, const float *x, const unsigned char *block)
{
    double *wide = widen(x, REF_BLOCK), y[REF_BLOCK], most = ref_largest(wide, REF_BLOCK);
    float want = type == LTX_Q8_0 ? (float)fabs(most) / 127.0f : (float)most / -8.0f;
    unsigned half = ref_u16(block);
    CHECK_EQ(half, ref_to_half((double)want));
    ref_decode_row(type, block, REF_BLOCK, y);
    double stored = ref_from_half(half), exact = (double)want;
    for (int i = 0; i < REF_BLOCK; i++) {
        if (exact == 0.0 || stored == 0.0) continue;
        double q = y[i] / stored, target = wide[i] / exact, room = 0.5 + 1e-4;
        if (type == LTX_Q4_0 && target > 7.0) room = target - 7.0 + 1e-4; /* +8 does not exist: 7 stands for up to 8 */
        CHECK_NEAR(q, target, room);
    }
    free(wide);
}

static void quantize_random(void)
{
    enum { N = 64 * REF_BLOCK };
    test_rng r = {11};
    float *x = new_floats(N), *y = new_floats(N);
    double *want = ref_new(N);
    for (int f = 3; f < N_FORMATS; f++) {
        int type = formats[f];
        size_t bytes = ref_row_bytes(type, REF_BLOCK);
        test_block out = test_alloc_at(ref_row_bytes(type, N), 2, 1);
        for (int b = 0; b < N; b += REF_BLOCK) fill_gauss(&r, x + b, REF_BLOCK, ldexp(1.0, b / REF_BLOCK % 24 - 16));
        for (int i = 0; i < REF_BLOCK; i++) x[i] = 0.0f;
        CHECK_EQ(ltx_quantize(type, x, N, out.ptr), LTX_OK);
        for (int b = 0; b < N / REF_BLOCK; b++) check_block(type, x + b * REF_BLOCK, out.ptr + (size_t)b * bytes);
        CHECK_EQ(ltx_dequantize(type, out.ptr, N, y), LTX_OK);
        ref_decode_row(type, out.ptr, N, want);
        for (int i = 0; i < N; i++) CHECK(y[i] == (float)want[i]);
        for (int i = 0; i < REF_BLOCK; i++) CHECK(y[i] == 0.0f);
        test_free(&out);
    }
    free(x);
    free(y);
    free(want);
}

static void quantize_known(void)
{
    float x[REF_BLOCK], y[REF_BLOCK];
    unsigned char out[34];
    for (int i = 0; i < REF_BLOCK; i++) x[i] = (float)(127 - 8 * i);
    CHECK_EQ(ltx_quantize(LTX_Q8_0, x, REF_BLOCK, out), LTX_OK);
    CHECK_EQ(ref_u16(out), 0x3c00);
    CHECK_EQ(ltx_dequantize(LTX_Q8_0, out, REF_BLOCK, y), LTX_OK);
    CHECK(memcmp(x, y, sizeof x) == 0);
    x[1] = 0.5f, x[2] = 1.5f, x[3] = -2.5f, x[4] = 3.5f; /* the scale is 1: halves go to even */
    CHECK_EQ(ltx_quantize(LTX_Q8_0, x, REF_BLOCK, out), LTX_OK);
    CHECK_EQ(ltx_dequantize(LTX_Q8_0, out, REF_BLOCK, y), LTX_OK);
    CHECK(y[1] == 0.0f && y[2] == 2.0f && y[3] == -2.0f && y[4] == 4.0f);
    for (int i = 0; i < REF_BLOCK; i++) x[i] = (float)(i % 16 - 8) * 0.25f;
    CHECK_EQ(ltx_quantize(LTX_Q4_0, x, REF_BLOCK, out), LTX_OK);
    CHECK_EQ(ref_u16(out), 0x3400);
    CHECK_EQ(out[2], 0x00); /* elements 0 and 16 are both -8 steps */
    CHECK_EQ(out[2 + 9], 0x99);
    CHECK_EQ(ltx_dequantize(LTX_Q4_0, out, REF_BLOCK, y), LTX_OK);
    CHECK(memcmp(x, y, sizeof x) == 0);
}

static void quantize_refuses(void)
{
    float x[64] = {0};
    unsigned char out[128];
    memset(out, 7, sizeof out);
    CHECK_EQ(ltx_quantize(LTX_Q8_0, x, 33, out), LTX_E_ARG);
    CHECK_EQ(ltx_quantize(LTX_Q4_0, x, 31, out), LTX_E_ARG);
    for (int f = 0; f < 3; f++) {
        CHECK_EQ(ltx_quantize(k_formats[f], x, 32, out), LTX_E_ARG);
        CHECK_EQ(ltx_dequantize(k_formats[f], out, 64, x), LTX_E_ARG);
        CHECK_EQ(ltx_quantize(k_formats[f], x, -256, out), LTX_E_ARG);
    }
    CHECK_EQ(ltx_quantize(77, x, 32, out), LTX_E_ARG);
    CHECK_EQ(ltx_dequantize(LTX_Q8_0, out, 33, x), LTX_E_ARG);
    CHECK_EQ(ltx_dequantize(77, out, 32, x), LTX_E_ARG);
    for (size_t i = 0; i < sizeof out; i++) CHECK_EQ(out[i], 7);
    for (int i = 0; i < 64; i++) CHECK(x[i] == 0.0f);
}

/* ---- K formats ---- */

/* Any bytes, with a finite d and dmin (sign and denormals included) if asked. */
static void random_super(test_rng *r, int type, int finite, unsigned char *block)
{
    size_t bytes = ref_row_bytes(type, REF_SUPER), at = type == LTX_Q6_K ? 208 : 0;
    for (size_t i = 0; i < bytes; i++) block[i] = (unsigned char)test_int(r, 256);
    for (size_t i = at; finite && i < at + (type == LTX_Q6_K ? 2 : 4); i += 2)
        if ((block[i + 1] & 0x7c) == 0x7c) block[i + 1] = (unsigned char)(block[i + 1] & 0xbf);
}

/* The values are exact in double, so they have one right rounding. All bytes, at odd addresses; not finite only where the reference is. */
static void k_decode(void)
{
    test_rng r = {411};
    for (int f = 0; f < 3; f++)
        for (int round = 0; round < 400; round++) {
            int type = k_formats[f], n = 1 + round % 3;
            size_t bytes = ref_row_bytes(type, REF_SUPER);
            test_block in = test_alloc_at((size_t)n * bytes, 2, 1), out = test_alloc_at((size_t)n * REF_SUPER * 4, 16, 4);
            double want[3 * REF_SUPER];
            float *y = (float *)(void *)out.ptr;
            for (int b = 0; b < n; b++) random_super(&r, type, round % 8 != 7, in.ptr + (size_t)b * bytes);
            CHECK_EQ(ltx_dequantize(type, in.ptr, n * REF_SUPER, y), LTX_OK);
            ref_decode_row(type, in.ptr, n * REF_SUPER, want);
            for (int i = 0; i < n * REF_SUPER; i++) CHECK(isnan(want[i]) ? isnan(y[i]) : ref_bits(y[i]) == ref_bits((float)want[i]));
            test_free(&in);
            test_free(&out);
        }
}

static double squared_error(const float *x, const float *y, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sum;
}

/* Super-blocks of another engine: decoded to its bits; our own of the same numbers are as good. */
static void k_recorded(void)
{
    static const unsigned char *const bytes[] = {q4_k_bytes, q5_k_bytes, q6_k_bytes};
    static const uint32_t *const floats[] = {q4_k_floats, q5_k_floats, q6_k_floats};
    float x[512], theirs[512], ours[512];
    unsigned char out[420];
    k_inputs(x);
    for (int f = 0; f < 3; f++) {
        CHECK_EQ(ltx_dequantize(k_formats[f], bytes[f], 512, theirs), LTX_OK);
        for (int i = 0; i < 512; i++) CHECK_EQ(ref_bits(theirs[i]), floats[f][i]);
        CHECK_EQ(ltx_quantize(k_formats[f], x, 512, out), LTX_OK);
        CHECK_EQ(ltx_dequantize(k_formats[f], out, 512, ours), LTX_OK);
        for (int b = 0; b < 512; b += REF_SUPER) {
            double a = squared_error(x + b, ours + b, REF_SUPER), c = squared_error(x + b, theirs + b, REF_SUPER);
            printf("%s, super-block %d: squared error %.4g, %.3f of the other engine's\n", ltx_type_name(k_formats[f]), b / REF_SUPER, a, a / c);
            CHECK(a <= 1.1 * c);
        }
    }
}

/* x through a format; the bytes lie between fences at an odd address and decode as the reference says. */
static void through(int type, const float *x, int n, float *y)
{
    test_block in = test_alloc_at((size_t)n * 4, 16, 4), out = test_alloc_at(ref_row_bytes(type, n), 2, 1);
    double *want = ref_new(n);
    memcpy(in.ptr, x, (size_t)n * 4);
    CHECK_EQ(ltx_quantize(type, (const float *)(const void *)in.ptr, n, out.ptr), LTX_OK);
    CHECK_EQ(ltx_dequantize(type, out.ptr, n, y), LTX_OK);
    ref_decode_row(type, out.ptr, n, want);
    for (int i = 0; i < n; i++) CHECK(isnan(want[i]) ? isnan(y[i]) : ref_bits(y[i]) == ref_bits((float)want[i]));
    free(want);
    test_free(&in);
    test_free(&out);
}

/* Numbers of kind 0 around zero, 1 with a few large ones, 2 off the middle, 3 all on one side, 4 sub-blocks of different sizes. */
static void k_numbers(test_rng *r, int kind, double scale, float *x)
{
    for (int i = 0; i < REF_SUPER; i++) {
        double v = test_gauss(r), size = ldexp(1.0, i / 32 % 4 - 2);
        x[i] = (float)(scale * (kind == 1 ? v * v * v : kind == 2 ? v - 4.0 : kind == 3 ? v + 8.0 : kind == 4 ? v * size : v));
    }
}

/* Root mean square of the error in steps of a uniform grid over the range of a sub-block with zero, which would have sqrt(1 / 12) = 0.289;
   the integer scales cost a little, and no number may be further off than this many steps of the widest sub-block. */
static void k_errors(void)
{
    static const double most[3] = {0.33, 0.33, 0.36}, furthest[3] = {1.0, 0.9, 0.8};
    test_rng r = {421};
    float x[REF_SUPER], y[REF_SUPER];
    for (int f = 0; f < 3; f++) {
        double worst = 0.0, far = 0.0;
        int type = k_formats[f], n = type == LTX_Q6_K ? 16 : 32;
        for (int round = 0; round < 500; round++) {
            double squares = 0.0, widest = 0.0, off = 0.0;
            k_numbers(&r, round % 5, ldexp(1.0, round % 21 - 14), x);
            through(type, x, REF_SUPER, y);
            for (int j = 0; j < REF_SUPER; j += n) {
                double low = 0.0, high = 0.0, step;
                for (int i = j; i < j + n; i++) low = fmin(low, (double)x[i]), high = fmax(high, (double)x[i]);
                step = type == LTX_Q6_K ? fmax(high, -low) / 32.0 : (high - low) / (type == LTX_Q4_K ? 15.0 : 31.0);
                widest = fmax(widest, step);
                squares += squared_error(x + j, y + j, n) / (step * step);
                for (int i = j; i < j + n; i++) off = fmax(off, fabs((double)x[i] - (double)y[i]));
            }
            worst = fmax(worst, sqrt(squares / REF_SUPER));
            far = fmax(far, off / widest);
        }
        printf("%s: error of a super-block up to %.3f steps (allowed %.2f), of a number %.3f of the widest (allowed %.1f)\n", ltx_type_name(type), worst, most[f], far, furthest[f]);
        CHECK(worst <= most[f] && far <= furthest[f]);
    }
}

/* A super-block that uses its whole range: largest scale and min, both ends of q in each sub-block. */
static ref_super full_super(test_rng *r, int type)
{
    ref_super s;
    int six = type == LTX_Q6_K, top = type == LTX_Q4_K ? 15 : 31, n = six ? 16 : 32;
    memset(&s, 0, sizeof s);
    s.d = ref_from_half((unsigned)(test_int(r, six ? 2 : 1) << 15 | (8 + test_int(r, 8)) << 10 | test_int(r, 1024)));
    if (!six) s.dmin = ref_round_half(s.d * (2.0 + 8.0 * test_uniform(r)));
    for (int j = 0; j < REF_SUPER / n; j++) {
        s.scale[j] = six ? test_int(r, 256) - 128 : 1 + test_int(r, 63);
        if (!six) s.min[j] = test_int(r, 64);
    }
    s.scale[test_int(r, 8)] = six ? -128 : 63;
    if (!six) s.min[test_int(r, 8)] = 63;
    for (int e = 0; e < REF_SUPER; e++) {
        s.q[e] = six ? test_int(r, 64) - 32 : test_int(r, top + 1);
        if (e % n == 3) s.q[e] = six ? -32 : 0;
        if (e % n == 8 && !six) s.q[e] = top;
    }
    return s;
}

/* What a super-block can hold comes back bit for bit, and so do zeros. */
static void k_round_trip(void)
{
    test_rng r = {431};
    float x[REF_SUPER], y[REF_SUPER];
    unsigned char block[210];
    for (int f = 0; f < 3; f++)
        for (int round = 0; round < 300; round++) {
            int type = k_formats[f];
            ref_super s = full_super(&r, type);
            for (int e = 0; e < REF_SUPER; e++) x[e] = (float)ref_super_value(type, &s, e);
            through(type, x, REF_SUPER, y);
            for (int e = 0; e < REF_SUPER; e++) CHECK(x[e] == y[e]); /* a zero may change its sign */
            ref_super_write(type, &s, block);
            CHECK_EQ(ltx_dequantize(type, block, REF_SUPER, y), LTX_OK);
            CHECK(memcmp(x, y, sizeof x) == 0);
        }
    memset(x, 0, sizeof x);
    for (int f = 0; f < 3; f++) {
        memset(block, 7, sizeof block);
        CHECK_EQ(ltx_quantize(k_formats[f], x, REF_SUPER, block), LTX_OK);
        for (size_t i = 0; i < ref_row_bytes(k_formats[f], REF_SUPER); i++) CHECK_EQ(block[i], 0);
        for (int e = 0; e < REF_SUPER; e++) x[e] = -0.0f;
        through(k_formats[f], x, REF_SUPER, y);
        for (int e = 0; e < REF_SUPER; e++) CHECK(y[e] == 0.0f);
    }
}

/* Sizes from denormals to the largest float: small ones become zeros, too large ones not finite, all others are within a
   step, which is a fifteenth or thirty-first of a range of 2, a thirty-second of 1. */
static void k_extremes(void)
{
    static const double room[3] = {2.0 / 15.0, 2.0 / 31.0, 1.0 / 32.0};
    float x[REF_SUPER], y[REF_SUPER];
    for (int f = 0; f < 3; f++)
        for (int e = -149; e <= 127; e += 3)
            for (int kind = 0; kind < 6; kind++) {
                double size = ldexp(1.0, e), most = 0.0;
                for (int i = 0; i < REF_SUPER; i++) {
                    int v = kind == 0 ? 1 : kind == 1 ? -1 : kind == 2 ? (i % 2 ? 1 : -1) : kind == 3 ? i == 77 : kind == 4 ? -(i == 200) : i % 9 - 4;
                    x[i] = (float)(size * v / (kind == 5 ? 4.0 : 1.0));
                    most = fmax(most, fabs((double)x[i]));
                }
                through(k_formats[f], x, REF_SUPER, y);
                for (int i = 0; i < REF_SUPER; i++) {
                    if (e <= -40) CHECK(y[i] == 0.0f);
                    else if (e >= 30) CHECK(!isfinite(y[i]));
                    else if (e >= -10 && e <= 20) CHECK_NEAR((double)y[i], (double)x[i], most * room[f]);
                }
            }
    for (int i = 0; i < REF_SUPER; i++) x[i] = i % 2 ? FLT_MAX : -FLT_MAX; /* the range is no float any more */
    for (int f = 0; f < 3; f++) {
        through(k_formats[f], x, REF_SUPER, y);
        for (int i = 0; i < REF_SUPER; i++) CHECK(!isfinite(y[i]));
    }
}

/* One number that is none spoils its block or super-block, visibly, and no other. */
static void not_finite(void)
{
    static const int types[] = {LTX_Q8_0, LTX_Q4_0, LTX_Q4_K, LTX_Q5_K, LTX_Q6_K};
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    test_rng r = {441};
    float x[3 * REF_SUPER], y[3 * REF_SUPER], clean[3 * REF_SUPER];
    fill_gauss(&r, x, 3 * REF_SUPER, 0.1);
    for (int f = 0; f < 5; f++) {
        int block = ref_block_of(types[f]);
        through(types[f], x, 3 * block, clean);
        for (int at = block; at < 2 * block; at += 17) {
            float old = x[at];
            x[at] = bad[at % 4];
            through(types[f], x, 3 * block, y);
            for (int i = block; i < 2 * block; i++) CHECK(isnan(y[i]));
            CHECK(memcmp(y, clean, (size_t)block * 4) == 0 && memcmp(y + 2 * block, clean + 2 * block, (size_t)block * 4) == 0);
            x[at] = old;
        }
        for (int i = 0; i < 3 * block; i++) y[i] = bad[i % 4];
        through(types[f], y, 3 * block, y);
        for (int i = 0; i < 3 * block; i++) CHECK(isnan(y[i]));
    }
}

/* ==== functions ========================================================================================= */

/* Size of the last place of the float nearest to `want`. */
static double ulp_of(double want)
{
    int e = 0;
    frexp(want, &e);
    if (want == 0.0 || e < -125) e = -125;
    return ldexp(1.0, (e > 128 ? 128 : e) - 24);
}

/* Error in ulp. Infinity stands for 2^128, the first number that is none. */
static double ulp_error(float got, double want)
{
    const double top = ldexp(1.0, 128);
    double g = (double)got;
    if (isnan(got)) return 1e30;
    if (isinf(g)) g = g > 0.0 ? top : -top;
    want = fmin(fmax(want, -top), top);
    return fabs(g - want) / ulp_of(want);
}

typedef struct function {
    const char *name;
    int    fn;
    double bound;             /* ulp, from the API                                                          */
    double (*exact)(double);
    double from, to;          /* tested inputs                                                              */
    double tiny;              /* results smaller than this are held to `tiny_tol` absolute instead          */
    double tiny_tol;
} function;

static const function functions[] = {
    {"exp", LTX_FN_EXP, 1.0, exp, -4e38, 4e38, 0.0, 0.0},
    {"log", LTX_FN_LOG, 1.0, log, 1e-46, 4e38, 0.0, 0.0},
    {"silu", LTX_FN_SILU, 2.5, ref_silu, -4e38, 4e38, 1e-36, 1e-36},
    {"gelu", LTX_FN_GELU, 4.0, ref_gelu, -1.0, 4e38, 0.0, 0.0},
    {"gelu", LTX_FN_GELU, 20.0, ref_gelu, -4.0, -1.0, 0.0, 0.0},
    {"gelu", LTX_FN_GELU, 20.0, ref_gelu, -4e38, -4.0, 1.0, 1e-9},
    {"tanh", LTX_FN_TANH, 3.0, tanh, -4e38, 4e38, 0.0, 0.0},
    {"sin", LTX_FN_SIN, 2.0, sin, -4194304.0, 4194304.0, 0.0625, 1e-7},
    {"cos", LTX_FN_COS, 2.0, cos, -4194304.0, 4194304.0, 0.0625, 1e-7},
};
enum { N_FUNCTIONS = sizeof functions / sizeof functions[0], CHUNK = 8192 };

typedef struct worst {
    double ulp, tiny; /* largest errors */
    float  at;
} worst;

/* Scalar results of a chunk against the exact function, then all other sets against scalar. */
static void check_chunk(const function *f, const float *x, int n, worst *w)
{
    float y[CHUNK], z[CHUNK];
    CHECK_EQ(ltx_map(LTX_ISA_SCALAR, (ltx_fn)f->fn, x, n, y), LTX_OK);
    for (int i = 0; i < n; i++) {
        double v = (double)x[i];
        if (isnan(v) || isinf(v) || v < f->from || v > f->to) continue;
        double want = f->exact(v);
        if (fabs(want) < f->tiny) {
            w->tiny = fmax(w->tiny, isnan(y[i]) ? 1e30 : fabs((double)y[i] - want));
        } else if (ulp_error(y[i], want) > w->ulp) {
            w->ulp = ulp_error(y[i], want);
            w->at = x[i];
        }
    }
    for (int isa = LTX_ISA_SCALAR + 1; isa < LTX_ISA_COUNT; isa++) {
        if (!has_isa(isa)) continue;
        CHECK_EQ(ltx_map(isa, (ltx_fn)f->fn, x, n, z), LTX_OK);
        if (!CHECK(same_floats(y, z, n))) printf("  %s on %s\n", f->name, ltx_isa_name(isa));
    }
}

/* Every exponent, by bit patterns at a prime distance. */
static void sweep_patterns(const function *f, worst *w)
{
    float x[CHUNK];
    uint64_t u = 0;
    while (u < 0x100000000u) {
        int n = 0;
        for (; n < CHUNK && u < 0x100000000u; n++, u += 2011) x[n] = (float)ref_from_bits((uint32_t)u);
        check_chunk(f, x, n, w);
    }
}

/* Dense where models live, and around the places where results overflow, vanish or saturate. */
static void sweep_dense(const function *f, worst *w)
{
    static const float places[] = {0.0f,    1.0f,    -1.0f,   88.722839f, -87.336545f, -103.97208f, -103.27893f, 88.376263f, 9.0109f, -9.0109f,
                                   0.6931f, 0.3466f, 1.5708f, 3.14159f,   0.78539f,    -88.72284f,  1.4142f,     0.70710f,   5.0f,    -5.5f};
    float x[CHUNK];
    test_rng r = {21};
    for (int range = 0; range < 5; range++)
        for (int repeat = 0; repeat < 8; repeat++) {
            static const double widths[] = {0.1, 1.0, 10.0, 110.0, 4194304.0};
            for (int i = 0; i < CHUNK; i++) x[i] = (float)(widths[range] * (2.0 * test_uniform(&r) - 1.0));
            check_chunk(f, x, CHUNK, w);
        }
    for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
        x[0] = places[p];
        for (int i = 1; i < CHUNK / 2; i++) x[i] = nextafterf(x[i - 1], 1e9f);
        x[CHUNK / 2] = places[p];
        for (int i = CHUNK / 2 + 1; i < CHUNK; i++) x[i] = nextafterf(x[i - 1], -1e9f);
        check_chunk(f, x, CHUNK, w);
    }
}

static void function_errors(void)
{
    for (int i = 0; i < N_FUNCTIONS; i++) {
        const function *f = &functions[i];
        worst w = {0.0, 0.0, 0.0f};
        sweep_patterns(f, &w);
        sweep_dense(f, &w);
        printf("%-5s largest error %.4f ulp at %.9g (allowed %.1f)", f->name, w.ulp, (double)w.at, f->bound);
        if (f->tiny > 0.0) printf(", %.3g absolute where |y| < %.3g", w.tiny, f->tiny);
        printf("\n");
        CHECK(w.ulp <= f->bound);
        CHECK(w.tiny <= f->tiny_tol);
    }
}

/* The result of an element depends on nothing around it: any length, any alignment, in place. */
static void function_lengths(void)
{
    enum { N = 260 };
    test_rng r = {31};
    float x[N], want[N];
    for (int f = 0; f < N_FUNCTIONS; f++)
        for (int l = 0; l < N_LENGTHS; l++)
            for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
                int n = lengths[l];
                if (!has_isa(isa)) continue;
                fill_gauss(&r, x, n, 3.0);
                for (int i = 0; i < n; i++) ltx_map(LTX_ISA_SCALAR, (ltx_fn)functions[f].fn, x + i, 1, want + i);
                test_block b = test_alloc_at(sizeof(float) * (size_t)n, 64, 4);
                memcpy(b.ptr, x, b.size);
                CHECK_EQ(ltx_map(isa, (ltx_fn)functions[f].fn, (float *)(void *)b.ptr, n, (float *)(void *)b.ptr), LTX_OK);
                CHECK(same_floats(want, (const float *)(const void *)b.ptr, n));
                test_free(&b);
            }
}

/* A NaN must come through, else it could not be reported. */
static void function_nan(void)
{
    static const int fns[] = {LTX_FN_EXP, LTX_FN_SILU, LTX_FN_GELU, LTX_FN_TANH, LTX_FN_LOG};
    float x[17], y[17];
    for (size_t f = 0; f < sizeof fns / sizeof fns[0]; f++)
        for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
            if (!has_isa(isa)) continue;
            for (int i = 0; i < 17; i++) x[i] = i % 2 ? NAN : 1.0f;
            CHECK_EQ(ltx_map(isa, (ltx_fn)fns[f], x, 17, y), LTX_OK);
            for (int i = 0; i < 17; i++) CHECK((i % 2) == (isnan(y[i]) ? 1 : 0));
        }
}

/* ==== norms, softmax, rope ============================================================================== */

static void check_rmsnorm(int isa, const float *x, const float *w, int n, double scale, const float *first)
{
    double *wx = widen(x, n), *ww = w ? widen(w, n) : NULL, *want = ref_new(n);
    test_block weight = test_alloc_at(sizeof(float) * (size_t)n, 4, 3), y = test_alloc_at(sizeof(float) * (size_t)n, 64, 4);
    float *out = (float *)(void *)y.ptr;
    if (w) memcpy(weight.ptr, w, weight.size);
    ref_rmsnorm(wx, ww, n, 1e-5, want);
    memcpy(out, x, y.size);
    CHECK_EQ(ltx_rmsnorm(isa, out, w ? weight.ptr : NULL, n, 1e-5f, out), LTX_OK);
    for (int i = 0; i < n; i++) CHECK_NEAR((double)out[i], want[i], NORM_TOL * fabs(want[i]) + 1e-38 * scale);
    if (first) CHECK(same_floats(first, out, n));
    test_free(&weight);
    test_free(&y);
    free(wx);
    free(ww);
    free(want);
}

static void rmsnorm(void)
{
    enum { N = 260 };
    static const double scales[] = {1.0, 1e-4, 1e4, 1e-12};
    test_rng r = {41};
    float x[N], w[N], first[N];
    for (int l = 0; l < N_LENGTHS; l++)
        for (int c = 0; c < 4; c++) {
            int n = lengths[l];
            fill_gauss(&r, x, n, scales[c]);
            fill_gauss(&r, w, n, 1.0);
            const float *weight = c == 1 ? NULL : w;
            CHECK_EQ(ltx_rmsnorm(LTX_ISA_SCALAR, x, weight, n, 1e-5f, first), LTX_OK);
            for (int isa = 1; isa < LTX_ISA_COUNT; isa++)
                if (has_isa(isa)) check_rmsnorm(isa, x, weight, n, scales[c], first);
        }
}

static void softmax(void)
{
    enum { N = 260 };
    static const double scales[] = {1.0, 30.0, 1000.0};
    test_rng r = {51};
    float x[N], first[N];
    for (int l = 0; l < N_LENGTHS; l++)
        for (int c = 0; c < 3; c++) {
            int n = lengths[l];
            fill_gauss(&r, x, n, scales[c]);
            double *want = widen(x, n);
            ref_softmax(want, n);
            for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
                if (!has_isa(isa)) continue;
                test_block y = test_alloc_at(sizeof(float) * (size_t)n, 64, 4);
                float *out = (float *)(void *)y.ptr;
                memcpy(out, x, y.size);
                CHECK_EQ(ltx_softmax(isa, out, n), LTX_OK);
                for (int i = 0; i < n; i++) CHECK_NEAR((double)out[i], want[i], SOFTMAX_TOL);
                if (isa == LTX_ISA_SCALAR) memcpy(first, out, y.size);
                CHECK(same_floats(first, out, n));
                test_free(&y);
            }
            free(want);
        }
    x[0] = -123.0f;
    CHECK_EQ(ltx_softmax(LTX_ISA_AUTO, x, 1), LTX_OK);
    CHECK(x[0] == 1.0f);
}

typedef struct rope_case {
    int head_dim, rope_dims, pairs;
    float theta, scale;
    int factors; /* 1 = with rope_factors */
} rope_case;

static void check_rope(const rope_case *c, int heads, int position, test_rng *r, double *worst_error)
{
    float factors[64], x[1024], first[1024];
    ltx_model m;
    ref_model ref;
    memset(&m, 0, sizeof m);
    memset(&ref, 0, sizeof ref);
    m.dim = c->head_dim * heads;
    m.n_heads = heads;
    m.head_dim = c->head_dim;
    m.rope_dims = c->rope_dims;
    m.rope_pairs = c->pairs;
    m.rope_theta = c->theta;
    m.rope_scale = c->scale;
    m.vocab = 1;
    ref.rope_dims = c->rope_dims ? c->rope_dims : c->head_dim;
    for (int i = 0; i < 64; i++) factors[i] = (float)(1.0 + 7.0 * test_uniform(r));
    if (c->factors) {
        ltx_mat f = {factors, LTX_F32, 1, ref.rope_dims / 2};
        m.rope_factors = f;
        ref.rope_factors = ref_mat_load(&f);
    }
    ref.rope_pairs = c->pairs;
    ref.rope_theta = ref_default(c->theta, 10000.0);
    ref.rope_scale = ref_default(c->scale, 1.0);
    int n = heads * c->head_dim;
    fill_gauss(r, x, n, 1.0);
    double *want = widen(x, n);
    for (int h = 0; h < heads; h++) ref_rope(&ref, want + h * c->head_dim, position);
    for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
        if (!has_isa(isa)) continue;
        test_block y = test_alloc_at(sizeof(float) * (size_t)n, 64, 4);
        float *out = (float *)(void *)y.ptr;
        memcpy(out, x, y.size);
        CHECK_EQ(ltx_rope_rotate(isa, &m, out, heads, position), LTX_OK);
        if (isa == LTX_ISA_SCALAR) memcpy(first, out, y.size);
        CHECK(same_floats(first, out, n));
        for (int i = 0; i < n; i++) *worst_error = fmax(*worst_error, fabs((double)out[i] - want[i]) / fmax(1.0, fabs(want[i])));
        test_free(&y);
    }
    free(want);
    free(ref.rope_factors.w);
}

static void rope(void)
{
    static const rope_case cases[] = {
        {8, 0, LTX_ROPE_INTERLEAVED, 0.0f, 0.0f, 0},   {64, 0, LTX_ROPE_HALVES, 0.0f, 0.0f, 0},       {48, 24, LTX_ROPE_INTERLEAVED, 5e5f, 0.0f, 1},
        {32, 20, LTX_ROPE_HALVES, 1e6f, 4.0f, 0},      {128, 0, LTX_ROPE_HALVES, 5e5f, 8.0f, 1},      {2, 2, LTX_ROPE_INTERLEAVED, 0.0f, 0.0f, 0},
        {34, 34, LTX_ROPE_INTERLEAVED, 1e3f, 0.0f, 0}, {16, 0, LTX_ROPE_NONE, 0.0f, 0.0f, 0},
    };
    static const int positions[] = {0, 1, 2, 17, 511, 4095, 65535, LTX_MAX_TOKENS - 1};
    test_rng r = {61};
    for (size_t p = 0; p < sizeof positions / sizeof positions[0]; p++) {
        double worst_error = 0.0;
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
            for (int heads = 1; heads <= 5; heads += 2) check_rope(&cases[c], heads, positions[p], &r, &worst_error);
        printf("rope at position %d: largest error %.3g\n", positions[p], worst_error);
        CHECK_NEAR(worst_error, 0.0, ROPE_TOL);
    }
}

/* ==== matrix products =================================================================================== */

/* Is byte k of a row part of a d or dmin? */
static int is_half(int type, size_t k)
{
    size_t at = k % ref_row_bytes(type, ref_block_of(type));
    return type == LTX_Q6_K ? at >= 208 : at < (ref_is_k(type) ? 4u : 2u);
}

/* A random matrix at an odd address. raw: any bytes, so that codes which no encoder writes (-128) occur, and the largest often. */
static test_block random_matrix(test_rng *r, int type, int rows, int cols, int raw, ltx_mat *m)
{
    size_t stride = ref_row_bytes(type, cols);
    test_block b = test_alloc_at(stride * (size_t)rows, 64, 1);
    double *row = ref_new(cols);
    for (int i = 0; i < rows; i++) {
        unsigned char *at = b.ptr + stride * (size_t)i;
        for (int c = 0; c < cols; c++) row[c] = test_gauss(r) / sqrt((double)cols);
        ref_encode_row(type, row, cols, at);
        for (size_t k = 0; raw && k < stride; k++) {
            int most = type == LTX_Q8_0 || (type == LTX_Q6_K && k % 210 >= 192) ? 0x80 : 0xff;
            if (!is_half(type, k)) at[k] = (unsigned char)(test_int(r, 3) ? most : test_int(r, 256));
        }
    }
    free(row);
    m->data = b.ptr;
    m->type = type;
    m->rows = rows;
    m->cols = cols;
    return b;
}

/* One product on one set into y [m][rows], all blocks exactly as large as promised. */
static void run_matmul(int isa, const ltx_mat *w, const float *x, int m, float *y)
{
    ltx_need need = {0, 0};
    size_t in = sizeof(float) * (size_t)m * (size_t)w->cols, out = sizeof(float) * (size_t)m * (size_t)w->rows;
    CHECK_EQ(ltx_matmul_need(w, m, &need), LTX_OK);
    test_block work = test_alloc(need.size, need.align), bx = test_alloc_at(in, 64, 4), by = test_alloc_at(out, 64, 8);
    ltx_mem mem = {work.ptr, work.size};
    memcpy(bx.ptr, x, in);
    CHECK_EQ(ltx_matmul(isa, w, (const float *)(const void *)bx.ptr, m, mem, (float *)(void *)by.ptr), LTX_OK);
    memcpy(y, by.ptr, out);
    test_free(&work);
    test_free(&bx);
    test_free(&by);
}

/* Largest error of y in a K format, relative to the sum of the sizes of a super-block's terms. */
static double matmul_error_k(const ltx_mat *w, const float *x, int m, const float *y)
{
    double worst_error = 0.0, sizes;
    for (int i = 0; i < m; i++) {
        double *wide = widen(x + (size_t)i * (size_t)w->cols, w->cols);
        for (int r = 0; r < w->rows; r++) {
            const unsigned char *row = (const unsigned char *)w->data + ref_row_bytes(w->type, w->cols) * (size_t)r;
            double sum = ref_k_product(w->type, row, w->cols, wide, &sizes), error = fabs((double)y[i * w->rows + r] - sum) / (sizes + 1e-30);
            worst_error = fmax(worst_error, isnan(error) ? 1e30 : error);
        }
        free(wide);
    }
    return worst_error;
}

/* Largest error of y relative to the sum of |terms|. */
static double matmul_error(const ltx_mat *raw, const ref_mat *w, const float *x, int m, const float *y)
{
    if (ref_is_k(w->type)) return matmul_error_k(raw, x, m, y);
    double worst_error = 0.0, *inputs = ref_new(w->cols);
    for (int i = 0; i < m; i++) {
        double *wide = widen(x + (size_t)i * (size_t)w->cols, w->cols);
        if (ref_is_quantized(w->type)) ref_quantize_inputs(w->type, wide, w->cols, 8, inputs);
        else memcpy(inputs, wide, sizeof(double) * (size_t)w->cols);
        for (int r = 0; r < w->rows; r++) {
            double sum = 0.0, sizes = 1e-30;
            for (int c = 0; c < w->cols; c++) {
                double term = w->w[(size_t)r * (size_t)w->cols + (size_t)c] * inputs[c];
                sum += term;
                sizes += fabs(term);
            }
            double error = fabs((double)y[i * w->rows + r] - sum) / sizes;
            worst_error = fmax(worst_error, isnan(error) ? 1e30 : error);
        }
        free(wide);
    }
    free(inputs);
    return worst_error;
}

/* All sets, and all batches of 1..9 rows: row i has the same bits in each. */
static void check_matmul(test_rng *r, int type, int rows, int cols, int raw, double *worst_error)
{
    enum { M = 9 };
    ltx_mat w;
    test_block data = random_matrix(r, type, rows, cols, raw, &w);
    ref_mat ref = ref_mat_load(&w);
    float *x = new_floats(M * cols), *first = new_floats(M * rows), *y = new_floats(M * rows);
    fill_gauss(r, x, M * cols, 1.0);
    for (int i = 0; i < cols; i++) x[i] = raw == 2 ? 1.0f : raw ? (test_int(r, 2) ? 1.0f : -1.0f) : x[i];
    for (int i = 0; i < cols && i < REF_BLOCK && M > 1; i++) x[cols + i] = 0.0f;
    for (int i = 0; i < cols && ref_is_k(type); i++) x[2 * cols + i] = i < REF_SUPER ? 0.0f : x[2 * cols + i];
    run_matmul(LTX_ISA_SCALAR, &w, x, M, first);
    *worst_error = fmax(*worst_error, matmul_error(&w, &ref, x, M, first));
    for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
        if (!has_isa(isa)) continue;
        for (int m = 1; m <= M; m++) {
            run_matmul(isa, &w, x, m, y);
            if (!CHECK(memcmp(first, y, sizeof(float) * (size_t)(m * rows)) == 0))
                printf("  %s %dx%d, m = %d on %s\n", ltx_type_name(type), rows, cols, m, ltx_isa_name(isa));
        }
    }
    free(x);
    free(first);
    free(y);
    free(ref.w);
    test_free(&data);
}

static void matmul_type(int type, double tol)
{
    static const int rows[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 33};
    static const int blocks[] = {32, 64, 96, 256, 288, 512, 992}, supers[] = {256, 512, 1024};
    const int *cols = ref_is_k(type) ? supers : ref_is_quantized(type) ? blocks : lengths;
    int n = ref_is_k(type) ? 3 : ref_is_quantized(type) ? 7 : N_LENGTHS, kinds = ref_is_k(type) ? 2 : type == LTX_Q8_0;
    test_rng r = {71 + (uint64_t)type};
    double worst_error = 0.0;
    for (int l = 0; l < n; l++)
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            for (int raw = 0; raw <= kinds; raw++) check_matmul(&r, type, rows[i], cols[l], raw, &worst_error);
    printf("%-4s largest error %.3g of the sum of |terms| (allowed %.3g)\n", ltx_type_name(type), worst_error, tol);
    CHECK(worst_error <= tol);
}

static void matmul_f32(void)
{
    matmul_type(LTX_F32, FLOAT_SUM_TOL);
}

static void matmul_f16(void)
{
    matmul_type(LTX_F16, FLOAT_SUM_TOL);
}

static void matmul_bf16(void)
{
    matmul_type(LTX_BF16, FLOAT_SUM_TOL);
}

static void matmul_q8_0(void)
{
    matmul_type(LTX_Q8_0, QUANT_SUM_TOL);
}

static void matmul_q4_0(void)
{
    matmul_type(LTX_Q4_0, QUANT_SUM_TOL);
}

static void matmul_q4_k(void)
{
    matmul_type(LTX_Q4_K, K_SUM_TOL);
}

static void matmul_q5_k(void)
{
    matmul_type(LTX_Q5_K, K_SUM_TOL);
}

static void matmul_q6_k(void)
{
    matmul_type(LTX_Q6_K, K_SUM_TOL);
}

/* d = dmin = 1 and inputs that are integers, 127 the largest of each super-block: everything is a whole number below 2^24, and the
   result is exact. Any bytes as q, scales and mins. */
static void matmul_k_exact(void)
{
    enum { ROWS = 19, COLS = 4 * REF_SUPER, M = 3 };
    test_rng r = {76};
    float x[M * COLS], y[M * ROWS];
    double wide[COLS], sizes;
    for (int f = 0; f < 3; f++) {
        int type = k_formats[f];
        size_t bytes = ref_row_bytes(type, COLS);
        test_block data = test_alloc_at(bytes * ROWS, 64, 1);
        ltx_mat w = {data.ptr, type, ROWS, COLS};
        for (size_t k = 0; k < data.size; k++) data.ptr[k] = (unsigned char)test_int(&r, 256);
        for (size_t k = 0; k + 1 < data.size; k++)
            if (is_half(type, k) && k % bytes % 2 == 0) ref_put16(data.ptr + k, 0x3c00); /* halves lie at even places of a row */
        for (int i = 0; i < M * COLS; i++) x[i] = (float)(i % REF_SUPER == 97 ? (i & 1024 ? 127 : -127) : test_int(&r, 7) - 3);
        for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
            if (!has_isa(isa)) continue;
            run_matmul(isa, &w, x, M, y);
            for (int i = 0; i < M; i++) {
                for (int c = 0; c < COLS; c++) wide[c] = (double)x[i * COLS + c];
                for (int row = 0; row < ROWS; row++) {
                    double want = ref_k_product(type, data.ptr + bytes * (size_t)row, COLS, wide, &sizes);
                    CHECK(sizes < 16777216.0);
                    CHECK((double)y[i * ROWS + row] == want);
                }
            }
        }
        test_free(&data);
    }
}

/* Inputs of every size down to denormals: 127 / max|x| overflows for the smallest, which may become zeros but nothing worse. */
static void tiny_inputs(test_rng *r, int type)
{
    enum { N = REF_SUPER, ROWS = 5 };
    int n = ref_is_k(type) ? N : 64;
    for (int e = -148; e <= 60; e += 4) {
        ltx_mat w;
        float x[N], y[ROWS], first[ROWS];
        test_block data = random_matrix(r, type, ROWS, n, 0, &w);
        ref_mat ref = ref_mat_load(&w);
        for (int i = 0; i < n; i++) x[i] = (float)ldexp(test_uniform(r) - 0.5, e);
        double *exact = widen(x, n), want[ROWS], most = fabs(ref_largest(exact, n));
        ref_product(&ref, NULL, exact, 0, want);
        for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
            if (!has_isa(isa)) continue;
            run_matmul(isa, &w, x, 1, y);
            if (isa == LTX_ISA_SCALAR) memcpy(first, y, sizeof y);
            CHECK(memcmp(first, y, sizeof y) == 0);
            /* n weights of about 1 / sqrt(n); an input is off by at most half of max / 127, or by all of it where that overflows */
            double off = fmax(most / 127.0, 127.0 / (double)FLT_MAX);
            for (int i = 0; i < ROWS; i++) CHECK_NEAR((double)y[i], want[i], sqrt((double)n) * off);
        }
        free(exact);
        free(ref.w);
        test_free(&data);
    }
}

static void matmul_tiny_inputs(void)
{
    test_rng r = {81};
    for (int f = 0; f < N_FORMATS; f++) tiny_inputs(&r, formats[f]);
    for (int f = 0; f < 3; f++) tiny_inputs(&r, k_formats[f]);
}

/* One product on one set, with activations of one or two bytes where rows have one scale: what ltx_matmul does, and a session with act_bits. */
static void product(int isa, const ltx_mat *w, const float *x, int m, int planes, float *y)
{
    ltxi_arena a = {NULL, 0};
    ltxi_acts acts;
    ltxi_kernels table;
    ltxi_machine machine;
    ltxi_job job = ltxi_job_of(w, NULL, y, w->rows);
    memset(&machine, 0, sizeof machine);
    machine.threads = 1;
    machine.k = ltxi_kernels_of(isa, &table);
    ltxi_acts_place(&a, &acts, m, w->cols, planes);
    test_block work = test_alloc(a.used, LTXI_ALIGN);
    a.base = work.ptr;
    a.used = 0;
    ltxi_acts_place(&a, &acts, m, w->cols, planes);
    float *rows = new_floats(m * acts.ld);
    for (int i = 0; i < m; i++) memcpy(rows + i * acts.ld, x + i * w->cols, sizeof(float) * (size_t)w->cols);
    ltxi_acts_set(&acts, rows);
    ltxi_multiply(&machine, &acts, m, m, &job, 1);
    free(rows);
    test_free(&work);
}

/* A factor of the products below: a power of two, or that with one more bit. */
static double few_bits(test_rng *r, int exponent)
{
    double m = test_int(r, 2) ? 1.0 : 1.0 + ldexp(1.0, -1 - test_int(r, 23));
    return ldexp(test_int(r, 2) ? m : -m, exponent);
}

/* a x + y rounded once, on every set, also where the sum in double lies half way between two floats, or nearly, down to denormals and up to infinity. */
static void fused_multiply_add(void)
{
    enum { M = 48 };
    test_rng r = {73};
    float x[M], y[M], z[M], first[M];
    for (int round = 0; round < 20000; round++) {
        double a = (float)few_bits(&r, -60 + test_int(&r, 120));
        for (int i = 0; i < M; i++) {
            int e = test_int(&r, 3) ? -20 + test_int(&r, 40) : -140 + test_int(&r, 268), far = test_int(&r, 4) ? 24 + test_int(&r, 3) : test_int(&r, 60);
            y[i] = (float)(test_int(&r, 2) ? few_bits(&r, e) : ldexp(1.0 + ldexp(test_int(&r, 1 << 23), -23), e));
            x[i] = (float)(few_bits(&r, e - far) / (test_int(&r, 2) ? fabs(a) : ldexp(1.0, ilogb(a))));
        }
        for (int isa = LTX_ISA_SCALAR; isa < LTX_ISA_COUNT; isa++) {
            ltxi_kernels table;
            if (!has_isa(isa)) continue;
            memcpy(z, y, sizeof z);
            ltxi_kernels_of(isa, &table)->axpy(z, x, (float)a, M);
            if (isa == LTX_ISA_SCALAR) memcpy(first, z, sizeof z);
            if (!CHECK(memcmp(first, z, sizeof z) == 0)) printf("  on %s\n", ltx_isa_name(isa));
        }
#ifndef __wasi__ /* its fmaf rounds twice */
        for (int i = 0; i < M; i++) CHECK(ref_bits(first[i]) == ref_bits(fmaf(x[i], (float)a, y[i])));
#endif
    }
}

/* Every format on every set against the scalar one, bit by bit, for as many rows of activations as take different ways. raw: bytes of -128. */
static void matmul_every_format(void)
{
    enum { M = 64, ROWS = 37, COLS = 512 };
    static const int all[] = {LTX_F32, LTX_F16, LTX_BF16, LTX_Q8_0, LTX_Q4_0, LTX_Q4_K, LTX_Q5_K, LTX_Q6_K, LTX_Q8_X, LTX_Q4_X, LTX_R8, LTX_R4};
    static const int counts[] = {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 32, 33, 47, 64}, widths[] = {COLS, 256, 96, 32};
    test_rng r = {72};
    float *x = new_floats(M * COLS), *v = new_floats(ROWS * COLS), *first = new_floats(M * ROWS), *y = new_floats(M * ROWS);
    for (int f = 0; f < (int)(sizeof all / sizeof all[0]); f++)
        for (int c = 0; c < 4; c++)
            for (int way = 0; way < 4; way++) {
                int type = all[f], planes = 1 + way / 2, raw = way % 2, one_byte = type == LTX_Q8_0 || type == LTX_Q8_X || type == LTX_R8;
                size_t bytes = ltx_mat_bytes(type, ROWS, widths[c]);
                if (bytes == 0 || (raw && !one_byte) || (planes > 1 && type != LTX_R8 && type != LTX_R4)) continue;
                test_block data = test_alloc_at(bytes, 64, 2);
                ltx_mat w = {data.ptr, type, ROWS, widths[c]};
                fill_gauss(&r, v, ROWS * widths[c], 0.1);
                fill_gauss(&r, x, M * widths[c], 1.0);
                for (int i = 0; i < M * widths[c]; i++) /* integers at the ends of their ranges */
                    if (test_int(&r, 3) == 0 || i % widths[c] == 0)
                        x[i] = (float)(i % widths[c] == 0 ? 32512 : (test_int(&r, 2) ? 127 + test_int(&r, 2) : 32512) * (1 - 2 * test_int(&r, 2))) / 8192.0f;
                CHECK_EQ(ltx_mat_encode(type, v, ROWS, widths[c], data.ptr), LTX_OK);
                for (size_t i = 0; raw && i < bytes; i++)
                    if (type == LTX_Q8_0 ? i % 34 >= 2 : i % (bytes / 3) < (size_t)(16 * widths[c])) data.ptr[i] = (unsigned char)(test_int(&r, 3) ? 0x80 : test_int(&r, 256));
                product(LTX_ISA_SCALAR, &w, x, M, planes, first);
                for (int isa = LTX_ISA_SCALAR + 1; isa < LTX_ISA_COUNT; isa++)
                    for (int i = 0; i < (int)(sizeof counts / sizeof counts[0]) && has_isa(isa); i++) {
                        product(isa, &w, x, counts[i], planes, y);
                        if (!CHECK(memcmp(first, y, sizeof(float) * (size_t)(counts[i] * ROWS)) == 0))
                            printf("  %s, %d columns, %d rows, %d planes, raw %d on %s\n", ltx_type_name(type), widths[c], counts[i], planes, raw, ltx_isa_name(isa));
                    }
                test_free(&data);
            }
    free(x);
    free(v);
    free(first);
    free(y);
}

/* ==== formats of our own ================================================================================ */

static const int x_formats[] = {LTX_Q8_X, LTX_Q4_X, LTX_R8, LTX_R4};
static const int x_rows[] = {5, 16, 17, 40}, x_cols[] = {32, 96, 512};

/* x [rows][cols] into a block of exactly the promised bytes at an odd address. */
static test_block x_encode(int type, const float *x, int rows, int cols)
{
    size_t bytes = ref_mat_bytes(type, rows, cols);
    CHECK_EQ(ltx_mat_bytes(type, rows, cols), bytes);
    test_block in = test_alloc_at(sizeof(float) * (size_t)(rows * cols), 16, 4), out = test_alloc_at(bytes, 64, 1);
    memcpy(in.ptr, x, in.size);
    CHECK_EQ(ltx_mat_encode(type, (const float *)(const void *)in.ptr, rows, cols, out.ptr), LTX_OK);
    test_free(&in);
    return out;
}

/* Rows of any bytes as the reference reads them. R4's s has 16 bits here, so that s g q is exact. */
static void x_decode(void)
{
    test_rng r = {511};
    double want[512];
    for (int f = 0; f < 4; f++)
        for (int n = 0; n < 12; n++) {
            int type = x_formats[f], rows = x_rows[n % 4], cols = x_cols[n / 4];
            test_block data = test_alloc_at(ref_mat_bytes(type, rows, cols), 64, 1);
            ltx_mat w = {data.ptr, type, rows, cols};
            for (size_t i = 0; i < data.size; i++) data.ptr[i] = (unsigned char)test_int(&r, 256);
            for (int i = 0; i < (rows + 15) / 16 * 16 && ref_is_row_scaled(type); i++) {
                unsigned char *p = data.ptr + ref_place_scale_of_row(type, cols, i);
                ref_put16(p, (unsigned)(type == LTX_R4 ? test_int(&r, 256) << 8 : test_int(&r, 65536)));
                ref_put16(p + 2, (unsigned)(test_int(&r, 2) << 15 | (100 + test_int(&r, 50)) << 7 | test_int(&r, 128)));
            }
            for (int row = 0; row < rows; row++) {
                test_block out = test_alloc_at(sizeof(float) * (size_t)cols, 16, 4);
                const float *y = (const float *)(const void *)out.ptr;
                CHECK_EQ(ltx_mat_row(&w, row, (float *)(void *)out.ptr), LTX_OK);
                ref_mat_row(type, data.ptr, cols, row, want);
                for (int c = 0; c < cols; c++) CHECK(isnan(want[c]) ? isnan(y[c]) : y[c] == (float)want[c]);
                test_free(&out);
            }
            CHECK_EQ(ltx_mat_row(&w, rows, NULL), LTX_E_ARG);
            CHECK_EQ(ltx_mat_row(&w, -1, (float *)(void *)want), LTX_E_ARG);
            test_free(&data);
        }
}

/* Q8_X and Q4_X are the bytes of Q8_0 and Q4_0, and products with them have the same bits. Lanes that no row fills are zeros. */
static void x_same_numbers(void)
{
    enum { M = 5 };
    test_rng r = {521};
    for (int f = 0; f < 2; f++)
        for (int n = 0; n < 12; n++) {
            int type = x_formats[f], plain = f == 0 ? LTX_Q8_0 : LTX_Q4_0, rows = x_rows[n % 4], cols = x_cols[n / 4], numbers = f == 0 ? 32 : 16;
            size_t row_bytes = ref_row_bytes(plain, cols);
            float *x = new_floats(rows * cols), *in = new_floats(M * cols), *a = new_floats(M * rows), *b = new_floats(M * rows);
            fill_gauss(&r, x, rows * cols, 0.1);
            fill_gauss(&r, in, M * cols, 1.0);
            test_block grouped = x_encode(type, x, rows, cols), apart = x_encode(plain, x, rows, cols);
            for (int row = 0; row < (rows + 15) / 16 * 16; row++)
                for (int k = 0; k < cols / 32 * numbers; k++) {
                    const unsigned char *block = apart.ptr + row_bytes * (size_t)(row < rows ? row : 0) + k / numbers * (numbers + 2);
                    size_t scale = ref_place_block(type, cols, row, k / numbers);
                    CHECK_EQ(grouped.ptr[ref_place_number(type, cols, row, k)], row < rows ? block[2 + k % numbers] : 0);
                    CHECK_EQ(ref_u16(grouped.ptr + scale), row < rows ? ref_u16(block) : 0u);
                }
            ltx_mat wa = {grouped.ptr, type, rows, cols}, wb = {apart.ptr, plain, rows, cols};
            for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
                if (!has_isa(isa)) continue;
                for (int m = 1; m <= M; m++) {
                    run_matmul(isa, &wa, in, m, a);
                    run_matmul(isa, &wb, in, m, b);
                    CHECK(memcmp(a, b, sizeof(float) * (size_t)(m * rows)) == 0);
                }
            }
            free(x); free(in); free(a); free(b);
            test_free(&grouped);
            test_free(&apart);
        }
}

/* Rows of kind 0 around zero, 1 with some large ones, 2 blocks of different sizes, 3 one huge number, 4 zeros. */
static void row_numbers(test_rng *r, int kind, double scale, float *x, int n)
{
    int at = test_int(r, n);
    for (int i = 0; i < n; i++) {
        double v = test_gauss(r);
        x[i] = (float)(kind == 4 ? 0.0 : scale * (kind == 1 ? v * v * v : kind == 2 ? ldexp(v, -(i / 32 % 6)) : kind == 3 && i == at ? 1e4 : v));
    }
}

/* R8: s is max / 127, and nothing is further off than half of it. R4: no number beyond 120 steps of s, and each block no worse than if its largest had
   become -8 steps as nearly as s allows; over all, blocks that are not small beside their row are as good as in Q4_0. */
static void r_errors(void)
{
    enum { ROWS = 21, COLS = 288 };
    test_rng r = {531};
    float x[ROWS * COLS], y[COLS], q40[COLS];
    unsigned char block[COLS / 32 * 18];
    double sums[2] = {0.0, 0.0};
    for (int round = 0; round < 20; round++) {
        for (int row = 0; row < ROWS; row++) row_numbers(&r, row % 5, ldexp(1.0, (row + 7 * round) % 14 - 10), x + row * COLS, COLS);
        test_block eight = x_encode(LTX_R8, x, ROWS, COLS), four = x_encode(LTX_R4, x, ROWS, COLS);
        ltx_mat w8 = {eight.ptr, LTX_R8, ROWS, COLS}, w4 = {four.ptr, LTX_R4, ROWS, COLS};
        for (int row = 0; row < ROWS; row++) {
            double *wide = widen(x + row * COLS, COLS), most = fabs(ref_largest(wide, COLS)), s = ref_scale(LTX_R8, eight.ptr, COLS, row, 0);
            CHECK(s == (double)((float)most / 127.0f));
            CHECK_EQ(ltx_mat_row(&w8, row, y), LTX_OK);
            for (int c = 0; c < COLS; c++) {
                CHECK_NEAR((double)y[c], wide[c], s * 0.50001);
                CHECK(abs(ref_integer(LTX_R8, eight.ptr, COLS, row, c)) <= 127);
            }
            s = ref_scale(LTX_R4, four.ptr, COLS, row, 0);
            CHECK(s <= most / 120.0 * 1.000001 && s >= most / 120.0 * 0.9999);
            CHECK_EQ(ltx_mat_row(&w4, row, y), LTX_OK);
            CHECK_EQ(ltx_quantize(LTX_Q4_0, x + row * COLS, COLS, block), LTX_OK);
            CHECK_EQ(ltx_dequantize(LTX_Q4_0, block, COLS, q40), LTX_OK);
            for (int b = 0; b < COLS; b += 32) {
                double large = ref_largest(wide + b, 32), step = s > 0.0 ? s * rint(-large / (8.0 * s)) : 0.0, bound = 0.0;
                for (int c = b; c < b + 32; c++) {
                    double q = step != 0.0 ? fmin(fmax(rint(wide[c] / step), -8.0), 7.0) : 0.0;
                    bound += (wide[c] - q * step) * (wide[c] - q * step);
                    CHECK(abs(ref_integer(LTX_R4, four.ptr, COLS, row, c)) <= 120);
                }
                CHECK(squared_error(x + row * COLS + b, y + b, 32) <= bound * 1.0001);
                if (fabs(large) < most / 2.0 || most == 0.0) continue;
                sums[0] += squared_error(x + row * COLS + b, y + b, 32) / (most * most);
                sums[1] += squared_error(x + row * COLS + b, q40 + b, 32) / (most * most);
            }
            for (int c = 0; c < COLS && most == 0.0; c++) CHECK(y[c] == 0.0f);
            free(wide);
        }
        test_free(&eight);
        test_free(&four);
    }
    printf("R4: squared error %.3f of that of Q4_0\n", sums[0] / sums[1]);
    CHECK(sums[0] <= sums[1]);
}

/* Numbers that are none spoil their row, visibly, and no other; from denormals to the largest float there is no harm. */
static void r_extremes(void)
{
    enum { ROWS = 18, COLS = 96 };
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    test_rng r = {541};
    float x[ROWS * COLS], y[COLS];
    for (int f = 2; f < 4; f++) {
        int type = x_formats[f];
        for (int at = 0; at < 8; at++) {
            fill_gauss(&r, x, ROWS * COLS, 0.1);
            x[(at * 2 + 2) * COLS + test_int(&r, COLS)] = bad[at % 4];
            for (int c = 0; c < COLS; c++) x[COLS + c] = bad[at % 4];
            test_block data = x_encode(type, x, ROWS, COLS);
            ltx_mat w = {data.ptr, type, ROWS, COLS};
            float in[COLS], out[ROWS];
            fill_gauss(&r, in, COLS, 1.0);
            for (int row = 0; row < ROWS; row++) {
                CHECK_EQ(ltx_mat_row(&w, row, y), LTX_OK);
                for (int c = 0; c < COLS; c++) CHECK(row == 1 || row == at * 2 + 2 ? isnan(y[c]) : fabsf(y[c] - x[row * COLS + c]) < 0.1f);
            }
            for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
                if (!has_isa(isa)) continue;
                run_matmul(isa, &w, in, 1, out);
                for (int row = 0; row < ROWS; row++) CHECK((row == 1 || row == at * 2 + 2) == (isnan(out[row]) != 0));
            }
            test_free(&data);
        }
        for (int e = -149; e <= 127; e++) {
            for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)ldexp(test_int(&r, 9) - 4.0, e > 125 ? 125 : e);
            for (int c = 0; c < COLS; c++) x[c] = e > 126 && c % 2 ? -FLT_MAX / 2.0f : (float)ldexp(1.0, e);
            test_block data = x_encode(type, x, ROWS, COLS);
            ltx_mat w = {data.ptr, type, ROWS, COLS};
            for (int row = 0; row < ROWS; row++) {
                float most = 0.0f;
                for (int c = 0; c < COLS; c++) most = fmaxf(most, fabsf(x[row * COLS + c]));
                CHECK_EQ(ltx_mat_row(&w, row, y), LTX_OK);
                for (int c = 0; c < COLS; c++) {
                    double room = type == LTX_R8 ? (double)most / 254.0 : (double)most / 7.9;
                    CHECK_NEAR((double)y[c], (double)x[row * COLS + c], fmax(room * 1.0001, 1.5e-36)); /* smaller ones may become zeros */
                }
            }
            test_free(&data);
        }
    }
}

/* Products with 8 and 16 bits of activations, all sets and batches: near to the exact sum times both scales, and with 16 bits near to inputs that are
   not quantized at all. A row with an outlier: 16 bits keep what 8 lose. */
static void matmul_rows(void)
{
    enum { M = 9, ROWS = 40, COLS = 512 };
    static const int rows[] = {1, 5, 16, 17, 40}, cols[] = {32, 96, 512};
    test_rng r = {551};
    float v[ROWS * COLS], x[M * COLS], first[M * ROWS], y[M * ROWS];
    for (int n = 0; n < 60; n++) {
        int type = n % 2 ? LTX_R8 : LTX_R4, bits = n / 2 % 2 ? 16 : 8, nr = rows[n / 4 % 5], nc = cols[n / 20];
        double off = 0.0, lost = 0.0, want[ROWS], *exact = ref_new(nr);
        fill_gauss(&r, v, nr * nc, 0.1);
        fill_gauss(&r, x, M * nc, 1.0);
        x[2 * nc + 7] = 1000.0f; /* an outlier */
        for (int i = 0; i < nc; i++) x[nc + i] = 0.0f;
        test_block data = x_encode(type, v, nr, nc);
        ltx_mat w = {data.ptr, type, nr, nc};
        ref_mat ref = ref_mat_load(&w);
        product(LTX_ISA_SCALAR, &w, x, M, bits / 8, first);
        for (int m = 0; m < M; m++) {
            double *wide = widen(x + m * nc, nc);
            ref_product(&ref, NULL, wide, 0, exact);
            for (int i = 0; i < nr; i++) {
                double sizes = 1e-30;
                for (int c = 0; c < nc; c++) sizes += fabs(ref.w[i * nc + c] * wide[c]);
                want[i] = ref_row_product(type, data.ptr, nc, i, wide, bits);
                off = fmax(off, fabs((double)first[m * nr + i] - want[i]) / (fabs(want[i]) + (bits == 16 ? sizes / 255.0 : 0.0) + 1e-30));
                if (m != 2) lost = fmax(lost, fabs((double)first[m * nr + i] - exact[i]) / sizes);
            }
            free(wide);
        }
        CHECK(off <= 2.5e-7); /* four roundings of 2^-24 */
        CHECK(lost <= (bits == 16 ? 2e-4 : 3e-2));
        for (int isa = 1; isa < LTX_ISA_COUNT; isa++)
            for (int m = 1; m <= M && has_isa(isa); m++) {
                product(isa, &w, x, m, bits / 8, y);
                CHECK(memcmp(first, y, sizeof(float) * (size_t)(m * nr)) == 0);
                if (bits == 16) continue;
                run_matmul(isa, &w, x, m, y);
                CHECK(memcmp(first, y, sizeof(float) * (size_t)(m * nr)) == 0);
            }
        free(ref.w);
        free(exact);
        test_free(&data);
    }
}

/* s = 1, and inputs that are integers up to 127 or 32512, the largest of each row: all is a whole number below 2^24 and the result exact. Any
   bytes as numbers; g as encoders write it. */
static void matmul_rows_exact(void)
{
    enum { ROWS = 21, COLS = 160, M = 3 };
    test_rng r = {561};
    float x[M * COLS], y[M * ROWS];
    for (int n = 0; n < 40; n++) {
        int type = n % 2 ? LTX_R8 : LTX_R4, bits = n / 2 % 2 ? 16 : 8;
        test_block data = test_alloc_at(ref_mat_bytes(type, ROWS, COLS), 64, 3);
        ltx_mat w = {data.ptr, type, ROWS, COLS};
        for (size_t i = 0; i < data.size; i++) data.ptr[i] = (unsigned char)test_int(&r, 256);
        for (int row = 0; row < (ROWS + 15) / 16 * 16; row++) {
            ref_put16(data.ptr + ref_place_scale_of_row(type, COLS, row), 0);
            ref_put16(data.ptr + ref_place_scale_of_row(type, COLS, row) + 2, 0x3f80);
            for (int b = 0; b < COLS / 32 && type == LTX_R4; b++) data.ptr[ref_place_block(type, COLS, row, b)] = (unsigned char)(test_int(&r, 31) - 15);
        }
        for (int i = 0; i < M * COLS; i++) x[i] = (float)(i % COLS == 71 ? (bits == 16 ? -32512 : 127) : test_int(&r, bits == 16 ? 1001 : 101) - (bits == 16 ? 500 : 50));
        for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
            if (!has_isa(isa)) continue;
            product(isa, &w, x, M, bits / 8, y);
            for (int i = 0; i < M; i++)
                for (int row = 0; row < ROWS; row++) {
                    double want = 0.0;
                    for (int c = 0; c < COLS; c++) want += ref_integer(type, data.ptr, COLS, row, c) * (double)x[i * COLS + c];
                    CHECK(fabs(want) < 16777216.0);
                    CHECK((double)y[i * ROWS + row] == want);
                }
        }
        test_free(&data);
    }
}

/* The widest rows: every sum of 131072 products of -128 and 127 fits. Wider ones, and widths that are no blocks, are refused. */
static void x_limits(void)
{
    enum { COLS = 131072 };
    float *x = new_floats(COLS + 32), y[1], want;
    for (int c = 0; c < COLS + 32; c++) x[c] = 1.0f;
    test_block data = x_encode(LTX_R8, x, 1, COLS);
    memset(data.ptr, 0x80, 16 * (size_t)COLS);
    ltx_mat w = {data.ptr, LTX_R8, 1, COLS};
    want = (float)(-128.0 * 127.0 * COLS);
    want = want * (1.0f / 127.0f) * (1.0f / 127.0f);
    for (int isa = 1; isa < LTX_ISA_COUNT; isa++)
        for (int planes = 1; planes <= 2 && has_isa(isa); planes++) {
            product(isa, &w, x, 1, planes, y);
            CHECK_NEAR((double)y[0], (double)want, 1e-2);
        }
    test_free(&data);
    for (int f = 0; f < 4; f++) {
        unsigned char out[64] = {0};
        CHECK_EQ(ltx_row_bytes(x_formats[f], 33), 0);
        CHECK_EQ(ltx_mat_bytes(x_formats[f], 16, 48), 0);
        CHECK_EQ(ltx_mat_bytes(x_formats[f], -1, 32), 0);
        CHECK_EQ(ltx_mat_encode(x_formats[f], x, 1, 40, out), LTX_E_ARG);
        CHECK_EQ(ltx_mat_encode(x_formats[f], x, 0, 32, out), LTX_E_ARG);
        CHECK_EQ(ltx_quantize(x_formats[f], x, 32, out), LTX_E_ARG); /* a row alone has no place */
        CHECK_EQ(ltx_dequantize(x_formats[f], out, 32, x), LTX_E_ARG);
        if (f > 1) CHECK_EQ(ltx_mat_encode(x_formats[f], x, 1, COLS + 32, out), LTX_E_ARG);
        for (int i = 0; i < 64; i++) CHECK_EQ(out[i], 0);
    }
    CHECK_EQ(ltx_mat_bytes(LTX_Q8_X, 17, 64), 2 * 16 * 68);
    CHECK_EQ(ltx_mat_bytes(LTX_Q4_X, 16, 64), 16 * 36);
    CHECK_EQ(ltx_mat_bytes(LTX_R8, 1, 64), 16 * 68);
    CHECK_EQ(ltx_mat_bytes(LTX_R4, 33, 64), 3 * 16 * 38);
    CHECK(strcmp(ltx_type_name(LTX_Q8_X), "Q8_X") == 0 && strcmp(ltx_type_name(LTX_R4), "R4") == 0);
    free(x);
}

static void matmul_refuses(void)
{
    test_rng r = {91};
    float x[2 * 64] = {0}, y[2 * 3];
    ltx_need need = {0, 0};
    ltx_mat w;
    test_block data = random_matrix(&r, LTX_Q8_0, 3, 64, 0, &w);
    for (int i = 0; i < 6; i++) y[i] = 7.0f;
    CHECK_EQ(ltx_matmul_need(&w, 2, &need), LTX_OK);
    test_block work = test_alloc(need.size, need.align);
    ltx_mem mem = {work.ptr, work.size};
    if (need.size > 0) {
        mem.size--;
        CHECK_EQ(ltx_matmul(LTX_ISA_AUTO, &w, x, 2, mem, y), LTX_E_MEM);
        mem.size++;
    }
    CHECK(ltx_matmul(LTX_ISA_COUNT, &w, x, 2, mem, y) != LTX_OK);
    for (int isa = 1; isa < LTX_ISA_COUNT; isa++)
        if (!has_isa(isa)) CHECK_EQ(ltx_matmul(isa, &w, x, 2, mem, y), LTX_E_ABSENT);
    for (int i = 0; i < 6; i++) CHECK(y[i] == 7.0f);
    CHECK_EQ(ltx_matmul(LTX_ISA_AUTO, &w, x, 2, mem, y), LTX_OK);
    for (int i = 0; i < 6; i++) CHECK(y[i] == 0.0f);
    test_free(&work);
    test_free(&data);
}

/* ==== sampling ========================================================================================== */

/* Indices by falling probability, lower index first. */
static void sort_down(const double *p, int n, int *order)
{
    for (int i = 0; i < n; i++) {
        int at = i;
        while (at > 0 && p[order[at - 1]] < p[i]) order[at] = order[at - 1], at--;
        order[at] = i;
    }
}

/* Temperature, softmax, top_k, top_p, min_p. Returns 0 if a cut lies too near to a threshold to be sure of it. */
static int ref_probabilities(const ltx_sampler *s, const float *logits, int n, double *p)
{
    int *order = (int *)test_malloc(sizeof(int) * (size_t)n), sure = 1, kept = n;
    double sum = 0.0, total = 0.0;
    for (int i = 0; i < n; i++) p[i] = (double)logits[i] / (double)s->temperature;
    ref_softmax(p, n);
    sort_down(p, n, order);
    if (s->top_k > 0 && s->top_k < n) kept = s->top_k;
    if (s->top_p > 0.0f && s->top_p < 1.0f) {
        for (int i = 0; i < kept; i++) {
            sum += p[order[i]];
            if (fabs(sum - (double)s->top_p) < PROBS_TIE) sure = 0;
            if (sum >= (double)s->top_p) kept = i + 1;
        }
    }
    double least = (double)s->min_p * p[order[0]];
    for (int i = 0; i < n; i++)
        if (s->min_p > 0.0f && fabs(p[i] - least) < PROBS_TIE * least) sure = 0;
    while (kept > 1 && p[order[kept - 1]] < least) kept--;
    for (int i = kept; i < n; i++) p[order[i]] = 0.0;
    for (int i = 0; i < n; i++) total += p[i];
    for (int i = 0; i < n; i++) p[i] /= total;
    free(order);
    return sure;
}

/* Returns 1 if it could be compared. */
static int check_probabilities(const ltx_sampler *s, const float *logits, int n)
{
    double *want = ref_new(n), sum = 0.0;
    int sure = ref_probabilities(s, logits, n, want);
    float *first = new_floats(n);
    for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
        if (!has_isa(isa)) continue;
        test_block probs = test_alloc_at(sizeof(float) * (size_t)n, 64, 4), order = test_alloc_at(sizeof(int32_t) * (size_t)n, 64, 4);
        float *p = (float *)(void *)probs.ptr;
        ltx_probabilities(isa, s, logits, n, p, (int32_t *)(void *)order.ptr);
        if (isa == LTX_ISA_SCALAR) memcpy(first, p, probs.size);
        CHECK(memcmp(first, p, probs.size) == 0);
        sum = 0.0;
        for (int i = 0; i < n; i++) {
            sum += (double)p[i];
            if (!sure) continue;
            CHECK_NEAR((double)p[i], want[i], PROBS_TOL);
            if (want[i] > PROBS_TOL) CHECK(p[i] > 0.0f);
            if (want[i] == 0.0) CHECK(p[i] == 0.0f);
        }
        CHECK_NEAR(sum, 1.0, 1e-5);
        test_free(&probs);
        test_free(&order);
    }
    free(first);
    free(want);
    return sure;
}

static void probabilities(void)
{
    static const int sizes[] = {1, 2, 17, 33, 100, 257};
    static const float temperatures[] = {1.0f, 0.3f, 2.5f};
    static const int top_k[] = {0, 1, 5, 40, 1000};
    static const float top_p[] = {0.0f, 0.1f, 0.5f, 0.9f, 1.0f};
    static const float min_p[] = {0.0f, 0.02f, 0.3f};
    test_rng r = {101};
    float logits[257];
    int compared = 0, cases = 0;
    for (int n = 0; n < 6; n++)
        for (int t = 0; t < 3; t++)
            for (int c = 0; c < 75; c++) {
                ltx_sampler s = {temperatures[t], top_k[c % 5], top_p[c / 5 % 5], min_p[c / 25], 0};
                fill_gauss(&r, logits, sizes[n], 2.0);
                compared += check_probabilities(&s, logits, sizes[n]);
                cases++;
            }
    CHECK(compared > cases * 9 / 10);
}

static void probabilities_greedy(void)
{
    float logits[9] = {0.0f, -1.0f, 3.0f, 2.0f, 3.0f, -5.0f, 3.0f, 1.0f, 0.0f}, p[9];
    int32_t order[9];
    ltx_sampler s = {0.0f, 0, 0.0f, 0.0f, 0};
    for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
        if (!has_isa(isa)) continue;
        ltx_probabilities(isa, &s, logits, 9, p, order);
        for (int i = 0; i < 9; i++) CHECK(p[i] == (i == 2 ? 1.0f : 0.0f)); /* lowest of the three equals */
    }
}

/* Equal logits: top_k must keep exactly k, lowest tokens first as greedy does. */
static void probabilities_ties(void)
{
    float logits[40], p[40];
    int32_t order[40];
    for (int i = 0; i < 40; i++) logits[i] = 1.5f;
    for (int k = 1; k <= 40; k++) {
        ltx_sampler s = {1.0f, k, 0.0f, 0.0f, 0};
        ltx_probabilities(LTX_ISA_AUTO, &s, logits, 40, p, order);
        for (int i = 0; i < 40; i++) CHECK_NEAR((double)p[i], i < k ? 1.0 / k : 0.0, PROBS_TOL);
    }
}

static void draw_edges(void)
{
    const float p[6] = {0.0f, 0.25f, 0.0f, 0.5f, 0.25f, 0.0f}, below_1 = 1.0f - 1.0f / 16777216.0f;
    CHECK_EQ(ltx_draw(p, 6, 0.0f), 1);
    CHECK_EQ(ltx_draw(p, 6, nextafterf(0.25f, 0.0f)), 1);
    CHECK_EQ(ltx_draw(p, 6, 0.25f), 3);
    CHECK_EQ(ltx_draw(p, 6, 0.74f), 3);
    CHECK_EQ(ltx_draw(p, 6, 0.75f), 4);
    CHECK_EQ(ltx_draw(p, 6, below_1), 4);
    const float low[3] = {0.5f, 0.49999f, 0.0f}; /* sum below 1 by rounding: still no token of probability 0 */
    CHECK_EQ(ltx_draw(low, 3, below_1), 1);
}

static void random_numbers(void)
{
    ltx_sampler s = {1.0f, 0, 0.0f, 0.0f, 12345};
    double sum = 0.0, squares = 0.0;
    enum { N = 100000 };
    for (int i = 0; i < N; i++) {
        uint64_t before = s.state;
        double u = (double)ltx_random(&s), whole = u * 16777216.0;
        CHECK(s.state == before + 0x9e3779b97f4a7c15u);
        CHECK(u >= 0.0 && u < 1.0 && whole == floor(whole));
        sum += u;
        squares += u * u;
    }
    CHECK_NEAR(sum / N, 0.5, 0.005);          /* five deviations of the mean of N uniforms */
    CHECK_NEAR(squares / N, 1.0 / 3.0, 0.005);
}

/* Chi-square of draws against the probabilities; the seed is fixed, so this never fails by chance. */
static void draw_distribution(void)
{
    enum { N = 24, DRAWS = 50000 };
    test_rng r = {111};
    float logits[N], p[N];
    int32_t order[N];
    for (uint64_t seed = 1; seed <= 4; seed++) {
        int counts[N] = {0};
        double chi = 0.0;
        int freedom = -1;
        ltx_sampler s = {1.0f, seed % 2 ? 0 : 12, seed > 2 ? 0.9f : 0.0f, 0.0f, seed};
        fill_gauss(&r, logits, N, 1.0);
        ltx_probabilities(LTX_ISA_AUTO, &s, logits, N, p, order);
        for (int i = 0; i < DRAWS; i++) {
            int32_t t = ltx_draw(p, N, ltx_random(&s));
            if (CHECK(t >= 0 && t < N)) counts[t]++;
        }
        for (int i = 0; i < N; i++) {
            double expected = DRAWS * (double)p[i];
            if (p[i] == 0.0f) {
                CHECK_EQ(counts[i], 0);
                continue;
            }
            chi += (counts[i] - expected) * (counts[i] - expected) / expected;
            freedom++;
        }
        CHECK(chi < freedom + 5.0 * sqrt(2.0 * freedom)); /* mean and five deviations of the distribution of chi-square */
    }
}

int main(void)
{
    test_begin("test_ops");
    TEST(isa_mask);
    TEST(row_bytes);
    TEST(half_codes);
    TEST(bfloat_codes);
    TEST(half_rounding);
    TEST(encode_patterns);
    TEST(quantize_random);
    TEST(quantize_known);
    TEST(quantize_refuses);
    TEST(k_decode);
    TEST(k_recorded);
    TEST(k_errors);
    TEST(k_round_trip);
    TEST(k_extremes);
    TEST(not_finite);
    TEST(function_errors);
    TEST(function_lengths);
    TEST(function_nan);
    TEST(rmsnorm);
    TEST(softmax);
    TEST(rope);
    TEST(matmul_f32);
    TEST(matmul_f16);
    TEST(matmul_bf16);
    TEST(matmul_q8_0);
    TEST(matmul_q4_0);
    TEST(matmul_q4_k);
    TEST(matmul_q5_k);
    TEST(matmul_q6_k);
    TEST(matmul_k_exact);
    TEST(fused_multiply_add);
    TEST(matmul_every_format);
    TEST(x_decode);
    TEST(x_same_numbers);
    TEST(r_errors);
    TEST(r_extremes);
    TEST(matmul_rows);
    TEST(matmul_rows_exact);
    TEST(x_limits);
    TEST(matmul_tiny_inputs);
    TEST(matmul_refuses);
    TEST(probabilities);
    TEST(probabilities_greedy);
    TEST(probabilities_ties);
    TEST(draw_edges);
    TEST(random_numbers);
    TEST(draw_distribution);
    return test_end();
}
