"""Words of a body: runs of letters and digits in any script, lower-cased.

`10.0.0.5` is four words, `DBIF_RSQL_SQL_ERROR` too; searched as a whole they are found as a sequence.
Every engine must split the same way; this splitter is the measure.
"""

from __future__ import annotations

from functools import cache

from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

MAX_WORD_BYTES = 255
"""A longer word is stored with its event but cannot be searched."""


@cache
def _splitter() -> TextAnalyzer:
    return TextAnalyzerBuilder(Tokenizer.simple()).filter(Filter.lowercase()).build()


def create_indexing_analyzer() -> TextAnalyzer:
    """Returns the splitter for an index, which leaves out words that are too long to be searched."""
    return TextAnalyzerBuilder(Tokenizer.simple()).filter(Filter.lowercase()).filter(Filter.remove_long(MAX_WORD_BYTES + 1)).build()


def split_words(text: str) -> list[str]:
    """Returns the words of a text in order."""
    words: list[str] = _splitter().analyze(text)
    return words


def is_searchable(word: str) -> bool:
    """Says whether a word is short enough to be in an index."""
    return len(word.encode()) <= MAX_WORD_BYTES
