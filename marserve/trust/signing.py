"""Detached Ed25519 signatures of archives: 64 bytes in ARCHIVE.sig over the file as it is, as `openssl pkeyutl` makes
and checks them. Knows nothing of what is inside an archive.

`cryptography` is imported where it is needed: a server that asks for no signatures does not load it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from marserve.errors import MarserveError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_BYTES = 64
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def signature_path(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sig")


def make_key(path: Path) -> tuple[Path, str]:
    """Write a new private key, which its owner alone can read, and PATH.pub; the latter's path and fingerprint.

    Raises MarserveError where either file exists.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public_path = path.with_name(f"{path.name}.pub")
    if public_path.exists():
        raise MarserveError(f"{public_path} exists already: choose another name")
    _write_new(path, private, 0o600)
    _write_new(public_path, public, 0o644)
    return public_path, fingerprint(key.public_key())


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the public key in DER, in hexadecimal: `openssl pkey -pubin -in KEY -outform DER | sha256sum`."""
    from cryptography.hazmat.primitives import serialization

    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def sign(archive: Path, key: Ed25519PrivateKey) -> Path:
    """Write the signature of that file, whole or not at all, and return its path. Raises MarserveError."""
    path = signature_path(archive)
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(key.sign(archive.read_bytes()))
        part.replace(path)
    except OSError as error:
        raise MarserveError(f"cannot sign {archive}: {error}") from None
    return path


def verify(archive: Path, trusted: Sequence[Ed25519PublicKey]) -> Ed25519PublicKey:
    """The one of these keys that has signed the file as it is now. Raises MarserveError where none has."""
    from cryptography.exceptions import InvalidSignature

    path = signature_path(archive)
    content = _read(archive)
    try:
        signature = path.read_bytes()
    except FileNotFoundError:
        raise MarserveError(f"{archive} is not signed: {path.name} is missing beside it") from None
    except OSError as error:
        raise MarserveError(f"cannot read {path}: {error.strerror}") from None
    if len(signature) != SIGNATURE_BYTES:
        raise MarserveError(f"{path} is damaged: a signature has {SIGNATURE_BYTES} bytes, not {len(signature):,}")
    for key in trusted:
        try:
            key.verify(signature, content)
        except InvalidSignature:
            continue
        return key
    raise MarserveError(f"{archive} is not what a trusted key has signed: it was altered, or signed with another key")


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """From PEM. Raises MarserveError for one that others can read, is protected by a passphrase, or no Ed25519 key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    content = _read(path)
    if path.stat().st_mode & 0o077:
        raise MarserveError(f"others can read {path}: whoever has may sign in your name; make a new key, with mode 600")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise MarserveError(f"{path} is protected by a passphrase, which marserve does not ask for") from None
    except (ValueError, UnsupportedAlgorithm):
        raise MarserveError(f"{path} holds no private key; `marserve signing-key FILE` makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise MarserveError(f"{path} holds a private key of another kind than Ed25519")
    return key


def read_public_keys(path: Path) -> list[Ed25519PublicKey]:
    """All keys of a PEM file; text between them is for people. Raises MarserveError for none, or any other content."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    keys = []
    for block in _PEM.finditer(_read(path)):
        if block[1] != b"PUBLIC KEY":
            raise MarserveError(f"{path} holds a {block[1].decode().lower()}: name a file of public keys alone (.pub)")
        try:
            key = serialization.load_pem_public_key(block[0])
        except (ValueError, UnsupportedAlgorithm):
            raise MarserveError(f"{path} holds a public key that is damaged") from None
        if not isinstance(key, Ed25519PublicKey):
            raise MarserveError(f"{path} holds a public key of another kind than Ed25519")
        keys.append(key)
    if not keys:
        raise MarserveError(f"{path} holds no public key; `marserve signing-key FILE` makes FILE.pub")
    return keys


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MarserveError(f"{path} does not exist") from None
    except OSError as error:
        raise MarserveError(f"cannot read {path}: {error.strerror}") from None


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise MarserveError(f"{path} exists already: choose another name") from None
    except OSError as error:
        raise MarserveError(f"cannot write {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
