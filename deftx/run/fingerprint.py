"""A fingerprint of the code that a stage runs.

Snakemake does not track an imported package. So each stage's parameters carry this fingerprint,
and a stage is stale when code that it can reach has changed, and only then.

The fingerprint ignores what cannot change a result: comments, docstrings, layout, error and log
messages, descriptions of settings, where a module is and what it is called, and the modules in
`BLIND`.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from deftx.run.workflow import SHIPPED

PACKAGE = Path(__file__).parents[1]

BLIND = (
    "deftx.run",
    "deftx.data.contradictions",
    "deftx.plan.feasible",
    "deftx.stages.base.trial",
    "deftx.store.version",
)
"""Modules and packages that cannot change a result: the fingerprint does not look inside."""


def fingerprint(stage: str) -> str:
    """Twelve hexadecimal digits over the code that `deftx.stages.<stage>` reaches by imports inside
    the package, itself included, and over the templates that this code names.

    `deftx/__init__.py` is not followed: it names everything. So no module of the package imports
    from it (a test checks that).
    """
    return _digest(f"deftx.stages.{stage}.run")[:12]


@cache
def _digest(module: str) -> str:
    """The digest of a module in which each import of the package stands as the digest of what it
    imports. Import circles would never end; there are none (a test checks that)."""
    if any(module == blind or module.startswith(f"{blind}.") for blind in BLIND):
        return "blind"
    tree = ast.parse(_path(module).read_text(encoding="utf-8"))
    digest = hashlib.sha256(_dump(tree).encode())
    for template in _templates(tree):
        digest.update(template.read_bytes())
    return digest.hexdigest()


def _path(module: str) -> Path:
    inside = PACKAGE.joinpath(*module.split(".")[1:])
    return inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")


def _imported(node: ast.ImportFrom) -> list[str] | None:
    """What an import brings: for each name the digest of its module, the name there and the name
    here. None if it is not one of the package."""
    if not node.module or node.module.split(".")[0] != "deftx":
        return None
    found = []
    for alias in node.names:
        submodule = f"{node.module}.{alias.name}"
        inside = _path(submodule).is_file()
        what = _digest(submodule) if inside else f"{_digest(node.module)} {alias.name}"
        found.append(f"{what} as {alias.asname or alias.name}")
    return found


def _templates(tree: ast.Module) -> list[Path]:
    """The package's data files whose name a module writes out, with those of the same stem: a style
    beside its page. The workflow that a wheel carries is none of them."""
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    files = _data_files(PACKAGE)
    stems = {file.name.partition(".")[0] for file in files if file.name in words}
    return [file for file in files if file.name.partition(".")[0] in stems]


@cache
def _data_files(package: Path) -> list[Path]:
    return sorted(
        file
        for file in package.rglob("*.*")
        if file.suffix not in (".py", ".pyc") and file.relative_to(package).parts[0] != SHIPPED.name
    )


def _dump(node: object) -> str:
    """A syntax tree as text: without what only people read, and without empty fields, whose set
    differs between versions of Python."""
    if isinstance(node, list):
        return "[" + ",".join(_statements(node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    kept = ",".join(
        f"{name}={_dump(value)}"
        for name, value in _without_words(node).items()
        if value is not None and value != [] and name not in ("kind", "type_comment")
    )
    return f"{type(node).__name__}({kept})"


def _statements(nodes: list[object]) -> list[str]:
    """The nodes of a list as text, imports of the package first and sorted: their order in a file
    follows the names of modules."""
    imports: set[str] = set()
    others = []
    for node in nodes:
        match node:
            case ast.Expr(value=ast.Constant(value=str())):  # a docstring, or below an attribute
                pass
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.ImportFrom() if (names := _imported(node)) is not None:
                imports.update(names)
            case _:
                others.append(_dump(node))
    return [*sorted(imports), *others]


def _without_words(node: ast.AST) -> dict[str, object]:
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Raise):
        fields = {"exc": node.exc.func if isinstance(node.exc, ast.Call) else node.exc}
    elif isinstance(node, ast.Assert):
        fields.pop("msg")
    elif isinstance(node, ast.Call):
        fields["keywords"] = [k for k in node.keywords if k.arg != "description"]
        match node.func:
            case ast.Attribute(value=ast.Name(id=name)) if name in ("log", "warnings"):
                fields = {"func": node.func}
    return fields
