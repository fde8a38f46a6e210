"""Checks of the command line that need no TensorFlow, which takes seconds to load."""

from pathlib import Path

from keras_transformer.errors import InputError


def check_files_exist(*paths: Path) -> None:
    """Refuse the name of a file that is not there."""
    for path in paths:
        if not path.exists():
            raise InputError(f"There is no file {path}.")


def check_model_exists(path: Path) -> None:
    """Refuse the name of a model that is not there."""
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.")


def check_file_free(path: Path, overwrite: bool) -> None:
    """Refuse a name that can't be written, or is taken."""
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent}; make it, or write elsewhere.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not path.is_file():  # /dev/null would become an ordinary file
        raise InputError(f"{path} is not an ordinary file; give another name.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; replace it by --overwrite or choose another name.")
