r"""Tweet-like texts that people rated, as prompts of the paper's sentiment task, with answers in four formats.

The texts are the ground truth of VADER (Hutto & Gilbert, 2014; MIT licence): 4,200 texts with a mean rating in [−4, 4],
4,000 of them after tweets and 200 contrived. They are read from a pinned source package; none are kept here. Prompts
are "Tweet: …\nSentiment:". The chosen answer begins with the right label and the rejected one with the other; what
follows is the same in both.

Format          After the label
`one_token`     nothing
`short_suffix`  " sentiment"
`long_suffix`   " sentiment based on my judgement"
`varied`        six tokens of another text, a different one for each prompt: a suffix that cannot be learnt by heart
"""

import html
import io
import tarfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from toymodel._public import own_names
from toymodel.data.packages import Package, fetch
from toymodel.data.pairs import PreferencePairs

__dir__ = own_names(globals())

VADER = Package(
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    2_466_783,
)
MEMBERS = ("additional_resources/hutto_ICWSM_2014.tar.gz", "tweets_GroundTruth.txt")  # the second is in the first
SUFFIXES = {"one_token": "", "short_suffix": " sentiment", "long_suffix": " sentiment based on my judgement"}
FORMATS = (*SUFFIXES, "varied")
LABELS = (" negative", " positive")
VARIED = 6  # tokens after the label
CLEAR = 1.0  # texts of a rating nearer 0 are left out
PLACES = 29  # tokens of a prompt, at most
FINE_TUNING, TRAINING, EVALUATION = 320, 128, 64  # prompts

Encode = Callable[[str], Sequence[int]]


class Text(NamedTuple):
    """A text and its mean rating."""

    text: str
    rating: float


class Splits(NamedTuple):
    """Pairs about different texts, half of them of each label."""

    fine_tuning: PreferencePairs
    training: PreferencePairs
    evaluation: PreferencePairs
    left_out: int = 0  # pairs of a user's that were too long


def read() -> list[Text]:
    """All texts, from the package; it is downloaded once.

    Raises:
      ValueError: the download fails, or the package holds no such file.
    """
    path = fetch(VADER)
    try:
        with tarfile.open(path) as archive:
            outer = next(name for name in archive.getnames() if name.endswith(MEMBERS[0]))
            inner = io.BytesIO(_read(archive, outer))
        with tarfile.open(fileobj=inner) as archive:
            name = next(name for name in archive.getnames() if name.endswith(MEMBERS[1]))
            lines = _read(archive, name).decode(errors="replace").splitlines()
    except (OSError, tarfile.TarError, StopIteration) as error:
        raise ValueError(f"cannot read the tweets in `{path}`: {error}.") from error
    columns = [line.split("\t", 2) for line in lines if line.strip()]
    return [Text(html.unescape(text), float(rating)) for _, rating, text in columns]


def splits(texts: Sequence[Text], encode: Encode, format: str, seed: int) -> Splits:
    """Pairs of a format, from a random choice of the texts that are clear and short enough.

    Raises:
      ValueError: an unknown format, or too few such texts.
    """
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, got {format!r}.")
    rng = np.random.default_rng(seed)
    clear = [text for text in texts if abs(text.rating) >= CLEAR]
    prompts = [encode(f"Tweet: {text.text}\nSentiment:") for text in clear]
    short = [number for number in rng.permutation(len(clear)) if len(prompts[number]) <= PLACES]
    by_label = [[number for number in short if (clear[number].rating > 0) == label] for label in (False, True)]
    sizes = (FINE_TUNING, TRAINING, EVALUATION)
    if min(map(len, by_label)) < sum(sizes) // 2:
        found = " and ".join(f"{len(of)}{label}" for of, label in zip(by_label, LABELS, strict=True))
        raise ValueError(f"`texts` must have {sum(sizes) // 2} of each label that are clear and short, got {found}.")
    others = [ids for text in rng.permutation(len(clear)) if len(ids := encode(" " + clear[text].text)) >= VARIED]
    labels = [list(encode(label)) for label in LABELS]

    def pairs_of(start: int, size: int) -> PreferencePairs:
        members = [number for of in by_label for number in of[start : start + size // 2]]
        rng.shuffle(members)
        suffixes = [
            list(encode(SUFFIXES[format])) if format in SUFFIXES else list(others.pop()[:VARIED]) for _ in members
        ]
        right = [int(clear[number].rating > 0) for number in members]
        answers = [
            [labels[side] + suffix for side in (label, 1 - label)]
            for label, suffix in zip(right, suffixes, strict=True)
        ]
        chosen, rejected = zip(*answers, strict=True)
        return _padded([prompts[number] for number in members], chosen, rejected)

    starts = np.cumsum([0, *sizes])[:-1] // 2
    fine_tuning, training, evaluation = map(pairs_of, starts.tolist(), sizes)
    return Splits(fine_tuning, training, evaluation)


def _padded(prompts: Sequence[Sequence[int]], *answers: Sequence[Sequence[int]]) -> PreferencePairs:
    """All as wide as the longest may be, so that programs are the same for all parts and formats."""
    width = 1 + VARIED

    def rows(lists: Sequence[Sequence[int]], width: int, left: bool) -> tuple[Array, Array]:
        tokens, mask = np.zeros((len(lists), width), int), np.zeros((len(lists), width), bool)
        for row, ids in enumerate(lists):
            place = slice(width - len(ids), width) if left else slice(len(ids))
            tokens[row, place], mask[row, place] = ids, True
        return jnp.asarray(tokens), jnp.asarray(mask)

    chosen, rejected = (rows(side, width, left=False) for side in answers)
    return PreferencePairs(*rows(prompts, PLACES, left=True), *chosen, *rejected)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise tarfile.TarError(f"{name} is no file")
    return file.read()
