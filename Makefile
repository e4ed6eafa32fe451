# The verbs. `make serve` and `make test` need nothing but python3 and make; `make help` lists all.
PYTHON ?= python3
# The GPU lock is installed where a GPU is; GPU=0 or GPU=1 overrides.
GPU    ?= $(if $(shell nvidia-smi -L 2>/dev/null),1,0)
LOCK   := serve$(if $(filter 1,$(GPU)),-gpu).txt
DEV    := .venv-dev/bin
PIP    := -m pip install --quiet --disable-pip-version-check --no-input
LOCKED := --require-hashes --only-binary :all:
DATA   ?= images
MODELS ?= models

.PHONY: help serve serve-edge test lint deps train models mlflow export pool loadtest bench soak lock protos clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

serve: .venv/$(LOCK) ## serve model_store/ on 127.0.0.1:8080 (ARGS="--port 9000" and the like)
	@exec .venv/bin/marserve serve $(ARGS)

serve-edge: .venv/$(LOCK) ## the same behind HAProxy on 127.0.0.1:8090, as edge.yaml says (needs haproxy: make deps)
	@exec .venv/bin/marserve serve --edge edge.yaml $(ARGS)

test: lint ## all checks and tests that need no GPU
	@$(DEV)/pytest $(ARGS)

lint: .venv-dev/dev.txt ## ruff and mypy
	@$(DEV)/ruff check --quiet .
	@$(DEV)/ruff format --quiet --check .
	@$(DEV)/mypy --no-error-summary

deps: ## the Debian packages that tests want (the README says what for)
	@$(if $(filter 0,$(shell id -u)),,sudo) sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium curl fonts-dejavu-core git haproxy wrk >/dev/null'

train: .venv-dev/dev.txt ## train the image model on DATA=images into MODELS=models
	@$(DEV)/python training/train_efficientnet.py --data_dir $(DATA) --output_dir $(MODELS) $(ARGS)

MLFLOW_PORT ?= 5000
mlflow: .venv-dev/dev.txt ## serve the page with all trainings on 127.0.0.1:5000 (MLFLOW_PORT=5001)
	@MLFLOW_DISABLE_TELEMETRY=true exec $(DEV)/mlflow server --host 127.0.0.1 --port $(MLFLOW_PORT) --workers 1 \
	--backend-store-uri sqlite:///mlflow.db $(ARGS)

STORE ?= model_store
models: .venv-dev/dev.txt ## train MODEL=digit by its recipe on DATA=images and make STORE=model_store/digit.mar (ARGS=--resume; EXPORT_ARGS)
	@$(if $(MODEL),,$(error MODEL=NAME is missing: $(patsubst training/recipes/%.yaml,%,$(wildcard training/recipes/*.yaml))))
	@$(DEV)/python training/train_image.py --recipe training/recipes/$(MODEL).yaml --data_dir $(DATA) --output_dir $(MODELS)/$(MODEL) $(ARGS)
	@$(DEV)/python -m export $(MODEL) --checkpoint $(MODELS)/$(MODEL)/best_model.pth --data_dir $(DATA) --output_dir $(STORE) $(EXPORT_ARGS)

export: .venv-dev/dev.txt ## make model_store/captcha_image.mar from MODELS=models
	@$(DEV)/python -m export captcha_image --checkpoint $(MODELS)/best_model.pth $(ARGS)

pool: .venv-dev/dev.txt ## render the default pool from OpenMoji's npm package (needs npm) and pack captcha_challenge.mar
	@rm -rf build && mkdir build
	@cd build && npm pack --silent openmoji@17.0.0
	@$(DEV)/python -m export.artwork build/openmoji-17.0.0.tgz --output build/pool
	@$(DEV)/python -m export captcha_challenge --pool build/pool

LOADTEST_PORT ?= 18080
loadtest: .venv-dev/dev.txt ## start a server, load-test NAMES=captcha_image (ARGS="--shape spike --max-p99 200"), stop it
	@trap '$(DEV)/marserve stop --port $(LOADTEST_PORT) >/dev/null' EXIT; trap 'exit 130' INT TERM HUP; \
	$(DEV)/marserve serve --detach --port $(LOADTEST_PORT) >/dev/null || { trap - EXIT; exit 2; }; \
	$(DEV)/python -m loadtest $(or $(NAMES),captcha_image) --host http://127.0.0.1:$(LOADTEST_PORT) $(ARGS)

bench: .venv-dev/dev.txt ## marserve beside seven other servers, an hour (ARGS="--servers marserve mosec --rounds 1 --seconds 5")
	@$(DEV)/python -m loadtest.bench $(ARGS)

soak: .venv-dev/dev.txt ## ten minutes of mixed load (ARGS="--minutes 30"), then every strain on a server and its edge (TRIALS="kills overload")
	@code=0; $(DEV)/python -m loadtest.soak $(ARGS) || code=$$?; $(DEV)/python -m loadtest.reliability $(TRIALS) || code=$$?; exit $$code

protos: .venv-dev/dev.txt ## gRPC stubs from the protocol files in TorchServe's jar; a test holds the committed ones against it
	@$(DEV)/python marserve/protos/generate.py

# uv resolves for both Python versions at once, and writes hashes without index addresses.
COMPILE := $(DEV)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
           --custom-compile-command "make lock"
lock: .venv-dev/dev.txt ## pin the newest versions that pyproject.toml allows
	@$(COMPILE) --upgrade pyproject.toml requirements/build.in --extra cpu -o requirements/serve.txt
	@$(COMPILE) --upgrade pyproject.toml requirements/build.in --extra gpu -o requirements/serve-gpu.txt
	@$(COMPILE) --upgrade pyproject.toml requirements/build.in --extra dev -o requirements/dev.txt
	@$(COMPILE) --upgrade requirements/uv.in -o requirements/uv.txt

clean: ## remove what the verbs made, but for models and archives
	@rm -rf .venv .venv-dev build reports *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# An environment is made anew whenever its lock, the project's metadata, or the choice of CPU and GPU changes. The
# stamp comes last: an interrupted set-up starts over.
.venv/%.txt: requirements/%.txt pyproject.toml
	@$(PYTHON) requirements/check_python.py
	@echo "setting up .venv from $< ..." >&2
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP) $(LOCKED) -r $<
	@.venv/bin/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv-dev/%.txt: requirements/%.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) requirements/check_python.py
	@echo "setting up .venv-dev from $< (PyTorch among it: some minutes, 7 GB) ..." >&2
	@rm -rf .venv-dev && $(PYTHON) -m venv .venv-dev
	@$(DEV)/python $(PIP) $(LOCKED) -r requirements/uv.txt
	@$(DEV)/uv pip install --quiet --python $(DEV)/python $(LOCKED) -r $<
	@$(DEV)/uv pip install --quiet --python $(DEV)/python --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@
