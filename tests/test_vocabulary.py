from hypothesis import given
from hypothesis import strategies as st

from toymodel import Vocabulary

words = st.text("abcdefgh", min_size=1, max_size=4)


@given(st.lists(words, min_size=2, max_size=12, unique=True), st.data())
def test_decoding_undoes_encoding(tokens, data):
    vocabulary = Vocabulary(tuple(tokens), ("neutral",) * len(tokens))
    ids = data.draw(st.lists(st.integers(0, len(tokens) - 1)))
    assert vocabulary.encode(vocabulary.decode(ids)) == ids


def test_words_are_taken_once_in_the_order_in_which_they_occur():
    assert Vocabulary.from_words("the film was the film").tokens == ("the", "film", "was")
    vocabulary = Vocabulary.from_words(["good film", "bad  film\n"])
    assert vocabulary.tokens == ("good", "film", "bad")
    assert set(vocabulary.roles) == {"neutral"}


def test_roles_partition_the_tokens():
    vocabulary = Vocabulary.of_roles(contrast=["good", "bad"], suffix=["indeed"], sentiment=["lovely"], neutral=["the"])
    assert [vocabulary.with_role(role) for role in ("contrast", "suffix", "sentiment", "neutral")] == [
        (0, 1),
        (2,),
        (3,),
        (4,),
    ]
    assert vocabulary.encode("the good") == [4, 0]
    assert len(Vocabulary.numbered(5)) == 5
