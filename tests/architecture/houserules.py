"""The rules of the house as functions over source text; `houseplan` is what they are held against.

Every rule takes parsed modules and returns the violations, a line each; `test_houserules.py` feeds them faults.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from houseplan import (
    CORE,
    DEVICE,
    ENGINES,
    HOST,
    IMPURE_CALLS,
    IMPURE_MODULES,
    IMPURE_NUMPY,
    LIGHT,
    LIGHT_IN_CLI,
    MAX_LINES,
    MAY_DRAW_RANDOM_BYTES,
    NEWER_THAN_3_10,
    NO_CONTRACT,
    OPTIONAL,
    PLUGIN_PACKAGES,
    TIERS,
)


@dataclass(frozen=True)
class Import:
    """One import: `where` is ``module``, ``function`` or ``checking`` (under TYPE_CHECKING)."""

    target: str
    line: int
    where: str


@dataclass(frozen=True)
class Module:
    """A module by its dotted name, and its source."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(_imports(self.tree, "module"))

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_private(self) -> bool:
        return any(part.startswith("_") for part in self.name.split("."))

    def __str__(self) -> str:
        return self.name


def modules_under(root: Path, package: str) -> list[Module]:
    """Return the modules of the package in `root`."""
    found = []
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path.read_text("utf-8")))
    return found


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _imports(node: ast.AST, where: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, where) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            # A relative import has no package here and is refused by `relative_imports`.
            base = "." * child.level + (child.module or "")
            # The name may be a module of the package or a thing in it; `_target` tells by the modules there are.
            yield from (Import(f"{base}:{alias.name}", child.lineno, where) for alias in child.names)
        elif isinstance(child, ast.Call) and (name := _imported_by_call(child)):
            yield Import(name, child.lineno, where)
            yield from _imports(child, where)
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), "checking")
            for statement in child.orelse:
                yield from _imports(ast.Module([statement], []), where)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            # Decorators and defaults run at import, the body does not.
            body = child.body if isinstance(child.body, list) else [child.body]
            for statement in body:
                yield from _imports(_wrapped(statement), "function" if where == "module" else where)
            outside = [*getattr(child, "decorator_list", ()), *child.args.defaults, *child.args.kw_defaults]
            for expression in outside:
                if expression is not None:
                    yield from _imports(_wrapped(expression), where)
        else:
            yield from _imports(child, where)


def _wrapped(node: ast.AST) -> ast.AST:
    return ast.Module([node if isinstance(node, ast.stmt) else ast.Expr(node)], [])  # type: ignore[arg-type,list-item]


def _imported_by_call(call: ast.Call) -> str | None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("import_module", "__import__") and call.args:
        argument = call.args[0]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            return argument.value
    return None


def _target(item: Import, known: Iterable[str]) -> str:
    base, colon, name = item.target.partition(":")
    if not colon:
        return base
    return f"{base}.{name}" if f"{base}.{name}" in known else base


def _tier_of(tiers: Mapping[str, tuple[frozenset[str], ...]], module: str) -> int | None:
    package, _, name = module.partition(".")
    # The host's tiers are counted on from the device's last.
    below = len(tiers[DEVICE]) if package == HOST else 0
    for i, tier in enumerate(tiers.get(package, ())):
        if name in tier:
            return below + i
    return None


def _is_ours(target: str) -> bool:
    return target.partition(".")[0] in (HOST, DEVICE)


def _known(modules: Iterable[Module]) -> set[str]:
    return {module.name for module in modules}


def tiers_point_down(modules: list[Module], tiers: Mapping[str, tuple[frozenset[str], ...]] = TIERS) -> list[str]:
    """An import goes to a strictly lower tier; only one for the type checker may go up."""
    known, bad = _known(modules), []
    for module in modules:
        own = _tier_of(tiers, module.name)
        for item in module.imports:
            target = _target(item, known)
            other = _tier_of(tiers, target) if _is_ours(target) else None
            if item.where == "checking" or own is None or other is None:
                continue
            if other >= own:
                bad.append(f"{module}:{item.line}: tier {own} imports {target} of tier {other}")
    return bad


def table_is_complete(modules: list[Module], tiers: Mapping[str, tuple[frozenset[str], ...]] = TIERS) -> list[str]:
    """Every module has one tier, and every tier's modules exist."""
    written = [f"{package}.{name}".rstrip(".") for package in tiers for tier in tiers[package] for name in tier]
    bad = [f"{name} has {written.count(name)} tiers" for name in sorted(set(written)) if written.count(name) > 1]
    bad += [f"{name} exists and has no tier" for name in sorted(_known(modules) - set(written))]
    bad += [f"{name} has a tier and does not exist" for name in sorted(set(written) - _known(modules))]
    return bad


def our_imports_exist(modules: list[Module]) -> list[str]:
    """An import of ours names a module that is there: a typo in a function would be found by a user."""
    known = _known(modules)
    return [
        f"{module}:{item.line}: imports {target}, which does not exist"
        for module in modules
        for item in module.imports
        if _is_ours(target := _target(item, known)) and target not in known
    ]


def relative_imports(modules: list[Module]) -> list[str]:
    """There are none: every import says where it goes."""
    return [
        f"{module}:{item.line}: relative import {item.target}"
        for module in modules
        for item in module.imports
        if item.target.startswith(".")
    ]


def device_stands_alone(modules: list[Module]) -> list[str]:
    """The device package imports the standard library of 3.10, numpy, cryptography, engines in plug-ins, options."""
    bad = []
    for module in modules:
        if module.package != DEVICE:
            continue
        for item in module.imports:
            top = item.target.partition(":")[0].partition(".")[0]
            fine = top in {DEVICE, *LIGHT[DEVICE]} or (top in sys.stdlib_module_names and top not in NEWER_THAN_3_10)
            engine = top in ENGINES and item.where == "function" and module.name.startswith(PLUGIN_PACKAGES[0])
            optional = item.where == "function" and OPTIONAL.get(top) == module.name
            if not fine and not engine and not optional:
                bad.append(f"{module}:{item.line}: the device package imports {top}")
    return bad


def heavy_imports_are_inside_functions(modules: list[Module]) -> list[str]:
    """At the top of a module stand the standard library, numpy, cryptography, and in the CLI what draws."""
    bad = []
    for module in modules:
        light = LIGHT[module.package] | (LIGHT_IN_CLI if module.name.startswith(f"{HOST}.cli") else set())
        for item in module.imports:
            top = item.target.partition(":")[0].partition(".")[0]
            allowed = _is_ours(top) or top in light or top in sys.stdlib_module_names
            if item.where == "module" and not allowed:
                bad.append(f"{module}:{item.line}: {top} is imported at the top")
    return bad


def core_is_pure(modules: list[Module]) -> list[str]:
    """The core does no I/O and reads no clock, no environment and no randomness."""
    bad = []
    for module in modules:
        if module.name not in CORE:
            continue
        draws = module.name in MAY_DRAW_RANDOM_BYTES
        for item in module.imports:
            top = item.target.partition(":")[0].partition(".")[0]
            if top in IMPURE_MODULES and not (draws and item.target == "os") and item.where != "checking":
                bad.append(f"{module}:{item.line}: imports {top}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in IMPURE_CALLS:
                bad.append(f"{module}:{node.lineno}: calls {node.func.id}()")  # type: ignore[attr-defined]
            if isinstance(node, ast.Attribute):
                owner = getattr(node.value, "id", "")
                if (owner in ("np", "numpy") and node.attr in IMPURE_NUMPY) or node.attr == "tofile":
                    bad.append(f"{module}:{node.lineno}: uses numpy's {node.attr}")
                if owner == "os" and node.attr != "urandom":
                    bad.append(f"{module}:{node.lineno}: uses os.{node.attr}")
    return bad


def files_are_short(modules: list[Module]) -> list[str]:
    """No file has more than 400 lines."""
    counts = {module: len(module.text.splitlines()) for module in modules}
    return [f"{module}: {count} lines" for module, count in counts.items() if count > MAX_LINES]


def plugins_are_strangers(modules: list[Module]) -> list[str]:
    """Nobody imports a plug-in by name, least of all another plug-in: adding one is adding one file."""
    known = _known(modules)
    bad = []
    for module in modules:
        for item in module.imports:
            target = _target(item, known)
            package, _, name = target.rpartition(".")
            if package in PLUGIN_PACKAGES and not name.startswith("_"):
                bad.append(f"{module}:{item.line}: imports the plug-in {target}")
    return bad


def _public_names(tree: ast.Module) -> list[str]:
    names = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [t.id for target in node.targets for t in ast.walk(target) if isinstance(t, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


def _all_of(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def _bound_names(tree: ast.Module) -> set[str]:
    names = set(_public_names(tree))
    for node in tree.body:
        if isinstance(node, ast.Try):
            # A name that may be in one of two places has to be had from the first one.
            names |= _bound_names(ast.Module(body=node.body, type_ignores=[]))
        nodes = node.body if isinstance(node, ast.If) and _is_type_checking(node.test) else [node]
        for item in nodes:
            if isinstance(item, ast.Import | ast.ImportFrom):
                names |= {alias.asname or alias.name for alias in item.names}
    return names | {"__version__"}


def public_modules_have_all(modules: list[Module]) -> list[str]:
    """A public module that defines something public says in `__all__` what, and lists nothing it does not have."""
    bad = []
    for module in modules:
        listed = _all_of(module.tree)
        if listed is None:
            if not module.is_private and _public_names(module.tree):
                bad.append(f"{module}: no __all__")
            continue
        bad += [f"{module}: __all__ names {name}, which it does not have" for name in listed
                if name not in _bound_names(module.tree)]  # fmt: skip
    return bad


def _functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, ast.ClassDef | None]]:
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node, None
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for item in node.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{item.name}", item, node


def _raised(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the classes that a function's own statements raise; nested functions raise for themselves."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            called = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name[:1].isupper():
                yield name, child.lineno
        yield from _raised(child)


def _ancestors(name: str, bases: Mapping[str, tuple[str, ...]]) -> set[str]:
    found = {name}
    for base in bases.get(name, ()):
        found |= _ancestors(base, bases)
    standard = getattr(builtins, name, None)
    if isinstance(standard, type):
        found |= {c.__name__ for c in standard.__mro__ if issubclass(c, Exception) and c is not Exception}
    return found


def _class_bases(modules: list[Module]) -> dict[str, tuple[str, ...]]:
    bases: dict[str, tuple[str, ...]] = {}
    for module in modules:
        if module.name.endswith(".errors"):
            for node in module.tree.body:
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = tuple(b.id for b in node.bases if isinstance(b, ast.Name))
    return bases


def public_functions_say_what_they_raise(modules: list[Module]) -> list[str]:
    """A public function has a docstring; what it raises itself stands under Raises, by its class or one above."""
    bases, bad = _class_bases(modules), []
    for module in modules:
        if module.name.rpartition(".")[2].startswith("_"):
            continue
        for name, node, owner in _functions(module):
            short = name.rpartition(".")[2]
            # What a constructor refuses stands in its own docstring or in its class's.
            makes = owner is not None and short in ("__init__", "__post_init__")
            if short.startswith("_") and not makes:
                continue
            text = ast.get_docstring(node) or ""
            if makes and owner is not None:
                text += "\n" + (ast.get_docstring(owner) or "")
            if not text.strip():
                bad.append(f"{module}:{node.lineno}: {name} has no docstring")
                continue
            said = text.partition("Raises:")[2]
            for raised, line in _raised(node):
                wanted = _ancestors(raised, bases)
                if raised in NO_CONTRACT or (makes and raised == "TypeError"):
                    continue
                if not any(f"{w}:" in said for w in wanted):
                    bad.append(f"{module}:{line}: {name} raises {raised}, and its docstring does not say so")
    return bad


RULES = (
    core_is_pure,
    device_stands_alone,
    files_are_short,
    heavy_imports_are_inside_functions,
    our_imports_exist,
    plugins_are_strangers,
    public_functions_say_what_they_raise,
    public_modules_have_all,
    relative_imports,
    table_is_complete,
    tiers_point_down,
)
