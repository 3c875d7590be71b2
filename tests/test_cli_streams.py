"""Whatever a file holds, a terminal and a CI runner take it for text; and a stream that fails does not end the work."""

import errno
import io
import json
import subprocess
import sys

import gate_rows
import pytest
from commands import code_of

from harness_plugin.cli.streams import RunnerCommand, SafeStream, safe_streams
from harness_plugin.files.printable import encodable, escaped, log_line, without_controls


def written(*texts, encoding="utf-8", tty=False):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="", write_through=True)
    stream.isatty = lambda: tty
    safe = SafeStream(stream, "standard output", may_fail=False)
    for text in texts:
        assert safe.write(text) == len(text)
    safe.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain text, 日本, ½ and 👩‍👩‍👧\n\tindented\u3000wide\xa0space", None),
        ("a\x1b[31mred\x07", "a\\u001b[31mred\\u0007"),
        ("C1 \x9b31m and \x7f", "C1 \\u009b31m and \\u007f"),
        ("over\rwritten", "over\\u000dwritten"),
        ("\u202eright to left\u2066", "\\u202eright to left\\u2066"),
        ("lines\u2028and\u2029", "lines\\u2028and\\u2029"),
        ("half \ud83e", "half \\ud83e"),
        ("::error::stop", ": :error::stop"),
        ("ok\n  ::add-mask::secret\nstd::vector", "ok\n  : :add-mask::secret\nstd::vector"),
        ("a ##[error]x ##vso[task.complete]", "a #\\u0023[error]x #\\u0023vso[task.complete]"),
        ("# heading\n## second", None),
    ],
)
def test_text_stays_text(text, shown):
    assert written(text) == (text if shown is None else shown)


def test_a_command_that_is_written_in_parts_is_none():
    assert written(":", ":error::x\n") == ": :error::x\n"
    assert written("  ", "::error::x") == "  : :error::x"
    assert written("a", "::error::x\n", "::warning::") == "a::error::x\n: :warning::"
    assert written("a\n", "", "::error::x") == "a\n: :error::x"


def test_the_programs_own_command_stays_one():
    assert written(RunnerCommand("::error title=a::b\x1b\n")) == "::error title=a::b\\u001b\n"


def test_in_json_the_values_do_not_change():
    value = {"id": "\x7f\x9b\u202e::\ud83e\udd8a ##[x] 日", "🦊": "\u2028"}
    for encoding in ("utf-8", "cp1252", "ascii"):
        shown = written(json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16"))
        assert json.loads(encodable(shown, encoding)) == json.loads(json.dumps(value))


def test_progress_bars_move_the_cursor_on_a_terminal_and_texts_do_not():
    assert written("\r 5%|#", "\n", "\x1b[A", tty=True) == "\r 5%|#\n\x1b[A"
    assert written("\r 5%\rdone\x1b[A", tty=True) == "\r 5%\\u000ddone\\u001b[A"
    assert written("\r 5%") == "\\u000d 5%"


class Failing(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


def test_a_stream_that_fails_names_itself_or_is_left():
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="standard output") as caught:
        SafeStream(Failing(full), "standard output", may_fail=False).write("x")
    assert caught.value.errno == errno.ENOSPC
    assert SafeStream(Failing(full), "standard error", may_fail=True).write("x") == 1
    with pytest.raises(BrokenPipeError):
        SafeStream(Failing(BrokenPipeError()), "standard output", may_fail=False).write("x")
    with pytest.raises(TypeError):
        SafeStream(io.StringIO(), "standard output", may_fail=False).write(b"bytes")


def test_streams_come_back_as_they_were():
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError), safe_streams():
        assert isinstance(sys.stdout, SafeStream) and isinstance(sys.stderr, SafeStream)
        raise ValueError
    assert (sys.stdout, sys.stderr) == before


HOSTILE = "::error::\x1b[2J\u202e##[error]\r"


def test_names_and_categories_of_files_do_nothing_to_a_terminal(capsys, tmp_path):
    rows = [row | {"category": f"{HOSTILE}{row['category']}", "judge": HOSTILE} for row in gate_rows.score_rows(60)]
    good, bad = gate_rows.scores(tmp_path, "good.jsonl", 60), gate_rows.write(tmp_path / "bad.jsonl", rows)
    torn = tmp_path / f"{HOSTILE}.jsonl".replace("/", "")
    torn.write_text(f'{{"{HOSTILE}": 1}}\n'.replace("\x1b", "\\u001b").replace("\r", ""), encoding="utf-8")
    commands = [["gate", good, bad], ["gate", bad, bad], ["gate", good, torn], ["score", torn], ["show", torn]]
    for command in [*commands, ["gate", f"{HOSTILE}nothing", good], ["gate", "--no-such", HOSTILE]]:
        code_of([str(argument) for argument in command])
        said = "".join(capsys.readouterr())
        assert said and without_controls(said) == said, command
        assert not any(line.lstrip().startswith("::") for line in said.splitlines()), said
        assert "##[" not in said


def test_a_part_of_a_line_keeps_to_its_line():
    assert log_line("a\n::error::x\x1b ##[y]") == "a : :error: :x # #[y]"
    assert log_line("x" * 50, 10) == "x" * 9 + "…"
    assert escaped("🦊") == "\\ud83e\\udd8a" and escaped("\x1b") == "\\u001b"


def test_at_the_end_of_the_process_python_looks_for_no_cycles_and_what_was_registered_still_runs():
    code = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 0, gc.isenabled()))
from harness_plugin.cli import main
main(["--version"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "True True"
