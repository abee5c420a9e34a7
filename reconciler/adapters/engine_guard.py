"""What we ask of the engine, and nothing else: every request is looked at before it is sent.

The engine's socket is the host. A bug of ours, or a value that slipped through, must not become a request that we never
meant to make: another path, a privileged container, a mount of the socket. So the last thing before the wire is a list
of the requests there are, by method, path and, where a container is made, the shape of the body.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from reconciler.core.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

_ID = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}"
_IMAGE = r"(?!\.\.?/)[A-Za-z0-9][A-Za-z0-9_.:/@%-]{0,511}"
_REQUESTS: tuple[tuple[str, str], ...] = (
    ("GET", r"/_ping|/version|/info|/events|/system/df"),
    ("GET", rf"/containers/json|/containers/{_ID}/(?:json|top|logs)|/exec/{_ID}/json"),
    ("GET", rf"/networks(?:/{_ID})?|/volumes(?:/{_ID})?|/images/json|/images/{_IMAGE}/(?:json|history|get)"),
    ("GET", rf"/distribution/{_IMAGE}/json"),
    ("POST", rf"/containers/create|/containers/{_ID}/(?:start|stop|kill|wait|update|attach|exec)|/exec/{_ID}/start"),
    ("POST", rf"/networks/create|/networks/{_ID}/(?:connect|disconnect)|/volumes/create"),
    ("POST", rf"/images/(?:create|load)|/images/{_IMAGE}/tag"),
    ("DELETE", rf"/containers/{_ID}|/networks/{_ID}|/volumes/{_ID}|/images/{_IMAGE}"),
)
_ALLOWED = tuple((method, re.compile(rf"(?:/v[0-9]+\.[0-9]+)?(?:{path})")) for method, path in _REQUESTS)
_CREATE = re.compile(r"(?:/v[0-9.]+)?/containers/create")
_UPDATE = re.compile(rf"(?:/v[0-9.]+)?/containers/{_ID}/update")
_VOLUME = re.compile(r"(?:/v[0-9.]+)?/volumes/create")
_EXEC = re.compile(rf"(?:/v[0-9.]+)?/containers/{_ID}/exec")
_TOP = frozenset(
    [
        "Image",
        "Env",
        "Labels",
        "ExposedPorts",
        "StopTimeout",
        "HostConfig",
        "Cmd",
        "Entrypoint",
        "User",
        "WorkingDir",
        "Hostname",
        "StopSignal",
        "Healthcheck",
        "NetworkingConfig",
    ]
)
_HOST = frozenset(
    [
        "CapDrop",
        "CapAdd",
        "SecurityOpt",
        "Privileged",
        "ReadonlyRootfs",
        "PidsLimit",
        "Mounts",
        "Tmpfs",
        "LogConfig",
        "RestartPolicy",
        "NetworkMode",
        "PortBindings",
        "Init",
        "Memory",
        "NanoCpus",
    ]
)
_FOLDED = frozenset(name.lower() for name in _TOP | _HOST)
_HARMLESS = frozenset({"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"})
_SHARED = re.compile(r"host|container:.*|ns:.*", re.IGNORECASE)
_MAX_BODY_BYTES = 1024 * 1024


def refusal(method: str, path: str, body: bytes | str | None) -> str:
    """Why such a request is never made, "" for one of ours. `path` may have a query behind it."""
    bare = path.partition("?")[0]
    if ".." in bare.split("/") or not any(method == each and form.fullmatch(bare) for each, form in _ALLOWED):
        return f"{method} {bare[:80]} is no request of ours"
    if method == "POST" and _CREATE.fullmatch(bare):
        return _of_container(_object(body))
    if method == "POST" and _UPDATE.fullmatch(bare):
        return _of_keys(_object(body), frozenset({"RestartPolicy"}), "an update")
    if method == "POST" and _VOLUME.fullmatch(bare):
        return _of_volume(_object(body))
    if method == "POST" and _EXEC.fullmatch(bare):
        wish = _object(body)
        return "a command with privileges" if wish is None or wish.get("Privileged") else ""
    return ""


def _object(body: bytes | str | None) -> dict[str, Any] | None:
    """The JSON object in a body; None for anything else, and for one in which a name comes twice (in any case)."""
    if body is None or len(body) > _MAX_BODY_BYTES:
        return None
    try:
        found = json.loads(body, object_pairs_hook=_unlike)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The engine reads names without regard to case, and takes the last of several."""
    names = [name for name, _ in pairs]
    folded = {name.lower() for name in names}
    if len(set(names)) != len(names) or (len(folded) != len(names) and folded & _FOLDED):
        raise ValueError("a name comes twice")
    return dict(pairs)


def _of_keys(found: dict[str, Any] | None, known: frozenset[str], what: str) -> str:
    if found is None:
        return f"{what} that cannot be read"
    others = sorted(set(found) - known)
    return f"{what} with {', '.join(others)[:80]}" if others else ""


def _of_container(wish: dict[str, Any] | None) -> str:
    """Why a container is not made like that."""
    if why := _of_keys(wish, _TOP, "a container"):
        return why
    assert wish is not None, "one that cannot be read was refused"
    host = wish.get("HostConfig")
    if why := _of_keys(host if isinstance(host, dict) else None, _HOST, "a container"):
        return why
    assert isinstance(host, dict), "one that is none was refused"
    if (
        host.get("Privileged")
        or host.get("SecurityOpt") != ["no-new-privileges:true"]
        or host.get("CapDrop") != ["ALL"]
    ):
        return "a container with privileges"
    if set(host.get("CapAdd") or ()) - _HARMLESS:
        return "a container with capabilities over the host"
    if _SHARED.fullmatch(str(host.get("NetworkMode", ""))):
        return "a container in a network that is not its own"
    return next((why for mount in host.get("Mounts") or () if (why := _of_mount(mount))), "")


def _of_volume(wish: dict[str, Any] | None) -> str:
    """Options can make any folder of the host a volume."""
    if why := _of_keys(wish, frozenset({"Name", "Driver", "DriverOpts", "Labels"}), "a volume"):
        return why
    assert wish is not None, "one that cannot be read was refused"
    is_plain = wish.get("Driver") in (None, "", "local") and not wish.get("DriverOpts")
    return "" if is_plain else "a volume with a driver's options"


def _of_mount(mount: Any) -> str:
    if not isinstance(mount, dict) or mount.get("Type") not in ("bind", "volume", "tmpfs"):
        return "a container with a mount of a kind that is not ours"
    if "VolumeOptions" in mount:
        return "a container with a volume that has options"
    options = mount.get("BindOptions") or {}
    if options.get("Propagation", "rprivate") != "rprivate":
        return "a container with a mount that is shared with the host"
    return ""


def guarded(client: APIClient) -> APIClient:
    """`client`, which from now on sends nothing but requests of ours; EngineError for any other."""
    send = client.send

    def looked_at(request: Any, **options: Any) -> Any:
        if why := refusal(str(request.method), str(request.path_url), request.body):
            raise EngineError(f"This was not sent to the engine: {why}. It is a bug: please report it.")
        return send(request, **options)

    client.send = looked_at  # type: ignore[method-assign]
    return client
