/* test_memory.c - needs, blocks, descriptors, results and the stack
   SPDX-License-Identifier: MIT

   cc -O2 -I. -Itests tests/test_memory.c -o test_memory -lm && ./test_memory
   Blocks have exactly the needed size; what lies around them is poisoned under AddressSanitizer and watched otherwise. */
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "kit.h"
#if defined(__SSE2__) && !defined(__i386__)
#include <xmmintrin.h>
#endif

static void count_events(void *user, const ltx_event *e)
{
    CHECK(e->code < 0 && e->text != NULL && e->name != NULL);
    ++*(int *)user;
}

/* ==== blocks ============================================================================================ */

/* An init that takes one block: ok with exactly the need, LTX_E_MEM if smaller, misaligned or NULL. */
typedef ltx_result init_fn(void *arg, ltx_mem mem);

static void exact_block(const ltx_need *need, init_fn *fn, void *arg)
{
    CHECK(need->size > 0 && need->align >= 1 && (need->align & (need->align - 1)) == 0);
    test_block b = test_alloc(need->size, need->align);
    ltx_mem ok = {b.ptr, need->size}, small = {b.ptr, need->size - 1}, null = {NULL, need->size}, none = {b.ptr, 0};
    CHECK_EQ(fn(arg, small), LTX_E_MEM);
    CHECK_EQ(fn(arg, null), LTX_E_MEM);
    CHECK_EQ(fn(arg, none), LTX_E_MEM);
    CHECK_EQ(fn(arg, ok), LTX_OK);
    test_free(&b);
    for (size_t shift = 1; shift < need->align; shift = shift * 2 + 1) { /* odd addresses and halves of the alignment */
        b = test_alloc_at(need->size + 8, need->align, shift);
        ltx_mem odd = {b.ptr, need->size + 8};
        CHECK_EQ(fn(arg, odd), LTX_E_MEM);
        test_free(&b);
    }
    b = test_alloc_at(need->size, need->align, need->align / 2);
    ltx_mem half = {b.ptr, need->size};
    CHECK_EQ(fn(arg, half), LTX_E_MEM);
    test_free(&b);
}

static kit_buffer tiny_image(kit_pieces *v)
{
    kit_shape sh = {32, 2, 2, 1, 16, 32, 12, KIT_MIXED, KIT_BIAS, LTX_ROPE_INTERLEAVED, LTX_ACT_SILU};
    kit_pieces_llama(v, 8);
    kit_model *k = kit_make(&sh, 3);
    kit_buffer b = kit_gguf(k, "llama", v, 32, NULL);
    kit_free(k);
    return b;
}

static ltx_result gguf_block(void *arg, ltx_mem mem)
{
    ltx_model m;
    return ltx_gguf_init(*(ltx_blob *)arg, mem, NULL, &m);
}

static ltx_result vocab_block(void *arg, ltx_mem mem)
{
    ltx_vocab *v;
    return ltx_vocab_init(*(ltx_blob *)arg, mem, NULL, &v);
}

static void gguf_and_vocab(void)
{
    kit_pieces v;
    kit_buffer b = tiny_image(&v);
    ltx_blob image = {b.p, b.n}, nothing = {NULL, 0};
    ltx_need need;
    ltx_mem none = {NULL, 0};
    CHECK_EQ(ltx_gguf_need(image, NULL, &need), LTX_OK);
    exact_block(&need, gguf_block, &image);
    CHECK_EQ(ltx_vocab_need(image, NULL, &need), LTX_OK);
    exact_block(&need, vocab_block, &image);
    CHECK_EQ(ltx_gguf_need(image, NULL, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_vocab_need(image, NULL, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_gguf_init(image, none, NULL, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_vocab_init(image, none, NULL, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_gguf_need(nothing, NULL, &need), LTX_E_ARG);
    CHECK_EQ(ltx_vocab_need(nothing, NULL, &need), LTX_E_ARG);
    free(b.p);
}

typedef struct product {
    ltx_mat w;
    int m;
    float *x, *y;
} product;

static ltx_result product_block(void *arg, ltx_mem mem)
{
    product *p = (product *)arg;
    return ltx_matmul(LTX_ISA_AUTO, &p->w, p->x, p->m, mem, p->y);
}

static void matmul(void)
{
    for (int f = 0; f < KIT_ALL; f++)
        for (int m = 1; m <= 40; m = m * 3 + 1) {
            int cols = f < KIT_PLAIN || f >= KIT_FORMATS ? 96 : 256;
            kit_model k;
            test_rng r = {1};
            product p;
            ltx_need need;
            memset(&k, 0, sizeof k);
            p.w = kit_mat(&k, kit_formats[f], 37, cols, 0, &r);
            p.m = m;
            p.x = (float *)test_malloc((size_t)(m * cols) * sizeof(float));
            p.y = (float *)test_malloc((size_t)m * 37 * sizeof(float));
            for (int i = 0; i < m * cols; i++) p.x[i] = (float)test_gauss(&r);
            CHECK_EQ(ltx_matmul_need(&p.w, m, &need), LTX_OK);
            exact_block(&need, product_block, &p);
            free(p.x);
            free(p.y);
            free(k.blocks[0]);
        }
}

typedef struct encoding {
    ltx_vocab *v;
    const char *text;
    size_t len;
} encoding;

static ltx_result encode_block(void *arg, ltx_mem mem)
{
    encoding *e = (encoding *)arg;
    int32_t tokens[64], n;
    return ltx_encode(e->v, e->text, e->len, LTX_BOS, mem, tokens, 64, &n);
}

static void encode(void)
{
    static const char *const texts[] = {"", "a", " ", "   ", "ab abc dddd aaaa", "\xff\xfe\xc3", "\xc3\xa4\xe2\x96\x81"};
    kit_pieces pieces;
    kit_file f;
    memset(&f, 0, sizeof f);
    kit_buffer b = tiny_image(&pieces);
    f.image.ptr = b.p; f.image.size = b.n;
    CHECK_EQ(kit_read(&f), LTX_OK);
    for (int i = 0; i < 7; i++) {
        encoding e = {f.vocab, texts[i], strlen(texts[i])};
        ltx_need need;
        CHECK_EQ(ltx_encode_need(e.len, &need), LTX_OK);
        exact_block(&need, encode_block, &e);
    }
    CHECK_EQ(ltx_encode_need(1, NULL), LTX_E_ARG);
    test_free(&f.mem);
    test_free(&f.vocab_mem);
    free(b.p);
}

/* ==== sessions ========================================================================================== */

static const ltx_session_desc *descs(int *n)
{
    static ltx_session_desc d[12];
    static ltx_step steps[16];
    memset(d, 0, sizeof d);
    d[1].rows = 1;
    d[2].rows = 64; d[2].logits_rows = 64; d[2].ctx = 7;
    d[3].kv = LTX_KV_F32;
    d[4].kv = LTX_KV_I8; d[4].threads = 3;
    d[5].window = 20; d[5].rows = 5;
    d[6].window = 9; d[6].sinks = 4; d[6].kv = LTX_KV_I8;
    d[7].draft_max = 7; d[7].draft.exit = 2;
    d[8].draft_max = 31; d[8].logits_rows = 2;
    d[9].ctx = 1; d[9].rows = 1;
    steps[0].run = LTX_ATTN; steps[0].cache = 6;
    steps[1].layer = 1; steps[1].run = LTX_FFN;
    steps[2].layer = 2; steps[2].run = LTX_ATTN | LTX_FFN;
    steps[3].layer = 2; steps[3].run = LTX_ATTN | LTX_FFN; steps[3].cache = 20;
    d[10].plan.steps = steps; d[10].plan.count = 4; d[10].plan.fill = LTX_FILL_DEFER;
    d[11].plan.steps = steps + 1; d[11].plan.count = 1; /* no attention: no cache */
    for (int i = 0; i < 12; i++) if (d[i].ctx == 0) d[i].ctx = 50;
    *n = 12;
    return d;
}

/* Exact blocks carry a whole life of a session. */
static void live(ltx_session *s, const ltx_model *m, const ltx_session_desc *d)
{
    int32_t tokens[64], n = d->ctx < 40 && d->window == 0 ? d->ctx - 1 : 40, count;
    const float *logits;
    ltx_sampler sampler = {1.0f, 5, 0.9f, 0.01f, 1};
    ltx_token out[32];
    kit_tokens(tokens, 64, m->vocab, 4);
    if (n > 0) CHECK_EQ(ltx_eval(s, tokens, n, &logits), LTX_OK);
    CHECK_EQ(ltx_decode(s, &sampler, 1, out, 32, &count), LTX_OK);
    CHECK_EQ(ltx_flush(s), LTX_OK);
    if (d->logits_rows > 1) {
        ltx_batch b = {0};
        b.tokens = tokens; b.count = d->logits_rows < d->ctx ? d->logits_rows : d->ctx;
        ltx_output o;
        b.logits = b.count;
        CHECK_EQ(ltx_rewind(s, 0), LTX_OK);
        CHECK_EQ(ltx_eval_batch(s, &b, &o), LTX_OK);
    }
}

static void one_session(const ltx_model *m, const ltx_session_desc *d)
{
    ltx_session_needs need;
    ltx_session *s;
    kit_session k = kit_open(m, d);
    CHECK((void *)k.s == (void *)k.state.ptr);
    live(k.s, m, d);
    CHECK_EQ(ltx_session_need(m, d, &need), LTX_OK);
    ltx_session_mems good = {{k.state.ptr, need.state.size}, {k.cache.ptr, need.cache.size}, {k.scratch.ptr, need.scratch.size}};
    for (int i = 0; i < 3; i++) {
        ltx_session_mems mem = good;
        ltx_mem *one = i == 0 ? &mem.state : i == 1 ? &mem.cache : &mem.scratch;
        int expected = one->size == 0 ? LTX_OK : LTX_E_MEM;
        if (one->size > 0) one->size--;
        CHECK_EQ(ltx_session_init(m, d, &mem, &s), expected);
        if (one->size > 0) { one->size += 1; one->ptr = (unsigned char *)one->ptr + 1; }
        CHECK_EQ(ltx_session_init(m, d, &mem, &s), expected);
        one->ptr = NULL;
        CHECK_EQ(ltx_session_init(m, d, &mem, &s), expected);
        if (i == 2) CHECK_EQ(ltx_session_scratch(k.s, mem.scratch), LTX_E_MEM);
    }
    ltx_mem shorter = {k.scratch.ptr, need.scratch.size - 1}, exact = good.scratch;
    CHECK_EQ(ltx_session_init(m, d, &good, &k.s), LTX_OK);
    CHECK_EQ(ltx_session_scratch(k.s, shorter), LTX_E_MEM);
    CHECK_EQ(ltx_session_scratch(k.s, exact), LTX_OK);
    live(k.s, m, d);
    kit_close(&k);
}

static void sessions(void)
{
    int n;
    const ltx_session_desc *d = descs(&n);
    kit_model *k = kit_make(&kit_small, 5);
    for (int i = 0; i < n; i++) one_session(&k->m, &d[i]);
    CHECK_EQ(ltx_session_scratch(NULL, (ltx_mem){NULL, 0}), LTX_E_ARG);
    kit_free(k);
}

static void needs_without_isa(void)
{
    int n;
    const ltx_session_desc *d = descs(&n);
    kit_model *k = kit_make(&kit_small, 5);
    for (int i = 0; i < n; i++) {
        ltx_session_needs want, got;
        CHECK_EQ(ltx_session_need(&k->m, &d[i], &want), LTX_OK);
        for (int isa = 0; isa < LTX_ISA_COUNT; isa++) { /* also those that this machine lacks */
            ltx_session_desc e = d[i];
            e.isa = isa;
            CHECK_EQ(ltx_session_need(&k->m, &e, &got), LTX_OK);
            CHECK(memcmp(&want, &got, sizeof want) == 0);
        }
    }
    CHECK_EQ(ltx_session_need(&k->m, d, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_session_need(NULL, d, NULL), LTX_E_ARG);
    CHECK_EQ(ltx_session_need(&k->m, NULL, NULL), LTX_E_ARG);
    kit_free(k);
}

static void guards(void)
{
    kit_model *k = kit_make(&kit_small, 5);
    ltx_session_desc d;
    ltx_session_needs need;
    int events = 0;
    for (int i = 0; i < 2; i++) {
        kit_session s;
        memset(&d, 0, sizeof d);
        d.log.fn = count_events; d.log.user = &events;
        if (i) d.guard_tail = 1; else d.guard_head = 0x80000000u;
        CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG);
        CHECK_EQ(kit_try(&k->m, &d, 0, &s), LTX_E_ARG);
        d.guard_head = d.guard_tail = 0;
        CHECK_EQ(kit_try(&k->m, &d, 0, &s), LTX_OK);
        kit_close(&s);
    }
    CHECK_EQ(events, 4);
    memset(&d, 0xa5, sizeof d); /* what a forgotten zero-initialisation looks like; its log must not be called */
    memset(&d.log, 0, sizeof d.log);
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ARG);
    kit_free(k);
}

static void defaults(void)
{
    kit_model *k = kit_make(&kit_small, 5);
    ltx_session_desc d, u;
    memset(&d, 0, sizeof d);
    k->m.ctx = 77;
    kit_session s = kit_open(&k->m, &d);
    ltx_session_desc_used(s.s, &u);
    CHECK(u.isa > 0 && (ltx_isa_mask() & 1u << u.isa));
    CHECK_EQ(u.ctx, 77);
    CHECK_EQ(u.rows, 32);
    CHECK_EQ(u.logits_rows, 1);
    CHECK_EQ(u.kv, LTX_KV_F16);
    CHECK_EQ(u.threads, 1);
    CHECK_EQ(u.window, 0);
    CHECK_EQ(u.plan.count, k->m.n_layers);
    CHECK(u.plan.steps != NULL && u.plan.steps[4].layer == 4 && u.plan.steps[4].run == (LTX_ATTN | LTX_FFN));
    CHECK(u.draft.row_cost > 0);
    kit_close(&s);
    k->m.ctx = 0; /* the model's own default */
    s = kit_open(&k->m, &d);
    ltx_session_desc_used(s.s, &u);
    CHECK_EQ(u.ctx, 512);
    kit_close(&s);
    kit_free(k);
}

/* ==== results =========================================================================================== */

static int32_t stop_now(void *user, const ltx_view *v)
{
    (void)user;
    (void)v;
    return LTX_STOP;
}

#if defined(__SSE2__)
static ltx_result init_with_mode(const ltx_model *m, const ltx_session_desc *d, unsigned bits)
{
    kit_session s;
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | bits);
    ltx_result r = kit_try(m, d, 0, &s);
    _mm_setcsr(before);
    kit_close(&s);
    return r;
}
#endif

/* Each result code is produced by something in here. */
static void every_result(void)
{
    kit_model *k = kit_make(&kit_small, 5);
    ltx_session_desc d;
    ltx_session_needs need;
    kit_session s;
    int32_t tokens[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const float *logits;
    memset(&d, 0, sizeof d);
    d.ctx = 4;
    s = kit_open(&k->m, &d);                                                         /* LTX_OK */
    CHECK_EQ(ltx_eval(s.s, tokens, 0, &logits), LTX_E_ARG);
    CHECK_EQ(ltx_session_scratch(s.s, (ltx_mem){NULL, 0}), LTX_E_MEM);
    CHECK_EQ(ltx_eval(s.s, tokens, 5, &logits), LTX_E_FULL);
    d.policy.tap = stop_now;
    CHECK_EQ(ltx_set_policy(s.s, &d.policy), LTX_OK);
    CHECK_EQ(ltx_eval(s.s, tokens, 1, &logits), LTX_E_STOPPED);
    d.policy.tap = NULL;
    CHECK_EQ(ltx_set_policy(s.s, &d.policy), LTX_OK);
    kit_put32((unsigned char *)(uintptr_t)k->m.out_norm.data, 0x7fc00000u);
    CHECK_EQ(ltx_eval(s.s, tokens, 1, &logits), LTX_E_NAN);
    k->layers[2].wk.rows++;
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_MODEL);
    k->layers[2].wk.rows--;
    k->layers[2].wk.type = 99; /* no such format */
    CHECK_EQ(ltx_session_need(&k->m, &d, &need), LTX_E_ABSENT);
    kit_close(&s);
    kit_free(k);
    k = kit_make(&kit_small, 5);
#if defined(__SSE2__)
    CHECK_EQ(init_with_mode(&k->m, &d, 0), LTX_OK);
    CHECK_EQ(init_with_mode(&k->m, &d, 0x8040u), LTX_E_HOST);                                            /* flush to zero, denormals are zero */
    for (unsigned mode = 1; mode < 4; mode++) CHECK_EQ(init_with_mode(&k->m, &d, mode << 13), LTX_E_HOST); /* down, up, to zero */
#endif
    s = kit_open(&k->m, &d);
    kit_close(&s);
    kit_free(k);
    for (int r = 0; r >= LTX_E_HOST; r--) {
        CHECK(ltx_result_text((ltx_result)r)[0] != 0);
        for (int q = 0; q > r; q--) CHECK(strcmp(ltx_result_text((ltx_result)r), ltx_result_text((ltx_result)q)) != 0);
    }
    CHECK(ltx_result_text((ltx_result)-99) != NULL);
}

/* ==== stack ============================================================================================= */

#if defined(__GNUC__) && !defined(TEST_ASAN)
enum { PAINT = 64 * 1024 };

/* Fill the stack below with a pattern; the lowest byte that a later call changes says how deep it went. */
__attribute__((noinline)) static uintptr_t stack_paint(int paint)
{
    unsigned char area[PAINT];
    volatile unsigned char *p = area;
    int clean = 0;
    __asm__ volatile("" : : "r"(area) : "memory"); /* for all that the compiler knows, this has filled the area */
    if (paint) for (int i = 0; i < PAINT; i++) p[i] = 0x5a;
    else while (clean < PAINT && p[clean] == 0x5a) clean++;
    return (uintptr_t)(PAINT - clean);
}

typedef struct deep_call {
    ltx_session *s;
    ltx_sampler sampler;
    int kind, fed;
    int32_t tokens[40];
    ltx_token out[16];
} deep_call;

__attribute__((noinline)) static void stack_run(deep_call *c)
{
    const float *logits;
    int32_t n;
    if (c->kind == 0) CHECK_EQ(ltx_eval(c->s, c->tokens, 40, &logits), LTX_OK);
    else CHECK_EQ(ltx_decode(c->s, &c->sampler, 1, c->out, 16, &n), LTX_OK);
}

static size_t stack_of(deep_call *c)
{
    stack_paint(1);
    stack_run(c);
    return (size_t)stack_paint(0);
}

static void stack(void)
{
    kit_shape sh = kit_small;
    size_t worst = 0;
    sh.head_dim = 128; sh.heads = 2; sh.kv_heads = 1;
    kit_model *k = kit_make(&sh, 5);
    for (int isa = 1; isa < LTX_ISA_COUNT; isa++)
        for (int kv = LTX_KV_F32; kv <= LTX_KV_I8; kv++) {
            ltx_session_desc d;
            deep_call c;
            size_t most = 0;
            if (!(ltx_isa_mask() & 1u << isa)) continue;
            memset(&d, 0, sizeof d);
            memset(&c, 0, sizeof c);
            d.isa = isa; d.kv = kv; d.draft_max = 7; d.draft.exit = 2; d.draft.stop = 1e-9f;
            kit_session s = kit_open(&k->m, &d);
            c.s = s.s; c.sampler.temperature = 1.0f; c.sampler.top_p = 0.9f;
            kit_tokens(c.tokens, 40, k->m.vocab, 6);
            for (c.kind = 0; c.kind < 2; c.kind++) {
                size_t used = stack_of(&c);
                if (used > most) most = used;
            }
            if (kv == LTX_KV_F16) printf("stack: %s %zu bytes\n", ltx_isa_name(isa), most);
            if (most > worst) worst = most;
            kit_close(&s);
        }
#ifdef __OPTIMIZE__
    CHECK(worst > 0 && worst < 16384);
#else
    (void)worst; /* without optimization every temporary has a place of its own */
#endif
    kit_free(k);
}
#else
static void stack(void) { SKIP("not measured with this compiler or sanitizer"); }
#endif

int main(void)
{
    test_begin("test_memory");
    TEST(gguf_and_vocab);
    TEST(matmul);
    TEST(encode);
    TEST(sessions);
    TEST(needs_without_isa);
    TEST(guards);
    TEST(defaults);
    TEST(every_result);
    TEST(stack);
    return test_end();
}
