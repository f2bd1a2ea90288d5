"""The errors that a user can cause; each says what is wrong, what was seen, what was expected, and what to do."""


class VitruvianError(Exception):
    """Base of all errors that vitruvian raises on purpose.

    Args:
        message: what is wrong, in one sentence.
        seen: the value or fact that was found.
        expected: what would have been right.
        hint: a command to run, or a file to obtain, that solves it.
    """

    def __init__(
        self, message: str, *, seen: object | None = None, expected: object | None = None, hint: str | None = None
    ) -> None:
        self.message = message
        self.seen = seen
        self.expected = expected
        self.hint = hint
        parts = [message]
        if seen is not None:
            parts.append(f"seen: {seen}")
        if expected is not None:
            parts.append(f"expected: {expected}")
        if hint is not None:
            parts.append(f"hint: {hint}")
        super().__init__("; ".join(parts))


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
