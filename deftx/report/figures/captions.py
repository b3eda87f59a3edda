"""What each figure shows, in a sentence. Free of torch and of matplotlib."""

CAPTIONS: dict[str, str] = {
    "transfer": "Score of each system in each language and in the mean, with 95 % intervals; small "
    "dots are single seeds, the dashed line is chance.",
    "differences": "Difference of each system to the reference on the same items, with paired 95 % "
    "intervals; what is hollow is inside the noise.",
    "sweep": "Mean score over languages against the value of one setting, with 95 % intervals; the "
    "band is the reference.",
    "distance": "Score, and gain over the system without language vectors, against a language's "
    "distance from the source and against the pieces that the tokeniser cuts its words into.",
    "cost": "Mean score over languages against what a system costs; up and to the left is better.",
    "overlap": "Share of the entries that two vectors both choose, of the smaller one's: each "
    "language with the task, and languages with each other.",
    "layers": "In which layers the entries that a vector chooses lie, inside of attention and "
    "outside of it.",
    "mask": "Where each mask lands: the share of a module's entries, layer by layer, that the "
    "method chose to train.",
    "spectrum": "Singular values of each matrix of the difference that fine-tuning made, relative "
    "to the largest; the faint part beyond the mark is what denoising cuts off.",
}
"""Name of a figure → its caption."""

NOTICE = "notice"
"""The id by which the SVG of a figure tells that it shows words only."""
