"""The fault catalogue: what may go wrong, what a user expects then, and the tests that show it.

    python -m tests.catalogue           prints the table
    python -m tests.catalogue C7 K4     prints all tests of these rows
    python -m tests.catalogue --write   writes it into docs/reliability.md

The tests are not imported: their marks `fault` and `control` are read from their source.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.catalogue_rows import CONTROLS, FAULTS, SECTIONS, Row

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- the catalogue: written by `python -m tests.catalogue --write` -->"
END = "<!-- the end of the catalogue -->"
SHOWN = 3
"""So many tests of a row stand in the table; the rest is counted."""

Test = tuple[str, str]
"""A test's file below tests/, and its name."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One row that one test claims to show."""

    kind: str
    row: str
    test: Test


@dataclass(frozen=True, slots=True)
class Found:
    """What the tests' source says: marks in order of file and line, and marks that no test carries."""

    marks: tuple[Mark, ...]
    astray: tuple[str, ...]

    def tests(self, row: str) -> list[Test]:
        """The tests that claim this row, each once."""
        return list(dict.fromkeys(mark.test for mark in self.marks if mark.row == row))


# ---------------------------------------------------------------- reading the tests


def read_tests(folder: Path) -> Found:
    """All marks of the tests below `folder`; nothing is imported."""
    marks: list[Mark] = []
    astray: list[str] = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if ".fault(" in text or ".control(" in text:
            found = read_file(text, path.relative_to(folder).as_posix())
            marks += found.marks
            astray += found.astray
    return Found(tuple(marks), tuple(astray))


def read_file(text: str, name: str) -> Found:
    """The marks of one file: of decorators, of parameters within them, of classes, and `pytestmark`.

    A mark is astray where pytest would not run what carries it, or its rows are not plain texts.
    """
    tree = ast.parse(text)
    own = Path(name).name.startswith("test_")
    everywhere = [node.value for node in tree.body if isinstance(node, ast.Assign) and _is_pytestmark(node)]
    marks: list[Mark] = []
    carried: set[ast.Call] = set()
    for test, decorators in _tests(tree.body, everywhere) if own else ():
        calls = [call for decorator in decorators for call in _calls(decorator)]
        carried.update(calls)
        if not any(_is_skip(decorator) for decorator in decorators):
            marks += (Mark(kind, row, (name, test)) for call in calls for kind, row in _rows(call))
    lost = [f"{name}:{call.lineno}" for call in _calls(tree) if call not in carried or not list(_rows(call))]
    return Found(tuple(marks), tuple(lost))


def _tests(body: list[ast.stmt], around: list[ast.expr]) -> Iterator[tuple[str, list[ast.expr]]]:
    """Each test function's name, and what decorates it, its class and its module."""
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _tests(node.body, [*around, *node.decorator_list])
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            yield node.name, [*around, *node.decorator_list]


def _is_pytestmark(node: ast.Assign) -> bool:
    return [ast.unparse(target) for target in node.targets] == ["pytestmark"]


def _is_skip(decorator: ast.expr) -> bool:
    """Skipped always; `skipif` is for machines that lack something."""
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(named) == "pytest.mark.skip"


def _calls(node: ast.AST) -> list[ast.Call]:
    wanted = ("pytest.mark.fault", "pytest.mark.control")
    calls = [child for child in ast.walk(node) if isinstance(child, ast.Call) and ast.unparse(child.func) in wanted]
    return sorted(calls, key=lambda call: call.lineno)


def _rows(call: ast.Call) -> Iterator[tuple[str, str]]:
    """Kind and row of each argument; none at all where one is not a plain text."""
    rows = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    if len(rows) == len(call.args) and not call.keywords:
        yield from ((ast.unparse(call.func).removeprefix("pytest.mark."), row) for row in rows)


# ---------------------------------------------------------------- what is wrong, and the page


def complaints(found: Found) -> list[str]:
    """Marks that fit no row, and rows of which the data and the tests say different things."""
    known = {"fault": {row.id for row in FAULTS}, "control": {row.id for row in CONTROLS}}
    wrong = [f"{place}: this mark is on no test, or its rows are not plain texts" for place in found.astray]
    for mark in found.marks:
        if mark.row not in known[mark.kind]:
            wrong.append(f"{'::'.join(mark.test)}: there is no row {mark.row} for the mark `{mark.kind}`")
    for row in (*FAULTS, *CONTROLS):
        if row.missing and found.tests(row.id):
            wrong.append(f"{row.id} has a test now: take out why it has none, in tests/catalogue_rows.py")
        if not row.missing and not found.tests(row.id):
            wrong.append(f"{row.id} has no test: mark one, or say in tests/catalogue_rows.py why there is none")
    return wrong


def page(found: Found) -> str:
    """The generated part of docs/reliability.md, without the marks around it."""
    covered = [row for row in FAULTS if found.tests(row.id)]
    shown = [row for row in CONTROLS if found.tests(row.id)]
    tests = {mark.test for mark in found.marks if mark.kind == "fault"}
    counts = (
        f"Rows with a test: {len(covered)} of {len(FAULTS)}. Controls with a test: {len(shown)} of {len(CONTROLS)}. "
    )
    lines = [f"{counts}Tests that carry a row: {len(tests)}."]
    for letter, title in SECTIONS.items():
        lines += ["", f"### {letter}. {title}", "", "| | fault | what a user expects | shown by |", "|---|---|---|---|"]
        lines += [_line(row, found) for row in FAULTS if row.section == letter]
    lines += ["", "### K. Controls of the security design", "", "| | against | how | shown by |", "|---|---|---|---|"]
    return "\n".join([*lines, *(_line(row, found) for row in CONTROLS)])


def _line(row: Row, found: Found) -> str:
    return f"| {row.id} | {row.fault} | {row.expects} | {_shown(row, found.tests(row.id))} |"


def _shown(row: Row, tests: list[Test]) -> str:
    """A few tests, of different files first, by name; the others as a number."""
    if not tests:
        return f"**not covered**: {row.missing}"
    firsts = list({file: (file, name) for file, name in reversed(tests)}.values())[::-1]
    few = [*firsts, *(test for test in tests if test not in firsts)][:SHOWN]
    more = f", {len(tests) - len(few)} more" if len(tests) > len(few) else ""
    return "<br>".join(f"`{file}` {name.removeprefix('test_')}" for file, name in few) + more


def put(text: str, generated: str) -> str:
    """`text` with `generated` between the two marks; ValueError where they do not stand there once, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"docs/reliability.md must have these two lines once each:\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}"


def main(words: list[str]) -> int:
    """0 when all rows and marks agree; complaints go to standard error."""
    found = read_tests(ROOT / "tests")
    if words == ["--write"]:
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), page(found)), encoding="utf-8")
    elif words:
        lines = [f"{row} tests/{file}::{name}" for row in words for file, name in found.tests(row)]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    else:
        sys.stdout.write(page(found) + "\n")
    wrong = complaints(found)
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
