.DEFAULT_GOAL := help
.PHONY: help run test check conformance bench load chaos profile lock clean

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin

help:
	@echo "make run     start the runtime on http://127.0.0.1:8000 (PORT=9000 make run for another port)"
	@echo "make test    run the tests"
	@echo "make check   ruff, mypy --strict, import contracts, tests"
	@echo "make conformance  try every client, write docs/compatibility.md"
	@echo "make bench   measure against the floor and a minimal handler"
	@echo "make profile show where the CPU of a request goes"
	@echo "make load    500 streams at once, then 10,000 requests of which some leave and some fail"
	@echo "make chaos   1,000 kills under load, on SQLite and PostgreSQL (CHAOS_KILLS, CHAOS_DATABASE, CHAOS_SEED)"
	@echo "make lock    resolve the dependencies again and write requirements/"

$(BIN)/uv: requirements/bootstrap.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with PYTHON=/path/to/python3 make …"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

# uv is five times faster than pip; pip is there for networks where uv finds no index.
define install
	@echo "Installing $(1) …"
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r $(1) \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/uv
	$(call install,requirements/run.txt)

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/uv
	$(call install,requirements/dev.txt)
	@touch $(VENV)/.run

run: $(VENV)/.run
	@$${PORT:+env RUNTIME_PORT=$$PORT} $(BIN)/agent-runtime serve

test: $(VENV)/.dev
	$(BIN)/pytest

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

conformance: $(VENV)/.dev
	$(BIN)/python -m tests.conformance

bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks

profile: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.profiling

load: $(VENV)/.dev
	$(BIN)/python -m tests.e2e.load

chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

define WITHOUT_ADDRESSES
const lock = JSON.parse(fs.readFileSync("package-lock.json"));
for (const each of Object.values(lock.packages)) delete each.funding;
fs.writeFileSync("package-lock.json", JSON.stringify(lock, null, 2) + "\n");
endef
export WITHOUT_ADDRESSES

lock: $(BIN)/uv
	$(COMPILE) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) pyproject.toml --group dev -o requirements/dev.txt
	$(COMPILE) pyproject.toml requirements/build.in -c requirements/dev.txt -o requirements/run.txt
	for name in openai2 openai3; do \
		$(COMPILE) requirements/conformance-$$name.in -o requirements/conformance-$$name.txt || exit 1; done
	cd tests/conformance/js && npm install --package-lock-only --no-audit --no-fund \
		&& node -e "$$WITHOUT_ADDRESSES"

clean:
	rm -rf $(VENV) .venv-conformance tests/conformance/js/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
