/* demo.c - the same story at three depths: full, early exit, self-speculation; with colours and a table.
   SPDX-License-Identifier: MIT

     cc -O2 examples/demo.c -o demo -lm
     ./demo [--plain] [--svg FILE] [MODEL_LS.gguf [MODEL_BYTES.gguf]]

   The modes run in turns, several rounds, and the table shows medians, so that a busy machine treats
   all alike. One thread. Exit status 1 if speculation changes a single token.                         */

#define _POSIX_C_SOURCE 200809L
#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "common.h"
#include "median.h"
#include "page.h"

#include <stdbool.h>

enum { ROUNDS = 15, CTX = 512, MOST_TOKENS = 480, MOST_DRAFT = 16 };
enum { FULL, EARLY, DRAFT, N_MODES };

static const char *const mode_name[N_MODES] = { "full depth", "early exit", "speculation" };

/* What is shown of a model: these are the numbers to play with. */
typedef struct scene {
    const char *path, *prompt;
    int32_t     tokens;                 /* to generate                                             */
    int32_t     gate_first, gate_every; /* early exit: ask after step FIRST, then every EVERY      */
    int32_t     rule;                   /* early exit: by the largest probability, or by a learned probe */
    float       threshold;              /* leave when that is at least this                        */
    int32_t     fill;                   /* keys and values of the layers that did not run          */
    ltx_draft   draft;                  /* speculation: steps that draft, most tokens, stop        */
    bool        show[N_MODES];          /* whose text to print                                     */
} scene;

enum { N_SCENES = 2 };
static scene scenes[N_SCENES] = {
    { .path = "examples/models/stories-ls-q8_0.gguf", .prompt = "Once upon a time", .tokens = 200,
      .gate_first = 7, .gate_every = 2, .rule = LTX_EXIT_PROB, .threshold = 0.6f, .fill = LTX_FILL_PROJECT,
      .draft = { .exit = 4, .last = 6, .length = 8 }, .show = { true, true, true } },
    { .path = "examples/models/stories-bytes2-q8_0.gguf", .prompt = "Once upon a time", .tokens = 400,
      .gate_first = 0, .gate_every = 1, .rule = LTX_EXIT_PROBE, .threshold = 0.5f, .fill = LTX_FILL_PROJECT,
      .draft = { .exit = 2, .last = 4, .length = 8 }, .show = { false, true, true } },
};

typedef struct trial { /* one mode of one model */
    ltx_token token[MOST_TOKENS];
    int32_t   count;   /* tokens of the text                                    */
    int32_t   decoded; /* tokens that ltx_decode gave: not the first, but a BOS */
    double    seconds[ROUNDS];
    ltx_stats stats; /* of decoding, without the prompt                       */
} trial;

typedef struct stage { /* a model, loaded and ready */
    const scene     *scene;
    text_model       text;
    ltx_session_mems mems;
    ltx_session     *session;
    ltx_step         steps[LTX_MAX_LAYERS];
    int32_t          n_steps;
    trial            trials[N_MODES];
} stage;

/* ---- measuring ----------------------------------------------------------------------------------------- */

static void stage_open(stage *g, const scene *what)
{
    ltx_session_desc desc = { 0 };
    g->scene = what;
    text_model_load(&g->text, what->path);
    check(ltx_plan_full(&g->text.model, g->steps, LTX_MAX_LAYERS, &g->n_steps), "plan");
    check(ltx_plan_gates(g->steps, g->n_steps, what->gate_first, what->gate_every), "gates");
    desc.ctx = CTX;
    desc.draft_max = what->draft.length;
    desc.plan.steps = g->steps;
    desc.plan.count = g->n_steps;
    desc.plan.fill = what->fill;
    desc.log = print_log;
    g->session = session_open(&g->text.model, &desc, &g->mems);
}

static void stage_close(stage *g)
{
    session_close(&g->mems);
    text_model_free(&g->text);
}

/* All modes share one session: a mode is a policy and a draft, switched between runs. */
static void set_mode(const stage *g, int mode)
{
    ltx_policy policy = { 0 };
    ltx_draft draft = { 0 };
    if (mode == EARLY) {
        policy.rule = g->scene->rule;
        policy.screen = 1;
        policy.threshold = g->scene->threshold;
    }
    if (mode == DRAFT) { draft = g->scene->draft; draft.clock = draft_clock; }
    check(ltx_set_policy(g->session, &policy), "policy");
    check(ltx_set_draft(g->session, &draft), "draft");
}

/* The prompt, and the first token after it. */
static void begin(const stage *g, ltx_sampler *sampler, ltx_token *first)
{
    ltx_output out;
    ltx_batch batch = { 0 };
    int32_t *tokens = encode(g->text.vocab, g->scene->prompt, &batch.count);
    batch.tokens = tokens;
    batch.logits = 1;
    check(ltx_rewind(g->session, 0), "rewind");
    check(ltx_eval_batch(g->session, &batch, &out), "prompt");
    check(ltx_sample(g->session, sampler, out.logits, &first->id), "sample");
    first->depth = out.depth[0];
    first->drafted = 0;
    free(tokens);
}

/* Write the text once. Only decoding is timed. A new BOS would begin another story. */
static double perform(stage *g, int mode)
{
    const int32_t bos = ltx_vocab_bos(g->text.vocab), most = g->scene->tokens;
    ltx_sampler greedy = { 0 };
    trial *t = &g->trials[mode];
    int32_t got, i;
    bool end = false;
    double start;
    set_mode(g, mode);
    begin(g, &greedy, &t->token[0]);
    ltx_stats_reset(g->session);
    t->count = 1;
    t->decoded = 0;
    start = seconds_now();
    while (!end && t->count < most) {
        check(ltx_decode(g->session, &greedy, t->token[t->count - 1].id, t->token + t->count, most - t->count, &got), "decode");
        t->decoded += got;
        for (i = 0; i < got && !end; i++) {
            end = t->token[t->count].id == bos;
            t->count += !end;
        }
    }
    start = seconds_now() - start;
    ltx_session_stats(g->session, &t->stats);
    return start;
}

/* Tokens in which two texts agree from the start. */
static int32_t common_prefix(const trial *a, const trial *b)
{
    int32_t i = 0;
    while (i < a->count && i < b->count && a->token[i].id == b->token[i].id) i++;
    return i;
}

static bool same_text(const trial *a, const trial *b)
{
    return a->count == b->count && common_prefix(a, b) == a->count;
}

/* All modes, one after the other, so that a round meets the machine in one mood. */
static void play_round(stage *g, int round)
{
    int mode;
    for (mode = 0; mode < N_MODES; mode++) g->trials[mode].seconds[round] = perform(g, mode);
    if (!same_text(&g->trials[FULL], &g->trials[DRAFT]))
        die(EXIT_FAILED, "%s: speculation changed the text after %d tokens", g->scene->path, (int)common_prefix(&g->trials[FULL], &g->trials[DRAFT]));
}

static void measure(stage *g, int n_stages)
{
    const bool progress = isatty(fileno(stderr));
    int round, i, mode;
    for (round = 0; round < ROUNDS; round++) {
        if (progress) fprintf(stderr, "\rmeasuring, round %d of %d ", round + 1, ROUNDS);
        for (i = 0; i < n_stages; i++) play_round(&g[i], round);
    }
    for (i = 0; i < n_stages; i++) for (mode = 0; mode < N_MODES; mode++) qsort(g[i].trials[mode].seconds, ROUNDS, sizeof(double), by_value);
    if (progress) fputs("\r\033[K", stderr);
}

/* ---- showing ------------------------------------------------------------------------------------------- */

static page paper;

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void show_text(const stage *g, const trial *t)
{
    static char text[16 * MOST_TOKENS];
    static uint16_t ink[sizeof text];
    int32_t i, n, length = 0;
    for (; g->scene->prompt[length]; length++) {
        text[length] = g->scene->prompt[length];
        ink[length] = INK_DIM;
    }
    for (i = 0; i < t->count; i++) {
        n = ltx_piece(g->text.vocab, t->token[i].id, 0, text + length, (int32_t)sizeof text - length);
        for (; n > 0; n--) ink[length++] = (uint16_t)depth_color(t->token[i].depth, g->n_steps);
    }
    page_flow(&paper, text, ink, length);
    page_line(&paper);
}

static void show_mode(const stage *g, int mode)
{
    const scene *c = g->scene;
    page_print(&paper, INK_BOLD, "%s", mode_name[mode]);
    if (mode == FULL) page_print(&paper, INK_DIM, "  every token runs all %d layers\n", (int)g->n_steps);
    if (mode == EARLY && c->rule == LTX_EXIT_PROBE)
        page_print(&paper, INK_DIM, "  a learned probe after every layer says when to stop (calibrated: at most 1 %% more bits)\n");
    else if (mode == EARLY)
        page_print(&paper, INK_DIM, "  from %d layers on, a token that is %.0f %% sure does not run the rest\n",
                   (int)c->gate_first + 1, 100 * (double)c->threshold);
    if (mode == DRAFT)
        page_print(&paper, INK_DIM, "  the first %d to %d layers draft up to %d tokens, then all %d verify them as one batch\n",
                   (int)c->draft.exit, (int)c->draft.last, (int)c->draft.length, (int)g->n_steps);
    show_text(g, &g->trials[mode]);
}

static void show_legend(int32_t deepest)
{
    int32_t depth;
    page_print(&paper, INK_BOLD, "ltx.h");
    page_print(&paper, INK_DIM, "   depth at which a token was decided   ");
    for (depth = 1; depth <= deepest && depth <= 20; depth++)
        page_print(&paper, depth_color(depth, deepest) | INK_BLOCK, "%3d ", (int)depth);
    page_print(&paper, INK_TEXT, "\n\n");
}

static void show_stage(const stage *g)
{
    int mode;
    page_print(&paper, INK_TEXT, "%s", base_name(g->scene->path));
    page_print(&paper, INK_DIM, "  %d layers of width %d, %d %s\n\n", (int)g->text.model.n_layers, (int)g->text.model.dim,
               (int)g->text.model.vocab, "tokens in the vocabulary");
    for (mode = 0; mode < N_MODES; mode++)
        if (g->scene->show[mode]) show_mode(g, mode);
}

static void show_row(const stage *g, int mode)
{
    const trial *full = &g->trials[FULL], *t = &g->trials[mode];
    const double n = t->decoded, rate = n / sorted_median(t->seconds, ROUNDS), full_rate = full->decoded / sorted_median(full->seconds, ROUNDS);
    char differs[32];
    page_print(&paper, INK_TEXT, "  %-13s", mode_name[mode]);
    page_print(&paper, INK_BOLD, "%10.0f", rate);
    page_print(&paper, INK_TEXT, "%8.2fx%13.2f%12.2f MB", rate / full_rate,
               (double)(t->stats.attn_rows + t->stats.ffn_rows) / 2 / n, (double)t->stats.weight_bytes / n / 1e6);
    if (mode == DRAFT) page_print(&paper, INK_TEXT, "%10.0f%10.0f", (double)t->stats.drafted, (double)t->stats.accepted);
    else page_print(&paper, INK_DIM, "%10s%10s", "-", "-");
    if (mode == FULL) page_print(&paper, INK_DIM, "%16s\n", "-");
    else if (same_text(full, t)) page_print(&paper, INK_TEXT, "%16s\n", "yes");
    else {
        snprintf(differs, sizeof differs, "no, after %d", (int)common_prefix(full, t));
        page_print(&paper, INK_TEXT, "%16s\n", differs);
    }
}

static void show_table(const stage *g, int n_stages)
{
    ltx_session_desc used;
    int i, mode;
    ltx_session_desc_used(g->session, &used);
    for (i = 0; i < n_stages; i++) {
        page_print(&paper, INK_TEXT, "%s\n", base_name(g[i].scene->path));
        page_print(&paper, INK_DIM, "  %-13s%10s%9s%13s%15s%10s%10s%16s\n", "", "tokens/s", "speed", "layers/token", "weights/token",
                   "drafted", "accepted", "same text");
        for (mode = 0; mode < N_MODES; mode++) show_row(&g[i], mode);
        page_line(&paper);
    }
    page_print(&paper, INK_DIM, "Medians of %d rounds, one thread, %s. Layers run for drafts that were thrown away count as well;\n"
               "a round of speculation reads the deep layers once for several tokens.\n", ROUNDS, ltx_isa_name(used.isa));
}

/* ---- main ---------------------------------------------------------------------------------------------- */

static void write_picture(const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL) die(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
    page_svg(&paper, f);
    if (fclose(f) != 0) die(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
    static stage stages[N_SCENES];
    const char *picture = NULL;
    bool color = wants_color(stdout);
    int i, models = 0;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--plain") == 0) color = false;
        else if (strcmp(argv[i], "--svg") == 0 && i + 1 < argc) picture = argv[++i];
        else if (argv[i][0] != '-' && models < N_SCENES) scenes[models++].path = argv[i];
        else die(EXIT_USAGE, "usage: demo [--plain] [--svg FILE] [MODEL_LS.gguf [MODEL_BYTES.gguf]]");
    }
    for (i = 0; i < N_SCENES; i++) stage_open(&stages[i], &scenes[i]);
    show_legend(stages[0].n_steps);
    for (i = 0; i < N_SCENES; i++) {
        play_round(&stages[i], 0); /* warm-up, and the texts */
        show_stage(&stages[i]);
        page_show(&paper, stdout, color);
    }
    measure(stages, N_SCENES);
    show_table(stages, N_SCENES);
    page_show(&paper, stdout, color);
    if (picture) write_picture(picture);
    for (i = 0; i < N_SCENES; i++) stage_close(&stages[i]);
    return 0;
}
