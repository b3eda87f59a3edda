"""The characters of a text: scripts, apostrophes, what NFC changes, and signs of damage."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

SCRIPTS = {
    "LATIN": "Latn", "ARABIC": "Arab", "CYRILLIC": "Cyrl", "GREEK": "Grek", "HEBREW": "Hebr",
    "ARMENIAN": "Armn", "GEORGIAN": "Geor", "ETHIOPIC": "Ethi", "DEVANAGARI": "Deva",
    "BENGALI": "Beng", "GURMUKHI": "Guru", "GUJARATI": "Gujr", "ORIYA": "Orya", "TAMIL": "Taml",
    "TELUGU": "Telu", "KANNADA": "Knda", "MALAYALAM": "Mlym", "SINHALA": "Sinh", "THAI": "Thai",
    "LAO": "Laoo", "KHMER": "Khmr", "MYANMAR": "Mymr", "TIBETAN": "Tibt", "MONGOLIAN": "Mong",
    "HANGUL": "Hang", "CJK": "Hani", "HIRAGANA": "Hani", "KATAKANA": "Hani", "BOPOMOFO": "Hani",
    "YI": "Yiii", "JAVANESE": "Java", "BALINESE": "Bali", "SUNDANESE": "Sund", "BUGINESE": "Bugi",
    "BATAK": "Batk", "REJANG": "Rjng", "CHAM": "Cham", "TAGALOG": "Tglg", "NKO": "Nkoo",
    "VAI": "Vaii", "TIFINAGH": "Tfng", "ADLAM": "Adlm", "BAMUM": "Bamu", "CHEROKEE": "Cher",
    "CANADIAN": "Cans", "SYRIAC": "Syrc", "THAANA": "Thaa", "COPTIC": "Copt", "OL": "Olck",
    "MEETEI": "Mtei", "LEPCHA": "Lepc", "LIMBU": "Limb", "OSAGE": "Osge", "CHAKMA": "Cakm",
}  # fmt: skip
"""First word of a letter's Unicode name → code of its script (ISO 15924). Chinese and Japanese
letters are one script here, since Japanese mixes them in a word."""

WITHOUT_SPACES = {"Hani", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"}
"""Scripts that put no space between words."""

APOSTROPHES = "'ʼ’‘ʻʽʹ`´ꞌ"
"""Characters that texts write for one sound, often the glottal stop, besides as quotes."""

INSIDE_A_WORD = re.compile(rf"(?<=[^\W\d_])[{APOSTROPHES}](?=[^\W\d_])")

GARBLED = re.compile("Ã[\x80-\xbf]|â€[\u0080-\u2122]|Â[\xa0-\xbf]|ï¿½|\ufffd")
"""What is left of letters that a program read in the wrong encoding."""


class Change(NamedTuple):
    """Letters that NFC writes otherwise, and how often."""

    before: str
    after: str
    number: int


def script_of(letter: str) -> str | None:
    """The code of a letter's script by the first word of its Unicode name; "Zyyy" (common) if the
    name begins otherwise; None if the character is no letter."""
    if not unicodedata.category(letter).startswith("L"):
        return None
    return SCRIPTS.get(unicodedata.name(letter, "").partition(" ")[0], "Zyyy")


def script_name(code: str) -> str:
    """The name of a script by its code, for people."""
    names = {of: word.capitalize() for word, of in reversed(SCRIPTS.items())}
    return {**names, "Hani": "Chinese or Japanese"}.get(code, code)


def script_shares(characters: Mapping[str, int]) -> dict[str, float]:
    """Code of a script → its share of the letters, largest first. Input: character → count."""
    count: Counter[str] = Counter()
    for character, number in characters.items():
        if (script := script_of(character)) and script != "Zyyy":
            count[script] += number
    return {script: number / count.total() for script, number in count.most_common()}


def mixed_words(lines: Sequence[str], characters: Mapping[str, int]) -> dict[int, str]:
    """Lines with a word of letters of two scripts, such as a Cyrillic а in a Latin word → the first
    such word. `characters` are those of the lines."""
    scripts = {c: s for c in characters if (s := script_of(c)) and s != "Zyyy"}
    shares = script_shares(characters)
    rare = "".join(c for c, script in scripts.items() if script != next(iter(shares)))
    if not rare:
        return {}
    seldom = re.compile(f"[{re.escape(rare)}]")
    found = {}
    for number, line in enumerate(lines):
        if seldom.search(line):
            for word in re.findall(r"[^\W\d_]+", line):
                if len({scripts[c] for c in word if c in scripts}) > 1:
                    found[number] = word
                    break
    return found


def nfc_changes(lines: Iterable[str]) -> tuple[int, list[Change]]:
    """How many lines NFC changes, and the commonest changes."""
    count: Counter[tuple[str, str]] = Counter()
    changed = 0
    for line in lines:
        if unicodedata.is_normalized("NFC", line):
            continue
        changed += 1
        for letter in _with_marks(line):
            if (after := unicodedata.normalize("NFC", letter)) != letter:
                count[letter, after] += 1
    return changed, [Change(*pair, number) for pair, number in count.most_common(5)]


def _with_marks(line: str) -> Iterable[str]:
    """Characters with the marks that follow each, and Hangul parts together."""
    starts = 0
    numbered = []
    for character in line:
        is_part = unicodedata.combining(character) or "\u1160" <= character <= "\u11ff"
        starts += not is_part
        numbered.append((starts, character))
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        yield "".join(character for _, character in group)


def apostrophes(lines: Iterable[str]) -> dict[str, int]:
    """The characters for an apostrophe between two letters → how often they are there."""
    found = Counter(mark for line in lines for mark in INSIDE_A_WORD.findall(line))
    return dict(found.most_common())


def spelled(text: str) -> str:
    """A key of a line that keeps all that may be spelling: letters, marks and digits in lower case,
    and apostrophes, which are all one."""
    kept = (
        "'" if c in APOSTROPHES else c
        for c in unicodedata.normalize("NFC", text).lower()
        if c in APOSTROPHES or unicodedata.category(c)[0] in "LMN"
    )
    return "".join(kept)


def named(text: str) -> str:
    """Characters by code and name: `U+02BC MODIFIER LETTER APOSTROPHE`."""
    names = (f"U+{ord(c):04X} {unicodedata.name(c, 'without a name')}" for c in text)
    return " + ".join(names)
