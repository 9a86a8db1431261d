"""`edgepack-device`: the result on standard output, one line of refusal on the other, and the exit code."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import wave
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bundlekit
import realbundle
from edgepack_runtime import __version__
from edgepack_runtime.cli import main
from edgepack_runtime.processing import Audio, Classes, Processing


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stand in a folder with a device, a good bundle and good inputs."""
    monkeypatch.chdir(tmp_path)
    realbundle.write_device(tmp_path)
    (tmp_path / "m.edgepack").write_bytes(realbundle.bundle())
    np.savez(tmp_path / "in.npz", **stacked("inputs"))
    return tmp_path


def stacked(side: str) -> dict[str, np.ndarray]:
    golden = realbundle.model().golden
    names = getattr(golden[0], side)
    return {name: np.stack([getattr(sample, side)[name] for sample in golden]) for name in names}


@pytest.fixture
def call(folder, capsys):
    """Run a command and return its exit code, standard output and standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--device", "device.json"])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def refusal(answer: tuple[int, str, str]) -> str:
    """Return the line of a refusal: nothing on standard output, one line and at most a hint on the other."""
    code, out, err = answer
    first, *hints = err.splitlines()
    assert (code, out, [line for line in hints if not line.startswith("  hint: ")]) == (1, "", [])
    assert first.startswith("edgepack-device: error: ")
    return first.removeprefix("edgepack-device: error: ")


RUN = ("run", "m.edgepack", "--input", "in.npz", "--output", "out.npz")


def test_inspect_says_what_a_bundle_is(call):
    code, out, err = call("inspect", "m.edgepack")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("digits 1.2 for bench-board: float32 model")
    assert "input  zebra: float32[1, 4]" in out.splitlines()


def test_inspect_needs_no_key(call, folder):
    realbundle.write_device(folder, key=None)
    assert call("inspect", "m.edgepack")[0] == 0


def test_inspect_as_json_holds_the_manifest(call):
    found = json.loads(call("inspect", "m.edgepack", "--json")[1])
    assert (found["manifest"]["name"], len(found["signed_by"])) == ("digits", 1)


def test_verify_says_what_holds(call):
    code, out, err = call("verify", "m.edgepack")
    assert (code, err) == (0, "")
    assert out == "digits 1.2: signature, profile bench-board and version hold\n"


def test_bench_says_how_long_a_run_takes(call):
    code, out, err = call("bench", "m.edgepack", "--runs", "3")
    assert (code, err, out.startswith(f"3 runs on {realbundle.ENGINE} {realbundle.VERSION}: median ")) == (
        0,
        "",
        True,
    )


def test_bench_as_json_has_milliseconds(call):
    found = json.loads(call("bench", "m.edgepack", "--runs", "3", "--json")[1])
    assert set(found) == {"engine", "runs", "median_ms", "p95_ms", "min_ms", "max_ms"}


def test_verify_with_a_self_test_runs_the_golden_samples(call):
    code, out, err = call("verify", "m.edgepack", "--self-test")
    assert (code, err) == (0, "")
    assert f"self-test: 3 golden samples on {realbundle.ENGINE}" in out


def test_verify_as_json_tells_the_self_test(call):
    found = json.loads(call("verify", "m.edgepack", "--self-test", "--json")[1])
    assert (found["verdict"], found["self_test"]["samples"]) == ("good", 3)


def test_run_writes_the_outputs_of_every_sample(call, folder):
    code, out, err = call(*RUN)
    assert (code, err) == (0, "")
    assert out.startswith("3 samples run on ")
    with np.load(folder / "out.npz") as found:
        for name, wanted in stacked("outputs").items():
            np.testing.assert_array_equal(found[name], wanted)


def test_run_takes_samples_without_the_batch_of_one(call, folder):
    np.savez(folder / "in.npz", **{name: array[:, 0] for name, array in stacked("inputs").items()})
    call(*RUN)
    with np.load(folder / "out.npz") as found:
        np.testing.assert_array_equal(found["yes"], stacked("outputs")["yes"])


def test_run_as_json_tells_how_many(call):
    assert json.loads(call(*RUN, "--json")[1]) == {"samples": 3, "output": "out.npz"}


# Refusals


@pytest.mark.parametrize("command", [("inspect", "m.edgepack"), ("verify", "m.edgepack"), RUN])
def test_every_command_refuses_a_tampered_bundle(call, folder, command):
    data = bytearray((folder / "m.edgepack").read_bytes())
    data[60] ^= 1
    (folder / "m.edgepack").write_bytes(data)
    assert "the signature by trusted key" in refusal(call(*command))
    assert not (folder / "out.npz").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"profile": "other"}, "built for profile 'bench-board', this device is 'other'"),
        ({"accepted": {"digits": 8}}, "security version 7 is lower than 8"),
        ({"key": None}, "the bundle is encrypted and this device has no key"),
        ({"trust": "nowhere.json"}, "cannot read nowhere.json: No such file or directory"),
        ({"nonsense": 1}, "device.json.nonsense: unknown field"),
    ],
)
def test_a_device_that_may_not_run_it_is_told_why(call, folder, changes, complaint):
    realbundle.write_device(folder, **changes)
    assert refusal(call(*RUN)).startswith(complaint)


def test_a_missing_bundle_is_refused(call):
    assert refusal(call("inspect", "nothing")) == "cannot open nothing: No such file or directory"


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def saved(save=np.savez, **arrays: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def claiming(count: int) -> bytes:
    """Return an array file of a header only, with `count` numbers in it by its own word."""
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def squeezed_by(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("x.npy", npy(np.zeros(3, np.float32)))
    return buffer.getvalue()


GOOD = stacked("inputs")
SQUEEZED = bytearray(saved(np.savez_compressed, x=np.arange(500)))
SQUEEZED[150:170] = bytes(20)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "in.npz: no readable .npz file ("),
        (b"garbage", "in.npz: no readable .npz file ("),
        (saved(**GOOD)[:-30], "in.npz: no readable .npz file ("),
        (bytes(SQUEEZED), "in.npz: no readable .npz file ("),
        (npy(np.zeros((3, 4), np.float32)), "in.npz: this is one array, expected an .npz"),
        (npy(np.array({}, dtype=object)), "in.npz: this is one array, expected an .npz"),
        (saved(x=np.array([{}], dtype=object)), "in.npz: no readable .npz file (Object arrays cannot be loaded"),
        (npz(**{"x.npy": claiming(1 << 40)}), "in.npz: no readable .npz file (x.npy claims [1099511627776] float32"),
        (
            squeezed_by(zipfile.ZIP_LZMA),
            "in.npz: no readable .npz file (x.npy is packed in a way numpy never writes)",
        ),
        (npz(readme=b"hello"), "in.npz: 'readme' is no array of samples"),
        (npz(), "in.npz: "),
        (saved(zebra=np.float32(1), apple=GOOD["apple"]), "in.npz: 'zebra' is no array of samples"),
        (saved(zebra=GOOD["zebra"][:2], apple=GOOD["apple"]), "in.npz: the arrays need one and the same number of"),
        (saved(zebra=GOOD["zebra"][:0], apple=GOOD["apple"][:0]), "in.npz: the arrays need one and the same number"),
        (saved(zebra=GOOD["zebra"]), "inputs named ['zebra'] were given, the model takes ['apple', 'zebra']"),
        (saved(zebra=GOOD["zebra"], apple=GOOD["zebra"]), "input 'apple': expected shape [1, 2], got [1, 4]"),
        (saved(**{k: v.astype(int) for k, v in GOOD.items()}), "input 'zebra': expected dtype float32, got int64"),
        (saved(**GOOD, y=np.arange(3)), "inputs named ['apple', 'y', 'zebra'] were given"),
    ],
)
def test_inputs_that_are_none_are_refused_in_one_line(call, folder, data, complaint):
    (folder / "in.npz").write_bytes(data)
    assert refusal(call(*RUN)).startswith(complaint)
    assert not (folder / "out.npz").exists()


def test_missing_inputs_are_refused(call, folder):
    (folder / "in.npz").unlink()
    assert refusal(call(*RUN)).startswith("in.npz: no readable .npz file (")


@pytest.mark.parametrize(
    ("output", "complaint"),
    [("nowhere/out.npz", "cannot write nowhere/out.npz: No such file or directory"), (".", ". is a folder; name")],
)
def test_an_output_that_cannot_be_written_is_refused(call, output, complaint):
    answer = call("run", "m.edgepack", "--input", "in.npz", "--output", output)
    assert refusal(answer).startswith(complaint)


def test_another_signature_is_run_by_its_key(call, folder):
    (folder / "m.edgepack").write_bytes(realbundle.bundle("codec"))
    np.savez(folder / "in.npz", x=np.ones((3, 8), np.float32))
    assert call(*RUN, "--signature-key", "encode")[0] == 0
    with np.load(folder / "out.npz") as found:
        assert {name: found[name].shape for name in found} == {"code": (3, 1, 4)}


def test_a_signature_that_is_not_there_is_refused_by_name(call):
    assert refusal(call(*RUN, "--signature-key", "encode")) == "the model has no signature 'encode'"


def test_outputs_may_be_called_like_a_parameter_of_numpy(tmp_path):
    from edgepack_runtime.cli import _save

    _save(tmp_path / "out.npz", {"file": np.ones(2), "allow_pickle": np.zeros(1), "a/b": np.ones(1)})
    with np.load(tmp_path / "out.npz") as found:
        assert sorted(found.files) == ["a/b", "allow_pickle", "file"]


# Usage


@pytest.mark.parametrize(
    "words", [(), ("nonsense",), ("inspect",), ("inspect", "m.edgepack"), ("run", "m", "--device", "d")]
)
def test_wrong_usage_is_exit_code_2(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    assert caught.value.code == 2
    assert "usage: edgepack-device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("verify", "m.edgepack", "--device", "device.json", "--grants", "g"), "--grants: needs --self-test"),
        (
            ("enroll", "--profile", "p", "--name", "n", "--out", ".", "--passphrase-file", "x"),
            "--passphrase-file: needs --key",
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_wrong_usage(folder, capsys, words, complaint):
    before = sorted(folder.iterdir())
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert (stopped.value.code, complaint in capsys.readouterr().err) == (2, True)
    assert sorted(folder.iterdir()) == before


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"edgepack-runtime {__version__}\n")


def _spawn(folder: Path, *words: str, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "edgepack_runtime.cli", *words, "--device", "device.json"]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **options)


def test_the_exit_code_reaches_the_shell(folder):
    realbundle.write_device(folder, profile="other")
    process = _spawn(folder, "verify", "m.edgepack", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    assert (process.returncode, out, err.count("\n")) == (1, "", 2)


def test_a_reader_that_went_away_is_no_traceback(folder):
    read, write = os.pipe()
    os.close(read)
    process = _spawn(folder, "inspect", "m.edgepack", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    _, err = process.communicate()
    assert (process.returncode, "Traceback" in err) == (1, False)


def test_a_full_disk_behind_standard_output_is_no_traceback(folder):
    with Path("/dev/full").open("wb") as full:
        process = _spawn(folder, "inspect", "m.edgepack", stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate()
    assert (process.returncode, err) == (
        1,
        "edgepack-device: error: cannot use standard output: No space left on device\n",
    )


def test_a_file_name_that_is_no_text_is_no_accident_where_output_is_strict(folder):
    # The name of a folder from the command line, in what is printed when all is well.
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONIOENCODING": "utf-8:strict"
    }  # fmt: skip
    (folder / "d\udcff").mkdir()
    realbundle.write_device(folder / "d\udcff", state="state")
    command = [sys.executable, "-m", "edgepack_runtime.cli", "state", "create", "--device", "d\udcff/device.json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(r"d\udcff/state: generation 1")


def test_a_pipe_without_a_writer_is_no_input(call, folder):
    os.mkfifo(folder / "pipe")
    assert refusal(call("run", "m.edgepack", "--input", "pipe", "--output", "out.npz")) == "pipe: not a file"


def test_a_name_gives_a_terminal_no_orders(call):
    assert refusal(call("verify", "\x1b[31mred")) == r"cannot open \x1b[31mred: No such file or directory"


def test_a_refusal_is_told_as_json_where_json_was_asked_for(call):
    code, out, err = call("verify", "missing.edgepack", "--json")
    told = json.loads(out)
    assert (code, told["error"], told["message"]) == (
        1,
        "FileError",
        "cannot open missing.edgepack: No such file or directory",
    )
    assert err == f"edgepack-device: error: {told['message']}\n"


LISTENER = realbundle.model("no_signature")


@pytest.fixture
def listener(folder):
    """Have the bundle of a model that takes eight samples of sound, and a recording of twenty."""
    what, board = LISTENER, realbundle.profile()
    declared = Processing(
        audio=Audio(input=what.inputs[0].name, rate=1000, samples=8, mean=0.0, std=1.0),
        classes=Classes(output=what.outputs[0].name, activation="softmax", top=1, threshold=0.0),
    )
    text = replace(realbundle.manifest(what, board), labels=("a", "b\x1b", "c", "d"), processing=declared)
    (folder / "m.edgepack").write_bytes(bundlekit.make(realbundle.recipe(what, text, board)).file())
    samples = np.random.default_rng(1).integers(-9000, 9000, 20).astype("<i2")
    for name, part in (("long.wav", samples), ("short.wav", samples[:8])):
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 1000, 0, "NONE", ""))
            file.writeframes(part.tobytes())


@pytest.mark.usefixtures("listener")
def test_predict_prints_what_is_found_in_a_file(call):
    code, out, err = call("predict", "m.edgepack", "short.wav")
    assert (code, err, re.fullmatch(r"0\.\d{4}  ([acd]|b\\x1b)\n", out) is not None) == (0, "", True)


@pytest.mark.usefixtures("listener")
def test_predict_as_json_has_every_window(call):
    code, out, _ = call("predict", "m.edgepack", "long.wav", "--hop", "0.004", "--json")
    found = json.loads(out)["predictions"]
    assert (code, [window["seconds"] for window in found]) == (0, [0.0, 0.004, 0.008, 0.012])
    assert found[0]["found"][0].keys() == {"index", "label", "score", "box"}


@pytest.mark.usefixtures("listener")
def test_predict_refuses_a_recording_that_is_too_long_for_one_window(call):
    assert refusal(call("predict", "m.edgepack", "long.wav")).startswith("sound of 20 samples, expected 1 to 8")


def test_predict_refuses_a_bundle_that_declares_nothing(call):
    assert "declares nothing before or behind its model" in refusal(call("predict", "m.edgepack", "x.wav"))
