"""A disk that fails on command, and tells what it could hold after a power cut.

Inside ``with SimulatedDisk(folder) as disk`` every call of `os` that reads or changes something below `folder` is
counted, carried out on the real folder, and booked in a model of what has reached the disk: `diskmodel` has its
rules. `Fault` says which operation shall fail, and how. After a cut every further operation raises `PowerCut` too, so
that no clean-up reaches the disk. `images()` are the folders that a restart could find.

What goes around `os` (an open file object of `io`, another process) is not booked: `unbooked()` finds that.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from diskmodel import Books, File, Folder, Image, Link, Node, read_image

ERRORS = ("ENOSPC", "EIO", "EINTR")
CUTS = ("cut before", "cut after")
SHORT = "short write"
KINDS = (*ERRORS, *CUTS, SHORT)
READS = frozenset({"open to read", "open to write", "read", "list", "close"})
# A full disk is met when something is added.
GROWING = frozenset({"create", "write", "rename", "link", "symlink", "mkdir", "sync"})


class PowerCut(BaseException):
    """The power is off: nothing after this reaches the disk. No handler of `Exception` may catch it."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Operation number `at` fails: `kind` is one of `KINDS`."""

    at: int
    kind: str

    def applies_to(self, operation: str) -> bool:
        """Return whether an operation can fail like this."""
        if self.kind == SHORT:
            return operation == "write"
        if self.kind in CUTS:
            return operation not in READS
        return self.kind != "ENOSPC" or operation in GROWING


class SimulatedDisk:
    """See the module. `operations` are the kinds of operation so far, `log` says on what.

    Args:
        root: an existing folder; what it holds on entering is on the disk.
        fault: what shall fail.
        deaf_to: "files", "folders" or both: their syncs are answered and not done, like a program that forgot them.
    """

    def __init__(self, root: Path, fault: Fault | None = None, *, deaf_to: frozenset[str] = frozenset()) -> None:
        self.root = root.resolve()
        self.fault = fault
        self.deaf_to = deaf_to
        self.log: list[str] = []
        self.operations: list[str] = []
        self.off = False
        self._open: dict[int, tuple[Node, str]] = {}
        self._real: dict[str, Any] = {}
        # Where folders really are; asked once each, until a name changes.
        self._folders: dict[str, str] = {}
        self._prefix = f"{self.root}/"
        self._books: Books

    def __enter__(self) -> SimulatedDisk:
        self._books = Books(self.root)
        for name, stand_in in self._stand_ins().items():
            self._real[name] = getattr(os, name)
            setattr(os, name, stand_in)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def images(self, dice: random.Random) -> Iterator[Image]:
        """Yield each different folder that a power cut now could leave behind."""
        return self._books.images(dice)

    def unbooked(self) -> list[str]:
        """Return the paths whose real content is not what was booked: somebody went around `os`."""
        real, booked = read_image(self.root), self._books.current()
        return sorted(path for path in real.keys() | booked.keys() if real.get(path, 0) != booked.get(path, 0))

    def _find(self, path: Any) -> tuple[Folder, str]:
        """Return the folder and the name that a path below the root stands for; the last part is not followed."""
        whole = self._whole(path)
        folder = self._books.top
        *parts, name = whole[len(self._prefix) :].split("/")
        for part in parts:
            step = folder.current.get(part)
            assert isinstance(step, Folder), f"{path}: {part} is no folder that was booked"
            folder = step
        return folder, name

    def _node(self, path: Any) -> Node | None:
        whole = self._whole(path)
        if os.path.islink(whole):  # noqa: PTH114
            whole = os.path.realpath(whole)
        if whole + "/" == self._prefix:
            return self._books.top
        folder, name = self._find(whole)
        return folder.current.get(name)

    def _is_ours(self, path: Any, options: Mapping[str, Any]) -> bool:
        if isinstance(path, int):
            return path in self._open
        ours = (self._whole(path) + "/").startswith(self._prefix)
        relative = any(options.get(name) is not None for name in ("dir_fd", "src_dir_fd", "dst_dir_fd"))
        assert not (ours and relative), f"{path}: paths relative to a descriptor are not booked"
        return ours

    def _whole(self, path: Any) -> str:
        """Return a path whose folders are real; its last part may be a link."""
        # Strings, and not paths: a campaign spends most of its time here.
        folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return f"{self._folders[folder]}/{name}"

    # The operations.

    def _do(self, operation: str, what: object, action: Callable[[], Any]) -> Any:
        """Count an operation and carry it out, unless it is the one that fails."""
        if self.off:
            raise PowerCut
        if operation in {"rename", "symlink", "unlink", "rmdir"}:
            self._folders.clear()
        number = len(self.log)
        self.log.append(f"{operation} {what}")
        self.operations.append(operation)
        fault = self.fault
        if fault is None or fault.at != number or fault.kind == SHORT or not fault.applies_to(operation):
            return action()
        if fault.kind in ERRORS:
            if operation == "close":
                action()
            code = getattr(errno, fault.kind)
            raise OSError(code, os.strerror(code), str(what))
        if fault.kind == CUTS[1]:
            action()
        self.off = True
        raise PowerCut

    def _stand_ins(self) -> dict[str, Callable[..., Any]]:
        return {
            "open": self._os_open, "close": self._os_close, "read": self._os_read, "pread": self._os_pread,
            "write": self._os_write,
            "fsync": self._os_fsync, "fdatasync": self._os_fsync, "ftruncate": self._os_ftruncate,
            "rename": self._os_rename, "replace": self._os_rename, "link": self._os_link, "symlink": self._os_symlink,
            "unlink": self._os_unlink, "remove": self._os_unlink, "mkdir": self._os_mkdir, "rmdir": self._os_rmdir,
            "listdir": self._os_listdir, "scandir": self._os_scandir,
        }  # fmt: skip

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        real = self._real["open"]
        if not self._is_ours(path, options):
            return real(path, flags, mode, **options)  # type: ignore[no-any-return]
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        creates = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        truncates = writes and bool(flags & os.O_TRUNC) and not creates

        def action() -> int:
            descriptor: int = real(path, flags, mode)
            if creates:
                folder, name = self._find(path)
                self._books.change((folder, name, File()))
            node = self._node(path)
            assert node is not None, f"{path} is there and was not booked"
            if truncates and isinstance(node, File):
                node.pending.append((0, None))
            self._open[descriptor] = node, str(path)
            return descriptor

        kind = "create" if creates else "truncate" if truncates else "open to write" if writes else "open to read"
        return self._do(kind, path, action)  # type: ignore[no-any-return]

    def _os_close(self, descriptor: int) -> None:
        if descriptor not in self._open:
            self._real["close"](descriptor)
            return
        _, path = self._open.pop(descriptor)
        if self.off:
            self._real["close"](descriptor)
        self._do("close", path, lambda: self._real["close"](descriptor))

    def _os_read(self, descriptor: int, size: int) -> bytes:
        def action() -> bytes:
            return self._real["read"](descriptor, size)  # type: ignore[no-any-return]

        return self._do("read", self._open[descriptor][1], action) if descriptor in self._open else action()  # type: ignore[no-any-return]

    def _os_pread(self, descriptor: int, size: int, offset: int) -> bytes:
        def action() -> bytes:
            return self._real["pread"](descriptor, size, offset)  # type: ignore[no-any-return]

        return self._do("read", self._open[descriptor][1], action) if descriptor in self._open else action()  # type: ignore[no-any-return]

    def _os_write(self, descriptor: int, data: Any) -> int:
        if descriptor not in self._open:
            return self._real["write"](descriptor, data)  # type: ignore[no-any-return]
        node, path = self._open[descriptor]
        assert isinstance(node, File)
        piece = bytes(data)
        if self.fault == Fault(at=len(self.log), kind=SHORT) and len(piece) > 1:
            piece = piece[: len(piece) // 2]

        def action() -> int:
            offset = os.lseek(descriptor, 0, os.SEEK_CUR)
            written: int = self._real["write"](descriptor, piece)
            node.pending.append((offset, piece[:written]))
            return written

        return self._do("write", path, action)  # type: ignore[no-any-return]

    def _os_ftruncate(self, descriptor: int, length: int) -> None:
        if descriptor not in self._open:
            self._real["ftruncate"](descriptor, length)
            return
        node, path = self._open[descriptor]
        assert isinstance(node, File)

        def action() -> None:
            self._real["ftruncate"](descriptor, length)
            node.pending.append((length, None))

        self._do("truncate", path, action)

    def _os_fsync(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        if number not in self._open:
            self._real["fsync"](number)
            return
        node, path = self._open[number]

        def action() -> None:
            if isinstance(node, Folder) and "folders" not in self.deaf_to:
                self._books.sync(node)
            if isinstance(node, File) and "files" not in self.deaf_to:
                node.sync()

        try:
            self._do("sync", path, action)
        except OSError:
            if isinstance(node, File):
                node.lost = True
            raise

    def _os_rename(self, source: Any, target: Any, **options: Any) -> None:
        if not (self._is_ours(source, options) or self._is_ours(target, options)):
            self._real["rename"](source, target, **options)
            return
        both = self._is_ours(source, options) and self._is_ours(target, options)
        assert both, f"{source} to {target}: a rename into or out of the disk is not booked"

        def action() -> None:
            (folder, name), (to, new) = self._find(source), self._find(target)
            self._real["rename"](source, target)
            self._books.change((to, new, folder.current[name]), (folder, name, None))

        self._do("rename", f"{source} to {target}", action)

    def _os_link(self, source: Any, target: Any, **options: Any) -> None:
        if not self._is_ours(target, options):
            self._real["link"](source, target, **options)
            return

        def action() -> None:
            (folder, name), (to, new) = self._find(source), self._find(target)
            self._real["link"](source, target)
            self._books.change((to, new, folder.current[name]))

        self._do("link", f"{source} to {target}", action)

    def _os_symlink(self, source: Any, target: Any, target_is_directory: bool = False, **options: Any) -> None:
        self._added(
            "symlink",
            target,
            options,
            lambda: self._real["symlink"](source, target, **options),
            Link(os.fsdecode(source)),
        )

    def _os_mkdir(self, path: Any, mode: int = 0o777, **options: Any) -> None:
        self._added("mkdir", path, options, lambda: self._real["mkdir"](path, mode, **options), Folder())

    def _added(self, kind: str, path: Any, options: Mapping[str, Any], real: Callable[[], Any], node: Node) -> None:
        if not self._is_ours(path, options):
            real()
            return

        def action() -> None:
            real()
            folder, name = self._find(path)
            self._books.change((folder, name, node))

        self._do(kind, path, action)

    def _os_unlink(self, path: Any, **options: Any) -> None:
        self._removed("unlink", path, options)

    def _os_rmdir(self, path: Any, **options: Any) -> None:
        self._removed("rmdir", path, options)

    def _removed(self, kind: str, path: Any, options: Mapping[str, Any]) -> None:
        if not self._is_ours(path, options):
            self._real[kind](path, **options)
            return
        if not self.off and not os.path.lexists(path):
            # It fails and changes nothing: not worth a fault point.
            self._real[kind](path)

        def action() -> None:
            self._real[kind](path)
            folder, name = self._find(path)
            self._books.change((folder, name, None))

        self._do(kind, path, action)

    def _os_listdir(self, path: Any = ".") -> list[Any]:
        if not self._is_ours(path, {}):
            return self._real["listdir"](path)  # type: ignore[no-any-return]
        return self._do("list", path, lambda: self._real["listdir"](path))  # type: ignore[no-any-return]

    def _os_scandir(self, path: Any = ".") -> Any:
        if not self._is_ours(path, {}):
            return self._real["scandir"](path)
        return self._do("list", path, lambda: self._real["scandir"](path))
