"""How each kind of task is measured and shown."""

from deftx.report.metrics import Measures
from deftx.tasks.classification import measures as classification
from deftx.tasks.tagging import measures as tagging

MEASURES: dict[str, Measures] = {
    "classification": classification.MEASURES,
    "tagging": tagging.MEASURES,
}
"""Kind of task → its measures."""
