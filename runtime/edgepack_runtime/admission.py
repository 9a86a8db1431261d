"""What must be true of a verified bundle before its model is handed to an engine here."""

from __future__ import annotations

from edgepack_runtime.device import Device
from edgepack_runtime.engines import installed
from edgepack_runtime.errors import EngineError, FormatError, IncompatibleError
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.tensors import TensorSpec
from edgepack_runtime.verify import VerifiedBundle

__all__ = ["check_consistent", "check_engine", "check_required", "check_specs"]


def check_consistent(bundle: VerifiedBundle, manifest: Manifest) -> None:
    """Refuse a bundle whose manifest tells another story than its binary table.

    Raises:
        FormatError: they disagree.
    """
    header, profile = bundle.header, manifest.profile
    table = (header.product, header.profile, header.engine, header.engine_version, header.profile_digest)
    told = (manifest.name, profile.name, profile.engine.name, profile.engine.version, profile.digest())
    if table != told:
        raise FormatError("the manifest disagrees with the signed table about product, profile or engine")


def check_engine(manifest: Manifest, device: Device) -> bool:
    """Return whether the engine here is one the bundle was proven under; refuse where that matters.

    Nothing is proven under a delegate that is no part of the engine's wheel.

    Raises:
        EngineError: it is not installed.
        IncompatibleError: it is of another version, and this device takes no other.
    """
    required = manifest.profile.engine
    wanted, version = required.name, required.version
    here = dict(installed())
    if wanted not in here:
        raise EngineError(
            f"the bundle runs on {wanted} {version}, which is not installed"
            + (f" (here is {', '.join(f'{n} {v}' for n, v in here.items())})" if here else ""),
            hint=f"pip install '{wanted}=={version}'" + (" 'numpy<2'" if wanted == "tflite-runtime" else ""),
        )
    if here[wanted] in required.versions:
        return not required.libraries
    if device.engine_policy == "exact":
        raise IncompatibleError(
            f"proven under {wanted} {' and '.join(required.versions)}, here is {wanted} {here[wanted]}",
            hint=f"pip install '{wanted}=={version}', or set engine_policy to 'self-test' on this device",
        )
    return False


def check_required(manifest: Manifest, device: Device) -> None:
    """Refuse a bundle that requires more of another product than this device has accepted.

    What it has accepted is the version floor: nothing older of that product is ever opened here again. A bundle of
    the other product that is still on trial does not count yet.

    Raises:
        IncompatibleError: it does; the message names the product.
        StateError: the device has a state folder, and no good state in it.
        FileError: the state cannot be read.
    """
    # Most bundles require nothing, and then the state need not be read again.
    floors = device.floors() if manifest.requires else {}
    for required in manifest.requires:
        floor = floors.get(required.product, 0)
        if floor < required.security_version:
            raise IncompatibleError(
                f"{manifest.name} requires {required.product} in security version {required.security_version} or "
                f"later, this device has accepted {floor or 'none'}",
                hint=f"install and activate {required.product} {required.security_version} or later first",
            )


def check_specs(told: tuple[TensorSpec, ...], found: tuple[TensorSpec, ...]) -> None:
    """Refuse an engine whose inputs or outputs are others than the manifest promises.

    Raises:
        FormatError: they differ.
    """

    def shape_of(specs: tuple[TensorSpec, ...]) -> set[tuple[str, str, tuple[int, ...]]]:
        return {(spec.name, spec.dtype, spec.shape) for spec in specs}

    if shape_of(told) != shape_of(found):
        raise FormatError(
            f"the manifest promises {'; '.join(map(str, told))}, the model has {'; '.join(map(str, found))}"
        )
