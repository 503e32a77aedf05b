"""Knowledge graphs: storage, one-hop retrieval, and its results as text.

:class:`GraphStore` holds a graph and answers queries, :func:`build_graph` makes a store from files, and :func:`render`
turns an observation into what a model reads. Everything that can answer queries satisfies :class:`KnowledgeGraph`.
"""

from kgr1.graph.api import GraphInfo, KnowledgeGraph
from kgr1.graph.build import BuildReport, build_graph
from kgr1.graph.render import Rendered, neutralise, render
from kgr1.graph.store import GraphStore

__all__ = [
    "BuildReport",
    "GraphInfo",
    "GraphStore",
    "KnowledgeGraph",
    "Rendered",
    "build_graph",
    "neutralise",
    "render",
]
