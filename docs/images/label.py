"""Makes label.png, the picture of the page on which people vote: `python docs/images/label.py`. It needs Chromium.

The battles are the bundled ones (CC0).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BATTLES = ROOT / "tasks" / "arena_pairs" / "battles.jsonl"
PICTURE = Path(__file__).with_suffix(".png")
HEIGHT = 760  # of the picture, in pixels of the page

sys.path.insert(0, str(ROOT / "tests"))
import browser  # noqa: E402 - it is in the folder of the tests


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command = [sys.executable, "-m", "harness_plugin.cli", "label", str(BATTLES), "--n", "100", "-o", "label.html"]
        subprocess.run(command, cwd=folder, check=True)
        chromium = browser.Browser()
        try:
            page = chromium.open(folder / "label.html", height=HEIGHT)
            page.js("document.querySelector('#name').value = 'Ann'; document.querySelector('form button').click()")
            while not page.js(
                "document.querySelector('.side pre') && document.querySelector('main').offsetHeight < 1100"
            ):
                page.key("a")  # to a battle with code that is not too long
            page.picture(PICTURE, whole=False)
        finally:
            chromium.close()


if __name__ == "__main__":
    main()
