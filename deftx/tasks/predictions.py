"""Every kind of task by name: what `deftx predict` reads and writes for it."""

from deftx.tasks.classification.prediction import prediction as of_texts

PREDICTIONS = {"classification": of_texts}
"""Kind → by the options of `deftx predict`, the items that are to be predicted, and what makes the
text to write of the classes and the probabilities."""
