"""Tests of the documentation: the site builds strictly and needs no network, and the links of the README exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAX_README_LINES = 150

EXTERNAL = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")
"""A tag with which a page loads something from a server; a link that a reader may follow is none."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a site that `mkdocs build --strict` built."""
    pytest.importorskip("mkdocs", reason="mkdocs is missing: `pip install -e .[docs]` brings it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_family_has_a_page_with_its_configuration_and_samples(site: Path) -> None:
    families = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
    assert families
    for family in families:
        page = (site / "families" / f"{family}.html").read_text()
        assert f"lookalike.families.{family}." in re.sub(r"<[^>]+>", "", page)
        picture = f"results/default/figures/mnist-samples-{family}.png"
        assert f'src="../{picture}"' in page
        assert (site / picture).read_bytes() == (ROOT / picture).read_bytes()


def test_the_reference_shows_what_the_docstrings_say(site: Path) -> None:
    rooms = ("domain", "readers", "families", "sampling", "metrics", "evaluation")
    for room in rooms:
        assert (site / "reference" / f"{room}.html").read_text().count('class="doc doc-heading"') > 3, room
    assert 'id="lookalike.metrics.frechet' in (site / "reference" / "metrics.html").read_text()


def test_pages_load_nothing_from_a_server(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert EXTERNAL.search('<script src="https://unpkg.com/x.js"></script>')
    for page in pages:
        loaded = [tag for tag in EXTERNAL.findall(page.read_text()) if 'rel="canonical"' not in tag]
        assert not loaded, f"{page.relative_to(site)} loads {loaded}"


def test_links_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", readme)
    local = [target for target in targets if "://" not in target]
    assert len(local) > 10
    missing = [target for target in local if not (ROOT / target).exists()]
    assert not missing


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES
