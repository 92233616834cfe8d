"""One look for every figure, light and dark, in the colours of Okabe and Ito, which suit every colour vision."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = {
    "surface": ("#fefefe", "#16181d"),
    "ink": ("#1c2027", "#e8eaee"),
    "muted": ("#5a616d", "#a3aab6"),
    "rule": ("#d5d9e0", "#3a3f49"),
    "data": ("#b4bac4", "#565d69"),
    "model": ("#0072b2", "#56b4e9"),
    "samples": ("#d55e00", "#e69f00"),
    "bar": ("#007a5a", "#2bc79a"),
}
"""Colours by role, light and dark. Figures are drawn in light colours; `dark` and `inline` exchange them in the SVG."""

SURFACE, INK, MUTED, RULE, DATA = (COLOURS[role][0] for role in ("surface", "ink", "muted", "rule", "data"))
MODEL, SAMPLES, BAR = (COLOURS[role][0] for role in ("model", "samples", "bar"))

DATA_MAP = "#868d99"
"""Colour of data in a map. The theme does not change its pixels, so it is visible on both surfaces."""

SETTINGS: dict[str, Any] = {
    "figure.facecolor": SURFACE, "font.family": "DejaVu Sans", "font.size": 8, "text.color": INK,
    "axes.facecolor": "none", "axes.edgecolor": RULE, "axes.linewidth": 0.8, "axes.labelcolor": MUTED,
    "axes.labelsize": 8, "axes.titlecolor": INK, "axes.titlesize": 9, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.right": False, "axes.spines.top": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": RULE, "grid.linewidth": 0.5,
    "xtick.color": RULE, "xtick.labelcolor": MUTED, "xtick.labelsize": 8,
    "ytick.color": RULE, "ytick.labelcolor": MUTED, "ytick.labelsize": 8,
    "legend.fontsize": 8, "legend.frameon": False, "legend.labelcolor": MUTED, "lines.solid_capstyle": "round",
    "svg.hashsalt": "lookalike",  # Without it every run gives its clip paths other names.
}  # fmt: skip


@contextmanager
def styled(*, text: Literal["path", "none"]) -> Iterator[None]:
    """Draw in the project's style.

    Args:
        text: "path" draws letters as shapes, which look the same everywhere; "none" uses the reader's fonts.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # The matplotlibrc of a user must not change the bytes.
        mpl.rcParams.update(SETTINGS | {"svg.fonttype": text})
        yield


def to_svg(figure: Figure, *, transparent: bool = False) -> str:
    """Return a figure as SVG without date and software, so that the same figure gives the same bytes."""
    text = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", metadata=nothing, transparent=transparent)
    return text.getvalue()


def dark(svg: str) -> str:
    """Return the SVG of a light figure in dark colours."""
    return exchange(svg, dict(COLOURS.values()))


def inline(svg: str, *, name: str) -> str:
    """Return the SVG of a light figure for a page: with the page's variables as colours and ids that are unique."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", body)
    return exchange(body, {light: f"var(--{role})" for role, (light, _) in COLOURS.items()})


def exchange(svg: str, colours: dict[str, str]) -> str:
    """Return an SVG with some of its colours replaced."""
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: colours.get(found[0], found[0]), svg)


def page_variables(*, dark: bool) -> str:
    """Return the colours as CSS variables."""
    return " ".join(f"--{role}: {pair[dark]};" for role, pair in COLOURS.items())
