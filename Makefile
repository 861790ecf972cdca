# make ask      build .venv, install, and ask a question about a picture that ships with the project
# make test     the same, and pass every check
# make check    lint, types and tests, in a .venv that is built already
# make format   put the code in order
# make test-llamacpp   ask a real small model behind llama.cpp 100 questions; with QUESTIONS=10 only the first ten
# make test-browser   drive the web page in headless Chromium, installed first where that can be done

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LLAMA  := .venv-llamacpp
AXE    := 4.14.1
APT    := $(if $(filter 0,$(shell id -u)),,sudo -n )apt-get -qq
GET_CHROMIUM := { $(APT) update && $(APT) install -y --no-install-recommends chromium >/dev/null; }
QUESTION ?= Which digit is larger: top right or bottom right?
IMAGE    ?= docs/examples/digits.png

.PHONY: ask test check lint types unit format test-browser test-llamacpp test-vllm clean

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

# Without Chromium, or without axe-core, the tests that need it skip and say so.
test-browser: $(STAMP)
	command -v chromium || command -v chromium-browser || command -v google-chrome || $(GET_CHROMIUM) || true
	test -e node_modules/axe-core/axe.min.js || npm install --no-save --no-audit --no-fund axe-core@$(AXE) || true
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[browser]'
	$(BIN)/pytest -m browser tests/demos

test-llamacpp: $(STAMP) $(LLAMA)/.installed
	COLM_VL_LLAMACPP=$(LLAMA) COLM_VL_LLAMACPP_QUESTIONS=$(QUESTIONS) $(BIN)/pytest -m llamacpp tests/serving

$(LLAMA)/.installed: tests/serving/llamacpp-requirements.txt
	$(PYTHON) -m venv $(LLAMA)
	$(LLAMA)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

# COLM_VL_VLLM_URL is the base URL of a running vLLM, for instance http://localhost:8000/v1
test-vllm: $(STAMP)
	$(BIN)/pytest -m vllm tests/serving

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "colm-vl needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,demo]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(LLAMA) .mypy_cache .pytest_cache .ruff_cache .coverage
