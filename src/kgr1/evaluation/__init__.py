"""Evaluation: the headline metrics, resumable runs, tables and curves (SPEC section 8)."""

from kgr1.evaluation.bootstrap import Metric
from kgr1.evaluation.compare import Comparison, compare
from kgr1.evaluation.curve import plot_curves
from kgr1.evaluation.files import read_episodes
from kgr1.evaluation.metrics import METRIC_VERSION, Slice, Summary, pass_at_k, summarise
from kgr1.evaluation.report import comparison_table, summary_table
from kgr1.evaluation.run import EpisodeRunner, Progress, evaluate

__all__ = [
    "METRIC_VERSION",
    "Comparison",
    "EpisodeRunner",
    "Metric",
    "Progress",
    "Slice",
    "Summary",
    "compare",
    "comparison_table",
    "evaluate",
    "pass_at_k",
    "plot_curves",
    "read_episodes",
    "summarise",
    "summary_table",
]
