"""What people ask about common relations: "Where was Ada Lovelace born?" for ``place_of_birth``, and its like.

A relation is known by its label in words, as :func:`kgr1.datasets.asking.readable` gives it. Each has questions about
its tail and about its head, and ways to speak of either inside a longer question; any may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Templates = tuple[str, ...]


@dataclass(frozen=True)
class Wording:
    """Templates with ``{x}``: whole questions and noun phrases, about the tail (forward) and the head (backward)."""

    asked: Templates = ()
    asked_back: Templates = ()
    said: Templates = ()
    said_back: Templates = ()

    def questions(self, *, backward: bool) -> Templates:
        """Sentences that ask for the other end of a fact of ``{x}``."""
        return self.asked_back if backward else self.asked

    def phrases(self, *, backward: bool) -> Templates:
        """Noun phrases for the other end of a fact of ``{x}``."""
        return self.said_back if backward else self.said


_TABLE: tuple[tuple[Templates, Wording], ...] = (
    (
        ("place of birth", "birthplace", "birth place", "born in", "was born in", "born", "born at"),
        Wording(
            ("Where was {x} born?", "In which place was {x} born?", "What is the birthplace of {x}?"),
            ("Who was born in {x}?", "Who comes from {x}?"),
            ("the place where {x} was born", "the birthplace of {x}"),
            ("the person born in {x}", "the one who was born in {x}"),
        ),
    ),
    (
        ("place of death", "died in", "death place", "deathplace"),
        Wording(
            ("Where did {x} die?", "In which place did {x} die?"),
            ("Who died in {x}?",),
            ("the place where {x} died",),
            ("the person who died in {x}",),
        ),
    ),
    (("place of burial", "buried in", "burial place"), Wording(("Where is {x} buried?",), ("Who is buried in {x}?",))),
    (
        ("date of birth", "birth date", "birthdate", "born on", "birth year", "year of birth", "birthday"),
        Wording(("When was {x} born?", "What is the birthday of {x}?"), ("Who was born on {x}?",)),
    ),
    (
        ("date of death", "death date", "died on", "death year", "year of death"),
        Wording(("When did {x} die?",), ("Who died on {x}?",)),
    ),
    (
        ("release year", "release date", "released", "released in", "publication date", "published in", "year"),
        Wording(("When did {x} come out?", "When was {x} released?"), ("What came out in {x}?",)),
    ),
    (
        ("directed by", "director", "is directed by", "film director"),
        Wording(
            ("Who directed {x}?", "Who was the director of {x}?"),
            ("What did {x} direct?", "Which films did {x} direct?", "What was directed by {x}?"),
            ("the director of {x}", "the person who directed {x}"),
            ("the film directed by {x}", "the film that {x} directed"),
        ),
    ),
    (
        ("written by", "author", "writer", "screenwriter", "authors", "story by", "is written by", "author editor"),
        Wording(
            ("Who wrote {x}?", "Who is the author of {x}?"),
            ("What did {x} write?", "What was written by {x}?"),
            ("the writer of {x}", "the person who wrote {x}"),
            ("the work that {x} wrote",),
        ),
    ),
    (
        ("starring", "starred actors", "cast member", "cast members", "actor", "actors", "stars", "regular cast"),
        Wording(
            ("Who acted in {x}?", "Who stars in {x}?", "Who played in {x}?"),
            ("What did {x} act in?", "Which films is {x} in?", "What has {x} played in?"),
            ("the actor in {x}", "the person who played in {x}"),
            ("the film that {x} acted in", "the one with {x} in it"),
        ),
    ),
    (
        ("acted in", "appeared in", "plays in", "starring roles", "films"),
        Wording(
            ("What did {x} act in?", "What has {x} been in?"),
            ("Who acted in {x}?", "Who is in {x}?"),
            ("the film that {x} acted in",),
            ("the person who acted in {x}",),
        ),
    ),
    (
        ("produced by", "producer", "production company", "production companies"),
        Wording(
            ("Who produced {x}?", "Who made {x}?"),
            ("What did {x} produce?",),
            ("the producer of {x}",),
            ("the one that {x} produced",),
        ),
    ),
    (
        ("composer", "composed by", "music", "music by"),
        Wording(("Who composed {x}?", "Who wrote the music of {x}?"), ("What did {x} compose?",)),
    ),
    (
        ("performer", "artist", "sung by", "performed by", "singer"),
        Wording(("Who sings {x}?", "Who performed {x}?"), ("What does {x} sing?", "What has {x} recorded?")),
    ),
    (
        ("founded by", "founder", "founders"),
        Wording(
            ("Who founded {x}?", "Who started {x}?"),
            ("What did {x} found?", "What was founded by {x}?"),
            ("the founder of {x}", "the person who founded {x}"),
            ("the organization that {x} founded",),
        ),
    ),
    (
        ("inventor", "invented by", "discoverer", "discovered by", "discoverer or inventor"),
        Wording(("Who invented {x}?", "Who came up with {x}?"), ("What did {x} invent?",)),
    ),
    (
        ("creator", "created by", "program creator", "developer", "developed by", "designed by", "architect"),
        Wording(("Who created {x}?", "Who made {x}?"), ("What did {x} create?",)),
    ),
    (
        ("publisher", "published by"),
        Wording(("Who published {x}?",), ("What did {x} publish?",)),
    ),
    (
        ("spouse", "spouses", "spouse s", "married to", "is married to", "husband", "wife"),
        Wording(
            ("Who is {x} married to?", "Who did {x} marry?"),
            ("Who is married to {x}?",),
            ("the person {x} is married to",),
        ),
    ),
    (
        ("children", "child"),
        Wording(
            ("Who are the children of {x}?", "What is the name of the child of {x}?"),
            ("Who is the parent of {x}?", "Whose child is {x}?"),
            ("the child of {x}",),
            ("the parent of {x}",),
        ),
    ),
    (
        ("parents", "parent"),
        Wording(
            ("Who are the parents of {x}?", "Whose child is {x}?"),
            ("Who are the children of {x}?",),
            ("the parent of {x}",),
            ("the child of {x}",),
        ),
    ),
    (("father",), Wording(("Who is the father of {x}?",), ("Who is {x} the father of?",))),
    (("mother",), Wording(("Who is the mother of {x}?",), ("Who is {x} the mother of?",))),
    (
        ("sibling", "siblings", "sibling s", "brother", "sister"),
        Wording(("Who is a brother or sister of {x}?", "What siblings does {x} have?")),
    ),
    (
        ("profession", "occupation", "job"),
        Wording(
            ("What does {x} do for a living?", "What does {x} do?", "What is {x} by profession?", "What is {x}'s job?"),
            ("Who works as {x}?",),
            ("what {x} does for a living",),
        ),
    ),
    (
        ("employer", "works for", "works at", "employed by", "work location"),
        Wording(
            ("Who does {x} work for?", "Where does {x} work?"),
            ("Who works for {x}?", "Who works at {x}?"),
            ("the place where {x} works",),
            ("the person who works for {x}",),
        ),
    ),
    (
        ("nationality", "country of citizenship", "citizen of", "citizenship"),
        Wording(
            ("What country is {x} from?", "Where is {x} from?", "What nationality is {x}?"),
            ("Who is a citizen of {x}?",),
            ("the country that {x} comes from",),
        ),
    ),
    (
        ("religion", "religion or worldview", "faith"),
        Wording(("What does {x} believe in?", "What is the faith of {x}?"), ("Who believes in {x}?",)),
    ),
    (
        ("gender", "sex or gender"),
        Wording(("Is {x} a man or a woman?", "What sex is {x}?")),
    ),
    (
        ("cause of death",),
        Wording(("How did {x} die?", "What did {x} die of?", "What killed {x}?"), ("Who died of {x}?",)),
    ),
    (
        ("genre", "cvg genre", "genres"),
        Wording(("What kind of work is {x}?", "What type of music or film is {x}?"), ("What is an example of {x}?",)),
    ),
    (
        ("country", "located in country", "country of origin"),
        Wording(
            ("In which country is {x}?", "What country does {x} come from?"),
            ("What is there in {x}?",),
            ("the country where {x} is",),
        ),
    ),
    (
        ("located in", "is located in", "location", "containedby", "headquarters location", "headquarters", "based in"),
        Wording(
            ("Where is {x}?", "Where is {x} located?", "In what place can {x} be found?"),
            ("What is located in {x}?", "What can be found in {x}?"),
            ("the place where {x} is",),
            ("the one that is in {x}",),
        ),
    ),
    (("continent", "located on continent"), Wording(("On which continent is {x}?",), ("What is there in {x}?",))),
    (("time zones", "time zone", "located in time zone"), Wording(("What time zone is {x} in?",))),
    (
        ("residence", "lives in", "lived in", "places lived"),
        Wording(
            ("Where does {x} live?", "Where did {x} live?"), ("Who lives in {x}?",), ("the place where {x} lives",)
        ),
    ),
    (
        ("official language", "languages spoken", "languages", "language", "spoken language"),
        Wording(("What language does {x} use?", "What do they speak in {x}?"), ("Where do people speak {x}?",)),
    ),
    (
        ("currency", "currency used"),
        Wording(("What money is used in {x}?", "What kind of money does {x} have?"), ("Where can one pay in {x}?",)),
    ),
    (
        ("educated at", "school", "alma mater", "studied at", "university", "institution"),
        Wording(
            ("Where did {x} study?", "Which school did {x} go to?", "What college did {x} attend?"),
            ("Who studied at {x}?", "Who went to {x}?"),
            ("the school that {x} went to",),
            ("the person who studied at {x}",),
        ),
    ),
    (
        ("team", "teams", "plays for", "member of sports team", "current club"),
        Wording(("What team does {x} play for?", "Who does {x} play for?"), ("Who plays for {x}?",)),
    ),
    (
        ("position", "position s", "plays in position"),
        Wording(
            ("What position does {x} play?",),
        ),
    ),
    (
        ("influenced by",),
        Wording(("Who influenced {x}?", "Who had an influence on {x}?"), ("Who did {x} influence?",)),
    ),
    (
        ("instrument", "instruments played", "instruments"),
        Wording(("What does {x} play?", "Which instrument does {x} play?"), ("Who plays {x}?",)),
    ),
    (
        ("member of political party", "party", "political party"),
        Wording(("Which party does {x} belong to?",), ("Who belongs to {x}?",)),
    ),
    (
        ("capital",),
        Wording((), ("What is {x} the capital of?", "Of which country is {x} the capital?"), ("the capital of {x}",)),
    ),
    (("population",), Wording(("How many people live in {x}?",))),
    (("named after",), Wording(("Who or what was {x} named after?",), ("What was named after {x}?",))),
    (("film", "works written", "notable work", "album", "track"), Wording(("What is {x} known for?",))),
)


def _spread() -> Iterator[tuple[str, Wording]]:
    for labels, wording in _TABLE:
        for label in labels:
            yield label, wording


WORDINGS: Mapping[str, Wording] = dict(_spread())
"""Label of a relation in words, lower case -> how people speak of it."""
