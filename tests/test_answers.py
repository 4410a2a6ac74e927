"""A user's pairs of texts, and those that `examples/real_pairs.py` writes. All texts are made up here."""

import io
import json
import re
import tarfile
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples import real_pairs
from toymodel.data import answers
from toymodel.data.answers import Answers, splits
from toymodel.models import llama
from toymodel.models.llama import Llama
from toymodel.models.logps import response_logp
from toymodel.models.pretrained import Pretrained

END = 0
WORDS = {"<end>": END}


def encode(text):
    """A number for each word with the blank before it."""
    return [WORDS.setdefault(word, len(WORDS)) for word in re.findall(r" ?\w+|[^\w ]| ", text)]


def decode(ids):
    names = {number: word for word, number in WORDS.items()}
    return "".join(names[int(number)] for number in ids)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(n, prompts=None):
    """N pairs of unequal length about as many prompts, or fewer."""
    return [
        {
            "prompt": f"what is {i % (prompts or n)}?",
            "chosen": f" {i} is a number" + " indeed" * (i % 3),
            "rejected": f" no idea of {i}" + " at all" * (i % 5),
        }
        for i in range(n)
    ]


def texts_of(pairs):
    """Prompt, chosen and rejected as texts, without padding."""
    pairs = jax.device_get(pairs)
    for n in range(len(pairs)):
        names = ("prompt", "chosen", "rejected")
        yield tuple(decode(getattr(pairs, name)[n][getattr(pairs, f"{name}_mask")[n]]) for name in names)


def test_texts_become_the_tokens_of_prompt_and_answers(tmp_path):
    path = write(
        tmp_path / "pairs.jsonl",
        [
            {"prompt": "was it", "chosen": " good", "rejected": " bad film", "about": "other keys are left alone"},
            {"prompt": "was it goo", "chosen": "d film", "rejected": "d", "system": ""},
            {"prompt": "", "chosen": "film", "rejected": " film"},
        ],
    )
    found = answers.read(path, encode, END)
    told = [tuple(decode(ids) for ids in pair) for pair in found.pairs]
    assert told == [
        ("was it", " good<end>", " bad film<end>"),
        ("was it", " good film<end>", " good<end>"),  # what the prompt begins, both answers end
        ("<end>", "film<end>", " film<end>"),
    ]
    assert found.left_out == 0


def test_an_answer_that_ends_is_not_ended_again(tmp_path):
    path = write(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": " b !", "rejected": " c"}])
    (pair,) = answers.read(path, encode, encode("!")[0]).pairs
    assert [decode(side) for side in pair] == ["a", " b !", " c!"]


def test_each_pair_is_trained_on_or_judged(tmp_path):
    rows = rows_of(80)
    path = write(tmp_path / "pairs.jsonl", rows)
    parts = splits(path, encode, END, seed=1)
    assert parts.fine_tuning is parts.training
    assert (len(parts.training), len(parts.evaluation)) == (60, 20)
    wanted = {(row["prompt"], f"{row['chosen']}<end>", f"{row['rejected']}<end>") for row in rows}
    together = [*texts_of(parts.training), *texts_of(parts.evaluation)]
    assert (set(together), len(together)) == (wanted, 80)
    for name in ("prompt", "chosen", "rejected"):
        assert getattr(parts.training, name).shape[1] == getattr(parts.evaluation, name).shape[1]
    for part in parts[:3]:
        part.check(len(WORDS))
    for a, b in zip(parts[:3], splits(path, encode, END, seed=1)[:3], strict=True):
        for field in fields(a):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
    other = splits(path, encode, END, seed=2)
    assert {*texts_of(other.evaluation)} != {*texts_of(parts.evaluation)}


def test_at_most_64_are_judged(tmp_path):
    parts = splits(write(tmp_path / "pairs.jsonl", rows_of(300)), encode, END, seed=0)
    assert (len(parts.training), len(parts.evaluation)) == (236, 64)


def test_no_judged_prompt_is_trained_on(tmp_path):
    path = write(tmp_path / "pairs.jsonl", rows_of(90, prompts=30))  # three pairs each, and 22 are judged
    for seed in range(3):
        parts = splits(path, encode, END, seed)
        trained, judged = ({prompt for prompt, *_ in texts_of(part)} for part in (parts.training, parts.evaluation))
        assert not trained & judged
        assert (len(parts.training), len(parts.evaluation)) == (66, 22)


def test_longer_pairs_are_refused_or_left_out_and_counted(tmp_path):
    rows = rows_of(70)
    rows[3]["rejected"] = " no" * 40
    path = write(tmp_path / "pairs.jsonl", rows)
    message = r"line 4: prompt and longer answer are 45 tokens, more than 44: leave the pair out"
    with pytest.raises(ValueError, match=message):  # 4 of the prompt, 40, and the end
        splits(path, encode, END, 0, longest=44)
    assert len(splits(path, encode, END, 0, longest=45).evaluation) == 17
    found = answers.read(path, encode, END, longest=44, drop_longer=True)
    assert (len(found.pairs), found.left_out) == (69, 1)
    left = splits(path, encode, END, 0, longest=44, drop_longer=True)
    assert not any(" no no" in text for part in left[:3] for texts in texts_of(part) for text in texts)
    with pytest.raises(ValueError, match=r"line 1: prompt and longer answer are 513 tokens, more than 512"):
        answers.read(write(path, [{"prompt": "a", "chosen": " b" * 511, "rejected": " c"}]), encode, END)
    assert answers.read(path, encode, END, drop_longer=True) == Answers([], 1)


def test_too_few_pairs_or_prompts(tmp_path):
    few = write(tmp_path / "few.jsonl", rows_of(63))
    with pytest.raises(ValueError, match=r"few.jsonl` must have 64 pairs at least, .* got 63 pairs of 63 prompts\.$"):
        splits(few, encode, END, 0)
    assert len(splits(write(few, rows_of(64)), encode, END, 0).evaluation) == 16
    one = write(tmp_path / "one.jsonl", rows_of(100, prompts=1))
    with pytest.raises(ValueError, match=r"got 100 pairs of 1 prompt\.$"):
        splits(one, encode, END, 0)
    with pytest.raises(ValueError, match=r"got 0 pairs of 0 prompts, and 64 longer than 5 tokens\.$"):
        splits(few, encode, END, 0, longest=5, drop_longer=True)
    with pytest.raises(ValueError, match=r"got 1 pair of 1 prompt\.$"):
        splits(write(tmp_path / "alone.jsonl", rows_of(1)), encode, END, 0)


BAD_LINES = {
    "no JSON": ('{"prompt": "a", ', "it must be a JSON object"),
    "nested too deeply": ("[" * 100_000, "it must be a JSON object"),
    "a number": ("3", "`chosen` is missing or empty"),
    "no chosen": ('{"prompt": "a", "rejected": " b"}', "`chosen` is missing or empty"),
    "no rejected": ('{"prompt": "a", "chosen": " b"}', "`rejected` is missing or empty"),
    "no prompt": ('{"chosen": " b", "rejected": " c"}', "`prompt` must be text, .* got NoneType"),
    "empty": ('{"prompt": "a", "chosen": " b", "rejected": ""}', "`rejected` is missing or empty"),
    "blank": ('{"prompt": "a", "chosen": " \\n", "rejected": " b"}', "`chosen` has no text"),
    "equal": ('{"prompt": "a", "chosen": " b", "rejected": " b"}', "both answers have the same tokens"),
    "a number as text": ('{"prompt": "a", "chosen": " b", "rejected": 1}', "`rejected` must be text, .* got int"),
    "messages": (
        '{"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "c"}',
        "these are messages: write them as texts",
    ),
    "a message": ('{"conversations": [], "chosen": {"value": "b"}, "rejected": {"value": "c"}}', "these are messages"),
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES)
def test_bad_pairs_are_named_by_their_line(tmp_path, line, message):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(rows_of(1)[0]) + f"\n\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"pairs.jsonl`, line 3: {message}"):
        splits(path, encode, END, 0)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    (tmp_path / "empty.jsonl").write_text("\n")
    bad = {"absent": "cannot read .*absent", ".": "cannot read", "latin.jsonl": "cannot read .*latin"}
    for name, message in (bad | {"empty.jsonl": "holds no pairs"}).items():
        with pytest.raises(ValueError, match=message):
            splits(tmp_path / name, encode, END, 0)


# --- examples/real_pairs.py ------------------------------------------------------------------------------------------

MODEL = Llama(2048, layers=1, dim=8, heads=2, kv_heads=1, hidden=8)


class Tokenizer:
    """As far as it is used."""

    def encode(self, text):
        return type("Encoding", (), {"ids": encode(text)})


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package with three records, of which the last is long; and a tiny model."""

    def message(role, value):
        return {"from": role, "value": value}

    asked, told = message("human", "was it good?"), message("gpt", "it was")
    records = [
        {"conversations": [asked], "chosen": message("gpt", "it was"), "rejected": message("gpt", "no film")},
        {
            "conversations": [message("system", "be brief"), asked, told, message("human", "why")],
            "chosen": message("gpt", "because"),
            "rejected": message("gpt", "it was a good film"),
        },
        {"conversations": [asked], "chosen": message("gpt", "so " * 90), "rejected": told},
    ]
    content = json.dumps(records).encode()
    path = tmp_path / "package.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(real_pairs.MEMBER)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(real_pairs, "fetch", lambda _: path)
    params = llama.init_params(jax.random.key(0), MODEL)
    monkeypatch.setattr(real_pairs.pretrained, "load", lambda: Pretrained(MODEL, params, Tokenizer(), END))
    return path


@pytest.mark.usefixtures("package")
def test_conversations_become_texts_and_are_measured(tmp_path, capsys):
    out = tmp_path / "pairs.jsonl"
    real_pairs.main([str(out), "--longest", "100", "--measure", "2"])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    ask = "<|im_start|>user\nwas it good?<|im_end|>\n"
    assert rows == [
        {
            "prompt": f"<|im_start|>system\n{real_pairs.SYSTEM['value']}<|im_end|>\n{ask}<|im_start|>assistant\n",
            "chosen": "it was",
            "rejected": "no film",
        },
        {
            "prompt": f"<|im_start|>system\nbe brief<|im_end|>\n{ask}<|im_start|>assistant\nit was<|im_end|>\n"
            "<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n",
            "chosen": "because",
            "rejected": "it was a good film",
        },
    ]
    loaded, (pairs, _) = real_pairs.pretrained.load(), answers.read(out, encode, END)
    gram = real_pairs.measure(loaded, pairs)
    told = capsys.readouterr().out
    assert f"2 of 3 pairs, those within 100 tokens, are in {out}." in told
    cosines = gram.inner / jnp.sqrt(gram.chosen_sq * gram.rejected_sq)
    assert f"mean {cosines.mean():.2f}, from {cosines.min():.2f} to {cosines.max():.2f}" in told
    right = (gram.inner < jnp.minimum(gram.chosen_sq, gram.rejected_sq)).sum()
    assert f"in {right} of 2 pairs" in told


@pytest.mark.usefixtures("package")
def test_a_measured_pair_is_that_of_two_gradients_without_padding():
    loaded = real_pairs.pretrained.load()
    pairs = [((5, 6), (7, 8), (9,)), ((5, 6, 7, 8), (9, 10, 11, 12), (1, 2, 3))]
    gram = real_pairs.measure(loaded, pairs)
    alone = real_pairs.PreferencePairs.from_lists(*([side] for side in pairs[0]), vocab_size=MODEL.vocab_size)[0]
    sides = (alone.chosen_response, alone.rejected_response)
    gradient = jax.jit(jax.grad(response_logp, argnums=1))
    g_w, g_l = (jax.tree.leaves(jax.device_get(gradient(MODEL, loaded.params, side))) for side in sides)
    for entry, one, other in zip(gram, (g_w, g_l, g_w), (g_w, g_l, g_l), strict=True):
        np.testing.assert_allclose(entry[0], sum(map(np.vdot, one, other)), rtol=1e-9)  # round-off of long sums


def test_another_package_is_named(package):
    package.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"cannot read the pairs in .*package.tar.gz"):
        real_pairs.read_conversations()
