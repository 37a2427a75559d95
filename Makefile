# Every verb of the project; CI calls the same ones.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Tests run in as many processes as there are processors, a file at a time as its tests share what
# is dear to make, and in the order of the files' names, as the long ones come first then.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PYTEST := $(BIN)/python -m pytest
BESIDE := -n $(JOBS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: $(READY)  ## 336,776 flights, from raw CSV to two live hosts with a proven model
	@$(BIN)/slipway run flights

test: $(READY)  ## the tests, some minutes in all; those that lack a part of this machine say which
	@$(PYTEST) $(BESIDE) -m "not slow" $(ARGS)

test-all: $(READY)  ## these and the slow ones (whole lines, load, fuzzing), and what each room costs
	@$(PYTEST) $(BESIDE) --costs $(ARGS)

soak: $(READY)  ## long runs in parts; goes on with those that have not passed at this commit
	@$(PYTEST) tests/soak $(ARGS)

check: $(READY)  ## format, lint, types and the direction of imports
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

clients: .venv-clients/triton/.ready .venv-clients/kserve/.ready .venv-clients/kubernetes/.ready  ## clients that others wrote, for the tests that need them

lock: $(READY)  ## write requirements.lock from what .venv holds
	@$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' > requirements.lock

clean:  ## stop the hosts, remove all that was made here, their memory of serials too
	@if [ -x $(BIN)/slipway ]; then $(BIN)/slipway fleet down local || true; fi
	@rm -rf .slipway .venv .venv-clients .dvc/cache .dvc/tmp models dist
	@find data -mindepth 2 -maxdepth 2 ! -name sources.lock ! -name accepted.json -exec rm -rf {} +
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# torch first and alone: its exact pin takes a CPU build where the machine provides one
$(READY): requirements.lock pyproject.toml
	@echo "setting up .venv (a few minutes the first time)" >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "slipway needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(READY)

# Their lists are whole, so nothing is resolved; what is never imported is never compiled.
# All but Triton's take what they share with this project from .venv.
.venv-clients/%/.ready: tests/clients/%.txt $(READY)
	@echo "setting up .venv-clients/$* (a minute the first time)" >&2
	@$(BIN)/python -m venv --clear .venv-clients/$*
	@if [ $* != triton ]; then cd .venv-clients/$*/lib/python3*/site-packages && $(CURDIR)/$(BIN)/python -c \
		'import sysconfig; print(sysconfig.get_path("purelib"))' > slipway.pth; fi
	@.venv-clients/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r $<
	@touch $@

.PHONY: help run test test-all soak check clients lock clean
