"""A file is replaced as a whole, and what a loss of power left of it goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.files import remove_file, replace_file


def test_what_an_interrupted_replacement_left_is_replaced_and_removed(tmp_path: Path) -> None:
    path, left = tmp_path / "folder" / "node.json", tmp_path / "folder" / ".node.json.new"
    replace_file(path, b"old")
    left.write_bytes(b"ha")
    replace_file(path, b"new", 0o755)
    assert (path.read_bytes(), path.stat().st_mode & 0o777, left.exists()) == (b"new", 0o755, False)
    left.write_bytes(b"ha")
    remove_file(path)
    remove_file(path)
    assert list(path.parent.iterdir()) == []


def test_a_failed_replacement_leaves_nothing_and_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "there", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["there"]
