"""Names on their way to `comparison`, `evaluations` and `scores`."""

from deftx.report.comparison import MEAN as MEAN
from deftx.report.comparison import METRIC_NAMES as METRIC_NAMES
from deftx.report.comparison import Comparison as Comparison
from deftx.report.comparison import TaskTable as TaskTable
from deftx.report.evaluations import Evaluation as Evaluation
from deftx.report.evaluations import Trained as Trained
from deftx.report.evaluations import load_evaluations as load_evaluations
from deftx.report.scores import Difference as Difference
from deftx.report.scores import Score as Score
from deftx.report.scores import Transfer as Transfer
from deftx.report.scores import differences as differences
from deftx.report.scores import draw as draw
from deftx.report.scores import scores as scores
from deftx.report.scores import transfer as transfer
