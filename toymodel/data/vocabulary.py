"""Synthetic vocabularies: token strings, their ids, and the role each token plays in a preference pair."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

from toymodel._checks import require_int
from toymodel._public import own_names, shortened

__dir__ = own_names(globals())

Role = Literal["sentiment", "contrast", "suffix", "neutral"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of tokens; the id of a token is its position.

    Roles: `contrast` tokens are where chosen and rejected differ, `suffix` tokens follow them in both,
    `sentiment` tokens appear in prompts and decide the label, `neutral` tokens are all others.

    Raises:
      ValueError: fewer than two tokens, a repeated token, a token with white space, an unknown role, or a missing role.
    """

    tokens: tuple[str, ...]
    roles: tuple[Role, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) < 2:
            raise ValueError(f"`tokens` must hold at least 2 tokens, got {len(self.tokens)}.")
        if len(self.roles) != len(self.tokens):
            raise ValueError(
                f"`roles` must name one role per token, got {len(self.roles)} for {len(self.tokens)} tokens."
            )
        for token, count in Counter(self.tokens).items():
            if count > 1 or token.split() != [token]:
                times = "once" if count == 1 else f"{count} times"
                raise ValueError(f"`tokens` must be different words without white space, got {token!r} {times}.")
        for role in self.roles:
            if role not in ROLES:
                raise ValueError(f"`roles` must be among {', '.join(ROLES)}, got {role!r}.")

    @classmethod
    def numbered(cls, size: int) -> Self:
        """`size` neutral tokens t0, t1, …: for sweeps, where only equality of tokens matters."""
        require_int("size", size, low=2)
        roles: tuple[Role, ...] = tuple("neutral" for _ in range(size))
        return cls(tuple(f"t{i}" for i in range(size)), roles)

    @classmethod
    def from_words(cls, texts: str | Iterable[str]) -> Self:
        """The different words of a text, or of several, in the order in which they first occur; all are neutral.

        Raises:
          ValueError: fewer than two different words.
        """
        words = (word for text in ([texts] if isinstance(texts, str) else texts) for word in text.split())
        tokens = tuple(dict.fromkeys(words))
        roles: tuple[Role, ...] = tuple("neutral" for _ in tokens)
        return cls(tokens, roles)

    @classmethod
    def of_roles(
        cls,
        *,
        contrast: Sequence[str],
        suffix: Sequence[str] = (),
        sentiment: Sequence[str] = (),
        neutral: Sequence[str] = (),
    ) -> Self:
        """A vocabulary from the words of each role, in the order contrast, suffix, sentiment, neutral."""
        groups: dict[Role, Sequence[str]] = {
            "contrast": contrast,
            "suffix": suffix,
            "sentiment": sentiment,
            "neutral": neutral,
        }
        words = [(word, role) for role, group in groups.items() for word in group]
        return cls(tuple(word for word, _ in words), tuple(role for _, role in words))

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens: {shortened(self.tokens)})"

    def with_role(self, role: Role) -> tuple[int, ...]:
        """Ids of the tokens that play `role`, ascending."""
        if role not in ROLES:
            raise ValueError(f"`role` must be among {', '.join(ROLES)}, got {role!r}.")
        return tuple(i for i, r in enumerate(self.roles) if r == role)

    def encode(self, text: str) -> list[int]:
        """Ids of the words of `text`, split at white space.

        Raises:
          ValueError: a word is not in the vocabulary.
        """
        ids = {token: i for i, token in enumerate(self.tokens)}
        for word in text.split():
            if word not in ids:
                raise ValueError(f"`text` must use the vocabulary's {len(self)} tokens, got {word!r}.")
        return [ids[word] for word in text.split()]

    def decode(self, ids: Iterable[int]) -> str:
        """The tokens of `ids` joined by single spaces.

        Raises:
          ValueError: an id is outside [0, size).
        """
        numbers = [int(i) for i in ids]
        for i in numbers:
            require_int("ids", i, low=0, high=len(self) - 1)
        return " ".join(self.tokens[i] for i in numbers)
