"""Logs of a run while it trains: TensorBoard for people, JSON lines for machines."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.files import replacing
from keras_transformer.training.pictures import attention_picture
from keras_transformer.typing import Tensor

SMOOTHING = 0.6  # of the smoothed loss, from one report to the next, each of many steps


class Journal:
    """Writes scalars, texts and pictures of one run.

    Args:
        metrics_path: File of JSON lines; one that is there is continued.
        tensorboard_path: Folder for TensorBoard.
        step: The step that the run goes on from. Lines of later steps are removed, for these steps
            are made again.
    """

    def __init__(self, metrics_path: Path, tensorboard_path: Path, step: int = 0) -> None:
        _forget_after(metrics_path, step)
        self._lines = metrics_path.open("a", encoding="utf-8")
        self._writer = tf.summary.create_file_writer(str(tensorboard_path))

    def scalars(self, step: int, **values: float) -> None:
        """Note values at a step, by name; a name such as `train/loss` groups curves."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def examples(self, step: int, by_length: dict[int, int]) -> None:
        """Note how many examples were trained on since the last report, by length of bucket."""
        self._lines.write(json.dumps({"step": step, "train/examples_by_length": by_length}) + "\n")
        self._lines.flush()
        with self._writer.as_default(step):
            lengths = np.repeat(list(by_length), list(by_length.values()))
            tf.summary.histogram("train/examples_by_length", lengths)

    def table(
        self, step: int, name: str, header: Sequence[str], rows: Iterable[Iterable[object]]
    ) -> None:
        """Show a table of texts.

        Args:
            step: The step.
            name: What TensorBoard lists it by.
            header: The names of the columns.
            rows: For each row its texts.
        """
        lines = [_line(header), "|---" * len(header) + "|", *map(_line, rows)]
        with self._writer.as_default(step):
            tf.summary.text(name, "\n".join(lines))

    def attention(
        self, step: int, maps: dict[str, list[Tensor]], source: list[str], target: list[str]
    ) -> None:
        """Show the attention weights of every head.

        Args:
            step: The step.
            maps: What `attention_maps` returned for one sentence.
            source: Its pieces.
            target: The pieces of the decoder's input.
        """
        sides = {
            "encoder": (source, source),
            "decoder": (target, target),
            "cross": (target, source),
        }
        with self._writer.as_default(step):
            for name, layers in maps.items():
                for i, weights in enumerate(layers):
                    picture = attention_picture(np.asarray(weights)[0], *sides[name])
                    tf.summary.image(f"attention_{name}/layer_{i}", picture[np.newaxis])

    def close(self) -> None:
        """Write what is left."""
        self._lines.close()
        self._writer.close()


def _forget_after(path: Path, step: int) -> None:
    """Remove the lines of steps after `step`, and a last one that was cut off."""
    if not path.is_file():
        return
    lines = path.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if kept != lines:
        with replacing(path) as new:
            new.write_text("".join(kept), "utf-8")


def _line(texts: Iterable[object]) -> str:
    cells = (str(text).replace("|", "\\|").replace("\n", " ") for text in texts)
    return f"| {' | '.join(cells)} |"
