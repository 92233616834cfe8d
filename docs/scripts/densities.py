"""Draw docs/images/densities.png, the known densities: `python docs/scripts/densities.py`."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lookalike.evaluation import truth
from lookalike.readers.densities import bars, gaussian
from lookalike.readers.densities.grids import LINE
from lookalike.workspace.arguments import arguments_of
from lookalike.workspace.configuration import compose

figure = Figure(figsize=(12, 6), layout="constrained")
names = ("hills", "ring", "moons", "checkerboard", "spiral", "gaussian", "bars")
panels = dict(zip(names, figure.subplots(2, 4).flat[:7], strict=True))
for data, axes in panels.items():
    reader = compose([f"data={data}"]).data.reader
    density, log_prob = arguments_of(reader)["density"], truth.known(reader)
    assert log_prob is not None
    axes.set_title(data)
    if data == "hills":
        centres = LINE.low + LINE.step * np.arange(LINE.levels)
        axes.plot(centres, np.exp(log_prob(np.arange(LINE.levels)[:, None])) / LINE.step, color="#3b6ea5")
    elif data == "gaussian":
        paths = gaussian.GRID.low + gaussian.GRID.step * gaussian.draw(density, 12, seed=0)
        axes.plot(paths.T, color="#3b6ea5", linewidth=0.8, alpha=0.7)
        axes.set_xlabel("dimension")
    elif data == "bars":
        images = bars.draw(density, 16, seed=0)[0].reshape(4, 4, 8, 8)
        sheet = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=255)
        axes.imshow(sheet.transpose(0, 2, 1, 3).reshape(36, 36), cmap="gray", vmin=0, vmax=255)
        axes.axis("off")
    else:
        grid = np.indices((256, 256)).reshape(2, -1).T
        table = np.exp(log_prob(grid)).reshape(256, 256)
        axes.imshow(table.T, origin="lower", extent=(-4, 4, -4, 4), cmap="Blues")
figure.axes[-1].axis("off")
figure.savefig(Path(__file__).parents[1] / "images" / "densities.png", dpi=80, metadata={"Software": None})
