"""Keys and signatures: who has signed what, told by marserve and by openssl; what is not whole is refused in a line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import MarserveError
from marserve.trust import signing
from tests.marserve.conftest import PATIENT
from tests.marserve.test_cli import Capture, run
from tests.tools import need


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys `own` and `other`."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        signing.make_key(folder / name)
    (folder / "curve").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    (folder / "curve").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def signed(archive: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the archive that `own` has signed; never changed."""
    path = Path(shutil.copy(archive, tmp_path_factory.mktemp("signed") / "a.mar"))
    signing.sign(path, signing.read_private_key(keys / "own"))
    return path


def test_a_new_key_is_its_owners_alone_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = os.umask(0)
    try:
        assert run(monkeypatch, "signing-key", tmp_path / "key") == 0
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    content = (tmp_path / "key").read_bytes()
    assert content.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert (tmp_path / "key.pub").read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----\n")
    capsys.readouterr()
    for left in ("key", "key.pub"):
        assert run(monkeypatch, "signing-key", tmp_path / "key") == 1
        assert capsys.readouterr().err == f"error: {tmp_path / 'key.pub'} exists already: choose another name\n"
        if left == "key":
            assert (tmp_path / "key").read_bytes() == content
            (tmp_path / "key").unlink()
    assert not (tmp_path / "key").exists()
    (tmp_path / "key.pub").unlink()
    (tmp_path / "key").touch()
    with pytest.raises(MarserveError, match="key exists already"):
        signing.make_key(tmp_path / "key")
    assert not (tmp_path / "key.pub").exists()


def test_signed_and_verified_from_the_command_line(
    archive: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = Path(shutil.copy(archive, tmp_path))
    assert run(monkeypatch, "sign", path, "--key", keys / "own") == 0
    own = signing.fingerprint(signing.read_public_keys(keys / "own.pub")[0])
    assert capsys.readouterr().out == f"{path}.sig: signed by {own}\n"
    assert run(monkeypatch, "verify", path, "--key", keys / "own.pub") == 0
    assert capsys.readouterr().out == f"{path}: red_or_blue 1.0, signed by {own}\n"
    assert run(monkeypatch, "verify", path, "--key", keys / "own.pub", "--json") == 0
    told = {"archive": str(path), "name": "red_or_blue", "version": "1.0", "signed_by": own}
    assert json.loads(capsys.readouterr().out) == told
    assert run(monkeypatch, "verify", path, "--key", keys / "other.pub", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == {"archive": str(path), "error": said.err.removeprefix("error: ").strip()}
    assert "is not what a trusted key has signed" in said.err


def test_openssl_agrees(signed: Path, keys: Path, tmp_path: Path) -> None:
    need("openssl")

    def openssl(*arguments: str | Path) -> bytes:
        return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout

    check = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]
    own: list[str | Path] = ["-in", signed, "-sigfile", f"{signed}.sig"]
    assert b"Verified Successfully" in openssl(*check, keys / "own.pub", *own)
    with pytest.raises(subprocess.CalledProcessError):
        openssl(*check, keys / "other.pub", *own)
    der = openssl("pkey", "-pubin", "-in", keys / "own.pub", "-outform", "DER")
    (tmp_path / "der").write_bytes(der)
    (key,) = signing.read_public_keys(keys / "own.pub")
    assert signing.fingerprint(key) in openssl("dgst", "-sha256", tmp_path / "der").decode()
    # And the other way round: a key and a signature of openssl's.
    openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "key")
    (tmp_path / "key.pub").write_bytes(openssl("pkey", "-in", tmp_path / "key", "-pubout"))
    path = Path(shutil.copy(signed, tmp_path / "b.mar"))
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", tmp_path / "key", "-in", path, "-out", tmp_path / "b.mar.sig")
    signing.verify(path, signing.read_public_keys(tmp_path / "key.pub"))


def test_any_of_several_keys_may_have_signed(signed: Path, keys: Path, tmp_path: Path) -> None:
    both = tmp_path / "trusted.pem"
    both.write_text(f"# the old one\n{(keys / 'other.pub').read_text()}\nthe new one\n{(keys / 'own.pub').read_text()}")
    (own,) = signing.read_public_keys(keys / "own.pub")
    assert signing.fingerprint(signing.verify(signed, signing.read_public_keys(both))) == signing.fingerprint(own)


@PATIENT
@given(data=st.data())
def test_no_byte_may_change(
    data: st.DataObject, signed: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the archive or of its signature; nor may one be cut, or longer."""
    (own,) = signing.read_public_keys(keys / "own.pub")
    folder = tmp_path_factory.mktemp("changed")
    for name in ("a.mar", "a.mar.sig"):
        shutil.copy(signed.with_name(name), folder)
    path = folder / data.draw(st.sampled_from(["a.mar", "a.mar.sig"]))
    content = bytearray(path.read_bytes())
    offset, flip = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    how = data.draw(st.sampled_from(["flip", "cut", "add"]))
    if how == "flip":
        content[offset] ^= flip
    elif how == "cut":
        del content[offset:]
    else:
        content.append(flip)
    path.write_bytes(content)
    with pytest.raises(MarserveError, match=r"is not what a trusted key has signed|is damaged: a signature has 64"):
        signing.verify(folder / "a.mar", [own])


def test_what_cannot_be_verified(signed: Path, archive: Path, keys: Path, tmp_path: Path) -> None:
    (own,) = signing.read_public_keys(keys / "own.pub")
    unsigned = Path(shutil.copy(archive, tmp_path / "unsigned.mar"))
    with pytest.raises(MarserveError, match=r"unsigned.mar is not signed: unsigned.mar.sig is missing beside it"):
        signing.verify(unsigned, [own])
    with pytest.raises(MarserveError, match=r"nowhere.mar does not exist"):
        signing.verify(tmp_path / "nowhere.mar", [own])
    (tmp_path / "unsigned.mar.sig").mkdir()
    with pytest.raises(MarserveError, match=r"cannot read .*Is a directory"):
        signing.verify(unsigned, [own])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("own", "holds a private key: name a file of public keys alone"),
        ("curve.pub", "public key of another kind than Ed25519"),
        ("broken.pub", "holds a public key that is damaged"),
        ("text", "holds no public key"),
        ("nothing", "does not exist"),
    ],
)
def test_files_that_are_not_of_public_keys(name: str, complaint: str, keys: Path) -> None:
    curve = serialization.load_pem_private_key((keys / "curve").read_bytes(), None).public_key()
    (keys / "curve.pub").write_bytes(
        curve.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (keys / "broken.pub").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    (keys / "text").write_text("ssh-ed25519 AAAA me\n")
    with pytest.raises(MarserveError, match=complaint):
        signing.read_public_keys(keys / name)


def test_keys_that_do_not_sign(archive: Path, keys: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(archive, tmp_path / "a.mar"))

    def refused(content: bytes, mode: int = 0o600) -> str:
        key = tmp_path / "key"
        key.write_bytes(content)
        key.chmod(mode)
        with pytest.raises(MarserveError) as told:
            signing.sign(path, signing.read_private_key(key))
        return str(told.value)

    own = (keys / "own").read_bytes()
    for mode in (0o640, 0o604, 0o644):
        assert "others can read" in refused(own, mode)
    assert "passphrase" in refused(pem(ed25519.Ed25519PrivateKey.generate(), b"secret"))
    assert "another kind than Ed25519" in refused((keys / "curve").read_bytes())
    assert "holds no private key" in refused((keys / "own.pub").read_bytes())
    assert "holds no private key" in refused(own[:60])
    assert not signing.signature_path(path).exists()


def test_archives_that_are_not_signed(
    archive: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """What would not be served; a key's owner vouches for nothing that is damaged."""
    changed = tmp_path / "changed.mar"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(changed, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, b"another" if name == "model.onnx" else source.read(name))
    (tmp_path / "text.mar").write_text("text")
    for name, complaint in (("changed", "model.onnx differ from digests.json"), ("text", "not a readable archive")):
        path = tmp_path / f"{name}.mar"
        assert run(monkeypatch, "sign", path, "--key", keys / "own") == 1
        assert complaint in capsys.readouterr().err
        assert not signing.signature_path(path).exists()
        signing.sign(path, signing.read_private_key(keys / "own"))  # nor are they served once they are
        assert run(monkeypatch, "verify", path, "--key", keys / "own.pub") == 1
        assert complaint in capsys.readouterr().err
