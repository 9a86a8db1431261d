"""Start a project: a commented edgepack.toml, development keys, and the device.json that goes with them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import RecipeError
from edgepack.keys import STATE_FOLDER, Identity, device_file, identity_in, make_identity
from edgepack.recipe import FILE_NAME, product_name
from edgepack_runtime._files import file_error, write_whole
from edgepack_runtime.errors import FileError

__all__ = ["Project", "init_project"]

_PROFILE, _DEVICE = "raspberry-pi-4", "device.json"

_TEMPLATE = """\
# What `edgepack build` makes in this folder. Relative paths are relative to this file.
# Every field: docs/recipe.md. A typo is an error, never a default.

[model]
path = {model}
name = "{name}"                  # the product: devices keep a version floor for each
version = "1.0.0"                # for people; devices compare build.security_version
# licence = "Apache-2.0"
# labels = "labels.txt"          # one class name a line

[data]
# .npz with one array an input, named as the input (or "x" if there is one), [number of samples, ...].
calibration = "calibration.npz"
# The same with the true classes as "y". Without it, outputs are only held against the float source's.
# evaluation = "evaluation.npz"

[gate]
# metric = "accuracy"            # top5, f1, precision, recall, auc, map, agreement, cosine, mse, snr ...
# At most one percentage point below the float source, by the upper end of the drop's interval: that takes some
# 400 evaluation samples where nothing differs, and more where something does.
max_drop = 0.01

[build]
profiles = ["raspberry-pi-4"]    # `edgepack profiles list`
# Without this line: the profile's preferred scheme. "auto" takes the first that passes the gate.
# precision = ["full_integer", "dynamic_range", "float16", "float32"]
output = "dist"
security_version = 1             # raise it when devices must not go back to an earlier bundle
# expires = 365                  # days, or a day like "2027-06-30": no device installs it after that
# compress = true                # zstd: a shorter download, for devices with edgepack-runtime[zstd]

[keys]
# Development keys, made by `edgepack init`. Make release keys with `edgepack keys generate --role release`.
# A key in a token is named by its URI: "pkcs11:token=...;object=...".
signing = "keys/release.key.pem"
recipients = ["keys/device.pub.pem"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What `init_project` wrote."""

    recipe: Path
    identity: Identity
    device: Path


def init_project(folder: Path, model: str) -> Project:
    """Return a new project in `folder`, made whole or not at all; nothing that exists is overwritten.

    Args:
        folder: made when missing.
        model: path of the source model as it shall stand in edgepack.toml.

    Raises:
        RecipeError: the path of the model has unprintable characters.
        FileError: a file of it exists, or cannot be written.
    """
    if not model.isprintable():
        raise RecipeError(f"the model's path {model!r} cannot stand in {FILE_NAME}", hint="rename the file")
    recipe, keys = folder / FILE_NAME, folder / "keys"
    for path in (recipe, keys):
        if path.exists():
            raise FileError(
                f"{path} exists and is not overwritten", hint="name an empty folder: edgepack init FOLDER"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error("make folder", folder, error) from None
    text = _TEMPLATE.format(model=json.dumps(model, ensure_ascii=False), name=product_name(Path(model).stem))
    try:
        with tempfile.TemporaryDirectory(prefix=".keys-", dir=folder) as made:
            _write_keys(Path(made, "keys"))
            write_whole(recipe, text.encode(), replace=False)
            _move(Path(made, "keys"), keys, recipe)
    except OSError as error:
        raise file_error("write", keys, error) from None
    return Project(recipe=recipe, identity=identity_in(keys), device=keys / _DEVICE)


def _write_keys(folder: Path) -> None:
    identity = make_identity(folder)
    text = device_file(_PROFILE, identity.trust.name, identity.device_key.name)
    write_whole(folder / _DEVICE, text, replace=False)
    ignored = f"# private keys never belong into a repository\n*.key.pem\n{STATE_FOLDER}/\n"
    write_whole(folder / ".gitignore", ignored.encode(), replace=False)


def _move(made: Path, keys: Path, recipe: Path) -> None:
    """Give the keys their name, the last thing that is done; without them there is no project."""
    try:
        made.rename(keys)
    except OSError:
        recipe.unlink()
        raise
