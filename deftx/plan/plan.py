"""The plan of a run: its artefacts, what each is made from, and the parameters of each.

The workflow asks here and nowhere else, so that its edges and parameters can be tested without it.
Free of torch.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from deftx.data.lock import Locked
from deftx.models.base import Base
from deftx.models.folder import model_files
from deftx.plan.artefact import Artefact, Inputs
from deftx.plan.device_memory import device_memory
from deftx.plan.feasible import Uses, check_uses
from deftx.plan.graph import BASE_MODEL, Graph
from deftx.plan.user_files import sha256
from deftx.run.devices import SHARES, share_for
from deftx.run.fingerprint import fingerprint
from deftx.stages.table import PAGES, STAGES, files_of, path_of
from deftx.store.errors import ArtefactError, ConfigError, InputError

_code = cache(fingerprint)

THERE, TO_FETCH, CHANGED, MISSING = "there", "to download", "not as locked", "missing"


class NeededFile(NamedTuple):
    """One file, or the folder of the base. `bytes` is its size, or the size in the lock."""

    dataset: str
    language: str
    split: str
    path: Path | str
    state: str
    bytes: int | None
    licence: str


class Plan(Graph):
    """What a config asks for."""

    @cached_property
    def artefacts(self) -> list[Artefact]:
        """Every artefact that the config asks for, inputs before what is made from them. Without
        evaluations there are no pages about them."""
        pages = PAGES if self.evaluations else ("config", "coverage")
        return self.closure([*map(Artefact.of, pages), *self.models])

    def closure(self, artefacts: Iterable[Artefact]) -> list[Artefact]:
        """These artefacts and everything that they are made from, inputs first."""
        done: dict[Artefact, None] = {}

        def visit(artefact: Artefact) -> None:
            if artefact not in done:
                for parts in self.inputs(artefact).values():
                    for part in parts:
                        visit(part)
                done[artefact] = None

        for artefact in artefacts:
            visit(artefact)
        return list(done)

    def path(self, artefact: Artefact) -> str:
        """Where an artefact is, relative to the project's folder."""
        return f"{self.root}/{path_of(artefact)}"

    def files_of(self, artefact: Artefact) -> list[str]:
        """All files of an artefact: itself, those beside it, and its manifest."""
        return [f"{self.root}/{name}" for name in files_of(artefact)]

    def inputs(self, artefact: Artefact) -> Inputs:
        """Role → artefacts that go into this one."""
        return STAGES[artefact.stage].plan.inputs(self, artefact)

    def params(self, artefact: Artefact) -> dict[str, Any]:
        """What the stage reads of the config, and nothing else: a change of it makes the artefact
        stale. With the fingerprint of the stage's code, and its threads where they matter."""
        stage = STAGES[artefact.stage]
        params = {**stage.plan.params(self, artefact), "code": _code(stage.name)}
        return params if not stage.threads else {**params, "threads": self.threads(stage.name)}

    def threads(self, stage: str) -> int:
        """CPU threads of a job of a stage."""
        return self.config.threads.get(stage, STAGES[stage].threads) or 1

    def gpus(self, stage: str) -> int:
        """GPUs of a job of a stage."""
        return {"none": 0, "one": 1, "several": self.config.engine.devices}[STAGES[stage].gpus]

    def gpu_shares(self, artefact: Artefact) -> int:
        """How many shares of this machine's GPUs the job of an artefact takes: 1 if it is small
        enough to share one, else SHARES for each (`deftx.run.devices.claimed`). A job whose base
        does not exist yet counts as large; Snakemake asks again when it does."""
        gpus = self.gpus(artefact.stage)
        if gpus == 1 and share_for(0) is not None:  # where no job can share nothing is read
            try:
                base = None if artefact == BASE_MODEL else self._made_base
            except ArtefactError:
                return SHARES
            if share_for(device_memory(artefact.stage, self.params(artefact), base)) is not None:
                return 1
        return SHARES * gpus

    @cached_property
    def _made_base(self) -> Base:
        return Base.load(Path(self.path(BASE_MODEL)).parent)

    def missing(self) -> list[str]:
        """A line for each of the user's files that is missing and that nothing downloads."""
        lines = []
        for artefact in [*self.artefacts, BASE_MODEL]:
            missing = STAGES[artefact.stage].missing
            if missing and (line := missing(self, artefact)):
                lines.append(line)
        return list(dict.fromkeys(lines))

    def check_files(self) -> None:
        """Raise ConfigError, naming each, if files are missing that nothing downloads."""
        if missing := self.missing():
            hint = "" if self.user_files.data_folder else "; set data_dir or $DEFTX_DATA"
            raise ConfigError("\n".join([f"missing{hint}:", *(f"  {line}" for line in missing)]))

    def needed_files(self, lock: Mapping[str, Locked]) -> Iterator[NeededFile]:
        """The files that the plan reads, in its order, and last its base if it is not made here,
        with what is known of each without a network. Files in the lock are compared with it."""
        for artefact in self.artefacts:
            if artefact.stage == "data":
                yield self._needed(artefact, lock)
        model, folder = self.config.base.model, self.user_files.base_folder()
        if folder is not None:
            parts = [folder / name for name in model_files(folder, self.config.base.allow_pickle)]
            whole = sum(part.stat().st_size for part in parts)
            yield NeededFile("base", "", "", folder, THERE, whole, "")
        elif model is not None:
            made = Path(self.path(BASE_MODEL))
            size = made.stat().st_size if made.is_file() else None
            yield NeededFile("base", "", "", model, THERE if size else TO_FETCH, size, "")

    def _needed(self, artefact: Artefact, lock: Mapping[str, Locked]) -> NeededFile:
        name, language, split = artefact["dataset"], artefact["language"], artefact["split"]
        dataset, path = self.user_files.dataset(name), self.user_files.of(artefact)
        locked = lock.get(dataset.address(language, split)) if dataset.remote else None
        size, state = locked and locked["bytes"], TO_FETCH if dataset.remote else MISSING
        if path.is_file():
            size = path.stat().st_size
            state = CHANGED if locked and locked["sha256"] != sha256(path) else THERE
        return NeededFile(name, language, split, path, state, size, dataset.licence or "not stated")

    def check_base(self) -> None:
        """Raise ConfigError if a method, a length or a swap of layers cannot work on the base that
        is there. A base that is still to be made, or made again, is checked by the job that makes
        it."""
        folder = Path(self.path(BASE_MODEL)).parent
        try:
            base = Base.load(folder)
        except ArtefactError:
            return
        if base.source != STAGES["base"].plan.params(self, BASE_MODEL):
            return
        try:
            check_uses(base, Uses.of(self))
        except InputError as error:
            raise ConfigError(str(error)) from None
