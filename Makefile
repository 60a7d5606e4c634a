# Two commands do all the set-up: `make app` and `make test`.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEFAULT_MODEL := qwen2.5-coder-0.5b
# Where PyTorch keeps its CPU builds: asked only where there is no NVIDIA GPU and it can be reached,
# so that nobody downloads gigabytes of CUDA libraries for nothing.
CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: app test unit model-tests browser-tests engine-tests check model clean
.DELETE_ON_ERROR:

app: $(VENV)/.run model
	$(PY) app.py

test: check unit engine-tests model-tests browser-tests

check: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Two processes of one thread each: tiny models gain nothing from a second thread.
unit: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile -m "not model and not browser and not engine"

# Processes of their own, killed now and then.
engine-tests: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(PY) -m pytest -m engine

model-tests: $(VENV)/.dev model
	$(PY) -m pytest -m model

browser-tests: $(VENV)/.browser model
	$(PY) -m pytest -m browser

# Looked for before Python is asked, which takes seconds; config.json is written last.
model: $(VENV)/.run
	@ls "$${DRO_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/dro-explorer}"/models/$(DEFAULT_MODEL)-*/config.json \
	>/dev/null 2>&1 || $(PY) -m dro models --fetch $(DEFAULT_MODEL)

$(VENV)/.run: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	if ! command -v nvidia-smi >/dev/null && $(PY) -c 'import urllib.request as r; r.urlopen("$(CPU_INDEX)/torch/", timeout=5)' 2>/dev/null; \
	then $(PY) -m pip install --progress-bar on --extra-index-url $(CPU_INDEX) "$$(grep '^torch' requirements.txt)"; fi
	$(PY) -m pip install --progress-bar on -r requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt requirements-ray.txt requirements-mcp.txt $(VENV)/.run
	$(PY) -m pip install --progress-bar on -r requirements-dev.txt
	touch $@

# Debian's Chromium: the test tool's own download is not to be had everywhere.
$(VENV)/.browser: $(VENV)/.dev
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || test -n "$$CHROMIUM" || \
	{ root=$$([ $$(id -u) = 0 ] || echo sudo); $$root apt-get update -qq && \
	$$root apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core; } || \
	{ echo 'Install Chromium (apt-get install chromium), or name it: make test CHROMIUM=/path/to/chromium'; exit 1; }
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
