/* counters.h - is depth that is saved time that is saved? The section `counters` of bench.c, whose helpers it uses
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   Plain passes first: plans of all branches and of ffn branches only, of one step and of many, with logits and without, in batches
   of 1 to 64 rows, at two positions. Their differences are the costs of a branch, a head, a pass, a slot of the cache. Then every
   technique runs over the same text, and its time is set against the sum of what ltx_stats counted times those costs:
       tokens * pass + attn_rows * attention + ffn_rows * ffn + fill_rows * attention * (bytes of wk and wv / bytes of all four)
       + heads at the end * head + heads at gates and of drafts * gate + attended * slot + kv_bytes * byte
   Pass, attention, ffn and head depend on how many rows share a batch. The counters do not say that, but how many bytes of matrices
   were read: what it would be if every row read its own, over that, is the mean number of rows in a batch.

   >>text    the tokens      >>dressed what a model may have beside its layers          >>ways    how to run
   >>list    plain passes, techniques                   >>rounds  measuring             >>costs   of branches
   >>verdict predicted and measured                                                                                     */

#ifndef BENCH_COUNTERS_H
#define BENCH_COUNTERS_H

#include "text.h"

enum { MAX_WAYS = 96, WINDOWS = 3 /* of the text, one a round in turn */, NEAR = 32, FAR = 352 /* first position that is timed */, MOST_TOKENS = 128, WINDOW = FAR + MOST_TOKENS,
       WAIT_ROWS = 16, MOST_REPEATS = 64, BATCHES = 7 /* of the row_counts, up to 64 */, SHARED = 3 /* row_counts[SHARED] rows share the reading of the cache */,
       SIDES = 4 /* sequences side by side */, RANK = 8 /* of adapters */, AHEAD = 2 /* transfers */ };
enum { PLAIN_ONE, PLAIN_LOGITS, PLAIN_FFN, PLAIN_FULL, N_PLAINS }; /* one ffn step; the same with logits; all ffn steps; all steps */
#define BYTES_MODEL "examples/models/stories-bytes-q8_0.gguf"

typedef struct way {
    char     name[REPORT_TEXT];
    const ltx_model *model;
    ltx_session_desc desc;
    ltx_step steps[LTX_MAX_STEPS];
    int32_t  from, rows, logits; /* first position that is timed; rows of a batch; do all of them want logits? */
    int32_t  repeats;            /* of the text: what is short is timed several times over */
    int32_t  writes, looks;      /* goes on greedily instead of reading the text; reads probabilities before the last step */
    int32_t  kind, first;        /* of all rows of a batch; a call returns as soon as one sequence has its logits */
    double   ratio[MAX_ROUNDS];  /* its time over that of full depth just before and after */
    ltx_stats stats[MAX_ROUNDS];
} way;

/* Seconds of a batch of row_counts[i] rows, in which attention sees no cache; of a slot that a row attends to and of a byte of keys and values
   read, by cache format; of logits at a gate or a draft, judged. Bytes of matrices that a row reads. */
typedef struct costs {
    double pass[BATCHES], attn[BATCHES], ffn[BATCHES], head[BATCHES], slot[2], byte[2], gate;
    double attn_bytes, fill_bytes, ffn_bytes, head_bytes, list_bytes, adapter_bytes, transfer_bytes;
    double adapter;              /* one row through a step with one takes so much longer */
} costs;

typedef struct counted {
    bench_model m;
    ltx_model   listed;               /* the same with a shortlist */
    uint8_t    *list;
    ltx_model   dressed;              /* the same with routers, an adapter, transfers */
    ltx_layer  *layers;
    ltx_adapter adapter;
    ltx_transfer transfers[AHEAD];
    float      *numbers, *number;     /* what they are made of; the next free one */
    int32_t    *tokens, written[MOST_TOKENS], timed; /* [WINDOWS][WINDOW]; what full depth wrote in this round; tokens that are timed */
    ltx_session_mems mems;            /* for one way at a time */
    way        *ways;
    int         n, first, rounds;     /* ways; the first that is a technique */
    way        *plain[N_PLAINS][BATCHES], *slots[2][2][2]; /* [cache][near, far][one row, shared] */
    way        *judged, *adapted, *thin; /* full depth with gates that let nobody go; with the adapter in every step; every other layer */
    double      full;                 /* seconds a token at full depth */
    costs       costs;
} counted;

/* ==== >>text =========================================================================================================== */

static ltx_vocab *open_vocab(const counted *c, ltx_mem *words) /* NULL if the file has no tokenizer that ltx.h knows */
{
    ltx_vocab *v = NULL;
    ltx_need need;
    if (ltx_vocab_need(c->m.image, NULL, &need) != LTX_OK) return NULL;
    *words = lend(need);
    check(ltx_vocab_init(c->m.image, *words, &print_log, &v), c->m.path);
    return v;
}
static void read_text(counted *c, const ltx_vocab *v)
{
    FILE *f = fopen(opt.text, "rb");
    const char *at, *document;
    int32_t n, got = 0, *ids;
    size_t len;
    ltx_mem file;
    if (f == NULL) die(EXIT_FAILED, "cannot open %s: %s", opt.text, strerror(errno));
    file = read_all(f, opt.text);
    fclose(f);
    for (at = (const char *)file.ptr; got < WINDOWS * WINDOW && (len = next_document(&at, (const char *)file.ptr + file.size, 0, &document)) > 0; got += n) {
        ((char *)file.ptr)[document + len - (const char *)file.ptr] = 0; /* behind it is a blank or the end */
        ids = encode(v, document, &n);
        if (n > WINDOWS * WINDOW - got) n = WINDOWS * WINDOW - got;
        memcpy(c->tokens + got, ids, (size_t)n * sizeof *ids);
        free(ids);
    }
    if (got < WINDOWS * WINDOW) die(EXIT_FAILED, "%s gives %d tokens, %d are the least", opt.text, (int)got, WINDOWS * WINDOW);
    free(file.ptr);
}
/* What the model says when nobody asks: the same everywhere. */
static void invent_text(counted *c, int32_t first)
{
    ltx_session_desc desc;
    ltx_session_mems mems;
    ltx_session *s;
    ltx_sampler sampler;
    const float *logits;
    int i;
    memset(&desc, 0, sizeof desc);
    memset(&sampler, 0, sizeof sampler);
    desc.ctx = WINDOW; desc.log = print_log;
    sampler.temperature = .8f; sampler.state = 1;
    s = session_open(&c->m.model, &desc, &mems);
    for (i = 0; i < WINDOWS * WINDOW; i++) {
        if (i % WINDOW == 0) { check(ltx_rewind(s, 0), "text"); c->tokens[i] = first; continue; }
        check(ltx_eval(s, &c->tokens[i - 1], 1, &logits), "text");
        check(ltx_sample(s, &sampler, logits, &c->tokens[i]), "text");
        show_progress("a text of the model's own", i + 1, WINDOWS * WINDOW);
    }
    session_close(&mems);
}
/* A shortlist: that of the model, else the most frequent eighth of the vocabulary, as u32 in little-endian. */
static void make_list(counted *c)
{
    const int32_t vocab = c->m.model.vocab, n = vocab / 8 > 0 ? vocab / 8 : 1;
    int32_t i, k, at = 0, most = 0, *count;
    c->listed = c->m.model;
    if (c->listed.n_draft_ids > 0) return;
    c->list = (uint8_t *)alloc(4 * (size_t)n);
    count = (int32_t *)alloc((size_t)vocab * sizeof *count);
    memset(count, 0, (size_t)vocab * sizeof *count);
    for (i = 0; i < WINDOWS * WINDOW; i++) if (++count[c->tokens[i]] > most) most = count[c->tokens[i]];
    for (; at < n; most--) for (i = 0; i < vocab && at < n; i++) if (count[i] == most) { count[i] = -1; at++; }
    for (i = at = 0; i < vocab; i++) if (count[i] == -1) for (k = 0; k < 4; k++) c->list[at++] = (uint8_t)((uint32_t)i >> 8 * k & 255);
    c->listed.draft_ids = c->list; c->listed.n_draft_ids = n;
    free(count);
}

/* ==== >>dressed ========================================================================================================
   Routers that let about half of all rows pass, an adapter, transfers: made up, for their time, not for what they say.    */

static float *take_numbers(counted *c, int32_t n, float size) /* between -size and size, the same everywhere */
{
    float *x = c->number;
    int32_t i;
    for (i = 0; i < n; i++) x[i] = size * ((float)((uint32_t)(x - c->numbers + i) * 2654435761u >> 8) / (1 << 23) - 1.0f);
    c->number += n;
    return x;
}
static ltx_mat new_mat(counted *c, int32_t rows, int32_t cols, float size)
{
    ltx_mat m;
    m.data = take_numbers(c, rows * cols, size); m.type = LTX_F32; m.rows = rows; m.cols = cols;
    return m;
}
static ltx_lora new_lora(counted *c, const ltx_mat *w)
{
    ltx_lora low;
    low.a = new_mat(c, RANK, w->cols, .01f); low.b = new_mat(c, w->rows, RANK, .01f);
    return low;
}
/* A tap: the router's mean over the text is taken off by its bias. */
static int32_t weigh(void *user, const ltx_view *v)
{
    const counted *c = (const counted *)user;
    const ltx_layer *l = &c->layers[v->step + 1];
    float *bias = (float *)l->router_bias.data, x = 0;
    int32_t i;
    if (v->step + 1 == c->m.model.n_layers) return LTX_GO;
    for (i = 0; i < v->dim; i++) x += v->hidden[i] * ((const float *)l->router.data)[i];
    *bias -= x / WINDOW;
    return LTX_GO;
}
static void dress(counted *c)
{
    const ltx_model *m = &c->m.model;
    const ltx_layer *l = &m->layers[0];
    const ltx_mat *low[] = { &l->wq, &l->wv, &l->w_up, &l->w_down };
    const int32_t dim = m->dim, at = m->n_layers * 2 / 3;
    size_t n = (size_t)m->n_layers * ((size_t)dim + 1) + AHEAD * (size_t)dim * (size_t)dim;
    ltx_session_desc desc;
    ltx_session_mems mems;
    ltx_session *s;
    int32_t i, k;
    for (i = 0; i < COUNT(low); i++) n += RANK * ((size_t)low[i]->rows + (size_t)low[i]->cols);
    c->numbers = c->number = (float *)alloc(n * sizeof *c->numbers);
    c->layers = (ltx_layer *)alloc((size_t)m->n_layers * sizeof *c->layers);
    memcpy(c->layers, m->layers, (size_t)m->n_layers * sizeof *c->layers);
    for (i = 0; i < m->n_layers; i++) { c->layers[i].router = new_mat(c, 1, dim, 1); c->layers[i].router_bias = new_mat(c, 1, 1, 0); }
    memset(&c->adapter, 0, sizeof c->adapter);
    c->adapter.q = new_lora(c, low[0]); c->adapter.v = new_lora(c, low[1]); c->adapter.up = new_lora(c, low[2]); c->adapter.down = new_lora(c, low[3]);
    for (i = 0; i < AHEAD; i++) {
        c->transfers[i].step = at; c->transfers[i].h = new_mat(c, dim, dim, 0);
        for (k = 0; k < dim; k++) ((float *)c->transfers[i].h.data)[k * dim + k] = 1.0f;
    }
    memset(&desc, 0, sizeof desc);
    desc.ctx = WINDOW; desc.log = print_log; desc.policy.tap = weigh; desc.policy.user = c;
    s = session_open(m, &desc, &mems);
    check(ltx_eval(s, c->tokens, WINDOW, NULL), "routers");
    session_close(&mems);
    c->dressed = *m;
    c->dressed.layers = c->layers;
    c->dressed.adapters = &c->adapter; c->dressed.n_adapters = 1;
    c->dressed.transfers = c->transfers; c->dressed.n_transfers = AHEAD;
}
static void open_counted(counted *c)
{
    ltx_mem words = { NULL, 0 };
    ltx_vocab *v;
    use_file(&c->m, opt.model != NULL ? opt.model : BYTES_MODEL);
    if (c->m.model.n_layers < 4) die(EXIT_FAILED, "%s has %d layers, too few to leave some out", c->m.path, (int)c->m.model.n_layers);
    c->tokens = (int32_t *)alloc(WINDOWS * WINDOW * sizeof *c->tokens);
    v = open_vocab(c, &words);
    if (opt.text != NULL && v == NULL) die(EXIT_FAILED, "%s has no tokenizer for --text", c->m.path);
    if (opt.text != NULL) read_text(c, v);
    else invent_text(c, v != NULL && ltx_vocab_bos(v) >= 0 ? ltx_vocab_bos(v) : 1);
    if (v != NULL) give_back(words);
    make_list(c);
    dress(c);
    c->ways = (way *)alloc(MAX_WAYS * sizeof *c->ways);
    c->timed = opt.quick ? MOST_TOKENS / 2 : MOST_TOKENS;
}

/* ==== >>ways ===========================================================================================================
   Each is full depth, one token at a time with logits, until something is changed.                                      */

static way *add_way(counted *c, const char *format, ...)
{
    way *w = &c->ways[c->n];
    ltx_session_desc *d = &w->desc;
    va_list args;
    if (c->n++ == MAX_WAYS) die(EXIT_FAILED, "more than %d ways", MAX_WAYS);
    memset(w, 0, sizeof *w);
    va_start(args, format);
    vsnprintf(w->name, sizeof w->name, format, args);
    va_end(args);
    w->model = &c->m.model;
    w->from = NEAR; w->rows = w->logits = w->repeats = 1;
    d->isa = opt.isas.n > 0 ? isa_number(opt.isas.item[0]) : LTX_ISA_AUTO;
    d->ctx = WINDOW; d->kv = opt.kv; d->log = print_log;
    d->rows = d->logits_rows = row_counts[BATCHES - 1];
    d->threads = thread_count(0);
    if (!opt.openmp) { d->pool.run = pool_run; d->pool.user = &workers; }
    check(ltx_plan_full(w->model, w->steps, LTX_MAX_STEPS, &d->plan.count), "plan");
    d->plan.steps = w->steps;
    return w;
}
static way *leave_out(way *w, int32_t first, int32_t every, int32_t branches)
{
    int32_t l;
    for (l = first; l < w->model->n_layers; l += every) check(ltx_plan_drop(w->steps, &w->desc.plan.count, l, branches), w->name);
    return w;
}
static way *leave_early(way *w, int32_t rule, double threshold, int32_t first, int32_t every, int32_t fill)
{
    w->desc.policy.rule = rule; w->desc.policy.threshold = (float)threshold;
    w->desc.plan.fill = fill;
    w->looks = rule == LTX_EXIT_PROB || rule == LTX_EXIT_ENTROPY || rule == LTX_EXIT_PATIENCE;
    if (fill == LTX_FILL_DEFER) w->desc.rows = w->desc.logits_rows = WAIT_ROWS;
    check(ltx_plan_gates(w->steps, w->desc.plan.count, first, every), w->name);
    return w;
}
static way *draft(way *w, int32_t exit, int32_t last, int32_t lookup, int32_t length)
{
    w->writes = 1;
    w->looks = exit > 0;
    w->desc.draft_max = DRAFT_MOST;
    w->desc.draft.exit = exit; w->desc.draft.last = last; w->desc.draft.lookup = lookup; w->desc.draft.length = length;
    w->desc.draft.stop = length > 0 ? 1e-6f : 0; /* always so many, or as many as it thinks worth it */
    return w;
}
static way *dressed(counted *c, way *w)
{
    w->model = &c->dressed;
    return w;
}
/* Every other step, from the second on, with these bits and this route. */
static way *every_other(way *w, int32_t run, float route)
{
    int32_t i;
    for (i = 1; i < w->desc.plan.count; i += 2) { w->steps[i].run = (uint8_t)(w->steps[i].run | run); w->steps[i].route = route; }
    return w;
}
static way *side_by_side(way *w)
{
    w->desc.sequences = SIDES;
    w->desc.logits_rows = w->desc.rows;
    return w;
}
static way *in_batches(way *w, int32_t rows, int32_t logits)
{
    w->rows = rows; w->logits = logits;
    return w;
}

/* ==== >>list =========================================================================================================== */

static void list_plain_passes(counted *c)
{
    int i, k, far;
    for (i = 0; i < BATCHES; i++) {
        for (k = 0; k < N_PLAINS; k++) {
            c->plain[k][i] = in_batches(add_way(c, "plain"), row_counts[i], k == PLAIN_LOGITS);
            if (k != PLAIN_FULL) leave_out(c->plain[k][i], 0, 1, LTX_ATTN);
        }
        c->plain[PLAIN_ONE][i]->desc.plan.count = c->plain[PLAIN_LOGITS][i]->desc.plan.count = 1;
    }
    for (k = 0; k < 2; k++) for (far = 0; far < 2; far++) for (i = 0; i < 2; i++) {
        way *w = k + far == 0 ? c->plain[PLAIN_FULL][i * SHARED] : in_batches(add_way(c, "plain"), row_counts[i * SHARED], 0);
        if (far) w->from = FAR;
        if (k == 1) w->desc.kv = LTX_KV_I8;
        c->slots[k][far][i] = w;
    }
    c->adapted = dressed(c, add_way(c, "plain"));
    for (i = 0; i < c->adapted->desc.plan.count; i++) c->adapted->steps[i].adapter = 1;
    c->judged = leave_early(add_way(c, "plain"), LTX_EXIT_PROB, 2, 0, 1, LTX_FILL_PROJECT);
}
static void list_plans(counted *c)
{
    const int32_t layers = c->m.model.n_layers, half = layers / 2, third = layers / 3;
    int32_t i;
    way *w;
    add_way(c, "first %d layers", (int)half)->desc.plan.count = half;
    c->thin = leave_out(add_way(c, "every other layer left out"), 1, 2, LTX_ATTN | LTX_FFN);
    leave_out(add_way(c, "every other attention left out"), 1, 2, LTX_ATTN);
    leave_out(add_way(c, "every other ffn left out"), 1, 2, LTX_FFN);
    w = add_way(c, "layers %d-%d twice", (int)third + 1, (int)(2 * third));
    check(ltx_plan_repeat(w->steps, LTX_MAX_STEPS, &w->desc.plan.count, third, 2 * third - 1, 2), w->name);
    w = add_way(c, "layers %d-%d side by side", (int)third + 1, (int)(2 * third));
    check(ltx_plan_beside(w->steps, w->desc.plan.count, third, 2 * third - 1), w->name);
    w = dressed(c, add_way(c, "the same layers twice, then adapted"));
    check(ltx_plan_repeat(w->steps, LTX_MAX_STEPS, &w->desc.plan.count, third, 2 * third - 1, 2), w->name);
    for (i = 0; i < third; i++) w->steps[2 * third + i].adapter = 1;
    w = every_other(add_way(c, "every other cache shared"), LTX_SHARE, 0);
    for (i = 1; i < layers; i += 2) w->steps[i].cache = (int16_t)i;
    every_other(dressed(c, add_way(c, "every other layer routed")), 0, .5f);
    every_other(dressed(c, add_way(c, "every other layer routed, weighed")), LTX_WEIGH | LTX_RENUMBER, .5f);
    in_batches(every_other(dressed(c, add_way(c, "every other layer for half of 32 rows")), 0, -.5f), 32, 0);
    w = in_batches(add_way(c, "half of 32 rows kept, then a quarter"), 32, 0);
    w->kind = 1; w->steps[third].keep = w->steps[2 * third].keep = .5f;
    side_by_side(add_way(c, "4 sequences"));
    w = side_by_side(add_way(c, "4 sequences at different depths"));
    leave_early(w, LTX_EXIT_COSINE, .98, 2, 1, LTX_FILL_PROJECT);
    w->first = 1;
    w = add_way(c, "window of 32, 4 sinks");
    w->desc.window = 32; w->desc.sinks = 4;
    add_way(c, "int8 cache")->desc.kv = LTX_KV_I8;
    w = add_way(c, "int8 cache after %d", FAR);
    w->from = FAR; w->desc.kv = LTX_KV_I8;
    add_way(c, "full depth after %d", FAR)->from = FAR;
    in_batches(add_way(c, "prompt, 8 rows a batch"), 8, 0);
    in_batches(add_way(c, "prompt, 32 rows a batch"), 32, 0);
    in_batches(add_way(c, "prompt, 64 rows a batch"), 64, 0);
}
static void list_exits(counted *c)
{
    static const char *const fills[] = { "project", "defer", "none" };
    const int32_t layers = c->m.model.n_layers, late = layers * 2 / 3 - 1, few = layers / 6 > 0 ? layers / 6 : 1;
    int32_t fill;
    way *w;
    for (fill = LTX_FILL_PROJECT; fill <= LTX_FILL_NONE; fill++)
        leave_early(add_way(c, "exit after layer %d, %s", (int)(layers / 2), fills[fill]), LTX_EXIT_ALWAYS, 0, layers / 2 - 1, layers, fill);
    for (fill = LTX_FILL_PROJECT; fill <= LTX_FILL_DEFER; fill++) {
        leave_early(add_way(c, "probability 0.7, few gates, %s", fills[fill]), LTX_EXIT_PROB, .7, late, few, fill);
        leave_early(add_way(c, "probability 0.9, %s", fills[fill]), LTX_EXIT_PROB, .9, 2, 1, fill);
    }
    w = leave_early(add_way(c, "probability 0.9, screened, project"), LTX_EXIT_PROB, .9, 2, 1, LTX_FILL_PROJECT);
    w->desc.policy.screen = 1; w->model = &c->listed;
    leave_early(add_way(c, "entropy 0.6, project"), LTX_EXIT_ENTROPY, .6, 2, 1, LTX_FILL_PROJECT);
    leave_early(add_way(c, "cosine 0.98, project"), LTX_EXIT_COSINE, .98, 2, 1, LTX_FILL_PROJECT);
    leave_early(add_way(c, "margin 0.8, project"), LTX_EXIT_MARGIN, .8, 2, 1, LTX_FILL_PROJECT);
    if (c->m.model.probes.data != NULL) leave_early(add_way(c, "probe 0.5, project"), LTX_EXIT_PROBE, .5, 0, 1, LTX_FILL_PROJECT);
    leave_early(add_way(c, "probability 0.9, none, monotone"), LTX_EXIT_PROB, .9, 2, 1, LTX_FILL_NONE)->desc.policy.monotone = 1;
    leave_early(add_way(c, "patience 3, project"), LTX_EXIT_PATIENCE, 3, 2, 1, LTX_FILL_PROJECT);
    leave_early(add_way(c, "change 0.2, project"), LTX_EXIT_CHANGE, .2, 2, 1, LTX_FILL_PROJECT);
    w = add_way(c, "ffn skipped by cosine 0.98");
    check(ltx_plan_split(w->steps, LTX_MAX_STEPS, &w->desc.plan.count), w->name);
    leave_early(w, LTX_EXIT_COSINE, .98, 0, 2, LTX_FILL_PROJECT)->desc.policy.yes = 1;
}
static void list_drafts(counted *c)
{
    static const int32_t lengths[] = { 1, 2, 4, 0 };
    const int32_t layers = c->m.model.n_layers, exits[] = { layers / 6 > 0 ? layers / 6 : 1, layers / 3 };
    int i, k;
    way *w;
    add_way(c, "full depth, written")->writes = 1; /* before the others, which have to write the same */
    for (i = 0; i < 2; i++) for (k = 0; k < COUNT(lengths); k++) {
        if (lengths[k] > 0) draft(add_way(c, "depth %d drafts %d", (int)exits[i], (int)lengths[k]), exits[i], 0, 0, lengths[k]);
        else draft(add_way(c, "depth %d drafts, online", (int)exits[i]), exits[i], 0, 0, 0);
    }
    draft(add_way(c, "depth %d to %d drafts, online", (int)exits[0], (int)exits[1]), exits[0], exits[1], 0, 0);
    draft(add_way(c, "depth %d drafts, with rivals", (int)exits[0]), exits[0], 0, 0, 0)->desc.draft.tree = 1;
    w = draft(add_way(c, "every other layer drafts 2"), 0, 0, 0, 2);
    w->looks = 1;
    w->desc.draft.plan = c->thin->desc.plan;
    w = draft(dressed(c, add_way(c, "depth %d drafts, 2 transferred", (int)exits[0])), exits[0], 0, 0, 0);
    w->desc.draft.transfer = AHEAD;
    draft(add_way(c, "prompt lookup"), 0, 0, DRAFT_MOST, 0);
    draft(add_way(c, "prompt lookup, else depth %d", (int)exits[0]), exits[0], 0, DRAFT_MOST, 0);
}

/* ==== >>rounds ========================================================================================================= */

/* One block of each kind, with room for every way, whose pages are there. */
static ltx_mem common_block(size_t size, size_t align)
{
    ltx_need need;
    ltx_mem mem;
    need.size = size; need.align = align;
    mem = lend(need);
    memset(mem.ptr, 0, mem.size);
    return mem;
}
static size_t larger(size_t a, size_t b) { return a > b ? a : b; }
static void lend_blocks(counted *c)
{
    ltx_session_needs most, need;
    int i;
    memset(&most, 0, sizeof most);
    for (i = 0; i < c->n; i++) {
        check(ltx_session_need(c->ways[i].model, &c->ways[i].desc, &need), c->ways[i].name);
        most.state.size = larger(most.state.size, need.state.size); most.state.align = larger(most.state.align, need.state.align);
        most.cache.size = larger(most.cache.size, need.cache.size); most.cache.align = larger(most.cache.align, need.cache.align);
        most.scratch.size = larger(most.scratch.size, need.scratch.size); most.scratch.align = larger(most.scratch.align, need.scratch.align);
    }
    c->mems.state = common_block(most.state.size, most.state.align);
    c->mems.cache = common_block(most.cache.size, most.cache.align);
    c->mems.scratch = common_block(most.scratch.size, most.scratch.align);
}
/* One thread never waits: its time is that of the processor, without what other programs take. */
static double work_seconds(void)
{
    struct timespec t;
    if (thread_count(0) > 1) return seconds_now();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void score_text(const counted *c, const way *w, ltx_session *s, const int32_t *text)
{
    uint8_t kinds[64];
    ltx_batch batch;
    int32_t i;
    memset(&batch, 0, sizeof batch);
    memset(kinds, w->kind, sizeof kinds);
    batch.count = w->rows; batch.logits = w->logits ? w->rows : 0; batch.kind = kinds;
    for (i = 0; i < c->timed; i += w->rows) {
        batch.tokens = text + i;
        check(ltx_eval_batch(s, &batch, NULL), w->name);
    }
}
/* Each sequence reads a part of the text; whoever has its logits is given its next token. */
static void score_side_by_side(const counted *c, const way *w, ltx_session *s, const int32_t *text)
{
    const int32_t each = c->timed / w->desc.sequences;
    int32_t tokens[SIDES], sequence[SIDES], given[SIDES] = { 0 }, ready = w->desc.sequences, under_way = 0, i;
    ltx_batch batch;
    ltx_output out;
    for (i = 0; i < ready; i++) sequence[i] = i;
    for (;;) {
        memset(&batch, 0, sizeof batch);
        for (i = 0; i < ready; i++) {
            const int32_t k = sequence[i];
            if (given[k] == each) continue;
            tokens[batch.count] = text[k * each + given[k]++];
            sequence[batch.count++] = k;
        }
        under_way += batch.count;
        if (under_way == 0) return;
        if (batch.count > 0) { batch.tokens = tokens; batch.sequence = sequence; batch.logits = batch.count; }
        batch.first = w->first;
        check(ltx_eval_batch(s, &batch, &out), w->name);
        under_way -= out.n_ready;
        for (ready = 0; ready < out.n_ready; ready++) sequence[ready] = out.ready[ready].sequence;
    }
}
static void write_text(counted *c, const way *w, ltx_session *s, int32_t token)
{
    int differs;
    check(write_on(s, token, c->written, c->timed, w->desc.draft_max > 0, &differs), w->name);
    if (differs < 0) return;
    fprintf(stderr, "error: %s: %s: text differs from that of full depth at token %d\n", c->m.path, w->name, differs);
    wrong_bits++;
}
/* All sequences stand before position w->from: `known` tokens of each are there. */
static void begin_text(const way *w, ltx_session *s, const int32_t *text, int32_t known)
{
    int32_t i;
    for (i = 0; i < w->desc.sequences || i == 0; i++) {
        check(ltx_use(s, i), w->name);
        if (known > 0) check(ltx_rewind(s, known), w->name);
        if (known < w->from) check(ltx_eval(s, text + known, w->from - known, NULL), w->name);
    }
}
/* Seconds a token. */
static double run_way(counted *c, way *w, int round)
{
    const int32_t *text = c->tokens + (round < 0 ? 0 : round % WINDOWS) * WINDOW;
    ltx_session *s = NULL;
    double begin;
    int i;
    check(ltx_session_init(w->model, &w->desc, &c->mems, &s), w->name);
    begin_text(w, s, text, 0);
    begin = work_seconds();
    for (i = 0; i < w->repeats; i++) {
        if (i > 0) begin_text(w, s, text, w->from);
        ltx_stats_reset(s);
        if (w->writes) write_text(c, w, s, text[w->from]);
        else if (w->desc.sequences > 1) score_side_by_side(c, w, s, text + w->from);
        else score_text(c, w, s, text + w->from);
    }
    begin = work_seconds() - begin;
    if (round >= 0) ltx_session_stats(s, &w->stats[round]);
    return begin / w->repeats / c->timed;
}
/* Way 0 is full depth. It runs again after each of the others: what disturbs one disturbs its neighbours, too. The first round warms up and
   tells how many follow: those asked for, or more if there is time. */
static void run_round(counted *c, int round)
{
    double full[MAX_WAYS], before = run_way(c, &c->ways[0], round), t;
    int i;
    for (i = 1; i < c->n; i++, before = full[i - 1]) {
        t = run_way(c, &c->ways[i], round);
        full[i] = run_way(c, &c->ways[0], round);
        if (round < 0 && i < c->first) c->ways[i].repeats = (int32_t)fmin(MOST_REPEATS, ceil(full[i] / t));
        if (round >= 0) c->ways[i].ratio[round] = 2 * t / (before + full[i]);
        show_progress("counters", (round + 1) * c->n + i + 1, (c->rounds + 1) * c->n);
    }
    if (round >= 0) c->ways[0].ratio[round] = median(full + 1, c->n - 1);
}
static void run_ways(counted *c)
{
    double seconds[MAX_ROUNDS], begin = seconds_now();
    int round;
    c->rounds = opt.rounds;
    run_round(c, -1);
    c->rounds = (int)fmax(opt.rounds, fmin(MAX_ROUNDS, (opt.quick ? 20 : 80) / (seconds_now() - begin)));
    for (round = 0; round < c->rounds; round++) run_round(c, round);
    memcpy(seconds, c->ways[0].ratio, sizeof seconds);
    c->full = median(seconds, c->rounds);
    for (round = 0; round < c->rounds; round++) c->ways[0].ratio[round] /= c->full;
}

/* ==== >>costs ========================================================================================================== */

static double seconds_of(const counted *c, const way *w) /* a token, median of the rounds */
{
    double t[MAX_ROUNDS];
    memcpy(t, w->ratio, sizeof t);
    return c->full * median(t, c->rounds);
}
static double slots_of(const counted *c, const way *w) { return (double)w->stats[0].attended / c->timed; }
static double cache_bytes_of(const counted *c, const way *w) { return (double)w->stats[0].kv_bytes / c->timed; }

/* What is further on sees more slots. Alone a row reads them for itself, in a batch several share the reading: two equations. */
static void solve_slots(counted *c, int k)
{
    double time[2], slots[2], bytes[2], d;
    int i;
    for (i = 0; i < 2; i++) {
        const way *near = c->slots[k][0][i], *far = c->slots[k][1][i];
        time[i] = seconds_of(c, far) - seconds_of(c, near);
        slots[i] = slots_of(c, far) - slots_of(c, near);
        bytes[i] = cache_bytes_of(c, far) - cache_bytes_of(c, near);
    }
    d = slots[0] * bytes[1] - slots[1] * bytes[0];
    c->costs.slot[k] = (time[0] * bytes[1] - time[1] * bytes[0]) / d;
    c->costs.byte[k] = (slots[0] * time[1] - slots[1] * time[0]) / d;
}
/* Attention is what full depth takes longer than ffn branches alone, not attention branches alone: their few matrices would stay in the
   nearest cache, where beside those of the ffn they do not. */
static void solve_batch(counted *c, int i)
{
    costs *x = &c->costs;
    const way *ffn = c->plain[PLAIN_FFN][i], *full = c->plain[PLAIN_FULL][i];
    const double n = row_counts[i], steps = ffn->desc.plan.count, one = seconds_of(c, c->plain[PLAIN_ONE][i]), all = seconds_of(c, ffn);
    const double cache = slots_of(c, full) * x->slot[0] + cache_bytes_of(c, full) * x->byte[0];
    x->ffn[i] = n * (all - one) / (steps - 1);
    x->pass[i] = n * one - x->ffn[i];
    x->attn[i] = n * (seconds_of(c, full) - all - cache) / ((double)full->stats[0].attn_rows / c->timed);
    x->head[i] = n * (seconds_of(c, c->plain[PLAIN_LOGITS][i]) - one);
}
static double row_bytes_of(const ltx_mat *w) { return w->data != NULL ? (double)w->rows * (double)ltx_row_bytes(w->type, w->cols) : 0; }
static double low_bytes_of(const ltx_lora *low) { return row_bytes_of(&low->a) + row_bytes_of(&low->b); }
static void count_bytes(counted *c)
{
    costs *x = &c->costs;
    const ltx_model *m = &c->m.model;
    const ltx_mat *head = m->head.data != NULL ? &m->head : &m->embed;
    int i, attn = 0, ffn = 0;
    for (i = 0; i < m->n_layers; i++) {
        const ltx_layer *l = &m->layers[i];
        attn += l->wq.data != NULL; ffn += l->w_up.data != NULL;
        x->fill_bytes += row_bytes_of(&l->wk) + row_bytes_of(&l->wv);
        x->attn_bytes += row_bytes_of(&l->wq) + row_bytes_of(&l->wk) + row_bytes_of(&l->wv) + row_bytes_of(&l->wo);
        x->ffn_bytes += row_bytes_of(&l->w_gate) + row_bytes_of(&l->w_up) + row_bytes_of(&l->w_down);
    }
    x->fill_bytes /= attn; x->attn_bytes /= attn; x->ffn_bytes /= ffn;
    x->head_bytes = row_bytes_of(head);
    x->list_bytes = x->head_bytes * c->listed.n_draft_ids / m->vocab;
    x->adapter_bytes = low_bytes_of(&c->adapter.q) + low_bytes_of(&c->adapter.v) + low_bytes_of(&c->adapter.up) + low_bytes_of(&c->adapter.down);
    x->transfer_bytes = AHEAD * row_bytes_of(&c->transfers[0].h);
}
static void solve_costs(counted *c)
{
    int i;
    count_bytes(c);
    for (i = 0; i < 2; i++) solve_slots(c, i);
    for (i = 0; i < BATCHES; i++) solve_batch(c, i);
    c->costs.adapter = (seconds_of(c, c->adapted) - c->full) / c->adapted->desc.plan.count;
    c->costs.gate = (seconds_of(c, c->judged) - seconds_of(c, c->plain[PLAIN_FULL][0]) - c->costs.head[0]) / (c->judged->desc.plan.count - 1);
}

/* ==== >>verdict ======================================================================================================== */

/* Seconds of one of `rows` rows of a batch; between what was measured and beyond it on a line. */
static double row_seconds(const double *batch, double rows)
{
    int i = 0;
    while (i + 2 < BATCHES && row_counts[i + 1] < rows) i++;
    return (batch[i] + (batch[i + 1] - batch[i]) * (rows - row_counts[i]) / (row_counts[i + 1] - row_counts[i])) / rows;
}
/* What the counters say between the lines. Heads before the last step are those of gates and drafts, one row each: all but those of the rows
   that came to the end. With a shortlist all heads of drafts are short, and of screened gates as many as explain that less was read: there
   rows come one by one. */
typedef struct seen_work { double gates, listed, batch, adapted, shared; } seen_work; /* heads before the last step, short ones of them, mean rows of a batch,
                                                                                         rows with an adapter, rows that read another step's cache */
static seen_work work_of(const counted *c, const way *w, const ltx_stats *s)
{
    const costs *x = &c->costs;
    const double spared = x->head_bytes - x->list_bytes;
    seen_work r = { 0, 0, 1, 0, 0 };
    int32_t i;
    double own = (double)s->attn_rows * x->attn_bytes + (double)s->ffn_rows * x->ffn_bytes + (double)s->fill_rows * x->fill_bytes + (double)s->head_rows * x->head_bytes;
    double alone; /* bytes read for gates and drafts */
    for (i = 0; i < w->desc.plan.count; i++) {
        r.adapted += w->steps[i].adapter > 0 ? (double)s->tokens : 0;
        r.shared += w->steps[i].run & LTX_SHARE ? (double)s->tokens : 0;
    }
    own += r.adapted * x->adapter_bytes - r.shared * x->fill_bytes + (w->desc.draft.transfer > 0 ? (double)s->rounds * x->transfer_bytes : 0);
    if (w->looks) r.gates = w->desc.draft.plan.steps != NULL ? (double)(s->tokens - s->drafted - s->rounds) /* its passes; each draft and each known token is verified, too */
                                                             : (double)(s->head_rows + s->exits - s->tokens);
    if (s->drafted > 0 && w->model->n_draft_ids > 0) r.listed = r.gates;
    if (w->desc.policy.screen) r.listed = (own - (double)s->weight_bytes) / spared;
    alone = r.gates * x->head_bytes - r.listed * spared;
    r.batch = fmax(1, (own - r.gates * x->head_bytes) / ((double)s->weight_bytes - alone));
    return r;
}
static double predicted(const counted *c, const way *w, const ltx_stats *s)
{
    const costs *x = &c->costs;
    const seen_work r = work_of(c, w, s);
    const int k = w->desc.kv == LTX_KV_I8;
    return ((double)s->tokens * row_seconds(x->pass, r.batch)
        + ((double)s->attn_rows + ((double)s->fill_rows - r.shared) * x->fill_bytes / x->attn_bytes) * row_seconds(x->attn, r.batch)
        + r.adapted * x->adapter
        + (double)s->ffn_rows * row_seconds(x->ffn, r.batch) + ((double)s->head_rows - r.gates) * row_seconds(x->head, r.batch)
        + (r.gates - r.listed * (1 - x->list_bytes / x->head_bytes)) * x->gate
        + (double)s->attended * x->slot[k] + (double)s->kv_bytes * x->byte[k]) / c->timed;
}
static void cost_row(const counted *c, const char *what, const double *seconds, int n, double factor)
{
    record *r = report_add(&results, T_UNITS, c->m.shape);
    int i;
    snprintf(r->text[WHAT], REPORT_TEXT, "%s", what);
    for (i = 0; i < n; i++) r->v[BY_ROWS + i] = factor * seconds[i];
    for (i = 0; i < n; i++) {
        r = report_add(&results, T_UNIT, c->m.shape);
        snprintf(r->text[WHAT], REPORT_TEXT, "%s", what);
        r->v[US] = factor * seconds[i];
        if (n > 1) r->v[ROWS] = row_counts[i];
    }
}
static void report_costs(const counted *c)
{
    const costs *x = &c->costs;
    cost_row(c, "attention branch, empty cache", x->attn, BATCHES, 1e6);
    cost_row(c, "ffn branch", x->ffn, BATCHES, 1e6);
    cost_row(c, "head", x->head, BATCHES, 1e6);
    cost_row(c, "pass: embedding, angles, the call", x->pass, BATCHES, 1e6);
    cost_row(c, "head at a gate or a draft, judged", &x->gate, 1, 1e6);
    cost_row(c, "adapter of rank 8", &x->adapter, 1, 1e6);
    cost_row(c, "1000 slots attended to", &x->slot[0], 1, 1e9);
    cost_row(c, "the same, int8 cache", &x->slot[1], 1, 1e9);
    cost_row(c, "1 MB of keys and values", &x->byte[0], 1, 1e12);
    cost_row(c, "the same, int8 cache", &x->byte[1], 1, 1e12);
    report_table(&results, T_UNITS, c->m.shape);
}
static double saved(uint64_t now, uint64_t then) { return 100 * (1 - (double)now / (double)then); }
static ltx_stats sum_of(const counted *c, const way *w)
{
    ltx_stats s = w->stats[0];
    int i;
    for (i = 1; i < c->rounds; i++) {
        const ltx_stats *x = &w->stats[i];
        s.tokens += x->tokens; s.attn_rows += x->attn_rows; s.ffn_rows += x->ffn_rows; s.fill_rows += x->fill_rows; s.head_rows += x->head_rows; s.exits += x->exits;
        s.weight_bytes += x->weight_bytes; s.kv_bytes += x->kv_bytes; s.attended += x->attended; s.drafted += x->drafted; s.rounds += x->rounds;
    }
    return s;
}
static double report_way(const counted *c, const way *w) /* measured over predicted */
{
    record *r = report_add(&results, T_COUNTERS, c->m.shape);
    const ltx_stats s = sum_of(c, w), full = sum_of(c, &c->ways[0]);
    const double per = 1.0 / (double)(c->timed * c->rounds);
    double ratio[MAX_ROUNDS], guess[MAX_ROUNDS], t[MAX_ROUNDS];
    int i;
    for (i = 0; i < c->rounds; i++) {
        t[i] = c->full * w->ratio[i];
        guess[i] = predicted(c, w, &w->stats[i]);
        ratio[i] = t[i] / guess[i];
    }
    snprintf(r->text[WHAT], REPORT_TEXT, "%s", w->name);
    snprintf(r->text[FORMAT], REPORT_TEXT, "%s", c->m.format);
    r->v[THREADS] = w->desc.threads; r->v[ROUNDS] = c->rounds;
    r->v[US] = 1e6 * median(t, c->rounds); r->v[US_MIN] = 1e6 * t[0]; r->v[US_MAX] = 1e6 * t[c->rounds - 1];
    r->v[PREDICTED] = 1e6 * median(guess, c->rounds); r->v[RATIO] = median(ratio, c->rounds);
    r->v[DEPTH_SAVED] = saved(s.attn_rows + s.ffn_rows, full.attn_rows + full.ffn_rows); r->v[READ_SAVED] = saved(s.weight_bytes, full.weight_bytes);
    r->v[TIME_SAVED] = 100 * (1 - r->v[US] / (1e6 * c->full));
    r->v[ATTN_ROWS] = per * (double)s.attn_rows; r->v[FFN_ROWS] = per * (double)s.ffn_rows; r->v[HEAD_ROWS] = per * (double)s.head_rows; r->v[FILL_ROWS] = per * (double)s.fill_rows;
    r->v[ATTENDED] = per * (double)s.attended; r->v[DRAFTED] = per * (double)s.drafted; r->v[BATCH] = work_of(c, w, &s).batch;
    r->v[WEIGHT_MB] = per * (double)s.weight_bytes / 1e6; r->v[KV_MB] = per * (double)s.kv_bytes / 1e6;
    return r->v[RATIO];
}
static void section_counters(const bench_model *models, int n_models)
{
    static counted c;
    double ratio;
    int i, near = 0;
    (void)models; (void)n_models; /* random weights would never leave early */
    if (opt.model == NULL && access(BYTES_MODEL, R_OK) != 0) {
        if (opt.sections.n > 0) die(EXIT_FAILED, "section counters: there is no %s here; --model names another", BYTES_MODEL);
        fprintf(stderr, "section counters left out: there is no %s here; --model names another\n", BYTES_MODEL);
        return;
    }
    open_counted(&c);
    add_way(&c, "full depth");
    list_plain_passes(&c);
    c.first = c.n;
    list_plans(&c); list_exits(&c); list_drafts(&c);
    lend_blocks(&c);
    cores_of_others();
    run_ways(&c);
    others = cores_of_others();
    solve_costs(&c);
    report_costs(&c);
    for (i = 0; i < c.n; i++) {
        if (i > 0 && i < c.first) continue;
        ratio = report_way(&c, &c.ways[i]);
        near += ratio > .9 && ratio < 1.1;
    }
    report_table(&results, T_COUNTERS, c.m.shape);
    printf("%d of %d within 10 %% of what their counters predict (medians of %d rounds); other programs used %.1f cores meanwhile\n", near, c.n - c.first + 1, c.rounds, others);
    session_close(&c.mems);
    free(c.ways); free(c.list); free(c.layers); free(c.numbers); free(c.tokens);
    model_close(&c.m);
}

#endif
