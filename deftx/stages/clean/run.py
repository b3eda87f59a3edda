"""Stage `clean`: the text of a language, put together and cleaned."""

from pathlib import Path

from pydantic import Field

from deftx.stages.clean.math import clean as clean_items
from deftx.stages.clean.settings import Cleaning
from deftx.store.artefact import write_json
from deftx.store.errors import ArtefactError
from deftx.store.items import load_items, write_items
from deftx.store.strict import Strict


class Params(Strict):
    """What decides the text of a language."""

    language: str
    datasets: list[str] = Field(description="where its text is from, in this order")
    cleaning: Cleaning = Cleaning()


def clean(
    params: Params, *, text: list[Path], evaluation: list[Path] | None = None, out: Path
) -> None:
    """Write the lines of `text` that stay, in their order, as parquet; beside it, as JSON, how many
    were read of each dataset and in all, and what became of them. `evaluation` are labelled items
    whose sentences must not be in it.

    Raises ArtefactError if an input is missing or corrupt, or no line stays.
    """
    sentences = [
        item[column]
        for path in evaluation or []
        for item in load_items(path)
        for column in ("text", "text_pair")
        if column in item
    ]
    parts = [load_items(path) for path in text]
    # An id tells its dataset where there are several, as they all count from 0.
    if len(parts) > 1:
        parts = [
            [{**item, "id": f"{dataset}.{item['id']}"} for item in part]
            for dataset, part in zip(params.datasets, parts, strict=True)
        ]
    lines = [item for part in parts for item in part]
    kept, counts = clean_items(lines, sentences, params.cleaning)
    if not kept:
        raise ArtefactError(
            f"{params.language}: no line of text stays after cleaning: "
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
