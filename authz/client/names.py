"""Names that help texts and messages of `truetick` share: environment variables and special option values.

The variables are read in `choices.py`, the values in `prompts.py`.
"""

URL_VARIABLE = "TRUETICK_API_URL"
KEY_VARIABLE = "TRUETICK_API_KEY"

STDIN = "-"
"""The option value for: read the first line of standard input, which no process list shows."""
PROMPT = "\0"
"""The option value for: prompt. No command line can contain it; `--password` without a value stands for it."""
