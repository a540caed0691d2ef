/* hello.c - the smallest program: a GGUF file continues your text.
   SPDX-License-Identifier: MIT

     cc -O2 examples/hello.c -o hello -lm
     ./hello MODEL.gguf "Once upon a time"                                                            */

#define LTX_IMPLEMENTATION
#include "../ltx.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CTX = 512 }; /* prompt and answer together, in tokens */

static void try_(ltx_result r, const char *call)
{
    if (r == LTX_OK) return;
    fprintf(stderr, "%s\n  failed: %s\n", call, ltx_result_text(r));
    exit(1);
}
#define TRY(call) try_((call), #call)

/* The library never allocates: it says what it needs, and we lend it, here until the program ends. */
static ltx_mem lend(ltx_need need)
{
    char *p = malloc(need.size + need.align);
    if (p == NULL) try_(LTX_E_MEM, "malloc");
    return (ltx_mem){ p + (need.align - (uintptr_t)p % need.align), need.size };
}

static ltx_blob read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    long size = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    char *p = size > 0 && size < LONG_MAX && fseek(f, 0, SEEK_SET) == 0 ? malloc((size_t)size) : NULL;
    if (p == NULL || fread(p, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    fclose(f);
    return (ltx_blob){ p, (size_t)size };
}

/* A session is one running text: all zero means every layer, no early exits, the best instruction set. */
static ltx_session *open_session(const ltx_model *model)
{
    ltx_session_desc desc = { .ctx = CTX };
    ltx_session_needs needs;
    ltx_session *session;
    TRY(ltx_session_need(model, &desc, &needs));
    ltx_session_mems mems = { lend(needs.state), lend(needs.cache), lend(needs.scratch) };
    TRY(ltx_session_init(model, &desc, &mems, &session));
    return session;
}

int main(int argc, char **argv)
{
    static ltx_model model;
    static ltx_vocab *vocab;
    static ltx_session *session;
    static ltx_mem work;
    int32_t tokens[CTX], count, token;
    const float *logits;
    ltx_sampler sampler = { .temperature = 0.8f, .top_p = 0.9f, .state = 1 }; /* state: the seed */
    ltx_need need;

    if (argc != 3) {
        fprintf(stderr, "usage: hello MODEL.gguf \"prompt\"\n");
        return 2;
    }
    ltx_blob image = read_file(argv[1]); /* weights stay in it and are never copied */
    TRY(ltx_gguf_need(image, NULL, &need));
    TRY(ltx_gguf_init(image, lend(need), NULL, &model));
    TRY(ltx_vocab_need(image, NULL, &need));
    TRY(ltx_vocab_init(image, lend(need), NULL, &vocab));
    session = open_session(&model);

    TRY(ltx_encode_need(strlen(argv[2]), &need));
    work = lend(need);
    TRY(ltx_encode(vocab, argv[2], strlen(argv[2]), LTX_BOS, work, tokens, CTX, &count));
    printf("%s", argv[2]);

    TRY(ltx_eval(session, tokens, count, &logits));
    TRY(ltx_sample(session, &sampler, logits, &token));
    while (token != ltx_vocab_eos(vocab) && token != ltx_vocab_bos(vocab) && ltx_position(session) < CTX) {
        char piece[64];
        ltx_token next;
        fwrite(piece, 1, (size_t)ltx_piece(vocab, token, 0, piece, sizeof piece), stdout);
        fflush(stdout);
        TRY(ltx_decode(session, &sampler, token, &next, 1, &count)); /* token in, next token out */
        token = next.id;
    }
    puts("");
    return 0;
}
