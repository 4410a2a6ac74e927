"""Preference pairs that people use, as a file, and how entangled they are.

    python examples/real_pairs.py pairs.jsonl                 # those within 256 tokens
    python examples/real_pairs.py pairs.jsonl --measure 20    # and cosines of the first

`toymodel real --pairs` takes 64 pairs of at most 192 tokens, of which these have too
few. The pairs are the 300 of `dpo_en_demo.json` in the source package of LLaMA-Factory
0.9.5 (Apache-2.0; the licence of each record is not stated). The package is downloaded
by pip, checked, and its code is not run; nothing of it is kept in this repository.
Their conversations become texts by the chat template of SmolLM2, whose model measures
them. It takes `pip install 'toymodel[pretrained]'`; a pair takes about six CPU-seconds
to measure.
"""

import argparse
import json
import sys
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from toymodel import PreferencePairs, theory
from toymodel.data import answers
from toymodel.data.packages import Package, fetch
from toymodel.gradients import pair_gram
from toymodel.gram import cosine
from toymodel.models import pretrained

LLAMA_FACTORY = Package(
    "llamafactory",
    "0.9.5",
    "llamafactory-0.9.5.tar.gz",
    "1702c0bfb864e80577a59521d2edcacd2aab05ec6aee06188fcba335a589681f",
    5_208_876,
)
MEMBER = "llamafactory-0.9.5/data/dpo_en_demo.json"
ROLES = {"system": "system", "human": "user", "gpt": "assistant"}
SYSTEM = {
    "from": "system",
    "value": "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
}
LONGEST = 256  # tokens of a pair; memory grows with it


def read_conversations():
    """The records; a message of theirs is {"from": role, "value": text}."""
    path = fetch(LLAMA_FACTORY)
    try:
        with tarfile.open(path) as archive:
            return json.load(archive.extractfile(MEMBER))
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise ValueError(f"cannot read the pairs in `{path}`: {error}.") from error


def as_texts(record):
    """Prompt and answers in SmolLM2's chat template, without a token that ends."""
    messages = record["conversations"]
    if messages[0]["from"] != "system":
        messages = [SYSTEM, *messages]
    turns = [
        f"<|im_start|>{ROLES[message['from']]}\n{message['value']}<|im_end|>\n"
        for message in messages
    ]
    sides = {side: record[side]["value"] for side in ("chosen", "rejected")}
    return {"prompt": "".join([*turns, "<|im_start|>assistant\n"])} | sides


def measure(loaded, pairs):
    """Gram entries of each pair over all parameters, a pair at a time."""
    lists = zip(*pairs, strict=True)
    padded = PreferencePairs.from_lists(
        *lists, vocab_size=loaded.model.vocab_size
    )  # one width: one program
    params = jax.tree.map(jnp.asarray, loaded.params)
    found = [
        pair_gram(loaded.model, params, padded[i : i + 1]) for i in range(len(padded))
    ]
    return jax.tree.map(lambda *entries: jnp.concatenate(entries), *found)


def main(arguments=None):
    """Write the file; measure if wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="JSON lines to write")
    parser.add_argument(
        "--longest",
        type=int,
        default=LONGEST,
        help="tokens of a prompt and its longer answer, at most",
    )
    parser.add_argument(
        "--measure", type=int, default=0, metavar="N", help="measure the first N pairs"
    )
    options = parser.parse_args(arguments)
    loaded = pretrained.load()
    rows = [as_texts(record) for record in read_conversations()]
    pairs = [
        answers.tokenize(
            row, lambda text: loaded.tokenizer.encode(text).ids, loaded.end
        )
        for row in rows
    ]
    short = [
        (row, pair)
        for row, pair in zip(rows, pairs, strict=True)
        if answers.length(pair) <= options.longest
    ]
    options.file.write_text(
        "".join(json.dumps(row) + "\n" for row, _ in short), encoding="utf-8"
    )
    kept = f"{len(short)} of {len(rows)} pairs, those within {options.longest} tokens"
    print(f"{kept}, are in {options.file}.")
    if options.measure:
        gram = measure(loaded, [pair for _, pair in short[: options.measure]])
        cosines = np.asarray(cosine(gram))
        right = int((theory.slack(gram) > 0).sum())
        low, high = cosines.min(), cosines.max()
        mean = f"mean {cosines.mean():.2f}, from {low:.2f} to {high:.2f}"
        print(f"cosine of the two gradients: {mean}")
        print(
            "DPO's equal weights raise the chosen and lower the rejected in "
            f"{right} of {len(cosines)} pairs."
        )


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"real_pairs: {error}")
