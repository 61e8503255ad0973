"""The terminal as people see it: text from files, widths, broken streams, Ctrl-C."""

from __future__ import annotations

import ast
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from models import chain
from nnapi.cli import main, output
from nnapi.exporters.save import save
from nnapi.importers.load import load
from nnapi.ir.builder import Builder
from nnapi.ir.model import Model
from nnapi.ops.types import F32

SOURCE = Path(output.__file__).parent.parent
PRINTERS = {"cli/output.py": "the one place", "runtime/log.py": "the C library's log", "__main__.py": "after a signal"}
"""Files that write to standard streams."""


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_one_place_prints(path: Path) -> None:
    if str(path.relative_to(SOURCE)) in PRINTERS:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            assert not any(name.split(".")[0] == "rich" for name in names), "rich belongs to cli/output.py"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"), called


HOSTILE = {
    "markup": ("[b]x[/b][/b]", "[b]x[/b][/b]"),
    "extra": ("pip install 'nnapi[openvino]'", "pip install 'nnapi[openvino]'"),
    "emoji code": ("conv:smile:", "conv:smile:"),
    "colours": ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
    "a title": ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
    "8-bit escape": ("\x9b31m", r"\x9b31m"),
    "backspaces": ("a\b\b", r"a\x08\x08"),
    "another line": ("a\nnnapi: done\r", r"a\nnnapi: done\r"),
    "right to left": ("a\u202egnp.\u2066", r"a\u202egnp.\u2066"),
    "line separators": ("a\u2028b\x85c", r"a\u2028b\x85c"),
    "no characters": ("a\udcffb\u200bc", r"a\udcffb\u200bc"),
    "other scripts": ("层/conv é", "层/conv é"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE.keys())
def test_text_from_files_is_only_text(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.say(f"name {text}")
    output.say(f"name {text}", err=True)
    output.print_table(("a", "b"), [(text, 1)], right="b")
    captured = capsys.readouterr()
    assert captured.out == f"name {shown}\n{_head(shown)}\n{shown}  1\n"
    assert captured.err == f"name {shown}\n"


def _head(cell: str) -> str:
    return "a" + " " * (output.cell_len(cell) - 1) + "  b"


ROWS = (("2 CONV_2D", "kernel is 65, must be at most 64 in every dimension of the filter that is given", "7.53 ms"),)
WIDTHS = {
    "wide": (
        120,
        "2 CONV_2D  kernel is 65, must be at most 64 in every dimension of the filter that is given  7.53 ms",
    ),
    "80": (80, "2 CONV_2D  kernel is 65, must be at most 64 in every dimension of the    7.53 ms"),
    "50": (50, "2 CONV_2D  kernel is 65, must be at most   7.53 ms"),
    "30": (30, "  p50: 7.53 ms"),
    "10": (10, "  p50:"),
}


@pytest.mark.parametrize(("columns", "line"), WIDTHS.values(), ids=WIDTHS.keys())
def test_tables_on_terminals(columns: int, line: str) -> None:
    shown = _on_terminal(columns, lambda: output.print_table(("refused", "reason", "p50"), ROWS, right="p50"))
    assert line in shown
    assert all(len(s) <= columns for s in shown)


def test_wide_characters_take_two_columns() -> None:
    rows = [("层" * 30, "宽 " * 30, "1 ms")]
    for columns in range(30, 100):
        shown = _on_terminal(columns, lambda: output.print_table(("name", "reason", "p50"), rows, right="p50"))
        assert all(output.cell_len(s) <= columns for s in shown)
        assert "".join(shown).count("层") == 30


def test_lines_fold_between_words_and_never_before_a_unit() -> None:
    text = "  0  litert fp32, 65 operations, 300.8 M MACs, 1204.2 kB in and out, measured 7.53 ms"
    for columns in range(24, 90):
        shown = _on_terminal(columns, lambda: output.say(text))
        assert all(len(s) <= columns for s in shown)
        for value in ("65 operations", "300.8 M MACs", "1204.2 kB", "7.53 ms"):
            assert any(value in s for s in shown), (columns, shown)


def test_what_no_terminal_reads_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("word " * 100)
    output.print_table(("reason",), [("word " * 100,)])
    assert capsys.readouterr().out.count("\n") == 3


def _on_terminal(columns: int, show: object) -> list[str]:
    """The lines that a terminal of so many columns gets."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with pytest.MonkeyPatch.context() as patch, os.fdopen(other, "w") as stream:
        patch.delenv("COLUMNS", raising=False)
        patch.setattr("sys.stdout", stream)
        show()  # type: ignore[operator]
        stream.flush()
        text = os.read(main, 1 << 16).decode()
    os.close(main)
    for style in ("\x1b[1m", "\x1b[0m"):
        text = text.replace(style, "")
    return text.replace("\r\n", "\n").rstrip("\n").split("\n")


MODEL = chain("ADD", "MUL")


def _run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "nnapi", *arguments]
    return subprocess.run(
        command, text=True, timeout=60, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    )


@pytest.fixture
def model(tmp_path: Path) -> str:
    save(MODEL, tmp_path / "model.nnapi")
    return str(tmp_path / "model.nnapi")


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [
        pytest.param(["--help"], "", id="help"),
        pytest.param(["inspect", "MODEL"], "", id="result"),
        pytest.param(["inspect", "MODEL", "--json"], "1", id="unbuffered"),
    ],
)
def test_a_full_output_is_one_line(arguments: list[str], unbuffered: str, model: str) -> None:
    with Path("/dev/full").open("w") as full:
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        done = _run(*(a.replace("MODEL", model) for a in arguments), stdout=full, env=environment)
    assert (done.returncode, done.stderr) == (1, "nnapi: cannot write to standard output: No space left on device\n")


def test_who_stops_reading_hears_nothing(model: str) -> None:
    for arguments in (["inspect", model, "--json"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = _run(*arguments, stdout=writer)
        os.close(writer)
        assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("stream", [1, 2], ids=["output", "errors"])
def test_closed_streams(stream: int, model: str, tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m nnapi convert "{model}" -o "{tmp_path}/out.nnapi" {stream}>&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == b""
    assert load(tmp_path / "out.nnapi").operations


def test_complaints_that_nobody_can_hear() -> None:
    with Path("/dev/full").open("w") as full:
        assert _run("inspect", "none.nnapi", stderr=full).returncode == 1


def test_an_ascii_output_gets_escapes(tmp_path: Path) -> None:
    b = Builder("层")
    x = b.input("é", F32, (1,))
    b.output(b.add("RELU", {"input": x}), names=["\x1b[0m\u202e"])
    save(b.finish(), tmp_path / "层.nnapi")
    done = _run("inspect", str(tmp_path / "层.nnapi"), env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u5c42: 1 operations" in done.stdout
    assert "input  \\xe9: TENSOR_FLOAT32[1]" in done.stdout
    assert "output \\x1b[0m\\u202e: TENSOR_FLOAT32[1]" in done.stdout


def test_engines_do_not_print_between_ours(model: str) -> None:
    done = _run("bench", model, "-d", "reference", "--against", "litert", "--repeats", "1")
    assert (done.returncode, done.stderr) == (0, "")


AT_WORK = {
    "Python": "time.sleep(30)",
    "an engine's call": "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",  # lets other threads run, hears no signal
    "a callback": "weakref.finalize(set(), lambda: time.sleep(30)); time.sleep(30)",  # where Python drops exceptions
    "a callback from C": "ctypes.CFUNCTYPE(None)(lambda: time.sleep(30))()",
    "a file": "with writing(sys.argv[1] + '/out'): time.sleep(30)",
    "a trial": (
        "os.kill(trial._process.pid, signal.SIGSTOP); "
        "trial.run(load(sys.argv[1] + '/model.nnapi'), None, PrepareOptions(), 30.0)"
    ),
    "a thread": "threading.Thread(target=time.sleep, args=[30]).start(); time.sleep(30)",
}
INTERRUPTED = (signal.SIGINT, 130, "nnapi: interrupted\n")
SIGNALS = {work: (work, *INTERRUPTED) for work in AT_WORK} | {
    f"{work}, SIGTERM": (work, signal.SIGTERM, 143, "") for work in ("a callback", "a trial")
}


@pytest.mark.parametrize(("work", "number", "status", "said"), SIGNALS.values(), ids=SIGNALS.keys())
def test_a_signal_ends_all_work_and_leaves_nothing(
    work: str, number: signal.Signals, status: int, said: str, model: str, tmp_path: Path
) -> None:
    program = (
        "import ctypes, hashlib, os, signal, sys, threading, time, weakref\n"
        "import nnapi.cli.inspect as command\n"
        "from nnapi.__main__ import main\n"
        "from nnapi.drivers.driver import PrepareOptions\n"
        "from nnapi.drivers.reference import ReferenceDriver\n"
        "from nnapi.importers.load import load\n"
        "from nnapi.ir.writing import writing\n"
        "from nnapi.partitioning.isolated import Isolated\n"
        "def at_work(source):\n"
        "    global trial\n"
        "    trial = Isolated(ReferenceDriver()); trial.is_available()\n"
        "    print('at work', flush=True)\n"
        f"    {AT_WORK[work]}\n"
        "command.load_model = at_work\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "sys.exit(main(['inspect', 'model']))\n"
    )
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    time.sleep(0.2)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (status, said)
    assert [*(tmp_path / "tmp").iterdir()] == []
    assert {p.name for p in tmp_path.iterdir()} == {"tmp", "model.nnapi"}


WITHOUT = {
    "devices": (["devices"], 0, "pip install 'nnapi[openvino]'\n"),
    "a device": (
        ["check", "MODEL", "-d", "ncnn"],
        1,
        "nnapi: device 'ncnn' needs an extra; pip install 'nnapi[ncnn]'\n",
    ),
    "a peer": (
        ["bench", "MODEL", "--against", "onnxruntime", "--repeats", "1"],
        0,
        "; pip install 'nnapi[onnxruntime]'\n",
    ),
    "an image": (
        ["run", "MODEL", "-i", "x.jpg"],
        1,
        "nnapi: reading an image needs an extra; pip install 'nnapi[image]'\n",
    ),
    "a format": (["convert", "MODEL", "-o", "FOLDER/x.onnx"], 1, "needs an extra; pip install 'nnapi[onnx]'\n"),
    "the zoo": (["inspect", "zoo:digits"], 1, "needs an extra; pip install 'nnapi[torch]'\n"),
    "the default devices": (["run", "MODEL", "--random", "1"], 0, "y: float32[1, 4] ["),
}


@pytest.mark.parametrize(("arguments", "status", "said"), WITHOUT.values(), ids=WITHOUT.keys())
def test_without_extras(arguments: list[str], status: int, said: str, model: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'openvino', 'onnxruntime', 'onnx', 'ncnn', 'PIL'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    path = os.pathsep.join([str(tmp_path), str(SOURCE.parent)])
    replaced = [a.replace("MODEL", model).replace("FOLDER", str(tmp_path)) for a in arguments]
    done = _run(*replaced, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_warning_is_one_line(model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def load_with_a_warning(source: str) -> Model:
        warnings.simplefilter("always")
        warnings.warn("\x1b[2J is odd", UserWarning, stacklevel=1)
        return load(source)

    monkeypatch.setattr("nnapi.cli.inspect.load_model", load_with_a_warning)
    assert main(["inspect", model]) == 0
    assert capsys.readouterr().err == "warning: \\x1b[2J is odd\n"
