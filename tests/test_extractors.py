"""Tests of the self-supervised encoder: its views, its loss, and scores in its features, of grey and colour images."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS, Prepared
from lookalike.evaluation.distances import compare
from lookalike.features import making as feature_stage
from lookalike.features.classifier import Classifier
from lookalike.features.extraction import extract, features_of
from lookalike.features.extractor import Extractor
from lookalike.features.self_supervised import Encoder, covered, load, moved, toned, vicreg
from lookalike.features.training import identity
from lookalike.metrics.frechet import frechet_distances
from lookalike.readers.arrays import write
from lookalike.readers.contract import from_arrays
from lookalike.workspace.configuration import Config, compose
from lookalike.workspace.errors import UserError

pytest_plugins = ["pipeline_fixtures"]

COUNT = 400
CLASSES = {"class_distance", "class_gap", "classifier_confidence"}

# Views


def test_views_without_changes_are_the_images_themselves() -> None:
    x = torch.rand(5, 2, 9, 12)
    torch.testing.assert_close(moved(x, turn=0, stretch=0, shift=0), x, atol=1e-5, rtol=0)
    assert torch.equal(toned(x, max_change=0), x)
    assert torch.equal(covered(x, max_side=0), x)


def test_images_are_shifted_by_up_to_the_given_share() -> None:
    torch.manual_seed(0)
    x = torch.zeros(400, 1, 21, 21)
    x[:, :, 10, 10] = 1
    y = moved(x, turn=0, stretch=0, shift=0.2)[:, 0]
    places = torch.arange(21.0)
    for mass in (y.sum(dim=1), y.sum(dim=2)):
        centre = (mass * places).sum(dim=1) / mass.sum(dim=1)
        assert 3.8 < (centre - 10).abs().max() <= 4.21
        assert abs(centre.mean() - 10) < 0.5


def test_images_are_turned_by_up_to_the_given_angle() -> None:
    torch.manual_seed(0)
    x = torch.zeros(200, 1, 41, 41)
    x[:, :, 20, 21:] = 1
    y = moved(x, turn=30, stretch=0, shift=0)[:, 0]
    places = torch.arange(41.0) - 20
    down, across = (y.sum(dim=2) * places).sum(dim=1), (y.sum(dim=1) * places).sum(dim=1)
    angles = torch.rad2deg(torch.atan2(down, across))
    assert 27 < angles.abs().max() < 31
    assert angles.min() < -20 < 20 < angles.max()


def test_a_square_with_the_mean_of_the_image_covers_it() -> None:
    torch.manual_seed(0)
    x = torch.rand(300, 3, 12, 10)
    sides = set()
    for before, after in zip(x, covered(x, max_side=5), strict=True):
        changed = (before != after).any(dim=0)
        rows, columns = changed.any(dim=1), changed.any(dim=0)
        assert changed.sum() == rows.sum() * columns.sum() <= 25
        assert after[:, changed] == pytest.approx(before.mean(dim=(1, 2))[:, None].expand(-1, int(changed.sum())))
        sides.add(int(max(rows.sum(), columns.sum())))
    assert sides == {0, 1, 2, 3, 4, 5}


def test_the_loss_is_its_three_equations() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 30, 4)) * 0.7

    def covariance(code: NDArray[Any]) -> float:
        products = np.cov(code, rowvar=False)
        return float((products**2).sum() - (np.diag(products) ** 2).sum()) / 4

    invariance = ((a - b) ** 2).mean()
    variance = np.mean([np.maximum(0, 1 - np.sqrt(code.var(axis=0, ddof=1) + 1e-4)) for code in (a, b)])
    found = vicreg(torch.from_numpy(a), torch.from_numpy(b))
    assert float(found["invariance"]) == pytest.approx(invariance)
    assert float(found["variance"]) == pytest.approx(variance)
    assert float(found["covariance"]) == pytest.approx(covariance(a) + covariance(b))
    assert float(found["loss"]) == pytest.approx(25 * invariance + 25 * variance + covariance(a) + covariance(b))


# The stage, on images of two kinds without labels


def shapes(generator: np.random.Generator, kinds: NDArray[Any]) -> NDArray[np.uint8]:
    """Return squares and crosses somewhere near the middle, `[N, 1, 12, 13]`."""
    x = generator.integers(0, 20, (len(kinds), 1, 12, 13))
    for image, kind, (top, left) in zip(x[:, 0], kinds, generator.integers(2, 6, (len(kinds), 2)), strict=True):
        patch = image[top : top + 5, left : left + 5]
        if kind:
            patch[2, :] = patch[:, 2] = 220
        else:
            patch[[0, -1], :] = patch[:, [0, -1]] = 220
    return x.astype(np.uint8)


@pytest.fixture(scope="module")
def kinds() -> NDArray[Any]:
    """Return the kind of each image, the same for every split; the pipeline does not know it."""
    return np.random.default_rng(7).integers(0, 2, COUNT)


@pytest.fixture(scope="module")
def prepared(
    make_domain: Callable[..., Domain], kinds: NDArray[Any], tmp_path_factory: pytest.TempPathFactory
) -> Prepared:
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("artifacts") / "mnist" / "prepared"
    folder.mkdir(parents=True)
    values = {split: shapes(generator, kinds) for split in SPLITS}
    domain = dataclasses.replace(make_domain(1, 12, 13, levels=256), name="mnist")
    labels = dict.fromkeys(SPLITS, np.zeros(0, dtype=np.uint8))
    write(from_arrays(domain, values, labels, expected={}), folder)
    return Prepared(folder)


def configured(scratch: Path, **settings: Any) -> Config:
    """Return the configuration with the given settings of an encoder; without any, `features: null`."""
    config = compose(
        ["data=mnist", "tracking=none", "trainer.threads=1", "trainer.checks=2", f"paths.scratch={scratch}"]
    )
    features = {"_target_": "lookalike.features.self_supervised.make", **settings} if settings else None
    return config.model_copy(update={"data": config.data.model_copy(update={"features": features})})


SMALL = {"steps": 120, "batch_size": 40, "widths": [8, 12], "features": 8, "expanded": 24}


@pytest.fixture(scope="module")
def folder(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extractor")
    feature_stage.make_and_save(configured(tmp_path_factory.mktemp("scratch"), **SMALL), prepared, path)
    return path


def share_recognized(extractor: Extractor, kinds: NDArray[Any]) -> float:
    """Return the share of test images whose kind is recognized by ridge regression on the training features."""
    seen, tested = (np.c_[extractor.stored(split), np.ones(COUNT)] for split in ("train", "test"))
    weights = np.linalg.solve(seen.T @ seen + np.eye(9), seen.T @ (2 * kinds - 1))
    return float(((tested @ weights > 0) == kinds).mean())


def test_features_know_kinds_without_labels(folder: Path, prepared: Prepared, kinds: NDArray[Any]) -> None:
    extractor = Extractor(folder, prepared)
    assert share_recognized(extractor, kinds) > 0.95
    assert extractor.record["effective_rank"] > 2


def test_distances_grow_with_every_damage(folder: Path, prepared: Prepared, kinds: NDArray[Any]) -> None:
    from scipy.ndimage import gaussian_filter

    extractor = Extractor(folder, prepared)
    x = np.array(prepared.values("validation"))
    noise = np.random.default_rng(1).normal(size=x.shape)

    def distance(images: NDArray[Any]) -> float:
        features = features_of(extractor, images, batch_size=200)
        return frechet_distances(features, extractor.stored("test")).distance.value

    for damaged in (
        [(x + amount * noise).clip(0, 255).astype(np.uint8) for amount in (0, 20, 45, 90)],
        [gaussian_filter(x, (0, 0, amount, amount)) for amount in (0, 0.5, 0.8, 1.3)],
        [x[(kinds == 0) | (np.arange(COUNT) < kept * COUNT)] for kept in (1, 0.6, 0.3, 0)],
    ):
        distances = [distance(images) for images in damaged]
        assert distances == sorted(distances)
        assert distances[-1] > 3 * distances[0]


def test_unlabelled_images_have_all_scores_but_those_of_classes(folder: Path, prepared: Prepared) -> None:
    extractor = Extractor(folder, prepared)
    scores = compare(extractor.stored("validation"), extractor)
    assert not CLASSES & set(scores)
    assert {"frechet_distance", "kernel_distance", "coverage", "classifier_accuracy"} <= set(scores)
    assert scores["frechet_distance"]["extractor"] == "mnist self-supervised encoder"
    assert (
        scores["frechet_distance"]["extractor_digest"] == json.loads((folder / "extractor.json").read_text())["digest"]
    )
    assert "known_as" not in scores["frechet_distance"]


def test_a_distance_is_known_by_the_name_that_its_extractor_records(
    folder: Path, prepared: Prepared, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    record = json.loads((tmp_path / "extractor.json").read_text())
    names = {"frechet_distance": "FID", "kernel_distance": "KID"}
    (tmp_path / "extractor.json").write_text(json.dumps(record | {"known_as": names}))
    extractor = Extractor(tmp_path, prepared)
    scores = compare(extractor.stored("validation"), extractor)
    assert {name: entry["known_as"] for name, entry in scores.items() if "known_as" in entry} == names


def test_a_second_training_gives_the_same_bytes(folder: Path, prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    config = configured(tmp_path / "scratch", **SMALL)
    feature_stage.make_and_save(config, prepared, tmp_path / "again")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert not list((tmp_path / "scratch").glob("*")), "a finished training leaves no checkpoint"


def test_only_the_same_settings_and_code_continue_a_checkpoint(folder: Path, prepared: Prepared) -> None:
    record = json.loads((folder / "extractor.json").read_text())
    encoder, config = load(record, prepared.domain, folder), configured(folder, **SMALL)
    labelled = dataclasses.replace(prepared.domain, labels=("a", "b"))
    classifier = Classifier(domain=labelled, widths=[8, 12], features=8, shift=1, dropout=0.1)
    name = identity(encoder, prepared, config)
    assert name == identity(encoder, prepared, configured(folder, **SMALL))
    assert name != identity(encoder, prepared, configured(folder, **SMALL | {"tone": 0.1}))
    assert name != identity(classifier, prepared, config)


def test_other_weights_than_the_record_names_are_refused(folder: Path, prepared: Prepared) -> None:
    record = json.loads((folder / "extractor.json").read_text())
    with pytest.raises(UserError, match=r"not those of extractor 0123456789abcdef; run the features stage"):
        load(record | {"digest": "0123456789abcdef"}, prepared.domain, folder)


def test_nan_features_are_counted(folder: Path, prepared: Prepared) -> None:
    record = json.loads((folder / "extractor.json").read_text())
    network = load(record, prepared.domain, folder)
    with torch.no_grad():
        next(network.body.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match=r"the features of 400 of 400 images are NaN or infinite, the first is image 0"):
        extract(network, prepared.values("test"), record=record, batch_size=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"data\.features\.steps=0"),
        ({"widths": [8]}, r"data\.features\.widths"),
        ({"tone": 1.0}, r"data\.features\.tone=1\.0.*less than 1"),
        ({"batch_size": 401}, r"data\.features\.batch_size=401: the training set holds 400 images"),
        ({"labels": 3}, r"unknown key 'data\.features\.labels'"),
        ({"_target_": "lookalike.features.vgg.make"}, r"lookalike\.features\.vgg\.make: there is no such"),
        ({"_target_": "torch.load"}, r"torch\.load: only what stands in lookalike\.features may be configured"),
        ({"_target_": "lookalike.features.classifier.make", "steps": 3, "batch_size": 4, "model": {}, "optimizer": {
            "lr": 0.1, "weight_decay": 0, "warmup": 0, "clip": 1, "ema_horizon": 0, "beta1": 0.9, "muon": 0}},
         r"a classifier needs labels, mnist has none; set it to null"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str, prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        feature_stage.make_and_save(configured(tmp_path / "scratch", **settings), prepared, tmp_path)


def test_images_too_small_for_two_views_are_refused(make_domain: Callable[..., Domain], tmp_path: Path) -> None:
    values = {split: np.zeros((30, 1, 7, 30), dtype=np.uint8) for split in SPLITS}
    labels = dict.fromkeys(SPLITS, np.zeros(0, dtype=np.uint8))
    write(from_arrays(make_domain(1, 7, 30, levels=256), values, labels, expected={}), tmp_path)
    with pytest.raises(UserError, match="images of at least 8x8 pixels, small has 7x30"):
        feature_stage.make_and_save(configured(tmp_path), Prepared(tmp_path), tmp_path)


def test_encoders_of_colour_images_train_all_of_their_weights(make_domain: Callable[..., Domain]) -> None:
    network = Encoder(domain=make_domain(3, 9, 11, levels=16), widths=[8, 12], features=6, expanded=16, turn=10,
                      stretch=0.1, shift=0.1, cover=0.3, tone=0.2)  # fmt: skip
    x = torch.randint(0, 16, (20, 3, 9, 11), dtype=torch.uint8)
    network.losses(x)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim > 1)
    assert network.eval()(x).shape == (20, 6)


def test_views_keep_the_hue() -> None:
    torch.manual_seed(0)
    x = torch.tensor([200.0, 100.0, 50.0]).view(1, 3, 1, 1).expand(30, 3, 8, 9)
    y = covered(moved(toned(x, max_change=0.3), turn=15, stretch=0.25, shift=0.1), max_side=4)
    torch.testing.assert_close(y / y[:, :1], x / x[:, :1])
    assert y.std(dim=0).max() > 10


def test_features_of_colour_images_know_their_hues(make_domain: Callable[..., Domain], tmp_path: Path) -> None:
    """Red or blue squares, equally bright, somewhere on white."""
    generator = np.random.default_rng(0)
    hues = generator.integers(0, 2, COUNT)
    values = {split: np.full((COUNT, 3, 12, 13), 255, dtype=np.uint8) for split in SPLITS}
    for x in values.values():
        for image, hue, (top, left) in zip(x, hues, generator.integers(2, 6, (COUNT, 2)), strict=True):
            image[:, top : top + 5, left : left + 5] = 40
            image[2 * hue, top : top + 5, left : left + 5] = generator.integers(150, 256)
    (tmp_path / "prepared").mkdir()
    labels = dict.fromkeys(SPLITS, np.zeros(0, dtype=np.uint8))
    domain = dataclasses.replace(make_domain(3, 12, 13, levels=256), name="mnist")
    write(from_arrays(domain, values, labels, expected={}), tmp_path / "prepared")
    prepared = Prepared(tmp_path / "prepared")
    feature_stage.make_and_save(configured(tmp_path / "scratch", **SMALL), prepared, tmp_path)
    extractor = Extractor(tmp_path, prepared)
    assert share_recognized(extractor, hues) > 0.95
    x = values["validation"].astype(np.float32)
    grey = x.mean(axis=1, keepdims=True)
    distances = []
    for amount in (0, 0.3, 0.6, 1):
        paler = (x + amount * (grey - x)).astype(np.uint8)
        features = features_of(extractor, paler, batch_size=200)
        distances.append(frechet_distances(features, extractor.stored("test")).distance.value)
    assert distances == sorted(distances)
    assert distances[-1] > 10 * distances[0]


# The pipeline


def test_the_pipeline_works_on_images_without_labels(
    prepared: Prepared, call_stage: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copytree(prepared.folder, tmp_path / "artifacts" / "mnist" / "prepared")
    common = ["data=mnist", "budget=smoke", "tracking=none", "~data.features", "+data.features=null"]
    common += [f"paths.{kind}={tmp_path / kind}" for kind in ("artifacts", "results", "scratch")]
    for stage, *model in (
        ("features",), ("real",), ("train", "model=vae"), ("sample", "model=vae"), ("evaluate", "model=vae"),
    ):  # fmt: skip
        done = call_stage(stage, *common, *model)
        assert done.returncode == 0, done.stderr
    for row in ("real", "vae/0/evaluate"):
        scores = json.loads((tmp_path / "artifacts" / "mnist" / row / "metrics.json").read_text())
        assert "frechet_distance" in scores
        assert not CLASSES & set(scores)
