"""Images without labels: the encoder that is trained on them, its views and loss, and what is scored in it."""

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

from lookalike import feature_stage
from lookalike.core.config import Config, compose
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.data import SPLITS, Prepared, Raw
from lookalike.data.prepare import write
from lookalike.distances import compare
from lookalike.extractor import Extractor
from lookalike.extractors.classifier import Classifier
from lookalike.extractors.self_supervised import Encoder, covered, load, moved, toned, vicreg
from lookalike.extractors.training import identity
from lookalike.features import features_of, whole
from lookalike.metrics.frechet import frechet_distances

pytest_plugins = ["pipeline_fixtures"]

COUNT = 400
CLASSES = {"class_distance", "class_gap", "classifier_confidence"}

# Views


def test_an_image_that_is_neither_turned_nor_stretched_nor_moved_stays() -> None:
    x = torch.rand(5, 2, 9, 12)
    torch.testing.assert_close(moved(x, turn=0, stretch=0, shift=0), x, atol=1e-5, rtol=0)
    assert torch.equal(toned(x, most=0), x)
    assert torch.equal(covered(x, most=0), x)


def test_images_move_by_up_to_the_share_that_is_asked_for() -> None:
    torch.manual_seed(0)
    x = torch.zeros(400, 1, 21, 21)
    x[:, :, 10, 10] = 1
    y = moved(x, turn=0, stretch=0, shift=0.2)[:, 0]
    places = torch.arange(21.0)
    for mass in (y.sum(dim=1), y.sum(dim=2)):
        centre = (mass * places).sum(dim=1) / mass.sum(dim=1)
        assert 3.8 < (centre - 10).abs().max() <= 4.21
        assert abs(centre.mean() - 10) < 0.5


def test_images_are_turned_by_up_to_the_angle_that_is_asked_for() -> None:
    torch.manual_seed(0)
    x = torch.zeros(200, 1, 41, 41)
    x[:, :, 20, 21:] = 1
    y = moved(x, turn=30, stretch=0, shift=0)[:, 0]
    places = torch.arange(41.0) - 20
    down, across = (y.sum(dim=2) * places).sum(dim=1), (y.sum(dim=1) * places).sum(dim=1)
    angles = torch.rad2deg(torch.atan2(down, across))
    assert 27 < angles.abs().max() < 31
    assert angles.min() < -20 < 20 < angles.max()


def test_one_square_of_the_images_own_mean_covers_it() -> None:
    torch.manual_seed(0)
    x = torch.rand(300, 3, 12, 10)
    sides = set()
    for before, after in zip(x, covered(x, most=5), strict=True):
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


# The stage, on images of two kinds that nobody has named


def shapes(generator: np.random.Generator, kinds: NDArray[Any]) -> NDArray[np.uint8]:
    """Squares and crosses somewhere near the middle, `[N, 1, 12, 13]`."""
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
    """Of the images of every split: none of the pipeline is told."""
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
    write(Raw(domain=domain, values=values, labels=labels, expected={}), folder)
    return Prepared(folder)


def told(scratch: Path, **settings: Any) -> Config:
    """The configuration with the given settings of an encoder; of none, `features: null`."""
    config = compose(
        ["data=mnist", "tracking=none", "trainer.threads=1", "trainer.checks=2", f"paths.scratch={scratch}"]
    )
    features = {"_target_": "lookalike.extractors.self_supervised.make", **settings} if settings else None
    return config.model_copy(update={"data": config.data.model_copy(update={"features": features})})


SMALL = {"steps": 120, "batch_size": 40, "widths": [8, 12], "features": 8, "expanded": 24}


@pytest.fixture(scope="module")
def folder(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extractor")
    feature_stage.make_and_save(told(tmp_path_factory.mktemp("scratch"), **SMALL), prepared, path)
    return path


def test_features_know_what_nobody_named(folder: Path, prepared: Prepared, kinds: NDArray[Any]) -> None:
    """Ridge regression on the features of the test images, of kinds given for the training images."""
    extractor = Extractor(folder, prepared)
    seen, tested = (np.c_[extractor.stored(split), np.ones(COUNT)] for split in ("train", "test"))
    weights = np.linalg.solve(seen.T @ seen + np.eye(9), seen.T @ (2 * kinds - 1))
    assert ((tested @ weights > 0) == kinds).mean() > 0.95
    assert extractor.record["effective_rank"] > 2


def test_distances_grow_with_noise_with_blur_and_with_a_missing_kind(
    folder: Path, prepared: Prepared, kinds: NDArray[Any]
) -> None:
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


def test_scores_of_unlabelled_images_are_all_but_those_of_classes(folder: Path, prepared: Prepared) -> None:
    extractor = Extractor(folder, prepared)
    scores = compare(extractor.stored("validation"), extractor)
    assert not CLASSES & set(scores)
    assert {"frechet_distance", "kernel_distance", "coverage", "classifier_accuracy"} <= set(scores)
    assert scores["frechet_distance"]["extractor"] == "mnist self-supervised encoder"
    assert (
        scores["frechet_distance"]["extractor_digest"] == json.loads((folder / "extractor.json").read_text())["digest"]
    )
    assert "known_as" not in scores["frechet_distance"]


def test_a_distance_has_the_name_that_its_extractor_gives_it(folder: Path, prepared: Prepared, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    record = json.loads((tmp_path / "extractor.json").read_text())
    names = {"frechet_distance": "FID", "kernel_distance": "KID"}
    (tmp_path / "extractor.json").write_text(json.dumps(record | {"known_as": names}))
    extractor = Extractor(tmp_path, prepared)
    scores = compare(extractor.stored("validation"), extractor)
    assert {name: entry["known_as"] for name, entry in scores.items() if "known_as" in entry} == names


def test_the_same_encoder_is_trained_again(folder: Path, prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    config = told(tmp_path / "scratch", **SMALL)
    feature_stage.make_and_save(config, prepared, tmp_path / "again")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert not list((tmp_path / "scratch").glob("*")), "what a finished training leaves is not gone on from"


def test_a_checkpoint_is_gone_on_from_by_the_same_settings_and_the_same_code_alone(
    folder: Path, prepared: Prepared
) -> None:
    record = json.loads((folder / "extractor.json").read_text())
    encoder, config = load(record, prepared.domain, folder), told(folder, **SMALL)
    labelled = dataclasses.replace(prepared.domain, labels=("a", "b"))
    classifier = Classifier(domain=labelled, widths=[8, 12], features=8, shift=1, dropout=0.1)
    name = identity(encoder, prepared, config)
    assert name == identity(encoder, prepared, told(folder, **SMALL))
    assert name != identity(encoder, prepared, told(folder, **SMALL | {"tone": 0.1}))
    assert name != identity(classifier, prepared, config)


def test_other_weights_than_the_record_names_are_refused(folder: Path, prepared: Prepared) -> None:
    record = json.loads((folder / "extractor.json").read_text())
    with pytest.raises(UserError, match=r"not those of extractor 0123456789abcdef; run the features stage"):
        load(record | {"digest": "0123456789abcdef"}, prepared.domain, folder)


def test_features_that_are_no_numbers_are_counted(folder: Path, prepared: Prepared) -> None:
    record = json.loads((folder / "extractor.json").read_text())
    network = load(record, prepared.domain, folder)
    with torch.no_grad():
        next(network.body.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match=r"the features of 400 of 400 images are NaN or infinite, the first is image 0"):
        whole(network, prepared.values("test"), record=record, batch_size=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"data\.features\.steps=0"),
        ({"widths": [8]}, r"data\.features\.widths"),
        ({"tone": 1.0}, r"data\.features\.tone=1\.0.*less than 1"),
        ({"batch_size": 401}, r"data\.features\.batch_size=401: the training set holds 400 images"),
        ({"labels": 3}, r"unknown key 'data\.features\.labels'"),
        ({"_target_": "lookalike.extractors.vgg.make"}, r"lookalike\.extractors\.vgg\.make: there is no such"),
        ({"_target_": "torch.load"}, r"torch\.load: only what stands in lookalike\.extractors may be configured"),
        ({"_target_": "lookalike.extractors.classifier.make", "steps": 3, "batch_size": 4, "model": {}, "optimizer": {
            "lr": 0.1, "weight_decay": 0, "warmup": 0, "clip": 1, "average": 0, "momentum": 0.9, "muon": 0}},
         r"a classifier needs labelled images, mnist has none; set it to null"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str, prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        feature_stage.make_and_save(told(tmp_path / "scratch", **settings), prepared, tmp_path)


def test_images_too_small_for_two_views_are_refused(make_domain: Callable[..., Domain], tmp_path: Path) -> None:
    values = {split: np.zeros((30, 1, 7, 30), dtype=np.uint8) for split in SPLITS}
    labels = dict.fromkeys(SPLITS, np.zeros(0, dtype=np.uint8))
    write(Raw(domain=make_domain(1, 7, 30, levels=256), values=values, labels=labels, expected={}), tmp_path)
    with pytest.raises(UserError, match="images of 8x8 pixels at least, small has 7x30"):
        feature_stage.make_and_save(told(tmp_path), Prepared(tmp_path), tmp_path)


def test_colour_images_have_an_encoder_too(make_domain: Callable[..., Domain]) -> None:
    network = Encoder(domain=make_domain(3, 9, 11, levels=16), widths=[8, 12], features=6, expanded=16, turn=10,
                      stretch=0.1, shift=0.1, cover=0.3, tone=0.2)  # fmt: skip
    x = torch.randint(0, 16, (20, 3, 9, 11), dtype=torch.uint8)
    network.losses(x)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim > 1)
    assert network.eval()(x).shape == (20, 6)


# The pipeline


def test_images_without_labels_are_trained_on_sampled_and_scored(
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
    for row in ("real", "vae/evaluate"):
        scores = json.loads((tmp_path / "artifacts" / "mnist" / row / "metrics.json").read_text())
        assert "frechet_distance" in scores
        assert not CLASSES & set(scores)
