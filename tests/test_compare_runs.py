"""Tests of `lookalike compare-runs`, on runs of real stages in a real MLflow store."""

import base64
import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike.domain.image import Image as Images
from lookalike.domain.image import contact_sheet, pixel
from lookalike.report.numbers import describe
from lookalike.report.runs_page import MAX_BYTES, Run, relations, runs_page
from lookalike.tracking.run_samples import Artifacts, sampling_of
from lookalike.tracking.servers import asked_for, record_all
from server_helpers import Server

pytest_plugins = ["pipeline_fixtures"]

Done = subprocess.CompletedProcess[str]

TRAINED = {
    "heights": {
        "vae/1": ("vae", "seed=1"),
        "wide/0": ("vae", "optimizer.lr=2e-3"),
        "independent/0": ("independent",),
    },
    "mnist": {"vae/0": ("vae",), "wide/0": ("vae", "optimizer.lr=2e-3")},
}
"""The cells that are trained beside the VAE of `heights_cell`, by data set and place: family and settings."""


class Store:
    """An MLflow store of the cells in a folder."""

    def __init__(self, folder: Path, call: Callable[..., Done]) -> None:
        self.folder, self.call, self.uri = folder, call, f"sqlite:///{folder}/mlflow.db"
        self.artifacts, self.tracking = folder / "artifacts", tracking(self.uri)

    @property
    def client(self) -> Any:
        forget_stores()
        return next(asked_for(self.tracking)).connect().client

    def runs(self, condition: str = "") -> list[Any]:
        """Return the runs of trained models for which a filter holds."""
        everywhere = [experiment.experiment_id for experiment in self.client.search_experiments()]
        found = self.client.search_runs(everywhere, condition)
        return [run for run in found if "fingerprint" in run.data.tags]

    def compare(self, *arguments: str, fails: bool = False) -> tuple[str, str]:
        """Run the command; return its page and what it printed, or "" and its message."""
        page = self.folder / "page.html"
        page.unlink(missing_ok=True)
        forget_stores()
        settings = (f"tracking.uri={self.uri}", f"paths.artifacts={self.artifacts}")
        done = self.call("compare-runs", *settings, *arguments, "--to", str(page))
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return page.read_text(encoding="utf-8") if page.exists() else "", done.stderr if fails else done.stdout


def tracking(uri: str) -> dict[str, Any]:
    """Return the section `tracking` of a configuration for a store."""
    return {"mlflow": True, "wandb": False, "uri": uri, "experiment": "lookalike"}


def forget_stores() -> None:
    """Delete the variables in which MLflow and the code that calls it remember a store."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]


@pytest.fixture(scope="module", autouse=True)
def own_environment() -> Iterator[None]:
    """MLflow sets variables of this process, and the store of a test must not be another one's."""
    before = dict(os.environ)
    forget_stores()
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory,
    heights_cell: Path,
    few_digits: Path,
    call_stage: Callable[..., Done],
    places: Callable[[Path], list[str]],
    empty_store: Callable[[Path], str],
) -> Store:
    """The runs of `TRAINED` and of `heights_cell`."""
    folder = tmp_path_factory.mktemp("compared")
    for source in (heights_cell, few_digits):
        shutil.copytree(source / "artifacts", folder / "artifacts", dirs_exist_ok=True)
    for data, cells in TRAINED.items():
        for place, (family, *more) in cells.items():
            cell = f"paths.cell={folder}/artifacts/{data}/{place}"
            for stage in ("train", "sample"):
                fixed = (f"data={data}", f"model={family}", "budget=smoke", "tracking=none")
                done = call_stage(stage, *fixed, *more, *places(folder), cell)
                assert done.returncode == 0, done.stderr
    empty_store(folder / "mlflow.db")
    store = Store(folder, call_stage)
    for _ in record_all(store.tracking, store.artifacts, folder / "results"):
        pass
    return store


def samples_of(store: Store, run: Any) -> Any:
    """Return all samples of the cell of a run."""
    data, fingerprint = run.data.tags["data"], run.data.tags["fingerprint"]
    for path in (store.artifacts / data).glob("*/*/train/model.json"):
        if fingerprint in path.read_text(encoding="utf-8"):
            with np.load(path.parents[1] / "sample" / "samples.npz") as file:
                return file["samples"]
    raise AssertionError(fingerprint)


def test_the_same_samples_of_every_run_stand_on_the_page_with_scores_links_and_differences(store: Store) -> None:
    page, printed = store.compare("mnist")
    assert re.fullmatch(r"2 of 2 runs of mnist: \S+page.html\n", printed)
    runs = store.runs("tags.data = 'mnist'")
    for run in runs:
        place = page.index(f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?")
        found = re.search(r'src="data:image/png;base64,([^"]+)"', page[place:])
        assert found
        with Image.open(io.BytesIO(base64.b64decode(found[1]))) as shown:
            expected = contact_sheet(samples_of(store, run)[:64], columns=8, zoom=1)
            assert np.array_equal(np.asarray(shown.convert("L")), np.asarray(expected))
        assert f"<code>optimizer.lr</code> {run.data.params['optimizer.lr']}" in page[place:]
    assert page.count("real data") == 1
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,|#|http://127\.0\.0\.1:5000/#/)', page)


def test_scores_have_errors_and_kinds_and_the_best_comes_first(store: Store) -> None:
    page, _ = store.compare("heights", "--sort", "recall")
    run = next(run for run in store.runs() if "bits_per_dim" in run.data.metrics)
    assert "≤ " in page
    assert "Bits per observation" in page
    assert "Wasserstein-1</dt>" in page
    names = re.findall(r"runs/(\w{32})", page)
    assert names[0] == run.info.run_id, "the only run that was scored"
    assert len(set(names)) == 4
    recall = {
        key: run.data.metrics.get(key, run.data.metrics.get(f"scores/{key}")) for key in ("recall", "recall_error")
    }
    text = describe({"value": recall["recall"], "error": recall["recall_error"]})
    assert f'<dt>Recall</dt><dd class="sorted">{text}</dd>' in page
    assert store.compare("heights", "--limit", "1")[1].startswith("1 of 4 runs")
    only, _ = store.compare("heights", "--limit", "1")
    assert "this page stops after 1 of them" in " ".join(only.split())


def test_data_that_are_not_here_are_left_out_and_the_domain_comes_from_the_store(store: Store, tmp_path: Path) -> None:
    here, _ = store.compare("heights")
    page, _ = store.compare("heights", f"paths.artifacts={tmp_path}")
    assert ("real data" in here, "real data" in page) == (True, False)
    assert (here.count("<svg "), page.count("<svg ")) == (5, 4)


def lines_of(page: str) -> dict[str, tuple[float, bool]]:
    """Return how the places of runs relate, by family: the ratio of distances, and whether they are called similar."""
    found = re.findall(
        r'<tr><th scope="row">([\w ]+)</th><td class="number">\d+</td>\s*<td class="number">([\d.]+) ± [\d.]+</td>\s*'
        r'<td class="text">The same noise gives (similar|unrelated) samples',
        page,
    )
    return {family: (float(ratio), kind == "similar") for family, ratio, kind in found}


def test_runs_of_one_seed_share_their_noise_and_the_page_measures_what_that_means(store: Store) -> None:
    page, _ = store.compare("mnist")
    ratio, similar = lines_of(page)["vae"]
    assert ratio < 0.9
    assert similar
    page, _ = store.compare("heights")
    assert lines_of(page).keys() == {"vae", "other pairs of families"}
    assert "vae, seed 1; noise 1" in page
    assert "<dt>3 runs</dt><dd>seed of the noise 0" in page
    assert "<dt>1 run</dt><dd>seed of the noise 1" in page


def test_the_samples_of_all_runs_are_drawn_again_with_one_seed(store: Store) -> None:
    page, _ = store.compare("heights", "--noise", "5")
    assert "<dt>4 runs</dt><dd>seed of the noise 5" in page
    ratio, similar = lines_of(page)["vae"]
    assert ratio < 0.9
    assert similar
    # The same seed and number as those of the stage give the samples of the stage.
    for run in store.runs("tags.data = 'heights'"):
        kept = samples_of(store, run)
        artifacts = Artifacts(store.client, run.info.run_id)
        drawn = artifacts.draw(sampling_of(run.data.params), count=len(kept), seed=int(run.data.tags["seed"]))
        assert np.array_equal(drawn, kept)


def test_runs_are_chosen_by_filter_id_sweep_and_experiment(store: Store) -> None:
    vae = store.runs("tags.data = 'heights' and tags.model = 'vae'")
    assert store.compare("heights", "--filter", "params.model._target_ LIKE '%vae%'")[1].startswith("3 of 3 runs")
    first, second = (run.info.run_id for run in vae[:2])
    page, printed = store.compare("--runs", f"{first},{second}")
    assert printed.startswith("2 of 2 runs of heights")
    assert {first, second} == set(re.findall(r"runs/(\w{32})", page))
    store.client.set_tag(first, "sweep", "it's")
    assert store.compare("--sweep", "it's")[1].startswith("1 of 1 runs of heights")
    assert store.compare("heights")[1].startswith("4 of 4 runs"), "a mean over seeds has no samples"
    experiment = store.client.get_experiment(vae[0].info.experiment_id).name
    assert store.compare("heights", "--experiment", experiment)[1].startswith("4 of 4 runs")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "runs of several data sets: heights (4 runs), mnist (2 runs); name one: lookalike compare-runs heights"),
        (["nothing"], "no runs: the store has none of nothing"),
        (["heights", "--filter", "metrics.bits <"], "--filter metrics.bits <: "),
        (["heights", "--experiment", "lookalik"], "--experiment lookalik: there are "),
        (["heights", "--sort", "recal"], "--sort recal: no run has it; there are "),
        (["heights", "--runs", "0123"], "--runs 0123: there is no such run"),
        (["heights", "--limit", "0"], "--limit 0: it is a whole number from 1 on"),
        (["heights", "--noise", "-1"], "--noise -1: it must be from 0 to"),
        (["heights", "--noise", "x"], "invalid int value: 'x'; see `lookalike compare-runs --help`"),
        (["heights", "mnist"], "'mnist': give one data set"),
    ],
)
def test_a_choice_of_nothing_is_one_line(store: Store, arguments: list[str], says: str) -> None:
    _, message = store.compare(*arguments, fails=True)
    assert message.startswith("error: ")
    assert says in message
    assert message.count("\n") == 1


def test_a_store_that_does_not_exist_or_answer_is_one_line(call_stage: Callable[..., Done], tmp_path: Path) -> None:
    forget_stores()
    done = call_stage("compare-runs", "heights", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    assert done.stderr.startswith("error: no runs: there is no sqlite:///")
    assert not list(tmp_path.iterdir())
    forget_stores()
    done = call_stage("compare-runs", "heights", "tracking.uri=http://me:secret@127.0.0.1:9")
    assert done.stderr == "error: http://127.0.0.1:9 can't be reached (Connection refused)\n"


def test_runs_without_samples_are_named_and_nothing_in_a_run_is_trusted(store: Store, tmp_path: Path) -> None:
    client, example = store.client, store.runs("tags.data = 'heights'")[0]
    added = []

    def run_with(name: str, **files: bytes) -> None:
        tags = {"data": "heights", "model": "vae", "mlflow.runName": name}
        made = client.create_run(example.info.experiment_id, tags=tags)
        added.append(made.info.run_id)
        for file, content in files.items():
            (tmp_path / file.replace("_", ".")).write_bytes(content)
            client.log_artifact(made.info.run_id, str(tmp_path / file.replace("_", ".")))

    def npz(**arrays: Any) -> bytes:
        content = io.BytesIO()
        np.savez(content, **arrays)
        return content.getvalue()

    picture = io.BytesIO()
    Image.new("RGB", (2000, 1000), "white").save(picture, "PNG")
    try:
        run_with("empty <script>alert(1)</script>")
        run_with("pickle", preview_npz=npz(samples=np.array([print], dtype=object)))
        run_with("other-shape", preview_npz=npz(samples=np.zeros((5, 3))))
        run_with("cut", preview_npz=npz(samples=np.zeros((5, 1)))[:-40])
        run_with("not-a-picture", samples_png=b"<svg onload='alert(1)'/>")
        run_with("picture", samples_png=picture.getvalue())
        page, printed = store.compare("heights")
        assert printed.startswith("5 of 10 runs of heights")
        assert "without samples: " in printed
        without = page[page.index('id="without"') :]
        for name, reason in {
            "empty &lt;script&gt;": "it has no samples (running)",
            "pickle": "preview.npz is damaged",
            "other-shape": "expected an array [N, 1], got (5, 3)",
            "cut": "preview.npz is damaged",
            "not-a-picture": "samples.png is damaged",
        }.items():
            assert re.search(rf"{re.escape(name)}.*</dt><dd>[^<]*{re.escape(reason)}", without), name
        assert "<script" not in page
        assert "<svg onload" not in page
        assert "samples, as the run&#39;s picture shows them" in page or "as the run's picture shows them" in page
        assert "another noise" in page
    finally:
        for run in added:
            client.delete_run(run)


def test_two_families_that_share_their_noise_are_named_only_if_it_shows() -> None:
    generator = np.random.default_rng(0)
    domain = Images(name="noise", shape=(1, 8, 8), variables=(pixel(),))
    first = generator.integers(0, 250, (64, 1, 8, 8), dtype=np.uint8)
    samples = {"a": first, "b": first + 5, "c": generator.integers(0, 250, (64, 1, 8, 8), dtype=np.uint8)}
    common: dict[str, Any] = {"address": "", "seed": "0", "scores": {}, "split": "", "parameters": {}}
    noises = {"d": ("1", "500", "cpu")}
    runs = [
        Run(id=name, name=name, family=name, noise=noises.get(name, ("0", "500", "cpu")), samples=values, **common)
        for name, values in (samples | {"d": first}).items()
    ]
    lines = {line.name: line for line in relations(runs, domain)}
    assert lines.keys() == {"a and b", "other pairs of families"}
    assert lines["a and b"].is_related
    assert lines["a and b"].ratio < 0.1
    assert lines["other pairs of families"].pairs == 2, "the noise of d is another one"
    assert lines["other pairs of families"].ratio == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_samples_come_from_a_server_too(store: Store, tmp_path: Path) -> None:
    server = Server(tmp_path, f"sqlite:///{tmp_path}/mlflow.db")
    try:
        remote = Store(tmp_path, store.call)
        remote.uri, remote.artifacts, remote.tracking = server.uri, store.artifacts, tracking(server.uri)
        forget_stores()
        for _ in record_all(remote.tracking, store.artifacts, tmp_path / "results"):
            pass
        here, _ = store.compare("mnist")
        page, printed = remote.compare("mnist")
        assert printed.startswith("2 of 2 runs of mnist")
        pictures = [sorted(re.findall(r"data:image/png;base64,[^\"]+", text)) for text in (here, page)]
        assert pictures[0] == pictures[1]
        assert page.count(f'href="{server.uri}/#/experiments/') == 2
        assert remote.compare("heights", "--noise", "5")[1].startswith("4 of 4 runs")
    finally:
        server.stop()


def test_a_thousand_runs_of_incompressible_images_stay_below_eight_megabytes() -> None:
    generator = np.random.default_rng(0)
    domain = Images(name="noise", shape=(3, 32, 32), variables=(pixel(),))
    runs = [
        Run(
            id=f"{i:032d}",
            name=f"run {i}",
            address=f"http://127.0.0.1:5000/#/experiments/1/runs/{i:032d}",
            family="vae",
            seed="0",
            noise=("0", "500", "cpu"),
            scores={"frechet_distance": {"value": float(i), "error": 1.0, "kind": "exact"}},
            split="test",
            parameters={f"model.key{k}": str(i) for k in range(40)},
            samples=generator.integers(0, 256, (64, 3, 32, 32), dtype=np.uint8),
        )
        for i in range(1000)
    ]
    page = runs_page(
        runs,
        domain,
        data=None,
        data_name="noise",
        sorted_by="frechet_distance",
        titles={"frechet_distance": "Fréchet distance"},
        chosen="",
        command="",
        store="",
        limit=1000,
        matching=1000,
        versions=1,
        without=[],
        local=True,
        redrawn=False,
    )
    assert len(page.encode()) < MAX_BYTES
    assert page.count("<img ") == 1000
    assert "40 parameters are not equal in all runs, which is too large a table" in page
