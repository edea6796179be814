"""The two kinds of failure a user meets; both are shown as one line without a traceback."""


class UsageError(Exception):
    """The user asked for something that cannot be done: a wrong choice, key or path.

    The message is one line that says what is wrong and what to change. Exit code 2.
    """


class RunError(Exception):
    """Something broke while running: a corrupt checkpoint or cache, a full disk.

    The message is one line that says what is broken and how to continue. Exit code 1.
    """


def one_line(error: BaseException) -> str:
    """An error's text without line breaks, to quote in our own messages."""
    return " ".join(str(error).split())
