"""A comparison of judges as files: JSON, Markdown, a picture, and one page that holds the picture too."""

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness_plugin.errors import UsageError
from harness_plugin.files import atomic_write
from harness_plugin.files.printable import one_line
from harness_plugin.report import comparison_words, drawing
from harness_plugin.report.comparison_plots import forest
from harness_plugin.report.comparison_section import Section, aligned
from harness_plugin.report.comparison_words import sections
from harness_plugin.report.markdown_syntax import safe, table

JSON, MARKDOWN, PAGE, PICTURE = "comparison.json", "comparison.md", "comparison.html", "comparison.png"
STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}
th,td{border:1px solid #ccc;padding:.3em .6em;text-align:left;font-variant-numeric:tabular-nums}
th{background:#f4f4f4}td:first-child{white-space:nowrap}img{max-width:100%}"""


def write_comparison(folder: Path, result: Mapping[str, Any], pictures: bool = True) -> None:
    """Writes all files into the folder. The picture needs matplotlib: without it, or with `pictures` false, there is
    none, and the page says so."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = pictures and _drawn(folder / PICTURE, result)
    if not drawn:
        (folder / PICTURE).unlink(missing_ok=True)
    picture = (folder / PICTURE).read_bytes() if drawn else None
    texts = {
        JSON: json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        MARKDOWN: markdown(result, drawn),
        PAGE: page(result, picture),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as out:
            out.write(text)


def _drawn(path: Path, result: Mapping[str, Any]) -> bool:
    try:
        drawing.require()
    except UsageError as e:
        drawing.log.warning("arena_rm: no picture: %s", e)
        return False
    return drawing.attempt(forest, path, result)


def text(result: Mapping[str, Any]) -> str:
    """The comparison for a terminal."""
    return "\n\n".join("\n".join([one_line(s.title), *s.sentences, *aligned(s)]) for s in sections(result))


def markdown(result: Mapping[str, Any], drawn: bool = False) -> str:
    """The comparison as Markdown, which shows the picture beside it where there is one."""
    parts = [f"# {safe(comparison_words.title(result))}", f"![Figures of the judges]({PICTURE})" if drawn else ""]
    return "\n\n".join(part for part in [*parts, *map(_markdown_section, sections(result))] if part) + "\n"


def _markdown_section(section: Section) -> str:
    rows = table(map(safe, section.head), ([safe(cell) if cell else "" for cell in row] for row in section.rows))
    parts = [f"## {safe(section.title)}", *map(_sentence, section.sentences), rows if section.rows else ""]
    return "\n\n".join(part for part in parts if part)


def _sentence(text: str) -> str:
    """A sentence in Markdown: it may hold names of judges, and is longer than a name."""
    return " ".join(safe(word) for word in text.split())


def page(result: Mapping[str, Any], picture: bytes | None) -> str:
    """The comparison as one page that needs no other file and no script."""
    title = html.escape(comparison_words.title(result))
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    body = "".join(map(_html_section, sections(result)))
    image = "" if picture is None else base64.b64encode(picture).decode()
    shown = f'<img alt="Figures of the judges" src="data:image/png;base64,{image}">' if image else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{STYLE}</style></head>'
        f"<body><h1>{title}</h1>{shown}{body}</body></html>\n"
    )


def _html_section(section: Section) -> str:
    said = "".join(f"<p>{html.escape(one_line(sentence))}</p>" for sentence in section.sentences)
    head = "".join(f"<th>{html.escape(one_line(cell))}</th>" for cell in section.head)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(one_line(cell))}</td>' for cell in row)}</tr>" for row in section.rows
    )
    shown = f"<table><tr>{head}</tr>{rows}</table>" if section.rows else ""
    return f"<h2>{html.escape(one_line(section.title))}</h2>{said}{shown}\n"
