# make install     installs into .venv, fetches and verifies the assets
# make explore     opens the explorer in the browser
# make lab         opens copies of the notebooks, lab/, which keep what you change
# make reproduce   installs into .venv, fetches and verifies the assets, runs every notebook, fills reproduced/ and compares
# make test        the same set-up, then the tests
# make docs        builds the site: site/html/index.html, with the notebooks as `make reproduce` ran them, if it did
PYTHON ?= python3
BIN := .venv/bin

# Where a machine is told to keep no compiled modules, each of the programs that tests and notebooks start would compile
# anew what it imports: five seconds of eight.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install explore reproduce test lab check docs clean

install: .venv/installed
	$(BIN)/restyle assets

reproduce: .venv/installed
	$(BIN)/restyle reproduce

# Processes of one thread each: on small images a second thread gains little, and tests start many programs.
# How many tests/conftest.py says, from cores and memory.
test: .venv/installed
	$(BIN)/restyle assets
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# Of copies, since JupyterLab saves outputs into what it opens. A copy that is there stays as it is. The server's root
# is this folder, so that the pictures of figures/ are seen in them.
lab: .venv/installed
	mkdir -p lab
	for each in notebooks/*.ipynb; do test -e lab/$$(basename $$each) || cp $$each lab || exit; done
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/lab

# Notebook 07 without its code and prose.
explore: install
	$(BIN)/voila --VoilaExporter.exclude_markdown=True notebooks/07_explore.ipynb

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	$(BIN)/mypy

docs: .venv/installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	$(BIN)/python -m restyle_lib.reporting.site $(SPHINXOPTS)

# The stamp is written last, so an interrupted installation is done again; a second call does nothing. What is installed
# is compiled when it is first imported: most of it never is, and all of it takes a minute or two.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 …"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -e '.[test]'
	touch $@

clean:
	rm -rf .venv runs reproduced site
