/* test_ref_self.c - checks the reference itself against data that others made
   SPDX-License-Identifier: MIT

   Uses the types of ltx.h, none of its functions: a wrong reference would make every other test worthless. */
#include "ltx.h"
#include "ref.h"
#include "test.h"

/* The recorded logits are doubles rounded to float: half a unit in the last place, relative, and a little room for the order of sums. */
#define SAME_LOGITS 1.2e-7

/* ---- number formats ------------------------------------------------------------------------------------- */

static void halves(void)
{
    CHECK(ref_from_half(0x3c00) == 1.0);
    CHECK(ref_from_half(0xc000) == -2.0);
    CHECK(ref_from_half(0x7bff) == 65504.0);
    CHECK(ref_from_half(0x0400) == ldexp(1.0, -14));
    CHECK(ref_from_half(0x0001) == ldexp(1.0, -24));
    CHECK(ref_from_half(0x3555) == 0.333251953125);
    CHECK(isinf(ref_from_half(0x7c00)) && isnan(ref_from_half(0x7c01)));
    for (unsigned h = 0; h < 0x10000u; h++) {
        double x = ref_from_half(h);
        if (isnan(x)) CHECK(isnan(ref_from_half(ref_to_half(x))));
        else CHECK_EQ(ref_to_half(x), h);
    }
    CHECK_EQ(ref_to_half(65519.99), 0x7bff);
    CHECK_EQ(ref_to_half(65520.0), 0x7c00);
    CHECK_EQ(ref_to_half(1.0 + ldexp(1.0, -11)), 0x3c00);
    CHECK_EQ(ref_to_half(1.0 + 3.0 * ldexp(1.0, -11)), 0x3c02);
    CHECK_EQ(ref_to_half(ldexp(1.0, -25)), 0x0000);
    CHECK_EQ(ref_to_half(ldexp(1.5, -25)), 0x0001);
}

static void blocks(void)
{
    double x[32], y[32];
    unsigned char bytes[34];
    for (int i = 0; i < 32; i++) x[i] = 127 - 8 * i;
    ref_encode_row(LTX_Q8_0, x, 32, bytes);
    ref_decode_row(LTX_Q8_0, bytes, 32, y);
    CHECK(memcmp(x, y, sizeof x) == 0);
    for (int i = 0; i < 32; i++) x[i] = (i % 16 - 8) * 0.5;
    ref_encode_row(LTX_Q4_0, x, 32, bytes);
    ref_decode_row(LTX_Q4_0, bytes, 32, y);
    CHECK(memcmp(x, y, sizeof x) == 0);
}

/* Places of a few bits as the description in ltx.h names them, bytes and numbers back and forth, and an encoder that is good enough. */
static void super_blocks(void)
{
    static const int types[] = {LTX_Q4_K, LTX_Q5_K, LTX_Q6_K};
    test_rng r = {12};
    for (int f = 0; f < 3; f++) {
        unsigned char bytes[210], again[210];
        double x[REF_SUPER], y[REF_SUPER], error = 0.0, squares = 0.0;
        int type = types[f], six = type == LTX_Q6_K;
        memset(bytes, 0, sizeof bytes);
        bytes[six ? 100 : type == LTX_Q4_K ? 16 + 100 : 48 + 100] = 0x52; /* fourth row of 32 bytes, fifth of the row */
        if (type == LTX_Q5_K) bytes[16 + 4] = 0x80;
        if (six) bytes[128 + 32 + 4] = 0x8c; /* second half: bits 2, 3, 7 */
        if (six) bytes[192 + 15] = 0x80; else bytes[4 + 3] = 0x85, bytes[4 + 4 + 3] = 0x47, bytes[4 + 11] = 0x63;
        ref_super s = ref_super_read(type, bytes);
        if (six) CHECK(s.q[128 + 32 + 4] == 2 + 48 - 32 && s.q[128 + 96 + 4] == 5 + 32 - 32 && s.scale[15] == -128 && s.scale[14] == 0);
        else CHECK(s.q[192 + 4] == 2 && s.q[224 + 4] == (type == LTX_Q5_K ? 16 : 0) + 5);
        if (!six) CHECK(s.scale[3] == 5 && s.scale[7] == 3 + 32 && s.min[3] == 7 && s.min[7] == 6 + 16);
        for (size_t i = 0; i < ref_super_bytes(type); i++) bytes[i] = (unsigned char)test_int(&r, 256);
        bytes[1] &= 0x3f, bytes[3] &= 0x3f, bytes[209] &= 0x3f; /* finite */
        s = ref_super_read(type, bytes);
        ref_super_write(type, &s, again);
        CHECK(memcmp(bytes, again, ref_super_bytes(type)) == 0);
        for (int i = 0; i < REF_SUPER; i++) x[i] = test_gauss(&r);
        ref_encode_row(type, x, REF_SUPER, bytes);
        ref_decode_row(type, bytes, REF_SUPER, y);
        for (int i = 0; i < REF_SUPER; i++) error += (x[i] - y[i]) * (x[i] - y[i]), squares += x[i] * x[i];
        CHECK(sqrt(error / squares) < (type == LTX_Q4_K ? 0.1 : 0.05));
    }
}

/* ---- a trained model ------------------------------------------------------------------------------------- */

/* Views into the image of a llama2.c checkpoint (version 0): seven int32, then float32 matrices. */
typedef struct checkpoint {
    ltx_model model;
    ltx_layer layers[8];
    const unsigned char *at; /* next unread byte */
} checkpoint;

static int32_t read_i32(const unsigned char *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v); /* the file is little-endian, and so must be this machine for this test */
    return v;
}

static ltx_mat take(checkpoint *c, int rows, int cols)
{
    ltx_mat m = {c->at, LTX_F32, rows, cols};
    c->at += sizeof(float) * (size_t)rows * (size_t)cols;
    return m;
}

static void take_layers(checkpoint *c, int ffn, int kv)
{
    int n = c->model.n_layers, dim = c->model.dim;
    for (int i = 0; i < n; i++) c->layers[i].attn_norm = take(c, 1, dim);
    for (int i = 0; i < n; i++) c->layers[i].wq = take(c, dim, dim);
    for (int i = 0; i < n; i++) c->layers[i].wk = take(c, kv, dim);
    for (int i = 0; i < n; i++) c->layers[i].wv = take(c, kv, dim);
    for (int i = 0; i < n; i++) c->layers[i].wo = take(c, dim, dim);
    for (int i = 0; i < n; i++) c->layers[i].ffn_norm = take(c, 1, dim);
    for (int i = 0; i < n; i++) c->layers[i].w_gate = take(c, ffn, dim); /* w1 */
    for (int i = 0; i < n; i++) c->layers[i].w_down = take(c, dim, ffn); /* w2 */
    for (int i = 0; i < n; i++) c->layers[i].w_up = take(c, ffn, dim);   /* w3 */
}

static int parse(checkpoint *c, const test_block *file)
{
    memset(c, 0, sizeof *c);
    if (file->size < 28) return 0;
    ltx_model *m = &c->model;
    int32_t header[7];
    for (int i = 0; i < 7; i++) header[i] = read_i32(file->ptr + 4 * i);
    m->dim = header[0];
    m->n_layers = header[2];
    m->n_heads = header[3];
    m->n_kv_heads = header[4];
    m->vocab = header[5];
    m->ctx = header[6];
    m->layers = c->layers;
    if (m->n_layers < 1 || m->n_layers > 8 || m->vocab < 1) return 0;
    int head_dim = m->dim / m->n_heads;
    c->at = file->ptr + 28;
    m->embed = take(c, m->vocab, m->dim);
    take_layers(c, header[1], m->n_kv_heads * head_dim);
    m->out_norm = take(c, 1, m->dim);
    take(c, m->ctx, head_dim); /* cosines and sines, which we compute */
    return c->at == file->ptr + file->size;
}

/* Tokens fed while the logits were recorded, from the .json beside them. */
static const int fed[2][32] = {
    {1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267, 337, 410, 408, 419, 292, 411,
     322, 265, 282, 295, 433, 426},
    {1, 385, 328, 432, 317, 284, 316, 261, 301, 415, 414, 428, 428, 309, 415, 395, 301, 314, 426, 301, 314, 286, 399, 344, 444,
     429, 275, 266, 267, 262, 411, 411},
};

static void compare_recorded(const ref_model *m, const test_block *recorded)
{
    ref_options opt = {1, REF_KV_EXACT, 0, 0};
    double *logits = ref_new(m->vocab), worst = 0.0;
    for (int p = 0; p < 2; p++) {
        ref_state *s = ref_open(m, &opt);
        for (int t = 0; t < 32; t++) {
            ref_input in = {fed[p][t], NULL, 1};
            ref_outcome out;
            ref_row_run(s, NULL, NULL, &in, logits, &out);
            CHECK_EQ(out.depth, m->n_layers);
            for (int i = 0; i < m->vocab; i++) {
                float want;
                memcpy(&want, recorded->ptr + sizeof want * (size_t)((p * 32 + t) * m->vocab + i), sizeof want);
                worst = fmax(worst, fabs(logits[i] - (double)want));
                CHECK_NEAR(logits[i], (double)want, SAME_LOGITS * fmax(1.0, fabs((double)want)));
            }
        }
        ref_close(s);
    }
    printf("largest difference to the recorded logits: %.3g\n", worst);
    free(logits);
}

/* The trained model; 0 if it is not there. */
static int load(ref_model *m)
{
    static checkpoint c;
    test_block file = test_read_shared("models/stories260K.bin");
    int ok = file.ptr && CHECK(parse(&c, &file));
    if (ok) ref_model_load(&c.model, m);
    test_free(&file);
    return ok;
}

static void recorded_logits(void)
{
    ref_model m;
    test_block recorded = test_read_shared("models/reference/stories260K-logits-f64ref.bin");
    if (!recorded.ptr || !load(&m)) {
        test_free(&recorded);
        SKIP("shared models are not there");
    }
    if (CHECK_EQ(recorded.size, sizeof(float) * 2 * 32 * (size_t)m.vocab)) compare_recorded(&m, &recorded);
    ref_model_free(&m);
    test_free(&recorded);
}

/* ---- things that must come out equal ----------------------------------------------------------------------- */

/* Logits of token 20 of the first text at full depth, after 20 tokens that all leave after step `exit` (-1: none leaves). */
static void after_exits(const ref_model *m, const ref_options *opt, int exit, int fill, double *logits)
{
    ltx_step steps[8];
    ltx_plan plan = ref_plan_full(m, steps);
    ltx_policy policy;
    ref_state *s = ref_open(m, opt);
    memset(&policy, 0, sizeof policy);
    policy.rule = LTX_EXIT_ALWAYS;
    plan.fill = fill;
    if (exit >= 0) steps[exit].gate = 1;
    for (int t = 0; t <= 20; t++) {
        ref_input in = {fed[0][t], NULL, 1};
        ref_outcome out;
        if (t == 20) policy.rule = LTX_EXIT_NEVER;
        ref_row_run(s, &plan, &policy, &in, logits, &out);
        CHECK_EQ(out.depth, exit >= 0 && t < 20 ? exit + 1 : m->n_layers);
    }
    ref_close(s);
}

static double distance(const double *a, const double *b, int n)
{
    double most = 0.0;
    for (int i = 0; i < n; i++) most = fmax(most, fabs(a[i] - b[i]));
    return most;
}

static void identities(void)
{
    ref_model m;
    ref_options plain = {1, REF_KV_EXACT, 0, 0}, wide = {1, REF_KV_EXACT, 21, 3}, narrow = {1, REF_KV_EXACT, 8, 2};
    if (!load(&m)) SKIP("shared models are not there");
    double *full = ref_new(m.vocab), *got = ref_new(m.vocab);
    int last = m.n_layers - 1;
    after_exits(&m, &plain, -1, LTX_FILL_PROJECT, full);
    after_exits(&m, &wide, -1, LTX_FILL_PROJECT, got);
    CHECK(distance(full, got, m.vocab) == 0.0); /* a window that holds everything is none */
    after_exits(&m, &narrow, -1, LTX_FILL_PROJECT, got);
    CHECK(distance(full, got, m.vocab) > 1e-3);
    after_exits(&m, &plain, 0, LTX_FILL_DEFER, got);
    CHECK(distance(full, got, m.vocab) == 0.0); /* deferred steps leave what full depth leaves */
    after_exits(&m, &plain, last - 1, LTX_FILL_PROJECT, got);
    CHECK(distance(full, got, m.vocab) == 0.0); /* the last step's keys come from the state before it anyway */
    after_exits(&m, &plain, last - 2, LTX_FILL_PROJECT, got);
    CHECK(distance(full, got, m.vocab) > 1e-3);
    after_exits(&m, &plain, last - 1, LTX_FILL_NONE, got);
    CHECK(distance(full, got, m.vocab) > 1e-3);
    free(full);
    free(got);
    ref_model_free(&m);
}

int main(void)
{
    test_begin("test_ref_self");
    TEST(halves);
    TEST(blocks);
    TEST(super_blocks);
    TEST(recorded_logits);
    TEST(identities);
    return test_end();
}
