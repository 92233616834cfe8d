"""Hooks of `mkdocs build` that add the files outside `docs/` to which pages link, so that links work everywhere.

A page in `docs/families/` links to `../../results/default/figures/x.png`, which is right in the repository. The site
has no folder above its own, so the file is added as `results/default/figures/x.png`; the link becomes `../results/…`.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")
"""The target of a Markdown link or picture that begins with `../`."""


def outside(source: str, target: str) -> str | None:
    """Return the path in the repository of a link's target, or None if the target lies in `docs/`.

    Args:
        source: path of the page below `docs/`.
        target: the link, relative to the page.
    """
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), target))
    return None if path.startswith("docs/") else path


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add every file outside `docs/` that a page links to."""
    root = Path(config.config_file_path).parent
    linked = {
        path
        for file in files.documentation_pages()
        for found in LINK.finditer(file.content_string)
        if (path := outside(file.src_uri, found[2]))
    }
    for path in sorted(linked):
        if (root / path).is_file():  # a link to a file that is missing stays as it is, and the strict build reports it
            files.append(File.generated(config, path, abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that lead out of `docs/` to the files that `on_files` added."""

    def redirect(found: re.Match[str]) -> str:
        path = outside(page.file.src_uri, found[2])
        if path is None or files.get_file_from_path(path) is None:
            return found[0]
        return found[1] + posixpath.relpath(path, posixpath.dirname(page.file.src_uri))

    return LINK.sub(redirect, markdown)
