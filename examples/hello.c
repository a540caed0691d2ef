/* hello.c - a GGUF file continues your text.          cc -O2 examples/hello.c -o hello -lm && ./hello MODEL.gguf "Once upon a time"
   SPDX-License-Identifier: MIT */
#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRY(call) do { ltx_result r_ = (call); if (r_ != LTX_OK) { fprintf(stderr, "%s: %s\n", #call, ltx_result_text(r_)); exit(1); } } while (0)

/* The library never allocates: it says what it needs, and we lend it, here until the program ends. */
static ltx_mem lend(ltx_need need)
{
    ltx_mem mem = { malloc(need.size + need.align), need.size };
    if (mem.ptr == NULL) exit(1);
    mem.ptr = (char *)mem.ptr + (need.align - (uintptr_t)mem.ptr % need.align);
    return mem;
}

int main(int argc, char **argv)
{
    FILE *f = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (f == NULL) return fprintf(stderr, "usage: hello MODEL.gguf \"prompt\"\n"), 2;
    fseek(f, 0, SEEK_END);
    ltx_need need = { (size_t)ftell(f), 64 };
    ltx_mem file = lend(need);
    rewind(f);
    ltx_blob image = { file.ptr, fread(file.ptr, 1, file.size, f) }; /* weights stay in it, never copied */

    ltx_model model;
    ltx_vocab *vocab;
    ltx_session *session;
    ltx_session_desc desc = { 0 }; /* every layer, no early exit, the model's context, the best instruction set */
    ltx_session_needs needs;
    TRY(ltx_gguf_need(image, NULL, &need));
    TRY(ltx_gguf_init(image, lend(need), NULL, &model));
    TRY(ltx_vocab_need(image, NULL, &need));
    TRY(ltx_vocab_init(image, lend(need), NULL, &vocab));
    TRY(ltx_session_need(&model, &desc, &needs));
    ltx_session_mems mems = { lend(needs.state), lend(needs.cache), lend(needs.scratch) };
    TRY(ltx_session_init(&model, &desc, &mems, &session));

    int32_t tokens[512], count, token, first = argv[2][0] == 0; /* the first token of a text loses the blank before it */
    ltx_sampler sampler = { .temperature = 0.8f, .top_p = 0.9f, .state = 1 /* seed */ };
    const float *logits;
    TRY(ltx_encode_need(strlen(argv[2]), &need));
    TRY(ltx_encode(vocab, argv[2], strlen(argv[2]), LTX_BOS, lend(need), tokens, 512, &count));
    TRY(ltx_eval(session, tokens, count, &logits));
    TRY(ltx_sample(session, &sampler, logits, &token));
    printf("%s", argv[2]);
    while (token != ltx_vocab_eos(vocab) && token != ltx_vocab_bos(vocab) && ltx_position(session) < model.ctx) {
        char text[64];
        ltx_token next;
        fwrite(text, 1, (size_t)ltx_piece(vocab, token, first, text, sizeof text), stdout);
        fflush(stdout);
        first = 0;
        TRY(ltx_decode(session, &sampler, token, &next, 1, &count)); /* token in, next token out */
        token = next.id;
    }
    puts("");
    return 0;
}
