"""Tests of Inception-v3 and DINOv2 with random weights; each test needs the library of its network.

Where torchvision fits torch, `pip install -e .[inception,dinov2]` and `pytest tests/test_published_extractors.py`.
"""

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import SPLITS, Prepared
from lookalike.features import dinov2, inception, pixels, weights
from lookalike.features import making as feature_stage
from lookalike.features.extraction import features_of, load
from lookalike.features.extractor import Extractor
from lookalike.metrics.frechet import frechet_distances
from lookalike.metrics.kernel import kernel_distance
from lookalike.readers.arrays import write
from lookalike.readers.contract import from_arrays
from lookalike.workspace.configuration import Config, compose
from lookalike.workspace.errors import UserError


def library(name: str) -> Any:
    """Return an optional library, or skip the test; torchvision beside another build of torch raises RuntimeError."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name}: {weights.first_line(error)}")


COUNT = 12


@pytest.fixture(scope="module")
def prepared(make_domain: Callable[..., Domain], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Return images of grey noise, each of another brightness, without labels."""
    generator = np.random.default_rng(0)
    values = {
        split: generator.integers(0, generator.integers(50, 256, (COUNT, 1, 1, 1)), (COUNT, 1, 12, 16))
        for split in SPLITS
    }
    folder = tmp_path_factory.mktemp("prepared")
    source = from_arrays(
        make_domain(1, 12, 16, levels=256),
        {split: value.astype(np.uint8) for split, value in values.items()},
        dict.fromkeys(SPLITS, np.zeros(0, dtype=np.uint8)),
        expected={},
    )
    write(source, folder)
    return Prepared(folder)


def configured(kind: str, **settings: Any) -> Config:
    """Return the configuration of a data set whose `features:` name a kind of extractor."""
    config = compose(["data=mnist", "tracking=none", "trainer.threads=1"])
    features = {"_target_": f"lookalike.features.{kind}.make", **settings}
    return config.model_copy(update={"data": config.data.model_copy(update={"features": features})})


def pictures(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return images `[N, C, H, W]` in the layout of other libraries, `[N, H, W, 3]`."""
    return np.broadcast_to(values.transpose(0, 2, 3, 1), (len(values), *values.shape[2:], 3)).copy()


# Inception-v3


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file such as torch-fidelity downloads, of random weights that keep the scale of their inputs."""
    library("torch_fidelity")
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:  # Its constructor always loads weights.
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = module.FeatureExtractorInceptionV3("made", ["2048"])
    for parameter in network.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def inception_folder(inception_weights: Path, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inception")
    config = configured("inception", weights=str(inception_weights), batch_size=5, training_images=8)
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
    assert (len(rows), len(points), of) == (8, 8, COUNT)


def test_the_kernel_distance_is_torch_fidelity_s_kid(
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
        input1=Images(prepared.values("validation")), input2=Images(prepared.values("test")), kid=True,
        kid_subsets=1, kid_subset_size=COUNT, feature_extractor_weights_path=str(inception_weights), cuda=False,
        cache=False, batch_size=8, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    extractor = Extractor(inception_folder, prepared)
    features = features_of(extractor, np.array(prepared.values("validation")), batch_size=500)
    ours = kernel_distance(features, extractor.stored("test"))
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert extractor.record["name"] == "Inception-v3 with weights of its own (torch-fidelity)"
    assert not extractor.has_classes


def test_a_frechet_distance_of_features_is_torch_fidelity_s() -> None:
    library("torch_fidelity")
    theirs = importlib.import_module("torch_fidelity.metric_fid")
    generator = np.random.default_rng(0)
    features, reference = (generator.normal(size=(400, 48)).astype(np.float32) * scale for scale in (1.1, 1.0))
    moments = [theirs.fid_features_to_statistics(torch.from_numpy(points)) for points in (features, reference)]
    expected = theirs.fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"]
    assert frechet_distances(features, reference).distance.value == pytest.approx(expected, rel=1e-4)


def test_only_the_published_weights_make_a_distance_fid(
    inception_weights: Path, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    record = inception.make(prepared, configured("inception"), tmp_path, weights=str(inception_weights))
    assert (record["sha256"], record["digest"]) == (digest, digest[:16])
    assert "known_as" not in record
    monkeypatch.setattr(inception, "PUBLISHED", digest)
    record = inception.make(prepared, configured("inception"), tmp_path, weights=str(inception_weights))
    assert record["known_as"] == {"frechet_distance": "FID", "kernel_distance": "KID"}
    assert record["name"] == "Inception-v3 (torch-fidelity)"


def test_the_published_digest_is_the_one_in_the_name_that_torch_fidelity_downloads() -> None:
    library("torch_fidelity")
    url = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3").URL_INCEPTION_V3
    assert len(inception.PUBLISHED) == 64
    assert url.endswith(f"-{inception.PUBLISHED[:8]}.pth")


def test_weights_in_the_cache_are_not_downloaded(
    inception_weights: Path, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "checkpoints"
    cache.mkdir()
    (cache / "weights-inception-2015-12-05-6726825d.pth").write_bytes(inception_weights.read_bytes())
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "folder").mkdir()
    record = inception.make(prepared, configured("inception"), tmp_path / "folder")
    assert "known_as" not in record, "the name alone does not make a file the published one"
    assert (tmp_path / "folder" / record["weights"]).is_file()


def test_unavailable_weights_are_named_with_the_place_for_them(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library("torch_fidelity")
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(module, "URL_INCEPTION_V3", "http://127.0.0.1:9/weights-inception.pth")
    with pytest.raises(UserError, match=r"not available .*Put the file at .*checkpoints/weights-inception\.pth"):
        inception.make(prepared, configured("inception"), tmp_path)


def test_weights_of_another_network_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    library("torch_fidelity")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"data\.features\.weights: not weights of Inception-v3"):
        feature_stage.make_and_save(configured("inception", weights=str(tmp_path / "other.pth")), prepared, tmp_path)


# DINOv2

SMALL = "vit_small_patch14_dinov2.lvd142m"
SIZE = 56


@pytest.fixture(scope="module")
def dinov2_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file such as timm's on Hugging Face, of random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(library("timm").create_model(SMALL, num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def dinov2_folder(dinov2_weights: Path, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dinov2")
    config = configured("dinov2", weights=str(dinov2_weights), model=SMALL, image_size=SIZE, batch_size=10)
    feature_stage.make_and_save(config, prepared, folder)
    return folder


def test_features_are_those_of_timm_on_images_prepared_as_it_documents(
    dinov2_folder: Path, dinov2_weights: Path, prepared: Prepared
) -> None:
    from PIL import Image

    theirs = library("timm").create_model(
        SMALL, pretrained=True, num_classes=0, img_size=SIZE, pretrained_cfg_overlay={"file": str(dinov2_weights)}
    ).eval()  # fmt: skip
    seen = []
    for picture in pictures(prepared.values("test")):
        # The shorter side of 12x16 pixels becomes 56; the longer side is cropped to its middle.
        scaled = Image.fromarray(picture).resize((round(SIZE * 16 / 12 - 0.5), SIZE), Image.Resampling.BICUBIC)
        left = (scaled.width - SIZE) // 2
        square = np.asarray(scaled.crop((left, 0, left + SIZE, SIZE)), dtype=np.float32) / 255
        seen.append((square - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(np.stack(seen).astype(np.float32)).permute(0, 3, 1, 2))
    stored = Extractor(dinov2_folder, prepared).stored("test")
    assert stored.shape == (COUNT, 384)
    np.testing.assert_allclose(stored, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_the_record_names_the_network_and_its_weights(dinov2_folder: Path, prepared: Prepared) -> None:
    record = Extractor(dinov2_folder, prepared).record
    assert record["name"] == f"DINOv2 {SMALL} at 56x56 (timm)"
    assert record["digest"] == hashlib.sha256((dinov2_folder / "weights.safetensors").read_bytes()).hexdigest()[:16]
    assert "known_as" not in record


def test_weights_in_the_authors_format_give_the_same_features(
    dinov2_folder: Path, dinov2_weights: Path, prepared: Prepared, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(dinov2_weights) | {"mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2_vits14.pth")
    config = configured("dinov2", weights=str(tmp_path / "dinov2_vits14.pth"), model=SMALL, image_size=SIZE)
    (tmp_path / "folder").mkdir()
    feature_stage.make_and_save(config, prepared, tmp_path / "folder")
    for name in ("test.npy", "train.npy"):
        ours, before = (np.load(folder / name) for folder in (tmp_path / "folder", dinov2_folder))
        np.testing.assert_allclose(ours, before, rtol=1e-3, atol=1e-4)


def test_an_unknown_or_impossible_dinov2_is_named(dinov2_weights: Path, prepared: Prepared, tmp_path: Path) -> None:
    file = str(dinov2_weights)
    with pytest.raises(UserError, match=r"image_size=225: choose a multiple of 14"):
        dinov2.make(prepared, configured("dinov2"), tmp_path, weights=file, image_size=225)
    with pytest.raises(UserError, match=r"model=resnet50: timm has .*vit_base_patch14_dinov2\.lvd142m"):
        dinov2.make(prepared, configured("dinov2"), tmp_path, weights=file, model="resnet50")
    config = configured("dinov2", weights=file, model="vit_base_patch14_dinov2.lvd142m", image_size=SIZE)
    with pytest.raises(UserError, match=r"not weights of vit_base_patch14_dinov2"):
        feature_stage.make_and_save(config, prepared, tmp_path)


# Tests without an optional library


def test_missing_or_altered_weights_and_other_files_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.features\.weights=.*nothing\.pth: there is no such file"):
        weights.bring(tmp_path / "nothing.pth", tmp_path)
    source, folder = tmp_path / "made.pth", tmp_path / "folder"
    folder.mkdir()
    torch.save({"a": torch.ones(2)}, source)
    record = weights.bring(source, folder)
    assert torch.equal(weights.read_brought(record, folder)["a"], torch.ones(2))
    (folder / "weights.pth").write_bytes(b"other")
    with pytest.raises(UserError, match=rf"not the weights of extractor {record['digest']}; run the features stage"):
        weights.read_brought(record, folder)
    source.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"no tensors can be read from weights\.pth"):
        weights.read_brought(weights.bring(source, folder), folder)
    torch.save([torch.ones(2)], source)
    with pytest.raises(UserError, match="something else than tensors by name"):
        weights.read_brought(weights.bring(source, folder), folder)


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, tmp_path / "made.pth")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="no tensors can be read"):
        weights.read_brought(weights.bring(tmp_path / "made.pth", tmp_path / "folder"), tmp_path / "folder")
    assert not (tmp_path / "ran").exists()


def test_a_missing_library_is_named_with_its_extra() -> None:
    refused = pytest.raises(UserError, match=r"this needs no-such .*pip install 'lookalike\[inception\]'")
    with refused, weights.needs("no-such", extra="inception"):
        importlib.import_module("no_such_library")


def test_any_grid_becomes_rgb_from_0_to_255(make_domain: Callable[..., Domain]) -> None:
    x = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    seen = pixels.to_rgb(x, make_domain(1, 4, 4, levels=16))
    assert seen.dtype == torch.uint8
    assert seen.shape == (1, 3, 4, 4)
    assert seen[0, 2].flatten().tolist() == [17 * k for k in range(16)]
    colours = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(pixels.to_rgb(colours, make_domain(3, 4, 4, levels=256)), colours)
    few = torch.randint(0, 4, (2, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(pixels.to_rgb(few, make_domain(3, 4, 4, levels=4)), few * 85)


def test_images_of_two_channels_have_no_published_extractor(make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(2, 12, 16, levels=256)
    with pytest.raises(UserError, match=r"Inception-v3 takes images of one channel or three, small has shape \(2, 12"):
        pixels.check(domain, network="Inception-v3")


def test_an_unknown_kind_of_extractor_is_named(make_domain: Callable[..., Domain], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"damaged: .*extractor\.json \(kind 'nothing'\)\. Run the features stage"):
        load({"kind": "nothing"}, make_domain(1, 4, 4, levels=16), tmp_path)
