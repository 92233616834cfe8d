"""A trained model on disk: weights, what it was told, its domain and fingerprint."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lookalike.core.config import Config, Section
from lookalike.core.domain import Domain
from lookalike.core.errors import UserError
from lookalike.core.files import read_json
from lookalike.data import Prepared
from lookalike.models.build import build, check_settings, load_weights

KEYS = ("name", "fingerprint", "configuration", "domain", "data_digest")
"""Of `model.json`, those that say what it is about."""


class Trained:
    """Opens the folder that a training wrote.

    Raises:
        UserError: nothing was trained there, or another family than `family`, or on other data than `prepared`.
    """

    def __init__(self, folder: Path, *, family: str, prepared: Prepared) -> None:
        self.of = f"data={prepared.domain.name} model={family}"
        path = folder / "model.json"
        command = f"`python pipelines/train.py {self.of}`"
        if not path.is_file():
            raise UserError(f"no trained model in {folder}: run {command} first")
        self.record = read_json(path, remedy=f"Run {command} again", keys=KEYS)
        self.fingerprint: str = self.record["fingerprint"]
        section = self.record["configuration"]["model"]
        if section["_target_"].split(".")[-2] != family:
            raise UserError(
                f"weights of another model: {folder} holds {section['_target_']}, not {family}. Run {command}"
            )
        trained_on, domain = Domain.from_dict(self.record["domain"]), prepared.domain
        if trained_on != domain:
            raise UserError(
                f"weights of another domain: {folder} was trained on {differing(trained_on, domain)}, the data are "
                f"{differing(domain, trained_on)}. Train again: {command}"
            )
        if self.record["data_digest"] != prepared.digest:
            raise UserError(
                f"weights of other data: {folder} was trained on {domain.name} {self.record['data_digest'][:8]}, the "
                f"prepared data are {prepared.digest[:8]}. Train again: {command}"
            )
        try:
            self.model = build(section, domain, seed=0)
        except UserError as error:
            raise UserError(
                f"weights of another version: {folder} does not say all that a model is built of now ({error}). "
                f"Train again: {command}"
            ) from None
        load_weights(self.model, folder / "weights.safetensors")

    def check_settings(self, config: Config) -> None:
        """Check the sections that are handed to the model, and say which settings of it are not those it was trained
        with: it is used as it was trained. Who asks for a class knows that it is conditional."""
        check_settings(self.model, config)
        trained, told = (dict(leaves(section)) for section in (self.record["configuration"]["model"], config.model))
        known = set() if config.label is None else {"conditional"}
        for key in sorted(told.keys() - known):
            if told[key] != trained.get(key):
                how = f"model.{key}={trained.get(key)}, not {told[key]}, and is used as it was trained"
                print(f"note: {self.record['name']} was trained with {how}", file=sys.stderr)

    def check_samples(self, folder: Path) -> None:
        """Raise a UserError if a cell has no samples, or they were drawn from another model, as far as their folder
        tells."""
        command = f"`python pipelines/sample.py {self.of}`"
        if not (path := folder / "samples.npz").is_file():
            raise UserError(f"no samples in {path}: run {command} first")
        cost, remedy = folder / "cost.json", f"Run {command} again"
        drawn_from = read_json(cost, remedy=remedy).get("fingerprint") if cost.is_file() else None
        if drawn_from not in (None, self.fingerprint):
            raise UserError(
                f"samples of another model: those in {folder} were drawn from {self.record['name']} {drawn_from[:8]}, "
                f"trained is {self.fingerprint[:8]}. {remedy}"
            )


def leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys of a section with dots, and their values."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differing(domain: Domain, other: Domain) -> str:
    """The data set's name, and the fields of a domain that are not those of another."""
    fields = [field.name for field in dataclasses.fields(domain)]
    different = [name for name in fields if getattr(domain, name) != getattr(other, name)]
    return f"{domain.name} ({', '.join(f'{name} {getattr(domain, name)}' for name in different)})"
