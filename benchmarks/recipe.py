"""The usual flow matching at the same operations: `python benchmarks/recipe.py`, after the features stage of MNIST.

Convolutions after a 2x2 space-to-depth (14x14 and 7x7, 32 and 64 channels, dense bottleneck, two million parameters),
the plain loss |v(y_t, t) - (y_1 - y_0)|² on pixels between -1 and 1, batches of 64, AdamW at 3e-3 with a cosine decay
and averaged weights, times drawn uniformly, ten midpoint steps (twenty evaluations): what a careful user would write
without this project. Samples are scored like a family's, against the test set in the pipeline's own features.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lookalike.core.config import ROOT, Optimizer, compose
from lookalike.data import Prepared
from lookalike.extractor import Extractor
from lookalike.features import features_of
from lookalike.history import Silent
from lookalike.metrics.frechet import frechet_distance
from lookalike.models.build import set_threads
from lookalike.networks.unet import UNet
from lookalike.training import operations_per_step, train

BATCH = 64
OPTIMIZER = Optimizer(lr=3e-3, weight_decay=0.01, warmup=0.05, clip=1.0, average=0.03, momentum=0.9, muon=0)


class Recipe(nn.Module):
    """Flow matching of images `[N, C, H, W]` without anything of this project's but the network."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.network = UNet(shape=shape, out_channels=shape[0], widths=[32, 64], depth=1, hidden=256)

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        y1 = x.float() / 127.5 - 1
        y0, t = torch.randn_like(y1), torch.rand(len(x))
        path = torch.lerp(y0, y1, t[:, None, None, None])
        return {"loss": ((self.network(path, t) - (y1 - y0)) ** 2).mean()}

    @torch.inference_mode()
    def sample(self, n: int, *, steps: int) -> Tensor:
        """Pixels `[n, C, H, W]`, uint8, by the midpoint rule."""
        y, h = torch.randn(n, *self.shape), 1 / steps
        for step in range(steps):
            t = torch.full((n,), step * h)
            middle = y + 0.5 * h * self.network(y, t)
            y = y + h * self.network(middle, t + 0.5 * h)
        return ((y + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description="The usual flow matching at the same operations.")
    parser.add_argument("--scale", type=float, default=1.0, help="of the data set's operations")
    parser.add_argument("--samples", type=int, default=5000)
    arguments = parser.parse_args()
    config = compose(["data=mnist", "tracking=none"])
    set_threads(config.trainer.threads)
    folder = ROOT / "artifacts" / "mnist"
    prepared = Prepared(folder / "prepared")
    extractor = Extractor(folder / "features" / "extractor", prepared)
    torch.manual_seed(0)
    model = Recipe(prepared.domain.shape)
    batch = torch.from_numpy(np.array(prepared.grid("train")[:BATCH]))
    steps = round(arguments.scale * config.data.flops / operations_per_step(model, (batch,), OPTIMIZER))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        train(model, (prepared.grid("train"),), (prepared.grid("validation"),), optimizer=OPTIMIZER, steps=steps,
              batch_size=BATCH, trainer=config.trainer, seed=0, scratch=Path(scratch), observer=Silent(),
              preview=None)  # fmt: skip
    seconds = time.monotonic() - start
    torch.manual_seed(0)
    drawn = torch.cat([model.sample(len(part), steps=10) for part in torch.arange(arguments.samples).split(250)])
    features = features_of(extractor, drawn.numpy(), batch_size=config.trainer.batch_size)
    value, error = frechet_distance(features, extractor.stored("test"))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {steps} steps in {seconds:.0f} s")
    print(f"Fréchet distance {value:.1f} ± {error:.1f}, features {extractor.record['digest']}")


if __name__ == "__main__":
    main()
