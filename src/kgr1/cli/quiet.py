"""Libraries that talk: their warnings and progress bars are held back while a command runs."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kgr1.cli.failures import debugging

_LOGGERS = ("transformers", "peft", "trl", "accelerate", "huggingface_hub", "torch", "datasets", "httpx")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hold back what libraries print about themselves; with ``KGR1_DEBUG=1`` everything comes through.

    Errors still come through, and so do the progress bars of downloads, which can take minutes.
    """
    if debugging():
        yield
        return
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else a warning at every fork
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def hide_loading_bars() -> None:
    """No progress bar for reading weights; call it after transformers was imported.

    transformers sets the level of its own logger when it is imported, so that is set here again.
    """
    if debugging() or "transformers" not in sys.modules:
        return
    control = importlib.import_module("transformers.utils.logging")
    control.disable_progress_bar()
    control.set_verbosity_error()
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    if hasattr(reader, "tqdm"):  # this one bar is not under that control
        reader.tqdm = functools.partial(reader.tqdm, disable=True)
