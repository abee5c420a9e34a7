"""Help, usage, and how little is loaded to show them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.verbs import VERBS

Run = Callable[..., Any]
GOLDEN = Path(__file__).parent / "golden"
HEAVY = {
    "docker",
    "requests",
    "yaml",
    "jsonschema",
    "structlog",
    "jinja2",
    "crossplane",
    "tenacity",
    "watchdog",
    "rich",
}


def test_help_is_the_page_it_was(run: Run) -> None:
    assert run("--help").out == (GOLDEN / "help.txt").read_text()


@pytest.mark.parametrize("words", [(), ("-h",), ("help",)])
def test_all_ways_to_ask_for_help_give_the_same_page(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert (result.code, result.err) == (0, "")
    assert result.out == run("--help").out


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_has_help_of_its_own(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out == (GOLDEN / f"help-{verb}.txt").read_text()
    assert run("help", verb).out == result.out


def test_help_fits_a_terminal(run: Run) -> None:
    pages = [run("--help").out, *(run(verb.name, "--help").out for verb in VERBS)]
    assert max(len(line) for page in pages for line in page.splitlines()) <= 110


def test_help_names_the_first_steps_in_their_order(run: Run) -> None:
    page = run("--help").out
    places = [
        page.index(f"\n  {verb} ")
        for verb in ("init", "validate", "deploy", "status", "promote", "history", "audit", "teardown")
    ]
    assert places == sorted(places)


def test_the_program_calls_itself_as_it_was_called(run: Run) -> None:
    assert run("--help", program="reconcilerctl").out.startswith("reconcilerctl ")
    assert "reconcilerctl deploy" in run("deploy", "--help", program="reconcilerctl").out
    assert "reconcilerctl --help" in run("stauts", program="reconcilerctl").err


@pytest.mark.parametrize("words", [("version",), ("--version",)])
def test_version(run: Run, words: tuple[str, ...]) -> None:
    assert re.fullmatch(r"swiftdeploy \d+\.\d+\.\d+\n", run(*words).out)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["stauts"], "Did you mean 'status'?"),
        (["deply"], "Did you mean 'deploy'?"),
        (["xyzzy"], "There is no verb 'xyzzy'."),
        (["status", "--onec"], "Did you mean '--once'?"),
        (["status", "--onec=1"], "Did you mean '--once'?"),
        (["deploy", "--allow"], "does not know '--allow'"),
        (["status", "surplus"], "does not know 'surplus'"),
        (["promote", "--force"], "--force needs --reason"),
        (["retry"], "retry needs --reason"),
        (["retry", "app"], 'Like this: `swiftdeploy retry app --reason "why"`'),
        (["suspend"], "suspend needs --reason"),
        (["suspend", "--for", "2h"], 'Like this: `swiftdeploy suspend --for 2h --reason "why"`'),
        (["git", "accept", "1a2b3c4"], "git accept needs --reason"),
        (["deploy", "--break-glass"], "--break-glass needs --reason"),
        (["retry", "--reason", "  "], "a reason is some words"),
        (["pause", "--for", "soon"], "no length of time: 90s, 10m"),
        (["pause", "--for", "0h"], "no length of time"),
        (["chaos"], "WHAT"),
        (["chaos", "slow"], "chaos slow needs --duration. Like this: `swiftdeploy chaos slow --duration 3`"),
        (["chaos", "slow", "--duration", "3", "--rate", "1"], "chaos slow does not take --rate"),
        (["chaos", "recover", "--duration", "3"], "does not take --duration"),
        (["chaos", "error", "--rate", "0"], "no share above 0 and at most 1"),
        (["chaos", "error", "--rate", "101%"], "no share above 0 and at most 1"),
        (["audit", "--since", "later"], "is no time"),
        (["promote", "beta"], "choose from"),
        (["deploy", "--timeout", "soon"], "not a number of seconds"),
        (["deploy", "--timeout", "0"], "above 0"),
        (["deploy", "--timeout", "nan"], "not a number of seconds"),
        (["deploy", "--timeout"], "expected one argument"),
        (["logs", "-n", "-1"], "-n"),
        (["logs", "-n", "1e9"], "not a whole number"),
        (["status", "-o", "xml"], "choose from"),
        (["--file", "x"], "Which verb?"),
        (["--oops"], "Which verb?"),
        (["help", "stauts"], "Did you mean 'status'?"),
        (["completion", "fish"], "choose from"),
        (["--state-dir", "/", "status"], "root of the file system"),
        (["--state-dir", "/etc/passwd", "status"], "is not a folder"),
        (["--state-dir", "/nowhere/state", "status"], "There is no folder /nowhere/state: nothing was ever kept"),
        (["--state-dir", "a\0b", "status"], "NUL"),
        (["status\x1b[2J"], r"'status\x1b[2J'"),
        (["x" * 100_000], "There is no verb"),
    ],
)
def test_wrong_usage_is_64_and_says_what_would_be_right(run: Run, words: list[str], hint: str) -> None:
    result = run(*words)
    assert (result.code, result.out) == (64, "")
    assert hint in result.err
    assert "swiftdeploy --help" in result.err
    assert "\x1b" not in result.err


@pytest.mark.parametrize(
    "moment",
    [
        "",
        "-5m",
        "5y",
        "m",
        "0x5m",
        "5 m",
        "1e3s",
        "٣m",
        "99999999999d",
        "2026-13-01",
        "yesterday",
        "1;ls",
        "\x00",
        "9" * 4000,
    ],
)
def test_since_refuses_what_is_no_time(run: Run, moment: str) -> None:
    result = run("history", f"--since={moment}")
    assert result.code == 64
    assert "is no time: 10m, 2h" in result.err


def test_common_options_may_stand_before_or_after_the_verb(
    run: Run, daemon: Any, operations: Any, state_dir: Path
) -> None:
    for words in (["--state-dir", str(state_dir), "teardown"], ["teardown", f"--state-dir={state_dir}"]):
        assert run(*words).code == 0
    assert [request.verb for request in operations.asked] == ["teardown", "teardown"]


def _loaded(tmp_path: Path, *words: str) -> set[str]:
    code = (
        "import sys; sys.argv = ['swiftdeploy', *sys.argv[1:]]\n"
        "from reconciler.cli.main import main; main()\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines())


def test_help_loads_nothing_it_does_not_need(tmp_path: Path) -> None:
    loaded = _loaded(tmp_path, "--help")
    assert not loaded & {*HEAVY, "argparse", "socket", "threading", "logging", "subprocess", "reconciler.control"}
    assert {name for name in loaded if name.startswith("reconciler")} == {
        "reconciler",
        "reconciler.cli",
        "reconciler.cli.help",
        "reconciler.cli.main",
        "reconciler.cli.options",
        "reconciler.cli.terminal",
        "reconciler.cli.verbs",
        "reconciler.log",
    }


def test_asking_a_daemon_loads_no_library(daemon: Any, operations: Any, status: Any, state_dir: Path) -> None:
    operations.answers["status"] = [{"event": "end", "exit": 0, "text": "", "value": status}]
    loaded = _loaded(state_dir, "status", "--state-dir", str(state_dir))
    assert not loaded & {*HEAVY, "reconciler.wiring", "asyncio"}


def test_the_page_about_it_names_every_verb_option_and_exit_code() -> None:
    from reconciler.cli.help import EXIT_CODES

    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for verb in VERBS:
        assert f"`{verb.name}" in page
        for option in verb.options:
            assert any(flag in page for flag in option.flags), f"{verb.name} {option.flags}"
    for code, _ in EXIT_CODES:
        assert f"\n| {code} |" in page
