"""From command line options and edgepack.toml to a `Recipe`: options win, field by field."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import RecipeError
from edgepack.gate import Gate, MetricFunction
from edgepack.keys import Identity, development_identity, identity_in, read_key
from edgepack.passoptions import parse_pass_options
from edgepack.passphrase import ask_terminal_twice, passphrase_from
from edgepack.profiles import load_profile
from edgepack.reading import DataFunction
from edgepack.recipe import FILE_NAME, Recipe, UserModule, load_recipe
from edgepack.recipients import read_recipient
from edgepack.training_steps import parse_train
from edgepack_runtime._fields import canonical_json, parse_json
from edgepack_runtime.device import load_trust
from edgepack_runtime.enrolment import Enrolled, Enrolment, enroll_device, write_record
from edgepack_runtime.errors import KeyFileError
from edgepack_runtime.grants import DeviceKey
from edgepack_runtime.keyfiles import PassphraseSource, load_device_key, load_recipient
from edgepack_runtime.signing import key_id
from edgepack_runtime.trust import TrustedKeys

__all__ = [
    "Overrides",
    "data_from",
    "device_key_from",
    "enrolled_from",
    "key_id_from",
    "metric_from",
    "module_from",
    "new_passphrase",
    "recipe_from",
    "trust_from",
]

_READING = ("windows", "label_column", "csv_dtype", "csv_shape")
_DATA_FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<entry>[A-Za-z_][A-Za-z0-9_]*)(:(?P<given>.+))?")
_OPTIMIZE = ("max_latency", "max_size", "search", "objective", "candidates", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the command line said; None and () mean nothing was said."""

    model: Path | None
    profiles: tuple[str, ...]
    calibration: Path | DataFunction | None
    evaluation: Path | DataFunction | None
    training_set: Path | DataFunction | None
    train: tuple[str, ...]
    calibration_halves: int | None
    windows: int | None
    label_column: str | None
    csv_dtype: str | None
    csv_shape: str | None
    metric: str | None
    metric_function: MetricFunction | None
    max_drop: float | None
    metric_output: tuple[str, ...]
    metric_threshold: float | None
    confidence: float | None
    max_latency: str | None
    max_size: str | None
    search: str | None
    objective: str | None
    candidates: int | None
    seed: int | None
    schemes: tuple[str, ...]
    pass_options: tuple[str, ...]
    signing_key: str | None
    recipients: tuple[Path, ...]
    output: Path | None
    name: str | None
    version: str | None
    security_version: int | None
    requires: tuple[str, ...]
    expires: str | None
    compress: bool | None
    emulate: bool | None
    keep_names: bool | None
    inputs: tuple[str, ...]
    signature_key: str | None
    via: tuple[str, ...]
    layout: tuple[str, ...]
    trust_source: bool | None
    module: UserModule | None


def recipe_from(said: Overrides) -> Recipe:
    """Return the recipe: edgepack.toml of this folder when no model is named, changed by what was said.

    Raises:
        RecipeError: something is missing, unknown or wrong.
    """
    if said.model is None:
        if not Path(FILE_NAME).exists():
            raise RecipeError(
                f"no model is named, and there is no {FILE_NAME} in this folder",
                hint="edgepack build MODEL --profile NAME --calibration FILE -o DIR, or start with `edgepack init`",
            )
        base = load_recipe(Path(FILE_NAME))
    else:
        missing = [
            option
            for option, value in (
                ("--profile NAME", said.profiles),
                ("--calibration FILE", said.calibration),
                ("-o DIR", said.output),
            )
            if not value
        ]
        if missing or said.calibration is None or said.output is None:
            raise RecipeError(f"building {said.model} also needs {', '.join(missing)}")
        base = Recipe(model=said.model, calibration=said.calibration, profiles=said.profiles, output=said.output)
    gate = {
        "metric": said.metric,
        "function": said.metric_function,
        "max_drop": said.max_drop,
        "outputs": said.metric_output or None,
        "threshold": said.metric_threshold,
        "confidence": said.confidence,
    }
    changes = {
        field.name: getattr(said, field.name)
        for field in dataclasses.fields(Recipe)
        if hasattr(said, field.name) and getattr(said, field.name) not in (None, ())
    }
    optimize = {name: getattr(said, name) for name in _OPTIMIZE if getattr(said, name) is not None}
    changes["optimize"] = dataclasses.replace(base.optimize, **optimize)
    reading = {name: getattr(said, name) for name in _READING if getattr(said, name) is not None}
    changes["reading"] = dataclasses.replace(base.reading, **reading)
    if said.train:
        changes["training"] = tuple(parse_train(text) for text in said.train)
    changes["passes"] = base.passes.changed(parse_pass_options(said.pass_options))
    converter = {"inputs": list(said.inputs), "signature_key": said.signature_key}
    options = parse_json(base.converter.encode(), "converter options")
    assert isinstance(options, dict)  # noqa: S101 - a recipe's converter options are a table
    changes["converter"] = canonical_json(options | {k: v for k, v in converter.items() if v}).decode()
    return dataclasses.replace(
        base, **changes, gate=_changed_gate(base.gate, {k: v for k, v in gate.items() if v is not None})
    )


def module_from(text: str | None) -> UserModule | None:
    """Return the file and the name in it from ``FILE.py:NAME``.

    Raises:
        RecipeError: it is written in another way, or there is no such file.
    """
    if text is None:
        return None
    name, _, entry = text.rpartition(":")
    if not name or not entry.isidentifier():
        raise RecipeError(f"--module {text!r}: expected FILE.py:NAME", hint="for example --module net.py:Net")
    if not Path(name).is_file():
        raise RecipeError(f"--module {text!r}: there is no file {name}")
    return UserModule(path=Path(name), entry=entry)


def data_from(path: Path | None, option: str) -> Path | DataFunction | None:
    """Return the file or folder of data, or the function of ``FILE.py:FUNCTION`` or ``FILE.py:FUNCTION:PATH``.

    Raises:
        RecipeError: there is no such file.
    """
    found = _DATA_FUNCTION.fullmatch(str(path))
    if path is None or path.exists() or found is None:
        return path
    given = None if found["given"] is None else Path(found["given"])
    for needed in (Path(found["file"]), given):
        if needed is not None and not needed.exists():
            raise RecipeError(f"{option} {str(path)!r}: there is no {needed}")
    return DataFunction(path=Path(found["file"]), entry=found["entry"], given=given)


def metric_from(text: str | None) -> tuple[str | None, MetricFunction | None]:
    """Return the name of a metric, or the user's own one from ``FILE.py:FUNCTION``.

    Raises:
        RecipeError: there is no such file.
    """
    if text is None or ":" not in text:
        return text, None
    name, _, entry = text.rpartition(":")
    if not name or not entry.isidentifier():
        raise RecipeError(
            f"--metric {text!r}: expected a name or FILE.py:FUNCTION", hint="for example metric.py:note_f1"
        )
    if not Path(name).is_file():
        raise RecipeError(f"--metric {text!r}: there is no file {name}")
    return None, MetricFunction(path=Path(name), entry=entry)


def _changed_gate(gate: Gate, changes: dict[str, object]) -> Gate:
    return dataclasses.replace(gate, **changes)  # type: ignore[arg-type]


def trust_from(path: Path | None) -> TrustedKeys:
    """Return the trusted keys in `path`, else those of this folder's project, else the development identity's.

    Raises:
        FileError: it cannot be read.
        SchemaError: it is no trust file.
        KeyFileError: it holds another kind of key.
    """
    return load_trust(path if path is not None else _identity().trust)


def device_key_from(path: Path | None, passphrase: PassphraseSource | None) -> DeviceKey:
    """Return the device key in `path`, else that of this folder's project, else the development identity's.

    Raises:
        FileError: the development identity cannot be made.
        KeyFileError: it cannot be read or opened, or holds another kind of key.
    """
    return load_device_key(path if path is not None else _identity().device_key, passphrase)


def _identity() -> Identity:
    project = identity_in(Path("keys"))
    if Path(FILE_NAME).exists() and project.trust.exists():
        return project
    return development_identity()


def key_id_from(text: str) -> bytes:
    """Return the key id a user named: 64 hex digits, or the public key or enrolment record in a file.

    Raises:
        KeyFileError: it is none of these.
    """
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return bytes.fromhex(text)
    path = Path(text)
    if path.suffix == ".json":
        return read_recipient(path).key_id
    key = read_key(path)
    if key.public_key is None:
        raise KeyFileError(f"{path}: this is an encrypted private key", hint="name its public half, or its key id")
    return key_id(key.public_key)


def enrolled_from(
    names: tuple[str, str], out: Path, keys: tuple[Path | None, Path | None], passphrase: PassphraseSource
) -> Enrolled:
    """Return what enrolling a device wrote.

    Args:
        names: of the device, and of its profile.
        out: the folder for it.
        keys: a private key that exists, or a public one; neither makes a new key.
        passphrase: asked if the private key is encrypted.

    Raises:
        RecipeError: both keys were named.
        EdgepackError: the profile is unknown, or a file cannot be read or written.
    """
    (name, profile), (private, public) = names, keys
    profile = load_profile(profile).name
    if public is None:
        return enroll_device(name, profile, out, key=private, passphrase=passphrase)
    if private is not None:
        raise RecipeError("--key and --public exclude each other")
    enrolment = Enrolment(name=name, profile=profile, public_key=load_recipient(public))
    return Enrolled(enrolment=enrolment, record=write_record(enrolment, out), key=None)


def new_passphrase(
    role: str, out: Path, source: tuple[Path | None, int | None], *, no_passphrase: bool
) -> bytes | None:
    """Return the passphrase for a new key, or None for a key that stays unencrypted.

    Args:
        role: of the key; a device key is needed when nobody is there, so it has a passphrase only if one is named.
        out: names the key when asking.
        source: the file or the descriptor that was named.
        no_passphrase: whether the user said so.

    Raises:
        RecipeError: a passphrase was named and refused at once.
        KeyFileError: it cannot be read, or there is no terminal to ask on.
    """
    named = source != (None, None)
    if no_passphrase and named:
        raise RecipeError("--no-passphrase and a passphrase exclude each other")
    if named:
        return passphrase_from(*source)(str(out))
    if no_passphrase or role == "device":
        return None
    return ask_terminal_twice(f"{out} ({role} key)")
