#!/usr/bin/python3
"""Writes the benchmark's models as ONNX, each with its input spec (NAME.json) beside it.

Architectures are those of the table in tests/bench/README.md; weights are random but sensible (He or 0.02 normal,
batch norm calibrated on one random batch), seeded by the model's name, so every machine writes the same models.

  export_models.py [-o FOLDER] [NAME...]      (Debian: python3-torch, python3-torchvision)
"""
import argparse
import json
import math
import pathlib
import warnings
import zlib

import torch
import torchvision.models as tv
from torch import nn
from torch.nn import functional as F

DEFAULT_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "build/bench/models"


# ---- networks that torchvision does not have --------------------------------------------------------------------


class CifarCnn(nn.Module):
    """Three unpadded convolutions and two dense layers on 32x32 RGB, 160 thousand parameters."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 128, 3)])
        self.dense = nn.Linear(512, 128)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        for conv in self.convs:
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.head(F.relu(self.dense(x.flatten(1))))


class TextCnn(nn.Module):
    """Kim's sentence classifier: 64 words of 300 dimensions, 100 filters each of 3, 4 and 5 words."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20000, 300)
        self.convs = nn.ModuleList([nn.Conv1d(300, 100, width) for width in (3, 4, 5)])
        self.head = nn.Linear(300, 2)

    def forward(self, ids):
        x = self.words(ids).transpose(1, 2)
        return self.head(torch.cat([F.relu(conv(x)).max(2).values for conv in self.convs], 1))


def split_heads(x, heads):
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def join_heads(x):
    batch, heads, length, width = x.shape
    return x.transpose(1, 2).reshape(batch, length, heads * width)


class BertLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)

    def forward(self, x, bias):
        q, k, v = (split_heads(f(x), self.heads) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias
        x = self.norm1(x + self.out(join_heads(scores.softmax(-1) @ v)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    def __init__(self, width=768, heads=12, layers=12):
        super().__init__()
        self.words, self.positions, self.types = nn.Embedding(30522, width), nn.Embedding(512, width), nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.layers = nn.ModuleList([BertLayer(width, heads) for _ in range(layers)])
        self.pooler = nn.Linear(width, width)

    def forward(self, ids, mask, types):
        bias = (1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0
        positions = torch.arange(ids.shape[1]).unsqueeze(0)
        x = self.norm(self.words(ids) + self.positions(positions) + self.types(types))
        for layer in self.layers:
            x = layer(x, bias)
        return x, torch.tanh(self.pooler(x[:, 0]))


class Conv1D(nn.Module):
    """GPT-2's dense layer: weight [in, out], on rows flattened to a matrix."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


def gelu_tanh(x):
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class GptLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = Conv1D(width, 3 * width), Conv1D(width, width)
        self.up, self.down = Conv1D(width, 4 * width), Conv1D(4 * width, width)

    def forward(self, x, allowed, past):
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm1(x)).split(x.shape[-1], 2))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = torch.where(allowed, scores, torch.full([], -1e4))
        x = x + self.out(join_heads(scores.softmax(-1) @ v))
        return x + self.down(gelu_tanh(self.up(self.norm2(x)))), k, v


class Gpt2(nn.Module):
    """Logits of every position, and the keys and values of every layer for the next step."""

    def __init__(self, width=768, heads=12, layers=12, vocabulary=50257):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(1024, width)
        self.layers = nn.ModuleList([GptLayer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("causal", torch.ones(1, 1, 1024, 1024).tril().bool())

    def forward(self, ids, *past):
        start = past[0].shape[2] if past else 0
        end = start + ids.shape[1]
        x = self.words(ids) + self.positions(torch.arange(start, end).unsqueeze(0))
        allowed = self.causal[:, :, start:end, :end]
        present = []
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, allowed, past[2 * i : 2 * i + 2] if past else None)
            present += [k, v]
        return (self.head(self.norm(x)), *present)


# ---- weights ----------------------------------------------------------------------------------------------------


def he_weights(model):
    for m in model.modules():
        if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            if m.bias is not None:
                nn.init.normal_(m.bias, std=0.02)


def small_weights(model):
    for m in model.modules():
        if isinstance(m, (nn.Linear, nn.Embedding, nn.Conv2d, Conv1D)):
            nn.init.normal_(m.weight, std=0.02)
        if getattr(m, "bias", None) is not None and isinstance(m.bias, nn.Parameter):
            nn.init.normal_(m.bias, std=0.02)
        if isinstance(m, nn.MultiheadAttention):
            nn.init.normal_(m.in_proj_weight, std=0.02)


def calibrate_batch_norms(model, x):
    """Random scales, and the statistics of one random batch, so that activations neither vanish nor explode."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    for m in norms:
        nn.init.uniform_(m.weight, 0.8, 1.2)
        nn.init.normal_(m.bias, std=0.1)
        m.momentum = None
        m.reset_running_stats()
    model.train()
    with torch.no_grad():
        model(torch.randn(4, *x.shape[1:]))


def use_plain_attention(model):
    """torch 1.13 cannot export its fused attention, which it takes only in eval mode; there is no dropout here.
    The answer is the mode to export in."""
    attentions = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    for m in attentions:
        m.train()
    return torch.onnx.TrainingMode.PRESERVE if attentions else torch.onnx.TrainingMode.EVAL


# ---- the models: constructor, weights, inputs (name, dims, integer range or None), outputs, GFLOP, opset -----------


def image(batch=1, size=224):
    return [("x", [batch, 3, size, size], None)]


def token_ids(length, name="input_ids", low=0, high=30522):
    return (name, [1, length], (low, high))


def cache(prefix):
    return [f"{prefix}_{kind}_{i}" for i in range(12) for kind in ("key", "value")]


def bert_inputs():
    return [token_ids(128), token_ids(128, "attention_mask", 1, 2), token_ids(128, "token_type_ids", 0, 2)]


def decode_inputs():
    return [token_ids(1, high=50257)] + [(name, [1, 12, 64, 64], None) for name in cache("past")]


STEPS = [("x", [100, 1, 128], None)]
WORDS = (0, 20000)
GPT_OUTPUTS = ["logits"] + cache("present")

MODELS = {
    "resnet18": (tv.resnet18, he_weights, image(), ["y"], 3.628, 13),
    "resnet50": (tv.resnet50, he_weights, image(), ["y"], 8.178, 13),
    "vgg16": (tv.vgg16, he_weights, image(), ["y"], 30.94, 13),
    "densenet121": (tv.densenet121, he_weights, image(), ["y"], 5.668, 13),
    "squeezenet1_1": (tv.squeezenet1_1, he_weights, image(), ["y"], 0.6983, 13),
    "mobilenet_v2": (tv.mobilenet_v2, he_weights, image(), ["y"], 0.6015, 13),
    "efficientnet_b0": (tv.efficientnet_b0, he_weights, image(), ["y"], 0.7716, 13),
    "alexnet": (tv.alexnet, he_weights, image(), ["y"], 1.428, 13),
    "vit_b_16": (tv.vit_b_16, small_weights, image(), ["y"], 35.13, 17),
    "bert_base_s128": (Bert, small_weights, bert_inputs(), ["hidden", "pooled"], 22.35, 17),
    "gpt2_prefill64": (Gpt2, small_weights, [token_ids(64, high=50257)], GPT_OUTPUTS, 15.96, 17),
    "gpt2_decode_p64": (Gpt2, small_weights, decode_inputs(), GPT_OUTPUTS, 0.2495, 17),
    "lstm2": (lambda: nn.LSTM(128, 256, 2), None, STEPS, ["y", "h", "c"], 0.1835, 14),
    "gru2": (lambda: nn.GRU(128, 256, 2), None, STEPS, ["y", "h"], 0.1376, 14),
    "textcnn_b1": (TextCnn, he_weights, [("ids", [1, 64], WORDS)], ["y"], 0.0438, 13),
    "textcnn_b50": (TextCnn, he_weights, [("ids", [50, 64], WORDS)], ["y"], 2.19, 13),
    "cifar_cnn_b1": (CifarCnn, he_weights, image(1, 32), ["y"], 0.01028, 13),
    "cifar_cnn_b64": (CifarCnn, he_weights, image(64, 32), ["y"], 0.6578, 13),
}


def example(inputs):
    return tuple(torch.randn(dims) if limits is None else torch.randint(*limits, dims) for _, dims, limits in inputs)


def build(name):
    """The model in eval mode, and example inputs. Models of one network (b1, b64) share their weights."""
    make, weights, inputs, *_ = MODELS[name]
    torch.manual_seed(zlib.crc32(name.split("_b")[0].encode()))
    model = make()
    if weights:
        weights(model)
    calibrate_batch_norms(model, torch.empty(inputs[0][1]))
    return model.eval(), example(inputs)


def export(name, folder):
    _, _, inputs, outputs, gflop, opset = MODELS[name]
    model, args = build(name)
    mode = use_plain_attention(model)
    path = folder / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, args, str(path), opset_version=opset, training=mode,
                          input_names=[i[0] for i in inputs], output_names=outputs)
    spec = {"name": name, "gflop": gflop, "inputs": [
        {"name": n, "dims": dims, "dtype": "int64" if limits else "float32", "range": limits} for n, dims, limits in inputs]}
    path.with_suffix(".json").write_text(json.dumps(spec, indent=1) + "\n")
    print(f"{path} {path.stat().st_size / 1e6:.1f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Writes the benchmark's models as ONNX.")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=DEFAULT_FOLDER)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    args = parser.parse_args()
    unknown = set(args.names) - set(MODELS)
    if unknown:
        parser.error(f"unknown model {', '.join(sorted(unknown))}; known: {', '.join(MODELS)}")
    args.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in args.names or MODELS:
        export(name, args.output)


if __name__ == "__main__":
    main()
