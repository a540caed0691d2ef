#!/usr/bin/env bash
# Checks of tools/ltx-convert.c. Prints "N passed, N failed"; exit code 1 if any failed.
#   CC          C compiler (cc)             CXX  C++ compiler (c++; without one that check is skipped)
#   LTX_SHARED  directory with models/ (../shared beside the repository)
#   FUZZ        damaged inputs per format (20)
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
models=${LTX_SHARED:-$root/../shared}/models
CC=${CC:-cc}
CXX=${CXX:-c++}
FUZZ=${FUZZ:-20}
passed=0
failed=0

if [ ! -f "$models/stories260K.bin" ]; then
    echo "skipped: no models in $models (set LTX_SHARED)"
    exit 0
fi
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
warn="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
sanitize="-g -fsanitize=address,undefined -fno-sanitize-recover=undefined"
export ASAN_OPTIONS=exitcode=99:detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:exitcode=99

# t CODE NAME COMMAND...: passes when the command ends with CODE; CODE 01 = 0 or 1, silent when it passes
t() {
    local want=$1 name=$2 got
    shift 2
    "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    if [ "$got" = "$want" ] || { [ "$want" = 01 ] && [ "$got" -le 1 ]; }; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name: exit code $got, expected $want"
        head -n 12 "$dir/err"
    fi
}

# has NAME PATTERN: the last command of t printed this
has() {
    if cat "$dir/out" "$dir/err" | grep -q -- "$2"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1: expected \"$2\", got \"$(cat "$dir/out" "$dir/err" | head -n 1)\""
    fi
}

# says NAME PATTERN COMMAND...: fails with code 1 and names the trouble
says() {
    local name=$1 pattern=$2
    shift 2
    t 1 "$name" "$@"
    has "$name: message" "$pattern"
}

cat >"$dir/check.c" <<'END'
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(x) do { if (!(x)) { fprintf(stderr, "check.c:%d: %s\n", __LINE__, #x); exit(1); } } while (0)

static ltx_blob read_file(const char *name)
{
    ltx_blob b;
    FILE *f = fopen(name, "rb");
    void *p;
    CHECK(f && fseek(f, 0, SEEK_END) == 0);
    b.size = (size_t)ftell(f);
    rewind(f);
    b.ptr = p = malloc(b.size + 1);
    CHECK(p && fread(p, 1, b.size, f) == b.size);
    fclose(f);
    return b;
}

static int find_tensor(const ltx_gguf *g, const char *name, size_t len, ltx_gguf_tensor *t)
{
    uint64_t at = 0;
    while (ltx_gguf_next_tensor(g, &at, t) == LTX_OK)
        if (t->name_len == len && memcmp(t->name, name, len) == 0) return 1;
    return 0;
}

static int find_kv(const ltx_gguf *g, const char *name, size_t len, ltx_gguf_kv *kv)
{
    uint64_t at = 0;
    while (ltx_gguf_next_kv(g, &at, kv) == LTX_OK)
        if (kv->key_len == len && memcmp(kv->key, name, len) == 0) return 1;
    return 0;
}

static float *floats(const ltx_gguf *g, const ltx_gguf_tensor *t)
{
    ltx_mat w = { (const char *)g->image.ptr + t->offset, (int32_t)t->type, 1, (int32_t)t->dims[0] };
    int32_t r;
    float *x;
    if (t->n_dims > 1) w.rows = (int32_t)t->dims[1];
    CHECK(t->bytes == ltx_mat_bytes(w.type, w.rows, w.cols));
    x = (float *)malloc((size_t)w.rows * (size_t)w.cols * sizeof *x);
    CHECK(x);
    for (r = 0; r < w.rows; r++) CHECK(!ltx_mat_row(&w, r, x + (size_t)r * (size_t)w.cols));
    return x;
}

/* every tensor and (exact) every key of b is in a; values differ by at most `limit` of the tensor's root mean square */
static void same(const char *file_a, const char *file_b, double limit, int keys)
{
    ltx_gguf a, b;
    ltx_gguf_tensor ta, tb;
    ltx_gguf_kv ka, kb;
    uint64_t at = 0, i, n;
    CHECK(!ltx_gguf_open(read_file(file_a), NULL, &a) && !ltx_gguf_open(read_file(file_b), NULL, &b));
    while (ltx_gguf_next_tensor(&b, &at, &tb) == LTX_OK) {
        float *x, *y;
        double worst = 0, squares = 0;
        CHECK(find_tensor(&a, tb.name, tb.name_len, &ta));
        CHECK(ta.n_dims == tb.n_dims && ta.dims[0] == tb.dims[0] && (ta.n_dims < 2 || ta.dims[1] == tb.dims[1]));
        x = floats(&a, &ta);
        y = floats(&b, &tb);
        n = tb.dims[0] * (tb.n_dims > 1 ? tb.dims[1] : 1);
        for (i = 0; i < n; i++) {
            worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
            squares += (double)y[i] * (double)y[i];
        }
        free(x);
        free(y);
        if (worst <= limit * sqrt(squares / (double)n)) continue;
        fprintf(stderr, "%.*s: %g\n", (int)tb.name_len, tb.name, worst / sqrt(squares / (double)n));
        exit(1);
    }
    CHECK(a.n_tensors == b.n_tensors);
    for (at = 0; keys && ltx_gguf_next_kv(&b, &at, &kb) == LTX_OK; ) {
        CHECK(find_kv(&a, kb.key, kb.key_len, &ka));
        if (ka.type != kb.type || ka.item_type != kb.item_type || ka.size != kb.size || memcmp(ka.data, kb.data, kb.size) != 0) {
            fprintf(stderr, "key %.*s differs\n", (int)kb.key_len, kb.key);
            exit(1);
        }
    }
    free((void *)(uintptr_t)a.image.ptr);
    free((void *)(uintptr_t)b.image.ptr);
}

static void put_le(FILE *f, uint64_t v, int n)
{
    while (n-- > 0) { CHECK(fputc((int)(v & 255), f) >= 0); v >>= 8; }
}

/* A GGUF of one tensor: two rows. */
static void make_long(const char *to, unsigned long cols)
{
    static const char name[] = "blk.0.ffn_down.weight";
    unsigned long i;
    FILE *f = fopen(to, "wb");
    CHECK(f && fwrite("GGUF", 1, 4, f) == 4);
    put_le(f, 3, 4); put_le(f, 1, 8); put_le(f, 0, 8); put_le(f, sizeof name - 1, 8);
    CHECK(fwrite(name, 1, sizeof name - 1, f) == sizeof name - 1);
    put_le(f, 2, 4); put_le(f, cols, 8); put_le(f, 2, 8); put_le(f, LTX_F32, 4); put_le(f, 0, 8);
    while (ftell(f) % 32) put_le(f, 0, 1);
    for (i = 0; i < 2 * cols; i++) put_le(f, 0x3f800000u + (uint32_t)i % 97, 4);
    CHECK(fclose(f) == 0);
}

/* Any numbers in the blocks of Q8_0 and Q4_0, also those that no encoder of ours writes; halves as they are. */
static void scramble(const char *in, const char *out)
{
    ltx_gguf g;
    ltx_gguf_tensor t;
    ltx_blob b = read_file(in);
    unsigned char *p = (unsigned char *)(uintptr_t)b.ptr;
    uint64_t at = 0, i, block;
    FILE *f = fopen(out, "wb");
    CHECK(f && !ltx_gguf_open(b, NULL, &g));
    while (ltx_gguf_next_tensor(&g, &at, &t) == LTX_OK) {
        block = ltx_row_bytes((int32_t)t.type, 32);
        if (t.type != LTX_Q8_0 && t.type != LTX_Q4_0) continue;
        for (i = 0; i < t.bytes; i++)
            if (i % block >= 2) p[t.offset + i] = (unsigned char)(i * 2654435761u >> 13);
    }
    CHECK(fwrite(p, 1, b.size, f) == b.size && fclose(f) == 0);
    free(p);
}

static void *block(ltx_need need, ltx_mem *mem)
{
    char *p = (char *)malloc(need.size + need.align + 1);
    CHECK(p);
    mem->ptr = p + (need.align ? (need.align - (uintptr_t)p % need.align) % need.align : 0);
    mem->size = need.size;
    return p;
}

/* opens as a model with a vocab; a text survives encoding and decoding */
static void model(const char *file, const char *exits)
{
    static const char phrase[] = "Once upon a time, there was a little cat.\nZ\xC3\xBCrich!";
    ltx_blob image = read_file(file);
    ltx_need need;
    ltx_mem mem, vocab_mem, work;
    ltx_model m;
    ltx_vocab *v;
    int32_t tokens[256], n, i, len = 0, bits = 0;
    char out[512];
    void *p, *q, *w;
    CHECK(!ltx_gguf_need(image, NULL, &need));
    p = block(need, &mem);
    CHECK(!ltx_gguf_init(image, mem, NULL, &m) && !ltx_model_check(&m, NULL));
    CHECK(!ltx_vocab_need(image, NULL, &need));
    q = block(need, &vocab_mem);
    CHECK(!ltx_vocab_init(image, vocab_mem, NULL, &v));
    CHECK(ltx_vocab_size(v) == m.vocab && ltx_vocab_bos(v) >= 0);
    CHECK(!ltx_encode_need(sizeof phrase - 1, &need));
    w = block(need, &work);
    CHECK(!ltx_encode(v, phrase, sizeof phrase - 1, 0, work, tokens, 256, &n));
    for (i = 0; i < n; i++) len += ltx_piece(v, tokens[i], i == 0, out + len, 512 - len);
    CHECK(len == (int32_t)sizeof phrase - 1 && memcmp(out, phrase, sizeof phrase - 1) == 0);
    for (i = 0; i < m.n_layers; i++) bits += (int32_t)(m.exits[i / 32] >> (i % 32) & 1);
    CHECK(bits == atoi(exits));
    free(p);
    free(q);
    free(w);
    free((void *)(uintptr_t)image.ptr);
}

/* Writes the tensors of a GGUF under Hugging Face names: q and k in halves, biases for q and k that count in GGUF's order. */
typedef struct hf { const char *gguf, *hf; int heads; } hf;
static const hf names[] = { /* heads 1: of q, 2: of k and v */
    { "attn_norm.weight", "input_layernorm.weight", 0 }, { "attn_q.weight", "self_attn.q_proj.weight", 1 },
    { "attn_k.weight", "self_attn.k_proj.weight", 2 }, { "attn_v.weight", "self_attn.v_proj.weight", 0 },
    { "attn_output.weight", "self_attn.o_proj.weight", 0 }, { "ffn_norm.weight", "post_attention_layernorm.weight", 0 },
    { "ffn_gate.weight", "mlp.gate_proj.weight", 0 }, { "ffn_up.weight", "mlp.up_proj.weight", 0 },
    { "ffn_down.weight", "mlp.down_proj.weight", 0 } };

static size_t from_halves(size_t r, size_t head) { return r / head * head + (r % head / (head / 2)) + 2 * (r % (head / 2)); }

static void hf_tensor(FILE *f, FILE *head, long *at, const char *name, int32_t type, const float *x, size_t rows, size_t cols, size_t rotate)
{
    char raw[4096];
    size_t r, size = ltx_row_bytes(type, (int32_t)cols);
    long end = *at + (long)(rows * size);
    CHECK(size <= sizeof raw);
    fprintf(head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", *at ? "," : "", name, ltx_type_name(type));
    if (rows > 1) fprintf(head, "%d,", (int)rows);
    fprintf(head, "%d],\"data_offsets\":[%ld,%ld]}", (int)cols, *at, end);
    for (r = 0; r < rows; r++) {
        ltx_quantize(type, x + (rotate ? from_halves(r, rotate) : r) * cols, (int32_t)cols, raw);
        CHECK(fwrite(raw, 1, size, f) == size);
    }
    *at = end;
}

static void hf_layer(FILE *f, FILE *head, long *at, const ltx_gguf *g, int layer, int32_t type, int bias)
{
    char name[100];
    size_t i, k;
    ltx_gguf_tensor t;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        float *x, counted[64];
        sprintf(name, "blk.%d.%s", layer, names[i].gguf);
        CHECK(find_tensor(g, name, strlen(name), &t));
        x = floats(g, &t);
        sprintf(name, "model.layers.%d.%s", layer, names[i].hf);
        hf_tensor(f, head, at, name, type, x, t.n_dims > 1 ? (size_t)t.dims[1] : 1, (size_t)t.dims[0], names[i].heads ? 8 : 0);
        free(x);
        if (!bias || !names[i].heads) continue;
        for (k = 0; k < t.dims[1]; k++) counted[k] = (float)from_halves(k, 8);
        strcpy(strrchr(name, '.'), ".bias");
        hf_tensor(f, head, at, name, type, counted, 1, (size_t)t.dims[1], 0);
    }
}

static void make_hf(const char *from, const char *to, const char *type_name, int bias)
{
    ltx_gguf g;
    ltx_gguf_tensor t;
    int32_t type = strcmp(type_name, "F32") == 0 ? LTX_F32 : strcmp(type_name, "F16") == 0 ? LTX_F16 : LTX_BF16;
    static const char *const ends[2][2] = { { "token_embd.weight", "model.embed_tokens.weight" }, { "output_norm.weight", "model.norm.weight" } };
    FILE *data = tmpfile(), *head = tmpfile(), *f = fopen(to, "wb");
    long at = 0, n;
    int i, c;
    CHECK(data && head && f && !ltx_gguf_open(read_file(from), NULL, &g));
    fputs("{", head);
    for (i = 0; i < 2; i++) {
        float *x;
        CHECK(find_tensor(&g, ends[i][0], strlen(ends[i][0]), &t));
        x = floats(&g, &t);
        hf_tensor(data, head, &at, ends[i][1], type, x, t.n_dims > 1 ? (size_t)t.dims[1] : 1, (size_t)t.dims[0], 0);
        free(x);
    }
    for (i = 0; i < 5; i++) hf_layer(data, head, &at, &g, i, type, bias);
    fputs(",\"__metadata__\":{\"format\":\"p\\u0074 \\ud83d\\ude00\"}}", head);
    n = ftell(head);
    for (i = 0; i < 8; i++) fputc((int)(n >> 8 * i & 0xFF), f);
    for (rewind(head); (c = getc(head)) != EOF; ) putc(c, f);
    for (rewind(data); (c = getc(data)) != EOF; ) putc(c, f);
    CHECK(fclose(f) == 0);
    fclose(head);
    fclose(data);
    free((void *)(uintptr_t)g.image.ptr);
}

static void check_bias(const char *file)
{
    ltx_gguf g;
    ltx_gguf_tensor t;
    size_t i;
    float *x;
    CHECK(!ltx_gguf_open(read_file(file), NULL, &g) && find_tensor(&g, "blk.4.attn_k.bias", 17, &t) && t.type == LTX_F32);
    x = floats(&g, &t);
    for (i = 0; i < t.dims[0]; i++) CHECK(x[i] == (float)i);
    free(x);
    free((void *)(uintptr_t)g.image.ptr);
}

static float probe(int32_t i) { return (float)(i * 37 % 101 - 50) / 64; } /* no number format but F32 and F16 keeps all of these */

/* A safetensors file with exit probes more: the vectors (rows > 0), their biases. */
static void add_probes(const char *from, const char *to, int32_t rows, int32_t cols, int bias)
{
    ltx_blob b = read_file(from);
    const unsigned char *p = (const unsigned char *)b.ptr;
    size_t head = p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16, at = b.size - 8 - head;
    char entries[400] = "{";
    int32_t i;
    FILE *f = fopen(to, "wb");
    CHECK(f && p[8] == '{');
    if (rows > 0) sprintf(entries + 1, "\"model.probes.weight\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%lu,%lu]},", (int)rows, (int)cols,
                          (unsigned long)at, (unsigned long)(at + (size_t)(rows * cols) * 4));
    if (bias > 0) sprintf(strchr(entries, 0), "\"model.probes.bias\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%lu,%lu]},", bias,
                          (unsigned long)(at + (size_t)(rows * cols) * 4), (unsigned long)(at + (size_t)(rows * cols + bias) * 4));
    put_le(f, head - 1 + strlen(entries), 8);
    CHECK(fputs(entries, f) >= 0 && fwrite(p + 9, 1, b.size - 9, f) == b.size - 9);
    for (i = 0; i < rows * cols + bias; i++) {
        float x = probe(i);
        uint32_t bits;
        memcpy(&bits, &x, 4);
        put_le(f, bits, 4);
    }
    CHECK(fclose(f) == 0);
    free((void *)(uintptr_t)b.ptr);
}

/* The probes that add_probes wrote, as the library reads them. */
static void check_probes(const char *file)
{
    ltx_blob image = read_file(file);
    ltx_need need;
    ltx_mem mem;
    ltx_model m;
    float x[128];
    int32_t l, i;
    void *p;
    CHECK(!ltx_gguf_need(image, NULL, &need));
    p = block(need, &mem);
    CHECK(!ltx_gguf_init(image, mem, NULL, &m) && !ltx_model_check(&m, NULL));
    CHECK(m.probes.type == LTX_F32 && m.probes.rows == 12 && m.probes.cols == 128 && m.probe_bias.type == LTX_F32 && m.probe_bias.cols == 12);
    for (l = 0; l < 12; l++) {
        CHECK(!ltx_mat_row(&m.probes, l, x));
        for (i = 0; i < 128; i++) CHECK(x[i] == probe(l * 128 + i));
    }
    CHECK(!ltx_mat_row(&m.probe_bias, 0, x));
    for (l = 0; l < 12; l++) CHECK(x[l] == probe(12 * 128 + l));
    free(p);
    free((void *)(uintptr_t)image.ptr);
}

/* A llama2.c checkpoint whose rows are super-blocks, but for w_down if ffn is no multiple of 256. */
static void make_wide(const char *to, int32_t layers, int32_t ffn)
{
    static const int32_t heads = 4, dim = 256, vocab = 300;
    int32_t head[7] = { dim, ffn, layers, heads, 1, vocab, 64 };
    size_t layer = 2 * 256 + 256 * (512 + 2 * 64) + 3 * 256 * (size_t)ffn, n = (size_t)vocab * 256 + (size_t)layers * layer + 256 + 64 * 64, i;
    uint64_t s = 1;
    FILE *f = fopen(to, "wb");
    CHECK(f && fwrite(head, 4, 7, f) == 7);
    for (i = 0; i < n; i++) {
        float x;
        s = s * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        x = (float)((double)(s >> 40) / 16777216.0 - 0.5) / 8;
        CHECK(fwrite(&x, 4, 1, f) == 1);
    }
    CHECK(fclose(f) == 0);
}

static size_t below(uint64_t *state, size_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)(*state >> 33) % n;
}

/* Damages a copy as the seed says; most damage goes near the front, where the structure is. */
static void damage(const char *from, const char *to, unsigned long seed)
{
    static const unsigned char nasty[] = { 0x00, 0xFF, 0x7F, 0x80, '"', '}', '[', '9', '-', 0x01 };
    ltx_blob b = read_file(from);
    unsigned char *p = (unsigned char *)(uintptr_t)b.ptr;
    uint64_t s = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    size_t n = b.size, i, at, spots = 1 + below(&s, 3);
    FILE *f = fopen(to, "wb");
    if (below(&s, 4) == 0) n = below(&s, below(&s, 2) || n < 4000 ? n : 4000);
    for (i = 0; n && i < spots; i++) {
        at = below(&s, below(&s, 2) || n < 600 ? n : 600);
        p[at] = nasty[below(&s, sizeof nasty)];
    }
    CHECK(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
    free(p);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 4);
    if (strcmp(argv[1], "same") == 0) same(argv[2], argv[3], 0, 1);
    else if (strcmp(argv[1], "near") == 0 && argc > 4) same(argv[2], argv[3], atof(argv[4]), 0);
    else if (strcmp(argv[1], "model") == 0) model(argv[2], argv[3]);
    else if (strcmp(argv[1], "hf") == 0 && argc > 5) make_hf(argv[2], argv[3], argv[4], atoi(argv[5]));
    else if (strcmp(argv[1], "bias") == 0) check_bias(argv[2]);
    else if (strcmp(argv[1], "probes") == 0) check_probes(argv[2]);
    else if (strcmp(argv[1], "add-probes") == 0 && argc > 6) add_probes(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), atoi(argv[6]));
    else if (strcmp(argv[1], "long") == 0 && argc > 3) make_long(argv[2], strtoul(argv[3], NULL, 10));
    else if (strcmp(argv[1], "scramble") == 0 && argc > 3) scramble(argv[2], argv[3]);
    else if (strcmp(argv[1], "wide") == 0 && argc > 4) make_wide(argv[2], atoi(argv[3]), atoi(argv[4]));
    else if (strcmp(argv[1], "damage") == 0 && argc > 4) damage(argv[2], argv[3], strtoul(argv[4], NULL, 10));
    else return 2;
    return 0;
}
END

cat >"$dir/array.c" <<'END'
#ifdef WITH_IMPLEMENTATION
#define LTX_IMPLEMENTATION
#endif
#include "ltx.h"
#include "tiny.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int same(const ltx_mat *a, const ltx_mat *b)
{
    return a->type == b->type && a->rows == b->rows && a->cols == b->cols && !a->data == !b->data &&
           (!a->data || memcmp(a->data, b->data, ltx_mat_bytes(a->type, a->rows, a->cols)) == 0);
}

int main(int argc, char **argv)
{
    static char image[20000000], layers[400000];
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    ltx_blob blob;
    ltx_need need;
    ltx_mem mem;
    ltx_model m;
    size_t i, l;
    if (!f) return 2;
    blob.ptr = image;
    blob.size = fread(image, 1, sizeof image, f);
    fclose(f);
    if (ltx_model_check(&tiny, NULL) || ltx_gguf_need(blob, NULL, &need) || need.size + 64 > sizeof layers) return 3;
    mem.ptr = layers + (64 - (uintptr_t)layers % 64);
    mem.size = need.size;
    if (ltx_gguf_init(blob, mem, NULL, &m)) return 4;
    if (memcmp(&m, &tiny, offsetof(ltx_model, rope_factors)) != 0 || memcmp(m.exits, tiny.exits, sizeof m.exits) != 0) return 5;
    if (!same(&m.probes, &tiny.probes) || !same(&m.probe_bias, &tiny.probe_bias)) return 10;
    if (!same(&m.embed, &tiny.embed) || !same(&m.out_norm, &tiny.out_norm) || !same(&m.head, &tiny.head)) return 6;
    for (l = 0; l < (size_t)m.n_layers; l++)
        for (i = 0; i < sizeof(ltx_layer) / sizeof(ltx_mat); i++)
            if (!same((const ltx_mat *)(const void *)&m.layers[l] + i, (const ltx_mat *)(const void *)&tiny.layers[l] + i)) return 7;
#ifdef WITH_TOKENS
    blob.ptr = tiny_tokenizer;
    blob.size = sizeof tiny_tokenizer;
    if (ltx_vocab_need(blob, NULL, &need)) return 8;
    {
        ltx_vocab *v;
        mem.ptr = malloc(mem.size = need.size);
        if (ltx_vocab_init(blob, mem, NULL, &v) || ltx_vocab_size(v) != m.vocab) return 9;
        free(mem.ptr);
    }
#endif
    return 0;
}
END

c=$dir/ltx-convert
if ! $CC $sanitize -x c - -o "$dir/probe" <<<'int main(void) { return 0; }' 2>/dev/null; then sanitize=; fi
t 0 "build the converter without warnings" $CC -std=c99 -O1 $warn $sanitize -o "$c" "$root/tools/ltx-convert.c" -lm
t 0 "build the checks" $CC -std=c99 -O0 $warn $sanitize -I"$root" -o "$dir/check" "$dir/check.c" -lm
[ "$failed" = 0 ] || { echo "$passed passed, $failed failed"; exit 1; }
k=$dir/check
cd "$dir" || exit 1

# llama2.c, against a GGUF that another program made
t 0 "llama2.c to F32" $c --tokenizer "$models/tok512.bin" "$models/stories260K.bin" s.gguf
t 0 "llama2.c: all tensors and keys of the reference GGUF" $k same s.gguf "$models/stories260K-F32.gguf"
t 0 "llama2.c: opens, text survives" $k model s.gguf 0
t 0 "llama2.c again" $c --tokenizer "$models/tok512.bin" "$models/stories260K.bin" s2.gguf
t 0 "the same bytes again" cmp s.gguf s2.gguf
t 0 "llama2.c to Q8_0" $c --type q8_0 --tokenizer "$models/tok512.bin" "$models/stories260K.bin" s8.gguf
has "a note on rows that are no multiple of 32" 'F16 for 5 tensors.*ffn_down'
t 0 "Q8_0 is near" $k near s8.gguf s.gguf 0.05
t 0 "Q8_0 opens" $k model s8.gguf 0

bin=$models/stories260K.bin
{ head -c 20 "$bin"; printf '\000\376\377\377'; tail -c +25 "$bin"; tail -c +29 "$bin" | head -c 131072; } >untied.bin
t 0 "llama2.c with a head of its own" $c --type-head q8_0 --tokenizer "$models/tok512.bin" untied.bin untied.gguf
t 0 "untied: opens" $k model untied.gguf 0
t 0 "untied: info" $c --info untied.gguf
has "untied: head" ' output.weight *Q8_0 *512x64'
{ head -c 28 "$bin"; printf '\000\000\300\177'; tail -c +33 "$bin"; } >nan.bin
says "a weight that is no number" "token_embd.weight, row 0: weight nan" $c --type f16 nan.bin y.gguf
says "too few bytes for byte tokens" "expected at least 256" $c --set vocab=100 --tokenizer bytes s.gguf y.gguf

# GGUF to GGUF
t 0 "GGUF copied" $c s.gguf copy.gguf
t 0 "the same bytes" cmp s.gguf copy.gguf
t 0 "quantized GGUF copied" $c s8.gguf copy.gguf
t 0 "the same bytes, quantized" cmp s8.gguf copy.gguf
t 0 "a GGUF of another program copied" $c "$models/stories260K-F32.gguf" copy.gguf
t 0 "the same bytes, another program's" cmp "$models/stories260K-F32.gguf" copy.gguf
t 0 "GGUF requantized" $c --type q8_0 s.gguf copy.gguf
t 0 "as if converted at once" $k same copy.gguf s8.gguf
t 0 "over itself" $c --type f16 copy.gguf copy.gguf
t 0 "F16 opens" $k model copy.gguf 0
t 0 "mixed formats" $c --type q4_0 --type-embed q8_0 --type-ffn f16 --type-attn bf16 --type-layers 0-2=f32 --type-layers 2=q8_0 s.gguf mix.gguf
t 0 "mixed formats: info" $c --info mix.gguf
for p in 'token_embd.weight *Q8_0' 'blk.0.ffn_up.weight *F32' 'blk.1.attn_q.weight *F32' 'blk.2.attn_q.weight *Q8_0' \
         'blk.2.ffn_down.weight *F16' 'blk.3.ffn_up.weight *F16' 'blk.3.attn_q.weight *BF16' 'blk.4.attn_norm.weight *F32' \
         'general.name *"stories260K"' 'tokenizer.ggml.tokens *512 x'; do
    has "mixed formats" "$p"
done
t 0 "mixed formats open" $k model mix.gguf 0
t 0 "exits added" $c --exits 3,1 --name other s.gguf e.gguf
t 0 "exits read" $k model e.gguf 2
t 0 "exits removed" $c --exits none e.gguf e2.gguf
t 0 "no exits read" $k model e2.gguf 0

# K formats: 256 elements a super-block
t 0 "make a wide model" $k wide wide.bin 8 256
t 0 "wide F32" $c --tokenizer bytes wide.bin wide.gguf
for type in q4_k:0.25 q5_k:0.13 q6_k:0.07; do
    t 0 "wide ${type%:*}" $c --type "${type%:*}" --tokenizer bytes wide.bin wide.${type%:*}.gguf
    t 0 "wide ${type%:*} is near" $k near wide.${type%:*}.gguf wide.gguf "${type#*:}"
    t 0 "wide ${type%:*} opens" $k model wide.${type%:*}.gguf 0
done
t 0 "K format copied" $c wide.q5_k.gguf copy.gguf
t 0 "the same bytes, K format" cmp wide.q5_k.gguf copy.gguf
t 0 "K format to another" $c --type q8_0 wide.q6_k.gguf copy.gguf
t 0 "K format to another is near" $k near copy.gguf wide.gguf 0.08
t 0 "mixture" $c --type Q4_K_M --tokenizer bytes wide.bin m.gguf
t 0 "mixture opens" $k model m.gguf 0
t 0 "mixture: info" $c --info m.gguf
for p in 'general.file_type *15$' 'token_embd.weight *Q6_K *300x256' 'attn_norm.weight *F32' 'blk.0.attn_q.weight *Q4_K' 'blk.3.ffn_up.weight *Q4_K'; do
    has "mixture" "$p"
done
for layer in 0:Q6_K 1:Q4_K 2:Q4_K 3:Q6_K 4:Q4_K 5:Q4_K 6:Q6_K 7:Q6_K; do # of eight: the first, the last, 3 and 6
    has "mixture, layer $layer" "blk.${layer%:*}.attn_v.weight *${layer#*:}"
    has "mixture, layer $layer" "blk.${layer%:*}.ffn_down.weight *${layer#*:}"
done
t 0 "mixture of some tensors" $c --type q8_0 --type-ffn q4_k_m --type-layers 2=q5_k wide.gguf m.gguf
t 0 "mixture of some tensors: info" $c --info m.gguf
for p in 'token_embd.weight *Q8_0' 'blk.0.attn_v.weight *Q8_0' 'blk.0.ffn_down.weight *Q6_K' 'blk.1.ffn_down.weight *Q4_K' 'blk.2.attn_v.weight *Q5_K'; do
    has "mixture of some tensors" "$p"
done
t 0 "make a model with odd rows" $k wide odd.bin 2 320
t 0 "odd rows" $c --type q4_k --tokenizer bytes odd.bin odd.gguf
has "odd rows: message" 'Q8_0 for 2 tensors whose rows are no multiple of 256: blk.0.ffn_down.weight (256x320) and more'
t 0 "odd rows open" $k model odd.gguf 0
t 0 "odd rows: info" $c --info odd.gguf
has "odd rows" 'blk.1.ffn_down.weight *Q8_0'
has "odd rows" 'blk.1.ffn_up.weight *Q4_K'
t 0 "narrow rows" $c --type q6_k --type-ffn q4_k s.gguf y.gguf
has "narrow rows: message" 'F16 for 5 tensors whose rows are no multiple of 32: blk.0.ffn_down.weight (64x172) and more'
has "narrow rows: message" 'Q8_0 for 31 tensors whose rows are no multiple of 256: token_embd.weight (512x64) and more'
t 0 "C arrays, K formats" $c --tokenizer bytes --type q4_k_m --c-array tiny odd.bin tiny.h
t 0 "C arrays, K formats: the same as GGUF" $c --tokenizer bytes --type q4_k_m odd.bin tiny.gguf
t 0 "C arrays, K formats in C99" $CC -std=c99 -O0 $warn $sanitize -DWITH_IMPLEMENTATION -I"$root" -I. -o array array.c -lm
t 0 "C arrays, K formats equal the GGUF" ./array tiny.gguf
rm -f y.gguf

# sixteen rows together: formats of ltx.h's own
for type in q8_x:0.06 q4_x:0.6 r8:0.06 r4:0.6; do
    t 0 "wide ${type%:*}" $c --type "${type%:*}" --type-layers 1=f16 --tokenizer bytes wide.bin wide.${type%:*}.gguf
    t 0 "wide ${type%:*} is near" $k near wide.${type%:*}.gguf wide.gguf "${type#*:}"
    t 0 "wide ${type%:*} opens" $k model wide.${type%:*}.gguf 0
    t 0 "wide ${type%:*} copied" $c wide.${type%:*}.gguf copy.gguf
    t 0 "the same bytes, ${type%:*}" cmp wide.${type%:*}.gguf copy.gguf
    t 0 "wide ${type%:*} read" $c --type f32 wide.${type%:*}.gguf copy.gguf
    t 0 "wide ${type%:*} read: the same numbers" $k near copy.gguf wide.${type%:*}.gguf 0
done
for type in q8 q4; do # 300 rows of embedding: the last sixteen are not full
    t 0 "wide ${type}_0" $c --type ${type}_0 --tokenizer bytes wide.bin 0.gguf
    t 0 "wide ${type}_x" $c --type ${type}_x --tokenizer bytes wide.bin x.gguf
    t 0 "${type}_0 to ${type}_x" $c --type ${type}_x 0.gguf copy.gguf
    t 0 "${type}_0 to ${type}_x: as if converted at once" cmp copy.gguf x.gguf
    t 0 "${type}_x back to ${type}_0" $c --type ${type}_0 x.gguf copy.gguf
    t 0 "${type}_x back to ${type}_0: the same bytes" cmp copy.gguf 0.gguf
    t 0 "any ${type}_0" $k scramble 0.gguf any.gguf
    t 0 "any ${type}_0 to ${type}_x" $c --type ${type}_x any.gguf x.gguf
    t 0 "any ${type}_0 to ${type}_x: the same numbers" $k near x.gguf any.gguf 0
    t 0 "any ${type}_x back to ${type}_0" $c --type ${type}_0 x.gguf copy.gguf
    t 0 "any ${type}_x back to ${type}_0: the same bytes" cmp copy.gguf any.gguf
done
t 0 "classes and layers" $c --type R4 --type-embed r8 --type-attn q8_x --type-layers 3=q4_x --type-layers 4=q6_k wide.gguf m.gguf
t 0 "classes and layers open" $k model m.gguf 0
t 0 "classes and layers: info" $c --info m.gguf
for p in 'general.file_type *1104$' 'token_embd.weight *R8 *300x256 *79040' 'blk.0.ffn_up.weight *R4 ' 'blk.1.attn_q.weight *Q8_X ' \
         'blk.3.attn_q.weight *Q4_X' 'blk.4.ffn_up.weight *Q6_K' 'attn_norm.weight *F32'; do
    has "classes and layers" "$p"
done
t 0 "narrow rows, R8" $c --type r8 s.gguf y.gguf
has "narrow rows, R8: message" 'F16 for 5 tensors whose rows are no multiple of 32: blk.0.ffn_down.weight (64x172) and more'
t 0 "narrow rows, R8: info" $c --info y.gguf
has "narrow rows, R8" 'blk.1.ffn_down.weight *F16'
has "narrow rows, R8" 'blk.1.ffn_up.weight *R8'
t 0 "make a tensor of long rows" $k long long.gguf 131072
t 0 "long rows" $c --type r8 long.gguf y.gguf
t 0 "long rows: info" $c --info y.gguf
has "long rows" 'ffn_down.weight *R8 *2x131072'
t 0 "make a tensor of too long rows" $k long long.gguf 131104
t 0 "too long rows" $c --type r4 long.gguf y.gguf
has "too long rows: message" 'Q8_0 for 1 tensors whose rows are longer than 131072: blk.0.ffn_down.weight (2x131104)'
t 0 "too long rows: info" $c --info y.gguf
has "too long rows" 'ffn_down.weight *Q8_0 *2x131104'
rm -f long.gguf
t 0 "C arrays, R4" $c --tokenizer bytes --type r4 --type-embed r8 --type-attn q8_x --c-array tiny odd.bin tiny.h
t 0 "C arrays, R4: the same as GGUF" $c --tokenizer bytes --type r4 --type-embed r8 --type-attn q8_x odd.bin tiny.gguf
t 0 "C arrays, R4, in C99" $CC -std=c99 -O0 $warn $sanitize -DWITH_IMPLEMENTATION -I"$root" -I. -o array array.c -lm
t 0 "C arrays, R4, equal the GGUF" ./array tiny.gguf
says "R8 of a weight that is no number" "token_embd.weight, row 0: weight nan" $c --type r8 nan.bin y.gguf
rm -f y.gguf

# Hugging Face names and pairs
cat >config.json <<'END'
{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": null,
 "intermediate_size": 172, "vocab_size": 512, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 1.0e4,
 "rope_scaling": null, "hidden_act": "silu", "tie_word_embeddings": true, "eos_token_id": [2, 7], "architectures": ["x", {"y": []}]}
END
t 0 "make F32 with Hugging Face names" $k hf s.gguf hf.safetensors F32 0
t 0 "Hugging Face F32" $c --name stories260K --tokenizer "$models/tok512.bin" hf.safetensors hf.gguf
$c --quiet --tokenizer "$models/tok512.bin" "$models/stories260K.bin" hf.bin.gguf
t 0 "Hugging Face: all tensors and keys of the reference GGUF" $k same hf.gguf "$models/stories260K-F32.gguf"
for type in F16 BF16; do
    t 0 "make $type" $k hf s.gguf "hf$type.safetensors" $type 1
    t 0 "Hugging Face $type" $c --tokenizer "$models/tok512.bin" --type f32 "hf$type.safetensors" hfb.gguf
    t 0 "Hugging Face $type: pairs of biases" $k bias hfb.gguf -
    t 0 "Hugging Face $type opens" $k model hfb.gguf 0
done
mkdir -p alone && cp hf.safetensors alone/
says "no config" "n_heads is not known" $c alone/hf.safetensors x.gguf
t 0 "--set instead of a config" $c --set n_heads=8 --set bos=1 --tokenizer "$models/tok512.bin" alone/hf.safetensors x.gguf
t 0 "--set: tensors" $k near x.gguf s.gguf 0
t 0 "pairs as they are" $c --set rope_pairs=interleaved hf.safetensors x.gguf
t 1 "must differ" $k near x.gguf s.gguf 0.1
says "wrong size" "q_proj.weight is 64x64, expected 128x64" $c --set n_heads=8 --set head_dim=16 alone/hf.safetensors y.gguf
echo '{"model_type": "gemma"}' >gemma.json
says "other architecture" 'model_type is "gemma"' $c --config gemma.json hf.safetensors y.gguf
echo '{"rope_scaling": {"rope_type": "llama3", "factor": 8}}' >scaled.json
says "scaled rope" 'rope_type is "llama3"' $c --config scaled.json hf.safetensors y.gguf
echo '{"a": [1, 2,]}' >comma.json
says "broken JSON" "comma before" $c --config comma.json hf.safetensors y.gguf

# our own safetensors
if [ -f "$models/stories-ls/model.safetensors" ]; then
    for type in q8_0 q4_0 f32; do
        t 0 "stories-ls $type" $c --type $type --tokenizer "$models/stories-ls/tok.model" "$models/stories-ls/model.safetensors" ls.$type.gguf
        t 0 "stories-ls $type opens, 12 exits" $k model ls.$type.gguf 12
    done
    t 0 "stories-ls Q8_0 is near" $k near ls.q8_0.gguf ls.f32.gguf 0.06
    t 0 "stories-ls Q4_0 is near" $k near ls.q4_0.gguf ls.f32.gguf 1.2
    t 0 "tokenizer smaller than the model" $c --tokenizer "$models/tok512.bin" ls.q8_0.gguf pad.gguf
    has "padded" "512 tokens, the model 2048"
    t 0 "padded: opens" $k model pad.gguf 12
    says "tokenizer too large" "2048 tokens, the model has 512" $c --tokenizer "$models/stories-ls/tok.model" s.gguf y.gguf
fi
if [ -f "$models/stories-bytes/model.safetensors" ]; then
    t 0 "stories-bytes" $c --type q4_0 --tokenizer bytes "$models/stories-bytes/model.safetensors" by.gguf
    t 0 "stories-bytes opens" $k model by.gguf 12
    t 0 "stories-bytes info" $c --info by.gguf
    has "bytes: model" 'tokenizer.ggml.model *"ltx-bytes"'
    has "bytes: BOS" 'tokenizer.ggml.bos_token_id *256'
    bytes=$models/stories-bytes/model.safetensors
    t 0 "add exit probes" $k add-probes "$bytes" probes.safetensors 12 128 12
    t 0 "probes" $c --type q4_0 --tokenizer bytes probes.safetensors p.gguf
    t 0 "probes: as they were" $k probes p.gguf -
    t 0 "probes opens" $k model p.gguf 12
    t 0 "probes, GGUF to GGUF" $c --type q8_0 p.gguf p8.gguf
    t 0 "probes, GGUF to GGUF: as they were" $k probes p8.gguf -
    t 0 "probes, C arrays" $c --type q4_0 --tokenizer bytes --c-array tiny probes.safetensors tiny.h
    t 0 "probes, C arrays in C99" $CC -std=c99 -O0 $warn $sanitize -DWITH_IMPLEMENTATION -I"$root" -I. -o array array.c -lm
    t 0 "probes, C arrays equal the GGUF" ./array p.gguf
    $k add-probes "$bytes" bad.safetensors 11 128 12
    says "too few probes" "model.probes.weight is 11x128, expected 12x128" $c --tokenizer bytes bad.safetensors y.gguf
    $k add-probes "$bytes" bad.safetensors 12 128 11
    says "too few biases" "model.probes.bias is 11, expected 12" $c --tokenizer bytes bad.safetensors y.gguf
    $k add-probes "$bytes" bad.safetensors 12 128 0
    says "no biases" "wants both" $c --tokenizer bytes bad.safetensors y.gguf
    $k add-probes "$bytes" bad.safetensors 0 0 12
    says "only biases" "wants both" $c --tokenizer bytes bad.safetensors y.gguf
fi

# C arrays
t 0 "C arrays" $c --type q8_0 --exits all --c-array tiny s.gguf tiny.h
t 0 "the same as GGUF" $c --type q8_0 --exits all s.gguf tiny.gguf
t 0 "lines of at most 120 columns" awk 'length > 120 { exit 1 }' tiny.h
t 0 "C arrays in C99" $CC -std=c99 -O0 $warn $sanitize -DWITH_IMPLEMENTATION -DWITH_TOKENS -I"$root" -I. -o array array.c -lm
t 0 "C arrays equal the GGUF" ./array tiny.gguf
if command -v "$CXX" >/dev/null; then
    t 0 "C arrays in C++11" $CXX -std=c++11 $warn -I"$root" -I. -x c++ -c -o array.o array.c
fi

# command line
t 2 "no arguments" $c
t 2 "one argument" $c s.gguf
t 2 "three names" $c a b c
t 2 "unknown option" $c --typ q8_0 a b
t 2 "missing value" $c a b --type
t 2 "unknown format" $c --type q5_1 a b
t 2 "bad layers" $c --type-layers 4-2=f16 a b
t 2 "bad key" $c --set size=3 a b
t 2 "bad size" $c --set dim=0 a b
t 2 "bad number" $c --set dim=many a b
t 2 "bad identifier" $c --c-array 2x a b
t 2 "bad exits" $c --exits 1,,2 s.gguf y.gguf
t 0 "help" $c --help
t 0 "version" $c --version
says "no such file" "cannot open nothing.bin" $c nothing.bin y.gguf
says "a directory" "cannot" $c . y.gguf
says "no such place" "cannot write" $c s.gguf nowhere/y.gguf
says "exit out of range" "layer 5 is not there" $c --exits 5 s.gguf y.gguf
says "info of something else" "not a GGUF" $c --info hf.safetensors

# damaged inputs
head -c 100000 "$models/stories260K.bin" >cut.bin
says "llama2.c cut" "has 100000 bytes" $c cut.bin y.gguf
head -c 100000 s.gguf >cut.gguf
says "GGUF cut" "cut.gguf" $c cut.gguf y.gguf
head -c 100000 hf.safetensors >cut.safetensors
says "safetensors cut" "data_offsets" $c cut.safetensors y.gguf
head -c 3000 "$models/tok512.bin" >cut.tok
says "tokenizer cut" "cut.tok: token" $c --tokenizer cut.tok s.gguf y.gguf
t 0 "failed conversions leave nothing behind" test ! -e y.gguf -a ! -e y.gguf.part
echo keep >y.gguf
t 1 "failure with an output there" $c cut.bin y.gguf
t 0 "which is untouched" grep -qx keep y.gguf
i=0
while [ "$i" -lt "$FUZZ" ]; do
    i=$((i + 1))
    $k damage s.gguf d.gguf $i && t 01 "damaged GGUF $i" $c --type f16 --exits all d.gguf z.gguf
    t 01 "damaged GGUF $i, info" $c --info d.gguf
    t 01 "damaged GGUF $i, C arrays" $c --c-array z d.gguf z.h
    $k damage hf.safetensors d.safetensors $i && t 01 "damaged safetensors $i" $c d.safetensors z.gguf
    $k damage "$models/stories260K.bin" d.bin $i && t 01 "damaged llama2.c $i" $c d.bin z.gguf
    $k damage "$models/tok512.bin" d.tok $i && t 01 "damaged tokenizer $i" $c --tokenizer d.tok "$models/stories260K.bin" z.gguf
    $k damage config.json d.json $i && t 01 "damaged config $i" $c --config d.json hf.safetensors z.gguf
    [ -f "$models/stories-ls/tok.model" ] || continue
    $k damage "$models/stories-ls/tok.model" d.model $i && t 01 "damaged SentencePiece $i" $c --set vocab=3000 --tokenizer d.model s.gguf z.gguf
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
