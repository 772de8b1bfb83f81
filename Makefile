# Entry points. `make help` lists the targets; each first sets up what it needs and skips what is done already.
CONF ?= conf/licences.toml
# Folder of the run in runs/: `demo` for the demo's configuration, otherwise the configuration's name.
RUN ?= $(if $(filter conf/licences.toml,$(CONF)),demo,$(basename $(notdir $(CONF))))
NP ?= 2
SET ?=
ARGS ?=
MANIFEST ?=
# Training: `auto` goes on with the run where there is something to go on from, and begins it otherwise; anything else
# goes on. AGAIN=1 removes what a training left under that name, and begins anew.
RESUME ?=
AGAIN ?=
# Size of the generated files of bench-etl.
SIZE ?= 100MB
# Parallel tests: by default one more than cores, if memory suffices (tests/conftest.py). Set 0 for a few tests
# selected by ARGS: they then need no further processes.
WORKERS ?= auto
# BACKEND=ddp trains on PyTorch's process groups, started by torchrun.
BACKEND ?=
# Elastic training: minimum and maximum of processes, hosts (see deploy/hosts.sh), seconds to wait for the minimum,
# seconds to exclude a host that failed (initial and maximum), maximum number of restarts.
ELASTIC ?=
MIN_NP ?= 1
MAX_NP ?= $(NP)
HOSTS ?=
HOSTS_FILE ?=
ELASTIC_TIMEOUT ?= 600
COOLDOWN ?= 10 300
RESETS ?= 100

PY := .venv/bin/python
LAUNCH = $(if $(ELASTIC),-np $(MIN_NP) --min-np $(MIN_NP) --max-np $(MAX_NP) \
    --host-discovery-script deploy/hosts.sh $(if $(HOSTS)$(HOSTS_FILE),,--network-interfaces lo) \
    --elastic-timeout $(ELASTIC_TIMEOUT) --blacklist-cooldown-range $(COOLDOWN) --reset-limit $(RESETS),-np $(NP) \
    -H localhost:$(NP))
PYTEST = $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
DDP = $(filter ddp,$(BACKEND))
START = $(if $(DDP),$(if $(ELASTIC),$(error BACKEND=ddp has no elastic training))\
    .venv/bin/torchrun --standalone --nproc-per-node $(NP) -m --,\
    .venv/bin/horovodrun $(LAUNCH) --gloo $(PY) -m)
HOW = $(if $(DDP),--set train.backend=ddp) $(if $(RESUME),--resume$(if $(filter auto,$(RESUME)),=auto)) $(if $(filter 1,$(AGAIN)),--again)
OVERRIDES = $(foreach pair,$(SET),--set '$(pair)')

# Another Python's folder of modules, such as conda's, with which that of .venv could not even start.
unexport PYTHONHOME

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-dev data demo test test-python test-all etl train evaluate verify quarantine report run-report package bench bench-etl bench-input bench-memory bench-methods bench-minhash bench-scaling lint format lock clean distclean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' \
	    | awk -F '|' '{ printf "  make %-14s %s\n", $$1, $$2 }'
	@echo
	@echo '  CONF=conf/x.toml  the data set (now $(CONF))      RUN=name  the run (now $(RUN))'
	@echo '  NP=2  training processes      SET="train.epochs=1 split.seed=3"  configuration keys to override'
	@echo '  RESUME=auto  go on with the run, or begin it      AGAIN=1  remove what is there, and begin anew'
	@echo '  ARGS="--…"  further flags of etl, train, evaluate, quarantine, the tests and benchmarks'
	@echo '  SPARK_MASTER in the environment: the Spark master (default local[*])'

setup: ## check prerequisites; install .venv (PYTHON=, TORCH_INDEX_URL=, GPU=1), Horovod, Delta jars
	@setup/all.sh

setup-dev:
	@setup/all.sh dev

data: ## set up; fetch and unpack the raw data of all demos
	@setup/all.sh data

demo: data ## run the main job on real data, from the raw package to two HTML reports
	@$(MAKE) --no-print-directory etl train evaluate run-report CONF=conf/licences.toml RUN=demo NP=$(NP) RESUME=auto
	@$(PY) -c 'import json; reports = json.load(open("runs/demo/summary.json"))["reports"]; \
	    print("\nThe data-quality report:", reports["quality"]); \
	    print("The run report:         ", reports["run"]); \
	    print("All figures:             runs/demo/summary.json")'

test: setup-dev data ## run the tests that show every guarantee of the README, and all other quick ones
	$(PYTEST) -m "not thorough" $(ARGS)

test-all: setup-dev data ## run all other tests: long ones, failures of processes, disks and hosts, the benchmarks' own
	$(PYTEST) -m thorough $(ARGS)

# Tests that depend most on the versions of Python and of libraries.
SELECTION := tests/training/test_reader.py tests/training/test_order.py tests/training/test_gradients.py \
    tests/training/test_checkpoint.py tests/etl/sources/test_parquet.py tests/etl/test_clean.py tests/etl/test_deduplicate.py

test-python: ## run a short selection of tests on another Python, in a separate environment: PYTHON=python3.12
	@test -n "$(PYTHON)" || { echo 'name the Python: make test-python PYTHON=python3.12' >&2; exit 2; }
	@RINGLAKE_VENV=.venv-$(notdir $(PYTHON)) PYTHON=$(PYTHON) setup/all.sh dev data
	.venv-$(notdir $(PYTHON))/bin/python -m pytest -m "not thorough" $(SELECTION) $(ARGS)

etl: setup ## run the pipeline: raw records (those of a demo are fetched) to published, checksummed shards
	@setup/data.sh '$(CONF)'
	$(PY) -m etl.pipeline --config $(CONF) $(OVERRIDES) $(ARGS)

train: setup ## train on the newest published version with NP processes; ELASTIC=1: MIN_NP to MAX_NP; BACKEND=ddp: by torchrun; RESUME=auto, AGAIN=1
	$(PY) -m training.train --config $(CONF) --run $(RUN) $(HOW) $(OVERRIDES) $(ARGS) --check --ranks $(if $(ELASTIC),$(MAX_NP),$(NP))
	$(if $(ELASTIC),HOSTS='$(HOSTS)' HOSTS_FILE='$(HOSTS_FILE)') $(START) training.train --config $(CONF) --run $(RUN) $(HOW) $(OVERRIDES) $(ARGS)

evaluate: setup ## evaluate the run on the test split, beside a linear baseline
	$(PY) -m training.evaluate --config $(CONF) --run $(RUN) $(OVERRIDES) $(ARGS)

verify: setup ## re-hash every shard: MANIFEST=path (default: the newest of CONF)
	$(PY) -m etl.verify $(if $(MANIFEST),'$(MANIFEST)',--config $(CONF) $(OVERRIDES))

quarantine: setup ## show what could not be read and why, masked; ARGS="--export FOLDER" writes the raw records
	$(PY) -m etl.quarantine --config $(CONF) $(OVERRIDES) $(ARGS)

report: setup ## rewrite the data-quality report and the run report
	$(PY) -m etl.report --config $(CONF) $(OVERRIDES)
	$(PY) -m training.report --config $(CONF) --run $(RUN) $(OVERRIDES)

run-report: setup
	$(PY) -m training.report --config $(CONF) --run $(RUN) $(OVERRIDES)

package: setup ## build what spark-submit needs on a cluster, in dist/
	$(PY) deploy/package.py

bench: data ## measure seconds of each stage and samples/s of training, on the demo's data
	$(PY) benchmarks/stages.py --config $(CONF) --ranks $(NP)

bench-etl: setup ## compare the pipeline and its near-duplicate stage with datatrove and text-dedup: SIZE=100MB (1GB, 10GB)
	$(PY) -m benchmarks.etl --size $(SIZE) $(ARGS)

bench-scaling: setup ## compare samples/s of two ranks with two independent processes and DDP (about 15 minutes)
	$(PY) -m benchmarks.scaling $(ARGS)

bench-input: data ## compare training input (texts, images, tables) with pyarrow and six other libraries: ARGS="--rounds 3 --only ours"
	$(PY) -m benchmarks.input $(ARGS)

bench-memory: setup ## measure memory and time of a training step by precision, checkpointing and accumulation (about 3 minutes)
	$(PY) -m benchmarks.methods.memory $(ARGS)

bench-methods: setup-dev data ## measure the claims about ways of training that have no figures yet: ARGS="--only private --again" (hours for all)
	$(PY) -m benchmarks.methods $(ARGS)

bench-minhash: setup ## compare MinHash kernels, documents/s per core: ours, rensa, datasketch, Daft, DuckDB, Spark (about 5 minutes)
	$(PY) -m benchmarks.minhash $(ARGS)

lint: setup-dev ## check with ruff, mypy (strict) and import-linter
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup-dev ## format the code with ruff
	.venv/bin/ruff check --fix-only --quiet .
	.venv/bin/ruff format .

lock: setup ## resolve requirements/*.in into locks with hashes, one for all versions of Python
	cd requirements && for name in bootstrap run gpu avro iceberg optimizers pretrained privacy tune dev; do \
	    case $$name in gpu) without= ;; bootstrap|run) without='--excludes excludes.txt' ;; \
	        *) without='--excludes excludes.txt --excludes in-run.txt' ;; esac; \
	    ../.venv/bin/uv pip compile $$name.in --override overrides.txt $$without --universal --python-version 3.11 \
	        --generate-hashes --no-emit-index-url --no-annotate --upgrade -o $$name.txt || exit; \
	done

clean: ## remove build results: dist, build, logs, tool caches
	rm -rf dist build logs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv*/*' -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv and the demos' raw data (never warehouse/ or runs/)
	rm -rf .venv .venv-* $(foreach name,licensedcode digits minilm shuttle,data/$(name) data/.$(name))
