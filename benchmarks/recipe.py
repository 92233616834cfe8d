"""Train a textbook flow matching model with the same operations as a family: `python benchmarks/recipe.py`.

It needs the features stage of MNIST. The model is what a careful user would write without this project: a U-Net on
14x14 and 7x7 positions with 32 and 64 channels (two million parameters), the loss |v(y_t, t) - (y_1 - y_0)|² on pixels
between -1 and 1, uniform times, batches of 64, AdamW at 3e-3 with a cosine decay and averaged weights, and ten midpoint
steps. Its samples are scored like those of a family: against the test set, in the features of the pipeline.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lookalike.domain.prepared import Prepared
from lookalike.evaluation.resampling import resamples
from lookalike.features.extraction import features_of
from lookalike.features.extractor import Extractor
from lookalike.metrics.frechet import frechet_distances
from lookalike.networks.unet import UNet
from lookalike.training.budget import operations_per_step
from lookalike.training.history import Silent
from lookalike.training.loop import train
from lookalike.workspace.configuration import ROOT, Optimizer, compose
from lookalike.workspace.threads import set_threads

BATCH = 64
OPTIMIZER = Optimizer(lr=3e-3, weight_decay=0.01, warmup=0.05, clip=1.0, ema_horizon=0.03, beta1=0.9, muon=0)


class Recipe(nn.Module):
    """Flow matching of images `[N, C, H, W]` that uses only the network of this project."""

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
        """Draw pixels `[n, C, H, W]`, uint8, with the midpoint rule."""
        y, h = torch.randn(n, *self.shape), 1 / steps
        for step in range(steps):
            t = torch.full((n,), step * h)
            middle = y + 0.5 * h * self.network(y, t)
            y = y + h * self.network(middle, t + 0.5 * h)
        return ((y + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train a textbook flow matching model with the operations of a family."
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the data set's operations")
    parser.add_argument("--samples", type=int, default=5000)
    arguments = parser.parse_args()
    config = compose(["data=mnist", "tracking=none"])
    set_threads(config.trainer)
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
    test = extractor.stored("test")
    found = frechet_distances(features, test, resamples(len(features), len(test))).distance
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {steps} steps in {seconds:.0f} s")
    print(f"Fréchet distance {found.value:.1f} ± {found.error:.1f}, features {extractor.record['digest']}")


if __name__ == "__main__":
    main()
