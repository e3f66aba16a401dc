#!/usr/bin/env bash
# Everything that continuous integration does, in an environment of its own: install, lint, type-check, test. Needs Python 3.11 or later.
# usage: bash tests/run.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${EDGENLP_VENV:-.venv}
[ -x "$environment/bin/python" ] || "${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[export,dev]" -e ./models
"$environment/bin/ruff" check
"$environment/bin/ruff" format --check
"$environment/bin/mypy"
"$environment/bin/python" -m pytest "$@"
