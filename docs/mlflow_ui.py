"""Pictures of a sweep in MLflow's UI: `python docs/mlflow_ui.py http://127.0.0.1:5000 SWEEP [FOLDER]`.

Chromium opens each page and waits until it shows what it should; a page that does not is an error. The pictures go to
`docs/`, or to FOLDER.
"""

import base64
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

WAIT_SECONDS = 60.0
"""How long a page may take."""

WIDTH, HEIGHT = 1280, 800


class Browser:
    """Chromium without a window, told what to do through two pipes (Chrome DevTools Protocol)."""

    def __init__(self, profile: Path) -> None:
        names = ("chromium", "chromium-browser", "google-chrome")
        program = next((path for name in names if (path := shutil.which(name))), None)
        if program is None:
            sys.exit("error: no Chromium here")
        (read, self.write), (self.read, write) = os.pipe(), os.pipe()
        # It reads from 3 and writes to 4, which may be taken here.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read, write)]
        os.close(read)
        os.close(write)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        options += ["--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        redirect = f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, program, *options], pass_fds=theirs, stderr=subprocess.DEVNULL
        )
        for end in theirs:
            os.close(end)
        self.number, self.rest, self.session = 0, b"", ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.size(WIDTH, HEIGHT)

    def ask(self, method: str, **parameters: Any) -> Any:
        """A command's result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                part = os.read(self.read, 2**20)
                if not part:
                    sys.exit("error: Chromium ended")
                self.rest += part
            line, _, self.rest = self.rest.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"error: {method}: {answer['error']['message']}")
                return answer["result"]

    def size(self, width: int, height: int) -> None:
        """The window."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def script(self, code: str) -> Any:
        """The value of JavaScript."""
        return self.ask("Runtime.evaluate", expression=code, returnByValue=True)["result"].get("value")

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=url)

    def wait(self, code: str) -> Any:
        """The value of JavaScript, once it has one that is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (value := self.script(code)):
            if time.monotonic() > deadline:
                sys.exit(f"error: the page never came to {code}; it shows:\n{self.script('document.body.innerText')}")
            time.sleep(0.1)
        return value

    def read_text(self, *texts: str) -> None:
        """Wait until the page shows all of these."""
        for text in texts:
            self.wait(f"document.body.innerText.includes({json.dumps(text)})")

    def click(self, selector: str) -> None:
        """Click what a selector finds first, once it is there."""
        self.wait(f"(e => e && (e.click(), true))(document.querySelector({json.dumps(selector)}))")

    def picture(self, path: Path) -> None:
        """What the window shows, in few colours, which is what a page has."""
        time.sleep(1.0)  # for what moves
        shot = base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])
        with Image.open(io.BytesIO(shot)) as image:
            image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
