"""A transformer encoder as in BERT: attention and GELU, normalized after each. Source: Vaswani et al. 2017."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from nnapi.zoo.network import Network


class EncoderLayer(nn.Module):
    """`x [N, tokens, width] -> y [N, tokens, width]`"""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.norm2 = nn.LayerNorm(width)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """`x [N, tokens, width] -> y [N, tokens, width]`, each head on its share of the width."""
        batch, tokens, width = x.shape
        split = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        y = F.scaled_dot_product_attention(query, key, value)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.feed_forward(x))


class TransformerEncoder(nn.Module):
    """`embeddings [N, tokens, width] -> y [N, tokens, width]`"""

    def __init__(self, layers: int = 4, width: int = 256, heads: int = 8, hidden: int = 1024) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(EncoderLayer(width, heads, hidden) for _ in range(layers)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


NETWORKS = (
    Network(
        "transformer_encoder",
        build=lambda shape: TransformerEncoder(width=shape[-1]),
        input_shape=(1, 128, 256),
        small_input_shape=(1, 8, 256),
        sizes=range(1, 2049),
        source="Vaswani et al. 2017, Attention Is All You Need, arXiv 1706.03762; GELU as in Devlin et al. 2018, "
        "BERT, arXiv 1810.04805",
    ),
)
