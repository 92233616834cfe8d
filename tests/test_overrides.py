"""Tests of values on the command line: text that Hydra cannot read, keys that a model does not have, `~` in folders."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike.workspace.configuration import compose
from lookalike.workspace.errors import UserError

pytest_plugins = ["pipeline_fixtures"]


def refusal(call_stage: Callable[..., Any], *overrides: str) -> str:
    """Return the line with which a stage refuses overrides."""
    done = call_stage("train", "data=heights", "tracking=none", *overrides)
    assert done.returncode == 1
    line, *others = done.stderr.splitlines()
    assert not others
    return str(line)


@pytest.mark.parametrize("value", ["T/lr=0.1/vae", "~/runs", "[a", "{a", "a=b", 'say "x=1"', "it's/x=1"])
def test_text_that_is_no_value_of_hydra_is_named_with_quotes_that_mend_it(
    value: str, call_stage: Callable[..., Any]
) -> None:
    line = refusal(call_stage, f"paths.cell={value}")
    assert line.startswith(f"error: paths.cell: Hydra cannot read the value {value};")
    (cure,) = shlex.split(line.partition("put it in quotes: ")[2])
    assert compose([cure]).paths.cell == value


@pytest.mark.parametrize(
    ("model", "override", "said"),
    [
        ("mixture", "optimizer.lr=1e-3", "model=mixture is fitted without an optimizer"),
        ("uniform", "optimizer.muon=0", "model=uniform is fitted without an optimizer"),
        ("gan", "likelihood.steps=3", "model=gan has no likelihood"),
        ("copycat", "likelihood.steps=3", "model=copycat has no likelihood"),
        ("vae", "sampling.steps=3", "model=vae has no settings of sampling"),
        ("vae", "preview.steps=3", "model=vae has no settings of preview"),
        ("vae", "likelihood.steps=3", "'likelihood' has importance_samples"),
        ("vae", "data.features.steps=3", "'data.features' is null here, and has no keys"),
        ("vae", "seed.first=3", "'seed' has a value and no keys"),
    ],
)
def test_a_key_that_the_model_does_not_have_names_the_model(
    model: str, override: str, said: str, call_stage: Callable[..., Any]
) -> None:
    key = override.partition("=")[0]
    assert refusal(call_stage, f"model={model}", override) == f"error: unknown key '{key}': {said}"


def test_an_optimizer_that_is_added_to_a_fitted_model_is_refused(
    heights_cell: Path, call_stage: Callable[..., Any], places: Callable[[Path], list[str]]
) -> None:
    settings = ("lr", "weight_decay", "warmup", "clip", "ema_horizon", "beta1", "muon")
    given = [f"++optimizer.{name}=0.1" for name in settings]
    line = refusal(call_stage, "model=independent", *places(heights_cell), *given)
    assert line == "error: optimizer: model=independent is fitted without an optimizer; set it to null"


def test_a_tilde_in_a_folder_is_the_home_folder(
    checkout: Path, tmp_path: Path, call_stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").symlink_to(checkout / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = call_stage("prepare", "data=heights", "paths.data='~/mine'", "paths.artifacts='~/runs'")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "heights" / "prepared" / "train.npy").is_file()
    done = call_stage("prepare", "data=heights", "data.reader.folder='~/mine/heights'", "paths.artifacts='~/more'")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "more" / "heights" / "prepared" / "train.npy").is_file()
    config = compose(["paths.cell='~/cell'", "paths.scratch='~'"])
    assert (config.cell, config.path("scratch")) == (tmp_path / "cell", tmp_path)


def test_a_tilde_in_the_place_of_weights_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_domain: Callable[..., Any]
) -> None:
    from types import SimpleNamespace

    from lookalike.features import inception

    monkeypatch.setenv("HOME", str(tmp_path))
    prepared: Any = SimpleNamespace(domain=make_domain(1, 8, 8, levels=256))
    with pytest.raises(UserError, match=str(tmp_path / "w.pth")):
        inception.make(prepared, compose([]), tmp_path, weights="~/w.pth")
