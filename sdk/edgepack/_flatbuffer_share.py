"""A FlatBuffers builder that writes once what is alike: names, shapes, scales, zero points, options.

A quantized model repeats itself: every tensor of 64 channels has 64 zero points of eight bytes, all of them 0. The
format lets any number of tables refer to one such vector, and a reader does not notice.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any

__all__ = ["sharing_builder"]

# Weights are longer, and are shared as buffers.
_LONGEST = 1 << 14


def sharing_builder(size: int) -> Any:
    """Return a ``flatbuffers.Builder`` that begins with so many bytes, and writes once what is alike."""
    return _sharing()(size)


@cache
def _sharing() -> Any:
    from flatbuffers import Builder

    class SharingBuilder(Builder):  # type: ignore[misc]
        """Refers to what was written before, where vectors, texts or tables hold the same and refer to the same."""

        def __init__(self, size: int) -> None:
            super().__init__(size)
            self._written: dict[Hashable, int] = {}
            self._references: list[tuple[int, int]] = []
            # Of the vector that is being written: its kind, where it begins with its padding, where its elements end.
            self._kind: tuple[int, ...] = ()
            self._begin = self._end = 0

        def CreateString(self, s: Any, encoding: str = "utf-8", errors: str = "strict") -> int:
            """Return where a text is."""
            if s not in self._written:
                self._kind = ()
                self._written[s] = super().CreateString(s, encoding, errors)
            return self._written[s]

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
            """Begin a vector."""
            self._begin, self._references = self.Offset(), []
            self._kind = (elemSize, numElems, alignment)
            self._end = super().StartVector(elemSize, numElems, alignment)
            return self._end

        def EndVector(self, numElems: int | None = None) -> int:
            """Return where a vector is that holds what was written since it was begun."""
            found: int = super().EndVector(numElems)
            if not self._kind or found - self._end > _LONGEST:
                return found
            return self._first(self._content(self._kind, self._end), found, self._begin)

        def StartObject(self, numfields: int) -> None:
            """Begin a table."""
            self._references = []
            super().StartObject(numfields)

        def EndObject(self) -> int:
            """Return where a table is that holds what was written since it was begun."""
            begin: int = self.objectEnd
            content = self._content(tuple(slot and slot - begin for slot in self.current_vtable), begin)
            return self._first(content, super().EndObject(), begin)

        def PrependUOffsetTRelative(self, off: int) -> None:
            """Write a reference."""
            super().PrependUOffsetTRelative(off)
            self._references.append((self.Offset(), off))

        def _content(self, kind: tuple[int, ...], end: int) -> Hashable:
            """Return what was written in front of `end`: references by what they refer to."""
            last = len(self.Bytes)
            content = bytearray(self.Bytes[self.head : last - end])
            for place, _ in self._references:
                at = last - place - self.head
                content[at : at + 4] = bytes(4)
            return kind, bytes(content), tuple((place - end, target) for place, target in self._references)

        def _first(self, content: Hashable, found: int, begin: int) -> int:
            """Return where that was written first; what was just written behind it is taken back."""
            first = self._written.setdefault(content, found)
            if first != found:
                self.head = len(self.Bytes) - begin
            return first

    return SharingBuilder
