"""Single questions to the Docker Engine: what is there, by name or by ID.

Nothing is remembered: names of networks are not unique, and a list's words do not tell a restarted container from one
that was not. Trouble leaves as docker-py raises it; only "no such thing" is an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from reconciler.adapters import docker_decode as decode
from reconciler.adapters.engine_connection import Connections, Found, or_none
from reconciler.adapters.port_listeners import listener
from reconciler.core.errors import EngineError
from reconciler.core.observed import ObservedNetwork

LOOKS_AT_ONCE = 6


class Lookups:
    """Questions to the engine, several at once where somebody asks for that."""

    def __init__(self, connections: Connections, proc: Path) -> None:
        self._connections = connections
        self._proc = proc
        self._looks = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="engine-look")

    def close(self) -> None:
        """No more questions beside one another."""
        self._looks.shutdown(wait=False, cancel_futures=True)

    def beside(self, look: Callable[..., Found], *arguments: object) -> Future[Found]:
        """Asked on another thread."""
        return self._looks.submit(look, *arguments)

    # Containers

    def containers(self, project: str) -> list[decode.Answer]:
        """Every container of the project, inspected."""
        listed = self._connections.asking().containers(all=True, filters={"label": f"{decode.PROJECT}={project}"})
        looks = [self.beside(self.container, decode.identifier(one)) for one in decode.rows(listed)]
        return [one for one in (look.result() for look in looks) if one is not None]

    def container(self, container: str) -> decode.Answer | None:
        """One container, by name or ID."""
        return or_none(lambda: decode.table(self._connections.asking().inspect_container(container)))

    def port_holders(self, ports: Iterable[int]) -> dict[int, str]:
        """Who has which of these host ports, in words: a container, else a process of this machine."""
        holders: dict[int, str] = {}
        running = decode.rows(self._connections.asking().containers())
        for port in ports:
            containers = (decode.listed_name(one) for one in running if port in decode.listed_ports(one))
            holder = next(containers, None) or (listener(port, self._proc) if self._connections.is_local else None)
            if holder is not None:
                holders[port] = holder
        return holders

    # Networks and volumes

    def networks(self) -> list[decode.Answer]:
        """Every network of the engine, as listed: a list does not say who is attached."""
        return decode.rows(self._connections.asking().networks())

    def network(self, network_id: str) -> decode.Answer | None:
        """One network, inspected."""
        return or_none(lambda: decode.table(self._connections.asking().inspect_network(network_id)))

    def alike(self, name: str, listed: Iterable[decode.Answer]) -> list[decode.Answer]:
        """Every network of this name, inspected."""
        alike = [decode.identifier(one) for one in listed if one.get("Name") == name]
        return [one for one in map(self.network, alike) if one is not None]

    def best_network(self, name: str) -> ObservedNetwork | None:
        """The network of that name (or ID) to use now: looked up each time, since names are not unique."""
        found = [one for one in self.networks() if name in (one.get("Name"), one.get("Id"))]
        if len(found) > 1:
            found = [one for one in map(self.network, map(decode.identifier, found)) if one is not None]
        project = next((decode.text(decode.table(one.get("Labels")).get(decode.PROJECT)) for one in found), "")
        return decode.best_network(decode.network(one, project) for one in found)

    def network_id(self, name: str) -> str:
        """The ID of the network to use. Raises EngineError when there is none."""
        found = self.best_network(name)
        if found is None:
            raise EngineError(f"The network {name} does not exist yet.", retryable=True)
        return found.id

    def volumes(self, project: str) -> frozenset[str]:
        """The names of the volumes that carry the project's label."""
        answer = decode.table(self._connections.asking().volumes(filters={"label": f"{decode.PROJECT}={project}"}))
        return frozenset(decode.text(volume.get("Name")) for volume in decode.rows(answer.get("Volumes")))

    # Images

    def image(self, reference: str) -> decode.Answer | None:
        """One image, by tag or ID."""
        client = self._connections.asking
        return or_none(lambda: decode.table(client().inspect_image(reference)))  # type: ignore[no-untyped-call]

    def newest_of(self, reference: str) -> str | None:
        """`reference` itself where it has a tag, else the newest tag of that repository."""
        if ":" in reference.rpartition("/")[2]:
            return reference
        listed = decode.rows(self._connections.asking().images(name=reference))
        newest_first = sorted(listed, key=lambda image: decode.whole(image.get("Created")), reverse=True)
        tags = (tag for image in newest_first for tag in image.get("RepoTags") or () if isinstance(tag, str))
        return next((tag for tag in tags if tag.startswith(f"{reference}:")), None)
