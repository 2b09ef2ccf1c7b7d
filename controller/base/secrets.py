"""Removes secrets from text: keys, tokens, passwords and the contents of a kubeconfig.

Headgate itself logs and serves none of them. This is a second line of defence, for texts of libraries and servers. The
time is linear in the length of any text: patterns begin at the start of a word, so that none scans a word twice.
"""

from __future__ import annotations

import re

LEFT_OUT = "(left out)"
_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_DOTTED = re.compile(r"(?<![\w-])[\w-]++(?:\.[\w-]*+)++")
_JWT = re.compile(r"\beyJ[\w-]{4,}\.")
_SCHEME = re.compile(r"\b(bearer|basic)(\s+)(?=\S*\d)[\w.~+/=-]{6,}", re.IGNORECASE)
_NAMED = re.compile(
    r"""(?<![\w.-])(?P<name>["']?[\w.-]*(?:token|password|passwd|secret|client-key-data|client-certificate-data|
    certificate-authority-data|api[_-]?key|authorization)["']?\s*[:=]\s*)
    (?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|(?:(?:bearer|basic)\s+)?[^\s,;}\]"']+)""",
    re.IGNORECASE | re.VERBOSE,
)
_USER = re.compile(r"(?<!\w)(?P<scheme>\w+://)[^\s/@:]+(?::[^\s/@]*)?@")


def without_secrets(text: str) -> str:
    """The text with `(left out)` in place of everything that looks like a secret."""
    text = _KEY_BLOCK.sub(LEFT_OUT, text)
    text = _NAMED.sub(_hide_value, text)
    text = _SCHEME.sub(rf"\1\2{LEFT_OUT}", text)
    text = _DOTTED.sub(_hide_jwt, text)
    return _USER.sub(rf"\g<scheme>{LEFT_OUT}@", text)


def _hide_value(found: re.Match[str]) -> str:
    value = found["value"]
    quote = value[0] if value[:1] in "\"'" else ""
    return f"{found['name']}{quote}{LEFT_OUT}{quote}"


def _hide_jwt(found: re.Match[str]) -> str:
    text = found[0]
    token = _JWT.search(text, 0, text.rfind(".") + 1)
    return text[: token.start()] + LEFT_OUT if token else text
