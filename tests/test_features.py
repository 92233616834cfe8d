"""Tests of the classifier as feature extractor: any size and number of channels, shifts, digest, stage."""

import dataclasses
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS, Prepared, Split
from lookalike.evaluation.classes import classes_of
from lookalike.evaluation.distances import compare
from lookalike.evaluation.novelty import copying_test, find_copies, score_real
from lookalike.evaluation.resampling import REPLICATES, parted
from lookalike.features import making as feature_stage
from lookalike.features.classifier import Classifier, load, shifted
from lookalike.features.extraction import extract, features_of
from lookalike.features.extractor import Extractor, save_identity, save_training, training_rows
from lookalike.features.weights import digest
from lookalike.metrics.classes import shares
from lookalike.metrics.duplicates import copies
from lookalike.readers.arrays import write
from lookalike.readers.contract import from_arrays
from lookalike.workspace.configuration import Config, compose
from lookalike.workspace.errors import UserError

RECORD = {"name": "a classifier", "digest": "0"}
"""As much of an extractor's record as extraction needs."""


def classifier(domain: Domain) -> Classifier:
    torch.manual_seed(0)
    return Classifier(domain=dataclasses.replace(domain, labels=("a", "b")), widths=[8, 12], features=6, shift=1,
                      dropout=0.1)  # fmt: skip


@pytest.fixture(params=[(1, 6, 6), (1, 5, 7), (3, 7, 4)], ids=str)
def domain(request: pytest.FixtureRequest, make_domain: Callable[..., Domain]) -> Domain:
    return make_domain(*request.param, levels=8)


class Brightness(torch.nn.Module):
    """Returns the brightness of each image as its one feature."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.float().flatten(1).mean(dim=1, keepdim=True)


def images(domain: Domain, n: int) -> Tensor:
    x = torch.randint(0, domain.levels, (n, *domain.shape), generator=torch.Generator().manual_seed(0))
    return x.to(torch.uint8)


def test_images_of_any_size_become_features(domain: Domain) -> None:
    network = classifier(domain)
    x = images(domain, 10)
    assert network(x).shape == (10, 6)
    losses = network.losses(x, torch.arange(10) % 2)
    losses["loss"].backward()
    assert 0 <= losses["accuracy"] <= 1
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_features_do_not_depend_on_the_batch_and_draw_nothing(domain: Domain) -> None:
    network = classifier(domain).eval()
    x = images(domain, 10).numpy()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    whole = extract(network, x, record=RECORD, batch_size=10)
    assert whole.dtype == np.float32
    for record in (RECORD, RECORD | {"batch_size": 2}):
        parts = extract(network, x, record=record, batch_size=3)
        np.testing.assert_allclose(parts, whole, atol=1e-5)
    rows = np.array([7, 1, 1, 4])
    some = extract(network, x, record=RECORD, batch_size=3, rows=rows)
    np.testing.assert_allclose(some, whole[rows], atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.ptp(whole, axis=0).max() > 1e-3


def test_extraction_and_the_search_for_copies_read_the_training_set_piece_by_piece(tmp_path: Path) -> None:
    shape, size = (20_000, 1, 28, 28), 20_000 * 28 * 28
    np.lib.format.open_memmap(tmp_path / "train.npy", mode="w+", dtype=np.uint8, shape=shape)[:] = 1
    training = np.load(tmp_path / "train.npy", mmap_mode="c")
    tracemalloc.start()
    try:
        extract(Brightness(), training, record=RECORD, batch_size=500, rows=np.arange(0, len(training), 2))
        assert copies(np.ones((100, 1, 28, 28), dtype=np.uint8), training).value == 1
        assert tracemalloc.get_traced_memory()[1] < size / 10
    finally:
        tracemalloc.stop()


def test_every_image_is_shifted_by_a_few_pixels_of_its_own() -> None:
    torch.manual_seed(0)
    x = torch.randint(1, 256, (200, 2, 5, 7)).to(torch.uint8)
    moved = shifted(x, 2)
    assert moved.shape == x.shape
    assert moved.dtype == x.dtype
    padded = torch.nn.functional.pad(x.float(), (2, 2, 2, 2), mode="replicate").to(torch.uint8)
    seen = set()
    for before, after in zip(padded, moved, strict=True):
        places = [(i, j) for i in range(5) for j in range(5) if torch.equal(before[:, i : i + 5, j : j + 7], after)]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 25, "every shift occurs"
    assert torch.equal(shifted(x, 0), x)


def test_the_digest_depends_on_every_weight(make_domain: Callable[..., Domain]) -> None:
    network = classifier(make_domain(1, 6, 6, levels=8))
    name = digest(network.state_dict())
    assert name == digest(classifier(make_domain(1, 6, 6, levels=8)).state_dict())
    assert len(name) == 16
    for key, tensor in network.state_dict().items():
        altered = {**network.state_dict(), key: tensor.clone(memory_format=torch.contiguous_format)}
        altered[key].view(-1)[0] += 1
        assert digest(altered) != name
    network.eval()
    assert digest(network.state_dict()) == name


# The stage, on images whose class is plain to see.


@pytest.fixture(scope="module")
def prepared(make_domain: Callable[..., Domain], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Return grey noise whose left or right half is bright, which is its class."""
    generator = np.random.default_rng(0)
    domain = dataclasses.replace(make_domain(1, 6, 7, levels=256), labels=("left", "right"))
    labels = {split: generator.integers(0, 2, 120, dtype=np.uint8) for split in SPLITS}
    values = {}
    for split in SPLITS:
        x = generator.integers(0, 100, (120, 1, 6, 7), dtype=np.uint8)
        for image, label in zip(x, labels[split], strict=True):
            image[:, :, 4 * label : 3 + 4 * label] += 150
        values[split] = x
    folder = tmp_path_factory.mktemp("prepared")
    write(from_arrays(domain, values, labels, expected={}), folder)
    return Prepared(folder)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    scratch = tmp_path_factory.mktemp("scratch")
    return compose([
        "data=mnist", "tracking=none", "trainer.threads=1", "trainer.checks=2", "data.features.steps=60",
        "data.features.batch_size=20", "data.features.model.widths=[8,12]", "data.features.model.features=6",
        "data.features.model.shift=1", f"paths.scratch={scratch}",
    ])  # fmt: skip


@pytest.fixture(scope="module")
def folder(config: Config, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extractor")
    feature_stage.make_and_save(config, prepared, path)
    return path


def test_the_stage_trains_a_classifier_that_recognizes_the_classes(folder: Path) -> None:
    record = json.loads((folder / "extractor.json").read_text())
    assert record["test_accuracy"] > 0.9
    assert record["features"] == 6


def test_a_classifier_recognizes_colours(config: Config, make_domain: Callable[..., Domain], tmp_path: Path) -> None:
    """Images that differ in hue alone: red or blue squares, equally bright, on white."""
    generator = np.random.default_rng(0)
    domain = make_domain(3, 7, 6, levels=256, labels=("red", "blue"))
    labels = {split: generator.integers(0, 2, 120, dtype=np.uint8) for split in SPLITS}
    values = {split: np.full((120, *domain.shape), 255, dtype=np.uint8) for split in SPLITS}
    for split in SPLITS:
        for image, label in zip(values[split], labels[split], strict=True):
            image[:, 2:5, 1:5] = 60
            image[2 * label, 2:5, 1:5] = generator.integers(150, 256)
    (tmp_path / "prepared").mkdir()
    write(from_arrays(domain, values, labels, expected={}), tmp_path / "prepared")
    prepared = Prepared(tmp_path / "prepared")
    record = feature_stage.make_and_save(config, prepared, tmp_path)
    assert record["test_accuracy"] > 0.9
    seen = classes_of(Extractor(tmp_path, prepared).stored("test"), Extractor(tmp_path, prepared))
    assert np.bincount(seen) == pytest.approx(np.bincount(labels["test"]), abs=12)


def test_stored_features_are_those_of_the_frozen_extractor(folder: Path, prepared: Prepared) -> None:
    extractor = Extractor(folder, prepared)
    assert not extractor.is_identity
    splits: tuple[Split, ...] = ("validation", "test")
    for split in splits:
        stored, values = extractor.stored(split), prepared.values(split)
        np.testing.assert_allclose(features_of(extractor, values, batch_size=50), stored, atol=1e-5)
        assert stored.shape == (120, 6)


def test_stored_training_points_are_those_of_their_rows(
    folder: Path, config: Config, prepared: Prepared, tmp_path: Path
) -> None:
    rows, points, distances, of = Extractor(folder, prepared).training()
    assert (of, rows.tolist()) == (120, list(range(120)))
    expected = features_of(Extractor(folder, prepared), prepared.values("train"), batch_size=50)
    np.testing.assert_allclose(points, expected, atol=1e-5)
    some = training_rows(120, most=50)
    assert len(set(some.tolist())) == 50
    assert (np.diff(some) > 0).all()
    save_training(tmp_path, some, points[some])
    np.save(tmp_path / "train.npy", points[some])
    shutil.copy(folder / "extractor.json", tmp_path)
    kept = Extractor(tmp_path, prepared).training()
    assert (kept.rows == some).all()
    assert (kept.apart >= distances[some] - 1e-6).all()
    assert kept.of == 120


def test_missing_training_features_are_named(folder: Path, prepared: Prepared, tmp_path: Path) -> None:
    shutil.copy(folder / "extractor.json", tmp_path)
    remedy = r"Run `lookalike features data=small` again"
    with pytest.raises(UserError, match=rf"missing or damaged: .*train_rows\.npy .*{remedy}"):
        Extractor(tmp_path, prepared).training()


IMAGES = {
    "frechet_distance", "frechet_distance_infinite", "kernel_distance", "class_distance", "class_gap",
    "classifier_confidence",
}  # fmt: skip
POINTS = {
    "precision", "recall", "density", "coverage", "nearest_sample_distance", "classifier_accuracy", "energy_distance",
    "sliced_wasserstein",
}  # fmt: skip
TESTS = {"kernel_distance", "classifier_accuracy", "energy_distance", "sliced_wasserstein", "data_copying"}
NEW = {"authenticity", "data_copying", "duplicates", "training_copies"}


def test_every_score_of_images_has_an_error_and_a_protocol_and_every_test_a_p_value(
    folder: Path, prepared: Prepared
) -> None:
    extractor = Extractor(folder, prepared)
    values, features = np.array(prepared.values("validation")), extractor.stored("validation")
    close, (new, details) = compare(features, extractor), find_copies(values, features, extractor)
    assert close.keys() == IMAGES | POINTS
    assert new.keys() == NEW
    entries, replicates = parted(close | new)
    for name, entry in entries.items():
        assert np.isfinite([entry["value"], entry["standard_error"]]).all(), name
        assert entry["samples"] == 120
        assert {"reference", "extractor", "error_of"} <= entry.keys()
        assert ("p_value" in entry) == (name in TESTS)
        assert 0 <= entry.get("p_value", 0) <= 1
        both = {f"{name}/{part}" for part in ("joint", "samples", "reference")}
        assert both & replicates.keys() == (set() if entry.get("rankable", True) is False else both)
        if both <= replicates.keys():
            assert entry["standard_error"] == pytest.approx(replicates[f"{name}/joint"].std(ddof=1))
            assert {"error_samples", "error_reference"} <= entry.keys()
        else:
            assert entry["why_not_ranked"]
    json.dumps(entries, allow_nan=False)
    assert close["kernel_distance"]["p_value"] > 0.001
    assert 0.5 < close["classifier_confidence"]["value"] <= 1
    assert close["precision"]["settings"] == {"neighbours": 5}
    assert details["nearest_training_rows"].shape == (64,)


def test_training_images_as_samples_are_caught_and_held_out_ones_are_not(folder: Path, prepared: Prepared) -> None:
    extractor = Extractor(folder, prepared)

    def scores(split: Split) -> dict[str, float]:
        values = np.array(prepared.values(split))
        entries, details = find_copies(values, features_of(extractor, values, batch_size=50), extractor)
        if split == "train":
            assert (details["nearest_training_rows"] == np.arange(64)).all()
            assert details["nearest_training_distances"].max() < 1e-3
        return {name: entry["value"] for name, entry in entries.items()}

    copied, fresh = scores("train"), scores("validation")
    assert copied["authenticity"] < 0.05 < 0.25 < fresh["authenticity"]
    assert copied["data_copying"] < -5 < fresh["data_copying"]
    assert (copied["training_copies"], fresh["training_copies"]) == (1, 0)
    assert copied["duplicates"] == 0


def test_the_copying_test_has_one_cell_where_a_cell_has_no_test_point() -> None:
    generator = np.random.default_rng(0)
    training, test = (generator.normal(size=(600, 2)) for _ in range(2))
    training[:30] += 50
    score, cells = copying_test(training[:30] + 0.001, test, training)
    assert cells == 1
    assert score.p_value is not None
    assert score.p_value < 0.01
    assert copying_test(test[:300], test, training)[1] == 10


def test_too_few_samples_are_refused_with_the_remedy(folder: Path, prepared: Prepared) -> None:
    extractor = Extractor(folder, prepared)
    with pytest.raises(UserError, match=r"19 points of samples.*at least 20: raise budget\.samples"):
        compare(extractor.stored("validation")[:19], extractor)


def test_only_held_out_real_data_are_searched_for_copies(make_domain: Callable[..., Domain], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    domain = dataclasses.replace(make_domain(1, levels=4096), labels=())
    counts: dict[Split, int] = {"train": 400, "validation": 60, "test": 80}
    values = {split: domain.to_values(generator.integers(0, 4096, (count, 1))) for split, count in counts.items()}
    labels = {split: np.zeros(0, dtype=np.uint8) for split in SPLITS}
    write(from_arrays(domain, values, labels, expected={}), tmp_path)
    prepared = Prepared(tmp_path)
    save_identity(tmp_path, prepared)
    scored, entries, details, replicates = score_real(prepared, Extractor(tmp_path, prepared), count=200)
    assert len(scored) == entries["energy_distance"]["samples"] == 200
    assert entries["energy_distance"]["source"] == "validation and train"
    assert entries["authenticity"]["samples"] == entries["training_copies"]["samples"] == 60
    assert entries["authenticity"]["source"] == "validation"
    assert entries["authenticity"]["value"] > 0.2
    assert entries["training_copies"]["value"] < 0.3
    assert entries.keys() == POINTS | NEW | {"wasserstein_1", "kolmogorov_smirnov"}
    assert len(details["nearest_training_rows"]) == 60
    assert replicates["wasserstein_1/joint"].shape == (REPLICATES,)


def test_values_that_share_a_grid_point_have_precision_and_coverage(
    make_domain: Callable[..., Domain], tmp_path: Path
) -> None:
    """On a coarse grid more than five points share a grid point, and the balls around them would be empty."""
    generator = np.random.default_rng(0)
    domain = make_domain(1, levels=16)
    values = {split: domain.to_values(generator.integers(0, 16, (300, 1))) for split in SPLITS}
    write(from_arrays(domain, values, dict.fromkeys(SPLITS, np.zeros(0, dtype=np.uint8)), expected={}),
          tmp_path)  # fmt: skip
    prepared = Prepared(tmp_path)
    save_identity(tmp_path, prepared)
    scores = compare(values["validation"], Extractor(tmp_path, prepared))
    for name in ("precision", "recall", "coverage"):
        assert scores[name]["value"] > 0.9
        assert scores[name]["settings"]["dequantized"]
    narrow = compare(domain.to_values(np.full((300, 1), 7)), Extractor(tmp_path, prepared))
    assert narrow["coverage"]["value"] < 0.2 < 0.9 < narrow["precision"]["value"]


def test_rounded_training_values_do_not_change_which_class_samples_between_them_have(
    make_domain: Callable[..., Domain], tmp_path: Path
) -> None:
    """Nine of ten people round their height; samples between round numbers must not get the class of the tenth."""
    domain = dataclasses.replace(make_domain(1, levels=400), labels=("left", "right"))
    counts: dict[Split, int] = {"train": 600, "validation": 100, "test": 400}
    errors = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        values, labels = {}, {}
        for split, count in counts.items():
            labels[split] = generator.integers(0, 2, count, dtype=np.uint8)
            x = generator.normal(170 + 30 * labels[split], 25)[:, None].clip(0, 399)
            rounded = np.where(generator.random(x.shape) < 0.9, 10 * np.round(x / 10), x)
            values[split] = domain.to_values(rounded.astype(np.int64))
        folder = tmp_path / str(seed)
        folder.mkdir()
        write(from_arrays(domain, values, labels, expected={}), folder)
        prepared = Prepared(folder)
        save_identity(folder, prepared)
        extractor = Extractor(folder, prepared)
        samples = generator.normal(170 + 30 * generator.integers(0, 2, (5000, 1)), 25).clip(0, 399)
        sets = domain.to_values(samples.round().astype(np.int64)), extractor.stored("test")
        found, expected = (shares(np.bincount(classes_of(points, extractor), minlength=2)) for points in sets)
        errors.append(found[0] - expected[0])
    assert abs(np.mean(errors)) < 3 * np.std(errors, ddof=1) / np.sqrt(20)
    assert np.std(errors, ddof=1) < 0.05


def test_samples_of_one_class_have_the_others_share_as_class_distance(folder: Path, prepared: Prepared) -> None:
    extractor = Extractor(folder, prepared)
    x, labels = prepared.values("validation"), prepared.labels("validation")
    scores = compare(features_of(extractor, x[labels == 0], batch_size=50), extractor)
    assert scores["class_distance"]["counts"] == [int((labels == 0).sum()), 0]
    right = scores["class_distance"]["reference_counts"][1] / 120
    assert right == pytest.approx((prepared.labels("test") == 1).mean(), abs=0.03)
    assert scores["class_distance"]["value"] == pytest.approx(right)
    assert scores["class_gap"]["value"] == pytest.approx(right)
    assert scores["class_gap"]["short"] == ["right"]
    assert scores["class_distance"]["extractor_digest"] == extractor.record["digest"]


def test_counted_classes_are_the_predictions_of_the_classifier(folder: Path, prepared: Prepared) -> None:
    extractor = Extractor(folder, prepared)
    network = load(extractor.record, prepared.domain, folder)
    with torch.inference_mode():
        seen = network.head(network(torch.from_numpy(np.array(prepared.grid("test"))))).argmax(dim=1)
    assert classes_of(extractor.stored("test"), extractor).tolist() == seen.tolist()


def test_damaged_weights_of_a_classifier_are_named(folder: Path, prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "weights.safetensors").write_bytes(b"cut off")
    extractor = Extractor(tmp_path, prepared)
    with pytest.raises(UserError, match=r"damaged: .*weights\.safetensors .*Run the features stage again"):
        compare(extractor.stored("test"), extractor)


def test_the_stage_gives_the_same_bytes_again(folder: Path, config: Config, prepared: Prepared, tmp_path: Path) -> None:
    scratch = config.paths.model_copy(update={"scratch": str(tmp_path / "scratch")})
    (tmp_path / "again").mkdir()
    feature_stage.make_and_save(config.model_copy(update={"paths": scratch}), prepared, tmp_path / "again")
    assert (tmp_path / "again" / "extractor.json").read_bytes() == (folder / "extractor.json").read_bytes()
    assert (tmp_path / "again" / "test.npy").read_bytes() == (folder / "test.npy").read_bytes()


def test_other_weights_than_the_record_names_are_refused(folder: Path, prepared: Prepared) -> None:
    record = json.loads((folder / "extractor.json").read_text())
    with pytest.raises(UserError, match=r"not those of extractor 0123456789abcdef; run the features stage"):
        load(record | {"digest": "0123456789abcdef"}, prepared.domain, folder)


def test_tables_are_compared_in_their_values(
    config: Config, make_domain: Callable[..., Domain], tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    domain = make_domain(2, levels=16)
    values = {split: domain.to_values(generator.integers(0, 16, (30, 2))) for split in SPLITS}
    labels = {split: np.zeros(30, dtype=np.uint8) for split in SPLITS}
    write(from_arrays(dataclasses.replace(domain, labels=("one",)), values, labels, expected={}), tmp_path)
    with pytest.raises(UserError, match="this extractor takes data of kind image, small is table"):
        feature_stage.make_and_save(config, Prepared(tmp_path), tmp_path)
    save_identity(tmp_path, Prepared(tmp_path))
    extractor = Extractor(tmp_path, Prepared(tmp_path))
    rows, points, distances, of = extractor.training()
    assert np.array_equal(points, values["train"])
    assert rows.tolist() == list(range(30))
    assert of == len(distances) == 30
    assert extractor.is_identity
    assert features_of(extractor, values["test"], batch_size=3) is values["test"]
    assert np.array_equal(extractor.stored("train"), values["train"])


def test_a_folder_without_features_is_named(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no features in .*run `lookalike features data=small` first"):
        Extractor(tmp_path, prepared)
