"""How numbers are told to people."""


def counted(number: int, noun: str) -> str:
    """`1 scene`, `12 boxes`, `28,130 samples`: a number and its noun, in a plural of s, or es after x."""
    plural = "" if number == 1 else "es" if noun.endswith("x") else "s"
    return f"{number:,} {noun}{plural}"
