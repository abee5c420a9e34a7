"""The page of the fault catalogue says what the tests say."""

from __future__ import annotations

import pytest

from tests import catalogue
from tests.catalogue_rows import CONTROLS, FAULTS, SECTIONS

WANTED_ROWS = 120
FOUND = catalogue.read_tests(catalogue.ROOT / "tests")


def test_every_row_has_a_test_or_a_reason_and_every_mark_a_row() -> None:
    assert catalogue.complaints(FOUND) == []


def test_the_page_is_what_the_tests_say() -> None:
    text = catalogue.PAGE.read_text(encoding="utf-8")
    assert text == catalogue.put(text, catalogue.page(FOUND)), "run `python -m tests.catalogue --write`"


def test_enough_rows_have_a_test() -> None:
    assert sum(bool(FOUND.tests(row.id)) for row in FAULTS) >= WANTED_ROWS


def test_rows_are_there_once_and_each_in_its_section() -> None:
    names = [row.id for row in (*FAULTS, *CONTROLS)]
    assert len(set(names)) == len(names)
    assert {row.section for row in FAULTS} == set(SECTIONS)
    for letter in (*SECTIONS, "K"):
        numbers = [row.number for row in (*FAULTS, *CONTROLS) if row.section == letter]
        assert numbers == list(range(1, len(numbers) + 1))


# ---------------------------------------------------------------- the reader of marks


def marks(text: str, name: str = "test_x.py") -> list[tuple[str, str]]:
    return [(mark.row, mark.test[1]) for mark in catalogue.read_file(text, name).marks]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('@pytest.mark.fault("A1", "A2")\ndef test_a(): ...', [("A1", "test_a"), ("A2", "test_a")]),
        ('@pytest.mark.engine\n@pytest.mark.control("K1")\ndef test_a(): ...', [("K1", "test_a")]),
        ('@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.fault("A1"))])\ndef test_a(x): ...',
         [("A1", "test_a")]),
        ('pytestmark = [pytest.mark.fault("A1")]\ndef test_a(): ...\ndef test_b(): ...',
         [("A1", "test_a"), ("A1", "test_b")]),
        ('@pytest.mark.fault("A1")\nclass TestX:\n    @pytest.mark.fault("A2")\n    def test_a(self): ...',
         [("A1", "test_a"), ("A2", "test_a")]),
        ('@pytest.mark.skip\n@pytest.mark.fault("A1")\ndef test_a(): ...', []),
        ('@pytest.mark.skip(reason="later")\n@pytest.mark.fault("A1")\ndef test_a(): ...', []),
        ('@pytest.mark.skipif(True, reason="not here")\n@pytest.mark.fault("A1")\ndef test_a(): ...',
         [("A1", "test_a")]),
    ],
)  # fmt: skip
def test_marks_are_read_where_pytest_reads_them(text: str, expected: list[tuple[str, str]]) -> None:
    assert marks(text) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('@pytest.mark.fault("A1")\ndef helper(): ...', "test_x.py"),
        ('@pytest.mark.fault("A1")\ndef test_a(): ...', "world.py"),
        ('@pytest.mark.fault(ROW)\ndef test_a(): ...', "test_x.py"),
        ('@pytest.mark.fault()\ndef test_a(): ...', "test_x.py"),
        ('@pytest.mark.fault(row="A1")\ndef test_a(): ...', "test_x.py"),
        ('A1 = pytest.mark.fault("A1")\n\n@A1\ndef test_a(): ...', "test_x.py"),
        ('def test_a():\n    pytest.mark.fault("A1")', "test_x.py"),
    ],
)  # fmt: skip
def test_a_mark_that_shows_nothing_is_a_complaint(text: str, name: str) -> None:
    found = catalogue.read_file(text, name)
    assert (found.marks, len(found.astray)) == ((), 1)
    assert any("this mark is on no test" in words for words in catalogue.complaints(found))


def test_rows_and_marks_that_disagree_are_complaints() -> None:
    covered = next(row.id for row in FAULTS if not row.missing)
    missing = next(row.id for row in CONTROLS if row.missing)
    marked = f'@pytest.mark.fault("Z9")\n@pytest.mark.control("{missing}")\ndef test_a(): ...'
    told = catalogue.complaints(catalogue.read_file(marked, "test_x.py"))
    assert "test_x.py::test_a: there is no row Z9 for the mark `fault`" in told
    assert any(words.startswith(f"{missing} has a test now") for words in told)
    assert any(words.startswith(f"{covered} has no test") for words in told)


def test_a_control_is_no_fault() -> None:
    told = catalogue.complaints(catalogue.read_file('@pytest.mark.fault("K1")\ndef test_a(): ...', "test_x.py"))
    assert "test_x.py::test_a: there is no row K1 for the mark `fault`" in told


@pytest.mark.parametrize(
    "text", ["", catalogue.BEGIN, f"{catalogue.END}{catalogue.BEGIN}", f"{catalogue.BEGIN}{catalogue.END}" * 2]
)
def test_a_page_without_its_two_lines_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="these two lines once each"):
        catalogue.put(text, "x")
