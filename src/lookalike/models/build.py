"""From a configuration section to a model, and between a model and its weights on disk."""

import os
from pathlib import Path
from typing import Any

import threadpoolctl
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lookalike.core.config import Config, Section, arguments_of, check_arguments, target
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError


def build(section: Section, domain: Domain, *, seed: int) -> Any:
    """The model that a configuration's `model:` section describes, for a domain; its first weights follow from `seed`.

    Turns off subnormal numbers in this process: the far tails of a trained decoder are full of them, they change
    nothing, and they cost a CPU up to half of its time.

    Raises:
        UserError: an unknown target or key, or a value that the constructor's annotations exclude.
    """
    family = target(section, package="lookalike.models")
    if not isinstance(family, type):
        raise UserError(f"model._target_={section['_target_']}: that is a function, and a family is a class")
    arguments = arguments_of(section)
    check_arguments(family.__init__, arguments, section="model", given=("domain",))  # type: ignore[misc]
    torch.set_flush_denormal(True)  # threads take it over from this one when they start
    torch.manual_seed(seed)
    return family(domain=domain, **arguments)


def set_threads(threads: int | None, *, processes: int = 1) -> None:
    """Let torch and the linear algebra of NumPy and SciPy, loaded or not yet, use as many threads as are asked for in
    each process; by default the cores are divided among these.

    Raises:
        UserError: more than there are cores.
    """
    if threads is None:
        if processes == 1:
            return
        threads = max(1, (os.cpu_count() or 1) // processes)
    if threads > (cores := os.cpu_count() or 1):
        raise UserError(f"trainer.threads={threads}: there are {cores} cores")
    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(limits=threads, user_api="blas")
    for library in ("OPENBLAS", "MKL"):  # each reads its own when it is loaded: SciPy has one beside NumPy's
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


def check_settings(model: Any, config: Config) -> None:
    """Check the sections that are handed to `sample` and `log_likelihood` later, before any work."""
    likelihood = config.likelihood
    check_arguments(model.sample, config.preview, section="preview", given=("n", "labels"))
    check_arguments(model.sample, config.sampling, section="sampling", given=("n", "labels"))
    if (likelihood is None) != (model.likelihood_kind is None):
        raise UserError(
            f"likelihood={likelihood}: {type(model).__name__} has {model.likelihood_kind or 'no'} likelihood; "
            f"give its settings, or null where there is none"
        )
    if likelihood is not None:
        check_arguments(model.log_likelihood, likelihood, section="likelihood", given=("x",))
    if hasattr(model, "check"):
        sections = {"preview": config.preview, "sampling": config.sampling, "likelihood": likelihood or {}}
        for name, section in sections.items():
            try:
                model.check(section)
            except UserError as error:
                raise UserError(f"{name}: {error}") from None


def save_weights(model: nn.Module, path: Path) -> None:
    """Write parameters and persistent buffers as safetensors."""
    save_file({name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}, path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights into a model of the same configuration and domain, and set it to evaluation.

    Raises:
        UserError: the file is missing or damaged, or its tensors are of another model or domain.
    """
    if not path.is_file():
        raise UserError(f"no weights in {path.parent}: run the train stage first")
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises its own type, which has no public base
        raise UserError(f"weights damaged: {path} ({error}). Train again") from None
    own = model.state_dict()
    for name in sorted(own.keys() | state.keys()):
        ours, theirs = (tuple(s[name].shape) if name in s else None for s in (own, state))
        if ours != theirs:
            raise UserError(
                f"weights of another model or domain: {path} has {name} of shape {theirs}, this configuration needs "
                f"{ours}. Train again"
            )
    model.load_state_dict(state)
    model.eval()
