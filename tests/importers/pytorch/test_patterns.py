"""Blocks of well-known networks, small: how they write things, through to NNAPI's own operations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from .conftest import agree, extensions

SUMS = 1e-5
"""float32 sums in another order, through several layers."""


class Bottleneck(nn.Module):
    """ResNeXt: grouped convolution, squeeze, in-place sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 3, 2, 1, groups=4, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32),
        )  # fmt: skip
        self.down = nn.Sequential(nn.Conv2d(8, 32, 1, 2, bias=False), nn.BatchNorm2d(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv(x)
        out += self.down(x)
        return F.relu(out, inplace=True)


class SqueezeExcite(nn.Module):
    """EfficientNet: pooled by mean over two dimensions, gated by sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class Shuffle(nn.Module):
    """ShuffleNet: half through convolutions, then channels interleaved through rank 5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, dim=1)
        y = torch.cat([left, self.conv(right)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ConvNext(nn.Module):
    """Channels last for LayerNorm and Linear, and a scale per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.grow, self.shrink = nn.Linear(8, 32), nn.Linear(32, 8)
        self.gamma = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.gamma * self.shrink(F.gelu(self.grow(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


class WindowAttention(nn.Module):
    """Swin: rolled, cut into windows through rank 6, biased by a table of relative positions."""

    def __init__(self, width: int = 8, heads: int = 2, window: int = 4) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = at[:, :, None] - at[:, None] + window - 1
        self.register_buffer("index", relative[0] * (2 * window - 1) + relative[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, h, w, c = x.shape
        s = self.window
        y = torch.roll(self.norm(x), (-2, -2), (1, 2))
        y = y.view(n, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)
        q, k, v = self.qkv(y).reshape(-1, s * s, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(s * s, s * s, -1).permute(2, 0, 1).contiguous()
        scores = (q * (c // self.heads) ** -0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)
        y = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, s * s, c))
        y = y.view(n, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return x + torch.roll(y, (2, 2), (1, 2))


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, PyTorch's own layers, the first token's head."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(y.shape[0], -1, -1), y], dim=1) + self.positions
        return self.head(self.encoder(y)[:, 0])


class Bert(nn.Module):
    """Embeddings summed, attention with an extended mask, pooled by tanh."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.words, self.positions = nn.Embedding(20, width), nn.Embedding(10, width)
        self.types, self.norm = nn.Embedding(2, width), nn.LayerNorm(width, eps=1e-12)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.pool = nn.Linear(width, width)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).permute(0, 2, 1, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        positions = torch.arange(ids.shape[1]).unsqueeze(0)
        x = self.words(ids) + self.positions(positions) + self.types(torch.zeros_like(ids))
        x = self.norm(x)
        extended = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1]) + extended
        y = torch.matmul(scores.softmax(dim=-1), v).permute(0, 2, 1, 3).contiguous()
        x = self.norm(self.out(y.view(*y.shape[:2], -1)) + x)
        return x, torch.tanh(self.pool(x[:, 0]))


class Llama(nn.Module):
    """RMSNorm by hand, rotary positions, shared keys, a gated feed-forward."""

    def __init__(self, width: int = 16, heads: int = 4, shared: int = 2) -> None:
        super().__init__()
        self.heads, self.shared, self.size = heads, shared, width // heads
        self.weight = nn.Parameter(torch.ones(width))
        self.q, self.o = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * shared * self.size, bias=False)
        self.gate, self.up = nn.Linear(width, 32, bias=False), nn.Linear(width, 32, bias=False)
        self.down = nn.Linear(32, width, bias=False)

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        rates = 1.0 / (10000 ** (torch.arange(0, self.size, 2).float() / self.size))
        angles = torch.outer(torch.arange(x.shape[2]).float(), rates).repeat(1, 2)
        left, right = x[..., : self.size // 2], x[..., self.size // 2 :]
        return x * angles.cos() + torch.cat((-right, left), -1) * angles.sin()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        y = self.norm(x)
        q = self.rotate(self.q(y).view(n, t, self.heads, self.size).transpose(1, 2))
        k, v = self.kv(y).view(n, t, 2 * self.shared, self.size).transpose(1, 2).split(self.shared, 1)
        k = self.rotate(k)[:, :, None].expand(n, self.shared, 2, t, self.size).reshape(n, self.heads, t, self.size)
        v = v[:, :, None].expand(n, self.shared, 2, t, self.size).reshape(n, self.heads, t, self.size)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(n, t, -1))
        y = self.norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Gpt(nn.Module):
    """A causal mask kept as a buffer, cut to length, filled with minus infinity; tied output weights."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.words, self.attention = nn.Embedding(20, width), nn.Linear(width, 3 * width)
        self.register_buffer("bias", torch.tril(torch.ones(1, 1, 16, 16)))
        self.head = nn.Linear(width, 20, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        n, t, c = x.shape
        q, k, v = (y.view(n, t, self.heads, -1).transpose(1, 2) for y in self.attention(x).split(c, dim=2))
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        scores = scores.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))
        y = (F.softmax(scores, dim=-1) @ v).transpose(1, 2).contiguous().view(n, t, c)
        return self.head(x + y)


class Detector(nn.Module):
    """YOLO: pooling in a row, nearest upsampling, boxes from distributions through rank 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(8, 8, 1), nn.MaxPool2d(5, 1, 2)
        self.head = nn.Conv2d(40, 4 * 4 + 2, 1)
        self.distances = nn.Conv2d(4, 1, 1, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = [F.silu(self.conv(x))]
        y.extend(self.pool(y[-1]) for _ in range(3))
        z = torch.cat([*y, x], 1)
        z = self.head(F.interpolate(z, scale_factor=2, mode="nearest"))
        boxes, scores = z.view(z.shape[0], 18, -1).split((16, 2), 1)
        n, _, a = boxes.shape
        boxes = self.distances(boxes.view(n, 4, 4, a).transpose(2, 1).softmax(1)).view(n, 4, a)
        low, high = boxes.chunk(2, 1)
        return torch.cat(((low + high) / 2, high - low), 1), scores.sigmoid()


class Speech(nn.Module):
    """Convolutions over a spectrogram, flattened per step, then a bidirectional LSTM and log probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3, (2, 1), 1), nn.BatchNorm2d(4), nn.Hardtanh(0, 20, inplace=True))
        self.rnn = nn.LSTM(4 * 4, 6, bidirectional=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        n, c, f, t = y.shape
        y, _ = self.rnn(y.view(n, c * f, t).permute(2, 0, 1))
        return F.log_softmax(self.head(y), -1).transpose(0, 1)


class Style(nn.Module):
    """Image to image: reflected padding, instance norm, transposed convolution, tanh to a picture's range."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, 8, 7), nn.InstanceNorm2d(8, affine=True), nn.ReLU(True),
            nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(4), nn.LeakyReLU(0.2, True),
            nn.ReflectionPad2d(1), nn.Conv2d(4, 3, 3), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.net(x) + 1) * 127.5


class Preprocessing(nn.Module):
    """Pixels of 8 bits, normalized in the network, channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.permute(0, 3, 1, 2).to(torch.float32).div(255)
        return self.conv((y - self.mean) / self.std).flatten(1).argmax(1)


class Pyramid(nn.Module):
    """PSPNet: pooled to several sizes, uneven ones too, and resized back."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 2, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x]
        for size, conv in zip((1, 2, 3), self.convs):
            y = conv(F.adaptive_avg_pool2d(x, size))
            parts.append(F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True))
        return torch.cat(parts, 1)


IMAGE, TOKENS = (1, 8, 8, 8), (2, 6, 16)
IDS = torch.tensor([[3, 7, 1, 19, 0], [2, 2, 5, 6, 11]])
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
PATTERNS: list[tuple[nn.Module, list[Any]]] = [
    (Bottleneck(), [IMAGE]),
    (SqueezeExcite(), [IMAGE]),
    (Shuffle(), [(2, 8, 5, 5)]),
    (ConvNext(), [IMAGE]),
    (WindowAttention(), [(2, 8, 8, 8)]),
    (VisionTransformer(), [(2, 3, 8, 8)]),
    (Bert(), [IDS, MASK]),
    (Llama(), [TOKENS]),
    (Gpt(), [IDS]),
    (Detector(), [IMAGE]),
    (Speech(), [(2, 1, 8, 7)]),
    (Style(), [(1, 3, 8, 8)]),
    (Preprocessing(), [torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)]),
    (Pyramid(), [(1, 4, 7, 8)]),
]


@pytest.mark.parametrize(("module", "inputs"), PATTERNS, ids=[type(p[0]).__name__ for p in PATTERNS])
def test_pattern(module: nn.Module, inputs: list[Any]) -> None:
    assert extensions(agree(module, inputs, SUMS)) == []
