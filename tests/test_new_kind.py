"""A new kind of data needs new files and lines in the rooms that know about kinds, and in no other.

The test adds sequences of letters to a copy of the checkout: a domain of categorical variables, a reader, a feature
extractor, a network, a family, and their files in conf/. Then it runs every stage.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest_plugins = ["pipeline_fixtures"]

PIPELINE = "data: [letters]\nmodels: [markov]\nfloors: []\nseeds: [0]\nbudget: smoke\ntrainer: cpu\n"

FILES = {
    "src/lookalike/domain/sequence.py": '''
"""Sequences of letters."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from lookalike.domain.domain import Domain
from lookalike.domain.variables import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequence(Domain):
    """Sequences `[length]` of letters that share one categorical variable; values are the numbers of letters."""

    kind: ClassVar[str] = "sequence"
    preview_count: ClassVar[int] = 10
    default_features: ClassVar[dict[str, Any] | None] = {"_target_": "lookalike.features.letters.make"}

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def likelihood_unit(self) -> str:
        return "bits/letter"

    def to_values(self, grid: Array) -> Array:
        return grid.astype(np.uint8)

    def to_grid(self, values: Array) -> Array:
        self.check_array(values)
        return values

    def save_picture(self, values: Array, path: Path, *, title: str) -> None:
        Image.fromarray(values * np.uint8(255 // (self.levels - 1))).save(path)
''',
    "src/lookalike/readers/letters.py": '''
"""Sequences drawn from a chain in which a letter often comes twice."""

import numpy as np

from lookalike.domain.prepared import SPLITS
from lookalike.domain.sequence import Sequence
from lookalike.domain.variables import Categorical
from lookalike.readers.contract import Source, from_arrays
from lookalike.workspace.ranges import Fraction, PositiveInt


def read(*, name: str, alphabet: str, length: PositiveInt, count: PositiveInt, again: Fraction) -> Source:
    """Draw the sequences of all splits."""
    generator = np.random.default_rng(0)
    domain = Sequence(name=name, shape=(length,), variables=(Categorical(names=tuple(alphabet)),))
    values = generator.integers(0, len(alphabet), (3 * count, length), dtype=np.uint8)
    for place in range(1, length):
        same = generator.random(3 * count) < again
        values[same, place] = values[same, place - 1]
    parts = dict(zip(SPLITS, np.split(values, 3), strict=True))
    nothing = {split: np.zeros(0, dtype=np.int64) for split in SPLITS}
    return from_arrays(domain, parts, nothing, expected={})
''',
    "src/lookalike/features/letters.py": '''
"""Sequences are compared in their letters, one-hot, and in which neighbours agree."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lookalike.domain.domain import Domain
from lookalike.domain.prepared import Prepared
from lookalike.workspace.configuration import Config

KINDS = frozenset({"sequence"})


class Letters(nn.Module):
    """Features `[N, length * letters + length - 1]` of sequences `[N, length]`."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        one_hot = functional.one_hot(x.long(), self.levels).flatten(1)
        return self.scale * torch.cat([one_hot, x.diff(dim=1) == 0], dim=1).float()


def make(prepared: Prepared, config: Config, folder: Path) -> dict[str, Any]:
    """Return the record; nothing is learned."""
    return {"name": "letters", "digest": "letters", "classes": False}


def load(record: dict[str, Any], domain: Domain, folder: Path) -> nn.Module:
    """Return the extractor."""
    return Letters(domain.levels)
''',
    "src/lookalike/networks/sequence.py": '''
"""Networks for sequences."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import TypedDict

from lookalike.domain.domain import Domain
from lookalike.workspace.ranges import PositiveInt, settings


@settings
class CausalSize(TypedDict):
    """Width of the recurrent network."""

    hidden: PositiveInt


def causal(domain: Domain, size: CausalSize, *, classes: int) -> "Recurrent":
    """Return an autoregressive model of sequences, letter by letter."""
    return Recurrent(levels=domain.levels, length=domain.dimensions, hidden=size["hidden"])


class Recurrent(nn.Module):
    """A recurrent network that reads the letters before the one that it predicts."""

    def __init__(self, *, levels: int, length: int, hidden: int) -> None:
        super().__init__()
        self.levels, self.length = levels, length
        self.network = nn.GRU(levels, hidden, batch_first=True)
        self.head = nn.Linear(hidden, levels)

    def log_probs(self, x: Tensor) -> Tensor:
        """Return log p(x_d | x_<d), `[N, length]`."""
        before = functional.pad(functional.one_hot(x.long(), self.levels).float()[:, :-1], (0, 0, 1, 0))
        log_probs = self.head(self.network(before)[0]).log_softmax(-1)
        return log_probs.gather(2, x.long()[:, :, None])[:, :, 0]

    def sample(self, n: int) -> Tensor:
        """Draw sequences `[n, length]`, int64."""
        x = torch.zeros(n, self.length, dtype=torch.int64, device=self.head.weight.device)
        letter, state = torch.zeros(n, 1, self.levels, device=x.device), None
        for place in range(self.length):
            h, state = self.network(letter, state)
            x[:, place] = torch.distributions.Categorical(logits=self.head(h[:, 0])).sample()
            letter = functional.one_hot(x[:, place : place + 1], self.levels).float()
        return x
''',
    "src/lookalike/families/markov.py": '''
"""Sequences, one letter given the letters before: log p(x) = Σ_d log p(x_d | x_<d)."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from lookalike.domain.domain import Domain
from lookalike.domain.grid import LikelihoodKind
from lookalike.families.contract import Family
from lookalike.networks import roles


class Markov(Family):
    """
    Args:
        domain: what one observation is.
        sizes: sizes of the network.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"sequence"})
    needs: ClassVar[tuple[roles.Role, ...]] = (roles.causal,)
    likelihood_kind: ClassVar[LikelihoodKind | None] = "exact"

    def __init__(self, *, domain: Domain, sizes: dict[str, Any]) -> None:
        super().__init__(domain=domain)
        self.network = roles.causal(domain, sizes, classes=0)

    def losses(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the negative log-likelihood in nats per letter."""
        return {"loss": -self.network.log_probs(x).mean()}

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        """Draw grid points `[n, length]`, int64."""
        drawn: Tensor = self.network.sample(n)
        return drawn

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return the exact log-probability in nats `[N]`."""
        return self.network.log_probs(x).sum(1, dtype=torch.float64)
''',
    "conf/model/markov.yaml": """
# @package _global_
model:
  _target_: lookalike.families.markov.Markov
  sizes:
    sequence:
      hidden: 16
preview: {}
sampling: {}
likelihood: {}
""",
    "conf/data/letters.yaml": """
name: letters
reader:
  _target_: lookalike.readers.letters.read
  alphabet: acgt
  length: 6
  count: 600
  again: 0.7
flops: 2.0e11
steps: 20000
batch_size: 64
features: null
""",
}
"""Files of the new kind."""

IMPORT = "from lookalike.domain.table import Table\n"
EDITS = {
    "src/lookalike/domain/kinds.py": [
        (IMPORT, f"from lookalike.domain.sequence import Sequence\n{IMPORT}"),
        ('"table": Table}', '"table": Table, "sequence": Sequence}'),
    ],
    "src/lookalike/networks/roles.py": [
        ("from lookalike.networks import image, table\n", "from lookalike.networks import image, sequence, table\n"),
        ('"table": table.causal}', '"table": table.causal, "sequence": sequence.causal}'),
    ],
}
"""Lines of tables that name the new kind: the old text and the new one."""

ROOMS = ("domain", "readers", "networks", "distributions", "paths", "features", "metrics", "report", "families")
"""Rooms that may know about kinds of data."""


@pytest.fixture(scope="module")
def checkout(new_checkout: Callable[..., Path]) -> Path:
    """Return a copy of the checkout with the new kind in it."""
    checkout = new_checkout(PIPELINE)
    for name, content in FILES.items():
        (checkout / name).write_text(content.lstrip())
    for name, edits in EDITS.items():
        text = (checkout / name).read_text()
        for old, new in edits:
            assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
            text = text.replace(old, new)
        (checkout / name).write_text(text)
    return checkout


def changed(checkout: Path, run: Callable[..., Any]) -> set[str]:
    """Return the files of a checkout that differ from what is committed in it."""
    done = run(checkout, "git", "status", "--porcelain", "--untracked-files=all")
    return {line[3:] for line in done.stdout.splitlines()}


def test_a_new_kind_of_data_goes_through_all_stages_and_touches_its_rooms_only(
    checkout: Path, run: Callable[..., Any]
) -> None:
    assert changed(checkout, run) == {*FILES, *EDITS}
    for name in (*FILES, *EDITS):
        room = Path(name).parts[2] if name.startswith("src/") else name
        assert room in ROOMS or name.startswith(("conf/data/", "conf/model/"))
    common = ("data=letters", "model=markov", "budget=smoke", "tracking=none")
    for stage in ("prepare", "features", "train", "sample", "evaluate", "real", "compare"):
        done = run(checkout, "python", "-m", "lookalike", stage, *common)
        assert done.returncode == 0, f"{stage}: {done.stdout}{done.stderr}"
    data = checkout / "artifacts" / "letters"
    metrics = json.loads((data / "markov" / "0" / "evaluate" / "metrics.json").read_text())
    bits = metrics["bits_per_dim"]
    assert bits["unit"] == "bits/letter"
    assert bits["kind"] == "exact"
    # A chain of four letters in which one letter in about four differs from the one before it.
    assert 1.2 < bits["value"] < 2.1
    assert metrics["frechet_distance"]["value"] > 0
    with np.load(data / "markov" / "0" / "sample" / "samples.npz") as file:
        assert file["samples"].shape == (200, 6)
        assert file["samples"].max() < 4
    results = checkout / "results" / "default"
    assert "letters" in (results / "leaderboard.json").read_text()
    assert "letters" in (results / "report.html").read_text()
    beside = changed(checkout, run) - {*FILES, *EDITS}
    assert all(name.startswith(("artifacts/letters/", "results/default/")) for name in beside)


@pytest.mark.parametrize(("data", "model", "message"), [
    ("letters", "vae", "model=vae: it models data of kind image, table, and letters is sequence"),
    ("heights", "markov", "model=markov: it models data of kind sequence, and heights is table"),
])  # fmt: skip
def test_a_family_that_cannot_model_a_kind_says_so(
    data: str, model: str, message: str, checkout: Path, run: Callable[..., Any]
) -> None:
    common = (f"data={data}", f"model={model}", "budget=smoke", "tracking=none")
    for stage, status in (("prepare", 0), ("features", 0), ("train", 1)):
        done = run(checkout, "python", "-m", "lookalike", stage, *common)
        assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
