"""How classification is measured and shown."""

from deftx.report.metrics import ACCURACY, MACRO_F1, Measures

MEASURES = Measures(
    items="items",
    unit="items",
    metrics={"accuracy": ACCURACY, "macro_f1": MACRO_F1},
)
