/* test_drafts.c - chains, trees and transfers: whatever is drafted and however it is verified, the text is that of plain decoding
   SPDX-License-Identifier: MIT */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "test.h"
#include "kit.h"
#include "ref.h"

enum { TEXT = 90, FIRST = 4 };

/* Transfers that are near to the identity: a hidden vector changes little from token to token in these models. */
static void add_transfers(kit_model *k, ltx_transfer *t, int n, int step, test_rng *r)
{
    for (int i = 0; i < n; i++) {
        t[i].h = kit_mat(k, LTX_F32, k->m.dim, k->m.dim, -6, r);
        t[i].step = step + i < k->m.n_layers - 1 ? step + i : k->m.n_layers - 1;
        float *h = (float *)(uintptr_t)t[i].h.data;
        for (int j = 0; j < k->m.dim; j++) h[j * k->m.dim + j] += 1.0f;
    }
    k->m.transfers = t;
    k->m.n_transfers = n;
}

static void prompt_of(int32_t *tokens, int vocab)
{
    for (int i = 0; i < FIRST; i++) tokens[i] = (5 * i + 2) % vocab;
}
/* TEXT tokens into text, each with the logits that a session says after the whole text; returns the statistics. */
static ltx_stats write_text(const ltx_model *m, const ltx_session_desc *d, ltx_sampler sampler, int32_t *text, float *last)
{
    kit_session k = kit_open(m, d);
    int32_t prompt[FIRST], token, n = 0, count;
    const float *logits;
    ltx_token out[9];
    ltx_stats st;
    prompt_of(prompt, m->vocab);
    CHECK_EQ(ltx_eval(k.s, prompt, FIRST, &logits), LTX_OK);
    CHECK_EQ(ltx_sample(k.s, &sampler, logits, &token), LTX_OK);
    ltx_stats_reset(k.s);
    for (text[n++] = token; n < TEXT;) {
        int cap = TEXT - n < 9 ? TEXT - n : 9;
        if (!CHECK_EQ(ltx_decode(k.s, &sampler, token, out, cap, &count), LTX_OK)) break;
        for (int i = 0; i < count; i++) {
            CHECK_EQ(out[i].drafted, i + 1 < count);
            text[n++] = out[i].id;
        }
        token = out[count - 1].id;
        CHECK_EQ(ltx_position(k.s), FIRST + n - 1);
    }
    ltx_session_stats(k.s, &st);
    CHECK_EQ(st.accepted + st.rounds, d->draft_max > 0 ? TEXT - 1 : 0);
    ltx_draft none = {0};
    CHECK_EQ(ltx_set_draft(k.s, &none), LTX_OK);
    CHECK_EQ(ltx_eval(k.s, &token, 1, &logits), LTX_OK);
    memcpy(last, logits, (size_t)m->vocab * 4); /* the cache is that of plain decoding, too */
    kit_close(&k);
    return st;
}

typedef struct setting { int exit, last, length, tree, transfer, lookup; float stop; int skips; } setting; /* skips: drafts by the plan without layers 1 and 3 */
static const setting settings[] = {
    {2, 0, 6, 0, 0, 0, 0.1f, 0}, {2, 0, 6, 1, 0, 0, 0.1f, 0}, {1, 3, 7, 1, 0, 0, 0.0f, 0}, {2, 0, 4, 1, 0, 3, 0.05f, 0}, {0, 0, 5, 0, 2, 0, 0.0f, 0}, {2, 0, 5, 1, 3, 0, 0.1f, 0}, {3, 0, 5, 0, 3, 4, 0.1f, 0},
    {0, 0, 6, 0, 0, 0, 0.1f, 1}, {0, 0, 7, 1, 0, 3, 0.0f, 1}, {0, 0, 5, 1, 2, 0, 0.1f, 1},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static void same_text(void)
{
    uint64_t drafted[SETTINGS] = {0}, accepted[SETTINGS] = {0};
    for (int c = 0; c < 10; c++) {
        kit_shape shape = kit_small;
        shape.format = c % 3 == 0 ? LTX_F32 : c % 3 == 1 ? LTX_Q8_0 : KIT_MIXED;
        shape.head_dim = c % 3 == 1 ? 32 : 24;
        kit_model *k = kit_make(&shape, 601 + (uint64_t)c);
        test_rng r = {602};
        ltx_transfer t[3];
        ltx_step steps[KIT_LAYERS + 2];
        ltx_session_desc d = {0};
        ltx_sampler greedy = {0};
        int32_t plain[TEXT], text[TEXT];
        float *a = (float *)test_malloc((size_t)k->m.vocab * 4), *b = (float *)test_malloc((size_t)k->m.vocab * 4);
        add_transfers(k, t, 3, 3, &r);
        CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
        if (c == 3) CHECK_EQ(ltx_plan_repeat(steps, KIT_LAYERS + 2, &d.plan.count, 2, 3, 2), LTX_OK);
        if (c == 4) CHECK_EQ(ltx_plan_drop(steps, &d.plan.count, 1, LTX_ATTN), LTX_OK);
        if (c == 5) CHECK_EQ(ltx_plan_beside(steps, d.plan.count, 1, 2), LTX_OK);
        if (c == 6) { steps[3].run |= LTX_SHARE; steps[3].cache = 3; }
        d.plan.steps = steps;
        d.kv = c % 4 == 1 ? LTX_KV_I8 : c % 4 == 2 ? LTX_KV_F32 : LTX_KV_F16;
        if (c == 1 || c == 7 || c == 8) { d.window = c == 1 ? 20 : 5; d.sinks = c == 8 ? 9 : 0; } /* the first nine decoded while sinks are filled */
        write_text(&k->m, &d, greedy, plain, a);
        for (int i = 0; i < SETTINGS; i++) {
            const setting *s = &settings[i];
            d.draft_max = s->length + s->transfer;
            d.draft = kit_draft(s->exit, s->length, s->stop, 0.05f);
            ltx_step shorter[KIT_LAYERS + 2];
            memcpy(shorter, steps, sizeof shorter);
            if (s->skips) {
                d.draft.plan.steps = shorter; d.draft.plan.count = d.plan.count;
                for (int layer = 1; layer < 4; layer += 2) CHECK_EQ(ltx_plan_drop(shorter, &d.draft.plan.count, layer, LTX_ATTN | LTX_FFN), LTX_OK);
            }
            d.draft.last = s->last; d.draft.tree = s->tree; d.draft.transfer = s->transfer; d.draft.lookup = s->lookup;
            ltx_stats st = write_text(&k->m, &d, greedy, text, b);
            CHECK(memcmp(plain, text, sizeof text) == 0);
            CHECK(memcmp(a, b, (size_t)k->m.vocab * 4) == 0);
            CHECK(st.accepted <= st.drafted);
            drafted[i] += st.drafted;
            accepted[i] += st.accepted;
        }
        k->m.transfers = NULL; k->m.n_transfers = 0;
        free(a);
        free(b);
        kit_free(k);
    }
    for (int i = 0; i < SETTINGS; i++) {
        printf("  %sexit %d, tree %d, transfer %d, lookup %d: %d drafted, %d accepted\n", settings[i].skips ? "skips, " : "", settings[i].exit, settings[i].tree, settings[i].transfer, settings[i].lookup, (int)drafted[i], (int)accepted[i]);
        CHECK(accepted[i] > 20);
    }
    CHECK(accepted[1] > accepted[0]); /* rivals are right sometimes */
}

/* What the tree is: recorded by a tap before the first step. */
typedef struct seen { int n; int32_t token[64], position[64]; } seen;
static int32_t look(void *user, const ltx_view *v)
{
    seen *s = (seen *)user;
    if (v->step == -1 && s->n < 64) { s->token[s->n] = v->token; s->position[s->n++] = v->position; }
    return LTX_GO;
}

/* Transfers against the reference: after the leaf, rows that begin in the middle with a product of its hidden vector. */
static void transfers_say(void)
{
    kit_shape shape = kit_small;
    shape.format = LTX_F32;
    kit_model *k = kit_make(&shape, 621);
    test_rng r = {622};
    ltx_transfer t[2];
    ltx_session_desc d = {0};
    ltx_sampler greedy = {0};
    ltx_token out[8];
    seen tap = {0};
    int32_t prompt[FIRST], token = 7, count;
    add_transfers(k, t, 2, 2, &r);
    d.kv = LTX_KV_F32;
    d.draft_max = 3; d.draft.transfer = 2;
    d.policy.tap = look; d.policy.user = &tap;
    kit_session live = kit_open(&k->m, &d);
    ref_model m;
    ref_model_load(&k->m, &m);
    ref_options exact = {0, REF_KV_EXACT, 0, 0};
    ltx_step steps[KIT_LAYERS];
    ltx_plan plan = ref_plan_full(&m, steps);
    prompt_of(prompt, k->m.vocab);
    CHECK_EQ(ltx_eval(live.s, prompt, FIRST, NULL), LTX_OK);
    int compared = 0;
    for (int round = 0; round < 12; round++) {
        int32_t said[2];
        ref_state *s = ref_open(&m, &exact);
        double *h = ref_new(m.dim), *base = ref_new(m.dim), *logits = ref_new(m.vocab), *mid = ref_new(2 * m.dim);
        int32_t text[64];
        int n = ltx_position(live.s);
        /* the reference reads the text so far and the known token, then its own rows */
        memcpy(text, prompt, sizeof prompt);
        for (int i = 0; i < tap.n; i++) if (tap.position[i] < n) text[tap.position[i]] = tap.token[i];
        text[n] = token;
        for (int i = 0; i <= n + 2; i++) {
            int from = i <= n ? 0 : t[i - n - 1].step;
            if (i <= n) for (int j = 0; j < m.dim; j++) h[j] = m.embed.w[(size_t)text[i] * (size_t)m.dim + (size_t)j];
            else for (int j = 0; j < m.dim; j++) {
                h[j] = 0;
                for (int c = 0; c < m.dim; c++) h[j] += (double)((const float *)t[i - n - 1].h.data)[j * m.dim + c] * mid[(i - n - 1) * m.dim + c];
            }
            s->position = i;
            for (int p = from; p < plan.count; p++) {
                for (int q = 0; q < 2 && i == n; q++) if (p == t[q].step) memcpy(mid + q * m.dim, h, sizeof(double) * (size_t)m.dim);
                ref_run_step(s, &plan, p, h, base, 1);
            }
            ref_head(s, h, logits);
            if (i <= n) continue;
            said[i - n - 1] = 0;
            for (int j = 1; j < m.vocab; j++) if (logits[j] > logits[said[i - n - 1]]) said[i - n - 1] = j;
        }
        ref_close(s);
        free(h); free(base); free(logits); free(mid);
        /* a round that drafts nothing asks the transfers; the next one has their tokens as its draft */
        ltx_draft only = {.transfer = 2};
        CHECK_EQ(ltx_rewind(live.s, n), LTX_OK);
        CHECK_EQ(ltx_set_draft(live.s, &only), LTX_OK);
        if (!CHECK_EQ(ltx_decode(live.s, &greedy, token, out, 1, &count), LTX_OK)) break;
        token = out[0].id;
        int before = tap.n;
        if (tap.n > 40) tap.n = before = 0;
        CHECK_EQ(ltx_decode(live.s, &greedy, token, out, 8, &count), LTX_OK);
        if (CHECK(tap.n >= before + 2)) {
            CHECK_EQ(tap.token[before], token);
            CHECK_EQ(tap.token[before + 1], said[0]);
            CHECK_EQ(tap.position[before + 1], n + 2);
            compared++;
        }
        CHECK_EQ(ltx_rewind(live.s, n + 1), LTX_OK); /* the next round begins one token on, with nothing ahead */
        tap.n = 0;
        ltx_rewind(live.s, 0);
        prompt[round % FIRST] = (prompt[round % FIRST] + 3) % k->m.vocab;
        CHECK_EQ(ltx_eval(live.s, prompt, FIRST, NULL), LTX_OK);
        tap.n = 0;
    }
    CHECK_EQ(compared, 12);
    ref_model_free(&m);
    kit_close(&live);
    k->m.transfers = NULL; k->m.n_transfers = 0;
    kit_free(k);
}

/* Sampled: the same numbers of the generator give the same text as without a tree, because rivals change no distribution. */
static void sampled(void)
{
    kit_model *k = kit_make(&kit_small, 631);
    ltx_session_desc d = {0};
    int32_t a[TEXT], b[TEXT];
    float *x = (float *)test_malloc((size_t)k->m.vocab * 4);
    ltx_sampler hot = {.temperature = 0.9f, .top_k = 20, .state = 5};
    d.draft_max = 5;
    d.draft = kit_draft(2, 5, 0.05f, 0.0f);
    write_text(&k->m, &d, hot, a, x);
    d.draft.tree = 1;
    write_text(&k->m, &d, hot, b, x);
    CHECK(memcmp(a, b, sizeof a) == 0);
    free(x);
    kit_free(k);
}

/* The longest chain there is, and a rewind as far as a window allows after rivals have taken slots. */
static void limits(void)
{
    kit_model *k = kit_make(&kit_small, 651);
    ltx_session_desc d = {0}, plain = {0};
    ltx_sampler greedy = {0};
    ltx_token out[66];
    int32_t count, token = 3, text[80], n = 0;
    const float *a, *b;
    d.rows = 65; d.draft_max = 64;
    d.draft = kit_draft(4, 64, 1e-6f, 0.0f);
    kit_session s = kit_open(&k->m, &d);
    ltx_stats st;
    CHECK_EQ(ltx_decode(s.s, &greedy, token, out, 66, &count), LTX_OK);
    ltx_session_stats(s.s, &st);
    CHECK_EQ(st.drafted, 64);
    kit_close(&s);
    for (int c = 0; c < 8; c++) {
        d.rows = plain.rows = 16; d.window = plain.window = 6; d.draft_max = 15;
        d.draft = kit_draft(1 + c % 3, 15, 0.0f, 0.001f);
        d.draft.tree = 1;
        s = kit_open(&k->m, &d);
        kit_session p = kit_open(&k->m, &plain);
        kit_tokens(text, 40, k->m.vocab, 652 + (uint64_t)c);
        n = 40;
        CHECK_EQ(ltx_eval(s.s, text, n, NULL), LTX_OK);
        CHECK_EQ(ltx_decode(s.s, &greedy, token, out, 66, &count), LTX_OK);
        text[n++] = token;
        for (int i = 0; i + 1 < count; i++) text[n++] = out[i].id;
        CHECK_EQ(ltx_position(s.s), n);
        int back = n - 14; /* rejected drafts count, too: one or two less than 16 */
        if (ltx_rewind(s.s, back) == LTX_OK) {
            CHECK_EQ(ltx_eval(p.s, text, back, NULL), LTX_OK);
            CHECK_EQ(ltx_eval(s.s, &token, 1, &a), LTX_OK);
            CHECK_EQ(ltx_eval(p.s, &token, 1, &b), LTX_OK);
            CHECK(memcmp(a, b, (size_t)k->m.vocab * 4) == 0);
        } else CHECK(count < 14);
        kit_close(&s);
        kit_close(&p);
    }
    kit_free(k);
}

/* A clock that goes by what a session counted: so much a byte of weights, so much a row and branch. */
typedef struct meter { ltx_session *s; double byte, row; int calls; } meter;
static double read_meter(void *user)
{
    meter *m = (meter *)user;
    ltx_stats st;
    m->calls++;
    if (m->s == NULL) return m->calls % 5 == 0 ? (double)NAN : m->calls % 7 == 0 ? -1e30 : (double)(m->calls * 37 % 11); /* a broken one */
    ltx_session_stats(m->s, &st);
    return m->byte * (double)st.weight_bytes + m->row * (double)(st.attn_rows + st.ffn_rows);
}
/* Tokens from a session with this draft; drafted and accepted of the second half. */
static ltx_stats write_on(kit_session *k, int32_t *text, int n)
{
    ltx_sampler greedy = {0};
    ltx_token out[9];
    ltx_stats half = {0}, st;
    int32_t token = 3, count, at = 0;
    while (at < n) {
        if (at >= n / 2 && half.rounds == 0) ltx_session_stats(k->s, &half);
        if (!CHECK_EQ(ltx_decode(k->s, &greedy, token, out, n - at < 9 ? n - at : 9, &count), LTX_OK)) break;
        for (int i = 0; i < count; i++) text[at++] = out[i].id;
        token = out[count - 1].id;
    }
    ltx_session_stats(k->s, &st);
    st.drafted -= half.drafted; st.accepted -= half.accepted; st.rounds -= half.rounds;
    return st;
}
/* Length follows what drafts are measured to cost; the text never does. */
static void by_the_clock(void)
{
    enum { LONG = 300 };
    static const struct { double byte, row; } prices[] = {{1e-6, 0}, {1e-6, 1e-3}, {0, 1}, {0, 0}, {0, 0}};
    uint64_t drafted[5] = {0};
    for (int c = 0; c < 4; c++) {
        kit_model *k = kit_make(&kit_small, 663 + (uint64_t)c);
        int32_t plain[LONG], text[LONG];
        ltx_session_desc d = {.ctx = LONG + 8};
        kit_session s = kit_open(&k->m, &d);
        write_on(&s, plain, LONG);
        kit_close(&s);
        d.draft_max = 8;
        for (int i = 0; i < 5; i++) {
            meter m = {NULL, prices[i].byte, prices[i].row, 0};
            d.draft = kit_draft(1, 8, 0.0f, 0.0f);
            d.draft.last = 3; d.draft.lookup = i % 2; d.draft.tree = c % 2; d.draft.clock = read_meter; d.draft.user = &m;
            s = kit_open(&k->m, &d);
            if (i < 4) m.s = s.s; /* the fourth clock stands still, the fifth is broken */
            drafted[i] += write_on(&s, text, LONG).drafted;
            CHECK(memcmp(plain, text, sizeof text) == 0);
            CHECK(m.calls > LONG / 8);
            kit_close(&s);
        }
        kit_free(k);
    }
    printf("  second half: %d drafted where bytes cost, %d where rows cost something, too, %d where only rows do\n", (int)drafted[0], (int)drafted[1], (int)drafted[2]);
    CHECK(drafted[0] > 2 * drafted[1]);
    CHECK(drafted[0] > drafted[2]);
}
/* An exit that is sure and wrong is found out, though a deeper one is right when it is as sure. */
static void by_depth(void)
{
    enum { LONG = 400 };
    kit_model *k = kit_make(&kit_small, 671);
    test_rng r = {672};
    ltx_exit exits[KIT_LAYERS];
    int32_t plain[LONG], text[LONG];
    memset(exits, 0, sizeof exits);
    ltx_session_desc d = {.ctx = LONG + 8};
    kit_session s = kit_open(&k->m, &d);
    write_on(&s, plain, LONG);
    kit_close(&s);
    exits[0].head = kit_mat(k, LTX_F32, k->m.vocab, k->m.dim, 3, &r);
    k->m.exit_heads = exits;
    d.draft_max = 6;
    d.draft = kit_draft(1, 6, 0.0f, 0.05f);
    d.draft.last = 4;
    s = kit_open(&k->m, &d);
    ltx_stats st = write_on(&s, text, LONG);
    CHECK(memcmp(plain, text, sizeof text) == 0);
    printf("  second half: %d drafted, %d accepted in %d rounds\n", (int)st.drafted, (int)st.accepted, (int)st.rounds);
    CHECK(st.accepted > 20);
    CHECK(4 * (st.drafted - st.accepted) < st.drafted);
    kit_close(&s);
    k->m.exit_heads = NULL;
    kit_free(k);
}

static void refused(void)
{
    kit_model *k = kit_make(&kit_small, 641);
    test_rng r = {642};
    ltx_transfer t[2];
    ltx_step steps[KIT_LAYERS];
    ltx_session_desc d = {0};
    ltx_session_needs need;
    add_transfers(k, t, 2, 2, &r);
    d.draft_max = 4;
    d.draft.transfer = 2;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_OK);
    d.draft.transfer = 3;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG);
    d.draft.transfer = 2; d.draft_max = 2;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG);
    d.draft_max = 4; d.draft.tree = 2;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG);
    d.draft.tree = 1;
    t[1].step = 5;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG); /* the plan has five steps */
    t[1].step = 1;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_MODEL);
    t[1].step = 3; t[1].h.cols--;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_MODEL);
    t[1].h.cols++;
    ltx_step other[2] = {{.layer = 0, .run = 3}, {.layer = 2, .cache = 9, .run = 3}};
    ltx_session_desc by_plan = {.draft_max = 4, .draft = {.plan = {.steps = other, .count = 1}}};
    CHECK_EQ(ltx_session_need(&k->m, &by_plan, &need), LTX_OK);
    by_plan.draft.plan.count = 2; /* a cache that nobody has */
    CHECK_EQ(ltx_session_need(&k->m, &by_plan, &need), LTX_E_ARG);
    other[1].cache = 0;
    CHECK_EQ(ltx_session_need(&k->m, &by_plan, &need), LTX_OK);
    by_plan.draft.exit = 1;
    CHECK_EQ(ltx_session_need(&k->m, &by_plan, &need), LTX_E_ARG);
    k->layers[1].router = kit_mat(k, LTX_F32, 1, k->m.dim, -4, &r);
    CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
    d.plan.steps = steps;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_OK);
    steps[1].route = 0.5f;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG);
    k->m.transfers = NULL;
    CHECK_EQ(ltx_model_check(&k->m, NULL), LTX_E_MODEL);
    k->m.n_transfers = 0;
    kit_free(k);
}

int main(void)
{
    test_begin("test_drafts");
    TEST(same_text);
    TEST(transfers_say);
    TEST(sampled);
    TEST(limits);
    TEST(by_the_clock);
    TEST(by_depth);
    TEST(refused);
    return test_end();
}
