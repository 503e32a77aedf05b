"""Text that is safe where the report puts it; escaping for HTML itself is the template engine's work."""

from __future__ import annotations

import json

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_BIDI = {code: f"\\u{code:04x}" for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_ESCAPES = _CONTROL | _BIDI


def visible(text: str) -> str:
    r"""Control characters and marks that turn the direction of text as escapes.

    Without them a name cannot rearrange what stands around it, and can stand in an SVG. Half a surrogate pair, which no
    file can hold, becomes a question mark.

    >>> visible("a\u202eb\x07")
    'a\\u202eb\\x07'
    """
    return text.translate(_ESCAPES).encode("utf-8", "replace").decode()


def json_for_html(value: object) -> str:
    """JSON that can stand inside a script element: no character in it can end the element or begin markup.

    >>> json_for_html("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text
