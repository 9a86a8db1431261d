"""`edgepack build`: every option of a build, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import AsJson, Offline, PassphraseDescriptor, PassphraseFile, Verbose

__all__ = ["build"]


def build(
    model: Annotated[
        Path | None,
        typer.Argument(help="The source model: a file or a SavedModel folder. Without it: edgepack.toml here."),
    ] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Device profile to build for; repeatable.")] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Real input samples: .npz with one array an input, .npy, .csv, a folder of pictures or "
            ".wav, or a function of your own, FILE.py:FUNCTION[:PATH], run in a child process."
        ),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="Labelled samples: the same with the classes as 'y'.")
    ] = None,
    training_set: Annotated[
        Path | None, typer.Option(help="Samples that a Keras model is trained further on: as for evaluation.")
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP:OPTION=VALUE,...",
            help="Train a Keras model further before it is converted, e.g. prune:sparsity=0.8; repeatable, in that "
            "order. docs/training.md has the steps.",
        ),
    ] = None,
    calibration_halves: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Make the model again from N random halves of the calibration samples, and tell what changes.",
        ),
    ] = None,
    windows: Annotated[
        int | None,
        typer.Option(metavar="N", help="Cut recordings longer than the model's input into at most N windows each."),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the labels in a CSV file. Default: y or label.")
    ] = None,
    csv_dtype: Annotated[
        str | None, typer.Option(metavar="DTYPE", help="What a CSV file's features are. Default: float32.")
    ] = None,
    csv_shape: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Shape of a CSV file's sample, row by row. Default: a list of its columns."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="accuracy, top5, f1, precision, recall, auc, map, map50, agreement, cosine, mse, snr, "
            "si-sdr, or a function of your own, FILE.py:FUNCTION, run in a child process. "
            "Default: accuracy with labels, agreement with the float source without.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Largest loss of the metric against the float source, e.g. 0.01; "
            "the upper end of its interval must be within."
        ),
    ] = None,
    metric_output: Annotated[
        list[str] | None,
        typer.Option("--metric-output", help="The output the metric is judged on, if there are several; repeatable."),
    ] = None,
    metric_threshold: Annotated[
        float | None,
        typer.Option(help="From this value on, each value of the output is a yes: several can be in one sample."),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Of the two-sided interval of the drop; default 0.95.")
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(metavar="40ms|1.2x", help="Longest run: on the device, or as a multiple of the float model's."),
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="120kB", help="Largest model, in bytes or with B, kB, MB, KiB or MiB.")
    ] = None,
    optimize: Annotated[
        str | None,
        typer.Option(
            metavar="auto",
            help="auto: measure many candidates, layers of mixed precision among them, and ship the best one within "
            "the budget, judged on evaluation samples that no choice was made by. Stopped, it goes on where it was.",
        ),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(metavar="size|latency", help="What --optimize auto makes small. Default: size.")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="How many candidates --optimize auto may measure. Default: 40.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which samples --optimize auto holds out. Default: 0.")] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="float32, float16, dynamic_range, full_integer, int16x8, mixed and others; repeat it to try several "
            "in that order, or auto. Default: the profile's preferred one."
        ),
    ] = None,
    pass_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME.KEY=VALUE", help="Option of a pass, e.g. full_integer.samples=100; repeatable."),
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
    requires: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRODUCT=VERSION",
            help="Another product, and the lowest security version of it that a device must have accepted to take "
            "this one; repeatable.",
        ),
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
    keep_names: Annotated[
        bool | None,
        typer.Option(
            "--keep-names/--drop-names",
            help="Keep the names of the model's inner tensors, which no device needs. Default: they are left out.",
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
    from edgepack.cli.request import Overrides, data_from, metric_from, module_from, recipe_from
    from edgepack.cli.show import ConsoleReporter, show_build
    from edgepack.cli.show_micro import show_micro_build
    from edgepack.cli.show_search import show_searches
    from edgepack.micro import build_micro, micros_of
    from edgepack.passphrase import passphrase_from

    metric_name, function = metric_from(metric)
    passphrase = passphrase_from(passphrase_file, passphrase_fd)
    recipe = recipe_from(
        Overrides(
            model=model,
            profiles=tuple(profile or ()),
            calibration=data_from(calibration, "--calibration"),
            evaluation=data_from(evaluation, "--evaluation"),
            training_set=data_from(training_set, "--training-set"),
            train=tuple(train or ()),
            calibration_halves=calibration_halves,
            windows=windows,
            label_column=label_column,
            csv_dtype=csv_dtype,
            csv_shape=csv_shape,
            metric=metric_name,
            metric_function=function,
            max_drop=max_drop,
            metric_output=tuple(metric_output or ()),
            metric_threshold=metric_threshold,
            confidence=confidence,
            max_latency=max_latency,
            max_size=max_size,
            search=optimize,
            objective=objective,
            candidates=candidates,
            seed=seed,
            schemes=tuple(precision or ()),
            pass_options=tuple(pass_option or ()),
            signing_key=key,
            recipients=tuple(recipient or ()),
            output=output,
            name=name,
            version=model_version,
            security_version=security_version,
            requires=tuple(requires or ()),
            expires=expires,
            compress=compress,
            emulate=emulate,
            keep_names=keep_names,
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
    built = run_build(recipe, offline=offline, reporter=reporter, passphrase=passphrase)
    if not as_json:
        show_searches(built)
    show_build(built, as_json=as_json)
