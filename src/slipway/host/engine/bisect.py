"""Run a batch so that only the job that cannot be answered fails.

When a run raises, each half is run again: with g guilty among n jobs that is at most about
2 g log2(n) further runs. Outputs with the wrong number of rows say nothing about whose fault
it is, and a half may have the right number by chance: there each job is run alone, where its
answer is its own by construction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from slipway.host.engine.batch import Shapes, WrongRows
from slipway.host.engine.job import Batch, Job, Result
from slipway.host.engine.runner import Copied
from slipway.host.request.message import Array
from slipway.host.request.refusal import RequestRefused

__all__ = ["Admit", "Attempts", "Run", "WrongRows", "is_out_of_memory"]

Run = Callable[[dict[str, Array]], Mapping[str, Array]]

Admit = Callable[[Mapping[str, Array]], RequestRefused | None]
"""Judge the values of an assembled batch, e.g. that all are finite."""

MEMORY_WORDS: Final = (
    "out of memory",  # CUDA failure 2, CUDA_ERROR_OUT_OF_MEMORY, cudaErrorMemoryAllocation
    "outofmemory",  # TensorRT's OutOfMemory
    "bfcarena",  # onnxruntime/core/framework/bfc_arena.cc, in BFCArena::AllocateRawInternal
    "failed to allocate",  # the same, and CPU allocators
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
    "bad_alloc",  # std::bad_alloc
    "bad allocation",
)
"""What ONNX Runtime says for want of memory: a RuntimeException, told by its text alone
(microsoft/onnxruntime issues 20038 and 22702)."""


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a smaller batch might pass where this one failed."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(word in text for word in MEMORY_WORDS)


@dataclass(frozen=True, slots=True)
class Attempts:
    """The runs that one batch takes."""

    run: Run
    shapes: Shapes
    admit: Admit | None
    errors: list[Exception]
    """What was raised, in order; a batch that went well leaves it empty."""
    batch: Batch
    """Is told what copying took."""

    def answer(self, jobs: Sequence[Job]) -> list[Result]:
        """Return a result for every job, in their order; raise nothing."""
        raised: Exception | None = None
        outputs = objection = None
        try:
            begun = perf_counter()
            inputs = self.shapes.assemble(jobs)
            self.batch.copy_s += perf_counter() - begun
            objection = self.admit(inputs) if self.admit else None
            if objection is None:
                outputs = self.run(inputs)
                if type(outputs) is Copied:
                    self.batch.copy_s += outputs.copy_s
                return list(self.shapes.divide(outputs, jobs))
        except Exception as error:
            raised = error
        # Out of the except clause, or every later error would have this one for its context.
        if raised is None:
            return self._sift(jobs, objection)
        _forget_frames(raised)
        self.errors.append(raised)
        return self._halve(jobs, raised) if outputs is None else self._one_by_one(jobs, raised)

    def _one_by_one(self, jobs: Sequence[Job], error: Exception) -> list[Result]:
        if len(jobs) == 1:
            return [error]
        return [self.answer([job])[0] for job in jobs]

    def _halve(self, jobs: Sequence[Job], error: Exception) -> list[Result]:
        if len(jobs) == 1:
            return [_out_of_memory() if is_out_of_memory(error) else error]
        middle = len(jobs) // 2
        return self.answer(jobs[:middle]) + self.answer(jobs[middle:])

    def _sift(self, jobs: Sequence[Job], objection: RequestRefused | None) -> list[Result]:
        """Ask about each job alone; run those that nothing is said against, together."""
        assert self.admit is not None
        assert objection is not None
        if len(jobs) == 1:
            return [objection]
        refused = {
            n: refusal
            for n, job in enumerate(jobs)
            if (refusal := self.admit(self.shapes.assemble([job])))
        }
        if not refused:  # it objects to the company only
            return [result for job in jobs for result in self.answer([job])]
        good = [job for n, job in enumerate(jobs) if n not in refused]
        answers = iter(self.answer(good) if good else [])
        return [refused[n] if n in refused else next(answers) for n in range(len(jobs))]


def _out_of_memory() -> RequestRefused:
    return RequestRefused("out_of_memory", "this request needs more memory than there is now")


def _forget_frames(error: Exception) -> None:
    """Put the place where it was raised into words, and drop the traceback.

    Its frames lead to the frames here, which hold the results, which hold the error: a circle
    that would keep the arrays of each poisoned batch until the next garbage collection.
    """
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is not None:
        code = place.tb_frame.f_code
        error.add_note(f"raised in {code.co_qualname}, {code.co_filename}:{place.tb_lineno}")
    error.__traceback__ = None
