"""Models as C: what a compiler makes of them is the model, byte by byte."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from edgepack.c_source import CModel, c_files, c_identifier
from edgepack_runtime.golden import GoldenSample
from edgepack_runtime.tensors import QuantizationParameters, TensorSpec

SPEC = TensorSpec(
    name="image", dtype="int8", shape=(1, 3), quantization=QuantizationParameters(scale=(0.1,), zero_point=(-128,))
)
OUT = TensorSpec(name="out", dtype="float32", shape=(2,))
SAMPLES = tuple(
    GoldenSample(inputs={"image": np.array([[i, -1, 127]], np.int8)}, outputs={"out": np.array([i, 0.5], np.float32)})
    for i in range(2)
)
MODEL = CModel(
    name="Line-Camera.v2",
    model=bytes(range(256)) * 3,
    compiled=False,
    arena_bytes=4096,
    arena_used_bytes=4000,
    inputs=(SPEC,),
    outputs=(OUT,),
    golden=SAMPLES,
)
PROGRAM = """
#include <stdint.h>
#include <stdio.h>
#include "line_camera_v2.h"
int main(void) {
  fwrite(line_camera_v2_model, 1, LINE_CAMERA_V2_MODEL_BYTES, stdout);
  fwrite(line_camera_v2_golden_input_0, 1, sizeof line_camera_v2_golden_input_0, stdout);
  fwrite(line_camera_v2_golden_output_0, 1, sizeof line_camera_v2_golden_output_0, stdout);
  return (uintptr_t)line_camera_v2_model % 16 != 0 || LINE_CAMERA_V2_INPUT_0_ZERO_POINT != -128
    || LINE_CAMERA_V2_INPUT_0_SCALE != 0.1 || LINE_CAMERA_V2_ARENA_BYTES != 4096;
}
"""


@pytest.mark.parametrize("compiler", [["gcc", "-std=c11"], ["g++", "-std=c++11", "-x", "c++"]], ids=["C", "C++"])
def test_a_compiler_makes_the_model_of_it(tmp_path, compiler):
    if compiler[0] == "g++" and subprocess.run(["sh", "-c", "command -v g++"], check=False).returncode:
        compiler = ["gcc", "-std=c11"]
    for name, data in c_files(MODEL).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "main.c").write_text(PROGRAM)
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o", "program"]
    subprocess.run([*compiler, *strict, "main.c", "line_camera_v2.c"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "program"], capture_output=True, check=True)
    golden = b"".join(s.inputs["image"].tobytes() for s in SAMPLES)
    golden += b"".join(s.outputs["out"].tobytes() for s in SAMPLES)
    assert done.stdout == MODEL.model + golden


def test_the_header_has_the_digest_of_the_model():
    header = c_files(MODEL)["line_camera_v2.h"].decode()
    assert f'MODEL_SHA256 "{hashlib.sha256(MODEL.model).hexdigest()}"' in header


def test_a_compiled_models_arena_is_said_to_be_that_of_the_model_before():
    lines = [c_files(replace(MODEL, compiled=compiled))["line_camera_v2.h"].decode() for compiled in (False, True)]
    assert ["before it was compiled" in text for text in lines] == [False, True]


def test_the_name_of_a_tensor_cannot_end_the_comment_it_stands_in():
    hostile = replace(SPEC, name='*/\n#include "/etc/passwd"\n/*')
    sample = replace(SAMPLES[0], inputs={hostile.name: SAMPLES[0].inputs["image"]})
    text = c_files(replace(MODEL, inputs=(hostile,), golden=(sample,)))["line_camera_v2.h"].decode()
    (line,) = [line for line in text.splitlines() if "include" in line]
    assert (line[:3], line[3:].index("*/"), "passwd" in line) == ("/* ", len(line) - 5, True)


@pytest.mark.parametrize(
    ("product", "name"), [("a", "a"), ("3d.net", "m_3d_net"), ("---", "model"), ("A__b", "a_b"), ("x.", "x")]
)
def test_a_product_becomes_a_name_of_c(product, name):
    assert c_identifier(product) == name
