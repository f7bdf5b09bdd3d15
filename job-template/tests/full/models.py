"""Folders of BERT as people have them: the job gives the logits that transformers gives, or refuses.

usage: models.py JOB MODEL DATA FOLDER

Each folder is a small model of random weights, changed in one way. What is to be refused is refused by
the cause's name. What the job trained of a cased model gives the same logits in transformers.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

TOLERANCE = 1e-5
HIDDEN, WIDE, LAYERS, HEADS, POSITIONS = 48, 96, 2, 4, 64
TEXTS = (
    "What a film!",
    "It was the WORST film I have ever seen.",
    "One<br /><br />two\x85three\u2003\tfour<br/>",
    "Señor Müller's café — 很好 🙂 isn't naïve.",
    "I would watch it again tomorrow, and the day after, and " * 9,
)


class Failed(Exception):
    """A folder isn't read as it should be; the text says how."""


def tensors(config, labels):
    """The tensors of a classifier, by transformers' own names."""
    import torch
    import transformers

    torch.manual_seed(7)
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(**config, num_labels=labels)
    )
    # Not the small ones that training begins with: what is computed otherwise is to be seen.
    return {
        name: value.float() + torch.randn_like(value.float()) * 0.2
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }


class Folders:
    """Makes folders in `work`, with the tokenizer of `model`."""

    def __init__(self, work, model):
        self.work = work
        self.tokenizer = json.loads((model / "tokenizer.json").read_text())
        words = self.tokenizer["model"]["vocab"]
        self.config = {
            "vocab_size": len(words), "hidden_size": HIDDEN, "intermediate_size": WIDE,
            "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
            "max_position_embeddings": POSITIONS, "hidden_act": "gelu",
        }  # fmt: skip
        self.vocab = "".join(word + "\n" for word in sorted(words, key=words.get))

    def cased(self):
        tokenizer = json.loads(json.dumps(self.tokenizer))
        tokenizer["normalizer"]["lowercase"] = False
        return tokenizer

    def make(self, name, weights, tokenizer=None, tokenizer_config=None, **config):
        from safetensors.torch import save_file

        folder = self.work / name
        folder.mkdir()
        fields = {
            "model_type": "bert", "architectures": ["BertForSequenceClassification"],
            **self.config, "type_vocab_size": 2, "id2label": {"0": "no", "1": "yes"}, **config,
        }  # fmt: skip
        fields = {field: value for field, value in fields.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(fields))
        if isinstance(weights, dict):
            tensors = {name: value.contiguous().clone() for name, value in weights.items()}
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        if tokenizer != "vocab":
            (folder / "tokenizer.json").write_text(json.dumps(tokenizer or self.tokenizer))
        else:
            (folder / "vocab.txt").write_text(self.vocab)
        if tokenizer_config:
            text = json.dumps(tokenizer_config)
            (folder / "tokenizer_config.json").write_text(text)
        return folder


def same_models(folders):
    """Folders that the job and transformers read alike."""
    import torch
    from safetensors.torch import save_file

    full = tensors(folders.config, 2)
    rename = lambda old, new: {name.replace(old, new): value for name, value in full.items()}
    yield folders.make("plain", full)
    old = rename("LayerNorm.weight", "LayerNorm.gamma")
    old = {name.replace("LayerNorm.bias", "LayerNorm.beta"): old[name] for name in old}
    yield folders.make("gamma-beta", old)
    yield folders.make("no-prefix", rename("bert.", ""))
    yield folders.make("f16", {name: value.half() for name, value in full.items()}, dtype="float16")
    half = {name: value.bfloat16() for name, value in full.items()}
    yield folders.make("bf16", half, torch_dtype="bfloat16")
    yield folders.make("f64", {name: value.double() for name, value in full.items()})
    for activation in ("gelu_new", "gelu_pytorch_tanh", "relu"):
        yield folders.make(activation, full, hidden_act=activation)
    yield folders.make("unnamed", full, id2label=None)
    five = tensors(folders.config, 5)
    stars = {str(star): f"{star + 1} stars" for star in range(5)}
    yield folders.make("five", five, id2label=stars)
    yield folders.make("multi", five, id2label=stars, problem_type="multi_label_classification")
    yield folders.make("vocab", full, tokenizer="vocab")
    cased = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    yield folders.make("vocab-cased", full, tokenizer="vocab", tokenizer_config=cased)
    yield folders.make("cased", full, tokenizer=folders.cased(), tokenizer_config=cased)
    yield folders.make("cased-by-config", full, tokenizer_config=cased)
    pretraining = {
        **full,
        "cls.predictions.bias": torch.zeros(folders.config["vocab_size"]),
        "bert.embeddings.position_ids": torch.arange(POSITIONS)[None],
    }
    yield folders.make("left-over", pretraining)
    sharded = folders.make("sharded", None)
    names = sorted(full)
    shards = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for file, part in shards.items():
        part = {name: full[name].contiguous() for name in part}
        save_file(part, sharded / file, {"format": "pt"})
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    yield sharded


def run_job(job, folder, arguments, texts=(), **variables):
    environment = {
        "PATH": os.environ["PATH"], "MODEL": str(folder), "DEVICE": "cpu", "OMP_NUM_THREADS": "1",
        "NUM_MAX_POSITIONS": str(POSITIONS), **variables,
    }  # fmt: skip
    return subprocess.run(
        [job, *arguments],
        input="".join(json.dumps({"text": text}) + "\n" for text in texts),
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def compare(job, folder):
    """How far the job's logits are from those of transformers, at most."""
    import torch
    import transformers

    model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    if loading["missing_keys"] or loading["mismatched_keys"]:
        raise Failed(f"{folder.name}: transformers misses {loading}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    done = run_job(job, folder, ["predict", "--logits"], TEXTS)
    if done.returncode != 0:
        raise Failed(f"{folder.name}: {done.stderr}")
    worst = 0.0
    for text, line in zip(TEXTS, done.stdout.splitlines(), strict=True):
        inputs = tokenizer(text, truncation=True, max_length=POSITIONS, return_tensors="pt")
        with torch.no_grad():
            expected = model.eval()(**inputs).logits[0]
        apart = (torch.tensor(json.loads(line)["logits"]) - expected).abs().max().item()
        # A NaN is infinitely far from anything.
        worst = max(worst, apart if apart == apart else float("inf"))
    if worst > TOLERANCE:
        raise Failed(f"{folder.name}: logits are {worst:.1e} from those of transformers")
    return worst


def check_refusals(job, folders):
    import torch

    full = tensors(folders.config, 2)
    without = {name: value for name, value in full.items() if "pooler" not in name}
    nameless = json.loads(json.dumps(folders.tokenizer))
    nameless["post_processor"] = None
    pickled = folders.make("pickled", None)
    torch.save(full, pickled / "pytorch_model.bin")
    refused = {
        folders.make("no-pooler", without): "no pooler",
        folders.make("silu", full, hidden_act="silu"): "`hidden_act`",
        folders.make("distilbert", full, model_type="distilbert"): "`model_type`",
        folders.make(
            "relative", full, position_embedding_type="relative_key"
        ): "`position_embedding_type`",
        folders.make("regression", full, problem_type="regression"): "`problem_type`",
        folders.make("same-labels", full, id2label={"0": "a", "1": "a"}): "`id2label`",
        folders.make("seven-heads", full, num_attention_heads=7): "`num_attention_heads`",
        folders.make("no-post-processor", full, tokenizer=nameless): "`post_processor`",
        pickled: "pickled weights",
    }
    for folder, cause in refused.items():
        done = run_job(job, folder, ["predict", "--logits", "a film"])
        if done.returncode != 1 or cause not in done.stderr or done.stderr.count("\n") != 1:
            raise Failed(f"{folder.name}: {done.returncode}, {done.stderr}")
    return pickled, len(refused)


def check_conversion(job, pickled):
    """The line that the job says converts what it refused."""
    said = run_job(job, pickled, ["predict", "--logits", "a film"]).stderr
    line = said[said.index("python3 -c") :].strip().replace("python3", sys.executable, 1)
    subprocess.run(line, shell=True, cwd=pickled, check=True)
    compare(job, pickled)


def check_cased_training(job, folders, data):
    """What is trained of a cased model is the same model in transformers."""
    cased = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    full = tensors(folders.config, 2)
    base = folders.make(
        "cased-base", full, folders.cased(), tokenizer_config=cased, torch_dtype="float16"
    )
    output = folders.work / "cased-trained"
    sizes = {"NUM_TRAIN": "60", "NUM_TEST": "20"}
    done = run_job(job, base, ["train"], DATA=str(data), OUTPUT_DIR=str(output), **sizes)
    if done.returncode != 0:
        raise Failed(f"training a cased model: {done.stderr}")
    compare(job, output)
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(output)
    if tokenizer("FILM")["input_ids"] == tokenizer("film")["input_ids"]:
        raise Failed("a cased model's tokenizer has lost its case")
    config = transformers.AutoConfig.from_pretrained(output)
    if str(config.dtype) not in ("float32", "torch.float32"):
        raise Failed(f"config.json says that the weights are {config.dtype}")


def main():
    job, model, data, work = (Path(argument).resolve() for argument in sys.argv[1:])
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    folders = Folders(work, model)
    try:
        apart = {folder.name: compare(job, folder) for folder in same_models(folders)}
        pickled, refused = check_refusals(job, folders)
        check_conversion(job, pickled)
        check_cased_training(job, folders, data)
    except Failed as failure:
        sys.exit(f"error: {failure}")
    worst = max(apart, key=apart.get)
    print(
        f"{len(apart)} kinds of folders: logits at most {apart[worst]:.1e} from those of "
        f"transformers ({worst}); {refused} refused by name"
    )


if __name__ == "__main__":
    main()
