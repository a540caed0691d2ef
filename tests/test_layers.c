/* test_layers.c - what the tools measure of layers (tools/layers.h), against models that were built to know the answer, another way to singular values,
   and the engine itself
   SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "examples/common.h"
#include "kit.h"
#include "tools/layers.h"

/* ==== rank ================================================================================================== */

/* Squared singular values by one-sided Jacobi rotations of columns, largest first; a is used up. */
static void jacobi(double *a, int n, double *values)
{
    for (int sweep = 0; sweep < 40; sweep++) for (int p = 0; p < n; p++) for (int q = p + 1; q < n; q++) {
        double pp = 0, qq = 0, pq = 0;
        for (int i = 0; i < n; i++) { const double x = a[i * n + p], y = a[i * n + q]; pp += x * x; qq += y * y; pq += x * y; }
        if (pq == 0 || fabs(pq) < 1e-15 * sqrt(pp * qq)) continue;
        const double t = (qq - pp) / (2 * pq), tan = (t < 0 ? -1 : 1) / (fabs(t) + sqrt(1 + t * t)), c = 1 / sqrt(1 + tan * tan), s = c * tan;
        for (int i = 0; i < n; i++) { const double x = a[i * n + p], y = a[i * n + q]; a[i * n + p] = c * x - s * y; a[i * n + q] = s * x + c * y; }
    }
    for (int j = 0; j < n; j++) {
        values[j] = 0;
        for (int i = 0; i < n; i++) values[j] += a[i * n + j] * a[i * n + j];
    }
    for (int i = 0; i < n; i++) for (int j = i + 1; j < n; j++) if (values[j] > values[i]) { const double x = values[i]; values[i] = values[j]; values[j] = x; }
}
static int jacobi_rank(const double *a, int n)
{
    double copy[48 * 48], values[48], all = 0, sum = 0;
    int k = 0;
    memcpy(copy, a, (size_t)(n * n) * sizeof *a);
    jacobi(copy, n, values);
    for (int i = 0; i < n; i++) all += values[i];
    while (k < n && sum < RANK_SHARE * all * (1 - 1e-9)) sum += values[k++];
    return k;
}
static void ranks_known(void)
{
    static double a[100 * 100];
    for (int i = 0; i < 100; i++) a[i * 101] = 1; /* each row at itself */
    CHECK_EQ(share_rank(a, 100), 90);
    for (int i = 0; i < 100; i++) a[i * 101] = i < 3 ? 2 : 1; /* squares: 12 of 109 in three values, so 98.1 in 90 (98.1 - 12 = 86.1: 3 + 87) */
    CHECK_EQ(share_rank(a, 100), 90);
    memset(a, 0, sizeof a);
    for (int i = 0; i < 100; i++) a[i * 100] = 1; /* all at the first */
    CHECK_EQ(share_rank(a, 100), 1);
    for (int i = 0; i < 100; i++) for (int j = 0; j < 100; j++) a[i * 100 + j] = j == i / 50 ? 1 : 0; /* two halves, each at a place of its own */
    CHECK_EQ(share_rank(a, 100), 2);
    a[0] = 5;
    CHECK_EQ(share_rank(a, 1), 1);
}
static void ranks_by_jacobi(void)
{
    test_rng r = {7};
    double a[48 * 48];
    int different = 0, last = 0;
    for (int n = 1; n <= 48; n++) for (int kind = 0; kind < 3; kind++) { /* causal and uniform; causal softmax of random scores; anything */
        for (int i = 0; i < n; i++) {
            double sum = 0;
            for (int j = 0; j < n; j++) {
                a[i * n + j] = kind == 2 ? test_gauss(&r) : j > i ? 0 : kind == 0 ? 1 : exp(3 * test_gauss(&r));
                sum += a[i * n + j];
            }
            for (int j = 0; j < n && kind < 2; j++) a[i * n + j] /= sum;
        }
        CHECK_EQ(share_rank(a, n), jacobi_rank(a, n));
        different += share_rank(a, n) != last;
        last = share_rank(a, n);
    }
    CHECK(different > 48);
}

/* ==== attention ============================================================================================= */

/* Two layers that add nothing: the first looks everywhere alike (no queries), the second at itself alone (rows are orthogonal, and queries
   and keys are the rows, 40 times as long). */
enum { N = 32 };
static float one_hot[N][N], identity[N][N], zeros[N][N], ones[N];
static const ltx_mat m_hot = {one_hot, LTX_F32, N, N}, m_id = {identity, LTX_F32, N, N}, m_zero = {zeros, LTX_F32, N, N}, m_one = {ones, LTX_F32, 1, N};

static void build_known(ltx_model *m, ltx_layer *l, int both_ways)
{
    memset(m, 0, sizeof *m);
    memset(l, 0, 2 * sizeof *l);
    for (int i = 0; i < N; i++) { ones[i] = 1; one_hot[i][i] = 3; identity[i][i] = 40; }
    for (int i = 0; i < 2; i++) {
        l[i].attn_norm = l[i].ffn_norm = m_one;
        l[i].wq = i == 0 ? m_zero : m_id;
        l[i].wk = m_id;
        l[i].wv = l[i].wo = l[i].w_up = l[i].w_down = m_zero;
    }
    m->dim = m->vocab = m->ctx = N; m->n_layers = 2; m->n_heads = 1; m->rope_pairs = LTX_ROPE_NONE; m->both_ways = both_ways;
    m->embed = m_hot; m->out_norm = m_one; m->layers = l;
}
/* All of watch: rows 0..rows-1 of a model are run with every branch as a step of its own. */
static void run_watch(const ltx_model *m, int rows, int rank_rows, turn (*turns)[2], ltx_gate_fn *tap, void *user)
{
    ltx_step steps[2 * KIT_LAYERS];
    int32_t tokens[64];
    const plan_mask full = mask_full(m);
    watch w = {m, steps, NULL, rank_rows, turns};
    ltx_session_desc desc;
    kit_session s;
    memset(&desc, 0, sizeof desc);
    desc.rows = rows; desc.kv = LTX_KV_F32; desc.plan.steps = steps; desc.log = print_log;
    desc.plan.count = mask_steps(&full, m->n_layers, steps);
    CHECK_EQ(ltx_plan_split(steps, 2 * KIT_LAYERS, &desc.plan.count), LTX_OK);
    desc.policy.tap = tap != NULL ? tap : watch_tap;
    desc.policy.user = tap != NULL ? user : &w;
    w.before = (float *)test_malloc((size_t)rows * (size_t)m->dim * sizeof(float));
    for (int i = 0; i < rows; i++) tokens[i] = i % m->vocab;
    s = kit_open(m, &desc);
    CHECK_EQ(ltx_eval(s.s, tokens, rows, NULL), LTX_OK);
    if (tap == NULL) watch_means(&w);
    kit_close(&s);
    free(w.before);
}
static void attention_known(void)
{
    for (int both = 0; both < 2; both++) {
        ltx_model m;
        ltx_layer l[2];
        turn turns[2][2];
        double p[N * N], uniform[N * N];
        build_known(&m, l, both);
        for (int i = 0; i < N; i++) for (int j = 0; j < N; j++) uniform[i * N + j] = both ? 1.0 / N : j <= i ? 1.0 / (i + 1) : 0;
        attention_probabilities(&m, 0, one_hot[0], N, p);
        for (int i = 0; i < N * N; i++) CHECK_NEAR(p[i], uniform[i], 1e-6);
        attention_probabilities(&m, 1, one_hot[0], N, p);
        for (int i = 0; i < N * N; i++) CHECK_NEAR(p[i], i % (N + 1) == 0 ? 1 : 0, 1e-6);
        memset(turns, 0, sizeof turns);
        run_watch(&m, N, N, turns, NULL, NULL);
        CHECK_NEAR(turns[0][0].rank, jacobi_rank(uniform, N), 0);
        CHECK_NEAR(turns[1][0].rank, 29, 0); /* nine tenths of 32 */
        for (int i = 0; i < 4; i++) { CHECK_NEAR(turns[i / 2][i % 2].cosine, 1, 1e-12); CHECK_NEAR(turns[i / 2][i % 2].norm, 1, 1e-12); CHECK_EQ(turns[i / 2][i % 2].rows, N); }
        memset(turns, 0, sizeof turns);
        run_watch(&m, N, 10, turns, NULL, NULL);
        CHECK_NEAR(turns[1][0].rank, 9, 0); /* of the first ten rows */
        CHECK_EQ(turns[1][0].ranks, 1);
        CHECK_EQ(turns[1][1].ranks, 0);
    }
}

/* The probabilities, made outside of the engine, times values and wo have to give what the engine's attention adds. */
typedef struct compare { const ltx_model *m; float *before; int rows; double worst, added, rank[KIT_LAYERS], cosine[KIT_LAYERS], norm[KIT_LAYERS]; int steps; } compare;

static void product(const ltx_mat *w, const ltx_mat *bias, const float *x, int rows, float *y)
{
    ltx_need need;
    CHECK_EQ(ltx_matmul_need(w, rows, &need), LTX_OK);
    test_block work = test_alloc(need.size, need.align);
    ltx_mem mem = {work.ptr, work.size};
    CHECK_EQ(ltx_matmul(LTX_ISA_SCALAR, w, x, rows, mem, y), LTX_OK);
    test_free(&work);
    for (int i = 0; i < rows * w->rows && bias->data != NULL; i++) y[i] += ((const float *)bias->data)[i % w->rows];
}
static void attention_output(const ltx_model *m, int layer, const float *x, int rows, float *out)
{
    const ltx_layer *l = &m->layers[layer];
    const int hd = l->wq.rows / m->n_heads;
    double *p = (double *)test_malloc((size_t)(m->n_heads * rows * rows) * sizeof *p);
    float *a = (float *)test_malloc((size_t)(rows * m->dim) * 4), *v = (float *)test_malloc((size_t)(rows * l->wv.rows) * 4), *sum = (float *)test_malloc((size_t)(rows * l->wq.rows) * 4);
    attention_probabilities(m, layer, x, rows, p);
    attention_input(m, l, x, rows, a);
    product(&l->wv, &l->bv, a, rows, v);
    for (int i = 0; i < rows; i++) for (int h = 0; h < m->n_heads; h++) for (int d = 0; d < hd; d++) {
        double s = 0;
        for (int j = 0; j < rows; j++) s += p[(h * rows + i) * rows + j] * (double)v[j * l->wv.rows + h * l->wv.rows / hd / m->n_heads * hd + d];
        sum[i * l->wq.rows + h * hd + d] = (float)s;
    }
    product(&l->wo, &l->bo, sum, rows, out);
    free(p); free(a); free(v); free(sum);
}
static int32_t compare_tap(void *user, const ltx_view *v)
{
    compare *c = (compare *)user;
    const size_t dim = (size_t)v->dim, bytes = (size_t)c->rows * dim * 4;
    static float *after, *want;
    if (v->position == 0) after = (float *)test_malloc(bytes);
    memcpy(after + (size_t)v->position * dim, v->hidden, dim * 4);
    if (v->position < c->rows - 1) return LTX_GO;
    if (v->step >= 0 && v->step % 2 == 0) { /* an attention: what it has added */
        want = (float *)test_malloc(bytes);
        attention_output(c->m, v->layer, c->before, c->rows, want);
        for (size_t i = 0; i < (size_t)c->rows * dim; i++) {
            const double added = (double)after[i] - (double)c->before[i];
            c->worst = fmax(c->worst, fabs(added - (double)want[i]));
            c->added = fmax(c->added, fabs(added));
        }
        c->steps++;
        free(want);
    }
    if (v->step >= 0 && v->step % 2 == 0) {
        c->rank[v->layer] = attention_rank(c->m, v->layer, c->before, c->rows);
        for (int i = 0; i < c->rows; i++) {
            double dot[3] = {0, 0, 0};
            for (size_t d = (size_t)i * dim; d < ((size_t)i + 1) * dim; d++) {
                const double x = (double)c->before[d], y = (double)after[d];
                dot[0] += x * x; dot[1] += x * y; dot[2] += y * y;
            }
            c->cosine[v->layer] += dot[1] / sqrt(dot[0]) / sqrt(dot[2]) / c->rows;
            c->norm[v->layer] += sqrt(dot[2]) / sqrt(dot[0]) / c->rows;
        }
    }
    memcpy(c->before, after, bytes);
    free(after);
    return LTX_GO;
}
static void attention_of_engine(void)
{
    static const unsigned flags[] = {0, KIT_BIAS, KIT_QK_NORM, KIT_BIAS | KIT_QK_NORM | KIT_FACTORS, KIT_FACTORS};
    enum { ROWS = 24 };
    for (int kind = 0; kind < 15; kind++) {
        kit_shape sh = kit_small;
        turn turns[KIT_LAYERS][2];
        compare c;
        sh.rope_pairs = kind % 3;
        sh.flags = sh.rope_pairs == LTX_ROPE_NONE ? flags[kind % 5] & ~(unsigned)KIT_FACTORS : flags[kind % 5];
        sh.format = kind < 10 ? LTX_F32 : LTX_Q8_0;
        kit_model *k = kit_make(&sh, 11 + (uint64_t)kind);
        k->m.both_ways = kind % 2;
        k->m.attn_scale = kind % 4 == 3 ? .05f : 0;
        if (kind % 4 == 1) {
            k->m.norm = LTX_NORM_LAYER;
            for (int i = 0; i < sh.layers && sh.flags & KIT_BIAS; i++) k->layers[i].attn_norm_bias = k->layers[i].bo;
        }
        memset(&c, 0, sizeof c);
        c.m = &k->m; c.rows = ROWS;
        c.before = (float *)test_malloc((size_t)(ROWS * sh.dim) * 4);
        run_watch(&k->m, ROWS, 0, NULL, compare_tap, &c);
        CHECK_EQ(c.steps, sh.layers);
        CHECK(c.added > .1);
        CHECK_NEAR(c.worst / c.added, 0, kind < 10 ? 1e-5 : 1e-3); /* Q8_0: a number between two steps may fall to either */
        memset(turns, 0, sizeof turns);
        run_watch(&k->m, ROWS, ROWS, turns, NULL, NULL);
        for (int i = 0; i < sh.layers; i++) {
            CHECK_NEAR(turns[i][0].rank, c.rank[i], 0);
            CHECK_NEAR(turns[i][0].cosine, c.cosine[i], 1e-12);
            CHECK_NEAR(turns[i][0].norm, c.norm[i], 1e-12);
        }
        free(c.before);
        kit_free(k);
    }
}

/* ==== plans ================================================================================================= */

static double told_cost(void *user, const plan_mask *x) /* each branch has a price; the tap counts plans */
{
    double sum = 0;
    for (int l = 0; l < 5; l++) sum += (x->run[l] & LTX_ATTN ? 0 : 10 + l) + (x->run[l] & LTX_FFN ? 0 : 20 - 4 * l);
    ++*(int *)user;
    return sum;
}
static void cheapest(void)
{
    kit_model *k = kit_make(&kit_small, 3);
    const plan_mask full = mask_full(&k->m);
    plan_mask x = full;
    ltx_step steps[KIT_LAYERS];
    double least;
    int asked = 0;
    CHECK_EQ(mask_branches(&full, 5), 10);
    x = mask_cheapest(&x, 5, 0, told_cost, &asked, &least);
    CHECK_NEAR(least, 4, 0);
    CHECK_EQ(asked, 10);
    CHECK_EQ(x.run[4], LTX_ATTN);
    x = mask_cheapest(&x, 5, 0, told_cost, &asked, &least);
    CHECK_NEAR(least, 12, 0);
    CHECK_EQ(x.run[3], LTX_ATTN);
    x = mask_cheapest(&full, 5, 1, told_cost, &asked, &least);
    CHECK_NEAR(least, 18, 0); /* of the fifth layer: 14 + 4 */
    CHECK_EQ(x.run[4], 0);
    CHECK_EQ(asked, 10 + 9 + 5);
    CHECK_EQ(mask_steps(&x, 5, steps), 4);
    kit_free(k);
}

int main(void)
{
    test_begin("test_layers");
    TEST(ranks_known);
    TEST(ranks_by_jacobi);
    TEST(attention_known);
    TEST(attention_of_engine);
    TEST(cheapest);
    return test_end();
}
