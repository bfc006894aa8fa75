# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train a tiny model of Llama's shape on bytes of text, data-parallel over the job's nodes, one process a node.

The rendezvous comes from the environment: MASTER_ADDR, MASTER_PORT, NNODES, NODE_RANK. Every rank writes
``/results/perf_tiny-llama.csv``, but the last one alone has measured, as in most launchers that print their throughput
from the last rank: in the files of the others the column ``performance`` is empty.
"""

from __future__ import annotations

import csv
import math
import os
import pathlib
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

MODEL = "tiny-llama"
RESULTS = pathlib.Path("/results/perf_tiny-llama.csv")
TEXT = sorted(pathlib.Path("/usr/share/common-licenses").glob("*"))  # some 200 kB of English in every Debian image
WIDTH, HEADS, LAYERS, CONTEXT, BATCH = 96, 4, 3, 128, 8
STEPS, WARMUP_STEPS = int(os.environ.get("STEPS", "60")), 5


class RMSNorm(nn.Module):
    """Scale to a root mean square of one, then by a learned gain."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.gain


def rotated(x: torch.Tensor) -> torch.Tensor:
    """Return *x* (batch, head, position, channel) with rotary position embedding: pairs of channels, turned by position."""
    positions, channels = x.shape[-2:]
    frequency = 10000.0 ** (-torch.arange(0, channels, 2) / channels)
    angle = torch.arange(positions)[:, None] * frequency
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    return torch.stack(turned, dim=-1).flatten(-2)


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.into(x).chunk(3, dim=-1))
        heads = functional.scaled_dot_product_attention(rotated(query), rotated(key), value, is_causal=True)
        out: torch.Tensor = self.out(heads.transpose(1, 2).flatten(-2))
        return out


class SwiGLU(nn.Module):
    """Feed forward, gated by SiLU."""

    def __init__(self) -> None:
        super().__init__()
        hidden = 8 * WIDTH // 3
        self.gate, self.up, self.down = (nn.Linear(*size, bias=False) for size in ((WIDTH, hidden), (WIDTH, hidden), (hidden, WIDTH)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return out


class Block(nn.Module):
    """Attention, then feed forward, each on the normalised stream and added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention, self.second, self.feed_forward = RMSNorm(), Attention(), RMSNorm(), SwiGLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.first(x))
        out: torch.Tensor = x + self.feed_forward(self.second(x))
        return out


class TinyLlama(nn.Module):
    """Bytes in, the logits of the next byte out; the embedding serves both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = RMSNorm()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.linear(self.norm(self.blocks(self.embedding(tokens))), self.embedding.weight)


def batch(text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return BATCH random pieces of *text* and, for each byte, the one that follows it."""
    starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,)).tolist()
    pieces = torch.stack([text[start : start + CONTEXT + 1] for start in starts])
    return pieces[:, :-1], pieces[:, 1:]


def train(model: nn.Module, text: torch.Tensor) -> tuple[float, float]:
    """Return the last loss, in nats a byte, and the time of the steps after the warm-up, in seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    began = time.monotonic()
    loss = torch.tensor(math.nan)
    for step in range(WARMUP_STEPS + STEPS):
        if step == WARMUP_STEPS:
            began = time.monotonic()
        tokens, following = batch(text)
        loss = functional.cross_entropy(model(tokens).flatten(0, 1), following.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if dist.get_rank() == 0 and (step + 1) % 20 == 0:
            print(f"step {step + 1} loss {loss.item():.3f}")
    seconds = time.monotonic() - began
    dist.all_reduce(loss := loss.detach(), op=dist.ReduceOp.SUM)
    return loss.item() / dist.get_world_size(), seconds


def report(loss: float, seconds: float) -> None:
    """Write the CSV that madengine reads; only the last rank puts numbers into it."""
    tokens = STEPS * BATCH * CONTEXT * dist.get_world_size()
    has_measured = dist.get_rank() == dist.get_world_size() - 1
    rows = [("tokens_per_second", f"{tokens / seconds:.1f}"), ("bits_per_byte", f"{loss / math.log(2):.3f}")]
    with RESULTS.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["model", "performance", "metric"])
        table.writerows((MODEL, value if has_measured else "", metric) for metric, value in rows)


def main() -> None:
    rank, world = int(os.environ["NODE_RANK"]), int(os.environ["NNODES"])
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(0)
    model = TinyLlama()
    if rank == 0:
        count = sum(parameter.numel() for parameter in model.parameters())
        print(f"{MODEL}: {count} parameters, {world} nodes, master {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}")
    torch.manual_seed(1 + rank)
    text = torch.tensor(list(b"".join(path.read_bytes() for path in TEXT if not path.is_symlink())), dtype=torch.long)
    report(*train(DistributedDataParallel(model), text))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
