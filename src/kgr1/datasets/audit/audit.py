"""All that can be said about a question set on a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from kgr1.datasets.audit.leaks import Leak, find_leaks
from kgr1.datasets.audit.reach import Distances, ReachOptions, Search
from kgr1.datasets.paths import parse_path
from kgr1.errors import DatasetError
from kgr1.graph.api import KnowledgeGraph
from kgr1.types import Question, Record

_EXAMPLES = 5
_BINS = ((0, 0), (1, 1), (2, 2), (3, 5), (6, 10), (11, 100), (101, None))


class HopReach(Record):
    """Shares of the questions with gold answers that have some, and all, within ``hops`` facts of their topics."""

    hops: int
    some: float
    all: float


class GroupReach(Record):
    """Reach of a part of the questions: all, one split, or one subset."""

    name: str
    questions: int  # those with gold answers, which the shares are of
    reach: tuple[HopReach, ...]


class Missing(Record):
    """What the graph does not hold. ``names`` counts distinct ones, ``questions`` those with at least one of them."""

    names: int
    questions: int
    examples: tuple[str, ...]


class Shortcut(Record):
    """Questions of one length whose gold answers are direct neighbours of a topic."""

    hops: int  # of the shortest branch of the gold path, or where there is none what the question set says
    questions: int
    some: int
    all: int


class Audit(Record):
    """The result; counts are questions unless said otherwise."""

    graph: str
    options: ReachOptions
    questions: int
    without_topics: int
    without_answers: int
    reach: tuple[GroupReach, ...]
    answer_counts: dict[str, int]  # histogram of gold answers a question
    missing_answers: Missing
    no_answer_in_graph: int  # questions with gold answers none of which is in the graph
    date_answers: int  # gold answers that are dates and no nodes, which only a search finds
    missing_topics: Missing
    ambiguous_topics: Missing | None  # None if the graph does not tell who shares a name
    answer_is_topic: int
    shortcuts: tuple[Shortcut, ...]
    shortest_labels: int  # questions of several hops, without a gold path, that no short cut can show for; see _Short
    leaks: tuple[Leak, ...]
    at_hubs: int  # searches that met an entity with too many facts and did not find every answer
    cut: int  # searches that ended at the limit of entities


def audit_questions(
    questions: Sequence[Question],
    graph: KnowledgeGraph,
    options: ReachOptions | None = None,
    *,
    on_question: Callable[[int], None] | None = None,
) -> Audit:
    """Search for every gold answer and count what the questions and the graph do not agree on.

    ``on_question`` is told how many are done. Raises :class:`DatasetError` without questions, or if they name question
    graphs and the graph has none, and :class:`kgr1.errors.GraphServerError` if the graph cannot answer.
    """
    options = options or ReachOptions()
    info = graph.info()
    if not questions:
        raise DatasetError("There are no questions to audit.")
    if not info.question_graphs and any(question.graph_id is not None for question in questions):
        raise DatasetError(
            f"The questions name question graphs, and the graph '{info.name}' has none; build it from the graphs that "
            "come with the questions."
        )
    search = Search(graph, options)
    tally = _Tally(options.hops)
    # Questions of one question graph stand together, so that its neighbours are asked for once.
    order = sorted(range(len(questions)), key=lambda number: questions[number].graph_id or "")
    for done, number in enumerate(order, 1):
        tally.add(questions[number], search.distances(questions[number]))
        if on_question is not None:
            on_question(done)
    return Audit(
        graph=info.name,
        options=options,
        questions=len(questions),
        without_topics=sum(not question.topics for question in questions),
        without_answers=sum(not question.answers for question in questions),
        reach=tally.reach(),
        answer_counts=_histogram(questions),
        missing_answers=tally.answers.missing(),
        no_answer_in_graph=tally.none,
        date_answers=tally.dates,
        missing_topics=tally.topics.missing(),
        ambiguous_topics=tally.ambiguous.missing() if search.knows_namesakes else None,
        answer_is_topic=tally.own,
        shortcuts=tally.short.found(),
        shortest_labels=tally.short.shortest_labels,
        leaks=find_leaks(questions),
        at_hubs=tally.hubs,
        cut=tally.cut,
    )


class _Names:
    """Counts names, and the questions that they are in."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._questions = 0

    def add(self, names: Sequence[str]) -> None:
        self._names.update(dict.fromkeys(names))
        self._questions += bool(names)

    def missing(self) -> Missing:
        return Missing(
            names=len(self._names), questions=self._questions, examples=tuple(sorted(self._names)[:_EXAMPLES])
        )


class _Short:
    """Counts short cuts: answers one fact away from a question that is longer.

    How long a question is says its gold path, or else its label. Of a path with several branches the shortest counts:
    where one of them is a single hop, answers one fact from its topic are no short cut. Some sets label a question with
    the shortest distance to its answers. No answer can be nearer than that, so a count of 0 would say nothing: if not a
    single label is longer than the way that the search found, these questions are left out and only their number is
    told.
    """

    def __init__(self) -> None:
        self._by_path: dict[int, Counter[str]] = {}
        self._by_label: dict[int, Counter[str]] = {}
        self._longer = False  # some label is longer than the shortest way

    def add(self, question: Question, found: Distances) -> None:
        branches = parse_path(question.gold_path)
        hops = min(map(len, branches)) if branches else question.hops
        if hops is None or hops < 2:
            return
        nearest = min((distance for distance in found.answers if distance is not None), default=None)
        self._longer |= not branches and nearest is not None and hops > nearest
        some, every = found.within(1)
        counts = (self._by_path if branches else self._by_label).setdefault(hops, Counter())
        counts.update({"questions": 1, "some": int(some), "all": int(every)})

    @property
    def shortest_labels(self) -> int:
        return 0 if self._longer else sum(counts["questions"] for counts in self._by_label.values())

    def found(self) -> tuple[Shortcut, ...]:
        total = {hops: Counter(counts) for hops, counts in self._by_path.items()}
        for hops, counts in self._by_label.items() if self._longer else ():
            total.setdefault(hops, Counter()).update(counts)
        return tuple(
            Shortcut(hops=hops, questions=counts["questions"], some=counts["some"], all=counts["all"])
            for hops, counts in sorted(total.items())
        )


class _Tally:
    """Adds up the distances of all questions."""

    def __init__(self, hops: int) -> None:
        self._hops = hops
        self._groups: dict[tuple[int, str], Counter[tuple[int, bool]]] = {}
        self._sizes: Counter[tuple[int, str]] = Counter()
        self.short = _Short()
        self.answers, self.topics, self.ambiguous = _Names(), _Names(), _Names()
        self.none = self.dates = self.own = self.hubs = self.cut = 0

    def add(self, question: Question, found: Distances) -> None:
        gold = question.answers
        pairs = list(zip(gold, found.present, strict=True))
        self.answers.add([answer.label for answer, here in pairs if here is False])
        self.topics.add(found.missing_topics)
        self.ambiguous.add([f"{topic} ({len(names)})" for topic, names in found.ambiguous_topics.items()])
        self.none += bool(gold) and not any(here is not False for here in found.present)
        self.dates += sum(here is None for here in found.present)
        self.own += 0 in found.answers
        self.hubs += bool(found.hubs) and None in found.answers
        self.cut += found.cut
        if gold:
            self._count(question, found)

    def _count(self, question: Question, found: Distances) -> None:
        groups = [(0, "all"), (1, f"split {question.split}"), (2, f"subset {question.dataset}")]
        for group in groups[: 1 + bool(question.split)] + groups[2:] * bool(question.dataset):
            self._sizes[group] += 1
            counts = self._groups.setdefault(group, Counter())
            for hops in range(1, self._hops + 1):
                some, every = found.within(hops)
                counts[hops, False] += some
                counts[hops, True] += every
        self.short.add(question, found)

    def reach(self) -> tuple[GroupReach, ...]:
        """All questions first, then splits, then subsets; a part that is all of them is left out."""
        result = []
        for group in sorted(self._groups):
            size, counts = self._sizes[group], self._groups[group]
            if group[0] and size == self._sizes[0, "all"]:
                continue
            shares = (
                HopReach(hops=hops, some=counts[hops, False] / size, all=counts[hops, True] / size)
                for hops in range(1, self._hops + 1)
            )
            result.append(GroupReach(name=group[1], questions=size, reach=tuple(shares)))
        return tuple(result)


def _histogram(questions: Sequence[Question]) -> dict[str, int]:
    """Questions by the number of their gold answers."""
    found = {_bin(low, high): 0 for low, high in _BINS}
    for question in questions:
        count = len(question.answers)
        found[next(_bin(low, high) for low, high in _BINS if count >= low and (high is None or count <= high))] += 1
    return found


def _bin(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} or more"
    return str(low) if low == high else f"{low} to {high}"
