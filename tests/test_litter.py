"""Tests that files of desktops and editors are no choice, no source and no part of a digest."""

from pathlib import Path

import pytest

from lookalike.cells.records import content_digest
from lookalike.sweeps.check import base_digest
from lookalike.workspace.configuration import ROOT, choices, groups
from lookalike.workspace.litter import LITTER, files_below


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree in the place of the checkout."""
    for name in ("src/a/b.py", "conf/data/heights.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")
    for module in ("cells.records", "sweeps.check"):
        monkeypatch.setattr(f"lookalike.{module}.ROOT", tmp_path)
    for module in ("workspace.configuration", "sweeps.check"):
        monkeypatch.setattr(f"lookalike.{module}.CONF", tmp_path / "conf")
    return tmp_path


def test_litter_changes_no_choice_and_no_digest(checkout: Path) -> None:
    def look() -> tuple[object, ...]:
        return groups(), choices("data"), content_digest(["src", "conf"]), base_digest(["x"])

    before = look()
    assert before[:2] == (["data"], ["heights"])
    for name in ("src/a/._b.py", "src/a/.DS_Store", "src/a/.ipynb_checkpoints/b-checkpoint.py", "src/Thumbs.db",
                 "src/a/__pycache__/b.py", "conf/data/._heights.yaml", "conf/data/.~lock.heights.yaml#",
                 "conf/.ipynb_checkpoints/config-checkpoint.yaml"):  # fmt: skip
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("litter")
    assert look() == before
    assert [path.name for path in files_below(checkout)] == ["heights.yaml", "b.py"]
    (checkout / "src" / "a" / "c.py").write_text("no litter")
    after = look()
    assert after[2] != before[2]
    assert after[3] != before[3]


@pytest.mark.parametrize("name", [".dvcignore", ".gitignore"])
def test_dvc_and_git_ignore_the_same_litter(name: str) -> None:
    part = (ROOT / name).read_text().split("# What desktops and editors leave in folders.\n")[1].split("\n\n")[0]
    assert part.split() == list(LITTER)
