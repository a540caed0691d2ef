/* test_rows.c - what the rows of one batch decide together, and what comes out of them all: shares of routers, rows that are not kept, caches
   that are shared, exits by kind, depths that never grow, features
   SPDX-License-Identifier: MIT

   The reference goes step by step, and within a step row by row, in double precision. */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "test.h"
#include "kit.h"
#include "ref.h"

enum { ROWS = 24, MORE = 3 };

typedef struct part { /* a row of the reference */
    int kind, wanted, position, gone, left, in, depth;
    double *h, *base, *before, weight;
} part;
typedef struct world {
    kit_model *k;
    ref_model ref;
    ltx_step steps[KIT_LAYERS];
    ltx_session_desc d;
    int32_t tokens[ROWS + MORE];
    uint8_t kind[ROWS];
    double nearest; /* how near the closest decision was */
} world;

static void world_make(world *w, uint64_t seed, int routers)
{
    kit_shape shape = kit_small;
    test_rng r = {seed};
    memset(w, 0, sizeof *w);
    shape.format = LTX_F32;
    w->k = kit_make(&shape, seed);
    for (int i = 0; routers && i < w->k->m.n_layers; i++) w->k->layers[i].router = kit_mat(w->k, LTX_F32, 1, w->k->m.dim, -4, &r);
    ref_model_load(&w->k->m, &w->ref);
    kit_tokens(w->tokens, ROWS + MORE, w->k->m.vocab, seed + 1);
    for (int i = 0; i < ROWS; i++) w->kind[i] = (uint8_t)(i < 3 || i > 20 ? 0 : i < 13 ? 1 : 2);
    CHECK_EQ(ltx_plan_full(&w->k->m, w->steps, KIT_LAYERS, &w->d.plan.count), LTX_OK);
    w->d.plan.steps = w->steps;
    w->d.rows = ROWS;
    w->d.logits_rows = ROWS;
    w->d.kv = LTX_KV_F32;
    w->d.features = 1;
    w->nearest = 1e30;
}
/* The descriptor as it is now, with steps of its own. */
static ltx_session_desc world_plain(const world *w, ltx_step *steps)
{
    ltx_session_desc d = w->d;
    memcpy(steps, w->steps, sizeof w->steps);
    d.plan.steps = steps;
    return d;
}
static void world_free(world *w)
{
    ref_model_free(&w->ref);
    kit_free(w->k);
}

/* ---- the reference ---- */

/* Are row i's peers with larger weights fewer than `most`? */
static int among(world *w, const part *p, int n, int i, int most)
{
    int better = 0;
    for (int j = 0; j < n; j++) {
        if (j == i || p[j].gone || p[j].kind != p[i].kind) continue;
        better += p[j].weight > p[i].weight;
        w->nearest = fmin(w->nearest, fabs(p[j].weight - p[i].weight));
    }
    return better < most;
}
static int peers(const part *p, int n, int kind)
{
    int count = 0;
    for (int i = 0; i < n; i++) count += p[i].kind == kind;
    return count;
}
static void share_of_router(world *w, const ltx_step *st, part *p, int n, int many)
{
    const double *row = w->ref.layers[st->layer].router.w;
    for (int i = 0; i < n; i++) {
        double z = 0;
        for (int j = 0; j < w->ref.dim; j++) z += row[j] * p[i].h[j];
        p[i].weight = 1 / (1 + exp(-z));
    }
    for (int i = 0; i < n; i++) {
        int most = (int)(-st->route * (float)(many ? peers(p, n, p[i].kind) : 1));
        p[i].in = among(w, p, n, i, most > 1 ? most : 1) || (peers(p, n, 0) < n && p[i].kind == 0) || (st->run & LTX_PROMPT && p[i].wanted);
    }
}
/* Attention that the last row pays, at the positions that the step before used. */
static void pay(world *w, const ltx_step *st, part *p, int n, int renumbered)
{
    const ref_model *m = &w->ref;
    const ref_layer *l = &m->layers[st->layer];
    int width = m->n_kv_heads * m->head_dim, number = 0, last = n - 1;
    double *a = ref_new(m->dim), *keys = ref_new(n * width), *q = ref_new(m->n_heads * m->head_dim), *score = ref_new(n);
    for (int i = 0; i < n; i++) {
        if (p[i].gone) continue;
        int at = renumbered ? number++ : p[i].position;
        ref_norm_before(m, p[i].h, &l->attn_norm, &l->attn_norm_bias, a);
        ref_product(&l->wk, &l->bk, a, 0, keys + i * width);
        ref_heads(m, keys + i * width, m->n_kv_heads, &l->k_norm, at);
        if (i == last) { ref_product(&l->wq, &l->bq, a, 0, q); ref_heads(m, q, m->n_heads, &l->q_norm, at); }
        p[i].weight = 0;
    }
    for (int h = 0; h < m->n_heads; h++) {
        int count = 0;
        for (int i = 0; i < n; i++) {
            if (p[i].gone) continue;
            score[count] = 0;
            for (int j = 0; j < m->head_dim; j++) score[count] += q[h * m->head_dim + j] * keys[i * width + h / (m->n_heads / m->n_kv_heads) * m->head_dim + j];
            score[count++] *= m->attn_scale;
        }
        ref_softmax(score, count);
        for (int i = 0, c = 0; i < n; i++) if (!p[i].gone) p[i].weight += score[c++] / m->n_heads;
    }
    free(a); free(keys); free(q); free(score);
}
static void ask_kinds(world *w, part *p, int n, int depth)
{
    for (int kind = 0; kind < LTX_KINDS; kind++) {
        double sum = 0;
        int count = 0;
        for (int i = 0; i < n; i++) if (p[i].kind == kind && !p[i].left) {
            sum += ref_dot(p[i].h, p[i].before, w->ref.dim) / sqrt(ref_dot(p[i].h, p[i].h, w->ref.dim) * ref_dot(p[i].before, p[i].before, w->ref.dim));
            count++;
        }
        if (count == 0) continue;
        w->nearest = fmin(w->nearest, fabs(sum / count - (double)w->d.policy.kinds[kind]));
        for (int i = 0; i < n; i++) if (p[i].kind == kind && !p[i].left && sum / count >= (double)w->d.policy.kinds[kind]) { p[i].left = 1; p[i].depth = depth; }
    }
}
static void batch_run(world *w, ref_state *s, part *p, int n, int many)
{
    const ltx_plan *plan = &w->d.plan;
    for (int i = 0; i < plan->count; i++) {
        const ltx_step *st = &plan->steps[i];
        if (st->keep > 0 && many) {
            pay(w, st, p, n, i > 0 && st[-1].run & LTX_RENUMBER);
            int keep[ROWS];
            for (int j = 0; j < n; j++) keep[j] = p[j].gone || p[j].kind == 0 || p[j].wanted || among(w, p, n, j, (int)(st->keep * (float)peers(p, n, p[j].kind)));
            for (int j = 0; j < n; j++) p[j].gone |= !keep[j];
        }
        if (st->route < 0) share_of_router(w, st, p, n, many);
        for (int j = 0; j < n; j++) {
            s->position = p[j].position;
            s->weight = p[j].weight;
            memcpy(p[j].before, p[j].h, sizeof(double) * (size_t)w->ref.dim);
            if (p[j].gone || (st->route < 0 && !p[j].in)) continue;
            if (p[j].left) { if (plan->fill == LTX_FILL_PROJECT && st->run & LTX_ATTN) ref_project(s, st, p[j].position, p[j].h); }
            else ref_run_step(s, plan, i, p[j].h, p[j].base, p[j].wanted);
        }
        if (w->d.policy.by_kind && i + 1 < plan->count) ask_kinds(w, p, n, i + 1);
    }
}

/* ---- a prompt as one batch and some tokens after it, against the reference ---- */

static void near(const float *got, const double *want, int n)
{
    double top = 0;
    for (int i = 0; i < n; i++) top = fmax(top, fabs(want[i]));
    for (int i = 0; i < n; i++) CHECK_NEAR(got[i], want[i], 2e-5 * top);
}
static void compare(world *w, ref_state *ref, const part *p, int n, const ltx_output *out, int first)
{
    double *logits = ref_new(w->ref.vocab), *normed = ref_new(w->ref.dim);
    for (int i = 0, row = 0; i < n; i++) {
        if (out->features != NULL && !p[i].gone) {
            ref_norm(&w->ref, p[i].h, &w->ref.out_norm, &w->ref.out_norm_bias, normed);
            near(out->features + (size_t)i * (size_t)w->ref.dim, normed, w->ref.dim);
        }
        if (!p[i].wanted) continue;
        ref_head(ref, p[i].h, logits);
        near(out->logits + (size_t)(row++) * (size_t)w->ref.vocab, logits, w->ref.vocab);
        if (first && w->d.policy.by_kind) CHECK_EQ(out->depth[row - 1], p[i].left ? p[i].depth : w->d.plan.count);
    }
    free(logits);
    free(normed);
}
/* Returns 0 where a decision was too near to call. */
static int check_world(world *w, ltx_stats *st)
{
    ref_options exact = {0, REF_KV_EXACT, 0, 0};
    ref_state *ref = ref_open(&w->ref, &exact);
    kit_session k = kit_open(&w->k->m, &w->d);
    part p[ROWS];
    uint8_t want[ROWS] = {0};
    want[ROWS - 1] = want[ROWS - 2] = 1;
    w->nearest = 1e30;
    memset(p, 0, sizeof p);
    for (int i = 0; i < ROWS; i++) {
        p[i].kind = w->kind[i]; p[i].wanted = want[i];
        p[i].h = ref_new(w->ref.dim); p[i].base = ref_new(w->ref.dim); p[i].before = ref_new(w->ref.dim);
    }
    for (int at = 0; at < ROWS + MORE; at += at == 0 ? ROWS : 1) {
        int n = at == 0 ? ROWS : 1;
        ltx_batch b = {.tokens = w->tokens + at, .count = n, .logits = 1, .want = at == 0 ? want : NULL, .kind = at == 0 ? w->kind : NULL, .features = at == 0};
        ltx_output out;
        for (int i = 0; i < n; i++) {
            part *r = &p[i];
            r->position = at + i; r->gone = r->left = 0;
            if (at > 0) { r->kind = 0; r->wanted = 1; }
            memcpy(r->h, w->ref.embed.w + (size_t)w->tokens[at + i] * (size_t)w->ref.dim, sizeof(double) * (size_t)w->ref.dim);
        }
        if (at > 0 && w->d.policy.by_kind) break; /* later rows have other peers */
        batch_run(w, ref, p, n, at == 0);
        if (!CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_OK) || w->nearest < 1e-6) break;
        compare(w, ref, p, n, &out, at == 0);
    }
    ltx_session_stats(k.s, st);
    CHECK_EQ(st->attn_rows, ref->attn_rows);
    CHECK_EQ(st->ffn_rows, ref->ffn_rows);
    CHECK_EQ(st->attended, ref->attended);
    for (int i = 0; i < ROWS; i++) { free(p[i].h); free(p[i].base); free(p[i].before); }
    kit_close(&k);
    ref_close(ref);
    return w->nearest >= 1e-6;
}
/* The logits of two descriptors are the same bits, rows fed in one batch. */
static void check_same(world *w, const ltx_session_desc *a, const ltx_session_desc *b)
{
    kit_session ka = kit_open(&w->k->m, a), kb = kit_open(&w->k->m, b);
    ltx_batch all = {.tokens = w->tokens, .count = ROWS, .logits = ROWS, .kind = w->kind};
    ltx_output oa, ob;
    CHECK_EQ(ltx_eval_batch(ka.s, &all, &oa), LTX_OK);
    CHECK_EQ(ltx_eval_batch(kb.s, &all, &ob), LTX_OK);
    CHECK(memcmp(oa.logits, ob.logits, (size_t)ROWS * (size_t)w->k->m.vocab * 4) == 0);
    kit_close(&ka);
    kit_close(&kb);
}

/* ---- tests ---- */

static void shares_of_routers(void)
{
    int checked = 0;
    uint64_t skipped = 0;
    for (int c = 0; c < 12; c++) {
        world w;
        world_make(&w, 401 + (uint64_t)c, 1);
        ltx_step full[KIT_LAYERS];
        ltx_session_desc plain = world_plain(&w, full);
        ltx_stats st;
        for (int i = 0; i < w.d.plan.count; i++) w.steps[i].route = -1.0f;
        check_same(&w, &plain, &w.d); /* everybody is let in */
        w.steps[0].route = 0; /* equal tokens are equal there */
        for (int i = 1; i < w.d.plan.count; i++) {
            w.steps[i].route = c % 3 == 0 ? -0.25f : -0.5f;
            w.steps[i].run |= (uint8_t)((c % 4 == 1 ? LTX_WEIGH : c % 4 == 3 ? LTX_WEIGH_FFN : 0) | (c % 4 == 2 ? LTX_RENUMBER : 0) | (c >= 6 ? LTX_PROMPT : 0));
        }
        if (c % 5 == 4) memset(w.kind, 0, sizeof w.kind); /* one kind only: it is ranked itself */
        checked += check_world(&w, &st);
        if (w.nearest >= 1e-6) CHECK_EQ(st.skipped + st.attn_rows, (uint64_t)(ROWS + MORE) * (uint64_t)w.d.plan.count);
        skipped += st.skipped;
        world_free(&w);
    }
    CHECK(checked >= 10);
    CHECK(skipped > 200);
}

/* A share is one of those that came together: rows that wait, drafts and other texts are not of the company. */
static void shares_are_of_a_company(void)
{
    for (int c = 0; c < 6; c++) {
        world w;
        world_make(&w, 541 + (uint64_t)c, 1);
        ltx_step full[KIT_LAYERS];
        ltx_session_desc plain = world_plain(&w, full), deferred;
        ltx_sampler greedy = {0};
        ltx_token out[8];
        int32_t text[40], n = 1, count;
        for (int i = 1; i < w.d.plan.count; i++) w.steps[i].route = -0.5f;
        w.d.draft_max = 4;
        w.d.draft = kit_draft(2, 4, 0.05f, 0.0f);
        kit_session k = kit_open(&w.k->m, &w.d);
        text[0] = 3;
        while (n < 32 && CHECK_EQ(ltx_decode(k.s, &greedy, text[n - 1], out, 8, &count), LTX_OK)) for (int i = 0; i < count; i++) text[n++] = out[i].id;
        ltx_draft none = {0};
        CHECK_EQ(ltx_set_draft(k.s, &none), LTX_OK);
        CHECK_EQ(ltx_rewind(k.s, 0), LTX_OK);
        for (int i = 0; i + 1 < n; i++) {
            CHECK_EQ(ltx_decode(k.s, &greedy, text[i], out, 1, &count), LTX_OK);
            CHECK_EQ(out[0].id, text[i + 1]);
        }
        kit_close(&k);
        /* everybody is let in, so deferring changes nothing; and text beside a text with images is text */
        for (int i = 1; i < w.d.plan.count; i++) w.steps[i].route = -1.0f;
        deferred = w.d;
        deferred.draft_max = 0; deferred.draft = none;
        deferred.plan.fill = LTX_FILL_DEFER;
        deferred.sequences = 2;
        for (int i = 0; i < w.d.plan.count; i++) w.steps[i].gate = full[i].gate = i < 3;
        deferred.policy.rule = plain.policy.rule = LTX_EXIT_PROB;
        deferred.policy.threshold = plain.policy.threshold = 0.6f;
        plain.plan.fill = LTX_FILL_DEFER;
        kit_session a = kit_open(&w.k->m, &plain), b = kit_open(&w.k->m, &deferred);
        for (int i = 0; i < 20; i++) {
            const int32_t sequence[3] = {0, 1, 1}, tokens[3] = {text[i], 1, 2};
            const uint8_t want[3] = {1, 0, 0}, kind[3] = {0, 1, 1};
            const float *logits;
            ltx_batch both = {.tokens = tokens, .count = 3, .sequence = sequence, .want = want, .kind = kind};
            ltx_output o;
            CHECK_EQ(ltx_eval(a.s, &text[i], 1, &logits), LTX_OK);
            if (CHECK_EQ(ltx_eval_batch(b.s, &both, &o), LTX_OK)) CHECK(memcmp(logits, o.logits, (size_t)w.k->m.vocab * 4) == 0);
        }
        kit_close(&a);
        kit_close(&b);
        world_free(&w);
    }
}

static void rows_that_are_not_kept(void)
{
    int checked = 0;
    for (int c = 0; c < 12; c++) {
        world w;
        world_make(&w, 421 + (uint64_t)c, 0);
        ltx_step full[KIT_LAYERS];
        ltx_session_desc plain = world_plain(&w, full);
        ltx_stats st;
        w.steps[1].keep = w.steps[3].keep = 1.0f;
        check_same(&w, &plain, &w.d); /* all stay */
        w.steps[1].keep = 0.5f;
        w.steps[3].keep = c % 3 == 0 ? 0.01f : 0.25f;
        for (int i = 1; i < w.d.plan.count && c % 2; i++) w.steps[i].run |= LTX_RENUMBER;
        if (c >= 6) w.steps[2].run |= LTX_BESIDE;
        checked += check_world(&w, &st);
        if (w.nearest >= 1e-6) CHECK_EQ(st.dropped, c % 3 == 0 ? 18 : 18 - 4); /* 10 and 8 rows of two kinds: 5 + 4, then none or 2 + 2 */
        world_free(&w);
    }
    CHECK(checked >= 10);
}

static void shared_caches(void)
{
    for (int c = 0; c < 6; c++) {
        world w;
        world_make(&w, 441 + (uint64_t)c, 0);
        ltx_stats st, own;
        ltx_session_needs with, without;
        CHECK_EQ(check_world(&w, &own), 1);
        CHECK_EQ(ltx_session_need(&w.k->m, &w.d, &without), LTX_OK);
        memset(w.kind, 0, sizeof w.kind);
        for (int i = 1; i < 4; i += 2) { w.steps[i].run |= LTX_SHARE; w.steps[i].cache = (int16_t)i; } /* 1 reads what 0 fills, 3 what 2 does */
        if (c % 2) for (int i = 0; i < 4; i++) w.steps[i].run |= LTX_RENUMBER;
        if (c == 4) w.steps[3].cache = 1;
        if (c >= 3) { memset(&w.k->layers[1].wk, 0, sizeof(ltx_mat)); memset(&w.k->layers[1].wv, 0, sizeof(ltx_mat)); }
        ref_model_free(&w.ref);
        ref_model_load(&w.k->m, &w.ref);
        CHECK_EQ(check_world(&w, &st), 1);
        CHECK_EQ(st.attn_rows, own.attn_rows);
        CHECK(st.weight_bytes < own.weight_bytes);
        CHECK_EQ(ltx_session_need(&w.k->m, &w.d, &with), LTX_OK);
        CHECK_EQ(with.cache.size * 5, without.cache.size * 3); /* three of five layers have a cache */
        w.steps[0].run = LTX_FFN;
        CHECK_EQ(ltx_session_need(&w.k->m, &w.d, &with), LTX_E_ARG); /* nothing fills it any more */
        if (c >= 3) { w.d.plan.steps = NULL; CHECK_EQ(ltx_session_need(&w.k->m, &w.d, &with), LTX_E_ARG); }
        world_free(&w);
    }
}

static void exits_by_kind(void)
{
    int checked = 0, left = 0;
    for (int c = 0; c < 12; c++) {
        world w;
        world_make(&w, 461 + (uint64_t)c, 0);
        ltx_session_desc plain = w.d;
        ltx_stats st;
        for (int i = 0; i < w.d.plan.count; i++) w.steps[i].gate = 1;
        w.d.plan.fill = c % 2 ? LTX_FILL_NONE : LTX_FILL_PROJECT;
        w.d.policy.rule = LTX_EXIT_COSINE;
        w.d.policy.all_rows = w.d.policy.by_kind = 1;
        w.d.policy.kinds[0] = 1.1f; w.d.policy.kinds[1] = 2.0f; w.d.policy.kinds[2] = 1.5f;
        check_same(&w, &plain, &w.d); /* nobody reaches that */
        w.d.policy.kinds[0] = c % 3 == 0 ? 1.1f : 0.85f; w.d.policy.kinds[1] = 0.7f; w.d.policy.kinds[2] = 0.8f;
        checked += check_world(&w, &st);
        left += (int)st.exits;
        world_free(&w);
    }
    CHECK(checked >= 10);
    CHECK(left > 50);
}

/* Depths never grow, so that nobody looks where a row has left nothing. */
static void depths_that_never_grow(void)
{
    world w;
    world_make(&w, 481, 0);
    for (int i = 0; i < w.d.plan.count; i++) w.steps[i].gate = 1;
    w.d.policy.rule = LTX_EXIT_PROB;
    w.d.policy.threshold = 0.5f;
    w.d.policy.monotone = 1;
    w.d.rows = 8;
    w.d.logits_rows = 1;
    ltx_session_desc deferred = w.d;
    w.d.plan.fill = LTX_FILL_NONE;
    deferred.plan.fill = LTX_FILL_DEFER;
    kit_session a = kit_open(&w.k->m, &w.d), b = kit_open(&w.k->m, &deferred);
    int changes = 0, before = w.d.plan.count;
    for (int i = 0; i < 60; i++) {
        int32_t token = (i * 7 + 3) % w.k->m.vocab;
        ltx_batch one = {.tokens = &token, .count = 1, .logits = 1};
        ltx_output oa, ob;
        CHECK_EQ(ltx_eval_batch(a.s, &one, &oa), LTX_OK);
        CHECK_EQ(ltx_eval_batch(b.s, &one, &ob), LTX_OK);
        CHECK(memcmp(oa.logits, ob.logits, (size_t)w.k->m.vocab * 4) == 0);
        CHECK_EQ(oa.depth[0], ob.depth[0]);
        CHECK(oa.depth[0] <= before);
        changes += oa.depth[0] < before;
        before = oa.depth[0];
    }
    CHECK(changes >= 1);
    CHECK_EQ(ltx_rewind(a.s, 0), LTX_OK);
    int32_t more[3] = {1, 2, 3}; /* a prompt, of which nobody wants logits, and a rule that says no: they go no deeper either */
    ltx_policy never = {0};
    ltx_stats st;
    never.monotone = 1;
    CHECK_EQ(ltx_set_policy(b.s, &never), LTX_OK);
    CHECK_EQ(ltx_flush(b.s), LTX_OK);
    ltx_stats_reset(b.s);
    CHECK_EQ(ltx_eval(b.s, more, 3, NULL), LTX_OK);
    ltx_session_stats(b.s, &st);
    CHECK_EQ(st.ffn_rows, 3 * before);
    CHECK_EQ(ltx_set_policy(a.s, &never), LTX_OK);
    ltx_batch all = {.tokens = w.tokens, .count = 8, .logits = 1};
    ltx_output out;
    CHECK_EQ(ltx_eval_batch(a.s, &all, &out), LTX_OK);
    CHECK_EQ(out.depth[0], w.d.plan.count); /* a new text */
    kit_close(&a);
    kit_close(&b);
    world_free(&w);
}

static void embeddings_of_texts(void)
{
    for (int c = 0; c < 9; c++) {
        world w;
        world_make(&w, 501 + (uint64_t)c, 0);
        int pool = c % 3, size = c < 3 ? w.k->m.dim : 17, n = 9 + c;
        w.d.plan.count = 2 + c % 4; /* from so many layers */
        w.k->m.both_ways = c >= 6;
        kit_session k = kit_open(&w.k->m, &w.d);
        ltx_batch b = {.tokens = w.tokens, .count = n, .features = 1};
        ltx_output out;
        float *got = (float *)test_malloc((size_t)size * 4);
        double *sum = ref_new(w.ref.dim), length = 0;
        CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_OK);
        for (int i = pool == LTX_POOL_LAST ? n - 1 : 0; i < (pool == LTX_POOL_FIRST ? 1 : n); i++)
            for (int j = 0; j < w.ref.dim; j++) sum[j] += (double)out.features[(size_t)i * (size_t)w.ref.dim + (size_t)j];
        for (int j = 0; j < size; j++) length += sum[j] * sum[j];
        for (int j = 0; j < size; j++) sum[j] /= sqrt(length);
        for (int again = 0; again < 2; again++) { /* a text more does not disturb it */
            CHECK_EQ(ltx_embed(k.s, &b, pool, size, got), LTX_OK);
            near(got, sum, size);
        }
        CHECK_EQ(ltx_position(k.s), n);
        CHECK_EQ(ltx_embed(k.s, &b, 3, size, got), LTX_E_ARG);
        CHECK_EQ(ltx_embed(k.s, &b, pool, w.ref.dim + 1, got), LTX_E_ARG);
        CHECK_EQ(ltx_embed(k.s, &b, pool, 0, got), LTX_E_ARG);
        free(got);
        free(sum);
        kit_close(&k);
        w.k->m.both_ways = 0;
        w.d.features = 0;
        k = kit_open(&w.k->m, &w.d);
        CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_E_ARG); /* no memory for them */
        CHECK_EQ(ltx_position(k.s), 0);
        kit_close(&k);
        world_free(&w);
    }
}

/* Exits with norms and heads of their own, against the reference; absent ones are the model's. */
static void heads_of_exits(void)
{
    world w;
    world_make(&w, 561, 0);
    test_rng r = {562};
    ltx_exit exits[KIT_LAYERS], absent[KIT_LAYERS];
    memset(exits, 0, sizeof exits);
    memset(absent, 0, sizeof absent);
    for (int i = 0; i < w.d.plan.count; i++) w.steps[i].gate = 1;
    w.d.policy.rule = LTX_EXIT_ALWAYS;
    w.d.plan.fill = LTX_FILL_DEFER;
    kit_session plain = kit_open(&w.k->m, &w.d);
    w.k->m.exit_heads = absent;
    kit_session shared = kit_open(&w.k->m, &w.d); /* nothing is its own */
    w.k->m.exit_heads = exits;
    exits[0].norm = kit_positive(w.k, w.k->m.dim, &r);
    exits[0].head = kit_mat(w.k, LTX_F32, w.k->m.vocab, w.k->m.dim, 0, &r);
    exits[4].head = kit_mat(w.k, LTX_Q8_0, w.k->m.vocab, w.k->m.dim, 0, &r);
    kit_session own = kit_open(&w.k->m, &w.d);
    ref_options exact = {0, REF_KV_EXACT, 0, 0};
    ref_state *s = ref_open(&w.ref, &exact);
    ref_model m = w.ref; /* the same model with other eyes */
    m.out_norm = ref_mat_load(&exits[0].norm);
    m.head = ref_mat_load(&exits[0].head);
    ltx_plan one = w.d.plan;
    one.count = 1;
    double *logits = ref_new(w.ref.vocab);
    for (int i = 0; i < 12; i++) {
        ltx_batch b = {.tokens = &w.tokens[i], .count = 1, .logits = 1, .features = 1};
        ltx_output a, c, o;
        ref_input in = {w.tokens[i], NULL, 1};
        ref_outcome outcome;
        CHECK_EQ(ltx_eval_batch(plain.s, &b, &a), LTX_OK);
        CHECK_EQ(ltx_eval_batch(shared.s, &b, &c), LTX_OK);
        CHECK_EQ(ltx_eval_batch(own.s, &b, &o), LTX_OK);
        CHECK(memcmp(a.logits, c.logits, (size_t)w.k->m.vocab * 4) == 0);
        CHECK(memcmp(a.logits, o.logits, (size_t)w.k->m.vocab * 4) != 0);
        CHECK_EQ(o.depth[0], 1);
        s->m = &m;
        ref_row_run(s, &one, NULL, &in, logits, &outcome);
        near(o.logits, logits, w.k->m.vocab);
        s->m = &w.ref;
    }
    /* drafts by that exit, verified by the last one's own head */
    ltx_sampler greedy = {0};
    ltx_token out[8];
    int32_t text[40] = {3}, n = 1, count;
    kit_close(&own);
    w.d.policy.rule = LTX_EXIT_NEVER;
    w.d.draft_max = 4;
    w.d.draft = kit_draft(1, 4, 1e-6f, 0.0f);
    own = kit_open(&w.k->m, &w.d);
    while (n < 30 && CHECK_EQ(ltx_decode(own.s, &greedy, text[n - 1], out, 8, &count), LTX_OK)) for (int i = 0; i < count; i++) text[n++] = out[i].id;
    ltx_draft none = {0};
    CHECK_EQ(ltx_set_draft(own.s, &none), LTX_OK);
    CHECK_EQ(ltx_rewind(own.s, 0), LTX_OK);
    for (int i = 0; i + 1 < n; i++) {
        CHECK_EQ(ltx_decode(own.s, &greedy, text[i], out, 1, &count), LTX_OK);
        CHECK_EQ(out[0].id, text[i + 1]);
    }
    exits[2].norm = exits[0].norm;
    exits[2].norm.cols--;
    CHECK_EQ(ltx_model_check(&w.k->m, NULL), LTX_E_MODEL);
    exits[2].norm.cols++;
    CHECK_EQ(ltx_model_check(&w.k->m, NULL), LTX_OK);
    const unsigned char ids[4] = {1, 0, 0, 0};
    w.k->m.draft_ids = ids; w.k->m.n_draft_ids = 1;
    CHECK_EQ(ltx_model_check(&w.k->m, NULL), LTX_E_MODEL); /* a shortlist is of one head */
    free((void *)(uintptr_t)m.out_norm.w);
    free((void *)(uintptr_t)m.head.w);
    free(logits);
    ref_close(s);
    kit_close(&plain);
    kit_close(&shared);
    kit_close(&own);
    world_free(&w);
}

static void depths_by_budget(void)
{
    world w;
    world_make(&w, 521, 0);
    uint64_t layer[KIT_LAYERS], head = (uint64_t)w.k->m.vocab * (uint64_t)w.k->m.dim * 4, sum = head;
    for (int i = 0; i < w.k->m.n_layers; i++) {
        const ltx_layer *l = &w.k->layers[i];
        const ltx_mat *m[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->w_gate, &l->w_up, &l->w_down};
        layer[i] = 0;
        for (int j = 0; j < 7; j++) layer[i] += (uint64_t)m[j]->rows * (uint64_t)m[j]->cols * 4;
    }
    for (int n = 0; n <= w.k->m.n_layers; n++) {
        int32_t count = w.d.plan.count;
        CHECK_EQ(ltx_plan_bytes(&w.k->m, w.steps, n), sum);
        CHECK_EQ(ltx_plan_within(&w.k->m, w.steps, &count, sum), n == 0 ? LTX_E_FULL : LTX_OK);
        if (n > 0) CHECK_EQ(count, n);
        count = w.d.plan.count;
        CHECK_EQ(ltx_plan_within(&w.k->m, w.steps, &count, sum - 1), n < 2 ? LTX_E_FULL : LTX_OK);
        if (n > 1) CHECK_EQ(count, n - 1);
        if (n < w.k->m.n_layers) sum += layer[n];
    }
    int32_t count = w.d.plan.count;
    w.k->m.exits[0] = 1u << 1 | 1u << 3; /* trained to exit after layers 1 and 3 */
    CHECK_EQ(ltx_plan_within(&w.k->m, w.steps, &count, head + layer[0] + layer[1] + layer[2]), LTX_OK);
    CHECK_EQ(count, 2);
    CHECK_EQ(ltx_plan_within(&w.k->m, w.steps, &count, head + layer[0]), LTX_E_FULL);
    CHECK_EQ(count, 2);
    world_free(&w);
}

int main(void)
{
    test_begin("test_rows");
    TEST(shares_of_routers);
    TEST(shares_are_of_a_company);
    TEST(rows_that_are_not_kept);
    TEST(shared_caches);
    TEST(exits_by_kind);
    TEST(depths_that_never_grow);
    TEST(embeddings_of_texts);
    TEST(heads_of_exits);
    TEST(depths_by_budget);
    return test_end();
}
