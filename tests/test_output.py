"""Output folders and files that are replaced as a whole."""

import os
from pathlib import Path

import pytest

from vitruvian.errors import OutputError
from vitruvian.output import prepare_folder, replacing


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    assert prepare_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(OutputError, match="-o OUT"):
            prepare_folder(folder)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError):
        prepare_folder(tmp_path)


def test_a_folder_of_the_system() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc")
    with pytest.raises(OutputError):
        prepare_folder("/proc/vitruvian")


def test_a_new_file_appears_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(path.parent.iterdir()) == []
    with replacing(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder"), replacing(tmp_path):
        pass
