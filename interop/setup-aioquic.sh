#!/usr/bin/env bash
# Makes the virtual environment that the aioquic peer runs in. Prints the path of its interpreter.
# Does nothing when it is there already. AIOQUIC_VENV names another place than target/aioquic-venv.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${AIOQUIC_VENV:-$here/../target/aioquic-venv}

if ! "$venv/bin/python" -c 'import aioquic' 2>/dev/null; then
    mkdir -p "$(dirname "$venv")"
    # The lock keeps two test processes from making it at the same time.
    exec 9>"$venv.lock"
    flock 9
    if ! "$venv/bin/python" -c 'import aioquic' 2>/dev/null; then
        python3 -m venv "$venv" >&2
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/aioquic/requirements.txt" >&2
    fi
fi
echo "$(cd "$venv" && pwd)/bin/python"
