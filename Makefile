# The only verbs. `make serve` and `make test` need nothing but python3 and make.
PYTHON ?= python3
# The GPU lock is installed where a GPU is; GPU=0 or GPU=1 overrides.
GPU    ?= $(if $(shell nvidia-smi -L 2>/dev/null),1,0)
SERVE_LOCK := requirements/serve$(if $(filter 1,$(GPU)),-gpu).txt
DEV    := .venv-dev/bin

.PHONY: serve test lint lock protos
serve: .venv/$(notdir $(SERVE_LOCK))
	@exec .venv/bin/marserve serve $(ARGS)

test: lint
	@$(DEV)/pytest $(ARGS)

lint: .venv-dev/dev.txt
	@$(DEV)/ruff check .
	@$(DEV)/ruff format --check .
	@$(DEV)/mypy

# An environment is made anew whenever its lock, the project's metadata or the choice of CPU and GPU changes.
.venv/%.txt: requirements/%.txt pyproject.toml
	@$(PYTHON) requirements/check_python.py
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv-dev/%.txt: requirements/%.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) requirements/check_python.py
	@rm -rf .venv-dev
	@$(PYTHON) -m venv .venv-dev
	@$(DEV)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/uv.txt
	@$(DEV)/uv pip install --quiet --python $(DEV)/python --require-hashes --only-binary :all: -r $<
	@$(DEV)/uv pip install --quiet --python $(DEV)/python --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

LOCK := $(DEV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --custom-compile-command "make lock" pyproject.toml requirements/build.in
lock:
	@$(LOCK) --extra cpu -o requirements/serve.txt
	@$(LOCK) --extra gpu -o requirements/serve-gpu.txt
	@$(LOCK) --extra dev -o requirements/dev.txt
	@$(DEV)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --custom-compile-command "make lock" requirements/uv.in -o requirements/uv.txt

# Client stubs from the protocol files inside TorchServe's jar; a test holds the committed ones against it.
protos: .venv-dev/dev.txt
	@$(DEV)/python marserve/protos/generate.py
