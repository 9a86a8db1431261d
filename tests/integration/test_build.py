"""`edgepack build`, `inspect` and `validate` as a user runs them, on a real trained model and real data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
DIGITS = Path(__file__).parent.parent / "data" / "mnist"


def bundle(shop, profile: str):
    return shop.folder / "dist" / f"digits-1-{profile}.edgepack"


def test_one_bundle_a_profile_is_written_and_nothing_else(built, shop):
    names = sorted(path.name for path in (shop.folder / "dist").iterdir())
    assert names == ["digits-1-raspberry-pi-3.edgepack", "digits-1-raspberry-pi-4.edgepack"]


def test_the_accuracy_under_each_engine_is_close_to_the_float_sources(built):
    for item in built.json()["bundles"]:
        drop = item["candidates"][-1]["drops"][0]
        assert drop["samples"] == 1000
        assert drop["source"]["value"] > 0.98
        assert drop["drop"]["value"] <= 0.01


def test_an_integer_model_is_a_fraction_of_the_float_one(built):
    assert [item["scheme"] for item in built.json()["bundles"]] == ["full_integer", "full_integer"]
    assert all(item["model_bytes"] < (DIGITS / "model.onnx").stat().st_size / 2 for item in built.json()["bundles"])


def test_each_bundle_names_the_engine_it_was_proven_under(built):
    engines = [item["manifest"]["profile"]["engine"]["name"] for item in built.json()["bundles"]]
    assert engines == ["tflite-runtime", "ai-edge-litert"]
    for item in built.json()["bundles"]:
        (golden,) = [e for e in item["manifest"]["evidence"] if e["check"] == "golden outputs"]
        assert golden["environment"].startswith(item["manifest"]["profile"]["engine"]["name"])


def test_the_model_is_not_readable_in_the_bundle(built, shop):
    data = bundle(shop, "raspberry-pi-4").read_bytes()
    assert b"TFL3" not in data
    assert b"serving_default" not in data


def test_whoever_has_too_few_samples_is_told_how_many_and_no_other_way_out(shop, tmp_path):
    with np.load(shop.folder / "evaluation.npz") as archive:
        np.savez(tmp_path / "few.npz", **{name: archive[name][:50] for name in archive.files})
    done = shop.build("--profile", "raspberry-pi-4", "--evaluation", tmp_path / "few.npz", "--precision", "float16",
                      out="few")  # fmt: skip
    assert (done.code, "about 390 evaluation samples" in " ".join(done.err.split()), "hint:" in done.err) == (
        1,
        True,
        False,
    )


def test_a_bundle_says_what_it_requires_of_other_products_and_is_proven_all_the_same(shop):
    done = shop.build(
        "--profile", "raspberry-pi-4", "--precision", "float32", "--requires", "classifier=3", "--json", out="needs"
    )  # fmt: skip
    assert done.json()["bundles"][0]["manifest"]["requires"] == [{"product": "classifier", "security_version": 3}]


@pytest.mark.parametrize("profile", ["raspberry-pi-3", "raspberry-pi-4"])
def test_validate_holds_for_the_profile_it_was_built_for(built, shop, profile):
    done = shop.run("validate", bundle(shop, profile), "--profile", profile, "--json")
    assert done.code == 0, done.err
    names = [check["check"] for check in done.json()["checks"]]
    for wanted in ("signature", "engine", "op versions", "storage", "memory", "quantization", "golden outputs"):
        assert any(wanted in name for name in names), names


def test_validate_without_a_replay_needs_no_engine_and_says_what_is_not_known(built, shop, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "empty"))
    file = bundle(shop, "raspberry-pi-4")
    done = shop.run("validate", file, "--profile", "raspberry-pi-4", "--no-prove", "--offline", "--json")
    checks = {check["check"]: check["verdict"] for check in done.json()["checks"]}
    assert (done.code, checks["golden outputs"]) == (0, "unknown")


def test_validate_refuses_another_profile(built, shop):
    done = shop.run("validate", bundle(shop, "raspberry-pi-4"), "--profile", "raspberry-pi-3")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "built for raspberry-pi-4" in done.err


def test_validate_refuses_a_tampered_payload(built, shop, tmp_path):
    data = bytearray(bundle(shop, "raspberry-pi-4").read_bytes())
    data[-100] ^= 1
    (tmp_path / "t.edgepack").write_bytes(data)
    done = shop.run("validate", tmp_path / "t.edgepack", "--profile", "raspberry-pi-4")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "decryption" in done.err


def test_validate_refuses_a_tampered_signed_region(built, shop, tmp_path):
    data = bytearray(bundle(shop, "raspberry-pi-4").read_bytes())
    data[600] ^= 1
    (tmp_path / "t.edgepack").write_bytes(data)
    done = shop.run("validate", tmp_path / "t.edgepack", "--profile", "raspberry-pi-4")
    assert done.code == 1
    assert "signature" in done.err


def test_validate_refuses_a_truncated_bundle_in_one_line(built, shop, tmp_path):
    (tmp_path / "t.edgepack").write_bytes(bundle(shop, "raspberry-pi-4").read_bytes()[:-1])
    done = shop.run("validate", tmp_path / "t.edgepack", "--profile", "raspberry-pi-4")
    assert done.code == 1
    assert "Traceback" not in done.err


def test_a_wrong_device_key_opens_nothing(built, shop, tmp_path):
    shop.run("keys", "generate", "--role", "device", "-o", tmp_path / "other")
    done = shop.run(
        "validate", bundle(shop, "raspberry-pi-4"), "--profile", "raspberry-pi-4", "--key", tmp_path / "other.key.pem"
    )
    assert done.code == 1
    assert "no grant for this device's key" in done.err


def test_a_key_nobody_trusts_is_refused(built, shop, tmp_path):
    shop.run("keys", "generate", "--role", "release", "--no-passphrase", "-o", tmp_path / "other")
    done = shop.run("inspect", bundle(shop, "raspberry-pi-4"), "--trust", tmp_path / "other.pub.pem")
    assert done.code == 1
    assert "signed by 0 trusted keys" in done.err


def test_inspect_needs_no_device_key(built, shop):
    done = shop.run("inspect", bundle(shop, "raspberry-pi-3"))
    assert done.code == 0, done.err
    assert ", full_integer" in done.out
    assert "accuracy drop" in done.out


def test_evaluation_on_the_calibration_samples_is_told_and_signed(shop):
    done = shop.run(
        "build", DIGITS / "model.onnx", "--calibration", "evaluation.npz", "--evaluation", "evaluation.npz",
        "--profile", "raspberry-pi-4", "--json", "-o", "same",
    )  # fmt: skip
    (item,) = done.json()["bundles"]
    assert any("one and the same file" in note for note in item["manifest"]["provenance"]["notes"])


def test_a_drop_beyond_the_limit_is_refused_with_a_table_and_no_bundle(shop, tmp_path):
    # Calibrated on black images alone, the integer ranges fit nothing real.
    np.savez(tmp_path / "black.npz", Input3=np.full((20, 1, 28, 28), 1e-3, np.float32))
    done = shop.run(
        "build", DIGITS / "model.onnx", "--calibration", tmp_path / "black.npz", "--evaluation", "evaluation.npz",
        "--profile", "raspberry-pi-4", "--precision", "full_integer", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 1
    assert "accuracy drop" in done.err
    assert "--precision" in done.err
    assert f"edgepack diagnose {DIGITS / 'model.onnx'} --precision full_integer --profile raspberry-pi-4" in done.err
    assert not (tmp_path / "out").exists()


def test_auto_takes_the_first_scheme_that_passes_and_tells_of_the_others(shop, tmp_path):
    np.savez(tmp_path / "black.npz", Input3=np.full((20, 1, 28, 28), 1e-3, np.float32))
    done = shop.run(
        "build", DIGITS / "model.onnx", "--calibration", tmp_path / "black.npz", "--evaluation", "evaluation.npz",
        "--profile", "raspberry-pi-4", "--precision", "auto", "--json", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    (item,) = done.json()["bundles"]
    assert item["candidates"][0]["scheme"] == "full_integer"
    assert item["candidates"][0]["refusals"]
    assert item["scheme"] == "dynamic_range"


def test_a_model_larger_than_the_storage_budget_is_refused(shop, tmp_path):
    text = shop.run("profiles", "show", "raspberry-pi-4", "--json").json()
    text["budget"]["storage_bytes"] = 1000
    (tmp_path / "tiny.toml").write_text(to_toml(text))
    assert "refused" in shop.refused("--profile", tmp_path / "tiny.toml")


def to_toml(profile: dict) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in profile.items() if not isinstance(value, dict)]
    for section, table in profile.items():
        if isinstance(table, dict):
            lines.append(f"[{section}]")
            for key, value in table.items():
                inline = (
                    "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + " }"
                    if isinstance(value, dict)
                    else json.dumps(value)
                )
                lines.append(f'"{key}" = {inline}')
    return "\n".join(lines)


def test_a_missing_model_is_one_line(shop, tmp_path):
    assert "no such file" in shop.refused("--profile", "raspberry-pi-4", model=tmp_path / "nothing.onnx")


def test_a_truncated_model_is_one_line(shop, tmp_path):
    (tmp_path / "cut.onnx").write_bytes((DIGITS / "model.onnx").read_bytes()[:9000])
    assert "cut.onnx" in shop.refused("--profile", "raspberry-pi-4", model=tmp_path / "cut.onnx")


def test_a_file_that_is_no_model_is_one_line(shop, tmp_path):
    (tmp_path / "notes.onnx").write_text("buy milk\n" * 100)
    assert "notes.onnx" in shop.refused("--profile", "raspberry-pi-4", model=tmp_path / "notes.onnx")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"Input3": np.zeros((4, 1, 27, 28), np.float32)}, "has samples of shape [1, 27, 28], expected [1, 28, 28]"),
        ({"Input3": np.zeros((4, 1, 28, 28), np.uint8)}, "has dtype uint8, the model takes float32"),
        ({"image": np.zeros((4, 1, 28, 28), np.float32)}, "has the arrays ['image']"),
    ],
    ids=["shape", "dtype", "name"],
)
def test_calibration_data_that_does_not_fit_is_one_line(shop, tmp_path, arrays, said):
    np.savez(tmp_path / "bad.npz", **arrays)
    done = shop.run(
        "build", DIGITS / "model.onnx", "--calibration", tmp_path / "bad.npz", "--profile", "raspberry-pi-4",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_profile_names_the_near_ones(shop):
    assert "raspberry-pi-4" in shop.refused("--profile", "rasberry-pi-4")


def test_an_output_that_is_a_file_is_refused_before_the_work(shop, tmp_path):
    (tmp_path / "out").write_text("mine")
    done = shop.build("--profile", "raspberry-pi-4", out=str(tmp_path / "out"))
    assert done.code == 1
    assert "is a file" in done.err
    assert (tmp_path / "out").read_text() == "mine"


def test_a_device_key_does_not_sign(shop, tmp_path):
    shop.run("keys", "generate", "--role", "device", "-o", tmp_path / "device")
    assert "a release key is wanted" in shop.refused(
        "--profile", "raspberry-pi-4", "--key", tmp_path / "device.key.pem"
    )


def test_a_project_builds_from_its_edgepack_toml(shop, tmp_path):
    assert shop.run("init", tmp_path / "project", "--model", "digits.onnx").code == 0
    project = tmp_path / "project"
    shutil.copy(DIGITS / "model.onnx", project / "digits.onnx")
    shutil.copy(shop.folder / "calibration.npz", project)
    done = shop.run("build", "--json", cwd=project)
    assert done.code == 0, done.err
    assert (project / "dist" / "digits-1.0.0-raspberry-pi-4.edgepack").exists()

    def device(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgepack_runtime.cli", *words, "--device", "keys/device.json"]
        return subprocess.run(command, capture_output=True, text=True, cwd=project, check=False)

    bundle = "dist/digits-1.0.0-raspberry-pi-4.edgepack"
    early = device("verify", bundle)
    assert (early.returncode, "edgepack-device state create" in early.stderr) == (1, True)
    assert device("state", "create").returncode == 0
    accepted = device("accept", bundle)
    assert accepted.returncode == 0, accepted.stderr
    assert "golden samples on ai-edge-litert" in accepted.stdout
    assert "below security version 1" in accepted.stdout
