"""The filters: the same content gives the same hash, and everything that matters changes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter.memo_server import content_hash, group_tags, public_keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "app"
    (made / "memo").mkdir(parents=True)
    (made / "memo" / "wsgi.py").write_text("app = 1\n", encoding="utf-8")
    return made


def test_hash_is_the_same_in_another_checkout(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "app" / "memo"
    other.mkdir(parents=True)
    (other / "wsgi.py").write_text("app = 1\n", encoding="utf-8")
    assert content_hash([str(folder)], {"a": 1}) == content_hash([str(other.parent)], {"a": 1})


def test_hash_changes_with_content_name_mode_and_settings(folder: Path) -> None:
    path = folder / "memo" / "wsgi.py"
    hashes = [content_hash([str(folder)], {"a": 1}), content_hash([str(folder)], {"a": 2})]
    path.chmod(0o755)
    hashes.append(content_hash([str(folder)], {"a": 1}))
    path.write_text("app = 2\n", encoding="utf-8")
    hashes.append(content_hash([str(folder)], {"a": 1}))
    path.rename(folder / "memo" / "other.py")
    hashes.append(content_hash([str(folder)], {"a": 1}))
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("name", ["tests/test_x.py", "memo/__pycache__/wsgi.pyc", "README.md"])
def test_what_does_not_go_into_the_image_does_not_count(folder: Path, name: str) -> None:
    before = content_hash([str(folder)])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x", encoding="utf-8")
    assert content_hash([str(folder)]) == before


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnsibleFilterError, match="there is no folder"):
        content_hash([str(tmp_path / "none")])


def test_group_tags_stay_on_the_group() -> None:
    assert group_tags({"b": "2", "a": "1"}) == [
        {"a": "1", "propagate_at_launch": False},
        {"b": "2", "propagate_at_launch": False},
    ]


def test_public_keys_leaves_comments_out(tmp_path: Path) -> None:
    path = tmp_path / "a.pub"
    path.write_text("# mine\n\nssh-ed25519 AAAA a\nssh-ed25519 BBBB b\n", encoding="utf-8")
    assert public_keys(str(path)) == ["ssh-ed25519 AAAA a", "ssh-ed25519 BBBB b"]
