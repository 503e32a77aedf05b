"""A graph with other names: the same facts in another spelling.

A model that is trained on one spelling of names learns the spelling. :class:`RenamedGraph` shows any graph with names
in another style (``Barack Obama`` as ``barack_obama``), or with the names of its entities exchanged, so that nothing
that a model remembers about the world helps and only what it reads does.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from kgr1.graph.api import GraphInfo, KnowledgeGraph
from kgr1.types import Observation, Query

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


class Renaming:
    """A one-to-one map of names. Names that it does not know stay as they are.

    >>> spaced = Renaming.styled(["place_of_birth", "spouse"], lambda name: name.replace("_", " "))
    >>> spaced("place_of_birth"), spaced.back("place of birth"), spaced("spouse")
    ('place of birth', 'place_of_birth', 'spouse')
    """

    def __init__(self, forward: Mapping[str, str]) -> None:
        self._forward = dict(forward)
        self._back = {new: old for old, new in self._forward.items()}
        if len(self._back) != len(self._forward):
            raise ValueError("two names would become one")

    @classmethod
    def styled(cls, names: Iterable[str], style: Callable[[str], str]) -> Renaming:
        """Every name in a style. Names that would become another name, or empty, keep their own."""
        known = set(names)
        wanted = {name: style(name) for name in sorted(known)}
        count = Counter(wanted.values())
        return cls({old: new for old, new in wanted.items() if new.strip() and count[new] == 1 and new not in known})

    @classmethod
    def exchanged(cls, names: Iterable[str], seed: int) -> Renaming:
        """Every name given to another one of the names, drawn from ``seed``."""
        old = sorted(set(names))
        new = list(old)
        random.Random(seed).shuffle(new)
        return cls(dict(zip(old, new, strict=True)))

    def __call__(self, name: str) -> str:
        """The new name."""
        return self._forward.get(name, name)

    def back(self, name: str) -> str:
        """The old name of a new one."""
        return self._back.get(name, name)

    def __len__(self) -> int:
        return len(self._forward)


class RenamedGraph:
    """A :class:`kgr1.graph.api.KnowledgeGraph` that shows another one with entities and relations renamed.

    Results are sorted by their new names. Identifiers are renamed like names, since in many graphs a node's name is its
    identifier. Names in the sentences of errors are renamed as well.
    """

    def __init__(self, graph: KnowledgeGraph, entities: Renaming, relations: Renaming) -> None:
        self.graph, self.entities, self.relations = graph, entities, relations
        self.remote = bool(getattr(graph, "remote", False))

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        """Answer every query; same length and order as ``queries``."""
        found = self.graph.execute([self._inward(query) for query in queries])
        return [self._outward(query, observation) for query, observation in zip(queries, found, strict=True)]

    def _inward(self, query: Query) -> Query:
        names = {"entity": self.entities.back(query.entity)}
        if query.relation is not None:
            names["relation"] = self.relations.back(query.relation)
        return query.model_copy(update=names)

    def _outward(self, asked: Query, observation: Observation) -> Observation:
        resolved = observation.query
        if observation.error is not None:
            return observation.model_copy(update={"query": asked, "message": self._sentence(observation.message)})
        rename = self.entities if resolved.operation.returns_entities else self.relations
        names = [rename(name) for name in observation.names]
        ids = [rename(name) for name in observation.ids]
        order = list(range(len(names)))
        if len(names) == observation.total:  # pages keep the order of the whole result
            order.sort(key=lambda place: (names[place], ids[place]))
        return observation.model_copy(
            update={
                "query": self._query(resolved),
                "names": tuple(names[place] for place in order),
                "ids": tuple(ids[place] for place in order),
                "times": tuple(observation.times[place] for place in order) if observation.times else (),
            }
        )

    def _query(self, query: Query) -> Query:
        relation = None if query.relation is None else self.relations(query.relation)
        return query.model_copy(update={"entity": self.entities(query.entity), "relation": relation})

    def _sentence(self, message: str) -> str:
        """The names that an error quotes may be entities or relations; what is neither stays."""
        return _QUOTED.sub(lambda match: self._either(match[0]), message)

    def _either(self, quoted: str) -> str:
        try:
            name = json.loads(quoted)
        except ValueError:
            return quoted
        renamed = self.entities(name)
        return json.dumps(renamed if renamed != name else self.relations(name), ensure_ascii=False)

    def info(self) -> GraphInfo:
        """Counts of the graph."""
        return self.graph.info()

    def close(self) -> None:
        """Close the graph that is shown."""
        self.graph.close()
