#!/bin/sh
# Install iNNvestigate in a virtual environment of its own.
#
#   tools/install_innvestigate.sh PYTHON FOLDER     such as: python3.11 .venv/peers/innvestigate
#
# It is --no-deps because its own list asks for a TensorFlow that no longer installs; 2.14.1 is the last on
# which it runs, and wants Python 3.9 to 3.11 and NumPy 1.
set -e
if [ $# -ne 2 ]; then
  echo "usage: $0 PYTHON FOLDER" >&2
  exit 2
fi
"$1" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' || {
  echo "TensorFlow 2.14 needs Python 3.9 to 3.11: make PYTHON=/path/to/python3.11 peers-tf" >&2
  exit 2
}
"$1" -m venv "$2"
python=$2/bin/python
install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }
install tensorflow-cpu==2.14.1 'numpy<2' 'future<0.19' matplotlib pillow
install --no-deps innvestigate==2.1.2
