"""The one escaper, and what keeps a table in shape."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from reconciler import log
from reconciler.cli.terminal import Paint, ago, cut, cut_painted, table, width
from reconciler.log import visible

ATTACKS = {
    "clear the screen": ("\x1b[2J", r"\x1b[2J"),
    "colour": ("\x1b[31mred", r"\x1b[31mred"),
    "clipboard (OSC 52)": ("\x1b]52;c;ZXZpbA==\x07", r"\x1b]52;c;ZXZpbA==\x07"),
    "link (OSC 8)": ("\x1b]8;;http://evil\x1b\\x", "\\x1b]8;;http://evil\\x1b\\x"),
    "title": ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
    "8-bit CSI": ("\x9b2J", r"\x9b2J"),
    "next line (C1)": ("a\x85b", r"a\x85b"),
    "overwrite": ("good\rbad", r"good\rbad"),
    "backspace": ("a\x08b", r"a\x08b"),
    "bell, NUL, DEL": ("\x07\x00\x7f", r"\x07\x00\x7f"),
    "another line": ("one\ntwo", r"one\ntwo"),
    "line separator": ("one\u2028two", r"one\u2028two"),
    "right to left": ("\u202egnp.exe", r"\u202egnp.exe"),
    "isolate": ("\u2066x\u2069", r"\u2066x\u2069"),
    "mark": ("\u200f", r"\u200f"),
    "zero width": ("ad\u200bmin", r"ad\u200bmin"),
    "BOM": ("\ufeffx", r"\ufeffx"),
    "tag characters": ("\U000e0041", r"\U000e0041"),
    "lone surrogate": ("\ud800", r"\ud800"),
    "a space that is none": ("a\xa0b", r"a\xa0b"),
}


@pytest.mark.parametrize(("text", "shown"), ATTACKS.values(), ids=ATTACKS)
def test_what_could_steer_a_terminal_is_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_what_people_write_stays_as_it_is() -> None:
    for text in ("", "plain", "-rf", "größer → 東京 🚀 ñ", "a  b", "\\x1b"):
        assert visible(text) == text


def test_newlines_and_tabs_stay_where_they_are_wanted() -> None:
    assert visible("a\tb\nc\x1b", keep="\n\t") == "a\tb\nc\\x1b"


@given(st.text(st.characters()))
def test_whatever_comes_in_nothing_unprintable_comes_out(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert visible(shown) == shown


@given(st.text(), st.integers(0, 40))
def test_a_cut_text_fits(text: str, cells: int) -> None:
    assert width(cut(visible(text), cells)) <= cells


def test_wide_characters_count_as_two() -> None:
    assert width("東京") == 4
    assert cut("東京東京", 5) == "東京…"
    assert width("e\u0301") == 1


def test_a_table_drops_columns_until_it_fits() -> None:
    rows = [["NAME", "SLOT", "IMAGE"], ["app", "blue", "registry/very/long:latest"]]
    assert table(rows) == ["NAME  SLOT  IMAGE", "app   blue  registry/very/long:latest"]
    assert table(rows, 12, drop=(2, 1)) == ["NAME  SLOT", "app   blue"]
    assert table(rows, 3, drop=(2, 1)) == ["NAME", "app"]


def test_colours_are_there_only_when_wanted() -> None:
    assert Paint(False)("poor", "x") == "x"
    painted = Paint(True)("poor", "x" * 10)
    assert painted == f"\x1b[31m{'x' * 10}\x1b[0m"
    assert cut_painted(painted, 10) == painted
    assert cut_painted(painted, 5) == "xxxx…"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172800, "2d"),
        (1e12, "11574074d"),
    ],
)
def test_ages(seconds: float, words: str) -> None:
    assert ago(seconds) == words


# --- the log -----------------------------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Any:
    """Configure the log and get the lines that come out."""
    stream = io.StringIO()

    def configure(**options: Any) -> io.StringIO:
        log.configure(stream=stream, **options)
        return stream

    yield configure
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


HOSTILE_FIELDS = {"reason": 'x\n{"event":"forged"}', "image": "\x1b[2J\u202e", "n": 1, "what": {"a": {1}}}


def test_a_pipe_gets_json_one_line_an_event(logged: Any) -> None:
    stream = logged()
    structlog.get_logger().info("action.applied", **HOSTILE_FIELDS)
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    fields = json.loads(line)
    assert list(fields)[:3] == ["timestamp", "level", "event"]
    assert fields["event"] == "action.applied"
    assert fields["reason"] == HOSTILE_FIELDS["reason"]


def test_a_terminal_gets_readable_lines_that_cannot_steer_it(logged: Any) -> None:
    stream = logged(json=False)
    structlog.get_logger().info("action.applied", **HOSTILE_FIELDS)
    (line,) = stream.getvalue().splitlines()
    assert re.match(r"\d\d:\d\d:\d\d info +action\.applied +reason=", line)
    assert r"image=\x1b[2J\u202e" in line
    assert line.isprintable()


@pytest.mark.parametrize("json_form", [True, False])
def test_a_bug_is_logged_with_its_traceback(logged: Any, json_form: bool) -> None:
    stream = logged(json=json_form)
    try:
        raise KeyError("here\x1b")
    except KeyError:
        structlog.get_logger().exception("request.broken", bug=True)
    assert "Traceback" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_levels_below_the_wanted_one_are_silent(logged: Any) -> None:
    stream = logged(level="warning")
    structlog.get_logger().info("cycle.finished")
    assert stream.getvalue() == ""


def test_warnings_of_libraries_come_out_like_ours(logged: Any) -> None:
    stream = logged()
    logging.getLogger("urllib3").warning("retrying %s", "soon")
    logging.getLogger("urllib3").info("chatter")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "library.warned"
    assert json.loads(line)["message"] == "retrying soon"


def test_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    structlog.get_logger().info("daemon.started")
    structlog.reset_defaults()
    assert "daemon.started" in capsys.readouterr().err
    assert not sys.stderr.isatty()
