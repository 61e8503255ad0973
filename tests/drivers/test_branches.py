"""Control flow with an extension in a body goes where the body can run, and is refused by who cannot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import nnapi
from nnapi.drivers import registry
from nnapi.drivers.driver import Accept, Reject
from nnapi.errors import MissedDeadline, UnsupportedOperation

torch = pytest.importorskip("torch")
X = torch.linspace(-2, 2, 6).reshape(2, 3)


class Branch(torch.nn.Module):
    def forward(self, p, x):  # type: ignore[no-untyped-def]
        return torch.cond(p, lambda x: torch.special.bessel_j0(x) + 1, lambda x: x.clone(), (x,))


class Nested(torch.nn.Module):
    def forward(self, p, x):  # type: ignore[no-untyped-def]
        def inner(x):  # type: ignore[no-untyped-def]
            return torch.cond(x.sum() > 0, lambda x: torch.special.bessel_j1(x), lambda x: x * 2, (x,))

        return torch.cond(p, inner, lambda x: torch.nn.functional.gelu(x) - 1, (x,))


def loop(limit: int) -> torch.nn.Module:
    class Loop(torch.nn.Module):
        def forward(self, p, x):  # type: ignore[no-untyped-def]
            def step(i, x):  # type: ignore[no-untyped-def]
                return i + 1, torch.special.bessel_j0(torch.nn.functional.gelu(x)) + x

            counter = torch.where(p, torch.tensor(0), torch.tensor(1))
            return torch._higher_order_ops.while_loop(lambda i, x: i < limit, step, (counter, x))[1]

    return Loop()


MODULES: dict[str, Callable[[], torch.nn.Module]] = {"branch": Branch, "nested": Nested, "loop": lambda: loop(3)}


@pytest.mark.parametrize("name", MODULES.keys())
def test_a_body_runs_where_its_operations_do(name: str) -> None:
    module = MODULES[name]().eval()
    model = nnapi.load(module, (torch.tensor(True), X))
    reference = registry.get("reference")
    refused = [v.reason for v in reference.supported(model) if isinstance(v, Reject)]
    assert any("an extension, the reference knows NNAPI's operations only" in reason for reason in refused)
    session = nnapi.compile(model)
    for truth in (True, False):
        for x in (X, X + 1):
            wanted = module(torch.tensor(truth), x).numpy()
            np.testing.assert_allclose(session(np.array(truth), x.numpy())[0], wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(UnsupportedOperation, match=r"an extension|not mapped"):
        nnapi.compile(model, devices="litert")


def test_bodies_that_everybody_knows_are_left_to_others() -> None:
    class Plain(torch.nn.Module):
        def forward(self, p, x):  # type: ignore[no-untyped-def]
            return torch.cond(p, lambda x: x + 1, lambda x: x * 2, (x,))

    model = nnapi.load(Plain().eval(), (torch.tensor(True), X))
    assert isinstance(registry.get("reference").supported(model)[-1], Accept)
    assert isinstance(registry.get("pytorch").supported(model)[-1], Reject)


def test_a_loop_without_an_end_is_left() -> None:
    from nnapi.drivers import pytorch

    model = nnapi.load(loop(2**30), (torch.tensor(True), X))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch, "LOOP_TIMEOUT", 0.05)
        prepared = pytorch.PyTorchDriver().prepare(model, nnapi.drivers.driver.PrepareOptions())
        with pytest.raises(MissedDeadline, match="WHILE"):
            prepared.run([np.array([True]), X.numpy()])
