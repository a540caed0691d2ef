#!/usr/bin/python3
"""Measure every exit of a checkpoint: its loss, and how often it already agrees with the last layer.

The text is tokenised as in training and cut into consecutive windows of the model's context length;
each window starts from nothing. All layers run, and the shared head reads the state after each.
Agreement is the share of positions where an exit's first choice is the last layer's first choice:
it is what a draft made by that exit can hope to have accepted.
"""
import argparse
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

import decoder


@torch.no_grad()
def measure(model, tokens, windows):
    """(loss, agreement, windows used): two arrays with one number for each layer."""
    seq, layers = model.shape.seq, model.shape.layers
    windows = min(windows, (len(tokens) - 1) // seq)
    if windows < 1:
        raise decoder.Problem(f"text of {len(tokens)} tokens is shorter than one window of {seq}")
    loss, agree, was_training = np.zeros(layers), np.zeros(layers), model.training
    model.eval()
    for w in range(windows):
        piece = torch.from_numpy(tokens[w * seq:(w + 1) * seq + 1].astype(np.int64))
        last, states = model(piece[None, :-1], exits=range(layers))
        choice = model.logits(last)[0].argmax(-1)
        for layer in range(layers):
            logits = model.logits(states[layer])[0]
            loss[layer] += F.cross_entropy(logits, piece[1:]).item()
            agree[layer] += (logits.argmax(-1) == choice).float().mean().item()
    model.train(was_training)
    return loss / windows, agree / windows, windows


def table(loss, agree, bytes_per_token):
    """The exits as lines of text. Bits per byte compare models whatever their vocabulary."""
    yield "exit after   loss  bits/byte  agreement"
    for layer, (ce, same) in enumerate(zip(loss, agree), 1):
        yield f"{layer:10d} {ce:6.3f} {ce / math.log(2) / bytes_per_token:10.3f} {same:10.3f}"


@torch.no_grad()
def continue_greedily(model, tokenizer, prompt, count, depth):
    """Greedy text from an exit, without a cache: slow, but nothing can be wrong with it."""
    ids = [tokenizer.bos, *map(int, tokenizer.encode(prompt.encode()))]
    for _ in range(count):
        window = torch.tensor([ids[-model.shape.seq:]])
        _, states = model(window, exits={depth - 1}, keep=[l < depth for l in range(model.shape.layers)])
        ids.append(int(model.logits(states[depth - 1][:, -1]).argmax(-1)))
        if ids[-1] == tokenizer.bos:        # a new document begins: this one is finished
            break
    return tokenizer.decode(ids)


def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="model.safetensors as train.py writes it")
    p.add_argument("text", nargs="?", help="held-out text; may be left out with --prompt")
    p.add_argument("--tokenizer", metavar="FILE", help="SentencePiece model (default: tok.model beside the "
                   "checkpoint; byte-level checkpoints need none)")
    p.add_argument("--windows", type=int, default=60, metavar="N", help="windows to measure (default 60)")
    p.add_argument("--separator", default="\\n\\n", metavar="S",
                   help=r"what stands between documents, with \n and \t as escapes (default: a blank line); "
                   "'none' = the file is one document")
    p.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: all)")
    p.add_argument("--prompt", metavar="S", help="also continue this text greedily")
    p.add_argument("--tokens", type=int, default=100, metavar="N", help="length of that continuation (default 100)")
    p.add_argument("--depth", type=int, default=0, metavar="L",
                   help="layers to run for it (default: all): read what an early exit alone would write")
    opt = p.parse_args(argv)
    if opt.text is None and opt.prompt is None:
        p.error("give a text to measure, or --prompt")
    return opt


def separator_bytes(option):
    r"""The --separator option as bytes: escapes \n, \r, \t understood, b'' for 'none'."""
    if option == "none":
        return b""
    for escape, character in (("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t")):
        option = option.replace(escape, character)
    return option.encode()


def main(argv):
    opt = parse(argv)
    torch.set_num_threads(opt.threads or os.cpu_count() or 1)     # torch itself may start with one
    model, tokenizer = decoder.load_model(opt.model, opt.tokenizer)
    if opt.text is not None:
        raw = decoder.read_text(opt.text, tokenizer.kind)
        tokens = decoder.tokenise(raw, tokenizer, separator_bytes(opt.separator))
        loss, agree, windows = measure(model, tokens, opt.windows)
        print(f"{opt.text}: {len(tokens)} tokens, {len(raw) / max(1, len(tokens)):.2f} bytes each, "
              f"first {windows} windows of {model.shape.seq}")
        print("\n".join(table(loss, agree, len(raw) / len(tokens))))
    if opt.prompt is not None:
        depth = opt.depth or model.shape.layers
        if not 1 <= depth <= model.shape.layers:
            raise decoder.Problem(f"--depth must be 1 to {model.shape.layers}")
        print(continue_greedily(model, tokenizer, opt.prompt, opt.tokens, depth))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except decoder.Problem as problem:
        sys.exit(f"evaluate.py: {problem}")
