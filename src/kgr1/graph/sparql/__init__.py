"""SPARQL endpoints as knowledge graphs: :class:`SparqlGraph` and what configures it."""

from kgr1.graph.sparql.graph import SparqlGraph
from kgr1.graph.sparql.naming import to_ntriples
from kgr1.graph.sparql.options import SparqlOptions, read_options

__all__ = ["SparqlGraph", "SparqlOptions", "read_options", "to_ntriples"]
