"""The demonstration graph that comes with the package: countries of the world, and questions about them.

``countries.tsv`` (``head TAB relation TAB tail``, about 2,100 facts on 195 countries) is made by
``tools/build_countries.py``; see ``NOTICE`` for its source and licence.
"""

from __future__ import annotations

from pathlib import Path

from kgr1.datasets.embedded.questions import embedded_questions
from kgr1.datasets.embedded.wording import EMBEDDED_PHRASES

__all__ = ["EMBEDDED_PHRASES", "embedded_graph_path", "embedded_questions"]


def embedded_graph_path() -> Path:
    """The triple file of the demonstration graph, ready for the graph builder."""
    return Path(__file__).with_name("countries.tsv")
