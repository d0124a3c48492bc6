"""Which characters are seen, and which would spoil a line: regular expressions that JSON Schema reads as Python does.

The lists are written out, so that neither Python's version nor the client's decides: an emoji that is younger than this
Python is a memo.
"""

from __future__ import annotations

_HIDDEN = (
    r"\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Controls, white space, the blank Braille pattern, interlinear marks, and Default_Ignorable_Code_Point (Unicode 17,
DerivedCoreProperties.txt)."""

_UNFIT_FOR_A_LINE = r"\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""Controls, ends of lines and paragraphs, and what turns the direction of the text that follows."""

VISIBLE = f"[^{_HIDDEN}]"
"""Found in every text that is not blank to the eye."""

NAME = f"^[^{_UNFIT_FOR_A_LINE}]*{VISIBLE}[^{_UNFIT_FOR_A_LINE}]*$"
"""A name: one line, not blank."""
