"""The identity of a trained model: its configuration, its data, and the code that ran."""

import ast
import functools
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import lookalike

SOURCE = Path(lookalike.__file__).resolve().parents[1]

VIEWS = "lookalike.tracking"
"""The package that only shows results. It cannot change one, so the identity of a result leaves it out."""

INPUTS = ("--", ".", ":!dvc.lock", ":!results", ":!artifacts")
"""Git's name for the tracked files that the pipeline does not write."""


def source_of(module: str) -> Path | None:
    """Return the file of a module of this project, or None."""
    base = SOURCE / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imports(path: Path) -> frozenset[str]:
    """Return the modules of this project that a file imports, anywhere in it, and the packages that contain them."""
    return imports_in(path.read_text(encoding="utf-8"))


@functools.cache
def imports_in(text: str) -> frozenset[str]:
    """Return the modules of this project that a source text imports. Parsing is slow, so results are kept."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in found if name.split(".")[0] == "lookalike" and source_of(name)}
    return frozenset(ours | {name.rsplit(".", i)[0] for name in ours for i in range(1, name.count(".") + 1)})


def closure(paths: list[Path]) -> set[Path]:
    """Return the given files and all files of this project that they import, directly or not, except views."""
    seen: set[Path] = set()
    todo = list(paths)
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += [source for name in imports(path) if not name.startswith(VIEWS) and (source := source_of(name))]
    return seen


def code_digest(paths: list[Path]) -> str:
    """Return the SHA-256 of the given files and of all that they import, in hexadecimal."""
    total = hashlib.sha256()
    for path in sorted(closure(paths), key=lambda p: (p.name, str(p))):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def fingerprint(*, configuration: dict[str, Any], data: str, code: str) -> str:
    """Return 16 hexadecimal digits for a resolved configuration, the digest of the data and the digest of the code."""
    content = json.dumps([configuration, data, code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def git_state(root: Path) -> dict[str, str]:
    """Return the commit that is checked out, and whether tracked files differ from it ("unknown" outside git).

    Files that the pipeline writes do not count; otherwise every run after the first would be "dirty".
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no", *INPUTS)
    return {
        "commit": commit or "unknown",
        "dirty": "unknown" if changes is None else str(bool(changes)).lower(),
    }
