"""The error tree of kgr1.

::

    KGR1Error
    ├── GraphError              a graph could not be read, built or opened
    │   ├── GraphFormatError    a source line is malformed; names file, line and reason
    │   └── GraphServerError    a remote graph did not answer
    ├── DatasetError            a question set could not be read
    ├── ModelError              a language model or adapter could not be loaded
    │   └── ModelServerError    a model server did not answer
    ├── MissingExtraError       an optional dependency is not installed
    ├── SettingsError           a setting is unknown or out of range
    ├── CheckpointError         a checkpoint could not be written, read or resumed
    └── EvaluationError         an evaluation run could not be written or resumed

Every error carries a stable ``code`` and one sentence that says what to do next. All of them survive
pickling, so they can cross process borders. What a *model* does wrong is never raised: it is recorded in
the episode as a :class:`kgr1.types.ErrorCode`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class KGR1Error(Exception):
    """Root of every error that kgr1 raises on purpose.

    ``message`` is one plain sentence for the user; ``details`` holds the machine-readable parts.
    """

    code: ClassVar[str] = "KGR1_ERROR"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.details))


def _rebuild(cls: type[KGR1Error], message: str, details: dict[str, Any]) -> KGR1Error:
    return cls(message, **details)


class GraphError(KGR1Error):
    """A graph could not be read, built or opened."""

    code = "GRAPH_ERROR"


class GraphFormatError(GraphError):
    """A source line is malformed. ``details``: ``path``, ``line`` (1-based), ``reason``."""

    code = "GRAPH_FORMAT_ERROR"


class GraphServerError(GraphError):
    """A remote graph did not answer, or answered with something that is not the protocol."""

    code = "GRAPH_SERVER_ERROR"


class DatasetError(KGR1Error):
    """A question set could not be read."""

    code = "DATASET_ERROR"


class ModelError(KGR1Error):
    """A language model or adapter could not be loaded."""

    code = "MODEL_ERROR"


class ModelServerError(ModelError):
    """A model server did not answer, or answered with something that is not the protocol."""

    code = "MODEL_SERVER_ERROR"


class MissingExtraError(KGR1Error):
    """An optional dependency is not installed."""

    code = "MISSING_EXTRA"


class SettingsError(KGR1Error):
    """A setting is unknown or out of range."""

    code = "SETTINGS_ERROR"


class CheckpointError(KGR1Error):
    """A checkpoint could not be written, read or resumed."""

    code = "CHECKPOINT_ERROR"


class EvaluationError(KGR1Error):
    """An evaluation run could not be written or resumed."""

    code = "EVALUATION_ERROR"
