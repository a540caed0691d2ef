/* test_gguf.c - GGUF images, good and hostile, and the tokenizer
   SPDX-License-Identifier: MIT

   cc -O2 -I. -Itests tests/test_gguf.c -o test_gguf -lm && ./test_gguf */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"

/* ==== helpers =========================================================================================== */

static char event_name[80];
static int event_code, event_count;

static void note_event(void *user, const ltx_event *e)
{
    (void)user;
    event_count++;
    event_code = e->code;
    snprintf(event_name, sizeof event_name, "%.*s", (int)(e->name_len < 79 ? e->name_len : 79), e->name ? e->name : "");
}

static const ltx_log event_log = {note_event, NULL};

/* A small model of mixed formats with padding at the end of the image; *directory and *data_end are offsets. */
static kit_buffer tiny(const char *arch, int bytes_only, size_t *directory, size_t *data_end)
{
    kit_shape sh = {32, 2, 2, 1, 16, 32, 12, KIT_MIXED, KIT_BIAS | KIT_QK_NORM | KIT_UNTIED | KIT_FACTORS, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};
    kit_pieces v;
    size_t ignored;
    if (bytes_only) kit_pieces_bytes(&v); else kit_pieces_llama(&v, 8);
    kit_model *k = kit_make(&sh, 3);
    kit_buffer b = kit_gguf(k, arch, &v, 32, directory ? directory : &ignored);
    if (data_end) *data_end = b.n;
    kit_put(&b, "padding", 7);
    kit_pad(&b, 32);
    kit_free(k);
    return b;
}

/* Model, vocabulary, session, two tokens: whatever the results, nothing may crash. Returns that of ltx_gguf_init; *hash of the logits. */
static ltx_result swallow(ltx_blob image, uint64_t *hash)
{
    ltx_need need;
    ltx_model m;
    ltx_vocab *v;
    ltx_result r;
    ltx_session_desc d;
    if (ltx_vocab_need(image, NULL, &need) == LTX_OK && need.size < 1 << 22) {
        test_block b = test_alloc(need.size, need.align);
        ltx_mem mem = {b.ptr, need.size};
        char text[8];
        if (ltx_vocab_init(image, mem, NULL, &v) == LTX_OK)
            for (int32_t t = -1; t < 40; t++) ltx_piece(v, t, 1, text, 8);
        test_free(&b);
    }
    if ((r = ltx_gguf_need(image, NULL, &need)) != LTX_OK) return r;
    test_block b = test_alloc(need.size, need.align);
    ltx_mem mem = {b.ptr, need.size};
    memset(&d, 0, sizeof d);
    d.ctx = 8; d.rows = 2;
    r = ltx_gguf_init(image, mem, NULL, &m);
    ltx_session_needs needs;
    if (r == LTX_OK && ltx_session_need(&m, &d, &needs) == LTX_OK && needs.state.size + needs.cache.size + needs.scratch.size < 1 << 22) {
        kit_session s;
        int32_t tokens[2] = {1, m.vocab - 1};
        const float *logits;
        if (kit_try(&m, &d, TEST_PATTERN, &s) == LTX_OK && ltx_eval(s.s, tokens, 2, &logits) == LTX_OK && hash)
            *hash = test_hash(logits, (size_t)m.vocab * sizeof *logits, TEST_HASH_START);
        kit_close(&s);
    }
    test_free(&b);
    return r;
}

/* ==== good images ======================================================================================= */

typedef struct facts {
    const char *name;
    int dim, layers, heads, kv_heads, vocab, bos, type;
} facts;

static void check_facts(const facts *f, const ltx_model *m, const ltx_vocab *v)
{
    CHECK_EQ(m->dim, f->dim);
    CHECK_EQ(m->n_layers, f->layers);
    CHECK_EQ(m->n_heads, f->heads);
    CHECK_EQ(m->n_kv_heads, f->kv_heads);
    CHECK_EQ(m->vocab, f->vocab);
    CHECK_EQ(m->ctx, 512);
    CHECK_EQ(m->rope_pairs, LTX_ROPE_INTERLEAVED);
    CHECK_EQ(m->layers[f->layers - 1].w_up.type, f->type);
    CHECK_EQ(ltx_vocab_size(v), f->vocab);
    if (f->bos >= 0) CHECK_EQ(ltx_vocab_bos(v), f->bos);
    CHECK(ltx_vocab_longest(v) > 0);
}

static void shipped(void)
{
    static const facts known[] = {{"stories-ls-q8_0.gguf", 192, 12, 6, 3, 2048, 1, LTX_Q8_0}, {"stories-ls-q4_0.gguf", 192, 12, 6, 3, 2048, 1, LTX_Q4_0}};
    for (int i = 0; i < 2; i++) {
        kit_file f;
        if (kit_load(known[i].name, &f)) {
            check_facts(&known[i], &f.m, f.vocab);
            CHECK(f.m.exits[0] != 0);
        }
        kit_unload(&f);
    }
    kit_file f;
    if (kit_load("stories-bytes-q8_0.gguf", &f)) {
        CHECK_EQ(ltx_vocab_size(f.vocab), f.m.vocab);
        CHECK(f.m.vocab >= 256 && ltx_vocab_bos(f.vocab) >= 256);
    }
    kit_unload(&f);
}

static void shared(void)
{
    static const facts known[] = {{"models/stories260K-F32.gguf", 64, 5, 8, 4, 512, 1, LTX_F32}, {"models/stories260K-Q8_0.gguf", 64, 5, 8, 4, 512, 1, LTX_Q8_0}};
    for (int i = 0; i < 2; i++) {
        kit_file f;
        memset(&f, 0, sizeof f);
        f.image = test_read_shared(known[i].name);
        if (!f.image.base) SKIP("models/stories260K-*.gguf are not there");
        if (CHECK_EQ(kit_read(&f), LTX_OK)) {
            uint64_t hash = 0;
            CHECK_EQ(f.m.dim, 64);
            CHECK_EQ(f.m.vocab, 512);
            CHECK_EQ(ltx_vocab_size(f.vocab), 512);
            CHECK_EQ(swallow(kit_blob(&f.image), &hash), LTX_OK);
        }
        kit_unload(&f);
    }
}

/* Walking the directory gives what was written. */
static void walking(void)
{
    kit_buffer b = tiny("llama", 0, NULL, NULL);
    ltx_blob image = {b.p, b.n};
    ltx_gguf g;
    ltx_gguf_kv kv;
    ltx_gguf_tensor t;
    uint64_t cursor = 0, n = 0, bytes = 0;
    CHECK_EQ(ltx_gguf_open(image, NULL, &g), LTX_OK);
    while (ltx_gguf_next_kv(&g, &cursor, &kv) == LTX_OK) {
        if (n == 0) CHECK(kv.type == 8 && kv.count == 5 && kv.size == 5 && memcmp(kv.data, "llama", 5) == 0);
        if (n == 1) CHECK(kv.key_len == 17 && kv.type == 4 && kv.count == 1 && kv.size == 4 && kv.data[0] == 32);
        if (kv.type == 9 && kv.item_type == 6) CHECK_EQ(kv.size, kv.count * 4);
        n++;
    }
    CHECK_EQ(n, g.n_kv);
    CHECK_EQ(ltx_gguf_next_kv(&g, &cursor, &kv), LTX_E_FULL);
    for (cursor = 0, n = 0; ltx_gguf_next_tensor(&g, &cursor, &t) == LTX_OK; n++) {
        CHECK(t.offset % 32 == 0 && t.offset >= g.data_start && t.bytes > 0 && t.offset + t.bytes <= b.n);
        if (n == 0) CHECK(t.name_len == 17 && memcmp(t.name, "token_embd.weight", 17) == 0 && t.n_dims == 2 && t.dims[0] == 32 && t.dims[1] == 12 && t.dims[2] == 1);
        bytes += t.bytes;
    }
    CHECK_EQ(n, g.n_tensors);
    CHECK(bytes > 0);
    CHECK_EQ(ltx_gguf_next_tensor(&g, &cursor, &t), LTX_E_FULL);
    CHECK_EQ(ltx_gguf_open(image, NULL, NULL), LTX_E_ARG);
    free(b.p);
}

/* Weights of any alignment: the same image at odd addresses gives the same bits. */
static void odd_address(void)
{
    kit_buffer b = tiny("qwen3", 0, NULL, NULL);
    uint64_t want = 0, got = 0;
    ltx_blob image = {b.p, b.n};
    CHECK_EQ(swallow(image, &want), LTX_OK);
    CHECK(want != 0);
    for (size_t shift = 1; shift < 16; shift += 2) {
        test_block at = test_alloc_at(b.n, 64, shift);
        memcpy(at.ptr, b.p, b.n);
        CHECK_EQ(swallow(kit_blob(&at), &got), LTX_OK);
        CHECK(got == want);
        test_free(&at);
    }
    free(b.p);
}

/* Logits of the two tokens that swallow takes, by the model itself. */
static uint64_t direct_hash(const ltx_model *m)
{
    ltx_session_desc d;
    int32_t tokens[2] = {1, m->vocab - 1};
    const float *logits = NULL;
    memset(&d, 0, sizeof d);
    d.ctx = 8; d.rows = 2;
    kit_session s = kit_open(m, &d);
    CHECK_EQ(ltx_eval(s.s, tokens, 2, &logits), LTX_OK);
    uint64_t hash = logits ? test_hash(logits, (size_t)m->vocab * sizeof *logits, TEST_HASH_START) : 0;
    kit_close(&s);
    return hash;
}

/* Tensors in K formats, alone and beside others: sizes in the directory, views in the model, the same logits; and they end where they end. */
static void other_formats(int first, int last, int mixed)
{
    for (int f = first; f <= last; f++) {
        kit_shape sh = kit_wide;
        kit_tensor list[KIT_BLOCKS];
        ltx_gguf g;
        ltx_gguf_tensor t;
        uint64_t cursor = 0, hash = 0;
        ltx_need need;
        int n = 0;
        sh.format = f < last ? kit_formats[f] : mixed;
        sh.layers = 2; sh.rope_pairs = LTX_ROPE_INTERLEAVED;
        kit_model *k = kit_make(&sh, 9);
        kit_buffer b = kit_gguf(k, "llama", NULL, 32, NULL);
        test_block image = test_alloc_at(b.n, 64, 3);
        memcpy(image.ptr, b.p, b.n);
        kit_list(k, list);
        CHECK_EQ(ltx_gguf_open(kit_blob(&image), NULL, &g), LTX_OK);
        for (; ltx_gguf_next_tensor(&g, &cursor, &t) == LTX_OK; n++) {
            const ltx_mat *w = &list[n].w;
            CHECK(t.type == (uint32_t)w->type && t.bytes == kit_mat_bytes(w) && memcmp(image.ptr + t.offset, w->data, kit_mat_bytes(w)) == 0);
        }
        CHECK_EQ(n, g.n_tensors);
        CHECK_EQ(swallow(kit_blob(&image), &hash), LTX_OK);
        CHECK(hash == direct_hash(&k->m));
        for (size_t less = 1; less <= 210; less += 19) {
            ltx_blob cut = {b.p, b.n - less};
            CHECK_EQ(ltx_gguf_need(cut, NULL, &need), LTX_E_MODEL);
        }
        test_free(&image);
        free(b.p);
        kit_free(k);
    }
}

static void k_formats(void)
{
    other_formats(KIT_PLAIN, KIT_FORMATS, KIT_MIXED_K);
}

static void x_formats(void)
{
    other_formats(KIT_FORMATS, KIT_ALL, KIT_MIXED_ALL);
}

/* ==== damaged images ==================================================================================== */

static void every_truncation(void)
{
    size_t end;
    kit_buffer b = tiny("llama", 0, NULL, &end);
    for (size_t n = 0; n <= b.n; n++) {
        unsigned char *copy = (unsigned char *)test_malloc(n);
        ltx_blob image = {copy, n};
        ltx_need need;
        memcpy(copy, b.p, n);
        ltx_result r = n > end - 64 ? swallow(image, NULL) : ltx_gguf_need(image, NULL, &need);
        CHECK(n >= end ? r == LTX_OK : r == LTX_E_MODEL); /* only padding may go */
        if (n < end) CHECK_EQ(ltx_vocab_need(image, NULL, &need), LTX_E_MODEL);
        free(copy);
    }
    free(b.p);
}

static void every_byte_flipped(void)
{
    size_t directory;
    kit_buffer b = tiny("llama", 0, &directory, NULL);
    test_block copy = test_alloc(b.n, 64);
    memcpy(copy.ptr, b.p, b.n);
    int good = 0;
    for (size_t i = 0; i < directory + 40; i++)
        for (int kind = 0; kind < 3; kind++) {
            unsigned char old = b.p[i];
            copy.ptr[i] = kind == 0 ? 0 : kind == 1 ? 255 : old ^ 0x80u;
            if (copy.ptr[i] != old) good += swallow(kit_blob(&copy), NULL) == LTX_OK;
            copy.ptr[i] = old;
        }
    CHECK(good > 0); /* names of unused keys and pieces may change */
    test_free(&copy);
    free(b.p);
}

/* ---- patches: find a text in the directory, write over what follows it ---- */

static size_t find(const kit_buffer *b, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= b->n; i++)
        if (memcmp(b->p + i, text, n) == 0) return i;
    CHECK(text == NULL);
    return 0;
}

static void put64(unsigned char *p, uint64_t v)
{
    kit_put32(p, (uint32_t)v);
    kit_put32(p + 4, (uint32_t)(v >> 32));
}

typedef struct patch {
    const char *text; /* NULL = the beginning of the image                         */
    int at;           /* bytes after the end of the text                           */
    int bytes;        /* 4 or 8                                                    */
    uint64_t value;
    int result;
    const char *name; /* of the event; "" = any                                    */
} patch;

/* A key is followed by its type and value; a string by length and text; an array by item type and count. A tensor's name by the number
   of its dimensions, those, type, offset. */
static const patch patches[] = {
    {NULL, 0, 4, 0x46554748, LTX_E_MODEL, "GGUF"}, {NULL, 4, 4, 1, LTX_E_ABSENT, "GGUF"}, {NULL, 4, 4, 4, LTX_E_ABSENT, "GGUF"}, {NULL, 4, 4, 0x03000000, LTX_E_ABSENT, "GGUF"},
    {NULL, 8, 8, UINT64_MAX, LTX_E_MODEL, "GGUF"}, {NULL, 8, 8, UINT64_C(1) << 60, LTX_E_MODEL, "GGUF"}, {NULL, 16, 8, UINT64_MAX, LTX_E_MODEL, "GGUF"},
    {NULL, 16, 8, UINT64_C(1) << 63, LTX_E_MODEL, "GGUF"}, {NULL, 24, 8, UINT64_MAX, LTX_E_MODEL, "GGUF"}, {NULL, 24, 8, UINT64_C(1) << 63, LTX_E_MODEL, "GGUF"},
    {"general.alignment", 4, 4, 0, LTX_E_MODEL, "GGUF"}, {"general.alignment", 4, 4, 3, LTX_E_MODEL, "GGUF"}, {"general.alignment", 4, 4, 0x80000000u, LTX_E_MODEL, "GGUF"},
    {"general.alignment", 4, 4, 0xffffffffu, LTX_E_MODEL, "GGUF"}, {"general.alignment", 0, 4, 13, LTX_E_MODEL, "GGUF"},
    {"general.architecture", 0, 4, 13, LTX_E_MODEL, "GGUF"}, {"general.architecture", 4, 8, UINT64_MAX, LTX_E_MODEL, "GGUF"},
    {"general.architecture", 4, 8, UINT64_MAX - 20, LTX_E_MODEL, "GGUF"}, {"general.architecture", 12, 4, 0x6d616c6d, LTX_E_ABSENT, "mlama"},
    {"general.architectur", 0, 1, 'x', LTX_E_ABSENT, "general.architecture"},
    {"llama.block_count", 4, 4, 0, LTX_E_MODEL, "block_count"}, {"llama.block_count", 4, 4, 257, LTX_E_MODEL, "block_count"}, {"llama.block_count", 4, 4, 0xffffffffu, LTX_E_MODEL, "llama.block_count"},
    {"llama.block_count", 0, 4, 6, LTX_E_MODEL, "llama.block_count"}, {"llama.block_count", 0, 4, 5, LTX_OK, ""}, {"llama.block_count", 4, 4, 3, LTX_E_MODEL, ""},
    {"llama.embedding_length", 4, 4, 64, LTX_E_MODEL, "embed"}, {"llama.embedding_length", 4, 4, 0, LTX_E_MODEL, "dim"}, {"llama.embedding_length", 4, 4, 0x7fffffffu, LTX_E_MODEL, "dim"},
    {"llama.attention.head_count", 4, 4, 0, LTX_E_MODEL, "n_heads"}, {"llama.attention.head_count_kv", 4, 4, 3, LTX_E_MODEL, "n_kv_heads"},
    {"llama.attention.head_count", 4, 4, 0x10000u, LTX_E_MODEL, ""}, {"llama.attention.key_length", 4, 4, 513, LTX_E_MODEL, "head_dim"}, {"llama.rope.freq_base", 0, 4, 4, LTX_E_MODEL, "llama.rope.freq_base"},
    {"llama.rope.freq_base", 4, 4, 0x7f800000u, LTX_E_MODEL, ""}, {"llama.attention.layer_norm_rms_epsilon", 4, 4, 0xbf800000u, LTX_E_MODEL, ""},
    {"ltx.exits", 4, 4, 9, LTX_E_MODEL, "GGUF"}, {"ltx.exits", 4, 4, 99, LTX_E_MODEL, "GGUF"}, {"ltx.exits", 8, 8, UINT64_MAX / 4 + 2, LTX_E_MODEL, "GGUF"},
    {"ltx.exits", 16, 4, 0xffffffffu, LTX_OK, ""}, {"tokenizer.ggml.tokens", 8, 8, UINT64_MAX / 8, LTX_E_MODEL, "GGUF"}, {"tokenizer.ggml.tokens", 16, 8, UINT64_MAX, LTX_E_MODEL, "GGUF"},
    {"tokenizer.ggml.scores", 8, 8, UINT64_C(1) << 62, LTX_E_MODEL, "GGUF"},
    {"token_embd.weight", 0, 4, 5, LTX_E_MODEL, "GGUF"}, {"token_embd.weight", 0, 4, 0xffffffffu, LTX_E_MODEL, "GGUF"}, {"token_embd.weight", 4, 8, 0, LTX_E_MODEL, "token_embd.weight"},
    {"token_embd.weight", 4, 8, UINT64_C(1) << 33, LTX_E_MODEL, "token_embd.weight"}, {"token_embd.weight", 12, 8, UINT64_MAX, LTX_E_MODEL, "token_embd.weight"},
    {"token_embd.weight", 12, 8, UINT64_C(1) << 59, LTX_E_MODEL, "token_embd.weight"}, {"token_embd.weight", 12, 8, 13, LTX_E_MODEL, "head"},
    {"token_embd.weight", 20, 4, 99, LTX_E_ABSENT, "token_embd.weight"}, {"token_embd.weight", 20, 4, LTX_Q4_K, LTX_E_MODEL, "token_embd.weight"}, {"token_embd.weight", 20, 4, 0x10001u, LTX_E_ABSENT, "token_embd.weight"},
    {"token_embd.weight", 24, 8, 1, LTX_E_MODEL, "token_embd.weight"}, {"token_embd.weight", 24, 8, UINT64_MAX - 31, LTX_E_MODEL, "token_embd.weight"},
    {"token_embd.weight", 24, 8, 1 << 20, LTX_E_MODEL, "token_embd.weight"}, {"output_norm.weight", 12, 4, LTX_F16, LTX_E_MODEL, "out_norm"},
    {"blk.1.attn_k.weight", 12, 8, 15, LTX_E_MODEL, "wk"}, {"blk.1.attn_", 0, 1, 'x', LTX_E_ABSENT, "blk.1.attn_xorm.weight"},
    {"blk.", 0, 1, '7', LTX_E_ABSENT, "blk.7.attn_norm.weight"},
    {"blk.0.ffn_up.weight", 12, 8, 33, LTX_E_MODEL, ""}};

/* patches of a name show in need or in init; of the tokenizer at the vocabulary, too */
static ltx_result both(ltx_blob image)
{
    ltx_need need;
    ltx_model m;
    memset(&m, 0x5a, sizeof m);
    event_count = 0;
    ltx_result r = ltx_gguf_need(image, &event_log, &need);
    if (r != LTX_OK) return r;
    test_block b = test_alloc(need.size, need.align);
    ltx_mem mem = {b.ptr, need.size};
    r = ltx_gguf_init(image, mem, &event_log, &m);
    if (r != LTX_OK) CHECK_EQ(m.dim, 0x5a5a5a5a); /* outputs untouched */
    test_free(&b);
    return r;
}

static void hostile_values(void)
{
    kit_buffer b = tiny("llama", 0, NULL, NULL);
    test_block copy = test_alloc(b.n, 64);
    for (int i = 0; i < (int)(sizeof patches / sizeof patches[0]); i++) {
        const patch *p = &patches[i];
        size_t at = (p->text ? find(&b, p->text) + strlen(p->text) : 0) + (size_t)p->at;
        memcpy(copy.ptr, b.p, b.n);
        if (p->bytes == 8) put64(copy.ptr + at, p->value);
        else if (p->bytes == 4) kit_put32(copy.ptr + at, (uint32_t)p->value);
        else copy.ptr[at] = (unsigned char)p->value;
        ltx_result r = both(kit_blob(&copy));
        if (!CHECK_EQ(r, p->result) || !CHECK(r == LTX_OK || event_count == 1)) printf("  patch %d: %s + %d\n", i, p->text ? p->text : "", p->at);
        if (r != LTX_OK && p->name[0] && !CHECK(strcmp(event_name, p->name) == 0)) printf("  patch %d: event \"%s\", wanted \"%s\"\n", i, event_name, p->name);
        if (r != LTX_OK) CHECK_EQ(event_code, r);
        swallow(kit_blob(&copy), NULL);
    }
    test_free(&copy);
    free(b.p);
}

/* The same tensor twice, no tensors, no metadata, nothing. */
static void odd_directories(void)
{
    kit_buffer b = tiny("llama", 0, NULL, NULL);
    size_t k = find(&b, "blk.1.attn_k.bias"), v = find(&b, "blk.1.attn_v.bias");
    ltx_blob image = {b.p, b.n};
    CHECK_EQ(both(image), LTX_OK);
    b.p[v + 11] = 'k';
    CHECK_EQ(both(image), LTX_E_MODEL);
    CHECK(strcmp(event_name, "blk.1.attn_k.bias") == 0 && k != v);
    free(b.p);
    for (int kv = 0; kv < 2; kv++) {
        kit_buffer e = {NULL, 0, 0};
        kit_put(&e, "GGUF", 4);
        kit_u32(&e, 2);
        kit_u64(&e, 0);
        kit_u64(&e, (uint64_t)kv);
        if (kv) kit_key_str(&e, "general.architecture", "llama");
        ltx_blob small = {e.p, e.n};
        CHECK_EQ(both(small), kv ? LTX_E_MODEL : LTX_E_ABSENT);
        CHECK(strcmp(event_name, kv ? "block_count" : "general.architecture") == 0);
        ltx_need need;
        CHECK_EQ(ltx_vocab_need(small, NULL, &need), LTX_E_ABSENT);
        free(e.p);
    }
}

/* Dimensions and no tensors at all: layers without any branch. */
static void no_tensors(void)
{
    kit_shape sh = {32, 1, 2, 1, 16, 32, 12, LTX_F32, 0, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};
    kit_model *k = kit_make(&sh, 1);
    memset(k->layers, 0, sizeof k->layers);
    kit_buffer b = kit_gguf(k, "llama", NULL, 32, NULL);
    ltx_blob image = {b.p, b.n};
    CHECK_EQ(both(image), LTX_E_MODEL);
    swallow(image, NULL);
    free(b.p);
    kit_free(k);
}

static void hostile_vocabularies(void)
{
    static const patch bad[] = {
        {"tokenizer.ggml.model", 12, 4, 0x61616161, LTX_E_ABSENT, ""}, {"tokenizer.ggml.mode", 0, 1, 'x', LTX_E_ABSENT, ""},
        {"tokenizer.ggml.model", 0, 4, 9, LTX_E_MODEL, ""}, {"tokenizer.ggml.scores", 4, 4, 5, LTX_E_MODEL, "tokenizer.ggml.scores"},
        {"tokenizer.ggml.score", 0, 1, 'x', LTX_E_MODEL, "tokenizer.ggml.scores"}, {"tokenizer.ggml.token", 0, 1, 'x', LTX_E_MODEL, "tokenizer.ggml.tokens"},
        {"tokenizer.ggml.bos_token_id", 4, 4, 0xffffffffu, LTX_OK, ""}, {"tokenizer.ggml.eos_token_id", 4, 4, 100000, LTX_OK, ""},
        {"tokenizer.ggml.unknown_token_id", 4, 4, 0x7fffffffu, LTX_OK, ""}, {"tokenizer.ggml.scores", 16, 4, 0x7fc00000u, LTX_OK, ""}};
    kit_buffer b = tiny("llama", 0, NULL, NULL);
    test_block copy = test_alloc(b.n, 64);
    for (int i = 0; i < (int)(sizeof bad / sizeof bad[0]); i++) {
        const patch *p = &bad[i];
        size_t at = find(&b, p->text) + strlen(p->text) + (size_t)p->at;
        ltx_need need;
        memcpy(copy.ptr, b.p, b.n);
        if (p->bytes == 4) kit_put32(copy.ptr + at, (uint32_t)p->value);
        else copy.ptr[at] = (unsigned char)p->value;
        event_count = 0;
        if (!CHECK_EQ(ltx_vocab_need(kit_blob(&copy), &event_log, &need), p->result)) printf("  patch %d: %s\n", i, p->text);
        if (p->name[0]) CHECK(event_count == 1 && strcmp(event_name, p->name) == 0);
        swallow(kit_blob(&copy), NULL);
    }
    test_free(&copy);
    free(b.p);
}

/* ---- routers and probes: tensors that only this library knows ---- */

static const kit_shape routed_shape = {32, 3, 2, 1, 16, 32, 12, KIT_MIXED, KIT_BIAS | KIT_QK_NORM | KIT_UNTIED, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};

static kit_model *routed_model(void)
{
    kit_model *k = kit_make(&routed_shape, 4);
    kit_add_routers(k, &routed_shape, 5);
    return k;
}

/* Logits and depths of rows that routers turn away and probes let leave. */
static uint64_t routed_hash(const ltx_model *m)
{
    ltx_step steps[3];
    ltx_session_desc d;
    ltx_stats st;
    uint64_t hash = TEST_HASH_START;
    memset(&d, 0, sizeof d);
    d.ctx = 16; d.rows = 2;
    CHECK_EQ(ltx_plan_full(m, steps, 3, &d.plan.count), LTX_OK);
    CHECK_EQ(ltx_plan_gates(steps, 3, 0, 1), LTX_OK);
    for (int i = 0; i < 3; i++) { steps[i].route = 0.45f; steps[i].run |= LTX_WEIGH; }
    d.plan.steps = steps; d.policy.rule = LTX_EXIT_PROBE; d.policy.threshold = 0.6f;
    kit_session s = kit_open(m, &d);
    for (int32_t t = 0; t < m->vocab; t++) {
        ltx_batch b = {.tokens = &t, .count = 1, .logits = 1};
        ltx_output out;
        if (!CHECK_EQ(ltx_eval_batch(s.s, &b, &out), LTX_OK)) break;
        hash = test_hash(out.logits, (size_t)m->vocab * sizeof *out.logits, test_hash(out.depth, sizeof *out.depth, hash));
    }
    ltx_session_stats(s.s, &st);
    CHECK(st.exits > 0 && st.exits < (uint64_t)m->vocab && st.skipped > 0 && st.attn_rows > (uint64_t)m->vocab);
    kit_close(&s);
    return hash;
}

static void check_view(const ltx_mat *got, const ltx_mat *want)
{
    if (!CHECK((got->data == NULL) == (want->data == NULL)) || !got->data) return;
    CHECK(got->type == want->type && got->rows == want->rows && got->cols == want->cols && memcmp(got->data, want->data, kit_mat_bytes(want)) == 0);
}

static void routers_and_probes(void)
{
    kit_model *k = routed_model();
    kit_buffer b = kit_gguf(k, "llama", NULL, 32, NULL);
    ltx_blob image = {b.p, b.n};
    ltx_need need;
    ltx_model m;
    CHECK_EQ(ltx_gguf_need(image, NULL, &need), LTX_OK);
    test_block block = test_alloc(need.size, need.align);
    ltx_mem mem = {block.ptr, need.size};
    if (CHECK_EQ(ltx_gguf_init(image, mem, NULL, &m), LTX_OK)) {
        check_view(&m.probes, &k->m.probes);
        check_view(&m.probe_bias, &k->m.probe_bias);
        for (int l = 0; l < 3; l++)
            for (int i = 0; i < KIT_FIELDS; i++) {
                ltx_layer read = m.layers[l];
                check_view(kit_field_of(&read, i), kit_field_of(&k->layers[l], i));
            }
        CHECK(m.layers[1].router.data && m.layers[1].router_norm.data && m.probes.rows == 3);
        CHECK(routed_hash(&m) == routed_hash(&k->m));
    }
    test_free(&block);
    free(b.p);
    kit_free(k);
}

/* Each with a row, a column or, if it has to be a vector of floats, a format that does not suit; probes without their bias. */
static void wrong_routers_and_probes(void)
{
    static const unsigned char zeros[16 * 64 * 4];
    kit_model *k = routed_model();
    const struct { const char *name; ltx_mat *w; int vector; } all[] = {
        {"router", &k->layers[1].router, 0},        {"router_bias", &k->layers[2].router_bias, 1}, {"router_norm", &k->layers[1].router_norm, 1},
        {"probes", &k->m.probes, 0},                {"probe_bias", &k->m.probe_bias, 1}};
    for (int i = 0; i < 5; i++)
        for (int wrong = 0; wrong < 4; wrong++) {
            ltx_mat good = *all[i].w, bad = {zeros, LTX_F32, good.rows + (wrong == 0), good.cols + (wrong == 1)};
            if (wrong == 2 && all[i].vector) bad.type = LTX_F16;
            if (wrong == 2 && !all[i].vector) bad.cols = 16;
            if (wrong == 3 && i < 4) continue;
            if (wrong == 3) memset(&bad, 0, sizeof bad);
            *all[i].w = bad;
            kit_buffer b = kit_gguf(k, "llama", NULL, 32, NULL);
            ltx_blob image = {b.p, b.n};
            if (!CHECK_EQ(both(image), LTX_E_MODEL) || !CHECK(event_count == 1 && strcmp(event_name, all[i].name) == 0)) printf("  %s, %d\n", all[i].name, wrong);
            free(b.p);
            *all[i].w = good;
        }
    kit_free(k);
}

/* ==== tokenizer ========================================================================================= */

/* Tokens into a fresh array (free it); exact work block. */
static int32_t *tokens_of(const ltx_vocab *v, const char *text, size_t len, int32_t *n)
{
    ltx_need need;
    size_t cap = len * 3 + 8;
    int32_t *tokens = (int32_t *)test_malloc(cap * sizeof *tokens);
    CHECK_EQ(ltx_encode_need(len, &need), LTX_OK);
    test_block b = test_alloc(need.size, need.align);
    ltx_mem work = {b.ptr, need.size};
    *n = 0;
    CHECK_EQ(ltx_encode(v, text, len, 0, work, tokens, (int32_t)cap, n), LTX_OK);
    test_free(&b);
    return tokens;
}

static int round_trip(const ltx_vocab *v, const char *text, size_t len)
{
    int32_t n;
    int32_t *tokens = tokens_of(v, text, len, &n);
    size_t cap = (size_t)n * (size_t)(ltx_vocab_longest(v) + 1) + 1, at = 0;
    char *back = (char *)test_malloc(cap);
    for (int32_t i = 0; i < n; i++) at += (size_t)ltx_piece(v, tokens[i], i == 0, back + at, (int32_t)(cap - at));
    int same = at == len && memcmp(back, text, len) == 0;
    free(tokens);
    free(back);
    return same;
}

/* A random text: 0 ASCII words, 1 any valid UTF-8, 2 any bytes, 3 few letters. U+2581 itself is left out: it means a blank. */
static size_t random_text(test_rng *r, int kind, char *out, size_t most)
{
    size_t n = 0, want = (size_t)test_int(r, (int)most - 4);
    while (n < want) {
        uint32_t c = (uint32_t)test_int(r, kind == 1 ? 0x3000 : 128);
        if (kind == 0) c = test_int(r, 5) ? (uint32_t)('a' + test_int(r, 26)) : ' ';
        if (kind == 3) c = (uint32_t)" abcd"[test_int(r, 5)];
        if (kind == 2) { out[n++] = (char)test_int(r, 256); continue; }
        if (c == 0x2581) continue;
        if (c < 0x80) out[n++] = (char)c;
        else if (c < 0x800) { out[n++] = (char)(0xc0 | c >> 6); out[n++] = (char)(0x80 | (c & 63)); }
        else { out[n++] = (char)(0xe0 | c >> 12); out[n++] = (char)(0x80 | (c >> 6 & 63)); out[n++] = (char)(0x80 | (c & 63)); }
    }
    for (size_t i = 0; kind == 2 && i + 2 < n; i++)
        if (memcmp(out + i, "\xe2\x96\x81", 3) == 0) out[i] = 'x';
    return n;
}

static void reference_sentence(void)
{
    static const char text[] = "Once upon a time, there was a little girl named Lily. She loved to play";
    static const int32_t want[18] = {1, 470, 472, 261, 412, 1993, 405, 289, 261, 397, 502, 455, 410, 1987, 360, 558, 269, 359};
    int32_t tokens[32], n = 0;
    ltx_need need;
    kit_file f;
    if (kit_load("stories-ls-q8_0.gguf", &f)) {
        CHECK_EQ(ltx_encode_need(sizeof text - 1, &need), LTX_OK);
        test_block b = test_alloc(need.size, need.align);
        ltx_mem work = {b.ptr, need.size};
        CHECK_EQ(ltx_encode(f.vocab, text, sizeof text - 1, LTX_BOS, work, tokens, 32, &n), LTX_OK);
        CHECK(n == 18 && memcmp(tokens, want, sizeof want) == 0);
        CHECK(round_trip(f.vocab, text, sizeof text - 1));
        test_free(&b);
    }
    kit_unload(&f);
}

static void round_trips(void)
{
    kit_file f;
    test_rng r = {51};
    char text[300];
    if (kit_load("stories-ls-q8_0.gguf", &f)) {
        for (int i = 0; i < 4000; i++) {
            size_t n = random_text(&r, i % 4, text, sizeof text);
            if (!CHECK(round_trip(f.vocab, text, n))) break;
        }
        for (int b = 0; b < 256; b++) {
            text[0] = text[1] = text[2] = (char)b;
            for (size_t n = 1; n <= 3; n++) CHECK(round_trip(f.vocab, text, n));
        }
        CHECK(round_trip(f.vocab, "", 0));
        CHECK(round_trip(f.vocab, " ", 1));
        CHECK(round_trip(f.vocab, "a\0b", 3));
        CHECK(round_trip(f.vocab, "\xe2\x96", 2) && round_trip(f.vocab, "\xf0\x9f\x98\x80", 4) && round_trip(f.vocab, "\xf0\x9f\x98", 3));
        CHECK(round_trip(f.vocab, "<s></s><unk><0x41>", 18));
    }
    kit_unload(&f);
}

/* Long runs of one character keep every pair mergeable: the heap may not outgrow its block, the work not be quadratic. */
static void long_texts(void)
{
    static const char *const parts[] = {"a", " ", "ab", "\xff", "\xc3\xa4", "the ", "\n", "aab"};
    enum { LONG = 100000 };
    kit_file f;
    char *text = (char *)test_malloc(LONG);
    if (kit_load("stories-ls-q8_0.gguf", &f))
        for (int i = 0; i < 8; i++) {
            size_t n = strlen(parts[i]);
            for (size_t j = 0; j < LONG; j++) text[j] = parts[i][j % n];
            CHECK(round_trip(f.vocab, text, LONG - LONG % n));
        }
    kit_unload(&f);
    free(text);
}

static void full_output(void)
{
    static const char text[] = "One day a bird \xff flew";
    kit_file f;
    int32_t n, want, buf[64];
    ltx_need need;
    if (kit_load("stories-ls-q8_0.gguf", &f)) {
        int32_t *tokens = tokens_of(f.vocab, text, sizeof text - 1, &want);
        CHECK_EQ(ltx_encode_need(sizeof text - 1, &need), LTX_OK);
        test_block b = test_alloc(need.size, need.align);
        ltx_mem work = {b.ptr, need.size};
        for (int32_t cap = 0; cap <= want + 2; cap++) {
            memset(buf, 0x77, sizeof buf);
            n = -5;
            ltx_result r = ltx_encode(f.vocab, text, sizeof text - 1, 0, work, cap ? buf : NULL, cap, &n);
            CHECK_EQ(r, cap < want ? LTX_E_FULL : LTX_OK);
            CHECK_EQ(n, cap < want ? -5 : want);
            CHECK(buf[cap < want ? 0 : want] == 0x77777777 && (cap < want || memcmp(buf, tokens, (size_t)want * 4) == 0));
        }
        CHECK_EQ(ltx_encode(NULL, text, 1, 0, work, buf, 64, &n), LTX_E_ARG);
        CHECK_EQ(ltx_encode(f.vocab, NULL, 1, 0, work, buf, 64, &n), LTX_E_ARG);
        CHECK_EQ(ltx_encode(f.vocab, text, 1, 0, work, NULL, 64, &n), LTX_E_ARG);
        CHECK_EQ(ltx_encode(f.vocab, text, 1, 0, work, buf, -1, &n), LTX_E_ARG);
        CHECK_EQ(ltx_encode(f.vocab, text, 1, 0, work, buf, 64, NULL), LTX_E_ARG);
        CHECK_EQ(ltx_encode(f.vocab, NULL, 0, LTX_BOS, work, buf, 64, &n), LTX_OK);
        CHECK(n == 1 && buf[0] == 1);
        test_free(&b);
        free(tokens);
    }
    kit_unload(&f);
}

static void pieces(void)
{
    kit_file f;
    char buf[64], whole[64];
    if (kit_load("stories-ls-q8_0.gguf", &f)) {
        int longest = 0, size = ltx_vocab_size(f.vocab);
        for (int32_t t = 0; t < size; t++) {
            int32_t n = ltx_piece(f.vocab, t, 0, whole, 64);
            if (n > longest) longest = n;
            for (int32_t cap = 0; cap <= n; cap++) {
                memset(buf, 0x77, sizeof buf);
                CHECK_EQ(ltx_piece(f.vocab, t, 0, buf, cap), cap);
                CHECK(memcmp(buf, whole, (size_t)cap) == 0 && buf[cap] == 0x77);
            }
            int blank = n > 0 && whole[0] == ' ' && t >= 3 + 256; /* the byte token of a blank stays */
            CHECK_EQ(ltx_piece(f.vocab, t, 1, buf, 64), n - blank);
        }
        CHECK(longest > 1 && longest <= ltx_vocab_longest(f.vocab));
        for (int32_t t = 0; t < 3; t++) CHECK_EQ(ltx_piece(f.vocab, t, 0, buf, 64), 0);
        CHECK_EQ(ltx_piece(f.vocab, -1, 0, buf, 64), 0);
        CHECK_EQ(ltx_piece(f.vocab, size, 0, buf, 64), 0);
        CHECK_EQ(ltx_piece(NULL, 5, 0, buf, 64), 0);
        CHECK_EQ(ltx_piece(f.vocab, 500, 0, NULL, 0), 0);
    }
    kit_unload(&f);
}

static void byte_tokens(void)
{
    kit_file f;
    char all[256], buf[4];
    int32_t n;
    memset(&f, 0, sizeof f);
    kit_buffer b = tiny("llama", 1, NULL, NULL);
    f.image.ptr = b.p; f.image.size = b.n;
    for (int i = 0; i < 256; i++) all[i] = (char)i;
    if (CHECK_EQ(kit_read(&f), LTX_OK)) {
        int32_t *tokens = tokens_of(f.vocab, all, 256, &n);
        CHECK_EQ(n, 256);
        for (int i = 0; i < n; i++) CHECK(tokens[i] == i && ltx_piece(f.vocab, i, 1, buf, 4) == 1 && buf[0] == (char)i);
        CHECK(round_trip(f.vocab, "\xff \xe2\x96\x81", 5) && round_trip(f.vocab, "", 0));
        CHECK(ltx_vocab_bos(f.vocab) == 256 && ltx_vocab_eos(f.vocab) == 257 && ltx_piece(f.vocab, 256, 0, buf, 4) == 0);
        free(tokens);
    }
    test_free(&f.mem);
    test_free(&f.vocab_mem);
    free(b.p);
}

/* ==== the slow, plain encoder =========================================================================== */

typedef struct entry {
    const char *text;
    size_t len;
    float score;
    int32_t id;
} entry;

typedef struct slow_vocab {
    entry *e; /* sorted by text, then id */
    int n;
    int32_t byte[256];
} slow_vocab;

static int compare(const void *x, const void *y)
{
    const entry *a = (const entry *)x, *b = (const entry *)y;
    int c = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
    return c ? c : a->len != b->len ? (a->len < b->len ? -1 : 1) : a->id < b->id ? -1 : 1;
}

static uint64_t read64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static void slow_add(slow_vocab *s, const char *text, size_t len, float score, int32_t id, int type)
{
    char name[8];
    for (int b = 0; b < 256; b++) {
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        if (len == 6 && memcmp(name, text, 6) == 0) { s->byte[b] = id; return; }
    }
    if (type == 3) return; /* control tokens are no text */
    s->e[s->n].text = text; s->e[s->n].len = len; s->e[s->n].score = score;
    s->e[s->n++].id = id;
}

static slow_vocab slow_read(ltx_blob image)
{
    slow_vocab s = {NULL, 0, {0}};
    ltx_gguf g;
    ltx_gguf_kv kv, tokens, scores, types;
    uint64_t cursor = 0;
    CHECK_EQ(ltx_gguf_open(image, NULL, &g), LTX_OK);
    memset(&tokens, 0, sizeof tokens);
    scores = types = tokens;
    while (ltx_gguf_next_kv(&g, &cursor, &kv) == LTX_OK) {
        if (kv.key_len == 21 && memcmp(kv.key, "tokenizer.ggml.tokens", 21) == 0) tokens = kv;
        if (kv.key_len == 21 && memcmp(kv.key, "tokenizer.ggml.scores", 21) == 0) scores = kv;
        if (kv.key_len == 25 && memcmp(kv.key, "tokenizer.ggml.token_type", 25) == 0) types = kv;
    }
    s.e = (entry *)test_malloc((size_t)tokens.count * sizeof *s.e);
    const unsigned char *p = tokens.data;
    for (uint64_t i = 0; i < tokens.count; i++) {
        size_t len = (size_t)read64(p);
        uint32_t u = (uint32_t)scores.data[i * 4] | (uint32_t)scores.data[i * 4 + 1] << 8 | (uint32_t)scores.data[i * 4 + 2] << 16 | (uint32_t)scores.data[i * 4 + 3] << 24;
        float score;
        memcpy(&score, &u, 4);
        slow_add(&s, (const char *)p + 8, len, score, (int32_t)i, types.data[i * 4]);
        p += 8 + len;
    }
    qsort(s.e, (size_t)s.n, sizeof *s.e, compare);
    return s;
}

/* The first entry with this text, or NULL. */
static const entry *slow_find(const slow_vocab *s, const char *text, size_t len)
{
    entry want = {text, len, 0, -1};
    int low = 0, high = s->n;
    while (low < high) {
        int mid = (low + high) / 2;
        if (compare(&s->e[mid], &want) < 0) low = mid + 1; else high = mid;
    }
    return low < s->n && s->e[low].len == len && memcmp(s->e[low].text, text, len) == 0 ? &s->e[low] : NULL;
}

/* Bytes of the character at p: as its first byte says if the rest follows, else 1. */
static size_t character(const unsigned char *p, size_t left)
{
    size_t n = *p < 0xc0 || *p >= 0xf8 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    if (n > left) return 1;
    for (size_t i = 1; i < n; i++)
        if (p[i] >> 6 != 2) return 1;
    return n;
}

enum { SLOW_MAX = 1200 };

static int slow_encode(const slow_vocab *s, const char *text, size_t len, int32_t *tokens)
{
    char t[SLOW_MAX];
    size_t start[SLOW_MAX], n = 0, parts = 0;
    int count = 0;
    for (size_t i = 0; i < len + (len > 0); i++) {
        char c = i == 0 ? ' ' : text[i - 1];
        if (c == ' ') { memcpy(t + n, "\xe2\x96\x81", 3); n += 3; } else t[n++] = c;
    }
    for (size_t i = 0; i < n; i += character((const unsigned char *)t + i, n - i)) start[parts++] = i;
    start[parts] = n;
    for (;;) {
        size_t best = parts;
        float score = 0;
        for (size_t i = 0; i + 1 < parts; i++) {
            const entry *e = slow_find(s, t + start[i], start[i + 2] - start[i]);
            if (e && (best == parts || e->score > score)) { best = i; score = e->score; }
        }
        if (best == parts) break;
        memmove(&start[best + 1], &start[best + 2], (parts - best - 1) * sizeof *start);
        parts--;
    }
    for (size_t i = 0; i < parts; i++) {
        const entry *e = slow_find(s, t + start[i], start[i + 1] - start[i]);
        if (e) tokens[count++] = e->id;
        else for (size_t j = start[i]; j < start[i + 1]; j++) tokens[count++] = s->byte[(unsigned char)t[j]];
    }
    return count;
}

static void compare_encoders(const ltx_vocab *v, ltx_blob image, int rounds, uint64_t seed)
{
    slow_vocab s = slow_read(image);
    test_rng r = {seed};
    char text[120];
    int32_t want[SLOW_MAX], n;
    for (int i = 0; i < rounds; i++) {
        size_t len = random_text(&r, i % 4, text, sizeof text);
        int32_t *got = tokens_of(v, text, len, &n);
        int m = slow_encode(&s, text, len, want);
        int same = n == m && memcmp(got, want, (size_t)m * sizeof *want) == 0;
        free(got);
        if (!CHECK(same)) { printf("  text %d of seed %llu: \"%.*s\"\n", i, (unsigned long long)seed, (int)len, text); break; }
    }
    free(s.e);
}

static void against_the_slow_encoder(void)
{
    kit_file f;
    if (kit_load("stories-ls-q8_0.gguf", &f)) compare_encoders(f.vocab, kit_blob(&f.image), 3000, 61);
    kit_unload(&f);
}

/* Vocabularies of random pieces over four letters and the blank, with many equal scores, duplicates and no unknown token in between. */
static void against_the_slow_encoder_random(void)
{
    static const char *const letters[] = {"\xe2\x96\x81", "a", "b", "c", "d"};
    kit_shape sh = {32, 1, 2, 1, 16, 32, 12, LTX_Q4_0, 0, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};
    kit_model *k = kit_make(&sh, 1);
    for (uint64_t seed = 1; seed <= 30; seed++) {
        test_rng r = {seed};
        kit_pieces p;
        kit_file f;
        memset(&f, 0, sizeof f);
        kit_pieces_llama(&p, 3);
        while (p.n < 120) {
            char text[24] = "";
            for (int n = 1 + test_int(&r, 5); n > 0; n--) strcat(text, letters[test_int(&r, 5)]);
            kit_piece(&p, text, (float)-test_int(&r, 6), test_int(&r, 20) ? 1 : 3);
        }
        kit_buffer b = kit_gguf(k, "llama", &p, 32, NULL);
        f.image.ptr = b.p; f.image.size = b.n;
        if (CHECK_EQ(kit_read(&f), LTX_OK)) compare_encoders(f.vocab, kit_blob(&f.image), 100, seed + 100);
        test_free(&f.mem);
        test_free(&f.vocab_mem);
        free(b.p);
    }
    kit_free(k);
}

int main(void)
{
    test_begin("test_gguf");
    TEST(shipped);
    TEST(shared);
    TEST(walking);
    TEST(odd_address); TEST(k_formats); TEST(x_formats);
    TEST(every_truncation);
    TEST(every_byte_flipped);
    TEST(hostile_values);
    TEST(odd_directories);
    TEST(no_tensors);
    TEST(routers_and_probes); TEST(wrong_routers_and_probes);
    TEST(hostile_vocabularies);
    TEST(reference_sentence);
    TEST(round_trips);
    TEST(long_texts);
    TEST(full_output);
    TEST(pieces);
    TEST(byte_tokens);
    TEST(against_the_slow_encoder);
    TEST(against_the_slow_encoder_random);
    return test_end();
}
