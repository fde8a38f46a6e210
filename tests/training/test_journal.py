"""Tests of keras_transformer.training.journal."""

from keras_transformer.training.journal import Journal


def test_lines_of_steps_that_are_made_again_are_forgotten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (10, 20, 30):
        journal = Journal(path, tmp_path / "tensorboard", step - 10)
        journal.scalars(step, **{"train/loss": step / 2})
        journal.examples(step, {4: 2, 8: 1})
        journal.close()
    whole = path.read_text().splitlines(keepends=True)
    assert len(whole) == 6
    path.write_text("".join(whole) + '{"step": 31, "tra')  # killed while it was writing
    for step, kept in ((30, 6), (29, 4), (20, 4), (0, 0)):
        Journal(path, tmp_path / "tensorboard", step).close()
        assert path.read_text().splitlines(keepends=True) == whole[:kept]
