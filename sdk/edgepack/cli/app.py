"""All commands of `edgepack`; heavy modules are imported by the command that needs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from edgepack import __version__
from edgepack.cli.commands_device import device
from edgepack.cli.commands_grant import grant
from edgepack.cli.commands_keys import keys
from edgepack.cli.commands_micro import micro
from edgepack.cli.commands_probe import probe
from edgepack.cli.commands_profiles import profiles
from edgepack.cli.commands_toolchain import toolchain
from edgepack.cli.commands_trust import trust as trust_commands
from edgepack.cli.options import AsJson, PassphraseDescriptor, PassphraseFile, Trust

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
app.command()(probe)
app.add_typer(device, name="device")
app.add_typer(grant, name="grant")
app.add_typer(keys, name="keys")
app.add_typer(micro, name="micro")
app.add_typer(profiles, name="profiles")
app.add_typer(toolchain, name="toolchain")
app.add_typer(trust_commands, name="trust")

Offline = Annotated[bool, typer.Option("--offline", help="Refuse to install a missing toolchain.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show what child processes print.")]


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
def build(
    model: Annotated[
        Path | None,
        typer.Argument(help="The source model: a file or a SavedModel folder. Without it: edgepack.toml here."),
    ] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Device profile to build for; repeatable.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Real input samples: .npz with one array an input, or .npy.")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="Labelled samples: the same with the classes as 'y'.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="accuracy, f1, precision or recall.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Largest loss of the metric against the float source, e.g. 0.01.")
    ] = None,
    metric_output: Annotated[
        str | None, typer.Option("--metric-output", help="The output with the class scores, if there are several.")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="float32, float16, dynamic_range, full_integer; repeat it to try several in that order, "
            "or auto. Default: the profile's preferred one."
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Release key that signs: a private PEM file, or a pkcs11: URI.")
    ] = None,
    recipient: Annotated[
        list[Path] | None, typer.Option(help="Device key (public PEM) that may open it; repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the bundles.")] = None,
    name: Annotated[str | None, typer.Option(help="Product name; default: the model's file name.")] = None,
    model_version: Annotated[str | None, typer.Option(help="Version for people.")] = None,
    security_version: Annotated[
        int | None, typer.Option(help="Devices refuse a bundle below the highest they accepted.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DAY|DAYS",
            help="From this day on (2027-06-30, UTC), or so many days from now, no device installs it. "
            "One that has it keeps running it.",
        ),
    ] = None,
    compress: Annotated[
        bool | None,
        typer.Option(
            "--compress/--no-compress",
            help="zstd for what gets at least 5 % shorter; only devices with edgepack-runtime[zstd] open it.",
        ),
    ] = None,
    emulate: Annotated[
        bool | None,
        typer.Option(
            "--emulate/--no-emulate",
            help="Before signing, run the bundle by the device's runtime in an emulated userland of the profile's "
            "architecture and processor. Needs qemu-user.",
        ),
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="Shape of an input the source leaves open, e.g. audio:1,16000 or ids:int32:1,64; repeatable.",
        ),
    ] = None,
    signature_key: Annotated[str | None, typer.Option(help="Which signature of a SavedModel or .tflite.")] = None,
    via: Annotated[
        list[str] | None,
        typer.Option(
            help="Road the conversion takes, e.g. onnx2tf, onnx-tf, litert-torch; repeatable. Default: each in turn "
            "until one's result is equal to the source."
        ),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]LAYOUT",
            help="source, nhwc or nchw: how the bundle takes and gives images; NAME=nhwc for one input or output; "
            "repeatable. Data files stay as the source has it.",
        ),
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:NAME",
            help="For a PyTorch state dict: your own code that builds the network. It is run, in a child process.",
        ),
    ] = None,
    trust_source: Annotated[
        bool,
        typer.Option(
            "--trust-source",
            help="Let code inside the model run (pickle, Keras Lambda), in a child process. It is recorded.",
        ),
    ] = False,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
    offline: Offline = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Convert, quantize, check and pack a model: one bundle a profile, or a table that says why not.

    The bundle is written only if the model, run under the exact engine version of the profile, is as good as the
    float source within --max-drop, and fits the profile. Exit code 1 and no file otherwise. A microcontroller's
    profile gets a folder instead: the model, the same as C, and signed evidence.
    """
    from edgepack.builder import build as run_build
    from edgepack.cli.request import Overrides, module_from, recipe_from
    from edgepack.cli.show import ConsoleReporter, show_build
    from edgepack.cli.show_micro import show_micro_build
    from edgepack.micro import build_micro, micros_of
    from edgepack.passphrase import passphrase_from

    passphrase = passphrase_from(passphrase_file, passphrase_fd)
    recipe = recipe_from(
        Overrides(
            model=model,
            profiles=tuple(profile or ()),
            calibration=calibration,
            evaluation=evaluation,
            metric=metric,
            max_drop=max_drop,
            metric_output=metric_output,
            schemes=tuple(precision or ()),
            signing_key=key,
            recipients=tuple(recipient or ()),
            output=output,
            name=name,
            version=model_version,
            security_version=security_version,
            expires=expires,
            compress=compress,
            emulate=emulate,
            inputs=tuple(input_shape or ()),
            signature_key=signature_key,
            via=tuple(via or ()),
            layout=tuple(layout or ()),
            trust_source=trust_source or None,
            module=module_from(module),
        )
    )
    reporter = ConsoleReporter(verbose=verbose)
    if micros := micros_of(recipe.profiles):
        results = build_micro(recipe, micros, offline=offline, reporter=reporter, passphrase=passphrase)
        show_micro_build(results, as_json=as_json)
        return
    show_build(run_build(recipe, offline=offline, reporter=reporter, passphrase=passphrase), as_json=as_json)


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
