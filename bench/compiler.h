/* compiler.h - what the programs of bench/ say about how they were built
   SPDX-License-Identifier: MIT (text at the end of ltx.h) */
#ifndef BENCH_COMPILER_H
#define BENCH_COMPILER_H

#ifndef LTX_BENCH_FLAGS
#define LTX_BENCH_FLAGS "unknown"
#endif
#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

#endif
