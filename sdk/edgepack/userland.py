"""A board's userland on this machine, without the board: Debian for its architecture, run by qemu's user emulation.

Nothing foreign is executed while it is made: apt resolves and downloads for the other architecture under a private
configuration, dpkg-deb unpacks, and the host's pip places the device's own wheels. What runs in it has the board's
instruction set, libc, Python and engine, and the board's own idea of its processor (`Board`). It proves results and
packaging, never latency or memory: emulation is a few to some hundred times slower, and not evenly.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import ToolchainError
from edgepack.toolchain import cache_root, engine_toolchain, ensure, installation_lock
from edgepack_runtime.profile import DeviceProfile, Hardware

__all__ = ["EMULATED", "Userland", "board", "cpu_model", "ensure_userland", "is_native", "userland", "userland_for"]

# Raspberry Pi OS 12 is this release, and its Python is the last one that tflite-runtime has a wheel for.
_RELEASE = "bookworm"
_PYTHON = "python3.11"
_MIRROR_PAUSE = 10.0
_BASE = (f"{_PYTHON}-minimal", f"lib{_PYTHON}-stdlib", "libstdc++6")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Architecture:
    """How Debian, the wheels and qemu call an architecture.

    `from_debian` are Python packages without wheels for it, which come from Debian as they do on a real board: by
    the name in our lock files, the Debian package. `links` are files that Debian's update-alternatives would make.
    """

    debian: str
    qemu: str
    triplet: str
    platforms: tuple[str, ...]
    from_debian: Mapping[str, str]
    links: Mapping[str, str]


def _manylinux(arch: str) -> tuple[str, ...]:
    # pip takes platform tags literally, so each one that a wheel may carry is named; Debian 12 has glibc 2.36.
    return (*(f"manylinux_2_{minor}_{arch}" for minor in range(36, 16, -1)), f"manylinux2014_{arch}")


EMULATED: Mapping[str, _Architecture] = {
    "aarch64": _Architecture(
        debian="arm64",
        qemu="qemu-aarch64",
        triplet="aarch64-linux-gnu",
        platforms=_manylinux("aarch64"),
        from_debian={},
        links={},
    ),
    "armv7l": _Architecture(
        debian="armhf",
        qemu="qemu-arm",
        triplet="arm-linux-gnueabihf",
        platforms=_manylinux("armv7l"),
        from_debian={"numpy": "python3-numpy", "cffi": "python3-cffi-backend", "pycparser": ""},
        links={"libblas.so.3": "blas/libblas.so.3", "liblapack.so.3": "lapack/liblapack.so.3"},
    ),
}
# By the profile's processor: qemu 7.2's model for it, and Arm's part number in /proc/cpuinfo. Without a model named,
# qemu 7.2 emulates "max", on which ai-edge-litert's int8 kernels give garbage. A core that qemu does not have stands
# in the list with an older one: that has a part of its instructions, so what is proven is what the core can do too.
_CPUS: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "aarch64": {
        "Cortex-A35": ("cortex-a35", 0xD04),
        "Cortex-A53": ("cortex-a53", 0xD03),
        "Cortex-A55": ("cortex-a53", 0xD03),
        "Cortex-A57": ("cortex-a57", 0xD07),
        "Cortex-A72": ("cortex-a72", 0xD08),
        "Cortex-A73": ("cortex-a72", 0xD08),
        "Cortex-A76": ("cortex-a76", 0xD0B),
        "Cortex-A78AE": ("cortex-a76", 0xD0B),
        "Neoverse-N1": ("neoverse-n1", 0xD0C),
    },
    "armv7l": {
        "Cortex-A9": ("cortex-a9", 0xC09),
        "Cortex-A15": ("cortex-a15", 0xC0F),
    },
}
# What every processor of the architecture that an engine runs on can do.
_LEAST: Mapping[str, tuple[str, int]] = {"aarch64": ("cortex-a53", 0xD03), "armv7l": ("cortex-a7", 0xC07)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Userland:
    """One architecture with one engine in one exact version; `requirements` are its wheels, with hashes."""

    arch: str
    engine: str
    version: str
    requirements: str
    hashed: bool
    folder: Path

    @property
    def root(self) -> Path:
        """What the emulated programs see as ``/``, where it has something."""
        return self.folder / "root"

    @property
    def installed(self) -> bool:
        """Whether it has been made."""
        return (self.folder / ".complete").exists()

    @property
    def site(self) -> Path:
        """Where its Python finds packages of no Debian package."""
        return self.root / "usr/local/lib" / _PYTHON / "dist-packages"


def is_native(arch: str) -> bool:
    """Return whether this machine runs programs of that architecture without an emulator."""
    return platform.machine() == arch


def userland(arch: str, engine: str, version: str) -> Userland:
    """Return the userland of an architecture with an engine, made or not.

    Raises:
        ToolchainError: this architecture cannot be emulated.
    """
    if arch not in EMULATED:
        raise ToolchainError(f"{arch} cannot be emulated; {', '.join(EMULATED)} can")
    toolchain = engine_toolchain(engine, version)
    dropped = EMULATED[arch].from_debian
    blocks = re.findall(r"^[^\s#][^\n]*(?:\n[ \t][^\n]*)*", toolchain.requirements, re.MULTILINE)
    kept = "".join(f"{block}\n" for block in blocks if block.partition("==")[0] not in dropped)
    key = hashlib.sha256(f"{_RELEASE}\0{EMULATED[arch]}\0{_BASE}\0{kept}".encode()).hexdigest()[:12]
    return Userland(
        arch=arch,
        engine=engine,
        version=version,
        requirements=kept,
        hashed=toolchain.hashed,
        folder=cache_root() / "userlands" / f"{arch}-{engine}-{version}-{key}",
    )


def ensure_userland(wanted: Userland, *, offline: bool, say: Callable[[str], None]) -> None:
    """Make the userland where it is missing.

    Args:
        wanted: from `userland`.
        offline: refuse instead of installing.
        say: told before something is downloaded.

    Raises:
        ToolchainError: qemu, apt or dpkg-deb is missing, it is missing while offline, or a download failed.
    """
    architecture = EMULATED[wanted.arch]
    _tool(architecture.qemu, "qemu-user")
    if wanted.installed:
        return
    if offline:
        raise ToolchainError(
            f"the emulated {wanted.arch} userland is not installed, and --offline forbids installing it",
            hint="build once with --emulate while online",
        )
    for name, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        _tool(name, package)
    pip = ensure(engine_toolchain(wanted.engine, wanted.version), offline=offline, say=say)
    try:
        with installation_lock(wanted.folder):
            if not wanted.installed:
                say(f"making an emulated {wanted.arch} userland with {wanted.engine} {wanted.version} (once)")
                _make(wanted, pip)
    except OSError as error:
        where = error.filename or wanted.folder
        raise ToolchainError(f"emulated {wanted.arch} userland: {where}: {error.strerror or error}") from None


def userland_for(profile: DeviceProfile, *, offline: bool, say: Callable[[str], None]) -> Userland | None:
    """Return the made userland of a profile, or None where this machine runs its programs itself.

    Raises:
        ToolchainError: it cannot be made here.
    """
    if is_native(profile.hardware.arch):
        say(f"{profile.name} is {profile.hardware.arch} as this machine is: nothing is emulated for it")
        return None
    wanted = userland(profile.hardware.arch, profile.engine.name, profile.engine.version)
    ensure_userland(wanted, offline=offline, say=say)
    return wanted


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolchainError(
            f"--emulate needs {name}, which is not on the PATH",
            hint=f"on Debian and Ubuntu: apt-get install {package}",
        )
    return found


def _make(wanted: Userland, pip: Path) -> None:
    shutil.rmtree(wanted.folder, ignore_errors=True)
    architecture = EMULATED[wanted.arch]
    wanted.site.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory(prefix="edgepack-apt-") as scratch:
            packages = [*_BASE, *filter(None, architecture.from_debian.values())]
            for archive in _download(architecture, packages, Path(scratch)):
                _run(["dpkg-deb", "-x", str(archive), str(wanted.root)])
        libraries = wanted.root / "usr/lib" / architecture.triplet
        for name, target in architecture.links.items():
            (libraries / name).symlink_to(target)
        _place_wheels(wanted, pip)
        # Emulated, the import of everything takes four seconds without compiled files and one and a half with them.
        _run([str(pip), "-m", "compileall", "-q", "-j", "2", "--invalidation-mode", "unchecked-hash",
              str(wanted.site), str(wanted.root / "usr/lib" / _PYTHON)], may_fail=True)  # fmt: skip
        (wanted.folder / ".complete").touch()
    except BaseException:
        shutil.rmtree(wanted.folder, ignore_errors=True)
        raise


def _download(architecture: _Architecture, packages: list[str], scratch: Path) -> list[Path]:
    """Return Debian's archives of `packages` and all they depend on, as apt resolves and verifies them."""
    for folder in ("lists/partial", "archives/partial"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "status").touch()
    (scratch / "debian.sources").write_text(_sources(), encoding="utf-8")
    lines = {
        "APT::Architecture": architecture.debian,
        "APT::Architectures": architecture.debian,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Dir::Cache": str(scratch),
        "Dir::Cache::archives": str(scratch / "archives"),
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::sourcelist": str(scratch / "debian.sources"),
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": str(scratch / "lists"),
        "Dir::State::status": str(scratch / "status"),
    }
    configuration = scratch / "apt.conf"
    configuration.write_text("".join(f'{name} "{value}";\n' for name, value in lines.items()), encoding="utf-8")
    environment = os.environ | {"APT_CONFIG": str(configuration), "LC_ALL": "C.UTF-8"}
    try:
        _run(["apt-get", "-q", "update"], environment)
    except ToolchainError:
        # A mirror that is just being renewed contradicts itself for seconds.
        time.sleep(_MIRROR_PAUSE)
        _run(["apt-get", "-q", "update"], environment)
    _run(["apt-get", "-q", "-y", "--download-only", "install", *packages], environment)
    return sorted((scratch / "archives").glob("*.deb"))


def _sources() -> str:
    """Return apt's source for the release: this machine's own mirror if it is a Debian, else the one it was told.

    Only the release itself: its updates change nothing that is proven here, and double what can fail.

    Raises:
        ToolchainError: neither is there.
    """
    mirror, keys = os.environ.get("EDGEPACK_DEBIAN_MIRROR") or "", ""
    for path in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            if not mirror and _RELEASE in fields.get("Suites", "").split() and "main" in fields.get("Components", ""):
                mirror, keys = fields["URIs"].split()[0], fields.get("Signed-By", "")
    old = Path("/etc/apt/sources.list")
    for line in old.read_text(encoding="utf-8", errors="replace").splitlines() if old.is_file() else ():
        found = re.fullmatch(rf"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+{_RELEASE}\s+.*\bmain\b.*", line.strip())
        mirror = mirror or (found[1] if found else "")
    if not mirror:
        raise ToolchainError(
            f"--emulate takes its programs from Debian {_RELEASE}, and this machine's apt knows no mirror of it",
            hint="name one in EDGEPACK_DEBIAN_MIRROR; its keys are in the package debian-archive-keyring",
        )
    signed = f"Signed-By: {keys}\n" if keys.startswith("/") else ""
    return f"Types: deb\nURIs: {mirror}\nSuites: {_RELEASE}\nComponents: main\n{signed}"


def _place_wheels(wanted: Userland, pip: Path) -> None:
    platforms = [item for name in EMULATED[wanted.arch].platforms for item in ("--platform", name)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="edgepack-lock-") as lock:
        lock.write(wanted.requirements)
        lock.flush()
        _run(
            [str(pip), "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--no-compile",
             "--disable-pip-version-check", *platforms, "--python-version", "3.11", "--implementation", "cp",
             "--abi", "cp311", "--abi", "abi3", "--abi", "none", "--only-binary=:all:", "--target", str(wanted.site),
             *(["--require-hashes"] if wanted.hashed else []), "-r", lock.name]
        )  # fmt: skip


def _run(command: list[str], environment: Mapping[str, str] | None = None, *, may_fail: bool = False) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, check=False
    )
    if done.returncode != 0 and not may_fail:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("E:", "ERROR", "dpkg-deb: error"))]
        raise ToolchainError(
            f"{Path(command[0]).name} failed: {(told or lines or ['no output'])[0][:300]}",
            hint="check that apt reaches its mirrors and pip a package registry",
        )


def cpu_model(hardware: Hardware) -> tuple[str, int, bool]:
    """Return qemu's model for the processor, its part number, and whether it is that very core."""
    known = _CPUS.get(hardware.arch, {})
    # Of unlike cores the lesser one: a thread may land on any of them.
    names = [name.strip() for name in hardware.cpu.split("+")]
    found = sorted((known[name] for name in names if name in known), key=lambda item: item[1])
    model, part = found[0] if found else _LEAST[hardware.arch]
    return model, part, len(names) == 1 and model == names[0].lower()


@contextmanager
def board(profile: DeviceProfile, wanted: Userland) -> Iterator[Path]:
    """Give the Python of an emulated board with the profile's processor, as a program this machine can start.

    Args:
        profile: the board; its cores and processor are what programs in it see.
        wanted: its userland, made.
    """
    architecture = EMULATED[wanted.arch]
    model, part, _ = cpu_model(profile.hardware)
    with tempfile.TemporaryDirectory(prefix="edgepack-board-") as name:
        root = Path(name)
        for item in wanted.root.iterdir():
            (root / item.name).symlink_to(item.resolve())
        _describe_processor(root, profile.hardware, part)
        program = root / "python"
        command = [shutil.which(architecture.qemu) or architecture.qemu, "-cpu", model, "-L", str(root)]
        command.append(str(root / "usr/bin" / _PYTHON))
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        program.chmod(0o700)
        yield program


def _describe_processor(root: Path, hardware: Hardware, part: int) -> None:
    """Write the files by which programs tell the processor; qemu shows the host's, which crash LiteRT's library."""
    (root / "proc").mkdir()
    architecture = "8" if hardware.arch == "aarch64" else "7"
    cores = "\n".join(
        f"processor\t: {i}\nBogoMIPS\t: 108.00\nFeatures\t: {' '.join(hardware.cpu_features)}\n"
        f"CPU implementer\t: 0x41\nCPU architecture: {architecture}\nCPU variant\t: 0x0\n"
        f"CPU part\t: {part:#05x}\nCPU revision\t: 3\n"
        for i in range(hardware.cores)
    )
    (root / "proc/cpuinfo").write_text(cores, encoding="utf-8")
    system = root / "sys/devices/system/cpu"
    everyone = f"0-{hardware.cores - 1}" if hardware.cores > 1 else "0"
    for i in range(hardware.cores):
        topology = system / f"cpu{i}/topology"
        topology.mkdir(parents=True)
        alone = {"core_id": str(i), "core_cpus_list": str(i), "thread_siblings_list": str(i)}
        together = dict.fromkeys(("core_siblings_list", "package_cpus_list"), everyone)
        figures = {"physical_package_id": "0", "cluster_id": "0", **alone, **together}
        for figure, value in figures.items():
            (topology / figure).write_text(f"{value}\n", encoding="ascii")
    for name in ("possible", "present", "online"):
        (system / name).write_text(f"{everyone}\n", encoding="ascii")
    (system / "kernel_max").write_text(f"{hardware.cores - 1}\n", encoding="ascii")
