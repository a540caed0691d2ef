/* fuzz_encode.c - any bytes as a text: tokens and back again, on a small vocabulary
   SPDX-License-Identifier: MIT

   clang -g -O1 -DLTX_FUZZ -fsanitize=fuzzer,address,undefined -I. -Itests tests/fuzz_encode.c -o fuzz_encode -lm && ./fuzz_encode -max_len=4096
   Plain program, which replays files:
   cc -g -O1 -I. -Itests tests/fuzz_encode.c -o fuzz_encode -lm && ./fuzz_encode crash-file ... */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"

static kit_file file; /* both tokenizers: all byte tokens, so that every text comes back */
static kit_file bytes;

static void make(kit_file *f, int bytes_only)
{
    kit_shape sh = {32, 1, 2, 1, 4, 8, 12, LTX_F16, 0, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};
    kit_pieces v;
    if (bytes_only) kit_pieces_bytes(&v); else kit_pieces_llama(&v, 256);
    kit_model *k = kit_make(&sh, 1);
    kit_buffer b = kit_gguf(k, "llama", &v, 32, NULL);
    f->image.ptr = b.p; f->image.size = b.n;
    if (kit_read(f) != LTX_OK) abort();
    kit_free(k);
}

/* U+2581 stands for a blank and comes back as one. */
static size_t with_blanks(const unsigned char *in, size_t size, unsigned char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        if (size - i >= 3 && memcmp(in + i, "\xe2\x96\x81", 3) == 0) { out[n++] = ' '; i += 3; }
        else out[n++] = in[i++];
    }
    return n;
}

static void there_and_back(const kit_file *f, const unsigned char *data, size_t size)
{
    ltx_need need;
    int32_t cap = (int32_t)size * 3 + 8, n = 0;
    if (ltx_encode_need(size, &need) != LTX_OK) abort();
    test_block work = test_alloc(need.size, need.align), tokens = test_alloc((size_t)cap * 4, 4), back = test_alloc(size * 3 + 64, 1), want = test_alloc(size, 1);
    ltx_mem mem = {work.ptr, need.size};
    int32_t *t = (int32_t *)(void *)tokens.ptr;
    if (ltx_encode(f->vocab, (const char *)data, size, LTX_BOS, mem, t, cap, &n) != LTX_OK) abort();
    size_t at = 0, length = f == &file ? with_blanks(data, size, want.ptr) : size;
    if (f != &file && size) memcpy(want.ptr, data, size);
    for (int32_t i = 0; i < n; i++) {
        if (t[i] < 0 || t[i] >= ltx_vocab_size(f->vocab)) abort();
        at += (size_t)ltx_piece(f->vocab, t[i], i <= 1, (char *)back.ptr + at, (int32_t)(back.size - at));
    }
    if (at != length || memcmp(back.ptr, want.ptr, at) != 0) abort();
    test_free(&work);
    test_free(&tokens);
    test_free(&back);
    test_free(&want);
}

static int one(const unsigned char *data, size_t size)
{
    if (!file.vocab) { make(&file, 0); make(&bytes, 1); }
    there_and_back(&file, data, size);
    there_and_back(&bytes, data, size);
    return 0;
}

#ifdef LTX_FUZZ
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return one(data, size);
}
#else
int main(int argc, char **argv)
{
    return kit_replay(argc, argv, one);
}
#endif
