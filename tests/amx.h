/* amx.h - AMX on machines without it: a test-only emulator that lives in a SIGILL handler
   SPDX-License-Identifier: MIT

       #define _GNU_SOURCE                  before the first include
       #include "amx.h"
       switch (amx_emulate_start(0)) {
       case AMX_NONE:                       not x86-64 Linux
       case AMX_HARDWARE:                   this machine has AMX and this process may use it: nothing is emulated or counted
       case AMX_EMULATED:                   tile instructions of all threads work from now on, in 5 to 50 microseconds each
       }

   The compiled code runs as it is; each tile instruction raises SIGILL, is decoded and then done on tiles in software that belong
   to its thread. What the hardware answers with #UD or #GP because of the configuration ends in a message and abort(). What is no
   AMX instruction, or none that this file knows, ends as without the handler. The handler is plain C, so AddressSanitizer sees
   what tiles read and write. The rules are those of Intel's manual, volume 2: pages of the instructions, and exception classes
   AMX-E1 to AMX-E6. One thing differs: here a child of fork() keeps the tiles.

   amx_emulate_start(1) emulates on a machine with AMX too, by not asking Linux for permission to use it; where the process has
   permission already, the answer is still AMX_HARDWARE. TILERELEASE and STTILECFG need no permission and so escape it.

   amx_counts[AMX_TDPBSSD] etc. count what was emulated, in all threads; amx_names has the names; amx_counts_reset() starts again.
   amx_is_configured() tells whether this thread has left a configuration behind, amx_now() what is in its tiles. */
#ifndef AMX_H
#define AMX_H

enum { AMX_NONE, AMX_EMULATED, AMX_HARDWARE }; /* answers of amx_emulate_start */

enum { AMX_LDTILECFG, AMX_STTILECFG, AMX_TILERELEASE, AMX_TILEZERO, AMX_TILELOADD, AMX_TILELOADDT1, AMX_TILESTORED,
       AMX_TDPBSSD, AMX_TDPBSUD, AMX_TDPBUSD, AMX_TDPBUUD, AMX_TDPBF16PS, AMX_KINDS };

#if !defined(__x86_64__) || !defined(__LP64__) || !defined(__linux__) || !defined(__GNUC__)
static inline int amx_emulate_start(int force) { return (void)force, AMX_NONE; }
#else
#define AMX_EMULATOR 1 /* defined where there is one */
#ifndef _GNU_SOURCE
#error "amx.h: define _GNU_SOURCE before the first include"
#endif
#include <cpuid.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static const char *const amx_names[AMX_KINDS] = { "ldtilecfg", "sttilecfg", "tilerelease", "tilezero", "tileloadd", "tileloaddt1",
    "tilestored", "tdpbssd", "tdpbsud", "tdpbusd", "tdpbuud", "tdpbf16ps" };
static volatile unsigned long long amx_counts[AMX_KINDS]; /* volatile: compilers do not know that tile instructions call us */

/* The tiles of a thread. Outside of its configured shape every tile is zero: all of them are when a configuration is loaded, and
   whatever writes a tile keeps it so. */
typedef struct amx_state {
    uint8_t cfg[64]; /* [0] palette, 0: not configured; [1] start row; [16 + 2t], [17 + 2t] bytes per row; [48 + t] rows */
    uint8_t tile[8][16][64];
} amx_state;
static __thread amx_state amx_tiles;

typedef struct amx_insn {
    int kind, reg, rm, v; /* one of AMX_KINDS; tiles of the fields reg, r/m and vvvv: destination, first and second source */
    uint64_t at, mem, stride, next; /* addresses of the instruction, its operand in memory, the next instruction */
} amx_insn;

static inline int amx_rows(int t)  { return amx_tiles.cfg[48 + t]; }
static inline int amx_colsb(int t) { return amx_tiles.cfg[16 + 2 * t] | amx_tiles.cfg[17 + 2 * t] << 8; }

/* ---- faults ------------------------------------------------------------------------------------------------ */

static inline void amx_check(const amx_insn *in, int ok, const char *fault, const char *why)
{
    if (ok) return;
    fprintf(stderr, "amx.h: %s: %s at 0x%llx: %s\n", fault, amx_names[in->kind], (unsigned long long)in->at, why);
    if (in->kind >= AMX_TILEZERO) fprintf(stderr, "amx.h: tmm%d is %dx%d", in->reg, amx_rows(in->reg), amx_colsb(in->reg));
    if (in->kind >= AMX_TDPBSSD) fprintf(stderr, ", tmm%d is %dx%d, tmm%d is %dx%d", in->rm, amx_rows(in->rm), amx_colsb(in->rm),
                                         in->v, amx_rows(in->v), amx_colsb(in->v));
    if (in->kind >= AMX_TILEZERO) fprintf(stderr, " (rows x bytes)\n");
    abort();
}

static inline void amx_check_tile(const amx_insn *in, int t)
{
    amx_check(in, amx_tiles.cfg[0] != 0, "#UD", "no configuration is loaded");
    amx_check(in, amx_rows(t) != 0, "#UD", "the configuration has no such tile");
    if (in->kind != AMX_TILEZERO) amx_check(in, amx_colsb(t) % 4 == 0, "#UD", "bytes per row are not a multiple of 4");
}

/* ---- decoding ---------------------------------------------------------------------------------------------- */

/* 0 if the bytes at rip are not one of the instructions. All of them are of map 0F38 and so have the three-byte VEX prefix, with
   W and L zero; 64, FS, is what a thread-local configuration gets, and the other segment prefixes are padding. */
static inline int amx_decode(amx_insn *in, const greg_t *gregs)
{
    static const int order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                   REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    const uint8_t *start = (const uint8_t *)(uintptr_t)gregs[REG_RIP], *p = start;
    uint64_t segment = 0, index = 0;
    int r, x, b, pp, op, mod, base, disp = 0;
    for (; *p == 0x26 || *p == 0x2e || *p == 0x36 || *p == 0x3e || *p == 0x64; p++) {
        if (p - start > 10) return 0;
        if (*p == 0x64) __asm__("movq %%fs:0, %0" : "=r"(segment)); /* the first word of the thread's block is its address */
    }
    if (p[0] != 0xc4 || (p[1] & 0x1f) != 2 || (p[2] & 0x84) != 0) return 0;
    r = ~p[1] >> 7 & 1; x = ~p[1] >> 6 & 1; b = ~p[1] >> 5 & 1; /* stored inverted, as is vvvv */
    in->v = ~p[2] >> 3 & 15; pp = p[2] & 3; op = p[3];
    mod = p[4] >> 6; in->reg = (p[4] >> 3 & 7) | r << 3; in->rm = (p[4] & 7) | b << 3;
    p += 5;

    if (op == 0x49 && mod == 3 && in->rm == 0 && pp == 0 && in->reg == 0) in->kind = AMX_TILERELEASE;
    else if (op == 0x49 && mod == 3 && in->rm == 0 && pp == 3) in->kind = AMX_TILEZERO;
    else if (op == 0x49 && mod != 3 && in->reg == 0 && pp < 2) in->kind = pp == 0 ? AMX_LDTILECFG : AMX_STTILECFG;
    else if (op == 0x4b && mod != 3 && (in->rm & 7) == 4 && pp != 0)
        in->kind = pp == 3 ? AMX_TILELOADD : pp == 1 ? AMX_TILELOADDT1 : AMX_TILESTORED;
    else if (op == 0x5e && mod == 3)
        in->kind = pp == 3 ? AMX_TDPBSSD : pp == 2 ? AMX_TDPBSUD : pp == 1 ? AMX_TDPBUSD : AMX_TDPBUUD;
    else if (op == 0x5c && mod == 3 && pp == 2) in->kind = AMX_TDPBF16PS;
    else return 0;
    if (in->reg > 7 || (mod == 3 && in->rm > 7) || (in->kind >= AMX_TDPBSSD ? in->v > 7 : in->v != 0)) return 0;

    base = in->rm;
    if (mod != 3 && (base & 7) == 4) { /* SIB: index 4 is none, base 5 without displacement is a displacement alone */
        int i = (*p >> 3 & 7) | x << 3;
        if (i != 4) index = (uint64_t)gregs[order[i]] << (*p >> 6);
        base = (*p++ & 7) | b << 3;
        if (mod == 0 && (base & 7) == 5) base = -1;
    } else if (mod == 0 && (base & 7) == 5) base = 16; /* rip */
    if (mod == 1) disp = (int8_t)*p++;
    else if (mod == 2 || (mod == 0 && (base < 0 || base == 16))) { memcpy(&disp, p, 4); p += 4; }
    in->at = (uint64_t)(uintptr_t)start;
    in->next = (uint64_t)(uintptr_t)p;
    in->stride = index;
    in->mem = (uint64_t)(int64_t)disp + segment + (base < 0 ? 0 : base == 16 ? in->next : (uint64_t)gregs[order[base]]);
    if (in->kind == AMX_LDTILECFG || in->kind == AMX_STTILECFG) in->mem += index;
    return 1;
}

/* ---- doing ------------------------------------------------------------------------------------------------- */

static inline void amx_load_config(const amx_insn *in)
{
    uint8_t cfg[64], zero[16] = { 0 };
    memcpy(cfg, (const void *)(uintptr_t)in->mem, 64);
    amx_check(in, cfg[0] <= 1, "#GP", "palette is not 0 or 1");
    for (int t = 0; t < 8 && cfg[0]; t++) {
        int colsb = cfg[16 + 2 * t] | cfg[17 + 2 * t] << 8, rows = cfg[48 + t];
        amx_check(in, colsb <= 64 && rows <= 16, "#GP", "a tile has more than 16 rows or 64 bytes per row");
        amx_check(in, (colsb == 0) == (rows == 0), "#GP", "a tile has rows without bytes or bytes without rows");
    }
    if (cfg[0]) amx_check(in, !memcmp(cfg + 2, zero, 14) && !memcmp(cfg + 32, zero, 16) && !memcmp(cfg + 56, zero, 8), "#GP",
                          "a reserved byte of the configuration is not zero");
    memset(&amx_tiles, 0, sizeof amx_tiles);
    if (cfg[0]) memcpy(amx_tiles.cfg, cfg, 64);
}

/* TILELOADD, TILELOADDT1, TILESTORED. */
static inline void amx_move(const amx_insn *in)
{
    int t = in->reg, rows = amx_rows(t);
    amx_check_tile(in, t);
    amx_check(in, amx_tiles.cfg[1] < rows, "#UD", "the start row is not a row of the tile");
    for (int i = amx_tiles.cfg[1]; i < rows; i++) {
        void *mem = (void *)(uintptr_t)(in->mem + (uint64_t)i * in->stride);
        if (in->kind == AMX_TILESTORED) memcpy(mem, amx_tiles.tile[t][i], (size_t)amx_colsb(t));
        else memcpy(amx_tiles.tile[t][i], mem, (size_t)amx_colsb(t));
    }
}

/* Four bytes each, sums modulo 2^32: their order does not matter. The loops over all 16 columns add zeros at the end. */
static inline void amx_dot_int8(const amx_insn *in)
{
    uint32_t sa = in->kind == AMX_TDPBSSD || in->kind == AMX_TDPBSUD ? 128 : 0; /* (u ^ 128) - 128 is the signed byte */
    uint32_t sb = in->kind == AMX_TDPBSSD || in->kind == AMX_TDPBUSD ? 128 : 0;
    uint32_t c[16][16];
    memcpy(c, amx_tiles.tile[in->reg], sizeof c);
    for (int k = 0; k < amx_rows(in->v); k++)
        for (int j = 0; j < 4; j++) {
            uint32_t b[16];
            for (int n = 0; n < 16; n++) b[n] = (amx_tiles.tile[in->v][k][4 * n + j] ^ sb) - sb;
            for (int m = 0; m < amx_rows(in->reg); m++) {
                uint32_t a = (amx_tiles.tile[in->rm][m][4 * k + j] ^ sa) - sa;
                for (int n = 0; n < 16; n++) c[m][n] += a * b[n];
            }
        }
    memcpy(amx_tiles.tile[in->reg], c, sizeof c);
}

static inline float amx_flush(float f) { return fabsf(f) < 0x1p-126f ? copysignf(0.0f, f) : f; } /* denormals count as zero */
static inline float amx_bf16(const uint8_t *p)
{
    uint32_t u = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float f;
    memcpy(&f, &u, 4);
    return amx_flush(f);
}

/* Even and odd products each in a chain of fma, then both sums and the tile. */
static inline void amx_dot_bf16(const amx_insn *in)
{
    for (int m = 0; m < amx_rows(in->reg); m++)
        for (int n = 0; n < amx_colsb(in->reg) / 4; n++) {
            float sum[2] = { 0.0f, 0.0f }, c;
            for (int k = 0; k < amx_rows(in->v); k++)
                for (int j = 0; j < 2; j++)
                    sum[j] = amx_flush(fmaf(amx_bf16(&amx_tiles.tile[in->rm][m][4 * k + 2 * j]),
                                            amx_bf16(&amx_tiles.tile[in->v][k][4 * n + 2 * j]), sum[j]));
            memcpy(&c, &amx_tiles.tile[in->reg][m][4 * n], 4);
            c = amx_flush(amx_flush(c) + amx_flush(sum[0] + sum[1]));
            memcpy(&amx_tiles.tile[in->reg][m][4 * n], &c, 4);
        }
}

static inline void amx_dot(const amx_insn *in)
{
    amx_check_tile(in, in->reg);
    amx_check_tile(in, in->rm);
    amx_check_tile(in, in->v);
    amx_check(in, in->reg != in->rm && in->reg != in->v && in->rm != in->v, "#UD", "the three tiles are not different");
    amx_check(in, amx_rows(in->reg) == amx_rows(in->rm), "#UD", "rows of destination and first source differ");
    amx_check(in, amx_colsb(in->reg) == amx_colsb(in->v), "#UD", "bytes per row of destination and second source differ");
    amx_check(in, amx_colsb(in->rm) / 4 == amx_rows(in->v), "#UD",
              "rows of the second source are not bytes per row / 4 of the first");
    if (in->kind == AMX_TDPBF16PS) amx_dot_bf16(in);
    else amx_dot_int8(in);
}

/* ---- the handler ------------------------------------------------------------------------------------------- */

static struct sigaction amx_before;

static inline void amx_on_sigill(int sig, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    amx_insn in;
    if (info->si_code <= 0 || !amx_decode(&in, gregs)) { /* sent by someone, or not ours: happens again, without this handler */
        sigaction(SIGILL, &amx_before, NULL);
        if (info->si_code <= 0) raise(sig);
        return;
    }
    switch (in.kind) {
    case AMX_LDTILECFG:   amx_load_config(&in); break;
    case AMX_STTILECFG:   memcpy((void *)(uintptr_t)in.mem, amx_tiles.cfg, 64); break;
    case AMX_TILERELEASE: memset(&amx_tiles, 0, sizeof amx_tiles); break;
    case AMX_TILEZERO:    amx_check_tile(&in, in.reg); memset(amx_tiles.tile[in.reg], 0, sizeof amx_tiles.tile[0]); break;
    case AMX_TILELOADD: case AMX_TILELOADDT1: case AMX_TILESTORED: amx_move(&in); break;
    default: amx_dot(&in); break;
    }
    if (in.kind >= AMX_TILEZERO) amx_tiles.cfg[1] = 0;
    __atomic_fetch_add(&amx_counts[in.kind], 1, __ATOMIC_RELAXED);
    gregs[REG_RIP] = (greg_t)in.next;
}

/* What the tiles of this thread are now; compilers do not know that tile instructions change them. */
static inline const amx_state *amx_now(void)
{
    const amx_state *now = &amx_tiles;
    __asm__ volatile("" : "+r"(now) :: "memory");
    return now;
}

static inline int amx_is_configured(void)
{
    return amx_now()->cfg[0] != 0;
}

static inline void amx_counts_reset(void)
{
    for (int i = 0; i < AMX_KINDS; i++) __atomic_store_n(&amx_counts[i], 0, __ATOMIC_RELAXED);
}

/* Does this machine have int8 tiles that Linux saves? Asks for no permission. */
static inline int amx_machine(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0; /* osxsave */
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    if ((a & 3u << 17) != 3u << 17) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & 3u << 24) != 3u << 24) return 0;
    return __get_cpuid_count(0x1d, 0, &a, &b, &c, &d) && a >= 1; /* palettes: some virtual machines have none */
}

static inline int amx_emulate_start(int force)
{
    struct sigaction action, now;
    if (amx_machine()) {
        uint64_t may = 0; /* ARCH_GET_XCOMP_PERM, ARCH_REQ_XCOMP_PERM; state component 18 is the tiles */
        if (syscall(SYS_arch_prctl, 0x1022, &may) == 0 && (may >> 18 & 1)) return AMX_HARDWARE;
        if (!force && syscall(SYS_arch_prctl, 0x1023, 18L) == 0) return AMX_HARDWARE;
    }
    memset(&action, 0, sizeof action);
    action.sa_sigaction = amx_on_sigill;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGILL, &action, &now) != 0) return AMX_NONE;
    if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != amx_on_sigill) amx_before = now; /* not when started twice */
    return AMX_EMULATED;
}

#endif
#endif /* AMX_H */
