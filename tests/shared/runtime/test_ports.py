"""Free ports, and whether somebody listens, against real sockets."""

import socket

from shared.runtime.ports import free_ports, listens


def test_free_ports_differ_and_can_be_listened_on():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        assert not listens(port)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert listens(ports[0])
        assert not listens(ports[1])
    assert not listens(ports[0])
