"""Sphinx settings."""

import re
from pathlib import Path

from lrpref.kernels.records import status
from lrpref.weights_import import supported

project = "lrpref"
author = "the lrpref developers"
copyright = "2026, the lrpref developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath"]
html_theme = "furo"
html_title = "lrpref"
exclude_patterns = ["_build", "_verified.md", "_kernels.md", "_operators.md"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
suppress_warnings = ["myst.header", "ref.python"]  # w and s are names of many things

# What the records say today, for backends.md.
rows = [f"| `{kernel.unit}` | `{' '.join(kernel.options)}` | {kernel} |" for kernel in status()]
head = "| kernels | options | verified on |\n|---|---|---|\n"
Path(__file__).with_name("_verified.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")

# The kernels' course, for kernels.md: here its links would lead nowhere, as the files are no pages.
course = (Path(__file__).parent.parent / "kernels" / "README.md").read_text(encoding="utf-8")
course = re.sub(r"\[([^]]+)\]\((?!http)[^)]*\)", r"\1", course)
course = re.sub(r"^```(\S+) \S+$", r"```\1", course, flags=re.M)
Path(__file__).with_name("_kernels.md").write_text(course, encoding="utf-8")

# What the importers' tables say, for importing.md.
text = ""
for language, operators in supported().items():
    lines = [f"| {', '.join(f'`{name}`' for name in names)} | {what} |" for what, names in operators.items()]
    text += f"### {language}\n\n| operator | what of it |\n|---|---|\n" + "\n".join(lines) + "\n\n"
Path(__file__).with_name("_operators.md").write_text(text, encoding="utf-8")
