"""Makes report.png, the picture of a report: `python docs/images/report.py`. It needs the extra `embedded`, Chromium,
and some minutes on two cores.

The report is that of a real run of `arena-rm judge`. The chatbots are made up: their answers are the texts of the
bundled battles (CC0), whole, cut, or given to the wrong prompt.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BATTLES = ROOT / "tasks" / "arena_pairs" / "battles.jsonl"
PICTURE = Path(__file__).with_suffix(".png")
PROMPTS = 30
HEIGHT = 1270  # of the picture, in pixels of the page

sys.path.insert(0, str(ROOT / "tests"))
import browser  # noqa: E402 - it is in the folder of the tests


def chatbots() -> dict[str, list[dict]]:
    """Name of a made-up chatbot -> its answers, one for each battle of a single turn that has a winner."""
    rows = [json.loads(line) for line in BATTLES.read_text("utf-8").splitlines()]
    rows = [row for row in rows if row["winner"] != "tie" and isinstance(row["prompt"], str)]
    better = [row["response_a"] if row["winner"] == "model_a" else row["response_b"] for row in rows]
    worse = [row["response_b"] if row["winner"] == "model_a" else row["response_a"] for row in rows]
    answers = {
        "heron": better,
        "ibis": worse,
        "stork": [text[: len(text) // 2] for text in better],
        "egret": [re.split(r"(?<=[.!?:])\s", text)[0] for text in better],
        "crane": [*better[1:], better[0]],  # each answers the prompt of its neighbour
    }
    return {
        name: [
            {"prompt": row["prompt"], "response": text, "category": row["category"]}
            for row, text in zip(rows, texts, strict=True)
        ]
        for name, texts in answers.items()
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "answers").mkdir()
        for name, rows in chatbots().items():
            lines = (json.dumps(row) + "\n" for row in rows)
            (folder / "answers" / f"{name}.jsonl").write_text("".join(lines), "utf-8")
        command = [sys.executable, "-m", "harness_plugin.cli", "judge", "answers", "--labels", str(BATTLES)]
        subprocess.run([*command, "--prompts", str(PROMPTS), "-o", "judged"], cwd=folder, check=True)
        chromium = browser.Browser()
        try:
            page = chromium.open(folder / "judged" / "report.html", height=HEIGHT)
            page.picture(PICTURE, whole=False)
        finally:
            chromium.close()


if __name__ == "__main__":
    main()
