"""What can go wrong, each with one clear line.

Every error that a user's input can cause is a `LrprefError`: its text says what was wrong, where,
and what would be right. The command line prints it and ends with exit code 2.
"""


LONGEST = 8000
"""So many characters of an error's line are shown."""


class LrprefError(Exception):
    """Base of all errors that bad input can cause; its text is one line, whatever it quotes."""

    def __str__(self) -> str:
        line = " ".join(super().__str__().splitlines())
        return line if len(line) <= LONGEST else line[:LONGEST] + "..."


class BadNetwork(LrprefError):
    """A network that cannot be built: a name, a shape or a parameter that does not fit."""


class BadWeights(LrprefError):
    """A weight file that cannot be read, or that does not belong to the architecture."""


class BadInput(LrprefError):
    """An input, target or picture that the network cannot take."""


class BadRule(LrprefError):
    """An unknown rule or composite, a parameter out of range, a rule on a layer that it does not fit."""


class BadBackend(LrprefError):
    """An unknown backend or dtype, or one that this machine cannot run."""


class NoMemory(BadBackend):
    """Less memory than is wanted; a smaller batch may fit."""


class BadRecord(LrprefError):
    """An output folder that is not a record of ours, or that cannot be read or written."""


class BadVector(LrprefError):
    """A file of test vectors that is none, or is damaged: the file, the vector and the field."""


class Undecided(LrprefError):
    """Ball arithmetic could not decide a sign, a maximum or a zero; more precision would."""
