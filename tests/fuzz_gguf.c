/* fuzz_gguf.c - any bytes as a GGUF image: model, vocabulary, session, two tokens, speculation
   SPDX-License-Identifier: MIT

   clang -g -O1 -DLTX_FUZZ -fsanitize=fuzzer,address,undefined -I. -Itests tests/fuzz_gguf.c -o fuzz_gguf -lm
   ./fuzz_gguf -max_len=65536 corpus
   Plain program, which replays files and writes seeds:
   cc -g -O1 -I. -Itests tests/fuzz_gguf.c -o fuzz_gguf -lm && ./fuzz_gguf --seed corpus && ./fuzz_gguf crash-file ... */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"

/* Sessions that want more than this are refused: a small file may ask for a large model. */
enum { MAX_SESSION = 8 << 20, MAX_VOCAB_BYTES = 8 << 20 };

static void *block(size_t size)
{
    void *p = NULL;
    size_t rounded = (size + 63) / 64 * 64;
    if (rounded < size || rounded == 0) return NULL;
    p = test_malloc(rounded + 64);
    return p;
}

static void *aligned(void *p)
{
    return (void *)(((uintptr_t)p + 63) / 64 * 64);
}

static void use_vocab(ltx_blob image)
{
    static const char text[] = " ab \xc3\xa4 <unk> \xff\n";
    ltx_need need, work_need;
    ltx_vocab *v;
    int32_t tokens[80], n;
    char piece[16];
    if (ltx_vocab_need(image, NULL, &need) != LTX_OK || need.size > MAX_VOCAB_BYTES) return;
    void *p = block(need.size), *w;
    ltx_mem mem = {aligned(p), need.size};
    if (ltx_vocab_init(image, mem, NULL, &v) == LTX_OK && ltx_encode_need(sizeof text, &work_need) == LTX_OK) {
        w = block(work_need.size);
        ltx_mem work = {aligned(w), work_need.size};
        if (ltx_encode(v, text, sizeof text, LTX_BOS, work, tokens, 80, &n) == LTX_OK)
            for (int32_t i = 0; i < n; i++) ltx_piece(v, tokens[i], i == 0, piece, sizeof piece);
        for (int32_t i = -1; i <= ltx_vocab_size(v) && i < 400; i++) ltx_piece(v, i, i & 1, piece, sizeof piece);
        free(w);
    }
    free(p);
}

static void run_session(const ltx_model *m, int speculate)
{
    ltx_session_desc d;
    ltx_session_needs need;
    ltx_session *s;
    ltx_sampler sampler;
    ltx_token out[4];
    int32_t tokens[2] = {0, m->vocab - 1}, n;
    memset(&d, 0, sizeof d);
    memset(&sampler, 0, sizeof sampler);
    d.ctx = 16; d.rows = 4; d.isa = speculate ? LTX_ISA_SCALAR : LTX_ISA_AUTO;
    if (speculate) { d.draft_max = 3; d.draft.exit = 1; d.draft.stop = 1e-9f; sampler.temperature = 1.0f; }
    if (ltx_session_need(m, &d, &need) != LTX_OK || need.state.size + need.cache.size + need.scratch.size > MAX_SESSION) return;
    void *p[3] = {block(need.state.size), block(need.cache.size), block(need.scratch.size)};
    ltx_session_mems mem = {{aligned(p[0]), need.state.size}, {aligned(p[1]), need.cache.size}, {aligned(p[2]), need.scratch.size}};
    memset(mem.state.ptr, 0xa5, need.state.size);
    if (ltx_session_init(m, &d, &mem, &s) == LTX_OK && ltx_eval(s, tokens, 2, NULL) == LTX_OK)
        for (int i = 0; i < 2 && ltx_decode(s, &sampler, tokens[0], out, 4, &n) == LTX_OK; i++) tokens[0] = out[n - 1].id;
    for (int i = 0; i < 3; i++) free(p[i]);
}

static int one(const unsigned char *data, size_t size)
{
    /* a copy of exactly this size, at an odd address when the size is odd */
    unsigned char *copy = (unsigned char *)test_malloc(size + 1), *start = copy + (size & 1);
    ltx_blob image = {start, size};
    ltx_need need;
    ltx_model m;
    if (size) memcpy(start, data, size);
    use_vocab(image);
    if (ltx_gguf_need(image, NULL, &need) == LTX_OK) {
        void *p = block(need.size);
        ltx_mem mem = {aligned(p), need.size};
        if (ltx_gguf_init(image, mem, NULL, &m) == LTX_OK) {
            run_session(&m, 0);
            run_session(&m, 1);
        }
        free(p);
    }
    free(copy);
    return 0;
}

#ifdef LTX_FUZZ
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return one(data, size);
}
#else
/* A tiny valid image of each number format, with each tokenizer and architecture. */
static int write_seed(const char *folder, int i)
{
    static const char *const arch[] = {"llama", "qwen2", "qwen3"};
    kit_shape sh = {32, 2, 2, 1, 4, 8, 12, 0, 0, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU}, super = {256, 1, 1, 1, 4, 8, 12, 0, 0, LTX_ROPE_HALVES, LTX_ACT_SILU};
    kit_pieces v;
    char path[1024];
    if (i > KIT_PLAIN) sh = super;
    sh.format = i < KIT_PLAIN ? kit_formats[i] : i == KIT_PLAIN ? KIT_MIXED : kit_formats[i - 1];
    sh.flags = (unsigned)i * 5u % 32u & ~(unsigned)KIT_NO_GATE;
    if (i == 4) kit_pieces_bytes(&v); else kit_pieces_llama(&v, 4);
    kit_model *k = kit_make(&sh, 200 + (uint64_t)i);
    kit_buffer b = kit_gguf(k, arch[i % 3], &v, i == 3 ? 64 : 32, NULL);
    snprintf(path, sizeof path, "%s/seed-%d.gguf", folder, i);
    FILE *f = fopen(path, "wb");
    int ok = f && fwrite(b.p, 1, b.n, f) == b.n;
    if (f && fclose(f) != 0) ok = 0;
    if (!ok) printf("cannot write %s\n", path);
    free(b.p);
    kit_free(k);
    return ok;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
        for (int i = 0; i <= KIT_FORMATS; i++)
            if (!write_seed(argv[2], i)) return 1;
        return 0;
    }
    return kit_replay(argc, argv, one);
}
#endif
