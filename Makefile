# `make demo` and `make test` set up what they need. EXTRA=cuda installs the GPU build of vLLM; it is chosen by itself
# where the NVIDIA driver answers.
EXTRA ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
BIN := .venv/bin
READY := .venv/.ready-$(EXTRA)

.PHONY: demo test test-fast test-bare check bench s3 setup lock clean

demo: setup
	$(BIN)/torl demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: setup
	$(BIN)/python -m pytest -m "not slow" -n auto

# The fast tests as on a machine without any program that only some tests need (tests/programs.py).
test-bare: setup
	TORL_TEST_PROGRAMS=none $(BIN)/python -m pytest -m "not slow" -n auto

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.benchmarks

# A real S3 on loopback, until Ctrl-C: Ceph's gateway, from Debian's packages. Prints the variables to export.
s3: setup
	$(BIN)/python -m infra.s3

setup: $(READY)

$(READY): pyproject.toml $(wildcard constraints/*.txt) infra/setup.sh
	EXTRA=$(EXTRA) bash infra/setup.sh

# Pins each build anew, after a change of the dependencies in pyproject.toml.
lock: setup
	bash infra/lock.sh

clean:
	rm -rf .venv runs
