"""Profiles as files: what is written reads back, and the JSON Schema takes what the reader takes."""

from __future__ import annotations

from dataclasses import replace

import jsonschema
import pytest
import tomllib

from edgepack.errors import ProfileError
from edgepack.profile_text import derived_profile, profile_schema, profile_toml
from edgepack.profiles import list_profiles, load_profile, write_profile
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.profile import Delegate, DeviceProfile, InputLimits, KnownWrong, Source

SHIPPED = list_profiles()
WHY = Source(kind="measured", text="seen " * 30 + "twice")


def full_profile() -> DeviceProfile:
    """Return a profile with everything that one may have."""
    base = load_profile("raspberry-pi-5")
    delegates = (Delegate(name="XNNPACK", version="2.3.0"), Delegate(name="npu", version="1", library="libnpu.so"))
    figures = ("engine.also", "engine.delegates", "io.batch", "io.input_dtypes")
    return replace(
        base,
        engine=replace(base.engine, also=("2.1.0",), delegates=delegates),
        quantization=("full_integer",),
        known_wrong=(
            KnownWrong(scheme="float16", reason='it "overflows"', source=WHY),
            KnownWrong(scheme="float32", reason="slow " * 40 + "and wrong", source=WHY),
        ),
        io=InputLimits(input_dtypes=("int8", "uint8"), batch=1),
        sources=tuple(sorted([*base.sources, *((figure, WHY) for figure in figures)])),
    )


def valid(text: str) -> bool:
    return jsonschema.Draft202012Validator(profile_schema()).is_valid(tomllib.loads(text))


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda p: p.name)
def test_a_written_profile_reads_back_as_it_was(tmp_path, profile):
    assert load_profile(write_profile(profile, tmp_path)) == profile


def test_a_profile_with_everything_reads_back_as_it_was(tmp_path):
    assert load_profile(write_profile(full_profile(), tmp_path)) == full_profile()


def test_the_schema_takes_a_profile_with_everything():
    assert valid(profile_toml(full_profile()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('also = ["2.1.0"]', "also = []"),
        ('also = ["2.1.0"]', 'also = [">=2"]'),
        ('library = "libnpu.so"', 'library = "/opt/libnpu.so"'),
        ('name = "npu"', 'title = "npu"'),
        ('scheme = "float16"', 'scheme = "int4"'),
        ("reason = ", "why = "),
        ('input_dtypes = ["int8", "uint8"]', "input_dtypes = []"),
        ("batch = 1", "batch = 0"),
        ("batch = 1", 'layout = "nchw"'),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses_of_the_rest(tmp_path, old, new):
    text = profile_toml(full_profile())
    assert old in text
    path = tmp_path / "broken.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SchemaError):
        load_profile(path)
    assert not valid(path.read_text())


def test_a_derived_profile_assumes_what_is_known_wrong():
    assert {wrong.source.kind for wrong in derived_profile(full_profile(), "mine").known_wrong} == {"assumed"}


@pytest.mark.parametrize("text", ['it says "two" and """three"""', "a\\b \\\\ c", 'ends with a quote"', "é" * 200])
@pytest.mark.parametrize("padding", ["", "word " * 40])
def test_any_text_of_a_source_reads_back(tmp_path, text, padding):
    base = SHIPPED[0]
    (path, _), *rest = base.sources
    profile = replace(base, sources=((path, Source(kind="assumed", text=padding + text)), *rest))
    assert load_profile(write_profile(profile, tmp_path)) == profile


def test_a_profile_with_hundreds_of_processor_flags_keeps_to_short_lines(tmp_path):
    base = SHIPPED[0]
    wide = replace(base, hardware=replace(base.hardware, cpu_features=tuple(f"flag_{i}" for i in range(300))))
    assert max(map(len, profile_toml(wide).splitlines())) < 130
    assert load_profile(write_profile(wide, tmp_path)) == wide


def test_a_derived_profile_assumes_every_figure():
    derived = derived_profile(load_profile("raspberry-pi-5"), "my-board")
    assert {source.kind for _, source in derived.sources} == {"assumed"}
    assert (derived.name, derived.aliases) == ("my-board", ())


def test_a_derived_profile_of_an_impossible_name_is_refused():
    with pytest.raises(SchemaError, match=r"'My Board' is no profile name"):
        derived_profile(SHIPPED[0], "My Board")


def test_a_profile_that_exists_is_not_overwritten(tmp_path):
    path = write_profile(SHIPPED[0], tmp_path)
    before = path.read_bytes()
    with pytest.raises(ProfileError, match=r"exists"):
        write_profile(replace(SHIPPED[0], description="another"), tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda p: p.name)
def test_the_schema_takes_every_shipped_profile(profile):
    assert valid(profile_toml(profile))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("schema = 1", "schema = 2"),
        ('arch = "aarch64"', 'arch = "riscv64"'),
        ("cores = 4", "cores = 0"),
        ("cores = 4", 'cores = "4"'),
        ('version = "2.3.0"', 'version = "latest"'),
        ('libc = "glibc 2.36"', 'libc = "2.36"'),
        ('kind = "published"', 'kind = "guessed"'),
        ("num_threads = 4", "threads = 4"),
        ('"float16"', '"int4"'),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(tmp_path, old, new):
    text = profile_toml(load_profile("raspberry-pi-5"))
    assert old in text
    path = tmp_path / "broken.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SchemaError):
        load_profile(path)
    assert not valid(path.read_text())
