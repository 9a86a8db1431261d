"""Delegates that are libraries of their own: really loaded, given the model, and believed after a self-test only."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import realbundle
from edgepack_runtime.errors import EngineError, SelfTestError
from edgepack_runtime.profile import Delegate, DeviceProfile, Source
from edgepack_runtime.session import open_bundle


def with_delegate(library: str) -> DeviceProfile:
    base = realbundle.profile()
    engine = replace(base.engine, delegates=(Delegate(name="mine", version="1", library=library),))
    why = Source(kind="assumed", text="for tests")
    return replace(base, engine=engine, sources=(*base.sources, ("engine.delegates", why)))


@pytest.fixture
def write(tmp_path):
    def write(data: bytes) -> Path:
        path = tmp_path / "m.edgepack"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def delegate(tmp_path):
    """Return the name of a delegate's library that the system finds; it takes no node, or refuses every model."""

    def make(status: int) -> str:
        name = f"libtestdelegate{status}.so"
        source = tmp_path / "delegate.c"
        source.write_text(DELEGATE, "ascii")
        command = ["gcc", "-shared", "-fPIC", f"-DSTATUS={status}", f"-Wl,-soname,{name}", "-o", name, source.name]
        subprocess.run(command, cwd=tmp_path, check=True)
        # What is loaded is found again by its soname, as if it were where the system has its libraries.
        ctypes.CDLL(str(tmp_path / name))
        return name

    return make


# The beginning of TfLiteDelegate in TensorFlow Lite's c/common.h.
DELEGATE = """
struct delegate {
  void *data;
  int (*prepare)(void *context, struct delegate *me);
  void *copy_from, *copy_to, *free_buffer;
  long long flags;
  void *opaque[2];
};
static int prepare(void *context, struct delegate *me) { return STATUS; }
static struct delegate made = {.prepare = prepare};
void *tflite_plugin_create_delegate(char **keys, char **values, unsigned long count, void (*report)(const char *)) {
  return &made;
}
void tflite_plugin_destroy_delegate(void *delegate) {}
"""


def test_a_model_runs_with_the_delegate_that_its_profile_names(write, delegate):
    path = write(realbundle.bundle(board=with_delegate(delegate(0))))
    with open_bundle(path, device=realbundle.device()) as session:
        assert session.self_test().holds


def test_a_delegate_is_really_given_the_model(write, delegate):
    path = write(realbundle.bundle(board=with_delegate(delegate(1))))
    with pytest.raises(EngineError, match=r"refuses the model"):
        open_bundle(path, device=realbundle.device())


def test_a_model_with_a_delegate_is_believed_after_its_self_test_only(write, delegate):
    path = write(realbundle.bundle(board=with_delegate(delegate(0)), golden=wrong_golden()))
    with pytest.raises(SelfTestError, match=r"output 'maybe' differs"):
        open_bundle(path, device=realbundle.device())


def wrong_golden():
    """Return the golden samples, one value of the last one another."""
    *good, last = realbundle.model().golden
    outputs = {key: array.copy() for key, array in last.outputs.items()}
    outputs["maybe"].flat[0] += 1
    return (*good, replace(last, outputs=outputs))
