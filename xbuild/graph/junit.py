"""What came of a run as JUnit XML, which CI systems show: a suite, and a case for each build."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from xbuild.base.text import clean
from xbuild.graph.display import log_of
from xbuild.graph.run import Ended
from xbuild.graph.scheduler import State

# What XML 1.0 cannot say (https://www.w3.org/TR/xml/#charsets), lone halves of pairs included.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(title: str, all_ended: Sequence[Ended], seconds: float) -> str:
    """The text of the file. seconds: of the whole.

    Elements as in https://github.com/testmoapp/junitxml, which are what Jenkins, GitLab and GitHub's actions read: a
    build that failed by itself is a failure; one that our own fault, or the machine, has ended is an error.
    """
    failed = [ended for ended in all_ended if ended.state is State.FAILED]
    errors = [ended for ended in failed if ended.code not in (3, 5)]
    unfinished = [ended for ended in all_ended if ended.state in (State.SKIPPED, State.WAITING)]
    counts = {
        "tests": len(all_ended), "failures": len(failed) - len(errors), "errors": len(errors),
        "skipped": len(unfinished), "time": f"{seconds:.3f}",
    }  # fmt: skip
    attributes = {"name": _text(title), **{name: str(count) for name, count in counts.items()}}
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    for ended in all_ended:
        suite.append(_case(ended, error=ended in errors))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(ended: Ended, *, error: bool) -> ElementTree.Element:
    name, _, target = ended.order.title.partition(" for ")
    known = {"name": ended.order.title, "classname": target or name, "time": f"{ended.seconds:.3f}"}
    case = ElementTree.Element("testcase", {key: _text(value) for key, value in known.items()})
    fault = ended.value.get("error") or {}
    if ended.state is State.FAILED:
        words = {"message": str(fault.get("message", ended.status)), "type": str(fault.get("kind", "phase"))}
        found = ElementTree.SubElement(
            case, "error" if error else "failure", {key: _text(value) for key, value in words.items()}
        )
        lines = [*fault.get("details", ()), *([f"hint: {fault['hint']}"] if fault.get("hint") else [])]
        found.text = _text("\n".join([*lines, f"log: {log_of(ended)}"]))
    elif ended.state in (State.SKIPPED, State.WAITING):
        because = f"{ended.because} {ended.for_want}" if ended.because else "it had not begun"
        ElementTree.SubElement(case, "skipped", {"message": _text(because)})
    said = [f"{ended.status}"] + ([f"why: {ended.reason}"] if ended.reason else [])
    said += [f"{name}: {ended.value[name]}" for name in ("artifact", "sha256") if ended.value.get(name)]
    ElementTree.SubElement(case, "system-out").text = _text("\n".join(said))
    return case


def _text(text: str) -> str:
    return _NO_XML.sub("?", clean(text))
