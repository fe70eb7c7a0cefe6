"""What an answer becomes in memory: reckoned from the objects it came in, before Flower puts them together.

Flower sends an array in chunks, and an array may name a chunk any number of times: 5 MB named 400 times are 2 GB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from flwr.app import Array

from shared.errors import UpdateError
from shared.runtime.flower_internals import flower_internal

head_of = flower_internal("flwr.supercore.inflatable.inflatable_object:get_object_head_values_from_object_content")
body_of = flower_internal("flwr.supercore.inflatable.inflatable_object:get_object_body")

MOST_WORDS = 1 << 20
"""Bytes of all that is not weights: of names, counts and words the longest answer has a tenth of this."""
_CHUNK, _ARRAY = "ArrayChunk", "Array"


def check_inflated(contents: Mapping[str, bytes], most: int) -> None:
    """Refuse an answer whose arrays become larger than `most` bytes, or whose other parts exceed `MOST_WORDS`.

    `contents` are Flower's objects by their identifiers, as they were sent. An array that is not of Flower's form
    raises any exception, as Flower would a moment later.

    Raises
    ------
    UpdateError
        It is too large; the message says by how much.

    """
    heads = {name: head_of(content) for name, content in contents.items()}
    words = sum(len(contents[name]) for name, (kind, *_) in heads.items() if kind != _CHUNK)
    if words > MOST_WORDS:
        raise UpdateError(f"its answer has {words >> 20} MB beside the weights, more than {MOST_WORDS >> 20} MB")
    inflated = 0
    for name, (kind, children, _) in heads.items():
        if kind == _ARRAY:
            chunks = json.loads(body_of(contents[name], Array))["arraychunk_ids"]
            inflated += sum(len(contents[children[index]]) for index in chunks)
    if inflated > most:
        raise UpdateError(f"its weights would be {inflated >> 20} MB, more than {most >> 20} MB")
