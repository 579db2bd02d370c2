# Two commands on a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
UV := VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv

.PHONY: help setup demo test check bench bench-detector soak incident paged pictures fix lock secrets clean
help: ## This list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: .venv/.ready ## A digit reader is shown cats, live in the terminal (ARGS="--seconds 60" is passed on)
	@$(BIN)/oodwatch demo $(ARGS)

test: check ## Static checks and all tests
	$(BIN)/python -m pytest --durations=5 $(ARGS)

check: .venv/.ready ## Static checks and unit tests: no service, under a minute
	$(BIN)/ruff format --check dashboard pipeline tests
	$(BIN)/ruff check dashboard pipeline tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(filter check,$(MAKECMDGOALS)),$(BIN)/python -m pytest tests/unit)

bench: .venv/.ready ## Speed, as ratios in one run (minutes)
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-detector: .venv/.ready ## The detector's table: false alarms, delays, peers (hours; ARGS="--quick" in minutes)
	$(BIN)/python -m tests.benchmarks.detector $(ARGS)

soak: .venv/.ready ## Break workers, broker and database under load, and account for every record (an hour or two)
	$(BIN)/python -m tests.faults.soak $(ARGS)

incident: .venv/.ready ## A real worker and monitor see an incident come and go; kill -9 on the way (an hour)
	$(BIN)/python -m tests.incident $(ARGS)

paged: .venv/.ready ## The incident told on every channel: monitors killed, database and channels away (half an hour)
	$(BIN)/python -m tests.paged $(ARGS)

pictures: .venv/.ready ## Take the README's pictures anew (needs Chromium)
	$(BIN)/python -m tests.browser.pictures

fix: .venv/.ready ## Format, and mend what can be mended safely
	$(BIN)/ruff format dashboard pipeline tests
	$(BIN)/ruff check --fix dashboard pipeline tests

setup: .venv/.ready ## Make .venv from the locks

.venv/.ready: pyproject.toml requirements.lock requirements-torch.lock .ci/setup
	@PYTHON="$(PYTHON)" UV_VERSION="$(UV_VERSION)" bash .ci/setup
	@touch $@

# One resolution, written to two files: torch and what only its CUDA build needs can then be left out
# where there is no GPU. Hashes, but no addresses.
lock: .venv/.ready ## Resolve all dependencies anew
	$(UV) pip compile pyproject.toml --all-extras --universal --generate-hashes --no-annotate --no-header -q -U -o .venv/all.lock
	awk '/^[a-z]/ { torch = /^(torch==|triton|nvidia-|cuda-)/ } { print > (torch ? "requirements-torch.lock" : "requirements.lock") }' .venv/all.lock

SECRETS := owner worker dashboard operator
secrets: .env $(SECRETS:%=.secrets/%_password) ## Make what docker-compose.yml needs; keeps what exists

.env:
	@id="$$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=' | sed 's/^-/A/')" \
	&& sed "s/^KAFKA_CLUSTER_ID=.*/KAFKA_CLUSTER_ID=$$id/" .env.example > $@

# The folder keeps other users out; the files themselves must be readable for the users of the containers.
.secrets/%_password:
	@mkdir -p -m 700 $(@D)
	@head -c 24 /dev/urandom | base64 > $@
	@chmod 444 $@

clean: ## Remove everything that was made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
