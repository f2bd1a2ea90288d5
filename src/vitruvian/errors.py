"""The errors that a user can cause; each says what is wrong, what was seen, what was expected, and what to do."""

MAX_SHOWN = 300
"""Most characters of a value in a message: what a file holds may be of any length."""
_MAX_SENTENCE = 1000
"""Most characters of the parts that we write ourselves, into which names from files may be set."""


def shown(value: object, limit: int = MAX_SHOWN) -> str:
    """A value as one short line of printable text, whatever it is: long values are cut, control characters escaped.

    Bytes of a file name that are not UTF-8 come out as escapes too, so that the text can be printed anywhere.
    """
    try:
        text = str(value)
    except Exception:  # a number of 5,000 digits, or an object whose own text fails
        text = f"a value of type {type(value).__name__} that cannot be printed"
    kept = text if len(text) <= limit else text[: limit - 1]
    clean = "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in kept)
    return clean if len(text) <= limit else f"{clean}… ({len(text):,} characters)"


class VitruvianError(Exception):
    """Base of all errors that vitruvian raises on purpose.

    Args:
        message: what is wrong, in one sentence.
        seen: the value or fact that was found; a long one is cut.
        expected: what would have been right.
        hint: a command to run, or a file to obtain, that solves it.
    """

    def __init__(
        self, message: str, *, seen: object | None = None, expected: object | None = None, hint: str | None = None
    ) -> None:
        self.message = shown(message, _MAX_SENTENCE)
        self.seen = None if seen is None else shown(seen)
        self.expected = None if expected is None else shown(expected, _MAX_SENTENCE)
        self.hint = None if hint is None else shown(hint, _MAX_SENTENCE)
        named = (("seen", self.seen), ("expected", self.expected), ("hint", self.hint))
        super().__init__("; ".join([self.message, *(f"{name}: {text}" for name, text in named if text is not None)]))


class InputError(VitruvianError):
    """A photograph, keypoint file, motion file or value given by the user cannot be used."""


class NoPersonError(InputError):
    """The input is readable but holds no person that could be fitted."""


class ShapeError(InputError):
    """A tensor has the wrong shape."""


class ModelFileError(VitruvianError):
    """A body model file is missing, truncated, or not of the family it should be."""


class UnsafeFileError(VitruvianError):
    """A file asks to run code, or names a type outside the allow-list, and was refused."""


class WeightsError(VitruvianError):
    """Trained weights are missing, or do not match the network they should fill."""


class MissingPackageError(VitruvianError):
    """An optional package is needed for what was asked."""


class OutputError(VitruvianError):
    """A result cannot be written."""
