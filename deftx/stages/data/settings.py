"""Datasets: which files they are, and how their rows are read."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from deftx.store.strict import Strict

WorldKind = Literal["text", "sentiment", "inference"]
Split = Literal["train", "valid", "test"]
Format = Literal["txt", "csv", "tsv", "jsonl", "parquet"]
OF_FILES = (
    "aliases",
    "format",
    "header",
    "hub",
    "labels",
    "limit",
    "quoting",
    "splits",
    "url",
    "without_nearest",
)
"""Settings of datasets from files, which the world has no use for."""


class Columns(Strict):
    """Names of the columns of a table."""

    text: str = "text"
    text_pair: str | None = None
    label: str | None = None
    id: str | None = Field(default=None, description="without it, items are numbered from 0")


class Layout(Strict):
    """How the rows of a file are read."""

    model_config = ConfigDict(
        coerce_numbers_to_str=True
    )  # labels such as 0, written without quotes

    columns: Columns = Columns()
    labels: dict[str, str] | None = Field(
        default=None, description="label in the file → class; several may map to one"
    )
    format: Format | None = Field(
        default=None, description="format of the files, where their name does not show it"
    )
    header: bool = Field(
        default=True,
        description="whether csv and tsv files begin with column names; without them the columns "
        "are called 0, 1, …",
    )
    quoting: bool = Field(
        default=True, description="whether csv and tsv cells may be quoted; if not, quotes are text"
    )


class HubFile(Strict):
    """A file of a dataset on the Hugging Face hub."""

    dataset: str = Field(description="its id, such as wikimedia/wikipedia")
    revision: str = Field(
        default="main",
        description="a commit; a branch or tag is resolved at the first download, see data.lock",
    )
    file: str = Field(description="path in the repository, with {language} and {split}")

    @property
    def url(self) -> str:
        """What the file is known by; it may be had from elsewhere, as $HF_ENDPOINT says."""
        return f"https://huggingface.co/datasets/{self.dataset}/resolve/{self.revision}/{self.file}"


class WithoutNearest(Strict):
    """Items that a dataset leaves out, as another one was made from them: for each text of that,
    the nearest one."""

    dataset: str = Field(description="the other dataset")
    language: str
    split: Split
    among: Annotated[list[Split], Field(min_length=1)] = Field(
        default=["train", "valid", "test"], description="splits that are searched as one"
    )


class Dataset(Layout):
    """Text or labelled items in one or several languages, from files or from the embedded world."""

    files: str | None = Field(
        default=None,
        description="path with {language} and {split}, absolute or below data_dir; txt (a line an "
        "item), csv, tsv, jsonl or parquet, also .gz or .xz",
    )
    url: str | None = Field(
        default=None,
        description="where a missing file is fetched from, with {language} and {split}; http(s):// "
        "or file://, with a fixed revision in it",
    )
    hub: HubFile | None = Field(default=None, description="instead of url: the Hugging Face hub")
    aliases: dict[str, str] = Field(
        default_factory=dict, description="language key → what stands for {language}"
    )
    splits: dict[Split, str] = Field(
        default_factory=dict, description="split → what stands for {split}"
    )
    limit: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="language key → how many rows of the file are read at most, from the top",
    )
    without_nearest: WithoutNearest | None = Field(
        default=None, description="leave out what another dataset was made from"
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
        if self.world and (unused := [name for name in OF_FILES if self._is_set(name)]):
            raise ValueError(f"{', '.join(unused)}: of files, not of the world")
        if self.url is not None and self.hub is not None:
            raise ValueError("give one of url and hub")
        if self.url is not None and not self.url.startswith(("http://", "https://", "file://")):
            raise ValueError(f"url: expected http://, https:// or file://, got {self.url!r}")
        return self

    def _is_set(self, name: str) -> bool:
        default = type(self).model_fields[name].get_default(call_default_factory=True)
        return bool(getattr(self, name) != default)

    @property
    def remote(self) -> bool:
        """Whether a missing file can be fetched."""
        return self.url is not None or self.hub is not None

    def address(self, language: str, split: str) -> str:
        """What the file of one split of one language is known by, if it can be fetched."""
        found = self.url or (self.hub.url if self.hub else "")
        return self.fill(found, language, split)

    def fill(self, pattern: str, language: str, split: str) -> str:
        """A pattern with a language and a split in it, as their aliases call them."""
        name = pattern.replace("{language}", self.aliases.get(language, language))
        return name.replace("{split}", self.splits.get(split, split))  # type: ignore[call-overload]
