"""The loader: JSON's types with places, everything else refused quickly, with a place, and never by a crash."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.core.errors import ManifestError, Problem
from reconciler.formats import yaml_strict
from reconciler.formats.yaml_strict import MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_SCALAR, load

ANY = (0, 0)

MERGE_BOMB = b"a0: &a0 {k0: v, k1: v, k2: v, k3: v, k4: v, k5: v, k6: v, k7: v}\n" + b"".join(
    b"a%d: &a%d {<<: [%s]}\n" % (level, level, b",".join([b"*a%d" % (level - 1)] * 10)) for level in range(1, 9)
)
BILLION_LAUGHS = b"a0: &a0 [lol]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (level, level, b",".join([b"*a%d" % (level - 1)] * 9)) for level in range(1, 10)
)

# name, bytes, where the first problem must be (ANY: anywhere), words of the first problem
HOSTILE: list[tuple[str, bytes, tuple[int, int], str]] = [
    ("billion laughs", BILLION_LAUGHS, (1, 5), "anchor &a0"),
    ("merge bomb", MERGE_BOMB, (1, 5), "anchor &a0"),
    ("100 000 brackets", b"[" * 100_000 + b"]" * 100_000, (1, MAX_DEPTH + 1), "nested deeper"),
    ("100 000 open brackets", b"[" * 100_000, (1, MAX_DEPTH + 1), "nested deeper"),
    ("60 000 nested braces", b"{a: " * 60_000, ANY, "nested deeper"),
    (
        "1000 indented levels",
        b"".join(b" " * i + b"a:\n" for i in range(500)),
        (MAX_DEPTH + 1, MAX_DEPTH + 1),
        "nested",
    ),
    ("dashes on one line", b"- " * 100_000, ANY, "nested deeper"),
    ("question marks", b"? " * 100_000, ANY, "nested deeper"),
    ("a list in itself", b"&a [*a]", (1, 1), "anchor &a"),
    ("a map in itself", b"&a {k: *a}", (1, 1), "anchor &a"),
    ("a key in itself", b"? &a [*a]\n: 1", (1, 3), "anchor &a"),
    ("an alias of nothing", b"a: *nothing", (1, 4), "alias"),
    ("an anchor on a scalar", b"a: 1\nb: &x 2", (2, 4), "anchor &x"),
    ("python object", b'a: !!python/object/apply:os.system ["id"]', (1, 4), "tag"),
    ("python name", b"a: !!python/name:os.system", (1, 4), "tag"),
    ("%TAG", b"%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system ''", ANY, "%TAG"),
    ("%YAML", b"%YAML 1.1\n---\na: 1", ANY, "%YAML"),
    ("!!binary", b'a: !!binary "@"', (1, 4), "tag"),
    ("!!set", b"a: !!set [1]", (1, 4), "tag"),
    ("!!omap", b"a: !!omap {a: 1}", (1, 4), "tag"),
    ("!!null", b"a: !!null [1]", (1, 4), "tag"),
    ("!!int xx", b"a: !!int xx", (1, 4), "tag"),
    ("!!float xx", b"a: !!float xx", (1, 4), "tag"),
    ("!!bool xx", b"a: !!bool xx", (1, 4), "tag"),
    ("!!timestamp xx", b"a: !!timestamp xx", (1, 4), "tag"),
    ("!!str", b"a: !!str 1", (1, 4), "tag"),
    ("a private tag", b"a: !mine 1", (1, 4), "tag"),
    ("a non-specific tag", b"a: ! 1", (1, 4), "tag"),
    ("30 February", b"a: 2024-02-30", (1, 4), "a date"),
    ("year 0", b"a: 0000-01-01", (1, 4), "a date"),
    ("99 o'clock", b"a: 2024-01-01T99:99:99Z", (1, 4), "a date"),
    ("a wild time zone", b"a: 2024-01-01 00:00:00 -99:99", (1, 4), "a date"),
    ("a plain date", b"a: 2024-01-01", (1, 4), "a date"),
    ("5 000 digits", b"a: " + b"9" * 5000, (1, 4), "too long"),
    ("19 digits", b"a: " + b"9" * 19, (1, 4), "too long"),
    ("0x_", b"a: 0x_", (1, 4), "hexadecimal"),
    ("0x1F", b"a: 0x1F", (1, 4), "hexadecimal"),
    ("0b", b"a: 0b", (1, 4), "hexadecimal"),
    ("0o17", b"a: 0o17", (1, 4), "hexadecimal"),
    ("1_0__0", b"a: 1_0__0", (1, 4), "a number"),
    ("0755", b"a: 0755", (1, 4), "octal"),
    ("00", b"a: 00", (1, 4), "octal"),
    ("22:22", b"a: 22:22", (1, 4), "base 60"),
    ("190:20:30.15", b"a: 190:20:30.15", (1, 4), "base 60"),
    (".nan", b"a: .nan", (1, 4), "counted"),
    (".inf", b"a: .inf", (1, 4), "counted"),
    ("-.INF", b"a: -.INF", (1, 4), "counted"),
    ("1e999999", b"a: 1e999999", (1, 4), "a number"),
    ("1e3", b"a: 1e3", (1, 4), "a number"),
    ("+1", b"a: +1", (1, 4), "a number"),
    (".5", b"a: .5", (1, 4), "a number"),
    ("5.", b"a: 5.", (1, 4), "a number"),
    ("40 decimals", b"a: 0." + b"1" * 40, (1, 4), "a number"),
    ("duplicate keys", b"image: good\nimage: evil", (2, 1), "image is written twice, first on line 1, column 1"),
    ("duplicate keys below", b"a:\n  b: 1\n  b: 2", (3, 3), "a.b is written twice, first on line 2, column 3"),
    ("duplicate keys, other quotes", b"a: 1\n'a': 2", (2, 1), "a is written twice"),
    ("duplicate keys between braces", b"{a: 1, a: 2}", (1, 8), "a is written twice"),
    ("key 1", b"1: a", (1, 1), '"1" is no text'),
    ("key true", b"true: a", (1, 1), "is no text"),
    ("key ~", b"~: a", (1, 1), "is no text"),
    ("key of a date", b"2024-01-01: a", (1, 1), "a date"),
    ("key of a list", b"? [1]\n: a", (1, 3), "is no text"),
    ("key of a map", b"{{a: 1}: b}", (1, 2), "is no text"),
    ("merge key", b"a: {}\n<<: {b: 1}", (2, 1), "merge key"),
    ("an empty key", b"'': 1", (1, 1), "cannot be a key"),
    ("a key of 300 characters", b"? " + b"k" * 300 + b"\n: 1", (1, 3), "cannot be a key"),
    ("a key with a line break", b'"a\\nb": 1', (1, 1), "cannot be a key"),
    ("a key that steers a terminal", b'"a\\eb": 1', (1, 1), "cannot be a key"),
    ("two documents", b"a: 1\n---\nb: 2", (2, 1), "a second document"),
    ("a document after the end", b"a: 1\n...\nb: 2", ANY, ""),
    ("nothing", b"", (1, 1), "empty"),
    ("a comment only", b"# nothing\n", (1, 1), "empty"),
    ("spaces only", b"   \n \n", (1, 1), "empty"),
    ("NUL", b"a: \x00b", (1, 4), "U+0000"),
    ("NUL by escape", b'a: "\\0"', (1, 4), "U+0000"),
    ("escape by escape", b'a: "\\x1b[2J"', (1, 4), "U+001B"),
    ("bell", b"a: \x07", (1, 4), "U+0007"),
    ("tab indent", b"a:\n\tb: 1", ANY, "YAML"),
    ("byte order mark", b"\xef\xbb\xbfa: 1", (1, 1), "byte order mark"),
    ("UTF-16 with a mark", "a: 1".encode("utf-16"), (1, 1), "not UTF-8"),
    ("UTF-16 without a mark", "a: 1".encode("utf-16-le"), (1, 2), "U+0000"),
    ("a broken byte", b"a: 1\nb: \xff", (2, 4), "0xff is not UTF-8"),
    ("a cut character", "a: ä".encode()[:-1], (1, 4), "not UTF-8"),
    ("overlong", b"a: \xc0\xaf", (1, 4), "not UTF-8"),
    ("an encoded surrogate", b"a: \xed\xa0\x80", (1, 4), "not UTF-8"),
    ("a surrogate by escape", b'a: "\\ud800"', ANY, ""),
    ("NEL", "a: \x85b".encode(), (1, 4), "U+0085"),
    ("line separator", "a: \u2028b".encode(), (1, 4), "U+2028"),
    ("bidi override", "a: 1\nb: x\u202ey".encode(), (2, 5), "U+202E"),
    ("bidi by escape", b'a: "\\u202e"', (1, 4), "U+202E"),
    ("zero width space", "we\u200bb: 1".encode(), (1, 3), "U+200B"),
    ("a character beyond Unicode", b'a: "\\UFFFFFFFF"', ANY, "not valid YAML"),
    ("just beyond Unicode", b'a: "\\U00110000"', ANY, "not valid YAML"),
    ("a version of 5 000 digits", b"%YAML 1." + b"9" * 5000 + b"\n---\na: 1", ANY, "not valid YAML"),
    ("a tag that is no text", b"a: !%ff%fe x", ANY, ""),
    ("an unknown tag handle", b"a: !e!x y", ANY, "handle"),
    ("no indentation", b"a: >0\n x", ANY, "not valid YAML"),
    ("no character", "a: \uffff".encode(), (1, 4), "U+FFFF"),
    ("an invisible tag", "a: \U000e0041".encode(), (1, 4), "U+E0041"),
    ("soft hyphen", "a\xadb: 1".encode(), (1, 2), "U+00AD"),
    ("delete character", b"a: \x7f", (1, 4), "U+007F"),
    ("a mark in the middle", "a: \ufeff".encode(), (1, 4), "U+FEFF"),
    ("256 KiB and one byte", b"a: 1 #" + b"x" * (MAX_BYTES - 5), ANY, "256 KiB"),
    ("10 MB of one scalar", b"a: " + b"x" * 10_000_000, ANY, "256 KiB"),
    ("a scalar too long", b"a: " + b"x" * (MAX_SCALAR + 1), (1, 4), "16385 characters"),
    ("too many values", b"- a\n" * (MAX_NODES + 1), ANY, "20000 values"),
    ("10 000 services", b"services:\n" + b"".join(b" s%d: a\n" % i for i in range(12_000)), ANY, "20000 values"),
    ("many empty keys", b"? \n" * 30_000, ANY, ""),
    ("an open quote", b'a: "b', ANY, "quote"),
    ("an open bracket", b"a: [1, 2", ANY, "not valid YAML"),
    ("an open brace", b"a: {b: c", ANY, "not valid YAML"),
    ("a colon too many", b"a: b: c", (1, 5), "needs quotes"),
    ("@ at the start", b"a: @x", (1, 4), "quotes"),
    ("% at the start", b"a: %x", (1, 4), "quotes"),
    ("a backquote", b"a: `id`", (1, 4), "quotes"),
    ("an unknown escape", b'a: "\\q"', ANY, "escape"),
    ("bad indentation", b"a:\n  b: 1\n c: 2", ANY, "indentation"),
    ("a list among keys", b"a: 1\n- b", ANY, "YAML"),
    ("only braces that close", b"]}" * 1000, ANY, "YAML"),
    ("exclamation marks", b"!" * 200_000, ANY, ""),
    ("ampersands", b"&" * 200_000, ANY, ""),
    ("a very long anchor", b"a: &" + b"x" * 100_000 + b" 1", ANY, "anchor"),
    ("a very long tag", b"a: !" + b"x" * 100_000 + b" 1", ANY, "tag"),
    ("pipes", b"a: |" * 50_000, ANY, ""),
    ("percent", b"%" * 200_000, ANY, ""),
]


@pytest.mark.fault("E5")
@pytest.mark.parametrize(("data", "where", "words"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_a_hostile_text_is_refused_quickly_with_a_place(data: bytes, where: tuple[int, int], words: str) -> None:
    problems = refused(data)
    first = problems[0]
    assert words in first.message
    assert first.file == "m.yaml"
    if where != ANY:
        assert (first.line, first.column) == where, first
    assert len(problems) <= 101
    assert all(problem.message.isprintable() and len(problem.message) < 400 for problem in problems)


def refused(data: bytes) -> tuple[Problem, ...]:
    started = time.process_time()
    with pytest.raises(ManifestError) as caught:
        load(data, "m.yaml")
    assert time.process_time() - started < 2
    assert caught.value.problems
    return caught.value.problems


@pytest.mark.fault("E5")
@pytest.mark.parametrize("data", [case[1] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_the_slow_parser_refuses_the_same(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    refused(data)


GOOD: list[tuple[bytes, object]] = [
    (b"a: 1", {"a": 1}),
    (b"a: -0", {"a": 0}),
    (b"a: 1.50", {"a": 1.5}),
    (b"a: true\nb: false\nc: null\nd: ~\ne:", {"a": True, "b": False, "c": None, "d": None, "e": None}),
    (
        b"a: yes\nb: no\nc: on\nd: off\ne: y\nf: True\ng: NULL",
        {"a": "yes", "b": "no", "c": "on", "d": "off", "e": "y", "f": "True", "g": "NULL"},
    ),
    (
        b"a: '0755'\nb: \"22:22\"\nc: '2024-01-01'\nd: '.nan'",
        {"a": "0755", "b": "22:22", "c": "2024-01-01", "d": ".nan"},
    ),
    (
        b"a: 1.0.0\nb: 3000:3000\nc: 127.0.0.1\nd: --\ne: 1.2.3-rc1\nf: 5m\ng: 1m30s",
        {"a": "1.0.0", "b": "3000:3000", "c": "127.0.0.1", "d": "--", "e": "1.2.3-rc1", "f": "5m", "g": "1m30s"},
    ),
    (b"- a\n- [b, {c: d}]", ["a", ["b", {"c": "d"}]]),
    (b"a: |\n  x\n  y\nb: >-\n  x\n  y", {"a": "x\ny\n", "b": "x y"}),
    (b"a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
    (b"a: 1\rb: 2", {"a": 1, "b": 2}),
    ("größe: naïve ✓".encode(), {"größe": "naïve ✓"}),
    (b"__proto__: 1\n__class__: 2\nconstructor: 3", {"__proto__": 1, "__class__": 2, "constructor": 3}),
    (b"---\na: 1\n", {"a": 1}),
    (b"--- {a: 1}\n...\n", {"a": 1}),
    (b"'<<': 1", {"<<": 1}),
    (b"a: =", {"a": "="}),
    (b'a: "\\u00e4\\t\\n"', {"a": "ä\t\n"}),
    (b"~", None),
    (b"[]", []),
    (b"a: " + b"x" * MAX_SCALAR, {"a": "x" * MAX_SCALAR}),
]


@pytest.mark.parametrize(("data", "value"), GOOD)
def test_plain_values_are_json(data: bytes, value: object) -> None:
    plain = load(data, "m.yaml").plain()
    assert plain == value
    assert repr(plain) == repr(value)


@pytest.mark.parametrize(("data", "value"), GOOD)
def test_both_parsers_read_the_same(data: bytes, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = load(data, "m.yaml")
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert places(load(data, "m.yaml")) == places(fast)


def places(node: yaml_strict.Node) -> list[tuple[object, ...]]:
    own = (node.path, node.line, node.column, node.text, node.style, node.flow)
    below = [*node.mapping.values(), *node.items]
    return [own, *(place for each in below for place in places(each))]


def test_every_node_knows_where_it_stands() -> None:
    root = load(b"a:\n  - {weight: 140}\n  - x\nlong key: 'q'\n", "m.yaml")
    weight = root.mapping["a"].items[0].mapping["weight"]
    assert (weight.line, weight.column, weight.path, weight.text) == (2, 14, "a[0].weight", "140")
    assert (weight.end_line, weight.end_column) == (2, 17)
    assert root.mapping["a"].items[1].path == "a[1]"
    assert root.mapping["a"].flow is False
    assert root.mapping["a"].items[0].flow is True
    assert root.keys["long key"].line == 4
    assert root.mapping["long key"].path == '"long key"'
    assert root.mapping["long key"].style == "'"


def test_all_problems_come_at_once_in_order() -> None:
    problems = refused(b"a: 0755\nb: &x 1\na: 2\n1: 2\nc: !!int 3\nd: *x\n")
    assert [(problem.line, problem.column) for problem in problems] == [(1, 4), (2, 4), (3, 1), (4, 1), (5, 4), (6, 4)]


def test_a_thousand_problems_are_told_as_a_hundred_and_a_count() -> None:
    problems = refused(b"- 0755\n" * 1000)
    assert len(problems) == 101
    assert problems[0] == Problem("m.yaml", 0, 0, "900 more like these are not shown.")


def test_a_file_of_exactly_the_limits_is_read() -> None:
    assert load(b"#" + b"x" * (MAX_BYTES - 6) + b"\na: 1", "m.yaml").plain() == {"a": 1}
    assert len(load(b"- a\n" * (MAX_NODES - 1), "m.yaml").items) == MAX_NODES - 1
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert load(deep, "m.yaml").items


def test_a_million_lines_of_comment_are_too_many_bytes() -> None:
    assert "256 KiB" in refused(b"#\n" * 1_000_000)[0].message


@pytest.mark.fault("E5")
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
@example(b"\xff\xfe\x00")
def test_no_bytes_do_anything_but_load_or_refuse(data: bytes) -> None:
    only_manifest_errors(data)


YAML_PIECES = st.sampled_from(
    [
        *("a", "b:", ": ", "- ", "? ", "\n", "\n  ", "{", "}", "[", "]", ",", "&x ", "*x", "!!int ", "!x ", "<<", "'"),
        *('"', "\\", "|", ">", "#", "%", "---\n", "...\n", "1", "0x", "1e9", ".nan", "~", "\t", "\r", "\x85", "\0"),
        *("2024-01-01", "22:22", "=", "@", "`", "é", "\U0001f600", "x" * 50, "- - ", "null", "true", "\u2028"),
    ]
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(YAML_PIECES, max_size=40))
def test_no_pieces_of_yaml_do_anything_but_load_or_refuse(pieces: list[str]) -> None:
    only_manifest_errors("".join(pieces).encode())


def only_manifest_errors(data: bytes) -> None:
    started = time.process_time()
    problems: tuple[Problem, ...] = ()
    try:
        load(data, "m.yaml").plain()
    except ManifestError as error:
        problems = error.problems or (Problem("", 0, 0, "\0"),)
    assert time.process_time() - started < 2
    assert all(problem.message.isprintable() for problem in problems)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text("abc", min_size=1), below, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abcxyz_-", min_size=1), JSON, max_size=5))
def test_json_is_read_as_what_it_is(value: dict[str, object]) -> None:
    assert load(json.dumps(value).encode(), "m.yaml").plain() == value
