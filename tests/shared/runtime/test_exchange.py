"""Fingerprints that are read over the telephone, and small files from outside."""

import base64
import os
import re
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from server.deployment.provisioning.certificate_authority import make_authority
from shared.errors import ConfigError
from shared.runtime.exchange import (
    authority_fingerprint,
    check_told,
    read_certificate,
    read_small_file,
    telephone_fingerprint,
)

P384 = bytes.fromhex("06052b81040022")  # the curve's object identifier (RFC 5480, 2.1.1.1)


def test_a_fingerprint_is_the_end_of_sha256_in_decimal_in_six_groups():
    # printf '\0\0\0\0\0\0\0\3abc\0\0\0\0\0\0\0\1d' | sha256sum, as a number modulo 10^30 (perl -Mbigint).
    assert telephone_fingerprint(b"abc", b"d") == "07378 88471 99836 50025 90795 03750"


def test_bytes_that_move_from_one_part_to_the_next_change_it():
    parts = [(b"abc", b"d"), (b"ab", b"cd"), (b"abcd",), (b"abcd", b""), (b"", b"abcd"), (b"d", b"abc")]
    prints = {telephone_fingerprint(*part) for part in parts}
    assert len(prints) == len(parts)
    assert all(re.fullmatch(r"(\d{5} ){5}\d{5}", text) for text in prints)


def test_a_consortiums_fingerprint_is_its_authoritys_alone():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    first, second = (make_authority("toy", 10, now).certificate for _ in range(2))
    assert authority_fingerprint(first) == authority_fingerprint(first) != authority_fingerprint(second)


def test_a_certificate_of_an_unknown_version_or_curve_is_a_damaged_one():
    """Both once ended with classes of `cryptography` that no caller expected."""
    made = make_authority("toy", 10, datetime(2030, 1, 1, tzinfo=UTC)).certificate
    assert read_certificate(made.public_bytes(Encoding.PEM)) == made
    content = made.public_bytes(Encoding.DER)
    for place, value in (content.index(b"\xa0\x03\x02\x01") + 4, 9), (content.index(P384) + 2, 1), (1, 0):
        changed = content[:place] + bytes([value]) + content[place + 1 :]
        body = base64.encodebytes(changed)
        with pytest.raises(ValueError, match=r"9 is not a valid X509 version|Curve .* is not supported|error parsing"):
            read_certificate(b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n")


OWN = "07378 88471 99836 50025 90795 03750"


@pytest.mark.parametrize("told", [OWN, OWN.replace(" ", ""), OWN.replace(" ", "-"), f"\t{OWN}\r\n"])
def test_blanks_and_hyphens_do_not_matter(told):
    check_told(told, OWN, "the request")


@pytest.mark.parametrize(
    "told", ["", " ", OWN[:-1], OWN[6:], f"{OWN}0", OWN.replace("07378", "07379"), "7" * 30, OWN[6:] + OWN[:6], "yes"]
)
def test_anything_else_is_another_fingerprint_and_both_are_named(told):
    with pytest.raises(
        ConfigError, match=r"the request has the fingerprint 07378 .*compare again by telephone"
    ) as error:
        check_told(told, OWN, "the request")
    assert f"you gave {told.strip() or 'none'}:" in str(error.value)


def test_what_was_typed_controls_no_terminal():
    with pytest.raises(ConfigError) as error:
        check_told("\x1b[2J\u202e073\n78", OWN, "the request")
    assert str(error.value).isprintable()


def test_a_file_from_outside_is_read_up_to_its_bound_and_no_pipe_is_waited_for(tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 10)
    assert read_small_file(tmp_path / "small", 10, "letter") == b"x" * 10
    with pytest.raises(ConfigError, match="larger than 9 bytes and so is no letter"):
        read_small_file(tmp_path / "small", 9, "letter")
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", "pipe", "."):
        with pytest.raises(ConfigError, match="there is no letter"):
            read_small_file(tmp_path / name, 9, "letter")
