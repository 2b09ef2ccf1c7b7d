"""The API's name syntaxes: label keys and values, object names, port names.

Each function returns the error in a text, or "" when it is valid. Only syntax is checked here. `text.strip(ALPHABET)`
is not empty exactly if the text has another character, at a third of a regular expression's cost.
Source: k8s.io/apimachinery, util/validation.
"""

from __future__ import annotations

from functools import lru_cache

_LOWER = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_LABEL_CHARACTERS = _LOWER + _LOWER.upper() + _DIGITS + "-_."
_SUBDOMAIN_CHARACTERS = _LOWER + _DIGITS + "-."
_DNS_CHARACTERS = _LOWER + _DIGITS + "-"
# Cached results for each function: labels repeat in a cluster; the bound limits the memory that hostile input can use.
_CACHE_SIZE = 1 << 16


def _label_text_error(text: str) -> str:
    if len(text) > 63:
        return "must be no more than 63 characters"
    if text.strip(_LABEL_CHARACTERS) or text[0] in "-_." or text[-1] in "-_.":
        return "must consist of letters, digits, '-', '_' or '.', and start and end with a letter or digit"
    return ""


@lru_cache(_CACHE_SIZE)
def label_value_error(text: str) -> str:
    """A label's value: empty, or up to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends."""
    return _label_text_error(text) if text else ""


@lru_cache(_CACHE_SIZE)
def label_key_error(text: str) -> str:
    """A label's key: a name like a label value that is not empty, after an optional DNS subdomain and a slash."""
    prefix, slash, name = text.rpartition("/")
    if slash and not prefix:
        return "the part before '/' must not be empty"
    if slash and (error := subdomain_error(prefix)):
        return f"the part before '/' {error}"
    if not name:
        return "the name must not be empty"
    return _label_text_error(name)


def subdomain_error(text: str) -> str:
    """A DNS subdomain (RFC 1123), the syntax of most objects' names. The API limits the whole length only."""
    if not text or len(text) > 253:
        return "must be 1 to 253 characters"
    if text.strip(_SUBDOMAIN_CHARACTERS):
        return "must consist of lower case letters, digits, '-' and '.'"
    if text[0] in "-." or text[-1] in "-." or ("." in text and (".." in text or ".-" in text or "-." in text)):
        return "must start and end with a letter or digit, and so must each part between dots"
    return ""


def dns_label_error(text: str) -> str:
    """A DNS label (RFC 1123), the syntax of a namespace's name."""
    if not text or len(text) > 63:
        return "must be 1 to 63 characters"
    if text.strip(_DNS_CHARACTERS) or text[0] == "-" or text[-1] == "-":
        return "must consist of lower case letters, digits and '-', and start and end with a letter or digit"
    return ""


@lru_cache(_CACHE_SIZE)
def port_name_error(text: str) -> str:
    """A port's name (IANA_SVC_NAME, RFC 6335): up to 15 lower case letters, digits and single inner hyphens.

    At least one must be a letter.
    """
    if not text or len(text) > 15:
        return "must be 1 to 15 characters"
    if text.strip(_DNS_CHARACTERS):
        return "must consist of lower case letters, digits and '-'"
    if not text.strip(_DIGITS + "-"):
        return "must contain at least one letter; a port number is written without quotes"
    if "--" in text or text[0] == "-" or text[-1] == "-":
        return "must not start or end with '-' nor contain '--'"
    return ""
