"""Running containers as processes: what nginx, beside us in one, is asked and told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import docker.errors

from reconciler.adapters import docker_decode as decode
from reconciler.adapters.engine_connection import TROUBLE, Connections
from reconciler.adapters.engine_lookups import Lookups
from reconciler.core.container import LABEL
from reconciler.core.desired import Mount

ONE_OFF_SERVICE = "one-off"


class EngineBoxes:
    """The proxy's Boxes over the Docker Engine."""

    def __init__(self, connections: Connections, lookups: Lookups, instance: str) -> None:
        self._connections = connections
        self._lookups = lookups
        self._instance = instance

    def main_pid(self, container_id: str) -> int:
        """The main process on the host; 0 when there is none. Raises EngineError."""
        with self._connections.translated():
            return decode.whole(decode.table((self._lookups.container(container_id) or {}).get("State")).get("Pid"))

    def signal(self, container_id: str, name: str) -> None:
        """The main process has been sent a signal. Raises EngineError."""
        with self._connections.translated():
            self._connections.acting().kill(container_id, name)

    def processes(self, container_id: str) -> list[tuple[int, int, str]]:
        """Process ID, parent and command line, as the engine sees them. Raises EngineError."""
        with self._connections.translated():
            answer = decode.table(self._connections.asking().top(container_id, "-eo pid,ppid,args"))
        found = answer.get("Processes")
        return [
            (int(row[0]), int(row[1]), " ".join(map(str, row[2:])))
            for row in (found if isinstance(found, list) else [])
            if isinstance(row, list) and len(row) > 2 and str(row[0]).isdigit() and str(row[1]).isdigit()
        ]

    def execute(self, container_id: str, command: Sequence[str]) -> tuple[int, str] | None:
        """Exit code and output of a command in a running container; None when it does not run. Raises EngineError."""
        with self._connections.translated():
            client = self._connections.acting()
            try:
                created = client.exec_create(container_id, list(command))
            except docker.errors.APIError as refused:
                if refused.status_code in (404, 409):
                    return None
                raise
            said = client.exec_start(created["Id"])
            code = decode.whole(decode.table(client.exec_inspect(created["Id"])).get("ExitCode"))
        return code, said.decode("utf-8", "replace") if isinstance(said, bytes) else ""

    def run_once(
        self, image_id: str, command: Sequence[str], mounts: Sequence[Mount], tmpfs: Sequence[str], user: str
    ) -> tuple[int, str]:
        """Exit code and output of a command in a container without network, gone afterwards. Raises EngineError."""
        name = f"swiftdeploy-{ONE_OFF_SERVICE}-{self._instance[:12] or 'x'}"
        request = decode.one_off_request(image_id, command, mounts, tmpfs, user, self._one_off_labels)
        with self._connections.translated():
            self._clear_one_off(name)
            client = self._connections.acting()
            answer = client.create_container_from_config(request, name)  # type: ignore[no-untyped-call]
            created = decode.identifier(answer)
            try:
                client.start(created)
                code = decode.whole(decode.table(client.wait(created)).get("StatusCode"))
                said = client.logs(created)
            finally:
                with suppress(*TROUBLE):
                    client.remove_container(created, force=True, v=True)
        return code, said.decode("utf-8", "replace")

    @property
    def _one_off_labels(self) -> dict[str, str]:
        """No project label: a one-off must not look like a part of the project."""
        return {decode.INSTANCE: self._instance, f"{LABEL}service": ONE_OFF_SERVICE}

    def _clear_one_off(self, name: str) -> None:
        """One that a crash of ours left behind."""
        left = self._lookups.container(name)
        if left is not None and self._one_off_labels.items() <= decode.labels_of(left).items():
            self._connections.acting().remove_container(decode.identifier(left), force=True, v=True)
