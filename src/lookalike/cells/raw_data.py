"""`lookalike data`: bring the raw data that come with the repository."""

import os
from pathlib import Path

from lookalike.cells.pipeline import opened_repo
from lookalike.workspace.configuration import Config
from lookalike.workspace.errors import UserError


def data(config: Config) -> None:
    """Bring the files of the bundled data sets that are missing.

    `dvc pull data.dvc` would delete files that a user put into the folder of a bundled set, or refuse to go on.
    """
    from dvc.exceptions import DvcException

    with opened_repo() as repo:
        try:
            folders = [out.def_path for stage in repo.stage.collect("data.dvc") for out in stage.outs]
            files = [path for folder in folders for path in repo.dvcfs.find(folder, dvc_only=True)]
            if missing := [Path(path) for path in files if not os.path.lexists(path)]:
                repo.fetch(targets=["data.dvc"])
            for path in missing:
                draft = path.with_name(f".{path.name}-draft")
                path.parent.mkdir(parents=True, exist_ok=True)
                repo.dvcfs.get_file(str(path), str(draft))
                draft.replace(path)
        except DvcException as error:
            raise UserError(f"the raw data could not be brought: {error}") from None
