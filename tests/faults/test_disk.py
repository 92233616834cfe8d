"""A disk that fills up at any write of any stage: one line, no result is lost, and the same command ends well later."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fault_fixtures import STAGES, Done, without_cost
from pipeline_fixtures import quick

pytest_plugins = ["pipeline_fixtures", "fault_fixtures"]

Contents = Callable[[Path], dict[str, str]]


def check_every_write(
    stage: str, chosen: Callable[[int], list[int]], folder: Path, whole: Path, faulty: Callable[..., Done],
    places: Callable[[Path], list[str]], contents: Contents,
) -> int:  # fmt: skip
    """Let the chosen writes of a stage fail, one per run; return how many writes there are."""
    shutil.copytree(whole, folder / "disk")
    command = [stage, *quick("heights", "vae"), *places(folder / "disk")]
    log = folder / "log"
    done = faulty(*command, FAULT_DISK=str(folder / "disk"), FAULT_LOG=str(log))
    assert done.returncode == 0, done.stderr
    writes, before = log.stat().st_size, contents(folder / "disk")
    for number in chosen(writes):
        log.unlink()
        done = faulty(*command, FAULT_DISK=str(folder / "disk"), FAULT_AT=str(number), FAULT_LOG=str(log))
        where = f"{stage}, write {number} of {writes}: {done.stdout}{done.stderr}"
        if log.stat().st_size < number:  # A training that continues from a checkpoint writes less.
            assert (stage, done.returncode, done.stderr) == ("train", 0, ""), where
            before = contents(folder / "disk")
            continue
        assert done.returncode == 1, where
        assert done.stderr.count("\n") == 1, where
        assert done.stderr.startswith("error: "), where
        assert "No space left on device" in done.stderr, where
        found = contents(folder / "disk")
        assert {name: found.get(name) for name in before} == before, where
        assert {name for name in found.keys() - before.keys() if not name.startswith("scratch/")} == set(), where
    done = faulty(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert without_cost(contents(folder / "disk")) == without_cost(before)
    return writes


@pytest.mark.parametrize("stage", ["train", "compare"])
def test_a_disk_that_fills_up_at_some_writes(
    stage: str, tmp_path: Path, whole: Path, faulty: Callable[..., Done],
    places: Callable[[Path], list[str]], contents: Contents,
) -> None:  # fmt: skip
    def some(writes: int) -> list[int]:
        return [writes // 2, writes]

    assert check_every_write(stage, some, tmp_path, whole, faulty, places, contents) > 3


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_up_at_every_write(
    stage: str, tmp_path: Path, whole: Path, faulty: Callable[..., Done],
    places: Callable[[Path], list[str]], contents: Contents,
) -> None:  # fmt: skip
    def every(writes: int) -> list[int]:
        return list(range(1, writes + 1))

    assert check_every_write(stage, every, tmp_path, whole, faulty, places, contents) > 3
