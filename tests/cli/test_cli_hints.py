"""A suggested command can be copied and run, under the name the program was called by."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_samples import rollout

from reconciler.cli.hints import everywhere, runnable
from reconciler.cli.parsing import parse
from reconciler.cli.verbs import BY_NAME
from reconciler.core.errors import Refused
from reconciler.operations import Misused, Request

SOURCES = Path(__file__).parents[2] / "reconciler"
END = {"event": "end", "exit": 0, "text": "", "value": None}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("`deploy` brings it back", "`swiftdeploy deploy` brings it back"),
        ("`retry --reason …`", '`swiftdeploy retry --reason "why"`'),
        ("`retry --reason TEXT`", '`swiftdeploy retry --reason "why"`'),
        ("`retry`, `rollback` or", '`swiftdeploy retry --reason "why"`, `swiftdeploy rollback` or'),
        ("`reconcilerctl git accept 1a2b3c4`", '`swiftdeploy git accept 1a2b3c4 --reason "why"`'),
        ("`reconcilerctl git accept 1a2 --reason TEXT`", '`swiftdeploy git accept 1a2 --reason "why"`'),
        ("`deploy --break-glass --reason …` begins", '`swiftdeploy deploy --break-glass --reason "why"` begins'),
        ("`deploy --break-glass`", '`swiftdeploy deploy --break-glass --reason "why"`'),
        ("`promote --force`", '`swiftdeploy promote --force --reason "why"`'),
        ("`promote` does without", "`swiftdeploy promote` does without"),
        ('`swiftdeploy retry app --reason "it is well"`', '`swiftdeploy retry app --reason "it is well"`'),
        ("`swiftdeploy chaos recover` ends it", "`swiftdeploy chaos recover` ends it"),
        ("`service status`", "`swiftdeploy service status`"),
    ],
)
def test_a_hint_becomes_a_whole_command(said: str, shown: str) -> None:
    assert runnable(said, "swiftdeploy") == shown
    assert runnable(said, "reconcilerctl") == shown.replace("swiftdeploy", "reconcilerctl")
    assert runnable(shown, "swiftdeploy") == shown


@pytest.mark.parametrize(
    "text",
    [
        "plain words about deploy and retry",
        "`docker unpause` it",
        "kept by `mode: canary`",
        "`status: 5`",
        "the key `service`, `logs` or `git`",
        "`git check-ref-format` says so",
        "`service app`",
        "a lone ` deploy",
        "`` and ` `",
        "`deploy\nretry`",
    ],
)
def test_what_is_no_command_of_ours_stays_as_it_is(text: str) -> None:
    assert runnable(text, "swiftdeploy") == text


def test_files_are_not_ours_to_rewrite() -> None:
    value = {"text": "`deploy`", "value": {"plan": ["`deploy`"], "files": {"a": "# `deploy`"}, "n": 1, "none": None}}
    assert everywhere(value, "x") == {
        "text": "`x deploy`",
        "value": {"plan": ["`x deploy`"], "files": {"a": "# `deploy`"}, "n": 1, "none": None},
    }


def hints_in_the_sources() -> Iterator[tuple[str, str]]:
    """Every text between backticks in a string of the product that starts with a verb; where it is, and the text."""
    for path in sorted(SOURCES.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in said or id(node) in parts:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                text = "".join(p.value if isinstance(p, ast.Constant) else "abc1234" for p in node.values)
            else:
                continue
            for quoted in re.findall(r"`([^`\n]+)`", text):
                words = runnable(f"`{quoted}`", "swiftdeploy")[1:-1].split(" ")
                if words[0] == "swiftdeploy":
                    yield f"{path.relative_to(SOURCES)}:{node.lineno}", " ".join(words)


def test_every_hint_of_the_product_can_be_typed() -> None:
    found = list(hints_in_the_sources())
    assert len(found) > 30, "the reader of hints reads nothing"
    for where, command in found:
        _program, verb, *words = shlex.split(command)
        if verb == "abc1234":  # a verb that is only known at run time
            continue
        assert not re.search(r"…|\.\.\.|\b(TEXT|PATH|ID|SECONDS)\b", command), f"{where}: {command}"
        parse("swiftdeploy", BY_NAME[verb], words)  # raises UsageError


# ---------------------------------------------------------------- where they are shown


@pytest.mark.parametrize("program", ["swiftdeploy", "reconcilerctl"])
def test_every_way_to_a_terminal_names_the_program_as_it_was_called(
    run: Any, daemon: Any, operations: Any, status: Any, program: str
) -> None:
    told = "If that is meant: `reconcilerctl git accept 1a2b3c4 --reason TEXT`"
    wanted = f'If that is meant: `{program} git accept 1a2b3c4 --reason "why"`'
    status["source"] = {"commit": None, "trouble": {"kind": "untrusted", "message": told, "since": None}}
    operations.answers["status"] = [{**END, "value": status}]
    operations.answers["sync"] = [{"event": "line", "text": told}, {**END, "exit": 1, "text": f"{told}\nIn force: x"}]
    assert wanted in run("status", program=program).out
    said = run("sync", program=program).err
    assert said.count(wanted) == 2
    assert "TEXT" not in said


@pytest.mark.parametrize("program", ["swiftdeploy", "reconcilerctl"])
def test_a_refusal_names_the_program_too(run: Any, local: Any, operations: Any, program: str) -> None:
    def refuse(request: Request) -> Iterator[Any]:
        raise Refused("the stack is torn down; `deploy` brings it back")
        yield

    operations.answers["promote"] = refuse
    result = run("promote", program=program)
    assert (result.code, result.err) == (1, f"the stack is torn down; `{program} deploy` brings it back\n")


def test_what_a_container_prints_is_not_ours_to_rewrite(run: Any, daemon: Any, operations: Any) -> None:
    operations.answers["logs"] = [{"event": "line", "text": "try `deploy`"}, END]
    assert run("logs").out == "try `deploy`\n"


def test_why_names_what_comes_next_as_a_command(run: Any, daemon: Any, operations: Any, status: Any) -> None:
    service = {**status["services"][0], "rollout": {**rollout(), "phase": "halted", "next": "`retry` or `rollback`"}}
    operations.answers["why"] = [{**END, "value": service}]
    said = run("why", program="reconcilerctl").out
    assert 'Next: `reconcilerctl retry --reason "why"` or `reconcilerctl rollback`' in said


# ---------------------------------------------------------------- wrong usage


def test_wrong_usage_is_64_also_where_only_the_daemon_sees_it(run: Any, local: Any, operations: Any) -> None:
    def misused(request: Request) -> Iterator[Any]:
        raise Misused("suspend needs a --reason")
        yield

    operations.answers["suspend"] = misused
    assert run("suspend", "--reason", "x").code == 64


# ---------------------------------------------------------------- once


def test_a_complaint_that_was_told_on_the_way_is_not_said_again(run: Any, daemon: Any, operations: Any) -> None:
    line = {"event": "line", "text": "Nobody listens on tcp://127.0.0.1:1."}
    end = {**END, "exit": 1, "text": line["text"]}
    for verb in ("teardown", "deploy", "reconcile"):
        operations.answers[verb] = [line, end]
        result = run(verb)
        assert (result.code, result.out, result.err) == (1, "", f"  {line['text']}\n")
        operations.answers[verb] = [end]
        assert run(verb).err == f"{line['text']}\n"


def test_a_good_end_is_said_whatever_was_told_before(run: Any, daemon: Any, operations: Any) -> None:
    operations.answers["pause"] = [{"event": "line", "text": "done"}, {**END, "text": "done"}]
    assert run("pause").out == "done\n"
