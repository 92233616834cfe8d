"""A trained model on disk: weights, what it was told, its domain and fingerprint."""

import json
from pathlib import Path
from typing import Any

from lookalike.domain import Domain
from lookalike.errors import UserError
from lookalike.models.build import build, load_weights


class Trained:
    """Opens `artifacts/<data>/<model>/train`.

    Raises:
        UserError: nothing was trained there, or for another domain than `domain`.
    """

    def __init__(self, folder: Path, *, domain: Domain) -> None:
        record = folder / "model.json"
        if not record.is_file():
            cell = f"data={folder.parents[1].name} model={folder.parent.name}"
            raise UserError(f"no trained model in {folder}: run `python pipelines/train.py {cell}` first")
        self.record: dict[str, Any] = json.loads(record.read_text())
        self.fingerprint: str = self.record["fingerprint"]
        trained_on = Domain.from_dict(self.record["domain"])
        if trained_on != domain:
            raise UserError(
                f"weights of another domain: {folder} was trained on {describe(trained_on)}, the data are "
                f"{describe(domain)}. Train again"
            )
        self.model = build(self.record["configuration"]["model"], domain, seed=0)
        load_weights(self.model, folder / "weights.safetensors")


def describe(domain: Domain) -> str:
    """A domain in a few words."""
    return f"{domain.name} ({domain.kind} of shape {domain.shape}, {domain.levels} levels)"
