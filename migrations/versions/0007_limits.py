"""Limits, budgets, prices, and what was used; on PostgreSQL the windows that replicas share."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Replicas of the version before leave them empty.
    op.add_column("runs", sa.Column("key_id", words))
    op.add_column("runs", sa.Column("cost", sa.BigInteger))
    _create_limits()
    _create_prices()
    _create_usage_days()
    if op.get_bind().dialect.name == "postgresql":
        for statement in _rate_limiter():
            op.get_bind().exec_driver_sql(statement)


def _create_limits() -> None:
    op.create_table(
        "limits",
        sa.Column("project_id", words, nullable=False),
        sa.Column("id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("concurrent_runs", sa.BigInteger),
        sa.Column("budget_tokens", sa.BigInteger),
        sa.Column("budget_cost", sa.BigInteger),
        sa.Column("budget_period", words),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("updated_by", words, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_limits"),
    )


def _create_prices() -> None:
    op.create_table(
        "prices",
        sa.Column("project_id", words, nullable=False),
        sa.Column("id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("input", sa.BigInteger, nullable=False),
        sa.Column("cached_input", sa.BigInteger, nullable=False),
        sa.Column("output", sa.BigInteger, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_prices"),
    )


def _create_usage_days() -> None:
    op.create_table(
        "usage_days",
        sa.Column("project_id", words, nullable=False),
        sa.Column("id", words, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("runs", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("unpriced_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", "day", name="pk_usage_days"),
    )


def _rate_limiter() -> list[str]:
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return script.split("\n\n\n")
