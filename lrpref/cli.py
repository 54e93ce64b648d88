"""The command line: explain, trace, figures, convert, verify, info; conformance and crosscheck."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

import lrpref
from lrpref import (
    composites,
    data,
    dialects,
    exact,
    heads,
    lesson,
    record,
    report,
    verification,
    weights_import,
)
from lrpref.commands import conformance
from lrpref.commands.certified import certified, tell
from lrpref.commands.console import one_line, out, progress_bar, refusal
from lrpref.commands.crosscheck import crosscheck
from lrpref.commands.sources import (
    DEFAULT_PICTURE,
    Architecture,
    Model,
    file_of,
    load_network,
    packaged,
    read_input,
    read_target,
    shipped_with,
)
from lrpref.errors import BadBackend, BadInput, BadNetwork, BadRecord, BadRule, BadWeights
from lrpref.explanation import Explanation
from lrpref.figures import NAMES, OF_A_PICTURE, Subject, check_free, choose, draw, save
from lrpref.files import regular
from lrpref.fold import fold
from lrpref.kernels import BACKENDS, elementwise
from lrpref.kernels.device import available
from lrpref.kernels.records import Verified, status
from lrpref.ledger import ACCOUNTS, Ledger
from lrpref.network import Network
from lrpref.plan import Plan
from lrpref.preprocessing import Preprocessing
from lrpref.rules import Rule, parse
from lrpref.trace import LayerTrace, Trace, trace_layer
from lrpref.trace import trace as trace_neuron

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Layer-wise Relevance Propagation in which every unit of relevance is accounted for.",
)

app.add_typer(conformance.app, name="conformance")
app.command()(crosscheck)

UsageError: Any = typer.BadParameter.__base__
"""What Typer raises; it carries a Click of its own, and exports no more of it."""

BROKEN = "THE BOOKS DO NOT CLOSE"

SHOWN = 3
"""So many inputs of a batch are told of."""

PHOTOGRAPHED, PHOTOGRAPH = "efficientnet-lite0", "china.jpg"
"""What the figures show by default: a network, and a picture that scikit-learn brings."""

CONTESTED = 403
"""An embedded picture that is nearly of two classes: what the figures show without a photograph."""


def _load_recorded(entry: Mapping[str, Any], model: str | None, architecture: str | None) -> Network:
    path = model or str(entry.get("path", ""))
    if not path:
        raise BadRecord("the record does not say where its network is: name it with --model")
    if architecture is not None:
        return load_network(path, architecture)
    try:
        return load_network(path)
    except BadWeights:  # not a file that brings its graph
        recorded = entry.get("provenance", {}).get("architecture")
        if recorded is None:
            raise
        return load_network(path, recorded)


@app.command()
@one_line
def explain(
    model: Model = data.EMBEDDED,
    architecture: Architecture = None,
    input: Annotated[
        str | None,
        typer.Option(help="A picture, a .npy file of inputs, or an embedded picture's number (default 9)."),
    ] = None,
    target: Annotated[str, typer.Option(help="Class index, class name, or max.")] = "max",
    composite: Annotated[str, typer.Option(help="Name or TOML file.")] = "chapter",
    backend: Annotated[str, typer.Option(help="auto, " + ", ".join(BACKENDS) + ".")] = "numpy",
    dtype: Annotated[str, typer.Option(help=", ".join(exact.DTYPES) + ".")] = "float64",
    head: Annotated[str, typer.Option(help="What of the class: " + " or ".join(heads.HEADS) + ".")] = "score",
    dialect: Annotated[
        str | None, typer.Option(help="Whose definitions of the rules: " + ", ".join(dialects.NAMES) + ".")
    ] = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("out/explanation"),
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier record.")] = False,
    certify: Annotated[
        bool, typer.Option("--certify", help="Find out how many digits are right; write digits.png too.")
    ] = False,
) -> None:
    """Explain a network's output; write heatmap.png, ledger.png, relevance.npz and audit.json."""
    record.check_folder(out_folder, overwrite=overwrite)
    network = load_network(model, architecture)
    x = read_input(network, input)
    with progress_bar() as progress:
        task = progress.add_task("propagating relevance", total=len(network.nodes))
        explanation = lrpref.explain(
            network, x, read_target(network, target), composite, backend=backend, dtype=dtype, head=head,
            dialect=dialect,
            watch=lambda node: progress.update(task, advance=1, description=f"relevance through {node}"),
        )  # fmt: skip
    certificate = certified(explanation) if certify else None
    explanation.save(out_folder, overwrite=overwrite, certificate=certificate)
    closes = _report(explanation, out_folder)
    if certificate is not None:
        tell(certificate)
        out.print(f"digits:   {out_folder / 'digits.png'}")
    if not closes:
        raise typer.Exit(1)


def _report(explanation: Explanation, folder: Path) -> bool:
    """Tell what was found; return whether the books close."""
    network, ledger = explanation.network, explanation.ledger
    scores = exact.as_float(explanation.scores).reshape(len(explanation.scores), -1)
    stories = [_story(explanation, sample) for sample in range(len(scores))]
    for sample, story in enumerate(stories[:SHOWN]):
        out.print(f"{network.name or 'network'} says: {_top(network, scores[sample])}")
        out.print(story)
    if len(stories) > SHOWN:
        out.print(f"... and {len(stories) - SHOWN} more inputs")
    if (table := _biggest(ledger)).row_count:
        out.print(table)
    for note in explanation.warnings:
        out.print(f"note: {note}")
    out.print(f"pictures: {folder / 'heatmap.png'}  {folder / 'ledger.png'}")
    out.print(f"record:   {folder / 'audit.json'}  {folder / 'relevance.npz'}   (lrpref verify {folder})")
    return not any(BROKEN in story for story in stories)


def _top(network: Network, scores: Any) -> str:
    """Name the classes with the highest scores; one output alone has no probability."""
    P = [f" (probability {p:.2f})" if len(scores) > 1 else "" for p in elementwise.softmax(scores)]
    return ", ".join(f"{network.label(int(i))} {scores[i]:.3f}{P[i]}" for i in np.argsort(-scores)[:3])


def _story(explanation: Explanation, sample: int) -> str:
    """Say what arrived, where it went, and that the books close."""
    ledger, target = explanation.ledger, explanation.target
    took = {name: float(exact.as_float(ledger.account(name))[sample]) for name in ACCOUNTS}
    explained, inputs = (float(exact.as_float(x)[sample]) for x in (ledger.explained, ledger.inputs))
    R = exact.as_float(explanation.relevance[sample])
    signs = f"{R[R > 0].sum():+.4g} {R[R < 0].sum():+.4g}"
    went = "".join(f" {'-' if v < 0 else '+'} {abs(v):.4g} {name}" for name, v in took.items() if v)
    f = "R" if explanation.dialect.settings["D18"] == "one" else "f(x)"
    share = f" (a net {inputs / explained:.2g} of {f} reached the input)" if explained else ""
    size = abs(explained) + abs(R).sum() + sum(map(abs, took.values()))
    closes = _closes(ledger.residual[sample], size, explanation.dtype)
    what = "relevance" if target is None else explanation.network.label(int(target[sample]))
    of = "" if explanation.head == "score" else f"the {explanation.head} of "
    return (f"ledger ({explanation.way}, {explanation.dtype}): {f} = {explained:.6g} for {of}'{what}'"
            f" = {inputs:.4g} input ({signs}){went}, {closes}{share}")  # fmt: skip


def _closes(residual: Any, size: float, dtype: str) -> str:
    """Say whether the books close: rounding is far below these bounds, a real fault far above."""
    if dtype == "exact":
        return "residual 0: the books close exactly" if residual == 0 else f"residual {residual}: {BROKEN}"
    if dtype == "ball":
        return f"residual within {residual}: {'the books close' if residual.contains(0) else BROKEN}"
    rounding = 1e-4 if dtype == "float32" else 1e-12
    return f"residual {residual:.1e}: {'the books close' if abs(residual) <= rounding * size else BROKEN}"


def _biggest(ledger: Ledger, count: int = 6) -> Table:
    """List the nodes whose accounts took most."""
    took = ledger.shares()
    accounts = [a for a in ACCOUNTS if any(row[a] for row in took.values())]
    table = Table(box=None, title="who took most, in percent of f(x) (first input)", title_justify="left")
    for heading in ("node", "layer", "rule", *accounts):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ACCOUNTS else "left")
    takers = [row for row in ledger if any(took[row.node].values())]
    for row in sorted(takers, key=lambda row: -sum(map(abs, took[row.node].values())))[:count]:
        shares = (f"{took[row.node][a]:+.2f}" if took[row.node][a] else "" for a in accounts)
        table.add_row(row.node, row.layer, _short(row.rule), *shares)
    return table


def _short(rule: Rule | str, width: int = 42) -> str:
    text = str(rule)
    return text if len(text) <= width else text[: width - 1] + "…"


@app.command()
@one_line
def trace(
    model: Model = data.EMBEDDED,
    architecture: Architecture = None,
    input: Annotated[
        str | None, typer.Option(help="As for explain; of several inputs the first is traced.")
    ] = None,
    target: Annotated[str, typer.Option(help="Class index, class name, or max.")] = "max",
    composite: Annotated[str, typer.Option(help="Name or TOML file.")] = "chapter",
    rule: Annotated[
        str | None, typer.Option(help="Of the traced layer, instead of the composite's: such as 'gamma(1)'.")
    ] = None,
    node: Annotated[str | None, typer.Option(help="The layer; by default the last convolution.")] = None,
    neuron: Annotated[
        str,
        typer.Option(help="Index, or channel,row,column; 'max': where |R_k| is largest; 'all': the layer."),
    ] = "max",
    top: Annotated[int, typer.Option(min=1, help="Rows shown of each table.")] = 10,
    dtype: Annotated[str, typer.Option(help=", ".join(exact.DTYPES) + ".")] = "float64",
    head: Annotated[str, typer.Option(help="What of the class: " + " or ".join(heads.HEADS) + ".")] = "score",
    page: Annotated[Path | None, typer.Option("--out", help="An HTML page to write.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier page.")] = False,
) -> None:
    """Take one neuron, or a layer, through the four steps, with every number; check the engine by it."""
    if page is not None and page.exists() and not (overwrite and page.is_file()):
        raise BadRecord(f"{page}: exists already; --overwrite replaces a file")
    network = load_network(model, architecture)
    x = read_input(network, input)[:1]
    shown = fold(network.before_softmax())
    node = node or _default_node(shown)
    options = {"rules": _with_rule(shown, composite, node, rule)} if rule else {"composite": composite}
    explanation, dtypes = _explained(network, x, read_target(network, target), dtype, head=head, **options)
    found: Trace | LayerTrace
    if neuron == "all":
        found = trace_layer(explanation, node, dtype=dtype)
    else:
        found = trace_neuron(explanation, node, _read_neuron(neuron), dtype=dtype)
    about = f"{network.name or 'network'}: {_story(explanation, 0)}"
    _tell(found, f"{about}{dtypes}", top)
    if page is not None:
        report.write(page, lesson.page(found, f"{about}{dtypes}", top))
        out.print(f"page: {page}")
    if not found.check.agrees:
        raise typer.Exit(1)


def _default_node(network: Network) -> str:
    """Take the last convolution, where all that the books know of is at work; else the top."""
    convolutions = [node.name for node in network.nodes if node.layer.role == "convolution"]
    return convolutions[-1] if convolutions else network.top


def _with_rule(network: Network, composite: str, node: str, rule: str) -> dict[str, Rule]:
    """Give the composite's rules, with another at one node."""
    box = None if network.preprocessing is None else network.preprocessing.box()
    given, at = parse(rule, box), network.node(node)
    if not at.layer.is_linear:
        kind, way = at.layer.kind, at.layer.way
        raise BadRule(f"--rule {rule}: node '{at.name}' ({kind}) takes no rule; its way is '{way}'")
    return {**composites.get(composite).rules(network), at.name: given}


def _explained(
    network: Network, x: Any, target: int | str, dtype: str, **options: Any
) -> tuple[Explanation, str]:
    """Explain in this arithmetic; where rationals would grow too long, in float64, and say so."""
    try:
        return lrpref.explain(Plan(network, dtype=dtype, **options), x, target), ""
    except BadBackend:
        if dtype != "exact":
            raise
    said = ". Traced exactly from what float64 brings to the neuron: the network is too large for more"
    return lrpref.explain(Plan(network, **options), x, target), said


def _read_neuron(given: str) -> int | tuple[int, ...] | str:
    if given == "max":
        return given
    try:
        return tuple(int(index) for index in given.split(","))
    except ValueError:
        raise BadInput(
            f"--neuron {given}: wanted is an index, or channel,row,column, or 'max', or 'all'"
        ) from None


def _tell(found: Trace | LayerTrace, about: str, top: int) -> None:
    """Print the four steps, the tables and the check."""
    out.print(about)
    out.print(lesson.heading(found))
    for step in lesson.steps(found) if found.operation else []:
        out.print(f"{step.title:17} {step.equation}")
        for line in step.numbers:
            out.print(f"{'':17} {line}")
    for sheet in lesson.sheets(found, top):
        table = Table(box=None, title=sheet.title, title_justify="left")
        for number, name in enumerate(sheet.headings):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for cells in (*sheet.rows, *sheet.foot):
            table.add_row(*(text for text, _ in cells))
        out.print(table if sheet.headings else sheet.title, width=max(out.width, 200), crop=False)
    out.print(f"check: {lesson.verdict(found)}", style=None if found.check.agrees else "red")


@app.command()
@one_line
def figures(
    out_folder: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("out/figures"),
    only: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(NAMES)}; may be repeated.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="As for explain, in 10.4 and 10.5; by default a photograph is shown.")
    ] = None,
    architecture: Architecture = None,
    input: Annotated[str | None, typer.Option(help="As for explain; the first of several.")] = None,
    target: Annotated[str, typer.Option(help="Class index, class name, or max.")] = "max",
    overwrite: Annotated[bool, typer.Option(help="Replace earlier figures.")] = False,
) -> None:
    """Draw our own versions of the chapter's figures, each with a caption that says what was found."""
    names = choose(only)
    check_free(out_folder, names, overwrite=overwrite)
    subject = None
    if any(name in OF_A_PICTURE for name in names):
        subject = _subject(model, architecture, input, target)
    elif model or architecture or input or target != "max":
        raise BadInput(f"--model, --input and --target are for figures {' and '.join(OF_A_PICTURE)}")
    with progress_bar() as progress:
        task = progress.add_task("drawing", total=len(names))
        for name in names:
            progress.update(task, description=f"drawing figure {name}")
            drawing = draw(name, subject)
            picture, _ = save(drawing, out_folder, name)
            out.print(f"{picture}\n{drawing.caption}\n")
            progress.advance(task)


def _subject(model: str | None, architecture: str | None, input: str | None, target: str) -> Subject:
    """Take the network and the picture that were asked for; else the photograph, or an embedded picture."""
    if model is None and architecture is None and input is None:
        try:
            packaged(PHOTOGRAPHED)
            model, input = PHOTOGRAPHED, str(_photograph())
        except BadWeights as error:
            out.print(f"note: an embedded picture is shown instead of a photograph: {error}")
            input = str(CONTESTED)
    network = load_network(model or data.EMBEDDED, architecture)
    x = read_input(network, input)[:1]
    picture = f"embedded picture {input or DEFAULT_PICTURE}"
    if input is not None and not input.isdigit():
        picture = Path(input).name
    return Subject(network, x, picture, read_target(network, target))


def _photograph() -> Path:
    found = shipped_with("sklearn", f"datasets/images/{PHOTOGRAPH}")
    if not found:
        raise BadWeights(f"picture '{PHOTOGRAPH}' comes with a package: pip install scikit-learn")
    return found[0]


@app.command()
@one_line
def verify(
    folder: Annotated[Path, typer.Argument(help="A record that `lrpref explain` wrote.")],
    model: Annotated[str | None, typer.Option(help="Where the network is now, if it has moved.")] = None,
    architecture: Architecture = None,
) -> None:
    """Check a record's digests, and recompute it."""
    findings = verification.verify(folder, lambda entry: _load_recorded(entry, model, architecture))
    for finding in findings:
        out.print("ok  " if finding.ok else "FAIL", style="green" if finding.ok else "red", end=" ")
        out.print(f"{finding.what}: {finding.detail}")
    failed = [finding.what for finding in findings if not finding.ok]
    if failed:
        out.print(f"the record does not stand: {', '.join(failed)}", style="red")
        raise typer.Exit(1)
    out.print("the record stands")


@app.command()
@one_line
def convert(
    weights: Annotated[str, typer.Argument(help="A .pth, .safetensors, .pt2 or .onnx file.")],
    destination: Annotated[Path, typer.Argument(help="The neutral .safetensors file to write.")],
    architecture: Architecture = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with PyTorch or onnxruntime, node by node.")
    ] = False,
    input: Annotated[
        str | None, typer.Option(help="With --verify: a picture or .npy file to compare on, too.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="'imagenet', or a text file with one name a line, to be kept with it.")
    ] = None,
    preprocessing: Annotated[
        str | None, typer.Option(help="'imagenet', or a TOML file, to be kept with it.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Of an ONNX input that the file leaves open: such as 3,224,224.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="Of an ONNX file with several outputs.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Turn foreign weights into one neutral file: safetensors with the graph in its header."""
    if destination.exists() and not (overwrite and destination.is_file()):
        raise BadRecord(f"{destination}: exists already; --overwrite replaces a file")
    if destination.exists() and os.path.exists(weights) and os.path.samefile(weights, destination):
        raise BadRecord(f"{destination}: is the origin itself; write to another file")
    if input is not None and not verify:
        raise BadInput("--input is what --verify compares on: give both, or neither")
    network = load_network(weights, architecture, output=output, shape=_read_shape(shape))
    if classes is not None:
        network = _with_classes(network, classes)
    if preprocessing is not None:
        network = replace(network, preprocessing=_read_preprocessing(preprocessing, network))
    if verify:
        x = None if input is None else read_input(network, input)
        found = _compared(network, weights, x)
        if not found.holds:
            out.print(f"nothing was written to {destination}")
            raise typer.Exit(1)
        network = replace(network, provenance={**network.provenance, "verified": found.summary()})
    network.save(destination)
    out.print(f"{destination}: {len(network.nodes)} nodes, {_parameters(network):,} parameters, "
              f"sha256 of graph and weights {network.digest[:16]}…")  # fmt: skip
    for note in _unfolded(network):
        out.print(f"note: {note}")


def _compared(network: Network, weights: str, x: Any) -> weights_import.Comparison:
    """Compare with the origin, and tell what was found."""
    with progress_bar("comparing: {task.description}") as progress:
        task = progress.add_task("reading the origin", total=weights_import.STEPS * (1 if x is None else 2))

        def tell(step: str) -> None:
            progress.update(task, advance=1, description=step)

        found = weights_import.verify(network, file_of(weights), x, watch=tell)
    out.print(str(found), style=None if found.holds else "red")
    return found


def _unfolded(network: Network) -> list[str]:
    """Say which batch norms the canonical form keeps."""
    left = [node.name for node in fold(network.before_softmax()).nodes if node.layer.role == "norm"]
    some = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
    return [f"norms that no linear layer can take, each a layer of its own: {some}"] if left else []


def _read_shape(given: str | None) -> tuple[int, ...] | None:
    try:
        return None if given is None else tuple(int(number) for number in given.split(","))
    except ValueError:
        raise BadInput(f"--shape {given}: wanted are whole numbers, such as 3,224,224") from None


def _with_classes(network: Network, given: str) -> Network:
    try:
        return replace(network, classes=_read_classes(given))
    except BadNetwork as error:
        raise BadInput(f"--classes {given}: {error}") from None


def _read_classes(given: str) -> tuple[str, ...]:
    if given == "imagenet":
        return data.imagenet_classes()
    try:
        lines = regular(given, BadInput).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"--classes {given}: not a text file that can be read ({error})") from None
    return tuple(line.strip() for line in lines if line.strip())


def _read_preprocessing(given: str, network: Network) -> Preprocessing:
    """Read what a TOML file says, or take ImageNet's at the network's size."""
    if given != "imagenet":
        if not os.path.exists(given):
            raise BadInput(f"--preprocessing {given}: there is no such file; 'imagenet' is the only name")
        return Preprocessing.read(given)
    if len(network.input_shape) != 3:
        raise BadInput(f"--preprocessing imagenet: the network's input is {network.input_shape}, no picture")
    return Preprocessing.imagenet(network.input_shape[1:])


@app.command()
@one_line
def info(
    model: Annotated[str, typer.Argument(help="As for explain --model.")] = data.EMBEDDED,
    architecture: Architecture = None,
    composite: Annotated[str, typer.Option(help="Whose rules to show.")] = "chapter",
    folded: Annotated[bool, typer.Option(help="Show the canonical form, with batch norms folded.")] = True,
    kernels: Annotated[bool, typer.Option("--kernels", help="Show the CUDA kernels instead.")] = False,
) -> None:
    """Show a network as a table: node, layer, shape, parameters, rule."""
    if kernels:
        _tell_of_kernels()
        return
    network = load_network(model, architecture)
    shown = fold(network.before_softmax()) if folded else network
    rules, without = _rules_to_show(shown, composite)
    table = Table("node", "layer", "reads", "shape", "parameters", f"rule ({composite})", box=None)
    for node in shown.nodes:
        count = _count(node.layer)
        table.add_row(node.name, node.layer.kind, ", ".join(node.inputs), str(shown.shapes[node.name]),
                      f"{count:,}" if count else "", _short(rules.get(node.name, "")))  # fmt: skip
    out.print(table)
    if without:
        out.print(f"no rules are shown: {without}")
    out.print(f"{network.name or 'network'}: input {network.input_shape}, {_parameters(shown):,} parameters, "
              f"{len(network.classes)} class names")  # fmt: skip


def _rules_to_show(network: Network, composite: str) -> tuple[Mapping[str, Rule], str]:
    """Give every node its rule; or none, and why: a network may be looked at under no composite at all."""
    chosen = composites.get(composite)
    try:
        return chosen.rules(network), ""
    except BadRule as error:
        return {}, str(error)


def _tell_of_kernels() -> None:
    """Say of every CUDA kernel on which GPU it was verified."""
    table = Table("kernels", "options", "verified on", "worst error", "figures", box=None)
    for unit, options, records in (entries := list(status())):
        figures = "; ".join(
            f"{f['what']} {f['value']:.3g} {f['unit']}" for r in records for f in r["figures"]
        )
        worst = max((r["worst_error"] for r in records), default=None)
        table.add_row(unit, " ".join(options), str(Verified(unit, options, records)),
                      "" if worst is None else f"{worst:.1e}", figures)  # fmt: skip
    out.print(table)
    found = sum(bool(entry.records) for entry in entries)
    out.print(
        f"{found} of {len(entries)} verified on a GPU as they are now; {available() or 'a GPU answers'}"
    )


def _count(layer: Any) -> int:
    return sum(value.size for value in vars(layer).values() if isinstance(value, np.ndarray))


def _parameters(network: Network) -> int:
    return sum(_count(node.layer) for node in network.nodes)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # class names may not fit the terminal's encoding
    try:
        sys.exit(app(standalone_mode=False))
    except UsageError as error:
        sys.exit(_misused(error))


def _misused(error: Any) -> int:
    """Say in one line what Typer finds wrong with a command line; without any, it has shown the help."""
    if said := " ".join(error.format_message().split()):
        program = error.ctx.command_path if error.ctx else "lrpref"
        return refusal(f"{said} ({program} --help)").exit_code
    return 2
