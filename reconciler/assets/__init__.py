"""Data files of the package: JSON Schema, templates and Rego, as text.

The folders `schema/`, `render/` and `opa/` at the top of the repository are mapped in here by
`setup.cfg`, so that the same call works in a checkout, an editable install and a wheel.
"""

from __future__ import annotations

from importlib import resources


def read(folder: str, name: str) -> str:
    """Text of `reconciler/assets/<folder>/<name>`; raises FileNotFoundError if it was not packaged."""
    return resources.files(f"reconciler.assets.{folder}").joinpath(name).read_text(encoding="utf-8")


def names(folder: str, suffix: str) -> tuple[str, ...]:
    """Names of the files in `folder` that end with `suffix`, sorted."""
    return tuple(
        sorted(
            entry.name
            for entry in resources.files(f"reconciler.assets.{folder}").iterdir()
            if entry.is_file() and entry.name.endswith(suffix)
        )
    )
