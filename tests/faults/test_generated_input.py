"""Bad input that Hypothesis makes up: configuration, command lines and files of every stage and command.

Every command ends with 0, or with 1 and one line that names what is wrong. A traceback, a half-written result or an
empty message fails the test. Some generated input is right after all, so 0 is allowed.
"""

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fault_fixtures import STAGES, Done
from lookalike.__main__ import COMMANDS
from lookalike.workspace.configuration import compose
from pipeline_fixtures import quick

pytest_plugins = ["pipeline_fixtures", "fault_fixtures"]

Contents = Callable[[Path], dict[str, str]]
Refused = Callable[..., str | None]

MANY = os.environ.get("LOOKALIKE_EXAMPLES")


def examples(few: int) -> settings:
    """Return settings by which the same examples are tried every time, or others and more of them, if asked for."""
    return settings(
        max_examples=int(MANY) if MANY else few,
        derandomize=not MANY,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # A smaller example takes minutes to find, and these are small.
    )


@pytest.fixture(scope="module")
def folder(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a whole small cell of heights."""
    return Path(shutil.copytree(whole, tmp_path_factory.mktemp("work") / "cell"))


@pytest.fixture(scope="module")
def answer(
    folder: Path, call_stage: Callable[..., Done], places: Callable[[Path], list[str]], contents: Contents
) -> Refused:
    """`answer(command, *arguments)`: the line with which a command refuses its input; None if it did its work."""

    def ask(*command: str, whole: bool = True) -> str | None:
        before = contents(folder / "artifacts")
        ours = [*quick("heights", "vae"), *places(folder)] if command[0] in STAGES else []
        done = call_stage(command[0], *ours, *command[1:])
        what = f"{shlex.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, what
        assert done.returncode in (0, 1), what
        if done.returncode == 0:
            return None
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, what
        assert lines[0].startswith("error: "), what
        assert len(lines[0]) > len("error: ") + 10, what
        assert contents(folder / "artifacts") == before, what
        return lines[0]

    return ask


# Configuration


def leaves(node: Any, prefix: str = "") -> list[str]:
    """Return the keys of all values of a configuration."""
    if not isinstance(node, dict) or not node:
        return [prefix]
    return [leaf for key, value in node.items() for leaf in leaves(value, f"{prefix}.{key}" if prefix else key)]


KEYS = [
    key
    for key in leaves(compose(["data=heights", "model=vae", "budget=smoke", "tracking=none"]).model_dump())
    if not key.startswith(("paths.", "label")) and "_target_" not in key and "expected" not in key
]
NO_VALUE = st.sampled_from(
    ["abc", "-1", "-0.5", "nan", "inf", "-inf", "[]", "[1,2]", "{a:1}", "''", "true", "1e999", "0x10", "'1'", "1_0"]
)
"""Values that few settings accept, or none."""


@examples(25)
@given(key=st.sampled_from(KEYS), value=NO_VALUE, stage=st.sampled_from(STAGES))
def test_values_that_settings_do_not_accept(key: str, value: str, stage: str, answer: Refused) -> None:
    line = answer(stage, f"{key}={value}")
    assert line is None or key.rpartition(".")[2] in line or value.strip("'") in line, line


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@examples(15)
@given(
    stage=st.sampled_from(STAGES),
    item=st.one_of(
        TEXT,
        st.tuples(st.sampled_from(["", "+", "~", "++"]), TEXT, TEXT).map(lambda t: f"{t[0]}{t[1]}={t[2]}"),
        st.tuples(st.sampled_from(KEYS), TEXT).map(lambda t: f"{t[0]}.{t[1]}=1"),
        st.tuples(st.sampled_from(["data", "model", "budget", "trainer", "tracking", "optimizer"]), TEXT).map("=".join),
        st.sampled_from(["seed=1,2", "seed=[1", "seed='1", "seed=${", "seed=${x}", "data=${seed}", "a=b=c", "=", "~"]),
    ),
)
def test_arguments_that_are_no_settings(stage: str, item: str, answer: Refused) -> None:
    answer(stage, item)


# Command lines


@examples(15)
@given(
    command=st.sampled_from(sorted(COMMANDS)),
    items=st.lists(st.one_of(TEXT, st.sampled_from(["--jobs", "-m", "--launcher", "x", "="])), max_size=3),
    bad=st.sampled_from(["--nonsense", "nonsense", "nonsense=1", "+x=", "hydra.run.dir=x", "--jobs=x"]),
)
def test_command_lines_of_every_command(command: str, items: list[str], bad: str, answer: Refused) -> None:
    if {"-h", "--help", "--cfg"} & {item.strip() for item in items} or any(item.startswith("-h") for item in items):
        return
    assert answer(command, *items, bad) is not None


# Files

READ = {
    "features": ["prepared"],
    "train": ["prepared"],
    "sample": ["prepared", "vae/0/train"],
    "evaluate": ["prepared", "features/extractor", "vae/0/train", "vae/0/sample"],
    "real": ["prepared", "features/extractor"],
    "compare": ["prepared", "real", "vae/0/train", "vae/0/sample", "vae/0/evaluate"],
}
"""Folders that a stage reads, below `artifacts/heights`."""


def damaged(content: bytes, how: str, place: float, byte: int) -> bytes:
    """Return a file's content after an accident."""
    at = int(place * max(0, len(content) - 1))
    if how == "cut":
        return content[:at]
    if how == "flipped" and content:
        return content[:at] + bytes([content[at] ^ (byte or 1)]) + content[at + 1 :]
    if how == "zeroed":
        return content[:at] + bytes(len(content) - at)
    if how == "doubled":
        return content + content
    if how == "emptied":
        return b""
    return bytes([byte]) * 100


@examples(25)
@given(
    choice=st.sampled_from([(stage, name) for stage, names in READ.items() for name in names]),
    number=st.integers(0, 20),
    how=st.sampled_from(["cut", "flipped", "zeroed", "doubled", "emptied", "replaced", "gone", "a folder"]),
    place=st.floats(0, 1, allow_subnormal=False),
    byte=st.integers(0, 255),
)
def test_files_that_are_damaged(
    choice: tuple[str, str], number: int, how: str, place: float, byte: int, folder: Path, answer: Refused, whole: Path
) -> None:
    stage, name = choice
    read = folder / "artifacts" / "heights" / name
    files = sorted(path for path in read.rglob("*") if path.is_file() and path.name != "cost.json")
    path = files[number % len(files)]
    content = path.read_bytes()
    try:
        if how in ("gone", "a folder"):
            path.unlink()
            path.mkdir() if how == "a folder" else None
        else:
            path.write_bytes(damaged(content, how, place, byte))
        line = answer(stage)
        assert line is None or read.name in line or path.name in line or "heights" in line, (path, how, line)
    finally:
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_subnormal=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


@examples(15)
@given(
    choice=st.sampled_from(
        [
            ("sample", "vae/0/train/model.json"),
            ("evaluate", "features/extractor/extractor.json"),
            ("train", "prepared/summary.json"),
            ("compare", "vae/0/evaluate/metrics.json"),
            ("compare", "real/metrics.json"),
        ]
    ),
    where=st.integers(0, 1000),
    junk=JUNK,
)
def test_records_with_other_values(
    choice: tuple[str, str], where: int, junk: Any, folder: Path, answer: Refused, whole: Path
) -> None:
    stage, name = choice
    path = folder / "artifacts" / "heights" / name
    record = json.loads(path.read_text())
    keys = leaves(record)
    *above, last = keys[where % len(keys)].split(".")
    node = record
    for part in above:
        node = node[part]
    node[last] = junk
    try:
        path.write_text(json.dumps(record))
        answer(stage)
    finally:
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
