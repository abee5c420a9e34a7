"""Writing back: one scalar changes, every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.errors import ManifestError, Refused
from reconciler.formats import manifest, yaml_strict
from reconciler.formats.write_back import set_mode, set_scalar

SIX = """\
# my shop

services:   # one
  image: shop/web:1   # the image
  port: 3000

# the proxy
nginx:
  image: "nginx:latest"
  port: 8080
network: {name: net,   driver_type: 'bridge'}
"""
REST = "nginx: {image: n, port: 80}\nnetwork: {name: net, driver_type: bridge}\n"


def mode_of(text: bytes, service: str) -> str:
    reading = manifest.read(text, env_files=lambda name: "")
    assert reading.desired is not None, reading.problems
    found = reading.desired.service(service)
    assert found is not None
    return found.mode


def test_an_absent_mode_becomes_one_line() -> None:
    after = set_mode(SIX.encode(), "app", "canary").decode()
    assert after == SIX.replace("  port: 3000\n", "  port: 3000\n  mode: canary\n")
    assert set_mode(after.encode(), "app", "stable").decode() == after.replace("canary", "stable")


def test_the_mode_it_has_already_changes_nothing() -> None:
    assert set_mode(SIX.encode(), "app", "stable") == SIX.encode()


# the text, the service, what is written out and what stands there instead
REPLACED = [
    (
        "plain",
        "services:\n  image: a\n  mode: stable   # why\n  port: 1\n" + REST,
        "app",
        "mode: stable",
        "mode: canary",
    ),
    ("single quotes", "services:\n  image: a\n  mode: 'stable'\n  port: 1\n" + REST, "app", "'stable'", "'canary'"),
    ("double quotes", 'services:\n  image: a\n  mode: "stable"\n  port: 1\n' + REST, "app", '"stable"', '"canary"'),
    ("between braces", "services: {image: a, mode: stable, port: 1}\n" + REST, "app", "mode: stable", "mode: canary"),
    (
        "under a name",
        "services:\n  web:\n    image: a\n    mode: stable\n    port: 1\n" + REST,
        "web",
        "stable",
        "canary",
    ),
    ("top level", "mode: stable\nservices: {image: a, port: 1}\n" + REST, "app", "mode: stable", "mode: canary"),
    ("app.mode", "app:\n  mode: stable # x\nservices: {image: a, port: 1}\n" + REST, "app", "stable", "canary"),
    ("deployment", "services: {image: a, port: 1}\ndeployment: {strategy: stable}\n" + REST, "app", "stable", "canary"),
    ("env", "services:\n  image: a\n  port: 1\n  env:\n    A: b\n    MODE: stable\n" + REST, "app", "stable", "canary"),
    (
        "environment",
        "services:\n  image: a\n  port: 1\n  environment:\n    MODE: 'stable'\n" + REST,
        "app",
        "stable",
        "canary",
    ),
    (
        "a list",
        "services:\n  image: a\n  port: 1\n  environment:\n  - MODE=stable\n  - B=c\n" + REST,
        "app",
        "stable",
        "canary",
    ),
    (
        "a quoted list",
        'services:\n  image: a\n  port: 1\n  environment: [B=c, "MODE=stable"]\n' + REST,
        "app",
        "stable",
        "canary",
    ),
    ("an explicit key", "services:\n  image: a\n  port: 1\n  ? mode\n  : stable\n" + REST, "app", "stable", "canary"),
    (
        "after umlauts",
        "# größe ✓ \U0001f600\nx-ü: {ß: é}\nservices: {image: a, mode: stable, port: 1}\n" + REST,
        "app",
        "stable",
        "canary",
    ),
    (
        "a value that repeats it",
        "x-a: stable\nservices:\n  image: stable\n  port: 1\n  mode: stable\n" + REST,
        "app",
        "mode: stable",
        "mode: canary",
    ),
]
INSERTED = [
    (
        "after the port",
        "services:\n  image: a\n  port: 1\n" + REST,
        "app",
        "  port: 1\n",
        "  port: 1\n  mode: canary\n",
    ),
    ("no port yet above", "services:\n  port: 1 # p\n  image: a\n" + REST, "app", "1 # p\n", "1 # p\n  mode: canary\n"),
    (
        "deep indent",
        "services:\n      web:\n          image: a\n          port: 1\n" + REST,
        "web",
        "port: 1\n",
        "port: 1\n          mode: canary\n",
    ),
    ("between braces", "services: {image: a, port: 1}\n" + REST, "app", "{image: a", "{mode: canary, image: a"),
    (
        "named, between braces",
        "services: {web: {image: a, port: 1}}\n" + REST,
        "web",
        "{image: a",
        "{mode: canary, image: a",
    ),
    (
        "braces on many lines",
        "services: {\n  image: a, # x\n  port: 1 }\n" + REST,
        "app",
        "  image: a,",
        "  mode: canary, image: a,",
    ),
    ("the end of the file", REST + "services:\n  image: a\n  port: 1", "app", "  port: 1", "  port: 1\n  mode: canary"),
    (
        "a port on two lines",
        "services:\n  image: a\n  port:\n    1\n" + REST,
        "app",
        "  image: a\n",
        "  image: a\n  mode: canary\n",
    ),
    (
        "everything on two lines",
        "services:\n  image:\n    a\n  port:\n    1\n" + REST,
        "app",
        "  image:\n",
        "  mode: canary\n  image:\n",
    ),
    (
        "explicit keys",
        "services:\n  ? image\n  : a\n  ? port\n  : 1\n" + REST,
        "app",
        "  ? image",
        "  mode: canary\n  ? image",
    ),
]


@pytest.mark.parametrize(
    ("text", "service", "old", "new"), [c[1:] for c in REPLACED + INSERTED], ids=[c[0] for c in REPLACED + INSERTED]
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("final", [True, False])
def test_one_scalar_changes_where_it_stands(
    text: str, service: str, old: str, new: str, line_end: str, final: bool
) -> None:
    before = text.rstrip("\n") + ("\n" if final else "")
    at = before.rindex(old) if old in ("stable", "mode: stable") else before.index(old.rstrip("\n"))
    cut = old if before[at:].startswith(old) else old.rstrip("\n")
    expected = before[:at] + (new if cut == old else new.rstrip("\n")) + before[at + len(cut) :]
    data = before.replace("\n", line_end).encode()
    after = set_mode(data, service, "canary")
    assert after.decode() == expected.replace("\n", line_end)
    assert mode_of(data, service) == "stable"
    assert mode_of(after, service) == "canary"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("services: {image: a, port: 1, mode: stable, environment: {MODE: stable}}\n" + REST, "Keep only"),
        ("services: {image: a, port: 1, rollout: {x: 1}}\n" + REST, "no key"),
        ("services: [", "not valid YAML"),
        ("", "empty"),
        ("services: {image: a, route: false}\n" + REST, "needs a route"),
    ],
)
def test_what_cannot_be_used_before_or_after_is_refused(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        set_mode(text.encode(), "app", "canary")


def test_a_service_or_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Refused, match=r'no service "web"\. It has app'):
        set_mode(SIX.encode(), "web", "canary")
    with pytest.raises(Refused, match="Use stable or canary"):
        set_mode(SIX.encode(), "app", "blue")


@pytest.mark.parametrize("scalar", ['"sta\\x62le"', '"\\u0073table"'])
def test_a_mode_that_cannot_be_cut_out_safely_is_refused(scalar: str) -> None:
    text = f"services: {{image: a, port: 1, mode: {scalar}}}\n{REST}"
    assert mode_of(text.encode(), "app") == "stable"
    with pytest.raises(Refused, match="Write it plainly"):
        set_mode(text.encode(), "app", "canary")


def test_environment_files_and_host_mounts_are_no_obstacle() -> None:
    text = f"services: {{image: a, port: 1, env_file: x.env, volumes: ['/srv/x:/x']}}\n{REST}"
    assert b"mode: canary" in set_mode(text.encode(), "app", "canary")


# --- any scalar

SCALARS: list[tuple[str, list[str | int], Any, str]] = [
    ("a: 1 # c\n", ["a"], 2, "a: 2 # c\n"),
    ("a: 1\n", ["a"], True, "a: true\n"),
    ("a: 1\n", ["a"], 1.5, "a: 1.5\n"),
    ("a: x\n", ["a"], "1.10", 'a: "1.10"\n'),
    ("a: x\n", ["a"], "yes", "a: yes\n"),
    ("a: x\n", ["a"], "true", 'a: "true"\n'),
    ("a: x\n", ["a"], "", 'a: ""\n'),
    ("a: x\n", ["a"], "a: b # c", 'a: "a: b # c"\n'),
    ("a: x\n", ["a"], "shop/web:1.2@sha256:abc", "a: shop/web:1.2@sha256:abc\n"),
    ("a: 'x'\n", ["a"], "it's", "a: 'it''s'\n"),
    ('a: "x"\n', ["a"], 'say "hi"', 'a: "say \\"hi\\""\n'),
    ("a: [x, y, z]\n", ["a", 1], "new", "a: [x, new, z]\n"),
    ("a:\n- x\n- y # c\n", ["a", 1], "new", "a:\n- x\n- new # c\n"),
    ("a:\n  b: |\n    text\n    more\n  c: 1\n", ["a", "c"], 2, "a:\n  b: |\n    text\n    more\n  c: 2\n"),
    ("a:\nb: 1\n", ["a"], "x", "a: x\nb: 1\n"),
    ("a: {b: 1}\n", ["a", "c"], 2, "a: {c: 2, b: 1}\n"),
    ("a: {}\n", ["a", "c"], 2, "a: {c: 2}\n"),
    ("a:\n  b: 1\n", ["a", "c"], "x", "a:\n  c: x\n  b: 1\n"),
    ("b: 1", ["c d"], "x", '"c d": x\nb: 1'),
    ("'a b': \"ü\" # ß\n", ["a b"], "ö", "'a b': \"ö\" # ß\n"),
]


@pytest.mark.parametrize(("text", "path", "value", "expected"), SCALARS)
def test_any_scalar_can_be_set(text: str, path: list[str | int], value: Any, expected: str) -> None:
    assert set_scalar(text.encode(), path, value).decode() == expected


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a: {b: 1}\n", ["a"], 1),
        ("a: [1]\n", ["a", 5], 1),
        ("a: [1]\n", ["a", -1], 1),
        ("a: 1\n", ["a", "b"], 1),
        ("a: 1\n", ["x", "b"], 1),
        ("a: 1\n", [], 1),
        ("a: 1\n", ["a"], float("nan")),
        ("a: 1\n", ["a"], 1e300),
        ("a: 1\n", ["a"], "nul\0"),
        ("a: |\n  x\n  y\n", ["a"], 10**30),
    ],
)
def test_a_scalar_that_has_no_place_is_refused(text: str, path: list[str | int], value: Any) -> None:
    with pytest.raises(Refused):
        set_scalar(text.encode(), path, value)


TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), max_size=12)
TREES = st.dictionaries(
    st.text("abc -:#'", min_size=1, max_size=4),
    st.one_of(TEXTS, st.integers(-99, 99), st.booleans(), st.lists(TEXTS, min_size=1, max_size=3)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(TREES, st.data(), st.one_of(TEXTS, st.integers(-99, 99), st.booleans()))
def test_a_change_is_exactly_that_change_or_refused(tree: dict[str, Any], data: st.DataObject, value: Any) -> None:
    text = json.dumps(tree, ensure_ascii=False, indent=data.draw(st.sampled_from([None, 2])))
    try:
        yaml_strict.load(text.encode(), "m")
    except ManifestError:
        return
    key = data.draw(st.sampled_from(sorted(tree)))
    path: list[str | int] = [key, 0] if isinstance(tree[key], list) else [key]
    try:
        after = set_scalar(text.encode(), path, value)
    except Refused:
        return
    expected = json.loads(json.dumps(tree))
    if len(path) == 2:
        expected[key][0] = value
    else:
        expected[key] = value
    assert yaml_strict.load(after, "m").plain() == expected
