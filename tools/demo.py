"""What `make demo` runs: two networks, three explanations, and where their relevance went."""

from __future__ import annotations

from importlib.resources import files

from lrpref.cli import app, out

CHINA = str(files("sklearn.datasets") / "images" / "china.jpg")
PALACE = ["--model", "efficientnet-lite0", "--input", CHINA]

RUNS = (
    (
        "The embedded network on an embedded picture: which pixels speak for a piece of clothing?",
        ["--out", "out/fashion"],
    ),
    (
        "ImageNet: EfficientNet-Lite0 on scikit-learn's china.jpg, with the chapter's composite.",
        [*PALACE, "--composite", "chapter", "--out", "out/palace-chapter"],
    ),
    (
        "The same under LRP-0: positive and negative relevance cancel, and little can be seen.",
        [*PALACE, "--composite", "lrp-0", "--out", "out/palace-lrp-0"],
    ),
)


def main() -> None:
    """Run the explanations, one after the other."""
    out.print("The ledger says where f(x) went: docs/ledger.md explains it on three neurons.")
    for number, (what, arguments) in enumerate(RUNS, 1):
        out.rule(f"{number} of {len(RUNS)}", style="dim")
        out.print(what, style="bold")
        out.print(f"$ lrpref explain {' '.join(arguments)}\n", style="dim", soft_wrap=True)
        code = app(["explain", *arguments, "--overwrite"], standalone_mode=False)
        if code:
            raise SystemExit(code)
        out.print()


if __name__ == "__main__":
    main()
