/* test_company.c - rows that decide or run together meet others: of later calls, on hold, screened out, of another text
   SPDX-License-Identifier: MIT */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "test.h"
#include "kit.h"

enum { N = 12 };

static ltx_session_desc gated(const kit_model *k, ltx_step *steps)
{
    ltx_session_desc d = {.rows = 2 * N, .logits_rows = 4, .kv = LTX_KV_F32};
    CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
    d.plan.steps = steps;
    return d;
}

/* policy.monotone: a row that wants no logits, behind one that leaves in the same call, does not go past the gate. */
static void monotone_within_a_batch(void)
{
    kit_model *k = kit_make(&kit_small, 701);
    ltx_step steps[KIT_LAYERS];
    ltx_session_desc d = gated(k, steps);
    int32_t tokens[2] = {1, 2};
    const uint8_t want[2] = {1, 0};
    ltx_stats one, two;
    steps[1].gate = 1;
    d.plan.fill = LTX_FILL_NONE;
    d.policy.rule = LTX_EXIT_ALWAYS; d.policy.monotone = 1;
    kit_session a = kit_open(&k->m, &d), b = kit_open(&k->m, &d);
    ltx_batch both = {.tokens = tokens, .count = 2, .want = want}, first = {.tokens = tokens, .count = 1, .logits = 1}, second = {.tokens = tokens + 1, .count = 1};
    CHECK_EQ(ltx_eval_batch(a.s, &first, NULL), LTX_OK);
    CHECK_EQ(ltx_eval_batch(a.s, &second, NULL), LTX_OK);
    CHECK_EQ(ltx_eval_batch(b.s, &both, NULL), LTX_OK);
    ltx_session_stats(a.s, &one);
    ltx_session_stats(b.s, &two);
    CHECK_EQ(one.attn_rows, 4);
    CHECK_EQ(two.attn_rows, 4);
    CHECK_EQ(one.attended, two.attended);
    kit_close(&a);
    kit_close(&b);
    kit_free(k);
}

/* policy.monotone and .screen: a row that the shortlist says no for is held back, too, when one has left before. */
static void monotone_with_a_screen(void)
{
    static const unsigned char ids[8] = {1, 0, 0, 0, 2, 0, 0, 0};
    kit_model *k = kit_make(&kit_small, 705);
    ltx_step steps[KIT_LAYERS];
    ltx_session_desc d = gated(k, steps);
    ltx_output out;
    int32_t token = 3;
    k->m.draft_ids = ids; k->m.n_draft_ids = 2;
    steps[1].gate = 1;
    d.plan.fill = LTX_FILL_NONE;
    d.policy.rule = LTX_EXIT_PROB; d.policy.screen = 1; d.policy.monotone = 1;
    kit_session s = kit_open(&k->m, &d);
    ltx_batch b = {.tokens = &token, .count = 1, .logits = 1};
    CHECK_EQ(ltx_eval_batch(s.s, &b, &out), LTX_OK); /* a threshold of 0: it leaves */
    CHECK_EQ(out.depth[0], 2);
    d.policy.threshold = 2.0f;
    CHECK_EQ(ltx_set_policy(s.s, &d.policy), LTX_OK); /* and now nobody is sure enough */
    CHECK_EQ(ltx_eval_batch(s.s, &b, &out), LTX_OK);
    CHECK_EQ(out.depth[0], 2);
    kit_close(&s);
    kit_free(k);
}

/* ltx_step.keep, ltx_policy.by_kind: two calls that meet at a hold are judged each by itself. */
static void keep_behind_a_hold(int by_kind)
{
    int differ = 0;
    for (int c = 0; c < 8; c++) {
        kit_model *k = kit_make(&kit_small, 711 + (uint64_t)c);
        ltx_step steps[KIT_LAYERS];
        ltx_session_desc d = gated(k, steps);
        int32_t tokens[2 * N];
        uint8_t kind[2 * N];
        float *want = (float *)test_malloc((size_t)k->m.vocab * 8);
        ltx_output out;
        kit_tokens(tokens, 2 * N, k->m.vocab, 712);
        for (int i = 0; i < 2 * N; i++) kind[i] = (uint8_t)(i % N < N - 1);
        if (by_kind) {
            for (int i = 0; i < d.plan.count; i++) steps[i].gate = 1;
            d.plan.fill = LTX_FILL_NONE;
            d.policy.rule = LTX_EXIT_COSINE; d.policy.all_rows = d.policy.by_kind = 1;
            d.policy.kinds[0] = 2.0f; d.policy.kinds[1] = 0.8f;
        } else steps[2].keep = 0.3f;
        kit_session s = kit_open(&k->m, &d);
        ltx_batch a = {.tokens = tokens, .count = N, .kind = kind, .logits = 1}, b = {.tokens = tokens + N, .count = N, .kind = kind + N, .logits = 1};
        CHECK_EQ(ltx_eval_batch(s.s, &a, &out), LTX_OK);
        memcpy(want, out.logits, (size_t)k->m.vocab * 4);
        CHECK_EQ(ltx_eval_batch(s.s, &b, &out), LTX_OK);
        memcpy(want + k->m.vocab, out.logits, (size_t)k->m.vocab * 4);
        CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
        CHECK_EQ(ltx_hold(s.s, 1), LTX_OK);
        CHECK_EQ(ltx_eval_batch(s.s, &a, &out), LTX_OK);
        CHECK_EQ(ltx_hold(s.s, 0), LTX_OK);
        CHECK_EQ(ltx_eval_batch(s.s, &b, &out), LTX_OK);
        if (CHECK_EQ(out.n_ready, 2))
            for (int i = 0; i < 2; i++) differ += memcmp(want + (out.ready[i].position > N ? k->m.vocab : 0), out.ready[i].logits, (size_t)k->m.vocab * 4) != 0;
        free(want);
        kit_close(&s);
        kit_free(k);
    }
    CHECK_EQ(differ, 0);
}
static void keep_of_two_calls(void) { keep_behind_a_hold(0); }
static void kinds_of_two_calls(void) { keep_behind_a_hold(1); }

/* An encoder beside rows on hold: a text that does not find place is refused, not cut into parts that do not see each other. */
static void encoder_beside_a_hold(void)
{
    kit_model *k = kit_make(&kit_small, 721);
    ltx_step steps[KIT_LAYERS];
    ltx_session_desc d = gated(k, steps);
    int32_t tokens[N];
    const float *logits = NULL;
    float *want = (float *)test_malloc((size_t)k->m.vocab * 4);
    k->m.both_ways = 1;
    d.rows = N; d.sequences = 2;
    kit_tokens(tokens, N, k->m.vocab, 722);
    kit_session s = kit_open(&k->m, &d);
    CHECK_EQ(ltx_use(s.s, 1), LTX_OK);
    CHECK_EQ(ltx_eval(s.s, tokens, N - 2, &logits), LTX_OK);
    memcpy(want, logits, (size_t)k->m.vocab * 4);
    CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
    CHECK_EQ(ltx_use(s.s, 0), LTX_OK);
    CHECK_EQ(ltx_hold(s.s, 2), LTX_OK);
    CHECK_EQ(ltx_eval(s.s, tokens, 4, NULL), LTX_OK);
    CHECK_EQ(ltx_use(s.s, 1), LTX_OK);
    ltx_result r = ltx_eval(s.s, tokens, N - 2, &logits); /* 10 rows, and 8 of 12 places */
    if (r == LTX_OK) CHECK(memcmp(want, logits, (size_t)k->m.vocab * 4) == 0);
    else CHECK_EQ(r, LTX_E_FULL);
    free(want);
    kit_close(&s);
    kit_free(k);
}

/* An encoder's rows that left and wait (LTX_FILL_DEFER) are not taken along by another text, or by ltx_flush, while the rest of their text stays at a hold, or where a call
   with `first` left it: they would see half of their text. */
static int32_t first_rows_leave(void *user, const ltx_view *v)
{
    (void)user;
    return v->sequence == 1 && v->step == 1 && v->position < 3 ? LTX_LEAVE : LTX_GO;
}
static void encoder_that_waits(void)
{
    for (int c = 0; c < 2; c++) {
        kit_model *k = kit_make(&kit_small, 731);
        ltx_step steps[KIT_LAYERS];
        ltx_session_desc d = gated(k, steps);
        int32_t tokens[N];
        const uint8_t want[N] = {1, 0, 0, 0, 0, 0, 0, 1};
        ltx_output out = {0};
        float *full = (float *)test_malloc((size_t)k->m.vocab * 4);
        k->m.both_ways = 1;
        steps[1].gate = 1;
        d.sequences = 2; d.plan.fill = LTX_FILL_DEFER;
        d.policy.rule = LTX_EXIT_ASK; d.policy.gate = first_rows_leave; d.policy.all_rows = 1;
        kit_tokens(tokens, N, k->m.vocab, 732);
        kit_session s = kit_open(&k->m, &d);
        ltx_batch text = {.tokens = tokens, .count = 8, .want = want}, other = {.tokens = tokens, .count = 4}, rest = {0};
        CHECK_EQ(ltx_use(s.s, 1), LTX_OK);
        CHECK_EQ(ltx_eval_batch(s.s, &text, &out), LTX_OK);
        memcpy(full, out.logits + k->m.vocab, (size_t)k->m.vocab * 4);
        CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
        if (c == 0) CHECK_EQ(ltx_hold(s.s, 2), LTX_OK);
        text.first = c;
        CHECK_EQ(ltx_eval_batch(s.s, &text, &out), LTX_OK);
        CHECK_EQ(out.n_ready, 1);
        if (c == 0) {
            CHECK_EQ(ltx_use(s.s, 0), LTX_OK);
            CHECK_EQ(ltx_eval_batch(s.s, &other, &out), LTX_OK);
            CHECK_EQ(ltx_use(s.s, 1), LTX_OK);
            CHECK_EQ(ltx_hold(s.s, 0), LTX_OK);
        } else CHECK_EQ(ltx_flush(s.s), LTX_OK);
        CHECK_EQ(ltx_eval_batch(s.s, &rest, &out), LTX_OK);
        if (CHECK_EQ(out.n_ready, 1)) CHECK(memcmp(full, out.ready[0].logits, (size_t)k->m.vocab * 4) == 0);
        free(full);
        kit_close(&s);
        kit_free(k);
    }
}

int main(void)
{
    test_begin("test_company");
    TEST(monotone_within_a_batch);
    TEST(monotone_with_a_screen);
    TEST(keep_of_two_calls);
    TEST(kinds_of_two_calls);
    TEST(encoder_beside_a_hold);
    TEST(encoder_that_waits);
    return test_end();
}
