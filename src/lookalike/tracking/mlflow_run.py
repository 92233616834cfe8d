"""What one MLflow run holds. Only explicit clients and run ids: an active run would leak."""

import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from lookalike.tracking.content import Content, Point

Lines = dict[str, str]


class Machine:
    """What the machine does while a model trains: MLflow's own system metrics, seen at the end of every interval."""

    def __init__(self, run_id: str, *, step: int) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self.source, self.step = SystemMetricsMonitor(run_id), step
        self.look()  # utilization is that since the last look: the first one tells nothing

    def due(self) -> bool:
        """Every ten seconds, or as MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says."""
        return bool(time.monotonic() - self.looked >= self.source.sampling_interval)

    def look(self) -> list[Point]:
        """Processor, memory, disk, network and GPU since the last look."""
        self.source.collect_metrics()
        seen = self.source.aggregate_metrics()
        for part in self.source.monitors:
            part.clear_metrics()
        self.looked, self.step = time.monotonic(), self.step + 1
        return [Point(f"system/{name}", value, self.step - 1) for name, value in seen.items()]


class MlflowRun:
    """One run, and what it already holds: nothing is told twice."""

    def __init__(self, client: Any, run: Any, *, training: bool) -> None:
        self.client, self.id, self.training = client, run.info.run_id, training
        self.known = run.data
        self.curves: set[tuple[str, int]] | None = None
        self.shown: set[int] | None = None
        self.machine: Machine | None = None
        if training:
            client.update_run(self.id, status="RUNNING")
            seen = client.get_metric_history(self.id, "system/cpu_utilization_percentage") if run.data.metrics else []
            self.machine = Machine(self.id, step=len(seen) - 1)

    def points(self, points: list[Point]) -> None:
        """Losses by step, those that the run doesn't hold."""
        if self.curves is None:
            keys = [key for key in self.known.metrics if key.startswith(("train/", "validation/"))]
            self.curves = {(key, old.step) for key in keys for old in self.client.get_metric_history(self.id, key)}
        new = [point for point in points if (point.key, point.step) not in self.curves]
        self.curves |= {(point.key, point.step) for point in new}
        self._metrics(new)

    def tick(self) -> None:
        """Called every few seconds: looks at the machine when it is time."""
        if self.machine is not None and self.machine.due():
            self._metrics(self.machine.look())

    def preview(self, picture: Path, step: int) -> None:
        """Samples drawn at a step of training, for the slider of the run's charts."""
        from PIL import Image

        if step not in self.previewed():
            with Image.open(picture) as image:
                self.client.log_image(self.id, image, key="samples", step=step)
            self.previewed().add(step)

    def previewed(self) -> set[int]:
        """The steps whose samples the run shows."""
        if self.shown is None:
            names = [Path(file.path).name for file in self.client.list_artifacts(self.id, "images")]
            self.shown = {int(match[1]) for name in names if (match := re.match(r"samples\+step\+(\d+)\+", name))}
        return self.shown

    def recorded(self, stage: str) -> str | None:
        """The digest of what was recorded of a stage, if anything was."""
        return str(self.known.tags[f"recorded.{stage}"]) if f"recorded.{stage}" in self.known.tags else None

    def stage(self, stage: str, content: Content) -> None:
        """All that a stage's folder tells, but for the previews."""
        self.parameters(content.parameters)
        self.points(content.curves)
        self._metrics([point for point in content.results if self.known.metrics.get(clean(point.key)) != point.value])
        self.files(content.files)
        self.tags(content.tags)
        self.tags({f"recorded.{stage}": content.digest})

    def files(self, files: list[Path], folder: str | None = None) -> None:
        """Keep files with the run as they are."""
        for path in files:
            self.client.log_artifact(self.id, str(path), folder)

    def report(self, files: dict[str, list[Path]], digest: str) -> None:
        """Keep a report's files with the run, by the folder that they stand in."""
        for folder, paths in files.items():
            self.files(paths, folder)
        self.tags({"recorded.report": digest})

    def parameters(self, values: Lines) -> None:
        """Settings. MLflow keeps a parameter's first value for ever: another one stands in a tag `now.<key>`."""
        from mlflow.entities import Param

        values = {clean(key): value[:6000] for key, value in values.items()}
        new = [Param(key, value) for key, value in values.items() if key not in self.known.params]
        for batch in batches(new, 100):
            self.client.log_batch(self.id, params=batch)
        changed = {key: value for key, value in values.items() if self.known.params.get(key, value) != value}
        self.tags({f"now.{key}": value for key, value in changed.items()})
        for key in values.keys() - changed.keys():
            if f"now.{key}" in self.known.tags:
                self.client.delete_tag(self.id, f"now.{key}")
        self.known.params.update({param.key: param.value for param in new})

    def tags(self, values: Lines) -> None:
        """Tags, those that differ from what the run has."""
        from mlflow.entities import RunTag

        values = {clean(key): value[:8000] for key, value in values.items()}
        changed = {key: value for key, value in values.items() if self.known.tags.get(key) != value}
        for batch in batches([RunTag(key, value) for key, value in changed.items()], 100):
            self.client.log_batch(self.id, tags=batch)
        self.known.tags.update(changed)

    def _metrics(self, points: list[Point]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(clean(key), value, when or now, step) for key, value, step, when in points]
        for batch in batches(metrics, 1000):
            self.client.log_batch(self.id, metrics=batch)

    def close(self, state: str) -> None:
        """End the run. One that was trained long ago keeps its end, unless a later stage went wrong or is now right."""
        if self.machine is not None:
            self._metrics(self.machine.look())
        status = self.client.get_run(self.id).info.status
        if self.training or status != state:
            self.client.set_terminated(self.id, state)


def clean(key: str) -> str:
    """A key that MLflow takes: it refuses all but letters, digits, `_-. :/`."""
    return re.sub(r"[^\w\-. :/]", "_", key)[:250]


def batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most `size` items."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
