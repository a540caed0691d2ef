/* text.h - the documents of a file, what logits say about the next token, greedy text from a session; what depth.c and ltx-profile.c share
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   Include after ltx.h and math.h. */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

/* The next document at *at, without blanks around it; *at moves behind it. Returns its length, 0 when there is none left. A blank line ends
   a document, unless the file is one. */
static inline size_t next_document(const char **at, const char *end, int whole, const char **document)
{
    const char *stop;
    size_t len = 0;
    while (*at < end && len == 0) {
        for (stop = *at; stop < end && (whole || stop + 1 >= end || stop[0] != '\n' || stop[1] != '\n'); stop++) continue;
        *document = *at;
        len = (size_t)(stop - *at);
        *at = stop + 2 < end ? stop + 2 : end;
        while (len > 0 && strchr(" \t\r\n", **document) != NULL) { ++*document; len--; }
        while (len > 0 && strchr(" \t\r\n", (*document)[len - 1]) != NULL) len--;
    }
    return len;
}

/* What the logits after one layer say about the next token; cosine and draft are for who fills them. */
typedef struct sight { double loss; float prob, margin, entropy, cosine; int32_t top, draft; } sight;

static inline sight look(const float *x, int n, int target)
{
    sight r;
    double sum = 0, weighted = 0, best = -HUGE_VAL, second = -HUGE_VAL, e;
    int i;
    memset(&r, 0, sizeof r);
    for (i = 0; i < n; i++) {
        const double v = (double)x[i];
        if (v > best) { second = best; best = v; r.top = i; }
        else if (v > second) second = v;
    }
    for (i = 0; i < n; i++) {
        e = exp((double)x[i] - best);
        sum += e;
        weighted += e * ((double)x[i] - best);
    }
    r.loss = log(sum) + best - (double)x[target];
    r.prob = (float)(1 / sum);
    r.margin = (float)((1 - exp(second - best)) / sum);
    r.entropy = (float)(log(sum) - weighted / sum);
    r.draft = r.top;
    return r;
}

enum { DRAFT_MOST = 8 };

/* `n` greedy tokens after `token`, which is not in the sequence yet, into text; or held against what stands there. *differs: the first
   that is another one, -1 = none. */
static inline ltx_result write_on(ltx_session *s, int32_t token, int32_t *text, int n, int compare, int *differs)
{
    ltx_sampler greedy;
    ltx_token out[DRAFT_MOST + 1];
    ltx_result r;
    int32_t count;
    int done, i;
    memset(&greedy, 0, sizeof greedy);
    *differs = -1;
    for (done = 0; done < n; done += count) {
        if ((r = ltx_decode(s, &greedy, token, out, n - done < DRAFT_MOST + 1 ? n - done : DRAFT_MOST + 1, &count)) != LTX_OK) return r;
        token = out[count - 1].id;
        for (i = 0; i < count; i++) {
            if (compare && text[done + i] != out[i].id) { *differs = done + i; return LTX_OK; }
            text[done + i] = out[i].id;
        }
    }
    return LTX_OK;
}

#endif
