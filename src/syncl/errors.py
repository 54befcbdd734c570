"""The one exception users are meant to see."""


class SynclError(Exception):
    """Something the user can mend: bad input, a missing file, an impossible combination of options.

    The message says what is wrong, where (file, field, value) and what to do. The command line prints it
    without a traceback and exits with status 2.
    """
