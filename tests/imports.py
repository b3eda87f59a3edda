"""The imports between the modules of the package."""

import ast
from functools import cache
from pathlib import Path

from conftest import PROJECT


@cache
def imports(module: str, root: Path = PROJECT) -> frozenset[str]:
    """The modules of the package that a module imports anywhere, also for types only."""
    found = set()
    for node in ast.walk(ast.parse(file_of(module, root).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = {name for name in names if file_of(name, root).is_file()}
            found |= modules if len(modules) == len(names) else {*modules, node.module}
    return frozenset(name for name in found if name.startswith("deftx"))


def reached(module: str, root: Path = PROJECT) -> set[str]:
    """The module and all modules that it imports, directly or indirectly."""
    found, todo = set(), [module]
    while todo:
        if (current := todo.pop()) not in found:
            found.add(current)
            todo += imports(current, root)
    return found


def file_of(module: str, root: Path = PROJECT) -> Path:
    inside = root.joinpath(*module.split("."))
    return inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")


def modules(root: Path = PROJECT) -> list[str]:
    """The dotted names of all modules of the package."""
    names = [path.relative_to(root).with_suffix("") for path in (root / "deftx").rglob("*.py")]
    return sorted(".".join(n.parts).removesuffix(".__init__") for n in names)
