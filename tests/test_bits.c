/* test_bits.c - the same bits whatever the instruction set, threads, pieces, plans, exits and drafts
   SPDX-License-Identifier: MIT

   cc -O2 -I. -Itests tests/test_bits.c -o test_bits -lm -pthread && ./test_bits
   test_bits --hash prints only the golden hashes, so that builds can be compared.

   A trace is what one token at a time gives on the scalar set, with one thread and one row. Everything else is compared with it
   by memcmp. */
#define _POSIX_C_SOURCE 200112L
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"
#ifndef __wasi__
#include <pthread.h>
#endif

/* FNV-1a 64 over the logits as little-endian words, see golden_bytes, golden_synthetic, golden_k and (with bytes of matrices before them) golden_native; over bytes in golden_encoded. */
#define GOLDEN_BYTES     UINT64_C(0x74ab0bd03ba5a5f9)
#define GOLDEN_SYNTHETIC UINT64_C(0x568ad37db5831311)
#define GOLDEN_K         UINT64_C(0xa51547d85bcd629a)
#define GOLDEN_ENCODED   UINT64_C(0x00911b3fc2741e47)
#define GOLDEN_NATIVE UINT64_C(0x4b098421f101e9e3)

enum { N = 72, MAX_VOCAB = 4096 };

/* ==== traces ============================================================================================ */

typedef struct trace {
    int n, vocab;
    int32_t token[N];
    float *row;         /* [n][vocab] */
    int32_t depth[N];
} trace;

static int act_bits; /* of all sessions; 0 but in tests of formats with one scale per row */

static ltx_session_desc plain_desc(void)
{
    ltx_session_desc d;
    memset(&d, 0, sizeof d);
    d.ctx = 96;
    d.act_bits = act_bits;
    return d;
}

static ltx_policy no_policy(void)
{
    ltx_policy p;
    memset(&p, 0, sizeof p);
    return p;
}

static const float *row_of(const trace *t, int at)
{
    return t->row + (size_t)at * (size_t)t->vocab;
}

static int same_row(const trace *t, int at, const float *logits)
{
    return memcmp(row_of(t, at), logits, (size_t)t->vocab * sizeof *logits) == 0;
}

/* Tokens one by one through a session that is open. */
static void trace_session(ltx_session *s, const ltx_model *m, const int32_t *tokens, int n, trace *t)
{
    t->n = n; t->vocab = m->vocab;
    t->row = (float *)test_malloc((size_t)n * (size_t)m->vocab * sizeof *t->row);
    for (int i = 0; i < n; i++) {
        ltx_output out;
        ltx_batch b = {.tokens = &tokens[i], .count = 1, .logits = 1};
        t->token[i] = tokens[i];
        if (!CHECK_EQ(ltx_eval_batch(s, &b, &out), LTX_OK)) exit(1);
        memcpy(t->row + (size_t)i * (size_t)m->vocab, out.logits, (size_t)m->vocab * sizeof *t->row);
        t->depth[i] = out.depth[0];
    }
}

static trace trace_of(const ltx_model *m, ltx_session_desc d, const int32_t *tokens, int n)
{
    trace t;
    d.isa = LTX_ISA_SCALAR;
    kit_session k = kit_open(m, &d);
    trace_session(k.s, m, tokens, n, &t);
    kit_close(&k);
    return t;
}

static trace trace_random(const ltx_model *m, ltx_session_desc d, uint64_t seed)
{
    int32_t tokens[N];
    kit_tokens(tokens, N, m->vocab, seed);
    return trace_of(m, d, tokens, N);
}

/* Feed tokens [from, to) in pieces of the given sizes, used round and round; the last row of each piece has to match. */
static int feed(ltx_session *s, const trace *t, int from, int to, const int *sizes, int n_sizes)
{
    int same = 1;
    for (int i = 0; from < to; i++) {
        const float *logits;
        int n = sizes[i % n_sizes] < to - from ? sizes[i % n_sizes] : to - from;
        if (!CHECK_EQ(ltx_eval(s, t->token + from, n, &logits), LTX_OK)) return 0;
        from += n;
        same &= same_row(t, from - 1, logits);
    }
    return same;
}

static const int ones[] = {1}, whole[] = {N}, odd[] = {3, 1, 7, 2, 13, 5, 31};

static int feed_all(const ltx_model *m, const ltx_session_desc *d, const trace *t, const int *sizes, int n_sizes)
{
    kit_session k = kit_open(m, d);
    int same = feed(k.s, t, 0, t->n, sizes, n_sizes);
    kit_close(&k);
    return same;
}

/* ==== pools ============================================================================================= */

/* Runs the tasks in a random order on the calling thread. */
static void shuffling_run(void *user, ltx_task *task, void *arg, int32_t count)
{
    int32_t order[64];
    for (int32_t i = 0; i < count; i++) {
        int j = test_int((test_rng *)user, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int32_t i = 0; i < count; i++) task(arg, order[i]);
}

typedef struct helper {
    ltx_task *task;
    void *arg;
    int32_t first, count;
} helper;

static void *helper_main(void *p)
{
    helper *h = (helper *)p;
    for (int32_t i = h->first; i < h->count; i += 2) h->task(h->arg, i);
    return NULL;
}

/* Two threads: one takes the even tasks, one the odd ones. Counts its calls, so that a test can see that it was used. */
static void threaded_run(void *user, ltx_task *task, void *arg, int32_t count)
{
    helper h[2];
    ++*(int *)user;
    for (int i = 0; i < 2; i++) {
        h[i].task = task; h[i].arg = arg; h[i].first = i; h[i].count = count;
    }
#ifdef __wasi__ /* no threads there */
    for (int i = 0; i < 2; i++) helper_main(&h[i]);
#else
    pthread_t t[2];
    for (int i = 0; i < 2; i++) if (pthread_create(&t[i], NULL, helper_main, &h[i]) != 0) exit(2);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
#endif
}

/* ==== one model, many ways ============================================================================== */

typedef struct subject { /* what the tests below run on */
    const ltx_model *m;
    int heavy; /* a shipped model: fewer combinations */
} subject;

static uint64_t tap_hash[N + 1][32];
static int32_t tap_note(void *user, const ltx_view *v)
{
    (void)user;
    if (v->position < N && v->step < 31) tap_hash[v->position][v->step + 1] = test_hash(v->hidden, (size_t)v->dim * sizeof(float), TEST_HASH_START);
    return LTX_GO;
}

static void every_isa(const subject *sub)
{
    for (int kv = LTX_KV_F32; kv <= LTX_KV_I8; kv++) {
        ltx_session_desc d = plain_desc();
        uint64_t want[N + 1][32];
        d.kv = kv; d.rows = 40; d.policy.tap = tap_note;
        memset(tap_hash, 0, sizeof tap_hash);
        trace t = trace_random(sub->m, d, 11);
        memcpy(want, tap_hash, sizeof want);
        for (int isa = LTX_ISA_SCALAR; isa < LTX_ISA_COUNT; isa++) {
            if (!(ltx_isa_mask() & 1u << isa)) continue;
            d.isa = isa;
            memset(tap_hash, 0, sizeof tap_hash);
            CHECK(feed_all(sub->m, &d, &t, ones, 1));
            CHECK(memcmp(want, tap_hash, sizeof want) == 0);
            CHECK(feed_all(sub->m, &d, &t, odd, 7));
            CHECK(memcmp(want, tap_hash, sizeof want) == 0);
        }
        free(t.row);
    }
}

static void every_thread_count(const subject *sub)
{
    ltx_session_desc d = plain_desc();
    trace t = trace_random(sub->m, d, 12);
    test_rng r = {5};
    int calls = 0;
    for (d.threads = 1; d.threads <= 3; d.threads++)
        for (int pool = 0; pool < 3; pool++) {
            memset(&d.pool, 0, sizeof d.pool);
            if (pool == 1) { d.pool.run = shuffling_run; d.pool.user = &r; }
            if (pool == 2) { d.pool.run = threaded_run; d.pool.user = &calls; }
            CHECK(feed_all(sub->m, &d, &t, whole, 1));
            if (!sub->heavy || pool == 1) CHECK(feed_all(sub->m, &d, &t, odd, 7));
        }
    CHECK(calls > 0);
    free(t.row);
}

static void every_split(const subject *sub)
{
    static const int three[] = {3, N}, thirty_two[] = {32}, seventeen[] = {17}, last[] = {N - 1, 1};
    ltx_session_desc d = plain_desc();
    trace t = trace_random(sub->m, d, 13);
    d.rows = 40;
    CHECK(feed_all(sub->m, &d, &t, ones, 1));
    CHECK(feed_all(sub->m, &d, &t, three, 2));
    CHECK(feed_all(sub->m, &d, &t, thirty_two, 1));
    CHECK(feed_all(sub->m, &d, &t, seventeen, 1));
    CHECK(feed_all(sub->m, &d, &t, last, 2));
    CHECK(feed_all(sub->m, &d, &t, whole, 1));
    CHECK(feed_all(sub->m, &d, &t, odd, 7));
    free(t.row);
}

static void every_row_count(const subject *sub)
{
    ltx_session_desc d = plain_desc();
    trace t = trace_random(sub->m, d, 14);
    for (d.rows = 1; d.rows <= 64; d.rows += sub->heavy ? 9 : 1) CHECK(feed_all(sub->m, &d, &t, whole, 1));
    free(t.row);
}

/* Logits of all rows of a batch. */
static void every_row_of_a_batch(const subject *sub)
{
    ltx_session_desc d = plain_desc();
    trace t = trace_random(sub->m, d, 15);
    for (int rows = 1; rows <= 64; rows = rows * 3 - 1 + (rows == 1)) {
        d.rows = d.logits_rows = rows;
        kit_session k = kit_open(sub->m, &d);
        for (int at = 0; at < N; at += rows) {
            ltx_batch b = {.tokens = t.token + at, .count = N - at < rows ? N - at : rows};
            ltx_output out;
            b.logits = b.count;
            if (!CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_OK)) break;
            for (int i = 0; i < b.count; i++) CHECK(same_row(&t, at + i, out.logits + (size_t)i * (size_t)t.vocab));
        }
        kit_close(&k);
    }
    free(t.row);
}

static void full_plan_is_no_plan(const subject *sub)
{
    ltx_step steps[64];
    ltx_session_desc d = plain_desc();
    trace t = trace_random(sub->m, d, 16);
    CHECK_EQ(ltx_plan_full(sub->m, steps, 64, &d.plan.count), LTX_OK);
    d.plan.steps = steps;
    CHECK(feed_all(sub->m, &d, &t, odd, 7));
    ltx_plan_gates(steps, d.plan.count, 0, 1); /* gates without a rule */
    for (d.plan.fill = 0; d.plan.fill <= LTX_FILL_NONE; d.plan.fill++) CHECK(feed_all(sub->m, &d, &t, odd, 7));
    free(t.row);
}

/* The same model with its blocks placed for the kernels; exactly the bytes asked for, on every set, and one byte fewer is refused. */
static void repacked(const subject *sub)
{
    ltx_session_desc d = plain_desc();
    ltx_model m, untouched;
    ltx_need need;
    trace t = trace_random(sub->m, d, 18);
    CHECK_EQ(ltx_repack_need(sub->m, &need), LTX_OK);
    test_block b = test_alloc(need.size, need.align);
    ltx_mem mem = {b.ptr, need.size - 1};
    memset(&m, 0x5a, sizeof m);
    memset(&untouched, 0x5a, sizeof untouched);
    CHECK_EQ(ltx_repack(sub->m, mem, &m), LTX_E_MEM);
    CHECK(memcmp(&m, &untouched, sizeof m) == 0);
    mem.size++;
    if (!CHECK_EQ(ltx_repack(sub->m, mem, &m), LTX_OK)) return;
    CHECK(!sub->heavy || m.layers[0].wq.type == LTX_Q8_X);
    for (d.isa = 1; d.isa < LTX_ISA_COUNT; d.isa++) if (ltx_isa_mask() & 1u << d.isa) CHECK(feed_all(&m, &d, &t, odd, 7));
    free(t.row);
    test_free(&b);
}

/* Rewind and replay against the trace of a fresh run, with and without a window. */
static void rewind_and_replay(const subject *sub)
{
    for (int window = 0; window < 2; window++) {
        ltx_session_desc d = plain_desc();
        test_rng r = {17};
        d.window = window ? 20 : 0; d.sinks = window ? 3 : 0; d.rows = 16;
        trace t = trace_random(sub->m, d, 17);
        kit_session k = kit_open(sub->m, &d);
        for (int i = 0, high = 0; i < (sub->heavy ? 8 : 60); i++) {
            int at = ltx_position(k.s), low = window && high > 16 ? high - 16 : 0, to = at + 1 + test_int(&r, N - at);
            if (window && to > at + 14) to = at + 14; /* stay within reach of the rewind below */
            if (to > N) to = N;
            CHECK(feed(k.s, &t, at, to, odd, 7));
            if (to > high) high = to;
            low = window && high > 16 ? high - 16 : 0;
            CHECK_EQ(ltx_rewind(k.s, to < N && i % 3 ? to : low + test_int(&r, to - low)), LTX_OK);
        }
        CHECK_EQ(ltx_rewind(k.s, 0), LTX_OK);
        CHECK(feed(k.s, &t, 0, N, odd, 7));
        kit_close(&k);
        free(t.row);
    }
}

/* ==== exits ============================================================================================= */

static int32_t ask_by_position(void *user, const ltx_view *v)
{
    uint32_t h = (uint32_t)v->position * 2654435761u ^ (uint32_t)v->step * 40503u;
    (void)user;
    h ^= h >> 13;
    return h % 5 == 0 ? LTX_LEAVE : h % 5 == 1 ? 1 : LTX_GO;
}

/* A gate after every step, and a threshold at which some of the rows leave and some do not. */
static void gated_desc(const ltx_model *m, ltx_session_desc *d, ltx_step *steps, int rule)
{
    ltx_plan_full(m, steps, 64, &d->plan.count);
    ltx_plan_gates(steps, d->plan.count, 0, 1);
    d->plan.steps = steps; d->plan.fill = LTX_FILL_DEFER;
    d->policy.rule = rule;
    d->policy.gate = rule == LTX_EXIT_ASK ? ask_by_position : NULL;
    if (rule < LTX_EXIT_ALWAYS) kit_threshold(m, d);
}

/* A batch of rows that leave at different steps gives what the same tokens give one by one. */
static void batch_with_exits(const subject *sub, const ltx_session_desc *d, const trace *t, int rows)
{
    ltx_stats stats;
    kit_session k = kit_open(sub->m, d);
    for (int at = 0; at < t->n; at += rows) {
        ltx_batch b = {.tokens = t->token + at, .count = t->n - at < rows ? t->n - at : rows};
        ltx_output out;
        b.logits = b.count;
        if (!CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_OK)) break;
        for (int i = 0; i < b.count; i++) {
            CHECK_EQ(out.depth[i], t->depth[at + i]);
            CHECK(same_row(t, at + i, out.logits + (size_t)i * (size_t)t->vocab));
        }
    }
    ltx_session_stats(k.s, &stats);
    CHECK(stats.exits > 0 && (stats.exits < (uint64_t)t->n || d->policy.rule == LTX_EXIT_ALWAYS));
    kit_close(&k);
}

static void exits(const subject *sub)
{
    int32_t tokens[N];
    kit_tokens(tokens, N, sub->m->vocab, 18);
    for (int rule = LTX_EXIT_PROB; rule <= LTX_EXIT_ASK; rule++) {
        ltx_step steps[64];
        ltx_session_desc d = plain_desc();
        gated_desc(sub->m, &d, steps, rule);
        for (d.plan.fill = 0; d.plan.fill <= LTX_FILL_NONE; d.plan.fill++) {
            d.rows = d.logits_rows = 12;
            trace t = trace_of(sub->m, d, tokens, sub->heavy ? 36 : N);
            batch_with_exits(sub, &d, &t, 12);
            batch_with_exits(sub, &d, &t, 5);
            free(t.row);
        }
    }
}

/* Deferred layers are exact: every row that runs to the end has the bits of a run without exits. */
static void defer_is_exact(const subject *sub)
{
    for (int rule = LTX_EXIT_PROB; rule <= LTX_EXIT_ALWAYS; rule++) {
        ltx_step steps[64];
        ltx_session_desc d = plain_desc();
        ltx_policy never = no_policy();
        trace t = trace_random(sub->m, d, 19);
        gated_desc(sub->m, &d, steps, rule);
        d.rows = 24;
        for (int flush = 0; flush < 2; flush++) {
            kit_session k = kit_open(sub->m, &d);
            trace u;
            trace_session(k.s, sub->m, t.token, 40, &u);
            for (int i = 0; i < 40; i++)
                if (u.depth[i] == d.plan.count) CHECK(same_row(&t, i, row_of(&u, i)));
            if (flush) CHECK_EQ(ltx_flush(k.s), LTX_OK);
            CHECK_EQ(ltx_set_policy(k.s, &never), LTX_OK);
            CHECK(feed(k.s, &t, 40, N, odd, 7));
            kit_close(&k);
            free(u.row);
        }
        free(t.row);
    }
}

/* Rewinding between waiting rows drops only the later ones. */
static void rewind_among_deferred(const subject *sub)
{
    ltx_step steps[64];
    ltx_session_desc d = plain_desc();
    ltx_policy never = no_policy(), ask;
    trace t = trace_random(sub->m, d, 20);
    gated_desc(sub->m, &d, steps, LTX_EXIT_ASK);
    ask = d.policy;
    d.rows = 24;
    for (int back = 1; back <= 15; back++) {
        kit_session k = kit_open(sub->m, &d);
        trace u, w;
        trace_session(k.s, sub->m, t.token, 20, &u);
        CHECK_EQ(ltx_rewind(k.s, 20 - back), LTX_OK);
        trace_session(k.s, sub->m, t.token + 20 - back, back, &w); /* replay under the same rule */
        CHECK(memcmp(row_of(&u, 20 - back), w.row, (size_t)back * (size_t)u.vocab * sizeof *u.row) == 0);
        CHECK_EQ(ltx_rewind(k.s, 20 - back), LTX_OK);
        /* skipped steps are projected, so full depth is only exact without them; replaying from 0 is exact again */
        CHECK_EQ(ltx_rewind(k.s, 0), LTX_OK);
        CHECK_EQ(ltx_set_policy(k.s, &never), LTX_OK);
        CHECK(feed(k.s, &t, 0, 24, ones, 1));
        CHECK_EQ(ltx_set_policy(k.s, &ask), LTX_OK);
        kit_close(&k);
        free(u.row);
        free(w.row);
    }
    free(t.row);
}

static void rewind_always_deferred(const subject *sub)
{
    ltx_step steps[64];
    ltx_session_desc d = plain_desc();
    ltx_policy never = no_policy();
    trace t = trace_random(sub->m, d, 21);
    gated_desc(sub->m, &d, steps, LTX_EXIT_PROB);
    d.rows = 24;
    for (int back = 1; back <= 20; back++) {
        kit_session k = kit_open(sub->m, &d);
        trace u;
        trace_session(k.s, sub->m, t.token, 20, &u);
        CHECK_EQ(ltx_rewind(k.s, 20 - back), LTX_OK);
        CHECK_EQ(ltx_set_policy(k.s, &never), LTX_OK);
        CHECK(feed(k.s, &t, 20 - back, 36, odd, 7));
        kit_close(&k);
        free(u.row);
    }
    free(t.row);
}

/* ==== speculation ======================================================================================= */

enum { TEXT = 48, PROMPT = 9 };

/* Greedy text of TEXT tokens after a prompt; ends with an eval of one more token whose logits show the state of all caches. vocab is not
   part of the descriptor: the caller sets it in *state. */
static void greedy(ltx_session *s, const int32_t *prompt, int cap, int32_t *text, uint64_t *state)
{
    const float *logits;
    CHECK_EQ(ltx_eval(s, prompt, PROMPT, &logits), LTX_OK);
    text[0] = kit_best(logits, (int)*state);
    if (!kit_go_on(s, text, 1, TEXT, cap)) return;
    ltx_session_desc used;
    ltx_draft off = kit_draft(0, 0, 0, 0);
    ltx_session_desc_used(s, &used);
    CHECK_EQ(ltx_set_draft(s, &off), LTX_OK);
    CHECK_EQ(ltx_eval(s, &text[TEXT - 1], 1, &logits), LTX_OK);
    *state = test_hash(logits, (size_t)*state * sizeof *logits, TEST_HASH_START);
    CHECK_EQ(ltx_set_draft(s, &used.draft), LTX_OK);
}

static uint64_t accepted_total;

static void draft_like_plain(const ltx_model *m, ltx_session_desc d, ltx_draft draft, int cap, const int32_t *prompt, const int32_t *want, uint64_t state)
{
    int32_t got[TEXT];
    uint64_t got_state = (uint64_t)m->vocab;
    ltx_stats stats;
    d.draft_max = 7; d.rows = 8; d.draft = draft;
    kit_session k = kit_open(m, &d);
    greedy(k.s, prompt, cap, got, &got_state);
    CHECK(memcmp(got, want, sizeof got) == 0);
    CHECK(got_state == state);
    ltx_session_stats(k.s, &stats);
    accepted_total += stats.accepted;
    kit_close(&k);
}

static void drafts_of(const ltx_model *m, const ltx_session_desc *d, int steps, int every, uint64_t seed)
{
    static const struct { int length; float stop, row_cost; } kinds[] = {{0, 0, 0}, {1, 1e-9f, 0}, {4, 1e-9f, 0}, {7, 1e-9f, 0}, {5, 0.7f, 0}, {0, 0, 0.01f}, {3, 0, 0.6f}};
    int32_t prompt[PROMPT], want[TEXT];
    uint64_t state = (uint64_t)m->vocab;
    kit_tokens(prompt, PROMPT, m->vocab, seed);
    kit_session k = kit_open(m, d);
    greedy(k.s, prompt, 1, want, &state);
    kit_close(&k);
    for (int e = 1; e < steps; e++)
        for (int i = 0; i < 7; i++) {
            if ((e + i) % every) continue;
            ltx_draft draft = kit_draft(e, kinds[i].length, kinds[i].stop, kinds[i].row_cost);
            draft_like_plain(m, *d, draft, i == 2 ? 3 : 16, prompt, want, state);
        }
}

static void speculation(const subject *sub)
{
    int every = sub->heavy ? 9 : 1;
    accepted_total = 0;
    for (int kv = LTX_KV_F32; kv <= LTX_KV_I8; kv++)
        for (int window = 0; window < 2; window++) {
            ltx_session_desc d = plain_desc();
            if (sub->heavy && window && kv != LTX_KV_F16) continue;
            d.kv = kv; d.window = window ? 24 : 0; d.sinks = window ? 2 : 0;
            drafts_of(sub->m, &d, sub->m->n_layers, every, 22);
        }
    CHECK(accepted_total > 0);
}

static void speculation_on_plans(const subject *sub)
{
    ltx_step steps[64];
    ltx_session_desc d = plain_desc();
    ltx_plan_full(sub->m, steps, 64, &d.plan.count);
    CHECK_EQ(ltx_plan_drop(steps, &d.plan.count, 1, LTX_ATTN), LTX_OK);
    CHECK_EQ(ltx_plan_drop(steps, &d.plan.count, 2, LTX_ATTN | LTX_FFN), LTX_OK);
    CHECK_EQ(ltx_plan_repeat(steps, 64, &d.plan.count, 0, 0, 2), LTX_OK);
    ltx_plan_gates(steps, d.plan.count, 0, 1);
    d.plan.steps = steps;
    for (d.plan.fill = 0; d.plan.fill <= LTX_FILL_NONE; d.plan.fill++) drafts_of(sub->m, &d, d.plan.count, sub->heavy ? 9 : 2, 23);
}

/* Drafts that may go deeper, and drafts from a shortlist of tokens. */
static void speculation_deeper(const subject *sub)
{
    unsigned char ids[16 * 4];
    int32_t prompt[PROMPT], want[TEXT];
    uint64_t state = (uint64_t)sub->m->vocab;
    ltx_session_desc d = plain_desc();
    ltx_model m = *sub->m;
    kit_tokens(prompt, PROMPT, m.vocab, 25);
    kit_session k = kit_open(&m, &d);
    greedy(k.s, prompt, 1, want, &state);
    kit_close(&k);
    for (int i = 0; i < 16; i++) kit_put32(ids + i * 4, (uint32_t)(m.vocab / 16 * i + i % 3));
    for (int c = 0; c < 8; c++) {
        ltx_draft draft = kit_draft(1 + c % 2, 0, c & 2 ? 0.5f : 0, 0.01f);
        draft.last = c & 1 ? m.n_layers - 1 : draft.exit + 1;
        m.draft_ids = c & 4 ? ids : NULL;
        m.n_draft_ids = c & 4 ? 16 : 0;
        draft_like_plain(&m, d, draft, 16, prompt, want, state);
    }
}

/* Drafts from earlier in the text, alone and before those of layers, in a window that forgets as well. */
static void speculation_looked_up(const subject *sub)
{
    int32_t prompt[PROMPT], want[TEXT];
    accepted_total = 0;
    for (int c = 0; c < 16; c++) {
        uint64_t state = (uint64_t)sub->m->vocab;
        ltx_session_desc d = plain_desc();
        ltx_draft draft = kit_draft(c & 1 ? 1 + c % 3 : 0, c & 2 ? 3 : 0, 0, c & 8 ? 0.3f : 0.001f);
        if (sub->heavy && c % 5) continue;
        draft.lookup = 1 + c % 4;
        d.window = c & 4 ? 10 : 0; d.sinks = c & 4 ? 2 : 0;
        kit_tokens(prompt, PROMPT, sub->m->vocab, 26 + (uint64_t)c);
        memcpy(prompt + 5, prompt + 1, 4 * sizeof *prompt);
        kit_session k = kit_open(sub->m, &d);
        greedy(k.s, prompt, 1, want, &state);
        kit_close(&k);
        draft_like_plain(sub->m, d, draft, c == 3 ? 2 : 16, prompt, want, state);
    }
    CHECK(accepted_total > 0);
}

/* Draft, rewind into the middle of what it made, go on: like plain decoding from there. */
static void speculation_and_rewind(const subject *sub)
{
    int32_t prompt[PROMPT], want[TEXT], got[TEXT];
    uint64_t state = (uint64_t)sub->m->vocab, got_state;
    ltx_session_desc d = plain_desc();
    kit_tokens(prompt, PROMPT, sub->m->vocab, 24);
    kit_session k = kit_open(sub->m, &d);
    greedy(k.s, prompt, 1, want, &state);
    kit_close(&k);
    d.draft_max = 7; d.rows = 8; d.draft.exit = 2; d.draft.stop = 1e-9f;
    k = kit_open(sub->m, &d);
    for (int i = 0; i < 6; i++) {
        const float *logits;
        int at = PROMPT + i * 7;
        CHECK_EQ(ltx_rewind(k.s, 0), LTX_OK);
        got_state = (uint64_t)sub->m->vocab;
        greedy(k.s, prompt, 16, got, &got_state);
        CHECK(memcmp(got, want, sizeof got) == 0 && got_state == state);
        CHECK_EQ(ltx_rewind(k.s, at), LTX_OK); /* the token at `at` is want[at - PROMPT] */
        CHECK_EQ(ltx_eval(k.s, &want[at - PROMPT], 1, &logits), LTX_OK);
        CHECK_EQ(kit_best(logits, sub->m->vocab), want[at - PROMPT + 1]);
    }
    kit_close(&k);
}

/* ==== sessions ========================================================================================== */

static void shared_scratch(const subject *sub)
{
    ltx_session_desc d = plain_desc();
    ltx_session_needs need;
    ltx_session *s[2];
    test_block state[2], cache[2], scratch[2];
    trace t[2];
    d.rows = 8; d.draft_max = 4;
    CHECK_EQ(ltx_session_need(sub->m, &d, &need), LTX_OK);
    for (int i = 0; i < 2; i++) {
        t[i] = trace_random(sub->m, d, 30 + (uint64_t)i);
        state[i] = test_alloc(need.state.size, 64); cache[i] = test_alloc(need.cache.size, 64); scratch[i] = test_alloc(need.scratch.size, 64);
        ltx_session_mems mem = {{state[i].ptr, state[i].size}, {cache[i].ptr, cache[i].size}, {scratch[0].ptr, scratch[0].size}};
        CHECK_EQ(ltx_session_init(sub->m, &d, &mem, &s[i]), LTX_OK);
    }
    for (int at = 0; at < 60; at += 5)
        for (int i = 0; i < 2; i++) CHECK(feed(s[i], &t[i], at, at + 5, odd, 2));
    memset(scratch[1].ptr, 0x7f, scratch[1].size);
    ltx_mem moved = {scratch[1].ptr, scratch[1].size};
    CHECK_EQ(ltx_session_scratch(s[1], moved), LTX_OK);
    memset(scratch[0].ptr, 0xff, scratch[0].size); /* nothing in there outlives a call */
    for (int i = 0; i < 2; i++) CHECK(feed(s[i], &t[i], 60, N, odd, 7));
    for (int i = 0; i < 2; i++) {
        test_free(&state[i]); test_free(&cache[i]); test_free(&scratch[i]);
        free(t[i].row);
    }
}

/* What the blocks held before init does not matter. */
static void dirty_memory(const subject *sub)
{
    static const int fills[] = {0x00, 0xa5, 0xff, 0x7f};
    for (int kv = LTX_KV_F32; kv <= LTX_KV_I8; kv++) {
        ltx_session_desc d = plain_desc();
        d.kv = kv; d.window = 30; d.sinks = 2;
        trace t = trace_random(sub->m, d, 33);
        for (int i = 0; i < 4; i++) {
            kit_session k;
            CHECK_EQ(kit_try(sub->m, &d, fills[i], &k), LTX_OK);
            CHECK(feed(k.s, &t, 0, N, odd, 7));
            kit_close(&k);
        }
        free(t.row);
    }
}

/* ==== running =========================================================================================== */

static void on_random(void (*fn)(const subject *))
{
    kit_model *k = kit_make(&kit_small, 1);
    subject sub = {&k->m, 0};
    fn(&sub);
    kit_free(k);
}

static void on_shipped(void (*fn)(const subject *), int count)
{
    for (int i = 0; i < count; i++) {
        kit_file f;
        if (kit_load(kit_shipped[i], &f)) {
            subject sub = {&f.m, 1};
            fn(&sub);
        }
        kit_unload(&f);
    }
}

/* K formats beside others. */
static void on_wide(void (*fn)(const subject *))
{
    kit_model *k = kit_make(&kit_wide, 2);
    subject sub = {&k->m, 1};
    fn(&sub);
    kit_free(k);
}
/* Formats of sixteen rows together, with activations of one and two bytes. */
static void on_native(void (*fn)(const subject *))
{
    for (act_bits = 8; act_bits <= 16; act_bits += 8)
        for (int f = act_bits == 8 ? KIT_FORMATS : KIT_ALL - 2; f <= KIT_ALL; f++) {
            kit_shape sh = f < KIT_ALL ? kit_small : kit_wide;
            sh.format = f < KIT_ALL ? kit_formats[f] : KIT_MIXED_ALL;
            kit_model *k = kit_make(&sh, 3 + (uint64_t)f);
            subject sub = {&k->m, 1};
            fn(&sub);
            kit_free(k);
        }
    act_bits = 0;
}
static void every_isa_native(void) { on_native(every_isa); }
static void every_thread_count_native(void) { on_native(every_thread_count); }
static void every_split_native(void) { on_native(every_split); }
static void every_row_count_native(void) { on_native(every_row_count); }
static void every_row_of_a_batch_native(void) { on_native(every_row_of_a_batch); }
static void defer_is_exact_native(void) { on_native(defer_is_exact); }
static void speculation_deeper_native(void) { on_native(speculation_deeper); } /* shortlists: rows of a group are copied */

static void every_isa_wide(void) { on_wide(every_isa); }
static void every_split_wide(void) { on_wide(every_split); }
static void speculation_deeper_wide(void) { on_wide(speculation_deeper); }

#define BOTH(fn, shipped) \
    static void fn##_random(void) { on_random(fn); } \
    static void fn##_shipped(void) { on_shipped(fn, shipped); }
BOTH(every_isa, 1)
BOTH(every_thread_count, 1)
BOTH(every_split, 1)
BOTH(every_row_count, 1)
BOTH(every_row_of_a_batch, 1)
BOTH(full_plan_is_no_plan, 1)
BOTH(repacked, 1)
BOTH(rewind_and_replay, 1)
BOTH(exits, 1)
BOTH(defer_is_exact, 1)
BOTH(rewind_among_deferred, 1)
BOTH(rewind_always_deferred, 1)
BOTH(speculation, KIT_SHIPPED)
BOTH(speculation_on_plans, KIT_SHIPPED)
BOTH(speculation_deeper, KIT_SHIPPED)
BOTH(speculation_looked_up, KIT_SHIPPED)
BOTH(speculation_and_rewind, KIT_SHIPPED)
BOTH(shared_scratch, 1)
BOTH(dirty_memory, 1)

/* ==== golden hashes ===================================================================================== */

static uint64_t hash_floats(const float *x, int n, uint64_t h)
{
    for (int i = 0; i < n; i++) {
        unsigned char b[4];
        uint32_t u;
        memcpy(&u, &x[i], 4);
        kit_put32(b, u);
        h = test_hash(b, 4, h);
    }
    return h;
}

/* 64 greedy tokens after "Once upon a time" on the shipped byte model, keys and values in half precision; 0 if it is missing. */
static uint64_t golden_bytes(void)
{
    static const char text[] = "Once upon a time";
    kit_file f;
    int32_t tokens[32], n, t;
    uint64_t h = TEST_HASH_START;
    const float *logits;
    ltx_need need;
    ltx_session_desc d = plain_desc();
    if (!kit_load("stories-bytes-q8_0.gguf", &f)) return 0;
    CHECK_EQ(ltx_encode_need(sizeof text - 1, &need), LTX_OK);
    test_block work = test_alloc(need.size, need.align);
    ltx_mem mem = {work.ptr, work.size};
    CHECK_EQ(ltx_encode(f.vocab, text, sizeof text - 1, LTX_BOS, mem, tokens, 32, &n), LTX_OK);
    kit_session k = kit_open(&f.m, &d);
    CHECK_EQ(ltx_eval(k.s, tokens, n, &logits), LTX_OK);
    for (int i = 0; i < 64; i++) {
        h = hash_floats(logits, f.m.vocab, h);
        t = kit_best(logits, f.m.vocab);
        CHECK_EQ(ltx_eval(k.s, &t, 1, &logits), LTX_OK);
    }
    kit_close(&k);
    test_free(&work);
    kit_unload(&f);
    return h;
}

/* The logits of the first `count` tokens of a model in one batch, hashed on. */
static uint64_t hash_model(const kit_shape *sh, uint64_t seed, uint64_t token_seed, int count, int kv, uint64_t h)
{
    ltx_session_desc d = plain_desc();
    int32_t tokens[24];
    ltx_batch b = {.tokens = tokens, .count = count, .logits = count};
    ltx_output out;
    kit_model *k = kit_make(sh, seed);
    kit_tokens(tokens, count, sh->vocab, token_seed);
    d.kv = kv; d.logits_rows = count;
    kit_session s = kit_open(&k->m, &d);
    CHECK_EQ(ltx_eval_batch(s.s, &b, &out), LTX_OK);
    h = hash_floats(out.logits, count * sh->vocab, h);
    kit_close(&s);
    kit_free(k);
    return h;
}

/* Seeded models of each format and of all formats mixed, each kind of cache: no file needed. */
static uint64_t golden_synthetic(void)
{
    uint64_t h = TEST_HASH_START;
    for (int f = 0; f < 6; f++)
        for (int kv = LTX_KV_F32; kv <= LTX_KV_I8; kv++) {
            kit_shape sh = kit_small;
            sh.format = f < KIT_PLAIN ? kit_formats[f] : KIT_MIXED;
            sh.rope_pairs = kv == LTX_KV_F32 ? LTX_ROPE_HALVES : LTX_ROPE_INTERLEAVED;
            sh.act = f % 3;
            if (kv == LTX_KV_I8) sh.flags = KIT_UNTIED | KIT_FACTORS;
            h = hash_model(&sh, 100 + (uint64_t)f, 7, 24, kv, h);
        }
    return h;
}

/* Models in K formats, and one in which they meet others. */
static uint64_t golden_k(void)
{
    uint64_t h = TEST_HASH_START;
    for (int f = KIT_PLAIN; f <= KIT_FORMATS; f++) {
        kit_shape sh = kit_wide;
        sh.format = f < KIT_FORMATS ? kit_formats[f] : KIT_MIXED_K;
        h = hash_model(&sh, 120 + (uint64_t)f, 8, 12, plain_desc().kv, h);
    }
    return h;
}

/* What the encoders make of numbers of many sizes. */
static uint64_t golden_encoded(void)
{
    enum { COLS = 256, ROWS = 64 };
    uint64_t h = TEST_HASH_START;
    test_rng r = {130};
    float x[COLS];
    unsigned char out[COLS * 4];
    for (int row = 0; row < ROWS; row++) {
        for (int i = 0; i < COLS; i++) x[i] = (float)((test_gauss(&r) + row % 3) * ldexp(1.0, row % 24 - 16 + i / 32 % 3));
        for (int f = 0; f < KIT_FORMATS; f++) {
            CHECK_EQ(ltx_quantize(kit_formats[f], x, COLS, out), LTX_OK);
            h = test_hash(out, ltx_row_bytes(kit_formats[f], COLS), h);
        }
    }
    return h;
}

/* What the encoders make of numbers of many sizes in the formats of sixteen rows together, and the logits of models in each of them and in all
   there are, with activations of 8 and of 16 bits: exact integer sums, so every set and target has these. */
static uint64_t golden_native(void)
{
    enum { COLS = 96, ROWS = 40 };
    uint64_t h = TEST_HASH_START;
    test_rng r = {140};
    float x[ROWS * COLS];
    unsigned char *out = (unsigned char *)test_malloc(48 * (COLS * 2));
    for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)(test_gauss(&r) * ldexp(1.0, i / COLS % 40 - 24 + i / 32 % 3));
    for (int f = KIT_FORMATS; f < KIT_ALL; f++) {
        CHECK_EQ(ltx_mat_encode(kit_formats[f], x, ROWS, COLS, out), LTX_OK);
        h = test_hash(out, ltx_mat_bytes(kit_formats[f], ROWS, COLS), h);
    }
    free(out);
    for (act_bits = 8; act_bits <= 16; act_bits += 8)
        for (int f = KIT_FORMATS; f <= KIT_ALL; f++) {
            kit_shape sh = f < KIT_ALL ? kit_small : kit_wide;
            sh.format = f < KIT_ALL ? kit_formats[f] : KIT_MIXED_ALL;
            h = hash_model(&sh, 140 + (uint64_t)f, 9, 12, plain_desc().kv, h);
        }
    act_bits = 0;
    return h;
}

static void golden(void)
{
    uint64_t a = golden_bytes(), b = golden_synthetic(), c = golden_k(), e = golden_encoded(), n = golden_native();
    if (!CHECK(a == GOLDEN_BYTES)) printf("stories-bytes %016llx\n", (unsigned long long)a);
    if (!CHECK(b == GOLDEN_SYNTHETIC)) printf("synthetic %016llx\n", (unsigned long long)b);
    if (!CHECK(c == GOLDEN_K)) printf("k %016llx\n", (unsigned long long)c);
    if (!CHECK(e == GOLDEN_ENCODED)) printf("encoded %016llx\n", (unsigned long long)e);
    if (!CHECK(n == GOLDEN_NATIVE)) printf("native %016llx\n", (unsigned long long)n);
}

int main(int argc, char **argv)
{
    test_begin("test_bits");
    if (argc > 1 && strcmp(argv[1], "--hash") == 0) {
        printf("synthetic %016llx\n", (unsigned long long)golden_synthetic());
        printf("stories-bytes %016llx\n", (unsigned long long)golden_bytes());
        printf("k %016llx\n", (unsigned long long)golden_k());
        printf("encoded %016llx\n", (unsigned long long)golden_encoded());
        printf("native %016llx\n", (unsigned long long)golden_native());
        return test_now.failures ? 1 : 0;
    }
    TEST(golden);
    TEST(every_isa_random); TEST(every_isa_shipped); TEST(every_isa_wide);
    TEST(every_thread_count_random); TEST(every_thread_count_shipped);
    TEST(every_split_random); TEST(every_split_shipped); TEST(every_split_wide);
    TEST(every_row_count_random); TEST(every_row_count_shipped);
    TEST(every_row_of_a_batch_random); TEST(every_row_of_a_batch_shipped);
    TEST(full_plan_is_no_plan_random); TEST(full_plan_is_no_plan_shipped);
    TEST(repacked_random); TEST(repacked_shipped);
    TEST(rewind_and_replay_random); TEST(rewind_and_replay_shipped);
    TEST(exits_random); TEST(exits_shipped);
    TEST(defer_is_exact_random); TEST(defer_is_exact_shipped);
    TEST(rewind_among_deferred_random); TEST(rewind_among_deferred_shipped);
    TEST(rewind_always_deferred_random); TEST(rewind_always_deferred_shipped);
    TEST(speculation_random); TEST(speculation_shipped);
    TEST(speculation_on_plans_random); TEST(speculation_on_plans_shipped);
    TEST(speculation_deeper_random); TEST(speculation_deeper_shipped); TEST(speculation_deeper_wide);
    TEST(speculation_looked_up_random); TEST(speculation_looked_up_shipped);
    TEST(speculation_and_rewind_random); TEST(speculation_and_rewind_shipped);
    TEST(shared_scratch_random); TEST(shared_scratch_shipped);
    TEST(dirty_memory_random); TEST(dirty_memory_shipped);
    TEST(every_isa_native); TEST(every_thread_count_native); TEST(every_split_native); TEST(every_row_count_native); TEST(every_row_of_a_batch_native);
    TEST(defer_is_exact_native); TEST(speculation_deeper_native);
    return test_end();
}
