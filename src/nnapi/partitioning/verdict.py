"""Every operation's verdict on every device, with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nnapi.drivers.driver import Accept, DeviceType, Driver, Reject, Verdict
from nnapi.errors import DriverError
from nnapi.ir.model import Model, Operation
from nnapi.ops.types import ANDROID, BEYOND, MAX_FEATURE_LEVEL, Q16SYMM


class Denied(Reject):
    """A refusal of what the device itself takes, because it was found wrong there."""


@dataclass(frozen=True)
class Verdicts:
    """One device's answer to each operation of a model, in order."""

    device: str
    verdicts: tuple[Verdict, ...]

    def __getitem__(self, operation: int) -> Verdict:
        return self.verdicts[operation]

    def __len__(self) -> int:
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def accepts(self, operation: int) -> bool:
        return isinstance(self.verdicts[operation], Accept)

    @property
    def accepted(self) -> int:
        """How many operations the device takes."""
        return sum(isinstance(v, Accept) for v in self.verdicts)


def judge(driver: Driver, model: Model) -> Verdicts:
    """Ask `driver` about each operation; a composite it does not know is taken if it takes the whole decomposition."""
    try:
        answers: Sequence[Verdict] = driver.supported(model)
    except Exception as error:  # a driver that fails here takes nothing, and says so
        answers = [Reject(f"the driver failed to answer: {type(error).__name__}: {error}")] * len(model.operations)
    if len(answers) != len(model.operations):
        raise DriverError(f"device {driver.name!r} gave {len(answers)} verdicts on {len(model.operations)} operations")
    return Verdicts(driver.name, tuple(_final(driver, model, n, answer) for n, answer in enumerate(answers)))


def _final(driver: Driver, model: Model, n: int, answer: Verdict) -> Verdict:
    operation = model.operations[n]
    body = model.body(operation)
    if body is not None and isinstance(answer, Reject):
        refusal = next((v for v in judge(driver, body) if isinstance(v, Reject)), None)
        if refusal is None:
            return Accept(f"inlined as {len(body.operations)} operations")
        return Reject(f"{operation.type.rpartition('/')[2]}: its decomposition is not taken: {refusal.reason}")
    if isinstance(answer, Accept) and not operation.is_extension and not _takes_all(driver, model, operation):
        need = max(model.call(operation).needs(), default=None)
        if need is not None and need.level == BEYOND:
            # An engine of this machine's CPU is no NNAPI accelerator, and knows what it takes.
            return answer if driver.device_type == DeviceType.CPU else Reject(str(need))
        if need is not None and need.level > driver.feature_level:
            return Reject(f"{need}; {driver.name} has {driver.feature_level} ({ANDROID[driver.feature_level]})")
    return answer


def _takes_all(driver: Driver, model: Model, operation: Operation) -> bool:
    """Whether no use of the operation's types can be above the driver's level."""
    indexes = (*operation.inputs, *operation.outputs)
    return driver.feature_level == MAX_FEATURE_LEVEL and all(model.operands[i].type != Q16SYMM for i in indexes)
