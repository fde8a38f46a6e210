"""Make the tiny checkpoints of the tests of models.hugging_face, and their outputs.

Needs torch, transformers and sentence-transformers:

    python tests/golden/make_checkpoints.py [NAME ...]

Weights are random, rounded to a grid of 1/512 so that they compress well, and kept in half
precision; the reference computes with the same numbers in float32.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).parent / "checkpoints"
V, D, H, F, N = 40, 16, 2, 24, 2
IDS = np.array([[5, 9, 20, 31, 7, 6], [8, 33, 12, 1, 1, 1]])  # 1 is padding in some, 0 in others


def main(names):
    torch.manual_seed(0)
    shared = {
        "vocab_size": V,
        "hidden_size": D,
        "num_hidden_layers": N,
        "num_attention_heads": H,
        "intermediate_size": F,
        "max_position_embeddings": 12,
    }
    bert = hf.BertConfig(**shared, num_labels=3)
    roberta = hf.RobertaConfig(
        **{**shared, "max_position_embeddings": 14, "type_vocab_size": 1, "num_labels": 3}
    )
    electra = hf.ElectraConfig(**shared, embedding_size=8)
    gpt2 = {"vocab_size": V, "n_embd": D, "n_layer": N, "n_head": H, "n_positions": 12}
    gpt2 = hf.GPT2Config(**gpt2, bos_token_id=3, eos_token_id=3)
    t5 = {"vocab_size": V, "d_model": D, "d_kv": 6, "d_ff": F, "num_layers": N, "num_heads": H}
    t5 |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
    bart = {"vocab_size": V, "d_model": D, "encoder_layers": N, "decoder_layers": N}
    bart |= {"encoder_attention_heads": H, "decoder_attention_heads": H, "encoder_ffn_dim": F}
    bart |= {"decoder_ffn_dim": F, "max_position_embeddings": 12}
    marian = {**bart, "pad_token_id": 39, "eos_token_id": 0, "decoder_start_token_id": 39}
    marian |= {"activation_function": "swish", "scale_embedding": True}
    marian |= {"forced_eos_token_id": 0, "decoder_vocab_size": V}
    vit = {**shared, "image_size": 8, "patch_size": 4, "num_labels": 3}
    vit.pop("vocab_size"), vit.pop("max_position_embeddings")
    models = {
        "bert": hf.BertModel(bert),
        "bert-masked-lm": hf.BertForMaskedLM(bert),
        "bert-classifier": hf.BertForSequenceClassification(bert),
        "bert-tokens": hf.BertForTokenClassification(bert),
        "bert-answers": hf.BertForQuestionAnswering(hf.BertConfig(**shared)),
        "roberta-masked-lm": hf.RobertaForMaskedLM(roberta),
        "roberta-classifier": hf.RobertaForSequenceClassification(roberta),
        "electra": hf.ElectraForPreTraining(electra),
        "gpt2": hf.GPT2LMHeadModel(gpt2),
        "t5": hf.T5ForConditionalGeneration(hf.T5Config(**t5, decoder_start_token_id=0)),
        "t5-v1.1": hf.T5ForConditionalGeneration(
            hf.T5Config(
                **t5,
                decoder_start_token_id=0,
                feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
                num_decoder_layers=1,
            )
        ),
        "bart": hf.BartForConditionalGeneration(hf.BartConfig(**bart)),
        "marian": hf.MarianMTModel(hf.MarianConfig(**marian)),
        "vit": hf.ViTForImageClassification(hf.ViTConfig(**vit)),
    }
    # One layer each, where it says enough; the heads of RoBERTa and ELECTRA have GELU regardless.
    small = {**shared, "num_hidden_layers": 1}
    untied = {"tie_word_embeddings": False}
    gpt2 = {"vocab_size": V, "n_embd": D, "n_layer": N, "n_head": H, "n_positions": 12, **untied}
    gpt2 |= {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}
    gpt2 |= {"n_inner": 20, "activation_function": "relu", "bos_token_id": 3, "eos_token_id": 3}
    roberta = {**small, "max_position_embeddings": 14, "type_vocab_size": 1, "hidden_act": "relu"}
    electra = {**small, "embedding_size": 8}
    models |= {
        "bert-masked-lm-untied": hf.BertForMaskedLM(hf.BertConfig(**small, **untied)),
        "roberta-masked-lm-untied": hf.RobertaForMaskedLM(hf.RobertaConfig(**roberta, **untied)),
        "electra-masked-lm-untied": hf.ElectraForMaskedLM(
            hf.ElectraConfig(**electra, **untied, hidden_act="relu")
        ),
        "electra-classifier": hf.ElectraForSequenceClassification(
            hf.ElectraConfig(**electra, num_labels=3)
        ),
        "gpt2-untied": hf.GPT2LMHeadModel(hf.GPT2Config(**gpt2)),
        "gpt2-unscaled": hf.GPT2LMHeadModel(
            hf.GPT2Config(**{**gpt2, "tie_word_embeddings": True}, scale_attn_weights=False)
        ),
        "bart-untied": hf.BartForConditionalGeneration(
            hf.BartConfig(**{**bart, "encoder_layers": 1, "decoder_layers": 1}, **untied)
        ),
        "bert-sentences": hf.BertModel(hf.BertConfig(**small), add_pooling_layer=False),
    }
    for name in names or models:
        shutil.rmtree(HERE / name, ignore_errors=True)
        make(name, models[name])


def make(name, model):
    folder = HERE / name
    folder.mkdir(parents=True)
    if name == "t5-v1.1":  # published files have a table for logits, which transformers 5 would tie
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        model.config.tie_word_embeddings = False
    rounded(model)
    if name == "bert-sentences":
        make_sentences(folder, model.eval())
        return
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        tensors = load_file(Path(scratch) / "model.safetensors")
        save_file(
            {key: value.astype("float16") for key, value in tensors.items()},
            folder / "model.safetensors",
            {"format": "pt"},
        )
        shutil.copy(Path(scratch) / "config.json", folder / "config.json")
    config = json.loads((folder / "config.json").read_text())
    config["transformers_version"] = hf.__version__
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    inputs, outputs = run(name, model.eval())
    np.savez_compressed(
        folder / "reference.npz",
        **{f"input_{key}": value for key, value in inputs.items()},
        **{f"output_{key}": value.astype("float32") for key, value in outputs.items()},
    )


@torch.no_grad()
def rounded(model):
    """Make weights large enough that every part matters, and exact in half precision."""
    generator = torch.Generator().manual_seed(1)
    for key, weight in model.named_parameters():
        if "embed_positions" in key and "Marian" in type(model).__name__:
            continue
        noise = torch.randn(weight.shape, generator=generator) * (0.3 if weight.ndim > 1 else 0.2)
        if weight.ndim == 1 and ("norm" in key.lower() or "ln_" in key) and "weight" in key:
            noise = noise + 1
        weight.copy_((noise * 512).round() / 512)
    for key, buffer in model.named_buffers():
        if key == "final_logits_bias":
            noise = torch.randn(buffer.shape, generator=generator) * 0.2
            buffer.copy_((noise * 512).round() / 512)


@torch.no_grad()
def run(name, model):
    def tensor(x):
        return torch.tensor(x)

    if name == "vit":
        images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).round(3).astype("float32")
        logits = model(pixel_values=tensor(images.transpose(0, 3, 1, 2))).logits
        return {"images": images}, {"logits": logits.numpy()}
    pad = model.config.pad_token_id
    ids = IDS if pad is None else np.where(IDS == 1, pad, IDS)
    if name.startswith(("t5", "bart", "marian")):
        begin = model.config.decoder_start_token_id
        target = np.array([[begin, 4, 17, 30, 9], [begin, 11, 6, 25, 8]])
        logits = model(
            input_ids=tensor(ids),
            attention_mask=tensor(ids != pad),
            decoder_input_ids=tensor(target),
        ).logits
        return {"source_ids": ids, "target_ids": target}, {"logits": logits.numpy()}
    if name.startswith("gpt2"):
        ids = IDS[:, :3].copy()
        return {"token_ids": ids}, {"logits": model(input_ids=tensor(ids)).logits.numpy()}
    inputs = {"token_ids": ids}
    arguments = {"input_ids": tensor(ids), "attention_mask": tensor(ids != pad)}
    if not name.startswith("roberta"):
        inputs["segment_ids"] = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0]])
        arguments["token_type_ids"] = tensor(inputs["segment_ids"])
    outputs = model(**arguments)
    if name == "bert":
        found = {"sequence": outputs.last_hidden_state, "pooled": outputs.pooler_output}
    elif name == "bert-answers":
        found = {"logits": torch.stack([outputs.start_logits, outputs.end_logits], dim=1)}
    else:
        found = {"logits": outputs.logits}
    return inputs, {key: value.numpy() for key, value in found.items()}


def make_sentences(folder, model):
    """Make a folder of sentence-transformers: every pooling, a norm and a dense layer behind it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    with tempfile.TemporaryDirectory() as scratch:
        there = Path(scratch) / "there"
        model.save_pretrained(there)
        (there / "vocab.txt").write_text("".join(f"{piece}\n" for piece in special))
        hf.BertTokenizer(str(there / "vocab.txt")).save_pretrained(there)
        transformer = Transformer(str(there), max_seq_length=10)
        pooling = Pooling(D, pooling_mode=list(Pooling.POOLING_MODES))
        dense = Dense(len(Pooling.POOLING_MODES) * D, 8, activation_function=torch.nn.Tanh())
        rounded(dense)
        whole = SentenceTransformer(
            modules=[transformer, pooling, Normalize(), dense],
            prompts={"query": "a b ", "passage": "c "},
            default_prompt_name="query",
            device="cpu",
        )
        whole.save(str(folder), create_model_card=False)
        ids = np.where(IDS == 1, 0, IDS)
        inputs = {"token_ids": ids, "segment_ids": np.zeros_like(ids)}
        features = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(ids != 0).long()}
        with torch.no_grad():
            pooled = pooling(transformer(features))["sentence_embedding"]
            embedding = dense(Normalize()({"sentence_embedding": pooled}))["sentence_embedding"]
    for name in ("tokenizer.json", "vocab.txt", "README.md"):
        (folder / name).unlink(missing_ok=True)
    for path in folder.rglob("model.safetensors"):
        tensors = {key: value.astype("float16") for key, value in load_file(path).items()}
        save_file(tensors, path, {"format": "pt"})
    np.savez_compressed(
        folder / "reference.npz",
        **{f"input_{key}": value for key, value in inputs.items()},
        output_logits=embedding.numpy(),
        pooled=pooled.numpy(),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
