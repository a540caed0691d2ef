/* test.h - a small test framework
   SPDX-License-Identifier: MIT

   A test program is a set of `static void name(void)` functions and a main:

       int main(void)
       {
           test_begin("test_ops");
           TEST(halves_decode);
           TEST(matmul_float);
           return test_end();
       }

   CHECK, CHECK_EQ and CHECK_NEAR count a failure and go on; a test with at least one failure has failed. SKIP(reason) leaves
   the test function. LTX_TEST_ONLY=text in the environment runs only tests whose name contains the text. */
#ifndef TEST_H
#define TEST_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif
#ifdef TEST_ASAN
#include <sanitizer/asan_interface.h>
#define TEST_POISON(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#define TEST_UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define TEST_POISON(p, n)   ((void)(p), (void)(n))
#define TEST_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

/* ---- counting and printing ------------------------------------------------------------------------------ */

enum { TEST_MAX_PRINTED = 10 }; /* failures shown per test; the rest is only counted */

typedef struct test_counts {
    const char *program, *name; /* of the program, of the running test     */
    int  passed, failed, skipped; /* tests                                 */
    long failures;                /* failed checks of the running test     */
    int  is_skipped;              /* the running test has called SKIP      */
} test_counts;

static test_counts test_now;

/* Counts a failure; returns 1 if it shall be printed. */
static inline int test_fail(const char *file, int line)
{
    test_now.failures++;
    if (test_now.failures > TEST_MAX_PRINTED) return 0;
    printf("%s:%d: %s: ", file, line, test_now.name ? test_now.name : "(no test)");
    return 1;
}

static inline int test_check(int ok, const char *text, const char *file, int line)
{
    if (!ok && test_fail(file, line)) printf("failed: %s\n", text);
    return ok;
}

static inline int test_check_eq(int64_t a, int64_t b, const char *text, const char *file, int line)
{
    if (a == b) return 1;
    if (test_fail(file, line)) printf("%s: %lld and %lld\n", text, (long long)a, (long long)b);
    return 0;
}

/* Written so that a NaN on either side fails. */
static inline int test_check_near(double got, double want, double tol, const char *text, const char *file, int line)
{
    if (fabs(got - want) <= tol || got == want) return 1;
    if (test_fail(file, line)) printf("%s: got %.9g, want %.9g, off by %.3g, allowed %.3g\n", text, got, want, got - want, tol);
    return 0;
}

#define CHECK(cond)                test_check((cond) ? 1 : 0, #cond, __FILE__, __LINE__)
#define CHECK_EQ(a, b)             test_check_eq((int64_t)(a), (int64_t)(b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_NEAR(got, want, tol) test_check_near((got), (want), (tol), #got, __FILE__, __LINE__)
#define SKIP(reason)                                             \
    do {                                                         \
        printf("%s: skipped: %s\n", test_now.name, (reason));    \
        test_now.is_skipped = 1;                                 \
        return;                                                  \
    } while (0)
#define TEST(name) test_run(#name, name)

static inline void test_run(const char *name, void (*fn)(void))
{
    const char *only = getenv("LTX_TEST_ONLY");
    if (only && *only && !strstr(name, only)) return;
    test_now.name = name;
    test_now.failures = 0;
    test_now.is_skipped = 0;
    fn();
    if (test_now.failures > TEST_MAX_PRINTED) printf("%s: %ld failures in all\n", name, test_now.failures);
    if (test_now.failures) test_now.failed++;
    else if (test_now.is_skipped) test_now.skipped++;
    else test_now.passed++;
    fflush(stdout);
    test_now.name = NULL;
}

static inline void test_begin(const char *program)
{
    memset(&test_now, 0, sizeof test_now);
    test_now.program = program;
}

/* Prints the summary; the result is the exit code. */
static inline int test_end(void)
{
    printf("%s: %d passed, %d failed", test_now.program, test_now.passed, test_now.failed);
    if (test_now.skipped) printf(", %d skipped", test_now.skipped);
    printf("\n");
    return test_now.failed ? 1 : 0;
}

/* ---- random numbers: the same on every machine ------------------------------------------------------------ */

typedef struct test_rng { uint64_t state; } test_rng;

static inline uint64_t test_bits(test_rng *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* In [0,1), a multiple of 2^-32. */
static inline double test_uniform(test_rng *r)
{
    return (double)(test_bits(r) >> 32) / 4294967296.0;
}

/* In 0..n-1. */
static inline int test_int(test_rng *r, int n)
{
    return (int)((test_bits(r) >> 32) % (uint64_t)n);
}

/* About normal, mean 0, deviation 1: no libm function, so no difference between libms. */
static inline double test_gauss(test_rng *r)
{
    double sum = -6.0;
    for (int i = 0; i < 12; i++) sum += test_uniform(r);
    return sum;
}

/* ---- memory with watched ends ------------------------------------------------------------------------------ */

/* `size` bytes at an address that is `offset` past a multiple of `align`. What lies around them is poisoned under
   AddressSanitizer and holds a pattern that test_free checks otherwise. */
typedef struct test_block {
    unsigned char *ptr;  /* the bytes                */
    unsigned char *base; /* what malloc gave         */
    size_t size, total;
} test_block;

enum { TEST_FENCE = 64, TEST_PATTERN = 0xa5 };

static inline void *test_malloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p) {
        printf("out of memory (%zu bytes)\n", size);
        exit(2);
    }
    return p;
}

static inline test_block test_alloc_at(size_t size, size_t align, size_t offset)
{
    test_block b;
    b.size = size;
    b.total = size + align + offset + 2 * TEST_FENCE;
    b.base = (unsigned char *)test_malloc(b.total);
    memset(b.base, TEST_PATTERN, b.total);
    uintptr_t at = (uintptr_t)b.base + TEST_FENCE;
    at = (at + align - 1) / align * align + offset;
    b.ptr = b.base + (at - (uintptr_t)b.base);
    TEST_POISON(b.base, (size_t)(b.ptr - b.base));
    TEST_POISON(b.ptr + size, b.total - size - (size_t)(b.ptr - b.base));
    return b;
}

static inline test_block test_alloc(size_t size, size_t align)
{
    return test_alloc_at(size, align ? align : 1, 0);
}

static inline void test_free(test_block *b)
{
    if (!b->base) return;
    TEST_UNPOISON(b->base, b->total);
    size_t before = (size_t)(b->ptr - b->base);
    int intact = 1;
    for (size_t i = 0; i < b->total; i++)
        if ((i < before || i >= before + b->size) && b->base[i] != TEST_PATTERN) intact = 0;
    test_check(intact, "nothing was written outside of a block", __FILE__, __LINE__);
    free(b->base);
    memset(b, 0, sizeof *b);
}

/* ---- files and hashes -------------------------------------------------------------------------------------- */

/* FNV-1a, 64 bit. Start with test_hash(p, n, TEST_HASH_START); feed the result back to go on. */
#define TEST_HASH_START 0xcbf29ce484222325u
static inline uint64_t test_hash(const void *data, size_t size, uint64_t hash)
{
    const unsigned char *p = (const unsigned char *)data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

/* Whole file into a fresh block of exactly its size; base is NULL if it cannot be read. */
static inline test_block test_read_file(const char *path)
{
    test_block b;
    memset(&b, 0, sizeof b);
    FILE *f = fopen(path, "rb");
    if (!f) return b;
    long size = -1;
    if (fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (size >= 0 && fseek(f, 0, SEEK_SET) == 0) {
        b = test_alloc((size_t)size, 64);
        if (fread(b.ptr, 1, b.size, f) != b.size) test_free(&b);
    }
    fclose(f);
    return b;
}

/* File of the folder with shared test data: environment variable LTX_SHARED, else ../shared. Tests of files that are not there
   are skipped, so a copy of the repository alone passes. */
static inline test_block test_read_shared(const char *name)
{
    char path[1024];
    const char *folder = getenv("LTX_SHARED");
    snprintf(path, sizeof path, "%s/%s", folder && *folder ? folder : "../shared", name);
    return test_read_file(path);
}

#endif /* TEST_H */
