"""IF and WHILE: which model runs, what is carried from one iteration to the next, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from arrays import ints
from nnapi.drivers.reference import execute
from nnapi.errors import ExecutionError, MissedDeadline, ModelError
from nnapi.ir.builder import Builder
from nnapi.ir.verify import feature_level, verify
from nnapi.ops.types import B8, F32, I32, INT32, MODEL, OMITTED, Q8, Operand

VECTOR = Operand(F32, (2,))
COUNTER = Operand(I32, (1,))
TRUTH = Operand(B8, (1,))
QUANTIZED = Operand(Q8, (2,), 0.5, 3)


def binary(type, given=VECTOR, value=1.0):
    """x -> one operation of x and a constant."""
    b = Builder(type.lower())
    x = b.input_operand(given)
    constant = b.constant(np.full((1,), value, given.type.dtype), replace(given, dimensions=(1,)))
    b.output(b.add(type, {"input0": x, "input1": constant, "activation": 0}, given))
    return b.finish()


def choice(then_model, else_model, given=VECTOR, output=VECTOR, condition=TRUTH):
    """A model of one IF, checked by nobody."""
    b = Builder("choice")
    inputs = [b.operand(condition) if condition.is_constant else b.input_operand(condition)]
    inputs += [b.model(then_model), b.model(else_model)]
    inputs += [b.operand(given) if given.is_constant else b.input_operand(given)]
    b.output(*b.add_raw("IF", inputs, [output]))
    return b.finish(check=False)


def below(limit, carried, tested=0):
    """Operands `carried` -> whether the one of index `tested` is below `limit`."""
    b = Builder("condition")
    refs = [b.input_operand(o) for o in carried]
    bound = b.constant(np.full((1,), limit, carried[tested].type.dtype))
    result = b.add("LESS", {"input0": refs[tested], "input1": bound})
    b.output(result)
    return b.finish()


def loop(condition, body, inputs, outputs):
    """A model of one WHILE, checked by nobody; constants among the inputs stay constants."""
    b = Builder("loop")
    refs = [b.model(condition), b.model(body)]
    refs += [b.operand(o) if o.is_constant else b.input_operand(o) for o in inputs]
    b.output(*b.add_raw("WHILE", refs, outputs))
    return b.finish(check=False)


def counting(step=1):
    """i, total, x -> i + step, total + x: x is read, i is only carried when it is not asked for."""
    b = Builder("body")
    total, i, x = b.input_operand(VECTOR), b.input_operand(COUNTER), b.input_operand(VECTOR)
    b.output(b.add("ADD", {"input0": total, "input1": x, "activation": 0}))
    b.output(b.add("ADD", {"input0": i, "input1": b.constant(ints(step)), "activation": 0}))
    return b.finish()


COUNTED = (VECTOR, COUNTER, VECTOR)


def floats(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize("truth, expected", [(True, [2, 3]), (False, [0, 1])])
def test_if_runs_one_model(truth, expected):
    model = choice(binary("ADD"), binary("SUB"))
    verify(model)
    (result,) = execute(model, [np.array([truth]), floats(1, 2)])
    assert result.tolist() == expected


def test_if_on_a_constant():
    model = choice(binary("ADD"), binary("SUB"), condition=TRUTH.with_value(np.array([False])))
    verify(model)
    assert execute(model, [floats(1, 2)])[0].tolist() == [0, 1]


@pytest.mark.parametrize("dimensions", [(0,), ()], ids=["unknown size", "unknown rank"])
def test_if_where_shapes_are_unknown(dimensions):
    inside = Operand(F32, dimensions)
    model = choice(binary("ADD", inside), binary("SUB", inside), output=Operand(F32, dimensions))
    verify(model)
    assert execute(model, [np.array([True]), floats(1, 2)])[0].tolist() == [2, 3]


@pytest.mark.parametrize("truth, shape", [(True, (4,)), (False, (2,))])
def test_branches_may_give_different_shapes(truth, shape):
    b = Builder("twice")
    x = b.input_operand(VECTOR)
    b.output(b.add("CONCATENATION", {"inputs": [x, x], "axis": 0}))
    model = choice(b.finish(), binary("SUB"), output=Operand(F32, (0,)))
    verify(model)
    assert execute(model, [np.array([truth]), floats(1, 2)])[0].shape == shape


def test_if_passes_an_omitted_input_on():
    b = Builder("squeeze")
    x, axes = b.input("x", F32, (1, 2, 1)), b.input("axes", I32, (1,))
    b.output(b.add("SQUEEZE", {"input": x, "axes": axes}))
    squeeze = b.finish()
    b = Builder("caller")
    truth, x = b.input_operand(TRUTH), b.input("x", F32, (1, 2, 1))
    refs = [truth, b.model(squeeze), b.model(squeeze), x, b.omitted(I32)]
    b.output(*b.add_raw("IF", refs, [Operand(F32)]))
    model = b.finish()
    assert execute(model, [np.array([True]), np.ones((1, 2, 1), np.float32)])[0].shape == (2,)


def test_nested():
    inner = choice(binary("ADD"), binary("SUB"))
    b = Builder("outer")
    truth, x = b.input_operand(TRUTH), b.input_operand(VECTOR)
    refs = {"condition": truth, "then_model": inner, "else_model": inner, "inputs": [truth, x]}
    b.output(*b.add_many("IF", refs, [VECTOR]))
    model = b.finish()
    assert execute(model, [np.array([True]), floats(1, 2)])[0].tolist() == [2, 3]


@pytest.mark.parametrize("start, iterations", [(0, 3), (2, 1), (3, 0), (7, 0)])
def test_while(start, iterations):
    model = loop(below(3, COUNTED, 1), counting(), COUNTED, [VECTOR, COUNTER])
    verify(model)
    x = floats(10, 20)
    total, i = execute(model, [floats(1, 2), ints(start), x])
    assert total.tolist() == [1 + 10 * iterations, 2 + 20 * iterations]
    assert i.tolist() == [start + iterations]
    assert not np.shares_memory(total, x)


def test_state_is_carried_but_not_given():
    b = Builder("caller")
    inputs = [b.input_operand(o) for o in COUNTED]
    given = {"condition_model": below(3, COUNTED, 1), "body_model": counting(), "inputs": inputs}
    b.output(*b.add_many("WHILE", given, [VECTOR]))
    model = b.finish()
    (total,) = execute(model, [floats(0, 0), ints(0), floats(1, 2)])
    assert total.tolist() == [3, 6]


def growing(dimensions):
    """A loop that appends to its first value until its second is 3."""
    values, one = Operand(F32, dimensions), Operand(F32, (1,))
    b = Builder("append")
    x, i = b.input_operand(values), b.input_operand(COUNTER)
    joined = b.add("CONCATENATION", {"inputs": [x, b.constant(np.ones(1, np.float32), one)], "axis": 0})
    b.output(joined, b.add("ADD", {"input0": i, "input1": b.constant(ints(1)), "activation": 0}))
    return loop(below(3, (values, COUNTER), 1), b.finish(), (Operand(F32, (2,)), COUNTER), [Operand(F32, (0,))])


@pytest.mark.parametrize("start", [0, 2, 3])
def test_shapes_may_change_between_iterations(start):
    model = growing((0,))
    verify(model)
    (result,) = execute(model, [floats(5, 6), ints(start)])
    assert result.tolist() == [5, 6] + [1] * (3 - start)


def test_a_shape_that_the_models_fix_may_not_change():
    with pytest.raises(ModelError, match=r"carried by body_model 0 has shape \(3,\), \(2,\) in the referenced model"):
        verify(growing((2,)))


def test_nested_loops():
    b = Builder("body")
    total, i, x = (b.input_operand(o) for o in COUNTED)
    inputs = [total, b.constant(ints(0)), x]
    given = {"condition_model": below(3, COUNTED, 1), "body_model": counting(), "inputs": inputs}
    sums = b.add_many("WHILE", given, [VECTOR])
    b.output(*sums, b.add("ADD", {"input0": i, "input1": b.constant(ints(1)), "activation": 0}))
    model = loop(below(2, COUNTED, 1), b.finish(), COUNTED, [VECTOR])
    verify(model)
    assert execute(model, [floats(0, 0), ints(0), floats(1, 2)])[0].tolist() == [6, 12]


def test_a_loop_without_end_stops():
    model = loop(below(3, COUNTED, 1), counting(step=0), COUNTED, [VECTOR])
    verify(model)
    with pytest.raises(MissedDeadline, match="WHILE did not finish within its deadline"):
        execute(model, [floats(0, 0), ints(0), floats(1, 2)], loop_timeout=0.02)


def test_the_execution_s_deadline_stops_a_loop_too():
    model = loop(below(3, COUNTED, 1), counting(step=0), COUNTED, [VECTOR])
    with pytest.raises(MissedDeadline):
        execute(model, [floats(0, 0), ints(0), floats(1, 2)], deadline=0.02)


def two_outputs():
    b = Builder("two")
    x = b.input_operand(VECTOR)
    b.output(*(b.add("ADD", {"input0": x, "input1": x, "activation": 0}) for _ in range(2)))
    return b.finish()


PLUS, MINUS, LESS = binary("ADD"), binary("SUB"), below(3.0, (VECTOR,))
ONE_LESS = below(3.0, (Operand(F32, (1,)),))
ONE_PLUS = binary("ADD", Operand(F32, (1,)))
ONE = Operand(F32, (1,))
QUANT_PLUS, OTHER_PLUS = binary("ADD", QUANTIZED), binary("ADD", replace(QUANTIZED, scale=0.25))
SHIFTED_PLUS = binary("ADD", replace(QUANTIZED, zero_point=4))
# a model, and what is wrong with it
ERRORS = {
    "omitted condition": (
        choice(PLUS, MINUS, condition=Operand(B8, (1,), value=OMITTED)), "IF: condition is omitted, must be given"
    ),
    "condition type": (choice(PLUS, MINUS, condition=COUNTER), "condition is TENSOR_INT32, must be TENSOR_BOOL8"),
    "condition size": (choice(PLUS, MINUS, condition=Operand(B8, (2,))), r"condition has shape \(2,\)"),
    "condition of unknown size": (choice(PLUS, MINUS, condition=Operand(B8, (0,))), r"has shape \(None,\), must"),
    "input type": (
        choice(PLUS, MINUS, given=Operand(I32, (2,))), "input 0 is TENSOR_INT32, TENSOR_FLOAT32 in the referenced"
    ),
    "input shape": (
        choice(PLUS, MINUS, given=Operand(F32, (3,))), r"input 0 has shape \(3,\), \(2,\) in the referenced model"
    ),
    "output shape": (choice(PLUS, MINUS, output=Operand(F32, (2, 1))), r"output 0 has shape \(2, 1\), \(2,\) in"),
    "output type": (choice(PLUS, MINUS, output=Operand(I32, (2,))), "output 0 is TENSOR_INT32, TENSOR_FLOAT32"),
    "else input": (choice(PLUS, binary("SUB", COUNTER, 1)), "input 0 is TENSOR_FLOAT32, TENSOR_INT32 in the"),
    "outputs": (choice(two_outputs(), two_outputs()), "has 1 outputs, there are 2 in the referenced model"),
    "inputs": (choice(counting(), counting()), "has 1 inputs, there are 3 in the referenced model"),
    "scale": (choice(QUANT_PLUS, OTHER_PLUS, QUANTIZED, QUANTIZED), "input 0 has scale 0.5, 0.25 in the referenced"),
    "zero point": (choice(SHIFTED_PLUS, QUANT_PLUS, QUANTIZED, QUANTIZED), "input 0 has zero point 3, 4 in the refer"),
    "no truth": (loop(PLUS, PLUS, [VECTOR], [VECTOR]), r"condition_model gives TENSOR_FLOAT32 \(2,\), must give"),
    "many truths": (loop(LESS, PLUS, [VECTOR], [VECTOR]), r"gives TENSOR_BOOL8 \(2,\), must give TENSOR_BOOL8 \(1,\)"),
    "two conditions": (loop(two_outputs(), PLUS, [VECTOR], [VECTOR]), "condition_model has 2 outputs, must have 1"),
    "more outputs": (
        loop(ONE_LESS, ONE_PLUS, [ONE], [ONE, ONE]), "gives 2 of the 1 outputs of body_model, .* must give 1 to 1"
    ),
    "carried input omitted": (
        loop(ONE_LESS, ONE_PLUS, [Operand(F32, (1,), value=OMITTED)], [ONE]), "input 0 is omitted, but the loop"
    ),
    "carried type": (
        loop(below(3, COUNTED, 1), counting(), (VECTOR, COUNTER, COUNTER), [VECTOR]), "input 2 is TENSOR_INT32"
    ),
}  # fmt: skip


@pytest.mark.parametrize("model, message", ERRORS.values(), ids=ERRORS)
def test_errors(model, message):
    with pytest.raises(ModelError, match=message):
        verify(model)


def test_a_loop_gives_something():
    model = loop(ONE_LESS, ONE_PLUS, [ONE], [])
    call = model.call(model.operations[0])
    with pytest.raises(ModelError, match="gives 0 of the 1 outputs"):
        call.op.infer(call)


def test_no_model():
    b = Builder()
    wrong = b.operand(Operand(MODEL, value=ints(1)))
    b.output(*b.add_raw("IF", [b.input_operand(TRUTH), wrong, wrong, b.input_operand(VECTOR)], [VECTOR]))
    with pytest.raises(ModelError, match="holds no model"):
        b.finish()


def test_shapes_that_only_execution_knows_are_checked():
    model = choice(PLUS, MINUS, given=Operand(F32, (0,)), output=Operand(F32, (0,)))
    verify(model)
    with pytest.raises(ExecutionError, match=r"input 0 has shape \(3,\), \(2,\) in the referenced model"):
        execute(model, [np.array([True]), floats(1, 2, 3)])


def test_without_an_execution_nothing_runs():
    for model in (choice(PLUS, MINUS, VECTOR.with_value(floats(1, 2)), condition=TRUTH.with_value(np.array([True]))),
                  loop(ONE_LESS, ONE_PLUS, [ONE.with_value(floats(1))], [ONE])):  # fmt: skip
        call = model.call(model.operations[0])
        with pytest.raises(ModelError, match="runs other models, which only an execution can"):
            call.op.reference(call)


def test_scalars_pass():
    b = Builder("fill")
    dims, value = b.input("dims", I32, (1,)), b.input("value", INT32, ())
    b.output(b.add("FILL", {"dims": dims, "value": value}, Operand(I32)))
    fill = b.finish()
    b = Builder("caller")
    refs = [
        b.input_operand(TRUTH),
        b.model(fill),
        b.model(fill),
        b.input("dims", I32, (1,)),
        b.input("value", INT32, ()),
    ]
    b.output(*b.add_raw("IF", refs, [Operand(I32, (0,))]))
    model = b.finish()
    assert execute(model, [np.array([True]), ints(3), np.int32(7)])[0].tolist() == [7, 7, 7]


@pytest.mark.parametrize("model", [choice(PLUS, MINUS), loop(ONE_LESS, ONE_PLUS, [ONE], [ONE])], ids=["IF", "WHILE"])
def test_level(model):
    assert feature_level(model) == 4
    with pytest.raises(ModelError, match=r"needs feature level 4 \(Android 11\), the target has 3"):
        verify(model, level=3)
