"""Activation functions: against PyTorch, by hand, quantized against real values, and at the edges."""

import numpy as np
import pytest

from nnapi.errors import ModelError
from nnapi.ir.verify import feature_level
from nnapi.ops import activation
from nnapi.ops.types import F16, F32, I32, Q8, Q8S, Operand

torch = pytest.importorskip("torch")
functional = torch.nn.functional

INF, NAN = np.inf, np.nan
FLOAT32 = 1e-6  # a few units in the last place, two libraries
FLOAT16 = 1e-3  # one rounding to 11 bits
UNIT = Operand(Q8, (), 1 / 256, 0)


def tensor(type, values, scale=0.0, zero_point=0):
    return Operand(type, (), scale, zero_point).with_value(np.array(values, type.dtype))


# name: operation, further inputs, PyTorch's function
REFERENCES = {
    "RELU": ("RELU", {}, torch.relu),
    "RELU1": ("RELU1", {}, lambda x: torch.clamp(x, -1, 1)),
    "RELU6": ("RELU6", {}, functional.relu6),
    "LOGISTIC": ("LOGISTIC", {}, torch.sigmoid),
    "TANH": ("TANH", {}, torch.tanh),
    "HARD_SWISH": ("HARD_SWISH", {}, functional.hardswish),
    "ELU": ("ELU", {"alpha": 1.0}, functional.elu),
    "ELU alpha": ("ELU", {"alpha": 0.3}, lambda x: functional.elu(x, 0.3)),
    "SOFTMAX": ("SOFTMAX", {"beta": 1.0}, lambda x: torch.softmax(x, -1)),
    "SOFTMAX beta axis": ("SOFTMAX", {"beta": 0.5, "axis": 1}, lambda x: torch.softmax(0.5 * x, 1)),
    "SOFTMAX first axis": ("SOFTMAX", {"beta": 1.0, "axis": -4}, lambda x: torch.softmax(x, 0)),
    "LOG_SOFTMAX": ("LOG_SOFTMAX", {"beta": 1.0, "axis": -1}, lambda x: torch.log_softmax(x, -1)),
    "LOG_SOFTMAX beta axis": ("LOG_SOFTMAX", {"beta": 2.0, "axis": 2}, lambda x: torch.log_softmax(2 * x, 2)),
    "PRELU": ("PRELU", {"alpha": np.float32([-0.5, 0, 0.25, 0.5, 2])}, lambda x: torch.where(
        x < 0, x * torch.tensor([-0.5, 0, 0.25, 0.5, 2]), x)),
}  # fmt: skip
QUANTIZED = {name: row for name, row in REFERENCES.items() if row[0] not in ("ELU", "LOG_SOFTMAX")}
# id: operation, inputs, output where it is not determined, expected
GOLDEN = {
    "RELU edges": ("RELU", {"input": tensor(F32, [-INF, -0.5, 3, INF, NAN])}, None, [0, 0, 3, INF, NAN]),
    "RELU quant8": ("RELU", {"input": tensor(Q8, [0, 9, 10, 255], 0.5, 10)}, None, [10, 10, 10, 255]),
    "RELU1 edges": ("RELU1", {"input": tensor(F32, [-INF, -0.5, 3, NAN])}, None, [-1, -0.5, 1, NAN]),
    "RELU1 signed": ("RELU1", {"input": tensor(Q8S, [-128, 8, 11, 127], 0.5, 10)}, None, [8, 8, 11, 12]),
    "RELU6 quant8": ("RELU6", {"input": tensor(Q8, [0, 15, 22, 23], 0.5, 10)}, None, [10, 15, 22, 22]),
    "RELU6 out of reach": ("RELU6", {"input": tensor(Q8, [0, 255], 0.01, 0)}, None, [0, 255]),
    "LOGISTIC edges": ("LOGISTIC", {"input": tensor(F32, [-INF, -200, 0, 200, NAN])}, None, [0, 0, 0.5, 1, NAN]),
    "LOGISTIC quant8": ("LOGISTIC", {"input": tensor(Q8, [0, 128, 136, 255], 0.125, 128)}, None, [0, 128, 187, 255]),
    "LOGISTIC signed": ("LOGISTIC", {"input": tensor(Q8S, [-128, 0, 8], 0.125, 0)}, None, [-128, 0, 59]),
    "TANH edges": ("TANH", {"input": tensor(F32, [-INF, 0, INF, NAN])}, None, [-1, 0, 1, NAN]),
    "TANH quant8": ("TANH", {"input": tensor(Q8, [0, 128, 136, 255], 0.125, 128)}, None, [0, 128, 225, 255]),
    "TANH signed": ("TANH", {"input": tensor(Q8S, [-128, 0, 8, 127], 0.125, 0)}, None, [-128, 0, 97, 127]),
    "ELU edges": ("ELU", {"input": tensor(F32, [-INF, 0, 500, INF, NAN]), "alpha": 2.0}, None, [-2, 0, 500, INF, NAN]),
    "ELU alpha 0": ("ELU", {"input": tensor(F32, [-1, 500]), "alpha": 0.0}, None, [0, 500]),
    "HARD_SWISH edges": ("HARD_SWISH", {"input": tensor(F32, [-3, 0, 1, 3, INF])}, None, [0, 0, 2 / 3, 3, INF]),
    "HARD_SWISH quant8": (
        "HARD_SWISH", {"input": tensor(Q8, [98, 118, 128, 138, 168], 0.1, 128)}, Operand(Q8, (), 0.05, 8),
        [8, 1, 8, 21, 88],
    ),
    "PRELU edges": (
        "PRELU", {"input": tensor(F32, [-2, 3, -INF, NAN]), "alpha": tensor(F32, [0.5])}, None, [-1, 3, -INF, NAN],
    ),
    "PRELU quant8": (
        "PRELU", {"input": tensor(Q8, [[0, 10], [20, 255]], 0.5, 10), "alpha": tensor(Q8, [48, 52], 0.25, 50)},
        Operand(Q8, (), 0.25, 20), [[30, 20], [40, 255]],
    ),
    "SOFTMAX masked": (
        "SOFTMAX", {"input": tensor(F32, [[1, -INF, 1], [1, NAN, 1]]), "beta": 1.0}, None,
        [[0.5, 0, 0.5], [NAN, NAN, NAN]],
    ),
    "SOFTMAX large": ("SOFTMAX", {"input": tensor(F32, [[1e30, 1e30]]), "beta": 1e10}, None, [[0.5, 0.5]]),
    "SOFTMAX quant8": ("SOFTMAX", {"input": tensor(Q8, [[7, 7], [0, 255]], 0.5, 3), "beta": 1.0}, None,
                       [[128, 128], [0, 255]]),
    "SOFTMAX signed": ("SOFTMAX", {"input": tensor(Q8S, [[7, 7], [0, 100]], 0.5, 3), "beta": 1.0}, None,
                       [[0, 0], [-128, 127]]),
    "LOG_SOFTMAX far": (
        "LOG_SOFTMAX", {"input": tensor(F32, [[0, 1000]]), "beta": 1.0, "axis": 1}, None, [[-1000, 0]],
    ),
}  # fmt: skip
# id: operation, valid inputs, change, message, output
ERRORS = {
    "RELU": ("RELU", {"input": tensor(F32, [1])}, {"input": tensor(I32, [1])}, "input is TENSOR_INT32, must be"),
    "RELU1": ("RELU1", {"input": tensor(F32, [1])}, {"input": tensor(F32, np.ones((1,) * 5))}, "rank 5, must have"),
    "RELU6": ("RELU6", {"input": tensor(F32, [1])}, {"input": tensor(F32, np.ones((1,) * 5))}, "rank 5, must have"),
    "LOGISTIC": ("LOGISTIC", {"input": tensor(F32, [1])}, {"input": tensor(I32, [1])}, "input is TENSOR_INT32"),
    "TANH": ("TANH", {"input": tensor(F32, [1])}, {"input": tensor(F16, [1])}, "output is TENSOR_FLOAT32, must be"),
    "HARD_SWISH": ("HARD_SWISH", {"input": tensor(F32, [1])}, {"input": tensor(I32, [1])}, "input is TENSOR_INT32"),
    "ELU": ("ELU", {"input": tensor(F32, [1]), "alpha": 1.0}, {"input": tensor(Q8, [1], 1.0)}, "TENSOR_QUANT8_ASYMM"),
    "PRELU": (
        "PRELU", {"input": tensor(F32, [[1, 2]]), "alpha": tensor(F32, [1, 2])}, {"alpha": np.ones(3)},
        r"input and alpha do not broadcast: \(1, 2\) and \(3,\)",
    ),
    "SOFTMAX axis": (
        "SOFTMAX", {"input": tensor(F32, [[1]]), "beta": 1.0, "axis": 1}, {"axis": 2}, "axis 2 is outside rank 2",
    ),
    "SOFTMAX beta": ("SOFTMAX", {"input": tensor(F32, [[1]]), "beta": 1.0}, {"beta": 0.0}, "beta is 0.0, must be pos"),
    "SOFTMAX beta nan": ("SOFTMAX", {"input": tensor(F32, [[1]]), "beta": 1.0}, {"beta": NAN}, "beta is nan, must be"),
    "LOG_SOFTMAX": (
        "LOG_SOFTMAX", {"input": tensor(F32, [[1]]), "beta": 1.0, "axis": 0}, {"axis": -3}, "axis -3 is outside rank 2",
    ),
}  # fmt: skip
# id: operation, inputs, level that takes it
LEVELS = {
    "RELU": ("RELU", {"input": tensor(F32, [1])}, 1),
    "RELU quant8": ("RELU", {"input": tensor(Q8, [1], 1.0)}, 1),
    "RELU float16": ("RELU", {"input": tensor(F16, [1])}, 3),
    "RELU6 signed": ("RELU6", {"input": tensor(Q8S, [1], 1.0)}, 4),
    "TANH quant8": ("TANH", {"input": tensor(Q8, [1], 1.0)}, 3),
    "LOGISTIC quant8": ("LOGISTIC", {"input": tensor(Q8, [1], 1.0)}, 1),
    "SOFTMAX": ("SOFTMAX", {"input": tensor(F32, [[1]]), "beta": 1.0}, 1),
    "SOFTMAX default axis": ("SOFTMAX", {"input": tensor(F32, [[1]]), "beta": 1.0, "axis": -1}, 1),
    "SOFTMAX axis": ("SOFTMAX", {"input": tensor(F32, [[1]]), "beta": 1.0, "axis": 0}, 3),
    "SOFTMAX rank 3": ("SOFTMAX", {"input": tensor(F32, [[[1]]]), "beta": 1.0}, 3),
    "SOFTMAX rank 3 default axis": ("SOFTMAX", {"input": tensor(F32, [[[1]]]), "beta": 1.0, "axis": -1}, 3),
    "PRELU": ("PRELU", {"input": tensor(F32, [1]), "alpha": tensor(F32, [1])}, 3),
    "ELU": ("ELU", {"input": tensor(F32, [1]), "alpha": 1.0}, 4),
    "HARD_SWISH": ("HARD_SWISH", {"input": tensor(F32, [1])}, 4),
}


@pytest.mark.parametrize("type, tolerance", [(F32, FLOAT32), (F16, FLOAT16)], ids=["float32", "float16"])
@pytest.mark.parametrize("operation, inputs, function", REFERENCES.values(), ids=REFERENCES)
def test_against_pytorch(apply, operation, inputs, function, type, tolerance):
    x = np.linspace(-9, 9, 120, dtype=np.float32).reshape(2, 3, 4, 5)
    expected = function(torch.from_numpy(x.astype(type.dtype).astype(np.float32))).numpy()
    given = {k: tensor(type, v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    # Relative, and absolute near zero: 1 / (1 + e^9) and the like.
    np.testing.assert_allclose(
        apply(operation, {"input": tensor(type, x), **given}).astype(np.float32), expected, tolerance, 1e-6
    )


@pytest.mark.parametrize("operation, inputs, output, expected", GOLDEN.values(), ids=GOLDEN)
def test_golden(apply, operation, inputs, output, expected):
    # float32: the last digit of e^x differs between machines.
    np.testing.assert_allclose(apply(operation, inputs, output), expected, FLOAT32)


@pytest.mark.parametrize("type", [Q8, Q8S], ids=["unsigned", "signed"])
@pytest.mark.parametrize("operation, inputs, function", QUANTIZED.values(), ids=QUANTIZED)
def test_quantized_is_the_real_function(apply, operation, inputs, function, type):
    """Every stored value gives the real function's value, rounded once."""
    low = np.iinfo(type.dtype).min
    stored = np.arange(256).astype(np.int16).reshape(2, 4, 4, 8)[..., :5] + low
    x = tensor(type, stored, 1 / 16, low + 128)
    given = {k: tensor(type, v * 4 + low + 128, 0.25, low + 128) if k == "alpha" else v for k, v in inputs.items()}
    free = Operand(type, (), 1 / 8, low + 128)
    unit, symmetric = Operand(type, (), 1 / 256, low), Operand(type, (), 1 / 128, low + 128)
    output = {"LOGISTIC": unit, "SOFTMAX": unit, "TANH": symmetric, "HARD_SWISH": free, "PRELU": free}.get(operation, x)
    real = function(torch.from_numpy((stored - low - 128).astype(np.float32) / 16)).numpy()
    expected = np.clip(real / output.scale + output.zero_point, low, low + 255)
    result = apply(operation, {"input": x, **given}, output)
    assert np.abs(result - expected).max() <= 0.5 + 1e-3  # one rounding, and a function that is 1e-6 off


@pytest.mark.parametrize("operation, valid, change, message", ERRORS.values(), ids=ERRORS)
def test_refused(refuses, operation, valid, change, message):
    refuses(operation, valid, change, message)


@pytest.mark.parametrize("operation, output", [
    ("LOGISTIC", Operand(Q8, (), 1 / 128, 0)), ("LOGISTIC", Operand(Q8, (), 1 / 256, 128)), ("TANH", UNIT),
    ("SOFTMAX", Operand(Q8, (), 1 / 255, 0)), ("RELU", UNIT), ("RELU6", UNIT), ("RELU1", UNIT),
])  # fmt: skip
def test_output_quantization_is_fixed(single, operation, output):
    inputs = {"input": tensor(Q8, [[1]], 0.5)} | ({"beta": 1.0} if operation == "SOFTMAX" else {})
    with pytest.raises(ModelError, match=r"output has scale and zero point .*, must have"):
        single(operation, inputs, output)


@pytest.mark.parametrize("operation, inputs, level", LEVELS.values(), ids=LEVELS)
def test_level(single, operation, inputs, level):
    assert feature_level(single(operation, inputs)) == level


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 2, 3, 1)], ids=str)
@pytest.mark.parametrize("operation", [op.name for op in activation.OPERATIONS])
def test_nothing_in_nothing_out(apply, operation, shape):
    further = {"SOFTMAX": {"beta": 1.0}, "LOG_SOFTMAX": {"beta": 1.0, "axis": 0}, "ELU": {"alpha": 1.0},
               "PRELU": {"alpha": tensor(F32, [0.5])}}.get(operation, {})  # fmt: skip
    assert apply(operation, {"input": tensor(F32, np.zeros(shape)), **further}).shape == shape


def test_every_operation_has_a_golden_and_an_error_case():
    names = {op.name for op in activation.OPERATIONS}
    assert {case[0] for case in GOLDEN.values()} == names == {case[0] for case in ERRORS.values()}
