"""A device profile as text for people: the TOML file, and the JSON Schema by which editors check one."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace

from edgepack_runtime._fields import Fields
from edgepack_runtime.capabilities import DTYPES
from edgepack_runtime.profile import (
    ARCHITECTURES,
    ENGINES,
    FIGURES,
    OPTIONAL_FIGURES,
    SCHEMA_VERSION,
    SCHEMES,
    SOURCE_KINDS,
    DeviceProfile,
    Source,
)

__all__ = ["derived_profile", "profile_schema", "profile_toml", "schema_table"]

_NAME = r"^[a-z0-9][a-z0-9._-]{0,30}$"
_MAX_TEXT = 1000
_MAX_INTEGER = 2**53 - 1
_WIDE = 100


def derived_profile(base: DeviceProfile, name: str) -> DeviceProfile:
    """Return a profile of another name to begin with; each figure of it is assumed, until its owner says otherwise.

    Raises:
        SchemaError: the name is none.
    """

    def assumed(source: Source) -> Source:
        return Source(kind="assumed", text=f"taken over from {base.name}: {source.text}"[:_MAX_TEXT])

    sources = tuple((path, assumed(source)) for path, source in base.sources)
    wrong = tuple(replace(item, source=assumed(item.source)) for item in base.known_wrong)
    table = replace(base, name=name, aliases=(), sources=sources, known_wrong=wrong).to_json()
    return DeviceProfile.from_fields(Fields(table, name))


def profile_toml(profile: DeviceProfile) -> str:
    """Return the file of a profile, as `edgepack.profiles.load_profile` reads it; long texts are broken."""
    table = profile.to_json()
    lines = [_line(name, table[name]) for name in ("schema", "name", "description", "aliases")]
    for section in ("hardware", "software", "engine", "budget", "quantization", "io"):
        if section in table:
            lines += ["", f"[{section}]", *_section(section, table[section])]
    for path, source in profile.sources:
        lines += ["", f'[sources."{path}"]', _line("kind", source.kind), _line("text", source.text)]
    return "\n".join(lines) + "\n"


def _section(path: str, found: object) -> Iterator[str]:
    """Yield the lines of a table, then those of the tables in it and in its lists."""
    assert isinstance(found, dict)  # noqa: S101 - `to_json` makes a table of each of them
    for name, value in found.items():
        if not isinstance(value, dict) and not _tables(value):
            yield _line(name, value)
    for name, value in found.items():
        if isinstance(value, dict):
            yield from ("", f"[{path}.{name}]", *_section(f"{path}.{name}", value))
        elif _tables(value):
            for item in value:
                yield from ("", f"[[{path}.{name}]]", *_section(f"{path}.{name}", item))


def _tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _line(name: str, value: object) -> str:
    if isinstance(value, list) and len(json.dumps(value)) > _WIDE:
        rows = textwrap.wrap(", ".join(json.dumps(item, ensure_ascii=False) for item in value), _WIDE)
        return "\n".join([f"{name} = [", *(f"  {row}" for row in rows), "]"])
    if isinstance(value, str) and len(value) > _WIDE:
        words, rows = value.split(" "), [""]
        for word in words:
            if len(rows[-1]) + len(word) > _WIDE:
                rows.append("")
            rows[-1] += f"{word} "
        # A backslash at the end of a line takes the line break and the spaces after it out of the text.
        inner = "\\\n".join(_escaped(row) for row in [*rows[:-1], rows[-1].removesuffix(" ")])
        return f'{name} = """\\\n{inner}"""'
    # JSON's texts, numbers and lists of texts are TOML's.
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"


def _escaped(text: str) -> str:
    # Inside three quotes one alone needs no backslash, and reads better without.
    return (
        json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"') if '""' not in text else json.dumps(text)[1:-1]
    )


def profile_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of a profile file, for editors that check TOML by one.

    It says what each field may be. What fields must be together (threads and cores, budget and RAM, engine and
    architecture), `edgepack profiles check` says.
    """
    text = {"type": "string", "minLength": 1, "maxLength": _MAX_TEXT}
    count = {"type": "integer", "minimum": 1, "maximum": _MAX_INTEGER}
    name = {"type": "string", "pattern": _NAME}
    source = schema_table({"kind": {"enum": list(SOURCE_KINDS)}, "text": text})
    hardware = {
        "board": text,
        "soc": text,
        "arch": {"enum": list(ARCHITECTURES)},
        "cpu": text,
        "cores": count,
        "cpu_features": {"type": "array", "items": {"type": "string", "pattern": r"^\S{1,64}$"}},
        "ram_bytes": count,
    }
    software = {
        "os": text,
        "libc": {"type": "string", "pattern": r"^(glibc|musl) [0-9]{1,4}\.[0-9]{1,4}$"},
        "python": {"type": "string", "pattern": r"^3\.[0-9]{1,3}$"},
    }
    version = {"type": "string", "pattern": r"^[0-9]{1,8}(\.[0-9]{1,8}){1,3}$"}
    word = {"type": "string", "pattern": r"^[!-~]{1,64}$"}
    library = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"}
    delegate = schema_table({"name": word, "version": word, "library": library}, optional=("library",))
    engine = {
        "name": {"enum": list(ENGINES)},
        "version": version,
        "num_threads": count,
        "also": _some(version),
        "delegates": {"type": "array", "items": delegate, "minItems": 1},
    }
    budget = {"ram_bytes": count, "storage_bytes": count, "latency_ms": {"type": "number", "exclusiveMinimum": 0}}
    schemes = _some({"enum": list(SCHEMES)})
    wrong = schema_table({"scheme": {"enum": list(SCHEMES)}, "reason": text, "source": source})
    quantization = {"supported": schemes, "known_wrong": _some(wrong)}
    dtypes = _some({"enum": list(DTYPES)})
    limits = {"input_dtypes": dtypes, "output_dtypes": dtypes, "max_input_bytes": count, "batch": count}
    whole = schema_table(
        {
            "schema": {"const": SCHEMA_VERSION},
            "name": name,
            "description": text,
            "aliases": {"type": "array", "items": name, "uniqueItems": True},
            "hardware": schema_table(hardware),
            "software": schema_table(software),
            "engine": schema_table(engine, optional=("also", "delegates")),
            "budget": schema_table(budget, optional=("latency_ms",)),
            "quantization": schema_table(quantization, optional=("known_wrong",)),
            "io": {**schema_table(limits, optional=tuple(limits)), "minProperties": 1},
            "sources": schema_table(dict.fromkeys((*FIGURES, *OPTIONAL_FIGURES), source), optional=OPTIONAL_FIGURES),
        },
        optional=("aliases", "io"),
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgepack device profile", **whole}


def _some(items: object) -> dict[str, object]:
    return {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}


def schema_table(properties: Mapping[str, object], optional: tuple[str, ...] = ()) -> dict[str, object]:
    """Return the JSON Schema of a table that has these members and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
