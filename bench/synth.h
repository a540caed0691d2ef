/* synth.h - write a GGUF model of a real shape with random weights, for measuring time
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   Include after ltx.h and examples/common.h. What a pass costs depends on shapes and formats, not on what a model has
   learned; so a benchmark can make its models itself and needs no download. The files are complete: ltx.h and llama.cpp
   load them, the tokenizer has a token for every byte, the blank, and dummies `t0`, `t1`, ... for the rest. The text is nonsense.

   Weights are drawn from a bell curve, with a spread that keeps hidden vectors and logits of the size that trained models
   have. To write a gigabyte in seconds, rows are not made one by one: a pool of SYNTH_POOL rows is generated and quantized for
   each format and length, and every matrix takes its rows from there as the generator says. Same shape and format, same
   bytes, on every machine.                                                                                          */

#ifndef LTX_SYNTH_H
#define LTX_SYNTH_H

#include <ctype.h>
#include <math.h>

/* ---- shapes and formats ------------------------------------------------------------------------------------------ */

typedef struct synth_shape {
    const char *name, *title;
    int32_t dim, layers, heads, kv_heads, ffn, vocab, ctx;
    double  theta; /* rope base */
} synth_shape;
static const synth_shape synth_shapes[] = {
    { "260k", "stories260K with a longer context", 64, 5, 8, 4, 172, 512, 8192, 10000 },
    { "135m", "SmolLM2-135M", 576, 30, 9, 3, 1536, 49152, 8192, 100000 },
    { "1b", "Llama-3.2-1B", 2048, 16, 32, 8, 8192, 128256, 8192, 500000 }
};

/* What llama-quantize calls a mix: most matrices in one format, those that hurt most when rounded in a finer one. */
typedef struct synth_mix { const char *name, *most, *fine; } synth_mix;
static const synth_mix synth_mixes[] = { { "q4_k_m", "q4_k", "q6_k" }, { "q5_k_m", "q5_k", "q6_k" } };

/* general.file_type of a GGUF, by name of the format; what is not here goes without that key. */
static const struct synth_file_type { const char *name; uint32_t number; } synth_file_types[] = {
    { "f32", 0 }, { "f16", 1 }, { "q4_0", 2 }, { "q8_0", 7 }, { "q4_k", 14 }, { "q4_k_m", 15 }, { "q5_k", 16 }, { "q5_k_m", 17 },
    { "q6_k", 18 }, { "bf16", 32 } };

typedef struct synth_format { int32_t most, fine; } synth_format; /* ltx_type; equal if it is no mix */

#define SYNTH_COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
enum { SYNTH_POOL = 256, SYNTH_ALIGN = 32, SYNTH_TYPES = 65536 /* numbers that a GGUF may use */ };

static inline int synth_same(const char *a, const char *b) /* case does not count */
{
    while (*a != 0 && tolower((unsigned char)*a) == tolower((unsigned char)*b)) { a++; b++; }
    return *a == *b;
}
/* The number of a format, -1 if this build of ltx.h does not have it. */
static inline int32_t synth_type(const char *name)
{
    int32_t type;
    for (type = 0; type < SYNTH_TYPES; type++) if (strcmp(ltx_type_name(type), "?") != 0 && synth_same(ltx_type_name(type), name)) return type;
    return -1;
}
static inline const synth_shape *synth_find_shape(const char *name)
{
    int i;
    for (i = 0; i < SYNTH_COUNT(synth_shapes); i++) if (synth_same(synth_shapes[i].name, name)) return &synth_shapes[i];
    return NULL;
}
static inline int synth_find_format(const char *name, synth_format *out) /* 0 = not in this build */
{
    const synth_mix *mix = NULL;
    int i;
    for (i = 0; i < SYNTH_COUNT(synth_mixes); i++) if (synth_same(synth_mixes[i].name, name)) mix = &synth_mixes[i];
    out->most = synth_type(mix != NULL ? mix->most : name);
    out->fine = mix != NULL ? synth_type(mix->fine) : out->most;
    return out->most >= 0 && out->fine >= 0;
}
/* The names of all formats of this build, in lower case, separated by commas. */
static inline void synth_list_formats(char *out, size_t size)
{
    synth_format f;
    size_t n = 0;
    int32_t i;
    for (i = 0; i < SYNTH_TYPES + SYNTH_COUNT(synth_mixes) && n + 1 < size; i++) {
        const char *name = i < SYNTH_TYPES ? ltx_type_name(i) : synth_mixes[i - SYNTH_TYPES].name;
        if (strcmp(name, "?") == 0 || !synth_find_format(name, &f)) continue;
        if (n > 0) out[n++] = ',';
        while (*name != 0 && n + 1 < size) out[n++] = (char)tolower((unsigned char)*name++);
    }
    out[n] = 0;
}

/* ---- random rows ------------------------------------------------------------------------------------------------- */

/* Ready rows of one format, length and spread; of formats in which sixteen rows lie together, ready groups. */
typedef struct synth_pool {
    struct synth_pool *next;
    int32_t type, cols;
    double  spread;
    int32_t group;  /* rows of a unit: 1 or 16 */
    size_t  bytes;  /* of a unit               */
    unsigned char *units;
} synth_pool;

static inline uint64_t synth_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
/* The sum of four uniform numbers looks enough like a bell curve: mean 0, standard deviation 1, at most 3.46. */
static inline float synth_normal(uint64_t *state)
{
    uint64_t r = synth_random(state);
    int32_t sum = (int32_t)(r & 0xffff) + (int32_t)(r >> 16 & 0xffff) + (int32_t)(r >> 32 & 0xffff) + (int32_t)(r >> 48);
    return (float)(sum - 131070) * (float)(1.7320508075688772 / 65536);
}
static inline synth_pool *synth_pool_of(synth_pool **pools, int32_t type, int32_t cols, double spread, uint64_t *state)
{
    synth_pool *p;
    float *x;
    int32_t unit, i;
    for (p = *pools; p != NULL; p = p->next) if (p->type == type && p->cols == cols && p->spread == spread) return p;
    p = (synth_pool *)alloc(sizeof *p);
    p->type = type; p->cols = cols; p->spread = spread;
    p->group = ltx_mat_bytes(type, 1, cols) == ltx_row_bytes(type, cols) ? 1 : 16;
    p->bytes = ltx_mat_bytes(type, p->group, cols);
    p->units = (unsigned char *)alloc(SYNTH_POOL * p->bytes);
    x = (float *)alloc((size_t)(p->group * cols) * sizeof *x);
    for (unit = 0; unit < SYNTH_POOL; unit++) {
        for (i = 0; i < p->group * cols; i++) x[i] = synth_normal(state) * (float)spread;
        check(ltx_mat_encode(type, x, p->group, cols, p->units + (size_t)unit * p->bytes), ltx_type_name(type));
    }
    free(x);
    p->next = *pools;
    return *pools = p;
}
static inline void synth_free_pools(synth_pool *p)
{
    while (p != NULL) {
        synth_pool *next = p->next;
        free(p->units);
        free(p);
        p = next;
    }
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

enum { SYNTH_U32 = 4, SYNTH_I32 = 5, SYNTH_F32 = 6, SYNTH_BOOL = 7, SYNTH_STRING = 8, SYNTH_ARRAY = 9 }; /* value types of GGUF */

typedef struct synth_file {
    FILE *f;
    const char *path;
    uint64_t at, n_keys;
    uint64_t state; /* of the generator */
    synth_pool *pools;
} synth_file;

static inline void synth_put(synth_file *s, const void *data, size_t n)
{
    if (fwrite(data, 1, n, s->f) != n) die(EXIT_FAILED, "cannot write %s: %s", s->path, strerror(errno));
    s->at += n;
}
static inline void synth_put_int(synth_file *s, uint64_t v, size_t bytes) /* little-endian whatever the host is */
{
    unsigned char b[8];
    size_t i;
    for (i = 0; i < 8; i++) b[i] = (unsigned char)(v >> 8 * i);
    synth_put(s, b, bytes);
}
static inline void synth_put_float(synth_file *s, double v)
{
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    synth_put_int(s, bits, 4);
}
static inline void synth_put_text(synth_file *s, const char *text)
{
    synth_put_int(s, strlen(text), 8);
    synth_put(s, text, strlen(text));
}
static inline void synth_pad(synth_file *s)
{
    static const char zeros[SYNTH_ALIGN];
    synth_put(s, zeros, (size_t)(SYNTH_ALIGN - s->at % SYNTH_ALIGN) % SYNTH_ALIGN);
}

static inline void synth_key(synth_file *s, const char *key, uint32_t type)
{
    synth_put_text(s, key);
    synth_put_int(s, type, 4);
    s->n_keys++;
}
static inline void synth_key_u32(synth_file *s, const char *key, uint32_t v) { synth_key(s, key, SYNTH_U32); synth_put_int(s, v, 4); }
static inline void synth_key_f32(synth_file *s, const char *key, double v) { synth_key(s, key, SYNTH_F32); synth_put_float(s, v); }
static inline void synth_key_bool(synth_file *s, const char *key, int v) { synth_key(s, key, SYNTH_BOOL); synth_put_int(s, v != 0, 1); }
static inline void synth_key_text(synth_file *s, const char *key, const char *v) { synth_key(s, key, SYNTH_STRING); synth_put_text(s, v); }
static inline void synth_key_array(synth_file *s, const char *key, uint32_t item_type, int32_t count)
{
    synth_key(s, key, SYNTH_ARRAY);
    synth_put_int(s, item_type, 4);
    synth_put_int(s, (uint64_t)count, 8);
}

static inline void synth_put_model_keys(synth_file *s, const synth_shape *m, const char *format)
{
    char name[64];
    int i;
    snprintf(name, sizeof name, "synthetic %s %s", m->name, format);
    synth_key_text(s, "general.architecture", "llama");
    synth_key_text(s, "general.name", name);
    synth_key_u32(s, "general.alignment", SYNTH_ALIGN);
    synth_key_u32(s, "general.quantization_version", 2);
    for (i = 0; i < SYNTH_COUNT(synth_file_types); i++)
        if (synth_same(synth_file_types[i].name, format)) synth_key_u32(s, "general.file_type", synth_file_types[i].number);
    synth_key_u32(s, "llama.vocab_size", (uint32_t)m->vocab);
    synth_key_u32(s, "llama.context_length", (uint32_t)m->ctx);
    synth_key_u32(s, "llama.embedding_length", (uint32_t)m->dim);
    synth_key_u32(s, "llama.block_count", (uint32_t)m->layers);
    synth_key_u32(s, "llama.feed_forward_length", (uint32_t)m->ffn);
    synth_key_u32(s, "llama.attention.head_count", (uint32_t)m->heads);
    synth_key_u32(s, "llama.attention.head_count_kv", (uint32_t)m->kv_heads);
    synth_key_f32(s, "llama.attention.layer_norm_rms_epsilon", 1e-5);
    synth_key_u32(s, "llama.rope.dimension_count", (uint32_t)(m->dim / m->heads));
    synth_key_f32(s, "llama.rope.freq_base", m->theta);
}

/* Tokens 0 to 2 are special, then one for each byte, the blank, dummies. Types as SentencePiece numbers them. */
enum { SYNTH_BYTE0 = 3, SYNTH_BLANK = SYNTH_BYTE0 + 256, SYNTH_NORMAL = 1, SYNTH_UNKNOWN = 2, SYNTH_CONTROL = 3, SYNTH_BYTE = 6 };
static inline void synth_token_text(int32_t t, char *out, size_t size)
{
    static const char *const special[SYNTH_BYTE0] = { "<unk>", "<s>", "</s>" };
    if (t < SYNTH_BYTE0) snprintf(out, size, "%s", special[t]);
    else if (t < SYNTH_BLANK) snprintf(out, size, "<0x%02X>", (unsigned)(t - SYNTH_BYTE0));
    else if (t == SYNTH_BLANK) snprintf(out, size, "\xe2\x96\x81"); /* U+2581 stands for the blank in SentencePiece */
    else snprintf(out, size, "t%d", (int)(t - SYNTH_BLANK - 1));
}
static inline void synth_put_tokenizer(synth_file *s, int32_t vocab)
{
    char text[32];
    int32_t t;
    synth_key_text(s, "tokenizer.ggml.model", "llama");
    synth_key_array(s, "tokenizer.ggml.tokens", SYNTH_STRING, vocab);
    for (t = 0; t < vocab; t++) { synth_token_text(t, text, sizeof text); synth_put_text(s, text); }
    synth_key_array(s, "tokenizer.ggml.scores", SYNTH_F32, vocab);
    for (t = 0; t < vocab; t++) synth_put_float(s, t < SYNTH_BLANK ? 0 : -(double)(t - SYNTH_BLANK)); /* rarer tokens, lower scores */
    synth_key_array(s, "tokenizer.ggml.token_type", SYNTH_I32, vocab);
    for (t = 0; t < vocab; t++) synth_put_int(s, t == 0 ? SYNTH_UNKNOWN : t < SYNTH_BYTE0 ? SYNTH_CONTROL : t < SYNTH_BLANK ? SYNTH_BYTE : SYNTH_NORMAL, 4);
    synth_key_u32(s, "tokenizer.ggml.unknown_token_id", 0);
    synth_key_u32(s, "tokenizer.ggml.bos_token_id", 1);
    synth_key_u32(s, "tokenizer.ggml.eos_token_id", 2);
    synth_key_bool(s, "tokenizer.ggml.add_bos_token", 1);
    synth_key_bool(s, "tokenizer.ggml.add_space_prefix", 1);
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

enum { SYNTH_PER_LAYER = 9, SYNTH_MAX_TENSORS = 2 + SYNTH_PER_LAYER * LTX_MAX_LAYERS };
typedef struct synth_tensor {
    char    name[40];
    int32_t type, rows, cols;
    double  spread; /* standard deviation; 0 = a vector of ones */
} synth_tensor;
typedef struct synth_tensors { synth_tensor *list; int n; } synth_tensors;

static inline void synth_add(synth_tensors *t, int32_t layer, const char *name, int32_t type, int32_t rows, int32_t cols, double spread)
{
    synth_tensor *x = &t->list[t->n++];
    if (layer < 0) snprintf(x->name, sizeof x->name, "%s.weight", name);
    else snprintf(x->name, sizeof x->name, "blk.%d.%s.weight", (int)layer, name);
    if (ltx_row_bytes(type, cols) == 0) type = LTX_Q8_0; /* rows are no multiple of the block: a smaller one, as llama.cpp does */
    if (ltx_row_bytes(type, cols) == 0) type = LTX_F16;
    x->type = spread > 0 ? type : LTX_F32;
    x->rows = rows; x->cols = cols; x->spread = spread;
}
/* Unit vectors in, unit vectors out; what branches add to the hidden vector stays small, as many branches do. No spread goes
   below 0.01, which is small for a trained model: the scales of Q8_0 and Q4_0, halves, stay normal numbers that way. */
static inline double synth_spread(int32_t cols, int32_t branches) { return fmax(0.01, 1 / sqrt((double)cols * branches)); }

/* Where a mix has its finer format: the first and the last eighth of the layers, and every third between (llama.cpp, use_more_bits). */
static inline int synth_more_bits(int32_t layer, int32_t n) { return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2; }

static inline void synth_list_tensors(const synth_shape *m, synth_format format, synth_tensors *t)
{
    int32_t l, kv = m->dim / m->heads * m->kv_heads, branches = 2 * m->layers;
    double from_dim = synth_spread(m->dim, 1);
    synth_add(t, -1, "token_embd", format.fine, m->vocab, m->dim, from_dim);
    for (l = 0; l < m->layers; l++) {
        int32_t most = format.most, fine = synth_more_bits(l, m->layers) ? format.fine : most;
        synth_add(t, l, "attn_norm", most, 1, m->dim, 0);
        synth_add(t, l, "attn_q", most, m->dim, m->dim, from_dim);
        synth_add(t, l, "attn_k", most, kv, m->dim, from_dim);
        synth_add(t, l, "attn_v", fine, kv, m->dim, from_dim);
        synth_add(t, l, "attn_output", most, m->dim, m->dim, synth_spread(m->dim, branches));
        synth_add(t, l, "ffn_norm", most, 1, m->dim, 0);
        synth_add(t, l, "ffn_gate", most, m->ffn, m->dim, from_dim);
        synth_add(t, l, "ffn_up", most, m->ffn, m->dim, from_dim);
        synth_add(t, l, "ffn_down", fine, m->dim, m->ffn, synth_spread(m->ffn, branches));
    }
    synth_add(t, -1, "output_norm", format.most, 1, m->dim, 0); /* no output.weight: the head is tied to the embedding */
}
static inline void synth_put_directory(synth_file *s, const synth_tensors *t)
{
    uint64_t offset = 0;
    int i;
    for (i = 0; i < t->n; i++) {
        const synth_tensor *x = &t->list[i];
        synth_put_text(s, x->name);
        synth_put_int(s, x->spread > 0 ? 2 : 1, 4);
        synth_put_int(s, (uint64_t)x->cols, 8);
        if (x->spread > 0) synth_put_int(s, (uint64_t)x->rows, 8);
        synth_put_int(s, (uint64_t)x->type, 4);
        synth_put_int(s, offset, 8);
        offset += (ltx_mat_bytes(x->type, x->rows, x->cols) + SYNTH_ALIGN - 1) / SYNTH_ALIGN * SYNTH_ALIGN;
    }
    synth_pad(s);
}
static inline void synth_put_tensor(synth_file *s, const synth_tensor *x)
{
    int32_t i;
    if (x->spread > 0) {
        const synth_pool *p = synth_pool_of(&s->pools, x->type, x->cols, x->spread, &s->state);
        for (i = 0; i < x->rows; i += p->group) synth_put(s, p->units + (size_t)(synth_random(&s->state) % SYNTH_POOL) * p->bytes, p->bytes);
    } else {
        for (i = 0; i < x->cols; i++) synth_put_float(s, 1);
    }
    synth_pad(s);
}

/* Write a model. It gets its name when it is complete, so a file that is there is whole. Returns its bytes. */
static inline uint64_t synth_write(const synth_shape *shape, const char *format_name, const char *path)
{
    synth_file s = { NULL, NULL, 0, 0, 1, NULL };
    synth_tensors t = { NULL, 0 };
    synth_format format;
    char part[4096];
    int i;
    if (!synth_find_format(format_name, &format)) die(EXIT_USAGE, "this build of ltx.h has no format %s", format_name);
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part) die(EXIT_USAGE, "%s: name too long", path);
    s.path = part;
    s.f = fopen(part, "wb");
    if (s.f == NULL) die(EXIT_FAILED, "cannot write %s: %s", part, strerror(errno));
    t.list = (synth_tensor *)alloc(SYNTH_MAX_TENSORS * sizeof *t.list);
    synth_list_tensors(shape, format, &t);
    synth_put(&s, "GGUF", 4);
    synth_put_int(&s, 3, 4);
    synth_put_int(&s, (uint64_t)t.n, 8);
    synth_put_int(&s, 0, 8); /* number of keys: known below */
    synth_put_model_keys(&s, shape, format_name);
    synth_put_tokenizer(&s, shape->vocab);
    synth_put_directory(&s, &t);
    for (i = 0; i < t.n; i++) {
        synth_put_tensor(&s, &t.list[i]);
        if (isatty(2)) fprintf(stderr, "\r%s: tensor %d / %d ", path, i + 1, t.n);
    }
    fprintf(stderr, "%s%s: %.1f MB\n", isatty(2) ? "\r" : "", path, (double)s.at / 1e6);
    if (fseek(s.f, 16, SEEK_SET) != 0) die(EXIT_FAILED, "cannot write %s: %s", part, strerror(errno));
    synth_put_int(&s, s.n_keys, 8);
    if (fclose(s.f) != 0 || rename(part, path) != 0) die(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
    synth_free_pools(s.pools);
    free(t.list);
    return s.at - 8; /* the number of keys was written twice */
}

#endif /* LTX_SYNTH_H */
