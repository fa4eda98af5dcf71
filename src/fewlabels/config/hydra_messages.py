"""What Hydra 1.3 and OmegaConf 2.3 say of a mistake, as regular expressions by name; tested against what they really say.

Their errors have few classes and hold the names and values at fault in their text alone.
"""

from __future__ import annotations

import re

_KEY = r".*?full_key: ([\w.]+)"
_PERHAPS_KEY = r"(?:.*?full_key: ([\w.]+))?"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.DOTALL)


# Groups and their options.
UNKNOWN_OPTION = _pattern(r"(?:Could not find|Could not load) '([\w/]+)/([^'/]+)'")  # group, option
LISTED_OPTION = re.compile(r"^\t([\w-]+)$", re.MULTILINE)  # one of the options that there are, each in a line
UNKNOWN_GROUP_OR_KEY = _pattern(r"Could not override '([^']+)'")
GROUP_ADDED_TWICE = _pattern(r"Multiple values for ([\w/]+)|groups is not supported: '\+\+([\w/]+)")
NULL_GROUP = _pattern(r"Config group override must be a string")

# Keys.
UNKNOWN_KEY = _pattern(rf"Key '[^']*' not in '\w+'{_KEY}")
KEY_ADDED_TWICE = _pattern(r"already at '([^']+)'")
KEY_BELOW_NULL = _pattern(r"Unexpected type for root")
MISSING_VALUE = _pattern(r"Missing mandatory value: ([\w.]+)")
NOT_REMOVABLE = _pattern(rf"does not support deletion{_KEY}")

# Values.
INVALID_CHOICE = _pattern(rf"Invalid value '(.*?)', expected one of \[([^\]]*)\]{_PERHAPS_KEY}")  # value, choices, key
INVALID_CHOICE_TYPE = _pattern(rf"Value (.*?) \(\w+\) is not a valid input for <enum '\w+'>{_PERHAPS_KEY}")  # value, key
INVALID_TYPE = _pattern(rf"Value '(.*?)' .*?could not be converted to (\w+){_PERHAPS_KEY}")  # value, type, key
NULL_VALUE = _pattern(rf"(?:not Optional|None to){_KEY}")
NOT_A_GROUP = _pattern(rf"not a subclass{_KEY}")
NOT_A_LIST = _pattern(rf"not a ListConfig{_KEY}")
TOO_LARGE = _pattern(rf"int too large to convert to float{_KEY}")

# Interpolations.
UNKNOWN_INTERPOLATION = _pattern(rf"Interpolation key '([^']+)' not found{_PERHAPS_KEY}")
UNKNOWN_ENVIRONMENT = _pattern(rf"Environment variable '(\w+)' not found{_PERHAPS_KEY}")

# The command line's grammar, and the file that a message is about.
SWEEP_WITHOUT_M = _pattern(r"Ambiguous value for argument '([^=]+)=(.*?)'\n")  # key, value
UNREADABLE = _pattern(r"(?:Error parsing override '|LexerNoViableAltException: )(.*?)'?\n")
IN_FILE = re.compile(r"^In '(?!hydra/)([\w/-]+)': ", re.MULTILINE)
WRAPPERS = ("Error merging override", "Error parsing override", "In '")  # beginnings of lines that say where, and not what
