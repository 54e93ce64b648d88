"""Sphinx settings."""

import json
import re
from pathlib import Path

from lrpref import dialects
from lrpref.conformance import faults, suite
from lrpref.kernels.records import status
from lrpref.weights_import import supported

project = "lrpref"
author = "the lrpref developers"
copyright = "2026, the lrpref developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath"]
html_theme = "furo"
html_title = "lrpref"
exclude_patterns = [
    "_build", "_verified.md", "_kernels.md", "_operators.md", "_faults.md", "_families.md", "_dialects.md",
]  # fmt: skip
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False  # autodoc lists them
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

# Which vectors catch which seeded fault, for self_check.md.
lines = ["| what is wrong | in | instead of | stands | caught by |", "|---|---|---|---|---|"]
for catch in faults.run(suite.load()):
    fault, first = catch.fault, ", ".join(catch.off[:2])
    rest = f" and {len(catch.off) - 2} more" if len(catch.off) > 2 else ""
    texts = " | ".join(f"`{text.strip()}`" if text else "" for text in (fault.sound, fault.faulty))
    lines.append(f"| {fault.what} | `{fault.place}` | {texts} | {first}{rest} |")
Path(__file__).with_name("_faults.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

# What the families of test vectors isolate, for vectors.md.
lines = ["| family | vectors | undefined | convention | dimensions |", "|---|---|---|---|---|"]
sentences: dict[str, str] = {}
for path in sorted(suite.SHIPPED.glob("*.json")):
    if path.name == "schema.json":
        continue
    document = json.loads(path.read_text(encoding="utf-8"))
    sentences |= document["flags"]
    results = [vector["result"] for vector in document["vectors"]]
    flags = " ".join(sorted(document["flags"], key=lambda flag: int(flag[1:])))
    counts = f"{len(results)} | {results.count('undefined')} | {results.count('convention')}"
    lines.append(f"| `{path.stem}`: {document['title']} | {counts} | {flags} |")
lines += ["", "| dimension | what these vectors isolate |", "|---|---|"]
lines += [f"| {flag} | {sentences[flag]} |" for flag in sorted(sentences, key=lambda flag: int(flag[1:]))]
Path(__file__).with_name("_families.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

# Who takes which option, for dialects.md.
known = [dialects.get(name) for name in dialects.NAMES]
lines = ["| name | library | version | | known from |", "|---|---|---|---|---|"]
for d in known:
    lines.append(f"| `{d.name}` | {d.library} | {d.versions} | *{d.about.evidence}* | {d.about.source} |")
for dimension in dialects.DIMENSIONS.values():
    lines += ["", f"### {dimension.id}: {dimension.title}", ""]
    lines += ["| option | what it means | taken by |", "|---|---|---|"]
    for option, sentence in dimension.options.items():
        names = [f"`{d.name}`" for d in known if d.settings[dimension.id] == option]
        takers = ", ".join(["**the chapter**"] * (option == dimension.chapter) + names)
        cell = sentence.replace("|", "\\|")
        lines.append(f"| `{option}` | {cell} | {takers} |")
Path(__file__).with_name("_dialects.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
