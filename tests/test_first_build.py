"""Files of the first build, whose domains had no variables, are refused in one line that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import Prepared
from lookalike.networks.weights import load_weights, save_weights
from lookalike.sampling.trained import Trained
from lookalike.tracking.serving import Served
from lookalike.workspace.errors import UserError

DOMAINS: dict[str, dict[str, Any]] = {
    "heights": {
        "name": "heights", "kind": "vector", "shape": [1], "levels": 1120, "low": [0.0], "step": [0.1],
        "unit": "inch", "labels": ["female", "male"], "location": [667.6], "scale": [35.8],
    },
    "mnist": {
        "name": "mnist", "kind": "image", "shape": [1, 28, 28], "levels": 256, "low": [0.0], "step": [1.0],
        "unit": "intensity", "labels": [], "location": [127.5], "scale": [127.5],
    },
}  # fmt: skip
"""Contents of the first build's `domain.json`."""


@pytest.fixture(params=DOMAINS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def first_model(folder: Path, name: str) -> None:
    """Write the record of a model of the first build."""
    folder.mkdir(parents=True)
    kind = DOMAINS[name]["kind"]
    section = {"_target_": "lookalike.models.vae.VAE", "components": 4, "conditional": False, kind: {"latent": 2}}
    record = {
        "name": f"{name}-vae",
        "fingerprint": 64 * "a",
        "configuration": {"model": section, "trainer": {"batch_size": 250, "threads": 1}},
        "domain": DOMAINS[name],
        "data_digest": 64 * "b",
    }
    (folder / "model.json").write_text(json.dumps(record))
    save_file({"decoder.weight": torch.zeros(2, 2)}, folder / "weights.safetensors")
    (folder / "settings.json").write_text(json.dumps({"sampling": {}, "likelihood": {}, "code": "c"}))


def prepared(folder: Path, fields: dict[str, Any]) -> Path:
    """Write the two records that a folder of prepared data has."""
    folder.mkdir(parents=True)
    (folder / "domain.json").write_text(json.dumps(fields))
    (folder / "summary.json").write_text(json.dumps({"digest": 64 * "b"}))
    return folder


def test_prepared_data_are_refused(name: str, tmp_path: Path) -> None:
    folder = prepared(tmp_path / name / "prepared", DOMAINS[name])
    with pytest.raises(UserError, match=rf"another version.*Run `lookalike prepare data={name}` again") as refusal:
        Prepared(folder)
    assert "\n" not in str(refusal.value)


def test_a_trained_model_is_refused(name: str, tmp_path: Path, make_domain: Callable[..., Domain]) -> None:
    now = prepared(tmp_path / name / "prepared", make_domain(2, levels=8).to_dict() | {"name": name})
    first_model(tmp_path / "train", name)
    remedy = rf"another version.*Train again: `lookalike train data={name} model=vae`"
    with pytest.raises(UserError, match=remedy) as refusal:
        Trained(tmp_path / "train", family="vae", prepared=Prepared(now))
    assert "\n" not in str(refusal.value)


def test_a_registered_model_is_refused(name: str, tmp_path: Path) -> None:
    first_model(tmp_path / "model", name)
    with pytest.raises(UserError, match=r"a model of another version.*Register the model again") as refusal:
        Served(tmp_path / "model")
    assert "\n" not in str(refusal.value)


def test_weights_with_names_of_the_first_build_are_refused(
    tmp_path: Path, small_model: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    """The first build had the parts of images in the family itself and not in its network."""
    path, domain = tmp_path / "weights.safetensors", make_domain(1, 4, 4, levels=8)
    save_weights(small_model("autoregressive", domain), path)
    save_file({key.removeprefix("network."): tensor for key, tensor in load_file(path).items()}, path)
    with pytest.raises(UserError, match=r"weights of another model or domain: .*Train again") as refusal:
        load_weights(small_model("autoregressive", domain), path)
    assert "\n" not in str(refusal.value)
