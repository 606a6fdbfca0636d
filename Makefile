# The front door. Every target makes what it needs on a machine that has Python >= 3.11, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KILLS ?= 200
SEED ?= 0
# where it is set, each process of a node compiles the whole program at its start
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test viewers torture torture-delivery check format clean bench-ingest bench-growth bench-train bench-serve bench-store bench-docs results

demo: $(READY) ## receive, harvest, train, serve and deliver, in demo/
	$(BIN)/dicom-node demo --folder demo

test: $(READY) ## every test that this machine can run: those that only compute, the others two at a time, the last alone
	@failed=0; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m beside --numprocesses logical --maxprocesses 8 --dist worksteal || failed=1; \
	$(BIN)/python -m pytest -m "not beside and not alone" --numprocesses 2 --dist loadfile || failed=1; \
	$(BIN)/python -m pytest -m alone || failed=1; \
	exit $$failed

viewers: $(READY) ## results in OHIF (fetched by npm, 50 MB), dcmqi and DCMTK; pictures in build/viewers
	$(BIN)/python -m tests.support.ohif
	$(BIN)/python -m tests.support.axe
	$(BIN)/python -m pytest -m viewers

torture: $(READY) ## kill the node KILLS times while it works; prints what was lost, and build/bench/torture.json
	$(BIN)/python -m tests.torture --kills $(KILLS) --seed $(SEED)

torture-delivery: $(READY) ## kill the node KILLS times while it delivers to a PACS that fails and restarts, too
	$(BIN)/python -m tests.torture.delivery --kills $(KILLS) --seed $(SEED)

check: $(READY) ## format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-ingest: $(READY) ## receivers side by side, under ten minutes; BENCH="--quick" takes one
	$(BIN)/python -m tests.benchmarks.ingest $(BENCH)

bench-growth: $(READY) ## a node with a million instances beside an empty one; BENCH="--count 20000" is quicker
	$(BIN)/python -m tests.benchmarks.growth $(BENCH)

bench-train: $(READY) ## pretraining from the store beside synthetic tensors and a plain loop; BENCH="--rounds 1" is quicker
	$(BIN)/python -m tests.benchmarks.train $(BENCH)

bench-serve: $(READY) ## what the node adds to a model's time, its memory, its rate; BENCH="--quick" takes a small network
	$(BIN)/python -m tests.benchmarks.serve $(BENCH)

bench-store: $(READY) ## the weak-label store: training reads, a million rows, harvest beside decoding; BENCH="--quick" is small
	$(BIN)/python -m tests.benchmarks.store $(BENCH)

bench-docs: $(READY) ## docs/performance.md out of what the benchmarks wrote last
	$(BIN)/python -m tests.benchmarks.docs

results: $(READY) ## public images through a node, then train reproduce; RESULTS="--data DIR --out DIR --matrix small"
	$(BIN)/python -m tests.results $(RESULTS)

format: $(READY) ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what make made
	rm -rf $(VENV) build dist demo

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("dicom-node needs Python 3.11 or later: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1" # the first with --group (PEP 735)
	$(BIN)/pip install --constraint constraints.txt --editable . --group dev
	touch $(READY)
