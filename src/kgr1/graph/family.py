"""Several graphs behind one: the way to train and evaluate on many graphs at once.

``graph_id`` names a member, and with a slash a question graph inside it: ``films`` or ``films/WebQTest-7``. Every query
must say which member it means; facts of different members never meet in one answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kgr1.errors import GraphError
from kgr1.graph.api import GraphInfo, KnowledgeGraph
from kgr1.types import ErrorCode, Observation, Query

SEPARATOR = "/"
_NAMED = 5


class GraphFamily:
    """A :class:`kgr1.graph.api.KnowledgeGraph` that hands each query to the member that its ``graph_id`` names.

    The members stay open when the family is closed: whoever opened them closes them. Raises :class:`GraphError` for an
    empty family or a member's name that is empty or holds a slash.
    """

    def __init__(self, members: Mapping[str, KnowledgeGraph]) -> None:
        if not members:
            raise GraphError("A family of graphs needs at least one member.")
        for name in members:
            if not name or SEPARATOR in name:
                raise GraphError(f"A graph of a family cannot be named {name!r}; leave out '{SEPARATOR}'.", name=name)
        self.members = dict(members)
        self.remote = any(getattr(member, "remote", False) for member in self.members.values())

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        """Answer every query; one call to each member that is asked. The members' errors pass through."""
        answers: list[Observation | None] = [None] * len(queries)
        asked: dict[str, list[tuple[int, Query]]] = {}
        for place, query in enumerate(queries):
            name, inner = split_id(query.graph_id or "")
            if name in self.members:
                asked.setdefault(name, []).append((place, query.model_copy(update={"graph_id": inner})))
            else:
                answers[place] = self._unknown(query)
        for name, rows in asked.items():
            found = self.members[name].execute([query for _, query in rows])
            for (place, _), observation in zip(rows, found, strict=True):
                again = observation.query.model_copy(update={"graph_id": queries[place].graph_id})
                answers[place] = observation.model_copy(update={"query": again})
        return [answer for answer in answers if answer is not None]

    def _unknown(self, query: Query) -> Observation:
        names = sorted(self.members)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        message = f"There is no such graph; there are {', '.join(names[:_NAMED])}{more}."
        return Observation(query=query, error=ErrorCode.SAMPLE_NOT_FOUND, message=message)

    def info(self) -> GraphInfo:
        """Sums over the members."""
        parts = [member.info() for member in self.members.values()]
        counts = ("triples", "entities", "relations", "dated", "question_graphs", "ambiguous_names", "bytes")
        return GraphInfo(
            name="+".join(sorted(self.members)), **{key: sum(getattr(part, key) for part in parts) for key in counts}
        )

    def close(self) -> None:
        """Nothing to release; the members belong to whoever opened them."""


def split_id(graph_id: str) -> tuple[str, str | None]:
    """Member and question graph of a family's graph id.

    >>> split_id("films"), split_id("films/WebQTest-7")
    (('films', None), ('films', 'WebQTest-7'))
    """
    name, slash, inner = graph_id.partition(SEPARATOR)
    return name, inner if slash else None


def join_id(name: str, inner: str | None) -> str:
    """The inverse of :func:`split_id`."""
    return name if inner is None else f"{name}{SEPARATOR}{inner}"
