# Every target works from an empty clone, with no environment active. The environment is made
# once in .venv and again only when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# Two processes of one thread each; a file stays in one of them.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test pages figures pictures check slow vignettes bench clean

help: ## show this text
	@echo "dgmm: deep generalized mixed models. Targets of this Makefile:"
	@echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' \
		| while IFS='|' read -r target text; do printf '%-18s%s\n' "$$target" "$$text"; done
	@echo
	@echo "Another Python: make test PYTHON=python3.12. Another folder: make test VENV=env."

demo: $(VENV)/.ok ## install if needed, then fit the deep and the classical model to pbcseq
	$(PY) -m dgmm demo

test: $(VENV)/.ok ## install if needed, then run the tests (ten minutes)
	$(PYTEST) -q

pages: $(VENV)/.ok ## run the documents and the short vignettes (five minutes)
	$(PYTEST) --dist load -q -m "pages and not slow"

figures: $(VENV)/.ok ## write the figures of the documents from the stored tables
	$(PY) benchmarks/figures.py

pictures: $(VENV)/.ok ## draw the pictures of docs/plots.md (a minute)
	$(PY) benchmarks/pictures.py

check: $(VENV)/.ok-dev ## lint, format, types, import layers
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy dgmm
	$(VENV)/bin/lint-imports

slow: $(VENV)/.ok ## the simulation studies (long)
	$(PY) -m pytest -q -m slow

vignettes: $(VENV)/.ok ## run every vignette as a script, at full length
	@set -e; for file in vignettes/*.py; do \
		echo "Running $$file"; MPLBACKEND=Agg $(PY) "$$file"; done

bench: $(VENV)/.ok-bench ## accuracy and speed beside other programs (long)
	$(PY) benchmarks/accuracy.py
	$(PY) benchmarks/speed.py 800 8000
	$(PY) benchmarks/run.py
	$(PY) benchmarks/missing.py 20
	$(PY) benchmarks/prediction_coverage.py 400

clean: ## remove the environment, builds and caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ok: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "dgmm needs Python 3.11 or newer, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
		echo "Name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@test -x $(PY) || { echo "Creating the environment $(VENV) ..."; \
		$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Could not create it; on Debian or Ubuntu install the package python3-venv."; exit 1; }; }
	@echo "Installing dgmm and its tests into $(VENV) (a few minutes the first time) ..."
	@$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.ok-dev: $(VENV)/.ok
	@echo "Installing ruff, mypy and import-linter into $(VENV) ..."
	@$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.ok-bench: $(VENV)/.ok
	@echo "Installing the other programs into $(VENV) ..."
	@$(PIP) -e '.[bench]'
	@touch $@
