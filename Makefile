# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

.DEFAULT_GOAL := help
SHELL := /bin/sh

COLLECTION := collections/ansible_collections/rocm/madengine
SOURCES := $(shell find $(COLLECTION) bin prolog epilog galaxy.yml -type f ! -name '*.pyc' ! -path '*/.*')
VERSION := $(shell sed -n 's/^version: *//p' galaxy.yml)
TARBALL := dist/rocm-madengine-$(VERSION).tar.gz
VENV := .venv/.requirements
INSTALLED := build/collections/ansible_collections/rocm/madengine/MANIFEST.json

# Runs a command once a Docker engine answers; installs and starts one if need be.
WITH_DOCKER := molecule/shared/docker-engine
LAB := ansible-playbook --inventory molecule/shared/inventory

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Which lab: see molecule/shared/inventory/hosts.py. The tests have one of their own, so a developer's stays up.
MADLAB_NAME ?= madlab
export MADLAB_NAME
export MOLECULE_EPHEMERAL_DIRECTORY ?= $(CURDIR)/build/molecule/$(MADLAB_NAME)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: venv
venv: $(VENV) ## make .venv with the pinned requirements
$(VENV): requirements.txt requirements-lock.txt
	@scripts/venv

.PHONY: dist
dist: $(TARBALL) ## build the collection's tarball into dist/
$(TARBALL): $(SOURCES) | $(VENV)
	@ansible-galaxy collection build $(COLLECTION) --output-path dist --force

.PHONY: bundle
bundle: $(VENV) ## build what a node needs, without Ansible and a network: a tarball and a .deb, into dist/
	@python scripts/bundle.py dist

# Everything that is tested or shown is this: the tarball, installed.
$(INSTALLED): $(TARBALL)
	@ansible-galaxy collection install $(TARBALL) --collections-path build/collections --offline --force
.PHONY: installed
installed: $(INSTALLED)
	@:

.PHONY: lint
lint: $(VENV) ## run every static gate
	@$(MAKE) --no-print-directory --output-sync --keep-going --jobs=2 lint-types lint-yaml lint-python lint-shell lint-docs lint-changelog

.PHONY: lint-python lint-types lint-shell lint-yaml lint-docs lint-changelog
lint-python:
	@ruff check --quiet
	@ruff format --quiet --check || { echo 'ruff format: run: .venv/bin/ruff format'; exit 1; }
lint-types:
	@mypy --no-error-summary --package ansible_collections.rocm.madengine.plugins
	@mypy --no-error-summary bin/restore.py prolog/prolog.py epilog/epilog.py molecule/shared/inventory/hosts.py molecule/demo/demo.py
	@mypy --no-error-summary scripts/*.py docs/site/conf.py
lint-shell:
	@shellcheck prolog/task_environment.sh $$(find bin prolog epilog scripts molecule/shared .ci $(COLLECTION)/plugins -type f ! -name '*.py' -exec grep -lI -m1 '^#!/bin/\(ba\)\?sh' {} +)
lint-yaml:
	@ansible-lint -q
lint-docs:
	@antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs self --skip-rstcheck $(COLLECTION)
lint-changelog:
	@cd $(COLLECTION) && antsibull-changelog lint

.PHONY: unit
unit: $(VENV)
	@pytest tests/unit --numprocesses=2

.PHONY: test-fast
test-fast: lint unit ## lint and unit tests, within a minute

.PHONY: test
test: $(VENV) ## lint, unit, integration, and jobs on real clusters (up to 45 minutes)
	@$(WITH_DOCKER) scripts/test

.PHONY: test-pythons
test-pythons: $(VENV) ## the unit tests of what runs on nodes, under each Python from 3.9 to 3.14 that is here
	@scripts/test-pythons

.PHONY: sanity importer
sanity: $(INSTALLED) ## ansible-test sanity on the collection as built, without a single ignore
	@scripts/sanity
importer: $(INSTALLED) ## what Galaxy's importer says of the tarball, and ansible-builder of what it needs
	@scripts/importer

.PHONY: ee
ee: $(INSTALLED) ## build an execution environment that holds the collection, on the lab's base image (3 minutes)
	@$(WITH_DOCKER) scripts/ee

.PHONY: docs
docs: $(INSTALLED) ## the documentation's site: guides, modules and roles, in build/docs/html
	@scripts/docs

.PHONY: test-upgrade
test-upgrade: $(VENV) ## releases that come and go under running jobs, on a cluster of its own (up to 15 minutes)
	@mkdir -p build && MADLAB_NAME=madupgrade $(MAKE) --no-print-directory lab-up lab-site >build/test-upgrade.log
	@MADLAB_NAME=madupgrade pytest tests/cluster/upgrade; status=$$?; MADLAB_NAME=madupgrade $(MAKE) --no-print-directory lab-down >>build/test-upgrade.log; exit $$status

.PHONY: bench bench-gate bench-images bench-rendezvous bench-results bench-scale
bench: bench-gate bench-rendezvous bench-results bench-images bench-scale ## measure everything beside its peers, into build/bench/ (an hour)
bench-gate bench-rendezvous bench-results: bench-%: $(VENV)
	@python tests/bench/$*.py
bench-images bench-scale: bench-%: $(VENV)
	@$(WITH_DOCKER) python tests/bench/$*.py

.PHONY: demo demo-down
demo: ## show one real multi-node job on a real cluster
	@python3 molecule/demo/demo.py
demo-down: $(VENV) ## remove the demo's cluster
	@MADLAB_NAME= $(WITH_DOCKER) $(LAB) molecule/shared/destroy.yml >build/demo-down.log || { tail -n 20 build/demo-down.log; exit 1; }

.PHONY: lab-up lab-site lab-down
lab-up: $(VENV) ## create a cluster to work with, anew (MADLAB_NAME, MADLAB_BASE, ...)
	@$(WITH_DOCKER) $(LAB) molecule/shared/destroy.yml molecule/shared/create.yml molecule/shared/prepare.yml
lab-site: $(INSTALLED) ## apply the collection, as built, to that cluster
	@ANSIBLE_COLLECTIONS_PATH=build/collections $(WITH_DOCKER) $(LAB) rocm.madengine.site
lab-down: $(VENV) ## remove that cluster
	@$(WITH_DOCKER) $(LAB) molecule/shared/destroy.yml

.PHONY: clean
clean: ## remove what was built; clusters, .venv and the Docker engine stay
	@rm -rf dist build/collections build/docs build/importer build/molecule build/pythons build/sanity build/test build/demo build/ee .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
