"""The compilation cache: hits, what makes another entry, damage, size, several writers."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from clients import REFERENCE, compiled, computed, device, elementwise
from nnapi.drivers.driver import Prepared, PrepareOptions
from nnapi.drivers.fake import FakeDriver
from nnapi.ir.model import Model as IrModel
from nnapi.runtime import Compilation, Device, Model, devices
from nnapi.runtime import compilation as compilation_module
from nnapi.runtime.cache import ABANDONED, Cache
from nnapi.runtime.digest import CHUNK, MUCH, THREADS, digest, key_of

X, Y = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)
TOKEN = bytes(range(32))
LITERT = next((d for d in devices() if d.name == "litert"), None)
needs_litert = pytest.mark.skipif(LITERT is None, reason="no litert here")


@dataclass
class Counting(FakeDriver):
    """A device that counts what it prepares."""

    name: str = "counting"
    prepared: list[str] = field(default_factory=list)

    def prepare(self, model: IrModel, options: PrepareOptions) -> Prepared:
        self.prepared.append(model.name)
        return super().prepare(model, options)


def cached(directory: Path, model: Model | None = None, *, token: bytes = TOKEN, on: Device = REFERENCE,
           preference: int = 1) -> Compilation:  # fmt: skip
    compilation = Compilation(model or elementwise(), [on])
    compilation.set_caching(str(directory), token)
    compilation.set_preference(preference)
    compilation.finish()
    np.testing.assert_array_equal(computed(compilation, [X, Y])[0][:4], X + Y)
    return compilation


def entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("nnapi-*"))


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One number for each compilation that was not read from a cache."""
    real, count = compilation_module.compile_model, []

    def compile_model(*args: object) -> object:
        count.append(1)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(compilation_module, "compile_model", compile_model)
    return count


@pytest.mark.parametrize("on", [REFERENCE, pytest.param(LITERT, marks=needs_litert)], ids=lambda d: d and d.name)
def test_the_second_time_it_is_read(on: Device, tmp_path: Path, fresh: list[int]) -> None:
    for _ in range(3):
        cached(tmp_path, on=on)
    assert len(fresh) == 1
    assert len(entries(tmp_path)) == 1
    suffix = ".artifact" if on.name == "litert" else ".nnapi"
    assert sorted(path.name for path in entries(tmp_path)[0].iterdir()) == [f"0{suffix}", "entry.json"]


@needs_litert
def test_what_is_read_gives_the_same(tmp_path: Path) -> None:
    assert LITERT is not None
    first, second = (cached(tmp_path, on=LITERT) for _ in range(2))
    for x in (X, -X, X * 1e30):
        np.testing.assert_array_equal(computed(first, [x, Y])[0], computed(second, [x, Y])[0])


def of_float(value: float) -> Model:
    model = elementwise(finish=False)
    model.add_operand(3, [4])
    model.set_operand_value(4, np.full(4, value, np.float32))  # not even used
    model.finish()
    return model


def relaxed() -> Model:
    model = elementwise(finish=False)
    model.relax_computation_float32_to_float16(True)
    model.finish()
    return model


DETERMINANTS: dict[str, Callable[[Path], object]] = {
    "token": lambda d: cached(d, token=bytes(32)),
    "preference": lambda d: cached(d, preference=0),
    "device": lambda d: cached(d, on=device(FakeDriver())),
    "device's version": lambda d: cached(d, on=device(FakeDriver("reference", version="another"))),
    "a constant": lambda d: cached(d, of_float(1)),
    "precision": lambda d: cached(d, relaxed()),
}


@pytest.mark.parametrize("other", DETERMINANTS.values(), ids=DETERMINANTS.keys())
def test_whatever_determines_the_result_makes_another_entry(
    other: Callable[[Path], object], tmp_path: Path, fresh: list[int]
) -> None:
    cached(tmp_path)
    other(tmp_path)
    assert len(fresh) == 2
    assert len(entries(tmp_path)) == 2
    other(tmp_path)
    assert len(fresh) == 2


def test_keys_tell_models_apart() -> None:
    models = [elementwise(), elementwise(18), elementwise(dimensions=[5]), of_float(0), of_float(-0.0), relaxed()]
    keys = {key_of(TOKEN, model.ir) for model in models}
    assert len(keys) == len(models)
    assert key_of(TOKEN, elementwise().ir) == key_of(TOKEN, elementwise().ir)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, MUCH - 1, MUCH, THREADS * CHUNK * 3 + 7])
def test_a_digest_sees_every_byte(size: int) -> None:
    content = bytearray(np.random.default_rng(size).bytes(size))
    before = digest(bytes(content))
    assert digest(bytes(content)) == before
    for at in {0, size // 2, size - 1} if size else ():
        content[at] ^= 1
        assert digest(bytes(content)) != before
        content[at] ^= 1


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def rewritten(manifest: Path, change: Callable[[dict[str, object]], object]) -> None:
    """A manifest that somebody changed, and gave a right digest."""
    body = json.loads(json.loads(manifest.read_text())["body"])
    change(body)
    text = json.dumps(body)
    manifest.write_text(json.dumps({"digest": digest(text.encode()), "body": text}))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "part flipped": lambda e: flip(next(e.glob("0.*"))),
    "part truncated": lambda e: os.truncate(next(e.glob("0.*")), 10),
    "part empty": lambda e: os.truncate(next(e.glob("0.*")), 0),
    "part gone": lambda e: next(e.glob("0.*")).unlink(),
    "part a folder": lambda e: (next(e.glob("0.*")).unlink(), (e / "0.nnapi").mkdir(), (e / "0.artifact").mkdir()),
    "manifest flipped": lambda e: flip(e / "entry.json"),
    "manifest truncated": lambda e: os.truncate(e / "entry.json", 20),
    "manifest empty": lambda e: os.truncate(e / "entry.json", 0),
    "manifest of another kind": lambda e: (e / "entry.json").write_text("[1, 2]"),
    "manifest that nests": lambda e: (e / "entry.json").write_text("[" * 100_000),
    "manifest of no text": lambda e: (e / "entry.json").write_bytes(b"\xff\xfe" * 99),
    "manifest of another format": lambda e: rewritten(e / "entry.json", lambda b: b.update(format=99)),
    "manifest without steps": lambda e: rewritten(e / "entry.json", lambda b: b["manifest"].pop("steps")),  # type: ignore[attr-defined]
    "manifest with no steps": lambda e: rewritten(e / "entry.json", lambda b: b["manifest"].update(steps=[])),  # type: ignore[attr-defined]
    "manifest of another device": lambda e: rewritten(
        e / "entry.json", lambda b: b["manifest"]["steps"][0].update(device="nobody")),  # type: ignore[index]
    "manifest without its files": lambda e: rewritten(e / "entry.json", lambda b: b.pop("files")),
    "manifest with wrong operands": lambda e: rewritten(
        e / "entry.json", lambda b: b["manifest"]["steps"][0].update(input_operands=[1], inputs="x")),  # type: ignore[index]
    "manifest with a file elsewhere": lambda e: rewritten(
        e / "entry.json", lambda b: b["files"].update({"../0": digest(b"")})),  # type: ignore[attr-defined]
    "manifest gone": lambda e: (e / "entry.json").unlink(),
    "manifest a pipe": lambda e: ((e / "entry.json").unlink(), os.mkfifo(e / "entry.json")),
    "part a pipe": lambda e: (name := next(e.glob("0.*")), name.unlink(), os.mkfifo(name)),
    "part without end": lambda e: (name := next(e.glob("0.*")), name.unlink(), name.symlink_to("/dev/zero")),
    "part of a terabyte": lambda e: os.truncate(next(e.glob("0.*")), 1 << 40),
    "entry a pipe": lambda e: (shutil.rmtree(e), os.mkfifo(e)),
    "entry a file": lambda e: (shutil.rmtree(e), e.touch()),
    "entry a link to nothing": lambda e: (shutil.rmtree(e), e.symlink_to("nothing")),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("on", [REFERENCE, pytest.param(LITERT, marks=needs_litert)], ids=lambda d: d and d.name)
def test_a_damaged_entry_is_made_anew(
    on: Device, damage: Callable[[Path], object], tmp_path: Path, fresh: list[int]
) -> None:
    cached(tmp_path, on=on)
    damage(entries(tmp_path)[0])
    cached(tmp_path, on=on)
    assert len(fresh) == 2
    cached(tmp_path, on=on)
    assert len(fresh) == 2


def test_an_artifact_that_is_none_of_the_engine_s_is_made_anew(tmp_path: Path, fresh: list[int]) -> None:
    if LITERT is None:
        pytest.skip("no litert here")
    cached(tmp_path, on=LITERT)
    entry = entries(tmp_path)[0]
    (entry / "0.artifact").write_bytes(b"TFL3" * 100)
    rewritten(entry / "entry.json", lambda b: b["files"].update({"0.artifact": digest(b"TFL3" * 100)}))  # type: ignore[attr-defined]
    cached(tmp_path, on=LITERT)
    assert len(fresh) == 2


PLACES = {"absent": "absent", "a file": "file", "read only": "locked"}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_directory_that_cannot_be_written_costs_nothing_but_time(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNAPI_LOG", "info")
    (tmp_path / "file").write_text("x")
    (tmp_path / "locked").mkdir(mode=0o500)
    if place == "locked" and os.geteuid() == 0:
        pytest.skip("root writes anywhere")
    cached(tmp_path / place)
    assert "is not written" in capsys.readouterr().err


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("nnapi.ir.file.save", fails)
    cached(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_fell_back_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fragile = FakeDriver("fragile", fails_to_compile=["ADD"])
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(fragile)])
    compilation = Compilation(elementwise())
    compilation.set_caching(str(tmp_path), TOKEN)
    compilation.finish()
    assert entries(tmp_path) == []


def test_a_part_that_was_read_falls_back_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver("flaky", costs={"ADD": 1e-9}, default_cost=None)
    monkeypatch.setattr(compilation_module, "devices", lambda: [device(driver), REFERENCE])
    for fails in (False, True):
        driver.fails_to_run = fails
        compilation = Compilation(elementwise())
        compilation.set_caching(str(tmp_path), TOKEN)
        compilation.finish()
        assert compilation.require_program().devices == ("flaky",)
        np.testing.assert_array_equal(computed(compilation, [X, Y])[0], X + Y)
    assert len(entries(tmp_path)) == 1


def test_the_oldest_go_first(tmp_path: Path) -> None:
    fill = lambda directory: (directory / "0.artifact").write_bytes(bytes(1000)) and {}  # noqa: E731
    size = None
    for n in range(5):
        if size is None:
            Cache(tmp_path).write(str(n), fill)
            size = sum(p.stat().st_size for p in (tmp_path / "nnapi-0").iterdir())
        cache = Cache(tmp_path, max_bytes=3 * size + 100)
        cache.write(str(n), fill)
        os.utime(tmp_path / f"nnapi-{n}", (n, n))
        if n == 2:
            cache.read("0")  # which makes it young
    assert [path.name for path in entries(tmp_path)] == ["nnapi-0", "nnapi-3", "nnapi-4"]


def test_an_entry_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=500)
    cache.write("a", lambda directory: (directory / "0.artifact").write_bytes(bytes(1000)) and {})
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_finished_is_removed_in_time(tmp_path: Path) -> None:
    old, young = tmp_path / ".nnapi-old", tmp_path / ".nnapi-young"
    for path in (old, young):
        path.mkdir()
    os.utime(old, (time.time() - 2 * ABANDONED,) * 2)
    Cache(tmp_path).write("a", lambda directory: {})
    assert not old.exists()
    assert young.exists()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(bytes(10_000))
    Cache(tmp_path, max_bytes=1000).write("a", lambda directory: {})
    assert (tmp_path / "photo.jpg").exists()


def test_many_write_and_read_the_same(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for n in range(6):
                cached(tmp_path, token=bytes([(seed + n) % 3]) * 32)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(entries(tmp_path)) == 3
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_counting_devices_prepare_again(tmp_path: Path) -> None:
    driver = Counting()
    for n in range(2):
        cached(tmp_path, on=device(driver))
        assert len(driver.prepared) == n + 1


@needs_litert
@pytest.mark.alone
@pytest.mark.slow
def test_a_large_network_is_ready_5_times_faster(tmp_path: Path) -> None:
    """MobileNet-V2 needs torch to be made; convolutions of the same size do not."""
    assert LITERT is not None
    model = network()
    seconds = []
    for _ in range(6):
        compilation = Compilation(model, [LITERT])
        compilation.set_caching(str(tmp_path), TOKEN)
        started = time.perf_counter()
        compilation.finish()
        seconds.append(time.perf_counter() - started)
    assert seconds[0] >= 5 * min(seconds[1:])


def network() -> Model:
    """As MobileNet-V2: 17 blocks of 1x1, depthwise 3x3 and 1x1 convolutions, channels first, 14 MB."""
    from clients import client_model
    from nnapi.ir.builder import Builder, Ref
    from nnapi.ops.types import F32

    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:  # type: ignore[type-arg]
        return rng.standard_normal(shape).astype(np.float32) / shape[-1]

    b = Builder("network")
    x: Ref = b.input("x", F32, (1, 96, 14, 14))
    for _ in range(17):
        y = convolve(b, x, weights(576, 1, 1, 96))
        y = b.add("DEPTHWISE_CONV_2D", {
            "input": y, "filter": weights(1, 3, 3, 576), "bias": np.zeros(576, np.float32), "padding": 1,
            "stride_width": 1, "stride_height": 1, "depth_multiplier": 1, "activation": 3, "layout": True,
        })  # fmt: skip
        x = b.add("ADD", {"input0": x, "input1": convolve(b, y, weights(96, 1, 1, 576)), "activation": 0})
    b.output(x)
    return client_model(b.finish())


def convolve(b, x, filter):  # type: ignore[no-untyped-def]
    return b.add("CONV_2D", {
        "input": x, "filter": filter, "bias": np.zeros(len(filter), np.float32), "padding": 1,
        "stride_width": 1, "stride_height": 1, "activation": 0, "layout": True,
    })  # fmt: skip


def test_without_caching_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compiled(elementwise())
    assert list(tmp_path.iterdir()) == []
