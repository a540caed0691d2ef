/* bench - how fast ltx.h is, beside what the machine could do
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   cc -O2 -o bench bench.c -lm -pthread            bench --help

   The machine's bandwidth and arithmetic peaks are measured first, so that every speed has its limit beside it. Then each section
   makes a list of tests, opens them all, and runs them in turn, round after round: what disturbs one disturbs its
   neighbours too. A test is a session and a pass: so many rows at a certain position of the sequence. Numbers are medians
   of the rounds, with the slowest and the fastest. Bytes are those that ltx_stats counted, never estimates.
   While it goes, the logits of all tests that have to agree (instruction sets, threads) are compared, bit by bit.
   The section that sets time against what ltx_stats counted is in counters.h: it has a model, a text and rounds of its own.

   >>options   >>models  files    >>columns  of the tables    >>tests  sessions, rounds    >>sections  what is compared
   >>open  start of a program    >>plot    >>one  a line for scripts    >>main                                        */

#define _GNU_SOURCE /* syscall and madvise, in machine.h */
#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "compiler.h"
#include "../examples/common.h"
#include "pool.h"
#include "machine.h"
#include "report.h"
#include "synth.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

enum { MAX_LIST = 32, MAX_ROUNDS = 64, MAX_PASSES = 64, SHORT = 64 /* position of a decoded token */, PREFILL = 512, SOME_ROWS = 32, LONG = 4096 };

/* ==== >>options ======================================================================================================== */

typedef struct list { char text[512]; const char *item[MAX_LIST]; int n; } list;
static struct options {
    list        shapes, formats, threads, isas, sections;
    const char *model, *text, *dir, *csv, *svg, *one;
    int32_t     rounds, rows, context, kv, quick, openmp, all_logits, passes;
} opt;
static pool workers;

static void split(list *l, const char *text, const char *what)
{
    char *at;
    if (snprintf(l->text, sizeof l->text, "%s", text) >= (int)sizeof l->text) die(EXIT_USAGE, "%s: the list is too long", what);
    for (l->n = 0, at = strtok(l->text, ","); at != NULL; at = strtok(NULL, ",")) {
        if (l->n == MAX_LIST) die(EXIT_USAGE, "%s: at most %d in a list", what, MAX_LIST);
        l->item[l->n++] = at;
    }
    if (l->n == 0) die(EXIT_USAGE, "%s: the list is empty", what);
}
static int32_t number(const char *text, const char *what, long most)
{
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text || *end != 0 || v < 1 || v > most) die(EXIT_USAGE, "%s wants a number from 1 to %ld, not %s", what, most, text);
    return (int32_t)v;
}
static int32_t thread_count(int i) { return number(opt.threads.item[i], "--threads", POOL_MAX); }
static int32_t most_threads(void)
{
    int32_t most = 1, i;
    for (i = 0; i < opt.threads.n; i++) if (thread_count(i) > most) most = thread_count(i);
    return most;
}
static int32_t isa_number(const char *name)
{
    int32_t i;
    for (i = 0; i < LTX_ISA_COUNT; i++) if (synth_same(ltx_isa_name(i), name)) return i;
    die(EXIT_USAGE, "ltx.h knows no instruction set %s", name);
    return -1;
}
static int32_t kv_number(const char *name)
{
    static const char *const names[] = { "auto", "f32", "f16", "i8" };
    int32_t i;
    for (i = 0; i < COUNT(names); i++) if (synth_same(names[i], name)) return i;
    die(EXIT_USAGE, "caches are f32, f16 or i8, not %s", name);
    return -1;
}
static int wanted(const char *section)
{
    int i;
    if (opt.sections.n == 0) return 1;
    for (i = 0; i < opt.sections.n; i++) if (synth_same(opt.sections.item[i], section)) return 1;
    return 0;
}
static double target_seconds(void) { return opt.quick ? 0.02 : 0.05; } /* of a sample; timers and wake-ups are far below */

/* ==== >>models ========================================================================================================= */

typedef struct bench_model {
    char      path[512], shape[REPORT_TEXT], format[REPORT_TEXT];
    ltx_blob  image;
    ltx_mem   layers;
    ltx_model model;
} bench_model;

static ltx_blob map_file(const char *path)
{
    ltx_blob b = { NULL, 0 };
    struct stat st;
    void *p;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0) die(EXIT_FAILED, "cannot open %s: %s", path, strerror(errno));
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) die(EXIT_FAILED, "cannot map %s: %s", path, strerror(errno));
    close(fd);
    b.ptr = p;
    b.size = (size_t)st.st_size;
    return b;
}
static void unmap_file(ltx_blob b) { munmap((void *)(uintptr_t)b.ptr, b.size); }

static void model_open(bench_model *m)
{
    ltx_need need;
    m->image = map_file(m->path);
    check(ltx_gguf_need(m->image, &print_log, &need), m->path);
    m->layers = lend(need);
    check(ltx_gguf_init(m->image, m->layers, &print_log, &m->model), m->path);
}
static void model_close(bench_model *m)
{
    give_back(m->layers);
    unmap_file(m->image);
}
/* Names go into CSV and SVG as they are. */
static void clean_name(char *out, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, REPORT_TEXT, "%s", slash != NULL ? slash + 1 : path);
    if (strrchr(out, '.') != NULL) *strrchr(out, '.') = 0;
    for (; *out != 0; out++) if (strchr("<>&\",", *out) != NULL) *out = '_';
}
/* The format of the matrices of the layers, if they have all the same. */
static const char *format_of(const ltx_model *m)
{
    int32_t i, type = m->layers[0].wq.type;
    for (i = 0; i < m->n_layers; i++) {
        const ltx_layer *l = &m->layers[i];
        if (l->wq.type != type || l->wv.type != type || l->w_up.type != type || l->w_down.type != type) return "mixed";
    }
    return ltx_type_name(type);
}
static void use_file(bench_model *m, const char *path)
{
    if (snprintf(m->path, sizeof m->path, "%s", path) >= (int)sizeof m->path) die(EXIT_USAGE, "%s: name too long", path);
    clean_name(m->shape, path);
    model_open(m);
    snprintf(m->format, sizeof m->format, "%s", format_of(&m->model));
}
/* A synthetic model of a shape and format; written if it is not there yet. */
static void use_synthetic(bench_model *m, const synth_shape *shape, const char *format)
{
    struct stat st;
    if (snprintf(m->path, sizeof m->path, "%s/%s-%s.gguf", opt.dir, shape->name, format) >= (int)sizeof m->path) die(EXIT_USAGE, "%s: name too long", opt.dir);
    if (stat(m->path, &st) != 0) {
        if (stat(opt.dir, &st) != 0 && mkdir(opt.dir, 0777) != 0) die(EXIT_FAILED, "cannot make directory %s: %s", opt.dir, strerror(errno));
        synth_write(shape, format, m->path);
    }
    snprintf(m->shape, sizeof m->shape, "%s", shape->name);
    snprintf(m->format, sizeof m->format, "%s", format);
    model_open(m);
}

/* ==== >>columns ======================================================================================================== */

enum { MODEL, WHAT, FORMAT, ISA, PLAN, KV, N_TEXT, THREADS = N_TEXT, POSITION, ROWS, MS, MS_MIN, MS_MAX, SPEED, SPEED_MIN, SPEED_MAX, RATIO, WEIGHT_MB, KV_MB, GBS, OF_BANDWIDTH,
       GOPS, OF_PEAK, KV_GBS, OPEN_MS, SESSION_MS, TOKEN_MS, OTHERS,
       US, US_MIN, US_MAX, PREDICTED, DEPTH_SAVED, READ_SAVED, TIME_SAVED, ATTN_ROWS, FFN_ROWS, HEAD_ROWS, FILL_ROWS, ATTENDED, DRAFTED, BATCH, ROUNDS, BY_ROWS, N_COLUMNS = BY_ROWS + 10 };
static const column columns[N_COLUMNS] = {
    { "model", "model", 0 }, { "what", "what", 0 }, { "format", "format", 0 }, { "isa", "isa", 0 }, { "plan", "plan", 0 }, { "kv", "cache", 0 },
    { "threads", "threads", 0 }, { "position", "position", 0 }, { "rows", "rows", 0 }, { "ms", "ms", 2 }, { "ms_min", "min", 2 }, { "ms_max", "max", 2 },
    { "tokens_per_second", "tokens/s", 1 }, { "tokens_per_second_min", "min", 1 }, { "tokens_per_second_max", "max", 1 }, { "ratio", "ratio", 2 },
    { "weight_megabytes", "weights MB", 1 }, { "kv_megabytes", "cache MB", 2 }, { "gigabytes_per_second", "GB/s", 1 }, { "percent_of_bandwidth", "% of bandwidth", 0 },
    { "gigaops_per_second", "Gop/s", 0 }, { "percent_of_peak", "% of peak", 0 }, { "kv_gigabytes_per_second", "cache GB/s", 1 },
    { "open_ms", "open ms", 2 }, { "session_ms", "session ms", 2 }, { "token_ms", "token ms", 2 }, { "cores_of_others", "others", 1 },
    { "us", "us", 1 }, { "us_min", "min", 1 }, { "us_max", "max", 1 }, { "predicted_us", "predicted", 1 },
    { "depth_saved_percent", "saved %: depth", 1 }, { "weights_saved_percent", "weights", 1 }, { "time_saved_percent", "time", 1 },
    { "attn_rows", "attn", 2 }, { "ffn_rows", "ffn", 2 }, { "head_rows", "heads", 2 }, { "fill_rows", "filled", 2 }, { "attended", "slots", 0 }, { "drafted", "drafted", 2 },
    { "rows_of_a_batch", "batch", 2 }, { "rounds", "rounds", 0 },
    { "", "1", 2 }, { "", "2", 2 }, { "", "4", 2 }, { "", "8", 2 }, { "", "16", 2 }, { "", "32", 1 }, { "", "64", 1 }, { "", "128", 1 }, { "", "256", 1 }, { "", "512", 1 }
};
static const int32_t row_counts[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512 }; /* as the titles above */

enum { T_MACHINE, T_DECODE, T_PREFILL, T_ROWS, T_COST, T_ISA, T_PLAN, T_KV, T_OPEN, T_UNIT, T_UNITS, T_COUNTERS, N_TABLES };
#define BY_10 BY_ROWS, BY_ROWS + 1, BY_ROWS + 2, BY_ROWS + 3, BY_ROWS + 4, BY_ROWS + 5, BY_ROWS + 6, BY_ROWS + 7, BY_ROWS + 8, BY_ROWS + 9
static const table tables[N_TABLES] = {
    { "machine", "what this machine can do (all threads together)", { WHAT, THREADS, GBS, GOPS, -1 } },
    { "decode", "decode, one token at a time after 64; bytes of weights against the measured bandwidth",
      { FORMAT, ISA, THREADS, SPEED, SPEED_MIN, SPEED_MAX, WEIGHT_MB, GBS, OF_BANDWIDTH, -1 } },
    { "prefill", "prefill, 512 tokens in one batch; operations of the matrix products against the measured peak",
      { FORMAT, ISA, THREADS, SPEED, SPEED_MIN, SPEED_MAX, GOPS, OF_PEAK, -1 } },
    { "rows", NULL, { -1 } }, /* the curve, in the CSV and the plot */
    { "", "time of a pass by its rows, over the time of a pass of one row (at position 64)", { FORMAT, THREADS, BY_10, -1 } },
    { "isa", "forced instruction sets; ratio to the first of each kind", { FORMAT, WHAT, ISA, THREADS, SPEED, SPEED_MIN, SPEED_MAX, RATIO, -1 } },
    { "plan", "plans: full depth and every other layer; ratio to full depth", { FORMAT, WHAT, PLAN, THREADS, SPEED, SPEED_MIN, SPEED_MAX, RATIO, -1 } },
    { "kv", "decode by length of the context; cache GB/s: bytes of keys and values over the time that they add",
      { FORMAT, KV, THREADS, POSITION, MS, MS_MIN, MS_MAX, SPEED, KV_MB, KV_GBS, -1 } },
    { "open", "from nothing to the first token: file mapped and read, session made, one token (pages of the file are in memory)",
      { FORMAT, OPEN_MS, SESSION_MS, TOKEN_MS, MS, MS_MIN, MS_MAX, -1 } },
    { "unit", NULL, { -1 } }, /* the next one, in the CSV */
    { "", "what plain passes cost, microseconds by rows of a batch", { WHAT, BY_ROWS, BY_ROWS + 1, BY_ROWS + 2, BY_ROWS + 3, BY_ROWS + 4, BY_ROWS + 5, BY_ROWS + 6, -1 } },
    { "counters", "is depth saved time saved? Per token: what was counted (batch: mean rows of one), microseconds, predicted: what was counted times what it costs, ratio: measured over that",
      { WHAT, ATTN_ROWS, FFN_ROWS, HEAD_ROWS, FILL_ROWS, BATCH, DEPTH_SAVED, READ_SAVED, TIME_SAVED, US, US_MIN, US_MAX, PREDICTED, RATIO, -1 } }
};
static report results = { columns, tables, N_COLUMNS, N_TEXT, N_TABLES, MODEL, NULL, 0, 0 };

/* The machine's limits, by index in opt.threads. */
static machine_peak peaks[MACHINE_PEAKS];
static double bandwidth[MAX_LIST], peak_speed[MACHINE_PEAKS][MAX_LIST];

static record *machine_record(const char *what, int32_t threads)
{
    record *r = report_add(&results, T_MACHINE, "");
    snprintf(r->text[WHAT], REPORT_TEXT, "%s", what);
    r->v[THREADS] = threads;
    return r;
}
static void measure_machine(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t bytes = (size_t)512 << 20;
    int i, k;
    if (pages > 0 && page > 0 && (size_t)pages / 4 < bytes / (size_t)page) bytes = (size_t)pages / 4 * (size_t)page; /* a small machine */
    machine_find_peaks(peaks);
    for (i = 0; i < opt.threads.n; i++) {
        bandwidth[i] = machine_bandwidth(&workers, thread_count(i), bytes);
        machine_record("memory read", thread_count(i))->v[GBS] = bandwidth[i] / 1e9;
    }
    for (k = 0; k < MACHINE_PEAKS; k++) for (i = 0; i < opt.threads.n && peaks[k].run != NULL; i++) {
        peak_speed[k][i] = machine_speed(&workers, thread_count(i), &peaks[k]);
        machine_record(peaks[k].name, thread_count(i))->v[GOPS] = peak_speed[k][i] / 1e9;
    }
}

/* ==== >>tests ========================================================================================================== */

enum plan_kind { PLAN_FULL, PLAN_HALF };
static const char *const plan_names[] = { "full", "half" };

typedef struct test {
    const bench_model *m;
    int32_t  isa, thread_index, kv, plan, position, rows; /* what is measured                      */
    const char *what;
    ltx_step steps[LTX_MAX_LAYERS], fill_steps[LTX_MAX_LAYERS];
    ltx_session_desc desc;                               /* all defaults filled in                   */
    ltx_session_mems mems;
    ltx_session     *s;
    ltx_stats stats;                                     /* of one pass                              */
    uint64_t  hash;                                      /* of its logits                            */
    double    seconds[MAX_ROUNDS];                       /* of one pass, by round; then sorted       */
    int32_t   passes, rounds;
} test;

/* What other programs take from a machine shows up in our times: cores that they used since the last call, NAN if the system does
   not tell. Time that a hypervisor gave to somebody else counts, too. */
static double cores_of_others(void)
{
    static double busy_then, own_then, wall_then;
    double v[8] = { 0 }, busy = NAN, wall = seconds_now(), others;
    struct timespec own;
    FILE *f = fopen("/proc/stat", "r"); /* user nice system idle iowait irq softirq steal, in ticks */
    if (f != NULL && fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) == 8)
        busy = (v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) / (double)sysconf(_SC_CLK_TCK);
    if (f != NULL) fclose(f);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
    others = (busy - busy_then - ((double)own.tv_sec + 1e-9 * (double)own.tv_nsec - own_then)) / (wall - wall_then);
    busy_then = busy; own_then = (double)own.tv_sec + 1e-9 * (double)own.tv_nsec; wall_then = wall;
    return others < 0 ? 0 : others;
}
static double others; /* during the last run_tests */

static int wrong_bits; /* tests whose logits should have been the same and were not */

static test make_test(const bench_model *m, int32_t thread_index, int32_t position, int32_t rows, const char *what)
{
    test t;
    memset(&t, 0, sizeof t);
    t.m = m; t.thread_index = thread_index; t.position = position; t.rows = rows; t.what = what;
    t.isa = opt.isas.n > 0 ? isa_number(opt.isas.item[0]) : LTX_ISA_AUTO;
    t.kv = opt.kv;
    return t;
}
static int32_t some_token(const test *t, int32_t i) { return (int32_t)((uint32_t)i * 7919u % (uint32_t)t->m->model.vocab); }

static ltx_plan make_plan(test *t)
{
    ltx_plan plan = { NULL, 0, LTX_FILL_PROJECT };
    int32_t layer;
    check(ltx_plan_full(&t->m->model, t->steps, LTX_MAX_LAYERS, &plan.count), "plan");
    for (layer = 1; t->plan == PLAN_HALF && layer < t->m->model.n_layers; layer += 2)
        check(ltx_plan_drop(t->steps, &plan.count, layer, LTX_ATTN | LTX_FFN), "plan");
    plan.steps = t->steps;
    return plan;
}
static void run_pass(test *t, int32_t at)
{
    static int32_t tokens[LONG];
    const int32_t all = opt.all_logits ? t->rows : 1;
    ltx_batch batch;
    int32_t i;
    memset(&batch, 0, sizeof batch);
    for (i = 0; i < t->rows; i++) tokens[i] = some_token(t, at + i);
    batch.tokens = tokens; batch.count = t->rows; batch.logits = all;
    check(ltx_eval_batch(t->s, &batch, NULL), "pass");
}
/* Fill the cache up to the position. What is in it does not matter, so all rows leave after the first layer and have the keys and
   values of the others projected: for a long context a tenth of the work. */
static void fill_cache(test *t, const ltx_plan *plan)
{
    int32_t tokens[SHORT], i;
    ltx_policy policy;
    ltx_plan early = *plan;
    ltx_batch batch;
    memset(&policy, 0, sizeof policy);
    memset(&batch, 0, sizeof batch);
    memcpy(t->fill_steps, t->steps, sizeof t->steps);
    early.steps = t->fill_steps; early.fill = LTX_FILL_PROJECT;
    check(ltx_plan_gates(t->fill_steps, early.count, 0, 1), "gates");
    check(ltx_set_plan(t->s, &early), "plan");
    policy.rule = LTX_EXIT_ALWAYS;
    check(ltx_set_policy(t->s, &policy), "policy");
    while ((batch.count = t->position - ltx_position(t->s)) > 0) {
        if (batch.count > SHORT) batch.count = SHORT;
        for (i = 0; i < batch.count; i++) tokens[i] = some_token(t, ltx_position(t->s) + i);
        batch.tokens = tokens; batch.logits = batch.count; /* gates are for rows that want logits */
        check(ltx_eval_batch(t->s, &batch, NULL), "prompt");
    }
    policy.rule = LTX_EXIT_NEVER;
    check(ltx_set_policy(t->s, &policy), "policy");
    check(ltx_set_plan(t->s, plan), "plan");
}
static void test_open(test *t)
{
    ltx_session_desc *d = &t->desc;
    ltx_plan plan = make_plan(t);
    d->isa = t->isa; d->kv = t->kv; d->log = print_log; d->plan = plan;
    d->ctx = t->position + (t->rows > MAX_PASSES ? t->rows : MAX_PASSES) + 1;
    d->rows = t->rows > SHORT ? t->rows : SHORT; /* at least what fills the cache in good pieces */
    d->logits_rows = opt.all_logits ? d->rows : SHORT;
    d->threads = thread_count(t->thread_index);
    if (!opt.openmp) { d->pool.run = pool_run; d->pool.user = &workers; }
    t->s = session_open(&t->m->model, d, &t->mems);
    ltx_session_desc_used(t->s, d);
    fill_cache(t, &plan);
}
/* Seconds of a pass. Single tokens go on from the one before, as in a text; a batch is always the same. */
static double test_sample(test *t, int32_t passes)
{
    double begin = seconds_now();
    int32_t i;
    for (i = 0; i < passes; i++) {
        if (i == 0 || t->rows > 1) check(ltx_rewind(t->s, t->position), "rewind");
        run_pass(t, t->position + (t->rows > 1 ? 0 : i));
    }
    return (seconds_now() - begin) / passes;
}
static uint64_t hash_logits(test *t)
{
    const int32_t token = some_token(t, 0);
    const float *logits;
    uint64_t h = 14695981039346656037u;
    uint32_t bits;
    int32_t i;
    check(ltx_eval(t->s, &token, 1, &logits), "pass");
    for (i = 0; i < t->m->model.vocab; i++) { memcpy(&bits, &logits[i], sizeof bits); h = (h ^ bits) * 1099511628211u; }
    return h;
}
/* A first pass warms up, is counted, and tells how many make a sample. */
static void test_calibrate(test *t)
{
    double time, passes;
    ltx_stats_reset(t->s);
    time = test_sample(t, 1);
    ltx_session_stats(t->s, &t->stats);
    t->hash = hash_logits(t);
    passes = ceil(target_seconds() / time);
    t->passes = opt.passes > 0 ? opt.passes : passes > MAX_PASSES ? MAX_PASSES : (int32_t)passes;
    t->rounds = time > 0.5 && opt.rounds > 3 ? 3 : opt.rounds; /* long ones are steady, and somebody waits */
}
static int same_logits(const test *a, const test *b)
{
    return a->m == b->m && a->kv == b->kv && a->plan == b->plan && a->position == b->position && a->rows == b->rows;
}
static void compare_bits(const test *t, int n)
{
    int i, k;
    for (i = 0; i < n; i++) for (k = 0; k < i; k++) if (same_logits(&t[i], &t[k]) && t[i].hash != t[k].hash) {
        fprintf(stderr, "error: %s: logits after %d rows differ: %s, %d threads and %s, %d threads\n", t[i].m->path, (int)t[i].rows,
                ltx_isa_name(t[i].desc.isa), (int)t[i].desc.threads, ltx_isa_name(t[k].desc.isa), (int)t[k].desc.threads);
        wrong_bits++;
        break;
    }
}
static void show_progress(const char *what, int done, int all)
{
    if (isatty(2)) fprintf(stderr, "\r%-24s %4d / %d ", what, done, all);
    if (isatty(2) && done >= all) fprintf(stderr, "\r%-40s\r", "");
    if (!isatty(2) && done >= all) fprintf(stderr, "%s: done\n", what);
}
static void run_tests(test *t, int n, const char *what)
{
    int i, round;
    for (i = 0; i < n; i++) {
        test_open(&t[i]);
        test_calibrate(&t[i]);
        show_progress(what, i, n * (opt.rounds + 1));
    }
    compare_bits(t, n);
    cores_of_others();
    for (round = 0; round < opt.rounds; round++) for (i = 0; i < n; i++) {
        if (n > 1 && t[i].m != t[(i + n - 1) % n].m) test_sample(&t[i], 1); /* its pages may be gone since its last turn */
        if (round < t[i].rounds) t[i].seconds[round] = test_sample(&t[i], t[i].passes);
        show_progress(what, (round + 1) * n + i + 1, n * (opt.rounds + 1));
    }
    others = cores_of_others();
    if (others > 0.1) fprintf(stderr, "%s: other programs used %.1f cores meanwhile\n", what, others);
    for (i = 0; i < n; i++) {
        qsort(t[i].seconds, (size_t)t[i].rounds, sizeof *t[i].seconds, by_value);
        session_close(&t[i].mems);
    }
}
static double test_median(const test *t) { return sorted_median(t->seconds, t->rounds); }

/* Multiplications and additions in the matrix products of a pass, from what was counted. Layers are alike here. */
static double operations(const test *t)
{
    const ltx_layer *l = &t->m->model.layers[0];
    const ltx_mat *attn[] = { &l->wq, &l->wk, &l->wv, &l->wo }, *ffn[] = { &l->w_gate, &l->w_up, &l->w_down };
    double a = 0, f = 0, head = (double)t->m->model.vocab * t->m->model.dim;
    int i;
    for (i = 0; i < COUNT(attn); i++) a += (double)attn[i]->rows * attn[i]->cols;
    for (i = 0; i < COUNT(ffn); i++) f += (double)ffn[i]->rows * ffn[i]->cols;
    return 2 * ((double)t->stats.attn_rows * a + (double)t->stats.ffn_rows * f + (double)t->stats.head_rows * head);
}
static int is_integer_type(int32_t type) { return type != LTX_F32 && type != LTX_F16 && type != LTX_BF16; }

static record *add_result(int table_number, const test *t)
{
    static const char *const kv_names[] = { "auto", "f32", "f16", "i8" };
    record *r = report_add(&results, table_number, t->m->shape);
    double s = test_median(t), least = t->seconds[0], most = t->seconds[t->rounds - 1];
    int peak = machine_peak_of(peaks, ltx_isa_name(t->desc.isa), is_integer_type(t->m->model.layers[0].wq.type));
    snprintf(r->text[WHAT], REPORT_TEXT, "%s", t->what);
    snprintf(r->text[FORMAT], REPORT_TEXT, "%s", t->m->format);
    snprintf(r->text[ISA], REPORT_TEXT, "%s", ltx_isa_name(t->desc.isa));
    snprintf(r->text[PLAN], REPORT_TEXT, "%s", plan_names[t->plan]);
    snprintf(r->text[KV], REPORT_TEXT, "%s", kv_names[t->desc.kv]);
    r->v[THREADS] = t->desc.threads; r->v[POSITION] = t->position; r->v[ROWS] = t->rows;
    r->v[MS] = 1e3 * s; r->v[MS_MIN] = 1e3 * least; r->v[MS_MAX] = 1e3 * most;
    r->v[SPEED] = t->rows / s; r->v[SPEED_MIN] = t->rows / most; r->v[SPEED_MAX] = t->rows / least;
    r->v[WEIGHT_MB] = (double)t->stats.weight_bytes / 1e6; r->v[KV_MB] = (double)t->stats.kv_bytes / 1e6;
    r->v[GBS] = r->v[WEIGHT_MB] / r->v[MS];
    r->v[OTHERS] = others;
    if (bandwidth[t->thread_index] > 0) r->v[OF_BANDWIDTH] = 100 * r->v[GBS] * 1e9 / bandwidth[t->thread_index];
    r->v[GOPS] = operations(t) / s / 1e9;
    if (peak >= 0 && peak_speed[peak][t->thread_index] > 0) r->v[OF_PEAK] = 100 * r->v[GOPS] * 1e9 / peak_speed[peak][t->thread_index];
    return r;
}

/* ==== >>sections =======================================================================================================
   Each makes its list of tests, runs it, adds records and prints its table. `models` are one shape in all formats.     */

static test *test_list(int most)
{
    test *t = (test *)alloc((size_t)most * sizeof *t);
    memset(t, 0, (size_t)most * sizeof *t);
    return t;
}

static void section_speed(const bench_model *models, int n_models)
{
    test *t = test_list(2 * n_models * opt.threads.n);
    int i, k, n = 0;
    for (i = 0; i < n_models; i++) for (k = 0; k < opt.threads.n; k++) {
        t[n++] = make_test(&models[i], k, SHORT, 1, "decode");
        t[n++] = make_test(&models[i], k, 0, PREFILL, "prefill");
    }
    run_tests(t, n, "decode and prefill");
    for (i = 0; i < n; i++) add_result(t[i].rows == 1 ? T_DECODE : T_PREFILL, &t[i]);
    report_table(&results, T_DECODE, models[0].shape);
    report_table(&results, T_PREFILL, models[0].shape);
    free(t);
}
static void section_rows(const bench_model *models, int n_models)
{
    int every = opt.quick ? 2 : 1, n = 0, i, k, c;
    test *t = test_list(n_models * opt.threads.n * COUNT(row_counts)), *one;
    record *cost = NULL;
    for (i = 0; i < n_models; i++) for (k = 0; k < opt.threads.n; k++) for (c = 0; c < COUNT(row_counts); c += every)
        t[n++] = make_test(&models[i], k, SHORT, row_counts[c], "rows");
    run_tests(t, n, "rows of a batch");
    for (i = 0, one = t; i < n; i++) {
        double ratio;
        if (t[i].rows == 1) {
            one = &t[i];
            cost = report_add(&results, T_COST, models[0].shape);
            snprintf(cost->text[FORMAT], REPORT_TEXT, "%s", one->m->format);
            cost->v[THREADS] = one->desc.threads;
        }
        ratio = test_median(&t[i]) / test_median(one);
        for (c = 0; c < COUNT(row_counts); c++) if (row_counts[c] == t[i].rows) cost->v[BY_ROWS + c] = ratio;
        k = (int)(cost - results.records);
        add_result(T_ROWS, &t[i])->v[RATIO] = ratio;
        cost = &results.records[k]; /* records may have moved */
    }
    report_table(&results, T_COST, models[0].shape);
    free(t);
}
/* Decode and a batch, under each of several conditions; ratios of speeds to the first condition. */
typedef struct conditions {
    int   n, table;
    void (*set)(test *t, int i); /* the i-th condition */
    int32_t rows;                /* of the batch       */
    const char *what;
} conditions;
static void section_conditions(const bench_model *models, int n_models, const conditions *c)
{
    char batch[16];
    test *t = test_list(2 * n_models * c->n);
    int i, k, w, n = 0;
    snprintf(batch, sizeof batch, "%d rows", (int)c->rows);
    for (i = 0; i < n_models; i++) for (w = 0; w < 2; w++) for (k = 0; k < c->n; k++) {
        t[n] = make_test(&models[i], 0, w == 0 ? SHORT : 0, w == 0 ? 1 : c->rows, w == 0 ? "decode" : batch);
        c->set(&t[n++], k);
    }
    run_tests(t, n, c->what);
    for (i = 0; i < n; i++) add_result(c->table, &t[i])->v[RATIO] = test_median(&t[i - i % c->n]) / test_median(&t[i]);
    report_table(&results, c->table, models[0].shape);
    free(t);
}
static int32_t compared_isas[MAX_LIST];
static void set_isa(test *t, int i) { t->isa = compared_isas[i]; }
static void section_isa(const bench_model *models, int n_models)
{
    conditions c = { 0, T_ISA, set_isa, SOME_ROWS, "instruction sets" };
    int32_t i;
    for (i = 1; i < LTX_ISA_COUNT && opt.isas.n == 0; i++) if (ltx_isa_mask() & 1u << i) compared_isas[c.n++] = i;
    for (i = 0; i < opt.isas.n; i++) compared_isas[c.n++] = isa_number(opt.isas.item[i]);
    section_conditions(models, n_models, &c);
}
static void set_plan(test *t, int i) { t->plan = i; }
static void section_plan(const bench_model *models, int n_models)
{
    static const conditions c = { 2, T_PLAN, set_plan, 4 * SOME_ROWS, "plans" };
    section_conditions(models, n_models, &c);
}
/* Two positions for each cache; what the long one takes longer is attention. */
static void section_kv(const bench_model *models, int n_models)
{
    static const int32_t kinds[] = { LTX_KV_F16, LTX_KV_I8 };
    int32_t far = opt.context > 0 ? opt.context : opt.quick ? LONG / 4 : LONG;
    test *t = test_list(2 * COUNT(kinds) * opt.threads.n);
    int i, k, w, n = 0;
    (void)n_models; /* attention does not depend on the format of the weights: the first one stands for all */
    for (i = 0; i < COUNT(kinds); i++) for (k = 0; k < opt.threads.n; k++) for (w = 0; w < 2; w++) {
        t[n] = make_test(&models[0], k, w == 0 ? SHORT : far, 1, "decode");
        t[n++].kv = kinds[i];
    }
    run_tests(t, n, "contexts");
    for (i = 0; i < n; i++) {
        record *r = add_result(T_KV, &t[i]);
        double more = i % 2 == 0 ? 0 : test_median(&t[i]) - test_median(&t[i - 1]);
        if (more > 0) r->v[KV_GBS] = ((double)t[i].stats.kv_bytes - (double)t[i - 1].stats.kv_bytes) / more / 1e9;
    }
    report_table(&results, T_KV, models[0].shape);
    free(t);
}

/* ==== >>open ===========================================================================================================
   What a program waits for before it says the first word, with every setting at its default.                           */

typedef struct start { double part[3][MAX_ROUNDS], all[MAX_ROUNDS]; } start; /* open, session, token */

static void start_once(const char *path, start *s, int round)
{
    const int32_t token = 1;
    bench_model m;
    ltx_session_desc desc;
    ltx_session_mems mems;
    ltx_session *session;
    const float *logits;
    double at[4];
    memset(&m, 0, sizeof m);
    memset(&desc, 0, sizeof desc);
    snprintf(m.path, sizeof m.path, "%s", path);
    at[0] = seconds_now();
    model_open(&m);
    at[1] = seconds_now();
    session = session_open(&m.model, &desc, &mems);
    at[2] = seconds_now();
    check(ltx_eval(session, &token, 1, &logits), "token");
    at[3] = seconds_now();
    session_close(&mems);
    model_close(&m);
    s->part[0][round] = at[1] - at[0]; s->part[1][round] = at[2] - at[1]; s->part[2][round] = at[3] - at[2]; s->all[round] = at[3] - at[0];
}
static void section_open(const bench_model *models, int n_models)
{
    static start s[MAX_LIST];
    int i, k, round, n = opt.rounds;
    for (round = 0; round < n; round++) for (i = 0; i < n_models; i++) {
        start_once(models[i].path, &s[i], round);
        show_progress("first token", round * n_models + i + 1, n * n_models);
    }
    for (i = 0; i < n_models; i++) {
        record *r = report_add(&results, T_OPEN, models[i].shape);
        snprintf(r->text[FORMAT], REPORT_TEXT, "%s", models[i].format);
        r->v[THREADS] = 1;
        for (k = 0; k < 3; k++) {
            qsort(s[i].part[k], (size_t)n, sizeof(double), by_value);
            r->v[OPEN_MS + k] = 1e3 * sorted_median(s[i].part[k], n);
        }
        qsort(s[i].all, (size_t)n, sizeof(double), by_value);
        r->v[MS] = 1e3 * sorted_median(s[i].all, n); r->v[MS_MIN] = 1e3 * s[i].all[0]; r->v[MS_MAX] = 1e3 * s[i].all[n - 1];
    }
    report_table(&results, T_OPEN, models[0].shape);
}

#include "counters.h"

static const struct section {
    const char *name, *help;
    void (*run)(const bench_model *models, int n_models);
    int own; /* opens a model of its own */
} sections[] = {
    { "speed", "decode and prefill by format and threads", section_speed, 0 },
    { "rows", "what a pass of 1 to 512 rows costs: the curve of the plot", section_rows, 0 },
    { "isa", "every instruction set that this machine has", section_isa, 0 },
    { "plan", "full depth and half of the layers", section_plan, 0 },
    { "kv", "decode after a long context, f16 and int8 caches (first format)", section_kv, 0 },
    { "open", "time until the first token", section_open, 0 },
    { "counters", "time of every way to save depth against what ltx_stats counted (on stories-bytes, or --model)", section_counters, 1 }
};

/* ==== >>plot =========================================================================================================== */

enum { PLOT_HEIGHT = 420 };
static const char *const colors[] = { "#0b63b0", "#c9571a", "#2a8a4a", "#8a3fa0", "#e39a1b", "#4ba3e3", "#555555", "#c22f0b" };

/* The points of one format and number of threads; y is a column. */
static int curve(const char *shape, const char *format, double threads, int column_number, double *x, double *y)
{
    int i, n = 0;
    for (i = 0; i < results.n; i++) {
        const record *r = &results.records[i];
        if (!report_in(&results, r, T_ROWS, shape) || strcmp(r->text[FORMAT], format) != 0 || r->v[THREADS] != threads || n == COUNT(row_counts)) continue;
        x[n] = r->v[ROWS];
        y[n++] = r->v[column_number];
    }
    return n;
}
static void range(const char *shape, int column_number, double *least, double *most)
{
    int i;
    *least = HUGE_VAL;
    *most = 0;
    for (i = 0; i < results.n; i++) if (report_in(&results, &results.records[i], T_ROWS, shape)) {
        *least = fmin(*least, results.records[i].v[column_number]);
        *most = fmax(*most, results.records[i].v[column_number]);
    }
}
static void draw_curves(panel *p, const char *shape, int column_number, int with_threads)
{
    double x[COUNT(row_counts)], y[COUNT(row_counts)];
    int i, k, n;
    for (i = 0; i < opt.formats.n; i++) for (k = with_threads ? opt.threads.n - 1 : 0; k >= 0; k -= k > 1 ? k : 1) { /* most threads, then the first number */
        stroke s = { NULL, "none", 2, 2.8 };
        if (k > 0) { s.dash = "5 3"; s.width = 1.3; s.dot = 0; }
        s.color = colors[i % COUNT(colors)];
        n = curve(shape, opt.formats.item[i], thread_count(k), column_number, x, y);
        panel_line(p, x, y, n, s);
    }
}
static void draw_legend(FILE *f, double x, double y)
{
    static const stroke reference = { "#999999", "2 3", 1.5, 0 }, dashed = { "#555555", "5 3", 1.3, 0 };
    char label[64];
    int i;
    for (i = 0; i < opt.formats.n; i++) {
        stroke s = { NULL, "none", 2, 2.8 };
        s.color = colors[i % COUNT(colors)];
        panel_legend(f, x, y + 18 * i, opt.formats.item[i], s);
    }
    panel_legend(f, x, y + 18 * i++, "row by row", reference);
    if (opt.threads.n < 2) return;
    snprintf(label, sizeof label, "%d threads", (int)thread_count(opt.threads.n - 1));
    panel_legend(f, x, y + 18 * i, label, dashed);
}
static void draw_shape(FILE *f, const char *shape, const char *cpu)
{
    static const stroke reference = { "#999999", "2 3", 1.5, 0 };
    panel p = { NULL, 76, 84, 300, 266, 1, 512, .8, 0 }, q = { NULL, 456, 84, 300, 266, 1, 512, 0, 0 };
    double least, x[2] = { 1, 1 }, y[2] = { 1, 1 };
    p.f = q.f = f;
    fprintf(f, "<text x=\"28\" y=\"34\" font-size=\"16\" font-weight=\"bold\">%s: what a batch costs</text>", shape);
    fprintf(f, "<text x=\"872\" y=\"34\" text-anchor=\"end\" fill=\"#666\">%s, %d thread%s</text>\n", cpu, (int)thread_count(0), thread_count(0) > 1 ? "s" : "");
    range(shape, RATIO, &least, &p.y1);
    p.y1 *= 1.3;
    p.y0 = fmin(.8, least * .9);
    x[1] = y[1] = fmin(p.x1, p.y1);
    panel_axes(&p, "Time of a pass", "rows of the pass", "over the time of one row");
    panel_line(&p, x, y, 2, reference);
    draw_curves(&p, shape, RATIO, 0);
    range(shape, SPEED, &q.y0, &q.y1);
    q.y0 /= 1.25; q.y1 *= 1.25;
    panel_axes(&q, "Throughput", "rows of the pass", "tokens per second");
    draw_curves(&q, shape, SPEED, 1);
    draw_legend(f, 776, 96);
}

static void cpu_name(char *out, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(out, size, "unknown processor");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
        snprintf(out, size, "%s", strchr(line, ':') + 2);
        out[strcspn(out, "\n<>&\"")] = 0;
        break;
    }
    if (f != NULL) fclose(f);
}
static void write_svg(const char *const *shapes, int n)
{
    FILE *f = report_open(opt.svg);
    char cpu[128];
    int i;
    cpu_name(cpu, sizeof cpu);
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"%d\" viewBox=\"0 0 900 %d\""
               " font-family=\"system-ui,sans-serif\" font-size=\"12\" fill=\"#222\">\n"
               "<rect x=\"0.5\" y=\"0.5\" width=\"899\" height=\"%d\" rx=\"10\" fill=\"#fbfbf8\" stroke=\"#d6d6d0\"/>\n", n * PLOT_HEIGHT, n * PLOT_HEIGHT, n * PLOT_HEIGHT - 1);
    for (i = 0; i < n; i++) {
        fprintf(f, "<g transform=\"translate(0 %d)\">\n", i * PLOT_HEIGHT);
        draw_shape(f, shapes[i], cpu);
        fputs("</g>\n", f);
    }
    fputs("</svg>\n", f);
    report_close(f, opt.svg);
}
static void write_csv(void)
{
    FILE *f = report_open(opt.csv);
    char cpu[128];
    cpu_name(cpu, sizeof cpu);
    fprintf(f, "# ltx.h %d.%d.%d\n# cpu: %s\n# cores: %ld\n", LTX_VERSION_MAJOR, LTX_VERSION_MINOR, LTX_VERSION_PATCH, cpu, sysconf(_SC_NPROCESSORS_ONLN));
    fprintf(f, "# compiler: %s\n# flags: %s\n# threads by: %s\n", COMPILER, LTX_BENCH_FLAGS, opt.openmp ? "OpenMP" : "bench/pool.h");
    fprintf(f, "# rounds: %d; a cell is the median of the rounds, min and max are those of the rounds\n", (int)opt.rounds);
    report_csv(&results, f);
    report_close(f, opt.csv);
}

/* ==== >>one ============================================================================================================
   One test, one line: for scripts that run other engines in between.                                                   */

static int run_one(void)
{
    bench_model m;
    test t;
    int decode = strcmp(opt.one, "decode") == 0;
    if (!decode && strcmp(opt.one, "prefill") != 0) die(EXIT_USAGE, "--one is decode or prefill, not %s", opt.one);
    if (opt.model == NULL) die(EXIT_USAGE, "--one wants --model FILE");
    memset(&m, 0, sizeof m);
    use_file(&m, opt.model);
    t = make_test(&m, 0, opt.context > 0 ? opt.context : decode ? SHORT : 0, opt.rows > 0 ? opt.rows : decode ? 1 : PREFILL, opt.one);
    if (t.rows > LONG || t.position + t.rows > LTX_MAX_TOKENS) die(EXIT_USAGE, "at most %d rows", LONG);
    run_tests(&t, 1, opt.one);
    printf("tokens_per_second=%.3f min=%.3f max=%.3f ms_per_pass=%.4f", t.rows / test_median(&t), t.rows / t.seconds[t.rounds - 1], t.rows / t.seconds[0], 1e3 * test_median(&t));
    printf(" work=%s rows=%d position=%d threads=%d isa=%s format=%s reps=%d passes=%d", opt.one, (int)t.rows, (int)t.position, (int)t.desc.threads,
           ltx_isa_name(t.desc.isa), m.format, (int)t.rounds, (int)t.passes);
    printf(" weight_bytes=%llu kv_bytes=%llu cores_of_others=%.2f\n", (unsigned long long)t.stats.weight_bytes, (unsigned long long)t.stats.kv_bytes, others);
    model_close(&m);
    return 0;
}

/* ==== >>main =========================================================================================================== */

static void print_help(void)
{
    int i;
    puts("usage: bench [options]                                        tables, CSV and plot\n"
         "       bench --one decode|prefill --model FILE [options]      one test, one line: tokens_per_second=...\n"
         "\n"
         "Measures ltx.h on models of real shapes with random weights (written on first use), beside the bandwidth and the\n"
         "arithmetic peaks of this machine, which are measured first.\n"
         "\n"
         "  --shape LIST     135m, 1b, 260k (default 135m; 1b takes some ten minutes and 6 GB of disk)\n"
         "  --types LIST     formats, or all (default q8_0,q4_0,q4_k_m,f16, as far as the shape allows)\n"
         "  --model FILE     your own GGUF file instead\n"
         "  --text FILE      section counters: a text for the model, documents apart by blank lines (default: one that it makes up)\n"
         "  --dir DIR        where the models are (default build/bench-models)\n"
         "  --threads LIST   default 1 and the number of processors\n"
         "  --isa LIST       instruction sets; all sections but isa use the first (default the best)\n"
         "  --kv NAME        format of the cache: f16, f32, i8 (section kv compares its own)\n"
         "  --only LIST      sections:");
    for (i = 0; i < COUNT(sections); i++) printf("                     %-8s %s\n", sections[i].name, sections[i].help);
    puts("  --rounds N       rounds of which the median is taken (default 5; also --reps)\n"
         "  --context N      length of the long context (default 4096); with --one the position (default 64, prefill 0)\n"
         "  --logits         logits of all rows of a batch, as drafts need them, not of the last row only\n"
         "  --openmp         threads of OpenMP instead of bench/pool.h (build with -fopenmp)\n"
         "  --quick          fewer rounds and points, a shorter context: three minutes at most for 135m\n"
         "  --csv FILE       every number, after lines with processor, compiler and flags\n"
         "  --svg FILE       plot of section rows\n"
         "with --one\n"
         "  --rows N         rows of the pass (default 1, prefill 512)\n"
         "  --passes N       passes of a round (default as many as take 50 ms)\n"
         "\n"
         "examples\n"
         "  bench --quick\n"
         "  bench --shape 1b --types q8_0,q4_0 --only speed,kv --csv 1b.csv\n"
         "  bench --only rows --types all --svg rows.svg\n"
         "  bench --only counters --text stories.txt --csv counters.csv\n"
         "  bench --one decode --model build/bench-models/135m-q8_0.gguf --threads 2 --reps 5\n"
         "\n"
         "Tables go to standard output, progress to standard error. Exit status: 0 done, 1 failed, or logits differed between\n"
         "instruction sets or numbers of threads, or a draft changed the text, 2 wrong usage. Other programs on the machine disturb; look at min and max.");
}
/* Does a format of this build suit the rows of all shapes? Where it does not, most matrices would have another one. */
static int suits(const char *format)
{
    const synth_shape *shape;
    synth_format f;
    int i;
    if (!synth_find_format(format, &f)) return 0;
    for (i = 0; i < opt.shapes.n; i++) {
        shape = synth_find_shape(opt.shapes.item[i]);
        if (shape != NULL && ltx_row_bytes(f.most, shape->dim) == 0) return 0;
    }
    return 1;
}
static void default_formats(void)
{
    static const char *const usual[] = { "q8_0", "q4_0", "q4_k_m", "f16" };
    char text[256] = "";
    int i;
    for (i = 0; i < COUNT(usual); i++) if (suits(usual[i])) {
        if (text[0] != 0) strcat(text, ",");
        strcat(text, usual[i]);
    }
    split(&opt.formats, text, "--types");
}
static void default_threads(void)
{
    char text[32];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores > POOL_MAX) cores = POOL_MAX;
    snprintf(text, sizeof text, cores > 1 && opt.one == NULL ? "1,%ld" : "1", cores);
    split(&opt.threads, text, "--threads");
}
/* An option with a value; 0 if there is none of that name. */
static int take_option(const char *name, const char *value)
{
    char all[1024];
    if (strcmp(name, "--shape") == 0) split(&opt.shapes, value, name);
    else if (strcmp(name, "--types") == 0) { synth_list_formats(all, sizeof all); split(&opt.formats, strcmp(value, "all") == 0 ? all : value, name); }
    else if (strcmp(name, "--threads") == 0) split(&opt.threads, value, name);
    else if (strcmp(name, "--isa") == 0) split(&opt.isas, value, name);
    else if (strcmp(name, "--only") == 0) split(&opt.sections, value, name);
    else if (strcmp(name, "--model") == 0) opt.model = value;
    else if (strcmp(name, "--text") == 0) opt.text = value;
    else if (strcmp(name, "--dir") == 0) opt.dir = value;
    else if (strcmp(name, "--csv") == 0) opt.csv = value;
    else if (strcmp(name, "--svg") == 0) opt.svg = value;
    else if (strcmp(name, "--one") == 0) opt.one = value;
    else if (strcmp(name, "--kv") == 0) opt.kv = kv_number(value);
    else if (strcmp(name, "--rounds") == 0 || strcmp(name, "--reps") == 0) opt.rounds = number(value, name, MAX_ROUNDS);
    else if (strcmp(name, "--rows") == 0) opt.rows = number(value, name, LONG);
    else if (strcmp(name, "--passes") == 0) opt.passes = number(value, name, MAX_PASSES);
    else if (strcmp(name, "--context") == 0) opt.context = number(value, name, 1000000);
    else return 0;
    return 1;
}
static void parse_options(char **argv)
{
    int i;
    opt.dir = "build/bench-models";
    for (i = 1; argv[i] != NULL; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) { print_help(); exit(0); }
        else if (strcmp(argv[i], "--quick") == 0) opt.quick = 1;
        else if (strcmp(argv[i], "--logits") == 0) opt.all_logits = 1;
        else if (strcmp(argv[i], "--openmp") == 0) opt.openmp = 1;
        else if (argv[i + 1] == NULL) die(EXIT_USAGE, "%s is unknown or wants a value; see bench --help", argv[i]);
        else if (take_option(argv[i], argv[i + 1])) i++;
        else die(EXIT_USAGE, "what is %s? See bench --help", argv[i]);
    }
    if (opt.rounds == 0) opt.rounds = opt.quick ? 3 : 5;
    if (opt.shapes.n == 0) split(&opt.shapes, "135m", "--shape");
    if (opt.formats.n == 0) default_formats();
    if (opt.threads.n == 0) default_threads();
#ifndef _OPENMP
    if (opt.openmp) die(EXIT_USAGE, "--openmp: this bench was built without -fopenmp");
#endif
}
static void check_options(void)
{
    synth_format f;
    int i, k, known;
    for (i = 0; i < opt.shapes.n; i++) if (synth_find_shape(opt.shapes.item[i]) == NULL) die(EXIT_USAGE, "there is no shape %s; see bench --help", opt.shapes.item[i]);
    for (i = 0; i < opt.formats.n; i++) if (!synth_find_format(opt.formats.item[i], &f)) die(EXIT_USAGE, "this build of ltx.h has no format %s", opt.formats.item[i]);
    for (i = 0; i < opt.isas.n; i++) isa_number(opt.isas.item[i]);
    for (i = 0; i < opt.sections.n; i++) {
        for (k = known = 0; k < COUNT(sections); k++) known |= synth_same(sections[k].name, opt.sections.item[i]);
        if (!known) die(EXIT_USAGE, "there is no section %s; see bench --help", opt.sections.item[i]);
    }
    if (opt.text != NULL && access(opt.text, R_OK) != 0) die(EXIT_FAILED, "cannot open %s: %s", opt.text, strerror(errno));
    if (opt.csv != NULL) report_close(report_open(opt.csv), opt.csv); /* better now than after minutes */
    if (opt.svg != NULL) report_close(report_open(opt.svg), opt.svg);
}
static void run_shape(const bench_model *models, int n)
{
    int i;
    for (i = 0; i < COUNT(sections); i++) if (!sections[i].own && wanted(sections[i].name)) sections[i].run(models, n);
}
static void run_all(void)
{
    static bench_model models[MAX_LIST];
    const char *shapes[MAX_LIST];
    int i, k, n_shapes = 0, n, shared = 0;
    measure_machine();
    report_table(&results, T_MACHINE, "");
    for (i = 0; i < COUNT(sections); i++) shared |= !sections[i].own && wanted(sections[i].name);
    for (i = 0; shared && i < (opt.model != NULL ? 1 : opt.shapes.n); i++) {
        n = opt.model != NULL ? 1 : opt.formats.n;
        for (k = 0; k < n; k++) {
            if (opt.model != NULL) use_file(&models[k], opt.model);
            else use_synthetic(&models[k], synth_find_shape(opt.shapes.item[i]), opt.formats.item[k]);
        }
        shapes[n_shapes++] = opt.model != NULL ? models[0].shape : opt.shapes.item[i];
        if (opt.model != NULL) split(&opt.formats, models[0].format, "--model");
        run_shape(models, n);
        for (k = 0; k < n; k++) model_close(&models[k]);
    }
    for (i = 0; i < COUNT(sections); i++) if (sections[i].own && wanted(sections[i].name)) sections[i].run(NULL, 0);
    if (opt.csv != NULL) write_csv();
    if (opt.svg != NULL && wanted("rows")) write_svg(shapes, n_shapes);
}
int main(int argc, char **argv)
{
    (void)argc;
    parse_options(argv);
    check_options();
    if (pool_start(&workers, most_threads()) < most_threads()) die(EXIT_FAILED, "cannot start %d threads", (int)most_threads());
    if (opt.one != NULL) run_one();
    else run_all();
    pool_stop(&workers);
    free(results.records);
    return wrong_bits > 0 ? EXIT_FAILED : 0;
}
