/* test_bad.c - wrong arguments, wrong models, NaN, callbacks that stop: the right result, and a session as it was before
   SPDX-License-Identifier: MIT

   cc -O2 -I. -Itests tests/test_bad.c -o test_bad -lm && ./test_bad */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

enum { N = 40, ROWS = 8 };

/* ==== the last event ==================================================================================== */

typedef struct seen_event {
    int count, index, code;
    char name[80];
    int64_t want, got;
} seen_event;

static seen_event seen;

static void note_event(void *user, const ltx_event *e)
{
    (void)user;
    seen.count++;
    seen.index = e->index; seen.code = e->code; seen.want = e->want; seen.got = e->got;
    snprintf(seen.name, sizeof seen.name, "%.*s", (int)e->name_len, e->name);
    CHECK(e->text != NULL && e->text[0] != 0);
}

/* One event of this name and result; then forgotten. */
static void expect_event(int code, const char *name, int index)
{
    if (!CHECK_EQ(seen.count, 1) || !CHECK(strcmp(seen.name, name) == 0)) printf("  event \"%s\", wanted \"%s\"\n", seen.name, name);
    CHECK_EQ(seen.code, code);
    CHECK_EQ(seen.index, index);
    memset(&seen, 0, sizeof seen);
}

static void expect_numbers(int64_t want, int64_t got)
{
    CHECK_EQ(seen.want, want);
    CHECK_EQ(seen.got, got);
}

/* ==== an undisturbed run ================================================================================ */

typedef struct run {
    const ltx_model *m;
    int32_t token[N];
    float *row; /* [N][vocab] logits after each token */
} run;

static ltx_session_desc base_desc(void)
{
    ltx_session_desc d;
    memset(&d, 0, sizeof d);
    d.ctx = N + 8; d.rows = ROWS; d.kv = LTX_KV_F32;
    d.log.fn = note_event;
    return d;
}

static run run_of(const ltx_model *m, const ltx_session_desc *d)
{
    run r;
    const float *logits;
    r.m = m;
    r.row = (float *)test_malloc((size_t)N * (size_t)m->vocab * sizeof *r.row);
    kit_tokens(r.token, N, m->vocab, 41);
    kit_session k = kit_open(m, d);
    for (int i = 0; i < N; i++) {
        if (!CHECK_EQ(ltx_eval(k.s, &r.token[i], 1, &logits), LTX_OK)) exit(1);
        memcpy(r.row + (size_t)i * (size_t)m->vocab, logits, (size_t)m->vocab * sizeof *logits);
    }
    kit_close(&k);
    return r;
}

/* Feed the tokens up to `to`; the logits have to be those of the undisturbed run. */
static void advance(ltx_session *s, const run *r, int to)
{
    const float *logits;
    int at = ltx_position(s);
    if (!CHECK_EQ(ltx_eval(s, r->token + at, to - at, &logits), LTX_OK)) return;
    CHECK(memcmp(logits, r->row + (size_t)(to - 1) * (size_t)r->m->vocab, (size_t)r->m->vocab * sizeof *logits) == 0);
}

/* ==== arguments ========================================================================================= */

static void bad_tokens(void)
{
    static const int32_t bad[] = {-1, 61, 62, INT32_MIN, INT32_MAX};
    kit_model *k = kit_make(&kit_small, 1);
    ltx_session_desc d = base_desc();
    run r = run_of(&k->m, &d);
    kit_session s = kit_open(&k->m, &d);
    ltx_sampler sampler = {1.0f, 0, 0, 0, 7};
    for (int i = 0; i < 5; i++)
        for (int at = 0; at < 20; at += 7) {
            int32_t tokens[20], n = 77;
            const float *logits = r.row;
            ltx_token out = {5, 5, 5};
            kit_tokens(tokens, 20, 61, 1);
            tokens[at] = bad[i];
            CHECK_EQ(ltx_eval(s.s, tokens, 20, &logits), LTX_E_ARG);
            expect_numbers(60, bad[i]);
            expect_event(LTX_E_ARG, "token", -1);
            CHECK_EQ(ltx_decode(s.s, &sampler, bad[i], &out, 1, &n), LTX_E_ARG);
            expect_event(LTX_E_ARG, "token", -1);
            CHECK(logits == r.row && n == 77 && out.id == 5 && sampler.state == 7);
            advance(s.s, &r, ltx_position(s.s) + 2);
        }
    kit_close(&s);
    free(r.row);
    kit_free(k);
}

static void bad_counts_and_nulls(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    ltx_session_desc d = base_desc();
    d.logits_rows = 3;
    run r = run_of(&k->m, &d);
    kit_session s = kit_open(&k->m, &d);
    const int32_t *t = r.token;
    const float *logits = r.row;
    float embeds[64] = {0};
    ltx_sampler sampler = {0, 0, 0, 0, 0};
    ltx_token out[2];
    int32_t n;
    ltx_output o = {.logits = r.row};
    const ltx_batch bad[] = {{.tokens = t, .count = 0}, {.tokens = t, .count = -1}, {.tokens = t, .count = INT32_MIN}, {.count = 1}, {.tokens = t, .embeds = embeds, .count = 1}, {.tokens = t, .count = 4, .logits = -1},
                             {.tokens = t, .count = 4, .logits = 4}, {.tokens = t, .count = 2, .logits = 3}, {.tokens = t, .count = ROWS + 1, .logits = 2}, {.embeds = embeds, .count = 1, .logits = 2}};
    advance(s.s, &r, 5);
    for (int i = 0; i < 10; i++) CHECK_EQ(ltx_eval_batch(s.s, &bad[i], &o), LTX_E_ARG);
    CHECK(o.logits == r.row);
    CHECK_EQ(ltx_eval_batch(s.s, NULL, &o), LTX_E_ARG);
    CHECK_EQ(ltx_eval_batch(NULL, &bad[0], &o), LTX_E_ARG);
    CHECK_EQ(ltx_eval(s.s, t, 0, &logits), LTX_E_ARG);
    CHECK_EQ(ltx_eval(s.s, t, -5, &logits), LTX_E_ARG);
    CHECK_EQ(ltx_eval(s.s, NULL, 5, &logits), LTX_E_ARG);
    CHECK_EQ(ltx_eval(NULL, t, 5, &logits), LTX_E_ARG);
    CHECK_EQ(ltx_sample(NULL, &sampler, logits, &n), LTX_E_ARG);
    CHECK_EQ(ltx_sample(s.s, NULL, logits, &n), LTX_E_ARG);
    CHECK_EQ(ltx_sample(s.s, &sampler, NULL, &n), LTX_E_ARG);
    CHECK_EQ(ltx_sample(s.s, &sampler, logits, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_decode(NULL, &sampler, 1, out, 2, &n), LTX_E_ARG);
    CHECK_EQ(ltx_decode(s.s, NULL, 1, out, 2, &n), LTX_E_ARG);
    CHECK_EQ(ltx_decode(s.s, &sampler, 1, NULL, 2, &n), LTX_E_ARG);
    CHECK_EQ(ltx_decode(s.s, &sampler, 1, out, 0, &n), LTX_E_ARG);
    CHECK_EQ(ltx_decode(s.s, &sampler, 1, out, -1, &n), LTX_E_ARG);
    CHECK_EQ(ltx_decode(s.s, &sampler, 1, out, 2, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_rewind(s.s, -1), LTX_E_ARG);
    CHECK_EQ(ltx_rewind(s.s, 6), LTX_E_ARG);
    CHECK_EQ(ltx_rewind(s.s, INT32_MAX), LTX_E_ARG);
    CHECK_EQ(ltx_rewind(NULL, 0), LTX_E_ARG);
    CHECK_EQ(ltx_flush(NULL), LTX_E_ARG);
    CHECK_EQ(ltx_set_plan(s.s, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_set_policy(s.s, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_set_draft(s.s, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_set_plan(NULL, &d.plan), LTX_E_ARG);
    CHECK_EQ(ltx_set_policy(NULL, &d.policy), LTX_E_ARG);
    CHECK_EQ(ltx_set_draft(NULL, &d.draft), LTX_E_ARG);
    CHECK_EQ(ltx_model_check(NULL, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_position(s.s), 5);
    advance(s.s, &r, 20);
    kit_close(&s);
    free(r.row);
    kit_free(k);
}

/* Past the cache, at every fill level, plain and with speculation. */
static void full_cache(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    ltx_session_desc d = base_desc();
    run r = run_of(&k->m, &d);
    for (int speculate = 0; speculate < 2; speculate++) {
        d.ctx = 20; d.draft_max = speculate ? 5 : 0;
        kit_session s = kit_open(&k->m, &d);
        ltx_draft draft = kit_draft(2, 5, 1e-9f, 0), off = kit_draft(0, 0, 0, 0);
        ltx_sampler sampler = {0, 0, 0, 0, 9};
        ltx_token out[8];
        const float *logits;
        int32_t n;
        for (int at = 1; at <= 20; at++) {
            advance(s.s, &r, at);
            memset(&seen, 0, sizeof seen);
            CHECK_EQ(ltx_eval(s.s, r.token + at, 21 - at, &logits), LTX_E_FULL);
            expect_numbers(20, 21);
            expect_event(LTX_E_FULL, "position", -1);
            CHECK_EQ(ltx_position(s.s), at);
            if (speculate) CHECK_EQ(ltx_set_draft(s.s, &draft), LTX_OK);
            CHECK_EQ(ltx_decode(s.s, &sampler, r.token[at], out, 8, &n), at < 20 ? LTX_OK : LTX_E_FULL);
            if (at < 20) CHECK(ltx_position(s.s) == at + n && ltx_position(s.s) <= 20);
            CHECK_EQ(ltx_rewind(s.s, at), LTX_OK);
            CHECK_EQ(ltx_set_draft(s.s, &off), LTX_OK);
        }
        kit_close(&s);
    }
    memset(&seen, 0, sizeof seen);
    free(r.row);
    kit_free(k);
}

/* ==== descriptors ======================================================================================= */

typedef struct bad_desc {
    const char *name;
    size_t at;
    int32_t value;
} bad_desc;

#define BAD(event, field, value) {event, offsetof(ltx_session_desc, field), value}

static void bad_descriptors(void)
{
    static const bad_desc bad[] = {
        BAD("guard", guard_head, 1), BAD("guard", guard_tail, -1), BAD("ctx", ctx, -1), BAD("ctx", ctx, LTX_MAX_TOKENS + 1), BAD("rows", rows, -1),
        BAD("rows", rows, 65537), BAD("logits_rows", logits_rows, -1), BAD("logits_rows", logits_rows, ROWS + 1), BAD("kv", kv, -1), BAD("kv", kv, 4),
        BAD("window", window, -1), BAD("window", window, LTX_MAX_TOKENS + 1), BAD("sinks", sinks, -1), BAD("sinks", sinks, 2), BAD("draft_max", draft_max, -1),
        BAD("draft_max", draft_max, ROWS), BAD("draft_max", draft_max, 100), BAD("act_bits", act_bits, -8), BAD("act_bits", act_bits, 1), BAD("act_bits", act_bits, 7),
        BAD("act_bits", act_bits, 12), BAD("act_bits", act_bits, 17), BAD("act_bits", act_bits, 24), BAD("act_bits", act_bits, 32), BAD("threads", threads, -1), BAD("threads", threads, 1025), BAD("isa", isa, -1),
        BAD("isa", isa, LTX_ISA_COUNT), BAD("plan.fill", plan.fill, -1), BAD("plan.fill", plan.fill, 3), BAD("policy", policy.rule, -1),
        BAD("policy", policy.rule, LTX_EXIT_ASK), BAD("policy", policy.rule, LTX_EXIT_CHANGE + 1), BAD("policy.rule", policy.rule, LTX_EXIT_PROBE), BAD("policy.yes", policy.yes, -1), BAD("policy.yes", policy.yes, -3), BAD("policy", policy.threshold, 0x7fc00000),
        BAD("draft.exit", draft.exit, -1), BAD("draft.exit", draft.exit, 5), BAD("draft.length", draft.exit, 2), BAD("draft.last", draft.last, 1)};
    kit_model *k = kit_make(&kit_small, 1);
    for (int i = 0; i < (int)(sizeof bad / sizeof bad[0]); i++) {
        ltx_session_desc d = base_desc();
        kit_session s;
        memcpy((unsigned char *)&d + bad[i].at, &bad[i].value, 4);
        memset(&seen, 0, sizeof seen);
        CHECK_EQ(kit_try(&k->m, &d, 0, &s), LTX_E_ARG);
        expect_event(LTX_E_ARG, bad[i].name, -1);
        kit_close(&s);
    }
    for (int i = 0; i < 4; i++) {
        const ltx_draft drafts[] = {kit_draft(2, 5, 0, 0), kit_draft(2, -1, 0, 0), kit_draft(2, 0, (float)NAN, 0), kit_draft(2, 0, 0, (float)NAN)};
        ltx_session_desc d = base_desc();
        kit_session s;
        d.draft_max = 4;
        d.draft = drafts[i];
        memset(&seen, 0, sizeof seen);
        CHECK_EQ(kit_try(&k->m, &d, 0, &s), LTX_E_ARG);
        CHECK_EQ(seen.count, 1);
        kit_close(&s);
    }
    for (int isa = 1; isa < LTX_ISA_COUNT; isa++) {
        ltx_session_desc d = base_desc();
        kit_session s;
        d.isa = isa;
        CHECK_EQ(kit_try(&k->m, &d, 0, &s), ltx_isa_mask() & 1u << isa ? LTX_OK : LTX_E_ABSENT);
        kit_close(&s);
    }
    memset(&seen, 0, sizeof seen);
    kit_free(k);
}

/* ==== plans ============================================================================================= */

static void bad_plans(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    ltx_session_desc d = base_desc();
    ltx_step ok[5], steps[5];
    int32_t n;
    run r = run_of(&k->m, &d);
    ltx_log log = d.log;
    CHECK_EQ(ltx_plan_full(&k->m, ok, 5, &n), LTX_OK);
    kit_session s = kit_open(&k->m, &d);
    for (int i = 0; i < 11; i++) {
        static const char *const names[] = {"plan.count", "plan.count", "plan.count", "plan.fill", "plan.fill", "step.layer", "step.layer", "step.run", "step.run",
                                            "step.cache", "step.cache"};
        ltx_plan p = {steps, 5, 0};
        int index = i < 5 ? -1 : 3;
        kit_session other;
        memcpy(steps, ok, sizeof steps);
        if (i < 3) p.count = i == 0 ? 0 : i == 1 ? -1 : LTX_MAX_STEPS + 1;
        if (i == 3 || i == 4) p.fill = i == 3 ? -1 : 3;
        if (i == 5 || i == 6) steps[3].layer = i == 5 ? -1 : 5;
        if (i == 7 || i == 8) steps[3].run = i == 7 ? 0 : 4;
        if (i == 9) steps[3].cache = -1;
        if (i == 10) steps[3].cache = 2; /* that of layer 1 */
        memset(&seen, 0, sizeof seen);
        CHECK_EQ(ltx_set_plan(s.s, &p), LTX_E_ARG);
        expect_event(LTX_E_ARG, names[i], index);
        d.plan = p;
        CHECK_EQ(kit_try(&k->m, &d, 0, &other), LTX_E_ARG);
        expect_event(LTX_E_ARG, names[i], index);
        kit_close(&other);
        advance(s.s, &r, 2 * i + 2);
    }
    memset(&d.plan, 0, sizeof d.plan);
    kit_close(&s);
    /* a cache that has no memory; a step whose layer lacks the branch */
    memcpy(steps, ok, sizeof steps);
    steps[1].run = LTX_FFN;
    d.plan.steps = steps; d.plan.count = 5;
    s = kit_open(&k->m, &d);
    ltx_plan full = {NULL, 0, 0};
    memset(&seen, 0, sizeof seen);
    CHECK_EQ(ltx_set_plan(s.s, &full), LTX_E_ARG);
    expect_event(LTX_E_ARG, "step.cache", 1);
    kit_close(&s);
    memset(&k->layers[2].wq, 0, 5 * sizeof(ltx_mat)); /* all of attention but its biases */
    memset(&k->layers[2].attn_norm, 0, sizeof(ltx_mat));
    memset(&k->layers[2].wk, 0, sizeof(ltx_mat)); memset(&k->layers[2].wv, 0, sizeof(ltx_mat)); memset(&k->layers[2].wo, 0, sizeof(ltx_mat));
    CHECK_EQ(ltx_model_check(&k->m, &log), LTX_OK);
    kit_session other;
    CHECK_EQ(kit_try(&k->m, &d, 0, &other), LTX_E_ARG);
    expect_event(LTX_E_ARG, "step.run", 2);
    kit_close(&other);
    free(r.row);
    kit_free(k);
}

static void bad_plan_helpers(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    ltx_step steps[8], before[8];
    int32_t n = 99;
    memset(before, 0, sizeof before);
    CHECK_EQ(ltx_plan_full(&k->m, steps, 4, &n), LTX_E_FULL);
    CHECK_EQ(n, 99);
    CHECK_EQ(ltx_plan_full(NULL, steps, 8, &n), LTX_E_ARG);
    CHECK_EQ(ltx_plan_full(&k->m, NULL, 8, &n), LTX_E_ARG);
    CHECK_EQ(ltx_plan_full(&k->m, steps, 8, NULL), LTX_E_ARG);
    memset(steps, 0, sizeof steps);
    CHECK_EQ(ltx_plan_full(&k->m, steps, 8, &n), LTX_OK);
    memcpy(before, steps, sizeof before);
    CHECK_EQ(ltx_plan_drop(steps, &n, 5, LTX_FFN), LTX_E_ARG);
    CHECK_EQ(ltx_plan_drop(steps, &n, -1, LTX_FFN), LTX_E_ARG);
    CHECK_EQ(ltx_plan_drop(steps, &n, 1, 0), LTX_E_ARG);
    CHECK_EQ(ltx_plan_drop(steps, &n, 1, 4), LTX_E_ARG);
    CHECK_EQ(ltx_plan_drop(NULL, &n, 1, 1), LTX_E_ARG);
    CHECK_EQ(ltx_plan_repeat(steps, 8, &n, -1, 1, 2), LTX_E_ARG);
    CHECK_EQ(ltx_plan_repeat(steps, 8, &n, 2, 1, 2), LTX_E_ARG);
    CHECK_EQ(ltx_plan_repeat(steps, 8, &n, 2, 5, 2), LTX_E_ARG);
    CHECK_EQ(ltx_plan_repeat(steps, 8, &n, 1, 2, 0), LTX_E_ARG);
    CHECK_EQ(ltx_plan_repeat(steps, 8, &n, 1, 2, 3), LTX_E_FULL);
    CHECK_EQ(ltx_plan_repeat(steps, 8, &n, 1, 2, INT32_MAX), LTX_E_FULL);
    CHECK_EQ(ltx_plan_gates(steps, 5, -1, 1), LTX_E_ARG);
    CHECK_EQ(ltx_plan_gates(steps, 5, 0, -1), LTX_E_ARG);
    CHECK_EQ(ltx_plan_gates(steps, 0, 0, 1), LTX_E_ARG);
    CHECK_EQ(ltx_plan_gates(NULL, 5, 0, 1), LTX_E_ARG);
    CHECK(n == 5 && memcmp(before, steps, sizeof steps) == 0);
    kit_free(k);
}

/* ==== models ============================================================================================ */

static void check_fails(const ltx_model *m, int code, const char *name, int index)
{
    ltx_log log = {note_event, NULL};
    ltx_session_desc d = base_desc();
    ltx_session_needs need;
    memset(&seen, 0, sizeof seen);
    CHECK_EQ(ltx_session_need(m, &d, &need), code);
    expect_event(code, name, index);
    CHECK_EQ(ltx_model_check(m, NULL), code); /* silent */
    CHECK_EQ(ltx_model_check(m, &log), code);
}

static const kit_shape all_fields = {64, 3, 4, 2, 24, 96, 61, LTX_F32, KIT_BIAS | KIT_QK_NORM | KIT_UNTIED | KIT_FACTORS, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};

/* What a wrong view does; `shape_name` is who complains about a wrong number of rows. */
static void bad_mat(const ltx_model *m, ltx_mat *w, const char *name, const char *shape_name, int index, int optional, int vector)
{
    ltx_mat good = *w;
    for (int step = -1; step <= 1; step += 2) {
        w->rows = good.rows + step;
        check_fails(m, LTX_E_MODEL, w->rows < 1 ? name : shape_name, index);
        if (shape_name == name) expect_numbers(good.rows, good.rows + step);
        w->rows = good.rows;
        w->cols = good.cols + step;
        check_fails(m, LTX_E_MODEL, name, index);
        expect_numbers(good.cols, good.cols + step);
        w->cols = good.cols;
    }
    w->rows = -good.rows;
    check_fails(m, LTX_E_MODEL, name, index);
    w->rows = good.rows; w->type = 7;
    check_fails(m, LTX_E_ABSENT, name, index);
    expect_numbers(LTX_F32, 7);
    w->type = -1;
    check_fails(m, LTX_E_ABSENT, name, index);
    w->type = LTX_F16;
    if (vector) { check_fails(m, LTX_E_MODEL, name, index); expect_numbers(LTX_F32, LTX_F16); }
    memset(w, 0, sizeof *w);
    if (!optional) check_fails(m, LTX_E_MODEL, name, index);
    else CHECK_EQ(ltx_model_check(m, NULL), LTX_OK);
    *w = good;
    memset(&seen, 0, sizeof seen);
    CHECK_EQ(ltx_model_check(m, NULL), LTX_OK);
}

static void bad_tensors(void)
{
    kit_model *k = kit_make(&all_fields, 1);
    for (int l = 0; l < 3; l++)
        for (int i = 0; i < 18; i++) {
            const char *name = kit_fields[i].name;
            int vector = strstr(name, "norm") != NULL || name[0] == 'b';
            int optional = (vector && strcmp(name, "attn_norm") && strcmp(name, "ffn_norm")) || strcmp(name, "w_gate") == 0;
            /* the rows of w_up are the ffn width: a wrong one shows at the next tensor that has it */
            bad_mat(&k->m, kit_field_of(&k->layers[l], i), name, strcmp(name, "w_up") ? name : "w_down", l, optional, vector);
        }
    bad_mat(&k->m, &k->m.embed, "embed", "embed", -1, 1, 0); /* there is a head */
    bad_mat(&k->m, &k->m.out_norm, "out_norm", "out_norm", -1, 0, 1);
    bad_mat(&k->m, &k->m.head, "head", "head", -1, 1, 0);
    bad_mat(&k->m, &k->m.rope_factors, "rope_factors", "rope_factors", -1, 1, 1);
    k->layers[1].wo.type = LTX_Q8_0; k->layers[1].wo.cols = 96; /* 4 heads of 24: three blocks, fine */
    CHECK_EQ(ltx_model_check(&k->m, NULL), LTX_OK);
    kit_free(k);
    kit_shape sh = all_fields;
    sh.ffn = 40;
    k = kit_make(&sh, 1);
    k->layers[2].w_down.type = LTX_Q4_0;
    check_fails(&k->m, LTX_E_MODEL, "w_down", 2);
    kit_free(k);
    k = kit_make(&kit_wide, 1);
    CHECK_EQ(ltx_model_check(&k->m, NULL), LTX_OK);
    for (int f = KIT_PLAIN; f < KIT_FORMATS; f++) {
        k->layers[1].wq.type = kit_formats[f];
        CHECK_EQ(ltx_model_check(&k->m, NULL), LTX_OK);
        k->layers[1].q_norm.data = k->layers[1].wq.data; /* a vector has to be F32, of head_dim 64: no super-block either way */
        k->layers[1].q_norm.type = kit_formats[f]; k->layers[1].q_norm.rows = 1; k->layers[1].q_norm.cols = 64;
        check_fails(&k->m, LTX_E_MODEL, "q_norm", 1);
        memset(&k->layers[1].q_norm, 0, sizeof k->layers[1].q_norm);
    }
    for (int f = KIT_FORMATS; f < KIT_ALL; f++) { /* at most 131072 columns where a row has one scale */
        int one_scale = kit_formats[f] == LTX_R8 || kit_formats[f] == LTX_R4;
        ltx_layer save = k->layers[1];
        k->layers[1].w_up.rows = k->layers[1].w_gate.rows = k->layers[1].w_down.cols = 131072;
        k->layers[1].w_down.type = kit_formats[f];
        CHECK_EQ(ltx_model_check(&k->m, NULL), LTX_OK);
        k->layers[1].w_up.rows = k->layers[1].w_gate.rows = k->layers[1].w_down.cols = 131072 + 32;
        if (!one_scale) CHECK_EQ(ltx_model_check(&k->m, NULL), LTX_OK);
        else {
            check_fails(&k->m, LTX_E_MODEL, "w_down", 1);
            expect_numbers(131072, 131072 + 32);
        }
        k->layers[1].w_up.rows = k->layers[1].w_gate.rows = k->layers[1].w_down.cols = 48;
        check_fails(&k->m, LTX_E_MODEL, "w_down", 1);
        expect_numbers(32, 48);
        k->layers[1] = save;
    }
    k->layers[1].wq.type = 10; /* Q2_K */
    check_fails(&k->m, LTX_E_ABSENT, "wq", 1);
    kit_free(k);
    sh = kit_wide;
    sh.ffn = 320; /* a multiple of 32 and of 64 */
    k = kit_make(&sh, 1);
    k->layers[2].w_down.type = LTX_Q4_K;
    check_fails(&k->m, LTX_E_MODEL, "w_down", 2);
    expect_numbers(256, 320);
    kit_free(k);
}

typedef struct bad_number {
    const char *name;
    size_t at;
    int32_t value;
} bad_number;

#define WRONG(name, field, value) {name, offsetof(ltx_model, field), value}

static void bad_dimensions(void)
{
    static const bad_number bad[] = {
        WRONG("dim", dim, 0), WRONG("dim", dim, -64), WRONG("dim", dim, LTX_MAX_DIM + 1), WRONG("n_layers", n_layers, 0), WRONG("n_layers", n_layers, 257),
        WRONG("n_heads", n_heads, 0), WRONG("n_heads", n_heads, -4), WRONG("n_heads", n_heads, 65537), WRONG("n_kv_heads", n_kv_heads, -1),
        WRONG("n_kv_heads", n_kv_heads, 5), WRONG("n_kv_heads", n_kv_heads, 3), WRONG("head_dim", head_dim, -2), WRONG("head_dim", head_dim, 1), WRONG("head_dim", head_dim, 514),
        WRONG("head_dim", head_dim, 25), WRONG("vocab", vocab, 0), WRONG("vocab", vocab, -1), WRONG("vocab", vocab, LTX_MAX_DIM + 1), WRONG("ctx", ctx, -1),
        WRONG("ctx", ctx, LTX_MAX_TOKENS + 1), WRONG("rope_pairs", rope_pairs, -1), WRONG("rope_pairs", rope_pairs, 3), WRONG("rope_dims", rope_dims, -2),
        WRONG("rope_dims", rope_dims, 26), WRONG("head_dim", rope_dims, 3), WRONG("act", act, -1), WRONG("act", act, 3)};
    static const float bad_float[] = {-1.0f, (float)INFINITY, -(float)INFINITY};
    static const size_t floats[] = {offsetof(ltx_model, norm_eps), offsetof(ltx_model, rope_theta), offsetof(ltx_model, rope_scale), offsetof(ltx_model, attn_scale)};
    kit_model *k = kit_make(&kit_small, 1);
    ltx_model m;
    for (int i = 0; i < (int)(sizeof bad / sizeof bad[0]); i++) {
        m = k->m;
        memcpy((unsigned char *)&m + bad[i].at, &bad[i].value, 4);
        check_fails(&m, LTX_E_MODEL, bad[i].name, -1);
    }
    for (int i = 0; i < 12; i++) {
        m = k->m;
        memcpy((unsigned char *)&m + floats[i / 3], &bad_float[i % 3], 4);
        check_fails(&m, LTX_E_MODEL, "norm_eps, rope_theta, rope_scale or attn_scale", -1);
    }
    m = k->m; /* angles have to stay where sine and cosine are exact for every position */
    m.rope_scale = 1.0f / 65536;
    check_fails(&m, LTX_E_MODEL, "rope_scale, rope_factors", -1); /* 64 positions would do, it has 128 */
    m.ctx = 64;
    CHECK_EQ(ltx_model_check(&m, NULL), LTX_OK);
    m.rope_scale = 1e-7f;
    check_fails(&m, LTX_E_MODEL, "rope_scale, rope_factors", -1);
    for (int i = 0; i < 5; i++) { /* shortlists of drafts: ascending tokens */
        unsigned char ids[12];
        for (int j = 0; j < 3; j++) kit_put32(ids + 4 * j, (uint32_t)(10 + j));
        if (i < 3) kit_put32(ids + 4, i == 0 ? 10 : i == 1 ? 61 : 0xffffffffu);
        m = k->m;
        m.draft_ids = i == 3 ? NULL : ids;
        m.n_draft_ids = i == 4 ? 62 : 3;
        check_fails(&m, LTX_E_MODEL, "draft_ids", i < 3 ? 1 : -1);
        m.n_draft_ids = -1;
        check_fails(&m, LTX_E_MODEL, "draft_ids", -1);
    }
    m = k->m;
    m.layers = NULL;
    check_fails(&m, LTX_E_MODEL, "layers", -1);
    m = k->m;
    memset(k->layers, 0, sizeof k->layers); /* no layer has anything to run */
    check_fails(&m, LTX_E_MODEL, "layers", 0);
    memset(&seen, 0, sizeof seen);
    kit_free(k);
}

/* ==== not a number ====================================================================================== */

/* Where a tensor's first element, or a scale of row 0, is a float or a half. */
static size_t nan_place(const ltx_mat *w)
{
    size_t n = (size_t)w->cols * 16;
    switch (w->type) {
    case LTX_Q6_K: return 208;
    case LTX_Q8_X: case LTX_R8: return n;
    case LTX_Q4_X: return n / 2;
    case LTX_R4: return n / 2 + n / 32;
    default: return 0;
    }
}

/* A NaN in each tensor but the rope factors comes out as LTX_E_NAN. Token 0 is used, so row 0 of the embedding is read. */
static void nan_weights(void)
{
    static const int32_t tokens[5] = {3, 0, 1, 2, 4};
    for (int f = 0; f < KIT_ALL; f++)
        for (int kv = LTX_KV_F32; kv <= LTX_KV_I8; kv++) {
            kit_shape sh = f < KIT_PLAIN ? all_fields : kit_wide;
            kit_tensor list[KIT_BLOCKS];
            sh.format = kit_formats[f]; sh.act = kv - 1;
            if (f >= KIT_PLAIN) sh.layers = 1, sh.ffn = 256;
            kit_model *k = kit_make(&sh, 2);
            int n = kit_list(k, list);
            for (int i = 0; i < n; i++) {
                ltx_session_desc d = base_desc();
                unsigned char *p = (unsigned char *)(uintptr_t)list[i].w.data + nan_place(&list[i].w), save[4];
                const float *logits = NULL;
                memcpy(save, p, 4);
                if (list[i].w.type == LTX_F32 || list[i].w.type == LTX_R8 || list[i].w.type == LTX_R4) kit_put32(p, 0x7fc00000u);
                else kit_put16(p, list[i].w.type == LTX_BF16 ? 0x7fc0u : 0x7e00u);
                d.kv = kv;
                if (strcmp(list[i].name, "rope_freqs.weight") == 0) { /* read and checked at the door */
                    check_fails(&k->m, LTX_E_MODEL, "rope_scale, rope_factors", -1);
                    memcpy(p, save, 4);
                    continue;
                }
                kit_session s = kit_open(&k->m, &d);
                if (!CHECK_EQ(ltx_eval(s.s, tokens, 5, &logits), LTX_E_NAN)) printf("  NaN in %s, format %s, cache %d\n", list[i].name, ltx_type_name(kit_formats[f]), kv);
                CHECK(logits == NULL && ltx_position(s.s) == 0);
                memcpy(p, save, 4); /* the session itself is unharmed */
                CHECK_EQ(ltx_eval(s.s, tokens, 5, &logits), LTX_OK);
                kit_close(&s);
            }
            kit_free(k);
        }
    memset(&seen, 0, sizeof seen);
}

/* Embeddings with a NaN or an infinity: an error where logits are wanted, and after a rewind no trace of it. */
static void nan_embeddings(void)
{
    static const float bad[] = {(float)NAN, (float)INFINITY, -(float)INFINITY};
    kit_model *k = kit_make(&kit_small, 1);
    for (int c = 0; c < 18; c++) {
        ltx_session_desc d = base_desc();
        float embeds[ROWS * 64];
        test_rng rng = {3};
        const float *logits;
        ltx_output o;
        ltx_batch b = {0};
        b.embeds = embeds; b.count = ROWS; b.logits = 1;
        d.kv = LTX_KV_F32 + c % 3; d.window = c >= 9 ? 16 : 0;
        run r = run_of(&k->m, &d);
        kit_session s = kit_open(&k->m, &d);
        for (int i = 0; i < ROWS * 64; i++) embeds[i] = (float)test_gauss(&rng);
        for (int row = 0; row < ROWS; row += 3) {
            float *e = &embeds[row * 64 + row * 7], save = *e;
            int at = row + 5;
            advance(s.s, &r, at);
            *e = bad[c / 3 % 3];
            CHECK_EQ(ltx_eval_batch(s.s, &b, &o), LTX_E_NAN);
            CHECK_EQ(ltx_position(s.s), at);
            advance(s.s, &r, at + 1);
            b.logits = 0; /* nobody looks: it gets into the cache and shows later */
            CHECK_EQ(ltx_eval_batch(s.s, &b, &o), LTX_OK);
            CHECK_EQ(ltx_eval(s.s, r.token, 1, &logits), LTX_E_NAN);
            CHECK_EQ(ltx_position(s.s), at + 1 + ROWS);
            /* with a window the call that failed has used up one token of the reach */
            CHECK_EQ(ltx_rewind(s.s, d.window ? 0 : at + 1), LTX_OK);
            advance(s.s, &r, at + 2);
            b.logits = 1;
            *e = save;
            CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
        }
        kit_close(&s);
        free(r.row);
    }
    memset(&seen, 0, sizeof seen);
    kit_free(k);
}

/* ==== callbacks that stop =============================================================================== */

typedef struct stopper {
    int calls, stop_at; /* says LTX_STOP at this call, 0 = never        */
    int edits;          /* the tap also changes the hidden vector       */
} stopper;

static int32_t stopping(void *user, const ltx_view *v)
{
    stopper *st = (stopper *)user;
    if (st->edits && v->before == NULL) v->hidden[(v->step + 1) % v->dim] += 0.25f; /* also when it stops */
    return ++st->calls == st->stop_at ? LTX_STOP : LTX_GO;
}

/* As a gate: leave after a step that depends on the position, so that rows of different depth wait. */
static int32_t stopping_gate(void *user, const ltx_view *v)
{
    if (stopping(user, v) == LTX_STOP) return LTX_STOP;
    return v->step == v->position % 5 ? LTX_LEAVE : LTX_GO;
}

enum { PRE = 6, CALL = 3, POST = 5 }; /* tokens before, in and after the call that is stopped */

typedef struct story {
    const ltx_model *m;
    ltx_session_desc d;
    stopper st;
    int speculate, flush;
    int32_t token[PRE + CALL + POST];
} story;

/* The call under test. */
static ltx_result story_call(story *y, ltx_session *s, uint64_t *hash)
{
    const float *logits = NULL;
    ltx_sampler sampler = {0.9f, 0, 0, 0, 11};
    ltx_token out[8];
    int32_t n;
    ltx_result r;
    y->st.calls = 0;
    if (y->speculate) {
        memset(out, 0, sizeof out);
        r = ltx_decode(s, &sampler, y->token[PRE], out, 8, &n);
        if (r == LTX_OK) *hash = test_hash(out, sizeof(ltx_token) * (size_t)n, *hash);
        else CHECK_EQ(sampler.state, 11);
        return r;
    }
    r = y->flush ? ltx_flush(s) : ltx_eval(s, y->token + PRE, CALL, &logits);
    if (r == LTX_OK && logits) *hash = test_hash(logits, (size_t)y->m->vocab * sizeof *logits, *hash);
    return r;
}

/* Prompt one by one (so that rows wait), the call stopped at call number `stop` (0 = not), the call again, more tokens. Returns a
   hash of everything that came out; *calls = callbacks of the last undisturbed call. */
static uint64_t story_told(story *y, int stop, int *calls)
{
    uint64_t hash = TEST_HASH_START;
    const float *logits;
    y->st.stop_at = 0;
    y->d.policy.user = &y->st;
    kit_session k = kit_open(y->m, &y->d);
    for (int i = 0; i < PRE; i++) CHECK_EQ(ltx_eval(k.s, &y->token[i], 1, &logits), LTX_OK);
    y->st.stop_at = stop;
    if (stop) {
        CHECK_EQ(story_call(y, k.s, &hash), LTX_E_STOPPED);
        CHECK_EQ(ltx_position(k.s), PRE);
    }
    y->st.stop_at = 0;
    CHECK_EQ(story_call(y, k.s, &hash), LTX_OK);
    *calls = y->st.calls;
    for (int i = 0; i < POST; i++) {
        if (!CHECK_EQ(ltx_eval(k.s, &y->token[PRE + CALL + i], 1, &logits), LTX_OK)) break;
        hash = test_hash(logits, (size_t)y->m->vocab * sizeof *logits, hash);
    }
    kit_close(&k);
    return hash;
}

static void stop_everywhere(story *y)
{
    int calls, again;
    uint64_t want = story_told(y, 0, &calls);
    CHECK(calls > 0);
    for (int stop = 1; stop <= calls; stop++)
        if (!CHECK(story_told(y, stop, &again) == want)) {
            printf("  fill %d, gates %d, speculation %d, flush %d, editing %d: stopped at call %d of %d\n", (int)y->d.plan.fill, y->d.policy.gate != NULL,
                   y->speculate, y->flush, y->st.edits, stop, calls);
            return;
        }
}

static void stops(int edits)
{
    kit_model *k = kit_make(&kit_small, 1);
    ltx_step steps[8];
    for (int c = 0; c < 12; c++) {
        story y;
        memset(&y, 0, sizeof y);
        y.m = &k->m; y.d = base_desc(); y.st.edits = edits;
        kit_tokens(y.token, PRE + CALL + POST, k->m.vocab, 43);
        ltx_plan_full(&k->m, steps, 8, &y.d.plan.count);
        ltx_plan_gates(steps, y.d.plan.count, 0, 1);
        y.d.plan.steps = steps;
        y.d.plan.fill = c % 3;
        y.d.rows = c == 11 ? 6 : ROWS; /* waiting rows fill it: the call has to flush first */
        y.d.policy.tap = c / 3 == 1 ? NULL : stopping;
        if (c / 3 >= 1) { y.d.policy.rule = LTX_EXIT_ASK; y.d.policy.gate = stopping_gate; }
        if (c / 3 == 3) {
            if (c % 3 == 0) { y.speculate = 1; y.d.draft_max = 4; y.d.draft.exit = 2; y.d.draft.stop = 1e-9f; }
            if (c % 3 == 1) y.flush = 1;
            y.d.plan.fill = LTX_FILL_DEFER;
        }
        stop_everywhere(&y);
    }
    kit_free(k);
}

static void stopping_taps_and_gates(void) { stops(0); }
static void stopping_taps_that_edit(void) { stops(1); }

/* ==== windows, host ===================================================================================== */

static void rewinding_a_window(void)
{
    kit_model *k = kit_make(&kit_small, 1);
    ltx_session_desc d = base_desc();
    d.window = 10; d.sinks = 2;
    run r = run_of(&k->m, &d);
    kit_session s = kit_open(&k->m, &d);
    advance(s.s, &r, 30);
    for (int to = 1; to < 30 - ROWS; to++) CHECK_EQ(ltx_rewind(s.s, to), LTX_E_ARG);
    CHECK_EQ(ltx_position(s.s), 30);
    CHECK_EQ(ltx_rewind(s.s, 30 - ROWS), LTX_OK);
    CHECK_EQ(ltx_rewind(s.s, 30 - ROWS - 1), LTX_E_ARG); /* counted from the highest position, not from here */
    advance(s.s, &r, 25);
    CHECK_EQ(ltx_rewind(s.s, 21), LTX_E_ARG);
    CHECK_EQ(ltx_rewind(s.s, 22), LTX_OK);
    advance(s.s, &r, N);
    CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
    advance(s.s, &r, N);
    kit_close(&s);
    free(r.row);
    kit_free(k);
}

static void flushing_host(void)
{
#if defined(__SSE2__)
    kit_model *k = kit_make(&kit_small, 1);
    ltx_session_desc d = base_desc();
    kit_session s;
    static const unsigned bits[] = {0x8000u, 0x8040u};
    for (int i = 0; i < 2; i++) {
        unsigned before = _mm_getcsr();
        memset(&seen, 0, sizeof seen);
        _mm_setcsr(before | bits[i]);
        ltx_result r = kit_try(&k->m, &d, 0, &s);
        _mm_setcsr(before);
        CHECK_EQ(r, LTX_E_HOST);
        expect_event(LTX_E_HOST, "host", -1);
        kit_close(&s);
    }
    CHECK_EQ(kit_try(&k->m, &d, 0, &s), LTX_OK);
    kit_close(&s);
    kit_free(k);
#else
    SKIP("no SSE here");
#endif
}

int main(void)
{
    test_begin("test_bad");
    TEST(bad_tokens);
    TEST(bad_counts_and_nulls);
    TEST(full_cache);
    TEST(bad_descriptors);
    TEST(bad_plans);
    TEST(bad_plan_helpers);
    TEST(bad_tensors);
    TEST(bad_dimensions);
    TEST(nan_weights);
    TEST(nan_embeddings);
    TEST(stopping_taps_and_gates);
    TEST(stopping_taps_that_edit);
    TEST(rewinding_a_window);
    TEST(flushing_host);
    return test_end();
}
