"""Mutations of source text: each changes one node, and leaves out what no test should have to notice."""

from __future__ import annotations

from tests.mutation.mutations import mutations, sample


def mutants(body: str) -> set[str]:
    """Return the bodies that a function with this body can be changed into."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    source = f"def function(a, b, c):\n{lines}"
    texts = {mutation.apply(source) for mutation in mutations(source)}
    return {"\n".join(line[4:] for line in text.splitlines()[1:]) for text in texts}


def test_a_comparison_moves_its_bound():
    """`<` becomes `<=`, which differs in one value only."""
    assert "return (a <= b)" in mutants("return a < b")


def test_a_condition_is_inverted():
    """A branch is taken exactly when it was not."""
    assert "if not (a):\n    b()" in mutants("if a:\n    b()")


def test_a_statement_is_removed():
    """A call for its effect, and the assignment of an attribute."""
    assert {"pass\na.b = c", "a()\npass"} <= mutants("a()\na.b = c")


def test_an_exception_is_swallowed():
    """A `raise` is replaced; what follows runs."""
    assert mutants("raise a") == {"pass"}


def test_a_handled_exception_is_raised_again():
    """The first statement of a handler becomes `raise`."""
    assert "try:\n    a = 1\nexcept OSError:\n    raise" in mutants("try:\n    a = 1\nexcept OSError:\n    return")


def test_arguments_are_swapped():
    """The first two arguments of a call, if they differ."""
    assert "return a(c, b)" in mutants("return a(b, c)")
    assert mutants("return a(b, b)") == {"return None"}


def test_a_loop_ends_early():
    """`continue` becomes `break`."""
    assert "for a in b:\n    break" in mutants("for a in b:\n    continue")


def test_columns_count_bytes():
    """Text before a node may have characters of several bytes."""
    assert 'return "ä…", (a <= b)' in mutants('return "ä…", a < b')


def test_messages_annotations_assertions_and_log_lines_are_left():
    """No test should have to notice a change of them."""
    assert mutants('assert a < b\nlog.info("x", a, b)\nx: list[1] = c\nf"{a + 1}"') == set()


def test_constants_of_a_module_are_left():
    """The number of a limit has a reason, and few values between which a test could decide."""
    assert mutations("LIMIT = 5 * 1024\n") == []


def test_a_seed_repeats_a_sample():
    """The sample depends on the sources and the seed only."""
    sources = {f"{name}.py": "def f(a):\n    a()\n    return a < 1\n" for name in "abc"}
    assert sample(sources, 3, seed=1) == sample(dict(reversed(sources.items())), 3, seed=1)
    assert len(sample(sources, 100, seed=1)) == 6


def test_a_mutant_is_shown_as_a_diff():
    """The diff names the file and has the line before and after."""
    source = "def f(a):\n    return a < 1\n"
    comparison = next(mutation for mutation in mutations(source) if mutation.kind == "comparison")
    diff = comparison.diff("tinyvex/x.py", source)
    assert "--- tinyvex/x.py" in diff
    assert "-    return a < 1\n+    return (a <= 1)\n" in diff
