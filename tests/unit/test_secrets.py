"""The key file, and the box that secrets are kept in."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.domain.errors import InvalidValue, SecretUnreadable
from runtime.infrastructure.secrets import (
    KEY_FILE,
    SecretBox,
    derived,
    load_secret_key,
    previous_keys,
)
from runtime.infrastructure.settings import Settings

OLD, NEW = b"the old key of this runtime", b"the new key of this runtime"
TEXT = "hunter2, geheim 🔑"


def settings(folder: Path, **given: str) -> Settings:
    return Settings(data_dir=folder, **given)  # type: ignore[arg-type]


def test_what_is_sealed_opens_again_and_shows_nothing() -> None:
    box = SecretBox(NEW)
    sealed = box.seal(TEXT, "here")

    assert box.open(sealed, "here") == TEXT
    assert "hunter2" not in sealed
    assert "hunter2" not in str(base64.urlsafe_b64decode(sealed.split(".")[2]))
    assert box.seal(TEXT, "here") != sealed


def test_it_opens_in_its_own_place_only() -> None:
    box = SecretBox(NEW)
    with pytest.raises(SecretUnreadable):
        box.open(box.seal(TEXT, "here"), "there")


def test_it_opens_with_its_own_key_only() -> None:
    with pytest.raises(SecretUnreadable):
        SecretBox(OLD).open(SecretBox(NEW).seal(TEXT, "here"), "here")


def test_another_key_under_the_same_id_opens_nothing() -> None:
    id_of_old = SecretBox(OLD).seal("", "here").split(".")[1]
    version, _, rest = SecretBox(NEW).seal(TEXT, "here").split(".")
    with pytest.raises(SecretUnreadable):
        SecretBox(OLD).open(f"{version}.{id_of_old}.{rest}", "here")


def test_a_token_that_was_tampered_with_does_not_open() -> None:
    box = SecretBox(NEW)
    version, key_id, encoded = box.seal(TEXT, "here").split(".")
    raw = bytearray(base64.urlsafe_b64decode(encoded))
    for index in range(len(raw)):
        raw[index] ^= 1
        changed = base64.urlsafe_b64encode(raw).decode()
        with pytest.raises(SecretUnreadable):
            box.open(f"{version}.{key_id}.{changed}", "here")
        raw[index] ^= 1
    for broken in (
        "",
        "v1",
        TEXT,
        f"v2.{key_id}.{encoded}",
        f"v1.{key_id}.{encoded[:20]}",
        "v1..a",
    ):
        with pytest.raises(SecretUnreadable):
            box.open(broken, "here")


def test_a_previous_key_still_opens_and_no_longer_seals() -> None:
    before, after = SecretBox(OLD), SecretBox(NEW, [OLD])
    old = before.seal(TEXT, "here")

    assert after.open(old, "here") == TEXT
    assert not after.is_current(old)
    assert after.is_current(after.seal(TEXT, "here"))
    with pytest.raises(SecretUnreadable):
        before.open(after.seal(TEXT, "here"), "here")


def test_a_mark_tells_texts_scopes_and_keys_apart() -> None:
    box = SecretBox(NEW)
    marks = {
        box.mark("a", "x"),
        box.mark("b", "x"),
        box.mark("a", "y"),
        SecretBox(OLD).mark("a", "x"),
    }
    assert len(marks) == 4
    assert box.mark("a", "x") == SecretBox(NEW, [OLD]).mark("a", "x")


def test_keys_are_derived_as_the_standard_says() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"agent-runtime/marks")
    assert derived(NEW, "marks") == hkdf.derive(NEW)
    assert derived(NEW, "marks") != derived(NEW, "key id")


def test_the_key_of_the_environment_leaves_no_file(tmp_path: Path) -> None:
    key = load_secret_key(settings(tmp_path, secret_key="sixteen characters"))

    assert key == b"sixteen characters"
    assert list(tmp_path.iterdir()) == []


def test_without_one_a_key_is_made_for_good_and_for_its_owner_only(tmp_path: Path) -> None:
    known = settings(tmp_path / "var")
    key = load_secret_key(known)

    assert load_secret_key(known) == key
    assert len(key) >= 43
    assert load_secret_key(settings(tmp_path / "other")) != key
    (file,) = (tmp_path / "var").iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == (KEY_FILE, 0o600)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o611])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    load_secret_key(settings(tmp_path))
    (tmp_path / KEY_FILE).chmod(mode)

    with pytest.raises(InvalidValue, match="chmod 600"):
        load_secret_key(settings(tmp_path))


@pytest.mark.parametrize("content", ["", "short", "x" * 15 + "\n"])
def test_a_file_without_a_whole_key_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    file = tmp_path / KEY_FILE
    file.touch(0o600)
    file.write_text(content)

    with pytest.raises(InvalidValue, match="at least 16 characters"):
        load_secret_key(settings(tmp_path))
    assert file.read_text() == content


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    load_secret_key(settings(tmp_path / "elsewhere"))
    (tmp_path / KEY_FILE).symlink_to(tmp_path / "elsewhere" / KEY_FILE)

    with pytest.raises(InvalidValue, match=r"secret\.key can't be read"):
        load_secret_key(settings(tmp_path))


def test_a_folder_that_can_not_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidValue, match=r"secret\.key can't"):
        load_secret_key(settings(tmp_path / "file" / "var"))


def test_the_key_of_a_file_can_become_a_previous_key(tmp_path: Path) -> None:
    key = load_secret_key(settings(tmp_path))
    named = (tmp_path / KEY_FILE).read_text()

    assert previous_keys(
        settings(tmp_path, secret_key_previous=f"{named}, another-key-of-old")
    ) == [
        key,
        b"another-key-of-old",
    ]


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from runtime.infrastructure.secrets import load_secret_key\n"
        "from runtime.infrastructure.settings import Settings\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(load_secret_key(Settings(data_dir=Path('var'))).decode())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    keys = [process.communicate(timeout=30)[0] for process in started]

    assert len(set(keys)) == 1
    assert len(keys[0].strip()) >= 43
    assert [path.name for path in (tmp_path / "var").iterdir()] == [KEY_FILE]
