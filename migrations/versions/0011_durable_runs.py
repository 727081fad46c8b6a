"""Runs that outlive their process: orders, workers, what tools did, what people decide."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "durable_runs",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("agent_id", words, nullable=False),
        sa.Column("line_id", words, nullable=False),
        sa.Column("session_id", words),
        sa.Column("model", words, nullable=False),
        sa.Column("order", sa.Text, nullable=False),
        sa.Column("status", words, nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("not_before", time),
        sa.Column("deadline", time),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("worker", words),
        sa.Column("started_at", time),
        sa.Column("ended_at", time),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("callback", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_durable_runs"),
    )
    # What goes on is little beside what has ended.
    going_on = sa.text("status IN ('queued', 'running', 'waiting')")
    op.create_index(
        "ix_durable_runs_going_on",
        "durable_runs",
        ["status", "project_id", "owner_id", "created_at"],
        postgresql_where=going_on,
        sqlite_where=going_on,
    )
    with_deadline = sa.text("deadline IS NOT NULL AND status IN ('queued', 'running', 'waiting')")
    op.create_index(
        "ix_durable_runs_deadline",
        "durable_runs",
        ["deadline"],
        postgresql_where=with_deadline,
        sqlite_where=with_deadline,
    )
    op.create_index("ix_durable_runs_ended_at", "durable_runs", ["ended_at"])
    op.create_table(
        "workers",
        sa.Column("id", words, nullable=False),
        sa.Column("beat_at", sa.Double, nullable=False),
        sa.Column("process", words, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_table(
        "tool_calls",
        sa.Column("run_id", words, nullable=False),
        sa.Column("call_id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("step", words, nullable=False),
        sa.Column("occurrence", sa.BigInteger, nullable=False),
        sa.Column("name", words, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("repeatable", sa.Boolean, nullable=False),
        sa.Column("status", words, nullable=False),
        sa.Column("output", sa.Text),
        sa.Column("started_at", time, nullable=False),
        sa.Column("duration_ms", sa.Double),
        sa.PrimaryKeyConstraint("run_id", "call_id", name="pk_tool_calls"),
    )
    op.create_table(
        "approvals",
        sa.Column("id", words, nullable=False),
        sa.Column("run_id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("kind", words, nullable=False),
        sa.Column("key", words, nullable=False),
        sa.Column("tool", words, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("call_id", words, nullable=False),
        sa.Column("approver", words, nullable=False),
        sa.Column("requested_at", time, nullable=False),
        sa.Column("decision", words),
        sa.Column("decided_by", words),
        sa.Column("decided_at", time),
        sa.Column("answer", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
        sa.UniqueConstraint("run_id", "key", name="uq_approvals_run_id_key"),
    )
    op.create_index(
        "ix_approvals_project_id_requested_at_id", "approvals", ["project_id", "requested_at", "id"]
    )
    pending = sa.text("decision IS NULL")
    op.create_index(
        "ix_approvals_pending",
        "approvals",
        ["project_id", "requested_at", "id"],
        postgresql_where=pending,
        sqlite_where=pending,
    )
    op.add_column("run_events", sa.Column("attempt", sa.BigInteger))
    # PostgreSQL has NOTIFY.
    if op.get_bind().dialect.name == "sqlite":
        op.create_table(
            "run_signals",
            sa.Column("id", sa.Integer, nullable=False),
            sa.Column("sender", words, nullable=False),
            sa.Column("payload", sa.Text, nullable=False),
            sa.PrimaryKeyConstraint("id", name="pk_run_signals"),
        )
