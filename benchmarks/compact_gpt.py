"""A compact GPT and its trainer in the manner of nanoGPT (Karpathy 2022): the yardstick for speed, not used elsewhere.

GPT-2's shape: learned positions, LayerNorm without biases, one matrix for query, key and value, a GELU MLP four times
as wide as the residual stream, the head tied to the embedding. Batches are cut at random places of one token array.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    vocab: int
    length: int
    hidden: int
    layers: int
    heads: int


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, hidden = shape.heads, shape.hidden
        self.before_attention = nn.LayerNorm(hidden, bias=False)
        self.before_mlp = nn.LayerNorm(hidden, bias=False)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.mix = nn.Linear(hidden, hidden, bias=False)
        self.up = nn.Linear(hidden, 4 * hidden, bias=False)
        self.down = nn.Linear(4 * hidden, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, hidden = x.shape
        parts = self.qkv(self.before_attention(x)).split(hidden, dim=2)
        query, key, value = (p.view(batch, length, self.heads, hidden // self.heads).transpose(1, 2) for p in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(mixed.transpose(1, 2).reshape(batch, length, hidden))
        return x + self.down(functional.gelu(self.up(self.before_mlp(x))))


class CompactGPT(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.places = nn.Embedding(shape.length, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.last = nn.LayerNorm(shape.hidden, bias=False)
        self.head = nn.Linear(shape.hidden, shape.vocab, bias=False)
        self.head.weight = self.tokens.weight
        for name, weight in self.named_parameters():
            if weight.dim() >= 2:
                residual = name.endswith(("mix.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * shape.layers) ** 0.5 if residual else 0.02)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats; int64 [batch, length] both."""
        x = self.tokens(inputs) + self.places(torch.arange(inputs.shape[1], device=inputs.device))
        for block in self.blocks:
            x = block(x)
        return functional.cross_entropy(self.head(self.last(x)).flatten(0, 1).float(), targets.flatten())


def train(
    shape: Shape,
    stream: np.ndarray,
    sequences: int,
    micro: int,
    bf16: bool,
    compiled: bool,
    before_step: Callable[[], None],
) -> None:
    """Train on `stream` until `before_step`, called before every optimizer step, raises.

    Args:
        stream: int [tokens].
        sequences: in the batch of an optimizer step.
        micro: of those at once.
    """
    torch.manual_seed(0)
    model = CompactGPT(shape)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    groups = [{"params": matrices, "weight_decay": 0.1}]
    groups += [{"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
    step = torch.compile(model, dynamic=False) if compiled else model
    draw, parts = np.random.default_rng(0), sequences // micro
    while True:
        before_step()
        for _ in range(parts):
            starts = draw.integers(len(stream) - shape.length - 1, size=micro)
            rows = torch.from_numpy(np.stack([stream[s : s + shape.length + 1] for s in starts]).astype(np.int64))
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = step(rows[:, :-1], rows[:, 1:]) / parts
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
