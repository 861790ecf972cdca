# make ask      build .venv, install, and ask a question about a picture that ships with the project
# make test     the same, and pass every check
# make check    lint, types and tests, in a .venv that is built already
# make format   put the code in order

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
QUESTION ?= How many red circles are there?
IMAGE    ?= docs/examples/shapes.png

.PHONY: ask test check lint types unit format test-browser test-vllm clean

ask: $(STAMP)
	$(BIN)/colm-vl ask -q "$(QUESTION)" --image "$(IMAGE)"

test: $(STAMP)
	$(MAKE) check

check: lint types unit

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

unit:
	$(BIN)/pytest --cov --cov-report=term

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# COLM_VL_VLLM_URL is the base URL of a running vLLM, for instance http://localhost:8000/v1
test-vllm: $(STAMP)
	$(BIN)/pytest -m vllm tests/serving

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "colm-vl needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,demo]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .coverage
