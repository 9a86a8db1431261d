"""Open a bundle and run it: verify, unwrap the key, decrypt into memory, hand the model to the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgepack_runtime.admission import check_consistent, check_engine, check_required
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.compression import supported
from edgepack_runtime.container import Grant
from edgepack_runtime.device import Device
from edgepack_runtime.encryption import PayloadSuite
from edgepack_runtime.engines import Engine
from edgepack_runtime.errors import EngineError, SelfTestError
from edgepack_runtime.golden import Replay, replay_golden
from edgepack_runtime.loading import DecryptedModel, decrypt_model
from edgepack_runtime.manifest import Manifest
from edgepack_runtime.observe import Meter, Metrics, event, refusal_told
from edgepack_runtime.plaintext import forbid_core_dumps
from edgepack_runtime.selftest import StoredGolden, check_stored
from edgepack_runtime.sidecar import sidecar_grants
from edgepack_runtime.tensors import Array, SignatureSpec, TensorSpec
from edgepack_runtime.verify import Policy, VerifiedBundle, verify

# Imported where it is used, which is not in every application: the others start sooner.
if TYPE_CHECKING:
    from pathlib import Path

    from edgepack_runtime.latency import Latency
    from edgepack_runtime.pool import Pool
    from edgepack_runtime.prediction import Prediction, Predictor

Got = TypeVar("Got")

__all__ = ["Session", "open_bundle", "verify_bundle", "verify_file"]


class Session:
    """A model ready to run. Use it in a ``with`` block, or `close` it.

    `inputs` and `outputs` are in the source model's names and order. One thread at a time gets in.
    """

    def __init__(
        self,
        bundle: VerifiedBundle,
        manifest: Manifest,
        golden: StoredGolden,
        model: DecryptedModel,
        engine: Engine,
    ) -> None:
        self.bundle = bundle
        self.manifest = manifest
        self._golden = golden
        self._model = model
        self._engine = engine
        self._names = tuple(spec.name for spec in self.outputs)
        self._meter = Meter(*(spec.name for spec in self.inputs[:1] if spec.shape[:1] == (-1,)))
        # Set by the store: see `edgepack_runtime.activation`.
        self.notice: str | None = None
        self.slot: int | None = None
        self.on_healthy: Callable[[], None] | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes."""
        return self.manifest.model.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `run` gives."""
        return self.manifest.model.outputs

    @property
    def engine(self) -> str:
        """Name and version of the engine it runs on."""
        return f"{self._engine.name} {self._engine.version}"

    @property
    def signatures(self) -> Mapping[str, SignatureSpec]:
        """What each of the model's signatures takes and gives, by the keys that `run` takes."""
        return self._engine.signatures

    def run(self, feeds: Mapping[str, Array], signature_key: str | None = None) -> dict[str, Array]:
        """Return the outputs by name for one set of inputs; both have exactly the shapes and dtypes of the specs.

        Args:
            feeds: the inputs by name.
            signature_key: one of `signatures`; without it, the one that the manifest describes.

        Raises:
            InputError: a name, shape or dtype does not fit, or there is no such signature; nothing is cast.
            EngineError: the engine failed, or the session is closed.
        """
        run = self._run if signature_key is None else partial(self._engine.run, signature_key=signature_key)
        return self._meter.timed(run, feeds)

    def run_in_place(
        self, fill: Callable[[dict[str, Array]], object], read: Callable[[dict[str, Array]], Got]
    ) -> Got:
        """Return what `read` makes of outputs after `fill` wrote inputs: the engine's arrays, gone after each call.

        Raises:
            EngineError: one was kept, the model has open dimensions, or the engine failed or is closed.
        """
        got: Got = self._meter.timed(partial(self._engine.run_in_place, fill), read)
        return got

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        outputs = self._engine.run(feeds)
        return {name: outputs[name] for name in self._names}

    def reset(self) -> None:
        """Forget the state a stateful model carries from run to run; its model is loaded again.

        Engines reset variable tensors but not resource variables, and cannot tell which a model has. A model without
        state has nothing to forget.

        Raises:
            EngineError: the engine failed, or the session is closed.
        """
        self._engine.reset()
        if self.manifest.model.stateful:
            fresh = self._model.load()
            self._engine.close()
            self._engine = fresh

    def predict(self, given: Array | str | Path | Mapping[str, Array]) -> Prediction:
        """Return what the model finds in a picture or a sound, as the bundle declares: prepared, run, outputs read.

        Args:
            given: the pixels, uint8 [height, width] or [height, width, 3] as red, green, blue; the samples, int16 or
                float32 [n]; the file of a picture, which Pillow decodes, or a WAV file; or the inputs of `run`.

        Raises:
            InputError: it is none of these, Pillow is missing, or the bundle declares nothing for it.
            FileError: the file cannot be read.
            SchemaError: what the bundle declares does not belong to its model.
            EngineError: the engine failed, or the session is closed.
        """
        return self._predictor.predict(given, self.run)

    def predict_windows(self, given: Array | str | Path, hop: float | None = None) -> Iterator[Prediction]:
        """Yield what the model finds in each window of a recording, one every `hop` seconds; without: end to end.

        Raises:
            EdgepackError: as `predict`, or `hop` is 0 or longer than what the model takes.
        """
        return self._predictor.windows(given, hop, self.run)

    @cached_property
    def _predictor(self) -> Predictor:
        from edgepack_runtime.prediction import Predictor  # who only runs does not pay for it

        return Predictor.of(self.manifest)

    async def arun(self, feeds: Mapping[str, Array], signature_key: str | None = None) -> dict[str, Array]:
        """Return what `run` returns, without holding up the event loop: it runs in a thread.

        A task that is cancelled stops waiting; its run goes on to its end in the thread, and its arrays have to stay
        as they are until then.

        Raises:
            InputError: as `run`.
            EngineError: the engine failed, or the session is closed.
        """
        import asyncio  # an application without an event loop does not pay for it

        return await asyncio.to_thread(self.run, feeds, signature_key)

    def pool(self, size: int) -> Pool:
        """Return `size` interpreters of this model, for as many threads at a time; close them before the session.

        They share one decrypted copy of the model, with this session too.

        Raises:
            EngineError: the model carries state from run to run, which only one can; the engine refuses the model, or
                the session is closed.
        """
        if self.manifest.model.stateful:
            raise EngineError(
                f"{self.manifest.name} carries state from run to run: a pool would mix its streams",
                hint="open a session for each stream",
            )
        engines: list[Engine] = []
        try:
            for _ in range(max(size, 1)):
                engines.append(self._model.load())
        except BaseException:
            for engine in engines:
                engine.close()
            raise
        from edgepack_runtime.pool import Pool

        return Pool(engines, self._names, self._meter, lambda: self._predictor)

    def warmup(self, runs: int = 1) -> None:
        """Run the model on zeros, so that the first real run is as fast as the others; resets a stateful model.

        Raises:
            EngineError: the engine failed, or the session is closed.
        """
        # An open dimension is tried with the smallest that there is.
        feeds = {spec.name: np.zeros([max(d, 1) for d in spec.shape], spec.dtype) for spec in self.inputs}
        for _ in range(runs):
            self._run(feeds)
        self.reset()

    def bench(self, runs: int = 50) -> Latency:
        """Return how long the model takes here on a real input, a golden one; resets a stateful model.

        Raises:
            EngineError: the engine failed, or the session is closed.
            PayloadError: the file was altered since it was opened.
            FileError: the file cannot be read any more.
        """
        from edgepack_runtime.latency import measure

        self.reset()
        with self._golden.opened() as samples:
            feeds = samples[0].inputs
            self._run(feeds)
            latency = measure(lambda: self._run(feeds), runs)
        self.reset()
        return latency

    def self_test(self) -> Replay:
        """Replay the golden tensors that were signed into the bundle; resets a stateful model.

        They are decrypted for this and overwritten after it. They come from the file that was opened, which may have
        been renamed or deleted since.

        Raises:
            EngineError: the engine failed, or the session is closed.
            PayloadError: the file was altered since it was opened.
            FileError: the file cannot be read any more.
            SelfTestError: an output differs by more than the signed tolerance.
        """
        self.reset()
        with self._golden.opened() as samples:
            replay = replay_golden(self._run, samples, self.manifest.golden.tolerance)
        self.reset()
        if not replay.holds:
            raise SelfTestError(
                f"output {replay.output!r} differs from the golden outputs by {replay.error:.2%} of its range, "
                f"{replay.tolerance:.2%} is allowed ({self.engine})",
                hint="this engine computes the model wrong; install the engine the bundle was proven under: "
                f"{self.bundle.header.engine}=={self.bundle.header.engine_version}",
            )
        return replay

    def metrics(self) -> Metrics:
        """Return what its runs and those of its pools came to; `edgepack_runtime.observe` writes them down."""
        return self._meter.metrics(
            model=self.bundle.header.product,
            version=self.manifest.version,
            profile=self.bundle.header.profile,
            engine=self.engine,
        )

    def report_healthy(self) -> None:
        """Say that this model does its work here, as often as you like: that ends the trial of a bundle in the store.

        From then on nothing falls back behind it, and older security versions are refused. A bundle that is not on
        trial, and one that was opened by its path, stays as it is.

        Raises:
            StoreError: the store is damaged.
            StateError: there is no good state.
            FileError: the report cannot be written down; the trial goes on.
        """
        if self.on_healthy is not None:
            self.on_healthy()

    def close(self) -> None:
        """Free the engine and the model, and close the file; closing twice is allowed."""
        self._engine.close()
        self._model.plaintext.close()
        self._golden.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session of {self.manifest.name} {self.manifest.version} on {self.engine}>"


def open_bundle(
    path: str | Path, *, device: Device, grants: str | Path | None = None, clock: int | None = None
) -> Session:
    """Return a session of the bundle at `path`, verified, decrypted into memory and loaded.

    Args:
        path: the bundle.
        device: whom it trusts, and the key that opens.
        grants: a sidecar file with this device's grant; without it, `path` + ``.grant`` is read if it exists and the
            bundle itself has no grant for this device.
        clock: unix seconds when installing, so that expired bundles are refused; None when running what is installed.

    Nothing in the file is parsed before its signature holds, and the plaintext never touches a disk. From here on
    this process dumps no core (`edgepack_runtime.plaintext.forbid_core_dumps`) if the bundle is encrypted.

    Raises:
        FileError: the file cannot be read.
        BundleError: it is no bundle, not signed by whom this device trusts, for another profile or engine, older than
            accepted, not encrypted to this device, or altered.
        StateError: the device has a state folder, and no good state in it.
        EngineError: the engine is missing, of another version, or refuses the model.
    """
    with refusal_told(str(path)), ExitStack() as opened:
        file = opened.enter_context(BundleFile(path))
        bundle = verify_file(file, device, clock)
        manifest = Manifest.from_bytes(bundle.manifest)
        check_consistent(bundle, manifest)
        check_required(manifest, device)
        exact = check_engine(manifest, device)
        sidecar: tuple[Grant, ...] = ()
        if bundle.header.suite is not PayloadSuite.PLAIN:
            forbid_core_dumps()
            # A bundle in clear needs no grant: what lies beside it must not be able to stop it.
            sidecar = sidecar_grants(file.container, device.key, path, grants)
        unlock = partial(bundle.unlock, device.key, sidecar)
        golden = StoredGolden(bundle, manifest, file, unlock)
        with unlock() as unlocked:
            plaintext = opened.enter_context(decrypt_model(unlocked, manifest, file))
        model = DecryptedModel(manifest=manifest, plaintext=plaintext, num_threads=device.num_threads)
        session = opened.enter_context(Session(bundle, manifest, golden, model, model.load()))
        if not exact:
            session.self_test()
        # It is good: from here on the caller closes it, and with it the file.
        opened.pop_all()
    header = bundle.header
    event(
        "opened",
        f"{header.product} {manifest.version} is open on {session.engine}",
        product=header.product,
        version=manifest.version,
        security_version=header.security_version,
        engine=session.engine,
    )
    return session


def verify_bundle(path: str | Path, *, device: Device, payload: bool = False) -> tuple[VerifiedBundle, Manifest]:
    """Return what a bundle says of itself, once its signature and this device's policy hold; needs no device key.

    Args:
        path: the bundle.
        device: whom it trusts.
        payload: whether to read the payload too, and hold every byte of it against what was signed.

    Raises:
        FileError: the file cannot be read.
        BundleError: as `open_bundle`, short of decryption.
        StateError: the device has a state folder, and no good state in it.
    """
    with BundleFile(path) as file:
        bundle = verify_file(file, device, None)
        manifest = Manifest.from_bytes(bundle.manifest)
        check_consistent(bundle, manifest)
        # Whoever only looks at a bundle, without being a device, cannot know what one has accepted.
        if device.state is not None or device.accepted:
            check_required(manifest, device)
        for entry in bundle.entries if payload else ():
            check_stored(file, bundle, entry)
        return bundle, manifest


def verify_file(file: BundleFile, device: Device, clock: int | None) -> VerifiedBundle:
    """Return an open bundle file as one that this device may open; its payload is not looked at.

    Args:
        file: the bundle.
        device: whom it trusts, and what it has accepted.
        clock: as for `open_bundle`.

    Raises:
        BundleError: as `verify`.
        StateError: the device has a state folder, and no good state in it.
        FileError: the state cannot be read.
    """
    state, now, trust = None, clock, device.trust
    if device.state is not None and device.profile is not None:
        state = device.state.read()
        now = None if clock is None else max(clock, state.time_floor)
        from edgepack_runtime.trust_file import trust_in_force

        newest = trust_in_force(device.trust_state, state.trust)
        trust = device.trust if newest is None else newest.document.release
    policy = Policy(profile=device.profile, accepted=device.floors(state), now=now, compressions=supported())
    return verify(file.container, trust, policy)
