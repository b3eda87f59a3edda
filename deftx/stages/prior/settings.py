"""What the predictions of a classifier are on average, by assumption. Free of torch."""

from typing import Literal

Target = Literal["uniform", "source"]
"""`uniform`: every class equally often. `source`: as often as the same system predicts it in the
source language, on items of the same dataset and split."""
