"""Decode the requests of the Tinyvex protocol into commands."""

from __future__ import annotations

from tinyvex.sync.commands import (
    AddQuery,
    Command,
    ModifyQueries,
    OpenSession,
    QueryModification,
    ReadClock,
    RemoveQuery,
    ResumeOffer,
    RunAction,
    RunMutation,
    RunQuery,
    SetIdentity,
)
from tinyvex.wire import messages

__all__ = ["to_command", "to_open_session"]


def to_command(request: messages.ClientRequest) -> Command | None:
    """
    Return the command for a request; None for `tinyvex/connect`, which opens a session.

    Raw JSON is copied: a command may wait for a long time, and must not hold the message that it came in.
    """
    match request:
        case messages.Mutation(params=params):
            return RunMutation(
                request.id,
                params.udf_path,
                bytes(params.args),
                params.request_id,
                params.acknowledged_below,
                params.idempotency_key,
            )
        case messages.ModifyQuerySet(params=params):
            modifications = [_to_modification(modification) for modification in params.modifications]
            return ModifyQueries(request.id, params.base_version, params.new_version, modifications)
        case messages.Query(params=params):
            return RunQuery(request.id, params.udf_path, bytes(params.args), params.ts)
        case messages.Action(params=params):
            return RunAction(request.id, params.udf_path, bytes(params.args), params.request_id)
        case messages.Authenticate(params=params):
            return SetIdentity(request.id, params.base_version, params.kind, params.token or "", params.acting_as)
        case messages.Ping():
            return ReadClock(request.id)
        case messages.Connect():
            return None


def _to_modification(modification: messages.QueryAdd | messages.QueryRemove) -> QueryModification:
    if isinstance(modification, messages.QueryRemove):
        return RemoveQuery(modification.query_id)
    resume = modification.resume
    offer = None if resume is None else ResumeOffer(resume.ts, resume.hash)
    return AddQuery(modification.query_id, modification.udf_path, bytes(modification.args), offer)


def to_open_session(params: messages.ConnectParams) -> OpenSession:
    """Return the command for `tinyvex/connect`."""
    return OpenSession(
        session_id=params.session_id,
        token=params.token or "",
        takes_patches=messages.CAPABILITY_PATCH in params.capabilities,
        observed_epoch=params.observed_epoch,
        max_observed_ts=params.max_observed_ts,
    )
