"""`dataclass`, as of the standard library, for what an application imports as it starts.

The standard one writes and compiles up to six methods for each class and reads the type of each field, which took
more than half of the time that this package takes to import. This one gives every class the same functions. An object
is made a microsecond more slowly. `replace`, `asdict`, `fields` and type checkers see no difference. It knows what
this package uses: `frozen`, `slots`, `kw_only`, defaults, ``__post_init__``, `InitVar`; no inheritance of fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses
    from dataclasses import _FIELD, _FIELD_INITVAR, MISSING, Field, FrozenInstanceError

    def dataclass(cls: Any = None, /, *, frozen: bool = False, slots: bool = False, kw_only: bool = False) -> Any:
        """Return a class with the fields that it declares, or a decorator that does."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen, slots=slots, kw_only=kw_only)
        body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
        table = {}
        for name, kind in cls.__annotations__.items():
            given = body.pop(name, MISSING)
            one = table[name] = given if isinstance(given, Field) else dataclasses.field(default=given)
            one.name, one.type, one._field_type = name, kind, _FIELD_INITVAR if "InitVar" in kind else _FIELD
            one.kw_only = kw_only if one.kw_only is MISSING else one.kw_only
            if not slots and one.default is not MISSING:
                body[name] = one.default
        kept = tuple(one for one in table.values() if one._field_type is _FIELD)
        body["__dataclass_fields__"] = table
        if slots:
            body["__slots__"] = [one.name for one in kept]
        made = type(cls)(cls.__name__, cls.__bases__, body)
        made.__qualname__ = cls.__qualname__
        for name, method in _methods(made, tuple(table.values()), kept, frozen).items():
            if name not in vars(made) or name == "__hash__":
                setattr(made, name, method)
        return made

    def _methods(cls: Any, fields: tuple[Any, ...], kept: tuple[Any, ...], frozen: bool) -> dict[str, Any]:
        names = [field.name for field in kept]
        positional = [field.name for field in fields if field.init and not field.kw_only]
        put, after = object.__setattr__, getattr(cls, "__post_init__", None)

        def __init__(self: Any, *given: Any, **named: Any) -> None:
            if len(given) > len(positional) or not named.keys().isdisjoint(positional[: len(given)]):
                raise TypeError(f"{cls.__name__}() takes {positional} by their places, each once")
            named.update(zip(positional, given, strict=False))
            passed = []
            for field in fields:
                if field.init and field.name in named:
                    value = named.pop(field.name)
                elif field.default is not MISSING:
                    value = field.default
                elif field.default_factory is not MISSING:
                    value = field.default_factory()
                elif field.init:
                    raise TypeError(f"{cls.__name__}() misses {field.name!r}")
                else:
                    continue
                if field.name in names:
                    put(self, field.name, value)
                else:
                    passed.append(value)
            if named:
                raise TypeError(f"{cls.__name__}() has no field {', '.join(named)}")
            if after is not None:
                after(self, *passed)

        def reader(wanted: list[str]) -> Any:
            return lambda self: tuple([getattr(self, name) for name in wanted])

        values, asked = reader(names), reader([field.name for field in kept if field.compare])

        def __eq__(self: Any, other: Any) -> bool:
            return asked(self) == asked(other) if other.__class__ is self.__class__ else NotImplemented

        def __repr__(self: Any) -> str:
            shown = [f"{field.name}={getattr(self, field.name)!r}" for field in kept if field.repr]
            return f"{self.__class__.__qualname__}({', '.join(shown)})"

        def restore(self: Any, state: tuple[Any, ...]) -> None:
            for name, value in zip(names, state, strict=True):
                put(self, name, value)

        def refuse(self: Any, name: str, value: Any = None) -> NoReturn:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")

        cls.__match_args__ = tuple(positional)
        every = {"__init__": __init__, "__eq__": __eq__, "__repr__": __repr__}
        # What `copy` and `pickle` call; they would set what cannot be set.
        every |= {"__getstate__": values, "__setstate__": restore}
        if not frozen:
            return {**every, "__hash__": None}
        return {**every, "__hash__": lambda self: hash(asked(self)), "__setattr__": refuse, "__delattr__": refuse}
