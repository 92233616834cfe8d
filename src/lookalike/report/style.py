"""One look for every figure, light and dark. Colours follow Okabe and Ito: every kind of sight tells them apart."""

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
"""By role, light and dark. A figure is drawn in light; `dark` and `inline` exchange the colours in its SVG."""

SURFACE, INK, MUTED, RULE, DATA = (COLOURS[role][0] for role in ("surface", "ink", "muted", "rule", "data"))
MODEL, SAMPLES, BAR = (COLOURS[role][0] for role in ("model", "samples", "bar"))

DATA_MAP = "#868d99"
"""Of data as a map, whose pixels no theme exchanges: seen on both surfaces."""

SETTINGS: dict[str, Any] = {
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "figure.facecolor": SURFACE,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.labelcolor": MUTED,
    "lines.solid_capstyle": "round",
    "svg.hashsalt": "lookalike",  # else every run names its clip paths anew
    "text.color": INK,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8,
}


@contextmanager
def styled(*, text: Literal["path", "none"]) -> Iterator[None]:
    """Draw in the project's style.

    Args:
        text: "path" draws letters as shapes, which look the same everywhere; "none" leaves them to the reader's fonts.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's own matplotlibrc must not change the bytes
        mpl.rcParams.update(SETTINGS | {"svg.fonttype": text})
        yield


def to_svg(figure: Figure, *, transparent: bool = False) -> str:
    """A figure as SVG without date or software: the same figure gives the same bytes."""
    text = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", metadata=nothing, transparent=transparent)
    return text.getvalue()


def dark(svg: str) -> str:
    """A light figure's SVG in dark colours."""
    return exchange(svg, dict(COLOURS.values()))


def inline(svg: str, *, name: str) -> str:
    """A light figure's SVG to stand in a page: colours are the page's variables, ids can't meet another figure's."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", body)
    return exchange(body, {light: f"var(--{role})" for role, (light, _) in COLOURS.items()})


def exchange(svg: str, colours: dict[str, str]) -> str:
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: colours.get(found[0], found[0]), svg)


def page_variables(*, dark: bool) -> str:
    """The colours as CSS variables."""
    return " ".join(f"--{role}: {pair[dark]};" for role, pair in COLOURS.items())
