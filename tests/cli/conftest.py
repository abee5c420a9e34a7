"""The command line as an operator has it, before a real control socket with small working operations behind it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog
from cli_samples import status_of_one_service

from reconciler.cli.main import main
from reconciler.control import ControlServer
from reconciler.operations import Request

END = {"event": "end", "exit": 0, "text": "", "value": None}


class Operations:
    """Answers each verb with the events a test gives it, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.answers: dict[str, Any] = {}

    def run(self, request: Request) -> Iterator[Mapping[str, Any]]:
        self.asked.append(request)
        answer = self.answers.get(request.verb, [END])
        yield from answer(request) if callable(answer) else answer


class Result:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"


@pytest.fixture
def operations() -> Operations:
    return Operations()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def daemon(operations: Operations, state_dir: Path) -> Iterator[ControlServer]:
    """A running daemon, as far as the command line can tell."""
    structlog.configure(processors=[structlog.testing.LogCapture()])
    server = ControlServer(state_dir / "run" / "control.sock", operations.run)
    server.start()
    yield server
    server.stop(wait_s=1)
    structlog.reset_defaults()


@pytest.fixture
def local(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No daemon: `wiring.local_operations` gives the operations, and the list says when they were taken and left."""
    seen: list[Any] = []

    @contextmanager
    def local_operations(manifest: Path, state: Path, _config: Path | None = None) -> Iterator[Operations]:
        seen.append((manifest, state))
        try:
            yield operations
        finally:
            seen.append("left")

    wiring = ModuleType("reconciler.wiring")
    wiring.local_operations = local_operations  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "reconciler.wiring", wiring)
    return seen


@pytest.fixture
def run(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Run a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)

    def command(*words: str, program: str = "swiftdeploy") -> Result:
        monkeypatch.setattr(sys, "argv", [f"/usr/bin/{program}", *words])
        code = main()
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return command


@pytest.fixture
def status() -> dict[str, Any]:
    """A healthy stack of one service."""
    return status_of_one_service()
