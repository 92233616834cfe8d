"""Multilayer perceptrons for vectors."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from lookalike.networks.embeddings import FourierTime


class MLP(nn.Sequential):
    """Linear layers with SiLU between them: `[N, inputs]` to `[N, outputs]`."""

    def __init__(self, *, inputs: int, hidden: list[int], outputs: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise([inputs, *hidden]):
            layers += [nn.Linear(before, after), nn.SiLU()]
        super().__init__(*layers, nn.Linear([inputs, *hidden][-1], outputs))


class TimeMLP(nn.Module):
    """A function of `[N, D]` that changes with the time `[N]` and what is added to its embedding, `[N, embedding]`."""

    def __init__(self, *, dimensions: int, outputs: int, hidden: list[int]) -> None:
        super().__init__()
        self.embedding = hidden[0]
        self.time = FourierTime(width=hidden[0], features=8, highest=4.0)
        self.layers = MLP(inputs=dimensions + hidden[0], hidden=hidden, outputs=outputs)

    def forward(self, y: Tensor, t: Tensor, also: Tensor | None = None) -> Tensor:
        told = self.time(t) if also is None else self.time(t) + also
        out: Tensor = self.layers(torch.cat([y, told], dim=1))
        return out
