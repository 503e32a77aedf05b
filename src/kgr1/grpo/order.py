"""The order of the training questions, the same in a resumed run as in an unbroken one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

from kgr1.grpo.stages import Schedule, staged

_STRIDE = 1_000_003  # keeps the passes of neighbouring seeds apart


class PassSampler(RepeatSampler):  # type: ignore[misc]
    """TRL's sampler, with each pass over the questions shuffled from the seed and the number of the pass alone.

    TRL draws all passes from one generator whose state is in no checkpoint, so a run that is resumed in its second pass
    would see the first one again. ``pass_number`` is asked when a pass begins.

    With a ``schedule`` it decides which questions a round asks. What the trainer calls a pass is then only a number of
    rounds, as many as a pass over all questions has.
    """

    def __init__(
        self, sampler: RepeatSampler, pass_number: Callable[[], int], schedule: Schedule | None = None
    ) -> None:
        super().__init__(
            sampler.data_source,
            mini_repeat_count=sampler.mini_repeat_count,
            batch_size=sampler.batch_size,
            repeat_count=sampler.repeat_count,
            shuffle=sampler.shuffle,
            seed=sampler.seed,
        )
        self._pass_number = pass_number
        self._schedule = schedule

    def __iter__(self) -> Iterator[int]:
        number = self._pass_number()
        if self._schedule is not None:
            yield from self._rounds(self._schedule, number)
            return
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) + _STRIDE * number)
        yield from super().__iter__()

    def _rounds(self, schedule: Schedule, number: int) -> Iterator[int]:
        count = self.num_samples // self.batch_size
        for batch in map(schedule.batch, range(number * count, (number + 1) * count)):
            for _ in range(self.repeat_count):
                yield from (place for place in batch for _ in range(self.mini_repeat_count))


class StagedSampler(Sampler[int]):
    """Every example once a pass, stage after stage; ``pass_number`` is asked when a pass begins."""

    def __init__(self, stages: Sequence[Sequence[int]], seed: int, pass_number: Callable[[], int]) -> None:
        self._stages, self._seed, self._pass_number = stages, seed, pass_number

    def __iter__(self) -> Iterator[int]:
        return iter(staged(self._stages, self._seed, self._pass_number()))

    def __len__(self) -> int:
        return len(self._stages[-1])
