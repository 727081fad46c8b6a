"""The runtime's own key: given, or made once by whoever comes first."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.domain.errors import InvalidValue
from runtime.infrastructure.secrets import load_secret_key
from runtime.infrastructure.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "var", secret_key=None)


def test_the_key_that_is_set_is_the_key_and_no_file_is_made(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, secret_key="sixteen-or-more-x")  # type: ignore[arg-type]

    assert load_secret_key(settings) == b"sixteen-or-more-x"
    assert list(tmp_path.iterdir()) == []


def test_the_first_start_makes_a_key_for_its_owner_only(settings: Settings) -> None:
    key = load_secret_key(settings)

    (file,) = settings.data_dir.iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == ("secret.key", 0o600)
    assert len(key) == 32
    assert load_secret_key(settings) == key


def test_processes_that_start_at_once_get_one_key(settings: Settings) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from runtime.infrastructure.secrets import load_secret_key\n"
        "from runtime.infrastructure.settings import Settings\n"
        "sys.stdin.read(1)\n"
        "print(load_secret_key(Settings(data_dir=Path(sys.argv[1]))).hex())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(settings.data_dir)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write("x")
        process.stdin.flush()
    keys = {process.communicate(timeout=60)[0] for process in started}

    assert len(keys) == 1
    assert [path.name for path in settings.data_dir.iterdir()] == ["secret.key"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_file_that_others_reach_is_refused(settings: Settings, mode: int) -> None:
    load_secret_key(settings)
    (settings.data_dir / "secret.key").chmod(mode)

    with pytest.raises(InvalidValue, match="can be read by others"):
        load_secret_key(settings)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_file_that_holds_no_key_is_refused(settings: Settings, content: bytes) -> None:
    load_secret_key(settings)
    (settings.data_dir / "secret.key").write_bytes(content)

    with pytest.raises(InvalidValue, match="does not hold a key"):
        load_secret_key(settings)


def test_a_folder_that_can_not_be_used_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file")

    with pytest.raises(InvalidValue, match="RUNTIME_SECRET_KEY does without it"):
        load_secret_key(Settings(data_dir=tmp_path / "var"))
