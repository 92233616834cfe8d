"""Run the code of the checkout that the script lies in, even where another checkout is the installed one.

It also refuses to start in a checkout in which DVC could not record what the script makes.

A git worktree and the copy in which DVC runs a queued experiment need no installation of their own. Every script in
this folder imports this module first; nothing else looks for a checkout.
"""

import os
import sys
from pathlib import Path

SOURCE = str(Path(__file__).resolve().parents[1] / "src")

sys.path.insert(0, SOURCE)
# Processes that the script starts find the same code.
inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
if inherited[0] != SOURCE:
    os.environ["PYTHONPATH"] = os.pathsep.join([SOURCE, *filter(None, inherited)])

from lookalike.workspace.errors import UserError  # noqa: E402
from lookalike.workspace.interrupts import end_at_once  # noqa: E402
from lookalike.workspace.streams import open_closed_streams  # noqa: E402
from lookalike.workspace.utf8 import use_utf8  # noqa: E402

open_closed_streams()
end_at_once()
use_utf8()

from lookalike.workspace.pipeline import check_links  # noqa: E402

try:
    check_links()
except UserError as error:
    sys.exit(f"error: {error}")
