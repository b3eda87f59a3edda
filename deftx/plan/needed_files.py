"""What files a config needs, and what is known of each without a network. Free of torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deftx.data.lock import Locked
from deftx.models.folder import MODEL_FILES
from deftx.plan.config import OWN_TEXT
from deftx.plan.graph import Artefact
from deftx.plan.plan import Plan
from deftx.plan.user_files import sha256

THERE, TO_FETCH, CHANGED, MISSING = "there", "to fetch", "not as locked", "missing"


@dataclass(frozen=True)
class NeededFile:
    """One file, or the folder of the base. `bytes` of what is there, else as the lock has it."""

    dataset: str
    language: str
    split: str
    path: Path | str
    state: str
    bytes: int | None
    licence: str


def needed_files(plan: Plan, lock: Mapping[str, Locked]) -> Iterator[NeededFile]:
    """The files that a plan reads, in its order, and at last its base if it is not made here. Those
    that the lock knows are compared with it."""
    for artefact in plan.artefacts():
        if artefact.stage == "data":
            yield _file(plan, artefact, lock)
    model, folder = plan.config.base.model, plan.files.base_folder()
    if folder is not None:
        parts = [folder / name for name in MODEL_FILES if (folder / name).is_file()]
        whole = sum(part.stat().st_size for part in parts)
        yield NeededFile("base", "", "", folder, THERE, whole, "")
    elif model is not None:
        made = Path(plan.root) / Artefact.of("base").path
        size = made.stat().st_size if made.is_file() else None
        yield NeededFile("base", "", "", model, THERE if size else TO_FETCH, size, "")


def _file(plan: Plan, artefact: Artefact, lock: Mapping[str, Locked]) -> NeededFile:
    name, language, split = artefact["dataset"], artefact["language"], artefact["split"]
    dataset, path = plan.files.dataset(name), plan.files.of(artefact)
    locked = None
    if name != OWN_TEXT and dataset.remote:
        locked = lock.get(dataset.address(language, split))
    size = locked["bytes"] if locked else None
    state = TO_FETCH if dataset.remote else MISSING
    if path.is_file():
        size = path.stat().st_size
        state = CHANGED if locked and locked["sha256"] != sha256(path) else THERE
    return NeededFile(name, language, split, path, state, size, dataset.licence or "not told")
