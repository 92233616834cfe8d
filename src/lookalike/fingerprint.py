"""The identity of a trained model: what it was told, what it saw, what code ran."""

import ast
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import lookalike

SOURCE = Path(lookalike.__file__).resolve().parents[1]

VIEWS = frozenset({"lookalike.tracking", "lookalike.views"})
"""Modules that only show results: they can't change one, so a result's identity leaves them out."""

INPUTS = ("--", ".", ":!dvc.lock", ":!results", ":!artifacts")
"""The tracked files that the pipeline does not write."""


def source_of(module: str) -> Path | None:
    """The file of a module of this project, or None."""
    base = SOURCE / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imports(path: Path) -> set[str]:
    """Modules of this project that a file imports, anywhere in it, with the packages around them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in found if name.split(".")[0] == "lookalike" and source_of(name)}
    return ours | {name.rsplit(".", i)[0] for name in ours for i in range(1, name.count(".") + 1)}


def closure(paths: list[Path]) -> set[Path]:
    """The given files and every file of this project that they import, directly or not, but for views."""
    seen: set[Path] = set()
    todo = list(paths)
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += [source for name in imports(path) - VIEWS if (source := source_of(name))]
    return seen


def code_digest(paths: list[Path]) -> str:
    """SHA-256 over the files that would run, in hexadecimal."""
    total = hashlib.sha256()
    for path in sorted(closure(paths), key=lambda p: (p.name, str(p))):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def fingerprint(*, configuration: dict[str, Any], data: str, code: str) -> str:
    """16 hexadecimal digits that name a resolved configuration, the data's digest and the code's digest."""
    content = json.dumps([configuration, data, code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def git_state(root: Path) -> dict[str, str]:
    """The commit that is checked out and whether tracked files differ from it ("unknown" outside git).

    What the pipeline itself writes does not count: else every run but the first would call itself dirty.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no", *INPUTS)
    return {
        "commit": commit or "unknown",
        "dirty": "unknown" if changes is None else str(bool(changes)).lower(),
    }
