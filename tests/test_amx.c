/* test_amx.c - the emulator of tile instructions, or the hardware, against plain C
   SPDX-License-Identifier: MIT

   On a machine with AMX the same tests ask the hardware whether the emulator's rules are right. */
#define _GNU_SOURCE
#define LTXI_TEST_AMX /* the kernels are there whatever the processor says */
#include "amx.h"
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "test.h"

/* Compilers that know the tiles. */
#if defined(AMX_EMULATOR) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#include <immintrin.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define TILES    __attribute__((noinline, target("amx-tile,amx-int8")))
#define BARRIER  __asm__ volatile("" ::: "memory") /* gcc 12 does not know that tile instructions read memory */

static int mode; /* AMX_EMULATED or AMX_HARDWARE */

/* ==== shapes of tiles ====================================================================================== */

typedef struct config { uint8_t byte[64]; } config;

static config new_config(void)
{
    config c;
    memset(&c, 0, sizeof c);
    c.byte[0] = 1;
    return c;
}

static void shape(config *c, int tile, int rows, int colsb)
{
    c->byte[16 + 2 * tile] = (uint8_t)colsb;
    c->byte[17 + 2 * tile] = (uint8_t)(colsb >> 8);
    c->byte[48 + tile] = (uint8_t)rows;
}

static TILES void load_config(const config *c)
{
    BARRIER;
    _tile_loadconfig(c);
}

static TILES config store_config(void)
{
    config c;
    memset(&c, 0xee, sizeof c);
    _tile_storeconfig(&c);
    BARRIER;
    return c;
}

static TILES void release(void)
{
    _tile_release();
}

static int same_config(config a, config b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* ==== matrices ============================================================================================ */

/* Rows of bytes `stride` apart, which may be negative or zero, in exactly the bytes they need. */
typedef struct matrix { test_block block; uint8_t *at; ptrdiff_t stride; int n, bytes; } matrix;

static matrix new_matrix(test_rng *r, int n, int bytes, ptrdiff_t stride)
{
    matrix m;
    size_t reach = (size_t)(stride < 0 ? -stride : stride) * (size_t)(n - 1);
    m.block = test_alloc_at(reach + (size_t)bytes, 64, (size_t)test_int(r, 64));
    m.at = m.block.ptr + (stride < 0 ? reach : 0);
    m.stride = stride;
    m.n = n;
    m.bytes = bytes;
    for (size_t i = 0; i < m.block.size; i++) {
        int kind = test_int(r, 8); /* often the ends of the range */
        m.block.ptr[i] = kind == 0 ? 128 : kind == 1 ? 127 : kind == 2 ? 255 : (uint8_t)test_int(r, 256);
    }
    return m;
}

static uint8_t *row_of(const matrix *m, int i)
{
    return m->at + i * m->stride;
}

/* What TDP shall make of c, by the definition: bit 1 of signs for signed bytes of a, bit 0 for those of b. */
static void plain_product(const matrix *c, const matrix *a, const matrix *b, int signs)
{
    for (int i = 0; i < c->n; i++)
        for (int j = 0; j < c->bytes / 4; j++) {
            uint32_t sum;
            memcpy(&sum, row_of(c, i) + 4 * j, 4);
            for (int k = 0; k < a->bytes; k++) {
                int x = row_of(a, i)[k], y = row_of(b, k / 4)[4 * j + k % 4];
                if ((signs & 2) && x > 127) x -= 256;
                if ((signs & 1) && y > 127) y -= 256;
                sum += (uint32_t)(x * y);
            }
            memcpy(row_of(c, i) + 4 * j, &sum, 4);
        }
}

/* ==== products ============================================================================================ */

#define PRODUCT(c, a, b, x, y, z)                                                                     \
    do {                                                                                              \
        _tile_loadd(c, (x)->at, (x)->stride);                                                         \
        _tile_loadd(a, (y)->at, (y)->stride);                                                         \
        _tile_stream_loadd(b, (z)->at, (z)->stride);                                                  \
        if (signs == 3) _tile_dpbssd(c, a, b);                                                        \
        else if (signs == 2) _tile_dpbsud(c, a, b);                                                   \
        else if (signs == 1) _tile_dpbusd(c, a, b);                                                   \
        else _tile_dpbuud(c, a, b);                                                                   \
        _tile_stored(c, (x)->at, (x)->stride);                                                        \
    } while (0)

enum { N_TRIPLES = 6 };
static const int triples[N_TRIPLES][3] = {{0, 1, 2}, {7, 6, 5}, {3, 0, 7}, {4, 5, 1}, {2, 3, 4}, {5, 7, 0}};

static TILES void tile_product(const matrix *c, const matrix *a, const matrix *b, int signs, int triple)
{
    config cfg = new_config();
    shape(&cfg, triples[triple][0], c->n, c->bytes);
    shape(&cfg, triples[triple][1], a->n, a->bytes);
    shape(&cfg, triples[triple][2], b->n, b->bytes);
    BARRIER;
    _tile_loadconfig(&cfg);
    if (triple == 0) PRODUCT(0, 1, 2, c, a, b);
    else if (triple == 1) PRODUCT(7, 6, 5, c, a, b);
    else if (triple == 2) PRODUCT(3, 0, 7, c, a, b);
    else if (triple == 3) PRODUCT(4, 5, 1, c, a, b);
    else if (triple == 4) PRODUCT(2, 3, 4, c, a, b);
    else PRODUCT(5, 7, 0, c, a, b);
    _tile_release();
    BARRIER;
}

static ptrdiff_t random_stride(test_rng *r, int bytes, int may_overlap)
{
    int kind = test_int(r, may_overlap ? 6 : 4);
    ptrdiff_t wide = bytes + test_int(r, 100);
    return kind == 0 ? bytes : kind == 1 ? wide : kind == 2 ? -bytes : kind == 3 ? -wide : kind == 4 ? 0 : test_int(r, bytes);
}

/* One product of random shape; 1 if every byte of c, also those between its rows, is as plain C has it. */
static int random_product(test_rng *r, int signs, int full)
{
    int m = full ? 16 : 1 + test_int(r, 16), n = full ? 16 : 1 + test_int(r, 16), k = full ? 16 : 1 + test_int(r, 16), same;
    matrix a = new_matrix(r, m, 4 * k, random_stride(r, 4 * k, 1)), b = new_matrix(r, k, 4 * n, random_stride(r, 4 * n, 1));
    matrix c = new_matrix(r, m, 4 * n, random_stride(r, 4 * n, 0)), want = c;
    want.block = test_alloc(c.block.size, 64);
    want.at = want.block.ptr + (c.at - c.block.ptr);
    memcpy(want.block.ptr, c.block.ptr, c.block.size);
    plain_product(&want, &a, &b, signs);
    tile_product(&c, &a, &b, signs, test_int(r, N_TRIPLES));
    same = memcmp(c.block.ptr, want.block.ptr, c.block.size) == 0;
    test_free(&a.block);
    test_free(&b.block);
    test_free(&c.block);
    test_free(&want.block);
    return same;
}

static void products(void)
{
    test_rng r = {1};
    for (int signs = 0; signs < 4; signs++)
        for (int i = 0; i < 150; i++) CHECK(random_product(&r, signs, i % 10 == 0));
}

/* Products of the largest size: the sums wrap. */
static void wraps(void)
{
    test_rng r = {2};
    matrix a = new_matrix(&r, 1, 4, 0), b = new_matrix(&r, 1, 4, 0), c = new_matrix(&r, 1, 4, 0);
    int32_t sum = INT32_MAX;
    memset(a.at, 127, 4);
    memset(b.at, 127, 4);
    memcpy(c.at, &sum, 4);
    tile_product(&c, &a, &b, 3, 0);
    memcpy(&sum, c.at, 4);
    CHECK_EQ(sum, INT32_MIN + 4 * 127 * 127 - 1);
    test_free(&a.block);
    test_free(&b.block);
    test_free(&c.block);
}

/* c, 32 x 32, is a, 32 x 64 * steps, times b: a kernel as one writes it, with all eight tiles. */
static TILES void tile_matmul(int32_t *c, const int8_t *a, const int8_t *b, int steps)
{
    config cfg = new_config();
    ptrdiff_t row = 64 * steps;
    for (int t = 0; t < 8; t++) shape(&cfg, t, 16, 64);
    BARRIER;
    _tile_loadconfig(&cfg);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int s = 0; s < steps; s++) {
        _tile_loadd(4, a + 64 * s, row);
        _tile_loadd(5, a + 16 * row + 64 * s, row);
        _tile_loadd(6, b + 32 * 64 * s, 128);
        _tile_loadd(7, b + 32 * 64 * s + 64, 128);
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, c, 128);
    _tile_stored(1, c + 16, 128);
    _tile_stored(2, c + 16 * 32, 128);
    _tile_stored(3, c + 16 * 32 + 16, 128);
    _tile_release();
    BARRIER;
}

static void matmul(void)
{
    enum { STEPS = 5, K = 64 * STEPS };
    test_rng r = {3};
    int8_t *a = (int8_t *)test_malloc(32 * K), *b = (int8_t *)test_malloc(32 * K); /* b[k / 4][n][k % 4] */
    int32_t *c = (int32_t *)test_malloc(32 * 32 * sizeof *c);
    for (int i = 0; i < 32 * K; i++) a[i] = (int8_t)(test_int(&r, 256) - 128);
    for (int i = 0; i < 32 * K; i++) b[i] = (int8_t)(test_int(&r, 256) - 128);
    if (mode == AMX_EMULATED) amx_counts_reset();
    tile_matmul(c, a, b, STEPS);
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 32; j++) {
            int32_t sum = 0;
            for (int k = 0; k < K; k++) sum += a[i * K + k] * b[k / 4 * 128 + 4 * j + k % 4];
            CHECK_EQ(c[32 * i + j], sum);
        }
    if (mode == AMX_EMULATED) {
        static const int want[AMX_KINDS] = {[AMX_LDTILECFG] = 1, [AMX_TILEZERO] = 4, [AMX_TILELOADD] = 4 * STEPS,
                                            [AMX_TDPBSSD] = 4 * STEPS, [AMX_TILESTORED] = 4, [AMX_TILERELEASE] = 1};
        for (int i = 0; i < AMX_KINDS; i++) CHECK_EQ(amx_counts[i], want[i]);
        for (int i = 0; i < AMX_KINDS; i++)
            if (amx_counts[i]) printf("%s %llu%s", amx_names[i], amx_counts[i], i == AMX_TDPBSSD ? "\n" : ", ");
    }
    free(a);
    free(b);
    free(c);
}

/* TDPBF16PS of small whole numbers is exact in any order. */
__attribute__((noinline, target("amx-tile,amx-bf16"))) static void tile_bf16(float *c, const uint16_t *a, const uint16_t *b)
{
    config cfg = new_config();
    shape(&cfg, 1, 5, 28);
    shape(&cfg, 3, 5, 44);
    shape(&cfg, 6, 11, 28);
    BARRIER;
    _tile_loadconfig(&cfg);
    _tile_loadd(1, c, 28);
    _tile_loadd(3, a, 44);
    _tile_loadd(6, b, 28);
    _tile_dpbf16ps(1, 3, 6);
    _tile_stored(1, c, 28);
    _tile_release();
    BARRIER;
}

static uint16_t bf16_of(int x)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)(u >> 16);
}

static void bf16(void)
{
    test_rng r = {4};
    int a[5][22], b[11][14];
    uint16_t ha[5][22], hb[11][14];
    float c[5][7], want[5][7];
    unsigned w, x, y, z;
    if (mode == AMX_HARDWARE && (!__get_cpuid_count(7, 0, &w, &x, &y, &z) || !(z & 1u << 22))) SKIP("no amx-bf16");
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 22; k++) ha[i][k] = bf16_of(a[i][k] = test_int(&r, 255) - 127);
    for (int k = 0; k < 11; k++)
        for (int j = 0; j < 14; j++) hb[k][j] = bf16_of(b[k][j] = test_int(&r, 255) - 127);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 7; j++) {
            int sum = test_int(&r, 1000);
            c[i][j] = (float)sum;
            for (int k = 0; k < 22; k++) sum += a[i][k] * b[k / 2][2 * j + k % 2];
            want[i][j] = (float)sum;
        }
    tile_bf16(c[0], ha[0], hb[0]);
    CHECK(memcmp(c, want, sizeof c) == 0);
}

/* ==== configurations ====================================================================================== */

static int is_zero(const void *p, size_t size)
{
    const uint8_t *b = (const uint8_t *)p;
    for (size_t i = 0; i < size; i++)
        if (b[i]) return 0;
    return 1;
}

static TILES void store_0(uint8_t *at, ptrdiff_t stride)
{
    _tile_stored(0, at, stride);
    BARRIER;
}

static TILES void load_0(const uint8_t *at, ptrdiff_t stride)
{
    BARRIER;
    _tile_loadd(0, at, stride);
}

static void configurations(void)
{
    test_rng r = {6};
    matrix m = new_matrix(&r, 16, 64, 64);
    uint8_t got[16 * 64];
    config c = new_config(), none, odd, started;
    memset(&none, 0, sizeof none);
    odd = none;
    odd.byte[9] = 1;
    for (int t = 0; t < 8; t++) shape(&c, t, t ? 2 * t : 16, t ? 64 - 4 * t : 64);

    CHECK(same_config(store_config(), none));
    load_config(&c);
    CHECK(same_config(store_config(), c));
    load_0(m.at, 64);
    store_0(got, 64);
    CHECK(memcmp(got, m.at, sizeof got) == 0);
    load_config(&c); /* the same one again: tiles are zeroed */
    store_0(got, 64);
    CHECK(is_zero(got, sizeof got));
    load_config(&odd); /* palette 0 releases, whatever else there is */
    CHECK(same_config(store_config(), none));

    started = c;
    started.byte[1] = 3; /* what an interrupted load leaves: rows 0 to 2 are done */
    load_config(&started);
    CHECK(same_config(store_config(), started));
    load_0(m.at, 64);
    CHECK(same_config(store_config(), c));
    store_0(got, 64);
    CHECK(is_zero(got, 3 * 64) && memcmp(got + 3 * 64, m.at + 3 * 64, 13 * 64) == 0);
    CHECK(mode == AMX_HARDWARE || amx_is_configured());
    release();
    CHECK(mode == AMX_HARDWARE || !amx_is_configured());
    CHECK(same_config(store_config(), none));

    shape(&c, 0, 5, 20);
    load_config(&c);
    load_0(m.at, 64);
    if (mode == AMX_EMULATED) /* outside of the shape there are zeros */
        for (int i = 0; i < 16; i++) {
            CHECK(i >= 5 || memcmp(amx_now()->tile[0][i], m.at + 64 * i, 20) == 0);
            CHECK(is_zero(amx_now()->tile[0][i] + (i < 5 ? 20 : 0), i < 5 ? 44 : 64));
        }
    release();
    test_free(&m.block);
}

/* ==== encodings =========================================================================================== */

/* Tile 0 has the 16 rows of 64 bytes at `at`; afterwards it is zero. */
static TILES int is_loaded(const uint8_t *at, ptrdiff_t stride)
{
    uint8_t got[16 * 64];
    int same = 1;
    _tile_stored(0, got, 64);
    _tile_zero(0);
    BARRIER;
    for (int i = 0; i < 16; i++) same &= memcmp(got + 64 * i, at + i * stride, 64) == 0;
    return same;
}

#define LOAD(base, index, scale, disp)                                                                             \
    __asm__ volatile("movq %0, %%" base "\n\tmovq %1, %%" index "\n\t"                                             \
                     "tileloadd " #disp "(%%" base ",%%" index "," #scale "), %%tmm0"                              \
                     :: "r"((uintptr_t)m.at - (uintptr_t)(disp)), "r"(80L / scale) : base, index, "memory");     \
    CHECK(is_loaded(m.at, 80))

static TILES void addresses(void)
{
    test_rng r = {5};
    matrix m = new_matrix(&r, 16, 64, 80);
    uint8_t *at = m.at;
    uintptr_t block;
    static config fixed;          /* addressed relative to rip */
    static __thread config local; /* and relative to fs        */
    config c = new_config(), other = c;
    shape(&c, 0, 16, 64);
    for (int t = 0; t < 8; t++) shape(&other, t, 16 - t, 64 - t);
    fixed = other;
    local = other;
    load_config(&c);
    LOAD("rax", "rcx", 1, 0);
    LOAD("rcx", "rdx", 2, 1);
    LOAD("rdx", "rbx", 4, -1);
    LOAD("rbx", "rsi", 8, 127);
    LOAD("rsi", "rdi", 1, -128);
    LOAD("rdi", "r8", 2, 128);
    LOAD("r8", "r9", 4, -129);
    LOAD("r9", "r10", 8, 0x12345678);
    LOAD("r10", "r11", 1, -0x12345678);
    LOAD("r11", "r12", 2, 0);
    LOAD("r12", "r13", 4, 0);
    LOAD("r12", "r14", 8, 5);
    LOAD("r13", "r15", 1, 0);
    LOAD("r13", "rax", 2, 6);
    LOAD("r14", "r12", 4, 1000);
    LOAD("r15", "r12", 8, 0);
    __asm__ volatile("xchgq %0, %%rbp\n\ttileloadd (%%rbp,%1,2), %%tmm0\n\txchgq %0, %%rbp" : "+a"(at) : "d"(40L) : "memory");
    CHECK(is_loaded(m.at, 80));
    __asm__ volatile("xchgq %0, %%rbp\n\ttileloadd -80(%1,%%rbp,4), %%tmm0\n\txchgq %0, %%rbp"
                     :: "a"(20L), "d"(m.at + 80) : "memory");
    CHECK(is_loaded(m.at, 80));
    __asm__ volatile("tileloadd (%0), %%tmm0" :: "r"(m.at) : "memory"); /* no index: stride 0 */
    CHECK(is_loaded(m.at, 0));
    __asm__ volatile("tileloadd 64(%0), %%tmm0" :: "r"((uintptr_t)m.at - 64) : "memory");
    CHECK(is_loaded(m.at, 0));
    __asm__ volatile(".byte 0x3e\n\ttileloadd (%0,%1), %%tmm0" :: "r"(m.at), "r"(80L) : "memory"); /* padded */
    CHECK(is_loaded(m.at, 80));
    load_0(m.at, 80);
    __asm__ volatile("leaq -4096(%%rsp), %%rsp\n\ttilestored %%tmm0, 128(%%rsp,%0)\n\ttilezero %%tmm0\n\t"
                     "tileloadd 128(%%rsp,%0), %%tmm0\n\tleaq 4096(%%rsp), %%rsp" :: "r"(64L) : "memory");
    CHECK(is_loaded(m.at, 80));

#define CONFIGURED() (CHECK(same_config(store_config(), other)), release())
    __asm__ volatile("ldtilecfg %0" :: "m"(fixed) : "memory");
    CONFIGURED();
    __asm__ volatile("ldtilecfg %0" :: "m"(local) : "memory");
    CONFIGURED();
    __asm__ volatile("movq %%fs:0, %0" : "=r"(block));
    __asm__ volatile("ldtilecfg %%fs:-3(%0)" :: "r"((uintptr_t)&local - block + 3) : "memory");
    CONFIGURED();
    __asm__ volatile("ldtilecfg 64(%0,%1,4)" :: "r"((uintptr_t)other.byte - 164), "r"(25L) : "memory");
    CONFIGURED();
    __asm__ volatile("ldtilecfg -16(,%0,1)" :: "r"(other.byte + 16) : "memory");
    CONFIGURED();
    load_config(&other);
    __asm__ volatile("sttilecfg %0" : "=m"(fixed) :: "memory");
    CHECK(same_config(fixed, other));
    release();
    test_free(&m.block);
}

/* ==== misuse ============================================================================================== */

/* A configuration of the tiles of a product, 4x8 += 4x12 * 3x8, which every test below spoils. */
static config good(void)
{
    config c = new_config();
    shape(&c, 0, 4, 8);
    shape(&c, 1, 4, 12);
    shape(&c, 2, 3, 8);
    return c;
}

static TILES void multiply(const config *c)
{
    load_config(c);
    _tile_dpbssd(0, 1, 2);
}

static void spoil_shape(int tile, int rows, int colsb)
{
    config c = good();
    shape(&c, tile, rows, colsb);
    multiply(&c);
}

static void spoil_byte(int at, int value)
{
    config c = good();
    c.byte[at] = (uint8_t)value;
    multiply(&c);
}

static TILES void no_config(void)         { _tile_zero(0); }
static TILES void released(void)          { config c = good(); load_config(&c); _tile_release(); _tile_dpbuud(0, 1, 2); }
static TILES void not_configured(void)    { config c = good(); load_config(&c); _tile_zero(3); }
static TILES void same_tiles(void)        { config c = good(); load_config(&c); __asm__(".byte 0xc4, 0xe2, 0x73, 0x5e, 0xc0"); }
static TILES void tile_8(void)            { config c = good(); load_config(&c); __asm__(".byte 0xc4, 0x62, 0x7b, 0x49, 0xc0"); }
static TILES void no_sib(void)            { config c = good(); load_config(&c); __asm__(".byte 0xc4, 0xe2, 0x7b, 0x4b, 0x00"); }
static TILES void not_ours(void)          { __asm__("ud2"); }
static TILES void start_row(void)         { config c = good(); uint8_t x[64]; c.byte[1] = 4; load_config(&c); store_0(x, 8); }
static void palette_2(void)               { spoil_byte(0, 2); }
static void reserved_2(void)              { spoil_byte(2, 1); }
static void reserved_15(void)             { spoil_byte(15, 1); }
static void tile_8_bytes(void)            { spoil_byte(32, 8); }
static void tile_8_rows(void)             { spoil_byte(56, 1); }
static void rows_17(void)                 { spoil_shape(3, 17, 64); }
static void bytes_65(void)                { spoil_shape(3, 16, 65); }
static void bytes_256(void)               { spoil_shape(3, 16, 256); }
static void rows_alone(void)              { spoil_shape(3, 1, 0); }
static void bytes_alone(void)             { spoil_shape(3, 0, 4); }
static void missing_source(void)          { spoil_shape(2, 0, 0); }
static void other_rows(void)              { spoil_shape(0, 5, 8); }
static void other_columns(void)           { spoil_shape(0, 4, 12); }
static void other_depth(void)             { spoil_shape(1, 4, 16); }
static void odd_bytes(void)               { spoil_shape(1, 4, 13); }
static void odd_load(void)                { uint8_t x[64] = {0}; config c = good(); shape(&c, 0, 1, 5); load_config(&c); load_0(x, 8); }

/* What happens to a child that calls fn: the signal that ends it, 0 for none, and its messages. */
static int end_of_child(void (*fn)(void), char *text, size_t size)
{
    int ends[2], status = 0;
    size_t n = 0;
    ssize_t got;
    pid_t child;
    fflush(stdout);
    if (pipe(ends) != 0 || (child = fork()) < 0) return -1;
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        dup2(ends[1], 2);
        fn();
        _exit(0);
    }
    close(ends[1]);
    while (n < size - 1 && (got = read(ends[0], text + n, size - 1 - n)) > 0) n += (size_t)got;
    text[n] = 0;
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* Faults of the state of tiles: the emulator tells which and aborts, Linux makes SIGILL of #UD and SIGSEGV of #GP. */
static void misuse(void)
{
    static const struct { void (*fn)(void); const char *text; } cases[] = {
        {no_config, "#UD: tilezero"}, {no_config, "no configuration"}, {released, "#UD: tdpbuud"}, {released, "no configuration"},
        {not_configured, "#UD: tilezero"}, {not_configured, "no such tile"}, {same_tiles, "#UD: tdpbssd"}, {same_tiles, "not different"},
        {start_row, "#UD: tilestored"}, {palette_2, "#GP: ldtilecfg"}, {palette_2, "palette"}, {reserved_2, "#GP: ldtilecfg"},
        {reserved_15, "reserved"}, {tile_8_bytes, "reserved"}, {tile_8_rows, "reserved"}, {rows_17, "more than 16 rows"},
        {bytes_65, "64 bytes per row"}, {bytes_256, "64 bytes per row"}, {rows_alone, "rows without bytes"},
        {bytes_alone, "#GP: ldtilecfg"}, {missing_source, "no such tile"}, {other_rows, "rows of destination and first"},
        {other_columns, "destination and second"}, {other_depth, "rows of the second"}, {other_depth, "tmm1 is 4x16, tmm2 is 3x8"},
        {odd_bytes, "multiple of 4"}, {odd_load, "#UD: tileloadd"},
    };
    char text[1000];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int sig = end_of_child(cases[i].fn, text, sizeof text);
        int ok = mode == AMX_EMULATED ? sig == SIGABRT && strstr(text, cases[i].text) : sig == SIGILL || sig == SIGSEGV;
        if (mode == AMX_HARDWARE && !strncmp(cases[i].text, "#UD", 3)) ok = sig == SIGILL;
        if (mode == AMX_HARDWARE && !strncmp(cases[i].text, "#GP", 3)) ok = sig == SIGSEGV;
        if (!ok) printf("signal %d instead of %s: %s\n", sig, cases[i].text, text);
        CHECK(ok);
    }
}

/* What is no instruction of ours ends as ever. */
static void other_faults(void)
{
    char text[1000];
    CHECK_EQ(end_of_child(not_ours, text, sizeof text), SIGILL);
    CHECK_EQ(end_of_child(tile_8, text, sizeof text), SIGILL);
    CHECK_EQ(end_of_child(no_sib, text, sizeof text), SIGILL);
}

/* ==== threads ============================================================================================= */

typedef struct job { int id, bad; pthread_barrier_t *meet; } job;

static void *work(void *arg)
{
    job *j = (job *)arg;
    test_rng r = {(uint64_t)j->id + 7};
    uint8_t data[16 * 64], got[16 * 64];
    config c = new_config();
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)test_int(&r, 256);
    for (int i = 0; i < 40; i++) { /* both hold their tiles, then both look */
        shape(&c, 0, 16 - j->id, 64);
        load_config(&c);
        load_0(data, 64);
        pthread_barrier_wait(j->meet);
        memset(got, 0, sizeof got);
        store_0(got, 64);
        j->bad += memcmp(got, data, (size_t)(16 - j->id) * 64) != 0 || !same_config(store_config(), c);
        release();
        j->bad += !random_product(&r, i & 3, 0);
    }
    return NULL;
}

static void threads(void)
{
    pthread_barrier_t meet;
    pthread_t thread[2];
    job jobs[2] = {{0, 0, &meet}, {1, 0, &meet}};
    pthread_barrier_init(&meet, NULL, 2);
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&thread[i], NULL, work, &jobs[i]) == 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        CHECK_EQ(jobs[i].bad, 0);
    }
    pthread_barrier_destroy(&meet);
}

/* ==== the kernels of ltx.h ================================================================================= */

/* Every quantized format, products of 1 to 70 rows, same bits as scalar code; no tile stays configured. */
static void kernels(void)
{
    static const int32_t types[] = {LTX_Q8_0, LTX_Q4_0, LTX_Q8_X, LTX_Q4_X, LTX_R8, LTX_R4, LTX_Q4_K, LTX_Q5_K, LTX_Q6_K, LTX_F16};
    static const int32_t counts[] = {1, 3, 4, 16, 17, 32, 50, 70};
    for (int t = 0; t < (int)(sizeof types / sizeof types[0]); t++) for (int shape = 0; shape < 3; shape++) {
        int32_t rows = shape == 0 ? 5 : shape == 1 ? 16 : 40, cols = ltx_row_bytes(types[t], 32) == 0 && types[t] != LTX_F16 ? 512 : shape == 1 ? 64 : 160;
        float *w = malloc((size_t)(rows * cols) * 4), *x = malloc((size_t)(70 * cols) * 4), *want = malloc((size_t)(70 * rows) * 4), *got = malloc((size_t)(70 * rows) * 4);
        void *data = malloc(ltx_mat_bytes(types[t], rows, cols));
        ltx_mat mat = {data, types[t], rows, cols};
        uint32_t r = (uint32_t)(t * 3 + shape + 1);
        for (int i = 0; i < rows * cols; i++) w[i] = (float)((r = r * 1664525u + 1013904223u) >> 8) / 16777216.0f - 0.5f;
        for (int i = 0; i < 70 * cols; i++) x[i] = (float)((r = r * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1.0f;
        CHECK_EQ(ltx_mat_encode(types[t], w, rows, cols, data), LTX_OK);
        for (int m = 0; m < (int)(sizeof counts / sizeof counts[0]); m++) {
            ltx_need need;
            CHECK_EQ(ltx_matmul_need(&mat, counts[m], &need), LTX_OK);
            test_block work = test_alloc(need.size, need.align);
            ltx_mem mem = {work.ptr, need.size};
            CHECK_EQ(ltx_matmul(LTX_ISA_SCALAR, &mat, x, counts[m], mem, want), LTX_OK);
            CHECK_EQ(ltx_matmul(LTX_ISA_AMX, &mat, x, counts[m], mem, got), LTX_OK);
            if (!CHECK(memcmp(want, got, (size_t)(counts[m] * rows) * 4) == 0)) printf("  %s, %d x %d, %d rows\n", ltx_type_name(types[t]), rows, cols, counts[m]);
            test_free(&work);
        }
        free(w); free(x); free(want); free(got); free(data);
    }
    if (mode == AMX_EMULATED) {
        CHECK(!amx_is_configured());
        CHECK(amx_counts[AMX_TDPBSUD] > 0 && amx_counts[AMX_TDPBSSD] > 0);
    }
}

int main(void)
{
    test_begin("test_amx");
    if ((ltx_isa_mask() & 1u << LTX_ISA_AVX512) == 0) printf("kernels of ltx.h are not run: this processor has no AVX-512\n");
    mode = amx_emulate_start(getenv("LTX_AMX_EMULATE") != NULL);
    printf("tiles: %s\n", mode == AMX_HARDWARE ? "hardware" : "emulated");
    TEST(products);
    TEST(wraps);
    TEST(matmul);
    TEST(bf16);
    TEST(configurations);
    TEST(addresses);
    TEST(misuse);
    TEST(other_faults);
    TEST(threads);
    if ((ltx_isa_mask() & 1u << LTX_ISA_AVX512) != 0) TEST(kernels);
    return test_end();
}

#else

static void tiles(void)
{
    SKIP("not x86-64 Linux with a compiler that knows AMX");
}

int main(void)
{
    test_begin("test_amx");
    TEST(tiles);
    return test_end();
}

#endif
