"""Several tensors to one and back: by hand, against PyTorch and at the edges."""

import numpy as np
import pytest

from arrays import HUGE, LOWEST, ints, tensor
from nnapi.drivers.reference import execute
from nnapi.errors import ExecutionError, ModelError
from nnapi.ir.builder import Builder
from nnapi.ir.verify import feature_level, verify
from nnapi.ops import joining
from nnapi.ops.types import B8, F16, F32, I32, INT32, Q8, Q8S, Operand

torch = pytest.importorskip("torch")

X, ROW, EMPTY = tensor(F32, 2, 2), tensor(F32, 1, 2), tensor(F32, 0, 2)
FINE, COARSE = Operand(Q8, scale=0.5, zero_point=10), Operand(Q8, scale=1.0, zero_point=20)
# operation, inputs, output, expected
GOLDEN = {
    "concatenation": ("CONCATENATION", {"inputs": [X, ROW], "axis": 0}, None, [[0, 1], [2, 3], [0, 1]]),
    "concatenation of columns": ("CONCATENATION", {"inputs": [X, X], "axis": 1}, None, [[0, 1, 0, 1], [2, 3, 2, 3]]),
    "concatenation of one": ("CONCATENATION", {"inputs": [ROW], "axis": 1}, None, [[0, 1]]),
    "concatenation with nothing": ("CONCATENATION", {"inputs": [EMPTY, ROW, EMPTY], "axis": 0}, None, [[0, 1]]),
    # real -5, -4.5, -4, -3.5 of the first, rounded half to even
    "concatenation rescales": (
        "CONCATENATION",
        {"inputs": [tensor(Q8, 4, scale=0.5, zero_point=10), tensor(Q8, 2, scale=1.0, zero_point=20)], "axis": 0},
        COARSE,
        [15, 16, 16, 16, 0, 1],
    ),
    "concatenation saturates": (
        "CONCATENATION", {"inputs": [tensor(Q8, 2, scale=1.0, zero_point=20)], "axis": 0}, FINE, [0, 0]
    ),
    "pack rows": ("PACK", {"axis": 0, "inputs": [ROW, ROW]}, None, [[[0, 1]], [[0, 1]]]),
    "pack columns": ("PACK", {"axis": 2, "inputs": [ROW, ROW]}, None, [[[0, 0], [1, 1]]]),
    "pack nothing": ("PACK", {"axis": 1, "inputs": [EMPTY, EMPTY]}, None, np.zeros((0, 2, 2))),
}  # fmt: skip
CONCATENATION = {"inputs": [X, ROW], "axis": 0}
PACK = {"axis": 0, "inputs": [X, X]}
# operation, valid inputs, change, message
ERRORS = {
    "concatenation axis": ("CONCATENATION", CONCATENATION, {"axis": 2}, "axis 2 is outside 0 to 1"),
    "concatenation negative axis": ("CONCATENATION", CONCATENATION, {"axis": -1}, "axis -1 is outside 0 to 1"),
    "concatenation sizes": (
        "CONCATENATION", CONCATENATION, {"axis": 1}, r"inputs have sizes \[1, 2\] in dimension 0, must be equal"
    ),
    "concatenation ranks": (
        "CONCATENATION", CONCATENATION, {"inputs": tensor(F32, 2)}, "inputs have ranks 1 and 2, must be equal"
    ),
    "concatenation types": ("CONCATENATION", CONCATENATION, {"inputs": tensor(I32, 2, 2)}, "inputs is TENSOR_INT32"),
    "pack axis": ("PACK", PACK, {"axis": 3}, "axis 3 is outside 0 to 2"),
    "pack negative axis": ("PACK", PACK, {"axis": LOWEST}, "axis -2147483648 is outside 0 to 2"),
    "pack sizes": ("PACK", PACK, {"inputs": tensor(F32, 2, 3)}, r"sizes \[2, 3\] in dimension 1, must be equal"),
    "pack bool": ("PACK", PACK, {"inputs": tensor(B8, 2, 2)}, "inputs is TENSOR_BOOL8, must be"),
}  # fmt: skip
Y = [np.arange(24, dtype=np.float32).reshape(2, 3, 4) + i for i in range(3)]


def operands(type):
    return [Operand(type, y.shape, 0.5 if type.is_quantized else 0.0).with_value(y.astype(type.dtype)) for y in Y]


def split(value, axis, num_splits, *, known=True):
    """A model of one SPLIT; unless `known`, its input has no known dimensions and its scalars come at run time."""
    b = Builder()
    x = b.operand(value) if known else b.input("x", value.type, (0,) * value.value.ndim, value.scale, value.zero_point)
    scalars = [b.scalar(INT32, v) if known else b.input("", INT32, ()) for v in (axis, num_splits)]
    parts = [Operand(value.type, (), value.scale, value.zero_point)] * 3
    b.output(*b.add_raw("SPLIT", [x, *scalars], parts))
    return b.finish(check=False)


@pytest.mark.parametrize("operation, inputs, output, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, inputs, output, expected):
    result = apply(operation, inputs, output)
    np.testing.assert_array_equal(result, expected)
    assert result.shape == np.shape(expected)
    assert result.dtype == inputs["inputs"][0].type.dtype


@pytest.mark.parametrize("operation, inputs, change, message", ERRORS.values(), ids=ERRORS)
def test_errors(refuses, operation, inputs, change, message):
    refuses(operation, inputs, change, message)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("type", [F32, F16, Q8, Q8S], ids=lambda t: t.name)
def test_concatenation_against_pytorch(apply, type, axis):
    expected = torch.cat([torch.from_numpy(o.value) for o in operands(type)], axis).numpy()
    result = apply(
        "CONCATENATION", {"inputs": operands(type), "axis": axis}, Operand(type, scale=operands(type)[0].scale)
    )
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("type", [F32, F16, Q8, Q8S, I32], ids=lambda t: t.name)
def test_pack_against_pytorch(apply, type, axis):
    expected = torch.stack([torch.from_numpy(o.value) for o in operands(type)], axis).numpy()
    np.testing.assert_array_equal(apply("PACK", {"axis": axis, "inputs": operands(type)}), expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("type", [F32, F16, Q8, Q8S, I32], ids=lambda t: t.name)
def test_split_against_pytorch(type, axis):
    x = tensor(type, 6, 3)
    expected = [part.numpy() for part in torch.from_numpy(x.value).chunk(3, axis)]
    known, unknown = split(x, axis, 3), split(x, axis, 3, known=False)
    verify(known)
    verify(unknown)
    for results in (execute(known, []), execute(unknown, [x.value, ints(axis), ints(3)])):
        for result, part in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, part)
            assert not np.shares_memory(result, x.value)


SPLIT_ERRORS = {
    "axis": (2, 3, "axis 2 is outside rank 2"),
    "lowest axis": (LOWEST, 3, "axis -2147483648 is outside rank 2"),
    "uneven": (1, 3, "num_splits 3 does not divide size 4 of axis 1"),
    "no parts": (0, 0, "num_splits is 0, must be at least 1"),
    "negative": (0, -3, "num_splits is -3, must be at least 1"),
    "other outputs": (0, 2, "num_splits is 2, has 3 outputs"),
    "huge": (0, HUGE, "num_splits is 2147483647, limit 65536"),
}


@pytest.mark.parametrize("axis, num_splits, message", SPLIT_ERRORS.values(), ids=SPLIT_ERRORS)
def test_split_errors(axis, num_splits, message):
    x = tensor(F32, 6, 4)
    with pytest.raises(ModelError, match=message):
        verify(split(x, axis, num_splits))
    unknown = split(x, axis, num_splits, known=False)
    verify(unknown)
    with pytest.raises(ExecutionError, match=message):
        execute(unknown, [x.value, ints(axis), ints(num_splits)])


def test_split_needs_its_number_of_parts_while_building():
    b = Builder()
    x, parts = b.input("x", F32, (4,)), b.input("parts", INT32, ())
    with pytest.raises(ModelError, match="num_splits must be known here; make it a constant"):
        b.add_many("SPLIT", {"input": x, "axis": 0, "num_splits": parts})
    assert len(b.add_many("SPLIT", {"input": x, "axis": 0, "num_splits": parts}, [Operand(F32)] * 2)) == 2


# operation, inputs, output, level that takes it
LEVELS = {
    "float32": ("CONCATENATION", {"inputs": [X, X], "axis": 0}, None, 1),
    "float16": ("CONCATENATION", {"inputs": [tensor(F16, 2)], "axis": 0}, None, 3),
    "quant8, same": ("CONCATENATION", {"inputs": [tensor(Q8, 2)] * 2, "axis": 0}, Operand(Q8, scale=0.5), 1),
    "quant8, inputs differ": (
        "CONCATENATION", {"inputs": [tensor(Q8, 2), tensor(Q8, 2, scale=1.0)], "axis": 0}, Operand(Q8, scale=0.5), 3
    ),
    "quant8, output differs": ("CONCATENATION", {"inputs": [tensor(Q8, 2)], "axis": 0}, COARSE, 3),
    "signed, output differs": ("CONCATENATION", {"inputs": [tensor(Q8S, 2)], "axis": 0}, Operand(Q8S, scale=1.0), 4),
    "nothing": ("CONCATENATION", {"inputs": [X, EMPTY], "axis": 0}, None, 3),
    "pack": ("PACK", {"axis": 0, "inputs": [X, X]}, None, 6),
}  # fmt: skip


@pytest.mark.parametrize("operation, inputs, output, level", LEVELS.values(), ids=LEVELS)
def test_levels(single, operation, inputs, output, level):
    assert feature_level(single(operation, inputs, output)) == level


def test_pack_needs_equal_scales(single):
    with pytest.raises(ModelError, match=r"scales and zero points \[\(0.5, 0\), \(1.0, 0\)\], must be equal"):
        single("PACK", {"axis": 0, "inputs": [tensor(Q8, 2), tensor(Q8, 2, scale=1.0)]})


def test_concatenation_of_no_inputs():
    b = Builder()
    with pytest.raises(ModelError, match="no inputs, must have at least one"):
        b.add("CONCATENATION", {"inputs": [], "axis": 0}, Operand(F32))


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in joining.OPERATIONS} - {"SPLIT"}  # its several outputs have tests of their own
    assert {case[0] for case in GOLDEN.values()} == names == {case[0] for case in ERRORS.values()}
