"""Inception-v3 and DINOv2 behind their own libraries, with weights made here: each test needs its library.

Where torchvision fits torch, `pip install -e .[inception,dinov2]` and `pytest tests/test_published_extractors.py`.
"""

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from lookalike import feature_stage
from lookalike.core.config import Config, compose
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.data import SPLITS, Prepared, Raw
from lookalike.data.prepare import write
from lookalike.distances import compare
from lookalike.extractor import Extractor
from lookalike.extractors import dinov2, inception, pixels, weights
from lookalike.features import features_of, load


def library(name: str) -> Any:
    """An optional library, or a skip: torchvision beside another build of torch raises RuntimeError."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name}: {weights.first_line(error)}")


def has(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError):
        return False
    return True


COUNT = 24


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def prepared(
    request: pytest.FixtureRequest, make_domain: Callable[..., Domain], tmp_path_factory: pytest.TempPathFactory
) -> Prepared:
    """Noise of a brightness that differs between images, without labels."""
    generator = np.random.default_rng(0)
    values = {
        split: generator.integers(0, generator.integers(50, 256, (COUNT, 1, 1, 1)), (COUNT, request.param, 12, 16))
        for split in SPLITS
    }
    folder = tmp_path_factory.mktemp("prepared")
    raw = Raw(
        domain=make_domain(request.param, 12, 16, levels=256),
        values={split: value.astype(np.uint8) for split, value in values.items()},
        labels=dict.fromkeys(SPLITS, np.zeros(0, dtype=np.uint8)),
        expected={},
    )
    write(raw, folder)
    return Prepared(folder)


def told(kind: str, **settings: Any) -> Config:
    """The configuration of a data set whose `features:` name a kind."""
    config = compose(["data=mnist", "tracking=none", "trainer.threads=1"])
    features = {"_target_": f"lookalike.extractors.{kind}.make", **settings}
    return config.model_copy(update={"data": config.data.model_copy(update={"features": features})})


def pictures(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Images `[N, C, H, W]` as others draw them, `[N, H, W, 3]`."""
    return np.broadcast_to(values.transpose(0, 2, 3, 1), (len(values), *values.shape[2:], 3)).copy()


# Inception-v3


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torch-fidelity's, of weights that keep the size of what they are given."""
    library("torch_fidelity")
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.manual_seed(0)
    # Its constructor knows no network without weights: every part of it but the constructor is used here.
    network = module.FeatureExtractorInceptionV3.__new__(module.FeatureExtractorInceptionV3)
    shapes: dict[str, torch.Tensor] = {}

    def keep(self: Any, state: dict[str, Any], *_: Any, **__: Any) -> None:
        shapes.update(torch.nn.Module.state_dict(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", keep)
        network.__init__("made", ["2048"])  # type: ignore[misc]
    torch.save({name: tensor.clone() for name, tensor in shapes.items()}, path)
    return path


@pytest.fixture(scope="module")
def inception_folder(inception_weights: Path, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inception")
    config = told("inception", weights=str(inception_weights), batch_size=10, training_images=20)
    feature_stage.make_and_save(config, prepared, folder)
    return folder


def test_features_are_those_of_torch_fidelity(
    inception_folder: Path, inception_weights: Path, prepared: Prepared
) -> None:
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    theirs = module.FeatureExtractorInceptionV3("theirs", ["2048"], str(inception_weights))
    x = torch.from_numpy(pictures(prepared.values("test"))).permute(0, 3, 1, 2)
    (expected,) = theirs(x)
    stored = Extractor(inception_folder, prepared).stored("test")
    assert stored.shape == (COUNT, 2048)
    assert stored.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(stored, expected.numpy(), rtol=1e-4, atol=1e-5)
    rows, points, _, of = Extractor(inception_folder, prepared).training()
    assert (len(rows), len(points), of) == (20, 20, COUNT)


def test_the_distances_are_torch_fidelity_s_fid_and_its_kid(
    inception_folder: Path, inception_weights: Path, prepared: Prepared
) -> None:
    fidelity = library("torch_fidelity")

    class Images(torch.utils.data.Dataset[torch.Tensor]):
        def __init__(self, values: NDArray[Any]) -> None:
            self.images = torch.from_numpy(pictures(values)).permute(0, 3, 1, 2)

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> torch.Tensor:
            return self.images[index]

    theirs = fidelity.calculate_metrics(
        input1=Images(prepared.values("validation")), input2=Images(prepared.values("test")), fid=True, kid=True,
        kid_subsets=1, kid_subset_size=COUNT, feature_extractor_weights_path=str(inception_weights), cuda=False,
        cache=False, batch_size=8, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    extractor = Extractor(inception_folder, prepared)
    ours = compare(features_of(extractor, np.array(prepared.values("validation")), batch_size=500), extractor)
    assert ours["frechet_distance"]["value"] == pytest.approx(theirs["frechet_inception_distance"], rel=2e-3)
    assert ours["kernel_distance"]["value"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert not {"class_distance", "class_gap", "classifier_confidence"} & set(ours)
    assert ours["frechet_distance"]["extractor"] == "Inception-v3 with weights of its own (torch-fidelity)"
    assert "known_as" not in ours["frechet_distance"]


def test_only_the_published_weights_make_a_distance_fid(
    inception_weights: Path, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    record = inception.make(prepared, told("inception"), tmp_path, weights=str(inception_weights))
    assert (record["sha256"], record["digest"]) == (digest, digest[:16])
    assert "known_as" not in record
    monkeypatch.setattr(inception, "PUBLISHED", digest)
    record = inception.make(prepared, told("inception"), tmp_path, weights=str(inception_weights))
    assert record["known_as"] == {"frechet_distance": "FID", "kernel_distance": "KID"}
    assert record["name"] == "Inception-v3 (torch-fidelity)"


def test_the_published_digest_is_the_one_in_the_name_that_torch_fidelity_downloads() -> None:
    library("torch_fidelity")
    url = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3").URL_INCEPTION_V3
    assert len(inception.PUBLISHED) == 64
    assert url.endswith(f"-{inception.PUBLISHED[:8]}.pth")


def test_the_cache_is_looked_in_before_the_network(
    inception_weights: Path, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "checkpoints"
    cache.mkdir()
    (cache / "weights-inception-2015-12-05-6726825d.pth").write_bytes(inception_weights.read_bytes())
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "folder").mkdir()
    record = inception.make(prepared, told("inception"), tmp_path / "folder")
    assert "known_as" not in record, "a file of that name is not yet the published one"
    assert (tmp_path / "folder" / record["weights"]).is_file()


def test_published_weights_that_can_not_be_had_are_named_with_the_place_for_them(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3") if has("torch_fidelity") else None
    if module is None:
        pytest.skip("no torch-fidelity here")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(module, "URL_INCEPTION_V3", "http://127.0.0.1:9/weights-inception.pth")
    with pytest.raises(UserError, match=r"can't be had .*Put the file at .*checkpoints/weights-inception\.pth"):
        inception.make(prepared, told("inception"), tmp_path)


def test_weights_of_another_network_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    library("torch_fidelity")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"data\.features\.weights: not weights of Inception-v3"):
        feature_stage.make_and_save(told("inception", weights=str(tmp_path / "other.pth")), prepared, tmp_path)
