"""Wrong values in the environment end the process with one line and exit code 2."""

import os
import socket
import subprocess
import sys

import pytest
from workload_client import APP


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(APP)],
        env={"PATH": os.environ["PATH"], "APP_HOST": "127.0.0.1", "LOG_DIR": "/absent", **environment},
        capture_output=True,
        text=True,
        timeout=10,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODE", "blue"),
        ("MODE", ""),
        ("MODE", "Canary"),
        ("MODE", "canary "),
        ("APP_PORT", "http"),
        ("APP_PORT", ""),
        ("APP_PORT", "0"),
        ("APP_PORT", "65536"),
        ("APP_PORT", "-1"),
        ("APP_PORT", "3000.0"),
        ("APP_PORT", "٣٠٠٠"),
        ("APP_VERSION", ""),
        ("APP_VERSION", "1.0\n2.0"),
        ("APP_VERSION", "v" * 65),
        ("SHUTDOWN_LINGER_MS", "soon"),
        ("SHUTDOWN_LINGER_MS", "60001"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(name: str, value: str):
    ended = run(**{name: value})
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"{name} is {value!r}. Use ")
    assert ended.stderr.count("\n") == 1


def test_a_taken_port_is_named_in_one_line():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ended = run(APP_PORT=str(port))
    assert ended.returncode == 1
    assert ended.stderr == f"Cannot listen on 127.0.0.1:{port}: Address already in use.\n"
