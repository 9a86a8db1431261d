"""The manifest: what a bundle says of itself, signed and readable without a key.

Loader-critical facts (profile, engine, versions, sizes) stand in the binary table of the signed region; the manifest
holds what people and tools read: tensor specs, provenance, evidence. See ``docs/bundle-format.md``, Manifest.
"""

from __future__ import annotations

from edgepack_runtime._data import dataclass
from edgepack_runtime._fields import Fields, canonical_json, parse_json
from edgepack_runtime.errors import FormatError, SchemaError
from edgepack_runtime.processing import Processing, take_processing
from edgepack_runtime.profile import SCHEMES, DeviceProfile
from edgepack_runtime.table import is_name
from edgepack_runtime.tensors import TensorSpec

__all__ = [
    "AS_IS",
    "MAX_REQUIREMENTS",
    "MIXED",
    "VERDICTS",
    "Evidence",
    "Golden",
    "Manifest",
    "ModelDescription",
    "Provenance",
    "Requirement",
    "Step",
]

_VERSION = 1
MAX_REQUIREMENTS = 64
# A source that was quantized by its author and is shipped as it came.
AS_IS = "as_is"
# Its layers differ in precision.
MIXED = "mixed"
VERDICTS = ("measured", "emulated", "estimated", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """The model entry: how it is quantized and what it takes and gives, in the source's names and order.

    A `stateful` model keeps variables from run to run: its golden tensors are one stream, from its first state on.
    """

    entry: str
    scheme: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stateful: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """The golden tensors: real inputs with the outputs that were accepted at build.

    The entry is raw little-endian bytes: for each of `samples`, every input and then every output in the manifest's
    order. `tolerance` is the largest difference allowed on replay, as a share of each output's range over all
    samples; 0 means equal to the bit.
    """

    entry: str
    samples: int
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the build; digests are SHA-256 (hex)."""

    use: str
    tool: str
    options: str
    input_digest: str
    output_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where the model comes from and what was done to it."""

    tool: str
    source_format: str
    source_digest: str
    calibration_digest: str
    evaluation_digest: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One thing that was checked before signing: what was found, what was wanted, and how it is known.

    `value`, `low` and `high` are a figure with its 95 % interval where the check has one.
    """

    check: str
    holds: bool
    verdict: str
    found: str
    wanted: str
    environment: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """Another product that a device has to have accepted, in this security version or a later one."""

    product: str
    security_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything a bundle says of itself beside the binary table."""

    name: str
    version: str
    licence: str
    profile: DeviceProfile
    model: ModelDescription
    golden: Golden
    labels: tuple[str, ...]
    provenance: Provenance
    evidence: tuple[Evidence, ...]
    requires: tuple[Requirement, ...] = ()
    processing: Processing | None = None

    def to_bytes(self) -> bytes:
        """Return the canonical JSON text `from_bytes` reads."""
        requires = [{"product": r.product, "security_version": r.security_version} for r in self.requires]
        return canonical_json(
            {
                "manifest": _VERSION,
                "name": self.name,
                "version": self.version,
                "licence": self.licence,
                "profile": self.profile.to_json(),
                "model": {
                    "entry": self.model.entry,
                    "scheme": self.model.scheme,
                    "inputs": [spec.to_json() for spec in self.model.inputs],
                    "outputs": [spec.to_json() for spec in self.model.outputs],
                    "stateful": self.model.stateful,
                },
                "golden": {
                    "entry": self.golden.entry,
                    "samples": self.golden.samples,
                    "tolerance": self.golden.tolerance,
                },
                "labels": list(self.labels),
                "provenance": _provenance_to_json(self.provenance),
                "evidence": [_evidence_to_json(item) for item in self.evidence],
            }
            | ({"requires": requires} if requires else {})
            | ({} if self.processing is None else {"processing": self.processing.to_json()})
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Return the manifest of a verified bundle.

        Raises:
            FormatError: it is no manifest of this version; the message names the field.
        """
        try:
            return cls._read(Fields(parse_json(data, "manifest"), "manifest"))
        except SchemaError as error:
            raise FormatError(error.message, hint=error.hint) from None

    @classmethod
    def _read(cls, fields: Fields) -> Manifest:
        if (version := fields.take("manifest", int)) != _VERSION:
            fields.refuse("manifest", f"version {version} is not known here")
        manifest = cls(
            name=fields.take("name", str),
            version=fields.take("version", str),
            licence=fields.take("licence", str),
            profile=DeviceProfile.from_fields(fields.take_table("profile")),
            model=_model(fields.take_table("model")),
            golden=_golden(fields.take_table("golden")),
            labels=fields.take_strings("labels"),
            provenance=_provenance(fields.take_table("provenance")),
            evidence=tuple(_evidence(item) for item in fields.take_tables("evidence")),
            requires=_requires(fields),
            processing=_processing(fields),
        )
        if manifest.name in {required.product for required in manifest.requires}:
            fields.refuse("requires", f"{manifest.name} requires itself")
        fields.finish()
        return manifest


def _processing(fields: Fields) -> Processing | None:
    if "processing" not in fields.names():
        # So that a wrong name is told together with the right ones.
        return fields.take("processing", Processing, None)
    return take_processing(fields.take_table("processing"))


def _requires(fields: Fields) -> tuple[Requirement, ...]:
    if "requires" not in fields.names():
        # Taken all the same, so that whoever misspells it is told this name.
        return tuple(fields.take("requires", list, []))
    found = tuple(_requirement(item) for item in fields.take_tables("requires"))
    if not 1 <= len({required.product for required in found}) == len(found) <= MAX_REQUIREMENTS:
        fields.refuse("requires", f"expected 1 to {MAX_REQUIREMENTS} products, none of them twice")
    return found


def _requirement(fields: Fields) -> Requirement:
    required = Requirement(product=fields.take("product", str), security_version=fields.take("security_version", int))
    if not is_name(required.product) or required.security_version < 1:
        fields.refuse("product", "expected a product's name and a security version of at least 1")
    fields.finish()
    return required


def _model(fields: Fields) -> ModelDescription:
    model = ModelDescription(
        entry=fields.take("entry", str),
        scheme=fields.take_choice("scheme", (*SCHEMES, MIXED, AS_IS)),
        inputs=tuple(TensorSpec.from_fields(f) for f in fields.take_tables("inputs")),
        outputs=tuple(TensorSpec.from_fields(f) for f in fields.take_tables("outputs")),
        stateful=fields.take("stateful", bool),
    )
    fields.finish()
    return model


def _golden(fields: Fields) -> Golden:
    golden = Golden(
        entry=fields.take("entry", str),
        samples=fields.take("samples", int),
        tolerance=fields.take("tolerance", float),
    )
    if golden.samples < 1 or not 0 <= golden.tolerance <= 1:
        fields.refuse("samples", "expected at least one sample and a tolerance from 0 to 1")
    fields.finish()
    return golden


def _provenance_to_json(provenance: Provenance) -> dict[str, object]:
    return {
        "tool": provenance.tool,
        "source_format": provenance.source_format,
        "source_digest": provenance.source_digest,
        "calibration_digest": provenance.calibration_digest,
        "evaluation_digest": provenance.evaluation_digest,
        "steps": [
            {
                "use": step.use,
                "tool": step.tool,
                "options": step.options,
                "input_digest": step.input_digest,
                "output_digest": step.output_digest,
            }
            for step in provenance.steps
        ],
        "notes": list(provenance.notes),
    }


def _provenance(fields: Fields) -> Provenance:
    steps = []
    for item in fields.take_tables("steps"):
        steps.append(
            Step(
                use=item.take("use", str),
                tool=item.take("tool", str),
                options=item.take("options", str),
                input_digest=item.take("input_digest", str),
                output_digest=item.take("output_digest", str),
            )
        )
        item.finish()
    provenance = Provenance(
        tool=fields.take("tool", str),
        source_format=fields.take("source_format", str),
        source_digest=fields.take("source_digest", str),
        calibration_digest=fields.take("calibration_digest", str),
        evaluation_digest=fields.take("evaluation_digest", str),
        steps=tuple(steps),
        notes=fields.take_strings("notes"),
    )
    fields.finish()
    return provenance


def _evidence_to_json(item: Evidence) -> dict[str, object]:
    table: dict[str, object] = {
        "check": item.check,
        "holds": item.holds,
        "verdict": item.verdict,
        "found": item.found,
        "wanted": item.wanted,
        "environment": item.environment,
    }
    figures = {"value": item.value, "low": item.low, "high": item.high}
    return table | {name: figure for name, figure in figures.items() if figure is not None}


def _evidence(fields: Fields) -> Evidence:
    evidence = Evidence(
        check=fields.take("check", str),
        holds=fields.take("holds", bool),
        verdict=fields.take_choice("verdict", VERDICTS),
        found=fields.take("found", str),
        wanted=fields.take("wanted", str),
        environment=fields.take("environment", str),
        value=fields.take("value", float, None),
        low=fields.take("low", float, None),
        high=fields.take("high", float, None),
    )
    fields.finish()
    return evidence
