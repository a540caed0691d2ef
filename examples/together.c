/* together.c - several texts at once: one pass over the weights serves all of them, and a new prompt does not hold up the others
   SPDX-License-Identifier: MIT

     cc -O2 examples/together.c -o together -lm
     ./together MODEL.gguf "prompt" "another prompt" ...

   A prompt every eight tokens; it goes up a third of the layers each time that the others get a token (layered prefill). Then the same texts one
   after the other: the same tokens, in more time. Exit status 1 if a token differs.                  */

#define _POSIX_C_SOURCE 200809L
#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "common.h"

#include <stdbool.h>

enum { MOST = 16, TOKENS = 120, ROWS = 256, STAGES = 3, EVERY = 8 };

typedef struct text_job {
    int32_t *prompt, count; /* its tokens                                    */
    int32_t  stage;         /* of the prompt: STAGES = it is done            */
    int32_t  n, token[TOKENS];
} text_job;

typedef struct desk {
    text_model       text;
    ltx_session     *session;
    ltx_session_mems mems;
    text_job         job[MOST];
    int32_t          jobs;
} desk;

static bool is_over(const desk *d, const text_job *j)
{
    return j->n == TOKENS || (j->n > 0 && (j->token[j->n - 1] == ltx_vocab_eos(d->text.vocab) || j->token[j->n - 1] == ltx_vocab_bos(d->text.vocab)));
}
static int32_t best(const desk *d, const float *logits)
{
    ltx_sampler greedy = { 0 };
    int32_t token;
    check(ltx_sample(d->session, &greedy, logits, &token), "sample");
    return token;
}

/* What every text wants next, as one batch. Returns how many are at work. */
static int32_t step(desk *d, int32_t time)
{
    int32_t tokens[ROWS], sequence[ROWS], busy = 0, i, q;
    uint8_t want[ROWS] = { 0 };
    ltx_batch b = { .tokens = tokens, .sequence = sequence, .want = want };
    ltx_output out;
    for (q = 0; q < d->jobs; q++) {
        text_job *j = &d->job[q];
        const int32_t layers = d->text.model.n_layers;
        if (is_over(d, j)) continue;
        busy++;
        if (time < q * EVERY) continue; /* it has not come yet */
        if (j->stage < STAGES) { /* another part of the layers */
            j->stage++;
            check(ltx_use(d->session, q), "sequence");
            check(ltx_hold(d->session, j->stage == STAGES ? 0 : layers * j->stage / STAGES), "hold");
            for (i = 0; j->stage == 1 && i < j->count; i++) { tokens[b.count] = j->prompt[i]; want[b.count] = i + 1 == j->count; sequence[b.count++] = q; }
        } else {
            tokens[b.count] = j->token[j->n - 1]; want[b.count] = 1; sequence[b.count++] = q;
        }
    }
    if (b.count == 0) { b.tokens = NULL; b.sequence = NULL; b.want = NULL; } /* only prompts that go on */
    if (busy == 0) return 0;
    check(ltx_eval_batch(d->session, &b, &out), "batch");
    for (i = 0; i < out.n_ready; i++) {
        text_job *j = &d->job[out.ready[i].sequence];
        j->token[j->n++] = best(d, out.ready[i].logits);
    }
    return busy;
}
/* The same text alone; how many of its tokens are others. */
static int32_t alone(desk *d, const text_job *j)
{
    const float *logits;
    int32_t i, differ = 0;
    check(ltx_use(d->session, 0), "sequence");
    check(ltx_rewind(d->session, 0), "rewind");
    check(ltx_eval(d->session, j->prompt, j->count, &logits), "prompt");
    for (i = 0; i < j->n; i++) {
        differ += best(d, logits) != j->token[i];
        if (i + 1 < j->n) check(ltx_eval(d->session, &j->token[i], 1, &logits), "token");
    }
    return differ;
}
static void print_text(const desk *d, const char *prompt, const text_job *j)
{
    char piece[64];
    printf(wants_color(stdout) ? "\033[1m%s\033[0m" : "%s", prompt);
    for (int32_t i = 0; i < j->n; i++) fwrite(piece, 1, (size_t)ltx_piece(d->text.vocab, j->token[i], 0, piece, sizeof piece), stdout);
    puts("\n");
}

int main(int argc, char **argv)
{
    static desk d;
    ltx_session_desc desc = { .rows = ROWS, .logits_rows = MOST, .log = print_log };
    ltx_stats st;
    int32_t q, time, tokens = 0, rows = 0, differ = 0;
    double together, one;
    if (argc < 3 || argc - 2 > MOST) return fprintf(stderr, "usage: together MODEL.gguf \"prompt\" \"another prompt\" ... (at most %d)\n", MOST), EXIT_USAGE;
    text_model_load(&d.text, argv[1]);
    d.jobs = desc.sequences = argc - 2;
    d.session = session_open(&d.text.model, &desc, &d.mems);
    for (q = 0; q < d.jobs; q++) {
        d.job[q].prompt = encode(d.text.vocab, argv[2 + q], &d.job[q].count);
        rows += d.job[q].count;
    }
    if (rows > ROWS - MOST) die(EXIT_USAGE, "the prompts have %d tokens, at most %d", (int)rows, ROWS - MOST);
    together = seconds_now();
    for (time = 0; step(&d, time) > 0; time++) { }
    together = seconds_now() - together;
    ltx_session_stats(d.session, &st);
    one = seconds_now();
    for (q = 0; q < d.jobs; q++) differ += alone(&d, &d.job[q]);
    one = seconds_now() - one;
    for (q = 0; q < d.jobs; q++) { print_text(&d, argv[2 + q], &d.job[q]); tokens += d.job[q].n; free(d.job[q].prompt); }
    printf("%d tokens of %d texts: together %.0f tokens per second and %.2f MB of weights a token, one after the other %.0f\n", (int)tokens, (int)d.jobs,
           tokens / together, (double)st.weight_bytes / 1e6 / tokens, tokens / one);
    if (differ) printf("%d tokens differ\n", (int)differ);
    session_close(&d.mems);
    text_model_free(&d.text);
    return differ ? EXIT_FAILED : 0;
}
