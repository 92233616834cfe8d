"""Take pictures of MLflow's pages with Chromium: `python docs/scripts/mlflow_ui.py http://127.0.0.1:5000 --runs`.

The address is that of `make ui`. Every page is opened by a browser that has not seen it before.
`--runs` takes the charts of all runs, their list and the page of the best one.
`--sweep NAME` takes the page of a sweep and the charts that compare its trials.
`--model NAME` takes the page of a registered model and the sample pictures of its champion's run.
The pictures go into the folder `--into`, by default docs/images/. If a page does not show what it should, the error
quotes what it shows.
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
from playwright.sync_api import Error, Page, sync_playwright

from lookalike.sweeps.mlflow_pages import path_of_trials, place_of
from lookalike.tracking.layout import FINAL, path_of_run, path_of_view
from lookalike.tracking.mlflow_server import load_client
from lookalike.tracking.servers import Tracker
from lookalike.workspace.errors import UserError

WAIT_SECONDS = 60.0
"""Longest time that a page may take to show something."""

WIDTH = 1280
ROWS = 24
"""Most rows of a table in a picture."""

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]  # fmt: skip

HIDDEN = "[data-assistant-ui] { visibility: hidden } .ag-cell-focus { border-color: transparent !important }"
"""Style that hides the assistant's button and the frame of the selected cell."""

RunId = str
Row = dict[str, str]


def chromium() -> str:
    """Return the path of Chromium, or "" if it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), "")


class Window:
    """A page of a server's UI. What it should show is asked from the server itself.

    Args:
        uri: address of the server.
        experiment: name of the experiment whose runs are shown.
    """

    def __init__(self, *, uri: str, experiment: str) -> None:
        program = chromium()
        if not program:
            raise UserError("Chromium is missing: Debian's package is `chromium`")
        load_client(uri)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.uri, self.client = uri.rstrip("/"), MlflowClient(uri)
        try:
            found = self.client.get_experiment_by_name(experiment)
        except MlflowException as error:
            raise UserError(Tracker(uri, MlflowClient, uri).complaint(error)) from None
        if found is None:
            raise UserError(f"{uri} has no experiment {experiment}")
        self.experiment = str(found.experiment_id)
        beside = self.client.get_experiment_by_name(place_of(experiment))
        self.sweeps = str(beside.experiment_id) if beside else ""
        self.asked: set[str] = set()  # hosts that the UI sent requests to
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

    def open(self, path: str, *, height: int) -> None:
        """Open a page in a browser that has not seen it before."""
        if hasattr(self, "page"):
            self.page.context.close()
        context = self.browser.new_context(viewport={"width": WIDTH, "height": height})
        context.set_default_timeout(WAIT_SECONDS * 1000)
        context.on("request", lambda request: self.asked.add(urlsplit(request.url.removeprefix("blob:")).netloc))
        self.page = context.new_page()
        self.page.goto(f"{self.uri}/{path}")
        self.page.add_style_tag(content=HIDDEN)

    def save(self, path: Path) -> None:
        """Save the window as a picture of 128 colours, as soon as it stands still."""
        self.page.mouse.move(0, 0)
        self.page.evaluate("document.activeElement?.blur()")
        deadline, before, now = time.monotonic() + WAIT_SECONDS, b"", self.page.screenshot()
        while now != before:
            if time.monotonic() > deadline:
                raise UserError(f"{self.page.url}: it keeps changing")
            time.sleep(0.4)
            before, now = now, self.page.screenshot()
        with Image.open(io.BytesIO(now)) as image:
            image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)

    # The tables of runs

    def runs(self) -> dict[RunId, Row]:
        """Show the list of runs, best first and with sweeps folded, and return its rows."""
        all_runs = self.client.search_runs([self.experiment], max_results=1000)
        shown = sum("mlflow.parentRunId" not in run.data.tags for run in all_runs)
        self.open(path_of_view(self.experiment).replace("CHART", "TABLE"), height=height(shown) + 140)
        return self.rows(min(shown, ROWS))

    def charts(self) -> tuple[list[str], int]:
        """Show what `make ui` opens, and return the names of the bar charts and the number of pictures of samples."""
        self.open("", height=1250)
        self.page.get_by_text(FINAL).wait_for()
        self.page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .barlayer .point').length")
        pictures = self.page.locator("img[src*='get-artifact']")
        pictures.first.wait_for()
        cards = self.page.locator("[data-testid='experiment-view-compare-runs-card']")
        titles = [card.inner_text().splitlines()[0] for card in cards.all() if card.locator(".js-plotly-plot").count()]
        return titles, pictures.count()

    def run(self, run: RunId) -> tuple[str, int]:
        """Show a run, and return its description and the width of the picture in it."""
        self.open(path_of_run(self.experiment, run), height=900)
        self.page.get_by_text("Show more").click()
        picture = self.page.locator("img[src*='samples.png']")
        picture.wait_for()
        table = self.page.locator("table").filter(has_text="value ± error")
        return table.inner_text(), int(picture.evaluate("e => e.decode().then(() => e.naturalWidth)"))

    def models(self, runs: list[RunId]) -> tuple[list[str], str]:
        """Compare runs, and return the axes of their parallel coordinates and the text of the page."""
        asked = urlencode({"runs": json.dumps(runs), "experiments": json.dumps([self.experiment])})
        self.open(f"#/compare-runs?{asked}", height=640)
        self.page.locator(".parcoords .axis-title").first.wait_for()
        return self.page.locator(".parcoords .axis-title").all_text_contents(), self.page.inner_text("body")

    def sweep(self, sweep: str) -> str:
        """Show the run of a sweep, and return its description."""
        parent, _ = self.family(sweep)
        self.open(path_of_run(self.sweeps, parent.info.run_id), height=1150)
        self.page.get_by_text("Show more").click()
        self.page.locator("img[src*='samples.png']").evaluate("e => e.decode()")
        return self.page.inner_text("body")

    def trials(self, sweep: str) -> dict[RunId, Row]:
        """Show the list of a sweep's trials, best first, and return its rows."""
        _, trials = self.family(sweep)
        self.open(path_of_trials(self.sweeps, sweep).replace("CHART", "TABLE"), height=height(len(trials)) + 140)
        return self.rows(min(len(trials), ROWS))

    def compare(self, sweep: str) -> list[str]:
        """Show the charts of a sweep's trials, and return the axes of their parallel coordinates."""
        self.family(sweep)
        self.open(path_of_trials(self.sweeps, sweep), height=1250)
        axes = self.page.locator(".parcoords .dimension .label")
        axes.first.wait_for()
        self.page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .barlayer .point').length")
        return axes.all_text_contents()

    def family(self, sweep: str) -> tuple[Any, list[Any]]:
        """Return the run of a sweep and the runs of its trials."""
        asked = f"tags.sweep = '{sweep}'"
        found = self.client.search_runs([self.sweeps], asked, max_results=1000) if self.sweeps else []
        parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
        if len(parents) != 1:
            raise UserError(f"{self.uri} has {len(parents)} runs of a sweep {sweep}")
        return parents[0], [run for run in found if run is not parents[0]]

    def rows(self, count: int) -> dict[RunId, Row]:
        """Return the rows of a table, once it has `count`: the text per column, and the icon of the state as SVG."""
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

    def samples(self, run: RunId) -> tuple[str, int]:
        """Show the last picture of samples of a run's training, and return its name and its width in pixels."""
        names = [file.path for file in self.client.list_artifacts(run, "images") if file.path.endswith(".png")]
        if not names:
            raise UserError(f"the run {run} has no pictures")
        last = max(names, key=lambda name: int(name.split("+")[2]))
        self.open(f"#/experiments/{self.experiment}/runs/{run}/artifacts/{last}", height=560)
        picture = self.page.locator(f"img[alt='{last}']")
        picture.wait_for()
        self.page.get_by_text("Path:").evaluate(
            "e => { e.style.visibility = 'hidden' }"
        )  # it names a folder of the machine
        return last, int(picture.evaluate("e => e.decode().then(() => e.naturalWidth)"))

    def model(self, name: str) -> dict[str, str]:
        """Show the page of a registered model with its champion in view, and return the text of each version."""
        champion = self.champion(name)
        versions = self.client.search_model_versions(f"name = '{name}'")
        self.open(f"#/models/{name}", height=412 + 182 * min(len(versions), 3))
        rows = self.page.get_by_role("row").filter(has=self.page.get_by_role("link", name="Version ", exact=False))
        shown = rows.filter(has_text=f"Version {champion.version}").filter(has_text="champion")
        shown.scroll_into_view_if_needed()
        texts = [" ".join(text.split()) for text in rows.all_inner_texts()]
        return {text.removeprefix("Version ").partition(" ")[0]: text for text in texts}

    def champion(self, name: str) -> Any:
        """Return the version of a registered model with the alias `champion`."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version_by_alias(name, "champion")
        except MlflowException as error:
            raise UserError(f"{self.uri} has no champion of a model {name}: run `lookalike register`") from error


def height(rows: int) -> int:
    """Return the height of a window with a table of some rows, in pixels."""
    return 330 + 32 * min(rows, ROWS)


@contextlib.contextmanager
def explained(window: Window) -> Iterator[None]:
    """Turn a failed wait into a UserError that quotes what the page shows."""
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
    parser.add_argument("--experiment", default="lookalike/mnist")
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "images")
    chosen = parser.parse_args(arguments)
    if not (chosen.runs or chosen.sweep or chosen.model):
        parser.error("nothing to do: give --runs, --sweep or --model")
    with Window(uri=chosen.uri, experiment=chosen.experiment) as window, explained(window):
        if chosen.runs:
            window.charts()
            window.save(chosen.into / "mlflow.png")
            rows = list(window.runs())
            window.save(chosen.into / "mlflow_runs.png")
            window.run(rows[0])
            window.save(chosen.into / "mlflow_run.png")
        if chosen.sweep:
            window.sweep(chosen.sweep)
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
