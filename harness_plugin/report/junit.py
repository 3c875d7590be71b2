"""A gate's result as JUnit XML, which GitLab, Jenkins, Azure and CircleCI show beside a build's other tests.

A regression is a failure; runs that could not be compared are an error, as JUnit tells them apart.
"""

import math
from xml.etree import ElementTree

from harness_plugin.gate import GateResult, Measured, State
from harness_plugin.gate.decide import DECIDES
from harness_plugin.report.gate_text import document, headline, terminal

NAME = "arena-rm gate"


def junit(result: GateResult) -> str:
    """One suite, one case per metric and category; only a metric that decides can fail. An XML document."""
    suite = ElementTree.Element("testsuite", name=NAME)
    _properties(suite, {k: v for k, v in document(result).items() if isinstance(v, (str, int, float))})
    if result.decision is None:
        case = ElementTree.SubElement(suite, "testcase", classname=NAME, name="comparable")
        _said(case, "error", headline(result), terminal(result), "not comparable")
    else:
        for m in result.decision.measured:
            _case(suite, m, result)
    kinds = {name: len(suite.findall(f"testcase/{name}")) for name in ("failure", "error", "skipped")}
    counts = {
        "tests": len(suite.findall("testcase")),
        "failures": kinds["failure"],
        "errors": kinds["error"],
        "skipped": kinds["skipped"],
    }
    root = ElementTree.Element("testsuites", name=NAME)
    for element in (suite, root):
        element.attrib |= {name: str(count) for name, count in counts.items()}
    root.append(suite)
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, m: Measured, result: GateResult) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=_plain(f"{NAME}.{m.role}"), name=_plain(m.name))
    known = {name: value for name, value in {**m.numbers, "n": m.test.n}.items() if math.isfinite(value)}
    numbers = {name: f"{value:.6g}" for name, value in known.items()}
    _properties(case, numbers)
    said = ", ".join(f"{name} {value}" for name, value in numbers.items())
    if m.role != DECIDES:
        if m.state == State.REGRESSION:
            _said(case, "skipped", f"a significant drop in a metric that does not decide: {said}")
    elif m.state == State.REGRESSION:
        _said(case, "failure", headline(result), said, "regression")
    elif m.state == State.INCONCLUSIVE and result.rules.on_inconclusive == "fail":
        _said(case, "failure", headline(result), said, "inconclusive")
    elif m.state == State.INCONCLUSIVE:
        _said(case, "skipped", f"inconclusive: {said}")


def _said(case: ElementTree.Element, kind: str, message: str, text: str = "", type_: str = "") -> None:
    attributes = {"message": _plain(message)} | ({"type": type_} if type_ else {})
    element = ElementTree.SubElement(case, kind, attributes)
    element.text = _plain(text) or None


def _properties(parent: ElementTree.Element, values: dict) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in values.items():
        ElementTree.SubElement(properties, "property", name=name, value=_plain(str(value)))


def _plain(text: str) -> str:
    """The text without what XML 1.0 cannot hold."""
    return "".join(
        c if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "\ufffd"
        for c in text
    )
