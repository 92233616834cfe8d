"""Networks that see what comes before and nothing else, each in two forms: over all places at once, and at one place.

The first form trains and scores. The second draws samples and keeps what it computed at earlier places, so that a
sample costs one pass and not one pass per place (Ramachandran et al., Fast generation for convolutional autoregressive
models, 2017, arXiv:1704.06001). Places are blocks of 2x2 pixels in reading order: a quarter of the positions that
pixels have, with four times as much to do at each, which suits a CPU.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalConv(nn.Module):
    """A convolution over the rows above and the places to the left.

    Args:
        inputs, outputs: number of channels.
        rows: number of rows above that it sees.
        reach: number of columns to either side that it sees.
        itself: whether it sees its own place.
    """

    mask: Tensor

    def __init__(self, *, inputs: int, outputs: int, rows: int, reach: int, itself: bool) -> None:
        super().__init__()
        self.rows, self.reach = rows, reach
        mask = torch.ones(rows + 1, 2 * reach + 1)
        mask[-1, reach + itself :] = 0
        self.register_buffer("mask", mask, persistent=False)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *mask.shape) / math.sqrt(inputs * float(mask.sum())))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, h: Tensor) -> Tensor:
        """Map `[N, H, W, inputs]` to `[N, H, W, outputs]`."""
        padded = functional.pad(h, (0, 0, self.reach, self.reach, self.rows, 0)).permute(0, 3, 1, 2)
        kernel = (self.weight * self.mask).contiguous(memory_format=torch.channels_last)
        return functional.conv2d(padded, kernel, self.bias).permute(0, 2, 3, 1)

    def buffer(self, h: Tensor, height: int, width: int) -> Tensor:
        """Return a buffer for the inputs of all places, `[N, H + rows, W + 2 reach, inputs]`; h is `[N, ...]`."""
        return h.new_zeros(len(h), height + self.rows, width + 2 * self.reach, self.weight.shape[1])

    def put(self, buffer: Tensor, h: Tensor, i: int, j: int) -> None:
        """Store the input `[N, inputs]` of a place."""
        buffer[:, i + self.rows, j + self.reach] = h

    def at(self, buffer: Tensor, i: int, j: int) -> Tensor:
        """Return the output `[N, outputs]` at a place, from the stored inputs."""
        patch = buffer[:, i : i + self.rows + 1, j : j + 2 * self.reach + 1]
        kernel = (self.weight * self.mask).permute(0, 2, 3, 1)
        return functional.linear(patch.flatten(1), kernel.flatten(1), self.bias)


class CausalResidual(nn.Module):
    """A gated causal convolution around a skip (van den Oord et al., Conditional image generation with PixelCNN
    decoders, 2016, arXiv:1606.05328)."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(channels)
        self.conv = CausalConv(inputs=channels, outputs=2 * channels, rows=1, reach=1, itself=True)
        self.out = nn.Linear(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        """Map `[N, H, W, channels]` to the same shape."""
        value, gate = self.conv(self.norm(h)).chunk(2, dim=-1)
        out: Tensor = h + self.out(value * torch.sigmoid(gate))
        return out

    def at(self, buffer: Tensor, h: Tensor, i: int, j: int) -> Tensor:
        """Return the output `[N, channels]` at a place for the input there; store the input."""
        self.conv.put(buffer, self.norm(h), i, j)
        value, gate = self.conv.at(buffer, i, j).chunk(2, dim=-1)
        out: Tensor = h + self.out(value * torch.sigmoid(gate))
        return out


class CausalMixer(nn.Module):
    """One dense layer from all earlier places to each: it depends on the place and sees all of the past.

    A weight is used once per image where a convolution's weight is used once per place, so a global view costs less
    than a local one. That pays where the objects in images are centred.

    Args:
        channels: width of the stream that it reads and adds to.
        places: number of blocks of an image.
        width: numbers per place that take part.
    """

    mask: Tensor

    def __init__(self, *, channels: int, places: int, width: int) -> None:
        super().__init__()
        self.places, self.width = places, width
        self.shrink = nn.Linear(channels, width)
        self.grow = nn.Linear(width, channels)
        seen = torch.ones(places, places).tril()
        self.register_buffer("mask", seen.repeat_interleave(width, 0).repeat_interleave(width, 1), persistent=False)
        self.weight = nn.Parameter(torch.randn(places * width, places * width) / math.sqrt(places * width))
        self.bias = nn.Parameter(torch.zeros(places * width))

    def forward(self, h: Tensor) -> Tensor:
        """Map `[N, H, W, channels]` to the same shape."""
        narrow = functional.silu(self.shrink(h)).flatten(1)
        mixed = functional.linear(narrow, self.weight * self.mask, self.bias)
        out: Tensor = self.grow(functional.silu(mixed.view(*h.shape[:3], self.width)))
        return h + out

    def at(self, buffer: Tensor, h: Tensor, place: int) -> Tensor:
        """Return the output `[N, channels]` at a place for the input there; store it in `[N, places * width]`."""
        rows = slice(place * self.width, (place + 1) * self.width)
        buffer[:, rows] = functional.silu(self.shrink(h))
        seen = slice(0, (place + 1) * self.width)
        mixed = functional.linear(buffer[:, seen], self.weight[rows, seen], self.bias[rows])
        out: Tensor = self.grow(functional.silu(mixed))
        return h + out


class Sequential(nn.Module):
    """A small network for each of a few dimensions, which sees a context and the dimensions before its own.

    Args:
        context: width of the context; 0 for none.
        dimensions: number of networks.
        features: numbers that describe a dimension to the networks of later ones.
        hidden: width of each network's two hidden layers.
        outputs: of each network.
    """

    mask: Tensor

    def __init__(self, *, context: int, dimensions: int, features: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.dimensions, self.features, self.hidden = dimensions, features, hidden
        self.context = nn.Linear(context, dimensions * hidden, bias=False) if context else None
        before = torch.ones(dimensions, dimensions).tril(-1)
        self.register_buffer(
            "mask", before.repeat_interleave(hidden, 0).repeat_interleave(features, 1), persistent=False
        )
        # A single dimension has no dimension before it.
        self.weight = (
            nn.Parameter(torch.randn(dimensions * hidden, dimensions * features) / math.sqrt(dimensions * features))
            if dimensions > 1
            else None
        )
        self.first = nn.Parameter(torch.randn(dimensions * hidden))
        self.inner = nn.Parameter(torch.randn(dimensions, hidden, hidden) / math.sqrt(hidden))
        self.second = nn.Parameter(torch.zeros(dimensions, 1, hidden))
        self.outer = nn.Parameter(torch.randn(dimensions, hidden, outputs) * (0.1 / math.sqrt(hidden)))
        self.third = nn.Parameter(torch.randn(dimensions, 1, outputs))

    def forward(self, context: Tensor | None, described: Tensor) -> Tensor:
        """Map contexts `[B, context]` and descriptions `[B, dimensions * features]` to `[B, dimensions, outputs]`."""
        pre = self.first.expand(len(described), -1)
        if self.context is not None:
            pre = pre + self.context(context)
        if self.weight is not None:
            pre = pre + functional.linear(described, self.weight * self.mask)
        h = functional.silu(pre).view(len(described), self.dimensions, self.hidden).transpose(0, 1)
        h = h + functional.silu(torch.baddbmm(self.second, h, self.inner))
        return torch.baddbmm(self.third, h, self.outer).transpose(0, 1)

    def at(self, context: Tensor | None, described: Tensor, d: int) -> Tensor:
        """Return the outputs `[B, outputs]` of one dimension, from those before it in `[B, dimensions * features]`."""
        rows = slice(d * self.hidden, (d + 1) * self.hidden)
        pre = self.first[rows].expand(len(described), -1)
        if self.context is not None:
            assert context is not None
            pre = pre + functional.linear(context, self.context.weight[rows])
        if self.weight is not None:
            seen = slice(0, d * self.features)
            pre = pre + functional.linear(described[:, seen], self.weight[rows, seen])
        h = functional.silu(pre)
        h = h + functional.silu(h @ self.inner[d] + self.second[d])
        return h @ self.outer[d] + self.third[d]
