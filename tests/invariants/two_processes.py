"""The same steps as in ``test_same_update.py``, to be run by ``torch.distributed.run`` in two processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from test_same_update import cold, reinforce, replace_dull

from kgr1.grpo.trainer import KGRPOTrainer


def main(taught: Path, tiny: Path, out: Path) -> None:
    torch.set_num_threads(1)
    process = int(os.environ["RANK"])
    score = KGRPOTrainer._generate_and_score_completions
    rank = 0

    def watched(self: Any, inputs: Any) -> Any:
        batch = score(self, inputs)
        assert not self._share_tokens
        rows = [[round(float(value), 6) for value in row if value] for row in batch["advantages"]]
        (out / f"advantages-{rank}-{process}.json").write_text(json.dumps(rows))
        return batch

    KGRPOTrainer._generate_and_score_completions = watched  # type: ignore[method-assign]
    for rank in (0, 4):
        reinforce(taught, out / f"grpo-{rank}", rank, 4)
    KGRPOTrainer._generate_and_score_completions = score  # type: ignore[method-assign]
    replace_dull(taught, out / "replaced")
    cold(tiny, out / "cold", 0, 3)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
