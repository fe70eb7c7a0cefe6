"""nginx in front of the SuperLink: the one open port, and nothing behind it but the fleet's calls.

Flower's control calls need no more than the authority's certificate, which every site has; and a node's signature
covers only a time, so that whoever catches its header could use it for five minutes. nginx closes both: a client must
show a certificate of the consortium that is not revoked, may use it only with its own node key, and reaches
`/v1/fleet/` alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from server.serving.kit import ServerKit
from shared.errors import RunError

LARGEST_CALL_MB = 16
"""Flower sends weights in pieces of 5 MB."""
CALLS_A_SECOND = 100
CONNECTIONS = 16
STALLED_S = 60
"""A body that stops for so long is cut."""
_REFUSED = 401  # Flower's node ends at once on it; on 403 it would believe the run over and ask on
_STARTUP_S = 10.0

# nginx writes over its environment, and with it the mark by which a run's processes are found: this shell keeps it, and
# ends when nginx does. It is deaf to what the whole group is sent.
_MARKED = 'trap "" TERM HUP; "$@"; exit $?'

_CONF = """\
# Made by `fedbreast serve`; a change here is lost at the next start.
daemon off;
pid "{run}/nginx.pid";
error_log "{run}/error.log" warn;
worker_processes 2;
# After a reload: else a call that a revoked site draws out would go on.
worker_shutdown_timeout {finish}s;
events {{ worker_connections 1024; }}
http {{
    log_format line '$msec $site $status $request_method $uri in=$request_length out=$bytes_sent s=$request_time';
    access_log "{run}/access.log" line;
    client_body_temp_path "{run}/body";
    proxy_temp_path "{run}/proxy";
    fastcgi_temp_path "{run}/fastcgi";
    uwsgi_temp_path "{run}/uwsgi";
    scgi_temp_path "{run}/scgi";
    server_tokens off;
    # In memory: weights are not left on a disk, and nginx's workers may be a user who cannot write here.
    client_max_body_size {largest}m;
    client_body_buffer_size {largest}m;
    proxy_max_temp_file_size 0;
    client_body_timeout {stalled}s;
    keepalive_timeout 75s;
    map_hash_bucket_size 1024;
    # A site's certificate goes with that site's node key, and with no other.
    map "$ssl_client_fingerprint $http_flwr_public_key" $site {{
        default "";
{sites}
    }}
    limit_req_zone $ssl_client_fingerprint zone=calls:1m rate={rate}r/s;
    limit_conn_zone $ssl_client_fingerprint zone=connections:1m;
    limit_req_status 429;
    limit_conn_status 429;
    upstream superlink {{
        server 127.0.0.1:{superlink};
        keepalive 32;
    }}
    server {{
        listen {listen} ssl;
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}";
        ssl_protocols TLSv1.3;
        ssl_client_certificate "{authority}";
        ssl_crl "{revoked}";
        ssl_verify_client on;
        ssl_verify_depth 1;
        # A resumed session would skip the list of revoked certificates.
        ssl_session_cache off;
        ssl_session_tickets off;
        error_page 495 496 497 = @stranger;
        location @stranger {{ return {refused}; }}
        location / {{ return 403; }}
        # Sites are registered by the coordinator, from the kit.
        location = /v1/fleet/register-node {{ return 403; }}
        location = /v1/fleet/unregister-node {{ return 403; }}
        location /v1/fleet/ {{
            # Flower is given the address as it was written: nothing in it may need reading twice.
            if ($request_uri !~ "^/v1/fleet/[a-z-]+$") {{ return 403; }}
            if ($request_method != POST) {{ return 403; }}
            if ($site = "") {{ return {refused}; }}
            limit_req zone=calls burst={burst} nodelay;
            limit_conn connections {connections};
            proxy_pass https://superlink;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host localhost;
            # Once, should it have come twice: Flower reads the key that was looked at.
            proxy_set_header flwr-public-key $http_flwr_public_key;
            proxy_ssl_trusted_certificate "{authority}";
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_protocols TLSv1.3;
            proxy_read_timeout 120s;
        }}
    }}
}}
"""


def write_conf(kit: ServerKit, host: str = "0.0.0.0") -> Path:  # noqa: S104 - the one port that is meant to be open
    """Write nginx's configuration for the sites that the kit lists now."""
    run = kit.state / "nginx"
    run.mkdir(parents=True, exist_ok=True)
    certificate, key = kit.certificate
    sites = "\n".join(
        f'        "{site.certificate} {b64encode(site.public_key).decode()}" {site.name};' for site in kit.sites()
    )
    text = _CONF.format(
        run=run,
        largest=LARGEST_CALL_MB,
        stalled=STALLED_S,
        finish=2 * STALLED_S,
        rate=CALLS_A_SECOND,
        burst=4 * CALLS_A_SECOND,
        connections=CONNECTIONS,
        refused=_REFUSED,
        sites=sites,
        superlink=kit.server.superlink_port,
        listen=f"{host}:{kit.server.port}",
        certificate=certificate,
        key=key,
        authority=kit.authority,
        revoked=kit.revoked,
    )
    path = run / "nginx.conf"
    draft = run / ".nginx.conf"
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path


@contextmanager
def front(kit: ServerKit, environment: Mapping[str, str], host: str = "0.0.0.0") -> Iterator[subprocess.Popen[bytes]]:  # noqa: S104 - see above
    """Run nginx for as long as the context lasts.

    Raises
    ------
    RunError
        nginx is not installed, its port is taken, or it does not start; its own words are in the message.

    """
    command = shutil.which("nginx", path=f"{environment.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if command is None:
        raise RunError("nginx is not installed: `apt-get install nginx-light`, or use the server's container image")
    try:
        socket.create_server((host, kit.server.port)).close()
    except OSError as error:  # nginx would try for seconds, and say it five times
        raise RunError(f"cannot listen on {host}:{kit.server.port} ({error.strerror}): end what does") from error
    path = write_conf(kit, host)
    nginx = [command, "-p", str(path.parent), "-e", str(path.parent / "error.log"), "-c", str(path)]
    (path.parent / "nginx.pid").unlink(missing_ok=True)
    with (path.parent / "start.log").open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - nginx with our own configuration
            ["/bin/sh", "-c", _MARKED, "nginx", *nginx], env=dict(environment), stdin=subprocess.DEVNULL,
            stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_up(process, path.parent)
        yield process
    finally:
        _end(process)


def reload(kit: ServerKit, process: subprocess.Popen[bytes], host: str = "0.0.0.0") -> None:  # noqa: S104 - see above
    """Have nginx read the kit's sites and revocations anew: idle connections end, the next call is judged by them."""
    write_conf(kit, host)
    os.killpg(process.pid, signal.SIGHUP)


def _wait_until_up(process: subprocess.Popen[bytes], run: Path) -> None:
    deadline = time.monotonic() + _STARTUP_S
    while process.poll() is None and time.monotonic() < deadline:
        if (run / "nginx.pid").is_file():
            return
        time.sleep(0.05)
    words = (run / "start.log").read_text(encoding="utf-8", errors="replace").strip()
    raise RunError(f"nginx did not start: {words or 'no reason given'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_STARTUP_S)
