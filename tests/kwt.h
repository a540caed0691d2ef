/* kwt.h - KWT-1, an encoder of twelve layers that spots keywords, and the inputs recorded with it
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   Include after ltx.h. The checkpoint is not part of this repository. */
#ifndef KWT_H
#define KWT_H

#include "npz.h"

enum { KWT_DIM = 64, KWT_LAYERS = 12, KWT_WINDOWS = 98, KWT_MFCC = 40, KWT_ROWS = KWT_WINDOWS + 1, KWT_LABELS = 12, KWT_CLIPS = 4 };
static const char *const kwt_clips[KWT_CLIPS] = {"yes", "no", "silence", "noise"};

typedef struct kwt {
    test_block weights, clips;
    ltx_layer  layers[KWT_LAYERS];
    ltx_model  m;
    int        wrong;                    /* arrays that are absent or have another size */
    float      rows[KWT_ROWS * KWT_DIM]; /* of a clip: windows, then the class token, whose answer it is */
    float      logits[KWT_LABELS];       /* recorded */
} kwt;

/* Where the checkpoint is: models/kwt1 in LTX_SHARED, else in ../shared. */
static inline const char *kwt_folder(void)
{
    static char path[1024];
    const char *shared = getenv("LTX_SHARED");
    snprintf(path, sizeof path, "%s/models/kwt1", shared != NULL && *shared != 0 ? shared : "../shared");
    return path;
}
static inline ltx_mat kwt_mat(kwt *k, const char *prefix, const char *name, int rows, int cols)
{
    char key[40];
    int count = 0;
    ltx_mat m = {NULL, LTX_F32, 0, 0};
    m.rows = rows; m.cols = cols;
    snprintf(key, sizeof key, "%s%s", prefix, name);
    m.data = npz_find(&k->weights, key, &count);
    k->wrong += m.data == NULL || count != rows * cols;
    return m;
}
static inline test_block kwt_read(const char *folder, const char *name)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return test_read_file(path);
}
/* 0: no such files. Look at k->wrong afterwards. */
static inline int kwt_open(kwt *k, const char *folder)
{
    memset(k, 0, sizeof *k);
    k->weights = kwt_read(folder, "kwt1-weights-f32.npz");
    k->clips = kwt_read(folder, "kwt1-expected.npz");
    if (k->weights.ptr == NULL || k->clips.ptr == NULL) return 0;
    for (int i = 0; i < KWT_LAYERS; i++) {
        ltx_layer *l = &k->layers[i];
        char p[16];
        snprintf(p, sizeof p, "blk%d.", i);
        l->wq = kwt_mat(k, p, "q.w", 64, 64); l->wk = kwt_mat(k, p, "k.w", 64, 64); l->wv = kwt_mat(k, p, "v.w", 64, 64);
        l->wo = kwt_mat(k, p, "o.w", 64, 64); l->bo = kwt_mat(k, p, "o.b", 1, 64);
        l->w_up = kwt_mat(k, p, "fc1.w", 256, 64); l->b_up = kwt_mat(k, p, "fc1.b", 1, 256);
        l->w_down = kwt_mat(k, p, "fc2.w", 64, 256); l->b_down = kwt_mat(k, p, "fc2.b", 1, 64);
        l->attn_norm = kwt_mat(k, p, "ln1.g", 1, 64); l->attn_norm_bias = kwt_mat(k, p, "ln1.b", 1, 64);
        l->ffn_norm = kwt_mat(k, p, "ln2.g", 1, 64); l->ffn_norm_bias = kwt_mat(k, p, "ln2.b", 1, 64);
    }
    k->m.dim = KWT_DIM; k->m.n_layers = KWT_LAYERS; k->m.n_heads = 1; k->m.vocab = KWT_LABELS; k->m.ctx = KWT_ROWS;
    k->m.rope_pairs = LTX_ROPE_NONE; k->m.act = LTX_ACT_GELU; k->m.norm = LTX_NORM_LAYER; k->m.norm_after = 1; k->m.both_ways = 1; k->m.norm_eps = 1e-6f;
    k->m.head = kwt_mat(k, "", "head.w", KWT_LABELS, KWT_DIM); k->m.head_bias = kwt_mat(k, "", "head.b", 1, KWT_LABELS);
    k->m.layers = k->layers;
    return 1;
}
static inline void kwt_close(kwt *k)
{
    test_free(&k->weights);
    test_free(&k->clips);
}
/* Rows of a clip: a window of 40 MFCC through the patch matrix, and learned positions; the class token has the first position. `later`: the sound comes so
   many windows later, with the first or last window repeated. logits [KWT_LABELS]: those recorded (of the clip as it is), may be NULL. */
static inline int kwt_clip(kwt *k, const char *name, int later, float *rows, float *logits)
{
    char key[24];
    int n = 0, labels = 0;
    ltx_mat w = kwt_mat(k, "", "patch.w", KWT_DIM, KWT_MFCC), b = kwt_mat(k, "", "patch.b", 1, KWT_DIM), pos = kwt_mat(k, "", "pos", KWT_ROWS, KWT_DIM), cls = kwt_mat(k, "", "cls", 1, KWT_DIM);
    snprintf(key, sizeof key, "logits.%s", name);
    const unsigned char *want = npz_find(&k->clips, key, &labels);
    snprintf(key, sizeof key, "feat.%s", name);
    const unsigned char *feat = npz_find(&k->clips, key, &n);
    if (k->wrong || want == NULL || labels != KWT_LABELS || feat == NULL || n != KWT_WINDOWS * KWT_MFCC) return 0;
    for (int i = 0; i < KWT_LABELS && logits != NULL; i++) logits[i] = npz_float(want + 4 * i);
    for (int r = 0; r < KWT_ROWS; r++) for (int d = 0; d < KWT_DIM; d++) {
        const int from = r - later < 0 ? 0 : r - later >= KWT_WINDOWS ? KWT_WINDOWS - 1 : r - later;
        double x = (double)npz_float((const unsigned char *)(r < KWT_WINDOWS ? b.data : cls.data) + 4 * d);
        for (int c = 0; c < KWT_MFCC && r < KWT_WINDOWS; c++)
            x += (double)npz_float((const unsigned char *)w.data + 4 * (d * KWT_MFCC + c)) * (double)npz_float(feat + 4 * (from * KWT_MFCC + c));
        rows[r * KWT_DIM + d] = (float)(x + (double)npz_float((const unsigned char *)pos.data + 4 * ((r + 1) % KWT_ROWS * KWT_DIM + d)));
    }
    return 1;
}

#endif /* KWT_H */
