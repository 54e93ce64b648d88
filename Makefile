# Every target sets up what it needs in .venv; nothing but Python 3.11+ and make is assumed.
PYTHON ?= python3
BIN := .venv/bin
RUN := OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python
TORCH ?= torch==2.13.0

.PHONY: demo test check check-kernels peers peers-tf full docs fuzz bench vectors gpu-record clean

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "lrpref needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# .venv/for-NAME: the extra NAME of pyproject.toml is installed
.venv/for-%: .venv/created pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

.venv/for-peers: .venv/for-test tools/install_peers.sh
	sh tools/install_peers.sh $(BIN)/python $(TORCH)
	@touch $@

# TensorFlow 2.14 wants Python 3.9 to 3.11 and an older NumPy: an environment of its own, of 1.3 GB
.venv/for-peers-tf: .venv/created tools/install_innvestigate.sh
	sh tools/install_innvestigate.sh $(PYTHON) .venv/peers/innvestigate
	@touch $@

demo: .venv/for-demo  ## the embedded network, then ImageNet: is it a palace, and why?
	$(BIN)/python tools/demo.py

test: .venv/for-test  ## the tests; LRPREF_MODELS names a folder of more networks to try
	$(RUN) -m pytest -n 2 -m "not peers" -q

check: .venv/for-check  ## style, types, import directions, docstrings
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_docstrings.py

check-kernels: .venv/for-test  ## the CUDA kernels without a GPU: nothing may be left out
	@command -v g++ >/dev/null || { echo "the emulator needs g++: apt-get install g++ (or your system's)"; exit 1; }
	LRPREF_NOTHING_SKIPPED=1 $(RUN) -m pytest -n 2 -q tests/test_emulator.py tests/test_nvrtc.py \
	  tests/test_cuda_convolution.py tests/test_cupy_cuda.py tests/test_emulated_network.py tests/test_numba_cuda.py

gpu-record:  ## verify and time the CUDA kernels on the GPU of this machine; needs Python with CuPy
	$(PYTHON) tools/gpu_record.py $(OPTIONS)

peers: .venv/for-peers  ## the same numbers from PyTorch, and what other libraries make of the vectors
	$(RUN) -m pytest -m peers -q

peers-tf: .venv/for-peers-tf  ## iNNvestigate on the vectors; its outcomes go on record
	$(RUN) -m lrpref conformance run --library innvestigate --out out/conformance/innvestigate || test $$? = 1
	$(RUN) tools/write_conformance.py out/conformance/innvestigate

full: .venv/for-peers  ## all tests at once
	$(RUN) -m pytest -n 2 -q

docs: .venv/for-docs
	$(BIN)/sphinx-build -q -W -b html docs docs/_build/html
	@echo docs/_build/html/index.html

fuzz: .venv/for-test  ## mutated files of every format: each is read or refused in one line
	$(BIN)/python tools/fuzz_import.py --minutes 10 $(OPTIONS)

bench: .venv/for-peers
	$(BIN)/python -m bench.run --accuracy $(OPTIONS)

vectors: .venv/for-test  ## compute the test vectors anew, and put them into out/lrpref-vectors-1.zip
	$(BIN)/python tools/make_vectors.py

clean:
	rm -rf .venv out build dist docs/_build
