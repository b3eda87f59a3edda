"""Look at a text before anything trains: how much it is, what is in it, and what cleaning would do.

Nothing is deleted and no letter is changed by looking."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from deftx.adapt.identify import language_name, languages_of
from deftx.adapt.letters import (
    GARBLED,
    WITHOUT_SPACES,
    apostrophes,
    mixed_words,
    named,
    nfc_changes,
    script_name,
    script_shares,
    spelled,
)
from deftx.adapt.near import near_duplicates
from deftx.adapt.text import LONG, TAG, read_text
from deftx.models.tokenizer import read_tokenizer
from deftx.report.coverage import FAR, UNKNOWN, count
from deftx.report.template import render
from deftx.stages.clean.math import OUTCOMES, judged
from deftx.stages.clean.settings import Cleaning
from deftx.store.artefact import write_json, write_text
from deftx.store.errors import DataError
from deftx.store.version import VERSION


class Published(NamedTuple):
    """A text on which published results rest: lines and words, and the accuracy in percent."""

    language: str
    lines: int
    words: int
    accuracy: float


PUBLISHED = (
    Published("Asháninka", 3_883, 26_000, 47.9),
    Published("Bribri", 7_508, 41_000, 44.4),
    Published("Wixarika", 8_966, 49_000, 42.8),
    Published("Shipibo-Konibo", 14_592, 63_000, 50.3),
    Published("Otomí", 4_889, 72_000, 48.5),
    Published("Aymara", 6_531, 97_000, 58.1),
    Published("Rarámuri", 14_720, 104_000, 43.3),
    Published("Nahuatl", 16_145, 352_000, 52.4),
    Published("Guarani", 26_032, 406_000, 63.5),
)
"""Texts of AmericasNLP 2021 (repository AmericasNLP/americasnlp2021, the target side of its
training data; words in thousands), and the accuracy on AmericasNLI of LT-SFT (Ansell et al. 2022)
with XLM-R base, by its released vectors. Chance is 33.3. For Aymara, Guarani and Nahuatl a
Wikipedia was probably added to this text."""

TOO_LITTLE = 25_000
"""Words. A smaller text is smaller than the smallest of PUBLISHED. Design choice."""

LITTLE = 100_000
"""Words. The languages of PUBLISHED with about as many or more have an accuracy of 54 on average,
those with fewer 47; chance is 33. Design choice."""

SELDOM = 0.001
"""A share of the letters, or of the lines, that is not worth a remark. Design choice."""

LETTERS_OF_A_WORD = 6
"""What counts as a word where a script puts no spaces. Design choice: words of PUBLISHED have about
as many."""

SAMPLE = 1_000_000
"""Characters that are cut into pieces at most; of a longer text, lines at equal distances."""

ENGLISH = (
    "The old market opens before sunrise, when the boats come back and the first buses arrive.",
    "My grandmother sells vegetables there, and she knows the name of every customer.",
    "She says that a good day begins with coffee, a short prayer and an honest price.",
    "Last year the town built a new road, so many people now travel to the city for work.",
    "Some of them send money home, others return with a phone, a song or a new word.",
    "Children learn two languages at school and a third one in the street.",
    "The teacher asked what they would like to read, and most of them wanted stories of animals.",
    "It rained for three weeks, but the harvest was better than anybody had expected.",
)
"""A text in a language that every base knows, for comparison. Written for this purpose."""

REASONS = {
    "blank": "no word in it: blank, or only punctuation",
    "short": "too short to learn from",
    "long": "longer than the maximum that was set",
    "evaluation": "holds a sentence of the labelled items, which would spoil the score",
    "duplicate": "the same words as an earlier line",
}
"""Outcome of cleaning → why such a line is left out."""

STAYING = {
    "near-duplicate": "nearly the same words as an earlier line",
    "other-language": "looks like another, big language",
    "mixed-script": "a word with letters of two scripts",
    "markup": "HTML: tags, or characters written as names",
    "garbled": "letters that were read in the wrong encoding before",
}
"""Name of a list → what is in it. Cleaning leaves these lines in."""


@dataclass(frozen=True)
class Look:
    """What was found in a text.

    facts: all numbers, as a dictionary that JSON can hold (look.json; docs/look.md lists its keys).
    lines: the text's lines as they were read, long ones split. kept: those that cleaning keeps,
    tidied. listed: name of a list → its lines, each with its number in `lines`, from 1.
    """

    facts: dict[str, Any]
    lines: list[str]
    kept: list[str]
    listed: dict[str, list[str]]

    @property
    def verdict(self) -> str:
        """How much text it is: `enough`, `little` or `too little`."""
        word: str = self.facts["verdict"]["word"]
        return word

    @property
    def warnings(self) -> list[str]:
        """What a person should know before training, each in a sentence or two."""
        found: list[str] = self.facts["warnings"]
        return found

    @property
    def doubt(self) -> str | None:
        """Why it is probably not a text in this language; None if there is no sign of it."""
        return _doubt(self.facts)

    def show(self, console: Console) -> None:
        """Print the page on a terminal."""
        facts = self.facts
        verdict = facts["verdict"]
        colour = {"enough": "green", "little": "yellow", "too little": "red"}[verdict["word"]]
        console.print(Styled(f"\n{facts['file']['file']}: {facts['name']}", style="bold"))
        console.print(Styled(f"{verdict['word'].capitalize()}. ", colour), end="")
        console.print(Styled(verdict["reason"]))
        for warning in self.warnings:
            console.print(Styled("! ", "yellow") + Styled(warning, "default"))
        for title, head, rows in sections(self):
            table = Table(*head, title=title, title_justify="left", title_style="bold", box=None)
            for row in rows:
                table.add_row(*map(Styled, row))
            console.print()
            console.print(table)

    def write(self, folder: Path) -> None:
        """Write `index.html`, a page that needs no other file; `look.json` with the facts; and one
        text file per list, such as `duplicate.txt` (left out by cleaning) and
        `kept-near-duplicate.txt` (not left out). Lists of an earlier look are removed."""
        for name in (*REASONS, *STAYING):
            file = folder / file_of(name)
            if name in self.listed:
                write_text(file, "\n".join(self.listed[name]) + "\n")
            else:
                file.unlink(missing_ok=True)
        write_json(folder / "look.json", self.facts)
        examples = {
            REASONS.get(name) or STAYING[name]: (file_of(name), lines[:5])
            for name, lines in self.listed.items()
        }
        page = render(
            "look.html.j2",
            facts=self.facts,
            sections=sections(self),
            examples=examples,
            version=VERSION,
        )
        write_text(folder / "index.html", page)


def look(
    text: Path,
    language: str,
    *,
    name: str | None = None,
    base: Path | None = None,
    cleaning: Cleaning | None = None,
    column: str | None = None,
    split: bool = True,
    evaluation: Iterable[str] = (),
    out: Path | None = None,
) -> Look:
    """Look at a text in `language` (ISO 639-3, perhaps with a script: `ace_Arab`).

    Args:
        text: a file; see `read_text`.
        name: of the language, for people; default: the one that `language_name` knows, or the code.
        base: a folder with a tokenizer, such as a model's or the stage `base`'s. Without it there
            are no numbers of pieces.
        cleaning: the settings that training will use; default: those of `cleaning: {}`.
        column: of a table, the column that holds the text.
        split: whether lines of more than LONG characters are split.
        evaluation: texts that nothing may be trained on: cleaning leaves out lines with them.
        out: a folder, into which `Look.write` writes.

    Raises DataError as `read_text` does; ArtefactError if the base has no tokenizer.
    """
    settings = cleaning or Cleaning()
    given = read_text(text, column, split=split)
    lines = given.lines
    results = list(judged(lines, evaluation, settings))
    counts = Counter(result.outcome for result in results)
    kept = [number for number, result in enumerate(results) if result.outcome == "kept"]
    if not counts["kept"]:
        found = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        raise DataError(f"{text}: cleaning leaves no line of it: {found}")
    tidied = [results[number].text for number in kept]
    characters = Counter[str]()
    for line in lines:
        characters.update(line)

    listed: dict[str, list[str]] = {}
    for number, result in enumerate(results):
        if result.outcome != "kept":
            listed.setdefault(result.outcome, []).append(f"{number + 1}\t{lines[number]}")
    languages = languages_of(tidied, language)
    near = near_duplicates([results[number].words for number in kept])
    changed, changes = nfc_changes(lines)
    mixed = mixed_words(tidied, characters)
    marked = {n: len(tags) for n, line in enumerate(tidied) if (tags := TAG.findall(line))}
    garbled = [n for n, line in enumerate(tidied) if GARBLED.search(line)]
    staying: dict[str, list[str]] = {
        "near-duplicate": [
            f"{kept[n] + 1}\t{tidied[n]}\t(as {kept[i] + 1})" for n, i in sorted(near.items())
        ],
        "other-language": [
            f"{kept[o.line] + 1}\t{o.language}, {o.common:.0%} common words\t{tidied[o.line]}"
            for o in languages.others
        ],
        "mixed-script": [f"{kept[n] + 1}\t{word}\t{tidied[n]}" for n, word in mixed.items()],
        "markup": [f"{kept[n] + 1}\t{tidied[n]}" for n in marked],
        "garbled": [f"{kept[n] + 1}\t{tidied[n]}" for n in garbled],
    }
    listed |= {name: found for name, found in staying.items() if found}

    shares = script_shares(characters)
    elsewhere = {other.line for other in languages.others}
    own_lines = [line for number, line in enumerate(tidied) if number not in elsewhere]
    is_spaced = sum(shares.get(script, 0) for script in WITHOUT_SPACES) < 0.5
    facts: dict[str, Any] = {
        "language": language,
        "name": name or language_name(language),
        "file": given.facts,
        "lines": len(lines),
        "lines_with_tab": sum("\t" in line for line in lines),
        "words": _words(lines, is_spaced),
        "characters": characters.total(),
        "kept": {
            "lines": len(kept),
            "words": _words(tidied, is_spaced),
            "characters": sum(map(len, tidied)),
            "median_words": median(len(line.split()) for line in tidied),
        },
        "usable_words": _words(own_lines, is_spaced),
        "tokens": None if base is None else _tokens(tidied, characters, base),
        "scripts": shares,
        "apostrophes": apostrophes(tidied),
        "normalised": {
            "lines": changed,
            "examples": [
                {"before": named(each.before), "after": named(each.after), "count": each.number}
                for each in changes
            ],
        },
        "cleaning": {name: counts[name] for name in OUTCOMES},
        "settings": settings.model_dump(),
        "duplicates": {
            "equal": counts["duplicate"],
            "spelled_otherwise": _spelled_otherwise(results),
            "near": len(near),
        },
        "mixed_script": len(mixed),
        "markup": {"lines": len(marked), "tags": sum(marked.values())},
        "garbled": len(garbled),
        "languages": {
            "judged": languages.judged,
            "others": dict(Counter(other.language for other in languages.others).most_common()),
            "relatives": languages.relatives,
            "called": languages.called,
            "own": languages.own,
        },
        "published": [each._asdict() for each in PUBLISHED],
    }
    facts["verdict"] = _verdict(facts)
    facts["warnings"] = list(_warnings(facts))
    found_look = Look(facts, lines, tidied, listed)
    if out is not None:
        found_look.write(out)
    return found_look


def file_of(name: str) -> str:
    """The name of the file of a list: `kept-` marks those whose lines cleaning leaves in."""
    return f"{name}.txt" if name in REASONS else f"kept-{name}.txt"


def _words(lines: Iterable[str], is_spaced: bool) -> int:
    """Words between white space; in a script without spaces, letters by LETTERS_OF_A_WORD."""
    if is_spaced:
        return sum(len(line.split()) for line in lines)
    return sum(sum(map(str.isalpha, line)) for line in lines) // LETTERS_OF_A_WORD


def _spelled_otherwise(results: Sequence[Any]) -> int:
    """Lines that count as duplicates although an apostrophe or a mark differs: the words of
    cleaning have neither (ʼ is a letter there). They may be other words in this language."""
    first: dict[str, set[str]] = {}
    again = 0
    wanted = {"".join(each.words) for each in results if each.outcome == "duplicate"}
    for each in results:
        if each.outcome in ("kept", "duplicate") and (key := "".join(each.words)) in wanted:
            known = first.setdefault(key, set())
            spelling = spelled(each.text)
            again += each.outcome == "duplicate" and spelling not in known
            known.add(spelling)
    return again


def _tokens(lines: Sequence[str], characters: Counter[str], base: Path) -> dict[str, Any]:
    """How the base's tokenizer cuts the lines, beside English; `pieces` of all lines, estimated if
    only a sample is cut; and the characters that it does not know, with their counts."""
    tokenizer = read_tokenizer(base)
    total = sum(map(len, lines))
    step = -(-total // SAMPLE)
    sample = lines[::step]
    mine = count([{"text": line} for line in sample], tokenizer)
    whole = total / sum(map(len, sample))
    english = count([{"text": line} for line in ENGLISH], tokenizer)
    unknown = {}
    if mine["unknown"]:
        common = [c for c, _ in characters.most_common(3000) if not c.isspace()]
        ids = tokenizer(common, add_special_tokens=False, verbose=False)["input_ids"]
        unknown = {
            c: characters[c]
            for c, pieces in zip(common, ids, strict=True)
            if tokenizer.unk_token_id in pieces
        }
    ratios = ("pieces_per_word", "unknown_share", "characters_per_piece")
    return {
        "pieces": round(mine["pieces"] * whole),
        "estimated": step > 1,
        **{name: mine[name] for name in ratios},
        "english": {name: english[name] for name in ratios},
        "unknown_characters": {named(c): number for c, number in list(unknown.items())[:10]},
    }


def _verdict(facts: dict[str, Any]) -> dict[str, str]:
    """How much text it is, and why, beside PUBLISHED."""
    words = facts["usable_words"]
    smaller = [each for each in PUBLISHED if each.words <= words]
    amount = f"{words:,} words that can be used"
    if words < TOO_LITTLE:
        word = "too little"
        reason = (
            f"{amount}. The smallest text with published results has {PUBLISHED[0].words:,} "
            f"({PUBLISHED[0].language}). Training will run, but there is no evidence that it helps."
        )
    elif words < LITTLE:
        word = "little"
        reason = (
            f"{amount}. {_of_published(len(smaller))} less. Expect a gain, but a smaller one than "
            f"from {LITTLE:,} words."
        )
    else:
        word = "enough"
        reason = f"{amount}. {_of_published(len(smaller))} less. More text still helps."
    if _doubt(facts):
        reason = f"If it is the right text: {reason}"
    return {"word": word, "reason": reason}


def _of_published(number: int) -> str:
    """How many of PUBLISHED: beginning of a sentence."""
    have = "has" if number == 1 else "have"
    return f"{number} of {len(PUBLISHED)} languages with published results {have}"


def _warnings(facts: dict[str, Any]) -> Iterable[str]:
    """Sentences about what a person should look at, the worst first."""
    name, file, found = facts["name"], facts["file"], facts["languages"]
    lines, listed = facts["kept"]["lines"], file_of("other-language")
    others = sum(found["others"].values())
    if doubt := _doubt(facts):
        yield doubt
    elif others > found["judged"] / 50 and not found["relatives"]:
        yield (
            f"{_number(others, 'line')} of {found['judged']:,} look like another language. They "
            f"stay in; read {listed} and take out what does not belong."
        )
    if found["relatives"]:
        related = " and ".join(found["relatives"])
        yield (
            f"The program that names languages calls many lines {related}: {name} is related to "
            f"it, or it is mixed in. {_number(others, 'line')} also have its commonest words: see "
            f"{listed}. That finds about seven in ten such lines, and names some wrongly."
        )
    elif found["own"] is None and (called := found["called"]):
        most, number = next(iter(called.items()))
        if number > found["judged"] / 2 and most not in found["others"]:
            yield (
                f"The program that names languages does not know {name} and calls most lines "
                f"{most}, perhaps a relative. If they are {most}, this is the wrong file."
            )
    if lines < 1000:
        yield f"Only {_number(lines, 'line')} can be used: a few hundred lines teach little."
    if file["long_lines"]:
        done = (
            f"split at the ends of sentences, or at spaces, into {_number(file['pieces'], 'line')} "
            "(the file itself is not changed)"
            if file["pieces"]
            else "let it be split at the ends of sentences"
        )
        yield (
            f"{_number(file['long_lines'], 'line')} of more than {LONG:,} characters, the longest "
            f"of {file['longest_line']:,}: {done}."
        )
    yield from _about_letters(facts)
    if facts["markup"]["lines"] > lines / 100:
        yield (
            f"{_number(facts['markup']['lines'], 'line')} with HTML ({facts['markup']['tags']:,} "
            "tags or names of characters). They stay in, and the model learns them as words: take "
            "them out."
        )
    if file["format"] == "txt" and facts["lines_with_tab"] > lines * 0.9:
        yield (
            "Nearly every line has a tab: this looks like a table. If so, name the file .tsv, and "
            "give the column of the text with --column."
        )
    if file["rows_without_text"]:
        what = ", ".join(f"{n:,} with {kind}" for kind, n in file["rows_without_text"].items())
        yield f"Rows without text are left out: {what}."


def _doubt(facts: dict[str, Any]) -> str | None:
    """Why it is probably not a text in the language that was named."""
    found = facts["languages"]
    others = sum(found["others"].values())
    if others > found["judged"] / 2:
        most = next(iter(found["others"]))
        return (
            f"Most lines look like {most}: {others:,} of {found['judged']:,}. Is this the right "
            f"file, and is {facts['language']} the code of its language?"
        )
    if found["judged"] and found["own"] is not None and found["own"] < found["judged"] / 2:
        called = next(iter(found["called"]), "no language that is known")
        return (
            f"Only {found['own']:,} of {found['judged']:,} lines look like {facts['name']}; most "
            f"look like {called}. Is this the right file, and is {facts['language']} the right "
            "code?"
        )
    return None


def _number(number: int, what: str) -> str:
    """A number of things, in the plural but for 1."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def _about_letters(facts: dict[str, Any]) -> Iterable[str]:
    """Warnings about scripts, spelling, damage and the base's pieces."""
    shares = facts["scripts"]
    _, _, wanted = facts["language"].partition("_")
    main = next(iter(shares), None)
    if wanted and wanted not in ("Jpan", "Kore", "Hans", "Hant") and main and main != wanted:
        yield (
            f"{facts['language']} should be in the script {script_name(wanted)}, but "
            f"{shares[main]:.0%} of the letters are {script_name(main)}."
        )
    seldom = 1 - shares[main] if main else 0
    if seldom > 0.05:
        parts = ", ".join(
            f"{script_name(each)} {share:.0%}" for each, share in shares.items() if share >= 0.005
        )
        yield f"The text is in more than one script: {parts}. Is that one language, written so?"
    few = SELDOM * facts["kept"]["lines"]
    if facts["mixed_script"] > few:
        yield (
            f"{_number(facts['mixed_script'], 'line')} with a word of letters of two scripts, "
            f"often letters that only look alike: see {file_of('mixed-script')}."
        )
    if facts["garbled"] > few:
        yield (
            f"{_number(facts['garbled'], 'line')} with letters that another program read in the "
            f"wrong encoding, such as Ã© for é: see {file_of('garbled')}. Export the text again "
            "as UTF-8."
        )
    every = sum(facts["apostrophes"].values())
    marks = {mark: n for mark, n in facts["apostrophes"].items() if n > max(4, every / 100)}
    if len(marks) > 1:
        parts = ", ".join(f"{named(mark)} {_number(n, 'time')}" for mark, n in marks.items())
        yield (
            f"Inside words the apostrophe is written in {len(marks)} ways: {parts}. To the model "
            "they are different letters. Nothing is changed; you may decide on one."
        )
    if spelled_otherwise := facts["duplicates"]["spelled_otherwise"]:
        yield (
            f"{_number(spelled_otherwise, 'line')} that cleaning takes for repeated, but with "
            f"another apostrophe or mark on a letter: see {file_of('duplicate')}. If that makes "
            "other words, set `cleaning: {duplicates: false}` in config.yaml."
        )
    if tokens := facts["tokens"]:
        english = tokens["english"]
        if (tokens["unknown_share"] or 0) > (english["unknown_share"] or 0) + UNKNOWN:
            worst = ", ".join(list(tokens["unknown_characters"])[:3])
            yield (
                f"The base cannot read {tokens['unknown_share']:.1%} of the pieces"
                + (f", for example {worst}" if worst else "")
                + ". Take a base that knows this script."
            )
        if (tokens["pieces_per_word"] or 0) > FAR * (english["pieces_per_word"] or 1):
            yield (
                f"The base cuts a word into {tokens['pieces_per_word']:.1f} pieces, one in English "
                f"into {english['pieces_per_word']:.1f}: it knows few words of this language. "
                "Training helps, but takes more text."
            )


Section = tuple[str, list[str], list[list[str]]]


def sections(found: Look) -> list[Section]:
    """The tables of the page: title, head, rows of text."""
    facts = found.facts
    return [
        ("The text", ["", "", ""], _nutrition(facts)),
        ("What cleaning would do", ["lines", "", "list"], _cleaning(facts, found.listed)),
        (
            "Beside texts with published results",
            ["language", "words", "lines", "accuracy in %; chance 33"],
            _beside(facts),
        ),
    ]


def _nutrition(facts: dict[str, Any]) -> list[list[str]]:
    kept, languages = facts["kept"], facts["languages"]
    rows = [
        ["lines", f"{facts['lines']:,}", f"{kept['lines']:,} after cleaning"],
        ["words", f"{facts['words']:,}", f"a line has {kept['median_words']:g} (median)"],
        [
            "characters",
            f"{facts['characters']:,}",
            f"longest line {facts['file']['longest_line']:,}",
        ],
    ]
    if tokens := facts["tokens"]:
        english = tokens["english"]
        rows += [
            [
                "pieces of the base",
                f"{'about ' * tokens['estimated']}{tokens['pieces']:,}",
                f"{tokens['pieces_per_word']:.2f} a word; English {english['pieces_per_word']:.2f}",
            ],
            [
                "unknown to the base",
                f"{tokens['unknown_share']:.2%} of the pieces",
                f"English {english['unknown_share']:.2%}"
                + "".join(f"; {c}: {n:,}" for c, n in [*tokens["unknown_characters"].items()][:3]),
            ],
        ]
    shares = ", ".join(
        f"{script_name(script)} {share:.1%}"
        for script, share in facts["scripts"].items()
        if share >= SELDOM
    )
    others = ", ".join(f"{name} {number:,}" for name, number in languages["others"].items())
    known = (
        f"{languages['own']:,} lines look like {facts['name']}"
        if languages["own"] is not None
        else f"{facts['name']} is not known to the program that names languages"
    )
    marks = ", ".join(f"{mark} {number:,}" for mark, number in facts["apostrophes"].items())
    changed = "; ".join(
        f"{each['before']} → {each['after']}: {each['count']:,}"
        for each in facts["normalised"]["examples"][:3]
    )
    twice = facts["duplicates"]
    return [
        *rows,
        ["scripts", shares or "no letters", "of the letters, by their Unicode names"],
        ["repeated lines", f"{twice['equal']:,}", "the same words as an earlier line"],
        ["nearly repeated lines", f"{twice['near']:,}", "they stay in"],
        [
            "lines in another language",
            others or "none found",
            f"of {languages['judged']:,} that are long enough; {known}",
        ],
        [
            "lines with HTML",
            f"{facts['markup']['lines']:,}",
            _number(facts["markup"]["tags"], "tag"),
        ],
        ["apostrophes inside words", marks or "none", "each stays as it is"],
        [
            "lines with normalised letters",
            f"{facts['normalised']['lines']:,}",
            changed or "no letter is changed",
        ],
    ]


def _cleaning(facts: dict[str, Any], listed: dict[str, list[str]]) -> list[list[str]]:
    rows = [
        [f"{len(listed[name]):,}", f"left out: {why}", file_of(name)]
        for name, why in REASONS.items()
        if name in listed
    ]
    rows += [
        [f"{len(listed[name]):,}", f"stays in: {why}", file_of(name)]
        for name, why in STAYING.items()
        if name in listed
    ]
    return [[f"{facts['kept']['lines']:,}", "kept", ""], *rows]


def _beside(facts: dict[str, Any]) -> list[list[str]]:
    mine = Published(facts["name"], facts["kept"]["lines"], facts["usable_words"], -1)
    return [
        [
            f"{each.language} (this text)" if each is mine else each.language,
            f"{each.words:,}",
            f"{each.lines:,}",
            "" if each is mine else f"{each.accuracy:.1f}",
        ]
        for each in sorted([mine, *PUBLISHED], key=lambda each: each.words)
    ]
