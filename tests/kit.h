/* kit.h - what several test programs share: small random models, sessions with their memory, greedy text, thresholds, shipped models, a GGUF writer
   SPDX-License-Identifier: MIT

   Include it after ltx.h and test.h. Random weights are made with integers only, so that they are the same everywhere. */
#ifndef KIT_H
#define KIT_H

#include "ltx.h"
#include "test.h"

/* ==== random models ===================================================================================== */

enum { KIT_LAYERS = 8, KIT_FIELDS = 21, KIT_BLOCKS = KIT_FIELDS * KIT_LAYERS + 6 };
enum { KIT_BIAS = 1, KIT_QK_NORM = 2, KIT_NO_GATE = 4, KIT_UNTIED = 8, KIT_FACTORS = 16 };
enum { KIT_MIXED = -1, KIT_MIXED_K = -2, KIT_MIXED_ALL = -3 }; /* for a format: each tensor another, without or with K formats, or all there are */

typedef struct kit_shape {
    int dim, layers, heads, kv_heads, head_dim, ffn, vocab;
    int format; /* ltx_type or KIT_MIXED... */
    unsigned flags;
    int rope_pairs, act;
} kit_shape;

typedef struct kit_model {
    ltx_model m;
    ltx_layer layers[KIT_LAYERS];
    void *blocks[KIT_BLOCKS];
    int n_blocks;
} kit_model;

static const int kit_formats[] = {LTX_F32, LTX_F16, LTX_BF16, LTX_Q8_0, LTX_Q4_0, LTX_Q4_K, LTX_Q5_K, LTX_Q6_K,
                                  LTX_Q8_X, LTX_Q4_X, LTX_R8, LTX_R4};
/* The first five have blocks of at most 32, the next three super-blocks; of the others sixteen rows lie together. */
enum { KIT_PLAIN = 5, KIT_FORMATS = 8, KIT_ALL = 12 };

/* Shapes with no round numbers where none are needed: head_dim 24, vocab 61. */
static const kit_shape kit_small = {64, 5, 4, 2, 24, 96, 61, KIT_MIXED, KIT_BIAS | KIT_QK_NORM, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};

/* Wide enough for super-blocks. */
static const kit_shape kit_wide = {256, 3, 4, 2, 64, 512, 61, KIT_MIXED_K, KIT_UNTIED, LTX_ROPE_HALVES, LTX_ACT_SILU};

static inline void kit_put16(unsigned char *p, unsigned v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

static inline void kit_put32(unsigned char *p, uint32_t v)
{
    kit_put16(p, v & 0xffffu);
    kit_put16(p + 2, v >> 16);
}

/* One element (or block) with magnitudes around 2^(power - 3). */
static inline void kit_fill_block(int type, int power, test_rng *r, unsigned char *out)
{
    uint32_t sign = (uint32_t)test_int(r, 2), exponent = (uint32_t)(121 + power + test_int(r, 4)), man = (uint32_t)test_int(r, 1 << 23);
    if (type == LTX_F32) kit_put32(out, sign << 31 | exponent << 23 | man);
    if (type == LTX_BF16) kit_put16(out, sign << 15 | exponent << 7 | man >> 16);
    if (type == LTX_F16) kit_put16(out, sign << 15 | (exponent - 112) << 10 | man >> 13);
    if (type == LTX_Q8_0) kit_put16(out, (uint32_t)(6 + power) << 10 | man >> 13);
    if (type == LTX_Q4_0) kit_put16(out, (uint32_t)(9 + power) << 10 | man >> 13);
    for (int i = 0; i < (type == LTX_Q8_0 ? 32 : type == LTX_Q4_0 ? 16 : 0); i++) out[2 + i] = (unsigned char)test_int(r, 256);
}

/* A super-block: scales and mins are about 32 (Q6_K: 64) of d and of dmin, which puts the middle of the values at zero. */
static inline void kit_fill_super(int type, int power, test_rng *r, unsigned char *out)
{
    size_t bytes = ltx_row_bytes(type, 256);
    uint32_t man = (uint32_t)test_int(r, 1 << 10);
    for (size_t i = 0; i < bytes; i++) out[i] = (unsigned char)test_int(r, 256);
    if (type == LTX_Q6_K) kit_put16(out + 208, (uint32_t)(2 + power) << 10 | man);
    else kit_put16(out, (uint32_t)((type == LTX_Q4_K ? 4 : 3) + power) << 10 | man), kit_put16(out + 2, (uint32_t)(7 + power) << 10 | man);
}

static inline void kit_fill(int type, int64_t elements, int power, test_rng *r, void *data)
{
    unsigned char *p = (unsigned char *)data;
    int super = ltx_row_bytes(type, 32) == 0, block = super ? 256 : type == LTX_Q8_0 || type == LTX_Q4_0 ? 32 : 1;
    for (int64_t i = 0; i < elements; i += block, p += ltx_row_bytes(type, block)) (super ? kit_fill_super : kit_fill_block)(type, power, r, p);
}

/* Groups of sixteen rows: numbers of any size (in R4 |g| <= 15), then a half per block or a float per row. */
static inline void kit_fill_group(int type, int cols, int power, test_rng *r, unsigned char *p)
{
    int blocks = cols / 32;
    for (int i = 0; i < 16 * (type == LTX_Q4_X || type == LTX_R4 ? cols / 2 : cols); i++) *p++ = (unsigned char)test_int(r, 256);
    for (int i = 0; i < 16 * blocks; i++) {
        uint32_t man = (uint32_t)test_int(r, 1 << 10);
        if (type == LTX_R4) *p++ = (unsigned char)(test_int(r, 31) - 15);
        else if (type != LTX_R8) kit_put16(p, (uint32_t)((type == LTX_Q8_X ? 6 : 9) + power) << 10 | man), p += 2;
    }
    for (int i = 0; i < 16 && (type == LTX_R8 || type == LTX_R4); i++, p += 4) kit_put32(p, (uint32_t)(118 + power) << 23 | (uint32_t)test_int(r, 1 << 23));
}

static inline ltx_mat kit_mat(kit_model *k, int type, int rows, int cols, int power, test_rng *r)
{
    ltx_mat m;
    size_t bytes = ltx_row_bytes(type, cols);
    if (bytes == 0) bytes = ltx_row_bytes(type = LTX_F16, cols); /* no multiple of the block */
    size_t all = ltx_mat_bytes(type, rows, cols);
    void *data = test_malloc(all);
    if (all == (size_t)rows * bytes && ltx_mat_bytes(type, 1, cols) == bytes) kit_fill(type, (int64_t)rows * cols, power, r, data);
    else for (size_t at = 0; at < all; at += 16 * bytes) kit_fill_group(type, cols, power, r, (unsigned char *)data + at);
    k->blocks[k->n_blocks++] = data;
    m.data = data; m.type = type; m.rows = rows; m.cols = cols;
    return m;
}

/* Norm weights and rope factors: 0.5 to 2. */
static inline ltx_mat kit_positive(kit_model *k, int cols, test_rng *r)
{
    ltx_mat m = kit_mat(k, LTX_F32, 1, cols, 0, r);
    for (int i = 0; i < cols; i++)
        kit_put32((unsigned char *)k->blocks[k->n_blocks - 1] + i * 4, (uint32_t)(126 + test_int(r, 2)) << 23 | (uint32_t)test_int(r, 1 << 23));
    return m;
}

static inline int kit_type(const kit_shape *sh, int layer, int tensor)
{
    if (sh->format == KIT_MIXED_ALL) return kit_formats[(layer * 3 + tensor + 8) % KIT_ALL];
    if (sh->format == KIT_MIXED_K) return kit_formats[(layer * 3 + tensor) % KIT_FORMATS];
    return sh->format == KIT_MIXED ? kit_formats[(layer * 3 + tensor) % KIT_PLAIN] : sh->format;
}

static inline void kit_layer(kit_model *k, const kit_shape *sh, int i, test_rng *r)
{
    ltx_layer *l = &k->layers[i];
    int q = sh->heads * sh->head_dim, kv = sh->kv_heads * sh->head_dim;
    l->attn_norm = kit_positive(k, sh->dim, r);
    l->wq = kit_mat(k, kit_type(sh, i, 0), q, sh->dim, 0, r);
    l->wk = kit_mat(k, kit_type(sh, i, 1), kv, sh->dim, 0, r);
    l->wv = kit_mat(k, kit_type(sh, i, 2), kv, sh->dim, 0, r);
    l->wo = kit_mat(k, kit_type(sh, i, 3), sh->dim, q, 0, r);
    l->ffn_norm = kit_positive(k, sh->dim, r);
    l->w_up = kit_mat(k, kit_type(sh, i, 4), sh->ffn, sh->dim, 0, r);
    l->w_down = kit_mat(k, kit_type(sh, i, 5), sh->dim, sh->ffn, 0, r);
    if (!(sh->flags & KIT_NO_GATE)) l->w_gate = kit_mat(k, kit_type(sh, i, 6), sh->ffn, sh->dim, 0, r);
    if (sh->flags & KIT_QK_NORM) {
        l->q_norm = kit_positive(k, sh->head_dim, r);
        l->k_norm = kit_positive(k, sh->head_dim, r);
    }
    if (!(sh->flags & KIT_BIAS)) return;
    l->bq = kit_mat(k, LTX_F32, 1, q, 0, r);
    l->bk = kit_mat(k, LTX_F32, 1, kv, 0, r);
    l->bv = kit_mat(k, LTX_F32, 1, kv, 0, r);
    l->bo = kit_mat(k, LTX_F32, 1, sh->dim, 0, r);
    if (!(sh->flags & KIT_NO_GATE)) l->b_gate = kit_mat(k, LTX_F32, 1, sh->ffn, 0, r);
    l->b_up = kit_mat(k, LTX_F32, 1, sh->ffn, 0, r);
    l->b_down = kit_mat(k, LTX_F32, 1, sh->dim, 0, r);
}

/* Embeddings are large against what a layer adds, so that shallow and deep logits often agree, as in a trained model. */
static inline kit_model *kit_make(const kit_shape *sh, uint64_t seed)
{
    kit_model *k = (kit_model *)test_malloc(sizeof *k);
    test_rng r = {seed};
    memset(k, 0, sizeof *k);
    ltx_model *m = &k->m;
    m->dim = sh->dim; m->n_layers = sh->layers; m->n_heads = sh->heads; m->n_kv_heads = sh->kv_heads; m->head_dim = sh->head_dim;
    m->vocab = sh->vocab; m->ctx = 128; m->rope_pairs = sh->rope_pairs; m->act = sh->act;
    m->embed = kit_mat(k, kit_type(sh, 0, 7), sh->vocab, sh->dim, 3, &r);
    m->out_norm = kit_positive(k, sh->dim, &r);
    if (sh->flags & KIT_UNTIED) m->head = kit_mat(k, kit_type(sh, 0, 8), sh->vocab, sh->dim, 1, &r);
    if (sh->flags & KIT_FACTORS) m->rope_factors = kit_positive(k, sh->head_dim / 2, &r);
    for (int i = 0; i < sh->layers; i++) kit_layer(k, sh, i, &r);
    m->layers = k->layers;
    return k;
}

/* Routers of all layers, with a bias, every other one with a norm; probes after all layers. */
static inline void kit_add_routers(kit_model *k, const kit_shape *sh, uint64_t seed)
{
    test_rng r = {seed};
    for (int i = 0; i < sh->layers; i++) {
        k->layers[i].router = kit_mat(k, kit_type(sh, i, 9), 1, sh->dim, 0, &r);
        k->layers[i].router_bias = kit_mat(k, LTX_F32, 1, 1, 0, &r);
        if (i % 2) k->layers[i].router_norm = kit_positive(k, sh->dim, &r);
    }
    k->m.probes = kit_mat(k, kit_type(sh, 0, 10), sh->layers, sh->dim, 0, &r);
    k->m.probe_bias = kit_mat(k, LTX_F32, 1, sh->layers, 0, &r);
}

static inline void kit_free(kit_model *k)
{
    for (int i = 0; i < k->n_blocks; i++) free(k->blocks[i]);
    free(k);
}

static inline size_t kit_mat_bytes(const ltx_mat *w)
{
    return ltx_mat_bytes(w->type, w->rows, w->cols);
}

/* Bytes of the matrices that make keys and values, and of those of the branches in `run`. */
static inline uint64_t kit_kv_bytes(const ltx_layer *l)
{
    return kit_mat_bytes(&l->wk) + kit_mat_bytes(&l->wv);
}

static inline uint64_t kit_run_bytes(const ltx_layer *l, int run)
{
    uint64_t n = run & LTX_ATTN ? kit_kv_bytes(l) + kit_mat_bytes(&l->wq) + kit_mat_bytes(&l->wo) : 0;
    return run & LTX_FFN ? n + kit_mat_bytes(&l->w_gate) + kit_mat_bytes(&l->w_up) + kit_mat_bytes(&l->w_down) : n;
}

static inline void kit_tokens(int32_t *tokens, int n, int vocab, uint64_t seed)
{
    test_rng r = {seed};
    for (int i = 0; i < n; i++) tokens[i] = test_int(&r, vocab);
}

/* ==== sessions ========================================================================================== */

typedef struct kit_session {
    ltx_session *s;
    test_block state, cache, scratch;
} kit_session;

/* Blocks of exactly the needed size, full of `fill`, with watched ends. */
static inline ltx_result kit_try(const ltx_model *m, const ltx_session_desc *desc, int fill, kit_session *k)
{
    ltx_session_needs need;
    ltx_session_mems mem;
    memset(k, 0, sizeof *k);
    ltx_result r = ltx_session_need(m, desc, &need);
    if (r != LTX_OK) return r;
    k->state = test_alloc(need.state.size, need.state.align);
    k->cache = test_alloc(need.cache.size, need.cache.align);
    k->scratch = test_alloc(need.scratch.size, need.scratch.align);
    memset(k->state.ptr, fill, need.state.size);
    memset(k->cache.ptr, fill, need.cache.size);
    memset(k->scratch.ptr, fill, need.scratch.size);
    mem.state.ptr = k->state.ptr; mem.state.size = need.state.size;
    mem.cache.ptr = k->cache.ptr; mem.cache.size = need.cache.size;
    mem.scratch.ptr = k->scratch.ptr; mem.scratch.size = need.scratch.size;
    return ltx_session_init(m, desc, &mem, &k->s);
}

static inline void kit_close(kit_session *k)
{
    test_free(&k->state);
    test_free(&k->cache);
    test_free(&k->scratch);
    k->s = NULL;
}

/* A session that has to come into being. */
static inline kit_session kit_open(const ltx_model *m, const ltx_session_desc *desc)
{
    kit_session k;
    ltx_result r = kit_try(m, desc, TEST_PATTERN, &k);
    if (!CHECK_EQ(r, LTX_OK)) {
        printf("%s: no session, giving up\n", test_now.name);
        exit(1);
    }
    return k;
}

/* A pool that runs its tasks backwards: nothing may depend on their order. */
static inline void kit_backwards(void *user, ltx_task *task, void *arg, int32_t count)
{
    (void)user;
    for (int32_t i = count; i-- > 0;) task(arg, i);
}

/* exit, most drafted tokens, stop threshold, cost of a row */
static inline ltx_draft kit_draft(int exit, int length, float stop, float row_cost)
{
    ltx_draft d;
    memset(&d, 0, sizeof d);
    d.exit = exit; d.length = length; d.stop = stop; d.row_cost = row_cost;
    return d;
}

/* Greedy text: text[0..have-1] is there, the last of it not yet in the session; on to `want` tokens, at most `cap` a round. 0 = failed. */
static inline int kit_go_on(ltx_session *s, int32_t *text, int have, int want, int cap)
{
    ltx_sampler greedy;
    ltx_token out[16];
    int32_t n, begin = ltx_position(s) - (have - 1);
    memset(&greedy, 0, sizeof greedy);
    while (have < want) {
        int room = want - have < cap ? want - have : cap;
        if (!CHECK_EQ(ltx_decode(s, &greedy, text[have - 1], out, room, &n), LTX_OK) || !CHECK(n >= 1 && n <= room)) return 0;
        for (int i = 0; i < n; i++) text[have++] = out[i].id;
        CHECK_EQ(ltx_position(s), begin + have - 1);
    }
    return 1;
}

/* A threshold at which of 24 rows, one after the other, at least a quarter leave and at least a quarter do not, found by halving. */
static inline void kit_threshold(const ltx_model *m, ltx_session_desc *d)
{
    int rule = d->policy.rule, falls = rule == LTX_EXIT_ENTROPY || rule == LTX_EXIT_CHANGE; /* these say yes below it */
    float low = rule == LTX_EXIT_COSINE ? -1.0f : 0.0f;
    float high = rule == LTX_EXIT_ENTROPY ? 8.0f : rule == LTX_EXIT_PATIENCE ? (float)d->plan.count : 1.0f;
    int32_t tokens[24];
    const float *logits;
    ltx_session_desc e = *d;
    e.policy.yes = 0;
    kit_tokens(tokens, 24, m->vocab, 18);
    for (int i = 0; i < 20; i++) {
        ltx_stats st;
        d->policy.threshold = e.policy.threshold = (low + high) / 2;
        kit_session k = kit_open(m, &e);
        for (int j = 0; j < 24; j++) CHECK_EQ(ltx_eval(k.s, &tokens[j], 1, &logits), LTX_OK);
        ltx_session_stats(k.s, &st);
        kit_close(&k);
        if (st.exits >= 6 && st.exits <= 18) return;
        if ((st.exits < 6) == falls) low = e.policy.threshold; else high = e.policy.threshold;
    }
}

static inline int32_t kit_best(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* ==== shipped models ==================================================================================== */

typedef struct kit_file {
    const char *name;
    test_block image, mem, vocab_mem;
    ltx_model m;
    ltx_vocab *vocab;
} kit_file;

static const char *const kit_shipped[] = {"stories-bytes-q8_0.gguf", "stories-ls-q8_0.gguf", "stories-ls-q4_0.gguf"};
enum { KIT_SHIPPED = 3 };

static inline ltx_blob kit_blob(const test_block *b)
{
    ltx_blob blob = {b->ptr, b->size};
    return blob;
}

static inline ltx_result kit_read(kit_file *f)
{
    ltx_need need, vneed;
    ltx_blob image = kit_blob(&f->image);
    ltx_result r = ltx_gguf_need(image, NULL, &need);
    if (r == LTX_OK) r = ltx_vocab_need(image, NULL, &vneed);
    if (r != LTX_OK) return r;
    f->mem = test_alloc(need.size, need.align);
    f->vocab_mem = test_alloc(vneed.size, vneed.align);
    ltx_mem mem = {f->mem.ptr, need.size}, vmem = {f->vocab_mem.ptr, vneed.size};
    r = ltx_gguf_init(image, mem, NULL, &f->m);
    return r == LTX_OK ? ltx_vocab_init(image, vmem, NULL, &f->vocab) : r;
}

/* Models in the folder LTX_MODELS, else examples/models: they are part of the repository, so a missing one is a failure. */
static inline int kit_load(const char *name, kit_file *f)
{
    char path[1024];
    const char *folder = getenv("LTX_MODELS");
    memset(f, 0, sizeof *f);
    f->name = name;
    snprintf(path, sizeof path, "%s/%s", folder && *folder ? folder : "examples/models", name);
    f->image = test_read_file(path);
    if (!f->image.base) {
        CHECK(f->image.base != NULL);
        printf("a shipped model is missing: %s (run from the repository's root or set LTX_MODELS)\n", path);
        return 0;
    }
    return CHECK_EQ(kit_read(f), LTX_OK);
}

static inline void kit_unload(kit_file *f)
{
    test_free(&f->image);
    test_free(&f->mem);
    test_free(&f->vocab_mem);
}

/* ==== GGUF writer ======================================================================================= */

typedef struct kit_buffer {
    unsigned char *p;
    size_t n, cap;
} kit_buffer;

static inline void kit_put(kit_buffer *b, const void *data, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2;
        unsigned char *p = (unsigned char *)test_malloc(b->cap);
        if (b->n) memcpy(p, b->p, b->n);
        free(b->p);
        b->p = p;
    }
    if (n) memcpy(b->p + b->n, data, n);
    b->n += n;
}

static inline void kit_u32(kit_buffer *b, uint32_t v)
{
    unsigned char t[4];
    kit_put32(t, v);
    kit_put(b, t, 4);
}

static inline void kit_u64(kit_buffer *b, uint64_t v)
{
    kit_u32(b, (uint32_t)v);
    kit_u32(b, (uint32_t)(v >> 32));
}

static inline void kit_str(kit_buffer *b, const char *s)
{
    kit_u64(b, strlen(s));
    kit_put(b, s, strlen(s));
}

static inline void kit_key(kit_buffer *b, const char *key, uint32_t type)
{
    kit_str(b, key);
    kit_u32(b, type);
}

static inline void kit_key_u32(kit_buffer *b, const char *key, uint32_t v)
{
    kit_key(b, key, 4);
    kit_u32(b, v);
}

static inline void kit_key_f32(kit_buffer *b, const char *key, float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    kit_key(b, key, 6);
    kit_u32(b, u);
}

static inline void kit_key_str(kit_buffer *b, const char *key, const char *v)
{
    kit_key(b, key, 8);
    kit_str(b, v);
}

/* Fields of a layer: name in a GGUF file, name in log events, place. */
typedef struct kit_field {
    const char *gguf, *name;
    size_t at;
} kit_field;

#define KIT_FIELD(gguf, f) {gguf, #f, offsetof(ltx_layer, f)}
static const kit_field kit_fields[KIT_FIELDS] = {
    KIT_FIELD("attn_norm.weight", attn_norm), KIT_FIELD("attn_q.weight", wq), KIT_FIELD("attn_k.weight", wk),
    KIT_FIELD("attn_v.weight", wv), KIT_FIELD("attn_output.weight", wo), KIT_FIELD("attn_q.bias", bq),
    KIT_FIELD("attn_k.bias", bk), KIT_FIELD("attn_v.bias", bv), KIT_FIELD("attn_output.bias", bo),
    KIT_FIELD("attn_q_norm.weight", q_norm), KIT_FIELD("attn_k_norm.weight", k_norm), KIT_FIELD("ffn_norm.weight", ffn_norm),
    KIT_FIELD("ffn_gate.weight", w_gate), KIT_FIELD("ffn_up.weight", w_up), KIT_FIELD("ffn_down.weight", w_down),
    KIT_FIELD("ffn_gate.bias", b_gate), KIT_FIELD("ffn_up.bias", b_up), KIT_FIELD("ffn_down.bias", b_down),
    KIT_FIELD("ltx_router.weight", router), KIT_FIELD("ltx_router.bias", router_bias), KIT_FIELD("ltx_router_norm.weight", router_norm)};

static inline ltx_mat *kit_field_of(ltx_layer *l, int i)
{
    return (ltx_mat *)(void *)((unsigned char *)l + kit_fields[i].at);
}

typedef struct kit_tensor {
    char name[48];
    ltx_mat w;
} kit_tensor;

static inline void kit_list_add(kit_tensor *t, int *n, const char *name, const ltx_mat *w)
{
    if (!w->data) return;
    snprintf(t[*n].name, sizeof t[*n].name, "%s", name);
    t[(*n)++].w = *w;
}

/* All tensors of a model with their GGUF names; t holds KIT_BLOCKS. */
static inline int kit_list(kit_model *k, kit_tensor *t)
{
    int n = 0;
    char name[48];
    kit_list_add(t, &n, "token_embd.weight", &k->m.embed);
    kit_list_add(t, &n, "output_norm.weight", &k->m.out_norm);
    kit_list_add(t, &n, "output.weight", &k->m.head);
    kit_list_add(t, &n, "rope_freqs.weight", &k->m.rope_factors);
    kit_list_add(t, &n, "ltx_probes.weight", &k->m.probes);
    kit_list_add(t, &n, "ltx_probes.bias", &k->m.probe_bias);
    for (int l = 0; l < k->m.n_layers; l++)
        for (int i = 0; i < KIT_FIELDS; i++) {
            snprintf(name, sizeof name, "blk.%d.%s", l, kit_fields[i].gguf);
            kit_list_add(t, &n, name, kit_field_of(&k->layers[l], i));
        }
    return n;
}

/* A vocabulary: pieces with scores and token types (1 normal, 2 unknown, 3 control, 6 byte). */
typedef struct kit_pieces {
    const char *model; /* "llama", "ltx-bytes" */
    int n;
    char text[300][24];
    float score[300];
    uint32_t type[300];
} kit_pieces;

static inline void kit_piece(kit_pieces *v, const char *text, float score, uint32_t type)
{
    snprintf(v->text[v->n], sizeof v->text[0], "%s", text);
    v->score[v->n] = score;
    v->type[v->n++] = type;
}

/* The first bytes fall back to tokens, the others to <unk>: so does a vocabulary that was cut. */
static inline void kit_pieces_llama(kit_pieces *v, int bytes)
{
    static const char *const words[] = {"\xe2\x96\x81", "a", "b", "c", "d", "\xc3\xa4", "ab", "abc", "bc", "cd", "\xe2\x96\x81" "a",
                                        "\xe2\x96\x81" "ab", "dd", "dddd", "aa", "aaaa", "ba", "\xe2\x96\x81\xe2\x96\x81"};
    char name[8];
    memset(v, 0, sizeof *v);
    v->model = "llama";
    kit_piece(v, "<unk>", 0.0f, 2);
    kit_piece(v, "<s>", 0.0f, 3);
    kit_piece(v, "</s>", 0.0f, 3);
    for (int i = 0; i < bytes; i++) {
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i & 255u);
        kit_piece(v, name, 0.0f, 6);
    }
    for (int i = 0; i < (int)(sizeof words / sizeof words[0]); i++) kit_piece(v, words[i], (float)(-((i * 5) % 7)), 1);
}

static inline void kit_pieces_bytes(kit_pieces *v)
{
    char name[8];
    memset(v, 0, sizeof *v);
    v->model = "ltx-bytes";
    for (int i = 0; i < 256; i++) {
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i & 255u);
        kit_piece(v, name, 0.0f, 6);
    }
    kit_piece(v, "<s>", 0.0f, 3);
    kit_piece(v, "</s>", 0.0f, 3);
}

static inline void kit_write_pieces(kit_buffer *b, const kit_pieces *v)
{
    kit_key_str(b, "tokenizer.ggml.model", v->model);
    kit_key(b, "tokenizer.ggml.tokens", 9);
    kit_u32(b, 8);
    kit_u64(b, (uint64_t)v->n);
    for (int i = 0; i < v->n; i++) kit_str(b, v->text[i]);
    kit_key(b, "tokenizer.ggml.scores", 9);
    kit_u32(b, 6);
    kit_u64(b, (uint64_t)v->n);
    for (int i = 0; i < v->n; i++) {
        uint32_t u;
        memcpy(&u, &v->score[i], 4);
        kit_u32(b, u);
    }
    kit_key(b, "tokenizer.ggml.token_type", 9);
    kit_u32(b, 5);
    kit_u64(b, (uint64_t)v->n);
    for (int i = 0; i < v->n; i++) kit_u32(b, v->type[i]);
    kit_key_u32(b, "tokenizer.ggml.bos_token_id", v->model[1] == 't' ? 256 : 1);
    kit_key_u32(b, "tokenizer.ggml.eos_token_id", v->model[1] == 't' ? 257 : 2);
    kit_key_u32(b, "tokenizer.ggml.unknown_token_id", 0);
}
enum { KIT_PIECE_KEYS = 7 };

/* The part before the tensor directory. `arch` "llama", "qwen2" or "qwen3". */
static inline void kit_write_head(kit_buffer *b, const ltx_model *m, const char *arch, const kit_pieces *v, uint64_t tensors, uint32_t align)
{
    static const char *const suffix[] = {"embedding_length", "block_count", "attention.head_count", "attention.head_count_kv", "attention.key_length", "context_length"};
    uint32_t value[6] = {(uint32_t)m->dim, (uint32_t)m->n_layers, (uint32_t)m->n_heads, (uint32_t)m->n_kv_heads, (uint32_t)m->head_dim, (uint32_t)m->ctx};
    char key[80];
    kit_put(b, "GGUF", 4);
    kit_u32(b, 3);
    kit_u64(b, tensors);
    kit_u64(b, 1 + 6 + 2 + 2 + (v ? KIT_PIECE_KEYS : 0));
    kit_key_str(b, "general.architecture", arch);
    kit_key_u32(b, "general.alignment", align);
    for (int i = 0; i < 6; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, suffix[i]);
        kit_key_u32(b, key, value[i]);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    kit_key_f32(b, key, 1e-5f);
    snprintf(key, sizeof key, "%s.rope.freq_base", arch);
    kit_key_f32(b, key, 10000.0f);
    kit_key(b, "ltx.exits", 9);
    kit_u32(b, 4);
    kit_u64(b, 1);
    kit_u32(b, 0);
    if (v) kit_write_pieces(b, v);
}

static inline void kit_pad(kit_buffer *b, uint32_t align)
{
    while (b->n % align) kit_put(b, "", 1);
}

/* A whole GGUF image; *directory_end is where the tensor directory ends. */
static inline kit_buffer kit_gguf(kit_model *k, const char *arch, const kit_pieces *v, uint32_t align, size_t *directory_end)
{
    kit_buffer b = {NULL, 0, 0};
    kit_tensor t[KIT_BLOCKS];
    int n = kit_list(k, t);
    uint64_t offset = 0;
    kit_write_head(&b, &k->m, arch, v, (uint64_t)n, align);
    for (int i = 0; i < n; i++) {
        int vector = t[i].w.rows == 1;
        kit_str(&b, t[i].name);
        kit_u32(&b, vector ? 1 : 2);
        kit_u64(&b, (uint64_t)t[i].w.cols);
        if (!vector) kit_u64(&b, (uint64_t)t[i].w.rows);
        kit_u32(&b, (uint32_t)t[i].w.type);
        kit_u64(&b, offset);
        offset += (kit_mat_bytes(&t[i].w) + align - 1) / align * align;
    }
    if (directory_end) *directory_end = b.n;
    for (int i = 0; i < n; i++) {
        kit_pad(&b, align);
        kit_put(&b, t[i].w.data, kit_mat_bytes(&t[i].w));
    }
    return b;
}

/* What a fuzz target is as a plain program: the files named on the command line, one after the other. */
static inline int kit_replay(int argc, char **argv, int (*one)(const unsigned char *data, size_t size))
{
    for (int i = 1; i < argc; i++) {
        test_block f = test_read_file(argv[i]);
        if (!f.base) { printf("cannot read %s\n", argv[i]); return 1; }
        one(f.ptr, f.size);
        test_free(&f);
        printf("%s: no crash\n", argv[i]);
    }
    return 0;
}

#endif /* KIT_H */
