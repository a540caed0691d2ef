/* test_real.c - real checkpoints against outputs that no one here computed with ltx.h
   SPDX-License-Identifier: MIT

   stories260K: logits and greedy tokens recorded from llama2.c, and the published text. stories-ls: logits and exits recorded from PyTorch.
   Those files are not in this repository; where they are missing the tests say so. The shipped models are always tested. */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"
#include "kwt.h"

/* Largest difference of stories260K's F32 logits from the double reference: llama2.c itself is 2.0e-5 away at logits up to 22. */
#define TOL_F32 4e-5
/* PyTorch's float32 logits of stories-ls (up to 20), whose sums have another order. */
#define TOL_TORCH 1e-4
/* Q8_0 against F32, the mean over a sentence: rounding of weights and activations to 8 bits. */
#define TOL_Q8_MEAN 0.1

typedef struct real { kit_file file; kit_session session; } real;

static int open_session(real *t, const ltx_session_desc *desc) { return CHECK_EQ(kit_try(&t->file.m, desc, TEST_PATTERN, &t->session), LTX_OK); }
static int open_image(real *t, test_block image, const ltx_session_desc *desc)
{
    memset(t, 0, sizeof *t);
    t->file.image = image;
    return CHECK_EQ(kit_read(&t->file), LTX_OK) && open_session(t, desc);
}
static int open_shipped(real *t, const char *name, const ltx_session_desc *desc)
{
    memset(t, 0, sizeof *t);
    return kit_load(name, &t->file) && open_session(t, desc);
}
static void close_model(real *t)
{
    kit_close(&t->session);
    kit_unload(&t->file);
}
/* Tokens of a text, BOS first. */
static int32_t encode(const real *t, const char *text, int32_t *tokens, int32_t cap)
{
    ltx_need need;
    int32_t n = 0;
    CHECK_EQ(ltx_encode_need(strlen(text), &need), LTX_OK);
    test_block work = test_alloc(need.size, need.align);
    ltx_mem mem = {work.ptr, work.size};
    CHECK_EQ(ltx_encode(t->file.vocab, text, strlen(text), LTX_BOS, mem, tokens, cap, &n), LTX_OK);
    test_free(&work);
    return n;
}

/* The numbers of the `nth` array named `key` in a JSON text; nested arrays run on until `stop` of them are read. */
static int json_numbers(const char *json, const char *key, int nth, double *out, int cap)
{
    const char *p = json;
    char name[64];
    int n = 0, depth = 0;
    sprintf(name, "\"%s\"", key);
    for (p = strstr(p, name); p != NULL && nth-- > 0; p = strstr(p + 1, name)) { }
    if (p == NULL || (p = strchr(p, '[')) == NULL) return 0;
    do {
        if (*p == '[') depth++, p++;
        else if (*p == ']') depth--, p++;
        else if (*p == '-' || (*p >= '0' && *p <= '9')) { char *end; double v = strtod(p, &end); if (n < cap) out[n++] = v; p = end; }
        else p++;
    } while (depth > 0 && *p != 0);
    return n;
}
static char *shared_text(const char *name)
{
    test_block b = test_read_shared(name);
    char *s = NULL;
    if (b.ptr == NULL) return NULL;
    s = (char *)malloc(b.size + 1);
    memcpy(s, b.ptr, b.size);
    s[b.size] = 0;
    test_free(&b);
    return s;
}

static void stories260k_logits(void)
{
    test_block image = test_read_shared("models/stories260K-F32.gguf"), ref = test_read_shared("models/reference/stories260K-logits-f64ref.bin");
    char *json = shared_text("models/reference/stories260K-logits.json");
    ltx_session_desc desc;
    real t;
    int run, i;
    double worst = 0;
    if (image.ptr == NULL || ref.ptr == NULL || json == NULL) SKIP("no stories260K in the shared folder");
    memset(&desc, 0, sizeof desc);
    desc.kv = LTX_KV_F32; desc.logits_rows = 32;
    CHECK(open_image(&t, image, &desc));
    for (run = 0; run < 2; run++) {
        double fed[32];
        int32_t tokens[32];
        ltx_batch batch;
        ltx_output out;
        CHECK_EQ(json_numbers(json, "fed_tokens", run, fed, 32), 32);
        for (i = 0; i < 32; i++) tokens[i] = (int32_t)fed[i];
        memset(&batch, 0, sizeof batch);
        batch.tokens = tokens; batch.count = batch.logits = 32;
        CHECK_EQ(ltx_rewind(t.session.s, 0), LTX_OK);
        CHECK_EQ(ltx_eval_batch(t.session.s, &batch, &out), LTX_OK);
        for (i = 0; i < 32 * 512; i++) {
            float want;
            memcpy(&want, (const char *)ref.ptr + ((size_t)run * 32 * 512 + (size_t)i) * 4, 4);
            if (fabs((double)out.logits[i] - (double)want) > worst) worst = fabs((double)out.logits[i] - (double)want);
        }
    }
    printf("  stories260K F32: largest difference from the double reference %.1e\n", worst);
    CHECK_NEAR(worst, 0, TOL_F32);
    close_model(&t);
    test_free(&ref);
    free(json);
}
static void stories260k_greedy(void)
{
    test_block image = test_read_shared("models/stories260K-F32.gguf");
    char *json = shared_text("models/reference/stories260K-greedy256.json");
    ltx_session_desc desc;
    ltx_sampler greedy;
    real t;
    int run, i, wrong = 0;
    if (image.ptr == NULL || json == NULL) SKIP("no stories260K in the shared folder");
    memset(&desc, 0, sizeof desc);
    memset(&greedy, 0, sizeof greedy);
    desc.kv = LTX_KV_F32;
    CHECK(open_image(&t, image, &desc));
    for (run = 0; run < 2; run++) {
        double fed[257], start[64];
        int n = json_numbers(json, "fed_tokens", run, fed, 257), prompt = json_numbers(json, "prompt_tokens", run, start, 64);
        const float *logits;
        int32_t token;
        CHECK(n >= 256);
        CHECK_EQ(ltx_rewind(t.session.s, 0), LTX_OK);
        for (i = 0; i + 1 < n; i++) { /* after the prompt the recorded tokens are the greedy ones */
            token = (int32_t)fed[i];
            CHECK_EQ(ltx_eval(t.session.s, &token, 1, &logits), LTX_OK);
            CHECK_EQ(ltx_sample(t.session.s, &greedy, logits, &token), LTX_OK);
            if (i + 1 >= prompt && token != (int32_t)fed[i + 1]) wrong++;
        }
    }
    CHECK_EQ(wrong, 0);
    close_model(&t);
    free(json);
}
static void stories260k_text(void) /* llama2.c's own test: 200 steps from BOS */
{
    static const char want[] =
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.\n"
        "Lily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\n"
        "Lily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\n"
        "Lily didn't want to help her mom, so she";
    test_block image = test_read_shared("models/stories260K-F32.gguf");
    ltx_session_desc desc;
    ltx_sampler greedy;
    const float *logits;
    char text[2048];
    int32_t token, n = 0, i, count;
    ltx_token next[1];
    real t;
    if (image.ptr == NULL) SKIP("no stories260K in the shared folder");
    memset(&desc, 0, sizeof desc);
    memset(&greedy, 0, sizeof greedy);
    desc.kv = LTX_KV_F32;
    CHECK(open_image(&t, image, &desc));
    token = ltx_vocab_bos(t.file.vocab);
    CHECK_EQ(ltx_eval(t.session.s, &token, 1, &logits), LTX_OK);
    CHECK_EQ(ltx_sample(t.session.s, &greedy, logits, &token), LTX_OK);
    for (i = 0; i < 200; i++) {
        n += ltx_piece(t.file.vocab, token, i == 0, text + n, (int32_t)sizeof text - n - 1);
        CHECK_EQ(ltx_decode(t.session.s, &greedy, token, next, 1, &count), LTX_OK);
        token = next[0].id;
    }
    text[n] = 0;
    CHECK_EQ(strlen(want), n);
    CHECK(strncmp(text, want, strlen(want)) == 0);
    close_model(&t);
}

static void stories_ls_pytorch(void)
{
    char *json = shared_text("models/stories-ls/reference.json");
    const char *made = getenv("LTX_STORIES_LS_F32"); /* converted from the checkpoint by the caller; else the shipped Q8_0 is compared */
    double tokens_d[64], want[64 * 16], best[64], sum = 0, worst = 0;
    static const char *const depth[3] = { "4", "8", "12" };
    int32_t tokens[64], n, i, j, d, same = 0, all = 0;
    ltx_session_desc desc;
    ltx_policy policy;
    ltx_step steps[12];
    ltx_plan plan;
    real t;
    if (json == NULL) SKIP("no stories-ls reference in the shared folder");
    memset(&desc, 0, sizeof desc);
    desc.kv = LTX_KV_F32; desc.logits_rows = 32;
    CHECK(made != NULL ? open_image(&t, test_read_file(made), &desc) : open_shipped(&t, "stories-ls-q8_0.gguf", &desc));
    n = json_numbers(json, "tokens", 0, tokens_d, 64);
    for (i = 0; i < n; i++) tokens[i] = (int32_t)tokens_d[i];
    for (d = 0; d < 3; d++) {
        ltx_batch batch;
        ltx_output out;
        CHECK_EQ(json_numbers(strstr(json, "logits_first16_by_exit"), depth[d], 0, want, 64 * 16), n * 16);
        CHECK_EQ(json_numbers(strstr(json, "argmax_by_exit"), depth[d], 0, best, 64), n);
        memset(&policy, 0, sizeof policy); memset(&plan, 0, sizeof plan); memset(&batch, 0, sizeof batch);
        CHECK_EQ(ltx_plan_full(&t.file.m, steps, 12, &plan.count), LTX_OK);
        if (d < 2) CHECK_EQ(ltx_plan_gates(steps, 12, 4 * d + 3, 12), LTX_OK);
        plan.steps = steps; plan.fill = LTX_FILL_DEFER;
        policy.rule = d < 2 ? LTX_EXIT_ALWAYS : LTX_EXIT_NEVER;
        CHECK_EQ(ltx_rewind(t.session.s, 0), LTX_OK);
        CHECK_EQ(ltx_set_plan(t.session.s, &plan), LTX_OK);
        CHECK_EQ(ltx_set_policy(t.session.s, &policy), LTX_OK);
        batch.tokens = tokens; batch.count = batch.logits = n;
        CHECK_EQ(ltx_eval_batch(t.session.s, &batch, &out), LTX_OK);
        for (i = 0; i < n; i++, all++) {
            const float *row = out.logits + (size_t)i * 2048;
            int32_t top = 0;
            CHECK_EQ(out.depth[i], 4 * d + 4);
            for (j = 0; j < 2048; j++) if (row[j] > row[top]) top = j;
            same += top == (int32_t)best[i];
            for (j = 0; j < 16; j++) {
                double e = fabs((double)row[j] - want[i * 16 + j]);
                sum += e / (3.0 * n * 16);
                if (e > worst) worst = e;
            }
        }
    }
    printf("  stories-ls %s against PyTorch after 4, 8, 12 layers: mean difference %.1e, largest %.1e, same first choice %d of %d\n", made != NULL ? "F32" : "Q8_0", sum, worst, (int)same, (int)all);
    if (made != NULL) { CHECK_NEAR(worst, 0, TOL_TORCH); CHECK_EQ(same, all); }
    else { CHECK_NEAR(sum, 0, TOL_Q8_MEAN); CHECK(same >= all - 3); }
    close_model(&t);
    free(json);
}

/* The start that each shipped model gives to a story, as recorded when it was made: a changed file or a broken path shows here. */
static void shipped_stories(void)
{
    static const struct { const char *file, *want; } shipped[] = {
        { "stories-ls-q8_0.gguf", "Once upon a time, there was a little girl named Lily. She loved to play with her " },
        { "stories-ls-q4_0.gguf", "Once upon a time, there was a little girl named Lily. She loved to play with her " },
        { "stories-bytes-q8_0.gguf", "Once upon a time, there was a little girl named Lily. She loved to " }
    };
    size_t i;
    for (i = 0; i < sizeof shipped / sizeof *shipped; i++) {
        ltx_session_desc desc;
        ltx_sampler greedy;
        const float *logits;
        char text[512] = "Once upon a time";
        int32_t tokens[64], n, count = 0, token, len = (int32_t)strlen(text);
        ltx_token next[1];
        real t;
        memset(&desc, 0, sizeof desc);
        memset(&greedy, 0, sizeof greedy);
        if (!open_shipped(&t, shipped[i].file, &desc)) continue;
        n = encode(&t, text, tokens, 64);
        CHECK_EQ(ltx_eval(t.session.s, tokens, n, &logits), LTX_OK);
        CHECK_EQ(ltx_sample(t.session.s, &greedy, logits, &token), LTX_OK);
        while (len < 120) {
            len += ltx_piece(t.file.vocab, token, 0, text + len, 64);
            CHECK_EQ(ltx_decode(t.session.s, &greedy, token, next, 1, &count), LTX_OK);
            token = next[0].id;
        }
        text[len] = 0;
        if (!CHECK(strncmp(text, shipped[i].want, strlen(shipped[i].want)) == 0)) printf("  %s: %s\n", shipped[i].file, text);
        close_model(&t);
    }
}

/* One text with exits by probability, token by token: depth and chosen token of each row. */
static void exits_of(real *t, int32_t screen, const int32_t *tokens, int32_t n, int32_t *depth, int32_t *choice)
{
    ltx_policy policy;
    ltx_step steps[12];
    ltx_plan plan;
    ltx_sampler greedy;
    ltx_batch batch;
    ltx_output out;
    int32_t i;
    memset(&policy, 0, sizeof policy); memset(&plan, 0, sizeof plan); memset(&greedy, 0, sizeof greedy); memset(&batch, 0, sizeof batch);
    CHECK_EQ(ltx_plan_full(&t->file.m, steps, 12, &plan.count), LTX_OK);
    CHECK_EQ(ltx_plan_gates(steps, 12, 5, 2), LTX_OK);
    plan.steps = steps; plan.fill = LTX_FILL_DEFER; /* states stay those of full depth, so that runs can be compared row by row */
    policy.rule = LTX_EXIT_PROB; policy.threshold = 0.6f; policy.screen = screen;
    CHECK_EQ(ltx_rewind(t->session.s, 0), LTX_OK);
    CHECK_EQ(ltx_set_plan(t->session.s, &plan), LTX_OK);
    CHECK_EQ(ltx_set_policy(t->session.s, &policy), LTX_OK);
    batch.count = batch.logits = 1;
    for (i = 0; i < n; i++) {
        batch.tokens = tokens + i;
        CHECK_EQ(ltx_eval_batch(t->session.s, &batch, &out), LTX_OK);
        depth[i] = out.depth[0];
        CHECK_EQ(ltx_sample(t->session.s, &greedy, out.logits, &choice[i]), LTX_OK);
    }
    CHECK_EQ(ltx_flush(t->session.s), LTX_OK);
    plan.steps = NULL;
    CHECK_EQ(ltx_set_plan(t->session.s, &plan), LTX_OK); /* ours ends with this function */
}
/* ==== KWT-1: an encoder ===================================================================================== */

/* The label that a plan and a policy give a clip; logits too if `logits` is not NULL. */
static int kwt_label(kwt *k, const char *clip, const ltx_session_desc *desc, float *logits, int *depth, ltx_stats *stats)
{
    ltx_session_desc d = *desc;
    ltx_batch batch = {.embeds = k->rows, .count = KWT_ROWS, .logits = 1};
    ltx_output out = {0};
    kit_session s;
    int best = 0;
    d.rows = KWT_ROWS;
    d.kv = LTX_KV_F32;
    CHECK(kwt_clip(k, clip, 0, k->rows, k->logits));
    s = kit_open(&k->m, &d);
    if (CHECK_EQ(ltx_eval_batch(s.s, &batch, &out), LTX_OK)) {
        for (int i = 1; i < KWT_LABELS; i++) if (out.logits[i] > out.logits[best]) best = i;
        if (logits != NULL) memcpy(logits, out.logits, sizeof(float) * KWT_LABELS);
        if (depth != NULL) *depth = out.depth[0];
        if (stats != NULL) ltx_session_stats(s.s, stats);
        CHECK_EQ(ltx_eval_batch(s.s, &batch, &out), LTX_E_ARG); /* a sequence is one call */
        CHECK_EQ(ltx_rewind(s.s, 0), LTX_OK);
        CHECK_EQ(ltx_eval_batch(s.s, &batch, &out), LTX_OK);
        CHECK(logits == NULL || memcmp(logits, out.logits, sizeof(float) * KWT_LABELS) == 0);
    }
    kit_close(&s);
    return best;
}
static void kwt1(void)
{
    static const int labels[KWT_CLIPS] = {2, 3, 0, 5};
    static kwt k;
    double most = 0.0;
    ltx_session_desc d;
    ltx_step steps[KWT_LAYERS];
    float first[KWT_LABELS], logits[KWT_LABELS];
    ltx_stats st;
    int depth, sum = 0;
    int32_t n;
    memset(&d, 0, sizeof d);
    if (!kwt_open(&k, kwt_folder())) SKIP("no kwt1 in the shared folder");
    CHECK_EQ(k.wrong, 0);
    CHECK_EQ(ltx_model_check(&k.m, NULL), LTX_OK);
    for (int c = 0; c < KWT_CLIPS; c++) {
        CHECK_EQ(kwt_label(&k, kwt_clips[c], &d, first, NULL, &st), labels[c]);
        for (int i = 0; i < KWT_LABELS; i++) most = fmax(most, fabs((double)(first[i] - k.logits[i])));
        CHECK_EQ((long)st.attn_rows, (long)KWT_LAYERS * KWT_ROWS);
        CHECK_EQ((long)st.attended, (long)KWT_LAYERS * KWT_ROWS * KWT_ROWS);
        for (d.isa = 1; d.isa < LTX_ISA_COUNT; d.isa++) {
            if (!(ltx_isa_mask() >> d.isa & 1u)) continue;
            kwt_label(&k, kwt_clips[c], &d, logits, NULL, NULL);
            CHECK(memcmp(first, logits, sizeof first) == 0);
        }
        d.isa = 0;
    }
    printf("  KWT-1: largest difference from the recorded logits %.1e\n", most);
    CHECK(most < 1e-5); /* asked: 1e-4 */
    for (int l = 0; l < KWT_LAYERS; l++) { /* any layer may be missing */
        CHECK_EQ(ltx_plan_full(&k.m, steps, KWT_LAYERS, &n), LTX_OK);
        CHECK_EQ(ltx_plan_drop(steps, &n, l, LTX_ATTN | LTX_FFN), LTX_OK);
        d.plan.steps = steps; d.plan.count = n;
        for (int c = 0; c < 3; c++) CHECK_EQ(kwt_label(&k, kwt_clips[c], &d, NULL, NULL, NULL), labels[c]);
    }
    CHECK_EQ(ltx_plan_full(&k.m, steps, KWT_LAYERS, &n), LTX_OK); /* the class token leaves when a layer changes it little */
    CHECK_EQ(ltx_plan_gates(steps, n, 6, 1), LTX_OK);
    d.plan.count = n;
    d.policy.rule = LTX_EXIT_COSINE;
    d.policy.threshold = 0.9f;
    for (int c = 0; c < 3; c++) {
        CHECK_EQ(kwt_label(&k, kwt_clips[c], &d, NULL, &depth, &st), labels[c]);
        CHECK_EQ((long)st.ffn_rows, (long)KWT_LAYERS * KWT_WINDOWS + depth);
        sum += depth;
    }
    printf("  KWT-1: exits by similarity after %.1f of 12 layers\n", sum / 3.0);
    CHECK(sum < 36);
    kwt_close(&k);
}

/* A screened gate leaves exactly where the plain one does and the best token is on the shortlist; with the whole vocabulary as
   shortlist it is the plain one. */
static void screened_gates(void)
{
    static const char text[] = "Once upon a time, there was a little boy named Tom. He found a red ball and a map of an island in the garden.";
    static uint8_t all_ids[2048 * 4];
    int32_t tokens[128], n, i, listed, j, depth[3][128], choice[3][128], left = 0, kept = 0;
    ltx_session_desc desc;
    ltx_stats plain, screened;
    real t;
    memset(&desc, 0, sizeof desc);
    CHECK(open_shipped(&t, "stories-ls-q8_0.gguf", &desc));
    CHECK_EQ(t.file.m.n_draft_ids, 256);
    n = encode(&t, text, tokens, 128);
    exits_of(&t, 0, tokens, n, depth[0], choice[0]);
    ltx_session_stats(t.session.s, &plain);
    ltx_stats_reset(t.session.s);
    exits_of(&t, 1, tokens, n, depth[1], choice[1]);
    ltx_session_stats(t.session.s, &screened);
    CHECK(screened.weight_bytes < plain.weight_bytes);
    for (i = 0; i < n; i++) {
        for (listed = 0, j = 0; j < t.file.m.n_draft_ids; j++) {
            uint32_t id = 0;
            memcpy(&id, (const uint8_t *)t.file.m.draft_ids + 4 * j, 4);
            listed |= (int32_t)id == choice[0][i];
        }
        left += depth[0][i] < 12;
        if (depth[0][i] == 12 || listed) { CHECK_EQ(depth[1][i], depth[0][i]); CHECK_EQ(choice[1][i], choice[0][i]); kept++; }
        else CHECK(depth[1][i] > depth[0][i]);
    }
    CHECK(left > 3 && kept > 3 && kept < n);
    kit_close(&t.session);
    for (i = 0; i < 2048; i++) { all_ids[4 * i] = (uint8_t)i; all_ids[4 * i + 1] = (uint8_t)(i >> 8); }
    t.file.m.draft_ids = all_ids; t.file.m.n_draft_ids = 2048;
    CHECK(open_session(&t, &desc));
    exits_of(&t, 1, tokens, n, depth[2], choice[2]);
    CHECK(memcmp(depth[2], depth[0], (size_t)n * 4) == 0 && memcmp(choice[2], choice[0], (size_t)n * 4) == 0);
    close_model(&t);
}

int main(void)
{
    test_begin("test_real");
    TEST(stories260k_logits);
    TEST(stories260k_greedy);
    TEST(stories260k_text);
    TEST(stories_ls_pytorch);
    TEST(shipped_stories);
    TEST(screened_gates);
    TEST(kwt1);
    return test_end();
}
