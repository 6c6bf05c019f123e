"""The application that session vectors assume: accounts with balances. `protocol/README.md` describes it."""

from __future__ import annotations

from typing import Any

import tinyvex as tv


@tv.table("accounts", indexes={"by_owner": ["owner"]})
class Account(tv.Document):
    """Somebody's money."""

    owner: str
    balance: int


def _find(ctx: tv.QueryCtx, owner: str) -> Account:
    account = ctx.db.query(Account).with_index("by_owner", owner=owner).unique()
    if account is None:
        raise tv.AppError({"reason": "no such account", "owner": owner})
    return account


@tv.query
def list(ctx: tv.QueryCtx) -> tv.Rows[Account]:
    """All accounts, oldest first."""
    return ctx.db.query(Account).collect()


@tv.query
def balance(ctx: tv.QueryCtx, owner: str) -> int | None:
    """One owner's balance; null when there is no such account."""
    account = ctx.db.query(Account).with_index("by_owner", owner=owner).unique()
    return None if account is None else account.balance


@tv.query
def total(ctx: tv.QueryCtx) -> int:
    """The sum of all balances."""
    return sum(account.balance for account in ctx.db.query(Account).collect())


@tv.query
def fail_when_negative(ctx: tv.QueryCtx) -> str:
    """ "fine", or an AppError with the first owner, by name, whose balance is negative."""
    for account in ctx.db.query(Account).with_index("by_owner").collect():
        if account.balance < 0:
            raise tv.AppError({"reason": "negative", "owner": account.owner})
    return "fine"


@tv.query
def me(ctx: tv.QueryCtx) -> str:
    """The identity's name; "nobody" without one."""
    return "nobody" if ctx.auth is None else str(ctx.auth["name"])


@tv.query
def echo(ctx: tv.QueryCtx, value: Any) -> Any:
    """The argument, after one log line."""
    ctx.log("echo was called")
    return value


@tv.query
def crash(ctx: tv.QueryCtx) -> None:
    """Raise what no client should see."""
    raise ValueError("the secret of accounts:crash")


@tv.mutation
def open(ctx: tv.MutationCtx, owner: str, balance: int = 0) -> tv.Id[Account]:
    """A new account; an AppError when the owner has one."""
    if ctx.db.query(Account).with_index("by_owner", owner=owner).first() is not None:
        raise tv.AppError({"reason": "exists", "owner": owner})
    return ctx.db.insert(Account(owner=owner, balance=balance))


@tv.mutation
def transfer(ctx: tv.MutationCtx, source: str, target: str, amount: int) -> int:
    """Move money, into the negative if need be; returns the source's new balance."""
    giver, taker = _find(ctx, source), _find(ctx, target)
    ctx.db.patch(giver.id, balance=giver.balance - amount)
    ctx.db.patch(taker.id, balance=taker.balance + amount)
    return giver.balance - amount


@tv.mutation
def fail(ctx: tv.MutationCtx, owner: str) -> None:
    """Open an account, then refuse: nothing of it may remain."""
    ctx.db.insert(Account(owner=owner, balance=1))
    raise tv.AppError({"reason": "refused", "owner": owner})


@tv.internal_mutation
def purge(ctx: tv.MutationCtx) -> int:
    """Close all accounts; returns how many there were."""
    accounts = ctx.db.query(Account).collect()
    for account in accounts:
        ctx.db.delete(account.id)
    return len(accounts)


@tv.action
async def audit(ctx: tv.ActionCtx) -> int:
    """The sum of all balances, as an action sees it."""
    found: int = await ctx.run_query(total)
    return found
