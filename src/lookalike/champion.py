"""Which family is the best on a data set, by one metric, and from which that can't be told."""

import dataclasses
from pathlib import Path

from lookalike.core.errors import UserError
from lookalike.data import Prepared
from lookalike.report.cells import Row, read_family
from lookalike.report.leaderboard import DISTANCES, TABLES, Metric, describe, winners

FLOORS = frozenset({"uniform", "independent", "copycat"})
"""Families that are there to be compared with. They win no contest: `copycat` returns training data."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Champion:
    """The best family.

    Attributes:
        row: its cell.
        metric: what it is best by.
        rivals: families that are not told from it, best first.
    """

    row: Row
    metric: Metric
    rivals: list[str]

    def __str__(self) -> str:
        score = f"{self.row.model}, {self.metric.name} {describe(self.row.metrics[self.metric.name])}"
        tie = f"; not told from it: {', '.join(self.rivals)}" if self.rivals else ""
        return score + tie


def read_cells(folder: Path) -> tuple[list[Row], dict[str, str]]:
    """The complete cells of one data set, `artifacts/<data>`, and why others, that are trained, are none.

    Raises:
        UserError: the data are not prepared, or nothing is trained on them.
    """
    prepared = Prepared(folder / "prepared")
    rows, left_out = [], {}
    for path in sorted(folder.glob("*/train/model.json")):
        model = path.parents[1].name
        try:
            row = read_family(path.parents[1], seeds=[])
            if row.record["data_digest"] != prepared.digest:
                raise UserError(
                    f"it was trained on other data than the prepared: run `python pipelines/train.py "
                    f"data={folder.name} model={model}` again"
                )
        except UserError as error:
            left_out[model] = str(error)
        else:
            rows.append(row)
    if not rows:
        why = f": {next(iter(left_out.values()))}" if left_out else ""
        raise UserError(f"no family is trained, sampled and evaluated in {folder}{why or ': run `dvc repro` first'}")
    return rows, left_out


def find_champion(rows: list[Row], objective: str | None = None) -> Champion | None:
    """The best of the families that are no floor; None where there is none.

    Args:
        rows: cells of one data set.
        objective: a metric of the leaderboard; without, the data set's distance.

    Raises:
        UserError: there is no such metric, or none of the families has it.
    """
    names = {name for row in rows for name in row.metrics}
    known = {m.name: m for table in TABLES for m in table if m.better is not None and m.name in names}
    if objective is None:
        objective = next((name for name in DISTANCES if name in known), DISTANCES[0])
    if objective not in known:
        raise UserError(f"objective={objective}: choose one of {', '.join(known)}")
    metric = known[objective]
    able = {row.model: row for row in rows if row.model not in FLOORS and objective in row.metrics}
    if not able:
        return None
    best, *rivals = winners(list(able.values()), metric)
    return Champion(row=able[best], metric=metric, rivals=rivals)
