"""Captions of the figures. Free of torch and of matplotlib."""

CAPTIONS: dict[str, str] = {
    "transfer": "Score of each system in each language and in the mean, with 95 % intervals. Small "
    "dots are single seeds, a dashed line is chance.",
    "differences": "Difference between each system and the reference on the same items, with "
    "paired 95 % intervals. Hollow marks are not significant.",
    "prior": "Score of each system without (hollow) and with (filled) a bias on the classes that "
    "gives its predictions on unlabelled items of the language a chosen mean, with 95 % intervals.",
    "sweep": "Mean score over languages against the value of one setting, with 95 % intervals. The "
    "band is the reference.",
    "distance": "Score, and gain over the system without language vectors, against a language's "
    "distance from the source and against its number of tokens per word.",
    "cost": "Mean score over languages against the cost of a system. Systems at the top left are "
    "better.",
    "overlap": "Entries that two vectors share, as a percentage of the smaller vector: each "
    "language with the task, and languages with each other.",
    "layers": "Distribution of a vector's entries over layers, inside and outside attention.",
    "mask": "Percentage of each module's entries, layer by layer, that the method selected for "
    "training.",
    "spectrum": "Singular values of each matrix of the fine-tuning difference, relative to the "
    "largest one. Denoising removes the faint part beyond the mark.",
}
"""Name of a figure → its caption."""

NOTICE = "notice"
"""The id of the text in the SVG of a figure that has nothing to show."""
