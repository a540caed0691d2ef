/* test_together.c - several sequences in one session: the same bits as one session each, whatever runs beside them
   SPDX-License-Identifier: MIT

   Every row is also fed to a session that has its sequence to itself. Its logits there are kept, and those that come out of the shared
   session, in this call or in a later one, are held against them. */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "test.h"
#include "kit.h"

enum { SEQUENCES = 3, PLACES = 64, ROWS = 24 };

typedef struct alone {
    kit_session k;
    int32_t next;            /* position of the next row                            */
    float *logits[PLACES];   /* expected, NULL = none or seen already               */
    int32_t depth[PLACES];
} alone;
typedef struct group {
    const ltx_model *m;
    kit_session k;
    alone own[SEQUENCES];
    int32_t tokens[ROWS], sequence[ROWS], n; /* the batch that is being made            */
    uint8_t want[ROWS];
    long seen;
} group;

static group group_open(const ltx_model *m, const ltx_session_desc *d)
{
    group g;
    ltx_session_desc one = *d, all = *d;
    memset(&g, 0, sizeof g);
    g.m = m;
    all.sequences = SEQUENCES;
    all.rows = ROWS;
    all.logits_rows = ROWS;
    one.logits_rows = one.rows = 8;
    g.k = kit_open(m, &all);
    for (int q = 0; q < SEQUENCES; q++) g.own[q].k = kit_open(m, &one);
    return g;
}
static void group_close(group *g)
{
    for (int q = 0; q < SEQUENCES; q++) {
        for (int i = 0; i < PLACES; i++) {
            CHECK(g->own[q].logits[i] == NULL); /* everything expected has come */
            free(g->own[q].logits[i]);
        }
        kit_close(&g->own[q].k);
    }
    kit_close(&g->k);
}
/* One more row for the batch. */
static void group_add(group *g, int q, int32_t token, int want)
{
    alone *a = &g->own[q];
    ltx_batch b = {0};
    ltx_output out;
    b.tokens = &token; b.count = 1; b.logits = want;
    CHECK_EQ(ltx_eval_batch(a->k.s, &b, &out), LTX_OK);
    if (want) {
        a->logits[a->next] = (float *)test_malloc((size_t)g->m->vocab * 4);
        memcpy(a->logits[a->next], out.logits, (size_t)g->m->vocab * 4);
        a->depth[a->next] = out.depth[0];
    }
    a->next++;
    g->tokens[g->n] = token; g->sequence[g->n] = q; g->want[g->n++] = (uint8_t)want;
}
static int group_run(group *g, int first)
{
    ltx_batch b = {0};
    ltx_output out;
    if (g->n > 0) { b.tokens = g->tokens; b.sequence = g->sequence; b.want = g->want; }
    b.count = g->n;
    b.first = first;
    g->n = 0;
    if (!CHECK_EQ(ltx_eval_batch(g->k.s, &b, &out), LTX_OK)) return 0;
    for (int i = 0; i < out.n_ready; i++) {
        alone *a = &g->own[out.ready[i].sequence];
        float **want = &a->logits[out.ready[i].position];
        if (!CHECK(*want != NULL)) continue;
        CHECK(memcmp(*want, out.ready[i].logits, (size_t)g->m->vocab * 4) == 0);
        CHECK_EQ(out.ready[i].depth, a->depth[out.ready[i].position]);
        free(*want);
        *want = NULL;
        g->seen++;
    }
    return out.n_ready;
}
static void group_rewind(group *g, int q, int32_t position)
{
    CHECK_EQ(ltx_use(g->k.s, q), LTX_OK);
    CHECK_EQ(ltx_rewind(g->k.s, position), LTX_OK);
    CHECK_EQ(ltx_rewind(g->own[q].k.s, position), LTX_OK);
    g->own[q].next = position;
}
/* Batches of rows of all sequences, with rewinds of some, at random. */
static void group_walk(group *g, uint64_t seed, int calls)
{
    test_rng r = {seed};
    for (int c = 0; c < calls; c++) {
        for (int i = 1 + test_int(&r, ROWS - 8); i > 0; i--) {
            int q = test_int(&r, SEQUENCES);
            if (g->own[q].next < PLACES - 1) group_add(g, q, test_int(&r, g->m->vocab), test_int(&r, 3) == 0);
        }
        if (g->n > 0) group_run(g, 0);
        int q = test_int(&r, SEQUENCES), back = test_int(&r, 6);
        if (g->own[q].next >= back && test_int(&r, 3) == 0) group_rewind(g, q, g->own[q].next - back);
    }
}

static void side_by_side(void)
{
    static const int rules[] = {LTX_EXIT_NEVER, LTX_EXIT_PROB, LTX_EXIT_COSINE, LTX_EXIT_ALWAYS};
    kit_model *k = kit_make(&kit_small, 301);
    ltx_step steps[KIT_LAYERS];
    long seen = 0;
    for (int c = 0; c < 4 * 3 * 3; c++) {
        ltx_session_desc d = {0};
        d.plan.steps = steps;
        CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
        CHECK_EQ(ltx_plan_gates(steps, d.plan.count, 1, 1), LTX_OK);
        d.policy.rule = rules[c % 4];
        d.policy.threshold = d.policy.rule == LTX_EXIT_PROB ? 0.3f : 0.8f;
        d.plan.fill = c / 4 % 3;
        if (c / 12 == 1) { d.window = 9; d.sinks = 2; }
        if (c / 12 == 2) { steps[2].run |= LTX_BESIDE; d.kv = LTX_KV_I8; d.threads = 2; }
        group g = group_open(&k->m, &d);
        group_walk(&g, 302 + (uint64_t)c, 12);
        seen += g.seen;
        group_close(&g);
    }
    CHECK(seen > 1000);
    kit_free(k);
}

/* A prompt goes up one group of layers at a time, while the others decode; the weights are read once for both. */
static void layered_prefill(void)
{
    kit_model *k = kit_make(&kit_small, 311);
    for (int groups = 1; groups <= k->m.n_layers; groups++) {
        ltx_session_desc d = {0};
        ltx_stats all;
        uint64_t once = 0;
        group g = group_open(&k->m, &d);
        test_rng r = {312};
        for (int q = 0; q < 2; q++) group_add(&g, q, q, 1);
        group_run(&g, 0);
        for (int i = 0; i < 12; i++) group_add(&g, 2, test_int(&r, k->m.vocab), i == 11);
        for (int i = 0; i < groups; i++) {
            int stop = k->m.n_layers * (i + 1) / groups;
            CHECK_EQ(ltx_use(g.k.s, 2), LTX_OK);
            CHECK_EQ(ltx_hold(g.k.s, stop == k->m.n_layers ? 0 : stop), LTX_OK);
            for (int q = 0; q < 2; q++) group_add(&g, q, test_int(&r, k->m.vocab), 1);
            ltx_stats_reset(g.k.s);
            CHECK_EQ(group_run(&g, 0), i + 1 == groups ? 3 : 2);
            ltx_session_stats(g.k.s, &all);
            CHECK_EQ(all.attn_rows, 2 * k->m.n_layers + 12 * (stop - k->m.n_layers * i / groups));
            if (i == 0) once = all.weight_bytes;
            CHECK_EQ(all.weight_bytes, once); /* however many rows: each matrix once */
        }
        for (int q = 0; q < SEQUENCES; q++) group_add(&g, q, 1, 1); /* it joins them */
        CHECK_EQ(group_run(&g, 0), 3);
        group_close(&g);
    }
    kit_free(k);
}

/* Two layers run three times with additions of their own: sequences at different loops share the reading of the weights. */
static void depth_wise(void)
{
    kit_shape shape = kit_small;
    shape.format = LTX_Q8_0;
    shape.layers = 2;
    shape.head_dim = 32;
    kit_model *k = kit_make(&shape, 321);
    test_rng r = {322};
    ltx_adapter ad[2];
    ltx_step steps[6];
    ltx_session_desc d = {0};
    uint64_t together = 0, apart = 0;
    ltx_stats st;
    memset(ad, 0, sizeof ad);
    memset(steps, 0, sizeof steps);
    for (int i = 0; i < 2; i++) {
        ad[i].q.a = kit_mat(k, LTX_F32, 4, shape.dim, 0, &r); ad[i].q.b = kit_mat(k, LTX_F32, shape.heads * shape.head_dim, 4, 0, &r);
        ad[i].o.a = kit_mat(k, LTX_F32, 3, shape.heads * shape.head_dim, 0, &r); ad[i].o.b = kit_mat(k, LTX_F32, shape.dim, 3, 0, &r);
        ad[i].up.a = kit_mat(k, LTX_F32, 2, shape.dim, 0, &r); ad[i].up.b = kit_mat(k, LTX_F32, shape.ffn, 2, 0, &r);
        ad[i].down.a = kit_mat(k, LTX_F32, 2, shape.ffn, 0, &r); ad[i].down.b = kit_mat(k, LTX_F32, shape.dim, 2, 0, &r);
    }
    ad[1].scale = 0.5f;
    k->m.adapters = ad; k->m.n_adapters = 2;
    for (int i = 0; i < 6; i++) {
        steps[i].layer = (int16_t)(i % 2); steps[i].cache = (int16_t)(i + 1); steps[i].run = LTX_ATTN | LTX_FFN;
        steps[i].adapter = (int16_t)(i / 2); steps[i].gate = (uint8_t)(i % 2);
    }
    d.plan.steps = steps; d.plan.count = 6;
    d.policy.rule = LTX_EXIT_PROB; d.policy.threshold = 0.8f;
    group g = group_open(&k->m, &d);
    for (int q = 0; q < SEQUENCES; q++) ltx_stats_reset(g.own[q].k.s);
    group_add(&g, 0, 5, 1);
    int left[SEQUENCES] = {14, 15, 15}, busy[SEQUENCES] = {1, 0, 0}, depths = 0;
    for (int calls = 0; calls < 200 && left[0] + left[1] + left[2] + busy[0] + busy[1] + busy[2] > 0; calls++) {
        long before = g.seen;
        group_run(&g, 1);
        CHECK(g.seen > before);
        for (int q = 0; q < SEQUENCES; q++) { /* who has its logits gets its next token; the second and third come in late */
            int32_t last = g.own[q].next - 1;
            if (busy[q] && g.own[q].logits[last] == NULL) { busy[q] = 0; depths |= 1 << g.own[q].depth[last]; }
            if (busy[q] || left[q] == 0 || calls < q) continue;
            group_add(&g, q, test_int(&r, k->m.vocab), 1);
            left[q]--;
            busy[q] = 1;
        }
    }
    ltx_session_stats(g.k.s, &st);
    together = st.weight_bytes;
    for (int q = 0; q < SEQUENCES; q++) { ltx_session_stats(g.own[q].k.s, &st); apart += st.weight_bytes; }
    CHECK(depths & 1 << 2 && depths & 1 << 6); /* some leave after the first loop, some run all three */
    printf("  rows at different loops: %.2f of the weight bytes of one sequence after the other\n", (double)together / (double)apart);
    CHECK(together < apart * 3 / 4);
    group_close(&g);
    k->m.adapters = NULL; k->m.n_adapters = 0;
    kit_free(k);
}

/* Three loops of two layers. The first text leaves after each first loop, the second one never does, so it stands before the second and then the third loop when the
   other one begins: three passes of the weights are all that four tokens cost. */
static int32_t leave_after_a_loop(void *user, const ltx_view *v)
{
    (void)user;
    return v->sequence == 0 && v->step == 1 ? LTX_LEAVE : LTX_GO;
}
static void counting_depth_wise(void)
{
    enum { TURNS = 4 };
    kit_shape shape = kit_small;
    shape.layers = 2;
    kit_model *k = kit_make(&shape, 325);
    for (int fill = 0; fill < 3; fill++) {
        ltx_step steps[6];
        ltx_session_desc d = {.rows = ROWS, .logits_rows = 2, .sequences = 2};
        ltx_stats want = {0}, got;
        ltx_output out;
        uint64_t loop = 0, kv = 0, head = kit_mat_bytes(&k->m.embed);
        int32_t position[2] = {0, 0};
        memset(steps, 0, sizeof steps);
        for (int i = 0; i < 6; i++) { steps[i].layer = (int16_t)(i % 2); steps[i].cache = (int16_t)(i + 1); steps[i].run = LTX_ATTN | LTX_FFN; steps[i].gate = (uint8_t)(i % 2); }
        for (int i = 0; i < 2; i++) { loop += kit_run_bytes(&k->layers[i], LTX_ATTN | LTX_FFN); kv += kit_kv_bytes(&k->layers[i]); }
        d.plan.steps = steps; d.plan.count = 6; d.plan.fill = fill;
        d.policy.rule = LTX_EXIT_ASK; d.policy.gate = leave_after_a_loop;
        kit_session s = kit_open(&k->m, &d);
        for (int call = 0; call < 3 * TURNS; call++) {
            const int32_t tokens[2] = {call, 5}, sequence[2] = {0, 1};
            const uint8_t both[2] = {1, 1};
            int first = call % 3 == 0, third = call % 3 == 2;
            ltx_batch b = {.tokens = tokens, .count = 1 + first, .sequence = sequence, .want = both, .first = 1};
            if (!CHECK_EQ(ltx_eval_batch(s.s, &b, &out), LTX_OK)) break;
            if (!CHECK_EQ(out.n_ready, 1 + third)) break;
            for (int i = 0; i < out.n_ready; i++) {
                int q = out.ready[i].sequence;
                CHECK_EQ(q, i);
                CHECK_EQ(out.ready[i].depth, q ? 6 : 2);
                CHECK_EQ(out.ready[i].position, position[q]++);
            }
            want.tokens += 1 + (uint64_t)first;
            want.attn_rows += 4; /* a row of each text, through two layers */
            want.ffn_rows += 4;
            want.attended += 2 * ((uint64_t)(call + 1) + (uint64_t)(call / 3 + 1)); /* each its own text so far, as far as it was in this loop */
            want.exits++;
            want.head_rows += 1 + (uint64_t)third;
            want.weight_bytes += loop + (1 + (uint64_t)third) * head;
            if (fill == LTX_FILL_PROJECT) want.fill_rows += call == 0 ? 0 : call == 1 ? 2 : 4; /* of rows that left before, on their way beside the others */
            ltx_session_stats(s.s, &got);
            got.kv_bytes = 0;
            CHECK(memcmp(&got, &want, sizeof got) == 0);
        }
        CHECK_EQ(ltx_flush(s.s), LTX_OK);
        if (fill == LTX_FILL_PROJECT) { want.fill_rows += 6; want.weight_bytes += 2 * kv; } /* the last one has two loops to go, on the first of which the one before it comes along */
        if (fill == LTX_FILL_DEFER) { /* all that waited, as one batch */
            want.attn_rows += 3 * TURNS * 4; want.ffn_rows += 3 * TURNS * 4;
            want.attended += 4 * (3 * TURNS * (3 * TURNS + 1) / 2);
            want.weight_bytes += 2 * loop;
        }
        ltx_session_stats(s.s, &got);
        got.kv_bytes = 0;
        CHECK(memcmp(&got, &want, sizeof got) == 0);
        if (fill == LTX_FILL_PROJECT) CHECK_EQ(want.fill_rows, 3 * TURNS * 4);
        kit_close(&s);
    }
    kit_free(k);
}

/* Which rows a step keeps is decided among those that came in one call, wherever a hold makes them wait meanwhile: before such a step, between two, or behind them, where
   a later call joins them. Another text runs beside them. */
static void keep_and_hold(void)
{
    enum { IMAGE = 9 };
    uint64_t dropped = 0;
    for (int c = 0; c < 16; c++) {
        kit_model *k = kit_make(&kit_small, 391 + (uint64_t)c);
        ltx_step steps[KIT_LAYERS];
        ltx_session_desc d = {.rows = 48, .logits_rows = 8, .sequences = 2};
        const int hold = 1 + c % 4, keep = c < 8 ? 1 : 2;
        int32_t tokens[2 * IMAGE], sequence[2 * IMAGE];
        uint8_t kind[2 * IMAGE], want[2 * IMAGE];
        float *logits = (float *)test_malloc((size_t)k->m.vocab * 4 * 8);
        int32_t who[8], n = 0, seen = 0;
        ltx_stats free_run, held;
        CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
        steps[keep].keep = 0.5f; steps[3].keep = 0.25f;
        for (int i = keep; i < d.plan.count && c & 4; i++) steps[i].run |= LTX_RENUMBER;
        d.plan.steps = steps;
        kit_tokens(tokens, 2 * IMAGE, k->m.vocab, 392);
        for (int i = 0; i < 2 * IMAGE; i++) { /* an image in each text, and text behind it */
            sequence[i] = i / IMAGE;
            kind[i] = (uint8_t)(i % IMAGE < IMAGE - 2);
            want[i] = i % IMAGE == IMAGE - 1;
        }
        ltx_batch both = {.tokens = tokens, .count = 2 * IMAGE, .sequence = sequence, .kind = kind, .want = want}, more = {.tokens = tokens + 3, .count = IMAGE, .kind = kind, .logits = 1}, rest = {0};
        ltx_output out;
        kit_session s = kit_open(&k->m, &d);
        CHECK_EQ(ltx_eval_batch(s.s, &both, &out), LTX_OK);
        for (int i = 0; i < out.n_ready; i++, n++) { who[n] = out.ready[i].sequence * 100 + out.ready[i].position; memcpy(logits + n * k->m.vocab, out.ready[i].logits, (size_t)k->m.vocab * 4); }
        CHECK_EQ(ltx_eval_batch(s.s, &more, &out), LTX_OK); /* another image in the first one */
        for (int i = 0; i < out.n_ready; i++, n++) { who[n] = out.ready[i].sequence * 100 + out.ready[i].position; memcpy(logits + n * k->m.vocab, out.ready[i].logits, (size_t)k->m.vocab * 4); }
        CHECK_EQ(n, 3);
        ltx_session_stats(s.s, &free_run);
        kit_close(&s);
        s = kit_open(&k->m, &d);
        const ltx_batch *calls[4] = {&both, &rest, &more, &rest};
        for (int call = 0; call < 4; call++) {
            if (hold == 4 && call == 1) continue; /* behind both steps they may meet */
            CHECK_EQ(ltx_hold(s.s, call % 2 ? 0 : hold), LTX_OK);
            if (!CHECK_EQ(ltx_eval_batch(s.s, calls[call], &out), LTX_OK)) break;
            CHECK_EQ(out.n_ready, call == 0 ? 1 : call == 2 ? 0 : hold == 4 ? 2 : 1);
            for (int i = 0; i < out.n_ready; i++)
                for (int j = 0; j < n; j++) {
                    if (who[j] != out.ready[i].sequence * 100 + out.ready[i].position) continue;
                    CHECK(memcmp(logits + j * k->m.vocab, out.ready[i].logits, (size_t)k->m.vocab * 4) == 0);
                    seen++;
                }
        }
        CHECK_EQ(seen, n);
        ltx_session_stats(s.s, &held);
        CHECK_EQ(held.dropped, free_run.dropped);
        CHECK_EQ(held.attn_rows, free_run.attn_rows);
        CHECK_EQ(held.ffn_rows, free_run.ffn_rows);
        CHECK_EQ(held.attended, free_run.attended);
        CHECK_EQ(held.tokens, free_run.tokens);
        dropped += held.dropped;
        free(logits);
        kit_close(&s);
        kit_free(k);
    }
    CHECK_EQ(dropped, 16 * 3 * 6); /* of seven rows 3 stay, then 1 */
}

/* A plan per request: a gate of the test's own says, per text, how many of the next steps are not for it. */
typedef struct menu { int skip[SEQUENCES][KIT_LAYERS]; long asked; } menu;
static int32_t by_request(void *user, const ltx_view *v)
{
    menu *x = (menu *)user;
    x->asked++;
    return x->skip[v->sequence][v->step];
}
static void plan_per_request(void)
{
    static const menu menus[] = {
        {{{0}, {0}, {0}}, 0}, /* nobody lacks anything */
        {{{2}, {0, 0, 1}, {0}}, 0}, /* the first text lacks steps 1 and 2, the second one 3 */
        {{{0, 0, 0, 1}, {1}, {1, 0, 1}}, 0}, /* 4; 1; 1 and 3 */
        {{{0, 0, 0, 9}, {4}, {0, 3}}, 0}, /* to the end and beyond */
    };
    for (int c = 0; c < 12; c++) {
        kit_model *k = kit_make(&kit_small, 395 + (uint64_t)c);
        menu x = menus[c % 4];
        ltx_step steps[KIT_LAYERS], fewer[SEQUENCES][KIT_LAYERS];
        ltx_session_desc d = {0};
        ltx_stats st, sum = {0}, own;
        ltx_sampler greedy = {0};
        ltx_token a[1], b[1];
        uint64_t rows = 0, skipped = 0;
        int32_t lacks[SEQUENCES], count;
        test_rng r = {396};
        CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
        CHECK_EQ(ltx_plan_gates(steps, d.plan.count, 0, 1), LTX_OK);
        if (c / 4 == 1) { d.window = 9; d.sinks = 2; d.kv = LTX_KV_I8; }
        if (c / 4 == 2) { d.threads = 2; d.kv = LTX_KV_F32; }
        d.plan.steps = steps; d.plan.fill = LTX_FILL_NONE;
        d.policy.rule = LTX_EXIT_ASK; d.policy.gate = by_request; d.policy.all_rows = 1; d.policy.user = &x;
        group g = group_open(&k->m, &d);
        for (int q = 0; q < SEQUENCES; q++) { /* a session of its own, whose plan lacks those steps */
            ltx_session_desc one = d;
            memset(&one.policy, 0, sizeof one.policy);
            one.rows = one.logits_rows = 8;
            one.plan.steps = fewer[q]; one.plan.count = 0;
            for (int i = 0; i < d.plan.count; i += 1 + (i + 1 < d.plan.count ? x.skip[q][i] : 0)) fewer[q][one.plan.count++] = steps[i];
            lacks[q] = d.plan.count - one.plan.count;
            kit_close(&g.own[q].k);
            g.own[q].k = kit_open(&k->m, &one);
        }
        for (int call = 0; call < 9; call++) {
            for (int i = 1 + test_int(&r, ROWS - 8); i > 0; i--) {
                int q = test_int(&r, SEQUENCES);
                if (g.own[q].next >= PLACES - 8) continue;
                group_add(&g, q, test_int(&r, k->m.vocab), test_int(&r, 3) == 0);
                g.own[q].depth[g.own[q].next - 1] = d.plan.count; /* those that are skipped lie behind it, too */
                rows++;
                skipped += (uint64_t)lacks[q];
            }
            group_run(&g, 0);
            int q = test_int(&r, SEQUENCES);
            if (g.own[q].next > 4 && call % 2) group_rewind(&g, q, g.own[q].next - 3);
        }
        CHECK(g.seen > 20);
        for (int i = 0; i < 2 * SEQUENCES; i++) { /* the same by ltx_decode */
            int q = i % SEQUENCES;
            CHECK_EQ(ltx_use(g.k.s, q), LTX_OK);
            CHECK_EQ(ltx_decode(g.k.s, &greedy, 7 + i, a, 1, &count), LTX_OK);
            CHECK_EQ(ltx_decode(g.own[q].k.s, &greedy, 7 + i, b, 1, &count), LTX_OK);
            CHECK_EQ(a[0].id, b[0].id);
            CHECK_EQ(a[0].depth, b[0].depth + lacks[q]);
            rows++;
            skipped += (uint64_t)lacks[q];
        }
        for (int q = 0; q < SEQUENCES; q++) {
            ltx_session_stats(g.own[q].k.s, &own);
            sum.tokens += own.tokens; sum.attn_rows += own.attn_rows; sum.ffn_rows += own.ffn_rows; sum.head_rows += own.head_rows; sum.attended += own.attended;
        }
        ltx_session_stats(g.k.s, &st);
        CHECK_EQ(sum.tokens, rows);
        sum.skipped = skipped;
        CHECK(st.weight_bytes > 0 && x.asked > (long)rows);
        st.weight_bytes = st.kv_bytes = 0;
        CHECK(memcmp(&st, &sum, sizeof st) == 0);
        CHECK_EQ(skipped > 0, c % 4 > 0);
        group_close(&g);
        kit_free(k);
    }
}

/* Speculation and lookups in one sequence do not disturb the others, nor mix up what was said where. */
static void decode_in_turn(void)
{
    kit_model *k = kit_make(&kit_small, 331);
    ltx_session_desc d = {0};
    ltx_sampler greedy = {0};
    ltx_token out[8];
    int32_t text[SEQUENCES][PLACES], n[SEQUENCES];
    ltx_stats st;
    d.draft_max = 4; d.draft = kit_draft(2, 4, 0.05f, 0.0f); d.draft.lookup = 3;
    d.plan.fill = LTX_FILL_DEFER;
    group g = group_open(&k->m, &d);
    for (int q = 0; q < SEQUENCES; q++) {
        int32_t prompt[] = {q, 7, 9, q, 7};
        for (int i = 0; i < 5; i++) group_add(&g, q, prompt[i], i == 4);
        text[q][0] = kit_best(g.own[q].logits[4], k->m.vocab);
        n[q] = 1;
    }
    group_run(&g, 0);
    for (int round = 0; round < 60; round++) {
        int q = round % SEQUENCES, count;
        if (n[q] > 40) continue;
        CHECK_EQ(ltx_use(g.k.s, q), LTX_OK);
        CHECK_EQ(ltx_position(g.k.s), 5 + n[q] - 1);
        if (!CHECK_EQ(ltx_decode(g.k.s, &greedy, text[q][n[q] - 1], out, 8, &count), LTX_OK)) break;
        for (int i = 0; i < count; i++) text[q][n[q]++] = out[i].id;
    }
    ltx_session_stats(g.k.s, &st);
    CHECK(st.accepted > 5);
    for (int q = 0; q < SEQUENCES; q++) {
        ltx_draft none = {0};
        CHECK_EQ(ltx_set_draft(g.own[q].k.s, &none), LTX_OK);
        for (int i = 0, count; i + 1 < n[q]; i++) {
            CHECK_EQ(ltx_decode(g.own[q].k.s, &greedy, text[q][i], out, 1, &count), LTX_OK);
            CHECK_EQ(out[0].id, text[q][i + 1]);
        }
    }
    group_close(&g);
    kit_free(k);
}

static int32_t stop_at_step(void *user, const ltx_view *v) { return v->step == *(int *)user && v->sequence == 1 ? LTX_STOP : LTX_GO; }

/* What is refused or fails changes nothing for anybody. */
static void nothing_lost(void)
{
    kit_model *k = kit_make(&kit_small, 341);
    ltx_session_desc d = {0};
    int step = -2;
    d.ctx = 20;
    d.policy.tap = stop_at_step; d.policy.user = &step;
    group g = group_open(&k->m, &d);
    ltx_session *s = g.k.s;
    int32_t tokens[30] = {1, 2, 3, 4, 5, 6}, sequence[30] = {0, 1, 0, 1, 2, 2};
    ltx_batch b = {0};
    ltx_output out;
    ltx_sampler greedy = {0};
    ltx_token t;
    int32_t n;
    CHECK_EQ(ltx_use(s, SEQUENCES), LTX_E_ARG);
    CHECK_EQ(ltx_use(s, -1), LTX_E_ARG);
    CHECK_EQ(ltx_hold(s, k->m.n_layers), LTX_E_ARG);
    CHECK_EQ(ltx_eval_batch(s, &b, &out), LTX_E_ARG); /* nothing to do */
    b.tokens = tokens; b.sequence = sequence; b.count = 6; b.logits = 1;
    sequence[3] = SEQUENCES;
    CHECK_EQ(ltx_eval_batch(s, &b, &out), LTX_E_ARG);
    sequence[3] = 1;
    for (step = -1; step < k->m.n_layers; step++) {
        CHECK_EQ(ltx_eval_batch(s, &b, &out), LTX_E_STOPPED);
        for (int q = 0; q < SEQUENCES; q++) { CHECK_EQ(ltx_use(s, q), LTX_OK); CHECK_EQ(ltx_position(s), 0); }
    }
    step = -2;
    for (int i = 0; i < 12; i++) group_add(&g, i % SEQUENCES, i, i > 4);
    CHECK_EQ(group_run(&g, 0), 7);
    for (int q = 0; q < SEQUENCES; q++) group_rewind(&g, q, 3);
    b.count = 22;
    for (int i = 0; i < 22; i++) { tokens[i] = 1; sequence[i] = i < 18 ? 1 : 2; }
    CHECK_EQ(ltx_eval_batch(s, &b, &out), LTX_E_FULL); /* 3 + 18 of 20 */
    for (int i = 0; i < 6; i++) group_add(&g, i % SEQUENCES, 2 * i, 1);
    CHECK_EQ(group_run(&g, 0), 6);
    group_rewind(&g, 0, 0);
    CHECK_EQ(ltx_hold(s, 2), LTX_OK);
    group_add(&g, 0, 3, 1);
    CHECK_EQ(group_run(&g, 0), 0);
    CHECK_EQ(ltx_decode(s, &greedy, 1, &t, 1, &n), LTX_E_ARG);
    CHECK_EQ(ltx_set_plan(s, &d.plan), LTX_E_ARG);
    CHECK_EQ(ltx_flush(s), LTX_OK); /* it does not wait for others, so it stays */
    for (int i = 0; i < 4; i++) group_add(&g, 1 + i % 2, 3 * i, 1);
    CHECK_EQ(group_run(&g, 0), 4);
    CHECK_EQ(ltx_use(s, 0), LTX_OK);
    CHECK_EQ(ltx_hold(s, 0), LTX_OK);
    CHECK_EQ(group_run(&g, 0), 1);
    CHECK_EQ(ltx_set_plan(s, &d.plan), LTX_OK);
    d.sequences = -1;
    ltx_session_needs need;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG);
    group_close(&g);
    kit_free(k);
}

/* ---- nobody overtakes an earlier row of its sequence, whoever leaves, waits or is on hold ---- */

typedef struct exit_at { int32_t position, step; } exit_at;
static int32_t leave_at(void *user, const ltx_view *v)
{
    const exit_at *e = (const exit_at *)user;
    return v->position == e->position && v->step == e->step ? LTX_LEAVE : LTX_GO;
}

static void nobody_overtakes(void)
{
    for (int c = 0; c < 12; c++) {
        kit_model *k = kit_make(&kit_small, 351 + (uint64_t)c);
        ltx_session_desc d = {0};
        ltx_step steps[KIT_LAYERS];
        exit_at leaver = {1, 0};
        float *single = (float *)test_malloc((size_t)k->m.vocab * 4);
        const float *logits;
        int32_t t[] = {1, 2, 3, 4};
        ltx_output out;
        CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
        steps[0].gate = 1;
        d.plan.steps = steps; d.plan.fill = c % 2; d.rows = 8; d.logits_rows = 4;
        d.policy.rule = LTX_EXIT_ASK; d.policy.gate = leave_at; d.policy.user = &leaver; d.policy.all_rows = 1;
        kit_session s = kit_open(&k->m, &d);
        /* the second row leaves while the first is on hold */
        CHECK_EQ(ltx_eval(s.s, t, 3, &logits), LTX_OK);
        memcpy(single, logits, (size_t)k->m.vocab * 4);
        CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
        CHECK_EQ(ltx_hold(s.s, 1), LTX_OK);
        CHECK_EQ(ltx_eval(s.s, t, 2, NULL), LTX_OK);
        if (c > 5) CHECK_EQ(ltx_flush(s.s), LTX_OK); /* what waits for others goes on waiting */
        CHECK_EQ(ltx_hold(s.s, 0), LTX_OK);
        CHECK_EQ(ltx_eval(s.s, t + 2, 1, &logits), LTX_OK);
        CHECK(memcmp(single, logits, (size_t)k->m.vocab * 4) == 0);
        /* the second row is ready before the first */
        CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
        CHECK_EQ(ltx_eval(s.s, t, 1, &logits), LTX_OK);
        memcpy(single, logits, (size_t)k->m.vocab * 4);
        CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
        ltx_batch b = {.tokens = t, .count = 2, .logits = 2, .first = 1}, rest = {0};
        CHECK_EQ(ltx_eval_batch(s.s, &b, &out), LTX_OK);
        CHECK_EQ(out.n_ready, 1);
        CHECK_EQ(out.ready[0].position, 1);
        CHECK_EQ(ltx_flush(s.s), LTX_OK);
        if (CHECK_EQ(ltx_eval_batch(s.s, &rest, &out), LTX_OK)) CHECK(memcmp(single, out.ready[0].logits, (size_t)k->m.vocab * 4) == 0);
        free(single);
        kit_close(&s);
        kit_free(k);
    }
}

/* A looped layer: the row that waits before the second loop comes along when a later one passes together with another text's. */
static void waiting_rows_come_along(void)
{
    kit_model *k = kit_make(&kit_small, 371);
    ltx_session_desc d = {0};
    ltx_step steps[KIT_LAYERS + 2];
    ltx_policy never = {0};
    int32_t t[] = {1, 2, 3}, zero = 0;
    const float *logits;
    float *full = (float *)test_malloc((size_t)k->m.vocab * 4);
    ltx_output out;
    CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
    CHECK_EQ(ltx_plan_repeat(steps, KIT_LAYERS + 2, &d.plan.count, 0, 0, 3), LTX_OK);
    steps[0].gate = steps[1].gate = steps[2].gate = 1;
    d.plan.steps = steps; d.plan.fill = LTX_FILL_DEFER; d.rows = 8; d.sequences = 2; d.logits_rows = 2;
    kit_session s = kit_open(&k->m, &d);
    CHECK_EQ(ltx_eval(s.s, t, 2, &logits), LTX_OK);
    memcpy(full, logits, (size_t)k->m.vocab * 4);
    CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
    d.policy.rule = LTX_EXIT_ALWAYS;
    CHECK_EQ(ltx_set_policy(s.s, &d.policy), LTX_OK);
    CHECK_EQ(ltx_eval(s.s, t, 1, &logits), LTX_OK);
    CHECK_EQ(ltx_set_policy(s.s, &never), LTX_OK);
    CHECK_EQ(ltx_hold(s.s, 1), LTX_OK);
    ltx_batch b = {.tokens = t + 1, .count = 1, .logits = 1}, other = {.tokens = t + 2, .count = 1, .logits = 1};
    CHECK_EQ(ltx_eval_batch(s.s, &b, &out), LTX_OK);
    CHECK(out.logits == NULL);
    CHECK_EQ(ltx_hold(s.s, 0), LTX_OK);
    CHECK_EQ(ltx_use(s.s, 1), LTX_OK);
    CHECK_EQ(ltx_eval_batch(s.s, &other, &out), LTX_OK);
    for (int i = 0; i < out.n_ready; i++) if (out.ready[i].sequence == zero) CHECK(memcmp(full, out.ready[i].logits, (size_t)k->m.vocab * 4) == 0);
    CHECK_EQ(out.n_ready, 2);
    free(full);
    kit_close(&s);
    kit_free(k);
}

/* Where a call fails, texts with rows on their way are taken back to before these. */
static void taken_back(void)
{
    kit_model *k = kit_make(&kit_small, 381);
    ltx_session_desc d = {0};
    ltx_output out;
    d.logits_rows = 4;
    group g = group_open(&k->m, &d);
    float *bad = (float *)test_malloc((size_t)k->m.dim * 4);
    for (int i = 0; i < k->m.dim; i++) bad[i] = NAN;
    for (int i = 0; i < 3; i++) group_add(&g, 0, i, i == 1);
    group_run(&g, 0);
    int32_t t = 5, one = 1;
    CHECK_EQ(ltx_use(g.k.s, 0), LTX_OK);
    CHECK_EQ(ltx_hold(g.k.s, 2), LTX_OK);
    ltx_batch b = {.tokens = &t, .count = 1, .logits = 1}, nan = {.embeds = bad, .count = 1, .logits = 1, .sequence = &one};
    CHECK_EQ(ltx_eval_batch(g.k.s, &b, &out), LTX_OK);
    CHECK_EQ(out.n_ready, 0);
    CHECK_EQ(ltx_hold(g.k.s, 0), LTX_OK);
    CHECK_EQ(ltx_position(g.k.s), 4);
    CHECK_EQ(ltx_eval_batch(g.k.s, &nan, &out), LTX_E_NAN);
    CHECK_EQ(ltx_position(g.k.s), 3);
    for (int q = 0; q < 2; q++) group_add(&g, q, 5, 1);
    CHECK_EQ(group_run(&g, 0), 2); /* as if nothing had been */
    free(bad);
    group_close(&g);
    kit_free(k);
}

int main(void)
{
    test_begin("test_together");
    TEST(side_by_side);
    TEST(layered_prefill);
    TEST(depth_wise);
    TEST(counting_depth_wise);
    TEST(keep_and_hold);
    TEST(plan_per_request);
    TEST(decode_in_turn);
    TEST(nothing_lost);
    TEST(nobody_overtakes);
    TEST(waiting_rows_come_along);
    TEST(taken_back);
    return test_end();
}
