"""Tests of users' mistakes and broken files: one line with the value and the fix, status 1, and no result is lost."""

import gzip
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest_plugins = ["pipeline_fixtures"]

Contents = Callable[[Path], dict[str, str]]


@pytest.fixture
def work(heights_cell: Path, tmp_path: Path) -> Path:
    """A copy of a whole cell of heights, to be damaged."""
    shutil.copytree(heights_cell, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
    return tmp_path


@pytest.fixture
def refused(
    call_stage: Callable[..., Any], places: Callable[[Path], list[str]], contents: Contents
) -> Callable[..., str]:
    """`refused(folder, stage, *overrides)`: the one line it says, once its artifacts are found to be what they were."""

    def check(folder: Path, stage: str, *overrides: str) -> str:
        before = contents(folder / "artifacts")
        done = call_stage(stage, "budget=smoke", "tracking=none", *places(folder), *overrides)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 1, done.stdout + done.stderr
        assert contents(folder / "artifacts") == before
        said = [line for line in done.stderr.strip().splitlines() if not line.startswith("Seed set")]
        assert len(said) == 1, done.stderr
        assert said[0].startswith("error: ")
        line: str = said[0]
        return line

    return check


# Raw data

IMAGES = "mnist/train-images-idx3-ubyte.gz"
LABELS = "mnist/t10k-labels-idx1-ubyte.gz"
TABLE = "heights/galton_families.csv"


def altered(content: bytes) -> bytes:
    return content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]


RAW_DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "images missing": (IMAGES, Path.unlink, "raw data missing"),
    "images cut off": (IMAGES, lambda p: p.write_bytes(p.read_bytes()[:100_000]), "raw data damaged"),
    "labels are no gzip": (LABELS, lambda p: p.write_bytes(b"<html>404</html>"), "raw data damaged"),
    "labels empty": (LABELS, lambda p: p.write_bytes(b""), "raw data"),
    "labels altered": (
        LABELS,
        lambda p: p.write_bytes(gzip.compress(altered(gzip.decompress(p.read_bytes())))),
        "raw data altered",
    ),
    "table missing": (TABLE, Path.unlink, "raw data missing"),
    "table cut off": (TABLE, lambda p: p.write_bytes(p.read_bytes()[:500]), "raw data altered"),
    "table altered": (TABLE, lambda p: p.write_bytes(altered(p.read_bytes())), "raw data altered"),
    "table empty": (TABLE, lambda p: p.write_bytes(b""), "raw data altered"),
}


@pytest.mark.parametrize("damage", RAW_DAMAGE)
def test_raw_data_that_are_not_what_was_published_are_named_with_the_cure(
    damage: str, work: Path, checkout: Path, refused: Callable[..., str]
) -> None:
    file, spoil, complaint = RAW_DAMAGE[damage]
    shutil.copytree(checkout / "data", work / "data")
    (work / "data" / file).chmod(0o644)
    spoil(work / "data" / file)
    line = refused(work, "prepare", f"data={file.split('/')[0]}", f"paths.data={work / 'data'}")
    assert complaint in line
    assert str(work / "data" / file) in line
    assert "`lookalike data`" in line


def test_a_data_folder_without_the_data_set_is_named_with_the_cure(work: Path, refused: Callable[..., str]) -> None:
    line = refused(work, "prepare", "data=heights", f"paths.data={work / 'nowhere'}")
    assert str(work / "nowhere" / TABLE) in line
    assert "`lookalike data` brings" in line


@pytest.mark.parametrize(
    "setting",
    [
        "data.reader.validation=abc",
        "data.reader.validation=1.5",
        "data.reader.validation=0",
        "data.reader.test=-0.1",
        "data.reader.test=0.95",
        "data.reader.validation=0.0001",
        "data.reader.seed=-1",
        "data.reader.seed=null",
        "+data.reader.validaton=0.1",
    ],
)
def test_a_reader_s_setting_out_of_type_or_range_is_named(
    setting: str, work: Path, refused: Callable[..., str]
) -> None:
    line = refused(work, "prepare", "data=heights", setting)
    key = setting.split("=")[0].lstrip("+").split(".")[-1]
    assert key in line
    assert "data.reader" in line


@pytest.mark.parametrize(
    ("setting", "split", "count"),
    [("data.reader.test=0.01", "test", 9), ("data.reader.validation=0.02", "validation", 19)],
)
def test_a_split_too_small_to_score_samples_against_is_refused_before_anything_is_trained(
    setting: str, split: str, count: int, work: Path, refused: Callable[..., str]
) -> None:
    line = refused(work, "prepare", "data=heights", setting)
    said = f"{setting}: the {split} split of heights has {count} observations, and scoring needs at least 20"
    assert line == f"error: {said}; hold out more, or add data"


def test_samples_too_few_to_be_scored_are_not_drawn(work: Path, refused: Callable[..., str]) -> None:
    line = refused(work, "sample", "data=heights", "model=vae", "budget.samples=19")
    assert line == "error: budget.samples=19: scoring needs at least 20"


def test_a_table_is_described_column_by_column(
    tmp_path: Path, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    done = call_stage("prepare", "data=gaussian", "data.reader.train=50", *places(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "  train: 50 observations"
    values = np.load(tmp_path / "artifacts" / "gaussian" / "prepared" / "train.npy") * 0.03125 - 7.984375
    column = values[:, 1]
    moments = f"mean {round(float(column.mean()), 4):g} ± {round(float(column.std()), 4):g}"
    assert lines[3] == f"    column 1 (unit), {column.min():g} to {column.max():g}, {moments}"
    assert lines[8:] == ["    and 26 more columns", "  validation: 5000 observations", "  test: 10000 observations"]


# Settings that only meet the data when a stage runs


@pytest.mark.parametrize(
    ("stage", "setting"),
    [
        ("train", "data.batch_size=100000"),
        ("train", "model.components=0"),
        ("train", "model.sizes.table.hidden=[]"),
        ("train", "+model.depth=3"),
        ("train", "optimizer=null"),
        ("train", "+likelihood.samples=3"),
        ("train", "likelihood.importance_samples=0"),
        ("train", "likelihood=null"),
        ("sample", "+sampling.steps=-1"),
        ("evaluate", "likelihood.importance_samples=many"),
    ],
)
def test_a_setting_that_does_not_go_with_the_model_or_the_data_is_named(
    stage: str, setting: str, work: Path, refused: Callable[..., str]
) -> None:
    line = refused(work, stage, "data=heights", "model=vae", setting)
    assert setting.split("=")[0].lstrip("+") in line


def test_a_setting_of_the_model_that_came_too_late_is_told(
    work: Path, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    quick = ("data=heights", "model=vae", "budget=smoke", "tracking=none", *places(work))
    assert "trained with" not in call_stage("sample", *quick).stderr
    done = call_stage("sample", *quick, "model.components=3", "model.sizes.table.hidden=[8]")
    assert done.returncode == 0
    assert "note: heights-vae was trained with model.components=4, not 3, and is used as it was trained" in done.stderr
    assert "hidden=[64, 64], not [8]" in done.stderr


@pytest.mark.parametrize("setting", ["sampling.steps=-1", "sampling.solver=leapfrog", "sampling.tolerance=-1"])
def test_a_solver_s_setting_out_of_range_is_named_before_training(
    setting: str, work: Path, refused: Callable[..., str]
) -> None:
    line = refused(work, "train", "data=heights", "model=flow_matching", setting)
    key, _, value = setting.partition("=")
    assert key in line
    assert value in line


def test_a_solver_s_setting_that_it_does_not_take_is_named_with_its_section(
    work: Path, refused: Callable[..., str]
) -> None:
    line = refused(work, "train", "data=heights", "model=flow_matching", "likelihood.solver=dopri5")
    assert line.startswith("error: likelihood: solver=dopri5, steps=")
    assert "it takes a tolerance and no steps" in line


def test_samples_of_another_model_are_not_scored(
    work: Path, refused: Callable[..., str], call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    settings = ("data=heights", "model=vae", "data.batch_size=64")
    done = call_stage("train", *settings, "budget=smoke", "tracking=none", *places(work))
    assert done.returncode == 0, done.stderr
    line = refused(work, "evaluate", *settings)
    assert "samples of another model" in line
    assert line.endswith("Run `lookalike sample data=heights model=vae` again")
    folder = work / "artifacts" / "heights" / "vae" / "0" / "sample"
    shutil.rmtree(folder)
    line = refused(work, "evaluate", *settings)
    remedy = "run `lookalike sample data=heights model=vae` first"
    assert line == f"error: no samples in {folder / 'samples.npz'}: {remedy}"


def test_a_stage_that_is_asked_to_sweep_says_what_does(work: Path, refused: Callable[..., str]) -> None:
    line = refused(work, "train", "-m", "data=heights", "seed=0,1")
    assert line == "error: -m: a stage has one configuration; `lookalike sweep -m …` runs many"


def test_an_optimizer_for_a_model_that_is_not_trained_is_refused(work: Path, refused: Callable[..., str]) -> None:
    line = refused(work, "train", "data=heights", "model=independent", "++optimizer.lr=0.1")
    assert "optimizer" in line


@pytest.mark.parametrize(
    "setting",
    [
        "+data.features.model.feature=3",
        "data.features.model.dropout=much",
        "data.features.model.dropout=1",
        "data.features.model.features=0",
        "data.features.model.shift=-1",
        "data.features.model.widths=[8]",
        "data.features.steps=0",
        "data.features.optimizer.lr=0",
        "+data.features.weights=w.pth",
    ],
)
def test_a_wrong_setting_of_the_extractor_is_named(
    setting: str, few_digits: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    shutil.copytree(few_digits, tmp_path, dirs_exist_ok=True)
    assert setting.split("=")[0].lstrip("+") in refused(tmp_path, "features", "data=mnist", setting)


def test_a_batch_larger_than_the_data_of_the_extractor_is_named(
    few_digits: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    shutil.copytree(few_digits, tmp_path, dirs_exist_ok=True)
    line = refused(tmp_path, "features", "data=mnist", "data.features.batch_size=301")
    assert "data.features.batch_size" in line
    assert "301" in line
    assert "the training set holds 300" in line
    assert "set data.features to a smaller extractor" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(work: Path, refused: Callable[..., str]) -> None:
    line = refused(work, "train", "data=heights", "model=vae", "trainer=gpu")
    assert "trainer.accelerator" in line or "trainer=gpu" in line


@pytest.mark.parametrize("setting", ["budget.likelihood.most=1", "budget.samples=1"])
def test_too_few_points_for_an_error_are_refused_or_scored_but_never_crash(
    setting: str, work: Path, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    quick = ["data=heights", "model=vae", "budget=smoke", "tracking=none", *places(work)]
    for stage in ("sample", "evaluate"):
        done = call_stage(stage, *quick, setting, "budget.likelihood.least=1")
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0 or setting.split("=")[0] in done.stderr


# Stages in the wrong order


@pytest.mark.parametrize(
    ("stage", "gone", "cure"),
    [
        ("features", "prepared", "lookalike prepare data=heights"),
        ("train", "prepared", "lookalike prepare data=heights"),
        ("sample", "prepared", "lookalike prepare data=heights"),
        ("sample", "vae/0/train", "lookalike train data=heights model=vae"),
        ("evaluate", "vae/0/train", "lookalike train data=heights model=vae"),
        ("evaluate", "vae/0/sample", "sample"),
        ("evaluate", "features", "lookalike features data=heights"),
        ("real", "features", "lookalike features data=heights"),
    ],
)
def test_a_stage_without_the_one_before_it_says_which_to_run(
    stage: str, gone: str, cure: str, work: Path, refused: Callable[..., str]
) -> None:
    shutil.rmtree(work / "artifacts" / "heights" / gone)
    line = refused(work, stage, "data=heights", "model=vae")
    assert str(work / "artifacts" / "heights" / gone) in line
    assert cure in line


# Damaged and foreign files


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("prepared/domain.json", "train"),
        ("prepared/summary.json", "train"),
        ("prepared/train.npy", "train"),
        ("prepared/validation.npy", "train"),
        ("vae/0/train/model.json", "sample"),
        ("vae/0/train/weights.safetensors", "sample"),
        ("vae/0/train/weights.safetensors", "evaluate"),
        ("vae/0/sample/samples.npz", "evaluate"),
        ("features/extractor/extractor.json", "evaluate"),
    ],
)
@pytest.mark.parametrize("damage", ["cut off", "empty"])
def test_a_damaged_file_is_named(file: str, stage: str, damage: str, work: Path, refused: Callable[..., str]) -> None:
    path = work / "artifacts" / "heights" / file
    cut_off(path) if damage == "cut off" else path.write_bytes(b"")
    assert str(path) in refused(work, stage, "data=heights", "model=vae")


def test_weights_with_nan_are_not_scored(work: Path, refused: Callable[..., str]) -> None:
    from safetensors.torch import load_file, save_file

    path = work / "artifacts" / "heights" / "vae" / "0" / "train" / "weights.safetensors"
    state = load_file(path)
    save_file({name: torch.full_like(tensor, torch.nan) for name, tensor in state.items()}, path)
    assert "NaN" in refused(work, "evaluate", "data=heights", "model=vae")


def test_an_infinite_likelihood_is_named_and_nothing_is_scored(
    work: Path, refused: Callable[..., str], call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    from safetensors.torch import load_file, save_file

    quick = ["data=heights", "model=independent", "budget=smoke", "tracking=none", *places(work)]
    for stage in ("train", "sample"):
        assert call_stage(stage, *quick).returncode == 0
    path = work / "artifacts" / "heights" / "independent" / "0" / "train" / "weights.safetensors"
    state = load_file(path)
    save_file({name: torch.full_like(tensor, -torch.inf) for name, tensor in state.items()}, path)
    line = refused(work, "evaluate", "data=heights", "model=independent")
    assert "test points is NaN or infinite, the first in row" in line


def test_a_loss_that_is_nan_ends_training_with_its_step_and_keeps_what_was_there(
    work: Path, refused: Callable[..., str]
) -> None:
    line = refused(work, "train", "data=heights", "model=vae", "optimizer.lr=1e30", "trainer.checks=1")
    assert re.search(r"the loss is (nan|inf) at step \d+: .*optimizer\.lr", line), line


def test_a_loss_that_is_nan_on_validation_data_ends_training_at_that_check(
    work: Path, refused: Callable[..., str]
) -> None:
    line = refused(work, "train", "data=heights", "model=vae", "optimizer.lr=1e30", "trainer.checks=100000")
    assert re.search(r"the loss on validation data is (nan|inf) after 1 steps: .*optimizer\.lr", line), line


@pytest.mark.parametrize("count", ["0", "-5", "1", "1e3"])
def test_a_number_of_samples_that_is_none_is_named(count: str, work: Path, refused: Callable[..., str]) -> None:
    assert "budget.samples" in refused(work, "sample", "data=heights", "model=vae", f"budget.samples={count}")


def test_weights_of_another_data_set_are_refused(work: Path, few_digits: Path, refused: Callable[..., str]) -> None:
    shutil.copytree(few_digits, work, dirs_exist_ok=True)
    shutil.copytree(work / "artifacts" / "heights" / "vae", work / "artifacts" / "mnist" / "vae")
    for stage in ("sample", "evaluate"):
        line = refused(work, stage, "data=mnist", "model=vae")
        assert "weights of another domain" in line
        assert "heights" in line
        assert "mnist" in line


def test_weights_of_another_model_are_refused(work: Path, refused: Callable[..., str]) -> None:
    shutil.copytree(work / "artifacts" / "heights" / "vae", work / "artifacts" / "heights" / "flow_matching")
    assert "flow_matching" in refused(work, "sample", "data=heights", "model=flow_matching")


def test_weights_of_the_same_data_in_other_units_are_refused_by_what_differs(
    work: Path, refused: Callable[..., str], call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    done = call_stage("prepare", "data=heights", "data.reader.test=0.3", "tracking=none", *places(work))
    assert done.returncode == 0, done.stderr
    line = refused(work, "sample", "data=heights", "model=vae")
    assert "weights of another domain" in line
    then, _, now = line.partition("was trained on ")[2].partition(", the data are ")
    assert then != now.partition(". Train again: ")[0], line
    assert now.endswith("`lookalike train data=heights model=vae`"), line


def test_weights_of_another_split_of_the_same_data_are_refused(work: Path, refused: Callable[..., str]) -> None:
    folder = work / "artifacts" / "heights" / "prepared"
    summary = json.loads((folder / "summary.json").read_text())
    # The same domain, but what was training data may be test data now.
    (folder / "summary.json").write_text(json.dumps(summary | {"digest": "0" * 64}))
    assert "data" in refused(work, "evaluate", "data=heights", "model=vae")


# Samples, which another program may have written


class Payload:
    """A pickle that leaves a mark where it is opened."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.mark,))


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FEW = np.full((10, 1), 64.5)
SAMPLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "NaN": (lambda p: np.savez(p, samples=np.where(np.arange(10)[:, None] == 3, np.nan, FEW)), "1 values are NaN"),
    "infinite": (lambda p: np.savez(p, samples=FEW / 0), "10 values are NaN or infinite"),
    "off the grid": (lambda p: np.savez(p, samples=FEW + 0.04), "64.54"),
    "out of range": (lambda p: np.savez(p, samples=FEW * 10), "645"),
    "too many dimensions": (lambda p: np.savez(p, samples=FEW[:, None]), "(10, 1, 1)"),
    "too few dimensions": (lambda p: np.savez(p, samples=FEW[:, 0]), "(10,)"),
    "another width": (lambda p: np.savez(p, samples=np.hstack([FEW, FEW])), "(10, 2)"),
    "another type": (lambda p: np.savez(p, samples=FEW.astype(np.float32)), "float32"),
    "integers": (lambda p: np.savez(p, samples=FEW.astype(np.int64)), "int64"),
    "text": (lambda p: np.savez(p, samples=FEW.astype("U5")), "<U5"),
    "another name": (lambda p: np.savez(p, heights=FEW), "'samples', only heights"),
    "nothing": (lambda p: np.savez(p), "'samples', only nothing"),
    "no samples": (lambda p: np.savez(p, samples=FEW[:0]), "no samples"),
    "one sample": (lambda p: np.savez(p, samples=FEW[:1]), "1 samples"),
    "an array alone": (lambda p: p.write_bytes(b"\x93NUMPY\x01\x00"), "damaged"),
    "no archive": (lambda p: p.write_bytes(b"<html>404</html>"), "damaged"),
    "a folder": (become_a_folder, "no samples"),
    "objects": (
        lambda p: np.savez(p, allow_pickle=True, samples=np.array([[Payload(str(p.parent / "mark"))]], dtype=object)),
        "damaged",
    ),
    "a pickle": (lambda p: p.write_bytes(pickle.dumps(Payload(str(p.parent / "mark")))), "damaged"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("what", SAMPLES)
def test_samples_that_are_not_on_the_domain_are_refused_and_nothing_in_them_runs(
    what: str, work: Path, refused: Callable[..., str]
) -> None:
    write, complaint = SAMPLES[what]
    path = work / "artifacts" / "heights" / "vae" / "0" / "sample" / "samples.npz"
    write(path)
    line = refused(work, "evaluate", "data=heights", "model=vae")
    assert str(path) in line
    assert complaint in line
    assert not (path.parent / "mark").exists()


@pytest.fixture
def scored(work: Path, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]) -> Path:
    """A cell and the real data, all that a comparison takes."""
    done = call_stage("real", "data=heights", "budget=smoke", "tracking=none", *places(work))
    assert done.returncode == 0, done.stderr
    return work


def test_samples_of_another_model_are_refused(scored: Path, refused: Callable[..., str]) -> None:
    """As they are after a training by hand."""
    cost = scored / "artifacts" / "heights" / "vae" / "0" / "sample" / "cost.json"
    cost.write_text(json.dumps(json.loads(cost.read_text()) | {"fingerprint": "0123456789abcdef"}))
    for stage in ("evaluate", "compare"):
        assert "another model" in refused(scored, stage, "data=heights", "model=vae")


def test_one_class_is_asked_of_sample_alone(work: Path, refused: Callable[..., str]) -> None:
    assert "label=female" in refused(work, "evaluate", "data=heights", "model=vae", "label=female")


def test_more_threads_than_cores_are_refused(work: Path, refused: Callable[..., str]) -> None:
    assert "cores" in refused(work, "sample", "data=heights", "model=vae", "trainer.threads=100000")


def test_a_record_without_what_it_should_say_is_named(work: Path, refused: Callable[..., str]) -> None:
    for name in (
        "vae/0/train/model.json",
        "prepared/domain.json",
        "prepared/summary.json",
        "features/extractor/extractor.json",
    ):
        path = work / "artifacts" / "heights" / name
        before = path.read_text()
        for damage in ("{}", "[1]"):
            path.write_text(damage)
            assert f"damaged: {path}" in refused(work, "evaluate", "data=heights", "model=vae")
        path.write_text(before)


# Places that can't be written to


@pytest.mark.parametrize("name", ["thesis.txt", ".git/HEAD"])
def test_a_folder_of_the_user_s_own_is_not_replaced_by_a_report(
    name: str, scored: Path, tmp_path: Path, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    (tmp_path / "own" / name).parent.mkdir(parents=True)
    (tmp_path / "own" / name).write_text("mine")
    done = call_stage("compare", "tracking=none", *places(scored), f"paths.results={tmp_path / 'own'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own" / name).read_text() == "mine"
    assert (tmp_path / "own" / "leaderboard.md").is_file()


def test_an_output_folder_that_is_a_file_is_named(work: Path, refused: Callable[..., str]) -> None:
    shutil.rmtree(work / "artifacts" / "heights" / "vae")
    (work / "artifacts" / "heights" / "vae").write_text("not a folder")
    line = refused(work, "train", "data=heights", "model=vae")
    assert f"cannot write to {work / 'artifacts' / 'heights' / 'vae' / '0' / 'train'}" in line


def test_a_scratch_folder_that_is_a_file_is_named(work: Path, refused: Callable[..., str]) -> None:
    (work / "scratch").write_text("not a folder")
    assert str(work / "scratch") in refused(work, "train", "data=heights", "model=vae", "seed=5")


@pytest.mark.parametrize("earlier", [False, True])
def test_a_read_only_folder_is_named_before_any_work(
    earlier: bool, tmp_path: Path, checkout: Path, run: Callable[..., Any], places: Callable[[Path], list[str]],
    contents: Contents,
) -> None:  # fmt: skip
    cell = tmp_path / "artifacts" / "heights"
    cell.mkdir(parents=True)
    if earlier:
        (cell / "prepared").mkdir()
        (cell / "prepared" / "domain.json").write_text("of an earlier run")
    before = contents(tmp_path)
    # A superuser may write everywhere, unless that is taken away.
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if drop and not shutil.which("setpriv"):
        pytest.skip("the superuser can't give up writing everywhere here")
    cell.chmod(0o555)
    script = str(checkout / "pipelines" / "prepare.py")
    done = run(checkout, *drop, sys.executable, script, "data=heights", *places(tmp_path))
    cell.chmod(0o755)
    assert done.returncode == 1, done.stdout
    assert done.stderr == f"error: cannot write to {cell / 'prepared'}: Permission denied\n"
    assert contents(tmp_path) == before
