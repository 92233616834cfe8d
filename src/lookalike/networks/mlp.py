"""Multilayer perceptrons for rows of a table."""

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


class RowEncoder(nn.Module):
    """An MLP of a row `[N, D]` and its class `[N, classes]`, if any."""

    def __init__(self, *, inputs: int, classes: int, hidden: list[int], outputs: int) -> None:
        super().__init__()
        self.layers = MLP(inputs=inputs + classes, hidden=hidden, outputs=outputs)

    def forward(self, y: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """Return `[N, outputs]`."""
        out: Tensor = self.layers(y if one_hot is None else torch.cat([y, one_hot], dim=1))
        return out


class TimeMLP(nn.Module):
    """An MLP of `[N, D]`, the time `[N]` and what is added to the time's embedding, `[N, embedding]`."""

    def __init__(self, *, inputs: int, outputs: int, hidden: list[int]) -> None:
        super().__init__()
        self.embedding = hidden[0]
        self.time = FourierTime(width=hidden[0], features=8, highest=4.0)
        self.layers = MLP(inputs=inputs + hidden[0], hidden=hidden, outputs=outputs)

    def forward(self, y: Tensor, t: Tensor, also: Tensor | None = None) -> Tensor:
        """Return `[N, outputs]`."""
        condition = self.time(t) if also is None else self.time(t) + also
        out: Tensor = self.layers(torch.cat([y, condition], dim=1))
        return out
