"""Datasets: which files they are, and how their rows are read."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from deftx.settings.strict import Strict

WorldKind = Literal["text", "sentiment", "inference"]
Split = Literal["train", "valid", "test"]


class Columns(Strict):
    """Names of the columns of a table."""

    text: str = "text"
    text_pair: str | None = None
    label: str | None = None
    id: str | None = Field(default=None, description="without it, items are numbered from 0")


class Dataset(Strict):
    """Text or labelled items in one or several languages, from files or from the embedded world."""

    model_config = ConfigDict(
        coerce_numbers_to_str=True
    )  # labels such as 0, written without quotes

    files: str | None = Field(
        default=None,
        description="path with {language} and {split}, absolute or below data_dir; txt (a line an "
        "item), csv, tsv, jsonl or parquet, also .gz or .xz",
    )
    aliases: dict[str, str] = Field(
        default_factory=dict, description="language key → what stands for {language} in files"
    )
    splits: dict[Split, str] = Field(
        default_factory=dict, description="split → what stands for {split} in files"
    )
    columns: Columns = Columns()
    labels: dict[str, str] | None = Field(
        default=None, description="label in the file → class; several may map to one"
    )
    quoting: bool = Field(
        default=True, description="whether csv and tsv cells may be quoted; if not, quotes are text"
    )
    world: WorldKind | None = Field(default=None, description="what the embedded world makes")
    items: dict[Split, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="how many there are of each split: what the world makes; of files, what an "
        "estimate counts on until they are there",
    )
    licence: str | None = Field(default=None, description="as the cards of vectors state it")
    source: str | None = Field(default=None, description="where it is from, for the cards")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.files is None) == (self.world is None):
            raise ValueError("give exactly one of files and world")
        if self.world and (self.aliases or self.splits or self.labels):
            raise ValueError("aliases, splits and labels belong to files, not to the world")
        return self
