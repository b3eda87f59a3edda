"""Every kind of task by name: what `deftx predict` reads and writes for it."""

from deftx.tasks.classification.prediction import prediction as of_texts
from deftx.tasks.tagging.prediction import prediction as of_words

PREDICTIONS = {"classification": of_texts, "tagging": of_words}
"""Kind → by the options of `deftx predict`, the items that are to be predicted, and what makes the
text to write of the classes and the probabilities, (items, classes) or (words, classes)."""
