// peers.mjs - how fast llama.cpp runs a GGUF file, measured through the npm package node-llama-cpp
// SPDX-License-Identifier: MIT (text at the end of ltx.h)
//
// bench/peers.sh installs the package and calls this; `node bench/peers.mjs --help` explains it.
//
// Fair to llama.cpp: the numbers are those of llama_decode alone. A batch is filled and decoded by the package's own native
// context (AddonContext), the calls its JavaScript classes end in, without their queue, locks and sampler; the only thing
// beside llama_decode in a measured token is one hop to a worker thread and back (some 50 microseconds). Each decoded token
// asks for its logits and a prefill for those of its last token, as llama-bench does: without that llama.cpp leaves out the head.

import {spawnSync} from "node:child_process";
import {readFileSync, readdirSync, mkdirSync, rmSync, symlinkSync, existsSync, readlinkSync} from "node:fs";
import {createRequire} from "node:module";
import {createInterface} from "node:readline";
import {fileURLToPath, pathToFileURL} from "node:url";
import {parseArgs} from "node:util";
import path from "node:path";
import os from "node:os";

const HELP = `usage: node peers.mjs --model FILE.gguf [options]     one measurement, one line
       node peers.mjs --serve [options]               reads lines of options, answers each with a line

  --model FILE       GGUF file; stays loaded between the lines of --serve until another is named
  --mode MODE        prefill: N tokens in batches; decode: N tokens, one after the other        (prefill)
  --tokens N         how many are measured                                          (prefill 512, decode 64)
  --ctx C            how many tokens stand in the cache before the measured ones                     (0)
  --threads T        threads of llama.cpp                                                            (1)
  --reps R           measured repetitions; an unmeasured one goes before                             (5)
  --patience S       seconds that may be spent on waiting for a quiet machine and on measuring again     (0)
  --isa ISA          best: what llama.cpp chooses itself; avx2 (its haswell build); avx512 (its best build without AMX);
                     amx; or the name of a build: see --list. One process has one: --serve takes it on its
                     command line only                                                             (best)
  --flash on|off|auto|best  flash attention; best tries both and takes the faster                  (best)
  --batch B          tokens per batch of a prefill, also the micro batch                           (512)
  --cache TYPE       type of the cached keys and values                                            (f16)
  --how HOW          raw: native context, no sampling; evaluate: the package's generator, greedy;
                     controlled: its controlledEvaluate, greedy                                     (raw)
  --no-mmap          read the file instead of mapping it
  --package DIR      folder with node_modules/node-llama-cpp              (build/peers/npm beside bench/)
  --list             list the builds for instruction sets that the package has, and exit
  --check            compare the tokens of raw with those of evaluate before measuring
  --verbose          llama.cpp's own log, on the error stream

The line: tokens_per_second (median) min max reps, then what was measured, then
  others  processors kept busy by other programs meanwhile; above 0.1 the numbers are doubtful
  build   the instruction set build of llama.cpp that was really loaded
Exit status: 0 measured, 1 failed, 2 wrong usage. --serve answers error="..." and goes on.

example
  node bench/peers.mjs --model m.gguf --mode decode --tokens 64 --ctx 4096 --threads 2 --isa avx2
  printf '%s\\n' '--model m.gguf --mode prefill' '--mode decode --threads 2' | node bench/peers.mjs --serve`;

const OPTIONS = {
    model: {type: "string"}, mode: {type: "string"}, tokens: {type: "string"}, ctx: {type: "string"}, threads: {type: "string"},
    reps: {type: "string"}, patience: {type: "string"}, isa: {type: "string"}, flash: {type: "string"}, batch: {type: "string"}, cache: {type: "string"},
    how: {type: "string"}, package: {type: "string"}, "no-mmap": {type: "boolean"}, serve: {type: "boolean"},
    list: {type: "boolean"}, check: {type: "boolean"}, verbose: {type: "boolean"}, help: {type: "boolean", short: "h"}
};
// Our names for sets of builds; of those that run here, llama.cpp takes the best.
const SETS = {avx2: ["haswell"], avx512: ["zen4", "cooperlake", "icelake", "cascadelake", "cannonlake", "skylakex"], amx: ["sapphirerapids", "graniterapids"]};
const builds_of = (isa, builds) => SETS[isa]?.filter(n => builds.includes(n)) ?? [isa];

const OTHERS_LIMIT = 0.1; // processors; what is measured beside more than that is doubtful

class Usage extends Error {}
function options(args, base) {
    let v;
    try { v = parseArgs({args, options: OPTIONS, strict: true, allowPositionals: false}).values; }
    catch (e) { throw new Usage(e.message); }
    const o = {mode: "prefill", isa: "best", flash: "best", cache: "f16", how: "raw", ...base, ...v};
    const number = (name, otherwise, least) => {
        const text = v[name] ?? base?.[name] ?? otherwise, n = Number(text);
        if (!Number.isInteger(n) || n < least) throw new Usage(`--${name} wants a whole number of at least ${least}, not ${text}`);
        o[name] = n;
    };
    const word = (name, ...words) => { if (!words.includes(o[name])) throw new Usage(`--${name} wants one of ${words.join(", ")}, not ${o[name]}`); };
    word("mode", "prefill", "decode"); word("flash", "best", "on", "off", "auto"); word("how", "raw", "evaluate", "controlled");
    if (o.how !== "raw" && Number(o.ctx ?? 0) > 0) throw new Usage("--ctx needs --how raw");
    // of a line of --serve, N follows the mode of that line
    number("tokens", o.mode === "prefill" ? 512 : 64, 1);
    number("ctx", 0, 0); number("threads", 1, 1); number("reps", 5, 1); number("patience", 0, 0); number("batch", 512, 1);
    return o;
}

// ---- the package -----------------------------------------------------------------------------------------------------

function open_package(o) {
    const here = path.dirname(fileURLToPath(import.meta.url));
    const dir = path.resolve(o.package ?? path.join(here, "..", "build", "peers", "npm"));
    const root = path.join(dir, "node_modules", "node-llama-cpp");
    if (!existsSync(root)) throw new Error(`there is no node-llama-cpp in ${dir}; bench/peers.sh --install puts it there`);
    const name = os.platform() === "darwin" ? (process.arch === "arm64" ? "mac-arm64-metal" : "mac-x64") : `linux-${process.arch}`;
    const bins = path.join(dir, "node_modules", "@node-llama-cpp", name, "bins", name);
    const files = existsSync(bins) ? readdirSync(bins) : [];
    const builds = files.map(f => /^libggml-cpu-(.+)\.so$/.exec(f)?.[1]).filter(x => x);
    return {dir, root, bins, builds, version: JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")).version};
}

// llama.cpp looks for its CPU builds in one folder and takes the best that runs here. To choose another, we register it before the
// package looks: from a folder that has links to the wanted builds only. The package then finds a CPU backend and loads no more.
function choose_build(pkg, isa) {
    if (isa === "best") return;
    const names = builds_of(isa, pkg.builds);
    if (names.length === 0 || !names.every(n => pkg.builds.includes(n)))
        throw new Error(`node-llama-cpp has no build ${isa} for this platform; it has ${pkg.builds.join(", ") || "only one"}`);
    const folder = path.join(pkg.dir, "isa", isa);
    mkdirSync(folder, {recursive: true});
    for (const n of names) {
        const link = path.join(folder, `libggml-cpu-${n}.so`), to = path.join(pkg.bins, `libggml-cpu-${n}.so`);
        try { if (readlinkSync(link) === to) continue; rmSync(link); } catch { /* not there yet */ }
        symlinkSync(to, link);
    }
    const addon = createRequire(import.meta.url)(path.join(pkg.bins, "llama-addon.node"));
    addon.setLoggerLogLevel(0);
    addon.loadBackends(folder);
}
function loaded_builds() { // what the process has really mapped
    try { return [...new Set([...readFileSync("/proc/self/maps", "utf8").matchAll(/libggml-cpu-?(\w*)\S*\.so/g)].map(m => m[1] || "cpu"))]; }
    catch { return []; }
}

class Engine {
    contexts = {}; // by settings; `at` is the one in use
    faster = {};   // by question: is flash attention on or off
    static async open(o) {
        const e = new Engine();
        e.pkg = open_package(o);
        choose_build(e.pkg, o.isa);
        const {getLlama, LlamaLogLevel} = await import(pathToFileURL(path.join(e.pkg.root, "dist", "index.js")).href);
        e.llama = await getLlama({gpu: false, build: "never", skipDownload: true, progressLogs: false, maxThreads: 0,
            logLevel: o.verbose ? LlamaLogLevel.debug : LlamaLogLevel.disabled, logger: (_, text) => process.stderr.write(text)});
        e.builds = loaded_builds();
        if (o.isa !== "best" && e.builds.length > 0 && (e.builds.length !== 1 || !builds_of(o.isa, e.pkg.builds).includes(e.builds[0])))
            throw new Error(`asked for ${o.isa}, but llama.cpp runs ${e.builds.join(" and ")}: does this processor have it?`);
        return e;
    }
    async model(o) {
        const key = [path.resolve(o.model), Boolean(o["no-mmap"])].join();
        if (this.model_key === key) return;
        this.contexts = {}; // they go with their model
        this.model_key = undefined;
        await this.loaded?.dispose();
        this.loaded = await this.llama.loadModel({modelPath: path.resolve(o.model), gpuLayers: 0, useMmap: !o["no-mmap"], ignoreMemorySafetyChecks: true});
        this.model_key = key;
        // any tokens do; the low ones are control tokens in most vocabularies
        this.vocab = this.loaded.fileInfo.metadata.tokenizer?.ggml?.tokens?.length ?? 512;
    }
    async prepare(o) { // a context, and o.ctx tokens in it
        const size = o.ctx + o.tokens + 2, key = [o.flash, o.batch, o.cache].join();
        await this.model(o);
        let c = this.contexts[key];
        if (c === undefined || c.size < size || c.size > 2 * size + 2048) {
            await c?.context.dispose();
            delete this.contexts[key];
            const context = await this.loaded.createContext({contextSize: size, batchSize: o.batch, threads: o.threads, sequences: 1,
                flashAttention: o.flash === "auto" ? "auto" : o.flash === "on", ignoreMemorySafetyChecks: true,
                experimentalKvCacheKeyType: o.cache.toUpperCase(), experimentalKvCacheValueType: o.cache.toUpperCase()});
            c = {context, sequence: context.getSequence(), native: context._ctx, size: context.contextSize, filled: 0, used: {}};
            if (o.how === "raw" && typeof c.native?.decodeBatch !== "function")
                throw new Error("this version of node-llama-cpp has no AddonContext.decodeBatch: use --how evaluate");
            this.contexts[key] = c;
        }
        this.at = c;
        c.native?.setThreads?.(o.threads);
        if (o.how === "raw" && c.filled !== o.ctx) {
            c.native.removeTokenCellsFromSequence(0, 0, -1);
            const tokens = this.tokens(o.ctx);
            for (let i = 0; i < o.ctx; i += o.batch) await this.batch(i, tokens.subarray(i, i + o.batch), false);
            c.filled = o.ctx;
        }
        // Not measured, so that every page has been touched; before each measurement only the caches are warmed.
        if (!c.used[o.mode]) await this.once(o, o.tokens);
        c.used[o.mode] = true;
    }
    // A measurement: seconds, and how many processors others took. Waits for a quiet machine and tries again until o.deadline.
    async timed(o) {
        for (;;) {
            while (performance.now() < o.deadline) {
                const before = busy();
                await new Promise(resolve => setTimeout(resolve, 200));
                if (!(busy_others(before) > 0.15)) break;
            }
            await this.once(o, Math.min(o.tokens, o.mode === "prefill" ? 32 : 4));
            const before = busy(), seconds = await this.once(o, o.tokens), others = busy_others(before);
            if (!(others > OTHERS_LIMIT) || performance.now() >= o.deadline) return {seconds, others};
        }
    }
    // Which is faster here, flash attention or not? Tried once for each question: on, unless off is clearly faster.
    async flash(o) {
        if (o.flash !== "best") return o.flash;
        if (/^[iq]/.test(o.cache)) return "on"; // quantized values need it
        const question = [this.model_key, o.mode, o.tokens, o.ctx, o.threads, o.batch, o.cache, o.how].join();
        if (this.faster[question] === undefined) {
            const best = {on: Infinity, off: Infinity};
            for (let round = 0; round < 3; round++) for (const flash of ["on", "off"]) {
                if (round > 0 && best[flash] > 2) continue; // once is exact enough
                await this.prepare({...o, flash});
                best[flash] = Math.min(best[flash], (await this.timed(o)).seconds);
            }
            this.faster[question] = best.off < 0.95 * best.on ? "off" : "on";
        }
        return this.faster[question];
    }
    tokens(n) {
        const low = Math.min(259, this.vocab >> 1), out = new Uint32Array(n);
        for (let i = 0; i < n; i++) {
            this.seed = (Math.imul(this.seed ?? 1, 1664525) + 1013904223) >>> 0;
            out[i] = low + (this.seed >>> 8) % (this.vocab - low);
        }
        return out;
    }
    async batch(position, tokens, logits) {
        this.at.native.initBatch(tokens.length);
        const at = this.at.native.addToBatch(0, position, tokens, logits ? Uint32Array.of(tokens.length - 1) : new Uint32Array(0));
        await this.at.native.decodeBatch();
        return at;
    }
    async forget() { // both what the package knows of and what raw has put there
        await this.at.sequence.clearHistory();
        this.at.native?.removeTokenCellsFromSequence?.(0, 0, -1);
        this.at.filled = -1;
    }
    async once(o, n) { // seconds for n tokens after the o.ctx that are there
        const tokens = this.tokens(n);
        if (o.how === "raw") {
            this.at.native.removeTokenCellsFromSequence(0, o.ctx, -1);
            const step = o.mode === "decode" ? 1 : o.batch, t = performance.now();
            for (let i = 0; i < n; i += step) await this.batch(o.ctx + i, tokens.subarray(i, i + step), i + step >= n || o.mode === "decode");
            return (performance.now() - t) / 1000;
        }
        await this.forget();
        const list = Array.from(tokens), last = token => [token, {generateNext: {token: true}}];
        if (o.mode === "decode") await this.at.sequence.evaluateWithoutGeneratingNewTokens([list[0]]);
        const t = performance.now();
        if (o.how === "controlled") {
            if (o.mode === "prefill") await this.at.sequence.controlledEvaluate([...list.slice(0, -1), last(list[n - 1])]);
            else for (const token of list) await this.at.sequence.controlledEvaluate([last(token)]);
        } else {
            let made = 0;
            for await (const _ of this.at.sequence.evaluate(o.mode === "prefill" ? list : [list[0]], {temperature: 0, yieldEogToken: true}))
                if (++made >= (o.mode === "prefill" ? 1 : n)) break;
        }
        return (performance.now() - t) / 1000;
    }
    // The tokens that raw finds largest are those that the package's own generator chooses.
    async check(o) {
        const n = 16, start = Array.from(this.tokens(8));
        await this.forget();
        const theirs = [], ours = [];
        for await (const token of this.at.sequence.evaluate(start, {temperature: 0, yieldEogToken: true})) if (theirs.push(token) >= n) break;
        await this.forget();
        const {AddonSampler} = this.llama._bindings, sampler = new AddonSampler(this.loaded._model);
        sampler.applyConfig({temperature: 0});
        let at = await this.batch(0, Uint32Array.from(start), true);
        for (let i = 0; i < n; i++) {
            ours.push(await this.at.native.sampleToken(at[0], sampler));
            at = await this.batch(start.length + i, Uint32Array.of(ours[i]), true);
        }
        if (ours.join() !== theirs.join()) throw new Error(`raw gives ${ours.join(" ")}, evaluate gives ${theirs.join(" ")}`);
    }
    async measure(o) {
        if (o.model == null) throw new Usage("--model FILE is missing");
        await this.model(o);
        o = {...o, deadline: performance.now() + 1000 * o.patience};
        o.flash = await this.flash(o);
        o.deadline = performance.now() + 1000 * o.patience;
        await this.prepare(o);
        if (o.check) { await this.check(o); await this.prepare(o); }
        const runs = [];
        for (let r = 0; r < o.reps; r++) runs.push(await this.timed(o));
        const seconds = runs.map(r => r.seconds).sort((a, b) => a - b), others = Math.max(...runs.map(r => r.others));
        const middle = (seconds[(seconds.length - 1) >> 1] + seconds[seconds.length >> 1]) / 2;
        const speed = s => (o.tokens / s).toPrecision(5);
        return Object.entries({
            tokens_per_second: speed(middle), min: speed(seconds[seconds.length - 1]), max: speed(seconds[0]), reps: o.reps,
            mode: o.mode, tokens: o.tokens, ctx: o.ctx, threads: o.threads, others: Number.isNaN(others) ? "?" : others.toFixed(2),
            isa: o.isa, build: this.builds.join("+") || "?", flash: o.flash, batch: o.batch, cache: o.cache, how: o.how, mmap: o["no-mmap"] ? 0 : 1,
            llama_cpp: this.llama.llamaCppRelease?.release ?? "?", package: this.pkg.version
        }).map(([k, v]) => `${k}=${v}`).join(" ");
    }
}

// Processor time: of the whole machine and of this process, in seconds.
function busy() {
    const mine = process.cpuUsage();
    let all = NaN;
    try {
        const f = readFileSync("/proc/stat", "utf8").split("\n", 1)[0].trim().split(/\s+/).slice(1).map(Number);
        all = (f[0] + f[1] + f[2] + f[5] + f[6] + f[7]) / 100; // user nice system irq softirq steal
    } catch { /* not Linux */ }
    return {all, mine: (mine.user + mine.system) / 1e6, at: performance.now() / 1000};
}
function busy_others(b) {
    const e = busy(), share = (e.all - b.all - (e.mine - b.mine)) / (e.at - b.at);
    return Math.max(0, share); // NaN where it is not known
}

// With more than one worker thread, every token is decoded on another one, and llama.cpp loses up to half of its speed on two
// processors. Node reads the variable when it starts.
function run_with_one_worker() {
    if (process.env.UV_THREADPOOL_SIZE === "1") return;
    const r = spawnSync(process.execPath, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {stdio: "inherit", env: {...process.env, UV_THREADPOOL_SIZE: "1"}});
    process.exit(r.status ?? 1);
}

// ---- main ------------------------------------------------------------------------------------------------------------

async function serve(base) {
    const engine = await Engine.open(base);
    for await (const line of createInterface({input: process.stdin})) {
        const words = line.trim().match(/"[^"]*"|\S+/g)?.map(w => w.replace(/^"(.*)"$/, "$1")) ?? [];
        if (words.length === 0) continue;
        try {
            if (words.some(w => /^--(isa|package|serve)\b/.test(w))) throw new Usage("--isa and --package belong on the command line");
            const {model, ...rest} = options(words, base);
            base.model = model ?? base.model;
            console.log(await engine.measure({...rest, model: base.model}));
        } catch (e) { console.log(`error=${JSON.stringify(e.message)}`); }
    }
}
async function main() {
    const base = options(process.argv.slice(2));
    if (base.help) { console.log(HELP); return; }
    if (base.list) { console.log(open_package(base).builds.join("\n")); return; }
    run_with_one_worker();
    if (base.serve) {
        const given = Object.fromEntries(Object.entries(parseArgs({options: OPTIONS}).values));
        delete given.serve;
        await serve({isa: "best", ...given});
    } else {
        if (base.model == null) throw new Usage("--model FILE is missing; --help explains");
        console.log(await (await Engine.open(base)).measure(base));
    }
}
try { await main(); process.exit(0); }
catch (e) {
    console.error(`peers.mjs: ${e.message}`);
    process.exit(e instanceof Usage ? 2 : 1);
}
