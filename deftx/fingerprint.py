"""A fingerprint of the code that a stage runs, blind to comments, docstrings and layout.

Snakemake does not track an imported package. So each stage's parameters carry this fingerprint,
and a stage is stale when code that it can reach has changed, and only then.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def fingerprint(stage: str) -> str:
    """Twelve hexadecimal digits over the modules that `deftx.stages.<stage>` reaches by imports
    inside of the package, itself included, and over the templates that these name.

    `deftx/__init__.py` is not followed: it names everything. So inside of the package nothing
    is imported from it (a test sees to that).
    """
    digest = hashlib.sha256()
    for module in sorted(reached(f"deftx.stages.{stage}")):
        digest.update(f"{module} {_normal_form(_path(module))}\n".encode())
        for template in _templates(_path(module)):
            digest.update(template.read_bytes())
    return digest.hexdigest()[:12]


def reached(module: str) -> set[str]:
    """The module and all modules of the package that it imports, directly or not, anywhere."""
    found, todo = set(), [module]
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo += _imports(_path(current))
    return found


def _path(module: str) -> Path:
    inside = PACKAGE.joinpath(*module.split(".")[1:])
    return inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    names = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from deftx import world` and `from deftx.world import text` both lead to the file.
            names += [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
    return tuple(n for n in names if n.startswith("deftx.") and _path(n).is_file())


@cache
def _templates(path: Path) -> tuple[Path, ...]:
    """The files of deftx/templates whose name a module writes out, with those of the same stem:
    a style beside its page."""
    words = {node.value for node in ast.walk(_tree(path)) if isinstance(node, ast.Constant)}
    files = sorted((PACKAGE / "templates").glob("*"))
    stems = {file.name.partition(".")[0] for file in files if file.name in words}
    return tuple(file for file in files if file.name.partition(".")[0] in stems)


@cache
def _normal_form(path: Path) -> str:
    """The syntax tree as text, without docstrings, and without empty fields, whose set differs
    between versions of Python."""
    return _dump(_tree(path))


def _dump(node: object) -> str:
    if isinstance(node, list):
        return "[" + ",".join(map(_dump, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Call):  # the description of a setting is documentation
        fields["keywords"] = [k for k in node.keywords if k.arg != "description"]
    body = fields.get("body")
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and (
        isinstance(body, list)
    ):
        # Any bare string, so that the text below an attribute counts as documentation too.
        fields["body"] = [n for n in body if not _is_bare_string(n)]
    kept = ",".join(
        f"{name}={_dump(value)}"
        for name, value in fields.items()
        if value is not None and value != [] and name not in ("kind", "type_comment")
    )
    return f"{type(node).__name__}({kept})"


def _is_bare_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
