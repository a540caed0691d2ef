/* common.h - what generate.c and demo.c share: errors, memory, loading, time, colours.
   SPDX-License-Identifier: MIT
   Include after ltx.h and with _POSIX_C_SOURCE defined (clock_gettime, isatty).                      */

#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- errors ---------------------------------------------------------------------------------------- */

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

static inline void die(int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(status);
}

/* The library's own account of what is wrong: "error: layer 3: attn_k: rows differ (want 64, got 48)". */
static inline void print_event(void *user, const ltx_event *e)
{
    (void)user;
    if (e->code == LTX_E_FULL) return; /* a full cache is no mistake: the caller tells it in its own words */
    fputs("error: ", stderr);
    if (e->index >= 0) fprintf(stderr, "layer or step %d: ", (int)e->index);
    if (e->name_len > 0) fprintf(stderr, "%.*s: ", (int)e->name_len, e->name);
    fputs(e->text, stderr);
    if (e->want != e->got) fprintf(stderr, " (want %lld, got %lld)", (long long)e->want, (long long)e->got);
    fputc('\n', stderr);
}

static const ltx_log print_log = { print_event, NULL };

static inline void check(ltx_result r, const char *what)
{
    if (r != LTX_OK) die(EXIT_FAILED, "%s: %s", what, ltx_result_text(r));
}

/* ---- memory ---------------------------------------------------------------------------------------- */

static inline void *alloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (p == NULL) die(EXIT_FAILED, "no memory for %zu bytes", size);
    return p;
}

/* A block as the library wants it. What malloc returned stands just before it, for give_back. */
static inline ltx_mem lend(ltx_need need)
{
    const size_t align = need.align > sizeof(void *) ? need.align : sizeof(void *);
    char *raw = (char *)alloc(need.size + align + sizeof(void *));
    char *p = raw + sizeof(void *);
    ltx_mem mem;
    p += (align - (uintptr_t)p % align) % align;
    memcpy(p - sizeof(void *), &raw, sizeof(void *));
    mem.ptr = p;
    mem.size = need.size;
    return mem;
}

static inline void give_back(ltx_mem mem)
{
    void *raw;
    memcpy(&raw, (char *)mem.ptr - sizeof(void *), sizeof(void *));
    free(raw);
}

/* ---- files and models ------------------------------------------------------------------------------ */

/* All of a stream, in a malloc block with a NUL after it. Reads until the end, so that pipes work as well. */
static inline ltx_mem read_all(FILE *f, const char *name)
{
    ltx_mem all = { NULL, 0 };
    size_t room = 1 << 16, got;
    do {
        char *bigger = (char *)realloc(all.ptr, room *= 2);
        if (bigger == NULL) die(EXIT_FAILED, "%s: no memory for %zu bytes", name, room);
        all.ptr = bigger;
        got = fread(bigger + all.size, 1, room - 1 - all.size, f);
        all.size += got;
    } while (all.size == room - 1);
    if (ferror(f)) die(EXIT_FAILED, "cannot read %s: %s", name, strerror(errno));
    ((char *)all.ptr)[all.size] = 0;
    return all;
}

typedef struct text_model { /* a GGUF file, ready for sessions */
    ltx_mem    file, layers, words; /* memory of the next three, in this order */
    ltx_blob   image;
    ltx_model  model;
    ltx_vocab *vocab;
} text_model;

static inline void text_model_load(text_model *m, const char *path)
{
    ltx_need need;
    FILE *f = fopen(path, "rb");
    if (f == NULL) die(EXIT_FAILED, "cannot open %s: %s", path, strerror(errno));
    m->file = read_all(f, path);
    fclose(f);
    m->image.ptr = m->file.ptr;
    m->image.size = m->file.size;

    check(ltx_gguf_need(m->image, &print_log, &need), path);
    m->layers = lend(need);
    check(ltx_gguf_init(m->image, m->layers, &print_log, &m->model), path);
    check(ltx_vocab_need(m->image, &print_log, &need), path);
    m->words = lend(need);
    check(ltx_vocab_init(m->image, m->words, &print_log, &m->vocab), path);
}

static inline void text_model_free(text_model *m)
{
    give_back(m->words);
    give_back(m->layers);
    free(m->file.ptr);
}

static inline ltx_session *session_open(const ltx_model *model, const ltx_session_desc *desc, ltx_session_mems *mems)
{
    ltx_session *session = NULL;
    ltx_session_needs needs;
    check(ltx_session_need(model, desc, &needs), "session");
    mems->state = lend(needs.state);
    mems->cache = lend(needs.cache);
    mems->scratch = lend(needs.scratch);
    check(ltx_session_init(model, desc, mems, &session), "session");
    return session;
}

static inline void session_close(const ltx_session_mems *mems)
{
    give_back(mems->state);
    give_back(mems->cache);
    give_back(mems->scratch);
}

/* Tokens of a text, BOS first if the model has one, in a malloc block. */
static inline int32_t *encode(const ltx_vocab *vocab, const char *text, int32_t *count)
{
    const size_t len = strlen(text);
    const uint32_t flags = ltx_vocab_bos(vocab) >= 0 ? LTX_BOS : 0;
    const size_t cap = len + 8; /* a token is at least a byte; BOS and a blank in front come on top */
    int32_t *tokens = (int32_t *)alloc(cap * sizeof *tokens);
    ltx_need need;
    ltx_mem work;
    if (cap > LTX_MAX_TOKENS) die(EXIT_FAILED, "a text of %zu bytes is too long", len);
    check(ltx_encode_need(len, &need), "encode");
    work = lend(need);
    check(ltx_encode(vocab, text, len, flags, work, tokens, (int32_t)cap, count), "encode");
    give_back(work);
    return tokens;
}

/* ---- time and colours ------------------------------------------------------------------------------ */

static inline double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
/* the same for ltx_draft.clock */
static inline double draft_clock(void *unused)
{
    (void)unused;
    return seconds_now();
}

/* Escapes only where someone sees them, and wants to (https://no-color.org). */
static inline int wants_color(FILE *f)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fileno(f)) && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
}

/* Colour of a depth in 1..deepest, as a number of the 256-colour palette: blue is shallow, orange is deep. */
static inline int depth_color(int32_t depth, int32_t deepest)
{
    static const unsigned char ramp[] = { 33, 39, 45, 43, 79, 78, 114, 150, 186, 222, 215, 208 };
    const int32_t last = (int32_t)sizeof ramp - 1;
    if (depth >= deepest) return ramp[last];
    return ramp[depth <= 1 ? 0 : (depth - 1) * last / (deepest - 1)];
}

#endif
