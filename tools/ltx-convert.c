/* ltx-convert - turn a checkpoint into a GGUF file, or into C arrays, for ltx.h
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   cc -O2 -o ltx-convert ltx-convert.c -lm            ltx-convert --help

   Each reader (safetensors, llama2.c, GGUF) fills the same two lists: tensor sources, and metadata entries in the form
   of ltx_gguf_kv. Everything after that - tokenizer, exits, number formats, the writers - sees only those lists.
   All numbers in files are little-endian and are put together from bytes, so the host's byte order does not matter.

   >>tool       memory, failure, output                >>roles      which tensors a model has, their names and shapes
   >>config     sizes: metadata, config.json, --set    >>json       a strict reader
   >>inputs     safetensors, llama2.c, GGUF            >>metadata   GGUF keys
   >>tokenizer  SentencePiece, llama2.c, bytes         >>types      which tensor gets which format
   >>writer     GGUF   >>c      C arrays   >>info   summary   >>main   options  */

#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "gguf_write.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#define ON_TERMINAL() isatty(2)
#else
#define ON_TERMINAL() 0
#endif

#if defined(__GNUC__)
#define NORETURN __attribute__((noreturn))
#define PRINTF(at) __attribute__((format(printf, at, (at) + 1)))
#else
#define NORETURN
#define PRINTF(at)
#endif

#define COUNT(a) (sizeof(a) / sizeof *(a))
typedef unsigned long long ull;

/* ==== >>tool =========================================================================================================
   Every block of memory hangs on one list, so that a failure anywhere can give everything back and leave. */

typedef union block {
    struct { union block *next, *prev; } link;
    long double align;
} block;

static struct {
    block blocks; /* head of a ring                                              */
    FILE *out;    /* open output, and its name until it is complete              */
    char *part;
    int   quiet;
} tool;

static NORETURN void leave(int code)
{
    block *b, *next;
    if (tool.out) fclose(tool.out);
    if (tool.part) remove(tool.part);
    for (b = tool.blocks.link.next; b != &tool.blocks; b = next) {
        next = b->link.next;
        free(b);
    }
    exit(code);
}

static void say(const char *before, const char *format, va_list args, const char *after)
{
    fputs(before, stderr);
    vfprintf(stderr, format, args);
    fputs(after, stderr);
}

static NORETURN PRINTF(1) void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("ltx-convert: ", format, args, "\n");
    va_end(args);
    leave(1);
}

static NORETURN PRINTF(1) void misuse(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("ltx-convert: ", format, args, " (ltx-convert --help explains)\n");
    va_end(args);
    leave(2);
}

static PRINTF(1) void note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!tool.quiet) say("note: ", format, args, "\n");
    va_end(args);
}

/* New block (old NULL) or a block of another size, never NULL. */
static void *resize(void *old, size_t size)
{
    block *b = old ? (block *)old - 1 : NULL;
    if (b) { /* off the ring while realloc may move it */
        b->link.prev->link.next = b->link.next;
        b->link.next->link.prev = b->link.prev;
    }
    if (size < SIZE_MAX - sizeof *b) {
        block *n = realloc(b, sizeof *b + size);
        if (n) {
            n->link.next = tool.blocks.link.next;
            n->link.prev = &tool.blocks;
            n->link.next->link.prev = n;
            tool.blocks.link.next = n;
            return n + 1;
        }
    }
    free(b);
    fail("out of memory: %llu bytes", (ull)size);
}

static void release(void *p)
{
    block *b = (block *)p - 1;
    b->link.prev->link.next = b->link.next;
    b->link.next->link.prev = b->link.prev;
    free(b);
}

static void *zeros(size_t count, size_t item)
{
    if (item && count > SIZE_MAX / 2 / item) fail("out of memory: %llu items", (ull)count);
    return memset(resize(NULL, count * item), 0, count * item);
}

static PRINTF(1) char *text(const char *format, ...)
{
    char buffer[1024], *copy;
    va_list args;
    int n;
    va_start(args, format);
    n = vsnprintf(buffer, sizeof buffer, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof buffer) fail("name too long: %.60s...", buffer);
    copy = resize(NULL, (size_t)n + 1);
    return memcpy(copy, buffer, (size_t)n + 1);
}

typedef struct bytes { uint8_t *p; size_t n, cap; } bytes; /* grows at the end */

static void append(bytes *b, const void *data, size_t n)
{
    if (b->cap - b->n < n) {
        size_t cap = b->cap * 2 + 256;
        if (cap - b->n < n) cap = b->n + n;
        b->p = resize(b->p, cap);
        b->cap = cap;
    }
    if (n) memcpy(b->p + b->n, data, n);
    b->n += n;
}

static void append_int(bytes *b, uint64_t v, int size)
{
    uint8_t raw[8];
    int i;
    for (i = 0; i < size; i++) raw[i] = (uint8_t)(v >> 8 * i);
    append(b, raw, (size_t)size);
}

static uint64_t get_int(const uint8_t *p, int size)
{
    uint64_t v = 0;
    while (size--) v = v << 8 | p[size];
    return v;
}

static float bits_float(uint32_t v) { float f; memcpy(&f, &v, 4); return f; }
static uint32_t float_bits(float f) { uint32_t v; memcpy(&v, &f, 4); return v; }

/* The whole file, in one byte more, so that an empty file has a pointer. exit() closes what fail() leaves open. */
static ltx_blob read_file(const char *name)
{
    ltx_blob b;
    FILE *f = fopen(name, "rb");
    long size = -1;
    void *p;
    if (!f) fail("cannot open %s: %s", name, strerror(errno));
    if (fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (size < 0 || size == LONG_MAX || fseek(f, 0, SEEK_SET) != 0) fail("cannot read %s: no ordinary file", name);
    b.ptr = p = resize(NULL, (size_t)size + 1);
    b.size = fread(p, 1, (size_t)size, f);
    if (b.size != (size_t)size) fail("cannot read %s: %llu of %ld bytes", name, (ull)b.size, size);
    fclose(f);
    return b;
}

static const char *base_name(const char *path)
{
    const char *p, *base = path;
    for (p = path; *p; p++)
        if (*p == '/' || *p == '\\') base = p + 1;
    return base;
}

/* ==== >>roles ========================================================================================================
   The tensors of a Llama, in the order of a llama2.c checkpoint. Shapes are [rows][cols], rows SIZE_1 = a vector. */

enum size_name { SIZE_1, SIZE_DIM, SIZE_Q, SIZE_K, SIZE_FFN, SIZE_VOCAB, SIZE_LAYERS, SIZE_COUNT };
enum naming { AS_GGUF, AS_OURS, AS_HF };
enum class_name { CLASS_EMBED, CLASS_HEAD, CLASS_ATTN, CLASS_FFN, CLASS_OTHER, CLASS_COUNT };
enum { NEED = 1, LAYER = 2, TURNS = 4, FLOATS = 8 }; /* must be there; one per layer; outputs are rotated by rope; always F32 */

typedef struct role {
    const char *name[3]; /* by enum naming; of a layer: after the prefix and the number */
    uint8_t rows, cols, in_class, flags;
} role;

static const char *const layer_prefix[3] = { "blk.", "model.blocks.", "model.layers." };

static const role roles[] = {
    { { "token_embd.weight", "model.emb.weight", "model.embed_tokens.weight" },
      SIZE_VOCAB, SIZE_DIM, CLASS_EMBED, NEED },
    { { "attn_norm.weight", "n1.w", "input_layernorm.weight" }, SIZE_1, SIZE_DIM, CLASS_OTHER, NEED | LAYER },
    { { "attn_q.weight", "wq.weight", "self_attn.q_proj.weight" }, SIZE_Q, SIZE_DIM, CLASS_ATTN, NEED | LAYER | TURNS },
    { { "attn_k.weight", "wk.weight", "self_attn.k_proj.weight" }, SIZE_K, SIZE_DIM, CLASS_ATTN, NEED | LAYER | TURNS },
    { { "attn_v.weight", "wv.weight", "self_attn.v_proj.weight" }, SIZE_K, SIZE_DIM, CLASS_ATTN, NEED | LAYER },
    { { "attn_output.weight", "wo.weight", "self_attn.o_proj.weight" }, SIZE_DIM, SIZE_Q, CLASS_ATTN, NEED | LAYER },
    { { "ffn_norm.weight", "n2.w", "post_attention_layernorm.weight" }, SIZE_1, SIZE_DIM, CLASS_OTHER, NEED | LAYER },
    { { "ffn_gate.weight", "w1.weight", "mlp.gate_proj.weight" }, SIZE_FFN, SIZE_DIM, CLASS_FFN, NEED | LAYER },
    { { "ffn_down.weight", "w2.weight", "mlp.down_proj.weight" }, SIZE_DIM, SIZE_FFN, CLASS_FFN, NEED | LAYER },
    { { "ffn_up.weight", "w3.weight", "mlp.up_proj.weight" }, SIZE_FFN, SIZE_DIM, CLASS_FFN, NEED | LAYER },
    { { "attn_q.bias", "wq.bias", "self_attn.q_proj.bias" }, SIZE_1, SIZE_Q, CLASS_OTHER, LAYER | TURNS },
    { { "attn_k.bias", "wk.bias", "self_attn.k_proj.bias" }, SIZE_1, SIZE_K, CLASS_OTHER, LAYER | TURNS },
    { { "attn_v.bias", "wv.bias", "self_attn.v_proj.bias" }, SIZE_1, SIZE_K, CLASS_OTHER, LAYER },
    { { "attn_output.bias", "wo.bias", "self_attn.o_proj.bias" }, SIZE_1, SIZE_DIM, CLASS_OTHER, LAYER },
    { { "ffn_gate.bias", "w1.bias", "mlp.gate_proj.bias" }, SIZE_1, SIZE_FFN, CLASS_OTHER, LAYER },
    { { "ffn_down.bias", "w2.bias", "mlp.down_proj.bias" }, SIZE_1, SIZE_DIM, CLASS_OTHER, LAYER },
    { { "ffn_up.bias", "w3.bias", "mlp.up_proj.bias" }, SIZE_1, SIZE_FFN, CLASS_OTHER, LAYER },
    { { "output_norm.weight", "model.norm.w", "model.norm.weight" }, SIZE_1, SIZE_DIM, CLASS_OTHER, NEED },
    { { "ltx_probes.weight", "model.probes.weight", "model.probes.weight" }, SIZE_LAYERS, SIZE_DIM, CLASS_OTHER, FLOATS },
    { { "ltx_probes.bias", "model.probes.bias", "model.probes.bias" }, SIZE_1, SIZE_LAYERS, CLASS_OTHER, FLOATS },
    { { "output.weight", "model.head.weight", "lm_head.weight" }, SIZE_VOCAB, SIZE_DIM, CLASS_HEAD, 0 },
};
enum { ROLE_EMBED = 0, ROLE_ATTN_NORM = 1, ROLE_K = 3, ROLE_GATE = 7, ROLE_HEAD = COUNT(roles) - 1, ROLE_PROBES = ROLE_HEAD - 2 };

static const char *role_name(const role *r, enum naming naming, int layer)
{
    return r->flags & LAYER ? text("%s%d.%s", layer_prefix[naming], layer, r->name[naming]) : r->name[naming];
}

/* A tensor as it lies in the input. dims[0] is contiguous, as in GGUF. type -1 = of no use to us. */
typedef struct raw {
    const char *name;
    int32_t     type;
    uint32_t    n_dims;
    uint64_t    dims[4];
    const uint8_t *data;
    int         used;
} raw;

/* A tensor of the output: where its rows come from and how they are stored. */
typedef struct source {
    raw      in;   /* under the output's name                                                    */
    uint64_t half; /* half the head's width if rows must go from pairs (i, i + half) to (2i, 2i+1), else 0 */
    int32_t  type;
} source;

static const char *shape(uint32_t n_dims, const uint64_t *dims)
{
    char *s = text("%llu", (ull)dims[0]);
    uint32_t i;
    for (i = 1; i < n_dims; i++) s = text("%llux%s", (ull)dims[i], s);
    return s;
}

static uint64_t count_rows(const raw *t)
{
    uint64_t n = 1;
    uint32_t i;
    for (i = 1; i < t->n_dims; i++) n *= t->dims[i];
    return n;
}

/* ==== >>config =======================================================================================================
   Every size has a name in our metadata (and in --set) and one in config.json. Better sources overwrite weaker ones. */

enum key { K_DIM, K_LAYERS, K_HEADS, K_KV_HEADS, K_HEAD_DIM, K_FFN, K_VOCAB, K_SEQ, K_THETA, K_EPS, K_PAIRS, K_TIED,
           K_BOS, K_EOS, K_COUNT };
enum rank { UNSET, FROM_SHAPES, FROM_FILE, FROM_CONFIG, FROM_SET };

static const struct { const char *ours, *hf; double low, high; int whole; } keys[K_COUNT] = {
    { "dim", "hidden_size", 1, LTX_MAX_DIM, 1 },
    { "n_layers", "num_hidden_layers", 1, LTX_MAX_LAYERS, 1 },
    { "n_heads", "num_attention_heads", 1, LTX_MAX_DIM, 1 },
    { "n_kv_heads", "num_key_value_heads", 1, LTX_MAX_DIM, 1 },
    { "head_dim", "head_dim", 2, LTX_MAX_DIM, 1 },
    { "ffn", "intermediate_size", 1, LTX_MAX_DIM, 1 },
    { "vocab", "vocab_size", 1, LTX_MAX_DIM, 1 },
    { "seq", "max_position_embeddings", 1, LTX_MAX_TOKENS, 1 },
    { "rope_theta", "rope_theta", 1e-3, 1e12, 0 },
    { "norm_eps", "rms_norm_eps", 1e-12, 1, 0 },
    { "rope_pairs", "", 0, 1, 1 }, /* interleaved, halves */
    { "tied", "tie_word_embeddings", 0, 1, 1 },
    { "bos", "bos_token_id", 0, LTX_MAX_DIM, 1 },
    { "eos", "eos_token_id", 0, LTX_MAX_DIM, 1 },
};

/* number formats beside ltx_type: nothing asked; as the input has it; Q4_K, more bits where they count */
enum { NOT_SET = -1, KEEP = -2, Q4_K_M = -3 };

typedef struct job {
    const char *input, *output, *tokenizer, *config, *exits, *name, *array, *info, *shortlist, *shortlist_size;
    int32_t  type, class_type[CLASS_COUNT], layer_type[LTX_MAX_LAYERS];
    double   value[K_COUNT];
    enum rank rank[K_COUNT];
    source  *sources;
    size_t   n_sources, cap_sources;
    ltx_gguf_kv *kv;
    size_t   n_kv, cap_kv;
    uint64_t alignment, weights, stored, done; /* weights and their bytes in all, weights written */
    int      from_gguf, shown;                 /* tenths of the progress shown                    */
} job;

static void set_number(job *j, enum key k, double v, enum rank rank, const char *where)
{
    if (!(v >= keys[k].low && v <= keys[k].high) || (keys[k].whole && v != floor(v)))
        (rank == FROM_SET ? misuse : fail)("%s: %s is %.9g, expected %s%.9g to %.9g", where, keys[k].ours, v,
                                           keys[k].whole ? "a whole number, " : "", keys[k].low, keys[k].high);
    if (rank < j->rank[k]) return;
    j->value[k] = v;
    j->rank[k] = rank;
}

static void set_text(job *j, enum key k, const char *s, enum rank rank, const char *where)
{
    static const struct { const char *word; double v; } words[] = {
        { "false", 0 }, { "true", 1 }, { "interleaved", 0 }, { "halves", 1 } };
    size_t i, first = k == K_PAIRS ? 2 : 0;
    char *end;
    double v = strtod(s, &end);
    for (i = first; i < first + 2; i++)
        if (strcmp(s, words[i].word) == 0) v = words[i].v, end = strchr(s, 0);
    if (end == s || *end)
        (rank == FROM_SET ? misuse : fail)("%s: %s is \"%s\", expected a number%s", where, keys[k].ours, s,
                                           k == K_PAIRS ? ", interleaved or halves" : "");
    set_number(j, k, v, rank, where);
}

static int find_key(const char *name, int hf)
{
    int k;
    for (k = 0; k < K_COUNT; k++)
        if (strcmp(name, hf ? keys[k].hf : keys[k].ours) == 0) return k;
    return -1;
}

static uint64_t value(const job *j, enum key k) { return (uint64_t)j->value[k]; }

static void need_key(const job *j, enum key k)
{
    if (!j->rank[k])
        fail("%s: %s is not known: give --config config.json or --set %s=N", j->input, keys[k].ours, keys[k].ours);
}

static void divides(const job *j, enum key part, enum key whole)
{
    if (value(j, whole) % value(j, part))
        fail("%s: %s %llu is no multiple of %s %llu", j->input, keys[whole].ours, (ull)value(j, whole),
             keys[part].ours, (ull)value(j, part));
}

/* Fill in what follows from the rest, check, and compute the sizes of enum size_name. */
static void settle_config(job *j, uint64_t size[SIZE_COUNT])
{
    static const enum key needed[] = { K_DIM, K_LAYERS, K_HEADS, K_FFN, K_VOCAB };
    size_t i;
    for (i = 0; i < COUNT(needed); i++) need_key(j, needed[i]);
    if (!j->rank[K_KV_HEADS]) set_number(j, K_KV_HEADS, j->value[K_HEADS], FROM_SHAPES, j->input);
    divides(j, K_KV_HEADS, K_HEADS);
    if (!j->rank[K_HEAD_DIM]) {
        divides(j, K_HEADS, K_DIM);
        set_number(j, K_HEAD_DIM, j->value[K_DIM] / j->value[K_HEADS], FROM_SHAPES, j->input);
    }
    if (value(j, K_HEAD_DIM) % 2)
        fail("%s: head_dim is %llu, expected an even number", j->input, (ull)value(j, K_HEAD_DIM));
    if (!j->rank[K_SEQ]) set_number(j, K_SEQ, 512, FROM_SHAPES, j->input);
    if (!j->rank[K_THETA]) set_number(j, K_THETA, 10000, FROM_SHAPES, j->input);
    if (!j->rank[K_EPS]) set_number(j, K_EPS, 1e-5, FROM_SHAPES, j->input);
    size[SIZE_1] = 1;
    size[SIZE_DIM] = value(j, K_DIM);
    size[SIZE_Q] = value(j, K_HEADS) * value(j, K_HEAD_DIM);
    size[SIZE_K] = value(j, K_KV_HEADS) * value(j, K_HEAD_DIM);
    size[SIZE_FFN] = value(j, K_FFN);
    size[SIZE_VOCAB] = value(j, K_VOCAB);
    size[SIZE_LAYERS] = value(j, K_LAYERS);
    if (size[SIZE_Q] > LTX_MAX_DIM)
        fail("%s: n_heads * head_dim is %llu, at most %d is possible", j->input, (ull)size[SIZE_Q], LTX_MAX_DIM);
}

/* ==== >>json =========================================================================================================
   Strict: RFC 8259 without extensions, nesting up to 32. Text goes into buffers of JSON_TEXT bytes; what is skipped may
   be longer. */

enum { JSON_TEXT = 256, JSON_DEPTH = 32 };
typedef struct json { const char *p, *end, *start, *file; int depth; } json;

static NORETURN void json_fail(const json *s, const char *what)
{
    fail("%s: JSON: %s at byte %llu", s->file, what, (ull)(s->p - s->start));
}

static int json_peek(json *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) s->p++;
    return s->p < s->end ? (unsigned char)*s->p : -1;
}

static void json_take(json *s, char c)
{
    char what[] = "expected ' '";
    what[10] = c;
    if (json_peek(s) != c) json_fail(s, what);
    s->p++;
}

/* Before each member or item: 1, or 0 after taking the closing bracket. *n counts and starts at 0. */
static int json_more(json *s, char close, int *n)
{
    if (json_peek(s) == close) {
        s->p++;
        return 0;
    }
    if (*n) json_take(s, ',');
    if (json_peek(s) == close) json_fail(s, "comma before a closing bracket");
    *n = 1;
    return 1;
}

static uint32_t json_hex(json *s)
{
    uint32_t v = 0;
    int i;
    for (i = 0; i < 4; i++, s->p++) {
        int c = s->p < s->end ? *s->p : 0;
        const char *digits = "0123456789abcdef", *d = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
        if (!d) json_fail(s, "expected four hexadecimal digits");
        v = v << 4 | (uint32_t)(d - digits);
    }
    return v;
}

static int utf8(uint32_t c, char *out)
{
    static const uint8_t mark[4] = { 0x00, 0xC0, 0xE0, 0xF0 };
    int i, more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out[0] = (char)(mark[more] | c >> 6 * more);
    for (i = 1; i <= more; i++) out[i] = (char)(0x80 | (c >> 6 * (more - i) & 0x3F));
    return more + 1;
}

static int json_escape(json *s, char *out)
{
    const char *from = "\"\\/bfnrt", *to = "\"\\/\b\f\n\r\t", *at;
    int c = s->p < s->end ? *s->p++ : 0;
    uint32_t u, low;
    if (c && (at = strchr(from, c)) != NULL) return (void)(out[0] = to[at - from]), 1;
    if (c != 'u') json_fail(s, "unknown escape");
    u = json_hex(s);
    if (u >= 0xD800 && u < 0xDC00 && s->end - s->p > 6 && s->p[0] == '\\' && s->p[1] == 'u') {
        s->p += 2;
        low = json_hex(s);
        if (low < 0xDC00 || low > 0xDFFF) json_fail(s, "half a surrogate pair");
        return utf8(0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00), out);
    }
    if (u == 0 || (u >= 0xD800 && u < 0xE000)) json_fail(s, "impossible character");
    return utf8(u, out);
}

/* buffer NULL = skip */
static void json_string(json *s, char *buffer)
{
    size_t n = 0;
    char c[4];
    json_take(s, '"');
    for (;;) {
        int got = 1;
        if (s->p >= s->end) json_fail(s, "unfinished string");
        c[0] = *s->p++;
        if (c[0] == '"') break;
        if ((unsigned char)c[0] < 0x20) json_fail(s, "control character in a string");
        if (c[0] == '\\') got = json_escape(s, c);
        if (!buffer) continue;
        if (n + (size_t)got >= JSON_TEXT) json_fail(s, "string of more than 255 bytes");
        memcpy(buffer + n, c, (size_t)got);
        n += (size_t)got;
    }
    if (buffer) buffer[n] = 0;
}

/* The characters of a number, true, false or null. */
static void json_word(json *s, char *buffer)
{
    static const char *const words[] = { "true", "false", "null" };
    size_t n = 0, i;
    const char *p = buffer;
    json_peek(s);
    while (s->p < s->end && *s->p && strchr("+-.0123456789Eabcdefghijklmnopqrstuvwxyz", *s->p)) {
        if (n >= JSON_TEXT - 1) json_fail(s, "number too long");
        buffer[n++] = *s->p++;
    }
    buffer[n] = 0;
    for (i = 0; i < COUNT(words); i++)
        if (strcmp(buffer, words[i]) == 0) return;
    if (*p == '-') p++;
    i = strspn(p, "0123456789");
    if (i == 0 || (i > 1 && *p == '0')) json_fail(s, "no JSON value");
    p += i;
    if (*p == '.') {
        i = strspn(++p, "0123456789");
        if (!i) json_fail(s, "no digit after the point");
        p += i;
    }
    if (*p == 'e' || *p == 'E') {
        p += p[1] == '+' || p[1] == '-' ? 2 : 1;
        i = strspn(p, "0123456789");
        if (!i) json_fail(s, "no digit in the exponent");
        p += i;
    }
    if (*p) json_fail(s, "no JSON value");
}

static uint64_t json_count(json *s)
{
    char word[JSON_TEXT];
    json_word(s, word);
    if (strlen(word) > 18 || strspn(word, "0123456789") != strlen(word)) json_fail(s, "expected a whole number");
    return strtoull(word, NULL, 10);
}

static void json_skip(json *s)
{
    char word[JSON_TEXT];
    int n = 0, c = json_peek(s);
    if (c == '"') {
        json_string(s, NULL);
    } else if (c == '{' || c == '[') {
        if (++s->depth > JSON_DEPTH) json_fail(s, "nested too deeply");
        s->p++;
        while (json_more(s, c == '{' ? '}' : ']', &n)) {
            if (c == '{') json_string(s, NULL), json_take(s, ':');
            json_skip(s);
        }
        s->depth--;
    } else {
        json_word(s, word);
    }
}

static void json_end(json *s)
{
    if (json_peek(s) != -1) json_fail(s, "something after the end");
}

/* First item of a list, or the value itself: text of a scalar, "" for null, objects and the like. */
static void json_scalar(json *s, char *buffer)
{
    int n = 0, c = json_peek(s);
    buffer[0] = 0;
    if (c == '"') {
        json_string(s, buffer);
    } else if (c == '[') {
        for (s->p++; json_more(s, ']', &n); ) {
            c = json_peek(s);
            if (!buffer[0] && c != '[' && c != '{' && c != '"') json_word(s, buffer);
            else json_skip(s);
        }
    } else if (c == '{') {
        json_skip(s);
    } else {
        json_word(s, buffer);
    }
    if (strcmp(buffer, "null") == 0) buffer[0] = 0;
}

/* An object of config.json: sizes by their Hugging Face names, and what must be as in a Llama. */
static void read_config_object(job *j, json *s)
{
    static const struct { const char *key, *may[2]; } must[] = {
        { "model_type", { "llama", "mistral" } }, { "hidden_act", { "silu", "swish" } },
        { "rope_type", { "default", "default" } }, { "type", { "default", "default" } } };
    char name[JSON_TEXT], word[JSON_TEXT];
    int k, n = 0;
    size_t i;
    json_take(s, '{');
    while (json_more(s, '}', &n)) {
        json_string(s, name);
        json_take(s, ':');
        if ((strcmp(name, "rope_scaling") == 0 || strcmp(name, "rope_parameters") == 0) && json_peek(s) == '{') {
            if (++s->depth > 1) json_fail(s, "nested too deeply");
            read_config_object(j, s);
            s->depth--;
            continue;
        }
        k = find_key(name, 1);
        for (i = 0; i < COUNT(must) && strcmp(name, must[i].key) != 0; i++) continue;
        if (k < 0 && i == COUNT(must)) {
            json_skip(s);
            continue;
        }
        json_scalar(s, word);
        if (!word[0]) continue;
        if (k >= 0) set_text(j, (enum key)k, word, FROM_CONFIG, s->file);
        else if (strcmp(word, must[i].may[0]) != 0 && strcmp(word, must[i].may[1]) != 0)
            fail("%s: %s is \"%s\", only \"%s\" is converted; let llama.cpp make a GGUF and give that to ltx-convert",
                 s->file, name, word, must[i].may[0]);
    }
}

static void read_config(job *j, const char *file)
{
    ltx_blob b = read_file(file);
    json s = { NULL, NULL, NULL, NULL, 0 };
    s.p = s.start = b.ptr;
    s.end = s.p + b.size;
    s.file = file;
    read_config_object(j, &s);
    json_end(&s);
}

/* ==== >>metadata =====================================================================================================
   Keys of the output, in the form in which ltx_gguf_next_kv hands them out: GGUF inputs just pass through. */

static int is_key(const ltx_gguf_kv *kv, const char *key)
{
    return kv->key_len == strlen(key) && memcmp(kv->key, key, kv->key_len) == 0;
}

static int begins(const ltx_gguf_kv *kv, const char *prefix)
{
    return kv->key_len >= strlen(prefix) && memcmp(kv->key, prefix, strlen(prefix)) == 0;
}

static ltx_gguf_kv *find_kv(const job *j, const char *key)
{
    size_t i;
    for (i = 0; i < j->n_kv; i++)
        if (is_key(&j->kv[i], key)) return &j->kv[i];
    return NULL;
}

static void add_kv(job *j, const ltx_gguf_kv *kv)
{
    if (j->n_kv == j->cap_kv) {
        j->cap_kv = j->cap_kv * 2 + 64;
        j->kv = resize(j->kv, j->cap_kv * sizeof *j->kv);
    }
    j->kv[j->n_kv++] = *kv;
}

/* Remove every key that begins so. */
static void drop_kv(job *j, const char *prefix)
{
    size_t i, n = 0;
    for (i = 0; i < j->n_kv; i++)
        if (!begins(&j->kv[i], prefix)) j->kv[n++] = j->kv[i];
    j->n_kv = n;
}

/* Add a key or overwrite the one of that name. data is borrowed. */
static void put_kv(job *j, const char *key, uint32_t type, uint32_t item_type, uint64_t count, const void *data,
                   size_t size)
{
    ltx_gguf_kv *old = find_kv(j, key), kv;
    kv.key = key;
    kv.key_len = strlen(key);
    kv.type = type;
    kv.item_type = item_type;
    kv.count = count;
    kv.data = data;
    kv.size = size;
    if (old) *old = kv;
    else add_kv(j, &kv);
}

static void put_int(job *j, const char *key, uint32_t type, uint32_t v)
{
    bytes b = { NULL, 0, 0 };
    append_int(&b, v, type == KV_BOOL ? 1 : 4);
    put_kv(j, key, type, type, 1, b.p, b.n);
}

static void put_u32(job *j, const char *key, uint64_t v) { put_int(j, key, KV_U32, (uint32_t)v); }
static void put_f32(job *j, const char *key, double v) { put_int(j, key, KV_F32, float_bits((float)v)); }
static void put_string(job *j, const char *key, const char *s)
{
    put_kv(j, key, KV_STRING, KV_STRING, strlen(s), text("%s", s), strlen(s));
}
static void put_array(job *j, const char *key, uint32_t item_type, uint64_t count, const bytes *b)
{
    put_kv(j, key, KV_ARRAY, item_type, count, b->p, b->n);
}

/* The keys of a Llama as llama.cpp reads them. */
static void put_model(job *j)
{
    char *name = text("%s", base_name(j->input)), *dot = strrchr(name, '.');
    if (dot && dot != name) *dot = 0;
    put_string(j, "general.architecture", "llama");
    put_string(j, "general.name", name);
    put_u32(j, "general.alignment", j->alignment);
    put_u32(j, "general.quantization_version", 2);
    put_u32(j, "general.file_type", 0);
    put_u32(j, "llama.context_length", value(j, K_SEQ));
    put_u32(j, "llama.embedding_length", value(j, K_DIM));
    put_u32(j, "llama.block_count", value(j, K_LAYERS));
    put_u32(j, "llama.feed_forward_length", value(j, K_FFN));
    put_u32(j, "llama.attention.head_count", value(j, K_HEADS));
    put_u32(j, "llama.attention.head_count_kv", value(j, K_KV_HEADS));
    if (value(j, K_HEAD_DIM) * value(j, K_HEADS) != value(j, K_DIM)) {
        put_u32(j, "llama.attention.key_length", value(j, K_HEAD_DIM));
        put_u32(j, "llama.attention.value_length", value(j, K_HEAD_DIM));
    }
    put_f32(j, "llama.attention.layer_norm_rms_epsilon", j->value[K_EPS]);
    put_u32(j, "llama.rope.dimension_count", value(j, K_HEAD_DIM));
    put_f32(j, "llama.rope.freq_base", j->value[K_THETA]);
    put_u32(j, "llama.vocab_size", value(j, K_VOCAB));
    put_string(j, "ltx.source", base_name(j->input));
}

/* ltx.exits: which layers the model was trained to stop after. */
static void put_exits(job *j, const char *list)
{
    uint8_t on[LTX_MAX_LAYERS] = { 0 };
    uint64_t n_layers = value(j, K_LAYERS), l, n = 0;
    bytes b = { NULL, 0, 0 };
    const char *p = list;
    char *end;
    need_key(j, K_LAYERS);
    if (strcmp(list, "none") == 0) {
        drop_kv(j, "ltx.exits");
        return;
    }
    if (strcmp(list, "all") == 0) memset(on, 1, sizeof on);
    else for (;; p = end + 1) {
        long v = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',')) misuse("--exits %s: expected all, none or a list like 3,7,11", list);
        if (v < 0 || (uint64_t)v >= n_layers)
            fail("--exits: layer %ld is not there, the model has layers 0 to %llu", v, (ull)n_layers - 1);
        on[v] = 1;
        if (!*end) break;
    }
    for (l = 0; l < n_layers; l++)
        if (on[l]) append_int(&b, l, 4), n++;
    put_array(j, "ltx.exits", KV_U32, n, &b);
}

/* ==== >>inputs ==================================================================================================== */

static void add_source(job *j, const raw *in, uint64_t half)
{
    source *s;
    if (j->n_sources == j->cap_sources) {
        j->cap_sources = j->cap_sources * 2 + 64;
        j->sources = resize(j->sources, j->cap_sources * sizeof *j->sources);
    }
    s = &j->sources[j->n_sources++];
    s->in = *in;
    s->half = half;
    s->type = in->type;
}

/* An input that is asked for tensors by role: NULL = not there. */
typedef struct finder finder;
struct finder {
    raw *(*find)(finder *f, const role *r, int layer);
    enum naming naming;
    raw     *list; /* safetensors: sorted by name; llama2.c: one scratch entry */
    size_t   count;
    const uint8_t *start[COUNT(roles)]; /* llama2.c: of layer 0                */
    const uint64_t *size;               /* llama2.c: sizes                     */
};

static void add_role(job *j, finder *f, const role *r, int layer, const uint64_t *size)
{
    uint64_t dims[2], half = r->flags & TURNS && value(j, K_PAIRS) ? value(j, K_HEAD_DIM) / 2 : 0;
    uint32_t n_dims = r->rows == SIZE_1 ? 1 : 2;
    raw *t = f->find(f, r, layer), renamed;
    if (!t) {
        if (r->flags & NEED || (r->in_class == CLASS_HEAD && j->rank[K_TIED] && !value(j, K_TIED)))
            fail("%s: tensor %s is missing", j->input, role_name(r, f->naming, layer));
        return;
    }
    t->used = 1;
    if (r->in_class == CLASS_HEAD && value(j, K_TIED)) return;
    dims[0] = size[r->cols];
    dims[1] = size[r->rows];
    if (t->type < 0) fail("%s: tensor %s is not F32, F16 or BF16", j->input, t->name);
    if (t->n_dims != n_dims || t->dims[0] != dims[0] || (n_dims == 2 && t->dims[1] != dims[1]))
        fail("%s: tensor %s is %s, expected %s", j->input, t->name, shape(t->n_dims, t->dims), shape(n_dims, dims));
    renamed = *t;
    renamed.name = role_name(r, AS_GGUF, layer);
    add_source(j, &renamed, half);
}

static void add_roles(job *j, finder *f, const uint64_t *size)
{
    int layer;
    size_t r;
    add_role(j, f, &roles[ROLE_EMBED], -1, size);
    for (layer = 0; layer < (int)value(j, K_LAYERS); layer++)
        for (r = 0; r < COUNT(roles); r++)
            if (roles[r].flags & LAYER) add_role(j, f, &roles[r], layer, size);
    for (r = ROLE_EMBED + 1; r < COUNT(roles); r++)
        if (!(roles[r].flags & LAYER)) add_role(j, f, &roles[r], -1, size);
}

static int by_name(const void *a, const void *b) { return strcmp(((const raw *)a)->name, ((const raw *)b)->name); }

static raw *find_safetensor(finder *f, const role *r, int layer)
{
    raw wanted;
    wanted.name = role_name(r, f->naming, layer);
    return bsearch(&wanted, f->list, f->count, sizeof *f->list, by_name);
}

static void read_st_metadata(job *j, json *s)
{
    char name[JSON_TEXT], word[JSON_TEXT];
    int n = 0, k;
    json_take(s, '{');
    while (json_more(s, '}', &n)) {
        json_string(s, name);
        json_take(s, ':');
        k = find_key(name, 0);
        if (k < 0 && strcmp(name, "tokenizer") != 0) {
            json_string(s, NULL);
            continue;
        }
        json_string(s, word);
        if (k >= 0) set_text(j, (enum key)k, word, FROM_FILE, s->file);
        else if (strcmp(word, "bytes") == 0 && !j->tokenizer) j->tokenizer = "bytes";
    }
}

static uint64_t read_numbers(json *s, uint64_t *out, uint64_t cap)
{
    uint64_t v, count = 0;
    int n = 0;
    json_take(s, '[');
    while (json_more(s, ']', &n)) {
        v = json_count(s);
        if (count < cap) out[count] = v;
        count++;
    }
    return count;
}

/* Value of one tensor: {"dtype": "F32", "shape": [rows, cols], "data_offsets": [from, to]} */
static void read_st_tensor(json *s, raw *t, ltx_blob data)
{
    static const struct { const char *name; int32_t type; uint64_t size; } dtypes[] = {
        { "F32", LTX_F32, 4 }, { "F16", LTX_F16, 2 }, { "BF16", LTX_BF16, 2 } };
    char name[JSON_TEXT], dtype[JSON_TEXT] = "";
    uint64_t dims[4], at[2] = { 1, 0 }, n_dims = 0, n_at = 0, i, size;
    int n = 0;
    json_take(s, '{');
    while (json_more(s, '}', &n)) {
        json_string(s, name);
        json_take(s, ':');
        if (strcmp(name, "dtype") == 0) json_string(s, dtype);
        else if (strcmp(name, "shape") == 0) n_dims = read_numbers(s, dims, 4);
        else if (strcmp(name, "data_offsets") == 0) n_at = read_numbers(s, at, 2);
        else json_fail(s, "unknown field of a tensor");
    }
    if (n_at != 2 || at[0] > at[1] || at[1] > data.size)
        fail("%s: tensor %s: data_offsets %llu to %llu, the file has %llu bytes of data", s->file, t->name, (ull)at[0],
             (ull)at[1], (ull)data.size);
    t->data = (const uint8_t *)data.ptr + at[0];
    t->type = -1;
    for (i = 0, size = 0; i < COUNT(dtypes); i++)
        if (strcmp(dtype, dtypes[i].name) == 0) t->type = dtypes[i].type, size = dtypes[i].size;
    if (n_dims < 1 || n_dims > 4) t->type = -1;
    if (t->type < 0) return;
    for (i = 0; i < n_dims; i++) {
        t->dims[n_dims - 1 - i] = dims[i];
        if (dims[i] && size > data.size / dims[i]) size = (uint64_t)data.size + 1;
        else size *= dims[i];
    }
    t->n_dims = (uint32_t)n_dims;
    if (size != at[1] - at[0])
        fail("%s: tensor %s has %llu bytes of data, its shape %s of %s wants %llu", s->file, t->name,
             (ull)(at[1] - at[0]), shape(t->n_dims, t->dims), dtype, (ull)size);
}

static void read_st_header(job *j, ltx_blob file, finder *f)
{
    json s = { NULL, NULL, NULL, NULL, 0 };
    ltx_blob data;
    char name[JSON_TEXT];
    size_t cap = 0, i, head = (size_t)get_int(file.ptr, 8);
    int n = 0;
    s.p = s.start = (const char *)file.ptr + 8;
    s.end = s.p + head;
    s.file = j->input;
    data.ptr = s.end;
    data.size = file.size - 8 - head;
    json_take(&s, '{');
    while (json_more(&s, '}', &n)) {
        json_string(&s, name);
        json_take(&s, ':');
        if (strcmp(name, "__metadata__") == 0) {
            read_st_metadata(j, &s);
            continue;
        }
        if (f->count == cap) f->list = resize(f->list, (cap = cap * 2 + 64) * sizeof *f->list);
        memset(&f->list[f->count], 0, sizeof *f->list);
        f->list[f->count].name = text("%s", name);
        read_st_tensor(&s, &f->list[f->count++], data);
    }
    json_end(&s);
    if (f->count) qsort(f->list, f->count, sizeof *f->list, by_name);
    for (i = 1; i < f->count; i++)
        if (by_name(&f->list[i - 1], &f->list[i]) == 0) fail("%s: tensor %s is there twice", j->input, f->list[i].name);
}

/* Sizes that nobody has given, as the tensors have them. */
static void guess_sizes(job *j, finder *f)
{
    raw *t = f->find(f, &roles[ROLE_EMBED], -1);
    int layers = 0;
    if (t && t->n_dims == 2) {
        set_number(j, K_VOCAB, (double)t->dims[1], FROM_SHAPES, t->name);
        set_number(j, K_DIM, (double)t->dims[0], FROM_SHAPES, t->name);
    }
    while (layers < LTX_MAX_LAYERS && f->find(f, &roles[ROLE_ATTN_NORM], layers)) layers++;
    if (layers) set_number(j, K_LAYERS, layers, FROM_SHAPES, j->input);
    t = f->find(f, &roles[ROLE_GATE], 0);
    if (t && t->n_dims == 2) set_number(j, K_FFN, (double)t->dims[1], FROM_SHAPES, t->name);
    t = f->find(f, &roles[ROLE_K], 0);
    if (t && t->n_dims == 2 && j->rank[K_HEADS] && j->rank[K_DIM]) {
        uint64_t head = j->rank[K_HEAD_DIM] ? value(j, K_HEAD_DIM) : value(j, K_DIM) / value(j, K_HEADS);
        if (head && t->dims[1] >= head) set_number(j, K_KV_HEADS, (double)(t->dims[1] / head), FROM_SHAPES, t->name);
    }
}

static void load_safetensors(job *j, ltx_blob file)
{
    finder f;
    uint64_t size[SIZE_COUNT];
    size_t i, unused = 0;
    const char *first = NULL;
    FILE *beside;
    memset(&f, 0, sizeof f);
    f.find = find_safetensor;
    f.naming = AS_OURS;
    read_st_header(j, file, &f);
    if (!f.find(&f, &roles[ROLE_EMBED], -1)) f.naming = AS_HF;
    if (!f.find(&f, &roles[ROLE_EMBED], -1))
        fail("%s: has neither %s nor %s", j->input, roles[0].name[AS_OURS], roles[0].name[AS_HF]);
    if (f.naming == AS_HF) {
        char *config = text("%.*sconfig.json", (int)(base_name(j->input) - j->input), j->input);
        if (!j->config && (beside = fopen(config, "rb")) != NULL) fclose(beside), j->config = config;
        set_number(j, K_PAIRS, 1, FROM_FILE, j->input);
    } else if (!j->exits) {
        j->exits = "all";
    }
    if (j->config) read_config(j, j->config);
    guess_sizes(j, &f);
    settle_config(j, size);
    add_roles(j, &f, size);
    if (!f.find(&f, &roles[ROLE_PROBES], -1) != !f.find(&f, &roles[ROLE_PROBES + 1], -1))
        fail("%s: wants both %s and %s or neither", j->input, roles[ROLE_PROBES].name[AS_OURS], roles[ROLE_PROBES + 1].name[AS_OURS]);
    for (i = f.count; i-- > 0; )
        if (!f.list[i].used && !strstr(f.list[i].name, "rotary_emb.inv_freq")) unused++, first = f.list[i].name;
    if (unused) note("%llu tensors of %s are not used, the first is %s", (ull)unused, j->input, first);
    put_model(j);
}

static raw *find_llama2c(finder *f, const role *r, int layer)
{
    raw *t = f->list;
    const uint8_t *start = f->start[r - roles];
    if (!start) return NULL;
    memset(t, 0, sizeof *t);
    t->name = role_name(r, AS_GGUF, layer);
    t->type = LTX_F32;
    t->n_dims = r->rows == SIZE_1 ? 1 : 2;
    t->dims[0] = f->size[r->cols];
    t->dims[1] = f->size[r->rows];
    t->data = start + (layer > 0 ? (uint64_t)layer * t->dims[0] * t->dims[1] * 4 : 0);
    return t;
}

/* Version 0: seven int32, then the needed roles in their order, all layers of one role together, rope tables, head. */
static void load_llama2c(job *j, ltx_blob file)
{
    static const enum key order[7] = { K_DIM, K_FFN, K_LAYERS, K_HEADS, K_KV_HEADS, K_VOCAB, K_SEQ };
    const uint8_t *base = file.ptr;
    uint64_t size[SIZE_COUNT], at = 28, n;
    int32_t v, tied = 1;
    finder f;
    raw scratch;
    size_t i;
    if (get_int(base, 4) == 0x616B3432)
        fail("%s: llama2.c checkpoint of version %llu, only version 0 is read", j->input, (ull)get_int(base + 4, 4));
    for (i = 0; i < COUNT(order); i++) {
        v = (int32_t)(uint32_t)get_int(base + 4 * i, 4);
        if (order[i] == K_VOCAB && v < 0 && v > -LTX_MAX_DIM) v = -v, tied = 0;
        if (v < keys[order[i]].low || v > keys[order[i]].high)
            fail("%s: this is no GGUF, safetensors or llama2.c file (as llama2.c its %s would be %ld)", j->input,
                 keys[order[i]].ours, (long)v);
        set_number(j, order[i], v, FROM_FILE, j->input);
    }
    set_number(j, K_TIED, tied, FROM_FILE, j->input);
    settle_config(j, size);
    memset(&f, 0, sizeof f);
    f.find = find_llama2c;
    f.list = &scratch;
    f.size = size;
    for (i = 0; i < COUNT(roles); i++) {
        if (i == ROLE_HEAD) at += value(j, K_SEQ) * value(j, K_HEAD_DIM) * 4; /* cosines and sines */
        if (!(roles[i].flags & NEED) && !(i == ROLE_HEAD && !tied)) continue;
        n = size[roles[i].rows] * size[roles[i].cols] * 4 * (roles[i].flags & LAYER ? value(j, K_LAYERS) : 1);
        if (at <= file.size) f.start[i] = base + at;
        at += n;
    }
    if (at != file.size)
        fail("%s: has %llu bytes, a llama2.c checkpoint of dim %llu, ffn %llu, n_layers %llu, vocab %llu has %llu",
             j->input, (ull)file.size, (ull)size[SIZE_DIM], (ull)size[SIZE_FFN], (ull)value(j, K_LAYERS),
             (ull)size[SIZE_VOCAB], (ull)at);
    add_roles(j, &f, size);
    put_model(j);
}

static void log_event(void *user, const ltx_event *e)
{
    int len = e->name_len < 200 ? (int)e->name_len : 200;
    fprintf(stderr, "%s: %.*s: %s", (const char *)user, len, e->name ? e->name : "", e->text);
    if (e->index >= 0) fprintf(stderr, " (layer %ld)", (long)e->index);
    if (e->want || e->got) fprintf(stderr, ": expected %lld, got %lld", (long long)e->want, (long long)e->got);
    fputc('\n', stderr);
}

static void open_gguf(job *j, ltx_blob file, ltx_gguf *g)
{
    ltx_log log;
    ltx_result r;
    log.fn = log_event;
    log.user = text("%s", j->input);
    r = ltx_gguf_open(file, &log, g);
    if (r) fail("%s: %s", j->input, ltx_result_text(r));
}

static void load_gguf(job *j, ltx_blob file)
{
    ltx_gguf g;
    ltx_gguf_kv kv;
    ltx_gguf_tensor t;
    uint64_t at;
    raw in;
    open_gguf(j, file, &g);
    j->alignment = g.alignment;
    j->from_gguf = 1;
    for (at = 0; ltx_gguf_next_kv(&g, &at, &kv) == LTX_OK; ) {
        add_kv(j, &kv);
        if (kv.type == KV_U32 && kv.key_len > 12 && memcmp(kv.key + kv.key_len - 12, ".block_count", 12) == 0)
            set_number(j, K_LAYERS, (double)get_int(kv.data, 4), FROM_FILE, j->input);
    }
    for (at = 0; ltx_gguf_next_tensor(&g, &at, &t) == LTX_OK; ) {
        memset(&in, 0, sizeof in);
        if (t.name_len > 200)
            fail("%s: a tensor's name has %llu bytes, at most 200 are handled", j->input, (ull)t.name_len);
        in.name = text("%.*s", (int)t.name_len, t.name);
        in.type = (int32_t)t.type;
        in.n_dims = t.n_dims;
        memcpy(in.dims, t.dims, sizeof in.dims);
        in.data = (const uint8_t *)file.ptr + t.offset;
        if (!t.n_dims || !t.dims[0]) fail("%s: tensor %s is empty", j->input, in.name);
        if (!t.bytes && !j->info)
            fail("%s: tensor %s has type %lu, which is not handled", j->input, in.name, (unsigned long)t.type);
        if (t.dims[0] > INT32_MAX / 8)
            fail("%s: tensor %s has rows of %llu elements", j->input, in.name, (ull)t.dims[0]);
        if (strcmp(in.name, "token_embd.weight") == 0 && t.n_dims == 2)
            set_number(j, K_VOCAB, (double)t.dims[1], FROM_FILE, j->input);
        add_source(j, &in, 0);
    }
}

static void load(job *j)
{
    ltx_blob file = read_file(j->input);
    const uint8_t *p = file.ptr;
    if (file.size < 28) fail("%s: %llu bytes are no model", j->input, (ull)file.size);
    if (memcmp(p, "GGUF", 4) == 0) load_gguf(j, file);
    else if (p[8] == '{' && get_int(p, 8) <= file.size - 8) load_safetensors(j, file);
    else if (p[8] == '{' && get_int(p, 8) < (uint64_t)1 << 32)
        fail("%s: the safetensors header has %llu bytes, the file %llu", j->input, (ull)get_int(p, 8), (ull)file.size);
    else load_llama2c(j, file);
}

/* ==== >>tokenizer ====================================================================================================
   Token types as GGUF numbers them; SentencePiece uses the same numbers. */

enum { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE };

typedef struct tokens {
    const char *file;
    bytes   texts, scores, types; /* as GGUF stores them */
    uint64_t count;
    int64_t bos, eos, unknown;
} tokens;

static void add_token(tokens *t, const char *s, size_t len, uint64_t score, uint64_t type)
{
    append_int(&t->texts, len, 8);
    append(&t->texts, s, len);
    append_int(&t->scores, score, 4);
    append_int(&t->types, type, 4);
    if (type == TOKEN_UNKNOWN && t->unknown < 0) t->unknown = (int64_t)t->count;
    if (type == TOKEN_CONTROL && len == 3 && memcmp(s, "<s>", 3) == 0) t->bos = (int64_t)t->count;
    if (type == TOKEN_CONTROL && len == 4 && memcmp(s, "</s>", 4) == 0) t->eos = (int64_t)t->count;
    t->count++;
}

typedef struct proto { const uint8_t *p, *end, *start; const char *file; uint64_t number, value; } proto;

static uint64_t proto_varint(proto *s)
{
    uint64_t v = 0;
    int shift = 0, more = 1;
    for (; more; shift += 7) {
        if (s->p >= s->end || shift > 63) fail("%s: broken number at byte %llu", s->file, (ull)(s->p - s->start));
        more = *s->p & 0x80;
        v |= (uint64_t)(*s->p++ & 0x7F) << shift;
    }
    return v;
}

/* Next field of a protobuf message: 0 at the end, else 1 + wire type. Sets its number, *data to its bytes, and value to
   their count or to the integer. */
static int proto_next(proto *s, const uint8_t **data)
{
    static const uint8_t fixed[8] = { 0, 8, 0, 0, 0, 4, 0, 0 };
    uint64_t tag, size;
    int wire;
    if (s->p >= s->end) return 0;
    tag = proto_varint(s);
    wire = (int)(tag & 7);
    s->number = tag >> 3;
    s->value = wire == 0 || wire == 2 ? proto_varint(s) : 0;
    size = wire == 2 ? s->value : fixed[wire];
    if (wire == 3 || wire == 4 || wire > 5 || s->number == 0 || size > (uint64_t)(s->end - s->p))
        fail("%s: no SentencePiece model: field %llu of wire type %d at byte %llu wants %llu bytes, %llu are left",
             s->file, (ull)s->number, wire, (ull)(s->p - s->start), (ull)size, (ull)(s->end - s->p));
    *data = s->p;
    s->p += size;
    if (wire == 5) s->value = get_int(*data, 4);
    return 1 + wire;
}

enum { WIRE_INT = 1 + 0, WIRE_BYTES = 1 + 2, WIRE_FLOAT = 1 + 5 };

static void add_piece(tokens *t, proto piece)
{
    const uint8_t *data, *s = NULL;
    uint64_t len = 0, score = 0, type = TOKEN_NORMAL;
    int wire;
    while ((wire = proto_next(&piece, &data)) != 0) {
        if (piece.number == 1 && wire == WIRE_BYTES) s = data, len = piece.value;
        else if (piece.number == 2 && wire == WIRE_FLOAT) score = piece.value;
        else if (piece.number == 3 && wire == WIRE_INT) type = piece.value;
    }
    if (!s || type < TOKEN_NORMAL || type > TOKEN_BYTE)
        fail("%s: piece %llu has no text or type %llu, expected 1 to 6", t->file, (ull)t->count, (ull)type);
    add_token(t, (const char *)s, (size_t)len, score, type);
}

static void read_sentencepiece(tokens *t, ltx_blob file)
{
    proto s, piece;
    const uint8_t *data;
    int wire;
    s.start = s.p = file.ptr;
    s.end = s.p + file.size;
    s.file = t->file;
    while ((wire = proto_next(&s, &data)) != 0) {
        if (s.number != 1 || wire != WIRE_BYTES) continue;
        piece = s;
        piece.p = data;
        piece.end = data + s.value;
        add_piece(t, piece);
    }
}

/* llama2.c: plain blanks stand for U+2581, tokens 1 and 2 are written with newlines around, 3..258 are bytes. */
static void read_llama2c_tokens(tokens *t, ltx_blob file)
{
    const uint8_t *p = file.ptr, *end = p + file.size;
    uint64_t score, len, i, type;
    bytes b;
    for (p += 4; p < end; p += len) {
        if (end - p < 8) fail("%s: token %llu is cut off", t->file, (ull)t->count);
        score = get_int(p, 4);
        len = get_int(p + 4, 4);
        p += 8;
        if (len > (uint64_t)(end - p))
            fail("%s: token %llu has %llu bytes, the file %llu more", t->file, (ull)t->count, (ull)len, (ull)(end - p));
        memset(&b, 0, sizeof b);
        for (i = 0; i < len; i++) {
            if (p[i] == ' ') append(&b, "\xE2\x96\x81", 3);
            else if (p[i] != '\n' || t->count > 2) append(&b, p + i, 1);
        }
        type = t->count < 1 ? TOKEN_UNKNOWN : t->count < 3 ? TOKEN_CONTROL : t->count < 259 ? TOKEN_BYTE : TOKEN_NORMAL;
        if (type == TOKEN_BYTE && (b.n != 6 || memcmp(b.p, "<0x", 3) != 0))
            fail("%s: token %llu is \"%.*s\", expected the byte <0x%02X>", t->file, (ull)t->count,
                 b.n < 40 ? (int)b.n : 40, b.p ? (const char *)b.p : "", (unsigned)t->count - 3);
        add_token(t, (const char *)b.p, b.n, score, type);
    }
}

static void make_byte_tokens(tokens *t, uint64_t vocab)
{
    uint64_t i;
    if (vocab < 256) fail("--tokenizer bytes: the model has %llu tokens, expected at least 256", (ull)vocab);
    for (i = 0; i < vocab; i++) {
        const char *name = i < 256 ? text("<0x%02X>", (unsigned)i) : i > 256 ? text("<unused%u>", (unsigned)i) : "<s>";
        add_token(t, name, strlen(name), 0, i < 256 ? TOKEN_BYTE : i > 256 ? TOKEN_UNUSED : TOKEN_CONTROL);
    }
}

/* The vocabulary may be larger than the tokenizer, padded for the hardware, never smaller. */
static void pad_tokens(tokens *t, uint64_t vocab)
{
    if (t->count > vocab) fail("%s: %llu tokens, the model has %llu", t->file, (ull)t->count, (ull)vocab);
    if (t->count < vocab)
        note("%s has %llu tokens, the model %llu: the rest is marked unused", t->file, (ull)t->count, (ull)vocab);
    while (t->count < vocab) {
        const char *name = text("<unused%u>", (unsigned)t->count);
        add_token(t, name, strlen(name), 0, TOKEN_UNUSED);
    }
}

static void put_special(job *j, const char *key, enum key set, int64_t found)
{
    if (set < K_COUNT && j->rank[set]) found = (int64_t)j->value[set];
    if (found >= (int64_t)value(j, K_VOCAB))
        fail("%s is %lld, the model has %llu tokens", key, (long long)found, (ull)value(j, K_VOCAB));
    if (found >= 0) put_u32(j, key, (uint64_t)found);
}

static void put_tokenizer(job *j)
{
    int plain = strcmp(j->tokenizer, "bytes") == 0;
    tokens t;
    memset(&t, 0, sizeof t);
    t.file = j->tokenizer;
    t.bos = t.eos = t.unknown = -1;
    need_key(j, K_VOCAB);
    if (plain) {
        make_byte_tokens(&t, value(j, K_VOCAB));
    } else {
        ltx_blob file = read_file(j->tokenizer);
        const uint8_t *p = file.ptr;
        if (file.size < 12) fail("%s: %llu bytes are no tokenizer", j->tokenizer, (ull)file.size);
        /* a SentencePiece model begins with field 1, never empty; llama2.c with the length of the longest token */
        if (p[0] == 0x0A && p[1] != 0) read_sentencepiece(&t, file);
        else read_llama2c_tokens(&t, file);
        pad_tokens(&t, value(j, K_VOCAB));
    }
    drop_kv(j, "tokenizer.");
    put_string(j, "tokenizer.ggml.model", plain ? "ltx-bytes" : "llama");
    put_array(j, "tokenizer.ggml.tokens", KV_STRING, t.count, &t.texts);
    if (!plain) put_array(j, "tokenizer.ggml.scores", KV_F32, t.count, &t.scores);
    put_array(j, "tokenizer.ggml.token_type", KV_I32, t.count, &t.types);
    put_special(j, "tokenizer.ggml.bos_token_id", K_BOS, t.bos);
    put_special(j, "tokenizer.ggml.eos_token_id", K_EOS, t.eos);
    put_special(j, "tokenizer.ggml.unknown_token_id", K_COUNT, t.unknown);
    if (find_kv(j, "tokenizer.ggml.bos_token_id")) put_int(j, "tokenizer.ggml.add_bos_token", KV_BOOL, 1);
    if (!plain) put_int(j, "tokenizer.ggml.add_space_prefix", KV_BOOL, 1);
}

/* ==== >>types ===================================================================================================== */

static const struct { const char *name; int32_t type; uint32_t file_type; float limit; } types[] = {
    { "f32", LTX_F32, 0, INFINITY }, { "f16", LTX_F16, 1, 65504.0f }, { "bf16", LTX_BF16, 32, INFINITY },
    { "q8_0", LTX_Q8_0, 7, 127 * 65504.0f }, { "q4_0", LTX_Q4_0, 2, 8 * 65504.0f },
    { "q4_k", LTX_Q4_K, 14, 63 * 65504.0f }, { "q5_k", LTX_Q5_K, 16, 63 * 65504.0f },
    { "q6_k", LTX_Q6_K, 18, 127 * 31 * 65504.0f }, { "q4_k_m", Q4_K_M, 15, 0 },
    { "q8_x", LTX_Q8_X, LTX_Q8_X, 127 * 65504.0f }, { "q4_x", LTX_Q4_X, LTX_Q4_X, 8 * 65504.0f },
    { "r8", LTX_R8, LTX_R8, INFINITY }, { "r4", LTX_R4, LTX_R4, INFINITY }, /* no other program has a file type for these */
};

static size_t find_type(int32_t type)
{
    size_t i;
    for (i = 0; types[i].type != type; i++)
        if (i + 1 == COUNT(types)) fail("number format %ld is not handled", (long)type);
    return i;
}

static int32_t parse_type(const char *option, const char *word)
{
    size_t i, n;
    for (i = 0; i < COUNT(types); i++) {
        for (n = 0; word[n] && (word[n] == types[i].name[n] || word[n] + 32 == types[i].name[n]); n++) continue;
        if (!word[n] && !types[i].name[n]) return types[i].type;
    }
    misuse("%s: \"%s\" is no number format, expected f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k, q4_k_m, q8_x, q4_x, "
           "r8 or r4", option, word);
}

/* The layer in a tensor's name, -1 = none; *rest is what follows it. */
static long layer_of(const char *name, const char **rest)
{
    char *end;
    long layer;
    *rest = name;
    if (strncmp(name, layer_prefix[AS_GGUF], 4) != 0) return -1;
    layer = strtol(name + 4, &end, 10);
    *rest = *end ? end + 1 : end;
    return layer;
}

/* What q4_k_m means for a tensor. Layers as llama.cpp chooses them: first and last eighth, every third between. */
static int32_t mixed_type(enum class_name in_class, const char *name, long layer, long n_layers)
{
    if (in_class == CLASS_EMBED || in_class == CLASS_HEAD) return LTX_Q6_K;
    if (strcmp(name, "attn_v.weight") != 0 && strcmp(name, "ffn_down.weight") != 0) return LTX_Q4_K;
    return layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2 ? LTX_Q6_K : LTX_Q4_K;
}

/* What was asked for this tensor: the layer's answer, else the class's, else the general one. */
static int32_t wanted_type(const job *j, const raw *t, long n_layers)
{
    const char *name;
    long layer = layer_of(t->name, &name);
    enum class_name in_class = CLASS_OTHER;
    int32_t type = j->type;
    size_t r;
    if (t->n_dims < 2) return LTX_F32;
    for (r = 0; r < COUNT(roles); r++) {
        if (strcmp(name, roles[r].name[AS_GGUF]) != 0) continue;
        if (roles[r].flags & FLOATS) return LTX_F32;
        in_class = (enum class_name)roles[r].in_class;
    }
    if (layer >= 0 && layer < LTX_MAX_LAYERS && j->layer_type[layer] != NOT_SET) type = j->layer_type[layer];
    else if (j->class_type[in_class] != NOT_SET) type = j->class_type[in_class];
    if (type == KEEP) return t->type;
    return type == Q4_K_M ? mixed_type(in_class, name, layer, n_layers) : type;
}

/* Rows that lie together: sixteen or one. */
static uint64_t group_of(int32_t type)
{
    size_t row = ltx_row_bytes(type, 256);
    return row ? ltx_mat_bytes(type, 1, 256) / row : 1;
}

static uint64_t stored_bytes(const source *s)
{
    uint64_t group = group_of(s->type), groups = (count_rows(&s->in) + group - 1) / group;
    return (uint64_t)ltx_row_bytes(s->type, (int32_t)s->in.dims[0]) * group * groups;
}

/* Tensors whose rows do not suit the format that was asked for: no multiple of its block, or too long for one scale. */
typedef struct misfits { uint64_t count; const source *first; } misfits;
enum { OF_32, OF_256, TOO_LONG, MISFITS, MAX_ONE_SCALE = 131072 };

static void fit_type(source *s, misfits *lists)
{
    uint64_t cols = s->in.dims[0];
    misfits *m = &lists[cols % 32 ? OF_32 : OF_256]; /* 256 is the only other block */
    if ((s->type == LTX_R8 || s->type == LTX_R4) && cols % 32 == 0 && cols > MAX_ONE_SCALE) m = &lists[TOO_LONG];
    else if (ltx_row_bytes(s->type, (int32_t)cols)) return;
    if (!m->count++) m->first = s;
    s->type = cols % 32 == 0 ? LTX_Q8_0 : LTX_F16;
}

static void note_misfits(const misfits *m, const char *instead, const char *why)
{
    if (m->count)
        note("%s for %llu tensors whose rows are %s: %s (%s)%s", instead, (ull)m->count, why,
             m->first->in.name, shape(m->first->in.n_dims, m->first->in.dims), m->count > 1 ? " and more" : "");
}

static long count_layers(const job *j)
{
    long n = 0, layer;
    size_t i;
    const char *rest;
    for (i = 0; i < j->n_sources; i++) {
        layer = layer_of(j->sources[i].in.name, &rest);
        if (layer >= n && layer < LTX_MAX_LAYERS) n = layer + 1;
    }
    return n;
}

static void choose_types(job *j)
{
    uint64_t per_type[COUNT(types)] = { 0 };
    size_t i, most = 0;
    misfits lists[MISFITS] = { { 0, NULL }, { 0, NULL }, { 0, NULL } };
    int changed = 0;
    long n_layers = count_layers(j);
    for (i = 0; i < j->n_sources; i++) {
        source *s = &j->sources[i];
        s->type = wanted_type(j, &s->in, n_layers);
        fit_type(s, lists);
        changed |= s->type != s->in.type;
        j->weights += count_rows(&s->in) * s->in.dims[0];
        j->stored += stored_bytes(s);
        if (s->in.n_dims > 1) per_type[find_type(s->type)] += count_rows(&s->in) * s->in.dims[0];
    }
    note_misfits(&lists[OF_32], "F16", "no multiple of 32");
    note_misfits(&lists[OF_256], "Q8_0", "no multiple of 256");
    note_misfits(&lists[TOO_LONG], "Q8_0", "longer than 131072");
    for (i = 1; i < COUNT(types); i++)
        if (per_type[i] > per_type[most]) most = i;
    if (j->type == Q4_K_M && types[most].type == LTX_Q4_K) most = find_type(Q4_K_M);
    if (changed || !j->from_gguf) put_u32(j, "general.file_type", types[most].file_type);
    if (changed || !j->from_gguf) put_u32(j, "general.quantization_version", 2);
}

/* ==== >>writer ==================================================================================================== */

static void open_output(job *j)
{
    char *part = text("%s.part", j->output);
    tool.out = fopen(part, "wb");
    if (!tool.out) fail("cannot write %s: %s", part, strerror(errno));
    tool.part = part;
}

static void close_output(job *j)
{
    FILE *f = tool.out;
    long size = ftell(f);
    int bad = ferror(f);
    tool.out = NULL;
    if (fclose(f) != 0 || bad) fail("cannot write %s: %s", j->output, strerror(errno));
    remove(j->output);
    if (rename(tool.part, j->output) != 0) fail("cannot rename %s to %s: %s", tool.part, j->output, strerror(errno));
    tool.part = NULL;
    if (!tool.quiet)
        printf("%s: %ld bytes; %llu weights in %llu bytes, %.2f bits per weight\n", j->output, size, (ull)j->weights,
               (ull)j->stored, 8.0 * (double)j->stored / (double)(j->weights ? j->weights : 1));
}

/* Where an image goes: a file, or memory if that is NULL. */
typedef struct sink { FILE *file; bytes b; } sink;

static void put(void *user, const void *data, size_t n)
{
    sink *s = user;
    if (!s->file) append(&s->b, data, n);
    else if (n && fwrite(data, 1, n, s->file) != n) fail("cannot write: %s", strerror(errno));
}

/* Floats of one row of the output. A vector that changes its pairs is read as rows of one element. */
static void read_row(const source *s, uint64_t row, float *x)
{
    int vector = s->half && s->in.n_dims == 1;
    uint64_t i, at, count = vector ? s->in.dims[0] : 1, group = group_of(s->in.type);
    ltx_mat w; /* the rows that lie together with this one */
    w.type = s->in.type;
    w.rows = (int32_t)group;
    w.cols = vector ? 1 : (int32_t)s->in.dims[0];
    for (i = 0; i < count; i++) {
        at = vector ? i : row;
        if (s->half) at = at / (2 * s->half) * (2 * s->half) + (at & 1) * s->half + at % (2 * s->half) / 2;
        w.data = s->in.data + at / group * ltx_mat_bytes(w.type, w.rows, w.cols);
        ltx_mat_row(&w, (int32_t)(at % group), x + i);
    }
}

static void progress(job *j, uint64_t weights)
{
    int tenth;
    j->done += weights;
    tenth = (int)(10 * j->done / j->weights);
    if (tenth == j->shown || tool.quiet || !ON_TERMINAL() || clock() < 2 * CLOCKS_PER_SEC) return;
    j->shown = tenth;
    fprintf(stderr, "%3d %%\n", 10 * tenth);
}

/* Does type b hold the numbers of type a in other places? */
static int same_numbers(int32_t a, int32_t b)
{
    return (a == LTX_Q8_0 && b == LTX_Q8_X) || (a == LTX_Q4_0 && b == LTX_Q4_X);
}

/* Sixteen rows that lie together, and the same rows in blocks of Q8_0 or Q4_0: copies from one to the other. Together the numbers come first,
   four bytes of each row in turn, then the halves. */
static void regroup(uint8_t *together, uint8_t *apart, size_t blocks, size_t size, uint64_t rows, int back)
{
    uint8_t *halves = together + 16 * blocks * (size - 2), *p, *q;
    size_t r, b, i;
    for (r = 0; r < rows; r++)
        for (b = 0; b < blocks; b++)
            for (i = 0; i < size; i += i ? 4 : 2) {
                p = i ? together + ((b * (size - 2) + i - 2) / 4 * 16 + r) * 4 : halves + (b * 16 + r) * 2;
                q = apart + (r * blocks + b) * size + i;
                memcpy(back ? q : p, back ? p : q, i ? 4 : 2);
            }
}

static void write_regrouped(job *j, gguf_out *out, const source *s)
{
    int back = same_numbers(s->type, s->in.type);
    size_t n = (size_t)s->in.dims[0], size = ltx_row_bytes(s->type, (int32_t)n);
    uint64_t row, rows = count_rows(&s->in), count;
    uint8_t *together = resize(NULL, 16 * size), *apart = resize(NULL, 16 * size);
    for (row = 0; row < rows; row += 16) {
        count = rows - row < 16 ? rows - row : 16;
        memset(together, 0, 16 * size);
        memcpy(back ? together : apart, s->in.data + row * size, (back ? 16 : (size_t)count) * size);
        regroup(together, apart, n / 32, size / (n / 32), count, back);
        gguf_put(out, back ? apart : together, (back ? (size_t)count : 16) * size);
        progress(j, n * count);
    }
    release(together);
    release(apart);
}

static void write_tensor(job *j, gguf_out *out, const source *s)
{
    size_t n = (size_t)s->in.dims[0], i, r, group = (size_t)group_of(s->type), count, size;
    uint64_t row, rows = count_rows(&s->in);
    float *x, limit = types[find_type(s->type)].limit;
    void *packed;
    if (s->type == s->in.type && !s->half) {
        gguf_put(out, s->in.data, (size_t)stored_bytes(s));
        progress(j, n * rows);
        return;
    }
    if ((same_numbers(s->in.type, s->type) || same_numbers(s->type, s->in.type)) && !s->half) {
        write_regrouped(j, out, s);
        return;
    }
    size = ltx_mat_bytes(s->type, (int32_t)group, (int32_t)n);
    x = zeros(group * n, sizeof *x);
    packed = resize(NULL, size);
    for (row = 0; row < rows; row += count) {
        count = rows - row < group ? (size_t)(rows - row) : group;
        for (r = 0; r < count; r++) read_row(s, row + r, x + r * n);
        for (i = 0; i < count * n; i++)
            if (!(fabsf(x[i]) <= limit) || isinf(x[i]))
                fail("tensor %s, row %llu: weight %g, %s goes up to %g", s->in.name, (ull)(row + i / n), (double)x[i],
                     ltx_type_name(s->type), (double)limit);
        if (ltx_mat_encode(s->type, x, (int32_t)count, (int32_t)n, packed))
            fail("tensor %s: cannot make %s", s->in.name, ltx_type_name(s->type));
        gguf_put(out, packed, size);
        progress(j, n * count);
    }
    release(x);
    release(packed);
}

static void write_gguf(job *j, sink *to, const ltx_gguf_kv *kv, size_t n_kv, const source *s, size_t n_sources)
{
    gguf_out out = { put, NULL, 0 };
    uint64_t offset = 0;
    size_t i;
    out.user = to;
    gguf_begin(&out, n_sources, n_kv);
    for (i = 0; i < n_kv; i++) gguf_kv(&out, &kv[i]);
    for (i = 0; i < n_sources; i++) {
        gguf_tensor(&out, s[i].in.name, strlen(s[i].in.name), s[i].in.n_dims, s[i].in.dims, (uint32_t)s[i].type, offset);
        offset += (stored_bytes(&s[i]) + j->alignment - 1) / j->alignment * j->alignment;
    }
    gguf_pad(&out, j->alignment);
    for (i = 0; i < n_sources; i++) {
        write_tensor(j, &out, &s[i]);
        gguf_pad(&out, j->alignment);
    }
}

/* ==== >>c ============================================================================================================
   The model goes through a GGUF image in memory and ltx_gguf_init, so C arrays and files cannot differ. */

static const struct { const char *name; size_t at; } layer_mats[] = { /* in the order of ltx_layer */
#define MAT(field) { #field, offsetof(ltx_layer, field) }
    MAT(attn_norm), MAT(wq), MAT(wk), MAT(wv), MAT(wo), MAT(bq), MAT(bk), MAT(bv), MAT(bo), MAT(q_norm), MAT(k_norm),
    MAT(ffn_norm), MAT(w_gate), MAT(w_up), MAT(w_down), MAT(b_gate), MAT(b_up), MAT(b_down),
    MAT(attn_norm_bias), MAT(ffn_norm_bias), MAT(router), MAT(router_bias), MAT(router_norm),
#undef MAT
};

static void c_bytes(const char *name, const char *part, const void *data, size_t n)
{
    const uint8_t *p = data;
    size_t i, column = 0;
    fprintf(tool.out, "LTX_ARRAY_ALIGN static const unsigned char %s_%s[%llu] = {\n", name, part, (ull)n);
    for (i = 0; i < n; i++) {
        column += (size_t)fprintf(tool.out, "%u%s", p[i], i + 1 < n ? "," : "");
        if (column > 115 && i + 1 < n) fputc('\n', tool.out), column = 0;
    }
    fputs("\n};\n", tool.out);
}

static void c_array(const char *name, const char *part, const ltx_mat *m)
{
    if (m->data) c_bytes(name, part, m->data, ltx_mat_bytes(m->type, m->rows, m->cols));
}

static void c_mat(const char *name, const char *part, const ltx_mat *m, const char *after)
{
    static const struct { int32_t type; const char *name; } names[] = {
        { LTX_F32, "LTX_F32" }, { LTX_F16, "LTX_F16" }, { LTX_BF16, "LTX_BF16" },
        { LTX_Q8_0, "LTX_Q8_0" }, { LTX_Q4_0, "LTX_Q4_0" },
        { LTX_Q4_K, "LTX_Q4_K" }, { LTX_Q5_K, "LTX_Q5_K" }, { LTX_Q6_K, "LTX_Q6_K" },
        { LTX_Q8_X, "LTX_Q8_X" }, { LTX_Q4_X, "LTX_Q4_X" }, { LTX_R8, "LTX_R8" }, { LTX_R4, "LTX_R4" } };
    size_t i;
    for (i = 0; i + 1 < COUNT(names) && names[i].type != m->type; i++) continue;
    if (!m->data) fprintf(tool.out, "{ NULL, 0, 0, 0 }%s", after);
    else fprintf(tool.out, "{ %s_%s, %s, %ld, %ld }%s", name, part, names[i].name, (long)m->rows, (long)m->cols, after);
}

static void c_float(float v)
{
    char s[40];
    sprintf(s, "%.9g", (double)v);
    fprintf(tool.out, "%s%sf, ", s, strpbrk(s, ".e") ? "" : ".0");
}

static const ltx_mat *layer_mat(const ltx_layer *l, size_t i)
{
    return (const ltx_mat *)(const void *)((const char *)l + layer_mats[i].at);
}

static void c_model(const char *name, const ltx_model *m)
{
    FILE *f = tool.out;
    int32_t l;
    size_t i;
    fprintf(f, "\nstatic const ltx_layer %s_layers[%ld] = {\n", name, (long)m->n_layers);
    for (l = 0; l < m->n_layers; l++) {
        fputs("  {\n", f);
        for (i = 0; i < COUNT(layer_mats); i++) {
            fprintf(f, "    /* %-14s */ ", layer_mats[i].name);
            c_mat(name, text("l%ld_%s", (long)l, layer_mats[i].name), layer_mat(&m->layers[l], i),
                  i + 1 < COUNT(layer_mats) ? ",\n" : "\n");
        }
        fputs(l + 1 < m->n_layers ? "  },\n" : "  }\n", f);
    }
    fprintf(f, "};\n\nstatic const ltx_model %s = {\n", name);
    fprintf(f, "  %ld, %ld, %ld, %ld, %ld, /* dim, n_layers, n_heads, n_kv_heads, head_dim */\n", (long)m->dim,
            (long)m->n_layers, (long)m->n_heads, (long)m->n_kv_heads, (long)m->head_dim);
    fprintf(f, "  %ld, %ld, %ld, %ld, %ld, /* vocab, ctx, rope_pairs, rope_dims, act */\n  ", (long)m->vocab,
            (long)m->ctx, (long)m->rope_pairs, (long)m->rope_dims, (long)m->act);
    c_float(m->norm_eps);
    c_float(m->rope_theta);
    c_float(m->rope_scale);
    c_float(m->attn_scale);
    fputs("/* norm_eps, rope_theta, rope_scale, attn_scale */\n  ", f);
    c_mat(name, "rope_factors", &m->rope_factors, ", /* rope_factors */\n  ");
    c_mat(name, "embed", &m->embed, ", /* embed */\n  ");
    c_mat(name, "out_norm", &m->out_norm, ", /* out_norm */\n  ");
    c_mat(name, "head", &m->head, ", /* head */\n  ");
    fprintf(f, "%s_layers,\n  { ", name);
    for (i = 0; i < COUNT(m->exits); i++)
        fprintf(f, "0x%lXu%s", (unsigned long)m->exits[i], i + 1 < COUNT(m->exits) ? ", " : " },");
    fputs(" /* exits */\n", f);
    if (m->n_draft_ids > 0) fprintf(f, "  %s_draft_ids, %ld, /* draft_ids */\n", name, (long)m->n_draft_ids);
    else fputs("  NULL, 0, /* draft_ids */\n", f);
    fprintf(f, "  %ld, %ld, %ld, /* norm, norm_after, both_ways */\n  ", (long)m->norm, (long)m->norm_after, (long)m->both_ways);
    c_mat(name, "out_norm_bias", &m->out_norm_bias, ", /* out_norm_bias */\n  ");
    c_mat(name, "head_bias", &m->head_bias, ", /* head_bias */\n  ");
    c_mat(name, "probes", &m->probes, ", /* probes */\n  ");
    c_mat(name, "probe_bias", &m->probe_bias, ", /* probe_bias */\n  NULL, 0, /* adapters */\n  0, NULL, /* transfers */\n  NULL /* exit_heads */\n};\n");
}

static ltx_model model_of(job *j, const bytes *image)
{
    ltx_blob blob;
    ltx_need need = { 0, 0 };
    ltx_mem mem;
    ltx_log log;
    ltx_model m;
    ltx_result r;
    char *p;
    log.fn = log_event;
    log.user = text("%s", j->input);
    blob.ptr = image->p;
    blob.size = image->n;
    r = ltx_gguf_need(blob, &log, &need);
    if (r) fail("%s: %s", j->input, ltx_result_text(r));
    p = zeros(need.size + need.align, 1);
    mem.ptr = need.align ? p + (need.align - (uintptr_t)p % need.align) : p;
    mem.size = need.size;
    r = ltx_gguf_init(blob, mem, &log, &m);
    if (!r) r = ltx_model_check(&m, &log);
    if (r) fail("%s: %s", j->input, ltx_result_text(r));
    return m;
}

/* A GGUF image of the tokenizer alone, for ltx_vocab_init. */
static ltx_blob tokenizer_image(job *j)
{
    ltx_gguf_kv *list = zeros(j->n_kv + 1, sizeof *list);
    size_t i, n = 0;
    sink image = { NULL, { NULL, 0, 0 } };
    ltx_blob blob;
    for (i = 0; i < j->n_kv; i++)
        if (begins(&j->kv[i], "tokenizer.") || is_key(&j->kv[i], "general.architecture")) list[n++] = j->kv[i];
    write_gguf(j, &image, list, n, NULL, 0);
    blob.ptr = image.b.p;
    blob.size = image.b.n;
    return blob;
}

/* Byte tokenizers need no image in firmware. */
static void c_tokenizer(job *j)
{
    const ltx_gguf_kv *model = find_kv(j, "tokenizer.ggml.model");
    ltx_blob image;
    if (!model || model->count != 5 || memcmp(model->data, "llama", 5) != 0) return;
    image = tokenizer_image(j);
    fputs("\n/* for ltx_vocab_need and ltx_vocab_init */\n", tool.out);
    c_bytes(j->array, "tokenizer", image.ptr, image.size);
}

static void write_c(job *j)
{
    sink image = { NULL, { NULL, 0, 0 } };
    ltx_model m;
    int32_t l;
    size_t i;
    write_gguf(j, &image, j->kv, j->n_kv, j->sources, j->n_sources);
    m = model_of(j, &image.b);
    open_output(j);
    fprintf(tool.out, "/* %s as C arrays, made by ltx-convert. Include ltx.h first; the model is %s. */\n",
            base_name(j->input), j->array);
    fprintf(tool.out, "#ifndef LTX_ARRAY_%s\n#define LTX_ARRAY_%s\n\n", j->array, j->array);
    fputs("#ifndef LTX_ARRAY_ALIGN\n#if defined(__GNUC__)\n#define LTX_ARRAY_ALIGN __attribute__((aligned(16)))\n"
          "#else\n#define LTX_ARRAY_ALIGN\n#endif\n#endif\n\n", tool.out);
    c_array(j->array, "rope_factors", &m.rope_factors);
    c_array(j->array, "embed", &m.embed);
    c_array(j->array, "out_norm", &m.out_norm);
    c_array(j->array, "probes", &m.probes);
    c_array(j->array, "probe_bias", &m.probe_bias);
    c_array(j->array, "head", &m.head);
    for (l = 0; l < m.n_layers; l++)
        for (i = 0; i < COUNT(layer_mats); i++)
            c_array(j->array, text("l%ld_%s", (long)l, layer_mats[i].name), layer_mat(&m.layers[l], i));
    if (m.n_draft_ids > 0) c_bytes(j->array, "draft_ids", m.draft_ids, (size_t)m.n_draft_ids * 4);
    c_model(j->array, &m);
    c_tokenizer(j);
    fputs("\n#endif\n", tool.out);
    close_output(j);
}

/* ==== >>shortlist ====================================================================================================
   ltx.draft_ids: the tokens that a text uses most. A draft that looks only at those saves most of a head. */

static ltx_mem aligned_block(const ltx_need *need)
{
    char *p = zeros(need->size + need->align, 1);
    ltx_mem mem;
    mem.ptr = p + (need->align - (uintptr_t)p % need->align);
    mem.size = need->size;
    return mem;
}

static ltx_vocab *vocab_of(job *j)
{
    ltx_blob image = tokenizer_image(j);
    ltx_need need = { 0, 1 };
    ltx_vocab *v = NULL;
    ltx_log log;
    ltx_result r;
    log.fn = log_event;
    log.user = text("%s", j->input);
    r = ltx_vocab_need(image, &log, &need);
    if (!r) r = ltx_vocab_init(image, aligned_block(&need), &log, &v);
    if (r) fail("--shortlist: %s", ltx_result_text(r));
    return v;
}

/* One document at a time (they end at a blank line), so that the work space stays small. */
static uint64_t count_tokens(const ltx_vocab *v, const char *file, uint64_t *count)
{
    ltx_blob blob = read_file(file);
    const char *p = blob.ptr, *end = p + blob.size, *q;
    uint64_t total = 0;
    for (; p < end; p = q) {
        ltx_need need;
        ltx_mem work;
        int32_t *ids, n = 0, i;
        for (q = p + 1; q < end && !(q[0] == '\n' && q[-1] == '\n') && q - p < 65536; q++) continue;
        if (ltx_encode_need((size_t)(q - p), &need)) fail("%s: too long", file);
        work = aligned_block(&need);
        ids = zeros((size_t)(q - p) + 8, sizeof *ids);
        if (ltx_encode(v, p, (size_t)(q - p), 0, work, ids, (int32_t)(q - p) + 8, &n)) fail("%s: cannot be encoded", file);
        for (i = 0; i < n; i++) count[ids[i]]++;
        total += (uint64_t)n;
        release(ids);
    }
    return total;
}

static const uint64_t *order_by; /* for qsort, which takes no context */
static int by_count(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (order_by[x] != order_by[y]) return order_by[x] < order_by[y] ? 1 : -1;
    return x < y ? -1 : 1;
}
static int by_id(const void *a, const void *b) { return *(const int32_t *)a < *(const int32_t *)b ? -1 : 1; }

static void put_shortlist(job *j)
{
    const ltx_vocab *v = vocab_of(j);
    int32_t vocab = ltx_vocab_size(v), *ids = zeros((size_t)vocab, sizeof *ids), i;
    uint64_t *count = zeros((size_t)vocab, sizeof *count), total = count_tokens(v, j->shortlist, count), covered = 0;
    long size = j->shortlist_size ? strtol(j->shortlist_size, NULL, 10) : 384;
    bytes b = { NULL, 0, 0 };
    if (size < 1 || size > vocab) fail("--shortlist-size %ld: the vocabulary has %ld tokens", size, (long)vocab);
    for (i = 0; i < vocab; i++) ids[i] = i;
    order_by = count;
    qsort(ids, (size_t)vocab, sizeof *ids, by_count);
    for (i = 0; i < size; i++) covered += count[ids[i]];
    qsort(ids, (size_t)size, sizeof *ids, by_id);
    for (i = 0; i < size; i++) append_int(&b, (uint64_t)ids[i], 4);
    put_array(j, "ltx.draft_ids", KV_U32, (uint64_t)size, &b);
    note("shortlist: %ld of %ld tokens cover %.1f %% of %llu in %s", size, (long)vocab,
         100.0 * (double)covered / (double)(total ? total : 1), (ull)total, base_name(j->shortlist));
}

/* ==== >>info ====================================================================================================== */

static void show_string(const uint8_t *p, uint64_t n)
{
    uint64_t i;
    putchar('"');
    for (i = 0; i < n && i < 72; i++) {
        if (p[i] < 0x20 || p[i] == 0x7F) printf("\\x%02X", p[i]);
        else putchar(p[i]);
    }
    printf(n > i ? "...\" (%llu bytes)" : "\"", (ull)n);
}

/* One value; returns its bytes. */
static uint64_t show_value(uint32_t type, const uint8_t *p)
{
    static const uint8_t size[13] = { 1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8 };
    uint64_t v = type < COUNT(size) ? get_int(p, size[type]) : 0;
    double d;
    switch (type) {
    case 0: case 2: case 4: case 10: printf("%llu", (ull)v); break;
    case 1: printf("%d", (int8_t)v); break;
    case 3: printf("%d", (int16_t)v); break;
    case 5: printf("%ld", (long)(int32_t)v); break;
    case 6: printf("%.9g", (double)bits_float((uint32_t)v)); break;
    case 7: fputs(v ? "true" : "false", stdout); break;
    case 8: show_string(p + 8, v); return 8 + v;
    case 11: printf("%lld", (long long)v); break;
    case 12: memcpy(&d, &v, 8); printf("%.17g", d); break;
    default: putchar('?'); break;
    }
    return type < COUNT(size) ? size[type] : 0;
}

static void show_kv(const ltx_gguf_kv *kv)
{
    const uint8_t *p = kv->data;
    uint64_t i;
    printf("  %-40.*s ", (int)kv->key_len, kv->key);
    if (kv->type == KV_STRING) show_string(p, kv->count);
    else if (kv->type != KV_ARRAY) show_value(kv->type, p);
    else {
        printf("%llu x [", (ull)kv->count);
        for (i = 0; i < kv->count && i < 8 && kv->item_type != KV_ARRAY; i++) {
            if (i) fputs(", ", stdout);
            p += show_value(kv->item_type, p);
        }
        fputs(i < kv->count ? ", ...]" : "]", stdout);
    }
    putchar('\n');
}

static void show_info(job *j)
{
    size_t i;
    uint64_t weights = 0, stored = 0, n, size;
    j->input = j->info;
    load(j);
    if (!j->from_gguf) fail("--info %s: not a GGUF file", j->info);
    printf("%s: %llu keys, %llu tensors, alignment %llu\n\nmetadata\n", j->info, (ull)j->n_kv, (ull)j->n_sources,
           (ull)j->alignment);
    for (i = 0; i < j->n_kv; i++) show_kv(&j->kv[i]);
    printf("\n%-42s %5s %18s %11s\n", "tensors", "type", "rows x columns", "bytes");
    for (i = 0; i < j->n_sources; i++) {
        const raw *t = &j->sources[i].in;
        n = count_rows(t) * t->dims[0];
        size = stored_bytes(&j->sources[i]);
        printf("  %-40s %5s %18s %11llu\n", t->name, ltx_type_name(t->type), shape(t->n_dims, t->dims), (ull)size);
        weights += n;
        stored += size;
    }
    printf("\n%llu weights, %llu bytes, %.2f bits per weight\n", (ull)weights, (ull)stored,
           8.0 * (double)stored / (double)(weights ? weights : 1));
}

/* ==== >>main ====================================================================================================== */

enum kind { TEXT, TYPE, LAYERS, SET, QUIET, HELP, VERSION };

static const struct option { const char *name, *arg, *help; enum kind kind; size_t at; } options[] = {
    { "--type", "T", "number format of all matrices: f32 f16 bf16 q8_0 q4_0 q4_k q5_k q6_k q4_k_m q8_x q4_x r8 r4", TYPE,
      offsetof(job, type) },
    { "--type-embed", "T", "of the embedding (and of the head, if they are one)", TYPE,
      offsetof(job, class_type[CLASS_EMBED]) },
    { "--type-head", "T", "of the head", TYPE, offsetof(job, class_type[CLASS_HEAD]) },
    { "--type-attn", "T", "of wq, wk, wv, wo", TYPE, offsetof(job, class_type[CLASS_ATTN]) },
    { "--type-ffn", "T", "of gate, up, down", TYPE, offsetof(job, class_type[CLASS_FFN]) },
    { "--type-layers", "A-B=T", "of all matrices of layers A to B (or A=T); may be repeated", LAYERS, 0 },
    { "--tokenizer", "FILE", "SentencePiece .model, llama2.c tokenizer.bin, or the word bytes", TEXT,
      offsetof(job, tokenizer) },
    { "--config", "FILE", "config.json of a Hugging Face model", TEXT, offsetof(job, config) },
    { "--set", "KEY=V", "a size by hand; may be repeated. Keys are below", SET, 0 },
    { "--exits", "LIST", "layers trained as exits: all, none or 3,7,11 (layer 0 is the first)", TEXT,
      offsetof(job, exits) },
    { "--shortlist", "FILE", "text whose commonest tokens drafts shall look at (ltx.draft_ids)", TEXT,
      offsetof(job, shortlist) },
    { "--shortlist-size", "N", "how many of them; default 384", TEXT, offsetof(job, shortlist_size) },
    { "--name", "TEXT", "general.name; default: the input's file name", TEXT, offsetof(job, name) },
    { "--c-array", "NAME", "write a C header with a static const ltx_model NAME", TEXT, offsetof(job, array) },
    { "--info", "FILE", "show what is in a GGUF file", TEXT, offsetof(job, info) },
    { "--quiet", "", "only errors", QUIET, 0 },
    { "--help", "", "this text", HELP, 0 },
    { "--version", "", "version of ltx.h", VERSION, 0 },
};

static void show_help(void)
{
    size_t i;
    puts("ltx-convert [options] INPUT OUTPUT      make a GGUF file (or C arrays) for ltx.h\n"
         "ltx-convert --info FILE                 show what is in a GGUF file\n\n"
         "INPUT is recognised by its content: safetensors (names of ltx.h's own trainer, or of Hugging Face Llama and\n"
         "Mistral models in one file), a llama2.c checkpoint of version 0, or GGUF. It is read into memory whole.\n");
    for (i = 0; i < COUNT(options); i++) printf("  %-16s %-6s %s\n", options[i].name, options[i].arg, options[i].help);
    puts("\nNumber formats. Without options a matrix keeps the format of the input. The most specific option wins: a\n"
         "layer's (--type-layers) over a class's (--type-embed, -head, -attn, -ffn) over --type; of equals the last.\n"
         "Norms, biases and exit probes are always F32. Rows that are no multiple of 32 become F16 where q8_0, q4_0, q8_x,\n"
         "q4_x, r8 or r4 was asked; no multiple of 256, Q8_0 where q4_k, q5_k or q6_k was. q4_k_m is q4_k with q6_k for the\n"
         "embedding, the head, and attn_v and ffn_down of the layers that matter most, as llama.cpp chooses them. q8_x, q4_x,\n"
         "r8 and r4 are for ltx.h alone: q8_x and q4_x hold the numbers of q8_0 and q4_0 (a GGUF file goes from one to the\n"
         "other and back without loss), r8 and r4 have one scale per row.\n");
    fputs("Sizes come from --set, else --config (else config.json beside a Hugging Face input), else the file's own\n"
          "metadata, else the tensors' shapes. Keys of --set:\n ", stdout);
    for (i = 0; i < K_COUNT; i++) printf(" %s", keys[i].ours);
    puts("\n(rope_pairs: interleaved, or halves, which are reordered. tied: true or false. bos, eos: token numbers.)\n\n"
         "Exits. Default: all for safetensors of ltx.h's trainer, none for llama2.c and Hugging Face, as is for GGUF.\n"
         "Exit probes (model.probes.weight, .bias: tools/train/probes.py) come along as ltx_probes.weight, .bias.\n\n"
         "Examples\n"
         "  ltx-convert --type q8_0 --tokenizer tok.model model.safetensors model.gguf\n"
         "  ltx-convert --tokenizer tok512.bin stories260K.bin stories260K.gguf\n"
         "  ltx-convert --tokenizer tokenizer.model --type q8_0 tinyllama/model.safetensors tinyllama.gguf\n"
         "  ltx-convert --type q4_0 --type-embed q8_0 --type-layers 0=q8_0 --type-layers 10-11=q8_0 big.gguf small.gguf\n"
         "  ltx-convert --type q4_0 --tokenizer bytes --c-array tiny model.safetensors tiny.h\n\n"
         "Exit code: 0 done, 1 the conversion failed and OUTPUT was left alone, 2 the command line is wrong.");
}

static void parse_layers(job *j, const char *arg)
{
    char *end;
    long a = strtol(arg, &end, 10), b = a;
    int32_t type;
    if (end != arg && *end == '-') b = strtol(end + 1, &end, 10);
    if (end == arg || *end != '=' || a < 0 || b < a || b >= LTX_MAX_LAYERS)
        misuse("--type-layers %s: expected A-B=TYPE with 0 <= A <= B < %d", arg, LTX_MAX_LAYERS);
    type = parse_type("--type-layers", end + 1);
    for (; a <= b; a++) j->layer_type[a] = type;
}

static void parse_set(job *j, const char *arg)
{
    const char *eq = strchr(arg, '=');
    char *name = text("%s", arg);
    int k;
    if (!eq) misuse("--set %s: expected KEY=VALUE", arg);
    name[eq - arg] = 0;
    k = find_key(name, 0);
    if (k < 0) misuse("--set %s: there is no such key", arg);
    set_text(j, (enum key)k, eq + 1, FROM_SET, "--set");
}

static void parse_option(job *j, const struct option *o, const char *arg)
{
    char *field = (char *)j + o->at;
    int32_t type;
    switch (o->kind) {
    case TEXT: memcpy(field, &arg, sizeof arg); break;
    case TYPE: type = parse_type(o->name, arg); memcpy(field, &type, sizeof type); break;
    case LAYERS: parse_layers(j, arg); break;
    case SET: parse_set(j, arg); break;
    case QUIET: tool.quiet = 1; break;
    case HELP: show_help(); leave(0);
    case VERSION: printf("ltx-convert %d.%d.%d\n", LTX_VERSION_MAJOR, LTX_VERSION_MINOR, LTX_VERSION_PATCH); leave(0);
    }
}

static void parse_args(job *j, int argc, char **argv)
{
    int i;
    size_t o;
    const char *p;
    for (i = 1; i < argc; i++) {
        if (argv[i][0] != '-' || !argv[i][1]) {
            if (j->output) misuse("\"%s\": INPUT and OUTPUT are already given", argv[i]);
            *(j->input ? &j->output : &j->input) = argv[i];
            continue;
        }
        for (o = 0; o < COUNT(options) && strcmp(argv[i], options[o].name) != 0; o++) continue;
        if (o == COUNT(options)) misuse("\"%s\": there is no such option", argv[i]);
        if (options[o].arg[0] && i + 1 == argc) misuse("%s: %s is missing", argv[i], options[o].arg);
        parse_option(j, &options[o], options[o].arg[0] ? argv[++i] : NULL);
    }
    if (!j->info && !j->output) misuse("expected INPUT and OUTPUT");
    for (p = j->array; p && (*p == '_' || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                             (p > j->array && *p >= '0' && *p <= '9')); p++) continue;
    if (j->array && (*p || p == j->array)) misuse("--c-array %s: expected a C identifier", j->array);
}

int main(int argc, char **argv)
{
    static job j; /* zero */
    size_t i;
    sink out = { NULL, { NULL, 0, 0 } };
    tool.blocks.link.next = tool.blocks.link.prev = &tool.blocks;
    j.type = KEEP;
    j.alignment = 32;
    for (i = 0; i < CLASS_COUNT; i++) j.class_type[i] = NOT_SET;
    for (i = 0; i < LTX_MAX_LAYERS; i++) j.layer_type[i] = NOT_SET;
    parse_args(&j, argc, argv);
    if (j.info) {
        show_info(&j);
        leave(0);
    }
    load(&j);
    if (j.tokenizer) put_tokenizer(&j);
    if (j.exits) put_exits(&j, j.exits);
    if (j.shortlist) put_shortlist(&j);
    if (j.name) put_string(&j, "general.name", j.name);
    choose_types(&j);
    if (j.array) {
        write_c(&j);
    } else {
        open_output(&j);
        out.file = tool.out;
        write_gguf(&j, &out, j.kv, j.n_kv, j.sources, j.n_sources);
        close_output(&j);
    }
    leave(0);
}
