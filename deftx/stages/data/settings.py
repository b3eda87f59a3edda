"""Datasets: which files they are, and how their rows are read."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from deftx.store.strict import Strict, absent, exactly_one

WorldKind = Literal["text", "sentiment", "inference", "tags"]
Split = Literal["train", "valid", "test"]
Format = Literal["txt", "csv", "tsv", "jsonl", "parquet", "conll", "conllu", "iob2"]
WORD_A_LINE = {"conll": ("0", "-1"), "conllu": ("1", "3"), "iob2": ("1", "2")}
"""Formats with a word in each line, and their usual columns of words and of tags."""
NO_TAGS = "none"
"""The column of tags of a file whose tags are not to be read."""
Count = Annotated[int, Field(ge=1)]
OF_THE_WORLD = {"world", "items", "columns", "licence", "source"}
"""Settings of datasets that the embedded world has a use for."""


class SplitOf(Strict):
    """A split of a language of a dataset, as the stages `data`, `trim` and `world` write it."""

    dataset: str
    language: str
    split: Split

    def identity(self) -> dict[str, str]:
        """These three, by name."""
        return self.model_dump(include=set(SplitOf.model_fields))


def format_of(name: str) -> str:
    """The ending of a file's name that shows its format, without the dot."""
    return Path(name.removesuffix(".xz").removesuffix(".gz")).suffix[1:]


class Columns(Strict):
    """Names of the columns of a table; in formats with a word in each line their numbers from 0, or
    from -1 at the end."""

    # For columns such as -1, written without quotes.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    text: str = "text"
    text_pair: str | None = None
    label: str | None = None
    id: str | None = Field(default=None, description="without it, items are numbered from 0")
    words: str | None = Field(
        default=None,
        exclude_if=absent,
        description="instead of text: lists of words, or the words of conll (default: 0), conllu "
        "and iob2 (default: 1)",
    )
    tags: str | None = Field(
        default=None,
        exclude_if=absent,
        description="the words' tags, or none; default: -1 in conll, 3 in conllu, 2 in iob2",
    )


class Layout(Strict):
    """How the rows of a file are read."""

    # For labels such as 0, written without quotes.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    columns: Columns = Columns()
    labels: dict[str, str | None] | None = Field(
        default=None,
        description="label in the file → class; several may map to one, and null leaves items out. "
        "Of words: tag → tag (null leaves words out) or type of entities → type or O; tags that it "
        "does not name stay",
    )
    format: Format | None = Field(default=None, description="where the files' names do not show it")
    header: bool = Field(
        default=True,
        description="csv and tsv begin with column names; else the columns are 0, 1, …",
    )
    quoting: bool | None = Field(
        default=None,
        description="csv and tsv cells may be quoted; else quotes are text; default: csv cells may",
    )

    delimiter: Literal[",", ";", "\t"] | None = Field(
        default=None,
        exclude_if=absent,
        description="what separates the cells of csv and tsv; default: a comma, in tsv a tab",
    )
    comments: bool | None = Field(
        default=None,
        exclude_if=absent,
        description="lines that begin with # are comments; default: in conllu and iob2 they are, "
        "in conll they are words",
    )

    def format_of(self, name: str) -> str:
        """The format of a file with this name."""
        return self.format or format_of(name)

    def words_and_tags(self, name: str) -> tuple[str | None, str | None]:
        """The columns of words and of tags in a file with this name; None for what it has not."""
        words, tags = WORD_A_LINE.get(self.format_of(name), (None, None))
        tags = self.columns.tags or tags
        return self.columns.words or words, None if tags == NO_TAGS else tags

    def is_quoted(self, delimiter: str) -> bool:
        """Whether cells between these delimiters may be quoted."""
        return delimiter != "\t" if self.quoting is None else self.quoting


class HubSource(Strict):
    """A dataset on the Hugging Face hub: a file of it, or a split of a configuration as the library
    `datasets` loads it, which is stored as JSON lines."""

    dataset: str = Field(description="its id, such as wikimedia/wikipedia")
    revision: str = Field(
        default="main", description="a commit; a branch or tag is resolved once, see data.lock"
    )
    file: str | None = Field(
        default=None, description="path in the repository, with {language} and {split}"
    )
    config: str | None = Field(
        default=None, description="instead of a file: the configuration, with {language}"
    )
    split: str = Field(default="{split}", description="split of the configuration")

    _one_form = exactly_one("file", "config")

    @property
    def url(self) -> str:
        """The address on the hub; $HF_ENDPOINT may name a mirror."""
        home = f"https://huggingface.co/datasets/{self.dataset}"
        if self.file is None:
            return f"{home}/tree/{self.revision}#{self.config}/{self.split}"
        return f"{home}/resolve/{self.revision}/{self.file}"


class WithoutNearest(Strict):
    """Items that a dataset leaves out: the nearest one to each text of another dataset, which was
    made from them."""

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
        "item), csv, tsv, jsonl, parquet, conll, conllu or iob2, also .gz or .xz; default for a "
        "hub configuration: data/<its id>/{language}/{split}.jsonl",
    )
    url: str | None = Field(
        default=None,
        description="where a missing file is downloaded from, with {language} and {split}; "
        "http(s):// or file://, with a fixed revision in it",
    )
    hub: HubSource | None = Field(default=None, description="instead of url: the Hugging Face hub")
    aliases: dict[str, str] = Field(
        default={}, description="language key → what replaces {language}"
    )
    splits: dict[Split, str] = Field(default={}, description="split → what replaces {split}")
    limit: dict[str, Count] = Field(
        default={},
        description="language key → the largest number of rows that are read, from the top",
    )
    without_nearest: WithoutNearest | None = Field(
        default=None, description="leave out what another dataset was made from"
    )
    world: WorldKind | None = Field(default=None, description="what the embedded world makes")
    items: dict[Split, Count] = Field(
        default={},
        description="items of each split: how many the world makes, or how many files have in an "
        "estimate before they are there",
    )
    licence: str | None = Field(default=None, description="as the cards of vectors state it")
    source: str | None = Field(default=None, description="where it is from, for the cards")

    _one_source = exactly_one("files", "world")

    @model_validator(mode="before")
    @classmethod
    def _place_of_a_configuration(cls, given: Any) -> Any:
        hub = given.get("hub") if isinstance(given, dict) else None
        if isinstance(hub, dict) and hub.get("config") and "files" not in given:
            place = f"data/{hub.get('dataset')}/{{language}}/{{split}}.jsonl"
            return {**given, "files": place}
        return given

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        unused = [
            name
            for name, field in sorted(type(self).model_fields.items())
            if name not in OF_THE_WORLD
            and getattr(self, name) != field.get_default(call_default_factory=True)
        ]
        if self.world and unused:
            raise ValueError(f"{', '.join(unused)}: of files, not of the world")
        if self.url is not None and self.hub is not None:
            raise ValueError("give one of url and hub")
        numbered = self.files is not None and self.format_of(self.files) in WORD_A_LINE
        for role, column in zip(
            ("words", "tags"), self.words_and_tags(self.files or ""), strict=True
        ):
            if numbered and column and not re.fullmatch("-?[0-9]+", column):
                raise ValueError(f"columns.{role}: expected the number of a column, got {column!r}")
        if mixed := self.roles & {"label", "text_pair"} if "words" in self.roles else set():
            raise ValueError(f"columns: {', '.join(sorted(mixed))} of words: give tags instead")
        if self.columns.tags and "words" not in self.roles:
            raise ValueError("columns.tags: there is no columns.words")
        if self.hub is not None and self.hub.config and not str(self.files).endswith(".jsonl"):
            raise ValueError(f"files: a hub configuration is stored as .jsonl, got {self.files!r}")
        if self.url is not None and not self.url.startswith(("http://", "https://", "file://")):
            raise ValueError(f"url: expected http://, https:// or file://, got {self.url!r}")
        return self

    @property
    def roles(self) -> set[str]:
        """What there is a column of, as `columns` names it; words take the place of text."""
        words, tags = self.words_and_tags(self.files or "")
        found = {role for role, column in self.columns if column} - {"words", "tags"}
        if words is None:
            return found
        return found - {"text"} | {"words"} | ({"tags"} if tags else set())

    @property
    def remote(self) -> bool:
        """Whether a missing file can be downloaded."""
        return self.url is not None or self.hub is not None

    def address(self, language: str, split: str) -> str:
        """The address of the file of one split of one language; empty if it has none."""
        found = self.url or (self.hub.url if self.hub else "")
        return self.fill(found, language, split)

    def fill(self, pattern: str, language: str, split: str) -> str:
        """A pattern with a language and a split filled in, under their aliases."""
        name = pattern.replace("{language}", self.aliases.get(language, language))
        return name.replace("{split}", self.splits.get(split, split))  # type: ignore[call-overload]
