"""One adapter for each library; `worker.py` runs them, as files."""
