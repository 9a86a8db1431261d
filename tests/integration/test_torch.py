"""PyTorch files of each kind, made in the torch toolchain, by both roads: what comes out computes what went in."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import edgepack
import edgepack_runtime
from edgepack.dataset import bind_feeds
from edgepack.errors import ConversionError, SourceModelError
from edgepack.flatbuffer import read_model
from edgepack.model import Conversion, ConversionRequest, Export
from edgepack.source import detect
from edgepack.toolchain import ensure, locate
from edgepack.worker import Workplace, run_task, scratch_folder
from edgepack_runtime.tensors import Array

# A toolchain of a gigabyte, and minutes.
pytestmark = [pytest.mark.slow, pytest.mark.long]

SOURCES = Path(__file__).parent / "sources"
RANDOM = np.random.default_rng(5)


def place(toolchain: str) -> Workplace:
    return Workplace(python=ensure(locate(toolchain), offline=False, say=print))


@pytest.fixture(scope="session")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    command = [str(place("torch").python), "-I", "-W", "ignore", str(SOURCES / "make_torch.py"), str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"HOME": str(folder)}, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def noise(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


IMAGES = {"image": noise(6, 3, 16, 16)}
IDS = {"ids": RANDOM.integers(0, 20, (6, 7))}
ROWS = {"x": noise(6, 4)}


def request(
    source: Path, feeds: Mapping[str, Array], scratch: Path, entry: str, **options: object
) -> ConversionRequest:
    module = SOURCES / "torch_net.py" if entry else None
    return ConversionRequest(
        source=source, options=json.dumps(options), feeds=feeds, scratch=scratch, module=module, entry=entry
    )


def export(source: Path, feeds: Mapping[str, Array], entry: str = "", **options: object) -> Export:
    with scratch_folder() as scratch:
        return run_task(
            "edgepack.converters.torch_onnx:export",
            request(source, feeds, scratch, entry, **options),
            Export,
            place("torch"),
        )


@pytest.fixture(scope="session")
def residual(torch: Path) -> Export:
    return export(torch / "residual.pt2", IMAGES)


def by_onnx(exported: Export, feeds: Mapping[str, Array]) -> Conversion:
    with scratch_folder() as scratch:
        source = scratch / "model.onnx"
        source.write_bytes(exported.model)
        feeds = bind_feeds(feeds, exported.inputs, "the data")
        (scratch / "inner").mkdir()
        wanted = request(source, feeds, scratch / "inner", "")
        return run_task("edgepack.converters.onnx:convert", wanted, Conversion, place("onnx"))


def by_litert(source: Path, feeds: Mapping[str, Array]) -> Conversion:
    with scratch_folder() as scratch:
        wanted = request(source, feeds, scratch, "")
        return run_task("edgepack.converters.torch_litert:convert", wanted, Conversion, place("torch-litert"))


def interface(found: Export | Conversion) -> list[str]:
    return [str(spec) for spec in (*found.inputs, *found.outputs)]


def interface_of_the_file(tflite: bytes) -> list[str]:
    view = read_model(tflite)
    tensors = view.subgraphs[0].tensors
    entries = [*view.signatures[0].inputs, *view.signatures[0].outputs]
    return [f"{name}: {tensors[i].dtype}[{', '.join(map(str, tensors[i].shape))}]" for name, i in entries]


def worst(conversion: Conversion, found: Export | Conversion, feeds: Mapping[str, Array]) -> float:
    """Return the largest difference between the host's LiteRT and PyTorch, as a share of the output's range."""
    from ai_edge_litert.interpreter import Interpreter

    assert interface(conversion) == interface(found) == interface_of_the_file(conversion.tflite)
    runner = Interpreter(model_content=conversion.tflite).get_signature_runner("serving_default")
    feeds = bind_feeds(feeds, conversion.inputs, "the data")
    errors = []
    for i in range(len(next(iter(feeds.values())))):
        values = runner(**{name: np.asarray(array[i]) for name, array in feeds.items()})
        for spec in found.outputs:
            reference = found.reference[spec.name].astype(np.float64)
            errors.append(np.abs(values[spec.name] - reference[i]).max() / np.ptp(reference))
    return float(max(errors))


def test_an_exported_program_is_equal_to_pytorch(residual: Export) -> None:
    assert interface(residual) == ["image: float32[1, 3, 16, 16]", "output: float32[1, 5]"]
    assert worst(by_onnx(residual, IMAGES), residual, IMAGES) < 1e-4


@pytest.mark.parametrize(
    ("file", "entry"),
    [("residual.script.pt", ""), ("older.pt2", ""), ("dynamic.pt2", ""), ("residual.pth", "Residual")],
)
def test_one_network_from_another_kind_of_file_is_the_same(
    torch: Path, residual: Export, file: str, entry: str
) -> None:
    exported = export(torch / file, IMAGES, entry)
    assert interface(exported) == interface(residual)
    np.testing.assert_allclose(exported.reference["output"], residual.reference["output"], atol=1e-6)


def test_a_torchscript_file_is_equal_to_pytorch(torch: Path) -> None:
    exported = export(torch / "residual.trace.pt", IMAGES)
    assert worst(by_onnx(exported, IMAGES), exported, IMAGES) < 1e-4


def test_the_users_own_module_is_told_with_its_digest(torch: Path) -> None:
    (told,) = export(torch / "residual.before16.pth", IMAGES, "Residual").notes
    assert "the user's own code: torch_net.py:Residual, SHA-256 " in told


def test_a_state_dict_inside_a_checkpoint_of_a_wrapped_network_is_found(torch: Path) -> None:
    notes = export(torch / "checkpoint.pth", IMAGES, "Residual").notes
    assert notes[1:] == (
        "the state dict was found under 'state_dict'",
        "'module.' was taken off the names in the state dict",
    )


def test_outputs_are_called_by_the_keys_of_a_dict(torch: Path) -> None:
    exported = export(torch / "attention.pt2", IDS)
    assert interface(exported) == ["ids: int64[1, 7]", "intent: float32[1, 3]", "mood: float32[1, 2]"]
    assert worst(by_onnx(exported, IDS), exported, IDS) < 1e-4


def test_a_torchscript_file_with_a_dict_of_outputs_is_exported(torch: Path) -> None:
    assert interface(export(torch / "named.pt", ROWS))[1:] == ["twice: float32[1, 4]", "half: float32[1, 4]"]


def test_state_that_the_caller_carries_is_an_input_and_an_output(torch: Path) -> None:
    feeds = {"x": noise(6, 5, 4), "state": noise(6, 1, 6)}
    exported = export(torch / "recurrent.pt", feeds)
    assert interface(exported)[2:] == ["output_0: float32[1, 5, 2]", "output_1: float32[1, 1, 6]"]
    assert worst(by_onnx(exported, feeds), exported, feeds) < 1e-4


def test_inputs_keep_their_dtypes_and_a_scalar_stays_one(torch: Path) -> None:
    feeds = {"x": noise(6, 6), "gain": noise(6), "mask": noise(6, 6) > 0, "step": np.arange(6, dtype=np.int32)}
    exported = export(torch / "scalars.pt2", feeds)
    assert interface(exported) == [
        "x: float32[1, 6]",
        "gain: float32[]",
        "mask: bool[1, 6]",
        "step: int32[1]",
        "output_0: float32[1, 6]",
        "output_1: int64[1]",
    ]
    assert worst(by_onnx(exported, feeds), exported, feeds) < 1e-4


def test_litert_torch_gives_what_pytorch_gives(torch: Path) -> None:
    feeds = {"wave": noise(6, 64)}
    conversion = by_litert(torch / "sound.pt", feeds)
    assert worst(conversion, conversion, feeds) < 1e-4


def test_litert_torch_is_refused_where_it_changes_an_inputs_dtype(torch: Path) -> None:
    with pytest.raises(ConversionError, match=r"input 'ids' became int32\[1, 7\], the source has int64\[1, 7\]"):
        by_litert(torch / "attention.pt2", IDS)


def test_an_open_dimension_takes_the_shape_that_is_named(torch: Path) -> None:
    assert interface(export(torch / "open.pt2", IDS, inputs=["ids:1,7"]))[0] == "ids: int64[1, 7]"


PICTURE, SHORT, ROW = {"image": [3, 3, 16, 16]}, {"x": [3, 6]}, {"x": [3, 4]}
REFUSED: dict[tuple[str, str], tuple[dict[str, list[int]], str]] = {
    ("branch.pth", "Branch"): (SHORT, "torch.export cannot follow the network: .*data-dependent"),
    ("counter.pt2", ""): (ROW, r"keeps state between calls \(buffer 'calls'\)"),
    ("counter.pth", "Counter"): (ROW, r"keeps state between calls \(buffer 'calls'\)"),
    ("noisy.pt2", ""): (ROW, "keeps state between calls or draws random numbers"),
    ("training.pt2", ""): (PICTURE, "keeps state between calls"),
    ("residual.pth", ""): (PICTURE, "is a state dict: weights without a network"),
    ("residual.pth", "Sized"): (PICTURE, r"Sized\(\) of torch_net.py fails: TypeError"),
    ("residual.pth", "nothing"): (PICTURE, "gives a str, not a torch.nn.Module"),
    ("residual.pth", "Resnet"): (PICTURE, "has no 'Resnet'; it defines Residual, Attention"),
    ("sized.pth", "Branch"): (ROW, r"linear.weight is \[7, 4\], the network's \[6, 6\]"),
    ("sized.pth", "Residual"): (ROW, "it lacks stem.weight.*; the network lacks linear.weight, linear.bias"),
    ("residual.pt2", "Residual"): (PICTURE, "carries its own network"),
    ("hostile.pt2", ""): (PICTURE, "'torch.os.getcwd', which is none of PyTorch's own operators"),
    ("open.pt2", ""): ({"ids": [3, 7]}, r"\[\?, \?\]: a device needs every dimension fixed"),
    ("recurrent.pt", ""): ({"x": [3, 5, 4]}, r"input 'state': a file of this kind tells no shapes.*arrays \['x'\]"),
    ("residual.script.pt", ""): ({"x": [3, 3, 3, 16, 16]}, r"PyTorch cannot run the model with image: float32\[1, 3"),
}


# A function without required arguments may build a network that needs some.
TAKEN = ("sized.pth", "sized")


@pytest.fixture(scope="session")
def refusals(torch: Path) -> dict[tuple[str, str], str]:
    # In one process: each would take seconds to import PyTorch.
    tried = {**{key: shapes for key, (shapes, _) in REFUSED.items()}, TAKEN: ROW}
    cases = [[str(torch / file), entry, shapes] for (file, entry), shapes in tried.items()]
    packages = [str(Path(package.__file__).parents[1]) for package in (edgepack, edgepack_runtime)]
    command = [str(place("torch").python), "-I", "-B", str(SOURCES / "refuse_torch.py"), *packages, json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=torch, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(tried, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize(("file", "entry"), REFUSED)
def test_what_cannot_be_a_network_on_a_device_is_refused(
    refusals: dict[tuple[str, str], str], file: str, entry: str
) -> None:
    assert re.search(REFUSED[file, entry][1], refusals[file, entry])


def test_a_function_without_arguments_builds_a_network_that_needs_some(refusals: dict[tuple[str, str], str]) -> None:
    assert refusals[TAKEN] == "not refused"


def test_a_branch_of_a_torchscript_file_is_kept_and_refused_by_its_name(torch: Path) -> None:
    feeds = {"x": noise(6, 6)}
    with pytest.raises(ConversionError, match=r"(?i)'if'"):
        by_onnx(export(torch / "branch.pt", feeds), feeds)


def test_a_whole_pickled_network_is_no_source(torch: Path) -> None:
    with pytest.raises(SourceModelError, match=r"a pickled PyTorch object \(torch_net.Residual"):
        detect(torch / "object.pt")
