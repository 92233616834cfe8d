"""A trained model on disk: weights, settings, domain and fingerprint."""

import dataclasses
import sys
from pathlib import Path

from lookalike.domain.domain import Domain
from lookalike.domain.kinds import load_domain
from lookalike.domain.prepared import Prepared
from lookalike.families.build import build, check_settings
from lookalike.networks.weights import load_weights
from lookalike.workspace.arguments import leaves
from lookalike.workspace.configuration import Config
from lookalike.workspace.errors import UserError
from lookalike.workspace.files import read_json

KEYS = ("name", "fingerprint", "configuration", "domain", "data_digest")
"""Keys of `model.json` that identify the model."""


class Trained:
    """A trained model, opened from the folder that a training wrote.

    Args:
        folder: `<cell>/train`.
        family: name of the family that must be there.
        prepared: the data that it must be trained on.

    Raises:
        UserError: nothing was trained there, or another family, or on other data, or by another version.
    """

    def __init__(self, folder: Path, *, family: str, prepared: Prepared) -> None:
        self.of = f"data={prepared.domain.name} model={family}"
        path = folder / "model.json"
        command = f"`lookalike train {self.of}`"
        if not path.is_file():
            raise UserError(f"no trained model in {folder}: run {command} first")
        self.record = read_json(path, remedy=f"Run {command} again", keys=KEYS)
        self.fingerprint: str = self.record["fingerprint"]
        section = self.record["configuration"]["model"]
        if str(section["_target_"]).split(".")[-2:-1] != [family]:
            raise UserError(
                f"weights of another model: {folder} holds {section['_target_']}, not {family}. Run {command}"
            )
        domain = prepared.domain
        try:
            trained_on = load_domain(self.record["domain"])
        except UserError as error:
            raise UserError(f"weights of another version: {folder} ({error}). Train again: {command}") from None
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
                f"weights of another version: {folder} lacks settings that a model needs now ({error}). "
                f"Train again: {command}"
            ) from None
        load_weights(self.model, folder / "weights.safetensors")

    def check_settings(self, config: Config) -> None:
        """Check the sections that are passed to the model, and note settings that differ from those of its training.

        The model is used as it was trained. Asking for a class implies that it is conditional, so that needs no note.
        """
        check_settings(self.model, config)
        trained, asked = (dict(leaves(section)) for section in (self.record["configuration"]["model"], config.model))
        known = set() if config.label is None else {"conditional"}
        for key in sorted(asked.keys() - known):
            if asked[key] != trained.get(key):
                how = f"model.{key}={trained.get(key)}, not {asked[key]}, and is used as it was trained"
                print(f"note: {self.record['name']} was trained with {how}", file=sys.stderr)

    def check_samples(self, folder: Path) -> None:
        """Raise a UserError if a cell has no samples, or if its record says that another model drew them."""
        command = f"`lookalike sample {self.of}`"
        if not (path := folder / "samples.npz").is_file():
            raise UserError(f"no samples in {path}: run {command} first")
        cost, remedy = folder / "cost.json", f"Run {command} again"
        drawn_from = read_json(cost, remedy=remedy).get("fingerprint") if cost.is_file() else None
        if drawn_from not in (None, self.fingerprint):
            raise UserError(
                f"samples of another model: those in {folder} were drawn from {self.record['name']} {drawn_from[:8]}, "
                f"trained is {self.fingerprint[:8]}. {remedy}"
            )


def differing(domain: Domain, other: Domain) -> str:
    """Return the data set's name and the fields of a domain that differ from another's."""
    if domain.kind != other.kind:
        return f"{domain.name} (a domain of kind {domain.kind})"
    fields = [field.name for field in dataclasses.fields(domain)]
    different = [name for name in fields if getattr(domain, name) != getattr(other, name)]
    return f"{domain.name} ({', '.join(f'{name} {getattr(domain, name)}' for name in different)})"
