#!/bin/sh
# Make the virtual environment that `make` works in: sh environment/setup.sh .venv
set -eu
venv=$1

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; }

python=
for candidate in python3.11 python3.12 python3.13 python3 python; do
    if command -v "$candidate" >/dev/null 2>&1 && fits "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    found=$(python3 --version 2>/dev/null || echo "no python3 at all")
    echo "error: Python 3.11, 3.12 or 3.13 is needed, found $found;" \
         "install one (https://www.python.org/downloads/) or pass your own: make demo PYTHON=/path/to/python" >&2
    exit 2
fi
echo "setting up $venv with $("$python" --version) (once; it downloads about 1 GB)"
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "error: $python has no venv module; on Debian and Ubuntu: sudo apt install python3-venv" >&2
    exit 2
fi
[ -x "$venv/bin/python" ] && fits "$venv/bin/python" || "$python" -m venv --clear "$venv"
# the tested set, by the hashes of its files; built packages alone: nothing of them runs while they are installed
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    -r environment/lock.txt || {
    echo "error: installing the packages failed (see above); with a connection back, run the same command again." \
         "Where this system has no file of the tested set, or a package index of your own has others, take the ranges" \
         "of pyproject.toml in an environment of your own: pip install '.[dev]', then make demo PYTHON=python" >&2
    exit 2
}
touch "$venv/.ready"
