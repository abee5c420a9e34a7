"""What the environment asks for, checked once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    STABLE = "stable"
    CANARY = "canary"


class InvalidSetting(Exception):
    """One line for the operator: which variable, what it holds, what to use."""


@dataclass(frozen=True, slots=True)
class Settings:
    mode: Mode
    version: str
    host: str
    port: int
    log_dir: str
    shutdown_linger_ms: int


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings with every value in range; raises InvalidSetting at the first that is not."""
    return Settings(
        mode=_mode(environment.get("MODE", "stable")),
        version=_version(environment.get("APP_VERSION", "1.0.0")),
        host=environment.get("APP_HOST", "0.0.0.0"),
        port=_whole_number("APP_PORT", environment.get("APP_PORT", "3000"), 1, 65535),
        log_dir=environment.get("LOG_DIR", "/var/log/app"),
        shutdown_linger_ms=_whole_number("SHUTDOWN_LINGER_MS", environment.get("SHUTDOWN_LINGER_MS", "200"), 0, 60_000),
    )


def _mode(text: str) -> Mode:
    try:
        return Mode(text)
    except ValueError:
        raise InvalidSetting(f"MODE is {text!r}. Use stable or canary.") from None


def _version(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", text):
        raise InvalidSetting(f"APP_VERSION is {text!r}. Use 1 to 64 letters, digits, dots, dashes, + or _.")
    return text


def _whole_number(name: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise InvalidSetting(f"{name} is {text!r}. Use a whole number from {least} to {most}.")
    return int(text)
