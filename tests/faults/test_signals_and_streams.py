"""Signals, terminals, closed outputs, clocks that jump, read-only disks: right exit codes and no traceback."""

import contextlib
import errno
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fault_fixtures import STAGES, Done, without_cost
from lookalike.__main__ import COMMANDS
from lookalike.cells.records import State
from pipeline_fixtures import quick

pytest_plugins = ["pipeline_fixtures", "fault_fixtures"]

Contents = Callable[[Path], dict[str, str]]

SLOW = pytest.mark.slow

LOOKALIKE = [sys.executable, "-m", "lookalike"]


@pytest.fixture
def work(whole: Path, tmp_path: Path) -> Path:
    """A copy of a whole small cell of heights."""
    return Path(shutil.copytree(whole, tmp_path / "cell"))


# Signals


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGHUP, "working"),
        pytest.param(signal.SIGHUP, "starting", marks=SLOW),
        pytest.param(signal.SIGTERM, "starting", marks=SLOW),
        pytest.param(signal.SIGTERM, "working", marks=SLOW),
    ],
)
def test_a_signal_ends_a_stage_with_130_and_leaves_what_was_there(
    number: signal.Signals, moment: str, work: Path, checkout: Path, contents: Contents,
    environment: Callable[[Path], dict[str, str]], places: Callable[[Path], list[str]],
) -> None:  # fmt: skip
    before = contents(work / "artifacts")
    slow = [*quick("heights", "vae"), "likelihood.importance_samples=200000"]
    process = subprocess.Popen(
        [*LOOKALIKE, "evaluate", *slow, *places(work)], cwd=checkout, env=environment(checkout),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline, loaded = time.monotonic() + 300, "libtorch_cpu" if moment == "starting" else None
    while time.monotonic() < deadline and process.poll() is None:
        if loaded is None and list(work.glob("artifacts/heights/vae/0/.evaluate-*")):
            break
        if loaded is not None and loaded in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8"):
            break
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (130, "interrupted\n"), out + err
    assert contents(work / "artifacts") == before


@SLOW
def test_a_hangup_that_is_ignored_does_not_end_a_stage(
    work: Path, checkout: Path, environment: Callable[[Path], dict[str, str]], places: Callable[[Path], list[str]]
) -> None:
    """As under `nohup`."""
    command = shlex.join([*LOOKALIKE, "sample", *quick("heights", "vae"), *places(work)])
    done = subprocess.run(
        ["sh", "-c", f"trap '' HUP; {command} & sleep 0.5; kill -HUP $!; wait $!"],
        cwd=checkout, env=environment(checkout), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done


# Outputs


def shell(script: str, checkout: Path, env: dict[str, str]) -> Done:
    """Run a script of bash without a terminal."""
    return subprocess.run(
        ["bash", "-c", script], cwd=checkout, env=env, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


REDIRECTIONS = [">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full", "| head -n 1 >&2", "| true"]
FAST = [("compare", "| true"), ("sample", ">/dev/full"), ("sample", ">&- 2>&- <&-")]


@pytest.mark.parametrize(
    ("command", "redirection"),
    [
        pytest.param(command, redirection, marks=() if (command, redirection) in FAST else SLOW)
        for command in ("compare", "sample")
        for redirection in REDIRECTIONS
    ],
)
def test_outputs_that_are_closed_full_or_not_read(
    redirection: str, command: str, work: Path, checkout: Path, contents: Contents,
    environment: Callable[[Path], dict[str, str]], places: Callable[[Path], list[str]],
) -> None:  # fmt: skip
    before = without_cost(contents(work / "artifacts") | contents(work / "results"))
    line = shlex.join([*LOOKALIKE, command, *quick("heights", "vae"), *places(work)])
    done = shell(f"set -o pipefail; {line} {redirection}", checkout, environment(checkout))
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception" not in done.stderr, done.stderr
    allowed = {"|": (0, 128 + signal.SIGPIPE), ">/": (1,)}.get(redirection[: 1 + (redirection[1] == "/")], (0,))
    assert done.returncode in allowed, done
    assert without_cost(contents(work / "artifacts") | contents(work / "results")) == before


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "sweep",
        *(pytest.param(name, marks=SLOW) for name in (*STAGES, *COMMANDS) if name != "sweep"),
    ],
)
def test_help_may_be_cut_off(command: str, checkout: Path, environment: Callable[[Path], dict[str, str]]) -> None:
    line = shlex.join([*LOOKALIKE, *dict.fromkeys([command, "--help"])])
    done = shell(f"set -o pipefail; {line} | true", checkout, environment(checkout))
    assert (done.returncode in (0, 128 + signal.SIGPIPE), done.stderr) == (True, ""), done


# Terminals


def on_terminal(command: list[str], cwd: Path, env: dict[str, str], *, columns: int) -> tuple[int, str]:
    """Run a command on a terminal; return its exit code and all that the terminal shows."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux says EIO at the end
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    return process.wait(300), shown.decode(errors="replace")


@pytest.mark.parametrize("terminal", [pytest.param("xterm", marks=SLOW), pytest.param("dumb", marks=SLOW), ""])
def test_a_terminal_of_twenty_columns(
    terminal: str, work: Path, checkout: Path, environment: Callable[[Path], dict[str, str]],
    places: Callable[[Path], list[str]],
) -> None:  # fmt: skip
    env = environment(checkout) | {"TERM": terminal}
    for name in ("COLUMNS", "LINES"):
        env.pop(name, None)
    for command in ("report",) if terminal != "xterm" else ("report", "compare", "train"):
        status, shown = on_terminal(
            [*LOOKALIKE, command, *quick("heights", "vae"), *places(work)], checkout, env, columns=20
        )
        assert status == 0, shown
        assert "Traceback" not in shown
        assert shown.strip()


# Clocks

DAY = 86_400


@pytest.mark.parametrize("seconds", [-400 * DAY, pytest.param(400 * DAY, marks=SLOW)])
@pytest.mark.parametrize("stage", ["train", *(pytest.param(stage, marks=SLOW) for stage in STAGES if stage != "train")])
def test_a_clock_that_jumps_changes_no_result(
    seconds: int, stage: str, work: Path, faulty: Callable[..., Done], places: Callable[[Path], list[str]],
    contents: Contents,
) -> None:  # fmt: skip
    before = without_cost(contents(work))
    done = faulty(
        stage, *quick("heights", "vae"), *places(work), FAULT_CLOCK=str(seconds), FAULT_LOOK="3"
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert without_cost(contents(work)) == before


def test_a_job_whose_clock_was_ahead_is_not_waited_for() -> None:
    now = time.time()
    alive = [State(name="a", round="1", started=now, pid=1, updated=now + s).is_alive for s in (-DAY, -1, 1, DAY)]
    assert alive == [False, True, True, False]


# Disks


@pytest.mark.parametrize("stage", ["train", *(pytest.param(stage, marks=SLOW) for stage in STAGES if stage != "train")])
def test_a_read_only_disk_is_named_and_nothing_is_lost(
    stage: str, work: Path, faulty: Callable[..., Done], places: Callable[[Path], list[str]], contents: Contents
) -> None:
    before = contents(work)
    done = faulty(
        stage, *quick("heights", "vae"), *places(work),
        FAULT_DISK=str(work), FAULT_AT="1", FAULT_ERRNO=str(errno.EROFS),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith(f"error: cannot write to {work}"), done.stderr
    assert "Read-only file system" in done.stderr
    assert done.stderr.count("\n") == 1
    assert contents(work) == before
