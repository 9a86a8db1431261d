"""The shipped profiles, and files from strangers."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack import profiles
from edgepack.errors import ProfileError
from edgepack.profiles import list_profiles, load_profile
from edgepack_runtime.errors import SchemaError
from edgepack_runtime.profile import DeviceProfile

SHIPPED = Path(__file__).resolve().parents[3] / "device_profiles"
FILES = sorted(SHIPPED.glob("*.toml"))
PI4 = (SHIPPED / "raspberry-pi-4.toml").read_text("utf-8")


def write(folder: Path, text: str | bytes, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_shipped_profiles_are_these():
    assert [p.name for p in list_profiles()] == [
        "beaglebone-ai-64",
        "generic-aarch64-linux",
        "generic-x86-64-linux",
        "jetson-orin-nano",
        "nanopi-r5s",
        "raspberry-pi-3",
        "raspberry-pi-3-64bit",
        "raspberry-pi-4",
        "raspberry-pi-4-32bit",
        "raspberry-pi-5",
        "raspberry-pi-zero-2w",
        "roc-rk3328-cc",
        "roc-rk3399-pc",
        "rock-5b",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_profile_is_found_by_the_name_of_its_file_and_by_each_alias(path: Path):
    profile = load_profile(path.stem)
    assert [load_profile(alias) for alias in profile.aliases] == [profile] * len(profile.aliases)
    assert profile.name == path.stem
    assert profile.aliases


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_profile_gives_a_source_for_each_figure(path: Path):
    sources = dict(load_profile(path.stem).sources)
    assert len(sources) == 8
    assert {source.kind for source in sources.values()} == {"published", "assumed"}
    assert sources["engine.version"].kind == "published"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_profile_names_an_engine_that_has_a_wheel_for_it(path: Path):
    profile = load_profile(path.stem)
    python = int(profile.software.python.removeprefix("3."))
    if profile.engine.name == "tflite-runtime":
        assert (profile.hardware.arch, profile.engine.version, python) == ("armv7l", "2.14.0", 11)
    else:
        assert profile.hardware.arch in ("aarch64", "x86_64")
        assert (profile.engine.version, 10 <= python <= 14) == ("2.3.0", True)


def test_only_the_boards_with_dot_product_claim_it():
    claims = {p.name for p in list_profiles() if "asimddp" in p.hardware.cpu_features}
    assert claims == {"raspberry-pi-5", "jetson-orin-nano", "nanopi-r5s", "rock-5b"}


def test_the_raspberry_pi_4_claims_no_aes():
    assert not {"aes", "pmull", "sha2"} & set(load_profile("raspberry-pi-4").hardware.cpu_features)


def test_local_is_the_machine_at_hand():
    assert load_profile("local").name == "local"


def test_an_unknown_name_lists_the_near_ones_and_the_command():
    with pytest.raises(ProfileError, match="named 'raspbery-pi-4'; near it: raspberry-pi-4") as refused:
        load_profile("raspbery-pi-4")
    assert "edgepack profiles list" in str(refused.value.hint)


def test_a_name_near_to_nothing_gives_the_command_alone():
    with pytest.raises(ProfileError, match=r"no device profile is named 'qqqqqqqq'$") as refused:
        load_profile("qqqqqqqq")
    assert "edgepack profiles list" in str(refused.value.hint)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_of_ones_own_is_read_by_its_path(tmp_path: Path, kind: type[str] | type[Path]):
    path = write(tmp_path, PI4.replace('name = "raspberry-pi-4"', 'name = "my-board"'))
    assert load_profile(kind(path)).name == "my-board"


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ProfileError, match=r"none\.toml: no such file"):
        load_profile(tmp_path / "none.toml")


def test_a_folder_is_no_profile(tmp_path: Path):
    with pytest.raises(ProfileError, match="no such file"):
        load_profile(tmp_path)


def test_a_wrong_field_is_refused_with_file_and_field(tmp_path: Path):
    path = write(tmp_path, PI4.replace("num_threads = 4", "num_treads = 4"))
    with pytest.raises(SchemaError, match=r"mine\.toml\.engine\.num_threads: missing"):
        load_profile(path)


def test_a_file_that_is_no_toml_is_refused_with_line_and_column(tmp_path: Path):
    path = write(tmp_path, "schema = 1\nname = \n")
    with pytest.raises(ProfileError, match=r"mine\.toml: not valid TOML: .*line 2"):
        load_profile(path)


def test_a_profile_may_not_take_the_name_local(tmp_path: Path):
    path = write(tmp_path, PI4.replace('name = "raspberry-pi-4"', 'name = "local"'))
    with pytest.raises(ProfileError, match="'local' is the machine at hand's"):
        load_profile(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of profiles in place of the shipped one, with the Pi 4's in it."""
    shutil.copy(SHIPPED / "raspberry-pi-4.toml", tmp_path)
    monkeypatch.setattr(profiles, "_folder", lambda: tmp_path)
    return tmp_path


def test_two_files_of_one_name_are_refused(folder: Path):
    write(folder, PI4, "zz.toml")
    with pytest.raises(ProfileError, match=r"zz\.toml: the name 'raspberry-pi-4' is taken by raspberry-pi-4\.toml"):
        load_profile("raspberry-pi-4")


def test_an_alias_that_is_anothers_name_is_refused(folder: Path):
    text = PI4.replace('name = "raspberry-pi-4"', 'name = "other"')
    write(folder, re.sub("aliases = .*", 'aliases = ["raspberry-pi-4"]', text), "zz.toml")
    with pytest.raises(ProfileError, match="'raspberry-pi-4' is taken"):
        list_profiles()


HOSTILE = {
    "empty": b"",
    "not UTF-8": b'name = "\xff"',
    "a NUL": b'name = "\0"',
    "brackets in brackets": b"a = " + b"[\n" * 50_000,
    "tables in tables": b"a = " + b"{a=" * 160,
    "an integer of 240,000 digits": b"a = " + b"9" * 240_000,
    "an integer of 490 digits": PI4.replace("cores = 4", f"cores = {'9' * 490}").encode(),
    "a date out of the calendar": b"a = 2024-13-45",
    "a date for a number": PI4.replace("cores = 4", "cores = 2024-01-01").encode(),
    "nan for a latency": PI4.replace("[quantization]", "latency_ms = nan\n[quantization]").encode(),
    "a key twice": b"a = 1\na = 2",
    "a table twice": b"[a]\n[a]",
    "an array for the whole": b"[[hardware]]\n",
    "a key of 60,000 parts": b".".join([b"a"] * 60_000) + b" = 1",
    "a byte too much": b"#" * 256 + b"\n" + b"#\n" * (128 << 10),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_toml_is_refused_in_a_moment(tmp_path: Path, data: bytes):
    path = write(tmp_path, data)
    begun = time.process_time()
    with pytest.raises((ProfileError, SchemaError), match=r"mine\.toml"):
        load_profile(path)
    assert time.process_time() - begun < 2


def test_a_file_over_256_kib_is_refused_without_reading_it_all(tmp_path: Path):
    path = tmp_path / "huge.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ProfileError, match="larger than the 256 KiB"):
        load_profile(path)


def verdict(path: Path) -> DeviceProfile | str:
    try:
        return load_profile(path)
    except (ProfileError, SchemaError) as error:
        return str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_a_profile(tmp_path: Path, data: bytes):
    assert isinstance(verdict(write(tmp_path, data)), str)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(min_value=0, max_value=len(PI4) - 1),
    st.integers(min_value=0, max_value=40),
    st.text(st.sampled_from("[]{}=.\"'\\\n#,-+_0123456789eEnaxutrfsl\x1b\x7f é"), max_size=12),
)
def test_a_damaged_profile_is_read_or_refused_but_never_crashes(tmp_path: Path, at: int, cut: int, add: str):
    found = verdict(write(tmp_path, PI4[:at] + add + PI4[at + cut :]))
    assert isinstance(found, DeviceProfile) or found.startswith(str(tmp_path))


WORDS = st.one_of(
    st.booleans().map(lambda b: str(b).lower()),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["nan", "-inf", "1e999", "[]", "{}", "[[]]", '""', '"\\u001b"', "1979-05-27", "00:00:01"]),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_another_value_in_any_field_is_read_or_refused(tmp_path: Path, data: st.DataObject):
    lines = PI4.splitlines()
    fields = [i for i, line in enumerate(lines) if re.match(r'\w+ = [^"\[]|\w+ = (\[.*\]|"[^"]*")$', line)]
    i = data.draw(st.sampled_from(fields))
    name = lines[i].partition(" = ")[0]
    lines[i] = f"{name} = {data.draw(WORDS)}"
    found = verdict(write(tmp_path, "\n".join(lines)))
    assert isinstance(found, DeviceProfile) or name in found


DOCUMENT = (SHIPPED.parent / "docs" / "profiles.md").read_text("utf-8")


def test_the_documents_example_is_a_profile(tmp_path: Path):
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert load_profile(write(tmp_path, example)).name == "line-camera"


def test_the_documents_table_is_what_is_shipped():
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| ([\w.-]+ [\d.]+) \| (\d+ [MG]iB) \|", DOCUMENT, re.MULTILINE)
    shipped = []
    for p in list_profiles():
        mib = p.budget.ram_bytes >> 20
        budget = f"{mib >> 10} GiB" if mib >= 1024 else f"{mib} MiB"
        shipped.append((p.name, p.hardware.arch, f"{p.engine.name} {p.engine.version}", budget))
    assert sorted(rows) == shipped
