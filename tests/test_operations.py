"""Tests of counted operations against torch's own counter, and of the number of threads."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conftest import shrunk
from lookalike.domain.domain import Domain
from lookalike.families.build import build, for_domain
from lookalike.training.operations import Operations
from lookalike.training.optimizer import Muon, groups
from lookalike.workspace.configuration import Config, choices


@pytest.mark.parametrize("family", choices("model"))
@pytest.mark.parametrize("shape", [(1, 6, 6), (3,)], ids=["image", "table"])
def test_counted_operations_of_a_family_are_those_of_torch_s_counter(
    family: str, shape: tuple[int, ...], small_config: Callable[..., Config], make_domain: Callable[..., Domain]
) -> None:
    domain = make_domain(*shape, levels=16)
    config = for_domain(small_config(family), domain)
    model = build(config.model, domain, seed=0)
    x = torch.randint(0, 16, (40, *shape))
    if model.is_fitted:
        model.fit(x)
    else:
        model.start(x)

    def step() -> None:
        torch.manual_seed(0)
        model.losses(x[:4])["loss"].backward()
        assert config.optimizer is not None
        Muon(groups(model, config.optimizer), lr=0.0).step()

    cheap = shrunk(config.likelihood or {}, 8)

    def score() -> None:
        torch.manual_seed(0)
        with torch.no_grad():
            model.log_likelihood(x[:2], **cheap)

    works = [] if model.is_fitted else [step]
    works += [score] if model.likelihood_kind is not None else []
    for work in works:
        with FlopCounterMode(display=False) as theirs:
            work()
        with Operations() as ours:
            work()
        assert ours.total == theirs.get_total_flops()
        assert ours.total > 0 or work is score


def test_counting_imports_no_compiler() -> None:
    code = (
        "import sys, torch\nfrom lookalike.training.operations import Operations\n"
        "with Operations() as counter:\n    torch.ones(2, 3) @ torch.ones(3, 4)\n"
        "print(counter.total, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(2 * 2 * 3 * 4), "False"]


def test_linear_algebra_has_the_threads_of_torch() -> None:
    code = (
        "import numpy, torch, threadpoolctl\nfrom lookalike.workspace.configuration import compose\n"
        "from lookalike.workspace.threads import set_threads\nset_threads(compose(['trainer.threads=1']).trainer)\n"
        "import scipy.linalg\n"  # SciPy brings a library of its own, which is loaded only now.
        "found = [lib['num_threads'] for lib in threadpoolctl.threadpool_info()]\n"
        "print(torch.get_num_threads(), len(found) > 2, *set(found))"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1", "True", "1"]
