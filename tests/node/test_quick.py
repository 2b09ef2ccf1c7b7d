"""What the plugin has in place of slow modules does as these do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.quick import NamedTuple, decode_json, encode_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Two(NamedTuple):
    """For these tests."""

    first: int
    second: str = "none"

    @property
    def both(self) -> str:
        return f"{self.first}{self.second}"


@given(value=VALUES)
def test_json_is_written_as_json_does(value: Any) -> None:
    assert encode_json(value) == json.dumps(value)


@given(value=VALUES, blanks=st.text(" \t\n\r", max_size=3), rest=st.sampled_from(["", "x", "{}", "]"]))
def test_json_is_read_as_json_does(value: Any, blanks: str, rest: str) -> None:
    text = f"{blanks}{json.dumps(value)} {blanks}{rest}"
    assert decode_json(text) == (value, rest)


@given(text=st.text(st.sampled_from('{}[]",:0123eEtrufalsn \\\n-.'), max_size=12))
def test_whether_it_is_json_is_decided_as_json_does(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        assert not is_json(text)
    else:
        assert decode_json(text) == (wanted, "")


def is_json(text: str) -> bool:
    try:
        return not decode_json(text)[1]
    except ValueError:
        return False


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, {1, 2}, b"x"])
def test_what_has_no_form_in_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        encode_json(value)


def test_elements_of_a_tuple_have_names() -> None:
    two = Two(1, second="b")
    assert two == (1, "b") == Two(second="b", first=1)
    assert (two.first, two.second, two.both, Two(1).second) == (1, "b", "1b", "none")
    assert (two._replace(first=3), two._asdict()) == ((3, "b"), {"first": 1, "second": "b"})
    assert repr(two) == "Two(first=1, second='b')"
    assert {two: 1}[Two(1, "b")] == 1
    for arguments, named in (((), {}), ((1, "b", 2), {}), ((1,), {"third": 3}), ((1,), {"first": 2})):
        with pytest.raises(TypeError):
            Two(*arguments, **named)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        two.first = 2  # type: ignore[misc]
