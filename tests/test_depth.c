/* test_depth.c - what one does with depth: look into it, contrast, steer, patch, draft, skip, leave; alone and together
   SPDX-License-Identifier: MIT

   For each technique: switched off it is plain execution bit for bit, switched on it equals something made in another way, and its
   counters are what the test itself adds up. (All plans and rules beside the reference: test_model.c. Fixed exits and drafts
   counted, sampled drafts: test_sampling.c. Drafts of plain plans, instruction sets, pools: test_bits.c.)

   cc -O2 -I. -Itests tests/test_depth.c -o test_depth -lm && ./test_depth */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"
#include "ref.h"

/* ==== models, plans, runs =============================================================================== */

enum { L = 5, DIM = 64, VOCAB = 61, N = 24, MAX_STEPS = 16 };

static const kit_shape floats = {DIM, L, 4, 2, 24, 96, VOCAB, LTX_F32, KIT_BIAS | KIT_QK_NORM, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};

/* A random model with routers, probes and two adapters; the second one adds to every other matrix. */
static kit_model *new_model(const kit_shape *sh, uint64_t seed, ltx_adapter *two)
{
    kit_model *k = kit_make(sh, seed);
    test_rng r = {seed + 1};
    kit_add_routers(k, sh, seed + 2);
    memset(two, 0, 2 * sizeof *two);
    for (int i = 0; i < 2; i++) {
        const ltx_layer *l = &k->layers[1];
        const ltx_mat *w[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->w_gate, &l->w_up, &l->w_down};
        ltx_lora *to[] = {&two[i].q, &two[i].k, &two[i].v, &two[i].o, &two[i].gate, &two[i].up, &two[i].down};
        for (int j = 0; j < 7; j += 1 + i) {
            to[j]->a = kit_mat(k, kit_type(sh, i, j), 8, w[j]->cols, 0, &r);
            to[j]->b = kit_mat(k, LTX_F16, w[j]->rows, 8, 0, &r);
        }
    }
    two[1].scale = -0.5f;
    k->m.adapters = two; k->m.n_adapters = 2;
    return k;
}

static const unsigned char sure[4] = {0, 0, 0x48, 0x43}; /* 200: as a router's bias it makes 1 / (1 + exp(-200)) = 1 */

/* Plans of all kinds; those from ROUTED on turn rows away. */
enum { FULL, NO_ATTENTION, NO_FFN, NO_LAYER, HALVES, REPEATED, ADAPTED, BESIDE, ONE_INPUT, MACARON, SCALED, ROUTED, WEIGHED, RENUMBERED, PROMPTS_ROUTED, KINDS };
static const char *const kind_names[KINDS] = {"full", "attention dropped", "ffn dropped", "layers dropped", "halves", "repeated", "adapted", "beside", "one input",
                                              "macaron", "scaled", "routed", "weighed", "renumbered", "prompts routed"};

static ltx_plan make_plan(const ltx_model *m, int kind, ltx_step *steps)
{
    static const int run[] = {0, LTX_WEIGH, LTX_RENUMBER, LTX_WEIGH | LTX_RENUMBER | LTX_PROMPT};
    enum { BOTH = LTX_ATTN | LTX_FFN };
    ltx_plan p = {steps, 0, LTX_FILL_PROJECT};
    ltx_result r = ltx_plan_full(m, steps, MAX_STEPS, &p.count);
    if (kind == NO_ATTENTION) r |= ltx_plan_drop(steps, &p.count, 1, LTX_ATTN) | ltx_plan_drop(steps, &p.count, 3, LTX_ATTN);
    if (kind == NO_FFN) r |= ltx_plan_drop(steps, &p.count, 2, LTX_FFN);
    if (kind == NO_LAYER) r |= ltx_plan_drop(steps, &p.count, 1, BOTH) | ltx_plan_drop(steps, &p.count, 2, LTX_ATTN);
    if (kind == HALVES || kind == ONE_INPUT) r |= ltx_plan_split(steps, MAX_STEPS, &p.count);
    if (kind == REPEATED) r |= ltx_plan_repeat(steps, MAX_STEPS, &p.count, 1, 2, 2);
    if (kind == ADAPTED) { r |= ltx_plan_repeat(steps, MAX_STEPS, &p.count, 1, 1, 3); steps[2].adapter = 1; steps[3].adapter = 2; }
    if (kind == BESIDE) r |= ltx_plan_beside(steps, p.count, 1, 3);
    for (int i = 0; kind == ONE_INPUT && i < p.count; i += 2) r |= ltx_plan_beside(steps, p.count, i, i + 1); /* attention and ffn of a layer */
    if (kind == MACARON) p.count = 3 * L;
    for (int i = p.count - 1; kind == MACARON && i >= 0; i--) { /* half an ffn, attention, half an ffn */
        steps[i] = steps[i / 3];
        steps[i].run = i % 3 == 1 ? LTX_ATTN : LTX_FFN;
        steps[i].ffn_scale = 0.5f;
    }
    for (int i = 0; kind == SCALED && i < p.count; i++) { steps[i].attn_scale = i % 2 ? 0.5f : -0.25f; steps[i].ffn_scale = i % 3 ? 1.5f : 0.125f; }
    for (int i = 1; kind >= ROUTED && i < p.count; i++) { steps[i].route = 0.5f; steps[i].run = (uint8_t)(steps[i].run | run[kind - ROUTED]); }
    CHECK_EQ(r, LTX_OK);
    return p;
}

static ltx_session_desc plain_desc(void)
{
    ltx_session_desc d;
    memset(&d, 0, sizeof d);
    d.ctx = 80; d.rows = d.logits_rows = 32; d.kv = LTX_KV_F32;
    return d;
}

static ltx_session_desc plan_desc(const ltx_model *m, int kind, ltx_step *steps)
{
    ltx_session_desc d = plain_desc();
    d.plan = make_plan(m, kind, steps);
    return d;
}

/* Logits of all rows of a text. */
typedef struct trace {
    float row[N][VOCAB];
    int32_t depth[N];
    ltx_stats st;
} trace;

/* N rows from tokens or, if they are NULL, from `embeds`, in pieces. */
static trace run_rows(const ltx_model *m, const ltx_session_desc *d, const int32_t *tokens, const float *embeds, int piece)
{
    trace t;
    kit_session k = kit_open(m, d);
    memset(&t, 0, sizeof t);
    for (int at = 0; at < N; at += piece) {
        int n = N - at < piece ? N - at : piece;
        ltx_batch b = {.tokens = tokens ? tokens + at : NULL, .embeds = tokens ? NULL : embeds + at * DIM, .count = n, .logits = n};
        ltx_output out;
        if (!CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_OK)) break;
        memcpy(t.row[at], out.logits, (size_t)n * sizeof t.row[0]);
        memcpy(&t.depth[at], out.depth, (size_t)n * sizeof t.depth[0]);
    }
    ltx_session_stats(k.s, &t.st);
    kit_close(&k);
    return t;
}

static trace run(const ltx_model *m, const ltx_session_desc *d, const int32_t *tokens, int piece)
{
    return run_rows(m, d, tokens, NULL, piece);
}

static int same(const trace *a, const trace *b)
{
    return memcmp(a->row, b->row, sizeof a->row) == 0;
}

/* Row by row and in pieces it gives these rows; if not, says where. */
static void check_same(const ltx_model *m, const ltx_session_desc *d, const int32_t *tokens, const trace *want, const char *what, int which)
{
    for (int piece = 1; piece < N; piece += 6) {
        trace t = run(m, d, tokens, piece);
        if (!CHECK(same(&t, want))) printf("  %s %d, pieces of %d\n", what, which, piece);
    }
}

/* Rows of logits beside those of the reference; about 100 float roundings lie between. */
static void near_ref(const ref_model *m, const ltx_plan *plan, const ltx_policy *policy, const int32_t *tokens, float (*row)[VOCAB])
{
    ref_options opt = {1, LTX_KV_F32, 0, 0};
    ref_state *s = ref_open(m, &opt);
    for (int p = 0; p < N; p++) {
        double want[VOCAB];
        ref_input in = {tokens[p], NULL, 1};
        ref_outcome out;
        ref_row_run(s, plan, policy, &in, want, &out);
        for (int i = 0; i < VOCAB; i++) CHECK_NEAR((double)row[p][i], want[i], 3e-5 * fmax(1.0, fabs(want[i])));
    }
    ref_close(s);
}

/* ==== a lens: logits after each step ===================================================================== */

typedef struct lens {
    float row[MAX_STEPS][N][VOCAB]; /* by step and position */
    uint64_t seen;
} lens;

static int32_t look(void *user, const ltx_view *v)
{
    lens *l = (lens *)user;
    memcpy(l->row[v->step][v->position], v->logits, sizeof l->row[0][0]);
    l->seen++;
    return LTX_GO;
}

/* What one sees after a step are the logits of a plan that ends there; looking changes nothing and costs a head a row. */
static void lens_of(const ltx_model *m, int kind, const int32_t *tokens, const ref_model *ref)
{
    static lens l;
    ltx_step steps[MAX_STEPS];
    ltx_session_desc d = plan_desc(m, kind, steps), cut = plain_desc();
    d.plan.fill = kind % 3;
    CHECK_EQ(ltx_plan_gates(steps, d.plan.count, 0, 1), LTX_OK);
    for (int piece = 1; piece <= N; piece += N - 1) {
        ltx_policy none = plain_desc().policy, lensed = {.rule = LTX_EXIT_ASK, .gate = look, .want_logits = 1, .user = &l};
        uint64_t calls = (uint64_t)(N / piece), looks = (uint64_t)(d.plan.count - 1);
        memset(&l, 0, sizeof l);
        d.policy = none;
        trace plain = run(m, &d, tokens, piece);
        d.policy = lensed;
        trace seen = run(m, &d, tokens, piece);
        CHECK(same(&seen, &plain));
        CHECK_EQ(l.seen, N * looks);
        CHECK_EQ(plain.st.head_rows, N);
        plain.st.head_rows += N * looks;
        plain.st.weight_bytes += calls * looks * kit_mat_bytes(&m->embed);
        CHECK(memcmp(&seen.st, &plain.st, sizeof seen.st) == 0);
    }
    cut.plan = d.plan;
    for (cut.plan.count = 1; cut.plan.count < d.plan.count; cut.plan.count++) {
        float (*row)[VOCAB] = l.row[cut.plan.count - 1];
        trace t = run(m, &cut, tokens, 7);
        if (!CHECK(memcmp(row, t.row, sizeof t.row) == 0)) printf("  %s, after %d steps\n", kind_names[kind], cut.plan.count);
        if (ref) near_ref(ref, &cut.plan, NULL, tokens, row);
    }
}

static void logit_lens(void)
{
    ltx_adapter two[2];
    int32_t tokens[N];
    kit_model *k = new_model(&kit_small, 1, two), *f = new_model(&floats, 2, two);
    ref_model ref;
    kit_tokens(tokens, N, VOCAB, 1);
    ref_model_load(&f->m, &ref);
    lens_of(&f->m, HALVES, tokens, &ref);
    lens_of(&f->m, BESIDE, tokens, &ref);
    ref_model_free(&ref);
    kit_free(k);
    k = new_model(&kit_small, 1, two);
    for (int kind = 0; kind < ROUTED; kind++) lens_of(&k->m, kind, tokens, NULL);
    kit_free(k);
    kit_free(f);
}

/* ==== contrast and guidance: two depths of one pass ======================================================= */

/* How a user does it: a gate keeps the logits of a middle step, and what is chosen from is deep + w (deep - shallow), that is
   shallow + (1 + w) (deep - shallow). */
typedef struct contrast {
    float w, shallow[VOCAB];
} contrast;

static int32_t keep(void *user, const ltx_view *v)
{
    memcpy(((contrast *)user)->shallow, v->logits, (size_t)v->vocab * sizeof *v->logits);
    return LTX_GO;
}

static void combine(const contrast *c, const float *deep, float *out)
{
    for (int i = 0; i < VOCAB; i++) out[i] = deep[i] + c->w * (deep[i] - c->shallow[i]);
}

/* A text chosen so, beside a session that ends after `depth` steps and one that has them all. */
static void contrast_text(const ltx_model *m, int depth, float w, int32_t *text)
{
    ltx_step steps[MAX_STEPS];
    ltx_session_desc d = plan_desc(m, FULL, steps), cut = d, full = d;
    ltx_sampler greedy = {0.0f, 0, 0.0f, 0.0f, 0};
    ltx_stats st;
    contrast c = {w, {0}};
    steps[depth - 1].gate = 1;
    d.policy.rule = LTX_EXIT_ASK; d.policy.gate = keep; d.policy.want_logits = 1; d.policy.user = &c;
    cut.plan.count = depth;
    kit_session one = kit_open(m, &d), shallow = kit_open(m, &cut), deep = kit_open(m, &full);
    text[0] = 7;
    for (int i = 0; i + 1 < N; i++) {
        const float *logits, *a, *b;
        float out[VOCAB];
        CHECK_EQ(ltx_eval(one.s, &text[i], 1, &logits), LTX_OK);
        combine(&c, logits, out);
        CHECK_EQ(ltx_eval(shallow.s, &text[i], 1, &a), LTX_OK);
        CHECK_EQ(ltx_eval(deep.s, &text[i], 1, &b), LTX_OK);
        if (w == 0.0f) CHECK(memcmp(out, b, sizeof out) == 0);
        for (int j = 0; j < VOCAB; j++) {
            double x = (double)a[j], y = (double)b[j];
            CHECK_NEAR((double)out[j], y + (double)w * (y - x), 1e-6 * (1.0 + fabs((double)w)) * (fabs(x) + fabs(y)));
        }
        CHECK_EQ(ltx_sample(one.s, &greedy, out, &text[i + 1]), LTX_OK);
    }
    ltx_session_stats(one.s, &st);
    CHECK_EQ(st.head_rows, 2 * (N - 1));
    CHECK_EQ(st.exits + st.skipped, 0);
    kit_close(&one);
    kit_close(&shallow);
    kit_close(&deep);
}

static void contrast_and_guidance(void)
{
    static const float weights[] = {0.0f, 0.4f, -0.5f, 3.0f};
    ltx_adapter two[2];
    kit_model *k = new_model(&kit_small, 1, two);
    for (int depth = 1; depth < L; depth++) {
        int32_t plain[N], text[N];
        int differ = 0;
        ltx_session_desc d = plain_desc();
        kit_session s = kit_open(&k->m, &d);
        plain[0] = 7;
        kit_go_on(s.s, plain, 1, N, 1);
        kit_close(&s);
        for (int i = 0; i < 4; i++) {
            contrast_text(&k->m, depth, weights[i], text);
            if (i == 0) CHECK(memcmp(text, plain, sizeof text) == 0);
            differ += memcmp(text, plain, sizeof text) != 0;
        }
        CHECK(differ > 0);
    }
    kit_free(k);
}

/* ==== taps: steer, inject, patch ========================================================================== */

/* Sees the hidden vectors and changes some of them. */
typedef struct editor {
    float seen[MAX_STEPS + 1][N][DIM]; /* as they came: [0] embeddings, [i + 1] after step i        */
    int after;                /* step after which rows are changed, -1 = embeddings, -2 = never    */
    uint32_t rows;            /* bit p = the row at position p                                     */
    int replace;              /* 1 = `with` takes the place of the hidden vector, 0 = is added     */
    const float *with;        /* [N][DIM]                                                          */
} editor;

static void edit(const editor *e, int position, float *h)
{
    if (!(e->rows >> position & 1u)) return;
    for (int i = 0; i < DIM; i++) h[i] = e->replace ? e->with[position * DIM + i] : h[i] + e->with[position * DIM + i];
}

static int32_t edit_or_not(void *user, const ltx_view *v)
{
    editor *e = (editor *)user;
    memcpy(e->seen[v->step + 1][v->position], v->hidden, sizeof e->seen[0][0]);
    if (v->step == e->after) edit(e, v->position, v->hidden);
    return LTX_GO;
}

static trace edited(const ltx_model *m, int kind, const int32_t *tokens, editor *e, int piece)
{
    ltx_step steps[MAX_STEPS];
    ltx_session_desc d = plan_desc(m, kind, steps);
    d.policy.tap = edit_or_not; d.policy.user = e;
    return run(m, &d, tokens, piece);
}

static trace recorded(const ltx_model *m, int kind, const int32_t *tokens, editor *e)
{
    e->after = -2;
    return edited(m, kind, tokens, e, 5);
}

/* The other way: an undisturbed run recorded after that step, changed by hand, and the rest of the plan as a model of its own that
   starts from these vectors. Returns the rows of the edited run. */
static trace check_edit(const ltx_model *m, int kind, const int32_t *tokens, const editor *plain, const editor *change)
{
    static editor e;
    float embeds[N][DIM];
    ltx_step steps[MAX_STEPS];
    ltx_session_desc d = plan_desc(m, kind, steps);
    e = *change;
    trace t = edited(m, kind, tokens, &e, 1), pieces = edited(m, kind, tokens, &e, 9), none = run(m, &d, tokens, 9);
    CHECK(same(&t, &pieces));
    CHECK(memcmp(&pieces.st, &none.st, sizeof none.st) == 0); /* a tap costs nothing that is counted */
    memcpy(embeds, plain->seen[e.after + 1], sizeof embeds);
    for (int p = 0; p < N; p++) edit(&e, p, embeds[p]);
    d.plan.steps += e.after + 1;
    d.plan.count -= e.after + 1;
    trace tail = run_rows(m, &d, NULL, embeds[0], 4);
    if (!CHECK(same(&t, &tail))) printf("  %s, after step %d, rows %x\n", kind_names[kind], e.after, (unsigned)e.rows);
    return t;
}

static const uint32_t some_rows[] = {0xffffffu, 0xffffe0u, 0x249249u, 1u, 0x800000u, 0x000f00u};
enum { ROW_SETS = sizeof some_rows / sizeof some_rows[0] };

/* A vector is added after a layer. */
static void steering(void)
{
    static const float zero[N * DIM];
    static editor plain, e;
    static float push[N][DIM];
    ltx_adapter two[2];
    int32_t tokens[N];
    ltx_step steps[MAX_STEPS];
    kit_model *k = new_model(&kit_small, 1, two), *f = new_model(&floats, 2, two);
    ref_model ref;
    test_rng r = {5};
    for (int i = 0; i < DIM; i++) push[0][i] = 0.5f * (float)test_gauss(&r);
    for (int p = 1; p < N; p++) memcpy(push[p], push[0], sizeof push[0]);
    kit_tokens(tokens, N, VOCAB, 2);
    ref_model_load(&f->m, &ref);
    for (int kind = FULL; kind <= REPEATED; kind++) {
        trace none = recorded(&k->m, kind, tokens, &plain);
        int count = make_plan(&k->m, kind, steps).count;
        for (int after = -1; after < count - 1; after++)
            for (int i = kind ? after + 1 : 0; i < (kind ? after + 2 : ROW_SETS); i++) { /* kind FULL: all combinations */
                e.after = after; e.rows = some_rows[i % ROW_SETS]; e.replace = 0; e.with = push[0];
                trace t = check_edit(&k->m, kind, tokens, &plain, &e);
                CHECK(!same(&t, &none));
                e.with = zero;
                t = check_edit(&k->m, kind, tokens, &plain, &e);
                CHECK(same(&t, &none));
            }
    }
    for (int after = -1; after < L; after++) {
        ltx_policy p = plain_desc().policy;
        ltx_plan plan = make_plan(&f->m, FULL, steps);
        p.tap = edit_or_not; p.user = &e;
        e.after = after; e.rows = some_rows[after + 1]; e.with = push[0];
        trace t = edited(&f->m, FULL, tokens, &e, 5);
        near_ref(&ref, &plan, &p, tokens, t.row);
    }
    ref_model_free(&ref);
    kit_free(k);
    kit_free(f);
}

/* The hidden vector of a position becomes that of another text, after the same layer. */
static void injection(void)
{
    static editor from, plain, e;
    ltx_adapter two[2];
    int32_t tokens[N], others[N];
    ltx_step steps[MAX_STEPS];
    kit_model *k = new_model(&kit_small, 1, two), *f = new_model(&floats, 2, two);
    ref_model ref;
    kit_tokens(tokens, N, VOCAB, 3);
    kit_tokens(others, N, VOCAB, 4);
    trace other = recorded(&k->m, FULL, others, &from), none = recorded(&k->m, FULL, tokens, &plain);
    e.replace = 1;
    for (e.after = -1; e.after < L - 1; e.after++)
        for (int i = 0; i < ROW_SETS; i++) {
            e.rows = some_rows[i]; e.with = from.seen[e.after + 1][0];
            trace t = check_edit(&k->m, FULL, tokens, &plain, &e);
            CHECK(!same(&t, &none));
            if (i == 0) CHECK(same(&t, &other)); /* all rows: from here on it is the other text */
            if (i == 3) CHECK(memcmp(t.row[0], other.row[0], sizeof t.row[0]) == 0); /* the first row sees nothing but itself */
            e.with = plain.seen[e.after + 1][0]; /* what it is anyway */
            t = check_edit(&k->m, FULL, tokens, &plain, &e);
            CHECK(same(&t, &none));
        }
    ref_model_load(&f->m, &ref);
    recorded(&f->m, FULL, others, &from);
    for (e.after = -1; e.after < L; e.after++) {
        ltx_policy p = plain_desc().policy;
        ltx_plan plan = make_plan(&f->m, FULL, steps);
        p.tap = edit_or_not; p.user = &e;
        e.rows = some_rows[e.after + 1]; e.with = from.seen[e.after + 1][0];
        trace t = edited(&f->m, FULL, tokens, &e, 5);
        near_ref(&ref, &plan, &p, tokens, t.row);
    }
    ref_model_free(&ref);
    kit_free(k);
    kit_free(f);
}

/* Steps 0..b, then a + 1.. : what a position runs whose hidden vector after b is put back after a. */
static void hop_plan(const ltx_model *m, int a, int b, ltx_step *steps, ltx_plan *plan)
{
    ltx_step full[MAX_STEPS];
    int count = make_plan(m, FULL, full).count, n = 0;
    for (int i = 0; i <= b; i++) steps[n++] = full[i];
    for (int i = a + 1; i < count; i++) steps[n++] = full[i];
    for (int i = 0; i < n; i++) steps[i].cache = (int16_t)(i + 1);
    plan->steps = steps; plan->count = n;
}

/* The hidden vector after a later layer b, put into a second run at the same position after an earlier layer a (arXiv 2406.12775). */
static void back_patching(void)
{
    static editor plain, e;
    ltx_adapter two[2];
    int32_t tokens[N];
    kit_model *k = new_model(&kit_small, 1, two);
    for (int seed = 0; seed < 4; seed++) {
        kit_tokens(tokens, N, VOCAB, 5 + (uint64_t)seed);
        trace none = recorded(&k->m, FULL, tokens, &plain);
        for (int a = 0; a < L - 1; a++)
            for (int b = 0; b < L; b++) { /* b < a: steps are skipped */
                ltx_step steps[MAX_STEPS];
                ltx_session_desc d = plain_desc();
                hop_plan(&k->m, a, b, steps, &d.plan);
                trace hop = run(&k->m, &d, tokens, 1);
                e.after = a; e.rows = seed ? some_rows[seed] | 1u : 1u; e.replace = 1; e.with = plain.seen[b + 1][0];
                trace t = check_edit(&k->m, FULL, tokens, &plain, &e);
                CHECK_EQ(same(&t, &none), a == b);
                CHECK(memcmp(t.row[0], hop.row[0], sizeof t.row[0]) == 0); /* alone in its sequence */
            }
    }
    kit_free(k);
}

/* ==== drafts together with everything else ================================================================= */

enum { PROMPT = 8, TEXT = 40, DRAFTS = 7 };

/* A greedy text, and the logits of one more token, which show the state of all caches. */
typedef struct story {
    int32_t text[TEXT];
    float last[VOCAB];
    ltx_stats st;
} story;

static void story_begin(ltx_session *s, const int32_t *prompt, story *y)
{
    const float *logits = NULL;
    memset(y, 0, sizeof *y);
    CHECK_EQ(ltx_eval(s, prompt, PROMPT, &logits), LTX_OK);
    if (logits) y->text[0] = kit_best(logits, VOCAB);
}

static void story_end(ltx_session *s, story *y)
{
    const float *logits = NULL;
    ltx_draft off = kit_draft(0, 0, 0, 0);
    ltx_policy never = plain_desc().policy;
    ltx_session_stats(s, &y->st);
    CHECK_EQ(ltx_set_draft(s, &off), LTX_OK);
    CHECK_EQ(ltx_set_policy(s, &never), LTX_OK);
    CHECK_EQ(ltx_eval(s, &y->text[TEXT - 1], 1, &logits), LTX_OK);
    if (logits) memcpy(y->last, logits, sizeof y->last);
}

static int same_story(const story *a, const story *b)
{
    return memcmp(a->text, b->text, sizeof a->text) == 0 && memcmp(a->last, b->last, sizeof a->last) == 0;
}

/* Back by `back` tokens of a text of `have`, and the same again. */
static void again(ltx_session *s, story *y, int have, int back)
{
    CHECK_EQ(ltx_rewind(s, ltx_position(s) - back), LTX_OK);
    kit_go_on(s, y->text, have - back, have, DRAFTS + 1);
}

/* With drafts, going back in the middle of what they made; under a policy that is not to be asked. */
static story drafted_story(const ltx_model *m, const ltx_session_desc *d, const ltx_policy *policy, const int32_t *prompt)
{
    story y;
    ltx_stats before, after;
    kit_session k = kit_open(m, d);
    story_begin(k.s, prompt, &y);
    CHECK_EQ(ltx_set_policy(k.s, policy), LTX_OK);
    kit_go_on(k.s, y.text, 1, TEXT / 2, DRAFTS + 1);
    for (int back = 1; back <= 7; back += 2) again(k.s, &y, TEXT / 2, back);
    kit_go_on(k.s, y.text, TEXT / 2, TEXT, 3);
    again(k.s, &y, TEXT, 6);
    ltx_session_stats(k.s, &before);
    again(k.s, &y, TEXT, 6);
    ltx_session_stats(k.s, &after);
    CHECK(after.rounds > before.rounds);
    story_end(k.s, &y);
    kit_close(&k);
    return y;
}

static story plain_story(const ltx_model *m, ltx_session_desc d, const int32_t *prompt)
{
    story y;
    d.threads = 1;
    kit_session k = kit_open(m, &d);
    story_begin(k.s, prompt, &y);
    kit_go_on(k.s, y.text, 1, TEXT, 1);
    story_end(k.s, &y);
    kit_close(&k);
    return y;
}

enum { DRAFT_KINDS = 7 };
static ltx_draft draft_kind(int kind, int steps)
{
    ltx_draft d = kit_draft(1, 4, 1e-9f, 0); /* 0: four, whatever they are; 5: the same from a shortlist */
    if (kind == 1) d = kit_draft(steps / 2, 0, 0, 0.01f);
    if (kind == 2 || kind == 6) { d = kit_draft(1, 0, 0.5f, 0); d.last = steps - 1; }
    if (kind == 3) { d = kit_draft(0, 0, 0, 0.001f); d.lookup = 3; }
    if (kind == 4) { d = kit_draft(2, 0, 0.2f, 0.1f); d.lookup = 2; }
    return d;
}

static const int rules[] = {LTX_EXIT_ALWAYS, LTX_EXIT_PROB, LTX_EXIT_COSINE, LTX_EXIT_NEVER, LTX_EXIT_PROBE, LTX_EXIT_CHANGE, LTX_EXIT_PATIENCE, LTX_EXIT_ENTROPY};
static const float easy[] = {0.0f, 0.01f, -1.0f, 0.0f, 0.01f, 10.0f, 1.0f, 9.0f}; /* thresholds at which nearly every row would leave */

/* One plan, windows or not, one kind of draft: the text is that of the same plan without drafts, and no gate is asked. */
static uint64_t drafts_of_plan(ltx_model m, int kind, int how, const int32_t *prompt)
{
    static unsigned char ids[16 * 4];
    uint64_t accepted = 0;
    ltx_step steps[MAX_STEPS];
    ltx_session_desc d = plan_desc(&m, kind, steps);
    ltx_policy rule = d.policy;
    for (int i = 0; i < 16; i++) kit_put32(ids + i * 4, (uint32_t)(VOCAB / 16 * i + i % 3));
    CHECK_EQ(ltx_plan_gates(steps, d.plan.count, 0, 1), LTX_OK);
    d.plan.fill = (kind + how) % 3;
    d.kv = LTX_KV_F32 + (kind + how / 2) % 3;
    rule.rule = rules[(kind + 3 * how) % 8]; rule.threshold = easy[(kind + 3 * how) % 8];
    rule.yes = how % 4 == 1 ? LTX_UNDO : how % 4 == 3;
    for (int window = 0; window < 2; window++) {
        d.window = window ? 9 + how : 0; d.sinks = window ? how % 4 : 0;
        d.rows = d.logits_rows = 16; d.draft_max = 0; d.draft = kit_draft(0, 0, 0, 0); m.n_draft_ids = 0;
        story want = plain_story(&m, d, prompt);
        d.draft_max = DRAFTS; d.draft = draft_kind(how, d.plan.count); d.threads = 1 + how % 3; d.pool.run = kit_backwards;
        if (how >= 5) { m.draft_ids = ids; m.n_draft_ids = 16; }
        story got = drafted_story(&m, &d, &rule, prompt);
        if (!CHECK(same_story(&got, &want))) printf("  %s, draft %d, rule %d, window %d\n", kind_names[kind], how, rule.rule, d.window);
        CHECK_EQ(got.st.exits, 0);
        CHECK(kind >= ROUTED || got.st.skipped == 0);
        CHECK(got.st.drafted > 0);
        accepted += got.st.accepted;
    }
    return accepted;
}

static void drafts_and_plans(void)
{
    ltx_adapter two[2];
    kit_model *k = new_model(&kit_small, 1, two);
    uint64_t of_plan[KINDS] = {0}, of_draft[DRAFT_KINDS] = {0};
    for (int kind = 0; kind < KINDS; kind++)
        for (int how = 0; how < DRAFT_KINDS; how++) {
            int32_t prompt[PROMPT];
            kit_tokens(prompt, PROMPT, VOCAB, 30 + (uint64_t)(kind * DRAFT_KINDS + how));
            memcpy(prompt + 4, prompt, 3 * sizeof *prompt); /* something to look up */
            uint64_t accepted = drafts_of_plan(k->m, kind, how, prompt);
            of_plan[kind] += accepted;
            of_draft[how] += accepted;
        }
    for (int kind = 0; kind < KINDS; kind++) CHECK(of_plan[kind] > 0);
    for (int how = 0; how < DRAFT_KINDS; how++) CHECK(of_draft[how] > 0);
    kit_free(k);
}

/* Segments of a text by turns with exits and at full depth, the latter with drafts or, if `draft` is NULL, without. */
static story mixed_story(const ltx_model *m, const ltx_session_desc *d, const ltx_draft *draft, const int32_t *prompt, uint8_t *is_deep)
{
    ltx_draft off = kit_draft(0, 0, 0, 0);
    ltx_policy never = plain_desc().policy;
    story y;
    kit_session k = kit_open(m, d);
    story_begin(k.s, prompt, &y);
    for (int have = 1, segment = 0, to; have < TEXT; have = to, segment++) {
        int deep = segment % 2;
        to = have + 3 + segment < TEXT ? have + 3 + segment : TEXT;
        if (draft) CHECK_EQ(ltx_set_draft(k.s, deep ? draft : &off), LTX_OK);
        else CHECK_EQ(ltx_set_policy(k.s, deep ? &never : &d->policy), LTX_OK);
        kit_go_on(k.s, y.text, have, to, DRAFTS + 1);
        for (int i = have; i < to; i++) is_deep[i] = (uint8_t)deep;
        if (segment > 1) again(k.s, &y, to, 2);
    }
    story_end(k.s, &y);
    kit_close(&k);
    return y;
}

/* With exact fills the deep segments are what a session says that was fed the same tokens and never left. */
static void check_deep(const ltx_model *m, ltx_session_desc d, const int32_t *prompt, const story *y, const uint8_t *is_deep)
{
    const float *logits = NULL;
    d.policy = plain_desc().policy;
    kit_session k = kit_open(m, &d);
    CHECK_EQ(ltx_eval(k.s, prompt, PROMPT, &logits), LTX_OK);
    for (int i = 0; i < TEXT && logits; i++) {
        if (is_deep[i]) CHECK_EQ(y->text[i], kit_best(logits, VOCAB));
        CHECK_EQ(ltx_eval(k.s, &y->text[i], 1, &logits), LTX_OK);
    }
    CHECK(logits && memcmp(y->last, logits, sizeof y->last) == 0);
    kit_close(&k);
}

/* Exits with all fills before drafts and after them, drafts switched on and off in the middle of a text. */
static void drafts_and_exits(void)
{
    ltx_adapter two[2];
    kit_model *k = new_model(&kit_small, 1, two);
    uint64_t exits = 0, accepted = 0;
    for (int c = 0; c < 8 * 3 * 2; c++) {
        int rule = rules[c % 8], fill = c / 8 % 3, window = c / 24;
        int32_t prompt[PROMPT];
        uint8_t is_deep[TEXT] = {0};
        ltx_step steps[MAX_STEPS];
        ltx_session_desc d = plan_desc(&k->m, window ? HALVES : FULL, steps);
        ltx_draft draft = draft_kind(c % 5, d.plan.count);
        kit_tokens(prompt, PROMPT, VOCAB, 200 + (uint64_t)c);
        CHECK_EQ(ltx_plan_gates(steps, d.plan.count, 1, 1), LTX_OK);
        d.plan.fill = fill;
        d.policy.rule = rule;
        if (rule != LTX_EXIT_ALWAYS && rule != LTX_EXIT_NEVER) kit_threshold(&k->m, &d);
        d.rows = DRAFTS + 2; d.logits_rows = 1; /* no room for drafts beside rows that wait */
        d.window = window ? 12 : 0; d.sinks = 2 * window; d.kv = LTX_KV_F32 + c % 3; d.draft_max = DRAFTS;
        story want = mixed_story(&k->m, &d, NULL, prompt, is_deep), got = mixed_story(&k->m, &d, &draft, prompt, is_deep);
        if (!CHECK(same_story(&got, &want))) printf("  rule %d, fill %d, window %d, draft %d\n", rule, fill, d.window, c % 5);
        CHECK_EQ(got.st.exits, want.st.exits);
        CHECK_EQ(want.st.rounds, 0);
        CHECK(got.st.rounds > 0);
        if (fill == LTX_FILL_DEFER) check_deep(&k->m, d, prompt, &got, is_deep);
        exits += got.st.exits;
        accepted += got.st.accepted;
    }
    CHECK(exits > 0 && accepted > 0);
    kit_free(k);
}

/* ==== switched off ========================================================================================= */

/* Plans that change nothing: factors of 1, repeated once, beside nobody, additions of nothing, layers of a second model that no step names. */
static void off_plans(void)
{
    ltx_adapter two[2], none[2];
    ltx_layer layers[2 * L];
    ltx_step steps[MAX_STEPS];
    int32_t tokens[N];
    kit_model *k = new_model(&kit_small, 1, two), *other = new_model(&kit_small, 2, two);
    ltx_session_desc d = plain_desc();
    ltx_model m = k->m;
    static const unsigned char zeros[96 * 8 * 4];
    kit_tokens(tokens, N, VOCAB, 6);
    trace plain = run(&k->m, &d, tokens, 1);

    d.plan = make_plan(&m, FULL, steps);
    CHECK_EQ(ltx_plan_repeat(steps, MAX_STEPS, &d.plan.count, 1, 3, 1), LTX_OK);
    CHECK_EQ(ltx_plan_beside(steps, d.plan.count, 2, 2), LTX_OK);
    for (int i = 0; i < L; i++) steps[i].attn_scale = steps[i].ffn_scale = 1.0f;
    check_same(&m, &d, tokens, &plain, "scales", 1);
    CHECK_EQ(ltx_plan_split(steps, MAX_STEPS, &d.plan.count), LTX_OK);
    check_same(&m, &d, tokens, &plain, "halves", 2);

    memset(none, 0, sizeof none); /* [0]: no matrices; [1]: B is zero */
    none[1] = k->m.adapters[0];
    ltx_lora *all[] = {&none[1].q, &none[1].k, &none[1].v, &none[1].o, &none[1].gate, &none[1].up, &none[1].down};
    for (int i = 0; i < 7; i++) all[i]->b.data = zeros;
    m.adapters = none;
    for (int a = 1; a <= 2; a++) {
        for (int i = 0; i < d.plan.count; i++) steps[i].adapter = (int16_t)a;
        check_same(&m, &d, tokens, &plain, "adapter", a);
    }

    memcpy(layers, k->layers, L * sizeof *layers);
    memcpy(layers + L, other->layers, L * sizeof *layers);
    d.plan = make_plan(&k->m, FULL, steps);
    m = k->m; m.layers = layers; m.n_layers = 2 * L; m.probes.data = NULL;
    check_same(&m, &d, tokens, &plain, "two models", 3);

    d = plain_desc();
    d.window = N; d.sinks = 3; /* sees everything */
    check_same(&k->m, &d, tokens, &plain, "window", d.window);
    kit_free(k);
    kit_free(other);
}

/* Routers that let everyone pass, with a probability of 1 if it counts; or rows want logits, which is excuse enough. */
static void off_routers(void)
{
    static const int bits[] = {0, LTX_WEIGH, LTX_RENUMBER, LTX_WEIGH | LTX_RENUMBER, LTX_PROMPT};
    ltx_adapter two[2];
    int32_t tokens[N];
    kit_model *k = new_model(&kit_small, 1, two);
    ltx_session_desc d = plain_desc();
    kit_tokens(tokens, N, VOCAB, 7);
    trace plain = run(&k->m, &d, tokens, 1);
    for (int i = 0; i < L; i++) k->layers[i].router_bias.data = sure;
    for (int b = 0; b < 5; b++)
        for (int off = 0; off < 2; off++) { /* a threshold that all pass, or none at all */
            ltx_step steps[MAX_STEPS];
            if (off && bits[b] == LTX_PROMPT) continue;
            d.plan = make_plan(&k->m, b % 2 ? HALVES : FULL, steps);
            for (int i = 0; i < d.plan.count; i++) {
                steps[i].run = (uint8_t)(steps[i].run | bits[b]);
                steps[i].route = off ? 0.0f : bits[b] == LTX_PROMPT ? 1.0f : 0.999f;
            }
            check_same(&k->m, &d, tokens, &plain, "router bits", bits[b]);
        }
    kit_free(k);
}

/* Rules that never say yes, whatever they would answer. */
static void off_rules(void)
{
    static const int answers[] = {0, 1, LTX_UNDO};
    static const unsigned char ids[8] = {3, 0, 0, 0, 40, 0, 0, 0};
    ltx_adapter two[2];
    int32_t tokens[N];
    kit_model *k = new_model(&kit_small, 1, two);
    ltx_session_desc d = plain_desc();
    kit_tokens(tokens, N, VOCAB, 8);
    k->m.draft_ids = ids; k->m.n_draft_ids = 2;
    trace plain = run(&k->m, &d, tokens, 1);
    for (int rule = LTX_EXIT_PROB; rule <= LTX_EXIT_CHANGE; rule++)
        for (int c = 0; c < 9 && rule != LTX_EXIT_ALWAYS && rule != LTX_EXIT_ASK; c++) {
            ltx_step steps[MAX_STEPS];
            int no_head = rule == LTX_EXIT_COSINE || rule == LTX_EXIT_PROBE || rule == LTX_EXIT_CHANGE;
            d = plan_desc(&k->m, c % 2 ? HALVES : FULL, steps);
            CHECK_EQ(ltx_plan_gates(steps, d.plan.count, 0, 1), LTX_OK);
            d.plan.fill = c / 3;
            d.policy.rule = rule; d.policy.yes = answers[c % 3]; d.policy.all_rows = no_head; d.policy.screen = c > 4;
            d.policy.threshold = rule == LTX_EXIT_ENTROPY ? -1.0f : rule == LTX_EXIT_CHANGE ? -1e30f : 100.0f;
            check_same(&k->m, &d, tokens, &plain, "rule", rule);
        }
    kit_free(k);
}

/* ==== switched on: the same made in another way ============================================================== */

/* A plan that ends early is a smaller model; a plan over the layers of two models is the model put together of them, and no byte of
   cache more. */
static void smaller_and_mixed_models(void)
{
    static const int16_t picked[][L] = {{0, 6, 7, 3, 4}, {5, 1, 2, 3, 9}, {5, 6, 7, 8, 9}, {4, 8, 2, 6, 0}};
    ltx_adapter two[2];
    ltx_layer both[2 * L], layers[L];
    int32_t tokens[N];
    kit_model *k = new_model(&kit_small, 1, two), *other = new_model(&kit_small, 2, two);
    kit_tokens(tokens, N, VOCAB, 9);
    for (int n = 1; n < L; n++) {
        ltx_step steps[MAX_STEPS];
        ltx_session_desc d = plan_desc(&k->m, FULL, steps), small_desc = plain_desc();
        ltx_model small = k->m;
        small.n_layers = n; small.probes.data = NULL;
        trace t = run(&small, &small_desc, tokens, 7);
        d.plan.count = n;
        check_same(&k->m, &d, tokens, &t, "layers", n);
    }
    memcpy(both, k->layers, L * sizeof *both);
    memcpy(both + L, other->layers, L * sizeof *both);
    for (int c = 0; c < 4; c++) {
        ltx_step steps[L];
        ltx_session_desc d = plain_desc(), own = plain_desc();
        ltx_session_needs need, own_need;
        ltx_model m = k->m, put = k->m;
        m.layers = both; m.n_layers = 2 * L; put.layers = layers;
        m.probes.data = put.probes.data = NULL;
        memset(steps, 0, sizeof steps);
        for (int i = 0; i < L; i++) {
            layers[i] = both[picked[c][i]];
            steps[i].layer = picked[c][i]; steps[i].run = LTX_ATTN | LTX_FFN;
        }
        d.plan.steps = steps; d.plan.count = L;
        trace t = run(&put, &own, tokens, 7);
        check_same(&m, &d, tokens, &t, "swapped", c);
        CHECK_EQ(ltx_session_need(&m, &d, &need), LTX_OK);
        CHECK_EQ(ltx_session_need(&put, &own, &own_need), LTX_OK);
        CHECK_EQ(need.cache.size, own_need.cache.size);
    }
    kit_free(k);
    kit_free(other);
}

/* A router that lets nobody pass, because a probability of 1 is not more than 1, drops its steps; one that decides about prompts only
   does so for rows that want no logits. */
static void routers_that_refuse(void)
{
    ltx_adapter two[2];
    int32_t tokens[N];
    const float *logits = NULL;
    ltx_step steps[MAX_STEPS], dropped[MAX_STEPS];
    kit_model *k = new_model(&kit_small, 1, two);
    ltx_session_desc d = plan_desc(&k->m, FULL, steps), without = plan_desc(&k->m, FULL, dropped);
    kit_tokens(tokens, N, VOCAB, 10);
    k->layers[1].router_bias.data = k->layers[3].router_bias.data = sure;
    steps[1].route = steps[3].route = 1.0f;
    CHECK_EQ(ltx_plan_drop(dropped, &without.plan.count, 1, 3) | ltx_plan_drop(dropped, &without.plan.count, 3, 3), LTX_OK);
    trace want = run(&k->m, &without, tokens, 7);
    check_same(&k->m, &d, tokens, &want, "nobody passes", 0);

    steps[1].run |= LTX_PROMPT; steps[3].run |= LTX_PROMPT;
    kit_session a = kit_open(&k->m, &d);
    CHECK_EQ(ltx_eval(a.s, tokens, N - 1, NULL), LTX_OK);
    CHECK_EQ(ltx_eval(a.s, &tokens[N - 1], 1, &logits), LTX_OK); /* the only one in those layers: sees itself */
    ltx_stats st;
    ltx_session_stats(a.s, &st);
    CHECK_EQ(st.skipped, 2 * (N - 1));
    CHECK_EQ(st.attended, 3 * N * (N + 1) / 2 + 2);
    kit_close(&a);
    kit_free(k);
}

/* Positions that are numbers of slots: the rows that pass know nothing of the others, so they are a text of their own. */
static void renumbered_rows(void)
{
    ltx_adapter two[2];
    kit_model *k = new_model(&kit_small, 1, two);
    for (int layer = 0; layer < L; layer++) {
        static editor e;
        int32_t tokens[N], passed[N];
        int n = 0, where[N];
        ltx_step step;
        ltx_session_desc d = plain_desc();
        memset(&step, 0, sizeof step);
        step.layer = (int16_t)layer; step.run = LTX_ATTN | LTX_FFN | LTX_RENUMBER; step.route = 0.5f;
        d.plan.steps = &step; d.plan.count = 1;
        kit_tokens(tokens, N, VOCAB, 11);
        memset(e.seen, 0, sizeof e.seen);
        e.after = -2;
        d.policy.tap = edit_or_not; d.policy.user = &e;
        trace t = run(&k->m, &d, tokens, 5);
        for (int p = 0; p < N; p++) {
            static const float untouched[DIM];
            if (memcmp(e.seen[1][p], untouched, sizeof untouched) != 0) where[n] = p, passed[n++] = tokens[p];
        }
        CHECK(n > 2 && n < N - 2);
        CHECK_EQ(t.st.attn_rows, n);
        CHECK_EQ(t.st.skipped, N - n);
        CHECK_EQ(t.st.attended, n * (n + 1) / 2);
        step.route = 0.0f; step.run = LTX_ATTN | LTX_FFN;
        d.policy = plain_desc().policy;
        for (int i = n; i < N; i++) passed[i] = 0;
        trace u = run(&k->m, &d, passed, 5);
        for (int i = 0; i < n; i++) CHECK(memcmp(t.row[where[i]], u.row[i], sizeof u.row[0]) == 0);
    }
    kit_free(k);
}

/* A rule that always says yes is a plan: a step less, an ffn less, or the first steps. */
static void rules_that_always_say_yes(void)
{
    ltx_adapter two[2];
    int32_t tokens[N];
    kit_model *k = new_model(&kit_small, 1, two);
    kit_tokens(tokens, N, VOCAB, 12);
    for (int gate = 0; gate < L - 1; gate++)
        for (int fill = 0; fill < 3; fill++) {
            ltx_step steps[MAX_STEPS], other[MAX_STEPS];
            ltx_session_desc d = plan_desc(&k->m, FULL, steps), e = plan_desc(&k->m, FULL, other);
            d.plan.fill = fill;
            steps[gate].gate = 1;
            d.policy.rule = fill ? LTX_EXIT_COSINE : LTX_EXIT_ALWAYS; d.policy.threshold = -2.0f; d.policy.all_rows = 1;
            e.plan.count = gate + 1; /* nobody ever looks at the deeper layers */
            trace want = run(&k->m, &e, tokens, 7);
            check_same(&k->m, &d, tokens, &want, "leaves after step", gate);

            d.policy.yes = LTX_UNDO;
            e = plan_desc(&k->m, FULL, other);
            CHECK_EQ(ltx_plan_drop(other, &e.plan.count, gate, LTX_ATTN | LTX_FFN), LTX_OK);
            want = run(&k->m, &e, tokens, 7);
            check_same(&k->m, &d, tokens, &want, "takes back step", gate);

            d.policy.yes = 1;
            e = plan_desc(&k->m, FULL, other);
            CHECK_EQ(ltx_plan_drop(other, &e.plan.count, gate, LTX_FFN), LTX_OK);
            want = run(&k->m, &e, tokens, 7);
            steps[gate].gate = 0;
            CHECK_EQ(ltx_plan_split(steps, MAX_STEPS, &d.plan.count), LTX_OK);
            steps[2 * gate].gate = 1;
            check_same(&k->m, &d, tokens, &want, "skips the ffn of layer", gate);
        }
    kit_free(k);
}

/* ==== counters =============================================================================================== */

/* What the counters have to be, added up from the plan and from what the tap is shown. */
typedef struct ledger {
    const ltx_model *m;
    const ltx_plan *plan;
    ltx_stats want;
    uint8_t ran[N][MAX_STEPS], stored[N][MAX_STEPS]; /* by position and step: has it run, has it a slot in the step's cache */
    int call, last_call[MAX_STEPS];                  /* a call reads the matrices of a step once                        */
    int routed;                                      /* rows around whom a router leads have no slot                    */
} ledger;

static uint64_t step_bytes(const ltx_model *m, const ltx_step *st)
{
    uint64_t n = kit_run_bytes(&m->layers[st->layer], st->run);
    if (st->adapter == 0) return n;
    const ltx_adapter *a = &m->adapters[st->adapter - 1];
    const ltx_lora *all[] = {&a->q, &a->k, &a->v, &a->o, &a->gate, &a->up, &a->down};
    for (int i = st->run & LTX_ATTN ? 0 : 4; i < (st->run & LTX_FFN ? 7 : 4); i++) n += kit_mat_bytes(&all[i]->a) + kit_mat_bytes(&all[i]->b);
    return n;
}

static void read_once(ledger *g, int step, uint64_t bytes)
{
    if (g->last_call[step] != g->call) g->want.weight_bytes += bytes;
    g->last_call[step] = g->call;
}

static int32_t note(void *user, const ltx_view *v)
{
    ledger *g = (ledger *)user;
    if (v->step < 0) return LTX_GO;
    const ltx_step *st = &g->plan->steps[v->step];
    uint64_t seen = 0;
    read_once(g, v->step, step_bytes(g->m, st));
    CHECK_EQ(g->ran[v->position][v->step], 0);
    g->ran[v->position][v->step] = 1;
    g->want.ffn_rows += (st->run & LTX_FFN) != 0;
    if (!(st->run & LTX_ATTN)) return LTX_GO;
    g->stored[v->position][v->step] = 1;
    for (int p = 0; p <= v->position; p++) seen += g->stored[p][v->step];
    g->want.attn_rows++;
    g->want.attended += seen;
    g->want.kv_bytes += seen * 2 * 2 * 24 * 4; /* keys and values, kv heads, elements, bytes */
    return LTX_GO;
}

/* After a call: what became of the steps that its row at position p did not run. */
static void settle(ledger *g, int p, int wanted, int32_t depth, int reads_logits)
{
    int left = depth < g->plan->count;
    uint64_t asked = 0;
    for (int i = 0; i < g->plan->count; i++) {
        const ltx_step *st = &g->plan->steps[i];
        asked += st->gate && i + 1 < g->plan->count && g->ran[p][i];
        if (g->ran[p][i]) continue;
        int gone = left && i >= depth;
        g->want.skipped += !gone;
        if (gone ? g->plan->fill != LTX_FILL_PROJECT : g->routed || g->plan->fill == LTX_FILL_NONE) continue;
        if (!(st->run & LTX_ATTN)) continue;
        g->want.fill_rows++;
        g->stored[p][i] = 1;
        read_once(g, i, kit_kv_bytes(&g->m->layers[st->layer]));
    }
    uint64_t heads = !wanted ? 0 : reads_logits ? asked + !left : 1;
    g->want.tokens++;
    g->want.exits += (uint64_t)left;
    g->want.head_rows += heads;
    g->want.weight_bytes += heads * kit_mat_bytes(&g->m->embed);
}

static void check_ledger(const ledger *g, ltx_session *s, int with_kv, const char *what, int which)
{
    ltx_stats got;
    long before = test_now.failures;
    ltx_session_stats(s, &got);
    CHECK_EQ(got.tokens, g->want.tokens);
    CHECK_EQ(got.attn_rows, g->want.attn_rows);
    CHECK_EQ(got.ffn_rows, g->want.ffn_rows);
    CHECK_EQ(got.fill_rows, g->want.fill_rows);
    CHECK_EQ(got.head_rows, g->want.head_rows);
    CHECK_EQ(got.weight_bytes, g->want.weight_bytes);
    if (with_kv) CHECK_EQ(got.kv_bytes, g->want.kv_bytes);
    CHECK_EQ(got.attended, g->want.attended);
    CHECK_EQ(got.exits, g->want.exits);
    CHECK_EQ(got.skipped, g->want.skipped);
    CHECK_EQ(got.rounds + got.drafted + got.accepted, 0);
    if (test_now.failures != before && before < TEST_MAX_PRINTED) printf("  %s %d\n", what, which);
}

/* N tokens in pieces of which the last row wants logits; then what waits. */
static ltx_stats count(const ltx_model *m, ltx_session_desc d, int piece, int reads_logits, int routed, const char *what, int which)
{
    static ledger g;
    int32_t tokens[N];
    memset(&g, 0, sizeof g);
    g.m = m; g.plan = &d.plan; g.routed = routed;
    d.policy.tap = note; d.policy.user = &g;
    kit_tokens(tokens, N, VOCAB, 18);
    kit_session k = kit_open(m, &d);
    for (int at = 0; at < N; at += piece) {
        ltx_batch b = {.tokens = tokens + at, .count = piece, .logits = 1};
        ltx_output out = {0};
        g.call++;
        if (!CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_OK)) break;
        for (int i = 0; i < piece; i++) settle(&g, at + i, i + 1 == piece, i + 1 == piece ? out.depth[0] : d.plan.count, reads_logits);
    }
    check_ledger(&g, k.s, piece == 1 && d.plan.fill != LTX_FILL_DEFER, what, which); /* of a batch several rows read together */
    g.call++;
    CHECK_EQ(ltx_flush(k.s), LTX_OK);
    check_ledger(&g, k.s, 0, what, which);
    kit_close(&k);
    return g.want;
}

/* Each kind of plan, row by row and as one batch, beside sums made from the plan alone where no router decides. */
static void counting_plans(void)
{
    ltx_adapter two[2];
    kit_model *k = new_model(&kit_small, 1, two);
    for (int kind = 0; kind < KINDS; kind++)
        for (int piece = 1; piece <= N; piece += N - 1) {
            ltx_step steps[MAX_STEPS];
            ltx_session_desc d = plan_desc(&k->m, kind, steps);
            ltx_stats st = count(&k->m, d, piece, 0, kind >= ROUTED, kind_names[kind], piece);
            uint64_t attn = 0, ffn = 0, bytes = 0, calls = (uint64_t)(N / piece);
            for (int i = 0; i < d.plan.count; i++) {
                attn += (steps[i].run & LTX_ATTN) != 0;
                ffn += (steps[i].run & LTX_FFN) != 0;
                bytes += step_bytes(&k->m, &steps[i]);
            }
            if (kind >= ROUTED) {
                CHECK_EQ(st.attn_rows, st.ffn_rows);
                CHECK_EQ(st.attn_rows + st.skipped, N * attn);
                CHECK(kind == PROMPTS_ROUTED && piece == 1 ? st.skipped == 0 : st.skipped > N / 2 && st.skipped < N * attn - N);
                continue;
            }
            CHECK_EQ(st.attn_rows, N * attn);
            CHECK_EQ(st.ffn_rows, N * ffn);
            CHECK_EQ(st.attended, attn * N * (N + 1) / 2);
            CHECK_EQ(st.weight_bytes, calls * (bytes + kit_mat_bytes(&k->m.embed)));
            CHECK_EQ(st.skipped + st.exits + st.fill_rows, 0);
        }
    kit_free(k);
}

/* Early exits by each rule; steps skipped for a row (LAC's rule, half layers by similarity) or taken back; with all fills. */
static void counting_rules(void)
{
    static const struct { int rule, yes, kind, first, every; } cases[] = {
        {LTX_EXIT_PROB, 0, FULL, 0, 1},     {LTX_EXIT_MARGIN, 0, FULL, 0, 2},   {LTX_EXIT_ENTROPY, 0, NO_ATTENTION, 0, 1}, {LTX_EXIT_COSINE, 0, FULL, 0, 1},
        {LTX_EXIT_ALWAYS, 0, FULL, 2, 9},   {LTX_EXIT_PATIENCE, 0, FULL, 0, 1}, {LTX_EXIT_PROBE, 0, FULL, 0, 1},           {LTX_EXIT_CHANGE, 0, FULL, 0, 1},
        {LTX_EXIT_PROBE, 0, REPEATED, 1, 1}, {LTX_EXIT_CHANGE, 1, FULL, 0, 1},  {LTX_EXIT_CHANGE, 2, HALVES, 0, 1},        {LTX_EXIT_COSINE, 1, HALVES, 0, 2},
        {LTX_EXIT_PROBE, 1, HALVES, 0, 2},  {LTX_EXIT_PROBE, 9, FULL, 1, 1},    {LTX_EXIT_COSINE, LTX_UNDO, FULL, 0, 1},   {LTX_EXIT_CHANGE, LTX_UNDO, HALVES, 1, 1},
        {LTX_EXIT_PATIENCE, 1, BESIDE, 0, 1}, {LTX_EXIT_PROB, 1, HALVES, 0, 2}};
    ltx_adapter two[2];
    kit_model *k = new_model(&kit_small, 1, two);
    for (int c = 0; c < (int)(sizeof cases / sizeof cases[0]); c++)
        for (int fill = 0; fill < 3; fill++) {
            ltx_step steps[MAX_STEPS];
            ltx_session_desc d = plan_desc(&k->m, cases[c].kind, steps);
            int rule = cases[c].rule, reads_logits = rule <= LTX_EXIT_ENTROPY || rule == LTX_EXIT_PATIENCE;
            CHECK_EQ(ltx_plan_gates(steps, d.plan.count, cases[c].first, cases[c].every), LTX_OK);
            d.plan.fill = fill;
            d.policy.rule = rule;
            if (rule != LTX_EXIT_ALWAYS) kit_threshold(&k->m, &d);
            d.policy.yes = cases[c].yes;
            ltx_stats st = count(&k->m, d, 1, reads_logits, 0, "case", c);
            if (cases[c].yes == 0) CHECK(rule == LTX_EXIT_ALWAYS ? st.exits == N : st.exits > N / 8 && st.exits < N - N / 8);
            if (cases[c].yes > 0) CHECK(st.exits == 0 && st.skipped > N / 8);
            if (cases[c].yes < 0) CHECK(st.exits + st.skipped + st.fill_rows == 0);
            if (cases[c].kind == HALVES && cases[c].every == 2) CHECK_EQ(st.attn_rows, N * L); /* only ffns are skipped: no gap in any cache */
        }
    kit_free(k);
}

/* ==== traces and neurons ================================================================================== */

/* LAC's probe: changes of length as the reference has them, what is active from them as SYSTEMS says it, and the plan that follows. */
static void traces(void)
{
    enum { STEPS = MAX_STEPS };
    static float rows[N * 3], changes[N * STEPS];
    ltx_adapter two[2];
    int32_t tokens[N], close = 0;
    kit_model *k = new_model(&floats, 31, two);
    ref_model ref;
    kit_tokens(tokens, N, VOCAB, 32);
    ref_model_load(&k->m, &ref);
    for (int kind = FULL; kind <= REPEATED; kind++) {
        ltx_step steps[MAX_STEPS], frozen[MAX_STEPS];
        ltx_session_desc d = plan_desc(&k->m, kind, steps);
        static ltx_trace t;
        int32_t ran[STEPS] = {0}, active[STEPS] = {0}, count = d.plan.count, kept;
        trace none = run(&k->m, &d, tokens, 5);
        memset(&t, 0, sizeof t);
        t.alpha = kind == FULL ? 0.0f : 0.3f; t.rows = rows; t.cap = N - 3; t.steps = count; t.changes = changes;
        d.kv = LTX_KV_F32;
        d.policy.tap = ltx_trace_tap; d.policy.user = &t;
        t.sequence = 1;
        trace traced = run(&k->m, &d, tokens, 5);
        for (int i = 0; i < count; i++) CHECK_EQ(t.ran[i], 0); /* another text */
        t.sequence = 0;
        traced = run(&k->m, &d, tokens, 5);
        d.policy.tap = NULL;
        none = run(&k->m, &d, tokens, 5);
        CHECK(same(&none, &traced)); /* it only looks */
        ref_options exact = {0, REF_KV_EXACT, 0, 0};
        ref_state *s = ref_open(&ref, &exact);
        double *h = ref_new(ref.dim), *base = ref_new(ref.dim);
        for (int p = 0; p < N - 3; p++) {
            double before, least = 0, most = 0;
            int any = 0;
            s->position = p;
            for (int i = 0; i < ref.dim; i++) h[i] = ref.embed.w[(size_t)tokens[p] * (size_t)ref.dim + (size_t)i];
            for (int i = 0; i < count; i++) {
                before = sqrt(ref_dot(h, h, ref.dim));
                ref_run_step(s, &d.plan, i, h, base, 1);
                double change = sqrt(ref_dot(h, h, ref.dim)) - before, threshold = any ? (t.alpha > 0 ? (double)t.alpha : 0.8) * (most - least) : 0.0;
                CHECK(fabs(change - (double)changes[p * count + i]) < 1e-4 * (1.0 + before));
                if (fabs(change - threshold) < 1e-4 * (1.0 + before)) close++;
                ran[i]++;
                active[i] += change >= threshold;
                least = any ? fmin(least, change) : change;
                most = any ? fmax(most, change) : change;
                any = 1;
            }
        }
        free(h); free(base);
        ref_close(s);
        for (int i = 0; i < count; i++) {
            CHECK_EQ(t.ran[i], ran[i]);
            CHECK(abs(t.active[i] - active[i]) <= close);
        }
        for (int share = 0; share <= 4; share++) {
            memcpy(frozen, steps, sizeof frozen);
            kept = count;
            CHECK_EQ(ltx_plan_freeze(frozen, &kept, &t, 0.25f * (float)share), LTX_OK);
            int n = 0;
            for (int i = 0; i < count; i++) if (4 * t.active[i] >= share * t.ran[i]) CHECK(memcmp(&frozen[n++], &steps[i], sizeof *steps) == 0);
            CHECK_EQ(kept, n > 0 ? n : 1);
            if (share == 0) CHECK_EQ(kept, count); /* off */
        }
        kept = count - 1;
        CHECK_EQ(ltx_plan_freeze(frozen, &kept, &t, 0.5f), LTX_E_ARG);
        kept = count;
        CHECK_EQ(ltx_plan_freeze(frozen, &kept, &t, 1.5f), LTX_E_ARG);
        memcpy(frozen, steps, sizeof frozen); /* what stood beside a step that is gone stands alone, as after ltx_plan_drop */
        CHECK_EQ(ltx_plan_beside(frozen, count, 1, 2), LTX_OK);
        t.active[1] = 0; t.active[2] = t.ran[2];
        CHECK_EQ(ltx_plan_freeze(frozen, &kept, &t, 0.01f), LTX_OK);
        for (int i = 0; i < kept; i++) CHECK_EQ(frozen[i].run & LTX_BESIDE, 0);
    }
    ref_model_free(&ref);
    kit_free(k);
}

/* Neurons of an ffn: one that is set to 0 is one whose column of w_down is 0; one that is set to a constant adds that much of its column. */
typedef struct surgeon { int layer, neuron, calls, widths; float to; } surgeon;
static void operate(void *user, const ltx_view *v)
{
    surgeon *o = (surgeon *)user;
    o->calls++;
    o->widths += v->dim;
    if (v->layer == o->layer && v->step == o->layer && v->before == NULL && v->position > 3) v->hidden[o->neuron] = o->to;
}
static void neurons(void)
{
    ltx_adapter two[2];
    int32_t tokens[N];
    ltx_step steps[MAX_STEPS];
    kit_model *k = new_model(&floats, 41, two);
    ltx_session_desc d = plan_desc(&k->m, FULL, steps);
    surgeon o = {-1, 0, 0, 0, 0.0f};
    kit_tokens(tokens, N, VOCAB, 42);
    trace none = run(&k->m, &d, tokens, 5);
    d.policy.neurons = operate; d.policy.user = &o;
    trace looked = run(&k->m, &d, tokens, 5);
    CHECK(same(&none, &looked));
    CHECK(memcmp(&none.st, &looked.st, sizeof none.st) == 0);
    CHECK_EQ((uint64_t)o.calls, none.st.ffn_rows);
    CHECK_EQ(o.widths, o.calls * k->m.layers[0].w_up.rows);
    for (o.layer = 0; o.layer < L; o.layer++) {
        ltx_mat *down = &k->layers[o.layer].w_down, *bias = &k->layers[o.layer].b_down, was = *bias;
        float *w = (float *)(uintptr_t)down->data, column[DIM], moved[DIM] = {0};
        for (int c = 0; c < 2; c++) {
            o.neuron = 7 + o.layer; o.to = c == 0 ? 0.0f : 1.5f;
            d.policy.neurons = operate;
            trace cut = run(&k->m, &d, tokens, 5);
            CHECK(memcmp(cut.row[0], none.row[0], 4 * sizeof cut.row[0]) == 0); /* rows 0 to 3 were left alone */
            CHECK(!same(&cut, &none));
            /* the same by weights, of a session that takes the first four rows from the model as it was */
            d.policy.neurons = NULL;
            kit_session s = kit_open(&k->m, &d);
            const float *logits;
            CHECK_EQ(ltx_eval(s.s, tokens, 4, NULL), LTX_OK);
            for (int i = 0; i < DIM; i++) {
                column[i] = w[i * down->cols + o.neuron];
                w[i * down->cols + o.neuron] = 0;
                moved[i] = (was.data != NULL ? ((const float *)was.data)[i] : 0.0f) + o.to * column[i];
            }
            if (was.data != NULL) bias->data = moved;
            for (int p = 4; p < N && (was.data != NULL || c == 0); p++) {
                CHECK_EQ(ltx_eval(s.s, &tokens[p], 1, &logits), LTX_OK);
                for (int i = 0; i < VOCAB; i++) CHECK(c == 0 && was.data == NULL ? memcmp(&logits[i], &cut.row[p][i], 4) == 0 : fabsf(logits[i] - cut.row[p][i]) < 1e-3f);
            }
            for (int i = 0; i < DIM; i++) w[i * down->cols + o.neuron] = column[i];
            *bias = was;
            kit_close(&s);
        }
    }
    kit_free(k);
}

int main(void)
{
    test_begin("test_depth");
    TEST(traces);
    TEST(neurons);
    TEST(logit_lens);
    TEST(contrast_and_guidance);
    TEST(steering);
    TEST(injection);
    TEST(back_patching);
    TEST(drafts_and_plans);
    TEST(drafts_and_exits);
    TEST(off_plans);
    TEST(off_routers);
    TEST(off_rules);
    TEST(smaller_and_mixed_models);
    TEST(routers_that_refuse);
    TEST(renumbered_rows);
    TEST(rules_that_always_say_yes);
    TEST(counting_plans);
    TEST(counting_rules);
    return test_end();
}
