"""A trained model that is asked for samples and for likelihoods, in lists that JSON can hold; it knows no tool.

This file and what it imports travel with a registered model. A request is either `count` (with `seed` and `label`) or
`data`; its answer is a function of it alone.
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

from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.files import read_json
from lookalike.core.likelihood import bits_per_dimension
from lookalike.fingerprint import code_digest, source_of
from lookalike.models.build import build, load_weights
from lookalike.sampling import class_number, draw, draw_classes

MOST = 10_000
"""Samples, or observations to score, in one call: what bounds its memory and time."""

Answer = dict[str, Any]

ALONE = threading.Lock()
"""A server answers in several threads, and random numbers come from torch's global generator."""


class Request(pydantic.BaseModel):
    """What a model can be asked.

    Attributes:
        count: how many samples to draw.
        seed: of their random numbers: `sample.py seed=...` draws the same with it. Drawn, and told, where it is not
            given.
        label: the name or number of the class that all samples are to be of; a conditional model draws classes itself
            where it is not given.
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
        """A class's name may look like a number."""
        return str(value) if type(value) is int else value


class Served:
    """Opens a folder with `model.json`, `weights.safetensors` and `settings.json`.

    The last holds what `sampling:` and `likelihood:` said when the model was sampled and scored, and the digest of the
    code that reads it.
    """

    def __init__(self, folder: Path) -> None:
        remedy = "Register the model again"
        record = read_json(folder / "model.json", remedy=remedy, keys=("domain", "configuration"))
        self.settings = read_json(folder / "settings.json", remedy=remedy, keys=("sampling", "likelihood", "code"))
        self.section: dict[str, Any] = record["configuration"]["model"]
        trainer = record["configuration"]["trainer"]
        self.batch_size: int = trainer["batch_size"]
        self.threads: int | None = trainer["threads"]
        self.domain = Domain.from_dict(record["domain"])
        try:
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
        """Compute as the stages do, one request at a time, and leave torch as it was."""
        with ALONE, torch.random.fork_rng(devices=[]):
            before = torch.get_num_threads()
            torch.set_num_threads(min(self.threads or before, before))
            try:
                yield
            finally:
                torch.set_num_threads(before)

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer each.

        Raises:
            UserError: a request that the model can't meet, with what is wrong in it; nothing is computed then.
        """
        checked = [self.read(request) for request in requests]
        total = sum(request.count or len(grid) for request, grid in zip(requests, checked, strict=True))
        if total > MOST:
            raise UserError(f"{total} samples and observations in one call: ask for {MOST} at most, and then for more")
        return [
            self.sample(request) if request.count is not None else self.score(grid)
            for request, grid in zip(requests, checked, strict=True)
        ]

    def read(self, request: Request) -> NDArray[Any]:
        """Check a request; the grid points that it has to score, none if it asks for samples."""
        if request.data is not None:
            for key in ("count", "seed", "label"):
                if (value := getattr(request, key)) is not None:
                    raise UserError(f"{key}={value}: a request either has data to score, or asks for samples")
            return self.read_data(request.data)
        if request.count is None:
            raise UserError("a request needs a count of samples to draw, or data to score")
        if request.count < 1:
            raise UserError(f"count={request.count}: ask for one sample at least")
        if request.seed is not None and not 0 <= request.seed < 2**32:
            raise UserError(f"seed={request.seed}: it must be from 0 to {2**32 - 1}")
        if request.label is not None:
            class_number(self.model, self.domain, request.label)
        return np.empty(0)

    def read_data(self, data: list[Any]) -> NDArray[Any]:
        """Nested lists to grid points `[N, *shape]`."""
        if self.model.likelihood_kind is None:
            raise UserError(f"data: {type(self.model).__name__} has no likelihood; it can only be asked for samples")
        try:
            values = np.array(data, dtype=None if self.domain.kind == "image" else np.float64)
        except ValueError:
            shape = ", ".join(map(str, self.domain.shape))
            raise UserError(f"data: lists of unequal length; give an array [N, {shape}]") from None
        if self.domain.kind == "image" and values.size:
            if values.min() < 0 or values.max() >= self.domain.levels:
                off = values[(values < 0) | (values >= self.domain.levels)][0]
                raise UserError(f"data: {off} is not on the grid from 0 to {self.domain.levels - 1}")
            values = values.astype(self.domain.dtype)
        return self.domain.to_grid(values)

    def sample(self, request: Request) -> Answer:
        """What `sample.py` would draw, had its budget this many samples."""
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
        told = {} if labels is None else {"labels": [self.domain.labels[number] for number in labels]}
        return {"samples": samples.tolist(), **told, "seed": seed}

    @torch.no_grad()
    def score(self, grid: NDArray[Any]) -> Answer:
        """Log-likelihoods of grid points `[N, *shape]`, in nats an observation and in bits a dimension."""
        with self.alone():
            parts = [
                self.model.log_likelihood(
                    torch.from_numpy(grid[i : i + self.batch_size]), **self.settings["likelihood"]
                )
                for i in range(0, len(grid), self.batch_size)
            ]
        nats = torch.cat(parts).double().cpu()
        if bad := int((~torch.isfinite(nats)).sum()):
            first = int((~torch.isfinite(nats)).nonzero()[0])
            raise UserError(f"data: the likelihood of {bad} observations is NaN or infinite, the first in row {first}")
        return {
            "log_likelihood": nats.tolist(),
            "bits_per_dim": bits_per_dimension(nats, self.domain).tolist(),
            "kind": self.model.likelihood_kind,
            "unit": self.domain.likelihood_unit,
        }


def serving_code(section: dict[str, Any]) -> list[Path]:
    """Files that serving a family starts from: this one and the family's own."""
    family = source_of(str(section["_target_"]).rpartition(".")[0])
    assert family is not None
    return [Path(__file__), family]


def serving_digest(section: dict[str, Any]) -> str:
    """Digest of the code that serves a family."""
    return code_digest(serving_code(section))
