"""What a run tells while it trains: TensorBoard for people, JSON lines for machines."""

import json
from pathlib import Path

import tensorflow as tf


class Journal:
    """Writes scalars and texts of one run.

    Args:
        metrics_path: File of JSON lines; one that is there is continued.
        tensorboard_path: Folder for TensorBoard.
    """

    def __init__(self, metrics_path: Path, tensorboard_path: Path):
        self._lines = metrics_path.open("a", encoding="utf-8")
        self._writer = tf.summary.create_file_writer(str(tensorboard_path))

    def scalars(self, step: int, **values: float) -> None:
        """Note values at a step, by name; a name such as `train/loss` groups curves."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def translations(self, step: int, sources: list[str], outputs: list[str]) -> None:
        """Show sample translations as a table."""
        rows = "\n".join(
            f"| {_cell(s)} | {_cell(o)} |" for s, o in zip(sources, outputs, strict=True)
        )
        with self._writer.as_default(step):
            tf.summary.text("translations", f"| source | output |\n|---|---|\n{rows}")

    def close(self) -> None:
        """Write what is left."""
        self._lines.close()
        self._writer.close()


def _cell(text):
    return text.replace("|", "\\|").replace("\n", " ")
