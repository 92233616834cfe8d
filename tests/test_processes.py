"""Work that processes share: results and their order are those of one process, and nobody waits for the dead."""

import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.extractors.classifier import Classifier
from lookalike.features import extract
from lookalike.processes import Crew, divided, flushes_denormal, packed
from lookalike.sampling import draw, stream


def square(i: int) -> tuple[int, int]:
    return os.getpid(), i * i


def fall(how: str, i: int) -> int:
    """Items 1 and 3 are the second process's: with them something happens."""
    if i == 3:
        if how == "mistake":
            raise UserError("sampled outside the grid")
        if how == "failure":
            raise ZeroDivisionError("no such number")
        os.kill(os.getpid(), signal.SIGKILL)
    return i


class Clinging:
    """As a connection to others is, which waits for them when it is let go."""

    def __del__(self) -> None:
        time.sleep(60)


def cling(how: str, number: int) -> Iterator[int]:
    held = Clinging()
    fall(how, 3)
    yield id(held)


def settings(_: int) -> tuple[int, bool]:
    return torch.get_num_threads(), flushes_denormal()


# How work is shared


def test_results_come_in_order_from_as_many_processes_as_there_is_work_for() -> None:
    for processes, items in ((1, 5), (3, 5), (3, 2), (2, 0)):
        found = list(divided(square, range(items), processes=processes))
        assert [result for _, result in found] == [i * i for i in range(items)]
        used = [pid for pid, _ in found]
        assert len(set(used)) == min(processes, items)
        assert used == (used[:processes] * items)[:items]
        assert not items or used[0] == os.getpid()


def test_the_others_compute_with_the_settings_of_the_first() -> None:
    before = torch.get_num_threads(), flushes_denormal()
    try:
        torch.set_num_threads(3)
        torch.set_flush_denormal(True)
        assert list(divided(settings, range(2), processes=2)) == [(3, True)] * 2
    finally:
        torch.set_num_threads(before[0])
        torch.set_flush_denormal(before[1])


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("mistake", UserError, "^sampled outside the grid$"),
        ("failure", RuntimeError, r"process 1 of 2 failed:\n(.|\n)*ZeroDivisionError: no such number"),
        ("killed", UserError, r"process 1 of 2 .* was killed by SIGKILL: .*trainer\.devices"),
    ],
)
def test_what_another_process_fails_of_is_raised_and_none_is_left(
    how: str, error: type[Exception], message: str
) -> None:
    before = set(psutil.Process().children())
    got: list[int] = []
    with pytest.raises(error, match=message):
        got.extend(divided(functools.partial(fall, how), range(6), processes=2))
    assert not [process for process in set(psutil.Process().children()) - before if is_worker(process)]


def test_results_that_nobody_takes_end_with_who_asked_for_them() -> None:
    results = divided(square, range(9), processes=2)
    pids = {next(results)[0], next(results)[0]} - {os.getpid()}
    results.close()  # type: ignore[attr-defined]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def is_worker(process: psutil.Process) -> bool:
    """Not Python's tracker of shared memory, which stays."""
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


SLEEPER = """
import os, signal, sys, time
from lookalike import processes

def work(number):
    yield "here"
    if sys.argv[1] == "first":
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    processes.NOTICE_SECONDS = 0.5
    with processes.Crew(work, count=2) as crew:
        crew.receive(1)
        print(crew.processes[1].pid, flush=True)
        with crew.watched():
            time.sleep(600)
"""


def test_no_process_waits_for_one_that_is_gone(tmp_path: Path) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(script), "other"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "error: process 1 of 2 (numbered from 0) was killed by SIGKILL" in done.stderr

    first = subprocess.Popen([sys.executable, str(script), "first"], env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    other = int(first.stdout.readline())
    first.kill()
    first.communicate()
    deadline = time.monotonic() + 60
    while psutil.pid_exists(other) and psutil.Process(other).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def asleep(number: int) -> Iterator[str]:
    yield "here"
    time.sleep(600)


@pytest.mark.parametrize(("how", "error"), [("mistake", UserError), ("failure", RuntimeError)])
def test_one_that_failed_is_gone_before_what_it_held_is_let_go(how: str, error: type[Exception]) -> None:
    with Crew(functools.partial(cling, how), count=2) as crew:
        with pytest.raises(error):
            crew.receive(1)
        assert crew.exit_code(1) == 1


def test_all_who_ask_at_once_are_told_how_a_process_ended() -> None:
    with Crew(asleep, count=2) as crew:
        assert crew.receive(1) == "here"
        codes: list[int | None] = []
        threads = [threading.Thread(target=lambda: codes.append(crew.exit_code(1))) for _ in range(16)]
        for thread in threads:
            thread.start()
        crew.processes[1].kill()
        for thread in threads:
            thread.join()
    assert codes == [-signal.SIGKILL] * 16


STILLBORN = """
import sys
from lookalike import processes

class Work:
    def __init__(self):
        self.weights = bytes(10_000_000)  # more than a pipe holds

    def __call__(self, number):
        return []

if __name__ == "__main__":
    processes.FRESH.set_executable("/bin/false")
    try:
        processes.Crew(Work(), count=3)
    except processes.UserError as error:
        sys.exit(str(error))
"""


def test_a_process_that_never_comes_to_life_is_not_waited_for(tmp_path: Path) -> None:
    script = tmp_path / "stillborn.py"
    script.write_text(STILLBORN)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "process 1 of 3 (numbered from 0) ended with 1" in done.stderr


def test_arrays_on_disk_travel_as_their_place(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, np.arange(1_000_000).reshape(1000, 1000))
    mapped = np.load(path, mmap_mode="r")
    content = packed(mapped)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert isinstance(again, np.memmap)
    assert np.array_equal(again, mapped)
    for part in (mapped[:10], mapped[1:], mapped.T, np.array(mapped)):
        assert np.array_equal(pickle.loads(packed(part)), part)
    path.unlink()
    assert np.array_equal(pickle.loads(packed(mapped)), mapped)


# What is shared


@pytest.mark.parametrize("family", ["diffusion", "gan"])
def test_samples_have_the_same_bytes_however_many_processes_draw_them(
    family: str, small_model: Callable[..., Any], small_config: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(1, 6, 6, levels=8)
    model, config = small_model(family, domain).eval(), small_config(family)
    drawn = [
        draw(model, domain, samples=50, batch_size=12, seed=0, settings=config.sampling, processes=processes)
        for processes in (1, 2)
    ]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    assert len({batch.tobytes() for batch in np.split(drawn[0][:48], 4)}) == 4


def test_more_samples_begin_with_the_fewer(small_model: Callable[..., Any], make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(2, levels=50)
    model = small_model("gan", domain).eval()
    few, many = (draw(model, domain, samples=n, batch_size=10, seed=3, settings={}) for n in (20, 40))
    assert many[:20].tobytes() == few.tobytes()


def test_streams_of_random_numbers_differ_in_what_torch_looks_at() -> None:
    seeds = {stream(seed, number) for seed in (0, 1, 2**32 - 1) for number in range(1000)}
    assert len(seeds) == 3000
    assert max(seeds) < 2**32


def test_features_have_the_same_bytes_however_many_processes_compute_them(make_domain: Callable[..., Domain]) -> None:
    domain = make_domain(1, 8, 8, levels=16)
    torch.manual_seed(0)
    classifier = Classifier(domain=labelled(domain), widths=[4, 4], features=5, shift=1, dropout=0.1)
    images = np.random.default_rng(0).integers(0, 16, (45, 1, 8, 8), dtype=np.uint8)
    one, two = (
        np.concatenate(list(extract(classifier, images, batch_size=10, processes=processes))) for processes in (1, 2)
    )
    assert one.shape == (45, 5)
    assert one.tobytes() == two.tobytes()


def labelled(domain: Domain) -> Domain:
    import dataclasses

    return dataclasses.replace(domain, labels=("a", "b"))


def test_likelihoods_have_the_same_bytes_however_many_processes_compute_them(
    small_model: Callable[..., Any], small_config: Callable[..., Any], make_domain: Callable[..., Domain]
) -> None:
    from lookalike.evaluation import log_likelihoods

    domain = make_domain(2, levels=50)
    model, config = small_model("vae", domain).eval(), small_config("vae")
    grid = np.random.default_rng(0).integers(0, 50, (60, 2))
    one, two = (
        log_likelihoods(
            model, grid, np.arange(3, 48), settings=config.likelihood, batch_size=10, split="test", processes=processes
        )
        for processes in (1, 2)
    )
    assert one.shape == (45,)
    assert one.tobytes() == two.tobytes()


def test_a_crew_of_one_is_this_process_alone() -> None:
    with Crew(square, count=1) as crew:
        assert not crew.processes
        assert crew.failure() is None
