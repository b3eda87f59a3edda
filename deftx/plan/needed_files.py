"""The files that a config needs, and what is known about each without a network. Free of torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deftx.data.lock import Locked
from deftx.models.folder import model_files
from deftx.plan.artefact import OWN_TEXT, Artefact
from deftx.plan.graph import BASE_MODEL
from deftx.plan.plan import Plan
from deftx.plan.user_files import sha256

THERE, TO_FETCH, CHANGED, MISSING = "there", "to download", "not as locked", "missing"


@dataclass(frozen=True)
class NeededFile:
    """One file, or the folder of the base. `bytes` is its size, or the size in the lock."""

    dataset: str
    language: str
    split: str
    path: Path | str
    state: str
    bytes: int | None
    licence: str


def needed_files(plan: Plan, lock: Mapping[str, Locked]) -> Iterator[NeededFile]:
    """The files that a plan reads, in its order, and last its base if it is not made here. Files
    that are in the lock are compared with it."""
    for artefact in plan.artefacts:
        if artefact.stage == "data":
            yield _file(plan, artefact, lock)
    model, folder = plan.config.base.model, plan.user_files.base_folder()
    if folder is not None:
        parts = [folder / name for name in model_files(folder, plan.config.base.allow_pickle)]
        whole = sum(part.stat().st_size for part in parts)
        yield NeededFile("base", "", "", folder, THERE, whole, "")
    elif model is not None:
        made = Path(plan.path(BASE_MODEL))
        size = made.stat().st_size if made.is_file() else None
        yield NeededFile("base", "", "", model, THERE if size else TO_FETCH, size, "")


def _file(plan: Plan, artefact: Artefact, lock: Mapping[str, Locked]) -> NeededFile:
    name, language, split = artefact["dataset"], artefact["language"], artefact["split"]
    dataset, path = plan.user_files.dataset(name), plan.user_files.of(artefact)
    locked = None
    if name != OWN_TEXT and dataset.remote:
        locked = lock.get(dataset.address(language, split))
    size = locked["bytes"] if locked else None
    state = TO_FETCH if dataset.remote else MISSING
    if path.is_file():
        size = path.stat().st_size
        state = CHANGED if locked and locked["sha256"] != sha256(path) else THERE
    return NeededFile(name, language, split, path, state, size, dataset.licence or "not stated")
