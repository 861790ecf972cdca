# make ask            create .venv, install, and ask a question about an example picture
# make test           the same, then run all checks, with one process of tests for each core, or JOBS=N
# make check          run lint, type checks and tests in an existing .venv
# make coverage       run the tests of make check and show how much of the code they run
# make format         format the code
# make lock           write constraints.txt: every package of every extra; make lock-upgrade takes the newest versions
# make licences       write docs/licences.md; fail on a licence that does not permit commercial use
# make lock-check     fail if constraints.txt is not current
# make docs           build the documentation in docs/_build/html, in an environment of its own
# make docs-serve     the same, then serve it on http://127.0.0.1:8800
# make test-browser   test the web page in headless Chromium, if that is installed
# make install-chromium  install Chromium with apt-get, and with sudo unless you are root
# make test-llamacpp  ask a real small model behind llama.cpp 100 questions, or the first N with QUESTIONS=N
# make test-clients   test colm-vl serve with published clients and schemathesis, in an environment of their own
# make test-ray       kill ten nodes of a Ray cluster during 2,000 questions, and test the service on Ray Serve
# make test-vllm      test against a running vLLM server

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LLAMA  := .venv-llamacpp
DOCS   := .venv-docs
CLIENTS := .venv-clients
RAY    := .venv-ray
LOCK   := .venv-lock
UV     := 0.13.9
LICENCES := .venv-licences
PIP_LICENSES := 5.5.5
AXE    := 4.14.1
APT    := $(if $(filter 0,$(shell id -u)),,sudo )apt-get -qq
CHROMIUM := command -v chromium || command -v chromium-browser || command -v google-chrome
JOBS   ?= auto
QUESTION ?= Which digit is larger: top right or bottom right?
IMAGE    ?= docs/examples/digits.png

.PHONY: ask test check lint types unit coverage format lock lock-upgrade lock-check licences docs docs-serve docs-tables install-chromium test-browser test-clients test-llamacpp test-ray test-vllm clean

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

# Each core has a process of tests, so a thread of torch is enough for each of them.
unit:
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not browser and not ray" -n $(JOBS) --dist loadfile

coverage:
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not browser and not ray" -n $(JOBS) --dist loadfile --cov --cov-report=term

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# These need a package registry.
lock: $(LOCK)/.installed
	$(LOCK)/bin/python tools/lock.py

lock-upgrade: $(LOCK)/.installed
	$(LOCK)/bin/python tools/lock.py --upgrade

lock-check: $(LOCK)/.installed
	@$(LOCK)/bin/python tools/lock.py --check

# Installs gigabytes: all extras, with the CUDA libraries of torch.
licences: $(LOCK)/.installed $(LICENCES)/.installed
	$(LOCK)/bin/python tools/licences.py $(LICENCES)/bin/python

$(LICENCES)/.installed: pyproject.toml constraints.txt | $(LOCK)/.installed
	$(PYTHON) -m venv $(LICENCES)
	$(LOCK)/bin/uv pip install --quiet --python $(LICENCES)/bin/python --constraint constraints.txt --requirement pyproject.toml --all-extras
	touch $@

$(LOCK)/.installed: Makefile
	$(PYTHON) -m venv $(LOCK)
	$(LOCK)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt uv==$(UV) pip-licenses==$(PIP_LICENSES) packaging
	touch $@

# Warnings are errors: among them, links and anchors that do not exist, and files that a page would load from another host.
docs: $(DOCS)/.installed
	rm -rf docs/_build
	$(DOCS)/bin/python -m sphinx --fail-on-warning --keep-going -q -b html docs docs/_build/html

docs-serve: docs
	$(DOCS)/bin/python -m http.server --bind 127.0.0.1 --directory docs/_build/html 8800

# Write the tables of settings and commands in docs/policies.md, docs/team-file.md and docs/cli.md from the code.
docs-tables: $(STAMP)
	$(BIN)/python docs/_ext/reference.py

$(DOCS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

install-chromium:
	@$(CHROMIUM) || { $(APT) update && $(APT) install -y --no-install-recommends chromium >/dev/null; }

# Tests that need Chromium or axe-core are skipped with a message if these are missing.
test-browser: $(STAMP)
	@$(CHROMIUM) || echo "Chromium is not installed, and its tests are skipped: make install-chromium, or install Chrome" >&2
	test -e node_modules/axe-core/axe.min.js || npm install --no-save --no-audit --no-fund axe-core@$(AXE) || true
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[browser]'
	$(BIN)/pytest -m browser tests/demos tests/eval

test-llamacpp: $(STAMP) $(LLAMA)/.installed
	COLM_VL_LLAMACPP=$(LLAMA) COLM_VL_LLAMACPP_QUESTIONS=$(QUESTIONS) $(BIN)/pytest -m llamacpp tests/serving

$(LLAMA)/.installed: tests/serving/llamacpp-requirements.txt
	$(PYTHON) -m venv $(LLAMA)
	$(LLAMA)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

test-clients: $(STAMP) $(CLIENTS)/.installed
	COLM_VL_CLIENTS=$(CLIENTS) $(BIN)/pytest -m clients tests/contract

$(CLIENTS)/.installed: tests/contract/clients-requirements.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# Ray Serve brings servers and event loops that the other tests do without.
test-ray: $(STAMP) $(RAY)/.installed
	COLM_VL_RAY_QUESTIONS=2000 COLM_VL_RAY_KILLS=10 $(BIN)/pytest tests/batch/test_ray.py
	$(RAY)/bin/pytest tests/service/test_ray_serve.py

$(RAY)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,ray-serve]' openai httpx pytest pytest-asyncio pytest-timeout
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
	rm -rf $(VENV) $(LLAMA) $(CLIENTS) $(RAY) $(DOCS) $(LOCK) $(LICENCES) docs/_build .mypy_cache .pytest_cache .ruff_cache .coverage
