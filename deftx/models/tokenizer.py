"""The tokenizer of a base, and a canary: what it makes of a fixed text, so that another version of
a library, or another file, that splits text differently is noticed."""

import hashlib
from itertools import pairwise, zip_longest
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from deftx.store.artefact import canonical
from deftx.store.errors import ArtefactError

CANARY = (
    "The quick brown Fox JUMPS over 13 lazy dogs, doesn't it?",
    "Ünïcödé naïve café; ﬁ ﬂ ½ № ﬀ ａｂｃ Ａ１ ß ẞ ŉ İstanbul ığdır",
    "e\u0301 a\u0308 n\u0303 n\u0331\u0303 \u1e4d\u0301 o\u0323\u0302 Đặng ɓɗƙ ŋŊ ʼa ǃXóõ",
    "  two  spaces,\ta tab,\u00a0no break,\u2003em,\u3000wide,\u200bzero \u200dwidth ",
    "line\nfeed\r\nboth\n\n two",
    "Быстрая ЛИСА ёжик Ґанок · Γρήγορη ΑΛΕΠΟΎ ς · Հայերեն · ქართული",
    "مُحَمَّد ـكتابـ ٣٤ پچگ · שָׁלוֹם עברית · हिन्दी क्षेत्र · தமிழ் · বাংলা · ไทยไม่เว้นวรรค",
    "日本語のテキスト、「テスト」ｶﾀｶﾅ 中文標點。 한국어 띄어쓰기 각",
    "አማርኛ፡ ቋንቋ። ᎠᎹ ᐃᓄᒃᑎᑐᑦ ߒߞߏ ⴰⵎⴰⵣⵉⵖ ꦧꦱ ᮞᮥ ᨅᨔ 🙂👩‍👩‍👧 €100,000.50 a_b#c@d.e/f?g=1&h",
)
"""Texts in many scripts, cases, spacings and forms of the same letter."""

NEEDED = {
    "padding": ("pad_token",),
    "mask": ("mask_token",),
    "separator": ("sep_token", "eos_token"),
}
"""What training and prediction need → attributes of a tokenizer, one of which is to be given."""


def canary_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over the token ids of CANARY: each text, and each with the next one as a pair."""
    return hashlib.sha256(
        canonical([_ids(tokenizer, *texts) for texts in _inputs()]).encode()
    ).hexdigest()


def check_canary(tokenizer: PreTrainedTokenizerBase, folder: Path, canary: str | None) -> None:
    """Raise ArtefactError if the canary of the tokenizer of a folder is not the one that was
    recorded when the base was made."""
    if (found := canary_of(tokenizer)) != canary:
        check_as_file(tokenizer, folder)
        raise ArtefactError(
            f"{folder}: the tokenizer splits a fixed text otherwise (canary {found[:12]}) than "
            f"when the base was made ({str(canary)[:12]}): use the versions of transformers and "
            "tokenizers of that time, or make the base again"
        )


def check_as_file(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raise ArtefactError, naming the first piece that differs, if a tokenizer is not the one that
    the `tokenizer.json` of its folder describes: transformers builds some anew, from parts of it.
    """
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.no_truncation()
    own.no_padding()
    for texts in _inputs():
        ids = own.encode(*texts).ids  # type: ignore[arg-type] # one text or a pair
        pairs = zip_longest(_ids(tokenizer, *texts), ids)
        for place, (found, expected) in enumerate(pairs):
            if found != expected:
                mine, file = (i if i is None else own.id_to_token(i) for i in (found, expected))
                raise ArtefactError(
                    f"{folder}: the tokenizer that transformers makes is not that of "
                    f"tokenizer.json: piece {place} of {texts[0]!r} is {mine!r} ({found}), by the "
                    f'file {file!r} ({expected}). "tokenizer_class": "PreTrainedTokenizerFast" '
                    "in tokenizer_config.json takes the file as it is"
                )


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder by transformers, which converts a sentencepiece model if there is
    no `tokenizer.json`. Raises ArtefactError if it cannot be read."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        return tokenizer
    except Exception as error:  # a damaged file raises what its parser raises
        reason = " ".join(str(error).split())[:300]
        raise ArtefactError(
            f"{folder}: transformers cannot read the tokenizer: {type(error).__name__}: {reason}"
        ) from None


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, rows: int, padding: int | None) -> None:
    """Raise ArtefactError if a special token is missing, if there are more pieces than the word
    embeddings have rows, or if its padding token is not their padding row, where they have one."""
    for what, names in NEEDED.items():
        if all(getattr(tokenizer, name) is None for name in names):
            raise ArtefactError(f"tokenizer: no {what} token ({' or '.join(names)})")
    last = max(tokenizer.get_vocab().values())
    if last >= rows:
        raise ArtefactError(
            f"tokenizer: {last + 1} pieces, but the word embeddings have {rows} rows"
        )
    if padding not in (None, tokenizer.pad_token_id):
        raise ArtefactError(
            f"tokenizer: {tokenizer.pad_token!r}, its padding token, is piece "
            f"{tokenizer.pad_token_id}, but row {padding} of the word embeddings is for padding"
        )


def _inputs() -> list[tuple[str, ...]]:
    return [*((text,) for text in CANARY), *pairwise(CANARY)]


def _ids(tokenizer: PreTrainedTokenizerBase, *texts: str) -> list[int]:
    return list(tokenizer(*texts)["input_ids"])
