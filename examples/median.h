/* median.h - the middle of measurements
   SPDX-License-Identifier: MIT (text at the end of ltx.h) */
#ifndef LTX_MEDIAN_H
#define LTX_MEDIAN_H

#include <stdlib.h>

static inline int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static inline double sorted_median(const double *x, int n) { return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2; }
static inline double median(double *x, int n) /* sorts x */
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return sorted_median(x, n);
}

#endif
