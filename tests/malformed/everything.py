"""All cases."""

from malformed import checkpoints, documents, exported_programs, neutral, onnx_models, strangers, tensors
from malformed.corpus import Case

CORPORA: dict[str, list[Case]] = {
    corpus.format: corpus.cases
    for corpus in (
        strangers.CORPUS, checkpoints.ZIP, checkpoints.LEGACY, tensors.CORPUS, neutral.CORPUS,
        exported_programs.CORPUS, onnx_models.CORPUS, documents.CORPUS,
    )
}  # fmt: skip
"""The cases of each format."""
