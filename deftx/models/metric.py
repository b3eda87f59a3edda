"""Accuracy and macro-F1: the metrics by which training chooses its best checkpoint.

They stand apart from `deftx.report.metrics`: an edit of what is only reported leaves training
alone.
"""

import numpy as np
from sklearn.metrics import accuracy_score, f1_score


def accuracy_and_f1(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and macro-F1 in [0, 1] of logits (n, classes) against labels (n,).

    A class that is neither present nor predicted counts with F1 = 0.
    """
    predictions = logits.argmax(axis=1)
    classes = list(range(logits.shape[1]))
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "macro_f1": float(
            f1_score(labels, predictions, labels=classes, average="macro", zero_division=0)
        ),
    }
