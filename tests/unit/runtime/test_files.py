"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack_runtime._files import read_capped, read_if_there, read_secret, write_all_whole, write_whole
from edgepack_runtime.errors import FileError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def on_a_full_disk(code: str, folder: Path) -> str:
    """Run `code` where no file may have more than 100 bytes; return the FileError it ended with."""
    script = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from edgepack_runtime._files import write_all_whole, write_whole\n"
        "from edgepack_runtime.errors import FileError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"folder = Path({str(folder)!r})\n"
        f"try:\n    {code}\nexcept FileError as error:\n    print(error)\nelse:\n    sys.exit('it was written')\n"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_is_written(tmp_path):
    write_whole(tmp_path / "a", b"data")
    assert contents(tmp_path) == {"a": b"data"}


def test_a_file_is_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    write_whole(tmp_path / "a", b"new")
    assert contents(tmp_path) == {"a": b"new"}


def test_a_file_that_must_not_be_replaced_is_kept(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileError, match=r"a exists and is not overwritten"):
        write_whole(tmp_path / "a", b"new", replace=False)
    assert contents(tmp_path) == {"a": b"old"}


def test_a_dangling_link_that_must_not_be_replaced_is_kept(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError, match=r"exists and is not overwritten"):
        write_whole(tmp_path / "a", b"new", replace=False)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_file_has_the_mode_that_was_asked_for(tmp_path, mode):
    before = os.umask(0)
    try:
        write_whole(tmp_path / "a", b"", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    said = on_a_full_disk("write_whole(folder / 'a', bytes(5000))", tmp_path)
    assert said == f"cannot write {tmp_path / 'a'}: File too large\n"
    assert contents(tmp_path) == {"a": b"old"}


def test_a_full_disk_at_the_second_of_two_files_leaves_neither(tmp_path):
    (tmp_path / "b").write_bytes(b"old")
    said = on_a_full_disk("write_all_whole({folder / 'a': b'fits', folder / 'b': bytes(5000)})", tmp_path)
    assert "File too large" in said
    assert contents(tmp_path) == {"b": b"old"}


def test_several_files_are_written_into_folders_that_are_made(tmp_path):
    write_all_whole({tmp_path / "x/y/a": b"1", tmp_path / "b": b"2"})
    assert contents(tmp_path) == {"x/y/a": b"1", "b": b"2"}


def test_no_file_is_written_when_one_is_a_folder(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(FileError, match=r"cannot write .*b: it is a folder"):
        write_all_whole({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert contents(tmp_path) == {}


def test_no_file_is_written_when_a_folder_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileError, match=r"cannot write .*file"):
        write_all_whole({tmp_path / "a": b"1", tmp_path / "file/b": b"2"})
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize("name", ["missing/a", "file/a", "x" * 300])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileError, match=r"cannot write"):
        write_whole(tmp_path / name, b"data")
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(FileError, match=r"cannot write .*a: it is a folder"):
        write_whole(tmp_path / "a", b"data")
    assert contents(tmp_path) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match=r"Permission denied"):
        write_whole(tmp_path / "a", b"data")


def test_a_file_of_exactly_the_cap_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"1234")
    assert read_capped(tmp_path / "a", 4) == b"1234"


def test_a_file_longer_than_the_cap_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(FileError, match=r"a is longer than the 4 bytes such a file may have"):
        read_capped(tmp_path / "a", 4)


@pytest.mark.parametrize("read", [read_capped, read_secret])
def test_a_device_is_refused(read):
    with pytest.raises(FileError, match=r"cannot read /dev/zero: it is no regular file"):
        read(Path("/dev/zero"), 4)


@pytest.mark.parametrize("read", [read_capped, read_secret, read_if_there])
def test_a_name_that_no_file_can_have_is_refused(read):
    with pytest.raises(FileError, match=r"cannot read a\x00b: embedded null byte"):
        read(Path("a\0b"), 4)


@pytest.mark.parametrize("name", ["/", "a\0b", "a\0b/c"])
def test_a_name_that_no_file_can_have_is_not_written(name):
    with pytest.raises(FileError, match=r"cannot write .*: this is no name of a file"):
        write_whole(Path(name), b"data")


def test_a_pipe_that_nobody_writes_into_is_refused_at_once_where_no_secret_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match=r"cannot read .*pipe: it is no regular file"):
        read_capped(tmp_path / "pipe", 4)


def test_a_pipe_in_the_place_of_what_may_be_missing_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert read_if_there(tmp_path / "pipe", 4) == b""


@contextlib.contextmanager
def written(data: bytes, *, closed: bool = True) -> Iterator[Path]:
    """Give the path of a pipe as a shell's ``<(program)`` makes it; the program has ended, or goes on."""
    read, write = os.pipe()
    os.write(write, data)
    try:
        if closed:
            os.close(write)
        yield Path(f"/dev/fd/{read}")
    finally:
        os.close(read)
        if not closed:
            os.close(write)


def test_a_secret_may_come_from_a_pipe():
    with written(b"1234") as pipe:
        assert read_secret(pipe, 4) == b"1234"


def test_a_secret_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code = f"import time; time.sleep(0.2); open({str(tmp_path / 'pipe')!r}, 'wb').write(b'12')"
    with subprocess.Popen([sys.executable, "-c", code]) as writer:
        assert read_secret(tmp_path / "pipe", 4) == b"12"
    assert writer.returncode == 0


def test_a_pipe_longer_than_the_cap_is_refused():
    with written(b"12345") as pipe, pytest.raises(FileError, match=r"longer than the 4 bytes"):
        read_secret(pipe, 4)


def test_a_pipe_that_nobody_opens_is_not_waited_for_forever(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match=r"pipe: nobody wrote into this pipe and closed it within 0.1 seconds"):
        read_secret(tmp_path / "pipe", 4, patience=0.1)


def test_a_pipe_that_is_never_closed_is_not_waited_for_forever():
    with written(b"12", closed=False) as pipe, pytest.raises(FileError, match=r"within 0.1 seconds"):
        read_secret(pipe, 4, patience=0.1)


def where_there_are_no_links(folder: Path, code: str) -> str:
    """Run `code` where the file system has no hard links, as FAT has none; return what it printed."""
    script = (
        "from pathlib import Path\nfrom edgepack_runtime._files import write_whole\n"
        f"from edgepack_runtime.errors import FileError\nfolder = Path({str(folder)!r})\n"
        "import os\ntry:\n    os.link(folder, folder / 'x')\nexcept OSError as error:\n    print(error.strerror)\n"
        f"try:\n    {code}\nexcept FileError as error:\n    print(error)\n"
    )
    kernel = Path(__file__).parents[2] / "workerkit" / "older_kernel.py"
    done = subprocess.run(
        [sys.executable, str(kernel), "links", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_hard_links_a_new_file_is_written_with_its_mode(tmp_path):
    said = where_there_are_no_links(tmp_path, "write_whole(folder / 'a', b'new', mode=0o640, replace=False)")
    assert (said, contents(tmp_path)) == ("Function not implemented\n", {"a": b"new"})
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_without_hard_links_a_file_that_must_not_be_replaced_is_kept(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    said = where_there_are_no_links(tmp_path, "write_whole(folder / 'a', b'new', replace=False)")
    assert said == f"Function not implemented\n{tmp_path / 'a'} exists and is not overwritten\n"
    assert contents(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("write", [write_whole, lambda path, data: write_all_whole({path: data})])
def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path, write):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match=r"cannot write .*pipe: it is no regular file"):
        write(tmp_path / "pipe", b"data")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
