"""Files of TensorFlow Serving beside the graph: versions, warm-up, configuration, a container.

    OUTPUT/savedmodel/3/           a version; the folder above is the server's base path
    OUTPUT/models.config           the model by name
    OUTPUT/batching.config         how requests are put together
    OUTPUT/compose.yaml            the stock image with all of these

A server watches the base path and loads whatever folder with a number appears there, so a version
is written elsewhere and appears in one move.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.export.folder import EXTRA
from keras_transformer.text import Tokenizer

WARMUP = "tf_serving_warmup_requests"
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Few sizes, because kernels are made, or compiled, for each.
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
# The oldest TensorFlow, with its tf.text, in which an export was loaded and run.
MINIMUM_SERVER = "2.12"


def check_name(name: str) -> str:
    """Return the name of a model, which becomes part of paths and addresses.

    Raises:
        InputError: If it is none.
    """
    if not MODEL_NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is not a valid name for a model: give another by --name, of up to 100 "
            "letters, "
            "digits, '.', '_' and '-', beginning with a letter or digit."
        )
    return name


def length_buckets(max_length: int) -> list[int]:
    """Return the lengths that are warmed up, in tokens: powers of two up to the model's."""
    lengths = [2**i for i in range(3, max_length.bit_length())]
    return [length for length in lengths if length < max_length] + [max_length]


def warmup_texts(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[str]:
    """Make a text of each length bucket out of the words of real ones."""
    words = [word for text in texts for word in text.split()] or ["a"]
    counts = [len(ids) for ids in tokenizer.tokenize(words).to_list()]
    return [_text_of(words, counts, length - 1) for length in length_buckets(max_length)]


def _text_of(words: Sequence[str], counts: Sequence[int], length: int) -> str:
    chosen: list[str] = []
    tokens = index = 0
    while tokens < length and index < 4 * max(length, len(words)):
        word, count = words[index % len(words)], counts[index % len(words)]
        if tokens + count <= length:
            chosen.append(word)
            tokens += count
        index += 1
    return " ".join(chosen)


def write_warmup(
    version: Path,
    name: str,
    texts: Sequence[str],
    signatures: Sequence[str] = ("serving_default", "translate"),
) -> int:
    """Write the requests that a server replays before it calls a version ready.

    Args:
        version: Folder of the version.
        name: Name of the model.
        texts: One text for each length bucket.
        signatures: What each text is sent to.

    Returns:
        The number of requests.
    """
    path = version / EXTRA / WARMUP
    path.parent.mkdir(exist_ok=True)
    requests = list(_warmup_requests(name, texts, signatures))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(request.SerializeToString())
    return len(requests)


def _warmup_requests(name: str, texts: Sequence[str], signatures: Sequence[str]) -> Iterator[Any]:
    from tensorflow_serving.apis import prediction_log_pb2

    for signature in signatures:
        for text in texts:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            request.inputs["text"].CopyFrom(tf.make_tensor_proto([text]))
            yield log


def read_warmup(version: Path) -> list[tuple[str, list[bytes]]]:
    """Read the signature and the texts of each warm-up request of a version."""
    from tensorflow_serving.apis import prediction_log_pb2

    path = version / EXTRA / WARMUP
    if not path.is_file():
        return []
    found = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        found.append((request.model_spec.signature_name, list(request.inputs["text"].string_val)))
    return found


def configuration(name: str, jit_compile: bool = False) -> dict[str, str]:
    """Return the files that start a server, by name.

    Args:
        name: Name of the model.
        jit_compile: Whether the graph is to be compiled by XLA, which a server has to allow.
    """
    models = f"""model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""
    sizes = "".join(f"allowed_batch_sizes: {size}\n" for size in BATCH_SIZES)
    batching = f"""max_batch_size {{ value: {BATCH_SIZES[-1]} }}
{sizes}batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: 2 }}
pad_variable_length_inputs: true
"""
    flags = [
        "--model_config_file=/config/models.config",
        "--enable_batching=true",
        "--batching_parameters_file=/config/batching.config",
        "--file_system_poll_wait_seconds=5",
        *(["--xla_cpu_compilation_enabled=true"] if jit_compile else []),
    ]
    command = "".join(f"      - {flag}\n" for flag in flags)
    compose = f"""# In this folder: docker compose up
# gRPC is on port 8500, REST on port 8501, both for this machine only.
services:
  serving:
    image: ${{TF_SERVING_IMAGE:-tensorflow/serving:latest}}
    ports:
      - "127.0.0.1:8500:8500"
      - "127.0.0.1:8501:8501"
    volumes:
      - ./savedmodel:/models/{name}:ro
      - ./models.config:/config/models.config:ro
      - ./batching.config:/config/batching.config:ro
    command:
{command}    restart: unless-stopped
"""
    return {"models.config": models, "batching.config": batching, "compose.yaml": compose}
