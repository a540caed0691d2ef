/* generate.c - the command-line tool: text from a GGUF model, at the depth you choose.
   SPDX-License-Identifier: MIT

     cc -O2 examples/generate.c -o generate -lm            (one thread)
     cc -O2 -fopenmp examples/generate.c -o generate -lm   (--threads)
     ./generate --help                                                                                */

#define _POSIX_C_SOURCE 200809L
#define LTX_IMPLEMENTATION
#include "../ltx.h"
#include "common.h"

#include <math.h>
#include <stdbool.h>

enum { DRAFT_MOST = 64, DRAFT_USUAL = 8 };
#define SCALE_LEAST 0.01f
#define SCALE_MOST  100.0f
enum { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };
enum { PROFILE_NOT, PROFILE_PLAN, PROFILE_EXIT, PROFILE_DRAFT }; /* --auto */

/* ---- settings: what the options write into, with the defaults ---------------------------------------- */

static struct {
    const char      *model, *prompt;
    int32_t          tokens;
    ltx_sampler      sampler;
    ltx_session_desc desc;
    uint8_t          drop[LTX_MAX_LAYERS]; /* branches to leave out of each layer            */
    float            scale[2][LTX_MAX_LAYERS]; /* factors of attention and ffn, 0 = 1        */
    int32_t          repeat[3];            /* first, last, times; times 0 = nothing repeated */
    int32_t          exit_depth;           /* for --exit depth:N                             */
    float            freeze[2];            /* share of the prompt's tokens that a layer has to be active for, alpha of that */
    int32_t          gates[2];             /* first, every; -1 and 0 = choose                */
    int32_t          window[2];            /* window, sinks                                  */
    int32_t          color, profile;
    int32_t          gate_steps[LTX_MAX_LAYERS], n_gate_steps; /* of --auto=exit */
    bool             ignore_eos, stats, model_info, help;
} set = { .tokens = 256, .sampler = { .temperature = 0.8f, .top_p = 0.9f, .state = 1 },
          .desc = { .rows = 32, .threads = 1 }, .gates = { -1, 0 }, .window = { 0, 4 } };

/* ---- options: parsers for one value, then the table ---------------------------------------------------- */

typedef struct option option;
struct option {
    char        letter; /* -n, 0 = none; an option without a name is a heading of --help     */
    const char *name;   /* --tokens                                                          */
    const char *arg;    /* how its value looks, NULL = none                                  */
    const char *help;
    bool      (*parse)(const option *o, const char *text); /* false = not such a value       */
    void       *target;
    double      low, high; /* of a number; low is also the value of a choice's first word    */
};

/* Read digits at *text as a number in low..high and step over them. */
static bool digits(const char **text, int32_t low, int32_t high, int32_t *out)
{
    char *end;
    long v;
    if (**text < '0' || **text > '9') return false;
    errno = 0;
    v = strtol(*text, &end, 10);
    *text = end;
    *out = (int32_t)(v < low || v > high ? low : v);
    return errno == 0 && v >= low && v <= high;
}

static bool skip(const char **text, char c)
{
    if (**text != c) return false;
    (*text)++;
    return true;
}

static bool real(const char *text, double low, double high, float *out)
{
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end || !(v >= low && v <= high)) return false;
    *out = (float)v;
    return true;
}

static bool parse_flag(const option *o, const char *text)
{
    (void)text;
    return *(bool *)o->target = true;
}

static bool parse_text(const option *o, const char *text)
{
    *(const char **)o->target = text;
    return true;
}

static bool parse_whole(const option *o, const char *text)
{
    return digits(&text, (int32_t)o->low, (int32_t)o->high, (int32_t *)o->target) && *text == 0;
}

static bool parse_real(const option *o, const char *text)
{
    return real(text, o->low, o->high, (float *)o->target);
}

static bool parse_seed(const option *o, const char *text)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9') return false;
    *(uint64_t *)o->target = strtoull(text, &end, 0);
    return errno == 0 && *end == 0;
}

/* The words stand in o->arg, "f32|f16|i8"; the first has the value o->low, the others count on. */
static bool parse_choice(const option *o, const char *text)
{
    const size_t len = strlen(text);
    const char *word = o->arg;
    int32_t value = (int32_t)o->low;
    for (;; value++) {
        const size_t n = strcspn(word, "|");
        if (n == len && memcmp(word, text, n) == 0) {
            *(int32_t *)o->target = value;
            return true;
        }
        if (word[n] == 0) return false;
        word += n + 1;
    }
}

/* "A:B" or just "A" */
static bool parse_pair(const option *o, const char *text)
{
    int32_t *pair = (int32_t *)o->target;
    if (!digits(&text, 0, LTX_MAX_TOKENS, &pair[0])) return false;
    if (skip(&text, ':') && !digits(&text, 0, LTX_MAX_TOKENS, &pair[1])) return false;
    return *text == 0;
}

static bool layer_range(const char **text, int32_t *first, int32_t *last) /* "8-9" or just "8" */
{
    if (!digits(text, 0, LTX_MAX_LAYERS - 1, first)) return false;
    *last = *first;
    return !skip(text, '-') || digits(text, *first, LTX_MAX_LAYERS - 1, last);
}

/* "3,4,8-9"; o->low says which branches go */
static bool parse_layers(const option *o, const char *text)
{
    int32_t first, last;
    do {
        if (!layer_range(&text, &first, &last)) return false;
        for (; first <= last; first++) set.drop[first] = (uint8_t)(set.drop[first] | (int)o->low);
    } while (skip(&text, ','));
    return *text == 0;
}

/* "3:0.97,8-9:1.1" */
static bool parse_scales(const option *o, const char *text)
{
    float *scale = (float *)o->target;
    do {
        int32_t first, last;
        char *end;
        double x;
        if (!layer_range(&text, &first, &last) || !skip(&text, ':')) return false;
        x = strtod(text, &end);
        if (end == text || !(x >= o->low && x <= o->high)) return false;
        for (text = end; first <= last; first++) scale[first] = (float)x;
    } while (skip(&text, ','));
    return *text == 0;
}

static bool parse_repeat(const option *o, const char *text)
{
    int32_t *r = (int32_t *)o->target;
    return digits(&text, 0, LTX_MAX_LAYERS - 1, &r[0]) && skip(&text, '-') && digits(&text, r[0], LTX_MAX_LAYERS - 1, &r[1]) &&
           skip(&text, ':') && digits(&text, 1, LTX_MAX_STEPS, &r[2]) && *text == 0;
}

static bool parse_exit(const option *o, const char *text)
{
    static const struct { const char *name; int32_t rule; double high; } rules[] = { { "prob:", LTX_EXIT_PROB, 1 }, { "margin:", LTX_EXIT_MARGIN, 1 },
        { "entropy:", LTX_EXIT_ENTROPY, 100 }, { "cosine:", LTX_EXIT_COSINE, 1 }, { "probe:", LTX_EXIT_PROBE, 1 },
        { "patience:", LTX_EXIT_PATIENCE, LTX_MAX_STEPS }, { "change:", LTX_EXIT_CHANGE, 1 } };
    ltx_policy *policy = (ltx_policy *)o->target;
    int32_t i;
    if (strncmp(text, "depth:", 6) == 0) {
        text += 6;
        policy->rule = LTX_EXIT_ALWAYS;
        return digits(&text, 1, LTX_MAX_STEPS, &set.exit_depth) && *text == 0;
    }
    for (i = 0; i < (int32_t)(sizeof rules / sizeof *rules); i++) {
        const size_t n = strlen(rules[i].name);
        if (strncmp(text, rules[i].name, n) != 0) continue;
        policy->rule = rules[i].rule;
        policy->screen = 1; /* a gate that would not open costs a shortlist, not a head */
        return real(text + n, 0, rules[i].high, &policy->threshold);
    }
    return false;
}

static bool parse_draft(const option *o, const char *text)
{
    ltx_draft *draft = (ltx_draft *)o->target;
    draft->length = DRAFT_USUAL;
    if (!digits(&text, 1, LTX_MAX_STEPS, &draft->exit)) return false;
    if (skip(&text, '-') && !digits(&text, draft->exit, LTX_MAX_STEPS, &draft->last)) return false;
    if (skip(&text, ':') && !digits(&text, 1, DRAFT_MOST, &draft->length)) return false;
    if (skip(&text, ':')) return real(text, 0, 1, &draft->stop);
    return *text == 0;
}

static bool parse_lookup(const option *o, const char *text)
{
    ltx_draft *draft = (ltx_draft *)o->target;
    if (draft->length == 0) draft->length = DRAFT_USUAL;
    return digits(&text, 1, 8, &draft->lookup) && *text == 0;
}

static bool parse_freeze(const option *o, const char *text)
{
    float *share_alpha = (float *)o->target;
    char share[32];
    const size_t n = strcspn(text, ":");
    if (n >= sizeof share) return false;
    memcpy(share, text, n);
    share[n] = 0;
    if (!real(share, o->low, o->high, &share_alpha[0]) || (text[n] != 0 && !real(text + n + 1, 0, 100, &share_alpha[1]))) return false;
    if (text[n] != 0 && share_alpha[1] == 0) share_alpha[1] = -1; /* 0 itself, not the default */
    return true;
}

/* Without a value: the draft, which loses nothing. */
static bool parse_auto(const option *o, const char *text)
{
    static const char *const names[] = { "plan", "exit", "draft" };
    int32_t i;
    for (i = 0; text && i < 3; i++)
        if (strcmp(text, names[i]) == 0) set.profile = PROFILE_PLAN + i;
    if (text == NULL) set.profile = PROFILE_DRAFT;
    (void)o;
    return text == NULL || set.profile != PROFILE_NOT;
}

#define HEADING(text) { 0, NULL, NULL, text, NULL, NULL, 0, 0 }
static const option options[] = {
    HEADING("What to write"),
    { 'p', "prompt", "TEXT", "text to go on from; - reads standard input (default: nothing)", parse_text, &set.prompt, 0, 0 },
    { 'n', "tokens", "N", "write at most so many tokens", parse_whole, &set.tokens, 1, LTX_MAX_TOKENS },
    { 0, "ignore-eos", NULL, "go on after the end of a text", parse_flag, &set.ignore_eos, 0, 0 },
    HEADING("How tokens are chosen"),
    { 0, "temp", "X", "temperature; 0 = always the most probable token", parse_real, &set.sampler.temperature, 0, 100 },
    { 0, "top-k", "N", "only the N most probable; 0 = all", parse_whole, &set.sampler.top_k, 0, LTX_MAX_DIM },
    { 0, "top-p", "X", "only the smallest set with this much probability; 0 = all", parse_real, &set.sampler.top_p, 0, 1 },
    { 0, "min-p", "X", "only above X times the highest probability", parse_real, &set.sampler.min_p, 0, 1 },
    { 0, "seed", "N", "same seed, same text, on every machine (default 1)", parse_seed, &set.sampler.state, 0, 0 },
    HEADING("Which layers run (layers count from 0)"),
    { 0, "drop-layers", "LIST", "leave out whole layers: 3,4,8-9", parse_layers, NULL, LTX_ATTN | LTX_FFN, 0 },
    { 0, "drop-attn", "LIST", "leave out their attention: less cache, less time", parse_layers, NULL, LTX_ATTN, 0 },
    { 0, "drop-ffn", "LIST", "leave out their feed-forward half", parse_layers, NULL, LTX_FFN, 0 },
    { 0, "scale-attn", "LIST", "factors of what attention adds: 3:0.97,8-9:1.1", parse_scales, set.scale[0], SCALE_LEAST, SCALE_MOST },
    { 0, "scale-ffn", "LIST", "factors of what the feed-forward half adds", parse_scales, set.scale[1], SCALE_LEAST, SCALE_MOST },
    { 0, "repeat", "A-B:TIMES", "run layers A to B so many times in all", parse_repeat, set.repeat, 0, 0 },
    { 0, "freeze", "SHARE[:ALPHA]", "after the prompt leave out the layers that changed the length of hidden\n"
      "vectors by ALPHA (default 0.8) of the range of earlier changes for less than\n"
      "SHARE of its tokens (LAC)", parse_freeze, set.freeze, 0, 1 },
    HEADING("When to stop early (depth = number of steps that ran; a step is a layer of the plan)"),
    { 0, "exit", "RULE:X", "prob:X, margin:X, cosine:X, probe:X: leave when it is at least X;\n"
      "entropy:X: at most X nats; patience:N: N gates of the same opinion;\n"
      "change:X: the length changes by less than X of the range of changes (LAC);\n"
      "depth:N: always after N steps.\n"
      "prob looks at the model's shortlist first, if it has one", parse_exit, &set.desc.policy, 0, 0 },
    { 0, "gates", "FIRST:EVERY", "ask the rule after step FIRST and then every EVERY steps\n"
      "(default: from two thirds of the depth, every sixth of it;\n"
      "probe, which needs no head: after every step)", parse_pair, set.gates, 0, 0 },
    { 0, "fill", "project|defer|none", "keys and values of the layers that did not run: from the\n"
      "exit state, computed later, or left out (default project)", parse_choice, &set.desc.plan.fill, 0, 0 },
    HEADING("Draft shallow, verify deep (the text is that of full depth)"),
    { 0, "draft", "EXIT[-LAST][:LEN[:STOP]]", "the first EXIT steps (up to LAST where that is not sure\n"
      "enough) draft up to LEN tokens (default 8),\n"
      "until one is less probable than STOP (default: learned)", parse_draft, &set.desc.draft, 0, 0 },
    { 0, "tree", NULL, "draft rivals of tokens that are not sure, too", parse_flag, &set.desc.draft.tree, 0, 0 },
    { 0, "lookup", "N", "first look for the last N tokens (1 to 8) earlier in the text and draft what followed", parse_lookup, &set.desc.draft, 0, 0 },
    HEADING("What ltx-profile --write found out and put into the file"),
    { 0, "auto", "[=plan|exit|draft]", "its plan with fewer layers, its exit rule, or its draft\n"
      "(default draft: the text is that of full depth)", parse_auto, NULL, 0, 0 },
    HEADING("Memory and speed"),
    { 0, "ctx", "N", "tokens the cache holds; 0 = as the model was trained", parse_whole, &set.desc.ctx, 0, LTX_MAX_TOKENS },
    { 0, "kv", "f32|f16|i8", "format of keys and values (default f16)", parse_choice, &set.desc.kv, LTX_KV_F32, 0 },
    { 0, "window", "W[:S]", "attend to the last W tokens and the first S (default 4):\n"
      "endless text", parse_pair, set.window, 0, 0 },
    { 0, "threads", "N", "threads, in a build with OpenMP; never changes the text", parse_whole, &set.desc.threads, 1, 256 },
    { 0, "isa", "scalar|avx2|avx512", "instruction set; never changes the text (default: the best)", parse_choice, &set.desc.isa, LTX_ISA_SCALAR, 0 },
    { 0, "rows", "N", "tokens of the prompt that run as one batch", parse_whole, &set.desc.rows, 1, 4096 },
    HEADING("What to show"),
    { 0, "stats", NULL, "a table of what it cost, on standard error", parse_flag, &set.stats, 0, 0 },
    { 0, "color", "auto|always|never", "colour tokens by depth, blue is shallow (default auto:\n"
      "on a terminal, unless NO_COLOR is set)", parse_choice, &set.color, COLOR_AUTO, 0 },
    { 0, "model-info", NULL, "describe the model and stop", parse_flag, &set.model_info, 0, 0 },
    { 'h', "help", NULL, "this text", parse_flag, &set.help, 0, 0 },
};
enum { N_OPTIONS = (int)(sizeof options / sizeof *options) };

/* ---- help and command line ----------------------------------------------------------------------------- */

static void print_option(const option *o)
{
    const char *line = o->help;
    char head[64];
    snprintf(head, sizeof head, "--%s%s%s", o->name, o->arg && *o->arg != '[' ? " " : "", o->arg ? o->arg : "");
    printf("  %c%c%c %-31s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ', o->letter ? ',' : ' ', head);
    for (;;) { /* a help text may have two lines */
        const int n = (int)strcspn(line, "\n");
        printf(" %.*s", n, line);
        if (line[n] == 0) break;
        printf("\n%37s", "");
        line += n + 1;
    }
    if (o->parse == parse_real) printf(" (default %g)", (double)*(const float *)o->target);
    if (o->parse == parse_whole) printf(" (default %d)", (int)*(const int32_t *)o->target);
    puts("");
}

static void print_help(void)
{
    int i;
    puts("usage: generate MODEL.gguf [options]\n"
         "\n"
         "Text from a Llama-family model in a GGUF file, at the depth you choose.\n"
         "\n"
         "  generate m.gguf -p \"Once upon a time\"              tell a story\n"
         "  generate m.gguf -p Hello --temp 0 --stats          no chance involved; what did it cost?\n"
         "  generate m.gguf -p Hello --exit prob:0.9 --stats   stop early where the model is sure\n"
         "  generate m.gguf -p Hello --draft 5-6 --stats       same text as full depth, sooner if the draft is good\n"
         "  generate m.gguf -p Hello --drop-attn 8-10          leave out attention that matters little\n"
         "  generate m.gguf --window 256:4 -n 5000             longer than the cache\n"
         "  echo Hello | generate m.gguf -p -                  prompt from a pipe\n"
         "  generate m.gguf --model-info                       what is in the file?");
    for (i = 0; i < N_OPTIONS; i++) {
        if (options[i].name == NULL) printf("\n%s\n", options[i].help);
        else print_option(&options[i]);
    }
    puts("\nExit status: 0 done, 1 something failed, 2 the command line is wrong.");
}

/* The option of an argument "-n", "--name" or "--name=value"; *value points after the '=', else NULL. */
static const option *find_option(const char *arg, const char **value)
{
    int i;
    *value = NULL;
    for (i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        const size_t n = o->name ? strlen(o->name) : 0;
        if (o->letter && arg[1] == o->letter && arg[2] == 0) return o;
        if (n == 0 || arg[1] != '-' || strncmp(arg + 2, o->name, n) != 0 || (arg[2 + n] != 0 && arg[2 + n] != '=')) continue;
        if (arg[2 + n] == '=') *value = arg + 3 + n;
        return o;
    }
    return NULL;
}

static void wrong_value(const option *o, const char *value)
{
    if (o->parse == parse_whole || o->parse == parse_real)
        die(EXIT_USAGE, "--%s wants a%s number from %.10g to %.10g, not \"%s\"", o->name, o->parse == parse_whole ? " whole" : "", o->low, o->high, value);
    die(EXIT_USAGE, "--%s wants %s, not \"%s\"; --help explains", o->name, o->arg, value);
}

static void parse_command_line(int argc, char **argv)
{
    int i;
    for (i = 1; i < argc; i++) {
        const option *o;
        const char *value;
        if (argv[i][0] != '-') {
            if (set.model) die(EXIT_USAGE, "one model at a time: \"%s\" and \"%s\" (the prompt goes after -p)", set.model, argv[i]);
            set.model = argv[i];
            continue;
        }
        o = find_option(argv[i], &value);
        if (o == NULL) die(EXIT_USAGE, "unknown option %s; --help lists all", argv[i]);
        if (o->arg == NULL && value) die(EXIT_USAGE, "--%s takes no value", o->name);
        if (o->arg && *o->arg != '[' && value == NULL) { /* [...] = may be left out */
            if (++i == argc) die(EXIT_USAGE, "--%s wants %s", o->name, o->arg);
            value = argv[i];
        }
        if (!o->parse(o, value)) wrong_value(o, value);
    }
    if (set.help) return;
    if (set.model == NULL) die(EXIT_USAGE, "no model given: generate MODEL.gguf -p \"Once upon a time\"; --help explains");
    if (set.profile && (set.desc.draft.exit || set.desc.policy.rule)) die(EXIT_USAGE, "--auto does not go together with --exit and --draft");
    if (set.freeze[0] > 0 && (set.desc.draft.length || set.profile)) die(EXIT_USAGE, "--freeze does not go together with drafts and --auto, which belong to a plan");
    if (set.desc.draft.exit && set.desc.policy.rule)
        die(EXIT_USAGE, "--exit and --draft do not go together: a draft is always verified at full depth");
#ifndef _OPENMP
    if (set.desc.threads > 1) die(EXIT_USAGE, "--threads needs a build with OpenMP: cc -O2 -fopenmp ...");
#endif
}

/* ---- what ltx-profile wrote into the file -------------------------------------------------------------- */

/* The numbers of a key of 32-bit values, or of an array of them, as they stand in the file. The file may come from anyone. */
static int32_t find_key(ltx_blob image, const char *key, uint32_t type, uint32_t *out, int32_t cap) /* 0 = is not there */
{
    ltx_gguf file;
    ltx_gguf_kv kv;
    uint64_t cursor = 0;
    check(ltx_gguf_open(image, &print_log, &file), "file");
    while (ltx_gguf_next_kv(&file, &cursor, &kv) == LTX_OK) {
        uint64_t i;
        if (kv.key_len != strlen(key) || memcmp(kv.key, key, kv.key_len) != 0) continue;
        if (kv.item_type != type || kv.count < 1 || kv.count > (uint64_t)cap) die(EXIT_FAILED, "%s: %s is not as ltx-profile writes it", set.model, key);
        for (i = 0; i < kv.count; i++)
            out[i] = (uint32_t)kv.data[4 * i] | (uint32_t)kv.data[4 * i + 1] << 8 | (uint32_t)kv.data[4 * i + 2] << 16 | (uint32_t)kv.data[4 * i + 3] << 24;
        return (int32_t)kv.count;
    }
    return 0;
}
static int32_t read_key(ltx_blob image, const char *key, uint32_t type, uint32_t *out, int32_t cap)
{
    const int32_t n = find_key(image, key, type, out, cap);
    if (n == 0) die(EXIT_FAILED, "%s has no %s: ltx-profile MODEL TEXT --write OUT.gguf puts it there, if it finds one that pays", set.model, key);
    return n;
}

static int32_t read_number(ltx_blob image, const char *key, int32_t low, int32_t high)
{
    uint32_t v;
    read_key(image, key, 4, &v, 1);
    if (v < (uint32_t)low || v > (uint32_t)high) die(EXIT_FAILED, "%s: %s is %u, not from %d to %d", set.model, key, (unsigned)v, (int)low, (int)high);
    return (int32_t)v;
}

/* As if --scale-attn or --scale-ffn had been given, where they were not. Files of earlier versions have no factors. */
static void read_scales(ltx_blob image, const char *key, const uint32_t *layers, int32_t count, float *scale)
{
    uint32_t bits[LTX_MAX_LAYERS];
    const int32_t n = find_key(image, key, 6, bits, LTX_MAX_LAYERS);
    int32_t i;
    if (n != 0 && n != count) die(EXIT_FAILED, "%s: ltx.plan.layers and %s differ in length", set.model, key);
    for (i = 0; i < n; i++) {
        float x;
        memcpy(&x, &bits[i], sizeof x);
        if (!(x == 0 || (x >= SCALE_LEAST && x <= SCALE_MOST))) die(EXIT_FAILED, "%s: %s, entry %d: %g is no factor", set.model, key, (int)i, (double)x);
        if (scale[layers[i]] == 0) scale[layers[i]] = x;
    }
}

/* As if --drop-attn and --drop-ffn had been given; what was given goes as well. */
static void read_plan(ltx_blob image, const ltx_model *model)
{
    uint32_t layers[LTX_MAX_LAYERS], run[LTX_MAX_LAYERS];
    uint8_t runs[LTX_MAX_LAYERS];
    const int32_t count = read_key(image, "ltx.plan.layers", 5, layers, LTX_MAX_LAYERS);
    int32_t i;
    if (read_key(image, "ltx.plan.run", 5, run, LTX_MAX_LAYERS) != count) die(EXIT_FAILED, "%s: ltx.plan.layers and ltx.plan.run differ in length", set.model);
    for (i = 0; i < model->n_layers; i++) runs[i] = 0;
    for (i = 0; i < count; i++) {
        if (layers[i] >= (uint32_t)model->n_layers || (i > 0 && layers[i] <= layers[i - 1]) || run[i] < 1 || run[i] > 3)
            die(EXIT_FAILED, "%s: ltx.plan, entry %d: layer %u, branches %u", set.model, (int)i, (unsigned)layers[i], (unsigned)run[i]);
        runs[layers[i]] = (uint8_t)run[i];
    }
    for (i = 0; i < model->n_layers; i++) set.drop[i] = (uint8_t)(set.drop[i] | (3 & ~runs[i]));
    read_scales(image, "ltx.plan.attn_scale", layers, count, set.scale[0]);
    read_scales(image, "ltx.plan.ffn_scale", layers, count, set.scale[1]);
}

static void read_exit(ltx_blob image)
{
    uint32_t bits;
    set.desc.policy.rule = read_number(image, "ltx.exit.rule", LTX_EXIT_PROB, LTX_EXIT_CHANGE);
    if (set.desc.policy.rule == LTX_EXIT_ASK) die(EXIT_FAILED, "%s: ltx.exit.rule wants a callback", set.model);
    read_key(image, "ltx.exit.threshold", 6, &bits, 1);
    memcpy(&set.desc.policy.threshold, &bits, sizeof bits);
    set.desc.policy.screen = 1; /* as --exit prob does, and as ltx-profile calibrated */
    set.desc.plan.fill = read_number(image, "ltx.exit.fill", LTX_FILL_PROJECT, LTX_FILL_NONE);
    set.n_gate_steps = read_key(image, "ltx.exit.gates", 5, (uint32_t *)set.gate_steps, LTX_MAX_LAYERS);
}

static void read_profile(ltx_blob image, const ltx_model *model)
{
    if (set.profile == PROFILE_PLAN) read_plan(image, model);
    if (set.profile == PROFILE_EXIT) read_exit(image);
    if (set.profile != PROFILE_DRAFT) return;
    set.desc.draft.exit = read_number(image, "ltx.draft.exit", 1, model->n_layers - 1);
    set.desc.draft.last = read_number(image, "ltx.draft.last", set.desc.draft.exit, model->n_layers - 1);
    set.desc.draft.length = read_number(image, "ltx.draft.length", 1, DRAFT_MOST);
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

static ltx_step steps[LTX_MAX_STEPS];

static void set_gates(const int32_t *after, int32_t n, ltx_plan *plan)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        if (after[i] < 0 || after[i] >= plan->count - 1) die(EXIT_FAILED, "no gate after step %d of %d", (int)after[i], (int)plan->count);
        steps[after[i]].gate = 1;
    }
}

/* Repeat before dropping: step i is still layer i then, and a layer is dropped wherever it stands. */
static void build_plan(const ltx_model *model, ltx_plan *plan)
{
    const ltx_policy *policy = &set.desc.policy;
    const bool probe = policy->rule == LTX_EXIT_PROBE; /* asks no head: gates cost nothing */
    int32_t layer, first = set.gates[0], every = set.gates[1];
    plan->steps = steps;
    check(ltx_plan_full(model, steps, LTX_MAX_STEPS, &plan->count), "plan");
    for (layer = 0; layer < LTX_MAX_LAYERS; layer++) {
        const float attn = set.scale[0][layer], ffn = set.scale[1][layer];
        if ((attn != 0 || ffn != 0) && layer >= model->n_layers) die(EXIT_USAGE, "no factor for layer %d: the model has layers 0..%d", (int)layer, (int)model->n_layers - 1);
        if (layer < plan->count) { steps[layer].attn_scale = attn; steps[layer].ffn_scale = ffn; }
    }
    if (set.repeat[2] && ltx_plan_repeat(steps, LTX_MAX_STEPS, &plan->count, set.repeat[0], set.repeat[1], set.repeat[2]) != LTX_OK)
        die(EXIT_USAGE, "--repeat: the model has layers 0..%d, a plan at most %d steps", (int)model->n_layers - 1, LTX_MAX_STEPS);
    for (layer = 0; layer < LTX_MAX_LAYERS; layer++) {
        if (set.drop[layer] == 0) continue;
        if (layer >= model->n_layers) die(EXIT_USAGE, "cannot drop layer %d: the model has layers 0..%d", (int)layer, (int)model->n_layers - 1);
        check(ltx_plan_drop(steps, &plan->count, layer, set.drop[layer]), "plan");
    }
    if (plan->count == 0) die(EXIT_USAGE, "nothing is left of the model");
    if (set.desc.draft.exit >= plan->count || set.desc.draft.last >= plan->count) die(EXIT_USAGE, "--draft: from 1 to %d of %d steps can draft", (int)plan->count - 1, (int)plan->count);
    if (policy->rule == LTX_EXIT_NEVER) return;
    if (set.n_gate_steps > 0) {
        set_gates(set.gate_steps, set.n_gate_steps, plan);
        return;
    }

    if (policy->rule == LTX_EXIT_ALWAYS) {
        first = set.exit_depth - 1; /* one gate */
        every = plan->count;
    } else if (every == 0) {
        every = probe || plan->count < 6 ? 1 : plan->count / 6;
    }
    if (first < 0) first = probe ? 0 : plan->count * 2 / 3 - 1;
    if (first >= plan->count - 1) die(EXIT_USAGE, "no gate before the last of %d steps: nothing to leave out", (int)plan->count);
    check(ltx_plan_gates(steps, plan->count, first, every), "gates");
}

static void complete_desc(const ltx_model *model, ltx_session_desc *desc)
{
    build_plan(model, &desc->plan);
    desc->log = print_log;
    desc->window = set.window[0];
    desc->sinks = set.window[0] ? set.window[1] : 0;
    desc->draft_max = desc->draft.length;
    if (set.sampler.temperature == 0) desc->draft.clock = draft_clock; /* sampled text shall not depend on time */
    if (desc->rows <= desc->draft_max) desc->rows = desc->draft_max + 1; /* a round is one batch */
}

/* ---- writing ------------------------------------------------------------------------------------------- */

typedef struct report { /* for --stats */
    int32_t   prompt, decoded;
    double    prompt_seconds, decode_seconds;
    ltx_stats prompt_stats, stats;
} report;

static struct {
    bool color;
    int  now;     /* colour in force, 0 = the terminal's */
    int32_t deepest;
} screen;

/* Text of a token in the colour of its depth; 0 = no colour. The colour never changes inside a UTF-8 character. */
static void show(const char *text, int32_t len, int32_t depth)
{
    const int color = screen.color && depth > 0 ? depth_color(depth, screen.deepest) : 0;
    if (len > 0 && color != screen.now && ((unsigned char)text[0] & 0xc0) != 0x80) {
        if (color) printf("\033[38;5;%dm", color);
        else fputs("\033[0m", stdout);
        screen.now = color;
    }
    fwrite(text, 1, (size_t)len, stdout);
    fflush(stdout);
}

/* Show a token, false if it ends the text. A new BOS begins another text. The first token of a text loses the blank that the
   tokenizer puts before it. */
static bool show_token(const ltx_vocab *vocab, int32_t id, bool first, int32_t depth)
{
    char piece[256];
    if (!set.ignore_eos && (id == ltx_vocab_eos(vocab) || id == ltx_vocab_bos(vocab))) return false;
    show(piece, ltx_piece(vocab, id, first, piece, (int32_t)sizeof piece), depth);
    return true;
}

/* Tokens after the first, until the text ends, `tokens` are written or the cache is full. */
static void decode(ltx_session *session, const ltx_vocab *vocab, int32_t token, report *r)
{
    ltx_token next[DRAFT_MOST + 1];
    int32_t i, count = 0;
    while (r->decoded + 1 < set.tokens) {
        const int32_t left = set.tokens - 1 - r->decoded;
        const ltx_result result = ltx_decode(session, &set.sampler, token, next, left < DRAFT_MOST + 1 ? left : DRAFT_MOST + 1, &count);
        if (result == LTX_E_FULL) {
            show("", 0, 0);
            fprintf(stderr, "\nThe cache is full at %d tokens: see --ctx and --window.\n", (int)ltx_position(session));
            return;
        }
        check(result, "decode");
        r->decoded += count;
        for (i = 0; i < count; i++)
            if (!show_token(vocab, next[i].id, false, next[i].depth)) return;
        token = next[count - 1].id;
    }
}

/* For --freeze: watch the prompt. */
static void watch(ltx_session *session, ltx_trace *trace, int32_t count)
{
    ltx_session_desc used;
    ltx_session_desc_used(session, &used);
    trace->rows = (float *)alloc((size_t)count * 3 * sizeof *trace->rows);
    trace->cap = count;
    trace->steps = used.plan.count;
    trace->alpha = set.freeze[1];
    used.policy.tap = ltx_trace_tap;
    used.policy.user = trace;
    check(ltx_set_policy(session, &used.policy), "policy");
}

/* From now on without the steps that the prompt had little use for. */
static void freeze(ltx_session *session, ltx_trace *trace)
{
    static ltx_step left[LTX_MAX_STEPS];
    ltx_session_desc used;
    int32_t i, at = 0;
    ltx_session_desc_used(session, &used);
    memcpy(left, used.plan.steps, (size_t)used.plan.count * sizeof *left);
    check(ltx_plan_freeze(left, &used.plan.count, trace, set.freeze[0]), "freeze");
    if (set.stats) {
        fprintf(stderr, "freeze: %d of %d steps stay, without layers", (int)used.plan.count, (int)trace->steps);
        for (i = 0; i < trace->steps; i++) {
            if (at < used.plan.count && memcmp(&left[at], &used.plan.steps[i], sizeof *left) == 0) at++;
            else fprintf(stderr, " %d", (int)used.plan.steps[i].layer);
        }
        fputs("\n", stderr);
    }
    used.plan.steps = left;
    used.policy.tap = NULL;
    check(ltx_set_policy(session, &used.policy), "policy");
    check(ltx_set_plan(session, &used.plan), "plan");
    free(trace->rows);
}

static void generate(ltx_session *session, const ltx_vocab *vocab, const char *prompt, const int32_t *tokens, int32_t count, report *r)
{
    const ltx_batch batch = { .tokens = tokens, .count = count, .logits = 1 };
    ltx_output out;
    ltx_result result;
    static ltx_trace trace;
    int32_t token;
    double start = seconds_now();

    if (set.freeze[0] > 0) watch(session, &trace, count);
    show(prompt, (int32_t)strlen(prompt), 0);
    result = ltx_eval_batch(session, &batch, &out);
    if (result == LTX_E_FULL) die(EXIT_FAILED, "the prompt has %d tokens, more than the cache holds: see --ctx and --window", (int)count);
    check(result, "prompt");
    check(ltx_sample(session, &set.sampler, out.logits, &token), "sample");
    if (set.freeze[0] > 0) freeze(session, &trace);
    r->prompt = count;
    r->prompt_seconds = seconds_now() - start;
    ltx_session_stats(session, &r->prompt_stats);
    ltx_stats_reset(session);

    start = seconds_now();
    if (show_token(vocab, token, *prompt == 0, out.depth[0])) decode(session, vocab, token, r);
    r->decode_seconds = seconds_now() - start;
    ltx_session_stats(session, &r->stats);
    if (screen.now) fputs("\033[0m", stdout);
    puts("");
}

/* ---- reports ------------------------------------------------------------------------------------------- */

static const char *bytes(double n, char text[32])
{
    static const char *const unit[] = { "bytes", "kB", "MB", "GB", "TB" };
    int u = 0;
    for (; n >= 1000 && u < 4; u++) n /= 1000;
    snprintf(text, 32, "%.*f %s", u && n < 100 ? 2 : 0, n, unit[u]);
    return text;
}

static void print_stats(const ltx_session *session, const ltx_session_needs *needs, const report *r)
{
    const ltx_stats *s = &r->stats;
    const double n = r->decoded ? r->decoded : 1;
    ltx_session_desc used;
    char a[32], b[32], c[32];
    ltx_session_desc_used(session, &used);
    fprintf(stderr, "\nprompt   %6d tokens  %8.1f tokens/s\n", (int)r->prompt, r->prompt / r->prompt_seconds);
    if (r->decoded)
        fprintf(stderr, "decode   %6d tokens  %8.1f tokens/s\n", (int)r->decoded, r->decoded / r->decode_seconds);
    fprintf(stderr, "per decoded token:\n");
    fprintf(stderr, "  layers %6.2f of %d     attention %.2f, feed-forward %.2f, keys and values filled in %.2f\n",
            (double)(s->attn_rows + s->ffn_rows) / 2 / n, (int)screen.deepest, (double)s->attn_rows / n, (double)s->ffn_rows / n, (double)s->fill_rows / n);
    fprintf(stderr, "  reads  %s of weights, %s of keys and values; %.2f times logits\n",
            bytes((double)s->weight_bytes / n, a), bytes((double)s->kv_bytes / n, b), (double)s->head_rows / n);
    if (set.desc.policy.rule)
        fprintf(stderr, "exits    %6.0f tokens left early\n", (double)s->exits);
    if (s->rounds)
        fprintf(stderr, "drafts   %6.0f tokens in %.0f rounds, %.0f accepted (%.0f %%)\n", (double)s->drafted, (double)s->rounds,
                (double)s->accepted, 100 * (double)s->accepted / (double)(s->drafted ? s->drafted : 1));
    fprintf(stderr, "memory   state %s, cache %s, scratch %s\n",
            bytes((double)needs->state.size, a), bytes((double)needs->cache.size, b), bytes((double)needs->scratch.size, c));
    fprintf(stderr, "session  %s, threads %d, ctx %d, rows %d\n", ltx_isa_name(used.isa), (int)used.threads, (int)used.ctx, (int)used.rows);
}

static void print_formats(ltx_blob image)
{
    uint64_t total[64] = { 0 }, cursor = 0;
    int32_t count[64] = { 0 }, type;
    ltx_gguf_tensor tensor;
    ltx_gguf file;
    check(ltx_gguf_open(image, &print_log, &file), "file");
    while (ltx_gguf_next_tensor(&file, &cursor, &tensor) == LTX_OK) {
        if (tensor.type >= 64) continue;
        total[tensor.type] += tensor.bytes;
        count[tensor.type]++;
    }
    for (type = 0; type < 64; type++) {
        char text[32];
        if (count[type]) printf("  %-12s %d tensors, %s\n", ltx_type_name(type), (int)count[type], bytes((double)total[type], text));
    }
}

static void print_model(const text_model *m)
{
    static const char *const rope[] = { "pairs (2i, 2i+1)", "pairs (i, i + half)", "none" };
    static const char *const act[] = { "silu", "gelu", "relu" };
    const ltx_model *d = &m->model;
    const int32_t kv_heads = d->n_kv_heads ? d->n_kv_heads : d->n_heads;
    int32_t layer, known = 0;
    printf("%s\n", set.model);
    printf("  layers       %d\n", (int)d->n_layers);
    printf("  width        %d, feed-forward %d (%s)\n", (int)d->dim, (int)d->layers[0].w_up.rows, act[d->act]);
    printf("  heads        %d of %d, %d for keys and values\n", (int)d->n_heads, (int)(d->head_dim ? d->head_dim : d->dim / d->n_heads), (int)kv_heads);
    printf("  context      %d tokens\n", (int)d->ctx);
    printf("  rope         %s, base %g\n", rope[d->rope_pairs], (double)d->rope_theta);
    printf("  vocabulary   %d tokens, BOS %d, EOS %d, head %s\n", (int)d->vocab, (int)ltx_vocab_bos(m->vocab), (int)ltx_vocab_eos(m->vocab),
           d->head.data ? "of its own" : "= embedding");
    print_formats(m->image);
    printf("  exits        ");
    for (layer = 0; layer < d->n_layers; layer++)
        if (d->exits[layer / 32] >> layer % 32 & 1) printf("%s%d", known++ ? ", " : "trained after layers ", (int)layer);
    puts(known ? "" : "not stated in the file");
}

/* ---- main ---------------------------------------------------------------------------------------------- */

/* The prompt: an option, or standard input without its last newline. */
static char *read_prompt(void)
{
    const char *given = set.prompt ? set.prompt : "";
    if (strcmp(given, "-") == 0) {
        const ltx_mem all = read_all(stdin, "standard input");
        char *text = (char *)all.ptr;
        if (all.size && text[all.size - 1] == '\n') text[all.size - 1] = 0;
        return text;
    }
    return strcpy((char *)alloc(strlen(given) + 1), given);
}

static void run(const text_model *m)
{
    ltx_session_mems mems;
    ltx_session_needs needs;
    ltx_session *session;
    report r = { 0 };
    char *prompt = read_prompt();
    int32_t count, *tokens = encode(m->vocab, prompt, &count);
    if (count == 0) die(EXIT_USAGE, "this model has no token to begin with: give it a prompt with -p");

    read_profile(m->image, &m->model);
    complete_desc(&m->model, &set.desc);
    screen.deepest = set.desc.plan.count;
    screen.color = set.color == COLOR_ALWAYS || (set.color == COLOR_AUTO && wants_color(stdout));
    session = session_open(&m->model, &set.desc, &mems);
    generate(session, m->vocab, prompt, tokens, count, &r);
    check(ltx_session_need(&m->model, &set.desc, &needs), "session");
    if (set.stats) print_stats(session, &needs, &r);
    session_close(&mems);
    free(tokens);
    free(prompt);
}

int main(int argc, char **argv)
{
    text_model m;
    parse_command_line(argc, argv);
    if (set.help) {
        print_help();
        return 0;
    }
    text_model_load(&m, set.model);
    if (set.model_info) print_model(&m);
    else run(&m);
    text_model_free(&m);
    return 0;
}
