"""Opening and running real bundles, and every reason not to."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bundlekit
import realbundle
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.engines import installed
from edgepack_runtime.errors import (
    EngineError,
    FileError,
    FormatError,
    GrantError,
    IncompatibleError,
    InputError,
    PayloadError,
    RollbackError,
    SelfTestError,
    SignatureError,
)
from edgepack_runtime.profile import Delegate, DeviceProfile, Source
from edgepack_runtime.session import open_bundle, verify_bundle
from edgepack_runtime.tensors import TensorSpec

GOOD = realbundle.bundle()
OTHER_VERSION = realbundle.profile(version="9.9.9")


def with_engine(**changes: object) -> DeviceProfile:
    """Return the bench board with other members of its engine, and a source for each."""
    base = realbundle.profile()
    why = Source(kind="assumed", text="for tests")
    figures = [(f"engine.{name}", why) for name in changes if name != "version"]
    return replace(base, engine=replace(base.engine, **changes), sources=(*base.sources, *figures))


def with_delegate(library: str) -> DeviceProfile:
    return with_engine(delegates=(Delegate(name="mine", version="1", library=library),))


@pytest.fixture
def write(tmp_path):
    def write(data: bytes) -> Path:
        path = tmp_path / "m.edgepack"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def session(write):
    with open_bundle(write(GOOD), device=realbundle.device()) as session:
        yield session


def feeds(name: str = "two_by_two", sample: int = 0):
    return dict(realbundle.model(name).golden[sample].inputs)


def wrong_golden(name: str = "two_by_two"):
    """Return the golden samples, one value of the last one another."""
    *good, last = realbundle.model(name).golden
    outputs = {key: array.copy() for key, array in last.outputs.items()}
    outputs["maybe"].flat[0] += 1
    return (*good, replace(last, outputs=outputs))


def refused(path: Path, error: type[Exception], complaint: str, **device: object) -> Exception:
    with pytest.raises(error, match=complaint) as caught:
        open_bundle(path, device=realbundle.device(**device))
    return caught.value


# Good bundles


@pytest.mark.parametrize("name", ["two_by_two", "no_signature", "int8", "stateful"])
def test_a_session_gives_the_golden_outputs(write, name):
    golden = realbundle.model(name).golden[0]
    with open_bundle(write(realbundle.bundle(name)), device=realbundle.device()) as session:
        outputs = session.run(golden.inputs)
    for key, array in golden.outputs.items():
        np.testing.assert_array_equal(outputs[key], array)


def test_the_specs_are_the_manifests_in_its_order(session):
    assert [str(s) for s in session.inputs] == ["zebra: float32[1, 4]", "apple: float32[1, 2]"]
    assert list(session.run(feeds())) == ["yes", "maybe"]


def test_another_signature_of_the_model_is_run_by_its_key(write):
    x = np.ones((1, 8), np.float32)
    with open_bundle(write(realbundle.bundle("codec")), device=realbundle.device()) as session:
        code = session.run({"x": x}, signature_key="encode")["code"]
        assert session.signatures["encode"].outputs[0].shape == code.shape == (1, 4)
        assert session.metrics().runs == 1
        assert session.self_test().holds


def test_a_run_in_place_copies_nothing_and_is_counted(session):
    def fill(inputs):
        for name, value in feeds().items():
            inputs[name][...] = value

    found = session.run_in_place(fill, lambda outputs: float(outputs["yes"].sum()))
    assert found == float(session.run(feeds())["yes"].sum())
    assert session.metrics().runs == 2


def test_a_signature_the_model_has_not_is_refused_and_counted(session):
    with pytest.raises(InputError, match="no signature 'encode'"):
        session.run(feeds(), signature_key="encode")
    assert session.metrics().refused == 1


def test_the_engine_is_told_by_name_and_version(session):
    assert session.engine == f"{realbundle.ENGINE} {realbundle.VERSION}"


def test_a_self_test_tells_how_close_it_was(session):
    replay = session.self_test()
    assert (replay.holds, replay.samples, replay.error) == (True, 3, 0.0)


def test_a_self_test_resets_a_stateful_model_before_and_after(write):
    with open_bundle(write(realbundle.bundle("stateful")), device=realbundle.device()) as session:
        first = session.run(feeds("stateful", 1))["y"]
        session.self_test()
        np.testing.assert_array_equal(session.run(feeds("stateful", 1))["y"], first)


def test_a_stateful_model_keeps_its_state_from_run_to_run_until_reset(write):
    with open_bundle(write(realbundle.bundle("stateful")), device=realbundle.device()) as session:
        ones = {"x": np.ones((1, 1), np.float32)}
        sums = [float(session.run(ones)["y"][0, 0]) for _ in range(2)]
        session.reset()
        assert [*sums, float(session.run(ones)["y"][0, 0])] == [1.0, 2.0, 1.0]


def test_outputs_are_the_callers_to_keep(session):
    first = session.run(feeds(sample=0))
    kept = {key: array.copy() for key, array in first.items()}
    session.run(feeds(sample=1))
    np.testing.assert_array_equal(first["yes"], kept["yes"])


def test_a_bundle_that_is_signed_only_opens_without_a_key(write):
    board, what = realbundle.profile(), realbundle.model()
    recipe = realbundle.recipe(what, realbundle.manifest(what, board), board)
    plain = bundlekit.make(recipe, header=replace(recipe.header, suite=PayloadSuite.PLAIN), recipients=())
    with open_bundle(write(plain.file()), device=realbundle.device(key=None)) as session:
        assert session.self_test().holds


def test_the_number_of_threads_is_the_devices_to_say(write):
    with open_bundle(write(GOOD), device=realbundle.device(num_threads=2)) as session:
        assert session.self_test().holds


def test_the_file_may_be_gone_once_it_is_open(write):
    path = write(GOOD)
    with open_bundle(path, device=realbundle.device()) as session:
        path.unlink()
        assert session.self_test().holds


def test_a_session_is_shown_without_anything_secret(session):
    assert repr(session) == f"<Session of digits 1.2 on {realbundle.ENGINE} {realbundle.VERSION}>"


def test_verifying_needs_no_key(write):
    bundle, manifest = verify_bundle(write(GOOD), device=realbundle.device(key=None))
    assert (bundle.header.product, manifest.version) == ("digits", "1.2")


def test_a_device_without_a_profile_verifies_any(write):
    assert verify_bundle(write(GOOD), device=realbundle.device(profile=None))[1].profile.name == "bench-board"


# Closing


def test_a_closed_session_runs_no_more(session):
    session.close()
    with pytest.raises(EngineError, match=r"closed"):
        session.run(feeds())


def test_a_session_may_be_closed_twice(session):
    session.close()
    session.close()
    assert session.manifest.name == "digits"


def test_leaving_the_block_closes(write):
    with open_bundle(write(GOOD), device=realbundle.device()) as session:
        pass
    with pytest.raises(EngineError, match=r"closed"):
        session.self_test()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_closed_session_and_a_refused_bundle_hold_no_descriptors(write):
    open_bundle(write(GOOD), device=realbundle.device()).close()
    before = _descriptors()
    open_bundle(write(GOOD), device=realbundle.device()).close()
    refused(write(GOOD[:-1]), FormatError, r"bytes")
    refused(write(GOOD[:-1] + b"x"), PayloadError, r"segment 0")
    refused(write(GOOD), GrantError, r"no grant", key=bundlekit.x25519("other"))
    assert _descriptors() == before


# What is no bundle for this device


def test_another_devices_key_opens_nothing(write):
    error = refused(write(GOOD), GrantError, r"no grant for this device's key", key=bundlekit.x25519("other"))
    assert "add this device as a recipient" in error.hint


def test_a_device_without_a_key_opens_nothing_encrypted(write):
    refused(write(GOOD), GrantError, r"encrypted and this device has no key", key=None)


def test_a_bundle_of_a_stranger_is_refused(write):
    refused(
        write(GOOD), SignatureError, r"signed by 0 trusted keys", trust=bundlekit.trust(bundlekit.ed25519("other"))
    )


def test_a_bundle_that_too_few_signed_is_refused(write):
    both = bundlekit.trust(bundlekit.ed25519(), bundlekit.p256(), threshold=2)
    refused(write(GOOD), SignatureError, r"signed by 1 trusted keys, wanted 2", trust=both)


def test_a_bundle_for_another_profile_is_refused(write):
    refused(
        write(GOOD), IncompatibleError, r"built for profile 'bench-board', this device is 'other'", profile="other"
    )


def test_a_bundle_below_the_floor_is_refused(write):
    refused(write(GOOD), RollbackError, r"security version 7 is lower than 8", accepted={"digits": 8})


@pytest.mark.parametrize("accepted", [{"digits": 7}, {"digits": 1}, {"faces": 99}, {}])
def test_a_bundle_at_the_floor_or_of_another_product_is_opened(write, accepted):
    with open_bundle(write(GOOD), device=realbundle.device(accepted=accepted)) as session:
        assert session.manifest.name == "digits"


@pytest.mark.parametrize("at", ["first byte of the payload", "middle of the payload", "last byte"])
def test_an_altered_payload_is_refused(write, at):
    payload = bundlekit.container(GOOD).preamble.front_length
    where = {"first byte of the payload": payload, "middle of the payload": (payload + len(GOOD)) // 2}
    data = bytearray(GOOD)
    data[where.get(at, len(GOOD) - 1)] ^= 1
    refused(write(bytes(data)), PayloadError, r"payload: segment 0 of 1 is not the one that was signed")


def test_an_altered_front_is_refused(write):
    data = bytearray(GOOD)
    data[100] ^= 1
    refused(write(bytes(data)), SignatureError, r"is wrong")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", r"0 bytes, wanted 32"),
        (GOOD[:31], r"31 bytes"),
        (GOOD[:-1], r"the file has \d+ bytes, its preamble says"),
        (GOOD + b"x", r"the file has \d+ bytes, its preamble says"),
        (realbundle.model().data, r"no edgepack bundle"),
        (b"\x00" * 5000, r"no edgepack bundle"),
    ],
)
def test_what_is_no_whole_bundle_is_refused(write, data, complaint):
    refused(write(data), FormatError, complaint)


@pytest.mark.parametrize(("name", "complaint"), [("missing", r"No such file"), (".", r"is no regular file")])
def test_what_is_no_file_is_refused(tmp_path, name, complaint):
    refused(tmp_path / name, FileError, complaint)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", FileError, r"is no regular file")


# The engine


def test_another_engine_version_than_the_proven_one_is_refused(write):
    wanted = rf"proven under {realbundle.ENGINE} 9.9.9, here is {realbundle.ENGINE} {realbundle.VERSION}"
    error = refused(write(realbundle.bundle(board=OTHER_VERSION)), IncompatibleError, wanted)
    assert "engine_policy to 'self-test'" in error.hint


def test_another_engine_version_is_believed_after_its_self_test(write):
    path = write(realbundle.bundle(board=OTHER_VERSION))
    with open_bundle(path, device=realbundle.device(engine_policy="self-test")) as session:
        assert session.self_test().holds


def test_another_engine_version_that_computes_otherwise_is_refused_at_once(write):
    path = write(realbundle.bundle(board=OTHER_VERSION, golden=wrong_golden()))
    error = refused(path, SelfTestError, r"output 'maybe' differs", engine_policy="self-test")
    assert f"{realbundle.ENGINE}==9.9.9" in error.hint


def test_another_version_that_the_bundle_was_proven_under_too_is_taken_without_a_self_test(write):
    board = with_engine(version="9.9.9", also=("8.8.8", realbundle.VERSION))
    with open_bundle(write(realbundle.bundle(board=board, golden=wrong_golden())), device=realbundle.device()) as it:
        assert it.engine == f"{realbundle.ENGINE} {realbundle.VERSION}"


def test_a_version_that_is_none_of_those_it_was_proven_under_is_refused(write):
    board = with_engine(version="9.9.9", also=("8.8.8",))
    refused(
        write(realbundle.bundle(board=board)), IncompatibleError, r"proven under \S+ 9\.9\.9 and 8\.8\.8, here is"
    )


def test_a_delegate_whose_library_is_missing_is_no_reason_to_do_without(write):
    path = write(realbundle.bundle(board=with_delegate("libnobodyhasthis.so")))
    refused(path, EngineError, r"delegate library libnobodyhasthis\.so cannot be loaded")


@pytest.mark.skipif(len(installed()) > 1, reason="both engines are installed here")
def test_an_engine_that_is_not_installed_is_refused_with_how_to_install_it(write):
    other = {"ai-edge-litert": "tflite-runtime", "tflite-runtime": "ai-edge-litert"}[realbundle.ENGINE]
    board = realbundle.profile(engine=other, version="2.14.0")
    error = refused(write(realbundle.bundle(board=board)), EngineError, rf"runs on {other} 2.14.0, which is not inst")
    assert error.hint.startswith(f"pip install '{other}==2.14.0'")


# The golden tensors


def test_wrong_golden_outputs_fail_the_self_test(write):
    path = write(realbundle.bundle(golden=wrong_golden()))
    complaint = r"output 'maybe' differs from the golden outputs by .*% of its range"
    with open_bundle(path, device=realbundle.device()) as session, pytest.raises(SelfTestError, match=complaint):
        session.self_test()


def test_a_wide_signed_tolerance_lets_them_pass(write):
    path = write(realbundle.bundle(golden=wrong_golden(), tolerance=1.0))
    with open_bundle(path, device=realbundle.device()) as session:
        assert 0 < session.self_test().error < 1


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_golden_samples_than_signed_is_refused(write, count):
    golden = (*realbundle.model().golden, realbundle.model().golden[0])[:count]
    refused(write(realbundle.bundle(golden=golden)), FormatError, r"golden tensors: \d+ bytes are not 3 samples")


# A publisher who contradicts himself


def made(change) -> bytes:
    """Return a signed bundle whose manifest is `change`d."""
    board, what = realbundle.profile(), realbundle.model()
    manifest = realbundle.manifest(what, board)
    recipe = realbundle.recipe(what, manifest, board)
    return bundlekit.make(recipe, manifest=change(manifest).to_bytes()).file()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: replace(m, name="faces"), r"the manifest disagrees with the signed table"),
        (lambda m: replace(m, profile=replace(m.profile, name="other")), r"the manifest disagrees"),
        (lambda m: replace(m, profile=OTHER_VERSION), r"the manifest disagrees"),
        (lambda m: replace(m, profile=replace(m.profile, description="b")), r"the manifest disagrees"),
        (lambda m: replace(m, model=replace(m.model, entry="nothing")), r"has no entry 'nothing'"),
        (lambda m: replace(m, golden=replace(m.golden, entry="nothing")), r"has no entry 'nothing'"),
        (lambda m: replace(m, golden=replace(m.golden, entry="model.tflite")), r"golden tensors: 1588 bytes"),
        (lambda m: replace(m, model=replace(m.model, outputs=())), r"golden tensors"),
    ],
)
def test_a_manifest_that_contradicts_the_bundle_is_refused(write, change, complaint):
    refused(write(made(change)), FormatError, complaint)


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: replace(spec, name="zebu"),
        lambda spec: replace(spec, shape=(4, 1)),
        lambda spec: replace(spec, dtype="int32"),
    ],
)
def test_promised_inputs_that_the_model_does_not_have_are_refused(write, change):
    def lie(manifest):
        first, *rest = manifest.model.inputs
        return replace(manifest, model=replace(manifest.model, inputs=(change(first), *rest)))

    refused(write(made(lie)), FormatError, r"the manifest promises .*, the model has zebra: float32\[1, 4\]")


def test_a_manifest_that_is_no_manifest_is_refused(write):
    board, what = realbundle.profile(), realbundle.model()
    recipe = realbundle.recipe(what, realbundle.manifest(what, board), board)
    refused(write(bundlekit.make(recipe, manifest=b"{}").file()), FormatError, r"manifest.manifest: missing")


def unloadable() -> bytes:
    board, what = realbundle.profile(), realbundle.model()
    broken = replace(what, data=(realbundle.MODELS / "custom_op.tflite").read_bytes())
    return bundlekit.make(realbundle.recipe(broken, realbundle.manifest(what, board), board)).file()


def test_a_model_that_the_engine_refuses_is_an_engine_error(write):
    refused(write(unloadable()), EngineError, r"refuses the model: .*NoSuchOp")


def test_a_model_that_is_not_what_was_signed_never_reaches_the_engine(write):
    # Of this one the engine would have complained first. The model is the last entry.
    data = unloadable()
    refused(write(data[:-1] + bytes([data[-1] ^ 1])), PayloadError, r"not the one that was signed")


# Inputs


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f: f.pop("apple"), r"inputs named \['zebra'\] were given, the model takes \['apple', 'zebra'\]"),
        (lambda f: f.update(pear=f["apple"]), r"inputs named \['apple', 'pear', 'zebra'\]"),
        (lambda f: f.update(apple=f["apple"].astype("f8")), r"input 'apple': expected dtype float32, got float64"),
        (lambda f: f.update(apple=f["apple"][0]), r"input 'apple': expected shape \[1, 2\], got \[2\]"),
        (lambda f: f.update(apple=f["apple"].tolist()), r"input 'apple': expected a numpy array, got list"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(session, change, complaint):
    given = feeds()
    change(given)
    with pytest.raises(InputError, match=complaint):
        session.run(given)


def test_a_refused_input_leaves_the_session_usable(session):
    with pytest.raises(InputError):
        session.run({})
    assert session.self_test().holds


def test_a_spec_is_shown_as_a_person_writes_it():
    assert str(TensorSpec(name="x", dtype="int8", shape=(-1, 3))) == "x: int8[?, 3]"


def test_what_lies_beside_a_bundle_in_clear_cannot_stop_it(write):
    board, what = realbundle.profile(), realbundle.model()
    recipe = realbundle.recipe(what, realbundle.manifest(what, board), board)
    path = write(
        bundlekit.make(recipe, header=replace(recipe.header, suite=PayloadSuite.PLAIN), recipients=()).file()
    )
    path.with_name(f"{path.name}.grant").write_bytes(b"no sidecar at all")
    with open_bundle(path, device=realbundle.device()) as session:
        assert session.self_test().holds
