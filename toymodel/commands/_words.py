"""How reports write names and numbers."""


def words(case: str) -> str:
    """The name of a case, as words."""
    return case.replace("_", " ")


def signed(value: float) -> str:
    """A change, to four digits."""
    return f"{value:+.4g}"


def short(value: float) -> str:
    """A size, to four digits."""
    return f"{value:.4g}"
