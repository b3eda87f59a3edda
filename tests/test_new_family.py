"""Adding a family touches its own folder, the table of stages and one rules file: a toy family is
added to a copy of the project and runs to the tables."""

import pandas as pd
import pytest
from workspace import Workspace

METHOD = '''
"""A toy family: the difference of full fine-tuning times a factor."""
from typing import ClassVar

from deftx.plan.method import Row


class Scaled(Row):
    """A scaled difference."""

    key: ClassVar[str] = "scaled"
    scaled: float

    @property
    def stage(self) -> str:
        """The stage whose artefact is the vector."""
        return "scaled"
'''

PLAN = '''
"""What the stage `scaled` reads. Free of torch."""
from deftx.plan.graph import BASE_MODEL
from deftx.plan.graph import target_params
from deftx.stages.scaled.method import Scaled


def inputs(graph, artefact):
    start = graph.start_vector(artefact)
    return {"base": [BASE_MODEL], "full": [artefact.same("full")], "start_vector": start}


def params(graph, artefact):
    factor = graph.row(artefact, Scaled).scaled
    return {**target_params(artefact), "method": artefact["method"], "factor": factor}
'''

RUN = '''
"""Stage `scaled`: the difference of full fine-tuning times a factor."""
from pathlib import Path

from deftx.core.parameters import head_of, stored_head
from deftx.models.base import Base
from deftx.models.vectors import dense_vector
from deftx.store.strict import Strict
from deftx.store.tensors import TensorFile, save_tensors


class Params(Strict):
    """Which difference is scaled, and how much."""

    target: str
    start: str
    seed: int
    method: str
    factor: float


def scaled(
    params: Params, *, base: Path, full: Path, start_vector: Path | None = None, out: Path
) -> None:
    """Write factor times the difference, dense, and the head."""
    encoder, file = Base.load(base), TensorFile(full)
    delta = dense_vector(file, encoder, start_vector)
    tensors = {name: params.factor * delta[name] for name in delta}
    facts = params.model_dump(include={"target", "start", "seed", "method"})
    save_tensors(
        out,
        tensors | stored_head(head_of(file)),
        stage="scaled",
        **facts,
        base=encoder.identity,
        params=params.model_dump(),
        outcome=file.provenance["outcome"],
        inputs={"full": file.content},
    )
'''

RULE = '''

rule scaled:
    """Scale a difference."""
    input:
        unpack(needs("scaled")),
    output:
        **made("scaled"),
    log:
        **logs("scaled"),
    conda:
        ENVIRONMENT
    params:
        cfg=reads("scaled"),
    shell:
        call("scaled", "base full start_vector")
'''


@pytest.mark.workflow
def test_a_family_is_its_folder_three_lines_of_the_table_and_a_rule(finished, tmp_path):
    made = Workspace(tmp_path, finished=finished)
    folder = made.folder / "deftx/stages/scaled"
    folder.mkdir()
    for name, text in (("__init__", ""), ("method", METHOD), ("plan", PLAN), ("run", RUN)):
        (folder / f"{name}.py").write_text(text)
    table = "deftx/stages/table.py"
    made.replace(
        table,
        "from deftx.stages.sparse import plan as sparse\n",
        "from deftx.stages.scaled import plan as scaled\n"
        "from deftx.stages.scaled.method import Scaled\n"
        "from deftx.stages.sparse import plan as sparse\n",
    )
    made.replace(table, "ROWS: tuple[type[Row], ...] = (", "ROWS = (Scaled, ")
    made.replace(
        table,
        "TABLE = (\n",
        "TABLE = (\n"
        '    Stage("scaled", "scale a difference", f"scaled/{_VECTOR}.safetensors", scaled),\n',
    )
    made.append("workflow/rules/families.smk", RULE)
    made.config["methods"] |= {"half": {"scaled": 0.5}, "whole": {"scaled": 1.0}}
    made.config["systems"] |= {"half": {"task": "half"}, "whole": {"task": "whole"}}
    made.write_config()

    ran = made.run()

    assert ran["scaled"] == 4  # two methods, a task and a language
    assert ran["compose"] == ran["evaluate"] == 4  # two systems, two languages
    assert not {"base", "world", "full", "denoise", "mask", "sparse"} & ran.keys()
    scores = pd.read_csv(made.results / "tables/transfer.csv")
    mean = scores.set_index(["system", "language"])["mean"]
    assert (mean["whole"] == mean["task-arithmetic"]).all()  # an oracle: the factor is one
    assert "half" in set(scores["system"])
    assert "scaled" in made.deftx("--help").stdout
