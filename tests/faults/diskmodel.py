"""What a disk holds, and what it could hold after a power cut: the books behind `simulated_disk`.

- Written bytes are pending until their file is synced. A cut keeps or loses each 512-byte sector by itself; the file
  has its old length, or its new one with zeros for what was lost, or ends at a sector in between.
- A new, renamed, linked or removed name is pending until its folder is synced. A cut keeps or loses each by itself,
  in any combination: POSIX promises no order. Syncing a file does not keep its name.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
# Beyond this many combinations at one cut, or sectors in one file, a seeded sample stands for all.
MOST_IMAGES = 1 << 12
MOST_SECTORS = 6

Image = dict[str, "bytes | None"]
"""Files by path relative to the root; None is a folder, and a symbolic link is ``b"-> "`` and its target."""

_Choices = Iterator[tuple[tuple[bool, ...], tuple[bytes, ...]]]


@dataclass(eq=False)
class File:
    """A file's bytes on the disk, and the writes that have not reached it: (offset, data), or (length, None).

    `lost` is set by a sync that failed: what was pending never reaches the disk for sure, as on Linux.
    """

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    lost: bool = False

    def current(self, count: int | None = None) -> bytes:
        """Return what programs read, after the first `count` pending writes or all."""
        data = bytearray(self.durable)
        for offset, piece in self.pending[:count]:
            data = data.ljust(offset, b"\0")
            if piece is None:
                del data[offset:]
            else:
                data[offset : offset + len(piece)] = piece
        return bytes(data)

    def sync(self) -> None:
        if not self.lost:
            self.durable, self.pending = self.current(), []

    def outcomes(self, dice: random.Random) -> list[bytes]:
        """Return what a cut could leave of it."""
        found = {self.durable}
        for count in range(1, len(self.pending) + 1):
            found |= _torn(self.durable, self.current(count), dice)
        return sorted(found)


@dataclass(eq=False)
class Link:
    target: str


@dataclass(eq=False)
class Folder:
    """A folder's names as programs see them, and as they are on the disk."""

    current: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)


Node = File | Link | Folder
Change = tuple[Folder, str, "Node | None"]


def _torn(old: bytes, new: bytes, dice: random.Random) -> set[bytes]:
    sectors = [at for at in range(0, len(new), SECTOR) if new[at : at + SECTOR] != old[at : at + SECTOR]]
    if len(sectors) <= MOST_SECTORS:
        kept = [set(k) for n in range(len(sectors) + 1) for k in itertools.combinations(sectors, n)]
    else:
        kept = [set(sectors[:n]) for n in range(0, len(sectors) + 1, len(sectors) // MOST_SECTORS)]
        kept += [{at for at in sectors if dice.random() < 0.5} for _ in range(16)]
    found = {new, *(new[:at] for at in sectors)}
    for keep in kept:
        data = bytearray(old[: len(new)].ljust(len(new), b"\0"))
        for at in keep:
            data[at : at + SECTOR] = new[at : at + SECTOR]
        found.add(bytes(data))
    return found


class Books:
    """A folder tree on a disk. A list of names that change together is one pending change."""

    def __init__(self, root: Path) -> None:
        self.top = _adopt(root)
        self.pending: list[list[Change]] = []

    def change(self, *changes: Change) -> None:
        """Book names that change together."""
        for folder, name, node in changes:
            if node is None:
                folder.current.pop(name, None)
            else:
                folder.current[name] = node
        self.pending.append(list(changes))

    def sync(self, folder: Folder) -> None:
        """Bring every pending change of a folder's names to the disk, whole."""
        for i, changes in enumerate(self.pending):
            if not any(where is folder for where, _, _ in changes):
                continue
            for where, name, node in changes:
                _set(where.durable, name, node)
                # What happened to this name before must not come after it.
                for earlier in self.pending[:i]:
                    earlier[:] = [c for c in earlier if not (c[0] is where and c[1] == name)]
            changes.clear()
        self.pending = [changes for changes in self.pending if changes]

    def images(self, dice: random.Random) -> Iterator[Image]:
        """Yield each different folder that a cut now could leave behind."""
        files = self._unsynced()
        outcomes = [file.outcomes(dice) for file in files]
        total = 1 << len(self.pending)
        for outcome in outcomes:
            total *= len(outcome)
        keeps = itertools.product((False, True), repeat=len(self.pending))
        choices: _Choices = itertools.product(keeps, itertools.product(*outcomes))
        seen = set()
        for keep, contents in choices if total <= MOST_IMAGES else self._sample(outcomes, dice):
            image = self._image(keep, dict(zip(map(id, files), contents, strict=True)))
            if (digest := digest_of(image)) not in seen:
                seen.add(digest)
                yield image

    def current(self) -> Image:
        """Return the folder as programs see it."""
        return _image(self.top, lambda folder: folder.current, lambda file: file.current())

    def _sample(self, outcomes: list[list[bytes]], dice: random.Random) -> _Choices:
        for keep in (False, True):
            for end in (0, -1):
                yield (keep,) * len(self.pending), tuple(outcome[end] for outcome in outcomes)
        for _ in range(MOST_IMAGES):
            yield tuple(dice.random() < 0.5 for _ in self.pending), tuple(map(dice.choice, outcomes))

    def _image(self, keep: tuple[bool, ...], contents: Mapping[int, bytes]) -> Image:
        names: dict[int, dict[str, Node]] = {}
        for kept, changes in zip(keep, self.pending, strict=True):
            for folder, name, node in changes if kept else ():
                _set(names.setdefault(id(folder), dict(folder.durable)), name, node)
        return _image(
            self.top,
            lambda folder: names.get(id(folder), folder.durable),
            lambda file: contents.get(id(file), file.durable),
        )

    def _unsynced(self) -> list[File]:
        """Return the files with pending writes that a restart could see."""
        found: dict[int, File] = {}

        def walk(node: Node | None) -> None:
            if isinstance(node, Folder):
                for inner in (*node.durable.values(), *node.current.values()):
                    walk(inner)
            elif isinstance(node, File) and node.pending:
                found[id(node)] = node

        walk(self.top)
        for changes in self.pending:
            for _, _, node in changes:
                walk(node)
        return list(found.values())


def _set(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _adopt(path: Path) -> Folder:
    found = Folder()
    for item in sorted(path.iterdir()):
        node: Node
        if item.is_symlink():
            node = Link(str(item.readlink()))
        elif item.is_dir():
            node = _adopt(item)
        else:
            node = File(durable=item.read_bytes())
        found.current[item.name] = found.durable[item.name] = node
    return found


def _image(top: Folder, names: Callable[[Folder], Mapping[str, Node]], content: Callable[[File], bytes]) -> Image:
    image: Image = {}

    def walk(folder: Folder, path: str) -> None:
        for name, node in names(folder).items():
            if isinstance(node, Folder):
                image[path + name] = None
                walk(node, f"{path}{name}/")
            else:
                image[path + name] = b"-> " + node.target.encode() if isinstance(node, Link) else content(node)

    walk(top, "")
    return image


def read_image(root: Path) -> Image:
    """Return what is really in a folder."""
    image: Image = {}
    for path in root.rglob("*"):
        mode, name = path.lstat().st_mode, str(path.relative_to(root))
        if stat.S_ISLNK(mode):
            image[name] = b"-> " + str(path.readlink()).encode()
        else:
            image[name] = None if stat.S_ISDIR(mode) else path.read_bytes()
    return image


def write_image(image: Image, folder: Path) -> None:
    """Make the folder an image describes; `folder` must not exist."""
    folder.mkdir()
    for path, content in sorted(image.items()):
        if content is None:
            (folder / path).mkdir()
        elif content.startswith(b"-> "):
            (folder / path).symlink_to(content[3:].decode())
        else:
            (folder / path).write_bytes(content)


def digest_of(image: Image) -> bytes:
    """Return what tells an image from another."""
    state = hashlib.sha256()
    for path, content in sorted(image.items()):
        state.update(repr((path, content is None, len(content or b""))).encode())
        state.update(content or b"")
    return state.digest()
