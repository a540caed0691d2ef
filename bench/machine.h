/* machine.h - what this machine can do at most: memory bandwidth, arithmetic peaks
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   Include after ltx.h, examples/common.h and pool.h; needs _GNU_SOURCE on Linux for AMX. Speeds of a program mean little
   beside those of another machine or another day; beside these, taken in the same run, they do. Every kernel here does nothing
   but the one operation, in enough independent chains to hide its latency, on registers. Peaks are measured for x86-64; elsewhere only
   the bandwidth.                                                                                                     */

#ifndef LTX_MACHINE_H
#define LTX_MACHINE_H

#include "../examples/median.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define MACHINE_X86
#include <cpuid.h>
#include <immintrin.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define MACHINE_COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
enum { MACHINE_PASSES = 7, MACHINE_PEAKS = 5 };
static volatile uint64_t machine_sink; /* results go here, so that no compiler leaves out the work */

/* ---- reading memory ---------------------------------------------------------------------------------------------- */

typedef uint64_t machine_read_fn(const unsigned char *p, size_t n); /* n a multiple of 512, p of 64 */

static inline uint64_t machine_read_plain(const unsigned char *p, size_t n)
{
    const uint64_t *x = (const uint64_t *)(const void *)p, *end = x + n / 8;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (; x < end; x += 8) { a += x[0] ^ x[4]; b += x[1] ^ x[5]; c += x[2] ^ x[6]; d += x[3] ^ x[7]; }
    return a + b + c + d;
}
#ifdef MACHINE_X86
#define MACHINE_READ(name, set, vector, load, add, bytes) \
    __attribute__((target(set))) static inline uint64_t name(const unsigned char *p, size_t n) \
    { \
        const vector *x = (const vector *)(const void *)p, *end = x + n / bytes; \
        vector a = load(x), b = a, c = a, d = a; \
        uint64_t out; \
        for (; x < end; x += 8) { \
            a = add(a, load(x)); b = add(b, load(x + 1)); c = add(c, load(x + 2)); d = add(d, load(x + 3)); \
            a = add(a, load(x + 4)); b = add(b, load(x + 5)); c = add(c, load(x + 6)); d = add(d, load(x + 7)); \
        } \
        a = add(add(a, b), add(c, d)); \
        memcpy(&out, &a, sizeof out); \
        return out; \
    }
MACHINE_READ(machine_read_avx2, "avx2", __m256i, _mm256_load_si256, _mm256_add_epi64, 32)
MACHINE_READ(machine_read_avx512, "avx512f", __m512i, _mm512_load_si512, _mm512_add_epi64, 64)
#endif

static inline machine_read_fn *machine_reader(void)
{
#ifdef MACHINE_X86
    if (__builtin_cpu_supports("avx512f")) return machine_read_avx512;
    if (__builtin_cpu_supports("avx2")) return machine_read_avx2;
#endif
    return machine_read_plain;
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */

/* A peak: its name, the instruction sets of ltx.h (beginnings of their names) that it bounds, whether it is that of integer
   products, and the kernel: `rounds` rounds of `ops` operations, a multiply-add counted as two; NULL = not on this machine. */
typedef void machine_run_fn(long rounds);
typedef struct machine_peak {
    const char *name, *sets[2];
    int         integer;
    double      ops;
    machine_run_fn *run;
} machine_peak;

#ifdef MACHINE_X86
/* Twelve chains: two units with a latency of four to six cycles. One variable each, as arrays would live in memory at -O2. */
#define MACHINE_TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define MACHINE_OPAQUE(v) __asm__ volatile("" : "+x"(v)) /* the compiler must not know the value, nor that it stays the same */
static volatile int machine_one = 1;

__attribute__((target("avx2,fma"))) static inline void machine_fma_avx2(long rounds)
{
    __m256 x = _mm256_set1_ps((float)machine_one / 2);
#define X(i) __m256 a##i = _mm256_add_ps(x, _mm256_set1_ps(i));
    MACHINE_TWELVE(X)
#undef X
    for (; rounds > 0; rounds--) {
#define X(i) a##i = _mm256_fmadd_ps(a##i, x, x);
        MACHINE_TWELVE(X)
#undef X
    }
#define X(i) x = _mm256_add_ps(x, a##i);
    MACHINE_TWELVE(X)
#undef X
    machine_sink += (uint64_t)_mm256_cvtss_f32(x);
}
__attribute__((target("avx512f"))) static inline void machine_fma_avx512(long rounds)
{
    __m512 x = _mm512_set1_ps((float)machine_one / 2);
#define X(i) __m512 a##i = _mm512_add_ps(x, _mm512_set1_ps(i));
    MACHINE_TWELVE(X)
#undef X
    for (; rounds > 0; rounds--) {
#define X(i) a##i = _mm512_fmadd_ps(a##i, x, x);
        MACHINE_TWELVE(X)
#undef X
    }
#define X(i) x = _mm512_add_ps(x, a##i);
    MACHINE_TWELVE(X)
#undef X
    machine_sink += (uint64_t)_mm512_cvtss_f32(x);
}
/* Without VNNI a product of bytes takes three instructions. */
__attribute__((target("avx2"))) static inline void machine_bytes_avx2(long rounds)
{
    __m256i x = _mm256_set1_epi8((char)machine_one), ones = _mm256_set1_epi16((short)machine_one);
#define X(i) __m256i a##i = _mm256_set1_epi32(i);
    MACHINE_TWELVE(X)
#undef X
    for (; rounds > 0; rounds--) {
#define X(i) MACHINE_OPAQUE(x); a##i = _mm256_add_epi32(a##i, _mm256_madd_epi16(_mm256_maddubs_epi16(x, x), ones));
        MACHINE_TWELVE(X)
#undef X
    }
#define X(i) x = _mm256_add_epi32(x, a##i);
    MACHINE_TWELVE(X)
#undef X
    machine_sink += (uint64_t)_mm256_extract_epi64(x, 0);
}
__attribute__((target("avx512f,avx512vnni"))) static inline void machine_bytes_avx512(long rounds)
{
    __m512i x = _mm512_set1_epi32(machine_one * 0x01010101);
    long long out[8];
#define X(i) __m512i a##i = _mm512_set1_epi32(i);
    MACHINE_TWELVE(X)
#undef X
    for (; rounds > 0; rounds--) {
#define X(i) a##i = _mm512_dpbusd_epi32(a##i, x, x);
        MACHINE_TWELVE(X)
#undef X
    }
#define X(i) x = _mm512_add_epi32(x, a##i);
    MACHINE_TWELVE(X)
#undef X
    _mm512_storeu_si512(out, x);
    machine_sink += (uint64_t)out[0];
}

#if defined(__linux__) && defined(SYS_arch_prctl)
#define MACHINE_AMX
/* Four tiles of 16 x 16 sums, from two tiles of 16 x 64 bytes on either side. */
__attribute__((target("amx-tile,amx-int8"))) static inline void machine_tiles_amx(long rounds)
{
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } shape;
    int i;
    memset(&shape, 0, sizeof shape);
    shape.palette = 1;
    for (i = 0; i < 8; i++) { shape.bytes[i] = 64; shape.rows[i] = 16; }
    __asm__ volatile("" : : "r"(&shape) : "memory"); /* gcc 12 thinks that the next line reads 8 bytes, and drops the stores of the others */
    _tile_loadconfig(&shape);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3); _tile_zero(4); _tile_zero(5); _tile_zero(6); _tile_zero(7);
    for (; rounds > 0; rounds--) { _tile_dpbssd(0, 4, 6); _tile_dpbssd(1, 4, 7); _tile_dpbssd(2, 5, 6); _tile_dpbssd(3, 5, 7); }
    _tile_release();
}
static inline int machine_has_amx(void)
{
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0;                                      /* OSXSAVE    */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (3u << 24)) != 3u << 24) return 0;                   /* tiles, int8 */
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & (3u << 17)) == 3u << 17 && syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
}
#endif

static inline machine_run_fn *machine_if(int has, machine_run_fn *run) { return has ? run : NULL; }
static inline void machine_find_peaks(machine_peak *p)
{
    int vnni = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni"), i;
    const machine_peak all[MACHINE_PEAKS] = {
        { "f32 multiply-add, AVX2", { "avx2", NULL }, 0, 2 * 8 * 12, machine_if(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), machine_fma_avx2) },
        { "f32 multiply-add, AVX-512", { "avx512", "amx" }, 0, 2 * 16 * 12, machine_if(__builtin_cpu_supports("avx512f"), machine_fma_avx512) },
        { "int8 products, AVX2", { "avx2", NULL }, 1, 2 * 32 * 12, machine_if(__builtin_cpu_supports("avx2"), machine_bytes_avx2) },
        { "int8 products, AVX-512 VNNI", { "avx512", NULL }, 1, 2 * 64 * 12, machine_if(vnni, machine_bytes_avx512) },
#ifdef MACHINE_AMX
        { "int8 tile products, AMX", { "amx", NULL }, 1, 2 * 16 * 16 * 64 * 4, machine_if(machine_has_amx(), machine_tiles_amx) }
#else
        { "int8 tile products, AMX", { "amx", NULL }, 1, 0, NULL }
#endif
    };
    for (i = 0; i < MACHINE_PEAKS; i++) p[i] = all[i];
}
#else
static inline void machine_find_peaks(machine_peak *p) { memset(p, 0, MACHINE_PEAKS * sizeof *p); }
#endif

/* ---- measuring --------------------------------------------------------------------------------------------------- */

/* Every thread its share of the buffer, or its rounds of a kernel. */
typedef struct machine_job {
    machine_read_fn *read;
    const unsigned char *buffer;
    size_t           part; /* bytes of a thread */
    machine_run_fn  *run;
    long             rounds;
} machine_job;
static inline void machine_task(void *arg, int32_t index)
{
    const machine_job *j = (const machine_job *)arg;
    if (j->run != NULL) j->run(j->rounds);
    else machine_sink += j->read(j->buffer + (size_t)index * j->part, j->part);
}
/* Median of the times of several passes, seconds. */
static inline double machine_time(pool *workers, int32_t threads, machine_job *job)
{
    double t[MACHINE_PASSES];
    int i;
    for (i = -1; i < MACHINE_PASSES; i++) { /* the first one wakes threads, pages and clocks */
        double begin = seconds_now();
        pool_run(workers, machine_task, job, threads);
        if (i >= 0) t[i] = seconds_now() - begin;
    }
    qsort(t, MACHINE_PASSES, sizeof *t, by_value);
    return t[MACHINE_PASSES / 2];
}
/* Bytes a second, from a buffer that no cache holds. */
static inline double machine_bandwidth(pool *workers, int32_t threads, size_t bytes)
{
    machine_job job;
    ltx_need need;
    ltx_mem buffer;
    double t;
    need.size = bytes; need.align = 1 << 21;
    buffer = lend(need);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise(buffer.ptr, bytes, MADV_HUGEPAGE); /* the machine's limit, not that of its page tables */
#endif
    memset(buffer.ptr, 1, bytes);
    memset(&job, 0, sizeof job);
    job.read = machine_reader();
    job.buffer = (const unsigned char *)buffer.ptr;
    job.part = bytes / (size_t)threads / 512 * 512;
    t = machine_time(workers, threads, &job);
    give_back(buffer);
    return (double)job.part * threads / t;
}
/* Operations a second; 0 if the machine does not have it. */
static inline double machine_speed(pool *workers, int32_t threads, const machine_peak *peak)
{
    machine_job job;
    if (peak->run == NULL) return 0;
    memset(&job, 0, sizeof job);
    job.run = peak->run;
    job.rounds = 1000000; /* some milliseconds */
    return peak->ops * (double)job.rounds * threads / machine_time(workers, threads, &job);
}
/* The peak that bounds products of this kind in an instruction set of ltx.h; -1 = none is known. */
static inline int machine_peak_of(const machine_peak *peaks, const char *isa, int integer)
{
    int i, k;
    for (i = 0; i < MACHINE_PEAKS; i++) for (k = 0; k < 2; k++)
        if (peaks[i].run != NULL && peaks[i].integer == integer && peaks[i].sets[k] != NULL && strncmp(isa, peaks[i].sets[k], strlen(peaks[i].sets[k])) == 0) return i;
    return -1;
}

#endif /* LTX_MACHINE_H */
