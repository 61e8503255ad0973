"""Calls NNAPI's functions in random order on random arguments: python fuzz.py LIBRARY SEED CALLS.

Most arguments are right, so that calls get far; the others are null, freed, foreign, out of range, too long. Every
answer must be a result code, and nothing may be left hanging. Prints how often each code was answered, as JSON.
"""

from __future__ import annotations

import collections
import json
import os
import random
import resource
import sys
from collections.abc import Callable
from typing import Any

from native import Client
from nnapi.capi.header import Function, Parameter, functions, handles

ARENA = 1 << 20
"""Bytes behind every pointer that is not null: no length that is believed reaches beyond."""
ODD = (0, 1, 2, 3, 4, 7, 12, 15, 16, 17, 64, 128, 129, 4096, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
LIMITS = {"uint16_t": 2**16, "uint32_t": 2**32, "uint64_t": 2**64, "size_t": 2**64, "bool": 2}
RIGHT = 0.93
"""How likely an argument is right."""


class Fuzzer:
    """A random client."""

    def __init__(self, nn: Client, seed: int) -> None:
        self.nn = nn
        self.ffi = nn.ffi
        self.random = random.Random(seed)
        self.arena = self.ffi.new("char[]", self.random.randbytes(ARENA))
        self.alive: dict[str, list[Any]] = {name: [] for name in handles()}
        self.freed: list[Any] = []
        self.kept: list[Any] = []
        self.operands: dict[Any, int] = collections.defaultdict(int)
        self.answers: collections.Counter[int] = collections.Counter()
        self.fd = os.memfd_create("nnapi-fuzz")
        os.ftruncate(self.fd, ARENA)
        self.all = [f for f in functions() if not f.name.endswith("_free")]
        self.frees = [f for f in functions() if f.name.endswith("_free")]

    def step(self) -> None:
        """One call, or a whole model at once: chance alone hardly builds one."""
        if self.random.random() < 0.05:
            self.build()
        elif self.random.random() < 0.1:
            self.call(self.random.choice(self.frees))
        else:
            self.call(self.random.choice(self.all))
        self.kept.clear()

    def build(self) -> None:
        """A sum, compiled, with an execution that is ready."""
        nn = self.nn
        model = self.made("Model_create")
        tensor = nn.type(nn.TENSOR_FLOAT32, (4,))
        for type in (tensor, tensor, nn.type(nn.INT32), tensor):
            nn.ok("Model_addOperand", model, type)
        nn.ok("Model_setOperandValue", model, 2, self.ffi.new("int32_t*"), 4)
        nn.ok("Model_addOperation", model, nn.ADD, 3, nn.indexes(0, 1, 2), 1, nn.indexes(3))
        nn.ok("Model_identifyInputsAndOutputs", model, 2, nn.indexes(0, 1), 1, nn.indexes(3))
        nn.ok("Model_finish", model)
        compilation = self.made("Compilation_create", model)
        nn.ok("Compilation_finish", compilation)
        execution = self.made("Execution_create", compilation)
        for i in range(2):
            nn.ok("Execution_setInput", execution, i, self.ffi.NULL, self.arena, 16)
        nn.ok("Execution_setOutput", execution, 0, self.ffi.NULL, self.arena + ARENA // 2, 16)

    def made(self, name: str, *arguments: Any) -> Any:
        """A new object, which later calls may use."""
        handle = self.nn.new(name, *arguments)
        self.alive[f"ANeuralNetworks{name.split('_')[0]}"].append(handle)
        return handle

    def call(self, function: Function) -> None:
        """One call; what it makes may be used by later ones."""
        arguments = [self.argument(function, p) for p in function.parameters]
        answer = getattr(self.nn, function.name.removeprefix("ANeuralNetworks"))(*arguments)
        if function.returns == "void":
            kind = function.parameters[0].type.removesuffix("*")
            self.alive[kind] = [h for h in self.alive[kind] if h != arguments[0]]
            self.freed.append(arguments[0])
        if function.returns != "int":
            return
        self.answers[answer] += 1
        assert 0 <= answer <= 14, f"{function.name} answers {answer}"
        last = function.parameters[-1]
        if last.is_result and "ANeural" in last.type and arguments[-1]:
            handle = arguments[-1][0]
            assert bool(handle) == (answer == 0), f"{function.name} answers {answer} and gives {handle}"
            if answer == 0 and "Device*" not in last.type:
                self.alive[last.type.removesuffix("**")].append(handle)

    def argument(self, function: Function, parameter: Parameter) -> Any:
        """One argument, mostly right."""
        right = self.random.random() < RIGHT
        type = parameter.type.removeprefix("const ")
        if type.endswith("*") and not right and self.random.random() < 0.5:
            return self.ffi.NULL
        for name in handles():
            if type == f"{name}*":
                return self.handle(name, right)
            if type == f"{name}* const*":
                return self.keep(f"{name}*[]", [self.handle(name, right) for _ in range(4)])
            if type == f"{name}**":
                return self.keep(f"{name}**")
        return POINTERS.get(type, Fuzzer.number)(self, function, parameter, right)

    def handle(self, name: str, right: bool) -> Any:
        """A live handle of the kind, or something else."""
        if name == "ANeuralNetworksDevice":
            device = self.ffi.new("ANeuralNetworksDevice**")
            self.nn._getDevice(0, device)
            return device[0] if right else self.ffi.NULL
        pool = self.alive[name] if right else [*self.freed, *self.alive["ANeuralNetworksModel"], self.arena]
        return self.ffi.cast(f"{name}*", self.random.choice(pool)) if pool else self.ffi.NULL

    def keep(self, type: str, value: Any = None) -> Any:
        """Memory that lives as long as the call."""
        made = self.ffi.new(type) if value is None else self.ffi.new(type, value)
        self.kept.append(made)
        return made

    def number(self, function: Function, parameter: Parameter, right: bool) -> Any:
        """A plain number."""
        name, type = parameter.name, parameter.type
        if type == "float":
            return self.random.choice((0.5, 1.0) if right else (0.0, -1.0, float("nan"), 3e38))
        if name == "fd":
            return self.fd if right else self.random.choice((-1, 0, 9999))
        if right and name in NATURAL:
            return self.random.choice(NATURAL[name])
        value = self.random.choice((0, 0, 1, 2, 3, 4, 16) if right else ODD)
        limit = LIMITS.get(type)
        return value % limit if limit else (value + 2**31) % 2**32 - 2**31

    def list(self, function: Function, parameter: Parameter, right: bool) -> Any:
        """Indexes or dimensions: more than any count that is believed."""
        return self.keep(
            "uint32_t[]", [self.random.choice((0, 1, 2, 3) if right else ODD) % 2**32 for _ in range(4096)]
        )

    def operand_type(self, function: Function, parameter: Parameter, right: bool) -> Any:
        """An operand type."""
        if "set" in function.name and self.random.random() < 0.5:
            return self.ffi.NULL
        dimensions = [self.random.choice((1, 2, 4) if right else (0, *ODD)) % 2**32 for _ in range(8)]
        held = self.keep("uint32_t[]", dimensions)
        code = self.random.choice((0, 1, 3, 4, 5, 6, 14, 15)) if right else self.random.choice((-1, 7, 11, 16, 10000))
        rank = self.random.choice((0, 1, 2, 4) if right else (5, 8, 2**32 - 1))
        scale, zero_point = (0.5, 3) if code in (5, 14) else (0.0, 0)
        return self.keep("ANeuralNetworksOperandType*", (code, rank, held, scale, zero_point))

    def channel_quant(self, function: Function, parameter: Parameter, right: bool) -> Any:
        """Scales per channel."""
        scales = self.keep("float[]", [self.random.choice((0.1, 1.0) if right else (0.0, -1.0)) for _ in range(64)])
        count = self.random.choice((1, 2, 4) if right else (0, 5, 2**32 - 1))
        return self.keep(
            "ANeuralNetworksSymmPerChannelQuantParams*", (self.random.choice((0, 1, 2**32 - 1)), count, scales)
        )

    def memory(self, function: Function, parameter: Parameter, right: bool) -> Any:
        """A client's buffer."""
        return self.arena + self.random.randrange(0, ARENA // 4, 16)

    def text(self, function: Function, parameter: Parameter, right: bool) -> Any:
        """A name or folder."""
        words = (b"org.nnapi.composite", b"com.example", b".") if right else (b"", b"\xff\xfe", b"a/b", b"x" * 9000)
        return self.keep("char[]", self.random.choice(words))

    def result(self, function: Function, parameter: Parameter, right: bool) -> Any:
        """Where numbers go, with room for as many as there can be."""
        return self.ffi.cast(parameter.type, self.keep("char[]", 4096))


NATURAL: dict[str, tuple[int, ...]] = {
    "preference": (0, 1, 2),
    "priority": (90, 100, 110),
    "protect": (1, 2, 3),
    "prot": (1, 2, 3),
    "size": (4096, ARENA),
    "length": (0, 4, 16, 128, 200),
    "offset": (0, 16, 4096),
    "inputCount": (1, 2, 3),
    "outputCount": (1,),
    "numDevices": (1,),
    "num_dependencies": (0, 1, 2),
    "rank": (1, 2),
    "duration": (0, 10**7, 10**9),
    "type": (0, 0, 18, 22, 25, 96, 97, 1000),
}
POINTERS: dict[str, Callable[..., Any]] = {
    "uint32_t*": Fuzzer.list,
    "ANeuralNetworksOperandType*": Fuzzer.operand_type,
    "ANeuralNetworksSymmPerChannelQuantParams*": Fuzzer.channel_quant,
    "void*": Fuzzer.memory,
    "uint8_t*": Fuzzer.memory,
    "char*": Fuzzer.text,
    "char**": lambda self, *_: self.keep("const char**"),
    **dict.fromkeys(("int*", "int32_t*", "int64_t*", "uint64_t*", "bool*"), Fuzzer.result),
    "ANeuralNetworksOperationType*": Fuzzer.result,
}


def main() -> None:
    """Fuzz, then free everything."""
    library, seed, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    fuzzer = Fuzzer(Client(library), seed)
    for _ in range(calls):
        fuzzer.step()
    for kind, free in ((f.parameters[0].type.removesuffix("*"), f) for f in fuzzer.frees):
        for handle in fuzzer.alive[kind]:
            getattr(fuzzer.nn, free.name.removeprefix("ANeuralNetworks"))(handle)
    print(json.dumps(fuzzer.answers))


if __name__ == "__main__":
    main()
