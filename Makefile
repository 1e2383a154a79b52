# Every target does its own set-up: python3 (3.11 or newer), make and a package registry are all that is needed.
# Another interpreter: make demo PYTHON=python3.12. More for pytest: make test ARGS="-k wire".

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq --constraint constraints.txt
WORKERS ?= 3

# Hundreds of tests start wirecheck anew: without byte code each of them compiles it first.
unexport PYTHONDONTWRITEBYTECODE

# A virtual environment knows the place and the interpreter it was made for: the stamp's name changes with either.
MADE := $(VENV)/.made-$(shell printf '%s ' "$(CURDIR)" $$($(PYTHON) -VV 2>&1) | cksum | cut -d ' ' -f 1)
RUNS := $(VENV)/.runs
TESTS := $(VENV)/.tests
REQUIRED := import sys; sys.exit(sys.version_info < (3, 11) and "wirecheck needs Python 3.11 or newer: PYTHON=python3.12")

.PHONY: demo test slurm browser lint mutants mutation soundness fuzz types check reports site demo-models benchmarks wheel clean
.DEFAULT_GOAL := demo

demo: $(RUNS)  ## two built-in models through the whole of `pair`; the report is in wirecheck-demo/
	$(BIN)/wirecheck demo

test: $(TESTS)  ## the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

slurm:  ## Slurm's daemons for its tests, where this is root on Debian; without them those tests are skipped
	@PATH="$$PATH:/usr/sbin"; command -v slurmctld >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } >/dev/null 2>&1; } || \
	echo "no Slurm here (as root on Debian: apt-get install -y --no-install-recommends slurm-wlm munge): its tests are skipped"

browser:  ## Chromium for the tests of the pages, where this is root on Debian; without it those tests are skipped
	@command -v chromium >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && { apt-get update && apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1; } || \
	echo "no Chromium here (as root on Debian: apt-get install -y --no-install-recommends chromium): its tests are skipped"

lint: $(TESTS)  ## ruff, and its formatter as a check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mutants: $(TESTS)  ## every planted mistake in the verdict must be caught by its tests (half a minute)
	$(BIN)/python scripts/mutate_verdict.py

fuzz: $(TESTS)  ## every reader of strangers' bytes fuzzed (SECONDS=600 each); what it finds is in build/fuzz/
	$(PIP) --editable '.[dev,fuzz]'
	$(BIN)/python scripts/fuzz.py --seconds $(or $(SECONDS),600) $(ARGS)
	$(BIN)/python scripts/fuzz.py --page

soundness: $(TESTS)  ## every planted fault is found, no harmless change raises an alarm: docs/soundness.md is so now (a minute)
	$(BIN)/python scripts/soundness.py --check

mutation: $(TESTS)  ## every mistake an operator makes in verdict, codes and static probes (hours; FILES="wirecheck/verdict.py": minutes)
	$(PIP) --editable '.[dev,mutation]'
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python scripts/mutation.py $(FILES)

types: $(TESTS)  ## mypy --strict
	$(BIN)/mypy --strict wirecheck

check: $(RUNS)  ## everything in the repository that a script writes is as the script writes it
	$(BIN)/python scripts/make_demo_corpus.py --check
	$(BIN)/python scripts/regenerate.py --check
	$(BIN)/python scripts/mutation.py --check

reports: $(RUNS)  ## write reports/ and the generated pages of docs/ again
	$(BIN)/python scripts/architectures.py
	$(BIN)/python scripts/regenerate.py

site: $(TESTS)  ## the documentation site, in build/site/; a broken link, or a page that no menu names, fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

demo-models: $(RUNS)  ## train the two built-in models again (about five minutes)
	$(BIN)/python scripts/make_demo_corpus.py
	$(BIN)/python scripts/make_demo_models.py

benchmarks: $(RUNS)  ## seconds and peak memory against their targets
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/pair.py
	$(BIN)/python benchmarks/running.py --table

wheel: $(RUNS)  ## dist/wirecheck-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## everything that is not in the repository, but for .cache
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis wirecheck-demo

$(MADE):
	@$(PYTHON) -c '$(REQUIRED)'
	@echo "making $(VENV) (the first time this takes a few minutes, most of it torch)"
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUNS): $(MADE) pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(TESTS): $(MADE) pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ $(RUNS)
