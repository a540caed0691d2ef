/* ltx-kwt1 - what each layer of an encoder is worth: ltx-profile's measures for KWT-1, a keyword spotter, on its recorded inputs
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   cc -O2 -o ltx-kwt1 ltx-kwt1.c -lm            ltx-kwt1 --help

   An encoder foretells no token, so there is no loss to look at. What counts here is how far the logits move from those of all twelve
   layers, and whether the best label stays. Results are records (bench/report.h); tables and CSV read those. */

#define _POSIX_C_SOURCE 200809L
#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "../examples/common.h"
#include "../bench/report.h"

#include <math.h>

#include "../tests/kwt.h"
#include "layers.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const int moves[] = { 0, -10, -5, 5, 10 }; /* by so many windows of 10 ms */
enum { MOVES = (int)(sizeof moves / sizeof *moves), INPUTS = KWT_CLIPS * MOVES, FEWEST = 6 };

enum { MODEL, WHAT, N_TEXTS, LAYER = N_TEXTS, ATTN_COS, ATTN_NORM, RANK, FFN_COS, FFN_NORM, LOGITS, AGREE, SURE, ATTN_LOGITS, ATTN_AGREE, ATTN_SURE,
       FFN_LOGITS, FFN_AGREE, FFN_SURE, LAYERS, GATE, THRESHOLD, DEPTH, RUN, FILLED, SPEED, N_COLUMNS };
static const column columns[N_COLUMNS] = {
    { "model", "model", 0 }, { "what", "", 0 }, { "layer", "layer", 0 },
    { "attn_cosine", "attn: cosine", 4 }, { "attn_norm_ratio", "norm", 3 }, { "attn_rank", "rank", 1 }, { "ffn_cosine", "ffn: cosine", 4 }, { "ffn_norm_ratio", "norm", 3 },
    { "logits_change", "logits", 3 }, { "agreement", "agrees", 2 }, { "agreement_where_sure", "sure", 2 },
    { "attn_left_out_logits", "no attn: logits", 3 }, { "attn_left_out_agreement", "agrees", 2 }, { "attn_left_out_agreement_where_sure", "sure", 2 },
    { "ffn_left_out_logits", "no ffn: logits", 3 }, { "ffn_left_out_agreement", "agrees", 2 }, { "ffn_left_out_agreement_where_sure", "sure", 2 },
    { "layers", "layers", 0 }, { "first_gate_after_layer", "gates from", 0 }, { "threshold", "threshold", 3 }, { "class_token_layers", "its layers", 2 },
    { "branch_rows_run_percent", "run %", 1 }, { "rows_filled_percent", "filled %", 1 }, { "speed_ratio", "speed", 2 }
};
enum { T_LAYERS, T_FEWER, T_EXITS, N_TABLES };
static const table tables[N_TABLES] = {
    { "layers", "Layers. cosine and norm: hidden vectors after the branch against before; then what leaving out changes, at the end of the whole layer",
      { LAYER, ATTN_COS, ATTN_NORM, RANK, FFN_COS, FFN_NORM, ATTN_LOGITS, ATTN_AGREE, ATTN_SURE, FFN_LOGITS, FFN_AGREE, FFN_SURE, LOGITS, AGREE, SURE, -1 } },
    { "fewer", "Leaving out layers, greedily: the one that moves the logits least, again and again", { LAYERS, WHAT, SPEED, LOGITS, AGREE, SURE, -1 } },
    { "exits", "Exits by similarity: a row leaves when a layer turns it by less than the threshold; only its keys and values are computed from there on (filled)",
      { WHAT, GATE, THRESHOLD, DEPTH, RUN, FILLED, SPEED, LOGITS, AGREE, SURE, -1 } }
};
static report results = { columns, tables, N_COLUMNS, N_TEXTS, N_TABLES, MODEL, NULL, 0, 0 };

typedef struct study {
    kwt          k;
    ltx_session *s;
    ltx_session_mems mems;
    ltx_step     steps[2 * KWT_LAYERS];
    float        rows[INPUTS][KWT_ROWS * KWT_DIM], full[INPUTS][KWT_LABELS]; /* full: logits at full depth */
    int          sure[INPUTS], n_sure;
} study;

/* ---- runs --------------------------------------------------------------------------------------------------------- */

typedef struct way { ltx_plan plan; ltx_policy policy; } way; /* to run the model */
typedef struct effect { double logits, agree, sure, depth, run, filled; } effect; /* root mean square change; shares of inputs, of those where full depth is sure; of rows */

static int best_label(const float *logits)
{
    int i, best = 0;
    for (i = 1; i < KWT_LABELS; i++) if (logits[i] > logits[best]) best = i;
    return best;
}
static void set_way(study *y, const way *w)
{
    check(ltx_rewind(y->s, 0), "rewind");
    check(ltx_set_plan(y->s, &w->plan), "plan");
    check(ltx_set_policy(y->s, &w->policy), "policy");
}
static ltx_output answer(study *y, int input)
{
    const ltx_batch batch = { .embeds = y->rows[input], .count = KWT_ROWS, .logits = 1 };
    ltx_output out;
    check(ltx_rewind(y->s, 0), "rewind");
    check(ltx_eval_batch(y->s, &batch, &out), "input");
    return out;
}
static effect effect_of(study *y, const way *w)
{
    effect e = { 0, 0, 0, 0, 0, 0 };
    ltx_stats stats;
    int i, j;
    set_way(y, w);
    ltx_stats_reset(y->s);
    for (i = 0; i < INPUTS; i++) {
        const ltx_output out = answer(y, i);
        for (j = 0; j < KWT_LABELS; j++) e.logits += pow((double)out.logits[j] - (double)y->full[i][j], 2) / (INPUTS * KWT_LABELS);
        if (best_label(out.logits) == best_label(y->full[i])) {
            e.agree += 1.0 / INPUTS;
            e.sure += y->sure[i] / (double)y->n_sure;
        }
        e.depth += out.depth[0] / (double)INPUTS;
    }
    ltx_session_stats(y->s, &stats);
    e.logits = sqrt(e.logits);
    e.run = (double)(stats.attn_rows + stats.ffn_rows) / (2.0 * INPUTS * KWT_ROWS * KWT_LAYERS);
    e.filled = (double)stats.fill_rows / ((double)INPUTS * KWT_ROWS * KWT_LAYERS);
    return e;
}
static way mask_way(study *y, const plan_mask *x)
{
    way w;
    memset(&w, 0, sizeof w);
    w.plan.steps = y->steps;
    w.plan.count = mask_steps(x, KWT_LAYERS, y->steps);
    return w;
}
static effect mask_effect(study *y, const plan_mask *x)
{
    const way w = mask_way(y, x);
    return effect_of(y, &w);
}
/* Times full depth, on the clips as they are; the shortest times (of the processor) in rounds in which both take turns. */
static double speed_of(study *y, const way *w)
{
    enum { ROUNDS = 5 };
    const way full = { { NULL, 0, 0 }, { .rule = LTX_EXIT_NEVER } };
    double sum[2] = { 0, 0 };
    int i, k, round;
    for (i = 0; i < KWT_CLIPS; i++) {
        double least[2] = { HUGE_VAL, HUGE_VAL };
        for (round = 0; round < ROUNDS; round++) for (k = 0; k < 2; k++) {
            clock_t begin;
            set_way(y, k == 0 ? &full : w);
            begin = clock();
            answer(y, i);
            least[k] = fmin(least[k], (double)(clock() - begin));
        }
        for (k = 0; k < 2; k++) sum[k] += least[k];
    }
    return sum[0] / sum[1];
}

/* ---- measures ----------------------------------------------------------------------------------------------------- */

static void open_study(study *y, const char *folder)
{
    ltx_session_desc desc = { .rows = KWT_ROWS, .kv = LTX_KV_F32, .log = print_log };
    double worst = 0, sum;
    int i, j;
    if (!kwt_open(&y->k, folder)) die(EXIT_FAILED, "%s: no kwt1-weights-f32.npz or no kwt1-expected.npz", folder);
    check(ltx_model_check(&y->k.m, &print_log), folder);
    y->s = session_open(&y->k.m, &desc, &y->mems);
    for (i = 0; i < INPUTS; i++) {
        const int recorded = kwt_clip(&y->k, kwt_clips[i % KWT_CLIPS], moves[i / KWT_CLIPS], y->rows[i], y->k.logits);
        if (!recorded) die(EXIT_FAILED, "%s: arrays are missing, or have another size", folder);
        memcpy(y->full[i], answer(y, i).logits, sizeof y->full[i]);
        for (j = 0, sum = 0; j < KWT_LABELS; j++) sum += exp((double)y->full[i][j] - (double)y->full[i][best_label(y->full[i])]);
        y->n_sure += y->sure[i] = 1 / sum >= .5;
        for (j = 0; j < KWT_LABELS && moves[i / KWT_CLIPS] == 0; j++) worst = fmax(worst, fabs((double)(y->full[i][j] - y->k.logits[j])));
    }
    printf("kwt1: %d layers, %d rows; %d inputs: %d recorded clips, as they are and moved by 50 and 100 ms to either side\n", KWT_LAYERS, KWT_ROWS, INPUTS, KWT_CLIPS);
    printf("full depth is sure of %d of them, with a probability of at least one half\n", y->n_sure);
    printf("logits at full depth differ from the recorded ones by at most %.1e\n", worst);
}
static void similarity(study *y, turn (*turns)[2])
{
    const plan_mask full = mask_full(&y->k.m);
    watch w = { &y->k.m, y->steps, NULL, KWT_ROWS, turns };
    way split = mask_way(y, &full);
    int i;
    check(ltx_plan_split(y->steps, COUNT(y->steps), &split.plan.count), "plan");
    split.policy.tap = watch_tap;
    split.policy.user = &w;
    w.before = (float *)alloc(sizeof y->rows[0]);
    set_way(y, &split);
    for (i = 0; i < INPUTS; i++) answer(y, i);
    watch_means(&w);
    free(w.before);
}
static void put_effect(record *r, int first, const effect *e) /* three columns */
{
    r->v[first] = e->logits;
    r->v[first + 1] = e->agree;
    r->v[first + 2] = e->sure;
}
static void layers(study *y)
{
    static turn turns[KWT_LAYERS][2];
    const plan_mask full = mask_full(&y->k.m);
    int l, k;
    similarity(y, turns);
    for (l = 0; l < KWT_LAYERS; l++) {
        record *r = report_add(&results, T_LAYERS, "kwt1");
        r->v[LAYER] = l;
        for (k = 0; k < 3; k++) { /* attention, ffn, both */
            const plan_mask x = mask_without(full, l, k < 2 ? branch_bit(k) : LTX_ATTN | LTX_FFN);
            const effect e = mask_effect(y, &x);
            put_effect(r, k == 0 ? ATTN_LOGITS : k == 1 ? FFN_LOGITS : LOGITS, &e);
        }
        r->v[ATTN_COS] = turns[l][0].cosine; r->v[ATTN_NORM] = turns[l][0].norm; r->v[RANK] = turns[l][0].rank;
        r->v[FFN_COS] = turns[l][1].cosine; r->v[FFN_NORM] = turns[l][1].norm;
    }
}
static double logits_moved(void *user, const plan_mask *x) { return mask_effect((study *)user, x).logits; }
static void fewer(study *y)
{
    plan_mask x = mask_full(&y->k.m), next;
    int n, l;
    for (n = KWT_LAYERS - 1; n >= FEWEST; n--, x = next) {
        record *r = report_add(&results, T_FEWER, "kwt1");
        effect e;
        way w;
        next = mask_cheapest(&x, KWT_LAYERS, 1, logits_moved, y, &e.logits);
        e = mask_effect(y, &next);
        w = mask_way(y, &next);
        for (l = 0; x.run[l] == next.run[l]; l++) continue;
        snprintf(r->text[WHAT], REPORT_TEXT, "- layer %d", l);
        r->v[LAYERS] = n; r->v[SPEED] = speed_of(y, &w);
        put_effect(r, LOGITS, &e);
    }
}
/* Who may leave: the class token, whose logits are asked for; every row; or all but the class token, which then looks at rows that left. */
enum { CLASS_TOKEN, EVERY_ROW, OTHER_ROWS, WHOS };
static const char *const who_name[WHOS] = { "class token", "every row", "all but class token" };

static int32_t other_rows_gate(void *user, const ltx_view *v) /* LTX_EXIT_COSINE, but for the class token */
{
    return v->position < KWT_WINDOWS && turned(v->before, v->hidden, v->dim, NULL) >= (double)*(const float *)user ? LTX_LEAVE : LTX_GO;
}
static void exit_row(study *y, int who, int gate, float threshold)
{
    const plan_mask full = mask_full(&y->k.m);
    record *r = report_add(&results, T_EXITS, "kwt1");
    way w = mask_way(y, &full);
    effect e;
    check(ltx_plan_gates(y->steps, w.plan.count, gate, 1), "gates");
    w.policy.rule = who == OTHER_ROWS ? LTX_EXIT_ASK : LTX_EXIT_COSINE;
    w.policy.threshold = threshold;
    w.policy.gate = other_rows_gate;
    w.policy.user = &threshold;
    w.policy.all_rows = who != CLASS_TOKEN;
    e = effect_of(y, &w);
    snprintf(r->text[WHAT], REPORT_TEXT, "%s", who_name[who]);
    r->v[GATE] = gate; r->v[THRESHOLD] = (double)threshold; r->v[DEPTH] = e.depth; r->v[RUN] = 100 * e.run; r->v[FILLED] = 100 * e.filled;
    r->v[SPEED] = speed_of(y, &w);
    put_effect(r, LOGITS, &e);
}
static void exits(study *y)
{
    static const float thresholds[] = { .98f, .97f, .96f, .94f, .9f };
    static const int gates[] = { 2, 5, 8 };
    int who, g, i;
    for (who = 0; who < WHOS; who++) for (g = 0; g < COUNT(gates); g++) for (i = 0; i < COUNT(thresholds); i++) exit_row(y, who, gates[g], thresholds[i]);
}

/* ---- main --------------------------------------------------------------------------------------------------------- */

static void print_help(void)
{
    puts("usage: ltx-kwt1 [FOLDER] [--csv FILE]\n\n"
         "Finds out what each layer of KWT-1, an encoder that spots keywords, is worth on its recorded inputs: the measures of\n"
         "ltx-profile, which reads GGUF files and so decoders alone. FOLDER holds kwt1-weights-f32.npz and kwt1-expected.npz\n"
         "(default: models/kwt1 in the folder that LTX_SHARED names, else in ../shared).\n\n"
         "  cosine  mean over rows and inputs of the cosine between the hidden vector before a branch and after it\n"
         "  norm    mean ratio of their lengths\n"
         "  rank    singular values of the attention matrix that hold 90 % of the sum of their squares, of 99\n"
         "  logits  root mean square change of the logits against full depth\n"
         "  agrees  share of inputs whose best label is that of full depth; sure: of those that full depth is sure of\n"
         "  its layers  after so many layers the logits of the class token are read, on average\n"
         "  run %   branches run, summed over rows, of those of full depth\n"
         "  speed   against full depth, measured in turn with it on this machine, one thread, the recorded clips\n\n"
         "Exit status: 0 done, 1 something failed, 2 the command line is wrong.");
}
/* The boldest exits after which no sure input has another label. */
static void say_exits(void)
{
    int who, i;
    puts("\nExits by similarity that keep the label of every sure input, the boldest of each kind:");
    for (who = 0; who < WHOS; who++) {
        const record *best = NULL;
        for (i = 0; i < results.n; i++) {
            const record *r = &results.records[i];
            if (r->table == T_EXITS && strcmp(r->text[WHAT], who_name[who]) == 0 && r->v[SURE] > 1 - 1e-9 && (best == NULL || r->v[RUN] < best->v[RUN])) best = r;
        }
        if (best == NULL) printf("  %s: none\n", who_name[who]);
        else printf("  %s: %.1f %% of the branches saved, threshold %g, gates from layer %g on, %.2f times as fast\n", who_name[who], 100 - best->v[RUN], best->v[THRESHOLD], best->v[GATE], best->v[SPEED]);
    }
}
int main(int argc, char **argv)
{
    static study y;
    const char *folder = kwt_folder(), *csv = NULL;
    int i;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) { print_help(); return 0; }
        if (strcmp(argv[i], "--csv") == 0 && i + 1 < argc) csv = argv[++i];
        else if (argv[i][0] != '-') folder = argv[i];
        else die(EXIT_USAGE, "what is %s? --help explains", argv[i]);
    }
    open_study(&y, folder);
    layers(&y);
    fewer(&y);
    exits(&y);
    for (i = 0; i < N_TABLES; i++) report_table(&results, i, "kwt1");
    say_exits();
    if (csv != NULL) {
        FILE *f = report_open(csv);
        report_csv(&results, f);
        report_close(f, csv);
    }
    session_close(&y.mems);
    kwt_close(&y.k);
    free(results.records);
    return 0;
}
