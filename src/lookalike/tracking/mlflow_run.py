"""What one MLflow run holds. Only clients and run ids are passed explicitly: an active run would leak."""

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lookalike.domain.kinds import load_domain
from lookalike.tracking.content import Content, Point, Record, family_of, flat
from lookalike.tracking.layout import FINAL
from lookalike.tracking.notes import run_note, with_note
from lookalike.workspace.files import save_arrays

Lines = dict[str, str]

SMALL_COPY = r"samples\+step\+(\d+)\+.*compressed\.webp"
"""Names of the small copies of pictures of samples during training."""

PICTURE = "samples.png"
"""The picture of a cell's samples."""


class Machine:
    """The load of the machine while a model trains: MLflow's own system metrics, read at the end of every interval."""

    def __init__(self, run_id: str, *, step: int) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self.source, self.step = SystemMetricsMonitor(run_id), step
        self.look()  # Utilization is measured since the last look, so the first one is meaningless.

    def due(self) -> bool:
        """Return whether ten seconds have passed, or the time in MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL."""
        return bool(time.monotonic() - self.looked >= self.source.sampling_interval)

    def look(self) -> list[Point]:
        """Return the use of processor, memory, disk, network and GPU since the last look."""
        self.source.collect_metrics()
        seen = self.source.aggregate_metrics()
        for part in self.source.monitors:
            part.clear_metrics()
        self.looked, self.step = time.monotonic(), self.step + 1
        return [Point(f"system/{name}", value, self.step - 1) for name, value in seen.items()]


class NoFilesError(Exception):
    """A tracker took the numbers of a run but not its files; the cause says why."""


class MlflowRun:
    """One run and what it already holds, so that nothing is recorded twice.

    The numbers and the files of a run are in different places. After the first error of the place of the files, no
    more files are sent, and the stages that have some are not marked as recorded.

    Attributes:
        lost: that error.
        picture_of: the id of the run that holds the picture of the samples; None without a picture.
        has_report: whether the run holds the report.
    """

    def __init__(self, client: Any, run: Any, *, training: bool) -> None:
        self.client, self.id, self.training = client, run.info.run_id, training
        self.name, self.experiment = run.info.run_name, run.info.experiment_id
        self.known, self.inputs = run.data, run.inputs.dataset_inputs
        self.curves: set[tuple[str, int]] | None = None
        self.shown: set[int] | None = None
        self.machine: Machine | None = None
        self.lost: Exception | None = None
        self.picture_of = self.id if "recorded.sample" in run.data.tags else None
        self.has_report = "recorded.report" in run.data.tags
        if training:
            client.update_run(self.id, status="RUNNING")
            seen = client.get_metric_history(self.id, "system/cpu_utilization_percentage") if run.data.metrics else []
            self.machine = Machine(self.id, step=len(seen) - 1)

    def describe(self, record: Record) -> None:
        """Record the settings and the data of a model; the data come last and show that the run has both."""
        if not self.inputs:
            self.parameters(flat(record["configuration"]) | {"family": family_of(record)})
            self.client.log_inputs(self.id, [dataset(record)])

    def points(self, points: list[Point]) -> None:
        """Record losses by step, except those that the run holds."""
        if self.curves is None:
            keys = [key for key in self.known.metrics if key.startswith(("train/", "validation/"))]
            self.curves = {(key, old.step) for key in keys for old in self.client.get_metric_history(self.id, key)}
        new = [point for point in points if (point.key, point.step) not in self.curves]
        self.curves |= {(point.key, point.step) for point in new}
        self._metrics(new)

    def results(self, points: list[Point]) -> None:
        """Record final values, except those that the run holds."""
        new = [point for point in points if self.known.metrics.get(clean(point.key)) != point.value]
        self._metrics(new)
        self.known.metrics.update({clean(point.key): point.value for point in new})

    def tick(self) -> None:
        """Record the load of the machine when it is time; called every few seconds."""
        if self.machine is not None and self.machine.due():
            self._metrics(self.machine.look())

    def preview(self, picture: Path, step: int) -> None:
        """Record samples that were drawn at a step of training, for the slider of the run's charts."""
        if step not in self.previewed():
            self._image(picture, "samples", step)
            self.previewed().add(step)

    def _image(self, picture: Path, key: str, step: int) -> None:
        from PIL import Image

        with self.keeping():
            if self.lost is None:
                with Image.open(picture) as image:
                    self.client.log_image(self.id, stacked(image) if key == FINAL else image, key=key, step=step)

    def previewed(self) -> set[int]:
        """Return the steps whose samples the run holds, with the small copy that MLflow sends after each picture."""
        if self.shown is None:
            self.shown = set()
            with self.keeping():
                names = [Path(file.path).name for file in self.client.list_artifacts(self.id, "images")]
                self.shown = {int(match[1]) for name in names if (match := re.match(SMALL_COPY, name))}
        return self.shown

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Remember an error of the place of the files; the block must not send anything after one."""
        try:
            yield
        except Exception as error:
            self.lost = self.lost or error

    def recorded(self, stage: str) -> str | None:
        """Return the digest of what was recorded of a stage, if anything was."""
        found: str | None = self.known.tags.get(f"recorded.{stage}")
        return found

    def stage(self, stage: str, content: Content) -> None:
        """Record everything that the folder of a stage says, except previews."""
        self.parameters(content.parameters)
        self.points(content.curves)
        self.results(content.results)
        self.files(content.files)
        self.preview_file(content.arrays)
        for picture in content.files:
            if picture.name == PICTURE:
                self._image(picture, FINAL, 0)
                self.picture_of = self.id
        self.tags(content.tags)
        self.note()
        self.mark(f"recorded.{stage}", content.digest)

    def note(self) -> None:
        """Describe the run by its scores, its samples and its report."""
        self.tags(with_note(run_note(self), self.known.tags))

    def preview_file(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Keep the first samples with the run."""
        if arrays:
            with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
                save_arrays(Path(folder) / "preview.npz", arrays)
                self.files([Path(folder) / "preview.npz"])

    def files(self, files: list[Path], folder: str | None = None) -> None:
        """Keep files with the run."""
        with self.keeping():
            for path in files if self.lost is None else []:
                self.client.log_artifact(self.id, str(path), folder)

    def mark(self, key: str, value: str) -> None:
        """Mark something as recorded with a tag, unless files of the run were lost."""
        if self.lost is None:
            self.tags({key: value})

    def report(self, files: dict[str, list[Path]], digest: str) -> None:
        """Keep the files of a report with the run, by folder."""
        for folder, paths in files.items():
            self.files(paths, folder)
        self.has_report = True
        self.note()
        self.mark("recorded.report", digest)

    def parameters(self, values: Lines) -> None:
        """Record settings. MLflow never changes a parameter, so a later value is kept in a tag `now.<key>`."""
        from mlflow.entities import Param

        values = {clean(key): value[:6000] for key, value in values.items()}
        new = [Param(key, value) for key, value in values.items() if key not in self.known.params]
        self._send(params=new)
        changed = {key: value for key, value in values.items() if self.known.params.get(key, value) != value}
        self.tags({f"now.{key}": value for key, value in changed.items()})
        for key in values.keys() - changed.keys():
            if f"now.{key}" in self.known.tags:
                self.client.delete_tag(self.id, f"now.{key}")
        self.known.params.update({param.key: param.value for param in new})

    def tags(self, values: Lines) -> None:
        """Record tags, except those that the run holds; the last one comes last, also in a cut connection."""
        from mlflow.entities import RunTag

        values = {clean(key): value[:8000] for key, value in values.items()}
        changed = {key: value for key, value in values.items() if self.known.tags.get(key) != value}
        self._send(tags=[RunTag(key, value) for key, value in changed.items()])
        self.known.tags.update(changed)

    def _metrics(self, points: list[Point]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._send(metrics=[Metric(clean(key), value, when or now, step) for key, value, step, when in points])

    def _send(self, **items: list[Any]) -> None:
        """Send items of one kind in batches that MLflow accepts."""
        from mlflow.utils import chunk_list

        for kind, values in items.items():
            for batch in chunk_list(values, 1000 if kind == "metrics" else 100):
                self.client.log_batch(self.id, **{kind: batch})

    def close(self, state: str) -> None:
        """End the run. A run that was trained earlier keeps its end, unless a later stage changes its state."""
        if self.machine is not None:
            self._metrics(self.machine.look())
        status = self.client.get_run(self.id).info.status
        if self.training or status != state:
            self.client.set_terminated(self.id, state)
        if self.lost is not None:
            raise NoFilesError from self.lost


def stacked(image: Any) -> Any:
    """Return a picture that is twice as wide as high, or wider, with its right half below its left half.

    MLflow's grid of pictures shows squares.
    """
    from PIL import Image

    width, height = image.size[0] // 2, image.size[1]
    if width < height:
        return image
    whole = Image.new("RGB", (width, 2 * height))
    for number in range(2):
        whole.paste(image.crop((number * width, 0, (number + 1) * width, height)), (0, number * height))
    return whole


def clean(key: str) -> str:
    """Return a key that MLflow accepts: letters, digits and `_-. :/` only."""
    return re.sub(r"[^\w\-. :/]", "_", key)[:250]


def dataset(record: Record) -> Any:
    """Return the training data of a model by name and digest; no array is read."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    domain = load_domain(record["domain"])
    tensor = {"type": "tensor", "tensor-spec": {"dtype": domain.dtype.name, "shape": [-1, *domain.shape]}}
    profile = {"kind": domain.kind, "levels": domain.levels, "labels": domain.labels}
    found = Dataset(
        name=domain.name,
        digest=record["data_digest"][:8],  # A tag has all of it.
        source_type="local",
        source=json.dumps({"uri": f"artifacts/{domain.name}/prepared"}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([tensor]), "targets": None}}),
        profile=json.dumps(profile),
    )
    return DatasetInput(found, [InputTag("mlflow.data.context", "training")])
