#!/usr/bin/env bash
# Make the environment that benches/peer/run_peer.py runs in: the authors' public implementation,
# paoding-dl 1.0.0.post3, on TensorFlow 2.15 with Keras 2. By default .venv-peer in the
# repository's root, which Git ignores; another folder may be named:
#
#     benches/peer/make_environment.sh [FOLDER]
#
# TensorFlow 2.15 goes up to Python 3.11, and run_peer.py needs 3.11: PYTHON=/path/to/python3.11 says
# where it is.
set -euo pipefail
folder=${1:-"$(dirname "$0")/../../.venv-peer"}
usable='import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))'

if [ -z "${PYTHON:-}" ]; then
    for candidate in python3.11 python3; do
        if "$candidate" -c "$usable" 2>/dev/null; then
            PYTHON=$candidate
            break
        fi
    done
fi
if ! "${PYTHON:-false}" -c "$usable" 2>/dev/null; then
    echo "needs Python 3.11 with venv and ensurepip: PYTHON=/path/to/python3.11 $0" >&2
    exit 1
fi

"$PYTHON" -m venv "$folder"
pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" 'tensorflow==2.15.*' 'numpy<2' importlib_metadata pandas
# Without its requirements: one of them, opencv-python>=4.5numpy, is no valid requirement. The
# parts used here need none of the others but pandas.
"${pip[@]}" --no-deps 'paoding-dl==1.0.0.post3'
"$folder/bin/python" - <<'PYTHON'
import os
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
import pandas, paoding, tensorflow
import paoding.pruner
print("paoding-dl", paoding.__version__, "on TensorFlow", tensorflow.__version__)
PYTHON
