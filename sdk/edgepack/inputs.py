"""Everything a build reads: found, parsed and checked before anything slow starts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from edgepack._sklearnfile import refuse_pickle
from edgepack.csvfile import SUFFIX, load_csv
from edgepack.dataset import Dataset, load_dataset
from edgepack.errors import DatasetError, RecipeError
from edgepack.folders import load_folder, prepare_arrays
from edgepack.keys import development_identity
from edgepack.model import SourceModel
from edgepack.owndata import load_made
from edgepack.pack import Release, require_zstd
from edgepack.profiles import load_profile
from edgepack.reading import DataFunction
from edgepack.recipe import Recipe, expiry
from edgepack.recipients import read_recipient
from edgepack.reporter import Reporter
from edgepack.signers import SignerRequest, open_signer
from edgepack.source import detect
from edgepack.unseen import refuse_seen
from edgepack_runtime._files import read_capped
from edgepack_runtime.errors import FileError
from edgepack_runtime.grants import RecipientKey
from edgepack_runtime.keyfiles import PassphraseSource
from edgepack_runtime.profile import DeviceProfile

__all__ = ["BuildInputs", "SourceInputs", "check_output", "read_inputs", "read_source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInputs:
    """The source model and the data, read and checked; `training` trains it, `teacher` is what it learns from."""

    source: SourceModel
    calibration: Dataset
    evaluation: Dataset | None
    training: Dataset | None
    teacher: SourceModel | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs(SourceInputs):
    """What a build was given, read and checked."""

    profiles: tuple[DeviceProfile, ...]
    labels: tuple[str, ...]
    release: Release = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be known of the data."""
        given = (self.calibration, self.training, self.evaluation)
        return tuple(note for data in given if data is not None for note in data.notes)


def read_inputs(
    recipe: Recipe, reporter: Reporter, passphrase: PassphraseSource | None = None, *, for_devices: bool = True
) -> BuildInputs:
    """Return everything `recipe` names, read and checked.

    Args:
        recipe: what to build.
        reporter: told which keys are used when none is named.
        passphrase: asked if the signing key is encrypted, or its token wants a PIN.
        for_devices: whether its profiles are devices', which open bundles. Else they are left to the caller, and
            nothing is encrypted.

    Raises:
        EdgepackError: something is missing, unreadable or does not belong together; the message says which.
    """
    profiles = tuple(load_profile(name) for name in recipe.profiles) if for_devices else ()
    if len({p.name for p in profiles}) != len(profiles):
        raise RecipeError(f"one profile is named twice, by an alias: {', '.join(recipe.profiles)}")
    given = read_source(recipe)
    evaluation = given.evaluation
    if evaluation is None and recipe.gate.asked:
        raise DatasetError(
            f"the metric {recipe.gate.judged.name} is asked for without evaluation samples to measure it on",
            hint="name them with --evaluation; without labels in them, it is measured against the float source",
        )
    if evaluation is not None and evaluation.labels is None:
        reporter.say(
            f"evaluation data {evaluation.path}: no labels in it, so that all that is measured is agreement with the "
            "float source; store them as 'y' if there are any"
        )
    return BuildInputs(
        training=given.training,
        teacher=given.teacher,
        source=given.source,
        calibration=given.calibration,
        evaluation=evaluation,
        profiles=profiles,
        labels=_read_labels(recipe.labels),
        release=_release(recipe, profiles, reporter, passphrase),
    )


def _teacher(recipe: Recipe, student: SourceModel) -> SourceModel | None:
    """Return the model that a training step learns from, if one does."""
    for path in (step.teacher for step in recipe.training if step.teacher is not None):
        found = detect(path)
        if found.format != "keras":
            raise RecipeError(f"the teacher {path} is {found.format}, and only Keras models teach here")
        if found.digest == student.digest:
            raise RecipeError(
                f"the teacher {path} is the model itself, which has nothing to learn from it",
                hint="the model of a build is the student; a step such as prune takes loss=source to stay as it is",
            )
        return found
    return None


def read_source(recipe: Recipe) -> SourceInputs:
    """Return the model and the data that `recipe` names.

    Raises:
        SourceModelError: the model is missing, of no known format, or would execute code.
        DatasetError: the data cannot be read, or is of another kind.
        RecipeError: the model needs something that is not named.
    """
    source = detect(recipe.model)
    if source.format == "torch_state" and recipe.module is None:
        raise RecipeError(
            f"{recipe.model} is a PyTorch state dict: weights without a network",
            hint="name your own code that builds it, --module FILE.py:CLASS, or save the network with its weights: "
            "torch.export.save(torch.export.export(model.eval(), (sample,)), 'net.pt2')",
        )
    if recipe.training and source.format != "keras":
        raise RecipeError(
            f"training step {recipe.training[0].use!r}: {recipe.model} is {source.format}, and only Keras models are "
            "trained here",
            hint="train it in its own framework before the export: zeros and shared values survive the conversion",
        )
    if source.format == "sklearn" and not recipe.trust_source:
        # The converter says so too, but only after its toolchain was installed.
        refuse_pickle(recipe.model)
    labels = _read_labels(recipe.labels)
    calibration = _data(recipe.calibration, "calibration", recipe, labels)
    evaluation = None if recipe.evaluation is None else _data(recipe.evaluation, "evaluation", recipe, labels)
    training = None if recipe.training_set is None else _data(recipe.training_set, "training", recipe, labels)
    if training is not None and evaluation is not None:
        refuse_seen(training, evaluation)
    return SourceInputs(
        source=source,
        calibration=calibration,
        evaluation=evaluation,
        training=training,
        teacher=_teacher(recipe, source),
    )


def _data(source: Path | DataFunction, what: str, recipe: Recipe, labels: tuple[str, ...]) -> Dataset:
    if isinstance(source, DataFunction):
        return prepare_arrays(load_made(source, what), recipe.processing, what)
    if source.is_dir():
        return load_folder(source, what, recipe.processing, labels, recipe.reading.windows)
    if source.suffix.lower() == SUFFIX:
        return load_csv(source, what, recipe.reading, labels)
    return prepare_arrays(load_dataset(source, what), recipe.processing, what)


def _read_labels(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = read_capped(path, 1 << 20).decode("utf-8").splitlines()
    except (FileError, UnicodeDecodeError) as error:
        raise DatasetError(f"labels {path}: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())


def _release(
    recipe: Recipe, profiles: tuple[DeviceProfile, ...], reporter: Reporter, passphrase: PassphraseSource | None
) -> Release:
    if recipe.compress:
        require_zstd()
    signing, recipients = recipe.signing_key, recipe.recipients if profiles else ()
    if signing is None or (profiles and not recipients):
        identity = development_identity()
        if signing is None:
            signing = str(identity.signing_key)
            reporter.say(
                f"no --key given: signing with your development key {signing}, which no product should trust"
            )
        if profiles and not recipients:
            recipients = (identity.recipient,)
            reporter.say(f"no --recipient given: only your development device key {identity.device_key} can open it")
    created = int(time.time())
    return Release(
        signing_key=open_signer(SignerRequest(uri=signing, passphrase=passphrase)),
        recipients=tuple(_recipient(path, profiles) for path in recipients),
        security_version=recipe.security_version,
        created=created,
        expires=expiry(recipe.expires, created),
        compress=recipe.compress,
    )


def _recipient(path: Path, profiles: tuple[DeviceProfile, ...]) -> RecipientKey:
    recipient = read_recipient(path)
    names = [profile.name for profile in profiles]
    if recipient.profile is not None and recipient.profile not in names:
        raise RecipeError(f"{recipient.name} is enrolled as {recipient.profile}, built is for {', '.join(names)}")
    return recipient.public_key


def check_output(folder: Path) -> None:
    """Refuse an output folder that cannot be written before hours of work end there.

    Raises:
        FileError: it is a file, or cannot be made or written.
    """
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise FileError(f"cannot write to {folder}: {existing} is a file, not a folder")
    probe = existing / f".edgepack-{time.time_ns()}.part"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise FileError(f"cannot write to {folder}: {error.strerror or error}") from None
