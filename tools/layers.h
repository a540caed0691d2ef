/* layers.h - what the branches of a model do to the hidden vectors that pass them: similarity, change of length, rank of attention;
   plans as masks. What ltx-profile.c and ltx-kwt1.c share.
   SPDX-License-Identifier: MIT (text at the end of ltx.h)

   Include after ltx.h, examples/common.h and math.h. A branch is the attention (0) or the ffn (1) of a layer. */
#ifndef LTX_LAYERS_H
#define LTX_LAYERS_H

/* ---- masks: which branches of each layer run --------------------------------------------------------------------- */

typedef struct plan_mask {
    uint8_t run[LTX_MAX_LAYERS];
    float   scale[LTX_MAX_LAYERS][2]; /* factors of attention and ffn, 0 = 1, as in ltx_step */
} plan_mask;

static inline int branch_bit(int k) { return k == 0 ? LTX_ATTN : LTX_FFN; }
static inline plan_mask mask_full(const ltx_model *m)
{
    static ltx_step steps[LTX_MAX_LAYERS];
    plan_mask x;
    int32_t count, i;
    memset(&x, 0, sizeof x);
    check(ltx_plan_full(m, steps, LTX_MAX_LAYERS, &count), "plan");
    for (i = 0; i < count; i++) x.run[steps[i].layer] = steps[i].run;
    return x;
}
static inline plan_mask mask_without(plan_mask x, int layer, int run)
{
    x.run[layer] = (uint8_t)(x.run[layer] & ~run);
    return x;
}
static inline int mask_branches(const plan_mask *x, int layers)
{
    int l, n = 0;
    for (l = 0; l < layers; l++) n += (x->run[l] & LTX_ATTN ? 1 : 0) + (x->run[l] & LTX_FFN ? 1 : 0);
    return n;
}
static inline int mask_steps(const plan_mask *x, int layers, ltx_step *steps)
{
    int l, n = 0;
    for (l = 0; l < layers; l++) {
        const ltx_step step = { .layer = (int16_t)l, .run = x->run[l], .attn_scale = x->scale[l][0], .ffn_scale = x->scale[l][1] };
        if (x->run[l] != 0) steps[n++] = step;
    }
    return n;
}
/* The plan without one branch more (`whole`: one layer more) that costs least; its cost in *least. */
typedef double mask_cost(void *user, const plan_mask *x);
static inline plan_mask mask_cheapest(const plan_mask *x, int layers, int whole, mask_cost *cost, void *user, double *least)
{
    plan_mask best = *x;
    int l, k;
    *least = HUGE_VAL;
    for (l = 0; l < layers; l++) for (k = 0; k < (whole ? 1 : 2); k++) {
        const int run = whole ? LTX_ATTN | LTX_FFN : branch_bit(k);
        plan_mask y = mask_without(*x, l, run);
        double c;
        if (!(x->run[l] & run)) continue;
        c = cost(user, &y);
        if (c < *least) { *least = c; best = y; }
    }
    return best;
}

/* ---- rank of attention -------------------------------------------------------------------------------------------
   A matrix of attention probabilities counts as many ranks as it has singular values in RANK_SHARE of the sum of all their squares: the rank
   of the nearest matrix whose squared error is a tenth. The exact rank says nothing, since every causal matrix without zeros on its
   diagonal has full rank; and the stable rank |A|_F^2 / |A|_2^2 is at most 2 or so for every matrix in which each row gives half its weight to the
   first token, wherever the other half goes. 1: all rows look at the same place; nine tenths of the rows: each row looks at itself alone. */
#define RANK_SHARE .9
enum { RANK_ROWS = 128 }; /* most rows of a matrix: its cost grows with their third power */

/* A symmetric matrix g [n][n] to one with the same eigenvalues, d on its diagonal and e beside it (Householder); g is used up. */
static inline void tridiagonal(double *g, int n, double *d, double *e, double *w)
{
    int i, j, k;
    for (k = 0; k < n; k++) {
        double length = 0, half, vw = 0, *v = g + k * n; /* v: of row k what is right of the diagonal; half: of v.v */
        d[k] = v[k];
        for (i = k + 1; i < n; i++) length += v[i] * v[i];
        e[k] = length = k + 1 < n && v[k + 1] > 0 ? -sqrt(length) : sqrt(length);
        if (length == 0) continue;
        v[k + 1] -= length;
        half = -length * v[k + 1];
        for (i = k + 1; i < n; i++) {
            for (j = k + 1, w[i] = 0; j < n; j++) w[i] += g[i * n + j] * v[j];
            vw += w[i] * v[i];
        }
        for (i = k + 1; i < n; i++) w[i] = (w[i] - vw / (2 * half) * v[i]) / half;
        for (i = k + 1; i < n; i++) for (j = k + 1; j < n; j++) g[i * n + j] -= v[i] * w[j] + w[i] * v[j];
    }
}
static inline int eigenvalues_above(const double *d, const double *e, int n, double x) /* by the signs of a Sturm sequence */
{
    double q = 1;
    int i, above = 0;
    for (i = 0; i < n; i++) {
        q = d[i] - x - (i > 0 ? e[i - 1] * e[i - 1] / q : 0);
        if (fabs(q) < 1e-200) q = -1e-200;
        above += q > 0;
    }
    return above;
}
/* How many singular values of a [n][n] hold RANK_SHARE of the sum of their squares. */
static inline int share_rank(const double *a, int n)
{
    double *g = (double *)alloc((size_t)n * (size_t)(n + 3) * sizeof *g), *d = g + n * n, *e = d + n, *w = e + n, all = 0, sum = 0, high;
    int i, j, c, k;
    for (i = 0; i < n; i++) for (j = 0; j <= i; j++) {
        double dot = 0;
        for (c = 0; c < n; c++) dot += a[i * n + c] * a[j * n + c];
        g[i * n + j] = g[j * n + i] = dot;
        if (i == j) all += dot;
    }
    tridiagonal(g, n, d, e, w);
    for (k = 0, high = all * (1 + 1e-9); k < n && sum < RANK_SHARE * all * (1 - 1e-9); k++) { /* the largest, the next, ... */
        double low = 0;
        for (i = 0; i < 44; i++) {
            const double middle = (low + high) / 2;
            if (eigenvalues_above(d, e, n, middle) > k) low = middle;
            else high = middle;
        }
        sum += high;
    }
    free(g);
    return k;
}

/* Rows as the attention of a layer reads them. */
static inline void attention_input(const ltx_model *m, const ltx_layer *y, const float *hidden, int rows, float *out)
{
    const float eps = m->norm_eps == 0 ? 1e-5f : m->norm_eps;
    float *bias = (float *)alloc((size_t)m->dim * sizeof *bias);
    int i, d;
    memset(bias, 0, (size_t)m->dim * sizeof *bias);
    if (y->attn_norm_bias.data != NULL) check(ltx_mat_row(&y->attn_norm_bias, 0, bias), "bias of a norm");
    memcpy(out, hidden, (size_t)rows * (size_t)m->dim * sizeof *out);
    for (i = 0; i < rows && !m->norm_after && y->attn_norm.data != NULL; i++, out += m->dim) {
        double mean = 0; /* without it, a layer norm is an RMS norm */
        for (d = 0; d < m->dim && m->norm == LTX_NORM_LAYER; d++) mean += (double)out[d] / m->dim;
        for (d = 0; d < m->dim; d++) out[d] = (float)((double)out[d] - mean);
        check(ltx_rmsnorm(LTX_ISA_AUTO, out, y->attn_norm.data, m->dim, eps, out), "norm");
        for (d = 0; d < m->dim; d++) out[d] += bias[d];
    }
    free(bias);
}
/* Queries or keys [rows][w->rows], in a malloc block. */
static inline float *attention_heads(const ltx_model *m, const ltx_mat *w, const ltx_mat *bias, const ltx_mat *norm, int head_dim, const float *input, int rows)
{
    const float eps = m->norm_eps == 0 ? 1e-5f : m->norm_eps;
    float *out = (float *)alloc((size_t)rows * (size_t)w->rows * sizeof *out), *b = (float *)alloc((size_t)w->rows * sizeof *b);
    ltx_need need;
    ltx_mem work;
    int i, d;
    check(ltx_matmul_need(w, rows, &need), "queries and keys");
    work = lend(need);
    check(ltx_matmul(LTX_ISA_AUTO, w, input, rows, work, out), "queries and keys");
    give_back(work);
    memset(b, 0, (size_t)w->rows * sizeof *b);
    if (bias->data != NULL) check(ltx_mat_row(bias, 0, b), "bias");
    for (i = 0; i < rows; i++) {
        float *x = out + (size_t)i * (size_t)w->rows;
        for (d = 0; d < w->rows; d++) x[d] += b[d];
        for (d = 0; d < w->rows && norm->data != NULL; d += head_dim) check(ltx_rmsnorm(LTX_ISA_AUTO, x + d, norm->data, head_dim, eps, x + d), "norm of a head");
        check(ltx_rope_rotate(LTX_ISA_AUTO, m, x, w->rows / head_dim, i), "rope");
    }
    free(b);
    return out;
}
/* The probabilities p [n_heads][rows][rows] with which rows at positions 0, 1, ... look at each other. */
static inline void attention_probabilities(const ltx_model *m, int layer, const float *hidden, int rows, double *p)
{
    const ltx_layer *y = &m->layers[layer];
    const int head_dim = y->wq.rows / m->n_heads, group = y->wq.rows / y->wk.rows;
    const float scale = m->attn_scale == 0 ? 1 / sqrtf((float)head_dim) : m->attn_scale;
    float *input = (float *)alloc((size_t)rows * (size_t)m->dim * sizeof *input), *score = (float *)alloc((size_t)rows * sizeof *score), *q, *keys;
    int h, i, j, d;
    attention_input(m, y, hidden, rows, input);
    q = attention_heads(m, &y->wq, &y->bq, &y->q_norm, head_dim, input, rows);
    keys = attention_heads(m, &y->wk, &y->bk, &y->k_norm, head_dim, input, rows);
    for (h = 0; h < m->n_heads; h++) for (i = 0; i < rows; i++, p += rows) {
        const int seen = m->both_ways ? rows : i + 1;
        for (j = 0; j < seen; j++) {
            const float *a = q + i * y->wq.rows + h * head_dim, *b = keys + j * y->wk.rows + h / group * head_dim;
            double dot = 0;
            for (d = 0; d < head_dim; d++) dot += (double)a[d] * (double)b[d];
            score[j] = (float)dot * scale;
        }
        check(ltx_softmax(LTX_ISA_AUTO, score, seen), "softmax");
        for (j = 0; j < rows; j++) p[j] = j < seen ? (double)score[j] : 0;
    }
    free(input); free(score); free(q); free(keys);
}
static inline double attention_rank(const ltx_model *m, int layer, const float *hidden, int rows) /* mean over heads */
{
    double *p = (double *)alloc((size_t)m->n_heads * (size_t)rows * (size_t)rows * sizeof *p), sum = 0;
    int h;
    attention_probabilities(m, layer, hidden, rows, p);
    for (h = 0; h < m->n_heads; h++) sum += share_rank(p + (size_t)h * (size_t)rows * (size_t)rows, rows);
    free(p);
    return sum / m->n_heads;
}

/* ---- a tap that compares each branch's rows before and after ------------------------------------------------------ */

/* Of the vectors before and after a branch; *ratio: of their lengths, may be NULL. 0 if one of them is zero. */
static inline double turned(const float *before, const float *after, int n, double *ratio)
{
    double xx = 0, yy = 0, xy = 0;
    int i;
    for (i = 0; i < n; i++) {
        const double x = (double)before[i], y = (double)after[i];
        xx += x * x; yy += y * y; xy += x * y;
    }
    if (ratio != NULL) *ratio = xx > 0 ? sqrt(yy / xx) : 0;
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : 0;
}

typedef struct turn { double cosine, norm, rank; long rows, ranks; } turn; /* sums, then means; rank: of an attention */
typedef struct watch { /* for a plan whose steps are single branches */
    const ltx_model *model;
    const ltx_step  *steps;
    float *before;    /* [rows of a sequence][dim] */
    int    rank_rows; /* of the first batch; 0: no rank is taken */
    turn (*turns)[2]; /* [layers] */
} watch;

static inline int32_t watch_tap(void *user, const ltx_view *v)
{
    watch *w = (watch *)user;
    float *before = w->before + (size_t)v->position * (size_t)v->dim;
    double cosine, ratio;
    if (v->step >= 0) {
        const int k = w->steps[v->step].run & LTX_ATTN ? 0 : 1;
        turn *t = &w->turns[v->layer][k];
        if (k == 0 && v->position == 0 && w->rank_rows > 0) { /* the other rows of the batch still stand as they were */
            t->rank += attention_rank(w->model, v->layer, w->before, w->rank_rows);
            t->ranks++;
        }
        cosine = turned(before, v->hidden, v->dim, &ratio);
        if (ratio > 0) { t->cosine += cosine; t->norm += ratio; t->rows++; }
    }
    memcpy(before, v->hidden, (size_t)v->dim * sizeof *before);
    return LTX_GO;
}
static inline void watch_means(watch *w)
{
    int l, k;
    for (l = 0; l < w->model->n_layers; l++) for (k = 0; k < 2; k++) {
        turn *t = &w->turns[l][k];
        if (t->rows > 0) { t->cosine /= (double)t->rows; t->norm /= (double)t->rows; }
        if (t->ranks > 0) t->rank /= (double)t->ranks;
    }
}

#endif /* LTX_LAYERS_H */
