/* depth - measure what depth buys on a model: loss, exits, speed, drafts
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   cc -O2 -o depth depth.c -lm            depth --help

   One pass over the text reads logits after every layer of every token. Rows that wait (LTX_FILL_DEFER) end up with the
   hidden vectors of full depth, so this one pass answers for every rule, threshold and set of gates what it would have
   chosen: the tables of exact treatment are replayed from it, and a part is run through the real rules and compared.
   What is projected, and everything with a time, is run. All results are records; tables, CSV and plot read those.

   >>tool  memory, files, clocks    >>records  tables, CSV     >>model    model, tokens, sessions    >>losses  every exit
   >>rules thresholds               >>timing   interleaved     >>drafts   speculation                >>formats >>plot >>main */

#define _POSIX_C_SOURCE 200112L
#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "compiler.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../examples/median.h"
#include "text.h"

enum { ROWS = 64, WAIT_ROWS = 16, ROUNDS = 7, MAX_SETTINGS = 96, PROMPT = 32 };

static struct options {
    const char *models[16], *text, *csv, *svg;
    int n_models, windows, ctx, quick, markdown, formats;
} opt;

/* ==== >>tool ===========================================================================================================
   Blocks of memory hang on one list and are given back together. */

typedef struct block { struct block *next; } block;
static block *blocks;

static void give_back(void)
{
    while (blocks != NULL) { block *b = blocks; blocks = b->next; free(b); }
}
static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("depth: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    give_back();
    exit(1);
}
static void *take_aligned(size_t size, size_t align)
{
    block *b = (block *)calloc(1, sizeof *b + size + align);
    uintptr_t at;
    if (b == NULL) die("out of memory (%lu bytes)", (unsigned long)size);
    b->next = blocks;
    blocks = b;
    at = (uintptr_t)(b + 1) + align - 1;
    return (void *)(at - at % align);
}
static void *take(size_t count, size_t size) { return take_aligned(count * size, 16); }
static ltx_mem lend(ltx_need need)
{
    ltx_mem m;
    m.size = need.size;
    m.ptr = take_aligned(need.size, need.align);
    return m;
}
static void check(ltx_result r, const char *what) { if (r != LTX_OK) die("%s: %s", what, ltx_result_text(r)); }

static ltx_blob read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    ltx_blob b = { NULL, 0 };
    long size;
    char *data;
    if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) != 0) { die("cannot read %s", path); return b; }
    data = (char *)take_aligned((size_t)size + 1, 64);
    if (fread(data, 1, (size_t)size, f) != (size_t)size) die("cannot read %s", path);
    fclose(f);
    b.ptr = data;
    b.size = (size_t)size;
    return b;
}
static FILE *open_output(const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL) die("cannot write %s", path);
    return f;
}
static void close_output(FILE *f, const char *path)
{
    if (ferror(f) | fclose(f)) die("cannot write %s", path);
}
typedef struct stamp { double cpu, wall; } stamp; /* seconds */
static stamp now(void)
{
    struct timespec c, w;
    stamp s;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &c);
    clock_gettime(CLOCK_MONOTONIC, &w);
    s.cpu = (double)c.tv_sec + 1e-9 * (double)c.tv_nsec;
    s.wall = (double)w.tv_sec + 1e-9 * (double)w.tv_nsec;
    return s;
}
static void progress(const char *what, int done, int all)
{
    fprintf(stderr, "\r%-40s %3d / %d ", what, done, all);
    if (done >= all) fputc('\n', stderr);
}

/* ==== >>records ========================================================================================================
   A record has a cell for every column, most of them empty; a table is a choice of columns. */

enum { MODEL, RULE, GATES, FILL, LENGTH, CHECK, N_TEXT, THRESHOLD = N_TEXT, EXIT, LAYERS, SAVED, HEADS, LOSS, BITS, CHANGE, PROJECT, AGREE,
       MS, WALL, SPEED, DRAFTED, ACCEPTED, KEPT, PER_ROUND, MBYTES, SPEED_BY, N_COLUMNS = SPEED_BY + 7 };
static const struct column { const char *csv, *title; int digits; } columns[N_COLUMNS] = {
    { "model", "model", 0 }, { "rule", "rule", 0 }, { "gates_after", "gates after", 0 }, { "fill", "fill", 0 }, { "draft_length", "length", 0 },
    { "check", "README", 0 }, { "threshold", "threshold", 4 }, { "exit_after", "exit after", 0 }, { "layers_per_token", "layers/token", 2 },
    { "layers_saved_percent", "saved %", 1 }, { "heads_per_token", "heads/token", 2 }, { "loss_nats_per_token", "loss/token", 4 },
    { "bits_per_byte", "bits/byte", 4 }, { "loss_change_percent", "loss %", 2 }, { "project_adds_percent", "project adds %", 2 },
    { "agreement", "agreement", 3 }, { "cpu_ms_per_token", "CPU ms/token", 4 }, { "wall_ms_per_token", "wall ms/token", 4 }, { "speed_ratio", "speed", 3 },
    { "drafted", "drafted", 0 }, { "accepted", "accepted", 0 }, { "", "kept %", 1 }, { "tokens_per_round", "tokens/round", 2 }, { "file_megabytes", "MB", 2 },
    { "", "1", 2 }, { "", "2", 2 }, { "", "3", 2 }, { "", "4", 2 }, { "", "6", 2 }, { "", "online", 2 }, { "", "online +2", 2 }
};
enum { T_FIXED, T_RULES, T_TIME, T_DRAFTS, T_SPEEDS, T_FORMATS, N_TABLES };
static const struct table { const char *csv, *title; int columns[12]; } tables[N_TABLES] = {
    { "fixed", "Leaving every token after the same layer", { EXIT, LOSS, BITS, CHANGE, AGREE, CHECK, -1 } },
    { "rules", "Leaving by a rule: exact (deferred) keys and values, and the loss that projected ones add (first sixth of the windows)", { RULE, GATES, THRESHOLD, LAYERS, SAVED, HEADS, BITS, CHANGE, PROJECT, -1 } },
    { "time", "Time of a token, scored one by one, and loss on the same tokens; thresholds that cost 1 % and 3 % on all windows",
      { RULE, GATES, THRESHOLD, FILL, LAYERS, HEADS, CHANGE, MS, WALL, SPEED, -1 } },
    { "drafts", NULL, { -1 } }, /* only in the CSV */
    { "", "Self-speculation: speed against full depth by drafted tokens a round; `online +2` may draft two layers deeper where it is not sure; kept % of length 1, tokens/round of `online`",
      { EXIT, SPEED_BY, SPEED_BY + 1, SPEED_BY + 2, SPEED_BY + 3, SPEED_BY + 4, SPEED_BY + 5, SPEED_BY + 6, KEPT, PER_ROUND, -1 } },
    { "formats", "Formats of weights, full depth", { MODEL, MBYTES, LOSS, BITS, CHANGE, -1 } }
};
typedef struct record { int table; char text[N_TEXT][40]; double v[N_COLUMNS]; } record;
static record *records;
static int n_records, room_records;

static record *add_record(int table, const char *model)
{
    record *r, *old = records;
    int i;
    if (n_records == room_records) {
        room_records = room_records * 2 + 64;
        records = (record *)take((size_t)room_records, sizeof *records);
        if (old != NULL) memcpy(records, old, (size_t)n_records * sizeof *records);
    }
    r = &records[n_records++];
    r->table = table;
    for (i = 0; i < N_COLUMNS; i++) r->v[i] = NAN;
    snprintf(r->text[MODEL], sizeof r->text[MODEL], "%s", model);
    return r;
}
static void print_cell(const record *r, int column, int exact, char *out, size_t size)
{
    out[0] = 0;
    if (column < N_TEXT) snprintf(out, size, "%s", r->text[column]);
    else if (!isnan(r->v[column])) snprintf(out, size, exact ? "%.*g" : "%.*f", exact ? 9 : columns[column].digits, r->v[column]);
}
static void print_row(const struct table *t, const record *r, const int *width) /* r NULL: titles */
{
    char cell[64];
    int i, c;
    for (i = 0; (c = t->columns[i]) >= 0; i++) {
        if (r == NULL) snprintf(cell, sizeof cell, "%s", columns[c].title);
        else print_cell(r, c, 0, cell, sizeof cell);
        printf("%s%*s", opt.markdown ? "| " : i > 0 ? "  " : "", c < N_TEXT ? -width[i] : width[i], cell);
        if (opt.markdown) putchar(' ');
    }
    puts(opt.markdown ? "|" : "");
}
static void print_table(int table)
{
    const struct table *t = &tables[table];
    int width[12], i, k, len, any = 0;
    char cell[64];
    for (i = 0; t->columns[i] >= 0; i++) width[i] = (int)strlen(columns[t->columns[i]].title);
    for (k = 0; k < n_records; k++) for (i = 0; records[k].table == table && t->columns[i] >= 0; i++) {
        print_cell(&records[k], t->columns[i], 0, cell, sizeof cell);
        len = (int)strlen(cell);
        if (len > width[i]) width[i] = len;
        any = 1;
    }
    if (!any) return;
    printf(opt.markdown ? "\n**%s**\n\n" : "\n%s\n", t->title);
    print_row(t, NULL, width);
    for (i = 0; opt.markdown && t->columns[i] >= 0; i++) printf(t->columns[i] < N_TEXT ? "| --- " : "| ---: ");
    if (opt.markdown) puts("|");
    for (k = 0; k < n_records; k++) if (records[k].table == table) print_row(t, &records[k], width);
}
static void machine(char *out, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(out, size, "unknown");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
        snprintf(out, size, "%s", strchr(line, ':') + 2);
        out[strcspn(out, "\n\"")] = 0;
        break;
    }
    if (f != NULL) fclose(f);
}
static void write_csv(const char *isa)
{
    char cell[64], cpu[128];
    FILE *f = open_output(opt.csv);
    int i, k;
    machine(cpu, sizeof cpu);
    fprintf(f, "cpu,compiler,flags,isa,threads,table");
    for (i = 0; i < N_COLUMNS; i++) if (columns[i].csv[0] != 0) fprintf(f, ",%s", columns[i].csv);
    fputc('\n', f);
    for (k = 0; k < n_records; k++) {
        if (tables[records[k].table].csv[0] == 0) continue;
        fprintf(f, "\"%s\",\"%s\",\"%s\",%s,1,%s", cpu, COMPILER, LTX_BENCH_FLAGS, isa, tables[records[k].table].csv);
        for (i = 0; i < N_COLUMNS; i++) if (columns[i].csv[0] != 0) {
            print_cell(&records[k], i, 1, cell, sizeof cell);
            fprintf(f, i < N_TEXT ? ",\"%s\"" : ",%s", cell);
        }
        fputc('\n', f);
    }
    close_output(f, opt.csv);
}

/* ==== >>model ========================================================================================================== */

typedef struct bench {
    char       name[64];
    ltx_model  model;
    ltx_vocab *vocab;
    double     file_mb, bytes_per_token;
    int32_t   *tokens, *starts; /* of the whole text; where stories start */
    int        n_tokens, n_starts, windows, layers;
    struct sight *sights;       /* [windows * ctx][layers]                */
    int        base;            /* first token of the window that runs    */
    const char *isa;
    ltx_session_desc desc;      /* of the last session, to start it anew  */
    ltx_session_mems mems;
    ltx_step steps[LTX_MAX_LAYERS]; /* of the plan that is in use         */
} bench;

/* How to run: a rule with its gates and fill, or a draft. */
typedef struct setting {
    int32_t  rule, fill, first, every; /* gates after steps first, first + every, ... (0-based) */
    float    threshold;
    int32_t  screen;                   /* gates look at the shortlist first                     */
    int32_t  exit, length;             /* of a draft; length as in `lengths`                    */
} setting;

static void log_event(void *user, const ltx_event *e)
{
    (void)user;
    fprintf(stderr, "depth: %.*s: %s (wanted %ld, got %ld)\n", (int)e->name_len, e->name, e->text, (long)e->want, (long)e->got);
}
static const ltx_log to_stderr = { log_event, NULL };

static void load_model(bench *b, const char *path)
{
    const char *slash = strrchr(path, '/');
    ltx_blob image = read_file(path);
    ltx_need need;
    char *at;
    snprintf(b->name, sizeof b->name, "%s", slash != NULL ? slash + 1 : path);
    if (strrchr(b->name, '.') != NULL) *strrchr(b->name, '.') = 0;
    for (at = b->name; *at != 0; at++) if (strchr("<>&\"", *at) != NULL) *at = '_'; /* safe in CSV and SVG */
    b->file_mb = (double)image.size / 1e6;
    check(ltx_gguf_need(image, &to_stderr, &need), path);
    check(ltx_gguf_init(image, lend(need), &to_stderr, &b->model), path);
    check(ltx_vocab_need(image, &to_stderr, &need), path);
    check(ltx_vocab_init(image, lend(need), &to_stderr, &b->vocab), path);
    b->layers = b->model.n_layers;
}
static void add_story(bench *b, const char *text, size_t len, ltx_mem work)
{
    int32_t n;
    check(ltx_encode(b->vocab, text, len, LTX_BOS, work, b->tokens + b->n_tokens, (int32_t)len + 8, &n), "tokenizer");
    b->starts[b->n_starts++] = b->n_tokens;
    b->n_tokens += n;
}
static void load_text(bench *b, const char *path)
{
    ltx_blob file = read_file(path);
    const char *at = (const char *)file.ptr, *end = at + file.size, *story;
    size_t len;
    ltx_need need;
    ltx_mem work;
    check(ltx_encode_need(file.size, &need), "text");
    work = lend(need);
    b->tokens = (int32_t *)take(file.size * 5 + 16, sizeof *b->tokens); /* a story has a byte, two line ends, BOS and a blank at least */
    b->starts = (int32_t *)take(file.size + 1, sizeof *b->starts);
    while ((len = next_document(&at, end, 0, &story)) > 0) add_story(b, story, len, work);
    if (b->n_tokens <= opt.ctx) die("%s: %d tokens, a window needs %d", path, b->n_tokens, opt.ctx + 1);
    b->bytes_per_token = (double)file.size / b->n_tokens;
    b->windows = (b->n_tokens - 1) / opt.ctx;
    if (b->windows > opt.windows) b->windows = opt.windows;
}
static ltx_session *start_session(bench *b)
{
    ltx_session *s = NULL;
    check(ltx_session_init(&b->model, &b->desc, &b->mems, &s), "session");
    return s;
}
static ltx_session *open_session(bench *b, int rows, int logits_rows, int draft_max)
{
    ltx_session_desc *d = &b->desc, used;
    ltx_session_needs need;
    ltx_session *s;
    memset(d, 0, sizeof *d);
    d->ctx = opt.ctx; d->rows = rows; d->logits_rows = logits_rows; d->draft_max = draft_max; d->log = to_stderr;
    check(ltx_session_need(&b->model, d, &need), "session");
    b->mems.state = lend(need.state); b->mems.cache = lend(need.cache); b->mems.scratch = lend(need.scratch);
    s = start_session(b);
    ltx_session_desc_used(s, &used);
    b->isa = ltx_isa_name(used.isa);
    return s;
}
static void use_setting(bench *b, ltx_session *s, const setting *x)
{
    ltx_plan plan;
    ltx_policy policy;
    check(ltx_rewind(s, 0), "rewind"); /* no row waits for the plan that is about to change */
    memset(&policy, 0, sizeof policy);
    policy.rule = x->rule; policy.threshold = x->threshold; policy.screen = x->screen;
    plan.steps = b->steps; plan.fill = x->fill;
    check(ltx_plan_full(&b->model, b->steps, LTX_MAX_LAYERS, &plan.count), "plan");
    check(ltx_plan_gates(b->steps, plan.count, x->first, x->every), "gates");
    check(ltx_set_plan(s, &plan), "plan");
    check(ltx_set_policy(s, &policy), "policy");
}
static int has_gate(const bench *b, const setting *x, int layer) { return x->every > 0 && layer >= x->first && layer + 1 < b->layers && (layer - x->first) % x->every == 0; }
static setting make_setting(int rule, double threshold, int fill, int first, int every)
{
    setting x;
    memset(&x, 0, sizeof x);
    x.rule = rule; x.threshold = (float)threshold; x.fill = fill; x.first = first; x.every = every;
    return x;
}
static void describe(const bench *b, const setting *x, record *r)
{
    static const char *const rules[] = { "full depth", "prob", "margin", "entropy", "cosine", "fixed", "" };
    static const char *const fills[] = { "project", "defer", "none" };
    char *out = r->text[GATES];
    int i, n = 0, last = 0;
    snprintf(r->text[RULE], sizeof r->text[RULE], "%s%s", rules[x->rule], x->screen ? " screened" : "");
    if (x->rule == LTX_EXIT_NEVER) return;
    snprintf(r->text[FILL], sizeof r->text[FILL], "%s", fills[x->fill]);
    if (x->rule != LTX_EXIT_ALWAYS) r->v[THRESHOLD] = (double)x->threshold;
    for (i = 0; i < b->layers; i++) if (has_gate(b, x, i)) {
        last = i + 1;
        if (x->every > 1 || n == 0) n += snprintf(out + n, n < 32 ? 40 - (size_t)n : 0, n > 0 ? ",%d" : "%d", last);
        if (n >= 32) return;
    }
    if (x->every == 1 && last > x->first + 1) snprintf(out + n, 40 - (size_t)n, "-%d", last);
}

/* ==== >>losses ========================================================================================================= */

static sight *sight_at(const bench *b, int token, int layer) { return &b->sights[(size_t)token * (size_t)b->layers + (size_t)layer]; }

static int32_t look_at_gate(void *user, const ltx_view *v)
{
    bench *b = (bench *)user;
    int token = b->base + v->position, i;
    double xx = 0, yy = 0, xy = 0;
    sight *s = sight_at(b, token, v->step);
    *s = look(v->logits, v->vocab, b->tokens[token + 1]);
    for (i = 0; i < v->dim; i++) {
        double x = (double)v->before[i], y = (double)v->hidden[i];
        xx += x * x; yy += y * y; xy += x * y;
    }
    s->cosine = (float)(xy / sqrt(xx * yy));
    return LTX_GO;
}
/* Run windows in batches; `row` gets every token's logits and depth. */
typedef void row_fn(bench *b, int token, const float *logits, int32_t depth, void *user);
static void run_windows(bench *b, ltx_session *s, int windows, row_fn *row, void *user, const char *what)
{
    ltx_batch batch;
    ltx_output out;
    int w, at, i;
    memset(&batch, 0, sizeof batch);
    for (w = 0; w < windows; w++) {
        check(ltx_rewind(s, 0), "rewind");
        b->base = w * opt.ctx;
        for (at = 0; at < opt.ctx; at += batch.count) {
            batch.tokens = b->tokens + b->base + at;
            batch.count = batch.logits = opt.ctx - at < ROWS ? opt.ctx - at : ROWS;
            check(ltx_eval_batch(s, &batch, &out), "eval");
            for (i = 0; i < batch.count; i++) row(b, b->base + at + i, out.logits + (size_t)i * (size_t)b->model.vocab, out.depth[i], user);
        }
        if (what != NULL) progress(what, w + 1, windows);
    }
}
static void keep_last(bench *b, int token, const float *logits, int32_t depth, void *user)
{
    (void)user; (void)depth;
    *sight_at(b, token, b->layers - 1) = look(logits, b->model.vocab, b->tokens[token + 1]);
}
static void see_every_exit(bench *b, ltx_session *s)
{
    setting all = make_setting(LTX_EXIT_NEVER, 0, LTX_FILL_DEFER, 0, 1);
    ltx_policy policy;
    b->sights = (sight *)take((size_t)(b->windows * opt.ctx) * (size_t)b->layers, sizeof *b->sights);
    use_setting(b, s, &all);
    memset(&policy, 0, sizeof policy);
    policy.rule = LTX_EXIT_ASK; policy.gate = look_at_gate; policy.want_logits = 1; policy.user = b;
    check(ltx_set_policy(s, &policy), "policy");
    run_windows(b, s, b->windows, keep_last, NULL, "logits after every layer");
}
/* Numbers of the two checkpoints' READMEs, float32, first 60 windows of stories-valid (told by its number of tokens). */
static const struct known { int dim, tokens; double loss[12], agreement[12]; } known[] = {
    { 192, 139696, { 3.554, 3.236, 2.913, 2.543, 2.302, 2.117, 2.005, 1.960, 1.915, 1.880, 1.867, 1.855 },
                   { .342, .398, .481, .577, .659, .738, .793, .827, .863, .901, .931, 1 } },
    { 128, 497585, { 1.630, 1.344, 1.158, 1.021, .947, .891, .843, .817, .808, .800, .797, .789 },
                   { .572, .667, .740, .805, .836, .868, .907, .933, .947, .961, .972, 1 } }
};
static const char *against_readme(const bench *b, int layer, double loss, double agreement)
{
    int i;
    if (opt.ctx != 512 || b->windows != 60 || b->layers != 12 || b->model.layers[0].wq.type != LTX_F32) return "";
    for (i = 0; i < COUNT(known); i++) if (known[i].dim == b->model.dim && known[i].tokens == b->n_tokens)
        return fabs(known[i].loss[layer] - loss) < 0.0015 && fabs(known[i].agreement[layer] - agreement) < 0.0015 ? "ok" : "differs";
    return "";
}
static double bits(const bench *b, double loss) { return loss / log(2.0) / b->bytes_per_token; }
static double full_loss(const bench *b, int tokens)
{
    double sum = 0;
    int i;
    for (i = 0; i < tokens; i++) sum += sight_at(b, i, b->layers - 1)->loss;
    return sum / tokens;
}
static void fixed_exits(bench *b)
{
    int n = b->windows * opt.ctx, layer, i;
    double full = full_loss(b, n);
    for (layer = 0; layer < b->layers; layer++) {
        record *r = add_record(T_FIXED, b->name);
        double loss = 0, same = 0;
        for (i = 0; i < n; i++) {
            loss += sight_at(b, i, layer)->loss;
            same += sight_at(b, i, layer)->top == sight_at(b, i, b->layers - 1)->top;
        }
        r->v[EXIT] = r->v[LAYERS] = layer + 1; r->v[LOSS] = loss / n; r->v[BITS] = bits(b, loss / n);
        r->v[CHANGE] = 100 * (loss / n / full - 1); r->v[AGREE] = same / n;
        snprintf(r->text[CHECK], sizeof r->text[CHECK], "%s", against_readme(b, layer, loss / n, same / n));
    }
}

/* ==== >>rules ========================================================================================================== */

typedef struct sum { double loss, layers, heads; int tokens, differ; const setting *x; } sum;

/* The layer (0-based) after which a rule lets a token go, from what was seen; *heads counts logits computed on the way. */
static int replay(const bench *b, const setting *x, int token, int *heads)
{
    int layer, go, by_logits = x->rule != LTX_EXIT_COSINE && x->rule != LTX_EXIT_ALWAYS;
    for (layer = 0, *heads = 0; layer < b->layers - 1; layer++) {
        const sight *s = sight_at(b, token, layer);
        if (x->rule == LTX_EXIT_NEVER || !has_gate(b, x, layer)) continue;
        *heads += by_logits;
        go = x->rule == LTX_EXIT_PROB ? s->prob >= x->threshold : x->rule == LTX_EXIT_MARGIN ? s->margin >= x->threshold :
             x->rule == LTX_EXIT_ENTROPY ? s->entropy <= x->threshold : x->rule == LTX_EXIT_COSINE ? s->cosine >= x->threshold : 1;
        if (go) break;
    }
    if (!by_logits || layer == b->layers - 1) ++*heads;
    return layer;
}
static sum replay_all(const bench *b, const setting *x, int tokens)
{
    sum r = { 0, 0, 0, 0, 0, NULL };
    int i, heads, layer;
    for (i = 0; i < tokens; i++) {
        layer = replay(b, x, i, &heads);
        r.loss += sight_at(b, i, layer)->loss; r.layers += layer + 1; r.heads += heads;
    }
    r.loss /= tokens; r.layers /= tokens; r.heads /= tokens; r.tokens = tokens;
    return r;
}
static void add_row(bench *b, int token, const float *logits, int32_t depth, void *user)
{
    sum *r = (sum *)user;
    int heads;
    double loss = look(logits, b->model.vocab, b->tokens[token + 1]).loss;
    r->loss += loss; r->layers += depth; r->tokens++;
    if (r->x == NULL) return;
    if (replay(b, r->x, token, &heads) + 1 != depth || fabs(sight_at(b, token, depth - 1)->loss - loss) > 1e-12) r->differ++;
}
static sum run_rule(bench *b, ltx_session *s, setting *x, int windows, int compare)
{
    sum r = { 0, 0, 0, 0, 0, NULL };
    if (compare) r.x = x;
    use_setting(b, s, x);
    run_windows(b, s, windows, add_row, &r, NULL);
    r.loss /= r.tokens; r.layers /= r.tokens;
    return r;
}
static setting few_gates(const bench *b, int rule, double threshold, int fill) { return make_setting(rule, threshold, fill, b->layers * 2 / 3 - 1, b->layers / 6 > 0 ? b->layers / 6 : 1); }
static setting most_gates(int rule, double threshold, int fill) { return make_setting(rule, threshold, fill, 2, 1); }

/* Replay, and a part through the engine: the same depth and the same loss for every token. */
static void check_replay(bench *b, ltx_session *s)
{
    static const struct { int rule; double threshold; } some[] = { { LTX_EXIT_PROB, .9 }, { LTX_EXIT_MARGIN, .8 }, { LTX_EXIT_ENTROPY, .6 }, { LTX_EXIT_COSINE, .97 }, { LTX_EXIT_ALWAYS, 0 } };
    int i, differ = 0, tokens = 0, windows = b->windows < 4 ? b->windows : 4;
    for (i = 0; i < COUNT(some); i++) {
        setting x = most_gates(some[i].rule, some[i].threshold, LTX_FILL_DEFER);
        sum r = run_rule(b, s, &x, windows, 1);
        differ += r.differ;
        tokens += r.tokens;
    }
    printf("%s: %d tokens of the text, %.3f bytes each; %d windows of %d; %s, one thread\n", b->name, b->n_tokens, b->bytes_per_token, b->windows, opt.ctx, b->isa);
    printf("replayed exits against the engine's, depth and loss of %d tokens: %d differ\n", tokens, differ);
    if (differ > tokens / 1000) die("the replay is not what the engine does"); /* a probability may fall on the threshold */
}
static void rule_row(bench *b, ltx_session *s, setting x)
{
    int n = b->windows * opt.ctx, part = (b->windows + 5) / 6;
    double full = full_loss(b, n);
    record *r = add_record(T_RULES, b->name);
    sum exact = replay_all(b, &x, n);
    describe(b, &x, r);
    r->text[FILL][0] = 0;
    r->v[LAYERS] = exact.layers; r->v[SAVED] = 100 * (1 - exact.layers / b->layers); r->v[HEADS] = exact.heads;
    r->v[LOSS] = exact.loss; r->v[BITS] = bits(b, exact.loss); r->v[CHANGE] = 100 * (exact.loss / full - 1);
    exact = replay_all(b, &x, part * opt.ctx);
    x.fill = LTX_FILL_PROJECT;
    r->v[PROJECT] = 100 * (run_rule(b, s, &x, part, 0).loss / exact.loss - 1);
}
static void rules(bench *b, ltx_session *s)
{
    static const struct { int rule, few; double thresholds[6]; } sweep[] = {
        { LTX_EXIT_PROB, 0, { .6, .7, .8, .9, .95, .98 } }, { LTX_EXIT_MARGIN, 0, { .5, .6, .7, .8, .9, .95 } },
        { LTX_EXIT_ENTROPY, 0, { 1.5, 1, .8, .6, .4, .2 } }, { LTX_EXIT_COSINE, 0, { .97, .98, .985, .99, .9925, .995 } },
        { LTX_EXIT_PROB, 1, { .3, .5, .7, .8, .9, .95 } }
    };
    int i, k;
    for (i = 0; i < COUNT(sweep); i++) for (k = 0; k < 6; k++) {
        int rule = sweep[i].rule;
        double threshold = sweep[i].thresholds[k];
        rule_row(b, s, sweep[i].few ? few_gates(b, rule, threshold, LTX_FILL_DEFER) : most_gates(rule, threshold, LTX_FILL_DEFER));
        progress("rules and thresholds", i * 6 + k + 1, COUNT(sweep) * 6);
    }
}
/* The threshold at which a rule's exact treatment costs `percent` more loss. */
static double threshold_for(const bench *b, setting x, double percent)
{
    int n = b->windows * opt.ctx, i;
    double full = full_loss(b, n), low = 0, high = 1, strict = 0, most = log((double)b->model.vocab);
    for (i = 0; i < 14; i++) {
        strict = (low + high) / 2;
        x.threshold = (float)(x.rule == LTX_EXIT_ENTROPY ? most * (1 - strict) : strict);
        if (replay_all(b, &x, n).loss / full - 1 > percent / 100) low = strict;
        else high = strict;
    }
    return floor((double)x.threshold * 1e4 + .5) / 1e4;
}

/* ==== >>timing ========================================================================================================= */

/* Seconds a token by round; ratio = full depth / this, CPU. What came out, summed over rounds. */
typedef struct timing { double cpu[ROUNDS], wall[ROUNDS], ratio[ROUNDS]; sum out; ltx_stats stats; } timing;

static int rounds(void) { return opt.quick ? 3 : ROUNDS; }

/* All settings in turn, again and again, so that what disturbs one disturbs its neighbours too. Setting 0 is full depth. Each
   round has a text of its own; ratios are taken within a round. `run` does one setting and adds up its time; round -1 warms up. */
typedef void run_fn(bench *b, ltx_session *s, setting *x, int round, timing *t, stamp *spent);
static void interleave(bench *b, ltx_session *s, setting *settings, int n, run_fn *run, timing *t, const char *what)
{
    int round, i;
    memset(t, 0, (size_t)n * sizeof *t);
    for (round = -1; round < rounds(); round++) for (i = 0; i < n; i++) {
        stamp spent = { 0, 0 };
        run(b, s, &settings[i], round, &t[i], &spent);
        progress(what, (round + 1) * n + i + 1, (rounds() + 1) * n);
        if (round < 0) continue;
        t[i].cpu[round] = spent.cpu;
        t[i].wall[round] = spent.wall;
        t[i].ratio[round] = t[0].cpu[round] / spent.cpu;
    }
}
static void add_time(stamp *spent, stamp since, int tokens)
{
    stamp z = now();
    spent->cpu += (z.cpu - since.cpu) / tokens;
    spent->wall += (z.wall - since.wall) / tokens;
}
static void add_stats(ltx_session *s, ltx_stats *to)
{
    ltx_stats from;
    ltx_session_stats(s, &from);
    to->head_rows += from.head_rows; to->rounds += from.rounds; to->drafted += from.drafted; to->accepted += from.accepted;
}
static void fill_times(record *r, timing *t)
{
    r->v[MS] = 1e3 * median(t->cpu, rounds()); r->v[WALL] = 1e3 * median(t->wall, rounds()); r->v[SPEED] = median(t->ratio, rounds());
}
/* Score a window token by token, as a program that generates would; time and loss belong to the same tokens. */
static void score(bench *b, ltx_session *s, setting *x, int round, timing *t, stamp *spent)
{
    int base = round < 0 ? 0 : round % b->windows * opt.ctx, tokens = round < 0 ? 32 : opt.quick ? 128 : opt.ctx, i;
    ltx_batch batch;
    ltx_output out;
    if (tokens > opt.ctx) tokens = opt.ctx;
    memset(&batch, 0, sizeof batch);
    batch.count = batch.logits = 1;
    use_setting(b, s, x);
    ltx_stats_reset(s);
    t->out.x = x->fill == LTX_FILL_PROJECT || x->screen ? NULL : x; /* replayed exits know neither */
    for (i = 0; i < tokens; i++) {
        stamp begin = now();
        batch.tokens = b->tokens + base + i;
        check(ltx_eval_batch(s, &batch, &out), "eval");
        add_time(spent, begin, tokens);
        if (round >= 0) add_row(b, base + i, out.logits, out.depth[0], &t->out);
    }
    if (round >= 0) add_stats(s, &t->stats);
}
static int timed_settings(const bench *b, setting *x)
{
    static const double percent[] = { 1, 3 };
    int n = 0, p, fill, k;
    x[n++] = make_setting(LTX_EXIT_NEVER, 0, LTX_FILL_DEFER, 0, 0);
    x[n++] = make_setting(LTX_EXIT_ALWAYS, 0, LTX_FILL_NONE, b->layers * 5 / 6 - 1, b->layers); /* nobody reads what is above */
    x[n++] = make_setting(LTX_EXIT_ALWAYS, 0, LTX_FILL_NONE, b->layers * 2 / 3 - 1, b->layers);
    for (p = 0; p < 2; p++) for (k = 0; k < 6; k++) for (fill = LTX_FILL_PROJECT; fill <= LTX_FILL_DEFER; fill++) {
        x[n] = k % 3 == 0 ? most_gates(k < 3 ? LTX_EXIT_PROB : LTX_EXIT_COSINE, 0, fill) : few_gates(b, k == 2 ? LTX_EXIT_ENTROPY : LTX_EXIT_PROB, 0, fill);
        if (k > 3 && b->model.n_draft_ids == 0) continue;
        if (k == 5) x[n] = make_setting(LTX_EXIT_PROB, 0, fill, b->layers / 2 - 1, 1);
        x[n].screen = k > 3;
        x[n].threshold = (float)(fill == LTX_FILL_DEFER ? (double)x[n - 1].threshold : threshold_for(b, x[n], percent[p]));
        n++;
    }
    return n;
}
static void times(bench *b)
{
    static setting x[MAX_SETTINGS];
    static timing t[MAX_SETTINGS];
    ltx_session *s = open_session(b, WAIT_ROWS, 1, 0);
    int n = timed_settings(b, x), i;
    interleave(b, s, x, n, score, t, "time of exits");
    for (i = 0; i < n; i++) {
        const sum *out = &t[i].out;
        record *r = add_record(T_TIME, b->name);
        if (out->differ > out->tokens / 1000) die("token by token and in batches differ for %d of %d tokens", out->differ, out->tokens);
        describe(b, &x[i], r);
        r->v[LAYERS] = out->layers / out->tokens; r->v[LOSS] = out->loss / out->tokens; r->v[BITS] = bits(b, r->v[LOSS]);
        r->v[SAVED] = 100 * (1 - r->v[LAYERS] / b->layers);
        if (!x[i].screen) r->v[HEADS] = (double)t[i].stats.head_rows / out->tokens;
        r->v[CHANGE] = 100 * (out->loss / t[0].out.loss - 1);
        fill_times(r, &t[i]);
    }
}

/* ==== >>drafts ========================================================================================================= */

enum { ONLINE = 0, DEEPER = -1 };
static const int lengths[] = { 1, 2, 3, 4, 6, ONLINE, DEEPER };
static const char *draft_name(int length, const char *format, char *out, size_t size)
{
    if (length <= ONLINE) snprintf(out, size, "%s", length == ONLINE ? "online" : "online +2");
    else snprintf(out, size, format, length);
    return out;
}
static int32_t written[2 * LTX_MAX_STEPS]; /* what full depth wrote in this round */

static int to_write(void)
{
    int n = opt.quick ? 32 : 96;
    return n < opt.ctx - PROMPT ? n : opt.ctx - PROMPT;
}
/* Continue the beginning of a story greedily; the text must be that of full depth. `online` starts to learn anew each time. */
static void generate(bench *b, ltx_session *s, setting *x, int round, timing *t, stamp *spent)
{
    const int32_t *prompt = b->tokens + b->starts[round < 0 ? 0 : round % b->n_starts];
    int32_t tokens = to_write(), token;
    int differs;
    ltx_sampler greedy;
    ltx_draft draft;
    const float *logits;
    stamp begin;
    memset(&greedy, 0, sizeof greedy);
    memset(&draft, 0, sizeof draft);
    draft.exit = x->exit; draft.length = x->length > 0 ? x->length : 0;
    if (x->length == DEEPER) draft.last = x->exit + 2 < b->layers ? x->exit + 2 : b->layers - 1;
    draft.stop = x->length > 0 ? 1e-6f : 0;
    s = start_session(b);
    check(ltx_set_draft(s, &draft), "draft");
    check(ltx_eval(s, prompt, PROMPT, &logits), "eval");
    check(ltx_sample(s, &greedy, logits, &token), "sample");
    begin = now();
    check(write_on(s, token, written, tokens, x->exit > 0, &differs), "decode");
    if (differs >= 0) die("draft after layer %d, length %d: text differs at token %d", x->exit, x->length, differs);
    add_time(spent, begin, tokens);
    if (round >= 0) add_stats(s, &t->stats);
}
static int draft_settings(const bench *b, setting *x)
{
    int most = COUNT(lengths), exits = b->layers - 1, every = 1, n = 0, e, i;
    while ((exits + every - 1) / every * most + 1 > MAX_SETTINGS) every++; /* deep models: not every layer */
    if (opt.quick) every *= 3;
    memset(&x[n++], 0, sizeof *x);
    for (e = 1; e <= exits; e += every) for (i = 0; i < most; i++) {
        memset(&x[n], 0, sizeof *x);
        x[n].exit = e; x[n].length = lengths[i];
        n++;
    }
    return n;
}
static void drafts(bench *b)
{
    static setting x[MAX_SETTINGS];
    static timing t[MAX_SETTINGS];
    int n = draft_settings(b, x), i, k;
    if (to_write() < 1 || b->starts[b->n_starts < ROUNDS ? b->n_starts - 1 : ROUNDS - 1] + PROMPT > b->n_tokens) return;
    interleave(b, open_session(b, WAIT_ROWS, 1, DRAFT_MOST), x, n, generate, t, "time of drafts");
    for (i = 0; i < n; i++) {
        const ltx_stats *made = &t[i].stats;
        record *r = add_record(T_DRAFTS, b->name);
        if (i > 0) r->v[EXIT] = x[i].exit;
        if (i > 0) draft_name(x[i].length, "%d", r->text[LENGTH], sizeof r->text[LENGTH]);
        if (i > 0) r->v[PER_ROUND] = 1 + (double)made->accepted / (double)made->rounds;
        r->v[DRAFTED] = (double)made->drafted; r->v[ACCEPTED] = (double)made->accepted;
        fill_times(r, &t[i]);
    }
    for (i = 1; i < n; i += COUNT(lengths)) { /* a row of speeds per exit */
        record *r = add_record(T_SPEEDS, b->name);
        const record *d = &records[n_records - 1 - n + i - (i - 1) / COUNT(lengths)];
        r->v[EXIT] = x[i].exit;
        for (k = 0; k < COUNT(lengths); k++) r->v[SPEED_BY + k] = d[k].v[SPEED];
        r->v[KEPT] = 100 * d[0].v[ACCEPTED] / d[0].v[DRAFTED];
        r->v[PER_ROUND] = d[COUNT(lengths) - 2].v[PER_ROUND];
    }
}

/* ==== >>formats ======================================================================================================== */

static void formats(bench *b)
{
    static setting full;
    double first = 0;
    int i;
    for (i = 0; i < opt.n_models; i++) {
        record *r;
        sum all;
        memset(b, 0, sizeof *b);
        load_model(b, opt.models[i]);
        load_text(b, opt.text);
        all = run_rule(b, open_session(b, ROWS, ROWS, 0), &full, b->windows, 0);
        r = add_record(T_FORMATS, b->name);
        if (i == 0) first = all.loss;
        r->v[MBYTES] = b->file_mb; r->v[LOSS] = all.loss; r->v[BITS] = bits(b, all.loss); r->v[CHANGE] = 100 * (all.loss / first - 1);
        progress("formats", i + 1, opt.n_models);
    }
}

/* ==== >>plot ===========================================================================================================
   Two panels of lines in an SVG with its own light background, so that it reads on white and on dark pages. */

typedef struct panel { FILE *f; double left, top, width, height, x0, x1, y0, y1; int legend; double legend_x, legend_y; } panel;

static double px(const panel *p, double x) { return p->left + (x - p->x0) / (p->x1 - p->x0) * p->width; }
static double py(const panel *p, double y) { return p->top + p->height - (y - p->y0) / (p->y1 - p->y0) * p->height; }
static double tick(double range, int most) /* 1, 2 or 5 times a power of ten */
{
    double step = pow(10, floor(log10(range / most)));
    return range / step <= most ? step : range / step / 2 <= most ? 2 * step : range / step / 5 <= most ? 5 * step : 10 * step;
}
static void draw_axes(const panel *p, const char *title, const char *x_title, const char *y_title)
{
    double sx = fmax(1, tick(p->x1 - p->x0, 12)), sy = tick(p->y1 - p->y0, 8), v;
    fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"14\" font-weight=\"bold\">%s</text>\n", p->left, p->top - 14, title);
    for (v = ceil(p->x0 / sx) * sx; v <= p->x1 + sx * 1e-6; v += sx)
        fprintf(p->f, "<path d=\"M%.1f %.1fv4\" stroke=\"#666\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.3g</text>\n", px(p, v), p->top + p->height, px(p, v), p->top + p->height + 17, v);
    for (v = ceil(p->y0 / sy) * sy; v <= p->y1 + sy * 1e-6; v += sy)
        fprintf(p->f, "<path d=\"M%.1f %.1fh%.1f\" stroke=\"#e2e2dc\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n", p->left, py(p, v), p->width, p->left - 6, py(p, v) + 4, v);
    fprintf(p->f, "<path d=\"M%.1f %.1fv%.1fh%.1f\" fill=\"none\" stroke=\"#666\"/>\n", p->left, p->top, p->height, p->width);
    fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", p->left + p->width / 2, p->top + p->height + 37, x_title);
    fprintf(p->f, "<text transform=\"translate(%.1f %.1f) rotate(-90)\" text-anchor=\"middle\">%s</text>\n", p->left - 42, p->top + p->height / 2, y_title);
}
/* A line through the records that `pick` gives a point for, and its entry in the legend. */
typedef int pick_fn(const record *r, const char *key, double *x, double *y);
static void draw_line(panel *p, pick_fn *pick, const char *key, const char *label, const char *color, const char *dash)
{
    double x, y, ly = p->legend_y + 18 * p->legend;
    int i, n = 0;
    fprintf(p->f, "<g stroke=\"%s\" stroke-width=\"2\" fill=\"none\" stroke-dasharray=\"%s\"><path d=\"M%.1f %.1fh22", color, dash, p->legend_x, ly);
    for (i = 0; i < n_records; i++) if (pick(&records[i], key, &x, &y) && x >= p->x0 && x <= p->x1 && y >= p->y0 && y <= p->y1)
        fprintf(p->f, "%c%.1f %.1f", n++ == 0 ? 'M' : 'L', px(p, x), py(p, y));
    fprintf(p->f, "\"/></g>\n<g fill=\"%s\">", color);
    for (i = 0; i < n_records; i++) if (pick(&records[i], key, &x, &y) && x >= p->x0 && x <= p->x1 && y >= p->y0 && y <= p->y1)
        fprintf(p->f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\"/>", px(p, x), py(p, y));
    fprintf(p->f, "</g>\n<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", p->legend_x + 28, ly + 4, label);
    p->legend++;
}
static int pick_fixed(const record *r, const char *key, double *x, double *y)
{
    (void)key;
    *x = r->v[LAYERS]; *y = r->v[BITS];
    return r->table == T_FIXED;
}
static int pick_rule(const record *r, const char *key, double *x, double *y) /* key: rule, or rule with an asterisk: few gates */
{
    size_t n = strcspn(key, "*");
    *x = r->v[LAYERS]; *y = r->v[BITS];
    return r->table == T_RULES && strncmp(r->text[RULE], key, n) == 0 && (key[n] == '*') == (strchr(r->text[GATES], ',') != NULL);
}
static int pick_draft(const record *r, const char *key, double *x, double *y)
{
    *x = r->v[EXIT]; *y = r->v[SPEED];
    return r->table == T_DRAFTS && strcmp(r->text[LENGTH], key) == 0;
}
static void draw_exits(FILE *f, const bench *b)
{
    panel p = { NULL, 72, 78, 340, 272, 0, 0, 0, 0, 0, 256, 92 };
    double full = bits(b, full_loss(b, b->windows * opt.ctx)), x, y;
    int i;
    p.f = f; p.x0 = p.x1 = b->layers; p.y0 = full * .98; p.y1 = full * 1.16;
    for (i = 0; i < n_records; i++) if ((pick_fixed(&records[i], "", &x, &y) || records[i].table == T_RULES) && y <= p.y1 && x < p.x0) p.x0 = floor(x);
    if (p.x0 >= p.x1) p.x0 = p.x1 - 1;
    draw_axes(&p, "Leaving early: loss against depth", "mean layers per token", "bits per byte");
    fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"170\" height=\"130\" fill=\"#fbfbf8\"/>\n", p.legend_x - 8, p.legend_y - 12);
    draw_line(&p, pick_fixed, "", "same layer for all", "#555555", "5 3");
    draw_line(&p, pick_rule, "prob", "probability", "#0b63b0", "none");
    draw_line(&p, pick_rule, "prob*", "probability, few gates", "#4ba3e3", "2 3");
    draw_line(&p, pick_rule, "margin", "margin", "#2a8a4a", "none");
    draw_line(&p, pick_rule, "entropy", "entropy", "#c9571a", "none");
    draw_line(&p, pick_rule, "cosine", "cosine", "#8a3fa0", "none");
    fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"none\" stroke=\"#111\" stroke-width=\"2\"/>", px(&p, b->layers), py(&p, full));
    fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"none\" stroke=\"#111\" stroke-width=\"2\"/><text x=\"%.1f\" y=\"%.1f\">full depth</text>\n", p.legend_x + 11, p.legend_y + 18 * p.legend, p.legend_x + 28, p.legend_y + 18 * p.legend + 4);
}
static void draw_drafts(FILE *f, const bench *b)
{
    static const char *const colors[] = { "#9ecae1", "#5aa5d6", "#2b7bba", "#0b4f94", "#08264f", "#e39a1b", "#c22f0b" };
    panel p = { NULL, 490, 78, 270, 272, 1, 0, 1, 1, 0, 776, 92 };
    char key[16], label[32];
    int i;
    p.f = f; p.x1 = b->layers - 1;
    for (i = 0; i < n_records; i++) if (records[i].table == T_DRAFTS) {
        if (records[i].v[SPEED] > p.y1) p.y1 = records[i].v[SPEED];
        if (records[i].v[SPEED] < p.y0) p.y0 = records[i].v[SPEED];
    }
    p.y0 = floor(p.y0 * 10) / 10 - .02; p.y1 = ceil(p.y1 * 10) / 10 + .02;
    draw_axes(&p, "Self-speculation: speed, text unchanged", "layers that draft", "speed / speed of full depth");
    fprintf(f, "<path d=\"M%.1f %.1fh%.1f\" stroke=\"#111\" stroke-width=\"1.2\"/>\n", p.left, py(&p, 1), p.width);
    for (i = 0; i < COUNT(lengths); i++) {
        draft_name(lengths[i], "%d", key, sizeof key);
        draft_name(lengths[i], "%d drafted", label, sizeof label);
        draw_line(&p, pick_draft, key, label, colors[i], "none");
    }
}
static void write_svg(const bench *b)
{
    FILE *f = open_output(opt.svg);
    fputs("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"420\" viewBox=\"0 0 900 420\" font-family=\"system-ui,sans-serif\" font-size=\"12\" fill=\"#222\">\n"
          "<rect x=\"0.5\" y=\"0.5\" width=\"899\" height=\"419\" rx=\"10\" fill=\"#fbfbf8\" stroke=\"#d6d6d0\"/>\n", f);
    fprintf(f, "<text x=\"28\" y=\"32\" font-size=\"16\" font-weight=\"bold\">%s: what depth buys (%d layers, %s)</text>\n", b->name, b->layers, ltx_type_name(b->model.layers[0].wq.type));
    draw_exits(f, b);
    draw_drafts(f, b);
    fputs("</svg>\n", f);
    close_output(f, opt.svg);
}

/* ==== >>main =========================================================================================================== */

static const char help[] =
    "usage: depth MODEL.gguf TEXT [options]               loss, exits, speed and drafts of one model\n"
    "       depth --formats A.gguf B.gguf ... TEXT        loss of the same model in several formats\n"
    "  --windows N    windows of the text for losses, 60\n"
    "  --ctx N        tokens of a window; each starts from an empty cache, 512\n"
    "  --csv FILE     every number, with processor, compiler and flags (-DLTX_BENCH_FLAGS='\"...\"')\n"
    "  --svg FILE     plot\n"
    "  --markdown     tables for a README\n"
    "  --quick        a look in half a minute: 4 windows, 3 rounds, short texts\n"
    "TEXT holds stories separated by blank lines, as in the validation split of TinyStories (arXiv 2305.07759, data set\n"
    "roneneldan/TinyStories, CDLA-Sharing-1.0); any plain text will do. Bits per byte count the bytes of the file.\n"
    "Speed is that of one thread by CPU time, the median of 7 rounds over all settings in turn, each round with a window or\n"
    "a story of its own. Exit status 1 if a check fails.\n";

static int number(const char *s, const char *name)
{
    char *end;
    long v = s != NULL ? strtol(s, &end, 10) : 0;
    if (s == NULL || *end != 0 || v < 1 || v > 1000000) die("%s wants a number from 1 to 1000000", name);
    return (int)v;
}
static void options(char **argv)
{
    const char *names[COUNT(opt.models) + 1];
    int n = 0, i;
    opt.windows = 0; opt.ctx = 512;
    for (i = 1; argv[i] != NULL; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) { fputs(help, stdout); exit(0); }
        else if (strcmp(a, "--quick") == 0) opt.quick = 1;
        else if (strcmp(a, "--markdown") == 0) opt.markdown = 1;
        else if (strcmp(a, "--formats") == 0) opt.formats = 1;
        else if (strcmp(a, "--windows") == 0) { opt.windows = number(argv[i + 1], a); i++; }
        else if (strcmp(a, "--ctx") == 0) { opt.ctx = number(argv[i + 1], a); i++; }
        else if (strcmp(a, "--csv") == 0 && argv[i + 1] != NULL) opt.csv = argv[++i];
        else if (strcmp(a, "--svg") == 0 && argv[i + 1] != NULL) opt.svg = argv[++i];
        else if (a[0] == '-' || n == COUNT(names)) die("what is %s? See --help", a);
        else names[n++] = a;
    }
    if (n < 2 || (n > 2 && !opt.formats)) die("wants a model and a text, or --formats, models and a text; see --help");
    if (opt.windows == 0) opt.windows = opt.quick ? 4 : 60;
    for (i = 0; i < n - 1; i++) opt.models[i] = names[i];
    opt.n_models = n - 1;
    opt.text = names[n - 1];
}
int main(int argc, char **argv)
{
    static bench b;
    ltx_session *s;
    int i;
    (void)argc;
    options(argv);
    if (opt.csv != NULL) close_output(open_output(opt.csv), opt.csv); /* better now than after minutes */
    if (opt.svg != NULL) close_output(open_output(opt.svg), opt.svg);
    if (opt.formats) formats(&b);
    else {
        load_model(&b, opt.models[0]);
        load_text(&b, opt.text);
        if (b.layers < 4) die("%s has %d layers, too few to leave early", b.name, b.layers);
        s = open_session(&b, ROWS, ROWS, 0);
        see_every_exit(&b, s);
        check_replay(&b, s);
        fixed_exits(&b);
        rules(&b, s);
        times(&b);
        drafts(&b);
        if (opt.svg != NULL) write_svg(&b);
    }
    for (i = 0; i < N_TABLES; i++) if (tables[i].title != NULL) print_table(i);
    if (opt.csv != NULL) write_csv(b.isa);
    give_back();
    return 0;
}
