"""What the site has beside docs/: pages of the API, made of what is public, and the changelog.

mkdocs calls the functions here (`hooks` in mkdocs.yml).
"""

import importlib
import inspect
import pkgutil
import re
import shutil
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "build" / "package"  # the package as it is installed, for the reader of docstrings
NAME = "keras_transformer"
API = {
    "layers": "Layers that models are assembled from.",
    "models": "Families, heads, presets and published weights.",
    "text": "Tokenisers and the learner of vocabularies.",
    "decoding": "Search over any model that generates text.",
    "pipelines": "Tokeniser, model and search in one graph.",
    "training": "Losses, metrics, optimizers, schedules, data and the trainer.",
    "export": "SavedModel and `.tflite` files, and how to load them.",
    "artefacts": "Running a model by its signatures, without TensorFlow.",
    "serving.client": "A client of TensorFlow Serving and of the local server.",
}


def on_startup(command, dirty):
    """Lay the package out as it is installed: `training` and `export` are parts of it."""
    shutil.rmtree(TREE, ignore_errors=True)
    only_code = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / NAME, TREE / NAME, ignore=only_code)
    for part in ("training", "export"):
        shutil.copytree(ROOT / part, TREE / NAME / part, ignore=only_code)


def on_files(files, config):
    """Add the generated pages."""
    public = {page: _public(importlib.import_module(f"{NAME}.{page}")) for page in API}
    pages = {f"api/{page}.md": _api_page(page, public) for page in API}
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text("utf-8")
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Make plain text of links that lead out of docs/, and lead the changelog's into it."""
    if page.file.src_uri == "changelog.md":
        markdown = re.sub(r"\]\(docs/", "](", markdown)
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def outside(match):
        target = (folder / match[2].split("#")[0]).resolve()
        return match[0] if target.is_relative_to(ROOT / "docs") else match[1]

    return re.sub(r"(?<!!)\[([^]]+)\]\(((?![a-z]+:|#)[^)]+)\)", outside, markdown)


def _api_page(page, public):
    """Write a page; what is public in two places is described where it is defined."""
    text = f"# {NAME}.{page}\n\n{API[page]}\n"
    for name, path in sorted(public[page].items()):
        others = [other for other in API if path in public[other].values()]
        home = next((o for o in others if path.startswith(f"{NAME}.{o}.")), others[0])
        title = f"kt.{page}.{name}"
        if home == page:
            options = f"    options:\n      heading: {title}\n      toc_label: {name}\n"
            text += f"\n::: {path}\n{options}"
        else:
            text += f"\n## {title}\n\nSee [`kt.{home}.{name}`][{path}].\n"
    return text


def _public(module):
    """Return where each public name of a module is defined."""
    names = getattr(module, "__all__", None)
    if names is None:  # then what it defines itself, in all of its files
        inside = pkgutil.iter_modules(getattr(module, "__path__", []), f"{module.__name__}.")
        parts = [module, *(importlib.import_module(part.name) for part in inside)]
        return {
            name: f"{part.__name__}.{name}"
            for part in parts
            for name, value in vars(part).items()
            if not name.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))
            and value.__module__ == part.__name__
        }
    return {name: _home(module, name) for name in names}


def _home(module, name):
    """Return the dotted path of the module in which a name is defined."""
    value = getattr(module, name)
    if inspect.ismodule(value):
        return value.__name__
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__qualname__}"
    for path, other in sorted(sys.modules.items(), key=lambda item: -len(item[0])):
        is_here = path.startswith(NAME) and vars(other).get(name) is value
        if is_here and re.search(rf"^{name}\b.*=", inspect.getsource(other), re.MULTILINE):
            return f"{path}.{name}"
    raise LookupError(f"{module.__name__}.{name} is defined nowhere")
