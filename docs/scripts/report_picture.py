"""Draw docs/images/report.png, the top of the report of the committed run: `python docs/scripts/report_picture.py`.

It needs Chromium.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from mlflow_ui import chromium

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 1200, 1095  # pixels: down to the end of the first table


def main() -> None:
    """Take the picture and reduce it to 128 colours, which is all that a page of text needs."""
    program = chromium()
    if not program:
        sys.exit("error: there is no Chromium on this machine: Debian's package is `chromium`")
    page, target = ROOT / "results" / "default" / "report.html", ROOT / "docs" / "images" / "report.png"
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size, output = f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}"
        subprocess.run([program, *options, size, output, page.as_uri()], check=True, capture_output=True, timeout=120)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
