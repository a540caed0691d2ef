/* raw_arrays.c - a model from static arrays: no file, no malloc, no stdio but for showing the text. This is what firmware does.

   examples/models/tiny.h was written by  ltx-convert --c-array tiny ...  It holds plain `static const` arrays, one `static const ltx_layer`
   array and one `static const ltx_model` named tiny, so all of the model can stay in flash. The tokens are bytes (256 starts a story). */

#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "models/tiny.h"
#include <stdio.h>

/* Memory for one sequence of 256 positions. Numbers larger than the need are fine; ltx_session_need says what they have to be. */
#if defined(__GNUC__)
#define ALIGNED __attribute__((aligned(64)))
#else
#define ALIGNED
#endif
static unsigned char state[4 * 1024] ALIGNED, cache[80 * 1024] ALIGNED, scratch[20 * 1024] ALIGNED;

static int stop(const char *where, ltx_result r)
{
    printf("%s: %s\n", where, ltx_result_text(r));
    return 1;
}

int main(void)
{
    static const char prompt[] = "Once upon a time";
    ltx_session_desc desc = { 0 };
    ltx_session_needs need;
    ltx_session_mems mem;
    ltx_session *session;
    ltx_sampler sampler = { 0 }; /* greedy */
    ltx_token next[1];
    const float *logits;
    int32_t tokens[sizeof prompt], token, count, i;
    ltx_result r;

    desc.ctx = 256;
    desc.rows = 1; /* one token at a time: the smallest memory */
    desc.kv = LTX_KV_I8;
    if ((r = ltx_session_need(&tiny, &desc, &need)) != LTX_OK) return stop("need", r);
    printf("weights are %d layers of width %d; a session needs %u + %u + %u bytes (state, cache, scratch)\n\n", (int)tiny.n_layers, (int)tiny.dim,
           (unsigned)need.state.size, (unsigned)need.cache.size, (unsigned)need.scratch.size);
    mem.state.ptr = state; mem.state.size = sizeof state;
    mem.cache.ptr = cache; mem.cache.size = sizeof cache;
    mem.scratch.ptr = scratch; mem.scratch.size = sizeof scratch;
    if ((r = ltx_session_init(&tiny, &desc, &mem, &session)) != LTX_OK) return stop("init", r);

    tokens[0] = 256;
    for (i = 0; prompt[i] != 0; i++) tokens[i + 1] = (unsigned char)prompt[i];
    if ((r = ltx_eval(session, tokens, i + 1, &logits)) != LTX_OK) return stop("eval", r);
    if ((r = ltx_sample(session, &sampler, logits, &token)) != LTX_OK) return stop("sample", r);
    fputs(prompt, stdout);
    while (token < 256 && ltx_position(session) < desc.ctx) {
        putchar((char)token);
        if ((r = ltx_decode(session, &sampler, token, next, 1, &count)) != LTX_OK) return stop("decode", r);
        token = next[0].id;
    }
    putchar('\n');
    return 0;
}
