/* ltx-profile - what each layer of a model is worth on a text, and how much of its depth can be saved
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   cc -O2 -o ltx-profile ltx-profile.c -lm            ltx-profile --help

   The text is cut into windows, each from an empty cache. Even windows calibrate: everything that is chosen is chosen on them. Odd
   windows check: they are looked at once, at the end. All losses come out of the engine, with the plan or the rule that they belong
   to, and all times are those of this machine. Results are records (bench/report.h); tables, CSV and page read those.

   >>options   >>tables    >>text    windows     >>runs    sessions, losses      >>lens   logits after every layer
   >>branches  similarity, rank, leaving out     >>cost    times                 >>plans  greedy, exchanges, contiguous, even
   >>rules     thresholds with risk control      >>drafts  acceptance, speed     >>write  >>page  >>main */

#define _POSIX_C_SOURCE 200809L
#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "../examples/common.h"
#include "../bench/report.h"
#include "gguf_write.h"
#include "html_chart.h"

#include <math.h>

#include "../examples/median.h"
#include "../bench/text.h"
#include "layers.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

enum { ROWS = 64, PROMPT = 32, RANK_WINDOWS = 4, MAX_THRESHOLDS = 12 };
enum { CALIBRATE = 1, CHECK = 2, ALL = 3 }; /* parts of the text: even windows, odd windows */

/* ==== >>options ========================================================================================================
   What the command line says, with the defaults. */

static struct {
    const char *model, *text, *write, *csv, *html;
    int    tokens, window, search, most, whole, unscaled, quiet, gates[2];
    int    fill;
    double speed, loss, confidence, cap;
} opt = { .tokens = 4096, .search = 2048, .gates = { -1, 0 }, .fill = LTX_FILL_PROJECT, .speed = 1.3, .loss = 1, .confidence = .95, .cap = 1.5 };

typedef enum kind { TEXT, WHOLE, REAL, PERCENT, FLAG, GATES, FILL } kind;
static const struct option { const char *name, *arg, *help; kind kind; void *target; double low, high; } options[] = {
    { "--tokens", "N", "tokens of the text to look at, half of them to calibrate, half to check", WHOLE, &opt.tokens, 64, 100e6 },
    { "--window", "N", "tokens of a window; each starts from an empty cache (default: half of the model's context)", WHOLE, &opt.window, 8, LTX_MAX_TOKENS },
    { "--whole", "", "the text is one document; without it a blank line ends a document, and each begins with BOS", FLAG, &opt.whole, 0, 0 },
    { "--search", "N", "calibration tokens on which the search for plans runs", WHOLE, &opt.search, 8, 100e6 },
    { "--most", "N", "branches that the search may leave out (default: half of them)", WHOLE, &opt.most, 1, 2 * LTX_MAX_LAYERS },
    { "--speed", "X", "propose a plan that is so many times as fast as full depth", REAL, &opt.speed, 1, 100 },
    { "--loss", "P", "propose an exit rule that costs at most so many percent of loss: 1 or 0.5 or 1%", PERCENT, &opt.loss, .001, 100 },
    { "--confidence", "X", "with at least this probability over the choice of the text", REAL, &opt.confidence, .5, .9999 },
    { "--cap", "X", "where a window's increase of loss counts as no more than X times the limit", REAL, &opt.cap, 1.01, 1000 },
    { "--gates", "FIRST:EVERY", "gates after step FIRST and every EVERY further (default: by rule)", GATES, opt.gates, 0, 0 },
    { "--fill", "HOW", "keys and values of the layers that did not run: project or defer", FILL, &opt.fill, 0, 0 },
    { "--write", "OUT.gguf", "a copy of the model with the proposals in its metadata, for generate --auto", TEXT, &opt.write, 0, 0 },
    { "--csv", "FILE", "every number", TEXT, &opt.csv, 0, 0 },
    { "--html", "FILE", "a report with pictures, one file", TEXT, &opt.html, 0, 0 },
    { "--unscaled", "", "propose a plan without factors for the branches that stay", FLAG, &opt.unscaled, 0, 0 },
    { "--quiet", "", "no progress on standard error", FLAG, &opt.quiet, 0, 0 },
};

static void print_help(void)
{
    int i;
    puts("usage: ltx-profile MODEL.gguf TEXT [options]\n\n"
         "Runs a text through a model and finds out what each layer is worth and what it costs on this machine. Then proposes a plan\n"
         "with fewer layers, a rule for leaving early, and a draft for self-speculation.\n\n"
         "  ltx-profile m.gguf valid.txt                              tables and proposals in the terminal\n"
         "  ltx-profile m.gguf valid.txt --html report.html           the same with pictures\n"
         "  ltx-profile m.gguf valid.txt --speed 1.5 --loss 2%        a faster plan, a bolder exit\n"
         "  ltx-profile m.gguf valid.txt --tokens 40000               a longer look: firmer thresholds\n"
         "  ltx-profile m.gguf valid.txt --write m-auto.gguf          keep the proposals, then\n"
         "    generate m-auto.gguf -p \"One day\" --auto                speculate with the proposed draft; the text of full depth\n"
         "    generate m-auto.gguf -p \"One day\" --auto=plan           the proposed plan: fewer layers, always\n"
         "    generate m-auto.gguf -p \"One day\" --auto=exit           the proposed exit rule\n"
         "  ltx-profile m.gguf valid.txt --tokens 512 --search 256    a quick first look\n");
    for (i = 0; i < COUNT(options); i++) {
        const struct option *o = &options[i];
        printf("  %-12s %-11s %s", o->name, o->arg, o->help);
        if (o->kind == WHOLE && *(int *)o->target > 0) printf(" (default %d)", *(int *)o->target);
        if (o->kind == REAL || o->kind == PERCENT) printf(" (default %g)", *(double *)o->target);
        puts(o->kind == FILL ? " (default project)" : "");
    }
    puts("\nA plan is searched greedily, then by exchanging branches, beginning with the best of these and of the plans without as many layers in a\n"
         "row or evenly spaced; all of those, at every place, are shown beside it. Then each branch that stays gets a factor (Path Ensemble, arXiv\n"
         "2308.06548), fitted on three quarters of what calibrates, if that helps on the last one, too; factors cost no time.\n"
         "Rank of attention: so many singular values of the matrix of probabilities hold 90 % of the sum of their squares (up to 128 tokens from\n"
         "the start of four windows, mean over heads). Low: tokens look at the same places.");
    puts("\nLosses are cross entropies of the next token. Depth d means: logits read after the first d layers. A branch is the attention or\n"
         "the ffn of a layer. Rules are tested from cautious to bold (Learn-then-Test, arXiv 2110.01052, as CALM does, arXiv 2207.07061):\n"
         "a threshold is accepted only while the hypothesis that it costs too much can be rejected, at a level shared by all rules, by a\n"
         "Hoeffding-Bentkus bound on the windows' increases of loss (below 0 counts as 0). That holds for texts like this one.\n\n"
         "Exit status: 0 done, 1 something failed, 2 the command line is wrong.");
}

static int parse_number(const char *text, double low, double high, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && (*end == 0 || strcmp(end, "%") == 0) && *out >= low && *out <= high;
}
static int parse_gates(const char *text, int *gates)
{
    char *end;
    long first = strtol(text, &end, 10), every = 1;
    if (end == text) return 0;
    if (*end == ':') every = strtol(end + 1, &end, 10);
    gates[0] = (int)first;
    gates[1] = (int)every;
    return *end == 0 && first >= 0 && first < LTX_MAX_LAYERS && every >= 1 && every < LTX_MAX_LAYERS;
}
static int parse_option(const struct option *o, const char *text)
{
    double v = 0;
    switch (o->kind) {
    case TEXT: *(const char **)o->target = text; return 1;
    case FLAG: *(int *)o->target = 1; return 1;
    case GATES: return parse_gates(text, (int *)o->target);
    case FILL:
        *(int *)o->target = strcmp(text, "defer") == 0 ? LTX_FILL_DEFER : LTX_FILL_PROJECT;
        return strcmp(text, "defer") == 0 || strcmp(text, "project") == 0;
    default: break;
    }
    if (!parse_number(text, o->low, o->high, &v)) return 0;
    if (o->kind == WHOLE) *(int *)o->target = (int)v;
    else *(double *)o->target = v;
    return (o->kind == PERCENT || strchr(text, '%') == NULL) && (o->kind != WHOLE || v == floor(v));
}
static void parse_command_line(char **argv)
{
    int i, k;
    for (i = 1; argv[i] != NULL; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) { print_help(); exit(0); }
        if (a[0] != '-') {
            if (opt.text != NULL) die(EXIT_USAGE, "one model and one text: what is \"%s\"? --help explains", a);
            *(opt.model == NULL ? &opt.model : &opt.text) = a;
            continue;
        }
        for (k = 0; k < COUNT(options) && strcmp(a, options[k].name) != 0; k++) continue;
        if (k == COUNT(options)) die(EXIT_USAGE, "unknown option %s; --help lists all", a);
        if (options[k].arg[0] != 0 && argv[++i] == NULL) die(EXIT_USAGE, "%s wants %s", a, options[k].arg);
        if (parse_option(&options[k], argv[i])) continue;
        if (options[k].high > 0) die(EXIT_USAGE, "%s wants a number from %.10g to %.10g, not \"%s\"", a, options[k].low, options[k].high, argv[i]);
        die(EXIT_USAGE, "%s wants %s, not \"%s\"; --help explains", a, options[k].arg, argv[i]);
    }
    if (opt.text == NULL) die(EXIT_USAGE, "wants a model and a text: ltx-profile MODEL.gguf TEXT; --help explains");
}
static void progress(const char *what, int done, int all)
{
    if (opt.quiet) return;
    if (isatty(2)) fprintf(stderr, "\r%-44s %4d / %d %s", what, done, all, done >= all ? "\n" : "");
    else if (done >= all) fprintf(stderr, "%s: %d\n", what, all);
}

/* ==== >>tables ========================================================================================================= */

enum { MODEL, WHAT, DETAIL, N_TEXTS, LAYER = N_TEXTS, DEPTH, LOSS, BITS, CHANGE, ENTROPY, AGREE, KEPT1, KEPT2, KEPT4, KEPT8,
       ATTN_COS, ATTN_NORM, RANK, ATTN_LOSS, ATTN_US, FFN_COS, FFN_NORM, FFN_LOSS, FFN_US, BOTH_LOSS,
       US, RATIO, BRANCHES, SPEED, FOUND, CALIBRATED, CHECKED, THRESHOLD, LAYERS, HEADS, PVALUE, LENGTH, EXPECTED, MEASURED, ATTN_FACTOR, FFN_FACTOR, N_COLUMNS };
static const column columns[N_COLUMNS] = {
    { "model", "model", 0 }, { "what", "", 0 }, { "detail", "", 0 }, { "layer", "layer", 0 }, { "depth", "depth", 0 },
    { "loss_nats_per_token", "loss/token", 4 }, { "bits_per_byte", "bits/byte", 4 }, { "loss_change_percent", "loss %", 2 },
    { "entropy_nats", "entropy", 3 }, { "agreement", "agrees", 3 },
    { "accepted_of_1", "of 1", 2 }, { "accepted_of_2", "of 2", 2 }, { "accepted_of_4", "of 4", 2 }, { "accepted_of_8", "of 8", 2 },
    { "attn_cosine", "attn: cosine", 4 }, { "attn_norm_ratio", "norm", 3 }, { "attn_rank", "rank", 1 }, { "attn_left_out_loss_percent", "loss %", 2 }, { "attn_us", "us", 2 },
    { "ffn_cosine", "ffn: cosine", 4 }, { "ffn_norm_ratio", "norm", 3 }, { "ffn_left_out_loss_percent", "loss %", 2 }, { "ffn_us", "us", 2 },
    { "layer_left_out_loss_percent", "both: loss %", 2 },
    { "microseconds", "us", 2 }, { "ratio_to_one_row", "of one row", 2 }, { "branches", "branches", 0 }, { "speed_ratio", "speed", 3 },
    { "search_loss_percent", "loss % (search)", 2 }, { "calibration_loss_percent", "loss % (calibration)", 2 }, { "check_loss_percent", "loss % (check)", 2 },
    { "threshold", "threshold", 4 }, { "layers_per_token", "layers/token", 2 }, { "heads_per_token", "heads/token", 2 }, { "p_value", "p", 4 },
    { "draft_length", "length", 0 }, { "expected_speed", "expected", 3 }, { "measured_speed", "measured", 3 },
    { "attn_factor", "attn: factor", 2 }, { "ffn_factor", "ffn: factor", 2 }
};
enum { T_LAYERS, T_DEPTHS, T_COST, T_GREEDY, T_PLANS, T_FACTORS, T_CURVES, T_RULES, T_ENGINE, T_DRAFTS, T_TIMED, N_TABLES };
static const table tables[N_TABLES] = {
    { "layers", "Layers. cosine and norm: hidden vector after the branch against before; loss % when it alone is left out (calibration); us for one row",
      { LAYER, ATTN_COS, ATTN_NORM, RANK, ATTN_LOSS, ATTN_US, FFN_COS, FFN_NORM, FFN_LOSS, FFN_US, BOTH_LOSS, -1 } },
    { "depths", "Depths. Logits after so many layers (all windows); mean length of the accepted prefix of drafts of 1, 2, 4 and 8 tokens",
      { DEPTH, LOSS, BITS, CHANGE, ENTROPY, AGREE, KEPT1, KEPT2, KEPT4, KEPT8, -1 } },
    { "cost", "Time on this machine, one thread, median", { WHAT, US, RATIO, -1 } },
    { "greedy", "Leaving out, greedily: the branch whose loss grows least, again and again", { BRANCHES, WHAT, SPEED, FOUND, CALIBRATED, CHECKED, -1 } },
    { "plans", "Plans of equal speed", { WHAT, DETAIL, BRANCHES, SPEED, CALIBRATED, CHECKED, -1 } },
    { "factors", "Factors of the branches that the proposed plan leaves", { LAYER, ATTN_FACTOR, FFN_FACTOR, -1 } },
    { "plan_curves", NULL, { -1 } },
    { "rules", "Exit rules. p: probability of such calibration losses if the threshold cost too much", { WHAT, THRESHOLD, LAYERS, HEADS, SPEED, CALIBRATED, PVALUE, CHECKED, DETAIL, -1 } },
    { "engine", "Proposed plan and rule in the engine, token by token, against full depth in the same rounds (processor time)", { WHAT, EXPECTED, MEASURED, -1 } },
    { "drafts", "Drafts. Best length of each depth by the cost model: a round drafts, then verifies in one batch", { DEPTH, LENGTH, KEPT1, EXPECTED, -1 } },
    { "timed_drafts", "The best of them in the engine, against plain decoding in the same rounds (processor time); it stops a draft early when it learned to", { DEPTH, DETAIL, LENGTH, EXPECTED, MEASURED, -1 } }
};
static report results = { columns, tables, N_COLUMNS, N_TEXTS, N_TABLES, MODEL, NULL, 0, 0 };

/* ==== >>text =========================================================================================================== */

enum { PLAN_TEXT = 4 * 12 * LTX_MAX_LAYERS }; /* characters of a plan as options */
typedef struct branch { double alone, us, cost; } branch; /* alone: loss % when left out; us of one row as measured, and as predictions take it */
typedef struct tried { plan_mask mask; double calibrated, checked; } tried; /* a plan and its changes of loss */

typedef struct profile {
    text_model  m;
    char        name[REPORT_TEXT];
    int         layers, window, windows, n_tokens, base; /* base: first token of the window that runs */
    int32_t    *tokens;
    double      bytes_per_token;
    ltx_session *s;
    ltx_session_mems mems;
    ltx_step    steps[2 * LTX_MAX_LAYERS]; /* of the plan in use */
    sight      *sights;                    /* [windows * window][layers] */
    plan_mask   full;
    branch      branches[LTX_MAX_LAYERS][2]; /* attention, ffn */
    turn        turns[LTX_MAX_LAYERS][2];
    int         rank_rows, rank_windows;
    double      last_tap, *taps;             /* for timing     */
    int         repeat;
    double      head_us, rest_us, batch[4]; /* rest: before the first layer; batches of 1, 2, 4, 8 rows against one */
    double     *full_loss;                   /* [windows] */
    int         searched, to_search;         /* plans of the greedy search */
    struct { plan_mask mask; double speed, measured, calibrated, checked; } plan;
    struct { int layers, n, same, beaten[2]; double least[2], speed; } rivals; /* plans without so many layers in a row or evenly spaced; by calibration, check */
    struct { int rule, first, every; float threshold; double speed, measured, calibrated, checked, p; } exit;
    struct { int exit, last, length; double expected, measured; } draft;
} profile;

static record *add(const profile *p, int t) { return report_add(&results, t, p->name); }
static void load_model(profile *p)
{
    const char *slash = strrchr(opt.model, '/');
    char *at;
    text_model_load(&p->m, opt.model);
    snprintf(p->name, sizeof p->name, "%.*s", REPORT_TEXT - 1, slash != NULL ? slash + 1 : opt.model);
    if (strrchr(p->name, '.') != NULL) *strrchr(p->name, '.') = 0;
    for (at = p->name; *at != 0; at++) if (strchr("<>&\",", *at) != NULL) *at = '_'; /* safe in CSV and HTML */
    p->layers = p->m.model.n_layers;
    if (p->layers < 3) die(EXIT_FAILED, "%s has %d layers: nothing to save with fewer than 3", opt.model, p->layers);
    if (opt.gates[0] > p->layers - 2) die(EXIT_USAGE, "--gates %d:%d: the last gate of %d layers is after step %d", opt.gates[0], opt.gates[1], p->layers, p->layers - 2);
    p->window = opt.window > 0 ? opt.window : (p->m.model.ctx > 0 ? p->m.model.ctx : 512) / 2;
    if (p->m.model.ctx > 0 && p->window > p->m.model.ctx) die(EXIT_USAGE, "--window %d: the model was trained for %d tokens", p->window, (int)p->m.model.ctx);
}
static void add_document(profile *p, const char *text, size_t len, int room)
{
    const uint32_t flags = ltx_vocab_bos(p->m.vocab) >= 0 ? LTX_BOS : 0;
    const int32_t cap = (int32_t)len + 8;
    int32_t n = 0, *ids;
    ltx_need need;
    ltx_mem work;
    check(ltx_encode_need(len, &need), "text");
    work = lend(need);
    ids = (int32_t *)alloc((size_t)cap * sizeof *ids);
    check(ltx_encode(p->m.vocab, text, len, flags, work, ids, cap, &n), "text");
    if (n > room) n = room;
    memcpy(p->tokens + p->n_tokens, ids, (size_t)n * sizeof *ids);
    p->n_tokens += n;
    free(ids);
    give_back(work);
}
static double count_bytes(const profile *p, int n) /* of the tokens to foretell */
{
    const int32_t longest = ltx_vocab_longest(p->m.vocab) + 1;
    char *piece = (char *)alloc((size_t)longest);
    double bytes = 0;
    int i;
    for (i = 1; i <= n; i++) bytes += ltx_piece(p->m.vocab, p->tokens[i], p->tokens[i - 1] == ltx_vocab_bos(p->m.vocab), piece, longest);
    free(piece);
    return bytes;
}
/* Documents until there are tokens enough: windows, and one token more to foretell. */
static void load_text(profile *p)
{
    FILE *f = fopen(opt.text, "rb");
    const char *at, *end, *document;
    ltx_mem file;
    size_t len;
    int want;
    if (f == NULL) die(EXIT_FAILED, "cannot open %s: %s", opt.text, strerror(errno));
    file = read_all(f, opt.text);
    fclose(f);
    want = (opt.tokens + p->window - 1) / p->window * p->window + 1;
    p->tokens = (int32_t *)alloc((size_t)want * sizeof *p->tokens);
    if (file.size > (size_t)want * 64) file.size = (size_t)want * 64; /* no tokenizer needs more */
    at = (const char *)file.ptr;
    end = at + file.size;
    while (p->n_tokens < want && (len = next_document(&at, end, opt.whole, &document)) > 0) add_document(p, document, len, want - p->n_tokens);
    free(file.ptr);
    p->windows = (p->n_tokens - 1) / p->window;
    if (p->windows < 2) die(EXIT_FAILED, "%s gives %d tokens: two windows of %d and one token more are the least (--window)", opt.text, p->n_tokens, p->window);
    p->bytes_per_token = count_bytes(p, p->windows * p->window) / (p->windows * p->window);
}

/* ==== >>runs =========================================================================================================== */

static int in_part(int window, int part) { return window % 2 == 0 ? part & CALIBRATE : part & CHECK; }
static int check_window(const profile *p, int i) { return 1 + 2 * (i % (p->windows / 2)); }
static double part_mean(const profile *p, const double *x, int part)
{
    double sum = 0;
    int w, n = 0;
    for (w = 0; w < p->windows; w++) if (in_part(w, part)) { sum += x[w]; n++; }
    return sum / n;
}
static double percent(double loss, double full) { return 100 * (loss / full - 1); }
static double part_change(const profile *p, const double *loss, int part) { return percent(part_mean(p, loss, part), part_mean(p, p->full_loss, part)); }

/* Run windows of a part (`most` of them at most) in batches; `row` gets every token's logits and depth. */
typedef void row_fn(profile *p, int token, const float *logits, int32_t depth, void *user);
static void run_windows(profile *p, int part, int most, row_fn *row, void *user)
{
    ltx_batch batch = { 0 };
    ltx_output out;
    int w, at, i, n = 0;
    for (w = 0; w < p->windows && n < most; w++) {
        if (!in_part(w, part)) continue;
        n++;
        check(ltx_rewind(p->s, 0), "rewind");
        p->base = w * p->window;
        for (at = 0; at < p->window; at += batch.count) {
            batch.tokens = p->tokens + p->base + at;
            batch.count = batch.logits = p->window - at < ROWS ? p->window - at : ROWS;
            check(ltx_eval_batch(p->s, &batch, &out), "text");
            for (i = 0; i < batch.count; i++) row(p, p->base + at + i, out.logits + (size_t)i * (size_t)p->m.model.vocab, out.depth[i], user);
        }
    }
    check(ltx_rewind(p->s, 0), "rewind"); /* no row waits when the plan changes */
}
static void add_loss(profile *p, int token, const float *logits, int32_t depth, void *user)
{
    (void)depth;
    ((double *)user)[token / p->window] += look(logits, p->m.model.vocab, p->tokens[token + 1]).loss / p->window;
}
static void set_policy(profile *p, const ltx_policy *policy)
{
    const ltx_policy none = { .rule = LTX_EXIT_NEVER };
    check(ltx_set_policy(p->s, policy != NULL ? policy : &none), "policy");
}
static void set_plan(profile *p, int count, int fill)
{
    ltx_plan plan = { NULL, 0, 0 };
    plan.steps = p->steps;
    plan.count = count;
    plan.fill = fill;
    check(ltx_set_plan(p->s, &plan), "plan");
}
/* Loss of a plan in each window of a part, [windows], others 0. */
static void run_mask(profile *p, const plan_mask *x, int part, int most, double *loss)
{
    memset(loss, 0, (size_t)p->windows * sizeof *loss);
    set_policy(p, NULL);
    set_plan(p, mask_steps(x, p->layers, p->steps), 0);
    run_windows(p, part, most, add_loss, loss);
}
static int search_windows(const profile *p)
{
    const int most = (p->windows + 1) / 2, n = opt.search / p->window;
    return n < 1 ? 1 : n < most ? n : most;
}
static double loss_of(profile *p, const plan_mask *x, int first, int windows) /* mean over windows first .. windows - 1 of those that calibrate */
{
    double *loss = (double *)alloc((size_t)p->windows * sizeof *loss), sum = 0;
    int w;
    run_mask(p, x, CALIBRATE, windows, loss);
    for (w = 2 * first; w < p->windows; w++) sum += loss[w]; /* every other window calibrates */
    free(loss);
    return sum / (windows - first);
}
static double search_loss(profile *p, const plan_mask *x) { return loss_of(p, x, 0, search_windows(p)); }
static void open_profile(profile *p)
{
    ltx_session_desc desc = { .ctx = p->window, .rows = ROWS, .logits_rows = ROWS, .log = print_log };
    p->s = session_open(&p->m.model, &desc, &p->mems);
    p->full = mask_full(&p->m.model);
    p->full_loss = (double *)alloc((size_t)p->windows * sizeof *p->full_loss);
}

/* ==== >>lens ===========================================================================================================
   One pass with a gate after every layer: rows go on, so what is in the cache is full depth's. */

static sight *sight_at(const profile *p, int token, int layer) { return &p->sights[(size_t)token * (size_t)p->layers + (size_t)layer]; }
static int32_t best_listed(const ltx_model *m, const float *logits)
{
    const uint8_t *at = (const uint8_t *)m->draft_ids;
    int32_t i, id, best = -1;
    for (i = 0; i < m->n_draft_ids; i++, at += 4) {
        id = (int32_t)((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24);
        if (best < 0 || logits[id] > logits[best]) best = id;
    }
    return best;
}
static int32_t lens_gate(void *user, const ltx_view *v)
{
    profile *p = (profile *)user;
    const int token = p->base + v->position;
    sight *s = sight_at(p, token, v->layer);
    *s = look(v->logits, v->vocab, p->tokens[token + 1]);
    if (p->m.model.n_draft_ids > 0) s->draft = best_listed(&p->m.model, v->logits); /* of the shortlist */
    return LTX_GO;
}
static void lens_last(profile *p, int token, const float *logits, int32_t depth, void *user)
{
    (void)depth;
    *sight_at(p, token, p->layers - 1) = look(logits, p->m.model.vocab, p->tokens[token + 1]);
    if ((token + 1) % p->window == 0) progress("logits after every layer", ++*(int *)user, p->windows);
}
/* Mean length of the prefix that full depth would accept, of drafts of `length` tokens that begin anywhere in a window. */
static double accepted(const profile *p, int depth, int length)
{
    double sum = 0;
    long n = 0;
    int w, i, k;
    for (w = 0; w < p->windows; w++)
        for (i = 0; i + length <= p->window; i++, n++)
            for (k = 0; k < length; k++) {
                const int token = w * p->window + i + k;
                if (sight_at(p, token, depth - 1)->draft != sight_at(p, token, p->layers - 1)->top) break;
                sum++;
            }
    return n > 0 ? sum / (double)n : 0;
}
static void lens_row(profile *p, int depth)
{
    record *r = add(p, T_DEPTHS);
    const int n = p->windows * p->window;
    double loss = 0, full = 0, entropy = 0, same = 0;
    int i, k;
    for (i = 0; i < n; i++) {
        const sight *s = sight_at(p, i, depth - 1), *last = sight_at(p, i, p->layers - 1);
        loss += s->loss / n;
        full += last->loss / n;
        entropy += (double)s->entropy / n;
        same += s->top == last->top;
    }
    r->v[DEPTH] = depth; r->v[LOSS] = loss; r->v[BITS] = loss / log(2.0) / p->bytes_per_token; r->v[CHANGE] = percent(loss, full);
    r->v[ENTROPY] = entropy; r->v[AGREE] = same / n;
    for (k = 0; k < 4; k++) if (depth < p->layers && p->window > 1 << k) r->v[KEPT1 + k] = accepted(p, depth, 1 << k);
}
static void lens(profile *p)
{
    ltx_policy policy = { .rule = LTX_EXIT_ASK, .gate = lens_gate, .want_logits = 1, .user = p };
    int count = mask_steps(&p->full, p->layers, p->steps), i, w, done = 0;
    if (count != p->layers) die(EXIT_FAILED, "a layer of %s has no branch", opt.model);
    p->sights = (sight *)alloc((size_t)(p->windows * p->window) * (size_t)p->layers * sizeof *p->sights);
    check(ltx_plan_gates(p->steps, count, 0, 1), "gates");
    set_plan(p, count, LTX_FILL_DEFER);
    set_policy(p, &policy);
    run_windows(p, ALL, p->windows, lens_last, &done);
    for (w = 0; w < p->windows; w++)
        for (i = 0, p->full_loss[w] = 0; i < p->window; i++) p->full_loss[w] += sight_at(p, w * p->window + i, p->layers - 1)->loss / p->window;
    for (i = 1; i <= p->layers; i++) lens_row(p, i);
}

/* ==== >>branches ======================================================================================================= */

static int split_full(profile *p) /* every branch a step of its own */
{
    int32_t count = mask_steps(&p->full, p->layers, p->steps);
    check(ltx_plan_split(p->steps, 2 * LTX_MAX_LAYERS, &count), "plan");
    return count;
}
/* In a session of its own: the rows whose attention is ranked have to come in one batch. */
static void similarity(profile *p)
{
    watch w = { &p->m.model, p->steps, NULL, 0, p->turns };
    ltx_session_desc desc = { .ctx = p->window, .rows = p->window < RANK_ROWS ? p->window : RANK_ROWS, .plan = { p->steps, split_full(p), 0 },
                              .policy = { .tap = watch_tap, .user = &w }, .log = print_log };
    ltx_session_mems mems;
    ltx_session *s = session_open(&p->m.model, &desc, &mems);
    int i;
    p->rank_rows = desc.rows;
    w.before = (float *)alloc((size_t)p->window * (size_t)p->m.model.dim * sizeof *w.before);
    for (i = 0; i < p->windows; i++) {
        w.rank_rows = i % ((p->windows + RANK_WINDOWS - 1) / RANK_WINDOWS) == 0 ? p->rank_rows : 0;
        p->rank_windows += w.rank_rows > 0;
        check(ltx_rewind(s, 0), "rewind");
        check(ltx_eval(s, p->tokens + i * p->window, p->window, NULL), "text");
        progress("what each branch does to the hidden vectors", i + 1, p->windows);
    }
    watch_means(&w);
    free(w.before);
    session_close(&mems);
}
/* Loss without each branch, and without each layer, on the calibration windows. */
static double leave_out(profile *p, int layer, int run)
{
    double *loss = (double *)alloc((size_t)p->windows * sizeof *loss), change;
    const plan_mask x = mask_without(p->full, layer, run);
    run_mask(p, &x, CALIBRATE, p->windows, loss);
    change = part_change(p, loss, CALIBRATE);
    free(loss);
    return change;
}
static void branches(profile *p)
{
    int l, k;
    similarity(p);
    for (l = 0; l < p->layers; l++) {
        record *r = add(p, T_LAYERS);
        r->v[LAYER] = l;
        r->v[BOTH_LOSS] = leave_out(p, l, LTX_ATTN | LTX_FFN);
        for (k = 0; k < 2; k++) {
            branch *b = &p->branches[l][k];
            if (!(p->full.run[l] & branch_bit(k))) continue;
            b->alone = leave_out(p, l, branch_bit(k));
            r->v[k == 0 ? ATTN_COS : FFN_COS] = p->turns[l][k].cosine;
            r->v[k == 0 ? ATTN_NORM : FFN_NORM] = p->turns[l][k].norm;
            if (k == 0) r->v[RANK] = p->turns[l][k].rank;
            r->v[k == 0 ? ATTN_LOSS : FFN_LOSS] = b->alone;
            r->v[k == 0 ? ATTN_US : FFN_US] = b->us;
        }
        progress("leaving out each branch alone", l + 1, p->layers);
    }
}

/* ==== >>cost ===========================================================================================================
   One row at a time through a plan of single branches; a tap reads the clock between them. */

enum { REPEATS = 5, BATCH_REPEATS = 101 };

static int timed_positions(const profile *p) { return p->window < 128 ? p->window : 128; }
static double *tap_time(const profile *p, int layer, int k) /* [REPEATS * positions] of a branch; of what is before all layers: 0, -1 */
{
    return p->taps + (size_t)(2 * layer + k + 1) * REPEATS * (size_t)timed_positions(p);
}
static int32_t clock_tap(void *user, const ltx_view *v)
{
    profile *p = (profile *)user;
    const double now = seconds_now();
    double *times = v->step < 0 ? tap_time(p, 0, -1) : tap_time(p, v->layer, p->steps[v->step].run & LTX_ATTN ? 0 : 1);
    times[p->repeat * timed_positions(p) + v->position] = now - p->last_tap;
    p->last_tap = seconds_now();
    return LTX_GO;
}
/* Branches of one kind with as many bytes of weights take the same time, but for noise: predictions take the median of theirs. */
static double weight_bytes(const ltx_layer *y, int k)
{
    const ltx_mat *const mats[2][4] = { { &y->wq, &y->wk, &y->wv, &y->wo }, { &y->w_gate, &y->w_up, &y->w_down, NULL } };
    double bytes = 0;
    int i;
    for (i = 0; i < 4 && mats[k][i] != NULL; i++) if (mats[k][i]->data != NULL) bytes += (double)ltx_mat_bytes(mats[k][i]->type, mats[k][i]->rows, mats[k][i]->cols);
    return bytes;
}
static void predict_costs(profile *p)
{
    const ltx_layer *y = p->m.model.layers;
    double same[LTX_MAX_LAYERS];
    int l, i, k, n;
    for (l = 0; l < p->layers; l++) for (k = 0; k < 2; k++) {
        for (i = n = 0; i < p->layers; i++) if (weight_bytes(&y[i], k) == weight_bytes(&y[l], k)) same[n++] = p->branches[i][k].us;
        p->branches[l][k].cost = median(same, n);
    }
}
static void time_branches(profile *p)
{
    const ltx_policy policy = { .tap = clock_tap, .user = p };
    const int n = timed_positions(p);
    double *head = (double *)alloc(REPEATS * (size_t)n * sizeof *head);
    const float *logits;
    int i, l, k;
    p->taps = (double *)alloc((2 * (size_t)p->layers + 1) * REPEATS * (size_t)n * sizeof *p->taps);
    set_policy(p, NULL);
    set_plan(p, split_full(p), 0);
    set_policy(p, &policy);
    for (p->repeat = 0; p->repeat < REPEATS; p->repeat++) {
        check(ltx_rewind(p->s, 0), "rewind");
        for (i = 0; i < n; i++) {
            p->last_tap = seconds_now();
            check(ltx_eval(p->s, p->tokens + i, 1, &logits), "time");
            head[p->repeat * n + i] = seconds_now() - p->last_tap;
        }
    }
    p->head_us = 1e6 * median(head, REPEATS * n);
    p->rest_us = 1e6 * median(tap_time(p, 0, -1), REPEATS * n);
    for (l = 0; l < p->layers; l++) for (k = 0; k < 2; k++)
        if (p->full.run[l] & branch_bit(k)) p->branches[l][k].us = 1e6 * median(tap_time(p, l, k), REPEATS * n);
    free(p->taps);
    free(head);
    predict_costs(p);
}
/* Seconds of a call with so many rows, all with logits, from `position` on; the sequence is as before afterwards. */
static double time_call(profile *p, int position, int rows)
{
    ltx_batch batch = { 0 };
    ltx_output out;
    double begin;
    batch.tokens = p->tokens + position;
    batch.count = batch.logits = rows;
    begin = seconds_now();
    check(ltx_eval_batch(p->s, &batch, &out), "time");
    begin = seconds_now() - begin;
    check(ltx_rewind(p->s, position), "rewind");
    return begin;
}
static void cost_row(const profile *p, const char *what, double us, double ratio)
{
    record *r = add(p, T_COST);
    snprintf(r->text[WHAT], REPORT_TEXT, "%s", what);
    r->v[US] = us;
    r->v[RATIO] = ratio;
}
static void time_batches(profile *p)
{
    static const char *const names[] = { "full depth, one row, logits", "batch of 2 rows, logits of all", "batch of 4 rows", "batch of 8 rows" };
    double t[4][BATCH_REPEATS], us[4];
    const int at = p->window / 2 < 64 ? p->window / 2 : 64;
    int i, k;
    set_policy(p, NULL);
    set_plan(p, mask_steps(&p->full, p->layers, p->steps), 0);
    check(ltx_rewind(p->s, 0), "rewind");
    check(ltx_eval(p->s, p->tokens, at, NULL), "time");
    for (i = -2; i < BATCH_REPEATS; i++) for (k = 0; k < 4; k++) { /* in turn: what disturbs one disturbs all */
        const double seconds = at + (1 << k) <= p->window ? time_call(p, at, 1 << k) : 0;
        if (i >= 0) t[k][i] = seconds;
    }
    for (k = 0; k < 4; k++) us[k] = 1e6 * median(t[k], BATCH_REPEATS);
    for (k = 0; k < 4; k++) {
        p->batch[k] = us[k] / us[0];
        cost_row(p, names[k], us[k], p->batch[k]);
    }
}
static void cost(profile *p)
{
    double attn = 0, ffn = 0;
    int l;
    time_branches(p);
    time_batches(p);
    for (l = 0; l < p->layers; l++) { attn += p->branches[l][0].us; ffn += p->branches[l][1].us; }
    cost_row(p, "attention of all layers", attn, NAN);
    cost_row(p, "ffn of all layers", ffn, NAN);
    cost_row(p, "head", p->head_us, NAN);
    cost_row(p, "embedding", p->rest_us, NAN);
    progress("times of branches, head and batches", 1, 1);
}
static double layer_us(const profile *p, int l, int run) { return (run & LTX_ATTN ? p->branches[l][0].cost : 0) + (run & LTX_FFN ? p->branches[l][1].cost : 0); }
static double mask_us(const profile *p, const plan_mask *x)
{
    double us = p->head_us + p->rest_us;
    int l;
    for (l = 0; l < p->layers; l++) us += layer_us(p, l, x->run[l]);
    return us;
}
static double mask_speed(const profile *p, const plan_mask *x) { return mask_us(p, &p->full) / mask_us(p, x); }

/* ==== >>plans ========================================================================================================== */

static void name_branches(const profile *p, const plan_mask *x, int run, char *out, size_t size) /* the layers without it: "3,7-9" */
{
    int l, last = -2, first = -2;
    size_t n = 0;
    out[0] = 0;
    for (l = 0; l <= p->layers; l++) {
        const int gone = l < p->layers && (p->full.run[l] & run) == run && (x->run[l] & run) == 0;
        if (gone && last != l - 1) first = l;
        if (gone) last = l;
        if (!gone && last == l - 1 && last >= 0 && n < size) {
            n += (size_t)snprintf(out + n, size - n, "%s%d", n > 0 ? "," : "", first);
            if (last > first && n < size) n += (size_t)snprintf(out + n, size - n, "-%d", last);
        }
    }
}
static void name_factors(const profile *p, const plan_mask *x, int k, char *out, size_t size) /* "3:0.97,4:1.1" */
{
    size_t n = 0;
    int l;
    out[0] = 0;
    for (l = 0; l < p->layers; l++) {
        if (!(x->run[l] & branch_bit(k)) || x->scale[l][k] == 0 || n >= size) continue;
        n += (size_t)snprintf(out + n, size - n, "%s%d:%.2f", n > 0 ? "," : "", l, (double)x->scale[l][k]);
    }
}
static void name_plan(const profile *p, const plan_mask *x, char *out, size_t size) /* as options of generate */
{
    static const struct { int run; const char *option; } sorts[] = { { LTX_ATTN, "--drop-attn" }, { LTX_FFN, "--drop-ffn" }, { 0, "--scale-attn" }, { 0, "--scale-ffn" } };
    char list[PLAN_TEXT / 4];
    size_t n = 0;
    int k;
    out[0] = 0;
    for (k = 0; k < COUNT(sorts); k++) {
        if (k < 2) name_branches(p, x, sorts[k].run, list, sizeof list);
        else name_factors(p, x, k - 2, list, sizeof list);
        if (list[0] != 0 && n < size) n += (size_t)snprintf(out + n, size - n, "%s%s %s", n > 0 ? " " : "", sorts[k].option, list);
    }
}
static tried try_plan(profile *p, const plan_mask *x)
{
    double *loss = (double *)alloc((size_t)p->windows * sizeof *loss);
    tried y;
    run_mask(p, x, ALL, p->windows, loss);
    y.mask = *x;
    y.calibrated = part_change(p, loss, CALIBRATE);
    y.checked = part_change(p, loss, CHECK);
    free(loss);
    return y;
}
static record *plan_row(const profile *p, int t, const char *what, const tried *x)
{
    record *r = add(p, t);
    snprintf(r->text[WHAT], REPORT_TEXT, "%s", what);
    r->v[BRANCHES] = mask_branches(&x->mask, p->layers);
    r->v[SPEED] = mask_speed(p, &x->mask);
    r->v[CALIBRATED] = x->calibrated;
    r->v[CHECKED] = x->checked;
    return r;
}

/* A family of plans, from slow to fast. */
typedef struct family { const char *name; tried *plans; int n; } family;

static double greedy_cost(void *user, const plan_mask *x)
{
    profile *p = (profile *)user;
    progress("greedy search", ++p->searched, p->to_search);
    return search_loss(p, x);
}
static void greedy(profile *p, family *f)
{
    const int all = mask_branches(&p->full, p->layers), most = opt.most > 0 && opt.most < all ? opt.most : all / 2;
    const double full = search_loss(p, &p->full);
    plan_mask x = p->full, y;
    record *r;
    int n, l;
    p->to_search = most * all - most * (most - 1) / 2;
    f->plans = (tried *)alloc((size_t)most * sizeof *f->plans);
    for (n = 0; n < most; n++, x = y) {
        double least;
        y = mask_cheapest(&x, p->layers, 0, greedy_cost, p, &least);
        f->plans[f->n++] = try_plan(p, &y);
        r = plan_row(p, T_GREEDY, "", &f->plans[n]);
        for (l = 0; x.run[l] == y.run[l]; l++) continue;
        snprintf(r->text[WHAT], REPORT_TEXT, "- %s %d", (x.run[l] ^ y.run[l]) == LTX_ATTN ? "attn" : "ffn", l);
        r->v[FOUND] = percent(least, full);
    }
}
static plan_mask without_row(const profile *p, int first, int n) /* of layers */
{
    plan_mask x = p->full;
    int l;
    for (l = first; l < first + n; l++) x.run[l] = 0;
    return x;
}
static plan_mask without_spread(const profile *p, int first, int last, int n) /* n layers, evenly from the first to the last */
{
    plan_mask x = p->full;
    int i;
    for (i = 0; i < n; i++) x.run[first + (2 * i * (last - first) + n - 1) / (2 * (n - 1))] = 0;
    return x;
}
/* `n` layers in a row, the first and the last layer of the model stay: the place where that costs least. */
static void contiguous(profile *p, family *f)
{
    const int most = p->layers / 2;
    int n, first;
    f->plans = (tried *)alloc((size_t)most * sizeof *f->plans);
    for (n = 1; n <= most && n <= p->layers - 2; n++) {
        plan_mask kept = p->full;
        double best = HUGE_VAL;
        for (first = 1; first + n < p->layers; first++) {
            const plan_mask x = without_row(p, first, n);
            const double loss = search_loss(p, &x);
            if (loss < best) { best = loss; kept = x; }
        }
        f->plans[f->n++] = try_plan(p, &kept);
        progress("contiguous layers, every place", n, most);
    }
}
static void even(profile *p, family *f)
{
    const int most = p->layers / 2;
    int n, i;
    f->plans = (tried *)alloc((size_t)most * sizeof *f->plans);
    for (n = 1; n <= most && n <= p->layers - 2; n++) {
        plan_mask x = p->full;
        for (i = 0; i < n; i++) x.run[1 + (2 * i + 1) * (p->layers - 2) / (2 * n)] = 0;
        f->plans[f->n++] = try_plan(p, &x);
    }
}

/* The proposal stands beside every plan of its speed without `n` layers in a row, and every one without n layers spread evenly from any layer to
   any other, no two of them neighbours. */
enum { ROW, SPREAD, KINDS };
static const char *const kinds[KINDS] = { "contiguous layers", "evenly spaced layers" };
#define EQUAL_SPEED 1.03 /* two speeds with a smaller ratio are one: predictions vary by more from run to run */

static double whole_speed(const profile *p, int n) /* without n average layers */
{
    const double full = mask_us(p, &p->full);
    return full / (full - n * (full - p->head_us - p->rest_us) / p->layers);
}
static int whole_layers(const profile *p, double speed) /* so many fewer reach it */
{
    int n = 1;
    while (n < p->layers - 2 && whole_speed(p, n) * EQUAL_SPEED < speed) n++;
    return n;
}
static void all_rivals(profile *p, int n, family *f)
{
    const int all = p->layers * (p->layers + 3) / 2;
    int first, last, done = 0, to_do = p->layers - n + 1;
    for (first = 0; first < p->layers && n > 1; first++) for (last = first + 2 * (n - 1); last < p->layers; last++) to_do++;
    f[ROW].plans = (tried *)alloc((size_t)all * sizeof *f->plans);
    f[SPREAD].plans = (tried *)alloc((size_t)all * sizeof *f->plans);
    for (first = 0; first + n <= p->layers; first++) {
        const plan_mask x = without_row(p, first, n);
        f[ROW].plans[f[ROW].n++] = try_plan(p, &x);
        progress("plans of equal speed", ++done, to_do);
    }
    for (first = 0; first < p->layers && n > 1; first++) for (last = first + 2 * (n - 1); last < p->layers; last++) {
        const plan_mask x = without_spread(p, first, last, n);
        f[SPREAD].plans[f[SPREAD].n++] = try_plan(p, &x);
        progress("plans of equal speed", ++done, to_do);
    }
}
static int fast_enough(const profile *p, const plan_mask *x, double speed) { return mask_speed(p, x) >= speed * (1 - 1e-9); }
static void try_exchange(profile *p, const plan_mask *y, plan_mask *best, double *loss)
{
    const double l = search_loss(p, y);
    if (l < *loss) { *loss = l; *best = *y; }
}
/* A plan with one branch back: is it better than *best as it is, or without another one (out = 1)? Or without two, where one is not enough (out = 2)? */
static void exchange(profile *p, const plan_mask *back, int out, double speed, plan_mask *best, double *loss)
{
    int a, b;
    if (out == 1 && fast_enough(p, back, speed)) try_exchange(p, back, best, loss);
    for (a = 0; a < 2 * p->layers; a++) {
        const plan_mask y = mask_without(*back, a / 2, branch_bit(a % 2));
        const int enough = fast_enough(p, &y, speed);
        if (!(back->run[a / 2] & branch_bit(a % 2))) continue;
        if (out == 1 && enough) try_exchange(p, &y, best, loss);
        for (b = a + 1; b < 2 * p->layers && out == 2 && !enough; b++) {
            const plan_mask other = mask_without(*back, b / 2, branch_bit(b % 2)), z = mask_without(y, b / 2, branch_bit(b % 2));
            if (y.run[b / 2] & branch_bit(b % 2) && fast_enough(p, &z, speed) && !fast_enough(p, &other, speed)) try_exchange(p, &z, best, loss);
        }
    }
}
/* Exchanges as long as they lessen the loss on the text of the search; the result if that is so on all that calibrates. */
static tried refine(profile *p, const tried *start, int out, double speed)
{
    enum { PASSES = 4 };
    plan_mask x = start->mask, back;
    double loss = search_loss(p, &x), before = HUGE_VAL;
    int pass, i;
    tried y;
    for (pass = 0; pass < PASSES && loss < before; pass++)
        for (i = 0, before = loss; i < 2 * p->layers; i++) {
            back = x;
            back.run[i / 2] = (uint8_t)(back.run[i / 2] | (p->full.run[i / 2] & branch_bit(i % 2)));
            if (memcmp(&back, &x, sizeof x) != 0) exchange(p, &back, out, speed, &x, &loss);
            progress(out == 1 ? "exchange of branches" : "exchange of one branch for two", pass * 2 * p->layers + i + 1, PASSES * 2 * p->layers);
        }
    progress("exchange of branches", 1, 1);
    y = try_plan(p, &x);
    return y.calibrated < start->calibrated ? y : *start;
}
/* What is left may want other weights than it had as a part of the whole: factors of the branches that stay, by parabolas through the loss on three
   quarters of what calibrates, one branch after another. Each starts at 1 with a normal prior, or a short text would choose them by its noise; they are kept if they
   lessen the loss on the last quarter, too. (EnsembleScale: "Revisiting Vision Transformer from the View of Path Ensemble", arXiv 2308.06548) */
#define PRIOR .1 /* its standard deviation */
static double factor_of(const plan_mask *x, int b) { const float s = x->scale[b / 2][b % 2]; return s == 0 ? 1 : (double)s; }
static plan_mask with_factor(plan_mask x, int b, double s) /* in hundredths, so that it can be written down */
{
    s = rint(100 * fmin(fmax(s, .1), 4)) / 100;
    x.scale[b / 2][b % 2] = s == 1 ? 0 : (float)s;
    return x;
}
static int fitted_windows(const profile *p) { return 3 * ((p->windows + 1) / 2) / 4; }
static double unfitted_loss(profile *p, const plan_mask *x) /* on what calibrates and was not fitted on */
{
    return loss_of(p, x, fitted_windows(p), (p->windows + 1) / 2);
}
static double factors_loss(profile *p, const plan_mask *x)
{
    const int windows = fitted_windows(p);
    double away = 0;
    int b;
    for (b = 0; b < 2 * p->layers; b++) away += pow((factor_of(x, b) - 1) / PRIOR, 2) / 2;
    return loss_of(p, x, 0, windows) + away / ((double)windows * p->window);
}
static void fit_factor(profile *p, int b, double by, plan_mask *x, double *loss)
{
    const double s = factor_of(x, b);
    const plan_mask less = with_factor(*x, b, s - by), more = with_factor(*x, b, s + by);
    const double low = factors_loss(p, &less), high = factors_loss(p, &more), bend = low - 2 * *loss + high;
    const double to = bend > 0 ? by * (low - high) / (2 * bend) : low < high ? -by : by;
    const plan_mask least = with_factor(*x, b, s + fmin(fmax(to, -2 * by), 2 * by));
    const double there = factors_loss(p, &least);
    if (there < *loss) { *loss = there; *x = least; }
}
static tried fit_factors(profile *p, const tried *plan)
{
    enum { SWEEPS = 2 };
    plan_mask x = plan->mask;
    double loss = factors_loss(p, &x);
    int sweep, b;
    tried y;
    for (sweep = 0; sweep < SWEEPS; sweep++) for (b = 0; b < 2 * p->layers; b++) {
        if (x.run[b / 2] & branch_bit(b % 2)) fit_factor(p, b, PRIOR / (1 << sweep), &x, &loss);
        progress("factors of branches", sweep * 2 * p->layers + b + 1, SWEEPS * 2 * p->layers);
    }
    y = try_plan(p, &x);
    return y.calibrated < plan->calibrated && unfitted_loss(p, &x) < unfitted_loss(p, &plan->mask) ? y : *plan;
}
static const tried *best_of(const profile *p, const family *f, double speed)
{
    const tried *best = NULL;
    int i;
    for (i = 0; i < f->n; i++) if (fast_enough(p, &f->plans[i].mask, speed) && (best == NULL || f->plans[i].calibrated < best->calibrated)) best = &f->plans[i];
    return best;
}
static void detail_row(const profile *p, const char *what, const tried *x)
{
    record *r = plan_row(p, T_PLANS, what, x);
    char text[PLAN_TEXT];
    int l = 0;
    name_plan(p, &x->mask, text, sizeof text);
    snprintf(r->text[DETAIL], REPORT_TEXT, "%.*s", REPORT_TEXT - 1, text);
    if (strlen(text) >= REPORT_TEXT) memcpy(r->text[DETAIL] + REPORT_TEXT - 4, "...", 4);
    while (l < p->layers && x->mask.run[l] == p->full.run[l]) l++;
    if (l < p->layers) r->v[LAYER] = l;
}
static int by_calibrated(const void *a, const void *b)
{
    const double x = ((const tried *)a)->calibrated, y = ((const tried *)b)->calibrated;
    return (x > y) - (x < y);
}
static void compare_rivals(profile *p, family *f, const tried *proposal)
{
    int i, k;
    p->rivals.least[0] = p->rivals.least[1] = HUGE_VAL;
    for (k = 0; k < KINDS; k++) {
        qsort(f[k].plans, (size_t)f[k].n, sizeof *f[k].plans, by_calibrated);
        for (i = 0; i < f[k].n; i++) {
            const tried *x = &f[k].plans[i];
            detail_row(p, kinds[k], x);
            if (memcmp(&x->mask, &proposal->mask, sizeof x->mask) == 0) { p->rivals.same = 1; continue; }
            p->rivals.n++;
            p->rivals.beaten[0] += proposal->calibrated < x->calibrated;
            p->rivals.beaten[1] += proposal->checked < x->checked;
            p->rivals.least[0] = fmin(p->rivals.least[0], x->calibrated);
            p->rivals.least[1] = fmin(p->rivals.least[1], x->checked);
        }
    }
}
static void factor_rows(const profile *p, const plan_mask *x)
{
    int l, k;
    for (l = 0; l < p->layers; l++) if (x->run[l] != 0) {
        record *r = add(p, T_FACTORS);
        r->v[LAYER] = l;
        for (k = 0; k < 2; k++) if (x->run[l] & branch_bit(k)) r->v[ATTN_FACTOR + k] = factor_of(x, 2 * l + k);
    }
}
static void propose_plan(profile *p, const family *greedy_plans, const tried *full)
{
    const double fastest = mask_speed(p, &greedy_plans->plans[greedy_plans->n - 1].mask);
    const double wanted = fastest * EQUAL_SPEED < opt.speed ? fastest : opt.speed; /* the fastest there is, if need be */
    const int n = whole_layers(p, wanted);
    const double whole = whole_speed(p, n), speed = fmin(fastest, whole < wanted * EQUAL_SPEED && wanted <= whole * EQUAL_SPEED ? whole : wanted);
    family f[1 + KINDS] = { { "greedy branches", NULL, 0 }, { kinds[ROW], NULL, 0 }, { kinds[SPREAD], NULL, 0 } };
    tried proposal = greedy_plans->plans[greedy_plans->n - 1], unscaled;
    const tried *starts[1 + KINDS];
    double least = HUGE_VAL;
    int k;
    f[0] = *greedy_plans;
    all_rivals(p, n, f + 1);
    for (k = 0; k <= KINDS; k++) {
        starts[k] = best_of(p, &f[k], speed);
        if (starts[k] != NULL && starts[k]->calibrated < least) { least = starts[k]->calibrated; proposal = *starts[k]; }
    }
    for (k = 0; k <= KINDS; k++) if (starts[k] != NULL && starts[k]->calibrated <= 2 * fabs(least)) { /* the others are hopeless */
        const tried y = refine(p, starts[k], 1, speed);
        if (y.calibrated < proposal.calibrated) proposal = y;
    }
    unscaled = proposal = refine(p, &proposal, 2, speed);
    if (!opt.unscaled && fitted_windows(p) > 0) proposal = fit_factors(p, &proposal);
    p->plan.mask = proposal.mask;
    p->plan.speed = mask_speed(p, &proposal.mask);
    p->plan.calibrated = proposal.calibrated;
    p->plan.checked = proposal.checked;
    p->rivals.layers = n;
    p->rivals.speed = whole;
    detail_row(p, "full depth", full);
    detail_row(p, "proposed", &proposal);
    if (memcmp(&unscaled.mask, &proposal.mask, sizeof unscaled.mask) != 0) {
        detail_row(p, "proposed, all factors 1", &unscaled);
        factor_rows(p, &proposal.mask);
    }
    if (starts[0] != NULL) detail_row(p, "greedy branches", starts[0]);
    compare_rivals(p, f + 1, &proposal);
    for (k = 1; k <= KINDS; k++) free(f[k].plans);
}
static void compare_text(const profile *p, char *out, size_t size) /* in a sentence */
{
    const int n = p->rivals.n, *beaten = p->rivals.beaten;
    char which[64], result[96];
    if (p->rivals.layers > 1) snprintf(which, sizeof which, "%d layers in a row or evenly spaced", p->rivals.layers);
    else snprintf(which, sizeof which, "one layer");
    if (beaten[0] == n && beaten[1] == n) snprintf(result, sizeof result, "it loses less than every one of them");
    else snprintf(result, sizeof result, "it loses less than %d (calibration) and %d (check) of them", beaten[0], beaten[1]);
    snprintf(out, size, "The %d %splans of %.2f times the speed that leave out %s lose at least %+.2f %% (calibration) and %+.2f %% (check): %s%s.",
             n, p->rivals.same ? "other " : "", p->rivals.speed, which, p->rivals.least[0], p->rivals.least[1], p->rivals.same ? "it is such a plan, and " : "", result);
}
static void plans(profile *p)
{
    family f[] = { { "greedy branches", NULL, 0 }, { kinds[ROW], NULL, 0 }, { kinds[SPREAD], NULL, 0 } };
    const tried full = try_plan(p, &p->full);
    int i, k;
    greedy(p, &f[0]);
    contiguous(p, &f[1]);
    even(p, &f[2]);
    for (k = 0; k < COUNT(f); k++) for (i = -1; i < f[k].n; i++) plan_row(p, T_CURVES, f[k].name, i < 0 ? &full : &f[k].plans[i]);
    propose_plan(p, &f[0], &full);
    for (k = 0; k < COUNT(f); k++) free(f[k].plans);
}

/* ==== >>rules ==========================================================================================================
   Every threshold is run by the engine. What is tested is the mean over windows of the relative increase of a window's loss, cut to
   0 .. cap * limit: a bounded number, so that a bound without assumptions on its distribution holds. */

static const struct rule { int rule, head; const char *name; float thresholds[MAX_THRESHOLDS]; } rules[] = { /* from cautious to bold, 0 ends */
    { LTX_EXIT_PROB, 1, "prob", { .999f, .995f, .99f, .98f, .95f, .9f, .85f, .8f, .7f, .6f, .5f, .4f } },
    { LTX_EXIT_MARGIN, 1, "margin", { .999f, .995f, .99f, .98f, .95f, .9f, .8f, .7f, .6f, .5f, .4f, .3f } },
    { LTX_EXIT_ENTROPY, 1, "entropy", { .01f, .02f, .05f, .1f, .2f, .3f, .45f, .6f, .8f, 1.1f, 1.5f, 2 } },
    { LTX_EXIT_COSINE, 0, "cosine", { .9995f, .999f, .9975f, .995f, .9925f, .99f, .985f, .98f, .97f, .95f, .92f, .88f } },
    { LTX_EXIT_PROBE, 0, "probe", { .99f, .98f, .95f, .9f, .85f, .8f, .75f, .7f, .6f, .5f, .4f, .3f } }
};
static const char *rule_name(int rule)
{
    int i;
    for (i = 0; i < COUNT(rules); i++) if (rules[i].rule == rule) return rules[i].name;
    return "none";
}
static const char *fill_option(void) { return opt.fill == LTX_FILL_DEFER ? " --fill defer" : ""; }
static int usable(const profile *p, const struct rule *x) { return x->rule != LTX_EXIT_PROBE || p->m.model.probes.data != NULL; }

/* Gates: a look at logits costs a head, so few of them and late; a look at hidden vectors costs next to nothing, and a probe knows its place. */
static void choose_gates(const profile *p, const struct rule *x, int *first, int *every)
{
    *first = x->head ? p->layers * 2 / 3 - 1 : x->rule == LTX_EXIT_PROBE ? 0 : p->layers / 4;
    *every = x->head && p->layers > 6 ? p->layers / 6 : 1;
    if (opt.gates[1] > 0) { *first = opt.gates[0]; *every = opt.gates[1]; }
}
typedef struct exit_run { const struct rule *rule; int first, every; double *loss, us, layers, heads; long rows, looks; } exit_run;

/* A layer that did not run, for one row: two of the four products of attention, or a place in a later batch. */
static double fill_us(const profile *p, int l)
{
    const ltx_layer *y = &p->m.model.layers[l];
    const double kv = (double)(y->wk.rows + y->wv.rows) * y->wk.cols, all = kv + ((double)y->wq.rows + y->wo.cols) * y->wq.cols;
    const double more = (p->batch[3] - 1) / 7; /* of a pass, for a row more in a batch */
    if (opt.fill == LTX_FILL_DEFER) return layer_us(p, l, LTX_ATTN | LTX_FFN) * (more < 0 ? 0 : more);
    return all > 0 ? p->branches[l][0].cost * kv / all : 0;
}
static void add_exit(profile *p, int token, const float *logits, int32_t depth, void *user)
{
    exit_run *x = (exit_run *)user;
    int l;
    add_loss(p, token, logits, depth, x->loss);
    for (l = x->first; l < depth && l < p->layers - 1; l += x->every) x->looks += x->rule->head;
    x->us += p->rest_us;
    for (l = 0; l < p->layers; l++) x->us += l < depth ? layer_us(p, l, LTX_ATTN | LTX_FFN) : fill_us(p, l);
    x->layers += depth;
    x->rows++;
}
static void set_exit(profile *p, int rule, float threshold, int first, int every)
{
    const ltx_policy policy = { .rule = rule, .threshold = threshold, .screen = 1 }; /* screen: of prob, where there is a shortlist, as in generate */
    const int count = mask_steps(&p->full, p->layers, p->steps);
    check(ltx_plan_gates(p->steps, count, first, every), "gates");
    set_plan(p, count, opt.fill);
    set_policy(p, &policy);
}
static void run_exit(profile *p, exit_run *x, float threshold)
{
    const ltx_model *m = &p->m.model;
    ltx_stats stats;
    memset(x->loss, 0, (size_t)p->windows * sizeof *x->loss);
    x->us = x->layers = 0;
    x->rows = x->looks = 0;
    set_exit(p, x->rule->rule, threshold, x->first, x->every);
    ltx_stats_reset(p->s);
    run_windows(p, ALL, p->windows, add_exit, x);
    ltx_session_stats(p->s, &stats);
    x->heads = (double)stats.head_rows;
    if (x->rule->rule == LTX_EXIT_PROB && m->n_draft_ids > 0) x->heads -= (double)x->looks * (1 - (double)m->n_draft_ids / m->vocab); /* a look costs a shortlist */
    x->us += x->heads * p->head_us;
    set_policy(p, NULL);
}
/* Hoeffding-Bentkus: a bound on the probability that n draws from 0..1 have a mean of at most m if their expectation is d or more. */
static double bound(double m, double d, int n)
{
    double hoeffding, bentkus = 0, term;
    int k, most = (int)ceil(n * m - 1e-9);
    if (m >= d) return 1;
    hoeffding = exp(-n * ((m > 0 ? m * log(m / d) : 0) + (1 - m) * log((1 - m) / (1 - d))));
    for (k = 0, term = pow(1 - d, n); k <= most && k <= n; k++) {
        bentkus += term;
        term *= (double)(n - k) / (k + 1) * d / (1 - d);
    }
    bentkus *= exp(1.0);
    return hoeffding < bentkus ? hoeffding : bentkus;
}
static double risk_p(const profile *p, const double *loss)
{
    const double limit = opt.loss / 100;
    double sum = 0, x;
    int w, n = 0;
    for (w = 0; w < p->windows; w++) if (in_part(w, CALIBRATE)) {
        x = (loss[w] / p->full_loss[w] - 1) / (opt.cap * limit);
        sum += x < 0 ? 0 : x > 1 ? 1 : x;
        n++;
    }
    return bound(sum / n, 1 / opt.cap, n);
}
static double level(const profile *p) /* of one rule: the rules share what may go wrong */
{
    int i, n = 0;
    for (i = 0; i < COUNT(rules); i++) n += usable(p, &rules[i]);
    return (1 - opt.confidence) / n;
}
static void keep_exit(profile *p, const exit_run *x, float threshold, const record *r)
{
    if (r->v[SPEED] < 1.01 || r->v[SPEED] <= p->exit.speed) return; /* what is within the noise of times is no gain */
    p->exit.rule = x->rule->rule;
    p->exit.first = x->first;
    p->exit.every = x->every;
    p->exit.threshold = threshold;
    p->exit.speed = r->v[SPEED];
    p->exit.calibrated = r->v[CALIBRATED];
    p->exit.checked = r->v[CHECKED];
    p->exit.p = r->v[PVALUE];
}
/* From cautious to bold. Once a threshold cannot be shown to be good enough, no bolder one is; a few more are run for the picture. */
static void try_rule(profile *p, const struct rule *rule)
{
    exit_run x = { rule, 0, 0, NULL, 0, 0, 0, 0, 0 };
    int i, accepting = 1;
    choose_gates(p, rule, &x.first, &x.every);
    x.loss = (double *)alloc((size_t)p->windows * sizeof *x.loss);
    for (i = 0; i < MAX_THRESHOLDS; i++) {
        record *r;
        run_exit(p, &x, rule->thresholds[i]);
        r = add(p, T_RULES);
        snprintf(r->text[WHAT], REPORT_TEXT, "%s", rule->name);
        r->v[THRESHOLD] = (double)rule->thresholds[i];
        r->v[LAYERS] = x.layers / (double)x.rows;
        r->v[HEADS] = x.heads / (double)x.rows;
        r->v[SPEED] = mask_us(p, &p->full) / (x.us / (double)x.rows);
        r->v[CALIBRATED] = part_change(p, x.loss, CALIBRATE);
        r->v[CHECKED] = part_change(p, x.loss, CHECK);
        r->v[PVALUE] = risk_p(p, x.loss);
        accepting = accepting && r->v[PVALUE] <= level(p);
        snprintf(r->text[DETAIL], REPORT_TEXT, "%s", accepting ? "accepted" : r->v[CALIBRATED] <= opt.loss ? "fits, not shown" : "");
        if (accepting) keep_exit(p, &x, rule->thresholds[i], r);
        if (r->v[CALIBRATED] > 6 * opt.loss) break;
    }
    free(x.loss);
}
static void exits(profile *p)
{
    int i;
    for (i = 0; i < COUNT(rules); i++) {
        if (usable(p, &rules[i])) try_rule(p, &rules[i]);
        progress("exit rules", i + 1, COUNT(rules));
    }
}

/* Costs are summed from parts; this is the whole, as a program that generates would run it. */
enum { ENGINE_ROUNDS = 9, FULL = 0, PLAN, EXIT, WAYS };

static double processor_now(void) { return (double)clock() / CLOCKS_PER_SEC; } /* seconds; what else the machine does meanwhile is not in it */
static double time_tokens(profile *p, int way, int window)
{
    const int n = timed_positions(p);
    const float *logits;
    double begin;
    int i;
    check(ltx_rewind(p->s, 0), "rewind");
    set_policy(p, NULL);
    if (way == EXIT) set_exit(p, p->exit.rule, p->exit.threshold, p->exit.first, p->exit.every);
    else set_plan(p, mask_steps(way == FULL ? &p->full : &p->plan.mask, p->layers, p->steps), 0);
    begin = processor_now();
    for (i = 0; i < n; i++) check(ltx_eval(p->s, p->tokens + window * p->window + i, 1, &logits), "time");
    begin = processor_now() - begin;
    check(ltx_rewind(p->s, 0), "rewind");
    return begin;
}
static void time_engine(profile *p)
{
    static const char *const names[WAYS] = { "full depth", "plan", "exit rule" };
    const double expected[WAYS] = { 1, p->plan.speed, p->exit.speed };
    double ratio[WAYS][ENGINE_ROUNDS], base = 1, seconds, measured[WAYS] = { 1, 0, 0 };
    int round, way;
    for (round = -1; round < ENGINE_ROUNDS; round++) for (way = FULL; way < WAYS; way++) {
        if (expected[way] <= 0) continue;
        seconds = time_tokens(p, way, check_window(p, round < 0 ? 0 : round));
        if (way == FULL) base = seconds;
        if (round >= 0) ratio[way][round] = base / seconds;
    }
    for (way = PLAN; way < WAYS; way++) if (expected[way] > 0) {
        record *r = add(p, T_ENGINE);
        snprintf(r->text[WHAT], REPORT_TEXT, "%s", names[way]);
        r->v[EXPECTED] = expected[way];
        r->v[MEASURED] = measured[way] = median(ratio[way], ENGINE_ROUNDS);
    }
    p->plan.measured = measured[PLAN];
    p->exit.measured = measured[EXIT];
    progress("plan and rule in the engine", 1, 1);
}

/* ==== >>drafts ========================================================================================================= */

enum { TIMED = 5, TIMED_ROUNDS = 7, WRITE_TOKENS = 96 };
typedef struct candidate { int exit, last, length; double expected, ratio[TIMED_ROUNDS]; } candidate;

static double batch_ratio(const profile *p, int rows) /* measured at 1, 2, 4, 8, a line between and beyond */
{
    int i = 0;
    while (i < 2 && rows > 2 << i) i++;
    return p->batch[i] + (p->batch[i + 1] - p->batch[i]) * (rows - (1 << i)) / (1 << i);
}
/* A round: length + 1 rows go one by one through the first layers, with a head (of the shortlist) for each draft; then all go through the rest together. */
static double draft_speed(const profile *p, int depth, int length)
{
    const ltx_model *m = &p->m.model;
    const double head = p->head_us * (m->n_draft_ids > 0 ? (double)m->n_draft_ids / m->vocab : 1);
    double shallow = p->rest_us, deep = p->head_us, round;
    int l;
    for (l = 0; l < p->layers; l++) *(l < depth ? &shallow : &deep) += layer_us(p, l, LTX_ATTN | LTX_FFN);
    round = (length + 1) * shallow + length * head + deep * batch_ratio(p, length + 1);
    return (1 + accepted(p, depth, length)) * mask_us(p, &p->full) / round;
}
static int by_expected(const void *a, const void *b)
{
    const double x = ((const candidate *)a)->expected, y = ((const candidate *)b)->expected;
    return (x < y) - (x > y);
}
static int32_t written[WRITE_TOKENS + DRAFT_MOST + 1]; /* what plain decoding wrote in this round */

static ltx_session *start_drafts(profile *p, const ltx_session_desc *desc, const ltx_session_mems *mems, const candidate *c)
{
    const ltx_draft draft = { .exit = c->exit, .last = c->last, .length = c->length };
    ltx_session *s = NULL;
    check(ltx_session_init(&p->m.model, desc, mems, &s), "session"); /* anew: what it learned belongs to another text */
    check(ltx_set_draft(s, &draft), "draft");
    return s;
}
/* Seconds to go on from a prompt, greedily. Plain decoding (exit 0) comes first in a round and says what the text is. */
static double time_draft(ltx_session *s, const candidate *c, const int32_t *prompt, int n_prompt, int tokens)
{
    ltx_sampler sampler = { .temperature = 0 };
    const float *logits;
    int32_t token;
    double begin;
    int differs;
    check(ltx_eval(s, prompt, n_prompt, &logits), "prompt");
    check(ltx_sample(s, &sampler, logits, &token), "sample");
    begin = processor_now();
    check(write_on(s, token, written, tokens, c->exit > 0, &differs), "decode");
    if (differs >= 0) die(EXIT_FAILED, "draft after layer %d: the text differs from full depth's at token %d", c->exit, differs);
    return processor_now() - begin;
}
/* Ratios of all candidates to plain decoding, round by round; `at` is the first text of the first round. */
static void time_drafts(profile *p, candidate *list, int n, int at)
{
    const int prompt = p->window < 2 * PROMPT ? p->window / 2 : PROMPT, room = p->m.model.ctx > 0 ? p->m.model.ctx - prompt - DRAFT_MOST : WRITE_TOKENS;
    const int tokens = room < WRITE_TOKENS ? room : WRITE_TOKENS;
    const candidate plain = { 0, 0, 0, 0, { 0 } };
    ltx_session_desc desc = { .rows = 16, .draft_max = DRAFT_MOST, .log = print_log };
    ltx_session_mems mems;
    int round, i;
    if (tokens < 8) die(EXIT_FAILED, "%s: a context of %d tokens is too short", opt.model, (int)p->m.model.ctx);
    desc.ctx = prompt + tokens + DRAFT_MOST + 1;
    session_open(&p->m.model, &desc, &mems);
    for (round = -1; round < TIMED_ROUNDS; round++) {
        const int32_t *text = p->tokens + check_window(p, at + (round < 0 ? 0 : round)) * p->window;
        const double base = time_draft(start_drafts(p, &desc, &mems, &plain), &plain, text, prompt, tokens);
        for (i = 0; i < n; i++) {
            const double seconds = time_draft(start_drafts(p, &desc, &mems, &list[i]), &list[i], text, prompt, tokens);
            if (round >= 0) list[i].ratio[round] = base / seconds;
        }
        progress(n > 1 ? "time of drafts" : "the quickest of them once more", round + 2, TIMED_ROUNDS + 1);
    }
    session_close(&mems);
}
/* The quickest of many is in part the luckiest: it is timed once more, alone, and that is what is reported. */
static void choose_draft(profile *p, candidate *list, int n)
{
    candidate best = list[0];
    double most = 0;
    int i;
    time_drafts(p, list, n, 0);
    for (i = 0; i < n; i++) {
        record *r = add(p, T_TIMED);
        r->v[DEPTH] = list[i].exit; r->v[LENGTH] = list[i].length; r->v[EXPECTED] = list[i].expected;
        r->v[MEASURED] = median(list[i].ratio, TIMED_ROUNDS);
        if (list[i].last > list[i].exit) snprintf(r->text[DETAIL], REPORT_TEXT, "up to depth %d where not sure", list[i].last);
        if (r->v[MEASURED] > most) { most = r->v[MEASURED]; best = list[i]; }
    }
    time_drafts(p, &best, 1, TIMED_ROUNDS);
    p->draft.exit = best.exit; p->draft.last = best.last; p->draft.length = best.length;
    p->draft.expected = best.expected; p->draft.measured = median(best.ratio, TIMED_ROUNDS);
}
/* A draft of a depth as the model has it, and long ones, which the engine stops where it is not sure. */
static int add_candidates(const profile *p, const candidate *c, candidate *list, int n)
{
    list[n++] = *c;
    if (c->length < DRAFT_MOST) {
        list[n] = *c;
        list[n++].length = DRAFT_MOST;
    }
    if (c->exit + 2 < p->layers) {
        list[n] = *c;
        list[n].last = c->exit + 2;
        list[n++].length = DRAFT_MOST;
    }
    return n;
}
static void drafts(profile *p)
{
    candidate best[LTX_MAX_LAYERS], list[3 * TIMED];
    int d, k, n = 0;
    memset(best, 0, sizeof best);
    memset(list, 0, sizeof list);
    for (d = 1; d < p->layers; d++) {
        candidate *c = &best[d - 1];
        record *r = add(p, T_DRAFTS);
        c->exit = c->last = d;
        for (k = 1; k <= DRAFT_MOST && k < p->window; k++) {
            const double speed = draft_speed(p, d, k);
            if (speed > c->expected) { c->expected = speed; c->length = k; }
        }
        r->v[DEPTH] = d; r->v[LENGTH] = c->length; r->v[KEPT1] = accepted(p, d, 1); r->v[EXPECTED] = c->expected;
    }
    qsort(best, (size_t)(p->layers - 1), sizeof *best, by_expected);
    for (k = 0; k < p->layers - 1; k++) /* the model's best three, and a third and a half of the depth, whatever the model says */
        if (k < 3 || best[k].exit == p->layers / 3 || best[k].exit == p->layers / 2) n = add_candidates(p, &best[k], list, n);
    choose_draft(p, list, n);
}

/* ==== >>write ==========================================================================================================
   A copy of the model, tensors byte for byte, with the proposals as metadata: ltx.plan.*, ltx.exit.*, ltx.draft.* */

typedef struct entry { char key[24]; uint32_t type, item_type; int n; uint8_t data[4 * LTX_MAX_LAYERS]; } entry;

static void put_file(void *user, const void *data, size_t n)
{
    if (n > 0 && fwrite(data, 1, n, (FILE *)user) != n) die(EXIT_FAILED, "cannot write %s: %s", opt.write, strerror(errno));
}
static void put_value(entry *x, uint32_t v)
{
    int i;
    for (i = 0; i < 4; i++) x->data[4 * x->n + i] = (uint8_t)(v >> 8 * i);
    x->n++;
}
static void put_float(entry *x, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    put_value(x, bits);
}
static entry *new_entry(entry *list, int *n, const char *key, uint32_t type, uint32_t item_type)
{
    entry *x = &list[(*n)++];
    memset(x, 0, sizeof *x);
    snprintf(x->key, sizeof x->key, "%s", key);
    x->type = type;
    x->item_type = item_type;
    return x;
}
static int make_entries(const profile *p, entry *list)
{
    int n = 0, i;
    if (p->plan.speed > 0) {
        entry *layers = new_entry(list, &n, "ltx.plan.layers", KV_ARRAY, KV_I32), *run = new_entry(list, &n, "ltx.plan.run", KV_ARRAY, KV_I32);
        entry *attn = new_entry(list, &n, "ltx.plan.attn_scale", KV_ARRAY, KV_F32), *ffn = new_entry(list, &n, "ltx.plan.ffn_scale", KV_ARRAY, KV_F32);
        for (i = 0; i < p->layers; i++) if (p->plan.mask.run[i] != 0) {
            put_value(layers, (uint32_t)i);
            put_value(run, p->plan.mask.run[i]);
            put_float(attn, p->plan.mask.scale[i][0]);
            put_float(ffn, p->plan.mask.scale[i][1]);
        }
    }
    if (p->exit.rule != LTX_EXIT_NEVER) {
        entry *gates;
        put_value(new_entry(list, &n, "ltx.exit.rule", KV_U32, KV_U32), (uint32_t)p->exit.rule);
        put_float(new_entry(list, &n, "ltx.exit.threshold", KV_F32, KV_F32), p->exit.threshold);
        gates = new_entry(list, &n, "ltx.exit.gates", KV_ARRAY, KV_I32);
        for (i = p->exit.first; i < p->layers - 1; i += p->exit.every) put_value(gates, (uint32_t)i);
        put_value(new_entry(list, &n, "ltx.exit.fill", KV_U32, KV_U32), (uint32_t)opt.fill);
    }
    if (p->draft.exit > 0) {
        put_value(new_entry(list, &n, "ltx.draft.exit", KV_U32, KV_U32), (uint32_t)p->draft.exit);
        put_value(new_entry(list, &n, "ltx.draft.last", KV_U32, KV_U32), (uint32_t)p->draft.last);
        put_value(new_entry(list, &n, "ltx.draft.length", KV_U32, KV_U32), (uint32_t)p->draft.length);
    }
    return n;
}
static int is_entry(const ltx_gguf_kv *kv) /* of an earlier profile */
{
    static const char *const begins[] = { "ltx.plan.", "ltx.exit.", "ltx.draft." };
    int i;
    for (i = 0; i < COUNT(begins); i++) if (kv->key_len >= strlen(begins[i]) && memcmp(kv->key, begins[i], strlen(begins[i])) == 0) return 1;
    return 0;
}
static void put_metadata(gguf_out *out, const ltx_gguf *g, const entry *list, int n)
{
    ltx_gguf_kv kv;
    uint64_t at, kept = 0;
    int i;
    for (at = 0; ltx_gguf_next_kv(g, &at, &kv) == LTX_OK; ) kept += !is_entry(&kv);
    gguf_begin(out, g->n_tensors, kept + (uint64_t)n);
    for (at = 0; ltx_gguf_next_kv(g, &at, &kv) == LTX_OK; ) if (!is_entry(&kv)) gguf_kv(out, &kv);
    for (i = 0; i < n; i++) {
        kv.key = list[i].key; kv.key_len = strlen(kv.key);
        kv.type = list[i].type; kv.item_type = list[i].item_type;
        kv.count = (uint64_t)list[i].n; kv.data = list[i].data; kv.size = 4 * (size_t)list[i].n;
        gguf_kv(out, &kv);
    }
}
/* OUT may be the model itself, which must not be lost half way: the copy has another name until it is complete. */
static char *part_name(void)
{
    char *part = (char *)alloc(strlen(opt.write) + 6);
    sprintf(part, "%s.part", opt.write);
    return part;
}
static void write_copy(const profile *p)
{
    static entry list[16];
    char *part = part_name();
    gguf_out out = { put_file, NULL, 0 };
    ltx_gguf g;
    ltx_gguf_tensor t;
    uint64_t at;
    FILE *f;
    f = fopen(part, "wb");
    if (f == NULL) die(EXIT_FAILED, "cannot write %s: %s", part, strerror(errno));
    out.user = f;
    check(ltx_gguf_open(p->m.image, &print_log, &g), opt.model);
    put_metadata(&out, &g, list, make_entries(p, list));
    for (at = 0; ltx_gguf_next_tensor(&g, &at, &t) == LTX_OK; ) gguf_tensor(&out, t.name, t.name_len, t.n_dims, t.dims, t.type, t.offset - g.data_start);
    gguf_pad(&out, g.alignment);
    gguf_put(&out, (const char *)p->m.image.ptr + g.data_start, p->m.image.size - (size_t)g.data_start);
    report_close(f, part);
    if (rename(part, opt.write) != 0) die(EXIT_FAILED, "cannot rename %s to %s: %s", part, opt.write, strerror(errno));
    free(part);
    printf("\n%s: with plan%s%s; generate %s --auto[=plan|exit|draft]\n", opt.write, p->exit.rule ? ", exit rule" : "", p->draft.exit ? ", draft" : "", opt.write);
}

/* ==== >>page ===========================================================================================================
   The report as one HTML file. Charts read the records; the heat map reads what the lens saw. */

/* The depth from which on the best token is that of the last layer, 1 .. layers. */
static int settled(const profile *p, int token)
{
    const int32_t top = sight_at(p, token, p->layers - 1)->top;
    int d = p->layers;
    while (d > 1 && sight_at(p, token, d - 2)->top == top) d--;
    return d;
}
static double shade(const profile *p, int depth) { return (double)(depth - 1) / (p->layers - 1); }
/* A character of several bytes that are tokens of their own has one colour, that of its first byte. */
static void page_sample(const profile *p, FILE *f)
{
    const int32_t longest = ltx_vocab_longest(p->m.vocab) + 1, base = p->window; /* the first window that checks */
    char *piece = (char *)alloc((size_t)longest);
    int i, n, open = 0, bytes = 0;
    fputs("<div class=\"text\">", f);
    for (i = base; i < p->windows * p->window && bytes < 1000; i++) {
        const sight *last = sight_at(p, i, p->layers - 1);
        const int depth = settled(p, i);
        n = ltx_piece(p->m.vocab, p->tokens[i + 1], 0, piece, longest);
        if (p->tokens[i + 1] == ltx_vocab_bos(p->m.vocab)) n = (int)snprintf(piece, (size_t)longest, "\n");
        if (n == 0) continue;
        if (open && ((unsigned char)piece[0] & 0xc0) != 0x80) { fputs("</span>", f); open = 0; }
        if (!open) fprintf(f, "<span%s style=\"--d:%.3f\" title=\"settled at depth %d, loss %.2f\">", last->top == p->tokens[i + 1] ? "" : " class=\"miss\"",
                           shade(p, depth), depth, last->loss);
        open = 1;
        html_text(f, piece, n);
        bytes += n;
    }
    fputs(open ? "</span></div>\n" : "</div>\n", f);
    free(piece);
}
static void page_text(const profile *p, FILE *f)
{
    const int n = p->windows * p->window;
    double count[LTX_MAX_LAYERS + 1] = { 0 }, mean = 0, most = 0;
    char title[96];
    chart c;
    int i, d;
    for (i = 0; i < n; i++) { d = settled(p, i); count[d] += 100.0 / n; mean += (double)d / n; }
    for (d = 1; d <= p->layers; d++) if (count[d] > most) most = count[d];
    fprintf(f, "<section class=\"card wide\"><h2>Where the model makes up its mind</h2>\n<p class=\"note\">A piece of the text. Each token is coloured by the depth from which on the logit lens"
               " names the same best next token as the last layer. Underlined: not the token that follows in the text. The mean over all %d tokens is depth %.2f of %d.</p>\n", n, mean, p->layers);
    page_sample(p, f);
    fputs("<div class=\"ramp\">", f);
    for (d = 1; d <= p->layers; d++) fprintf(f, "<span style=\"--d:%.3f\">%d</span>", shade(p, d), d);
    fputs("</div></section>\n<div class=\"grid\"><section class=\"card\"><h2>Settled at depth</h2>\n<p class=\"note\">Share of all tokens, percent.</p>", f);
    c = chart_begin(f, "share of tokens by the depth at which they settle", 200, .4, p->layers + .6, 0, most * 1.05, 0);
    chart_axes(&c, "depth", "percent of tokens", 1);
    for (d = 1; d <= p->layers; d++) {
        snprintf(title, sizeof title, "depth %d: %.1f %% of tokens", d, count[d]);
        chart_bar(&c, d - .38, d + .38, count[d], 1, title);
    }
    chart_end(&c);
    fputs("</section>\n", f);
}
/* Points of the records of a table with this name; what there is, in their order. */
static int points(int t, const char *what, int x_column, int y_column, double *x, double *y, int cap)
{
    int i, n = 0;
    for (i = 0; i < results.n && n < cap; i++) {
        const record *r = &results.records[i];
        if (r->table != t || (what != NULL && strcmp(r->text[WHAT], what) != 0) || isnan(r->v[x_column]) || isnan(r->v[y_column])) continue;
        x[n] = r->v[x_column];
        y[n++] = r->v[y_column];
    }
    return n;
}
static double largest(const double *y, int n)
{
    double most = 0;
    int i;
    for (i = 0; i < n; i++) if (y[i] > most) most = y[i];
    return most;
}
enum { MOST_POINTS = 2 * LTX_MAX_LAYERS + 1 };

static void page_lens(const profile *p, FILE *f)
{
    double x[MOST_POINTS], y[MOST_POINTS];
    char title[96];
    int n = points(T_DEPTHS, NULL, DEPTH, AGREE, x, y, MOST_POINTS), i;
    chart c;
    fputs("<section class=\"card\"><h2>Agreement by depth</h2>\n<p class=\"note\">Share of tokens whose best next token, read after so many layers, is the last layer's.</p>", f);
    c = chart_begin(f, "agreement with the last layer by depth", 200, .4, p->layers + .6, 0, 1, 0);
    chart_axes(&c, "depth", "share of tokens", 1);
    chart_line(&c, x, y, n, 3, "");
    for (i = 0; i < n; i++) {
        snprintf(title, sizeof title, "depth %g: %.3f", x[i], y[i]);
        chart_dot(&c, x[i], y[i], 3, "dot", 3, title);
    }
    chart_end(&c);
    fputs("</section></div>\n", f);
}
static void page_depths(const profile *p, FILE *f)
{
    static const char *const names[] = { "loss", "entropy" };
    static const int series[] = { 2, 4 }, column_of[] = { LOSS, ENTROPY };
    double x[MOST_POINTS], y[2][MOST_POINTS];
    char title[96];
    chart c;
    int n = 0, k, i;
    for (k = 0; k < 2; k++) n = points(T_DEPTHS, NULL, DEPTH, column_of[k], x, y[k], MOST_POINTS);
    fputs("<section class=\"card\"><h2>Loss and entropy by depth</h2>\n<p class=\"note\">Of the next token, read after so many layers, nats. Where loss is far above entropy, the model is surer than it should be.</p>", f);
    c = chart_begin(f, "loss and entropy by depth", 260, .4, p->layers + .6, 0, fmax(largest(y[0], n), largest(y[1], n)) * 1.05, 0);
    chart_axes(&c, "depth", "nats", 1);
    for (k = 0; k < 2; k++) {
        chart_line(&c, x, y[k], n, series[k], "");
        for (i = 0; i < n; i++) {
            snprintf(title, sizeof title, "depth %g: %s %.4f", x[i], names[k], y[k][i]);
            chart_dot(&c, x[i], y[k][i], series[k], "dot", 3, title);
        }
    }
    chart_end(&c);
    html_keys(f, names, series, 2);
    fputs("</section>\n", f);
}
/* Two bars per layer, or one: columns of attention and ffn (-1 = none). */
typedef struct bars { const char *title, *note, *y_title; int attn, ffn, from_one, root; } bars;
static void page_bars(const profile *p, FILE *f, const bars *b)
{
    static const char *const names[] = { "attention", "feed-forward" };
    static const int series[] = { 1, 2 };
    const int pairs = b->ffn >= 0 ? 2 : 1;
    double x[2][MOST_POINTS], y[2][MOST_POINTS], low = 0, high = 0;
    char text[96];
    chart c;
    int n[2], k, i;
    for (k = 0; k < pairs; k++) {
        n[k] = points(T_LAYERS, NULL, LAYER, k == 0 ? b->attn : b->ffn, x[k], y[k], MOST_POINTS);
        for (i = 0; i < n[k]; i++) {
            if (b->from_one) y[k][i] = 1 - y[k][i];
            if (y[k][i] < low) low = y[k][i];
            if (y[k][i] > high) high = y[k][i];
        }
    }
    fprintf(f, "<section class=\"card\"><h2>%s</h2>\n<p class=\"note\">%s</p>", b->title, b->note);
    c = chart_begin(f, b->title, 230, -.7, p->layers - .3, low < 0 ? low * 1.3 : 0, high * 1.08, b->root);
    chart_axes(&c, "layer", b->y_title, 1);
    for (k = 0; k < pairs; k++) for (i = 0; i < n[k]; i++) {
        snprintf(text, sizeof text, "layer %g, %s: %.4g", x[k][i], names[k], y[k][i]);
        chart_bar(&c, x[k][i] + (k == 0 ? -.4 : .02), x[k][i] + (k == 0 && pairs > 1 ? -.02 : .4), y[k][i], series[k], text);
    }
    chart_end(&c);
    if (pairs > 1) html_keys(f, names, series, pairs);
    fputs("</section>\n", f);
}
static void page_branches(const profile *p, FILE *f)
{
    char rank[240];
    const bars all[] = {
        { "What is lost without it", "Loss, percent more, when this branch alone is left out (calibration).\n"
          "The axis is one of square roots: a bar twice as high is four times as much.", "loss increase, percent", ATTN_LOSS, FFN_LOSS, 0, 1 },
        { "How far it turns the hidden vector", "1 minus the mean cosine of the residual stream before and after the branch,\n"
          "on an axis of square roots. Branches that turn little tend to be the ones that can go.", "1 - cosine", ATTN_COS, FFN_COS, 1, 1 },
        { "Rank of attention", rank, "singular values", RANK, -1, 0, 0 },
        { "What it costs", "Microseconds for one token on this machine, one thread, median.", "microseconds", ATTN_US, FFN_US, 0, 0 }
    };
    int i;
    snprintf(rank, sizeof rank, "How many of the %d singular values of the attention matrix hold %g %% of the sum of their squares: 1 if all tokens look at the same place.\n"
             "Mean over heads and %d windows.", p->rank_rows, 100 * RANK_SHARE, p->rank_windows);
    for (i = 0; i < COUNT(all); i++) {
        if (i % 2 == 0) fputs("<div class=\"grid\">", f);
        page_bars(p, f, &all[i]);
        if (i % 2 == 1) fputs("</div>\n", f);
    }
}
/* Speed against loss of one family: a line, and its points, filled if accepted. */
static void page_family(const chart *c, int t, const char *what, int series)
{
    double x[MOST_POINTS], y[MOST_POINTS];
    char title[160], detail[48];
    int n = points(t, what, SPEED, CHECKED, x, y, MOST_POINTS), i;
    chart_line(c, x, y, n, series, "");
    for (i = 0; i < results.n; i++) {
        const record *r = &results.records[i];
        if (r->table != t || strcmp(r->text[WHAT], what) != 0) continue;
        detail[0] = 0;
        if (t == T_RULES) snprintf(detail, sizeof detail, " %g", r->v[THRESHOLD]);
        else snprintf(detail, sizeof detail, ", %g branches", r->v[BRANCHES]);
        snprintf(title, sizeof title, "%s%s: speed %.3f, loss %+.2f %% (check), %+.2f %% (calibration)%s", what, detail, r->v[SPEED], r->v[CHECKED], r->v[CALIBRATED],
                 strcmp(r->text[DETAIL], "accepted") == 0 ? ", accepted" : "");
        chart_dot(c, r->v[SPEED], r->v[CHECKED], series, t == T_CURVES || strcmp(r->text[DETAIL], "accepted") == 0 ? "dot" : "hollow", 3.2, title);
    }
}
/* Heading, range and axes of loss against speed; points above `most` percent are left out. */
static chart page_scatter(FILE *f, int t, double most, const char *title, const char *remark)
{
    double x[MOST_POINTS], y[MOST_POINTS], fastest = 1.1, slowest = 1;
    const int n = points(t, NULL, SPEED, CHECKED, x, y, MOST_POINTS);
    chart c;
    int i;
    for (i = 0; i < n; i++) if (y[i] <= most) {
        if (x[i] > fastest) fastest = x[i];
        if (x[i] < slowest) slowest = x[i];
    }
    fprintf(f, "<section class=\"card\"><h2>%s</h2>\n<p class=\"note\">%s</p>", title, remark);
    c = chart_begin(f, title, 260, slowest - .02, fastest + .04, -.06 * most, most, 0);
    chart_axes(&c, "speed, times full depth", "loss increase, percent", 0);
    return c;
}
static void page_plans(const profile *p, FILE *f)
{
    static const char *const names[] = { "greedy branches", "contiguous layers", "evenly spaced layers" };
    static const int series[] = { 1, 2, 6 };
    chart c = page_scatter(f, T_CURVES, opt.loss * 6 > 12 ? opt.loss * 6 : 12, "Fewer layers: loss against speed",
                           "Plans, from one branch or layer less onward. Speed by measured costs, loss on the text that checks. Ringed: the proposed plan.");
    int i;
    for (i = 0; i < COUNT(names); i++) page_family(&c, T_CURVES, names[i], series[i]);
    chart_dot(&c, p->plan.speed, p->plan.checked, 1, "ring", 7, "the proposed plan");
    chart_end(&c);
    html_keys(f, names, series, COUNT(names));
    fputs("</section>\n", f);
}
/* The proposal beside the plans of its speed, by the first layer that they leave out. */
static void page_rivals(const profile *p, FILE *f)
{
    static const char *const names[] = { "the proposed plan", "contiguous layers", "evenly spaced layers" };
    static const int series[] = { 1, 2, 6 };
    double x[2] = { -.6, p->layers - .4 }, y[2], most;
    char title[400];
    chart c;
    int i, k;
    most = ceil(fmax(5, fmax(20 * p->plan.checked, 8 * p->rivals.least[1])));
    y[0] = y[1] = p->plan.checked;
    compare_text(p, title, sizeof title);
    fprintf(f, "<section class=\"card\"><h2>Plans of equal speed</h2>\n<p class=\"note\">%s\nAxis of square roots; losses above %.0f %% are not drawn.</p>", title, most);
    c = chart_begin(f, "plans of equal speed", 260, x[0], x[1], 1.3 * fmin(0, fmin(p->plan.checked, p->rivals.least[1])), most, 1);
    chart_axes(&c, "first layer left out", "loss increase (check), percent", 1);
    chart_line(&c, x, y, 2, series[0], "");
    for (i = 0; i < results.n; i++) for (k = 1; k < COUNT(names); k++) {
        const record *r = &results.records[i];
        if (r->table != T_PLANS || strcmp(r->text[WHAT], names[k]) != 0) continue;
        snprintf(title, sizeof title, "%s: loss %+.2f %% (check), %+.2f %% (calibration)", r->text[DETAIL], r->v[CHECKED], r->v[CALIBRATED]);
        chart_dot(&c, r->v[LAYER] + (k == 1 ? -.1 : .1), r->v[CHECKED], series[k], "dot", 3.6, title);
    }
    chart_end(&c);
    html_keys(f, names, series, COUNT(names));
    fputs("</section>\n", f);
}
static void page_rules(const profile *p, FILE *f)
{
    static const char *const names[] = { "prob", "margin", "entropy", "cosine", "probe" };
    static const int series[] = { 1, 3, 4, 2, 5 };
    double ends[2], limit[2];
    chart c = page_scatter(f, T_RULES, opt.loss * 6, "Leaving early: loss against speed",
                           "Exit rules, from cautious to bold. Filled: accepted by the test on the text that calibrates; the loss shown is that of the\n"
                           "text that checks. Dashed: the limit asked for. Ringed: the proposed rule.");
    int i;
    for (i = 0; i < COUNT(names); i++) page_family(&c, T_RULES, names[i], series[i]);
    ends[0] = c.x0;
    ends[1] = c.x1;
    limit[0] = limit[1] = opt.loss;
    chart_line(&c, ends, limit, 2, 5, "dash");
    if (p->exit.rule != LTX_EXIT_NEVER) chart_dot(&c, p->exit.speed, p->exit.checked, 1, "ring", 7, "the proposed rule");
    chart_end(&c);
    html_keys(f, names, series, p->m.model.probes.data != NULL ? COUNT(names) : COUNT(names) - 1);
    fputs("</section>\n", f);
}
static void page_drafts(const profile *p, FILE *f)
{
    static const char *const names[] = { "of 1 token", "of 2", "of 4", "of 8" }, *const speeds[] = { "by the cost model, on the given text", "measured, on the model's own text" };
    static const int series[] = { 6, 3, 1, 2 }, speed_series[] = { 1, 2 };
    double x[MOST_POINTS], y[MOST_POINTS], measured[2][MOST_POINTS];
    char title[96];
    chart c;
    int k, n, m, i;
    n = points(T_DEPTHS, NULL, DEPTH, KEPT8, x, y, MOST_POINTS);
    fputs("<div class=\"grid\"><section class=\"card\"><h2>Drafts: what full depth would accept</h2>\n<p class=\"note\">Mean length of the accepted prefix of drafts made after so many layers, on the given text.</p>", f);
    c = chart_begin(f, "accepted prefix by depth of the draft", 230, .6, p->layers - .4, 0, fmax(1, largest(y, n) * 1.05), 0);
    chart_axes(&c, "depth of the draft", "tokens accepted", 1);
    for (k = 0; k < 4; k++) {
        n = points(T_DEPTHS, NULL, DEPTH, KEPT1 + k, x, y, MOST_POINTS);
        chart_line(&c, x, y, n, series[k], "");
        for (i = 0; i < n; i++) {
            snprintf(title, sizeof title, "depth %g, drafts %s: %.2f", x[i], names[k], y[i]);
            chart_dot(&c, x[i], y[i], series[k], "dot", 2.6, title);
        }
    }
    chart_end(&c);
    html_keys(f, names, series, 4);
    n = points(T_DRAFTS, NULL, DEPTH, EXPECTED, x, y, MOST_POINTS);
    m = points(T_TIMED, NULL, DEPTH, MEASURED, measured[0], measured[1], MOST_POINTS);
    fputs("</section>\n<section class=\"card\"><h2>Drafts: speed</h2>\n<p class=\"note\">Best length of each depth. The text written is that of full depth in every case. Ringed: the proposed draft.</p>", f);
    c = chart_begin(f, "speed of drafts by depth", 230, .6, p->layers - .4, .7, fmax(1.1, fmax(largest(y, n), fmax(largest(measured[1], m), p->draft.measured)) * 1.05), 0);
    chart_axes(&c, "depth of the draft", "speed, times full depth", 1);
    chart_line(&c, x, y, n, speed_series[0], "");
    for (i = 0; i < n; i++) {
        snprintf(title, sizeof title, "depth %g: %.3f", x[i], y[i]);
        chart_dot(&c, x[i], y[i], speed_series[0], "dot", 2.6, title);
    }
    for (i = 0; i < m; i++) {
        snprintf(title, sizeof title, "depth %g, measured: %.3f", measured[0][i], measured[1][i]);
        chart_dot(&c, measured[0][i], measured[1][i], speed_series[1], "dot", 4, title);
    }
    chart_dot(&c, p->draft.exit, p->draft.measured, 1, "ring", 7, "the proposed draft");
    chart_end(&c);
    html_keys(f, speeds, speed_series, 2);
    fputs("</section></div>\n", f);
}
static void page_card(FILE *f, const char *title, double speed, const char *beside, const char *note, const char *command)
{
    fprintf(f, "<section class=\"card\"><h2>%s</h2>\n", title);
    if (speed > 0) fprintf(f, "<div class=\"big\">%.2f&times; <small>%s</small></div>", speed, beside);
    fprintf(f, "<p class=\"note\">%s</p>", note);
    if (command[0] != 0) fprintf(f, "<code>%s</code>", command);
    fputs("</section>\n", f);
}
static void page_proposals(const profile *p, FILE *f)
{
    char beside[64], note[400], command[PLAN_TEXT];
    fputs("<div class=\"grid three\">", f);
    snprintf(beside, sizeof beside, "loss %+.2f %%", p->plan.checked);
    snprintf(note, sizeof note, "%d of %d branches run. Loss on the text that checks; %+.2f %% on the text that calibrated. Speed measured token by token, %.2f by the cost model.",
             mask_branches(&p->plan.mask, p->layers), mask_branches(&p->full, p->layers), p->plan.calibrated, p->plan.speed);
    name_plan(p, &p->plan.mask, command, sizeof command);
    page_card(f, "Plan: fewer layers, always", p->plan.measured, beside, note, command);
    snprintf(beside, sizeof beside, "loss %+.2f %%", p->exit.checked);
    if (p->exit.rule) snprintf(note, sizeof note, "At most %g %% with confidence %g, shown on %d windows (p = %.4f). Speed measured token by token, %.2f by the cost model.",
                               opt.loss, opt.confidence, (p->windows + 1) / 2, p->exit.p, p->exit.speed);
    else snprintf(note, sizeof note, "None: on %d windows no rule can be shown to be faster and to cost at most %g %% with confidence %g. A longer text (--tokens) shows more.",
                  (p->windows + 1) / 2, opt.loss, opt.confidence);
    snprintf(command, sizeof command, "--exit %s:%g --gates %d:%d%s", rule_name(p->exit.rule), (double)p->exit.threshold, p->exit.first, p->exit.every, fill_option());
    page_card(f, "Exit: stop when sure", p->exit.measured, beside, note, p->exit.rule ? command : "");
    snprintf(note, sizeof note, "Measured on the model's own text; %.2f by the cost model on the given text.", p->draft.expected);
    snprintf(command, sizeof command, "--draft %d-%d:%d", p->draft.exit, p->draft.last, p->draft.length);
    page_card(f, "Draft: the same text, sooner", p->draft.measured, "loses nothing", note, command);
    fputs("</div>\n", f);
}
/* One bar of the microseconds of a token. */
static void page_time(const profile *p, FILE *f)
{
    static const char *const names[] = { "attention", "feed-forward", "head", "embedding" };
    static const int series[] = { 1, 2, 3, 6 };
    double part[4] = { 0, 0, 0, 0 }, sum = 0, at = 0;
    int l, k;
    for (l = 0; l < p->layers; l++) for (k = 0; k < 2; k++) part[k] += p->branches[l][k].us;
    part[2] = p->head_us;
    part[3] = p->rest_us;
    for (k = 0; k < 4; k++) sum += part[k];
    fprintf(f, "<section class=\"card wide\"><h2>Where the time of a token goes: %.0f microseconds on this machine, one thread</h2>\n<p class=\"note\">A batch of 2, 4, 8 rows takes %.2f, %.2f, %.2f times as long as one row.</p>"
               "<svg viewBox=\"0 0 1080 30\" role=\"img\" aria-label=\"time of a token\">\n", sum, p->batch[1], p->batch[2], p->batch[3]);
    for (k = 0; k < 4; k++) {
        const double width = 1080 * part[k] / sum;
        fprintf(f, "<rect class=\"bar s%d\" x=\"%.1f\" y=\"4\" width=\"%.1f\" height=\"22\"><title>%s: %.2f us, %.1f %%</title></rect>\n", series[k], at, fmax(width - 1.5, .5), names[k], part[k], 100 * part[k] / sum);
        at += width;
    }
    fputs("</svg>\n", f);
    html_keys(f, names, series, 4);
    fputs("</section>\n", f);
}
static void write_page(const profile *p)
{
    FILE *f = report_open(opt.html);
    const double loss = part_mean(p, p->full_loss, ALL);
    int t;
    html_begin(f, p->name);
    fprintf(f, "<h1>%s: what depth is worth</h1>\n<p class=\"dim\">%d layers, width %d, vocabulary %d. %d windows of %d tokens, %d calibrate and %d check. At full depth the loss is %.4f nats per token, %.4f bits per byte.</p>\n",
            p->name, p->layers, (int)p->m.model.dim, (int)p->m.model.vocab, p->windows, p->window, (p->windows + 1) / 2, p->windows / 2, loss, loss / log(2.0) / p->bytes_per_token);
    page_proposals(p, f);
    page_text(p, f);
    page_lens(p, f);
    fputs("<div class=\"grid\">", f);
    page_depths(p, f);
    page_rules(p, f);
    fputs("</div>\n", f);
    page_branches(p, f);
    fputs("<div class=\"grid\">", f);
    page_plans(p, f);
    page_rivals(p, f);
    fputs("</div>\n", f);
    page_drafts(p, f);
    page_time(p, f);
    fputs("<section class=\"card wide\"><h2>All numbers</h2>\n", f);
    for (t = 0; t < N_TABLES; t++) {
        if (tables[t].title == NULL) continue;
        fprintf(f, "<details><summary>%s</summary>\n", tables[t].title);
        html_table(&results, f, t);
        fputs("</details>\n", f);
    }
    fputs("</section>\n", f);
    html_end(f);
    report_close(f, opt.html);
}

/* ==== >>main =========================================================================================================== */

static void close_profile(profile *p)
{
    session_close(&p->mems);
    text_model_free(&p->m);
    free(p->tokens);
    free(p->sights);
    free(p->full_loss);
    free(results.records);
}
static void say_proposals(const profile *p)
{
    char text[PLAN_TEXT];
    name_plan(p, &p->plan.mask, text, sizeof text);
    printf("\nProposals\n");
    printf("  plan   %.2f times as fast (%.2f by the cost model%s), loss %+.2f %% (calibration), %+.2f %% (check)\n         generate %s %s\n", p->plan.measured, p->plan.speed,
           p->plan.speed * EQUAL_SPEED < opt.speed ? ", less than asked: see --most" : "", p->plan.calibrated, p->plan.checked, opt.model, text);
    compare_text(p, text, sizeof text);
    printf("         %s\n", text);
    if (p->exit.rule != LTX_EXIT_NEVER)
        printf("  exit   %.2f times as fast (%.2f by the cost model), loss %+.2f %% (calibration), %+.2f %% (check); at most %g %% with confidence %g: p = %.4f\n"
               "         generate %s --exit %s:%g --gates %d:%d%s\n", p->exit.measured, p->exit.speed, p->exit.calibrated, p->exit.checked, opt.loss, opt.confidence, p->exit.p,
               opt.model, rule_name(p->exit.rule), (double)p->exit.threshold, p->exit.first, p->exit.every, fill_option());
    else printf("  exit   none: no rule can be shown to be faster than full depth and to cost at most %g %% with confidence %g\n"
                "         (%d windows calibrate, %d are the least that can show anything; --tokens, --loss, --gates)\n", opt.loss, opt.confidence,
                (p->windows + 1) / 2, (int)ceil(log(level(p)) / log(1 - 1 / opt.cap)));
    printf("  draft  %.2f times as fast (measured on the model's own text; %.2f by the cost model on the given one), the text of full depth%s\n"
           "         generate %s --draft %d-%d:%d\n", p->draft.measured, p->draft.expected, p->draft.measured > 1 ? "" : ": not worth it on this machine",
           opt.model, p->draft.exit, p->draft.last, p->draft.length);
}
static void say_start(const profile *p)
{
    printf("%s: %d layers; %d windows of %d tokens (%.3f bytes each), %d calibrate, %d check\n", p->name, p->layers, p->windows, p->window,
           p->bytes_per_token, (p->windows + 1) / 2, p->windows / 2);
    printf("rank of attention: of the %d singular values of the first %d tokens so many hold %g %% of the sum of their squares; mean over heads and %d windows\n",
           p->rank_rows, p->rank_rows, 100 * RANK_SHARE, p->rank_windows);
    printf("loss at full depth %.4f per token, %.4f bits per byte\n", part_mean(p, p->full_loss, ALL), part_mean(p, p->full_loss, ALL) / log(2.0) / p->bytes_per_token);
}
static void try_outputs(void) /* better now than after minutes */
{
    if (opt.csv != NULL) report_close(report_open(opt.csv), opt.csv);
    if (opt.html != NULL) report_close(report_open(opt.html), opt.html);
    if (opt.write != NULL) {
        char *part = part_name();
        report_close(report_open(part), part);
        remove(part);
        free(part);
    }
}
int main(int argc, char **argv)
{
    static profile p; /* large, all zero */
    int t;
    (void)argc;
    parse_command_line(argv);
    load_model(&p);
    try_outputs();
    load_text(&p);
    open_profile(&p);
    lens(&p);
    cost(&p);
    branches(&p);
    plans(&p);
    exits(&p);
    time_engine(&p);
    drafts(&p);
    say_start(&p);
    for (t = 0; t < N_TABLES; t++) if (tables[t].title != NULL) report_table(&results, t, p.name);
    say_proposals(&p);
    if (opt.csv != NULL) {
        FILE *f = report_open(opt.csv);
        report_csv(&results, f);
        report_close(f, opt.csv);
    }
    if (opt.html != NULL) write_page(&p);
    if (opt.write != NULL) write_copy(&p);
    close_profile(&p);
    return 0;
}
