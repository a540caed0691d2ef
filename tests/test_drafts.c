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
        if (c == 6) { d.window = 3; d.sinks = 2; } /* what the shared cache holds may be too old */
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
            meter broken = {NULL, 0, 0, c};
            if (c % 4 == 3 && i > 1) { d.draft.clock = read_meter; d.draft.user = &broken; } /* the text does not depend on it */
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

/* ---- counters of a round, from what it says, what the tap is shown and what may be drafted ---- */

typedef struct shown { int n, step[2048], layer[2048], position[2048]; int32_t token[2048]; } shown;
static int32_t show(void *user, const ltx_view *v)
{
    shown *t = (shown *)user;
    if (!CHECK(t->n < 2048)) return LTX_STOP;
    t->step[t->n] = v->step; t->layer[t->n] = v->layer; t->position[t->n] = v->position; t->token[t->n++] = v->token;
    return LTX_GO;
}
/* What followed the latest of the longest earlier places that end like text[0..now]. */
static int found_in(const int32_t *text, int now, int lookup, int32_t *draft, int most)
{
    for (int n = lookup < now ? lookup : now; n > 0; n--)
        for (int end = now - 1; end >= n - 1; end--) {
            int same = 0, count = 0;
            while (same < n && text[end - same] == text[now - same]) same++;
            if (same < n) continue;
            while (count < most && end + 1 + count <= now) { draft[count] = text[end + 1 + count]; count++; }
            return count;
        }
    return 0;
}
typedef struct ledger {
    const kit_model *k;
    const ltx_session_desc *d;
    shown tap;
    int32_t text[128];
    int ahead;  /* tokens that transfers have said for the next round */
    int rivals; /* of such tokens, so far */
    int idle;   /* rounds since such a token was drafted */
    ltx_stats want;
} ledger;
/* One round that began at `begin` and may return `cap` tokens. */
static void check_round(ledger *g, int begin, int cap, const ltx_token *out, int count)
{
    const ltx_draft *d = &g->d->draft;
    const shown *t = &g->tap;
    const int steps = g->d->plan.count, room = g->d->ctx - begin - 1;
    int most = d->length < g->d->draft_max - d->transfer ? d->length : g->d->draft_max - d->transfer, deep = cap - 1 < room ? cap - 1 : room, known;
    int rows = 0, passes = 0, chain = 0, drafted, looks = 0, transfers, entry[64], node = 0, ahead, unsure = d->stop > 1e-6f;
    int32_t certain[64];
    const uint64_t head = kit_mat_bytes(&g->k->m.embed);
    if (room < most) most = room;
    for (int i = 0; i < t->n; i++) if (t->step[i] == -1 && CHECK(rows < 64)) entry[rows++] = i;
    /* what is known before */
    ahead = g->ahead < deep ? g->ahead : deep;
    if (ahead > most) ahead = most;
    if (ahead > 0 && (rows < 2 || entry[1] != entry[0] + 1)) { CHECK(unsure); ahead = 0; } /* what they said did not count */
    known = ahead > 0 ? ahead : 0;
    if (known == 0 && d->lookup > 0) known = found_in(g->text, begin, d->lookup, certain, most < deep ? most : deep);
    if (known == 0 && d->plan.steps != NULL) { /* whole passes come first, then the rows are made once more */
        for (passes = 1; passes < rows && t->position[entry[passes]] != begin; passes++) { }
        if (passes == rows) passes = 0;
        for (int i = 0; i < passes; i++) CHECK_EQ(t->position[entry[i]], begin + i);
    }
    drafted = rows - passes - 1;
    if (!CHECK(drafted >= 0 && drafted <= (most > 0 ? most : 0))) return;
    const int *made = entry + passes; /* the known token, the chain, then rivals */
    for (; chain < drafted && t->position[made[chain + 1]] == begin + chain + 1; chain++) { }
    CHECK_EQ(t->token[made[0]], g->text[begin]);
    CHECK(chain <= deep || deep < 0);
    if (!d->tree) CHECK_EQ(chain, drafted);
    for (int i = chain + 1; i <= drafted; i++) { /* a rival stands beside one token of the chain and is another */
        int beside = t->position[made[i]] - begin;
        if (CHECK(beside >= 1 && beside <= chain)) CHECK(t->token[made[i]] != t->token[made[beside]]);
        CHECK(i == chain + 1 || t->position[made[i]] > t->position[made[i - 1]]);
    }
    if (ahead > 0) CHECK(chain == ahead || (unsure && chain > 0 && chain < ahead) || drafted == most);
    else if (known > 0) {
        CHECK_EQ(drafted, known);
        for (int i = 0; i < known; i++) CHECK_EQ(t->token[made[i + 1]], certain[i]);
    } else if (d->plan.steps != NULL) {
        looks = chain + (drafted < most && chain < deep);
        CHECK_EQ(passes, looks);
        for (int i = 1; i < passes; i++) CHECK_EQ(t->token[entry[i]], t->token[made[i]]);
    } else if (d->exit > 0) {
        for (int i = 0; i < chain; i++) looks += made[i + 1] - made[i] - d->exit; /* steps that it ran before the next one came */
        if (drafted < most && chain < deep) looks += (d->last > 0 ? d->last : d->exit) - d->exit + 1; /* the leaf drafted nothing, however deep it looked */
    } else CHECK_EQ(drafted, 0);
    /* what full depth made of it */
    for (int i = 0; i + 1 < count; i++) {
        int next = 0;
        for (int j = 1; j <= drafted && node <= chain; j++) if (t->position[made[j]] == begin + 1 + i && t->token[made[j]] == out[i].id) next = j;
        CHECK(next > 0);
        CHECK_EQ(out[i].drafted, 1);
        if (known > 0) CHECK_EQ(out[i].depth, 0);
        node = next;
    }
    for (int j = 1; j <= drafted && node <= chain; j++) CHECK(t->position[made[j]] != begin + count || t->token[made[j]] != out[count - 1].id);
    CHECK_EQ(out[count - 1].drafted, 0);
    CHECK_EQ(out[count - 1].depth, steps);
    transfers = d->transfer < g->d->draft_max - drafted ? d->transfer : g->d->draft_max - drafted;
    if (transfers > room - drafted) transfers = room - drafted;
    g->idle = ahead > 0 ? 0 : g->idle + 1;
    if (transfers < 0 || (g->idle > 8 && g->idle % 8 != 0)) transfers = 0;
    g->ahead = node == chain ? transfers : 0;
    /* what it has cost */
    ltx_stats *w = &g->want;
    uint64_t ran = (uint64_t)((drafted + 1) * steps + passes * d->plan.count), shown_rows = 0;
    w->tokens += (uint64_t)(rows + transfers);
    for (int i = 0; i < transfers; i++) { ran += (uint64_t)(steps - g->k->m.transfers[i].step); w->weight_bytes += kit_mat_bytes(&g->k->m.transfers[i].h); }
    for (int i = 0; i < t->n; i++) {
        shown_rows += t->step[i] >= 0;
        if (t->step[i] < 0 || (i > 0 && t->step[i] == t->step[i - 1])) continue; /* a batch reads a layer once */
        w->weight_bytes += kit_run_bytes(&g->k->layers[t->layer[i]], LTX_ATTN | LTX_FFN);
    }
    CHECK_EQ(shown_rows, ran);
    w->attn_rows += ran;
    w->ffn_rows += ran;
    w->head_rows += (uint64_t)(drafted + 1 + transfers + looks);
    w->weight_bytes += (uint64_t)(looks + 1) * head; /* a look reads it, and verification once for all */
    if (ahead > 0) g->rivals += drafted - chain;
    w->rounds++;
    w->drafted += (uint64_t)drafted;
    w->accepted += (uint64_t)count - 1;
}
static const setting counted[] = {
    {2, 0, 6, 0, 0, 0, 0.1f, 0}, {2, 0, 6, 1, 0, 0, 1e-9f, 0}, {1, 0, 7, 1, 0, 0, 0.0f, 0}, {1, 3, 7, 1, 0, 0, 0.2f, 0}, {0, 0, 6, 0, 0, 3, 0.0f, 0}, {2, 0, 4, 1, 0, 2, 0.05f, 0}, {0, 0, 5, 0, 2, 0, 0.0f, 0},
    {2, 0, 5, 1, 3, 0, 0.1f, 0}, {1, 3, 5, 0, 3, 4, 1e-9f, 0}, {0, 0, 6, 0, 0, 0, 0.1f, 1}, {0, 0, 7, 0, 3, 3, 0.0f, 1}, {0, 0, 5, 1, 2, 0, 0.0f, 0}, {0, 0, 5, 1, 2, 0, 0.05f, 0},
};
enum { COUNTED = sizeof counted / sizeof *counted };
static void counting_rounds(void)
{
    uint64_t accepted[COUNTED] = {0}, rejected[COUNTED] = {0};
    for (int c = 0; c < COUNTED; c++) {
        static ledger g;
        const setting *x = &counted[c % COUNTED];
        kit_shape shape = kit_small;
        shape.format = c % 2 ? LTX_Q8_0 : LTX_F32;
        shape.head_dim = c % 2 ? 32 : 24;
        kit_model *k = kit_make(&shape, 682);
        test_rng r = {683};
        ltx_transfer t[3];
        ltx_step steps[KIT_LAYERS], shorter[KIT_LAYERS];
        ltx_session_desc d = {.ctx = 60};
        ltx_sampler greedy = {0};
        ltx_token out[9];
        ltx_stats got;
        add_transfers(k, t, 3, 3, &r);
        CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
        memcpy(shorter, steps, sizeof steps);
        d.plan.steps = steps;
        d.draft_max = x->length + x->transfer;
        d.draft = kit_draft(x->exit, x->length, x->stop, 1e-30f); /* a row costs nothing: what is found or has a rival is drafted */
        d.draft.last = x->last; d.draft.tree = x->tree; d.draft.transfer = x->transfer; d.draft.lookup = x->lookup;
        if (x->skips) { d.draft.plan.steps = shorter; d.draft.plan.count = d.plan.count; CHECK_EQ(ltx_plan_drop(shorter, &d.draft.plan.count, 1, LTX_ATTN | LTX_FFN), LTX_OK); }
        memset(&g, 0, sizeof g);
        g.k = k; g.d = &d;
        d.policy.tap = show; d.policy.user = &g.tap;
        kit_session s = kit_open(&k->m, &d);
        prompt_of(g.text, k->m.vocab);
        CHECK_EQ(ltx_eval(s.s, g.text, FIRST - 1, NULL), LTX_OK);
        ltx_stats_reset(s.s);
        int32_t begin = FIRST - 1, back = 0;
        for (int round = 0; begin < d.ctx; round++) { /* on until the cache is full, which cuts the last rounds */
            int cap = round % 6 == 4 ? 1 : round % 6 == 2 ? 3 : 9;
            int32_t count;
            g.tap.n = 0;
            if (!CHECK_EQ(ltx_decode(s.s, &greedy, g.text[begin], out, cap, &count), LTX_OK) || !CHECK(count >= 1 && count <= cap)) break;
            check_round(&g, begin, cap, out, count);
            ltx_session_stats(s.s, &got);
            got.kv_bytes = got.attended = 0; /* of these rows see what is not kept */
            if (!CHECK(memcmp(&got, &g.want, sizeof got) == 0)) {
                printf("  setting %d, round %d: tokens %d %d, attention %d %d, heads %d %d, bytes %d %d, drafted %d %d\n", c % COUNTED, round, (int)got.tokens, (int)g.want.tokens, (int)got.attn_rows, (int)g.want.attn_rows,
                       (int)got.head_rows, (int)g.want.head_rows, (int)got.weight_bytes, (int)g.want.weight_bytes, (int)got.drafted, (int)g.want.drafted);
                break;
            }
            for (int i = 0; i < count; i++) g.text[begin + 1 + i] = out[i].id;
            begin += count;
            if (begin > 36 && back++ == 0) { /* once: what was said ahead is of no use then */
                CHECK_EQ(ltx_rewind(s.s, begin -= 5), LTX_OK);
                g.ahead = 0;
            }
        }
        CHECK_EQ(begin, d.ctx);
        CHECK_EQ(ltx_decode(s.s, &greedy, 1, out, 9, &back), LTX_E_FULL);
        CHECK(!x->tree || x->transfer == 0 || g.rivals > 0);
        accepted[c % COUNTED] += g.want.accepted;
        rejected[c % COUNTED] += g.want.drafted - g.want.accepted;
        kit_close(&s);
        k->m.transfers = NULL; k->m.n_transfers = 0;
        kit_free(k);
    }
    for (int i = 0; i < COUNTED; i++) CHECK(accepted[i] > 0 && rejected[i] > 0);
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

/* ---- beside what else decides about rows ---- */

enum { COMPANY = 12, STORY = 24 };
static int32_t never_ask(void *user, const ltx_view *v)
{
    (void)v;
    ++*(int *)user;
    return LTX_LEAVE;
}
/* Greedy from text[have] to text[end]; with rewinds in the middle of what was drafted, if `back` says so. */
static void tell(ltx_session *s, int32_t *text, int have, int end, int back)
{
    if (!kit_go_on(s, text, have, end, 8)) return;
    for (int i = 1; back && i < 8; i += 3) {
        CHECK_EQ(ltx_rewind(s, ltx_position(s) - i), LTX_OK);
        kit_go_on(s, text, end - i, end, 8);
    }
}
/* A prompt of text and two images, as one batch, then a text. With keep some rows of the images are gone behind a step, with a rule by kind they leave together
   (`left`), with depths that never grow the row of the prompt that wants logits leaves; after that no gate is asked where drafts are made. */
static ltx_stats story(const ltx_model *m, const ltx_session_desc *d, const ltx_policy *then, int32_t *text, float *last)
{
    int32_t prompt[COMPANY];
    uint8_t kind[COMPANY];
    ltx_draft none = {0};
    ltx_policy never = {0};
    ltx_stats st;
    ltx_output out = {0};
    const float *logits = NULL;
    for (int i = 0; i < COMPANY; i++) { prompt[i] = (7 * i + 3) % m->vocab; kind[i] = (uint8_t)(i < 2 || i + 1 == COMPANY ? 0 : i < 7 ? 1 : 2); }
    ltx_batch b = {.tokens = prompt, .count = COMPANY, .logits = 1, .kind = kind};
    kit_session k = kit_open(m, d);
    CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_OK);
    text[0] = out.logits ? kit_best(out.logits, m->vocab) : 0;
    ltx_session_stats(k.s, &st);
    uint64_t left = st.exits, dropped = st.dropped;
    CHECK_EQ(ltx_set_policy(k.s, then), LTX_OK);
    tell(k.s, text, 1, STORY / 2, d->draft_max > 0);
    tell(k.s, text, STORY / 2, STORY, d->draft_max > 0);
    ltx_session_stats(k.s, &st);
    CHECK_EQ(st.exits, left);
    CHECK_EQ(st.dropped, dropped);
    CHECK_EQ(ltx_set_draft(k.s, &none), LTX_OK);
    CHECK_EQ(ltx_set_policy(k.s, &never), LTX_OK);
    CHECK_EQ(ltx_eval(k.s, &text[STORY - 1], 1, &logits), LTX_OK);
    if (logits) memcpy(last, logits, (size_t)m->vocab * 4);
    kit_close(&k);
    return st;
}
static void beside_other_decisions(void)
{
    uint64_t accepted = 0, left = 0, dropped = 0;
    for (int c = 0; c < SETTINGS + 6; c++) { /* each setting, each way twice */
        const setting *x = &settings[c % SETTINGS];
        const int how = c < SETTINGS ? c % 8 : (c + 3) % 8, keep = how & 1, rule = how / 2; /* 0: a gate that nobody asks, 1: by kind, 2: depths that never grow, 3: by kind, with a window and a layer less */
        kit_model *k = kit_make(&kit_small, 691 + (uint64_t)how);
        test_rng r = {692};
        ltx_transfer t[3];
        ltx_step steps[KIT_LAYERS], shorter[KIT_LAYERS];
        ltx_session_desc d = {.rows = 16};
        ltx_policy never = {0}, then;
        int32_t plain[STORY], text[STORY];
        int asked = 0;
        float *a = (float *)test_malloc((size_t)k->m.vocab * 4), *b = (float *)test_malloc((size_t)k->m.vocab * 4);
        add_transfers(k, t, 3, 3, &r);
        CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
        if (rule == 3) { CHECK_EQ(ltx_plan_drop(steps, &d.plan.count, 2, LTX_ATTN), LTX_OK); d.window = 14; }
        for (int i = 0; i < d.plan.count; i++) steps[i].gate = 1;
        if (keep) { steps[1].keep = 0.5f; steps[3].keep = 0.25f; }
        if (keep && !x->tree && x->transfer == 0) for (int i = 1; i < d.plan.count; i++) steps[i].run |= steps[i].run & LTX_ATTN ? LTX_RENUMBER : 0;
        d.plan.steps = steps; d.plan.fill = c % 3;
        d.policy.user = &asked;
        if (rule == 1 || rule == 3) {
            d.policy.rule = LTX_EXIT_COSINE; d.policy.all_rows = d.policy.by_kind = 1;
            d.policy.kinds[0] = 2.0f; d.policy.kinds[1] = 0.6f; d.policy.kinds[2] = 0.7f;
        }
        if (rule == 2) { d.policy.rule = LTX_EXIT_PROB; d.policy.threshold = 2.0f; d.policy.monotone = 1; }
        then = d.policy;
        if (rule == 0) { then.rule = LTX_EXIT_ASK; then.gate = never_ask; then.all_rows = how == 0; }
        then.kinds[0] = -2.0f; /* all would leave */
        if (rule == 2) then.threshold = 0.0f;
        story(&k->m, &d, &never, plain, a);
        d.draft_max = x->length + x->transfer;
        d.draft = kit_draft(x->exit, x->length, x->stop, 0.05f);
        d.draft.last = x->last; d.draft.tree = x->tree; d.draft.transfer = x->transfer; d.draft.lookup = x->lookup;
        if (x->skips) {
            memcpy(shorter, steps, sizeof shorter);
            d.draft.plan.steps = shorter; d.draft.plan.count = d.plan.count;
            CHECK_EQ(ltx_plan_drop(shorter, &d.draft.plan.count, 1, LTX_ATTN | LTX_FFN), LTX_OK);
        }
        ltx_stats st = story(&k->m, &d, &then, text, b);
        if (!CHECK(memcmp(plain, text, sizeof text) == 0 && memcmp(a, b, (size_t)k->m.vocab * 4) == 0)) printf("  setting %d, how %d\n", c % SETTINGS, how);
        CHECK_EQ(asked, 0);
        CHECK_EQ(st.dropped > 0, keep);
        accepted += st.accepted; left += st.exits; dropped += st.dropped;
        k->m.transfers = NULL; k->m.n_transfers = 0;
        free(a);
        free(b);
        kit_free(k);
    }
    CHECK(accepted > 50 && left > 20 && dropped > 50);
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
    CHECK(drafted[0] > 2 * drafted[2]);
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

/* ---- what once went wrong ---- */

/* Numbers that overflow further on stand in for nothing: their rows are not made. */
static void transfers_out_of_range(void)
{
    static const float factors[] = {1e30f, 1e38f, HUGE_VALF, NAN};
    for (int i = 0; i < 4; i++) {
        kit_model *k = kit_make(&kit_small, 691);
        test_rng r = {692};
        ltx_transfer t[2];
        ltx_session_desc d = {.kv = (int32_t)(LTX_KV_F32 + i % 3)};
        ltx_sampler greedy = {0};
        int32_t plain[TEXT], text[TEXT];
        float *a = (float *)test_malloc((size_t)k->m.vocab * 4), *b = (float *)test_malloc((size_t)k->m.vocab * 4);
        add_transfers(k, t, 2, 2, &r);
        for (int32_t j = 0; j < k->m.dim * k->m.dim; j++) ((float *)t[1].h.data)[j] *= factors[i];
        write_text(&k->m, &d, greedy, plain, a);
        d.draft_max = 6;
        d.draft = kit_draft(2, 4, 0.01f, 0.0f);
        d.draft.transfer = 2;
        ltx_stats st = write_text(&k->m, &d, greedy, text, b);
        CHECK(memcmp(plain, text, sizeof text) == 0 && memcmp(a, b, (size_t)k->m.vocab * 4) == 0);
        CHECK(st.accepted > 0);
        k->m.transfers = NULL; k->m.n_transfers = 0;
        free(a); free(b);
        kit_free(k);
    }
}
/* A cache that the plan in use does not fill has no sinks to wait for. */
static void caches_that_nobody_fills(void)
{
    kit_model *k = kit_make(&kit_small, 693);
    test_rng r = {694};
    ltx_transfer t[2];
    ltx_step steps[KIT_LAYERS];
    ltx_plan plan = {.steps = steps};
    ltx_session_desc d = {.window = 16, .sinks = 4, .draft_max = 4, .draft = {.transfer = 2, .row_cost = 1e-6f}};
    ltx_sampler greedy = {0};
    ltx_token out[9];
    ltx_stats st;
    int32_t prompt[FIRST], token = 3, count;
    add_transfers(k, t, 2, 3, &r);
    prompt_of(prompt, k->m.vocab);
    CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &plan.count), LTX_OK);
    CHECK_EQ(ltx_plan_drop(steps, &plan.count, 4, LTX_ATTN), LTX_OK);
    kit_session s = kit_open(&k->m, &d);
    CHECK_EQ(ltx_set_plan(s.s, &plan), LTX_OK);
    CHECK_EQ(ltx_eval(s.s, prompt, FIRST, NULL), LTX_OK);
    for (int i = 0; i < 20; i++) {
        if (!CHECK_EQ(ltx_decode(s.s, &greedy, token, out, 9, &count), LTX_OK)) break;
        token = out[count - 1].id;
    }
    ltx_session_stats(s.s, &st);
    CHECK(st.drafted > 10);
    kit_close(&s);
    k->m.transfers = NULL; k->m.n_transfers = 0;
    kit_free(k);
}
/* Another plan, then another scratch block: what was learned by depth stays where it is. */
static void moved_after_a_shorter_plan(void)
{
    kit_model *k = kit_make(&kit_small, 695);
    ltx_step steps[KIT_LAYERS];
    ltx_plan plan = {.steps = steps};
    ltx_session_desc d = {.draft_max = 4};
    ltx_session_needs need;
    int32_t prompt[FIRST];
    const float *logits;
    float *first = (float *)test_malloc((size_t)k->m.vocab * 4);
    prompt_of(prompt, k->m.vocab);
    CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &plan.count), LTX_OK);
    CHECK_EQ(ltx_plan_drop(steps, &plan.count, 1, LTX_ATTN | LTX_FFN), LTX_OK);
    kit_session s = kit_open(&k->m, &d);
    CHECK_EQ(ltx_set_plan(s.s, &plan), LTX_OK);
    CHECK_EQ(ltx_eval(s.s, prompt, FIRST, &logits), LTX_OK);
    memcpy(first, logits, (size_t)k->m.vocab * 4);
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_OK);
    test_block other = test_alloc(need.scratch.size, need.scratch.align);
    CHECK_EQ(ltx_session_scratch(s.s, (ltx_mem){other.ptr, need.scratch.size}), LTX_OK);
    CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
    CHECK_EQ(ltx_eval(s.s, prompt, FIRST, &logits), LTX_OK);
    CHECK(memcmp(first, logits, (size_t)k->m.vocab * 4) == 0);
    kit_close(&s);
    test_free(&other);
    free(first);
    kit_free(k);
}
/* With one token in the shortlist there is no rival, and the chain goes on. */
static void no_rival(void)
{
    uint64_t accepted[2];
    for (int tree = 0; tree < 2; tree++) {
        kit_model *k = kit_make(&kit_small, 697);
        const uint8_t only[4] = {0, 0, 0, 0};
        ltx_session_desc d = {.draft_max = 8};
        ltx_sampler greedy = {0};
        int32_t text[TEXT];
        float *last = (float *)test_malloc((size_t)k->m.vocab * 4);
        float *norm = (float *)k->m.out_norm.data;
        for (int i = 0; i < k->m.dim; i++) norm[i] = 0; /* all logits are 0: token 0 it is */
        k->m.draft_ids = only; k->m.n_draft_ids = 1;
        d.draft = kit_draft(1, 8, 0.0f, 0.01f);
        d.draft.tree = tree;
        accepted[tree] = write_text(&k->m, &d, greedy, text, last).accepted;
        k->m.draft_ids = NULL; k->m.n_draft_ids = 0;
        free(last);
        kit_free(k);
    }
    CHECK_EQ(accepted[1], accepted[0]);
    CHECK(accepted[0] > TEXT / 2);
}
/* A plan that drafts by a head of its own, which is smaller than the model's: that makes it cheap, not dear beyond measure. */
static void smaller_head(void)
{
    kit_shape shape = kit_small;
    shape.vocab = 3000;
    shape.format = LTX_F32;
    kit_model *k = kit_make(&shape, 698);
    test_rng r = {699};
    ltx_exit exits[KIT_LAYERS];
    ltx_step one[1] = {{.layer = 0, .run = LTX_FFN}};
    ltx_session_desc d = {.draft_max = 4};
    ltx_sampler greedy = {0};
    int32_t text[TEXT];
    float *last = (float *)test_malloc((size_t)k->m.vocab * 4);
    memset(exits, 0, sizeof exits);
    exits[0].head = kit_mat(k, LTX_F16, k->m.vocab, k->m.dim, 3, &r);
    k->m.exit_heads = exits;
    CHECK(ltx_plan_bytes(&k->m, one, 1) < kit_mat_bytes(&k->m.embed)); /* as it was when it went wrong */
    d.draft = kit_draft(0, 4, 0.0f, 0.01f);
    d.draft.plan.steps = one; d.draft.plan.count = 1;
    CHECK(write_text(&k->m, &d, greedy, text, last).drafted > 0);
    k->m.exit_heads = NULL;
    free(last);
    kit_free(k);
}
/* Positions of drafts that were not kept have not been reached. */
static void back_after_a_round(void)
{
    kit_model *k = kit_make(&kit_small, 699);
    ltx_session_desc d = {.window = 24, .rows = 12, .draft_max = 11, .kv = LTX_KV_F32}, plain = {.window = 24, .rows = 12, .kv = LTX_KV_F32};
    ltx_sampler greedy = {0};
    ltx_token out[12];
    int32_t tokens[64], count = 0, begin = 0;
    const float *x, *y;
    for (int i = 0; i < 64; i++) tokens[i] = (7 * i + i * i) % k->m.vocab;
    d.draft = kit_draft(1, 11, 1e-9f, 0.0f);
    kit_session a = kit_open(&k->m, &d), b = kit_open(&k->m, &plain);
    CHECK_EQ(ltx_eval(a.s, tokens, 40, NULL), LTX_OK);
    for (int i = 0; i < 20; i++) { /* until a round keeps few */
        begin = ltx_position(a.s);
        if (!CHECK_EQ(ltx_decode(a.s, &greedy, tokens[begin % 64], out, 12, &count), LTX_OK) || count <= 4) break;
        CHECK_EQ(ltx_rewind(a.s, begin), LTX_OK);
        CHECK_EQ(ltx_eval(a.s, &tokens[begin % 64], 1, NULL), LTX_OK);
    }
    CHECK(count <= 4);
    CHECK_EQ(ltx_rewind(a.s, begin - 8), LTX_OK);
    CHECK_EQ(ltx_eval(a.s, &tokens[63], 1, &x), LTX_OK);
    for (int i = 0; i < begin - 8; i++) CHECK_EQ(ltx_eval(b.s, &tokens[i % 64], 1, NULL), LTX_OK);
    CHECK_EQ(ltx_eval(b.s, &tokens[63], 1, &y), LTX_OK);
    CHECK(memcmp(x, y, (size_t)k->m.vocab * 4) == 0);
    kit_close(&a); kit_close(&b);
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
    steps[1].route = 0; steps[1].run |= LTX_RENUMBER;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG);
    d.draft.transfer = 0; /* the tree alone does not suit it either */
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG);
    d.draft.tree = 0; d.draft.lookup = 2;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_OK);
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
    TEST(counting_rounds);
    TEST(beside_other_decisions);
    TEST(sampled);
    TEST(limits);
    TEST(by_the_clock);
    TEST(by_depth);
    TEST(transfers_out_of_range); TEST(caches_that_nobody_fills); TEST(moved_after_a_shorter_plan); TEST(no_rival); TEST(smaller_head); TEST(back_after_a_round);
    TEST(refused);
    return test_end();
}
