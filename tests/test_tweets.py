"""Pairs about rated texts. The texts are made up here; the package they come from is read where it is in the cache."""

import io
import tarfile
from dataclasses import fields

import jax
import numpy as np
import pytest

from toymodel.data import packages, tweets
from toymodel.data.tweets import Text, splits

WORDS: dict[str, int] = {}


def encode(text):
    """A number for each word with the blank before it."""
    words = text.replace("\n", " \n ").replace(" ", "\0 ").split("\0")
    return [WORDS.setdefault(word, len(WORDS)) for word in words if word]


def decode(ids):
    names = {number: word for word, number in WORDS.items()}
    return "".join(names[int(number)] for number in ids)


TEXTS = [
    Text(f"text {n} says that {'all is well' if n % 2 else 'nothing is'} {n * n}", (-1) ** (n + 1) * 2.0)
    for n in range(600)
]


def answers(pairs):
    pairs = jax.device_get(pairs)
    for n in range(len(pairs.chosen)):
        yield (
            decode(pairs.prompt[n][pairs.prompt_mask[n]]),
            decode(pairs.chosen[n][pairs.chosen_mask[n]]),
            decode(pairs.rejected[n][pairs.rejected_mask[n]]),
        )


@pytest.mark.parametrize("format", tweets.FORMATS)
def test_answers_differ_in_the_label_alone_and_the_right_one_is_chosen(format):
    for part, size in zip(splits(TEXTS, encode, format, seed=1)[:3], (320, 128, 64), strict=True):
        assert len(part.chosen) == size
        rights = []
        for prompt, chosen, rejected in answers(part):
            right = " positive" if "well" in prompt else " negative"
            wrong = " negative" if right == " positive" else " positive"
            assert prompt.startswith("Tweet: text ")
            assert prompt.endswith("\n Sentiment:")
            assert chosen.startswith(right)
            assert rejected.startswith(wrong)
            assert chosen.removeprefix(right) == rejected.removeprefix(wrong)
            if format in tweets.SUFFIXES:
                assert chosen == right + tweets.SUFFIXES[format]
            rights.append(right)
        assert rights.count(" positive") == size / 2
        assert (np.asarray(part.chosen)[:, 0] != np.asarray(part.rejected)[:, 0]).all()
        assert (part.prompt.shape[1], part.chosen.shape[1], part.rejected.shape[1]) == (29, 7, 7)


def test_no_text_is_in_two_parts_and_seeds_choose_others():
    one, other = (
        [[a[0] for a in answers(part)] for part in splits(TEXTS, encode, "one_token", seed)[:3]] for seed in (0, 1)
    )
    together = [prompt for part in one for prompt in part]
    assert len(set(together)) == len(together)
    assert set(one[0]) != set(other[0])
    again = splits(TEXTS, encode, "varied", 0)
    for a, b in zip(again[:3], splits(TEXTS, encode, "varied", 0)[:3], strict=True):
        for field in fields(a):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


def test_suffixes_of_varied_are_different_ones_of_six_tokens():
    parts = splits(TEXTS, encode, "varied", 3)[:3]
    suffixes = [tuple(row[1:]) for part in parts for row in np.asarray(part.chosen)]
    assert {len(suffix) for suffix in suffixes} == {tweets.VARIED}
    assert len(set(suffixes)) > len(suffixes) / 2


def test_unclear_and_long_texts_are_left_out():
    unclear = [Text("unclear word", 0.5)] * 50
    long = [Text("long " * 40, 3.0)] * 50
    for part in splits(TEXTS + unclear + long, encode, "one_token", 0)[:3]:
        assert not any("unclear" in prompt or "long" in prompt for prompt, *_ in answers(part))
    with pytest.raises(
        ValueError, match=r"must have 256 of each label that are clear and short, got 50 negative and 50 positive"
    ):
        splits(TEXTS[:100] + long, encode, "one_token", 0)
    with pytest.raises(
        ValueError, match="`format` must be one of one_token, short_suffix, long_suffix, varied, got 'two'"
    ):
        splits(TEXTS, encode, "two", 0)


def archive_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def test_the_archive_in_the_package_is_read(tmp_path, monkeypatch):
    inner = archive_of({"x/tweets_GroundTruth.txt": b"1\t2.5\tYes &amp; yes\n2\t-1.5\tno\tno\n"})
    path = tmp_path / "package.tar.gz"
    path.write_bytes(archive_of({"v/additional_resources/hutto_ICWSM_2014.tar.gz": inner}))
    monkeypatch.setattr(tweets, "fetch", lambda _: path)
    assert tweets.read() == [Text("Yes & yes", 2.5), Text("no\tno", -1.5)]
    path.write_bytes(archive_of({"v/other.txt": b""}))
    with pytest.raises(ValueError, match="cannot read the tweets in"):
        tweets.read()


def test_the_published_texts():
    path = packages.cache_folder() / "packages" / tweets.VADER.file
    if not path.exists():
        pytest.skip("the package of the texts is not in the cache; `toymodel real` downloads it")
    texts = tweets.read()
    assert len(texts) == 4200
    assert all(-4 <= text.rating <= 4 for text in texts)
