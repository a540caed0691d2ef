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
import probes
import train


def made_up_text(documents=400, seed=7):
    rng = np.random.default_rng(seed)
    who, did, what = ("Anna", "the fox", "a robot", "Zoë"), ("saw", "drew", "found", "lost"), ("a leaf", "two stones", "the  moon")
    sentence = lambda: f"{rng.choice(who)} {rng.choice(did)} {rng.choice(what)}."
    return "\n\n".join("\n".join(sentence() for _ in range(rng.integers(3, 9))) for _ in range(documents))


def run(program, *argv):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        program.main([str(a) for a in argv])
    return said.getvalue()


def check_training(text, out, *options):
    """A short run learns, and what it writes measures the same when read back."""
    run(train, text, "--out", out, "--preset", "tiny", "--steps", 120, "--threads", 1, *options)
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


def data_of(path):
    """The part of a safetensors file that holds the numbers."""
    with open(path, "rb") as f:
        raw = f.read()
    return raw[8 + int.from_bytes(raw[:8], "little"):]


def check_probes(path, text, out):
    """Probes leave where they say at the loss they may cost, and change nothing else in the file."""
    options = ("--limit", 20, "--gates", "0:2", "--windows", 40, "--steps", 150)
    said = run(probes, path, text, *options, "--out", out)
    meta, before = decoder._read_safetensors(path)
    after_meta, after = decoder._read_safetensors(out)
    weight, bias = after.pop("model.probes.weight"), after.pop("model.probes.bias")
    assert meta == after_meta and list(before) == list(after) and data_of(out).startswith(data_of(path))
    assert weight.shape == (4, 64) and (bias[[1, 3]] < -20).all() and not weight[[1, 3]].any(), bias
    first = data_of(out)
    assert run(probes, out, text, *options, "--out", out) == said and data_of(out) == first   # again, over themselves

    model, tokenizer = decoder.load_model(out)
    tokens = decoder.tokenise(decoder.read_text(text, tokenizer.kind), tokenizer, b"\n\n")
    torch.manual_seed(1)
    states = probes.collect(model, tokens[:len(tokens) * 4 // 5], 40)
    states.normed = states.normed.float()
    saved = []
    for threshold, limit in ((0.5, 0.2), (0.9, 0.05)):      # token by token, from the formula of ltx.h
        loss = depth = 0.0
        for n, x in enumerate(states.normed):
            says = [1 / (1 + math.exp(-(weight[l] @ x[l] + bias[l]).item())) for l in range(3)]
            l = next((l for l in range(3) if says[l] >= threshold - 1e-6), 3)
            loss, depth = loss + states.loss[n, l].item(), depth + l + 1
        more = loss / states.loss[:, 3].sum().item() - 1
        assert limit * 0.9 < more < limit * 1.01, (threshold, more)
        saved.append(1 - depth / len(states.loss) / 4)
    assert saved[0] > saved[1] > 0.02, saved


def check_rules():
    """Where a rule leaves and what that costs, on six tokens by hand."""
    states = probes.States(None, torch.tensor([[4.0, 2, 1]] * 2 + [[1.0, 1, 1]] * 4), *[torch.zeros(6, 3)] * 3)
    score = torch.tensor([[0.1, 0.9, 9], [0.2, 0.3, 9], [0.5, 0.2, 9], [0.6, 0.9, 9], [0.7, 0.1, 9], [0.95, 0.1, 9]])
    leave = lambda threshold, gates: probes.leaves_after(score, threshold, gates, 3).tolist()
    assert leave(0.5, [0, 1]) == [1, 2, 0, 0, 0, 0] and leave(0.5, [1]) == [1, 2, 2, 1, 2, 2] and leave(2, [0]) == [2] * 6
    assert probes.boldest(states, score, [0, 1], 0) == score[5, 0]      # at 0.9 the first token would leave, for a sixth more loss
    assert probes.boldest(states, score, [0, 1], 0.17) == 0.5           # which may be; at 0.3 the second would as well
    saved, net, more = probes.judge(states, score, 0.5, [0, 1], 0.3)
    # 2 + 3 + 4 * 1 of 18 steps ran; eight looks, three more than the five exits
    assert abs(saved - 9 / 18) < 1e-6 and abs(net - (9 - 3 * 0.3) / 18) < 1e-6 and abs(more - 1 / 6) < 1e-6, (saved, net, more)


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


def check_growth():
    """New layers change nothing before they are trained, and are."""
    model = decoder.Decoder(decoder.Shape(64, 2, 4, 2, 160, 260, 128, "bytes", 256))
    larger = train.grown(model, 3)
    ids = torch.arange(40).reshape(2, 20)
    assert larger.shape.layers == 5 and torch.equal(larger(ids)[0], model(ids)[0])
    larger(ids)[0].square().mean().backward()
    assert all(block.wo.weight.grad.abs().max() > 0 and block.w2.weight.grad.abs().max() > 0 for block in larger.blocks)


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
             ([text, "--grow", 2], "--init"), ([text, "--valid", short], "shorter than one window"), ([text, "--rotation", 0], "--rotation")]
    for argv, reason in cases:
        try:
            run(train, *argv, "--out", os.path.join(folder, "refused"), "--preset", "tiny", "--steps", 1)
        except decoder.Problem as problem:
            assert reason in str(problem), (argv, problem)
        else:
            raise AssertionError(f"accepted: {argv}")


def check_probe_refusals(model, text):
    for options, reason in ((("--gates", "3"), "--gates"), (("--gates", "0:0"), "--gates"), (("--gates", "x"), "--gates"),
                            (("--gates", "-1"), "--gates"), (("--valid", "nowhere.txt"), "cannot read")):
        try:
            run(probes, model, text, *(f"{name}={value}" for name, value in zip(options[::2], options[1::2])))
        except decoder.Problem as problem:
            assert reason in str(problem), (options, problem)
        else:
            raise AssertionError(f"accepted: {options}")


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text.txt")
        with open(text, "w", encoding="utf-8") as f:
            f.write(made_up_text())
        check_recipe_numbers()
        check_growth()
        check_resume(folder)
        check_refusals(text, folder)
        model, _ = check_training(text, os.path.join(folder, "bytes"))
        check_file(os.path.join(folder, "bytes", "model.safetensors"))
        check_exits(model)
        check_rules()
        path = os.path.join(folder, "bytes", "model.safetensors")
        check_probes(path, text, os.path.join(folder, "probes.safetensors"))
        check_probe_refusals(path, text)
        print("bytes: trained, read back, cut short, resumed, probed, refused: as it should be")
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
