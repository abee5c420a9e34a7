"""L: what others wrote, on its way to a person: nothing of it steers a terminal, a log reader or a Markdown reader."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler import log
from reconciler.cli.answers import conclude, say_json, show_line
from reconciler.cli.history_view import record_line
from reconciler.cli.main import _complain, _crash
from reconciler.cli.options import make_options
from reconciler.cli.status_view import status_lines
from reconciler.cli.terminal import Paint
from reconciler.cli.why_view import why_lines
from reconciler.formats import audit, audit_report, history
from reconciler.formats.findings import Findings, shown, shown_text
from reconciler.formats.policy import printable
from tests.cli.cli_samples import status_of_a_rollout, status_of_one_service
from tests.fuzz.seeds import records
from tests.security.cases import Attack, in_time, steering

NASTY = {
    "clear the screen": "\x1b[2J\x1b[H",
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "link": "\x1b]8;;http://evil/\x1b\\click\x1b]8;;\x1b\\",
    "C1": "\x9b2J\x90q\x9c\x85",
    "overwrite": "\rok\x08\x08\x7f",
    "bidi": "\u202egnp.\u2066x\u2069",
    "zero width": "a\u200bb\u200d\u2060\ufeff",
    "tags": "\U000e0041\U000e007f",
    "lines": "x\n2026-01-01 all is well\u2028\u2029\x0b\x0c",
    "half a character": "\ud800x\udfff",
    "title": "\x1b]0;root@host\x07\x1bPq\x1b\\",
}
NOW = 1778069000.0
PLAIN = Paint(False)


def poisoned(value: Any, text: str) -> Any:
    """`value` with `text` behind every string in it; names of fields and chosen words stay."""
    if isinstance(value, dict):
        return {key: poisoned(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each, text) for each in value]
    return value + text if isinstance(value, str) else value


def _status(text: str) -> str:
    return "\n".join(
        line
        for value in (status_of_one_service(), status_of_a_rollout())
        for line in status_lines(poisoned(value, text), NOW, PLAIN)
    )


def _why(text: str) -> str:
    services = (*status_of_one_service()["services"], *status_of_a_rollout()["services"])
    return "\n".join(line for service in services for line in why_lines(poisoned(service, text), NOW, PLAIN))


def _history(text: str) -> str:
    return "\n".join(record_line(poisoned(record, text), PLAIN) for record in records())


def _raw_history(text: str) -> str:
    """Lines that are no records, which are shown as they are."""
    line = f'{{"kind": "cycle"{text}'.encode("utf-8", "surrogatepass") + b"\n"
    return record_line(history.parse(line), PLAIN)


def _audited(text: str) -> audit.Audit:
    kinds = [
        {**poisoned(record, text), "kind": record.get("kind"), "timestamp": record["timestamp"]} for record in records()
    ]
    return audit.audit(json.dumps(record).encode() + b"\n" for record in kinds)


def _markdown(text: str) -> str:
    return "".join(audit_report.markdown(_audited(text)))


def _readable_log(text: str) -> str:
    fields = {"timestamp": "2026-01-01T00:00:00Z", "level": "info", "event": f"a{text}", "reason": text, "what": [text]}
    return log._Readable(False)(None, "info", fields)


def _json_log(text: str) -> str:
    return log._as_json(None, "info", {"timestamp": "t", "level": "info", "event": f"a{text}", "reason": text})


def _ends(text: str) -> str:
    out = io.StringIO()
    with redirect_stderr(out), redirect_stdout(out):
        conclude({"exit": 1, "text": f"a{text}"})
        conclude({"exit": 0, "text": f"a{text}"})
        show_line({"event": "line", "text": text})
        say_json({"a": text})
    return out.getvalue()


def _crashed(text: str) -> str:
    out = io.StringIO()
    with redirect_stderr(out):
        _crash(ValueError(text), make_options("swiftdeploy", None, "/nowhere", "text", {}))
        _complain(log.visible(text), 1)
    return out.getvalue()


def _problem(text: str) -> str:
    findings = Findings("m.yaml")
    findings.problem((1, 1), f"a {shown_text(text)} {shown([text])} {text}")
    return "".join(problem.message for problem in findings.problems)


def _policy(text: str) -> str:
    return printable(text, 500)


def _container_log(text: str) -> str:
    return log.visible(text, keep="\t")


OUTLETS: dict[str, tuple[Callable[[str], str], str]] = {
    "status": (_status, "\n"),
    "why": (_why, "\n"),
    "history": (_history, "\n"),
    "history of odd lines": (_raw_history, ""),
    "audit": (_markdown, "\n"),
    "log on a terminal": (_readable_log, ""),
    "log in JSON": (_json_log, ""),
    "answers": (_ends, "\n"),
    "errors": (_crashed, "\n"),
    "manifest problems": (_problem, ""),
    "policy's words": (_policy, ""),
    "container logs": (_container_log, "\t"),
}
"""What shows foreign text, and which control characters are its own."""


@dataclass(frozen=True)
class Shown(Attack):
    """`text` in every place of what `outlet` shows."""

    outlet: str
    text: str

    def attempt(self, folder: Path) -> None:
        show, keep = OUTLETS[self.outlet]
        with in_time():
            seen = show(self.text)
        assert not steering(seen, keep), f"{steering(seen, keep)} reached a person"
        seen.encode("utf-8", "strict")


@dataclass(frozen=True)
class InReport(Attack):
    """Markdown or HTML in what an audit report quotes: it stays in its cell, as text."""

    text: str

    def attempt(self, folder: Path) -> None:
        plain, page = _markdown("plain").splitlines(), _markdown(self.text).splitlines()
        rows = [line for line in page if line.startswith("|")]
        assert rows
        assert {line.count("|") for line in rows} <= {5, 8}, "a cell was left"
        assert len(page) == len(plain), "a line was added"
        assert "<" not in "".join(page), "a tag was written"
        assert "](" not in "".join(page), "a link was written"
        assert "://" not in "".join(page), "a link was written"


MARKDOWN = (
    *("</script><script>alert(1)</script>", "| a | b |", "[x](http://evil/)", "![x](//evil/x.png)", "<img src=x>"),
    *("`code`", "\n\n# A heading\n", "&lt;b&gt;", "*x* _y_ ~~z~~", "\\| out", "www.evil.example", "@everyone #1"),
    *("=cmd|' /C calc'!A0", "<!-- ", "\\", "$$x$$"),
)
CASES = (
    *(Shown("L1", f"{name} in {outlet}", outlet, text) for outlet in OUTLETS for name, text in NASTY.items()),
    *(InReport("L2", repr(text), text) for text in MARKDOWN),
)
