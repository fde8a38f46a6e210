"""List the fields that configurations of Hugging Face have, with their defaults.

Needs torch and transformers: python tests/golden/make_published_fields.py
"""

import json
from pathlib import Path

import transformers as hf

CONFIGS = ["Bert", "Roberta", "Electra", "GPT2", "T5", "Bart", "Marian", "ViT"]


def main():
    fields = {}
    for name in CONFIGS:
        config = getattr(hf, f"{name}Config")()
        content = {**vars(config), **config.to_dict()}
        for labels in ("id2label", "label2id"):
            content.pop(labels, None)
        fields[content["model_type"]] = dict(sorted(content.items()))
    fields["generation"] = dict(sorted(hf.GenerationConfig().to_dict().items()))
    path = Path(__file__).parent / "published_fields.json"
    path.write_text(json.dumps(fields, indent=1) + "\n")


if __name__ == "__main__":
    main()
