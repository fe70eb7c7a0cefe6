"""The private names of Flower that the project stands on: one list, and one guard that checks Flower's version.

Flower promises nothing about a name that its public packages (`flwr.app`, `flwr.clientapp`, `flwr.serverapp`) do not
export: any release may move or change it. Every such name is listed here with the reason why it is needed and the test
that proves it. It is imported through `flower_internal`, which refuses every version of Flower but the tested one.

To move to another version of Flower: read what changed in these names, change `TESTED`, and run the tests named here
(some are marked `slow`, and some need nginx).
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from shared.errors import RunError

TESTED = "1.42.0"


@dataclass(frozen=True, slots=True)
class Internal:
    """Private names of Flower that serve one purpose."""

    names: tuple[str, ...]
    """`module`, `module:attribute` or `module:Class.attribute`."""
    reason: str
    """Why the public names do not do."""
    test: str
    """The test that fails where one of these names is gone or means something else."""


INTERNALS = (
    Internal(
        names=(
            "flwr.superlink.grid.http_grid:HttpGrid",
            "flwr.superlink.grid.http_grid:HttpGrid._runtime_client",
            "flwr.superlink.grid.http_grid:HttpGrid.node",
            "flwr.proto.runtime_pb2:PullAppMessagesRequest",
            "flwr.proto.message_pb2:ConfirmMessageReceivedRequest",
            "flwr.supercore.inflatable.inflatable_protobuf_utils:make_pull_object_fn_protobuf",
            "flwr.supercore.inflatable.inflatable_utils:inflate_object_from_contents",
            "flwr.supercore.inflatable.inflatable_utils:ObjectPullError",
        ),
        reason="Flower's grid waits up to two hours for an upload that has begun; ours looks for it at each pull",
        test="test_an_answer_comes_once_and_only_when_its_last_object_is_there",
    ),
    Internal(
        names=(
            "flwr.supercore.inflatable.inflatable_object:get_object_head_values_from_object_content",
            "flwr.supercore.inflatable.inflatable_object:get_object_body",
        ),
        reason="an array may name one chunk a million times: its size is reckoned before it is put together",
        test="test_a_chunk_that_is_named_many_times_takes_no_memory",
    ),
    Internal(
        names=("flwr.app.message:make_message", "flwr.supercore.constant:SYSTEM_MESSAGE_TYPE"),
        reason="an upload that was given up is answered as Flower's own grid answers it",
        test="test_scenario_5_an_upload_that_was_given_up_is_an_error_and_no_answer",
    ),
    Internal(
        names=("flwr.app:Metadata._message_id",),
        reason="only a SuperLink numbers messages, and a reply refers to its question's number",
        test="test_scenarios_70_and_71_same_seed_same_bytes_in_any_order_of_arrival",
    ),
    Internal(
        names=("flwr.supercore.task_identity:TaskIdentity",),
        reason="Flower stamps each message with its process's task, and in one process there is none",
        test="test_scenarios_70_and_71_same_seed_same_bytes_in_any_order_of_arrival",
    ),
    Internal(
        names=("flwr.common.constant:ErrorCode",),
        reason="a site's failure is told in words by its code: its text may quote data",
        test="test_flowers_codes_of_a_failure_are_told_in_words",
    ),
    Internal(
        names=("flwr.cli.app:app",),
        reason="each of Flower's commands takes seconds to load: a server that starts registers all its sites in one",
        test="test_sites_are_registered_in_one_process_and_one_that_is_refused_stops_no_other",
    ),
    Internal(
        names=(
            "flwr.superlink.cli:flower_superlink",
            "flwr.superlink.servicer.fleet.fleet_handlers",
            "flwr.superlink.servicer.fleet.fleet_handlers:pull_messages",
            "flwr.superlink.servicer.fleet.fleet_handlers:pull_object",
            "flwr.superlink.servicer.fleet.fleet_handlers:push_messages",
            "flwr.superlink.servicer.fleet.fleet_handlers:push_object",
            "flwr.proto.message_pb2:PushObjectResponse",
            "flwr.supercore.error:ApiErrorCode",
            "flwr.supercore.error:FlowerError",
            "flwr.supercore.inflatable.inflatable_object:iterate_object_tree",
        ),
        reason="Flower keeps whatever a registered node sends until the run ends; a site may send answers, and so much",
        test="test_three_hundred_megabytes_of_one_hospital_are_not_kept_and_another_is_answered_at_once",
    ),
    Internal(
        names=(
            "flwr.supernode.start_client_internal:start_client_internal",
            "flwr.supernode.start_client_internal:_init_connection",
            "flwr.supernode.cli.flower_supernode:_start_supernode_http_api",
            "flwr.supernode.nodestate:NodeStateFactory",
            "flwr.supercore.object_store:ObjectStoreFactory",
            "flwr.supercore.app_utils:start_parent_process_monitor",
        ),
        reason="Flower's own command has no place for a client certificate, nor for a check before an app is unpacked",
        test="test_a_node_stopped_and_started_twenty_times_rejoins_each_time",
    ),
    Internal(
        names=(
            "flwr.supernode.start_client_internal:_verify_fab",
            "flwr.supercore.fab:Fab",
            "flwr.supercore.constant:TaskType",
        ),
        reason="a hospital approves by content hash; Flower's own check needs its hub's metadata",
        test="test_only_an_approved_app_is_imported_and_one_changed_byte_is_another_app",
    ),
    Internal(
        names=(
            "flwr.supernode.fleet_http_client:FleetHttpClient",
            "flwr.supernode.fleet_http_client:FleetHttpClient._send",
            "flwr.supernode.fleet_http_client:FleetHttpClient.SendNodeHeartbeat",
            "flwr.supernode.fleet_http_connection:FleetHttpClient",
        ),
        reason="the node shows the site's certificate, and tells when its line is lost and back",
        test="test_a_server_that_is_back_is_given_the_last_sign_of_life_at_once_and_both_are_told",
    ),
    Internal(
        names=(
            "flwr.supernode.nodestate.in_memory_nodestate:InMemoryNodeState",
            "flwr.supernode.nodestate.in_memory_nodestate:InMemoryNodeState._on_task_tokens_expired",
            "flwr.supernode.nodestate.in_memory_nodestate:InMemoryNodeState.lock_msg_store",
            "flwr.supernode.nodestate.in_memory_nodestate:InMemoryNodeState.msg_store",
        ),
        reason="Flower's node waits for ever for a worker that died before it fetched its message",
        test="test_scenario_12_a_dead_workers_message_is_answered_once_with_an_error",
    ),
    Internal(
        names=("flwr.supercore.inflatable.inflatable_utils:ObjectUnavailableError",),
        reason="a part that is still on its way is asked for twice a second; Flower's pauses double up to ten seconds",
        test="test_scenario_7_one_that_is_still_coming_holds_up_no_other",
    ),
    Internal(
        names=(
            "flwr.supercore.superexec.run_superexec:run_superexec",
            "flwr.supercore.superexec.run_superexec:get_executor",
            "flwr.supercore.superexec.executor:LaunchResult",
            "flwr.supercore.superexec.executor:SubprocessExecutor",
            "flwr.supercore.constant:TASK_TYPE_TO_APPIO_API_ADDRESS_ARG",
            "flwr.supercore.utils:disable_process_dumping",
        ),
        reason="Flower writes each task's token in a command line, which every user of the machine can read",
        test="test_work_is_handed_out_to_the_nodes_own_starter_and_to_nobody_else",
    ),
    Internal(
        names=(
            "flwr.superlink.cli.flower_superlink:_get_superexec_command",
            "flwr.supercore.cli:flower_superexec",
            "flwr.supercore.constant:TASK_TYPE_TO_COMMAND",
        ),
        reason="the SuperLink starts its apps so too: their tokens read all messages of a run",
        test="test_a_task_is_started_without_its_token_on_a_command_line",
    ),
    Internal(
        names=("flwr.superlink.main:create_app",),
        reason="the SuperLink starts runs for whoever calls its port, also for this machine's other users",
        test="test_another_user_of_this_machine_is_refused_by_a_simulations_superlink",
    ),
    Internal(
        names=(
            "flwr.supernode.cli.flwr_clientapp:flwr_clientapp",
            "flwr.supernode.runtime.run_clientapp:pull_and_inflate_object_from_tree",
            "flwr.supernode.runtime.run_clientapp:install_from_fab",
        ),
        reason="Flower loads torch anew for each message, three seconds of a core, and an unpacked app without a look",
        test="test_only_an_approved_app_is_imported_and_one_changed_byte_is_another_app",
    ),
)

_NAMES = frozenset(name for item in INTERNALS for name in item.names)


@cache
def check_flower() -> None:
    """Raise a `RunError` if the installed Flower is not the one that the private names were tested with."""
    if (installed := version("flwr")) != TESTED:
        raise RunError(
            f"Flower is {installed}, and FedBreast was tested with {TESTED} only, as it uses names that Flower may "
            "change: install it with pip install -c constraints.txt -e ."
        )


def flower_internal(name: str) -> Any:
    """A private name of Flower, imported when it is asked for: it must be listed, and Flower's version tested.

    Raises
    ------
    KeyError
        It is not listed in `INTERNALS`.
    RunError
        Flower has another version than the tested one.

    """
    if name not in _NAMES:
        raise KeyError(f"{name} is not listed in INTERNALS: add it with its reason and its test")
    check_flower()
    return pkgutil.resolve_name(name)


def replace_flower_internal(name: str, value: Any) -> None:
    """Put our own in place of a function, a method or a class of Flower, for this process.

    Raises
    ------
    KeyError, RunError
        As `flower_internal`.

    """
    flower_internal(name)
    owner, attribute = name.rsplit("." if "." in name.partition(":")[2] else ":", 1)
    setattr(pkgutil.resolve_name(owner), attribute, value)


def number_message(message: Any, identifier: str) -> None:
    """Give a `flwr.app.Message` the identifier that Flower's SuperLink would give it."""
    check_flower()
    message.metadata.__dict__["_message_id"] = identifier
