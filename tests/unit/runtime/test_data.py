"""The runtime's `dataclass` does what the standard library's does, for what the runtime uses of it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, InitVar, asdict, field, fields, replace
from typing import Any

import pytest

from edgepack_runtime._data import dataclass as ours
from edgepack_runtime.manifest import Requirement


class _Point:
    """A point."""

    x: int
    y: int = 2
    names: tuple[str, ...] = ()
    secret: str = field(default="hidden", repr=False)
    notes: list[int] = field(default_factory=list)


BOTH = [pytest.param(ours, id="ours"), pytest.param(dataclasses.dataclass, id="theirs")]


def made(kind: Any, **options: bool) -> Any:
    """Return a new class with the fields of a point."""
    body = {name: value for name, value in vars(_Point).items() if name not in ("__dict__", "__weakref__")}
    return kind(**options)(type("_Point", (), body))


@pytest.fixture(params=BOTH)
def point(request) -> Any:
    return made(request.param, frozen=True, slots=True, kw_only=True)


def test_fields_have_their_values_and_defaults(point):
    one = point(x=1, names=("a",))
    assert (one.x, one.y, one.names, one.secret, one.notes) == (1, 2, ("a",), "hidden", [])


def test_each_object_has_a_default_of_its_own(point):
    assert point(x=1).notes is not point(x=1).notes


def test_it_shows_itself_without_what_is_secret(point):
    assert repr(point(x=1)) == "_Point(x=1, y=2, names=(), notes=[])"


def test_equal_are_those_of_one_class_with_equal_fields(point):
    one, other = point(x=1), made(ours, frozen=True)(x=1)
    assert (one == point(x=1), one == point(x=3), one == other, one != point(x=3)) == (True, False, False, True)


def test_it_cannot_be_changed(point):
    one = point(x=1)
    for change in (lambda: setattr(one, "x", 2), lambda: delattr(one, "x"), lambda: setattr(one, "z", 2)):
        with pytest.raises((FrozenInstanceError, TypeError)):
            change()
    assert (one.x, hasattr(one, "__dict__")) == (1, False)


def test_it_is_copied_as_any_dataclass(point):
    one = point(x=1, notes=[5])
    shallow, deep = copy.copy(one), copy.deepcopy(one)
    assert (shallow == one, shallow.notes is one.notes, deep == one, deep.notes is one.notes) == (
        True,
        True,
        True,
        False,
    )


def test_it_is_pickled_as_any_dataclass():
    one = Requirement(product="classifier", security_version=3)
    assert pickle.loads(pickle.dumps(one)) == one


def test_what_does_not_fit_the_fields_is_refused(point):
    for given, named in (((), {}), ((1,), {}), ((), {"x": 1, "z": 2})):
        with pytest.raises(TypeError):
            point(*given, **named)


def test_it_is_replaced_and_taken_apart_as_any_dataclass(point):
    one = replace(point(x=1), y=5)
    assert (one.y, asdict(one)["x"], [f.name for f in fields(one)][:2]) == (5, 1, ["x", "y"])


@pytest.mark.parametrize("kind", BOTH)
def test_equal_ones_have_equal_hashes(kind):
    @kind(frozen=True, slots=True)
    class Pair:
        """Two numbers."""

        a: int
        b: int = 3

    assert ({Pair(1, 3), Pair(1), Pair(a=1, b=3)}, len({Pair(1), Pair(2)})) == ({Pair(1)}, 2)


@pytest.mark.parametrize("kind", BOTH)
def test_places_count_where_names_need_not(kind):
    one = made(kind, slots=True)(1, 4)
    assert (one.x, one.y) == (1, 4)
    for given, named in (((1, 2, (), "", [], 6), {}), ((1,), {"x": 1})):
        with pytest.raises(TypeError):
            made(kind, slots=True)(*given, **named)


@pytest.mark.parametrize("kind", BOTH)
def test_one_that_may_change_changes_and_has_no_hash(kind):
    one = made(kind, slots=True, kw_only=True)(x=1)
    one.y = 7
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    assert one.y == 7


@pytest.mark.parametrize("kind", BOTH)
def test_it_is_checked_after_it_is_made(kind):
    @kind(frozen=True, slots=True, kw_only=True)
    class Positive:
        """A number above 0."""

        number: int

        def __post_init__(self) -> None:
            if self.number <= 0:
                raise ValueError("not above 0")

    with pytest.raises(ValueError, match="not above 0"):
        Positive(number=0)
    assert Positive(number=1).number == 1


@pytest.mark.parametrize("kind", BOTH)
def test_its_own_methods_stay(kind):
    @kind(frozen=True, slots=True, kw_only=True)
    class Quiet:
        """One that shows nothing."""

        key: str

        def __repr__(self) -> str:
            return "<Quiet>"

    assert repr(Quiet(key="k")) == "<Quiet>"


@pytest.mark.parametrize("kind", BOTH)
def test_a_field_that_is_made_later_is_none_of_the_arguments(kind):
    @kind(slots=True)
    class Sized:
        """A text and its length."""

        text: str
        length: int = field(init=False)

        def __post_init__(self) -> None:
            self.length = len(self.text)

    assert Sized("abc").length == 3
    with pytest.raises(TypeError):
        Sized(text="abc", length=4)


@pytest.fixture(params=BOTH)
def guarded(request) -> Any:
    @request.param(frozen=True, slots=True, kw_only=True)
    class Guarded:
        kept: int
        key: bytearray = field(compare=False, repr=False)
        proof: InitVar[object]

        def __post_init__(self, proof: object) -> None:
            if proof is not BOTH:
                raise TypeError("no proof")

    return Guarded


def test_what_only_the_making_asks_for_is_no_field(guarded):
    one = guarded(kept=1, key=bytearray(), proof=BOTH)
    assert ([f.name for f in fields(one)], hasattr(one, "proof"), repr(one)[-15:]) == (
        ["kept", "key"],
        False,
        "Guarded(kept=1)",
    )


def test_nobody_makes_one_without_what_its_making_asks_for(guarded):
    with pytest.raises(TypeError, match="no proof"):
        guarded(kept=1, key=bytearray(), proof=None)


def test_nobody_makes_one_out_of_another_one(guarded):
    with pytest.raises((TypeError, ValueError), match="proof"):
        replace(guarded(kept=1, key=bytearray(), proof=BOTH), kept=2)


def test_a_field_that_is_not_compared_counts_for_nothing(guarded):
    one, other = (guarded(kept=1, key=bytearray(key), proof=BOTH) for key in (b"a", b"b"))
    assert (one == other, hash(one) == hash(other)) == (True, True)
