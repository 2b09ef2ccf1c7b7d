"""`headgate help TOPIC`: every topic has a text, which is that of its page."""

from __future__ import annotations

import re

import pytest

from controller.cli import COMMANDS, main
from controller.cli.topics import all_topics, page_topics
from tests.helpers.paths import ROOT


def told(capsys: pytest.CaptureFixture[str], *topic: str) -> str:
    capsys.readouterr()
    assert main(["help", *topic]) == 0
    return capsys.readouterr().out


def test_every_topic_is_listed_and_has_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    listed = set(re.split(r"[\s,]+", told(capsys)))
    topics = all_topics()
    assert set(topics) <= listed and {"isolated", "contested-addresses", "egress_default", "HG110"} <= listed
    for topic in topics[: -len(COMMANDS)]:
        assert len(told(capsys, topic).splitlines()) > 1, topic


def test_terms_are_those_of_the_glossary(capsys: pytest.CaptureFixture[str]) -> None:
    terms = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(terms) > 60
    for term in terms:
        assert told(capsys, *term.split()).startswith(term)
    assert "only what a rule allows may pass" in told(capsys, "Isolated")


def test_other_kinds_of_topics(capsys: pytest.CaptureFixture[str]) -> None:
    assert "table 55, egress_default" in told(capsys, "egress_default")
    assert "the two halves do not meet" in told(capsys, "hg110")
    assert "Usage: headgate explain" in told(capsys, "explain")
    assert "identified by its port on the switch" in told(capsys, "subjects", "and", "peers")


def test_an_unknown_topic_names_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "isolatd"]) == 2
    assert "did you mean isolated?" in capsys.readouterr().err
    assert page_topics()["isolated"]["page"] == "docs/glossary.md"


def test_a_word_in_the_text_of_topics_leads_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "dns"]) == 2
    assert "it is in the topics " in (said := capsys.readouterr().err) and "domain-names" in said
    assert main(["help", "isolatd"]) == 2
    assert "did you mean isolated?" in capsys.readouterr().err
    assert main(["help", "xyzzy"]) == 2
    assert "topics" not in capsys.readouterr().err.partition("lists all")[0].replace("no topic", "")
