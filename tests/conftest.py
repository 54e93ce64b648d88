"""Settings of all tests: the same examples in each run, and threads that wait without spinning."""

import os
import sys
from pathlib import Path

from hypothesis import settings

# Two pytest workers on two cores: OpenMP's idle threads would spin and take seven eighths of the time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

sys.path.insert(0, str(Path(__file__).parent))  # for `strategies`; pytest's importlib mode adds no path

settings.register_profile("lrpref", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("lrpref")
