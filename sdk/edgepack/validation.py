"""Check a finished bundle against a profile, one check after the other, and say of each what was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepack.candidate import environment_of, memory_evidence, under
from edgepack.errors import WorkerError
from edgepack.fit import check_fit
from edgepack.lab import LabRequest, run_in_lab
from edgepack.limits import check_limits
from edgepack.pack import Contents
from edgepack.proof import prove_on_board
from edgepack.userland import Userland
from edgepack.worker import Workplace
from edgepack_runtime.admission import check_consistent
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.compression import supported
from edgepack_runtime.errors import BundleError, EngineError
from edgepack_runtime.golden import GoldenSample, compare_golden, pack_golden
from edgepack_runtime.grants import DeviceKey
from edgepack_runtime.manifest import Evidence, Manifest
from edgepack_runtime.profile import DeviceProfile
from edgepack_runtime.selftest import read_golden
from edgepack_runtime.sidecar import sidecar_grants
from edgepack_runtime.trust import TrustedKeys
from edgepack_runtime.verify import Policy, UnlockedBundle, VerifiedBundle, verify

__all__ = ["Benches", "Report", "validate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benches:
    """Where a bundle is run: environments with the profile's exact engine, and its emulated board, if any.

    `engines` are in the order of the profile's versions; without any, nothing is run, and the report says so.
    """

    engines: tuple[Workplace, ...]
    board: Userland | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every check in order; one that could not be made because an earlier one failed is not in it."""

    path: Path
    profile: DeviceProfile
    checks: tuple[Evidence, ...]

    @property
    def good(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)


def _check(name: str, holds: bool, found: str, wanted: str, verdict: str = "measured") -> Evidence:
    return Evidence(check=name, holds=holds, verdict=verdict, found=found, wanted=wanted, environment="this machine")


def validate(
    path: Path, profile: DeviceProfile, trust: TrustedKeys, key: DeviceKey | None, benches: Benches
) -> Report:
    """Return what holds of the bundle at `path` on `profile`, and what does not.

    Args:
        path: the bundle.
        profile: the profile it shall run on.
        trust: the release keys it must be signed by.
        key: a device key that opens it; None will do for one that is not encrypted.
        benches: where it is run.

    Raises:
        FileError: the file cannot be read.
        EdgepackError: something beside the bundle is wrong.
    """
    checks: list[Evidence] = []
    with BundleFile(path) as file:
        size = file.container.preamble.file_length
        try:
            bundle = verify(file.container, trust, Policy(profile=None, compressions=supported()))
        except BundleError as error:
            checks.append(_check("signature", False, error.message, "signed by a trusted release key"))
            return Report(path=path, profile=profile, checks=tuple(checks))
        checks += _identity(bundle, profile, size)
        try:
            manifest = Manifest.from_bytes(bundle.manifest)
            check_consistent(bundle, manifest)
        except BundleError as error:
            checks.append(_check("manifest", False, error.message, "what this edgepack can read"))
            return Report(path=path, profile=profile, checks=tuple(checks))
        try:
            with bundle.unlock(key, sidecar_grants(file.container, key, path)) as unlocked:
                model = _read_model(unlocked, manifest, file)
                golden = read_golden(unlocked, manifest, file)
        except BundleError as error:
            checks.append(_check("decryption", False, error.message, "opens with the device key, unaltered"))
            return Report(path=path, profile=profile, checks=tuple(checks))
    checks.append(
        _check("decryption", True, f"{len(bundle.entries)} entries, unaltered", "opens with the device key")
    )
    specs = manifest.model
    for finding in (*check_fit(model, profile), *check_limits(specs.inputs, specs.outputs, profile)):
        checks.append(
            Evidence(
                check=finding.check,
                holds=finding.holds,
                verdict=finding.verdict,
                found=finding.found if finding.holds else f"{finding.found}; {finding.remedy}",
                wanted=finding.wanted,
                environment="static",
            )
        )
    if not benches.engines:
        checks.append(_check("golden outputs", True, "not replayed", "replayed under the engine", "unknown"))
        return Report(path=path, profile=profile, checks=tuple(checks))
    for version, place in zip(profile.engine.versions, benches.engines, strict=True):
        checks += _replayed(model, manifest, golden, under(profile, version), place)
    if benches.board is not None:
        contents = Contents(model=model, golden=pack_golden(golden, manifest.model.inputs, manifest.model.outputs))
        # The profile asked for may differ from the one it was built for; the bundle is told from its own.
        here = replace(manifest, profile=profile)
        checks.append(prove_on_board(contents, here, golden, benches.board, benches.engines[0].log))
    return Report(path=path, profile=profile, checks=tuple(checks))


def _identity(bundle: VerifiedBundle, profile: DeviceProfile, size: int) -> list[Evidence]:
    header = bundle.header
    signers = ", ".join(key.hex()[:16] for key in bundle.signers)
    here = f"{profile.engine.name} {' or '.join(profile.engine.versions)}"
    engines = [f"{profile.engine.name} {version}" for version in profile.engine.versions]
    proven = f"{header.engine} {header.engine_version}"
    budget = profile.budget.storage_bytes
    return [
        _check("signature", True, f"signed by {signers}", "signed by a trusted release key"),
        _check("profile", header.profile == profile.name, f"built for {header.profile}", f"built for {profile.name}"),
        _check("engine", proven in engines, f"proven under {proven}", f"proven under {here}"),
        _check("bundle storage", size <= budget, f"{size:,} bytes", f"at most {budget:,} bytes"),
    ]


def _read_model(unlocked: UnlockedBundle, manifest: Manifest, file: BundleFile) -> bytes:
    buffer = bytearray(unlocked.bundle.entry(manifest.model.entry).content_length)
    unlocked.read_entry(manifest.model.entry, file.read, memoryview(buffer))
    return bytes(buffer)


def _replayed(
    model: bytes, manifest: Manifest, golden: tuple[GoldenSample, ...], profile: DeviceProfile, engine: Workplace
) -> list[Evidence]:
    tolerance = manifest.golden.tolerance
    feeds = {spec.name: np.stack([g.inputs[spec.name] for g in golden]) for spec in manifest.model.inputs}
    wanted_engine = profile.engine
    request = LabRequest(
        model=model,
        engine=wanted_engine.name,
        version=wanted_engine.version,
        num_threads=wanted_engine.num_threads,
        feeds=feeds,
        ram_budget=profile.budget.ram_bytes,
    )
    wanted = f"at most {tolerance:.2%} of the range from the signed outputs"
    try:
        lab = run_in_lab(request, engine)
    except (EngineError, WorkerError) as error:
        return [_check("golden outputs", False, error.message, wanted)]
    replay = compare_golden(lab.outputs, golden, tolerance)
    where = environment_of(profile, lab)
    return [
        memory_evidence(profile, lab),
        Evidence(
            check="golden outputs",
            holds=replay.holds,
            verdict="measured",
            found=f"{replay.samples} samples, largest difference {replay.error:.2%} ({replay.output})",
            wanted=wanted,
            environment=where,
            value=replay.error,
        ),
    ]
