"""Tests of data sets and samples too small for some scores: the others are given, and the missing ones say why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike.evaluation.entries import attempt, content_of, entry
from lookalike.metrics.energy import energy_distance
from lookalike.metrics.frechet import frechet_distances
from lookalike.metrics.inputs import TooFewPointsError
from lookalike.metrics.kernel import kernel_distance
from lookalike.metrics.support import support_and_gaps

pytest_plugins = ["pipeline_fixtures"]

PICTURES = """
name: few
reader:
  _target_: lookalike.readers.image_folder.read
  folder: few
  side: null
  channels: null
  background: null
  validation: 0.3
  test: 0.2
  expected: null
  seed: 0
flops: 1.0e9
steps: 20
batch_size: 16
features:
  _target_: lookalike.features.self_supervised.make
  batch_size: 16
  features: 48
"""


@pytest.fixture(scope="module")
def few(new_checkout: Callable[..., Path]) -> Path:
    """A checkout with 150 pictures, 45 of them for validation and 30 for testing, which are compared in 48 features."""
    listed = "data: [few]\nmodels: [gan]\nfloors: [independent]\nseeds: [0]\nbudget: smoke\ntrainer: cpu\n"
    checkout = new_checkout(listed)
    (checkout / "conf" / "data" / "few.yaml").write_text(PICTURES)
    smoke = checkout / "conf" / "budget" / "smoke.yaml"
    smoke.write_text(smoke.read_text().replace("samples: 200 ", "samples: 40 "))
    (checkout / "data" / "few").mkdir()
    generator = np.random.default_rng(0)
    for i in range(150):
        picture = Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8))
        picture.save(checkout / "data" / "few" / f"{i}.png")
    return checkout


def test_scores_that_need_no_covariance_are_given_and_the_report_says_what_the_missing_one_needs(
    few: Path, run: Callable[..., Any]
) -> None:
    def stage(name: str, *overrides: str) -> Any:
        done = run(few, "python", "-m", "lookalike", name, "data=few", "tracking=none", *overrides)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    stage("prepare")
    said = stage("features").stderr
    assert "note: no Fréchet distance on test data: it needs 49 images in 48 features, and there are 30" in said
    assert "note: no Fréchet distance on validation data" in said
    reason = "40 samples against 30 in 48 features: a Fréchet distance needs at least 49 of each"
    for model in ("gan", "independent"):
        stage("train", f"model={model}")
        stage("sample", f"model={model}")
        done = stage("evaluate", f"model={model}")
        assert f"note: no frechet_distance: {reason}" in done.stderr
        assert "kernel_distance" in done.stdout
        scores = json.loads((few / "artifacts" / "few" / model / "0" / "evaluate" / "metrics.json").read_text())
        assert scores["missing"] == dict.fromkeys(("frechet_distance", "frechet_distance_infinite"), reason)
        assert scores.keys() >= {"kernel_distance", "energy_distance", "precision", "coverage", "authenticity"}
        assert "frechet_distance" not in scores
    stage("real")
    stage("compare")
    results = few / "results" / "default"
    for page in (results / "leaderboard.md", results / "report.html", results / "cards" / "few-gan.md"):
        text = page.read_text(encoding="utf-8")
        assert reason in text
        assert "nan" not in text.lower().split()


def test_a_metric_that_lacks_points_is_left_out_and_the_others_stand() -> None:
    generator = np.random.default_rng(0)
    few, many = generator.normal(size=(20, 30)), generator.normal(size=(3000, 30))
    for lacking in (attempt(frechet_distances, few, many), attempt(kernel_distance, few[:2], many)):
        assert isinstance(lacking, TooFewPointsError)
    found = attempt(energy_distance, few, many)
    assert not isinstance(found, TooFewPointsError)
    far = attempt(kernel_distance, few[:3], np.repeat(many, 2, axis=0))
    assert isinstance(far, TooFewPointsError)
    entries = {
        "kernel_distance": entry(far, {}, error_of="samples"),
        "energy_distance": entry(found, {}, error_of="samples"),
    }
    content = content_of(entries)
    assert content["missing"] == {
        "kernel_distance": "3 samples against 6000: a permutation test needs at least 6 of each"
    }
    assert list(content) == ["energy_distance", "missing"]
    assert list(content_of({"energy_distance": entries["energy_distance"]})) == ["energy_distance"]
    with pytest.raises(TooFewPointsError, match="5 rows, and this metric needs at least 6"):
        support_and_gaps(few[:5], many, k=5)
