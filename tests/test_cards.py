"""Tests of model cards: every number in them comes from the records."""

import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from lookalike.report.cards import FAMILIES, cards, described
from lookalike.report.cells import Table, read_tables
from lookalike.report.mistakes import mistakes
from lookalike.report.numbers import describe
from lookalike.report.protocols import protocol_of
from lookalike.workspace.configuration import choices
from lookalike.workspace.pipeline import Listed
from test_report import FLOORS, MODELS, TRAINED, bits, distance, table_of, write_cells

pytest_plugins = ["pipeline_fixtures"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Table]:
    folder = tmp_path_factory.mktemp("artifacts")
    write_cells(folder, data=["heights", "digits"], models=MODELS)
    return read_tables(folder, Listed(data=["heights", "digits"], models=TRAINED, floors=FLOORS))[0]


def front(card: str) -> dict[str, Any]:
    """The YAML between the first two lines of three dashes."""
    start, content, _ = re.split(r"^---$\n?", card, maxsplit=2, flags=re.MULTILINE)
    assert start == ""
    loaded: dict[str, Any] = yaml.safe_load(content)
    return loaded


# Cards


def test_every_cell_has_a_card_whose_index_holds_every_score_with_its_protocol(tables: list[Table]) -> None:
    for table in tables:
        written = cards(table)
        assert set(written) == {f"{table.name}-{model}.md" for model in MODELS}
        for row in table.families:
            head = front(written[f"{table.name}-{row.model}.md"])
            (index,) = head["model-index"]
            found = {m["type"]: m | {"of": r["dataset"]} for r in index["results"] for m in r["metrics"]}
            assert set(found) == set(row.metrics) == set(head["metrics"])
            for name, entry in row.metrics.items():
                assert found[name]["value"] == entry["value"]
                assert found[name]["args"]["error"] == entry["error"]
                assert found[name]["args"].get("samples") == entry.get("samples")
                assert found[name]["of"]["split"] == entry.get("split", "test")
                assert found[name]["of"]["revision"] == table.prepared.digest
            assert head["datasets"] == [table.name]
            assert {"license", "library_name", "tags"} <= head.keys()
            assert ("pipeline_tag" in head) == (table.prepared.domain.kind == "image")


def test_a_card_shows_scores_beside_those_of_real_data_and_what_was_trained(tables: list[Table]) -> None:
    table = tables[1]
    row = next(row for row in table.families if row.model == "flow_matching")
    card = cards(table)[f"digits-{row.model}.md"]
    for name, entry in row.metrics.items():
        real = table.real.metrics.get(name)
        assert f"| `{name}` | {describe(entry)} | {describe(real) if real else ''} |" in card
    for fact in (row.record["fingerprint"], row.record["code_digest"], "30 G", "300, the training split"):
        assert fact in card
    for sentence in mistakes(table)[row.model]:
        assert f"- {sentence}" in card
    assert "extractor `classifier`, digest `0123456789abcdef`" in card


def test_a_card_says_what_kind_of_likelihood_there_is(tables: list[Table]) -> None:
    written = cards(tables[0])
    assert "likelihood is a lower bound" in written["heights-vae.md"]
    assert "likelihood is an exact" in written["heights-independent.md"]
    assert "likelihood is an estimate" in written["heights-flow_matching.md"]
    assert "It has no likelihood" in written["heights-copycat.md"]


def test_a_card_says_what_coarser_steps_of_a_solver_change(tables: list[Table]) -> None:
    table = copy.deepcopy(tables[0])
    row = next(row for row in table.families if row.model == "flow_matching")
    coarse = {"solver": "rk4", "steps": 10, "tolerance": None}
    row.metrics["bits_per_dim"]["coarser"] = {
        "change": -0.0184, "standard_error": 0.00123, "points": 100, "settings": coarse,
    }  # fmt: skip
    card = cards(table)["heights-flow_matching.md"]
    assert "coarser steps of its solver (solver rk4, steps 10) its bits would change by -0.018 ± 0.001, " in card
    assert "coarser: change -0.0184, standard error 0.00123, points 100, settings solver rk4, steps 10" in card
    assert "coarser" not in cards(table)["heights-vae.md"]
    # What a solver's steps change is a result: seeds, and rankings, need not share it.
    assert "coarser" not in protocol_of(row.metrics["bits_per_dim"])


def test_a_family_is_described_by_its_own_file_formula_and_reference_included(tables: list[Table]) -> None:
    assert {path.stem for path in FAMILIES.glob("*.py")} >= set(choices("model"))
    assert all(len(described(model)) > 40 for model in choices("model"))
    card = cards(tables[0])["heights-vae.md"]
    assert "    p(x) = ∫ p(z) p(x | z) dz" in card  # indented: a block of code
    assert "arXiv:1312.6114" in card
    assert described("nobody_wrote_it") == "nobody_wrote_it."


def test_what_a_card_tells_to_run_draws_samples(
    heights_cell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((heights_cell / "artifacts" / "heights" / "vae" / "0" / "train" / "model.json").read_text())
    write_cells(tmp_path, data=["heights"], models=["vae"])
    (tables, _) = read_tables(tmp_path, Listed(data=["heights"], models=["vae"]))
    (block,) = re.findall(r"```python\n(.*?)```", cards(tables[0])["heights-vae.md"], flags=re.DOTALL)
    monkeypatch.chdir(heights_cell)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["samples"].shape == (16, 1)
    assert names["trained"].fingerprint == record["fingerprint"]
    names["prepared"].domain.to_grid(names["samples"])  # on the grid, or it raises


# Mistakes in words


def share(value: float, error: float = 0.01) -> dict[str, Any]:
    return {"value": value, "error": error}


def support(precision: float, coverage: float) -> dict[str, Any]:
    return {"precision": share(precision), "coverage": share(coverage)}


def test_what_real_data_score_is_no_mistake() -> None:
    real = support(0.9, 0.95) | distance(2, 0.1) | {"classifier_accuracy": share(0.5)}
    table = table_of(("vae", real), ("gan", support(0.89, 0.94) | distance(2.2, 0.1)), real=real)
    assert mistakes(table) == {"vae": [], "gan": []}


def test_what_is_missing_made_up_and_distinguishable_is_said_with_what_real_data_score() -> None:
    real = support(0.9, 0.95) | distance(2, 0.1) | {"classifier_accuracy": share(0.5)}
    wrong = support(0.7, 0.5) | distance(9, 0.1) | {"classifier_accuracy": share(0.93), "share_outside": share(0.25)}
    (sentences,) = mistakes(table_of(("vae", wrong), real=real)).values()
    assert sentences == [
        "Its Fréchet distance is 9.00 ± 0.10; real data score 2.00 ± 0.10.",
        "A classifier tells its samples and test data apart in 93.0 ± 1.0 % of cases; chance is 50 %.",
        "It misses parts of the data: 50.0 ± 1.0 % of the test points have no sample near them "
        "(real data: 5.0 ± 1.0 %).",
        "It makes things up: 30.0 ± 1.0 % of its samples have no test point near them (real data: 10.0 ± 1.0 %).",
        "The true distribution rules out 25.0 ± 1.0 % of its samples.",
    ]


def gap_of(
    value: float, *, error: float = 0.01, chance: float = 0.01, short: Sequence[str] = (), furthest: str = "8"
) -> dict[str, Any]:
    """The entry of a class gap."""
    return share(value, error) | {"class": furthest, "chance": chance, "short": list(short)}


@pytest.mark.parametrize(
    ("gap", "sentences"),
    [
        (gap_of(0.3, short=["1", "7"], furthest="1"), ["It draws too little of classes 1, 7."]),
        (gap_of(0.3, short=["7"]),
         ["It draws too little of class 7.", "It draws class 8 too often, by 30.0 ± 1.0 percentage points."]),
        (gap_of(0.04), []),
        (gap_of(0.06, error=0.05), []),
        (gap_of(0.06, chance=0.035), []),
    ],
)  # fmt: skip
def test_classes_that_are_missed_or_too_common_are_named(gap: dict[str, Any], sentences: list[str]) -> None:
    real = {"class_gap": gap_of(0.01, furthest="0")}
    assert mistakes(table_of(("gan", {"class_gap": gap}), real=real))["gan"] == sentences


def test_copies_and_a_likelihood_that_is_better_on_training_data_are_named() -> None:
    real = {"authenticity": share(0.5), "training_copies": share(0.0)}
    own = {"authenticity": share(0.1), "training_copies": share(1.0)}
    train = {"bits_per_dim_train": {"value": 6.0, "error": 0.1, "kind": "exact"}}
    table = table_of(("copycat", own), ("vae", bits(7.0, 0.1) | train), ("flow", bits(6.2, 0.1) | train), real=real)
    assert mistakes(table) == {
        "copycat": [
            "Its samples are closer to its training data than real data are, by Authenticity and Training copies."
        ],
        "vae": ["It overfits: unseen data take 1.00 ± 0.14 bits more than training data."],
        "flow": [],
    }


def test_the_rounding_of_a_number_without_error_is_no_mistake() -> None:
    train = {"bits_per_dim_train": {"value": 8.0, "error": 0.0, "kind": "exact"}}
    assert mistakes(table_of(("uniform", bits(8.0 + 4e-15, 0.0) | train)))["uniform"] == []
