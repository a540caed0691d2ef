/* npz.h - arrays of a NumPy archive (.npz: a zip of .npy, stored without compression)
   SPDX-License-Identifier: MIT (text at the end of ltx.h) */
#ifndef NPZ_H
#define NPZ_H

#include "test.h"

static inline unsigned npz_number(const unsigned char *p, int bytes)
{
    unsigned v = 0;
    while (bytes-- > 0) v = v << 8 | p[bytes];
    return v;
}

static inline float npz_float(const void *p)
{
    unsigned u = npz_number((const unsigned char *)p, 4);
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Where the floats of array `name` begin, little-endian at any address; *count of them. NULL if there is none. */
static inline const unsigned char *npz_find(const test_block *zip, const char *name, int *count)
{
    size_t at = 0, len = strlen(name);
    while (at + 30 < zip->size && npz_number(zip->ptr + at, 4) == 0x04034b50u) {
        const unsigned char *h = zip->ptr + at;
        size_t name_len = npz_number(h + 26, 2), size = npz_number(h + 18, 4), data = at + 30 + name_len + npz_number(h + 28, 2);
        if (npz_number(h + 8, 2) != 0 || data + size > zip->size) return NULL; /* compressed, or cut */
        if (name_len == len + 4 && memcmp(h + 30, name, len) == 0) {
            size_t head = 10 + npz_number(zip->ptr + data + 8, 2);
            *count = (int)((size - head) / 4);
            return zip->ptr + data + head;
        }
        at = data + size;
    }
    return NULL;
}

#endif
