#!/usr/bin/python3
"""Train a small decoder that can be stopped after any layer (the LayerSkip recipe, on a CPU).

Three things turn an ordinary Llama-style decoder into one that runs at variable depth:

  layer dropout    a step leaves out whole layers at random, deep ones more often, so that no layer
                   counts on every layer before it. A step that runs fewer layers is also cheaper.
  exit losses      the one final norm and head are applied to inner layers too, and their errors are
                   added to the loss, so that inner states speak the language of the head.
  rotation         only every R-th layer gets its exit loss in a given step, the others take turns:
                   most of the benefit of training every exit at a fraction of the cost.

LayerSkip: Elhoushi et al., arXiv 2404.16710. README.md says where this recipe differs.

  train.py TEXT.txt --valid HELD_OUT.txt --out DIR                    23 minutes, byte level
  train.py TEXT.txt --preset ls --out DIR                             54 minutes, 2048 BPE pieces
  train.py TEXT.txt --preset tiny --minutes 0.3 --out DIR             does it work here at all?
"""
import argparse
import dataclasses
import json
import math
import os
import signal
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

import decoder
import evaluate

# option: (help, tiny, bytes, ls). The last two columns made stories-bytes and stories-ls.
RECIPE = {
    "tokenizer": ("bytes = every file works and no vocabulary is needed; spm = SentencePiece BPE with "
                  "byte fallback: three to four bytes a token, so more text per step and per context",
                  "bytes", "bytes", "spm"),
    "vocab": ("pieces of an spm vocabulary: more = shorter texts, but a larger head, which every "
              "early exit has to pay for (bytes: always 260)", 260, 260, 2048),
    "dim": ("width of the residual stream: parameters and time grow with its square", 64, 128, 192),
    "layers": ("depth: the number of places where the model can be stopped", 4, 12, 12),
    "heads": ("attention heads; dim / heads must be even, 32 is a good head", 4, 4, 6),
    "kv_heads": ("key/value heads; fewer than heads = a smaller cache when the model runs", 2, 2, 3),
    "ffn": ("width of the gated feed-forward part; 8/3 of dim is usual", 160, 352, 512),
    "seq": ("context in tokens: what the model can look back on", 128, 512, 512),
    "batch": ("full windows in a step: more = smoother steps but fewer of them in the time", 16, 8, 8),
    "lr": ("highest learning rate; halve it if the loss jumps, small models bear more", 3e-3, 3e-3, 2.5e-3),
    "warmup": ("steps over which the learning rate rises from nothing", 20, 100, 100),
    "layer_dropout": ("chance that a step leaves out the last layer; earlier ones less, the first "
                      "never. More = sturdier against skipped layers, less = lower loss", 0.1, 0.1, 0.1),
    "exit_scale": ("weight of the exit losses next to the last layer's 1. More = better early exits "
                   "and drafts, at some cost to full depth; 0 = an ordinary model", 1.0, 1.0, 0.5),
    "exit_slope": ("how much more late exits weigh than early ones: 2 = as 1, 3, 6, 10, ... (LayerSkip), 0 = all "
                   "the same, which drafts from the first layers want", 2.0, 2.0, 2.0),
    "exit_ramp": ("share of the run over which the exit losses come in, from nothing: a curriculum (LayerSkip); "
                  "0 = they count from the first step", 0.0, 0.0, 0.0),
    "distill": ("share of an exit's loss that asks it to agree with the last layer instead of with the text: what "
                "drafts and exits are measured by, and never more than the exit can know", 0.0, 0.0, 0.0),
    "rotation": ("each step trains every R-th exit, in turn. 1 = all at once: dearest; "
                 "larger = cheaper steps, each exit trained less often", 3, 4, 6),
    "minutes": ("time to train; the learning rate is planned to end with it", 0.3, 23.0, 54.0),
}
PRESETS = {name: {key: row[column] for key, row in RECIPE.items()}
           for column, name in enumerate(("tiny", "bytes", "ls"), 1)}


# ------------------------------------------------------------------------------------ the options

def preset_table():
    """The presets as text for --help, made from the values themselves."""
    lines = [f"  {'':14s}" + "".join(f"{name:>8s}" for name in PRESETS)]
    for key in RECIPE:
        lines.append(f"  {key.replace('_', '-'):14s}" + "".join(f"{p[key]:>8}" for p in PRESETS.values()))
    return "presets; any option given as well wins:\n" + "\n".join(lines)


def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, epilog=preset_table(),
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("text", nargs="+", metavar="TEXT", help="training text; name a file twice to give it double weight")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for everything that is made")
    p.add_argument("--valid", metavar="FILE", help="held-out text (default: the last 2%% of the training text)")
    p.add_argument("--separator", default="\\n\\n", metavar="S",
                   help=r"what stands between documents, with \n and \t as escapes (default: a blank line). "
                   "Each document gets a start mark. 'none' = a file is one document, kept as it is")
    p.add_argument("--preset", choices=PRESETS, default="bytes", help="starting point (default bytes), see below")
    group = p.add_argument_group("recipe (defaults come from the preset)")
    for key, (text, *values) in RECIPE.items():
        choices = ("bytes", "spm") if key == "tokenizer" else None
        group.add_argument("--" + key.replace("_", "-"), type=type(values[0]), choices=choices, help=text,
                           metavar=None if choices else "N")
    group.add_argument("--steps", type=int, default=0, metavar="N",
                       help="train this many steps instead of minutes: the only way to get the same "
                       "weights twice, as a clock does not count evenly")
    run = p.add_argument_group("run")
    run.add_argument("--init", metavar="FILE", help="begin with the weights of this model.safetensors instead of "
                     "random ones; its sizes count")
    run.add_argument("--grow", type=int, default=0, metavar="N", help="add N layers behind those of --init: copies of the "
                     "last one that write nothing yet, so that the model starts as good as it was")
    run.add_argument("--seed", type=int, default=1, metavar="N", help="first weights, windows, dropped layers")
    run.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: all)")
    run.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto",
                     help="auto = bf16 matrix products where the CPU has AMX or AVX512-BF16 (1.5 to 3.5 "
                     "times as fast); weights and the optimiser stay float32")
    run.add_argument("--save-every", type=float, default=5, metavar="MIN",
                     help="minutes between checkpoints with a short validation (default 5)")
    run.add_argument("--resume", action="store_true", help="go on from DIR/checkpoint.pt; a larger "
                     "--minutes or --steps than before trains longer")
    opt = p.parse_args(argv)
    for key, value in PRESETS[opt.preset].items():
        if getattr(opt, key) is None:
            setattr(opt, key, value)
    if opt.tokenizer == "spm" and opt.vocab == decoder.BYTE_VOCAB:
        opt.vocab = PRESETS["ls"]["vocab"]      # --tokenizer spm on top of a byte preset
    return opt


def check_options(opt):
    """Refuse at once what would fail or mislead after minutes of work."""
    for key in ("batch", "warmup", "rotation"):
        if getattr(opt, key) < 1:
            raise decoder.Problem(f"--{key} must be at least 1")
    if not 0 <= opt.layer_dropout < 1:
        raise decoder.Problem("--layer-dropout is a chance: from 0 to below 1")
    if not 0 <= opt.distill <= 1 or not 0 <= opt.exit_ramp <= 1 or not 0 <= opt.exit_slope <= 2:
        raise decoder.Problem("--distill and --exit-ramp are shares, from 0 to 1; --exit-slope goes from 0 to 2")
    if opt.grow < 0 or (opt.grow and not opt.init):
        raise decoder.Problem("--grow adds layers to the model of --init")
    if opt.exit_scale < 0 or opt.lr <= 0 or opt.steps < 0 or opt.minutes <= 0:
        raise decoder.Problem("--exit-scale and --steps must not be negative, --lr and --minutes must be above 0")


def cpu():
    """(model name, set of feature flags) as Linux tells them; elsewhere nothing is known."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            lines = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return "unknown CPU", set()
    lines = {key.strip(): value.strip() for key, value in lines.items()}
    return lines.get("model name", "unknown CPU"), set(lines.get("flags", "").split())


def use_bf16(precision):
    return precision == "bf16" or (precision == "auto" and bool(cpu()[1] & {"amx_bf16", "avx512_bf16"}))


def warn_of_slow_blas(say):
    """Debian's torch runs on the reference BLAS, fifty times slower, unless OpenBLAS is installed."""
    a = torch.ones(384, 384)
    a @ a
    begin = time.perf_counter()
    a @ a
    rate = 2 * 384 ** 3 / (time.perf_counter() - begin) / 1e9
    if rate < 8:
        say(f"warning: float32 products run at {rate:.1f} GFLOP/s only; on Debian: apt-get install libopenblas0-pthread")


# --------------------------------------------------------------------------------------- the data

def make_tokenizer(opt, texts):
    if opt.tokenizer == "bytes":
        return decoder.ByteTokenizer()
    try:
        import sentencepiece  # noqa: F401 (only to see whether it is there)
    except ImportError:
        raise decoder.Problem("spm needs SentencePiece (Debian: python3-sentencepiece); "
                              "--tokenizer bytes needs nothing") from None
    path = os.path.join(opt.out, "tok.model")
    if not (opt.resume and os.path.isfile(path)):
        decoder.train_pieces(texts, opt.vocab, path, opt.seed)
    return decoder.PieceTokenizer(path)


def load_data(opt):
    """(tokenizer, training tokens, validation tokens, bytes per validation token)."""
    separator = evaluate.separator_bytes(opt.separator)
    texts = [decoder.read_text(path, opt.tokenizer) for path in opt.text]
    held_out = [decoder.read_text(opt.valid, opt.tokenizer)] if opt.valid else []
    tokenizer = make_tokenizer(opt, texts)
    train = np.concatenate([decoder.tokenise(raw, tokenizer, separator) for raw in texts])
    if held_out:
        valid = decoder.tokenise(held_out[0], tokenizer, separator)
    else:       # cut from the end, and never seen in training
        cut = len(train) - max(len(train) // 50, opt.seq + 1)
        train, valid = train[:max(0, cut)], train[max(0, cut):]
    if len(train) < 8 * opt.seq:
        raise decoder.Problem(f"only {len(train)} tokens to train on, at least {8 * opt.seq} (8 windows of --seq) "
                              "are needed; a model worth having wants millions")
    if len(valid) <= opt.seq:
        raise decoder.Problem(f"held-out text of {len(valid)} tokens is shorter than one window of {opt.seq}")
    source = held_out or texts
    per_token = sum(map(len, source)) / (len(valid) if held_out else len(train) + len(valid))
    return tokenizer, train, valid, per_token


def draw_batch(rng, train, opt, done):
    """Random windows and what follows each token.

    Half-length windows until four fifths of the run are over: attention costs less, and the long
    view is learnt quickly once the short one is there. Tokens in a step stay the same.
    """
    length, count = (opt.seq, opt.batch) if done > 0.8 else (opt.seq // 2, opt.batch * 2)
    starts = rng.integers(0, len(train) - length - 1, count)
    windows = torch.from_numpy(np.stack([train[s:s + length + 1] for s in starts]).astype(np.int64))
    return windows[:, :-1], windows[:, 1:]


# ------------------------------------------------------------------------------------- the recipe

def dropout_chances(layers, highest):
    """From 0 at the first layer, doubling-wise, to `highest` at the last: the first layers carry
    every exit and are never missed, the last ones are what an early exit does without."""
    return [highest * (2 ** (l / max(1, layers - 1)) - 1) for l in range(layers)]


def exit_weights(layers, slope):
    """With slope 2 as 1, 3, 6, 10, ...: late exits weigh more. They can be right more often, and asking
    the first layers for the impossible would spend their capacity on it."""
    return np.cumsum(np.arange(1.0, layers + 1)) ** (slope / 2)


def exits_of_step(layers, rotation, step):
    return {l for l in range(layers - 1) if l % rotation == step % rotation}


def learning_rate(opt, step, done):
    """Short linear rise, then a cosine down to a twentieth at the end of the run."""
    return opt.lr * min(1, (step + 1) / opt.warmup) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def exit_scale(opt, done):
    return opt.exit_scale * (min(1, done / opt.exit_ramp) if opt.exit_ramp else 1)


def step_loss(model, ids, targets, keep, exits, opt, scale, bf16):
    """(loss to descend, cross entropy at full depth, weighted mean of the exits')."""
    def exit_loss(hidden, teacher):
        logits = model.logits(hidden).flatten(0, 1).float()
        text = F.cross_entropy(logits, targets.flatten())
        return text if opt.distill == 0 else (1 - opt.distill) * text + opt.distill * F.cross_entropy(logits, teacher)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        last, states = model(ids, keep, exits, torch.bfloat16 if bf16 else torch.float32)
        logits = model.logits(last).flatten(0, 1).float()
        full = F.cross_entropy(logits, targets.flatten())
        if not exits or scale == 0:
            return full, full.item(), math.nan
        teacher = logits.detach().softmax(-1)       # it is not to come down to the exits
        weight = exit_weights(model.shape.layers, opt.exit_slope)
        total = sum(weight[l] for l in exits)
        early = sum(weight[l] / total * exit_loss(states[l], teacher) for l in exits)
    return full + scale * early, full.item(), early.item()


def grown(model, more):
    """The model with `more` layers behind its last, whose outgoing matrices are zero."""
    shape = dataclasses.replace(model.shape, layers=model.shape.layers + more)
    larger, weights = decoder.Decoder(shape), model.state_dict()
    for layer in range(model.shape.layers, shape.layers):
        for name, p in model.blocks[-1].state_dict().items():
            writes = name in ("wo.weight", "w2.weight")
            weights[f"blocks.{layer}.{name}"] = torch.zeros_like(p) if writes else p.clone()
    larger.load_state_dict(weights)
    return larger


def make_optimizer(model, lr):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    gains = [p for p in model.parameters() if p.dim() < 2]      # norm gains are not to shrink
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.05},
                              {"params": gains, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.98))


class Run:
    """A training run that can be put down and taken up again: all that changes while it goes on."""

    def __init__(self, opt, shape):
        torch.manual_seed(opt.seed)
        self.opt, self.shape = opt, shape
        self.model = grown(decoder.load_model(opt.init)[0], opt.grow) if opt.init else decoder.Decoder(shape)
        self.optimizer = make_optimizer(self.model, opt.lr)
        self.rng = np.random.default_rng(opt.seed)
        self.chances = dropout_chances(shape.layers, opt.layer_dropout)
        self.bf16 = use_bf16(opt.precision)
        self.step = self.seen = 0
        self.seconds = 0.0
        self.checkpoint = os.path.join(opt.out, "checkpoint.pt")

    def done(self):
        """How much of the run is over, 0 to 1."""
        share = self.step / self.opt.steps if self.opt.steps else self.seconds / (60 * self.opt.minutes)
        return min(1.0, share)

    def save(self):
        state = {"shape": vars(self.shape), "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "rng": self.rng.bit_generator.state, "step": self.step, "seen": self.seen, "seconds": self.seconds}
        torch.save(state, self.checkpoint + ".part")
        os.replace(self.checkpoint + ".part", self.checkpoint)

    def restore(self):
        if not os.path.isfile(self.checkpoint):
            raise decoder.Problem(f"nothing to resume: no {self.checkpoint}")
        state = torch.load(self.checkpoint)
        if state["shape"] != vars(self.shape):
            raise decoder.Problem(f"{self.checkpoint} was made with other sizes: {state['shape']}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.step, self.seen, self.seconds = state["step"], state["seen"], state["seconds"]

    def advance(self, train):
        """One step; returns (full-depth loss, mean exit loss, learning rate)."""
        begin, opt, done = time.perf_counter(), self.opt, self.done()
        lr = learning_rate(opt, self.step, done)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        ids, targets = draw_batch(self.rng, train, opt, done)
        keep = [self.rng.random() >= chance for chance in self.chances]     # for the whole batch:
        exits = exits_of_step(self.shape.layers, opt.rotation, self.step)   # a dropped layer costs nothing
        loss, full, early = step_loss(self.model, ids, targets, keep, exits, opt, exit_scale(opt, done), self.bf16)
        if not math.isfinite(full):
            raise decoder.Problem(f"the loss is no longer a number at step {self.step}: try a lower --lr")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step, self.seen = self.step + 1, self.seen + ids.numel()
        self.seconds += time.perf_counter() - begin     # validation and saving do not eat the budget
        return full, early, lr


# ---------------------------------------------------------------------------------------- the run

def progress_line(run, full, early, lr):
    done = run.done()
    left = run.seconds * (1 - done) / done if done else 0
    exits = "" if math.isnan(early) else f"exits {early:.3f}  "
    return (f"step {run.step:5d}  {100 * done:5.1f}%  loss {full:.3f}  {exits}lr {lr:.2e}  "
            f"{run.seen / run.seconds:.0f} tok/s  {left / 60:.1f} min left")


def stop_requests():
    """A list that fills at Ctrl-C or a polite kill, so that a step is never torn in the middle."""
    requests = []

    def note(number, _frame):
        requests.append(number)
        signal.signal(number, signal.SIG_DFL)   # the second time it means it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return requests


def train_until_done(run, train, valid, say):
    run.model.train()
    stop, shown, saved = stop_requests(), time.monotonic() - 10, time.monotonic()
    while run.done() < 1:
        full, early, lr = run.advance(train)
        now = time.monotonic()
        if now - shown >= 15 or run.done() >= 1:
            shown = now
            say(progress_line(run, full, early, lr))
        if stop:
            run.save()
            raise decoder.Problem(f"stopped after step {run.step}; the same command with --resume goes on")
        if now - saved >= 60 * run.opt.save_every and run.done() < 1:
            run.save()
            loss, _, _ = evaluate.measure(run.model, valid, 8)
            say("held out, per exit: " + " ".join(f"{ce:.3f}" for ce in loss))
            saved = time.monotonic()
    run.save()


def finish(run, valid, per_token, say):
    """Measure every exit and write what others use: model.safetensors and result.json."""
    loss, agree, windows = evaluate.measure(run.model, valid, 60)
    say(f"held-out text, {windows} windows of {run.shape.seq}:")
    for line in evaluate.table(loss, agree, per_token):
        say(line)
    result = {"params": sum(p.numel() for p in run.model.parameters()), "steps": run.step, "tokens_seen": run.seen,
              "seconds": run.seconds, "cpu": cpu()[0], "precision": "bf16" if run.bf16 else "fp32",
              "windows": windows, "valid_ce": loss.tolist(),
              "valid_bits_per_byte": (loss / math.log(2) / per_token).tolist(),
              "argmax_agreement_with_final": agree.tolist(), "args": vars(run.opt)}
    with open(os.path.join(run.opt.out, "result.json"), "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    path = os.path.join(run.opt.out, "model.safetensors")
    decoder.save_model(path, run.model)
    say(f"wrote {path} ({os.path.getsize(path)} bytes)")


def main(argv):
    opt = parse(argv)
    check_options(opt)
    sizes = {key: getattr(opt, key) for key in ("dim", "layers", "heads", "kv_heads", "ffn", "vocab", "seq", "tokenizer")}
    if opt.tokenizer == "bytes":
        sizes["vocab"] = decoder.BYTE_VOCAB
    shape = decoder.Shape(bos=decoder.BYTE_BOS if opt.tokenizer == "bytes" else 1, **sizes)
    if opt.init:
        shape = decoder.load_model(opt.init)[0].shape
        if (shape.tokenizer, shape.seq) != (opt.tokenizer, opt.seq):
            raise decoder.Problem(f"{opt.init} is {shape.tokenizer}, {shape.seq} tokens long: say --tokenizer and --seq as there")
        shape = dataclasses.replace(shape, layers=shape.layers + opt.grow)
    shape.check()
    opt.threads = opt.threads or os.cpu_count() or 1
    torch.set_num_threads(opt.threads)
    for path in opt.text + ([opt.valid] if opt.valid else []):
        if not os.path.isfile(path):
            raise decoder.Problem(f"no file {path}")
    os.makedirs(opt.out, exist_ok=True)
    log = open(os.path.join(opt.out, "train.log"), "a" if opt.resume else "w", encoding="utf-8")

    def say(line):
        print(line, flush=True)
        print(line, file=log, flush=True)

    warn_of_slow_blas(say)
    tokenizer, train, valid, per_token = load_data(opt)
    run = Run(opt, shape)
    if opt.resume:
        run.restore()
    say(f"{len(train)} tokens to train on, {len(valid)} held out, {per_token:.2f} bytes each; "
        f"{sum(p.numel() for p in run.model.parameters())} parameters")
    say(f"{cpu()[0]}, {opt.threads} threads, {'bf16' if run.bf16 else 'fp32'}, "
        + (f"{opt.steps} steps" if opt.steps else f"{opt.minutes:g} minutes")
        + (f", resumed at step {run.step}" if opt.resume else ""))
    train_until_done(run, train, valid, say)
    finish(run, valid, per_token, say)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except decoder.Problem as problem:
        sys.exit(f"train.py: {problem}")
