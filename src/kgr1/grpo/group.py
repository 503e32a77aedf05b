"""The group of processes that train together."""

from __future__ import annotations

import atexit
from functools import cache


@cache
def end_group_at_exit() -> None:
    """Leave the group when this process ends: one that ends with threads of its group alive can abort.

    Not earlier, since a program may train several times, and a group cannot be made anew while others still leave it.
    """
    atexit.register(_end_group)


def _end_group() -> None:
    import torch.distributed  # the commands import checkpoints early, torch late

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
