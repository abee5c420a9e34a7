"""N and E: strings with nginx's, YAML's, Compose's and a shell's own signs, in every string field of the manifest.

A field either refuses a string where it stands, or carries it as data: nginx.conf keeps its directives and the
Compose file its shape, and the string is nowhere but in the one value.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.security import hardening, rendering
from tests.security.cases import Attack, in_time, steering

NGINX = (
    "a;\n location /pwn/ { proxy_pass http://127.0.0.1:8181/; } #",
    "/ { return 200; } location /pwn/ { proxy_pass http://127.0.0.1:8181/; } location /zz",
    'x"; return 302 http://evil/$request_uri; add_header Z "y',
    "1 max_fails=0; server 127.0.0.1:8181",
    "$http_authorization$cookie_session",
    "/x\r\nEvil: 1",
    "}\ninclude /etc/passwd;",
    "x\\",
    "# x\nload_module /tmp/x.so;",
    "{{ x }}{% raw %}",
)
COMPOSE = (
    "${AWS_SECRET_ACCESS_KEY}",
    "a\n    privileged: true",
    "x: {y: z} # &a *a",
    "'\"`$(id)`\x00",
    "\u202eevil\u200b",
)
"""JSON escapes bring characters in that the file itself must not hold."""

# path of the field, and whether any text may stand there
FIELDS: tuple[tuple[str, bool], ...] = (
    ("project.name", False),
    ("services.name", False),
    ("services.image", False),
    ("services.version", False),
    ("services.mode", False),
    ("services.restart_policy", False),
    ("services.hostname", False),
    ("services.user", False),
    ("services.working_dir", False),
    ("services.stop_signal", False),
    ("services.stop_grace_period", False),
    ("services.log_volume", False),
    ("services.route.host", False),
    ("services.route.path", False),
    ("services.healthcheck.path", False),
    ("services.healthcheck.interval", False),
    ("services.metrics.path", False),
    ("services.metrics.names.requests", False),
    ("services.rollout.probe.path", False),
    ("services.rollout.strategy", False),
    ("services.rollout.drain", False),
    ("services.tester_secret", False),
    ("services.env_file", False),
    ("services.tmpfs", False),
    ("services.volumes.0", False),
    ("services.cap_add.0", False),
    ("services.deploy.resources.limits.memory", False),
    ("services.deploy.resources.limits.cpus", False),
    ("nginx.image", False),
    ("nginx.contact", False),
    ("nginx.service_name", False),
    ("nginx.proxy_timeout", False),
    ("network.name", False),
    ("network.driver_type", False),
    ("opa.image", False),
    ("opa.policies_dir", False),
    ("services.environment.A", True),
    ("services.labels.team", True),
    ("services.command.0", True),
    ("services.entrypoint.0", True),
    ("services.healthcheck.test.1", True),
    ("policy.mine.word", True),
    ("x-note", True),
)
_AROUND: dict[str, Any] = {
    "services.volumes.0": ("services.volumes", [""]),
    "services.cap_add.0": ("services.cap_add", [""]),
    "services.command.0": ("services.command", [""]),
    "services.entrypoint.0": ("services.entrypoint", [""]),
    "services.healthcheck.test.1": ("services.healthcheck", {"test": ["CMD", ""]}),
}
_BLANK = "plain"


def _tree(field: str, text: str) -> rendering.Tree:
    around = (_AROUND[field],) if field in _AROUND else ()
    return rendering.tree(*around, (field, text))


@dataclass(frozen=True)
class InString(Attack):
    """`text` in `field`; `is_free`: the field takes any text, and it must stay data."""

    field: str
    text: str
    is_free: bool

    def attempt(self, folder: Path) -> None:
        with in_time():
            reading = rendering.read(_tree(self.field, self.text))
        for problem in (*reading.problems, *reading.warnings):
            assert not steering(problem.message), "the message steers the terminal"
        if reading.desired is None:
            self._check_refusal(reading)
            return
        assert self.is_free, f"{self.field} takes {self.text!r}"
        hardening.check(reading.desired)
        self._check_data(rendering.files_of(reading.desired), folder)

    def _check_refusal(self, reading: rendering.Reading) -> None:
        named = self.field.removesuffix(".0").removesuffix(".1").rpartition(".")[2]
        told = [str(problem) for problem in reading.problems]
        assert any(named in message or "cannot be seen" in message for message in told), told
        assert all(problem.line == 1 and problem.column > 1 for problem in reading.problems), "no place"

    def _check_data(self, files: Any, folder: Path) -> None:
        """The string is in the one value and nothing else is different."""
        plain = _plain_files(self.field)
        for name in files:
            if name.endswith(".conf"):
                assert rendering.skeleton(files[name], folder) == rendering.skeleton(plain[name], folder)
                assert self.text not in files[name]
        mine, other = (rendering.leaves(each["docker-compose.yml"]) for each in (files, plain))
        assert list(mine) == list(other), "the Compose file has another shape"
        for path, value in mine.items():
            assert rendering.interpolated(value) in (other[path], self.text), f"{path}: {value!r}"
            assert "LEAK" not in str(rendering.interpolated(value)), "Compose would put a variable there"


@functools.cache
def _plain_files(field: str) -> Any:
    desired = rendering.read(_tree(field, _BLANK)).desired
    assert desired is not None, f"{field} does not take a plain word"
    return rendering.files_of(desired)


CASES = tuple(
    InString(row, f"{field} {number}", field, text, is_free)
    for field, is_free in FIELDS
    for row, texts in (("N1", NGINX), ("E1", COMPOSE))
    for number, text in enumerate(texts)
)
