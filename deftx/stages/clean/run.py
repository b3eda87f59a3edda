"""Stage `clean`: join the texts of a language and clean them."""

from pathlib import Path

from pydantic import Field

from deftx.stages.clean.math import clean as clean_items
from deftx.stages.clean.settings import Cleaning
from deftx.store.artefact import write_json
from deftx.store.errors import ArtefactError
from deftx.store.items import load_items, texts_of, write_items
from deftx.store.strict import Strict


class Params(Strict):
    """Which texts of which language are joined, and how they are cleaned."""

    language: str
    datasets: list[str] = Field(description="the datasets that the text files belong to, in order")
    cleaning: Cleaning = Cleaning()


def clean(
    params: Params, *, text: list[Path], evaluation: list[Path] | None = None, out: Path
) -> None:
    """Write the cleaned lines of `text`, in order, as parquet, and beside it a JSON file with the
    number of lines of each dataset, the total, and the count of each outcome. `evaluation` holds
    labelled items whose sentences are removed from the text.

    Raises ArtefactError if an input is missing or corrupt, or if no line is left.
    """
    sentences = [
        text for path in evaluation or [] for item in load_items(path) for text in texts_of(item)
    ]
    parts = [load_items(path) for path in text]
    # The ids of every dataset count from 0.
    if len(parts) > 1:
        parts = [
            [{**item, "id": f"{dataset}.{item['id']}"} for item in part]
            for dataset, part in zip(params.datasets, parts, strict=True)
        ]
    lines = [item for part in parts for item in part]
    kept, counts = clean_items(lines, sentences, params.cleaning)
    if not kept:
        raise ArtefactError(
            f"{params.language}: no line of text is left after cleaning: "
            + ", ".join(f"{count:,} {name}" for name, count in counts.items())
        )
    write_items(
        out,
        kept,
        stage="clean",
        dataset="+".join(params.datasets),
        language=params.language,
        split="train",
    )
    of = {dataset: len(part) for dataset, part in zip(params.datasets, parts, strict=True)}
    write_json(out.with_suffix(".json"), {"language": params.language, "datasets": of, **counts})
