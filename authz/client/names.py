"""The names of the environment variables of `truetick`, which its help texts and messages show.

They are read in `choices.py`.
"""

URL_VARIABLE = "TRUETICK_API_URL"
KEY_VARIABLE = "TRUETICK_API_KEY"
