#!/usr/bin/python3
"""Fit exit probes: after each layer, one vector that says whether the rest may be left out.

Rules that look at logits (prob, margin, entropy) pay for the head at every gate. A probe is one dot
product of the final norm's output with a vector of its own: 1 / (1 + exp(-(vector . normed + bias))).
The model itself stays as it is; what is learnt is when it may stop.

  probes.py model.safetensors train.txt --valid held-out.txt                  fit and judge
  probes.py model.safetensors train.txt --valid held-out.txt --out new.safetensors    and keep

The probes of all gates are fitted together, for what they are used for. Each says "leave" with its
probability, so every token leaves after layer l with a probability that can be written down, and
expected depth and expected loss can be differentiated. Adam lowers the depth; the loss may rise by
--limit, which a price keeps that follows it. (Loss: the divergence from the last layer, which is
what the loss rises by on average, with less noise.) A second aim, at higher logits, is a quarter of
the limit. Then all vectors are scaled and shifted alike, so that threshold 0.5 is the limit on the
fitting text and 0.9 a quarter of it; one threshold serves all gates.

All states come from runs at full depth: what a token sees of earlier ones is what it would see if
none of them had left. That is exact for LTX_FILL_DEFER and near for LTX_FILL_PROJECT.
"""
import argparse
import dataclasses
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

import decoder
import evaluate

BATCH = 4096            # tokens of a step
APART = 6.0             # while fitting, what lies between the limit and a quarter of it; 1 apart, one would spoil the other
CAUTIOUS = 0.9          # the threshold that costs a quarter of the limit in the end; 0.5 costs all of it
NEVER = -30.0           # bias where there is no gate: 1e-13, below any threshold


# ------------------------------------------------------------------------- what every layer says

@dataclasses.dataclass
class States:
    """Every token of a text (N, shuffled) after every layer (L) of a run at full depth."""
    normed: torch.Tensor    # [N, L-1, dim] hidden vector after the final norm, 16 bits
    loss: torch.Tensor      # [N, L] of the token that follows, nats
    far: torch.Tensor       # [N, L] Kullback-Leibler divergence from the last layer's distribution, nats
    prob: torch.Tensor      # [N, L] largest probability
    entropy: torch.Tensor   # [N, L] nats

    def full(self):
        return self.loss[:, -1].mean().item()


@torch.no_grad()
def collect(model, tokens, windows):
    """States of so many windows, taken evenly out of the tokens."""
    seq, layers, there = model.shape.seq, model.shape.layers, (len(tokens) - 1) // model.shape.seq
    if there < 1:
        raise decoder.Problem(f"text of {len(tokens)} tokens is shorter than one window of {seq}")
    windows = min(windows, there)
    n = windows * seq
    place = torch.randperm(n)       # a batch of neighbours would be all of one story
    normed = torch.empty(n, layers - 1, model.shape.dim, dtype=torch.float16)
    loss, far, prob, entropy = (torch.empty(n, layers) for _ in range(4))
    for w in range(windows):
        begin = w * there // windows * seq
        piece = torch.from_numpy(tokens[begin:begin + seq + 1].astype(np.int64))
        last, states = model(piece[None, :-1], exits=range(layers))
        at, final = place[w * seq:(w + 1) * seq], model.logits(last)[0].log_softmax(-1)
        for l in range(layers):
            log_p = model.logits(states[l])[0].log_softmax(-1)
            p = log_p.exp()
            if l < layers - 1:
                normed[at, l] = model.norm(states[l])[0].half()
            loss[at, l] = F.nll_loss(log_p, piece[1:], reduction="none")
            far[at, l] = (final.exp() * (final - log_p)).sum(-1)
            prob[at, l], entropy[at, l] = p.max(-1).values, -(p * log_p).sum(-1)
    return States(normed, loss, far, prob, entropy)


# --------------------------------------------------------------------------- rules and their price

def leaves_after(score, threshold, gates, layers):
    """The layer after which each token leaves: the first gate where score [N, L or L-1] is high enough."""
    yes = score[:, gates] >= threshold
    first = torch.tensor(gates)[yes.float().argmax(1)]
    return torch.where(yes.any(1), first, torch.tensor(layers - 1))


def increase(states, exit_layer):
    """Of the mean loss over that of full depth, as a share of it."""
    return states.loss.gather(1, exit_layer[:, None]).mean().item() / states.full() - 1


def boldest(states, score, gates, limit):
    """The lowest threshold that costs at most `limit`, by halving; what costs less is taken to be higher."""
    layers = states.loss.shape[1]
    marks = score[:, gates].flatten().unique()
    low, high = -1, len(marks)      # the answer is above low; marks[len] would be: never leave
    while high - low > 1:
        middle = (low + high) // 2
        exits = leaves_after(score, marks[middle], gates, layers)
        low, high = (low, middle) if increase(states, exits) <= limit else (middle, high)
    return marks[high].item() if high < len(marks) else math.inf


def layers_of_head(model):
    """The weights of the head, as a share of those of a layer."""
    layer = sum(p.numel() for p in model.blocks[0].parameters() if p.dim() == 2)
    return model.emb.weight.numel() / layer


def judge(states, score, threshold, gates, head_at_gate):
    """(share of layers saved, the same with the heads of the gates taken off, increase of the loss)."""
    layers = states.loss.shape[1]
    exits = leaves_after(score, threshold, gates, layers)
    looks = sum((exits >= g).float().mean().item() for g in gates)
    useful = (exits < layers - 1).float().mean().item()      # the head of the gate that opens is the one that is needed anyway
    saved = 1 - (exits + 1).float().mean().item() / layers
    return saved, saved - (looks - useful) * head_at_gate / layers, increase(states, exits)


# ------------------------------------------------------------------------------------- the fitting

class Aim:
    """Depth at a limit of loss, differentiable. The price is what a whole pass may cost: it follows the loss."""

    def __init__(self, limit):
        self.limit, self.log_price = limit, math.log(10 * limit)       # nats

    def __call__(self, z, share, far):
        """Expected depth plus expected loss over the price, of tokens that leave with the probabilities of z [tokens, gates]."""
        stays = torch.cumprod(torch.sigmoid(-z), 1)
        leaves = torch.cat((torch.ones(len(z), 1), stays[:, :-1]), 1) - stays
        depth = (leaves * share).sum(1).mean() + stays[:, -1].mean()
        cost = (leaves * far).sum(1).mean()
        self.log_price += 0.05 * min(1.0, max(-1.0, 1 - cost.item() / self.limit))      # too much loss makes depth cheap
        return depth + cost / math.exp(self.log_price)


def fit(states, gates, limit, steps):
    """(weight [layers, dim], bias [layers]), not settled yet; layers without a gate never leave."""
    n, layers, dim = len(states.loss), states.loss.shape[1], states.normed.shape[2]
    weight = torch.zeros(len(gates), dim, requires_grad=True)
    bias = torch.full((len(gates),), -2.0, requires_grad=True)
    share = (torch.tensor(gates) + 1.0) / layers    # of the depth that lies behind each gate
    bold, cautious = Aim(limit * states.full()), Aim(limit * states.full() / 4)
    adam = torch.optim.Adam([weight, bias], betas=(0.9, 0.98))
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = 0.05 * (1 + math.cos(math.pi * step / steps))
        begin = step * BATCH % max(1, n - BATCH + 1)
        normed, far = (x[begin:begin + BATCH, gates] for x in (states.normed, states.far))
        z = torch.einsum("ngd,gd->ng", normed.float(), weight) + bias
        adam.zero_grad()
        (bold(z, share, far) + 0.5 * cautious(z - APART, share, far)).backward()
        adam.step()
    all_weight, all_bias = torch.zeros(layers, dim), torch.full((layers,), NEVER)
    all_weight[gates], all_bias[gates] = weight.detach(), bias.detach()
    return all_weight, all_bias


def scores(states, weight, bias):
    """What the probes say, [N, L-1], before the logistic function."""
    part = [torch.einsum("ngd,gd->ng", x.float(), weight[:-1]) for x in states.normed.split(BATCH)]
    return torch.cat(part) + bias[:-1]


def settle(states, gates, limit, weight, bias):
    """Shift and scale all probes alike: 0.5 is the limit, CAUTIOUS a quarter of it."""
    z = scores(states, weight, bias)
    half = boldest(states, z, gates, limit)
    if not math.isfinite(half):
        raise decoder.Problem("no exit costs as little as that: raise --limit")
    spread = boldest(states, z, gates, limit / 4) - half
    scale = math.log(CAUTIOUS / (1 - CAUTIOUS)) / spread if 0 < spread < math.inf else 1.0
    weight, bias = weight * scale, bias.clone()
    bias[gates] = (bias[gates] - half) * scale
    return weight, bias


# ------------------------------------------------------------------------------------------ report

def gate_sets(gates, layers):
    """All, every second of them, and as ltx-profile has it where a look costs a head: few and late."""
    late = [g for g in gates if g >= layers * 2 // 3 - 1][::max(1, layers // 6)]
    return (("all", gates), ("second", gates[1::2] or gates), ("late", late or gates[-1:]))


def report(model, fitted, held_out, weight, bias, gates, limit):
    """Lines of a table: thresholds chosen on the fitting text, judged on the held-out one."""
    layers, head = model.shape.layers, layers_of_head(model)
    rules = (("prob", fitted.prob, held_out.prob, head, lambda x: x),
             ("entropy", -fitted.entropy, -held_out.entropy, head, lambda x: -x),
             ("probe", scores(fitted, weight, bias), scores(held_out, weight, bias), 0.0,
              lambda x: 1 / (1 + math.exp(-x))))
    yield f"a head has the weights of {head:.2f} layers; loss of the held-out text at full depth {held_out.full():.4f} nats"
    yield "limit %  gates   rule     threshold  layers saved  heads taken off  loss %"
    for part in (0.5, 1.0, 2.0):
        for kind, some in gate_sets(gates, layers):
            for name, known, new, pays, show in rules:
                threshold = boldest(fitted, known, some, part * limit)
                if not math.isfinite(threshold):
                    continue
                saved, net, more = judge(held_out, new, threshold, some, pays)
                yield (f"{100 * part * limit:7.2f}  {kind:7s} {name:8s} {show(threshold):9.4f} "
                       f"{saved:13.3f} {net:16.3f} {100 * more:+7.2f}")
    exits = leaves_after(scores(held_out, weight, bias), 0, gates, layers)
    yield "probe at threshold 0.5, share of tokens that leave after each layer:"
    yield " ".join(f"{x:.3f}" for x in (torch.bincount(exits, minlength=layers) / len(exits)).tolist())


# ----------------------------------------------------------------------------------------- options

def parse_gates(option, layers):
    first, _, every = option.partition(":")
    try:
        gates = list(range(int(first), layers - 1, int(every or 1)))
    except ValueError:
        gates = []
    if not gates or gates[0] < 0:
        raise decoder.Problem(f"--gates wants FIRST:EVERY with FIRST from 0 to {layers - 2}, not {option}")
    return gates


def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="model.safetensors as train.py writes it")
    p.add_argument("text", help="text to fit the probes on; the training text will do")
    p.add_argument("--valid", metavar="FILE", help="text to judge them on (default: the last fifth of TEXT, which is then "
                   "not fitted on)")
    p.add_argument("--out", metavar="FILE", help="the model with its probes, everything else byte for byte; may be "
                   "MODEL itself. Without it nothing is written")
    p.add_argument("--limit", type=float, default=1.0, metavar="P", help="percent of loss that threshold 0.5 may cost (default 1). "
                   "A vector is best at the limit it was fitted for")
    p.add_argument("--gates", default="0:1", metavar="FIRST:EVERY", help="gates after layer FIRST (from 0) and every EVERY further, "
                   "as in generate (default 0:1, all). The other layers get probes that never say yes")
    p.add_argument("--windows", type=int, default=256, metavar="N", help="windows of the model's context to fit on, taken evenly out "
                   "of the text; half as many judge (default 256)")
    p.add_argument("--steps", type=int, default=600, metavar="N", help=f"steps of Adam, {BATCH} tokens each (default 600)")
    p.add_argument("--tokenizer", metavar="FILE", help="SentencePiece model (default: tok.model beside the checkpoint)")
    p.add_argument("--separator", default="\\n\\n", metavar="S", help=r"what stands between documents (default: a blank line); "
                   "'none' = a file is one document")
    p.add_argument("--seed", type=int, default=1, metavar="N", help="order of the tokens")
    p.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default 1)")
    opt = p.parse_args(argv)
    if opt.windows < 2 or opt.steps < 1 or not 0 < opt.limit <= 100:
        p.error("--windows wants 2 or more, --steps 1 or more, --limit a number above 0 and up to 100")
    return opt


def main(argv):
    opt = parse(argv)
    torch.set_num_threads(opt.threads)
    torch.manual_seed(opt.seed)
    model, tokenizer = decoder.load_model(opt.model, opt.tokenizer)
    gates, limit = parse_gates(opt.gates, model.shape.layers), opt.limit / 100
    tokens, judged = (decoder.tokenise(decoder.read_text(path, tokenizer.kind), tokenizer, evaluate.separator_bytes(opt.separator))
                      if path else None for path in (opt.text, opt.valid))
    if judged is None:
        tokens, judged = np.split(tokens, [len(tokens) * 4 // 5])
    fitted, held_out = collect(model, tokens, opt.windows), collect(model, judged, opt.windows // 2)
    print(f"fitted on {len(fitted.loss)} tokens of {opt.text}, judged on {len(held_out.loss)} of {opt.valid or opt.text}", flush=True)
    weight, bias = settle(fitted, gates, limit, *fit(fitted, gates, limit, opt.steps))
    print("\n".join(report(model, fitted, held_out, weight, bias, gates, limit)))
    if opt.out:
        decoder.save_probes(opt.model, opt.out, weight, bias)
        print(f"wrote {opt.out}; generate --exit probe:0.5 after ltx-convert")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except decoder.Problem as problem:
        sys.exit(f"probes.py: {problem}")
