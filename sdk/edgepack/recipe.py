"""What a build is asked for: `edgepack.toml` or the command line, as frozen data.

Relative paths in a file are relative to the file. Unknown fields are refused, with the nearest known one.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgepack._toml import MAX_TOML_BYTES, parse_toml
from edgepack.detector import Detector
from edgepack.errors import RecipeError
from edgepack.gate import Gate, take_gate
from edgepack.optimize import Optimize, take_optimize
from edgepack.passoptions import PassOptions, check_options, take_passes
from edgepack.preparation import Preparation, take_preparation
from edgepack.reading import DataFunction, Reading, take_reading
from edgepack.signers import is_key_uri
from edgepack.training_steps import TrainingStep, take_training
from edgepack_runtime._fields import Fields, canonical_json
from edgepack_runtime._files import read_capped
from edgepack_runtime.errors import FileError, SchemaError
from edgepack_runtime.manifest import MAX_REQUIREMENTS, MIXED, Requirement
from edgepack_runtime.profile import SCHEMES

__all__ = [
    "AUTO",
    "FILE_NAME",
    "LAYOUTS",
    "MAX_HALVES",
    "Layout",
    "Recipe",
    "UserModule",
    "expiry",
    "load_recipe",
    "parse_layout",
    "parse_requires",
    "parse_schemes",
    "product_name",
]

FILE_NAME = "edgepack.toml"
AUTO = "auto"
MAX_HALVES = 20
LAYOUTS = ("source", "nhwc", "nchw")
# As `edgepack_runtime.table` has them, so that a name is refused now and not after hours of work.
_PRODUCT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layout of the bundle's images: `everywhere` for all of them, `by_name` for single inputs and outputs."""

    everywhere: str
    by_name: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserModule:
    """The user's own Python file, and the name in it of the class or function that builds the network."""

    path: Path
    entry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One build: a source model, its data, the profiles to build for, the gate, and the keys.

    `schemes` are quantization schemes to try in this order, the first good one is shipped; empty means the profile's
    preferred one, and ``("auto",)`` every one the profile supports. `converter` is JSON of the converter's options.
    `training` are the steps, in this order, that train the source further on `training_set` before it is converted.
    `signing_key` is the path of a PEM file or a key URI. `requires` is as for `parse_requires`.
    `expires` is a day or a number of days, for `expiry`.
    `compress` makes bundles that only devices with zstandard open; `emulate` has each of them run on its emulated
    board first; with `keep_names` the model is not made `edgepack.lean`. `calibration_halves` is how often a model is
    made again from half of the samples. `via` are the roads the conversion may take (`edgepack.roads`), empty means
    all, `layout` is as for `parse_layout`. `trust_source` lets code in the source model run, `module` is the user's
    own code, as is a function that makes data; none of them can stand in a file, which may come from a stranger.

    Raises:
        RecipeError: a name or figure is wrong; the message says which are possible.
    """

    model: Path
    calibration: Path | DataFunction
    profiles: tuple[str, ...]
    output: Path
    name: str = ""
    version: str = "1"
    licence: str = ""
    labels: Path | None = None
    evaluation: Path | DataFunction | None = None
    training_set: Path | DataFunction | None = None
    training: tuple[TrainingStep, ...] = ()
    calibration_halves: int = 0
    reading: Reading = field(default_factory=Reading)
    gate: Gate = field(default_factory=Gate)
    optimize: Optimize = field(default_factory=Optimize)
    processing: Preparation | None = None
    schemes: tuple[str, ...] = ()
    passes: PassOptions = field(default_factory=PassOptions)
    converter: str = "{}"
    via: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    trust_source: bool = False
    module: UserModule | None = None
    security_version: int = 1
    requires: tuple[str, ...] = ()
    expires: str = ""
    compress: bool = False
    emulate: bool = False
    keep_names: bool = False
    signing_key: str | None = None
    recipients: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        parse_schemes(self.schemes)
        _known_passes(self.passes)
        parse_layout(self.layout)
        if not self.profiles:
            raise RecipeError(
                "no device profile is named", hint="`edgepack profiles list` shows them; use --profile NAME"
            )
        if len(set(self.profiles)) != len(self.profiles):
            raise RecipeError(f"a profile is named twice: {', '.join(self.profiles)}")
        if not _PRODUCT.fullmatch(self.product) or not _PRODUCT.fullmatch(self.version):
            raise RecipeError(
                f"{self.product!r} version {self.version!r}: names are 1 to 31 of A-Z, a-z, 0-9, '.', '_', '-', "
                "the first a letter or digit",
                hint="set them with --name and --model-version",
            )
        if self.training and self.training_set is None:
            raise RecipeError(
                f"training step {self.training[0].use!r} without a training set",
                hint="name it with --training-set FILE",
            )
        if sum(step.teacher is not None for step in self.training) > 1:
            raise RecipeError("two training steps have a teacher; the gate holds the student against one")
        if self.training_set is not None and not self.training:
            raise RecipeError(
                f"the training set {self.training_set} trains nothing",
                hint="name a step, such as --train prune:sparsity=0.8",
            )
        if self.calibration_halves not in (0, *range(2, MAX_HALVES + 1)):
            raise RecipeError(f"calibration_halves {self.calibration_halves} is neither 0 nor from 2 to {MAX_HALVES}")
        if not 0 <= self.security_version < 2**63:
            raise RecipeError(f"security_version {self.security_version} is not from 0 to 2^63 - 1")
        object.__setattr__(self, "gate", self.gate.with_detector(_detector(self.processing)))
        _days_or_day(self.expires)
        parse_requires(self.requires, self.product)

    @property
    def product(self) -> str:
        """The bundle's product name: `name`, else the model file's, made to fit."""
        stem = self.model.name if self.model.is_dir() else self.model.stem
        return self.name or product_name(stem)


def _detector(processing: Preparation | None) -> Detector | None:
    if processing is None or processing.declared.boxes is None:
        return None
    return Detector(boxes=processing.declared.boxes, size=processing.size)


def _days_or_day(text: str) -> int | datetime.date | None:
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,5}", text) and int(text):
        return int(text)
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise RecipeError(
            f"expires {text!r} is neither a day (2027-06-30) nor a number of days from 1 to 99999"
        ) from None


def expiry(expires: str, created: int) -> int:
    """Return the unix seconds from which on no device installs a bundle; 0 is never.

    Args:
        expires: a day, which begins at 00:00 UTC; or a number of days from `created` on; or nothing.
        created: unix seconds, when the bundle is signed.

    Raises:
        RecipeError: it is none of these, or that day has begun.
    """
    found = _days_or_day(expires)
    if found is None:
        return 0
    if isinstance(found, int):
        return created + found * 86_400
    moment = int(datetime.datetime.combine(found, datetime.time(), datetime.timezone.utc).timestamp())
    if moment <= created:
        raise RecipeError(f"expires {expires!r}: that day has begun (UTC), and no device could install the bundle")
    return moment


def product_name(stem: str) -> str:
    """Return a product name made from a model's file name without its ending."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:31] or "model"


def parse_requires(items: Sequence[str], product: str) -> tuple[Requirement, ...]:
    """Return what a user demands of the other products on the device: ``PRODUCT=SECURITY_VERSION`` each.

    Raises:
        RecipeError: one is written in another way, is of `product` itself or stands twice, or there are too many.
    """
    found: dict[str, int] = {}
    for item in items:
        name, _, version = item.rpartition("=")
        if not _PRODUCT.fullmatch(name) or not re.fullmatch(r"[1-9][0-9]{0,14}", version):
            raise RecipeError(
                f"requires {item!r}: expected PRODUCT=SECURITY_VERSION", hint="for example classifier=3: 3 or later"
            )
        if name in (product, *found):
            raise RecipeError(
                f"requires {item!r}: {'a bundle cannot require itself' if name == product else 'twice'}"
            )
        found[name] = int(version)
    if len(found) > MAX_REQUIREMENTS:
        raise RecipeError(f"requires {len(found)} other products, at most {MAX_REQUIREMENTS} are allowed")
    return tuple(Requirement(product=name, security_version=version) for name, version in sorted(found.items()))


def parse_schemes(names: Sequence[str]) -> tuple[str, ...]:
    """Return the schemes a user named, checked.

    Raises:
        RecipeError: one is unknown, or ``auto`` stands beside others.
    """
    for name in names:
        known = (*SCHEMES, MIXED, AUTO)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise RecipeError(
                f"precision {name!r} is not known" + (f" (did you mean {near[0]!r}?)" if near else ""),
                hint=f"there are {', '.join(known[:-1])} and {AUTO}: the first of the profile's that passes the gate",
            )
    if AUTO in names and len(names) > 1:
        raise RecipeError("precision 'auto' already means all of them; name it alone")
    return tuple(names)


def _known_passes(options: PassOptions) -> None:
    for name in options.by_pass:
        if name not in (*SCHEMES, MIXED):
            raise RecipeError(
                f"passes.{name}: there is no such pass", hint=f"known are {', '.join(SCHEMES)}, {MIXED}"
            )
    check_options(options)


def parse_layout(items: Sequence[str]) -> Layout:
    """Return the layouts a user named: one for all images, or ``NAME=nhwc`` for an input or output.

    Raises:
        RecipeError: one is unknown, or two are said of the same.
    """
    said: dict[str, str] = {}
    for item in items:
        name, _, layout = item.rpartition("=")
        if layout not in LAYOUTS:
            near = difflib.get_close_matches(layout.lower(), LAYOUTS, n=1, cutoff=0.4)
            raise RecipeError(
                f"layout {item!r} is not known" + (f" (did you mean {near[0]!r}?)" if near else ""),
                hint=f"known are {', '.join(LAYOUTS)}, for all images or, as NAME=nhwc, for one input or output",
            )
        if name in said:
            raise RecipeError(f"layout: {name or 'all images'} cannot be {said[name]} and {layout}")
        said[name] = layout
    return Layout(everywhere=said.pop("", "source"), by_name=said)


def load_recipe(path: Path) -> Recipe:
    """Return the recipe in a TOML file.

    Raises:
        RecipeError: it cannot be read, is no TOML, or a field is missing, unknown or wrong.
    """
    try:
        table = parse_toml(read_capped(path, MAX_TOML_BYTES), path.name, RecipeError)
        return _read(Fields(table, path.name), path.parent)
    except FileError as error:
        raise RecipeError(error.message, hint="`edgepack init` writes one") from None
    except SchemaError as error:
        raise RecipeError(error.message, hint=error.hint) from None


def _read(fields: Fields, base: Path) -> Recipe:
    model = fields.take_table("model")
    data = fields.take_table("data")
    build = fields.take_table("build")
    gate = fields.take_table("gate", {})
    keys = fields.take_table("keys", {})
    optimize = fields.take_table("optimize", {})
    passes = fields.take_table("passes", {})
    converter = fields.take("converter", dict, {})
    try:
        options = canonical_json(converter).decode()
    except (TypeError, ValueError):
        fields.refuse("converter", "a converter's options are text, numbers, true/false, lists and tables")
    recipe = Recipe(
        model=base / model.take("path", str),
        name=model.take("name", str, ""),
        version=model.take("version", str, "1"),
        licence=model.take("licence", str, ""),
        labels=_optional(base, model.take("labels", str, None)),
        calibration=base / data.take("calibration", str),
        evaluation=_optional(base, data.take("evaluation", str, None)),
        training_set=_optional(base, data.take("training", str, None)),
        training=take_training(fields, base),
        calibration_halves=data.take("calibration_halves", int, 0),
        reading=take_reading(data),
        profiles=build.take_strings("profiles"),
        schemes=build.take_strings("precision", ()),
        output=base / build.take("output", str, "dist"),
        security_version=build.take("security_version", int, 1),
        requires=build.take_strings("requires", ()),
        expires=_expires(build),
        compress=build.take("compress", bool, False),
        emulate=build.take("emulate", bool, False),
        keep_names=build.take("keep_names", bool, False),
        via=build.take_strings("via", ()),
        layout=_layout(build),
        converter=options,
        gate=take_gate(gate),
        optimize=take_optimize(optimize),
        processing=take_preparation(fields),
        passes=take_passes(passes),
        signing_key=_signing_key(base, keys.take("signing", str, None)),
        recipients=tuple(base / item for item in keys.take_strings("recipients", ())),
    )
    for table in (model, data, build, keys, optimize, passes, fields):
        table.finish()
    return recipe


def _expires(build: Fields) -> str:
    value = build.take("expires", object, "")
    if not isinstance(value, int | str | datetime.date):
        build.refuse("expires", 'expected a day ("2027-06-30") or a number of days')
    # A date of TOML's own with a time keeps it here, and is refused as no day.
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def _layout(build: Fields) -> tuple[str, ...]:
    value = build.take("layout", object, ())
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        build.refuse("layout", 'expected "nhwc", or a list of texts like "image=nhwc"')
    return tuple(str(item) for item in items)


def _optional(base: Path, name: str | None) -> Path | None:
    return None if name is None else base / name


def _signing_key(base: Path, uri: str | None) -> str | None:
    if uri is None or is_key_uri(uri):
        # A project file may come from a stranger, and a token's module is a program.
        if uri is not None and "module-path=" in uri:
            raise RecipeError(
                f"{FILE_NAME}: keys.signing must not name a module-path: it would be loaded as a program",
                hint="name the module in the environment variable PKCS11_MODULE, or the whole URI with --key",
            )
        return uri
    return str(base / uri)
