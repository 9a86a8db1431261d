"""`edgepack diagnose`: where a quantized model goes wrong, why, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import AsJson, Offline, Verbose

__all__ = ["diagnose"]


def diagnose(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="With --float: the quantized .tflite. Else the source model, which is converted and quantized "
            "first. Without it: edgepack.toml here."
        ),
    ] = None,
    float_model: Annotated[
        Path | None, typer.Option("--float", help="The float .tflite that the quantized one was made from.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Samples to look at, as build takes them. Default: the recipe's."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="How to quantize the source: full_integer, dynamic_range, float16.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Device profile whose engine runs both. With --float it may be left away: this machine's."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Samples to quantize the source with. Default: those of --data.")
    ] = None,
    input_shape: Annotated[
        list[str] | None, typer.Option("--input", help="As for build: shape of an input the source leaves open.")
    ] = None,
    via: Annotated[list[str] | None, typer.Option(help="As for build: road the conversion takes.")] = None,
    module: Annotated[
        str | None, typer.Option(metavar="FILE.py:NAME", help="As for build: code that builds a PyTorch network.")
    ] = None,
    trust_source: Annotated[
        bool, typer.Option("--trust-source", help="As for build: let code inside the model run, in a child process.")
    ] = False,
    training_set: Annotated[
        Path | None, typer.Option(help="As for build: samples to train the source with, before it is looked at.")
    ] = None,
    train: Annotated[
        list[str] | None, typer.Option(metavar="STEP:OPTION=VALUE,...", help="As for build: a training step.")
    ] = None,
    pass_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME.KEY=VALUE", help="As for build: an option of --precision.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many samples are looked at, evenly from all.")] = 16,
    offline: Offline = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Name the layers in which a quantized model goes wrong first, why, and what to do.

    Each layer is run as part of the model, and by itself on what the float model computes before it; and what its own
    error alone does to the outputs is measured. Exit code 0 if nothing is wrong, 1 if something is.
    """
    from edgepack.cli.request import data_from, module_from
    from edgepack.cli.request_diagnose import Question, ask
    from edgepack.cli.show import ConsoleReporter
    from edgepack.cli.show_diagnose import show_diagnosis
    from edgepack.diagnose import Sampling

    question = Question(
        model=model,
        float_model=float_model,
        data=data_from(data, "--data"),
        precision=precision,
        profile=profile,
        calibration=data_from(calibration, "--calibration"),
        inputs=tuple(input_shape or ()),
        via=tuple(via or ()),
        module=module_from(module),
        training_set=data_from(training_set, "--training-set"),
        train=tuple(train or ()),
        pass_options=tuple(pass_option or ()),
        trust_source=trust_source,
    )
    found = ask(question, Sampling(samples=samples, offline=offline), ConsoleReporter(verbose=verbose))
    show_diagnosis(found, as_json=as_json)
    if not found.good:
        raise typer.Exit(1)
