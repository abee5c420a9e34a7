"""What is installed is what is here: packages, their data, programs; and the documentation names what there is.

That a built wheel works on its own from another directory is what `scripts/wheel` shows.
"""

from __future__ import annotations

import configparser
import importlib
import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reconciler import __version__, assets

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
PACKAGES = SETUP["options"]["packages"].split()
MAPPED = dict(line.split(" = ") for line in SETUP["options"]["package_dir"].strip().splitlines())
DATA = dict(SETUP["options.package_data"].items())


def test_the_list_of_packages_is_what_there_is() -> None:
    code = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "reconciler").rglob("__init__.py")}
    data = {name for name in MAPPED if name != "reconciler"}
    assert sorted(PACKAGES) == sorted(code | data)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_can_be_imported_and_says_what_it_is(package: str) -> None:
    assert importlib.import_module(package).__doc__ or package == "reconciler"


@pytest.mark.parametrize("package", sorted(set(MAPPED) - {"reconciler"}))
def test_all_data_of_a_folder_is_shipped_and_nothing_else(package: str) -> None:
    folder = ROOT / MAPPED[package]
    shipped = {path.name for path in folder.glob(DATA[package])}
    here = {p.name for p in folder.iterdir() if p.is_file() and p.suffix not in (".py", ".md") and p.name[0] != "."}
    assert shipped == here
    assert shipped
    found = {entry.name for entry in resources.files(package).iterdir()}
    assert shipped <= found


def test_assets_are_read_by_kind_and_name() -> None:
    assert '"$schema"' in assets.read("schema", "manifest.schema.json")
    assert "upstream" in "".join(assets.read("render", name) for name in assets.names("render", ".j2"))
    assert assets.names("opa", ".rego")


def test_the_programs_are_there() -> None:
    points = dict(line.split(" = ") for line in SETUP["options.entry_points"]["console_scripts"].strip().splitlines())
    assert set(points) == {"reconcilerd", "reconcilerctl", "swiftdeploy"}
    for target in points.values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_a_version_is_one_that_packages_may_have() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([.-]?(a|b|rc|dev|post)\d*)?", __version__)


# ---------------------------------------------------------------- what is locked


def locked(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and SHA-256 digests of each package of a lock, by its canonical name."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for entry in re.split(r"\n(?=\S)", text.replace("\\\n", " ")):
        if entry.startswith("#") or not entry.strip():
            continue
        pin, *options = entry.split()
        name, _, version = pin.partition("==")
        digests = [re.fullmatch(r"--hash=sha256:([0-9a-f]{64})", option) for option in options]
        assert all(digests), f"{pin} has something else than digests"
        found[canonicalize_name(name)] = version, frozenset(digest[1] for digest in digests if digest)
    return found


def needed(requirements: Iterable[str], lock: Mapping[str, tuple[str, frozenset[str]]]) -> Iterator[str]:
    """What keeps these requirements, and all that theirs need in turn, from being met by the lock alone."""
    asked, seen = list(requirements), set()
    while asked:
        wanted = Requirement(asked.pop())
        if wanted in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(wanted)
        name = canonicalize_name(wanted.name)
        if name not in lock:
            yield f"{wanted} is not locked"
            continue
        version, digests = lock[name]
        if version not in wanted.specifier:
            yield f"{wanted} is not met by {version}"
        if not digests:
            yield f"{name} has no digest"
        asked += importlib.metadata.distribution(name).requires or ()


REQUIRED = SETUP["options"]["install_requires"].split()


@pytest.mark.control("K17")
def test_every_package_that_is_needed_is_locked_by_version_and_digest() -> None:
    lock = locked((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert list(needed(REQUIRED, lock)) == []
    assert len(lock) >= len(REQUIRED)


@pytest.mark.control("K17")
@pytest.mark.parametrize(
    ("changed", "to", "complaint"),
    [
        (r"(?m)^urllib3==.*\n( .*\n)*", "", "urllib3.* is not locked"),
        (r"(?m)^(pyyaml)==.*(\n( .*\n)*)", r"\1==5.0\n", "pyyaml.* is not met by 5.0"),
        (r"(?m)^(docker==\S+).*\n( .*\n)*", r"\1\n", "docker has no digest"),
    ],
)
def test_a_lock_that_lacks_something_is_noticed(changed: str, to: str, complaint: str) -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    damaged = re.sub(changed, to, text)
    assert damaged != text
    assert any(re.match(complaint, each) for each in needed(REQUIRED, locked(damaged)))


# ---------------------------------------------------------------- documentation


DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(page for name in ("docs", "reconciler", "bench") for page in (ROOT / name).rglob("*.md")),
]


def links(document: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            yield target.partition("#")[0]


def anchors(document: Path) -> set[str]:
    lines = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL).splitlines()
    words = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", word).replace(" ", "-") for word in words}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    missing = [target for target in links(document) if not (document.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_place_on_its_own_page_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(#([^)\s]+)\)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if target not in anchors(document)] == []
