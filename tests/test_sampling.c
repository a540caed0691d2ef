/* test_sampling.c - speculative sampling has the distribution of plain sampling, and the counters count what happened
   SPDX-License-Identifier: MIT

   cc -O2 -I. -Itests tests/test_sampling.c -o test_sampling -lm && ./test_sampling */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"

/* ==== distribution ====================================================================================== */

enum { VOCAB = 24, PROMPT = 4, SAMPLES = 12000 };

static const kit_shape small = {32, 4, 2, 1, 16, 32, VOCAB, KIT_MIXED, KIT_UNTIED, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};
static const int32_t prompt[PROMPT] = {3, 17, 8, 11};

typedef struct experiment {
    kit_model *k;
    kit_session s;
    ltx_sampler sampler;   /* without seed */
    int cells;             /* VOCAB^length */
    int length;            /* tokens of a joint outcome: 2 or 3 */
    double *expected;      /* [cells] probability */
    double *count;         /* [cells] */
} experiment;

/* Exact probabilities of all continuations, by walking the tree with plain evals. */
static void enumerate(experiment *e, ltx_session *plain, int32_t token, int depth, int cell, double p)
{
    const float *logits;
    float probs[VOCAB];
    int32_t order[VOCAB];
    int position = ltx_position(plain);
    CHECK_EQ(ltx_eval(plain, &token, 1, &logits), LTX_OK);
    ltx_probabilities(LTX_ISA_AUTO, &e->sampler, logits, VOCAB, probs, order);
    for (int t = 0; t < VOCAB; t++) {
        double q = p * (double)probs[t];
        if (!(q > 0)) continue;
        if (depth + 1 == e->length) e->expected[cell * VOCAB + t] += q;
        else enumerate(e, plain, t, depth + 1, cell * VOCAB + t, q);
    }
    CHECK_EQ(ltx_rewind(plain, position), LTX_OK);
}

static int one_sample(experiment *e, uint64_t seed)
{
    ltx_token out[8];
    int32_t token = prompt[PROMPT - 1], n;
    int cell = 0, have = 0;
    e->sampler.state = seed;
    CHECK_EQ(ltx_rewind(e->s.s, PROMPT - 1), LTX_OK);
    while (have < e->length) {
        if (!CHECK_EQ(ltx_decode(e->s.s, &e->sampler, token, out, 8, &n), LTX_OK)) exit(1);
        for (int i = 0; i < n && have < e->length; i++, have++) cell = cell * VOCAB + out[i].id;
        token = out[n - 1].id;
    }
    return cell;
}

/* Pearson's statistic; cells that expect fewer than 5 are put together. *df = degrees of freedom. */
static double chi_square(const experiment *e, int samples, int *df)
{
    double sum = 0, rest = 0, rest_count = 0;
    *df = -1;
    for (int i = 0; i < e->cells; i++) {
        double want = e->expected[i] * samples, d = e->count[i] - want;
        if (want < 5) { rest += want; rest_count += e->count[i]; continue; }
        sum += d * d / want;
        ++*df;
    }
    if (rest > 1) { sum += (rest_count - rest) * (rest_count - rest) / rest; ++*df; }
    else CHECK(rest_count < 12); /* what hardly ever happens */
    return sum;
}

/* Drafts under `base`, whose policy plain decoding does not have: gates are not asked. */
static void compare_in(const ltx_session_desc *base, const ltx_sampler *sampler, ltx_draft draft, int length, const void *draft_ids, int n_draft_ids, int must_reject)
{
    experiment e;
    ltx_session_desc d = *base;
    ltx_stats stats;
    test_rng r = {71};
    double total = 0;
    int df;
    memset(&e, 0, sizeof e);
    memset(&d.policy, 0, sizeof d.policy);
    e.k = kit_make(&small, 9);
    e.sampler = *sampler; e.length = length;
    e.cells = length == 2 ? VOCAB * VOCAB : VOCAB * VOCAB * VOCAB;
    e.expected = (double *)test_malloc((size_t)e.cells * 2 * sizeof(double));
    e.count = e.expected + e.cells;
    memset(e.expected, 0, (size_t)e.cells * 2 * sizeof(double));
    d.ctx = 24; d.rows = 16;
    kit_session plain = kit_open(&e.k->m, &d);
    CHECK_EQ(ltx_eval(plain.s, prompt, PROMPT - 1, NULL), LTX_OK);
    enumerate(&e, plain.s, prompt[PROMPT - 1], 0, 0, 1.0);
    e.k->m.draft_ids = draft_ids; e.k->m.n_draft_ids = n_draft_ids;
    d.draft_max = 4; d.draft = draft; d.policy = base->policy;
    e.s = kit_open(&e.k->m, &d);
    CHECK_EQ(ltx_eval(e.s.s, prompt, PROMPT - 1, NULL), LTX_OK);
    for (int i = 0; i < SAMPLES; i++) e.count[one_sample(&e, test_bits(&r))]++;
    for (int i = 0; i < e.cells; i++) total += e.expected[i];
    CHECK_NEAR(total, 1.0, 1e-4);
    double chi = chi_square(&e, SAMPLES, &df);
    if (!CHECK(df > 3 && chi < df + 4.0 * sqrt(2.0 * df) + 4.0)) printf("  chi-square %.1f for %d degrees of freedom\n", chi, df);
    ltx_session_stats(e.s.s, &stats);
    if (must_reject) CHECK(stats.accepted > 0);
    if (must_reject) CHECK(stats.accepted < stats.drafted);
    CHECK_EQ(stats.exits, 0);
    kit_close(&plain);
    kit_close(&e.s);
    free(e.expected);
    kit_free(e.k);
}

static void compare(const ltx_sampler *sampler, ltx_draft draft, int length, const void *draft_ids, int n_draft_ids, int must_reject)
{
    ltx_session_desc base;
    memset(&base, 0, sizeof base);
    compare_in(&base, sampler, draft, length, draft_ids, n_draft_ids, must_reject);
}

static const ltx_sampler warm = {1.2f, 0, 0, 0, 0}, few = {1.5f, 6, 0, 0, 0}, nucleus = {1.2f, 0, 0.8f, 0, 0}, mixed = {2.0f, 10, 0.95f, 0.05f, 0};

static void plain_sampling(void)
{
    compare(&warm, kit_draft(0, 0, 0, 0), 2, NULL, 0, 0);
    compare(&mixed, kit_draft(0, 0, 0, 0), 3, NULL, 0, 0);
}

static void speculative_sampling(void)
{
    compare(&warm, kit_draft(1, 3, 1e-9f, 0), 2, NULL, 0, 1);
    compare(&warm, kit_draft(3, 2, 0.3f, 0), 2, NULL, 0, 1);
    compare(&warm, kit_draft(2, 0, 0, 0.001f), 2, NULL, 0, 0); /* its own choice of when to stop */
    ltx_draft looked_up = kit_draft(0, 2, 0, 0.001f);
    looked_up.lookup = 2;
    compare(&warm, looked_up, 2, NULL, 0, 1);
    looked_up.exit = 1;
    compare(&warm, looked_up, 3, NULL, 0, 1);
}

static void speculative_top_k(void)
{
    compare(&few, kit_draft(1, 4, 1e-9f, 0), 3, NULL, 0, 1);
    compare(&few, kit_draft(2, 2, 1e-9f, 0), 2, NULL, 0, 1);
}

static void speculative_top_p(void)
{
    compare(&nucleus, kit_draft(1, 4, 1e-9f, 0), 2, NULL, 0, 1);
    compare(&mixed, kit_draft(2, 3, 1e-9f, 0), 3, NULL, 0, 1);
}

static void speculative_shortlist(void)
{
    static const unsigned char ids[5 * 4] = {1, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 11, 0, 0, 0, 20, 0, 0, 0};
    compare(&warm, kit_draft(2, 3, 1e-9f, 0), 2, ids, 5, 1);
}

static void speculative_several_exits(void)
{
    ltx_draft d = kit_draft(1, 3, 0.3f, 0);
    d.last = 3;
    compare(&few, d, 2, NULL, 0, 1);
    d.stop = 0; /* chosen online */
    compare(&few, d, 2, NULL, 0, 0);
}

/* Half a layer dropped, one beside another, one repeated; a window with a sink, an int8 cache, two tasks, a rule that would let all rows leave. */
static void speculative_combined(void)
{
    static const unsigned char ids[5 * 4] = {1, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 11, 0, 0, 0, 20, 0, 0, 0};
    ltx_step steps[8];
    ltx_session_desc base;
    kit_model *k = kit_make(&small, 9);
    ltx_draft d = kit_draft(2, 3, 1e-9f, 0);
    memset(&base, 0, sizeof base);
    CHECK_EQ(ltx_plan_full(&k->m, steps, 8, &base.plan.count), LTX_OK);
    CHECK_EQ(ltx_plan_drop(steps, &base.plan.count, 1, LTX_ATTN), LTX_OK);
    CHECK_EQ(ltx_plan_repeat(steps, 8, &base.plan.count, 2, 3, 2), LTX_OK);
    CHECK_EQ(ltx_plan_beside(steps, base.plan.count, 2, 3), LTX_OK);
    CHECK_EQ(ltx_plan_gates(steps, base.plan.count, 0, 1), LTX_OK);
    base.plan.steps = steps;
    base.window = 3; base.sinks = 1; base.kv = LTX_KV_I8; base.threads = 2; base.policy.rule = LTX_EXIT_ALWAYS;
    compare_in(&base, &warm, d, 2, NULL, 0, 1);
    base.plan.fill = LTX_FILL_DEFER;
    d.lookup = 1; d.last = 4;
    compare_in(&base, &mixed, d, 2, ids, 5, 1);
    kit_free(k);
}

/* ==== counters ========================================================================================== */

enum { L = 5 }; /* layers of kit_small */

typedef struct weights { uint64_t layer[L], kv[L], head; } weights; /* bytes of the matrices */

static weights weigh(const ltx_model *m)
{
    weights w;
    w.head = kit_mat_bytes(&m->embed);
    for (int i = 0; i < L; i++) {
        w.kv[i] = kit_kv_bytes(&m->layers[i]);
        w.layer[i] = kit_run_bytes(&m->layers[i], LTX_ATTN | LTX_FFN);
    }
    return w;
}

static uint64_t sum(const uint64_t *x, int from, int to)
{
    uint64_t s = 0;
    for (int i = from; i < to; i++) s += x[i];
    return s;
}

static void check_stats(ltx_session *s, const ltx_stats *want)
{
    ltx_stats got;
    ltx_session_stats(s, &got);
    CHECK_EQ(got.tokens, want->tokens);
    CHECK_EQ(got.attn_rows, want->attn_rows);
    CHECK_EQ(got.ffn_rows, want->ffn_rows);
    CHECK_EQ(got.fill_rows, want->fill_rows);
    CHECK_EQ(got.head_rows, want->head_rows);
    CHECK_EQ(got.weight_bytes, want->weight_bytes);
    CHECK_EQ(got.exits, want->exits);
    CHECK_EQ(got.rounds, want->rounds);
    CHECK_EQ(got.drafted, want->drafted);
    CHECK_EQ(got.accepted, want->accepted);
    if (want->attended) CHECK_EQ(got.attended, want->attended);
    if (want->kv_bytes) CHECK_EQ(got.kv_bytes, want->kv_bytes);
}

static ltx_session_desc counted_desc(void)
{
    ltx_session_desc d;
    memset(&d, 0, sizeof d);
    d.ctx = 120; d.rows = 16; d.kv = LTX_KV_F16;
    return d;
}

static void counting_plain(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    weights w = weigh(&k->m);
    ltx_session_desc d = counted_desc();
    int32_t tokens[40];
    const float *logits;
    kit_tokens(tokens, 40, 61, 1);
    for (int n = 1; n <= 40; n += 13) {
        ltx_stats want;
        uint64_t batches = (uint64_t)(n + 15) / 16, u = (uint64_t)n;
        memset(&want, 0, sizeof want);
        kit_session s = kit_open(&k->m, &d);
        CHECK_EQ(ltx_eval(s.s, tokens, n, &logits), LTX_OK);
        want.tokens = u; want.attn_rows = want.ffn_rows = u * L; want.head_rows = 1;
        want.weight_bytes = batches * sum(w.layer, 0, L) + w.head;
        want.attended = L * u * (u + 1) / 2;
        check_stats(s.s, &want);
        ltx_stats_reset(s.s);
        CHECK_EQ(ltx_eval(s.s, tokens, 1, NULL), LTX_OK); /* nobody wants logits */
        want.tokens = 1; want.attn_rows = want.ffn_rows = L; want.head_rows = 0;
        want.weight_bytes = sum(w.layer, 0, L);
        want.attended = L * (u + 1);
        want.kv_bytes = want.attended * 2 * 24 * 2 * 2; /* heads, elements, key and value, bytes */
        check_stats(s.s, &want);
        kit_close(&s);
    }
    kit_free(k);
}

static void counting_window(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    ltx_session_desc d = counted_desc();
    int32_t tokens[40];
    ltx_stats got;
    uint64_t want = 0;
    kit_tokens(tokens, 40, 61, 1);
    d.window = 9; d.sinks = 3;
    kit_session s = kit_open(&k->m, &d);
    CHECK_EQ(ltx_eval(s.s, tokens, 40, NULL), LTX_OK);
    for (int p = 0; p < 40; p++) want += (uint64_t)(p < 12 ? p + 1 : 12);
    ltx_session_stats(s.s, &got);
    CHECK_EQ(got.attended, want * L);
    kit_close(&s);
    kit_free(k);
}

/* A fixed exit after `e` steps, one token at a time, with each fill. */
static void counting_exits(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    weights w = weigh(&k->m);
    int32_t tokens[10];
    kit_tokens(tokens, 10, 61, 2);
    for (int e = 1; e < L; e++)
        for (int fill = 0; fill <= LTX_FILL_NONE; fill++) {
            ltx_step steps[L];
            ltx_session_desc d = counted_desc();
            ltx_stats want;
            const float *logits;
            memset(&want, 0, sizeof want);
            ltx_plan_full(&k->m, steps, L, &d.plan.count);
            ltx_plan_gates(steps, L, e - 1, L);
            d.plan.steps = steps; d.plan.fill = fill; d.policy.rule = LTX_EXIT_ALWAYS;
            kit_session s = kit_open(&k->m, &d);
            for (int i = 0; i < 10; i++) CHECK_EQ(ltx_eval(s.s, &tokens[i], 1, &logits), LTX_OK);
            want.tokens = want.head_rows = want.exits = 10;
            want.attn_rows = want.ffn_rows = 10 * (uint64_t)e;
            want.fill_rows = fill == LTX_FILL_PROJECT ? 10 * (uint64_t)(L - e) : 0;
            want.weight_bytes = 10 * (sum(w.layer, 0, e) + w.head) + (fill == LTX_FILL_PROJECT ? 10 * sum(w.kv, e, L) : 0);
            check_stats(s.s, &want);
            CHECK_EQ(ltx_flush(s.s), LTX_OK); /* the deferred layers: all ten rows as one batch */
            if (fill == LTX_FILL_DEFER) {
                want.attn_rows = want.ffn_rows = 10 * L;
                want.weight_bytes += sum(w.layer, e, L);
            }
            check_stats(s.s, &want);
            kit_close(&s);
        }
    kit_free(k);
}

/* Rules that read logits pay a head at each gate they pass. */
static void counting_gates(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    weights w = weigh(&k->m);
    ltx_step steps[L];
    ltx_session_desc d = counted_desc();
    int32_t tokens[10];
    const float *logits;
    ltx_stats want;
    memset(&want, 0, sizeof want);
    kit_tokens(tokens, 10, 61, 2);
    ltx_plan_full(&k->m, steps, L, &d.plan.count);
    ltx_plan_gates(steps, L, 1, 2); /* after steps 1 and 3 */
    d.plan.steps = steps; d.policy.rule = LTX_EXIT_PROB; d.policy.threshold = 2.0f; /* never sure enough */
    kit_session s = kit_open(&k->m, &d);
    CHECK_EQ(ltx_eval(s.s, tokens, 10, &logits), LTX_OK);
    want.tokens = 10; want.attn_rows = want.ffn_rows = 10 * L; want.head_rows = 3;
    want.weight_bytes = sum(w.layer, 0, L) + 3 * w.head;
    want.attended = L * 55;
    check_stats(s.s, &want);
    kit_close(&s);
    kit_free(k);
}

/* Rounds of exactly n drafts: every row runs the first e layers alone, the rest as one batch. */
static void counting_speculation(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    weights w = weigh(&k->m);
    for (int e = 1; e < L; e++)
        for (int n = 1; n <= 4; n++) {
            ltx_session_desc d = counted_desc();
            ltx_sampler sampler = {1.0f, 0, 0, 0, 5};
            ltx_stats want;
            ltx_token out[8];
            int32_t token = 7, got;
            uint64_t rows = (uint64_t)n + 1;
            memset(&want, 0, sizeof want);
            d.draft_max = 6; d.draft = kit_draft(e, n, 1e-30f, 0);
            kit_session s = kit_open(&k->m, &d);
            for (int i = 0; i < 12; i++) {
                CHECK_EQ(ltx_decode(s.s, &sampler, token, out, 8, &got), LTX_OK);
                CHECK(got >= 1 && got <= n + 1);
                for (int j = 0; j < got; j++) {
                    CHECK_EQ(out[j].drafted, j + 1 < got);
                    CHECK_EQ(out[j].depth, j + 1 < got ? e : L);
                }
                want.accepted += (uint64_t)got - 1;
                token = out[got - 1].id;
            }
            want.rounds = 12; want.drafted = 12 * (uint64_t)n; want.tokens = 12 * rows;
            want.attn_rows = want.ffn_rows = 12 * rows * L;
            want.head_rows = 12 * (rows + (uint64_t)n);
            want.weight_bytes = 12 * (rows * sum(w.layer, 0, e) + sum(w.layer, e, L) + (uint64_t)n * w.head + w.head);
            check_stats(s.s, &want);
            kit_close(&s);
        }
    kit_free(k);
}

int main(void)
{
    test_begin("test_sampling");
    TEST(plain_sampling);
    TEST(speculative_sampling);
    TEST(speculative_top_k);
    TEST(speculative_top_p);
    TEST(speculative_shortlist);
    TEST(speculative_several_exits);
    TEST(speculative_combined);
    TEST(counting_plain);
    TEST(counting_window);
    TEST(counting_exits);
    TEST(counting_gates);
    TEST(counting_speculation);
    return test_end();
}
