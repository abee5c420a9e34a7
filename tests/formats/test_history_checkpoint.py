"""Signatures of checkpoints: the curve against its standard, OpenSSH's forms against OpenSSH, and no way around."""

from __future__ import annotations

import shutil
import struct
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.formats.ed25519 import PublicKey
from reconciler.formats.history import ORIGIN, Link, seal
from reconciler.formats.history_checkpoint import (
    MAX_BAD_KEPT,
    MAX_KEYS,
    NAMESPACE,
    Notary,
    Vouched,
    checkpoint,
    fingerprint,
    key_of,
    public_keys,
    public_line,
    statement,
    unarmoured,
)

needs_ssh_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")
ORDER = 2**252 + 27742317777372353535851937790883648493

RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
        "24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
        "eeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
        "8dc027beceea1ec40a",
    ),
]
VECTORS = [tuple(bytes.fromhex(part) for part in vector) for vector in RFC_8032]


# --- the curve


@pytest.mark.parametrize("vector", VECTORS, ids=["empty", "one byte", "two bytes"])
def test_the_standard_s_signatures_hold(vector: tuple[bytes, bytes, bytes]) -> None:
    key, message, signature = vector
    assert PublicKey(key).holds(signature, message)


@pytest.mark.control("K16")
def test_no_bit_of_key_message_or_signature_may_change() -> None:
    key, message, signature = VECTORS[2]
    held = PublicKey(key)
    for bit in range(512):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not held.holds(bytes(changed), message)
    assert not held.holds(signature, message + b"\0")
    assert not held.holds(signature, b"")
    for length in (0, 32, 63, 65):
        assert not held.holds((signature + b"\0")[:length], message)


def test_a_signature_can_be_written_in_one_way_only() -> None:
    key, message, signature = VECTORS[0]
    s = int.from_bytes(signature[32:], "little") + ORDER
    assert not PublicKey(key).holds(signature[:32] + s.to_bytes(32, "little"), message)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"\0" * 31,
        b"\x02" + b"\0" * 31,
        b"\xff" * 32,
        (2**255 - 19).to_bytes(32, "little"),
        b"\x01" + b"\0" * 30 + b"\x80",
    ],
    ids=["empty", "short", "no point", "beyond the field", "zero written twice", "minus zero"],
)
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"point|bytes"):
        PublicKey(key)


# --- OpenSSH's forms


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def signature(key: Path, message: bytes, namespace: str = NAMESPACE, *more: str) -> str:
    words = ["ssh-keygen", "-Y", "sign", "-q", "-f", str(key), "-n", namespace, *more]
    return unarmoured(subprocess.run(words, input=message, capture_output=True, check=True).stdout.decode())


def judged(*records: dict[str, object]) -> Vouched:
    notary, link, lines = Notary(), ORIGIN, []
    for record in records:
        line, link = seal(record, link)  # type: ignore[arg-type]
        lines.append(line)
    assert list(notary.passing(lines)) == lines
    return notary.vouched()


def second(text: str | None) -> Vouched:
    """What is found where the record behind the first one is a checkpoint with this signature."""
    return judged({"kind": "genesis"}, checkpoint("records", text))


FIRST = seal({"kind": "genesis"}, ORIGIN)[1]


@needs_ssh_keygen
@pytest.mark.parametrize("more", [(), ("-O", "hashalg=sha256")], ids=["sha512", "sha256"])
def test_what_openssh_signed_is_vouched_for(key: Path, more: tuple[str, ...]) -> None:
    found = second(signature(key, statement(FIRST), NAMESPACE, *more))
    (signer,) = found.signers
    assert (signer.count, signer.first, signer.last, found.bad_count) == (1, 1, 1, 0)
    public = key.with_suffix(".pub").read_text()
    assert public.startswith(public_line(signer.key))
    assert public_keys(public) == {signer.key}
    assert public_keys(f'# auditors\n\nme@here namespaces="{NAMESPACE}" {public}') == {signer.key}
    shown = subprocess.run(["ssh-keygen", "-l", "-f", f"{key}.pub"], capture_output=True, text=True, check=True)
    assert fingerprint(signer.key) == shown.stdout.split()[1]


@needs_ssh_keygen
@pytest.mark.attack("V")
@pytest.mark.control("K16")
def test_a_signature_for_something_else_is_bad(key: Path) -> None:
    other = Link(1, "0" * 64)
    assert second(signature(key, statement(other))).bad == ((2, "its signature is not of the records before it"),)
    assert "it is signed for 'git'" in second(signature(key, statement(FIRST), "git")).bad[0][1]
    assert second(signature(key, b"")).bad_count == 1


@needs_ssh_keygen
@pytest.mark.attack("V")
def test_no_bit_of_a_signature_may_change(key: Path) -> None:
    whole = b64decode(signature(key, statement(FIRST)))
    (signer,) = second(b64encode(whole).decode()).signers
    at = whole.index(signer.key) * 8
    in_the_key = range(at, at + 256, 41)  # each another key, that takes its time
    for bit in (*range(0, at, 3), *in_the_key, *range(at + 256, len(whole) * 8, 3)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        found = second(b64encode(bytes(changed)).decode())
        assert found.signers == (), bit
        assert found.bad_count == 1
    assert signer.count == 1


@needs_ssh_keygen
def test_other_kinds_of_keys_are_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", path], check=True)
    text = signature(path, statement(FIRST))
    assert second(text).bad_count == 1
    with pytest.raises(ValueError, match="not an Ed25519"):
        key_of(text)


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", "not base64", "U1NIU0lH", "U1NIU0lHAAAAAQ==", b64encode(b"SSHSIG\0\0\0\1" + b"\xff" * 90).decode()],
)
def test_what_is_no_signature_is_bad(text: str) -> None:
    assert second(text).bad_count == 1


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_judge(content: bytes) -> None:
    blob = b64encode(content).decode()
    assert second(blob).signers == ()
    framed = b64encode(b"SSHSIG\0\0\0\1" + struct.pack(">I", len(content)) + content).decode()
    assert second(framed).signers == ()


@pytest.mark.parametrize("value", [None, 7, [], {}, True])
def test_what_is_not_even_a_text_is_bad_or_unsigned(value: object) -> None:
    found = judged({"kind": "checkpoint", "signature": value})
    assert (found.signers, found.bad_count + found.unsigned) == ((), 1)


def test_unsigned_checkpoints_are_counted_with_the_last_reason() -> None:
    found = judged(checkpoint("time", None, "the first"), checkpoint("time", None, "the last"))
    assert (found.unsigned, found.unsigned_reason, found.bad_count) == (2, "the last", 0)


def test_records_that_only_speak_of_checkpoints_are_none() -> None:
    found = judged({"kind": "cycle", "inner": {"kind": "checkpoint", "signature": "AAAA"}})
    assert found == Notary().vouched()


def test_many_bad_ones_and_many_keys_fill_no_memory_and_take_no_day() -> None:
    found = judged(*[checkpoint("time", "AAAA")] * 100)
    assert (found.bad_count, len(found.bad)) == (100, MAX_BAD_KEPT)
    notary, link, lines = Notary(), ORIGIN, []
    for number in range(MAX_KEYS + 8):
        line, link = seal(checkpoint("time", blob_of(number)), link)
        lines.append(line)
    list(notary.passing(lines))
    assert notary.vouched().bad_count == MAX_KEYS + 8
    assert any("one more key" in reason for _, reason in notary.vouched().bad)


def blob_of(number: int) -> str:
    """A well-formed signature, by one of many keys, that does not hold."""

    def string(content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + content

    y = VALID_Y[number % len(VALID_Y)]
    key = string(string(b"ssh-ed25519") + string(y.to_bytes(32, "little")))
    raw = string(string(b"ssh-ed25519") + string(bytes(64)))
    parts = (key, string(NAMESPACE.encode()), string(b""), string(b"sha512"), raw)
    return b64encode(b"SSHSIG\0\0\0\1" + b"".join(parts)).decode()


def is_point(y: int) -> bool:
    p = 2**255 - 19
    square = (y * y - 1) * pow(-121665 * pow(121666, -1, p) * y * y + 1, -1, p) % p
    return pow(square, (p - 1) // 2, p) == 1


VALID_Y = [y for y in range(2, 120) if is_point(y)]
