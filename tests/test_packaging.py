"""What is installed is what is here: packages, their data, programs; and the documentation names what there is.

That a built wheel works on its own from another directory is what `scripts/wheel` shows.
"""

from __future__ import annotations

import configparser
import importlib
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

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
