"""A corpus of malformed files: each makes itself, names its defect, and says what its refusal must speak of.

`corpus.py` says what a case is, `seeds.py` makes the valid files that most cases start from, one module for
each format holds its cases (`everything.py` lists them), and `guard.py` reads them in a process of its own
that has little memory and is watched. `tests/test_malformed.py` runs the corpus; `tools/fuzz_import.py` looks
for what it lacks.
"""
