#!/usr/bin/env bash
# peers.sh - ltx.h beside llama.cpp: the same GGUF files, the same machine, in turn
# SPDX-License-Identifier: MIT (text at the end of ltx.h)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

help() { cat <<'END'
usage: bench/peers.sh [options] MODEL...        compare; a table, and every single measurement as CSV
       bench/peers.sh --install                 only fetch llama.cpp

Measures ltx.h (build/bench) and llama.cpp (the npm package node-llama-cpp, through bench/peers.mjs) on the same files, one
after the other, round after round: what disturbs one disturbs the other. llama.cpp comes ready built from npm into
build/peers, the newest version there is, and runs with its best settings: its best build for this processor,
flash attention where it is faster, repacked weights, mapped files; what is timed is llama_decode alone, no sampling.
Both keep an f16 cache, both compute the logits of every decoded token and of the last token of a prefill.

  MODEL           a GGUF file; or SHAPE-FORMAT such as 135m-q8_0, 1b-q4_0: random weights of that shape, written by
                  build/synth into build/bench-models on first use
  --mode LIST     prefill, decode                                                  (prefill,decode)
  --threads LIST                                                                   (1 and the number of processors)
  --isa LIST      best, avx2, avx512 (without AMX), amx                            (best)
  --prefill N     tokens of a prefill; ours in one batch, theirs in batches of 512  (512)
  --decode N      tokens of a decode                                               (32)
  --context LIST  tokens in the cache before a decode                              (64; try 64,4096)
  --rounds N      measurements of each program, of which the median is taken; of a decode, each is a median of three   (3)
  --patience S    seconds that may be spent for each measurement on waiting for a quiet machine and on measuring
                  again when other programs took more than a tenth of a processor  (0: take what comes, mark it with *)
  --csv FILE      where the single measurements go                                 (build/peers.csv)
  --peers DIR     where llama.cpp is                                               (build/peers)
  --ours PROGRAM  another build of bench/bench.c; none measures llama.cpp alone    (build/bench)
  --keep          do not look for a newer llama.cpp

Speeds are in tokens per second, the ratio is ours over theirs: above 1, ltx.h is faster. Needs node 20 or newer, npm and bash 4;
installing needs a network. The names of the instruction sets are those of ltx.h; avx2 is llama.cpp's haswell build.

examples
  make build/bench build/synth && bench/peers.sh 135m-q8_0 135m-q4_0
  bench/peers.sh --mode decode --context 64,4096 --threads 2 --isa best,avx2 --patience 60 my.gguf

Exit status: 0 done, 1 something failed (what was measured is in the CSV), 2 wrong usage.
END
}
say() { echo "peers.sh: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

modes=prefill,decode threads="" isas=best prefill=512 decode=32 contexts=64 rounds=3 patience=0
csv=$root/build/peers.csv peers=$root/build/peers ours=$root/build/bench install=0 keep=0 models=()
while [ $# -gt 0 ]; do
    case $1 in
    -h|--help) help; exit 0 ;;
    --install) install=1; shift; continue ;;
    --keep) keep=1; shift; continue ;;
    --mode|--threads|--isa|--prefill|--decode|--context|--rounds|--patience|--csv|--peers|--ours)
        [ $# -ge 2 ] || die 2 "$1 wants a value; see --help" ;;&
    --mode) modes=$2 ;;
    --threads) threads=$2 ;;
    --isa) isas=$2 ;;
    --prefill) prefill=$2 ;;
    --decode) decode=$2 ;;
    --context) contexts=$2 ;;
    --rounds) rounds=$2 ;;
    --patience) patience=$2 ;;
    --csv) csv=$2 ;;
    --peers) peers=$2 ;;
    --ours) ours=$2 ;;
    -*) die 2 "there is no option $1; see --help" ;;
    *) models+=("$1"); shift; continue ;;
    esac
    shift 2
done
if [ -z "$threads" ]; then
    n=$(getconf _NPROCESSORS_ONLN)
    if [ "$n" -gt 1 ]; then threads=1,$n; else threads=1; fi
fi
for n in "$prefill" "$decode" "$rounds" ${threads//,/ }; do [[ $n =~ ^[1-9][0-9]*$ ]] || die 2 "$n is no number of at least 1"; done
for n in "$patience" ${contexts//,/ }; do [[ $n =~ ^[0-9]+$ ]] || die 2 "$n is no number"; done
for m in ${modes//,/ }; do [[ $m == prefill || $m == decode ]] || die 2 "there is no mode $m: prefill or decode"; done
[ "$install" = 1 ] || [ ${#models[@]} -gt 0 ] || die 2 "no model given; see --help"

# ---- llama.cpp ---------------------------------------------------------------------------------------------------------------

npm_dir=$peers/npm
installed() { node -p 'JSON.parse(fs.readFileSync(process.argv[1])).version' "$npm_dir/node_modules/node-llama-cpp/package.json" 2>/dev/null || true; }
install_peers() {
    local have newest platform
    for tool in node npm; do command -v "$tool" >/dev/null || die 1 "needs $tool"; done
    have=$(installed)
    if [ -n "$have" ] && [ "$keep" = 1 ]; then return; fi
    newest=$(npm view node-llama-cpp version 2>/dev/null || true)
    if [ -z "$newest" ]; then
        [ -n "$have" ] || die 1 "npm does not serve node-llama-cpp: is there a network?"
        say "npm does not answer; staying with node-llama-cpp $have"; return
    fi
    [ "$newest" != "$have" ] || return 0
    say "installing node-llama-cpp $newest into $npm_dir"
    # Only the build for this processor: the package would bring those for graphics cards too, some 600 MB.
    platform=$(node -p '(process.platform === "darwin" ? "mac" : process.platform) + "-" + process.arch + (process.platform === "darwin" && process.arch === "arm64" ? "-metal" : "")')
    rm -rf "$npm_dir.new"
    mkdir -p "$npm_dir.new"
    echo '{"private": true}' >"$npm_dir.new/package.json"
    NODE_LLAMA_CPP_SKIP_DOWNLOAD=true npm install --prefix "$npm_dir.new" --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error \
        "node-llama-cpp@$newest" "@node-llama-cpp/$platform@$newest" >&2 || die 1 "npm could not install node-llama-cpp $newest"
    rm -rf "$npm_dir"
    mv "$npm_dir.new" "$npm_dir"
    [ "$(installed)" = "$newest" ] || die 1 "npm installed node-llama-cpp incompletely"
}
install_peers
if [ "$install" = 1 ]; then
    echo "node-llama-cpp $(installed) in $npm_dir; builds: $(node "$root/bench/peers.mjs" --package "$npm_dir" --list | tr '\n' ' ')"
    [ ${#models[@]} -gt 0 ] || exit 0
fi

# ---- models ------------------------------------------------------------------------------------------------------------------

if [ "$ours" != none ]; then [ -x "$ours" ] || die 1 "there is no program $ours; make build/bench makes it"; fi
files=()
for m in "${models[@]}"; do
    if [ ! -f "$m" ] && [[ $m =~ ^([a-z0-9]+)-([a-z0-9_]+)$ ]]; then
        f=$root/build/bench-models/$m.gguf
        if [ ! -f "$f" ]; then
            [ -x "$root/build/synth" ] || die 1 "there is no program build/synth to write $m; make build/synth makes it"
            mkdir -p "$root/build/bench-models"
            "$root/build/synth" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "$f.part" >&2 || die 1 "could not write $f"
            mv "$f.part" "$f"
        fi
        m=$f
    fi
    [ -r "$m" ] || die 1 "cannot read $m"
    files+=("$m")
done

# ---- measuring ---------------------------------------------------------------------------------------------------------------

others_limit=0.10
above() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > b) }'; }
field() { sed -n "s/.*\\b$1=\\([^ ]*\\).*/\\1/p" <<<"$2"; }
busy_now() { # processors at work during 0.3 seconds
    [ -r /proc/stat ] || { echo 0; return; }
    local a b
    a=$(head -1 /proc/stat); sleep 0.3; b=$(head -1 /proc/stat)
    awk -v a="$a" -v b="$b" 'BEGIN { n = split(a, x); split(b, y); for (i = 2; i <= 9; i++) if (i != 5 && i != 6) s += y[i] - x[i]; print s / 30 }'
}
run_ours() { # mode context threads isa file
    local args=(--one "$1" --model "$5" --threads "$3" --kv f16)
    if [ "$4" != best ]; then args+=(--isa "$4"); fi
    if [ "$1" = decode ]; then args+=(--reps 3 --context "$2" --passes "$decode"); else args+=(--reps 1 --rows "$prefill" --passes 1); fi
    "$ours" "${args[@]}" 2>"$work/log"
}
run_theirs() { # the same; the server was started with the instruction set
    local n=$prefill reps=1 line
    if [ "$1" = decode ]; then n=$decode; reps=3; fi
    echo "--mode $1 --ctx $2 --threads $3 --model \"$5\" --tokens $n --reps $reps --patience $patience" >&"${SERVER[1]}"
    read -r line <&"${SERVER[0]}" || { echo 'llama.cpp has ended' >"$work/log"; return 1; }
    if [[ $line == error=* ]]; then echo "$line" >"$work/log"; return 1; fi
    echo "$line"
}
measure() { # program, then as above: sets line, speed, others
    local program=$1 end=$((SECONDS + patience)); shift
    while :; do
        # peers.mjs is patient itself
        while [ "$program" = ours ] && [ $SECONDS -lt $end ] && above "$(busy_now)" 0.15; do sleep 0.2; done
        line=$("run_$program" "$@") || { say "$program on $5: $(tail -1 "$work/log")"; return 1; }
        speed=$(field tokens_per_second "$line")
        [ -n "$speed" ] || { say "$program on $5: no tokens_per_second in its answer"; return 1; }
        others=$(field 'others' "$line"); [ -n "$others" ] || others=$(field cores_of_others "$line"); [[ $others =~ ^[0-9.]+$ ]] || others=0
        if [ "$program" = theirs ] || [ $SECONDS -ge $end ] || ! above "$others" $others_limit; then return 0; fi
    done
}
median() { sort -g | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }
summary() { # median and spread of the speeds given, one a line
    local all; all=$(cat)
    printf '%s %s %s' "$(median <<<"$all")" "$(sort -g <<<"$all" | head -1)" "$(sort -g <<<"$all" | tail -1)"
}
show() { awk -v x="$1" 'BEGIN { printf "%.*f", x < 10 ? 2 : x < 100 ? 1 : 0, x }'; }

work=$(mktemp -d)
server_pid=""
cleanup() { if [ -n "$server_pid" ]; then kill "$server_pid" 2>/dev/null || true; fi; rm -rf "$work"; }
trap cleanup EXIT
mkdir -p "$(dirname "$csv")"
{
    echo "# $(date -u +%Y-%m-%d) $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -1), $(getconf _NPROCESSORS_ONLN) processors; node-llama-cpp $(installed)"
    echo "model,mode,tokens,context,threads,isa,round,program,tokens_per_second,others,settings"
} >"$csv"

programs=(theirs)
if [ "$ours" != none ]; then programs=(ours theirs); fi
failed=0
printf '%-22s %-7s %7s %7s %-7s | %8s %17s | %9s %17s %-16s | %6s\n' model mode context threads isa ltx.h 'min-max' llama.cpp 'min-max' 'its build' ratio
for isa in ${isas//,/ }; do
    coproc SERVER { UV_THREADPOOL_SIZE=1 exec node "$root/bench/peers.mjs" --serve --package "$npm_dir" --isa "$isa" 2>"$work/server"; }
    server_pid=$SERVER_PID
    for file in "${files[@]}"; do for mode in ${modes//,/ }; do
        places=$contexts; tokens=$decode
        if [ "$mode" = prefill ]; then places=0; tokens=$prefill; fi
        for context in ${places//,/ }; do for t in ${threads//,/ }; do
            name=$(basename "$file" .gguf); disturbed=""; good=1
            for p in "${programs[@]}"; do : >"$work/$p"; done
            for ((round = 1; round <= rounds && good; round++)); do for p in "${programs[@]}"; do
                measure "$p" "$mode" "$context" "$t" "$isa" "$file" || { good=0; break; }
                echo "$speed" >>"$work/$p"
                if above "$others" $others_limit; then disturbed='*'; fi
                rest=${line#*reps=}
                echo "$name,$mode,$tokens,$context,$t,$isa,$round,$p,$speed,$others,reps=${rest//,/;}" >>"$csv"
                if [ "$p" = theirs ]; then setting="$(field build "$line")/fa-$(field flash "$line")"; fi
            done; done
            if [ "$good" = 0 ]; then failed=1; tail -2 "$work/server" >&2; kill -0 "$server_pid" 2>/dev/null || die 1 "llama.cpp has ended"; continue; fi
            read -r th th_min th_max < <(summary <"$work/theirs"; echo)
            us=- us_range=- ratio=-
            if [ "$ours" != none ]; then
                read -r us us_min us_max < <(summary <"$work/ours"; echo)
                ratio=$(awk -v a="$us" -v b="$th" 'BEGIN { printf "%.2f", a / b }'); us=$(show "$us"); us_range="$(show "$us_min")-$(show "$us_max")"
            fi
            printf '%-22s %-7s %7s %7s %-7s | %8s %17s | %9s %17s %-16s | %6s%s\n' "$name" "$mode" "$context" "$t" "$isa" "$us" "$us_range" \
                "$(show "$th")" "$(show "$th_min")-$(show "$th_max")" "$setting" "$ratio" "$disturbed"
        done; done
    done; done
    kill "$server_pid" 2>/dev/null || true
    wait "$server_pid" 2>/dev/null || true
    server_pid=""
done
echo "Medians of $rounds round(s), tokens per second. * other programs disturbed a measurement. All measurements: $csv"
exit $failed
