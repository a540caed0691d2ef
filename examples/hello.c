/* hello.c - the smallest program: a GGUF file continues your text.
   SPDX-License-Identifier: MIT

     cc -O2 examples/hello.c -o hello -lm
     ./hello MODEL.gguf "Once upon a time"                                                            */

#define LTX_IMPLEMENTATION
#include "../ltx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CTX 512 /* prompt and answer together, in tokens */

static ltx_model    model; /* three views into memory that stays ours */
static ltx_vocab   *vocab;
static ltx_session *session;

#define TRY(call) try_((call), #call)
static void try_(ltx_result r, const char *call)
{
    if (r == LTX_OK) return;
    fprintf(stderr, "%s\n  failed: %s\n", call, ltx_result_text(r));
    exit(1);
}

/* The library never allocates: it says what it needs, and we lend it. Here: until the program ends. */
static ltx_mem lend(ltx_need need)
{
    ltx_mem mem = { NULL, need.size };
    char *p = malloc(need.size + need.align);
    if (p == NULL) try_(LTX_E_MEM, "malloc");
    mem.ptr = p + (need.align - (uintptr_t)p % need.align);
    return mem;
}

static ltx_blob read_file(const char *path)
{
    ltx_blob image;
    FILE *f = fopen(path, "rb");
    long size = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    void *p = size > 0 && fseek(f, 0, SEEK_SET) == 0 ? malloc((size_t)size) : NULL;
    if (p == NULL || fread(p, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    fclose(f);
    image.ptr = p;
    image.size = (size_t)size;
    return image;
}

static void load(const char *path)
{
    ltx_session_desc desc = { 0 }; /* all zero: every layer, no early exits, half-precision cache, best instruction set */
    ltx_session_needs needs;
    ltx_session_mems mems;
    ltx_need need;
    ltx_blob image = read_file(path);

    TRY(ltx_gguf_need(image, NULL, &need));
    TRY(ltx_gguf_init(image, lend(need), NULL, &model));
    TRY(ltx_vocab_need(image, NULL, &need));
    TRY(ltx_vocab_init(image, lend(need), NULL, &vocab));

    desc.ctx = CTX;
    TRY(ltx_session_need(&model, &desc, &needs));
    mems.state = lend(needs.state);
    mems.cache = lend(needs.cache);
    mems.scratch = lend(needs.scratch);
    TRY(ltx_session_init(&model, &desc, &mems, &session));
}

int main(int argc, char **argv)
{
    ltx_sampler sampler = { .temperature = 0.8f, .top_p = 0.9f, .state = 1 }; /* state: the seed */
    const float *logits;
    int32_t tokens[CTX], count, token;
    ltx_need need;

    if (argc != 3) {
        fprintf(stderr, "usage: hello MODEL.gguf \"prompt\"\n");
        return 2;
    }
    load(argv[1]);
    TRY(ltx_encode_need(strlen(argv[2]), &need));
    TRY(ltx_encode(vocab, argv[2], strlen(argv[2]), LTX_BOS, lend(need), tokens, CTX, &count));
    fputs(argv[2], stdout);

    TRY(ltx_eval(session, tokens, count, &logits));
    TRY(ltx_sample(session, &sampler, logits, &token));
    while (token != ltx_vocab_eos(vocab) && token != ltx_vocab_bos(vocab) && ltx_position(session) < CTX) {
        char piece[64];
        ltx_token next;
        int32_t n = ltx_piece(vocab, token, 0, piece, sizeof piece);
        fwrite(piece, 1, (size_t)n, stdout);
        fflush(stdout);
        TRY(ltx_decode(session, &sampler, token, &next, 1, &n)); /* token in, next token out */
        token = next.id;
    }
    puts("");
    return 0;
}
