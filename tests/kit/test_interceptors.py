"""Around every RPC: errors keep their class, nothing else leaks, deadlines, request ids, declared scopes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2

from kit.auth import current_principal, public
from kit.client import connect, forward_caller, stay_anonymous
from kit.errors import (
    METADATA_KEY,
    TREE,
    DeadlineExceeded,
    ElisError,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from kit.interceptors import STATUS_DETAILS_KEY, request_id
from kit.server import Application, Servicer, UndeclaredScope, create_grpc_server
from tests.fixtures.callers import Issuer
from tests.fixtures.echo import STREAM, Answer, Echo, call_stream, call_unary, create_application, describe, register
from tests.fixtures.servers import run_service

CALLS = [call_unary, call_stream]
FOREIGN = [
    ValueError("postgresql://user:secret@db/"),
    KeyError("secret"),
    AssertionError("secret"),
    OSError("secret"),
    ExceptionGroup("secret", [ValueError("secret")]),
]


class OrderMissing(NotFound):
    """A service's own error, which callers do not know."""


@asynccontextmanager
async def serving(answer: Answer, issuer: Issuer) -> AsyncIterator[grpc.aio.Channel]:
    """Runs the echo service; yields a channel of a caller who may call it."""
    async with run_service(create_application(answer, issuer.verifier())) as address, issuer.connect(address, "echo:read") as channel:
        yield channel


def raising(error: BaseException) -> Answer:
    async def answer() -> str:
        raise error

    return answer


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error_class", TREE)
async def test_error_arrives_as_the_class_it_was_raised_as(error_class: type[ElisError], call: Any, issuer: Issuer) -> None:
    raised = error_class("thing 42 is naïve ☃", id="42", numbers=[1, 2], nested={"a": None}, text="line\nbreak \x00")
    async with serving(raising(raised), issuer) as channel:
        with pytest.raises(ElisError) as caught:
            await call(channel)
    assert type(caught.value) is error_class
    assert (caught.value.message, caught.value.detail, caught.value.code) == (raised.message, raised.detail, raised.code)


@pytest.mark.parametrize("call", CALLS)
async def test_error_of_a_service_arrives_as_its_parent_of_the_tree(call: Any, issuer: Issuer) -> None:
    async with serving(raising(OrderMissing("order 7 is missing", id="7")), issuer) as channel:
        with pytest.raises(NotFound, match="order 7 is missing") as caught:
            await call(channel)
    assert type(caught.value) is NotFound
    assert caught.value.detail == {"id": "7"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", FOREIGN, ids=repr)
async def test_any_other_exception_arrives_as_internal_and_tells_nothing(call: Any, error: Exception, issuer: Issuer) -> None:
    async with run_service(create_application(raising(error), issuer.verifier())) as address:
        async with issuer.connect(address, "echo:read") as channel:
            with pytest.raises(Internal, match=r"^internal error$") as caught:
                await call(channel)
            assert set(caught.value.detail) == {"request_id"}
        async with grpc.aio.insecure_channel(address) as raw:
            with pytest.raises(grpc.aio.AioRpcError) as bare:
                await call(raw, timeout=5.0, metadata=(("authorization", f"Bearer {issuer.token('echo:read')}"),))
    assert bare.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in f"{bare.value!r} {bare.value.debug_error_string()} {bare.value.trailing_metadata()} {bare.value.initial_metadata()}"


@pytest.mark.parametrize("error", [RateLimited("too many", retry_after=2.5), Unavailable("busy"), NotFound("gone")], ids=lambda error: type(error).__name__)
async def test_only_errors_worth_a_retry_carry_retry_info(error: ElisError, issuer: Issuer) -> None:
    async with run_service(create_application(raising(error), issuer.verifier())) as address, grpc.aio.insecure_channel(address) as raw:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_unary(raw, timeout=5.0, metadata=(("authorization", f"Bearer {issuer.token('echo:read')}"),))
    trailing = dict(caught.value.trailing_metadata() or ())
    assert METADATA_KEY in trailing
    if isinstance(error, NotFound):
        assert STATUS_DETAILS_KEY not in trailing
        return
    status = status_pb2.Status.FromString(trailing[STATUS_DETAILS_KEY])
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=error.detail.get("retry_after", 1.0))
    assert (status.code, status.message) == (error.status.value[0], error.message)


async def test_unary_call_without_deadline_is_refused(issuer: Issuer) -> None:
    async with run_service(create_application(raising(ValueError()), issuer.verifier())) as address, grpc.aio.insecure_channel(address) as raw:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_unary(raw, metadata=(("authorization", f"Bearer {issuer.token('echo:read')}"),))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "deadline" in str(caught.value.details())


async def test_call_gets_the_deadline_of_its_channel_and_ends_with_it(issuer: Issuer) -> None:
    async def sleep() -> str:
        await asyncio.sleep(30)
        return ""

    async def token() -> str:
        return issuer.token("echo:read")

    async with run_service(create_application(sleep, issuer.verifier())) as address, connect(address, token, timedelta(seconds=0.2)) as channel:
        with pytest.raises(DeadlineExceeded, match="time for the call ran out"):
            await call_unary(channel)


@pytest.mark.parametrize("call", CALLS)
async def test_time_out_inside_a_method_is_a_deadline_exceeded(call: Any, issuer: Issuer) -> None:
    async def hurry() -> str:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(5)
        return ""

    async with serving(hurry, issuer) as channel:
        with pytest.raises(DeadlineExceeded):
            await call(channel)


@pytest.mark.parametrize("call", CALLS)
async def test_request_id_goes_from_target_to_target(call: Any, issuer: Issuer) -> None:
    async def tell() -> str:
        return request_id.get()

    async with serving(tell, issuer) as channel:
        request_id.set("a-request.1")
        answer = await call(channel)
        assert (answer if isinstance(answer, str) else answer[-1]) == "a-request.1"
        request_id.set("")
        answer = await call(channel)
        assert len(answer if isinstance(answer, str) else answer[-1]) == 32


async def test_request_id_that_could_forge_a_log_is_replaced(issuer: Issuer) -> None:
    async def tell() -> str:
        return request_id.get()

    async with run_service(create_application(tell, issuer.verifier())) as address, grpc.aio.insecure_channel(address) as raw:
        for given in ("a b", "x" * 65, "", "{}"):
            metadata = (("authorization", f"Bearer {issuer.token('echo:read')}"), ("x-request-id", given))
            told = await call_unary(raw, timeout=5.0, metadata=metadata)
            assert told != given
            assert len(told) == 32


@pytest.mark.parametrize("call", CALLS)
async def test_caller_is_known_in_the_method_and_forwarded(call: Any, issuer: Issuer) -> None:
    async def tell() -> str:
        caller = current_principal.get()
        assert caller is not None
        return caller.name

    async with run_service(create_application(tell, issuer.verifier())) as address, connect(address, forward_caller, timedelta(seconds=5)) as channel:
        current_principal.set(await issuer.verifier().verify(issuer.token("echo:read", name="grace")))
        answer = await call(channel)
        assert (answer if isinstance(answer, str) else answer[-1]) == "grace"
        current_principal.set(None)
        with pytest.raises(Unauthenticated, match="sign in first"):
            await call(channel)


@pytest.mark.parametrize("call", CALLS)
async def test_scope_is_demanded(call: Any, issuer: Issuer) -> None:
    async with run_service(create_application(raising(ValueError()), issuer.verifier())) as address:
        async with issuer.connect(address, "echo:write") as channel:
            with pytest.raises(PermissionDenied, match="echo:read") as caught:
                await call(channel)
            assert caught.value.detail == {"scope": "echo:read"}
        async with grpc.aio.insecure_channel(address) as raw:
            for authorization in ("", "Basic YTpi", "bearer x", "Bearer", "Bearer  x"):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call(raw, timeout=5.0, metadata=(("authorization", authorization),))
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("call", CALLS)
async def test_service_that_is_away_is_unavailable_and_no_address_is_told(call: Any) -> None:
    async with connect("127.0.0.1:1", stay_anonymous, timedelta(seconds=2)) as channel:
        with pytest.raises(Unavailable) as caught:
            await call(channel)
    assert caught.value.message == "a service of ELIS does not answer"


async def test_stream_gives_what_came_before_the_error(issuer: Issuer) -> None:
    async with serving(raising(NotFound("no more")), issuer) as channel:
        method = channel.unary_stream(STREAM, StringValue.SerializeToString, StringValue.FromString)
        responses = aiter(method(StringValue(value="first")))
        assert (await anext(responses)).value == "first"
        with pytest.raises(NotFound, match="no more"):
            await anext(responses)


class Undeclared(Echo):
    """Overrides a method and forgets to say who may call it."""

    async def Unary(self, request: Any, context: Any) -> Any:
        return request


async def test_server_with_an_undeclared_method_does_not_start(issuer: Issuer) -> None:
    application = Application(servicers=[Servicer(describe(), register, Undeclared(raising(ValueError())))], verifier=issuer.verifier())
    with pytest.raises(UndeclaredScope, match=r"tests\.Echo/Unary declares no scope"):
        create_grpc_server(application)


async def test_public_method_serves_anonymous_callers(issuer: Issuer) -> None:
    class Open(Echo):
        """Anyone may call it."""

        @public
        async def Unary(self, request: Any, context: Any) -> Any:
            assert current_principal.get() is None
            return request

    application = Application(servicers=[Servicer(describe(), register, Open(raising(ValueError())))], verifier=issuer.verifier())
    async with run_service(application) as address, connect(address, stay_anonymous, timedelta(seconds=5)) as channel:
        assert await call_unary(channel, "hello") == "hello"


async def test_detail_that_is_no_json_does_not_hide_the_error(issuer: Issuer) -> None:
    async with serving(raising(InvalidArgument("bad", at=timedelta(seconds=1), raw=b"\xff")), issuer) as channel:
        with pytest.raises(InvalidArgument, match="bad") as caught:
            await call_unary(channel)
    assert json.dumps(caught.value.detail)
