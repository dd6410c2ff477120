"""The wall between tenants is spelled in one place: a condition of one's own is one that can be forgotten or wrong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "models"
WALL = MODELS / "tenancy.py"
COMPARING = {"in_", "not_in", "is_", "is_not", "is_distinct_from", "is_not_distinct_from", "op", "between", "any_"}
"""What makes a condition of a column without an operator. `filter_by(tenant_id=...)` and its like are none of ours."""


def _conditions(source: str) -> Iterator[str]:
    """What compares the tenant of anything, unless it is one column with another."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            of_python = isinstance(node.ops[0], ast.Is | ast.IsNot)
            if any(map(_is_tenant, operands)) and not all(map(_is_column, operands)) and not of_python:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and _compares(node):
            yield ast.unparse(node)


def _compares(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute) and _is_tenant(call.func.value):
        return call.func.attr in COMPARING
    return any(word.arg == "tenant_id" for word in call.keywords) and ast.unparse(call.func).endswith(".filter_by")


def _is_column(node: ast.expr) -> bool:
    of = node.value if isinstance(node, ast.Attribute | ast.Subscript) and _is_tenant(node) else None
    return of is not None and ast.unparse(of).rpartition(".")[2] in {"c", "_c", "_tag"}


def _is_tenant(node: ast.expr) -> bool:
    """Whether it is the tenant of anything, be it a column or not; a `tenant_id` alone is a value."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "tenant_id"
    return isinstance(node, ast.Attribute) and node.attr in {"tenant_id", "tenants"}


def test_only_of_tenant_compares_a_row_s_tenant() -> None:
    found = {path.name: list(_conditions(path.read_text())) for path in MODELS.rglob("*.py") if path != WALL}

    assert len(found) > 10
    assert {name: conditions for name, conditions in found.items() if conditions} == {}


@pytest.mark.parametrize(
    "condition",
    [
        "_c.tenant_id == tenant_id",
        "_c.tenant_id != tenant_id",
        "_tag.tenant_id == tenant_id",
        "jobs.c.tenant_id == tenant_id",
        "jobs.alias().c.tenant_id == tenant_id",
        "along.tenants == tenant_id",
        "_c.tenant_id == wanted.tenant_id",
        "wanted.tenant_id == _c['tenant_id']",
        "tenant_id == _c.tenant_id",
        "bindparam('tenant') == _tag.tenant_id",
        "c['tenant_id'] == tenant_id",
        "tenant_id == jobs.c['tenant_id']",
        "_c.tenant_id.in_([tenant_id])",
        "c['tenant_id'].in_(ids)",
        "_c.tenant_id.is_(None)",
        "_c.tenant_id.is_not_distinct_from(tenant_id)",
        "_c.tenant_id.op('=')(tenant_id)",
        "query.filter_by(tenant_id=tenant_id)",
    ],
)
def test_a_condition_of_its_own_is_seen(condition: str) -> None:
    assert list(_conditions(f"query.where(_c.id == job_id, {condition})"))


@pytest.mark.parametrize(
    "source",
    [
        "other.c.tenant_id == _c.tenant_id",
        "of_tenant(_c.tenant_id, tenant_id)",
        "of_tenant(c['tenant_id'], wanted.tenant_id)",
        "wanted.tenant_id is None",
        "NewJob(tenant_id=job.tenant_id)",
        "Index('page', _c.tenant_id.desc())",
    ],
)
def test_what_is_no_condition_is_let_be(source: str) -> None:
    assert list(_conditions(source)) == []
