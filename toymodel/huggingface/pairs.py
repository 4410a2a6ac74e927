"""Reads a model with its tokenizer from a folder, and preference pairs from a JSON lines file as token ids."""

import os
import struct
from pathlib import Path
from typing import Any

from toymodel._public import own_names
from toymodel._texts import SIDES, TokenPair, joined, read_rows, split_ids

__dir__ = own_names(globals())


def load_model(folder: str | os.PathLike[str]) -> tuple[Any, Any]:
    """A causal language model in float32, on a GPU if there is one, and its tokenizer.

    If the folder holds a peft adapter, only its parameters count as trained. A .gguf file is a model too; its weights
    are dequantised. Nothing is downloaded.

    Raises:
      ValueError: it is neither, has no such model, or a package is missing.
    """
    folder = Path(folder)
    file: dict[str, str] = {}
    try:
        if folder.suffix == ".gguf" and folder.is_file():
            folder, file = folder.parent, {"gguf_file": folder.name}
        elif not folder.is_dir():
            raise ValueError(
                "a model must be a folder, as `save_pretrained` of transformers makes one, or a .gguf file, got "
                f"`{folder}`."
            )
        adapter = not file and (folder / "adapter_config.json").exists()
    except OSError as error:
        raise ValueError(f"cannot read `{folder}`: {error.strerror}.") from error
    try:
        import torch
        import transformers

        if adapter:
            import peft
        if file:
            import gguf  # noqa: F401  # transformers reads it by this package
    except ImportError as error:
        extra = "torch,pretrained" if file else "torch"
        raise ValueError(f"a model needs the package `{error.name}`: pip install 'toymodel[{extra}]'.") from None
    reading: dict[str, Any] = {"local_files_only": True, **file}
    try:
        if adapter:
            model = peft.AutoPeftModelForCausalLM.from_pretrained(
                folder, is_trainable=True, dtype=torch.float32, local_files_only=True
            )
        else:
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **reading)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **reading)
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RuntimeError,
        ImportError,
        struct.error,
    ) as error:
        place = folder / file.get("gguf_file", "")
        raise ValueError(f"cannot read a model and its tokenizer from `{place}`: {_first_line(error)}") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def read_pairs(
    path: str | os.PathLike[str], tokenizer: Any, *, longest: int | None, eos: bool = True
) -> list[TokenPair]:
    """Pairs of a file with one JSON object on each line, with the keys prompt, chosen and rejected.

    Text: prompt and answer are joined, then tokenized. The common beginning of the prompt and both answers is the
    prompt, whose tokens do not count. An end-of-text token is appended. Lists of messages go through the tokenizer's
    chat template instead, which ends an answer in its own way; without a prompt, the prompt is the common beginning of
    both conversations.

    Args:
      path: the file.
      tokenizer: of Hugging Face transformers.
      longest: the largest number of tokens that the model takes, if any.
      eos: whether to append an end-of-text token to text.

    Raises:
      ValueError: the file cannot be read, or a pair is incomplete, too long, or has equal or empty answers; the message
        has its line.
    """
    return read_rows(path, lambda row: _check(_encode(tokenizer, row, eos=eos), longest))


def _encode(tokenizer: Any, row: dict[str, Any], *, eos: bool) -> TokenPair:
    chat = isinstance(row["chosen"], list) or isinstance(row.get("prompt"), list)
    texts = _render(tokenizer, row) if chat else joined(row)
    prompt, chosen, rejected = (list(tokenizer(text, add_special_tokens=not chat)["input_ids"]) for text in texts)
    end = tokenizer.eos_token_id if eos and not chat else None
    if end is None and eos and not chat:
        raise ValueError("the tokenizer has no end-of-text token to append.")
    pair = split_ids(prompt, chosen, rejected, end=end)
    start = [token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None]
    if not pair.prompt and not start:
        raise ValueError("the prompt is empty, and the tokenizer has no token to start from.")
    return pair._replace(prompt=pair.prompt or start[:1])


def _render(tokenizer: Any, row: dict[str, Any]) -> tuple[str, str, str]:
    """The same for messages, as the chat template writes them."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("these are messages, and the tokenizer has no chat template for them.")
    chosen, rejected = (
        [{"role": "assistant", "content": side}] if isinstance(side, str) else side for side in (row[k] for k in SIDES)
    )
    prompt = row.get("prompt")
    if prompt is None:
        same = [one == other for one, other in zip(chosen, rejected, strict=False)]
        n = (*same, False).index(False)
        prompt, chosen, rejected = chosen[:n], chosen[n:], rejected[n:]
    if not all(isinstance(part, list) for part in (prompt, chosen, rejected)):
        raise ValueError("prompt, chosen and rejected must all be lists of messages, or all be text.")
    if not chosen or not rejected:
        raise ValueError("an answer has no messages beyond the prompt.")
    try:
        begun = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        return begun, *(tokenizer.apply_chat_template([*prompt, *side], tokenize=False) for side in (chosen, rejected))
    except Exception as error:  # a template is a program of its own, in jinja
        raise ValueError(f"the chat template refuses it: {_first_line(error)}") from error


def _check(pair: TokenPair, longest: int | None) -> TokenPair:
    for side in SIDES:
        # The last token is predicted but never read.
        total = len(pair.prompt) + len(getattr(pair, side)) - 1
        if longest is not None and total > longest:
            raise ValueError(
                f"prompt and `{side}` are {total} tokens, but the model takes {longest}: shorten the pair."
            )
    return pair


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
