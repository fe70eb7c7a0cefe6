"""nginx's configuration: who is let in, what they may call, how much of it and how long they are waited for."""

from __future__ import annotations

import resource
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from server.deployment.server_kit import ServerKit, SiteKey

LARGEST_CALL_MB = 16
"""Flower sends weights in pieces of 5 MB."""
CALLS_A_SECOND = 100
CONNECTIONS = 16
STRANGERS_CALLS_A_SECOND = 20
"""Of those who show no good certificate, by address."""
STALLED_S = 60
"""A body that stops for so long is cut."""
HURRY_S = 10
"""Nothing is known of a caller before its handshake and its headers are whole: so long it has for each."""
SLOTS = 8192
"""Connections of a worker. A stranger takes one, and 50 KB, for as long as he is waited for."""
_OWN_FILES = 100
_REFUSED = 401  # Flower's node ends at once on it; on 403 it would believe the run over and ask on

_CONF = """\
# Made by `fedbreast serve`; a change here is lost at the next start.
daemon off;
pid "{run}/nginx.pid";
error_log "{run}/error.log" warn;
worker_processes 2;
worker_rlimit_nofile {files};
# After a reload: else a call that a revoked site draws out would go on.
worker_shutdown_timeout {finish}s;
events {{ worker_connections {slots}; }}
http {{
    map_hash_bucket_size 1024;
    log_format line
        '$msec $site $status $request_method $request_uri in=$request_length out=$bytes_sent s=$request_time';
    # A node asks twice a second whether there is something to do: 14 MB a day, which would tell nothing.
    map "$status $request_uri" $loggable {{
        default 1;
        "200 /v1/fleet/pull-messages" 0;
        "200 /v1/fleet/send-node-heartbeat" 0;
    }}
    access_log "{run}/access.log" line if=$loggable;
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
    # Of the handshake too.
    client_header_timeout {hurry}s;
    lingering_time {hurry}s;
    keepalive_timeout 75s;
    # A site's certificate goes with that site's node key, and with no other.
    map "$ssl_client_fingerprint $http_flwr_public_key" $site {{
        default "";
{sites}
    }}
    # Members are counted by certificate. Strangers could show a new one each time, and fill what counts: by address.
    map $ssl_client_verify $member {{ default ""; SUCCESS $ssl_client_fingerprint; }}
    map $ssl_client_verify $stranger {{ default $binary_remote_addr; SUCCESS ""; }}
    limit_req_zone $member zone=calls:1m rate={rate}r/s;
    limit_req_zone $stranger zone=strangers:1m rate={strangers}r/s;
    limit_conn_zone $member zone=connections:1m;
    limit_req_status 429;
    limit_conn_status 429;
    # The access log has them.
    limit_req_log_level notice;
    limit_conn_log_level notice;
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
        limit_req zone=calls burst={burst} nodelay;
        limit_req zone=strangers burst={strangers} nodelay;
        limit_conn connections {connections};
        # Refused by try_files: `return` would answer before the limits are looked at. It finds none.
        root /dev/null;
        error_page 495 496 497 = @stranger;
        location @stranger {{ try_files /- ={refused}; }}
        location = /not-its-key {{ try_files /- ={refused}; }}
        location / {{ try_files /- =403; }}
        # Sites are registered by the coordinator, from the kit.
        location = /v1/fleet/register-node {{ try_files /- =403; }}
        location = /v1/fleet/unregister-node {{ try_files /- =403; }}
        location /v1/fleet/ {{
            # Flower is given the address as it was written: nothing in it may need reading twice.
            if ($request_uri !~ "^/v1/fleet/[a-z-]+$") {{ rewrite ^ /- last; }}
            if ($request_method != POST) {{ rewrite ^ /- last; }}
            if ($site = "") {{ rewrite ^ /not-its-key last; }}
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


def draft_conf(kit: ServerKit, sites: Sequence[SiteKey], host: str) -> Path:
    """Write nginx's configuration beside the one in use, `nginx.conf`."""
    run = kit.state / "nginx"
    run.mkdir(parents=True, exist_ok=True)
    certificate, key = kit.certificate
    lines = (f'        "{site.certificate} {b64encode(site.public_key).decode()}" {site.name};' for site in sites)
    slots, files = _slots()
    text = _CONF.format(
        run=run,
        largest=LARGEST_CALL_MB,
        stalled=STALLED_S,
        finish=2 * STALLED_S,
        hurry=HURRY_S,
        slots=slots,
        files=files,
        rate=CALLS_A_SECOND,
        burst=4 * CALLS_A_SECOND,
        strangers=STRANGERS_CALLS_A_SECOND,
        connections=CONNECTIONS,
        refused=_REFUSED,
        sites="\n".join(lines),
        superlink=kit.server.superlink_port,
        listen=f"{host}:{kit.server.port}",
        certificate=certificate,
        key=key,
        authority=kit.authority,
        revoked=kit.revoked,
    )
    draft = run / ".nginx.conf"
    draft.write_text(text, encoding="utf-8")
    return draft


def _slots() -> tuple[int, int]:
    """How many connections a worker may have, and how many files, by what this process may allow it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    slots = SLOTS if most == resource.RLIM_INFINITY else min(SLOTS, most - _OWN_FILES)
    return slots, slots + _OWN_FILES
