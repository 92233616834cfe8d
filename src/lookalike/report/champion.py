"""The best family on a data set by one metric, and the families that are not distinguishable from it."""

import dataclasses
from pathlib import Path

from lookalike.domain.prepared import Prepared
from lookalike.metrics.catalogue import METRICS, Metric, main_distance
from lookalike.report.cells import Row, read_family
from lookalike.report.columns import standings_of
from lookalike.report.numbers import describe
from lookalike.workspace.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Champion:
    """The best family.

    Attributes:
        row: its cell.
        metric: the metric by which it is the best.
        rivals: families that are not distinguishable from it, best first.
    """

    row: Row
    metric: Metric
    rivals: list[str]

    def __str__(self) -> str:
        score = f"{self.row.model}, {self.metric.name} {describe(self.row.metrics[self.metric.name])}"
        return score + (f"; not distinguishable from it: {', '.join(self.rivals)}" if self.rivals else "")


def read_cells(folder: Path) -> tuple[list[Row], dict[str, str]]:
    """Read the complete cells of one data set, `artifacts/<data>`: of every family that of the smallest seed.

    Returns:
        The cells, and by family the reason why a trained cell is left out.

    Raises:
        UserError: the data are not prepared, or there is no complete cell.
    """
    prepared = Prepared(folder / "prepared")
    rows, left_out = [], {}
    seeds: dict[str, list[int]] = {}
    for path in folder.glob("*/*/train/model.json"):
        seeds.setdefault(path.parents[2].name, []).append(int(path.parents[1].name))
    for model in sorted(seeds):
        try:
            row = read_family(folder / model, seeds=[min(seeds[model])])
            if row.record["data_digest"] != prepared.digest:
                raise UserError(
                    f"it was trained on other data than the prepared ones: run `lookalike train data={folder.name} "
                    f"model={model}` again"
                )
        except UserError as error:
            left_out[model] = str(error)
        else:
            rows.append(row)
    if not rows:
        reason = next(iter(left_out.values()), "run `dvc repro` first")
        raise UserError(f"no family is trained, sampled and evaluated in {folder}: {reason}")
    return rows, left_out


def find_champion(rows: list[Row], objective: str | None = None) -> Champion | None:
    """Return the best of the families that are no floors; None where there is none.

    Args:
        rows: cells of one data set.
        objective: a metric of the leaderboard with a best value of its own, which is not the value of real data; None
            for the main distance of the data set.

    Raises:
        UserError: there is no such metric, or no family has it.
    """
    names = {name for row in rows for name in row.metrics}
    known = {name: m for name, m in METRICS.items() if m.is_ranked and m.goal != "real" and name in names}
    objective = objective or main_distance(known)
    if objective not in known:
        raise UserError(f"objective={objective}: choose one of {', '.join(known)}")
    able = {row.model: row for row in rows if not row.is_floor and objective in row.metrics}
    if not able:
        return None
    best, *rivals = standings_of(list(able.values()), known[objective]).first
    return Champion(row=able[best], metric=known[objective], rivals=rivals)
