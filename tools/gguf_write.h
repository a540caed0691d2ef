/* gguf_write.h - the bytes of a GGUF file, in order; what ltx-convert.c and ltx-profile.c share
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   Include after ltx.h. The caller says where bytes go. A file is gguf_begin, every gguf_kv, every gguf_tensor with the offset
   of its data behind the directory, gguf_pad, then the data of each tensor followed by gguf_pad.                        */

#ifndef LTX_GGUF_WRITE_H
#define LTX_GGUF_WRITE_H

enum { KV_U32 = 4, KV_I32 = 5, KV_F32 = 6, KV_BOOL = 7, KV_STRING = 8, KV_ARRAY = 9 };

typedef struct gguf_out {
    void   (*put)(void *user, const void *data, size_t n);
    void    *user;
    uint64_t at; /* bytes put so far */
} gguf_out;

static inline void gguf_put(gguf_out *o, const void *data, size_t n)
{
    o->at += n;
    o->put(o->user, data, n);
}

static inline void gguf_int(gguf_out *o, uint64_t v, int size) /* little-endian whatever the host is */
{
    uint8_t raw[8];
    int i;
    for (i = 0; i < 8; i++) raw[i] = (uint8_t)(v >> 8 * i);
    gguf_put(o, raw, (size_t)size);
}

static inline void gguf_name(gguf_out *o, const char *name, size_t len)
{
    gguf_int(o, len, 8);
    gguf_put(o, name, len);
}

static inline void gguf_pad(gguf_out *o, uint64_t alignment)
{
    while (o->at % alignment) gguf_put(o, "", 1);
}

static inline void gguf_begin(gguf_out *o, uint64_t n_tensors, uint64_t n_kv)
{
    gguf_put(o, "GGUF", 4);
    gguf_int(o, 3, 4);
    gguf_int(o, n_tensors, 8);
    gguf_int(o, n_kv, 8);
}

static inline void gguf_kv(gguf_out *o, const ltx_gguf_kv *kv)
{
    gguf_name(o, kv->key, kv->key_len);
    gguf_int(o, kv->type, 4);
    if (kv->type == KV_ARRAY) gguf_int(o, kv->item_type, 4);
    if (kv->type == KV_ARRAY || kv->type == KV_STRING) gguf_int(o, kv->count, 8);
    gguf_put(o, kv->data, kv->size);
}

static inline void gguf_tensor(gguf_out *o, const char *name, size_t len, uint32_t n_dims, const uint64_t *dims, uint32_t type, uint64_t offset)
{
    uint32_t d;
    gguf_name(o, name, len);
    gguf_int(o, n_dims, 4);
    for (d = 0; d < n_dims; d++) gguf_int(o, dims[d], 8);
    gguf_int(o, type, 4);
    gguf_int(o, offset, 8);
}

#endif /* LTX_GGUF_WRITE_H */
