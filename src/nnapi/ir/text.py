"""The readable form of a model, printed and parsed.

    model "double" {
      input %0 "x": TENSOR_FLOAT32[2, 2]
      const %1: TENSOR_FLOAT32[2] = [1.0, 2.0]
      %2 "y": TENSOR_FLOAT32[2, 2] = ADD(input0=%0, input1=%1, activation=0) "layer"
      output %2
    }

Scalars stand where they are used, with `:TYPE` behind them where the number alone would not say. A long constant is
written as the digest of its bytes; to parse it, hand over the arrays by digest (`long_constants`). Operands are
numbered in order of appearance, so two models with the same text are the same model. A body that appears more than once
is written where it first appears, `body %3 "" shared 1 "step" {...}`, and referred to elsewhere, `body %7 "" shared 1`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nnapi.errors import ModelError
from nnapi.ir.builder import Builder, Ref
from nnapi.ir.model import Model, Operation
from nnapi.ir.verify import operand_problem
from nnapi.ops.table import OPERATIONS
from nnapi.ops.types import BOOL, FLOAT32, INT32, MODEL, OMITTED, Array, ChannelQuant, Operand, OperandType

LIMIT = 16
"""Constants of more elements are written as a digest."""
_PLAIN_SCALAR = {INT32: int, FLOAT32: float, BOOL: bool}


def print_model(model: Model, *, limit: int = LIMIT) -> str:
    """The model as text; constants of more than `limit` elements become digests.

    >>> from nnapi.ops.types import F32
    >>> b = Builder("square")
    >>> x = b.input("x", F32, (2,))
    >>> b.output(b.add("MUL", {"input0": x, "input1": x, "activation": 1}, name="m"))
    >>> print(print_model(b.finish()))
    model "square" {
      input %0 "x": TENSOR_FLOAT32[2]
      %1 "m": TENSOR_FLOAT32[2] = MUL(input0=%0, input1=%0, activation=1) "m"
      output %1
    }
    """
    return "\n".join(_Printer(limit).lines(model))


def long_constants(model: Model, *, limit: int = LIMIT) -> dict[str, Array]:
    """The constants that `print_model` writes as digests, by digest, of the model and those it refers to."""
    found: dict[str, Array] = {}
    models = {id(model): model}
    waiting = [model]
    while waiting:
        for operand in waiting.pop().operands:
            value = operand.value
            if isinstance(value, Model) and id(value) not in models:
                models[id(value)] = value
                waiting.append(value)
            elif isinstance(value, np.ndarray) and value.size > limit:
                found[digest(value)] = value
    return found


def digest(array: Array) -> str:
    """16 hexadecimal digits that stand for an array's bytes."""
    return hashlib.blake2b(np.ascontiguousarray(array).view(np.uint8).data, digest_size=8).hexdigest()


class _Printer:
    """Writes a model and its bodies; bodies of the same text are the same body."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._keys: dict[int, int] = {}
        self._texts: dict[tuple[str, ...], int] = {}
        self._uses: Counter[int] = Counter()
        self._labels: dict[int, int] = {}

    def lines(self, model: Model) -> Iterator[str]:
        self._key(model)
        return _lines(model, self.limit, "model", self._body)

    def _body(self, head: str, body: Model) -> Iterator[str]:
        """A body where it is used: whole the first time."""
        key = self._key(body)
        if key in self._labels:
            return iter([f"{head} shared {self._labels[key]}"])
        if self._uses[key] > 1:
            self._labels[key] = len(self._labels) + 1
            head += f" shared {self._labels[key]}"
        return _lines(body, self.limit, head, self._body)

    def _key(self, model: Model) -> int:
        """A number for everything a model says; also counts where bodies are used."""
        if id(model) not in self._keys:
            read: list[int] = []

            def name(head: str, body: Model) -> Iterator[str]:
                read.append(self._key(body))
                return iter([f"{head} {read[-1]}"])

            text = tuple(_lines(model, self.limit, "", name))
            if text not in self._texts:
                self._texts[text] = len(self._texts)
                self._uses.update(read)
            self._keys[id(model)] = self._texts[text]
        return self._keys[id(model)]


def _lines(model: Model, limit: int, head: str, nested: Callable[[str, Model], Iterator[str]]) -> Iterator[str]:
    numbers: dict[int, str] = {}
    flags = " relaxed" if model.relaxed else ""
    metadata = f" {json.dumps(dict(model.metadata), sort_keys=True)}" if model.metadata else ""
    yield f"{head} {_quoted(model.name)}{flags}{metadata} {{"
    for i in model.inputs:
        numbers[i] = f"%{len(numbers)}"
        yield f"  input {_declared(numbers[i], model.operands[i])}"
    for operation in model.operations:
        arguments = []
        for name, i in zip(_names(model, operation), operation.inputs):
            operand = model.operands[i]
            if i not in numbers and not (operand.is_omitted or _is_inline(operand)):
                numbers[i] = f"%{len(numbers)}"
                if isinstance(operand.value, Model):
                    body = nested(f"body {numbers[i]} {_quoted(operand.name)}", operand.value)
                    yield from (f"  {line}" for line in body)
                elif operand.value is None:
                    yield f"  unwritten {_declared(numbers[i], operand)}"
                else:
                    yield f"  const {_declared(numbers[i], operand)} = {_value(operand.value, limit)}"
            text = numbers[i] if i in numbers else _inline(operand)
            arguments.append(f"{name}={text}" if name else text)
        for i in operation.outputs:
            numbers[i] = f"%{len(numbers)}"
        results = ", ".join(_declared(numbers[i], model.operands[i]) for i in operation.outputs)
        name = f" {_quoted(operation.name)}" if operation.name else ""
        yield f"  {results} = {operation.type}({', '.join(arguments)}){name}"
    yield f"  output {', '.join(numbers.get(i, '?') for i in model.outputs)}"
    yield "}"


def _names(model: Model, operation: Operation) -> list[str]:
    """A parameter name per input; empty where the operation has none."""
    none = [""] * len(operation.inputs)
    if operation.type not in OPERATIONS:
        return none
    try:
        call = model.call(operation)
    except ModelError:
        return none
    return [param.name for param, at in call.slots for _ in range(at.start, at.stop)]


def _is_inline(operand: Operand) -> bool:
    return operand.type not in (MODEL,) and not operand.type.is_tensor and isinstance(operand.value, np.ndarray)


def _inline(operand: Operand) -> str:
    if operand.is_omitted:
        return f"omitted:{_type(operand)}"
    text = _number(operand.value.reshape(())[()])
    return text if operand.type in _PLAIN_SCALAR else f"{text}:{operand.type.name}"


def _declared(number: str, operand: Operand) -> str:
    name = f" {_quoted(operand.name)}" if operand.name else ""
    return f"{number}{name}: {_type(operand)}"


def _type(operand: Operand) -> str:
    text = operand.type.name
    if operand.type.is_tensor:
        text += f"[{', '.join('?' if d == 0 else str(d) for d in operand.dimensions)}]"
    if operand.scale:
        text += f" scale={operand.scale!r}"
    if operand.zero_point:
        text += f" zero_point={operand.zero_point}"
    if operand.channel_quant is not None:
        text += f" axis={operand.channel_quant.axis} scales=[{', '.join(map(repr, operand.channel_quant.scales))}]"
    return text


def _value(array: Array, limit: int) -> str:
    if array.size > limit:
        return f"#{digest(array)}"
    return f"[{', '.join(_number(v) for v in array.ravel())}]"


def _number(value: Any) -> str:
    if isinstance(value, np.bool_):
        return "true" if value else "false"
    return str(value)


def _quoted(text: str) -> str:
    return json.dumps(text)


_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<operand>%\d+)|(?P<digest>\#[0-9a-f]{16})
    |(?P<number>[-+]?(?:inf|nan|\d+\.?\d*(?:e[-+]?\d+)?)(?![\w/]))
    |(?P<word>[A-Za-z_][\w./\-]*)|(?P<mark>[\[\](){}:,=?]))""",
    re.VERBOSE,
)


def parse_model(text: str, constants: Mapping[str, Array] | None = None) -> Model:
    """The model that `print_model` printed, verified; `constants` are the arrays behind digests.

    Raises ModelError naming the line where the text is not a model.
    """
    parser = _Parser(text, constants or {})
    parser.expect("model")
    model = parser.model()
    if parser.token is not None:
        parser.fail("text after the end of the model")
    return model


class _Parser:
    def __init__(self, text: str, constants: Mapping[str, Array]) -> None:
        self.text = text
        self.constants = constants
        self.at = self.end = 0
        self.kind: str | None = None
        self.token: str | None = None
        self.depth = 0
        self.shared: dict[int, Model] = {}
        self.advance()

    def fail(self, message: str) -> ModelError:
        line = self.text.count("\n", 0, self.end) + 1
        raise ModelError(f"line {line}: {message}", stage="load")

    def advance(self) -> str:
        last = self.token or ""
        if not self.text[self.end :].strip():
            self.kind = self.token = None
            return last
        match = _TOKEN.match(self.text, self.end)
        if match is None:
            self.fail(f"cannot read {self.text[self.end : self.end + 20].strip()!r}")
        assert match is not None
        self.at, self.end = self.end, match.end()
        self.kind = match.lastgroup
        self.token = match[match.lastgroup or 0]
        return last

    def take(self, kind: str) -> str:
        if self.kind != kind:
            self.fail(f"{self.token!r} where a {kind} should be")
        return self.advance()

    def expect(self, *tokens: str) -> str:
        if self.token not in tokens:
            self.fail(f"{self.token!r} where {' or '.join(tokens)} should be")
        return self.advance()

    def accept(self, token: str) -> bool:
        if self.token == token:
            self.advance()
            return True
        return False

    def string(self) -> str:
        text = self.take("string")
        try:
            return str(json.loads(text))
        except ValueError:
            raise self.fail(f"{text} is no string") from None

    def list_of(self, read: Any, close: str = "]") -> list[Any]:
        items: list[Any] = []
        while not self.accept(close):
            if items:
                self.expect(",")
            items.append(read())
        return items

    def number(self) -> str:
        if self.token in ("true", "false"):
            return self.advance()
        return self.take("number")

    def integer(self) -> int:
        text = self.take("number")
        if not re.fullmatch(r"[-+]?\d{1,18}", text):
            self.fail(f"{text} where an integer should be")
        return int(text)

    def model(self) -> Model:
        self.depth += 1
        if self.depth > 32:
            self.fail("models nest deeper than 32")
        builder = Builder(self.string())
        builder.relaxed = self.accept("relaxed")
        self.expect("{")
        if self.kind == "string":  # {"key": "value"}, then the body
            builder.metadata = self.metadata()
            self.expect("{")
        refs: dict[str, Ref] = {}
        while not self.accept("}"):
            self.statement(builder, refs)
        self.depth -= 1
        return builder.finish()

    def body(self) -> Model:
        """A model, or the number of one that was written before."""
        if not self.accept("shared"):
            return self.model()
        label = self.integer()
        if self.kind == "string":
            self.shared[label] = self.model()
        elif label not in self.shared:
            self.fail(f"shared {label} is used before it is written")
        return self.shared[label]

    def metadata(self) -> dict[str, str]:
        items = self.list_of(lambda: (self.string(), self.expect(":"), self.string()), "}")
        return {key: value for key, _, value in items}

    def statement(self, builder: Builder, refs: dict[str, Ref]) -> None:
        if self.accept("input"):
            number, operand = self.declared()
            refs[number] = builder.input_operand(operand)
        elif self.accept("const"):
            number, operand = self.declared()
            self.expect("=")
            refs[number] = builder.operand(self.constant(operand))
        elif self.accept("unwritten"):
            number, operand = self.declared()
            refs[number] = builder.operand(operand)
        elif self.accept("body"):
            number, name = self.take("operand"), self.string()
            refs[number] = builder.operand(Operand(MODEL, name=name, value=self.body()))
        elif self.accept("output"):
            names = [self.take("operand")]
            while self.accept(","):
                names.append(self.take("operand"))
            builder.output(*(self.known(refs, n) for n in names))
        else:
            self.operation(builder, refs)

    def known(self, refs: dict[str, Ref], number: str) -> Ref:
        if number not in refs:
            self.fail(f"{number} is used before it is written")
        return refs[number]

    def operation(self, builder: Builder, refs: dict[str, Ref]) -> None:
        results = [self.declared()]
        while self.accept(","):
            results.append(self.declared())
        self.expect("=")
        type = self.take("word")
        self.expect("(")
        inputs = self.list_of(lambda: self.argument(builder, refs), ")")
        name = self.string() if self.kind == "string" else ""
        outputs = builder.add_raw(type, inputs, [operand for _, operand in results], name=name)
        refs.update({number: ref for (number, _), ref in zip(results, outputs)})

    def argument(self, builder: Builder, refs: dict[str, Ref]) -> Ref:
        if self.kind == "word" and self.token not in ("true", "false", "omitted"):
            self.advance()
            self.expect("=")
        if self.kind == "operand":
            return self.known(refs, self.advance())
        if self.accept("omitted"):
            self.expect(":")
            return builder.operand(replace(self.type(), value=OMITTED))
        text = self.number()
        if self.accept(":"):
            type = self.operand_type()
        else:
            type = BOOL if text in ("true", "false") else INT32 if re.fullmatch(r"[-+]?\d+", text) else FLOAT32
        return builder.constant(self.array(Operand(type), [text]), Operand(type))

    def declared(self) -> tuple[str, Operand]:
        number = self.take("operand")
        name = self.string() if self.kind == "string" else ""
        self.expect(":")
        return number, replace(self.type(), name=name)

    def operand_type(self) -> OperandType:
        word = self.take("word")
        if word not in OperandType.__members__:
            self.fail(f"{word} is no operand type")
        return OperandType[word]

    def type(self) -> Operand:
        type = self.operand_type()
        dimensions: list[int] = []
        if type.is_tensor:
            self.expect("[")
            dimensions = self.list_of(lambda: 0 if self.accept("?") else self.integer())
        fields: dict[str, Any] = {}
        while self.token in ("scale", "zero_point", "axis", "scales"):
            key = self.advance()
            self.expect("=")
            if key == "scales":
                self.expect("[")
                fields[key] = self.list_of(lambda: float(self.take("number")))
            else:
                fields[key] = float(self.take("number")) if key == "scale" else self.integer()
        channel = ChannelQuant(tuple(fields["scales"]), fields.get("axis", 0)) if "scales" in fields else None
        return Operand(type, tuple(dimensions), fields.get("scale", 0.0), fields.get("zero_point", 0), channel)

    def constant(self, operand: Operand) -> Operand:
        problem = operand_problem(operand)
        if problem:
            self.fail(problem)
        if self.kind == "digest":
            key = self.advance()[1:]
            if key not in self.constants:
                self.fail(f"constant #{key} is not given; print with a higher limit or pass constants=")
            value = self.constants[key]
        else:
            self.expect("[")
            value = self.array(operand, self.list_of(self.number))
        return replace(operand, value=value)

    def array(self, operand: Operand, texts: list[str]) -> Array:
        if operand.elements != len(texts):
            self.fail(f"{len(texts)} values for dimensions {operand.dimensions}")
        dtype = operand.type.dtype
        try:
            if dtype.kind == "b":
                values: list[Any] = [{"true": True, "false": False}[t] for t in texts]
            else:
                values = [float(t) if dtype.kind == "f" else int(t) for t in texts]
            return np.array(values, dtype).reshape(operand.dimensions)
        except (KeyError, ValueError, OverflowError, TypeError):
            raise self.fail(f"{', '.join(texts[:4])} ... are no values of {operand.type.name}") from None
