#!/usr/bin/python3
"""Check that the recipe works on this machine: no data needed, well under a minute.

Trains toy models on text it makes up, and tests what later tools rely on: the file and its
metadata, exits that mean what they say, resuming without a trace, refusals with a reason.
"""
import contextlib
import io
import json
import math
import os
import sys
import tempfile

import numpy as np
import torch

import decoder
import evaluate
import train


def made_up_text(documents=400, seed=7):
    rng = np.random.default_rng(seed)
    who, did, what = ("Anna", "the fox", "a robot", "Zoë"), ("saw", "drew", "found", "lost"), ("a leaf", "two stones", "the  moon")
    sentence = lambda: f"{rng.choice(who)} {rng.choice(did)} {rng.choice(what)}."
    return "\n\n".join("\n".join(sentence() for _ in range(rng.integers(3, 9))) for _ in range(documents))


def run_train(*argv):
    with contextlib.redirect_stdout(io.StringIO()):
        train.main([str(a) for a in argv])


def check_training(text, out, *options):
    """A short run learns, and what it writes measures the same when read back."""
    run_train(text, "--out", out, "--preset", "tiny", "--steps", 120, "--threads", 1, *options)
    with open(os.path.join(out, "result.json"), encoding="utf-8") as f:
        result = json.load(f)
    model, tokenizer = decoder.load_model(os.path.join(out, "model.safetensors"))
    raw = decoder.read_text(text, tokenizer.kind)
    tokens = decoder.tokenise(raw, tokenizer, b"\n\n")
    shares = np.bincount(tokens) / len(tokens)
    guess = -sum(s * math.log(s) for s in shares if s)
    assert result["valid_ce"][-1] < 0.8 * guess, (result["valid_ce"], guess)
    held_out = tokens[-max(len(tokens) // 50, model.shape.seq + 1):]
    loss, agree, _ = evaluate.measure(model, held_out, 60)
    assert np.allclose(loss, result["valid_ce"], atol=1e-4), (loss, result["valid_ce"])
    assert agree[-1] == 1 and (0 <= agree).all()
    return model, tokenizer


def check_file(path):
    meta, tensors = decoder._read_safetensors(path)
    assert {"dim", "n_layers", "n_heads", "n_kv_heads", "ffn", "vocab", "seq", "rope_theta", "rope_pairs", "norm_eps",
            "tied", "tokenizer", "bos"} == set(meta), meta
    layers = int(meta["n_layers"])
    block = ["n1.w", "n2.w"] + [w + ".weight" for w in ("wq", "wk", "wv", "wo", "w1", "w2", "w3")]
    names = {f"model.blocks.{l}.{name}" for l in range(layers) for name in block}
    assert names | {"model.emb.weight", "model.norm.w"} == set(tensors), sorted(tensors)


def check_exits(model):
    """The state after layer l is what a model of l + 1 layers would end with."""
    ids = torch.arange(20)[None]
    with torch.no_grad():
        _, states = model(ids, exits=range(model.shape.layers))
        for l in range(model.shape.layers):
            alone, _ = model(ids, keep=[k <= l for k in range(model.shape.layers)])
            assert torch.equal(alone, states[l]), l


def check_recipe_numbers():
    chances, rotation = train.dropout_chances(12, 0.1), 4
    assert chances[0] == 0 and abs(chances[-1] - 0.1) < 1e-12 and chances == sorted(chances)
    turns = [train.exits_of_step(12, rotation, step) for step in range(rotation)]
    assert sorted(l for turn in turns for l in turn) == list(range(11)), turns   # each exit once a round
    assert train.exit_weights(4, 2).tolist() == [1, 3, 6, 10] and train.exit_weights(4, 0).tolist() == [1] * 4


def check_resume(folder):
    """Ten steps, a stop, ten more: bit for bit the weights of twenty."""
    opt = train.parse(["-", "--out", folder, "--preset", "tiny", "--steps", "20"])
    shape = decoder.Shape(64, 4, 4, 2, 160, 260, 128, "bytes", 256)
    tokens = np.random.default_rng(3).integers(0, 256, 5000).astype(np.uint16)
    straight, first = train.Run(opt, shape), train.Run(opt, shape)
    for _ in range(20):
        straight.advance(tokens)
    for _ in range(10):
        first.advance(tokens)
    first.save()
    second = train.Run(opt, shape)
    second.restore()
    for _ in range(10):
        second.advance(tokens)
    for a, b in zip(straight.model.parameters(), second.model.parameters()):
        assert torch.equal(a, b)


def check_pieces(folder, text):
    """Any text comes back from the pieces as it went in, blanks, line ends and all."""
    path = os.path.join(folder, "tok.model")
    decoder.train_pieces([text.encode()], 330, path, seed=1)
    tokenizer = decoder.PieceTokenizer(path)
    for sample in ("Zoë  saw\n  a leaf.", "never seen: ß 語 \t 12"):
        ids = tokenizer.encode(sample.encode()).tolist()
        assert tokenizer.decode(ids) == sample, (sample, tokenizer.decode(ids))


def check_refusals(text, folder):
    short = os.path.join(folder, "short.txt")
    with open(short, "w", encoding="utf-8") as f:
        f.write("Too short.")
    cases = [(["nowhere.txt"], "no file"), ([short], "tokens to train on"), ([text, "--dim", 100, "--heads", 3], "multiple"),
             ([text, "--kv-heads", 3], "share"), ([text, "--dim", 12, "--heads", 4], "even"), ([text, "--lr", 0], "--lr"),
             ([text, "--layer-dropout", 1], "--layer-dropout"), ([text, "--resume"], "nothing to resume"),
             ([text, "--valid", short], "shorter than one window"), ([text, "--rotation", 0], "--rotation")]
    for argv, reason in cases:
        try:
            run_train(*argv, "--out", os.path.join(folder, "refused"), "--preset", "tiny", "--steps", 1)
        except decoder.Problem as problem:
            assert reason in str(problem), (argv, problem)
        else:
            raise AssertionError(f"accepted: {argv}")


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text.txt")
        with open(text, "w", encoding="utf-8") as f:
            f.write(made_up_text())
        check_recipe_numbers()
        check_resume(folder)
        check_refusals(text, folder)
        model, _ = check_training(text, os.path.join(folder, "bytes"))
        check_file(os.path.join(folder, "bytes", "model.safetensors"))
        check_exits(model)
        print("bytes: trained, read back, cut short, resumed, refused: as it should be")
        try:
            import sentencepiece  # noqa: F401
        except ImportError:
            print("spm: SentencePiece is not installed, not checked")
            return
        check_pieces(folder, made_up_text())
        check_training(text, os.path.join(folder, "spm"), "--tokenizer", "spm", "--vocab", 320)
        print("spm: trained, read back, text kept to the letter: as it should be")


if __name__ == "__main__":
    sys.exit(main())
