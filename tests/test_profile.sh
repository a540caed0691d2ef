#!/usr/bin/env bash
# Checks of tools/ltx-profile.c, tools/ltx-kwt1.c and of generate --auto. Prints "N passed, N failed"; exit code 1 if any failed.
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
#include "tools/layers.h"
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
static int times = 1, step = 1;
static uint32_t kept[64], runs[64];
static float factors[2][64];
static int32_t n_kept;
/* Mean loss and depth over windows first, first + every, ...; drop: branches of a layer and of `times` - 1 layers behind it, `step` apart; gates: "prob" after steps 7 and 9, "probe" after all */
static long double run(const text_model *m, int first, int every, int layer, int drop, int32_t rule, float threshold, double *depth)
{
    ltx_session_desc desc = { .policy = { .rule = rule, .threshold = threshold } };
    static ltx_step steps[64];
    ltx_session_mems mems;
    int32_t count;
    long double sum = 0, n = 0;
    check(ltx_plan_full(&m->model, steps, 64, &count), "plan");
    for (count = n_kept > 0 ? 0 : count; count < n_kept; count++) {
        const ltx_step step = { .layer = (int16_t)kept[count], .run = (uint8_t)runs[count], .attn_scale = factors[0][count], .ffn_scale = factors[1][count] };
        steps[count] = step;
    }
    for (int i = 0; drop && i < times; i++) check(ltx_plan_drop(steps, &count, layer + i * step, drop), "plan");
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
/* Losses of the plan that stands in the metadata of a file, with its factors: changes on even and odd windows. */
static int32_t numbers(ltx_blob image, const char *key, uint32_t *out)
{
    ltx_gguf g;
    ltx_gguf_kv kv;
    uint64_t at = 0;
    check(ltx_gguf_open(image, &print_log, &g), "file");
    while (ltx_gguf_next_kv(&g, &at, &kv) == LTX_OK)
        if (kv.key_len == strlen(key) && memcmp(kv.key, key, kv.key_len) == 0) { memcpy(out, kv.data, 4 * kv.count); return (int32_t)kv.count; }
    return 0;
}
static void run_kept(const text_model *m, long double even, long double odd)
{
    double depth;
    n_kept = numbers(m->image, "ltx.plan.layers", kept);
    if (n_kept == 0 || numbers(m->image, "ltx.plan.run", runs) != n_kept) return;
    if (numbers(m->image, "ltx.plan.attn_scale", (uint32_t *)factors[0]) != n_kept || numbers(m->image, "ltx.plan.ffn_scale", (uint32_t *)factors[1]) != n_kept) return;
    printf("proposed %.4Lf\n", 100 * (run(m, 0, 2, 0, 0, 0, 0, &depth) / even - 1));
    printf("proposedcheck %.4Lf\n", 100 * (run(m, 1, 2, 0, 0, 0, 0, &depth) / odd - 1));
    for (int32_t i = 0; i < n_kept; i++) factors[0][i] = factors[1][i] = 0;
    printf("unscaled %.4Lf\n", 100 * (run(m, 0, 2, 0, 0, 0, 0, &depth) / even - 1));
    n_kept = 0;
}
/* Rank of the attention of layer 5: its input is what layer 4 leaves; one call a window, windows 0, 4, 8, 12. */
static float into5[WINDOW * 1024];
static int32_t keep(void *user, const ltx_view *v)
{
    (void)user;
    if (v->layer == 4) memcpy(into5 + v->position * v->dim, v->hidden, (size_t)v->dim * sizeof(float));
    return LTX_GO;
}
static double rank5(const text_model *m)
{
    ltx_session_desc desc = { .rows = WINDOW, .policy = { .tap = keep } };
    ltx_session_mems mems;
    ltx_session *s = session_open(&m->model, &desc, &mems);
    double sum = 0;
    for (int w = 0; w < WINDOWS; w += 4) {
        check(ltx_rewind(s, 0), "rewind");
        check(ltx_eval(s, tokens + w * WINDOW, WINDOW, NULL), "eval");
        sum += attention_rank(&m->model, 5, into5, WINDOW) / 4;
    }
    return sum;
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
    if (m.model.probes.data != NULL) printf("probe %.4Lf\n", 100 * (run(&m, 1, 2, 0, 0, LTX_EXIT_PROBE, .6f, &depth) / odd - 1));
    if (m.model.probes.data != NULL) { run(&m, 0, 1, 0, 0, LTX_EXIT_PROBE, .6f, &depth); printf("probedepth %.4f\n", depth); }
    printf("rank5 %.4f\n", rank5(&m));
    run_kept(&m, even, odd);
    times = 3; /* as many as ltx-profile is asked to compare with */
    printf("row7 %.4Lf\n", 100 * (run(&m, 0, 2, 7, LTX_ATTN | LTX_FFN, 0, 0, &depth) / even - 1));
    step = 2;
    printf("spread4 %.4Lf\n", 100 * (run(&m, 1, 2, 4, LTX_ATTN | LTX_FFN, 0, 0, &depth) / odd - 1));
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
cell() { # TABLE COLUMN KEY-COLUMN KEY [KEY-COLUMN KEY]: a number of the CSV
    awk -F, -v t="$1" -v c="$2" -v k1="$3" -v v1="$4" -v k2="${5:-}" -v v2="${6:-}" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $1 == t && $at[k1] == v1 && (k2 == "" || $at[k2] == v2) { print $at[c] }' "$dir/a.csv"
}
without_commas() { # b.csv to a.csv, within cells
    awk -F'"' -v OFS= '{ for (i = 2; i <= NF; i += 2) gsub(/,/, ";", $i); $1 = $1; print }' "$dir/b.csv" >"$dir/a.csv"
}
column() { # TABLE COLUMN...: of all its rows
    awk -F, -v t="$1" -v list="${*:2}" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; n = split(list, name, " "); next }
        $1 == t { for (i = 1; i <= n; i++) printf "%s%s", $at[name[i]], i < n ? "," : "\n" }' "$dir/a.csv"
}
near() { # NAME GOT TOLERANCE: against the line of that name in what the check said
    local want
    want=$(awk -v n="$1" '$1 == n { print $2 }' "$dir/want")
    ok "$1: $2, expected $want" awk -v a="$2" -v b="$want" -v e="$3" 'BEGIN { d = a - b; exit !(a != "" && b != "" && d < e && d > -e) }'
}
t 0 "a small run" "$dir/profile" $model README.md $small --search 256 --most 10 --loss 60 --csv "$dir/b.csv" --html "$dir/a.html" --write "$dir/a.gguf"
without_commas
cp "$dir/out" "$dir/a.txt"
"$dir/check" "$dir/a.gguf" >"$dir/want"
near full "$(cell depths loss_nats_per_token depth 12)" 0.000002
near attn7 "$(cell layers attn_left_out_loss_percent layer 7)" 0.0002
near ffn4 "$(cell layers ffn_left_out_loss_percent layer 4)" 0.0002
near layer5 "$(cell layers layer_left_out_loss_percent layer 5)" 0.0002
near proposed "$(cell plans calibration_loss_percent what proposed)" 0.0002
near proposedcheck "$(cell plans check_loss_percent what proposed)" 0.0002
plain=$(cell plans calibration_loss_percent what 'proposed; all factors 1')
[ -z "$plain" ] && plain=$(cell plans calibration_loss_percent what proposed) # factors did not help on what they had not seen
near unscaled "$plain" 0.0002
ok "factors lessen the loss, or there are none" awk -v n="$(column factors layer | wc -l)" '$1 == "proposed" { a = $2 } $1 == "unscaled" { b = $2 } END { exit !(a != "" && (n > 0 ? a < b - 0.01 : a == b)) }' "$dir/want"
near rank5 "$(cell layers attn_rank layer 5)" 0.0001
near prob "$(cell rules check_loss_percent what prob threshold 0.5)" 0.0002
near depth "$(cell rules layers_per_token what prob threshold 0.5)" 0.0002
ok "agreement of full depth is 1" [ "$(cell depths agreement depth 12)" = 1 ]
ok "no layer, no change" [ "$(cell plan_curves check_loss_percent what 'greedy branches' branches 24)" = 0 ]
ok "ranks are between 1 and nine tenths of 32" sh -c '[ "$1" = 12 ]' - "$(column layers attn_rank | awk '$1 >= 1 && $1 <= 29' | wc -l)"

# the proposal beside all plans of its speed: 10 places of 3 layers in a row, 36 ways to spread them
near row7 "$(cell plans calibration_loss_percent detail '--drop-attn 7-9 --drop-ffn 7-9' what 'contiguous layers')" 0.0002
near spread4 "$(cell plans check_loss_percent detail '--drop-attn 4;6;8 --drop-ffn 4;6;8' what 'evenly spaced layers')" 0.0002
column plans what speed_ratio calibration_loss_percent check_loss_percent detail >"$dir/plans"
ok "10 and 36 plans" [ "$(grep -c '^contiguous layers' "$dir/plans") $(grep -c '^evenly spaced layers' "$dir/plans")" = "10 36" ]
ok "no plan twice" [ "$(grep '^[ce][ov][ne]' "$dir/plans" | cut -d, -f5 | sort -u | wc -l)" = 46 ]
ok "the proposal loses no more than any of them (calibration), and is as fast or as fast as asked" awk -F, '
    $1 == "proposed" { speed = $2; loss = $3 }
    /^(contiguous|evenly)/ { if (loss > $3) bad = 1; if (speed < 0.999 * ($2 < 1.3 ? $2 : 1.3)) bad = 1 }
    END { exit bad || loss == "" }' "$dir/plans"
told=$(grep 'plans of .* times the speed' "$dir/a.txt" | sed 's/^ *//')
ok "says so: $told" [ "$told" = "$(awk -F, '
    $1 == "proposed" { c = $3; d = $4; mine = $5; least_c = least_d = 1e9 }
    $1 == "contiguous layers" || $1 == "evenly spaced layers" {
        speed = $2
        if ($5 == mine) { same = 1; next }
        n++; more_c += $3 > c; more_d += $4 > d
        if ($3 < least_c) least_c = $3
        if ($4 < least_d) least_d = $4
    }
    END {
        printf "The %d %splans of %.2f times the speed that leave out 3 layers in a row or evenly spaced lose at least %+.2f %% (calibration) and %+.2f %% (check): %sit loses less than ", \
            n, same ? "other " : "", speed, least_c, least_d, same ? "it is such a plan, and " : ""
        if (more_c == n && more_d == n) print "every one of them."
        else printf "%d (calibration) and %d (check) of them.\n", more_c, more_d
    }' "$dir/plans")" ]
for word in "full depth" "greedy branches" "contiguous layers" "evenly spaced layers" Proposals; do ok "says $word" grep -q "$word" "$dir/a.txt"; done

# what exchanges gain over every plan that they may begin with, on a text that stays the same: the model's own
for seed in 1 2 3 4; do "$dir/generate" $model -p Once -n 400 --seed $seed --ignore-eos; printf '\n\n'; done >"$dir/story"
t 0 "a run on the model's own text" "$dir/profile" $model "$dir/story" --window 32 --tokens 512 --search 256 --most 10 --speed 1.38 --quiet --csv "$dir/b.csv"
without_commas
column plans what calibration_loss_percent >"$dir/begin"
ok "exchanges gain a tenth of a percent at least: $(sort -u "$dir/begin" | grep -E "^(proposed|greedy)" | tr '\n' ' ')" awk -F, '
    $1 == "proposed" { a = $2 }
    $1 ~ /^(greedy|contiguous|evenly)/ { if (b == "" || $2 + 0 < b + 0) b = $2 }
    END { exit !(a != "" && b != "" && a < b - 0.1) }' "$dir/begin"

# the page: complete, on its own, tags in pairs
ok "page ends" grep -q '</html>' "$dir/a.html"
ok "page needs nothing else" sh -c '! grep -Eq "<script|<link|https?://|nan|inf[^a-z]" "$1"' - "$dir/a.html"
for tag in section div svg table details span p; do
    ok "page: <$tag> in pairs" [ "$(grep -o "<$tag[ >]" "$dir/a.html" | wc -l)" = "$(grep -o "</$tag>" "$dir/a.html" | wc -l)" ]
done

bars() { grep -o "<title>layer [0-9]*, $1:" "$dir/a.html" | wc -l; }
ok "page: four charts with a bar for each attention, three for each ffn" [ "$(bars attention) $(bars feed-forward)" = "48 36" ]
ok "page: 12 depths, loss and entropy" [ "$(grep -o '<title>depth [0-9]*: \(loss\|entropy\)' "$dir/a.html" | wc -l)" = 24 ]
ok "page says how the proposal compares" grep -qF "$told" "$dir/a.html"
drawn=$(sed -n 's/.*losses above \([0-9]*\) % are not drawn.*/\1/p' "$dir/a.html")
ok "page: a dot for each plan below $drawn %" [ "$(grep -c '<circle.*<title>--drop' "$dir/a.html")" = "$(awk -F, -v most="$drawn" '/^(contiguous|evenly)/ && $4 <= most' "$dir/plans" | wc -l)" ]

# the copy: the same tensors, the proposals, and generate takes them
for key in plan.layers plan.run plan.attn_scale plan.ffn_scale exit.rule exit.threshold exit.gates exit.fill draft.exit draft.last draft.length; do
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

# KWT-1, an encoder: a program that runs it another way, one session a plan, exits by a callback that does its own sums
cat >"$dir/kwt.c" <<'EOF'
#define _POSIX_C_SOURCE 200809L
#define LTX_IMPLEMENTATION
#include "ltx.h"
#include "examples/common.h"
#include <math.h>
#include "tests/kwt.h"
enum { INPUTS = 20 };
static const int moves[] = { 0, 5, 10, -5, -10 };
static kwt k;
static float rows[INPUTS][KWT_ROWS * KWT_DIM], full[INPUTS][KWT_LABELS], other[INPUTS][KWT_LABELS];
static int32_t gate(void *user, const ltx_view *v)
{
    long double a = 0, b = 0, c = 0;
    for (int i = 0; i < v->dim; i++) {
        a += (long double)v->before[i] * (long double)v->hidden[i];
        b += (long double)v->before[i] * (long double)v->before[i];
        c += (long double)v->hidden[i] * (long double)v->hidden[i];
    }
    return (v->position < 98 || user == NULL) && a / sqrtl(b) / sqrtl(c) >= 0.94L ? LTX_LEAVE : LTX_GO;
}
/* Without branches of a layer; or with exits, of which the class token is not asked if `spare` is not NULL. Returns branches run, percent. */
static double run(int layer, int drop, int exits, void *spare, float (*logits)[KWT_LABELS])
{
    static ltx_step steps[KWT_LAYERS];
    ltx_session_desc desc = { .rows = KWT_ROWS, .kv = LTX_KV_F32, .log = print_log };
    ltx_session_mems mems;
    ltx_stats stats;
    ltx_output out;
    check(ltx_plan_full(&k.m, steps, KWT_LAYERS, &desc.plan.count), "plan");
    if (drop) check(ltx_plan_drop(steps, &desc.plan.count, layer, drop), "plan");
    if (exits) check(ltx_plan_gates(steps, desc.plan.count, 5, 1), "gates");
    desc.plan.steps = steps;
    desc.policy.rule = exits ? LTX_EXIT_ASK : LTX_EXIT_NEVER;
    desc.policy.gate = gate;
    desc.policy.user = spare;
    desc.policy.all_rows = 1;
    ltx_session *s = session_open(&k.m, &desc, &mems);
    for (int i = 0; i < INPUTS; i++) {
        const ltx_batch batch = { NULL, rows[i], KWT_ROWS, 1 };
        check(ltx_rewind(s, 0), "rewind");
        check(ltx_eval_batch(s, &batch, &out), "input");
        memcpy(logits[i], out.logits, sizeof logits[i]);
    }
    ltx_session_stats(s, &stats);
    return 100.0 * (double)(stats.attn_rows + stats.ffn_rows) / (2.0 * KWT_LAYERS * KWT_ROWS * INPUTS);
}
static int best(const float *x) { int b = 0; for (int i = 1; i < KWT_LABELS; i++) if (x[i] > x[b]) b = i; return b; }
static void say(const char *name)
{
    double sum = 0, same = 0;
    for (int i = 0; i < INPUTS; i++) {
        for (int j = 0; j < KWT_LABELS; j++) sum += ((double)other[i][j] - (double)full[i][j]) * ((double)other[i][j] - (double)full[i][j]);
        same += best(full[i]) == best(other[i]);
    }
    printf("%s_logits %.6f\n%s_agree %.6f\n", name, sqrt(sum / (INPUTS * KWT_LABELS)), name, same / INPUTS);
}
int main(void)
{
    if (!kwt_open(&k, kwt_folder())) return 7;
    for (int i = 0; i < INPUTS; i++) if (!kwt_clip(&k, kwt_clips[i / 5], moves[i % 5], rows[i], NULL)) return 1;
    run(0, 0, 0, NULL, full);
    run(10, LTX_ATTN, 0, NULL, other);
    say("attn10");
    run(11, LTX_FFN, 0, NULL, other);
    say("ffn11");
    run(3, LTX_ATTN | LTX_FFN, 0, NULL, other);
    say("layer3");
    printf("every_run %.4f\n", run(0, 0, 1, NULL, other));
    say("every");
    printf("others_run %.4f\n", run(0, 0, 1, &k, other));
    say("others");
    return 0;
}
EOF
ok "build ltx-kwt1" $CC -std=c99 -O2 tools/ltx-kwt1.c -o "$dir/kwt1" -lm
ok "build its check" $CC -std=c99 -O2 -I. "$dir/kwt.c" -o "$dir/kwt" -lm
"$dir/kwt" >"$dir/want"
if [ $? = 7 ]; then echo "KWT-1 is not in the shared folder: skipped"
else
    t 0 "KWT-1" "$dir/kwt1" --csv "$dir/a.csv"
    cp "$dir/out" "$dir/kwt.txt"
    near attn10_logits "$(cell layers attn_left_out_logits layer 10)" 0.00001
    near attn10_agree "$(cell layers attn_left_out_agreement layer 10)" 0.00001
    near ffn11_logits "$(cell layers ffn_left_out_logits layer 11)" 0.00001
    near ffn11_agree "$(cell layers ffn_left_out_agreement layer 11)" 0.00001
    near layer3_logits "$(cell layers logits_change layer 3)" 0.00001
    near layer3_agree "$(cell layers agreement layer 3)" 0.00001
    for way in every others; do
        who=$([ $way = every ] && echo "every row" || echo "all but class token")
        column exits what first_gate_after_layer threshold branch_rows_run_percent logits_change agreement | grep "^$who,5,0.94," >"$dir/row"
        near ${way}_run "$(cut -d, -f4 "$dir/row")" 0.0001
        near ${way}_logits "$(cut -d, -f5 "$dir/row")" 0.00001
        near ${way}_agree "$(cut -d, -f6 "$dir/row")" 0.00001
    done
    ok "the recorded logits" awk '/recorded ones/ { found = $NF < 1e-5 } END { exit !found }' "$dir/kwt.txt"
    ok "no input that full depth is sure of minds a missing layer" [ "$(column layers agreement_where_sure | sort -u)" = 1 ]
    ok "nor six missing ones, chosen greedily" [ "$(column fewer agreement_where_sure | sort -u)" = 1 ]
    ok "exits by similarity spare a quarter of the branches, and no such input minds" [ "$(column exits branch_rows_run_percent agreement_where_sure | awk -F, '$1 < 75 && $2 == 1' | wc -l)" -gt 0 ]
    boldest=$(column exits what agreement_where_sure branch_rows_run_percent | awk -F, '$2 == 1 && (least == "" || $3 < least) { least = $3; who = $1 } END { printf "%s: %.1f %% of the branches saved", who, 100 - least }')
    ok "$boldest" grep -q "$boldest" "$dir/kwt.txt"
    ok "layers differ: the last one moves the logits three times as much as the least" awk -v list="$(column layers logits_change | tr '\n' ' ')" '
        BEGIN { n = split(list, x, " "); least = x[1]; for (i = 1; i <= n; i++) if (x[i] < least) least = x[i]; exit !(n == 12 && x[n] > 3 * least) }'
fi
t 0 "its --help" "$dir/kwt1" --help
t 1 "no such folder" "$dir/kwt1" "$dir/nowhere"
t 2 "--csv without a file" "$dir/kwt1" --csv

# memory
t 0 "sanitizers" "$dir/profile-san" $model README.md --window 16 --tokens 128 --search 16 --most 2 --quiet --csv "$dir/b.csv" --html "$dir/b.html" --write "$dir/b.gguf" --whole
t 0 "sanitizers, another model" "$dir/profile-san" examples/models/stories-ls-q4_0.gguf README.md --window 16 --tokens 64 --search 16 --most 1 --quiet --html "$dir/c.html" --write "$dir/c.gguf" --fill defer

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
