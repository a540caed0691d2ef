"""The decoder that train.py trains and evaluate.py measures, its tokenisers and its file format.

Nothing here knows about layer dropout or exit losses: a model that can be cut short has the same
shape as one that cannot. The only concession is `Decoder.forward`, which may leave layers out and
can hand back the hidden state after any layer; `Decoder.logits` turns such a state into a guess.
"""
import dataclasses
import io
import json
import math
import os
import struct

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

NORM_EPS = 1e-5
ROPE_THETA = 10000.0
BYTE_VOCAB, BYTE_BOS = 260, 256     # 256 byte values, the start mark, three unused rows
PROBES = "model.probes."            # what probes.py adds to a file; the decoder does without


class Problem(Exception):
    """Something the user can put right; the message says what."""


# ------------------------------------------------------------------------------------- the shape

@dataclasses.dataclass(frozen=True)
class Shape:
    """Every number that fixes the size of the weights or the meaning of a token."""
    dim: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    seq: int
    tokenizer: str      # "bytes" or "spm"
    bos: int            # id put before every document

    @property
    def head_dim(self):
        return self.dim // self.heads

    def check(self):
        """Raise Problem for sizes that cannot work."""
        for field in ("dim", "layers", "heads", "kv_heads", "ffn", "vocab"):
            if getattr(self, field) < 1:
                raise Problem(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.seq < 4:
            raise Problem(f"seq must be at least 4 tokens, not {self.seq}")
        if self.dim % self.heads:
            raise Problem(f"dim {self.dim} is not a multiple of {self.heads} heads")
        if self.head_dim % 2:
            raise Problem(f"dim / heads = {self.head_dim} must be even: rotary positions turn pairs")
        if self.heads % self.kv_heads:
            raise Problem(f"{self.heads} heads cannot share {self.kv_heads} key/value heads evenly")
        if self.vocab > 65536:
            raise Problem(f"vocab {self.vocab} is above 65536: tokens are kept as 16 bits")
        if not 0 <= self.bos < self.vocab:
            raise Problem(f"start mark {self.bos} is outside the vocabulary of {self.vocab}")


# ------------------------------------------------------------------------------------- the model

class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.w = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        # The mean of squares is taken in float32: in bf16 it would keep only three digits.
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + NORM_EPS)
        return x * (scale.to(x.dtype) * self.w.to(x.dtype))


def rotate(x, cos, sin):
    """Rotary positions on interleaved pairs (2i, 2i+1) of x [batch, heads, time, head_dim]."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


def plain_linear(n_in, n_out):
    return nn.Linear(n_in, n_out, bias=False)


class Block(nn.Module):
    """One layer; its parameters carry the names they have in the file."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        dim, head = shape.dim, shape.head_dim
        self.n1, self.n2 = RMSNorm(dim), RMSNorm(dim)
        self.wq = plain_linear(dim, shape.heads * head)
        self.wk = plain_linear(dim, shape.kv_heads * head)
        self.wv = plain_linear(dim, shape.kv_heads * head)
        self.wo = plain_linear(shape.heads * head, dim)
        self.w1, self.w3 = plain_linear(dim, shape.ffn), plain_linear(dim, shape.ffn)
        self.w2 = plain_linear(shape.ffn, dim)

    def attention(self, h, cos, sin, mask):
        s, (batch, time, _) = self.shape, h.shape
        # One large product is faster on a CPU than three; joining the weights costs next to nothing.
        joined = torch.cat((self.wq.weight, self.wk.weight, self.wv.weight))
        y = F.linear(h, joined).view(batch, time, -1, s.head_dim).transpose(1, 2)
        turned = rotate(y[:, :s.heads + s.kv_heads], cos, sin)
        q, k, v = turned[:, :s.heads], turned[:, s.heads:], y[:, s.heads + s.kv_heads:]
        if s.kv_heads != s.heads:
            k = k.repeat_interleave(s.heads // s.kv_heads, 1)
            v = v.repeat_interleave(s.heads // s.kv_heads, 1)
        score = (q * s.head_dim ** -0.5) @ k.transpose(-1, -2) + mask
        mixed = score.softmax(-1).to(v.dtype) @ v
        return self.wo(mixed.transpose(1, 2).flatten(2))

    def feed_forward(self, h):
        gate, up = F.linear(h, torch.cat((self.w1.weight, self.w3.weight))).chunk(2, -1)
        return self.w2(F.silu(gate) * up)

    def forward(self, x, cos, sin, mask):
        x = x + self.attention(self.n1(x), cos, sin, mask)
        return x + self.feed_forward(self.n2(x))


class Decoder(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.emb = nn.Embedding(shape.vocab, shape.dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.dim)
        self._tables(shape)
        self._init_weights()

    def _tables(self, shape):
        freq = ROPE_THETA ** (-torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
        angle = torch.outer(torch.arange(shape.seq).float(), freq)
        mask = torch.full((shape.seq, shape.seq), -math.inf).triu(1)
        for name, table in (("cos", angle.cos()), ("sin", angle.sin()), ("mask", mask)):
            self.register_buffer(name, table, persistent=False)     # not weights: kept out of files

    def _init_weights(self):
        # What each layer adds to the residual stream starts small, so that a deep stack begins
        # close to the identity and an early exit is not lost before training starts.
        for name, p in self.named_parameters():
            if p.dim() == 2:
                writes = name.endswith(("wo.weight", "w2.weight"))
                nn.init.normal_(p, 0, 0.02 / math.sqrt(2 * self.shape.layers) if writes else 0.02)

    def forward(self, ids, keep=None, exits=(), dtype=torch.float32):
        """Hidden state after the last layer, and {layer: state} for the layers in `exits`.

        keep[l] false leaves layer l out: the residual stream passes it untouched.
        """
        time = ids.shape[1]
        tables = [t.to(dtype) for t in (self.cos[:time], self.sin[:time], self.mask[:time, :time])]
        x, states = self.emb(ids).to(dtype), {}
        for layer, block in enumerate(self.blocks):
            if keep is None or keep[layer]:
                x = block(x, *tables)
            if layer in exits:
                states[layer] = x
        return x, states

    def logits(self, hidden):
        """The one head that all exits share: final norm, then the embedding matrix again."""
        return F.linear(self.norm(hidden), self.emb.weight)


# -------------------------------------------------------------------------------- the tokenisers

class ByteTokenizer:
    kind, vocab, bos = "bytes", BYTE_VOCAB, BYTE_BOS

    def encode(self, raw):
        return np.frombuffer(raw, dtype=np.uint8).astype(np.uint16)

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode("utf-8", "replace")


class PieceTokenizer:
    """SentencePiece; any model with a start mark will do."""
    kind = "spm"

    def __init__(self, path):
        import sentencepiece        # only here: byte-level models do not need it installed
        if not os.path.isfile(path):
            raise Problem(f"no tokeniser model at {path}")
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=path)
        self.vocab, self.bos = self.pieces.vocab_size(), self.pieces.bos_id()
        if self.bos < 0:
            raise Problem(f"{path} has no start mark (bos)")

    def encode(self, raw):
        return np.array(self.pieces.encode(raw.decode("utf-8")), dtype=np.uint16)

    def decode(self, ids):
        return self.pieces.decode([i for i in ids if i != self.bos])


def train_pieces(texts, vocab, path, seed, most_lines=200_000, line_chars=4000):
    """Learn a BPE vocabulary with byte fallback from the texts (bytes) and write it to path."""
    import sentencepiece
    lines = [line[i:i + line_chars] for text in texts for line in text.decode("utf-8").split("\n")
             for i in range(0, len(line), line_chars)]
    if len(lines) > most_lines:     # our own draw: SentencePiece's shuffle differs at every run
        lines = [lines[i] for i in np.random.default_rng(seed).permutation(len(lines))[:most_lines]]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, vocab_size=vocab, model_type="bpe",
            byte_fallback=True, character_coverage=1.0, split_digits=True,
            # Text comes back as it went in: no Unicode folding, no squeezing of blanks.
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True, max_sentence_length=8 * line_chars,
            unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2)
    except RuntimeError as error:
        reason = str(error).rsplit("]", 1)[-1].strip()      # without the place in its source
        raise Problem(f"SentencePiece cannot learn --vocab {vocab} pieces from this text: {reason}") from None
    with open(path, "wb") as f:
        f.write(model.getvalue())


def read_text(path, tokenizer_kind):
    """The file as bytes with Unix line ends."""
    try:
        with open(path, "rb") as f:
            raw = f.read().replace(b"\r\n", b"\n")
    except OSError as error:
        raise Problem(f"cannot read {path}: {error.strerror}") from None
    if tokenizer_kind == "spm":
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Problem(f"{path} is not UTF-8 (byte {error.start}): convert it, "
                          "or train on bytes, which take any file") from None
    return raw


def tokenise(raw, tokenizer, separator):
    """One uint16 stream: the start mark, then a document, over and over."""
    documents = [raw] if not separator else [d.strip() for d in raw.split(separator)]
    stream = []
    for document in documents:
        if document:
            stream += [np.array([tokenizer.bos], dtype=np.uint16), tokenizer.encode(document)]
    return np.concatenate(stream) if stream else np.zeros(0, dtype=np.uint16)


# -------------------------------------------------------------- the file: safetensors, by hand
# Eight bytes of header length, a JSON header, raw little-endian float32. Thirty lines replace a
# dependency that Debian 12 does not package.

def save_model(path, model):
    s = model.shape
    header = {"__metadata__": {
        "dim": str(s.dim), "n_layers": str(s.layers), "n_heads": str(s.heads),
        "n_kv_heads": str(s.kv_heads), "ffn": str(s.ffn), "vocab": str(s.vocab), "seq": str(s.seq),
        "rope_theta": "10000", "rope_pairs": "interleaved", "norm_eps": "1e-5", "tied": "1",
        "tokenizer": s.tokenizer, "bos": str(s.bos)}}
    blobs, offset = [], 0
    for name, p in model.state_dict().items():
        blob = p.detach().float().numpy().astype("<f4").tobytes()
        header["model." + name] = {"dtype": "F32", "shape": list(p.shape),
                                   "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    _write_safetensors(path, header, blobs)


def _write_safetensors(path, header, blobs):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.writelines(blobs)
    os.replace(path + ".part", path)    # a reader never sees half a file


def save_probes(path, out, weight, bias):
    """Copy a model's file with these probes instead of those it has; every other byte of data stays."""
    with open(path, "rb") as f:
        raw = f.read()
    size = struct.unpack_from("<Q", raw)[0]
    old = json.loads(raw[8:8 + size])
    header, blobs, offset = {"__metadata__": old.pop("__metadata__", {})}, [], 0
    for name, entry in sorted(old.items(), key=lambda item: item[1]["data_offsets"]):
        if not name.startswith(PROBES):
            begin, end = entry["data_offsets"]
            blobs.append(raw[8 + size + begin:8 + size + end])
            header[name] = {**entry, "data_offsets": [offset, offset := offset + end - begin]}
    for name, tensor in (("weight", weight), ("bias", bias)):
        blobs.append(tensor.numpy().astype("<f4").tobytes())
        header[PROBES + name] = {"dtype": "F32", "shape": list(tensor.shape),
                                 "data_offsets": [offset, offset := offset + len(blobs[-1])]}
    _write_safetensors(out, header, blobs)


def _read_safetensors(path):
    """(metadata, {name: tensor}) of a float32 safetensors file."""
    try:
        with open(path, "rb") as f:
            raw = f.read()
        size = struct.unpack_from("<Q", raw)[0]
        header = json.loads(raw[8:8 + size])
        meta, tensors = header.pop("__metadata__", {}), {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if entry["dtype"] != "F32":
                raise Problem(f"{path}: {name} is {entry['dtype']}, only F32 is read here")
            array = np.frombuffer(raw[8 + size + begin:8 + size + end], dtype="<f4")
            tensors[name] = torch.from_numpy(array.reshape(entry["shape"]).astype(np.float32))
    except OSError as error:
        raise Problem(f"cannot read {path}: {error.strerror}") from None
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise Problem(f"{path} is not a safetensors file: {error}") from None
    return meta, tensors


def load_model(path, tokenizer_path=None):
    """(model, tokenizer) of a file written by save_model.

    Without a path the tokeniser is tok.model next to the file. Files older than the "tokenizer"
    metadata count as byte-level when they have neither.
    """
    meta, tensors = _read_safetensors(path)
    beside = tokenizer_path or os.path.join(os.path.dirname(path), "tok.model")
    kind = meta.get("tokenizer", "spm" if os.path.isfile(beside) else "bytes")
    tokenizer = PieceTokenizer(beside) if kind == "spm" else ByteTokenizer()
    keys = {"dim": "dim", "layers": "n_layers", "heads": "n_heads", "kv_heads": "n_kv_heads",
            "ffn": "ffn", "vocab": "vocab", "seq": "seq"}
    try:
        sizes = {field: int(meta[key]) for field, key in keys.items()}
    except (KeyError, ValueError) as error:
        raise Problem(f"{path}: metadata lacks a usable {error}") from None
    shape = Shape(tokenizer=kind, bos=int(meta.get("bos", tokenizer.bos)), **sizes)
    shape.check()
    if tokenizer.vocab > shape.vocab:
        raise Problem(f"tokeniser has {tokenizer.vocab} pieces, the model only {shape.vocab}")
    model = Decoder(shape)
    try:
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if not k.startswith(PROBES)})
    except RuntimeError as error:
        raise Problem(f"{path}: {error}") from None
    return model.eval(), tokenizer
