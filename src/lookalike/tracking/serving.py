"""A trained model that answers requests for samples and likelihoods in lists that JSON can hold; it needs no tool.

This file and what it imports are kept with a registered model. A request has either `count` (with `seed` and `label`)
or `data`; its answer depends on the request alone.
"""

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray

from lookalike.domain.grid import bits_per_dimension
from lookalike.domain.kinds import load_domain
from lookalike.families.build import build
from lookalike.networks.weights import load_weights
from lookalike.sampling.drawing import class_number, draw, draw_classes
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import read_json
from lookalike.workspace.fingerprint import code_digest, source_of

MAX_COUNT = 10_000
"""Samples, or observations to score, in one call; it limits memory and time."""

Answer = dict[str, Any]

ONE_AT_A_TIME = threading.Lock()
"""A server answers in several threads, and random numbers come from torch's global generator."""


class Request(pydantic.BaseModel):
    """What a model can be asked for.

    Attributes:
        count: number of samples to draw.
        seed: seed of the random numbers; `lookalike sample seed=...` draws the same samples. Without it, a seed is
            drawn and returned.
        label: name or number of the class of all samples; without it, a conditional model draws classes itself.
        data: observations to score, in lists `[N, *shape]`.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    count: int | None = None
    seed: int | None = None
    label: str | None = None
    data: Any = None

    @pydantic.field_validator("label", mode="before")
    @classmethod
    def name(cls, value: Any) -> Any:
        """Return a label as text: the name of a class may look like a number."""
        return str(value) if type(value) is int else value


class Served:
    """Open a folder with `model.json`, `weights.safetensors` and `settings.json`.

    The last file has the sections `sampling` and `likelihood` with which the model was sampled and scored, and the
    digest of the code that reads it.
    """

    def __init__(self, folder: Path) -> None:
        remedy = "Register the model again"
        record = read_json(folder / "model.json", remedy=remedy, keys=("domain", "configuration"))
        self.settings = read_json(folder / "settings.json", remedy=remedy, keys=("sampling", "likelihood", "code"))
        self.section: dict[str, Any] = record["configuration"]["model"]
        trainer = record["configuration"]["trainer"]
        self.batch_size: int = trainer["batch_size"]
        self.threads: int | None = trainer["threads"]
        try:
            self.domain = load_domain(record["domain"])
            with self.alone():
                self.model = build(self.section, self.domain, seed=0)
        except UserError as error:
            raise UserError(f"{folder}: a model of another version ({error}). {remedy}") from None
        load_weights(self.model, folder / "weights.safetensors")

    @property
    def is_own_code(self) -> bool:
        """Whether this process runs the code that the model was registered with."""
        return serving_digest(self.section) == str(self.settings["code"])

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Compute like a stage, one request at a time, and restore torch's state."""
        with ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
            before = torch.get_num_threads()
            torch.set_num_threads(min(self.threads or before, before))
            try:
                yield
            finally:
                torch.set_num_threads(before)

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Return one answer per request.

        Raises:
            UserError: the model cannot answer a request; nothing is computed then.
        """
        checked = [self.check(request) for request in requests]
        total = sum(request.count or len(grid) for request, grid in zip(requests, checked, strict=True))
        if total > MAX_COUNT:
            raise UserError(f"{total} samples and observations in one call: ask for at most {MAX_COUNT} per call")
        return [
            self.sample(request) if request.count is not None else self.score(grid)
            for request, grid in zip(requests, checked, strict=True)
        ]

    def check(self, request: Request) -> NDArray[Any]:
        """Check a request; return the grid points to score, none if it asks for samples."""
        if request.data is not None:
            for key in ("count", "seed", "label"):
                if (value := getattr(request, key)) is not None:
                    raise UserError(f"{key}={value}: a request either has data to score, or asks for samples")
            if self.model.likelihood_kind is None:
                raise UserError(f"data: {type(self.model).__name__} has no likelihood; ask it for samples only")
            return self.domain.read(request.data)
        if request.count is None:
            raise UserError("a request needs a count of samples to draw, or data to score")
        if request.count < 1:
            raise UserError(f"count={request.count}: ask for at least one sample")
        if request.seed is not None and not 0 <= request.seed < 2**32:
            raise UserError(f"seed={request.seed}: it must be from 0 to {2**32 - 1}")
        if request.label is not None:
            class_number(self.model, self.domain, request.label)
        return np.empty(0)

    def sample(self, request: Request) -> Answer:
        """Draw the samples that `lookalike sample` would draw with `budget.samples` set to the count."""
        assert request.count is not None
        count, seed = request.count, secrets.randbelow(2**32) if request.seed is None else request.seed
        with self.alone():
            if request.label is None:
                labels = draw_classes(self.model, count, seed=seed)
            else:
                labels = np.full(count, class_number(self.model, self.domain, request.label))
            samples = draw(
                self.model,
                self.domain,
                samples=count,
                batch_size=self.batch_size,
                seed=seed,
                settings=self.settings["sampling"],
                labels=labels,
            )
        classes = {} if labels is None else {"labels": [self.domain.labels[number] for number in labels]}
        return {"samples": samples.tolist(), **classes, "seed": seed}

    @torch.no_grad()
    def score(self, grid: NDArray[Any]) -> Answer:
        """Return log-likelihoods of grid points `[N, *shape]`, in nats per observation and in bits per dimension."""
        with self.alone():
            parts = [
                self.model.log_likelihood(
                    torch.from_numpy(grid[i : i + self.batch_size]), **self.settings["likelihood"]
                )
                for i in range(0, len(grid), self.batch_size)
            ]
        nats = torch.cat(parts).double().cpu()
        if len(bad := (~torch.isfinite(nats)).nonzero()):
            problem = f"the likelihood of {len(bad)} observations is NaN or infinite, the first in row {int(bad[0])}"
            raise UserError(f"data: {problem}")
        return {
            "log_likelihood": nats.tolist(),
            "bits_per_dim": bits_per_dimension(nats, self.domain).tolist(),
            "kind": self.model.likelihood_kind,
            "unit": self.domain.likelihood_unit,
        }


def serving_code(section: dict[str, Any]) -> list[Path]:
    """Return the files that serving a family starts from: this one and that of the family."""
    family = source_of(str(section["_target_"]).rpartition(".")[0])
    assert family is not None
    return [Path(__file__), family]


def serving_digest(section: dict[str, Any]) -> str:
    """Return the digest of the code that serves a family."""
    return code_digest(serving_code(section))
