# One command each; all of them set themselves up on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2

FAST := tests/ir tests/cli/test_cli.py tests/runtime/test_session.py tests/runtime/test_model.py \
	tests/runtime/test_inputs.py tests/passes/test_golden.py tests/test_api.py tests/test_layout.py \
	src/nnapi/ir src/nnapi/ops
ALONE = $(shell grep --recursive --files-with-matches --include='*.py' pytest.mark.alone tests)

.PHONY: demo test check bench docs clean

demo: $(READY)   ## the main job, end to end: digits and MobileNet-V2 through NNAPI
	$(BIN)/python examples/demo.py

test: $(READY)   ## every test: on two cores, then alone what measures time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m "not alone"
	$(BIN)/python -m pytest -m alone $(ALONE)

check: $(READY)  ## format, lint, types, fast tests: under a minute
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" $(FAST)

bench: $(READY)  ## measure beside the peers, and write benchmarks/results.md: an hour or so
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,bench]'
	$(BIN)/python benchmarks/run.py

docs: $(READY)   ## regenerate the pages that are made from code
	$(BIN)/python -m nnapi.report.operations docs/operations.md

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
