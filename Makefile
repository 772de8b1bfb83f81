# Every way in. `make help` lists the targets; each sets up what it needs first, and skips what is done already.
CONF ?= conf/licences.toml
# The run's folder in runs/: that of the demo for the demo's configuration, else named like the configuration.
RUN ?= $(if $(filter conf/licences.toml,$(CONF)),demo,$(basename $(notdir $(CONF))))
NP ?= 2
SET ?=
ARGS ?=
MANIFEST ?=
# Of the generated files of bench-etl.
SIZE ?= 100MB
# Tests that run side by side: by default one more than cores, as far as the memory goes (tests/conftest.py); 0 for a few
# chosen by ARGS, which then need no further processes.
WORKERS ?= auto
# Elastic training: how many processes at least and at most, on which hosts (see deploy/hosts.sh), how many seconds it
# waits for the least, how many a host that failed is left out (at first and at last), how often it may begin anew.
ELASTIC ?=
MIN_NP ?= 1
MAX_NP ?= $(NP)
HOSTS ?=
HOSTS_FILE ?=
ELASTIC_TIMEOUT ?= 600
COOLDOWN ?= 10 300
RESETS ?= 100

PY := .venv/bin/python
# On 37 MB the Java machine would spend more time on optimising code than it could save by it. Left alone it would then
# reserve 48 MB for compiled code, which Spark fills, and drop what it compiled.
DEMO_JAVA_OPTIONS := $(or $(JDK_JAVA_OPTIONS),-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC)
LAUNCH = $(if $(ELASTIC),-np $(MIN_NP) --min-np $(MIN_NP) --max-np $(MAX_NP) \
    --host-discovery-script deploy/hosts.sh $(if $(HOSTS)$(HOSTS_FILE),,--network-interfaces lo) \
    --elastic-timeout $(ELASTIC_TIMEOUT) --blacklist-cooldown-range $(COOLDOWN) --reset-limit $(RESETS),-np $(NP) \
    -H localhost:$(NP))
PYTEST = $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
OVERRIDES = $(foreach pair,$(SET),--set '$(pair)')

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-dev data demo test test-python test-all etl train evaluate verify quarantine report run-report package bench bench-etl bench-input bench-minhash bench-scaling lint format lock clean distclean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' \
	    | awk -F '|' '{ printf "  make %-12s %s\n", $$1, $$2 }'
	@echo
	@echo '  CONF=conf/x.toml  the data set (now $(CONF))      RUN=name  the run (now $(RUN))'
	@echo '  NP=2  training processes      SET="train.epochs=1 split.seed=3"  keys of the configuration to override'
	@echo '  SPARK_MASTER in the environment: the Spark master (default local[*])'

setup: ## check prerequisites; .venv (PYTHON=, TORCH_INDEX_URL=, GPU=1), Horovod, Delta jars
	@setup/all.sh

setup-dev:
	@setup/all.sh dev

data: ## set up, fetch and unpack the demo's raw data
	@setup/all.sh data

demo: data ## the main job on real data, from the raw package to two HTML reports
	@JDK_JAVA_OPTIONS="$(DEMO_JAVA_OPTIONS)" \
	    $(MAKE) --no-print-directory etl train evaluate run-report CONF=conf/licences.toml RUN=demo NP=$(NP)
	@$(PY) -c 'import json; reports = json.load(open("runs/demo/summary.json"))["reports"]; \
	    print("\nThe data-quality report:", reports["quality"]); \
	    print("The run report:         ", reports["run"]); \
	    print("All figures:             runs/demo/summary.json")'

test: setup-dev data ## the tests that show every guarantee of the README, in ten minutes
	$(PYTEST) -m "not thorough" $(ARGS)

test-all: setup-dev data ## all other tests: long ones, many failures of processes, disks and hosts, the benchmarks' own
	$(PYTEST) -m thorough $(ARGS)

# What depends most on the versions of Python and of libraries.
SELECTION := tests/training/test_reader.py tests/training/test_order.py tests/training/test_gradients.py \
    tests/training/test_checkpoint.py tests/etl/sources/test_parquet.py tests/etl/test_clean.py tests/etl/test_deduplicate.py

test-python: ## a short selection of tests on another Python, in an environment beside .venv: PYTHON=python3.12
	@test -n "$(PYTHON)" || { echo 'name the Python: make test-python PYTHON=python3.12' >&2; exit 2; }
	@VENV=.venv-$(notdir $(PYTHON)) PYTHON=$(PYTHON) setup/all.sh dev
	.venv-$(notdir $(PYTHON))/bin/python -m pytest -m "not thorough" $(SELECTION) $(ARGS)

etl: setup ## the pipeline: raw records to published, checksummed shards
	$(PY) -m etl.pipeline --config $(CONF) $(OVERRIDES) $(ARGS)

train: setup ## train on the newest published version, with NP processes; ELASTIC=1: with MIN_NP to MAX_NP
	$(PY) -m training.train --config $(CONF) --run $(RUN) $(OVERRIDES) $(ARGS) --check --ranks $(if $(ELASTIC),$(MAX_NP),$(NP))
	$(if $(ELASTIC),HOSTS='$(HOSTS)' HOSTS_FILE='$(HOSTS_FILE)') .venv/bin/horovodrun $(LAUNCH) --gloo \
	    $(PY) -m training.train --config $(CONF) --run $(RUN) $(OVERRIDES) $(ARGS)

evaluate: setup ## evaluate the run on the test split, beside a linear baseline
	$(PY) -m training.evaluate --config $(CONF) --run $(RUN) $(OVERRIDES)

verify: setup ## hash every shard again: MANIFEST=path, default the newest of CONF
	$(PY) -m etl.verify $(if $(MANIFEST),'$(MANIFEST)',--config $(CONF) $(OVERRIDES))

quarantine: setup ## what could not be read and why, masked; ARGS="--export FOLDER": the raw records, to be mended
	$(PY) -m etl.quarantine --config $(CONF) $(OVERRIDES) $(ARGS)

report: setup ## write the data-quality report again, and that of the run
	$(PY) -m etl.report --config $(CONF) $(OVERRIDES)
	@$(MAKE) --no-print-directory run-report

run-report: setup
	$(PY) -m training.report --config $(CONF) --run $(RUN) $(OVERRIDES)

package: setup ## dist/: what spark-submit needs on a cluster
	$(PY) deploy/package.py

bench: data ## seconds of each stage, and samples/s of the training, on the demo's data
	$(PY) benchmarks/stages.py --config $(CONF) --ranks $(NP)

bench-etl: setup ## the pipeline and its near-duplicate stage beside datatrove and text-dedup: SIZE=100MB (1GB, 10GB)
	$(PY) -m benchmarks.etl --size $(SIZE) $(ARGS)

bench-scaling: setup ## samples/s of two ranks beside two processes that do not talk, and DDP (about 12 minutes)
	$(PY) -m benchmarks.scaling $(ARGS)

bench-input: data ## training input beside pyarrow and six other libraries: ARGS="--rounds 3 --only ours"
	$(PY) -m benchmarks.input $(ARGS)

bench-minhash: setup ## documents/s per core of MinHash kernels: ours, rensa, datasketch, Daft, DuckDB, Spark (about 5 minutes)
	$(PY) -m benchmarks.minhash $(ARGS)

lint: setup-dev ## ruff, mypy (strict), import directions
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup-dev ## let ruff rewrite the code in the common style
	.venv/bin/ruff check --fix-only --quiet .
	.venv/bin/ruff format .

lock: setup ## resolve requirements/*.in anew into the locks with hashes, one for all versions of Python
	cd requirements && for name in bootstrap run gpu dev; do \
	    ../.venv/bin/uv pip compile $$name.in --override overrides.txt $$([ $$name = gpu ] || echo --excludes excludes.txt) \
	        --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --upgrade \
	        -o $$name.txt || exit; \
	done

clean: ## remove what was built: dist, build, logs, caches of the tools
	rm -rf dist build logs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv*/*' -prune -exec rm -rf {} +

distclean: clean ## clean, and .venv and the demo's raw data too (never warehouse/ or runs/)
	rm -rf .venv .venv-* data/licensedcode data/.licensedcode
