"""Draw docs/images/report.png, the top of the report of the committed run: `python docs/scripts/report_picture.py`.

With `--runs` it draws docs/images/compare_runs.png instead, the top of the page that `lookalike compare-runs mnist`
writes about the runs of this checkout. It needs Chromium.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from mlflow_ui import chromium

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "results" / "default" / "report.html", "report.png", 1200, 1095
"""The page, its picture, and the size of the window in pixels: down to the end of the first table."""

RUNS = ROOT / ".lookalike" / "runs" / "mnist.html", "compare_runs.png", 1280, 1080


def main() -> None:
    """Take a picture."""
    if "--runs" in sys.argv[1:]:
        subprocess.run([sys.executable, "-m", "lookalike", "compare-runs", "mnist"], cwd=ROOT, check=True)
        take(*RUNS)
    else:
        take(*REPORT)


def take(page: Path, name: str, width: int, height: int) -> None:
    """Take a picture and reduce it to 128 colours, which is all that a page of text needs."""
    program = chromium()
    if not program:
        sys.exit("error: there is no Chromium on this machine: Debian's package is `chromium`")
    target = ROOT / "docs" / "images" / name
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size, output = f"--window-size={width},{height}", f"--screenshot={shot}"
        subprocess.run([program, *options, size, output, page.as_uri()], check=True, capture_output=True, timeout=120)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
