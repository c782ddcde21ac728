"""Strict reading of replies: what names an option counts, what does not names none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundancy_eval.tasks.paper import answers

OPTIONS = {"A": "cat", "B": "No", "C": "a red dog", "D": "nan"}


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"), ("b", "B"), ("B.", "B"), ("(B)", "B"), (" **B** ", "B"), ("[C]", "C"), ("'A'", "A"),
        ("B. No", "B"), ("(B) No", "B"), ("B) No", "B"), ("B: No", "B"), ("**B.** No", "B"), ("C.\nIt is red.", "C"),
        ("no", "B"), ("No.", "B"), ("A red  dog", "C"),
        ("The answer is B", "B"), ("The answer is (B).", "B"), ("Answer: B", "B"), ("the correct answer is B. No", "B"),
        ("Option C is right", "C"), ("I choose (C) here", "C"), ("ANSWER: C", "C"),
    ],
)  # fmt: skip
def test_replies_that_name_an_option(reply, letter):
    assert answers.option(reply, OPTIONS) == letter


@pytest.mark.parametrize(
    "reply",
    [
        "", " ", "?", "E", "The quick brown fox", "A cat sits there", "A brown fox", "Apple", "Dogs", "I do not know",
        "1.0 B. 1.0 C. 2.0 D. 3", "A. B. C. D.", "(A) cat (B) No", "A, B", "A or B", "A B C D", "AAAA", "A A A A",
        "the answer is a cat", "nan and more", "Answer: (A) or answer: (B)", "The answer is E",
    ],
)  # fmt: skip
def test_replies_that_name_none(reply):
    assert answers.option(reply, OPTIONS) == ""


@given(st.text(alphabet="ABCD .,()\n:*aeiou12", max_size=40))
def test_any_reply_is_read_as_one_letter_or_none(reply):
    found = answers.option(reply, OPTIONS)
    assert found == "" or found in OPTIONS
    assert answers.option(f"\n {reply} ", OPTIONS) == found


@given(st.text(alphabet=st.characters(whitelist_categories=("Ll", "Zs")), min_size=2, max_size=60))
def test_words_never_name_an_option_without_text(reply):
    assert answers.option(f"{reply.strip()} x", dict.fromkeys("ABCD", "")) == ""


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("14", 14), ("The answer is 14.", 14), ("$1,234.50", 1234.5), ("-3", -3), ("about .5 m", 0.5), ("1e3", 1000),
        ("14 and 14", 14), ("", None), ("none", None), ("3/11", None), ("14 or 15", None), ("2007-2008", None),
        ("x2", None),
    ],
)  # fmt: skip
def test_numbers(reply, value):
    assert answers.number(reply) == value


def test_lists():
    assert answers.listing("It is [2007, 2008].") == [2007, 2008]
    assert answers.listing("[1, 2] or [3]") is None and answers.listing("1, 2") is None
    assert answers.listing("[open('x')]") is None
