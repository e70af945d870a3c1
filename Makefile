# One target per stage, and the whole demo. On a fresh machine `make demo` or `make test` sets everything up first.
#
#   make demo                       embedded images, a teacher, a cache, two students, a report
#   make demo DATA=path/to/folder   the same on your own class folders
#   make ingest|seeds|teacher|verify|student|train-many|report|run|status|gc CONFIG=my.toml
#   make submit CONFIG=my.toml TO=slurm   or kubernetes; TO="slurm --dry-run" prints the scripts
#   make study DATA=path/to/folder BUDGET=60   designs, view counts, temperatures, codecs; one page of findings
#   make check | test | lint | bench; on a GPU: make test-gpu | bench-gpu; on data beside the project: make test-real-data

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAGES := ingest seeds teacher verify student train-many report run status seal gc

.PHONY: help setup demo study check test test-gpu test-real-data lint bench bench-gpu clean submit $(STAGES)

help:
	@sed -n '2,9p' Makefile | cut -c 3-

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "stillroom needs Python 3.11 to 3.13; make PYTHON=python3.12 ... chooses one"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# DATA: class folders of your own; the digits otherwise.
ifdef DATA
DEMO := runs/demo-$(notdir $(patsubst %/,%,$(DATA)))
SIZE ?= 64
DEMO_DATA := --set 'data.train="$(DATA)"' --set data.samples_per_shard=500
else
DEMO := runs/demo
SIZE ?= 32
DEMO_DATA := --set 'data.train="$(DEMO)/images"'
endif

demo: setup
ifndef DATA
	$(BIN)/python -m stillroom.stages.ingest.demo_digits $(DEMO)/images
endif
	$(BIN)/stillroom run configs/demo-teacher.toml --set 'run.dir="$(DEMO)/teacher"' $(DEMO_DATA) --set student.size=$(SIZE)
	$(BIN)/stillroom run configs/demo.toml --set 'run.dir="$(DEMO)"' $(DEMO_DATA) --set student.size=$(SIZE) \
		--set teacher.size=$(SIZE) --set 'teacher.weights="$(DEMO)/teacher/students/teacher/weights.safetensors"'
	@echo; echo "The report: $(DEMO)/report.html"

# BUDGET: minutes. Views and epochs are chosen to fit.
BUDGET ?= 60
SEEDS ?= 3
STUDY := runs/study$(if $(DATA),-$(notdir $(patsubst %/,%,$(DATA))))

study: setup
ifndef DATA
	$(BIN)/python -m stillroom.stages.ingest.demo_digits $(STUDY)/images
endif
	$(BIN)/stillroom study $(if $(DATA),$(DATA),$(STUDY)/images) --dir $(STUDY) --budget $(BUDGET) --seeds $(SEEDS) --size $(or $(SIZE),64)

$(STAGES): setup
	@test -n "$(CONFIG)" || { echo "say which run: make $@ CONFIG=configs/demo.toml"; exit 2; }
	$(BIN)/stillroom $@ $(CONFIG)

TO ?= slurm

submit: setup
	@test -n "$(CONFIG)" || { echo "say which run: make $@ CONFIG=configs/demo.toml"; exit 2; }
	$(BIN)/stillroom $@ $(CONFIG) --$(TO)

# Whole files in each process, as their tests share fixtures. make PARALLEL= test runs them one after another.
PARALLEL ?= --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# What a contributor runs before a commit: all but the slow tests.
check: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(PARALLEL) -m 'not slow and not gpu and not real_data'

# One thread each: small models gain nothing by more, and where others compute too, waiting threads cost a great deal.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m 'not gpu and not real_data'

# The same proofs once more on data that lies beside the project; tests/trials/realdata.py says what the folder holds.
test-real-data: setup
	@test -n "$$STILLROOM_TEST_DATA" || { echo "name the folder of data: STILLROOM_TEST_DATA=path make $@"; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'real_data and not gpu'

test-gpu: setup
	$(BIN)/python -m pytest -m gpu -s

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --package stillroom
	$(BIN)/lint-imports --no-cache

# Some fifty minutes; figures of a machine that does other things at the time are worth little.
BENCHMARKS := loader operations gil replay_tax teacher_stage online cache_rows codecs growth

bench: setup
	for each in $(BENCHMARKS); do $(BIN)/python benchmarks/$$each.py || exit 1; done

bench-gpu: setup
	$(BIN)/python benchmarks/gpu.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
