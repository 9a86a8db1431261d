"""All commands of `edgepack`; heavy modules are imported by the command that needs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepack import __version__
from edgepack.cli.commands_build import build
from edgepack.cli.commands_device import device
from edgepack.cli.commands_diagnose import diagnose
from edgepack.cli.commands_grant import grant
from edgepack.cli.commands_keys import keys
from edgepack.cli.commands_micro import micro
from edgepack.cli.commands_probe import probe
from edgepack.cli.commands_profiles import profiles
from edgepack.cli.commands_toolchain import toolchain
from edgepack.cli.commands_trust import trust as trust_commands
from edgepack.cli.options import AsJson, Offline, PassphraseDescriptor, PassphraseFile, Trust, Verbose

__all__ = ["app", "command"]

app = typer.Typer(
    name="edgepack",
    help="Package models for edge devices: convert, quantize, prove, encrypt, sign.\n\n"
    "It refuses to ship a model that would run wrong on your device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(build)
app.command()(diagnose)
app.command()(probe)
app.add_typer(device, name="device")
app.add_typer(grant, name="grant")
app.add_typer(keys, name="keys")
app.add_typer(micro, name="micro")
app.add_typer(profiles, name="profiles")
app.add_typer(toolchain, name="toolchain")
app.add_typer(trust_commands, name="trust")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgepack {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that come before a command."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where; made when missing.")] = Path(),
    model: Annotated[str, typer.Option(help="The source model, relative to that folder.")] = "model.onnx",
) -> None:
    """Write a commented edgepack.toml and development keys."""
    from edgepack.project import init_project

    project = init_project(folder, model)
    typer.echo(f"{project.recipe}: edit it, then run `edgepack build` in that folder")
    typer.echo(f"{project.identity.signing_key}: development release key, keep it private")
    typer.echo(f"{project.device}: copy it to the device with {project.identity.device_key.name} and trust.json,")
    typer.echo("  and say there once: edgepack-device state create --device device.json")


@app.command()
def sign(
    bundle: Annotated[Path, typer.Argument(help="The .edgepack file; it is replaced whole or not at all.")],
    key: Annotated[str, typer.Option(help="Release key: a private PEM file, or a pkcs11: URI.")],
    trust: Trust = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    as_json: AsJson = False,
) -> None:
    """Add a signature to a bundle, for devices that want more than one; a trusted key must have signed it already."""
    from edgepack.amend import add_signature
    from edgepack.cli.request import trust_from
    from edgepack.cli.show_keys import show_signed
    from edgepack.passphrase import passphrase_from
    from edgepack.signers import SignerRequest, open_signer

    trusted = trust_from(trust)
    signer = open_signer(SignerRequest(uri=key, passphrase=passphrase_from(passphrase_file, passphrase_fd)))
    show_signed(add_signature(bundle, signer, trusted), as_json=as_json)


@app.command()
def inspect(
    bundle: Annotated[Path, typer.Argument(help="The .edgepack file.")],
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Say what a bundle is, for whom, and what was measured; needs no device key."""
    from edgepack.cli.request import trust_from
    from edgepack.cli.show import show_bundle
    from edgepack_runtime.device import Device
    from edgepack_runtime.session import verify_bundle

    verified, manifest = verify_bundle(bundle, device=Device(profile=None, trust=trust_from(trust)))
    show_bundle(verified, manifest, as_json=as_json)


@app.command()
def validate(
    bundle: Annotated[Path, typer.Argument(help="The .edgepack file.")],
    profile: Annotated[str, typer.Option(help="The device profile it shall run on.")],
    trust: Trust = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Device key (private PEM) that opens it. Default: the project's here, else your development key."
        ),
    ] = None,
    prove: Annotated[
        bool,
        typer.Option(
            help="Replay its golden tensors under the profile's exact engine, and measure memory. "
            "With --no-prove only what the files tell is checked."
        ),
    ] = True,
    emulate: Annotated[
        bool,
        typer.Option(
            "--emulate",
            help="Also replay it by the device's runtime in an emulated userland of the profile's architecture. "
            "Needs qemu-user.",
        ),
    ] = False,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    offline: Offline = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Check a bundle against a profile, check by check; exit code 1 if anything fails.

    Signature, engine and op versions, storage, memory, quantization support, and the golden outputs under the
    profile's exact engine.
    """
    from edgepack.cli.request import device_key_from, trust_from
    from edgepack.cli.show import ConsoleReporter, show_report
    from edgepack.passphrase import passphrase_from
    from edgepack.profiles import load_profile
    from edgepack.toolchain import engine_toolchain, ensure
    from edgepack.userland import userland_for
    from edgepack.validation import Benches
    from edgepack.validation import validate as run_validate
    from edgepack.worker import Workplace

    reporter = ConsoleReporter(verbose=verbose)
    wanted = load_profile(profile)
    device_key = device_key_from(key, passphrase_from(passphrase_file, passphrase_fd))
    trusted = trust_from(trust)
    versions = wanted.engine.versions if prove or emulate else ()
    toolchains = [engine_toolchain(wanted.engine.name, version) for version in versions]
    engines = tuple(
        Workplace(python=ensure(toolchain, offline=offline, say=reporter.say), log=reporter.log, say=reporter.say)
        for toolchain in toolchains
    )
    board = userland_for(wanted, offline=offline, say=reporter.say) if emulate else None
    benches = Benches(engines=engines, board=board)
    with reporter.step(f"validating {bundle.name}"):
        report = run_validate(bundle, wanted, trusted, device_key, benches)
    show_report(report, as_json=as_json)
    if not report.good:
        raise typer.Exit(1)


def command() -> Callable[[], object]:
    """Return all commands as one; a file that cannot be read is refused in our words, not as wrong usage."""
    whole = typer.main.get_command(app)
    waiting: list[Any] = [whole]
    for one in waiting:
        for parameter in one.params:
            # Typer brings its own copy of click, whose classes have no public name.
            if getattr(getattr(parameter, "type", None), "readable", False):
                parameter.type.readable = False
        waiting += getattr(one, "commands", {}).values()
    return whole
