"""`edgepack-device`: inspect, verify and run bundles on the device. Parses, calls, prints."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgepack_runtime import __version__
from edgepack_runtime._files import drop_standard_output, print_any_name
from edgepack_runtime.cli_model import add_bench_options, add_predict_options
from edgepack_runtime.cli_probe import add_probe_command
from edgepack_runtime.cli_state import add_state_commands
from edgepack_runtime.cli_store import add_store_commands
from edgepack_runtime.errors import EdgepackError, FileError, InputError

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

    from edgepack_runtime.device import Device
    from edgepack_runtime.manifest import Manifest
    from edgepack_runtime.tensors import Array
    from edgepack_runtime.verify import VerifiedBundle

__all__ = ["main"]

# How many bytes Deflate makes of one at most.
_DEFLATE = 1032


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 for good, 1 for refused, 2 for wrong usage."""
    print_any_name()
    try:
        try:
            return _run_command(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (`edgepack-device … | head`): nothing is left to say.
        drop_standard_output()
        return 1
    except OSError as error:
        drop_standard_output()
        what = error.filename or "standard output"
        print(f"edgepack-device: error: cannot use {_plain(str(what))}: {error.strerror or error}", file=sys.stderr)
        return 1


def _run_command(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    try:
        code: int = args.run(args)
    except EdgepackError as error:
        if args.json:
            print(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
        print(f"edgepack-device: error: {_plain(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {_plain(error.hint)}", file=sys.stderr)
        return 1
    return code


def _plain(text: str) -> str:
    r"""Return text that a terminal shows and does not obey: what cannot be printed is written as in ``\x1b``."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgepack-device", description="Inspect, verify and run edgepack bundles on this device."
    )
    parser.add_argument("--version", action="version", version=f"edgepack-runtime {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="say what a bundle is; needs no key")
    _add_common(inspect, without_device=True)
    inspect.set_defaults(run=_inspect)

    verify = commands.add_parser("verify", help="check signature and policy; with --self-test run it as well")
    _add_common(verify, without_device=True)
    verify.add_argument(
        "--self-test", action="store_true", help="decrypt, and replay the golden tensors on this engine"
    )
    _add_grants(verify)
    verify.set_defaults(run=_verify)

    run = commands.add_parser("run", help="run the model on the arrays of an .npz file")
    _add_common(run)
    run.add_argument("--input", type=Path, required=True, help=".npz with one array an input, each [n, ...]")
    run.add_argument("--output", type=Path, required=True, help=".npz to write, one array an output, each [n, ...]")
    run.add_argument("--signature-key", metavar="KEY", help="another signature of the model than its first")
    _add_grants(run)
    run.set_defaults(run=_run)

    for name, says, add_options in (
        ("bench", "time runs of the model on a golden input", add_bench_options),
        ("predict", "say what the model finds in a picture or a recording", add_predict_options),
    ):
        command = commands.add_parser(name, help=says)
        _add_common(command)
        _add_grants(command)
        add_options(command)

    trust = commands.add_parser("trust", help="show or update a trust document").add_subparsers(
        required=True, metavar="COMMAND"
    )
    show = trust.add_parser("show", help="say which keys count here, and what is revoked")
    which = show.add_mutually_exclusive_group(required=True)
    which.add_argument("trust", type=Path, nargs="?", help="a trust document")
    which.add_argument(
        "--device", type=Path, help="device.json: the document in force there, which its state may hold"
    )
    show.add_argument("--json", action="store_true", help="print the result as JSON")
    show.set_defaults(run=_trust_show)
    update = trust.add_parser("update", help="apply updates, each the next version, signed by old and new root keys")
    update.add_argument("updates", type=Path, nargs="+", metavar="update", help="the next versions, in any order")
    where = update.add_mutually_exclusive_group(required=True)
    where.add_argument("--device", type=Path, help="device.json: the update is kept in its state, if it has one")
    where.add_argument("--trust", type=Path, help="a trust document to replace; refused if an update resets floors")
    update.add_argument("--json", action="store_true", help="print the result as JSON")
    update.set_defaults(run=_trust_update)

    enroll = commands.add_parser("enroll", help="make this device's key and a record for the publisher")
    enroll.add_argument("--profile", required=True, help="the profile this device is")
    enroll.add_argument("--name", required=True, help="what the publisher shall call this device")
    enroll.add_argument("--out", type=Path, required=True, help="folder for device.key.pem and the record")
    enroll.add_argument("--key", type=Path, help="a device key that exists, instead of a new one")
    enroll.add_argument("--passphrase-file", type=Path, help="file whose first line opens --key")
    enroll.add_argument("--json", action="store_true", help="print the result as JSON")
    enroll.set_defaults(run=_enroll, usage=enroll.error)

    add_state_commands(commands)
    add_store_commands(commands)
    add_probe_command(commands)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, without_device: bool = False) -> None:
    parser.add_argument("bundle", type=Path, help="the .edgepack file")
    who = parser.add_mutually_exclusive_group(required=True) if without_device else parser
    who.add_argument(
        "--device", type=Path, required=not without_device, help="device.json: profile, trust and key of this device"
    )
    if without_device:
        who.add_argument("--trust", type=Path, help="instead of a device: a trust file, or a release key's .pub.pem")
        parser.add_argument("--profile", help="with --trust: the profile it must be built for")
        parser.set_defaults(usage=parser.error)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_grants(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grants", type=Path, help="sidecar file with this device's grant; default: BUNDLE.grant")


def _trust_show(args: argparse.Namespace) -> int:
    from edgepack_runtime.device import Device, trust_of
    from edgepack_runtime.trust_file import describe_trust, read_trust

    state = read_trust(args.trust) if args.device is None else trust_of(Device.from_file(args.device))
    _print_all(describe_trust(state.document), as_json=args.json)
    return 0


def _trust_update(args: argparse.Namespace) -> int:
    from edgepack_runtime.device import Device, update_trust_of
    from edgepack_runtime.trust_file import describe_trust, update_trust

    if args.device is None:
        state = update_trust(args.trust, args.updates)
    else:
        state = update_trust_of(Device.from_file(args.device), args.updates)
    _print_all(describe_trust(state.document), as_json=args.json)
    return 0


def _print_all(table: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(table))
        return
    for name, value in table.items():
        for item in value if isinstance(value, list) else [value]:
            print(_plain(f"{name.replace('_', ' '):16} {item}"))


def _enroll(args: argparse.Namespace) -> int:
    from edgepack_runtime.enrolment import enroll_device
    from edgepack_runtime.keyfiles import passphrase_in

    if args.passphrase_file is not None and args.key is None:
        args.usage("argument --passphrase-file: needs --key; a key made here has no passphrase")
    passphrase = None if args.passphrase_file is None else passphrase_in(args.passphrase_file)
    done = enroll_device(args.name, args.profile, args.out, key=args.key, passphrase=passphrase)
    if args.json:
        print(json.dumps(done.to_json()))
        return 0
    for line in done.lines():
        print(_plain(line))
    return 0


def _who(args: argparse.Namespace) -> Device:
    """Return the device the arguments describe: a file, or what a bundle can be held against without one."""
    from edgepack_runtime.device import Device, load_trust

    if args.device is not None:
        if args.profile is not None:
            args.usage("argument --profile: not allowed with argument --device, which has one")
        return Device.from_file(args.device)
    return Device(profile=args.profile, trust=load_trust(args.trust))


def _inspect(args: argparse.Namespace) -> int:
    from edgepack_runtime.session import verify_bundle

    bundle, manifest = verify_bundle(args.bundle, device=_who(args))
    if args.json:
        print(json.dumps({"signed_by": _signers(bundle), "manifest": json.loads(bundle.manifest)}, indent=2))
        return 0
    for line in _summary(bundle, manifest):
        print(_plain(line))
    return 0


def _signers(bundle: VerifiedBundle) -> list[str]:
    return [key.hex() for key in bundle.signers]


def _summary(bundle: VerifiedBundle, manifest: Manifest) -> list[str]:
    from edgepack_runtime.moments import expiry_in_words
    from edgepack_runtime.protection import protection_of

    header, protection = bundle.header, protection_of(bundle.header.suite, len(bundle.container.grants))
    lines = [
        f"{manifest.name} {manifest.version} for {header.profile}: {manifest.model.scheme} model, "
        f"{header.engine} {header.engine_version}",
        f"signed by {', '.join(name[:16] for name in _signers(bundle))}, security version {header.security_version}",
        expiry_in_words(header.expires),
        *(f"requires {r.product}, security version {r.security_version} or later" for r in manifest.requires),
        str(protection),
        *(f"input  {spec}" for spec in manifest.model.inputs),
        *(f"output {spec}" for spec in manifest.model.outputs),
    ]
    for item in manifest.evidence:
        lines.append(f"{'ok' if item.holds else 'NO':3}{item.check} ({item.verdict}): {item.found}")
    return lines


def _verify(args: argparse.Namespace) -> int:
    from edgepack_runtime.session import verify_bundle
    from edgepack_runtime.trial import try_bundle

    if args.trust is not None and args.profile is None:
        args.usage("argument --trust: needs --profile NAME, the profile the bundle must be built for")
    if args.grants is not None and not args.self_test:
        args.usage("argument --grants: needs --self-test; without it nothing is decrypted")
    device = _who(args)
    if not args.self_test:
        bundle, manifest = verify_bundle(args.bundle, device=device, payload=True)
        result: dict[str, object] = {"verdict": "good", "self_test": None}
    else:
        done = try_bundle(args.bundle, device=device, grants=args.grants)
        bundle, manifest, replay = done.bundle, done.manifest, done.replay
        test = {"samples": replay.samples, "error": replay.error, "engine": done.engine}
        result = {"verdict": "good", "self_test": test}
    if args.json:
        print(json.dumps(result))
        return 0
    print(_plain(f"{manifest.name} {manifest.version}: signature, profile {bundle.header.profile} and version hold"))
    if args.self_test:
        print(f"self-test: {replay.samples} golden samples on {done.engine}, largest difference {replay.error:.2g}")
    return 0


def _run(args: argparse.Namespace) -> int:
    import numpy as np

    from edgepack_runtime.device import Device
    from edgepack_runtime.session import open_bundle

    with open_bundle(args.bundle, device=Device.from_file(args.device), grants=args.grants) as session:
        feeds = _load_feeds(args.input)
        columns: dict[str, list[Array]] = {}
        count = min((len(array) for array in feeds.values()), default=0)
        if count == 0 or any(len(array) != count for array in feeds.values()):
            raise InputError(f"{args.input}: the arrays need one and the same number of samples, at least one")
        specs = session.signatures.get(args.signature_key, session)
        shapes = {spec.name: spec.shape for spec in specs.inputs}
        for i in range(count):
            sample = {name: _one(array[i], shapes.get(name)) for name, array in feeds.items()}
            for name, value in session.run(sample, args.signature_key).items():
                columns.setdefault(name, []).append(value)
    _save(args.output, {name: np.stack(values) for name, values in columns.items()})
    if args.json:
        print(json.dumps({"samples": count, "output": str(args.output)}))
    else:
        print(_plain(f"{count} samples run on {session.engine}; outputs {', '.join(columns)} in {args.output}"))
    return 0


def _one(array: Array, shape: tuple[int, ...] | None) -> Array:
    """Return one sample with the model's batch dimension of 1, where the file leaves it out."""
    import numpy as np

    if shape is not None and shape[:1] == (1,) and array.shape == shape[1:]:
        array = array.reshape(shape)
    # Not ascontiguousarray, which makes a vector of a scalar.
    return np.asarray(array, order="C")


def _load_feeds(path: Path) -> dict[str, Array]:
    import warnings

    import numpy as np

    if path.exists() and not path.is_file():
        # A pipe without a writer never ends.
        raise InputError(f"{path}: not a file")
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            is_array = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
            feeds = {} if is_array else _read_npz(file)
    except Exception as error:  # noqa: BLE001 - zipfile, its decompressors and numpy raise whatever damage leads to
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise InputError(f"{path}: no readable .npz file ({reason})") from None
    if is_array:
        raise InputError(
            f"{path}: this is one array, expected an .npz", hint="numpy.savez(FILE, NAME_OF_INPUT=array)"
        )
    for name, array in feeds.items():
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            raise InputError(f"{path}: {name!r} is no array of samples, expected [n, ...]")
    return feeds


def _read_npz(file: BinaryIO) -> dict[str, Array]:
    import zipfile

    import numpy as np

    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            _refuse_claims(archive, info)
    file.seek(0)
    loaded = np.load(file, allow_pickle=False)
    return {name: loaded[name] for name in loaded.files}


def _refuse_claims(archive: ZipFile, info: ZipInfo) -> None:
    """Refuse a member that claims more than its bytes can hold: numpy makes room for it before it reads them."""
    import zipfile

    import numpy as np

    largest = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _DEFLATE}.get(info.compress_type, 0) * info.compress_size
    if info.file_size > largest or info.compress_size > archive.start_dir:
        raise ValueError(f"{info.filename} is packed in a way numpy never writes")
    with archive.open(info) as member:
        if member.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            return
        member.seek(0)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = readers[np.lib.format.read_magic(member)](member)
    if math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f"{info.filename} claims {list(shape)} {dtype} and is too short for that")


def _save(path: Path, arrays: dict[str, Array]) -> None:
    import io
    import zipfile

    import numpy as np

    from edgepack_runtime._files import write_whole

    buffer = io.BytesIO()
    # Not by numpy.savez: an output may be called as one of its parameters is.
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    if path.is_dir():
        raise FileError(f"{path} is a folder; name a file to write")
    write_whole(path, buffer.getvalue())


if __name__ == "__main__":
    sys.exit(main())
