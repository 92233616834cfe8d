"""Pictures of MLflow's UI, by a Chromium without a window: `python docs/mlflow_ui.py http://127.0.0.1:5000 --runs`.

`--runs` draws the list of runs; `--sweep NAME` a sweep's tree and its trials compared; `--model NAME` the page of a
registered model, and the sample pictures of the run that its champion comes from. `--into FOLDER` is where they go,
docs/ if it is not said. A page that does not come to show what it should is an error with what it shows.
"""

import argparse
import contextlib
import io
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

from PIL import Image
from playwright.sync_api import Error, Locator, Page, sync_playwright

from lookalike.core.errors import UserError
from lookalike.tracking.mlflow_server import load_client
from lookalike.tracking.servers import complaint

WAIT_SECONDS = 60.0
"""How long a page may take to show something."""

WIDTH = 1280
ROWS = 24
"""How many rows of a table have room in a picture."""

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]  # fmt: skip

SETTINGS = {"mlflow.workflowType_v1": '"machine_learning"', "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true"}
"""What the UI remembers in the browser: it shows training, and does not open its assistant by itself."""

HIDDEN = "[data-assistant-ui] { visibility: hidden } .ag-cell-focus { border-color: transparent !important }"
"""Style without what would cover a corner of every picture, and without the frame of the cell that was clicked."""

RUN_COLUMNS = [
    "attributes.`Dataset`", "attributes.`Duration`", "metrics.`bits_per_dim`", "metrics.`frechet_distance`",
    "metrics.`wasserstein_1`",
]  # fmt: skip

RunId = str
Row = dict[str, str]


def chromium() -> str:
    """The browser's program, or nothing where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), "")


class Window:
    """A page of the UI of a server, with what it should show known from the server itself.

    Args:
        uri: of the server.
        experiment: whose runs are looked at.
    """

    def __init__(self, *, uri: str, experiment: str = "lookalike") -> None:
        program = chromium()
        if not program:
            raise UserError("no Chromium here: Debian's package is `chromium`")
        load_client(uri)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.uri, self.client = uri.rstrip("/"), MlflowClient(uri)
        try:
            found = self.client.get_experiment_by_name(experiment)
        except MlflowException as error:
            raise UserError(complaint(uri, error)) from None
        if found is None:
            raise UserError(f"{uri} has no experiment {experiment}")
        self.experiment = str(found.experiment_id)
        self.asked: set[str] = set()  # whom the UI sent requests to
        self.player = sync_playwright().start()
        try:
            self.browser = self.player.chromium.launch(executable_path=program, args=OPTIONS)
        except BaseException:
            self.player.stop()
            raise
        self.page: Page

    def __enter__(self) -> "Window":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.browser.close()
        self.player.stop()

    def open(self, path: str, *, height: int, columns: list[str] | None = None) -> None:
        """Open a page in a new window, where the UI remembers nothing but our settings."""
        if hasattr(self, "page"):
            self.page.context.close()
        table = {"selectedColumns": columns or [], "startTime": "ALL"}
        state = f'MLflowLocalStorage-1.1-ExperimentPage-["{self.experiment}"]-ReactComponentState'
        known = json.dumps(SETTINGS | {state: json.dumps(table)})
        context = self.browser.new_context(viewport={"width": WIDTH, "height": height})
        context.set_default_timeout(WAIT_SECONDS * 1000)
        context.add_init_script(f"for (const [k, v] of Object.entries({known})) localStorage[k] ??= v")
        context.on("request", lambda request: self.asked.add(urlsplit(request.url.removeprefix("blob:")).netloc))
        self.page = context.new_page()
        self.page.goto(f"{self.uri}/#/{path}")
        self.page.get_by_role("button", name="Toggle sidebar").click()
        self.page.add_style_tag(content=HIDDEN)

    def save(self, path: Path) -> None:
        """The window, once nothing moves, as a picture of few colours, which is what a page has."""
        self.page.mouse.move(0, 0)
        self.page.evaluate("document.activeElement?.blur()")
        deadline, before, now = time.monotonic() + WAIT_SECONDS, b"", self.page.screenshot()
        while now != before:
            if time.monotonic() > deadline:
                raise UserError(f"{self.page.url}: it never stands still")
            time.sleep(0.4)
            before, now = now, self.page.screenshot()
        with Image.open(io.BytesIO(now)) as image:
            image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)

    # The tables of runs

    def runs(self) -> dict[RunId, Row]:
        """The list of runs, the newest first: what it shows of each. A sweep is one line, its trials are folded."""
        all_runs = self.client.search_runs([self.experiment], max_results=1000)
        shown = sum("mlflow.parentRunId" not in run.data.tags for run in all_runs)
        self.open(f"experiments/{self.experiment}/runs", height=height(shown), columns=RUN_COLUMNS)
        rows = self.rows(min(shown, ROWS))
        self.fit("attributes.`Run Name`", *RUN_COLUMNS)
        return rows

    def tree(self, sweep: str) -> dict[RunId, Row]:
        """A sweep, unfolded: what is shown of its run and of its trials."""
        parent, trials = self.family(sweep)
        columns = ["attributes.`Duration`", *(f"metrics.`{name}`" for name in objectives(parent)), "tags.`trial_state`"]
        asked = urlencode({"searchFilter": f'tags.sweep="{sweep}"'})
        self.open(f"experiments/{self.experiment}/runs?{asked}", height=height(1 + len(trials)), columns=columns)
        self.cell(parent.info.run_id, "attributes.`Run Name`").get_by_role("button").click()
        rows = self.rows(min(1 + len(trials), ROWS))
        self.fit("attributes.`Run Name`", *columns)
        return rows

    def family(self, sweep: str) -> tuple[Any, list[Any]]:
        """A sweep's run and those of its trials."""
        found = self.client.search_runs([self.experiment], f"tags.sweep = '{sweep}'", max_results=1000)
        parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
        if len(parents) != 1:
            raise UserError(f"{self.uri} has {len(parents)} runs of a sweep {sweep}")
        return parents[0], [run for run in found if run is not parents[0]]

    def cell(self, run: RunId, column: str) -> Locator:
        return self.page.locator(f".ag-row[row-id='{run}'] .ag-cell[col-id='{column}']")

    def fit(self, *columns: str) -> None:
        """Make columns as wide as what is in them."""
        for column in columns:
            handle = self.page.locator(f".ag-header-cell[col-id='{column}'] .ag-header-cell-resize")
            if handle.count():
                handle.dispatch_event("dblclick")

    def rows(self, count: int) -> dict[RunId, Row]:
        """A table's rows, as soon as there are as many: what is in each column, and how the state's sign is drawn."""
        self.page.wait_for_function(
            "n => new Set([...document.querySelectorAll('.ag-row')].map(e => e.getAttribute('row-id'))).size >= n",
            arg=count,
        )
        cells: list[list[str]] = self.page.locator(".ag-row .ag-cell").evaluate_all(
            "all => all.map(e => [e.closest('.ag-row').getAttribute('row-id'), e.getAttribute('col-id'),"
            " (e.querySelector('a') ?? e).innerText, e.querySelector('svg')?.innerHTML ?? ''])"
        )
        found: dict[RunId, Row] = {}
        for run, column, text, sign in cells:
            row = found.setdefault(run, {})
            row[column] = text.strip()
            if column == "runDateAndNestInfo":
                row["state"] = sign
        return found

    # Other pages

    def compare(self, sweep: str) -> list[str]:
        """Finished trials, ticked and compared as a user does it: the axes of their parallel coordinates."""
        parent, trials = self.family(sweep)
        shown = self.tree(sweep)
        finished = [run for run in trials if run.info.status == "FINISHED" and run.info.run_id in shown]
        for run in finished:
            self.page.locator(f".ag-row[row-id='{run.info.run_id}'] .ag-selection-checkbox input").check()
        self.page.get_by_role("button", name="Compare", exact=True).click()
        self.page.get_by_text(f"Comparing {len(finished)} Runs from 1 Experiment").wait_for()
        self.page.set_viewport_size({"width": WIDTH, "height": 640})
        space = [key.removeprefix("space.") for key in parent.data.tags if key.startswith("space.")]
        varied = [key for key in space if len({run.data.params[key] for run in finished if key in run.data.params}) > 1]
        self.page.get_by_role("button", name="Clear All").click()
        self.choose("Parameters:", varied)
        self.choose("Metrics:", objectives(parent))
        self.page.wait_for_function(
            "n => document.querySelectorAll('.parcoords .axis-title').length == n",
            arg=len(varied) + len(objectives(parent)),
        )
        return self.page.locator(".parcoords .axis-title").all_text_contents()

    def choose(self, label: str, values: list[str]) -> None:
        """Choose from a list of the comparison, which holds only what is in view."""
        box = self.page.locator(f"xpath=//div[normalize-space(text())='{label}']/following-sibling::div[1]//input")
        box.click(force=True)
        options = self.page.locator(".rc-virtual-list:visible")
        for value in values:
            option = options.locator(f".rc-virtual-list-holder-inner > [title='{value}']")
            options.hover()
            self.page.mouse.wheel(0, -100000)
            for _ in range(200):
                time.sleep(0.05)
                if option.count():
                    break
                self.page.mouse.wheel(0, 200)
            option.click()
        self.page.keyboard.press("Escape")
        options.wait_for(state="hidden")

    def samples(self, run: RunId) -> tuple[str, int]:
        """A run's last picture of samples drawn during training: its name, and how wide it is."""
        names = [file.path for file in self.client.list_artifacts(run, "images") if file.path.endswith(".png")]
        if not names:
            raise UserError(f"the run {run} has no pictures")
        last = max(names, key=lambda name: int(name.split("+")[2]))
        self.open(f"experiments/{self.experiment}/runs/{run}/artifacts/{last}", height=560)
        picture = self.page.locator(f"img[alt='{last}']")
        picture.wait_for()
        self.page.get_by_text("Path:").evaluate("e => { e.style.visibility = 'hidden' }")  # of whose machine it is
        return last, int(picture.evaluate("e => e.decode().then(() => e.naturalWidth)"))

    def model(self, name: str) -> dict[str, str]:
        """A registered model's page, with its champion in sight: what it shows of each version."""
        champion = self.champion(name)
        versions = self.client.search_model_versions(f"name = '{name}'")
        self.open(f"models/{name}", height=412 + 182 * min(len(versions), 3))
        rows = self.page.get_by_role("row").filter(has=self.page.get_by_role("link", name="Version ", exact=False))
        shown = rows.filter(has_text=f"Version {champion.version}").filter(has_text="champion")
        shown.scroll_into_view_if_needed()
        texts = [" ".join(text.split()) for text in rows.all_inner_texts()]
        return {text.removeprefix("Version ").partition(" ")[0]: text for text in texts}

    def champion(self, name: str) -> Any:
        """The version of a registered model that has this alias."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version_by_alias(name, "champion")
        except MlflowException as error:
            raise UserError(f"{self.uri} has no champion of a model {name}: run pipelines/register.py") from error


def objectives(sweep: Any) -> list[str]:
    """The metrics that a sweep's trials are compared by."""
    return [f"objective/{name}" for name in sweep.data.tags["objective"].split(", ")]


def height(rows: int) -> int:
    """Of a window with a table."""
    return 330 + 32 * min(rows, ROWS)


@contextlib.contextmanager
def explained(window: Window) -> Iterator[None]:
    """A page that does not show what it should is an error with what it shows."""
    try:
        yield
    except Error as error:
        raise UserError(
            f"{window.page.url}: {error}\nThe page shows:\n{window.page.inner_text('body')[:2000]}"
        ) from error


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri")
    parser.add_argument("--runs", action="store_true")
    parser.add_argument("--sweep")
    parser.add_argument("--model")
    parser.add_argument("--experiment", default="lookalike")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    chosen = parser.parse_args(arguments)
    if not (chosen.runs or chosen.sweep or chosen.model):
        parser.error("nothing to draw: --runs, --sweep or --model")
    with Window(uri=chosen.uri, experiment=chosen.experiment) as window, explained(window):
        if chosen.runs:
            window.runs()
            window.save(chosen.into / "mlflow.png")
        if chosen.sweep:
            window.tree(chosen.sweep)
            window.save(chosen.into / "mlflow_sweep.png")
            window.compare(chosen.sweep)
            window.save(chosen.into / "mlflow_compare.png")
        if chosen.model:
            window.model(chosen.model)
            window.save(chosen.into / "mlflow_model.png")
            window.samples(window.champion(chosen.model).run_id)
            window.save(chosen.into / "mlflow_samples.png")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
