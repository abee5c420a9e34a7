"""What each verb asks and prints, and how every command ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_samples import PROGRAM

from reconciler.core.errors import EngineError, ManifestError, PolicyError, Problem, RenderError
from reconciler.operations import Request

Run = Callable[..., Any]
END = {"event": "end", "exit": 0, "text": "", "value": None}
STEPS = ("manifest_valid", "image_found", "config_valid", "starting", "healthy", "deployed")
SIX_LINES = """\
Manifest valid
Docker image found
Nginx config valid
Services starting...
Health check passed
Deployment successful
"""
PROMOTE = {"mode": "stable", "service": None, "reason": None, "force": False}
HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x9b2J\u202egnp\x08\r"


def command(*words: str, **options: Any) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen([*PROGRAM, *words], text=True, **{**streams, "env": environment, **options})


# --- deploy ------------------------------------------------------------------------------------------------------


def _deployment(request: Request) -> Iterator[dict[str, Any]]:
    for name in STEPS:
        if name == "starting":
            yield {"event": "line", "text": f"pulling nginx{HOSTILE}"}
        yield {"event": "step", "name": name, "text": f"reworded {name}"}
    yield {**END, "text": "Deployment successful"}


def test_deploy_prints_the_six_lines_and_nothing_else(run: Run, daemon: Any, operations: Any) -> None:
    operations.answers["deploy"] = _deployment
    result = run("deploy")
    assert (result.code, result.out) == (0, SIX_LINES)
    assert "pulling nginx" in result.err
    assert "\x1b" not in result.err
    assert operations.asked[0].args == {
        "allow_interruption": False,
        "timeout_s": None,
        "break_glass": False,
        "reason": None,
    }


def test_deploy_passes_its_options_on(run: Run, daemon: Any, operations: Any) -> None:
    run("deploy", "--allow-interruption", "--timeout", "2.5")
    assert operations.asked[0].args == {
        "allow_interruption": True,
        "timeout_s": 2.5,
        "break_glass": False,
        "reason": None,
    }


def test_a_denial_is_on_standard_error_with_exit_3(run: Run, daemon: Any, operations: Any) -> None:
    operations.answers["deploy"] = [{**END, "exit": 3, "text": "DENIED: Disk space below 10GB"}]
    result = run("deploy")
    assert (result.code, result.out, result.err) == (3, "", "DENIED: Disk space below 10GB\n")


def test_each_line_is_there_as_soon_as_it_is_true(daemon: Any, operations: Any, state_dir: Path) -> None:
    seen = threading.Semaphore(0)

    def answer(request: Request) -> Iterator[dict[str, Any]]:
        for name in STEPS:
            yield {"event": "step", "name": name, "text": ""}
            assert seen.acquire(timeout=10), "the line did not come out"
        yield END

    operations.answers["deploy"] = answer
    process = command("deploy", "--state-dir", str(state_dir))
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        seen.release()
    assert "".join(lines) == SIX_LINES
    assert process.wait(10) == 0


def test_deploy_as_json_is_its_events(run: Run, daemon: Any, operations: Any) -> None:
    operations.answers["deploy"] = _deployment
    events = [json.loads(line) for line in run("deploy", "-o", "json").out.splitlines()]
    assert [event["event"] for event in events] == ["step"] * 3 + ["line"] + ["step"] * 3 + ["end"]


# --- the others --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "verb", "args"),
    [
        (["promote", "canary"], "promote", {**PROMOTE, "mode": "canary"}),
        (["promote"], "promote", PROMOTE),
        (["promote", "stable", "web"], "promote", {**PROMOTE, "service": "web"}),
        (["promote", "stable", "../../etc"], "promote", {**PROMOTE, "service": "../../etc"}),
        (["promote", "--force", "--reason", " see  #12 "], "promote", {**PROMOTE, "reason": "see #12", "force": True}),
        (["rollback"], "rollback", {"service": None, "reason": None}),
        (["rollback", "web", "--reason", "sick"], "rollback", {"service": "web", "reason": "sick"}),
        (["pause"], "pause", {"service": None, "reason": None, "for_s": None}),
        (["pause", "web", "--for", "2h"], "pause", {"service": "web", "reason": None, "for_s": 7200.0}),
        (["resume", "web"], "resume", {"service": "web"}),
        (["retry", "--reason", "fixed"], "retry", {"service": None, "reason": "fixed"}),
        (["chaos", "slow", "--duration", "3"], "chaos", {"what": "slow", "service": None, "duration": 3.0}),
        (["chaos", "error", "web", "--rate", "50%"], "chaos", {"what": "error", "service": "web", "rate": 0.5}),
        (["chaos", "recover"], "chaos", {"what": "recover", "service": None}),
        (["why", "web"], "why", {"service": "web"}),
        (["teardown"], "teardown", {"volumes": False, "clean": False}),
        (["teardown", "--clean", "--volumes"], "teardown", {"volumes": True, "clean": True}),
        (["validate"], "validate", {"manifest_only": False}),
        (["logs"], "logs", {"service": None, "tail": 100, "follow": False}),
        (["logs", "nginx", "-f", "-n", "5"], "logs", {"service": "nginx", "tail": 5, "follow": True}),
        (["reconcile"], "reconcile", {}),
        (["init"], "init", {}),
        (["diff"], "diff", {"commit": None}),
        (["diff", "--commit", "1a2b3c4"], "diff", {"commit": "1a2b3c4"}),
        (
            ["suspend", "--for", "2h", "--heal", "--reason", "audit"],
            "suspend",
            {"reason": "audit", "for_s": 7200.0, "heal": True},
        ),
        (["sync"], "sync", {}),
        (["git", "accept", "1a2b3c4", "--reason", "agreed"], "accept", {"commit": "1a2b3c4", "reason": "agreed"}),
        (["status"], "status", {}),
    ],
)
def test_a_verb_asks_for_what_was_typed(
    run: Run, daemon: Any, operations: Any, words: list[str], verb: str, args: dict[str, Any]
) -> None:
    run(*words)
    assert [(request.verb, request.args) for request in operations.asked] == [(verb, args)]


def test_a_manifest_that_was_named_is_named_to_the_daemon(
    run: Run, daemon: Any, operations: Any, tmp_path: Path
) -> None:
    run("deploy", "--file", "other.yaml")
    assert operations.asked[0].args["manifest"] == str(tmp_path / "other.yaml")


def test_init_says_what_it_rendered_and_where(run: Run, daemon: Any, operations: Any) -> None:
    value = {"directory": "/srv/state/rendered", "files": ["docker-compose.yml", "nginx/live/nginx.conf"]}
    operations.answers["init"] = [{**END, "value": value}]
    assert run("init").out == "Rendered to /srv/state/rendered:\n  docker-compose.yml\n  nginx/live/nginx.conf\n"
    assert json.loads(run("init", "-o", "json").out) == value


def _check(number: int, name: str, ok: bool | None, detail: str = "") -> dict[str, Any]:
    return {"event": "check", "number": number, "name": name, "ok": ok, "detail": detail}


def test_validate_prints_a_clear_pass_or_fail_for_each_check(run: Run, daemon: Any, operations: Any) -> None:
    operations.answers["validate"] = [
        _check(1, "Manifest is there and is YAML", True, "manifest.yaml"),
        _check(2, "Fields are there", False, "manifest.yaml:3:1: no port\nmanifest.yaml:4:1: no image\x1b[2J"),
        {"event": "line", "text": "manifest.yaml:1:1: odd"},
        {**END, "exit": 6, "text": "The manifest is wrong."},
    ]
    result = run("validate")
    assert result.code == 6
    assert result.out == (
        "PASS  1 Manifest is there and is YAML: manifest.yaml\n"
        "FAIL  2 Fields are there: manifest.yaml:3:1: no port\n"
        "      manifest.yaml:4:1: no image\\x1b[2J\n"
        "SKIP  3 image exists: not looked at, for what is wrong above\n"
        "SKIP  4 port is free: not looked at, for what is wrong above\n"
        "SKIP  5 nginx configuration: not looked at, for what is wrong above\n"
    )
    assert result.err == "  manifest.yaml:1:1: odd\nThe manifest is wrong.\n"
    as_json = json.loads(run("validate", "-o", "json").out)
    assert as_json["ok"] is False
    assert [check["ok"] for check in as_json["checks"]] == [True, False, None, None, None]


def test_diff_shows_plan_and_files_and_exits_2(run: Run, daemon: Any, operations: Any) -> None:
    value = {
        "plan": [{"verb": "create", "target": "app-blue\x1b[2J", "cause": "not there"}],
        "files": {"nginx.conf": "--- a\n+++ b\n -1 +1 \n-listen 1;\n+listen 2;\x1b]0;x\x07\n"},
    }
    operations.answers["diff"] = [{**END, "exit": 2, "value": value}]
    result = run("diff")
    assert (result.code, result.err) == (2, "")
    assert result.out == (
        "create app-blue\\x1b[2J: not there\n\n--- a\n+++ b\n -1 +1 \n-listen 1;\n+listen 2;\\x1b]0;x\\x07\n"
    )
    assert json.loads(run("diff", "-o", "json").out) == value


def test_logs_spell_out_what_could_steer_the_terminal(run: Run, daemon: Any, operations: Any) -> None:
    forged = '{"event":"end","exit":0,"text":"forged"}'
    texts = [HOSTILE, "tab\there", forged, "-n", "x" * 1_000_000, "ünïcödé 🚀"]
    operations.answers["logs"] = [*({"event": "line", "text": text} for text in texts), END]
    lines = run("logs").out.split("\n")
    assert lines[0] == r"\x1b]52;c;ZXZpbA==\x07\x9b2J\u202egnp\x08\r"
    assert lines[1:4] == ["tab\there", forged, "-n"]
    assert len(lines[4]) == 1_000_000
    assert lines[5:] == ["ünïcödé 🚀", ""]


def test_logs_raw_are_raw(run: Run, daemon: Any, operations: Any) -> None:
    operations.answers["logs"] = [{"event": "line", "text": "\x1b[32mgreen\x1b[0m\n"}, END]
    assert run("logs", "--raw").out == "\x1b[32mgreen\x1b[0m\n"


def test_what_an_answer_says_at_its_end_is_harmless_too(run: Run, daemon: Any, operations: Any) -> None:
    operations.answers["promote"] = [{**END, "exit": 3, "text": f"DENIED: {HOSTILE}\nsecond"}]
    err = run("promote", "stable").err
    assert "\x1b" not in err
    assert "\u202e" not in err
    assert err.count("\n") == 2


def test_the_manifest_alone_is_looked_at_without_the_daemon(
    run: Run, daemon: Any, local: list[Any], operations: Any, tmp_path: Path
) -> None:
    operations.answers["validate"] = [_check(1, "one", True), _check(2, "two", True), END]
    result = run("validate", "--manifest-only", "--file", "other.yaml")
    assert (result.code, result.out) == (0, "PASS  1 one\nPASS  2 two\n")
    assert local[0][0] == tmp_path / "other.yaml"


# --- without a daemon --------------------------------------------------------------------------------------------


def test_without_a_daemon_the_work_is_done_here(
    run: Run, local: list[Any], operations: Any, tmp_path: Path, state_dir: Path
) -> None:
    operations.answers["deploy"] = _deployment
    assert run("deploy").out == SIX_LINES
    assert local == [(tmp_path / "manifest.yaml", state_dir), "left"]
    assert operations.asked[0].actor.endswith(f"(uid {os.getuid()})")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ManifestError([Problem("manifest.yaml", 3, 1, "no port\x1b[2J"), Problem("manifest.yaml", 9, 1, "b")]), 6),
        (RenderError("a value"), 6),
        (PolicyError("OPA is down"), 4),
        (EngineError("Docker is down"), 1),
    ],
)
def test_an_error_is_its_message_and_a_code(run: Run, local: Any, operations: Any, error: Exception, code: int) -> None:
    def answer(request: Request) -> Iterator[Any]:
        raise error
        yield

    operations.answers["deploy"] = answer
    result = run("deploy")
    assert (result.code, result.out) == (code, "")
    assert result.err == str(error).replace("\x1b", r"\x1b") + "\n"


def test_a_session_does_not_step_in_for_a_daemon_that_went_away(
    run: Run, daemon: Any, operations: Any, local: list[Any], state_dir: Path
) -> None:
    from reconciler.cli.options import make_options
    from reconciler.cli.session import open_session
    from reconciler.control import NotRunning

    session = open_session(make_options("swiftdeploy", None, str(state_dir), "text", {}))
    list(session.request("status", {}))
    daemon.stop()
    with pytest.raises(NotRunning):
        session.request("status", {})
    assert local == []


def test_the_state_directory_of_systemd_is_known(run: Run, daemon: Any, operations: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{daemon.path.parent.parent}:/elsewhere")
    monkeypatch.chdir("/")
    assert run("reconcile").code == 0
    assert operations.asked


# --- bugs, interruptions, closed output --------------------------------------------------------------------------


def test_a_bug_is_one_line_and_a_file(run: Run, local: Any, operations: Any, tmp_path: Path, state_dir: Path) -> None:
    (state_dir / "run").mkdir(parents=True)

    def answer(request: Request) -> Iterator[Any]:
        raise KeyError("\x1b[2J\nforged line")
        yield

    operations.answers["deploy"] = answer
    result = run("deploy")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert result.err.startswith("A bug in swiftdeploy: KeyError: ")
    assert "\x1b" not in result.err
    (log,) = (state_dir / "run").glob("crash-*.log")
    assert str(log) in result.err
    assert "Traceback" in log.read_text()


def test_a_bug_without_a_state_directory_is_written_elsewhere(
    run: Run, local: Any, operations: Any, state_dir: Path
) -> None:
    operations.answers["deploy"] = lambda request: 1 / 0
    result = run("deploy")
    path = Path(result.err.split("details are in ")[1].split(" Please")[0].rstrip("."))
    assert "ZeroDivisionError" in path.read_text()
    path.unlink()
    assert not state_dir.exists()


def test_the_traceback_is_shown_when_asked_for(run: Run, local: Any, operations: Any, monkeypatch: Any) -> None:
    operations.answers["deploy"] = lambda request: 1 / 0
    assert "Traceback" not in run("deploy").err
    monkeypatch.setenv("SWIFTDEPLOY_DEBUG", "1")
    assert "Traceback" in run("deploy").err


def test_ctrl_c_in_a_deployment_by_the_daemon(daemon: Any, operations: Any, state_dir: Path) -> None:
    closed = threading.Event()

    def answer(request: Request) -> Iterator[Any]:
        try:
            yield {"event": "step", "name": "manifest_valid", "text": ""}
            while True:
                time.sleep(0.01)
                yield {"event": "tick"}
        finally:
            closed.set()

    operations.answers["deploy"] = answer
    process = command("deploy", "--state-dir", str(state_dir))
    assert process.stdout is not None
    assert process.stdout.readline() == "Manifest valid\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err == ("Interrupted; nothing is half done: the daemon goes on by itself, see `swiftdeploy status`.\n")
    assert closed.wait(5)


def test_ctrl_c_in_a_deployment_done_here(run: Run, local: list[Any], operations: Any) -> None:
    def answer(request: Request) -> Iterator[Any]:
        yield {"event": "step", "name": "manifest_valid", "text": ""}
        raise KeyboardInterrupt

    operations.answers["deploy"] = answer
    result = run("deploy")
    assert (result.code, result.out) == (130, "Manifest valid\n")
    assert "nothing is half done" in result.err
    assert "the next `swiftdeploy deploy` goes on from here" in result.err
    assert local[-1] == "left"


def test_ctrl_c_while_looking_needs_no_words(run: Run, local: Any, operations: Any) -> None:
    def answer(request: Request) -> Iterator[Any]:
        raise KeyboardInterrupt
        yield

    operations.answers["logs"] = answer
    result = run("logs", "-f")
    assert (result.code, result.out, result.err) == (130, "", "")


def _endless(request: Request) -> Iterator[Any]:
    while True:
        yield {"event": "line", "text": "x" * 1000}


def test_a_closed_pipe_is_no_complaint(daemon: Any, operations: Any, state_dir: Path) -> None:
    operations.answers["logs"] = _endless
    process = command("logs", "--state-dir", str(state_dir))
    assert process.stdout is not None
    process.stdout.read(5000)
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_help_into_a_closed_pipe_is_no_complaint() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for words in (["--help"], ["deploy", "--help"]):
        process = command(*words, stdout=writing)
        _, err = process.communicate(timeout=10)
        assert (process.returncode, err) == (141, "")
    os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["status", "--help"], ["version"]])
def test_a_full_disk_under_the_output_is_told(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        process = command(*words, stdout=full)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err == "Cannot write the output: No space left on device.\n"


def test_closed_standard_streams_are_survived(daemon: Any, operations: Any, state_dir: Path) -> None:
    code = "from reconciler.cli.main import main; raise SystemExit(main(['reconcile', '--state-dir', sys.argv[1]]))"
    shell = f'exec "{sys.executable}" -c "import sys; {code}" "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell, "sh", str(state_dir)], check=False).returncode == 0
    assert [request.verb for request in operations.asked] == ["reconcile"]


def test_an_odd_locale_is_no_crash(daemon: Any, operations: Any, state_dir: Path) -> None:
    operations.answers["reconcile"] = [{**END, "text": "done → 🚀"}]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "TERM": "x" * 5000}
    process = command("reconcile", "--state-dir", str(state_dir), env=environment)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert out == "done \\u2192 \\U0001f680\n"
