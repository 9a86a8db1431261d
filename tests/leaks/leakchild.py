"""The process that is watched: it opens bundles, fails as told, and tells everything that an error gives away.

`python leakchild.py FOLDER` reads one case name a line. For each it writes one line of JSON, then everything that
can be reached from the error, as bytes; and keeps the error, so that its frames live while the test looks at this
process's memory.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import resource
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from leakcases import CASES, Case

from edgepack_runtime import Device, open_bundle
from edgepack_runtime.bundlefile import BundleFile
from edgepack_runtime.plaintext import PlaintextModel
from edgepack_runtime.session import Session
from edgepack_runtime.verify import Policy, verify

OPAQUE = (types.ModuleType, types.FunctionType, types.FrameType, type, types.BuiltinFunctionType)
sessions: list[Session] = []
kept: list[BaseException] = []
devices: list[Device] = []


def path_of(case: Case) -> Path:
    return FOLDER / f"{case.bundle}.edgepack"


def device_of(case: Case) -> Device:
    return Device.from_file(FOLDER / f"{case.device}.device.json")


def feeds(session: Session) -> dict[str, object]:
    return {spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs}


@contextlib.contextmanager
def opened(case: Case) -> Iterator[Session]:
    with open_bundle(path_of(case), device=device_of(case)) as session:
        yield session


def run_with(change: Callable[[dict[str, object]], None]) -> Callable[[Case], None]:
    def step(case: Case) -> None:
        with opened(case) as session:
            given = feeds(session)
            change(given)
            session.run(given)

    return step


def after_close(act: Callable[[Session], object]) -> Callable[[Case], None]:
    def step(case: Case) -> None:
        with opened(case) as session:
            given = session
        act(given)

    return step


def changed_after_open(change: Callable[[Path], None]) -> Callable[[Case], None]:
    def step(case: Case) -> None:
        copy = FOLDER / "copy.edgepack"
        copy.write_bytes(path_of(case).read_bytes())
        with open_bundle(copy, device=device_of(case)) as session:
            change(copy)
            session.self_test()

    return step


def flip_golden(path: Path) -> None:
    with BundleFile(path) as file:
        at = file.container.preamble.front_length + 60
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def cut_golden(path: Path) -> None:
    with BundleFile(path) as file:
        os.truncate(path, file.container.preamble.front_length + 60)


def read_by(read: Callable[[BundleFile, int, int], bytes]) -> Callable[[Case], None]:
    """Decrypt the model while the file is read by `read`."""

    def step(case: Case) -> None:
        device = device_of(case)
        with BundleFile(path_of(case)) as file:
            bundle = verify(file.container, device.trust, Policy(profile=None))
            size = bundle.entry("model.tflite").plain_length
            with bundle.unlock(device.key) as unlocked:
                PlaintextModel(
                    size, lambda into: unlocked.read_entry("model.tflite", lambda at, n: read(file, at, n), into)
                )

    return step


def raising(error: type[BaseException]) -> Callable[[BundleFile, int, int], bytes]:
    def read(file: BundleFile, offset: int, size: int) -> bytes:
        # The first segment was decrypted by then.
        if offset > 1 << 20:
            raise error
        return file.read(offset, size)

    return read


def short(file: BundleFile, offset: int, size: int) -> bytes:
    return file.read(offset, size)[: -1 if offset > 1 << 20 else None]


def read_only(case: Case) -> None:
    device = device_of(case)
    with BundleFile(path_of(case)) as file:
        bundle = verify(file.container, device.trust, Policy(profile=None))
        with bundle.unlock(device.key) as unlocked:
            size = bundle.entry("model.tflite").plain_length
            unlocked.read_entry("model.tflite", file.read, memoryview(bytes(size)))


def closed_key(case: Case) -> None:
    device = device_of(case)
    with BundleFile(path_of(case)) as file:
        bundle = verify(file.container, device.trust, Policy(profile=None))
        unlocked = bundle.unlock(device.key)
        unlocked.close()
        unlocked.read_entry("model.tflite", file.read, memoryview(bytearray(bundle.entries[-1].plain_length)))


def limited(limit: int, value: int) -> Callable[[Case], None]:
    def step(case: Case) -> None:
        soft, hard = resource.getrlimit(limit)
        device = device_of(case)
        resource.setrlimit(limit, (value, hard))
        try:
            open_bundle(path_of(case), device=device).close()
        finally:
            resource.setrlimit(limit, (soft, hard))

    return step


def self_test(case: Case) -> None:
    with opened(case) as session:
        session.self_test()


def just_open(case: Case) -> None:
    sessions.append(open_bundle(path_of(case), device=device_of(case)))


STEPS: dict[str, Callable[[Case], None]] = {
    "open": just_open,
    "self-test": self_test,
    "wrong-name": run_with(lambda given: given.update(nothing=given.pop(next(iter(given))))),
    "wrong-shape": run_with(lambda given: given.update({name: array[0] for name, array in given.items()})),
    "wrong-dtype": run_with(lambda given: given.update({name: array.astype("c8") for name, array in given.items()})),
    "no-array": run_with(lambda given: given.update(dict.fromkeys(given, 0))),
    "run-after-close": after_close(lambda session: session.run(feeds(session))),
    "self-test-after-close": after_close(lambda session: session.self_test()),
    "altered-after-open": changed_after_open(flip_golden),
    "cut-after-open": changed_after_open(cut_golden),
    "interrupted-while-reading": read_by(raising(KeyboardInterrupt)),
    "out-of-memory-while-reading": read_by(raising(MemoryError)),
    "cut-while-reading": read_by(short),
    "read-only-buffer": read_only,
    "closed-key": closed_key,
    "no-file-size": limited(resource.RLIMIT_FSIZE, 4096),
    "no-descriptors": limited(resource.RLIMIT_NOFILE, 3),
}


def chain(error: BaseException) -> list[BaseException]:
    """Return the error and all it names as cause and context."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and one not in found:
            found.append(one)
            todo += [one.__cause__, one.__context__]
    return found


def buffers(roots: list[object]) -> list[bytes]:
    """Return the content of every buffer and text that can be reached, code and modules left out."""
    seen: set[int] = set()
    found, todo = [], roots
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, str):
            found.append(thing.encode("utf-8", "surrogatepass"))
        elif isinstance(thing, bytes | bytearray | memoryview | np.ndarray):
            with contextlib.suppress(ValueError):  # a released memoryview
                found.append(thing.tobytes() if isinstance(thing, np.ndarray | memoryview) else bytes(thing))
        if isinstance(thing, types.FunctionType):
            todo += [cell.cell_contents for cell in thing.__closure__ or ()]
        elif not isinstance(thing, OPAQUE):
            todo += gc.get_referents(thing)
    return found


def told(error: BaseException) -> bytes:
    """Return everything an error gives away: texts, locals of its frames, and what those reach."""
    texts: list[str] = []
    roots: list[object] = []
    for one in chain(error):
        texts += [str(one), repr(one), repr(one.args), repr(getattr(one, "hint", None)), repr(vars(one))]
        texts += traceback.TracebackException.from_exception(one, capture_locals=True, compact=False).format()
        roots.append(one.args)
        trace = one.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename != __file__:
                roots += trace.tb_frame.f_locals.values()
            trace = trace.tb_next
    return b"\0".join([*(text.encode("utf-8", "surrogatepass") for text in texts), *buffers(roots)])


def shown(session: Session) -> bytes:
    """Return `repr` and `str` of all our objects that an open session and its device reach."""
    seen: dict[int, object] = {}
    todo: list[object] = [session]
    while todo:
        thing = todo.pop()
        if id(thing) not in seen:
            seen[id(thing)] = thing
            if isinstance(thing, types.FunctionType):
                todo += [cell.cell_contents for cell in thing.__closure__ or ()]
            elif not isinstance(thing, OPAQUE):
                todo += gc.get_referents(thing)
    ours = [thing for thing in seen.values() if type(thing).__module__.startswith("edgepack_runtime")]
    names = sorted({type(thing).__name__ for thing in ours})
    return "\0".join([*names, *(f"{thing!r}\0{thing!s}" for thing in ours)]).encode()


def answer(line: dict[str, object], body: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps({**line, "length": len(body)}).encode() + b"\n" + body)
    sys.stdout.buffer.flush()


def main() -> None:
    logging.basicConfig(level=logging.DEBUG, filename="child.log")
    for line in sys.stdin:
        word = line.strip()
        if word == "open":
            just_open(Case(name="good", error=""))
            sessions[-1].run(feeds(sessions[-1]))
            sessions[-1].self_test()
            answer({"open": repr(sessions[-1])}, shown(sessions[-1]))
        elif word == "device":
            devices.append(device_of(Case(name="good", error="")))
            answer({"device": repr(devices[-1])})
        elif word.startswith("die "):
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            number = getattr(signal, word.split()[1])
            # Whoever started the tests in the background had SIGQUIT ignored for all of them.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif word.startswith("hold "):
            kept.append(RuntimeError(Path(word.split()[1]).read_bytes()))
            answer({"held": True})
        else:
            kept.clear()
            gc.collect()
            try:
                STEPS[CASES[word].step](CASES[word])
            except BaseException as error:
                kept.append(error)
                logging.exception("case %s", word)
                answer({"case": word, "error": type(error).__name__, "text": str(error)}, told(error))
            else:
                answer({"case": word, "error": "none", "text": ""})


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    main()
