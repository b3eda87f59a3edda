"""How often `deftx adapt --look` names a line as another language wrongly, and how often rightly.

Each file has a line per sentence, plain or as .xz. A genuine text is one in its language only; a
tenth as many lines of each mixed-in text are added to it, and both error rates are printed.

    python -m benchmarks.other_languages --genuine ace=ace.txt bjn=bjn.txt --mixed ind=ind.txt
"""

import argparse
import lzma
import random
from pathlib import Path

from deftx.adapt.identify import (
    ENOUGH,
    SURE,
    identifier_of_languages,
    known_languages,
    languages_of,
)

MOST = 2000
"""Lines of a file that are used, drawn at random."""


def lines_of(path: Path) -> list[str]:
    """Lines that are long enough to be judged."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        found = [line.strip() for line in file if len(line.strip()) >= ENOUGH]
    return random.Random(0).sample(found, min(MOST, len(found)))


def by_probability(lines: list[str], language: str) -> float:
    """The share of lines that would be named by the identifier's probability alone."""
    big, labels, _ = known_languages()
    own = labels.get(language)
    groups = [each.labels for each in big if own not in each.labels]
    named = 0
    for line in lines:
        ranked = dict(identifier_of_languages().rank(line))
        named += any(sum(ranked[label] for label in group) >= SURE for group in groups)
    return named / len(lines)


def pairs(given: list[str]) -> dict[str, list[str]]:
    """Language → its lines, from `language=file`."""
    return {each.partition("=")[0]: lines_of(Path(each.partition("=")[2])) for each in given}


def main() -> None:
    """Print a row for each genuine text alone, and with each mixed-in text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genuine", nargs="+", required=True, metavar="LANGUAGE=FILE")
    parser.add_argument("--mixed", nargs="*", default=[], metavar="LANGUAGE=FILE")
    options = parser.parse_args()
    mixed = pairs(options.mixed)
    print("text        lines   by p alone   genuine named wrongly   mixed in, found")
    for language, lines in pairs(options.genuine).items():
        alone = by_probability(lines, language)
        wrong = len(languages_of(lines, language).others) / len(lines)
        print(f"{language:10} {len(lines):6} {alone:12.1%} {wrong:23.1%}", flush=True)
        for other, its in mixed.items():
            added = its[: max(1, len(lines) // 10)]
            named = {each.line for each in languages_of([*lines, *added], language).others}
            found = sum(number >= len(lines) for number in named) / len(added)
            wrong = sum(number < len(lines) for number in named) / len(lines)
            print(f" + {other:7} {len(added):6} {'':12} {wrong:23.1%} {found:17.1%}", flush=True)


if __name__ == "__main__":
    main()
