"""Networks for images of any size, in one or several channels."""

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from lookalike.distributions.factors import FactorAnalysers
from lookalike.domain.domain import Domain
from lookalike.networks.conv import Decoder, Encoder, as_pixels
from lookalike.networks.couplings import PixelFlow
from lookalike.networks.pixel_causal import PixelsInOrder
from lookalike.networks.pixels import PixelBlocks, has_ink
from lookalike.networks.unet import UNet
from lookalike.workspace.ranges import (
    AtLeastThree,
    AtLeastTwo,
    Channels,
    ImageWidths,
    NonNegativeInt,
    PositiveInt,
    settings,
)


@settings
class ConvSize(TypedDict):
    """Channels at a half, a quarter, … of the resolution, and residual blocks at each."""

    widths: ImageWidths
    depth: PositiveInt


@settings
class DecoderSize(TypedDict):
    """Sizes of a convolutional decoder, the context of a block, and the network of each pixel inside a block.

    `ink`: whether pixels are ink on paper; null is learned from the training data (see `networks.pixels.has_ink`).
    """

    widths: ImageWidths
    depth: PositiveInt
    context: PositiveInt
    inside: PositiveInt
    ink: bool | None


@settings
class UNetSize(TypedDict):
    """Sizes of a U-Net; `hidden` is the width of its dense layer; `ink` as in `DecoderSize`."""

    widths: ImageWidths
    depth: PositiveInt
    hidden: PositiveInt
    ink: bool | None


@settings
class CausalSize(TypedDict):
    """Sizes of an autoregressive model of pixels (see `PixelsInOrder`)."""

    components: PositiveInt
    described: AtLeastThree
    palette: NonNegativeInt
    channels: PositiveInt
    depth: PositiveInt
    mixed: NonNegativeInt
    hidden: PositiveInt
    ink: bool | None


@settings
class FlowSize(TypedDict):
    """Bins of the splines, and channels and residual blocks of each coupling's network."""

    bins: AtLeastTwo
    channels: Channels
    depth: PositiveInt


@settings
class MixtureSize(TypedDict):
    """Factor analysers, factors of each, and rounds of fitting."""

    components: PositiveInt
    factors: PositiveInt
    rounds: PositiveInt


def encoder(domain: Domain, size: ConvSize, *, outputs: int, classes: int = 0) -> nn.Module:
    """Return a convolutional network from images and classes to codes."""
    return Encoder(shape=domain.shape, widths=size["widths"], depth=size["depth"], features=outputs, classes=classes)


def decoder(domain: Domain, size: DecoderSize, *, inputs: int, components: int) -> "PixelDecoder":
    """Return a distribution of images given codes."""
    return PixelDecoder(domain=domain, size=size, inputs=inputs, components=components)


def generator(domain: Domain, size: ConvSize, *, inputs: int) -> nn.Module:
    """Return a convolutional network from codes to images."""
    return PixelGenerator(shape=domain.shape, widths=size["widths"], depth=size["depth"], inputs=inputs)


def denoiser(domain: Domain, size: UNetSize, *, outputs: int) -> nn.Module:
    """Return a U-Net of images and times, with two more outputs per place where pixels are ink on paper."""
    at_ends = [0, domain.levels - 1] if has_ink(domain, size["ink"]) else []
    network = UNet(
        shape=domain.shape,
        out_channels=(outputs + len(at_ends)) * domain.shape[0],
        widths=size["widths"],
        depth=size["depth"],
        hidden=size["hidden"],
    )
    network.ends = at_ends  # type: ignore[assignment]
    return network


def causal(domain: Domain, size: CausalSize, *, classes: int) -> PixelsInOrder:
    """Return an autoregressive model of images, block by block."""
    ink = has_ink(domain, size["ink"])
    sizes = {key: value for key, value in size.items() if key != "ink"}
    return PixelsInOrder(domain=domain, classes=classes, ink=ink, **sizes)  # type: ignore[arg-type]


def flow(domain: Domain, size: FlowSize) -> PixelFlow:
    """Return couplings from coarse to fine."""
    return PixelFlow(domain=domain, bins=size["bins"], channels=size["channels"], depth=size["depth"])


def mixture(domain: Domain, size: MixtureSize) -> FactorAnalysers:
    """Return a mixture of factor analysers."""
    return FactorAnalysers(domain, components=size["components"], factors=size["factors"], rounds=size["rounds"])


class PixelGenerator(nn.Module):
    """Codes `[N, inputs]` to images `[N, C, H, W]` in working units; the range goes a little beyond the grid."""

    def __init__(self, *, shape: tuple[int, ...], widths: list[int], depth: int, inputs: int) -> None:
        super().__init__()
        self.size = shape[1:]
        self.network = Decoder(features=inputs, shape=shape, outputs=4 * shape[0], widths=widths, depth=depth)

    def forward(self, code: Tensor) -> Tensor:
        """Return the images."""
        return torch.tanh(as_pixels(self.network(code), *self.size)) * 1.01


class PixelDecoder(nn.Module):
    """p(x | z) of images: a context for every block of 2x2 pixels, whose pixels come one after the other."""

    def __init__(self, *, domain: Domain, size: DecoderSize, inputs: int, components: int) -> None:
        super().__init__()
        self.network = Decoder(
            features=inputs, shape=domain.shape, outputs=size["context"], widths=size["widths"], depth=size["depth"]
        )
        self.pixels = PixelBlocks(
            domain=domain,
            components=components,
            context=size["context"],
            hidden=size["inside"],
            described=3,
            ink=has_ink(domain, size["ink"]),
        )

    def start(self, x: Tensor) -> None:
        """Learn how common each level is in the training set `[N, *shape]`."""
        self.pixels.fit(x)

    def context(self, code: Tensor) -> Tensor:
        """Return the context of every block, `[N, rows, columns, context]`."""
        context: Tensor = self.network(code).permute(0, 2, 3, 1)
        return context

    def log_prob(self, x: Tensor, code: Tensor) -> Tensor:
        """Return the log-probability in nats of each pixel `[N, pixels]`, 0 for those beyond the border."""
        return self.pixels.log_prob(self.context(code), self.pixels.split(x))

    def sample(self, code: Tensor) -> Tensor:
        """Draw images, int64, one per code; a pixel of all blocks at once."""
        context = self.context(code)
        counted = self.pixels.counted().repeat(len(code), 1, 1, 1)
        blocks = self.pixels.fill(context.flatten(0, 2), counted.flatten(0, 2))
        return self.pixels.join(blocks.view(counted.shape))
