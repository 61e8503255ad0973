"""Whatever the integers say, it works or names what is wrong: no exception of NumPy, no warning, no memory."""

import numpy as np
import pytest

from arrays import HUGE, LOWEST, tensor
from nnapi.drivers.reference import execute
from nnapi.errors import ExecutionError
from nnapi.ir.builder import Builder
from nnapi.ir.verify import verify
from nnapi.ops.types import F32, I32, INT32, Operand

VALUES = (LOWEST, -HUGE, -5, -4, -2, -1, 0, 1, 2, 3, 4, 5, 2**30, HUGE)
# Small values often enough that operations work too; the large ones are beyond NNAPI's 4 GiB, so never allocated.
ODDS = np.array([1, 1, 1, 1, 1, 4, 8, 8, 4, 1, 1, 1, 1, 1], float)
# operation: its integer inputs with their shapes (n is the rank of the input, () a scalar), ranks of the input
OPERATIONS = {
    "RESHAPE": ({"shape": ("n",)}, (1, 4)), "TRANSPOSE": ({"perm": ("n",)}, (1, 4)),
    "SQUEEZE": ({"axes": (2,)}, (1, 4)), "EXPAND_DIMS": ({"axis": ()}, (1, 4)), "TILE": ({"multiples": ("n",)}, (1, 4)),
    "REVERSE": ({"axis": (1,)}, (1, 4)), "SLICE": ({"begin": ("n",), "size": ("n",)}, (1, 4)),
    "STRIDED_SLICE": (
        {"begin": ("n",), "end": ("n",), "strides": ("n",), "begin_mask": (), "end_mask": (), "shrink_axis_mask": ()},
        (1, 4),
    ),
    "PAD": ({"paddings": ("n", 2)}, (1, 3)), "MIRROR_PAD": ({"paddings": ("n", 2), "mode": ()}, (1, 2)),
    "DEPTH_TO_SPACE": ({"block_size": ()}, (4, 4)), "SPACE_TO_DEPTH": ({"block_size": ()}, (4, 4)),
    "BATCH_TO_SPACE_ND": ({"block_shape": (2,)}, (4, 4)),
    "SPACE_TO_BATCH_ND": ({"block_shape": (2,), "paddings": (2, 2)}, (4, 4)),
    "CHANNEL_SHUFFLE": ({"num_groups": (), "axis": ()}, (1, 4)),
}  # fmt: skip


def model_of(operation, names, rank):
    """A model of one operation of which only types and ranks are known before it runs."""
    b = Builder(operation)
    given = {"input": b.input("input", F32, (0,) * rank)}
    for name, shape in names.items():
        given[name] = b.input(name, I32 if shape else INT32, (0,) * len(shape))
    b.output(b.add(operation, given, Operand(F32)))
    return b.finish()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_hostile_integers(operation):
    names, ranks = OPERATIONS[operation]
    rng = np.random.default_rng(1)
    refusals = 0
    for _ in range(300):
        rank = int(rng.integers(ranks[0], ranks[1] + 1))
        model = model_of(operation, names, rank)
        verify(model)
        x = tensor(F32, *(int(d) for d in rng.choice([0, 1, 2, 4], rank, p=[0.1, 0.3, 0.3, 0.3]))).value
        values = [
            rng.choice(VALUES, [rank if d == "n" else d for d in shape], p=ODDS / ODDS.sum())
            for shape in names.values()
        ]
        try:
            (result,) = execute(model, [x, *(np.asarray(v, np.int32) for v in values)])
        except ExecutionError as error:
            refusals += 1
            assert error.operation == operation
            assert "cannot compute" not in error.message, values
        else:
            assert result.nbytes <= 2**20
            assert set(result.ravel().tolist()) <= {0, *x.ravel().tolist()}
    assert 0 < refusals < 300
