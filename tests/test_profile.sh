#!/usr/bin/env bash
# Checks of tools/ltx-profile.c and of generate --auto. Prints "N passed, N failed"; exit code 1 if any failed.
#   CC   C compiler (cc)
# The text is README.md: any text will do, and it is always there.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
CC=${CC:-cc}
model=examples/models/stories-bytes-q8_0.gguf
passed=0
failed=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export ASAN_OPTIONS=exitcode=99:detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:exitcode=99

ok() { # NAME COMMAND...: passes when the command succeeds
    local name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
}
t() { # CODE NAME COMMAND...: passes when the command ends with CODE
    local want=$1 name=$2 got
    shift 2
    "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    ok "$name: exit code $got, expected $want: $(head -n 1 "$dir/err")" [ "$got" = "$want" ]
}

# The same losses from scratch: one token at a time, documents cut by strstr, the sum of exponentials in long double.
cat >"$dir/check.c" <<'EOF'
#define _POSIX_C_SOURCE 200809L
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "examples/common.h"
#include "tools/gguf_write.h"
#include <math.h>
enum { WINDOW = 32, WINDOWS = 16 };
static int32_t tokens[WINDOW * WINDOWS + 1];
static void read_text(const text_model *m)
{
    FILE *f = fopen("README.md", "rb");
    char *at = (char *)read_all(f, "README.md").ptr, *next;
    int32_t n = 0, *ids, count;
    while (n < WINDOW * WINDOWS + 1) {
        next = strstr(at, "\n\n");
        *next = 0;
        while (*at == '\n') at++;
        ids = encode(m->vocab, at, &count);
        if (*at) for (int32_t i = 0; i < count && n < WINDOW * WINDOWS + 1; i++) tokens[n++] = ids[i];
        at = next + 2;
    }
}
static void put(void *user, const void *data, size_t n) { if (fwrite(data, 1, n, (FILE *)user) != n) die(EXIT_FAILED, "cannot write"); }
/* A copy with exit probes: the first one says about 0.2, the others about 0.5, each token a little more or less. */
static void write_probed(const text_model *m, const char *name)
{
    const uint64_t dims[] = { (uint64_t)m->model.dim, (uint64_t)m->model.n_layers };
    gguf_out out = { put, fopen(name, "wb"), 0 };
    ltx_gguf g;
    ltx_gguf_kv kv;
    ltx_gguf_tensor t;
    uint64_t at, end;
    check(ltx_gguf_open(m->image, &print_log, &g), "model");
    end = (m->image.size - g.data_start + g.alignment - 1) / g.alignment * g.alignment;
    gguf_begin(&out, g.n_tensors + 2, g.n_kv);
    for (at = 0; ltx_gguf_next_kv(&g, &at, &kv) == LTX_OK; ) gguf_kv(&out, &kv);
    for (at = 0; ltx_gguf_next_tensor(&g, &at, &t) == LTX_OK; ) gguf_tensor(&out, t.name, t.name_len, t.n_dims, t.dims, t.type, t.offset - g.data_start);
    gguf_tensor(&out, "ltx_probes.weight", 17, 2, dims, LTX_F32, end);
    gguf_tensor(&out, "ltx_probes.bias", 15, 1, dims + 1, LTX_F32, end + dims[0] * dims[1] * 4);
    gguf_pad(&out, g.alignment);
    gguf_put(&out, (const char *)m->image.ptr + g.data_start, m->image.size - (size_t)g.data_start);
    gguf_pad(&out, g.alignment);
    for (uint64_t i = 0; i < (dims[0] + 1) * dims[1]; i++) {
        const float x = i >= dims[0] * dims[1] ? (i == dims[0] * dims[1] ? -1.4f : 0) : (float)((int)(i * 37 % 101) - 50) / 1600;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        gguf_int(&out, bits, 4);
    }
    if (fclose((FILE *)out.user) != 0) die(EXIT_FAILED, "cannot write %s", name);
}
/* Mean loss and depth over windows first, first + every, ...; drop: branches of a layer; gates: "prob" after steps 7 and 9, "probe" after all */
static long double run(const text_model *m, int first, int every, int layer, int drop, int32_t rule, float threshold, double *depth)
{
    ltx_session_desc desc = { .policy = { .rule = rule, .threshold = threshold } };
    static ltx_step steps[64];
    ltx_session_mems mems;
    int32_t count;
    long double sum = 0, n = 0;
    check(ltx_plan_full(&m->model, steps, 64, &count), "plan");
    if (drop) check(ltx_plan_drop(steps, &count, layer, drop), "plan");
    if (rule == LTX_EXIT_PROB) steps[7].gate = steps[9].gate = 1;
    if (rule == LTX_EXIT_PROBE) check(ltx_plan_gates(steps, count, 0, 1), "gates");
    desc.plan.steps = steps;
    desc.plan.count = count;
    ltx_session *s = session_open(&m->model, &desc, &mems);
    *depth = 0;
    for (int w = first; w < WINDOWS; w += every) {
        check(ltx_rewind(s, 0), "rewind");
        for (int i = 0; i < WINDOW; i++, n++) {
            const ltx_batch batch = { .tokens = tokens + w * WINDOW + i, .count = 1, .logits = 1 };
            ltx_output out;
            long double e = 0;
            check(ltx_eval_batch(s, &batch, &out), "eval");
            for (int v = 0; v < m->model.vocab; v++) e += expl((long double)out.logits[v] - (long double)out.logits[batch.tokens[1]]);
            sum += logl(e);
            *depth += out.depth[0];
        }
    }
    *depth /= (double)n;
    return sum / n;
}
int main(int argc, char **argv)
{
    text_model m;
    double depth;
    text_model_load(&m, argv[1]);
    if (argc > 2) { write_probed(&m, argv[2]); return 0; }
    read_text(&m);
    const long double all = run(&m, 0, 1, 0, 0, 0, 0, &depth), even = run(&m, 0, 2, 0, 0, 0, 0, &depth), odd = run(&m, 1, 2, 0, 0, 0, 0, &depth);
    printf("full %.6Lf\n", all);
    printf("attn7 %.4Lf\n", 100 * (run(&m, 0, 2, 7, LTX_ATTN, 0, 0, &depth) / even - 1));
    printf("ffn4 %.4Lf\n", 100 * (run(&m, 0, 2, 4, LTX_FFN, 0, 0, &depth) / even - 1));
    printf("layer5 %.4Lf\n", 100 * (run(&m, 0, 2, 5, LTX_ATTN | LTX_FFN, 0, 0, &depth) / even - 1));
    printf("prob %.4Lf\n", 100 * (run(&m, 1, 2, 0, 0, LTX_EXIT_PROB, .5f, &depth) / odd - 1));
    run(&m, 0, 1, 0, 0, LTX_EXIT_PROB, .5f, &depth);
    printf("depth %.4f\n", depth);
    if (m.model.probes.data == NULL) return 0;
    printf("probe %.4Lf\n", 100 * (run(&m, 1, 2, 0, 0, LTX_EXIT_PROBE, .6f, &depth) / odd - 1));
    run(&m, 0, 1, 0, 0, LTX_EXIT_PROBE, .6f, &depth);
    printf("probedepth %.4f\n", depth);
    return 0;
}
EOF
ok "build the check" $CC -std=c99 -O2 -I. "$dir/check.c" -o "$dir/check" -lm
ok "build ltx-profile" $CC -std=c99 -O2 tools/ltx-profile.c -o "$dir/profile" -lm
ok "build ltx-profile with sanitizers" $CC -std=c99 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined tools/ltx-profile.c -o "$dir/profile-san" -lm
ok "build generate" $CC -std=c99 -O2 examples/generate.c -o "$dir/generate" -lm
ok "build ltx-convert" $CC -std=c99 -O2 tools/ltx-convert.c -o "$dir/convert" -lm

# what is measured, against the check
small="--window 32 --tokens 512 --search 64 --most 4 --quiet"
t 0 "a small run" "$dir/profile" $model README.md $small --loss 60 --csv "$dir/a.csv" --html "$dir/a.html" --write "$dir/a.gguf"
cp "$dir/out" "$dir/a.txt"
"$dir/check" $model >"$dir/want"
cell() { # TABLE COLUMN KEY-COLUMN KEY [KEY-COLUMN KEY]: a number of the CSV
    awk -F, -v t="$1" -v c="$2" -v k1="$3" -v v1="$4" -v k2="${5:-}" -v v2="${6:-}" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $1 == t && $at[k1] == v1 && (k2 == "" || $at[k2] == v2) { print $at[c] }' "$dir/a.csv"
}
near() { # NAME GOT TOLERANCE: against the line of that name in what the check said
    local want
    want=$(awk -v n="$1" '$1 == n { print $2 }' "$dir/want")
    ok "$1: $2, expected $want" awk -v a="$2" -v b="$want" -v e="$3" 'BEGIN { d = a - b; exit !(a != "" && b != "" && d < e && d > -e) }'
}
near full "$(cell depths loss_nats_per_token depth 12)" 0.000002
near attn7 "$(cell layers attn_left_out_loss_percent layer 7)" 0.0002
near ffn4 "$(cell layers ffn_left_out_loss_percent layer 4)" 0.0002
near layer5 "$(cell layers layer_left_out_loss_percent layer 5)" 0.0002
near prob "$(cell rules check_loss_percent what prob threshold 0.5)" 0.0002
near depth "$(cell rules layers_per_token what prob threshold 0.5)" 0.0002
ok "agreement of full depth is 1" [ "$(cell depths agreement depth 12)" = 1 ]
ok "no layer, no change" [ "$(cell plan_curves check_loss_percent what 'greedy branches' branches 24)" = 0 ]
for word in "full depth" "greedy branches" "contiguous layers" "evenly spaced layers" Proposals; do ok "says $word" grep -q "$word" "$dir/a.txt"; done

# the page: complete, on its own, tags in pairs
ok "page ends" grep -q '</html>' "$dir/a.html"
ok "page needs nothing else" sh -c '! grep -Eq "<script|<link|https?://|nan|inf[^a-z]" "$1"' - "$dir/a.html"
for tag in section div svg table details span p; do
    ok "page: <$tag> in pairs" [ "$(grep -o "<$tag[ >]" "$dir/a.html" | wc -l)" = "$(grep -o "</$tag>" "$dir/a.html" | wc -l)" ]
done

# the copy: the same tensors, the proposals, and generate takes them
for key in plan.layers plan.run exit.rule exit.threshold exit.gates exit.fill draft.exit draft.last draft.length; do
    ok "has ltx.$key" sh -c '"$1" --info "$2" | grep -q "ltx\.$3 "' - "$dir/convert" "$dir/a.gguf" $key
done
tensors() { "$dir/convert" --info "$1" | sed -n '/^tensors/,$p'; }
ok "same tensors" [ "$(tensors $model)" = "$(tensors "$dir/a.gguf")" ]
text() { "$dir/generate" "$@" -p "One day" -n 60 --temp 0; }
plain=$(text $model)
ok "the copy says the same" [ "$(text "$dir/a.gguf")" = "$plain" ]
ok "--auto says the same" [ "$(text "$dir/a.gguf" --auto)" = "$plain" ]
ok "--auto=draft says the same" [ "$(text "$dir/a.gguf" --auto=draft)" = "$plain" ]
same_as_told() { # WORD: --auto=WORD against the options that the tool proposed
    local told
    told=$(grep -A2 "^  $1 " "$dir/a.txt" | grep -o -- ' --.*' | head -n 1)
    # shellcheck disable=SC2086
    [ -n "$told" ] && [ "$(text "$dir/a.gguf" --auto="$1")" = "$(text $model $told)" ]
}
for word in plan exit draft; do ok "--auto=$word is what was proposed" same_as_told $word; done
t 0 "a copy of the copy" "$dir/profile" "$dir/a.gguf" README.md $small --loss 60 --fill defer --gates 5:2 --write "$dir/a.gguf"
ok "has each key once" [ "$("$dir/convert" --info "$dir/a.gguf" | grep -c 'ltx\.draft\.exit')" = 1 ]
ok "still says the same" [ "$(text "$dir/a.gguf" --auto)" = "$plain" ]
t 1 "--auto without a profile" "$dir/generate" $model -p "One day" --auto
t 2 "--auto=what" "$dir/generate" "$dir/a.gguf" -p "One day" --auto=what
t 2 "--auto and --draft" "$dir/generate" "$dir/a.gguf" -p "One day" --auto --draft 3

# exit probes: offered where a model has them, measured, proposed, taken
ok "no rule probe without probes" [ "$(grep -c '^rules,.*,probe,' "$dir/a.csv")" = 0 ]
t 1 "--exit probe without probes" "$dir/generate" $model -p "One day" --exit probe:0.5
ok "make probes" "$dir/check" $model "$dir/probed.gguf"
t 0 "with probes" "$dir/profile" "$dir/probed.gguf" README.md $small --loss 60 --csv "$dir/a.csv" --html "$dir/p.html" --write "$dir/a.gguf"
cp "$dir/out" "$dir/a.txt"
"$dir/check" "$dir/probed.gguf" >"$dir/want"
near probe "$(cell rules check_loss_percent what probe threshold 0.6)" 0.0002
near probedepth "$(cell rules layers_per_token what probe threshold 0.6)" 0.0002
ok "probes cost no head" [ "$(cell rules heads_per_token what probe threshold 0.6)" = 1 ]
ok "page shows the rule" grep -q '</i>probe<' "$dir/p.html"
ok "the probes are proposed" grep -q -- '--exit probe:0.3 --gates 0:1$' "$dir/a.txt" # two layers: nothing can be faster
ok "has the rule" sh -c '"$1" --info "$2" | grep -q "ltx\.exit\.rule  *8$"' - "$dir/convert" "$dir/a.gguf"
model=$dir/probed.gguf ok "--auto=exit is the proposed probe" same_as_told exit
ok "all gates unless told otherwise" [ "$(text "$dir/probed.gguf" --exit probe:0.6)" = "$(text "$dir/probed.gguf" --exit probe:0.6 --gates 0:1)" ]
ok "which is not full depth" [ "$(text "$dir/probed.gguf" --exit probe:0.6)" != "$plain" ]

# the command line
t 0 "--help" "$dir/profile" --help
ok "--help teaches" grep -q -- "--write m-auto.gguf" "$dir/out"
t 2 "no arguments" "$dir/profile"
t 2 "no text" "$dir/profile" $model
t 2 "three files" "$dir/profile" $model README.md LICENSE
t 2 "unknown option" "$dir/profile" $model README.md --what
t 2 "no value" "$dir/profile" $model README.md --tokens
t 2 "no number" "$dir/profile" $model README.md --tokens many
t 2 "out of range" "$dir/profile" $model README.md --speed 0.5
t 2 "half a window" "$dir/profile" $model README.md --window 32.5
t 2 "window beyond the context" "$dir/profile" $model README.md --window 5000
t 2 "gates" "$dir/profile" $model README.md --gates 3:0
t 2 "gate behind the last layer" "$dir/profile" $model README.md $small --gates 11:1
t 2 "fill" "$dir/profile" $model README.md --fill nothing
t 1 "no such model" "$dir/profile" no.gguf README.md
t 1 "not a model" "$dir/profile" LICENSE README.md
t 1 "no such text" "$dir/profile" $model no.txt
printf 'short\n' >"$dir/short"
t 1 "too short a text" "$dir/profile" $model "$dir/short"
t 1 "cannot write a table" "$dir/profile" $model README.md --csv "$dir/no/a.csv"
t 1 "cannot write a copy" "$dir/profile" $model README.md --write "$dir/no/a.gguf"

# memory
t 0 "sanitizers" "$dir/profile-san" $model README.md --window 16 --tokens 128 --search 16 --most 2 --quiet --csv "$dir/b.csv" --html "$dir/b.html" --write "$dir/b.gguf" --whole
t 0 "sanitizers, another model" "$dir/profile-san" examples/models/stories-ls-q4_0.gguf README.md --window 16 --tokens 64 --search 16 --most 1 --quiet --html "$dir/c.html" --write "$dir/c.gguf" --fill defer

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
