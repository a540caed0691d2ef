/* ltx.h - v0.1.0 - transformers at variable depth, in one C header
   SPDX-License-Identifier: MIT (text at the end of this file)

   >>manual     what it is, how to use it, words, memory, threads, errors, same bits, limits
   >>config     macros that you may define before the include
   >>api        public types and functions, each documented where it stands
   The implementation; each section calls only sections above it:
   >>platform   compiler, byte order, fused multiply-add, checked sizes, arena, log
   >>formats    number formats, one row of traits each
   >>vector     instruction sets: sixteen lanes, a dozen operations per set
   >>functions  exp, log, tanh, sine and cosine, activations
   >>matrix     kernels of matrix products
   >>norms      kernels of norms, rope, softmax, attention
   >>kernels    the table of kernels, choice of a set, threads
   >>products   the driver of matrix products
   >>cache      keys and values, windows, rewind
   >>attention  scores, softmax, values
   >>sampling   what logits say, probabilities, seeded draws
   >>model      the check of a model at the door
   >>session    layout of the three blocks, init, checks of plans
   >>engine     rows through steps, gates
   >>plans      building and switching plans
   >>decode     eval, decode, self-speculation
   >>gguf       reading GGUF images
   >>vocab      tokenizer
   >>tensors    public tensor operations

   ==== >>manual ============================================================================================

   WHAT IT IS
   ltx.h runs decoder transformers of the Llama family, and encoders (ltx_model.both_ways), from C, and lets you choose how much of their depth to
   spend: leave out layers or half layers, repeat layers, stop early when the model is sure, draft with the
   shallow part and verify with the deep part. Weights are arrays in your program or a GGUF file in memory. The
   logits are the same bits on every machine, instruction set, thread count and batch size.

   DO THIS
       #define LTX_IMPLEMENTATION     in exactly one C or C++ file, before
       #include "ltx.h"
   and link libm. No other file, no other dependency; C99 or C++11. `cc -O2` is enough: the kernels for
   AVX2, AVX-512, AMX, NEON, Arm dot products and i8mm are chosen at run time, those for WebAssembly SIMD with -msimd128.

   THE SMALLEST PROGRAM is examples/hello.c. The calls in the order one makes them:
       ltx_gguf_need, ltx_gguf_init         read a model out of a GGUF image      (or fill an ltx_model yourself)
       ltx_vocab_need, ltx_vocab_init       its tokenizer, if you want text
       ltx_session_need, ltx_session_init   memory for one running sequence
       ltx_encode                           text to tokens
       ltx_eval                             tokens in, logits out                 (prompt)
       ltx_sample, ltx_decode               one or more next tokens at a time     (generation)
       ltx_piece                            token to text

   WORDS
     token      an integer 0..vocab-1
     position   index of a token in its sequence, from 0
     sequence   one text: its positions and its caches. A session has one, or several that share the reading of the weights
     row        one token in flight: its sequence, a position, a hidden vector of `dim` floats, the next step it has to run
     layer      index 0..n_layers-1 of a block of weights: an attention branch and an ffn branch
     step       one entry of a plan: which layer, which of its branches
     plan       array of steps; full depth, dropped layers, looped layers are plans
     depth      how many steps of the plan lay behind a row when its logits were read, skipped ones included. "Exit after
                step i" is depth i+1. In a plan of all layers a step is a layer.
     gate       the point after a step where a row may go on, skip steps or leave: its logits are then read there
     waiting    said of a row that left and whose remaining steps are done later, with others (LTX_FILL_DEFER)
     sink       one of the first positions, which a window keeps
     piece      rows that enter together: those of one call, or, of a longer prompt, `rows` at a time
     batch      rows that run a step together, wherever they come from; their weights are read once
     pass       one row through all steps of the plan
     round      drafting, verifying and accepting once
     exit       where logits are read before the last step, by a gate or for a draft; also the leaving there
     kind       a number that says what a row stands for: 0 text, others what you like (tokens of an image)
     on its way said of a row whose call has returned (ltx_hold, ltx_batch.first) before it had its logits
     shortlist  tokens that a draft, or a screened gate, looks at instead of the whole vocabulary
     tree       drafted rows of which some stand beside each other at one position; a row sees of them only those that it comes from
     fill       what happens to the keys and values of the layers that a row did not run
     cache      keys and values of the earlier positions, one per attention step; a slot holds one position

   DEPTH, THE CONTROLS
     leave out layers or branches   ltx_plan_full, ltx_plan_drop, ltx_plan_repeat -> ltx_set_plan
     layers side by side            LTX_BESIDE, ltx_plan_beside
     branches weighed               ltx_step.attn_scale, ffn_scale (path scales, arXiv 2308.06548)
     layers of two models           n_layers = both, a plan picks (layer swapping)
     half an ffn on either side     steps that run the ffn, the attention, the ffn of a layer, ffn_scale 0.5 (Macaron, arXiv 1906.02762)
     layers that repeat, but differ ltx_step.adapter (low-rank additions)
     stop early                     gates in the plan (ltx_plan_gates) and a rule with a threshold -> ltx_set_policy
     skip or take back per token    the same rules with ltx_policy.yes; an ffn alone: ltx_plan_split
     route per token                ltx_step.route and the layer's router (mixture of depths), above a threshold or the best of a batch
     fewer rows in deep layers      ltx_step.keep: those of a prompt that get most attention stay (PyramidDrop)
     a budget in bytes              ltx_plan_within, ltx_plan_bytes
     a vector for a text            ltx_embed, from any depth; ltx_batch.features for all rows
     draft and verify               ltx_session_desc.draft_max, ltx_set_draft -> ltx_decode; the text is that of full depth
     several texts side by side     ltx_session_desc.sequences, ltx_batch.sequence, ltx_use; what stands at the same step is one batch
     a long prompt in stages        ltx_hold (layered prefill); rows at different loops: ltx_batch.first
     logits of any depth            a gate of yours with want_logits that says LTX_GO (logit lens); two of them make contrast or guidance,
                                    to be mixed by you and given to ltx_sample
     layers that a prompt needs     ltx_trace_tap on the prompt, ltx_plan_freeze -> ltx_set_plan (LAC)
     a plan per sequence            a gate of yours that skips steps by ltx_view.sequence, with all_rows; what stands before the first gate runs for all
     decide yourself                ltx_policy.gate; look at or change hidden vectors: ltx_policy.tap, neurons of an ffn: ltx_policy.neurons
     what came out of layer b       ltx_policy.tap can put it into layer a of a second run (back-patching), or add to it (steering)
     find out what pays             tools/ltx-profile

   KEYS AND VALUES OF LAYERS THAT DID NOT RUN (ltx_plan.fill)
     LTX_FILL_PROJECT  keys and values of the missing layers are computed from the state in which the row left
                       (CALM, arXiv 2207.07061). Costs two small products per layer, never comes back.
     LTX_FILL_DEFER    the row waits in its exit state; the missing layers run as one batch when a later row goes
                       deeper. Exact: what is in the cache is what full depth would have put there (EE-LLM, LayerSkip).
                       Wants ltx_session_desc.rows of 8 or more. Inside one batch an early row rides along with later
                       ones that go deeper, so it saves only when tokens come one at a time.
     LTX_FILL_NONE     nothing is stored, later rows attend without that position (holes); none is ever seen if depth never grows
                       (ltx_policy.monotone).
     Rows that a router turns away leave holes whatever the fill.
     A layer whose attention is not in the plan at all has no cache (LLM-Drop, arXiv 2406.15786); one with LTX_SHARE reads that of another.

   MEMORY
     The library never allocates. Each object has a ..._need function that says how many bytes at which alignment,
     and an ..._init that takes them. Exactly that many bytes work, one fewer is LTX_E_MEM. Blocks are borrowed until
     you stop using the object; there is nothing to free. A session takes three blocks, because firmware puts them in
     different memories: state (rows, hidden vectors, counters), cache (keys, values, positions), scratch (only used during a
     call; sessions that never run at the same time may share it). Weights are never copied (but for a
     shortlist, see ltx_model.draft_ids, and when you ask for it: ltx_repack) and never written. The stack need of a thread is below 12 KB with the kernels of instruction sets
     and 10 KB without, measured at -O1 and above.

   SPEED
     One row (decoding) costs the bytes of the weights, many rows (a prompt) cost arithmetic, and 2 to 16 rows (verifying a draft) should cost as little
     as one. Set `rows` to 512 for long prompts (32 is the default, for little scratch). Formats, quickest first for many rows: R8, R4, then Q8_0, Q4_0 and the K formats nearly alike,
     floats last; for one row the fewest bytes win: R4, Q4_0, Q4_K. Q8_X and Q4_X are Q8_0 and Q4_0 in another order (ltx_repack, or ltx-convert), R8 and R4 have one
     scale per row and want conversion. bench/NOTES.md tells what limits each kernel.

   THREADS
     A model and a vocab are read-only after init; any number of sessions may use them at once. A session belongs to
     one thread at a time. With ltx_session_desc.threads above 1 a call is cut into up to that many tasks, which run in ltx_pool
     (your own), else in OpenMP when the implementation was compiled with it, else one after the other. The number of
     threads never changes a bit of the result. Callbacks run on the calling thread and must not call functions of the
     same session.

   ERRORS
     Every call that can fail returns an ltx_result; outputs are untouched on failure, and the sequence in the session is
     as it was before the call: the next logits are those of an undisturbed run. (Exceptions: with a window, whole pieces
     of a long prompt may stay, see ltx_eval; waiting rows may have been brought forward; where earlier calls had left rows on their way, their
     sequences are taken back to before the first of these; statistics keep counting.)
     ltx_log, where a descriptor has one, gets an event that names the object and the two numbers which disagree. The
     library never prints, aborts or exits. Pointers must not be NULL except where it is said (some calls check, do not rely on
     it). NaN weights or hidden
     vectors surface as LTX_E_NAN where logits are read; a call that asks for none does not notice them: rewind then.

   SAME BITS
     Sums have a fixed order (sixteen chains for float products and norms, one chain of exact integer blocks for
     quantized products; >>matrix has the details), multiply-adds are explicit, exp, log, tanh, sin and cos are our own. So logits are equal bit for
     bit on every target, instruction set, compiler, optimization level, thread count, batch size and split of the
     prompt. (Where rows of a batch decide together, by ltx_step.keep, route < 0 or ltx_policy.by_kind, what came in one batch is part of the question;
     ltx_draft.clock makes sampled text depend on time.) -ffast-math would break this and is refused (see LTX_ALLOW_FAST_MATH), as is x87 arithmetic; a host thread
     that flushes denormals to zero or does not round to nearest is refused at init with LTX_E_HOST (threads of your pool
     have to be like that, too).

   IT DOES NOT train, load files (read or map them yourself), download, draw from the system's random numbers, or run
   experts or scaled rope other than linear and by factors (such models are refused). Dimensions up to
   LTX_MAX_DIM, heads up to LTX_MAX_HEAD wide, LTX_MAX_LAYERS layers, LTX_MAX_STEPS steps, LTX_MAX_TOKENS positions.
*/

#ifndef LTX_H
#define LTX_H

/* ==== >>config ============================================================================================
   LTX_IMPLEMENTATION      compile the implementation here
   LTX_STATIC              make everything static: a private copy inside one file
   LTX_API                 your own linkage or export attribute
   LTX_NO_GGUF             leave out the GGUF reader and the tokenizer
   LTX_NO_SPECULATION      leave out self-speculation (ltx_decode then makes one token a call)
   LTX_NO_X86              leave out the AVX2, AVX-512 and AMX kernels
   LTX_NO_AMX              leave out the AMX kernels, which ask Linux for permission to use tile registers
   LTX_NO_NEON             leave out the kernels for 64-bit Arm: NEON, dot products, i8mm
   LTX_NO_SIMD128          leave out the WebAssembly SIMD kernels
   LTX_NO_OPENMP           no OpenMP even if the compiler has it switched on
   LTX_NO_STRINGS          no explaining texts in log events (names and numbers stay), no names of results, formats and sets
   LTX_ALLOW_FAST_MATH     accept -ffast-math and flushed denormals, giving up the promise of same bits and LTX_E_NAN   */

#include <stddef.h>
#include <stdint.h>

#define LTX_VERSION_MAJOR 0
#define LTX_VERSION_MINOR 1
#define LTX_VERSION_PATCH 0

#ifndef LTX_API
#ifdef LTX_STATIC
#if defined(__GNUC__)
#define LTX_API __attribute__((unused)) static
#else
#define LTX_API static
#endif
#else
#define LTX_API extern
#endif
#endif

#define LTX_MAX_DIM    (1 << 20) /* largest vocabulary, width or ffn width, elements */
#define LTX_MAX_HEAD   256       /* largest head_dim                                        */
#define LTX_MAX_LAYERS 256
#define LTX_MAX_ROW_COLS (1 << 17) /* largest cols of R8 and R4: sums of a row fit into 32 bits */
#define LTX_MAX_STEPS  1024
#define LTX_MAX_TOKENS (1 << 22) /* positions 0 .. this - 1: rope angles are exact to a few ulp so far (fewer positions if a frequency is above 1) */

#ifdef __cplusplus
extern "C" {
#endif

/* ==== >>api ===============================================================================================
   ---- results, log, memory ------------------------------------------------------------------------------- */

typedef enum ltx_result {
    LTX_OK = 0,
    LTX_E_ARG = -1,     /* the caller broke a documented rule                                   */
    LTX_E_MEM = -2,     /* a block is too small or misaligned: see the ..._need functions       */
    LTX_E_MODEL = -3,   /* model or image truncated, corrupt or inconsistent                    */
    LTX_E_ABSENT = -4,  /* well-formed, but this build or machine lacks the format, architecture or instruction set */
    LTX_E_FULL = -5,    /* no room in the cache or in an output array; also the end of an iteration */
    LTX_E_STOPPED = -6, /* a callback said stop; session as before the call                     */
    LTX_E_NAN = -7,     /* logits are not finite; session as before the call                    */
    LTX_E_HOST = -8     /* the calling thread flushes denormals to zero, or does not round to nearest */
} ltx_result;

/* Short English text of a result, never NULL; "" under LTX_NO_STRINGS. */
LTX_API const char *ltx_result_text(ltx_result r);

/* One log record: no formatting, no allocation. All pointers are valid only during the callback. */
typedef struct ltx_event {
    ltx_result  code;     /* what the call will return                                          */
    int32_t     index;    /* layer (model), step (plan) or entry (list) that the event is about, -1 = none */
    const char *text;     /* what is wrong, static text: "rows differ"; "" under LTX_NO_STRINGS */
    const char *name;     /* which object: field, key or tensor; name_len bytes, no NUL         */
    size_t      name_len;
    int64_t     want, got; /* the two numbers that disagree, both 0 if there are none           */
} ltx_event;
typedef struct ltx_log { /* .fn NULL = silent */
    void (*fn)(void *user, const ltx_event *event);
    void *user;
} ltx_log;

typedef struct ltx_need { size_t size, align; } ltx_need; /* bytes; align is a power of two          */
typedef struct ltx_mem  { void *ptr; size_t size; } ltx_mem; /* a block that the caller lends        */
typedef struct ltx_blob { const void *ptr; size_t size; } ltx_blob; /* read only, may be flash, any alignment */

/* ---- weights -------------------------------------------------------------------------------------------- */

/* Number formats, with the numbers that GGML and GGUF give them. A row of `cols` elements is contiguous.
   All multi-byte values in weights are little-endian, as in GGUF. */
typedef enum ltx_type {
    LTX_F32 = 0,
    LTX_F16 = 1,  /* IEEE half                                                                     */
    LTX_Q4_0 = 2, /* blocks of 32: half d, 16 bytes; value i = (low nibble of byte i - 8) d, value i+16 = (high nibble - 8) d */
    LTX_Q8_0 = 8, /* blocks of 32: half d, 32 signed bytes; value = byte * d                       */
    /* Super-blocks of 256, element i of sub-block j at 32 j + i:
       Q4_K  144 bytes: half d, half dmin, 12 bytes of 6-bit scales s[8] and mins m[8], 128 bytes of numbers q of 4 bits; value = d s[j] q - dmin m[j].
             Byte k < 4 of the 12 is s[k] and in its upper two bits those of s[k+4], byte 4+k the same of m, byte 8+k the lower four bits of
             s[k+4] and, above them, of m[k+4]. q of sub-block j is in byte 32 (j / 2) + i, in the low nibble if j is even.
       Q5_K  176 bytes: the same, but 32 bytes stand before the nibbles: bit j of byte i is the fifth bit of q of element i of sub-block j
       Q6_K  210 bytes: 128 bytes of low nibbles of q, 64 of its upper two bits, 16 signed bytes of scales s, half d; value = d s[e / 16] (q - 32)
             for element e. The first 128 elements take 64 bytes of nibbles, byte e % 64, the low one if e < 64, and 32 of pairs, from bit
             2 (e / 32) of byte e % 32 on; the other 128 the same, in the other half of each             */
    LTX_Q4_K = 12,
    LTX_Q5_K = 13,
    LTX_Q6_K = 14,
    LTX_BF16 = 30, /* upper half of a float                                                        */
    /* Formats of our own, no other reader knows them. Sixteen rows lie together, see ltx_mat_bytes: bytes 4k..4k+3 of each of the sixteen rows are 64 bytes in a
       row, as matrix units and vector lanes want them; the exact layout stands at >>formats.
       Q8_X, Q4_X  the numbers of Q8_0 and Q4_0, only placed like this: same results, same size but for rows up to the next 16; see ltx_repack
       R8, R4      one scale per row, for the fastest products: sums over a whole row are exact integers. R8: value = s q, a signed byte. R4: value = s g (q - 8), q of
                   4 bits, g an integer per 32 columns, |g| <= 15 (dual-grained quantization, arXiv 2310.04836), 4.25 bits a weight. Activations have
                   one scale per row, too: an outlier of a hundred times the rest leaves the rest one of the 127 steps, where Q8_0 loses only the 32 columns
                   beside it. ltx_session_desc.act_bits = 16 takes that loss away: try it where a model does worse in R8 than in Q8_0      */
    LTX_Q8_X = 1008, LTX_Q4_X = 1004,
    LTX_R8 = 1108, LTX_R4 = 1104
} ltx_type;

/* View of a weight matrix [rows][cols], row-major; product y = W x takes `cols` inputs to `rows` outputs.
   All zero means absent. A vector (norm weight, bias) is LTX_F32 with rows = 1. */
typedef struct ltx_mat {
    const void *data; /* any alignment; NULL = absent */
    int32_t     type; /* ltx_type                     */
    int32_t     rows, cols;
} ltx_mat;

/* Weights of one block. h = hidden vector; branches are pre-norm:
     attention:  h += wo * attend(rope(q_norm(wq a + bq)), rope(k_norm(wk a + bk)), wv a + bv) + bo,  a = rmsnorm(h) attn_norm
     ffn:        h += w_down * (act(w_gate f + b_gate) .* (w_up f + b_up)) + b_down,                  f = rmsnorm(h) ffn_norm
   without w_gate the middle is act(w_up f + b_up). Q = n_heads * head_dim, K = n_kv_heads * head_dim, F = ffn width (rows of
   w_up, may differ per layer). A layer may lack all of attention or all of ffn, not both. */
typedef struct ltx_layer {
    ltx_mat attn_norm;          /* [dim]                                                        */
    ltx_mat wq, wk, wv, wo;     /* [Q][dim] [K][dim] [K][dim] [dim][Q]                          */
    ltx_mat bq, bk, bv, bo;     /* [Q] [K] [K] [dim], each optional                             */
    ltx_mat q_norm, k_norm;     /* [head_dim], optional: RMS norm of each head before rope (Qwen3) */
    ltx_mat ffn_norm;           /* [dim]                                                        */
    ltx_mat w_gate, w_up, w_down; /* [F][dim] [F][dim] [dim][F]; w_gate optional                */
    ltx_mat b_gate, b_up, b_down; /* [F] [F] [dim], each optional                               */
    ltx_mat attn_norm_bias, ffn_norm_bias; /* [dim], optional, with LTX_NORM_LAYER              */
    ltx_mat router, router_bias; /* [1][dim] any format, [1], optional: says 1 / (1 + exp(-(router . x + bias))), x the hidden
                                   vector, through router_norm if there is one                  */
    ltx_mat router_norm;        /* [dim], optional                                              */
} ltx_layer;
/* Low-rank additions to the matrices of a layer, y = W x + scale B (A x), chosen by ltx_step.adapter: so that repeated layers may differ
   (relaxed recursive transformers, arXiv 2410.20672), or requests. LoRA: arXiv 2106.09685 */
typedef struct ltx_lora { ltx_mat a, b; } ltx_lora; /* [rank][in] [out][rank], rank <= dim; both absent = nothing is added */
/* Hidden transfer (arXiv 2404.12022): h times the hidden vector that a row has before step `step` stands in for that of the token i + 1 places later, i the transfer's index. */
typedef struct ltx_transfer { ltx_mat h; /* [dim][dim] */ int32_t step; /* 1 or more, not falling from one to the next */ } ltx_transfer;
/* What logits after one layer are read with; what is absent is the model's. */
typedef struct ltx_exit {
    ltx_mat norm, norm_bias; /* [dim]; a norm_bias goes with a norm                             */
    ltx_mat head;            /* [vocab][dim]; not together with draft_ids                       */
} ltx_exit;
typedef struct ltx_adapter {
    ltx_lora q, k, v, o, gate, up, down;
    float scale;                /* 0 = 1                                                        */
} ltx_adapter;

typedef enum ltx_rope { LTX_ROPE_INTERLEAVED = 0, /* pairs (2i, 2i+1): Llama in GGUF, llama2.c */
                        LTX_ROPE_HALVES = 1,      /* pairs (i, i + rope_dims/2): Qwen, NeoX    */
                        LTX_ROPE_NONE = 2 } ltx_rope;
typedef enum ltx_norm { LTX_NORM_RMS = 0, /* arXiv 1910.07467 */ LTX_NORM_LAYER = 1 /* mean taken off, with the biases below; arXiv 1607.06450 */ } ltx_norm;
typedef enum ltx_act { LTX_ACT_SILU = 0, LTX_ACT_GELU = 1 /* tanh form */, LTX_ACT_RELU = 2 } ltx_act;

/* A model: dimensions, switches, views of weights. May be a `static const` object, may be filled by ltx_gguf_init or by
   your own code. The struct is copied into each session; what it points to (layers, weights) must outlive the sessions. Where 0
   has a meaning it is given. */
typedef struct ltx_model {
    int32_t dim, n_layers, n_heads;
    int32_t n_kv_heads;    /* 0 = n_heads; divides n_heads                                       */
    int32_t head_dim;      /* even; 0 = dim / n_heads                                            */
    int32_t vocab;
    int32_t ctx;           /* positions the model was trained for; 0 = 512                       */
    int32_t rope_pairs;    /* ltx_rope                                                           */
    int32_t rope_dims;     /* first elements of a head that rotate, even; 0 = head_dim           */
    int32_t act;           /* ltx_act                                                            */
    float   norm_eps;      /* 0 = 1e-5                                                           */
    float   rope_theta;    /* base of the rope frequencies; 0 = 10000                            */
    float   rope_scale;    /* frequencies are divided by this (linear scaling); 0 = 1            */
    float   attn_scale;    /* factor of the scores; 0 = 1 / sqrt(head_dim)                       */
    ltx_mat rope_factors;  /* [rope_dims/2], optional: each frequency is divided by its factor (Llama 3)      */
    ltx_mat embed;         /* [vocab][dim]; absent = rows start from embeddings of yours (ltx_batch.embeds), and head is there */
    ltx_mat out_norm;      /* [dim]: final norm, used at every exit that has none of its own (exit_heads) */
    ltx_mat head;          /* [vocab][dim]; absent = embed is used (tied)                        */
    const ltx_layer *layers; /* n_layers                                                         */
    uint32_t exits[LTX_MAX_LAYERS / 32]; /* bit l: trained to exit after layer l; all 0 = unknown. A hint for where
                              you may put gates; only ltx_plan_within reads it */
    const void *draft_ids; /* optional shortlist for drafts and screened gates: n_draft_ids tokens as u32 (little-endian, any */
    int32_t  n_draft_ids;  /* alignment), ascending. A frequent few hundred save most of the head; sessions copy their rows of
                              the head into the state block. 0 = none                            */
    int32_t norm;          /* ltx_norm                                                           */
    int32_t norm_after;    /* 1 = x = norm(x + branch(x)) instead of x + branch(norm(x)); out_norm may then be absent (BERT, KWT) */
    int32_t both_ways;     /* 1 = encoder: all rows of an ltx_eval see each other. A sequence is one call of at most `rows` rows at position 0;
                              nothing is decoded from it                                         */
    ltx_mat out_norm_bias; /* [dim], optional, with LTX_NORM_LAYER                               */
    ltx_mat head_bias;     /* [vocab], optional; not together with draft_ids                     */
    ltx_mat probes;        /* [n_layers][dim], optional, for LTX_EXIT_PROBE: a row l is the probe of an exit after layer l, which says
                              1 / (1 + exp(-(row . normed hidden + bias))), normed as for the head             */
    ltx_mat probe_bias;    /* [n_layers], with probes                                            */
    const ltx_adapter *adapters; /* n_adapters, optional                                         */
    int32_t n_adapters;
    int32_t n_transfers;   /* at most 8                                                          */
    const ltx_transfer *transfers; /* n_transfers, optional, for ltx_draft.transfer              */
    const ltx_exit *exit_heads; /* [n_layers], optional: norms and heads of their own, wherever logits are read after a layer: at gates, in drafts, at
                              the end of a plan; features and probes are normed like that, too      */
} ltx_model;

/* Check every tensor and dimension once, with a log event for the first thing that is wrong.
   LTX_E_MODEL or LTX_E_ABSENT (format not built in). ltx_session_need and ltx_session_init call this themselves. */
LTX_API ltx_result ltx_model_check(const ltx_model *model, const ltx_log *log);

/* Optional: the same model with its Q8_0 and Q4_0 matrices copied into Q8_X and Q4_X, for the same results sooner where arithmetic is the limit: batches
   of 2 to 64 rows of weights that stay in the caches (8 rows: a quarter less time). Weights from memory gain little, and a single row takes a tenth to
   a fifth longer. `out` becomes a model whose layers and copies live in `mem`; other tensors are still
   views of the old ones. A GGUF file made with `ltx-convert --type q8_x` needs no copy. Errors as ltx_model_check, LTX_E_MEM, LTX_E_ARG. */
LTX_API ltx_result ltx_repack_need(const ltx_model *model, ltx_need *out);
LTX_API ltx_result ltx_repack(const ltx_model *model, ltx_mem mem, ltx_model *out);

/* ---- plans: which layers run ---------------------------------------------------------------------------- */

/* Bits of ltx_step.run.
   LTX_BESIDE    all branches of this step read the hidden vectors that the step before began with, not those that it left, so that they add to
                 the same input; a run of such steps has one input for all. (parallel layers; attention and ffn side by side, as in GPT-J, are
                 two steps of a layer, the second with this bit)
   LTX_WEIGH     what the branches add is multiplied by the probability of the layer's router (mixture of depths, arXiv 2404.02258)
   LTX_WEIGH_FFN the same for the ffn alone (gamma-MoD)
   LTX_RENUMBER  positions in this step are the numbers of the slots in its cache, 0, 1, 2, ... without gaps (gamma-MoD, arXiv 2410.13859)
   LTX_PROMPT    the router decides about rows that want no logits; all others run
   LTX_SHARE     the attention has no keys and values of its own, it reads the cache that an earlier step of the plan fills and that its `cache` names
                 (cross-layer attention, arXiv 2405.12981); the layer may lack wk and wv */
enum { LTX_ATTN = 1, LTX_FFN = 2, LTX_BESIDE = 4, LTX_WEIGH = 8, LTX_RENUMBER = 16, LTX_PROMPT = 32, LTX_SHARE = 64, LTX_WEIGH_FFN = 128 };
enum { LTX_KINDS = 4 }; /* of rows: 0 text, the others what you like, for instance the tokens of one image each */

typedef struct ltx_step {
    int16_t layer;      /* whose weights                                                         */
    int16_t cache;      /* 0 = the cache of index `layer`, c > 0 = the cache of index c - 1; no two attention steps of a plan fill the same */
    uint8_t run;        /* LTX_ATTN | LTX_FFN, at least one, and the other bits above            */
    uint8_t gate;       /* 1 = the policy is asked after this step                               */
    float   attn_scale; /* factor of the attention branch before it is added; 0 = 1              */
    float   ffn_scale;  /* factor of the ffn branch; 0 = 1                                       */
    float   route;      /* > 0: only rows run whose layer's router says more than this; for the others the step is not there: no slot
                           in its cache, whatever the plan's fill. -0.5: half of the rows of each kind and sequence that came in one piece (a call, or `rows` tokens of
                           it), at least one, whose router says most; where there are other kinds those of kind 0 all run (VideoLLM-MoD, arXiv 2408.16730). 0 = every row */
    int16_t adapter;    /* a > 0 = with adapters[a - 1] of the model; 0 = none                   */
    float   keep;       /* > 0: before this step the rows of each kind above 0 become fewer: of those that came in one piece this share (rounded down) stays, to which the piece's
                           last row pays most attention here (mean over the heads, keys of the piece); the others run no further step, their slots in earlier caches
                           stay. Rows that want logits stay, too. For prompts in one piece (PyramidDrop, arXiv 2410.17247, with LTX_RENUMBER from here on). 0 = all stay */
} ltx_step;

typedef enum ltx_fill { LTX_FILL_PROJECT = 0, LTX_FILL_DEFER = 1, LTX_FILL_NONE = 2 } ltx_fill; /* see the manual */

typedef struct ltx_plan {
    const ltx_step *steps; /* NULL = every layer once, no gates. Borrowed: must live, unchanged, as long as the session uses it */
    int32_t         count; /* 1..LTX_MAX_STEPS                                                   */
    int32_t         fill;  /* ltx_fill                                                           */
} ltx_plan;

/* Helpers that write plans into an array of yours. A plan is plain data: you may as well write it by hand.
   full:   every layer once, both branches where the layer has them. LTX_E_FULL if cap < n_layers.
   drop:   removes branches (LTX_ATTN | LTX_FFN bits) of one layer; a step left without branches disappears. (LLM-Drop)
   repeat: runs steps first..last `times` times in all instead of once; the copies get caches of their own, numbered upward
           from the highest used (those with LTX_SHARE read their own copy's). LTX_E_FULL if cap is too small. (looped and recursive models)
   beside: lets steps first + 1..last read what step `first` reads. (parallel layers)
   split:  makes two steps of each that runs attention and ffn, so that a gate of yours may stand between them; one that was there is behind the ffn.
           LTX_E_FULL if cap is too small, LTX_E_ARG for plans with LTX_BESIDE, LTX_WEIGH or routes.
   within: cuts the plan behind the deepest exit (ltx_model.exits; any step if that is 0) where one row reads no more than so many bytes of weights, the
           head's included (nested depths, SortedNet, arXiv 2309.00255). LTX_E_FULL if there is none.
   gates:  puts a gate after steps first, first + every, ... (0-based, before the last step) and removes all others; every 0 = none.
   All return LTX_E_ARG for a layer, range or first gate that is not there, and then change nothing. */
LTX_API ltx_result ltx_plan_full(const ltx_model *model, ltx_step *steps, int32_t cap, int32_t *count);
LTX_API ltx_result ltx_plan_drop(ltx_step *steps, int32_t *count, int32_t layer, int32_t branches);
LTX_API ltx_result ltx_plan_repeat(ltx_step *steps, int32_t cap, int32_t *count, int32_t first, int32_t last, int32_t times);
LTX_API ltx_result ltx_plan_beside(ltx_step *steps, int32_t count, int32_t first, int32_t last);
LTX_API ltx_result ltx_plan_split(ltx_step *steps, int32_t cap, int32_t *count);
LTX_API ltx_result ltx_plan_within(const ltx_model *model, const ltx_step *steps, int32_t *count, uint64_t bytes);
LTX_API ltx_result ltx_plan_gates(ltx_step *steps, int32_t count, int32_t first, int32_t every);
/* Bytes of weights that one row reads on its way through so many steps and the head. */
LTX_API uint64_t ltx_plan_bytes(const ltx_model *model, const ltx_step *steps, int32_t count);

/* ---- policies: when to stop ----------------------------------------------------------------------------- */

typedef enum ltx_rule {
    LTX_EXIT_NEVER = 0,
    LTX_EXIT_PROB,    /* leave when the largest probability           >= threshold      */
    LTX_EXIT_MARGIN,  /* leave when largest minus second probability  >= threshold      */
    LTX_EXIT_ENTROPY, /* leave when the entropy in nats               <= threshold      */
    LTX_EXIT_COSINE,  /* leave when cos(hidden before, after the step) >= threshold; needs no head */
    LTX_EXIT_ALWAYS,  /* leave at the first gate: a fixed depth                         */
    LTX_EXIT_ASK,     /* ask ltx_policy.gate                                            */
    LTX_EXIT_PATIENCE, /* leave when `threshold` gates in a row, this one included, have had the same best token (PABEE, arXiv 2006.04152) */
    LTX_EXIT_PROBE,   /* leave when the layer's learned probe (ltx_model.probes) says  >= threshold; needs no head */
    LTX_EXIT_CHANGE   /* leave when the change of the hidden vector's length, whatever its sign, < threshold * (largest - least such change at the gates so far,
                         this one and 0 among them); needs no head. With gates everywhere the halt of LAC (arXiv 2505.14467), by row; see ltx_trace */
} ltx_rule;

/* What a callback sees of one row after a step. Pointers are valid during the call. */
typedef struct ltx_view {
    int32_t step, layer;   /* that just ran; -1 in a tap: embeddings before step 0                */
    int32_t position, token; /* token -1 if the row came from an embedding or a transfer          */
    int32_t dim, vocab;
    float       *hidden;   /* [dim], may be changed (by a gate only if it wants no logits: they are already read then) */
    const float *before;   /* [dim] hidden before the step; NULL in a tap                         */
    const float *logits;   /* [vocab] of an exit here, if ltx_policy.want_logits; else NULL       */
    int32_t sequence;
} ltx_view;

enum { LTX_GO = 0, LTX_STOP = -1, LTX_UNDO = -2, LTX_LEAVE = 0x7fffffff }; /* answers; n > 0 = skip the next n steps; UNDO = go on with `before`; STOP = the call fails
   with LTX_E_STOPPED, to end a row early LEAVE */
typedef int32_t ltx_gate_fn(void *user, const ltx_view *view);

/* The gate is asked only for rows whose logits the caller wants (in ltx_eval of a prompt: the last one) unless .all_rows is set, at steps with
   .gate set. The tap is called for every row after every step that it ran; when it says LTX_STOP the rest of the batch is still shown, then the call ends. A row that skips steps has its keys and values projected
   (LTX_FILL_PROJECT and _DEFER) or left out (LTX_FILL_NONE); a row that leaves is treated by the plan's fill. */
typedef struct ltx_policy {
    int32_t      rule;      /* ltx_rule                                                          */
    float        threshold;
    int32_t      yes;       /* what follows where a rule (but LTX_EXIT_ASK) says "leave": 0 = that, LTX_UNDO, or n = skip the next n steps.
                               With an ffn in a step of its own (ltx_plan_split) and 1: the ffn is skipped and no cache has a gap     */
    int32_t      all_rows;  /* 1: gates are asked for every row, prompts included; only for rules that need no head */
    ltx_gate_fn *gate;      /* for LTX_EXIT_ASK                                                  */
    int32_t      want_logits; /* for LTX_EXIT_ASK: fill ltx_view.logits; costs a head            */
    int32_t      screen;    /* 1: with LTX_EXIT_PROB, a gate first looks at the model's draft_ids alone and pays for the whole head only
                               if their most probable token reaches the threshold among them. Saves most heads; a row whose best
                               token is not on the list goes on. Without a list: no effect       */
    ltx_gate_fn *tap;       /* NULL = none; may answer LTX_GO or LTX_STOP                        */
    void       (*neurons)(void *user, const ltx_view *view); /* NULL = none. Called for every row in the middle of every ffn: here view->dim is the width of the
                               ffn, view->hidden the numbers, to be looked at or changed, that w_down is multiplied with next; step and layer are those that
                               run, before and logits NULL */
    void        *user;      /* handed to all of them                                             */
    int32_t      monotone;  /* 1: a row leaves at the latest at the shallowest gate at which one of its sequence has left before, prompts included (SkipDecode, arXiv 2307.02628), so that
                               LTX_FILL_NONE leaves no holes that anybody sees. A call may want logits of one row a sequence, else LTX_E_ARG; a gate of yours must not skip steps (not checked). A rewind to 0 and ltx_set_plan forget depths.
                               Drafts and their verification go as deep as ever */
    int32_t      by_kind;   /* 1: with LTX_EXIT_COSINE and all_rows, the rows of a kind that came in one piece leave together, when the mean of their cosines is
                               >= kinds[kind]; threshold is not used (exits by modality: MuE, arXiv 2211.11152) */
    float        kinds[LTX_KINDS]; /* above 1 = never */
} ltx_policy;

/* Speculation: draft tokens, with the first `exit` steps (LayerSkip, arXiv 2404.16710), by a shorter plan, from earlier in the text or by transfers, then run the remaining steps for
   all of them as one batch and keep the prefix that full depth agrees with. Greedy output is that of plain decoding at full depth, bit for bit; sampled output has
   the same distribution, but which text a seed gives depends on how much was drafted, and so on what the session has learned. The policy's rule is not asked
   and the plan's fill has no effect on such rows. A round is drafted by transfers if some are ahead and pay, else by lookup if a match is found and pays, else by plan or by exit. */
typedef struct ltx_draft {
    int32_t exit;     /* steps that draft, 1..count-1; 0 = none do                               */
    int32_t lookup;   /* look for the last 1..lookup tokens, at most 8, earlier in the text, longest first, and draft what followed there
                         (prompt lookup; costs no step). 0 = do not look                         */
    int32_t last;     /* deepest exit: steps after which a draft may be looked at once more, from exit to exit + 64, below count; 0 = exit alone. What is run
                         is not lost: verification goes on from there                            */
    int32_t length;   /* most drafted tokens a round, rivals included; 0 = draft_max of the session, less transfer */
    float   stop;     /* > 0: a draft whose largest probability (after the sampler's filters, among the shortlist if there is one) is below this is looked at
                         one step deeper, up to `last`, and drafting ends if it is so there, too; transfers end at the first that is less sure (unfiltered).
                         0 = whether to draft, look deeper or end is chosen online, from what was accepted by depth and confidence and from costs, both learned from scratch. Rivals and what is looked up always go by that */
    float   row_cost; /* estimated cost of each further row when full depth verifies several at once, as a share of a pass of one row: small where reading weights
                         dominates (large models), larger where arithmetic does; 0 = 0.25. Together with bytes of weights this is what costs are, until a clock has
                         measured a round                                                        */
    double (*clock)(void *user); /* the time in any unit, fine enough to tell a step, not running backwards: costs are measured. Called some four times a round and twice a
                         drafted token. Another clock or user: what was measured is forgotten. NULL = estimate them */
    void   *user;     /* handed to clock                                                         */
    int32_t tree;     /* 1: beside a token drafted by exit, plan or transfer its likeliest rival is drafted, too, where that is expected to pay; both are verified at once. Greedy only.
                         Only for plans without routers and LTX_RENUMBER; without effect until a window's sinks are full */
    int32_t transfer; /* 0..n_transfers: so many tokens beyond the last drafted one come from the model's transfers. Their rows ride along when a draft is verified (after
                         eight rounds that had no use for them, in every eighth), and are the next draft, as far as they are sure, if all of it was right (hidden
                         transfer); exit and last must not go past transfers[0].step */
    ltx_plan plan;    /* .steps not NULL: whole passes of this plan draft, which skips layers wherever it likes, and verification begins at step 0 again (Draft & Verify,
                         arXiv 2309.08168). exit has to be 0; its caches are among those of the session's plan; its fill is not used. Borrowed until another draft is set */
} ltx_draft;

/* What each step does to the length of hidden vectors, and which steps a text makes use of (LAC, arXiv 2505.14467). The change of a step is |hidden| after it less that before. A step is
   active for a row if that is >= alpha * (largest - least change of the row's earlier steps), at its first step if it is >= 0; unlike LTX_EXIT_CHANGE, which
   is LAC's halt, the sign counts here. Put the struct into ltx_policy.user and ltx_trace_tap into ltx_policy.tap, or call it from a tap of yours; feed the sequence from position 0, with no gate that says LTX_UNDO and without drafts;
   then ltx_plan_freeze removes from a copy of that plan the steps that were active for less than `share` (0..1) of the rows that ran them. The first step stays if no
   other does; steps that no row ran stay. LTX_E_ARG if count is not trace->steps or share out of range. What stood beside a step that is
   gone stands alone; whether every LTX_SHARE still finds its cache ltx_set_plan says. */
typedef struct ltx_trace {
    float   alpha;         /* 0 = 0.8, below 0 = 0                                               */
    int32_t sequence;      /* rows of this one are looked at                                     */
    float  *rows;          /* [cap][3] of yours, need not be set: length, least, largest change of rows at positions 0..cap-1; later ones are not looked at */
    int32_t cap;
    int32_t steps;         /* count of the plan                                                  */
    float  *changes;       /* [cap][steps] of yours, to see them; what did not run is not written. NULL = do not keep them */
    int32_t ran[LTX_MAX_STEPS], active[LTX_MAX_STEPS]; /* rows that ran a step, rows for which it was active; added to: begin with 0 */
} ltx_trace;
LTX_API int32_t ltx_trace_tap(void *trace, const ltx_view *view);
LTX_API ltx_result ltx_plan_freeze(ltx_step *steps, int32_t *count, const ltx_trace *trace, float share);

/* ---- sessions ------------------------------------------------------------------------------------------- */

typedef enum ltx_isa { LTX_ISA_AUTO = 0, LTX_ISA_SCALAR, LTX_ISA_AVX2, LTX_ISA_AVX512, /* with VNNI */
                       LTX_ISA_AMX, /* int8 tiles, beside AVX-512 */
                       LTX_ISA_NEON, LTX_ISA_DOTPROD, LTX_ISA_I8MM, /* 64-bit Arm: all, Armv8.2 sdot, Armv8.6 smmla */
                       LTX_ISA_SIMD128, /* WebAssembly, chosen when compiling */
                       LTX_ISA_COUNT } ltx_isa;
/* Bit (1u << isa) is set for each set that is compiled in and usable on this processor and operating system. On processors with AMX this, and AUTO, ask Linux
   for permission to use tiles in this process. */
LTX_API uint32_t ltx_isa_mask(void);
LTX_API const char *ltx_isa_name(int32_t isa); /* "avx512"; "" under LTX_NO_STRINGS */

typedef enum ltx_kv { LTX_KV_AUTO = 0, /* F16 */ LTX_KV_F32, LTX_KV_F16, LTX_KV_I8 /* one scale per head and slot */ } ltx_kv;

typedef void ltx_task(void *arg, int32_t index);
/* A host's thread pool. run must call task(arg, i) for each i in 0..count-1, in any order, on any threads, and return when
   all have returned and what they wrote is visible to the caller. Never called from within a task. */
typedef struct ltx_pool {
    void (*run)(void *user, ltx_task *task, void *arg, int32_t count);
    void *user;
} ltx_pool;

/* What a session shall be. Zero-initialise, then set what you need. */
typedef struct ltx_session_desc {
    uint32_t   guard_head; /* must stay 0: catches descriptors that were not zero-initialised    */
    int32_t    isa;        /* ltx_isa; AUTO = best; a named one = exactly that or LTX_E_ABSENT   */
    int32_t    ctx;        /* tokens the cache holds; 0 = model's ctx                            */
    int32_t    rows;       /* most rows in one batch (prompts are cut into such pieces); 0 = 32  */
    int32_t    logits_rows; /* most logits rows an ltx_eval_batch may return; 0 = 1              */
    int32_t    kv;         /* ltx_kv                                                             */
    int32_t    act_bits;   /* activations that meet LTX_R8 and LTX_R4 weights: 8, or 16 (two bytes, exact sums: near to float accuracy at twice
                              the arithmetic and no more bytes of weights); 0 = 8                */
    int32_t    window;     /* a row attends to the last `window` positions, itself included, and to the sinks; 0 = to
                              all. The sequence may then be longer than the cache: ctx is ignored */
    int32_t    sinks;      /* with a window: the first `sinks` entries of each cache stay; they keep a distance of at most
                              sinks + window - 1 (StreamingLLM, arXiv 2309.17453)                */
    int32_t    draft_max;  /* most drafted tokens a round, at most 64 and rows - 1; 0 = no speculation. Above 0 the session remembers its last tokens,
                              as many as the cache holds, for ltx_draft.lookup                */
    int32_t    threads;    /* tasks a call is cut into, for pool or OpenMP, at most 1024; 0 = 1: no threads even with a pool */
    ltx_plan   plan;       /* also decides which caches have memory: later plans may use those   */
    ltx_policy policy;
    ltx_draft  draft;
    ltx_pool   pool;
    ltx_log    log;
    int32_t    sequences;  /* texts that run side by side, each with a cache of its own; 0 = 1. What stands in rows of different ones at the same step is
                              one batch: weights are read once. See ltx_use, ltx_batch.sequence, ltx_hold */
    int32_t    features;   /* 1: memory for ltx_batch.features                                   */
    uint32_t   guard_tail; /* must stay 0                                                        */
} ltx_session_desc;

typedef struct ltx_session ltx_session; /* lives in the state block */
typedef struct ltx_session_needs { ltx_need state, cache, scratch; } ltx_session_needs;
typedef struct ltx_session_mems  { ltx_mem  state, cache, scratch; } ltx_session_mems;

/* Sizes depend only on model dimensions and desc, not on this machine's processor or threads. Ask on the desk for the device: cache and
   scratch are the same on every target; state holds pointers, so a 32-bit target needs a little less. init takes the same desc. */
LTX_API ltx_result ltx_session_need(const ltx_model *model, const ltx_session_desc *desc, ltx_session_needs *out);
LTX_API ltx_result ltx_session_init(const ltx_model *model, const ltx_session_desc *desc, const ltx_session_mems *mem, ltx_session **out);
/* The descriptor with every default filled in. */
LTX_API void ltx_session_desc_used(const ltx_session *s, ltx_session_desc *out);
/* Another scratch block of the same need, between calls. Logits of earlier calls are gone. */
LTX_API ltx_result ltx_session_scratch(ltx_session *s, ltx_mem scratch);

/* The sequence, 0..sequences-1, that ltx_eval, ltx_decode, ltx_rewind, ltx_position and ltx_hold are about from now on; 0 after init. */
LTX_API ltx_result ltx_use(ltx_session *s, int32_t sequence);
/* Tokens in the sequence so far = position of the next token. */
LTX_API int32_t ltx_position(const ltx_session *s);
/* Rows of this sequence stop before step `step` of the plan and stay there, with their hidden vectors, until a later ltx_eval_batch finds this moved; 0 = they
   run to the end. For layered prefill (arXiv 2510.08055): a long prompt goes a group of layers further each time that the other sequences
   get a token, by ltx_eval_batch and ltx_sample, as ltx_decode wants no row on its way anywhere. Such rows take places of `rows`. The hold stays
   until it is changed, or ltx_set_plan is called, which wants no row on hold. LTX_E_ARG for a step that is not there. While rows are on hold, calls may be LTX_E_FULL for want
   of places, and ltx_decode is LTX_E_ARG. examples/together.c shows it. */
LTX_API ltx_result ltx_hold(ltx_session *s, int32_t step);

/* Append `count` tokens, return the logits of the last one in *logits [vocab] (may be NULL: none are computed). The pointer is
   valid until the next call on this session or on one that shares its scratch.
   *logits is NULL if the row stays at a hold.
   LTX_E_ARG token out of range, count < 1; LTX_E_FULL position past the cache; LTX_E_STOPPED; LTX_E_NAN: nothing was appended
   (with a window: earlier pieces of `rows` tokens may stay, see ltx_position). */
LTX_API ltx_result ltx_eval(ltx_session *s, const int32_t *tokens, int32_t count, const float **logits);

/* The general form; out may be NULL. Errors as ltx_eval; arrays are valid as long as its logits, NULL if none were asked for. */
typedef struct ltx_batch {
    const int32_t *tokens; /* [count], or NULL and                                               */
    const float   *embeds; /* [count][dim] hidden vectors to start from                          */
    int32_t        count;  /* 1 or more, above `rows` only if at most one row wants logits. 0, with both of these NULL: only go on with rows that are on their way
                              (LTX_E_ARG if there are none)                                      */
    int32_t        logits; /* so many of the last rows want logits. Rows that want them, those of earlier calls that are on their way included, are at most logits_rows */
    const int32_t *sequence; /* [count] of each row, NULL = all of the one in use. Rows of a sequence are in the order of the text */
    const uint8_t *want;   /* [count] 1 = this row wants logits, instead of `logits`; NULL       */
    int32_t        first;  /* 1: return as soon as some row has its logits; the others stay where they are and go on in the next call. With looped layers rows
                              at different loops meet at the same weights (depth-wise batching, arXiv 2410.20672) */
    const uint8_t *kind;   /* [count] 0..LTX_KINDS-1: 0 text, others by agreement; NULL = 0      */
    int32_t        features; /* 1: hidden vectors of all rows are wanted; at most `rows` rows, no hold, not with `first` */
} ltx_batch;
typedef struct ltx_ready { const float *logits; int32_t sequence, position, depth; } ltx_ready;
typedef struct ltx_output {
    const float   *logits; /* [wanted rows][vocab] of this call; NULL also if one of them is still on its way */
    const int32_t *depth;  /* [wanted rows] steps of the plan that lay behind the row when its logits were read, skipped ones included */
    const ltx_ready *ready; /* [n_ready] every row that got its logits in this call, those of earlier calls included, in the order of getting them */
    int32_t        n_ready;
    const float   *features; /* [count][dim] normed as for the head, from the depth where each row stopped */
} ltx_output;
LTX_API ltx_result ltx_eval_batch(ltx_session *s, const ltx_batch *batch, ltx_output *out);

/* A vector for a whole text: the sequence in use is rewound to 0, the batch is run, its rows' features become one (LTX_POOL_FIRST: the first one, LTX_POOL_LAST,
   LTX_POOL_MEAN), of which the first `size` numbers are scaled to length 1 and put into out (Matryoshka embeddings, arXiv 2205.13147; from a plan
   of n layers: 2DMSE, arXiv 2402.14776). Wants ltx_session_desc.features. LTX_E_NAN if the vector has no length; LTX_E_ARG for a pool or size (1..dim) that is not there, sequences in
   the batch, rows on their way; else as ltx_eval_batch. What stood in the sequence is forgotten in any case. */
enum { LTX_POOL_MEAN = 0, LTX_POOL_FIRST = 1, LTX_POOL_LAST = 2 };
LTX_API ltx_result ltx_embed(ltx_session *s, const ltx_batch *batch, int32_t pool, int32_t size, float *out);

/* Forget all positions >= position. LTX_E_ARG if that is negative or ahead, or, with a window, more than `rows` tokens behind the
   furthest position reached so far. Rewind to 0 always works: a new sequence. */
LTX_API ltx_result ltx_rewind(ltx_session *s, int32_t position);
/* Run the missing layers of all waiting rows now (LTX_FILL_DEFER). LTX_E_STOPPED if a tap says so: the rest waits on. */
LTX_API ltx_result ltx_flush(ltx_session *s);

/* Change plan, policy or draft between calls. A plan is checked here and flushes waiting rows first (and fails as ltx_flush does);
   LTX_E_ARG if it is inconsistent, wants a cache that the session has no memory for, or is too short for the draft. Positions that
   were run without a layer have no keys in that layer's cache later on. */
LTX_API ltx_result ltx_set_plan(ltx_session *s, const ltx_plan *plan);
LTX_API ltx_result ltx_set_policy(ltx_session *s, const ltx_policy *policy);
LTX_API ltx_result ltx_set_draft(ltx_session *s, const ltx_draft *draft);

/* Counted where the work happens, since init or ltx_stats_reset. */
typedef struct ltx_stats {
    uint64_t tokens;        /* rows that entered: prompt, decoded, drafted (by a plan: twice), transferred */
    uint64_t attn_rows, ffn_rows; /* branches run, summed over rows                              */
    uint64_t fill_rows;     /* keys and values projected for rows that had left, rows x steps    */
    uint64_t head_rows;     /* logits computed, also at gates and for drafts                     */
    uint64_t weight_bytes;  /* bytes of matrices read; a batch reads a matrix once               */
    uint64_t kv_bytes;      /* bytes of keys and values read                                     */
    uint64_t attended;      /* cache slots attended to, summed over rows and steps               */
    uint64_t exits;         /* rows that left before the last step of the plan                   */
    uint64_t skipped;       /* steps that gates or routers let rows skip, summed over rows        */
    uint64_t dropped;       /* rows that a step did not keep                                      */
    uint64_t rounds, drafted, accepted; /* speculation: rounds, drafted tokens, those kept       */
} ltx_stats;
LTX_API void ltx_session_stats(const ltx_session *s, ltx_stats *out);
LTX_API void ltx_stats_reset(ltx_session *s);

/* ---- decoding ------------------------------------------------------------------------------------------- */

/* How to choose a token. All zero = greedy: the largest logit, lowest token first. Order: softmax(logits / temperature), then
   top_k, top_p, min_p on those probabilities, then one draw. */
typedef struct ltx_sampler {
    float    temperature; /* below 1e-6 = greedy                                                 */
    int32_t  top_k;       /* keep the k most probable; 0 = all                                   */
    float    top_p;       /* keep the smallest set with at least this much probability; 0 or 1 = all  */
    float    min_p;       /* drop what is less probable than min_p times the most probable       */
    uint64_t state;       /* set to the seed; advances with every draw (splitmix64)              */
} ltx_sampler;

/* Choose a token from logits [vocab] of this session. */
LTX_API ltx_result ltx_sample(ltx_session *s, ltx_sampler *sampler, const float *logits, int32_t *token);

typedef struct ltx_token {
    int32_t id;
    int32_t depth;   /* steps that said so: drafted = 1: those that drafted it (of draft.plan, if that did), 0 = none (looked up, or by transfer) */
    int32_t drafted; /* 1 = drafted, and full depth agreed                                       */
} ltx_token;

/* Feed `token` (the one chosen last, not yet in the sequence) and get the next ones: one, or with speculation up to
   length + 1. out[*count - 1] is not yet in the sequence: pass it to the next call. Loop:
       ltx_eval(s, prompt, n, &logits); ltx_sample(s, &sampler, logits, &t);
       while (t is not the end of the text) {
           use t;
           if (ltx_decode(s, &sampler, t, out, cap, &n) != LTX_OK) break;
           use out[0..n-2], which may hold the end of the text (ltx_rewind to it if the session goes on); t = out[n-1].id;
       }
   cap >= 1 limits the round. LTX_E_FULL when the cache has no place for `token`; LTX_E_ARG while rows are on hold or on their way. Exits of the policy apply to plain
   decoding; with speculation the policy's rule is not asked: all rows run to the end. */
LTX_API ltx_result ltx_decode(ltx_session *s, ltx_sampler *sampler, int32_t token, ltx_token *out, int32_t cap, int32_t *count);

/* ---- GGUF images and text (LTX_NO_GGUF leaves them out) -------------------------------------------------- */
#ifndef LTX_NO_GGUF

/* Fill *model from a GGUF image (version 2 or 3; architectures llama, mistral as llama, qwen2, qwen3). The layers live in
   `mem`, all weights stay in the image. Unused metadata is ignored. The image may come from anyone: every offset, size and
   count is checked. */
LTX_API ltx_result ltx_gguf_need(ltx_blob image, const ltx_log *log, ltx_need *out);
LTX_API ltx_result ltx_gguf_init(ltx_blob image, ltx_mem mem, const ltx_log *log, ltx_model *model);

/* Low-level reading, for tools. Open checks the whole directory once; then next_* walk it. */
typedef struct ltx_gguf {
    ltx_blob image;
    uint64_t n_kv, n_tensors;
    uint64_t kv_start, tensor_start, tensor_end, data_start, alignment; /* byte offsets in the image */
} ltx_gguf;
typedef struct ltx_gguf_kv {
    const char *key; size_t key_len;
    uint32_t type;       /* GGUF value type: 0 u8 1 i8 2 u16 3 i16 4 u32 5 i32 6 f32 7 bool 8 string 9 array 10 u64 11 i64 12 f64 */
    uint32_t item_type;  /* of an array, else = type                                             */
    uint64_t count;      /* items of an array, bytes of a string, else 1                         */
    const uint8_t *data; /* first value (after length words), little-endian                      */
    size_t   size;       /* bytes from data to the end of this value                             */
} ltx_gguf_kv;
typedef struct ltx_gguf_tensor {
    const char *name; size_t name_len;
    uint32_t type, n_dims;
    uint64_t dims[4];    /* dims[0] is contiguous: a matrix is dims[1] rows of dims[0]           */
    uint64_t offset;     /* of the data in the image                                             */
    uint64_t bytes;      /* 0 for a type that this library does not know                         */
} ltx_gguf_tensor;
LTX_API ltx_result ltx_gguf_open(ltx_blob image, const ltx_log *log, ltx_gguf *out);
/* *cursor starts at 0 and is advanced; LTX_E_FULL at the end. */
LTX_API ltx_result ltx_gguf_next_kv(const ltx_gguf *g, uint64_t *cursor, ltx_gguf_kv *out);
LTX_API ltx_result ltx_gguf_next_tensor(const ltx_gguf *g, uint64_t *cursor, ltx_gguf_tensor *out);

/* Tokenizer from the same image: tokenizer.ggml.model "llama" (SentencePiece BPE with byte fallback) or "ltx-bytes" (token id =
   byte, and special tokens above). GPT-2 style BPE ("gpt2": Qwen, Llama 3) is LTX_E_ABSENT: such models run, tokens come from you. */
typedef struct ltx_vocab ltx_vocab; /* lives in the block given to init; the image must outlive it */
LTX_API ltx_result ltx_vocab_need(ltx_blob image, const ltx_log *log, ltx_need *out);
LTX_API ltx_result ltx_vocab_init(ltx_blob image, ltx_mem mem, const ltx_log *log, ltx_vocab **out);
LTX_API int32_t ltx_vocab_size(const ltx_vocab *v);
LTX_API int32_t ltx_vocab_bos(const ltx_vocab *v); /* token put before a text, -1 = none */
LTX_API int32_t ltx_vocab_eos(const ltx_vocab *v); /* token that ends a text,   -1 = none */

/* Text to tokens. `work` is scratch of ltx_encode_need(len) bytes. flags: LTX_BOS puts the BOS token first. Writes at most cap
   tokens, LTX_E_FULL and nothing written if there are more; len + 2 are always enough.
   Without a BOS token in the vocabulary LTX_BOS does nothing. Any bytes are accepted; what is no UTF-8 falls back to bytes. */
enum { LTX_BOS = 1 };
LTX_API ltx_result ltx_encode_need(size_t len, ltx_need *out);
LTX_API ltx_result ltx_encode(const ltx_vocab *v, const char *text, size_t len, uint32_t flags, ltx_mem work, int32_t *tokens, int32_t cap, int32_t *count);

/* Text of one token into buf[cap]; returns bytes written, not terminated; 0 for control tokens and unknown ids; what does not
   fit is cut. `first`: 1 for the first token of a text, which loses the blank that the encoder put before it. A piece may hold part of a
   UTF-8 character. cap of 64 fits most, ltx_vocab_longest fits all. */
LTX_API int32_t ltx_piece(const ltx_vocab *v, int32_t token, int32_t first, char *buf, int32_t cap);
LTX_API int32_t ltx_vocab_longest(const ltx_vocab *v);
#endif /* LTX_NO_GGUF */

/* ---- tensor operations, usable alone ---------------------------------------------------------------------
   They take the host's floating-point mode as it is (only ltx_session_init checks it), and each call with an isa looks the set up
   afresh: for work in loops, a session is the better tool. */

/* Bytes of a row of `cols` elements; 0 if the type is unknown or cols no multiple of its block: 256 for Q4_K, Q5_K and Q6_K, 1 for F32, F16 and
   BF16, else 32. Where sixteen rows lie together it is a sixteenth of what they take. SIZE_MAX if that does not fit. */
LTX_API size_t ltx_row_bytes(int32_t type, int32_t cols);
/* Bytes of a whole matrix, rows rounded up to 16 where sixteen lie together; 0 as above. A GGUF tensor of those types has that size. */
LTX_API size_t ltx_mat_bytes(int32_t type, int32_t rows, int32_t cols);
LTX_API const char *ltx_type_name(int32_t type); /* "Q8_0"; "?" if unknown */
/* A whole matrix x [rows][cols] to any type; `out` has ltx_mat_bytes. A part that starts at row r, a multiple of 16, goes
   to out + r * ltx_row_bytes; one whose rows are no multiple of 16 comes last. And one row back to floats. LTX_E_ARG: shape does not suit the type (R8 and
   R4 also want cols <= LTX_MAX_ROW_COLS). Q8_X, Q4_X: numbers as ltx_quantize makes Q8_0 and Q4_0. R8: s = max|x| / 127 of the row,
   rounded to nearest even: off by at most s / 2. R4: s = max|x| / 120, to each block a g of small squared error. Of R8 and R4 a row with an element that is not finite
   decodes to NaN throughout, and so do products with it; rows with max|x| below 1.5e-36 are zeros. */
LTX_API ltx_result ltx_mat_encode(int32_t type, const float *x, int32_t rows, int32_t cols, void *out);
LTX_API ltx_result ltx_mat_row(const ltx_mat *w, int32_t row, float *y);
/* n elements to or from a format; n a multiple of the block. F16, BF16, Q8_0 round to nearest even; Q8_0: d = max|x| / 127 rounded to
   half; Q4_0: d = (x of largest |x|) / -8, x / d + 8.5 cut off, as GGML does. K formats: a search of our own for a small squared error, which
   gives the same bytes everywhere. Of all of these a block or super-block with an input that is not finite decodes to NaN throughout, one
   too large for d to numbers that are not finite. Return 0 or LTX_E_ARG (also for types in which sixteen rows lie together: see ltx_mat_encode and ltx_mat_row). */
LTX_API ltx_result ltx_quantize(int32_t type, const float *x, int32_t n, void *out);
LTX_API ltx_result ltx_dequantize(int32_t type, const void *in, int32_t n, float *y);

/* y[m][rows] = W x[m][cols] for m rows, the same bits with every isa (a NaN may be another NaN). Quantized W: x is first quantized in blocks of 32 to int8 with a float scale d = max|x| / 127;
   each integer is x * (127 / max|x|) rounded once to nearest even, and blocks with max|x| below 4e-37 are zeros. K formats: the same in blocks of
   256; R8 and R4: the whole row, always 8 bits. One thread; y has no gaps between rows. `work` is scratch of ltx_matmul_need bytes. isa as in the session. */
LTX_API ltx_result ltx_matmul_need(const ltx_mat *w, int32_t m, ltx_need *out);
LTX_API ltx_result ltx_matmul(int32_t isa, const ltx_mat *w, const float *x, int32_t m, ltx_mem work, float *y);

/* Element-wise y[i] = f(x[i]), y may be x. Largest errors against exact values, in units of the last place of a float, over the finite
   floats: EXP 1, LOG 1, TANH 3; SILU 2.5 for x >= -88 (below, where |y| < 1e-36, the result is -0); GELU 4 for x >= -1, 20 for
   x >= -4, below that 1e-9 absolute; SIN and COS 2 for |x| <= 2^22 where |y| >= 1/16, nearer to their zeros 1e-7 absolute. */
typedef enum ltx_fn { LTX_FN_EXP, LTX_FN_LOG, LTX_FN_SILU, LTX_FN_GELU, LTX_FN_TANH, LTX_FN_SIN, LTX_FN_COS } ltx_fn;
LTX_API ltx_result ltx_map(int32_t isa, ltx_fn f, const float *x, int32_t n, float *y);
/* y = x / sqrt(mean(x^2) + eps) * w; w is LTX_F32 [n] of any alignment or NULL (= 1); y may be x. (arXiv 1910.07467) */
LTX_API ltx_result ltx_rmsnorm(int32_t isa, const float *x, const void *w, int32_t n, float eps, float *y);
/* x = softmax(x), n >= 1. */
LTX_API ltx_result ltx_softmax(int32_t isa, float *x, int32_t n);
/* Rotate `heads` vectors of the model's head_dim at a position, in place. (arXiv 2104.09864) */
LTX_API ltx_result ltx_rope_rotate(int32_t isa, const ltx_model *model, float *x, int32_t heads, int32_t position);
/* (An absent isa here means the scalar set, which gives the same.) Probabilities [n] of a sampler (temperature > 0 after its filters, or one-hot if greedy); order [n] is scratch. Then a draw with u in [0,1). */
LTX_API void    ltx_probabilities(int32_t isa, const ltx_sampler *sampler, const float *logits, int32_t n, float *probs, int32_t *order);
LTX_API int32_t ltx_draw(const float *probs, int32_t n, float u);
LTX_API float   ltx_random(ltx_sampler *sampler); /* next u of the generator: 24 bits, [0,1) */

LTX_API uint32_t ltx_version(void); /* major * 10000 + minor * 100 + patch */

#ifdef __cplusplus
}
#endif
#endif /* LTX_H: the API ends here */

#if defined(LTX_IMPLEMENTATION) && !defined(LTX_IMPLEMENTED)
#define LTX_IMPLEMENTED

/* ==== >>platform ==========================================================================================
   Owns what differs between compilers and machines, and the small tools that everything uses: fused multiply-add, byte order,
   checked sizes, the arena behind every need/init, log events. Calls nothing.                               */

#include <float.h>
#include <math.h>
#include <string.h>

#if !defined(LTX_ALLOW_FAST_MATH) && (defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) \
    || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__))
#error "ltx.h: -ffast-math changes results; compile this file without it or define LTX_ALLOW_FAST_MATH"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 && !defined(LTX_ALLOW_FAST_MATH) /* 16: only half precision is evaluated as such */
#error "ltx.h: float arithmetic has excess precision here (x87?); use -msse2 -mfpmath=sse"
#endif

/* No product in this file feeds a sum without an explicit fma, unless it is exact, so contraction has nothing to change. Switched off all the
   same: clang fuses within expressions, gcc in gnu modes across them (gcc ignores the standard pragma). */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
/* gcc 12's AVX-512 intrinsics read a register that they leave undefined on purpose, and warn about it (gcc bug 105593) */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#if defined(__GNUC__)
#define LTXI_FN __attribute__((unused)) static
#else
#define LTXI_FN static
#endif

/* A loop with constant bounds whose arrays are to live in registers. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8 /* clang does it by itself */
#define LTXI_UNROLL _Pragma("GCC unroll 32")
#else
#define LTXI_UNROLL
#endif

/* Ask for the line `ahead` bytes after p, which is wanted soon, into the second cache. It may be past the end of what p points into (so it is computed as
   a number): a wrong address does no harm. */
#if defined(__GNUC__)
#define LTXI_PREFETCH_AS(p, ahead, write, level) __builtin_prefetch((const void *)((uintptr_t)(p) + (size_t)(ahead)), write, level)
#else
#define LTXI_PREFETCH_AS(p, ahead, write, level) ((void)(p), (void)(ahead))
#endif
#define LTXI_PREFETCH(p, ahead) LTXI_PREFETCH_AS(p, ahead, 0, 2)
#define LTXI_PREFETCH_NEAR(p, ahead) LTXI_PREFETCH_AS(p, ahead, 0, 3) /* into the first cache */
#define LTXI_PREFETCH_WRITE(p) LTXI_PREFETCH_AS(p, 0, 1, 2)
enum { LTXI_AHEAD = 65536, LTXI_KV_AHEAD = 16384 }; /* bytes that a stream of weights, of keys or values, is fetched ahead */

#ifdef LTX_NO_STRINGS
#define LTXI_S(s) ""
#else
#define LTXI_S(s) s
#endif

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__)) && !defined(LTX_NO_X86) \
    && (!defined(_WIN64) || defined(__clang__)) /* gcc does not align vectors on the stack of 64-bit Windows */
#define LTXI_X86 1
#include <cpuid.h>
#include <immintrin.h>
#if defined(__x86_64__) && defined(__linux__) && !defined(LTX_NO_AMX) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define LTXI_AMX 1
#endif
#endif

/* Little-endian 64-bit Arm; NEON of 32-bit Arm flushes denormals. */
#if defined(__GNUC__) && defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__) && !defined(LTX_NO_NEON)
#define LTXI_NEON 1
#include <arm_neon.h>
#if defined(__linux__) && __STDC_HOSTED__
#define LTXI_AUXV 1
#include <sys/auxv.h>
#endif
/* Newer instructions are in the compiler's own range, or added to single functions where that is known to work: gcc before 14 wants a whole architecture there,
   which must not have less than the rest of the file. */
#if defined(__clang__) ? __clang_major__ >= 16 : __GNUC__ >= 14
#define LTXI_ARM_WITH(features) unused, target(features)
#elif !defined(__clang__) && __GNUC__ >= 10 && !defined(__ARM_FEATURE_CRYPTO) && !defined(__ARM_FEATURE_AES) && !defined(__ARM_FEATURE_SHA2) \
    && !defined(__ARM_FEATURE_FP16_SCALAR_ARITHMETIC) && !defined(__ARM_FEATURE_DOTPROD) && !defined(__ARM_FEATURE_COMPLEX) && !defined(__ARM_FEATURE_SVE)
#define LTXI_ARM_WITH(features) unused, target("arch=armv8.2-a" features)
#endif
#if defined(__ARM_FEATURE_DOTPROD)
#define LTXI_DOTPROD unused
#elif defined(LTXI_ARM_WITH) && defined(LTXI_AUXV)
#define LTXI_DOTPROD LTXI_ARM_WITH("+dotprod")
#endif
#if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
#define LTXI_I8MM unused
#elif defined(LTXI_ARM_WITH) && defined(LTXI_AUXV)
#define LTXI_I8MM LTXI_ARM_WITH("+dotprod+i8mm")
#endif
#endif
#if defined(__wasm_simd128__) && !defined(LTX_NO_SIMD128)
#define LTXI_SIMD128 1
#include <wasm_simd128.h>
#endif

LTXI_FN uint32_t ltxi_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
LTXI_FN float ltxi_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
LTXI_FN uint32_t ltxi_u16(const void *p) { const uint8_t *b = (const uint8_t *)p; return (uint32_t)b[0] | (uint32_t)b[1] << 8; }
LTXI_FN uint32_t ltxi_u32(const void *p) { return ltxi_u16(p) | ltxi_u16((const uint8_t *)p + 2) << 16; }
LTXI_FN uint64_t ltxi_u64(const void *p) { return (uint64_t)ltxi_u32(p) | (uint64_t)ltxi_u32((const uint8_t *)p + 4) << 32; }
LTXI_FN void ltxi_put16(void *p, uint32_t v) { uint8_t *b = (uint8_t *)p; b[0] = (uint8_t)v; b[1] = (uint8_t)(v >> 8); }
LTXI_FN void ltxi_put32(void *p, uint32_t v) { ltxi_put16(p, v); ltxi_put16((uint8_t *)p + 2, v >> 16); }
LTXI_FN float ltxi_le_float(const void *p) { return ltxi_float(ltxi_u32(p)); }

LTXI_FN float ltxi_abs(float x) { return ltxi_float(ltxi_bits(x) & 0x7fffffffu); }
LTXI_FN int32_t ltxi_min(int32_t a, int32_t b) { return a < b ? a : b; }
LTXI_FN int32_t ltxi_max(int32_t a, int32_t b) { return a > b ? a : b; }
LTXI_FN int32_t ltxi_round_up(int32_t n, int32_t m) { return (n + m - 1) / m * m; }
LTXI_FN size_t ltxi_mul(size_t a, size_t b) { return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b; } /* saturating */
LTXI_FN size_t ltxi_add(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

/* Correctly rounded a*b + c. Where the machine has no such instruction: the product of two floats is exact in double; the sum
   is rounded to odd with the help of its exact error, which makes the second rounding, to float, right (Boldo and Melquiond,
   "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008). */
#if defined(__FMA__) || defined(__aarch64__) || defined(__ARM_FEATURE_FMA) || defined(FP_FAST_FMAF)
LTXI_FN float ltxi_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
LTXI_FN float ltxi_fma(float a, float b, float c)
{
    double p = (double)a * (double)b, z = (double)c, s = p + z, zz = s - p;
    double e = (p - (s - zz)) + (z - zz); /* NaN when s is not finite: then nothing is adjusted */
    uint64_t u;
    memcpy(&u, &s, 8);
    if ((e > 0 || e < 0) && (u & 1) == 0) {
        if ((e > 0) == (s > 0)) u++; else u--;
        memcpy(&s, &u, 8);
    }
    return (float)s;
}
#endif

/* x * s rounded once to the nearest integer, ties to even, for |x * s| < 2^22: 1.5 * 2^23 leaves no fraction bits, and
   the low bits of the sum are the integer. */
#define LTXI_MAGIC 12582912.0f
#define LTXI_MAGIC_BITS 0x4b400000u
LTXI_FN float ltxi_round(float x, float s) { return ltxi_fma(x, s, LTXI_MAGIC) - LTXI_MAGIC; }

/* Every object's layout is written once, as a sequence of takes. With base NULL it measures, else it places. */
typedef struct ltxi_arena { uint8_t *base; size_t used; } ltxi_arena;
enum { LTXI_ALIGN = 64 }; /* a cache line; also the alignment that every need asks for */
LTXI_FN void *ltxi_take(ltxi_arena *a, size_t count, size_t elem)
{
    size_t at = a->used, bytes = ltxi_add(ltxi_mul(count, elem), LTXI_ALIGN - 1);
    a->used = bytes == SIZE_MAX ? SIZE_MAX : ltxi_add(at, bytes / LTXI_ALIGN * LTXI_ALIGN);
    return a->base == NULL ? NULL : (void *)(a->base + at);
}
LTXI_FN ltx_result ltxi_need_of(const ltxi_arena *a, ltx_need *out) /* LTX_E_ARG if the size does not fit into size_t */
{
    if (a->used == SIZE_MAX) return LTX_E_ARG;
    out->size = a->used;
    out->align = LTXI_ALIGN;
    return LTX_OK;
}

LTXI_FN int ltxi_same(const void *a, const void *b, size_t n)
{
    const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
    size_t i;
    for (i = 0; i < n; i++) if (x[i] != y[i]) return 0;
    return 1;
}
/* Of names in this file. Bounded, so that gcc does not make a call of strlen out of it, which firmware may lack. */
LTXI_FN size_t ltxi_strlen(const char *s) { size_t n = 0; while (n < 64 && s[n] != 0) n++; return n; }
LTXI_FN ltx_result ltxi_fail_n(const ltx_log *log, ltx_result code, int32_t index, const char *name, size_t len, const char *text,
                               int64_t want, int64_t got)
{
    ltx_event e;
    if (log == NULL || log->fn == NULL) return code;
    e.code = code; e.index = index; e.text = text; e.name = name; e.name_len = len; e.want = want; e.got = got;
    log->fn(log->user, &e);
    return code;
}
LTXI_FN ltx_result ltxi_fail(const ltx_log *log, ltx_result code, int32_t index, const char *name, const char *text, int64_t want, int64_t got)
{
    return ltxi_fail_n(log, code, index, name, ltxi_strlen(name), text, want, got);
}

LTXI_FN ltx_result ltxi_block_ok(const ltx_log *log, const char *name, const ltx_need *need, const ltx_mem *mem)
{
    if (need->size == 0 || (mem->ptr != NULL && mem->size >= need->size && (uintptr_t)mem->ptr % need->align == 0)) return LTX_OK;
    return ltxi_fail(log, LTX_E_MEM, -1, name, LTXI_S("block too small or misaligned"), (int64_t)need->size, (int64_t)mem->size);
}

LTX_API uint32_t ltx_version(void) { return LTX_VERSION_MAJOR * 10000 + LTX_VERSION_MINOR * 100 + LTX_VERSION_PATCH; }

LTX_API const char *ltx_result_text(ltx_result r)
{
    switch (r) {
    case LTX_OK: return LTXI_S("ok");
    case LTX_E_ARG: return LTXI_S("wrong argument");
    case LTX_E_MEM: return LTXI_S("memory block too small or misaligned");
    case LTX_E_MODEL: return LTXI_S("model or image is damaged or inconsistent");
    case LTX_E_ABSENT: return LTXI_S("not available in this build or on this machine");
    case LTX_E_FULL: return LTXI_S("no room left");
    case LTX_E_STOPPED: return LTXI_S("stopped by a callback");
    case LTX_E_NAN: return LTXI_S("logits are not finite");
    case LTX_E_HOST: return LTXI_S("the host flushes denormals to zero or does not round to nearest");
    }
    return LTXI_S("unknown result");
}

/* ==== >>formats ===========================================================================================
   Owns the number formats of weights: what a block looks like, to float, from float. One row of LTXI_FORMATS per format, from which
   everything that goes by format is made. May call: platform.                                                                   */

LTXI_FN float ltxi_from_half(uint32_t h)
{
    uint32_t sign = (h & 0x8000u) << 16, exp = h >> 10 & 31u, man = h & 0x3ffu;
    if (exp == 0) return ltxi_float(sign | ltxi_bits((float)man * 5.9604644775390625e-8f)); /* man * 2^-24 */
    if (exp == 31) return ltxi_float(sign | 0x7f800000u | man << 13 | (man != 0 ? 0x400000u : 0u));
    return ltxi_float(sign | (exp + 112u) << 23 | man << 13);
}
LTXI_FN uint32_t ltxi_to_half(float x) /* nearest even */
{
    uint32_t u = ltxi_bits(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return sign | 0x7e00u | (a >> 13 & 0x3ffu);
    if (a >= 0x477ff000u) return sign | 0x7c00u; /* 65520 and more round to infinity */
    if (a < 0x38800000u) return sign | (ltxi_bits(ltxi_float(a) + 0.5f) - 0x3f000000u); /* denormal: 0.5 has the right last place */
    return sign | (a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13;
}
LTXI_FN float ltxi_from_bf16(uint32_t h) { return ltxi_float(h << 16); }
LTXI_FN uint32_t ltxi_to_bf16(float x)
{
    uint32_t u = ltxi_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return u >> 16 | 0x40u;
    return (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}

enum { LTXI_BLOCK = 32, LTXI_Q8_BYTES = 34, LTXI_Q4_BYTES = 18 }; /* elements of a quantized block; its bytes, half d first */

LTXI_FN void ltxi_decode_f32(const uint8_t *in, int32_t n, float *y) { int32_t i; for (i = 0; i < n; i++) y[i] = ltxi_le_float(in + (size_t)i * 4); }
LTXI_FN void ltxi_encode_f32(const float *x, int32_t n, uint8_t *out) { int32_t i; for (i = 0; i < n; i++) ltxi_put32(out + (size_t)i * 4, ltxi_bits(x[i])); }
LTXI_FN void ltxi_decode_f16(const uint8_t *in, int32_t n, float *y) { int32_t i; for (i = 0; i < n; i++) y[i] = ltxi_from_half(ltxi_u16(in + (size_t)i * 2)); }
LTXI_FN void ltxi_encode_f16(const float *x, int32_t n, uint8_t *out) { int32_t i; for (i = 0; i < n; i++) ltxi_put16(out + (size_t)i * 2, ltxi_to_half(x[i])); }
LTXI_FN void ltxi_decode_bf16(const uint8_t *in, int32_t n, float *y) { int32_t i; for (i = 0; i < n; i++) y[i] = ltxi_from_bf16(ltxi_u16(in + (size_t)i * 2)); }
LTXI_FN void ltxi_encode_bf16(const float *x, int32_t n, uint8_t *out) { int32_t i; for (i = 0; i < n; i++) ltxi_put16(out + (size_t)i * 2, ltxi_to_bf16(x[i])); }

LTXI_FN void ltxi_decode_q8_0(const uint8_t *in, int32_t n, float *y)
{
    int32_t b, i;
    for (b = 0; b < n / LTXI_BLOCK; b++, in += LTXI_Q8_BYTES) {
        float d = ltxi_from_half(ltxi_u16(in));
        for (i = 0; i < LTXI_BLOCK; i++) *y++ = d * (float)(int8_t)in[2 + i];
    }
}
LTXI_FN void ltxi_decode_q4_0(const uint8_t *in, int32_t n, float *y)
{
    int32_t b, i;
    for (b = 0; b < n / LTXI_BLOCK; b++, in += LTXI_Q4_BYTES, y += LTXI_BLOCK) {
        float d = ltxi_from_half(ltxi_u16(in));
        for (i = 0; i < LTXI_BLOCK / 2; i++) {
            y[i] = d * (float)((in[2 + i] & 15) - 8);
            y[i + LTXI_BLOCK / 2] = d * (float)((in[2 + i] >> 4) - 8);
        }
    }
}
LTXI_FN int ltxi_all_finite(const float *x, int32_t n)
{
    uint32_t top = 0, a;
    int32_t i;
    for (i = 0; i < n; i++) { a = ltxi_bits(x[i]) & 0x7fffffffu; top = a > top ? a : top; }
    return top < 0x7f800000u;
}
LTXI_FN int ltxi_encode_nan(const float *x, int32_t n, uint8_t *out, size_t bytes) /* of a block that is not finite: d = NaN */
{
    if (ltxi_all_finite(x, n)) return 0;
    memset(out, 0, bytes);
    ltxi_put16(out, 0x7e00u);
    return 1;
}
LTXI_FN float ltxi_largest(const float *x, int32_t n) /* the element of largest magnitude, sign kept */
{
    float m = 0;
    int32_t i;
    for (i = 0; i < n; i++) if (ltxi_abs(x[i]) > ltxi_abs(m)) m = x[i];
    return m;
}
LTXI_FN void ltxi_encode_q8_0(const float *x, int32_t n, uint8_t *out)
{
    int32_t b, i;
    for (b = 0; b < n / LTXI_BLOCK; b++, out += LTXI_Q8_BYTES, x += LTXI_BLOCK) {
        if (ltxi_encode_nan(x, LTXI_BLOCK, out, LTXI_Q8_BYTES)) continue;
        float d = ltxi_abs(ltxi_largest(x, LTXI_BLOCK)) / 127.0f, id = d > 0 ? 1.0f / d : 0.0f;
        ltxi_put16(out, ltxi_to_half(d));
        for (i = 0; i < LTXI_BLOCK; i++) {
            float q = ltxi_round(x[i], id);
            out[2 + i] = (uint8_t)(int8_t)(q > 127.0f ? 127.0f : q > -127.0f ? q : -127.0f);
        }
    }
}
LTXI_FN uint32_t ltxi_nibble(float q) { return q >= 15.0f ? 15u : q > 0.0f ? (uint32_t)q : 0u; }
LTXI_FN void ltxi_encode_q4_0(const float *x, int32_t n, uint8_t *out)
{
    int32_t b, i;
    for (b = 0; b < n / LTXI_BLOCK; b++, out += LTXI_Q4_BYTES, x += LTXI_BLOCK) {
        if (ltxi_encode_nan(x, LTXI_BLOCK, out, LTXI_Q4_BYTES)) continue;
        float m = ltxi_largest(x, LTXI_BLOCK), d = m / -8.0f, id = m > 0 || m < 0 ? 1.0f / d : 0.0f;
        ltxi_put16(out, ltxi_to_half(d));
        for (i = 0; i < LTXI_BLOCK / 2; i++) /* 8 for the offset, 0.5 so that truncation rounds */
            out[2 + i] = (uint8_t)(ltxi_nibble(ltxi_fma(x[i], id, 8.5f)) | ltxi_nibble(ltxi_fma(x[i + LTXI_BLOCK / 2], id, 8.5f)) << 4);
    }
}

/* ---- Q4_K, Q5_K, Q6_K: super-blocks of 256 elements, whose sub-blocks (32, in Q6_K 16) have integer scales of their own ---- */
enum { LTXI_SUPER = 256, LTXI_Q4K_BYTES = 144, LTXI_Q5K_BYTES = 176, LTXI_Q6K_BYTES = 210 };

LTXI_FN int32_t ltxi_super_bytes(int32_t type) { return type == LTX_Q4_K ? LTXI_Q4K_BYTES : type == LTX_Q5_K ? LTXI_Q5K_BYTES : LTXI_Q6K_BYTES; }
/* Six bits of scale and of min of sub-block j out of the 12 bytes of a Q4_K or Q5_K super-block. */
LTXI_FN int32_t ltxi_k_scale(const uint8_t *s, int32_t j) { return j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4; }
LTXI_FN int32_t ltxi_k_min(const uint8_t *s, int32_t j) { return j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4; }
/* The number of element i of sub-block j; high = NULL for Q4_K. Q6_K: of element 32 j + i. */
LTXI_FN int32_t ltxi_k_quant(const uint8_t *low, const uint8_t *high, int32_t j, int32_t i)
{
    return (low[j / 2 * 32 + i] >> j % 2 * 4 & 15) | (high == NULL ? 0 : (high[i] >> j & 1) << 4);
}
LTXI_FN int32_t ltxi_q6_quant(const uint8_t *block, int32_t j, int32_t i)
{
    return ((block[j / 4 * 64 + j % 2 * 32 + i] >> j % 4 / 2 * 4 & 15) | (block[128 + j / 4 * 32 + i] >> j % 4 * 2 & 3) << 4) - 32;
}

/* One super-block of Q4_K or Q5_K. d * scale * q has no more than 11 + 6 + 5 bits and is exact: the difference is the same, fused or not. */
LTXI_FN void ltxi_decode_min(const uint8_t *in, const uint8_t *low, const uint8_t *high, float *y)
{
    float d = ltxi_from_half(ltxi_u16(in)), dmin = ltxi_from_half(ltxi_u16(in + 2));
    int32_t i, j;
    for (j = 0; j < LTXI_SUPER / 32; j++, y += 32) {
        float s = d * (float)ltxi_k_scale(in + 4, j), m = dmin * (float)ltxi_k_min(in + 4, j);
        for (i = 0; i < 32; i++) y[i] = s * (float)ltxi_k_quant(low, high, j, i) - m;
    }
}
LTXI_FN void ltxi_decode_q4_k(const uint8_t *in, int32_t n, float *y)
{
    for (; n > 0; n -= LTXI_SUPER, in += LTXI_Q4K_BYTES, y += LTXI_SUPER) ltxi_decode_min(in, in + 16, NULL, y);
}
LTXI_FN void ltxi_decode_q5_k(const uint8_t *in, int32_t n, float *y)
{
    for (; n > 0; n -= LTXI_SUPER, in += LTXI_Q5K_BYTES, y += LTXI_SUPER) ltxi_decode_min(in, in + 48, in + 16, y);
}
LTXI_FN void ltxi_decode_q6_k(const uint8_t *in, int32_t n, float *y)
{
    int32_t i, j;
    for (; n > 0; n -= LTXI_SUPER, in += LTXI_Q6K_BYTES) {
        float d = ltxi_from_half(ltxi_u16(in + 208));
        for (j = 0; j < LTXI_SUPER / 32; j++, y += 32) {
            float s[2];
            for (i = 0; i < 2; i++) s[i] = d * (float)(int8_t)in[192 + 2 * j + i];
            for (i = 0; i < 32; i++) y[i] = s[i / 16] * (float)ltxi_q6_quant(in, j, i);
        }
    }
}

/* Encoding into K formats: our own search, made so that every target takes the same turns. The steps of a sub-block are chosen on integers
   (inputs as fractions of 2^16), where sums are exact; no product of floats feeds a sum but by ltxi_fma or where it is exact itself. */

/* Half of `twice`, rounded to low..high; NaN gives low. The number is cut off and rounded as an integer: with 0.5 added, a product could be fused. */
LTXI_FN int32_t ltxi_nearest(float twice, int32_t low, int32_t high)
{
    float a = (float)(2 * low), b = (float)(2 * high);
    int32_t k = (int32_t)(twice > a ? (twice < b ? twice : b) : a);
    return (k + (k < 0 ? -1 : 1)) / 2;
}
/* The step of a super-block as a half: the largest scale, divided by `steps`, to nearest; but larger where that falls short by half a step, as
   denormals may: the sub-blocks can make up for a step that is too large. */
LTXI_FN uint32_t ltxi_k_step(float most, float steps)
{
    uint32_t h = ltxi_to_half(most / steps);
    return ltxi_abs(ltxi_from_half(h)) * (ltxi_abs(steps) + 0.5f) < ltxi_abs(most) ? h + 1 : h;
}

/* x = scale * q - min for 32 elements; mid = mean of q, about which a line may turn. */
typedef struct ltxi_line { float scale, min, mid; } ltxi_line;
typedef struct ltxi_sums { int64_t u, uq, q, qq; } ltxi_sums;

/* The line through 32 points (q, u) with the least squared error, start + slope q, which may not start above `most`. Returns what it
   explains of the sum of u^2: n times the squared mean and the rest, or the same for a line of which the start is given. */
LTXI_FN double ltxi_fit_points(const ltxi_sums *s, int64_t most, double *slope, double *start)
{
    int64_t det = 32 * s->qq - s->q * s->q, top = 32 * s->uq - s->u * s->q, cut = s->u * s->qq - s->q * s->uq;
    if (det > 0 && cut <= most * det) {
        *slope = (double)top / (double)det;
        *start = (double)cut / (double)det;
        return ((double)(s->u * s->u) + (double)top * (double)top / (double)det) / 32;
    }
    top = s->uq - most * s->q;
    *slope = (double)top / (double)s->qq;
    *start = (double)most;
    return (double)(2 * most * s->u - 32 * most * most) + (double)top * (double)top / (double)s->qq;
}
/* Cuts the range of the inputs, from 0 at most, into steps in nine ways, `top` - 1 to `top` + 1 steps, and takes the best line. */
LTXI_FN ltxi_line ltxi_fit_line(const float *x, int32_t top)
{
    ltxi_line line;
    ltxi_sums s;
    float low = 0, high = x[0], inverse, zero;
    int32_t i, c, q, u[32];
    double best = -1, gain, slope, start;
    for (i = 0; i < 32; i++) { low = x[i] < low ? x[i] : low; high = x[i] > high ? x[i] : high; }
    line.scale = line.mid = 0;
    line.min = -low;
    if (!(high - low > 1e-30f && high - low <= FLT_MAX)) return line; /* a step would be no half either way */
    inverse = 65536.0f / (high - low);
    zero = -low * inverse;
    for (i = 0, s.u = 0; i < 32; i++) { u[i] = (int32_t)((x[i] - low) * inverse); s.u += u[i]; }
    for (c = 4 * top - 4; c <= 4 * top + 4; c++) {
        int32_t uq = 0, sum = 0, qq = 0;
        for (i = 0; i < 32; i++) {
            q = (u[i] * c + (1 << 17)) >> 18;
            q = q < top ? q : top;
            uq += u[i] * q; sum += q; qq += q * q;
        }
        s.uq = uq; s.q = sum; s.qq = qq;
        gain = ltxi_fit_points(&s, (int64_t)(zero < 131072.0f ? zero : 131072.0f), &slope, &start); /* above 65536 no line starts */
        if (gain <= best) continue;
        best = gain;
        line.scale = (float)slope / inverse;
        line.min = ltxi_fma((float)-start, (high - low) / 65536.0f, -low);
        line.mid = (float)sum / 32.0f;
    }
    line.min = line.min > 0 ? line.min : 0;
    return line;
}
/* Scale and min of a sub-block in steps of the super-block, d and dmin: three scales around that of its line, each with the min that turns the
   line about its middle; the one with the least squared error. Differences and their squares are of exact products. */
LTXI_FN void ltxi_encode_sub(const float *x, const ltxi_line *line, float d, float dmin, int32_t top, int32_t *scale, int32_t *min, uint8_t *q)
{
    float id = d > 0 ? 2.0f / d : 0, imin = dmin > 0 ? 2.0f / dmin : 0;
    int32_t i, middle = ltxi_nearest(line->scale * id, 0, 63), c = ltxi_max(middle - 1, 0), end = ltxi_min(middle + 1, 63);
    double best = -1;
    for (; c <= end; c++) {
        float s = d * (float)c, inverse = s > 0 ? 2.0f / s : 0;
        int32_t m = ltxi_nearest(ltxi_fma(s - line->scale, line->mid, line->min) * imin, 0, 63);
        float offset = dmin * (float)m;
        uint8_t t[32];
        double error = 0;
        for (i = 0; i < 32; i++) {
            float v = x[i] + offset, r;
            t[i] = (uint8_t)ltxi_nearest(v * inverse, 0, top);
            r = v - s * (float)t[i];
            error += (double)r * (double)r;
        }
        if (best >= 0 && !(error < best)) continue;
        best = error;
        *scale = c; *min = m;
        memcpy(q, t, 32);
    }
}
LTXI_FN void ltxi_encode_min(const float *x, uint8_t *out, uint8_t *low, uint8_t *high)
{
    ltxi_line line[8];
    int32_t i, j, top = high != NULL ? 31 : 15, scale[8], min[8];
    float d = 0, dmin = 0;
    uint8_t q[LTXI_SUPER], *s = out + 4;
    if (!ltxi_all_finite(x, LTXI_SUPER)) { ltxi_put16(out, 0x7e00u); return; } /* NaN */
    for (j = 0; j < 8; j++) {
        line[j] = ltxi_fit_line(x + j * 32, top);
        d = line[j].scale > d ? line[j].scale : d;
        dmin = line[j].min > dmin ? line[j].min : dmin;
    }
    ltxi_put16(out, ltxi_k_step(d, 63.0f));
    ltxi_put16(out + 2, ltxi_k_step(dmin, 63.0f));
    d = ltxi_from_half(ltxi_u16(out));
    dmin = ltxi_from_half(ltxi_u16(out + 2));
    for (j = 0; j < 8; j++) ltxi_encode_sub(x + j * 32, &line[j], d, dmin, top, &scale[j], &min[j], q + j * 32);
    for (j = 0; j < 4; j++) {
        s[j] = (uint8_t)(scale[j] | scale[j + 4] >> 4 << 6);
        s[j + 4] = (uint8_t)(min[j] | min[j + 4] >> 4 << 6);
        s[j + 8] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
        for (i = 0; i < 32; i++) low[j * 32 + i] = (uint8_t)((q[j * 64 + i] & 15) | (q[j * 64 + 32 + i] & 15) << 4);
    }
    for (j = 0; j < 8 && high != NULL; j++) for (i = 0; i < 32; i++) high[i] = (uint8_t)(high[i] | q[j * 32 + i] >> 4 << j);
}
LTXI_FN void ltxi_encode_q4_k(const float *x, int32_t n, uint8_t *out)
{
    memset(out, 0, (size_t)(n / LTXI_SUPER) * LTXI_Q4K_BYTES);
    for (; n > 0; n -= LTXI_SUPER, out += LTXI_Q4K_BYTES, x += LTXI_SUPER) ltxi_encode_min(x, out, out + 16, NULL);
}
LTXI_FN void ltxi_encode_q5_k(const float *x, int32_t n, uint8_t *out)
{
    memset(out, 0, (size_t)(n / LTXI_SUPER) * LTXI_Q5K_BYTES);
    for (; n > 0; n -= LTXI_SUPER, out += LTXI_Q5K_BYTES, x += LTXI_SUPER) ltxi_encode_min(x, out, out + 48, out + 16);
}

/* Scale of 16 elements of Q6_K: nine ways to make the largest of them about -32 steps. */
LTXI_FN float ltxi_fit_scale(const float *x)
{
    float most = ltxi_largest(x, 16), inverse, scale = 0;
    int32_t i, c, q, u[16];
    double best = 0, gain;
    if (!(ltxi_abs(most) > 1e-30f)) return 0;
    inverse = -32768.0f / most;
    for (i = 0; i < 16; i++) u[i] = (int32_t)(x[i] * inverse);
    for (c = 124; c <= 132; c++) { /* quarters of a step */
        int32_t uq = 0, qq = 0;
        for (i = 0; i < 16; i++) {
            q = ((u[i] * c + (64 << 17) + (1 << 16)) >> 17) - 64; /* 64 added, so that no negative number is shifted */
            q = q > -32 ? (q < 31 ? q : 31) : -32;
            uq += u[i] * q; qq += q * q;
        }
        gain = (double)uq * (double)uq / (double)qq;
        if (gain <= best) continue;
        best = gain;
        scale = (float)uq / (float)qq / inverse;
    }
    return scale;
}
LTXI_FN void ltxi_encode_q6_k(const float *x, int32_t n, uint8_t *out)
{
    int32_t i, j, k;
    for (; n > 0; n -= LTXI_SUPER, out += LTXI_Q6K_BYTES, x += LTXI_SUPER) {
        float scale[16], d, id;
        int32_t q[LTXI_SUPER];
        memset(out, 0, LTXI_Q6K_BYTES);
        if (!ltxi_all_finite(x, LTXI_SUPER)) { ltxi_put16(out + 208, 0x7e00u); continue; } /* NaN */
        for (j = 0; j < 16; j++) scale[j] = ltxi_fit_scale(x + j * 16);
        d = ltxi_largest(scale, 16);
        if (!(d > 0 || d < 0)) continue;
        ltxi_put16(out + 208, ltxi_k_step(d, -128.0f));
        d = ltxi_from_half(ltxi_u16(out + 208));
        id = d > 0 || d < 0 ? 2.0f / d : 0;
        for (j = 0; j < 16; j++) {
            float s, inverse;
            k = ltxi_nearest(scale[j] * id, -128, 127);
            s = d * (float)k;
            inverse = s > 0 || s < 0 ? 2.0f / s : 0;
            out[192 + j] = (uint8_t)k;
            for (i = 0; i < 16; i++) q[j * 16 + i] = ltxi_nearest(x[j * 16 + i] * inverse, -32, 31) + 32;
        }
        for (i = 0; i < LTXI_SUPER; i++) { /* where ltxi_q6_quant finds them */
            uint8_t *low = out + i / 128 * 64 + i % 64, *high = out + 128 + i / 128 * 32 + i % 32;
            *low = (uint8_t)(*low | (q[i] & 15) << i % 128 / 64 * 4);
            *high = (uint8_t)(*high | q[i] >> 4 << i % 128 / 32 * 2);
        }
    }
}

/* ---- formats in which sixteen rows lie together ----
   A group of sixteen rows of n columns, for kernels that have a lane per row: first the bytes of all rows in quads, quad i of row r at 64 i + 4 r,
   then, each for sixteen rows, what goes with a block or a row. In a lane stand
     Q8_X  n bytes as in Q8_0, a half per block of 32          Q4_X  n / 2 bytes as in Q4_0, a half per block
     R8    n signed bytes q, a float s: value = s q            R4    n / 2 bytes as in Q4_0, a byte per block for g, a float s: value = s g (q - 8)
   g is the low four bits of its byte, negative if bit 4 is set: whatever the byte, |g (q - 8)| <= 120, so that a row of R4 is a row of R8 in half the space. */
enum { LTXI_GROUP = 16, LTXI_R4_STEPS = 15 };
LTXI_FN int32_t ltxi_r4_step(uint8_t b) { return b & 16 ? -(b & 15) : b & 15; }
LTXI_FN size_t ltxi_quad(int32_t i, int32_t lane) { return (size_t)(i >> 2) * (4 * LTXI_GROUP) + (size_t)(lane * 4 + (i & 3)); }

LTXI_FN int ltxi_nibbles(int32_t type) { return type == LTX_Q4_X || type == LTX_R4; }
/* The numbers of sixteen rows come first and are followed by their scales: this finds the scales. */
LTXI_FN size_t ltxi_extra(int32_t type, int32_t n) { return (size_t)LTXI_GROUP * (size_t)(ltxi_nibbles(type) ? n / 2 : n); }
LTXI_FN size_t ltxi_row_scales(int32_t type, int32_t n) { return ltxi_extra(type, n) + (type == LTX_R4 ? (size_t)(n / LTXI_BLOCK * LTXI_GROUP) : 0); } /* R8, R4 */
LTXI_FN float ltxi_lane_scale(int32_t type, const uint8_t *group, int32_t n, int32_t lane, int32_t block)
{
    const uint8_t *p = group + ltxi_extra(type, n);
    if (type == LTX_Q8_X || type == LTX_Q4_X) return ltxi_from_half(ltxi_u16(p + (block * LTXI_GROUP + lane) * 2));
    return ltxi_le_float(group + ltxi_row_scales(type, n) + lane * 4) * (type == LTX_R4 ? (float)ltxi_r4_step(p[block * LTXI_GROUP + lane]) : 1.0f);
}
/* The thirty-two integers of a block. */
LTXI_FN void ltxi_lane_ints(int32_t type, const uint8_t *group, int32_t lane, int32_t block, int8_t *q)
{
    int32_t nibbles = ltxi_nibbles(type), i, j;
    const uint8_t *p = group + ltxi_quad(block * (nibbles ? LTXI_BLOCK / 2 : LTXI_BLOCK), lane);
    if (!nibbles) { for (i = 0; i < LTXI_BLOCK; i += 4, p += 4 * LTXI_GROUP) memcpy(q + i, p, 4); return; }
    for (i = 0; i < LTXI_BLOCK / 2; i += 4, p += 4 * LTXI_GROUP) for (j = 0; j < 4; j++) {
        q[i + j] = (int8_t)((p[j] & 15) - 8);
        q[i + j + LTXI_BLOCK / 2] = (int8_t)((p[j] >> 4) - 8);
    }
}
LTXI_FN void ltxi_decode_lane(int32_t type, const uint8_t *group, int32_t n, int32_t lane, float *y)
{
    int8_t q[LTXI_BLOCK];
    int32_t b, i;
    for (b = 0; b < n / LTXI_BLOCK; b++) {
        float s = ltxi_lane_scale(type, group, n, lane, b);
        ltxi_lane_ints(type, group, lane, b, q);
        for (i = 0; i < LTXI_BLOCK; i++) *y++ = s * (float)q[i];
    }
}
/* A block of Q8_0 or Q4_0 into its places. */
LTXI_FN void ltxi_place_block(int32_t type, const uint8_t *in, int32_t n, int32_t b, int32_t lane, uint8_t *group)
{
    int32_t i, bytes = ltxi_nibbles(type) ? LTXI_BLOCK / 2 : LTXI_BLOCK;
    for (i = 0; i < bytes; i += 4) memcpy(group + ltxi_quad(b * bytes + i, lane), in + 2 + i, 4);
    memcpy(group + ltxi_extra(type, n) + (b * LTXI_GROUP + lane) * 2, in, 2);
}
/* The scale of a row is `most`, its largest magnitude, over `steps`; NaN if an element is not finite, 0 if that would be a denormal. Elements are numbered
   only if this is positive. */
LTXI_FN float ltxi_row_scale(const float *x, int32_t n, float most, float steps)
{
    if (!ltxi_all_finite(x, n)) return ltxi_float(0x7fc00000u);
    return most / steps < FLT_MIN ? 0.0f : most / steps;
}
LTXI_FN void ltxi_encode_r8(const float *x, int32_t n, int32_t lane, uint8_t *group)
{
    float s = ltxi_row_scale(x, n, ltxi_abs(ltxi_largest(x, n)), 127.0f), is = s > 0 ? 1.0f / s : 0.0f;
    int32_t i;
    for (i = 0; i < n; i++) group[ltxi_quad(i, lane)] = (uint8_t)(int8_t)(is > 0 ? ltxi_round(x[i], is) : 0.0f);
    ltxi_put32(group + ltxi_extra(LTX_R8, n) + lane * 4, ltxi_bits(s));
}
/* Numbers of a block in steps of s g; returns the squared error. Steps and their multiples are exact (s has 16 bits, g and q four each), and so are
   squares: fused or not is the same. */
LTXI_FN double ltxi_fit_r4(const float *x, float step, uint8_t *q)
{
    float twice = step > 0 || step < 0 ? 2.0f / step : 0.0f, r;
    double error = 0;
    int32_t i, k;
    for (i = 0; i < LTXI_BLOCK; i++) {
        k = ltxi_nearest(x[i] * twice, -8, 7);
        q[i] = (uint8_t)(k + 8);
        r = x[i] - step * (float)k;
        error += (double)r * (double)r;
    }
    return error;
}
/* One scale, at which the row's largest is 120 steps; per block the g of five for which the error is least, the largest becoming -8 steps or nearly.
   A search over scales, or errors that count more for large weights, gave up to 1 % less squared error and no lower loss. */
LTXI_FN void ltxi_encode_r4(const float *x, int32_t n, int32_t lane, uint8_t *group)
{
    float scale = ltxi_row_scale(x, n, ltxi_abs(ltxi_largest(x, n)), 8.0f * (float)LTXI_R4_STEPS), s = ltxi_float(ltxi_bits(scale) & 0xffffff00u);
    uint8_t q[LTXI_BLOCK], t[LTXI_BLOCK], *extra = group + ltxi_extra(LTX_R4, n);
    int32_t b, i, g, end, chosen;
    double best, error;
    for (b = 0; b < n / LTXI_BLOCK; b++, x += LTXI_BLOCK) {
        chosen = 0;
        memset(q, 8, LTXI_BLOCK);
        g = s > 0 ? ltxi_nearest(ltxi_largest(x, LTXI_BLOCK) * (-0.25f / s), -LTXI_R4_STEPS, LTXI_R4_STEPS) : 2 * LTXI_R4_STEPS;
        end = ltxi_min(g + 2, LTXI_R4_STEPS);
        for (g = ltxi_max(g - 2, -LTXI_R4_STEPS), best = -1; g <= end; g++) {
            error = ltxi_fit_r4(x, s * (float)g, t);
            if (best >= 0 && error >= best) continue;
            best = error; chosen = g;
            memcpy(q, t, LTXI_BLOCK);
        }
        for (i = 0; i < LTXI_BLOCK / 2; i++) group[ltxi_quad(b * (LTXI_BLOCK / 2) + i, lane)] = (uint8_t)(q[i] | q[i + LTXI_BLOCK / 2] << 4);
        extra[b * LTXI_GROUP + lane] = (uint8_t)(chosen < 0 ? 16 - chosen : chosen);
    }
    ltxi_put32(group + ltxi_row_scales(LTX_R4, n) + lane * 4, ltxi_bits(s));
}

/* Constant tables in this file hold numbers and short texts, no pointers: in position-independent code those would have to be
   filled in by the loader, and the tables would lie in writable memory. What has to be called goes through a switch.
   Name; functions; elements and bytes of a block; how products want their activations; and for formats that group sixteen rows, what a row has beyond its blocks. */
enum { LTXI_ACTS_FLOAT, LTXI_ACTS_BLOCK, LTXI_ACTS_SUPER, LTXI_ACTS_ROW }; /* floats; int8 with a scale per 32, 256 or all columns */
#define LTXI_FORMATS(X) \
    X(F32, f32, 1, 4, FLOAT) X(F16, f16, 1, 2, FLOAT) X(BF16, bf16, 1, 2, FLOAT) X(Q8_0, q8_0, LTXI_BLOCK, LTXI_Q8_BYTES, BLOCK) X(Q4_0, q4_0, LTXI_BLOCK, LTXI_Q4_BYTES, BLOCK) \
    X(Q4_K, q4_k, LTXI_SUPER, LTXI_Q4K_BYTES, SUPER) X(Q5_K, q5_k, LTXI_SUPER, LTXI_Q5K_BYTES, SUPER) X(Q6_K, q6_k, LTXI_SUPER, LTXI_Q6K_BYTES, SUPER)
#define LTXI_GROUPED(X) X(Q8_X, LTXI_Q8_BYTES, BLOCK, 0) X(Q4_X, LTXI_Q4_BYTES, BLOCK, 0) X(R8, LTXI_BLOCK, ROW, 4) X(R4, LTXI_BLOCK / 2 + 1, ROW, 4)
#define LTXI_ENUM(name, fn, block, bytes, acts) LTXI_T##name,
#define LTXI_ENUM_GROUPED(name, bytes, acts, extra) LTXI_T##name,
#define LTXI_TRAIT(name, fn, block, bytes, acts) { LTX_##name, block, bytes, LTXI_ACTS_##acts, 1, 0, LTXI_S(#name) },
#define LTXI_TRAIT_GROUPED(name, bytes, acts, extra) { LTX_##name, LTXI_BLOCK, bytes, LTXI_ACTS_##acts, LTXI_GROUP, extra, LTXI_S(#name) },
#define LTXI_NUMBER(name, fn, block, bytes, acts) case LTX_##name: return LTXI_T##name;
#define LTXI_NUMBER_GROUPED(name, bytes, acts, extra) case LTX_##name: return LTXI_T##name;
#define LTXI_DECODE(name, fn, block, bytes, acts) case LTXI_T##name: ltxi_decode_##fn(in, n, y); break;
#define LTXI_ENCODE(name, fn, block, bytes, acts) case LTXI_T##name: ltxi_encode_##fn(x, n, out); break;
enum { LTXI_FORMATS(LTXI_ENUM) LTXI_GROUPED(LTXI_ENUM_GROUPED) LTXI_TYPES };
typedef struct ltxi_trait { int32_t type, block, bytes, acts, group, extra; char name[8]; } ltxi_trait;
static const ltxi_trait ltxi_traits[LTXI_TYPES] = { LTXI_FORMATS(LTXI_TRAIT) LTXI_GROUPED(LTXI_TRAIT_GROUPED) };
LTXI_FN void ltxi_decode(int32_t trait, const uint8_t *in, int32_t n, float *y) { switch (trait) { LTXI_FORMATS(LTXI_DECODE) } }
LTXI_FN void ltxi_encode(int32_t trait, const float *x, int32_t n, uint8_t *out) { switch (trait) { LTXI_FORMATS(LTXI_ENCODE) } }
LTXI_FN int32_t ltxi_trait_of(int32_t type) { switch (type) { LTXI_FORMATS(LTXI_NUMBER) LTXI_GROUPED(LTXI_NUMBER_GROUPED) default: return -1; } } /* row of ltxi_traits or -1 */
LTXI_FN size_t ltxi_trait_bytes(const ltxi_trait *t, int32_t cols) { return ltxi_add(ltxi_mul((size_t)(cols / t->block), (size_t)t->bytes), (size_t)t->extra); } /* of a row */
LTX_API size_t ltx_row_bytes(int32_t type, int32_t cols)
{
    int32_t t = ltxi_trait_of(type);
    return t < 0 || cols < 0 || cols % ltxi_traits[t].block != 0 ? 0 : ltxi_trait_bytes(&ltxi_traits[t], cols);
}
LTX_API size_t ltx_mat_bytes(int32_t type, int32_t rows, int32_t cols)
{
    int32_t t = ltxi_trait_of(type), group = t < 0 ? 1 : ltxi_traits[t].group;
    return rows < 0 ? 0 : ltxi_mul(((size_t)rows + (size_t)group - 1) / (size_t)group * (size_t)group, ltx_row_bytes(type, cols));
}
LTX_API const char *ltx_type_name(int32_t type)
{
    int32_t t = ltxi_trait_of(type);
    return t < 0 ? "?" : ltxi_traits[t].name;
}
LTX_API ltx_result ltx_quantize(int32_t type, const float *x, int32_t n, void *out)
{
    int32_t t = ltxi_trait_of(type);
    if (t < 0 || n < 0 || n % ltxi_traits[t].block != 0 || ltxi_traits[t].group > 1) return LTX_E_ARG;
    ltxi_encode(t, x, n, (uint8_t *)out);
    return LTX_OK;
}
LTX_API ltx_result ltx_dequantize(int32_t type, const void *in, int32_t n, float *y)
{
    int32_t t = ltxi_trait_of(type);
    if (t < 0 || n < 0 || n % ltxi_traits[t].block != 0 || ltxi_traits[t].group > 1) return LTX_E_ARG;
    ltxi_decode(t, (const uint8_t *)in, n, y);
    return LTX_OK;
}
/* One row into its place in a matrix that starts at `out`. Q8_X and Q4_X go by way of a block of Q8_0 or Q4_0. */
LTXI_FN void ltxi_encode_row(int32_t type, const float *x, int32_t cols, int32_t row, uint8_t *out)
{
    uint8_t *group = out + (size_t)(row / LTXI_GROUP) * LTXI_GROUP * ltx_row_bytes(type, cols), block[LTXI_Q8_BYTES];
    int32_t lane = row % LTXI_GROUP, b;
    if (type == LTX_R8) ltxi_encode_r8(x, cols, lane, group);
    else if (type == LTX_R4) ltxi_encode_r4(x, cols, lane, group);
    else for (b = 0; b < cols / LTXI_BLOCK; b++) {
        if (type == LTX_Q8_X) ltxi_encode_q8_0(x + b * LTXI_BLOCK, LTXI_BLOCK, block); else ltxi_encode_q4_0(x + b * LTXI_BLOCK, LTXI_BLOCK, block);
        ltxi_place_block(type, block, cols, b, lane, group);
    }
}
LTX_API ltx_result ltx_mat_encode(int32_t type, const float *x, int32_t rows, int32_t cols, void *out)
{
    int32_t t = ltxi_trait_of(type), r;
    if (t < 0 || rows < 1 || cols < 1 || cols % ltxi_traits[t].block != 0 || (ltxi_traits[t].acts == LTXI_ACTS_ROW && cols > LTX_MAX_ROW_COLS)) return LTX_E_ARG;
    if (ltxi_traits[t].group > 1 && rows % LTXI_GROUP != 0) /* lanes that no row fills */
        memset((uint8_t *)out + (size_t)(rows / LTXI_GROUP) * LTXI_GROUP * ltx_row_bytes(type, cols), 0, LTXI_GROUP * ltx_row_bytes(type, cols));
    for (r = 0; r < rows; r++) {
        if (ltxi_traits[t].group > 1) ltxi_encode_row(type, x + (size_t)r * (size_t)cols, cols, r, (uint8_t *)out);
        else ltxi_encode(t, x + (size_t)r * (size_t)cols, cols, (uint8_t *)out + (size_t)r * ltx_row_bytes(type, cols));
    }
    return LTX_OK;
}
LTXI_FN void ltxi_mat_row(const ltx_mat *w, int32_t row, float *y)
{
    int32_t t = ltxi_trait_of(w->type);
    size_t bytes = ltx_row_bytes(w->type, w->cols);
    const uint8_t *p = (const uint8_t *)w->data;
    if (ltxi_traits[t].group > 1) ltxi_decode_lane(w->type, p + (size_t)(row / LTXI_GROUP) * LTXI_GROUP * bytes, w->cols, row % LTXI_GROUP, y);
    else ltxi_decode(t, p + (size_t)row * bytes, w->cols, y);
}
/* A row of w, as it is, to row `to` of a matrix of the same type and width. */
LTXI_FN void ltxi_copy_row(const ltx_mat *w, int32_t row, uint8_t *out, int32_t to)
{
    size_t bytes = ltx_row_bytes(w->type, w->cols), plain = ltxi_extra(w->type, w->cols);
    const uint8_t *in = (const uint8_t *)w->data + (size_t)(row / LTXI_GROUP) * LTXI_GROUP * bytes;
    int32_t i, a = row % LTXI_GROUP, b = to % LTXI_GROUP, blocks = w->cols / LTXI_BLOCK, scale = w->type == LTX_R4 ? 1 : w->type == LTX_R8 ? 0 : 2;
    if (ltxi_traits[ltxi_trait_of(w->type)].group == 1) { memcpy(out + (size_t)to * bytes, (const uint8_t *)w->data + (size_t)row * bytes, bytes); return; }
    out += (size_t)(to / LTXI_GROUP) * LTXI_GROUP * bytes;
    if (b == 0) memset(out, 0, LTXI_GROUP * bytes); /* lanes that no row fills */
    for (i = 0; (size_t)i < plain / LTXI_GROUP; i += 4) memcpy(out + ltxi_quad(i, b), in + ltxi_quad(i, a), 4);
    for (i = 0, in += plain, out += plain; i < blocks && scale > 0; i++, in += LTXI_GROUP * scale, out += LTXI_GROUP * scale) memcpy(out + b * scale, in + a * scale, (size_t)scale);
    if (scale < 2) memcpy(out + b * 4, in + a * 4, 4);
}
LTX_API ltx_result ltx_mat_row(const ltx_mat *w, int32_t row, float *y)
{
    if (w == NULL || y == NULL || w->data == NULL || row < 0 || row >= w->rows || ltx_row_bytes(w->type, w->cols) == 0) return LTX_E_ARG;
    ltxi_mat_row(w, row, y);
    return LTX_OK;
}

/* ==== >>vector ============================================================================================
   A set of instructions gives a type of sixteen float lanes and the operations below (and those for quantized products in >>matrix); the
   kernels that use them (>>functions, >>matrix, >>norms) are written once, as short macros that are expanded for each set, because C has
   no other way to compile one body for several targets in one file. The scalar set is the specification.
     ld st set1 add sub mul div fma   as usual, memory of any alignment      max(a,b) = a > b ? a : b     min(a,b) = a < b ? a : b
     ldf ldh ldb                      weights: F32, F16, BF16 (little-endian)      ldi 8-bit integers     sth store as half
     sti   stores the integers that LTXI_MAGIC left in the lanes as int8      ldn loads int32 as floats      get, put, getf as ld, st, ldf, but of n elements if fewer than 16
     scale x 2^n of integral n, -200..200, rounded once      swap exchanges lanes 2i and 2i+1
     top   lanes of largest absolute value, as bits (NaN highest): top(m, x); amax the largest of those
     sum   fixed tree: lanes 8 apart, then 4, 2, 1
   May call: platform, formats.                                                                                */

#define LTXI_T_scalar LTXI_FN
#define LTXI_I_scalar LTXI_FN
typedef struct ltxi_scalar_v { float f[16]; } ltxi_scalar_v;
#define LTXI_SCALAR(name, args, expr) \
    LTXI_I_scalar ltxi_scalar_v ltxi_scalar_##name args { ltxi_scalar_v r; int32_t i; for (i = 0; i < 16; i++) r.f[i] = expr; return r; }
LTXI_SCALAR(ld, (const float *p), p[i])
LTXI_SCALAR(ldf, (const uint8_t *p), ltxi_le_float(p + i * 4))
LTXI_SCALAR(ldh, (const uint8_t *p), ltxi_from_half(ltxi_u16(p + i * 2)))
LTXI_SCALAR(ldb, (const uint8_t *p), ltxi_from_bf16(ltxi_u16(p + i * 2)))
LTXI_SCALAR(ldi, (const int8_t *p), (float)p[i])
LTXI_I_scalar int32_t ltxi_int(const float *p) { int32_t i; memcpy(&i, p, 4); return i; }
LTXI_SCALAR(ldn, (const float *p), (float)ltxi_int(p + i))
LTXI_SCALAR(set1, (float x), x)
LTXI_SCALAR(add, (ltxi_scalar_v a, ltxi_scalar_v b), a.f[i] + b.f[i])
LTXI_SCALAR(sub, (ltxi_scalar_v a, ltxi_scalar_v b), a.f[i] - b.f[i])
LTXI_SCALAR(mul, (ltxi_scalar_v a, ltxi_scalar_v b), a.f[i] * b.f[i])
LTXI_SCALAR(div, (ltxi_scalar_v a, ltxi_scalar_v b), a.f[i] / b.f[i])
LTXI_SCALAR(fma, (ltxi_scalar_v a, ltxi_scalar_v b, ltxi_scalar_v c), ltxi_fma(a.f[i], b.f[i], c.f[i]))
LTXI_SCALAR(max, (ltxi_scalar_v a, ltxi_scalar_v b), a.f[i] > b.f[i] ? a.f[i] : b.f[i])
LTXI_SCALAR(min, (ltxi_scalar_v a, ltxi_scalar_v b), a.f[i] < b.f[i] ? a.f[i] : b.f[i])
LTXI_I_scalar float ltxi_pow2(uint32_t n) { return ltxi_float((n + 127u) << 23); }
LTXI_I_scalar float ltxi_scale(float x, float n) /* in two factors: the first product is exact */
{
    uint32_t k = ltxi_bits(n + LTXI_MAGIC) - LTXI_MAGIC_BITS, half = k >> 1 | (k & 0x80000000u);
    return x * ltxi_pow2(half) * ltxi_pow2(k - half);
}
LTXI_SCALAR(scale, (ltxi_scalar_v a, ltxi_scalar_v n), ltxi_scale(a.f[i], n.f[i]))
LTXI_SCALAR(swap, (ltxi_scalar_v a), a.f[i ^ 1])
LTXI_I_scalar void ltxi_scalar_st(float *p, ltxi_scalar_v a) { memcpy(p, a.f, 64); }
LTXI_I_scalar void ltxi_scalar_sth(uint8_t *p, ltxi_scalar_v a) { int32_t i; for (i = 0; i < 16; i++) ltxi_put16(p + i * 2, ltxi_to_half(a.f[i])); }
LTXI_I_scalar void ltxi_scalar_sti(int8_t *p, ltxi_scalar_v a) { int32_t i; for (i = 0; i < 16; i++) p[i] = (int8_t)(uint8_t)(ltxi_bits(a.f[i]) - LTXI_MAGIC_BITS); }
LTXI_I_scalar uint32_t ltxi_umax(uint32_t a, uint32_t b) { return a > b ? a : b; }
LTXI_SCALAR(top, (ltxi_scalar_v m, ltxi_scalar_v x), ltxi_float(ltxi_umax(ltxi_bits(m.f[i]), ltxi_bits(x.f[i]) & 0x7fffffffu)))
LTXI_I_scalar uint32_t ltxi_scalar_amax(ltxi_scalar_v m) { uint32_t a = 0; int32_t i; for (i = 0; i < 16; i++) a = ltxi_umax(a, ltxi_bits(m.f[i])); return a; }
LTXI_I_scalar float ltxi_scalar_sum(ltxi_scalar_v a)
{
    int32_t w, i;
    for (w = 8; w > 0; w /= 2) for (i = 0; i < w; i++) a.f[i] = a.f[i] + a.f[i + w];
    return a.f[0];
}

#ifdef LTXI_X86
#define LTXI_T_avx2 __attribute__((unused, target("avx2,fma,f16c"))) static
#define LTXI_I_avx2 __attribute__((unused, always_inline, target("avx2,fma,f16c"))) static __inline__
typedef struct ltxi_avx2_v { __m256 a, b; } ltxi_avx2_v;
#define LTXI_AVX2(name, args, ea, eb) LTXI_I_avx2 ltxi_avx2_v ltxi_avx2_##name args { ltxi_avx2_v r; r.a = ea; r.b = eb; return r; }
#define LTXI_M128(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define LTXI_M256(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
LTXI_AVX2(ld, (const float *p), _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8))
LTXI_AVX2(ldf, (const uint8_t *p), _mm256_castsi256_ps(LTXI_M256(p)), _mm256_castsi256_ps(LTXI_M256(p + 32)))
LTXI_AVX2(ldh, (const uint8_t *p), _mm256_cvtph_ps(LTXI_M128(p)), _mm256_cvtph_ps(LTXI_M128(p + 16)))
LTXI_I_avx2 __m256 ltxi_avx2_b8(const uint8_t *p) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(LTXI_M128(p)), 16)); }
LTXI_AVX2(ldb, (const uint8_t *p), ltxi_avx2_b8(p), ltxi_avx2_b8(p + 16))
LTXI_I_avx2 __m256 ltxi_avx2_i8(const int8_t *p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p))); }
LTXI_AVX2(ldi, (const int8_t *p), ltxi_avx2_i8(p), ltxi_avx2_i8(p + 8))
LTXI_AVX2(ldn, (const float *p), _mm256_cvtepi32_ps(LTXI_M256(p)), _mm256_cvtepi32_ps(LTXI_M256(p + 8)))
LTXI_AVX2(set1, (float x), _mm256_set1_ps(x), _mm256_set1_ps(x))
LTXI_AVX2(add, (ltxi_avx2_v x, ltxi_avx2_v y), _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b))
LTXI_AVX2(sub, (ltxi_avx2_v x, ltxi_avx2_v y), _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b))
LTXI_AVX2(mul, (ltxi_avx2_v x, ltxi_avx2_v y), _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b))
LTXI_AVX2(div, (ltxi_avx2_v x, ltxi_avx2_v y), _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b))
LTXI_AVX2(fma, (ltxi_avx2_v x, ltxi_avx2_v y, ltxi_avx2_v z), _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b))
LTXI_AVX2(max, (ltxi_avx2_v x, ltxi_avx2_v y), _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b))
LTXI_AVX2(min, (ltxi_avx2_v x, ltxi_avx2_v y), _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b))
LTXI_I_avx2 __m256 ltxi_avx2_pow2(__m256i n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)); }
LTXI_I_avx2 __m256 ltxi_avx2_scale8(__m256 x, __m256 n)
{
    __m256i k = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(k, 1);
    return _mm256_mul_ps(_mm256_mul_ps(x, ltxi_avx2_pow2(half)), ltxi_avx2_pow2(_mm256_sub_epi32(k, half)));
}
LTXI_AVX2(scale, (ltxi_avx2_v x, ltxi_avx2_v n), ltxi_avx2_scale8(x.a, n.a), ltxi_avx2_scale8(x.b, n.b))
LTXI_AVX2(swap, (ltxi_avx2_v x), _mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1))
LTXI_I_avx2 void ltxi_avx2_st(float *p, ltxi_avx2_v x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
LTXI_I_avx2 void ltxi_avx2_sth(uint8_t *p, ltxi_avx2_v x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(x.a, 0));
    _mm_storeu_si128((__m128i *)(void *)(p + 16), _mm256_cvtps_ph(x.b, 0));
}
LTXI_I_avx2 void ltxi_avx2_sti(int8_t *p, ltxi_avx2_v x)
{
    __m256i m = _mm256_set1_epi32((int32_t)LTXI_MAGIC_BITS), a = _mm256_sub_epi32(_mm256_castps_si256(x.a), m), b = _mm256_sub_epi32(_mm256_castps_si256(x.b), m);
    __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
LTXI_I_avx2 __m256 ltxi_avx2_top8(__m256 m, __m256 x)
{
    return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(m), _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff))));
}
LTXI_AVX2(top, (ltxi_avx2_v m, ltxi_avx2_v x), ltxi_avx2_top8(m.a, x.a), ltxi_avx2_top8(m.b, x.b))
LTXI_I_avx2 uint32_t ltxi_avx2_amax(ltxi_avx2_v m)
{
    __m256i a = _mm256_max_epu32(_mm256_castps_si256(m.a), _mm256_castps_si256(m.b));
    __m128i h = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(h, _mm_shuffle_epi32(h, 0xb1)));
}
LTXI_I_avx2 float ltxi_avx2_sum8(__m256 s)
{
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}
LTXI_I_avx2 float ltxi_avx2_sum(ltxi_avx2_v x) { return ltxi_avx2_sum8(_mm256_add_ps(x.a, x.b)); }

#define LTXI_T_avx512 __attribute__((unused, target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))) static
#define LTXI_I_avx512 __attribute__((unused, always_inline, target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))) static __inline__
typedef __m512 ltxi_avx512_v;
#define LTXI_AVX512(name, args, e) LTXI_I_avx512 __m512 ltxi_avx512_##name args { return e; }
LTXI_AVX512(ld, (const float *p), _mm512_loadu_ps(p))
LTXI_AVX512(ldf, (const uint8_t *p), _mm512_loadu_ps((const void *)p))
LTXI_AVX512(ldh, (const uint8_t *p), _mm512_cvtph_ps(LTXI_M256(p)))
LTXI_AVX512(ldb, (const uint8_t *p), _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(LTXI_M256(p)), 16)))
LTXI_AVX512(ldi, (const int8_t *p), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(LTXI_M128(p))))
LTXI_AVX512(ldn, (const float *p), _mm512_cvtepi32_ps(_mm512_loadu_si512((const void *)p)))
LTXI_AVX512(set1, (float x), _mm512_set1_ps(x))
LTXI_AVX512(add, (__m512 x, __m512 y), _mm512_add_ps(x, y))
LTXI_AVX512(sub, (__m512 x, __m512 y), _mm512_sub_ps(x, y))
LTXI_AVX512(mul, (__m512 x, __m512 y), _mm512_mul_ps(x, y))
LTXI_AVX512(div, (__m512 x, __m512 y), _mm512_div_ps(x, y))
LTXI_AVX512(fma, (__m512 x, __m512 y, __m512 z), _mm512_fmadd_ps(x, y, z))
LTXI_AVX512(max, (__m512 x, __m512 y), _mm512_max_ps(x, y))
LTXI_AVX512(min, (__m512 x, __m512 y), _mm512_min_ps(x, y))
LTXI_AVX512(scale, (__m512 x, __m512 n), _mm512_scalef_ps(x, n))
LTXI_AVX512(swap, (__m512 x), _mm512_permute_ps(x, 0xb1))
LTXI_I_avx512 void ltxi_avx512_st(float *p, __m512 x) { _mm512_storeu_ps(p, x); }
LTXI_I_avx512 void ltxi_avx512_sth(uint8_t *p, __m512 x) { _mm256_storeu_si256((__m256i *)(void *)p, _mm512_maskz_cvtps_ph(0xffff, x, 0)); }
LTXI_I_avx512 void ltxi_avx512_sti(int8_t *p, __m512 x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_sub_epi32(_mm512_castps_si512(x), _mm512_set1_epi32((int32_t)LTXI_MAGIC_BITS))));
}
LTXI_AVX512(top, (__m512 m, __m512 x), _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(m), _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)))))
LTXI_I_avx512 ltxi_avx2_v ltxi_avx512_ymms(__m512 x)
{
    ltxi_avx2_v v;
    v.a = _mm512_castps512_ps256(x);
    v.b = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
    return v;
}
LTXI_I_avx512 uint32_t ltxi_avx512_amax(__m512 m) { return ltxi_avx2_amax(ltxi_avx512_ymms(m)); }
LTXI_I_avx512 float ltxi_avx512_sum(__m512 x) { return ltxi_avx2_sum(ltxi_avx512_ymms(x)); }
#endif /* LTXI_X86 */

#if defined(LTXI_NEON) || defined(LTXI_SIMD128)
/* Sixteen lanes as four registers of 128 bits: a set gives the operations on one, with a 4 in their name, and its types f4 and w4 of four floats or
   integers; the rest is the same for all. */
#define LTXI_FOUR(S, T, name, args, ea, eb, ec, ed) \
    LTXI_I_##S ltxi_##S##_##T ltxi_##S##_##name args { ltxi_##S##_##T r; r.a = ea; r.b = eb; r.c = ec; r.d = ed; return r; }
#define LTXI_FOUR_AT(S, T, name, of, step) LTXI_FOUR(S, T, name, (const of *p), ltxi_##S##_##name##4(p), ltxi_##S##_##name##4(p + step), ltxi_##S##_##name##4(p + 2 * step), ltxi_##S##_##name##4(p + 3 * step))
#define LTXI_FOUR_OF(S, T, name, of) LTXI_FOUR(S, T, name, (of x), ltxi_##S##_##name##4(x), ltxi_##S##_##name##4(x), ltxi_##S##_##name##4(x), ltxi_##S##_##name##4(x))
#define LTXI_FOUR_1(S, T, name, from) LTXI_FOUR(S, T, name, (ltxi_##S##_##from x), ltxi_##S##_##name##4(x.a), ltxi_##S##_##name##4(x.b), ltxi_##S##_##name##4(x.c), ltxi_##S##_##name##4(x.d))
#define LTXI_FOUR_N(S, T, name) LTXI_FOUR(S, T, name, (ltxi_##S##_##T x, int32_t n), ltxi_##S##_##name##4(x.a, n), ltxi_##S##_##name##4(x.b, n), ltxi_##S##_##name##4(x.c, n), ltxi_##S##_##name##4(x.d, n))
#define LTXI_FOUR_2(S, T, name) LTXI_FOUR(S, T, name, (ltxi_##S##_##T x, ltxi_##S##_##T y), \
    ltxi_##S##_##name##4(x.a, y.a), ltxi_##S##_##name##4(x.b, y.b), ltxi_##S##_##name##4(x.c, y.c), ltxi_##S##_##name##4(x.d, y.d))
#define LTXI_FOUR_3(S, T, name) LTXI_FOUR(S, T, name, (ltxi_##S##_##T x, ltxi_##S##_##T y, ltxi_##S##_##T z), \
    ltxi_##S##_##name##4(x.a, y.a, z.a), ltxi_##S##_##name##4(x.b, y.b, z.b), ltxi_##S##_##name##4(x.c, y.c, z.c), ltxi_##S##_##name##4(x.d, y.d, z.d))
#define LTXI_FOURS(S) \
typedef struct ltxi_##S##_v { ltxi_##S##_f4 a, b, c, d; } ltxi_##S##_v; \
LTXI_FOUR_AT(S, v, ld, float, 4) LTXI_FOUR_AT(S, v, ldf, uint8_t, 16) LTXI_FOUR_AT(S, v, ldh, uint8_t, 8) LTXI_FOUR_AT(S, v, ldb, uint8_t, 8) \
LTXI_FOUR_AT(S, v, ldi, int8_t, 4) LTXI_FOUR_AT(S, v, ldn, float, 4) LTXI_FOUR_OF(S, v, set1, float) \
LTXI_FOUR_2(S, v, add) LTXI_FOUR_2(S, v, sub) LTXI_FOUR_2(S, v, mul) LTXI_FOUR_2(S, v, div) \
LTXI_FOUR_2(S, v, max) LTXI_FOUR_2(S, v, min) LTXI_FOUR_2(S, v, scale) LTXI_FOUR_2(S, v, top) LTXI_FOUR_1(S, v, swap, v) \
LTXI_I_##S void ltxi_##S##_st(float *p, ltxi_##S##_v x) { ltxi_##S##_st4(p, x.a); ltxi_##S##_st4(p + 4, x.b); ltxi_##S##_st4(p + 8, x.c); ltxi_##S##_st4(p + 12, x.d); } \
LTXI_I_##S uint32_t ltxi_##S##_amax(ltxi_##S##_v x) { return ltxi_##S##_amax4(ltxi_##S##_top4(ltxi_##S##_top4(x.a, x.b), ltxi_##S##_top4(x.c, x.d))); } \
LTXI_I_##S float ltxi_##S##_sum(ltxi_##S##_v x) { return ltxi_##S##_sum4(ltxi_##S##_add4(ltxi_##S##_add4(x.a, x.c), ltxi_##S##_add4(x.b, x.d))); }
#endif

#ifdef LTXI_NEON
#define LTXI_T_neon LTXI_FN
#define LTXI_I_neon __attribute__((unused, always_inline)) static __inline__
typedef float32x4_t ltxi_neon_f4;
#define LTXI_NEON4(name, args, e) LTXI_I_neon float32x4_t ltxi_neon_##name##4 args { return e; }
#define LTXI_U32(x) vreinterpretq_u32_f32(x)
LTXI_NEON4(ld, (const float *p), vld1q_f32(p))
LTXI_NEON4(ldf, (const uint8_t *p), vreinterpretq_f32_u8(vld1q_u8(p)))
LTXI_NEON4(ldh, (const uint8_t *p), vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))))
LTXI_NEON4(ldb, (const uint8_t *p), vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16)))
LTXI_I_neon int32x4_t ltxi_neon_wbyte4(const uint8_t *p)
{
    uint32_t u;
    memcpy(&u, p, 4);
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(u)))));
}
LTXI_NEON4(ldi, (const int8_t *p), vcvtq_f32_s32(ltxi_neon_wbyte4((const uint8_t *)p)))
LTXI_NEON4(ldn, (const float *p), vcvtq_f32_s32(vreinterpretq_s32_f32(vld1q_f32(p))))
LTXI_NEON4(set1, (float x), vdupq_n_f32(x))
LTXI_NEON4(add, (float32x4_t x, float32x4_t y), vaddq_f32(x, y))
LTXI_NEON4(sub, (float32x4_t x, float32x4_t y), vsubq_f32(x, y))
LTXI_NEON4(mul, (float32x4_t x, float32x4_t y), vmulq_f32(x, y))
LTXI_NEON4(div, (float32x4_t x, float32x4_t y), vdivq_f32(x, y))
LTXI_NEON4(fma, (float32x4_t x, float32x4_t y, float32x4_t z), vfmaq_f32(z, x, y))
LTXI_NEON4(max, (float32x4_t x, float32x4_t y), vbslq_f32(vcgtq_f32(x, y), x, y)) /* fmax would turn NaN and -0 another way */
LTXI_NEON4(min, (float32x4_t x, float32x4_t y), vbslq_f32(vcltq_f32(x, y), x, y))
LTXI_NEON4(pow2, (int32x4_t n), vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23)))
LTXI_I_neon float32x4_t ltxi_neon_scale4(float32x4_t x, float32x4_t n)
{
    int32x4_t k = vcvtq_s32_f32(n), half = vshrq_n_s32(k, 1);
    return vmulq_f32(vmulq_f32(x, ltxi_neon_pow24(half)), ltxi_neon_pow24(vsubq_s32(k, half)));
}
LTXI_NEON4(swap, (float32x4_t x), vrev64q_f32(x))
LTXI_NEON4(top, (float32x4_t m, float32x4_t x), vreinterpretq_f32_u32(vmaxq_u32(LTXI_U32(m), LTXI_U32(vabsq_f32(x)))))
LTXI_I_neon void ltxi_neon_st4(float *p, float32x4_t x) { vst1q_f32(p, x); }
LTXI_I_neon uint32_t ltxi_neon_amax4(float32x4_t m) { return vmaxvq_u32(LTXI_U32(m)); }
LTXI_I_neon float ltxi_neon_sum4(float32x4_t x) { return vpadds_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x))); }
LTXI_FOURS(neon)
LTXI_FOUR_3(neon, v, fma)
LTXI_I_neon void ltxi_neon_sth(uint8_t *p, ltxi_neon_v x)
{
    vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(x.a))); vst1_u8(p + 8, vreinterpret_u8_f16(vcvt_f16_f32(x.b)));
    vst1_u8(p + 16, vreinterpret_u8_f16(vcvt_f16_f32(x.c))); vst1_u8(p + 24, vreinterpret_u8_f16(vcvt_f16_f32(x.d)));
}
/* the low byte of LTXI_MAGIC_BITS is 0 */
LTXI_I_neon uint16x8_t ltxi_neon_low16(float32x4_t x, float32x4_t y) { return vuzp1q_u16(vreinterpretq_u16_f32(x), vreinterpretq_u16_f32(y)); }
LTXI_I_neon void ltxi_neon_sti(int8_t *p, ltxi_neon_v x)
{
    vst1q_s8(p, vuzp1q_s8(vreinterpretq_s8_u16(ltxi_neon_low16(x.a, x.b)), vreinterpretq_s8_u16(ltxi_neon_low16(x.c, x.d))));
}
#undef LTXI_U32
#endif /* LTXI_NEON */

#ifdef LTXI_SIMD128
#define LTXI_T_simd128 LTXI_FN
#define LTXI_I_simd128 __attribute__((unused, always_inline)) static __inline__
typedef v128_t ltxi_simd128_f4, ltxi_simd128_w4;
#define LTXI_SIMD4(name, args, e) LTXI_I_simd128 v128_t ltxi_simd128_##name##4 args { return e; }
LTXI_SIMD4(ld, (const float *p), wasm_v128_load(p))
LTXI_SIMD4(ldf, (const uint8_t *p), wasm_v128_load(p))
LTXI_I_simd128 v128_t ltxi_simd128_half4(v128_t h) /* of the low 16 bits: the exponent grows by 112, and is all ones where it was */
{
    v128_t m = wasm_i32x4_shl(wasm_v128_and(h, wasm_i32x4_splat(0x7fff)), 13), sign = wasm_i32x4_shl(wasm_v128_and(h, wasm_i32x4_splat(0x8000)), 16);
    v128_t top = wasm_v128_and(wasm_i32x4_ge(m, wasm_i32x4_splat(0x0f800000)), wasm_i32x4_splat(0x7f800000));
    return wasm_v128_or(wasm_v128_or(wasm_f32x4_mul(m, wasm_f32x4_splat(5.192296858534828e33f)), top), sign);
}
LTXI_SIMD4(ldh, (const uint8_t *p), ltxi_simd128_half4(wasm_u32x4_load16x4(p)))
LTXI_SIMD4(ldb, (const uint8_t *p), wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16))
LTXI_SIMD4(wbyte, (const uint8_t *p), wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(p))))
LTXI_SIMD4(ldi, (const int8_t *p), wasm_f32x4_convert_i32x4(ltxi_simd128_wbyte4((const uint8_t *)p)))
LTXI_SIMD4(ldn, (const float *p), wasm_f32x4_convert_i32x4(wasm_v128_load(p)))
LTXI_SIMD4(set1, (float x), wasm_f32x4_splat(x))
LTXI_SIMD4(add, (v128_t x, v128_t y), wasm_f32x4_add(x, y))
LTXI_SIMD4(sub, (v128_t x, v128_t y), wasm_f32x4_sub(x, y))
LTXI_SIMD4(mul, (v128_t x, v128_t y), wasm_f32x4_mul(x, y))
LTXI_SIMD4(div, (v128_t x, v128_t y), wasm_f32x4_div(x, y))
LTXI_SIMD4(max, (v128_t x, v128_t y), wasm_f32x4_pmax(y, x))
LTXI_SIMD4(min, (v128_t x, v128_t y), wasm_f32x4_pmin(y, x))
LTXI_SIMD4(pow2, (v128_t n), wasm_i32x4_shl(wasm_i32x4_add(n, wasm_i32x4_splat(127)), 23))
LTXI_I_simd128 v128_t ltxi_simd128_scale4(v128_t x, v128_t n)
{
    v128_t k = wasm_i32x4_sub(wasm_f32x4_add(n, wasm_f32x4_splat(LTXI_MAGIC)), wasm_i32x4_splat((int32_t)LTXI_MAGIC_BITS)), half = wasm_i32x4_shr(k, 1);
    return wasm_f32x4_mul(wasm_f32x4_mul(x, ltxi_simd128_pow24(half)), ltxi_simd128_pow24(wasm_i32x4_sub(k, half)));
}
LTXI_SIMD4(swap, (v128_t x), wasm_i32x4_shuffle(x, x, 1, 0, 3, 2))
LTXI_SIMD4(top, (v128_t m, v128_t x), wasm_u32x4_max(m, wasm_f32x4_abs(x)))
LTXI_I_simd128 void ltxi_simd128_st4(float *p, v128_t x) { wasm_v128_store(p, x); }
LTXI_I_simd128 uint32_t ltxi_simd128_amax4(v128_t m)
{
    m = wasm_u32x4_max(m, wasm_i32x4_shuffle(m, m, 2, 3, 0, 1));
    return ltxi_umax((uint32_t)wasm_i32x4_extract_lane(m, 0), (uint32_t)wasm_i32x4_extract_lane(m, 1));
}
LTXI_I_simd128 float ltxi_simd128_sum4(v128_t x)
{
    x = wasm_f32x4_add(x, wasm_i32x4_shuffle(x, x, 2, 3, 0, 1));
    return wasm_f32x4_extract_lane(x, 0) + wasm_f32x4_extract_lane(x, 1);
}
LTXI_FOURS(simd128)
LTXI_I_simd128 void ltxi_simd128_sth(uint8_t *p, ltxi_simd128_v x)
{
    ltxi_scalar_v t;
    ltxi_simd128_st(t.f, x);
    ltxi_scalar_sth(p, t);
}
LTXI_I_simd128 void ltxi_simd128_sti(int8_t *p, ltxi_simd128_v x) /* the low byte of LTXI_MAGIC_BITS is 0 */
{
    v128_t a = wasm_i8x16_shuffle(x.a, x.b, 0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0), b = wasm_i8x16_shuffle(x.c, x.d, 0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0);
    wasm_v128_store(p, wasm_i64x2_shuffle(a, b, 0, 2));
}
/* There is no fused multiply-add. The sum of product and addend in double, where the product is exact, rounds to the right float unless it lies half way between
   two floats, be they denormal, or at the edge of infinity: then its low 28 bits are zero. Lanes with such bits, exact sums among them, go the way of ltxi_fma. */
LTXI_I_simd128 v128_t ltxi_simd128_exact2(v128_t x, v128_t y, v128_t z)
{
    v128_t p = wasm_f64x2_mul(wasm_f64x2_promote_low_f32x4(x), wasm_f64x2_promote_low_f32x4(y)), c = wasm_f64x2_promote_low_f32x4(z), s = wasm_f64x2_add(p, c);
    v128_t cc = wasm_f64x2_sub(s, p), e = wasm_f64x2_add(wasm_f64x2_sub(p, wasm_f64x2_sub(s, cc)), wasm_f64x2_sub(c, cc));
    v128_t off = wasm_f64x2_gt(wasm_f64x2_abs(e), wasm_f64x2_splat(0.0)), less = wasm_v128_and(off, wasm_i64x2_lt(wasm_v128_xor(e, s), wasm_i64x2_splat(0)));
    return wasm_f32x4_demote_f64x2_zero(wasm_v128_or(wasm_i64x2_add(s, less), wasm_v128_and(off, wasm_i64x2_splat(1)))); /* cut off, then odd */
}
LTXI_SIMD4(upper, (v128_t x), wasm_i64x2_shuffle(x, x, 1, 1))
LTXI_SIMD4(exact, (v128_t x, v128_t y, v128_t z), \
    wasm_i64x2_shuffle(ltxi_simd128_exact2(x, y, z), ltxi_simd128_exact2(ltxi_simd128_upper4(x), ltxi_simd128_upper4(y), ltxi_simd128_upper4(z)), 0, 2))
LTXI_FOUR_3(simd128, v, exact)
__attribute__((unused, noinline)) static void ltxi_simd128_exact_fma(const ltxi_simd128_v *x, const ltxi_simd128_v *y, const ltxi_simd128_v *z, ltxi_simd128_v *r) { *r = ltxi_simd128_exact(*x, *y, *z); }
LTXI_I_simd128 v128_t ltxi_simd128_sum2(v128_t x, v128_t y, v128_t z)
{
    return wasm_f64x2_add(wasm_f64x2_mul(wasm_f64x2_promote_low_f32x4(x), wasm_f64x2_promote_low_f32x4(y)), wasm_f64x2_promote_low_f32x4(z));
}
LTXI_I_simd128 v128_t ltxi_simd128_near4(v128_t x, v128_t y, v128_t z, v128_t *low)
{
    v128_t a = ltxi_simd128_sum2(x, y, z), b = ltxi_simd128_sum2(ltxi_simd128_upper4(x), ltxi_simd128_upper4(y), ltxi_simd128_upper4(z));
    *low = wasm_i32x4_shl(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), 4);
    return wasm_i64x2_shuffle(wasm_f32x4_demote_f64x2_zero(a), wasm_f32x4_demote_f64x2_zero(b), 0, 2);
}
LTXI_I_simd128 ltxi_simd128_v ltxi_simd128_fma(ltxi_simd128_v x, ltxi_simd128_v y, ltxi_simd128_v z)
{
    ltxi_simd128_v r, low;
    r.a = ltxi_simd128_near4(x.a, y.a, z.a, &low.a); r.b = ltxi_simd128_near4(x.b, y.b, z.b, &low.b);
    r.c = ltxi_simd128_near4(x.c, y.c, z.c, &low.c); r.d = ltxi_simd128_near4(x.d, y.d, z.d, &low.d);
    low.a = wasm_u32x4_min(wasm_u32x4_min(low.a, low.b), wasm_u32x4_min(low.c, low.d));
    if (__builtin_expect(!wasm_i32x4_all_true(low.a), 0)) ltxi_simd128_exact_fma(&x, &y, &z, &r);
    return r;
}
#endif /* LTXI_SIMD128 */

/* The last n < 16 elements of an array, padded with zeros to a full set of lanes. */
LTXI_FN const void *ltxi_tail(void *t, const void *p, int32_t bytes) { memset(t, 0, 64); memcpy(t, p, (size_t)bytes); return t; }
#define LTXI_GETPUT(S) \
LTXI_I_##S ltxi_##S##_v ltxi_##S##_get(const float *p, int32_t left) \
{ \
    float t[16]; \
    return ltxi_##S##_ld(left >= 16 ? p : (const float *)ltxi_tail(t, p, left * 4)); \
} \
LTXI_I_##S ltxi_##S##_v ltxi_##S##_getf(const uint8_t *p, int32_t left) \
{ \
    uint8_t t[64]; \
    return ltxi_##S##_ldf(left >= 16 ? p : (const uint8_t *)ltxi_tail(t, p, left * 4)); \
} \
LTXI_I_##S void ltxi_##S##_put(float *p, int32_t left, ltxi_##S##_v v) \
{ \
    float t[16]; \
    if (left >= 16) { ltxi_##S##_st(p, v); return; } \
    ltxi_##S##_st(t, v); \
    memcpy(p, t, (size_t)left * 4); \
}

/* ==== >>functions =========================================================================================
   Owns exp, log, tanh, sine and cosine, the activations. Polynomials are minimax fits made for this file; errors are stated at
   ltx_map and tested against double. May call: platform, vector.                                                */

#define LTXI_LOG2E 1.44269502f
#define LTXI_LN2_HI 0.693147182f
#define LTXI_LN2_LO (-1.90465421e-9f)

/* n = round(x / ln 2), r = x - n ln 2 in two pieces, |r| <= 0.35; exp(r) - 1 = r + r^2 q(r), then times 2^n, rounded once even
   where the result is denormal. */
#define LTXI_FUNCTIONS(S) \
LTXI_I_##S ltxi_##S##_v ltxi_##S##_expm1_r(ltxi_##S##_v x, ltxi_##S##_v *n) \
{ \
    ltxi_##S##_v k = ltxi_##S##_set1(LTXI_MAGIC), r, q; \
    *n = ltxi_##S##_sub(ltxi_##S##_fma(x, ltxi_##S##_set1(LTXI_LOG2E), k), k); \
    r = ltxi_##S##_fma(*n, ltxi_##S##_set1(-LTXI_LN2_HI), x); \
    r = ltxi_##S##_fma(*n, ltxi_##S##_set1(-(LTXI_LN2_LO)), r); \
    q = ltxi_##S##_fma(ltxi_##S##_set1(1.9845876e-4f), r, ltxi_##S##_set1(1.3940617e-3f)); \
    q = ltxi_##S##_fma(q, r, ltxi_##S##_set1(8.33339e-3f)); \
    q = ltxi_##S##_fma(q, r, ltxi_##S##_set1(4.1666362e-2f)); \
    q = ltxi_##S##_fma(q, r, ltxi_##S##_set1(0.16666666f)); \
    q = ltxi_##S##_fma(q, r, ltxi_##S##_set1(0.5f)); \
    return ltxi_##S##_fma(ltxi_##S##_mul(r, r), q, r); \
} \
LTXI_I_##S ltxi_##S##_v ltxi_##S##_exp(ltxi_##S##_v x) \
{ \
    ltxi_##S##_v n, e; \
    x = ltxi_##S##_min(ltxi_##S##_set1(89.0f), ltxi_##S##_max(ltxi_##S##_set1(-104.0f), x)); /* NaN stays NaN */ \
    e = ltxi_##S##_add(ltxi_##S##_set1(1.0f), ltxi_##S##_expm1_r(x, &n)); \
    return ltxi_##S##_scale(e, n); \
} \
LTXI_I_##S ltxi_##S##_v ltxi_##S##_tanh(ltxi_##S##_v x) /* e / (e + 2), e = exp(2x) - 1 */ \
{ \
    ltxi_##S##_v n, e, s; \
    x = ltxi_##S##_min(ltxi_##S##_set1(20.0f), ltxi_##S##_max(ltxi_##S##_set1(-20.0f), ltxi_##S##_add(x, x))); \
    e = ltxi_##S##_expm1_r(x, &n); \
    s = ltxi_##S##_scale(ltxi_##S##_set1(1.0f), n); \
    e = ltxi_##S##_fma(e, s, ltxi_##S##_sub(s, ltxi_##S##_set1(1.0f))); \
    return ltxi_##S##_div(e, ltxi_##S##_add(e, ltxi_##S##_set1(2.0f))); \
} \
LTXI_I_##S ltxi_##S##_v ltxi_##S##_gate(ltxi_##S##_v x, ltxi_##S##_v z) /* x sigmoid(z) */ \
{ \
    ltxi_##S##_v e = ltxi_##S##_exp(ltxi_##S##_sub(ltxi_##S##_set1(0.0f), z)); \
    return ltxi_##S##_div(x, ltxi_##S##_add(ltxi_##S##_set1(1.0f), e)); \
} \
LTXI_I_##S ltxi_##S##_v ltxi_##S##_gelu(ltxi_##S##_v x) /* x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)) = the tanh form */ \
{ \
    ltxi_##S##_v c = ltxi_##S##_fma(ltxi_##S##_mul(x, x), ltxi_##S##_set1(0.0713548162f), ltxi_##S##_set1(1.59576912f)); \
    return ltxi_##S##_gate(x, ltxi_##S##_mul(x, c)); \
} \
LTXI_T_##S void ltxi_##S##_map(int32_t f, const float *x, int32_t n, float *y) \
{ \
    int32_t i; \
    for (i = 0; i < n; i += 16) { \
        ltxi_##S##_v v = ltxi_##S##_get(x + i, n - i); \
        v = f == LTX_FN_SILU ? ltxi_##S##_gate(v, v) : f == LTX_FN_GELU ? ltxi_##S##_gelu(v) : f == LTX_FN_TANH ? ltxi_##S##_tanh(v) \
          : f == LTX_FN_EXP ? ltxi_##S##_exp(v) : ltxi_##S##_max(ltxi_##S##_set1(0.0f), v); \
        ltxi_##S##_put(y + i, n - i, v); \
    } \
}

/* Sine and cosine of sixteen angles hi + lo: |hi| <= 2^22 minus a multiple k of pi/2 in three pieces (the first difference is
   exact), then two polynomials on [-pi/4, pi/4]; k mod 4 says which one is which and the signs. */
#define LTXI_SINCOS(S) \
LTXI_I_##S void ltxi_##S##_sincos16(ltxi_##S##_v hi, ltxi_##S##_v lo, float *sine, float *cosine) \
{ \
    ltxi_##S##_v m = ltxi_##S##_set1(LTXI_MAGIC), k, r, z, s, c; \
    float turns[16], t; \
    int32_t i; \
    k = ltxi_##S##_sub(ltxi_##S##_fma(hi, ltxi_##S##_set1(0.636619747f), m), m); \
    r = ltxi_##S##_fma(k, ltxi_##S##_set1(-1.57079637f), hi); \
    r = ltxi_##S##_fma(k, ltxi_##S##_set1(4.37113883e-8f), ltxi_##S##_add(r, lo)); \
    r = ltxi_##S##_fma(k, ltxi_##S##_set1(1.71512451e-15f), r); \
    z = ltxi_##S##_mul(r, r); \
    s = ltxi_##S##_fma(ltxi_##S##_set1(2.7183041e-6f), z, ltxi_##S##_set1(-1.9839335e-4f)); \
    s = ltxi_##S##_fma(ltxi_##S##_fma(s, z, ltxi_##S##_set1(8.333329e-3f)), z, ltxi_##S##_set1(-0.16666667f)); \
    s = ltxi_##S##_fma(ltxi_##S##_mul(s, z), r, r); \
    c = ltxi_##S##_fma(ltxi_##S##_set1(2.4438377e-5f), z, ltxi_##S##_set1(-1.3887367e-3f)); \
    c = ltxi_##S##_fma(ltxi_##S##_fma(c, z, ltxi_##S##_set1(4.1666646e-2f)), z, ltxi_##S##_set1(-0.5f)); \
    c = ltxi_##S##_fma(c, z, ltxi_##S##_set1(1.0f)); \
    ltxi_##S##_st(sine, s); ltxi_##S##_st(cosine, c); ltxi_##S##_st(turns, ltxi_##S##_add(k, m)); \
    for (i = 0; i < 16; i++) { \
        uint32_t q = ltxi_bits(turns[i]); /* low bits of k + magic = k */ \
        if (q & 1u) { t = sine[i]; sine[i] = cosine[i]; cosine[i] = t; } \
        if (q & 2u) sine[i] = -sine[i]; \
        if ((q + 1u) & 2u) cosine[i] = -cosine[i]; \
    } \
} \
/* angles (fh + fl)[i] * x, split into product and its rounding error; n a multiple of 16 */ \
LTXI_T_##S void ltxi_##S##_sincos(const float *fh, const float *fl, float x, int32_t n, float *sine, float *cosine) \
{ \
    ltxi_##S##_v p = ltxi_##S##_set1(x), h, hi; \
    int32_t i; \
    for (i = 0; i < n; i += 16) { \
        h = ltxi_##S##_ld(fh + i); hi = ltxi_##S##_mul(h, p); \
        ltxi_##S##_sincos16(hi, ltxi_##S##_fma(ltxi_##S##_ld(fl + i), p, ltxi_##S##_fma(h, p, ltxi_##S##_sub(ltxi_##S##_set1(0.0f), hi))), sine + i, cosine + i); \
    } \
}

/* Natural logarithm of x > 0: x = m 2^e with m in [0.7, 1.42), s = (m - 1) / (m + 1), log m = 2s + s^3 R(s^2). */
LTXI_FN float ltxi_ln(float x)
{
    uint32_t u = ltxi_bits(x);
    float e = 0, m, f, s, z, r;
    if (!(x > 0)) return x < 0 || x > 0 ? ltxi_float(0x7fc00000u) : (u & 0x7fffffffu) == 0 ? -ltxi_float(0x7f800000u) : x;
    if (u == 0x7f800000u) return x;
    if (u < 0x00800000u) { x = x * 8388608.0f; u = ltxi_bits(x); e = -23.0f; }
    e = e + (float)((int32_t)((u - 0x3f350000u) >> 23) - (u < 0x3f350000u ? 512 : 0));
    m = ltxi_float(u - (((u - 0x3f350000u) >> 23) << 23));
    f = m - 1.0f;
    s = f / (m + 1.0f);
    z = s * s;
    r = ltxi_fma(ltxi_fma(ltxi_fma(0.23582155f, z, 0.2853731f), z, 0.40000334f), z, 0.6666666f);
    /* 2s = f - s f, so log m = f + s (z R - f): the large part f is exact */
    r = ltxi_fma(s, ltxi_fma(r, z, -f), ltxi_fma(e, LTXI_LN2_LO, f));
    return ltxi_fma(e, LTXI_LN2_HI, r);
}

/* ==== >>matrix ============================================================================================
   Owns the kernels of products of weight matrices with rows of activations. May call: platform, formats, vector.

   The unit of work is a tile: sixteen output rows of one matrix times up to LTXI_TILE rows of activations. A kernel writes
   out[row of activations][16] (on its way R8 and R4 need room for rows * planes of these). Per output element
     F32, F16, BF16           sixteen chains over the columns, then the tree of `sum`
     Q8_0, Q4_0, Q8_X, Q4_X   activations in blocks of 32 int8 with a float scale; per block an exact integer product, then
                              acc = fma((float)isum, dw * dx, acc), blocks in order
     Q4_K, Q5_K, Q6_K         activations in blocks of 256; the integer sum, with the integer scales of the sub-blocks, is exact over all 256, then
                              acc = fma((float)isum, d * dx, acc) and, of the mins, acc = fma((float)-msum, dmin * dx, acc)
     R8, R4                   activations with one scale per row, so that the sum over all columns is exact: ((float)isum * dw) * dx. With 16-bit
                              activations x = 255 high + low there are two sums: fma((float)isum of high, 255, (float)isum of low)
   Lanes are output rows. */

#ifdef LTXI_X86
enum { LTXI_TILE = 64 };
#elif defined(LTXI_NEON) || defined(LTXI_SIMD128)
enum { LTXI_TILE = 32 };
#else
enum { LTXI_TILE = 16 }; /* saves stack where there is little of it */
#endif
enum { LTXI_LANES = 16, LTXI_DEEP = 64 };

/* Rows of activations: floats [m][ld], and the same quantized as a matrix wants them. Quantized they lie in chunks of 64 columns, all rows
   of a chunk together: products walk down the rows of a chunk, which then is one stream. */
typedef struct ltxi_acts {
    const float *f;
    int8_t  *q;      /* [ld / 64][rows * planes][64]; two planes: high and low bytes of a row follow each other        */
    float   *d;      /* [groups][rows] scale of each group of columns                                                  */
    int32_t *off;    /* [ld / 32][rows * planes] per block -128 times the sum of its integers; for K formats see ltxi_half_word */
    int32_t ld, rows; /* floats between rows, a multiple of 64; rows that are quantized                                 */
    int32_t kind;    /* what is in q, d, off: LTXI_ACTS_...                                                            */
    int32_t planes, most_planes;
} ltxi_acts;
LTXI_FN int8_t *ltxi_acts_q(const ltxi_acts *x, int32_t row, int32_t block)
{
    return x->q + ((size_t)(block >> 1) * (size_t)(x->rows * x->planes) + (size_t)row) * LTXI_DEEP + (block & 1) * LTXI_BLOCK;
}
/* For K formats four words hold the sums of sixteen columns of four blocks, 16 bits each: word 2 (b & 1) + half has blocks b and b + 2, as bytes of scales come apart
   most cheaply into pairs of words. Block b is put before block b + 2. */
LTXI_FN int32_t *ltxi_half_word(const ltxi_acts *x, int32_t row, int32_t b, int32_t half)
{
    return x->off + (size_t)((b & ~3) + (b & 1) * 2 + half) * (size_t)(x->rows * x->planes) + (size_t)row;
}
LTXI_FN void ltxi_put_half_sum(const ltxi_acts *x, int32_t row, int32_t b, int32_t half, int32_t sum)
{
    int32_t *word = ltxi_half_word(x, row, b, half);
    *word = (int32_t)((b & 2) == 0 ? (uint32_t)sum & 0xffffu : (uint32_t)*word | (uint32_t)sum << 16);
}
LTXI_FN int32_t ltxi_half_sum(const ltxi_acts *x, int32_t row, int32_t b, int32_t half)
{
    return (int16_t)(uint16_t)((uint32_t)*ltxi_half_word(x, row, b, half) >> (b & 2) * 8 & 0xffffu);
}
typedef void ltxi_tile_fn(const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out);

/* Floats to integers of at most `most`, as many as d; not finite: d NaN, so that products are NaN. Returns 0, integers to be zero, for that and
   where numbers are too small to invert. */
#define LTXI_QUANTIZE(S) \
LTXI_I_##S float ltxi_##S##_inverse(const float *x, int32_t n, float most, float *d) \
{ \
    ltxi_##S##_v m = ltxi_##S##_set1(0.0f); \
    int32_t i; \
    uint32_t bits; \
    if (n == LTXI_BLOCK) m = ltxi_##S##_top(ltxi_##S##_top(m, ltxi_##S##_ld(x)), ltxi_##S##_ld(x + 16)); \
    else for (i = 0; i < n; i += 16) m = ltxi_##S##_top(m, ltxi_##S##_get(x + i, n - i)); \
    bits = ltxi_##S##_amax(m); \
    *d = bits >= 0x7f800000u ? ltxi_float(0x7fc00000u) : most / ltxi_float(bits) > FLT_MAX ? 0.0f : ltxi_float(bits) / most; \
    return *d > 0 ? most / ltxi_float(bits) : 0.0f; \
} \
/* n floats to n integers, written up to a multiple of 16; returns the scale */ \
LTXI_T_##S float ltxi_##S##_quantize(const float *x, int32_t n, int8_t *q) \
{ \
    ltxi_##S##_v magic = ltxi_##S##_set1(LTXI_MAGIC), k; \
    int32_t i; \
    float d, id = ltxi_##S##_inverse(x, n, 127.0f, &d); \
    if (id == 0) { memset(q, 0, (size_t)ltxi_round_up(n, 16)); return d; } \
    for (k = ltxi_##S##_set1(id), i = 0; i < n; i += 16) ltxi_##S##_sti(q + i, ltxi_##S##_fma(ltxi_##S##_get(x + i, n - i), k, magic)); \
    return d; \
} \
/* 32 columns of row `at` of the integers; the sums are of small integers, so they are exact */ \
LTXI_I_##S void ltxi_##S##_put_block(const ltxi_acts *a, int32_t at, int32_t b, ltxi_##S##_v v0, ltxi_##S##_v v1) \
{ \
    ltxi_##S##_v magic = ltxi_##S##_set1(LTXI_MAGIC), s0 = ltxi_##S##_sub(v0, magic), s1 = ltxi_##S##_sub(v1, magic); \
    int8_t *q = ltxi_acts_q(a, at, b); \
    ltxi_##S##_sti(q, v0); \
    ltxi_##S##_sti(q + 16, v1); \
    if (a->kind != LTXI_ACTS_SUPER) a->off[(size_t)b * (size_t)(a->rows * a->planes) + (size_t)at] = -128 * (int32_t)ltxi_##S##_sum(ltxi_##S##_add(s0, s1)); \
    else { ltxi_put_half_sum(a, at, b, 0, (int32_t)ltxi_##S##_sum(s0)); ltxi_put_half_sum(a, at, b, 1, (int32_t)ltxi_##S##_sum(s1)); } \
} \
/* Row `row`, n columns, in groups. Sixteen bits: |x| <= 32512 = 127 * 255 + 127; x / 255 is never half way between two integers, and both bytes lie in \
   -127..127, as kernels without products of signed by unsigned bytes want them. */ \
LTXI_I_##S void ltxi_##S##_quantize_groups(const ltxi_acts *a, int32_t row, int32_t n, int32_t group, int32_t planes) \
{ \
    ltxi_##S##_v magic = ltxi_##S##_set1(LTXI_MAGIC), zero = ltxi_##S##_set1(0.0f), k, v[2], h[2]; \
    const float *x = a->f + (size_t)row * (size_t)a->ld; \
    int32_t g, b, i; \
    float id; \
    for (g = 0; g < n; g += group) { \
        id = ltxi_##S##_inverse(x + g, group, planes > 1 ? 32512.0f : 127.0f, &a->d[(size_t)(g / group) * (size_t)a->rows + (size_t)row]); \
        for (k = ltxi_##S##_set1(id), b = g / LTXI_BLOCK; b < (g + group) / LTXI_BLOCK; b++) { \
            LTXI_UNROLL for (i = 0; i < 2; i++) v[i] = ltxi_##S##_fma(id == 0 ? zero : ltxi_##S##_ld(x + b * LTXI_BLOCK + i * 16), k, magic); \
            if (planes == 1) { ltxi_##S##_put_block(a, row, b, v[0], v[1]); continue; } \
            for (i = 0; i < 2; i++) { \
                v[i] = ltxi_##S##_sub(v[i], magic); \
                h[i] = ltxi_##S##_fma(v[i], ltxi_##S##_set1(1.0f / 255.0f), magic); \
                v[i] = ltxi_##S##_fma(ltxi_##S##_sub(h[i], magic), ltxi_##S##_set1(-255.0f), ltxi_##S##_add(v[i], magic)); \
            } \
            ltxi_##S##_put_block(a, 2 * row, b, h[0], h[1]); \
            ltxi_##S##_put_block(a, 2 * row + 1, b, v[0], v[1]); \
        } \
    } \
} \
LTXI_T_##S void ltxi_##S##_quantize_row(const ltxi_acts *a, int32_t row, int32_t n, int32_t group) \
{ \
    if (group == LTXI_BLOCK && a->planes == 1) ltxi_##S##_quantize_groups(a, row, n, LTXI_BLOCK, 1); \
    else ltxi_##S##_quantize_groups(a, row, n, group, a->planes); \
} \
/* Sums [rows * planes][16] of R8 and R4 to results [rows][16], in place. */ \
LTXI_I_##S void ltxi_##S##_finish(float *out, const ltxi_acts *x, int32_t row, int32_t rows, const uint8_t *dw) \
{ \
    ltxi_##S##_v d = ltxi_##S##_ldf(dw), v; \
    int32_t m; \
    for (m = 0; m < rows; m++) { \
        v = ltxi_##S##_ldn(out + m * x->planes * 16); \
        if (x->planes > 1) v = ltxi_##S##_fma(v, ltxi_##S##_set1(255.0f), ltxi_##S##_ldn(out + m * 32 + 16)); \
        ltxi_##S##_st(out + m * 16, ltxi_##S##_mul(ltxi_##S##_mul(v, d), ltxi_##S##_set1(x->d[row + m]))); \
    } \
}

/* Float tile: `a` output rows times `c` rows of activations at a time, as many as there are registers for chains. */
#define LTXI_FLOAT_PART(S, name, part, load, size, a, c) \
LTXI_I_##S void ltxi_##S##_##part##_##name##_16(const uint8_t *w, size_t ld, const float *f, size_t fld, ltxi_##S##_v *s) /* sixteen columns */ \
{ \
    ltxi_##S##_v t[c], v; \
    int32_t j, k; \
    LTXI_UNROLL for (k = 0; k < c; k++) t[k] = ltxi_##S##_ld(f + (size_t)k * fld); \
    LTXI_UNROLL for (j = 0; j < a; j++) { \
        v = ltxi_##S##_##load(w + (size_t)j * ld); \
        LTXI_UNROLL for (k = 0; k < c; k++) s[k * a + j] = ltxi_##S##_fma(v, t[k], s[k * a + j]); \
    } \
} \
LTXI_I_##S void ltxi_##S##_##part##_##name(const uint8_t *w, size_t ld, const float *f, size_t fld, int32_t cols, float *out) \
{ \
    ltxi_##S##_v s[a * c]; \
    int32_t i, j; \
    LTXI_UNROLL for (j = 0; j < a * c; j++) s[j] = ltxi_##S##_set1(0.0f); \
    for (i = 0; i + 16 <= cols; i += 16) { \
        if (i * size % 64 == 0) LTXI_UNROLL for (j = 0; j < a; j++) LTXI_PREFETCH(w, (size_t)(2 * LTXI_LANES + j) * ld + (size_t)i * size); /* two tiles ahead */ \
        ltxi_##S##_##part##_##name##_16(w + (size_t)i * size, ld, f + i, fld, s); \
    } \
    if (i < cols) { \
        uint8_t wt[a * 64]; \
        float ft[c * 16]; \
        for (j = 0; j < a; j++) ltxi_tail(wt + j * 64, w + (size_t)j * ld + (size_t)i * size, (cols - i) * size); \
        for (j = 0; j < c; j++) ltxi_tail(ft + j * 16, f + (size_t)j * fld + i, (cols - i) * 4); \
        ltxi_##S##_##part##_##name##_16(wt, 64, ft, 16, s); \
    } \
    LTXI_UNROLL for (j = 0; j < a * c; j++) out[j / a * LTXI_LANES + j % a] = ltxi_##S##_sum(s[j]); \
}
#define LTXI_FLOAT_TILE(S, name, load, size, a, c) \
LTXI_FLOAT_PART(S, name, many, load, size, a, c) \
LTXI_FLOAT_PART(S, name, one, load, size, 4, 1) \
LTXI_T_##S void ltxi_##S##_tile_##name(const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out) \
{ \
    int32_t m, r; \
    for (m = 0; m + c <= rows; m += c) for (r = 0; r < LTXI_LANES; r += a) \
        ltxi_##S##_many_##name(w + (size_t)r * ld, ld, x->f + (size_t)(row + m) * (size_t)x->ld, (size_t)x->ld, cols, out + m * LTXI_LANES + r); \
    for (; c > 1 && m < rows; m++) for (r = 0; r < LTXI_LANES; r += 4) \
        ltxi_##S##_one_##name(w + (size_t)r * ld, ld, x->f + (size_t)(row + m) * (size_t)x->ld, (size_t)x->ld, cols, out + m * LTXI_LANES + r); \
}

/* ---- quantized tiles, scalar: the specification ---- */
LTXI_FN int32_t ltxi_dot(const int8_t *a, const int8_t *b, int32_t n)
{
    int32_t i, s = 0;
    for (i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}
/* The thirty-two integers of block b of row `lane`, in place where they are bytes. */
LTXI_FN const int8_t *ltxi_ints(int32_t type, const uint8_t *w, size_t ld, int32_t lane, int32_t b, int8_t *t)
{
    const uint8_t *p = w + (size_t)lane * ld + (size_t)b * LTXI_Q4_BYTES + 2;
    int32_t i;
    if (type == LTX_Q8_0) return (const int8_t *)(w + (size_t)lane * ld + (size_t)b * LTXI_Q8_BYTES + 2);
    if (type != LTX_Q4_0) { ltxi_lane_ints(type, w, lane, b, t); return t; }
    for (i = 0; i < LTXI_BLOCK / 2; i++) { t[i] = (int8_t)((p[i] & 15) - 8); t[i + LTXI_BLOCK / 2] = (int8_t)((p[i] >> 4) - 8); }
    return t;
}
LTXI_FN float ltxi_block_scale(int32_t type, const uint8_t *w, size_t ld, int32_t cols, int32_t lane, int32_t b)
{
    if (type == LTX_Q8_0) return ltxi_from_half(ltxi_u16(w + (size_t)lane * ld + (size_t)b * LTXI_Q8_BYTES));
    if (type == LTX_Q4_0) return ltxi_from_half(ltxi_u16(w + (size_t)lane * ld + (size_t)b * LTXI_Q4_BYTES));
    return ltxi_lane_scale(type, w, cols, lane, b);
}
LTXI_FN void ltxi_block_tile(int32_t type, const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out)
{
    int8_t t[LTXI_BLOCK];
    int32_t m, r, b;
    memset(out, 0, (size_t)rows * LTXI_LANES * 4);
    for (r = 0; r < LTXI_LANES; r++) for (b = 0; b < cols / LTXI_BLOCK; b++) {
        const int8_t *v = ltxi_ints(type, w, ld, r, b, t);
        const float *dx = x->d + (size_t)b * (size_t)x->rows + (size_t)row;
        float d = ltxi_block_scale(type, w, ld, cols, r, b), *o = out + r;
        for (m = 0; m < rows; m++, o += LTXI_LANES) *o = ltxi_fma((float)ltxi_dot(v, ltxi_acts_q(x, row + m, b), LTXI_BLOCK), d * dx[m], *o);
    }
}
LTXI_I_scalar void ltxi_scalar_finish(float *out, const ltxi_acts *x, int32_t row, int32_t rows, const uint8_t *dw);
LTXI_FN void ltxi_row_tile(int32_t type, const uint8_t *w, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out)
{
    int8_t t[LTXI_BLOCK];
    int32_t m, r, b, sum, g = 1;
    const uint8_t *extra = w + ltxi_extra(type, cols);
    memset(out, 0, (size_t)(rows * x->planes) * LTXI_LANES * 4);
    for (r = 0; r < LTXI_LANES; r++) for (b = 0; b < cols / LTXI_BLOCK; b++) {
        float *o = out + r;
        ltxi_lane_ints(type, w, r, b, t);
        if (type == LTX_R4) g = ltxi_r4_step(extra[b * LTXI_GROUP + r]);
        for (m = 0; m < rows * x->planes; m++, o += LTXI_LANES) {
            memcpy(&sum, o, 4);
            sum += g * ltxi_dot(t, ltxi_acts_q(x, row * x->planes + m, b), LTXI_BLOCK);
            memcpy(o, &sum, 4);
        }
    }
    ltxi_scalar_finish(out, x, row, rows, w + ltxi_row_scales(type, cols));
}
/* A super-block of a K format: q as stored (Q6_K: minus 32), a scale per 16. */
typedef struct ltxi_super { int8_t q[LTXI_SUPER]; int32_t scale[16], min[8]; float d, dmin; } ltxi_super;
LTXI_FN void ltxi_read_super(int32_t type, const uint8_t *p, ltxi_super *s)
{
    const uint8_t *low = type == LTX_Q5_K ? p + 48 : p + 16, *high = type == LTX_Q5_K ? p + 16 : NULL;
    int32_t j, i;
    s->d = ltxi_from_half(ltxi_u16(type == LTX_Q6_K ? p + 208 : p));
    s->dmin = type == LTX_Q6_K ? 0 : ltxi_from_half(ltxi_u16(p + 2));
    for (j = 0; j < 8; j++) {
        s->scale[2 * j] = s->scale[2 * j + 1] = type == LTX_Q6_K ? 0 : ltxi_k_scale(p + 4, j);
        s->min[j] = type == LTX_Q6_K ? 0 : ltxi_k_min(p + 4, j);
        for (i = 0; i < 32; i++) s->q[j * 32 + i] = (int8_t)(type == LTX_Q6_K ? ltxi_q6_quant(p, j, i) : ltxi_k_quant(low, high, j, i));
    }
    if (type == LTX_Q6_K) for (j = 0; j < 16; j++) s->scale[j] = (int8_t)p[192 + j];
}
LTXI_FN void ltxi_super_tile(int32_t type, const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out)
{
    ltxi_super s;
    int32_t m, r, b, j, isum, msum, bytes = ltxi_super_bytes(type);
    memset(out, 0, (size_t)rows * LTXI_LANES * 4);
    for (r = 0; r < LTXI_LANES; r++) for (b = 0; b < cols / LTXI_SUPER; b++) {
        ltxi_read_super(type, w + (size_t)r * ld + (size_t)b * (size_t)bytes, &s);
        for (m = 0; m < rows; m++) {
            float *o = out + m * LTXI_LANES + r, dx = x->d[(size_t)b * (size_t)x->rows + (size_t)(row + m)];
            for (isum = msum = 0, j = 0; j < 8; j++) {
                const int8_t *q = ltxi_acts_q(x, row + m, b * 8 + j);
                isum += s.scale[2 * j] * ltxi_dot(s.q + j * 32, q, 16) + s.scale[2 * j + 1] * ltxi_dot(s.q + j * 32 + 16, q + 16, 16);
                msum += s.min[j] * (ltxi_half_sum(x, row + m, b * 8 + j, 0) + ltxi_half_sum(x, row + m, b * 8 + j, 1));
            }
            *o = ltxi_fma((float)isum, s.d * dx, *o);
            if (type != LTX_Q6_K) *o = ltxi_fma((float)-msum, s.dmin * dx, *o);
        }
    }
}
#define LTXI_SCALAR_TILE(name, call) \
LTXI_FN void ltxi_scalar_tile_##name(const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out) { (void)ld; call; }

/* ---- quantized tiles, with lanes ----
   Written once for all sets that have the operations below. sixteen rows of 32 columns become eight vectors w of sixteen 32-bit lanes: vector k holds columns
   4k..4k+3 of every row. They meet four bytes at a time of every row of activations.
     wld wst wset wadd wsub wmul   sixteen integers      wand wshl wshr wsar bset bits of them, bset(b) fills all bytes
     wmadd(c, a, b)    c + the products of the two 16-bit halves of a and b      cvt to float      half to float of the low 16 bits    wbyte load int8
     rows32 rows16     sixteen rows of 32 or 16 bytes, turned                   halves            a half per row to float
     prep(t, u)        what isum8 wants of the eight vectors besides themselves, in u, or instead of them, in t
     isum8 isum4       sum of a block: of signed bytes; of nibbles, stored with 8 added. `off` is that of the activations
     raw(c, ...) raw8  sum of half a block, four vectors, of numbers 0..63, added to c, which is 0 where a set has it from its unit; of a whole block, of numbers 0..31
     wlow whigh join   (x86) lanes of two interleaved within 128 bits; two halves to one */
/* Tiles lie one after the other in memory, but within a tile sixteen rows are read side by side, which no hardware prefetcher follows
   well: so a block of this tile asks, in order of addresses, for its share of what comes two tiles later. Past the end of the weights that
   does no harm. Into the second cache: the first can wait for too few lines at a time. */
#define LTXI_FETCH(w, ld, b, bytes) \
    do { \
        const size_t size = LTXI_LANES * (size_t)(bytes), ahead = 2 * LTXI_LANES * (ld) + (size_t)(b) * size; \
        size_t fetched; \
        LTXI_UNROLL for (fetched = 0; fetched < size; fetched += 64) LTXI_PREFETCH(w, ahead + fetched); \
    } while (0)
/* A set may have a matrix unit D beside its lanes S: `few` says that it took a tile of few rows another way, `lone`
   that it made the integer sums of a super-block for one row; `begin` and `end` stand around a tile, `multiply`
   gets all sums of a block at once, from which isum8, isum4 and raw of that set then take theirs, `deep` does a whole tile of R8 or R4. LTXI_NO_UNIT is for
   sets that have none. */
#define LTXI_NO_LONE(D, S) \
LTXI_I_##D int ltxi_##D##_lone(int32_t type, const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t b, const ltxi_##S##_super *s, int32_t *isum) \
{ \
    (void)type; (void)w; (void)ld; (void)x; (void)row; (void)b; (void)s; (void)isum; \
    return 0; \
}
#define LTXI_NO_UNIT(S) \
typedef int ltxi_##S##_dots; \
LTXI_I_##S void ltxi_##S##_multiply(ltxi_##S##_dots *dots, const ltxi_##S##_w *t, int32_t count, const int8_t *q, int32_t rows) { (void)t; (void)count; (void)q; (void)rows; *dots = 0; } \
LTXI_NO_STATE(S)
#define LTXI_NO_STATE(S) \
LTXI_I_##S void ltxi_##S##_begin(int32_t rows, int32_t count) { (void)rows; (void)count; } \
LTXI_I_##S void ltxi_##S##_end(void) { } \
LTXI_I_##S int ltxi_##S##_deep(int32_t type, const uint8_t *w, const ltxi_acts *x, int32_t row, int32_t n, int32_t cols, float *out) \
{ \
    (void)type; (void)w; (void)x; (void)row; (void)n; (void)cols; (void)out; \
    return 0; \
}
#define LTXI_NIBBLES(S) \
LTXI_I_##S void ltxi_##S##_split(const ltxi_##S##_w *a, ltxi_##S##_w *t) \
{ \
    ltxi_##S##_w low = ltxi_##S##_bset(15); \
    int32_t i; \
    LTXI_UNROLL for (i = 0; i < 4; i++) { t[i] = ltxi_##S##_wand(a[i], low); t[4 + i] = ltxi_##S##_wand(ltxi_##S##_wshr(a[i], 4), low); } \
} \
LTXI_I_##S ltxi_##S##_w ltxi_##S##_steps(const uint8_t *p) /* sixteen g of R4, see ltxi_r4_step */ \
{ \
    ltxi_##S##_w b = ltxi_##S##_wbyte(p); \
    return ltxi_##S##_wmul(ltxi_##S##_wand(b, ltxi_##S##_wset(15)), ltxi_##S##_wsub(ltxi_##S##_wset(1), ltxi_##S##_wshr(ltxi_##S##_wand(b, ltxi_##S##_wset(16)), 3))); \
} \
LTXI_I_##S void ltxi_##S##_quads(const uint8_t *p, ltxi_##S##_w *t) /* four vectors that lie as they are wanted */ \
{ \
    int32_t i; \
    LTXI_UNROLL for (i = 0; i < 4; i++) { LTXI_PREFETCH(p, LTXI_AHEAD + i * 64); t[i] = ltxi_##S##_wld(p + i * 64); } \
}
/* A single row of activations with Q8_0 or Q4_0: `all` gives the integer sums of a block for sixteen rows that meet it as they lie. */
#define LTXI_ONE_OF(S, D, name, bytes) \
LTXI_I_##D void ltxi_##D##_one_##name(const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t cols, float *out) \
{ \
    ltxi_##S##_v sum = ltxi_##S##_set1(0.0f); \
    const uint8_t *p = w; \
    int32_t b; \
    for (b = 0; b < cols / LTXI_BLOCK; b++, p += bytes) { \
        size_t at = (size_t)b * (size_t)x->rows + (size_t)row; \
        ltxi_##S##_v d = ltxi_##S##_mul(ltxi_##S##_halves(p, ld, 0), ltxi_##S##_set1(x->d[at])); \
        LTXI_FETCH(w, ld, b, bytes); \
        sum = ltxi_##S##_fma(ltxi_##S##_cvt(ltxi_##D##_all_##name(p + 2, ld, ltxi_acts_q(x, row, b), x->off[at])), d, sum); \
    } \
    ltxi_##S##_st(out, sum); \
}
#define LTXI_ONE(S, D) \
LTXI_ONE_OF(S, D, q8_0, LTXI_Q8_BYTES) \
LTXI_ONE_OF(S, D, q4_0, LTXI_Q4_BYTES) \
LTXI_I_##D int ltxi_##D##_few(int32_t type, ltxi_tile_fn *other, const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out) \
{ \
    (void)other; \
    if (rows > 1 || (type != LTX_Q8_0 && type != LTX_Q4_0)) return 0; \
    if (type == LTX_Q8_0) ltxi_##D##_one_q8_0(w, ld, x, row, cols, out); else ltxi_##D##_one_q4_0(w, ld, x, row, cols, out); \
    return 1; \
}
/* Few rows are for another set, whose tile is `other`. */
#define LTXI_FEW_ELSEWHERE(D, least) \
LTXI_I_##D int ltxi_##D##_few(int32_t type, ltxi_tile_fn *other, const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out) \
{ \
    (void)type; \
    if (rows * x->planes >= least) return 0; \
    other(w, ld, x, row, rows, cols, out); \
    return 1; \
}
/* how a block of each format becomes eight vectors t, and its scales d */
#define LTXI_LOAD_q8_0(S) ltxi_##S##_rows32(w + (size_t)b * LTXI_Q8_BYTES + 2, ld, t); ltxi_##S##_prep(t, u); d = ltxi_##S##_halves(w + (size_t)b * LTXI_Q8_BYTES, ld, 0); \
    LTXI_FETCH(w, ld, b, LTXI_Q8_BYTES)
#define LTXI_LOAD_q4_0(S) ltxi_##S##_rows16(w + (size_t)b * LTXI_Q4_BYTES + 2, ld, u); ltxi_##S##_split(u, t); d = ltxi_##S##_halves(w + (size_t)b * LTXI_Q4_BYTES, ld, 0); \
    LTXI_FETCH(w, ld, b, LTXI_Q4_BYTES)
#define LTXI_LOAD_q8_x(S) ltxi_##S##_quads(w + (size_t)b * 512, t); ltxi_##S##_quads(w + (size_t)b * 512 + 256, t + 4); ltxi_##S##_prep(t, u); \
    d = ltxi_##S##_ldh(extra + b * 32); LTXI_PREFETCH(extra, LTXI_LANES * ld + (size_t)b * 32)
#define LTXI_LOAD_q4_x(S) ltxi_##S##_quads(w + (size_t)b * 256, u); ltxi_##S##_split(u, t); \
    d = ltxi_##S##_ldh(extra + b * 32); LTXI_PREFETCH(extra, LTXI_LANES * ld + (size_t)b * 32) /* scales of the next tile: they lie apart from what is streamed */
#define LTXI_TILE_BLOCK(S, D, F, name, type, add) \
LTXI_T_##D void ltxi_##D##_tile_##name(const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out) \
{ \
    const uint8_t *extra = w + ltxi_extra(type, cols); \
    ltxi_##S##_w t[8], u[8]; \
    ltxi_##S##_v d; \
    ltxi_##D##_dots dots; \
    int32_t b, m; \
    (void)extra; (void)ld; (void)u; \
    if (ltxi_##D##_few(type, ltxi_##F##_tile_##name, w, ld, x, row, rows, cols, out)) return; \
    ltxi_##D##_begin(rows, 8); \
    memset(out, 0, (size_t)rows * LTXI_LANES * 4); \
    for (b = 0; b < cols / LTXI_BLOCK; b++) { \
        const int8_t *q = ltxi_acts_q(x, row, b); \
        const float *dx = x->d + (size_t)b * (size_t)x->rows + (size_t)row; \
        const int32_t *off = x->off + (size_t)b * (size_t)x->rows + (size_t)row; \
        float *o = out; \
        LTXI_LOAD_##name(S); \
        ltxi_##D##_multiply(&dots, t, 8, q, rows); \
        for (m = 0; m < rows; m++, q += LTXI_DEEP, o += LTXI_LANES) \
            ltxi_##S##_st(o, ltxi_##S##_fma(ltxi_##S##_cvt(ltxi_##D##_##add(&dots, m, t, u, q, off + m)), ltxi_##S##_mul(d, ltxi_##S##_set1(dx[m])), ltxi_##S##_ld(o))); \
    } \
    ltxi_##D##_end(); \
}
#define LTXI_TILE_ROW(S, D, F, name, type, add, from) \
LTXI_T_##D void ltxi_##D##_tile_##name(const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out) \
{ \
    const uint8_t *extra = w + ltxi_extra(type, cols); \
    ltxi_##S##_w t[8], u[8], g = ltxi_##S##_wset(1), s; \
    ltxi_##D##_dots dots; \
    int32_t b, m, n = rows * x->planes; \
    (void)ld; (void)u; \
    if (ltxi_##D##_few(type, ltxi_##F##_tile_##name, w, ld, x, row, rows, cols, out)) return; \
    if (ltxi_##D##_deep(type, w, x, row * x->planes, n, cols, out)) { \
        ltxi_##S##_finish(out, x, row, rows, w + ltxi_row_scales(type, cols)); \
        return; \
    } \
    ltxi_##D##_begin(n, 8); \
    memset(out, 0, (size_t)n * LTXI_LANES * 4); \
    for (b = 0; b < cols / LTXI_BLOCK; b++) { \
        const int8_t *q = ltxi_acts_q(x, row * x->planes, b); \
        const int32_t *off = x->off + ((size_t)b * (size_t)x->rows + (size_t)row) * (size_t)x->planes; \
        float *o = out; \
        ltxi_##S##_v d; \
        LTXI_LOAD_##from(S); \
        (void)d; \
        if (type == LTX_R4) g = ltxi_##S##_steps(extra + b * LTXI_GROUP); \
        ltxi_##D##_multiply(&dots, t, 8, q, n); \
        for (m = 0; m < n; m++, q += LTXI_DEEP, o += LTXI_LANES) { \
            s = ltxi_##D##_##add(&dots, m, t, u, q, off + m); \
            ltxi_##S##_wst(o, ltxi_##S##_wadd(ltxi_##S##_wld(o), type == LTX_R4 ? ltxi_##S##_wmul(s, g) : s)); \
        } \
    } \
    ltxi_##D##_end(); \
    ltxi_##S##_finish(out, x, row, rows, w + ltxi_row_scales(type, cols)); \
}

/* K formats. Scales and mins of sixteen rows, and the vectors of the bytes that several sub-blocks share. */
#define LTXI_TILE_SUPERS(S) \
typedef struct ltxi_##S##_super { ltxi_##S##_v d, dmin; ltxi_##S##_w scales[4], pair[8], a[8], b[8], high[8]; } ltxi_##S##_super; \
LTXI_I_##S ltxi_##S##_w ltxi_##S##_scale_of(const ltxi_##S##_super *s, int32_t i) { return ltxi_##S##_wsar(ltxi_##S##_wshl(s->scales[i / 4], 24 - i % 4 * 8), 24); } \
/* Q4_K, Q5_K: the first sixteen bytes of a super-block are d, dmin, scales. pair: mins of the two sub-blocks whose sums share a word */ \
LTXI_I_##S void ltxi_##S##_head_min(const uint8_t *p, size_t ld, ltxi_##S##_super *s) \
{ \
    ltxi_##S##_w a[4], min[2], six = ltxi_##S##_bset(63), low = ltxi_##S##_bset(15), top = ltxi_##S##_bset(48), words = ltxi_##S##_wset(0x00ff00ff); \
    int32_t j; \
    ltxi_##S##_rows16(p, ld, a); \
    s->d = ltxi_##S##_half(a[0]); \
    s->dmin = ltxi_##S##_half(ltxi_##S##_wshr(a[0], 16)); \
    s->scales[0] = ltxi_##S##_wand(a[1], six); \
    s->scales[1] = ltxi_##S##_wadd(ltxi_##S##_wand(a[3], low), ltxi_##S##_wand(ltxi_##S##_wshr(a[1], 2), top)); \
    min[0] = ltxi_##S##_wand(a[2], six); \
    min[1] = ltxi_##S##_wadd(ltxi_##S##_wand(ltxi_##S##_wshr(a[3], 4), low), ltxi_##S##_wand(ltxi_##S##_wshr(a[2], 2), top)); \
    LTXI_UNROLL for (j = 0; j < 4; j++) s->pair[j] = ltxi_##S##_wand(j & 1 ? ltxi_##S##_wshr(min[j / 2], 8) : min[j / 2], words); \
} \
/* Q6_K: pair: 256 times the scales of the two halves whose sums share a word */ \
LTXI_I_##S void ltxi_##S##_head_q6(const uint8_t *p, size_t ld, ltxi_##S##_super *s) \
{ \
    ltxi_##S##_w low = ltxi_##S##_wset(0xff00), high = ltxi_##S##_wshl(low, 16), x; \
    int32_t j; \
    s->d = ltxi_##S##_halves(p + 194, ld, 1); \
    ltxi_##S##_rows16(p + 192, ld, s->scales); \
    LTXI_UNROLL for (j = 0; j < 8; j++) { \
        x = s->scales[j / 4 * 2]; \
        x = ltxi_##S##_wand(j % 4 == 0 ? ltxi_##S##_wshl(x, 8) : ltxi_##S##_wshr(x, j % 4 * 8 - 8), low); \
        s->pair[j] = ltxi_##S##_wadd(x, ltxi_##S##_wand(ltxi_##S##_wshl(s->scales[j / 4 * 2 + 1], 24 - j % 4 * 8), high)); \
    } \
} \
/* t = x >> shift & mask, eight times */ \
LTXI_I_##S void ltxi_##S##_pick(const ltxi_##S##_w *x, int32_t shift, ltxi_##S##_w mask, ltxi_##S##_w *t) \
{ \
    int32_t i; \
    LTXI_UNROLL for (i = 0; i < 8; i++) t[i] = ltxi_##S##_wand(ltxi_##S##_wshr(x[i], shift), mask); \
} \
LTXI_I_##S void ltxi_##S##_raise(ltxi_##S##_w *t, const ltxi_##S##_w *high, int32_t shift, ltxi_##S##_w mask) /* add bits 4 and up */ \
{ \
    int32_t i; \
    LTXI_UNROLL for (i = 0; i < 8; i++) t[i] = ltxi_##S##_wadd(t[i], ltxi_##S##_wshl(ltxi_##S##_wand(ltxi_##S##_wshr(high[i], shift), mask), 4)); \
} \
/* the 32 columns of sub-block j; bytes that serve several are read for the first of them */ \
LTXI_I_##S void ltxi_##S##_columns(int32_t type, const uint8_t *p, size_t ld, int32_t j, ltxi_##S##_super *s, ltxi_##S##_w *t) \
{ \
    ltxi_##S##_w low = ltxi_##S##_bset(15); \
    const uint8_t *bytes = type == LTX_Q5_K ? p + 48 : p + 16; \
    if (type == LTX_Q6_K) { \
        if (j % 4 == 0) { ltxi_##S##_rows32(p + j * 16, ld, s->a); ltxi_##S##_rows32(p + j * 16 + 32, ld, s->b); ltxi_##S##_rows32(p + 128 + j * 8, ld, s->high); } \
        ltxi_##S##_pick(j & 1 ? s->b : s->a, j & 2 ? 4 : 0, low, t); \
        ltxi_##S##_raise(t, s->high, j % 4 * 2, ltxi_##S##_bset(3)); \
        return; \
    } \
    if (type == LTX_Q5_K && j == 0) ltxi_##S##_rows32(p + 16, ld, s->high); \
    if (j % 2 == 0) ltxi_##S##_rows32(bytes + j * 16, ld, s->a); \
    ltxi_##S##_pick(s->a, j % 2 * 4, low, t); \
    if (type == LTX_Q5_K) ltxi_##S##_raise(t, s->high, j, ltxi_##S##_bset(1)); \
}
/* isum += scale times the sums of `count` vectors, a whole or half a sub-block, for each row of activations */
#define LTXI_SUPER_SUMS(S, D) \
LTXI_I_##D void ltxi_##D##_super_sums(const ltxi_##S##_w *t, int32_t count, const int8_t *q, int32_t rows, ltxi_##S##_w scale, int32_t *isum) \
{ \
    ltxi_##D##_dots dots; \
    int32_t m; \
    ltxi_##D##_multiply(&dots, t, count, q, rows); \
    for (m = 0; m < rows; m++, q += LTXI_DEEP, isum += LTXI_LANES) { \
        ltxi_##S##_w sum = count == 8 ? ltxi_##D##_raw8(&dots, m, t, q) : ltxi_##D##_raw(&dots, m, ltxi_##S##_wset(0), t, q); \
        ltxi_##S##_wst(isum, ltxi_##S##_wadd(ltxi_##S##_wld(isum), ltxi_##S##_wmul(sum, scale))); \
    } \
}
#define LTXI_TILE_SUPER(S, D, F, name, type, bytes) \
LTXI_T_##D void ltxi_##D##_tile_##name(const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t rows, int32_t cols, float *out) \
{ \
    ltxi_##S##_super s; \
    ltxi_##S##_w t[8], sum, zero = ltxi_##S##_wset(0); \
    int32_t area[(LTXI_TILE + 1) * LTXI_LANES], *isum = area + (LTXI_ALIGN - (uintptr_t)area % LTXI_ALIGN) % LTXI_ALIGN / 4, b, j, m, n; \
    size_t stride = (size_t)x->rows; \
    if (ltxi_##D##_few(type, ltxi_##F##_tile_##name, w, ld, x, row, rows, cols, out)) return; \
    ltxi_##D##_begin(rows, type == LTX_Q6_K ? 4 : 8); \
    memset(out, 0, (size_t)rows * LTXI_LANES * 4); \
    for (b = 0; b < cols / LTXI_SUPER; b++) { \
        const uint8_t *p = w + (size_t)b * bytes; \
        const float *dx = x->d + (size_t)b * stride + (size_t)row; \
        if (type == LTX_Q6_K) ltxi_##S##_head_q6(p, ld, &s); else ltxi_##S##_head_min(p, ld, &s); \
        n = rows == 1 && ltxi_##D##_lone(type, w, ld, x, row, b, &s, isum) ? 0 : 8; \
        if (n > 0) memset(isum, 0, (size_t)rows * LTXI_LANES * 4); \
        for (j = 0; j < n; j++) { \
            const int8_t *q = ltxi_acts_q(x, row, b * 8 + j); \
            ltxi_##S##_columns(type, p, ld, j, &s, t); \
            LTXI_FETCH(w, ld, b * 8 + j, bytes / 8); \
            ltxi_##D##_super_sums(t, type == LTX_Q6_K ? 4 : 8, q, rows, ltxi_##S##_scale_of(&s, type == LTX_Q6_K ? 2 * j : j), isum); \
            if (type == LTX_Q6_K) ltxi_##D##_super_sums(t + 4, 4, q + 16, rows, ltxi_##S##_scale_of(&s, 2 * j + 1), isum); \
        } \
        for (m = 0; m < rows; m++) { \
            float *o = out + m * LTXI_LANES; \
            const int32_t *off = x->off + (size_t)b * 8 * stride + (size_t)(row + m); \
            ltxi_##S##_w i = ltxi_##S##_wld(isum + m * LTXI_LANES); \
            ltxi_##S##_v k = ltxi_##S##_set1(dx[m]), v = ltxi_##S##_ld(o); \
            for (sum = zero, j = 0; j < 8; j++) sum = ltxi_##S##_wmadd(sum, s.pair[type == LTX_Q6_K ? j : j / 2], ltxi_##S##_wset(off[(size_t)j * stride])); \
            if (type == LTX_Q6_K) i = ltxi_##S##_wsub(i, ltxi_##S##_wsar(sum, 3)); /* 32 / 256 */ \
            v = ltxi_##S##_fma(ltxi_##S##_cvt(i), ltxi_##S##_mul(s.d, k), v); \
            if (type != LTX_Q6_K) v = ltxi_##S##_fma(ltxi_##S##_cvt(ltxi_##S##_wsub(zero, sum)), ltxi_##S##_mul(s.dmin, k), v); \
            ltxi_##S##_st(o, v); \
        } \
    } \
    ltxi_##D##_end(); \
}
#define LTXI_TILES(S, D, F) /* lanes, unit, set for few rows */ \
LTXI_SUPER_SUMS(S, D) \
LTXI_TILE_BLOCK(S, D, F, q8_0, LTX_Q8_0, isum8) LTXI_TILE_BLOCK(S, D, F, q4_0, LTX_Q4_0, isum4) LTXI_TILE_BLOCK(S, D, F, q8_x, LTX_Q8_X, isum8) LTXI_TILE_BLOCK(S, D, F, q4_x, LTX_Q4_X, isum4) \
LTXI_TILE_ROW(S, D, F, r8, LTX_R8, isum8, r8) LTXI_TILE_ROW(S, D, F, r4, LTX_R4, isum4, r4) \
LTXI_TILE_SUPER(S, D, F, q4_k, LTX_Q4_K, LTXI_Q4K_BYTES) LTXI_TILE_SUPER(S, D, F, q5_k, LTX_Q5_K, LTXI_Q5K_BYTES) LTXI_TILE_SUPER(S, D, F, q6_k, LTX_Q6_K, LTXI_Q6K_BYTES)
#define LTXI_LOAD_r8(S) ltxi_##S##_quads(w + (size_t)b * 512, t); ltxi_##S##_quads(w + (size_t)b * 512 + 256, t + 4); ltxi_##S##_prep(t, u); d = ltxi_##S##_set1(0.0f)
#define LTXI_LOAD_r4(S) ltxi_##S##_quads(w + (size_t)b * 256, u); ltxi_##S##_split(u, t); d = ltxi_##S##_set1(0.0f)

#ifdef LTXI_X86
/* ---- operations of quantized tiles on AVX2: sixteen lanes are a pair of eight. Everything is written out: gcc -O2 unrolls few loops, and arrays that are
   indexed by a loop live on the stack. ---- */
typedef struct ltxi_avx2_w { __m256i a, b; } ltxi_avx2_w;
#define LTXI_AVX2W(name, args, ea, eb) LTXI_I_avx2 ltxi_avx2_w ltxi_avx2_##name args { ltxi_avx2_w r; r.a = ea; r.b = eb; return r; }
LTXI_I_avx2 ltxi_avx2_w ltxi_avx2_wld(const void *p) { ltxi_avx2_w r; r.a = LTXI_M256(p); r.b = LTXI_M256((const uint8_t *)p + 32); return r; }
LTXI_I_avx2 void ltxi_avx2_wst(void *p, ltxi_avx2_w x) { _mm256_storeu_si256((__m256i *)p, x.a); _mm256_storeu_si256((__m256i *)p + 1, x.b); }
LTXI_AVX2W(wset, (int32_t x), _mm256_set1_epi32(x), _mm256_set1_epi32(x))
LTXI_AVX2W(bset, (int32_t x), _mm256_set1_epi8((char)x), _mm256_set1_epi8((char)x))
LTXI_AVX2W(wbyte, (const uint8_t *p), _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)), _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p + 8))))
LTXI_AVX2W(wadd, (ltxi_avx2_w x, ltxi_avx2_w y), _mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b))
LTXI_AVX2W(wsub, (ltxi_avx2_w x, ltxi_avx2_w y), _mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b))
LTXI_AVX2W(wmul, (ltxi_avx2_w x, ltxi_avx2_w y), _mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b))
LTXI_AVX2W(wand, (ltxi_avx2_w x, ltxi_avx2_w y), _mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b))
LTXI_AVX2W(wshl, (ltxi_avx2_w x, int32_t n), _mm256_sllv_epi32(x.a, _mm256_set1_epi32(n)), _mm256_sllv_epi32(x.b, _mm256_set1_epi32(n)))
LTXI_AVX2W(wshr, (ltxi_avx2_w x, int32_t n), _mm256_srlv_epi32(x.a, _mm256_set1_epi32(n)), _mm256_srlv_epi32(x.b, _mm256_set1_epi32(n)))
LTXI_AVX2W(wsar, (ltxi_avx2_w x, int32_t n), _mm256_srav_epi32(x.a, _mm256_set1_epi32(n)), _mm256_srav_epi32(x.b, _mm256_set1_epi32(n)))
LTXI_AVX2W(wmadd, (ltxi_avx2_w c, ltxi_avx2_w x, ltxi_avx2_w y), _mm256_add_epi32(c.a, _mm256_madd_epi16(x.a, y.a)), _mm256_add_epi32(c.b, _mm256_madd_epi16(x.b, y.b)))
LTXI_AVX2W(wlow, (ltxi_avx2_w x, ltxi_avx2_w y), _mm256_unpacklo_epi32(x.a, y.a), _mm256_unpacklo_epi32(x.b, y.b))
LTXI_AVX2W(whigh, (ltxi_avx2_w x, ltxi_avx2_w y), _mm256_unpackhi_epi32(x.a, y.a), _mm256_unpackhi_epi32(x.b, y.b))
LTXI_AVX2W(join, (__m256i x, __m256i y), x, y)
LTXI_AVX2(cvt, (ltxi_avx2_w x), _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b))
LTXI_I_avx2 __m256 ltxi_avx2_half8(__m256i x) /* of the low halves of the lanes */
{
    __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(65535));
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
}
LTXI_AVX2(half, (ltxi_avx2_w x), ltxi_avx2_half8(x.a), ltxi_avx2_half8(x.b))
/* halves of eight rows: the first two bytes of sixteen, or with `last` the last two, so that nothing past a row is read */
#define LTXI_PAIR(u, k) _mm_unpack##u##_epi16(LTXI_M128(w + (k) * ld), LTXI_M128(w + ((k) + 1) * ld))
LTXI_I_avx2 __m256 ltxi_avx2_halves8(const uint8_t *w, size_t ld, int last)
{
    if (last) return _mm256_cvtph_ps(_mm_unpackhi_epi64(_mm_unpackhi_epi32(LTXI_PAIR(hi, 0), LTXI_PAIR(hi, 2)), _mm_unpackhi_epi32(LTXI_PAIR(hi, 4), LTXI_PAIR(hi, 6))));
    return _mm256_cvtph_ps(_mm_unpacklo_epi64(_mm_unpacklo_epi32(LTXI_PAIR(lo, 0), LTXI_PAIR(lo, 2)), _mm_unpacklo_epi32(LTXI_PAIR(lo, 4), LTXI_PAIR(lo, 6))));
}
#undef LTXI_PAIR
LTXI_AVX2(halves, (const uint8_t *w, size_t ld, int last), ltxi_avx2_halves8(w, ld, last), ltxi_avx2_halves8(w + 8 * ld, ld, last))
LTXI_I_avx2 void ltxi_avx2_exchange(__m256i a0, __m256i a1, __m256i a2, __m256i a3, __m256i *t) /* 4 x 4 words inside each 128 bits */
{
    __m256i b0 = _mm256_unpacklo_epi32(a0, a1), b1 = _mm256_unpackhi_epi32(a0, a1), b2 = _mm256_unpacklo_epi32(a2, a3), b3 = _mm256_unpackhi_epi32(a2, a3);
    t[0] = _mm256_unpacklo_epi64(b0, b2); t[1] = _mm256_unpackhi_epi64(b0, b2); t[2] = _mm256_unpacklo_epi64(b1, b3); t[3] = _mm256_unpackhi_epi64(b1, b3);
}
LTXI_I_avx2 void ltxi_avx2_turn8(const uint8_t *w, size_t ld, __m256i *t)
{
    __m256i a[4], b[4];
    int32_t i;
    ltxi_avx2_exchange(LTXI_M256(w), LTXI_M256(w + ld), LTXI_M256(w + 2 * ld), LTXI_M256(w + 3 * ld), a);
    ltxi_avx2_exchange(LTXI_M256(w + 4 * ld), LTXI_M256(w + 5 * ld), LTXI_M256(w + 6 * ld), LTXI_M256(w + 7 * ld), b);
    LTXI_UNROLL for (i = 0; i < 4; i++) { t[i] = _mm256_permute2x128_si256(a[i], b[i], 0x20); t[4 + i] = _mm256_permute2x128_si256(a[i], b[i], 0x31); }
}
LTXI_I_avx2 void ltxi_avx2_rows32(const uint8_t *w, size_t ld, ltxi_avx2_w *t)
{
    __m256i a[8], b[8];
    int32_t i;
    ltxi_avx2_turn8(w, ld, a);
    ltxi_avx2_turn8(w + 8 * ld, ld, b);
    LTXI_UNROLL for (i = 0; i < 8; i++) { t[i].a = a[i]; t[i].b = b[i]; }
}
LTXI_I_avx2 __m256i ltxi_avx2_two(const uint8_t *w, size_t ld) { return _mm256_inserti128_si256(_mm256_castsi128_si256(LTXI_M128(w)), LTXI_M128(w + 4 * ld), 1); } /* rows 0 and 4 */
LTXI_I_avx2 void ltxi_avx2_rows16(const uint8_t *w, size_t ld, ltxi_avx2_w *t)
{
    const uint8_t *v = w + 8 * ld;
    __m256i a[4], b[4];
    int32_t i;
    ltxi_avx2_exchange(ltxi_avx2_two(w, ld), ltxi_avx2_two(w + ld, ld), ltxi_avx2_two(w + 2 * ld, ld), ltxi_avx2_two(w + 3 * ld, ld), a);
    ltxi_avx2_exchange(ltxi_avx2_two(v, ld), ltxi_avx2_two(v + ld, ld), ltxi_avx2_two(v + 2 * ld, ld), ltxi_avx2_two(v + 3 * ld, ld), b);
    LTXI_UNROLL for (i = 0; i < 4; i++) { t[i].a = a[i]; t[i].b = b[i]; }
}
typedef int32_t __attribute__((may_alias, aligned(1))) ltxi_word; /* four or eight int8 activations, broadcast straight from memory */
typedef long long __attribute__((may_alias, aligned(1))) ltxi_eight;
#define LTXI_Q(k) _mm256_set1_epi32(((const ltxi_word *)(const void *)q)[k])
/* Products of pairs of bytes, u8 times s8, are added in 16 bits: |w| <= 128 twice 127 fits once, 63 twice, 15 eight times. Signed weights give their sign to
   the activations, so they need no offset. */
LTXI_I_avx2 void ltxi_avx2_prep(const ltxi_avx2_w *t, ltxi_avx2_w *u)
{
    int32_t i;
    LTXI_UNROLL for (i = 0; i < 8; i++) { u[i].a = _mm256_abs_epi8(t[i].a); u[i].b = _mm256_abs_epi8(t[i].b); }
}
LTXI_NO_UNIT(avx2)
#define LTXI_STEP(k, h) _mm256_madd_epi16(_mm256_maddubs_epi16(u[k].h, _mm256_sign_epi8(LTXI_Q(k), t[k].h)), one)
#define LTXI_HALF8(h) _mm256_add_epi32(_mm256_add_epi32(_mm256_add_epi32(LTXI_STEP(0, h), LTXI_STEP(1, h)), _mm256_add_epi32(LTXI_STEP(2, h), LTXI_STEP(3, h))), \
    _mm256_add_epi32(_mm256_add_epi32(LTXI_STEP(4, h), LTXI_STEP(5, h)), _mm256_add_epi32(LTXI_STEP(6, h), LTXI_STEP(7, h))))
LTXI_I_avx2 ltxi_avx2_w ltxi_avx2_isum8(const ltxi_avx2_dots *dots, int32_t m, const ltxi_avx2_w *t, const ltxi_avx2_w *u, const int8_t *q, const int32_t *off)
{
    __m256i one = _mm256_set1_epi16(1);
    ltxi_avx2_w r;
    (void)dots; (void)m; (void)off;
    r.a = LTXI_HALF8(a);
    r.b = LTXI_HALF8(b);
    return r;
}
#undef LTXI_STEP
#undef LTXI_HALF8
#define LTXI_STEP(k, h) _mm256_maddubs_epi16(t[k].h, LTXI_Q(k))
#define LTXI_HALF4(h) _mm256_add_epi16(_mm256_add_epi16(_mm256_add_epi16(LTXI_STEP(0, h), LTXI_STEP(1, h)), _mm256_add_epi16(LTXI_STEP(2, h), LTXI_STEP(3, h))), \
    _mm256_add_epi16(_mm256_add_epi16(LTXI_STEP(4, h), LTXI_STEP(5, h)), _mm256_add_epi16(LTXI_STEP(6, h), LTXI_STEP(7, h))))
#define LTXI_HALFR(h) _mm256_add_epi32(_mm256_madd_epi16(_mm256_add_epi16(LTXI_STEP(0, h), LTXI_STEP(1, h)), one), _mm256_madd_epi16(_mm256_add_epi16(LTXI_STEP(2, h), LTXI_STEP(3, h)), one))
LTXI_I_avx2 ltxi_avx2_w ltxi_avx2_isum4(const ltxi_avx2_dots *dots, int32_t m, const ltxi_avx2_w *t, const ltxi_avx2_w *u, const int8_t *q, const int32_t *off)
{
    __m256i one = _mm256_set1_epi16(1), o = _mm256_srai_epi32(_mm256_set1_epi32(*off), 4); /* -128 sum / 16 */
    ltxi_avx2_w r;
    (void)dots; (void)m; (void)u;
    r.a = _mm256_add_epi32(_mm256_madd_epi16(LTXI_HALF4(a), one), o);
    r.b = _mm256_add_epi32(_mm256_madd_epi16(LTXI_HALF4(b), one), o);
    return r;
}
LTXI_I_avx2 ltxi_avx2_w ltxi_avx2_raw(const ltxi_avx2_dots *dots, int32_t m, ltxi_avx2_w c, const ltxi_avx2_w *t, const int8_t *q)
{
    __m256i one = _mm256_set1_epi16(1);
    (void)dots; (void)m;
    c.a = _mm256_add_epi32(c.a, LTXI_HALFR(a));
    c.b = _mm256_add_epi32(c.b, LTXI_HALFR(b));
    return c;
}
#undef LTXI_STEP
#undef LTXI_HALF4
#undef LTXI_HALFR
#undef LTXI_Q
LTXI_I_avx2 ltxi_avx2_w ltxi_avx2_raw8(const ltxi_avx2_dots *dots, int32_t m, const ltxi_avx2_w *t, const int8_t *q)
{
    return ltxi_avx2_raw(dots, m, ltxi_avx2_raw(dots, m, ltxi_avx2_wset(0), t, q), t + 4, q + 16);
}

/* One row of activations: to turn the weights would cost more than it saves. Rows of weights meet the activations as they lie, and the
   partial sums of all sixteen rows are brought together at once. `pair` starts that: eight bytes of one row next to eight of the other, so
   that of four lanes two belong to a row. */
#define LTXI_AVX2_DP(c, u, s) _mm256_add_epi32(c, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)))
LTXI_I_avx2 __m256i ltxi_avx2_dp8(__m256i c, __m256i w, __m256i q) { return LTXI_AVX2_DP(c, _mm256_abs_epi8(w), _mm256_sign_epi8(q, w)); }
LTXI_I_avx2 __m256i ltxi_avx2_dp4(__m256i c, __m256i w, __m256i q) { return LTXI_AVX2_DP(c, w, q); }
LTXI_I_avx2 __m256i ltxi_avx2_fold(__m256i ab, __m256i cd) /* [a a b b] [c c d d] to [a b c d] in each half */
{
    __m256 x = _mm256_castsi256_ps(ab), y = _mm256_castsi256_ps(cd);
    return _mm256_add_epi32(_mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88)), _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd)));
}
LTXI_I_avx2 __m256i ltxi_avx2_pair_q8_0(const uint8_t *w, size_t ld, const __m256i *q)
{
    __m256i a = LTXI_M256(w), b = LTXI_M256(w + ld);
    return ltxi_avx2_dp8(ltxi_avx2_dp8(_mm256_setzero_si256(), _mm256_unpacklo_epi64(a, b), q[0]), _mm256_unpackhi_epi64(a, b), q[1]);
}
LTXI_I_avx2 __m256i ltxi_avx2_eight_q8_0(const uint8_t *w, size_t ld, const int8_t *act, int32_t off)
{
    (void)off;
    __m256i q[2], s = LTXI_M256(act), x, y;
    q[0] = _mm256_unpacklo_epi64(s, s); q[1] = _mm256_unpackhi_epi64(s, s);
    x = ltxi_avx2_fold(ltxi_avx2_pair_q8_0(w, ld, q), ltxi_avx2_pair_q8_0(w + 2 * ld, ld, q));
    y = ltxi_avx2_fold(ltxi_avx2_pair_q8_0(w + 4 * ld, ld, q), ltxi_avx2_pair_q8_0(w + 6 * ld, ld, q));
    return _mm256_add_epi32(_mm256_permute2x128_si256(x, y, 0x20), _mm256_permute2x128_si256(x, y, 0x31));
}
LTXI_I_avx2 __m256i ltxi_avx2_pair_q4_0(const uint8_t *w, size_t ld, const __m256i *q) /* rows 0, 1 and in the upper half 4, 5 */
{
    __m256i low = _mm256_set1_epi8(15), a = ltxi_avx2_two(w, ld), b = ltxi_avx2_two(w + ld, ld), l = _mm256_unpacklo_epi64(a, b), h = _mm256_unpackhi_epi64(a, b), s;
    s = ltxi_avx2_dp4(_mm256_setzero_si256(), _mm256_and_si256(l, low), q[0]);
    s = ltxi_avx2_dp4(s, _mm256_and_si256(h, low), q[1]);
    s = ltxi_avx2_dp4(s, _mm256_and_si256(_mm256_srli_epi16(l, 4), low), q[2]);
    return ltxi_avx2_dp4(s, _mm256_and_si256(_mm256_srli_epi16(h, 4), low), q[3]);
}
LTXI_I_avx2 __m256i ltxi_avx2_eight_q4_0(const uint8_t *w, size_t ld, const int8_t *act, int32_t off)
{
    const ltxi_eight *e = (const ltxi_eight *)(const void *)act;
    __m256i q[4], s;
    q[0] = _mm256_set1_epi64x(e[0]); q[1] = _mm256_set1_epi64x(e[1]); q[2] = _mm256_set1_epi64x(e[2]); q[3] = _mm256_set1_epi64x(e[3]);
    s = ltxi_avx2_fold(ltxi_avx2_pair_q4_0(w, ld, q), ltxi_avx2_pair_q4_0(w + 2 * ld, ld, q));
    return _mm256_add_epi32(s, _mm256_srai_epi32(_mm256_set1_epi32(off), 4));
}
LTXI_AVX2W(all_q8_0, (const uint8_t *w, size_t ld, const int8_t *q, int32_t off), ltxi_avx2_eight_q8_0(w, ld, q, off), ltxi_avx2_eight_q8_0(w + 8 * ld, ld, q, off))
LTXI_AVX2W(all_q4_0, (const uint8_t *w, size_t ld, const int8_t *q, int32_t off), ltxi_avx2_eight_q4_0(w, ld, q, off), ltxi_avx2_eight_q4_0(w + 8 * ld, ld, q, off))
LTXI_ONE(avx2, avx2)
LTXI_NIBBLES(avx2)
LTXI_TILE_SUPERS(avx2)

/* One row of activations with K formats. Here the scale of a sub-block meets sums of two products, in 16 bits, before lanes are added up; so lanes are brought together
   once per super-block. */
LTXI_I_avx2 __m256i ltxi_avx2_eight(const __m256i *v) /* sums of the lanes of eight vectors */
{
    __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1])), b = _mm256_add_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
    __m256i c = _mm256_add_epi32(_mm256_unpacklo_epi32(v[4], v[5]), _mm256_unpackhi_epi32(v[4], v[5])), d = _mm256_add_epi32(_mm256_unpacklo_epi32(v[6], v[7]), _mm256_unpackhi_epi32(v[6], v[7]));
    a = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    c = _mm256_add_epi32(_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, c, 0x20), _mm256_permute2x128_si256(a, c, 0x31));
}
#define LTXI_LONE(S) \
LTXI_I_##S int ltxi_##S##_lone(int32_t type, const uint8_t *w, size_t ld, const ltxi_acts *x, int32_t row, int32_t b, const ltxi_##S##_super *s, int32_t *isum) \
{ \
    int32_t bytes = ltxi_super_bytes(type), r, line; \
    const uint8_t *p = w + (size_t)b * (size_t)bytes; \
    uint8_t scales[8 * LTXI_LANES]; /* eight for rows 0, 1, 4, 5, 8, ..., then those for rows 2, 3, 6, ... */ \
    ltxi_##S##_raw_acts q; \
    __m256i v[LTXI_LANES]; \
    ltxi_##S##_line_up(type, x, row, b * 8, &q); \
    if (type != LTX_Q6_K) { \
        ltxi_##S##_wst(scales, ltxi_##S##_wlow(s->scales[0], s->scales[1])); \
        ltxi_##S##_wst(scales + 64, ltxi_##S##_whigh(s->scales[0], s->scales[1])); \
    } \
    for (r = 0; r < LTXI_LANES; r++, p += ld) { \
        v[r] = ltxi_##S##_row_sums(type, p, type == LTX_Q6_K ? p + 192 : scales + (r & 2) * 32 + (r >> 2) * 16 + (r & 1) * 8, &q); \
        if (r & 1) LTXI_FETCH(w, ld, b * 8 + r / 2, bytes / 8); \
        LTXI_UNROLL for (line = 0; line < bytes; line += 64) LTXI_PREFETCH_NEAR(p, 2 * bytes + line); \
    } \
    ltxi_##S##_wst(isum, ltxi_##S##_join(ltxi_avx2_eight(v), ltxi_avx2_eight(v + 8))); \
    return 1; \
}
typedef struct ltxi_avx2_raw_acts { const int8_t *q; size_t step; } ltxi_avx2_raw_acts;
LTXI_I_avx2 void ltxi_avx2_line_up(int32_t type, const ltxi_acts *x, int32_t row, int32_t b, ltxi_avx2_raw_acts *q)
{
    (void)type;
    q->q = ltxi_acts_q(x, row, b);
    q->step = (size_t)x->rows * LTXI_DEEP;
}
LTXI_I_avx2 __m256i ltxi_avx2_numbers(int32_t type, const uint8_t *p, int32_t i) /* columns 32i.. of a super-block; up: by how much their bits above the fourth go to the left */
{
    int32_t q6 = type == LTX_Q6_K, up = q6 ? 4 - (i & 3) * 2 : 4 - i;
    __m256i v = LTXI_M256(q6 ? p + i / 4 * 64 + (i & 1) * 32 : p + (type == LTX_Q5_K ? 48 : 16) + i / 2 * 32), h;
    if (i & (q6 ? 2 : 1)) v = _mm256_srli_epi16(v, 4);
    v = _mm256_and_si256(v, _mm256_set1_epi8(15));
    if (type == LTX_Q4_K) return v;
    h = LTXI_M256(q6 ? p + 128 + i / 4 * 32 : p + 16);
    h = up < 0 ? _mm256_srli_epi16(h, -up) : _mm256_slli_epi16(h, up);
    return _mm256_or_si256(v, _mm256_and_si256(h, _mm256_set1_epi8(q6 ? 48 : 16)));
}
LTXI_I_avx2 __m256i ltxi_avx2_spread(int32_t type, __m256i k, int32_t i)
{
    if (type != LTX_Q6_K) return _mm256_shuffle_epi8(k, _mm256_set1_epi16((short)(0x0100 + i * 0x0202)));
    k = i < 4 ? _mm256_permute4x64_epi64(k, 0x44) : _mm256_permute4x64_epi64(k, 0xee);
    return _mm256_shuffle_epi8(k, _mm256_set_m128i(_mm_set1_epi16((short)(0x0302 + (i & 3) * 0x0404)), _mm_set1_epi16((short)(0x0100 + (i & 3) * 0x0404))));
}
LTXI_I_avx2 __m256i ltxi_avx2_row_sums(int32_t type, const uint8_t *p, const uint8_t *scales, const ltxi_avx2_raw_acts *q)
{
    __m256i c = _mm256_setzero_si256(), k, v;
    int32_t i;
    if (type == LTX_Q6_K) k = _mm256_cvtepi8_epi16(LTXI_M128(scales));
    else k = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)scales)));
    LTXI_UNROLL for (i = 0; i < 8; i++) {
        v = _mm256_maddubs_epi16(ltxi_avx2_numbers(type, p, i), LTXI_M256(q->q + (size_t)(i / 2) * q->step + i % 2 * 32));
        c = _mm256_add_epi32(c, _mm256_madd_epi16(v, ltxi_avx2_spread(type, k, i)));
    }
    return c;
}
LTXI_LONE(avx2)

/* ---- the same on AVX-512 with VNNI, which multiplies u8 by s8: signed bytes get 128 added, and `off` takes it off again ---- */
typedef __m512i ltxi_avx512_w;
#define LTXI_AVX512W(name, args, e) LTXI_I_avx512 __m512i ltxi_avx512_##name args { return e; }
LTXI_AVX512W(wld, (const void *p), _mm512_loadu_si512(p))
LTXI_I_avx512 void ltxi_avx512_wst(void *p, __m512i x) { _mm512_storeu_si512(p, x); }
LTXI_AVX512W(wset, (int32_t x), _mm512_set1_epi32(x))
LTXI_AVX512W(bset, (int32_t x), _mm512_set1_epi8((char)x))
LTXI_AVX512W(wbyte, (const uint8_t *p), _mm512_cvtepi8_epi32(LTXI_M128(p)))
LTXI_AVX512W(wadd, (__m512i x, __m512i y), _mm512_add_epi32(x, y))
LTXI_AVX512W(wsub, (__m512i x, __m512i y), _mm512_sub_epi32(x, y))
LTXI_AVX512W(wmul, (__m512i x, __m512i y), _mm512_mullo_epi32(x, y))
LTXI_AVX512W(wand, (__m512i x, __m512i y), _mm512_and_si512(x, y))
LTXI_AVX512W(wshl, (__m512i x, int32_t n), _mm512_sllv_epi32(x, _mm512_set1_epi32(n)))
LTXI_AVX512W(wshr, (__m512i x, int32_t n), _mm512_srlv_epi32(x, _mm512_set1_epi32(n)))
LTXI_AVX512W(wsar, (__m512i x, int32_t n), _mm512_srav_epi32(x, _mm512_set1_epi32(n)))
LTXI_AVX512W(wmadd, (__m512i c, __m512i x, __m512i y), _mm512_dpwssd_epi32(c, x, y))
LTXI_AVX512W(wlow, (__m512i x, __m512i y), _mm512_unpacklo_epi32(x, y))
LTXI_AVX512W(whigh, (__m512i x, __m512i y), _mm512_unpackhi_epi32(x, y))
LTXI_AVX512(cvt, (__m512i x), _mm512_cvtepi32_ps(x))
LTXI_AVX512(half, (__m512i x), _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)))
LTXI_AVX512(halves, (const uint8_t *w, size_t ld, int last), _mm512_insertf32x8(_mm512_castps256_ps512(ltxi_avx2_halves8(w, ld, last)), ltxi_avx2_halves8(w + 8 * ld, ld, last), 1))
LTXI_AVX512W(join, (__m256i a, __m256i b), _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1))
LTXI_I_avx512 void ltxi_avx512_exchange(__m512i a0, __m512i a1, __m512i a2, __m512i a3, __m512i *t)
{
    __m512i b0 = _mm512_unpacklo_epi32(a0, a1), b1 = _mm512_unpackhi_epi32(a0, a1), b2 = _mm512_unpacklo_epi32(a2, a3), b3 = _mm512_unpackhi_epi32(a2, a3);
    t[0] = _mm512_unpacklo_epi64(b0, b2); t[1] = _mm512_unpackhi_epi64(b0, b2); t[2] = _mm512_unpacklo_epi64(b1, b3); t[3] = _mm512_unpackhi_epi64(b1, b3);
}
LTXI_AVX512W(rows, (const uint8_t *w, size_t ld), ltxi_avx512_join(LTXI_M256(w), LTXI_M256(w + 4 * ld))) /* rows 0 and 4 */
LTXI_I_avx512 void ltxi_avx512_rows32(const uint8_t *w, size_t ld, __m512i *t)
{
    const uint8_t *v = w + 8 * ld;
    __m512i a[4], b[4];
    int32_t i;
    ltxi_avx512_exchange(ltxi_avx512_rows(w, ld), ltxi_avx512_rows(w + ld, ld), ltxi_avx512_rows(w + 2 * ld, ld), ltxi_avx512_rows(w + 3 * ld, ld), a);
    ltxi_avx512_exchange(ltxi_avx512_rows(v, ld), ltxi_avx512_rows(v + ld, ld), ltxi_avx512_rows(v + 2 * ld, ld), ltxi_avx512_rows(v + 3 * ld, ld), b);
    LTXI_UNROLL for (i = 0; i < 4; i++) { t[i] = _mm512_shuffle_i32x4(a[i], b[i], 0x88); t[4 + i] = _mm512_shuffle_i32x4(a[i], b[i], 0xdd); }
}
LTXI_AVX512W(four, (const uint8_t *w, size_t ld), ltxi_avx512_join(ltxi_avx2_two(w, ld), ltxi_avx2_two(w + 8 * ld, ld)))
LTXI_I_avx512 void ltxi_avx512_rows16(const uint8_t *w, size_t ld, __m512i *t)
{
    ltxi_avx512_exchange(ltxi_avx512_four(w, ld), ltxi_avx512_four(w + ld, ld), ltxi_avx512_four(w + 2 * ld, ld), ltxi_avx512_four(w + 3 * ld, ld), t);
}
LTXI_I_avx512 void ltxi_avx512_prep(__m512i *t, __m512i *u)
{
    int32_t i;
    (void)u;
    LTXI_UNROLL for (i = 0; i < 8; i++) t[i] = _mm512_xor_si512(t[i], _mm512_set1_epi8(-128));
}
LTXI_NO_UNIT(avx512)
#define LTXI_STEP(c, k) _mm512_dpbusd_epi32(c, t[k], _mm512_set1_epi32(((const ltxi_word *)(const void *)q)[k]))
LTXI_I_avx512 __m512i ltxi_avx512_raw(const ltxi_avx512_dots *dots, int32_t m, __m512i c, const __m512i *t, const int8_t *q)
{
    (void)dots; (void)m;
    c = LTXI_STEP(c, 0); c = LTXI_STEP(c, 1); c = LTXI_STEP(c, 2);
    return LTXI_STEP(c, 3);
}
#undef LTXI_STEP
LTXI_I_avx512 __m512i ltxi_avx512_isum8(const ltxi_avx512_dots *dots, int32_t m, const __m512i *t, const __m512i *u, const int8_t *q, const int32_t *off)
{
    (void)u;
    return ltxi_avx512_raw(dots, m, ltxi_avx512_raw(dots, m, _mm512_set1_epi32(*off), t, q), t + 4, q + 16);
}
LTXI_I_avx512 __m512i ltxi_avx512_isum4(const ltxi_avx512_dots *dots, int32_t m, const __m512i *t, const __m512i *u, const int8_t *q, const int32_t *off)
{
    (void)u;
    return ltxi_avx512_raw(dots, m, ltxi_avx512_raw(dots, m, _mm512_srai_epi32(_mm512_set1_epi32(*off), 4), t, q), t + 4, q + 16); /* -128 sum / 16 */
}
LTXI_I_avx512 __m512i ltxi_avx512_raw8(const ltxi_avx512_dots *dots, int32_t m, const __m512i *t, const int8_t *q)
{
    return ltxi_avx512_raw(dots, m, ltxi_avx512_raw(dots, m, _mm512_setzero_si512(), t, q), t + 4, q + 16);
}
/* One row of activations, see AVX2: here all sixteen rows at once. */
LTXI_AVX512W(fold, (__m512i ab, __m512i cd), _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(ab), _mm512_castsi512_ps(cd), 0x88)), \
    _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(ab), _mm512_castsi512_ps(cd), 0xdd))))
LTXI_I_avx512 __m512i ltxi_avx512_pair_q8_0(const uint8_t *w, size_t ld, const __m512i *q)
{
    __m512i a = ltxi_avx512_rows(w, ld), b = ltxi_avx512_rows(w + ld, ld), flip = _mm512_set1_epi8(-128);
    return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_xor_si512(_mm512_unpacklo_epi64(a, b), flip), q[0]), _mm512_xor_si512(_mm512_unpackhi_epi64(a, b), flip), q[1]);
}
LTXI_I_avx512 __m512i ltxi_avx512_all_q8_0(const uint8_t *w, size_t ld, const int8_t *act, int32_t off)
{
    __m512i q[2], s = _mm512_broadcast_i64x4(LTXI_M256(act)), x, y;
    q[0] = _mm512_unpacklo_epi64(s, s); q[1] = _mm512_unpackhi_epi64(s, s);
    x = ltxi_avx512_fold(ltxi_avx512_pair_q8_0(w, ld, q), ltxi_avx512_pair_q8_0(w + 2 * ld, ld, q));
    y = ltxi_avx512_fold(ltxi_avx512_pair_q8_0(w + 8 * ld, ld, q), ltxi_avx512_pair_q8_0(w + 10 * ld, ld, q));
    return _mm512_add_epi32(_mm512_add_epi32(_mm512_shuffle_i32x4(x, y, 0x88), _mm512_set1_epi32(off)), _mm512_shuffle_i32x4(x, y, 0xdd));
}
LTXI_I_avx512 __m512i ltxi_avx512_pair_q4_0(const uint8_t *w, size_t ld, const ltxi_eight *q)
{
    __m512i low = _mm512_set1_epi8(15), a = ltxi_avx512_four(w, ld), b = ltxi_avx512_four(w + ld, ld), l = _mm512_unpacklo_epi64(a, b), h = _mm512_unpackhi_epi64(a, b), s;
    s = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(l, low), _mm512_set1_epi64(q[0]));
    s = _mm512_dpbusd_epi32(s, _mm512_and_si512(h, low), _mm512_set1_epi64(q[1]));
    s = _mm512_dpbusd_epi32(s, _mm512_and_si512(_mm512_srli_epi16(l, 4), low), _mm512_set1_epi64(q[2]));
    return _mm512_dpbusd_epi32(s, _mm512_and_si512(_mm512_srli_epi16(h, 4), low), _mm512_set1_epi64(q[3]));
}
LTXI_I_avx512 __m512i ltxi_avx512_all_q4_0(const uint8_t *w, size_t ld, const int8_t *act, int32_t off)
{
    const ltxi_eight *q = (const ltxi_eight *)(const void *)act;
    return _mm512_add_epi32(ltxi_avx512_fold(ltxi_avx512_pair_q4_0(w, ld, q), ltxi_avx512_pair_q4_0(w + 2 * ld, ld, q)), _mm512_srai_epi32(_mm512_set1_epi32(off), 4));
}
LTXI_ONE(avx512, avx512)
LTXI_NIBBLES(avx512)
LTXI_TILE_SUPERS(avx512)
/* Q6_K goes through columns in their order. Q4_K and Q5_K take 128 bits from each of four sub-blocks, their first halves and then their second halves: products of both have
   one scale, so they are added before it meets them. Sub-blocks of low bits first, then those of high bits. */
typedef struct ltxi_avx512_raw_acts { __m512i q[4]; } ltxi_avx512_raw_acts;
LTXI_AVX512W(lanes, (int32_t a, int32_t b, int32_t c, int32_t d), ltxi_avx512_join(_mm256_set_m128i(_mm_set1_epi16((short)b), _mm_set1_epi16((short)a)), \
    _mm256_set_m128i(_mm_set1_epi16((short)d), _mm_set1_epi16((short)c))))
LTXI_AVX512W(even, (__m512i x, __m512i y), _mm512_shuffle_i32x4(x, y, 0x88))
LTXI_AVX512W(odd, (__m512i x, __m512i y), _mm512_shuffle_i32x4(x, y, 0xdd))
LTXI_I_avx512 void ltxi_avx512_line_up(int32_t type, const ltxi_acts *x, int32_t row, int32_t b, ltxi_avx512_raw_acts *q)
{
    __m512i v[4], t[4];
    int32_t i;
    LTXI_UNROLL for (i = 0; i < 4; i++) v[i] = q->q[i] = _mm512_loadu_si512(ltxi_acts_q(x, row, b + i * 2));
    if (type == LTX_Q6_K) return;
    t[0] = ltxi_avx512_even(v[0], v[1]); t[1] = ltxi_avx512_odd(v[0], v[1]); t[2] = ltxi_avx512_even(v[2], v[3]); t[3] = ltxi_avx512_odd(v[2], v[3]);
    LTXI_UNROLL for (i = 0; i < 2; i++) { q->q[i] = ltxi_avx512_even(t[i], t[2 + i]); q->q[2 + i] = ltxi_avx512_odd(t[i], t[2 + i]); }
}
/* v & 15, and above it the bits of h under mask, turned to the left by up modulo 32 (words, so the upper ones do not count): in 32 bits, but what stays under mask never leaves its byte */
LTXI_AVX512W(mix, (__m512i v, __m512i h, __m512i up, int32_t mask), _mm512_or_si512(_mm512_and_si512(v, _mm512_set1_epi8(15)), \
    _mm512_and_si512(_mm512_rolv_epi32(h, up), _mm512_set1_epi8((char)mask))))
LTXI_I_avx512 __m512i ltxi_avx512_row_min(int32_t type, const uint8_t *p, const uint8_t *scales, const ltxi_avx512_raw_acts *q)
{
    const uint8_t *low = p + (type == LTX_Q5_K ? 48 : 16);
    __m512i x = _mm512_loadu_si512(low), y = _mm512_loadu_si512(low + 64), v[2], t[2], c = _mm512_setzero_si512(), k = _mm512_set1_epi64(*(const ltxi_eight *)(const void *)scales);
    int32_t i, j;
    v[0] = ltxi_avx512_even(x, y); v[1] = ltxi_avx512_odd(x, y);
    LTXI_UNROLL for (i = 0; i < 2; i++) {
        LTXI_UNROLL for (j = 0; j < 2; j++) {
            x = i == 0 ? v[j] : _mm512_srli_epi16(v[j], 4);
            if (type == LTX_Q4_K) x = _mm512_and_si512(x, _mm512_set1_epi8(15));
            else x = ltxi_avx512_mix(x, _mm512_broadcast_i32x4(LTXI_M128(p + 16 + j * 16)), ltxi_avx512_lanes(4 - i, 2 - i, -i, -2 - i), 16);
            t[j] = _mm512_maddubs_epi16(x, q->q[i * 2 + j]);
        }
        c = _mm512_dpwssd_epi32(c, _mm512_add_epi16(t[0], t[1]), _mm512_shuffle_epi8(k, ltxi_avx512_lanes(i - 32768, i - 32766, i - 32764, i - 32762))); /* bytes i, 2 + i, ... as words: 0x80 above them makes zeros */
    }
    return c;
}
LTXI_I_avx512 __m512i ltxi_avx512_row_q6(const uint8_t *p, const uint8_t *scales, const ltxi_avx512_raw_acts *q)
{
    __m512i x, c = _mm512_setzero_si512(), k = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(LTXI_M128(scales)));
    int32_t i, up;
    LTXI_UNROLL for (i = 0; i < 4; i++) {
        x = _mm512_loadu_si512(p + i / 2 * 64);
        up = 4 - i % 2 * 4;
        x = ltxi_avx512_mix(i % 2 == 0 ? x : _mm512_srli_epi16(x, 4), _mm512_broadcast_i64x4(LTXI_M256(p + 128 + i / 2 * 32)), ltxi_avx512_lanes(up, up, up - 2, up - 2), 48);
        c = _mm512_dpwssd_epi32(c, _mm512_maddubs_epi16(x, q->q[i]), _mm512_permutexvar_epi16(ltxi_avx512_lanes(i * 4, i * 4 + 1, i * 4 + 2, i * 4 + 3), k));
    }
    return c;
}
LTXI_I_avx512 __m256i ltxi_avx512_row_sums(int32_t type, const uint8_t *p, const uint8_t *scales, const ltxi_avx512_raw_acts *q)
{
    __m512i c = type == LTX_Q6_K ? ltxi_avx512_row_q6(p, scales, q) : ltxi_avx512_row_min(type, p, scales, q);
    return _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
}
LTXI_LONE(avx512)

#ifdef LTXI_AMX
/* ---- AMX beside AVX-512: a tile register holds sixteen rows of 64 bytes. C[row][lane] += A[row][columns] B[columns / 4][lane][4], with A the activations as they
   lie and B the eight vectors of a block, so that B is made once for all rows. Tiles 0, 1 C, 2, 3 A, of 16 rows each; 4 C, 5 A of the rows that are left; 6 B. ---- */
#define LTXI_T_amx __attribute__((unused, target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))) static
#define LTXI_I_amx __attribute__((unused, always_inline, target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))) static __inline__
#define LTXI_BARRIER __asm__ volatile("" : : : "memory") /* gcc 12 does not know that tile loads read memory */
typedef struct ltxi_amx_dots { int32_t s[LTXI_TILE * LTXI_LANES]; } ltxi_amx_dots;
typedef struct ltxi_tile_config { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } ltxi_tile_config;
LTXI_I_amx void ltxi_amx_shape(ltxi_tile_config *t, int32_t i, int32_t rows, int32_t bytes) { t->rows[i] = (uint8_t)rows; t->bytes[i] = (uint16_t)bytes; }
LTXI_I_amx void ltxi_amx_begin(int32_t rows, int32_t count)
{
    ltxi_tile_config t;
    int32_t left = rows % 16 > 0 ? rows % 16 : 16;
    memset(&t, 0, sizeof t);
    t.palette = 1;
    ltxi_amx_shape(&t, 0, 16, 64); ltxi_amx_shape(&t, 1, 16, 64); ltxi_amx_shape(&t, 2, 16, 4 * count); ltxi_amx_shape(&t, 3, 16, 4 * count);
    ltxi_amx_shape(&t, 4, left, 64); ltxi_amx_shape(&t, 5, left, 4 * count); ltxi_amx_shape(&t, 6, count, 64);
    LTXI_BARRIER;
    _tile_loadconfig(&t);
}
LTXI_I_amx void ltxi_amx_end(void) { _tile_release(); }
LTXI_I_amx void ltxi_amx_multiply(ltxi_amx_dots *dots, const __m512i *t, int32_t count, const int8_t *q, int32_t rows)
{
    int32_t m, *s = dots->s;
    __m512i b[8];
    for (m = 0; m < count; m++) b[m] = t[m];
    LTXI_BARRIER;
    _tile_loadd(6, b, 64);
    for (m = 0; m + 32 <= rows; m += 32, q += 32 * LTXI_DEEP, s += 32 * LTXI_LANES) {
        _tile_zero(0); _tile_zero(1);
        _tile_loadd(2, q, LTXI_DEEP); _tile_dpbsud(0, 2, 6);
        _tile_loadd(3, q + 16 * LTXI_DEEP, LTXI_DEEP); _tile_dpbsud(1, 3, 6);
        _tile_stored(0, s, 64); _tile_stored(1, s + 16 * LTXI_LANES, 64);
    }
    if (m + 16 <= rows) {
        _tile_zero(0); _tile_loadd(2, q, LTXI_DEEP); _tile_dpbsud(0, 2, 6); _tile_stored(0, s, 64);
        m += 16; q += 16 * LTXI_DEEP; s += 16 * LTXI_LANES;
    }
    if (m < rows) { _tile_zero(4); _tile_loadd(5, q, LTXI_DEEP); _tile_dpbsud(4, 5, 6); _tile_stored(4, s, 64); }
    LTXI_BARRIER;
}
LTXI_I_amx __m512i ltxi_amx_raw8(const ltxi_amx_dots *dots, int32_t m, const __m512i *t, const int8_t *q) { (void)t; (void)q; return _mm512_loadu_si512(dots->s + m * LTXI_LANES); }
LTXI_I_amx __m512i ltxi_amx_raw(const ltxi_amx_dots *dots, int32_t m, __m512i c, const __m512i *t, const int8_t *q) { (void)c; return ltxi_amx_raw8(dots, m, t, q); }
LTXI_I_amx __m512i ltxi_amx_isum8(const ltxi_amx_dots *dots, int32_t m, const __m512i *t, const __m512i *u, const int8_t *q, const int32_t *off)
{
    (void)u;
    return _mm512_add_epi32(ltxi_amx_raw8(dots, m, t, q), _mm512_set1_epi32(*off));
}
LTXI_I_amx __m512i ltxi_amx_isum4(const ltxi_amx_dots *dots, int32_t m, const __m512i *t, const __m512i *u, const int8_t *q, const int32_t *off)
{
    (void)u;
    return _mm512_add_epi32(ltxi_amx_raw8(dots, m, t, q), _mm512_srai_epi32(_mm512_set1_epi32(*off), 4));
}
LTXI_NO_LONE(amx, avx512)
enum { LTXI_AMX_FEW = 4 }; /* rows (times planes) below which filling tiles does not pay */
LTXI_FEW_ELSEWHERE(amx, LTXI_AMX_FEW)
/* R8 and R4: signed bytes, sums over all columns stay in the tiles. Tiles 0..3 C, 4 A, 5 B of 64 columns; 6 A, 7 B of the last 32 if they are odd. */
LTXI_I_amx void ltxi_amx_widths(int32_t rows)
{
    ltxi_tile_config t;
    int32_t i;
    memset(&t, 0, sizeof t);
    t.palette = 1;
    for (i = 0; i < 4; i++) ltxi_amx_shape(&t, i, rows, 64);
    ltxi_amx_shape(&t, 4, rows, 64); ltxi_amx_shape(&t, 5, 16, 64); ltxi_amx_shape(&t, 6, rows, 32); ltxi_amx_shape(&t, 7, 8, 64);
    LTXI_BARRIER;
    _tile_loadconfig(&t);
}
/* The signed bytes of 64 columns (or the last 32): R8 in place, R4 as g (q - 8), by 16-bit products of its even and odd bytes. */
LTXI_I_amx const uint8_t *ltxi_amx_bytes(int32_t type, const uint8_t *w, int32_t cols, int32_t c, uint8_t *temp)
{
    const uint8_t *g = w + ltxi_extra(type, cols);
    __m512i low = _mm512_set1_epi16(255), eight = _mm512_set1_epi8(8), u[4], t[8], s, even, odd;
    int32_t b, i;
    if (type == LTX_R8) return w + (size_t)c * 1024;
    for (b = 2 * c; b < ltxi_min(2 * c + 2, cols / LTXI_BLOCK); b++, temp += 512) {
        ltxi_avx512_quads(w + (size_t)b * 256, u);
        ltxi_avx512_split(u, t);
        s = ltxi_avx512_steps(g + b * LTXI_GROUP);
        s = _mm512_or_si512(_mm512_and_si512(s, _mm512_set1_epi32(65535)), _mm512_slli_epi32(s, 16));
        for (i = 0; i < 8; i++) {
            even = _mm512_sub_epi8(t[i], eight);
            odd = _mm512_mullo_epi16(_mm512_srai_epi16(even, 8), s);
            even = _mm512_mullo_epi16(even, s); /* its low byte is that of the even byte times s */
            _mm512_storeu_si512(temp + i * 64, _mm512_or_si512(_mm512_and_si512(even, low), _mm512_slli_epi16(odd, 8)));
        }
    }
    LTXI_BARRIER;
    return temp - (b - 2 * c) * 512;
}
#define LTXI_AMX_ROWS(a, c, b) \
    _tile_loadd(a, q, LTXI_DEEP); _tile_dpbssd(0, a, b); \
    if (groups > 1) { _tile_loadd(a, q + 16 * LTXI_DEEP, LTXI_DEEP); _tile_dpbssd(1, a, b); } \
    if (groups > 2) { _tile_loadd(a, q + 32 * LTXI_DEEP, LTXI_DEEP); _tile_dpbssd(2, a, b); } \
    if (groups > 3) { _tile_loadd(a, q + 48 * LTXI_DEEP, LTXI_DEEP); _tile_dpbssd(3, a, b); }
/* `groups` times sixteen rows, or one group of fewer */
LTXI_I_amx void ltxi_amx_columns(int32_t type, const uint8_t *w, const ltxi_acts *x, int32_t row, int32_t groups, int32_t cols, int32_t *out)
{
    uint8_t temp[1024];
    int32_t c;
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (c = 0; c < cols / LTXI_DEEP; c++) {
        const int8_t *q = ltxi_acts_q(x, row, 2 * c);
        _tile_loadd(5, ltxi_amx_bytes(type, w, cols, c, temp), 64);
        LTXI_AMX_ROWS(4, c, 5)
    }
    if (cols % LTXI_DEEP != 0) {
        const int8_t *q = ltxi_acts_q(x, row, 2 * c);
        _tile_loadd(7, ltxi_amx_bytes(type, w, cols, c, temp), 64);
        LTXI_AMX_ROWS(6, c, 7)
    }
    _tile_stored(0, out, 64);
    if (groups > 1) _tile_stored(1, out + 16 * LTXI_LANES, 64);
    if (groups > 2) _tile_stored(2, out + 32 * LTXI_LANES, 64);
    if (groups > 3) _tile_stored(3, out + 48 * LTXI_LANES, 64);
}
#undef LTXI_AMX_ROWS
LTXI_I_amx int ltxi_amx_deep(int32_t type, const uint8_t *w, const ltxi_acts *x, int32_t row, int32_t n, int32_t cols, float *out)
{
    int32_t sums[LTXI_TILE * LTXI_LANES];
    if (n >= 16) { ltxi_amx_widths(16); ltxi_amx_columns(type, w, x, row, n / 16, cols, sums); }
    if (n % 16 > 0) { ltxi_amx_widths(n % 16); ltxi_amx_columns(type, w, x, row + n / 16 * 16, 1, cols, sums + n / 16 * 16 * LTXI_LANES); }
    ltxi_amx_end();
    LTXI_BARRIER;
    memcpy(out, sums, (size_t)n * LTXI_LANES * 4);
    return 1;
}
#endif /* LTXI_AMX */
#endif /* LTXI_X86 */

#if defined(LTXI_NEON) || defined(LTXI_SIMD128)
/* ---- operations of quantized tiles on four registers of 128 bits, as in >>vector ---- */
#define LTXI_FOURS_OF_TILES(S) \
typedef struct ltxi_##S##_w { ltxi_##S##_w4 a, b, c, d; } ltxi_##S##_w; \
LTXI_FOUR(S, w, wld, (const void *p), ltxi_##S##_wld4(p), ltxi_##S##_wld4((const uint8_t *)p + 16), ltxi_##S##_wld4((const uint8_t *)p + 32), ltxi_##S##_wld4((const uint8_t *)p + 48)) \
LTXI_I_##S void ltxi_##S##_wst(void *p, ltxi_##S##_w x) \
{ \
    uint8_t *b = (uint8_t *)p; \
    ltxi_##S##_wst4(b, x.a); ltxi_##S##_wst4(b + 16, x.b); ltxi_##S##_wst4(b + 32, x.c); ltxi_##S##_wst4(b + 48, x.d); \
} \
LTXI_FOUR_AT(S, w, wbyte, uint8_t, 4) LTXI_FOUR_OF(S, w, wset, int32_t) LTXI_FOUR_OF(S, w, bset, int32_t) \
LTXI_FOUR_2(S, w, wadd) LTXI_FOUR_2(S, w, wsub) LTXI_FOUR_2(S, w, wmul) LTXI_FOUR_2(S, w, wand) LTXI_FOUR_3(S, w, wmadd) \
LTXI_FOUR_N(S, w, wshl) LTXI_FOUR_N(S, w, wshr) LTXI_FOUR_N(S, w, wsar) LTXI_FOUR_1(S, v, cvt, w) LTXI_FOUR_1(S, v, half, w) \
LTXI_FOUR(S, v, halves4, (const uint8_t *w, size_t ld), ltxi_##S##_four(w, ld), ltxi_##S##_four(w + 4 * ld, ld), ltxi_##S##_four(w + 8 * ld, ld), ltxi_##S##_four(w + 12 * ld, ld)) \
LTXI_I_##S ltxi_##S##_v ltxi_##S##_halves(const uint8_t *w, size_t ld, int last) { return ltxi_##S##_halves4(last ? w + 14 : w, ld); } \
LTXI_I_##S void ltxi_##S##_rows16(const uint8_t *w, size_t ld, ltxi_##S##_w *t) \
{ \
    ltxi_##S##_w4 a[4], b[4], c[4], d[4]; \
    ltxi_##S##_turn(w, ld, a); ltxi_##S##_turn(w + 4 * ld, ld, b); ltxi_##S##_turn(w + 8 * ld, ld, c); ltxi_##S##_turn(w + 12 * ld, ld, d); \
    t[0].a = a[0]; t[1].a = a[1]; t[2].a = a[2]; t[3].a = a[3]; t[0].b = b[0]; t[1].b = b[1]; t[2].b = b[2]; t[3].b = b[3]; \
    t[0].c = c[0]; t[1].c = c[1]; t[2].c = c[2]; t[3].c = c[3]; t[0].d = d[0]; t[1].d = d[1]; t[2].d = d[2]; t[3].d = d[3]; \
} \
LTXI_I_##S void ltxi_##S##_rows32(const uint8_t *w, size_t ld, ltxi_##S##_w *t) { ltxi_##S##_rows16(w, ld, t); ltxi_##S##_rows16(w + 16, ld, t + 4); } \
LTXI_I_##S void ltxi_##S##_prep(const ltxi_##S##_w *t, ltxi_##S##_w *u) { (void)t; (void)u; } /* bytes are signed here */
/* A set D of dot products whose `multiply` has all sums of a block, for rows of activations together. */
#define LTXI_DOTS(S, D) \
typedef struct ltxi_##D##_dots { int32_t s[LTXI_TILE * LTXI_LANES]; } ltxi_##D##_dots; \
LTXI_NO_STATE(D) \
LTXI_I_##D ltxi_##S##_w ltxi_##D##_raw8(const ltxi_##D##_dots *dots, int32_t m, const ltxi_##S##_w *t, const int8_t *q) { (void)t; (void)q; return ltxi_##S##_wld(dots->s + m * LTXI_LANES); } \
LTXI_I_##D ltxi_##S##_w ltxi_##D##_raw(const ltxi_##D##_dots *dots, int32_t m, ltxi_##S##_w c, const ltxi_##S##_w *t, const int8_t *q) { (void)c; return ltxi_##D##_raw8(dots, m, t, q); } \
LTXI_I_##D ltxi_##S##_w ltxi_##D##_isum8(const ltxi_##D##_dots *dots, int32_t m, const ltxi_##S##_w *t, const ltxi_##S##_w *u, const int8_t *q, const int32_t *off) \
{ \
    (void)u; (void)off; \
    return ltxi_##D##_raw8(dots, m, t, q); \
} \
LTXI_I_##D ltxi_##S##_w ltxi_##D##_isum4(const ltxi_##D##_dots *dots, int32_t m, const ltxi_##S##_w *t, const ltxi_##S##_w *u, const int8_t *q, const int32_t *off) \
{ \
    (void)u; \
    return ltxi_##S##_wadd(ltxi_##D##_raw8(dots, m, t, q), ltxi_##S##_wset(*off / 16)); /* -128 sum / 16 */ \
}
/* One row of activations: rows of weights meet it as they lie, and four at a time are brought together. D: dot8, dot4 multiply 32 signed bytes, of weights of
   8 bits or 0..15; S: join the sums of four registers to one. */
#define LTXI_ONE_OF_FOURS(S, D) \
LTXI_I_##D ltxi_##S##_w4 ltxi_##D##_row_q8_0(const uint8_t *w, ltxi_##S##_w4 q0, ltxi_##S##_w4 q1) { return ltxi_##D##_dot8(ltxi_##S##_wld4(w), ltxi_##S##_wld4(w + 16), q0, q1); } \
LTXI_I_##D ltxi_##S##_w4 ltxi_##D##_row_q4_0(const uint8_t *w, ltxi_##S##_w4 q0, ltxi_##S##_w4 q1) \
{ \
    ltxi_##S##_w4 x = ltxi_##S##_wld4(w); \
    return ltxi_##D##_dot4(ltxi_##S##_wand4(x, ltxi_##S##_bset4(15)), ltxi_##S##_bshr4(x), q0, q1); \
} \
LTXI_ALL(S, D, q8_0, 0) LTXI_ALL(S, D, q4_0, 1) \
LTXI_ONE(S, D)
#define LTXI_ALL(S, D, name, shifted) \
LTXI_I_##D ltxi_##S##_w4 ltxi_##D##_four_##name(const uint8_t *w, size_t ld, ltxi_##S##_w4 q0, ltxi_##S##_w4 q1) \
{ \
    return ltxi_##S##_join(ltxi_##D##_row_##name(w, q0, q1), ltxi_##D##_row_##name(w + ld, q0, q1), ltxi_##D##_row_##name(w + 2 * ld, q0, q1), ltxi_##D##_row_##name(w + 3 * ld, q0, q1)); \
} \
LTXI_I_##D ltxi_##S##_w ltxi_##D##_all_##name(const uint8_t *w, size_t ld, const int8_t *q, int32_t off) \
{ \
    ltxi_##S##_w4 q0 = ltxi_##S##_wld4(q), q1 = ltxi_##S##_wld4(q + 16); \
    ltxi_##S##_w s; \
    s.a = ltxi_##D##_four_##name(w, ld, q0, q1); s.b = ltxi_##D##_four_##name(w + 4 * ld, ld, q0, q1); \
    s.c = ltxi_##D##_four_##name(w + 8 * ld, ld, q0, q1); s.d = ltxi_##D##_four_##name(w + 12 * ld, ld, q0, q1); \
    return shifted ? ltxi_##S##_wadd(s, ltxi_##S##_wset(off / 16)) : s; \
}
#endif

#ifdef LTXI_NEON
typedef int32x4_t ltxi_neon_w4;
#define LTXI_NEON4W(name, args, e) LTXI_I_neon int32x4_t ltxi_neon_##name##4 args { return e; }
#define LTXI_S8(x) vreinterpretq_s8_s32(x)
#define LTXI_S16(x) vreinterpretq_s16_s32(x)
LTXI_NEON4W(wld, (const void *p), vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)p)))
LTXI_I_neon void ltxi_neon_wst4(uint8_t *p, int32x4_t x) { vst1q_u8(p, vreinterpretq_u8_s32(x)); }
LTXI_NEON4W(wset, (int32_t x), vdupq_n_s32(x))
LTXI_NEON4W(bset, (int32_t x), vreinterpretq_s32_s8(vdupq_n_s8((int8_t)x)))
LTXI_NEON4W(wadd, (int32x4_t x, int32x4_t y), vaddq_s32(x, y))
LTXI_NEON4W(wsub, (int32x4_t x, int32x4_t y), vsubq_s32(x, y))
LTXI_NEON4W(wmul, (int32x4_t x, int32x4_t y), vmulq_s32(x, y))
LTXI_NEON4W(wand, (int32x4_t x, int32x4_t y), vandq_s32(x, y))
LTXI_NEON4W(wshl, (int32x4_t x, int32_t n), x << n)
LTXI_NEON4W(wshr, (int32x4_t x, int32_t n), (int32x4_t)((uint32x4_t)x >> (uint32_t)n))
LTXI_NEON4W(wsar, (int32x4_t x, int32_t n), x >> n)
LTXI_NEON4W(bshr, (int32x4_t x), vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(x), 4)))
LTXI_NEON4W(wmadd, (int32x4_t c, int32x4_t x, int32x4_t y), \
    vaddq_s32(c, vpaddq_s32(vmull_s16(vget_low_s16(LTXI_S16(x)), vget_low_s16(LTXI_S16(y))), vmull_high_s16(LTXI_S16(x), LTXI_S16(y)))))
LTXI_NEON4(cvt, (int32x4_t x), vcvtq_f32_s32(x))
LTXI_NEON4(half, (int32x4_t x), vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32(x))))
LTXI_I_neon float32x4_t ltxi_neon_four(const uint8_t *w, size_t ld) /* the halves at four rows */
{
    uint16_t h[4];
    memcpy(h, w, 2); memcpy(h + 1, w + ld, 2); memcpy(h + 2, w + 2 * ld, 2); memcpy(h + 3, w + 3 * ld, 2);
    return vcvt_f32_f16(vreinterpret_f16_u16(vset_lane_u16(h[3], vset_lane_u16(h[2], vset_lane_u16(h[1], vset_lane_u16(h[0], vdup_n_u16(0), 0), 1), 2), 3)));
}
LTXI_I_neon void ltxi_neon_turn(const uint8_t *w, size_t ld, int32x4_t *t) /* four rows of sixteen bytes, turned */
{
    int32x4_t a = ltxi_neon_wld4(w), b = ltxi_neon_wld4(w + ld), c = ltxi_neon_wld4(w + 2 * ld), d = ltxi_neon_wld4(w + 3 * ld);
    int64x2_t e = vreinterpretq_s64_s32(vtrn1q_s32(a, b)), f = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    int64x2_t g = vreinterpretq_s64_s32(vtrn1q_s32(c, d)), h = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
    t[0] = vreinterpretq_s32_s64(vtrn1q_s64(e, g)); t[1] = vreinterpretq_s32_s64(vtrn1q_s64(f, h));
    t[2] = vreinterpretq_s32_s64(vtrn2q_s64(e, g)); t[3] = vreinterpretq_s32_s64(vtrn2q_s64(f, h));
}
LTXI_I_neon int32x4_t ltxi_neon_join(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) { return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)); }
LTXI_FOURS_OF_TILES(neon)
LTXI_NIBBLES(neon)
LTXI_TILE_SUPERS(neon)

/* Without dot products: products are added in 16 bits, of |w| <= 128 with |x| <= 127 two, of 0..63 four, of 0..15 eight. */
LTXI_NO_UNIT(neon)
#define LTXI_MUL(w, q) vmull_s8(vget_low_s8(LTXI_S8(w)), vget_low_s8(q))
#define LTXI_MUL_HIGH(w, q) vmull_high_s8(LTXI_S8(w), q)
#define LTXI_MLA(s, w, q) vmlal_s8(s, vget_low_s8(LTXI_S8(w)), vget_low_s8(q))
#define LTXI_MLA_HIGH(s, w, q) vmlal_high_s8(s, LTXI_S8(w), q)
LTXI_I_neon void ltxi_neon_four_of(const int8_t *q, int8x16_t *r) /* columns 0..3, 4..7, ... of sixteen, each in all lanes */
{
    int32x4_t v = ltxi_neon_wld4(q);
    r[0] = LTXI_S8(vdupq_laneq_s32(v, 0)); r[1] = LTXI_S8(vdupq_laneq_s32(v, 1)); r[2] = LTXI_S8(vdupq_laneq_s32(v, 2)); r[3] = LTXI_S8(vdupq_laneq_s32(v, 3));
}
#define LTXI_LOW(k, h) LTXI_MLA(LTXI_MUL(t[k].h, r[k]), t[k + 1].h, r[k + 1])
#define LTXI_HIGH(k, h) LTXI_MLA_HIGH(LTXI_MUL_HIGH(t[k].h, r[k]), t[k + 1].h, r[k + 1])
#define LTXI_STEP(k, h) low = vpadalq_s16(low, LTXI_LOW(k, h)); high = vpadalq_s16(high, LTXI_HIGH(k, h));
#define LTXI_SUM(h) low = vpaddlq_s16(LTXI_LOW(0, h)); high = vpaddlq_s16(LTXI_HIGH(0, h)); LTXI_STEP(2, h) LTXI_STEP(4, h) LTXI_STEP(6, h) s.h = vpaddq_s32(low, high)
LTXI_I_neon ltxi_neon_w ltxi_neon_isum8(const ltxi_neon_dots *dots, int32_t m, const ltxi_neon_w *t, const ltxi_neon_w *u, const int8_t *q, const int32_t *off)
{
    int8x16_t r[8];
    int32x4_t low, high;
    ltxi_neon_w s;
    (void)dots; (void)m; (void)u; (void)off;
    ltxi_neon_four_of(q, r); ltxi_neon_four_of(q + 16, r + 4);
    LTXI_SUM(a); LTXI_SUM(b); LTXI_SUM(c); LTXI_SUM(d);
    return s;
}
#undef LTXI_LOW
#undef LTXI_HIGH
#undef LTXI_STEP
#undef LTXI_SUM
#define LTXI_STEP(k, h) low = LTXI_MLA(low, t[k].h, r[k]); high = LTXI_MLA_HIGH(high, t[k].h, r[k]);
#define LTXI_SUM(h) low = LTXI_MUL(t[0].h, r[0]); high = LTXI_MUL_HIGH(t[0].h, r[0]); LTXI_STEP(1, h) LTXI_STEP(2, h) LTXI_STEP(3, h)
#define LTXI_SUM4(h) LTXI_SUM(h) LTXI_STEP(4, h) LTXI_STEP(5, h) LTXI_STEP(6, h) LTXI_STEP(7, h) s.h = vpadalq_s16(o, vpaddq_s16(low, high))
#define LTXI_SUMR(h) LTXI_SUM(h) c.h = vaddq_s32(c.h, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
LTXI_I_neon ltxi_neon_w ltxi_neon_isum4(const ltxi_neon_dots *dots, int32_t m, const ltxi_neon_w *t, const ltxi_neon_w *u, const int8_t *q, const int32_t *off)
{
    int8x16_t r[8];
    int16x8_t low, high;
    int32x4_t o = vdupq_n_s32(*off / 16); /* -128 sum / 16 */
    ltxi_neon_w s;
    (void)dots; (void)m; (void)u;
    ltxi_neon_four_of(q, r); ltxi_neon_four_of(q + 16, r + 4);
    LTXI_SUM4(a); LTXI_SUM4(b); LTXI_SUM4(c); LTXI_SUM4(d);
    return s;
}
LTXI_I_neon ltxi_neon_w ltxi_neon_raw(const ltxi_neon_dots *dots, int32_t m, ltxi_neon_w c, const ltxi_neon_w *t, const int8_t *q)
{
    int8x16_t r[4];
    int16x8_t low, high;
    (void)dots; (void)m;
    ltxi_neon_four_of(q, r);
    LTXI_SUMR(a); LTXI_SUMR(b); LTXI_SUMR(c); LTXI_SUMR(d);
    return c;
}
LTXI_I_neon ltxi_neon_w ltxi_neon_raw8(const ltxi_neon_dots *dots, int32_t m, const ltxi_neon_w *t, const int8_t *q)
{
    return ltxi_neon_raw(dots, m, ltxi_neon_raw(dots, m, ltxi_neon_wset(0), t, q), t + 4, q + 16);
}
#undef LTXI_STEP
#undef LTXI_SUM
#undef LTXI_SUM4
#undef LTXI_SUMR
LTXI_I_neon int32x4_t ltxi_neon_dot8(int32x4_t w0, int32x4_t w1, int32x4_t q0, int32x4_t q1)
{
    return vpadalq_s16(vpaddlq_s16(LTXI_MLA_HIGH(LTXI_MUL(w0, LTXI_S8(q0)), w0, LTXI_S8(q0))), LTXI_MLA_HIGH(LTXI_MUL(w1, LTXI_S8(q1)), w1, LTXI_S8(q1)));
}
LTXI_I_neon int32x4_t ltxi_neon_dot4(int32x4_t w0, int32x4_t w1, int32x4_t q0, int32x4_t q1)
{
    int16x8_t s = LTXI_MLA_HIGH(LTXI_MUL(w0, LTXI_S8(q0)), w0, LTXI_S8(q0));
    return vpaddlq_s16(LTXI_MLA_HIGH(LTXI_MLA(s, w1, LTXI_S8(q1)), w1, LTXI_S8(q1)));
}
#undef LTXI_MUL
#undef LTXI_MUL_HIGH
#undef LTXI_MLA
#undef LTXI_MLA_HIGH
LTXI_ONE_OF_FOURS(neon, neon)

#ifdef LTXI_DOTPROD
/* ---- sdot: four products of bytes into each 32-bit lane ---- */
#define LTXI_T_dotprod __attribute__((LTXI_DOTPROD)) static
#define LTXI_I_dotprod __attribute__((always_inline, LTXI_DOTPROD)) static __inline__
LTXI_DOTS(neon, dotprod)
#define LTXI_STEP1(s, h, q, lane) s.h = vdotq_laneq_s32(s.h, LTXI_S8(t[k + lane].h), LTXI_S8(q), lane);
#define LTXI_STEP(s, q, lane) LTXI_STEP1(s, a, q, lane) LTXI_STEP1(s, b, q, lane) LTXI_STEP1(s, c, q, lane) LTXI_STEP1(s, d, q, lane)
#define LTXI_STEPS(lane) LTXI_STEP(s0, q0, lane) LTXI_STEP(s1, q1, lane) LTXI_STEP(s2, q2, lane) LTXI_STEP(s3, q3, lane)
LTXI_I_dotprod void ltxi_dotprod_sums(int32_t *s, const ltxi_neon_w *t, int32_t count, const int8_t *q, int32_t rows)
{
    int32_t m, k;
    for (m = 0; m + 4 <= rows; m += 4, q += 4 * LTXI_DEEP, s += 4 * LTXI_LANES) {
        ltxi_neon_w s0 = ltxi_neon_wset(0), s1 = s0, s2 = s0, s3 = s0;
        LTXI_UNROLL for (k = 0; k < count; k += 4) {
            const int8_t *p = q + k * 4;
            int32x4_t q0 = ltxi_neon_wld4(p), q1 = ltxi_neon_wld4(p + LTXI_DEEP), q2 = ltxi_neon_wld4(p + 2 * LTXI_DEEP), q3 = ltxi_neon_wld4(p + 3 * LTXI_DEEP);
            LTXI_STEPS(0) LTXI_STEPS(1) LTXI_STEPS(2) LTXI_STEPS(3)
        }
        ltxi_neon_wst(s, s0); ltxi_neon_wst(s + LTXI_LANES, s1); ltxi_neon_wst(s + 2 * LTXI_LANES, s2); ltxi_neon_wst(s + 3 * LTXI_LANES, s3);
    }
    for (; m < rows; m++, q += LTXI_DEEP, s += LTXI_LANES) {
        ltxi_neon_w s0 = ltxi_neon_wset(0);
        LTXI_UNROLL for (k = 0; k < count; k += 4) {
            int32x4_t q0 = ltxi_neon_wld4(q + k * 4);
            LTXI_STEP(s0, q0, 0) LTXI_STEP(s0, q0, 1) LTXI_STEP(s0, q0, 2) LTXI_STEP(s0, q0, 3)
        }
        ltxi_neon_wst(s, s0);
    }
}
#undef LTXI_STEP1
#undef LTXI_STEP
#undef LTXI_STEPS
LTXI_I_dotprod void ltxi_dotprod_multiply(ltxi_dotprod_dots *dots, const ltxi_neon_w *t, int32_t count, const int8_t *q, int32_t rows) { ltxi_dotprod_sums(dots->s, t, count, q, rows); }
LTXI_I_dotprod int32x4_t ltxi_dotprod_dot8(int32x4_t w0, int32x4_t w1, int32x4_t q0, int32x4_t q1)
{
    return vdotq_s32(vdotq_s32(vdupq_n_s32(0), LTXI_S8(w0), LTXI_S8(q0)), LTXI_S8(w1), LTXI_S8(q1));
}
LTXI_I_dotprod int32x4_t ltxi_dotprod_dot4(int32x4_t w0, int32x4_t w1, int32x4_t q0, int32x4_t q1) { return ltxi_dotprod_dot8(w0, w1, q0, q1); }
LTXI_ONE_OF_FOURS(neon, dotprod)
#endif /* LTXI_DOTPROD */
#ifdef LTXI_I8MM
/* ---- smmla: two rows of eight columns by two rows of activations, four sums in one register. It wants columns 8k..8k+7 of two rows side by side: so the
   weights are paired once for all rows of activations, and the sums are sorted at the end. ---- */
#define LTXI_T_i8mm __attribute__((LTXI_I8MM)) static
#define LTXI_I_i8mm __attribute__((always_inline, LTXI_I8MM)) static __inline__
LTXI_DOTS(neon, i8mm)
enum { LTXI_I8MM_FEW = 8 }; /* rows below which pairing does not pay */
LTXI_I_i8mm void ltxi_i8mm_sort(int32_t *s, const int32x4_t *x) /* sums of rows of weights 0, 1 and 2, 3, ... by two rows of activations */
{
    int32_t i;
    LTXI_UNROLL for (i = 0; i < 4; i++) {
        vst1q_s32(s + 4 * i, vuzp1q_s32(x[2 * i], x[2 * i + 1]));
        vst1q_s32(s + 4 * i + LTXI_LANES, vuzp2q_s32(x[2 * i], x[2 * i + 1]));
    }
}
LTXI_I_i8mm int64x2_t ltxi_i8mm_eight(const int8_t *p) { return vreinterpretq_s64_s8(vld1q_s8(p)); }
LTXI_I_i8mm void ltxi_i8mm_multiply(ltxi_i8mm_dots *dots, const ltxi_neon_w *t, int32_t count, const int8_t *q, int32_t rows)
{
    int32x4_t pair[4][8], x[8], y[8];
    int32_t m, k, i, *s = dots->s;
    for (k = 0; k < count / 2; k++) {
        const ltxi_neon_w *a = t + 2 * k, *b = a + 1;
        pair[k][0] = vzip1q_s32(a->a, b->a); pair[k][1] = vzip2q_s32(a->a, b->a); pair[k][2] = vzip1q_s32(a->b, b->b); pair[k][3] = vzip2q_s32(a->b, b->b);
        pair[k][4] = vzip1q_s32(a->c, b->c); pair[k][5] = vzip2q_s32(a->c, b->c); pair[k][6] = vzip1q_s32(a->d, b->d); pair[k][7] = vzip2q_s32(a->d, b->d);
    }
    for (m = 0; m + 4 <= rows; m += 4, q += 4 * LTXI_DEEP, s += 4 * LTXI_LANES) {
        LTXI_UNROLL for (i = 0; i < 8; i++) x[i] = y[i] = vdupq_n_s32(0);
        LTXI_UNROLL for (k = 0; k < count / 2; k += 2) {
            const int8_t *p = q + k * 8;
            int64x2_t q0 = ltxi_i8mm_eight(p), q1 = ltxi_i8mm_eight(p + LTXI_DEEP), q2 = ltxi_i8mm_eight(p + 2 * LTXI_DEEP), q3 = ltxi_i8mm_eight(p + 3 * LTXI_DEEP);
            int8x16_t a = vreinterpretq_s8_s64(vzip1q_s64(q0, q1)), b = vreinterpretq_s8_s64(vzip1q_s64(q2, q3));
            LTXI_UNROLL for (i = 0; i < 8; i++) { x[i] = vmmlaq_s32(x[i], LTXI_S8(pair[k][i]), a); y[i] = vmmlaq_s32(y[i], LTXI_S8(pair[k][i]), b); }
            a = vreinterpretq_s8_s64(vzip2q_s64(q0, q1)); b = vreinterpretq_s8_s64(vzip2q_s64(q2, q3));
            LTXI_UNROLL for (i = 0; i < 8; i++) { x[i] = vmmlaq_s32(x[i], LTXI_S8(pair[k + 1][i]), a); y[i] = vmmlaq_s32(y[i], LTXI_S8(pair[k + 1][i]), b); }
        }
        ltxi_i8mm_sort(s, x);
        ltxi_i8mm_sort(s + 2 * LTXI_LANES, y);
    }
    ltxi_dotprod_sums(s, t, count, q, rows - m);
}
LTXI_FEW_ELSEWHERE(i8mm, LTXI_I8MM_FEW)
#endif /* LTXI_I8MM */
#undef LTXI_S8
#undef LTXI_S16
#endif /* LTXI_NEON */

#ifdef LTXI_SIMD128
LTXI_SIMD4(wld, (const void *p), wasm_v128_load(p))
LTXI_I_simd128 void ltxi_simd128_wst4(uint8_t *p, v128_t x) { wasm_v128_store(p, x); }
LTXI_SIMD4(wset, (int32_t x), wasm_i32x4_splat(x))
LTXI_SIMD4(bset, (int32_t x), wasm_i8x16_splat((int8_t)x))
LTXI_SIMD4(wadd, (v128_t x, v128_t y), wasm_i32x4_add(x, y))
LTXI_SIMD4(wsub, (v128_t x, v128_t y), wasm_i32x4_sub(x, y))
LTXI_SIMD4(wmul, (v128_t x, v128_t y), wasm_i32x4_mul(x, y))
LTXI_SIMD4(wand, (v128_t x, v128_t y), wasm_v128_and(x, y))
LTXI_SIMD4(wshl, (v128_t x, int32_t n), wasm_i32x4_shl(x, (uint32_t)n))
LTXI_SIMD4(wshr, (v128_t x, int32_t n), wasm_u32x4_shr(x, (uint32_t)n))
LTXI_SIMD4(wsar, (v128_t x, int32_t n), wasm_i32x4_shr(x, (uint32_t)n))
LTXI_SIMD4(bshr, (v128_t x), wasm_u8x16_shr(x, 4))
LTXI_SIMD4(wmadd, (v128_t c, v128_t x, v128_t y), wasm_i32x4_add(c, wasm_i32x4_dot_i16x8(x, y)))
LTXI_SIMD4(cvt, (v128_t x), wasm_f32x4_convert_i32x4(x))
LTXI_I_simd128 v128_t ltxi_simd128_four(const uint8_t *w, size_t ld)
{
    v128_t h = wasm_v128_load16_lane(w, wasm_i32x4_splat(0), 0);
    return ltxi_simd128_half4(wasm_v128_load16_lane(w + 3 * ld, wasm_v128_load16_lane(w + 2 * ld, wasm_v128_load16_lane(w + ld, h, 2), 4), 6));
}
LTXI_I_simd128 void ltxi_simd128_turn(const uint8_t *w, size_t ld, v128_t *t)
{
    v128_t a = wasm_v128_load(w), b = wasm_v128_load(w + ld), c = wasm_v128_load(w + 2 * ld), d = wasm_v128_load(w + 3 * ld);
    v128_t e = wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), f = wasm_i32x4_shuffle(a, b, 2, 6, 3, 7), g = wasm_i32x4_shuffle(c, d, 0, 4, 1, 5), h = wasm_i32x4_shuffle(c, d, 2, 6, 3, 7);
    t[0] = wasm_i64x2_shuffle(e, g, 0, 2); t[1] = wasm_i64x2_shuffle(e, g, 1, 3);
    t[2] = wasm_i64x2_shuffle(f, h, 0, 2); t[3] = wasm_i64x2_shuffle(f, h, 1, 3);
}
LTXI_SIMD4(pairs, (v128_t x, v128_t y), wasm_i32x4_add(wasm_i32x4_shuffle(x, y, 0, 2, 4, 6), wasm_i32x4_shuffle(x, y, 1, 3, 5, 7)))
LTXI_I_simd128 v128_t ltxi_simd128_join(v128_t a, v128_t b, v128_t c, v128_t d) { return ltxi_simd128_pairs4(ltxi_simd128_pairs4(a, b), ltxi_simd128_pairs4(c, d)); }
LTXI_FOURS_OF_TILES(simd128)
LTXI_NIBBLES(simd128)
LTXI_TILE_SUPERS(simd128)
/* Bytes are widened to 16 bits, whose products come added in pairs; `rows` of activations share the widened weights. */
LTXI_DOTS(simd128, simd128)
LTXI_I_simd128 void ltxi_simd128_some(int32_t *s, const ltxi_simd128_w *t, int32_t count, const int8_t *q, int32_t rows)
{
    v128_t x[4][8], low[4], high[4], w;
    int32_t m, k, h;
    for (m = 0; m < rows; m++) for (k = 0; k < count; k += 2) {
        w = wasm_i16x8_load8x8(q + m * LTXI_DEEP + k * 4);
        x[m][k] = wasm_i64x2_shuffle(w, w, 0, 0);
        x[m][k + 1] = wasm_i64x2_shuffle(w, w, 1, 1);
    }
    for (h = 0; h < 4; h++) {
        for (m = 0; m < rows; m++) low[m] = high[m] = wasm_i32x4_splat(0);
        for (k = 0; k < count; k++) {
            w = wasm_v128_load((const uint8_t *)(t + k) + 16 * h);
            for (m = 0; m < rows; m++) {
                low[m] = wasm_i32x4_add(low[m], wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(w), x[m][k]));
                high[m] = wasm_i32x4_add(high[m], wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(w), x[m][k]));
            }
        }
        for (m = 0; m < rows; m++) wasm_v128_store(s + m * LTXI_LANES + 4 * h, ltxi_simd128_pairs4(low[m], high[m]));
    }
}
LTXI_I_simd128 void ltxi_simd128_multiply(ltxi_simd128_dots *dots, const ltxi_simd128_w *t, int32_t count, const int8_t *q, int32_t rows)
{
    int32_t m, *s = dots->s;
    for (m = 0; m + 4 <= rows; m += 4) ltxi_simd128_some(s + m * LTXI_LANES, t, count, q + m * LTXI_DEEP, 4);
    for (; m < rows; m++) ltxi_simd128_some(s + m * LTXI_LANES, t, count, q + m * LTXI_DEEP, 1);
}
LTXI_I_simd128 v128_t ltxi_simd128_dot16(v128_t w, v128_t q)
{
    return wasm_i32x4_add(wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(w), wasm_i16x8_extend_low_i8x16(q)),
                          wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(w), wasm_i16x8_extend_high_i8x16(q)));
}
LTXI_I_simd128 v128_t ltxi_simd128_dot8(v128_t w0, v128_t w1, v128_t q0, v128_t q1) { return wasm_i32x4_add(ltxi_simd128_dot16(w0, q0), ltxi_simd128_dot16(w1, q1)); }
LTXI_I_simd128 v128_t ltxi_simd128_dot4(v128_t w0, v128_t w1, v128_t q0, v128_t q1) { return ltxi_simd128_dot8(w0, w1, q0, q1); }
LTXI_ONE_OF_FOURS(simd128, simd128)
#endif /* LTXI_SIMD128 */

/* ==== >>norms =============================================================================================
   Owns the kernels of norms, rope, softmax and attention, and element-wise helpers. May call: platform, vector, functions.  */

#define LTXI_NORMS(S) \
LTXI_T_##S float ltxi_##S##_dot(const float *a, const float *b, int32_t n) /* sixteen chains; without b the sum */ \
{ \
    ltxi_##S##_v s = ltxi_##S##_set1(0.0f), one = ltxi_##S##_set1(1.0f); \
    int32_t i; \
    for (i = 0; i < n; i += 16) s = ltxi_##S##_fma(ltxi_##S##_get(a + i, n - i), b == NULL ? one : ltxi_##S##_get(b + i, n - i), s); \
    return ltxi_##S##_sum(s); \
} \
LTXI_T_##S float ltxi_##S##_zero(const float *x, int32_t n) /* 0 x summed: 0 if every x is finite, else NaN */ \
{ \
    ltxi_##S##_v s = ltxi_##S##_set1(0.0f), z = s; \
    int32_t i; \
    for (i = 0; i < n; i += 16) s = ltxi_##S##_fma(ltxi_##S##_get(x + i, n - i), z, s); \
    return ltxi_##S##_sum(s); \
} \
LTXI_T_##S void ltxi_##S##_norm(const float *x, float r, const uint8_t *w, const uint8_t *bias, int32_t n, float *y) /* y = x r w + bias */ \
{ \
    ltxi_##S##_v k = ltxi_##S##_set1(r), v; \
    int32_t i; \
    for (i = 0; i < n; i += 16) { \
        v = ltxi_##S##_mul(ltxi_##S##_get(x + i, n - i), k); \
        if (bias != NULL) v = ltxi_##S##_fma(v, ltxi_##S##_getf(w + (size_t)i * 4, n - i), ltxi_##S##_getf(bias + (size_t)i * 4, n - i)); \
        else if (w != NULL) v = ltxi_##S##_mul(v, ltxi_##S##_getf(w + (size_t)i * 4, n - i)); \
        ltxi_##S##_put(y + i, n - i, v); \
    } \
} \
LTXI_T_##S void ltxi_##S##_shift(const float *x, float a, int32_t n, float *y) /* y = x + a */ \
{ \
    ltxi_##S##_v k = ltxi_##S##_set1(a); \
    int32_t i; \
    for (i = 0; i < n; i += 16) ltxi_##S##_put(y + i, n - i, ltxi_##S##_add(ltxi_##S##_get(x + i, n - i), k)); \
} \
LTXI_T_##S void ltxi_##S##_axpy(float *y, const float *x, float a, int32_t n) /* y += a x */ \
{ \
    ltxi_##S##_v k = ltxi_##S##_set1(a); \
    int32_t i; \
    for (i = 0; i < n; i += 16) ltxi_##S##_put(y + i, n - i, ltxi_##S##_fma(ltxi_##S##_get(x + i, n - i), k, ltxi_##S##_get(y + i, n - i))); \
} \
LTXI_T_##S void ltxi_##S##_mulv(float *y, const float *x, float a, int32_t n) /* y = y x, or y a without x */ \
{ \
    ltxi_##S##_v k = ltxi_##S##_set1(a); \
    int32_t i; \
    for (i = 0; i < n; i += 16) \
        ltxi_##S##_put(y + i, n - i, ltxi_##S##_mul(ltxi_##S##_get(y + i, n - i), x == NULL ? k : ltxi_##S##_get(x + i, n - i))); \
}

/* softmax in parts: the maximum; e = exp(x - max) in place with its sum, and sum of e (x - max) for the entropy */
#define LTXI_SOFTMAX(S) \
LTXI_T_##S float ltxi_##S##_maximum(const float *x, int32_t n) \
{ \
    float t[16], m = x[0]; \
    ltxi_##S##_v k = ltxi_##S##_set1(m); \
    int32_t i; \
    for (i = 0; i + 16 <= n; i += 16) k = ltxi_##S##_max(ltxi_##S##_ld(x + i), k); \
    ltxi_##S##_st(t, k); \
    for (; i < n; i++) m = x[i] > m ? x[i] : m; \
    for (i = 0; i < 16; i++) m = t[i] > m ? t[i] : m; \
    return m; \
} \
LTXI_T_##S float ltxi_##S##_expsum(float *x, float max, int32_t n, float *weighted) \
{ \
    ltxi_##S##_v s = ltxi_##S##_set1(0.0f), ws = s, k = ltxi_##S##_set1(max), d, e; \
    float t[16]; \
    int32_t i; \
    for (i = 0; i < n; i += 16) { \
        d = ltxi_##S##_sub(ltxi_##S##_get(x + i, n - i), k); \
        e = ltxi_##S##_exp(d); \
        ltxi_##S##_put(x + i, n - i, e); \
        if (n - i < 16) e = ltxi_##S##_ld((const float *)ltxi_tail(t, x + i, (n - i) * 4)); \
        s = ltxi_##S##_add(s, e); \
        if (weighted != NULL) ws = ltxi_##S##_fma(e, ltxi_##S##_max(ltxi_##S##_set1(-1e30f), d), ws); /* 0 * -inf */ \
    } \
    if (weighted != NULL) *weighted = ltxi_##S##_sum(ws); \
    return ltxi_##S##_sum(s); \
}

/* Rotation of `pairs` pairs: x0' = x0 c - x1 s, x1' = x1 c + x0 s. Interleaved: c and s hold each value twice, s with signs -+. */
#define LTXI_ROPE(S) \
LTXI_T_##S void ltxi_##S##_rope(float *x, const float *c, const float *s, int32_t pairs, int32_t halves) \
{ \
    ltxi_##S##_v a, b, vc, vs; \
    int32_t i, n = halves ? pairs : 2 * pairs; \
    for (i = 0; i < n; i += 16) { \
        a = ltxi_##S##_get(x + i, n - i); vc = ltxi_##S##_ld(c + i); vs = ltxi_##S##_ld(s + i); \
        if (!halves) { ltxi_##S##_put(x + i, n - i, ltxi_##S##_fma(a, vc, ltxi_##S##_mul(ltxi_##S##_swap(a), vs))); continue; } \
        b = ltxi_##S##_get(x + n + i, n - i); \
        ltxi_##S##_put(x + i, n - i, ltxi_##S##_fma(a, vc, ltxi_##S##_sub(ltxi_##S##_set1(0.0f), ltxi_##S##_mul(b, vs)))); \
        ltxi_##S##_put(x + n + i, n - i, ltxi_##S##_fma(b, vc, ltxi_##S##_mul(a, vs))); \
    } \
}

/* ---- attention kernels, see >>attention. Up to four queries share the keys and values; those are widened from the cache's format on their way. u sets of lanes are in flight per query, half of them where that is enough. ---- */
enum { LTXI_QUERIES = 4 };
#define LTXI_ATTEND(S, u) \
LTXI_I_##S ltxi_##S##_v ltxi_##S##_ldkv(const uint8_t *p, int32_t bytes) \
{ \
    return bytes == 4 ? ltxi_##S##_ld((const float *)(const void *)p) : bytes == 2 ? ltxi_##S##_ldh(p) : ltxi_##S##_ldi((const int8_t *)p); \
} \
/* out[query][16 p + l] = q[query] . key l of panel p, for `sets` panels of which `count` are there; one chain over the d elements of a key; keys [panel][d][16] */ \
LTXI_I_##S void ltxi_##S##_panels(const uint8_t *k, int32_t bytes, const float *const *q, int32_t queries, int32_t d, int32_t at, int32_t count, int32_t sets, float *const *out) \
{ \
    ltxi_##S##_v s[LTXI_QUERIES * u], v[u], t; \
    size_t step = (size_t)(d * 16 * bytes); \
    size_t ahead = (size_t)at * step + LTXI_KV_AHEAD; \
    int32_t i, j, n; \
    LTXI_UNROLL for (j = 0; j < queries * sets; j++) s[j] = ltxi_##S##_set1(0.0f); \
    for (k += (size_t)at * step, i = 0; i < d; i++, k += 16 * bytes) { \
        LTXI_UNROLL for (j = 0; j < sets * 16 * bytes; j += 64) LTXI_PREFETCH(k, ahead + (size_t)(i * sets * 16 * bytes + j)); \
        LTXI_UNROLL for (j = 0; j < sets; j++) v[j] = ltxi_##S##_ldkv(k + (j < count ? (size_t)j * step : 0), bytes); \
        LTXI_UNROLL for (n = 0; n < queries; n++) { \
            t = ltxi_##S##_set1(q[n][i]); \
            LTXI_UNROLL for (j = 0; j < sets; j++) s[n * sets + j] = ltxi_##S##_fma(t, v[j], s[n * sets + j]); \
        } \
    } \
    LTXI_UNROLL for (n = 0; n < queries; n++) LTXI_UNROLL for (j = 0; j < sets; j++) if (j < count) ltxi_##S##_st(out[n] + (at + j) * 16, s[n * sets + j]); \
} \
LTXI_I_##S void ltxi_##S##_scores_in(const uint8_t *k, int32_t bytes, const float *const *q, int32_t queries, int32_t d, int32_t at, int32_t count, int32_t sets, float *const *out) \
{ \
    if (bytes == 4) ltxi_##S##_panels(k, 4, q, queries, d, at, count, sets, out); \
    else if (bytes == 2) ltxi_##S##_panels(k, 2, q, queries, d, at, count, sets, out); \
    else ltxi_##S##_panels(k, 1, q, queries, d, at, count, sets, out); \
} \
LTXI_I_##S void ltxi_##S##_scores_of(const uint8_t *k, int32_t bytes, const float *const *q, int32_t queries, int32_t d, int32_t panels, float *const *out) \
{ \
    int32_t p; \
    for (p = 0; p < panels; p += u) { \
        if (u > 1 && panels - p <= u / 2) ltxi_##S##_scores_in(k, bytes, q, queries, d, p, panels - p, (u + 1) / 2, out); \
        else ltxi_##S##_scores_in(k, bytes, q, queries, d, p, panels - p, u, out); \
    } \
} \
/* o[query] += sum over n slots of p[query][slot] v[slot][0..d); d a multiple of 16; one chain over the slots per element */ \
LTXI_I_##S void ltxi_##S##_slots(const uint8_t *v, int32_t bytes, int32_t d, int32_t at, int32_t n, const float *const *p, int32_t queries, int32_t sets, float *const *o) \
{ \
    ltxi_##S##_v s[LTXI_QUERIES * u], x[u], t; \
    int32_t i, j, m, left = (d - at) / 16; \
    LTXI_UNROLL for (m = 0; m < queries; m++) LTXI_UNROLL for (j = 0; j < sets; j++) s[m * sets + j] = ltxi_##S##_ld(o[m] + at + (j < left ? j * 16 : 0)); \
    for (v += at * bytes, i = 0; i < n; i++, v += d * bytes) { \
        LTXI_UNROLL for (j = 0; j < sets * 16 * bytes; j += 64) LTXI_PREFETCH(v, LTXI_KV_AHEAD + j); \
        LTXI_UNROLL for (j = 0; j < sets; j++) x[j] = ltxi_##S##_ldkv(v + (j < left ? j * 16 * bytes : 0), bytes); \
        LTXI_UNROLL for (m = 0; m < queries; m++) { \
            t = ltxi_##S##_set1(p[m][i]); \
            LTXI_UNROLL for (j = 0; j < sets; j++) s[m * sets + j] = ltxi_##S##_fma(t, x[j], s[m * sets + j]); \
        } \
    } \
    LTXI_UNROLL for (m = 0; m < queries; m++) LTXI_UNROLL for (j = 0; j < sets; j++) if (j < left) ltxi_##S##_st(o[m] + at + j * 16, s[m * sets + j]); \
} \
LTXI_I_##S void ltxi_##S##_values_in(const uint8_t *v, int32_t bytes, int32_t d, int32_t at, int32_t n, const float *const *p, int32_t queries, int32_t sets, float *const *o) \
{ \
    if (bytes == 4) ltxi_##S##_slots(v, 4, d, at, n, p, queries, sets, o); \
    else if (bytes == 2) ltxi_##S##_slots(v, 2, d, at, n, p, queries, sets, o); \
    else ltxi_##S##_slots(v, 1, d, at, n, p, queries, sets, o); \
} \
LTXI_I_##S void ltxi_##S##_values_of(const uint8_t *v, int32_t bytes, int32_t d, int32_t n, const float *const *p, int32_t queries, float *const *o) \
{ \
    int32_t at; \
    for (at = 0; at < d; at += 16 * u) { \
        if (u > 1 && d - at <= u / 2 * 16) ltxi_##S##_values_in(v, bytes, d, at, n, p, queries, (u + 1) / 2, o); \
        else ltxi_##S##_values_in(v, bytes, d, at, n, p, queries, u, o); \
    } \
} \
LTXI_T_##S void ltxi_##S##_to_halves(const float *x, int32_t n, uint8_t *out) /* writes a multiple of 16 */ \
{ \
    int32_t i; \
    for (i = 0; i < n; i += 16) ltxi_##S##_sth(out + (size_t)i * 2, ltxi_##S##_get(x + i, n - i)); \
}

/* One to four queries: together where there are registers for that, else one by one, which keeps code small. */
#define LTXI_QUERIES_TOGETHER(S) \
LTXI_T_##S void ltxi_##S##_scores(const uint8_t *k, int32_t bytes, const float *const *q, int32_t queries, int32_t d, int32_t panels, float *const *out) \
{ \
    if (queries == 1) ltxi_##S##_scores_of(k, bytes, q, 1, d, panels, out); \
    else if (queries == 2) ltxi_##S##_scores_of(k, bytes, q, 2, d, panels, out); \
    else if (queries == 3) ltxi_##S##_scores_of(k, bytes, q, 3, d, panels, out); \
    else ltxi_##S##_scores_of(k, bytes, q, 4, d, panels, out); \
} \
LTXI_T_##S void ltxi_##S##_values(const uint8_t *v, int32_t bytes, int32_t d, int32_t n, const float *const *p, int32_t queries, float *const *o) \
{ \
    if (queries == 1) ltxi_##S##_values_of(v, bytes, d, n, p, 1, o); \
    else if (queries == 2) ltxi_##S##_values_of(v, bytes, d, n, p, 2, o); \
    else if (queries == 3) ltxi_##S##_values_of(v, bytes, d, n, p, 3, o); \
    else ltxi_##S##_values_of(v, bytes, d, n, p, 4, o); \
}
#define LTXI_QUERIES_ALONE(S) \
LTXI_T_##S void ltxi_##S##_scores(const uint8_t *k, int32_t bytes, const float *const *q, int32_t queries, int32_t d, int32_t panels, float *const *out) \
{ \
    int32_t i; \
    for (i = 0; i < queries; i++) ltxi_##S##_scores_of(k, bytes, q + i, 1, d, panels, out + i); \
} \
LTXI_T_##S void ltxi_##S##_values(const uint8_t *v, int32_t bytes, int32_t d, int32_t n, const float *const *p, int32_t queries, float *const *o) \
{ \
    int32_t i; \
    for (i = 0; i < queries; i++) ltxi_##S##_values_of(v, bytes, d, n, p + i, 1, o + i); \
}

/* ==== >>kernels ===========================================================================================
   Owns the table of kernels, the choice of an instruction set, threads. May call: everything above.            */

typedef struct ltxi_kernels {
    ltxi_tile_fn *tile[LTXI_TYPES]; /* by LTXI_T... */
    float (*quantize)(const float *x, int32_t n, int8_t *q);
    void  (*quantize_row)(const ltxi_acts *a, int32_t row, int32_t n, int32_t group);
    void  (*map)(int32_t f, const float *x, int32_t n, float *y);
    void  (*sincos)(const float *fh, const float *fl, float x, int32_t n, float *sine, float *cosine);
    float (*dot)(const float *a, const float *b, int32_t n);
    float (*zero)(const float *x, int32_t n);
    void  (*norm)(const float *x, float r, const uint8_t *w, const uint8_t *bias, int32_t n, float *y);
    void  (*shift)(const float *x, float a, int32_t n, float *y);
    void  (*axpy)(float *y, const float *x, float a, int32_t n);
    void  (*mulv)(float *y, const float *x, float a, int32_t n);
    float (*maximum)(const float *x, int32_t n);
    float (*expsum)(float *x, float max, int32_t n, float *weighted);
    void  (*rope)(float *x, const float *c, const float *s, int32_t pairs, int32_t halves);
    void  (*scores)(const uint8_t *k, int32_t bytes, const float *const *q, int32_t queries, int32_t d, int32_t panels, float *const *out);
    void  (*values)(const uint8_t *v, int32_t bytes, int32_t d, int32_t n, const float *const *p, int32_t queries, float *const *o);
    void  (*to_halves)(const float *x, int32_t n, uint8_t *out);
} ltxi_kernels;
#define LTXI_KERNELS(S, a, c, u, QUERIES) \
    LTXI_GETPUT(S) LTXI_FUNCTIONS(S) LTXI_SINCOS(S) LTXI_QUANTIZE(S) LTXI_NORMS(S) LTXI_SOFTMAX(S) LTXI_ROPE(S) LTXI_ATTEND(S, u) QUERIES(S) \
    LTXI_FLOAT_TILE(S, f32, ldf, 4, a, c) LTXI_FLOAT_TILE(S, f16, ldh, 2, a, c) LTXI_FLOAT_TILE(S, bf16, ldb, 2, a, c) \
    LTXI_FN void ltxi_##S##_kernels(ltxi_kernels *k) \
    { \
        k->tile[LTXI_TF32] = ltxi_##S##_tile_f32; k->tile[LTXI_TF16] = ltxi_##S##_tile_f16; k->tile[LTXI_TBF16] = ltxi_##S##_tile_bf16; \
        k->quantize_row = ltxi_##S##_quantize_row; \
        k->quantize = ltxi_##S##_quantize; k->map = ltxi_##S##_map; k->sincos = ltxi_##S##_sincos; k->dot = ltxi_##S##_dot; k->zero = ltxi_##S##_zero; \
        k->norm = ltxi_##S##_norm; k->shift = ltxi_##S##_shift; k->axpy = ltxi_##S##_axpy; k->mulv = ltxi_##S##_mulv; k->maximum = ltxi_##S##_maximum; k->expsum = ltxi_##S##_expsum; \
        k->rope = ltxi_##S##_rope; k->scores = ltxi_##S##_scores; k->values = ltxi_##S##_values; k->to_halves = ltxi_##S##_to_halves; \
    }
/* tiles of the quantized formats */
#define LTXI_QUANTIZED(D) \
    LTXI_FN void ltxi_##D##_quantized(ltxi_kernels *k) \
    { \
        k->tile[LTXI_TQ8_0] = ltxi_##D##_tile_q8_0; k->tile[LTXI_TQ4_0] = ltxi_##D##_tile_q4_0; k->tile[LTXI_TQ8_X] = ltxi_##D##_tile_q8_x; k->tile[LTXI_TQ4_X] = ltxi_##D##_tile_q4_x; \
        k->tile[LTXI_TR8] = ltxi_##D##_tile_r8; k->tile[LTXI_TR4] = ltxi_##D##_tile_r4; \
        k->tile[LTXI_TQ4_K] = ltxi_##D##_tile_q4_k; k->tile[LTXI_TQ5_K] = ltxi_##D##_tile_q5_k; k->tile[LTXI_TQ6_K] = ltxi_##D##_tile_q6_k; \
    }
LTXI_KERNELS(scalar, 4, 1, 1, LTXI_QUERIES_ALONE)
LTXI_SCALAR_TILE(q8_0, ltxi_block_tile(LTX_Q8_0, w, ld, x, row, rows, cols, out)) LTXI_SCALAR_TILE(q4_0, ltxi_block_tile(LTX_Q4_0, w, ld, x, row, rows, cols, out))
LTXI_SCALAR_TILE(q8_x, ltxi_block_tile(LTX_Q8_X, w, ld, x, row, rows, cols, out)) LTXI_SCALAR_TILE(q4_x, ltxi_block_tile(LTX_Q4_X, w, ld, x, row, rows, cols, out))
LTXI_SCALAR_TILE(r8, ltxi_row_tile(LTX_R8, w, x, row, rows, cols, out)) LTXI_SCALAR_TILE(r4, ltxi_row_tile(LTX_R4, w, x, row, rows, cols, out))
LTXI_SCALAR_TILE(q4_k, ltxi_super_tile(LTX_Q4_K, w, ld, x, row, rows, cols, out)) LTXI_SCALAR_TILE(q5_k, ltxi_super_tile(LTX_Q5_K, w, ld, x, row, rows, cols, out))
LTXI_SCALAR_TILE(q6_k, ltxi_super_tile(LTX_Q6_K, w, ld, x, row, rows, cols, out))
LTXI_QUANTIZED(scalar)
#ifdef LTXI_X86
LTXI_KERNELS(avx2, 2, 2, 1, LTXI_QUERIES_TOGETHER)
LTXI_TILES(avx2, avx2, avx2)
LTXI_QUANTIZED(avx2)
LTXI_KERNELS(avx512, 4, 4, 4, LTXI_QUERIES_TOGETHER)
LTXI_TILES(avx512, avx512, avx512)
LTXI_QUANTIZED(avx512)
#ifdef LTXI_AMX
LTXI_TILES(avx512, amx, avx512)
LTXI_QUANTIZED(amx)
#endif
#endif
#ifdef LTXI_NEON
LTXI_KERNELS(neon, 2, 2, 1, LTXI_QUERIES_TOGETHER)
LTXI_NO_LONE(neon, neon)
LTXI_TILES(neon, neon, neon)
LTXI_QUANTIZED(neon)
#ifdef LTXI_DOTPROD
LTXI_NO_LONE(dotprod, neon)
LTXI_TILES(neon, dotprod, neon)
LTXI_QUANTIZED(dotprod)
#endif
#ifdef LTXI_I8MM
LTXI_NO_LONE(i8mm, neon)
LTXI_TILES(neon, i8mm, dotprod)
LTXI_QUANTIZED(i8mm)
#endif
#endif
#ifdef LTXI_SIMD128
LTXI_KERNELS(simd128, 2, 1, 1, LTXI_QUERIES_ALONE)
LTXI_NO_LONE(simd128, simd128)
LTXI_TILES(simd128, simd128, simd128)
LTXI_QUANTIZED(simd128)
#endif

/* ---- choosing a set: asked afresh each time, so there is no global state ---- */
#ifdef LTXI_X86
LTXI_FN uint64_t ltxi_xgetbv(void)
{
    uint32_t a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}
/* Does the system save tiles (bits 17 and 18), and may we use them? Linux wants to be asked once per process: arch_prctl(ARCH_REQ_XCOMP_PERM, 18). */
LTXI_FN int ltxi_amx_allowed(uint64_t os)
{
#ifdef LTXI_AMX
    long r;
    if ((os & 0x60000u) != 0x60000u) return 0;
    __asm__ volatile("syscall" : "=a"(r) : "a"(158L), "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");
    return r == 0;
#else
    (void)os;
    return 0;
#endif
}
LTXI_FN uint32_t ltxi_x86_mask(int amx)
{
    unsigned a, b, c, d, need1 = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29; /* fma osxsave avx f16c */
    unsigned need512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* avx512 f dq bw vl */
    uint64_t os;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & need1) != need1) return 0;
    os = ltxi_xgetbv(); /* does the system save ymm (bits 1, 2) and zmm, mask registers (5, 6, 7)? */
    if ((os & 6u) != 6u || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 5)) return 0;
    if ((os & 0xe6u) != 0xe6u || (b & need512) != need512 || !(c & 1u << 11)) return 1u << LTX_ISA_AVX2;
    return 1u << LTX_ISA_AVX2 | 1u << LTX_ISA_AVX512 | (amx && (d >> 24 & 3u) == 3u && ltxi_amx_allowed(os) ? 1u << LTX_ISA_AMX : 0u);
}
#endif
#ifdef LTXI_NEON
LTXI_FN uint32_t ltxi_arm_mask(void)
{
    uint32_t mask = 1u << LTX_ISA_NEON;
    int dotprod = 0, i8mm = 0;
#ifdef LTXI_AUXV
    dotprod = (int)(getauxval(16) >> 20 & 1u); /* AT_HWCAP, HWCAP_ASIMDDP */
    i8mm = (int)(getauxval(26) >> 13 & 1u);    /* AT_HWCAP2, HWCAP2_I8MM */
#else
#ifdef __ARM_FEATURE_DOTPROD
    dotprod = 1;
#endif
#ifdef __ARM_FEATURE_MATMUL_INT8
    i8mm = 1;
#endif
#endif
#ifdef LTXI_DOTPROD
    if (dotprod) mask |= 1u << LTX_ISA_DOTPROD;
#endif
#ifdef LTXI_I8MM
    if (dotprod && i8mm) mask |= 1u << LTX_ISA_I8MM;
#endif
    (void)dotprod; (void)i8mm;
    return mask;
}
#endif
LTXI_FN uint32_t ltxi_isa_mask(int amx) /* without amx nobody is asked for permission */
{
    uint32_t mask = 1u << LTX_ISA_SCALAR;
    (void)amx;
#ifdef LTXI_X86
    mask |= ltxi_x86_mask(amx);
#endif
#ifdef LTXI_NEON
    mask |= ltxi_arm_mask();
#endif
#ifdef LTXI_SIMD128
    mask |= 1u << LTX_ISA_SIMD128;
#endif
#ifdef LTXI_TEST_AMX /* instructions that this processor may lack are emulated, see tests/amx.h */
    mask |= 1u << LTX_ISA_AMX;
#endif
    return mask;
}
LTX_API uint32_t ltx_isa_mask(void) { return ltxi_isa_mask(1); }
LTX_API const char *ltx_isa_name(int32_t isa)
{
    static const char names[LTX_ISA_COUNT][8] = { LTXI_S("auto"), LTXI_S("scalar"), LTXI_S("avx2"), LTXI_S("avx512"), LTXI_S("amx"),
        LTXI_S("neon"), LTXI_S("dotprod"), LTXI_S("i8mm"), LTXI_S("simd128") };
    return isa >= 0 && isa < LTX_ISA_COUNT ? names[isa] : LTXI_S("?");
}
LTXI_FN int32_t ltxi_isa_best(int32_t isa) /* AUTO to the best set; -1 if this machine lacks the one asked for */
{
    uint32_t mask = ltxi_isa_mask(isa == LTX_ISA_AUTO || isa == LTX_ISA_AMX);
    if (isa == LTX_ISA_AUTO) for (isa = LTX_ISA_COUNT - 1; !(mask & 1u << isa); isa--) { }
    return isa > 0 && isa < LTX_ISA_COUNT && (mask & 1u << isa) ? isa : -1;
}
/* Fill the table of a set, AUTO included, and return it; NULL if this machine lacks the set. */
LTXI_FN const ltxi_kernels *ltxi_kernels_of(int32_t isa, ltxi_kernels *table)
{
    isa = ltxi_isa_best(isa);
    if (isa < 0) return NULL;
    if (isa == LTX_ISA_SCALAR) { ltxi_scalar_kernels(table); ltxi_scalar_quantized(table); }
#ifdef LTXI_X86
    if (isa == LTX_ISA_AVX2) { ltxi_avx2_kernels(table); ltxi_avx2_quantized(table); }
    if (isa == LTX_ISA_AVX512) { ltxi_avx512_kernels(table); ltxi_avx512_quantized(table); }
#ifdef LTXI_AMX
    if (isa == LTX_ISA_AMX) { ltxi_avx512_kernels(table); ltxi_amx_quantized(table); }
#endif
#endif
#ifdef LTXI_NEON
    if (isa >= LTX_ISA_NEON && isa <= LTX_ISA_I8MM) ltxi_neon_kernels(table);
    if (isa == LTX_ISA_NEON) ltxi_neon_quantized(table);
#ifdef LTXI_DOTPROD
    if (isa == LTX_ISA_DOTPROD) ltxi_dotprod_quantized(table);
#endif
#ifdef LTXI_I8MM
    if (isa == LTX_ISA_I8MM) ltxi_i8mm_quantized(table);
#endif
#endif
#ifdef LTXI_SIMD128
    if (isa == LTX_ISA_SIMD128) { ltxi_simd128_kernels(table); ltxi_simd128_quantized(table); }
#endif
    return table;
}

/* ---- threads: `count` tasks through the host's pool, OpenMP, or one after the other ---- */
LTXI_FN void ltxi_parallel(const ltx_pool *pool, ltx_task *task, void *arg, int32_t count)
{
    int32_t i;
    if (count > 1 && pool->run != NULL) { pool->run(pool->user, task, arg, count); return; }
#if defined(_OPENMP) && !defined(LTX_NO_OPENMP)
    if (count > 1) {
#pragma omp parallel for num_threads(count) schedule(static, 1)
        for (i = 0; i < count; i++) task(arg, i);
        return;
    }
#endif
    for (i = 0; i < count; i++) task(arg, i);
}

LTXI_FN void ltxi_rmsnorm(const ltxi_kernels *k, const float *x, const void *w, int32_t n, float eps, float *y)
{
    float mean = k->dot(x, x, n) / (float)n;
    k->norm(x, 1.0f / sqrtf(mean + eps), (const uint8_t *)w, NULL, n, y);
}
LTXI_FN void ltxi_layernorm(const ltxi_kernels *k, const float *x, const void *w, const void *bias, int32_t n, float eps, float *y)
{
    k->shift(x, -(k->dot(x, NULL, n) / (float)n), n, y);
    k->norm(y, 1.0f / sqrtf(k->dot(y, y, n) / (float)n + eps), (const uint8_t *)w, (const uint8_t *)bias, n, y);
}

/* ==== >>products ==========================================================================================
   Owns the driver of matrix products: which tiles, which threads, where results go. May call: formats, matrix, kernels. */

/* What a product needs besides its operands. */
typedef struct ltxi_machine {
    const ltxi_kernels *k;
    ltx_pool pool;
    int32_t  threads;
    uint64_t weight_bytes; /* counter */
} ltxi_machine;

/* y[map[i]] = W x[i] + bias for activation rows i; without a map y[i]. */
typedef struct ltxi_job {
    const ltx_mat *w, *bias;
    float *y;
    int32_t ld;         /* floats between rows of y */
    const int32_t *map; /* NULL = identity          */
    float   add;        /* not 0: y += add times the product */
    int32_t trait;      /* of w, and                */
    size_t  bytes;      /* of a row of w            */
} ltxi_job;
LTXI_FN ltxi_job ltxi_job_of(const ltx_mat *w, const ltx_mat *bias, float *y, int32_t ld)
{
    ltxi_job j;
    j.w = w; j.bias = bias != NULL && bias->data != NULL ? bias : NULL; j.y = y; j.ld = ld; j.map = NULL; j.add = 0;
    j.trait = w->data != NULL ? ltxi_trait_of(w->type) : 0; /* absent: no rows, so no tiles */
    j.bytes = ltxi_trait_bytes(&ltxi_traits[j.trait], w->cols);
    return j;
}
typedef struct ltxi_product {
    const ltxi_machine *m;
    const ltxi_acts *x;
    const ltxi_job *jobs;
    int32_t rows, tiles, parts;
} ltxi_product;

LTXI_FN int32_t ltxi_tiles_of(const ltx_mat *w) { return (w->rows + LTXI_LANES - 1) / LTXI_LANES; }

LTXI_FN float *ltxi_out_row(const ltxi_job *job, int32_t m) { return job->y + (size_t)(job->map == NULL ? m : job->map[m]) * (size_t)job->ld; }
/* Output rows first .. first + n - 1 from a tile computed into out, which holds them from lane `lane` on. */
LTXI_FN void ltxi_tile_out(const ltxi_kernels *k, const ltxi_job *job, const float *out, int32_t lane, int32_t first, int32_t n, int32_t m, int32_t count)
{
    int32_t i, r;
    for (i = 0; i < count; i++, out += LTXI_LANES) {
        float *y = ltxi_out_row(job, m + i) + first;
        if (job->add != 0) k->axpy(y, out + lane, job->add, n);
        else if (n == LTXI_LANES) memcpy(y, out, LTXI_LANES * 4);
        else memcpy(y, out + lane, (size_t)n * 4);
        for (r = 0; job->bias != NULL && r < n; r++) y[r] += ltxi_le_float((const uint8_t *)job->bias->data + (size_t)(first + r) * 4);
    }
}
/* The last tile of a matrix begins earlier, so that it never reads past the end; a matrix of fewer than sixteen rows goes row by row,
   all lanes the same. Formats that group rows fill up their last sixteen. */
LTXI_FN void ltxi_tile(const ltxi_product *p, const ltxi_job *job, int32_t tile)
{
    float block[(LTXI_TILE + 1) * LTXI_LANES], *out = block + (LTXI_ALIGN - (uintptr_t)block % LTXI_ALIGN) % LTXI_ALIGN / 4; /* lanes do not cross cache lines */
    const ltxi_trait *trait = &ltxi_traits[job->trait];
    int32_t first = tile * LTXI_LANES, n = ltxi_min(LTXI_LANES, job->w->rows - first), small = trait->group == 1 && job->w->rows < LTXI_LANES;
    int32_t lane = small || trait->group > 1 ? 0 : LTXI_LANES - n, most = LTXI_TILE / p->x->planes, m, r;
    const uint8_t *w = (const uint8_t *)job->w->data + (size_t)(first - lane) * job->bytes;
    for (m = 0; m < p->rows; m += most) {
        int32_t count = ltxi_min(most, p->rows - m);
        for (r = 0; r < count && count > 1; r++) LTXI_PREFETCH_WRITE(ltxi_out_row(job, m + r) + first); /* results lie a row apart: each is a line of its own */
        if (small) for (r = 0; r < n; r++) {
            p->m->k->tile[job->trait](w + (size_t)r * job->bytes, 0, p->x, m, count, job->w->cols, out);
            ltxi_tile_out(p->m->k, job, out, 0, r, 1, m, count);
        } else {
            p->m->k->tile[job->trait](w, job->bytes, p->x, m, count, job->w->cols, out);
            ltxi_tile_out(p->m->k, job, out, lane, first, n, m, count);
        }
    }
}
LTXI_FN void ltxi_product_task(void *arg, int32_t index)
{
    const ltxi_product *p = (const ltxi_product *)arg;
    int32_t t = (int32_t)((int64_t)p->tiles * index / p->parts), end = (int32_t)((int64_t)p->tiles * (index + 1) / p->parts), j = 0, base = 0;
    for (; t < end; t++) {
        while (t - base >= ltxi_tiles_of(p->jobs[j].w)) base += ltxi_tiles_of(p->jobs[j++].w);
        ltxi_tile(p, &p->jobs[j], t - base);
    }
}
LTXI_FN int32_t ltxi_acts_group(int32_t kind, int32_t cols) { return kind == LTXI_ACTS_BLOCK ? LTXI_BLOCK : kind == LTXI_ACTS_SUPER ? LTXI_SUPER : cols; }
typedef struct ltxi_rows_job { const ltxi_machine *m; const ltxi_acts *x; int32_t cols, parts; } ltxi_rows_job;
LTXI_FN void ltxi_quantize_task(void *arg, int32_t index)
{
    const ltxi_rows_job *j = (const ltxi_rows_job *)arg;
    int32_t r = (int32_t)((int64_t)j->x->rows * index / j->parts), end = (int32_t)((int64_t)j->x->rows * (index + 1) / j->parts);
    for (; r < end; r++) j->m->k->quantize_row(j->x, r, j->cols, ltxi_acts_group(j->x->kind, j->cols));
}
/* Activations as a kind of formats wants them; nothing to do if they are that already. */
LTXI_FN void ltxi_prepare(const ltxi_machine *m, ltxi_acts *x, int32_t rows, int32_t kind, int32_t cols)
{
    ltxi_rows_job j;
    if (x->kind == kind) return;
    x->kind = kind; x->rows = rows;
    x->planes = kind == LTXI_ACTS_ROW ? x->most_planes : 1;
    j.m = m; j.x = x; j.cols = cols;
    j.parts = (int64_t)rows * cols < 65536 ? 1 : ltxi_min(m->threads, rows);
    ltxi_parallel(&m->pool, ltxi_quantize_task, &j, j.parts);
}
/* Products that want the same kind of activations, cut into as many tasks as there are threads if that is worth the hand-over. */
LTXI_FN void ltxi_multiply_kind(ltxi_machine *m, const ltxi_acts *x, int32_t rows, const ltxi_job *jobs, int32_t n_jobs)
{
    ltxi_product p;
    double work = 0;
    int32_t j;
    p.m = m; p.x = x; p.jobs = jobs; p.rows = rows; p.tiles = 0;
    for (j = 0; j < n_jobs; j++) {
        p.tiles += ltxi_tiles_of(jobs[j].w);
        work += (double)jobs[j].w->rows * (double)jobs[j].w->cols * (double)rows;
        m->weight_bytes += (uint64_t)jobs[j].w->rows * jobs[j].bytes;
    }
    p.parts = work < 131072.0 ? 1 : ltxi_min(m->threads, p.tiles);
    ltxi_parallel(&m->pool, ltxi_product_task, &p, p.parts);
}
/* Up to LTXI_JOBS products of the same activations, the first `rows` of `all`, which has to stay the same until ltxi_acts_set. */
enum { LTXI_JOBS = 3 };
LTXI_FN void ltxi_multiply(ltxi_machine *m, ltxi_acts *x, int32_t rows, int32_t all, const ltxi_job *jobs, int32_t n_jobs)
{
    ltxi_job same[LTXI_JOBS];
    int32_t kind, j, n;
    for (kind = LTXI_ACTS_FLOAT; kind <= LTXI_ACTS_ROW; kind++) {
        for (n = j = 0; j < n_jobs; j++) if (ltxi_traits[jobs[j].trait].acts == kind) same[n++] = jobs[j];
        if (n == 0) continue;
        if (kind != LTXI_ACTS_FLOAT) ltxi_prepare(m, x, all, kind, jobs[0].w->cols);
        ltxi_multiply_kind(m, x, rows, same, n);
    }
}
LTXI_FN void ltxi_acts_set(ltxi_acts *x, const float *f) { x->f = f; x->kind = LTXI_ACTS_FLOAT; x->planes = 1; } /* nothing is quantized yet */
LTXI_FN void ltxi_acts_place(ltxi_arena *a, ltxi_acts *x, int32_t rows, int32_t cols, int32_t planes)
{
    size_t n, r = (size_t)rows;
    x->ld = ltxi_round_up(cols, LTXI_DEEP);
    x->most_planes = planes;
    n = ltxi_mul(r, (size_t)x->ld);
    ltxi_acts_set(x, NULL);
    x->q = (int8_t *)ltxi_take(a, n, (size_t)planes);
    x->d = (float *)ltxi_take(a, n / LTXI_BLOCK, 4);
    x->off = (int32_t *)ltxi_take(a, n / LTXI_BLOCK, (size_t)(4 * planes));
}

/* ==== >>cache =============================================================================================
   Owns keys and values: one cache per attention step. Entries are appended in ascending position and numbered from 0; entry e
   lives in a slot: itself, or with a window the first `sinks` entries stay and the others share a ring. Layout per kv head:
     keys    [slots / 16][head_dim][16]   so that sixteen positions are the lanes of one product (>>attention)
     values  [slots][head_dim rounded up to 16]
   int8: one scale per head and slot. May call: platform, formats, kernels.                                      */

typedef struct ltxi_cache {
    uint8_t *k, *v;
    float   *ks, *vs;  /* [kv head][slots], int8 only          */
    int32_t *position; /* [slots]                              */
    int32_t  n;        /* entries appended so far = fill mark  */
} ltxi_cache;
typedef struct ltxi_kv { /* shape shared by all caches of a session */
    int32_t heads, dim, pad; /* pad = dim rounded up to 16    */
    int32_t slots;           /* a multiple of 16              */
    int32_t ring, sinks, window; /* entries >= sinks use sinks + (e - sinks) % ring; window 0 = none */
    int32_t kind, bytes;     /* ltx_kv, bytes of an element   */
} ltxi_kv;

/* An entry's position is stored with the tag of the drafted row that made it, until it is accepted; 0 = none. */
enum { LTXI_TAG = 22 };
LTXI_FN int32_t ltxi_slot(const ltxi_kv *kv, int32_t entry) { return entry < kv->sinks ? entry : kv->sinks + (entry - kv->sinks) % kv->ring; }
LTXI_FN int32_t ltxi_entry_position(const ltxi_kv *kv, const ltxi_cache *c, int32_t entry) { return c->position[ltxi_slot(kv, entry)] & (LTX_MAX_TOKENS - 1); }
LTXI_FN int32_t ltxi_entry_tag(const ltxi_kv *kv, const ltxi_cache *c, int32_t entry) { return c->position[ltxi_slot(kv, entry)] >> LTXI_TAG; }
LTXI_FN uint8_t *ltxi_keys(const ltxi_kv *kv, const ltxi_cache *c, int32_t head, int32_t slot) /* slot: first of a panel */
{
    return c->k + ((size_t)head * (size_t)kv->slots + (size_t)slot) * (size_t)(kv->dim * kv->bytes);
}
LTXI_FN uint8_t *ltxi_values(const ltxi_kv *kv, const ltxi_cache *c, int32_t head, int32_t slot)
{
    return c->v + ((size_t)head * (size_t)kv->slots + (size_t)slot) * (size_t)(kv->pad * kv->bytes);
}
LTXI_FN void ltxi_cache_place(ltxi_arena *a, const ltxi_kv *kv, ltxi_cache *c)
{
    size_t n = ltxi_mul((size_t)kv->heads, (size_t)kv->slots), scales = kv->kind == LTX_KV_I8 ? n : 0;
    c->k = (uint8_t *)ltxi_take(a, ltxi_mul(n, (size_t)kv->dim), (size_t)kv->bytes);
    c->v = (uint8_t *)ltxi_take(a, ltxi_mul(n, (size_t)kv->pad), (size_t)kv->bytes);
    c->ks = (float *)ltxi_take(a, scales, 4);
    c->vs = (float *)ltxi_take(a, scales, 4);
    c->position = (int32_t *)ltxi_take(a, (size_t)kv->slots, 4);
    c->n = 0;
}

/* kv->dim floats of one head to the cache's format in out; returns the scale (int8). */
LTXI_FN float ltxi_kv_encode(const ltxi_kernels *k, const ltxi_kv *kv, const float *x, uint8_t *out)
{
    if (kv->kind == LTX_KV_I8) return k->quantize(x, kv->dim, (int8_t *)out);
    if (kv->kind == LTX_KV_F16) k->to_halves(x, kv->dim, out);
    else memcpy(out, x, (size_t)kv->dim * 4);
    return 1.0f;
}
/* Append one position: k and v [heads][dim]; returns the entry. */
LTXI_FN int32_t ltxi_append(const ltxi_kernels *kern, const ltxi_kv *kv, ltxi_cache *c, int32_t position, const float *k, const float *v)
{
    int32_t slot = ltxi_slot(kv, c->n), h, i, b = kv->bytes;
    uint8_t temp[LTX_MAX_HEAD * 4];
    memset(temp, 0, (size_t)(kv->pad * b)); /* it is stored up to pad */
    for (h = 0; h < kv->heads; h++) {
        if (slot == c->n && slot % 16 == 0) memset(ltxi_keys(kv, c, h, slot), 0, (size_t)(16 * kv->dim * b)); /* scores of a panel are computed whole: read nothing uninitialised */
        uint8_t *key = ltxi_keys(kv, c, h, slot & ~15) + (size_t)(slot & 15) * (size_t)b;
        size_t at = (size_t)h * (size_t)kv->slots + (size_t)slot;
        float s = ltxi_kv_encode(kern, kv, k + (size_t)h * (size_t)kv->dim, temp);
        if (kv->kind == LTX_KV_I8) c->ks[at] = s;
        if (b == 4) for (i = 0; i < kv->dim; i++) memcpy(key + (size_t)i * 64, temp + i * 4, 4);
        else if (b == 2) for (i = 0; i < kv->dim; i++) memcpy(key + (size_t)i * 32, temp + i * 2, 2);
        else for (i = 0; i < kv->dim; i++) key[(size_t)i * 16] = temp[i];
        s = ltxi_kv_encode(kern, kv, v + (size_t)h * (size_t)kv->dim, temp);
        if (kv->kind == LTX_KV_I8) c->vs[at] = s;
        memcpy(ltxi_values(kv, c, h, slot), temp, (size_t)(kv->pad * b));
    }
    c->position[slot] = position;
    return c->n++;
}
LTXI_FN void ltxi_cache_rewind(const ltxi_kv *kv, ltxi_cache *c, int32_t position)
{
    if (position == 0) { c->n = 0; return; }
    while (c->n > 0 && ltxi_entry_position(kv, c, c->n - 1) >= position) c->n--;
}
LTXI_FN int ltxi_sees_tag(uint64_t tags, int32_t tag) { return tag == 0 || (tags >> (tag - 1) & 1u) != 0; }
LTXI_FN void ltxi_move_entry(const ltxi_kv *kv, ltxi_cache *c, int32_t from, int32_t to)
{
    int32_t a = ltxi_slot(kv, from), b = ltxi_slot(kv, to), h, i;
    size_t e = (size_t)kv->bytes, panel = 16 * e;
    for (h = 0; h < kv->heads; h++) {
        uint8_t *ka = ltxi_keys(kv, c, h, a & ~15) + (size_t)(a & 15) * e, *kb = ltxi_keys(kv, c, h, b & ~15) + (size_t)(b & 15) * e;
        size_t row = (size_t)h * (size_t)kv->slots;
        for (i = 0; i < kv->dim; i++) memcpy(kb + (size_t)i * panel, ka + (size_t)i * panel, e);
        memcpy(ltxi_values(kv, c, h, b), ltxi_values(kv, c, h, a), (size_t)kv->pad * e);
        if (kv->kind == LTX_KV_I8) { c->ks[row + (size_t)b] = c->ks[row + (size_t)a]; c->vs[row + (size_t)b] = c->vs[row + (size_t)a]; }
    }
    c->position[b] = c->position[a];
}
/* Of the tagged entries, which are the last ones, keep those whose tags are among `tags`, side by side and without tags. */
LTXI_FN void ltxi_cache_accept(const ltxi_kv *kv, ltxi_cache *c, uint64_t tags)
{
    int32_t e = c->n, n = c->n, end;
    while (e > 0 && ltxi_entry_tag(kv, c, e - 1) != 0) e--;
    for (end = n, n = e; e < end; e++) {
        if (!ltxi_sees_tag(tags, ltxi_entry_tag(kv, c, e))) continue;
        if (e != n) ltxi_move_entry(kv, c, e, n);
        c->position[ltxi_slot(kv, n)] &= LTX_MAX_TOKENS - 1;
        n++;
    }
    c->n = n;
}
/* What a row whose last entry is `last` may see: entries 0 .. sinks - 1 and first .. last, but for tagged ones. Positions ascend by at least one
   where nothing is tagged. */
typedef struct ltxi_seen { int32_t sinks, first, last; } ltxi_seen;
LTXI_FN ltxi_seen ltxi_sees(const ltxi_kv *kv, const ltxi_cache *c, int32_t last, int32_t position)
{
    ltxi_seen s;
    int32_t e = kv->sinks, oldest = position - kv->window, rivals = ltxi_entry_tag(kv, c, last); /* at most so many entries share a position */
    if (kv->window > 0) for (e = ltxi_max(e, last - kv->window + 1 - rivals); e < last && ltxi_entry_position(kv, c, e) <= oldest; e++) { }
    s.sinks = ltxi_min(kv->sinks, last + 1);
    s.first = ltxi_min(e, last + 1); /* only sinks so far: nothing from here on */
    s.last = last;
    return s;
}

/* ==== >>attention =========================================================================================
   Owns scores, softmax, values over a cache. Per query: score = q . k, one chain over the head; maximum; exponentials and their sum
   (sixteen chains over the attended entries in ascending order); values, one chain over the entries per element; times 1 / sum.
   Work is cut into jobs of one kv head times up to LTXI_QROWS rows, which share the reading and widening of keys and values.
   May call: platform, kernels, cache.                                                           */

enum { LTXI_QROWS = 8, LTXI_CHUNK = 64 }; /* rows of a job; slots of keys or values at a time */

typedef struct ltxi_attention {
    const ltxi_machine *m;
    const ltxi_kv *kv;
    const ltxi_cache *c;
    const float *q, *q_sink; /* [rows][ld]: heads * dim; the second rotated for the sinks, NULL = same         */
    float *out;              /* [rows][out_ld]                                                                 */
    const int32_t *entry;    /* [rows] entry that each row appended: it sees that one and earlier ones          */
    const int32_t *place;    /* [rows] position that its window counts from                                     */
    uint64_t tags;           /* of tagged entries it sees only these; then there is one row. All bits: see everything */
    int32_t rows, ld, out_ld, group; /* group = query heads per kv head                                                */
    float  *scratch;         /* [parts] areas of `area` floats                                                 */
    size_t  area;
    int32_t jobs, parts;
} ltxi_attention;

/* A job sees what its rows see, as a list of sinks + last + 1 - first places. */
typedef struct ltxi_span { int32_t place, slot, count; } ltxi_span; /* neighbours in the list and in memory */

LTXI_FN size_t ltxi_attention_area(const ltxi_kv *kv, int32_t rows, int32_t group) /* floats, see ltxi_attend_job */
{
    size_t queries = (size_t)ltxi_min(rows, LTXI_QROWS) * (size_t)group;
    return ltxi_add((size_t)(LTXI_QUERIES * LTXI_CHUNK), ltxi_mul(queries, (size_t)kv->slots + (size_t)kv->pad + 16));
}
enum { LTXI_SPANS = 3 + 65 }; /* sinks, two parts of the ring, runs of tagged entries */
/* Spans of what is seen; what is hidden counts no more: seen->last is that much less afterwards. */
LTXI_FN int32_t ltxi_spans(const ltxi_attention *a, ltxi_seen *seen, ltxi_span *span)
{
    const ltxi_kv *kv = a->kv;
    int32_t n = 0, e = seen->first, place = seen->sinks, last = seen->last;
    if (seen->sinks > 0) { span[n].place = 0; span[n].slot = 0; span[n++].count = seen->sinks; }
    while (e <= last) {
        int32_t slot = ltxi_slot(kv, e), most = ltxi_min(last + 1 - e, kv->sinks + kv->ring - slot), count = most; /* the ring may wrap once */
        if (a->tags + 1 != 0) for (count = 0; count < most && ltxi_sees_tag(a->tags, ltxi_entry_tag(kv, a->c, e + count)); count++) { }
        if (count == 0) { e++; seen->last--; continue; }
        span[n].place = place; span[n].slot = slot; span[n++].count = count;
        place += count;
        e += count;
    }
    return n;
}
/* Query `i` of a job: row r0 + i / group, head `head * group + i % group`. */
LTXI_FN const float *ltxi_query(const ltxi_attention *a, const float *base, int32_t head, int32_t r0, int32_t i)
{
    return base + (size_t)(r0 + i / a->group) * (size_t)a->ld + (size_t)(head * a->group + i % a->group) * (size_t)a->kv->dim;
}
/* Scores of all queries of a job against a span, panel by panel, put in their places of list[query][ld]. */
LTXI_FN void ltxi_span_scores(const ltxi_attention *a, int32_t head, int32_t r0, int32_t queries, const ltxi_span *span, int32_t sinks, float *raw, float *list, size_t ld)
{
    const ltxi_kv *kv = a->kv;
    const float *base = sinks && a->q_sink != NULL ? a->q_sink : a->q, *q[LTXI_QUERIES];
    int32_t end = span->slot + span->count, at, i, j, n;
    float *s[LTXI_QUERIES];
    for (at = span->slot & ~15; at < end; at += LTXI_CHUNK) {
        int32_t panels = (ltxi_min(end - at, LTXI_CHUNK) + 15) / 16, lo = ltxi_max(at, span->slot), hi = ltxi_min(at + panels * 16, end);
        int direct = span->place == span->slot && lo == at; /* no copy */
        for (i = 0; i < queries; i += LTXI_QUERIES) {
            n = ltxi_min(LTXI_QUERIES, queries - i);
            for (j = 0; j < n; j++) {
                q[j] = ltxi_query(a, base, head, r0, i + j);
                s[j] = direct ? list + (size_t)(i + j) * ld + at : raw + j * LTXI_CHUNK;
            }
            a->m->k->scores(ltxi_keys(kv, a->c, head, at), kv->bytes, q, n, kv->dim, panels, s);
            for (j = 0; j < n; j++) {
                if (kv->kind == LTX_KV_I8) a->m->k->mulv(s[j] + (lo - at), a->c->ks + (size_t)head * (size_t)kv->slots + lo, 0, hi - lo);
                if (!direct) memcpy(list + (size_t)(i + j) * ld + span->place + (lo - span->slot), s[j] + (lo - at), (size_t)(hi - lo) * 4);
            }
        }
    }
}
/* Up to four queries and the places [from, to) of a chunk of slots that each of them sees. */
typedef struct ltxi_four { int32_t count, from[LTXI_QUERIES], to[LTXI_QUERIES]; float *p[LTXI_QUERIES], *o[LTXI_QUERIES]; } ltxi_four;
/* o += p * value for one of them, or for all (index -1), over [from, to) */
LTXI_FN void ltxi_four_values(const ltxi_attention *a, const ltxi_four *f, int32_t index, const uint8_t *v, int32_t from, int32_t to)
{
    const float *p[LTXI_QUERIES];
    int32_t j, base = index < 0 ? 0 : index, n = index < 0 ? f->count : 1;
    if (from >= to) return;
    for (j = 0; j < n; j++) p[j] = f->p[base + j] + from;
    a->m->k->values(v + (size_t)from * (size_t)(a->kv->pad * a->kv->bytes), a->kv->bytes, a->kv->pad, to - from, p, n, f->o + base);
}
/* Add p * value over a span, four queries at a time, each in order of slots: what only one of them sees before and after what all see. The weights of a row's
   queries for places [from, to) are at list + shift. */
LTXI_FN void ltxi_span_values(const ltxi_attention *a, int32_t head, const ltxi_seen *row, int32_t queries, const ltxi_span *span, const ltxi_seen *all, float *list, size_t ld, float *o)
{
    const ltxi_kv *kv = a->kv;
    int32_t end = span->slot + span->count, at, i, j, is_sink = span->place < all->sinks, first, last;
    ltxi_four f;
    for (at = span->slot; at < end; at += LTXI_CHUNK) for (i = 0; i < queries; i += LTXI_QUERIES) {
        int32_t count = ltxi_min(end - at, LTXI_CHUNK), place = span->place + at - span->slot;
        const uint8_t *v = ltxi_values(kv, a->c, head, at);
        f.count = ltxi_min(LTXI_QUERIES, queries - i);
        for (first = 0, last = count, j = 0; j < f.count; j++) {
            const ltxi_seen *r = &row[(i + j) / a->group];
            f.from[j] = is_sink ? 0 : ltxi_max(0, all->sinks + r->first - all->first - place);
            f.to[j] = ltxi_min(count, is_sink ? r->sinks - place : all->sinks + r->last + 1 - all->first - place);
            f.p[j] = list + (size_t)(i + j) * ld + place + (is_sink ? r->first - all->first : 0);
            f.o[j] = o + (size_t)(i + j) * (size_t)(kv->pad + 16);
            if (kv->kind == LTX_KV_I8 && f.from[j] < f.to[j])
                a->m->k->mulv(f.p[j] + f.from[j], a->c->vs + (size_t)head * (size_t)kv->slots + at + f.from[j], 0, f.to[j] - f.from[j]);
            first = ltxi_max(first, f.from[j]);
            last = ltxi_min(last, f.to[j]);
        }
        for (j = 0; j < f.count; j++) ltxi_four_values(a, &f, j, v, f.from[j], ltxi_min(first, f.to[j]));
        ltxi_four_values(a, &f, -1, v, first, last);
        for (j = 0; j < f.count; j++) ltxi_four_values(a, &f, j, v, ltxi_max(ltxi_max(last, first), f.from[j]), f.to[j]);
    }
}
LTXI_FN void ltxi_attend_job(const ltxi_attention *a, int32_t job, float *scratch)
{
    const ltxi_kv *kv = a->kv;
    const ltxi_kernels *k = a->m->k;
    int32_t head = job % kv->heads, r0 = job / kv->heads * LTXI_QROWS, n = ltxi_min(LTXI_QROWS, a->rows - r0), r, g, i, n_spans;
    size_t ld = (size_t)kv->slots, queries = (size_t)n * (size_t)a->group;
    float *raw = scratch, *list = raw + LTXI_QUERIES * LTXI_CHUNK, *o = list + queries * ld;
    ltxi_seen row[LTXI_QROWS], all;
    ltxi_span span[LTXI_SPANS];
    for (r = 0; r < n; r++) row[r] = ltxi_sees(kv, a->c, a->entry[r0 + r], a->place[r0 + r]);
    all = row[n - 1]; /* rows ascend, so the last one sees most sinks and the first one the oldest entry */
    all.first = ltxi_max(row[0].first, all.sinks);
    if (all.first > all.last) all.first = all.last + 1;
    for (r = 0; r < n; r++) row[r].first = ltxi_max(row[r].first, all.first);
    n_spans = ltxi_spans(a, &all, span);
    if (n == 1) row[0].last = all.last;
    for (i = 0; i < n_spans; i++) ltxi_span_scores(a, head, r0, (int32_t)queries, &span[i], span[i].place < all.sinks, raw, list, ld);
    memset(o, 0, queries * (size_t)(kv->pad + 16) * 4);
    for (r = 0; r < n; r++) for (g = 0; g < a->group; g++) {
        size_t query = (size_t)(r * a->group + g);
        float *p = list + query * ld, *start = p + (row[r].first - all.first);
        int32_t seen = row[r].sinks + ltxi_max(0, row[r].last + 1 - row[r].first);
        if (start != p && row[r].sinks > 0) memmove(start, p, (size_t)row[r].sinks * 4); /* close the gap: the order of entries stays */
        o[query * (size_t)(kv->pad + 16) + (size_t)kv->pad] = k->expsum(start, k->maximum(start, seen), seen, NULL);
    }
    for (i = 0; i < n_spans; i++) ltxi_span_values(a, head, row, (int32_t)queries, &span[i], &all, list, ld, o);
    for (r = 0; r < n; r++) for (g = 0; g < a->group; g++) {
        float *oq = o + (size_t)(r * a->group + g) * (size_t)(kv->pad + 16);
        k->mulv(oq, NULL, 1.0f / oq[kv->pad], kv->dim);
        memcpy(a->out + (size_t)(r0 + r) * (size_t)a->out_ld + (size_t)(head * a->group + g) * (size_t)kv->dim, oq, (size_t)kv->dim * 4);
    }
}
LTXI_FN void ltxi_attend_task(void *arg, int32_t index)
{
    const ltxi_attention *a = (const ltxi_attention *)arg;
    int32_t j, end = (int32_t)((int64_t)a->jobs * (index + 1) / a->parts);
    for (j = (int32_t)((int64_t)a->jobs * index / a->parts); j < end; j++) ltxi_attend_job(a, j, a->scratch + (size_t)index * a->area);
}
LTXI_FN void ltxi_attend(ltxi_attention *a)
{
    double work = (double)a->rows * (double)ltxi_min(a->entry[a->rows - 1], a->kv->slots) * (double)a->kv->heads * (double)(a->kv->dim * a->group);
    a->jobs = (a->rows + LTXI_QROWS - 1) / LTXI_QROWS * a->kv->heads;
    a->parts = work < 65536.0 ? 1 : ltxi_min(a->m->threads, a->jobs);
    ltxi_parallel(&a->m->pool, ltxi_attend_task, a, a->parts);
}

/* ==== >>sampling ==========================================================================================
   Owns what logits say, probabilities, filters, the seeded generator. May call: platform, functions, kernels.   */

LTXI_FN int32_t ltxi_argmax(const ltxi_kernels *k, const float *x, int32_t n) /* lowest index of the maximum */
{
    float m = k->maximum(x, n);
    int32_t i;
    for (i = 0; i < n - 1 && x[i] != m; i++) { }
    return i;
}
/* What a row's logits say: the best token, its probability, its lead over the second, entropy in nats. probs [vocab] is scratch, where all but the best stay. */
typedef struct ltxi_sure { float prob, margin, entropy; int32_t token, second; } ltxi_sure;
LTXI_FN ltxi_sure ltxi_how_sure(const ltxi_kernels *k, const float *logits, float *probs, int32_t n)
{
    ltxi_sure r;
    float max, second, sum, weighted;
    r.token = ltxi_argmax(k, logits, n);
    memcpy(probs, logits, (size_t)n * 4);
    max = logits[r.token];
    sum = k->expsum(probs, max, n, &weighted);
    probs[r.token] = 0.0f;
    second = k->maximum(probs, n);
    r.second = -1; /* looked for by whom it interests */
    r.prob = 1.0f / sum;
    r.margin = (1.0f - second) / sum;
    r.entropy = ltxi_ln(sum) - weighted / sum;
    return r;
}
LTXI_FN ltxi_sure ltxi_sure_of_two(const ltxi_kernels *k, const float *logits, float *probs, int32_t n) /* and which token is second */
{
    ltxi_sure r = ltxi_how_sure(k, logits, probs, n);
    r.second = ltxi_argmax(k, probs, n);
    return r;
}

LTX_API float ltx_random(ltx_sampler *sampler) /* splitmix64: Steele, Lea, Flood, 2014 */
{
    uint64_t z = sampler->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (float)(z >> 40) * 5.9604644775390625e-8f;
}
LTX_API int32_t ltx_draw(const float *probs, int32_t n, float u)
{
    int32_t i, last = 0;
    float sum = 0;
    for (i = 0; i < n; i++) if (probs[i] > 0) {
        sum += probs[i];
        last = i;
        if (u < sum) return i;
    }
    return last; /* rounding left a rest */
}

LTXI_FN int ltxi_is_greedy(const ltx_sampler *s) { return !(s->temperature > 1e-6f); } /* 1 / temperature stays finite */

/* Binary heap of token ids, most probable on top, lower id first among equals. */
LTXI_FN int ltxi_before(const float *p, int32_t a, int32_t b) { return p[a] > p[b] || (!(p[b] > p[a]) && a < b); }
LTXI_FN void ltxi_sift(const float *p, int32_t *heap, int32_t n, int32_t i)
{
    int32_t child, id = heap[i];
    while ((child = 2 * i + 1) < n) {
        if (child + 1 < n && ltxi_before(p, heap[child + 1], heap[child])) child++;
        if (ltxi_before(p, id, heap[child])) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = id;
}
/* Zero what top_k, top_p and min_p exclude: pop the most probable until one of them says enough. Returns the mass kept. */
LTXI_FN float ltxi_filter(const ltx_sampler *f, float *p, int32_t n, int32_t *heap)
{
    int32_t i, left = n, kept = 0;
    float mass = 0, least, top_p = f->top_p > 0 ? f->top_p : 1.0f;
    for (i = 0; i < n; i++) heap[i] = i;
    for (i = n / 2 - 1; i >= 0; i--) ltxi_sift(p, heap, n, i);
    least = p[heap[0]] * f->min_p;
    while (left > 0 && (f->top_k <= 0 || kept < f->top_k) && !(top_p < 1.0f && mass >= top_p) && !(kept > 0 && p[heap[0]] < least)) {
        int32_t top = heap[0];
        mass += p[top];
        kept++;
        heap[0] = heap[--left];
        ltxi_sift(p, heap, left, 0);
        heap[left] = top;
    }
    for (i = 0; i < left; i++) p[heap[i]] = 0.0f;
    return mass;
}
LTXI_FN void ltxi_probabilities(const ltxi_kernels *k, const ltx_sampler *f, const float *logits, int32_t n, float *probs, int32_t *order)
{
    float mass;
    int32_t best = ltxi_argmax(k, logits, n);
    if (ltxi_is_greedy(f)) {
        memset(probs, 0, (size_t)n * 4);
        probs[best] = 1.0f;
        return;
    }
    memcpy(probs, logits, (size_t)n * 4);
    k->mulv(probs, NULL, 1.0f / f->temperature, n);
    k->mulv(probs, NULL, 1.0f / k->expsum(probs, probs[best], n, NULL), n);
    if (f->top_k <= 0 && !(f->top_p > 0 && f->top_p < 1.0f) && !(f->min_p > 0)) return;
    mass = ltxi_filter(f, probs, n, order);
    k->mulv(probs, NULL, 1.0f / mass, n);
}
LTX_API void ltx_probabilities(int32_t isa, const ltx_sampler *sampler, const float *logits, int32_t n, float *probs, int32_t *order)
{
    ltxi_kernels table;
    const ltxi_kernels *k = ltxi_kernels_of(isa, &table);
    ltxi_probabilities(k != NULL ? k : ltxi_kernels_of(LTX_ISA_SCALAR, &table), sampler, logits, n, probs, order);
}

/* ==== >>model =============================================================================================
   Owns the check of a model at the door and its defaults; after it the hot path has no failure. May call: platform, formats.  */

/* Double arithmetic for init: products pass through memory, so that no compiler fuses them. */
LTXI_FN double ltxi_dmul(double a, double b) { volatile double p = a * b; return p; }
LTXI_FN double ltxi_dlog(double x) /* x >= 1: halve, then 2 atanh((x-1)/(x+1)) as a series */
{
    double n = 0, s, z, term, sum = 0;
    int32_t i;
    while (x > 1.5) { x = x / 2; n = n + 1; }
    s = (x - 1) / (x + 1);
    z = ltxi_dmul(s, s);
    for (i = 0, term = s; i < 20; i++, term = ltxi_dmul(term, z)) sum = sum + term / (double)(2 * i + 1);
    return ltxi_dmul(n, 0.69314718055994530942) + 2 * sum;
}
LTXI_FN double ltxi_dexp_neg(double x) /* exp(-x), x >= 0: series on x / 2^k, then squared k times */
{
    double term = 1, sum = 1;
    int32_t k = 0, i;
    while (x > 0.125) { x = x / 2; k++; }
    for (i = 1; i < 14; i++) { term = ltxi_dmul(term, -x) / (double)i; sum = sum + term; }
    for (; k > 0; k--) sum = ltxi_dmul(sum, sum);
    return sum;
}
/* Rope frequencies theta^(-2i/dims) / (scale factor_i) as sums of two floats, zeros up to ld; high NULL: write none. Returns how many positions keep their
   angles where sine and cosine keep their accuracy; 0 if a frequency is no number. */
LTXI_FN int32_t ltxi_frequencies(const ltx_model *m, float *high, float *low, int32_t ld)
{
    double ln = ltxi_dlog((double)m->rope_theta), most = 1, f;
    int32_t i;
    for (i = 0; high != NULL && i < ld; i++) high[i] = low[i] = 0.0f;
    for (i = 0; i < m->rope_dims / 2; i++) {
        f = ltxi_dexp_neg(ltxi_dmul(ln, 2.0 * (double)i / (double)m->rope_dims)) / (double)m->rope_scale;
        if (m->rope_factors.data != NULL) f = f / (double)ltxi_le_float((const uint8_t *)m->rope_factors.data + (size_t)i * 4);
        if (!(f >= 0 && f <= (double)LTX_MAX_TOKENS)) return 0;
        if (f > most) most = f;
        if (high == NULL) continue;
        high[i] = (float)f;
        low[i] = (float)(f - (double)high[i]);
    }
    return (int32_t)((double)LTX_MAX_TOKENS / most);
}
LTXI_FN int32_t ltxi_positions(const ltx_model *m)
{
    if (m->rope_scale >= 1 && m->rope_factors.data == NULL) return LTX_MAX_TOKENS; /* no frequency is above 1 */
    return ltxi_frequencies(m, NULL, NULL, 0);
}
LTXI_FN void ltxi_model_defaults(ltx_model *m)
{
    if (m->n_kv_heads == 0) m->n_kv_heads = m->n_heads;
    if (m->head_dim == 0 && m->n_heads > 0) m->head_dim = m->dim / m->n_heads;
    if (m->ctx == 0) m->ctx = 512;
    if (m->rope_dims == 0) m->rope_dims = m->head_dim;
    if (m->rope_pairs == LTX_ROPE_NONE) m->rope_dims = 0;
    if (m->norm_eps == 0) m->norm_eps = 1e-5f;
    if (m->rope_theta == 0) m->rope_theta = 10000.0f;
    if (m->rope_scale == 0) m->rope_scale = 1.0f;
    if (m->attn_scale == 0) m->attn_scale = m->head_dim > 0 ? 1.0f / sqrtf((float)m->head_dim) : 1.0f;
}
LTXI_FN const ltx_mat *ltxi_head_of(const ltx_model *m) { return m->head.data != NULL ? &m->head : &m->embed; }
LTXI_FN int32_t ltxi_draft_id(const ltx_model *m, int32_t i) { return (int32_t)ltxi_u32((const uint8_t *)m->draft_ids + (size_t)i * 4); }
LTXI_FN int ltxi_has_attn(const ltx_layer *l) { return l->wq.data != NULL; }
LTXI_FN int ltxi_has_ffn(const ltx_layer *l) { return l->w_up.data != NULL; }

/* One tensor: vectors are F32 with one row. rows or cols -1 = any. */
enum { LTXI_OPTIONAL = 1, LTXI_VECTOR = 2 };
LTXI_FN ltx_result ltxi_check_mat(const ltx_log *log, int32_t layer, const char *name, const ltx_mat *w, int32_t rows, int32_t cols, int32_t flags)
{
    int32_t t = ltxi_trait_of(w->type);
    if (w->data == NULL) return flags & LTXI_OPTIONAL ? LTX_OK : ltxi_fail(log, LTX_E_MODEL, layer, name, LTXI_S("tensor is missing"), 0, 0);
    if (t < 0) return ltxi_fail(log, LTX_E_ABSENT, layer, name, LTXI_S("number format is not built in"), LTX_F32, w->type);
    if (flags & LTXI_VECTOR && w->type != LTX_F32) return ltxi_fail(log, LTX_E_MODEL, layer, name, LTXI_S("vector has to be F32"), LTX_F32, w->type);
    if (w->rows < 1 || w->rows > LTX_MAX_DIM || (rows >= 0 && w->rows != rows)) return ltxi_fail(log, LTX_E_MODEL, layer, name, LTXI_S("rows differ"), rows, w->rows);
    if (w->cols < 1 || w->cols > LTX_MAX_DIM || (cols >= 0 && w->cols != cols)) return ltxi_fail(log, LTX_E_MODEL, layer, name, LTXI_S("cols differ"), cols, w->cols);
    if (w->cols % ltxi_traits[t].block != 0) return ltxi_fail(log, LTX_E_MODEL, layer, name, LTXI_S("cols are no multiple of the format's block"), ltxi_traits[t].block, w->cols);
    if (ltxi_traits[t].acts == LTXI_ACTS_ROW && w->cols > LTX_MAX_ROW_COLS) return ltxi_fail(log, LTX_E_MODEL, layer, name, LTXI_S("too many cols for this format"), LTX_MAX_ROW_COLS, w->cols);
    return LTX_OK;
}
LTXI_FN ltx_result ltxi_check_layer(const ltx_log *log, const ltx_model *m, int32_t i)
{
    const ltx_layer *l = &m->layers[i];
    int32_t d = m->dim, q = m->n_heads * m->head_dim, k = m->n_kv_heads * m->head_dim, f = l->w_up.rows, c, opt = LTXI_OPTIONAL, vec = LTXI_VECTOR;
    int32_t no_attn = l->wq.data == NULL ? LTXI_OPTIONAL : 0, no_kv = l->wk.data == NULL && l->wv.data == NULL ? LTXI_OPTIONAL : 0, no_ffn = l->w_up.data == NULL ? LTXI_OPTIONAL : 0;
    ltx_result r;
    struct { const char *name; const ltx_mat *w; int32_t rows, cols, flags; } t[23];
    int32_t n = 0;
#define LTXI_WANT(field, rows_, cols_, flags_) t[n].name = #field; t[n].w = &l->field; t[n].rows = rows_; t[n].cols = cols_; t[n++].flags = flags_
    LTXI_WANT(attn_norm, 1, d, vec | no_attn); LTXI_WANT(wq, q, d, no_attn); LTXI_WANT(wk, k, d, no_kv); LTXI_WANT(wv, k, d, no_kv); LTXI_WANT(wo, d, q, no_attn);
    LTXI_WANT(bq, 1, q, vec | opt); LTXI_WANT(bk, 1, k, vec | opt); LTXI_WANT(bv, 1, k, vec | opt); LTXI_WANT(bo, 1, d, vec | opt);
    LTXI_WANT(q_norm, 1, m->head_dim, vec | opt); LTXI_WANT(k_norm, 1, m->head_dim, vec | opt);
    LTXI_WANT(ffn_norm, 1, d, vec | no_ffn); LTXI_WANT(w_up, -1, d, no_ffn); LTXI_WANT(w_down, d, no_ffn ? -1 : f, no_ffn); LTXI_WANT(w_gate, no_ffn ? -1 : f, d, opt);
    LTXI_WANT(b_gate, 1, no_ffn ? -1 : f, vec | opt); LTXI_WANT(b_up, 1, no_ffn ? -1 : f, vec | opt); LTXI_WANT(b_down, 1, d, vec | opt);
    LTXI_WANT(attn_norm_bias, 1, d, vec | opt); LTXI_WANT(ffn_norm_bias, 1, d, vec | opt); LTXI_WANT(router, 1, d, opt); LTXI_WANT(router_bias, 1, 1, vec | opt); LTXI_WANT(router_norm, 1, d, vec | opt);
#undef LTXI_WANT
    for (c = 0; c < n; c++) if ((r = ltxi_check_mat(log, i, t[c].name, t[c].w, t[c].rows, t[c].cols, t[c].flags)) != LTX_OK) return r;
    if (no_attn && no_ffn) return ltxi_fail(log, LTX_E_MODEL, i, "layers", LTXI_S("layer has neither attention nor ffn"), 1, 0);
    if (no_attn && l->attn_norm.data != NULL) return ltxi_fail(log, LTX_E_MODEL, i, "wq", LTXI_S("tensor is missing"), 0, 0);
    if (no_ffn && l->ffn_norm.data != NULL) return ltxi_fail(log, LTX_E_MODEL, i, "w_up", LTXI_S("tensor is missing"), 0, 0);
    if (no_attn && (l->wk.data != NULL || l->wv.data != NULL || l->wo.data != NULL)) return ltxi_fail(log, LTX_E_MODEL, i, "wq", LTXI_S("tensor is missing"), 0, 0);
    if (no_ffn && (l->w_gate.data != NULL || l->w_down.data != NULL)) return ltxi_fail(log, LTX_E_MODEL, i, "w_up", LTXI_S("tensor is missing"), 0, 0);
    return LTX_OK;
}
LTXI_FN ltx_result ltxi_check_range(const ltx_log *log, const char *name, int64_t low, int64_t high, int64_t got)
{
    if (got < low) return ltxi_fail(log, LTX_E_MODEL, -1, name, LTXI_S("too small"), low, got);
    if (got > high) return ltxi_fail(log, LTX_E_MODEL, -1, name, LTXI_S("too large"), high, got);
    return LTX_OK;
}
LTXI_FN int ltxi_finite(float x) { return (ltxi_bits(x) & 0x7f800000u) != 0x7f800000u; }
LTXI_FN int ltxi_finite_positive(float x) { return x > 0 && x <= FLT_MAX; }

LTX_API ltx_result ltx_model_check(const ltx_model *model, const ltx_log *log)
{
    ltx_model m;
    ltx_result r;
    int32_t i;
    if (model == NULL) return LTX_E_ARG;
    m = *model;
    if ((r = ltxi_check_range(log, "dim", 1, LTX_MAX_DIM, m.dim)) != LTX_OK || (r = ltxi_check_range(log, "n_layers", 1, LTX_MAX_LAYERS, m.n_layers)) != LTX_OK
        || (r = ltxi_check_range(log, "n_heads", 1, 65536, m.n_heads)) != LTX_OK) return r;
    ltxi_model_defaults(&m);
    if ((r = ltxi_check_range(log, "n_kv_heads", 1, m.n_heads, m.n_kv_heads)) != LTX_OK || (r = ltxi_check_range(log, "head_dim", 2, LTX_MAX_HEAD, m.head_dim)) != LTX_OK
        || (r = ltxi_check_range(log, "vocab", 1, LTX_MAX_DIM, m.vocab)) != LTX_OK || (r = ltxi_check_range(log, "ctx", 1, LTX_MAX_TOKENS, m.ctx)) != LTX_OK
        || (r = ltxi_check_range(log, "rope_pairs", 0, LTX_ROPE_NONE, m.rope_pairs)) != LTX_OK || (r = ltxi_check_range(log, "rope_dims", 0, m.head_dim, m.rope_dims)) != LTX_OK
        || (r = ltxi_check_range(log, "act", 0, LTX_ACT_RELU, m.act)) != LTX_OK || (r = ltxi_check_range(log, "heads * head_dim", 1, LTX_MAX_DIM, (int64_t)m.n_heads * m.head_dim)) != LTX_OK)
        return r;
    if (m.n_heads % m.n_kv_heads != 0) return ltxi_fail(log, LTX_E_MODEL, -1, "n_kv_heads", LTXI_S("does not divide n_heads"), m.n_heads, m.n_kv_heads);
    if (m.head_dim % 2 != 0 || m.rope_dims % 2 != 0) return ltxi_fail(log, LTX_E_MODEL, -1, "head_dim", LTXI_S("head_dim and rope_dims have to be even"), m.head_dim, m.rope_dims);
    if (!ltxi_finite_positive(m.norm_eps) || !ltxi_finite_positive(m.rope_scale) || !ltxi_finite_positive(m.attn_scale) || !(m.rope_theta >= 1.0f && m.rope_theta <= 1e12f))
        return ltxi_fail(log, LTX_E_MODEL, -1, "norm_eps, rope_theta, rope_scale or attn_scale", LTXI_S("out of range"), 0, 0);
    if (m.layers == NULL) return ltxi_fail(log, LTX_E_MODEL, -1, "layers", LTXI_S("missing"), m.n_layers, 0);
    if ((r = ltxi_check_range(log, "norm", 0, LTX_NORM_LAYER, m.norm)) != LTX_OK || (r = ltxi_check_range(log, "norm_after", 0, 1, m.norm_after)) != LTX_OK
        || (r = ltxi_check_range(log, "both_ways", 0, 1, m.both_ways)) != LTX_OK
        || (r = ltxi_check_mat(log, -1, "embed", &m.embed, m.vocab, m.dim, m.head.data != NULL ? LTXI_OPTIONAL : 0)) != LTX_OK
        || (r = ltxi_check_mat(log, -1, "out_norm", &m.out_norm, 1, m.dim, LTXI_VECTOR | (m.norm_after ? LTXI_OPTIONAL : 0))) != LTX_OK
        || (r = ltxi_check_mat(log, -1, "out_norm_bias", &m.out_norm_bias, 1, m.dim, LTXI_VECTOR | LTXI_OPTIONAL)) != LTX_OK
        || (r = ltxi_check_mat(log, -1, "head_bias", &m.head_bias, 1, m.vocab, LTXI_VECTOR | LTXI_OPTIONAL)) != LTX_OK
        || (r = ltxi_check_mat(log, -1, "head", &m.head, m.vocab, m.dim, LTXI_OPTIONAL)) != LTX_OK
        || (r = ltxi_check_mat(log, -1, "probes", &m.probes, m.n_layers, m.dim, LTXI_OPTIONAL)) != LTX_OK
        || (m.probes.data != NULL && (r = ltxi_check_mat(log, -1, "probe_bias", &m.probe_bias, 1, m.n_layers, LTXI_VECTOR)) != LTX_OK)
        || (r = ltxi_check_mat(log, -1, "rope_factors", &m.rope_factors, 1, m.rope_dims / 2, LTXI_OPTIONAL | LTXI_VECTOR)) != LTX_OK) return r;
    if ((r = ltxi_check_range(log, "n_transfers", 0, 8, m.n_transfers)) != LTX_OK || (r = ltxi_check_range(log, "transfers", 1, 1, m.transfers != NULL || m.n_transfers == 0)) != LTX_OK) return r;
    for (i = 0; i < m.n_transfers; i++) if ((r = ltxi_check_mat(log, i, "transfers", &m.transfers[i].h, m.dim, m.dim, 0)) != LTX_OK
        || (r = ltxi_check_range(log, "transfers.step", i > 0 ? m.transfers[i - 1].step : 1, LTX_MAX_STEPS, m.transfers[i].step)) != LTX_OK) return r;
    for (i = 0; m.exit_heads != NULL && i < m.n_layers; i++) {
        const ltx_exit *e = &m.exit_heads[i];
        if ((r = ltxi_check_mat(log, i, "exit_heads.norm", &e->norm, 1, m.dim, LTXI_VECTOR | LTXI_OPTIONAL)) != LTX_OK || (r = ltxi_check_mat(log, i, "exit_heads.norm_bias", &e->norm_bias, 1, m.dim, LTXI_VECTOR | LTXI_OPTIONAL)) != LTX_OK
            || (r = ltxi_check_mat(log, i, "exit_heads.head", &e->head, m.vocab, m.dim, LTXI_OPTIONAL)) != LTX_OK) return r;
        if (e->head.data != NULL && m.n_draft_ids > 0) return ltxi_fail(log, LTX_E_MODEL, i, "exit_heads.head", LTXI_S("not with draft_ids"), 0, m.n_draft_ids);
    }
    if (ltxi_positions(&m) < m.ctx) return ltxi_fail(log, LTX_E_MODEL, -1, "rope_scale, rope_factors", LTXI_S("frequencies too high for ctx, or no numbers"), ltxi_positions(&m), m.ctx);
    for (i = 0; i < m.n_layers; i++) if ((r = ltxi_check_layer(log, &m, i)) != LTX_OK) return r;
    if (m.n_draft_ids > 0 && m.head_bias.data != NULL) return ltxi_fail(log, LTX_E_MODEL, -1, "draft_ids", LTXI_S("not with a head_bias"), 0, m.n_draft_ids);
    if (m.n_draft_ids < 0 || m.n_draft_ids > m.vocab || (m.n_draft_ids > 0 && m.draft_ids == NULL)) return ltxi_fail(log, LTX_E_MODEL, -1, "draft_ids", LTXI_S("missing, or more than the vocabulary"), m.vocab, m.n_draft_ids);
    for (i = 0; i < m.n_draft_ids; i++) {
        if (ltxi_draft_id(&m, i) < 0 || ltxi_draft_id(&m, i) >= m.vocab || (i > 0 && ltxi_draft_id(&m, i) <= ltxi_draft_id(&m, i - 1)))
            return ltxi_fail(log, LTX_E_MODEL, i, "draft_ids", LTXI_S("no token, or not ascending"), m.vocab - 1, ltxi_draft_id(&m, i));
    }
    return LTX_OK;
}

/* ---- repacking ---- */
LTXI_FN int32_t ltxi_packed(int32_t type) { return type == LTX_Q8_0 ? LTX_Q8_X : type == LTX_Q4_0 ? LTX_Q4_X : type; }
LTXI_FN void ltxi_repack_mat(ltxi_arena *a, ltx_mat *w) /* with base NULL only measures */
{
    int32_t type = ltxi_packed(w->type), r, b;
    size_t bytes = ltx_row_bytes(w->type, w->cols), block = bytes / (size_t)ltxi_max(1, w->cols / LTXI_BLOCK);
    const uint8_t *in = (const uint8_t *)w->data;
    uint8_t *out, *group;
    if (w->data == NULL || type == w->type) return;
    out = (uint8_t *)ltxi_take(a, ltx_mat_bytes(type, w->rows, w->cols), 1);
    if (out == NULL) return;
    if (w->rows % LTXI_GROUP != 0) memset(out + (size_t)(w->rows / LTXI_GROUP) * LTXI_GROUP * bytes, 0, LTXI_GROUP * bytes); /* lanes that no row fills */
    for (r = 0; r < w->rows; r++, in += bytes) {
        group = out + (size_t)(r / LTXI_GROUP) * LTXI_GROUP * bytes;
        for (b = 0; b < w->cols / LTXI_BLOCK; b++) ltxi_place_block(type, in + (size_t)b * block, w->cols, b, r % LTXI_GROUP, group);
    }
    w->data = out;
    w->type = type;
}
LTXI_FN void ltxi_repack_place(ltxi_arena *a, const ltx_model *model, ltx_model *out)
{
    ltx_layer *layers = (ltx_layer *)ltxi_take(a, (size_t)model->n_layers, sizeof *layers), l;
    int32_t i;
    for (i = 0; i < model->n_layers; i++) {
        l = model->layers[i];
        ltxi_repack_mat(a, &l.wq); ltxi_repack_mat(a, &l.wk); ltxi_repack_mat(a, &l.wv); ltxi_repack_mat(a, &l.wo);
        ltxi_repack_mat(a, &l.w_gate); ltxi_repack_mat(a, &l.w_up); ltxi_repack_mat(a, &l.w_down);
        if (layers != NULL) layers[i] = l;
    }
    *out = *model;
    out->layers = layers;
    if (model->head.data == NULL) ltxi_repack_mat(a, &out->embed); else ltxi_repack_mat(a, &out->head); /* an embedding alone is only looked up */
}
LTX_API ltx_result ltx_repack_need(const ltx_model *model, ltx_need *out)
{
    ltxi_arena a = { NULL, 0 };
    ltx_model m;
    ltx_result r;
    if (model == NULL || out == NULL) return LTX_E_ARG;
    if ((r = ltx_model_check(model, NULL)) != LTX_OK) return r;
    ltxi_repack_place(&a, model, &m);
    return ltxi_need_of(&a, out);
}
LTX_API ltx_result ltx_repack(const ltx_model *model, ltx_mem mem, ltx_model *out)
{
    ltxi_arena a = { NULL, 0 };
    ltx_need need;
    ltx_model m;
    ltx_result r = ltx_repack_need(model, &need);
    if (r != LTX_OK || out == NULL) return r != LTX_OK ? r : LTX_E_ARG;
    if (ltxi_block_ok(NULL, "", &need, &mem) != LTX_OK) return LTX_E_MEM;
    a.base = (uint8_t *)mem.ptr;
    ltxi_repack_place(&a, model, &m);
    *out = m;
    return LTX_OK;
}

/* ==== >>session ===========================================================================================
   Owns the session: its three blocks, its defaults, the check of plans. May call: everything above.            */

typedef struct ltxi_sequence {
    int32_t position, high; /* next position; highest ever since the last reset (rewinding with a window) */
    int32_t hold;           /* its rows stop before this step                                  */
    int32_t depth, depth_before; /* the least at which one of its rows has left, for policy.monotone; before the call */
    int32_t begin, coming, wanting; /* of a call: position before it; rows that it adds, those that want logits */
    int32_t kinds[LTX_KINDS]; /* of a piece: rows of each kind that it adds                   */
} ltxi_sequence;
typedef struct ltxi_row {
    int32_t token, position, sequence;
    int32_t turned; /* position that its angles are of, -1 = none                              */
    int32_t tag;    /* of a row of a tree of drafts, 1..64: of tagged rows it sees only its ancestors, 0 = no tree */
    uint64_t tags;  /* those, and itself: bit t - 1 */
    int32_t pc;    /* step that it has to run next                                                  */
    int32_t skip;  /* steps from here on that it does not run (their keys and values may be filled) */
    int32_t out;   /* row of the logits that it wants, -1 = none                                    */
    int32_t wanted; /* did it ever want logits                                                     */
    int32_t slot;  /* its place in ltx_session.x and .angles                                        */
    uint8_t decided; /* logits are read (or it left): rides along for its keys and values only      */
    uint8_t held;    /* a drafted row: waits, but rides along, until verification */
    uint8_t chosen;  /* what was decided about it among others last: the step keeps it, its router lets it in, its kind leaves */
    uint8_t filling; /* left under LTX_FILL_PROJECT: goes on by itself to the end of the plan       */
    int32_t best, same;  /* LTX_EXIT_PATIENCE: best token at the last gate, for how many gates       */
    float   least, most; /* LTX_EXIT_CHANGE: range of the changes so far, 0 in it                    */
    int32_t gates;       /* how many this row has been asked at                                      */
    int32_t kind, peers; /* rows of its kind that came with it, itself included                      */
    int32_t company, mixed; /* equal for rows that came together; is one of these of another kind than 0 */
    int32_t feature;     /* its place among the features, -1 = none                                  */
} ltxi_row;

enum { LTXI_NO_HOLD = LTX_MAX_STEPS + 1 };
enum { LTXI_BINS = 16, LTXI_LOOKUP = 8, LTXI_DRAFTS = 64, LTXI_EXITS = 65, LTXI_TREE = 63 }; /* levels of confidence in draft statistics; longest match; longest draft; most exits of a draft; most drafted and
   transferred rows of a tree */
enum { LTXI_AHEAD_BIN = LTXI_BINS + LTXI_LOOKUP, LTXI_ALL_BINS = LTXI_AHEAD_BIN + LTXI_BINS };

/* Drafts after so many steps. */
typedef struct ltxi_odds {
    float hits[LTXI_BINS], tries[LTXI_BINS]; /* accepted, drafted, by confidence */
    float deeper[LTXI_BINS];                 /* chance worth as much as going on to the next exit turned out to be; 0 = not known */
    float time;                              /* from the start of a row to the view of its logits here; 0 = not known */
} ltxi_odds;

struct ltx_session {
    ltx_model model;         /* defaults filled in */
    ltx_session_desc desc;   /* defaults filled in */
    ltxi_machine m;
    ltxi_kernels kernels;    /* what m.k points to */
    ltxi_kv   kv;
    ltx_stats stats;
    int32_t now;             /* the sequence in use */
    int32_t n_ready;
    int32_t companies;       /* that have come so far, for ltxi_row.company; may wrap */
    int32_t positions;       /* how many there can be */
    int32_t has_beside;      /* is there memory for it */
    int32_t n_rows, n_caches, n_storage;
    int32_t ld, q_ld, kv_ld, angle_ld; /* floats between rows of the buffers below */
    /* state block; R = desc.rows */
    ltxi_sequence *sequences; /* [desc.sequences] */
    ltxi_row *rows;          /* [n_rows <= R], by sequence, then position */
    int32_t  *free_slots;    /* [R - n_rows] */
    ltx_ready *ready;        /* [R] */
    float    *x;             /* [R][ld] hidden vectors            */
    float    *beside;        /* [R][ld] what steps with LTX_BESIDE read, if the plan of the descriptor has any */
    float    *angles;        /* [R][4][angle_ld] cos, sin at the position; cos, sin for the sinks */
    float    *freq;          /* [2][angle_ld] rope frequencies, high and low part */
    int16_t  *storage;       /* [n_caches] cache index to row of `caches`, -1 = no memory */
    ltxi_cache *caches;      /* [desc.sequences][n_storage] */
    ltx_step *full;          /* [n_layers] the plan of all layers */
    uint8_t  *short_rows;    /* rows of the head for the model's draft_ids, copied so that they lie together */
    ltx_mat   draft_head;    /* those, or the whole head */
    float     *hits, *tries; /* [LTXI_ALL_BINS] acceptance per confidence, then per length of a match, then per confidence of transfers; with draft_max */
    float     round_cost, round_tokens; /* cost of rounds, tokens got */
    ltxi_odds *odds;         /* [n_odds] of drafts by depth, from depth 1 */
    int32_t   n_odds;
    double  (*clock)(void *user); /* whose time the following are in; NULL: whole passes */
    void     *clock_user;
    float     draft_cost;    /* of the row of a draft, so far; 0 = not known */
    float     timed, rows_sum, rows_squared, time_sum, rows_time, slope; /* verification: rounds, rows, their time, with forgetting: a line is put through them; its slope */
    ltxi_sure *ahead;        /* [8] what transfers say of the tokens after the next one, with draft_max */
    int32_t  n_ahead, ahead_of, ahead_in; /* how many; position of that next one, and its sequence */
    int32_t  idle;           /* rounds since such a token was drafted */
    int32_t  *past, past_size; /* [desc.sequences][past_size] tokens by position modulo past_size, -1 = none; for lookups */
    /* scratch block */
    float *xn, *q, *q_sink, *k, *v, *att, *up, *y, *before, *logits, *probs, *attn, *features;
    ltxi_acts acts;
    float   *weight;         /* [R] by slot: what a router said, or attention paid to a row */
    int32_t *batch, *order, *entry, *place, *map, *depths;
    size_t attn_area;
};

LTXI_FN int32_t ltxi_cache_of(const ltx_step *st) { return st->cache > 0 ? st->cache - 1 : st->layer; }
LTXI_FN ltxi_cache *ltxi_sequence_cache(const ltx_session *s, int32_t sequence, int32_t i) { return &s->caches[(size_t)sequence * (size_t)s->n_storage + (size_t)i]; }

LTXI_FN int ltxi_in(int32_t low, int32_t x, int32_t high) { return low <= x && x <= high; }
/* A caller's number: low <= got <= high, or an event with the bound above. */
LTXI_FN ltx_result ltxi_range(const ltx_log *log, const char *name, int32_t low, int32_t got, int32_t high)
{
    return ltxi_in(low, got, high) ? LTX_OK : ltxi_fail(log, LTX_E_ARG, -1, name, LTXI_S("out of range"), high, got);
}
/* Does an addition suit a matrix? One that is absent does. */
LTXI_FN int ltxi_lora_ok(const ltx_log *log, int32_t step, const ltx_model *m, const ltx_lora *a, const ltx_mat *w)
{
    if (a->a.data == NULL && a->b.data == NULL) return 1;
    return ltxi_check_mat(log, step, "adapter.a", &a->a, -1, w->cols, 0) == LTX_OK && ltxi_check_mat(log, step, "adapter.b", &a->b, w->rows, a->a.rows, 0) == LTX_OK && a->a.rows <= m->dim;
}
LTXI_FN int ltxi_adapter_ok(const ltx_log *log, const ltx_model *m, int32_t step, const ltx_step *st)
{
    const ltx_layer *l = &m->layers[st->layer];
    const ltx_adapter *a;
    if (st->adapter == 0) return 1;
    if (st->adapter < 0 || st->adapter > m->n_adapters || m->adapters == NULL) return 0;
    a = &m->adapters[st->adapter - 1];
    if (!ltxi_finite(a->scale)) return 0;
    if (st->run & LTX_ATTN && !(ltxi_lora_ok(log, step, m, &a->q, &l->wq) && ltxi_lora_ok(log, step, m, &a->k, &l->wk) && ltxi_lora_ok(log, step, m, &a->v, &l->wv) && ltxi_lora_ok(log, step, m, &a->o, &l->wo))) return 0;
    return !(st->run & LTX_FFN) || ((l->w_gate.data == NULL || ltxi_lora_ok(log, step, m, &a->gate, &l->w_gate)) && ltxi_lora_ok(log, step, m, &a->up, &l->w_up) && ltxi_lora_ok(log, step, m, &a->down, &l->w_down));
}
LTXI_FN int ltxi_in_unit(float x) { return x >= 0 && x <= 1; }
LTXI_FN int ltxi_routes(const ltx_step *st) { return st->route > 0 || st->route < 0; }
LTXI_FN int ltxi_asks_router(const ltx_step *st) { return ltxi_routes(st) || (st->run & (LTX_WEIGH | LTX_WEIGH_FFN)) != 0; }
LTXI_FN int ltxi_fills(const ltx_step *st) { return (st->run & (LTX_ATTN | LTX_SHARE)) == LTX_ATTN; }
/* Of the steps before, or NULL: the one that fills the same cache. */
LTXI_FN const ltx_step *ltxi_filler(const ltx_plan *p, int32_t step)
{
    int32_t j;
    for (j = 0; j < step; j++) if (ltxi_fills(&p->steps[j]) && ltxi_cache_of(&p->steps[j]) == ltxi_cache_of(&p->steps[step])) return &p->steps[j];
    return NULL;
}
/* Everything about a plan except whether its caches have memory. */
LTXI_FN ltx_result ltxi_plan_check(const ltx_log *log, const ltx_model *m, const ltx_plan *p)
{
    int32_t i;
    ltx_result r;
    if ((r = ltxi_range(log, "plan.count", 1, p->count, LTX_MAX_STEPS)) != LTX_OK || (r = ltxi_range(log, "plan.fill", 0, p->fill, LTX_FILL_NONE)) != LTX_OK) return r;
    for (i = 0; i < p->count; i++) {
        const ltx_step *st = &p->steps[i];
        if (st->layer < 0 || st->layer >= m->n_layers) return ltxi_fail(log, LTX_E_ARG, i, "step.layer", LTXI_S("no such layer"), m->n_layers - 1, st->layer);
        if ((st->run & (LTX_ATTN | LTX_FFN)) == 0 || (i == 0 && st->run & LTX_BESIDE))
            return ltxi_fail(log, LTX_E_ARG, i, "step.run", LTXI_S("no such branches, or nothing beside"), LTX_ATTN | LTX_FFN, st->run);
        if ((st->run & LTX_ATTN && !ltxi_has_attn(&m->layers[st->layer])) || (st->run & LTX_FFN && !ltxi_has_ffn(&m->layers[st->layer])))
            return ltxi_fail(log, LTX_E_ARG, i, "step.run", LTXI_S("the layer lacks this branch"), 0, st->run);
        if (!ltxi_adapter_ok(log, m, i, st)) return ltxi_fail(log, LTX_E_ARG, i, "step.adapter", LTXI_S("no such adapter, or it does not suit the layer"), m->n_adapters, st->adapter);
        if (!ltxi_in_unit(ltxi_abs(st->route)) || !ltxi_in_unit(st->keep) || (ltxi_asks_router(st) && m->layers[st->layer].router.data == NULL))
            return ltxi_fail(log, LTX_E_ARG, i, "step.route, step.keep", LTXI_S("not from 0 to 1, or the layer has no router"), 0, st->layer);
        if (!ltxi_finite(st->attn_scale) || !ltxi_finite(st->ffn_scale)) return ltxi_fail(log, LTX_E_ARG, i, "step.attn_scale, step.ffn_scale", LTXI_S("not finite"), 0, 0);
        if (st->cache < 0 || st->cache > LTX_MAX_STEPS) return ltxi_fail(log, LTX_E_ARG, i, "step.cache", LTXI_S("out of range"), LTX_MAX_STEPS, st->cache);
        if (ltxi_fills(st) && ltxi_filler(p, i) != NULL) return ltxi_fail(log, LTX_E_ARG, i, "step.cache", LTXI_S("two steps of the plan fill it"), ltxi_filler(p, i) - p->steps, ltxi_cache_of(st));
        if (st->run & LTX_SHARE && (!(st->run & LTX_ATTN) || ltxi_filler(p, i) == NULL)) return ltxi_fail(log, LTX_E_ARG, i, "step.cache", LTXI_S("no step before fills what is to be shared"), 0, ltxi_cache_of(st));
        if (((ltxi_fills(st) || st->keep > 0) && m->layers[st->layer].wk.data == NULL) || (st->keep > 0 && !(st->run & LTX_ATTN)))
            return ltxi_fail(log, LTX_E_ARG, i, "step.run", LTXI_S("the layer has no keys"), LTX_SHARE, st->run);
    }
    return LTX_OK;
}
LTX_API ltx_result ltx_plan_full(const ltx_model *model, ltx_step *steps, int32_t cap, int32_t *count)
{
    int32_t i, n = 0;
    ltx_step st;
    if (model == NULL || steps == NULL || count == NULL || model->layers == NULL) return LTX_E_ARG;
    if (cap < model->n_layers) return LTX_E_FULL;
    for (i = 0; i < model->n_layers; i++) {
        memset(&st, 0, sizeof st);
        st.layer = (int16_t)i;
        st.run = (uint8_t)((ltxi_has_attn(&model->layers[i]) ? LTX_ATTN : 0) | (ltxi_has_ffn(&model->layers[i]) ? LTX_FFN : 0));
        if (st.run) steps[n++] = st;
    }
    *count = n;
    return LTX_OK;
}

LTXI_FN int ltxi_drafts(const ltx_draft *d) { return d->exit > 0 || d->lookup > 0 || d->transfer > 0 || d->plan.steps != NULL; }
LTXI_FN void ltxi_draft_defaults(ltx_draft *d, int32_t draft_max)
{
    if (d->row_cost == 0) d->row_cost = 0.25f;
    if (d->exit > 0 && d->last == 0) d->last = d->exit;
    if (ltxi_drafts(d) && d->length == 0) d->length = draft_max;
}
/* Defaults and ranges of a descriptor; the model is already checked. */
LTXI_FN ltx_result ltxi_desc_resolve(const ltx_model *m, ltx_session_desc *d)
{
    const ltx_log *log = &d->log;
    ltx_result r;
    if (d->guard_head != 0 || d->guard_tail != 0) return ltxi_fail(log, LTX_E_ARG, -1, "guard", LTXI_S("descriptor was not zero-initialised"), 0, 1);
    if (d->ctx == 0) d->ctx = m->ctx;
    if (d->rows == 0) d->rows = 32;
    if (d->logits_rows == 0) d->logits_rows = 1;
    if (d->kv == LTX_KV_AUTO) d->kv = LTX_KV_F16;
    if (d->threads == 0) d->threads = 1;
    if (d->act_bits == 0) d->act_bits = 8;
    if (d->sequences == 0) d->sequences = 1;
    ltxi_draft_defaults(&d->draft, d->draft_max);
    if ((r = ltxi_range(log, "ctx", 1, d->ctx, ltxi_positions(m))) != LTX_OK || (r = ltxi_range(log, "rows", 1, d->rows, 65536)) != LTX_OK
        || (r = ltxi_range(log, "logits_rows", 1, d->logits_rows, d->rows)) != LTX_OK || (r = ltxi_range(log, "kv", LTX_KV_F32, d->kv, LTX_KV_I8)) != LTX_OK
        || (r = ltxi_range(log, "window", 0, d->window, LTX_MAX_TOKENS)) != LTX_OK
        || (r = ltxi_range(log, "sinks", 0, d->sinks, d->window > 0 ? LTX_MAX_TOKENS : 0)) != LTX_OK
        || (r = ltxi_range(log, "draft_max", 0, d->draft_max, ltxi_min(LTXI_DRAFTS, d->rows - 1))) != LTX_OK
        || (r = ltxi_range(log, "act_bits", 8, d->act_bits, 16)) != LTX_OK || (r = ltxi_range(log, "act_bits", 0, d->act_bits % 8, 0)) != LTX_OK
        || (r = ltxi_range(log, "sequences", 1, d->sequences, 65536)) != LTX_OK || (r = ltxi_range(log, "features", 0, d->features, 1)) != LTX_OK
        || (r = ltxi_range(log, "threads", 1, d->threads, 1024)) != LTX_OK || (r = ltxi_range(log, "isa", 0, d->isa, LTX_ISA_COUNT - 1)) != LTX_OK) return r;
    return LTX_OK;
}
LTXI_FN int ltxi_rule_reads_logits(const ltx_policy *p)
{
    return ltxi_in(LTX_EXIT_PROB, p->rule, LTX_EXIT_ENTROPY) || p->rule == LTX_EXIT_PATIENCE || (p->rule == LTX_EXIT_ASK && p->want_logits);
}
LTXI_FN ltx_result ltxi_policy_check(const ltx_log *log, const ltx_model *m, const ltx_policy *p)
{
    if (!ltxi_in(0, p->rule, LTX_EXIT_CHANGE) || (p->rule == LTX_EXIT_ASK && p->gate == NULL) || p->threshold != p->threshold)
        return ltxi_fail(log, LTX_E_ARG, -1, "policy", LTXI_S("unknown rule, no callback or threshold not a number"), LTX_EXIT_CHANGE, p->rule);
    if (p->rule == LTX_EXIT_PROBE && m->probes.data == NULL) return ltxi_fail(log, LTX_E_ARG, -1, "policy.rule", LTXI_S("the model has no probes"), 0, p->rule);
    if (p->yes < LTX_UNDO || p->yes == LTX_STOP) return ltxi_fail(log, LTX_E_ARG, -1, "policy.yes", LTXI_S("no such answer"), LTX_UNDO, p->yes);
    if (p->monotone && (p->all_rows || p->yes != 0)) return ltxi_fail(log, LTX_E_ARG, -1, "policy.monotone", LTXI_S("not with all_rows or yes"), 0, p->yes);
    if (p->by_kind && !(p->rule == LTX_EXIT_COSINE && p->all_rows && p->yes == 0)) return ltxi_fail(log, LTX_E_ARG, -1, "policy.by_kind", LTXI_S("only with LTX_EXIT_COSINE, all_rows and yes = 0"), LTX_EXIT_COSINE, p->rule);
    if (p->all_rows && ltxi_rule_reads_logits(p)) return ltxi_fail(log, LTX_E_ARG, -1, "policy.all_rows", LTXI_S("the rule needs logits, which most rows have not"), 0, p->rule);
    return LTX_OK;
}
LTXI_FN ltx_result ltxi_draft_plan_check(const ltx_log *log, const ltx_model *m, const ltx_draft *d, const ltx_plan *p)
{
    int32_t i, j, c, found;
    ltx_result r = ltxi_plan_check(log, m, &d->plan);
    if (r != LTX_OK) return r;
    if (d->exit != 0) return ltxi_fail(log, LTX_E_ARG, -1, "draft.exit", LTXI_S("not with draft.plan"), 0, d->exit);
    for (i = 0; i < d->plan.count; i++) {
        if (!ltxi_fills(&d->plan.steps[i])) continue;
        c = ltxi_cache_of(&d->plan.steps[i]);
        found = p->steps == NULL && c < m->n_layers && ltxi_has_attn(&m->layers[c]);
        for (j = 0; p->steps != NULL && j < p->count; j++) found |= ltxi_fills(&p->steps[j]) && ltxi_cache_of(&p->steps[j]) == c;
        if (!found) return ltxi_fail(log, LTX_E_ARG, i, "draft.plan", LTXI_S("the session's plan has no such cache"), 0, c);
    }
    return LTX_OK;
}
LTXI_FN ltx_result ltxi_draft_check(const ltx_log *log, const ltx_model *m, const ltx_draft *d, const ltx_plan *p, int32_t draft_max)
{
    int32_t steps = p->steps == NULL ? m->n_layers : p->count, i, routers = 0;
    ltx_result r;
    for (i = 0; p->steps != NULL && i < p->count; i++) routers |= ltxi_routes(&p->steps[i]) || p->steps[i].run & LTX_RENUMBER;
    if (routers && (d->tree || d->transfer > 0)) return ltxi_fail(log, LTX_E_ARG, -1, "draft.tree, draft.transfer", LTXI_S("not with routers or positions of a step's own"), 0, 1);
    if ((r = ltxi_range(log, "draft.tree", 0, d->tree, 1)) != LTX_OK || (r = ltxi_range(log, "draft.transfer", 0, d->transfer, ltxi_min(m->n_transfers, ltxi_max(0, draft_max - 1)))) != LTX_OK) return r;
    if (d->transfer > 0 && (r = ltxi_range(log, "transfers.step", 1, m->transfers[d->transfer - 1].step, steps - 1)) != LTX_OK) return r;
    if (d->transfer > 0 && (r = ltxi_range(log, "draft.last", 0, d->last, m->transfers[0].step)) != LTX_OK) return r;
    for (i = 0; p->steps != NULL && i < d->transfer; i++) if (p->steps[m->transfers[i].step].run & LTX_BESIDE) return ltxi_fail(log, LTX_E_ARG, i, "transfers.step", LTXI_S("that step stands beside another"), 0, m->transfers[i].step);
    if ((r = ltxi_range(log, "draft.lookup", 0, d->lookup, LTXI_LOOKUP)) != LTX_OK) return r;
    if ((r = ltxi_range(log, "draft.exit", 0, d->exit, steps - 1)) != LTX_OK) return r;
    if ((r = ltxi_range(log, "draft.last", d->exit, d->last, d->exit == 0 ? 0 : ltxi_min(steps - 1, d->exit + LTXI_EXITS - 1))) != LTX_OK) return r;
    if (d->plan.steps != NULL && (r = ltxi_draft_plan_check(log, m, d, p)) != LTX_OK) return r;
    if (!ltxi_drafts(d)) return LTX_OK;
    if ((r = ltxi_range(log, "draft.length", 1, d->length, draft_max)) != LTX_OK) return r;
    if (!(d->stop >= 0) || !(d->row_cost >= 0)) return ltxi_fail(log, LTX_E_ARG, -1, "draft", LTXI_S("negative or not a number"), 0, 0);
    return LTX_OK;
}

/* Shapes that follow from a resolved model and descriptor. */
LTXI_FN void ltxi_session_shape(ltx_session *s)
{
    const ltx_model *m = &s->model;
    const ltx_session_desc *d = &s->desc;
    int32_t widest = ltxi_max(m->dim, m->n_heads * m->head_dim), i;
    ltxi_kv *kv = &s->kv;
    for (i = 0; i < m->n_layers; i++) if (ltxi_has_ffn(&m->layers[i])) widest = ltxi_max(widest, m->layers[i].w_up.rows);
    s->ld = ltxi_round_up(widest, LTXI_DEEP);
    s->q_ld = m->n_heads * m->head_dim;
    s->kv_ld = m->n_kv_heads * m->head_dim;
    s->angle_ld = ltxi_round_up(m->rope_dims, 16);
    kv->heads = m->n_kv_heads; kv->dim = m->head_dim; kv->pad = ltxi_round_up(m->head_dim, 16);
    kv->kind = d->kv; kv->bytes = d->kv == LTX_KV_F32 ? 4 : d->kv == LTX_KV_F16 ? 2 : 1;
    kv->window = d->window; kv->sinks = d->sinks;
    /* a batch of `rows` after a rewind of `rows` still finds the whole window */
    kv->ring = d->window > 0 ? d->window + d->rows + d->draft_max : d->ctx; /* and after rivals, which want entries, but no positions */
    kv->slots = ltxi_round_up(kv->ring + kv->sinks, 16);
}
/* The first plan decides which caches exist, and how many depths of drafts are told apart. */
LTXI_FN void ltxi_session_caches(ltx_session *s)
{
    const ltx_plan *p = &s->desc.plan;
    int32_t i;
    s->n_caches = 0; s->n_storage = 0;
    s->n_odds = s->desc.draft_max == 0 ? 0 : p->steps == NULL ? s->model.n_layers : p->count;
    if (p->steps == NULL) {
        for (i = 0; i < s->model.n_layers; i++) s->n_storage += ltxi_has_attn(&s->model.layers[i]);
        s->n_caches = s->model.n_layers;
    } else for (i = 0; i < p->count; i++) if (ltxi_fills(&p->steps[i])) {
        s->n_caches = ltxi_max(s->n_caches, ltxi_cache_of(&p->steps[i]) + 1);
        s->n_storage++;
    }
}
LTXI_FN int ltxi_has_beside(const ltx_plan *p)
{
    int32_t i;
    for (i = 0; p->steps != NULL && i < p->count; i++) if (p->steps[i].run & LTX_BESIDE) return 1;
    return 0;
}
LTXI_FN void ltxi_session_place(ltx_session *s, ltxi_arena *state, ltxi_arena *cache, ltxi_arena *scratch)
{
    const ltx_session_desc *d = &s->desc;
    size_t r = (size_t)d->rows, x = ltxi_mul(r, (size_t)s->ld), vocab = (size_t)s->model.vocab;
    size_t logits = (size_t)ltxi_max(d->logits_rows, d->draft_max > 0 ? d->draft_max + 1 : 0);
    int32_t i, q;
    ltxi_cache none;
    ltxi_take(state, 1, sizeof *s); /* the session itself, first */
    s->sequences = (ltxi_sequence *)ltxi_take(state, (size_t)d->sequences, sizeof *s->sequences);
    s->rows = (ltxi_row *)ltxi_take(state, r, sizeof *s->rows);
    s->free_slots = (int32_t *)ltxi_take(state, r, 4);
    s->ready = (ltx_ready *)ltxi_take(state, r, sizeof *s->ready);
    s->past_size = d->draft_max > 0 ? s->kv.slots : 0;
    s->past = (int32_t *)ltxi_take(state, ltxi_mul((size_t)d->sequences, (size_t)s->past_size), 4);
    s->odds = (ltxi_odds *)ltxi_take(state, (size_t)s->n_odds, sizeof *s->odds);
    s->hits = (float *)ltxi_take(state, s->n_odds > 0 ? LTXI_ALL_BINS : 0, 4);
    s->tries = (float *)ltxi_take(state, s->n_odds > 0 ? LTXI_ALL_BINS : 0, 4);
    s->ahead = (ltxi_sure *)ltxi_take(state, s->n_odds > 0 ? 8 : 0, sizeof *s->ahead);
    s->x = (float *)ltxi_take(state, x, 4);
    s->beside = (float *)ltxi_take(state, s->has_beside ? x : 0, 4);
    s->angles = (float *)ltxi_take(state, ltxi_mul(r, 4), ltxi_mul((size_t)s->angle_ld, 4));
    s->freq = (float *)ltxi_take(state, 2, (size_t)s->angle_ld * 4);
    s->storage = (int16_t *)ltxi_take(state, (size_t)s->n_caches, 2);
    s->caches = (ltxi_cache *)ltxi_take(state, ltxi_mul((size_t)d->sequences, (size_t)s->n_storage), sizeof *s->caches);
    s->full = (ltx_step *)ltxi_take(state, (size_t)s->model.n_layers, sizeof *s->full);
    s->short_rows = (uint8_t *)ltxi_take(state, ltx_mat_bytes(ltxi_head_of(&s->model)->type, s->model.n_draft_ids, s->model.dim), 1);
    for (q = 0; q < d->sequences; q++) for (i = 0; i < s->n_storage; i++) ltxi_cache_place(cache, &s->kv, cache->base != NULL ? ltxi_sequence_cache(s, q, i) : &none);
    s->xn = (float *)ltxi_take(scratch, x, 4);
    s->att = (float *)ltxi_take(scratch, x, 4);
    s->up = (float *)ltxi_take(scratch, x, 4);
    s->y = (float *)ltxi_take(scratch, x, 4);
    s->before = (float *)ltxi_take(scratch, x, 4);
    s->q = (float *)ltxi_take(scratch, ltxi_mul(r, (size_t)s->q_ld), 4);
    s->q_sink = (float *)ltxi_take(scratch, d->sinks > 0 ? ltxi_mul(r, (size_t)s->q_ld) : 0, 4);
    s->k = (float *)ltxi_take(scratch, ltxi_mul(r, (size_t)s->kv_ld), 4);
    s->v = (float *)ltxi_take(scratch, ltxi_mul(r, (size_t)s->kv_ld), 4);
    s->logits = (float *)ltxi_take(scratch, ltxi_mul(logits, vocab), 4);
    s->probs = (float *)ltxi_take(scratch, ltxi_mul((size_t)d->draft_max + 1, vocab), 4);
    s->features = (float *)ltxi_take(scratch, d->features ? ltxi_mul(r, (size_t)s->model.dim) : 0, 4);
    s->order = (int32_t *)ltxi_take(scratch, vocab, 4);
    s->batch = (int32_t *)ltxi_take(scratch, r, 4 * 3);
    s->entry = (int32_t *)ltxi_take(scratch, r, 4);
    s->place = (int32_t *)ltxi_take(scratch, r, 4);
    s->map = (int32_t *)ltxi_take(scratch, r, 4);
    s->depths = (int32_t *)ltxi_take(scratch, r, 4);
    s->weight = (float *)ltxi_take(scratch, r, 4);
    ltxi_acts_place(scratch, &s->acts, d->rows, s->ld, d->act_bits / 8);
    s->attn_area = ltxi_attention_area(&s->kv, d->rows, s->model.n_heads / s->model.n_kv_heads);
    s->attn = (float *)ltxi_take(scratch, ltxi_mul((size_t)d->threads, s->attn_area), 4);
}
/* Check and resolve into *s everything that need and init have in common. */
LTXI_FN ltx_result ltxi_session_resolve(const ltx_model *model, const ltx_session_desc *desc, ltx_session *s)
{
    int32_t i;
    ltx_result r;
    if (model == NULL || desc == NULL) return LTX_E_ARG;
    memset(s, 0, sizeof *s);
    s->desc = *desc;
    if ((r = ltx_model_check(model, &desc->log)) != LTX_OK) return r;
    s->model = *model;
    ltxi_model_defaults(&s->model);
    if ((r = ltxi_desc_resolve(&s->model, &s->desc)) != LTX_OK) return r;
    for (i = 0; desc->plan.steps == NULL && i < s->model.n_layers; i++) if (ltxi_has_attn(&s->model.layers[i]) && s->model.layers[i].wk.data == NULL)
        return ltxi_fail(&desc->log, LTX_E_ARG, i, "plan", LTXI_S("a layer without keys needs a plan with LTX_SHARE"), LTX_SHARE, 0);
    if (desc->plan.steps != NULL && (r = ltxi_plan_check(&desc->log, &s->model, &desc->plan)) != LTX_OK) return r;
    if ((r = ltxi_policy_check(&desc->log, &s->model, &s->desc.policy)) != LTX_OK) return r;
    if ((r = ltxi_draft_check(&desc->log, &s->model, &s->desc.draft, &desc->plan, s->desc.draft_max)) != LTX_OK) return r;
    if ((r = ltxi_range(&desc->log, "plan.fill", 0, desc->plan.fill, LTX_FILL_NONE)) != LTX_OK) return r;
    s->has_beside = ltxi_has_beside(&desc->plan) || ltxi_has_beside(&desc->draft.plan);
    ltxi_session_shape(s);
    ltxi_session_caches(s);
    return LTX_OK;
}
LTXI_FN void ltxi_needs(ltx_session *s, ltx_session_needs *out)
{
    ltxi_arena state = { NULL, 0 }, cache = { NULL, 0 }, scratch = { NULL, 0 };
    ltxi_session_place(s, &state, &cache, &scratch);
    out->state.size = state.used; out->cache.size = cache.used; out->scratch.size = scratch.used;
    out->state.align = out->cache.align = out->scratch.align = LTXI_ALIGN;
}
LTX_API ltx_result ltx_session_need(const ltx_model *model, const ltx_session_desc *desc, ltx_session_needs *out)
{
    ltx_session s;
    ltx_session_needs n;
    ltx_result r = ltxi_session_resolve(model, desc, &s);
    if (r != LTX_OK || out == NULL) return r != LTX_OK ? r : LTX_E_ARG;
    ltxi_needs(&s, &n);
    if (n.state.size == SIZE_MAX || n.cache.size == SIZE_MAX || n.scratch.size == SIZE_MAX)
        return ltxi_fail(&desc->log, LTX_E_ARG, -1, "session", LTXI_S("size overflows"), 0, 0);
    *out = n;
    return LTX_OK;
}

LTXI_FN int ltxi_host_ok(void) /* denormals are kept, sums are rounded to nearest */
{
    volatile float tiny = FLT_MIN, half = 0.5f, one = 1.0f, small = FLT_EPSILON / 8, product = tiny * half, above = one + small, below = one - small;
    return product > 0 && above == one && below == one;
}

LTX_API ltx_result ltx_session_scratch(ltx_session *s, ltx_mem scratch)
{
    ltx_session_needs need;
    ltxi_arena state = { NULL, 0 }, cache = { NULL, 0 }, arena = { NULL, 0 };
    ltx_session moved;
    if (s == NULL) return LTX_E_ARG;
    moved = *s;
    ltxi_needs(&moved, &need);
    if (ltxi_block_ok(NULL, "", &need.scratch, &scratch) != LTX_OK) return LTX_E_MEM;
    state.base = (uint8_t *)s; arena.base = (uint8_t *)scratch.ptr; /* the state block stays where it is, the session being its first thing; caches are not looked at */
    ltxi_session_place(&moved, &state, &cache, &arena);
    *s = moved;
    return LTX_OK;
}

/* Point desc.plan at real steps and count them. */
LTXI_FN void ltxi_plan_resolve(ltx_session *s, ltx_plan *p)
{
    if (p->steps != NULL) return;
    ltx_plan_full(&s->model, s->full, s->model.n_layers, &p->count);
    p->steps = s->full;
}
LTXI_FN void ltxi_session_start(ltx_session *s)
{
    int32_t i, next = 0;
    s->draft_head = *ltxi_head_of(&s->model);
    for (i = 0; i < s->model.n_draft_ids; i++) ltxi_copy_row(&s->draft_head, ltxi_draft_id(&s->model, i), s->short_rows, i);
    if (s->model.n_draft_ids > 0) { s->draft_head.data = s->short_rows; s->draft_head.rows = s->model.n_draft_ids; }
    for (i = 0; i < s->n_caches; i++) s->storage[i] = -1;
    for (i = 0; i < s->desc.plan.count; i++) if (ltxi_fills(&s->desc.plan.steps[i])) s->storage[ltxi_cache_of(&s->desc.plan.steps[i])] = (int16_t)next++;
    for (i = 0; i < s->desc.rows; i++) s->free_slots[i] = s->desc.rows - 1 - i;
    memset(s->sequences, 0, (size_t)s->desc.sequences * sizeof *s->sequences);
    for (i = 0; i < s->desc.sequences; i++) s->sequences[i].hold = s->sequences[i].depth = LTXI_NO_HOLD;
    s->positions = ltxi_frequencies(&s->model, s->freq, s->freq + s->angle_ld, s->angle_ld);
    for (i = 0; i < LTXI_ALL_BINS && s->n_odds > 0; i++) { /* as if a confidence of p had been right p of the time, twice; a match of n as one of n / 8 */
        s->tries[i] = 2.0f;
        s->hits[i] = ltxi_in(LTXI_BINS, i, LTXI_AHEAD_BIN - 1) ? 2.0f * (float)(i - LTXI_BINS + 1) / (float)LTXI_LOOKUP : 2.0f * ((float)(i < LTXI_BINS ? i : i - LTXI_AHEAD_BIN) + 0.5f) / (float)LTXI_BINS;
    }
    memset(s->odds, 0, (size_t)s->n_odds * sizeof *s->odds);
    s->round_cost = s->round_tokens = 1.0f;
}
LTX_API ltx_result ltx_session_init(const ltx_model *model, const ltx_session_desc *desc, const ltx_session_mems *mem, ltx_session **out)
{
    ltx_session s, *p;
    ltx_session_needs need;
    ltxi_arena state, cache, scratch;
    ltx_result r = ltxi_session_resolve(model, desc, &s);
    if (r != LTX_OK || mem == NULL || out == NULL) return r != LTX_OK ? r : LTX_E_ARG;
    ltxi_needs(&s, &need);
    if ((r = ltxi_block_ok(&desc->log, "state", &need.state, &mem->state)) != LTX_OK || (r = ltxi_block_ok(&desc->log, "cache", &need.cache, &mem->cache)) != LTX_OK
        || (r = ltxi_block_ok(&desc->log, "scratch", &need.scratch, &mem->scratch)) != LTX_OK) return r;
#ifndef LTX_ALLOW_FAST_MATH
    if (!ltxi_host_ok()) return ltxi_fail(&desc->log, LTX_E_HOST, -1, "host", LTXI_S("denormals are flushed to zero, or sums are not rounded to nearest"), 0, 0);
#endif
    s.desc.isa = ltxi_isa_best(s.desc.isa);
    if (s.desc.isa < 0) return ltxi_fail(&desc->log, LTX_E_ABSENT, -1, "isa", LTXI_S("not on this machine or not built in"), desc->isa, (int64_t)ltx_isa_mask());
    state.base = (uint8_t *)mem->state.ptr; cache.base = (uint8_t *)mem->cache.ptr; scratch.base = (uint8_t *)mem->scratch.ptr;
    state.used = cache.used = scratch.used = 0;
    ltxi_session_place(&s, &state, &cache, &scratch);
    ltxi_plan_resolve(&s, &s.desc.plan);
    s.m.pool = s.desc.pool; s.m.threads = s.desc.threads;
    ltxi_session_start(&s);
    p = (ltx_session *)mem->state.ptr;
    *p = s;
    p->m.k = ltxi_kernels_of(p->desc.isa, &p->kernels);
    *out = p;
    return LTX_OK;
}
LTX_API void ltx_session_desc_used(const ltx_session *s, ltx_session_desc *out) { *out = s->desc; }
LTX_API ltx_result ltx_use(ltx_session *s, int32_t sequence)
{
    if (s == NULL || sequence < 0 || sequence >= s->desc.sequences) return LTX_E_ARG;
    s->now = sequence;
    return LTX_OK;
}
LTX_API int32_t ltx_position(const ltx_session *s) { return s->sequences[s->now].position; }
LTX_API ltx_result ltx_hold(ltx_session *s, int32_t step)
{
    if (s == NULL || step < 0 || step >= s->desc.plan.count) return LTX_E_ARG;
    s->sequences[s->now].hold = step == 0 ? LTXI_NO_HOLD : step;
    return LTX_OK;
}
LTX_API void ltx_session_stats(const ltx_session *s, ltx_stats *out) { *out = s->stats; out->weight_bytes = s->m.weight_bytes; }
LTX_API void ltx_stats_reset(ltx_session *s) { memset(&s->stats, 0, sizeof s->stats); s->m.weight_bytes = 0; }

/* ==== >>engine ============================================================================================
   Owns rows and the one loop that takes them through steps: pick the lowest step that a row has to run, run all rows whose step is
   like it as one batch, ask the gates, go on until nobody has to. Everything else (prefill, decoding, early exit, deferral,
   drafting and verifying, several sequences at different depths) is a way of setting rows up. May call: everything above.   */

typedef struct ltxi_goal {
    int32_t ask;   /* ask the policy's rule at gates                                   */
    int32_t draft; /* at a hold logits are read, with the draft's head                 */
    int32_t flush; /* only rows that wait have to run, to the end                      */
    int32_t first; /* stop when a row has its logits                                   */
} ltxi_goal;

LTXI_FN float *ltxi_hidden(const ltx_session *s, const ltxi_row *r) { return s->x + (size_t)r->slot * (size_t)s->ld; }
LTXI_FN const ltx_step *ltxi_step_of(const ltx_session *s, const ltxi_row *r) { return &s->desc.plan.steps[r->pc]; }
LTXI_FN ltxi_cache *ltxi_row_cache(const ltx_session *s, const ltxi_row *r) { return ltxi_sequence_cache(s, r->sequence, s->storage[ltxi_cache_of(ltxi_step_of(s, r))]); }
LTXI_FN int32_t *ltxi_past_of(const ltx_session *s, int32_t sequence, int32_t position) { return &s->past[(size_t)sequence * (size_t)s->past_size + (size_t)(position % s->past_size)]; }
LTXI_FN const float *ltxi_input(const ltx_session *s, const ltx_step *st) { return st->run & LTX_BESIDE ? s->beside : s->x; }
LTXI_FN float *ltxi_angles(const ltx_session *s, const ltxi_row *r, int32_t sink) { return s->angles + ((size_t)r->slot * 4 + (size_t)sink * 2) * (size_t)s->angle_ld; }

/* cos and sin at a position, in the form that the rope kernel wants */
LTXI_FN void ltxi_rope_angles(const ltxi_kernels *k, const float *freq, int32_t ld, int32_t dims, int32_t halves, int32_t position, float *cosine)
{
    float *sine = cosine + ld;
    int32_t i;
    if (dims == 0) return;
    k->sincos(freq, freq + ld, (float)position, ltxi_round_up(dims / 2, 16), sine, cosine);
    for (i = dims / 2 - 1; i >= 0 && !halves; i--) {
        cosine[2 * i] = cosine[2 * i + 1] = cosine[i];
        sine[2 * i + 1] = sine[i];
        sine[2 * i] = -sine[i];
    }
}
LTXI_FN void ltxi_turn_to(ltx_session *s, ltxi_row *r, int32_t position)
{
    const ltx_model *m = &s->model;
    if (r->turned == position) return;
    r->turned = position;
    ltxi_rope_angles(s->m.k, s->freq, s->angle_ld, m->rope_dims, m->rope_pairs, position, ltxi_angles(s, r, 0));
    if (s->kv.sinks > 0) ltxi_rope_angles(s->m.k, s->freq, s->angle_ld, m->rope_dims, m->rope_pairs, ltxi_min(position, s->kv.sinks + s->kv.window - 1), ltxi_angles(s, r, 1));
}
/* A row at the end of a sequence; its index. */
LTXI_FN int32_t ltxi_add_row(ltx_session *s, int32_t sequence, int32_t token, const float *embed, int32_t out)
{
    int32_t at = s->n_rows, slot = s->free_slots[s->desc.rows - 1 - s->n_rows];
    ltxi_sequence *q = &s->sequences[sequence];
    ltxi_row *r;
    for (; at > 0 && s->rows[at - 1].sequence > sequence; at--) s->rows[at] = s->rows[at - 1];
    r = &s->rows[at];
    memset(r, 0, sizeof *r);
    r->token = token; r->position = q->position; r->sequence = sequence; r->out = out; r->wanted = out >= 0; r->slot = slot; r->turned = r->feature = -1; r->peers = 1; r->company = s->companies = (s->companies + 1) & 0x3fffffff;
    if (s->past_size > 0) *ltxi_past_of(s, sequence, q->position) = token;
    s->n_rows++;
    q->position++;
    q->high = ltxi_max(q->high, q->position);
    s->stats.tokens++;
    if (embed != NULL) memcpy(ltxi_hidden(s, r), embed, (size_t)s->model.dim * 4);
    else ltxi_mat_row(&s->model.embed, token, ltxi_hidden(s, r));
    return at;
}
/* Drop rows that are done (pc past the plan), and those of a sequence at or after a position; the order stays. */
LTXI_FN void ltxi_drop_rows(ltx_session *s, int32_t sequence, int32_t position)
{
    int32_t i, n = 0;
    for (i = 0; i < s->n_rows; i++) {
        const ltxi_row *r = &s->rows[i];
        if (r->pc < s->desc.plan.count && (r->sequence != sequence || r->position < position)) { s->rows[n++] = *r; continue; }
        s->free_slots[s->desc.rows - 1 - (s->n_rows - 1 - (i - n))] = r->slot;
    }
    s->n_rows = n;
}

/* What is done row by row, between products: `fn` for rows 0..n-1, cut over the threads if n times `cols` elements are worth it. */
typedef struct ltxi_rowwise ltxi_rowwise;
typedef void ltxi_row_fn(const ltxi_rowwise *w, int32_t i);
struct ltxi_rowwise {
    ltx_session *s;
    const int32_t *idx;   /* rows of the session        */
    int32_t n, cols, parts;
    const ltx_mat *norm;  /* what some functions need   */
    const ltx_mat *bias;
    const float *from, *weight; /* [R][ld], [R], by slot */
    const ltx_layer *l;
    float scale;
    int32_t first, full;  /* rows first.. have keys, rows ..full - 1 have queries */
    ltxi_row_fn *fn;
};
LTXI_FN void ltxi_rowwise_task(void *arg, int32_t index)
{
    const ltxi_rowwise *w = (const ltxi_rowwise *)arg;
    int32_t i = (int32_t)((int64_t)w->n * index / w->parts), end = (int32_t)((int64_t)w->n * (index + 1) / w->parts);
    for (; i < end; i++) w->fn(w, i);
}
LTXI_FN ltxi_rowwise ltxi_rowwise_of(ltx_session *s, const int32_t *idx, int32_t n, int32_t cols)
{
    ltxi_rowwise w;
    memset(&w, 0, sizeof w);
    w.s = s; w.idx = idx; w.n = n; w.cols = cols;
    return w;
}
LTXI_FN void ltxi_row_by_row(ltxi_rowwise *w, ltxi_row_fn *fn)
{
    w->fn = fn;
    w->parts = (int64_t)w->n * w->cols < 32768 ? 1 : ltxi_min(w->s->m.threads, w->n);
    ltxi_parallel(&w->s->m.pool, ltxi_rowwise_task, w, w->parts);
}

/* A norm of the model's kind; w NULL or absent: a copy; bias NULL or absent: none. */
LTXI_FN void ltxi_norm(const ltx_session *s, const float *x, const ltx_mat *w, const ltx_mat *bias, float *y)
{
    if (w == NULL || w->data == NULL) memmove(y, x, (size_t)s->model.dim * 4);
    else if (s->model.norm == LTX_NORM_RMS) ltxi_rmsnorm(s->m.k, x, w->data, s->model.dim, s->model.norm_eps, y);
    else ltxi_layernorm(s->m.k, x, w->data, bias == NULL ? NULL : bias->data, s->model.dim, s->model.norm_eps, y);
}
LTXI_FN void ltxi_norm_row(const ltxi_rowwise *w, int32_t i)
{
    ltx_session *s = w->s;
    ltxi_norm(s, w->from + (size_t)s->rows[w->idx[i]].slot * (size_t)s->ld, w->norm, w->bias, s->xn + (size_t)i * (size_t)s->ld);
}
/* Normed vectors of rows idx[0..n), out of `from` [R][ld], into xn. */
LTXI_FN void ltxi_norm_rows(ltx_session *s, const float *from, const ltx_mat *norm, const ltx_mat *bias, const int32_t *idx, int32_t n)
{
    ltxi_rowwise w = ltxi_rowwise_of(s, idx, n, s->model.dim);
    w.norm = norm; w.bias = bias; w.from = from;
    ltxi_row_by_row(&w, ltxi_norm_row);
}
/* 1 / (1 + exp(-(row of w . x + bias))): what routers and probes say. Uses s->y. */
LTXI_FN float ltxi_logistic(ltx_session *s, const ltx_mat *w, const ltx_mat *bias, int32_t row, const float *x)
{
    float z;
    ltxi_mat_row(w, row, s->y);
    z = s->m.k->dot(x, s->y, s->model.dim);
    if (bias->data != NULL) z = z + ltxi_le_float((const uint8_t *)bias->data + (size_t)row * 4);
    z = -z;
    s->m.k->map(LTX_FN_EXP, &z, 1, &z);
    return 1.0f / (1.0f + z);
}
/* Products of activations, which are quantized first if a matrix wants that. */
LTXI_FN void ltxi_project(ltx_session *s, const float *x, int32_t rows, const ltxi_job *jobs, int32_t n_jobs)
{
    ltxi_acts_set(&s->acts, x);
    ltxi_multiply(&s->m, &s->acts, rows, rows, jobs, n_jobs);
}
LTXI_FN void ltxi_branch_row(const ltxi_rowwise *w, int32_t i)
{
    const ltxi_row *r = &w->s->rows[w->idx[i]];
    float *x = ltxi_hidden(w->s, r);
    w->s->m.k->axpy(x, w->s->y + (size_t)i * (size_t)w->s->ld, w->weight != NULL ? w->scale * w->weight[r->slot] : w->scale, w->s->model.dim);
    if (w->s->model.norm_after) ltxi_norm(w->s, x, w->norm, w->bias, x);
}
/* hidden += scale y; then its norm, if norms come after branches */
LTXI_FN void ltxi_add_branch(ltx_session *s, int32_t weighed, const int32_t *idx, int32_t n, float scale, const ltx_mat *norm, const ltx_mat *bias)
{
    ltxi_rowwise w = ltxi_rowwise_of(s, idx, n, s->model.dim);
    w.scale = scale == 0 ? 1.0f : scale;
    w.weight = weighed ? s->weight : NULL;
    w.norm = norm; w.bias = bias;
    ltxi_row_by_row(&w, ltxi_branch_row);
}

LTXI_FN const ltx_adapter *ltxi_adapter_of(const ltx_session *s, const ltx_step *st) { return st->adapter > 0 ? &s->model.adapters[st->adapter - 1] : NULL; }
/* y += scale B (A x) for rows idx[0..n), each with the adapter of its step; t: room for A x. `part` is where the addition stands in ltx_adapter. */
LTXI_FN void ltxi_adapt(ltx_session *s, const int32_t *idx, int32_t n, size_t part, const float *x, float *y, int32_t ld, float *t)
{
    int32_t first, end;
    if (s->model.n_adapters == 0) return;
    for (first = 0; first < n; first = end) {
        const ltx_adapter *ad = ltxi_adapter_of(s, ltxi_step_of(s, &s->rows[idx[first]]));
        for (end = first + 1; end < n && ltxi_adapter_of(s, ltxi_step_of(s, &s->rows[idx[end]])) == ad; end++) { }
        if (ad == NULL) continue;
        const ltx_lora *a = (const ltx_lora *)((const uint8_t *)ad + part);
        ltxi_job low = ltxi_job_of(&a->a, NULL, t, s->ld), high = ltxi_job_of(&a->b, NULL, y + (size_t)first * (size_t)ld, ld);
        if (a->a.data == NULL) continue;
        high.add = ad->scale == 0 ? 1.0f : ad->scale;
        ltxi_project(s, x + (size_t)first * (size_t)s->ld, end - first, &low, 1);
        ltxi_project(s, t, end - first, &high, 1);
    }
}
/* Per-head norm, rotation and, for queries, the scale of the scores. */
LTXI_FN void ltxi_finish_heads(ltx_session *s, float *x, int32_t heads, const ltx_mat *norm, const float *angles, float scale)
{
    const ltx_model *m = &s->model;
    int32_t h;
    for (h = 0; h < heads; h++, x += m->head_dim) {
        if (norm->data != NULL) ltxi_rmsnorm(s->m.k, x, norm->data, m->head_dim, m->norm_eps, x);
        if (m->rope_dims > 0) s->m.k->rope(x, angles, angles + s->angle_ld, m->rope_dims / 2, m->rope_pairs == LTX_ROPE_HALVES);
    }
    if (scale != 1.0f) s->m.k->mulv(x - (size_t)heads * (size_t)m->head_dim, NULL, scale, heads * m->head_dim);
}
LTXI_FN void ltxi_finish_row(const ltxi_rowwise *w, int32_t i)
{
    ltx_session *s = w->s;
    const ltx_layer *l = w->l;
    const ltx_model *m = &s->model;
    const ltxi_row *r = &s->rows[w->idx[i]];
    float *q = s->q + (size_t)i * (size_t)s->q_ld;
    if (i >= w->first) ltxi_finish_heads(s, s->k + (size_t)i * (size_t)s->kv_ld, m->n_kv_heads, &l->k_norm, ltxi_angles(s, r, 0), 1.0f);
    if (i >= w->full) return;
    if (s->kv.sinks > 0) {
        memcpy(s->q_sink + (size_t)i * (size_t)s->q_ld, q, (size_t)s->q_ld * 4);
        ltxi_finish_heads(s, s->q_sink + (size_t)i * (size_t)s->q_ld, m->n_heads, &l->q_norm, ltxi_angles(s, r, 1), m->attn_scale);
    }
    ltxi_finish_heads(s, q, m->n_heads, &l->q_norm, ltxi_angles(s, r, 0), m->attn_scale);
}
/* Which of idx comes next in order of position: it holds `full` rows that attend, then rows that only fill, and both ascend. */
LTXI_FN int32_t ltxi_next_row(const int32_t *idx, int32_t full, int32_t n, int32_t *a, int32_t *b) { return *b >= n || (*a < full && idx[*a] < idx[*b]) ? (*a)++ : (*b)++; }
/* Positions of the step: those of the tokens, or numbers of slots. */
LTXI_FN void ltxi_number_rows(ltx_session *s, const int32_t *idx, int32_t full, int32_t n)
{
    int32_t a = 0, b = full, number = 0;
    const ltxi_cache *c = NULL;
    while (a < full || b < n) {
        ltxi_row *r = &s->rows[idx[ltxi_next_row(idx, full, n, &a, &b)]];
        if (c != ltxi_row_cache(s, r)) { c = ltxi_row_cache(s, r); number = c->n; }
        ltxi_turn_to(s, r, ltxi_step_of(s, r)->run & LTX_RENUMBER ? number++ : r->position);
    }
}
/* In the cache of another step: the latest entry that is not after the row, -1 = none. */
LTXI_FN void ltxi_find_entries(ltx_session *s, const int32_t *idx, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++) {
        ltxi_row *r = &s->rows[idx[i]];
        const ltxi_cache *c = ltxi_row_cache(s, r);
        for (s->entry[i] = c->n - 1; s->entry[i] >= 0; s->entry[i]--)
            if (ltxi_sees_tag(r->tags, ltxi_entry_tag(&s->kv, c, s->entry[i])) && ltxi_entry_position(&s->kv, c, s->entry[i]) <= r->position) break;
        ltxi_turn_to(s, r, ltxi_step_of(s, r)->run & LTX_RENUMBER ? ltxi_max(0, s->entry[i]) : r->position);
        if (s->entry[i] >= s->kv.sinks && s->kv.window > 0 && ltxi_entry_position(&s->kv, c, s->entry[i]) <= r->position - s->kv.window) s->entry[i] = s->kv.sinks - 1; /* all are too old */
    }
}
/* Append keys and values in order of position. */
LTXI_FN void ltxi_append_rows(ltx_session *s, const int32_t *idx, int32_t full, int32_t n)
{
    int32_t a = 0, b = full, i;
    while (a < full || b < n) {
        i = ltxi_next_row(idx, full, n, &a, &b);
        s->entry[i] = ltxi_append(s->m.k, &s->kv, ltxi_row_cache(s, &s->rows[idx[i]]), s->rows[idx[i]].position | s->rows[idx[i]].tag << LTXI_TAG, s->k + (size_t)i * (size_t)s->kv_ld, s->v + (size_t)i * (size_t)s->kv_ld);
    }
}
/* Rows idx[first .. end) look at one cache; of tagged entries at those of `tags`. */
LTXI_FN void ltxi_attend_rows(ltx_session *s, const ltxi_cache *c, int32_t first, int32_t end, uint64_t tags)
{
    ltxi_attention a;
    ltxi_seen seen;
    ltxi_span span[LTXI_SPANS];
    int32_t i, count;
    a.tags = tags;
    a.m = &s->m; a.kv = &s->kv; a.c = c; a.q = s->q + (size_t)first * (size_t)s->q_ld; a.q_sink = s->kv.sinks > 0 ? s->q_sink + (size_t)first * (size_t)s->q_ld : NULL;
    a.out = s->att + (size_t)first * (size_t)s->ld; a.entry = s->entry + first; a.place = s->place + first; a.rows = end - first; a.ld = s->q_ld; a.out_ld = s->ld;
    a.group = s->model.n_heads / s->model.n_kv_heads; a.scratch = s->attn; a.area = s->attn_area;
    ltxi_attend(&a);
    for (i = first; i < end; i++) {
        seen = ltxi_sees(&s->kv, c, s->entry[i], s->place[i]);
        if (tags + 1 != 0) ltxi_spans(&a, &seen, span);
        count = seen.sinks + seen.last + 1 - seen.first;
        s->stats.attended += (uint64_t)count;
        if ((i - first) % LTXI_QROWS == LTXI_QROWS - 1 || i == end - 1) s->stats.kv_bytes += (uint64_t)count * (uint64_t)(s->kv.heads * s->kv.dim * s->kv.bytes * 2);
    }
}
/* Does a row of a tree see all that the caches hold? Then it goes with others, as without a tree. (Rows of the chain are made, and so appended,
   before all others.) */
LTXI_FN int ltxi_sees_all(const ltxi_row *r) { return r->tag == 0 || r->tags == ((uint64_t)1 << (r->tag - 1)) * 2 - 1; }
LTXI_FN void ltxi_attend_all(ltx_session *s, const int32_t *idx, int32_t n)
{
    int32_t first, end, i;
    for (i = 0; i < n; i++) {
        const ltxi_cache *c = ltxi_row_cache(s, &s->rows[idx[i]]);
        if (s->model.both_ways) s->entry[i] = c->n - 1; /* everybody sees what the last one sees */
        s->place[i] = s->model.both_ways && c->n > 0 ? ltxi_entry_position(&s->kv, c, c->n - 1) : s->rows[idx[i]].position;
    }
    for (first = 0; first < n; first = end) {
        const ltxi_cache *c = ltxi_row_cache(s, &s->rows[idx[first]]);
        const ltxi_row *r = &s->rows[idx[first]];
        const int all = ltxi_sees_all(r);
        for (end = first + 1; all && end < n && s->entry[end] >= s->entry[end - 1] /* not so where a shared cache has nothing new enough */
            && ltxi_sees_all(&s->rows[idx[end]]) && ltxi_row_cache(s, &s->rows[idx[end]]) == c; end++) { }
        if (s->entry[first] >= 0) { ltxi_attend_rows(s, c, first, end, all ? ~(uint64_t)0 : r->tags); continue; }
        memset(s->att + (size_t)first * (size_t)s->ld, 0, (size_t)s->q_ld * 4); /* nothing to look at */
        end = first + 1;
    }
}
LTXI_FN void ltxi_attention_branch(ltx_session *s, const ltx_step *st, const int32_t *idx, int32_t full, int32_t n)
{
    const ltx_layer *l = &s->model.layers[st->layer];
    const int own = ltxi_fills(st);
    ltxi_job jobs[3], out = ltxi_job_of(&l->wo, &l->bo, s->y, s->ld);
    ltxi_rowwise w;
    ltxi_norm_rows(s, ltxi_input(s, st), s->model.norm_after ? NULL : &l->attn_norm, &l->attn_norm_bias, idx, n);
    jobs[0] = ltxi_job_of(&l->wk, &l->bk, s->k, s->kv_ld);
    jobs[1] = ltxi_job_of(&l->wv, &l->bv, s->v, s->kv_ld);
    jobs[2] = ltxi_job_of(&l->wq, &l->bq, s->q, s->q_ld);
    ltxi_acts_set(&s->acts, s->xn);
    if (own) ltxi_multiply(&s->m, &s->acts, n, n, jobs, full == n ? 3 : 2);
    if (full < n ? full > 0 : !own) ltxi_multiply(&s->m, &s->acts, full, n, &jobs[2], 1);
    if (own) ltxi_adapt(s, idx, n, offsetof(ltx_adapter, k), s->xn, s->k, s->kv_ld, s->y);
    if (own) ltxi_adapt(s, idx, n, offsetof(ltx_adapter, v), s->xn, s->v, s->kv_ld, s->y);
    ltxi_adapt(s, idx, full, offsetof(ltx_adapter, q), s->xn, s->q, s->q_ld, s->y);
    w = ltxi_rowwise_of(s, idx, n, s->q_ld);
    w.l = l; w.first = own ? 0 : n; w.full = full;
    if (own) ltxi_number_rows(s, idx, full, n);
    else ltxi_find_entries(s, idx, n);
    ltxi_row_by_row(&w, ltxi_finish_row);
    if (own) ltxi_append_rows(s, idx, full, n);
    s->stats.fill_rows += (uint64_t)(n - full);
    if (full == 0) return;
    s->stats.attn_rows += (uint64_t)full;
    ltxi_attend_all(s, idx, full);
    ltxi_project(s, s->att, full, &out, 1);
    ltxi_adapt(s, idx, full, offsetof(ltx_adapter, o), s->att, s->y, s->ld, s->xn);
    ltxi_add_branch(s, st->run & LTX_WEIGH, idx, full, st->attn_scale, &l->attn_norm, &l->attn_norm_bias);
}
LTXI_FN void ltxi_act_row(const ltxi_rowwise *w, int32_t i) /* up = act(gate) .* up, or act(up) */
{
    static const int32_t acts[] = { LTX_FN_SILU, LTX_FN_GELU, -1 };
    ltx_session *s = w->s;
    int32_t gated = w->l->w_gate.data != NULL;
    float *u = s->up + (size_t)i * (size_t)s->ld, *g = gated ? s->att + (size_t)i * (size_t)s->ld : u;
    s->m.k->map(acts[s->model.act], g, w->cols, g);
    if (gated) s->m.k->mulv(u, g, 0, w->cols);
}
/* What a callback sees of a row: the step that it has just run, -1 before the first. */
LTXI_FN ltx_view ltxi_view_of(const ltx_session *s, const ltxi_row *r)
{
    ltx_view v;
    v.step = r->pc - 1; v.layer = r->pc == 0 ? -1 : ltxi_step_of(s, r)[-1].layer; v.position = r->position; v.token = r->token;
    v.dim = s->model.dim; v.vocab = s->model.vocab; v.hidden = ltxi_hidden(s, r); v.before = NULL; v.logits = NULL; v.sequence = r->sequence;
    return v;
}
LTXI_FN void ltxi_show_neurons(const ltx_session *s, const int32_t *idx, int32_t n, int32_t neurons)
{
    const ltx_policy *p = &s->desc.policy;
    int32_t i;
    for (i = 0; p->neurons != NULL && i < n; i++) {
        ltx_view v = ltxi_view_of(s, &s->rows[idx[i]]);
        v.step++; v.layer = ltxi_step_of(s, &s->rows[idx[i]])->layer; /* it has not run yet */
        v.hidden = s->up + (size_t)i * (size_t)s->ld; v.dim = neurons;
        p->neurons(p->user, &v);
    }
}
LTXI_FN void ltxi_ffn_branch(ltx_session *s, const ltx_step *st, const int32_t *idx, int32_t n)
{
    const ltx_layer *l = &s->model.layers[st->layer];
    ltxi_rowwise w = ltxi_rowwise_of(s, idx, n, l->w_up.rows);
    ltxi_job jobs[2], out = ltxi_job_of(&l->w_down, &l->b_down, s->y, s->ld);
    ltxi_norm_rows(s, ltxi_input(s, st), s->model.norm_after ? NULL : &l->ffn_norm, &l->ffn_norm_bias, idx, n);
    jobs[0] = ltxi_job_of(&l->w_up, &l->b_up, s->up, s->ld);
    jobs[1] = ltxi_job_of(&l->w_gate, &l->b_gate, s->att, s->ld);
    ltxi_project(s, s->xn, n, jobs, l->w_gate.data != NULL ? 2 : 1);
    ltxi_adapt(s, idx, n, offsetof(ltx_adapter, up), s->xn, s->up, s->ld, s->y);
    if (l->w_gate.data != NULL) ltxi_adapt(s, idx, n, offsetof(ltx_adapter, gate), s->xn, s->att, s->ld, s->y);
    w.l = l;
    ltxi_row_by_row(&w, ltxi_act_row);
    ltxi_show_neurons(s, idx, n, l->w_up.rows);
    ltxi_project(s, s->up, n, &out, 1);
    ltxi_adapt(s, idx, n, offsetof(ltx_adapter, down), s->up, s->y, s->ld, s->xn);
    ltxi_add_branch(s, st->run & (LTX_WEIGH | LTX_WEIGH_FFN), idx, n, st->ffn_scale, &l->ffn_norm, &l->ffn_norm_bias);
    s->stats.ffn_rows += (uint64_t)n;
}

/* What is peculiar to an exit after the layer that a row has just run; all absent: nothing is. */
LTXI_FN ltx_exit ltxi_exit_of(const ltx_session *s, const ltxi_row *r)
{
    ltx_exit e;
    memset(&e, 0, sizeof e);
    if (r->pc > 0 && s->model.exit_heads != NULL) e = s->model.exit_heads[ltxi_step_of(s, r)[-1].layer];
    if (e.norm.data == NULL) { e.norm = s->model.out_norm; e.norm_bias = s->model.out_norm_bias; }
    return e;
}
LTXI_FN void ltxi_exit_norm(const ltx_session *s, const ltxi_row *r, float *y)
{
    ltx_exit e = ltxi_exit_of(s, r);
    ltxi_norm(s, ltxi_hidden(s, r), &e.norm, &e.norm_bias, y);
}
/* Logits of rows idx[0..n), which have run the same layer, into their places, with the exit's own head, else with the model's or a draft's; LTX_E_NAN if one
   is not finite. */
LTXI_FN ltx_result ltxi_head(ltx_session *s, const ltx_mat *w, const int32_t *idx, int32_t n)
{
    ltxi_job job;
    ltx_exit e;
    int32_t i;
    if (n == 0) return LTX_OK;
    e = ltxi_exit_of(s, &s->rows[idx[0]]);
    if (e.head.data != NULL) w = &e.head;
    job = ltxi_job_of(w, &s->model.head_bias, s->logits, s->model.vocab);
    ltxi_norm_rows(s, s->x, &e.norm, &e.norm_bias, idx, n);
    for (i = 0; i < n; i++) s->map[i] = s->rows[idx[i]].out;
    job.map = s->map;
    ltxi_project(s, s->xn, n, &job, 1);
    s->stats.head_rows += (uint64_t)n;
    for (i = 0; i < n; i++) {
        const float *v = s->logits + (size_t)s->map[i] * (size_t)s->model.vocab;
        if ((ltxi_bits(s->m.k->zero(v, w->rows)) & 0x7fffffffu) != 0) return ltxi_fail(&s->desc.log, LTX_E_NAN, s->rows[idx[i]].pc, "logits", LTXI_S("not finite at a position"), 0, s->rows[idx[i]].position);
    }
    return LTX_OK;
}

LTXI_FN float ltxi_cosine(const ltx_session *s, const ltxi_row *r)
{
    const float *x = ltxi_hidden(s, r), *before = s->before + (size_t)r->slot * (size_t)s->ld;
    return s->m.k->dot(x, before, s->model.dim) / sqrtf(s->m.k->dot(x, x, s->model.dim) * s->m.k->dot(before, before, s->model.dim));
}
LTXI_FN int ltxi_came_along(const ltxi_row *a, const ltxi_row *b) { return a->sequence == b->sequence && a->company == b->company; }
/* Rows of a sequence and kind answer as one: are they chosen to leave? */
LTXI_FN void ltxi_ask_kinds(ltx_session *s, const int32_t *asked, int32_t count)
{
    const ltx_policy *p = &s->desc.policy;
    int32_t i, j, n;
    for (i = 0; i < count; i++) {
        ltxi_row *r = &s->rows[asked[i]];
        float sum = 0;
        for (j = i; j > 0 && ltxi_came_along(&s->rows[asked[j - 1]], r); j--) if (s->rows[asked[j - 1]].kind == r->kind) break;
        if (j > 0 && ltxi_came_along(&s->rows[asked[j - 1]], r)) { r->chosen = s->rows[asked[j - 1]].chosen; continue; } /* one of them has been asked */
        for (n = 0, j = i; j < count && ltxi_came_along(&s->rows[asked[j]], r); j++) if (s->rows[asked[j]].kind == r->kind) { sum += ltxi_cosine(s, &s->rows[asked[j]]); n++; }
        r->chosen = sum / (float)n >= p->kinds[r->kind];
    }
}
/* Do the built-in rules say yes to this row, whose step has just run? */
LTXI_FN int ltxi_says_yes(ltx_session *s, ltxi_row *r, const float *before, const float *logits)
{
    const ltx_policy *p = &s->desc.policy;
    const float *x = ltxi_hidden(s, r);
    float now, then;
    int32_t first = r->gates++ == 0;
    ltxi_sure sure;
    switch (p->rule) {
    case LTX_EXIT_ALWAYS: return 1;
    case LTX_EXIT_PROBE:
        ltxi_exit_norm(s, r, s->xn);
        return ltxi_logistic(s, &s->model.probes, &s->model.probe_bias, ltxi_step_of(s, r)[-1].layer, s->xn) >= p->threshold;
    case LTX_EXIT_COSINE: return p->by_kind ? r->chosen : ltxi_cosine(s, r) >= p->threshold;
    case LTX_EXIT_CHANGE:
        now = s->m.k->dot(x, x, s->model.dim);
        then = s->m.k->dot(before, before, s->model.dim);
        now = sqrtf(now) - sqrtf(then);
        r->least = now < r->least ? now : r->least;
        r->most = now > r->most ? now : r->most;
        return ltxi_abs(now) < p->threshold * (r->most - r->least);
    default: break;
    }
    sure = ltxi_how_sure(s->m.k, logits, s->probs, s->model.vocab);
    if (p->rule == LTX_EXIT_PATIENCE) {
        r->same = !first && sure.token == r->best ? r->same + 1 : 1;
        r->best = sure.token;
        return (float)r->same >= p->threshold;
    }
    if (p->rule == LTX_EXIT_ENTROPY) return sure.entropy <= p->threshold;
    return (p->rule == LTX_EXIT_MARGIN ? sure.margin : sure.prob) >= p->threshold;
}
/* The answer of a gate to one row: steps to skip, LTX_LEAVE, LTX_UNDO or LTX_STOP. */
LTXI_FN int32_t ltxi_ask(ltx_session *s, ltxi_row *r)
{
    const ltx_policy *p = &s->desc.policy;
    const float *logits = r->out < 0 ? NULL : s->logits + (size_t)r->out * (size_t)s->model.vocab, *before = s->before + (size_t)r->slot * (size_t)s->ld;
    ltx_view view;
    if (p->rule != LTX_EXIT_ASK) return !ltxi_says_yes(s, r, before, logits) ? LTX_GO : p->yes == 0 ? LTX_LEAVE : p->yes;
    view = ltxi_view_of(s, r);
    view.before = before;
    view.logits = p->want_logits ? logits : NULL;
    return p->gate(p->user, &view);
}
LTXI_FN ltx_result ltxi_tap(ltx_session *s, const int32_t *idx, int32_t n)
{
    const ltx_policy *p = &s->desc.policy;
    ltx_result r = LTX_OK;
    ltx_view view;
    int32_t i;
    if (p->tap == NULL) return LTX_OK;
    for (i = 0; i < n; i++) {
        view = ltxi_view_of(s, &s->rows[idx[i]]);
        if (p->tap(p->user, &view) == LTX_STOP) r = LTX_E_STOPPED; /* the others of the batch are shown all the same: waiting rows go on later */
    }
    return r;
}

/* A row goes no further: what it has come to. */
LTXI_FN void ltxi_keep_feature(ltx_session *s, const ltxi_row *r)
{
    if (r->feature >= 0) ltxi_exit_norm(s, r, s->features + (size_t)r->feature * (size_t)s->model.dim);
}
/* A row's logits are read, or will be before the call returns. */
LTXI_FN void ltxi_is_ready(ltx_session *s, const ltxi_row *r)
{
    ltx_ready *ready = &s->ready[s->n_ready++];
    ready->logits = s->logits + (size_t)r->out * (size_t)s->model.vocab;
    ready->sequence = r->sequence; ready->position = r->position;
    ready->depth = s->depths[r->out] = r->pc;
}
/* A row leaves after the step that it has just run: what becomes of its missing keys and values is the plan's choice. */
LTXI_FN void ltxi_leave(ltx_session *s, ltxi_row *r)
{
    int32_t *depth = &s->sequences[r->sequence].depth;
    r->decided = 1;
    *depth = ltxi_min(*depth, r->pc);
    if (r->out >= 0) ltxi_is_ready(s, r);
    ltxi_keep_feature(s, r);
    s->stats.exits++;
    if (s->desc.plan.fill == LTX_FILL_PROJECT) r->filling = 1;
    if (s->desc.plan.fill == LTX_FILL_NONE) r->pc = s->desc.plan.count;
}
LTXI_FN int ltxi_too_deep(const ltx_session *s, const ltxi_row *r) { return s->desc.policy.monotone && r->pc >= s->sequences[r->sequence].depth; }
/* Keep only those rows whose best shortlisted token reaches the threshold among the shortlist: for it, no more of the vocabulary can
   make a larger probability. */
LTXI_FN ltx_result ltxi_screen(ltx_session *s, int32_t *asked, int32_t *count)
{
    int32_t i, n = 0;
    ltx_result r = ltxi_head(s, &s->draft_head, asked, *count);
    if (r != LTX_OK) return r;
    for (i = 0; i < *count; i++) {
        const float *logits = s->logits + (size_t)s->rows[asked[i]].out * (size_t)s->model.vocab;
        if (ltxi_how_sure(s->m.k, logits, s->probs, s->draft_head.rows).prob >= s->desc.policy.threshold || ltxi_too_deep(s, &s->rows[asked[i]])) asked[n++] = asked[i];
    }
    *count = n;
    return LTX_OK;
}
/* Gates for those rows of the batch that may leave here. */
LTXI_FN ltx_result ltxi_gates(ltx_session *s, const int32_t *idx, int32_t n)
{
    int32_t *asked = s->batch + 2 * s->desc.rows, count = 0, i, k, answer;
    ltx_result r;
    for (i = 0; i < n; i++) {
        ltxi_row *row = &s->rows[idx[i]];
        if (row->pc == s->desc.plan.count || row->decided) continue;
        if (row->out >= 0 || s->desc.policy.all_rows) asked[count++] = idx[i];
    }
    if (s->desc.policy.screen && s->desc.policy.rule == LTX_EXIT_PROB && s->model.n_draft_ids > 0 && (r = ltxi_screen(s, asked, &count)) != LTX_OK) return r;
    if (ltxi_rule_reads_logits(&s->desc.policy) && (r = ltxi_head(s, ltxi_head_of(&s->model), asked, count)) != LTX_OK) return r;
    if (s->desc.policy.by_kind) ltxi_ask_kinds(s, asked, count);
    for (i = k = 0; i < n; i++) { /* in order: behind a row that leaves nobody goes past a monotone gate */
        ltxi_row *row = &s->rows[idx[i]];
        if (k == count || asked[k] != idx[i]) {
            if (row->out < 0 && !row->decided && row->pc < s->desc.plan.count && ltxi_too_deep(s, row)) ltxi_leave(s, row);
            continue;
        }
        answer = ltxi_too_deep(s, row) ? LTX_LEAVE : s->desc.policy.rule == LTX_EXIT_NEVER ? LTX_GO : ltxi_ask(s, row);
        if (answer < 0 && answer != LTX_UNDO) return LTX_E_STOPPED;
        if (answer == LTX_LEAVE) ltxi_leave(s, row);
        else if (answer == LTX_UNDO) memcpy(ltxi_hidden(s, row), s->before + (size_t)row->slot * (size_t)s->ld, (size_t)s->model.dim * 4);
        else row->skip = answer;
        if (answer != LTX_LEAVE || row->out < 0) asked[k] = -1; /* wants no logits here */
        k++;
    }
    if (ltxi_rule_reads_logits(&s->desc.policy)) return LTX_OK; /* logits are in place */
    for (i = 0, answer = 0; i < count; i++) if (asked[i] >= 0) asked[answer++] = asked[i];
    return ltxi_head(s, ltxi_head_of(&s->model), asked, answer);
}
/* Rows that have come to the end of the plan, or of a draft, and still want their logits. */
LTXI_FN ltx_result ltxi_read_out(ltx_session *s, const ltxi_goal *goal, const int32_t *batch, int32_t n)
{
    int32_t *ready = s->batch + 2 * s->desc.rows, count = 0, i;
    for (i = 0; i < n; i++) {
        const ltxi_row *r = &s->rows[batch[i]];
        if (r->pc == s->desc.plan.count && !r->decided) ltxi_keep_feature(s, r);
        if (r->out < 0 || r->decided || r->held || r->pc != (goal->draft ? s->sequences[r->sequence].hold : s->desc.plan.count)) continue;
        if (!goal->draft) ltxi_is_ready(s, r);
        ready[count++] = batch[i];
    }
    return ltxi_head(s, goal->draft ? &s->draft_head : ltxi_head_of(&s->model), ready, count);
}

/* Is row i of the batch among the share of its peers, at least `least`, with the largest weights? The first of equals are. */
LTXI_FN int ltxi_among(const ltx_session *s, const int32_t *batch, int32_t n, int32_t i, float share, int32_t least)
{
    const ltxi_row *r = &s->rows[batch[i]], *other;
    int32_t better = 0, j;
    for (j = 0; j < n; j++) {
        other = &s->rows[batch[j]];
        if (!ltxi_came_along(other, r) || other->kind != r->kind) continue;
        better += s->weight[other->slot] > s->weight[r->slot] || (j < i && !(s->weight[r->slot] > s->weight[other->slot]));
    }
    return better < ltxi_max(least, (int32_t)(share * (float)r->peers));
}
/* Which rows do the routers of their layers let in? */
LTXI_FN void ltxi_route(ltx_session *s, const ltx_step *st, const int32_t *batch, int32_t n)
{
    const ltx_layer *l = &s->model.layers[st->layer];
    int32_t i;
    for (i = 0; i < n; i++) s->rows[batch[i]].chosen = 1;
    if (!ltxi_asks_router(st)) return;
    for (i = 0; i < n; i++) {
        const ltxi_row *r = &s->rows[batch[i]];
        const float *x = ltxi_input(s, st) + (size_t)r->slot * (size_t)s->ld;
        if (l->router_norm.data != NULL) { ltxi_norm(s, x, &l->router_norm, NULL, s->xn); x = s->xn; }
        s->weight[r->slot] = ltxi_logistic(s, &l->router, &l->router_bias, 0, x);
    }
    if (!ltxi_routes(st)) return;
    for (i = 0; i < n; i++) {
        ltxi_row *r = &s->rows[batch[i]];
        r->chosen = (st->run & LTX_PROMPT && r->wanted) || (st->route > 0 ? s->weight[r->slot] > st->route : ltxi_among(s, batch, n, i, -st->route, 1) || (r->mixed && r->kind == 0));
    }
    for (i = 0; i < n; i++) s->stats.skipped += !s->rows[batch[i]].chosen && s->rows[batch[i]].skip == 0 && !s->rows[batch[i]].filling;
}
/* Attention, without adapters and as mean over the heads, that the last of rows idx[0..n), all of one sequence, pays to each of them, into their weights. */
LTXI_FN void ltxi_pay(ltx_session *s, const ltx_step *st, const int32_t *idx, int32_t n)
{
    const ltx_model *m = &s->model;
    const ltx_layer *l = &m->layers[st->layer];
    ltxi_job k = ltxi_job_of(&l->wk, &l->bk, s->k, s->kv_ld), q = ltxi_job_of(&l->wq, &l->bq, s->q, s->q_ld);
    int32_t h, i;
    float sum;
    ltxi_norm_rows(s, ltxi_input(s, st), m->norm_after ? NULL : &l->attn_norm, &l->attn_norm_bias, idx, n);
    ltxi_project(s, s->xn, n, &k, 1);
    ltxi_project(s, s->xn + (size_t)(n - 1) * (size_t)s->ld, 1, &q, 1);
    for (i = 0; i < n; i++) {
        ltxi_row *r = &s->rows[idx[i]];
        if (r->turned < 0) ltxi_turn_to(s, r, r->position);
        ltxi_finish_heads(s, s->k + (size_t)i * (size_t)s->kv_ld, m->n_kv_heads, &l->k_norm, ltxi_angles(s, r, 0), 1.0f);
        if (i == n - 1) ltxi_finish_heads(s, s->q, m->n_heads, &l->q_norm, ltxi_angles(s, r, 0), m->attn_scale);
        s->weight[r->slot] = 0;
    }
    for (h = 0; h < m->n_heads; h++) {
        const float *key = s->k + (size_t)(h / (m->n_heads / m->n_kv_heads)) * (size_t)m->head_dim;
        for (i = 0; i < n; i++) s->att[i] = s->m.k->dot(s->q + (size_t)h * (size_t)m->head_dim, key + (size_t)i * (size_t)s->kv_ld, m->head_dim);
        sum = s->m.k->expsum(s->att, s->m.k->maximum(s->att, n), n, NULL);
        for (i = 0; i < n; i++) s->weight[s->rows[idx[i]].slot] += s->att[i] / sum / (float)m->n_heads;
    }
}
/* Rows that the step does not keep are gone; how many of the batch are left. */
LTXI_FN int32_t ltxi_thin_out(ltx_session *s, const ltx_step *st, int32_t *batch, int32_t n)
{
    int32_t first, end, i, left = 0;
    for (first = 0; first < n; first = end) {
        int32_t kinds = 0;
        for (end = first; end < n && ltxi_came_along(&s->rows[batch[end]], &s->rows[batch[first]]); end++) kinds |= s->rows[batch[end]].kind;
        if (kinds != 0) ltxi_pay(s, st, batch + first, end - first);
    }
    for (i = 0; i < n; i++) {
        ltxi_row *r = &s->rows[batch[i]];
        r->chosen = r->kind == 0 || r->wanted || ltxi_among(s, batch, n, i, st->keep, 0);
    }
    for (i = 0; i < n; i++) {
        ltxi_row *r = &s->rows[batch[i]];
        if (r->chosen) { batch[left++] = batch[i]; continue; }
        ltxi_keep_feature(s, r);
        r->pc = s->desc.plan.count;
        s->stats.dropped++;
    }
    return left;
}

/* The rows of a batch stand before steps that are alike: they differ in cache and adapter at most. */
LTXI_FN int ltxi_alike(const ltx_step *a, const ltx_step *b)
{
    return a == b || (a->layer == b->layer && a->run == b->run && a->gate == b->gate && !(a->attn_scale != b->attn_scale) && !(a->ffn_scale != b->ffn_scale) && !(a->route != b->route) && !(a->keep != b->keep));
}
LTXI_FN ltx_result ltxi_run_step(ltx_session *s, const ltxi_goal *goal, int32_t *batch, int32_t n)
{
    const ltx_step *st = ltxi_step_of(s, &s->rows[batch[0]]), *last = s->desc.plan.steps + s->desc.plan.count - 1;
    int32_t *idx = s->batch + s->desc.rows, full = 0, fill = 0, i, gate = goal->ask && st->gate && (s->desc.policy.rule != LTX_EXIT_NEVER || s->desc.policy.monotone);
    size_t hidden = (size_t)s->model.dim * 4;
    ltx_result r;
    if (st->keep > 0) n = ltxi_thin_out(s, st, batch, n);
    ltxi_route(s, st, batch, n);
    for (i = 0; i < n; i++) if (s->rows[batch[i]].skip == 0 && !s->rows[batch[i]].filling && s->rows[batch[i]].chosen) idx[full++] = batch[i];
    for (i = 0; i < n; i++) {
        ltxi_row *row = &s->rows[batch[i]];
        const ltx_step *at = ltxi_step_of(s, row);
        if (at < last && at[1].run & LTX_BESIDE && !(at->run & LTX_BESIDE)) memcpy(s->beside + (size_t)row->slot * (size_t)s->ld, ltxi_hidden(s, row), hidden);
        if (row->skip == 0 && !row->filling) continue;
        if (row->skip > 0) { row->skip--; s->stats.skipped++; }
        if (s->desc.plan.fill != LTX_FILL_NONE && row->chosen && !(st->run & LTX_SHARE)) idx[full + fill++] = batch[i];
    }
    if (gate) for (i = 0; i < full; i++) memcpy(s->before + (size_t)s->rows[idx[i]].slot * (size_t)s->ld, ltxi_hidden(s, &s->rows[idx[i]]), hidden);
    if (st->run & LTX_ATTN && full + fill > 0) ltxi_attention_branch(s, st, idx, full, full + fill);
    if (st->run & LTX_FFN && full > 0) ltxi_ffn_branch(s, st, idx, full);
    for (i = 0; i < n; i++) s->rows[batch[i]].pc++;
    if ((r = ltxi_tap(s, idx, full)) != LTX_OK || (gate && (r = ltxi_gates(s, idx, full)) != LTX_OK)) return r;
    return ltxi_read_out(s, goal, batch, n);
}
LTXI_FN int ltxi_has_to_run(const ltx_session *s, const ltxi_row *r, const ltxi_goal *goal)
{
    return goal->flush ? r->decided : r->filling || (!r->decided && !r->held && r->pc < s->sequences[r->sequence].hold);
}
LTXI_FN int ltxi_joins(const ltx_session *s, const ltxi_goal *goal, int32_t pc, const ltxi_row *r)
{
    const int has = ltxi_has_to_run(s, r, goal), waits = r->decided || r->held;
    return pc < 0 ? has || waits : (has && ltxi_alike(ltxi_step_of(s, r), &s->desc.plan.steps[pc])) || (r->pc == pc && waits);
}
/* The batch of rows that run together: all whose step is like step `pc`, and those that wait at it (deferred), as a later row is about to need their keys and
   values. Nobody overtakes an earlier row of the sequence, or caches would not be in order. pc < 0: only looks for the lowest step that somebody can run. */
LTXI_FN int32_t ltxi_gather(ltx_session *s, const ltxi_goal *goal, int32_t pc, int32_t *lowest)
{
    int32_t n = 0, i, j, sequence = -1, barrier = 0;
    for (i = 0; i < s->n_rows; i++) {
        const ltxi_row *r = &s->rows[i];
        int joins = ltxi_joins(s, goal, pc, r);
        if (r->sequence != sequence) {
            sequence = r->sequence; barrier = LTX_MAX_STEPS + 1;
            for (j = i; s->model.both_ways && j < s->n_rows && s->rows[j].sequence == sequence; j++) if (!ltxi_joins(s, goal, pc, &s->rows[j])) barrier = -1; /* all of a text or none of it */
        }
        joins = joins && (r->tag > 0 || r->pc < barrier); /* rows of a tree are no line: their entries carry tags */
        if (!joins) { barrier = ltxi_min(barrier, r->pc); continue; }
        if (pc >= 0) s->batch[n++] = i;
        else if (ltxi_has_to_run(s, r, goal)) *lowest = ltxi_min(*lowest, r->pc);
    }
    return n;
}
LTXI_FN ltx_result ltxi_run(ltx_session *s, const ltxi_goal *goal)
{
    ltx_result r = LTX_OK;
    while (r == LTX_OK && !(goal->first && s->n_ready > 0)) {
        int32_t pc = LTX_MAX_STEPS, n;
        ltxi_gather(s, goal, -1, &pc);
        if (pc == LTX_MAX_STEPS) return LTX_OK;
        n = ltxi_gather(s, goal, pc, NULL);
        r = ltxi_run_step(s, goal, s->batch, n);
        ltxi_drop_rows(s, -1, 0); /* also when a callback stopped: a finished row never runs again */
    }
    return r;
}
/* Is a row on its way: not yet at the end and without logits? */
LTXI_FN int ltxi_in_flight(const ltx_session *s)
{
    int32_t i;
    for (i = 0; i < s->n_rows; i++) if (!s->rows[i].decided) return 1;
    return 0;
}

LTXI_FN ltx_result ltxi_rewind(ltx_session *s, int32_t sequence, int32_t position)
{
    ltxi_sequence *q = &s->sequences[sequence];
    int32_t i;
    if (position < 0 || position > q->position) return LTX_E_ARG;
    if (s->kv.window > 0 && position > 0 && position < q->high - s->desc.rows) return LTX_E_ARG;
    ltxi_drop_rows(s, sequence, position);
    for (i = 0; i < s->n_storage; i++) ltxi_cache_rewind(&s->kv, ltxi_sequence_cache(s, sequence, i), position);
    q->position = position;
    if (position == 0) { q->high = 0; q->depth = LTXI_NO_HOLD; }
    return LTX_OK;
}
LTX_API ltx_result ltx_rewind(ltx_session *s, int32_t position) { return s == NULL ? LTX_E_ARG : ltxi_rewind(s, s->now, position); }
/* Make every waiting row run to the end. */
LTX_API ltx_result ltx_flush(ltx_session *s)
{
    static const ltxi_goal goal = { 0, 0, 1, 0 };
    return s == NULL ? LTX_E_ARG : ltxi_run(s, &goal);
}

/* ==== >>plans =============================================================================================
   Owns the helpers that write plans, and the switches between calls. May call: session, engine.                */

LTXI_FN void ltxi_without_attn(ltx_step *st) { st->run = (uint8_t)(st->run & ~(LTX_ATTN | LTX_SHARE | LTX_RENUMBER)); st->keep = 0; }
/* One more step of a plan, if it has branches left. What stood beside a step that is gone stands alone. */
LTXI_FN void ltxi_keep_step(ltx_step *steps, int32_t *n, int32_t *alone, ltx_step st)
{
    if (st.run & LTX_BESIDE && (*n == 0 || *alone)) st.run = (uint8_t)(st.run & ~LTX_BESIDE);
    if ((st.run & (LTX_ATTN | LTX_FFN)) == 0) { *alone |= !(st.run & LTX_BESIDE); return; }
    *alone = 0;
    steps[(*n)++] = st;
}
LTX_API ltx_result ltx_plan_drop(ltx_step *steps, int32_t *count, int32_t layer, int32_t branches)
{
    int32_t i, n = 0, found = 0, alone = 0;
    if (steps == NULL || count == NULL || branches < 1 || branches > (LTX_ATTN | LTX_FFN)) return LTX_E_ARG;
    for (i = 0; i < *count; i++) found |= steps[i].layer == layer;
    if (!found) return LTX_E_ARG;
    for (i = 0; i < *count; i++) {
        ltx_step st = steps[i];
        if (st.layer == layer && branches & LTX_ATTN) ltxi_without_attn(&st);
        if (st.layer == layer) st.run = (uint8_t)(st.run & ~branches);
        ltxi_keep_step(steps, &n, &alone, st);
    }
    *count = n;
    return LTX_OK;
}
LTX_API ltx_result ltx_plan_repeat(ltx_step *steps, int32_t cap, int32_t *count, int32_t first, int32_t last, int32_t times)
{
    int32_t i, j, k, len = last - first + 1, next = 0;
    if (steps == NULL || count == NULL || first < 0 || last < first || last >= *count || times < 1) return LTX_E_ARG;
    if ((int64_t)*count + (int64_t)len * (times - 1) > ltxi_min(cap, LTX_MAX_STEPS)) return LTX_E_FULL;
    for (i = 0; i < *count; i++) if (ltxi_fills(&steps[i])) next = ltxi_max(next, ltxi_cache_of(&steps[i]) + 1);
    for (i = first, j = 0; i <= last; i++) j += ltxi_fills(&steps[i]);
    if ((int64_t)next + (int64_t)j * (times - 1) > LTX_MAX_STEPS) return LTX_E_FULL;
    memmove(steps + last + 1 + len * (times - 1), steps + last + 1, (size_t)(*count - last - 1) * sizeof *steps);
    for (j = 1; j < times; j++) for (i = first; i <= last; i++) {
        steps[i + len * j] = steps[i];
        if (ltxi_fills(&steps[i])) steps[i + len * j].cache = (int16_t)++next; /* field = index + 1 */
        for (k = first; steps[i].run & LTX_SHARE && k < i; k++) if (ltxi_fills(&steps[k]) && ltxi_cache_of(&steps[k]) == ltxi_cache_of(&steps[i])) steps[i + len * j].cache = steps[k + len * j].cache;
    }
    *count += len * (times - 1);
    return LTX_OK;
}
LTX_API ltx_result ltx_plan_beside(ltx_step *steps, int32_t count, int32_t first, int32_t last)
{
    int32_t i;
    if (steps == NULL || first < 0 || last < first || last >= count) return LTX_E_ARG;
    for (i = first + 1; i <= last; i++) steps[i].run |= LTX_BESIDE;
    return LTX_OK;
}
LTX_API ltx_result ltx_plan_split(ltx_step *steps, int32_t cap, int32_t *count)
{
    int32_t i, both = 0, n;
    if (steps == NULL || count == NULL || *count < 0) return LTX_E_ARG;
    for (i = 0; i < *count; i++) {
        if (steps[i].run & LTX_BESIDE || ltxi_asks_router(&steps[i])) return LTX_E_ARG; /* the halves would read or ask otherwise */
        both += (steps[i].run & LTX_ATTN) && (steps[i].run & LTX_FFN);
    }
    if (*count + both > ltxi_min(cap, LTX_MAX_STEPS)) return LTX_E_FULL;
    for (n = *count + both, i = *count - 1; i >= 0; i--) {
        steps[--n] = steps[i];
        if (!(steps[i].run & LTX_ATTN) || !(steps[i].run & LTX_FFN)) continue;
        ltxi_without_attn(&steps[n]);
        steps[--n] = steps[i];
        steps[n].run = (uint8_t)(steps[i].run & ~LTX_FFN);
        steps[n].gate = 0;
    }
    *count += both;
    return LTX_OK;
}
LTXI_FN uint64_t ltxi_bytes_of(const ltx_mat *w) { return w->data == NULL ? 0 : (uint64_t)w->rows * ltx_row_bytes(w->type, w->cols); }
/* Of a matrix and what an adapter adds to it. */
LTXI_FN uint64_t ltxi_bytes_with(const ltx_mat *w, const ltx_lora *low) { return ltxi_bytes_of(w) + (low == NULL ? 0 : ltxi_bytes_of(&low->a) + ltxi_bytes_of(&low->b)); }
LTXI_FN uint64_t ltxi_step_bytes(const ltx_model *m, const ltx_step *st)
{
    const ltx_layer *l = &m->layers[st->layer];
    const ltx_adapter *ad = st->adapter > 0 && st->adapter <= m->n_adapters ? &m->adapters[st->adapter - 1] : NULL;
    uint64_t b = 0;
#define LTXI_WITH(w, part) ltxi_bytes_with(&l->w, ad == NULL ? NULL : &ad->part)
    if (st->run & LTX_ATTN) b += LTXI_WITH(wq, q) + LTXI_WITH(wo, o);
    if (ltxi_fills(st)) b += LTXI_WITH(wk, k) + LTXI_WITH(wv, v);
    if (st->run & LTX_FFN) b += LTXI_WITH(w_up, up) + LTXI_WITH(w_down, down);
    if (st->run & LTX_FFN && l->w_gate.data != NULL) b += LTXI_WITH(w_gate, gate);
#undef LTXI_WITH
    return b;
}
LTX_API uint64_t ltx_plan_bytes(const ltx_model *model, const ltx_step *steps, int32_t count)
{
    const ltx_mat *own = model->exit_heads != NULL && count > 0 ? &model->exit_heads[steps[count - 1].layer].head : NULL;
    uint64_t b = ltxi_bytes_of(own != NULL && own->data != NULL ? own : ltxi_head_of(model));
    int32_t i;
    for (i = 0; i < count; i++) b += ltxi_step_bytes(model, &steps[i]);
    return b;
}
LTX_API ltx_result ltx_plan_within(const ltx_model *model, const ltx_step *steps, int32_t *count, uint64_t bytes)
{
    int32_t n, i, any = 1, layer;
    if (model == NULL || steps == NULL || count == NULL || *count < 1) return LTX_E_ARG;
    for (i = 0; i < LTX_MAX_LAYERS / 32; i++) if (model->exits[i] != 0) any = 0;
    for (i = 0; i < *count; i++) if (steps[i].layer < 0 || steps[i].layer >= model->n_layers) return LTX_E_ARG;
    for (n = *count; n > 0; n--) {
        layer = steps[n - 1].layer;
        if ((n == *count || any || (model->exits[layer / 32] >> layer % 32 & 1u)) && ltx_plan_bytes(model, steps, n) <= bytes) { *count = n; return LTX_OK; }
    }
    return LTX_E_FULL;
}
LTX_API int32_t ltx_trace_tap(void *trace, const ltx_view *view)
{
    ltx_trace *t = (ltx_trace *)trace;
    const float alpha = t->alpha > 0 ? t->alpha : t->alpha < 0 ? 0.0f : 0.8f;
    float length, change, *row;
    if (view->sequence != t->sequence || view->position >= t->cap || view->step >= t->steps) return LTX_GO;
    row = t->rows + (size_t)view->position * 3;
    length = sqrtf(ltxi_scalar_dot(view->hidden, view->hidden, view->dim));
    change = view->step < 0 ? 0 : length - row[0];
    row[0] = length;
    if (view->step < 0) { row[1] = FLT_MAX; row[2] = -FLT_MAX; return LTX_GO; } /* no change yet */
    t->ran[view->step]++;
    t->active[view->step] += row[1] > row[2] ? change >= 0 : change >= alpha * (row[2] - row[1]);
    row[1] = change < row[1] ? change : row[1];
    row[2] = change > row[2] ? change : row[2];
    if (t->changes != NULL) t->changes[(size_t)view->position * (size_t)t->steps + (size_t)view->step] = change;
    return LTX_GO;
}
LTX_API ltx_result ltx_plan_freeze(ltx_step *steps, int32_t *count, const ltx_trace *trace, float share)
{
    int32_t i, n = 0, alone = 0;
    if (steps == NULL || count == NULL || trace == NULL || *count < 1 || *count != trace->steps || !ltxi_in_unit(share)) return LTX_E_ARG;
    for (i = 0; i < *count; i++) {
        ltx_step st = steps[i];
        if ((float)trace->active[i] < share * (float)trace->ran[i]) st.run = (uint8_t)(st.run & ~(LTX_ATTN | LTX_FFN));
        ltxi_keep_step(steps, &n, &alone, st);
    }
    *count = ltxi_max(1, n);
    return LTX_OK;
}
LTX_API ltx_result ltx_plan_gates(ltx_step *steps, int32_t count, int32_t first, int32_t every)
{
    int32_t i;
    if (steps == NULL || count < 1 || first < 0 || every < 0 || (every > 0 && first >= count)) return LTX_E_ARG;
    for (i = 0; i < count; i++) steps[i].gate = (uint8_t)(every > 0 && i >= first && i + 1 < count && (i - first) % every == 0);
    return LTX_OK;
}
LTX_API ltx_result ltx_set_plan(ltx_session *s, const ltx_plan *plan)
{
    ltx_plan p;
    int32_t i, c;
    ltx_result r;
    if (s == NULL || plan == NULL) return LTX_E_ARG;
    p = *plan;
    if (p.steps == NULL) ltxi_plan_resolve(s, &p);
    if ((r = ltxi_plan_check(&s->desc.log, &s->model, &p)) != LTX_OK) return r;
    for (i = 0; i < p.count; i++) if (ltxi_fills(&p.steps[i])) {
        c = ltxi_cache_of(&p.steps[i]);
        if (c >= s->n_caches || s->storage[c] < 0) return ltxi_fail(&s->desc.log, LTX_E_ARG, i, "step.cache", LTXI_S("the session has no memory for it"), s->n_caches, c);
    }
    if (ltxi_has_beside(&p) && !s->has_beside) return ltxi_fail(&s->desc.log, LTX_E_ARG, -1, "step.run", LTXI_S("no memory for LTX_BESIDE: the first plan had none"), 0, LTX_BESIDE);
    if ((r = ltxi_draft_check(&s->desc.log, &s->model, &s->desc.draft, &p, s->desc.draft_max)) != LTX_OK) return r;
    if (ltxi_in_flight(s)) return ltxi_fail(&s->desc.log, LTX_E_ARG, -1, "plan", LTXI_S("rows are on hold or on their way"), 0, s->n_rows);
    if ((r = ltx_flush(s)) != LTX_OK) return r;
    s->desc.plan = p;
    for (i = 0; i < s->desc.sequences; i++) s->sequences[i].hold = s->sequences[i].depth = LTXI_NO_HOLD;
    return LTX_OK;
}
LTX_API ltx_result ltx_set_policy(ltx_session *s, const ltx_policy *policy)
{
    ltx_result r;
    if (s == NULL || policy == NULL) return LTX_E_ARG;
    if ((r = ltxi_policy_check(&s->desc.log, &s->model, policy)) == LTX_OK) s->desc.policy = *policy;
    return r;
}
LTX_API ltx_result ltx_set_draft(ltx_session *s, const ltx_draft *draft)
{
    ltx_draft d;
    ltx_result r;
    if (s == NULL || draft == NULL) return LTX_E_ARG;
    d = *draft;
    ltxi_draft_defaults(&d, s->desc.draft_max);
    if (ltxi_has_beside(&d.plan) && !s->has_beside) return ltxi_fail(&s->desc.log, LTX_E_ARG, -1, "draft.plan", LTXI_S("no memory for LTX_BESIDE: the first plans had none"), 0, LTX_BESIDE);
    if ((r = ltxi_draft_check(&s->desc.log, &s->model, &d, &s->desc.plan, s->desc.draft_max)) == LTX_OK) { s->desc.draft = d; s->idle = 0; }
    return r;
}

/* ==== >>decode ============================================================================================
   Owns the loops: prompts in pieces, one token at a time, self-speculation. May call: sampling, engine.         */

LTXI_FN int32_t ltxi_limit(const ltx_session *s) { return s->kv.window > 0 ? s->positions : s->desc.ctx; } /* positions of a sequence */
LTXI_FN ltx_result ltxi_room(const ltx_session *s, int32_t sequence, int32_t count)
{
    int32_t limit = ltxi_limit(s), position = s->sequences[sequence].position;
    if (count <= limit - position) return LTX_OK;
    return ltxi_fail(&s->desc.log, LTX_E_FULL, -1, "position", LTXI_S("past the cache"), limit, (int64_t)position + count);
}
LTXI_FN int32_t ltxi_sequence_of(const ltx_session *s, const ltx_batch *b, int32_t i) { return b->sequence != NULL ? b->sequence[i] : s->now; }
LTXI_FN int32_t ltxi_kind_of(const ltx_batch *b, int32_t i) { return b->kind != NULL ? b->kind[i] : 0; }
LTXI_FN int ltxi_wants(const ltx_batch *b, int32_t i) { return b->want != NULL ? b->want[i] != 0 : i >= b->count - b->logits; }
/* Everything that a batch can be wrong in; notes where its sequences begin. */
LTXI_FN ltx_result ltxi_batch_check(ltx_session *s, const ltx_batch *b, int32_t wanted)
{
    const ltx_log *log = &s->desc.log;
    int32_t i, q;
    ltx_result r;
    if (b->tokens != NULL && s->model.embed.data == NULL) return ltxi_fail(log, LTX_E_ARG, -1, "tokens", LTXI_S("the model has no embed"), 0, b->count);
    if (wanted > s->desc.logits_rows || (wanted > 1 && b->count > s->desc.rows)) return ltxi_fail(log, LTX_E_ARG, -1, "logits", LTXI_S("more than logits_rows, or than one for more rows than `rows`"), s->desc.logits_rows, wanted);
    if (b->want == NULL && (b->logits < 0 || b->logits > b->count)) return LTX_E_ARG;
    if (b->features && (!s->desc.features || b->first || b->count > s->desc.rows)) return ltxi_fail(log, LTX_E_ARG, -1, "features", LTXI_S("no memory, more than `rows`, or with `first`"), s->desc.rows, b->count);
    for (q = 0; q < s->desc.sequences; q++) { s->sequences[q].begin = s->sequences[q].position; s->sequences[q].depth_before = s->sequences[q].depth; s->sequences[q].coming = s->sequences[q].wanting = 0; }
    for (i = s->n_rows - 1; i >= 0; i--) if (!s->rows[i].decided) s->sequences[s->rows[i].sequence].begin = ltxi_min(s->sequences[s->rows[i].sequence].begin, s->rows[i].position);
    for (i = 0; i < b->count; i++) {
        q = ltxi_sequence_of(s, b, i);
        if (q < 0 || q >= s->desc.sequences) return ltxi_fail(log, LTX_E_ARG, i, "sequence", LTXI_S("there is no such sequence"), s->desc.sequences - 1, q);
        s->sequences[q].coming++;
        if (b->kind != NULL && b->kind[i] >= LTX_KINDS) return ltxi_fail(log, LTX_E_ARG, i, "kind", LTXI_S("there is no such kind"), LTX_KINDS - 1, b->kind[i]);
        if (s->desc.policy.monotone && ltxi_wants(b, i) && s->sequences[q].wanting++ > 0) return ltxi_fail(log, LTX_E_ARG, i, "logits", LTXI_S("with policy.monotone one row of a sequence"), 1, 2);
        if (b->features && s->sequences[q].hold != LTXI_NO_HOLD) return ltxi_fail(log, LTX_E_ARG, i, "features", LTXI_S("the sequence is on hold"), 0, q);
        if (b->tokens != NULL && (b->tokens[i] < 0 || b->tokens[i] >= s->model.vocab)) return ltxi_fail(log, LTX_E_ARG, -1, "token", LTXI_S("not in the vocabulary"), s->model.vocab - 1, b->tokens[i]);
        if (s->model.both_ways && (s->sequences[q].position > 0 || b->count > s->desc.rows))
            return ltxi_fail(log, LTX_E_ARG, -1, "both_ways", LTXI_S("a sequence is one call, of at most `rows` rows, at position 0"), s->desc.rows, b->count);
    }
    for (q = 0; q < s->desc.sequences; q++) if ((r = ltxi_room(s, q, s->sequences[q].coming)) != LTX_OK) return r;
    return LTX_OK;
}
/* Rows of one piece; their logits come in the order of the batch. */
LTXI_FN ltx_result ltxi_add_piece(ltx_session *s, const ltx_batch *b, int32_t at, int32_t count, int32_t *out)
{
    int32_t i, k, row, company = s->companies = (s->companies + 1) & 0x3fffffff;
    ltx_result r = LTX_OK;
    for (i = 0; i < s->desc.sequences; i++) memset(s->sequences[i].kinds, 0, sizeof s->sequences[i].kinds);
    for (i = at; i < at + count; i++) s->sequences[ltxi_sequence_of(s, b, i)].kinds[ltxi_kind_of(b, i)]++;
    for (i = at; i < at + count; i++) {
        const ltxi_sequence *q = &s->sequences[ltxi_sequence_of(s, b, i)];
        row = ltxi_add_row(s, ltxi_sequence_of(s, b, i), b->tokens != NULL ? b->tokens[i] : -1, b->embeds != NULL ? b->embeds + (size_t)i * (size_t)s->model.dim : NULL, ltxi_wants(b, i) ? (*out)++ : -1);
        s->rows[row].kind = ltxi_kind_of(b, i);
        s->rows[row].peers = q->kinds[s->rows[row].kind];
        for (s->rows[row].mixed = 0, k = 1; k < LTX_KINDS; k++) s->rows[row].mixed |= q->kinds[k] > 0;
        s->rows[row].company = company;
        if (b->features) s->rows[row].feature = i;
        if (ltxi_tap(s, &row, 1) != LTX_OK) r = LTX_E_STOPPED;
    }
    return r;
}
/* All sequences back to where the call found them; where a window has lost that, to their last whole piece. */
LTXI_FN void ltxi_take_back(ltx_session *s, const ltx_batch *b, int32_t done)
{
    int32_t q, i;
    for (q = 0; q < s->desc.sequences; q++) s->sequences[q].coming = s->sequences[q].begin;
    for (i = 0; i < done; i++) s->sequences[ltxi_sequence_of(s, b, i)].coming++;
    for (q = 0; q < s->desc.sequences; q++) {
        if (ltxi_rewind(s, q, s->sequences[q].begin) != LTX_OK) ltxi_rewind(s, q, s->sequences[q].coming);
        s->sequences[q].depth = s->sequences[q].depth_before;
    }
}
LTX_API ltx_result ltx_eval_batch(ltx_session *s, const ltx_batch *b, ltx_output *out)
{
    int32_t at = 0, i, piece, n = 0, wanted = 0, older = 0, late;
    ltxi_goal goal = { 1, 0, 0, 0 };
    ltx_result r;
    if (s == NULL || b == NULL || b->count < 0 || (b->count > 0 ? (b->tokens == NULL) == (b->embeds == NULL) : b->tokens != NULL || b->embeds != NULL || !ltxi_in_flight(s))) return LTX_E_ARG;
    for (i = 0; i < b->count; i++) wanted += ltxi_wants(b, i);
    for (i = 0; i < s->n_rows; i++) older += s->rows[i].out >= 0 && !s->rows[i].decided;
    if ((r = ltxi_batch_check(s, b, wanted + older)) != LTX_OK) return r;
    for (older = i = 0; i < s->n_rows; i++) { /* rows on their way make place for new ones */
        s->rows[i].feature = -1;
        if (s->rows[i].out >= 0 && !s->rows[i].decided) s->rows[i].out = wanted + older++;
    }
    s->n_ready = 0;
    do {
        piece = ltxi_min(b->count - at, s->desc.rows);
        if (piece > s->desc.rows - s->n_rows && (r = ltx_flush(s)) != LTX_OK) break; /* waiting rows make room */
        if (!b->features && !s->model.both_ways) piece = ltxi_min(piece, s->desc.rows - s->n_rows);
        if (piece > s->desc.rows - s->n_rows || (piece == 0 && b->count > at)) { r = ltxi_fail(&s->desc.log, LTX_E_FULL, -1, "rows", LTXI_S("rows on hold or on their way leave too few"), piece, s->desc.rows - s->n_rows); break; }
        goal.first = b->first && at + piece == b->count;
        if ((r = ltxi_add_piece(s, b, at, piece, &n)) != LTX_OK || (r = ltxi_run(s, &goal)) != LTX_OK) break;
        at += piece;
    } while (at < b->count);
    if (r != LTX_OK) { ltxi_take_back(s, b, at); return r; }
    if (out == NULL) return LTX_OK;
    for (i = 0, late = wanted; i < s->n_ready; i++) late -= s->ready[i].logits < s->logits + (size_t)wanted * (size_t)s->model.vocab;
    out->logits = wanted > 0 && late == 0 ? s->logits : NULL;
    out->depth = out->logits != NULL ? s->depths : NULL;
    out->ready = s->ready; out->n_ready = s->n_ready;
    out->features = b->features ? s->features : NULL;
    return LTX_OK;
}
LTX_API ltx_result ltx_embed(ltx_session *s, const ltx_batch *batch, int32_t pool, int32_t size, float *out)
{
    ltx_batch b;
    ltx_output o;
    ltxi_sequence *q;
    int32_t i, first, n, position;
    float *sum, length;
    ltx_result r;
    if (s == NULL || batch == NULL || out == NULL || batch->count < 1 || pool < LTX_POOL_MEAN || pool > LTX_POOL_LAST || size < 1 || size > s->model.dim || batch->sequence != NULL) return LTX_E_ARG;
    b = *batch;
    b.features = 1;
    q = &s->sequences[s->now];
    position = q->position;
    for (n = i = 0; i < b.count; i++) n += ltxi_wants(&b, i);
    q->position = 0; /* what is wrong with the batch is said before anything is forgotten */
    r = ltxi_in_flight(s) ? LTX_E_ARG : ltxi_batch_check(s, &b, n);
    q->position = position;
    if (r != LTX_OK || (r = ltxi_rewind(s, s->now, 0)) != LTX_OK || (r = ltx_eval_batch(s, &b, &o)) != LTX_OK) return r;
    first = pool == LTX_POOL_LAST ? b.count - 1 : 0;
    n = pool == LTX_POOL_MEAN ? b.count : 1;
    sum = s->features + (size_t)first * (size_t)s->model.dim;
    for (i = 1; i < n; i++) s->m.k->axpy(sum, s->features + (size_t)(first + i) * (size_t)s->model.dim, 1.0f, s->model.dim);
    length = s->m.k->dot(sum, sum, size); /* a mean has the direction of the sum */
    if (!(length > 0) || !ltxi_finite(length)) return ltxi_fail(&s->desc.log, LTX_E_NAN, -1, "features", LTXI_S("of no length, or not finite"), 0, 0);
    s->m.k->mulv(sum, NULL, 1.0f / sqrtf(length), size);
    memcpy(out, sum, (size_t)size * 4);
    return LTX_OK;
}
LTX_API ltx_result ltx_eval(ltx_session *s, const int32_t *tokens, int32_t count, const float **logits)
{
    ltx_batch b;
    ltx_output out;
    ltx_result r;
    memset(&b, 0, sizeof b);
    b.tokens = tokens; b.count = count; b.logits = logits != NULL;
    r = ltx_eval_batch(s, &b, &out);
    if (r == LTX_OK && logits != NULL) *logits = out.logits;
    return r;
}

LTXI_FN int32_t ltxi_choose(ltx_session *s, ltx_sampler *sampler, const float *logits)
{
    if (ltxi_is_greedy(sampler)) return ltxi_argmax(s->m.k, logits, s->model.vocab);
    ltxi_probabilities(s->m.k, sampler, logits, s->model.vocab, s->probs, s->order);
    return ltx_draw(s->probs, s->model.vocab, ltx_random(sampler));
}
LTX_API ltx_result ltx_sample(ltx_session *s, ltx_sampler *sampler, const float *logits, int32_t *token)
{
    if (s == NULL || sampler == NULL || logits == NULL || token == NULL) return LTX_E_ARG;
    *token = ltxi_choose(s, sampler, logits);
    return LTX_OK;
}
LTXI_FN ltx_result ltxi_decode_one(ltx_session *s, ltx_sampler *sampler, int32_t token, ltx_token *out, int32_t *count)
{
    ltx_batch b;
    ltx_output o;
    ltx_result r;
    memset(&b, 0, sizeof b);
    b.tokens = &token; b.count = 1; b.logits = 1;
    if ((r = ltx_eval_batch(s, &b, &o)) != LTX_OK) return r;
    out->depth = o.depth[0];
    out->drafted = 0;
    out->id = ltxi_choose(s, sampler, o.logits);
    *count = 1;
    return LTX_OK;
}

#ifndef LTX_NO_SPECULATION
/* A round of self-speculation. Node 0 is the known token, the others are drafted, each after its parent: a chain, beside which rivals of single tokens may stand.
   The row of a node of the chain runs to an exit; its logits there draft the next node, and the row is held. Then all rows go on from where they are
   as one batch, and the longest path that the deep logits agree with is kept, plus the token that they choose after it. */
typedef struct ltxi_node {
    int32_t token, parent, bin; /* bin: how sure the draft was, or how long the match, or how sure a transfer */
    int32_t depth;              /* steps that drafted it, 0 = none did                      */
} ltxi_node;
typedef struct ltxi_draft_round {
    ltx_sampler *sampler;
    int32_t  begin, n, rows;      /* position of node 0; drafted nodes, numbered from 1; rows made */
    int32_t  tree, transfer;      /* rows carry tags; how many transfers follow                  */
    int32_t  tag[LTXI_DRAFTS + 1]; /* of the nodes' rows, in the order of making: the chain, then rivals; 0 = no tree */
    ltxi_node node[LTXI_DRAFTS + 1];
    int32_t  next[LTXI_DRAFTS + 1]; /* the child in the chain, 0 = none                        */
    float    sure;                /* estimated chance that the whole chain is accepted              */
    float    price;               /* of a token so far; this and the other costs in whole passes, or as time */
    float    spent;               /* cost of the drafts                                             */
    float    cost[LTXI_EXITS];    /* of one more draft by each exit                                 */
    float    row_price;           /* of one more row that is verified only: looked up, transferred, a rival; it runs every step */
    double   began;               /* time at which the row that is to draft began                   */
    int32_t  bin;                 /* how sure it was at the exit before, -1 = there was none        */
} ltxi_draft_round;
enum { LTXI_DEEPER, LTXI_DRAFTED, LTXI_ENOUGH }; /* what comes of looking at an exit */

LTXI_FN int32_t ltxi_bin(float p) { return p > 0 ? ltxi_min(LTXI_BINS - 1, (int32_t)(p * (float)LTXI_BINS)) : 0; } /* NaN is not sure */
LTXI_FN double ltxi_now(const ltx_session *s) { return s->desc.draft.clock != NULL ? s->desc.draft.clock(s->desc.draft.user) : 0; }
LTXI_FN ltxi_odds *ltxi_odds_at(const ltx_session *s, int32_t depth) { return &s->odds[ltxi_min(depth, s->n_odds) - 1]; }
/* Costs of a row that drafts at an exit: its share of the steps, the draft's head, and one more row in the deep batch; as shares of a pass, from bytes, or, after a round with
   a clock, as time (what has not been measured is free, and so will be tried). The line through times of verification gives what a row more takes there. */
LTXI_FN void ltxi_draft_costs(ltx_session *s, ltxi_draft_round *round)
{
    const ltx_draft *d = &s->desc.draft;
    const ltx_mat *head = ltxi_head_of(&s->model);
    const float down = s->timed * s->rows_squared - s->rows_sum * s->rows_sum, line = s->timed * s->rows_time - s->rows_sum * s->time_sum;
    double own = (double)s->draft_head.rows * (double)ltx_row_bytes(head->type, head->cols), all = (double)ltx_plan_bytes(&s->model, s->desc.plan.steps, s->desc.plan.count), shallow = 0, rest = 1;
    int32_t i, k, measured = s->timed > 0, by_plan = d->plan.steps != NULL, last = by_plan ? 1 : d->last, first = by_plan ? 1 : d->exit;
    if (down > 0.01f * s->timed * s->timed) s->slope = line > 0 ? line / down : 0; /* else all had as many rows, and say nothing about it */
    for (k = 0; by_plan && k < d->plan.count; k++) shallow += (double)ltxi_step_bytes(&s->model, &d->plan.steps[k]);
    for (i = 0; i < last; i++) {
        if (!by_plan) shallow += (double)ltxi_step_bytes(&s->model, &s->desc.plan.steps[i]);
        if (i + 1 < first) continue;
        if (i + 1 == first && !by_plan) rest = 1.0 - shallow / all;
        round->cost[i + 1 - first] = measured ? ltxi_odds_at(s, by_plan ? d->plan.count : i + 1)->time + s->slope
                                              : ltxi_fma(d->row_cost, by_plan ? 1.0f : (float)(1.0 - shallow / all), (float)((shallow + own) / all));
    }
    round->row_price = measured ? s->slope / (float)rest : d->row_cost; /* measured were mostly rows that only ran the rest, from where drafting stopped */
    round->price = s->round_cost / s->round_tokens;
}
/* What row i's logits at an exit say: fills q [vocab], the draft's distribution, when sampling; returns how sure the draft is. */
LTXI_FN ltxi_sure ltxi_draft_view(ltx_session *s, const ltx_sampler *sampler, int32_t i, float *q)
{
    const float *logits = s->logits + (size_t)i * (size_t)s->model.vocab;
    float *few = s->probs + (size_t)s->desc.draft_max * (size_t)s->model.vocab;
    int32_t j, n = s->draft_head.rows, shortlist = s->model.n_draft_ids > 0;
    ltxi_sure sure;
    if (ltxi_is_greedy(sampler)) {
        sure = s->desc.draft.tree ? ltxi_sure_of_two(s->m.k, logits, q, n) : ltxi_how_sure(s->m.k, logits, q, n);
    } else {
        ltxi_probabilities(s->m.k, sampler, logits, n, shortlist ? few : q, s->order);
        memset(&sure, 0, sizeof sure);
        sure.prob = s->m.k->maximum(shortlist ? few : q, n);
        if (shortlist) for (memset(q, 0, (size_t)s->model.vocab * 4), j = 0; j < n; j++) q[ltxi_draft_id(&s->model, j)] = few[j];
    }
    if (shortlist) { sure.token = ltxi_draft_id(&s->model, sure.token); sure.second = ltxi_draft_id(&s->model, ltxi_max(0, sure.second)); }
    return sure;
}
LTXI_FN int32_t ltxi_add_node(ltxi_draft_round *round, int32_t parent, int32_t token, int32_t bin, int32_t depth)
{
    ltxi_node *node = &round->node[++round->n];
    node->token = token; node->parent = parent; node->bin = bin; node->depth = depth;
    round->next[round->n] = 0;
    return round->n;
}
LTXI_FN uint64_t ltxi_tag_bit(const ltxi_draft_round *round, int32_t node) { return round->tree ? (uint64_t)1 << (round->tag[node] - 1) : 0; }
/* A row for a node; in a tree it sees only its ancestors. */
LTXI_FN ltx_result ltxi_node_row(ltx_session *s, ltxi_draft_round *round, int32_t node, int32_t *row)
{
    int32_t depth = 0, i;
    uint64_t tags = 0;
    round->tag[node] = round->tree ? ++round->rows : 0;
    for (i = node; i >= 0; i = round->node[i].parent) { tags |= ltxi_tag_bit(round, i); depth += i > 0; }
    s->sequences[s->now].position = round->begin + depth;
    *row = ltxi_add_row(s, s->now, round->node[node].token, NULL, node);
    s->rows[*row].tag = round->tag[node];
    s->rows[*row].tags = tags;
    return ltxi_tap(s, row, 1);
}
/* Chance that a draft is accepted: by its confidence or the length of its match; where it was drafted after `depth` steps as seen there; what was seen elsewhere counts as four drafts. */
LTXI_FN float ltxi_chance(const ltx_session *s, int32_t bin, int32_t depth)
{
    const float chance = s->hits[bin] / s->tries[bin];
    const ltxi_odds *o = depth > 0 && bin < LTXI_BINS ? ltxi_odds_at(s, depth) : NULL;
    return o == NULL ? chance : ltxi_fma(4.0f, chance, o->hits[bin]) / (4.0f + o->tries[bin]);
}
LTXI_FN void ltxi_learn(float *mean, float x) { if (x >= 0) *mean = *mean > 0 ? ltxi_fma(0.125f, x - *mean, *mean) : x; } /* no NaN of a clock */
/* The likeliest rival of a token that was just drafted stands beside it, if that is expected to pay. */
LTXI_FN void ltxi_draft_rival(const ltx_session *s, ltxi_draft_round *round, int32_t parent, int32_t token, int32_t bin, int32_t depth, float worth, int32_t most)
{
    if (!s->desc.draft.tree || !round->tree || !ltxi_is_greedy(round->sampler) || round->n >= most) return;
    if (token == round->node[round->next[parent]].token || worth * ltxi_chance(s, bin, depth) < round->row_price) return; /* where one token is all there is, it is its own rival */
    ltxi_add_node(round, parent, token, bin, depth);
    round->spent += round->row_price;
}
/* A token that no step drafts pays if it is expected to save more than its row costs: a wrong one in front makes the others worthless. */
LTXI_FN int ltxi_certain_pays(const ltx_session *s, const ltxi_draft_round *round, int32_t bin) { return round->sure * round->price * ltxi_chance(s, bin, 0) >= round->row_price; }
LTXI_FN void ltxi_draft_certain(const ltx_session *s, ltxi_draft_round *round, int32_t parent, int32_t token, int32_t bin)
{
    round->next[parent] = ltxi_add_node(round, parent, token, bin, 0);
    round->spent += round->row_price;
    round->sure *= ltxi_chance(s, bin, 0);
}
/* Draft from the logits of the last node of the chain at an exit, or go on to the next one, or neither. Online rule: a draft pays when the chance that it is kept, times the
   price that a token had so far, is more than the row of a draft has cost on the mean. Costs are divided by `worth`, so that they compare with chances: `even` is the chance that just pays, `deeper` what
   the next exit turned out to offer after such a view, less that look. The decision must not look at the token that is drawn, or the tokens would no longer follow the draft's
   distribution. */
LTXI_FN int ltxi_draft(ltx_session *s, ltxi_draft_round *round, int32_t parent, int32_t exit, int32_t is_last, int32_t most)
{
    const int greedy = ltxi_is_greedy(round->sampler), fixed = s->desc.draft.stop > 0;
    const int32_t depth = s->desc.draft.plan.steps != NULL ? s->desc.draft.plan.count : s->desc.draft.exit + exit;
    const float worth = round->sure * round->price + FLT_MIN, even = (s->draft_cost > 0 ? s->draft_cost : round->cost[0]) / worth;
    float *q = s->probs + (size_t)parent * (size_t)s->model.vocab, chance, deeper = 0, value;
    ltxi_sure sure = ltxi_draft_view(s, round->sampler, parent, q);
    ltxi_odds *odds = ltxi_odds_at(s, depth);
    int32_t bin = ltxi_bin(sure.prob), rival = ltxi_bin(sure.prob - sure.margin), token, pays;
    if (s->clock != NULL) ltxi_learn(&odds->time, (float)(ltxi_now(s) - round->began));
    chance = ltxi_chance(s, bin, depth);
    if (!is_last) deeper = (odds->deeper[bin] > 0 ? odds->deeper[bin] : 0.5f + 0.5f * chance) - (round->cost[exit + 1] - round->cost[exit]) / worth;
    value = chance > deeper ? chance : deeper; /* of what is best here, as a chance that would be worth as much */
    pays = fixed ? sure.prob >= s->desc.draft.stop || !is_last : value >= even;
    if (round->bin >= 0) ltxi_learn(&ltxi_odds_at(s, depth - 1)->deeper[round->bin], pays && value < 1 ? value : even < 1 ? even : 1); /* ending here is worth what just pays: nothing */
    round->bin = bin;
    if (!pays && !is_last && odds->deeper[bin] > 0) odds->deeper[bin] = ltxi_fma(1.0f / 32, 1.0f - odds->deeper[bin], odds->deeper[bin]); /* look again some time */
    if (!pays) return LTXI_ENOUGH;
    if (fixed ? sure.prob < s->desc.draft.stop : chance < value) return LTXI_DEEPER;
    token = greedy ? sure.token : ltx_draw(q, s->model.vocab, ltx_random(round->sampler));
    round->next[parent] = ltxi_add_node(round, parent, token, bin, depth);
    ltxi_draft_rival(s, round, parent, sure.second, rival, depth, worth, most);
    round->sure *= chance;
    return LTXI_DRAFTED;
}
/* Charge the round for a row that looked as far as this exit (-1 = none). Node 0 is free: plain decoding would run it, too. */
LTXI_FN void ltxi_spend(ltx_session *s, ltxi_draft_round *round, int32_t node, int32_t exit)
{
    const float cost = exit < 0 ? round->row_price : round->cost[exit];
    if (exit >= 0) ltxi_learn(&s->draft_cost, cost);
    if (node > 0) round->spent += cost;
}
/* The token that full depth chooses: a draft (-1 = none) with min(1, p/q), else one drawn from the positive part of p - q (arXiv 2211.17192). Greedy: the best one. */
LTXI_FN int32_t ltxi_judge(ltx_session *s, ltx_sampler *sampler, int32_t drafted, float *q, float *p, const float *logits)
{
    int32_t i, vocab = s->model.vocab;
    float sum = 0, u;
    if (ltxi_is_greedy(sampler)) return ltxi_argmax(s->m.k, logits, vocab);
    ltxi_probabilities(s->m.k, sampler, logits, vocab, p, s->order);
    u = ltx_random(sampler);
    if (drafted < 0) return ltx_draw(p, vocab, u);
    if (u * q[drafted] < p[drafted]) return drafted;
    for (i = 0; i < vocab; i++) { q[i] = p[i] > q[i] ? p[i] - q[i] : 0.0f; sum += q[i]; }
    return sum > 0 ? ltx_draw(q, vocab, ltx_random(sampler) * sum) : drafted; /* u in [0, sum) */
}
/* The token at a position, the one to be fed next included; -1 if it is forgotten or came as an embedding. */
LTXI_FN int32_t ltxi_past(const ltx_session *s, int32_t token, int32_t position)
{
    int32_t now = ltx_position(s);
    if (position == now) return token;
    return position < 0 || position < now - s->past_size ? -1 : *ltxi_past_of(s, s->now, position);
}
/* The longest match of the last tokens earlier in the text, of the latest of several; its length, 0 = none, and where it ends. */
LTXI_FN int32_t ltxi_match(const ltx_session *s, int32_t token, int32_t *end)
{
    int32_t at, n, longest = 0, now = ltx_position(s), first = ltxi_max(0, now - s->past_size);
    for (at = now - 1; at >= first && longest < s->desc.draft.lookup; at--) {
        for (n = 0; n < s->desc.draft.lookup && at - n >= first && ltxi_past(s, token, at - n) >= 0 && ltxi_past(s, token, at - n) == ltxi_past(s, token, now - n); n++) { }
        if (n > longest) { longest = n; *end = at; }
    }
    return longest;
}
/* Draft what followed the last time that the text went like this. */
LTXI_FN void ltxi_look_up(ltx_session *s, ltxi_draft_round *round, int32_t most)
{
    int32_t end = 0, token = round->node[0].token, n = ltxi_match(s, token, &end), bin = LTXI_BINS + n - 1;
    while (n > 0 && round->n < most && end + 1 + round->n <= ltx_position(s)) {
        const int32_t next = ltxi_past(s, token, end + 1 + round->n);
        if (next < 0 || !ltxi_certain_pays(s, round, bin)) break;
        ltxi_draft_certain(s, round, round->n, next, bin);
    }
}
/* Draft what the transfers of the last round said. */
LTXI_FN void ltxi_take_ahead(ltx_session *s, ltxi_draft_round *round, int32_t most, int32_t deep)
{
    const float stop = s->desc.draft.stop;
    int32_t i, node = 0;
    s->idle = s->idle % (1 << 20) + 1;
    if (s->ahead_of != round->begin || s->ahead_in != s->now) return;
    for (i = 0; i < ltxi_min(s->n_ahead, deep) && round->n < most; i++, node = round->next[node]) {
        const ltxi_sure *a = &s->ahead[i];
        const int32_t bin = LTXI_AHEAD_BIN + ltxi_bin(a->prob);
        const float worth = round->sure * round->price;
        if (stop > 0 ? a->prob < stop : !ltxi_certain_pays(s, round, bin)) break;
        s->idle = 0;
        ltxi_draft_certain(s, round, node, a->token, bin);
        ltxi_draft_rival(s, round, node, a->second, LTXI_AHEAD_BIN + ltxi_bin(a->prob - a->margin), 0, worth, most);
    }
}
/* Rows of rivals run from the first step on; those of the chain are there. */
LTXI_FN ltx_result ltxi_rival_rows(ltx_session *s, ltxi_draft_round *round)
{
    int32_t rival, row;
    ltx_result r;
    for (rival = 1; rival <= round->n; rival++) {
        if (round->next[round->node[rival].parent] != rival && (r = ltxi_node_row(s, round, rival, &row)) != LTX_OK) return r;
    }
    return LTX_OK;
}
/* Rows for the known token and for those that are drafted, all from the first step on. */
LTXI_FN ltx_result ltxi_chain_rows(ltx_session *s, ltxi_draft_round *round)
{
    int32_t node = 0, next, row;
    ltx_result r;
    for (;; node = next) {
        float *q = s->probs + (size_t)node * (size_t)s->model.vocab;
        if ((r = ltxi_node_row(s, round, node, &row)) != LTX_OK) return r;
        if ((next = round->next[node]) == 0) return ltxi_rival_rows(s, round);
        if (ltxi_is_greedy(round->sampler) || round->node[next].depth > 0) continue;
        memset(q, 0, (size_t)s->model.vocab * 4); /* its distribution: certain */
        q[round->node[next].token] = 1.0f;
    }
}
static const ltxi_goal ltxi_shallow = { 0, 1, 0, 0 }, ltxi_deep = { 0, 0, 0, 0 };
LTXI_FN void ltxi_begin_draft(const ltx_session *s, ltxi_draft_round *round) { round->began = ltxi_now(s); round->bin = -1; }
/* Draft by passes of another plan, and forget what they left. */
LTXI_FN ltx_result ltxi_draft_by_plan(ltx_session *s, ltxi_draft_round *round, int32_t most, int32_t deep)
{
    const ltx_plan plan = s->desc.plan;
    int32_t node = 0, length, row, *hold = &s->sequences[s->now].hold;
    ltx_result r = LTX_OK, back;
    s->desc.plan = s->desc.draft.plan;
    *hold = s->desc.plan.count;
    for (length = 0; r == LTX_OK && round->n < most && length < deep; length++) {
        ltxi_begin_draft(s, round);
        row = ltxi_add_row(s, s->now, round->node[node].token, NULL, node);
        if ((r = ltxi_tap(s, &row, 1)) != LTX_OK || (r = ltxi_run(s, &ltxi_shallow)) != LTX_OK) break;
        ltxi_spend(s, round, 1, 0); /* that of node 0, too: verification begins anew */
        if (ltxi_draft(s, round, node, 0, 1, most) != LTXI_DRAFTED) break;
        node = round->next[node];
    }
    back = ltxi_rewind(s, s->now, round->begin);
    *hold = LTXI_NO_HOLD;
    s->desc.plan = plan;
    return r != LTX_OK ? r : back != LTX_OK ? back : ltxi_chain_rows(s, round);
}
/* Add rows and draft until a draft is not worth it or there are enough: `most` nodes, `deep` of them in a chain. The last one drafts nothing. */
LTXI_FN ltx_result ltxi_draft_rows(ltx_session *s, ltxi_draft_round *round, int32_t most, int32_t deep)
{
    int32_t first = s->desc.draft.exit, last = s->desc.draft.last, node, length, more, row = 0, *hold = &s->sequences[s->now].hold;
    ltx_result r;
    if (round->transfer > 0) ltxi_take_ahead(s, round, most, deep);
    if (s->desc.draft.lookup > 0 && round->n == 0) ltxi_look_up(s, round, ltxi_min(most, deep));
    if (round->n == 0 && s->desc.draft.plan.steps != NULL) return ltxi_draft_by_plan(s, round, most, deep);
    if (round->n > 0 || first == 0) return ltxi_chain_rows(s, round);
    for (node = length = 0, more = LTXI_DRAFTED; more == LTXI_DRAFTED; node = round->next[node], length++) {
        ltxi_begin_draft(s, round);
        if ((r = ltxi_node_row(s, round, node, &row)) != LTX_OK) return r;
        for (more = LTXI_DEEPER, *hold = first; round->n < most && length < deep && more == LTXI_DEEPER && *hold <= last; ++*hold) {
            if ((r = ltxi_run(s, &ltxi_shallow)) != LTX_OK) return r;
            more = ltxi_draft(s, round, node, *hold - first, *hold == last, most);
        }
        ltxi_spend(s, round, node, *hold - first - 1);
        s->rows[row].held = 1;
    }
    return ltxi_rival_rows(s, round);
}
/* The last node of the chain. */
LTXI_FN int32_t ltxi_leaf(const ltxi_draft_round *round)
{
    int32_t node = 0;
    while (round->next[node] != 0) node = round->next[node];
    return node;
}
/* Hidden transfer: when the leaf stands before the step of transfer i, a row that stands in for the i-th token after it goes on from there. */
LTXI_FN int ltxi_transfer_row(ltx_session *s, ltxi_draft_round *round, int32_t i) /* 0 = it would not be a number before long */
{
    const ltx_transfer *t = &s->model.transfers[i];
    int32_t tag = round->n + 2 + i, leaf = round->tag[ltxi_leaf(round)], row, k;
    ltxi_job job = ltxi_job_of(&t->h, NULL, s->y, s->ld);
    ltxi_row parent;
    for (k = 0; k < s->n_rows - 1 && s->rows[k].tag != leaf; k++) { }
    parent = s->rows[k];
    ltxi_project(s, ltxi_hidden(s, &parent), 1, &job, 1);
    for (k = 0; k < s->model.dim; k++) if (!(ltxi_abs(s->y[k]) < 1e15f)) return 0; /* squares and their sum are finite */
    s->sequences[s->now].position = parent.position + 1 + i;
    row = ltxi_add_row(s, s->now, -1, s->y, tag - 1);
    s->rows[row].tag = tag;
    s->rows[row].pc = t->step;
    s->rows[row].tags = parent.tags | (((uint64_t)2 << i) - 1) << (round->n + 1);
    round->spent += round->row_price * (float)(s->desc.plan.count - t->step) / (float)s->desc.plan.count;
    return 1;
}
/* All rows run to the end, with those of transfers, as far as there is place; but where eight rounds had no use for them, only in every eighth. */
LTXI_FN ltx_result ltxi_verify(ltx_session *s, ltxi_draft_round *round)
{
    const size_t vocab = (size_t)s->model.vocab;
    int32_t i, n = ltxi_min(round->transfer, ltxi_min(s->desc.draft_max - round->n, ltxi_limit(s) - round->begin - 1 - round->n)), *hold = &s->sequences[s->now].hold;
    ltx_result r;
    for (i = 0; i < s->n_rows; i++) s->rows[i].held = 0;
    s->n_ahead = 0;
    if (s->idle > 8 && s->idle % 8 != 0) n = 0;
    for (i = 0; i < n; i++) {
        *hold = s->model.transfers[i].step;
        if ((r = ltxi_run(s, &ltxi_deep)) != LTX_OK) return r;
        if (!ltxi_transfer_row(s, round, i)) n = i;
    }
    *hold = LTXI_NO_HOLD;
    if ((r = ltxi_run(s, &ltxi_deep)) != LTX_OK) return r;
    for (i = 0; i < n; i++) s->ahead[i] = ltxi_sure_of_two(s->m.k, s->logits + (size_t)(round->n + 1 + i) * vocab, s->probs + (size_t)s->desc.draft_max * vocab, s->model.vocab);
    s->n_ahead = ltxi_max(0, n);
    return LTX_OK;
}
LTXI_FN void ltxi_tally(float *tries, float *hits, float more, float right)
{
    if (*tries >= 64.0f) { *tries *= 0.5f; *hits *= 0.5f; } /* forget slowly */
    *tries += more;
    *hits += right;
}
LTXI_FN void ltxi_tally_draft(ltx_session *s, const ltxi_node *node, float right)
{
    ltxi_odds *o = node->depth > 0 && node->bin < LTXI_BINS ? ltxi_odds_at(s, node->depth) : NULL;
    ltxi_tally(&s->tries[node->bin], &s->hits[node->bin], 1.0f, right);
    if (o != NULL) ltxi_tally(&o->tries[node->bin], &o->hits[node->bin], 1.0f, right);
}
/* Walk from the known token along what the deep logits choose; what came after the first rejection is not judged. Returns the last node that is right. */
LTXI_FN int32_t ltxi_walk(ltx_session *s, const ltxi_draft_round *round, ltx_token *out, int32_t *count, uint64_t *tags)
{
    float *p = s->probs + (size_t)s->desc.draft_max * (size_t)s->model.vocab;
    int32_t node = 0, child = 0, i, kept;
    *tags = ltxi_tag_bit(round, 0);
    for (kept = 0;; kept++, node = child) {
        out[kept].id = ltxi_judge(s, round->sampler, round->next[node] > 0 ? round->node[round->next[node]].token : -1, s->probs + (size_t)node * (size_t)s->model.vocab, p,
                                  s->logits + (size_t)node * (size_t)s->model.vocab);
        for (child = 0, i = 1; i <= round->n; i++) {
            if (round->node[i].parent != node) continue;
            ltxi_tally_draft(s, &round->node[i], round->node[i].token == out[kept].id ? 1.0f : 0.0f);
            if (round->node[i].token == out[kept].id) child = i;
        }
        out[kept].drafted = child > 0;
        out[kept].depth = child > 0 ? round->node[child].depth : s->desc.plan.count;
        if (child == 0) break;
        *tags |= ltxi_tag_bit(round, child);
        if (s->past_size > 0) *ltxi_past_of(s, s->now, round->begin + 1 + kept) = out[kept].id;
    }
    *count = kept + 1;
    return node;
}
/* What was measured by another clock, or by none, is no time. */
LTXI_FN void ltxi_set_clock(ltx_session *s)
{
    int32_t i;
    if (s->clock == s->desc.draft.clock && s->clock_user == s->desc.draft.user) return;
    s->clock = s->desc.draft.clock; s->clock_user = s->desc.draft.user;
    s->timed = s->draft_cost = 0;
    s->round_cost = s->round_tokens = 1.0f;
    for (i = 0; i < s->n_odds; i++) s->odds[i].time = 0;
}
/* One more point for the line through times of verification. The first one enters as two, 1 row and 5 rows, on the line one * (1 + row_cost * (rows - 1)) through it. */
LTXI_FN void ltxi_time_rows(ltx_session *s, float rows, float time)
{
    const float keep = s->timed >= 64.0f ? 0.5f : 1.0f, one = time / ltxi_fma(s->desc.draft.row_cost, rows - 1.0f, 1.0f);
    if (!(time > 0)) return; /* a clock that stands still, or worse */
    if (s->timed > 0) {
        s->timed = ltxi_fma(s->timed, keep, 1.0f); s->rows_sum = ltxi_fma(s->rows_sum, keep, rows); s->rows_squared = ltxi_fma(s->rows_squared, keep, rows * rows);
        s->time_sum = ltxi_fma(s->time_sum, keep, time); s->rows_time = ltxi_fma(s->rows_time, keep, rows * time);
        return;
    }
    s->timed = 2.0f; s->rows_sum = 1.0f + 5.0f; s->rows_squared = 1.0f + 25.0f;
    s->time_sum = ltxi_fma(4.0f, s->desc.draft.row_cost, 2.0f) * one; s->rows_time = ltxi_fma(20.0f, s->desc.draft.row_cost, 6.0f) * one;
    s->round_cost = s->round_tokens = s->draft_cost = 0; /* what was known so far was no time */
}
LTXI_FN void ltxi_count_round(ltx_session *s, const ltxi_draft_round *round, int32_t accepted, float time)
{
    if (time > 0 || !(s->timed > 0)) ltxi_tally(&s->round_tokens, &s->round_cost, (float)(accepted + 1), s->timed > 0 ? time : 1.0f + round->spent);
    s->stats.rounds++;
    s->stats.drafted += (uint64_t)round->n;
    s->stats.accepted += (uint64_t)accepted;
}
LTXI_FN ltx_result ltxi_speculate(ltx_session *s, ltx_sampler *sampler, int32_t token, ltx_token *out, int32_t cap, int32_t *count)
{
    const int32_t high = s->sequences[s->now].high;
    int32_t begin = ltx_position(s), deep = ltxi_min(cap, ltxi_limit(s) - begin) - 1, most = ltxi_min(s->desc.draft.length, s->desc.draft_max - s->desc.draft.transfer), node, i;
    uint64_t seed = sampler->state, tags;
    ltxi_draft_round round;
    double start, drafted;
    int32_t rows;
    ltx_result r;
    if ((r = ltx_flush(s)) != LTX_OK) return r;
    round.transfer = s->desc.draft.transfer;
    round.tree = s->desc.draft.tree || round.transfer > 0;
    for (i = 0; i < s->desc.plan.count; i++) { /* what a sink has in it is not hidden */
        const ltx_step *st = &s->desc.plan.steps[i];
        if (ltxi_fills(st) && ltxi_sequence_cache(s, s->now, s->storage[ltxi_cache_of(st)])->n < s->kv.sinks) round.tree = round.transfer = 0;
    }
    if (round.tree) most = ltxi_min(most, LTXI_TREE - round.transfer);
    if (s->kv.window == 0) most = ltxi_min(most, s->desc.ctx - begin - 1); /* rivals want slots, too */
    s->n_ready = 0;
    ltxi_set_clock(s);
    start = ltxi_now(s);
    round.sampler = sampler; round.sure = 1.0f; round.spent = 0.0f; round.begin = begin; round.n = round.rows = 0; round.next[0] = 0;
    round.node[0].token = token; round.node[0].parent = -1;
    ltxi_draft_costs(s, &round);
    r = ltxi_draft_rows(s, &round, most, deep);
    drafted = ltxi_now(s);
    rows = s->n_rows;
    if (r == LTX_OK) r = ltxi_verify(s, &round);
    s->sequences[s->now].hold = LTXI_NO_HOLD;
    s->sequences[s->now].position = s->sequences[s->now].high; /* rows of a tree are not in order: all of them go below */
    if (r != LTX_OK) { ltx_rewind(s, begin); s->sequences[s->now].high = high; sampler->state = seed; return r; }
    if (s->clock != NULL) ltxi_time_rows(s, (float)rows, (float)(ltxi_now(s) - drafted));
    node = ltxi_walk(s, &round, out, count, &tags);
    s->ahead_of = begin + *count; s->ahead_in = s->now;
    if (node != ltxi_leaf(&round)) s->n_ahead = 0;
    for (i = 0; round.tree && i < s->n_storage; i++) ltxi_cache_accept(&s->kv, ltxi_sequence_cache(s, s->now, i), tags);
    ltxi_count_round(s, &round, *count - 1, (float)(ltxi_now(s) - start));
    r = ltx_rewind(s, begin + *count);
    s->sequences[s->now].high = ltxi_max(high, begin + *count); /* what was drafted in vain was not reached: the ring has room for it */
    return r;
}
#endif /* LTX_NO_SPECULATION */

LTX_API ltx_result ltx_decode(ltx_session *s, ltx_sampler *sampler, int32_t token, ltx_token *out, int32_t cap, int32_t *count)
{
    ltx_result r;
    if (s == NULL || sampler == NULL || out == NULL || count == NULL || cap < 1 || s->model.both_ways || s->model.embed.data == NULL) return LTX_E_ARG;
    if (token < 0 || token >= s->model.vocab) return ltxi_fail(&s->desc.log, LTX_E_ARG, -1, "token", LTXI_S("not in the vocabulary"), s->model.vocab - 1, token);
    if (ltxi_in_flight(s) || s->sequences[s->now].hold != LTXI_NO_HOLD) return ltxi_fail(&s->desc.log, LTX_E_ARG, -1, "decode", LTXI_S("rows are on hold or on their way"), 0, s->n_rows);
    if ((r = ltxi_room(s, s->now, 1)) != LTX_OK) return r;
#ifndef LTX_NO_SPECULATION
    if (ltxi_drafts(&s->desc.draft)) return ltxi_speculate(s, sampler, token, out, cap, count);
#endif
    return ltxi_decode_one(s, sampler, token, out, count);
}

#ifndef LTX_NO_GGUF
/* ==== >>gguf ==============================================================================================
   Owns the reading of GGUF images (github.com/ggml-org/ggml, docs/gguf.md): header, key-value pairs, tensor directory, aligned data.
   The image may be hostile: every read goes through a cursor that cannot leave it. May call: platform, formats, model.  */

typedef struct ltxi_cursor { const uint8_t *p; size_t size, at; int bad; } ltxi_cursor;

LTXI_FN const uint8_t *ltxi_skip(ltxi_cursor *c, uint64_t bytes) /* where the bytes begin, or NULL */
{
    const uint8_t *p = c->p + c->at;
    if (c->bad || bytes > c->size - c->at) { c->bad = 1; return NULL; }
    c->at += (size_t)bytes;
    return p;
}
LTXI_FN uint32_t ltxi_get32(ltxi_cursor *c) { const uint8_t *p = ltxi_skip(c, 4); return p == NULL ? 0 : ltxi_u32(p); }
LTXI_FN uint64_t ltxi_get64(ltxi_cursor *c) { const uint8_t *p = ltxi_skip(c, 8); return p == NULL ? 0 : ltxi_u64(p); }

enum { LTXI_GGUF_STRING = 8, LTXI_GGUF_ARRAY = 9, LTXI_GGUF_TYPES = 13 };
LTXI_FN uint64_t ltxi_gguf_width(uint32_t type) /* bytes of a scalar, 0 = none */
{
    static const uint8_t width[LTXI_GGUF_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return type < LTXI_GGUF_TYPES ? width[type] : 0;
}
LTXI_FN void ltxi_read_items(ltxi_cursor *c, uint32_t type, uint64_t count)
{
    uint64_t i, w = ltxi_gguf_width(type);
    if (w > 0) { if (count > c->size) c->bad = 1; else ltxi_skip(c, count * w); return; }
    if (type != LTXI_GGUF_STRING || count > c->size / 8) { c->bad = 1; return; } /* nested arrays are refused */
    for (i = 0; i < count && !c->bad; i++) ltxi_skip(c, ltxi_get64(c));
}
LTXI_FN void ltxi_read_kv(ltxi_cursor *c, ltx_gguf_kv *kv)
{
    uint64_t n = ltxi_get64(c);
    kv->key = (const char *)ltxi_skip(c, n);
    kv->key_len = (size_t)n;
    kv->type = kv->item_type = ltxi_get32(c);
    kv->count = 1;
    if (kv->type == LTXI_GGUF_ARRAY) { kv->item_type = ltxi_get32(c); kv->count = ltxi_get64(c); }
    if (kv->type == LTXI_GGUF_STRING) { kv->count = ltxi_get64(c); kv->item_type = 0; }
    if (c->bad) return;
    kv->data = c->p + c->at;
    ltxi_read_items(c, kv->item_type, kv->count);
    kv->size = (size_t)(c->p + c->at - kv->data);
    if (kv->type == LTXI_GGUF_STRING) kv->item_type = LTXI_GGUF_STRING;
}
LTXI_FN void ltxi_read_entry(ltxi_cursor *c, ltx_gguf_tensor *t) /* a line of the directory, offset from data_start */
{
    uint64_t n = ltxi_get64(c);
    uint32_t i;
    t->name = (const char *)ltxi_skip(c, n);
    t->name_len = (size_t)n;
    t->n_dims = ltxi_get32(c);
    if (t->n_dims > 4) c->bad = 1;
    for (i = 0; i < 4; i++) t->dims[i] = i < t->n_dims && !c->bad ? ltxi_get64(c) : 1;
    t->type = ltxi_get32(c);
    t->offset = ltxi_get64(c);
    t->bytes = 0;
}
LTXI_FN void ltxi_read_tensor(ltxi_cursor *c, const ltx_gguf *g, ltx_gguf_tensor *t) /* the same, checked, offset in the image */
{
    uint64_t elements = 1, rows, bits = (uint64_t)c->size * 8;
    int32_t i, trait;
    ltxi_read_entry(c, t);
    for (i = 0; i < 4; i++) {
        if (t->dims[i] == 0 || t->dims[i] > bits || elements > bits / t->dims[i]) c->bad = 1; /* more elements than bits in the image */
        else elements *= t->dims[i];
    }
    trait = t->type > 0xffff ? -1 : ltxi_trait_of((int32_t)t->type);
    if (c->bad || t->offset > c->size || g->data_start > c->size - t->offset || t->offset % g->alignment != 0) { c->bad = 1; return; }
    t->offset += g->data_start;
    if (trait < 0) return;
    if (t->dims[0] % (uint64_t)ltxi_traits[trait].block != 0) { c->bad = 1; return; }
    rows = elements / t->dims[0];
    rows = (rows + (uint64_t)ltxi_traits[trait].group - 1) / (uint64_t)ltxi_traits[trait].group * (uint64_t)ltxi_traits[trait].group;
    t->bytes = rows * (t->dims[0] / (uint64_t)ltxi_traits[trait].block * (uint64_t)ltxi_traits[trait].bytes + (uint64_t)ltxi_traits[trait].extra);
    if (t->bytes > c->size - t->offset) c->bad = 1;
}
LTXI_FN int ltxi_text_is(const char *s, size_t len, const char *want) { return len == ltxi_strlen(want) && ltxi_same(s, want, len); }
LTXI_FN ltxi_cursor ltxi_cursor_at(const ltx_gguf *g, uint64_t at)
{
    ltxi_cursor c;
    c.p = (const uint8_t *)g->image.ptr; c.size = g->image.size; c.bad = at > g->image.size; c.at = c.bad ? 0 : (size_t)at;
    return c;
}
/* A cursor is the offset of the next record, 0 before the first; records end where the next section starts. */
LTX_API ltx_result ltx_gguf_next_kv(const ltx_gguf *g, uint64_t *cursor, ltx_gguf_kv *out)
{
    ltxi_cursor c = ltxi_cursor_at(g, *cursor == 0 ? g->kv_start : *cursor);
    ltx_gguf_kv kv;
    if (c.at >= g->tensor_start) return LTX_E_FULL;
    ltxi_read_kv(&c, &kv);
    if (c.bad) return LTX_E_MODEL;
    *cursor = c.at;
    *out = kv;
    return LTX_OK;
}
LTX_API ltx_result ltx_gguf_next_tensor(const ltx_gguf *g, uint64_t *cursor, ltx_gguf_tensor *out)
{
    ltxi_cursor c = ltxi_cursor_at(g, *cursor == 0 ? g->tensor_start : *cursor);
    ltx_gguf_tensor t;
    if (c.at >= g->tensor_end) return LTX_E_FULL;
    ltxi_read_tensor(&c, g, &t);
    if (c.bad) return LTX_E_MODEL;
    *cursor = c.at;
    *out = t;
    return LTX_OK;
}
LTXI_FN ltx_result ltxi_gguf_fail(const ltx_log *log, const char *what, uint64_t want, uint64_t got)
{
    return ltxi_fail(log, LTX_E_MODEL, -1, "GGUF", what, (int64_t)want, (int64_t)got);
}
LTX_API ltx_result ltx_gguf_open(ltx_blob image, const ltx_log *log, ltx_gguf *out)
{
    ltx_gguf g;
    ltx_gguf_kv kv;
    ltx_gguf_tensor t;
    ltxi_cursor c;
    uint32_t magic, version;
    uint64_t i;
    if (image.ptr == NULL || out == NULL) return LTX_E_ARG;
    memset(&g, 0, sizeof g);
    g.image = image; g.alignment = 32;
    c = ltxi_cursor_at(&g, 0);
    magic = ltxi_get32(&c); version = ltxi_get32(&c);
    g.n_tensors = ltxi_get64(&c); g.n_kv = ltxi_get64(&c);
    if (c.bad || magic != 0x46554747u) return ltxi_gguf_fail(log, LTXI_S("no GGUF image"), 0x46554747u, magic);
    if (version != 2 && version != 3) return ltxi_fail(log, LTX_E_ABSENT, -1, "GGUF", LTXI_S("version"), 3, version);
    g.kv_start = c.at;
    for (i = 0; i < g.n_kv; i++) {
        ltxi_read_kv(&c, &kv);
        if (c.bad) return ltxi_gguf_fail(log, LTXI_S("metadata is damaged at pair"), g.n_kv, i);
        if (ltxi_text_is(kv.key, kv.key_len, "general.alignment") && kv.type == 4) g.alignment = ltxi_u32(kv.data);
    }
    if (g.alignment == 0 || g.alignment > 65536 || (g.alignment & (g.alignment - 1)) != 0) return ltxi_gguf_fail(log, LTXI_S("alignment is no power of two"), 32, g.alignment);
    g.tensor_start = c.at;
    for (i = 0; i < g.n_tensors && !c.bad; i++) ltxi_read_entry(&c, &t); /* first pass: where does the directory end? */
    if (c.bad) return ltxi_gguf_fail(log, LTXI_S("tensor directory is damaged at tensor"), g.n_tensors, i);
    g.tensor_end = c.at;
    g.data_start = (c.at + g.alignment - 1) / g.alignment * g.alignment;
    for (i = 0, c = ltxi_cursor_at(&g, g.tensor_start); i < g.n_tensors; i++) {
        ltxi_read_tensor(&c, &g, &t);
        if (c.bad) return t.name != NULL && t.name_len < image.size ? ltxi_fail_n(log, LTX_E_MODEL, -1, t.name, t.name_len, LTXI_S("tensor does not lie in the image"), (int64_t)image.size, (int64_t)t.offset)
                                                                  : ltxi_gguf_fail(log, LTXI_S("tensor directory is damaged at tensor"), g.n_tensors, i);
    }
    *out = g;
    return LTX_OK;
}

/* ---- from names to fields ---- */
LTXI_FN int64_t ltxi_kv_int(const ltx_gguf_kv *kv) /* integers and bool; others INT64_MIN, which no range accepts */
{
    switch (kv->type) {
    case 0: case 7: return kv->data[0];
    case 1: return (int8_t)kv->data[0];
    case 2: return (int64_t)ltxi_u16(kv->data);
    case 3: return (int16_t)(uint16_t)ltxi_u16(kv->data);
    case 4: return (int64_t)ltxi_u32(kv->data);
    case 5: return (int32_t)ltxi_u32(kv->data);
    case 10: return ltxi_u64(kv->data) > INT64_MAX ? INT64_MIN : (int64_t)ltxi_u64(kv->data);
    case 11: return (int64_t)ltxi_u64(kv->data);
    default: return INT64_MIN;
    }
}
typedef struct ltxi_arch { char name[8]; int32_t rope_pairs; } ltxi_arch;
static const ltxi_arch ltxi_archs[] = { { "llama", LTX_ROPE_INTERLEAVED }, { "qwen2", LTX_ROPE_HALVES }, { "qwen3", LTX_ROPE_HALVES } };

/* Metadata keys "<arch>.<suffix>" and where they go. */
typedef struct ltxi_key { char suffix[36]; size_t at; int32_t is_float; } ltxi_key;
static const ltxi_key ltxi_gguf_keys[] = {
    { "embedding_length", offsetof(ltx_model, dim), 0 },               { "block_count", offsetof(ltx_model, n_layers), 0 },
    { "attention.head_count", offsetof(ltx_model, n_heads), 0 },       { "attention.head_count_kv", offsetof(ltx_model, n_kv_heads), 0 },
    { "attention.key_length", offsetof(ltx_model, head_dim), 0 },      { "context_length", offsetof(ltx_model, ctx), 0 },
    { "rope.dimension_count", offsetof(ltx_model, rope_dims), 0 },     { "rope.freq_base", offsetof(ltx_model, rope_theta), 1 },
    { "attention.layer_norm_rms_epsilon", offsetof(ltx_model, norm_eps), 1 }, { "rope.scaling.factor", offsetof(ltx_model, rope_scale), 1 },
    { "attention.scale", offsetof(ltx_model, attn_scale), 1 }
};
/* Tensor names: of the model, and of a block after "blk.<i>.". */
typedef struct ltxi_name { char name[24]; size_t at; } ltxi_name;
static const ltxi_name ltxi_model_names[] = {
    { "token_embd.weight", offsetof(ltx_model, embed) }, { "output_norm.weight", offsetof(ltx_model, out_norm) },
    { "output.weight", offsetof(ltx_model, head) },      { "rope_freqs.weight", offsetof(ltx_model, rope_factors) },
    { "ltx_probes.weight", offsetof(ltx_model, probes) }, { "ltx_probes.bias", offsetof(ltx_model, probe_bias) }
};
static const ltxi_name ltxi_layer_names[] = {
    { "attn_norm.weight", offsetof(ltx_layer, attn_norm) },     { "attn_q.weight", offsetof(ltx_layer, wq) },       { "attn_k.weight", offsetof(ltx_layer, wk) },
    { "attn_v.weight", offsetof(ltx_layer, wv) },               { "attn_output.weight", offsetof(ltx_layer, wo) },  { "attn_q.bias", offsetof(ltx_layer, bq) },
    { "attn_k.bias", offsetof(ltx_layer, bk) },                 { "attn_v.bias", offsetof(ltx_layer, bv) },         { "attn_output.bias", offsetof(ltx_layer, bo) },
    { "attn_q_norm.weight", offsetof(ltx_layer, q_norm) },      { "attn_k_norm.weight", offsetof(ltx_layer, k_norm) }, { "ffn_norm.weight", offsetof(ltx_layer, ffn_norm) },
    { "ffn_gate.weight", offsetof(ltx_layer, w_gate) },         { "ffn_up.weight", offsetof(ltx_layer, w_up) },     { "ffn_down.weight", offsetof(ltx_layer, w_down) },
    { "ffn_gate.bias", offsetof(ltx_layer, b_gate) },           { "ffn_up.bias", offsetof(ltx_layer, b_up) },       { "ffn_down.bias", offsetof(ltx_layer, b_down) },
    { "ltx_router.weight", offsetof(ltx_layer, router) },       { "ltx_router.bias", offsetof(ltx_layer, router_bias) }, { "ltx_router_norm.weight", offsetof(ltx_layer, router_norm) }
};
#define LTXI_COUNT(a) ((int32_t)(sizeof(a) / sizeof(a)[0]))

LTXI_FN ltx_result ltxi_take_key(const ltx_log *log, const ltx_gguf_kv *kv, const ltxi_key *key, ltx_model *m)
{
    uint8_t *field = (uint8_t *)m + key->at;
    float f;
    int32_t i;
    int64_t v = ltxi_kv_int(kv);
    if (key->is_float) {
        if (kv->type != 6) return ltxi_fail_n(log, LTX_E_MODEL, -1, kv->key, kv->key_len, LTXI_S("has to be a float"), 6, kv->type);
        f = ltxi_le_float(kv->data);
        memcpy(field, &f, 4);
        return LTX_OK;
    }
    if (kv->type == LTXI_GGUF_ARRAY) return ltxi_fail_n(log, LTX_E_ABSENT, -1, kv->key, kv->key_len, LTXI_S("differs by layer, which is not supported"), 4, kv->type);
    if (v < 0 || v > INT32_MAX) return ltxi_fail_n(log, LTX_E_MODEL, -1, kv->key, kv->key_len, LTXI_S("out of range"), INT32_MAX, v);
    i = (int32_t)v;
    if (key->at == offsetof(ltx_model, ctx)) i = ltxi_min(i, LTX_MAX_TOKENS);
    memcpy(field, &i, 4);
    return LTX_OK;
}
/* Metadata that means another computation: better refused than wrong. */
LTXI_FN ltx_result ltxi_refuse_key(const ltx_log *log, const ltx_gguf_kv *kv, size_t prefix)
{
    const char *name = kv->key + prefix;
    size_t len = kv->key_len - prefix;
    int bad = ltxi_text_is(name, len, "expert_count") && ltxi_kv_int(kv) != 0;
    bad |= ltxi_text_is(name, len, "rope.scaling.type") && !(kv->type == LTXI_GGUF_STRING
        && (ltxi_text_is((const char *)kv->data, (size_t)kv->count, "linear") || ltxi_text_is((const char *)kv->data, (size_t)kv->count, "none")));
    return bad ? ltxi_fail_n(log, LTX_E_ABSENT, -1, kv->key, kv->key_len, LTXI_S("this variant is not supported"), 0, 0) : LTX_OK;
}
LTXI_FN void ltxi_take_exits(const ltx_gguf_kv *kv, ltx_model *m) /* "ltx.exits": u32 layers */
{
    uint64_t i;
    for (i = 0; kv->type == LTXI_GGUF_ARRAY && kv->item_type == 4 && i < kv->count; i++) {
        uint32_t l = ltxi_u32(kv->data + i * 4);
        if (l < LTX_MAX_LAYERS) m->exits[l / 32] |= 1u << l % 32;
    }
}
LTXI_FN void ltxi_take_draft_ids(const ltx_gguf_kv *kv, ltx_model *m) /* "ltx.draft_ids": u32 tokens, ascending */
{
    if (kv->type != LTXI_GGUF_ARRAY || kv->item_type != 4 || kv->count > LTX_MAX_DIM) return;
    m->draft_ids = kv->data;
    m->n_draft_ids = (int32_t)kv->count;
}
LTXI_FN const ltxi_arch *ltxi_find_arch(const ltx_log *log, const ltx_gguf *g)
{
    uint64_t cursor = 0;
    ltx_gguf_kv kv;
    int32_t i;
    while (ltx_gguf_next_kv(g, &cursor, &kv) == LTX_OK) if (ltxi_text_is(kv.key, kv.key_len, "general.architecture") && kv.type == LTXI_GGUF_STRING) {
        for (i = 0; i < LTXI_COUNT(ltxi_archs); i++) if (ltxi_text_is((const char *)kv.data, (size_t)kv.count, ltxi_archs[i].name)) return &ltxi_archs[i];
        ltxi_fail_n(log, LTX_E_ABSENT, -1, (const char *)kv.data, (size_t)kv.count, LTXI_S("architecture is not supported"), 0, 0);
        return NULL;
    }
    ltxi_fail(log, LTX_E_ABSENT, -1, "general.architecture", LTXI_S("missing"), 0, 0);
    return NULL;
}
/* Dimensions from metadata: all that ltx_gguf_need needs. */
LTXI_FN ltx_result ltxi_gguf_params(const ltx_gguf *g, const ltx_log *log, ltx_model *m)
{
    const ltxi_arch *arch = ltxi_find_arch(log, g);
    uint64_t cursor = 0;
    ltx_gguf_kv kv;
    size_t prefix;
    int32_t i;
    ltx_result r;
    if (arch == NULL) return LTX_E_ABSENT;
    prefix = ltxi_strlen(arch->name) + 1;
    m->rope_pairs = arch->rope_pairs;
    while (ltx_gguf_next_kv(g, &cursor, &kv) == LTX_OK) {
        if (ltxi_text_is(kv.key, kv.key_len, "ltx.exits")) ltxi_take_exits(&kv, m);
        if (ltxi_text_is(kv.key, kv.key_len, "ltx.draft_ids")) ltxi_take_draft_ids(&kv, m);
        if (kv.key_len <= prefix || !ltxi_same(kv.key, arch->name, prefix - 1) || kv.key[prefix - 1] != '.') continue;
        if ((r = ltxi_refuse_key(log, &kv, prefix)) != LTX_OK) return r;
        for (i = 0; i < LTXI_COUNT(ltxi_gguf_keys); i++)
            if (ltxi_text_is(kv.key + prefix, kv.key_len - prefix, ltxi_gguf_keys[i].suffix) && (r = ltxi_take_key(log, &kv, &ltxi_gguf_keys[i], m)) != LTX_OK) return r;
    }
    if (m->n_layers < 1 || m->n_layers > LTX_MAX_LAYERS) return ltxi_fail(log, LTX_E_MODEL, -1, "block_count", LTXI_S("out of range"), LTX_MAX_LAYERS, m->n_layers);
    return LTX_OK;
}
LTXI_FN ltx_mat *ltxi_find_field(const ltx_gguf_tensor *t, ltx_model *m, ltx_layer *layers)
{
    size_t i = 4;
    int32_t layer = 0, j;
    for (j = 0; j < LTXI_COUNT(ltxi_model_names); j++) if (ltxi_text_is(t->name, t->name_len, ltxi_model_names[j].name)) return (ltx_mat *)(void *)((uint8_t *)m + ltxi_model_names[j].at);
    if (t->name_len < 7 || !ltxi_same(t->name, "blk.", 4)) return NULL;
    for (; i < t->name_len && t->name[i] >= '0' && t->name[i] <= '9' && layer < LTX_MAX_LAYERS; i++) layer = layer * 10 + (t->name[i] - '0');
    if (i == 4 || i >= t->name_len || t->name[i] != '.' || layer >= m->n_layers) return NULL;
    for (j = 0; j < LTXI_COUNT(ltxi_layer_names); j++)
        if (ltxi_text_is(t->name + i + 1, t->name_len - i - 1, ltxi_layer_names[j].name)) return (ltx_mat *)(void *)((uint8_t *)&layers[layer] + ltxi_layer_names[j].at);
    return NULL;
}
LTXI_FN ltx_result ltxi_gguf_bind(const ltx_gguf *g, const ltx_log *log, ltx_model *m, ltx_layer *layers)
{
    uint64_t cursor = 0;
    ltx_gguf_tensor t;
    while (ltx_gguf_next_tensor(g, &cursor, &t) == LTX_OK) {
        ltx_mat *w = ltxi_find_field(&t, m, layers);
        if (w == NULL && t.name_len > 4 && ltxi_same(t.name, "blk.", 4)) return ltxi_fail_n(log, LTX_E_ABSENT, -1, t.name, t.name_len, LTXI_S("tensor of a layer is not supported, or the layer is not there"), 0, 0);
        if (w == NULL) continue;
        if (w->data != NULL) return ltxi_fail_n(log, LTX_E_MODEL, -1, t.name, t.name_len, LTXI_S("tensor is there twice"), 1, 2);
        if (t.bytes == 0) return ltxi_fail_n(log, LTX_E_ABSENT, -1, t.name, t.name_len, LTXI_S("number format is not built in"), 0, t.type);
        if (t.dims[2] * t.dims[3] != 1 || t.dims[0] > LTX_MAX_DIM || t.dims[1] > LTX_MAX_DIM) return ltxi_fail_n(log, LTX_E_MODEL, -1, t.name, t.name_len, LTXI_S("too large, or no matrix"), LTX_MAX_DIM, (int64_t)(t.dims[0] > t.dims[1] ? t.dims[0] : t.dims[1]));
        w->data = (const uint8_t *)g->image.ptr + t.offset;
        w->type = (int32_t)t.type; w->cols = (int32_t)t.dims[0]; w->rows = (int32_t)t.dims[1];
    }
    m->vocab = m->embed.rows;
    return LTX_OK;
}
/* What need and init have in common: the directory, the dimensions, the size of the layers. */
LTXI_FN ltx_result ltxi_gguf_begin(ltx_blob image, const ltx_log *log, ltx_gguf *g, ltx_model *m, ltx_need *need)
{
    ltxi_arena a = { NULL, 0 };
    ltx_result r;
    memset(m, 0, sizeof *m);
    if ((r = ltx_gguf_open(image, log, g)) != LTX_OK || (r = ltxi_gguf_params(g, log, m)) != LTX_OK) return r;
    ltxi_take(&a, (size_t)m->n_layers, sizeof(ltx_layer));
    return ltxi_need_of(&a, need);
}
LTX_API ltx_result ltx_gguf_need(ltx_blob image, const ltx_log *log, ltx_need *out)
{
    ltx_gguf g;
    ltx_model m;
    return out == NULL ? LTX_E_ARG : ltxi_gguf_begin(image, log, &g, &m, out);
}
LTX_API ltx_result ltx_gguf_init(ltx_blob image, ltx_mem mem, const ltx_log *log, ltx_model *model)
{
    ltx_gguf g;
    ltx_model m;
    ltx_need need;
    ltx_result r;
    if (model == NULL) return LTX_E_ARG;
    if ((r = ltxi_gguf_begin(image, log, &g, &m, &need)) != LTX_OK || (r = ltxi_block_ok(log, "model", &need, &mem)) != LTX_OK) return r;
    memset(mem.ptr, 0, need.size);
    m.layers = (const ltx_layer *)mem.ptr;
    if ((r = ltxi_gguf_bind(&g, log, &m, (ltx_layer *)mem.ptr)) != LTX_OK || (r = ltx_model_check(&m, log)) != LTX_OK) return r;
    *model = m;
    return LTX_OK;
}

/* ==== >>vocab =============================================================================================
   Owns the tokenizer: SentencePiece BPE with byte fallback, and plain bytes. BPE starts from single characters and merges, again and
   again, the neighbours whose joined piece has the highest score, leftmost first (github.com/google/sentencepiece). A heap of possible
   merges makes that n log n. May call: platform, gguf.                                                         */

enum { LTXI_NORMAL = 1, LTXI_UNKNOWN = 2, LTXI_CONTROL = 3, LTXI_PROBES = 256 }; /* token types of GGUF; longest search in the hash table: an image made to collide gains nothing */
struct ltx_vocab {
    int32_t size, bos, eos, unknown, longest, bytes_only, add_prefix;
    uint32_t mask;         /* slots of the hash table - 1 */
    const uint8_t *image, *scores, *types; /* types may be NULL: all normal */
    uint64_t *offset;      /* [size] of each piece in the image: length word, then text */
    int32_t  *hash;        /* [mask + 1] token or -1 */
    int32_t   byte_token[256];
};
LTXI_FN const uint8_t *ltxi_token_text(const ltx_vocab *v, int32_t t, size_t *len)
{
    const uint8_t *p = v->image + v->offset[t];
    *len = (size_t)ltxi_u64(p);
    return p + 8;
}
LTXI_FN int32_t ltxi_token_type(const ltx_vocab *v, int32_t t) { return v->types == NULL ? LTXI_NORMAL : (int32_t)ltxi_u32(v->types + (size_t)t * 4); }
LTXI_FN uint32_t ltxi_hash(const uint8_t *s, size_t len) /* FNV-1a */
{
    uint32_t h = 2166136261u;
    size_t i;
    for (i = 0; i < len; i++) h = (h ^ s[i]) * 16777619u;
    return h ^ h >> 15;
}
LTXI_FN int32_t ltxi_find_token(const ltx_vocab *v, const uint8_t *s, size_t len)
{
    uint32_t h = ltxi_hash(s, len) & v->mask;
    int32_t probes = 0;
    size_t n;
    for (; v->hash[h] >= 0 && probes++ < LTXI_PROBES; h = (h + 1) & v->mask) {
        const uint8_t *p = ltxi_token_text(v, v->hash[h], &n);
        if (n == len && ltxi_same(p, s, len)) return v->hash[h];
    }
    return -1;
}
/* What the metadata says, before memory is there. */
typedef struct ltxi_vocab_info { ltx_vocab v; ltx_gguf_kv tokens; } ltxi_vocab_info;
LTXI_FN ltx_result ltxi_vocab_scan(ltx_blob image, const ltx_log *log, ltxi_vocab_info *info)
{
    static const ltxi_name ints[] = {
        { "bos_token_id", offsetof(ltx_vocab, bos) }, { "eos_token_id", offsetof(ltx_vocab, eos) }, { "unknown_token_id", offsetof(ltx_vocab, unknown) },
        { "add_space_prefix", offsetof(ltx_vocab, add_prefix) } };
    ltx_gguf g;
    ltx_gguf_kv kv, scores, types, kind;
    uint64_t cursor = 0;
    int32_t i;
    size_t prefix = ltxi_strlen("tokenizer.ggml.");
    ltx_result r = ltx_gguf_open(image, log, &g);
    if (r != LTX_OK) return r;
    memset(info, 0, sizeof *info); memset(&scores, 0, sizeof scores); memset(&types, 0, sizeof types); memset(&kind, 0, sizeof kind);
    info->v.bos = info->v.eos = info->v.unknown = -1; info->v.add_prefix = 1;
    while (ltx_gguf_next_kv(&g, &cursor, &kv) == LTX_OK) {
        const char *name;
        size_t len;
        if (kv.key_len <= prefix || !ltxi_same(kv.key, "tokenizer.ggml.", prefix)) continue;
        name = kv.key + prefix;
        len = kv.key_len - prefix;
        if (ltxi_text_is(name, len, "model")) kind = kv;
        if (ltxi_text_is(name, len, "tokens")) info->tokens = kv;
        if (ltxi_text_is(name, len, "scores")) scores = kv;
        if (ltxi_text_is(name, len, "token_type")) types = kv;
        for (i = 0; i < LTXI_COUNT(ints); i++) if (ltxi_text_is(name, len, ints[i].name)) {
            int64_t value = ltxi_kv_int(&kv);
            int32_t id = value < 0 || value >= LTX_MAX_DIM ? -1 : (int32_t)value;
            memcpy((uint8_t *)&info->v + ints[i].at, &id, 4);
        }
    }
    info->v.bytes_only = kind.type == LTXI_GGUF_STRING && ltxi_text_is((const char *)kind.data, (size_t)kind.count, "ltx-bytes");
    if (kind.type != LTXI_GGUF_STRING || (!info->v.bytes_only && !ltxi_text_is((const char *)kind.data, (size_t)kind.count, "llama")))
        return ltxi_fail_n(log, LTX_E_ABSENT, -1, (const char *)kind.data, kind.data == NULL ? 0 : (size_t)kind.count, LTXI_S("tokenizer is missing or not supported"), 0, 0);
    if (info->tokens.type != LTXI_GGUF_ARRAY || info->tokens.item_type != LTXI_GGUF_STRING || info->tokens.count < 1 || info->tokens.count > LTX_MAX_DIM
        || (info->v.bytes_only && info->tokens.count < 256))
        return ltxi_fail(log, LTX_E_MODEL, -1, "tokenizer.ggml.tokens", LTXI_S("missing, no strings, too few or too many"), LTX_MAX_DIM, (int64_t)info->tokens.count);
    info->v.size = (int32_t)info->tokens.count;
    if (!info->v.bytes_only && (scores.type != LTXI_GGUF_ARRAY || scores.item_type != 6 || scores.count != info->tokens.count))
        return ltxi_fail(log, LTX_E_MODEL, -1, "tokenizer.ggml.scores", LTXI_S("as many floats as tokens are needed"), info->v.size, (int64_t)scores.count);
    if (types.type == LTXI_GGUF_ARRAY && (types.item_type == 4 || types.item_type == 5) && types.count == info->tokens.count) info->v.types = types.data;
    info->v.image = (const uint8_t *)image.ptr;
    info->v.scores = scores.data;
    if (info->v.bos >= info->v.size) info->v.bos = -1;
    if (info->v.eos >= info->v.size) info->v.eos = -1;
    if (info->v.unknown >= info->v.size) info->v.unknown = -1;
    for (info->v.mask = 1; info->v.mask < (uint32_t)info->v.size * 2; info->v.mask *= 2) { }
    info->v.mask -= 1;
    return LTX_OK;
}
LTXI_FN ltx_vocab *ltxi_vocab_place(ltxi_arena *a, ltx_vocab *v)
{
    ltx_vocab *p = (ltx_vocab *)ltxi_take(a, 1, sizeof *v);
    v->offset = (uint64_t *)ltxi_take(a, (size_t)v->size, 8);
    v->hash = (int32_t *)ltxi_take(a, (size_t)v->mask + 1, 4);
    return p;
}
LTXI_FN ltx_result ltxi_vocab_begin(ltx_blob image, const ltx_log *log, ltxi_vocab_info *info, ltx_need *need)
{
    ltxi_arena a = { NULL, 0 };
    ltx_result r = ltxi_vocab_scan(image, log, info);
    if (r != LTX_OK) return r;
    ltxi_vocab_place(&a, &info->v);
    return ltxi_need_of(&a, need);
}
LTX_API ltx_result ltx_vocab_need(ltx_blob image, const ltx_log *log, ltx_need *out)
{
    ltxi_vocab_info info;
    return out == NULL ? LTX_E_ARG : ltxi_vocab_begin(image, log, &info, out);
}
LTXI_FN int32_t ltxi_hex(uint8_t c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }
/* "<0x0A>" -> 10, anything else -> -1 */
LTXI_FN int32_t ltxi_byte_piece(const uint8_t *p, size_t len)
{
    int32_t hi, lo;
    if (len != 6 || !ltxi_same(p, "<0x", 3) || p[5] != '>') return -1;
    hi = ltxi_hex(p[3]); lo = ltxi_hex(p[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}
LTXI_FN void ltxi_vocab_index(ltx_vocab *v, const ltx_gguf_kv *tokens)
{
    const uint8_t *p = tokens->data;
    int32_t t, b;
    uint32_t h;
    for (h = 0; h <= v->mask; h++) v->hash[h] = -1;
    for (b = 0; b < 256; b++) v->byte_token[b] = v->bytes_only ? b : -1;
    for (t = 0; t < v->size; t++) {
        size_t len = (size_t)ltxi_u64(p);
        v->offset[t] = (uint64_t)(p - v->image);
        v->longest = ltxi_max(v->longest, (int32_t)(len < LTX_MAX_DIM ? len : LTX_MAX_DIM));
        b = ltxi_byte_piece(p + 8, len);
        if (b >= 0 && !v->bytes_only && v->byte_token[b] < 0) v->byte_token[b] = t;
        if (b < 0 && ltxi_token_type(v, t) != LTXI_CONTROL && ltxi_find_token(v, p + 8, len) < 0) { /* control tokens are no text */
            for (h = ltxi_hash(p + 8, len) & v->mask, b = 0; v->hash[h] >= 0 && b < LTXI_PROBES; h = (h + 1) & v->mask) b++;
            if (v->hash[h] < 0) v->hash[h] = t;
        }
        p += 8 + len;
    }
    for (b = 0; b < 256; b++) if (v->byte_token[b] < 0) v->byte_token[b] = v->unknown >= 0 ? v->unknown : 0;
}
LTX_API ltx_result ltx_vocab_init(ltx_blob image, ltx_mem mem, const ltx_log *log, ltx_vocab **out)
{
    ltxi_vocab_info info;
    ltxi_arena a;
    ltx_need need;
    ltx_vocab *v;
    ltx_result r;
    if (out == NULL) return LTX_E_ARG;
    if ((r = ltxi_vocab_begin(image, log, &info, &need)) != LTX_OK || (r = ltxi_block_ok(log, "vocab", &need, &mem)) != LTX_OK) return r;
    a.base = (uint8_t *)mem.ptr; a.used = 0;
    v = ltxi_vocab_place(&a, &info.v);
    *v = info.v;
    ltxi_vocab_index(v, &info.tokens);
    *out = v;
    return LTX_OK;
}
LTX_API int32_t ltx_vocab_size(const ltx_vocab *v) { return v->size; }
LTX_API int32_t ltx_vocab_bos(const ltx_vocab *v) { return v->bos; }
LTX_API int32_t ltx_vocab_eos(const ltx_vocab *v) { return v->eos; }
LTX_API int32_t ltx_vocab_longest(const ltx_vocab *v) { return v->longest; }

/* ---- encode: symbols are a linked list over the text with blanks replaced, merges a heap ---- */
typedef struct ltxi_symbol { uint32_t start, len; int32_t prev, next; } ltxi_symbol; /* len 0 = merged away */
typedef struct ltxi_merge { float score; int32_t left, right; uint32_t len; } ltxi_merge;
typedef struct ltxi_encoder { const ltx_vocab *v; uint8_t *text; ltxi_symbol *sym; ltxi_merge *heap; int32_t n_heap; } ltxi_encoder;

LTXI_FN void ltxi_encode_place(ltxi_arena *a, size_t len, ltxi_encoder *e)
{
    size_t n = ltxi_add(len, 1); /* a blank may be put before the text; a blank becomes three bytes */
    e->text = (uint8_t *)ltxi_take(a, n, 3);
    e->sym = (ltxi_symbol *)ltxi_take(a, n, sizeof *e->sym);
    e->heap = (ltxi_merge *)ltxi_take(a, ltxi_mul(n, 3), sizeof *e->heap); /* a merge leaves at most two new pairs */
}
LTX_API ltx_result ltx_encode_need(size_t len, ltx_need *out)
{
    ltxi_arena a = { NULL, 0 };
    ltxi_encoder e;
    if (out == NULL || len > 0x10000000u) return LTX_E_ARG;
    ltxi_encode_place(&a, len, &e);
    return ltxi_need_of(&a, out);
}
LTXI_FN int ltxi_merge_first(const ltxi_merge *a, const ltxi_merge *b) { return a->score > b->score || (!(b->score > a->score) && a->left < b->left); }
LTXI_FN void ltxi_push_merge(ltxi_encoder *e, int32_t left, int32_t right)
{
    ltxi_merge m;
    int32_t t, i;
    if (left < 0 || right < 0) return;
    m.left = left; m.right = right; m.len = e->sym[left].len + e->sym[right].len;
    t = ltxi_find_token(e->v, e->text + e->sym[left].start, m.len);
    if (t < 0) return;
    m.score = ltxi_le_float(e->v->scores + (size_t)t * 4);
    for (i = e->n_heap++; i > 0 && ltxi_merge_first(&m, &e->heap[(i - 1) / 2]); i = (i - 1) / 2) e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = m;
}
LTXI_FN ltxi_merge ltxi_pop_merge(ltxi_encoder *e)
{
    ltxi_merge top = e->heap[0], m = e->heap[--e->n_heap];
    int32_t i = 0, child;
    while ((child = 2 * i + 1) < e->n_heap) {
        if (child + 1 < e->n_heap && ltxi_merge_first(&e->heap[child + 1], &e->heap[child])) child++;
        if (ltxi_merge_first(&m, &e->heap[child])) break;
        e->heap[i] = e->heap[child];
        i = child;
    }
    e->heap[i] = m;
    return top;
}
LTXI_FN size_t ltxi_utf8_len(const uint8_t *p, size_t left) /* of the character at p; 1 if it is none */
{
    size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 && p[0] < 0xf8 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 1, i;
    if (p[0] >= 0xf8 || n > left) return 1;
    for (i = 1; i < n; i++) if ((p[i] & 0xc0) != 0x80) return 1;
    return n;
}
LTXI_FN size_t ltxi_blanks(const ltx_vocab *v, const char *text, size_t len, uint8_t *out) /* U+2581 for each blank, one in front */
{
    size_t i, n = 0;
    if (v->add_prefix == 1 && len > 0) { memcpy(out, "\xe2\x96\x81", 3); n = 3; }
    for (i = 0; i < len; i++) {
        if (text[i] == ' ') { memcpy(out + n, "\xe2\x96\x81", 3); n += 3; }
        else out[n++] = (uint8_t)text[i];
    }
    return n;
}
/* Merge until nothing can be merged; symbol 0 is the head of the list. Returns how many symbols there were. */
LTXI_FN int32_t ltxi_merge_all(ltxi_encoder *e, size_t bytes)
{
    int32_t n = 0, i;
    size_t at = 0;
    for (; at < bytes; n++) {
        e->sym[n].start = (uint32_t)at; e->sym[n].len = (uint32_t)ltxi_utf8_len(e->text + at, bytes - at);
        e->sym[n].prev = n - 1; e->sym[n].next = -1;
        if (n > 0) e->sym[n - 1].next = n;
        at += e->sym[n].len;
    }
    for (i = 0; i + 1 < n; i++) ltxi_push_merge(e, i, i + 1);
    while (e->n_heap > 0) {
        ltxi_merge m = ltxi_pop_merge(e);
        ltxi_symbol *l = &e->sym[m.left], *r = &e->sym[m.right];
        if (l->len == 0 || r->len == 0 || l->len + r->len != m.len) continue; /* one of them has changed since */
        l->len += r->len; r->len = 0;
        l->next = r->next;
        if (l->next >= 0) e->sym[l->next].prev = m.left;
        ltxi_push_merge(e, l->prev, m.left);
        ltxi_push_merge(e, m.left, l->next);
    }
    return n;
}
/* Tokens of a symbol: its piece, or one per byte. Writes while there is room, counts on. */
LTXI_FN int32_t ltxi_emit(const ltxi_encoder *e, const ltxi_symbol *s, int32_t n, int32_t *tokens, int32_t cap)
{
    int32_t t = ltxi_find_token(e->v, e->text + s->start, s->len);
    uint32_t i;
    if (t >= 0) { if (n < cap) tokens[n] = t; return n + 1; }
    for (i = 0; i < s->len; i++, n++) if (n < cap) tokens[n] = e->v->byte_token[e->text[s->start + i]];
    return n;
}
LTX_API ltx_result ltx_encode(const ltx_vocab *v, const char *text, size_t len, uint32_t flags, ltx_mem work, int32_t *tokens, int32_t cap, int32_t *count)
{
    ltxi_encoder e;
    ltxi_arena a;
    ltx_need need;
    int32_t n = 0, pass, i;
    if (v == NULL || (text == NULL && len > 0) || count == NULL || cap < 0 || (tokens == NULL && cap > 0) || ltx_encode_need(len, &need) != LTX_OK) return LTX_E_ARG;
    if (ltxi_block_ok(NULL, "", &need, &work) != LTX_OK) return LTX_E_MEM;
    a.base = (uint8_t *)work.ptr; a.used = 0;
    ltxi_encode_place(&a, len, &e);
    e.v = v; e.n_heap = 0;
    if (!v->bytes_only) ltxi_merge_all(&e, ltxi_blanks(v, text, len, e.text));
    for (pass = 0; pass < 2; pass++) { /* count, then write: nothing is written if it does not fit */
        n = flags & LTX_BOS && v->bos >= 0 ? 1 : 0;
        if (pass == 1 && n == 1) tokens[0] = v->bos;
        if (v->bytes_only) for (i = 0; i < (int32_t)len; i++, n++) { if (pass == 1) tokens[n] = (uint8_t)text[i]; }
        else for (i = len > 0 ? 0 : -1; i >= 0; i = e.sym[i].next) n = ltxi_emit(&e, &e.sym[i], n, tokens, pass == 1 ? cap : 0);
        if (n > cap) return LTX_E_FULL;
    }
    *count = n;
    return LTX_OK;
}
LTX_API int32_t ltx_piece(const ltx_vocab *v, int32_t token, int32_t first, char *buf, int32_t cap)
{
    const uint8_t *p;
    size_t len, i = 0;
    int32_t n = 0, b;
    if (v == NULL || token < 0 || token >= v->size) return 0;
    p = ltxi_token_text(v, token, &len);
    b = v->bytes_only ? (token < 256 ? token : -1) : ltxi_byte_piece(p, len);
    if (b >= 0) { if (cap > 0) buf[n++] = (char)b; return n; }
    if (v->bytes_only || ltxi_token_type(v, token) == LTXI_CONTROL || ltxi_token_type(v, token) == LTXI_UNKNOWN) return 0;
    if (first && v->add_prefix == 1 && len >= 3 && ltxi_same(p, "\xe2\x96\x81", 3)) i = 3;
    while (i < len && n < cap) {
        if (len - i >= 3 && ltxi_same(p + i, "\xe2\x96\x81", 3)) { buf[n++] = ' '; i += 3; }
        else buf[n++] = (char)p[i++];
    }
    return n;
}
#endif /* LTX_NO_GGUF */

/* ==== >>tensors ===========================================================================================
   Owns the public tensor operations: thin wrappers that choose a set of kernels. May call: everything above.   */

LTX_API ltx_result ltx_matmul_need(const ltx_mat *w, int32_t m, ltx_need *out)
{
    ltxi_arena a = { NULL, 0 };
    ltxi_acts x;
    if (w == NULL || out == NULL || m < 1 || ltxi_check_mat(NULL, -1, "w", w, -1, -1, 0) != LTX_OK) return LTX_E_ARG;
    ltxi_acts_place(&a, &x, m, w->cols, 1);
    ltxi_take(&a, (size_t)m, ltxi_mul((size_t)x.ld, 4));
    return ltxi_need_of(&a, out);
}
LTX_API ltx_result ltx_matmul(int32_t isa, const ltx_mat *w, const float *x, int32_t m, ltx_mem work, float *y)
{
    ltx_need need;
    ltxi_arena a;
    ltxi_acts acts;
    ltxi_machine machine;
    ltxi_kernels table;
    ltxi_job job;
    float *rows;
    int32_t i;
    ltx_result r = ltx_matmul_need(w, m, &need);
    if (r != LTX_OK || x == NULL || y == NULL) return LTX_E_ARG;
    if (ltxi_block_ok(NULL, "", &need, &work) != LTX_OK) return LTX_E_MEM;
    memset(&machine, 0, sizeof machine);
    machine.threads = 1;
    machine.k = ltxi_kernels_of(isa, &table);
    if (machine.k == NULL) return LTX_E_ABSENT;
    a.base = (uint8_t *)work.ptr; a.used = 0;
    ltxi_acts_place(&a, &acts, m, w->cols, 1);
    rows = (float *)ltxi_take(&a, (size_t)m, (size_t)acts.ld * 4);
    for (i = 0; i < m; i++) memcpy(rows + (size_t)i * (size_t)acts.ld, x + (size_t)i * (size_t)w->cols, (size_t)w->cols * 4);
    ltxi_acts_set(&acts, rows);
    job = ltxi_job_of(w, NULL, y, w->rows);
    ltxi_multiply(&machine, &acts, m, m, &job, 1);
    return LTX_OK;
}
LTX_API ltx_result ltx_map(int32_t isa, ltx_fn f, const float *x, int32_t n, float *y)
{
    ltxi_kernels table;
    const ltxi_kernels *k = ltxi_kernels_of(isa, &table);
    float zero[16], sine[16], cosine[16], t[16];
    int32_t i, part;
    if (k == NULL) return LTX_E_ABSENT;
    if (x == NULL || y == NULL || n < 0 || f < LTX_FN_EXP || f > LTX_FN_COS) return LTX_E_ARG;
    memset(zero, 0, sizeof zero);
    if (f == LTX_FN_LOG) { for (i = 0; i < n; i++) y[i] = ltxi_ln(x[i]); return LTX_OK; }
    if (f != LTX_FN_SIN && f != LTX_FN_COS) { k->map((int32_t)f, x, n, y); return LTX_OK; }
    for (i = 0; i < n; i += 16) {
        part = ltxi_min(16, n - i);
        ltxi_tail(t, x + i, part * 4);
        k->sincos(t, zero, 1.0f, 16, sine, cosine);
        memcpy(y + i, f == LTX_FN_SIN ? sine : cosine, (size_t)part * 4);
    }
    return LTX_OK;
}
LTX_API ltx_result ltx_rmsnorm(int32_t isa, const float *x, const void *w, int32_t n, float eps, float *y)
{
    ltxi_kernels table;
    const ltxi_kernels *k = ltxi_kernels_of(isa, &table);
    if (k == NULL) return LTX_E_ABSENT;
    if (x == NULL || y == NULL || n < 1) return LTX_E_ARG;
    ltxi_rmsnorm(k, x, w, n, eps, y);
    return LTX_OK;
}
LTX_API ltx_result ltx_softmax(int32_t isa, float *x, int32_t n)
{
    ltxi_kernels table;
    const ltxi_kernels *k = ltxi_kernels_of(isa, &table);
    if (k == NULL) return LTX_E_ABSENT;
    if (x == NULL || n < 1) return LTX_E_ARG;
    k->mulv(x, NULL, 1.0f / k->expsum(x, k->maximum(x, n), n, NULL), n);
    return LTX_OK;
}
LTX_API ltx_result ltx_rope_rotate(int32_t isa, const ltx_model *model, float *x, int32_t heads, int32_t position)
{
    ltx_model m;
    float freq[2 * LTX_MAX_HEAD], angles[2 * LTX_MAX_HEAD];
    ltxi_kernels table;
    const ltxi_kernels *k = ltxi_kernels_of(isa, &table);
    int32_t h, ld;
    if (k == NULL) return LTX_E_ABSENT;
    if (model == NULL || x == NULL || heads < 0 || position < 0) return LTX_E_ARG;
    m = *model;
    ltxi_model_defaults(&m);
    if (m.rope_dims < 0 || m.rope_dims % 2 != 0 || m.rope_dims > m.head_dim || m.head_dim > LTX_MAX_HEAD || !ltxi_in(0, m.rope_pairs, LTX_ROPE_NONE)) return LTX_E_ARG;
    if (!(m.rope_theta >= 1.0f && m.rope_theta <= 1e12f) || !ltxi_finite_positive(m.rope_scale)) return LTX_E_ARG;
    if (ltxi_check_mat(NULL, -1, "rope_factors", &m.rope_factors, 1, m.rope_dims / 2, LTXI_OPTIONAL | LTXI_VECTOR) != LTX_OK) return LTX_E_ARG;
    ld = ltxi_round_up(m.rope_dims, 16);
    if (position >= ltxi_frequencies(&m, freq, freq + ld, ld)) return LTX_E_ARG;
    ltxi_rope_angles(k, freq, ld, m.rope_dims, m.rope_pairs, position, angles);
    for (h = 0; h < heads && m.rope_dims > 0; h++) k->rope(x + (size_t)h * (size_t)m.head_dim, angles, angles + ld, m.rope_dims / 2, m.rope_pairs == LTX_ROPE_HALVES);
    return LTX_OK;
}

#if defined(__clang__)
#pragma STDC FP_CONTRACT DEFAULT
#elif defined(__GNUC__)
#pragma GCC diagnostic pop
#pragma GCC pop_options
#endif
#endif /* LTX_IMPLEMENTATION */

/* ==== License =============================================================================================
   MIT License. Copyright (c) 2026 the ltx.h authors.
   Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
   "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
   distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
   the following conditions: The above copyright notice and this permission notice shall be included in all copies or substantial portions
   of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
   WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS
   BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
   CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
