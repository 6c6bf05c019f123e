"""The application of the session vectors: accounts with balances. `protocol/README.md` describes it."""

from __future__ import annotations

from typing import Any

import tinyvex as tv


@tv.table("accounts", indexes={"by_owner": ["owner"]})
class Account(tv.Document):
    """An owner's account."""

    owner: str
    balance: int


def _find(ctx: tv.QueryCtx, owner: str) -> Account:
    account = ctx.db.query(Account).with_index("by_owner", owner=owner).unique()
    if account is None:
        raise tv.AppError({"reason": "no such account", "owner": owner})
    return account


@tv.query
def list(ctx: tv.QueryCtx) -> tv.Rows[Account]:
    """Return all accounts, oldest first."""
    return ctx.db.query(Account).collect()


@tv.query
def balance(ctx: tv.QueryCtx, owner: str) -> int | None:
    """Return one owner's balance; null if there is no such account."""
    account = ctx.db.query(Account).with_index("by_owner", owner=owner).unique()
    return None if account is None else account.balance


@tv.query
def total(ctx: tv.QueryCtx) -> int:
    """Return the sum of all balances."""
    return sum(account.balance for account in ctx.db.query(Account).collect())


@tv.query
def fail_when_negative(ctx: tv.QueryCtx) -> str:
    """Return "fine", or raise an AppError with the first owner, by name, whose balance is negative."""
    for account in ctx.db.query(Account).with_index("by_owner").collect():
        if account.balance < 0:
            raise tv.AppError({"reason": "negative", "owner": account.owner})
    return "fine"


@tv.query
def me(ctx: tv.QueryCtx) -> str:
    """Return the name in the identity, or the placeholder of an anonymous caller."""
    return "nobody" if ctx.auth is None else str(ctx.auth["name"])


@tv.query
def echo(ctx: tv.QueryCtx, value: Any) -> Any:
    """Return the argument, after one log line."""
    ctx.log("echo was called")
    return value


@tv.query
def crash(ctx: tv.QueryCtx) -> None:
    """Raise an exception that no client may see."""
    raise ValueError("the secret of accounts:crash")


@tv.mutation
def open(ctx: tv.MutationCtx, owner: str, balance: int = 0) -> tv.Id[Account]:
    """Create an account; raise an AppError if the owner has one."""
    if ctx.db.query(Account).with_index("by_owner", owner=owner).first() is not None:
        raise tv.AppError({"reason": "exists", "owner": owner})
    return ctx.db.insert(Account(owner=owner, balance=balance))


@tv.mutation
def transfer(ctx: tv.MutationCtx, source: str, target: str, amount: int) -> int:
    """Transfer money, even into a negative balance; return the source's new balance."""
    giver, taker = _find(ctx, source), _find(ctx, target)
    ctx.db.patch(giver.id, balance=giver.balance - amount)
    ctx.db.patch(taker.id, balance=taker.balance + amount)
    return giver.balance - amount


@tv.mutation
def fail(ctx: tv.MutationCtx, owner: str) -> None:
    """Create an account and write one log line, then raise: only the line remains."""
    ctx.db.insert(Account(owner=owner, balance=1))
    ctx.log("fail was called")
    raise tv.AppError({"reason": "refused", "owner": owner})


@tv.internal_mutation
def purge(ctx: tv.MutationCtx) -> int:
    """Delete all accounts; return their number."""
    accounts = ctx.db.query(Account).collect()
    for account in accounts:
        ctx.db.delete(account.id)
    return len(accounts)


@tv.action
async def audit(ctx: tv.ActionCtx) -> int:
    """Return the sum of all balances from an action."""
    sum_of_balances: int = await ctx.run_query(total)
    return sum_of_balances
