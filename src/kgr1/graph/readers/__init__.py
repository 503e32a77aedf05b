"""Readers: from files in any of the known formats to batches of facts and labels.

:func:`read_batches` is the one entry, :class:`SourceFiles` what it gives. A format family has a file of its own:
:mod:`.tables` (TSV, CSV),
:mod:`.json_lines` (facts, question graphs), :mod:`.numbered` (question graphs of numbers), :mod:`.parquet`, and
:mod:`.rdf` with :mod:`.terms`, :mod:`.profiles` and :mod:`.labels`.
"""

from kgr1.graph.readers.options import Format, ReadOptions
from kgr1.graph.readers.read import SourceFiles, read_batches, read_names

__all__ = ["Format", "ReadOptions", "SourceFiles", "read_batches", "read_names"]
