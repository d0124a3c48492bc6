"""The source archive: the same for the same files, another one for whatever a host would notice."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from plugins.modules.source_archive import SourceArchiveError, pack, source_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "app"
    (made / "memo" / "__pycache__").mkdir(parents=True)
    (made / "tests").mkdir()
    for name in ("memo/wsgi.py", "memo/__pycache__/wsgi.pyc", "memo/.hidden", "tests/test_wsgi.py", "requirements.txt"):
        (made / name).write_text(name, encoding="utf-8")
    return made


def archive(folder: Path) -> bytes:
    return pack(folder, source_files(folder, ["tests"]))


def test_leaves_out_what_a_host_does_not_need(folder: Path) -> None:
    assert [str(path) for path in source_files(folder, ["tests"])] == ["memo/wsgi.py", "requirements.txt"]


def test_times_and_owners_do_not_count(folder: Path) -> None:
    before = archive(folder)
    os.utime(folder / "requirements.txt", (0, 0))
    assert archive(folder) == before
    with tarfile.open(fileobj=io.BytesIO(before)) as tar:
        assert {(member.uid, member.gid, member.mode) for member in tar} == {(0, 0, 0o644)}


def test_a_changed_file_of_the_same_size_gets_another_time(folder: Path) -> None:
    def time() -> float:
        with tarfile.open(fileobj=io.BytesIO(archive(folder))) as tar:
            return tar.getmember("requirements.txt").mtime

    before = time()
    (folder / "requirements.txt").write_text("requirements.TXT", encoding="utf-8")
    assert time() != before


def test_executable_counts(folder: Path) -> None:
    before = archive(folder)
    (folder / "memo" / "wsgi.py").chmod(0o755)
    assert archive(folder) != before


@pytest.mark.parametrize("name", ["memo/link", "link"])
def test_a_link_is_refused_by_its_name(folder: Path, name: str) -> None:
    (folder / name).symlink_to(folder / "memo")
    with pytest.raises(SourceArchiveError, match=f"{name} is not an ordinary file"):
        archive(folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceArchiveError, match="is not a folder"):
        source_files(tmp_path / "none", [])
