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
    int depth[ROWS]; /* of the rows of the prompt, as the reference has it */
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
/* A step of an encoder without rope: keys and values of all rows first, then everybody attends as the last one does. */
static void step_both_ways(world *w, ref_state *s, const ltx_step *st, part *p, int n)
{
    ltx_step look = *st;
    look.run |= LTX_SHARE; /* to the reference: they are there already */
    for (int j = 0; j < n; j++) if (!p[j].left || w->d.plan.fill == LTX_FILL_PROJECT) ref_project(s, st, p[j].position, p[j].h);
    for (int j = 0; j < n; j++) {
        memcpy(p[j].before, p[j].h, sizeof(double) * (size_t)w->ref.dim);
        if (p[j].left) continue;
        ref_attention(s, &look, p[n - 1].position, p[j].h, p[j].h);
        ref_ffn(s, st, p[j].h, p[j].h);
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
        if (w->k->m.both_ways) step_both_ways(w, s, st, p, n);
        for (int j = 0; j < n && !w->k->m.both_ways; j++) {
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
        for (int i = 0; at == 0 && i < n; i++) w->depth[i] = p[i].left ? p[i].depth : w->d.plan.count;
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

/* ---- counters, from the depths at which rows stop ---- */

enum { TEXTS = 2, PLACES = 64 };
typedef struct tally {
    const world *w;
    ltx_stats st;
    int n[TEXTS], depth[TEXTS][PLACES];
} tally;

/* Is there something of a text's row in the cache that step `filler` fills? */
static int tally_has(const tally *t, int q, int p, int filler) { return t->depth[q][p] > filler || t->w->d.plan.fill == LTX_FILL_PROJECT; }
/* One attention step of one text: what the call's rows, those from position `first` on, see. Up to eight of them read together. */
static void tally_attention(tally *t, int q, int first, int step, int filler)
{
    const ltx_model *m = &t->w->k->m;
    uint64_t seen = 0, together = 0, slot = (uint64_t)(m->n_kv_heads * m->head_dim) * (t->w->d.kv == LTX_KV_F32 ? 4 : t->w->d.kv == LTX_KV_F16 ? 2 : 1) * 2;
    for (int p = first; p < t->n[q]; p++) {
        if (t->depth[q][p] <= step) continue;
        seen = 0;
        for (int i = 0; i < (m->both_ways ? t->n[q] : p + 1); i++) seen += (uint64_t)tally_has(t, q, i, filler);
        t->st.attended += seen;
        if (++together % 8 == 0) t->st.kv_bytes += seen * slot;
    }
    if (together % 8) t->st.kv_bytes += seen * slot;
}
/* A call: rows of texts (NULL = all of the first) that stop at these depths; those that want logits (NULL = the last one) have them read there. Not for LTX_FILL_DEFER. */
static void tally_call(tally *t, const int *text, const int *depth, const uint8_t *want, int n)
{
    const world *w = t->w;
    const ltx_plan *plan = &w->d.plan;
    int first[TEXTS];
    memcpy(first, t->n, sizeof first);
    for (int i = 0; i < n; i++) {
        int q = text ? text[i] : 0, alone = 1;
        t->depth[q][t->n[q]++] = depth[i];
        t->st.tokens++;
        t->st.exits += depth[i] < plan->count;
        if (want ? !want[i] : i + 1 < n) continue;
        t->st.head_rows++;
        for (int j = 0; want && j < i; j++) alone &= !(want[j] && depth[j] == depth[i]); /* who stops at the same gate shares the reading of the head */
        if (alone) t->st.weight_bytes += kit_mat_bytes(&w->k->m.embed);
    }
    for (int s = 0; s < plan->count; s++) {
        const ltx_step *st = &plan->steps[s];
        const ltx_layer *l = &w->k->layers[st->layer];
        int filler = s, full = 0, own = (st->run & (LTX_ATTN | LTX_SHARE)) == LTX_ATTN;
        for (int j = 0; st->run & LTX_SHARE && j < s; j++) if ((plan->steps[j].run & (LTX_ATTN | LTX_SHARE)) == LTX_ATTN && (plan->steps[j].cache ? plan->steps[j].cache - 1 : plan->steps[j].layer) == st->cache - 1) filler = j;
        for (int i = 0; i < n; i++) full += depth[i] > s;
        if (st->run & LTX_ATTN) for (int q = 0; q < TEXTS; q++) tally_attention(t, q, first[q], s, filler);
        t->st.attn_rows += st->run & LTX_ATTN ? (uint64_t)full : 0;
        t->st.ffn_rows += st->run & LTX_FFN ? (uint64_t)full : 0;
        t->st.fill_rows += own && plan->fill == LTX_FILL_PROJECT ? (uint64_t)(n - full) : 0;
        if (full > 0) t->st.weight_bytes += kit_run_bytes(l, st->run) - (st->run & LTX_SHARE ? kit_kv_bytes(l) : 0);
        else if (own && plan->fill == LTX_FILL_PROJECT) t->st.weight_bytes += kit_kv_bytes(l);
    }
}
static void tally_check(const tally *t, const ltx_stats *got)
{
    const ltx_stats *want = &t->st;
    CHECK_EQ(got->tokens, want->tokens);
    CHECK_EQ(got->attn_rows, want->attn_rows);
    CHECK_EQ(got->ffn_rows, want->ffn_rows);
    CHECK_EQ(got->fill_rows, want->fill_rows);
    CHECK_EQ(got->head_rows, want->head_rows);
    CHECK_EQ(got->weight_bytes, want->weight_bytes);
    CHECK_EQ(got->kv_bytes, want->kv_bytes);
    CHECK_EQ(got->attended, want->attended);
    CHECK_EQ(got->exits, want->exits);
    CHECK_EQ(got->skipped + got->dropped + got->rounds + got->drafted + got->accepted, 0);
}

/* A gate of the test's own: who leaves where. */
typedef struct wishes { int depth[TEXTS][PLACES]; } wishes; /* by text and position; 0 = stays */
static int32_t as_wished(void *user, const ltx_view *v)
{
    const wishes *x = (const wishes *)user;
    return x->depth[v->sequence][v->position] == v->step + 1 ? LTX_LEAVE : LTX_GO;
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

/* Layers 1 and 3 make of the same input the keys and values that 0 and 2 make of it: to share a cache is to spare work. Once layers 1 and 3 stand beside
   those, once after attentions that write nothing. Gates stand where no row leaves between the two. */
static int share_world(world *w, int c)
{
    world_make(w, 611 + (uint64_t)c, 0);
    for (int i = 0; i < 4; i += 2) {
        ltx_layer *to = &w->k->layers[i + 1], *from = &w->k->layers[i];
        to->attn_norm = from->attn_norm; to->wk = from->wk; to->wv = from->wv; to->bk = from->bk; to->bv = from->bv; to->k_norm = from->k_norm;
        w->steps[i + 1].gate = 1;
        if (c % 2 == 0) { w->steps[i + 1].run |= LTX_BESIDE; continue; }
        memset((void *)(uintptr_t)from->wo.data, 0, kit_mat_bytes(&from->wo));
        memset((void *)(uintptr_t)from->bo.data, 0, kit_mat_bytes(&from->bo));
        w->steps[i].run = LTX_ATTN;
    }
    w->d.rows = 12; w->d.logits_rows = 1;
    w->d.plan.fill = c / 2 % 3;
    return c % 4 == 3; /* with a window */
}
/* A shared cache with gaps, of which a window may leave only sinks to some rows of a batch: as one row at a time. */
static void shared_caches_with_gaps(void)
{
    static const int32_t windows[] = {3, 8, 3, 16};
    for (int c = 0; c < 24; c++) {
        enum { TOKENS = 40 };
        kit_shape shape = kit_small;
        shape.format = c % 2 ? LTX_Q8_0 : LTX_F32;
        kit_model *k = kit_make(&shape, 881 + (uint64_t)c);
        ltx_step steps[KIT_LAYERS];
        ltx_session_desc d = {.kv = (int32_t)(LTX_KV_F32 + c % 3), .window = windows[c % 4], .sinks = c % 5 == 4 ? 0 : 2};
        int32_t tokens[TOKENS];
        const float *x = NULL, *y = NULL;
        kit_add_routers(k, &shape, 882 + (uint64_t)c);
        CHECK_EQ(ltx_plan_full(&k->m, steps, KIT_LAYERS, &d.plan.count), LTX_OK);
        steps[1].route = 0.5f;
        steps[3].run |= LTX_SHARE; steps[3].cache = 2;
        d.plan.steps = steps;
        kit_tokens(tokens, TOKENS, k->m.vocab, 883 + (uint64_t)c);
        kit_session a = kit_open(&k->m, &d), b = kit_open(&k->m, &d);
        for (int n = 1; n <= TOKENS; n += 13) {
            CHECK_EQ(ltx_rewind(a.s, 0), LTX_OK);
            CHECK_EQ(ltx_rewind(b.s, 0), LTX_OK);
            CHECK_EQ(ltx_eval(a.s, tokens, n, &x), LTX_OK);
            for (int i = 0; i < n; i++) CHECK_EQ(ltx_eval(b.s, &tokens[i], 1, &y), LTX_OK);
            CHECK(memcmp(x, y, (size_t)k->m.vocab * 4) == 0);
        }
        kit_close(&a); kit_close(&b);
        kit_free(k);
    }
}
static void shared_caches_that_are_the_own_ones(void)
{
    static const int32_t kvs[] = {LTX_KV_F32, LTX_KV_F16, LTX_KV_I8};
    for (int c = 0; c < 12; c++) {
        world w;
        ltx_step own[KIT_LAYERS];
        wishes x;
        int window = share_world(&w, c);
        memset(&x, 0, sizeof x);
        for (int p = 0; p < PLACES; p++) x.depth[0][p] = p % 5 == 3 ? 2 : p % 5 == 1 ? 4 : 0;
        w.d.policy.rule = LTX_EXIT_ASK; w.d.policy.gate = as_wished; w.d.policy.user = &x; w.d.policy.all_rows = c % 3 == 0;
        w.d.kv = kvs[c % 3];
        if (window) { w.d.window = 7; w.d.sinks = 2; }
        ltx_session_desc plain = world_plain(&w, own);
        for (int i = 1; i < 4; i += 2) { w.steps[i].run |= LTX_SHARE; w.steps[i].cache = (int16_t)i; }
        kit_session a = kit_open(&w.k->m, &plain), b = kit_open(&w.k->m, &w.d);
        ltx_stats sa, sb;
        int calls = 0, at = 0;
        for (; at < 44; calls++) {
            int n = calls % 4 == 0 ? 12 : calls % 4 == 1 ? 3 : 1;
            const float *lx = NULL, *ly = NULL;
            int32_t tokens[12];
            for (int i = 0; i < n; i++) tokens[i] = w.tokens[(at + i) % ROWS];
            CHECK_EQ(ltx_eval(a.s, tokens, n, &lx), LTX_OK);
            CHECK_EQ(ltx_eval(b.s, tokens, n, &ly), LTX_OK);
            if (!CHECK(lx && ly && memcmp(lx, ly, (size_t)w.k->m.vocab * 4) == 0)) break;
            at += n;
            if (calls % 5 == 4) {
                at -= 4;
                CHECK_EQ(ltx_rewind(a.s, at), LTX_OK);
                CHECK_EQ(ltx_rewind(b.s, at), LTX_OK);
            }
        }
        CHECK_EQ(ltx_flush(a.s), LTX_OK);
        CHECK_EQ(ltx_flush(b.s), LTX_OK);
        ltx_session_stats(a.s, &sa);
        ltx_session_stats(b.s, &sb);
        CHECK(sa.exits > 5 && sa.weight_bytes > sb.weight_bytes);
        CHECK_EQ(sa.fill_rows > 0, w.d.plan.fill == LTX_FILL_PROJECT);
        if (w.d.plan.fill != LTX_FILL_PROJECT) CHECK_EQ(sa.fill_rows, sb.fill_rows);
        sb.weight_bytes = sa.weight_bytes; /* the other counters: what is spared is making keys and values, not looking at them */
        sb.fill_rows = sa.fill_rows;
        CHECK(memcmp(&sa, &sb, sizeof sa) == 0);
        kit_close(&a);
        kit_close(&b);
        world_free(&w);
    }
}
/* Exits anywhere, between the two as well: what a reader of another's cache finds there is what that step has put in. */
static void counting_shared_caches(void)
{
    for (int c = 0; c < 8; c++) {
        world w;
        static tally t;
        wishes x;
        ltx_stats got;
        world_make(&w, 631 + (uint64_t)c, 0);
        memset(&t, 0, sizeof t);
        memset(&x, 0, sizeof x);
        t.w = &w;
        for (int i = 1; i < 4; i += 2) { w.steps[i].run |= LTX_SHARE; w.steps[i].cache = (int16_t)(c & 4 ? 1 : i); }
        if (c & 4) w.steps[2].run = LTX_FFN; /* 1 and 3 both read what 0 fills */
        for (int i = 0; i < w.d.plan.count; i++) w.steps[i].gate = 1;
        w.d.plan.fill = c & 1 ? LTX_FILL_NONE : LTX_FILL_PROJECT;
        w.d.kv = c & 2 ? LTX_KV_F16 : LTX_KV_F32;
        w.d.policy.rule = LTX_EXIT_ASK; w.d.policy.gate = as_wished; w.d.policy.user = &x; w.d.policy.all_rows = 1;
        kit_session k = kit_open(&w.k->m, &w.d);
        for (int call = 0, at = 0; call < 9; call++) {
            int n = call == 0 ? 11 : call == 5 ? 6 : call == 8 ? 4 : 1, depth[ROWS];
            int32_t tokens[ROWS];
            const float *logits;
            for (int i = 0; i < n; i++) {
                tokens[i] = w.tokens[(at + i) % ROWS];
                depth[i] = (at + i) % 3 == 0 ? w.d.plan.count : 1 + ((at + i) * 2 + c) % w.d.plan.count;
                x.depth[0][at + i] = depth[i] % w.d.plan.count;
            }
            tally_call(&t, NULL, depth, NULL, n);
            at += n;
            CHECK_EQ(ltx_eval(k.s, tokens, n, &logits), LTX_OK);
            ltx_session_stats(k.s, &got);
            tally_check(&t, &got);
        }
        CHECK(t.st.exits > 8);
        CHECK_EQ(t.st.fill_rows > 10, !(c & 1));
        kit_close(&k);
        world_free(&w);
    }
}

/* Exits by kind after every step: with thresholds that nobody reaches, which is as plain, and then with some that many do. */
static void leave_by_kind(world *w, int c)
{
    const ltx_session_desc plain = w->d;
    for (int i = 0; i < w->d.plan.count; i++) w->steps[i].gate = 1;
    w->d.plan.fill = c % 2 ? LTX_FILL_NONE : LTX_FILL_PROJECT;
    w->d.policy.rule = LTX_EXIT_COSINE;
    w->d.policy.all_rows = w->d.policy.by_kind = 1;
    w->d.policy.kinds[0] = 1.1f; w->d.policy.kinds[1] = 2.0f; w->d.policy.kinds[2] = 1.5f;
    check_same(w, &plain, &w->d);
    w->d.policy.kinds[0] = c % 3 == 0 ? 1.1f : 0.85f; w->d.policy.kinds[1] = 0.7f; w->d.policy.kinds[2] = 0.8f;
}

static void exits_by_kind(void)
{
    int checked = 0, left = 0;
    for (int c = 0; c < 12; c++) {
        world w;
        world_make(&w, 461 + (uint64_t)c, 0);
        ltx_stats st;
        leave_by_kind(&w, c);
        checked += check_world(&w, &st);
        left += (int)st.exits;
        world_free(&w);
    }
    CHECK(checked >= 10);
    CHECK(left > 50);
}

/* Both ways: rows of an encoder leave by kind, too; against the reference, and the counters from the depths that it says. */
static void exits_by_kind_both_ways(void)
{
    int checked = 0, left = 0;
    for (int c = 0; c < 12; c++) {
        world w;
        world_make(&w, 651 + (uint64_t)c, 0);
        w.k->m.both_ways = c % 4 != 3; /* some look back only, for the counters */
        if (w.k->m.both_ways) w.k->m.rope_pairs = LTX_ROPE_NONE;
        ref_model_free(&w.ref);
        ref_model_load(&w.k->m, &w.ref);
        ltx_stats st;
        tally t;
        uint8_t want[ROWS] = {0};
        want[ROWS - 1] = want[ROWS - 2] = 1;
        leave_by_kind(&w, c);
        if (check_world(&w, &st)) {
            checked++;
            memset(&t, 0, sizeof t);
            t.w = &w;
            tally_call(&t, NULL, w.depth, want, ROWS);
            tally_check(&t, &st);
        }
        left += (int)st.exits;
        world_free(&w);
    }
    CHECK(checked >= 10);
    CHECK(left > 50);
}
/* Texts side by side: a kind is that of one text. The same as in a session of its own, whatever their order in the batch; one that a hold keeps back meanwhile
   decides when it comes there. */
static void kinds_of_several_texts(void)
{
    int left = 0;
    for (int c = 0; c < 12; c++) {
        world w;
        world_make(&w, 671 + (uint64_t)c, 0);
        w.k->m.both_ways = c % 2;
        for (int i = 0; i < w.d.plan.count; i++) w.steps[i].gate = 1;
        w.d.plan.fill = c / 2 % 3;
        const int hold = c % 4 >= 2 && !(w.k->m.both_ways && w.d.plan.fill == LTX_FILL_DEFER);
        w.d.rows = w.d.logits_rows = 2 * ROWS; w.d.features = 1;
        w.d.policy.rule = LTX_EXIT_COSINE;
        w.d.policy.all_rows = w.d.policy.by_kind = 1;
        w.d.policy.kinds[0] = 0.85f; w.d.policy.kinds[1] = 0.75f; w.d.policy.kinds[2] = 0.8f; w.d.policy.kinds[3] = c % 3 ? 0.82f : 2.0f;
        ltx_session_desc both = w.d;
        both.sequences = TEXTS;
        kit_session all = kit_open(&w.k->m, &both);
        int32_t tokens[2 * ROWS], text[2 * ROWS], n[TEXTS] = {ROWS - 3, ROWS};
        uint8_t kind[2 * ROWS], want[2 * ROWS];
        int at[TEXTS] = {0, 0}, total = n[0] + n[1];
        for (int i = 0; i < total; i++) { /* they come mixed */
            int q = c % 3 == 0 ? i < n[1] : i % 2;
            if (at[q] == n[q]) q = !q;
            text[i] = q;
            tokens[i] = w.tokens[(at[q] * (q + 1)) % ROWS];
            kind[i] = (uint8_t)((w.kind[at[q]] + (at[q] % 7 == 3) + q) % LTX_KINDS);
            want[i] = at[q] % 4 == 3;
            at[q]++;
        }
        if (hold) { CHECK_EQ(ltx_use(all.s, 1), LTX_OK); CHECK_EQ(ltx_hold(all.s, 2), LTX_OK); }
        ltx_batch b = {.tokens = tokens, .count = total, .sequence = text, .kind = kind, .want = want, .features = !hold}, rest = {0};
        ltx_output out = {0}, last;
        ltx_stats sum = {0}, st;
        float *logits = (float *)test_malloc((size_t)(2 * ROWS * w.k->m.vocab) * 4);
        int32_t depth[2 * ROWS], position[2 * ROWS], of[2 * ROWS], rows = 0;
        for (int call = 0; call < 1 + hold; call++) {
            if (call == 1) CHECK_EQ(ltx_hold(all.s, 0), LTX_OK);
            if (!CHECK_EQ(ltx_eval_batch(all.s, call ? &rest : &b, &last), LTX_OK)) break;
            if (call == 0) out = last;
            for (int i = 0; i < last.n_ready; i++, rows++) {
                memcpy(logits + (size_t)rows * (size_t)w.k->m.vocab, last.ready[i].logits, (size_t)w.k->m.vocab * 4);
                depth[rows] = last.ready[i].depth; position[rows] = last.ready[i].position; of[rows] = last.ready[i].sequence;
            }
        }
        CHECK_EQ(rows, n[0] / 4 + n[1] / 4);
        for (int q = 0; q < TEXTS; q++) {
            kit_session one = kit_open(&w.k->m, &w.d);
            int32_t own[ROWS], where[ROWS];
            uint8_t own_kind[ROWS], own_want[ROWS];
            ltx_output o;
            for (int i = 0, j = 0; i < total; i++) if (text[i] == q) { own[j] = tokens[i]; own_kind[j] = kind[i]; where[j] = i; own_want[j++] = want[i]; }
            ltx_batch alone = {.tokens = own, .count = n[q], .kind = own_kind, .want = own_want, .features = 1};
            if (CHECK_EQ(ltx_eval_batch(one.s, &alone, &o), LTX_OK)) {
                for (int i = 0; !hold && i < n[q]; i++) CHECK(memcmp(o.features + (size_t)i * (size_t)w.k->m.dim, out.features + (size_t)where[i] * (size_t)w.k->m.dim, (size_t)w.k->m.dim * 4) == 0);
                for (int i = 0, row = 0; i < n[q]; i++) {
                    if (!own_want[i]) continue;
                    int found = 0;
                    for (int j = 0; j < rows; j++) {
                        if (of[j] != q || position[j] != i) continue;
                        found++;
                        CHECK_EQ(depth[j], o.depth[row]);
                        CHECK(memcmp(logits + (size_t)j * (size_t)w.k->m.vocab, o.logits + (size_t)row * (size_t)w.k->m.vocab, (size_t)w.k->m.vocab * 4) == 0);
                    }
                    CHECK_EQ(found, 1);
                    row++;
                }
            }
            CHECK_EQ(ltx_flush(one.s), LTX_OK);
            ltx_session_stats(one.s, &st);
            sum.tokens += st.tokens; sum.attn_rows += st.attn_rows; sum.ffn_rows += st.ffn_rows; sum.fill_rows += st.fill_rows;
            sum.head_rows += st.head_rows; sum.exits += st.exits; sum.attended += st.attended;
            kit_close(&one);
        }
        CHECK_EQ(ltx_flush(all.s), LTX_OK);
        ltx_session_stats(all.s, &st);
        st.weight_bytes = st.kv_bytes = 0;
        CHECK(memcmp(&st, &sum, sizeof st) == 0);
        left += (int)st.exits;
        free(logits);
        kit_close(&all);
        world_free(&w);
    }
    CHECK(left > 100);
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

/* Nobody leaves, or all leave at one gate: then that depths never grow changes nothing. */
static void depths_that_would_not_grow(void)
{
    for (int c = 0; c < 9; c++) {
        world w;
        world_make(&w, 581 + (uint64_t)c, 0);
        ltx_step full[KIT_LAYERS];
        ltx_stats sa, sb;
        w.steps[c % 3].gate = w.steps[3].gate = 1;
        w.d.plan.fill = c / 3;
        w.d.rows = 8; w.d.logits_rows = 1;
        ltx_session_desc plain = world_plain(&w, full);
        w.d.policy.monotone = 1;
        if (c % 3 == 0) { w.d.policy.rule = LTX_EXIT_PROB; w.d.policy.threshold = 2.0f; }
        if (c % 3 == 1) w.d.policy.rule = plain.policy.rule = LTX_EXIT_ALWAYS;
        kit_session a = kit_open(&w.k->m, &plain), b = kit_open(&w.k->m, &w.d);
        for (int at = 0, n; at < ROWS; at += n) {
            const float *x = NULL, *y = NULL;
            n = at == 0 && c % 3 != 1 ? 7 : 1; /* of a prompt only the last row leaves, and it does that first: such rows one by one */
            CHECK_EQ(ltx_eval(a.s, w.tokens + at, n, &x), LTX_OK);
            CHECK_EQ(ltx_eval(b.s, w.tokens + at, n, &y), LTX_OK);
            CHECK(x && y && memcmp(x, y, (size_t)w.k->m.vocab * 4) == 0);
        }
        ltx_session_stats(a.s, &sa);
        ltx_session_stats(b.s, &sb);
        if (c % 3 == 0) { sb.weight_bytes -= (sb.head_rows - sa.head_rows) * kit_mat_bytes(&w.k->m.embed); sb.head_rows = sa.head_rows; } /* looking costs heads */
        CHECK(memcmp(&sa, &sb, sizeof sa) == 0);
        CHECK_EQ(sb.exits, c % 3 == 1 ? sb.tokens : 0);
        kit_close(&a);
        kit_close(&b);
        world_free(&w);
    }
}

/* Exits that the test decides: prompts and single rows of two texts side by side, a rewind that forgets nothing, one that forgets all, a call that fails. */
static void counting_depths_that_never_grow(void)
{
    static const struct { int position, depth; } said[TEXTS][4] = {{{5, 4}, {8, 2}, {11, 4}, {15, 1}}, {{3, 2}, {9, 4}, {14, 2}, {16, 1}}}; /* what the gate says; of no avail where it is no less */
    for (int fill = 0; fill < 3; fill += 2) {
        world w;
        world_make(&w, 591, 0);
        static wishes x;
        static tally t;
        ltx_stats got;
        ltx_output out;
        int least[TEXTS] = {5, 5}, position[TEXTS] = {0, 0};
        memset(&x, 0, sizeof x);
        memset(&t, 0, sizeof t);
        t.w = &w;
        for (int q = 0; q < TEXTS; q++) for (int i = 0; i < 4; i++) x.depth[q][said[q][i].position] = said[q][i].depth;
        w.steps[0].gate = w.steps[1].gate = w.steps[3].gate = 1;
        w.d.plan.fill = fill; w.d.sequences = TEXTS; w.d.logits_rows = TEXTS; w.d.features = 0;
        w.d.policy.rule = LTX_EXIT_ASK; w.d.policy.gate = as_wished; w.d.policy.user = &x; w.d.policy.monotone = 1;
        kit_session k = kit_open(&w.k->m, &w.d);
        for (int call = 0; call < 20; call++) {
            int32_t tokens[ROWS], text[ROWS];
            int depth[ROWS], of[ROWS], n = 0;
            uint8_t want[ROWS];
            for (int q = 0; q < TEXTS; q++) { /* of each text one row, or three of which the last one wants logits; now and then none */
                int rows = (call + q) % 5 == 4 ? 0 : (call + q) % 4 == 1 ? 3 : 1, floor = least[q];
                for (int i = 0; i < rows; i++, n++, position[q]++) {
                    tokens[n] = w.tokens[position[q] % ROWS]; text[n] = of[n] = q; want[n] = i + 1 == rows;
                    depth[n] = floor; /* who wants none leaves with those before */
                    if (want[n] && x.depth[q][position[q]] > 0 && x.depth[q][position[q]] < floor) least[q] = depth[n] = x.depth[q][position[q]];
                }
            }
            if (n == 0) continue;
            tally_call(&t, of, depth, want, n);
            ltx_batch b = {.tokens = tokens, .count = n, .sequence = text, .want = want};
            if (!CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_OK)) break;
            for (int i = 0, row = 0; i < n; i++) if (want[i]) CHECK_EQ(out.depth[row++], depth[i]);
            ltx_session_stats(k.s, &got);
            tally_check(&t, &got);
            if (call == 7) { /* a few rows back: what has left stays so */
                CHECK_EQ(ltx_use(k.s, 1), LTX_OK);
                CHECK_EQ(ltx_rewind(k.s, position[1] -= 2), LTX_OK);
                t.n[1] -= 2;
            }
            if (call == 11) { /* a new text in one of them */
                CHECK_EQ(ltx_use(k.s, 0), LTX_OK);
                CHECK_EQ(ltx_rewind(k.s, 0), LTX_OK);
                position[0] = t.n[0] = 0;
                least[0] = 5;
            }
        }
        CHECK(least[0] < 5 && least[1] == 1);
        CHECK(t.st.exits > 10 && t.st.exits < t.st.tokens);
        CHECK(fill == LTX_FILL_NONE || t.st.fill_rows > 20);
        /* who leaves in a call that fails has not left */
        CHECK_EQ(ltx_use(k.s, 0), LTX_OK);
        CHECK_EQ(ltx_rewind(k.s, 0), LTX_OK);
        memset(x.depth, 0, sizeof x.depth);
        x.depth[0][1] = 1;
        const int32_t both[2] = {0, 1};
        const uint8_t wants[2] = {1, 1};
        float *bad = (float *)test_malloc((size_t)w.k->m.dim * 8);
        for (int i = 0; i < 2 * w.k->m.dim; i++) bad[i] = i < w.k->m.dim ? 1.0f : NAN;
        ltx_batch b = {.embeds = bad, .count = 2, .sequence = both, .want = wants}, one = {.tokens = w.tokens, .count = 1, .logits = 1}, two = {.tokens = w.tokens, .count = 2, .logits = 2};
        CHECK_EQ(ltx_eval_batch(k.s, &one, &out), LTX_OK);
        CHECK_EQ(ltx_eval_batch(k.s, &b, &out), LTX_E_NAN);
        x.depth[0][1] = 0;
        CHECK_EQ(ltx_eval_batch(k.s, &one, &out), LTX_OK);
        CHECK_EQ(out.depth[0], 5);
        CHECK_EQ(ltx_eval_batch(k.s, &two, &out), LTX_E_ARG); /* one row with logits a call and text */
        CHECK_EQ(ltx_position(k.s), 2);
        ltx_policy p = w.d.policy;
        p.all_rows = 1;
        CHECK_EQ(ltx_set_policy(k.s, &p), LTX_E_ARG);
        p = w.d.policy; p.rule = LTX_EXIT_COSINE; p.yes = 1;
        CHECK_EQ(ltx_set_policy(k.s, &p), LTX_E_ARG);
        free(bad);
        kit_close(&k);
        world_free(&w);
    }
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

/* What a text's vector costs: its rows through the plan, and no head unless logits are wanted, too. To ask for features changes no bit. */
static void counting_embeddings(void)
{
    for (int c = 0; c < 8; c++) {
        world w;
        static tally t;
        ltx_stats got, plain;
        int depth[ROWS], n = 7 + 2 * c;
        uint8_t none[ROWS] = {0}, last[ROWS] = {0};
        float v[17];
        world_make(&w, 691 + (uint64_t)c, 0);
        w.k->m.both_ways = c % 2;
        w.d.plan.count = 2 + c % 4;
        if (c & 4) { w.steps[0].gate = 1; w.d.policy.rule = LTX_EXIT_ALWAYS; w.d.policy.all_rows = 1; } /* all leave after one step */
        memset(&t, 0, sizeof t);
        t.w = &w;
        last[n - 1] = 1;
        for (int i = 0; i < n; i++) depth[i] = c & 4 ? 1 : w.d.plan.count;
        kit_session k = kit_open(&w.k->m, &w.d);
        ltx_batch b = {.tokens = w.tokens, .count = n};
        for (int again = 0; again < 4; again++) { /* whatever the pooling; the third one wants logits of the last row */
            b.logits = again == 2;
            t.n[0] = 0;
            tally_call(&t, NULL, depth, again == 2 ? last : none, n);
            CHECK_EQ(ltx_embed(k.s, &b, again % 3, 17, v), LTX_OK);
            ltx_session_stats(k.s, &got);
            tally_check(&t, &got);
        }
        CHECK_EQ(ltx_rewind(k.s, 0), LTX_OK);
        ltx_stats_reset(k.s);
        ltx_output with, without;
        b.logits = 1; b.features = 1;
        float *logits = (float *)test_malloc((size_t)w.k->m.vocab * 4);
        CHECK_EQ(ltx_eval_batch(k.s, &b, &with), LTX_OK);
        memcpy(logits, with.logits, (size_t)w.k->m.vocab * 4);
        ltx_session_stats(k.s, &got);
        CHECK_EQ(ltx_rewind(k.s, 0), LTX_OK);
        ltx_stats_reset(k.s);
        b.features = 0;
        CHECK_EQ(ltx_eval_batch(k.s, &b, &without), LTX_OK);
        CHECK(memcmp(logits, without.logits, (size_t)w.k->m.vocab * 4) == 0);
        CHECK(without.features == NULL);
        ltx_session_stats(k.s, &plain);
        CHECK(memcmp(&got, &plain, sizeof got) == 0);
        free(logits);
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
    TEST(shared_caches_that_are_the_own_ones); TEST(shared_caches_with_gaps);
    TEST(counting_shared_caches);
    TEST(exits_by_kind);
    TEST(exits_by_kind_both_ways);
    TEST(kinds_of_several_texts);
    TEST(depths_that_never_grow);
    TEST(depths_that_would_not_grow);
    TEST(counting_depths_that_never_grow);
    TEST(embeddings_of_texts);
    TEST(counting_embeddings);
    TEST(heads_of_exits);
    TEST(depths_by_budget);
    return test_end();
}
