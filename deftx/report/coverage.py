"""How well a tokenizer covers a text: words, the pieces that they become, and unknown ones."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from deftx.store.items import Item, texts_of

if TYPE_CHECKING:  # importing it takes longer than making a page
    from transformers import PreTrainedTokenizerBase

AT_ONCE = 10_000
"""Texts that are tokenised at a time."""

FAR = 2.0
"""A language with more than this many times the source's fertility gets a warning. Design choice:
XLM-R base cuts languages that it was pretrained on into 1.2 to 2 pieces per word."""

UNKNOWN = 0.01
"""A language whose unknown share exceeds the source's by more gets a warning. Design choice: the
model then cannot read every hundredth piece."""


def count(items: Sequence[Item], tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """Count the texts of items, `text` and perhaps `text_pair`, or their `words`.

    Words of a text are what `str.split` separates. A language written without spaces thus has long
    words, and its fertility is not informative.

    Returns:
        items (a pair counts once); words; pieces of the tokenizer, without special ones; how many
        are the unknown piece; pieces_per_word (fertility); unknown_share, the part of the pieces
        that is unknown; characters_per_piece, without white space; of given words also
        words_without_piece, those that have no piece by themselves. A ratio to 0 is None.
    """
    given = "words" in items[0]
    texts = [text for item in items for text in texts_of(item)]
    words = [word for text in texts for word in text.split()]
    if given:
        words = [word for item in items for word in item["words"]]
    pieces = unknown = 0
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        encoded = tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
        pieces += sum(map(len, encoded))
        unknown += sum(ids.count(tokenizer.unk_token_id) for ids in encoded)
    found = {
        "items": len(items),
        "words": len(words),
        "pieces": pieces,
        "unknown": unknown,
        "pieces_per_word": pieces / len(words) if words else None,
        "unknown_share": unknown / pieces if pieces else None,
        "characters_per_piece": sum(map(len, words)) / pieces if pieces else None,
    }
    if given:
        alone = tokenizer([*{*words}], add_special_tokens=False, verbose=False)["input_ids"]
        unread = {word for word, ids in zip({*words}, alone, strict=True) if not ids}
        found["words_without_piece"] = sum(word in unread for word in words)
    return found


def warnings(frame: pd.DataFrame, sources: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """A sentence for each language that is covered much worse than the source languages: all its
    texts together have FAR times as many pieces per word, or an unknown share larger by UNKNOWN.

    `frame` has the columns language, words, pieces and unknown, and perhaps several rows for a
    language.
    """
    whole = frame.groupby("language")[["words", "pieces", "unknown"]].sum()
    best = whole[whole.index.isin(sources)].sum()
    if not best["words"] or not best["pieces"]:
        return []
    usual, known = best["pieces"] / best["words"], best["unknown"] / best["pieces"]
    found = []
    for language, mine in whole[~whole.index.isin(sources)].iterrows():
        name = names.get(str(language)) or language
        if mine["pieces"] and (share := mine["unknown"] / mine["pieces"]) > known + UNKNOWN:
            found.append(
                f"{name}: {share:.1%} of the pieces are unknown to the tokenizer (source: "
                f"{known:.1%}). Is its script in the base's vocabulary?"
            )
        if mine["words"] and (fertility := mine["pieces"] / mine["words"]) > FAR * usual:
            found.append(
                f"{name}: {fertility:.1f} pieces per word (source: {usual:.1f}). Texts are cut off "
                "earlier at max_length, and each piece means less."
            )
    return found
