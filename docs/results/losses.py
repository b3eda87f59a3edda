"""Print the loss of masked-language modelling on held-out text of each language of a run (nats per
hidden piece): that of the base, and those after the phases of seed 0, from their metadata.

From the project's folder: `python docs/results/losses.py results/mini-beyond`.
"""

import sys
from pathlib import Path

import pandas as pd

from deftx.engine.language import loss_of_base
from deftx.engine.settings import LanguageTraining
from deftx.models.base import Base
from deftx.models.tokens import load_tokens
from deftx.store.tensors import TensorFile


def losses(run: Path) -> pd.DataFrame:
    """Languages × the base and the trainings. Raises ArtefactError if a file is corrupt."""
    base = Base.load(run / "base")
    found: dict[str, dict[str, float]] = {}
    for folder in sorted(run.glob("full/lang-*")):
        language = folder.name.removeprefix("lang-")
        full = TensorFile(folder / "seed0/model.safetensors").provenance
        settings = LanguageTraining.model_validate(full["params"]["language"])
        text = load_tokens(run / f"tokens/whole/clean/{language}.safetensors", base, None)
        found[language] = {
            "base": loss_of_base(base, text, settings),
            "full": full["outcome"]["best"]["loss"],
        }
        for vector in sorted(run.glob(f"sparse/*/lang-{language}/seed0/sft_model.safetensors")):
            outcome = TensorFile(vector).provenance["outcome"]
            found[language][vector.parts[-4]] = outcome["best"]["loss"]
    return pd.DataFrame(found).T


if __name__ == "__main__":
    print(losses(Path(sys.argv[1])).round(2).to_markdown())
