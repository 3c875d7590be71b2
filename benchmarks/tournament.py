"""Memory and time of `arena-rm judge` by the number of verdicts, with stored scores: what the tool itself costs.

    python benchmarks/tournament.py [--kind pointwise] [--models 5,15,46,100] [--prompts 1000] [-o FOLDER]

Made-up chatbots answer made-up prompts. With --kind pointwise all meet all (100 models and 1,000 prompts make 4,950,000
verdicts of 100,000 scores); with --kind pair all meet the first model (99,000 verdicts of 198,000 scores). The judge is
a tiny random model of `tests`. Before anything is measured the score store is filled with random numbers for all that
it will be asked, so that no forward pass is measured: what is left is reading, the texts as tokens, the store, the
journal, the verdicts, the statistics and the report, which a run pays whatever its judge is.

Each size runs in a process of its own, which does what the command does. "peak MiB" is the most memory that this
process held at once (VmHWM); it has about 600 MiB before it reads anything, for torch and transformers. Pictures are
left out. Results are written to tournament.json in the output folder.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from measuring import status_mib

ROOT = Path(__file__).resolve().parents[1]
PAIR, POINTWISE = "pair", "pointwise"
WORDS = 60  # of an answer, in the mean
STORE, ANSWERS, JUDGED, VERDICTS = "scores.sqlite", "answers", "judged", "verdicts.jsonl"


def write_answers(folder: Path, models: int, prompts: int) -> None:
    """A file for each model. Better models write somewhat longer answers, and some of them Markdown."""
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny import WORDS as VOCABULARY

    draw = random.Random(0)
    asked = [f"Question {n}: {' '.join(draw.choices(VOCABULARY, k=12))}?" for n in range(prompts)]
    folder.mkdir()
    for model in range(models):
        with open(folder / f"model-{model:04}.jsonl", "w", encoding="utf-8") as out:
            for n, prompt in enumerate(asked):
                words = draw.choices(VOCABULARY, k=draw.randint(WORDS // 2, 3 * WORDS // 2) + model % 10)
                answer = " ".join(words) + ("\n\n- one\n- **two**" if draw.random() < 0.2 else "")
                row = {"prompt": prompt, "response": answer, "category": f"category {n % 5}"}
                out.write(json.dumps(row) + "\n")


def judge_of(kind: str, folder: Path):
    """The settings of a tiny random judge of this kind, saved in the folder."""
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny
    import tiny_rewards

    from harness_plugin.model import ModelSpec

    if kind == POINTWISE:
        if not (folder / "reward").exists():
            tiny_rewards.save_reward_model("qwen3", folder / "reward")
        return ModelSpec(pretrained=str(folder / "reward"), kind=POINTWISE, dtype="float32", device="cpu")
    if not (folder / "adapter").exists():
        tiny.save_adapter(tiny.save_base("gemma", folder / "base"), folder / "adapter")
    return ModelSpec(pretrained=str(folder / "base"), peft=str(folder / "adapter"), dtype="float32", device="cpu")


def fill(kind: str, folder: Path, baseline: str | None) -> None:
    """Stores a random score for all that the judge will be asked."""
    from harness_plugin import tournament
    from harness_plugin.engine import Engine
    from harness_plugin.judges.presentations import score_answers, score_pairs
    from harness_plugin.model import load_model
    from harness_plugin.pairs import Pair
    from harness_plugin.scoring.identity import logit_identity
    from harness_plugin.scoring.store import ScoreCache

    class Drawn(Engine):
        """Draws logits in the place of computing them."""

        def logits(self, rows, done=None):
            return draw.normal(size=(len(rows), 1))

    draw, model = np.random.default_rng(0), load_model(judge_of(kind, folder))
    engine, answers = Drawn(model), tournament.gather(tournament.find_files([str(folder / ANSWERS)]))
    names = list(answers.by_model)
    if kind == POINTWISE:  # each answer once, beside that of a neighbour
        sides = list(zip(names[::2], [*names[1::2], names[0]][: len(names[::2])], strict=True))
        score = score_answers
    else:
        sides, score = [(baseline, name) for name in names if name != baseline], score_pairs
    given = answers.by_model
    pairs = [Pair(prompt, given[a][key], given[b][key]) for key, prompt in answers.prompts.items() for a, b in sides]
    with ScoreCache(folder / STORE) as store:
        store.bind(logit_identity(model, engine), model.num_labels)
        for _ in score(engine, model.renderer, pairs, store=store):
            pass


def run(kind: str, folder: Path, baseline: str | None) -> dict:
    """One tournament as `arena-rm judge` runs it: seconds and the peak of memory by part."""
    from harness_plugin import tournament
    from harness_plugin.judges import open_judge
    from harness_plugin.report.judge_folder import write_run

    found: dict = {"seconds": {}, "peak_mib": {}}

    @contextmanager
    def part(name: str):
        start = time.perf_counter()
        yield
        found["seconds"][name], found["peak_mib"][name] = time.perf_counter() - start, status_mib("VmHWM")

    out = folder / JUDGED
    out.mkdir(exist_ok=True)
    with open_judge(judge_of(kind, folder), store=folder / STORE) as judge:
        found["peak_mib"]["start"] = status_mib("VmHWM")
        with part("reading"):
            battles = tournament.battles(tournament.gather(tournament.find_files([str(folder / ANSWERS)])), baseline)
        with part("verdicts"):
            verdicts = tournament.collect_verdicts(judge, battles, out)
        assert judge.store.misses == 0, "every score is stored"
        identity = {"hash": judge.hash, **judge.identity}
    with part("leaderboard"):
        board = tournament.leaderboard(verdicts, baseline, battles.models, battles.counts, tournament.styles(battles))
        board = tournament.summary(board, battles, identity)
    with part("report"):
        tournament.write_answers(out, battles)
        write_run(out, board, tournament.Judged(battles, verdicts, [None] * len(verdicts)), pictures=False)
    sizes = {file.name: file.stat().st_size for file in [*sorted(out.iterdir()), folder / STORE]}
    return found | {"verdicts": len(verdicts), "models": len(battles.models), "bytes": sizes}


def measured(kind: str, folder: Path, models: int, prompts: int) -> dict:
    """What `run` found in a process of its own, after another process has filled the store."""
    write_answers(folder / ANSWERS, models, prompts)
    for step in ("fill", "run"):
        call = [sys.executable, __file__, "--kind", kind, "--step", step, "--folder", str(folder)]
        printed = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


@click.command()
@click.option("--kind", type=click.Choice([PAIR, POINTWISE]), default=POINTWISE, show_default=True)
@click.option("--models", default="5,15,46", show_default=True, help="How many models take part, one run for each.")
@click.option("--prompts", default=1000, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), help="Where the files of the runs go. [default: a new folder]")
@click.option("-o", "--output", default=".", type=click.Path(path_type=Path))
@click.option("--step", type=click.Choice(["fill", "run"]), hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(kind, models, prompts, work, output, step, folder):
    baseline = "model-0000" if kind == PAIR else None
    if step is not None:
        click.echo(json.dumps(fill(kind, folder, baseline) if step == "fill" else run(kind, folder, baseline)))
        return
    rows = []
    click.echo(" verdicts  reading s  verdicts s  leaderboard s  report s  peak MiB  (start)  files MB")
    for count in map(int, models.split(",")):
        with tempfile.TemporaryDirectory(dir=work) as place:
            row = measured(kind, Path(place), count, prompts)
        rows.append(row)
        seconds, peaks = row["seconds"], row["peak_mib"]
        shown = [row["verdicts"], *seconds.values(), max(peaks.values()), peaks["start"], row["bytes"][VERDICTS] / 1e6]
        widths = (9, 11, 12, 15, 10, 10, 9, 10)
        click.echo("".join(f"{value:{width}.0f}" for value, width in zip(shown, widths, strict=True)))
    output.mkdir(parents=True, exist_ok=True)
    (output / "tournament.json").write_text(json.dumps({"kind": kind, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
