"""Published tokenisers for tests: the files in published_tokenizers.json, changed at will."""

import base64
import copy
import json
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "published_tokenizers.json").read_text("utf-8"))
CONFIG = "tokenizer_config.json"
FILE = "tokenizer.json"
SENTENCEPIECE = GOLDEN / "sentencepiece.model"


def config_of(name):
    return {"model_type": CASES[name]["model_type"], "vocab_size": 10_000}


def write(name, folder, change=None):
    """Write the files of a case, which a function may change first."""
    files = copy.deepcopy(CASES[name]["files"])
    if change is not None:
        change(files)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        if isinstance(content, dict) and content.keys() == {"base64"}:
            (folder / file).write_bytes(base64.b64decode(content["base64"]))
        elif isinstance(content, str):
            (folder / file).write_text(content, "utf-8")
        else:
            (folder / file).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return folder


def put(path, value):
    """Make a change: the value at a path such as "tokenizer.json/model/type"."""
    file, *keys = path.split("/")

    def change(files):
        if not keys:
            files[file] = value
            return
        place = files.setdefault(file, {})
        for key in keys[:-1]:
            place = place[int(key) if isinstance(place, list) else key]
        place[int(keys[-1]) if isinstance(place, list) else keys[-1]] = value

    return change


def together(*changes):
    def change(files):
        for one in changes:
            one(files)

    return change
