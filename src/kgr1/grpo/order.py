"""The order of the training questions, the same in a resumed run as in an unbroken one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trl.trainer.utils import RepeatSampler

_STRIDE = 1_000_003  # keeps the passes of neighbouring seeds apart


class PassSampler(RepeatSampler):  # type: ignore[misc]
    """TRL's sampler, with each pass over the questions shuffled from the seed and the number of the pass alone.

    TRL draws all passes from one generator whose state is in no checkpoint, so a run that is resumed in its second pass
    would see the first one again. ``pass_number`` is asked when a pass begins.
    """

    def __init__(self, sampler: RepeatSampler, pass_number: Callable[[], int]) -> None:
        super().__init__(
            sampler.data_source,
            mini_repeat_count=sampler.mini_repeat_count,
            batch_size=sampler.batch_size,
            repeat_count=sampler.repeat_count,
            shuffle=sampler.shuffle,
            seed=sampler.seed,
        )
        self._pass_number = pass_number

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) + _STRIDE * self._pass_number())
        yield from super().__iter__()
