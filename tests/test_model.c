/* test_model.c - whole models of ltx.h against the reference: shapes, formats, plans, gates, caches
   SPDX-License-Identifier: MIT

   Small random models go through a script of calls (prompt, batches, single tokens). A session and the reference run side by side
   and are compared row by row; then the same script runs on every instruction set, token by token, with fewer rows and with a pool,
   and must give the same bits. */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"
#include "ref.h"

/* ==== tolerances ======================================================================================== */

/* Where a number is rounded to a grid (int8 inputs, half or int8 caches), float and double may fall on different sides of a tie. One
   such flip moves a result by a step of the grid, and later rounding multiplies it. So each case has two bounds: all rows stay
   within `loose`, and most rows (without flips) within `tight`. Both are relative to max(1, |logit|). */
typedef struct tolerance {
    double tight, loose;
    double tie; /* a gate's measure nearer to its threshold than this may be decided either way */
} tolerance;

/* About 100 float roundings on the way, each 6e-8, partly amplified by the norms. No grid: nothing may flip. */
static const tolerance float_tol = {3e-5, 3e-5, 1e-3};
/* Steps of a half are 2^-11 of a key or value; with a window of two positions one step may count for much. */
static const tolerance half_kv_tol = {3e-5, 1e-2, 2e-3};
/* Steps of int8 are 1/127 of the largest key or value of a head. */
static const tolerance int8_kv_tol = {3e-5, 2e-1, 1e-2};
/* Steps of int8 are 1/127 of the largest input of a block, at every product. */
static const tolerance quant_tol = {3e-5, 2.5e-1, 1e-2};

/* Sums are exact and steps of 16 bits are 1/32512 of the largest input: many flip, none counts for much. */
static const tolerance row_16_tol = {5e-4, 5e-3, 1e-2};

/* ==== models ============================================================================================ */

enum { MAX_LAYERS = 6, MAX_BLOCKS = 23 * MAX_LAYERS + 36, MAX_STEPS = 16 };
enum { BIASES = 1, QK_NORMS = 2, NO_GATE = 4, TIED = 8, FACTORS = 16, FLOATS_ONLY = 32, LAYER_NORM = 64, NORM_AFTER = 128 };
enum { MIXED = -1, MIXED_K = -2, MIXED_X = -3 }; /* for a format: each tensor another, without or with K formats, or with those of sixteen rows */

typedef struct shape {
    const char *name;
    int dim, n_layers, n_heads, n_kv_heads, head_dim, vocab;
    int ffn[MAX_LAYERS]; /* 0 = no ffn in this layer  */
    unsigned no_attention; /* bit per layer           */
    unsigned flags;
    int rope_pairs, rope_dims, act;
    float eps, theta, rope_scale, attn_scale;
} shape;

static const shape shapes[] = {
    {"plain", 64, 4, 4, 0, 0, 50, {96, 96, 96, 96}, 0, TIED, LTX_ROPE_INTERLEAVED, 0, LTX_ACT_SILU, 0.0f, 0.0f, 0.0f, 0.0f},
    {"qwen2", 64, 3, 8, 4, 8, 47, {64, 128, 96}, 0, BIASES, LTX_ROPE_HALVES, 0, LTX_ACT_SILU, 1e-6f, 1e6f, 0.0f, 0.0f},
    {"qwen3", 96, 3, 4, 1, 32, 40, {128, 64, 32}, 0, QK_NORMS | TIED, LTX_ROPE_HALVES, 0, LTX_ACT_SILU, 1e-6f, 1e6f, 0.0f, 0.0f},
    {"gelu", 96, 3, 2, 1, 48, 33, {160, 96, 160}, 0, NO_GATE | BIASES, LTX_ROPE_INTERLEAVED, 24, LTX_ACT_GELU, 1e-3f, 500.0f, 0.0f, 0.2f},
    {"odd", 40, 3, 5, 5, 8, 37, {50, 33, 17}, 0, FACTORS | FLOATS_ONLY, LTX_ROPE_INTERLEAVED, 6, LTX_ACT_SILU, 0.0f, 0.0f, 2.0f, 0.0f},
    {"holes", 64, 5, 8, 2, 8, 41, {96, 0, 64, 32, 96}, 4u, QK_NORMS, LTX_ROPE_HALVES, 4, LTX_ACT_RELU, 0.0f, 1e3f, 0.5f, 0.0f},
    {"layernorm", 64, 3, 4, 2, 16, 44, {96, 64, 96}, 0, LAYER_NORM | BIASES | NO_GATE, LTX_ROPE_HALVES, 0, LTX_ACT_GELU, 0.0f, 0.0f, 0.0f, 0.0f},
    {"postnorm", 64, 3, 4, 4, 16, 44, {96, 64, 96}, 0, LAYER_NORM | NORM_AFTER | BIASES | NO_GATE, LTX_ROPE_NONE, 0, LTX_ACT_GELU, 1e-6f, 0.0f, 0.0f, 0.0f},
    {"post-rms", 96, 3, 4, 1, 24, 31, {64, 64, 64}, 0, NORM_AFTER | TIED, LTX_ROPE_INTERLEAVED, 0, LTX_ACT_SILU, 0.0f, 0.0f, 0.0f, 0.0f},
    {"norope", 32, 2, 2, 2, 16, 35, {64, 64}, 0, NO_GATE | TIED, LTX_ROPE_NONE, 0, LTX_ACT_RELU, 0.0f, 0.0f, 0.0f, 0.0f},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };
/* Wide enough for super-blocks of 256, in products of one, two and three of them. */
static const shape wide = {"wide", 256, 2, 4, 2, 128, 37, {256, 768}, 0, 0, LTX_ROPE_HALVES, 0, LTX_ACT_SILU, 0.0f, 0.0f, 0.0f, 0.0f};

static const int formats[] = {LTX_F32, LTX_F16, LTX_BF16, LTX_Q8_0, LTX_Q4_0, MIXED};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

/* A model with everything that it points to, and the reference's copy. */
typedef struct box {
    ltx_model  model;
    ltx_layer  layers[MAX_LAYERS];
    test_block blocks[MAX_BLOCKS];
    int        n_blocks, format, any_quantized;
    test_rng   rng;
    ref_model  ref;
} box;

static int next_format(box *b, int floats_only)
{
    static const int all[] = {LTX_F32, LTX_F16, LTX_Q8_0, LTX_Q4_0, LTX_Q4_K, LTX_Q5_K, LTX_Q6_K};
    static const int with_x[] = {LTX_R8, LTX_Q8_0, LTX_R4, LTX_Q4_X, LTX_F32, LTX_Q8_X};
    int f = b->format == MIXED_X ? with_x[test_int(&b->rng, 6)] : b->format == MIXED_K ? all[test_int(&b->rng, 7)] : b->format != MIXED ? b->format : formats[test_int(&b->rng, floats_only ? 3 : 5)];
    b->any_quantized |= ref_is_quantized(f);
    return f;
}

/* Elements base + scale * gauss, at an odd address. */
static ltx_mat new_mat(box *b, int type, int rows, int cols, double base, double scale)
{
    size_t stride = ref_row_bytes(type, cols);
    test_block block = test_alloc_at(ref_mat_bytes(type, rows, cols), 16, 1 + 2 * (size_t)test_int(&b->rng, 4));
    double *row = ref_new(cols);
    float *all = (float *)test_malloc(sizeof(float) * (size_t)(rows * cols));
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < cols; c++) all[r * cols + c] = (float)(row[c] = base + scale * test_gauss(&b->rng));
        if (!ref_is_grouped(type)) ref_encode_row(type, row, cols, block.ptr + stride * (size_t)r);
    }
    if (ref_is_grouped(type)) CHECK_EQ(ltx_mat_encode(type, all, rows, cols, block.ptr), LTX_OK);
    free(row);
    free(all);
    ltx_mat m = {block.ptr, type, rows, cols};
    b->blocks[b->n_blocks++] = block;
    return m;
}

static ltx_mat new_weights(box *b, const shape *s, int rows, int cols)
{
    return new_mat(b, next_format(b, (s->flags & FLOATS_ONLY) != 0), rows, cols, 0.0, 1.0 / sqrt((double)cols));
}

static ltx_mat new_norm(box *b, int n)
{
    return new_mat(b, LTX_F32, 1, n, 1.0, 0.2);
}

static ltx_mat new_bias(box *b, int n)
{
    return new_mat(b, LTX_F32, 1, n, 0.0, 0.2);
}

static void new_attention(box *b, const shape *s, ltx_layer *l)
{
    int head_dim = s->head_dim ? s->head_dim : s->dim / s->n_heads, kv_heads = s->n_kv_heads ? s->n_kv_heads : s->n_heads;
    int q = s->n_heads * head_dim, k = kv_heads * head_dim;
    l->attn_norm = new_norm(b, s->dim);
    l->wq = new_weights(b, s, q, s->dim);
    l->wk = new_weights(b, s, k, s->dim);
    l->wv = new_weights(b, s, k, s->dim);
    l->wo = new_weights(b, s, s->dim, q);
    if (s->flags & BIASES) {
        l->bq = new_bias(b, q);
        l->bk = new_bias(b, k);
        l->bv = new_bias(b, k);
        l->bo = new_bias(b, s->dim);
    }
    if (s->flags & QK_NORMS) {
        l->q_norm = new_norm(b, head_dim);
        l->k_norm = new_norm(b, head_dim);
    }
}

static void new_ffn(box *b, const shape *s, ltx_layer *l, int width)
{
    l->ffn_norm = new_norm(b, s->dim);
    if (!(s->flags & NO_GATE)) l->w_gate = new_weights(b, s, width, s->dim);
    l->w_up = new_weights(b, s, width, s->dim);
    l->w_down = new_weights(b, s, s->dim, width);
    if (s->flags & BIASES) {
        if (!(s->flags & NO_GATE)) l->b_gate = new_bias(b, width);
        l->b_up = new_bias(b, width);
        l->b_down = new_bias(b, s->dim);
    }
}

static box *new_box(const shape *s, int format, uint64_t seed)
{
    box *b = (box *)test_malloc(sizeof *b);
    memset(b, 0, sizeof *b);
    b->format = format;
    b->rng.state = seed;
    int floats_only = (s->flags & FLOATS_ONLY) != 0;
    ltx_model m = {0};
    m.dim = s->dim, m.n_layers = s->n_layers, m.n_heads = s->n_heads, m.n_kv_heads = s->n_kv_heads, m.head_dim = s->head_dim;
    m.vocab = s->vocab, m.ctx = 64, m.rope_pairs = s->rope_pairs, m.rope_dims = s->rope_dims, m.act = s->act;
    m.norm_eps = s->eps, m.rope_theta = s->theta, m.rope_scale = s->rope_scale, m.attn_scale = s->attn_scale;
    m.embed = new_mat(b, next_format(b, floats_only), s->vocab, s->dim, 0.0, 0.4);
    m.out_norm = new_norm(b, s->dim);
    /* logits of deviation 3: probabilities neither flat nor certain */
    if (!(s->flags & TIED)) m.head = new_mat(b, next_format(b, floats_only), s->vocab, s->dim, 0.0, 3.0 / sqrt((double)s->dim));
    if (s->flags & FACTORS) {
        m.rope_factors = new_mat(b, LTX_F32, 1, (s->rope_dims ? s->rope_dims : s->head_dim) / 2, 2.0, 0.2);
    }
    for (int i = 0; i < s->n_layers; i++) {
        if (!(s->no_attention >> i & 1u)) new_attention(b, s, &b->layers[i]);
        if (s->ffn[i]) new_ffn(b, s, &b->layers[i], s->ffn[i]);
    }
    m.probes = new_mat(b, next_format(b, floats_only), s->n_layers, s->dim, 0.0, 2.0 / sqrt((double)s->dim));
    m.probe_bias = new_bias(b, s->n_layers);
    for (int i = 0; i < s->n_layers; i++) { /* hidden vectors are small at first: unit length only after a norm */
        b->layers[i].router = new_mat(b, next_format(b, floats_only), 1, s->dim, 0.0, (i % 2 ? 1.0 : 3.0) / sqrt((double)s->dim));
        if (i % 3 != 1) b->layers[i].router_bias = new_bias(b, 1);
        if (i % 2) b->layers[i].router_norm = new_norm(b, s->dim);
    }
    m.norm = (s->flags & LAYER_NORM) ? LTX_NORM_LAYER : LTX_NORM_RMS;
    m.norm_after = (s->flags & NORM_AFTER) != 0;
    if (s->flags & LAYER_NORM) {
        m.out_norm_bias = new_bias(b, s->dim);
        m.head_bias = new_bias(b, s->vocab);
        for (int i = 0; i < s->n_layers - 1; i++) b->layers[i].attn_norm_bias = new_bias(b, s->dim), b->layers[i].ffn_norm_bias = new_bias(b, s->dim);
    } else if (s->flags & NORM_AFTER) {
        m.out_norm.data = NULL;
    }
    b->model = m;
    b->model.layers = b->layers;
    CHECK_EQ(ltx_model_check(&b->model, NULL), LTX_OK);
    ref_model_load(&b->model, &b->ref);
    return b;
}

static void free_box(box *b)
{
    for (int i = 0; i < b->n_blocks; i++) test_free(&b->blocks[i]);
    ref_model_free(&b->ref);
    free(b);
}

static tolerance tolerance_of(const box *b, int kv)
{
    if (b->any_quantized) return quant_tol;
    if (kv == LTX_KV_I8) return int8_kv_tol;
    return kv == LTX_KV_F32 ? float_tol : half_kv_tol;
}

/* ==== sessions beside the reference ====================================================================== */

/* A session in three blocks of exactly the promised sizes. */
typedef struct live {
    ltx_session *s;
    test_block state, cache, scratch;
} live;

static int live_open(live *l, const ltx_model *m, const ltx_session_desc *d)
{
    ltx_session_needs need;
    memset(l, 0, sizeof *l);
    memset(&need, 0, sizeof need);
    if (!CHECK_EQ(ltx_session_need(m, d, &need), LTX_OK)) return 0;
    l->state = test_alloc(need.state.size, need.state.align);
    l->cache = test_alloc(need.cache.size, need.cache.align);
    l->scratch = test_alloc(need.scratch.size, need.scratch.align);
    ltx_session_mems mems = {{l->state.ptr, l->state.size}, {l->cache.ptr, l->cache.size}, {l->scratch.ptr, l->scratch.size}};
    return CHECK_EQ(ltx_session_init(m, d, &mems, &l->s), LTX_OK);
}

static void live_close(live *l)
{
    test_free(&l->state);
    test_free(&l->cache);
    test_free(&l->scratch);
}

/* Logits of all wanted rows, in order. */
typedef struct record {
    float *logits;
    int    rows, cap;
} record;

static void record_add(record *r, const float *logits, int vocab)
{
    if (r->rows == r->cap) {
        size_t old = sizeof(float) * (size_t)(r->cap * vocab);
        r->cap = 2 * r->cap + 32;
        r->logits = (float *)ref_grow(r->logits, old, sizeof(float) * (size_t)(r->cap * vocab));
    }
    memcpy(r->logits + (size_t)(r->rows++) * (size_t)vocab, logits, sizeof(float) * (size_t)vocab);
}

/* A session and the reference, fed the same. */
typedef struct pair {
    const box *b;
    live       l;
    ref_state *ref; /* NULL = only record, for comparisons of bits */
    ltx_plan   plan;
    ltx_policy policy;
    tolerance  tol;
    record     rec;
    int        exits; /* rows that left in the reference                             */
    uint64_t   left, skipped; /* rows and steps as ltx_stats counts them             */
    int        lost;  /* 1 = a gate was decided by rounding: no comparison from then on */
} pair;

/* What all comparisons of a test add up to. */
static struct {
    long   rows, tight;
    double worst;
} tally;

static void tally_start(void)
{
    memset(&tally, 0, sizeof tally);
}

/* Most rows must have met the tight bound. */
static void tally_end(void)
{
    printf("%s: %ld rows, %.1f %% tight, largest difference %.3g\n", test_now.name, tally.rows,
           tally.rows ? 100.0 * (double)tally.tight / (double)tally.rows : 0.0, tally.worst);
    CHECK(tally.rows > 0 && 2 * tally.tight >= tally.rows);
}

static int pair_open(pair *p, const box *b, const ltx_session_desc *d, int with_ref)
{
    memset(p, 0, sizeof *p);
    p->b = b;
    p->plan = d->plan;
    p->policy = d->policy;
    p->tol = d->act_bits == 16 ? row_16_tol : tolerance_of(b, d->kv);
    ref_options opt = {d->act_bits == 16 ? 16 : 1, d->kv, d->window, d->sinks};
    if (with_ref) p->ref = ref_open(&b->ref, &opt);
    return live_open(&p->l, &b->model, d);
}

static void pair_close(pair *p)
{
    if (p->ref) ref_close(p->ref);
    live_close(&p->l);
    free(p->rec.logits);
    memset(p, 0, sizeof *p);
}

static void compare_row(pair *p, const float *got, const double *want, int position)
{
    double most = 0.0;
    for (int i = 0; i < p->b->model.vocab; i++) {
        double error = fabs((double)got[i] - want[i]) / fmax(1.0, fabs(want[i]));
        most = fmax(most, isnan(error) ? 1e30 : error);
    }
    tally.rows++;
    tally.tight += most <= p->tol.tight;
    tally.worst = fmax(tally.worst, most);
    if (!(most <= p->tol.loose) && test_fail(__FILE__, __LINE__))
        printf("position %d: logits differ by %.3g, allowed %.3g\n", position, most, p->tol.loose);
}

/* The reference's side of a batch. */
static void pair_follow(pair *p, const ltx_batch *batch, const ltx_output *out)
{
    double *logits = ref_new(p->b->model.vocab), *embed = ref_new(p->b->model.dim);
    for (int i = 0; i < batch->count && !p->lost; i++) {
        int row = i - (batch->count - batch->logits), position = p->ref->position;
        ref_outcome outcome;
        ref_input in = {batch->tokens ? batch->tokens[i] : -1, embed, row >= 0};
        for (int d = 0; !batch->tokens && d < p->b->model.dim; d++) embed[d] = (double)batch->embeds[i * p->b->model.dim + d];
        ref_row_run(p->ref, &p->plan, &p->policy, &in, logits, &outcome);
        p->exits += outcome.left || outcome.skipped > 0;
        p->left += (uint64_t)outcome.left;
        p->skipped += (uint64_t)(outcome.skipped + outcome.around);
        p->lost = outcome.nearest < p->tol.tie;
        if (row < 0 || p->lost) continue;
        compare_row(p, out->logits + row * p->b->model.vocab, logits, position);
        CHECK_EQ(out->depth[row], outcome.depth);
    }
    free(logits);
    free(embed);
}

static int pair_batch(pair *p, const ltx_batch *batch)
{
    ltx_output out = {0};
    int before = ltx_position(p->l.s);
    if (!CHECK_EQ(ltx_eval_batch(p->l.s, batch, &out), LTX_OK)) return 0;
    CHECK_EQ(ltx_position(p->l.s), before + batch->count);
    for (int i = 0; i < batch->logits; i++) record_add(&p->rec, out.logits + i * p->b->model.vocab, p->b->model.vocab);
    if (p->ref) pair_follow(p, batch, &out);
    return 1;
}

/* `count` tokens of which the last `wanted` ask for logits, at once or one by one. */
static int pair_feed(pair *p, const int32_t *tokens, int count, int wanted, int one_by_one)
{
    ltx_batch whole = {.tokens = tokens, .count = count, .logits = wanted};
    if (!one_by_one) return pair_batch(p, &whole);
    for (int i = 0; i < count; i++) {
        ltx_batch single = {.tokens = tokens + i, .count = 1, .logits = i >= count - wanted};
        if (!pair_batch(p, &single)) return 0;
    }
    return 1;
}

static int pair_rewind(pair *p, int position)
{
    if (p->ref) ref_rewind(p->ref, position);
    return CHECK_EQ(ltx_rewind(p->l.s, position), LTX_OK);
}

/* ==== scripts =========================================================================================== */

/* One action: feed `count` tokens of which `wanted` ask for logits; count < 0: rewind by -count. */
typedef struct action { int count, wanted; } action;

typedef struct script {
    const action *actions;
    int n;
} script;

static const action short_actions[] = {{5, 1}, {1, 1}, {1, 0}, {7, 7}, {3, 2}, {1, 1}, {1, 1}, {2, 0}, {4, 4}};
static const action rewind_actions[] = {{5, 1}, {3, 3}, {-4, 0}, {6, 6}, {-1, 0}, {1, 1}, {1, 1}, {-3, 0}, {2, 0}, {3, 3}, {-13, 0}, {4, 4}, {1, 1}};
static const action long_actions[] = {{8, 8}, {8, 1}, {1, 1}, {1, 1}, {8, 8}, {6, 0}, {2, 2}, {1, 1}, {8, 8}, {3, 1}, {8, 8}, {1, 1}, {1, 1}, {7, 7}};
static const action long_rewind_actions[] = {{8, 8}, {8, 1}, {-3, 0}, {1, 1}, {6, 6}, {8, 2}, {-7, 0}, {1, 1}, {8, 8}, {-8, 0}, {8, 8}, {-1, 0}, {1, 1}, {5, 5}};
#define SCRIPT(a) {a, sizeof a / sizeof a[0]}
static const script short_script = SCRIPT(short_actions), rewind_script = SCRIPT(rewind_actions);
static const script long_script = SCRIPT(long_actions), long_rewind_script = SCRIPT(long_rewind_actions);

static void script_run(pair *p, const script *sc, int one_by_one)
{
    test_rng r = {777};
    int32_t tokens[16];
    for (int a = 0; a < sc->n; a++) {
        int count = sc->actions[a].count;
        for (int i = 0; i < count; i++) tokens[i] = test_int(&r, p->b->model.vocab);
        if (count < 0 && !pair_rewind(p, ltx_position(p->l.s) + count)) return;
        if (count > 0 && !pair_feed(p, tokens, count, sc->actions[a].wanted, one_by_one)) return;
    }
}

typedef struct variant {
    const char *name;
    int isa, one_by_one, rows, threads;
} variant;

static const variant variants[] = {
    {"scalar", LTX_ISA_SCALAR, 0, 0, 0}, {"avx2", LTX_ISA_AVX2, 0, 0, 0},     {"avx512", LTX_ISA_AVX512, 0, 0, 0},
    {"one by one", 0, 1, 0, 0},          {"eight rows", 0, 0, 8, 0}, {"three tasks", 0, 0, 0, 3},
};

/* Work is counted where it happens: the same rows, steps and slots as in the reference. Not if rows waited that a rewind dropped: the
   reference ran them at once. */
static void check_counters(pair *p, const script *sc)
{
    ltx_stats st;
    for (int a = 0; a < sc->n; a++) if (sc->actions[a].count < 0 && p->plan.fill == LTX_FILL_DEFER && p->exits) return;
    CHECK_EQ(ltx_flush(p->l.s), LTX_OK);
    ltx_session_stats(p->l.s, &st);
    CHECK_EQ(st.attn_rows, p->ref->attn_rows);
    CHECK_EQ(st.ffn_rows, p->ref->ffn_rows);
    CHECK_EQ(st.fill_rows, p->ref->fill_rows);
    CHECK_EQ(st.attended, p->ref->attended);
    CHECK_EQ(st.exits, p->left);
    CHECK_EQ(st.skipped, p->skipped);
    CHECK_EQ(st.rounds + st.drafted + st.accepted, 0);
}

/* The whole check of a descriptor: beside the reference, then the same bits in all variants. Returns the exits, -1 if a gate was
   decided by rounding. */
static int check_script(const box *b, const ltx_session_desc *desc, const script *sc)
{
    pair base, other;
    int ok = pair_open(&base, b, desc, 1);
    if (ok) script_run(&base, sc, 0);
    for (size_t v = 0; ok && v < sizeof variants / sizeof variants[0]; v++) {
        const variant *w = &variants[v];
        ltx_session_desc d = *desc;
        if (w->isa && !(ltx_isa_mask() >> w->isa & 1u)) continue;
        d.isa = w->isa;
        d.threads = w->threads;
        if (w->rows) d.rows = d.logits_rows = w->rows;
        if (w->threads) d.pool.run = kit_backwards;
        if (pair_open(&other, b, &d, 0)) {
            script_run(&other, sc, w->one_by_one);
            size_t size = sizeof(float) * (size_t)(base.rec.rows * b->model.vocab);
            if (!CHECK(other.rec.rows == base.rec.rows && memcmp(other.rec.logits, base.rec.logits, size) == 0))
                printf("  bits differ: %s\n", w->name);
        }
        pair_close(&other);
    }
    int exits = base.lost ? -1 : base.exits;
    if (ok && !base.lost) check_counters(&base, sc);
    pair_close(&base);
    return exits;
}

static ltx_session_desc new_desc(int kv)
{
    ltx_session_desc d;
    memset(&d, 0, sizeof d);
    d.rows = d.logits_rows = 16;
    d.kv = kv;
    return d;
}

static void name_failure(long before, const char *what, int format, const char *more)
{
    if (test_now.failures != before && before < TEST_MAX_PRINTED)
        printf("  in: %s %s %s\n", what, format < 0 ? "mixed" : ltx_type_name(format), more);
}

/* ==== tests: shapes, formats, caches ===================================================================== */

static void shape_of_format(const shape *s, int format, uint64_t seed)
{
    long before = test_now.failures;
    box *b = new_box(s, format, seed);
    ltx_session_desc d = new_desc(LTX_KV_F32);
    check_script(b, &d, &short_script);
    free_box(b);
    name_failure(before, s->name, format, "");
}

static void shapes_of_format(int format)
{
    tally_start();
    for (int i = 0; i < N_SHAPES; i++)
        if (!(shapes[i].flags & FLOATS_ONLY) || !ref_is_quantized(format)) shape_of_format(&shapes[i], format, 1000 + (uint64_t)i);
    tally_end();
}

static void shapes_f32(void)
{
    shapes_of_format(LTX_F32);
}

static void shapes_f16(void)
{
    shapes_of_format(LTX_F16);
}

static void shapes_bf16(void)
{
    shapes_of_format(LTX_BF16);
}

static void shapes_q8_0(void)
{
    shapes_of_format(LTX_Q8_0);
}

static void shapes_q4_0(void)
{
    shapes_of_format(LTX_Q4_0);
}

/* The embedding is of the format, too: rows of it are looked up. */
static void shapes_k(void)
{
    tally_start();
    shape_of_format(&wide, LTX_Q4_K, 1020);
    shape_of_format(&wide, LTX_Q5_K, 1021);
    shape_of_format(&wide, LTX_Q6_K, 1022);
    shape_of_format(&wide, MIXED_K, 1023); /* products of the same inputs in blocks of 32 and of 256 */
    tally_end();
}

/* Sixteen rows together, with bytes of activations and, where rows have one scale, with pairs of them. */
static void shapes_of_x(int act_bits)
{
    static const int x[] = {LTX_R8, LTX_R4, LTX_Q8_X, LTX_Q4_X, MIXED_X};
    tally_start();
    for (int i = 0; i < (act_bits == 8 ? 5 : 2); i++)
        for (int n = 0; n < N_SHAPES; n++) {
            long before = test_now.failures;
            if (shapes[n].flags & FLOATS_ONLY) continue;
            box *b = new_box(&shapes[n], x[i], 1030 + (uint64_t)(i * N_SHAPES + n));
            ltx_session_desc d = new_desc(LTX_KV_F32);
            d.act_bits = act_bits;
            check_script(b, &d, &short_script);
            free_box(b);
            name_failure(before, shapes[n].name, x[i], "");
        }
    tally_end();
}

static void shapes_x(void)
{
    shapes_of_x(8);
}

static void shapes_x_16_bits(void)
{
    shapes_of_x(16);
}

static void shapes_mixed(void)
{
    shapes_of_format(MIXED);
}

static void kv_formats(void)
{
    static const int kvs[] = {LTX_KV_AUTO, LTX_KV_F16, LTX_KV_I8};
    tally_start();
    for (int i = 0; i < N_SHAPES; i++)
        for (int k = 0; k < 3; k++) {
            long before = test_now.failures;
            box *b = new_box(&shapes[i], LTX_F32, 1100 + (uint64_t)i);
            ltx_session_desc d = new_desc(kvs[k]);
            check_script(b, &d, &short_script);
            free_box(b);
            name_failure(before, shapes[i].name, LTX_F32, k == 2 ? "i8 cache" : "f16 cache");
        }
    tally_end();
}

/* ==== tests: plans ====================================================================================== */

static ltx_step new_step(int layer, int cache, int run, float attn_scale, float ffn_scale)
{
    ltx_step s;
    memset(&s, 0, sizeof s);
    s.layer = (int16_t)layer;
    s.cache = (int16_t)cache;
    s.run = (uint8_t)run;
    s.attn_scale = attn_scale;
    s.ffn_scale = ffn_scale;
    return s;
}

static void check_steps(const ltx_step *a, const ltx_step *b, int count)
{
    for (int i = 0; i < count; i++) {
        CHECK_EQ(a[i].layer, b[i].layer);
        CHECK_EQ(ref_cache_of(&a[i]), ref_cache_of(&b[i]));
        CHECK_EQ(a[i].run, b[i].run);
        CHECK_EQ(a[i].gate, b[i].gate);
        CHECK(ref_default(a[i].attn_scale, 1.0) == ref_default(b[i].attn_scale, 1.0));
        CHECK(ref_default(a[i].ffn_scale, 1.0) == ref_default(b[i].ffn_scale, 1.0));
    }
}

/* The helpers write the plans that one writes by hand. */
static void plan_helpers(void)
{
    enum { BOTH = LTX_ATTN | LTX_FFN };
    box *b = new_box(&shapes[5], LTX_F32, 1200); /* layer 1 has no ffn, layer 2 no attention */
    ltx_step got[MAX_STEPS], want[MAX_STEPS];
    int32_t n = -1;
    CHECK_EQ(ltx_plan_full(&b->model, got, 4, &n), LTX_E_FULL);
    CHECK_EQ(n, -1);
    CHECK_EQ(ltx_plan_full(&b->model, got, MAX_STEPS, &n), LTX_OK);
    CHECK_EQ(n, 5);
    ref_plan_full(&b->ref, want);
    check_steps(got, want, 5);

    CHECK_EQ(ltx_plan_drop(got, &n, 3, LTX_ATTN), LTX_OK);
    CHECK_EQ(n, 5);
    want[3].run = LTX_FFN;
    check_steps(got, want, 5);
    CHECK_EQ(ltx_plan_drop(got, &n, 1, LTX_ATTN), LTX_OK); /* had only this branch */
    CHECK_EQ(n, 4);
    want[1] = want[2], want[2] = want[3], want[3] = want[4];
    check_steps(got, want, 4);
    CHECK_EQ(ltx_plan_drop(got, &n, 9, BOTH), LTX_E_ARG);
    CHECK_EQ(n, 4);

    CHECK_EQ(ltx_plan_full(&b->model, got, MAX_STEPS, &n), LTX_OK);
    ref_plan_full(&b->ref, want);
    CHECK_EQ(ltx_plan_repeat(got, 8, &n, 3, 4, 3), LTX_E_FULL);
    CHECK_EQ(ltx_plan_repeat(got, MAX_STEPS, &n, 3, 5, 2), LTX_E_ARG);
    CHECK_EQ(n, 5);
    CHECK_EQ(ltx_plan_repeat(got, 9, &n, 3, 4, 3), LTX_OK);
    CHECK_EQ(n, 9);
    for (int i = 0; i < 4; i++) want[5 + i] = new_step(3 + i % 2, 6 + i, BOTH, 0.0f, 0.0f); /* caches 5, 6, 7, 8 */
    check_steps(got, want, 9);

    CHECK_EQ(ltx_plan_gates(got, n, 1, 3), LTX_OK);
    want[1].gate = want[4].gate = want[7].gate = 1;
    check_steps(got, want, 9);
    CHECK_EQ(ltx_plan_gates(got, n, 2, 6), LTX_OK); /* the last step is none */
    want[1].gate = want[4].gate = want[7].gate = 0, want[2].gate = 1;
    check_steps(got, want, 9);
    CHECK_EQ(ltx_plan_gates(got, n, 0, 0), LTX_OK);
    want[2].gate = 0;
    check_steps(got, want, 9);
    free_box(b);
}

typedef struct plan_case {
    const char *name;
    int count;
    ltx_step steps[MAX_STEPS];
} plan_case;

#define STEP(layer_, cache_, run_, a, f) {.layer = layer_, .cache = cache_, .run = run_, .attn_scale = a, .ffn_scale = f}
/* For models of at least three layers with all branches. */
static const plan_case plan_cases[] = {
    {"drop attention", 3, {STEP(0, 0, 3, 0, 0), STEP(1, 0, 2, 0, 0), STEP(2, 0, 3, 0, 0)}},
    {"drop ffn", 3, {STEP(0, 0, 1, 0, 0), STEP(1, 0, 3, 0, 0), STEP(2, 0, 1, 0, 0)}},
    {"drop layer", 2, {STEP(0, 0, 3, 0, 0), STEP(2, 0, 3, 0, 0)}},
    {"one step", 1, {STEP(1, 0, 3, 0, 0)}},
    {"ffn only", 2, {STEP(1, 0, 2, 0, 0), STEP(0, 0, 2, 0, 0)}},
    {"repeat", 7, {STEP(0, 0, 3, 0, 0), STEP(1, 0, 3, 0, 0), STEP(2, 0, 3, 0, 0), STEP(1, 4, 3, 0, 0), STEP(2, 5, 3, 0, 0),
                   STEP(1, 6, 3, 0, 0), STEP(2, 7, 3, 0, 0)}},
    {"loop of one", 4, {STEP(0, 0, 3, 0, 0), STEP(0, 5, 3, 0, 0), STEP(0, 3, 3, 0, 0), STEP(2, 7, 3, 0, 0)}},
    {"order", 3, {STEP(2, 1, 3, 0, 0), STEP(0, 2, 3, 0, 0), STEP(1, 3, 3, 0, 0)}},
    {"halves apart", 5, {STEP(0, 0, 1, 0, 0), STEP(1, 0, 1, 0, 0), STEP(0, 0, 2, 0, 0), STEP(1, 0, 2, 0, 0), STEP(2, 0, 3, 0, 0)}},
    {"beside", 4, {STEP(0, 0, 3, 0, 0), STEP(1, 0, 3, 0, 0.5f), STEP(2, 0, 7, 0, 0), STEP(0, 5, 3, 0, 0)}},
    {"all beside", 6, {STEP(0, 0, 1, 0, 0), STEP(0, 0, 6, 0, 0), STEP(1, 0, 5, 0, 0), STEP(1, 0, 6, 0, 0), STEP(2, 0, 1, 0, 0), STEP(2, 0, 6, 0, 0)}},
    {"macaron", 6, {STEP(0, 0, 2, 0, 0.5f), STEP(0, 0, 1, 0, 0), STEP(0, 0, 2, 0, 0.5f), STEP(1, 0, 2, 0, 0.5f), STEP(1, 0, 1, 0, 0), STEP(1, 0, 2, 0, 0.5f)}},
    {"scales", 3, {STEP(0, 0, 3, 0.5f, 1.5f), STEP(1, 0, 3, -0.25f, 0), STEP(2, 0, 3, 0, 0.125f)}},
};
enum { N_PLAN_CASES = sizeof plan_cases / sizeof plan_cases[0] };

static void plans_of_format(int shape_index, int format, int kv)
{
    box *b = new_box(&shapes[shape_index], format, 1300);
    for (int c = 0; c < N_PLAN_CASES; c++) {
        long before = test_now.failures;
        ltx_session_desc d = new_desc(kv);
        d.plan.steps = plan_cases[c].steps;
        d.plan.count = plan_cases[c].count;
        check_script(b, &d, &short_script);
        name_failure(before, plan_cases[c].name, format, "");
    }
    free_box(b);
}

static void plans(void)
{
    tally_start();
    plans_of_format(0, LTX_F32, LTX_KV_F32);
    plans_of_format(1, LTX_F16, LTX_KV_F32);
    plans_of_format(2, LTX_Q8_0, LTX_KV_F16);
    plans_of_format(3, MIXED, LTX_KV_I8);
    tally_end();
}

/* Full depth, then without some layers, then full again: each cache keeps the positions for which its step ran. */
static void plan_switch(void)
{
    test_rng r = {1400};
    tally_start();
    for (int fill = 0; fill < 3; fill++) {
        long before = test_now.failures;
        box *b = new_box(&shapes[0], LTX_F32, 1400);
        ltx_session_desc d = new_desc(LTX_KV_F32);
        ltx_step gated[4];
        ltx_plan full = {gated, 4, fill}, part = {plan_cases[2].steps, plan_cases[2].count, fill};
        pair p;
        ref_plan_full(&b->ref, gated);
        gated[1].gate = 1;
        d.plan = full;
        d.policy.rule = LTX_EXIT_ALWAYS;
        if (pair_open(&p, b, &d, 1)) {
            for (int round = 0; round < 6; round++) {
                int32_t tokens[6];
                for (int i = 0; i < 6; i++) tokens[i] = test_int(&r, b->model.vocab);
                p.plan = round % 2 ? part : full;
                p.policy.rule = round == 4 ? LTX_EXIT_NEVER : LTX_EXIT_ALWAYS;
                CHECK_EQ(ltx_set_plan(p.l.s, &p.plan), LTX_OK);
                CHECK_EQ(ltx_set_policy(p.l.s, &p.policy), LTX_OK);
                pair_feed(&p, tokens, 6, 3, round == 2);
            }
        }
        pair_close(&p);
        free_box(b);
        name_failure(before, "fill", LTX_F32, fill == 0 ? "project" : fill == 1 ? "defer" : "none");
    }
    tally_end();
}

/* ==== tests: gates ====================================================================================== */

static const char *const rule_names[] = {"never", "prob", "margin", "entropy", "cosine", "always", "ask", "patience", "probe", "change"};
static const char *const fill_names[] = {"project", "defer", "none"};

/* The script in the reference alone. Collects measures; returns the smallest distance to the threshold. */
static double rehearse(const box *b, const ltx_session_desc *d, const script *sc, double *measures, int *count, int *exits)
{
    test_rng r = {777}; /* the tokens of script_run */
    ref_options opt = {d->act_bits == 16 ? 16 : 1, d->kv, d->window, d->sinks};
    ref_state *s = ref_open(&b->ref, &opt);
    double nearest = 1e30, *logits = ref_new(b->model.vocab);
    *count = *exits = 0;
    for (int a = 0; a < sc->n; a++) {
        if (sc->actions[a].count < 0) ref_rewind(s, s->position + sc->actions[a].count);
        for (int i = 0; i < sc->actions[a].count; i++) {
            ref_input in = {test_int(&r, b->model.vocab), NULL, i >= sc->actions[a].count - sc->actions[a].wanted};
            ref_outcome out;
            ref_row_run(s, &d->plan, &d->policy, &in, logits, &out);
            nearest = fmin(nearest, out.nearest);
            *exits += out.left || out.skipped > 0;
            for (int g = 0; g < out.asked && *count < 1024; g++) measures[(*count)++] = out.measure[g];
        }
    }
    free(logits);
    ref_close(s);
    return nearest;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A threshold in the middle of the observed range at which some rows leave, some do not, and none is decided by rounding. */
static int pick_threshold(const box *b, ltx_session_desc *d, const script *sc)
{
    static double measures[1024], ignored[1024];
    int n = 0, m = 0, exits = 0;
    double tie = tolerance_of(b, d->kv).tie;
    d->policy.threshold = d->policy.rule == LTX_EXIT_ENTROPY ? -1.0f : d->policy.rule == LTX_EXIT_CHANGE ? -3e30f : 100.0f; /* nobody leaves */
    rehearse(b, d, sc, measures, &n, &exits);
    qsort(measures, (size_t)n, sizeof measures[0], by_value);
    for (int tries = 0; tries < n - 1; tries++) {
        int i = n / 2 + (tries % 2 ? -1 : 1) * (tries + 1) / 2; /* from the middle outwards */
        if (i < 0 || i + 1 >= n || measures[i + 1] - measures[i] < 2.2 * tie) continue;
        d->policy.threshold = (float)((measures[i] + measures[i + 1]) / 2.0);
        if (rehearse(b, d, sc, ignored, &m, &exits) >= tie && exits > 0 && exits < n) return 1;
    }
    return 0;
}

/* Returns 1 if a threshold was found and compared to the end. */
static int check_gates(const box *b, int rule, int fill, int kv, int first, int every, const script *sc)
{
    long before = test_now.failures;
    ltx_step steps[MAX_STEPS];
    ltx_session_desc d = new_desc(kv);
    d.plan = ref_plan_full(&b->ref, steps);
    d.plan.fill = fill;
    d.policy.rule = rule;
    CHECK_EQ(ltx_plan_gates(steps, d.plan.count, first, every), LTX_OK);
    if (rule != LTX_EXIT_ALWAYS && !pick_threshold(b, &d, sc)) return 0;
    int exits = check_script(b, &d, sc);
    CHECK(exits > 0);
    name_failure(before, rule_names[rule], b->format, fill_names[fill]);
    return exits > 0;
}

static void gates_of_format(int format, int kv)
{
    static const int which[] = {0, 5}; /* all branches; layers without ffn or attention */
    int done = 0, all = 0;
    tally_start();
    for (int i = 0; i < 2; i++) {
        box *b = new_box(&shapes[which[i]], format, 1500 + (uint64_t)i);
        for (int rule = LTX_EXIT_PROB; rule <= LTX_EXIT_CHANGE; rule++)
            for (int fill = 0; fill < 3 && rule != LTX_EXIT_ASK; fill++) {
                done += check_gates(b, rule, fill, kv, 0, 1, fill == 1 ? &rewind_script : &short_script);
                all++;
            }
        for (int fill = 0; fill < 3; fill++) check_gates(b, LTX_EXIT_ALWAYS, fill, kv, fill, 1, &rewind_script);
        free_box(b);
    }
    CHECK(3 * done >= 2 * all);
    tally_end();
}

/* Rules that skip steps or take them back, for rows of prompts as well, in plans with ffns of their own and with layers side by side. */
static void gates_that_skip(void)
{
    static const int rules[] = {LTX_EXIT_COSINE, LTX_EXIT_PROBE, LTX_EXIT_CHANGE}, answers[] = {1, 3, LTX_UNDO, 0};
    int done = 0, all = 0;
    tally_start();
    for (int c = 0; c < 3 * 4 * 3 * 2; c++) {
        int rule = rules[c % 3], yes = answers[c / 3 % 4], fill = c / 12 % 3, beside = c / 36;
        box *b = new_box(&shapes[0], LTX_F32, 1550 + (uint64_t)c);
        ltx_step steps[MAX_STEPS];
        ltx_session_desc d = new_desc(LTX_KV_F32);
        d.plan = ref_plan_full(&b->ref, steps);
        d.plan.fill = fill;
        CHECK_EQ(ltx_plan_split(steps, MAX_STEPS, &d.plan.count), LTX_OK);
        CHECK_EQ(d.plan.count, 8);
        if (beside) CHECK_EQ(ltx_plan_beside(steps, 8, 2, 5), LTX_OK);
        CHECK_EQ(ltx_plan_gates(steps, 8, 0, yes == 1 ? 2 : 1), LTX_OK); /* 1: after attention, skip the ffn */
        d.policy.rule = rule;
        d.policy.yes = yes;
        d.policy.all_rows = c % 2;
        all++;
        if (pick_threshold(b, &d, &rewind_script) && check_script(b, &d, &rewind_script) > 0) done++;
        free_box(b);
    }
    CHECK(3 * done >= 2 * all);
    tally_end();
}

/* Mixture of depths: routers, holes in caches, weights, positions with and without gaps; together with exits and all fills. */
static void routers(void)
{
    static const int bits[] = {0, LTX_WEIGH, LTX_RENUMBER, LTX_WEIGH | LTX_RENUMBER | LTX_PROMPT};
    uint64_t around = 0;
    tally_start();
    for (int c = 0; c < 4 * 3 * 4; c++) {
        int fill = c / 4 % 3, kind = c / 12, format = kind == 3 ? LTX_Q8_0 : LTX_F32;
        box *b = new_box(&shapes[kind == 1 ? 1 : 0], format, 1570 + (uint64_t)c);
        ltx_step steps[MAX_STEPS];
        ltx_session_desc d = new_desc(LTX_KV_F32);
        d.plan = ref_plan_full(&b->ref, steps);
        d.plan.fill = fill;
        if (kind == 2) { d.window = 5; d.sinks = 1; }
        for (int i = 0; i < d.plan.count; i++) {
            steps[i].run = (uint8_t)(steps[i].run | bits[c % 4]);
            steps[i].route = i == 0 ? 0.0f : 0.47f;
        }
        CHECK_EQ(ltx_plan_gates(steps, d.plan.count, 0, 1), LTX_OK);
        d.policy.rule = kind > 0 ? LTX_EXIT_PROBE : LTX_EXIT_NEVER;
        if (kind == 0 || pick_threshold(b, &d, &short_script)) check_script(b, &d, kind == 2 ? &short_script : &rewind_script);
        live l;
        if (live_open(&l, &b->model, &d)) {
            int32_t tokens[8] = {1, 2, 3, 4, 5, 6, 7, 8};
            ltx_stats st;
            CHECK_EQ(ltx_eval(l.s, tokens, 8, NULL), LTX_OK);
            ltx_session_stats(l.s, &st);
            CHECK_EQ((long)st.attn_rows, (long)st.ffn_rows);
            CHECK_EQ((long)(st.attn_rows + st.skipped), 8L * d.plan.count);
            around += st.skipped;
        }
        live_close(&l);
        free_box(b);
    }
    CHECK(around > 100);
    tally_end();
}

/* A layer that is run three times, twice with additions of its own, and one without. */
static void adapters(void)
{
    static const int types[] = {LTX_F32, LTX_F16, LTX_Q8_0};
    tally_start();
    for (int f = 0; f < 3; f++) {
        const shape *sh = &shapes[f == 1 ? 1 : 0];
        box *b = new_box(sh, types[f], 1590 + (uint64_t)f);
        ltx_adapter ad[2];
        ltx_session_desc d = new_desc(LTX_KV_F32);
        int rank = f == 2 ? 32 : 5;
        memset(ad, 0, sizeof ad);
        for (int i = 0; i < 2; i++) {
            const ltx_layer *l = &b->layers[1];
            const ltx_mat *w[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->w_gate, &l->w_up, &l->w_down};
            ltx_lora *to[] = {&ad[i].q, &ad[i].k, &ad[i].v, &ad[i].o, &ad[i].gate, &ad[i].up, &ad[i].down};
            for (int j = i; j < 7; j += 1 + i) { /* the second one changes every other matrix */
                to[j]->a = new_mat(b, types[f], rank, w[j]->cols, 0.0, 1.0 / sqrt((double)w[j]->cols));
                to[j]->b = new_mat(b, types[f], w[j]->rows, rank, 0.0, 0.3 / sqrt((double)rank));
            }
        }
        ad[1].scale = -0.5f;
        b->model.adapters = ad; b->model.n_adapters = 2;
        ref_model_free(&b->ref);
        ref_model_load(&b->model, &b->ref);
        ltx_step steps[5] = {STEP(0, 0, 3, 0, 0), STEP(1, 0, 3, 0, 0), STEP(1, 5, 3, 0, 0), STEP(1, 6, 3, 0, 0), STEP(2, 0, 3, 0, 0)};
        steps[2].adapter = 1; steps[3].adapter = 2;
        d.plan.steps = steps; d.plan.count = 5;
        check_script(b, &d, &rewind_script);
        ltx_session_needs need;
        steps[4].adapter = 3;
        CHECK_EQ(ltx_session_need(&b->model, &d, &need), LTX_E_ARG);
        steps[4].adapter = 1; ad[0].q.b.rows++;
        CHECK_EQ(ltx_session_need(&b->model, &d, &need), LTX_E_ARG);
        ad[0].q.b.rows--;
        b->model.adapters = NULL; b->model.n_adapters = 0;
        free_box(b);
    }
    tally_end();
}

static void gates_f32(void)
{
    gates_of_format(LTX_F32, LTX_KV_F32);
}

static void gates_f16(void)
{
    gates_of_format(LTX_F16, LTX_KV_F16);
}

static void gates_q8_0(void)
{
    gates_of_format(LTX_Q8_0, LTX_KV_F32);
}

/* ==== tests: callbacks ================================================================================== */

typedef struct asker {
    int count;       /* steps of the plan                                        */
    int past_end;    /* 1 = may ask to skip more steps than there are            */
    int check_logits;
    int wrong;       /* views that broke a promise                                */
} asker;

/* Skips, leaves or goes on as a function of position, step and token. */
static int32_t ask(void *user, const ltx_view *v)
{
    asker *a = (asker *)user;
    unsigned x = (unsigned)(v->position * 7919 + v->step * 104729 + v->token * 31);
    int left = a->count - 1 - v->step;
    x ^= x >> 7;
    if (!v->hidden || !v->before || v->dim <= 0 || (v->logits != NULL) != (a->check_logits != 0)) a->wrong++;
    switch (x % 6u) {
    case 0: return LTX_LEAVE;
    case 1: return 1;
    case 2: return a->past_end ? left + 3 : left < 2 ? left : 2;
    case 3: return left;
    case 4: return LTX_UNDO;
    default: return LTX_GO;
    }
}

static void check_ask(int shape_index, int format, int fill, int past_end, int want_logits)
{
    long before = test_now.failures;
    box *b = new_box(&shapes[shape_index], format, 1600 + (uint64_t)fill);
    ltx_step steps[MAX_STEPS];
    ltx_session_desc d = new_desc(LTX_KV_F32);
    asker a = {b->model.n_layers, past_end, want_logits, 0};
    d.plan = ref_plan_full(&b->ref, steps);
    d.plan.fill = fill;
    CHECK_EQ(ltx_plan_gates(steps, d.plan.count, 0, 1), LTX_OK);
    d.policy.rule = LTX_EXIT_ASK;
    d.policy.gate = ask;
    d.policy.want_logits = want_logits;
    d.policy.user = &a;
    check_script(b, &d, &rewind_script);
    CHECK_EQ(a.wrong, 0);
    free_box(b);
    name_failure(before, shapes[shape_index].name, format, fill_names[fill]);
}

static void ask_skips(void)
{
    tally_start();
    for (int fill = 0; fill < 3; fill++) {
        check_ask(0, LTX_F32, fill, 0, 0);
        check_ask(5, LTX_F32, fill, 0, 1);
        check_ask(2, LTX_Q8_0, fill, 0, 0);
    }
    tally_end();
}

static void ask_skips_past_the_end(void)
{
    tally_start();
    for (int fill = 0; fill < 3; fill++) check_ask(0, LTX_F32, fill, 1, 0);
    tally_end();
}

/* Pushes some elements by a bit that depends on step and position. */
static int32_t push(void *user, const ltx_view *v)
{
    if (v->before || v->logits || v->step < -1) (*(int *)user)++;
    for (int i = 0; i < v->dim; i++)
        if ((i + v->step + v->position) % 5 == 0) v->hidden[i] += 0.0625f * (float)((v->position + 3 * i) % 7 - 3);
    return LTX_GO;
}

static void tap_changes_hidden(void)
{
    int wrong = 0;
    tally_start();
    for (int i = 0; i < N_SHAPES; i++) {
        long before = test_now.failures;
        box *b = new_box(&shapes[i], LTX_F32, 1700);
        ltx_session_desc d = new_desc(LTX_KV_F32);
        d.policy.tap = push;
        d.policy.user = &wrong;
        check_script(b, &d, &rewind_script);
        free_box(b);
        name_failure(before, shapes[i].name, LTX_F32, "");
    }
    CHECK_EQ(wrong, 0);
    tally_end();
}

/* With gates: a row that leaves shows its hidden vector after the tap; deferred steps are tapped when they run. */
static void tap_and_gates(void)
{
    int wrong = 0;
    tally_start();
    for (int fill = 0; fill < 3; fill++) {
        long before = test_now.failures;
        box *b = new_box(&shapes[0], LTX_F32, 1710);
        ltx_step steps[MAX_STEPS];
        ltx_session_desc d = new_desc(LTX_KV_F32);
        d.plan = ref_plan_full(&b->ref, steps);
        d.plan.fill = fill;
        steps[1].gate = 1;
        d.policy.rule = LTX_EXIT_ALWAYS;
        d.policy.tap = push;
        d.policy.user = &wrong;
        check_script(b, &d, &rewind_script);
        free_box(b);
        name_failure(before, "tap", LTX_F32, fill_names[fill]);
    }
    CHECK_EQ(wrong, 0);
    tally_end();
}

/* A callback that says stop leaves the session as it was. */
static int32_t stop(void *user, const ltx_view *v)
{
    return v->position == *(int *)user ? LTX_STOP : LTX_GO;
}

static void stopped(void)
{
    box *b = new_box(&shapes[0], LTX_F32, 1720);
    ltx_session_desc d = new_desc(LTX_KV_F32);
    int at = 9;
    pair p;
    tally_start();
    if (pair_open(&p, b, &d, 1)) {
        static const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7};
        ltx_policy with_tap = p.policy;
        ltx_output out = {0};
        ltx_batch batch = {.tokens = tokens, .count = 5, .logits = 5};
        with_tap.tap = stop;
        with_tap.user = &at;
        pair_feed(&p, tokens, 7, 7, 0);
        CHECK_EQ(ltx_set_policy(p.l.s, &with_tap), LTX_OK);
        CHECK_EQ(ltx_eval_batch(p.l.s, &batch, &out), LTX_E_STOPPED);
        CHECK_EQ(ltx_position(p.l.s), 7);
        CHECK(out.logits == NULL && out.depth == NULL);
        CHECK_EQ(ltx_set_policy(p.l.s, &p.policy), LTX_OK);
        pair_feed(&p, tokens, 6, 6, 0);
    }
    pair_close(&p);
    free_box(b);
    tally_end();
}

/* ==== tests: windows, rewind, prompts ===================================================================== */

static void windows(void)
{
    static const int cases[][2] = {{1, 0}, {4, 0}, {5, 2}, {8, 1}, {16, 4}, {3, 7}};
    static const int kvs[] = {LTX_KV_F32, LTX_KV_F16, LTX_KV_I8};
    tally_start();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        for (int i = (int)c % 2; i < 6; i += 2) {
            long before = test_now.failures;
            box *b = new_box(&shapes[i], i == 1 ? LTX_Q8_0 : LTX_F32, 1800);
            ltx_session_desc d = new_desc(kvs[i % 3]);
            d.rows = d.logits_rows = 8;
            d.window = cases[c][0];
            d.sinks = cases[c][1];
            check_script(b, &d, c % 3 ? &long_rewind_script : &long_script);
            free_box(b);
            char text[48];
            snprintf(text, sizeof text, "window %d sinks %d kv %d", d.window, d.sinks, d.kv);
            name_failure(before, shapes[i].name, LTX_F32, text);
        }
    tally_end();
}

/* Rows that leave, with a window: under LTX_FILL_NONE the entries of a cache are not consecutive positions. */
static void windows_and_gates(void)
{
    static const int cases[][2] = {{4, 0}, {5, 2}, {9, 3}};
    tally_start();
    for (int c = 0; c < 3; c++)
        for (int fill = 0; fill < 3; fill++) {
            long before = test_now.failures;
            box *b = new_box(&shapes[0], LTX_F32, 1900);
            ltx_step steps[MAX_STEPS];
            ltx_session_desc d = new_desc(LTX_KV_F32);
            d.rows = d.logits_rows = 8;
            d.window = cases[c][0];
            d.sinks = cases[c][1];
            d.plan = ref_plan_full(&b->ref, steps);
            d.plan.fill = fill;
            d.policy.rule = LTX_EXIT_PROB;
            CHECK_EQ(ltx_plan_gates(steps, d.plan.count, 0, 1), LTX_OK);
            if (pick_threshold(b, &d, &long_rewind_script)) CHECK(check_script(b, &d, &long_rewind_script) > 0);
            free_box(b);
            char text[48];
            snprintf(text, sizeof text, "window %d sinks %d %s", d.window, d.sinks, fill_names[fill]);
            name_failure(before, "plain", LTX_F32, text);
        }
    tally_end();
}

static void rewind_and_replay(void)
{
    tally_start();
    for (int i = 0; i < N_SHAPES; i++) {
        long before = test_now.failures;
        box *b = new_box(&shapes[i], LTX_F32, 2000);
        ltx_session_desc d = new_desc(LTX_KV_F32);
        check_script(b, &d, &rewind_script);
        free_box(b);
        name_failure(before, shapes[i].name, LTX_F32, "");
    }
    tally_end();
}

/* A prompt longer than the rows of a session is cut; only its last row may ask a gate. */
static void long_prompt(void)
{
    tally_start();
    for (int fill = 0; fill < 3; fill++)
        for (int rows = 1; rows <= 20; rows += 6) {
            box *b = new_box(&shapes[1], LTX_F32, 2100);
            ltx_step steps[MAX_STEPS];
            ltx_session_desc d = new_desc(LTX_KV_F32);
            d.rows = rows;
            d.logits_rows = 0;
            d.plan = ref_plan_full(&b->ref, steps);
            d.plan.fill = rows >= 8 ? fill : LTX_FILL_PROJECT;
            steps[0].gate = 1;
            d.policy.rule = LTX_EXIT_ALWAYS;
            pair p;
            if (pair_open(&p, b, &d, 1)) {
                int32_t tokens[41];
                test_rng r = {2101};
                for (int i = 0; i < 41; i++) tokens[i] = test_int(&r, b->model.vocab);
                for (int round = 0, at = 0; round < 2; round++) {
                    const float *logits = NULL;
                    int count = round ? 11 : 30, depth = 1;
                    if (!CHECK_EQ(ltx_eval(p.l.s, tokens + at, count, &logits), LTX_OK)) break;
                    ltx_batch batch = {.tokens = tokens + at, .count = count, .logits = 1};
                    ltx_output out = {.logits = logits, .depth = &depth};
                    pair_follow(&p, &batch, &out);
                    at += count;
                }
            }
            pair_close(&p);
            free_box(b);
        }
    tally_end();
}

static void embeddings(void)
{
    test_rng r = {2200};
    tally_start();
    for (int i = 0; i < 3; i++) {
        box *b = new_box(&shapes[i], LTX_F16, 2200);
        ltx_session_desc d = new_desc(LTX_KV_F32);
        int dim = b->model.dim, count = 6;
        float *embeds = (float *)test_malloc(sizeof(float) * (size_t)(count * dim));
        int32_t tokens[6];
        pair p, q;
        for (int t = 0; t < count; t++) {
            tokens[t] = test_int(&r, b->model.vocab);
            for (int k = 0; k < dim; k++) embeds[t * dim + k] = (float)b->ref.embed.w[tokens[t] * dim + k];
        }
        int ok = pair_open(&p, b, &d, 1);
        if (pair_open(&q, b, &d, 0) && ok) {
            ltx_batch batch = {.embeds = embeds, .count = count, .logits = count};
            pair_batch(&p, &batch);
            pair_feed(&q, tokens, count, count, 0);
            CHECK(memcmp(p.rec.logits, q.rec.logits, sizeof(float) * (size_t)(count * b->model.vocab)) == 0);
            for (int k = 0; k < count * dim; k++) embeds[k] = (float)test_gauss(&r);
            pair_batch(&p, &batch);
            pair_feed(&p, tokens, count, count, 0);
        }
        pair_close(&p);
        pair_close(&q);
        free(embeds);
        free_box(b);
    }
    tally_end();
}

/* ==== tests: waiting rows, counters, refusals ================================================= */

/* ltx_flush changes nothing that one can see but the counters. */
static void flush_is_invisible(void)
{
    test_rng r = {2300};
    box *b = new_box(&shapes[0], LTX_F32, 2300);
    ltx_step steps[MAX_STEPS];
    ltx_session_desc d = new_desc(LTX_KV_F32);
    pair p;
    tally_start();
    d.plan = ref_plan_full(&b->ref, steps);
    d.plan.fill = LTX_FILL_DEFER;
    steps[0].gate = steps[2].gate = 1;
    d.policy.rule = LTX_EXIT_ALWAYS;
    if (pair_open(&p, b, &d, 1)) {
        for (int i = 0; i < 40; i++) {
            int32_t token = test_int(&r, b->model.vocab);
            p.policy.rule = i % 11 == 10 ? LTX_EXIT_NEVER : LTX_EXIT_ALWAYS;
            CHECK_EQ(ltx_set_policy(p.l.s, &p.policy), LTX_OK);
            pair_feed(&p, &token, 1, 1, 0);
            if (i % 7 == 3) CHECK_EQ(ltx_flush(p.l.s), LTX_OK);
            if (i % 13 == 12) pair_rewind(&p, ltx_position(p.l.s) - 2);
        }
        ltx_stats stats;
        ltx_session_stats(p.l.s, &stats);
        CHECK_EQ(stats.exits, p.exits);
        CHECK_EQ(stats.tokens, 40);
    }
    pair_close(&p);
    free_box(b);
    tally_end();
}

/* Work is counted where it happens: the same rows, steps and slots as in the reference. All rows ask for logits, so that there is
   nothing to save. */
static void check_statistics(const shape *sh, int fill, int window, int gate)
{
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    box *b = new_box(sh, LTX_F32, 2350);
    ltx_step steps[MAX_STEPS];
    ltx_session_desc d = new_desc(LTX_KV_F32);
    ltx_stats st;
    pair p;
    d.window = window;
    d.sinks = window ? 2 : 0;
    d.plan = ref_plan_full(&b->ref, steps);
    d.plan.fill = fill;
    steps[gate].gate = 1;
    d.policy.rule = LTX_EXIT_ALWAYS;
    if (pair_open(&p, b, &d, 1)) {
        pair_feed(&p, tokens, 9, 9, 0);
        p.policy.rule = LTX_EXIT_NEVER;
        CHECK_EQ(ltx_set_policy(p.l.s, &p.policy), LTX_OK);
        pair_feed(&p, tokens, 7, 7, 0);
        ltx_session_stats(p.l.s, &st);
        CHECK_EQ(st.tokens, 16);
        CHECK_EQ(st.exits, 9);
        CHECK_EQ(st.head_rows, 16);
        CHECK_EQ(st.attn_rows, p.ref->attn_rows);
        CHECK_EQ(st.ffn_rows, p.ref->ffn_rows);
        CHECK_EQ(st.fill_rows, p.ref->fill_rows);
        CHECK_EQ(st.attended, p.ref->attended);
        CHECK_EQ(st.rounds + st.drafted + st.accepted, 0);
        ltx_stats_reset(p.l.s);
        ltx_session_stats(p.l.s, &st);
        CHECK_EQ(st.tokens + st.attn_rows + st.weight_bytes + st.kv_bytes, 0);
    }
    pair_close(&p);
    free_box(b);
}

static void statistics(void)
{
    tally_start();
    for (int fill = 0; fill < 3; fill++) {
        check_statistics(&shapes[0], fill, 0, 1);
        check_statistics(&shapes[5], fill, 0, 2);
        check_statistics(&shapes[0], fill, 4, 0);
    }
    tally_end();
}

/* No room: a result code, and everything as before. */
static void full_cache(void)
{
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    tally_start();
    for (int fill = 0; fill < 3; fill++) {
        box *b = new_box(&shapes[0], LTX_F32, 2360);
        ltx_session_desc d = new_desc(LTX_KV_F32);
        ltx_step steps[MAX_STEPS];
        const float *logits = NULL;
        pair p;
        d.ctx = 8;
        d.plan = ref_plan_full(&b->ref, steps);
        d.plan.fill = fill;
        steps[1].gate = 1;
        d.policy.rule = LTX_EXIT_ALWAYS;
        if (pair_open(&p, b, &d, 1)) {
            pair_feed(&p, tokens, 5, 5, 0);
            CHECK_EQ(ltx_eval(p.l.s, tokens, 4, &logits), LTX_E_FULL);
            CHECK_EQ(ltx_position(p.l.s), 5);
            pair_feed(&p, tokens, 3, 3, 0);
            CHECK_EQ(ltx_eval(p.l.s, tokens, 1, &logits), LTX_E_FULL);
            CHECK_EQ(ltx_position(p.l.s), 8);
            CHECK(logits == NULL);
            pair_rewind(&p, 2);
            pair_feed(&p, tokens + 2, 6, 6, 0);
        }
        pair_close(&p);
        free_box(b);
    }
    tally_end();
}

/* Exactly `need` bytes work (every other test), one fewer or a crooked address is refused. */
static void exact_blocks(void)
{
    box *b = new_box(&shapes[1], LTX_Q8_0, 2370);
    ltx_session_desc d = new_desc(LTX_KV_F16);
    ltx_session_needs need;
    CHECK_EQ(ltx_session_need(&b->model, &d, &need), LTX_OK);
    ltx_need *needs[] = {&need.state, &need.cache, &need.scratch};
    for (int broken = 0; broken < 6; broken++) {
        if (broken >= 3 && needs[broken - 3]->align <= 1) continue;
        test_block blocks[3];
        ltx_mem mem[3];
        ltx_session *s = NULL;
        for (int i = 0; i < 3; i++) {
            int crooked = broken == 3 + i;
            blocks[i] = test_alloc_at(needs[i]->size, needs[i]->align, (size_t)crooked);
            mem[i].ptr = blocks[i].ptr;
            mem[i].size = needs[i]->size - (broken == i);
        }
        ltx_session_mems mems = {mem[0], mem[1], mem[2]};
        CHECK_EQ(ltx_session_init(&b->model, &d, &mems, &s), LTX_E_MEM);
        CHECK(s == NULL);
        for (int i = 0; i < 3; i++) test_free(&blocks[i]);
    }
    free_box(b);
}

/* Plans that make no sense are refused and change nothing. */
static void plan_refuses(void)
{
    enum { N = 8 };
    static const ltx_step bad[N][2] = {
        {STEP(4, 0, 3, 0, 0), STEP(0, 0, 3, 0, 0)},  /* no such layer              */
        {STEP(-1, 0, 3, 0, 0), STEP(0, 0, 3, 0, 0)},
        {STEP(1, 0, 0, 0, 0), STEP(0, 0, 3, 0, 0)},  /* nothing to run             */
        {STEP(1, 0, 4, 0, 0), STEP(0, 0, 3, 0, 0)},  /* no such branch             */
        {STEP(1, 0, 3, 0, 0), STEP(1, 0, 3, 0, 0)},  /* two steps, one cache       */
        {STEP(1, 0, 3, 0, 0), STEP(0, 2, 3, 0, 0)},
        {STEP(1, -1, 3, 0, 0), STEP(0, 0, 3, 0, 0)}, /* no such cache              */
        {STEP(1, 0, 3, 0, 0), STEP(0, 9, 3, 0, 0)},  /* no memory for this cache   */
    };
    static const int32_t tokens[] = {1, 2, 3, 4};
    box *b = new_box(&shapes[0], LTX_F32, 2380);
    ltx_session_desc d = new_desc(LTX_KV_F32);
    pair p;
    tally_start();
    if (pair_open(&p, b, &d, 1)) {
        for (int i = 0; i < N; i++) {
            ltx_plan plan = {bad[i], 2, LTX_FILL_PROJECT};
            if (!CHECK_EQ(ltx_set_plan(p.l.s, &plan), LTX_E_ARG)) printf("  plan %d\n", i);
        }
        ltx_plan none = {bad[0], 0, LTX_FILL_PROJECT}, fill = {plan_cases[0].steps, 3, 3};
        CHECK_EQ(ltx_set_plan(p.l.s, &none), LTX_E_ARG);
        CHECK_EQ(ltx_set_plan(p.l.s, &fill), LTX_E_ARG);
        pair_feed(&p, tokens, 4, 4, 0);
    }
    pair_close(&p);
    free_box(b);
    tally_end();
}

/* ==== tests: random walks ================================================================================= */

enum { WALK_ACTIONS = 24 };

/* Actions that a session with 8 rows and 64 positions (any number with a window) can follow. With a window what lies more than 8
   tokens before the furthest position is gone. */
static int random_actions(test_rng *r, int window, action *out)
{
    int position = 0, furthest = 0, n = 0;
    while (n < WALK_ACTIONS) {
        int count = test_int(r, 3) ? 1 : 1 + test_int(r, 8);
        if (test_int(r, 5) == 0 && position > 0) {
            int most = window && furthest > 8 ? position - (furthest - 8) : position;
            if (most == 0) continue;
            count = test_int(r, 8) ? -(1 + test_int(r, most)) : -position; /* to 0 works always */
        }
        if (!window && position + count > 64) continue;
        out[n].count = count;
        out[n++].wanted = count < 0 ? 0 : test_int(r, 4) ? count : test_int(r, count + 1);
        position += count;
        if (position > furthest || position == 0) furthest = position;
    }
    return n;
}

static void random_plan(test_rng *r, const box *b, int simple, ltx_step *steps, ltx_plan *plan)
{
    *plan = ref_plan_full(&b->ref, steps);
    if (!simple && test_int(r, 2)) {
        const plan_case *c = &plan_cases[test_int(r, N_PLAN_CASES)];
        memcpy(steps, c->steps, sizeof c->steps);
        plan->count = c->count;
    }
    for (int i = 0; i + 1 < plan->count; i++) steps[i].gate = (uint8_t)(test_int(r, 3) == 0);
    plan->fill = test_int(r, 3);
}

/* Everything at once, by chance: shape, format, cache, window, plan, fill, rule, tap, actions. */
static void random_walk(uint64_t seed)
{
    static const int rules[] = {LTX_EXIT_NEVER, LTX_EXIT_PROB, LTX_EXIT_MARGIN, LTX_EXIT_COSINE, LTX_EXIT_ALWAYS, LTX_EXIT_ASK, LTX_EXIT_ASK};
    test_rng r = {seed};
    long before = test_now.failures;
    int which = test_int(&r, N_SHAPES), wrong = 0, format = formats[test_int(&r, 8) ? test_int(&r, 2) : test_int(&r, N_FORMATS)];
    if ((shapes[which].flags & FLOATS_ONLY) && ref_is_quantized(format)) format = LTX_BF16;
    box *b = new_box(&shapes[which], format, seed);
    ltx_step steps[MAX_STEPS];
    action actions[WALK_ACTIONS];
    ltx_session_desc d = new_desc(test_int(&r, 3) ? LTX_KV_F32 : 1 + test_int(&r, 3));
    d.rows = d.logits_rows = 8 + test_int(&r, 9);
    d.window = test_int(&r, 2) ? 1 + test_int(&r, 12) : 0;
    d.sinks = d.window ? test_int(&r, 4) : 0;
    random_plan(&r, b, which == 5 || which == 6, steps, &d.plan);
    d.policy.rule = rules[test_int(&r, 7)];
    d.policy.threshold = d.policy.rule == LTX_EXIT_COSINE ? 0.8f : 0.3f;
    asker a = {d.plan.count, test_int(&r, 2), 0, 0};
    d.policy.gate = ask;
    d.policy.user = &a;
    if (d.policy.rule != LTX_EXIT_ASK && test_int(&r, 4) == 0) d.policy.tap = push, d.policy.user = &wrong;
    script sc = {actions, random_actions(&r, d.window, actions)};
    check_script(b, &d, &sc);
    CHECK_EQ(wrong + a.wrong, 0);
    char text[160];
    snprintf(text, sizeof text, "seed %llu: kv %d rows %d window %d sinks %d steps %d fill %s rule %s tap %d", (unsigned long long)seed, d.kv, d.rows,
             d.window, d.sinks, d.plan.count, fill_names[d.plan.fill], rule_names[d.policy.rule], d.policy.tap != NULL);
    name_failure(before, shapes[which].name, format, text);
    free_box(b);
}

/* LTX_TEST_SEEDS=n walks n times instead of a few, LTX_TEST_SEED=s starts at s. */
static void random_walks(void)
{
    const char *count = getenv("LTX_TEST_SEEDS"), *first = getenv("LTX_TEST_SEED");
    int n = count ? atoi(count) : 40, start = first ? atoi(first) : 1;
    tally_start();
    for (int i = 0; i < n && test_now.failures < TEST_MAX_PRINTED; i++) random_walk((uint64_t)(start + i));
    tally_end();
}

/* ==== tests: numbers that are none, decoding ================================================================ */

/* A NaN in a hidden vector is reported, whatever format the products have, and the session stays as it was. */
static void nan_is_reported(void)
{
    tally_start();
    for (int f = 0; f < N_FORMATS; f++)
        for (int where = 0; where < 2; where++) {
            long before = test_now.failures;
            box *b = new_box(&shapes[where ? 0 : 1], formats[f], 2400);
            ltx_session_desc d = new_desc(LTX_KV_F16);
            static const int32_t tokens[] = {3, 1, 4, 1, 5};
            float *embed = (float *)test_malloc(sizeof(float) * (size_t)b->model.dim);
            for (int i = 0; i < b->model.dim; i++) embed[i] = i == 5 ? (where ? INFINITY : NAN) : 0.1f;
            pair p;
            if (pair_open(&p, b, &d, 1)) {
                ltx_batch bad = {.embeds = embed, .count = 1, .logits = 1};
                ltx_output out = {0};
                pair_feed(&p, tokens, 5, 1, 0);
                CHECK_EQ(ltx_eval_batch(p.l.s, &bad, &out), LTX_E_NAN);
                CHECK_EQ(ltx_position(p.l.s), 5);
                pair_feed(&p, tokens, 5, 5, 0);
            }
            pair_close(&p);
            free(embed);
            free_box(b);
            name_failure(before, where ? "infinity" : "nan", formats[f], "");
        }
    tally_end();
}

static int largest(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* Greedy text by ltx_eval and by ltx_decode, plain and with self-speculation, is the same. */
static void check_decode(const box *b, int kv, int draft)
{
    enum { TEXT = 40 };
    static const int32_t prompt[] = {2, 7, 1, 8};
    int32_t text[TEXT], n = 0, at = 0;
    ltx_session_desc d = new_desc(kv);
    ltx_sampler greedy;
    ltx_token out[9];
    const float *logits = NULL;
    live l;
    memset(&greedy, 0, sizeof greedy);
    if (!live_open(&l, &b->model, &d)) return;
    CHECK_EQ(ltx_eval(l.s, prompt, 4, &logits), LTX_OK);
    for (int i = 0; i < TEXT && logits; i++) {
        text[i] = largest(logits, b->model.vocab);
        CHECK_EQ(ltx_eval(l.s, &text[i], 1, &logits), LTX_OK);
    }
    live_close(&l);
    d.draft_max = draft ? 6 : 0;
    d.draft.exit = draft;
    if (!live_open(&l, &b->model, &d)) return;
    CHECK_EQ(ltx_eval(l.s, prompt, 4, &logits), LTX_OK);
    int32_t token = -1;
    CHECK_EQ(ltx_sample(l.s, &greedy, logits, &token), LTX_OK);
    CHECK_EQ(token, text[at++]);
    while (at < TEXT && CHECK_EQ(ltx_decode(l.s, &greedy, token, out, 9, &n), LTX_OK) && CHECK(n >= 1 && n <= 7)) {
        for (int i = 0; i < n && at < TEXT; i++) CHECK_EQ(out[i].id, text[at++]);
        token = out[n - 1].id;
    }
    live_close(&l);
}

static void decode(void)
{
    static const int which[] = {0, 1, 4, 5};
    for (int i = 0; i < 4; i++)
        for (int f = 0; f < 5; f += 3) {
            if ((shapes[which[i]].flags & FLOATS_ONLY) && f) continue;
            long before = test_now.failures;
            box *b = new_box(&shapes[which[i]], formats[f], 2500);
            for (int draft = 0; draft < 3; draft++) check_decode(b, draft == 1 ? LTX_KV_I8 : LTX_KV_F16, draft);
            free_box(b);
            name_failure(before, shapes[which[i]].name, formats[f], "");
        }
}

int main(void)
{
    test_begin("test_model");
    TEST(shapes_f32);
    TEST(shapes_f16);
    TEST(shapes_bf16);
    TEST(shapes_q8_0);
    TEST(shapes_q4_0);
    TEST(shapes_k);
    TEST(shapes_x);
    TEST(shapes_x_16_bits);
    TEST(shapes_mixed);
    TEST(kv_formats);
    TEST(plan_helpers);
    TEST(plans);
    TEST(plan_switch);
    TEST(gates_that_skip);
    TEST(routers);
    TEST(adapters);
    TEST(gates_f32);
    TEST(gates_f16);
    TEST(gates_q8_0);
    TEST(ask_skips);
    TEST(ask_skips_past_the_end);
    TEST(tap_changes_hidden);
    TEST(tap_and_gates);
    TEST(stopped);
    TEST(windows);
    TEST(windows_and_gates);
    TEST(rewind_and_replay);
    TEST(long_prompt);
    TEST(embeddings);
    TEST(flush_is_invisible);
    TEST(statistics);
    TEST(full_cache);
    TEST(exact_blocks);
    TEST(plan_refuses);
    TEST(random_walks);
    TEST(nan_is_reported);
    TEST(decode);
    return test_end();
}
