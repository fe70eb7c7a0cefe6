"""Private keys' files: their owner's alone, and in the forms that TLS and Flower read."""

import stat

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from shared.runtime.private_keys import new_key, node_private, private_pem, write_private


def test_a_private_key_is_its_owners_alone_also_when_it_replaces_an_open_one(tmp_path):
    path = tmp_path / "keys" / "site.key"
    path.parent.mkdir(mode=0o755)
    path.touch(mode=0o644)
    write_private(path, b"key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_both_forms_give_the_key_back_and_no_two_keys_are_the_same():
    key = new_key()
    assert isinstance(key.curve, ec.SECP384R1)
    for form, load in ((private_pem, load_pem_private_key), (node_private, load_ssh_private_key)):
        assert load(form(key), None).private_numbers() == key.private_numbers()
    assert new_key().private_numbers() != key.private_numbers()
