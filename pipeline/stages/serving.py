"""Which model scores. Generations follow one another between two batches: a range belongs to one for ever.

What the poll thread hands to the decode pool is prepared, scored and stored by the generation that was current then,
so that no threshold ever meets another model's energies, whatever is in flight when the next one comes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.records import Reference
from pipeline.stages.inference import Inference
from pipeline.stages.preparation import Preparation


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """One loaded, warm model with all that belongs to it."""

    model_id: str
    package: str | None  # the registry's hash of it; none: the worker's own --model
    reference: Reference
    preparation: Preparation
    inference: Inference
    close: Callable[[], None]  # lets go of what it holds besides memory, as a child process
    description: Mapping[str, str]  # for metrics and people

    def __str__(self) -> str:
        """For a log."""
        reference = self.reference
        where = self.description["device"]
        return f"{self.model_id} on {where}, reference {reference.name} (threshold {reference.threshold:.4f})"


@dataclass(slots=True)
class Serving:
    """The present generation. Written by the writer thread; any thread may look."""

    current: Generation
    refused: str | None = None  # why the model that the registry names does not score here
