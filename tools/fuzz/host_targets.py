"""The targets on a host: models, data, recipes, profiles, the replies of children."""

from __future__ import annotations

import importlib.util
import io
import os
import resource
import traceback
import zipfile
from pathlib import Path

from edgepack import _wire
from edgepack.converters import _options, keras, onnx, saved_model, tflite
from edgepack.converters._keras_config import refuse_code
from edgepack.converters._torch_archive import harmless_export, pickled_members, refuse_file_access
from edgepack.csvfile import load_csv
from edgepack.dataset import load_dataset
from edgepack.errors import (
    ConversionError,
    DatasetError,
    PassError,
    ProfileError,
    RecipeError,
    SourceModelError,
)
from edgepack.fit import check_fit
from edgepack.flatbuffer import read_model
from edgepack.inputs import _read_labels
from edgepack.journal import open_journal, sealed
from edgepack.keys import read_key
from edgepack.micro_profile import find_micro
from edgepack.opversions import stamp
from edgepack.passes import _quantizer, dynamic_int4, dynamic_range, float16, float32, full_integer, int16x8, mixed
from edgepack.passoptions import parse_pass_options
from edgepack.profiles import load_profile
from edgepack.reading import Reading
from edgepack.recipe import expiry, load_recipe
from edgepack.recipients import read_recipient
from edgepack.schemes import is_stateful, scheme_of
from edgepack.signers import is_key_uri
from edgepack.signers.pkcs11 import parse_uri
from edgepack.source import detect
from edgepack.statement import STATEMENT_FILE, STATEMENT_TYPE, check_folder, verify_statement
from edgepack.timing import Timing
from edgepack.worker import _answer, _Reply
from edgepack_runtime.errors import (
    EdgepackError,
    FileError,
    FormatError,
    KeyFileError,
    SchemaError,
    SignatureError,
)
from edgepack_runtime.manifest import ModelDescription
from tools.fuzz import model_seeds, seeds
from tools.fuzz.target import Target, file, ignore

__all__ = ["HOST_MISSING", "HOST_TARGETS"]

# Signed evidence


def _statement(data: bytes) -> None:
    """Take an envelope, or what is in one: the key that is trusted signs whatever it is, and that is checked."""
    if data[:1] == b"{" and STATEMENT_TYPE in data:
        verify_statement(data, seeds.RELEASE_TRUST)
    else:
        check_folder(file(STATEMENT_FILE, seeds.envelope(data)).parent, seeds.RELEASE_TRUST)


# Worker replies


def _wire_reply(data: bytes) -> None:
    message, _ = _answer(_Reply(name="fuzz", code=0, output=data, tail=""))
    _wire.decode(tuple[int, ...], message)


def _wire_message(data: bytes) -> None:
    _wire.decode(ModelDescription, _wire.read_message(io.BytesIO(data)))


def _journal(data: bytes) -> None:
    """Take a journal as it lies on the disk or, after a byte ``=``, its lines without the digits that check them."""
    if data[:1] == b"=":
        *lines, rest = data[1:].split(b"\n")
        data = b"".join(sealed(line) for line in lines) + rest
    with open_journal(file("candidates.journal", data), seeds.JOURNAL_BUILD, Timing, ignore) as journal:
        journal.find("a")


# Models


def _npz(data: bytes) -> None:
    """Put one array file of any content into a zip file whose checksums hold."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("x.npy", data)
    load_dataset(file("data.npz", archive.getvalue()), "calibration")


def _keras_config(data: bytes) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("config.json", data)
    refuse_code(file("model.keras", archive.getvalue()))


def _in_a_child(path: Path) -> None:
    """Look into a Keras file as a build does, in a child: the HDF5 library loops and crashes on some damaged files.

    A child that was stopped is a refusal, as it is to `edgepack.worker`; an error that is not ours is a finding.
    """
    child = os.fork()
    if child == 0:
        os._exit(_judge(path))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0 or code == _REFUSED:
        raise SourceModelError("refused, or the child was stopped")
    assert code == 0, "an untyped error in the child, whose traceback stands above"


_REFUSED = 3
_CPU_SECONDS = 2


def _judge(path: Path) -> int:
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
        refuse_code(path)
    except (SourceModelError, ConversionError, MemoryError):
        return _REFUSED
    except BaseException:  # noqa: BLE001 - nothing may pass: this is a copy of a campaign's process
        traceback.print_exc()
        return 1
    return 0


_TORCH_MEMBERS = {b"w": "m/data/weights/model_weights_config.json", b"c": "m/code/m.py"}


def _torch_archive(data: bytes) -> None:
    """Take a byte that says which member of the archive, and the member."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(_TORCH_MEMBERS.get(data[:1], "m/models/model.json"), data[1:])
    path = file("torch/m.pt2", archive.getvalue())
    refuse_file_access(path)
    pickled_members(harmless_export(path, path.parent / ".."))


def _source(data: bytes) -> None:
    path = file("source/model", data)
    if not path.with_name("weights.bin").exists():
        file("source/weights.bin", bytes(8))
    detect(path)


def _saved_model(data: bytes) -> None:
    detect(file("saved/saved_model.pb", data).parent)


_PROFILES = [load_profile(name) for name in ("raspberry-pi-4", "raspberry-pi-3")]


def _model_rules(data: bytes) -> None:
    """Judge a model as a build does in its own process."""
    scheme_of(data)
    is_stateful(data)
    for profile in _PROFILES:
        check_fit(data, profile)


def _stamp(data: bytes) -> None:
    stamped = stamp(data)
    assert stamp(stamped) == stamped, "a model that is stamped is stamped otherwise again"


# What people write


def _recipe(data: bytes) -> None:
    expiry(load_recipe(file("edgepack.toml", data)).expires, 1_750_000_000)


_OPTIONS = (
    keras,
    onnx,
    saved_model,
    tflite,
    dynamic_range,
    float16,
    float32,
    full_integer,
    dynamic_int4,
    int16x8,
    mixed,
)


def _read_options(data: bytes) -> None:
    """Take a byte that says whose options, and their text."""
    module, text = _OPTIONS[(data[0] if data else 0) % len(_OPTIONS)], data[1:].decode("utf-8", "replace")
    if module in _OPTIONS[:4]:
        found = _options.read_options(module.Options, text)
        _options.named_shapes(getattr(found, "inputs", ()))
    else:
        _quantizer.read_options(module.Options, text)


def _key_uri(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    if is_key_uri(text):
        parse_uri(text)


def _key_info(data: bytes) -> None:
    path = file("any.pem", data)
    try:
        read_key(path)
    except KeyFileError:
        read_recipient(path)


def _without(module: str, name: str) -> dict[str, str]:
    return {} if importlib.util.find_spec(module) else {name: module}


HOST_MISSING = _without("h5py", "hdf5")
HOST_TARGETS = {
    "key_info": Target(run=_key_info, errors=(KeyFileError,), seeds=seeds.key_files),
    "key_uri": Target(run=_key_uri, errors=(KeyFileError,), seeds=seeds.key_uris),
    "profile": Target(
        run=lambda data: ignore(load_profile(file("p.toml", data))),
        errors=(ProfileError, SchemaError),
        seeds=seeds.profiles,
    ),
    "micro_profile": Target(
        run=lambda data: ignore(find_micro(str(file("p.toml", data)))),
        errors=(ProfileError, SchemaError),
        seeds=seeds.micro_profiles,
    ),
    "statement": Target(
        run=_statement, errors=(SchemaError, FormatError, SignatureError, FileError), seeds=seeds.statements
    ),
    "recipe": Target(run=_recipe, errors=(RecipeError, SchemaError), seeds=seeds.recipes),
    "options": Target(
        run=_read_options, errors=(RecipeError, SchemaError, PassError, ConversionError), seeds=seeds.options
    ),
    "pass_options": Target(
        run=lambda data: ignore(parse_pass_options(data.decode("utf-8", "replace").split("\n"))),
        errors=(RecipeError,),
        seeds=lambda: [b"full_integer.samples=100\nmixed.rules=[]", b"a.b=text\na.c={}", b"a.b=1\na.b=2"],
    ),
    "labels": Target(
        run=lambda data: ignore(_read_labels(file("labels.txt", data))),
        errors=(DatasetError,),
        seeds=lambda: [b"zero\none\r\n\n  two \n", "null\u2028eins".encode()],
    ),
    "dataset": Target(
        run=lambda data: ignore(load_dataset(file("data", data), "calibration")),
        errors=(DatasetError,),
        seeds=seeds.datasets,
    ),
    "csv": Target(
        run=lambda data: ignore(load_csv(file("data.csv", data), "calibration", Reading(), ("lily", "rose"))),
        errors=(DatasetError,),
        seeds=lambda: [b"a,b,y\n1,-2.5e3,rose\n.5,7,1\n", b'\xef\xbb\xbf"a[1]",a[0],y[0]\r\n"1", 2,0\r\n\r\n'],
    ),
    "npz_array": Target(run=_npz, errors=(DatasetError,), seeds=lambda: seeds.datasets()[2:]),
    "flatbuffer": Target(
        run=lambda data: ignore(read_model(data)), errors=(SourceModelError,), seeds=model_seeds.models
    ),
    "model_rules": Target(run=_model_rules, errors=(SourceModelError,), seeds=model_seeds.models),
    "stamp": Target(run=_stamp, errors=(SourceModelError,), seeds=model_seeds.models),
    "source": Target(run=_source, errors=(SourceModelError,), seeds=model_seeds.sources),
    "saved_model": Target(run=_saved_model, errors=(SourceModelError,), seeds=model_seeds.saved_models),
    "keras_config": Target(
        run=_keras_config, errors=(SourceModelError, ConversionError), seeds=model_seeds.keras_configs
    ),
    "keras_file": Target(
        run=lambda data: _in_a_child(file("model.keras", b"PK" + data[2:])),
        errors=(SourceModelError, ConversionError),
        seeds=model_seeds.keras_files,
    ),
    **(
        {}
        if HOST_MISSING
        else {
            "hdf5": Target(
                run=lambda data: _in_a_child(file("model.h5", data)),
                errors=(SourceModelError, ConversionError),
                seeds=model_seeds.hdf5_files,
            ),
        }
    ),
    "torch_archive": Target(
        run=_torch_archive, errors=(SourceModelError, ConversionError), seeds=model_seeds.torch_archives
    ),
    # A reply may also be an error of ours, which then is raised: that is what it is for.
    "wire_reply": Target(run=_wire_reply, errors=(EdgepackError,), seeds=seeds.wire_frames),
    "journal": Target(run=_journal, errors=(FileError,), seeds=seeds.journals),
    "wire_message": Target(run=_wire_message, errors=(SchemaError,), seeds=seeds.wire_values),
}
